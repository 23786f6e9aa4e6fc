/* A library that allocates, in each way that is counted: it must be, under its own name. */
#define _GNU_SOURCE /* memalign, reallocarray, mmap's flags */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A call, and no jump to it: the caller is who it returns to. */
#define KEPT(call)           \
  void *volatile p = (call); \
  return p

void *control_malloc(size_t len) { KEPT(malloc(len)); }
void *control_calloc(size_t len) { KEPT(calloc(1, len)); }
void *control_realloc(size_t len) { KEPT(realloc(NULL, len)); }
void *control_reallocarray(size_t len) { KEPT(reallocarray(NULL, 1, len)); }
void *control_aligned_alloc(size_t len) { KEPT(aligned_alloc(64, len)); }
void *control_memalign(size_t len) { KEPT(memalign(64, len)); }
void *control_mmap(size_t len) { KEPT(mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); }
void *control_mmap64(size_t len) { KEPT(mmap64(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); }

void *control_posix_memalign(size_t len) {
  void *p = NULL;
  return posix_memalign(&p, 64, len) == 0 ? p : NULL;
}

/* Not by itself, but through glibc. */
void *control_strdup(size_t len) {
  (void)len;
  KEPT(strdup("control"));
}
