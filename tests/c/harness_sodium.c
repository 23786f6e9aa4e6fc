/* The function table, filled with the real libsodium; each function can be made to fail. */
#include "harness.h"
#include "table.h"

#include <sodium.h>

/* Written while there is one thread only. */
static struct {
  primitive in;
  fault_kind kind;
  unsigned after;
} planted;

void (*on_blake2b)(void);
void (*on_memzero)(void);

void fault_plant(primitive in, fault_kind kind, unsigned after) {
  planted.in = in;
  planted.kind = kind;
  planted.after = after;
}

int fault_struck(void) {
  const int struck = planted.in == NOWHERE;
  planted.in = NOWHERE;
  return struck;
}

/* 0, or the kind plus one if this call is the one to fail. */
static int strikes(primitive in) {
  if (planted.in != in || planted.after-- != 0) return 0;
  planted.in = NOWHERE;
  return (int)planted.kind + 1;
}

static int spoil(int strike, unsigned char *out, size_t len) {
  if (strike == LIES + 1) out[len - 1] ^= 1;
  if (strike == IS_ZERO + 1) memset(out, 0, len);
  return 0;
}

static int scalarmult(unsigned char *q, unsigned char *n, unsigned char *p) {
  const int strike = strikes(IN_SCALARMULT);
  if (strike == REFUSES + 1) {
    memset(q, 0x55, 32); /* as a library might that gives up half way */
    return -1;
  }
  const int status = crypto_scalarmult(q, n, p);
  return strike ? spoil(strike, q, 32) : status;
}

static int scalarmult_base(unsigned char *q, unsigned char *n) {
  const int strike = strikes(IN_SCALARMULT_BASE);
  if (strike == REFUSES + 1) return -1;
  return crypto_scalarmult_base(q, n) != 0 ? -1 : spoil(strike, q, 32);
}

static int sha256(unsigned char *out, unsigned char *in, unsigned long long in_len) {
  const int strike = strikes(IN_SHA256);
  if (strike == REFUSES + 1) return -1;
  return crypto_hash_sha256(out, in, in_len) != 0 ? -1 : spoil(strike, out, 32);
}

static int blake2b(unsigned char *out, size_t out_len, unsigned char *in, unsigned long long in_len,
                   unsigned char *key, size_t key_len, unsigned char *salt, unsigned char *personal) {
  if (on_blake2b != NULL) on_blake2b();
  const int strike = strikes(IN_BLAKE2B);
  if (strike == REFUSES + 1) return -1;
  const int status =
      crypto_generichash_blake2b_salt_personal(out, out_len, in, in_len, key, key_len, salt, personal);
  return status != 0 ? -1 : spoil(strike, out, out_len);
}

static int sign(unsigned char *sm, unsigned long long *sm_len, unsigned char *m, unsigned long long m_len,
                unsigned char *sk) {
  const int strike = strikes(IN_SIGN);
  if (strike == REFUSES + 1) return -1;
  return crypto_sign(sm, sm_len, m, m_len, sk) != 0 ? -1 : spoil(strike, sm, 1);
}

static int sign_seed_keypair(unsigned char *pk, unsigned char *sk, unsigned char *seed) {
  const int strike = strikes(IN_SIGN_KEYPAIR);
  if (strike == REFUSES + 1) return -1;
  return crypto_sign_seed_keypair(pk, sk, seed) != 0 ? -1 : spoil(strike, sk, 64);
}

static int aes_encrypt(unsigned char *c, unsigned long long *c_len, unsigned char *m, unsigned long long m_len,
                       unsigned char *ad, unsigned long long ad_len, unsigned char *nsec, unsigned char *npub,
                       unsigned char *k) {
  const int strike = strikes(IN_ENCRYPT);
  if (strike == REFUSES + 1) {
    if (m_len != 0) memmove(c, m, (size_t)m_len); /* as above, before anything was encrypted */
    return -1;
  }
  const int status = crypto_aead_aes256gcm_encrypt(c, c_len, m, m_len, ad, ad_len, nsec, npub, k);
  return status != 0 ? -1 : spoil(strike, c, (size_t)m_len + AC_TAG_BYTES);
}

static int aes_decrypt(unsigned char *m, unsigned long long *m_len, unsigned char *nsec, unsigned char *c,
                       unsigned long long c_len, unsigned char *ad, unsigned long long ad_len, unsigned char *npub,
                       unsigned char *k) {
  const int strike = strikes(IN_DECRYPT);
  const int status = crypto_aead_aes256gcm_decrypt(m, m_len, nsec, c, c_len, ad, ad_len, npub, k);
  if (strike == REFUSES + 1) return -1; /* and the plaintext is there already */
  return status != 0 ? -1 : spoil(strike, m, c_len > AC_TAG_BYTES ? (size_t)c_len - AC_TAG_BYTES : 1);
}

static const uint8_t *queued;
static size_t queued_len;

void random_queue(const void *p, size_t len) {
  CHECK(queued_len == 0);
  queued = p;
  queued_len = len;
}

size_t random_left(void) { return queued_len; }

static void random_bytes(unsigned char *out, unsigned long long out_len) {
  if (queued_len == 0) {
    randombytes(out, out_len);
    return;
  }
  if (out_len > queued_len) {
    fprintf(stderr, "more random bytes are asked for than were queued\n");
    abort();
  }
  memcpy(out, queued, (size_t)out_len);
  queued += out_len;
  queued_len -= (size_t)out_len;
}

uint32_t random_below(uint32_t bound) {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33) % bound;
}

static void mem_zero(void *p, size_t len) {
  if (on_memzero != NULL) on_memzero();
  sodium_memzero(p, len);
}

const ac_sodium sodium_table = TABLE;
