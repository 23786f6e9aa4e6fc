/* Key schedules: the only file that knows their labels. v1 has none: its HKDF info is empty. */
#include "ac_internal.h"

int aci_v1_schedule(ac_aes256gcm *aes, const uint8_t secret[AC_X25519_BYTES], const uint8_t peer[AC_X25519_BYTES],
                    const uint8_t salt[AC_V1_SALT_BYTES]) {
  uint8_t shared[AC_X25519_BYTES], key[AC_KEY_BYTES];

  /* shared = X25519(secret, peer), refused if it is zero */
  int status = ac_x25519(shared, secret, peer);
  if (status != AC_OK) goto wipe;
  /* key = HKDF-SHA256(IKM = shared, salt, info = "", L = 32) */
  status = ac_hkdf_sha256(key, sizeof key, shared, sizeof shared, salt, AC_V1_SALT_BYTES, NULL, 0);
  if (status != AC_OK) goto wipe;
  status = ac_aes256gcm_init(aes, key, ac_aes_backend_default());

wipe:
  aci_wipe(shared, sizeof shared);
  aci_wipe(key, sizeof key);
  return status;
}

/* ---- HPKE (RFC 9180). What stands in quotes is the RFC's; pieces stand one behind the other as it concatenates them. ---- */

#define BYTES(literal) {(const uint8_t *)("" literal), sizeof(literal) - 1}
#define VERSION BYTES("HPKE-v1")

static const aci_bytes kem_suite = BYTES("KEM\x00\x20"); /* DHKEM(X25519, HKDF-SHA256) */

/* What the key schedule knows of a suite. */
typedef struct hpke_suite {
  aci_bytes id;                       /* suite_id: KEM, HKDF-SHA256, AES-256-GCM */
  uint8_t psk_id_hash[AC_HASH_BYTES]; /* LabeledExtract("", "psk_id_hash", "") */
} hpke_suite;

static const hpke_suite x25519_suite = {
    BYTES("HPKE\x00\x20\x00\x01\x00\x02"),
    {0x4c, 0xe5, 0x47, 0x2e, 0xcd, 0xd5, 0x09, 0x3b, 0xa0, 0xae, 0xcb, 0x8f, 0x87, 0x1f, 0xf1, 0x3f,
     0x1f, 0xbc, 0x90, 0xee, 0x76, 0xf0, 0xe1, 0x8a, 0xce, 0x1a, 0x1b, 0x7e, 0x56, 0x5b, 0xaf, 0xa3}};
static const hpke_suite xwing_suite = {
    BYTES("HPKE\x64\x7a\x00\x01\x00\x02"),
    {0xbc, 0xc3, 0xfc, 0xa5, 0x5d, 0x6d, 0x27, 0x60, 0x85, 0xe2, 0xea, 0xb4, 0xb5, 0x56, 0x5d, 0x37,
     0x0f, 0xca, 0x95, 0x06, 0x9e, 0xe7, 0xbe, 0xbb, 0x0a, 0x19, 0x7b, 0x25, 0x56, 0xa5, 0x83, 0x9f}};

/* NULL: no such suite. */
static const hpke_suite *suite_of(uint32_t suite) {
  return suite == AC_SUITE_X25519 ? &x25519_suite : suite == AC_SUITE_XWING ? &xwing_suite : NULL;
}

/* ExtractAndExpand (section 4.1). */
static void extract_and_expand(uint8_t shared[AC_HASH_BYTES], const uint8_t dh[AC_X25519_BYTES],
                               const uint8_t enc[AC_X25519_BYTES], const uint8_t public_key[AC_X25519_BYTES]) {
  static const uint8_t length[2] = {0, AC_HASH_BYTES};
  aci_hmac_key eae_prk;
  /* eae_prk = LabeledExtract("", "eae_prk", dh) */
  const aci_bytes ikm[] = {VERSION, kem_suite, BYTES("eae_prk"), {dh, AC_X25519_BYTES}};
  aci_hkdf_extract(&eae_prk, &aci_hmac_empty_key, ikm, 4);
  /* shared_secret = LabeledExpand(eae_prk, "shared_secret", kem_context = enc || pkRm, 32) */
  const aci_bytes info[] = {{length, 2}, VERSION, kem_suite, BYTES("shared_secret"),
                            {enc, AC_X25519_BYTES}, {public_key, AC_X25519_BYTES}};
  aci_hkdf_expand(shared, AC_HASH_BYTES, &eae_prk, info, 6);
  aci_wipe(&eae_prk, sizeof eae_prk);
}

int aci_dhkem_encapsulate(uint8_t shared[AC_HASH_BYTES], uint8_t enc[AC_X25519_BYTES],
                          const uint8_t public_key[AC_X25519_BYTES], const uint8_t *ephemeral) {
  ac_secret_key pair;
  uint8_t dh[AC_X25519_BYTES];

  /* skE, pkE = GenerateKeyPair() */
  int status = ephemeral == NULL ? ac_secret_key_generate(&pair) : ac_secret_key_from_bytes(&pair, ephemeral);
  if (status != AC_OK) goto wipe;
  /* dh = DH(skE, pkR), refused if it is zero */
  status = ac_x25519(dh, pair.secret, public_key);
  if (status != AC_OK) goto wipe;
  /* enc = SerializePublicKey(pkE) */
  extract_and_expand(shared, dh, pair.public_key, public_key);
  memcpy(enc, pair.public_key, AC_X25519_BYTES);

wipe:
  ac_secret_key_wipe(&pair);
  aci_wipe(dh, sizeof dh);
  aci_burn_stack();
  return status;
}

int aci_dhkem_decapsulate(uint8_t shared[AC_HASH_BYTES], const uint8_t enc[AC_X25519_BYTES], const ac_secret_key *key) {
  uint8_t dh[AC_X25519_BYTES];
  /* dh = DH(skR, pkE), refused if it is zero */
  const int status = ac_x25519(dh, key->secret, enc);
  if (status == AC_OK) extract_and_expand(shared, dh, enc, key->public_key);
  aci_wipe(dh, sizeof dh);
  aci_burn_stack();
  return status;
}

/* LabeledExpand (section 4) of the key schedule's suite, from 0 to 255 * 32 bytes. */
static void labeled_expand(uint8_t *out, size_t out_len, const aci_hmac_key *prk, aci_bytes suite, aci_bytes label,
                           const uint8_t *info, size_t info_len) {
  const uint8_t length[2] = {(uint8_t)(out_len >> 8), (uint8_t)out_len};
  const aci_bytes parts[] = {{length, 2}, VERSION, suite, label, {info, info_len}};
  aci_hkdf_expand(out, out_len, prk, parts, 5);
}

/* KeySchedule (section 5.1), in mode_base: psk and psk_id are empty. */
int aci_hpke_schedule(ac_aes256gcm *aes, uint8_t base_nonce[AC_NONCE_BYTES], uint8_t exporter_secret[AC_HASH_BYTES],
                      uint32_t suite, const uint8_t shared[AC_HASH_BYTES], const uint8_t *info, size_t info_len) {
  static const aci_bytes label_key = BYTES("key"), label_base_nonce = BYTES("base_nonce"), label_exp = BYTES("exp");
  const hpke_suite *const known = suite_of(suite);
  if (known == NULL) return AC_ERR_ARGUMENT;
  const aci_bytes suite_id = known->id;
  aci_hmac_key shared_key, secret;
  uint8_t context[1 + 2 * AC_HASH_BYTES] = {0}; /* mode_base || psk_id_hash || info_hash */
  uint8_t key[AC_KEY_BYTES];

  memcpy(context + 1, known->psk_id_hash, AC_HASH_BYTES);
  /* info_hash = LabeledExtract("", "info_hash", info) */
  const aci_bytes info_ikm[] = {VERSION, suite_id, BYTES("info_hash"), {info, info_len}};
  aci_hmac(context + 1 + AC_HASH_BYTES, &aci_hmac_empty_key, info_ikm, 4);
  /* secret = LabeledExtract(shared_secret, "secret", psk) */
  const aci_bytes shared_part = {shared, AC_HASH_BYTES}, secret_ikm[] = {VERSION, suite_id, BYTES("secret")};
  aci_hmac_key_init(&shared_key, &shared_part, 1);
  aci_hkdf_extract(&secret, &shared_key, secret_ikm, 3);
  /* key, base_nonce, exporter_secret = LabeledExpand(secret, ..., key_schedule_context, ...) */
  labeled_expand(key, sizeof key, &secret, suite_id, label_key, context, sizeof context);
  const int status = ac_aes256gcm_init(aes, key, ac_aes_backend_default());
  if (status == AC_OK) {
    labeled_expand(base_nonce, AC_NONCE_BYTES, &secret, suite_id, label_base_nonce, context, sizeof context);
    labeled_expand(exporter_secret, AC_HASH_BYTES, &secret, suite_id, label_exp, context, sizeof context);
  }
  aci_wipe(&shared_key, sizeof shared_key);
  aci_wipe(&secret, sizeof secret);
  aci_wipe(key, sizeof key);
  aci_burn_stack();
  return status;
}

void aci_hpke_export(uint8_t *out, size_t out_len, uint32_t suite, const uint8_t exporter_secret[AC_HASH_BYTES],
                     const uint8_t *context, size_t context_len) {
  static const aci_bytes label_sec = BYTES("sec");
  const aci_bytes part = {exporter_secret, AC_HASH_BYTES};
  aci_hmac_key prk;
  aci_hmac_key_init(&prk, &part, 1);
  labeled_expand(out, out_len, &prk, suite_of(suite)->id, label_sec, context, context_len);
  aci_wipe(&prk, sizeof prk);
  aci_burn_stack();
}

/* ---- protocol v2 (docs/protocol-v2.md) ---- */

int aci_v2_request_schedule(ac_aes256gcm *aes, uint8_t nonce[AC_NONCE_BYTES], uint8_t response_secret[AC_HASH_BYTES],
                            uint32_t suite, const uint8_t shared[AC_HASH_BYTES],
                            const uint8_t key_id[AC_KEY_ID_BYTES]) {
  static const uint8_t label_request[16] = "atoma/2 request"; /* and a zero byte */
  static const aci_bytes label_response = BYTES("atoma/2 response");
  uint8_t info[sizeof label_request + AC_KEY_ID_BYTES], exporter_secret[AC_HASH_BYTES];

  /* info = "atoma/2 request" || 0x00 || key_id */
  memcpy(info, label_request, sizeof label_request);
  memcpy(info + sizeof label_request, key_id, AC_KEY_ID_BYTES);
  const int status = aci_hpke_schedule(aes, nonce, exporter_secret, suite, shared, info, sizeof info);
  /* secret = context.Export("atoma/2 response", 32) */
  if (status == AC_OK)
    aci_hpke_export(response_secret, AC_HASH_BYTES, suite, exporter_secret, label_response.at, label_response.len);
  aci_wipe(exporter_secret, sizeof exporter_secret);
  return status;
}

int aci_v2_response_schedule(ac_aes256gcm *aes, uint8_t base[AC_NONCE_BYTES],
                             const uint8_t response_secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len,
                             const uint8_t salt[AC_V2_SALT_BYTES]) {
  static const aci_bytes label_key = BYTES("key"), label_nonce = BYTES("nonce");
  const aci_bytes salt_parts[] = {{enc, enc_len}, {salt, AC_V2_SALT_BYTES}}, ikm = {response_secret, AC_HASH_BYTES};
  aci_hmac_key salt_key, prk;
  uint8_t key[AC_KEY_BYTES];

  /* prk = HKDF-Extract(salt = enc || salt, ikm = secret) */
  aci_hmac_key_init(&salt_key, salt_parts, 2);
  aci_hkdf_extract(&prk, &salt_key, &ikm, 1);
  /* key = HKDF-Expand(prk, "key", 32), base = HKDF-Expand(prk, "nonce", 12) */
  aci_hkdf_expand(key, sizeof key, &prk, &label_key, 1);
  const int status = ac_aes256gcm_init(aes, key, ac_aes_backend_default());
  if (status == AC_OK) aci_hkdf_expand(base, AC_NONCE_BYTES, &prk, &label_nonce, 1);
  aci_wipe(&salt_key, sizeof salt_key); /* public, but so short a work that it need not be argued */
  aci_wipe(&prk, sizeof prk);
  aci_wipe(key, sizeof key);
  aci_burn_stack();
  return status;
}
