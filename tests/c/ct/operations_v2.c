/* Protocol v2's requests, records and events, with the secrets marked: bodies, plaintexts, keys, what a KEM gives and what
 * HPKE exports. The salt is public, as it is sent. */
#include "ct.h"

enum { TEXT = 1500, ROOM = 4 * TEXT };
static const uint8_t model[] = "\"m\"";
static const uint8_t key_id[AC_KEY_ID_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};
static const uint64_t numbers[AC_V2_USAGE] = {3, 9, 12};

static ac_v2_metadata metadata_of(int is_stream) {
  return (ac_v2_metadata){.endpoint = (const uint8_t *)"/v1/chat/completions",
                          .endpoint_len = 20,
                          .model = model + 1,
                          .model_len = 1,
                          .stack_small_id = 42,
                          .sent_at = 1763808745,
                          .has_stack_small_id = 1,
                          .stream = (uint32_t)is_stream};
}

/* A request of each suite, and the same refused: another tag, another key. X-Wing's shared secret is marked, too. */
static void start_v2(ac_v2_opener *opener, ac_v2_sealer *sealer, uint32_t suite, size_t body_len, int is_stream) {
  static uint8_t body[TEXT], request[ROOM], opened[ROOM], enc[AC_V2_MAX_ENC_BYTES + 2];
  const int own = suite == AC_SUITE_X25519;
  const ac_v2_metadata metadata = metadata_of(is_stream);
  uint8_t shared[AC_HASH_BYTES];
  ac_secret_key node;
  size_t len = 0, opened_len = 0, enc_len = own ? AC_X25519_BYTES : AC_V2_MAX_ENC_BYTES, text_len = 0;
  fill_secret(body, body_len);
  fill_secret(shared, sizeof shared);
  fill(enc, sizeof enc);
  MUST(ac_secret_key_generate(&node) == AC_OK);
  MUST(ac_v2_request_seal(opener, request, sizeof request, &len, suite, key_id, own ? node.public_key : NULL,
                          own ? NULL : shared, own ? NULL : enc, own ? 0 : enc_len, &metadata, model, sizeof model - 1, body,
                          body_len) == AC_OK);
  const uint8_t *text = member(&text_len, request, len, "enc");
  MUST(aci_base64_decode(enc, &enc_len, text, text_len) == AC_OK);
  text = member(&text_len, request, len, "ciphertext");
#define OPEN(sealer)                                                                                                        \
  ac_v2_request_open((sealer), opened, sizeof opened, &opened_len, suite, key_id, own ? &node : NULL, own ? NULL : shared, \
                     enc, enc_len, text, text_len, &metadata)
  MUST(OPEN(sealer) == AC_OK);
  MUST(opened_len == body_len && same(opened, body, body_len));
  ac_v2_sealer refused;
  spoil(text, text_len);
  MUST(OPEN(&refused) == AC_ERR_AUTH);
  if (own) {
    memset(enc, 0, enc_len); /* of small order */
    MUST(OPEN(&refused) == AC_ERR_AUTH);
  }
#undef OPEN
  ac_secret_key_wipe(&node);
}

static int open_v2(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, const uint8_t *in, size_t in_len) {
  ac_v2_events events = {.opener = opener, .out = out, .out_cap = out_cap, .event_cap = 4};
  const int64_t status = ac_v2_events_open(&events, in, in_len);
  *out_len = events.out_len;
  return status >= AC_ONE ? AC_OK : (int)status;
}

/* The first message in `json`, its members as another parser hands them over. */
static int open_members_v2(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, const uint8_t *json,
                           size_t json_len, int event, uint32_t flag, const uint64_t *usage) {
  size_t text_len = 0, salt_len = 0;
  const uint8_t *const text = member(&text_len, json, json_len, "ciphertext");
  const uint8_t *const salt = opener->keyed ? NULL : member(&salt_len, json, json_len, "salt");
  return ac_v2_sealed_open(opener, out, out_cap, out_len, event, flag, text, text_len, salt, salt_len, usage);
}

enum { FIRST, PLAIN, LAST, STEPS };

/* The first event, which shows the salt; then plain ones, of flag AC_FLAG_MORE and without usage, as all but two of a
 * stream are; then a batch that shows its usage and ends the stream. Before each the same with a tag that is wrong, and
 * the first of each from its members. */
static void stream_v2(uint32_t suite, size_t len) {
  static uint8_t texts[3 * TEXT], events[3 * ROOM], sent[3 * ROOM], opened[3 * TEXT + 64];
  ac_v2_opener opener, other;
  ac_v2_sealer sealer;
  size_t opened_len = 0, events_len = 0, text_len = 0;
  const size_t lens[3] = {len, 1, len / 2 + 1}, all = len + 1 + len / 2 + 1;
  start_v2(&opener, &sealer, suite, len, 1);
  for (int step = FIRST; step < STEPS; step++) {
    const size_t total = step == FIRST ? len : all;
    const uint64_t *const usage = step == LAST ? numbers : NULL;
    const uint32_t flag = step == LAST ? AC_FLAG_END : AC_FLAG_MORE;
    fill_secret(texts, total);
    if (step == FIRST) {
      const int64_t written = ac_v2_event_seal(&sealer, events, sizeof events, texts, total);
      MUST(written > 0);
      events_len = (size_t)written;
    } else {
      MUST(ac_v2_events_seal(&sealer, events, sizeof events, &events_len, texts, total, lens, 3, flag, usage) == AC_OK);
    }
    memcpy(sent, events, events_len);
    const uint8_t *const text = member(&text_len, events, events_len, "ciphertext");
    spoil(text, text_len);
    other = opener;
    MUST(open_v2(&other, opened, sizeof opened, &opened_len, events, events_len) == AC_ERR_AUTH);
    other = opener;
    MUST(open_members_v2(&other, opened, sizeof opened, &opened_len, events, events_len, 1, AC_FLAG_MORE, usage) == AC_ERR_AUTH);
    memcpy(events, sent, events_len);
    other = opener;
    MUST(open_members_v2(&other, opened, sizeof opened, &opened_len, events, events_len, 1, AC_FLAG_MORE, usage) == AC_OK);
    MUST(opened_len == len && same(opened, texts, len));
    if (step != FIRST) { /* a forgery behind a good one is left for the next call: that one's plaintext is there */
      const uint8_t *const second = memchr(events, '\n', events_len);
      const size_t left = events_len - (size_t)(second - events);
      const uint8_t *const second_text = member(&text_len, second, left, "ciphertext");
      spoil(second_text, text_len);
      other = opener;
      secret(texts, len);
      MUST(open_v2(&other, opened, sizeof opened, &opened_len, events, events_len) == AC_OK && opened_len == len);
      memcpy(events, sent, events_len);
    }
    secret(texts, total); /* for the next way */
    MUST(open_v2(&opener, opened, sizeof opened, &opened_len, events, events_len) == AC_OK);
    MUST(opened_len == total && same(opened, texts, total) && opener.ended == (uint32_t)(step == LAST));
  }
  MUST(ac_v2_opener_close(&opener) == AC_OK && ac_v2_sealer_close(&sealer) == AC_OK);
}

static void object_v2(uint32_t suite, size_t len) {
  static uint8_t text[TEXT], object[ROOM], opened[ROOM];
  uint64_t span[AC_V2_SPAN];
  ac_v2_opener opener, other;
  ac_v2_sealer sealer;
  size_t object_len = 0, opened_len = 0;
  start_v2(&opener, &sealer, suite, len, 0);
  fill_secret(text, len);
  MUST(ac_v2_object_seal(&sealer, object, sizeof object, &object_len, AC_FLAG_WHOLE, text, len, numbers) == AC_OK);
  other = opener;
  MUST(open_members_v2(&other, opened, sizeof opened, &opened_len, object, object_len, 0, AC_FLAG_WHOLE, numbers) == AC_OK);
  MUST(opened_len == len && same(opened, text, len));
  secret(text, len); /* for the next way */
  MUST(ac_v2_object_open(&opener, opened, sizeof opened, &opened_len, span, object, object_len) == AC_OK);
  MUST(opened_len == len && same(opened, text, len));
  ac_v2_opener_wipe(&opener);
  ac_v2_sealer_wipe(&sealer);
}

/* For embedders: what HPKE exported comes from outside. */
static void record_v2(size_t len) {
  static uint8_t text[TEXT], sealed[TEXT + AC_TAG_BYTES];
  uint8_t exported[AC_HASH_BYTES], enc[AC_X25519_BYTES];
  ac_v2_opener opener;
  ac_v2_sealer sealer;
  fill_secret(exported, sizeof exported);
  fill(enc, sizeof enc);
  fill_secret(text, len);
  MUST(ac_v2_sealer_init(&sealer, exported, enc, sizeof enc) == AC_OK);
  MUST(ac_v2_opener_init(&opener, exported, enc, sizeof enc, sealer.salt) == AC_OK);
  MUST(ac_v2_record_seal(&sealer, sealed, len + AC_TAG_BYTES, AC_FLAG_END, text, len, numbers) == AC_OK);
  MUST(ac_v2_record_open(&opener, sealed, len, AC_FLAG_END, sealed, len + AC_TAG_BYTES, numbers) == AC_OK);
  MUST(same(sealed, text, len));
}

void operate_v2(void) {
  static const size_t lens[] = {1, 15, 16, 17, 48, 112, 113, 240, 300, 480, TEXT};
  for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
    stream_v2(i % 2 != 0 ? AC_SUITE_X25519 : AC_SUITE_XWING, lens[i]);
    object_v2(i % 2 != 0 ? AC_SUITE_XWING : AC_SUITE_X25519, lens[i]);
    record_v2(lens[i]);
  }
}
