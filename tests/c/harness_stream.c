/* Reads a stream with the core, in the pieces that it is given; and with a model that has nothing in common with it. */
#include "harness.h"

/* ---- the core ---- */

reader reader_make(const ac_v1_opener *fresh, size_t span_cap, size_t out_cap) {
  return (reader){.opener = *fresh, .span_cap = span_cap, .out_cap = out_cap, .status = AC_OK};
}

static void log_events(reader *r, const uint8_t *in, const uint8_t *out, const size_t *spans, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const size_t *span = spans + AC_V1_SPAN * i;
    bytes_append(&r->log, "E", 1);
    bytes_append(&r->log, out, span[0]);
    if (span[2] != 0) {
      bytes_append(&r->log, " ", 1);
      bytes_append(&r->log, in + span[1], span[2]);
    }
    bytes_append(&r->log, "\n", 1);
    out += span[0];
  }
}

static void log_punt(reader *r, view event) {
  bytes data = {0}, stream = bytes_copy("\xef\xbb\xbf", 3); /* a mark further in would be no mark */
  bytes_append(&stream, event.at, event.len);
  CHECK(!model_read(&data, viewed(&stream)));
  CHECK(data.len != 0 && memchr(data.at, 0, data.len) == data.at + data.len - 1); /* one event */
  bytes_append(&r->log, "P", 1);
  bytes_append(&r->log, data.at, data.len - (data.len != 0));
  bytes_append(&r->log, "\n", 1);
  bytes_free(&data);
  bytes_free(&stream);
}

/* One call on a buffer of exactly the bytes that are there. 1: there may be more to read in what is left. */
static int read_some(reader *r, view left, size_t *consumed) {
  const ac_v1_opener before = r->opener;
  size_t out_cap = r->out_cap;
  bytes in = bytes_copy(left.at, left.len), out = bytes_new(out_cap);
  ac_v1_events events = {.out = out.at, .out_cap = out.len, .event_cap = r->span_cap};
  int status;
  for (;;) {
    status = events_open(&r->opener, &events, (view){in.at, in.len});
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
    CHECK(*consumed <= in.len && count <= r->span_cap && events.out_len <= out_cap);
    log_events(r, in.at, out.at, events.spans, count);
  } else if (status == AC_PUNT) {
    const size_t punt = events.punt_pos;
    CHECK(count == 0 && punt < *consumed && *consumed <= in.len);
    log_punt(r, (view){in.at + punt, *consumed - punt});
  } else {
    r->status = status;
  }
  bytes_free(&in);
  bytes_free(&out);
  return status == AC_PUNT || (status == AC_OK && count != 0);
}

void reader_feed(reader *r, const void *in, size_t len) {
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

int reader_unfinished(const reader *r) { return ac_v1_events_unfinished(&r->opener, r->held.len); }

void reader_free(reader *r) {
  bytes_free(&r->held);
  bytes_free(&r->log);
}

/* ---- the model ---- */

static void take_line(bytes *event, int *has_data, view line) {
  const uint8_t *colon = memchr(line.at, ':', line.len);
  const size_t name_len = colon != NULL ? (size_t)(colon - line.at) : line.len;
  size_t skip = colon != NULL ? name_len + 1 : name_len;
  if (name_len != 4 || memcmp(line.at, "data", 4) != 0) return;
  if (skip < line.len && line.at[skip] == ' ') skip++;
  if (*has_data) bytes_append(event, "\n", 1);
  bytes_append(event, line.at + skip, line.len - skip);
  *has_data = 1;
}

int model_read(bytes *data, view stream) {
  static const uint8_t mark[3] = {0xef, 0xbb, 0xbf};
  bytes event = {0};
  int has_data = 0, has_field = 0;
  size_t at = stream.len >= 3 && memcmp(stream.at, mark, 3) == 0 ? 3 : 0;
  while (at < stream.len) {
    size_t end = at;
    while (end < stream.len && stream.at[end] != '\r' && stream.at[end] != '\n') end++;
    if (end == stream.len) break;
    const view line = {stream.at + at, end - at};
    at = end + 1;
    if (stream.at[end] == '\r' && at < stream.len && stream.at[at] == '\n') at++;
    if (line.len != 0) {
      if (line.at[0] == ':') continue;
      has_field = 1;
      take_line(&event, &has_data, line);
    } else {
      if (has_data) {
        bytes_append(data, event.at, event.len);
        bytes_append(data, "", 1);
      }
      bytes_free(&event);
      has_data = has_field = 0;
    }
  }
  bytes_free(&event);
  return has_field || at < stream.len;
}
