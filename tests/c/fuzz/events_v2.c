/* The reader of v2's event streams: whole and in pieces it says the same; what comes out was sealed, in this order. */
#include "fuzz.h"

enum { MOST_STREAM = 3072, MOST_EVENTS = 512, STEPS = 24 };

static const exchange *x;
static uint8_t stream_bytes[MOST_STREAM];
static sse_event model[MOST_EVENTS];

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  fuzz_init();
  x = exchange_make();
  return 0;
}

typedef struct plan {
  int whole;
  uint8_t sizes[8]; /* of the pieces, again and again */
  size_t out_cap, event_cap;
} plan;

typedef struct outcome {
  char items[MOST_EVENTS + 1]; /* E: opened, P: for the general parser */
  size_t count;
  int status, unfinished;
} outcome;

typedef struct reading {
  ac_v2_opener opener;
  view stream;
  size_t at, have;  /* consumed, received */
  size_t event;     /* of the model */
  size_t events;    /* of the model, up to what is too large */
  int rest;         /* what stands behind them */
  uint32_t records;
  int ended;
} reading;

/* What the node has sealed that says this, if it is this event's turn. Nothing is where the answer is no stream. */
static const sealed *find_sealed(const reading *r, const sse_event *e) {
  static const char *const names[AC_V2_USAGE] = {"prompt_tokens", "completion_tokens", "total_tokens"};
  json_object o, inner;
  uint64_t flag = 0, version = 0, number = 0;
  if (!r->opener.stream || e->data_lines != 1 || !oracle_json(&o, e->data)) return NULL;
  size_t flags = 0, salts = 0, versions = 0, usages = 0;
  const json_member *const c = json_find(&o, "ciphertext", NULL), *const f = json_find(&o, "flag", &flags);
  const json_member *const s = json_find(&o, "salt", &salts), *const v = json_find(&o, "v", &versions);
  const json_member *const u = json_find(&o, "usage", &usages);
  if (c == NULL || c->kind != '"' || 1 + flags + salts + versions + usages != o.count) return NULL;
  if (flags != 0 && (f == NULL || !json_number(f, &flag))) return NULL;
  if (versions != 0 && (v == NULL || !json_number(v, &version) || version != 2)) return NULL;
  if (salts != versions || salts != (r->records == 0)) return NULL;
  if (salts != 0 && (s == NULL || s->kind != '"' || !same(s->value, (view){x->v2_salt, sizeof x->v2_salt}))) return NULL;
  const int shows = u != NULL && u->kind == '{';
  if (usages != 0 && !shows && (u == NULL || u->kind != 'n')) return NULL;
  if (shows && (!oracle_json(&inner, u->value) || inner.count != AC_V2_USAGE)) return NULL;
  for (size_t i = 0; i < x->v2_count; i++) {
    const sealed *const one = &x->v2[i];
    int fits = one->index == r->records && one->flag == flag && same(one->ciphertext, c->value) && shows == (one->usage.len != 0);
    for (size_t k = 0; fits && shows && k < AC_V2_USAGE; k++) {
      const json_member *const m = json_find(&inner, names[k], NULL);
      fits = m != NULL && json_number(m, &number) && number == one->numbers[k];
    }
    if (fits) return one;
  }
  return NULL;
}

static const sse_event *next_event(const reading *r) { return r->event < r->events ? &model[r->event] : NULL; }

static void check_opened(reading *r, view plaintext, const uint64_t *span) {
  const sse_event *const e = next_event(r);
  MUST(e != NULL && !r->ended);
  const sealed *const s = find_sealed(r, e);
  MUST(s != NULL && same(s->plaintext, plaintext) && span[1] == s->flag && span[2] == (s->usage.len != 0));
  MUST(!span[2] || memcmp(span + 3, s->numbers, sizeof s->numbers) == 0);
  r->ended = s->flag != AC_FLAG_MORE;
  r->records++;
  r->event++;
}

static void check_punt(reading *r, const ac_v2_events *events) {
  const sse_event *const e = next_event(r);
  MUST(e != NULL && !r->ended && events->count == 0 && events->punt_pos < events->consumed);
  const uint8_t *const begin = r->stream.at + r->at + events->punt_pos, *const end = r->stream.at + r->at + events->consumed;
  MUST(e->data.at >= begin && e->data.at + e->data.len < end && (end == e->end || end == e->end - 1));
  const sealed *const s = find_sealed(r, e);
  MUST(s == NULL || !same(e->data, s->json)); /* that is the common case */
  r->event++;
}

static void check_failed(reading *r, int status, const uint8_t *in, size_t len) {
  ac_v2_events events = {.opener = &r->opener, .event_cap = 1};
  MUST(r->opener.state == AC_STATE_FAILED && r->opener.busy == 0 && all_zero(&r->opener.key, sizeof r->opener.key));
  MUST(all_zero(r->opener.base, sizeof r->opener.base) && r->opener.ended == (uint32_t)r->ended);
  MUST(ac_v2_events_open(&events, in, len) == AC_ERR_STATE && r->opener.state == AC_STATE_FAILED);
  if (status == AC_ERR_TOO_LARGE) {
    MUST(r->rest == TOO_LARGE && next_event(r) == NULL);
    return;
  }
  const sse_event *const e = next_event(r);
  MUST(e != NULL);
  if (status == AC_ERR_FORMAT) MUST(r->ended);
  else MUST(status == AC_ERR_AUTH && !r->ended && find_sealed(r, e) == NULL);
}

/* One call on exactly what is there, with room for exactly what is needed if it must be. 1: something was found. */
static int step(reading *r, const plan *p, outcome *o) {
  arena_reset();
  const size_t len = r->have - r->at;
  const uint8_t *const in = copied(r->stream.at + r->at, len);
  const ac_v2_opener before = r->opener;
  ac_v2_events events = {.opener = &r->opener, .out_cap = p->whole ? MOST_STREAM : p->out_cap, .event_cap = p->whole ? AC_V2_EVENTS : p->event_cap};
  events.out = room(events.out_cap);
  if (before.sse.scan_pos != 0) { /* bytes are gone that were there: refused */
    MUST(ac_v2_events_open(&events, in, before.sse.scan_pos - 1) == AC_ERR_ARGUMENT);
    MUST(memcmp(&before, &r->opener, sizeof before) == 0);
  }
  int64_t status = ac_v2_events_open(&events, in, len);
  if (status == AC_ERR_CAPACITY) {
    MUST(untouched(events.out, events.out_cap) && memcmp(&before, &r->opener, sizeof before) == 0);
    MUST(!p->whole && events.out_len > events.out_cap && events.out_len <= len);
    events.out_cap = events.out_len;
    events.out = room(events.out_cap);
    status = ac_v2_events_open(&events, in, len);
    MUST(status != AC_ERR_CAPACITY);
  }
  if (status >= AC_ONE) {
    MUST(events.count == 1 && events.consumed == len && events.spans[2] == 0 && events.spans[1] == AC_FLAG_MORE && (int64_t)events.spans[0] == status - AC_ONE);
    MUST(events.out_len == events.spans[0]);
    status = AC_OK;
  }
  o->status = (int)status;
  if (status < 0) {
    MUST(events.count == 0 && !holds_plaintext(events.out, events.out_cap));
    check_failed(r, (int)status, in, len);
    return 0;
  }
  MUST(events.consumed <= len && events.count <= events.event_cap && r->opener.busy == 0);
  if (status == AC_PUNT) {
    check_punt(r, &events);
    MUST(memcmp(&before.key, &r->opener.key, sizeof before.key) == 0 && before.index == r->opener.index);
    o->items[o->count++] = 'P';
  }
  const uint8_t *out = events.out;
  for (size_t i = 0; i < events.count; i++) {
    const uint64_t *const span = events.spans + AC_V2_SPAN * i;
    MUST(span[0] <= (size_t)(events.out + events.out_cap - out));
    check_opened(r, (view){out, span[0]}, span);
    out += span[0];
    o->items[o->count++] = 'E';
  }
  MUST(status == AC_PUNT || events.out_len == (size_t)(out - events.out));
  r->at += events.consumed;
  o->status = AC_OK;
  return status == AC_PUNT || events.count != 0;
}

static void run(const ac_v2_opener *fresh, view stream, const plan *p, outcome *o) {
  reading r = {.opener = *fresh, .stream = stream, .have = p->whole ? stream.len : 0};
  memset(o, 0, sizeof *o);
  r.events = oracle_sse(model, MOST_EVENTS, stream, (sse_limits){fresh->sse.max_event_bytes, fresh->sse.max_line_bytes}, &r.rest);
  for (unsigned piece = 0;; piece++) {
    while (step(&r, p, o)) continue;
    if (o->status != AC_OK || r.have == stream.len) break;
    const size_t size = piece < STEPS ? p->sizes[piece % sizeof p->sizes] : stream.len;
    r.have += size < stream.len - r.have ? size : stream.len - r.have;
  }
  if (o->status != AC_OK) return;
  o->unfinished = ac_v2_events_unfinished(&r.opener, r.have - r.at);
  MUST(o->unfinished == r.rest && next_event(&r) == NULL);
}

/* Refused for what the caller has done: nothing changes. */
static void check_refusals(const ac_v2_opener *fresh, view stream, tape *t) {
  ac_v2_opener opener = *fresh;
  uint8_t *const both = copied(stream.at, stream.len);
  const unsigned caps = take(t);
  ac_v2_events events = {.opener = &opener, .out = room(8), .out_cap = 8, .event_cap = caps & 1 ? 0 : AC_V2_EVENTS + 1 + caps};
  MUST(ac_v2_events_open(&events, both, stream.len) == AC_ERR_ARGUMENT && untouched(events.out, 8));
  if (stream.len != 0) {
    const size_t at = take(t) % stream.len;
    events = (ac_v2_events){.opener = &opener, .out = both + at, .out_cap = stream.len - at, .event_cap = 1};
    MUST(ac_v2_events_open(&events, both, stream.len) == AC_ERR_OVERLAP && memcmp(both, stream.at, stream.len) == 0);
  }
  MUST(memcmp(&opener, fresh, sizeof opener) == 0);
  MUST(ac_v2_opener_close(&opener) == AC_OK && ac_v2_opener_set(&opener, 1, 1) == AC_ERR_STATE);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len) {
  static outcome whole, split;
  tape t = {in, len};
  ac_v2_opener fresh = x->v2_opener;
  plan p = {.whole = 0};
  arena_reset();
  const uint8_t how = take(&t);
  const size_t most_event = how & 1 ? (size_t)take(&t) * 8 : SIZE_MAX, most_line = how & 1 ? take(&t) : SIZE_MAX;
  MUST(ac_v2_opener_set(&fresh, most_event, most_line) == AC_OK);
  fresh.stream = (how & 0x42) != 0x42;
  for (size_t i = 0; i < sizeof p.sizes; i++) p.sizes[i] = take(&t);
  p.out_cap = (size_t)take(&t) * 4;
  p.event_cap = 1 + take_below(&t, AC_V2_EVENTS);
  view stream = {t.at, t.left < MOST_STREAM ? t.left : MOST_STREAM};
  if (how & 4) stream = (view){stream_bytes, stream_make(&t, stream_bytes, sizeof stream_bytes, x, 1)};
  if (how & 8) check_refusals(&fresh, stream, &t);
  run(&fresh, stream, &(plan){.whole = 1}, &whole);
  run(&fresh, stream, &p, &split);
  MUST(whole.count == split.count && memcmp(whole.items, split.items, whole.count) == 0);
  MUST(whole.status == split.status && whole.unfinished == split.unfinished);
  return 0;
}
