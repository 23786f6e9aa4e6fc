/* The secrets that are planted, what follows of them, and what they are sealed into. */
#include "proofs.h"

#include <sodium.h>

enum { MASKED = 0xa7 };

brought in;
wires wire;
objects object;
const uint64_t v2_usage[AC_V2_USAGE] = {30, 9, 39};
uint8_t out[4 * TEXT];

static uint8_t kept[sizeof(brought)]; /* `in`, masked */

static const uint8_t *queued;
static size_t queued_len;

void queue_random(const void *p, size_t len) {
  queued = p;
  queued_len = len;
}

static void random_bytes(unsigned char *to, unsigned long long len) {
  if (len > queued_len) abort(); /* all that is random is planted */
  memcpy(to, queued, (size_t)len);
  queued += len;
  queued_len -= (size_t)len;
}

int start(const char *aes_backend) {
  static ac_sodium table;
  table = sodium_table;
  table.randombytes = random_bytes;
  return sodium_init() < 0 ? AC_ERR_PRIMITIVE : ac_init(&table, aes_backend);
}

size_t on_each_backend(int (*run)(size_t *calls), size_t *calls, int *bad) {
  size_t backends = 0;
  for (unsigned i = 0; start(NULL) == AC_OK && ac_aes_backend_name(i) != NULL; i++) {
    if (!ac_aes_backend_usable(i) || start(ac_aes_backend_name(i)) != AC_OK) continue;
    *bad |= run(calls);
    backends++;
  }
  /* once more with what a CPU without them has in place of SHA-256's instructions and of the wide registers */
  if (ac_cpu_mask("sha,avx2,vaes,vpclmulqdq,avx512") != AC_OK || start("portable") != AC_OK) abort();
  *bad |= run(calls);
  if (ac_cpu_mask("") != AC_OK) abort();
  return backends;
}

static void draw(uint8_t *p, size_t len) {
  for (size_t i = 0; i < len; i++) p[i] = (uint8_t)random_below(256);
}

void bring(void) {
  uint8_t *const p = (uint8_t *)&in;
  for (size_t i = 0; i < sizeof kept; i++) p[i] = kept[i] ^ MASKED;
}

void carry_off(void) { sodium_memzero(&in, sizeof in); }

/* As curve25519's multiplication of the base point writes a scalar: 64 digits from -8 to 7. They are as good as it. */
static void search_for_digits(const char *name, const uint8_t scalar[32]) {
  int8_t digits[64];
  int8_t carry = 0;
  for (size_t i = 0; i < 64; i++) {
    const int digit = (scalar[i / 2] >> 4 * (i % 2) & 15) + carry;
    carry = i < 63 && digit >= 8;
    digits[i] = (int8_t)(digit - 16 * carry);
  }
  search_for(name, digits, sizeof digits);
}

static void search_for_scalar(const char *name, const uint8_t secret[32]) {
  uint8_t clamped[32];
  memcpy(clamped, secret, sizeof clamped);
  clamped[0] &= 248;
  clamped[31] = (uint8_t)((clamped[31] & 127) | 64);
  search_for(name, secret, 32);
  search_for_digits(name, clamped);
}

/* And as X25519 has it before it writes bytes: five numbers of 51 bits. (libsodium's way where there are integers of 128
 * bits, as there are wherever this is run.) */
static void search_for_x25519(const char *name, const uint8_t shared[32]) {
  uint64_t limbs[5] = {0};
  for (size_t bit = 0; bit < 255; bit++) limbs[bit / 51] |= (uint64_t)(shared[bit / 8] >> bit % 8 & 1) << bit % 51;
  search_for(name, shared, 32);
  search_for(name, limbs, sizeof limbs);
}

static void search_for_expanded(const char *name, const ac_aes256gcm *aes) {
  search_for(name, aes->words, sizeof aes->words); /* whatever its backend makes of it: round keys, powers of H */
}

/* As every backend expands it: one works inside with what another keeps. */
static void search_for_key(const char *name, const uint8_t key[AC_KEY_BYTES]) {
  ac_aes256gcm aes;
  search_for(name, key, AC_KEY_BYTES);
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL; i++) {
    if (ac_aes256gcm_init(&aes, key, i) == AC_OK) search_for_expanded(name, &aes);
  }
}

/* What Ed25519 derives of its seed, and the secret number of a signature (RFC 8032, section 5.1.6). */
static void search_for_signature_of(const uint8_t *plaintext, size_t plaintext_len) {
  uint8_t hash[64], message[32 + AC_HASH_BYTES], number[64], reduced[32];
  (void)crypto_hash_sha512(hash, in.seed, sizeof in.seed);
  search_for("Ed25519's seed", in.seed, sizeof in.seed);
  search_for("Ed25519's prefix", hash + 32, 32);
  search_for_scalar("Ed25519's scalar", hash);
  memcpy(message, hash + 32, 32);
  (void)ac_blake2b256(message + 32, plaintext, plaintext_len);
  (void)crypto_hash_sha512(number, message, sizeof message);
  crypto_core_ed25519_scalar_reduce(reduced, number);
  search_for("a signature's number", number, sizeof number);
  search_for("a signature's number", reduced, sizeof reduced);
  search_for_digits("a signature's number", reduced);
}

static bytes exactly(const uint8_t *at, size_t len) { return bytes_copy(at, len); }

static void must(int status) {
  if (status != AC_OK) {
    printf("cannot plant: %d\n", status);
    exit(2);
  }
}

/* ---- v1 ---- */

static void v1(void) {
  aci_hmac_key prk, salt_key;
  const aci_bytes salt = {in.queue + AC_X25519_BYTES, AC_V1_SALT_BYTES};
  uint8_t shared[32], key[32];
  const aci_bytes ikm = {shared, sizeof shared};
  size_t len = 0;
  must(ac_x25519(shared, in.client, wire.node_public));
  search_for_x25519("v1's shared secret", shared);
  aci_hmac_key_init(&salt_key, &salt, 1);
  aci_hkdf_extract(&prk, &salt_key, &ikm, 1);
  search_for("v1's PRK", &prk, sizeof prk);
  aci_hkdf_expand(key, sizeof key, &prk, NULL, 0);
  search_for_key("v1's key", key);

  uint8_t *const room = out;
  queue_random(in.queue, sizeof in.queue);
  must(ac_v1_request_seal(&object.v1_opener, room, sizeof out, &len, wire.node_public, in.text, TEXT,
                          (const uint8_t *)"\"m\"", 3, 1, 0, 0, 1));
  wire.v1_request = exactly(room, len);
  const ac_v1_envelope envelope = envelope_of(viewed(&wire.v1_request));
  queue_random(wire.nonce, sizeof wire.nonce);
  must(ac_v1_request_open(&object.v1_sealer, room, sizeof out, &len, &in.pair, &in.signing, &envelope));
  const int64_t event_len = ac_v1_event_seal(&object.v1_sealer, room, sizeof out, in.text, TEXT);
  must(event_len < 0 ? (int)event_len : AC_OK);
  wire.v1_event = exactly(room, (size_t)event_len);
  const size_t whole = TEXT;
  must(ac_v1_events_seal(&object.v1_sealer, room, sizeof out, &len, in.text, TEXT, &whole, 1, (const uint8_t *)"{}", 2));
  wire.v1_next = exactly(room, len);
  must(ac_v1_reply_seal(&object.v1_sealer, room, sizeof out, &len, in.text, TEXT, NULL, 0));
  wire.v1_reply = exactly(room, len);
}

/* ---- HPKE and v2 ---- */

static void search_for_exporter(const char *name, const char *as_key, const uint8_t exporter[AC_HASH_BYTES]) {
  const aci_bytes part = {exporter, AC_HASH_BYTES};
  aci_hmac_key key;
  search_for(name, exporter, AC_HASH_BYTES);
  aci_hmac_key_init(&key, &part, 1);
  search_for(as_key, &key, sizeof key);
}

static void v2_suite(uint32_t suite, const uint8_t shared[AC_HASH_BYTES], const char *name) {
  ac_aes256gcm aes;
  aci_hmac_key shared_key;
  const aci_bytes part = {shared, AC_HASH_BYTES};
  uint8_t base[AC_NONCE_BYTES], exporter[AC_HASH_BYTES], response[AC_HASH_BYTES];
  const uint8_t request_info[16 + AC_KEY_ID_BYTES] = "atoma/2 request\0\1\2\3\4\5\6\7\10"; /* v2_key_id */
  search_for(name, shared, AC_HASH_BYTES);
  aci_hmac_key_init(&shared_key, &part, 1);
  search_for("HPKE's shared secret as a key of HMAC", &shared_key, sizeof shared_key);
  must(aci_hpke_schedule(&aes, base, exporter, suite, shared, wire.info, INFO));
  search_for_expanded("HPKE's expanded key", &aes);
  search_for_exporter("HPKE's exporter secret", "HPKE's exporter secret as a key of HMAC", exporter);
  must(aci_hpke_schedule(&aes, base, exporter, suite, shared, request_info, sizeof request_info));
  search_for_expanded("v2's expanded key of a request", &aes);
  search_for_exporter("v2's exporter secret", "v2's exporter secret as a key of HMAC", exporter);
  must(aci_v2_request_schedule(&aes, base, response, suite, shared, v2_key_id));
  search_for("v2's response secret", response, sizeof response);
  if (suite == AC_SUITE_X25519) memcpy(in.response, response, sizeof response);
}

static void v2_response(const uint8_t response[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len) {
  aci_hmac_key prk, salt_key;
  const aci_bytes salt[] = {{enc, enc_len}, {wire.salt, AC_V2_SALT_BYTES}}, ikm = {response, AC_HASH_BYTES};
  const aci_bytes label = {(const uint8_t *)"key", 3};
  uint8_t key[AC_KEY_BYTES];
  aci_hmac_key_init(&salt_key, salt, 2);
  aci_hkdf_extract(&prk, &salt_key, &ikm, 1);
  search_for("v2's PRK of a response", &prk, sizeof prk);
  aci_hkdf_expand(key, sizeof key, &prk, &label, 1);
  search_for_key("v2's key of a response", key);
}

static bytes v2_request(uint32_t suite) {
  const ac_v2_metadata metadata = v2_metadata(suite == AC_SUITE_X25519); /* X-Wing's is answered by an object */
  const int own = suite == AC_SUITE_X25519;
  size_t len = 0;
  if (own) queue_random(in.client, sizeof in.client);
  must(ac_v2_request_seal(&object.v2_opener, out, sizeof out, &len, suite, v2_key_id, own ? wire.node_public : NULL,
                          own ? NULL : in.xwing_shared, own ? NULL : wire.xwing_enc, own ? 0 : sizeof wire.xwing_enc,
                          &metadata, (const uint8_t *)"\"m\"", 3, in.text, TEXT));
  return exactly(out, len);
}

static void v2(void) {
  uint8_t shared[AC_HASH_BYTES], dh[32];
  size_t len = 0;
  must(ac_x25519(dh, in.client, wire.node_public));
  search_for_x25519("DHKEM's X25519", dh);
  must(aci_dhkem_decapsulate(shared, wire.client_public, &in.pair));
  v2_suite(AC_SUITE_XWING, in.xwing_shared, "X-Wing's shared secret");
  v2_suite(AC_SUITE_X25519, shared, "DHKEM's shared secret");
  v2_response(in.response, wire.client_public, AC_X25519_BYTES);
  must(ac_hpke_setup_sender(&object.hpke, dh, wire.node_public, wire.info, INFO, in.client));
  must(ac_hpke_seal(&object.hpke, wire.hpke_sealed, sizeof wire.hpke_sealed, in.text, TEXT, NULL, 0));
  wire.v2_request = v2_request(AC_SUITE_X25519);
  wire.v2_xwing_request = v2_request(AC_SUITE_XWING);
  /* X-Wing's answer, of whose keys the waiting opener knows the secret */
  v2_response(object.v2_opener.key.waiting.secret, wire.xwing_enc, sizeof wire.xwing_enc);
  queue_random(wire.salt, sizeof wire.salt);
  must(ac_v2_sealer_init(&object.v2_sealer, object.v2_opener.key.waiting.secret, wire.xwing_enc, sizeof wire.xwing_enc));
  must(ac_v2_object_seal(&object.v2_sealer, out, sizeof out, &len, AC_FLAG_WHOLE, in.text, TEXT, NULL));
  wire.v2_object = exactly(out, len);
  queue_random(wire.salt, sizeof wire.salt);
  must(ac_v2_sealer_init(&object.v2_sealer, in.response, wire.client_public, AC_X25519_BYTES));
  const int64_t event_len = ac_v2_event_seal(&object.v2_sealer, out, sizeof out, in.text, TEXT);
  must(event_len < 0 ? (int)event_len : AC_OK);
  wire.v2_event = exactly(out, (size_t)event_len);
  const int64_t next_len = ac_v2_event_seal(&object.v2_sealer, out, sizeof out, in.text, TEXT);
  must(next_len < 0 ? (int)next_len : AC_OK);
  wire.v2_next = exactly(out, (size_t)next_len);
  const size_t whole = TEXT;
  must(ac_v2_events_seal(&object.v2_sealer, out, sizeof out, &len, in.text, TEXT, &whole, 1, AC_FLAG_END, v2_usage));
  wire.v2_last = exactly(out, len);
  queue_random(wire.salt, sizeof wire.salt);
  must(ac_v2_sealer_init(&object.v2_sealer, in.response, wire.client_public, AC_X25519_BYTES));
  must(ac_v2_record_seal(&object.v2_sealer, wire.record, sizeof wire.record, AC_FLAG_MORE, in.text, TEXT, NULL));
}

/* ---- all of it ---- */

static void plant_inside(void) {
  uint8_t digest[AC_HASH_BYTES];
  aci_hmac_key salt_key, prk;
  memset(&wire, 0, sizeof wire);
  draw((uint8_t *)&in, offsetof(brought, pair));
  memcpy(in.queue, in.client, sizeof in.client);
  draw(wire.nonce, sizeof wire.nonce);
  draw(wire.salt, sizeof wire.salt);
  draw(wire.xwing_enc, sizeof wire.xwing_enc);
  draw(wire.info, sizeof wire.info);
  must(ac_secret_key_from_bytes(&in.pair, in.node));
  must(ac_signing_key_from_seed(&in.signing, in.seed));
  must(ac_x25519_public(wire.client_public, in.client));
  memcpy(wire.node_public, in.pair.public_key, sizeof wire.node_public);
  search_for_scalar("the node's secret key", in.node);
  search_for_scalar("the client's secret key", in.client);
  search_for("the plaintext", in.text, TEXT);
  search_for_signature_of(in.text, TEXT);
  search_for_key("a key of AES", in.key);
  must(ac_hkdf_sha256(digest, sizeof digest, in.key, sizeof in.key, wire.salt, sizeof wire.salt, wire.info, INFO));
  search_for("what HKDF gives", digest, sizeof digest);
  const aci_bytes salt = {wire.salt, sizeof wire.salt}, ikm = {in.key, sizeof in.key};
  aci_hmac_key_init(&salt_key, &salt, 1);
  aci_hkdf_extract(&prk, &salt_key, &ikm, 1);
  search_for("HKDF's PRK", &prk, sizeof prk);
  v1();
  v2();
}

void plant(void) {
  bytes *const texts[] = {&wire.v1_request, &wire.v1_event, &wire.v1_next, &wire.v1_reply, &wire.v2_request,
                          &wire.v2_xwing_request, &wire.v2_event, &wire.v2_next, &wire.v2_last, &wire.v2_object};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) bytes_free(texts[i]);
  search_forget();
  on_own_stack(plant_inside);
  const uint8_t *const p = (const uint8_t *)&in;
  for (size_t i = 0; i < sizeof kept; i++) kept[i] = p[i] ^ MASKED;
  /* what planting itself has left */
  carry_off();
  sodium_memzero(&object, sizeof object);
  sodium_memzero(out, sizeof out);
  own_stack_clear();
}
