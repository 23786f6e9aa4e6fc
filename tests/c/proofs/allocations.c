/* Nothing is allocated and nothing is freed, by the core or by libsodium for it, in any call to its end or to a refusal:
 * the functions that could are our own here, and count. That the core cannot even name one of them is shown by its list of
 * imports (check_build.py). */
#define _GNU_SOURCE /* MAP_ANONYMOUS, syscall */
#include "acts.h"

#include <errno.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t len);
void *__libc_calloc(size_t count, size_t len);
void *__libc_realloc(void *p, size_t len);
void *__libc_memalign(size_t alignment, size_t len);
void __libc_free(void *p);

static size_t counted;

void *malloc(size_t len) {
  counted++;
  return __libc_malloc(len);
}

void *calloc(size_t count, size_t len) {
  counted++;
  return __libc_calloc(count, len);
}

void *realloc(void *p, size_t len) {
  counted++;
  return __libc_realloc(p, len);
}

void *aligned_alloc(size_t alignment, size_t len) {
  counted++;
  return __libc_memalign(alignment, len);
}

int posix_memalign(void **p, size_t alignment, size_t len) {
  counted++;
  *p = __libc_memalign(alignment, len);
  return *p != NULL ? 0 : ENOMEM;
}

void free(void *p) {
  counted++;
  __libc_free(p);
}

void *mmap(void *at, size_t len, int protection, int flags, int file, off_t offset) {
  counted++;
  return (void *)syscall(SYS_mmap, at, len, protection, flags, file, offset);
}

int munmap(void *at, size_t len) {
  counted++;
  return (int)syscall(SYS_munmap, at, len);
}

/* ---- what must be counted ---- */

static void *volatile taken;

static void takes(void) {
  taken = malloc(16);
  status = AC_OK;
}

static void takes_zeroed(void) {
  taken = calloc(2, 8);
  status = AC_OK;
}

static void gives(void) {
  free(taken);
  status = AC_OK;
}

static void maps(void) {
  taken = sodium_malloc(16); /* pages of its own */
  status = AC_OK;
}

static const act controls[] = {ACT(takes, AC_OK), ACT(gives, AC_OK), ACT(takes_zeroed, AC_OK), ACT(gives, AC_OK),
                               ACT(maps, AC_OK)};

/* ---- the count ---- */

static size_t counted_by(const act *a, int *bad) {
  act_begin(a);
  memset(&object, 0, sizeof object);
  const size_t before = counted;
  a->run();
  const size_t found = counted - before;
  if (status != a->want) {
    printf("%s ended with %d\n", a->name, status);
    *bad = 1;
  }
  fault_plant(NOWHERE, REFUSES, 0);
  carry_off();
  return found;
}

static int run_all(size_t *calls) {
  const unsigned backend = ac_aes_backend_default();
  const act *const all[] = {acts_of_primitives, acts_of_v1, acts_of_v2};
  int bad = 0;
  plant();
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    for (const act *a = all[i]; a->name != NULL; a++) {
      if (!act_is_for(a, backend)) continue;
      ++*calls;
      const size_t found = counted_by(a, &bad);
      if (found != 0) printf("%s, to end with %d: %zu allocations\n", a->name, a->want, found);
      bad |= found != 0;
    }
  }
  return bad;
}

int main(void) {
  int bad = 0;
  size_t calls = 0;
  const size_t backends = on_each_backend(run_all, &calls, &bad);
  for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
    if (counted_by(&controls[i], &bad) != 0) continue;
    printf("%s was not counted\n", controls[i].name);
    bad = 1;
  }
  printf("no allocation in %zu calls, on %zu backends in all\n", calls, backends);
  return bad || backends < 2;
}
