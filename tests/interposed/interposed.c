/* To be preloaded: counts what is allocated natively between begin and end, by the library that calls. */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

void *__libc_malloc(size_t len);
void *__libc_calloc(size_t count, size_t len);
void *__libc_realloc(void *p, size_t len);

enum { MOST = 64 };
static struct {
  const char *library; /* a name that the dynamic linker keeps */
  size_t calls;
} counts[MOST];
static int counting;

static void count(const void *caller) {
  Dl_info info;
  if (!counting || dladdr(caller, &info) == 0) return;
  size_t i = 0;
  while (i < MOST - 1 && counts[i].library != NULL && strcmp(counts[i].library, info.dli_fname) != 0) i++;
  counts[i].library = info.dli_fname;
  counts[i].calls++;
}

void *malloc(size_t len) {
  count(__builtin_return_address(0));
  return __libc_malloc(len);
}

void *calloc(size_t number, size_t len) {
  count(__builtin_return_address(0));
  return __libc_calloc(number, len);
}

void *realloc(void *p, size_t len) {
  count(__builtin_return_address(0));
  return __libc_realloc(p, len);
}

void interposed_begin(void) {
  memset(counts, 0, sizeof counts);
  counting = 1;
}

void interposed_end(void) { counting = 0; }

const char *interposed_library(unsigned i) { return i < MOST ? counts[i].library : NULL; }
size_t interposed_calls(unsigned i) { return counts[i].calls; }
