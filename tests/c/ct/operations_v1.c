/* Protocol v1's requests, events and replies, from the keys on, with the secrets marked: bodies, plaintexts and keys. */
#include "ct.h"

enum { TEXT = 1500, ROOM = 4 * TEXT };
static const uint8_t model[] = "\"m\"", usage[] = "{\"total_tokens\":3}";

/* The bytes between the quotes of member `name`, which is there. */
const uint8_t *member(size_t *len, const uint8_t *json, size_t json_len, const char *name) {
  char key[40] = "\"";
  strcat(strcat(key, name), "\":\"");
  const size_t key_len = strlen(key);
  const uint8_t *at = json, *const end = json + json_len;
  while (at + key_len < end && memcmp(at, key, key_len) != 0) at++;
  MUST(at + key_len < end);
  at += key_len;
  const uint8_t *quote = memchr(at, '"', (size_t)(end - at));
  MUST(quote != NULL);
  *len = (size_t)(quote - at);
  return at;
}

static ac_v1_envelope read_envelope(const uint8_t *json, size_t len) {
  ac_v1_envelope e = {0};
  e.ciphertext = member(&e.ciphertext_len, json, len, "ciphertext");
  e.nonce = member(&e.nonce_len, json, len, "nonce");
  e.salt = member(&e.salt_len, json, len, "salt");
  e.client_public = member(&e.client_public_len, json, len, "client_dh_public_key");
  e.node_public = member(&e.node_public_len, json, len, "node_dh_public_key");
  e.body_hash = member(&e.body_hash_len, json, len, "plaintext_body_hash");
  return e;
}

/* Another digit of base64, a few digits before the end. */
void spoil(const uint8_t *text, size_t len) {
  uint8_t *at = (uint8_t *)(uintptr_t)text + len - 6;
  *at = *at == 'A' ? 'B' : 'A';
}

session_pair session_start(size_t body_len, const ac_signing_key *signing) {
  static uint8_t body[TEXT], request[ROOM], opened[ROOM];
  session_pair pair;
  ac_secret_key node;
  size_t request_len = 0, opened_len = 0;
  fill_secret(body, body_len);
  MUST(ac_secret_key_generate(&node) == AC_OK);
  MUST(ac_v1_request_seal(&pair.opener, request, sizeof request, &request_len, node.public_key, body, body_len, model,
                          sizeof model - 1, 42, 7, 1, 1) == AC_OK);
  const ac_v1_envelope envelope = read_envelope(request, request_len);
  MUST(ac_v1_request_open(&pair.sealer, opened, sizeof opened, &opened_len, &node, signing, &envelope) == AC_OK);
  MUST(opened_len == body_len && same(opened, body, body_len));
  ac_v1_sealer refused;
  spoil(envelope.body_hash, envelope.body_hash_len);
  MUST(ac_v1_request_open(&refused, opened, sizeof opened, &opened_len, &node, signing, &envelope) == AC_ERR_AUTH);
  spoil(envelope.ciphertext, envelope.ciphertext_len);
  MUST(ac_v1_request_open(&refused, opened, sizeof opened, &opened_len, &node, signing, &envelope) == AC_ERR_AUTH);
  ac_secret_key_wipe(&node);
  return pair;
}

int session_open(ac_v1_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, size_t *consumed,
                 const uint8_t *in, size_t in_len) {
  ac_v1_events events = {.opener = opener, .out = out, .out_cap = out_cap, .event_cap = 2};
  const int64_t status = ac_v1_events_open(&events, in, in_len);
  *out_len = events.out_len;
  *consumed = events.consumed;
  return status >= AC_ONE ? AC_OK : (int)status;
}

/* The members of an event as another parser hands them over; with or without the hash, which need not be sent. */
static int open_members(ac_v1_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, const uint8_t *event,
                        size_t event_len, int with_hash) {
  size_t ciphertext_len = 0, nonce_len = 0, hash_len = 0;
  const uint8_t *const ciphertext = member(&ciphertext_len, event, event_len, "ciphertext");
  const uint8_t *const nonce = member(&nonce_len, event, event_len, "nonce");
  const uint8_t *const hash = member(&hash_len, event, event_len, "response_hash");
  return ac_v1_sealed_open(opener, out, out_cap, out_len, ciphertext, ciphertext_len, nonce, nonce_len, hash,
                           with_hash ? hash_len : 0);
}

/* One event without usage, the commonest: opened alone, and from its members. */
static void plain_event(session_pair *pair, size_t len) {
  static uint8_t text[TEXT], event[ROOM], opened[TEXT + 64];
  size_t opened_len = 0, consumed = 0;
  fill_secret(text, len);
  const int64_t event_len = ac_v1_event_seal(&pair->sealer, event, sizeof event, text, len);
  MUST(event_len > 0);
  for (int how = 0; how < 3; how++) {
    ac_v1_opener opener = pair->opener;
    const int status =
        how == 0 ? session_open(&opener, opened, sizeof opened, &opened_len, &consumed, event, (size_t)event_len)
                 : open_members(&opener, opened, sizeof opened, &opened_len, event, (size_t)event_len, how == 1);
    MUST(status == AC_OK && opened_len == len && same(opened, text, len));
    secret(text, len); /* for the next way */
  }
}

/* Three events from one call, opened in two, and one alone; then one whose tag, and one whose hash, is wrong. */
static void stream(size_t len, const ac_signing_key *signing) {
  static uint8_t texts[3 * TEXT], events[3 * ROOM], opened[3 * TEXT + 64];
  const size_t lens[3] = {len, len / 2, len};
  const size_t total = 2 * len + len / 2;
  session_pair pair = session_start(len, signing);
  size_t events_len = 0, opened_len = 0, more_len = 0, consumed = 0, rest = 0, member_len = 0;
  const size_t shown_len = len % 2 != 0 ? sizeof usage - 1 : 0;
  fill_secret(texts, total);
  MUST(ac_v1_events_seal(&pair.sealer, events, sizeof events, &events_len, texts, total, lens, 3, usage, shown_len) == AC_OK);
  MUST(session_open(&pair.opener, opened, sizeof opened, &opened_len, &consumed, events, events_len) == AC_OK);
  MUST(session_open(&pair.opener, opened + opened_len, sizeof opened - opened_len, &more_len, &rest, events + consumed,
                    events_len - consumed) == AC_OK);
  MUST(consumed + rest == events_len && opened_len + more_len == total && same(opened, texts, total));

  plain_event(&pair, len);
  static const char *const members[2] = {"ciphertext", "response_hash"};
  for (size_t i = 0; i < 2; i++) {
    ac_v1_opener opener = pair.opener;
    fill_secret(texts, len);
    const int64_t event_len = ac_v1_event_seal(&pair.sealer, events, sizeof events, texts, len);
    MUST(event_len > 0);
    const uint8_t *at = member(&member_len, events, (size_t)event_len, members[i]);
    spoil(at, member_len);
    MUST(session_open(&opener, opened, sizeof opened, &opened_len, &consumed, events, (size_t)event_len) ==
         AC_ERR_AUTH);
    opener = pair.opener;
    MUST(open_members(&opener, opened, sizeof opened, &opened_len, events, (size_t)event_len, 1) == AC_ERR_AUTH);
  }

  size_t usage_pos = 0, usage_len = 0;
  fill_secret(texts, len);
  MUST(ac_v1_reply_seal(&pair.sealer, events, sizeof events, &events_len, texts, len, usage, shown_len) == AC_OK);
  MUST(ac_v1_reply_open(&pair.opener, opened, sizeof opened, &opened_len, &usage_pos, &usage_len, events, events_len) ==
       AC_OK);
  MUST(opened_len == len && same(opened, texts, len));
  if (len % 2 != 0) {
    MUST(ac_v1_sealer_close(&pair.sealer) == AC_OK && ac_v1_opener_close(&pair.opener) == AC_OK);
  } else {
    ac_v1_sealer_wipe(&pair.sealer);
    ac_v1_opener_wipe(&pair.opener);
  }
}

void operate_sessions(void) {
  static const size_t lens[] = {0, 1, 15, 16, 17, 48, 111, 112, 113, 239, 240, 241, 300, 480, 1024, TEXT};
  ac_signing_key signing;
  MUST(ac_signing_key_generate(&signing) == AC_OK);
  for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) stream(lens[i], i % 2 != 0 ? &signing : NULL);
  ac_signing_key_wipe(&signing);
}
