/* Protocol v2: each call to its end and to each refusal; its objects are then wiped. */
#include "acts.h"

#include <sodium.h>

/* ---- v2 ---- */

static ac_v2_metadata metadata; /* public */

static int seal_request(uint32_t suite, uint8_t *to, size_t cap, const uint8_t *node_public, size_t len) {
  const int own = suite != AC_SUITE_XWING;
  metadata = v2_metadata(own);
  queue_random(in.client, own ? sizeof in.client : 0);
  return (int)LOOK(ac_v2_request_seal(&object.v2_opener, to, cap, &out_len, suite, v2_key_id, own ? node_public : NULL,
                            own ? NULL : in.xwing_shared, own ? NULL : wire.xwing_enc, own ? 0 : sizeof wire.xwing_enc,
                            &metadata, (const uint8_t *)"\"m\"", 3, in.text, len));
}

static void v2_seals_request(void) {
  const uint32_t suite = wrong & NO_SUCH ? 9 : AC_SUITE_X25519;
  status = seal_request(suite, place(in.text), room(), peer(wire.node_public), text_len);
  ac_v2_opener_wipe(&object.v2_opener);
}

static void v2_xwing_request_seal(void) {
  status = seal_request(AC_SUITE_XWING, place(in.text), room(), NULL, text_len);
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
  return (int)LOOK(ac_v2_request_open(&object.v2_sealer, place(c.at), room(), &out_len, wrong & NO_SUCH ? 9 : suite, key_id, own ? &in.pair : NULL,
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
  ac_v2_sealer *const sealer = &object.v2_sealer;
  queue_random(wire.salt, sizeof wire.salt);
  status = (int)LOOK(ac_v2_sealer_init(sealer, in.response, wire.client_public, wrong & MALFORMED ? 0 : AC_X25519_BYTES));
  hinder(&sealer->state, &sealer->busy);
  if (wrong & FORKED) sealer->generation--;
  if (wrong & SPENT) sealer->bytes_left = 0;
  if (wrong & AGAIN) sealer->begun = 1;
  if (status == AC_OK && seal != NULL) status = seal();
  if (wrong & BUSY && ac_v2_sealer_close(sealer) != AC_ERR_BUSY) abort();
  unhinder(&sealer->busy);
  if (!(wrong & BUSY)) ac_v2_sealer_wipe(sealer);
  if (wrong & BUSY && ac_v2_sealer_close(sealer) != AC_OK) abort();
}

static int v2_record(void) {
  const uint32_t flag = wrong & AGAIN ? AC_FLAG_WHOLE : AC_FLAG_END;
  return (int)LOOK(ac_v2_record_seal(&object.v2_sealer, place(in.text), room(), flag, in.text, text_len, NULL));
}

static int v2_event(void) {
  const int64_t len = LOOK(ac_v2_event_seal(&object.v2_sealer, place(in.text), room(), in.text, text_len));
  return len < 0 ? (int)len : AC_OK;
}

/* The last of them ends the answer, and they show a usage. */
static int v2_events(void) {
  size_t lens[] = {TEXT - 1, wrong & TOO_LONG ? 2 : 1};
  return (int)LOOK(ac_v2_events_seal(&object.v2_sealer, place(lens), room(), &out_len, in.text, TEXT, lens, 2, AC_FLAG_ABORT,
                                     wrong & PLAIN ? NULL : v2_usage));
}

/* Behind the first. */
static int v2_more_events(void) {
  const int first = v2_event();
  return first == AC_OK ? v2_events() : first;
}

static int v2_object(void) {
  return (int)LOOK(ac_v2_object_seal(&object.v2_sealer, place(in.text), room(), &out_len, wrong & NO_SUCH ? 9 : AC_FLAG_WHOLE, in.text,
                                     text_len, wrong & PLAIN ? NULL : v2_usage));
}

static void v2_sealer_init(void) { v2_seal_with(NULL); }
static void v2_record_seal(void) { v2_seal_with(v2_record); }
static void v2_event_seal(void) { v2_seal_with(v2_event); }
static void v2_events_seal(void) { v2_seal_with(v2_events); }
static void v2_seals_more(void) { v2_seal_with(v2_more_events); }
static void v2_object_seal(void) { v2_seal_with(v2_object); }

static void v2_hinder_opener(void) {
  ac_v2_opener *const opener = &object.v2_opener;
  if (status == AC_OK) status = ac_v2_opener_set(opener, wrong & LIMITED ? 10 : SIZE_MAX, SIZE_MAX);
  hinder(&opener->state, &opener->busy);
  if (wrong & SPENT) opener->bytes_left = 0;
}

static void v2_close_opener(void) {
  ac_v2_opener *const opener = &object.v2_opener;
  if (wrong & BUSY && ac_v2_opener_close(opener) != AC_ERR_BUSY) abort();
  unhinder(&opener->busy);
  if (ac_v2_opener_close(opener) != AC_OK) abort();
}

static void v2_record_open(void) {
  uint8_t sealed[sizeof wire.record];
  memcpy(sealed, wire.record, sizeof sealed);
  if (wrong & FORGED) sealed[TEXT] ^= 1;
  const size_t enc_len = wrong & TOO_LONG ? AC_V2_MAX_ENC_BYTES + 1 : AC_X25519_BYTES;
  status = (int)LOOK(ac_v2_opener_init(&object.v2_opener, in.response, wire.client_public, enc_len, wire.salt));
  const uint32_t flag = wrong & MALFORMED ? 9 : AC_FLAG_MORE;
  v2_hinder_opener();
  if (status == AC_OK) status = (int)LOOK(ac_v2_record_open(&object.v2_opener, place(sealed), room(), flag, sealed, sizeof sealed, NULL));
  unhinder(&object.v2_opener.busy);
  ac_v2_opener_wipe(&object.v2_opener);
}

static void v2_open_with(uint32_t suite, const bytes *text, int (*open)(const bytes *text)) {
  bytes copy = spoiled(text);
  status = seal_request(suite, out, sizeof out, wire.node_public, TEXT);
  v2_hinder_opener();
  if (status == AC_OK) status = open(&copy);
  v2_close_opener();
}

/* Up to two events. */
static int open_events(const uint8_t *text, size_t len, size_t cap) {
  ac_v2_events events = {.opener = &object.v2_opener, .out = place(text), .out_cap = cap, .event_cap = wrong & TOO_LONG ? 0 : 2};
  const int64_t opened = LOOK(ac_v2_events_open(&events, text, len));
  return opened >= AC_ONE ? AC_OK : (int)opened;
}

static int v2_open_events(const bytes *text) { return open_events(text->at, text->len, room()); }

/* One whose plaintext its caller has taken. */
static int open_before(const bytes *text) {
  const int opened = open_events(text->at, text->len, sizeof out);
  sodium_memzero(out, sizeof out);
  return opened;
}

/* Behind the first: flag AC_FLAG_MORE and no usage, the commonest of all. */
static int v2_open_next(const bytes *text) {
  const int first = open_before(&wire.v2_event);
  if (wrong & SPENT) object.v2_opener.bytes_left = 0;
  return first == AC_OK ? v2_open_events(text) : first;
}

/* Behind these two the end, or something behind that. */
static int v2_open_last(const bytes *text) {
  int opened = open_before(&wire.v2_event);
  if (opened == AC_OK) opened = open_before(&wire.v2_next);
  if (opened == AC_OK && wrong & AGAIN) opened = open_before(text);
  return opened == AC_OK ? v2_open_events(text) : opened;
}

/* The first and the next in one call. What is wrong with it is left for the next. */
static int v2_open_both(const bytes *text) {
  static uint8_t both[8 * TEXT];
  memcpy(both, wire.v2_event.at, wire.v2_event.len);
  memcpy(both + wire.v2_event.len, text->at, text->len);
  return open_events(both, wire.v2_event.len + text->len, wrong & NO_ROOM ? TEXT + 2 * AC_TAG_BYTES : sizeof out);
}

/* As another parser hands them over. */
static int open_members(const bytes *text, int event, uint32_t flag) {
  const view c = member(viewed(text), "ciphertext"), s = member(viewed(text), "salt");
  return (int)LOOK(ac_v2_sealed_open(&object.v2_opener, place(c.at), room(), &out_len, event, flag, c.at, c.len, s.at,
                                     wrong & TOO_LONG ? 1 : s.len, NULL));
}

static int v2_open_members(const bytes *text) { return open_members(text, 1, AC_FLAG_MORE); }
static int v2_open_object_members(const bytes *text) { return open_members(text, 0, AC_FLAG_WHOLE); }

static int v2_open_next_members(const bytes *text) {
  const int first = open_before(&wire.v2_event);
  return first == AC_OK ? open_members(text, wrong & OTHER_WAY ? 0 : 1, AC_FLAG_MORE) : first;
}

static int v2_open_object(const bytes *text) {
  uint64_t span[AC_V2_SPAN];
  return (int)LOOK(ac_v2_object_open(&object.v2_opener, place(text->at), room(), &out_len, span, text->at, text->len));
}

static int v2_open_nothing(const bytes *text) { return text->len != 0 ? AC_OK : AC_PUNT; } /* closed while it waits */

static void v2_waits(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_event, v2_open_nothing); }
static void v2_opens_events(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_event, v2_open_events); }
static void v2_opens_next(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_next, v2_open_next); }
static void v2_opens_last(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_last, v2_open_last); }
static void v2_opens_both(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_next, v2_open_both); }
static void v2_sealed_open(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_event, v2_open_members); }
static void v2_sealed_next_open(void) { v2_open_with(AC_SUITE_X25519, &wire.v2_next, v2_open_next_members); }
static void v2_sealed_object_open(void) { v2_open_with(AC_SUITE_XWING, &wire.v2_object, v2_open_object_members); }
static void v2_object_open(void) { v2_open_with(AC_SUITE_XWING, &wire.v2_object, v2_open_object); }

/* ---- the acts ---- */

#define OPENS(function) \
  ACT(function, AC_OK, .gives_secret = 1), ACT(function, AC_ERR_AUTH, .wrong = FORGED), \
  ACT(function, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(function, AC_ERR_AUTH, .in = IN_DECRYPT)
#define OPENS_FIRST(function) \
  OPENS(function), STATES_OF(function), ACT(function, AC_ERR_TOO_LARGE, .wrong = SPENT)

static const act acts[] = {
    ACT(v2_seals_request, AC_OK), ACT(v2_seals_request, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_seals_request, AC_ERR_OVERLAP, .wrong = OVERLAPS), ACT(v2_seals_request, AC_ERR_ARGUMENT, .wrong = TOO_LONG),
    ACT(v2_seals_request, AC_ERR_ARGUMENT, .wrong = NO_SUCH),
    ACT(v2_seals_request, AC_ERR_KEY, .wrong = ZERO_POINT), ACT(v2_seals_request, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(v2_seals_request, AC_ERR_KEY, .in = IN_SCALARMULT), ACT(v2_seals_request, AC_ERR_PRIMITIVE, .in = IN_ENCRYPT),
    ACT(v2_xwing_request_seal, AC_OK), ACT(v2_xwing_request_seal, AC_ERR_OVERLAP, .wrong = OVERLAPS),
    ACT(v2_xwing_request_seal, AC_ERR_PRIMITIVE, .in = IN_ENCRYPT),
    ACT(v2_opens_request, AC_OK, .gives_secret = 1), ACT(v2_opens_request, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v2_opens_request, AC_ERR_OVERLAP, .wrong = OVERLAPS), ACT(v2_opens_request, AC_ERR_ARGUMENT, .wrong = NO_SUCH),
    ACT(v2_opens_request, AC_ERR_FORMAT, .wrong = MALFORMED), ACT(v2_opens_request, AC_ERR_AUTH, .wrong = OTHER_KEY),
    ACT(v2_opens_request, AC_ERR_AUTH, .wrong = ZERO_POINT), ACT(v2_opens_request, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v2_opens_request, AC_ERR_AUTH, .in = IN_SCALARMULT), ACT(v2_opens_request, AC_ERR_AUTH, .in = IN_DECRYPT),
    ACT(v2_xwing_request_open, AC_OK, .gives_secret = 1), ACT(v2_xwing_request_open, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v2_sealer_init, AC_OK), ACT(v2_sealer_init, AC_ERR_ARGUMENT, .wrong = MALFORMED),
    SEALS(v2_record_seal), ACT(v2_record_seal, AC_ERR_ARGUMENT, .wrong = AGAIN), SEALS(v2_event_seal), SEALS(v2_events_seal),
    ACT(v2_events_seal, AC_ERR_PRIMITIVE, .in = IN_ENCRYPT, .after = 1), ACT(v2_seals_more, AC_OK),
    ACT(v2_seals_more, AC_ERR_PRIMITIVE, .in = IN_ENCRYPT, .after = 1), SEALS(v2_object_seal),
    ACT(v2_object_seal, AC_ERR_ARGUMENT, .wrong = AGAIN), ACT(v2_object_seal, AC_ERR_ARGUMENT, .wrong = NO_SUCH),
    OPENS_FIRST(v2_record_open), ACT(v2_record_open, AC_ERR_FORMAT, .wrong = MALFORMED),
    ACT(v2_record_open, AC_ERR_ARGUMENT, .wrong = TOO_LONG), ACT(v2_waits, AC_OK),
    OPENS_FIRST(v2_opens_events), ACT(v2_opens_events, AC_PUNT, .wrong = MALFORMED),
    ACT(v2_opens_events, AC_ERR_TOO_LARGE, .wrong = LIMITED), ACT(v2_opens_events, AC_ERR_ARGUMENT, .wrong = TOO_LONG),
    OPENS(v2_opens_next), ACT(v2_opens_next, AC_PUNT, .wrong = MALFORMED), ACT(v2_opens_next, AC_ERR_TOO_LARGE, .wrong = SPENT),
    OPENS(v2_opens_last), ACT(v2_opens_last, AC_PUNT, .wrong = MALFORMED), ACT(v2_opens_last, AC_ERR_FORMAT, .wrong = AGAIN),
    ACT(v2_opens_both, AC_OK, .gives_secret = 1), ACT(v2_opens_both, AC_OK, .wrong = FORGED, .gives_secret = 1),
    ACT(v2_opens_both, AC_OK, .wrong = MALFORMED, .gives_secret = 1), ACT(v2_opens_both, AC_OK, .wrong = NO_ROOM, .gives_secret = 1),
    OPENS_FIRST(v2_sealed_open), ACT(v2_sealed_open, AC_ERR_FORMAT, .wrong = MALFORMED),
    ACT(v2_sealed_open, AC_ERR_FORMAT, .wrong = TOO_LONG),
    OPENS(v2_sealed_next_open), ACT(v2_sealed_next_open, AC_ERR_FORMAT, .wrong = MALFORMED),
    ACT(v2_sealed_next_open, AC_ERR_FORMAT, .wrong = OTHER_WAY),
    OPENS_FIRST(v2_sealed_object_open), ACT(v2_sealed_object_open, AC_ERR_FORMAT, .wrong = MALFORMED),
    OPENS_FIRST(v2_object_open), ACT(v2_object_open, AC_PUNT, .wrong = MALFORMED),
    {0},
};
const act *const acts_of_v2 = acts;
