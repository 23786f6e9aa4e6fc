/* BLAKE2b, X25519, keys; and a start that must not succeed. */
#include "harness.h"

static void digest(const char *message, const char *want_hex) {
  uint8_t got[AC_HASH_BYTES], want[AC_HASH_BYTES];
  bytes in = bytes_copy(message, strlen(message));
  CHECK(unhex(want, want_hex) == sizeof want);
  CHECK_STATUS(ac_blake2b256(got, in.at, in.len), AC_OK);
  CHECK_EQUAL(got, want, sizeof want);
  bytes_free(&in);
}

static void blake2b(void) { /* RFC 7693's parameters with a digest of 32 bytes */
  digest("", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
  digest("abc", "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

static void x25519(void) { /* RFC 7748, sections 5.2 and 6.1 */
  static const char *const cases[][3] = {
      {"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
       "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
       "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
      {"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
       "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
       "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"},
      {"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
       "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
       "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"}};
  static const char once[] = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
  static const char thousand_times[] = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51";
  uint8_t k[32], u[32], out[32], want[32];
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    CHECK(unhex(k, cases[i][0]) == 32 && unhex(u, cases[i][1]) == 32 && unhex(want, cases[i][2]) == 32);
    CHECK_STATUS(ac_x25519(out, k, u), AC_OK);
    CHECK_EQUAL(out, want, 32);
  }
  memset(k, 0, 32);
  k[0] = 9;
  memcpy(u, k, 32);
  for (unsigned i = 1; i <= 1000; i++) {
    CHECK_STATUS(ac_x25519(out, k, u), AC_OK);
    memcpy(u, k, 32);
    memcpy(k, out, 32);
    if (i == 1) CHECK(unhex(want, once) == 32 && memcmp(k, want, 32) == 0);
  }
  CHECK(unhex(want, thousand_times) == 32);
  CHECK_EQUAL(k, want, 32);
}

/* The rule against an all-zero secret is the core's own: it holds where libsodium would not refuse. */
static void zero_secret(void) {
  uint8_t secret[32] = {1}, public_key[32] = {9}, out[32];
  fault_plant(IN_SCALARMULT, IS_ZERO, 0);
  CHECK_STATUS(ac_x25519(out, secret, public_key), AC_ERR_KEY);
  CHECK(fault_struck());
  fault_plant(IN_SCALARMULT, REFUSES, 0);
  CHECK_STATUS(ac_x25519(out, secret, public_key), AC_ERR_KEY);
  CHECK(fault_struck() && all_zero(out, sizeof out));
}

static void keys(void) {
  ac_secret_key a, b;
  ac_signing_key c, d;
  CHECK_STATUS(ac_secret_key_generate(&a), AC_OK);
  CHECK_STATUS(ac_secret_key_from_bytes(&b, a.secret), AC_OK);
  CHECK_EQUAL(&a, &b, sizeof a);
  CHECK_STATUS(ac_signing_key_generate(&c), AC_OK);
  CHECK_STATUS(ac_signing_key_from_seed(&d, c.secret), AC_OK);
  CHECK_EQUAL(&c, &d, sizeof c);
  ac_secret_key_wipe(&a);
  ac_signing_key_wipe(&c);
  CHECK(all_zero(&a, sizeof a) && all_zero(&c, sizeof c));
  fault_plant(IN_SCALARMULT_BASE, REFUSES, 0);
  CHECK_STATUS(ac_secret_key_generate(&a), AC_ERR_PRIMITIVE);
  fault_plant(IN_SIGN_KEYPAIR, REFUSES, 0);
  CHECK_STATUS(ac_signing_key_generate(&c), AC_ERR_PRIMITIVE);
  CHECK(fault_struck());
}

/* ---- start ---- */

static void refuse_incomplete_table(void) {
  union {
    ac_sodium table;
    void (*places[sizeof(ac_sodium) / sizeof(void (*)(void))])(void);
  } t;
  CHECK_STATUS(ac_init(NULL, NULL), AC_ERR_ARGUMENT);
  for (size_t i = 0; i < sizeof t.places / sizeof t.places[0]; i++) {
    t.table = sodium_table;
    t.places[i] = NULL;
    CHECK_STATUS(ac_init(&t.table, NULL), AC_ERR_ARGUMENT);
  }
  CHECK_STATUS(ac_init(&sodium_table, "no such backend"), AC_ERR_ARGUMENT);
  CHECK_STATUS(ac_init(&sodium_table, ""), AC_ERR_ARGUMENT);
}

static int no_aes(void) { return 0; }

static void refuse_unusable_backends(void) {
  static const uint8_t key[AC_KEY_BYTES] = {1};
  unsigned refused = 0;
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL; i++) {
    ac_aes256gcm aes = {0};
    if (ac_aes_backend_usable(i)) continue;
    CHECK_STATUS(ac_aes256gcm_init(&aes, key, i), AC_ERR_ARGUMENT);
    CHECK(all_zero(&aes, sizeof aes));
    refused++;
  }
  CHECK(refused != 0); /* `sodium`, where it has no AES */
}

/* Both write all, and say that it is less. */
static int short_encrypt(unsigned char *c, unsigned long long *c_len, unsigned char *m, unsigned long long m_len,
                         unsigned char *ad, unsigned long long ad_len, unsigned char *nsec, unsigned char *npub,
                         unsigned char *k) {
  const int status = sodium_table.aes256gcm_encrypt(c, c_len, m, m_len, ad, ad_len, nsec, npub, k);
  --*c_len;
  return status;
}

static int short_sign(unsigned char *sm, unsigned long long *sm_len, unsigned char *m, unsigned long long m_len,
                      unsigned char *sk) {
  const int status = sodium_table.sign(sm, sm_len, m, m_len, sk);
  --*sm_len;
  return status;
}

static void wrong_lengths(void) {
  for (int signs = 0; signs < 2; signs++) {
    ac_sodium other = sodium_table;
    if (!signs && sodium_table.aes256gcm_is_available() != 1) continue;
    if (signs)
      other.sign = short_sign;
    else
      other.aes256gcm_encrypt = short_encrypt;
    CHECK_STATUS(ac_init(&other, NULL), AC_ERR_PRIMITIVE);
    CHECK(strcmp(ac_self_test_failure(), signs ? "Ed25519" : "sodium") == 0);
    CHECK_STATUS(ac_init(&sodium_table, NULL), AC_OK);
  }
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL; i++) { /* behind the start, too; what it has written is wiped */
    uint8_t key[AC_KEY_BYTES] = {1}, out[AC_TAG_BYTES + 5];
    ac_aes256gcm aes;
    if (strcmp(ac_aes_backend_name(i), "sodium") != 0 || !ac_aes_backend_usable(i)) continue;
    CHECK_STATUS(ac_aes256gcm_init(&aes, key, i), AC_OK);
    aci_sodium.aes256gcm_encrypt = short_encrypt;
    CHECK_STATUS(ac_aes256gcm_seal(&aes, out, sizeof out, key, key, 5, NULL, 0), AC_ERR_PRIMITIVE);
    CHECK(all_zero(out, sizeof out));
    aci_sodium.aes256gcm_encrypt = sodium_table.aes256gcm_encrypt;
  }
}

/* What compares and looks for overlaps, at every length and place that its callers could have. */
static void comparisons(void) {
  enum { MOST = 40 };
  uint8_t a[MOST], b[MOST], p[32] = {0};
  for (size_t len = 0; len <= MOST; len++) {
    for (size_t i = 0; i < MOST; i++) a[i] = b[i] = (uint8_t)(5 * i);
    CHECK(aci_equal(a, b, len));
    for (size_t bit = 0; bit < 8 * (size_t)MOST; bit++) {
      b[bit / 8] ^= (uint8_t)(1u << bit % 8);
      CHECK(aci_equal(a, b, len) == (bit / 8 >= len));
      b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
  }
  CHECK(aci_is_zero32(p));
  for (size_t bit = 0; bit < 8 * sizeof p; bit++) {
    p[bit / 8] = (uint8_t)(1u << bit % 8);
    CHECK(!aci_is_zero32(p));
    p[bit / 8] = 0;
  }
}

static void overlaps(void) {
  enum { MOST = 6 };
  const uint8_t at[2 * MOST] = {0};
  for (size_t a = 0; a < MOST; a++) {
    for (size_t b = 0; b < MOST; b++) {
      for (size_t a_len = 0; a_len <= MOST; a_len++) {
        for (size_t b_len = 0; b_len <= MOST; b_len++) {
          int shared = 0;
          for (size_t i = 0; i < a_len; i++) shared |= a + i >= b && a + i < b + b_len;
          CHECK(aci_overlap(at + a, a_len, at + b, b_len) == shared);
        }
      }
    }
  }
}

/* Another table, so that the tests run again; what they find must have the right name. */
static void start_with(primitive in, fault_kind kind, unsigned after, const char *name) {
  ac_sodium other = sodium_table;
  other.aes256gcm_is_available = no_aes;
  CHECK_STATUS(ac_init(&other, NULL), AC_OK);
  CHECK(strcmp(ac_self_test_failure(), "") == 0);
  CHECK(strcmp(ac_aes_backend_name(ac_aes_backend_default()), "sodium") != 0);
  CHECK_STATUS(ac_init(&other, "sodium"), AC_ERR_ARGUMENT);
  refuse_unusable_backends();
  CHECK_STATUS(ac_init(&other, "portable"), AC_OK); /* which every CPU can run */
  fault_plant(in, kind, after);
  CHECK_STATUS(ac_init(&sodium_table, NULL), AC_ERR_PRIMITIVE);
  CHECK(fault_struck());
  if (!CHECK(strcmp(ac_self_test_failure(), name) == 0)) printf("    %s, fault %d\n", name, (int)kind);
  CHECK_STATUS(ac_init(&sodium_table, NULL), AC_OK); /* a failed start can be repeated */
  CHECK(strcmp(ac_self_test_failure(), "") == 0);
}

static void self_tests(void) {
  for (fault_kind kind = REFUSES; kind <= LIES; kind++) {
    start_with(IN_SHA256, kind, 0, "SHA-256");
    start_with(IN_SHA256, kind, 50, "SHA-256");
    start_with(IN_BLAKE2B, kind, 0, "BLAKE2b");
    start_with(IN_SCALARMULT, kind, 0, "X25519");
    start_with(IN_SIGN, kind, 0, "Ed25519");
    start_with(IN_SIGN_KEYPAIR, kind, 0, "Ed25519");
    if (sodium_table.aes256gcm_is_available() == 1) {
      start_with(IN_ENCRYPT, kind, 0, "sodium");
      start_with(IN_DECRYPT, kind, 0, "sodium");
      start_with(IN_ENCRYPT, kind, 1, "sodium"); /* the long answer; the second call to decrypt is for a forgery */
      start_with(IN_DECRYPT, kind, 2, "sodium");
    }
  }
  start_with(IN_SCALARMULT, LIES, 1, "X25519"); /* a point of small order is taken */
}

void test_primitives(void) {
  blake2b();
  x25519();
  zero_secret();
  keys();
  refuse_incomplete_table();
  comparisons();
  overlaps();
  self_tests();
  wrong_lengths();
}
