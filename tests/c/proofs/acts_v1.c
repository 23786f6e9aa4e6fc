/* Protocol v1: each call to its end and to each refusal; its objects are then wiped. */
#include "acts.h"

#include <sodium.h>

/* ---- v1 ---- */

static int v1_opener(void) {
  queue_random(in.queue, sizeof in.queue);
  return (int)LOOK(ac_v1_request_seal(&object.v1_opener, out, sizeof out, &out_len, wire.node_public, in.text, TEXT, (const uint8_t *)"\"m\"", 3,
                            42, 7, 1, 1));
}

static void v1_request_seal(void) {
  queue_random(in.queue, sizeof in.queue);
  status = (int)LOOK(ac_v1_request_seal(&object.v1_opener, place(in.text), room(), &out_len, peer(wire.node_public), in.text, text_len,
                                        (const uint8_t *)"\"m\"", 3, 42, 7, !(wrong & PLAIN), !(wrong & PLAIN)));
  ac_v1_opener_wipe(&object.v1_opener);
}

static void v1_request_open(void) {
  bytes text = spoiled(&wire.v1_request);
  ac_v1_envelope envelope = envelope_of(viewed(&text));
  if (wrong & OTHER_KEY) envelope.node_public = envelope.client_public;
  if (wrong & ZERO_POINT) envelope.client_public = (const uint8_t *)"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  queue_random(wire.nonce, sizeof wire.nonce);
  status = (int)LOOK(ac_v1_request_open(&object.v1_sealer, place(envelope.ciphertext), room(), &out_len, &in.pair, &in.signing,
                                        &envelope));
  ac_v1_sealer_wipe(&object.v1_sealer);
}

/* ---- each seal by a node's sealer, and each way to open what it gave ---- */

static const char usage[] = "{\"total_tokens\":3}";

static size_t usage_len(void) { return wrong & PLAIN ? 0 : sizeof usage - 1; }

static int v1_sealer(void) {
  const ac_v1_envelope envelope = envelope_of(viewed(&wire.v1_request));
  const ac_signing_key *const signing = wrong & PLAIN ? NULL : &in.signing;
  queue_random(wire.nonce, sizeof wire.nonce);
  const int made = (int)LOOK(ac_v1_request_open(&object.v1_sealer, out, sizeof out, &out_len, &in.pair, signing, &envelope));
  sodium_memzero(out, sizeof out); /* the body, which the caller has now */
  return made;
}

static void v1_seal_with(int (*seal)(void)) {
  ac_v1_sealer *const sealer = &object.v1_sealer;
  status = v1_sealer();
  hinder(&sealer->state, &sealer->busy);
  if (wrong & FORKED) sealer->generation--;
  if (wrong & SPENT) sealer->bytes_left = 0;
  if (status == AC_OK) status = seal();
  if (wrong & BUSY && ac_v1_sealer_close(sealer) != AC_ERR_BUSY) abort();
  unhinder(&sealer->busy);
  if (ac_v1_sealer_close(sealer) != AC_OK) abort();
}

static int v1_event(void) {
  const int64_t len = LOOK(ac_v1_event_seal(&object.v1_sealer, place(in.text), room(), in.text, text_len));
  return len < 0 ? (int)len : AC_OK;
}

static int v1_events(void) {
  size_t lens[] = {TEXT - 100, wrong & TOO_LONG ? 101 : 100};
  return (int)LOOK(ac_v1_events_seal(&object.v1_sealer, place(lens), room(), &out_len, in.text, TEXT, lens, 2, (const uint8_t *)usage,
                                     usage_len()));
}

static int v1_reply(void) {
  return (int)LOOK(ac_v1_reply_seal(&object.v1_sealer, place(in.text), room(), &out_len, in.text, text_len, (const uint8_t *)usage,
                                    usage_len()));
}

static void v1_event_seal(void) { v1_seal_with(v1_event); }
static void v1_events_seal(void) { v1_seal_with(v1_events); }
static void v1_reply_seal(void) { v1_seal_with(v1_reply); }

static void v1_open_with(const bytes *text, int (*open)(const bytes *text)) {
  ac_v1_opener *const opener = &object.v1_opener;
  bytes copy = spoiled(text);
  status = v1_opener();
  if (status == AC_OK) status = ac_v1_opener_set(opener, wrong & LIMITED ? 10 : SIZE_MAX, SIZE_MAX, wrong & STRICT);
  hinder(&opener->state, &opener->busy);
  if (wrong & REFLECTED) memcpy(opener->request_nonce, wire.nonce, sizeof wire.nonce);
  if (status == AC_OK) status = open(&copy);
  if (wrong & BUSY && ac_v1_opener_close(opener) != AC_ERR_BUSY) abort();
  unhinder(&opener->busy);
  if (ac_v1_opener_close(opener) != AC_OK) abort();
}

/* Up to two events. */
static int open_events(const uint8_t *text, size_t len, size_t cap) {
  ac_v1_events events = {.opener = &object.v1_opener, .out = place(text), .out_cap = cap, .event_cap = wrong & TOO_LONG ? 0 : 2};
  const int64_t opened = LOOK(ac_v1_events_open(&events, text, len));
  return opened >= AC_ONE ? AC_OK : (int)opened;
}

static int v1_open_events(const bytes *text) { return open_events(text->at, text->len, room()); }

/* Behind the first, whose plaintext its caller has taken: one that shows its usage, or the first again. */
static int v1_open_next(const bytes *text) {
  const int first = open_events(wire.v1_event.at, wire.v1_event.len, sizeof out);
  sodium_memzero(out, sizeof out);
  if (first != AC_OK) return first;
  return wrong & AGAIN ? open_events(wire.v1_event.at, wire.v1_event.len, sizeof out) : v1_open_events(text);
}

/* The first and that one in one call. What is wrong with it is left for the next. */
static int v1_open_both(const bytes *text) {
  static uint8_t both[8 * TEXT];
  memcpy(both, wire.v1_event.at, wire.v1_event.len);
  memcpy(both + wire.v1_event.len, text->at, text->len);
  return open_events(both, wire.v1_event.len + text->len, wrong & NO_ROOM ? TEXT + 2 * AC_TAG_BYTES : sizeof out);
}

static int v1_open_members(const bytes *text) {
  const view c = member(viewed(text), "ciphertext"), n = member(viewed(text), "nonce"), h = member(viewed(text), "response_hash");
  return (int)LOOK(ac_v1_sealed_open(&object.v1_opener, place(c.at), room(), &out_len, c.at, c.len, n.at, n.len, h.at, h.len));
}

static int v1_open_reply(const bytes *text) {
  size_t where[2];
  return (int)LOOK(ac_v1_reply_open(&object.v1_opener, place(text->at), room(), &out_len, &where[0], &where[1], text->at, text->len));
}

static void v1_events_open(void) { v1_open_with(&wire.v1_event, v1_open_events); }
static void v1_opens_next(void) { v1_open_with(&wire.v1_next, v1_open_next); }
static void v1_opens_both(void) { v1_open_with(&wire.v1_next, v1_open_both); }
static void v1_sealed_open(void) { v1_open_with(&wire.v1_event, v1_open_members); }
static void v1_reply_open(void) { v1_open_with(&wire.v1_reply, v1_open_reply); }

/* ---- the acts ---- */

#define SEALS_SIGNED(function) \
  SEALS(function), ACT(function, AC_ERR_PRIMITIVE, .in = IN_SIGN), \
  ACT(function, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B, .after = 1)
#define OPENS(function) \
  ACT(function, AC_OK, .gives_secret = 1), ACT(function, AC_ERR_AUTH, .wrong = FORGED), \
  ACT(function, AC_ERR_AUTH, .wrong = WRONG_HASH), ACT(function, AC_ERR_CAPACITY, .wrong = NO_ROOM), STATES_OF(function), \
  ACT(function, AC_ERR_AUTH, .in = IN_DECRYPT)

static const act acts[] = {
    ACT(v1_request_seal, AC_OK), ACT(v1_request_seal, AC_OK, .wrong = PLAIN), ACT(v1_request_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_request_seal, AC_ERR_OVERLAP, .wrong = OVERLAPS), ACT(v1_request_seal, AC_ERR_ARGUMENT, .wrong = TOO_LONG),
    ACT(v1_request_seal, AC_ERR_KEY, .wrong = ZERO_POINT), ACT(v1_request_seal, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(v1_request_seal, AC_ERR_KEY, .in = IN_SCALARMULT), ACT(v1_request_seal, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B),
    ACT(v1_request_seal, AC_ERR_PRIMITIVE, .in = IN_ENCRYPT),
    ACT(v1_request_open, AC_OK, .gives_secret = 1), ACT(v1_request_open, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(v1_request_open, AC_ERR_OVERLAP, .wrong = OVERLAPS),
    ACT(v1_request_open, AC_ERR_FORMAT, .wrong = MALFORMED), ACT(v1_request_open, AC_ERR_AUTH, .wrong = OTHER_KEY),
    ACT(v1_request_open, AC_ERR_AUTH, .wrong = ZERO_POINT), ACT(v1_request_open, AC_ERR_AUTH, .wrong = FORGED),
    ACT(v1_request_open, AC_ERR_AUTH, .wrong = WRONG_HASH), ACT(v1_request_open, AC_ERR_AUTH, .in = IN_SCALARMULT),
    ACT(v1_request_open, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B), ACT(v1_request_open, AC_ERR_AUTH, .in = IN_DECRYPT),
    SEALS_SIGNED(v1_event_seal), SEALS_SIGNED(v1_events_seal), ACT(v1_events_seal, AC_ERR_PRIMITIVE, .in = IN_SIGN, .after = 1),
    ACT(v1_events_seal, AC_ERR_PRIMITIVE, .in = IN_ENCRYPT, .after = 1), SEALS_SIGNED(v1_reply_seal),
    OPENS(v1_events_open), ACT(v1_events_open, AC_PUNT, .wrong = MALFORMED), ACT(v1_events_open, AC_ERR_TOO_LARGE, .wrong = LIMITED),
    ACT(v1_events_open, AC_ERR_ARGUMENT, .wrong = TOO_LONG), ACT(v1_events_open, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B, .after = 1),
    ACT(v1_events_open, AC_ERR_NONCE_REUSE, .wrong = REFLECTED),
    ACT(v1_opens_next, AC_OK, .gives_secret = 1), ACT(v1_opens_next, AC_PUNT, .wrong = MALFORMED),
    ACT(v1_opens_next, AC_ERR_AUTH, .wrong = FORGED), ACT(v1_opens_next, AC_ERR_AUTH, .wrong = WRONG_HASH),
    ACT(v1_opens_next, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(v1_opens_next, AC_OK, .wrong = AGAIN, .gives_secret = 1),
    ACT(v1_opens_next, AC_ERR_NONCE_REUSE, .wrong = AGAIN | STRICT), ACT(v1_opens_both, AC_OK, .gives_secret = 1),
    ACT(v1_opens_both, AC_OK, .wrong = MALFORMED, .gives_secret = 1), ACT(v1_opens_both, AC_OK, .wrong = FORGED, .gives_secret = 1),
    ACT(v1_opens_both, AC_OK, .wrong = NO_ROOM, .gives_secret = 1),
    OPENS(v1_sealed_open), ACT(v1_sealed_open, AC_ERR_NONCE_REUSE, .wrong = REFLECTED), ACT(v1_sealed_open, AC_ERR_FORMAT, .wrong = MALFORMED),
    OPENS(v1_reply_open), ACT(v1_reply_open, AC_PUNT, .wrong = MALFORMED),
    {0},
};
const act *const acts_of_v1 = acts;
