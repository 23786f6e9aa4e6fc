/* One exchange of each protocol, with all that its node seals; and streams made of it, good and bad. */
#include "fuzz.h"

#include <stdio.h>

static const char mark[] = "atoma-in-clear"; /* begins each plaintext, again and again */

const uint8_t v2_key_id[AC_KEY_ID_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};
const ac_v2_metadata v2_metadata = {.endpoint = (const uint8_t *)"/v1/chat/completions",
                                    .endpoint_len = 20,
                                    .model = (const uint8_t *)"m",
                                    .model_len = 1,
                                    .stack_small_id = 42,
                                    .num_compute_units = 64,
                                    .sent_at = 1763808745,
                                    .has_stack_small_id = 1,
                                    .has_num_compute_units = 1,
                                    .stream = 1};

int holds_plaintext(const void *p, size_t len) {
  enum { RUN = 8 };
  const uint8_t *const at = p;
  for (size_t i = 0; i + RUN <= len; i++) {
    if (at[i] == mark[0] && memcmp(at + i, mark, RUN) == 0) return 1;
  }
  return 0;
}

view member_text(view json, const char *name) {
  json_object o;
  MUST(oracle_json(&o, json));
  const json_member *const m = json_find(&o, name, NULL);
  return m != NULL ? m->value : (view){NULL, 0};
}

static view plaintext_of(size_t len) {
  uint8_t text[1024];
  MUST(len <= sizeof text);
  for (size_t i = 0; i < len; i++) text[i] = (uint8_t)mark[i % (sizeof mark - 1)];
  return kept(text, len);
}

static const size_t lens[] = {0, 1, 9, 14, 15, 40, 100, 300, 700};
enum { LENS = sizeof lens / sizeof lens[0] };

static sealed v1_sealed(const uint8_t *text, size_t len, view plaintext, view usage, int event) {
  sealed s = {.text = kept(text, len), .plaintext = plaintext, .usage = usage};
  s.json = event ? (view){s.text.at + 6, s.text.len - 8} : s.text;
  s.ciphertext = member_text(s.json, "ciphertext");
  s.nonce = member_text(s.json, "nonce");
  s.hash = member_text(s.json, "response_hash");
  return s;
}

static void make_v1(exchange *x) {
  static const char body[] = "{\"stream\":true}";
  uint8_t out[2048], opened[2048];
  size_t len = 0;
  MUST(ac_v1_request_seal(&x->v1_opener, out, sizeof out, &len, x->node.public_key, (const uint8_t *)body,
                          sizeof body - 1, (const uint8_t *)"\"m\"", 3, 42, 64, 1, 1) == AC_OK);
  x->v1_request = kept(out, len);
  const view r = x->v1_request, c = member_text(r, "ciphertext"), n = member_text(r, "nonce"), s = member_text(r, "salt");
  const view client = member_text(r, "client_dh_public_key"), node = member_text(r, "node_dh_public_key");
  const view hash = member_text(r, "plaintext_body_hash");
  const ac_v1_envelope e = {c.at, c.len, n.at, n.len, s.at, s.len, client.at, client.len, node.at, node.len, hash.at, hash.len};
  MUST(ac_v1_request_open(&x->v1_sealer, opened, sizeof opened, &len, &x->node, &x->signing, &e) == AC_OK);
  ac_v1_sealer sealer = x->v1_sealer;
  for (size_t i = 0; i < 16; i++) {
    const view usage = view_of(i % 4 == 1 ? "{\"total_tokens\":7}" : i % 4 == 3 ? "{}" : ""), plaintext = plaintext_of(lens[i % LENS]);
    sealer.signs = i % 3 != 0;
    MUST(ac_v1_events_seal(&sealer, out, sizeof out, &len, plaintext.at, plaintext.len, &plaintext.len, 1, usage.at,
                           usage.len) == AC_OK);
    x->v1[x->v1_count++] = v1_sealed(out, len, plaintext, usage, 1);
    if (i >= 4) continue;
    MUST(ac_v1_reply_seal(&sealer, out, sizeof out, &len, plaintext.at, plaintext.len, usage.at, usage.len) == AC_OK);
    x->v1_replies[x->v1_reply_count++] = v1_sealed(out, len, plaintext, usage, 0);
  }
}

static sealed v2_sealed(const uint8_t *text, size_t len, view plaintext, const uint64_t *usage, int event) {
  sealed s = {.text = kept(text, len), .plaintext = plaintext};
  s.json = event ? (view){s.text.at + 6, s.text.len - 8} : s.text;
  s.ciphertext = member_text(s.json, "ciphertext");
  s.usage = member_text(s.json, "usage");
  if (usage != NULL) memcpy(s.numbers, usage, sizeof s.numbers);
  return s;
}

static void make_v2(exchange *x) {
  static const uint64_t usage[AC_V2_USAGE] = {12, 345, ACI_V2_MAX_INTEGER};
  static const char body[] = "{\"stream\":true}";
  uint8_t out[2048], opened[2048], enc[AC_X25519_BYTES];
  size_t len = 0;
  MUST(ac_v2_request_seal(&x->v2_opener, out, sizeof out, &len, AC_SUITE_X25519, v2_key_id, x->node.public_key, NULL, NULL,
                          0, &v2_metadata, (const uint8_t *)"\"m\"", 3, (const uint8_t *)body, sizeof body - 1) == AC_OK);
  x->v2_request = kept(out, len);
  const view c = member_text(x->v2_request, "ciphertext"), enc_text = member_text(x->v2_request, "enc");
  MUST(aci_base64_decode_exact(enc, sizeof enc, enc_text.at, enc_text.len) == AC_OK);
  MUST(ac_v2_request_open(&x->v2_sealer, opened, sizeof opened, &len, AC_SUITE_X25519, v2_key_id, &x->node, NULL, enc,
                          sizeof enc, c.at, c.len, &v2_metadata) == AC_OK);
  aci_base64_encode(x->v2_salt, x->v2_sealer.salt, sizeof x->v2_sealer.salt);
  ac_v2_sealer sealer = x->v2_sealer;
  for (uint32_t i = 0; i < 6; i++) { /* each record in each way in which it might have been sealed */
    ac_v2_sealer next = sealer;
    for (uint32_t flag = 0; flag <= AC_FLAG_ABORT; flag++) {
      for (unsigned shows = 0; shows < 2; shows++) {
        const view plaintext = plaintext_of(lens[(i + flag + shows) % LENS + (flag == AC_FLAG_MORE && i + shows == 0)]);
        const uint64_t *const u = shows ? usage : NULL;
        if (flag == AC_FLAG_MORE && plaintext.len == 0) continue;
        next = sealer;
        MUST(ac_v2_events_seal(&next, out, sizeof out, &len, plaintext.at, plaintext.len, &plaintext.len, 1, flag, u) == AC_OK);
        sealed *const s = &x->v2[x->v2_count++];
        *s = v2_sealed(out, len, plaintext, u, 1);
        s->index = i;
        s->flag = flag;
        MUST(x->v2_count < MOST_SEALED);
      }
    }
    MUST(ac_v2_event_seal(&sealer, out, sizeof out, (const uint8_t *)mark, sizeof mark - 1) > 0);
    sealer.index = i + 1;
  }
  for (uint32_t i = 0; i < 8; i++) {
    const view plaintext = plaintext_of(lens[i]);
    const uint64_t *const u = i & 2 ? usage : NULL;
    sealer = x->v2_sealer;
    const uint32_t flag = i & 1 ? AC_FLAG_ABORT : AC_FLAG_WHOLE;
    MUST(ac_v2_object_seal(&sealer, out, sizeof out, &len, flag, plaintext.at, plaintext.len, u) == AC_OK);
    x->v2_objects[x->v2_object_count] = v2_sealed(out, len, plaintext, u, 0);
    x->v2_objects[x->v2_object_count++].flag = flag;
  }
}

const exchange *exchange_make(void) {
  static exchange x;
  const uint8_t seed[32] = {7};
  random_restart(1);
  MUST(ac_secret_key_from_bytes(&x.node, seed) == AC_OK && ac_signing_key_from_seed(&x.signing, seed) == AC_OK);
  make_v1(&x);
  make_v2(&x);
  return &x;
}

/* ---- streams ---- */

typedef struct stream {
  uint8_t *at;
  size_t len, cap;
} stream;

static void put(stream *s, view v) {
  const size_t part = v.len < s->cap - s->len ? v.len : s->cap - s->len;
  if (part != 0) memcpy(s->at + s->len, v.at, part);
  s->len += part;
}

/* The event as another node might have written it: it means the same, or nearly. */
static void put_otherwise(stream *s, tape *t, const sealed *e) {
  static const char *const ends[] = {"\n", "\r\n", "\r"};
  static const char *const before[] = {"", ": a comment", "id: 7", "event: message", "data", "retry:1", "data:[1]", "dat"};
  static const char *const inside[] = {"{", "{ ", "{\"x\":1,", "{\"x\":{\"y\":[]},", "{\t\"usage\":null,", "{\"flag\":0 ,", "{\"x\":\"\\u0041\",", "{\"nonce\":\"\","};
  const unsigned how = take(t), more = take(t);
  const view end = view_of(ends[how % 3]);
  const char *const line = before[more % 8];
  if (*line != 0) {
    put(s, view_of(line));
    put(s, end);
  }
  put(s, view_of(how & 16 ? "data:" : "data: "));
  put(s, view_of(inside[more / 8 % 8]));
  put(s, (view){e->json.at + 1, e->json.len - 1});
  put(s, view_of(how & 32 ? "" : " "));
  put(s, end);
  put(s, how & 64 ? view_of(ends[how / 64 % 3]) : end);
}

static void put_changed(stream *s, tape *t, const sealed *e) {
  uint8_t text[2048];
  memcpy(text, e->text.at, e->text.len);
  put(s, (view){text, mutate(t, text, e->text.len, sizeof text)});
}

/* An event whose turn it is, or any. */
static const sealed *choose(const exchange *x, int v2, uint32_t *turn, unsigned pick, int any) {
  if (!v2) return any ? &x->v1[pick % x->v1_count] : &x->v1[(*turn)++ % x->v1_count];
  if (any) return &x->v2[pick % x->v2_count];
  for (size_t i = 0;; i++) { /* the first one of this index, or one behind it */
    const sealed *const e = &x->v2[i % x->v2_count];
    if (e->index != *turn % 6) continue;
    const sealed *const other = e + (pick >= 224 ? pick % 4 : pick % 2);
    (*turn)++;
    return other->index == e->index && other < x->v2 + x->v2_count ? other : e;
  }
}

size_t stream_make(tape *t, uint8_t *out, size_t cap, const exchange *x, int v2) {
  static const char *const bits[] = {"\n", "\r", "\r\n", ": \n", "data", "data:", "data: [DONE]\n\n", "event: x\n",
                                     "\xef\xbb\xbf", "\n\n", "data: {}\n\n", "data: \n", "id\n", ":", " ", "data: {"};
  stream s = {out, 0, cap};
  uint32_t turn = 0;
  while (t->left != 0 && s.len < cap) {
    const unsigned what = take(t);
    switch (what % 16) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4: put(&s, choose(x, v2, &turn, take(t), 0)->text); break;
      case 5: put(&s, choose(x, v2, &turn, take(t), 1)->text); break;
      case 6:
      case 7: put_otherwise(&s, t, choose(x, v2, &turn, take(t), 0)); break;
      case 8:
      case 9: put_changed(&s, t, choose(x, v2, &turn, take(t), 0)); break;
      case 10: turn++; break; /* one is lost */
      case 11: turn += 5; break;
      case 12: put(&s, take_view(t, 40)); break;
      case 13: {
        const view whole = choose(x, v2, &turn, take(t), 0)->text;
        put(&s, (view){whole.at, whole.len * take(t) / 256});
        break;
      }
      default: put(&s, view_of(bits[what / 16])); break;
    }
  }
  return s.len;
}
