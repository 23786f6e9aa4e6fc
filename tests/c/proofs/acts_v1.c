/* Protocol v1: each call to its end and to each refusal; its objects are then wiped. */
#include "acts.h"

#include <sodium.h>

/* ---- v1 ---- */

static int v1_opener(size_t cap, const uint8_t *node_public) {
  queue_random(in.queue, sizeof in.queue);
  return (int)LOOK(ac_v1_request_seal(&object.v1_opener, out, cap, &out_len, node_public, in.text, TEXT, (const uint8_t *)"\"m\"", 3,
                            1, 0, 0, 1));
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
  status = (int)LOOK(ac_v1_request_open(&object.v1_sealer, out, room(), &out_len, &in.pair, &in.signing, &envelope));
  ac_v1_sealer_wipe(&object.v1_sealer);
}

/* ---- each seal by a node's sealer, and each way to open what it gave ---- */

static int v1_sealer(void) {
  const ac_v1_envelope envelope = envelope_of(viewed(&wire.v1_request));
  queue_random(wire.nonce, sizeof wire.nonce);
  const int made = (int)LOOK(ac_v1_request_open(&object.v1_sealer, out, sizeof out, &out_len, &in.pair, &in.signing, &envelope));
  sodium_memzero(out, sizeof out); /* the body, which the caller has now */
  return made;
}

static void v1_seal_with(int (*seal)(void)) {
  status = v1_sealer();
  if (status == AC_OK) status = seal();
  if (ac_v1_sealer_close(&object.v1_sealer) != AC_OK) abort();
}

static int v1_event(void) {
  const int64_t len = LOOK(ac_v1_event_seal(&object.v1_sealer, out, room(), in.text, TEXT));
  return len < 0 ? (int)len : AC_OK;
}

static int v1_events(void) {
  const size_t lens[] = {TEXT - 100, 100};
  return (int)LOOK(ac_v1_events_seal(&object.v1_sealer, out, room(), &out_len, in.text, TEXT, lens, 2, NULL, 0));
}

static int v1_reply(void) {
  return (int)LOOK(ac_v1_reply_seal(&object.v1_sealer, out, room(), &out_len, in.text, TEXT, NULL, 0));
}

static void v1_event_seal(void) { v1_seal_with(v1_event); }
static void v1_events_seal(void) { v1_seal_with(v1_events); }
static void v1_reply_seal(void) { v1_seal_with(v1_reply); }

static void v1_open_with(const bytes *text, int (*open)(const bytes *text)) {
  bytes copy = spoiled(text);
  status = v1_opener(sizeof out, wire.node_public);
  if (status == AC_OK) status = open(&copy);
  if (ac_v1_opener_close(&object.v1_opener) != AC_OK) abort();
}

static int v1_open_events(const bytes *text) {
  ac_v1_events events = {.opener = &object.v1_opener, .out = out, .out_cap = room(), .event_cap = 2};
  const int64_t opened = LOOK(ac_v1_events_open(&events, text->at, text->len));
  return opened >= AC_ONE ? AC_OK : (int)opened;
}

static int v1_open_members(const bytes *text) {
  const view c = member(viewed(text), "ciphertext"), n = member(viewed(text), "nonce"), h = member(viewed(text), "response_hash");
  return (int)LOOK(ac_v1_sealed_open(&object.v1_opener, out, room(), &out_len, c.at, c.len, n.at, n.len, h.at, h.len));
}

static int v1_open_reply(const bytes *text) {
  size_t usage[2];
  return (int)LOOK(ac_v1_reply_open(&object.v1_opener, out, room(), &out_len, &usage[0], &usage[1], text->at, text->len));
}

static void v1_events_open(void) { v1_open_with(&wire.v1_event, v1_open_events); }
static void v1_sealed_open(void) { v1_open_with(&wire.v1_event, v1_open_members); }
static void v1_reply_open(void) { v1_open_with(&wire.v1_reply, v1_open_reply); }

/* ---- the acts ---- */

static const act acts[] = {
    ACT(v1_request_seal, AC_OK), ACT(v1_request_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_request_seal, AC_ERR_KEY, .wrong = ZERO_POINT), ACT(v1_request_seal, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(v1_request_seal, AC_ERR_KEY, .in = IN_SCALARMULT), ACT(v1_request_seal, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B),
    ACT(v1_request_open, AC_OK, .gives_secret = 1), ACT(v1_request_open, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_request_open, AC_ERR_FORMAT, .wrong = MALFORMED), ACT(v1_request_open, AC_ERR_AUTH, .wrong = OTHER_KEY),
    ACT(v1_request_open, AC_ERR_AUTH, .wrong = ZERO_POINT), ACT(v1_request_open, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v1_request_open, AC_ERR_AUTH, .wrong = WRONG_HASH), ACT(v1_request_open, AC_ERR_AUTH, .in = IN_SCALARMULT),
    ACT(v1_request_open, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B),
    ACT(v1_event_seal, AC_OK), ACT(v1_event_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_event_seal, AC_ERR_PRIMITIVE, .in = IN_SIGN), ACT(v1_event_seal, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B, .after = 1),
    ACT(v1_events_seal, AC_OK), ACT(v1_events_seal, AC_ERR_PRIMITIVE, .in = IN_SIGN, .after = 1),
    ACT(v1_reply_seal, AC_OK), ACT(v1_reply_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_reply_seal, AC_ERR_PRIMITIVE, .in = IN_SIGN),
    ACT(v1_events_open, AC_OK, .gives_secret = 1), ACT(v1_events_open, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_events_open, AC_PUNT, .wrong = MALFORMED), ACT(v1_events_open, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v1_events_open, AC_ERR_AUTH, .wrong = WRONG_HASH), ACT(v1_events_open, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B, .after = 1),
    ACT(v1_sealed_open, AC_OK, .gives_secret = 1), ACT(v1_sealed_open, AC_ERR_FORMAT, .wrong = MALFORMED),
    ACT(v1_sealed_open, AC_ERR_AUTH, .wrong = FORGED), ACT(v1_sealed_open, AC_ERR_AUTH, .wrong = WRONG_HASH),
    ACT(v1_reply_open, AC_OK, .gives_secret = 1), ACT(v1_reply_open, AC_PUNT, .wrong = MALFORMED),
    ACT(v1_reply_open, AC_ERR_AUTH, .wrong = FORGED), ACT(v1_reply_open, AC_ERR_AUTH, .wrong = WRONG_HASH),
    {0},
};
const act *const acts_of_v1 = acts;
