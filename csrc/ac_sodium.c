/* libsodium through the table: BLAKE2b, X25519, keys; and ac_init, which fills the table and tests what it holds. */
#include "ac_internal.h"

/* libsodium wipes what it knows to be a key, but leaves on the stack a block of what BLAKE2b has read and the digits of a
 * scalar: whoever calls it with a secret burns the stack behind it. */

/* The table's types leave `const` out; none of these functions writes through its inputs. */
#define MUTABLE(p) ((unsigned char *)(uintptr_t)(p))

static const char *self_test_failure = "";
static int initialised;

const char *ac_self_test_failure(void) { return self_test_failure; }

int ac_blake2b256(uint8_t out[AC_HASH_BYTES], const uint8_t *in, size_t in_len) {
  const int refused = aci_sodium.blake2b(out, AC_HASH_BYTES, MUTABLE(in), in_len, NULL, 0, NULL, NULL) != 0;
  aci_burn_stack();
  return refused ? AC_ERR_PRIMITIVE : AC_OK;
}

int ac_x25519_public(uint8_t public_key[AC_X25519_BYTES], const uint8_t secret[AC_X25519_BYTES]) {
  const int refused = aci_sodium.scalarmult_base(public_key, MUTABLE(secret)) != 0;
  aci_burn_stack();
  return refused ? AC_ERR_PRIMITIVE : AC_OK;
}

int ac_x25519(uint8_t shared[AC_X25519_BYTES], const uint8_t secret[AC_X25519_BYTES],
              const uint8_t public_key[AC_X25519_BYTES]) {
  /* libsodium refuses points of small order itself; the rule is ours, so it is checked here too. */
  int refused = (aci_sodium.scalarmult(shared, MUTABLE(secret), MUTABLE(public_key)) != 0) | aci_is_zero32(shared);
  aci_declassify(&refused, sizeof refused);
  aci_burn_stack();
  if (refused) {
    aci_wipe(shared, AC_X25519_BYTES);
    return AC_ERR_KEY;
  }
  return AC_OK;
}

int ac_secret_key_from_bytes(ac_secret_key *key, const uint8_t secret[AC_X25519_BYTES]) {
  memcpy(key->secret, secret, AC_X25519_BYTES);
  return ac_x25519_public(key->public_key, key->secret);
}

int ac_secret_key_generate(ac_secret_key *key) {
  aci_randombytes(key->secret, AC_X25519_BYTES);
  return ac_x25519_public(key->public_key, key->secret);
}

void ac_secret_key_wipe(ac_secret_key *key) { aci_wipe(key, sizeof *key); }

int ac_signing_key_from_seed(ac_signing_key *key, const uint8_t seed[AC_SIGN_SEED_BYTES]) {
  uint8_t public_key[AC_SIGN_PUBLIC_BYTES]; /* public: not wiped */
  const int refused = aci_sodium.sign_seed_keypair(public_key, key->secret, MUTABLE(seed)) != 0;
  aci_burn_stack();
  return refused ? AC_ERR_PRIMITIVE : AC_OK;
}

int ac_signing_key_generate(ac_signing_key *key) {
  uint8_t seed[AC_SIGN_SEED_BYTES];
  aci_randombytes(seed, sizeof seed);
  const int status = ac_signing_key_from_seed(key, seed);
  aci_wipe(seed, sizeof seed);
  return status;
}

void ac_signing_key_wipe(ac_signing_key *key) { aci_wipe(key, sizeof *key); }

/* ---- start ---- */

static int test_blake2b(void) {
  static const uint8_t blake2b256_empty[AC_HASH_BYTES] = {
      0x0e, 0x57, 0x51, 0xc0, 0x26, 0xe5, 0x43, 0xb2, 0xe8, 0xab, 0x2e, 0xb0, 0x60, 0x99, 0xda, 0xa1,
      0xd1, 0xe5, 0xdf, 0x47, 0x77, 0x8f, 0x77, 0x87, 0xfa, 0xab, 0x45, 0xcd, 0xf1, 0x2f, 0xe3, 0xa8};
  uint8_t out[AC_HASH_BYTES];
  return ac_blake2b256(out, NULL, 0) == AC_OK && memcmp(out, blake2b256_empty, sizeof out) == 0;
}

static int test_x25519(void) {
  static const uint8_t alice[AC_X25519_BYTES] = {/* RFC 7748, section 6.1 */
      0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
      0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a};
  static const uint8_t bob_public[AC_X25519_BYTES] = {
      0xde, 0x9e, 0xdb, 0x7d, 0x7b, 0x7d, 0xc1, 0xb4, 0xd3, 0x5b, 0x61, 0xc2, 0xec, 0xe4, 0x35, 0x37,
      0x3f, 0x83, 0x43, 0xc8, 0x5b, 0x78, 0x67, 0x4d, 0xad, 0xfc, 0x7e, 0x14, 0x6f, 0x88, 0x2b, 0x4f};
  static const uint8_t shared_secret[AC_X25519_BYTES] = {
      0x4a, 0x5d, 0x9d, 0x5b, 0xa4, 0xce, 0x2d, 0xe1, 0x72, 0x8e, 0x3b, 0xf4, 0x80, 0x35, 0x0f, 0x25,
      0xe0, 0x7e, 0x21, 0xc9, 0x47, 0xd1, 0x9e, 0x33, 0x76, 0xf0, 0x9b, 0x3c, 0x1e, 0x16, 0x17, 0x42};
  static const uint8_t zero[AC_X25519_BYTES];
  uint8_t out[AC_X25519_BYTES];
  if (ac_x25519(out, alice, bob_public) != AC_OK || memcmp(out, shared_secret, sizeof out) != 0) return 0;
  return ac_x25519(out, alice, zero) == AC_ERR_KEY;
}

static int test_ed25519(void) {
  static const uint8_t seed[AC_SIGN_SEED_BYTES] = {/* RFC 8032, section 7.1, TEST 3: message af 82 */
      0xc5, 0xaa, 0x8d, 0xf4, 0x3f, 0x9f, 0x83, 0x7b, 0xed, 0xb7, 0x44, 0x2f, 0x31, 0xdc, 0xb7, 0xb1,
      0x66, 0xd3, 0x85, 0x35, 0x07, 0x6f, 0x09, 0x4b, 0x85, 0xce, 0x3a, 0x2e, 0x0b, 0x44, 0x58, 0xf7};
  static const uint8_t signature[64] = {
      0x62, 0x91, 0xd6, 0x57, 0xde, 0xec, 0x24, 0x02, 0x48, 0x27, 0xe6, 0x9c, 0x3a, 0xbe, 0x01, 0xa3,
      0x0c, 0xe5, 0x48, 0xa2, 0x84, 0x74, 0x3a, 0x44, 0x5e, 0x36, 0x80, 0xd7, 0xdb, 0x5a, 0xc3, 0xac,
      0x18, 0xff, 0x9b, 0x53, 0x8d, 0x16, 0xf2, 0x90, 0xae, 0x67, 0xf7, 0x60, 0x98, 0x4d, 0xc6, 0x59,
      0x4a, 0x7c, 0x15, 0xe9, 0x71, 0x6e, 0xd2, 0x8d, 0xc0, 0x27, 0xbe, 0xce, 0xea, 0x1e, 0xc4, 0x0a};
  unsigned char message[2] = {0xaf, 0x82}, out[64 + 2];
  ac_signing_key key;
  unsigned long long out_len = 0;
  if (ac_signing_key_from_seed(&key, seed) != AC_OK) return 0;
  if (aci_sodium.sign(out, &out_len, message, sizeof message, key.secret) != 0) return 0;
  return out_len == sizeof out && memcmp(out, signature, sizeof signature) == 0; /* a published key: not wiped */
}

static int complete(const ac_sodium *t) {
  return t->scalarmult && t->scalarmult_base && t->hash_sha256 && t->blake2b && t->sign && t->sign_seed_keypair &&
         t->randombytes && t->memzero && t->aes256gcm_is_available && t->aes256gcm_encrypt &&
         t->aes256gcm_decrypt;
}

int ac_init(const ac_sodium *table, const char *aes_backend) {
  if (table == NULL || !complete(table)) return AC_ERR_ARGUMENT;
  /* A second interpreter brings the same table: what others may be reading is then not written again. */
  const int same_cpu = aci_cpu_detect();
  if (!initialised || !same_cpu || memcmp(&aci_sodium, table, sizeof *table) != 0) {
    initialised = 0;
    aci_sodium = *table;
    const char *bad = !aci_watch_forks() ? "pthread_atfork"
                      : !aci_sha256_self_test() ? "SHA-256"
                      : !test_blake2b()         ? "BLAKE2b"
                      : !test_x25519()          ? "X25519"
                      : !test_ed25519()         ? "Ed25519"
                                                : aci_gcm_self_test();
    self_test_failure = bad ? bad : "";
    if (bad) return AC_ERR_PRIMITIVE;
    initialised = 1;
  }
  return aci_gcm_choose(aes_backend);
}
