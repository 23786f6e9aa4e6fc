/* What a client receives in one piece: replies, objects, and members that another parser has read; changed, or mixed from
 * several, with hostile rooms. Only what was sealed is opened, and what is not for these readers changes nothing. */
#include "fuzz.h"

enum { MOST = 2048 };

static const exchange *x;
static uint8_t reflected[MOST]; /* the request's own ciphertext and nonce, as a reply */
static size_t reflected_len;
static view request_nonce;

static size_t append(uint8_t *out, size_t len, view v) {
  memcpy(out + len, v.at, v.len);
  return len + v.len;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  fuzz_init();
  x = exchange_make();
  request_nonce = member_text(x->v1_request, "nonce");
  reflected_len = append(reflected, 0, view_of("{\"ciphertext\":\""));
  reflected_len = append(reflected, reflected_len, member_text(x->v1_request, "ciphertext"));
  reflected_len = append(reflected, reflected_len, view_of("\",\"nonce\":\""));
  reflected_len = append(reflected, reflected_len, request_nonce);
  reflected_len = append(reflected, reflected_len, view_of("\"}"));
  return 0;
}

static size_t take_cap(tape *t, size_t need) {
  const unsigned how = take(t);
  return how < 200 ? need : how < 225 ? need + how % 9 : need - (need < how % 9 ? need : how % 9);
}

/* Changed perhaps. */
static view take_text(tape *t, view from) {
  const unsigned how = take(t);
  uint8_t *const text = room(from.len + 64);
  if (from.len != 0) memcpy(text, from.at, from.len);
  const size_t len = how < 128 ? from.len : mutate(t, text, from.len, from.len + 64);
  return (view){copied(text, len), len};
}

/* Where the output goes: apart, or at a place inside of what is read. */
static uint8_t *take_out(tape *t, view in, size_t cap, int *overlaps) {
  const unsigned how = take(t);
  *overlaps = how >= 240 && in.len != 0 && cap != 0;
  return *overlaps ? (uint8_t *)(uintptr_t)(in.at + how % in.len) : room(cap);
}

/* ---- v1 ---- */

static const sealed *v1_find(view ciphertext, view nonce, view hash) {
  for (size_t i = 0; i < x->v1_count + x->v1_reply_count; i++) {
    const sealed *const s = i < x->v1_count ? &x->v1[i] : &x->v1_replies[i - x->v1_count];
    if (same(ciphertext, s->ciphertext) && same(nonce, s->nonce) && (hash.len == 0 || same(hash, s->hash))) return s;
  }
  return NULL;
}

static int is_base64_of(view text, size_t len) {
  size_t got = 0;
  return oracle_base64(room(text.len), &got, text) && got == len;
}

static void check_v1_failed(const ac_v1_opener *o, const uint8_t *out, size_t cap) {
  MUST(o->state == AC_STATE_FAILED && o->busy == 0 && all_zero(&o->aes, sizeof o->aes) && !holds_plaintext(out, cap));
}

static void v1_reply(ac_v1_opener *opener, tape *t) {
  const unsigned which = take(t);
  const view from = which == 255 ? (view){reflected, reflected_len} : (which & 8 ? x->v1 : x->v1_replies)[which % 4].json;
  const view in = take_text(t, from);
  const size_t cap = take_cap(t, in.len);
  int overlaps = 0;
  uint8_t *const out = take_out(t, in, cap, &overlaps);
  const ac_v1_opener before = *opener;
  const uint8_t *const kept_in = copied(in.at, in.len);
  size_t len = 99, usage_pos = 99, usage_len = 99;
  json_object o;
  const int status = ac_v1_reply_open(opener, out, cap, &len, &usage_pos, &usage_len, in.at, in.len);
  MUST(same((view){kept_in, in.len}, in));
  if (overlaps || before.state != AC_STATE_READY) {
    MUST(status == (overlaps ? AC_ERR_OVERLAP : AC_ERR_STATE) && memcmp(&before, opener, sizeof before) == 0 && len == 99);
    return;
  }
  if (status == AC_PUNT || status == AC_ERR_CAPACITY) {
    MUST(memcmp(&before, opener, sizeof before) == 0 && usage_pos == 99 && usage_len == 99);
    MUST(status == AC_PUNT ? len == 99 && !same(in, from) : len > cap && len <= in.len && untouched(out, cap));
    return;
  }
  MUST(oracle_json(&o, in));
  const json_member *const c = json_find(&o, "ciphertext", NULL), *const n = json_find(&o, "nonce", NULL);
  const json_member *const h = json_find(&o, "response_hash", NULL), *const u = json_find(&o, "usage", NULL);
  MUST(c != NULL && n != NULL);
  const sealed *const s = v1_find(c->value, n->value, h != NULL && h->kind == '"' ? h->value : (view){NULL, 0});
  if (status == AC_OK) {
    MUST(s != NULL && same(s->plaintext, (view){out, len}) && opener->chunks == before.chunks + 1);
    MUST(u != NULL && u->kind == '{' ? same(u->value, (view){in.at + usage_pos, usage_len}) : usage_len == 0);
    return;
  }
  check_v1_failed(opener, out, cap);
  const int repeats = opener->refuse_nonce_reuse && before.chunks != 0 && s != NULL;
  if (status == AC_ERR_NONCE_REUSE) MUST(same(n->value, request_nonce) || (opener->refuse_nonce_reuse && before.chunks != 0));
  else MUST(status == AC_ERR_AUTH && (s == NULL || repeats));
}

static void v1_members(ac_v1_opener *opener, tape *t) {
  const unsigned which = take(t), other = take(t);
  const sealed *const a = &x->v1[which % x->v1_count], *const b = &x->v1[(other < 200 ? which : other) % x->v1_count];
  const view ciphertext = take_text(t, a->ciphertext), nonce = take_text(t, which >= 250 ? request_nonce : b->nonce);
  const view hash = which & 16 ? (view){room(0), 0} : take_text(t, a->hash);
  const size_t need = ac_base64_decoded_max(ciphertext.len), cap = take_cap(t, need);
  int overlaps = 0;
  uint8_t *const out = take_out(t, other & 1 ? ciphertext : other & 2 ? nonce : hash, cap, &overlaps);
  const ac_v1_opener before = *opener;
  size_t len = 99, decoded = 0;
  const int status = ac_v1_sealed_open(opener, out, cap, &len, ciphertext.at, ciphertext.len, nonce.at, nonce.len, hash.at, hash.len);
  if (cap < need || overlaps || before.state != AC_STATE_READY) {
    MUST(status == (cap < need ? AC_ERR_CAPACITY : overlaps ? AC_ERR_OVERLAP : AC_ERR_STATE));
    MUST(memcmp(&before, opener, sizeof before) == 0 && len == 99);
    return;
  }
  const int good = is_base64_of(nonce, AC_NONCE_BYTES) && (hash.len == 0 || is_base64_of(hash, AC_HASH_BYTES)) &&
                   oracle_base64(room(ciphertext.len), &decoded, ciphertext) && decoded >= AC_TAG_BYTES;
  const sealed *const s = v1_find(ciphertext, nonce, hash);
  uint8_t raw[AC_NONCE_BYTES];
  const int used = good && before.chunks != 0 && aci_base64_decode_exact(raw, sizeof raw, nonce.at, nonce.len) == AC_OK &&
                   (memcmp(raw, before.first_nonce, sizeof raw) == 0 || memcmp(raw, before.last_nonce, sizeof raw) == 0);
  const int want = !good                                             ? AC_ERR_FORMAT
                   : same(nonce, request_nonce)                      ? AC_ERR_NONCE_REUSE
                   : used && before.refuse_nonce_reuse               ? AC_ERR_NONCE_REUSE
                   : s != NULL                                       ? AC_OK
                                                                     : AC_ERR_AUTH;
  MUST(status == want);
  if (status != AC_OK) {
    MUST(len == 99);
    check_v1_failed(opener, out, status == AC_ERR_AUTH ? cap : 0);
    return;
  }
  MUST(same(s->plaintext, (view){out, len}) && opener->chunks == before.chunks + 1 && (!used || opener->nonce_reused));
}

/* ---- v2 ---- */

typedef struct v2_text {
  view ciphertext, salt;
  const uint64_t *usage;
  uint32_t flag;
} v2_text;

/* As an event, or as an object. */
static const sealed *v2_find(const v2_text *m, int event, uint64_t index) {
  const sealed *const list = event ? x->v2 : x->v2_objects;
  const view salt = {x->v2_salt, sizeof x->v2_salt};
  if (index == 0 ? !same(m->salt, salt) : m->salt.len != 0) return NULL;
  for (size_t i = 0; i < (event ? x->v2_count : x->v2_object_count); i++) {
    const sealed *const s = &list[i];
    if (s->index != index || s->flag != m->flag || !same(s->ciphertext, m->ciphertext)) continue;
    if ((m->usage != NULL) != (s->usage.len != 0)) continue;
    if (m->usage == NULL || memcmp(m->usage, s->numbers, sizeof s->numbers) == 0) return s;
  }
  return NULL;
}

static void check_v2_failed(const ac_v2_opener *o, const ac_v2_opener *before, const uint8_t *out, size_t cap) {
  MUST(o->state == AC_STATE_FAILED && o->busy == 0 && all_zero(&o->key, sizeof o->key) && all_zero(o->base, sizeof o->base));
  MUST(o->ended == before->ended && o->index == before->index && !holds_plaintext(out, cap));
}

static void v2_object(ac_v2_opener *opener, tape *t) {
  const unsigned which = take(t);
  const view from = (which & 8 ? x->v2 : x->v2_objects)[which % 8].json, in = take_text(t, from);
  const size_t cap = take_cap(t, in.len);
  int overlaps = 0;
  uint8_t *const out = take_out(t, in, cap, &overlaps);
  const ac_v2_opener before = *opener;
  size_t len = 99;
  uint64_t span[AC_V2_SPAN] = {0};
  json_object o;
  const int status = ac_v2_object_open(opener, out, cap, &len, span, in.at, in.len);
  const int ready = before.state == AC_STATE_READY || before.state == AC_STATE_ENDED;
  if (overlaps || !ready) {
    MUST(status == (overlaps ? AC_ERR_OVERLAP : AC_ERR_STATE) && memcmp(&before, opener, sizeof before) == 0 && len == 99);
    return;
  }
  if (status == AC_PUNT || status == AC_ERR_CAPACITY) {
    MUST(memcmp(&before, opener, sizeof before) == 0);
    MUST(status == AC_PUNT ? len == 99 : len > cap && len <= in.len && untouched(out, cap));
    if (status == AC_PUNT && !(which & 8) && same(in, from)) MUST(before.ended || before.index != 0 || before.keyed || (before.stream && x->v2_objects[which % 8].flag == AC_FLAG_WHOLE));
    return;
  }
  MUST(oracle_json(&o, in) && !before.ended);
  const json_member *const c = json_find(&o, "ciphertext", NULL), *const s = json_find(&o, "salt", NULL);
  const json_member *const f = json_find(&o, "flag", NULL), *const u = json_find(&o, "usage", NULL);
  uint64_t flag = 0;
  MUST(c != NULL && s != NULL && f != NULL && json_number(f, &flag));
  v2_text m = {.ciphertext = c->value, .salt = s->value, .flag = (uint32_t)flag};
  uint64_t usage[AC_V2_USAGE] = {0};
  if (u != NULL && u->kind == '{') {
    static const char *const names[AC_V2_USAGE] = {"prompt_tokens", "completion_tokens", "total_tokens"};
    json_object inner;
    MUST(oracle_json(&inner, u->value) && inner.count == AC_V2_USAGE);
    for (size_t i = 0; i < AC_V2_USAGE; i++) {
      const json_member *const n = json_find(&inner, names[i], NULL);
      MUST(n != NULL && json_number(n, &usage[i]));
    }
    m.usage = usage;
  }
  const sealed *found = v2_find(&m, 0, before.index);
  if (found == NULL && flag == AC_FLAG_ABORT) found = v2_find(&m, 1, before.index); /* a record is a record */
  if (status != AC_OK) {
    MUST(status == AC_ERR_AUTH && found == NULL);
    check_v2_failed(opener, &before, out, cap);
    return;
  }
  MUST(found != NULL && same(found->plaintext, (view){out, len}) && span[0] == len && span[1] == flag && opener->ended);
  MUST(span[2] == (m.usage != NULL) && (m.usage == NULL || memcmp(span + 3, usage, sizeof usage) == 0));
  MUST(flag == AC_FLAG_ABORT || (flag == AC_FLAG_WHOLE && !before.stream));
}

static void v2_members(ac_v2_opener *opener, tape *t) {
  const unsigned which = take(t), how = take(t);
  const sealed *s = how & 1 ? &x->v2[which % x->v2_count] : &x->v2_objects[which % x->v2_object_count];
  for (size_t i = 0; how & 1 && which < 200 && i < x->v2_count; i++) { /* the one whose turn it is */
    if (x->v2[i].index == opener->index && x->v2[(i + which % 2)].index == opener->index) s = &x->v2[i + which % 2];
  }
  v2_text m = {.ciphertext = take_text(t, s->ciphertext), .flag = s->flag};
  if (s->usage.len != 0) m.usage = (uint64_t *)(void *)copied(s->numbers, sizeof s->numbers);
  if (how >= 240) m.flag = take_below(t, 6);
  if (how >= 208 && how < 240) { /* one bit, or all */
    uint64_t *const usage = (uint64_t *)(void *)copied(s->numbers, sizeof s->numbers);
    for (size_t i = 0; how >= 224 && i < AC_V2_USAGE; i++) usage[i] = take_number(t);
    if (how < 224) usage[take(t) % AC_V2_USAGE] ^= UINT64_C(1) << take_below(t, 64);
    m.usage = usage;
  }
  if ((s->index == 0) == (how % 32 < 28)) m.salt = take_text(t, (view){x->v2_salt, sizeof x->v2_salt});
  const int event = how & 1 ? 1 : 0;
  const size_t need = ac_base64_decoded_max(m.ciphertext.len), cap = take_cap(t, need);
  int overlaps = 0;
  uint8_t *const out = take_out(t, how & 2 ? m.ciphertext : m.salt, cap, &overlaps);
  const ac_v2_opener before = *opener;
  size_t len = 99, decoded = 0;
  const int status = ac_v2_sealed_open(opener, out, cap, &len, event, m.flag, m.ciphertext.at, m.ciphertext.len, m.salt.at, m.salt.len, m.usage);
  const int ready = before.state == AC_STATE_READY || before.state == AC_STATE_ENDED;
  if (cap < need || overlaps || !ready) {
    MUST(status == (cap < need ? AC_ERR_CAPACITY : overlaps ? AC_ERR_OVERLAP : AC_ERR_STATE));
    MUST(memcmp(&before, opener, sizeof before) == 0 && len == 99);
    return;
  }
  const int flag_fits = event ? before.stream && m.flag <= AC_FLAG_ABORT
                              : m.flag == AC_FLAG_ABORT || (m.flag == AC_FLAG_WHOLE && !before.stream);
  int good = !before.ended && flag_fits && (event || m.salt.len != 0) && (m.salt.len == 0 || is_base64_of(m.salt, AC_V2_SALT_BYTES)) &&
             oracle_base64(room(m.ciphertext.len), &decoded, m.ciphertext) && decoded >= AC_TAG_BYTES &&
             !(m.flag == AC_FLAG_MORE && decoded == AC_TAG_BYTES) && !(m.flag == AC_FLAG_WHOLE && before.index != 0) &&
             (m.salt.len != 0) == !before.keyed;
  for (size_t i = 0; m.usage != NULL && i < AC_V2_USAGE; i++) good = good && m.usage[i] <= ACI_V2_MAX_INTEGER;
  const sealed *found = v2_find(&m, event, before.index);
  if (found == NULL) found = v2_find(&m, !event, before.index);
  MUST(status == (!good ? AC_ERR_FORMAT : found != NULL ? AC_OK : AC_ERR_AUTH));
  if (status != AC_OK) {
    MUST(len == 99);
    check_v2_failed(opener, &before, out, status == AC_ERR_AUTH ? cap : 0);
    return;
  }
  MUST(same(found->plaintext, (view){out, len}) && opener->index == before.index + 1);
  MUST((opener->ended != 0) == (m.flag != AC_FLAG_MORE));
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len) {
  enum { MOST_STEPS = 5 };
  static ac_v1_opener v1;
  static ac_v2_opener v2;
  tape t = {in, len};
  const unsigned how = take(&t);
  v1 = x->v1_opener;
  v2 = x->v2_opener;
  v1.refuse_nonce_reuse = how >> 2 & 1;
  v2.stream = how >> 2 & 1;
  for (unsigned i = 0; i < MOST_STEPS && t.left != 0; i++) {
    arena_reset();
    switch (how % 4) {
      case 0: v1_reply(&v1, &t); break;
      case 1: v1_members(&v1, &t); break;
      case 2: v2_object(&v2, &t); break;
      default: v2_members(&v2, &t); break;
    }
  }
  return 0;
}
