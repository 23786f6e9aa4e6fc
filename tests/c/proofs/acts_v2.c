/* Protocol v2: each call to its end and to each refusal; its objects are then wiped. */
#include "acts.h"

/* ---- v2 ---- */

static ac_v2_metadata metadata; /* public */

static int v2_opener(uint32_t suite, size_t cap, const uint8_t *node_public) {
  const int own = suite == AC_SUITE_X25519;
  metadata = v2_metadata(own);
  queue_random(in.client, own ? sizeof in.client : 0);
  return (int)LOOK(ac_v2_request_seal(&object.v2_opener, out, cap, &out_len, suite, v2_key_id, own ? node_public : NULL,
                            own ? NULL : in.xwing_shared, own ? NULL : wire.xwing_enc, own ? 0 : sizeof wire.xwing_enc,
                            &metadata, (const uint8_t *)"\"m\"", 3, in.text, TEXT));
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
  return (int)LOOK(ac_v2_request_open(&object.v2_sealer, out, room(), &out_len, suite, key_id, own ? &in.pair : NULL,
                            own ? NULL : in.xwing_shared, enc, own ? AC_X25519_BYTES : sizeof wire.xwing_enc, c.at, c.len,
                            &metadata));
}

static void v2_open_request(uint32_t suite, const bytes *request) {
  bytes text = spoiled(request);
  status = v2_sealer(suite, &text);
  if (ac_v2_sealer_close(&object.v2_sealer) != AC_OK) abort();
}

static void v2_opens_request(void) { v2_open_request(AC_SUITE_X25519, &wire.v2_request); }
static void v2_xwing_request_open(void) { v2_open_request(AC_SUITE_XWING, &wire.v2_xwing_request); }

/* A sealer as embedders make it; with nothing done by it, it is wiped in the state that it was made in. */
static void v2_seal_with(int (*seal)(void)) {
  queue_random(wire.salt, sizeof wire.salt);
  status = (int)LOOK(ac_v2_sealer_init(&object.v2_sealer, in.response, wire.client_public, wrong & MALFORMED ? 0 : AC_X25519_BYTES));
  if (status == AC_OK && seal != NULL) status = seal();
  ac_v2_sealer_wipe(&object.v2_sealer);
}

static int v2_record(void) { return (int)LOOK(ac_v2_record_seal(&object.v2_sealer, out, room(), AC_FLAG_END, in.text, TEXT, NULL)); }

static int v2_events(void) {
  const size_t lens[] = {TEXT - 1, 1};
  const int64_t len = LOOK(ac_v2_event_seal(&object.v2_sealer, out, room(), in.text, TEXT));
  if (len < 0) return (int)len;
  return (int)LOOK(ac_v2_events_seal(&object.v2_sealer, out, room(), &out_len, in.text, TEXT, lens, 2, AC_FLAG_ABORT, NULL));
}

static int v2_object(void) {
  return (int)LOOK(ac_v2_object_seal(&object.v2_sealer, out, room(), &out_len, AC_FLAG_WHOLE, in.text, TEXT, NULL));
}

static void v2_sealer_init(void) { v2_seal_with(NULL); }
static void v2_record_seal(void) { v2_seal_with(v2_record); }
static void v2_events_seal(void) { v2_seal_with(v2_events); }
static void v2_object_seal(void) { v2_seal_with(v2_object); }

static void v2_record_open(void) {
  uint8_t sealed[sizeof wire.record];
  memcpy(sealed, wire.record, sizeof sealed);
  if (wrong & FORGED) sealed[TEXT] ^= 1;
  status = (int)LOOK(ac_v2_opener_init(&object.v2_opener, in.response, wire.client_public, AC_X25519_BYTES, wire.salt));
  const uint32_t flag = wrong & MALFORMED ? 9 : AC_FLAG_MORE;
  if (status == AC_OK) status = (int)LOOK(ac_v2_record_open(&object.v2_opener, out, room(), flag, sealed, sizeof sealed, NULL));
  ac_v2_opener_wipe(&object.v2_opener);
}

static void v2_open_with(uint32_t suite, const bytes *text, int (*open)(const bytes *text)) {
  bytes copy = spoiled(text);
  status = v2_opener(suite, sizeof out, wire.node_public);
  if (status == AC_OK) status = open(&copy);
  if (ac_v2_opener_close(&object.v2_opener) != AC_OK) abort();
}

static int v2_open_events(const bytes *text) {
  ac_v2_events events = {.opener = &object.v2_opener, .out = out, .out_cap = room(), .event_cap = 2};
  const int64_t opened = LOOK(ac_v2_events_open(&events, text->at, text->len));
  return opened >= AC_ONE ? AC_OK : (int)opened;
}

static int v2_open_members(const bytes *text) {
  const view c = member(viewed(text), "ciphertext"), s = member(viewed(text), "salt");
  return (int)LOOK(ac_v2_sealed_open(&object.v2_opener, out, room(), &out_len, 1, AC_FLAG_MORE, c.at, c.len, s.at, s.len, NULL));
}

static int v2_open_object(const bytes *text) {
  uint64_t span[AC_V2_SPAN];
  return (int)LOOK(ac_v2_object_open(&object.v2_opener, out, room(), &out_len, span, text->at, text->len));
}

static int v2_open_nothing(const bytes *text) { return text->len != 0 ? AC_OK : AC_PUNT; } /* closed while it waits */

static void v2_waits(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_event, v2_open_nothing); }
static void v2_opens_events(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_event, v2_open_events); }
static void v2_sealed_open(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_event, v2_open_members); }
static void v2_object_open(void) { v2_open_with(AC_SUITE_XWING, &wire.v2_object, v2_open_object); }

/* ---- the acts ---- */

static const act acts[] = {
    ACT(v2_seals_request, AC_OK), ACT(v2_seals_request, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_seals_request, AC_ERR_KEY, .wrong = ZERO_POINT), ACT(v2_seals_request, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(v2_seals_request, AC_ERR_KEY, .in = IN_SCALARMULT), ACT(v2_xwing_request_seal, AC_OK),
    ACT(v2_opens_request, AC_OK, .gives_secret = 1), ACT(v2_opens_request, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_opens_request, AC_ERR_FORMAT, .wrong = MALFORMED), ACT(v2_opens_request, AC_ERR_AUTH, .wrong = OTHER_KEY),
    ACT(v2_opens_request, AC_ERR_AUTH, .wrong = ZERO_POINT), ACT(v2_opens_request, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v2_xwing_request_open, AC_OK, .gives_secret = 1), ACT(v2_xwing_request_open, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v2_sealer_init, AC_OK), ACT(v2_sealer_init, AC_ERR_ARGUMENT, .wrong = MALFORMED),
    ACT(v2_record_seal, AC_OK), ACT(v2_record_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(v2_events_seal, AC_OK),
    ACT(v2_events_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(v2_object_seal, AC_OK), ACT(v2_object_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_record_open, AC_OK, .gives_secret = 1), ACT(v2_record_open, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_record_open, AC_ERR_FORMAT, .wrong = MALFORMED), ACT(v2_record_open, AC_ERR_AUTH, .wrong = FORGED), ACT(v2_waits, AC_OK),
    ACT(v2_opens_events, AC_OK, .gives_secret = 1), ACT(v2_opens_events, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_opens_events, AC_PUNT, .wrong = MALFORMED), ACT(v2_opens_events, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v2_sealed_open, AC_OK, .gives_secret = 1), ACT(v2_sealed_open, AC_ERR_FORMAT, .wrong = MALFORMED),
    ACT(v2_sealed_open, AC_ERR_AUTH, .wrong = FORGED), ACT(v2_object_open, AC_OK, .gives_secret = 1),
    ACT(v2_object_open, AC_PUNT, .wrong = MALFORMED), ACT(v2_object_open, AC_ERR_AUTH, .wrong = FORGED),
    {0},
};
const act *const acts_of_v2 = acts;
