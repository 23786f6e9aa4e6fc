/* A search of all memory that the process can write to, for any 8 bytes in a row of any secret. */
#define _GNU_SOURCE /* MAP_ANONYMOUS, pthread_attr_setstack */
#include "proofs.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RUN = 8, MOST_RUNS = 1 << 15, MOST_NAMES = 128, SLOTS = 1 << 17, STACK = 1 << 19, PAINT = 0xee };
#define MASK 0xa7a7a7a7a7a7a7a7u /* none of what is looked for stands here as it is */

static struct {
  uint64_t masked;
  uint8_t name;
  uint8_t is_used;
} slots[SLOTS];
static const char *names[MOST_NAMES];
static unsigned told[MOST_NAMES]; /* places, in this search */
static size_t runs, name_count;

static uint64_t run_at(const uint8_t *p) {
  uint64_t run;
  memcpy(&run, p, sizeof run);
  return run;
}

static size_t slot_of(uint64_t masked) {
  size_t i = (size_t)(masked * 0x9e3779b97f4a7c15u >> 47);
  while (slots[i].is_used && slots[i].masked != masked) i = (i + 1) % SLOTS;
  return i;
}

/* Runs that may stand anywhere, of zeros and the like, say nothing. */
static int says_something(const uint8_t *p) {
  unsigned different = 0;
  for (size_t i = 0; i < RUN; i++) {
    size_t j = 0;
    while (p[j] != p[i]) j++;
    different += j == i;
  }
  return different >= 5;
}

void search_forget(void) {
  memset(slots, 0, sizeof slots);
  runs = name_count = 0;
}

void search_for(const char *name, const void *secret, size_t len) {
  const uint8_t *p = secret;
  if (name_count == MOST_NAMES || runs + len > MOST_RUNS) abort();
  names[name_count] = name;
  for (size_t i = 0; i + RUN <= len; i++) {
    if (!says_something(p + i)) continue;
    const uint64_t masked = run_at(p + i) ^ MASK;
    const size_t slot = slot_of(masked);
    runs += !slots[slot].is_used;
    slots[slot].masked = masked;
    slots[slot].name = (uint8_t)name_count;
    slots[slot].is_used = 1;
  }
  name_count++;
}

/* Places in one mapping. */
static size_t search_in(const uint8_t *begin, const uint8_t *end, const char *where, const char *what) {
  size_t found = 0;
  for (const uint8_t *p = begin; p + RUN <= end; p++) {
    const size_t slot = slot_of(run_at(p) ^ MASK);
    if (!slots[slot].is_used) continue;
    found++;
    if (told[slots[slot].name]++ == 0 && what != NULL)
      printf("%s: %s is left, %zu bytes into %s\n", what, names[slots[slot].name], (size_t)(p - begin), where);
  }
  return found;
}

size_t search_all(const char *what) {
  static char maps[1 << 16];
  size_t len = 0, found = 0, mappings = 0;
  const int file = open("/proc/self/maps", O_RDONLY);
  for (ssize_t got; (got = read(file, maps + len, sizeof maps - 1 - len)) > 0;) len += (size_t)got;
  memset(told, 0, sizeof told);
  if (file < 0 || close(file) != 0 || len == sizeof maps - 1) abort();
  maps[len] = '\0';
  for (char *line = maps, *next; *line != '\0'; line = next) {
    unsigned long begin, end;
    char mode[5];
    next = strchr(line, '\n') + 1;
    next[-1] = '\0';
    if (sscanf(line, "%lx-%lx %4s", &begin, &end, mode) != 3) abort();
    if (mode[0] != 'r' || mode[1] != 'w') continue;
    const char *path = strrchr(line, ' ');
    mappings++;
    found += search_in((const uint8_t *)begin, (const uint8_t *)end, path[1] ? path + 1 : "nameless memory", what);
  }
  if (mappings < 4) abort(); /* our data, the heap, libc's data, stacks */
  return found;
}

/* ---- a stack of its own ---- */

static uint8_t *stack;
static size_t deepest;

static void *call(void *p) {
  volatile uint8_t gap[1 << 16]; /* the end of a thread uses its stack again */
  void (*const *function)(void) = p;
  gap[0] = 1;
  (*function)();
  const size_t end = (size_t)((const volatile uint8_t *)gap - stack);
  size_t untouched = 0;
  while (stack[untouched] == PAINT) untouched++;
  if (end - untouched > deepest) deepest = end - untouched;
  return NULL;
}

void own_stack_clear(void) {
  if (stack == NULL) stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) abort();
  memset(stack, PAINT, STACK);
}

void on_own_stack(void (*function)(void)) {
  pthread_attr_t attributes;
  pthread_t thread;
  own_stack_clear();
  if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstack(&attributes, stack, STACK) != 0) abort();
  if (pthread_create(&thread, &attributes, call, &function) != 0 || pthread_join(thread, NULL) != 0) abort();
  (void)pthread_attr_destroy(&attributes);
}

size_t own_stack_depth(void) { return deepest; }
