/* The tape, the buffers, and libsodium under guard. */
#include "fuzz.h"

#include "../table.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define POISON(p, len) __asan_poison_memory_region((p), (len))
#define UNPOISON(p, len) __asan_unpoison_memory_region((p), (len))
#define TOUCHABLE(p, len) ((len) == 0 || __asan_region_is_poisoned((void *)(uintptr_t)(p), (len)) == NULL)
#endif
#endif
#ifndef POISON /* when coverage is counted */
#define POISON(p, len) ((void)0)
#define UNPOISON(p, len) ((void)0)
#define TOUCHABLE(p, len) 1
#endif

void fuzz_fail(const char *file, int line, const char *what) {
  fprintf(stderr, "%s:%d: %s\n", file, line, what);
  abort();
}

/* ---- tape ---- */

uint64_t take_number(tape *t) {
  static const uint64_t edges[] = {0,
                                   1,
                                   16,
                                   SIZE_MAX,
                                   SIZE_MAX - 1,
                                   SIZE_MAX / 2,
                                   SIZE_MAX / 4,
                                   SIZE_MAX / 8,
                                   UINT32_MAX,
                                   AC_V2_MAX_RECORDS,
                                   AC_V2_MAX_STREAM_BYTES,
                                   AC_V2_ABORT_BYTES,
                                   AC_GCM_MAX_BYTES,
                                   ACI_V2_MAX_INTEGER};
  enum { EDGES = sizeof edges / sizeof edges[0] };
  const unsigned kind = take(t);
  if (kind < 3 * EDGES) return edges[kind / 3] + kind % 3 - 1; /* one less, it, one more */
  if (kind < 128) return kind - 3 * EDGES;
  uint64_t number = 0;
  for (unsigned i = 0; i < 1 + kind % 8; i++) number = number << 8 | take(t);
  return number;
}

view take_view(tape *t, size_t most) {
  const size_t want = take(t), cut = want < most ? want : most, len = cut < t->left ? cut : t->left;
  const view v = {t->at, len};
  t->at += len;
  t->left -= len;
  return v;
}

size_t mutate(tape *t, uint8_t *text, size_t len, size_t cap) {
  static const char bits[] = "\"\\{}[]:,0-.eE \t\n\r\x00\x1f\x7f\xc3\xa9\xff=+/A";
  for (unsigned n = 1 + take_below(t, 3); n != 0; n--) {
    const unsigned how = take(t);
    const size_t at = len != 0 ? (size_t)(take(t) << 8 | take(t)) % len : 0;
    const size_t most = len - at, part = most != 0 ? 1 + take(t) % most : 0;
    const uint8_t byte = how & 8 ? (uint8_t)bits[take(t) % (sizeof bits - 1)] : take(t);
    switch (how % 8) {
      case 0:
        if (len != 0) text[at] ^= (uint8_t)(1 << byte % 8);
        break;
      case 1:
      case 2:
        if (len != 0) text[at] = byte;
        break;
      case 3:
      case 4:
        if (len == cap) break;
        memmove(text + at + 1, text + at, len - at);
        text[at] = byte;
        len++;
        break;
      case 5:
        memmove(text + at, text + at + part, len - at - part);
        len -= part;
        break;
      case 6:
        if (part > cap - len) break;
        memmove(text + at + part, text + at, len - at);
        len += part;
        break;
      default: len = at; break;
    }
  }
  return len;
}

/* ---- buffers ---- */

static _Alignas(16) uint8_t arena[ARENA_BYTES];
static size_t arena_used;

void arena_reset(void) {
  POISON(arena, arena_used);
  arena_used = 0;
}

uint8_t *room(size_t len) {
  enum { GAP = 32 };
  MUST(len <= sizeof arena - arena_used - 2 * GAP);
  uint8_t *const at = arena + arena_used + GAP;
  arena_used += (GAP + len + 15) / 16 * 16;
  UNPOISON(at, len);
  if (len != 0) memset(at, PATTERN, len);
  return at;
}

uint8_t *copied(const void *from, size_t len) {
  uint8_t *const at = room(len);
  if (len != 0) memcpy(at, from, len);
  return at;
}

static int all_are(const void *p, size_t len, uint8_t byte) {
  const uint8_t *at = p;
  return len == 0 || (at[0] == byte && memcmp(at, at + 1, len - 1) == 0);
}

int untouched(const void *p, size_t len) { return all_are(p, len, PATTERN); }
int all_zero(const void *p, size_t len) { return all_are(p, len, 0); }

view kept(const void *from, size_t len) {
  uint8_t *const at = malloc(len + 1);
  MUST(at != NULL);
  if (len != 0) memcpy(at, from, len);
  return (view){at, len};
}

/* ---- libsodium: it is not instrumented, hence the questions ---- */

/* The same keys come again and again: what X25519 has computed once it need not compute again. */
static int scalarmult(unsigned char *q, unsigned char *n, unsigned char *p) {
  enum { SLOTS = 1024 };
  static struct {
    uint8_t n[32], p[32], q[32];
    int known, status;
  } memory[SLOTS];
  MUST(TOUCHABLE(q, 32) && TOUCHABLE(n, 32) && TOUCHABLE(p, 32));
  uint32_t slot = 0;
  for (size_t i = 0; i < 32; i++) slot = slot * 31 + n[i] * 7u + p[i];
  slot %= SLOTS;
  if (!memory[slot].known || memcmp(memory[slot].n, n, 32) != 0 || memcmp(memory[slot].p, p, 32) != 0) {
    memcpy(memory[slot].n, n, 32);
    memcpy(memory[slot].p, p, 32);
    memory[slot].status = crypto_scalarmult(memory[slot].q, n, p);
    memory[slot].known = 1;
  }
  memcpy(q, memory[slot].q, 32);
  return memory[slot].status;
}

static int scalarmult_base(unsigned char *q, unsigned char *n) {
  static unsigned char nine[32] = {9};
  return scalarmult(q, n, nine);
}

static int sha256(unsigned char *out, unsigned char *in, unsigned long long in_len) {
  MUST(TOUCHABLE(out, 32) && TOUCHABLE(in, (size_t)in_len));
  return crypto_hash_sha256(out, in, in_len);
}

static int blake2b(unsigned char *out, size_t out_len, unsigned char *in, unsigned long long in_len,
                   unsigned char *key, size_t key_len, unsigned char *salt, unsigned char *personal) {
  MUST(TOUCHABLE(out, out_len) && TOUCHABLE(in, (size_t)in_len));
  return crypto_generichash_blake2b_salt_personal(out, out_len, in, in_len, key, key_len, salt, personal);
}

static int sign(unsigned char *sm, unsigned long long *sm_len, unsigned char *m, unsigned long long m_len,
                unsigned char *sk) {
  MUST(TOUCHABLE(sm, (size_t)m_len + 64) && TOUCHABLE(m, (size_t)m_len) && TOUCHABLE(sk, 64));
  return crypto_sign(sm, sm_len, m, m_len, sk);
}

static int sign_seed_keypair(unsigned char *pk, unsigned char *sk, unsigned char *seed) {
  MUST(TOUCHABLE(pk, 32) && TOUCHABLE(sk, 64) && TOUCHABLE(seed, 32));
  return crypto_sign_seed_keypair(pk, sk, seed);
}

static uint64_t random_state;

void random_restart(uint64_t seed) { random_state = seed * 2 + 1; }

static void random_bytes(unsigned char *out, unsigned long long out_len) {
  MUST(TOUCHABLE(out, (size_t)out_len));
  for (size_t i = 0; i < out_len; i++) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    out[i] = (uint8_t)(random_state >> 56);
  }
}

static void mem_zero(void *p, size_t len) {
  MUST(TOUCHABLE(p, len));
  memset(p, 0, len);
}

static int aes_encrypt(unsigned char *c, unsigned long long *c_len, unsigned char *m, unsigned long long m_len,
                       unsigned char *ad, unsigned long long ad_len, unsigned char *nsec, unsigned char *npub,
                       unsigned char *k) {
  MUST(TOUCHABLE(c, (size_t)m_len + 16) && TOUCHABLE(m, (size_t)m_len) && TOUCHABLE(ad, (size_t)ad_len));
  return crypto_aead_aes256gcm_encrypt(c, c_len, m, m_len, ad, ad_len, nsec, npub, k);
}

static int aes_decrypt(unsigned char *m, unsigned long long *m_len, unsigned char *nsec, unsigned char *c,
                       unsigned long long c_len, unsigned char *ad, unsigned long long ad_len, unsigned char *npub,
                       unsigned char *k) {
  MUST(c_len >= 16 && TOUCHABLE(m, (size_t)c_len - 16) && TOUCHABLE(c, (size_t)c_len) && TOUCHABLE(ad, (size_t)ad_len));
  return crypto_aead_aes256gcm_decrypt(m, m_len, nsec, c, c_len, ad, ad_len, npub, k);
}

void fuzz_init(void) {
  static const ac_sodium table = TABLE;
  MUST(sodium_init() >= 0);
  arena_used = sizeof arena;
  arena_reset();
  random_restart(0);
  MUST(ac_init(&table, NULL) == AC_OK);
}
