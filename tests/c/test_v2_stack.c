/* What v2's calls leave on the stack. */
#include "harness.h"

enum { TEXT = 700 };

/* All that the calls work on: none of it may lie on the stack that is searched. */
static struct {
  ac_secret_key node, client;
  ac_v2_opener opener;
  ac_v2_sealer sealer;
  ac_v2_metadata metadata;
  uint8_t random[AC_X25519_BYTES], salt[AC_V2_SALT_BYTES], enc[AC_X25519_BYTES];
  uint8_t text[TEXT], body[3 * TEXT];
  view ciphertext;
  bytes request, events;
  size_t request_len, events_len;
  int64_t event_len;
  int status;
  struct { /* what must not be found */
    uint8_t shared[AC_HASH_BYTES], response[AC_HASH_BYTES], key[AC_KEY_BYTES], nonce[AC_NONCE_BYTES + 4];
    ac_aes256gcm request_aes, response_aes;
  } secrets;
} x;

static void seal_request(void) {
  x.status = ac_v2_request_seal(&x.opener, x.request.at, x.request.len, &x.request_len, AC_SUITE_X25519, v2_key_id,
                                x.node.public_key, NULL, NULL, 0, &x.metadata, (const uint8_t *)"\"m\"", 3, x.text, TEXT);
}

static void open_request(void) {
  size_t len = 0;
  x.status = ac_v2_request_open(&x.sealer, x.body, sizeof x.body, &len, AC_SUITE_X25519, v2_key_id, &x.node, NULL, x.enc,
                                sizeof x.enc, x.ciphertext.at, x.ciphertext.len, &x.metadata);
}

static void seal_first(void) {
  x.event_len = ac_v2_event_seal(&x.sealer, x.events.at, x.events.len, x.text, TEXT);
  x.status = x.event_len > 0 ? AC_OK : (int)x.event_len;
}

static void seal_end(void) { /* and what wipes the sealer */
  const size_t lens[] = {TEXT - 1, 1};
  x.status = ac_v2_events_seal(&x.sealer, x.events.at + x.event_len, x.events.len - (size_t)x.event_len, &x.events_len, x.text,
                               TEXT, lens, 2, AC_FLAG_END, NULL);
}

static void open_events(void) { /* from the salt to the end */
  ac_v2_events events = {.out = x.body, .out_cap = sizeof x.body, .event_cap = 3};
  x.status = v2_events_open(&x.opener, &events, (view){x.events.at, (size_t)x.event_len + x.events_len});
  if (x.status == AC_OK && (events.count != 3 || !x.opener.ended)) x.status = AC_PUNT;
}

static void make_sealer(void) { x.status = ac_v2_sealer_init(&x.sealer, x.secrets.response, x.enc, sizeof x.enc); }

static void make_opener(void) {
  x.status = ac_v2_opener_init(&x.opener, x.secrets.response, x.enc, sizeof x.enc, x.salt);
}

static void leaves_nothing(void (*function)(void)) {
  uint8_t *const stack = stack_after(function);
  CHECK_STATUS(x.status, AC_OK);
  CHECK(!stack_holds(stack, x.client.secret, sizeof x.client.secret) && !stack_holds(stack, x.node.secret, sizeof x.node.secret));
  CHECK(!stack_holds(stack, x.secrets.shared, sizeof x.secrets.shared));
  CHECK(!stack_holds(stack, x.secrets.response, sizeof x.secrets.response));
  CHECK(!stack_holds(stack, x.secrets.key, sizeof x.secrets.key));
  CHECK(!stack_holds(stack, x.secrets.request_aes.words, sizeof x.secrets.request_aes.words));
  CHECK(!stack_holds(stack, x.secrets.response_aes.words, sizeof x.secrets.response_aes.words));
  free(stack);
}

static void know_all(void) {
  uint8_t salt[AC_X25519_BYTES + AC_V2_SALT_BYTES];
  CHECK_STATUS(ac_secret_key_generate(&x.node), AC_OK);
  CHECK_STATUS(ac_secret_key_from_bytes(&x.client, x.random), AC_OK);
  memcpy(x.enc, x.client.public_key, sizeof x.enc);
  memcpy(salt, x.enc, sizeof x.enc);
  memcpy(salt + sizeof x.enc, x.salt, sizeof x.salt);
  CHECK_STATUS(aci_dhkem_decapsulate(x.secrets.shared, x.enc, &x.node), AC_OK);
  CHECK_STATUS(aci_v2_request_schedule(&x.secrets.request_aes, x.secrets.nonce, x.secrets.response, AC_SUITE_X25519,
                                       x.secrets.shared, v2_key_id),
               AC_OK);
  CHECK_STATUS(ac_hkdf_sha256(x.secrets.key, AC_KEY_BYTES, x.secrets.response, AC_HASH_BYTES, salt, sizeof salt,
                              (const uint8_t *)"key", 3),
               AC_OK);
  CHECK_STATUS(ac_aes256gcm_init(&x.secrets.response_aes, x.secrets.key, ac_aes_backend_default()), AC_OK);
}

void test_v2_stack(void) {
  memset(&x, 0, sizeof x);
  for (size_t i = 0; i < sizeof x.random; i++) x.random[i] = (uint8_t)random_below(256);
  for (size_t i = 0; i < sizeof x.salt; i++) x.salt[i] = (uint8_t)random_below(256);
  for (size_t i = 0; i < sizeof x.text; i++) x.text[i] = (uint8_t)random_below(256);
  x.metadata = v2_metadata(1);
  know_all();
  x.request = bytes_new(ac_v2_request_max_bytes(TEXT, 3, sizeof x.enc));
  random_queue(x.random, sizeof x.random);
  leaves_nothing(seal_request);
  CHECK_EQUAL(x.opener.key.waiting.secret, x.secrets.response, AC_HASH_BYTES); /* it is what was searched for */
  x.ciphertext = member((view){x.request.at, x.request_len}, "ciphertext");
  random_queue(x.salt, sizeof x.salt);
  leaves_nothing(open_request);
  CHECK_EQUAL(&x.sealer.aes, &x.secrets.response_aes, sizeof x.sealer.aes);
  x.events = bytes_new(4 * TEXT);
  leaves_nothing(seal_first);
  leaves_nothing(seal_end);
  leaves_nothing(open_events);
  random_queue(x.salt, sizeof x.salt);
  leaves_nothing(make_sealer);
  leaves_nothing(make_opener);
  CHECK_EQUAL(&x.opener.key.aes, &x.secrets.response_aes, sizeof x.opener.key.aes);
  bytes_free(&x.request);
  bytes_free(&x.events);
}
