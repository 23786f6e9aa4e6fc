/* A stream of v2's events, cut anywhere: the right events, the right verdict, and nothing behind the end. */
#include "harness.h"

enum { EVENTS = 5 };

static const char *const plaintexts[EVENTS] = {"{\"n\":0}", "{\"n\":1}", "{\"choices\":[],\"n\":2}", "{\"n\":3}", ""};
static const uint64_t numbers[AC_V2_USAGE] = {3, 9007199254740991, 0};
static const char *const line_ends[] = {"\n", "\r", "\r\n", NULL}; /* NULL: each in turn */
enum { LINE_ENDS = sizeof line_ends / sizeof line_ends[0] };

typedef struct sealed {
  ac_v2_opener opener;
  bytes event[EVENTS];
  uint32_t last_flag;
} sealed;

static uint32_t flag_of(const sealed *s, size_t i) { return i == EVENTS - 1 ? s->last_flag : AC_FLAG_MORE; }
static const uint64_t *usage_of(size_t i) { return i == 1 || i == EVENTS - 1 ? numbers : NULL; }
static view data_of(const sealed *s, size_t i) { return (view){s->event[i].at + 6, s->event[i].len - 8}; }

static sealed seal_all(uint32_t last_flag) {
  v2_exchange x = v2_exchange_make(1);
  sealed s = {.opener = x.opener, .last_flag = last_flag};
  for (size_t i = 0; i < EVENTS; i++) s.event[i] = v2_seal(&x.sealer, flag_of(&s, i), plaintexts[i], usage_of(i));
  return s;
}

static void free_all(sealed *s) {
  for (size_t i = 0; i < EVENTS; i++) bytes_free(&s->event[i]);
}

/* What the reader must log and say of this stream: the model finds the data, and what it means is known. */
static int expected_log(bytes *log, int *unfinished, view stream, const sealed *s) {
  bytes data = {0};
  size_t next = 0;
  int status = AC_OK;
  *unfinished = model_read(&data, stream);
  for (size_t at = 0; at < data.len && status == AC_OK;) {
    const char *const one = (const char *)data.at + at;
    const size_t len = strlen(one);
    view known = {(const uint8_t *)one, len}; /* white space around an object is no part of it */
    size_t i = 0;
    while (known.len != 0 && *known.at == ' ') known = (view){known.at + 1, known.len - 1};
    while (known.len != 0 && known.at[known.len - 1] == ' ') known.len--;
    at += len + 1;
    for (; i < EVENTS; i++) {
      const view json = data_of(s, i);
      if (known.len == json.len && memcmp(known.at, json.at, json.len) == 0) break;
    }
    if (next == EVENTS) { /* an event behind the last, whatever it is */
      status = AC_ERR_FORMAT;
    } else if (i == next) {
      v2_log(log, flag_of(s, i), view_of(plaintexts[i]), usage_of(i));
      next++;
    } else if (i == EVENTS || i == 0 || next == 0) { /* no event, or one with a salt too many, or too few */
      bytes_append(log, "P", 1);
      bytes_append(log, one, len);
      bytes_append(log, "\n", 1);
    } else {
      status = AC_ERR_AUTH;
    }
  }
  bytes_free(&data);
  return status;
}

static void check_log(const v2_reader *r, view stream, const sealed *s) {
  bytes want = {0};
  int unfinished = 0;
  const int status = expected_log(&want, &unfinished, stream, s);
  CHECK_STATUS(r->status, status);
  CHECK_SAME(r->log, want);
  if (status == AC_OK) {
    CHECK(ac_v2_events_unfinished(&r->opener, r->held.len) == unfinished);
  } else { /* for good, but what has ended has ended */
    CHECK(r->opener.state == AC_STATE_FAILED && r->opener.ended == (status == AC_ERR_FORMAT));
    CHECK(all_zero(&r->opener.key, sizeof r->opener.key) && all_zero(r->opener.base, sizeof r->opener.base));
  }
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
  const view json = data_of(s, i);
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

/* With all that may be passed over, also behind the end. */
static bytes rich_stream(const sealed *s, size_t e) {
  static const char *const names[EVENTS] = {"data: ", "data:", "data:  ", "data: ", "data:"};
  bytes stream = {0};
  put(&stream, "\xef\xbb\xbf");
  put_line(&stream, ": welcome", e);
  end_line(&stream, e);
  for (size_t i = 0; i < EVENTS; i++) {
    put_line(&stream, i % 2 ? "event: message" : ": inside", e);
    put_data(&stream, names[i], s, i, e);
    put_line(&stream, i % 2 ? "database: x" : "id: 7", e);
    end_line(&stream, e);
    put_line(&stream, ":keep-alive", e);
    end_line(&stream, e);
    put_line(&stream, "event: without data", e);
    end_line(&stream, e);
  }
  put_line(&stream, ": bye", e);
  return stream;
}

static void in_one(const bytes *stream, const sealed *s) {
  for (size_t span_cap = 1; span_cap <= EVENTS + 1; span_cap++) {
    v2_reader r = v2_reader_make(&s->opener, span_cap, 0);
    v2_reader_feed(&r, stream->at, stream->len);
    check_log(&r, viewed(stream), s);
    CHECK(r.opener.ended && r.opener.state == AC_STATE_ENDED && r.opener.index == EVENTS);
    CHECK(all_zero(&r.opener.key, sizeof r.opener.key));
    v2_reader_free(&r);
  }
}

/* Every truncation, and then every split. A truncation is never an end. */
static void cut_everywhere(const bytes *stream, const sealed *s, size_t whole) {
  for (size_t cut = 0; cut <= stream->len; cut++) {
    v2_reader r = v2_reader_make(&s->opener, 1 + cut % 6, cut % 2 ? 4096 : 0);
    v2_reader_feed(&r, stream->at, cut);
    check_log(&r, (view){stream->at, cut}, s);
    if (cut < whole) CHECK(!r.opener.ended);
    v2_reader_feed(&r, NULL, 0); /* nothing new changes nothing */
    check_log(&r, (view){stream->at, cut}, s);
    v2_reader_feed(&r, stream->at + cut, stream->len - cut);
    check_log(&r, viewed(stream), s);
    v2_reader_free(&r);
  }
}

static void in_pieces(const bytes *stream, const sealed *s, uint32_t most) {
  v2_reader r = v2_reader_make(&s->opener, 1 + random_below(6), random_below(2) * 64);
  for (size_t at = 0, piece; at < stream->len; at += piece) {
    piece = 1 + random_below(random_below(3) ? 12 : 200);
    if (most == 1) piece = 1;
    if (piece > stream->len - at) piece = stream->len - at;
    v2_reader_feed(&r, stream->at + at, piece);
  }
  check_log(&r, viewed(stream), s);
  v2_reader_free(&r);
}

/* Drop, duplicate, swap: whatever order the events come in. */
static void orders(const sealed *s) {
  for (unsigned order = 0; order < 5 * 5 * 5 * 5; order++) {
    bytes stream = {0};
    for (unsigned rest = order, i = 0; i < 4; i++, rest /= 5) bytes_append(&stream, s->event[rest % 5].at, s->event[rest % 5].len);
    v2_reader r = v2_reader_make(&s->opener, 1 + order % 5, 4096);
    v2_reader_feed(&r, stream.at, stream.len);
    check_log(&r, viewed(&stream), s);
    v2_reader_free(&r);
    bytes_free(&stream);
  }
}

/* Any mixture of what a stream is made of. */
static void soup(const sealed *s) {
  static const char *const scraps[] = {"data: ", "data:", "data", "dat", ":",    " ",      "\n",         "\r",
                                       "\r\n",   "\n",    "\n\n", "\r",  "\r\r", "[DONE]", "data: [DONE]", "event: x",
                                       "\xef\xbb\xbf", "id", "{}"};
  enum { SCRAPS = sizeof scraps / sizeof scraps[0] };
  for (unsigned round = 0; round < 1500; round++) {
    bytes stream = {0};
    size_t next = 0;
    for (unsigned n = random_below(24); n > 0; n--) {
      const uint32_t pick = random_below(SCRAPS + 12);
      if (pick < SCRAPS)
        put(&stream, scraps[pick]);
      else if (pick < SCRAPS + 3)
        put_data(&stream, "\ndata:", s, random_below(EVENTS), random_below(3));
      else if (pick < SCRAPS + 4)
        bytes_append(&stream, data_of(s, next % EVENTS).at, data_of(s, next % EVENTS).len);
      else /* in their order, so that one comes far */
        put_data(&stream, "\n\ndata: ", s, next++ % EVENTS, random_below(3));
    }
    for (unsigned times = 0; times < 3; times++) in_pieces(&stream, s, 0);
    bytes_free(&stream);
  }
}

/* ---- behind the end ---- */

static void behind_the_end(const sealed *s) {
  static const struct {
    const char *text;
    int status;
  } rests[] = {
      {"data: [DONE]\n\n", AC_ERR_FORMAT}, {"data: {}\n\n", AC_ERR_FORMAT}, {"data\n\n", AC_ERR_FORMAT},
      {"data:\n\n", AC_ERR_FORMAT},        {": bye\n\n", AC_OK},            {"\n\n\r\n", AC_OK},
      {"event: x\n\n", AC_OK},             {"data: [DONE]\n", AC_OK}, /* not complete */
      {"data: {\"ciphertext\":\"AAAA\"}\n\n", AC_ERR_FORMAT},
  };
  for (size_t i = 0; i < sizeof rests / sizeof rests[0]; i++) {
    bytes stream = plain_stream(s, 0);
    const size_t whole = stream.len;
    put(&stream, rests[i].text);
    bytes out = bytes_new(stream.len), in = bytes_copy(stream.at, stream.len);
    ac_v2_opener opener = s->opener;
    ac_v2_events events = {.out = out.at, .out_cap = out.len, .event_cap = AC_V2_EVENTS};
    CHECK_STATUS(v2_events_open(&opener, &events, viewed(&in)), AC_OK); /* the call that opens the last says nothing of it */
    CHECK(events.count == EVENTS && events.consumed == whole && opener.ended && opener.state == AC_STATE_ENDED);
    CHECK_STATUS(v2_events_open(&opener, &events, (view){in.at + whole, in.len - whole}), rests[i].status);
    CHECK(events.count == 0 && opener.ended);
    CHECK(opener.state == (rests[i].status == AC_OK ? AC_STATE_ENDED : AC_STATE_FAILED));
    if (rests[i].status != AC_OK) CHECK_STATUS(v2_events_open(&opener, &events, viewed(&in)), AC_ERR_STATE);
    bytes_free(&out);
    bytes_free(&in);
    cut_everywhere(&stream, s, whole);
    bytes_free(&stream);
  }
}

/* ---- limits ---- */

static int status_of(const sealed *s, const bytes *stream, size_t cut, size_t max_event, size_t max_line, uint32_t *ended) {
  v2_reader r = v2_reader_make(&s->opener, AC_V2_EVENTS, 4096);
  CHECK_STATUS(ac_v2_opener_set(&r.opener, max_event, max_line), AC_OK);
  v2_reader_feed(&r, stream->at, cut);
  if (r.status == AC_OK) v2_reader_feed(&r, stream->at + cut, stream->len - cut);
  const int status = r.status;
  CHECK(status == AC_OK || (r.opener.state == AC_STATE_FAILED && all_zero(&r.opener.key, sizeof r.opener.key)));
  *ended = r.opener.ended;
  v2_reader_free(&r);
  return status;
}

static void limits(const sealed *s) {
  for (size_t e = 0; e < 3; e++) {
    bytes stream = plain_stream(s, e);
    size_t longest = 0, first = 6 + data_of(s, 0).len + strlen(line_ends[e]);
    for (size_t i = 0; i < EVENTS; i++) {
      const size_t len = 6 + data_of(s, i).len + strlen(line_ends[e]);
      if (len > longest) longest = len;
    }
    const size_t whole = stream.len;
    put_line(&stream, ": a comment", e);
    for (size_t cut = 0; cut <= stream.len; cut++) {
      uint32_t ended = 0;
      CHECK_STATUS(status_of(s, &stream, cut, longest, 11, &ended), AC_OK);
      CHECK(ended);
      CHECK_STATUS(status_of(s, &stream, cut, longest - 1, 11, &ended), AC_ERR_TOO_LARGE);
      CHECK_STATUS(status_of(s, &stream, cut, first - 1, 11, &ended), AC_ERR_TOO_LARGE);
      CHECK(!ended);
      CHECK_STATUS(status_of(s, &stream, cut, longest, 10, &ended), AC_ERR_TOO_LARGE);
      CHECK(ended); /* the line that is too long stands behind the end */
    }
    CHECK(whole < stream.len);
    bytes_free(&stream);
  }
}

/* A fault behind good events comes after them, wherever it is. */
static void fault_comes_last(const sealed *s) {
  for (size_t spoilt = 0; spoilt < EVENTS; spoilt++) {
    for (size_t span_cap = 1; span_cap <= EVENTS; span_cap++) {
      bytes stream = {0}, want = {0};
      for (size_t i = 0; i < EVENTS; i++) {
        const view sealed_text = member(data_of(s, i), "ciphertext");
        const size_t at = stream.len + (size_t)(sealed_text.at - s->event[i].at) + 5;
        bytes_append(&stream, s->event[i].at, s->event[i].len);
        if (i == spoilt) stream.at[at] = stream.at[at] == 'A' ? 'B' : 'A';
        if (i < spoilt) v2_log(&want, flag_of(s, i), view_of(plaintexts[i]), usage_of(i));
      }
      v2_reader r = v2_reader_make(&s->opener, span_cap, 4096);
      v2_reader_feed(&r, stream.at, stream.len);
      CHECK_SAME(r.log, want);
      CHECK_STATUS(r.status, AC_ERR_AUTH);
      CHECK(r.opener.state == AC_STATE_FAILED && all_zero(&r.opener.key, sizeof r.opener.key) && !r.opener.ended);
      v2_reader_free(&r);
      bytes_free(&stream);
      bytes_free(&want);
    }
  }
}

void test_v2_stream(void) {
  for (uint32_t last = AC_FLAG_END; last <= AC_FLAG_ABORT; last++) {
    sealed s = seal_all(last);
    for (size_t e = 0; e < LINE_ENDS; e++) {
      bytes streams[] = {plain_stream(&s, e), rich_stream(&s, e)};
      for (size_t i = 0; i < 2; i++) {
        const size_t whole = i == 0 ? streams[0].len : 0; /* CRLF: the end is known at its CR */
        in_one(&streams[i], &s);
        cut_everywhere(&streams[i], &s, whole == 0 ? 0 : whole - 2);
        in_pieces(&streams[i], &s, 1);
        for (unsigned times = 0; times < 20; times++) in_pieces(&streams[i], &s, 0);
        bytes_free(&streams[i]);
      }
    }
    behind_the_end(&s);
    fault_comes_last(&s);
    if (last == AC_FLAG_END) {
      orders(&s);
      soup(&s);
      limits(&s);
    }
    free_all(&s);
  }
}
