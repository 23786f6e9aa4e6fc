/* Memory between two pages that fault: that stops what no sanitizer sees, inline assembly and masked loads. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "harness.h"

#include <sys/mman.h>
#include <unistd.h>

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

guarded guarded_new(size_t least) {
  const size_t page = page_size(), len = (least + page - 1) / page * page;
  uint8_t *const at = mmap(NULL, len + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED || mprotect(at + page, len, PROT_READ | PROT_WRITE) != 0) abort();
  return (guarded){at + page, at + page + len};
}

void guarded_free(guarded *g) {
  const size_t page = page_size();
  if (munmap(g->begin - page, (size_t)(g->end - g->begin) + 2 * page) != 0) abort();
  *g = (guarded){NULL, NULL};
}

uint8_t *guarded_at(const guarded *g, edge side, size_t len) {
  if (len > (size_t)(g->end - g->begin)) abort();
  return side == AT_BEGIN ? g->begin : g->end - len;
}

uint8_t *guarded_copy(const guarded *g, edge side, const void *from, size_t len) {
  uint8_t *const at = guarded_at(g, side, len);
  if (len != 0) memcpy(at, from, len);
  return at;
}
