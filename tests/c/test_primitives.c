/* Digests, X25519, HKDF, keys; and a start that must not succeed. */
#include "harness.h"

static int sha256(uint8_t *out, const uint8_t *in, size_t in_len) {
  ac_sha256(out, in, in_len);
  return AC_OK;
}

static void digest(int (*function)(uint8_t *, const uint8_t *, size_t), const char *message, const char *want_hex) {
  uint8_t got[AC_HASH_BYTES], want[AC_HASH_BYTES];
  bytes in = bytes_copy(message, strlen(message));
  CHECK(unhex(want, want_hex) == sizeof want);
  CHECK_STATUS(function(got, in.at, in.len), AC_OK);
  CHECK_EQUAL(got, want, sizeof want);
  bytes_free(&in);
}

static void digests(void) { /* FIPS 180-4; RFC 7693's parameters with a digest of 32 bytes */
  digest(sha256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  digest(sha256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  digest(sha256, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  digest(ac_blake2b256, "", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
  digest(ac_blake2b256, "abc", "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

static void hkdf_case(const char *ikm_hex, const char *salt_hex, const char *info_hex, const char *okm_hex) {
  uint8_t ikm[128], salt[128], info[128], want[128];
  const size_t ikm_len = unhex(ikm, ikm_hex), salt_len = unhex(salt, salt_hex), info_len = unhex(info, info_hex);
  const size_t len = unhex(want, okm_hex);
  bytes in = bytes_copy(ikm, ikm_len), s = bytes_copy(salt, salt_len), i = bytes_copy(info, info_len);
  bytes out = bytes_new(len);
  CHECK_STATUS(ac_hkdf_sha256(out.at, len, in.at, in.len, s.at, s.len, i.at, i.len), AC_OK);
  CHECK_EQUAL(out.at, want, len);
  bytes_free(&out);
  bytes_free(&in);
  bytes_free(&s);
  bytes_free(&i);
}

static void hkdf(void) { /* RFC 5869, appendices A.1 to A.3 */
  hkdf_case("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  hkdf_case("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233"
            "3435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
            "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f90919293"
            "9495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
            "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3"
            "e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c"
            "2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
  hkdf_case("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");

  uint8_t key[1] = {7};
  bytes longest = bytes_new(255 * AC_HASH_BYTES);
  CHECK_STATUS(ac_hkdf_sha256(longest.at, longest.len, key, 1, NULL, 0, NULL, 0), AC_OK);
  CHECK_STATUS(ac_hkdf_sha256(longest.at, longest.len + 1, key, 1, NULL, 0, NULL, 0), AC_ERR_ARGUMENT);
  CHECK_STATUS(ac_hkdf_sha256(NULL, 0, NULL, 0, NULL, 0, NULL, 0), AC_OK);
  /* a longer output begins with the shorter one */
  uint8_t shorter[100];
  CHECK_STATUS(ac_hkdf_sha256(shorter, sizeof shorter, key, 1, NULL, 0, NULL, 0), AC_OK);
  CHECK_EQUAL(longest.at, shorter, sizeof shorter);
  bytes_free(&longest);
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

/* Another table, so that the tests run again; what they find must have the right name. */
static void start_with(primitive in, fault_kind kind, unsigned after, const char *name) {
  ac_sodium other = sodium_table;
  other.aes256gcm_is_available = no_aes;
  CHECK_STATUS(ac_init(&other, NULL), AC_OK);
  CHECK(strcmp(ac_self_test_failure(), "") == 0);
  CHECK(strcmp(ac_aes_backend_name(ac_aes_backend_default()), "sodium") != 0);
  CHECK_STATUS(ac_init(&other, "sodium"), AC_ERR_ARGUMENT);
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
    start_with(IN_BLAKE2B, kind, 0, "BLAKE2b");
    start_with(IN_SCALARMULT, kind, 0, "X25519");
    start_with(IN_SIGN, kind, 0, "Ed25519");
    start_with(IN_SIGN_KEYPAIR, kind, 0, "Ed25519");
    if (sodium_table.aes256gcm_is_available() == 1) {
      start_with(IN_ENCRYPT, kind, 0, "sodium");
      start_with(IN_DECRYPT, kind, 0, "sodium");
    }
  }
}

void test_primitives(void) {
  digests();
  hkdf();
  x25519();
  zero_secret();
  keys();
  refuse_incomplete_table();
  self_tests();
}
