/* The sealers of v1 and v2 as machines: hostile rooms, lengths, counts, flags, usage and overlaps. What is refused changes
 * nothing; what is sealed is what a client opens; no nonce comes twice. */
#include "fuzz.h"

enum { MOST_OUT = 4096, MOST_COUNT = 6, MOST_NONCES = 128 };

static const exchange *x;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  fuzz_init();
  x = exchange_make();
  return 0;
}

/* What a call is given, and what stands beside it. */
typedef struct call {
  uint8_t *out, *plaintext, *usage_text;
  size_t out_cap, out_len, plaintext_len, usage_len, count;
  size_t *lens;
  uint64_t *usage; /* v2 */
  uint32_t flag;
  int overlaps;    /* out shares bytes with an input, where all of the need is written */
  size_t need;
} call;

static const char *const usages[] = {"", "{\"total_tokens\":7}", "{}", "{\"a\":\"\n\"}", "\x1f"};

/* Plaintexts and their lengths, which may lie; 0 or more of them. */
static void take_inputs(tape *t, call *c, int single) {
  const unsigned how = take(t);
  c->count = single ? 1 : take_below(t, MOST_COUNT);
  c->lens = (size_t *)(void *)room(c->count * sizeof *c->lens);
  c->plaintext_len = 0;
  for (size_t i = 0; i < c->count; i++) {
    const unsigned len = take(t);
    c->lens[i] = len < 200 ? len % 70 : len * 2;
    c->plaintext_len += c->lens[i];
  }
  c->plaintext = room(c->plaintext_len);
  for (size_t i = 0; i < c->plaintext_len; i++) c->plaintext[i] = (uint8_t)(i * 7 + how);
  const size_t lie = single && how >= 240 ? (size_t)take_number(t) : 0; /* there is not so much: it is refused unread */
  if (lie > MOST_OUT) c->plaintext_len = lie;
  if (!single && how >= 240 && c->count != 0) c->lens[take(t) % c->count] = (size_t)take_number(t);
  const view text = view_of(usages[how % 5]);
  c->usage_len = text.len;
  c->usage_text = copied(text.at, text.len);
  c->flag = how & 8 ? (uint32_t)take_below(t, 5) : 0;
  c->usage = NULL;
  if (how & 16) {
    c->usage = (uint64_t *)(void *)room(AC_V2_USAGE * sizeof *c->usage);
    for (size_t i = 0; i < AC_V2_USAGE; i++) c->usage[i] = take_number(t);
  }
}

/* Whether the lengths are what they say: nothing is read of those that do not add up. */
static int adds_up(const call *c) {
  size_t left = c->plaintext_len;
  for (size_t i = 0; i < c->count; i++) {
    if (c->lens[i] > left) return 0;
    left -= c->lens[i];
  }
  return left == 0;
}

/* Room for what is needed, or a byte less or more, or where an input lies. */
static void take_room(tape *t, call *c) {
  const unsigned how = take(t);
  const int fits = c->need <= MOST_OUT;
  const size_t need = fits ? c->need : take_below(t, 64);
  c->overlaps = 0;
  c->out_len = 99;
  c->out_cap = how < 160 ? need : how < 180 ? need + 1 + how % 7 : how < 200 ? need - (need != 0) : how < 216 ? take_below(t, 200) : need;
  if (how < 216 || !fits || c->plaintext_len > MOST_OUT) {
    c->out = room(c->out_cap);
    return;
  }
  /* out and plaintexts in one: [plaintext] begins at `from`, out at `to` */
  const size_t part = c->plaintext_len, from = take(t) % 128, to = take(t) % 128;
  uint8_t *const both = room((part > need ? part : need) + 128);
  if (part != 0) memcpy(both + from, c->plaintext, part);
  c->plaintext = both + from;
  c->out = both + to;
  c->overlaps = part != 0 && need != 0 && from < to + need && to < from + part;
}

/* ---- v1 ---- */

typedef struct v1 {
  ac_v1_sealer sealer;
  ac_v1_opener opener;
  uint8_t nonces[MOST_NONCES][16];
  size_t nonce_count;
} v1;

static void keep_nonce(v1 *m, view json) {
  const view nonce = member_text(json, "nonce");
  MUST(nonce.len == 16 && memcmp(nonce.at, member_text(x->v1_request, "nonce").at, 16) != 0);
  for (size_t i = 0; i < m->nonce_count; i++) MUST(memcmp(m->nonces[i], nonce.at, 16) != 0);
  MUST(m->nonce_count < MOST_NONCES);
  memcpy(m->nonces[m->nonce_count++], nonce.at, 16);
}

static void v1_check_events(v1 *m, const call *c, const uint8_t *plaintext, int shows) {
  uint8_t *const out = room(ac_base64_decoded_max(c->need));
  ac_v1_events events = {.opener = &m->opener, .out = out, .out_cap = ac_base64_decoded_max(c->need), .event_cap = AC_V1_EVENTS};
  const int64_t status = ac_v1_events_open(&events, c->out, c->need);
  MUST(status == AC_OK || status >= AC_ONE);
  MUST(events.count == c->count && events.consumed == c->need && events.out_len == c->plaintext_len);
  MUST(same((view){out, events.out_len}, (view){plaintext, c->plaintext_len}));
  sse_event found[MOST_COUNT];
  int rest = UNFINISHED;
  MUST(oracle_sse(found, MOST_COUNT, (view){c->out, c->need}, no_limits, &rest) == c->count && rest == NOTHING);
  for (size_t i = 0; i < c->count; i++) {
    const size_t *const span = events.spans + AC_V1_SPAN * i;
    keep_nonce(m, found[i].data);
    MUST(span[0] == c->lens[i]);
    MUST(same((view){c->out + span[1], span[2]}, (view){c->usage_text, shows ? c->usage_len : 0}));
  }
}

static void v1_step(v1 *m, tape *t) {
  call c = {0};
  const unsigned what = take_below(t, 8);
  if (what == 7) { /* near the limits, near the wrap, before the request's own nonce */
    const unsigned how = take(t);
    if (how & 1) m->sealer.chunks_left = take_below(t, 8);
    if (how & 2) m->sealer.bytes_left = take(t);
    if (how & 4 && m->nonce_count == 0) memset(m->sealer.next_nonce, 0xff, AC_NONCE_BYTES - (how >> 3 & 1));
    if (how & 16 && m->nonce_count == 0) memcpy(m->sealer.next_nonce, m->sealer.request_nonce, AC_NONCE_BYTES);
    if (how & 32) m->sealer.busy = 1;
    if (how & 64) m->sealer.generation++;
    if (how == 128) MUST(ac_v1_sealer_close(&m->sealer) == AC_OK);
    if (how == 129) ac_v1_sealer_wipe(&m->sealer);
  }
  take_inputs(t, &c, what < 4);
  const int shows = what != 0 && what != 1, reply = what == 2 || what == 3;
  const size_t usage_len = shows ? c.usage_len : 0;
  c.need = reply ? ac_v1_reply_bytes(&m->sealer, c.plaintext_len, usage_len)
           : what < 2 ? ac_v1_event_bytes(&m->sealer, c.plaintext_len, 0)
                      : ac_v1_events_bytes(&m->sealer, c.plaintext_len, c.lens, c.count, usage_len);
  const int sizes = c.need != SIZE_MAX;
  if (what < 2) c.lens[0] = c.plaintext_len;
  MUST(what >= 4 ? sizes <= adds_up(&c) : 1);
  take_room(t, &c);
  const ac_v1_sealer before = m->sealer;
  const uint8_t *const plaintext = copied(c.plaintext, c.plaintext_len <= MOST_OUT ? c.plaintext_len : 0);
  const uint8_t *const out_before = copied(c.out, c.out_cap);
  int status;
  if (what < 2) {
    const int64_t len = ac_v1_event_seal(&m->sealer, c.out, c.out_cap, c.plaintext, c.plaintext_len);
    status = len < 0 ? (int)len : AC_OK;
    if (len >= 0) c.out_len = (size_t)len;
  } else if (reply) {
    status = ac_v1_reply_seal(&m->sealer, c.out, c.out_cap, &c.out_len, c.plaintext, c.plaintext_len, c.usage_text, usage_len);
  } else {
    status = ac_v1_events_seal(&m->sealer, c.out, c.out_cap, &c.out_len, c.plaintext, c.plaintext_len, c.lens, c.count,
                               c.usage_text, usage_len);
  }
  int bad_usage = 0;
  for (size_t i = 0; i < usage_len; i++) bad_usage |= c.usage_text[i] < 0x20;
  const int want = !sizes || bad_usage                     ? AC_ERR_ARGUMENT
                   : c.out_cap < c.need                    ? AC_ERR_CAPACITY
                   : c.overlaps                            ? AC_ERR_OVERLAP
                   : before.generation != aci_generation() ? AC_ERR_FORKED
                   : before.busy                           ? AC_ERR_BUSY
                   : before.state != AC_STATE_READY        ? AC_ERR_STATE
                   : c.count > before.chunks_left || c.plaintext_len > before.bytes_left ? AC_ERR_LIMIT
                                                                                         : AC_OK;
  MUST(status == want);
  if (status != AC_OK) {
    MUST(c.out_len == 99 && memcmp(&before, &m->sealer, sizeof before) == 0 && memcmp(out_before, c.out, c.out_cap) == 0);
    m->sealer.busy = 0;
    m->sealer.generation = aci_generation();
    return;
  }
  MUST(c.out_len == c.need && m->sealer.busy == 0 && m->sealer.chunks_left == before.chunks_left - c.count);
  MUST(m->sealer.bytes_left == before.bytes_left - c.plaintext_len);
  MUST(memcmp(c.out + c.need, out_before + c.need, c.out_cap - c.need) == 0);
  if (!reply) {
    v1_check_events(m, &c, plaintext, shows);
    return;
  }
  size_t len = 0, usage_pos = 0, usage_got = 0;
  uint8_t *const opened = room(ac_base64_decoded_max(c.need));
  MUST(ac_v1_reply_open(&m->opener, opened, ac_base64_decoded_max(c.need), &len, &usage_pos, &usage_got, c.out, c.need) == AC_OK);
  MUST(same((view){opened, len}, (view){plaintext, c.plaintext_len}));
  MUST(same((view){c.out + usage_pos, usage_got}, (view){c.usage_text, usage_len}));
  keep_nonce(m, (view){c.out, c.need});
}

/* ---- v2 ---- */

typedef struct v2 {
  ac_v2_sealer sealer;
  ac_v2_opener opener;
} v2;

static int numbers_fit(const uint64_t *usage) {
  return usage == NULL || (usage[0] <= ACI_V2_MAX_INTEGER && usage[1] <= ACI_V2_MAX_INTEGER && usage[2] <= ACI_V2_MAX_INTEGER);
}

static void v2_check_span(const call *c, const uint64_t *span, size_t len, uint32_t flag, int shows) {
  MUST(span[0] == len && span[1] == flag && span[2] == (uint64_t)shows);
  MUST(!shows || memcmp(span + 3, c->usage, AC_V2_USAGE * sizeof *c->usage) == 0);
}

static void v2_check_opened(v2 *m, const call *c, const uint8_t *plaintext, int object, int shows) {
  const size_t cap = ac_base64_decoded_max(c->need);
  uint8_t *const out = room(cap);
  if (object) {
    uint64_t span[AC_V2_SPAN] = {0};
    size_t len = 0;
    m->opener.stream = 0;
    MUST(ac_v2_object_open(&m->opener, out, cap, &len, span, c->out, c->need) == AC_OK);
    MUST(same((view){out, len}, (view){plaintext, c->plaintext_len}));
    v2_check_span(c, span, c->plaintext_len, c->flag, shows);
    return;
  }
  ac_v2_events events = {.opener = &m->opener, .out = out, .out_cap = cap, .event_cap = AC_V2_EVENTS};
  const int64_t status = ac_v2_events_open(&events, c->out, c->need);
  MUST((status == AC_OK || status >= AC_ONE) && events.count == c->count && events.consumed == c->need);
  MUST(same((view){out, events.out_len}, (view){plaintext, c->plaintext_len}));
  for (size_t i = 0; i < c->count; i++)
    v2_check_span(c, events.spans + AC_V2_SPAN * i, c->lens[i], i + 1 == c->count ? c->flag : AC_FLAG_MORE, shows);
}

static void v2_step(v2 *m, tape *t) {
  call c = {0};
  const unsigned what = take_below(t, 8);
  const int single = what < 4, object = what == 2 || what == 3;
  if (what == 7) {
    const unsigned how = take(t);
    if (how & 1) m->sealer.bytes_left = m->opener.bytes_left = AC_V2_ABORT_BYTES + take(t);
    if (how & 4 && m->sealer.begun && m->opener.keyed) m->sealer.index = m->opener.index = AC_V2_MAX_RECORDS - take_below(t, 5);
    if (how & 32) m->sealer.busy = 1;
    if (how & 64) m->sealer.generation++;
    if (how == 128) MUST(ac_v2_sealer_close(&m->sealer) == AC_OK);
    if (how == 129) ac_v2_sealer_wipe(&m->sealer);
  }
  take_inputs(t, &c, single);
  if (what < 2) {
    c.flag = AC_FLAG_MORE;
    c.usage = NULL;
    c.lens[0] = c.plaintext_len;
  }
  const uint64_t *const usage = numbers_fit(c.usage) ? c.usage : NULL; /* a size is not asked for what is refused */
  c.need = object ? ac_v2_object_bytes(c.plaintext_len, c.flag, usage)
                  : ac_v2_events_bytes(&m->sealer, c.plaintext_len, c.lens, c.count, c.flag, usage);
  const int sizes = c.need != SIZE_MAX;
  if (!object && sizes) MUST(adds_up(&c) && c.count != 0);
  take_room(t, &c);
  const ac_v2_sealer before = m->sealer;
  const uint8_t *const plaintext = copied(c.plaintext, c.plaintext_len <= MOST_OUT ? c.plaintext_len : 0);
  const uint8_t *const out_before = copied(c.out, c.out_cap);
  int status;
  if (what < 2) {
    const int64_t len = ac_v2_event_seal(&m->sealer, c.out, c.out_cap, c.plaintext, c.plaintext_len);
    status = len < 0 ? (int)len : AC_OK;
    if (len >= 0) c.out_len = (size_t)len;
  } else if (object) {
    status = ac_v2_object_seal(&m->sealer, c.out, c.out_cap, &c.out_len, c.flag, c.plaintext, c.plaintext_len, c.usage);
  } else {
    status = ac_v2_events_seal(&m->sealer, c.out, c.out_cap, &c.out_len, c.plaintext, c.plaintext_len, c.lens, c.count, c.flag, c.usage);
  }
  const int bad = !numbers_fit(c.usage) || (object ? c.flag != AC_FLAG_WHOLE && c.flag != AC_FLAG_ABORT : c.flag > AC_FLAG_ABORT);
  const int inner = before.generation != aci_generation() ? AC_ERR_FORKED
                    : before.busy                         ? AC_ERR_BUSY
                    : before.state != AC_STATE_READY      ? AC_ERR_STATE
                                                          : AC_OK;
  const int outer = !sizes ? AC_ERR_ARGUMENT : c.out_cap < c.need ? AC_ERR_CAPACITY : c.overlaps ? AC_ERR_OVERLAP : AC_OK;
  const uint64_t kept_back = c.flag == AC_FLAG_ABORT ? 0 : 1;
  const int limit = before.index + c.count + kept_back > AC_V2_MAX_RECORDS ||
                    c.plaintext_len + kept_back * AC_V2_ABORT_BYTES > before.bytes_left;
  int want = bad ? AC_ERR_ARGUMENT : object ? outer : inner;
  if (want == AC_OK) want = object ? inner : outer;
  if (want == AC_OK && object && before.begun) want = AC_ERR_ARGUMENT;
  if (want == AC_OK && limit) want = AC_ERR_LIMIT;
  MUST(status == want);
  if (status != AC_OK) {
    MUST(c.out_len == 99 && memcmp(&before, &m->sealer, sizeof before) == 0 && memcmp(out_before, c.out, c.out_cap) == 0);
    m->sealer.busy = 0;
    m->sealer.generation = aci_generation();
    return;
  }
  MUST(c.out_len == c.need && m->sealer.busy == 0 && m->sealer.index == before.index + c.count && m->sealer.begun);
  MUST(m->sealer.bytes_left == before.bytes_left - c.plaintext_len);
  MUST((m->sealer.state == AC_STATE_ENDED) == (c.flag != AC_FLAG_MORE));
  MUST(m->sealer.state != AC_STATE_ENDED || all_zero(&m->sealer.aes, sizeof m->sealer.aes));
  MUST(memcmp(c.out + c.need, out_before + c.need, c.out_cap - c.need) == 0);
  v2_check_opened(m, &c, plaintext, object, c.usage != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len) {
  enum { MOST_STEPS = 12 };
  static v1 one;
  static v2 two;
  tape t = {in, len};
  const unsigned which = take(&t);
  one = (v1){.sealer = x->v1_sealer, .opener = x->v1_opener, .nonce_count = 0};
  two = (v2){.sealer = x->v2_sealer, .opener = x->v2_opener};
  one.sealer.signs = which % 16 >= 14; /* seldom: a signature costs more than all else */
  for (unsigned i = 0; i < MOST_STEPS && t.left != 0; i++) {
    arena_reset();
    if (which & 1) v2_step(&two, &t);
    else v1_step(&one, &t);
  }
  return 0;
}
