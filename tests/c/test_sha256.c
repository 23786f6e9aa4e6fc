/* SHA-256, HMAC and HKDF: on the backend in use, whichever that is; libsodium is the oracle. */
#include "harness.h"

#include <sodium.h>

enum { LONGEST = 300 };

static uint8_t text[1 << 16];

static void digest(const char *message, const char *want_hex) {
  uint8_t got[AC_HASH_BYTES], want[AC_HASH_BYTES];
  bytes in = bytes_copy(message, strlen(message));
  CHECK(unhex(want, want_hex) == sizeof want);
  ac_sha256(got, in.at, in.len);
  CHECK_EQUAL(got, want, sizeof want);
  bytes_free(&in);
}

static void known_digests(void) { /* FIPS 180-4 */
  digest("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  digest("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void digest_of(const uint8_t *in, size_t len) {
  uint8_t got[AC_HASH_BYTES], want[AC_HASH_BYTES];
  CHECK(crypto_hash_sha256(want, in, len) == 0);
  ac_sha256(got, in, len);
  CHECK_EQUAL(got, want, sizeof want);
}

/* Every length, at both edges of what may be read. */
static void lengths(void) {
  guarded g = guarded_new(sizeof text);
  for (size_t len = 0; len <= LONGEST; len += stride()) {
    for (edge side = AT_BEGIN; side < EDGES; side++) digest_of(guarded_copy(&g, side, text, len), len);
  }
  for (size_t len = 1024; len <= sizeof text; len *= 2) {
    digest_of(guarded_copy(&g, AT_END, text, len), len);
    digest_of(guarded_copy(&g, AT_END, text, len - 1), len - 1);
  }
  guarded_free(&g);
}

/* Three pieces, cut anywhere; what held the state is wiped. */
static void pieces(void) {
  enum { LEN = 200 };
  uint8_t got[AC_HASH_BYTES], want[AC_HASH_BYTES];
  aci_sha256 hash;
  CHECK(crypto_hash_sha256(want, text, LEN) == 0);
  for (size_t i = 0; i <= LEN; i += stride()) {
    for (size_t j = i; j <= LEN; j += 7) {
      aci_sha256_init(&hash);
      aci_sha256_update(&hash, text, i);
      aci_sha256_update(&hash, text + i, j - i);
      aci_sha256_update(&hash, NULL, 0);
      aci_sha256_update(&hash, text + j, LEN - j);
      aci_sha256_final(&hash, got);
      CHECK(memcmp(got, want, sizeof got) == 0 && all_zero(&hash, sizeof hash));
    }
  }
}

/* Keys round the length of a block, beyond which they are hashed; key and text each in pieces. */
static void hmac(void) {
  uint8_t got[AC_HASH_BYTES], want[AC_HASH_BYTES];
  crypto_auth_hmacsha256_state theirs;
  aci_hmac_key key;
  for (size_t len = 0; len <= LONGEST; len += stride()) {
    const aci_bytes secret[] = {{text, len / 3}, {NULL, 0}, {text + len / 3, len - len / 3}};
    const aci_bytes message[] = {{text + 7, len / 2}, {text + 7 + len / 2, len}};
    (void)crypto_auth_hmacsha256_init(&theirs, text, len);
    (void)crypto_auth_hmacsha256_update(&theirs, text + 7, len / 2 + len);
    (void)crypto_auth_hmacsha256_final(&theirs, want);
    aci_hmac_key_init(&key, secret, 3);
    for (int times = 0; times < 2; times++) { /* a key serves any number of texts */
      aci_hmac(got, &key, message, 2);
      CHECK_EQUAL(got, want, sizeof want);
    }
  }
}

static void empty_key(void) {
  static const uint8_t zero[ACI_SHA256_BLOCK];
  for (size_t len = 0; len <= sizeof zero; len++) {
    const aci_bytes secret = {zero, len};
    aci_hmac_key key;
    aci_hmac_key_init(&key, &secret, 1);
    CHECK_EQUAL(&key, &aci_hmac_empty_key, sizeof key);
  }
}

/* What stands in the last block for a text of 2^32 bytes and more, without hashing one. */
static void long_text(void) {
  static const uint64_t lens[] = {UINT64_C(1) << 29, UINT64_C(1) << 32, (UINT64_C(1) << 32) + 64, UINT64_C(1) << 40};
  for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
    aci_sha256 hash;
    uint32_t want[8];
    uint8_t got[AC_HASH_BYTES], word[4], last[ACI_SHA256_BLOCK] = {0x80};
    aci_sha256_init(&hash);
    memcpy(want, hash.state, sizeof want);
    hash.len = lens[i];
    for (size_t byte = 0; byte < 8; byte++) last[ACI_SHA256_BLOCK - 1 - byte] = (uint8_t)(8 * lens[i] >> 8 * byte);
    aci_sha256_chosen(want, last, 1);
    aci_sha256_final(&hash, got);
    for (size_t j = 0; j < 8; j++) {
      aci_store32be(word, want[j]);
      CHECK_EQUAL(got + 4 * j, word, 4);
    }
  }
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
  bytes longest = bytes_new(255 * AC_HASH_BYTES), longer = bytes_new(255 * AC_HASH_BYTES + 1);
  CHECK_STATUS(ac_hkdf_sha256(longest.at, longest.len, key, 1, NULL, 0, NULL, 0), AC_OK);
  CHECK_STATUS(ac_hkdf_sha256(longer.at, longer.len, key, 1, NULL, 0, NULL, 0), AC_ERR_ARGUMENT);
  CHECK(bytes_untouched(&longer));
  CHECK_STATUS(ac_hkdf_sha256(NULL, 0, NULL, 0, NULL, 0, NULL, 0), AC_OK);
  /* a longer output begins with the shorter one */
  uint8_t shorter[100];
  CHECK_STATUS(ac_hkdf_sha256(shorter, sizeof shorter, key, 1, NULL, 0, NULL, 0), AC_OK);
  CHECK_EQUAL(longest.at, shorter, sizeof shorter);
  bytes_free(&longest);
  bytes_free(&longer);
}

void test_sha256(void) {
  for (size_t i = 0; i < sizeof text; i++) text[i] = (uint8_t)random_below(256);
  known_digests();
  lengths();
  pieces();
  hmac();
  empty_key();
  long_text();
  hkdf();
}
