/* HPKE: the RFC's vector, the tables that its key schedule holds, contexts, and the two schedules of protocol v2. */
#include "harness.h"

static const uint8_t text[] = "Beauty is truth, truth beauty";
enum { TEXT = sizeof text - 1, SEALED = TEXT + AC_TAG_BYTES };

/* RFC 9180's vectors, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, base mode. */
static const char vec_info[] = "4f6465206f6e2061204772656369616e2055726e";
static const char vec_ephemeral[] = "179d4b53b6365c45b600c4163b61d95cbc2f4d9e36f1695558dce265ab8bab11";
static const char vec_secret[] = "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d";
static const char vec_public[] = "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c";
static const char vec_enc[] = "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256";
static const char vec_shared[] = "3101c54c3a4f87439eaac080699ed9bbcc726ffe44e860c0424ccb7e3e2ead7b";
static const char vec_key[] = "f50b0609186798729ed0564b36ef2ef8044f1f9d05636874d1f46c819c7a669f";
static const char vec_base_nonce[] = "151d9929e2449747889bc923";
static const char vec_exporter[] = "86017151bbff6a1940e8abae2ac9e0e7032e33df1eaaecc02ca6259b130d62df";
static const char *const vec_sealed[3] = {
    "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a",
    "2c43aff25343fdbff864506f0818b9d87df84ea01b1a2144d23b4d40c26bf655fdf197fe40297a8aebeed5cc2d",
    "53624f4f9f173453b14e633b45390ff54cacaa4428d44baee1bff8133fab1ab3afe60f88e4634b525c54e92eda"};
static const char *const vec_aad[3] = {"Count-0", "Count-1", "Count-256"};
static const uint64_t vec_sequence[3] = {0, 1, 256};
static const char vec_export[] = "7c5ded445732c14fe09727d29b4251c0fd38455fe8440571e687f0886aac94d2";

typedef struct ends {
  ac_hpke sender, recipient;
  ac_secret_key key;
  uint8_t enc[AC_X25519_BYTES];
} ends;

static ends set_up(void) {
  ends e = {0};
  uint8_t raw[AC_X25519_BYTES], info[32];
  const size_t info_len = unhex(info, vec_info);
  CHECK(unhex(raw, vec_secret) == sizeof raw);
  CHECK_STATUS(ac_secret_key_from_bytes(&e.key, raw), AC_OK);
  CHECK(unhex(raw, vec_ephemeral) == sizeof raw);
  CHECK_STATUS(ac_hpke_setup_sender(&e.sender, e.enc, e.key.public_key, info, info_len, raw), AC_OK);
  CHECK_STATUS(ac_hpke_setup_recipient(&e.recipient, e.enc, &e.key, info, info_len), AC_OK);
  return e;
}

static void is_hex(const void *got, size_t len, const char *hex) {
  uint8_t want[64];
  CHECK(unhex(want, hex) == len);
  CHECK_EQUAL(got, want, len);
}

static void same_key(const ac_aes256gcm *got, const ac_aes256gcm *want) {
  CHECK_EQUAL(got->words, want->words, sizeof want->words);
  CHECK(got->backend == want->backend);
}

static void vector(void) {
  ends e = set_up();
  uint8_t shared[AC_HASH_BYTES], raw[AC_X25519_BYTES], enc[AC_X25519_BYTES], sealed[SEALED], opened[TEXT];
  is_hex(e.key.public_key, AC_X25519_BYTES, vec_public);
  is_hex(e.enc, AC_X25519_BYTES, vec_enc);
  CHECK(unhex(raw, vec_ephemeral) == sizeof raw);
  CHECK_STATUS(aci_dhkem_encapsulate(shared, enc, e.key.public_key, raw), AC_OK);
  CHECK_EQUAL(enc, e.enc, sizeof enc);
  is_hex(shared, sizeof shared, vec_shared);
  memset(shared, 0, sizeof shared);
  CHECK_STATUS(aci_dhkem_decapsulate(shared, enc, &e.key), AC_OK);
  is_hex(shared, sizeof shared, vec_shared);
  for (size_t i = 0; i < 3; i++) {
    const uint8_t *const aad = (const uint8_t *)vec_aad[i];
    e.sender.sequence = e.recipient.sequence = vec_sequence[i];
    CHECK_STATUS(ac_hpke_seal(&e.sender, sealed, sizeof sealed, text, TEXT, aad, strlen(vec_aad[i])), AC_OK);
    is_hex(sealed, sizeof sealed, vec_sealed[i]);
    CHECK_STATUS(ac_hpke_open(&e.recipient, opened, TEXT, sealed, sizeof sealed, aad, strlen(vec_aad[i])), AC_OK);
    CHECK_EQUAL(opened, text, TEXT);
  }
  const ac_hpke *const contexts[2] = {&e.sender, &e.recipient};
  for (size_t i = 0; i < 2; i++) {
    is_hex(contexts[i]->base_nonce, AC_NONCE_BYTES, vec_base_nonce);
    is_hex(contexts[i]->exporter_secret, AC_HASH_BYTES, vec_exporter);
  }
  CHECK_STATUS(ac_hpke_export(&e.sender, shared, sizeof shared, (const uint8_t *)"TestContext", 11), AC_OK);
  is_hex(shared, sizeof shared, vec_export);
  CHECK_STATUS(ac_hpke_export(&e.recipient, shared, sizeof shared, (const uint8_t *)"TestContext", 11), AC_OK);
  is_hex(shared, sizeof shared, vec_export);
  ac_aes256gcm aes;
  uint8_t key[AC_KEY_BYTES];
  CHECK(unhex(key, vec_key) == sizeof key);
  CHECK_STATUS(ac_aes256gcm_init(&aes, key, ac_aes_backend_default()), AC_OK);
  same_key(&e.sender.aes, &aes);
}

/* The key schedule from HMAC alone, nothing taken from a table, for both suites. */
static void labeled(uint8_t *out, size_t len, const aci_hmac_key *key, const uint8_t suite[10], const char *label,
                    const uint8_t *value, size_t value_len, int expands) {
  const uint8_t length[2] = {0, (uint8_t)len}, one[1] = {1};
  const aci_bytes parts[] = {{length, expands ? 2 : 0}, {(const uint8_t *)"HPKE-v1", 7}, {suite, 10},
                             {(const uint8_t *)label, strlen(label)}, {value, value_len}, {one, expands ? 1 : 0}};
  uint8_t mac[AC_HASH_BYTES];
  aci_hmac(mac, key, parts, 6);
  memcpy(out, mac, len);
}

static void schedule_by_hand(uint32_t suite, const char *suite_hex) {
  static const uint8_t info[] = "what both know";
  uint8_t id[10], shared[AC_HASH_BYTES], prk[AC_HASH_BYTES], context[65] = {0}, key[32], nonce[12], exporter[32];
  aci_hmac_key none, shared_key, secret;
  ac_aes256gcm aes;
  ac_hpke hpke = {0};
  for (size_t i = 0; i < sizeof shared; i++) shared[i] = (uint8_t)random_below(256);
  CHECK(unhex(id, suite_hex) == sizeof id);
  aci_hmac_key_init(&none, NULL, 0);
  labeled(context + 1, 32, &none, id, "psk_id_hash", NULL, 0, 0);
  labeled(context + 33, 32, &none, id, "info_hash", info, sizeof info, 0);
  const aci_bytes shared_part = {shared, sizeof shared}, prk_part = {prk, sizeof prk};
  aci_hmac_key_init(&shared_key, &shared_part, 1);
  labeled(prk, 32, &shared_key, id, "secret", NULL, 0, 0);
  aci_hmac_key_init(&secret, &prk_part, 1);
  labeled(key, 32, &secret, id, "key", context, sizeof context, 1);
  labeled(nonce, 12, &secret, id, "base_nonce", context, sizeof context, 1);
  labeled(exporter, 32, &secret, id, "exp", context, sizeof context, 1);
  CHECK_STATUS(ac_aes256gcm_init(&aes, key, ac_aes_backend_default()), AC_OK);
  CHECK_STATUS(ac_hpke_setup_shared(&hpke, suite, 1, shared, info, sizeof info), AC_OK);
  CHECK(hpke.seals == 1 && hpke.suite == suite);
  same_key(&hpke.aes, &aes);
  CHECK_EQUAL(hpke.base_nonce, nonce, sizeof nonce);
  CHECK_EQUAL(hpke.exporter_secret, exporter, sizeof exporter);
}

/* ---- contexts ---- */

static void refuse_set_up(void) {
  static const uint8_t small_order[AC_X25519_BYTES] = {1};
  ends e = set_up();
  const ac_hpke before = e.sender;
  uint8_t enc[AC_X25519_BYTES], shared[AC_HASH_BYTES] = {0};
  memset(enc, 0x77, sizeof enc);
  CHECK_STATUS(ac_hpke_setup_sender(&e.sender, enc, small_order, NULL, 0, NULL), AC_ERR_KEY);
  fault_plant(IN_SCALARMULT, IS_ZERO, 0); /* the rule is ours */
  CHECK_STATUS(ac_hpke_setup_sender(&e.sender, enc, e.key.public_key, NULL, 0, NULL), AC_ERR_KEY);
  CHECK(fault_struck());
  fault_plant(IN_SCALARMULT_BASE, REFUSES, 0);
  CHECK_STATUS(ac_hpke_setup_sender(&e.sender, enc, e.key.public_key, NULL, 0, NULL), AC_ERR_PRIMITIVE);
  CHECK(fault_struck());
  CHECK_STATUS(ac_hpke_setup_recipient(&e.sender, small_order, &e.key, NULL, 0), AC_ERR_AUTH);
  fault_plant(IN_SCALARMULT, IS_ZERO, 0);
  CHECK_STATUS(ac_hpke_setup_recipient(&e.sender, e.enc, &e.key, NULL, 0), AC_ERR_AUTH);
  CHECK(fault_struck());
  CHECK_STATUS(ac_hpke_setup_shared(&e.sender, 0, 1, shared, NULL, 0), AC_ERR_ARGUMENT);
  CHECK_STATUS(ac_hpke_setup_shared(&e.sender, 3, 1, shared, NULL, 0), AC_ERR_ARGUMENT);
  CHECK_STATUS(aci_dhkem_encapsulate(shared, enc, small_order, NULL), AC_ERR_KEY);
  CHECK_STATUS(aci_dhkem_decapsulate(shared, small_order, &e.key), AC_ERR_KEY);
  bytes mixed = bytes_new(2 * AC_X25519_BYTES); /* enc is written before info is read */
  for (size_t at = 0; at < AC_X25519_BYTES; at++) {
    CHECK_STATUS(ac_hpke_setup_sender(&e.sender, mixed.at + at, e.key.public_key, mixed.at, AC_X25519_BYTES, NULL),
                 AC_ERR_OVERLAP);
  }
  bytes_free(&mixed);
  CHECK_EQUAL(&e.sender, &before, sizeof before); /* nothing of this has changed anything */
  CHECK(all_zero(shared, sizeof shared));
  for (size_t i = 0; i < sizeof enc; i++) CHECK(enc[i] == 0x77);
}

static void refuse_messages(void) {
  ends e = set_up();
  uint8_t sealed[SEALED], opened[TEXT], out[256 * AC_HASH_BYTES];
  const ac_hpke before = e.sender;
  bytes place = bytes_new(2 * SEALED);
  CHECK_STATUS(ac_hpke_seal(&e.recipient, sealed, sizeof sealed, text, TEXT, NULL, 0), AC_ERR_STATE);
  CHECK_STATUS(ac_hpke_open(&e.sender, opened, TEXT, sealed, sizeof sealed, NULL, 0), AC_ERR_STATE);
  CHECK_STATUS(ac_hpke_seal(&e.sender, sealed, sizeof sealed - 1, text, TEXT, NULL, 0), AC_ERR_CAPACITY);
  CHECK_STATUS(ac_hpke_seal(&e.sender, place.at + 1, place.len - 1, place.at, TEXT, NULL, 0), AC_ERR_OVERLAP);
  CHECK_STATUS(ac_hpke_export(&e.sender, out, 255 * AC_HASH_BYTES + 1, NULL, 0), AC_ERR_ARGUMENT);
  CHECK_STATUS(ac_hpke_export(&e.sender, place.at, 33, place.at + 32, 5), AC_ERR_OVERLAP);
  e.sender.busy = 1;
  CHECK_STATUS(ac_hpke_seal(&e.sender, sealed, sizeof sealed, text, TEXT, NULL, 0), AC_ERR_BUSY);
  CHECK_STATUS(ac_hpke_export(&e.sender, out, 1, NULL, 0), AC_ERR_BUSY);
  CHECK_STATUS(ac_hpke_close(&e.sender), AC_ERR_BUSY);
  e.sender.busy = 0;
  e.sender.generation++;
  CHECK_STATUS(ac_hpke_seal(&e.sender, sealed, sizeof sealed, text, TEXT, NULL, 0), AC_ERR_FORKED);
  e.sender.generation--;
  e.sender.sequence = UINT64_MAX;
  CHECK_STATUS(ac_hpke_seal(&e.sender, sealed, sizeof sealed, text, TEXT, NULL, 0), AC_ERR_LIMIT);
  e.recipient.sequence = UINT64_MAX;
  CHECK_STATUS(ac_hpke_open(&e.recipient, opened, TEXT, sealed, sizeof sealed, NULL, 0), AC_ERR_LIMIT);
  e.sender.sequence = e.recipient.sequence = 0;
  CHECK_EQUAL(&e.sender, &before, sizeof before);
  CHECK(bytes_untouched(&place));

  memcpy(place.at, text, TEXT); /* in place */
  CHECK_STATUS(ac_hpke_seal(&e.sender, place.at, place.len, place.at, TEXT, NULL, 0), AC_OK);
  place.at[3] ^= 1;
  CHECK_STATUS(ac_hpke_open(&e.recipient, opened, TEXT, place.at, SEALED, NULL, 0), AC_ERR_AUTH);
  CHECK(all_zero(opened, TEXT) && e.recipient.sequence == 0 && e.recipient.busy == 0);
  place.at[3] ^= 1;
  CHECK_STATUS(ac_hpke_open(&e.recipient, opened, TEXT - 1, place.at, SEALED, NULL, 0), AC_ERR_CAPACITY);
  CHECK_STATUS(ac_hpke_open(&e.recipient, place.at, place.len, place.at, SEALED, NULL, 0), AC_OK);
  CHECK_EQUAL(place.at, text, TEXT);
  CHECK(e.sender.sequence == 1 && e.recipient.sequence == 1);
  CHECK_STATUS(ac_hpke_export(&e.sender, out, 255 * AC_HASH_BYTES, NULL, 0), AC_OK);
  CHECK_STATUS(ac_hpke_export(&e.sender, out, 32, out + 32, 5), AC_OK);
  bytes_free(&place);
}

/* Each bit of the sequence number is in the nonce, and the last message can be sealed. */
static void sequences(void) {
  for (unsigned bit = 0; bit < 65; bit++) {
    ends e = set_up();
    uint8_t sealed[SEALED], want[SEALED], nonce[AC_NONCE_BYTES];
    const uint64_t sequence = bit < 64 ? UINT64_C(1) << bit : UINT64_MAX - 1;
    e.sender.sequence = sequence;
    memcpy(nonce, e.sender.base_nonce, sizeof nonce);
    for (size_t i = 0; i < 8; i++) nonce[11 - i] ^= (uint8_t)(sequence >> 8 * i);
    CHECK_STATUS(ac_aes256gcm_seal(&e.sender.aes, want, sizeof want, nonce, text, TEXT, NULL, 0), AC_OK);
    CHECK_STATUS(ac_hpke_seal(&e.sender, sealed, sizeof sealed, text, TEXT, NULL, 0), AC_OK);
    CHECK_EQUAL(sealed, want, sizeof want);
    CHECK(e.sender.sequence == sequence + 1);
  }
}

/* A length of two bytes is in the label. */
static void long_export(void) {
  enum { LEN = 300 };
  static const uint8_t length[2] = {LEN >> 8, LEN & 255};
  ends e = set_up();
  uint8_t id[10], got[LEN], want[LEN];
  aci_hmac_key prk;
  CHECK(unhex(id, "48504b45002000010002") == sizeof id);
  const aci_bytes secret = {e.sender.exporter_secret, AC_HASH_BYTES};
  const aci_bytes parts[] = {{length, 2}, {(const uint8_t *)"HPKE-v1", 7}, {id, 10}, {(const uint8_t *)"sec", 3}, {text, TEXT}};
  aci_hmac_key_init(&prk, &secret, 1);
  aci_hkdf_expand(want, LEN, &prk, parts, 5);
  CHECK_STATUS(ac_hpke_export(&e.sender, got, LEN, text, TEXT), AC_OK);
  CHECK_EQUAL(got, want, LEN);
}

static int is_gone(const ac_hpke *hpke) {
  return all_zero(&hpke->aes, sizeof hpke->aes) && all_zero(hpke->base_nonce, sizeof hpke->base_nonce) &&
         all_zero(hpke->exporter_secret, sizeof hpke->exporter_secret);
}

static void close_them(void) {
  ends e = set_up();
  ac_hpke never = {0};
  uint8_t out[SEALED];
  CHECK_STATUS(ac_hpke_close(&e.sender), AC_OK);
  e.recipient.generation++; /* inherited: a thread of this process is inside; and then one that only the parent has */
  CHECK(aci_enter(&e.recipient.busy));
  CHECK_STATUS(ac_hpke_close(&e.recipient), AC_ERR_BUSY);
  e.recipient.busy++;
  CHECK_STATUS(ac_hpke_close(&e.recipient), AC_OK);
  ac_hpke *const closed[3] = {&e.sender, &e.recipient, &never};
  for (size_t i = 0; i < 3; i++) {
    CHECK(is_gone(closed[i]) && closed[i]->busy == 0);
    closed[i]->generation = aci_generation();
    CHECK_STATUS(ac_hpke_seal(closed[i], out, sizeof out, text, TEXT, NULL, 0), AC_ERR_STATE);
    CHECK_STATUS(ac_hpke_open(closed[i], out, sizeof out, text, TEXT, NULL, 0), AC_ERR_STATE);
    CHECK_STATUS(ac_hpke_export(closed[i], out, sizeof out, NULL, 0), AC_ERR_STATE);
    CHECK_STATUS(ac_hpke_close(closed[i]), AC_OK);
  }
  e = set_up();
  ac_hpke_wipe(&e.sender);
  CHECK(is_gone(&e.sender) && e.sender.state == AC_STATE_CLOSED);
}

static void primitive_fails(void) {
  ends e = set_up();
  uint8_t out[SEALED];
  if (strcmp(ac_aes_backend_name(ac_aes_backend_default()), "sodium") != 0) return; /* ours cannot */
  fault_plant(IN_ENCRYPT, REFUSES, 0);
  CHECK_STATUS(ac_hpke_seal(&e.sender, out, sizeof out, text, TEXT, NULL, 0), AC_ERR_PRIMITIVE);
  CHECK(fault_struck() && is_gone(&e.sender) && e.sender.state == AC_STATE_FAILED);
  CHECK_STATUS(ac_hpke_seal(&e.sender, out, sizeof out, text, TEXT, NULL, 0), AC_ERR_STATE);
}

/* ---- protocol v2's schedules (docs/protocol-v2.md, sections 3 and 4) ---- */

static void v2_request(uint32_t suite) {
  uint8_t shared[AC_HASH_BYTES], key_id[AC_KEY_ID_BYTES], info[16 + AC_KEY_ID_BYTES] = "atoma/2 request";
  uint8_t nonce[AC_NONCE_BYTES], secret[AC_HASH_BYTES], want[AC_HASH_BYTES];
  ac_aes256gcm aes;
  ac_hpke hpke;
  for (size_t i = 0; i < sizeof shared; i++) shared[i] = (uint8_t)random_below(256);
  for (size_t i = 0; i < sizeof key_id; i++) info[16 + i] = key_id[i] = (uint8_t)random_below(256);
  CHECK_STATUS(aci_v2_request_schedule(&aes, nonce, secret, suite, shared, key_id), AC_OK);
  CHECK_STATUS(ac_hpke_setup_shared(&hpke, suite, 1, shared, info, sizeof info), AC_OK);
  CHECK_STATUS(ac_hpke_export(&hpke, want, sizeof want, (const uint8_t *)"atoma/2 response", 16), AC_OK);
  same_key(&aes, &hpke.aes);
  CHECK_EQUAL(nonce, hpke.base_nonce, sizeof nonce); /* of message 0 */
  CHECK_EQUAL(secret, want, sizeof want);
  CHECK_STATUS(aci_v2_request_schedule(&aes, nonce, secret, suite + 2, shared, key_id), AC_ERR_ARGUMENT);
}

static void v2_response(size_t enc_len) {
  uint8_t secret[AC_HASH_BYTES], both[AC_V2_MAX_ENC_BYTES + AC_V2_SALT_BYTES], key[AC_KEY_BYTES];
  uint8_t base[AC_NONCE_BYTES], want[AC_NONCE_BYTES];
  ac_aes256gcm aes, other;
  for (size_t i = 0; i < sizeof both; i++) both[i] = (uint8_t)random_below(256);
  for (size_t i = 0; i < sizeof secret; i++) secret[i] = (uint8_t)random_below(256);
  const size_t salt_len = enc_len + AC_V2_SALT_BYTES;
  CHECK_STATUS(aci_v2_response_schedule(&aes, base, secret, both, enc_len, both + enc_len), AC_OK);
  CHECK_STATUS(ac_hkdf_sha256(key, sizeof key, secret, sizeof secret, both, salt_len, (const uint8_t *)"key", 3), AC_OK);
  CHECK_STATUS(ac_hkdf_sha256(want, sizeof want, secret, sizeof secret, both, salt_len, (const uint8_t *)"nonce", 5),
               AC_OK);
  CHECK_STATUS(ac_aes256gcm_init(&other, key, ac_aes_backend_default()), AC_OK);
  same_key(&aes, &other);
  CHECK_EQUAL(base, want, sizeof base);
}

void test_hpke(void) {
  vector();
  schedule_by_hand(AC_SUITE_X25519, "48504b45002000010002");
  schedule_by_hand(AC_SUITE_XWING, "48504b45647a00010002");
  refuse_set_up();
  refuse_messages();
  sequences();
  long_export();
  close_them();
  primitive_fails();
  v2_request(AC_SUITE_X25519);
  v2_request(AC_SUITE_XWING);
  v2_response(AC_X25519_BYTES);
  v2_response(AC_V2_MAX_ENC_BYTES);
}
