/* The marks, and libsodium behind its table. Two programs watch: valgrind's memcheck, for which a secret is memory that
 * was never written, and MemorySanitizer, which is compiled in and knows instructions that valgrind does not. */
#include "ct.h"

#include "../table.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

void must(int condition, const char *file, int line, const char *what) {
  if (condition) return;
  fprintf(stderr, "%s:%d: %s\n", file, line, what);
  exit(1);
}

static int nothing;

void declassify_nothing(void) { nothing = 1; }

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#define SANITIZER 1
#endif
#endif

#if defined(SANITIZER)

#include <sanitizer/msan_interface.h>

int watched(void) { return 1; }

void secret(void *p, size_t len) { __msan_allocated_memory(p, len); }

static void make_public(const void *p, size_t len) { __msan_unpoison(p, len); }

/* libsodium is not instrumented and leaves the marks of its outputs as they were: what it computes from a secret is
 * one, to the last byte, and all else is public. */
static int is_secret(const void *p, size_t len) { return __msan_test_shadow(p, len) != -1; }

static void computed(void *out, size_t len, int from_secret) {
  make_public(out, len);
  if (from_secret) secret(out, len);
}

#else

#include <valgrind/memcheck.h>

int watched(void) { return RUNNING_ON_VALGRIND != 0; }

void secret(void *p, size_t len) { (void)VALGRIND_MAKE_MEM_UNDEFINED(p, len); }

static void make_public(const void *p, size_t len) { (void)VALGRIND_MAKE_MEM_DEFINED(p, len); }

/* valgrind follows the secrets through libsodium, too. */
static int is_secret(const void *p, size_t len) { return p == NULL && len != 0; }

static void computed(void *out, size_t len, int from_secret) { (void)out, (void)len, (void)from_secret; }

#endif

void aci_declassify(const void *p, size_t len) {
  if (!nothing) make_public(p, len);
}

/* ---- libsodium ---- */

static int scalarmult(unsigned char *q, unsigned char *n, unsigned char *p) {
  int status = crypto_scalarmult(q, n, p);
  computed(q, 32, is_secret(n, 32));
  computed(&status, sizeof status, is_secret(n, 32)); /* says whether q is zero */
  return status;
}

static int scalarmult_base(unsigned char *q, unsigned char *n) {
  const int status = crypto_scalarmult_base(q, n);
  make_public(q, 32); /* a public key */
  return status;
}

static int sha256(unsigned char *out, unsigned char *in, unsigned long long in_len) {
  const int status = crypto_hash_sha256(out, in, in_len);
  computed(out, 32, is_secret(in, (size_t)in_len));
  return status;
}

static int blake2b(unsigned char *out, size_t out_len, unsigned char *in, unsigned long long in_len,
                   unsigned char *key, size_t key_len, unsigned char *salt, unsigned char *personal) {
  const int status = crypto_generichash_blake2b_salt_personal(out, out_len, in, in_len, key, key_len, salt, personal);
  computed(out, out_len, is_secret(in, (size_t)in_len));
  return status;
}

static int sign(unsigned char *sm, unsigned long long *sm_len, unsigned char *m, unsigned long long m_len,
                unsigned char *sk) {
  const int status = crypto_sign(sm, sm_len, m, m_len, sk);
  make_public(sm, 64 + (size_t)m_len); /* a signature and what it signs */
  make_public(sm_len, sizeof *sm_len);
  return status;
}

static int sign_seed_keypair(unsigned char *pk, unsigned char *sk, unsigned char *seed) {
  const int status = crypto_sign_seed_keypair(pk, sk, seed);
  computed(sk, 32, is_secret(seed, 32));
  make_public(sk + 32, 32); /* the public key, twice */
  make_public(pk, 32);
  return status;
}

/* Draws of 32 bytes are keys; shorter ones are nonces and salts, which are sent. */
static void random_bytes(unsigned char *out, unsigned long long out_len) {
  randombytes(out, out_len);
  make_public(out, (size_t)out_len);
  if (out_len == 32) secret(out, (size_t)out_len);
}

static void mem_zero(void *p, size_t len) {
  sodium_memzero(p, len);
  make_public(p, len);
}

/* Only the self-test of ac_init calls these two: their own use of secrets is libsodium's affair. */
static int aes_encrypt(unsigned char *c, unsigned long long *c_len, unsigned char *m, unsigned long long m_len,
                       unsigned char *ad, unsigned long long ad_len, unsigned char *nsec, unsigned char *npub,
                       unsigned char *k) {
  const int status = crypto_aead_aes256gcm_encrypt(c, c_len, m, m_len, ad, ad_len, nsec, npub, k);
  make_public(c, (size_t)m_len + AC_TAG_BYTES);
  return status;
}

static int aes_decrypt(unsigned char *m, unsigned long long *m_len, unsigned char *nsec, unsigned char *c,
                       unsigned long long c_len, unsigned char *ad, unsigned long long ad_len, unsigned char *npub,
                       unsigned char *k) {
  const int status = crypto_aead_aes256gcm_decrypt(m, m_len, nsec, c, c_len, ad, ad_len, npub, k);
  make_public(m, (size_t)c_len - AC_TAG_BYTES);
  return status;
}

const ac_sodium ct_sodium = TABLE;
