/* Protocol v2's two ends, and a reader that takes a stream as a session does. */
#include "harness.h"

const uint8_t v2_key_id[AC_KEY_ID_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};

ac_v2_metadata v2_metadata(int stream) {
  static const char endpoint[] = "/v1/chat/completions", model[] = "m";
  return (ac_v2_metadata){.endpoint = (const uint8_t *)endpoint,
                          .endpoint_len = sizeof endpoint - 1,
                          .model = (const uint8_t *)model,
                          .model_len = 1,
                          .stack_small_id = 42,
                          .num_compute_units = 64,
                          .sent_at = 1763808745,
                          .has_stack_small_id = 1,
                          .has_num_compute_units = 1,
                          .stream = stream != 0};
}

v2_exchange v2_exchange_make(int stream) {
  static const char body[] = "{\"messages\":[]}";
  const ac_v2_metadata metadata = v2_metadata(stream);
  v2_exchange x;
  ac_secret_key node;
  size_t len = 0;
  uint8_t enc[AC_X25519_BYTES];
  memset(&x, 0, sizeof x);
  bytes request = bytes_new(ac_v2_request_max_bytes(sizeof body - 1, 3, sizeof enc));
  CHECK_STATUS(ac_secret_key_generate(&node), AC_OK);
  CHECK_STATUS(ac_v2_request_seal(&x.opener, request.at, request.len, &len, AC_SUITE_X25519, v2_key_id, node.public_key,
                                  NULL, NULL, 0, &metadata, (const uint8_t *)"\"m\"", 3, (const uint8_t *)body,
                                  sizeof body - 1),
               AC_OK);
  const view json = {request.at, len}, enc_text = member(json, "enc"), sealed = member(json, "ciphertext");
  CHECK_STATUS(aci_base64_decode_exact(enc, sizeof enc, enc_text.at, enc_text.len), AC_OK);
  bytes opened = bytes_new(ac_base64_decoded_max(sealed.len));
  CHECK_STATUS(ac_v2_request_open(&x.sealer, opened.at, opened.len, &len, AC_SUITE_X25519, v2_key_id, &node, NULL, enc,
                                  sizeof enc, sealed.at, sealed.len, &metadata),
               AC_OK);
  CHECK_SAME(((view){opened.at, len}), view_of(body));
  bytes_free(&opened);
  bytes_free(&request);
  return x;
}

int usage_is(const uint64_t *got, const uint64_t *want) {
  return memcmp(got, want, AC_V2_USAGE * sizeof *want) == 0;
}

bytes v2_seal(ac_v2_sealer *sealer, uint32_t flag, const char *plaintext, const uint64_t *usage) {
  const size_t plaintext_len = strlen(plaintext);
  bytes event = bytes_new(ac_v2_events_bytes(sealer, plaintext_len, &plaintext_len, 1, flag, usage));
  bytes exact = bytes_copy(plaintext, plaintext_len);
  size_t len = 0;
  if (flag == AC_FLAG_MORE && usage == NULL) {
    CHECK(ac_v2_event_seal(sealer, event.at, event.len, exact.at, exact.len) == (int64_t)event.len);
  } else {
    CHECK_STATUS(ac_v2_events_seal(sealer, event.at, event.len, &len, exact.at, exact.len, &exact.len, 1, flag, usage),
                 AC_OK);
    CHECK(len == event.len);
  }
  bytes_free(&exact);
  return event;
}

bytes v2_seal_object(ac_v2_sealer *sealer, uint32_t flag, const char *plaintext, const uint64_t *usage) {
  bytes exact = bytes_copy(plaintext, strlen(plaintext));
  bytes object = bytes_new(ac_v2_object_bytes(exact.len, flag, usage));
  size_t len = 0;
  CHECK_STATUS(ac_v2_object_seal(sealer, object.at, object.len, &len, flag, exact.at, exact.len, usage), AC_OK);
  CHECK(len == object.len);
  bytes_free(&exact);
  return object;
}

int v2_events_open(ac_v2_opener *opener, ac_v2_events *events, view in) {
  events->opener = opener;
  const int64_t status = ac_v2_events_open(events, in.at, in.len);
  if (status < AC_ONE) return (int)status;
  CHECK(events->count == 1 && events->consumed == in.len && events->out_len == events->spans[0] &&
        (int64_t)events->out_len == status - AC_ONE && events->spans[1] == AC_FLAG_MORE && events->spans[2] == 0);
  return AC_OK;
}

int v2_open_alone(ac_v2_opener *opener, bytes *plaintext, uint64_t span[AC_V2_SPAN], view event) {
  bytes in = bytes_copy(event.at, event.len), out = bytes_new(event.len);
  ac_v2_events events = {.out = out.at, .out_cap = out.len, .event_cap = 1};
  int status = v2_events_open(opener, &events, viewed(&in));
  if (status == AC_OK && events.count == 0) status = AC_PUNT; /* not even an event */
  *plaintext = status == AC_OK ? bytes_copy(out.at, events.out_len) : (bytes){NULL, 0};
  if (status == AC_OK) memcpy(span, events.spans, AC_V2_SPAN * sizeof *span);
  bytes_free(&in);
  bytes_free(&out);
  return status;
}

/* ---- one event or object at a time, in a buffer that ends where it ends ---- */

int v2_feed(ac_v2_opener *opener, bytes *out, size_t *len, size_t *count, view event) {
  ac_v2_events events = {.out = out->at, .out_cap = out->len, .event_cap = 1, .out_len = *len};
  bytes in = bytes_copy(event.at, event.len);
  const int status = v2_events_open(opener, &events, viewed(&in));
  *count = events.count;
  *len = events.out_len;
  bytes_free(&in);
  return status;
}

int v2_feed_members(ac_v2_opener *opener, bytes *out, size_t *len, int event, uint32_t flag, view json,
                    const uint64_t *usage) {
  const view c = member(json, "ciphertext"), s = member(json, "salt");
  bytes ciphertext = bytes_copy(c.at, c.len), salt = bytes_copy(s.at, s.len);
  const int status = ac_v2_sealed_open(opener, out->at, out->len, len, event, flag, ciphertext.at, c.len, salt.at, s.len,
                                       usage);
  bytes_free(&ciphertext);
  bytes_free(&salt);
  return status;
}

int v2_feed_object(ac_v2_opener *opener, bytes *out, size_t *len, uint64_t span[AC_V2_SPAN], view json) {
  bytes in = bytes_copy(json.at, json.len);
  const int status = ac_v2_object_open(opener, out->at, out->len, len, span, in.at, in.len);
  bytes_free(&in);
  return status;
}

view v2_data_of(const bytes *event) { return (view){event->at + 6, event->len - 8}; }

void v2_check_failed(const ac_v2_opener *opener, const bytes *out, const char *plaintext) {
  CHECK(opener->state == AC_STATE_FAILED && opener->busy == 0 && all_zero(&opener->key, sizeof opener->key));
  CHECK(all_zero(opener->base, sizeof opener->base));
  CHECK(!holds_run_of(out->at, out->len, plaintext, strlen(plaintext)));
}

/* ---- the reader ---- */

v2_reader v2_reader_make(const ac_v2_opener *fresh, size_t span_cap, size_t out_cap) {
  return (v2_reader){.opener = *fresh, .span_cap = span_cap, .out_cap = out_cap, .status = AC_OK};
}

void v2_log(bytes *log, uint64_t flag, view plaintext, const uint64_t *usage) {
  char text[80];
  bytes_append(log, "E", 1);
  bytes_append(log, (const char *)"0123" + flag, 1);
  bytes_append(log, plaintext.at, plaintext.len);
  if (usage != NULL) {
    const int len = snprintf(text, sizeof text, " %llu %llu %llu", (unsigned long long)usage[0],
                             (unsigned long long)usage[1], (unsigned long long)usage[2]);
    bytes_append(log, text, (size_t)len);
  }
  bytes_append(log, "\n", 1);
}

static void log_punt(v2_reader *r, view event) {
  bytes data = {0}, stream = bytes_copy("\xef\xbb\xbf", 3); /* a mark further in would be no mark */
  bytes_append(&stream, event.at, event.len);
  CHECK(!model_read(&data, viewed(&stream)));
  CHECK(data.len != 0 && memchr(data.at, 0, data.len) == data.at + data.len - 1); /* one event */
  r->punts++;
  bytes_append(&r->log, "P", 1);
  bytes_append(&r->log, data.at, data.len - (data.len != 0));
  bytes_append(&r->log, "\n", 1);
  bytes_free(&data);
  bytes_free(&stream);
}

/* One call on a buffer of exactly the bytes that are there. 1: there may be more to read in what is left. */
static int read_some(v2_reader *r, view left, size_t *consumed) {
  const ac_v2_opener before = r->opener;
  size_t out_cap = r->out_cap;
  bytes in = bytes_copy(left.at, left.len), out = bytes_new(out_cap);
  ac_v2_events events = {.out = out.at, .out_cap = out.len, .event_cap = r->span_cap};
  int status;
  for (;;) {
    status = v2_events_open(&r->opener, &events, viewed(&in));
    if (status != AC_ERR_CAPACITY) break;
    CHECK(bytes_untouched(&out) && memcmp(&before, &r->opener, sizeof before) == 0);
    if (!CHECK(events.out_len > out_cap)) break;
    out_cap = events.out_len;
    bytes_free(&out);
    out = bytes_new(out_cap); /* just what it asks for */
    events.out = out.at;
    events.out_cap = out.len;
  }
  const size_t count = events.count;
  *consumed = events.consumed;
  if (status == AC_OK) {
    const uint8_t *plaintext = out.at;
    CHECK(*consumed <= in.len && count <= r->span_cap && events.out_len <= out_cap);
    for (size_t i = 0; i < count; i++) {
      const uint64_t *const span = events.spans + AC_V2_SPAN * i;
      CHECK(span[1] == AC_FLAG_MORE || (i == count - 1 && r->opener.ended)); /* nothing behind the end */
      v2_log(&r->log, span[1], (view){plaintext, (size_t)span[0]}, span[2] ? span + 3 : NULL);
      plaintext += span[0];
    }
  } else if (status == AC_PUNT) {
    CHECK(count == 0 && events.punt_pos < *consumed && *consumed <= in.len);
    log_punt(r, (view){in.at + events.punt_pos, *consumed - events.punt_pos});
  } else {
    r->status = status;
  }
  bytes_free(&in);
  bytes_free(&out);
  return status == AC_PUNT || (status == AC_OK && count != 0);
}

void v2_reader_feed(v2_reader *r, const void *in, size_t len) {
  size_t at = 0, consumed = 0;
  if (r->status != AC_OK) return;
  bytes_append(&r->held, in, len);
  do {
    const view left = {at != 0 ? r->held.at + at : r->held.at, r->held.len - at};
    consumed = 0;
    if (!read_some(r, left, &consumed)) break;
    at += consumed;
  } while (r->status == AC_OK);
  at += r->status == AC_OK ? consumed : 0;
  bytes left = bytes_copy(at < r->held.len ? r->held.at + at : NULL, r->held.len - at);
  bytes_free(&r->held);
  r->held = left;
}

void v2_reader_free(v2_reader *r) {
  bytes_free(&r->held);
  bytes_free(&r->log);
}
