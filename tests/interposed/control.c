/* A library that allocates: it must be counted, under its own name. */
#include <stdlib.h>

void *control_allocate(size_t len) {
  void *volatile p = malloc(len); /* a call, and no jump to it */
  return p;
}
