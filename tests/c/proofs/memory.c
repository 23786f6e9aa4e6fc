/* No secret is left in memory: each function is run to its end and to each of its refusals, its objects are wiped by their
 * own functions, and then all of the process's writable memory is searched for what was planted and what follows of it:
 * the heap, the data, the stack that the calls have used.
 *
 * Not looked for: nonces, which are sent or are worth nothing without their key. */
#include "proofs.h"

#include <sodium.h>

static int status;
static size_t out_len;

/* ---- what goes wrong, if anything ---- */

enum { NOTHING = 0, FORGED = 1, OTHER_KEY = 2, ZERO_POINT = 4, WRONG_HASH = 8, NO_ROOM = 16, MALFORMED = 32 };
static unsigned wrong;

static bytes spoiled(const bytes *text) {
  bytes copy = bytes_copy(text->at, text->len);
  const view c = member(viewed(&copy), "ciphertext");
  uint8_t *const at = copy.at + (c.at - copy.at) + c.len / 2;
  if (wrong & FORGED) *at = *at == 'A' ? 'B' : 'A';
  if (wrong & MALFORMED) *at = '!';
  const view h = member(viewed(&copy), "response_hash"), b = member(viewed(&copy), "plaintext_body_hash");
  const view hash = h.len != 0 ? h : b;
  if (wrong & WRONG_HASH) copy.at[hash.at - copy.at] = hash.at[0] == 'A' ? 'B' : 'A';
  return copy;
}

static size_t room(void) { return wrong & NO_ROOM ? 1 : sizeof out; }

static const uint8_t zero[AC_V2_MAX_ENC_BYTES];

static const uint8_t *peer(const uint8_t *point) { return wrong & ZERO_POINT ? zero : point; }

/* ---- L0 and keys ---- */

static void key_from_bytes(void) {
  status = ac_secret_key_from_bytes(&object.key, in.node);
  ac_secret_key_wipe(&object.key);
}

static void key_generate(void) {
  queue_random(in.client, sizeof in.client);
  status = ac_secret_key_generate(&object.key);
  ac_secret_key_wipe(&object.key);
}

static void signing_from_seed(void) {
  status = ac_signing_key_from_seed(&object.signing, in.seed);
  ac_signing_key_wipe(&object.signing);
}

static void signing_generate(void) {
  queue_random(in.seed, sizeof in.seed);
  status = ac_signing_key_generate(&object.signing);
  ac_signing_key_wipe(&object.signing);
}

static void x25519_public(void) { status = ac_x25519_public(out, in.client); }
static void x25519(void) { status = ac_x25519(out, in.client, peer(wire.node_public)); }

static void hkdf(void) {
  status = ac_hkdf_sha256(out, 32, in.key, sizeof in.key, wire.salt, sizeof wire.salt, wire.info, INFO);
}

static void sha256(void) {
  ac_sha256(out, in.text, TEXT);
  status = AC_OK;
}

static void blake2b(void) { status = ac_blake2b256(out, in.text, TEXT); }

static void aes_seal(void) {
  status = ac_aes256gcm_init(&object.aes, in.key, ac_aes_backend_default());
  if (status == AC_OK) status = ac_aes256gcm_seal(&object.aes, out, room(), wire.nonce, in.text, TEXT, NULL, 0);
  ac_aes256gcm_wipe(&object.aes);
}

static void aes_open(void) {
  uint8_t sealed[sizeof wire.sealed];
  memcpy(sealed, wire.sealed, sizeof sealed);
  if (wrong & FORGED) sealed[TEXT / 2] ^= 1;
  status = ac_aes256gcm_init(&object.aes, in.key, ac_aes_backend_default());
  if (status == AC_OK) status = ac_aes256gcm_open(&object.aes, out, room(), wire.nonce, sealed, sizeof sealed, NULL, 0);
  ac_aes256gcm_wipe(&object.aes);
}

/* ---- v1 ---- */

static int v1_opener(size_t cap, const uint8_t *node_public) {
  queue_random(in.queue, sizeof in.queue);
  return ac_v1_request_seal(&object.v1_opener, out, cap, &out_len, node_public, in.text, TEXT, (const uint8_t *)"\"m\"", 3,
                            1, 0, 0, 1);
}

static void v1_request_seal(void) {
  status = v1_opener(room(), peer(wire.node_public));
  ac_v1_opener_wipe(&object.v1_opener);
}

static void v1_request_open(void) {
  bytes text = spoiled(&wire.v1_request);
  ac_v1_envelope envelope = envelope_of(viewed(&text));
  if (wrong & OTHER_KEY) envelope.node_public = envelope.client_public;
  if (wrong & ZERO_POINT) envelope.client_public = (const uint8_t *)"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  queue_random(wire.nonce, sizeof wire.nonce);
  status = ac_v1_request_open(&object.v1_sealer, out, room(), &out_len, &in.pair, &in.signing, &envelope);
  ac_v1_sealer_wipe(&object.v1_sealer);
  bytes_free(&text);
}

/* ---- each seal by a node's sealer, and each way to open what it gave ---- */

static int v1_sealer(void) {
  const ac_v1_envelope envelope = envelope_of(viewed(&wire.v1_request));
  queue_random(wire.nonce, sizeof wire.nonce);
  const int made = ac_v1_request_open(&object.v1_sealer, out, sizeof out, &out_len, &in.pair, &in.signing, &envelope);
  sodium_memzero(out, sizeof out); /* the body, which the caller has now */
  return made;
}

static void v1_seal_with(int (*seal)(void)) {
  status = v1_sealer();
  if (status == AC_OK) status = seal();
  if (ac_v1_sealer_close(&object.v1_sealer) != AC_OK) abort();
}

static int v1_event(void) {
  const int64_t len = ac_v1_event_seal(&object.v1_sealer, out, room(), in.text, TEXT);
  return len < 0 ? (int)len : AC_OK;
}

static int v1_events(void) {
  const size_t lens[] = {TEXT - 100, 100};
  return ac_v1_events_seal(&object.v1_sealer, out, room(), &out_len, in.text, TEXT, lens, 2, NULL, 0);
}

static int v1_reply(void) {
  return ac_v1_reply_seal(&object.v1_sealer, out, room(), &out_len, in.text, TEXT, NULL, 0);
}

static void v1_event_seal(void) { v1_seal_with(v1_event); }
static void v1_events_seal(void) { v1_seal_with(v1_events); }
static void v1_reply_seal(void) { v1_seal_with(v1_reply); }

static void v1_open_with(const bytes *text, int (*open)(const bytes *text)) {
  bytes copy = spoiled(text);
  status = v1_opener(sizeof out, wire.node_public);
  if (status == AC_OK) status = open(&copy);
  if (ac_v1_opener_close(&object.v1_opener) != AC_OK) abort();
  bytes_free(&copy);
}

static int v1_open_events(const bytes *text) {
  ac_v1_events events = {.opener = &object.v1_opener, .out = out, .out_cap = room(), .event_cap = 2};
  const int64_t opened = ac_v1_events_open(&events, text->at, text->len);
  return opened >= AC_ONE ? AC_OK : (int)opened;
}

static int v1_open_members(const bytes *text) {
  const view c = member(viewed(text), "ciphertext"), n = member(viewed(text), "nonce"), h = member(viewed(text), "response_hash");
  return ac_v1_sealed_open(&object.v1_opener, out, room(), &out_len, c.at, c.len, n.at, n.len, h.at, h.len);
}

static int v1_open_reply(const bytes *text) {
  size_t usage[2];
  return ac_v1_reply_open(&object.v1_opener, out, room(), &out_len, &usage[0], &usage[1], text->at, text->len);
}

static void v1_events_open(void) { v1_open_with(&wire.v1_event, v1_open_events); }
static void v1_sealed_open(void) { v1_open_with(&wire.v1_event, v1_open_members); }
static void v1_reply_open(void) { v1_open_with(&wire.v1_reply, v1_open_reply); }

/* ---- HPKE ---- */

static int hpke_sender(void) {
  queue_random(in.client, sizeof in.client);
  return ac_hpke_setup_sender(&object.hpke, out, peer(wire.node_public), wire.info, INFO, NULL);
}

static int hpke_recipient(void) {
  return ac_hpke_setup_recipient(&object.hpke, peer(wire.client_public), &in.pair, wire.info, INFO);
}

static void hpke_then(int made, int (*then)(void)) {
  status = made == AC_OK ? then() : made;
  if (made == AC_OK ? ac_hpke_close(&object.hpke) != AC_OK : !all_zero(&object.hpke, sizeof object.hpke)) abort();
}

static int hpke_sealed(void) { return ac_hpke_seal(&object.hpke, out, room(), in.text, TEXT, NULL, 0); }

static int hpke_opened(void) {
  uint8_t sealed[sizeof wire.hpke_sealed];
  memcpy(sealed, wire.hpke_sealed, sizeof sealed);
  if (wrong & FORGED) sealed[TEXT] ^= 1;
  return ac_hpke_open(&object.hpke, out, room(), sealed, sizeof sealed, NULL, 0);
}

static int hpke_exported(void) {
  static const char response[] = "atoma/2 response"; /* of this context it is another secret than v2's */
  const int done = ac_hpke_export(&object.hpke, out, 64, (const uint8_t *)response, sizeof response - 1);
  sodium_memzero(out, 64);
  return done;
}

static void hpke_seal(void) { hpke_then(hpke_sender(), hpke_sealed); }
static void hpke_open(void) { hpke_then(hpke_recipient(), hpke_opened); }
static void hpke_export(void) { hpke_then(hpke_recipient(), hpke_exported); }

static void hpke_shared(void) {
  const uint32_t suite = wrong & MALFORMED ? 9 : AC_SUITE_XWING;
  hpke_then(ac_hpke_setup_shared(&object.hpke, suite, 1, in.xwing_shared, wire.info, INFO), hpke_sealed);
}

/* ---- v2 ---- */

static ac_v2_metadata metadata; /* public */

static int v2_opener(uint32_t suite, size_t cap, const uint8_t *node_public) {
  const int own = suite == AC_SUITE_X25519;
  metadata = v2_metadata(own);
  queue_random(in.client, own ? sizeof in.client : 0);
  return ac_v2_request_seal(&object.v2_opener, out, cap, &out_len, suite, v2_key_id, own ? node_public : NULL,
                            own ? NULL : in.xwing_shared, own ? NULL : wire.xwing_enc, own ? 0 : sizeof wire.xwing_enc,
                            &metadata, (const uint8_t *)"\"m\"", 3, in.text, TEXT);
}

static void v2_seals_request(void) {
  status = v2_opener(AC_SUITE_X25519, room(), peer(wire.node_public));
  ac_v2_opener_wipe(&object.v2_opener);
}

static void v2_xwing_request_seal(void) {
  status = v2_opener(AC_SUITE_XWING, room(), NULL);
  ac_v2_opener_wipe(&object.v2_opener);
}

static int v2_sealer(uint32_t suite, const bytes *text) {
  const int own = suite == AC_SUITE_X25519;
  const view c = member(viewed(text), "ciphertext");
  const uint8_t *const enc = own ? peer(wire.client_public) : wire.xwing_enc;
  uint8_t key_id[AC_KEY_ID_BYTES];
  memcpy(key_id, v2_key_id, sizeof key_id);
  if (wrong & OTHER_KEY) key_id[0] ^= 1; /* what a node finds by it is not what the client has sealed to */
  metadata = v2_metadata(own);
  queue_random(wire.salt, sizeof wire.salt);
  return ac_v2_request_open(&object.v2_sealer, out, room(), &out_len, suite, key_id, own ? &in.pair : NULL,
                            own ? NULL : in.xwing_shared, enc, own ? AC_X25519_BYTES : sizeof wire.xwing_enc, c.at, c.len,
                            &metadata);
}

static void v2_open_request(uint32_t suite, const bytes *request) {
  bytes text = spoiled(request);
  status = v2_sealer(suite, &text);
  if (ac_v2_sealer_close(&object.v2_sealer) != AC_OK) abort();
  bytes_free(&text);
}

static void v2_opens_request(void) { v2_open_request(AC_SUITE_X25519, &wire.v2_request); }
static void v2_xwing_request_open(void) { v2_open_request(AC_SUITE_XWING, &wire.v2_xwing_request); }

/* A sealer as embedders make it; with nothing done by it, it is wiped in the state that it was made in. */
static void v2_seal_with(int (*seal)(void)) {
  queue_random(wire.salt, sizeof wire.salt);
  status = ac_v2_sealer_init(&object.v2_sealer, in.response, wire.client_public, wrong & MALFORMED ? 0 : AC_X25519_BYTES);
  if (status == AC_OK && seal != NULL) status = seal();
  ac_v2_sealer_wipe(&object.v2_sealer);
}

static int v2_record(void) { return ac_v2_record_seal(&object.v2_sealer, out, room(), AC_FLAG_END, in.text, TEXT, NULL); }

static int v2_events(void) {
  const size_t lens[] = {TEXT - 1, 1};
  const int64_t len = ac_v2_event_seal(&object.v2_sealer, out, room(), in.text, TEXT);
  if (len < 0) return (int)len;
  return ac_v2_events_seal(&object.v2_sealer, out, room(), &out_len, in.text, TEXT, lens, 2, AC_FLAG_ABORT, NULL);
}

static int v2_object(void) {
  return ac_v2_object_seal(&object.v2_sealer, out, room(), &out_len, AC_FLAG_WHOLE, in.text, TEXT, NULL);
}

static void v2_sealer_init(void) { v2_seal_with(NULL); }
static void v2_record_seal(void) { v2_seal_with(v2_record); }
static void v2_events_seal(void) { v2_seal_with(v2_events); }
static void v2_object_seal(void) { v2_seal_with(v2_object); }

static void v2_record_open(void) {
  uint8_t sealed[sizeof wire.record];
  memcpy(sealed, wire.record, sizeof sealed);
  if (wrong & FORGED) sealed[TEXT] ^= 1;
  status = ac_v2_opener_init(&object.v2_opener, in.response, wire.client_public, AC_X25519_BYTES, wire.salt);
  const uint32_t flag = wrong & MALFORMED ? 9 : AC_FLAG_MORE;
  if (status == AC_OK) status = ac_v2_record_open(&object.v2_opener, out, room(), flag, sealed, sizeof sealed, NULL);
  ac_v2_opener_wipe(&object.v2_opener);
}

static void v2_open_with(uint32_t suite, const bytes *text, int (*open)(const bytes *text)) {
  bytes copy = spoiled(text);
  status = v2_opener(suite, sizeof out, wire.node_public);
  if (status == AC_OK) status = open(&copy);
  if (ac_v2_opener_close(&object.v2_opener) != AC_OK) abort();
  bytes_free(&copy);
}

static int v2_open_events(const bytes *text) {
  ac_v2_events events = {.opener = &object.v2_opener, .out = out, .out_cap = room(), .event_cap = 2};
  const int64_t opened = ac_v2_events_open(&events, text->at, text->len);
  return opened >= AC_ONE ? AC_OK : (int)opened;
}

static int v2_open_members(const bytes *text) {
  const view c = member(viewed(text), "ciphertext"), s = member(viewed(text), "salt");
  return ac_v2_sealed_open(&object.v2_opener, out, room(), &out_len, 1, AC_FLAG_MORE, c.at, c.len, s.at, s.len, NULL);
}

static int v2_open_object(const bytes *text) {
  uint64_t span[AC_V2_SPAN];
  return ac_v2_object_open(&object.v2_opener, out, room(), &out_len, span, text->at, text->len);
}

static int v2_open_nothing(const bytes *text) { return text->len != 0 ? AC_OK : AC_PUNT; } /* closed while it waits */

static void v2_waits(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_event, v2_open_nothing); }
static void v2_opens_events(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_event, v2_open_events); }
static void v2_sealed_open(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_event, v2_open_members); }
static void v2_object_open(void) { v2_open_with(AC_SUITE_XWING, &wire.v2_object, v2_open_object); }

/* ---- what must be found, or nothing above shows anything ---- */

static void leaves_on_stack(void) {
  volatile uint8_t copy[32];
  for (size_t i = 0; i < sizeof copy; i++) copy[i] = in.key[i];
  status = AC_OK;
}

static uint8_t *heap;

static void leaves_on_heap(void) {
  if (heap == NULL && (heap = malloc(100)) == NULL) abort();
  memcpy(heap + 61, in.client + 3, 20);
  status = AC_OK;
}

static void leaves_in_data(void) {
  memcpy(out, in.text + 301, 9);
  status = AC_OK;
}

static void leaves_an_object(void) { status = ac_aes256gcm_init(&object.aes, in.key, ac_aes_backend_default()); }

/* libsodium itself: the digits of the secret scalar stay on the stack. */
static void leaves_digits(void) {
  uint8_t public_key[AC_SIGN_PUBLIC_BYTES];
  status = sodium_table.sign_seed_keypair(public_key, object.signing.secret, in.seed) == 0 ? AC_OK : AC_PUNT;
  sodium_memzero(&object.signing, sizeof object.signing);
}

/* ---- the cases ---- */

typedef struct act {
  void (*run)(void);
  const char *name;
  int want;
  unsigned wrong;
  primitive in; /* where libsodium refuses */
  unsigned after;
  int gives_plaintext, is_control;
} act;

#define ACT(function, ...) {.run = function, .name = #function, .want = __VA_ARGS__}

static const act acts[] = {
    ACT(key_from_bytes, AC_OK), ACT(key_from_bytes, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(key_generate, AC_OK), ACT(key_generate, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(signing_from_seed, AC_OK), ACT(signing_from_seed, AC_ERR_PRIMITIVE, .in = IN_SIGN_KEYPAIR),
    ACT(signing_generate, AC_OK), ACT(signing_generate, AC_ERR_PRIMITIVE, .in = IN_SIGN_KEYPAIR),
    ACT(x25519_public, AC_OK), ACT(x25519, AC_OK, .gives_plaintext = 1), ACT(x25519, AC_ERR_KEY, .wrong = ZERO_POINT),
    ACT(x25519, AC_ERR_KEY, .in = IN_SCALARMULT), ACT(hkdf, AC_OK, .gives_plaintext = 1), ACT(sha256, AC_OK),
    ACT(blake2b, AC_OK), ACT(blake2b, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B),
    ACT(aes_seal, AC_OK), ACT(aes_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(aes_open, AC_OK, .gives_plaintext = 1),
    ACT(aes_open, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(aes_open, AC_ERR_AUTH, .wrong = FORGED),

    ACT(v1_request_seal, AC_OK), ACT(v1_request_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_request_seal, AC_ERR_KEY, .wrong = ZERO_POINT), ACT(v1_request_seal, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(v1_request_seal, AC_ERR_KEY, .in = IN_SCALARMULT), ACT(v1_request_seal, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B),
    ACT(v1_request_open, AC_OK, .gives_plaintext = 1), ACT(v1_request_open, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_request_open, AC_ERR_FORMAT, .wrong = MALFORMED), ACT(v1_request_open, AC_ERR_AUTH, .wrong = OTHER_KEY),
    ACT(v1_request_open, AC_ERR_AUTH, .wrong = ZERO_POINT), ACT(v1_request_open, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v1_request_open, AC_ERR_AUTH, .wrong = WRONG_HASH), ACT(v1_request_open, AC_ERR_AUTH, .in = IN_SCALARMULT),
    ACT(v1_request_open, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B),
    ACT(v1_event_seal, AC_OK), ACT(v1_event_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_event_seal, AC_ERR_PRIMITIVE, .in = IN_SIGN), ACT(v1_event_seal, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B, .after = 1),
    ACT(v1_events_seal, AC_OK), ACT(v1_events_seal, AC_ERR_PRIMITIVE, .in = IN_SIGN, .after = 1),
    ACT(v1_reply_seal, AC_OK), ACT(v1_reply_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_reply_seal, AC_ERR_PRIMITIVE, .in = IN_SIGN),
    ACT(v1_events_open, AC_OK, .gives_plaintext = 1), ACT(v1_events_open, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_events_open, AC_PUNT, .wrong = MALFORMED), ACT(v1_events_open, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v1_events_open, AC_ERR_AUTH, .wrong = WRONG_HASH), ACT(v1_events_open, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B, .after = 1),
    ACT(v1_sealed_open, AC_OK, .gives_plaintext = 1), ACT(v1_sealed_open, AC_ERR_FORMAT, .wrong = MALFORMED),
    ACT(v1_sealed_open, AC_ERR_AUTH, .wrong = FORGED), ACT(v1_sealed_open, AC_ERR_AUTH, .wrong = WRONG_HASH),
    ACT(v1_reply_open, AC_OK, .gives_plaintext = 1), ACT(v1_reply_open, AC_PUNT, .wrong = MALFORMED),
    ACT(v1_reply_open, AC_ERR_AUTH, .wrong = FORGED), ACT(v1_reply_open, AC_ERR_AUTH, .wrong = WRONG_HASH),

    ACT(hpke_seal, AC_OK), ACT(hpke_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(hpke_seal, AC_ERR_KEY, .wrong = ZERO_POINT),
    ACT(hpke_seal, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE), ACT(hpke_open, AC_OK, .gives_plaintext = 1),
    ACT(hpke_open, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(hpke_open, AC_ERR_AUTH, .wrong = ZERO_POINT),
    ACT(hpke_open, AC_ERR_AUTH, .wrong = FORGED), ACT(hpke_export, AC_OK), ACT(hpke_shared, AC_OK),
    ACT(hpke_shared, AC_ERR_ARGUMENT, .wrong = MALFORMED),

    ACT(v2_seals_request, AC_OK), ACT(v2_seals_request, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_seals_request, AC_ERR_KEY, .wrong = ZERO_POINT), ACT(v2_seals_request, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(v2_seals_request, AC_ERR_KEY, .in = IN_SCALARMULT), ACT(v2_xwing_request_seal, AC_OK),
    ACT(v2_opens_request, AC_OK, .gives_plaintext = 1), ACT(v2_opens_request, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_opens_request, AC_ERR_FORMAT, .wrong = MALFORMED), ACT(v2_opens_request, AC_ERR_AUTH, .wrong = OTHER_KEY),
    ACT(v2_opens_request, AC_ERR_AUTH, .wrong = ZERO_POINT), ACT(v2_opens_request, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v2_xwing_request_open, AC_OK, .gives_plaintext = 1), ACT(v2_xwing_request_open, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v2_sealer_init, AC_OK), ACT(v2_sealer_init, AC_ERR_ARGUMENT, .wrong = MALFORMED),
    ACT(v2_record_seal, AC_OK), ACT(v2_record_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(v2_events_seal, AC_OK),
    ACT(v2_events_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(v2_object_seal, AC_OK), ACT(v2_object_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_record_open, AC_OK, .gives_plaintext = 1), ACT(v2_record_open, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_record_open, AC_ERR_FORMAT, .wrong = MALFORMED), ACT(v2_record_open, AC_ERR_AUTH, .wrong = FORGED), ACT(v2_waits, AC_OK),
    ACT(v2_opens_events, AC_OK, .gives_plaintext = 1), ACT(v2_opens_events, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_opens_events, AC_PUNT, .wrong = MALFORMED), ACT(v2_opens_events, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v2_sealed_open, AC_OK, .gives_plaintext = 1), ACT(v2_sealed_open, AC_ERR_FORMAT, .wrong = MALFORMED),
    ACT(v2_sealed_open, AC_ERR_AUTH, .wrong = FORGED), ACT(v2_object_open, AC_OK, .gives_plaintext = 1),
    ACT(v2_object_open, AC_PUNT, .wrong = MALFORMED), ACT(v2_object_open, AC_ERR_AUTH, .wrong = FORGED),
};

static const act controls[] = {
    ACT(leaves_on_stack, AC_OK, .is_control = 1), ACT(leaves_on_heap, AC_OK, .is_control = 1),
    ACT(leaves_in_data, AC_OK, .is_control = 1), ACT(leaves_an_object, AC_OK, .is_control = 1),
    ACT(leaves_digits, AC_OK, .is_control = 1)};

/* Places where something was left. */
static size_t left_by(const act *a, int *bad) {
  char what[200];
  (void)snprintf(what, sizeof what, "%s, %s, to end with %d", ac_aes_backend_name(ac_aes_backend_default()), a->name, a->want);
  bring();
  wrong = a->wrong;
  status = AC_PUNT - 99;
  fault_plant(a->in, REFUSES, a->after);
  on_own_stack(a->run);
  if (status != a->want || (a->in != NOWHERE && !fault_struck())) {
    printf("%s: it ended with %d\n", what, status);
    *bad = 1;
  }
  fault_plant(NOWHERE, REFUSES, 0);
  carry_off();
  if (a->gives_plaintext && status == AC_OK) sodium_memzero(out, sizeof out);
  const size_t left = search_all(a->is_control ? NULL : what);
  if (heap != NULL) sodium_memzero(heap, 100);
  sodium_memzero(&object, sizeof object); /* one that leaves something is one complaint */
  sodium_memzero(out, sizeof out);
  return left;
}

static int run_all(void) {
  int bad = 0;
  plant();
  if (search_all("planting") != 0) return 1; /* nothing would mean anything */
  for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
    if (left_by(&controls[i], &bad) != 0) continue;
    printf("%s was not found\n", controls[i].name);
    bad = 1;
  }
  for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) bad |= left_by(&acts[i], &bad) != 0;
  return bad;
}

int main(void) {
  int bad = 0;
  size_t backends = 0;
  for (unsigned i = 0; start(NULL) == AC_OK && ac_aes_backend_name(i) != NULL; i++) {
    if (!ac_aes_backend_usable(i) || start(ac_aes_backend_name(i)) != AC_OK) continue;
    bad |= run_all();
    backends++;
  }
  printf("memory searched behind %zu calls on %zu backends; up to %zu bytes of stack, libsodium's with it\n",
         sizeof acts / sizeof acts[0], backends, own_stack_depth());
  return bad || backends < 2;
}
