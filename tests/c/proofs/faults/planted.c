/* One fault of each kind that check_build.py looks for. It is compiled and read, and never run. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

extern void planted_use(void *p);
void planted_helper(void);  /* a name that is not the core's */
int ac_undeclared(size_t n); /* a public name that the header does not know */

static int counter; /* state that is on no list */

static __attribute__((noinline)) void keeps_much(void) { /* a frame over every bound */
  uint8_t much[8000];
  planted_use(much);
}

static __attribute__((noinline)) void keeps_any(size_t n) { /* a frame without a bound */
  planted_use(__builtin_alloca(n));
}

static __attribute__((noinline)) int calls_itself(size_t n) {
  uint8_t some[32];
  planted_use(some);
  return n == 0 ? some[0] : calls_itself(n - 1) + some[1];
}

void planted_helper(void) { /* and what no function of the core may call */
  if (malloc(1) != NULL) counter++;
}

int ac_undeclared(size_t n) {
  keeps_much();
  keeps_any(n);
  return calls_itself(n) + counter;
}
