/* The readers of v1's and v2's JSON: what they take is JSON, with those members that another parser finds, and no other. */
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  fuzz_init();
  return 0;
}

/* The readers leave to the decoder what is in a string of base64. */
static int decodes(const aci_text *text) {
  size_t len = 0;
  return aci_base64_decode(room(text->len), &len, text->at, text->len) == AC_OK;
}

static int is_string(const json_object *o, const char *name, const aci_text *text) {
  size_t many = 0;
  const json_member *const m = json_find(o, name, &many);
  if (text->at == NULL) return many == 0 || (m != NULL && m->kind == 'n');
  return m != NULL && m->kind == '"' && m->value.at == text->at && m->value.len == text->len;
}

static void check_v1(const aci_v1_members *m, view json, int plain) {
  json_object o;
  if (!decodes(&m->ciphertext) || !decodes(&m->nonce)) return;
  if (m->response_hash.at != NULL && !decodes(&m->response_hash)) return;
  MUST(oracle_json(&o, json));
  MUST(m->ciphertext.at != NULL && is_string(&o, "ciphertext", &m->ciphertext));
  MUST(m->nonce.at != NULL && is_string(&o, "nonce", &m->nonce));
  MUST(is_string(&o, "response_hash", &m->response_hash));
  MUST(m->response_hash.at == NULL || m->response_hash.len != 0); /* or it would pass for absent */
  size_t many = 0;
  const json_member *const usage = json_find(&o, "usage", &many);
  if (m->usage.at == NULL) MUST(many == 0 || (usage != NULL && usage->kind == 'n'));
  else MUST(usage != NULL && usage->kind == '{' && usage->value.at == m->usage.at && usage->value.len == m->usage.len);
  if (plain) MUST(o.count == 4 && many == 0 && json_find(&o, "signature", NULL) != NULL);
}

static void check_v2(const aci_v2_members *m, view json) {
  static const char *const names[AC_V2_USAGE] = {"prompt_tokens", "completion_tokens", "total_tokens"};
  json_object o, inner;
  uint64_t number = 0;
  size_t many = 0, known = 1;
  if (!decodes(&m->ciphertext) || (m->salt.at != NULL && !decodes(&m->salt))) return;
  MUST(oracle_json(&o, json));
  MUST(m->ciphertext.at != NULL && is_string(&o, "ciphertext", &m->ciphertext));
  const json_member *const flag = json_find(&o, "flag", &many);
  MUST(many == 0 ? m->flag == AC_FLAG_MORE : flag != NULL && json_number(flag, &number) && number == m->flag);
  MUST(m->flag <= AC_FLAG_WHOLE);
  known += many;
  const json_member *const salt = json_find(&o, "salt", &many);
  MUST(many == (m->salt.at != NULL) && (salt == NULL || (salt->kind == '"' && is_string(&o, "salt", &m->salt))));
  known += many;
  const json_member *const version = json_find(&o, "v", &many);
  MUST(many == (m->salt.at != NULL) && (version == NULL || (json_number(version, &number) && number == 2)));
  known += many;
  const json_member *const usage = json_find(&o, "usage", &many);
  known += many;
  MUST(known == o.count); /* nothing unknown */
  if (!m->has_usage) {
    MUST(many == 0 || (usage != NULL && usage->kind == 'n'));
    return;
  }
  MUST(usage != NULL && usage->kind == '{' && oracle_json(&inner, usage->value) && inner.count == AC_V2_USAGE);
  for (size_t i = 0; i < AC_V2_USAGE; i++) {
    const json_member *const n = json_find(&inner, names[i], NULL);
    MUST(n != NULL && json_number(n, &number) && number == m->usage[i] && number <= ACI_V2_MAX_INTEGER);
  }
}

static void read_v1(view json) {
  const uint8_t *const in = copied(json.at, json.len);
  aci_v1_members m;
  const int status = aci_v1_read_members(&m, in, json.len);
  MUST(status == AC_OK || status == AC_PUNT);
  if (status == AC_OK) check_v1(&m, (view){in, json.len}, 0);
}

static void read_v2(view json) {
  const uint8_t *const in = copied(json.at, json.len);
  aci_v2_members m;
  const int status = aci_v2_read_members(&m, in, json.len);
  MUST(status == AC_OK || status == AC_PUNT);
  if (status == AC_OK) check_v2(&m, (view){in, json.len});
}

/* A whole event, read at a glance: the slow way comes to the same. */
static void read_plain(view stream) {
  enum { BEFORE = 6, BEHIND = 2 }; /* `data: ` and a blank line */
  const uint8_t *const in = copied(stream.at, stream.len);
  sse_event events[1];
  aci_v1_members m1, again1;
  aci_v2_members again2;
  aci_text ciphertext = {NULL, 0};
  int rest = NOTHING;
  size_t len = aci_v1_read_plain_event(&m1, in, stream.len);
  if (len != 0 && decodes(&m1.ciphertext) && decodes(&m1.nonce) && decodes(&m1.response_hash)) {
    MUST(len <= stream.len && oracle_sse(events, 1, (view){in, len}, no_limits, &rest) == 1 && rest == NOTHING);
    MUST(events[0].data_lines == 1 && events[0].end == in + len);
    MUST(same(events[0].data, (view){in + BEFORE, len - BEFORE - BEHIND}));
    check_v1(&m1, events[0].data, 1);
    MUST(aci_v1_read_members(&again1, events[0].data.at, events[0].data.len) == AC_OK);
    MUST(memcmp(&again1, &m1, sizeof m1) == 0);
  }
  len = aci_v2_read_plain_event(&ciphertext, in, stream.len);
  if (len != 0 && decodes(&ciphertext)) {
    MUST(len <= stream.len && oracle_sse(events, 1, (view){in, len}, no_limits, &rest) == 1 && rest == NOTHING);
    MUST(events[0].data_lines == 1 && events[0].end == in + len);
    MUST(aci_v2_read_members(&again2, events[0].data.at, events[0].data.len) == AC_OK);
    MUST(again2.ciphertext.at == ciphertext.at && again2.ciphertext.len == ciphertext.len);
    MUST(again2.flag == AC_FLAG_MORE && !again2.has_usage && again2.salt.at == NULL);
    check_v2(&again2, events[0].data);
  }
}

/* A byte under 64 is a word of the grammar, so that an input of a few bytes is nearly JSON. */
static size_t spell(tape *t, uint8_t *out, size_t cap) {
  static const char *const words[64] = {
      "{",       "}",          "{\"ciphertext\":\"QUJD\"",   ",",       ":",         "\"",     "[",         "]",
      "\\u0041", "\"nonce\"",  "\"ciphertext\"",             " ",       "\"usage\"", "\"v\"",  "\"salt\"",  "\"flag\"",
      "null",    "true",       "\"response_hash\"",          "false",   "0",         "1",      "2",         "3",
      "-",       ".5",         "e+7",                        "\"QQ==\"", "\"\"",     "\"x\"",  "\t",        "\r\n",
      "{}",      "[1,{}]",     "{\"prompt_tokens\":",        "\"completion_tokens\":", "\"total_tokens\":", "9007199254740991", "9007199254740992", "00",
      ":\"QUJD\"", ":2",       ",\"nonce\":\"QUJD\"",        ",\"signature\":\"\"", ",\"response_hash\":\"QUJD\"", "data: ", "\n", "}\n\n",
      "\\\"",    "\\",         "\"signature\"",              "\x7f",    "\x1f",      "\xc3\xa9", "\xff",    ":{\"a\":1}",
      ",\"v\":2", ",\"salt\":\"QUJD\"", ",\"usage\":{",      "data: {\"ciphertext\":\"", "\"}\n\n", "}}",    "1234567890123456789012345678901234567890", "\"prompt_tokens\":1,"};
  size_t len = 0;
  while (t->left != 0) {
    const uint8_t byte = take(t);
    const size_t part = byte < 64 ? strlen(words[byte]) : 1;
    if (part > cap - len) break;
    if (byte < 64) memcpy(out + len, words[byte], part);
    else out[len] = byte;
    len += part;
  }
  return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len) {
  enum { MOST = 1024 }; /* see JSON_MEMBERS */
  tape t = {in, len};
  arena_reset();
  const uint8_t how = take(&t);
  view text = {t.at, t.left};
  if (how & 4) {
    uint8_t *const spelt = room(MOST);
    text = (view){spelt, spell(&t, spelt, MOST)};
  }
  switch (how % 4) {
    case 0: read_v1(text); break;
    case 1: read_v2(text); break;
    case 2: read_plain(text); break;
    default:
      read_v1(text);
      read_v2(text);
      break;
  }
  return 0;
}
