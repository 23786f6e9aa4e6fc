/* The function table, and the small things that every other file needs. */
#include "ac_internal.h"

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#define ACI_EXCHANGE(p, v) ((uint32_t)_InterlockedExchange((volatile long *)(p), (long)(v)))
#else
#define ACI_EXCHANGE(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#endif

#if !defined(_WIN32)
#include <pthread.h>
#endif

ac_sodium aci_sodium;

void ac_wipe(void *p, size_t len) {
  if (len != 0) aci_sodium.memzero(p, len);
  aci_clear_registers();
}

void ac_scratch_wipe(ac_scratch *scratch) { ac_wipe(scratch->at, scratch->cap); }

int aci_equal(const uint8_t *a, const uint8_t *b, size_t len) {
  uint64_t any = 0;
  for (; len >= 8; a += 8, b += 8, len -= 8) {
    uint64_t x, y;
    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    any |= x ^ y;
  }
  for (; len != 0; a++, b++, len--) any |= (uint64_t)(*a ^ *b);
  /* All of it is asked for: a compiler that saw it compared with 0 alone might stop at the first difference. */
  const volatile uint64_t all = any;
  const uint64_t differ = all;
  int equal = (int)(1 & ~((differ | (0 - differ)) >> 63));
  aci_declassify(&equal, sizeof equal); /* which byte differs is a secret, whether one does is none */
  return equal;
}

int aci_is_zero32(const uint8_t p[32]) {
  uint32_t any = 0;
  for (size_t i = 0; i < 32; i++) any |= p[i];
  return (int)(1 & ((any - 1) >> 8));
}

ACI_NOINLINE void aci_burn_stack(void) {
  uint8_t used[4096];
  aci_wipe(used, sizeof used);
}

void aci_randombytes(uint8_t *out, size_t len) { aci_sodium.randombytes(out, len); }

int aci_overlap(const void *a, size_t a_len, const void *b, size_t b_len) {
  const uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
  if (a_len == 0 || b_len == 0) return 0;
  return x < y ? y - x < a_len : x - y < b_len;
}

int aci_enter(uint32_t *busy) { return ACI_EXCHANGE(busy, 1u) == 0; }

void aci_leave(uint32_t *busy) { (void)ACI_EXCHANGE(busy, 0u); }

/* Written only in a child between fork() and its first other instruction, where there is one thread. */
static uint32_t generation;

uint32_t aci_generation(void) { return generation; }

#if defined(_WIN32)
int aci_watch_forks(void) { return 1; }
#else
static void forked(void) { generation++; }

static int watching;

static void watch(void) { watching = pthread_atfork(NULL, NULL, forked) == 0; }

int aci_watch_forks(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  return pthread_once(&once, watch) == 0 && watching;
}
#endif

uint32_t aci_load32le(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t aci_load64be(const uint8_t *p) {
  uint64_t v = 0;
  for (size_t i = 0; i < 8; i++) v = v << 8 | p[i];
  return v;
}

void aci_store32le(uint8_t *p, uint32_t v) {
  for (size_t i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}

void aci_store32be(uint8_t *p, uint32_t v) {
  for (size_t i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

void aci_store64be(uint8_t *p, uint64_t v) {
  for (size_t i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (56 - 8 * i));
}
