/* Requests of v1 and v2, in both suites: hostile envelopes to the openers, hostile arguments to the sealers. Only what was
 * sealed for this node is opened; what a sealer has written is JSON, and a node opens it. */
#include "fuzz.h"

#include <inttypes.h>
#include <stdio.h>

enum { MOST = 1024 };

static const exchange *x;
static uint8_t shared[AC_HASH_BYTES] = {9}, big_enc[AC_V2_MAX_ENC_BYTES] = {5, 6}; /* what a KEM of X-Wing might have given */
static view big_request;

static const char body[] = "{\"stream\":true}"; /* of each request here */

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  ac_v2_opener opener;
  uint8_t out[4096];
  size_t len = 0;
  (void)argc;
  (void)argv;
  fuzz_init();
  x = exchange_make();
  MUST(ac_v2_request_seal(&opener, out, sizeof out, &len, AC_SUITE_XWING, v2_key_id, NULL, shared, big_enc, sizeof big_enc,
                          &v2_metadata, (const uint8_t *)"\"m\"", 3, (const uint8_t *)body, sizeof body - 1) == AC_OK);
  big_request = kept(out, len);
  return 0;
}

static size_t take_cap(tape *t, size_t need) {
  const unsigned how = take(t);
  return how < 200 ? need : how < 225 ? need + how % 9 : need - (need < how % 9 ? need : how % 9);
}

static view take_text(tape *t, view from, unsigned changes) {
  uint8_t *const text = room(from.len + 32);
  if (from.len != 0) memcpy(text, from.at, from.len);
  const size_t len = changes ? mutate(t, text, from.len, from.len + 32) : from.len;
  return (view){copied(text, len), len};
}

/* No plaintext: not the body's begin, in its place or elsewhere. */
static int holds_body(const uint8_t *p, size_t len) {
  enum { RUN = 8 };
  for (size_t i = 0; i + RUN <= len; i++) {
    if (memcmp(p + i, body, RUN) == 0) return 1;
  }
  return 0;
}

static int is_base64_of(view text, size_t len) {
  size_t got = 0;
  return oracle_base64(room(text.len), &got, text) && got == len;
}

/* ---- openers ---- */

static void open_v1(tape *t) {
  static const char *const names[6] = {"ciphertext", "nonce", "salt", "client_dh_public_key", "node_dh_public_key", "plaintext_body_hash"};
  static const size_t lens[6] = {0, AC_NONCE_BYTES, AC_V1_SALT_BYTES, AC_X25519_BYTES, AC_X25519_BYTES, AC_HASH_BYTES};
  const unsigned changed = take(t), signs = take(t);
  view v[6];
  int good = 1, genuine = 1;
  size_t decoded = 0;
  for (size_t i = 0; i < 6; i++) {
    const view from = member_text(x->v1_request, names[i]);
    v[i] = take_text(t, from, changed >> i & 1);
    if (i != 0) good = good && is_base64_of(v[i], lens[i]);
    if (i != 3) genuine = genuine && same(v[i], from);
  }
  good = good && oracle_base64(room(v[0].len), &decoded, v[0]) && decoded >= AC_TAG_BYTES;
  if (good) { /* X25519 does not look at the highest bit of a public key */
    uint8_t a[AC_X25519_BYTES], b[AC_X25519_BYTES];
    const view from = member_text(x->v1_request, names[3]);
    MUST(aci_base64_decode_exact(a, 32, v[3].at, v[3].len) == AC_OK && aci_base64_decode_exact(b, 32, from.at, from.len) == AC_OK);
    a[31] |= 0x80;
    b[31] |= 0x80;
    genuine = genuine && memcmp(a, b, 32) == 0;
  }
  const ac_v1_envelope e = {v[0].at, v[0].len, v[1].at, v[1].len, v[2].at, v[2].len, v[3].at, v[3].len, v[4].at, v[4].len, v[5].at, v[5].len};
  const size_t need = ac_base64_decoded_max(v[0].len), cap = take_cap(t, need);
  const int overlaps = signs >= 240 && v[0].len != 0 && cap != 0;
  uint8_t *const out = overlaps ? (uint8_t *)(uintptr_t)(v[0].at + signs % v[0].len) : room(cap);
  ac_v1_sealer sealer, before;
  memset(&sealer, PATTERN, sizeof sealer);
  before = sealer;
  size_t len = 99;
  const int status = ac_v1_request_open(&sealer, out, cap, &len, &x->node, signs & 1 ? &x->signing : NULL, &e);
  MUST(status == (cap < need ? AC_ERR_CAPACITY : overlaps ? AC_ERR_OVERLAP : !good ? AC_ERR_FORMAT : genuine ? AC_OK : AC_ERR_AUTH));
  if (status != AC_OK) {
    MUST(len == 99 && memcmp(&before, &sealer, sizeof sealer) == 0);
    MUST(status != AC_ERR_AUTH || !holds_body(out, cap));
    return;
  }
  MUST(len == sizeof body - 1 && memcmp(out, body, len) == 0 && sealer.state == AC_STATE_READY && sealer.signs == (signs & 1));
}

static void open_v2(tape *t, int big) {
  const view request = big ? big_request : x->v2_request;
  const unsigned changed = take(t), how = take(t);
  const view from = member_text(request, "ciphertext");
  const view ciphertext = take_text(t, from, changed & 1);
  const view enc_text = member_text(request, "enc");
  size_t decoded = 0, enc_len = 0;
  uint8_t enc_bytes[AC_V2_MAX_ENC_BYTES + 2], key_id[AC_KEY_ID_BYTES];
  MUST(aci_base64_decode(enc_bytes, &enc_len, enc_text.at, enc_text.len) == AC_OK);
  const view enc = take_text(t, (view){enc_bytes, enc_len}, changed & 2);
  ac_v2_metadata m = v2_metadata;
  memcpy(key_id, v2_key_id, sizeof key_id);
  int genuine = same(ciphertext, from) && (big || same(enc, (view){enc_bytes, enc_len})); /* X-Wing's KEM is the caller's */
  int good = 1;
  if (changed & 4) key_id[how % 8] ^= (uint8_t)(1 << how / 8 % 8);
  const view endpoint = take_text(t, (view){m.endpoint, m.endpoint_len}, changed & 8);
  const view model = take_text(t, (view){m.model, m.model_len}, changed & 16);
  m.endpoint = endpoint.at;
  m.endpoint_len = endpoint.len;
  m.model = model.at;
  m.model_len = model.len;
  if (changed & 32) {
    const unsigned which = take(t);
    uint64_t *const numbers[3] = {&m.stack_small_id, &m.num_compute_units, &m.sent_at};
    if (which & 8) *numbers[which % 3] = take_number(t);
    if (which & 4) *numbers[which % 3] ^= UINT64_C(1) << take_below(t, 64);
    if (which & 16) m.has_stack_small_id = 0;
    if (which & 32) m.has_num_compute_units = 0;
    if (which & 64) m.stream = which >> 7;
  }
  genuine = genuine && memcmp(key_id, v2_key_id, sizeof key_id) == 0 && same(endpoint, (view){v2_metadata.endpoint, v2_metadata.endpoint_len}) &&
            same(model, (view){v2_metadata.model, v2_metadata.model_len}) && m.has_stack_small_id && m.has_num_compute_units &&
            m.stack_small_id == v2_metadata.stack_small_id && m.num_compute_units == v2_metadata.num_compute_units &&
            m.sent_at == v2_metadata.sent_at && m.stream == v2_metadata.stream;
  for (size_t i = 0; i < endpoint.len; i++)
    good = good && endpoint.at[i] != 0 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_.-", endpoint.at[i]) != NULL;
  good = good && endpoint.len != 0 && endpoint.len <= 128 && endpoint.at[0] == '/' && model.len != 0 && model.len <= 256;
  good = good && (!m.has_stack_small_id || m.stack_small_id <= ACI_V2_MAX_INTEGER) && (!m.has_num_compute_units || m.num_compute_units <= ACI_V2_MAX_INTEGER);
  good = good && m.sent_at <= ACI_V2_MAX_INTEGER && enc.len == enc_len && oracle_base64(room(ciphertext.len), &decoded, ciphertext) && decoded >= AC_TAG_BYTES;
  const int bad_call = how >= 250;
  const size_t need = ac_base64_decoded_max(ciphertext.len), cap = take_cap(t, need);
  const view over = how & 1 ? ciphertext : how & 2 ? enc : how & 4 ? endpoint : model;
  const int overlaps = how >= 230 && over.len != 0 && cap != 0;
  uint8_t *const out = overlaps ? (uint8_t *)(uintptr_t)(over.at + how % over.len) : room(cap);
  ac_v2_sealer sealer, before;
  memset(&sealer, PATTERN, sizeof sealer);
  before = sealer;
  size_t len = 99;
  const int own = big == bad_call; /* the other suite's arguments, if the call is bad */
  const int status = ac_v2_request_open(&sealer, out, cap, &len, big ? AC_SUITE_XWING : how == 254 ? 7 : AC_SUITE_X25519, copied(key_id, sizeof key_id),
                                        own ? &x->node : NULL, own ? NULL : shared, enc.at, enc.len, ciphertext.at, ciphertext.len, &m);
  MUST(status == (bad_call ? AC_ERR_ARGUMENT : cap < need ? AC_ERR_CAPACITY : overlaps ? AC_ERR_OVERLAP : !good ? AC_ERR_FORMAT : genuine ? AC_OK : AC_ERR_AUTH));
  if (status != AC_OK) {
    MUST(len == 99 && memcmp(&before, &sealer, sizeof sealer) == 0);
    MUST(status != AC_ERR_AUTH || all_zero(out, decoded));
    return;
  }
  MUST(len == sizeof body - 1 && memcmp(out, body, len) == 0 && sealer.state == AC_STATE_READY);
}

/* ---- sealers ---- */

static uint8_t *take_out(tape *t, view in, size_t cap, int *overlaps) {
  const unsigned how = take(t);
  *overlaps = how >= 240 && in.len != 0 && cap != 0;
  return *overlaps ? (uint8_t *)(uintptr_t)(in.at + how % in.len) : room(cap);
}

/* Where there is none, v2 says so, and v1 does not speak of it. */
static void check_number(const json_object *o, const char *name, uint32_t has, uint64_t number, int v2) {
  char want[24];
  const int len = snprintf(want, sizeof want, "%" PRIu64, number);
  const json_member *const m = json_find(o, name, NULL);
  MUST(len > 0 && (m != NULL || (!has && !v2)));
  if (m != NULL) MUST(has ? m->kind == '0' && same(m->value, view_of(want)) : v2 && m->kind == 'n');
}

static void check_text(const json_object *o, const char *name, view want) {
  const json_member *const m = json_find(o, name, NULL);
  MUST(m != NULL && m->kind == '"' && !m->escaped && same(m->value, want));
}

/* Each member says what the caller has said, and a node opens it. */
static void check_sealed(view json, view text, view model, int v2, const ac_v2_metadata *m, int big) {
  json_object o;
  size_t len = 0, enc_len = 0;
  MUST(oracle_json(&o, json) && o.count == (v2 ? 10u : 9u + m->has_num_compute_units));
  check_number(&o, "stack_small_id", m->has_stack_small_id, m->stack_small_id, v2);
  check_number(&o, "num_compute_units", m->has_num_compute_units, m->num_compute_units, v2);
  const json_member *const name = json_find(&o, "model_name", NULL), *const stream = json_find(&o, "stream", NULL);
  MUST(name != NULL && same((view){name->value.at - 1, name->value.len + 2}, model));
  MUST(stream != NULL && stream->kind == (m->stream ? 't' : 'f'));
  const view c = member_text(json, "ciphertext");
  uint8_t *const out = room(ac_base64_decoded_max(c.len));
  if (v2) {
    uint8_t key_id[12];
    check_number(&o, "sent_at", 1, m->sent_at, 1);
    check_number(&o, "v", 1, 2, 1);
    check_text(&o, "endpoint", (view){m->endpoint, m->endpoint_len});
    check_text(&o, "key_id", (view){key_id, oracle_base64_encode(key_id, v2_key_id, sizeof v2_key_id)});
    MUST(same((view){model.at + 1, model.len - 2}, (view){m->model, m->model_len})); /* what is sealed is what is shown */
    ac_v2_sealer sealer;
    const view enc_text = member_text(json, "enc");
    uint8_t *const enc = room(ac_base64_decoded_max(enc_text.len));
    MUST(oracle_base64(enc, &enc_len, enc_text));
    MUST(ac_v2_request_open(&sealer, out, ac_base64_decoded_max(c.len), &len, big ? AC_SUITE_XWING : AC_SUITE_X25519, v2_key_id,
                            big ? NULL : &x->node, big ? shared : NULL, enc, enc_len, c.at, c.len, m) == AC_OK);
  } else {
    ac_v1_sealer sealer;
    const view n = member_text(json, "nonce"), s = member_text(json, "salt"), p = member_text(json, "client_dh_public_key");
    const view node = member_text(json, "node_dh_public_key"), h = member_text(json, "plaintext_body_hash");
    const ac_v1_envelope e = {c.at, c.len, n.at, n.len, s.at, s.len, p.at, p.len, node.at, node.len, h.at, h.len};
    MUST(ac_v1_request_open(&sealer, out, ac_base64_decoded_max(c.len), &len, &x->node, NULL, &e) == AC_OK);
  }
  MUST(same((view){out, len}, text));
}

/* A body, of a length that may be a lie, and a model's name. */
typedef struct inputs {
  view text, model;
  const uint8_t *plaintext;
  size_t body_len, need, cap;
  uint8_t *out;
  int overlaps;
} inputs;

static inputs take_inputs(tape *t) {
  inputs in = {.text = take_view(t, MOST), .model = view_of(take(t) & 1 ? "\"m\"" : "\"a/long-name-1.5\"")};
  const size_t lie = take(t) >= 245 ? (size_t)take_number(t) : 0;
  in.plaintext = copied(in.text.at, in.text.len);
  in.body_len = lie > 8 * MOST ? lie : in.text.len;
  return in;
}

static void take_room(tape *t, inputs *in) {
  in->cap = in->need > 8 * MOST ? MOST : take_cap(t, in->need);
  in->out = take_out(t, (view){in->plaintext, in->text.len}, in->cap, &in->overlaps);
}

static void seal_v1(tape *t) {
  const uint8_t zero[AC_X25519_BYTES] = {0};
  const unsigned how = take(t);
  const uint64_t stack = take_number(t), units = take_number(t);
  inputs in = take_inputs(t);
  in.need = ac_v1_request_max_bytes(in.body_len, in.model.len);
  take_room(t, &in);
  ac_v1_opener opener, before;
  memset(&opener, PATTERN, sizeof opener);
  before = opener;
  size_t len = 99;
  const uint8_t *const key = copied(how & 16 ? x->node.public_key : zero, sizeof zero);
  const int status = ac_v1_request_seal(&opener, in.out, in.cap, &len, key, in.plaintext, in.body_len, copied(in.model.at, in.model.len),
                                        in.model.len, stack, units, how >> 2 & 1, how >> 3 & 1);
  const int impossible = in.need == SIZE_MAX || in.body_len > AC_GCM_MAX_BYTES;
  MUST(status == (impossible ? AC_ERR_ARGUMENT : in.cap < in.need ? AC_ERR_CAPACITY : in.overlaps ? AC_ERR_OVERLAP : how & 16 ? AC_OK : AC_ERR_KEY));
  if (status != AC_OK) {
    MUST(len == 99 && memcmp(&before, &opener, sizeof opener) == 0);
    MUST(in.overlaps || untouched(in.out, in.cap));
    return;
  }
  MUST(len <= in.need && untouched(in.out + in.need, in.cap - in.need) && opener.state == AC_STATE_READY);
  const ac_v2_metadata m = {.stack_small_id = stack, .has_stack_small_id = 1, .num_compute_units = units,
                            .has_num_compute_units = how >> 2 & 1, .stream = how >> 3 & 1};
  check_sealed((view){in.out, len}, in.text, in.model, 0, &m, 0);
}

static void seal_v2(tape *t) {
  const uint8_t zero[AC_X25519_BYTES] = {0};
  const unsigned how = take(t), calls = take(t);
  const int big = how & 1, bad_call = calls >= 245;
  ac_v2_metadata m = v2_metadata;
  m.stack_small_id = take_number(t);
  m.num_compute_units = take_number(t);
  m.sent_at = take_number(t) & (how & 2 ? UINT64_MAX : UINT32_MAX);
  m.has_stack_small_id = how >> 2 & 1;
  m.has_num_compute_units = how >> 3 & 1;
  m.stream = how >> 4 & 1;
  if (calls < 16) m.stream = calls;
  if (calls >= 16 && calls < 24) m.endpoint = (const uint8_t *)"v1/chat/\"completions";
  inputs in = take_inputs(t);
  m.model = in.model.at + 1; /* without its quotes */
  m.model_len = in.model.len - 2;
  in.need = ac_v2_request_max_bytes(in.body_len, in.model.len, big ? sizeof big_enc : AC_X25519_BYTES);
  take_room(t, &in);
  ac_v2_opener opener, before;
  memset(&opener, PATTERN, sizeof opener);
  before = opener;
  size_t len = 99;
  const int own = big == bad_call; /* the other suite's arguments, if the call is bad */
  const uint8_t *const key = copied(how & 32 ? x->node.public_key : zero, sizeof zero);
  const int status = ac_v2_request_seal(&opener, in.out, in.cap, &len, big ? AC_SUITE_XWING : calls == 255 ? 9 : AC_SUITE_X25519, v2_key_id,
                                        own ? key : NULL, own ? NULL : shared, own ? NULL : big_enc, own ? 0 : sizeof big_enc, &m,
                                        copied(in.model.at, in.model.len), in.model.len, in.plaintext, in.body_len);
  const int fits = m.stream <= 1 && m.endpoint[0] == '/' && m.sent_at <= ACI_V2_MAX_INTEGER &&
                   (!m.has_stack_small_id || m.stack_small_id <= ACI_V2_MAX_INTEGER) &&
                   (!m.has_num_compute_units || m.num_compute_units <= ACI_V2_MAX_INTEGER);
  const int impossible = bad_call || !fits || in.need == SIZE_MAX || in.body_len > AC_GCM_MAX_BYTES;
  MUST(status == (impossible ? AC_ERR_ARGUMENT : in.cap < in.need ? AC_ERR_CAPACITY : in.overlaps ? AC_ERR_OVERLAP : big || how & 32 ? AC_OK : AC_ERR_KEY));
  if (status != AC_OK) {
    MUST(len == 99 && memcmp(&before, &opener, sizeof opener) == 0);
    MUST(in.overlaps || untouched(in.out, in.cap));
    return;
  }
  MUST(len <= in.need && untouched(in.out + in.need, in.cap - in.need) && opener.state == AC_STATE_READY);
  MUST(opener.stream == m.stream && !opener.keyed && opener.key.waiting.enc_len == (big ? sizeof big_enc : AC_X25519_BYTES));
  check_sealed((view){in.out, len}, in.text, in.model, 1, &m, big);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len) {
  tape t = {in, len};
  arena_reset();
  random_restart(2);
  switch (take(&t) % 5) {
    case 0: open_v1(&t); break;
    case 1: open_v2(&t, 0); break;
    case 2: open_v2(&t, 1); break;
    case 3: seal_v1(&t); break;
    default: seal_v2(&t); break;
  }
  return 0;
}
