/* A stream of events, cut anywhere: the right events, and the right opinion on whether it is finished. */
#include "harness.h"

enum { EVENTS = 3 };

static const char *const plaintexts[EVENTS] = {"{\"n\":0}", "", "{\"choices\":[],\"n\":2}"};
static const char *const usages[EVENTS] = {"", "{\"total_tokens\":2}", ""};
static const char *const line_ends[] = {"\n", "\r", "\r\n", NULL}; /* NULL: each in turn */
enum { LINE_ENDS = sizeof line_ends / sizeof line_ends[0] };

typedef struct sealed {
  ac_v1_opener opener;
  bytes event[EVENTS];
} sealed;

static sealed seal_all(void) {
  exchange x = exchange_make(NULL);
  sealed s = {.opener = x.opener};
  for (size_t i = 0; i < EVENTS; i++) s.event[i] = seal_event(&x.sealer, plaintexts[i], usages[i]);
  return s;
}

static void free_all(sealed *s) {
  for (size_t i = 0; i < EVENTS; i++) bytes_free(&s->event[i]);
}

/* What the reader must log for this stream: the model finds the data, and what it means is known. */
static int expected_log(bytes *log, view stream, const sealed *s) {
  bytes data = {0};
  const int unfinished = model_read(&data, stream);
  for (size_t at = 0; at < data.len;) {
    const char *const one = (const char *)data.at + at;
    const size_t len = strlen(one);
    view known = {(const uint8_t *)one, len}; /* white space around an object is no part of it */
    size_t i = 0;
    while (known.len != 0 && *known.at == ' ') known = (view){known.at + 1, known.len - 1};
    while (known.len != 0 && known.at[known.len - 1] == ' ') known.len--;
    at += len + 1;
    if (strcmp(one, "[DONE]") == 0) continue;
    for (; i < EVENTS; i++) {
      const view json = event_data(&s->event[i]);
      if (known.len == json.len && memcmp(known.at, json.at, json.len) == 0) break;
    }
    bytes_append(log, i < EVENTS ? "E" : "P", 1);
    bytes_append(log, i < EVENTS ? plaintexts[i] : one, i < EVENTS ? strlen(plaintexts[i]) : len);
    if (i < EVENTS && *usages[i] != 0) {
      bytes_append(log, " ", 1);
      bytes_append(log, usages[i], strlen(usages[i]));
    }
    bytes_append(log, "\n", 1);
  }
  bytes_free(&data);
  return unfinished;
}

static void check_log(const reader *r, view stream, const sealed *s) {
  bytes want = {0};
  const int unfinished = expected_log(&want, stream, s);
  CHECK_STATUS(r->status, AC_OK);
  CHECK_SAME(r->log, want);
  CHECK(reader_unfinished(r) == unfinished);
  bytes_free(&want);
}

/* ---- streams ---- */

static void put(bytes *stream, const char *text) { bytes_append(stream, text, strlen(text)); }

static void end_line(bytes *stream, size_t line_end) {
  static size_t turn;
  put(stream, line_ends[line_end] != NULL ? line_ends[line_end] : line_ends[turn++ % 3]);
}

static void put_line(bytes *stream, const char *text, size_t line_end) {
  put(stream, text);
  end_line(stream, line_end);
}

static void put_data(bytes *stream, const char *name, const sealed *s, size_t i, size_t line_end) {
  const view json = event_data(&s->event[i]);
  put(stream, name);
  bytes_append(stream, json.at, json.len);
  end_line(stream, line_end);
}

static bytes plain_stream(const sealed *s, size_t e) {
  bytes stream = {0};
  for (size_t i = 0; i < EVENTS; i++) {
    put_data(&stream, "data: ", s, i, e);
    end_line(&stream, e);
  }
  return stream;
}

static bytes rich_stream(const sealed *s, size_t e) {
  bytes stream = {0};
  put(&stream, "\xef\xbb\xbf");
  put_line(&stream, ": welcome", e);
  end_line(&stream, e);
  put_line(&stream, "event: message", e);
  put_line(&stream, "id: 7", e);
  put_data(&stream, "data: ", s, 0, e);
  put_line(&stream, "retry: 10", e);
  end_line(&stream, e);
  put_line(&stream, ":keep-alive", e);
  end_line(&stream, e);
  put_line(&stream, "event: without data", e);
  end_line(&stream, e);
  put_data(&stream, "data:", s, 1, e);
  put_line(&stream, ": inside", e);
  put_line(&stream, "database: x", e);
  end_line(&stream, e);
  end_line(&stream, e);
  put_line(&stream, "unknown", e);
  put_data(&stream, "data:  ", s, 2, e);
  end_line(&stream, e);
  put_line(&stream, "data: [DONE]", e);
  end_line(&stream, e);
  put_line(&stream, ": bye", e);
  return stream;
}

static void whole(const bytes *stream, const sealed *s) {
  bytes want = {0};
  for (size_t i = 0; i < EVENTS; i++) { /* told without the model */
    put(&want, "E");
    put(&want, plaintexts[i]);
    if (*usages[i] != 0) put(&want, " ");
    put(&want, usages[i]);
    put(&want, "\n");
  }
  for (size_t span_cap = 1; span_cap <= EVENTS + 1; span_cap++) {
    reader r = reader_make(&s->opener, span_cap, 0);
    reader_feed(&r, stream->at, stream->len);
    CHECK_SAME(r.log, want);
    check_log(&r, viewed(stream), s);
    CHECK(!reader_unfinished(&r) && r.opener.chunks == EVENTS);
    reader_free(&r);
  }
  bytes_free(&want);
}

/* Every truncation, and then every split. */
static void cut_everywhere(const bytes *stream, const sealed *s) {
  for (size_t cut = 0; cut <= stream->len; cut++) {
    reader r = reader_make(&s->opener, 1 + cut % 4, cut % 2 ? 4096 : 0);
    reader_feed(&r, stream->at, cut);
    check_log(&r, (view){stream->at, cut}, s);
    reader_feed(&r, NULL, 0); /* nothing new changes nothing */
    check_log(&r, (view){stream->at, cut}, s);
    reader_feed(&r, stream->at + cut, stream->len - cut);
    check_log(&r, viewed(stream), s);
    reader_free(&r);
  }
}

static void byte_by_byte(const bytes *stream, const sealed *s) {
  reader r = reader_make(&s->opener, 2, 0);
  for (size_t i = 0; i < stream->len; i++) reader_feed(&r, stream->at + i, 1);
  check_log(&r, viewed(stream), s);
  reader_free(&r);
}

static void in_pieces(const bytes *stream, const sealed *s) {
  reader r = reader_make(&s->opener, 1 + random_below(4), random_below(2) * 64);
  for (size_t at = 0, piece; at < stream->len; at += piece) {
    piece = 1 + random_below(random_below(3) ? 12 : 200);
    if (piece > stream->len - at) piece = stream->len - at;
    reader_feed(&r, stream->at + at, piece);
  }
  check_log(&r, viewed(stream), s);
  reader_free(&r);
}

/* Any mixture of what a stream is made of. */
static void soup(const sealed *s) {
  static const char *const scraps[] = {"data: ", "data:", "data", "dat", ":",    " ",      "\n",         "\r",
                                       "\r\n",   "\n",    "\n\n", "\r",  "\r\r", "[DONE]", "data: [DONE]", "event: x",
                                       "\xef\xbb\xbf", "id", "{}"};
  enum { SCRAPS = sizeof scraps / sizeof scraps[0] };
  for (unsigned round = 0; round < 1500; round++) {
    bytes stream = {0};
    for (unsigned n = random_below(24); n > 0; n--) {
      const uint32_t pick = random_below(SCRAPS + 2 * EVENTS);
      if (pick < SCRAPS)
        put(&stream, scraps[pick]);
      else if (pick < SCRAPS + EVENTS)
        bytes_append(&stream, event_data(&s->event[pick - SCRAPS]).at, event_data(&s->event[pick - SCRAPS]).len);
      else
        put_data(&stream, "\ndata:", s, pick - SCRAPS - EVENTS, random_below(3));
    }
    for (unsigned times = 0; times < 3; times++) in_pieces(&stream, s);
    bytes_free(&stream);
  }
}

/* ---- limits ---- */

static int status_of(const sealed *s, const bytes *stream, size_t cut, size_t max_event, size_t max_line) {
  reader r = reader_make(&s->opener, AC_V1_EVENTS, 4096);
  CHECK_STATUS(ac_v1_opener_set(&r.opener, max_event, max_line, 0), AC_OK);
  reader_feed(&r, stream->at, cut);
  if (r.status == AC_OK) reader_feed(&r, stream->at + cut, stream->len - cut);
  const int status = r.status;
  CHECK(status == AC_OK || (r.opener.state == AC_STATE_FAILED && all_zero(&r.opener.aes, sizeof r.opener.aes)));
  reader_free(&r);
  return status;
}

static void at_every_cut(const sealed *s, const bytes *stream, size_t max_event, size_t max_line, int want) {
  for (size_t cut = 0; cut <= stream->len; cut++) CHECK_STATUS(status_of(s, stream, cut, max_event, max_line), want);
}

static void event_limit(const sealed *s) {
  for (size_t e = 0; e < 3; e++) {
    bytes stream = {0};
    put_line(&stream, ": of another length than what follows, and no part of it", e);
    put_data(&stream, "data: ", s, 1, e);
    /* up to where the blank line begins */
    const size_t longest = 6 + event_data(&s->event[1]).len + strlen(line_ends[e]);
    end_line(&stream, e);
    put_data(&stream, "data:", s, 0, e); /* shorter ones */
    end_line(&stream, e);
    put_data(&stream, "data: ", s, 0, e);
    put_line(&stream, "id: 8", e);
    end_line(&stream, e);
    at_every_cut(s, &stream, longest, SIZE_MAX, AC_OK);
    at_every_cut(s, &stream, longest - 1, SIZE_MAX, AC_ERR_TOO_LARGE);
    bytes_free(&stream);
    put_data(&stream, "data: ", s, 0, e);
    put_line(&stream, "id: 8", e);
    put_line(&stream, "id: 9", e);
    at_every_cut(s, &stream, stream.len, SIZE_MAX, AC_OK); /* all of its lines count, finished or not */
    put(&stream, "x");
    at_every_cut(s, &stream, stream.len - 1, SIZE_MAX, AC_ERR_TOO_LARGE);
    bytes_free(&stream);
    for (unsigned i = 0; i < 100; i++) put_line(&stream, ": keep-alive", e); /* comments do not add up */
    at_every_cut(s, &stream, 16, SIZE_MAX, AC_OK);
    bytes_free(&stream);
  }
}

static void line_limit(const sealed *s) {
  static const char *const lines[] = {"d",    "da",    "dat",      "data",    "data:",   "date", "datax",
                                      "data", "dat:x", "data: {}", ":123456", "id: 123", "x",    ":"};
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
    for (size_t max_line = 0; max_line <= 9; max_line++) {
      bytes stream = {0};
      put_line(&stream, lines[i], i % 3);
      put_line(&stream, "", i % 3);
      const int want = status_of(s, &stream, stream.len, SIZE_MAX, max_line);
      const int is_data = strncmp(lines[i], "data", 4) == 0 && (lines[i][4] == 0 || lines[i][4] == ':');
      if (is_data) CHECK_STATUS(want, AC_OK);
      if (!is_data && strlen(lines[i]) > 4) CHECK((want == AC_OK) == (strlen(lines[i]) <= max_line));
      at_every_cut(s, &stream, SIZE_MAX, max_line, want);
      bytes_free(&stream);
    }
  }
  bytes stream = plain_stream(s, 0); /* lines of data are limited as events are */
  for (size_t max_line = 0; max_line <= 8; max_line++) at_every_cut(s, &stream, SIZE_MAX, max_line, AC_OK);
  bytes_free(&stream);
}

/* A fault behind good events comes after them. */
static void fault_comes_last(const sealed *s) {
  for (size_t span_cap = 1; span_cap <= 4; span_cap++) {
    bytes stream = plain_stream(s, 0), want = {0};
    const view tag_end = member(event_data(&s->event[2]), "ciphertext");
    const size_t at = s->event[0].len + s->event[1].len + (size_t)(tag_end.at - s->event[2].at) + tag_end.len - 5;
    stream.at[at] = stream.at[at] == 'A' ? 'B' : 'A';
    reader r = reader_make(&s->opener, span_cap, 4096);
    reader_feed(&r, stream.at, stream.len);
    (void)expected_log(&want, (view){stream.at, s->event[0].len + s->event[1].len}, s);
    CHECK_SAME(r.log, want);
    CHECK_STATUS(r.status, AC_ERR_AUTH);
    CHECK(r.opener.state == AC_STATE_FAILED && all_zero(&r.opener.aes, sizeof r.opener.aes));
    reader_free(&r);
    bytes_free(&stream);
    bytes_free(&want);
  }
}

void test_stream(void) {
  sealed s = seal_all();
  for (size_t e = 0; e < LINE_ENDS; e++) {
    bytes streams[] = {plain_stream(&s, e), rich_stream(&s, e)};
    for (size_t i = 0; i < 2; i++) {
      whole(&streams[i], &s);
      cut_everywhere(&streams[i], &s);
      byte_by_byte(&streams[i], &s);
      for (unsigned times = 0; times < 50; times++) in_pieces(&streams[i], &s);
      bytes_free(&streams[i]);
    }
  }
  soup(&s);
  event_limit(&s);
  line_limit(&s);
  fault_comes_last(&s);
  free_all(&s);
}
