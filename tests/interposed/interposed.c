/* To be preloaded: counts what is allocated natively between begin and end, by the library that calls.
 *
 * What glibc's malloc maps for itself does not come by here: it calls its own mmap. What any other function of glibc
 * allocates for its caller, as strdup does, is counted under glibc's name. */
#define _GNU_SOURCE /* dladdr, RTLD_NEXT */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

void *__libc_malloc(size_t len);
void *__libc_calloc(size_t count, size_t len);
void *__libc_realloc(void *p, size_t len);
void *__libc_memalign(size_t alignment, size_t len);

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

void *reallocarray(void *p, size_t number, size_t len) {
  count(__builtin_return_address(0));
  if (len != 0 && number > SIZE_MAX / len) {
    errno = ENOMEM;
    return NULL;
  }
  return __libc_realloc(p, number * len);
}

void *aligned_alloc(size_t alignment, size_t len) {
  count(__builtin_return_address(0));
  return __libc_memalign(alignment, len);
}

void *memalign(size_t alignment, size_t len) {
  count(__builtin_return_address(0));
  return __libc_memalign(alignment, len);
}

int posix_memalign(void **p, size_t alignment, size_t len) {
  count(__builtin_return_address(0));
  if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0) return EINVAL;
  void *found = __libc_memalign(alignment, len);
  if (found == NULL) return ENOMEM;
  *p = found;
  return 0;
}

void *mmap(void *at, size_t len, int protection, int flags, int file, off_t offset) {
  static void *(*next)(void *, size_t, int, int, int, off_t); /* whoever is first looks it up: all find the same */
  count(__builtin_return_address(0));
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "mmap");
  return next(at, len, protection, flags, file, offset);
}

void *mmap64(void *at, size_t len, int protection, int flags, int file, off64_t offset) {
  static void *(*next)(void *, size_t, int, int, int, off64_t);
  count(__builtin_return_address(0));
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "mmap64");
  return next(at, len, protection, flags, file, offset);
}

void interposed_begin(void) {
  memset(counts, 0, sizeof counts);
  counting = 1;
}

void interposed_end(void) { counting = 0; }

const char *interposed_library(unsigned i) { return i < MOST ? counts[i].library : NULL; }
size_t interposed_calls(unsigned i) { return counts[i].calls; }
