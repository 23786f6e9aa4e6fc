/* Guard pages right before and right behind each buffer of v2's records, events and requests. */
#include "harness.h"

enum { MOST = 400, CAP = 4096 };

static struct {
  guarded plaintext, numbers, in, out, enc, aside;
} room;

static uint8_t material[MOST];
static const uint64_t usage_numbers[AC_V2_USAGE] = {3, 9007199254740991, 0};

static const uint64_t *guarded_usage(edge side, int is_there) {
  return is_there ? (const uint64_t *)(const void *)guarded_copy(&room.numbers, side, usage_numbers, sizeof usage_numbers) : NULL;
}

/* A plaintext of each length becomes an event, or an object, and is read again. */
static void message(edge side, size_t len, int is_object) {
  v2_exchange x = v2_exchange_make(!is_object);
  const uint32_t flag = is_object ? AC_FLAG_WHOLE : len % 3 == 0 ? AC_FLAG_END : AC_FLAG_MORE;
  const uint64_t *const usage = guarded_usage(side, len % 2 != 0);
  const uint8_t *const from = guarded_copy(&room.plaintext, side, material, len);
  const size_t bytes_long = is_object ? ac_v2_object_bytes(len, flag, usage) : ac_v2_events_bytes(&x.sealer, len, &len, 1, flag, usage);
  uint8_t *const sealed = guarded_at(&room.out, side, bytes_long);
  size_t sealed_len = 0, need = 0;
  CHECK_STATUS(is_object ? ac_v2_object_seal(&x.sealer, sealed, bytes_long, &sealed_len, flag, from, len, usage)
                         : ac_v2_events_seal(&x.sealer, sealed, bytes_long, &sealed_len, from, len, &len, 1, flag, usage),
               AC_OK);
  CHECK(sealed_len == bytes_long);
  const uint8_t *const received = guarded_copy(&room.in, side, sealed, sealed_len);
  uint64_t span[AC_V2_SPAN] = {0};
  if (is_object) {
    CHECK_STATUS(ac_v2_object_open(&x.opener, NULL, 0, &need, span, received, sealed_len), AC_ERR_CAPACITY);
    uint8_t *const opened = guarded_at(&room.out, side, need);
    CHECK_STATUS(ac_v2_object_open(&x.opener, opened, need, &need, span, received, sealed_len), AC_OK);
    CHECK(need == len && memcmp(opened, material, len) == 0);
  } else {
    ac_v2_events events = {.event_cap = 1};
    CHECK_STATUS(v2_events_open(&x.opener, &events, (view){received, sealed_len}), AC_ERR_CAPACITY);
    need = events.out_cap = events.out_len;
    uint8_t *const opened = events.out = guarded_at(&room.out, side, need);
    CHECK_STATUS(v2_events_open(&x.opener, &events, (view){received, sealed_len}), AC_OK);
    CHECK(events.count == 1 && events.out_len == len && memcmp(opened, material, len) == 0);
    memcpy(span, events.spans, sizeof span);
  }
  CHECK(span[0] == len && span[1] == flag && span[2] == len % 2 && (usage == NULL || usage_is(span + 3, usage_numbers)));
}

static void record(edge side, size_t len) {
  v2_exchange x = v2_exchange_make(1);
  ac_v2_opener opener;
  const uint8_t *const enc = guarded_copy(&room.enc, side, material, 1 + len % 64);
  const uint8_t *const secret = guarded_copy(&room.aside, side, material + 64, AC_HASH_BYTES);
  const uint64_t *const usage = guarded_usage(side, len % 2 != 0);
  CHECK_STATUS(ac_v2_sealer_init(&x.sealer, secret, enc, 1 + len % 64), AC_OK);
  const uint8_t *const salt = guarded_copy(&room.in, side, x.sealer.salt, AC_V2_SALT_BYTES);
  CHECK_STATUS(ac_v2_opener_init(&opener, secret, enc, 1 + len % 64, salt), AC_OK);
  const uint8_t *const from = guarded_copy(&room.plaintext, side, material, len);
  uint8_t *const sealed = guarded_at(&room.out, side, len + AC_TAG_BYTES);
  CHECK_STATUS(ac_v2_record_seal(&x.sealer, sealed, len + AC_TAG_BYTES, AC_FLAG_END, from, len, usage), AC_OK);
  uint8_t *const opened = guarded_at(&room.plaintext, side, len);
  CHECK_STATUS(ac_v2_record_open(&opener, opened, len, AC_FLAG_END, sealed, len + AC_TAG_BYTES, usage), AC_OK);
  CHECK(len == 0 || memcmp(opened, material, len) == 0);
}

/* The stream is cut in two at each place: both halves end, or begin, where the memory does. */
static void cut_streams(void) {
  static const char *const texts[] = {"{\"n\":0}", "{\"a\":1}", "{\"choices\":[{\"delta\":{\"content\":\" a longer one\"}}]}", ""};
  enum { EVENTS = sizeof texts / sizeof texts[0] };
  static const char begin[] = "\xef\xbb\xbf: a comment\r\n\r\n", end[] = "event: x\r\r: another, without its end";
  v2_exchange x = v2_exchange_make(1);
  bytes stream = bytes_copy(begin, sizeof begin - 1), want = {NULL, 0};
  size_t ends[EVENTS];
  for (size_t i = 0; i < EVENTS; i++) {
    bytes event = v2_seal(&x.sealer, i == EVENTS - 1 ? AC_FLAG_END : AC_FLAG_MORE, texts[i], i == 1 ? usage_numbers : NULL);
    bytes_append(&stream, event.at, event.len);
    bytes_append(&want, texts[i], strlen(texts[i]));
    ends[i] = stream.len;
    bytes_free(&event);
  }
  bytes_append(&stream, end, sizeof end - 1);
  for (size_t cut = 0; cut <= stream.len; cut += stride()) {
    for (edge side = AT_BEGIN; side < EDGES; side++) {
      size_t whole = 0;
      ac_v2_opener opener = x.opener;
      uint8_t *const opened = guarded_at(&room.out, side, stream.len);
      ac_v2_events events = {.out = opened, .out_cap = stream.len, .event_cap = EVENTS};
      while (whole < EVENTS && ends[whole] <= cut) whole++;
      const uint8_t *const first = guarded_copy(&room.in, side, stream.at, cut);
      CHECK_STATUS(v2_events_open(&opener, &events, (view){first, cut}), AC_OK);
      CHECK(events.count == whole && events.consumed <= cut);
      const size_t consumed = events.consumed, used = events.out_len;
      const uint8_t *const rest = guarded_copy(&room.in, side, stream.at + consumed, stream.len - consumed);
      events.out = opened + used;
      events.out_cap = stream.len - used;
      CHECK_STATUS(v2_events_open(&opener, &events, (view){rest, stream.len - consumed}), AC_OK);
      CHECK(events.count == EVENTS - whole && used + events.out_len == want.len && opener.ended);
      CHECK(memcmp(opened, want.at, want.len) == 0);
    }
  }
  bytes_free(&stream);
  bytes_free(&want);
}

static void request(edge side, size_t len) {
  ac_v2_metadata m = v2_metadata(0);
  ac_secret_key node;
  ac_v2_opener opener;
  ac_v2_sealer sealer;
  uint8_t enc[AC_X25519_BYTES];
  size_t out_len = 0;
  const size_t cap = ac_v2_request_max_bytes(len, 3, AC_X25519_BYTES);
  CHECK_STATUS(ac_secret_key_generate(&node), AC_OK);
  m.endpoint = guarded_copy(&room.numbers, side, m.endpoint, m.endpoint_len);
  m.model = guarded_copy(&room.enc, side, m.model, m.model_len);
  const uint8_t *const body = guarded_copy(&room.plaintext, side, material, len);
  const uint8_t *const model_json = guarded_copy(&room.aside, side, "\"m\"", 3);
  uint8_t *const out = guarded_at(&room.out, side, cap);
  CHECK_STATUS(ac_v2_request_seal(&opener, out, cap, &out_len, AC_SUITE_X25519, v2_key_id, node.public_key, NULL, NULL, 0, &m,
                                  model_json, 3, body, len),
               AC_OK);
  const view c = member((view){out, out_len}, "ciphertext"), e = member((view){out, out_len}, "enc");
  CHECK_STATUS(aci_base64_decode_exact(enc, sizeof enc, e.at, e.len), AC_OK);
  const uint8_t *const text = guarded_copy(&room.in, side, c.at, c.len);
  const uint8_t *const received = guarded_copy(&room.aside, side, enc, sizeof enc);
  uint8_t *const opened = guarded_at(&room.plaintext, side, ac_base64_decoded_max(c.len));
  CHECK_STATUS(ac_v2_request_open(&sealer, opened, ac_base64_decoded_max(c.len), &out_len, AC_SUITE_X25519, v2_key_id, &node,
                                  NULL, received, sizeof enc, text, c.len, &m),
               AC_OK);
  CHECK(out_len == len && memcmp(opened, material, len) == 0);
}

void test_v2_guards(void) {
  static guarded *const rooms[] = {&room.plaintext, &room.numbers, &room.in, &room.out, &room.enc, &room.aside};
  enum { ROOMS = sizeof rooms / sizeof rooms[0] };
  for (size_t i = 0; i < sizeof material; i++) material[i] = (uint8_t)random_below(256);
  for (size_t i = 0; i < ROOMS; i++) *rooms[i] = guarded_new(CAP);
  for (edge side = AT_BEGIN; side < EDGES; side++) {
    for (size_t len = 1; len < MOST; len += len < 70 ? stride() : 23) {
      message(side, len, 0);
      message(side, len, 1);
      record(side, len);
      request(side, len);
    }
    record(side, 0);
    message(side, 0, 0);
  }
  cut_streams();
  for (size_t i = 0; i < ROOMS; i++) guarded_free(rooms[i]);
}
