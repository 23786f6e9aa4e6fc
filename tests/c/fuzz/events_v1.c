/* The reader of v1's event streams: whole and in pieces it says the same; what comes out was sealed, and stands there. */
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
  ac_v1_opener opener;
  view stream;
  size_t at, have;  /* consumed, received */
  size_t event;     /* of the model */
  size_t events;    /* of the model, up to what is too large */
  int rest;         /* what stands behind them */
  const sealed *first, *last;
} reading;

/* What the node has sealed that says this. `o` is filled where it is JSON at all. */
static const sealed *find_sealed(json_object *o, const sse_event *e) {
  size_t many = 0;
  if (e->data_lines != 1 || !oracle_json(o, e->data)) return NULL;
  const json_member *const c = json_find(o, "ciphertext", NULL), *const n = json_find(o, "nonce", NULL);
  const json_member *const h = json_find(o, "response_hash", &many);
  if (c == NULL || n == NULL || c->kind != '"' || n->kind != '"') return NULL;
  if (many > 1 || (h != NULL && h->kind != '"' && h->kind != 'n')) return NULL;
  for (size_t i = 0; i < x->v1_count; i++) {
    const sealed *const s = &x->v1[i];
    if (same(c->value, s->ciphertext) && same(n->value, s->nonce) && (h == NULL || h->kind == 'n' || same(h->value, s->hash)))
      return s;
  }
  return NULL;
}

/* The next event that is not `[DONE]`. */
static const sse_event *next_event(reading *r) {
  while (r->event < r->events && model[r->event].data_lines == 1 && same(model[r->event].data, view_of("[DONE]"))) r->event++;
  return r->event < r->events ? &model[r->event] : NULL;
}

static void check_opened(reading *r, view plaintext, view usage) {
  json_object o;
  const sse_event *const e = next_event(r);
  MUST(e != NULL);
  const sealed *const s = find_sealed(&o, e);
  MUST(s != NULL && same(s->plaintext, plaintext));
  size_t many = 0;
  const json_member *const m = json_find(&o, "usage", &many);
  MUST(many <= 1 && (m != NULL && m->kind != 'n' ? m->kind == '{' && same(m->value, usage) : usage.len == 0));
  const int again = r->first != NULL && (s == r->first || s == r->last);
  MUST(!again || (r->opener.nonce_reused && !r->opener.refuse_nonce_reuse));
  if (r->first == NULL) r->first = s;
  r->last = s;
  r->event++;
}

static void check_punt(reading *r, const ac_v1_events *events) {
  const sse_event *const e = next_event(r);
  MUST(e != NULL && events->count == 0 && events->punt_pos < events->consumed);
  const uint8_t *const begin = r->stream.at + r->at + events->punt_pos, *const end = r->stream.at + r->at + events->consumed;
  MUST(e->data.at >= begin && e->data.at + e->data.len < end && (end == e->end || end == e->end - 1));
  for (size_t i = 0; i < x->v1_count && e->data_lines == 1; i++) MUST(!same(e->data, x->v1[i].json)); /* that is the common case */
  r->event++;
}

static void check_failed(reading *r, int status, const uint8_t *in, size_t len) {
  json_object o;
  ac_v1_events events = {.opener = &r->opener, .event_cap = 1};
  MUST(r->opener.state == AC_STATE_FAILED && r->opener.busy == 0 && all_zero(&r->opener.aes, sizeof r->opener.aes));
  MUST(ac_v1_events_open(&events, in, len) == AC_ERR_STATE && r->opener.state == AC_STATE_FAILED);
  if (status == AC_ERR_TOO_LARGE) {
    MUST(r->rest == TOO_LARGE && next_event(r) == NULL);
    return;
  }
  const sse_event *const e = next_event(r);
  MUST(e != NULL);
  const sealed *const s = find_sealed(&o, e);
  if (status == AC_ERR_AUTH) {
    MUST(s == NULL);
    return;
  }
  MUST(status == AC_ERR_NONCE_REUSE);
  const json_member *const n = json_find(&o, "nonce", NULL);
  MUST(n != NULL);
  if (same(n->value, member_text(x->v1_request, "nonce"))) return;
  MUST(r->opener.refuse_nonce_reuse && r->first != NULL && (same(n->value, r->first->nonce) || same(n->value, r->last->nonce)));
}

/* One call on exactly what is there, with room for exactly what is needed if it must be. 1: something was found. */
static int step(reading *r, const plan *p, outcome *o) {
  arena_reset();
  const size_t len = r->have - r->at;
  const uint8_t *const in = copied(r->stream.at + r->at, len);
  const ac_v1_opener before = r->opener;
  ac_v1_events events = {.opener = &r->opener, .out_cap = p->whole ? MOST_STREAM : p->out_cap, .event_cap = p->whole ? AC_V1_EVENTS : p->event_cap};
  events.out = room(events.out_cap);
  if (before.sse.scan_pos != 0) { /* bytes are gone that were there: refused */
    MUST(ac_v1_events_open(&events, in, before.sse.scan_pos - 1) == AC_ERR_ARGUMENT);
    MUST(memcmp(&before, &r->opener, sizeof before) == 0);
  }
  int64_t status = ac_v1_events_open(&events, in, len);
  if (status == AC_ERR_CAPACITY) {
    MUST(untouched(events.out, events.out_cap) && memcmp(&before, &r->opener, sizeof before) == 0);
    MUST(!p->whole && events.out_len > events.out_cap && events.out_len <= len);
    events.out_cap = events.out_len;
    events.out = room(events.out_cap);
    status = ac_v1_events_open(&events, in, len);
    MUST(status != AC_ERR_CAPACITY);
  }
  if (status >= AC_ONE) {
    MUST(events.count == 1 && events.consumed == len && events.spans[2] == 0 && (int64_t)events.spans[0] == status - AC_ONE);
    MUST(events.out_len == events.spans[0] && !r->opener.nonce_reused);
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
    MUST(memcmp(&before.aes, &r->opener.aes, sizeof before.aes) == 0 && before.chunks == r->opener.chunks);
    o->items[o->count++] = 'P';
  }
  const uint8_t *out = events.out;
  for (size_t i = 0; i < events.count; i++) {
    const size_t *const span = events.spans + AC_V1_SPAN * i;
    MUST(span[0] <= (size_t)(events.out + events.out_cap - out));
    check_opened(r, (view){out, span[0]}, (view){in + span[1], span[2]});
    out += span[0];
    o->items[o->count++] = 'E';
  }
  MUST(status == AC_PUNT || events.out_len == (size_t)(out - events.out));
  r->at += events.consumed;
  o->status = AC_OK;
  return status == AC_PUNT || events.count != 0;
}

static void run(const ac_v1_opener *fresh, view stream, const plan *p, outcome *o) {
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
  o->unfinished = ac_v1_events_unfinished(&r.opener, r.have - r.at);
  MUST(o->unfinished == r.rest && next_event(&r) == NULL);
}

/* Refused for what the caller has done: nothing changes. */
static void check_refusals(const ac_v1_opener *fresh, view stream, tape *t) {
  ac_v1_opener opener = *fresh;
  uint8_t *const both = copied(stream.at, stream.len);
  const unsigned caps = take(t);
  ac_v1_events events = {.opener = &opener, .out = room(8), .out_cap = 8, .event_cap = caps & 1 ? 0 : AC_V1_EVENTS + 1 + caps};
  MUST(ac_v1_events_open(&events, both, stream.len) == AC_ERR_ARGUMENT && untouched(events.out, 8));
  if (stream.len != 0) {
    const size_t at = take(t) % stream.len;
    events = (ac_v1_events){.opener = &opener, .out = both + at, .out_cap = stream.len - at, .event_cap = 1};
    MUST(ac_v1_events_open(&events, both, stream.len) == AC_ERR_OVERLAP && memcmp(both, stream.at, stream.len) == 0);
  }
  MUST(memcmp(&opener, fresh, sizeof opener) == 0);
  MUST(ac_v1_opener_close(&opener) == AC_OK && ac_v1_opener_set(&opener, 1, 1, 1) == AC_ERR_STATE);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len) {
  static outcome whole, split;
  tape t = {in, len};
  ac_v1_opener fresh = x->v1_opener;
  plan p = {.whole = 0};
  arena_reset();
  const uint8_t how = take(&t);
  const size_t most_event = how & 1 ? (size_t)take(&t) * 8 : SIZE_MAX, most_line = how & 1 ? take(&t) : SIZE_MAX;
  MUST(ac_v1_opener_set(&fresh, most_event, most_line, how >> 1 & 1) == AC_OK);
  for (size_t i = 0; i < sizeof p.sizes; i++) p.sizes[i] = take(&t);
  p.out_cap = (size_t)take(&t) * 4;
  p.event_cap = 1 + take_below(&t, AC_V1_EVENTS);
  view stream = {t.at, t.left < MOST_STREAM ? t.left : MOST_STREAM};
  if (how & 4) stream = (view){stream_bytes, stream_make(&t, stream_bytes, sizeof stream_bytes, x, 0)};
  if (how & 8) check_refusals(&fresh, stream, &t);
  run(&fresh, stream, &(plan){.whole = 1}, &whole);
  run(&fresh, stream, &p, &split);
  MUST(whole.count == split.count && memcmp(whole.items, split.items, whole.count) == 0);
  MUST(whole.status == split.status && whole.unfinished == split.unfinished);
  return 0;
}
