/* All that the core does with a secret, with the secret marked: key, plaintext, shared secret, what HKDF makes of it.
 * Lengths, nonces, AAD, text of envelopes and events, signatures and v1's hashes are public, and so is a verdict. */
#include "ct.h"

#include <stdlib.h>

enum { LONGEST = 4096, LONGEST_AAD = 33 };

/* No two are alike, so that a result that does not depend on its input would show. */
void fill(uint8_t *p, size_t len) {
  static uint32_t state = 1;
  for (size_t i = 0; i < len; i++) {
    state = state * 1664525 + 1013904223;
    p[i] = (uint8_t)(state >> 24);
  }
}

void fill_secret(uint8_t *p, size_t len) {
  fill(p, len);
  secret(p, len);
}

/* What the program compares itself is public from then on. */
int same(const void *a, const void *b, size_t len) {
  aci_declassify(a, len);
  aci_declassify(b, len);
  return len == 0 || memcmp(a, b, len) == 0;
}

/* ---- AES-256-GCM ---- */

/* A buffer that ends where its bytes do. */
static uint8_t *allocate(size_t len) {
  uint8_t *p = malloc(len != 0 ? len : 1);
  MUST(p != NULL);
  return p;
}

static void seal_and_open(const ac_aes256gcm *aes, size_t len, size_t aad_len, int forge_all) {
  const size_t sealed_len = len + AC_TAG_BYTES;
  uint8_t *plaintext = allocate(len), *sealed = allocate(sealed_len), *place = allocate(sealed_len);
  uint8_t nonce[AC_NONCE_BYTES], aad[LONGEST_AAD];
  fill(nonce, sizeof nonce);
  fill(aad, sizeof aad);
  fill_secret(plaintext, len);
  MUST(ac_aes256gcm_seal(aes, sealed, sealed_len, nonce, plaintext, len, aad, aad_len) == AC_OK);
  memcpy(place, sealed, sealed_len);
  MUST(ac_aes256gcm_open(aes, place, len, nonce, place, sealed_len, aad, aad_len) == AC_OK);
  MUST(same(place, plaintext, len));
  secret(plaintext, len); /* a second time, into the buffer that it lies in */
  memcpy(place, plaintext, len);
  MUST(ac_aes256gcm_seal(aes, place, sealed_len, nonce, place, len, aad, aad_len) == AC_OK);
  MUST(same(place, sealed, sealed_len));
  for (size_t i = 0; i < AC_TAG_BYTES; i += forge_all ? 1 : AC_TAG_BYTES - 1) {
    sealed[len + i] ^= (uint8_t)(1u << i % 8);
    MUST(ac_aes256gcm_open(aes, place, len, nonce, sealed, sealed_len, aad, aad_len) == AC_ERR_AUTH);
    sealed[len + i] ^= (uint8_t)(1u << i % 8);
  }
  free(plaintext);
  free(sealed);
  free(place);
}

/* Each length up to 64, and what lies around a boundary: of a block, a group of blocks, a reduction. */
static int is_of_interest(size_t len) {
  return len <= 64 || (len <= 640 && (len + 1) % 16 <= 2) || (112 <= len && len <= 144) || (240 <= len && len <= 272) ||
         (1023 <= len && len <= 1025) || len == LONGEST;
}

void operate_gcm(unsigned backend) {
  static const size_t aad_lens[] = {0, 1, 13, 16, 20, LONGEST_AAD};
  for (size_t len = 0; len <= LONGEST; len++) {
    if (!is_of_interest(len)) continue;
    uint8_t key[AC_KEY_BYTES];
    ac_aes256gcm aes;
    fill_secret(key, sizeof key);
    MUST(ac_aes256gcm_init(&aes, key, backend) == AC_OK);
    for (size_t i = 0; i < sizeof aad_lens / sizeof *aad_lens; i++)
      seal_and_open(&aes, len, aad_lens[i], i == 0 && len % 16 <= 1);
    ac_aes256gcm_wipe(&aes);
  }
}

/* ---- keys ---- */

static void derive(void) {
  static const size_t out_lens[] = {1, 31, 32, 33, 64, 100};
  uint8_t ikm[64], salt[80], info[20], out[100];
  fill(salt, sizeof salt);
  fill(info, sizeof info);
  for (size_t i = 0; i < sizeof out_lens / sizeof *out_lens; i++) {
    for (size_t ikm_len = 0; ikm_len <= sizeof ikm; ikm_len += 32) {
      const size_t salt_len = i * 16, info_len = i * 4; /* salts of up to more than a block */
      fill_secret(ikm, sizeof ikm);
      if (i % 2 != 0) secret(salt, sizeof salt); /* as a chaining key is */
      MUST(ac_hkdf_sha256(out, out_lens[i], ikm, ikm_len, salt, salt_len, info, info_len) == AC_OK);
      secret(out, out_lens[i]);
    }
  }
}

static void exchange_keys(void) {
  static uint8_t small_order[AC_X25519_BYTES]; /* the point zero */
  ac_secret_key a, b, c;
  uint8_t ab[AC_X25519_BYTES], ba[AC_X25519_BYTES], raw[AC_X25519_BYTES];
  MUST(ac_secret_key_generate(&a) == AC_OK);
  MUST(ac_secret_key_generate(&b) == AC_OK);
  fill_secret(raw, sizeof raw);
  MUST(ac_secret_key_from_bytes(&c, raw) == AC_OK);
  MUST(ac_x25519(ab, a.secret, b.public_key) == AC_OK);
  MUST(ac_x25519(ba, b.secret, a.public_key) == AC_OK);
  MUST(same(ab, ba, sizeof ab));
  MUST(ac_x25519(ab, c.secret, small_order) == AC_ERR_KEY);
  memset(ab, 0, sizeof ab);
  for (size_t i = 0; i <= sizeof ab; i++) { /* the check for all zero, alone: a bit in each byte, then none */
    if (i < sizeof ab) ab[i] = 0x80;
    secret(ab, sizeof ab);
    int zero = aci_is_zero32(ab);
    aci_declassify(&zero, sizeof zero);
    MUST(zero == (i == sizeof ab));
    memset(ab, 0, sizeof ab);
  }
  ac_secret_key_wipe(&a);
  ac_secret_key_wipe(&b);
  ac_secret_key_wipe(&c);
}

static void schedule(void) {
  uint8_t salt[AC_V1_SALT_BYTES], nonce[AC_NONCE_BYTES], text[40];
  uint8_t sealed[sizeof text + AC_TAG_BYTES], opened[sizeof text];
  ac_secret_key a, b;
  ac_aes256gcm ours, theirs;
  fill(salt, sizeof salt);
  fill(nonce, sizeof nonce);
  fill_secret(text, sizeof text);
  MUST(ac_secret_key_generate(&a) == AC_OK);
  MUST(ac_secret_key_generate(&b) == AC_OK);
  MUST(aci_v1_schedule(&ours, a.secret, b.public_key, salt) == AC_OK);
  MUST(aci_v1_schedule(&theirs, b.secret, a.public_key, salt) == AC_OK);
  MUST(ac_aes256gcm_seal(&ours, sealed, sizeof sealed, nonce, text, sizeof text, salt, sizeof salt) == AC_OK);
  MUST(ac_aes256gcm_open(&theirs, opened, sizeof opened, nonce, sealed, sizeof sealed, salt, sizeof salt) == AC_OK);
  MUST(same(opened, text, sizeof text));
}

static void hash(void) {
  static uint8_t text[300], digest[AC_HASH_BYTES];
  for (size_t len = 0; len <= sizeof text; len++) {
    fill_secret(text, len);
    ac_sha256(digest, text, len);
    if (len != 0) secret(digest, sizeof digest); /* which it is already */
  }
}

/* A message and an export through a pair of contexts; the recipient refuses a message that was changed. */
static void converse(ac_hpke *sender, ac_hpke *recipient) {
  uint8_t text[40], aad[13], sealed[sizeof text + AC_TAG_BYTES], opened[sizeof text], a[64], b[64];
  fill(aad, sizeof aad);
  for (int i = 0; i < 3; i++) {
    fill_secret(text, sizeof text);
    MUST(ac_hpke_seal(sender, sealed, sizeof sealed, text, sizeof text, aad, sizeof aad) == AC_OK);
    sealed[i] ^= 1;
    MUST(ac_hpke_open(recipient, opened, sizeof opened, sealed, sizeof sealed, aad, sizeof aad) == AC_ERR_AUTH);
    sealed[i] ^= 1;
    MUST(ac_hpke_open(recipient, opened, sizeof opened, sealed, sizeof sealed, aad, sizeof aad) == AC_OK);
    MUST(same(opened, text, sizeof text));
  }
  MUST(ac_hpke_export(sender, a, sizeof a, aad, sizeof aad) == AC_OK);
  MUST(ac_hpke_export(recipient, b, sizeof b, aad, sizeof aad) == AC_OK);
  MUST(same(a, b, sizeof a));
  MUST(ac_hpke_close(sender) == AC_OK);
  MUST(ac_hpke_close(recipient) == AC_OK);
}

static void hpke(void) {
  static uint8_t small_order[AC_X25519_BYTES];
  uint8_t info[24], enc[AC_X25519_BYTES], shared[AC_HASH_BYTES], ephemeral[AC_X25519_BYTES];
  ac_secret_key key;
  ac_hpke sender, recipient;
  fill(info, sizeof info);
  MUST(ac_secret_key_generate(&key) == AC_OK);
  fill_secret(ephemeral, sizeof ephemeral);
  for (int given = 0; given < 2; given++) {
    MUST(ac_hpke_setup_sender(&sender, enc, key.public_key, info, sizeof info, given ? ephemeral : NULL) == AC_OK);
    MUST(ac_hpke_setup_recipient(&recipient, enc, &key, info, sizeof info) == AC_OK);
    converse(&sender, &recipient);
  }
  MUST(ac_hpke_setup_sender(&sender, enc, small_order, info, sizeof info, NULL) == AC_ERR_KEY);
  MUST(ac_hpke_setup_recipient(&recipient, small_order, &key, info, sizeof info) == AC_ERR_AUTH);
  fill_secret(shared, sizeof shared);
  MUST(ac_hpke_setup_shared(&sender, AC_SUITE_XWING, 1, shared, info, sizeof info) == AC_OK);
  MUST(ac_hpke_setup_shared(&recipient, AC_SUITE_XWING, 0, shared, info, sizeof info) == AC_OK);
  converse(&sender, &recipient);
  ac_hpke_wipe(&sender);
  ac_hpke_wipe(&recipient);
  ac_secret_key_wipe(&key);
}

/* Protocol v2's two schedules, of the KEM's shared secret and of what was exported. */
static void v2_schedules(void) {
  static uint8_t enc[AC_V2_MAX_ENC_BYTES];
  uint8_t shared[AC_HASH_BYTES], key_id[AC_KEY_ID_BYTES], salt[AC_V2_SALT_BYTES], nonce[AC_NONCE_BYTES];
  uint8_t response_secret[AC_HASH_BYTES];
  ac_aes256gcm aes;
  fill(key_id, sizeof key_id);
  fill(salt, sizeof salt);
  fill(enc, sizeof enc);
  for (uint32_t suite = AC_SUITE_X25519; suite <= AC_SUITE_XWING; suite++) {
    const size_t enc_len = suite == AC_SUITE_X25519 ? AC_X25519_BYTES : AC_V2_MAX_ENC_BYTES;
    fill_secret(shared, sizeof shared);
    MUST(aci_v2_request_schedule(&aes, nonce, response_secret, suite, shared, key_id) == AC_OK);
    MUST(aci_v2_response_schedule(&aes, nonce, response_secret, enc, enc_len, salt) == AC_OK);
  }
}

void operate_keys(void) {
  hash();
  derive();
  exchange_keys();
  schedule();
  hpke();
  v2_schedules();
}
