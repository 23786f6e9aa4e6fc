/* What calls leave on the stack: each runs on a stack of its own, which is searched for secrets afterwards. */
#define _XOPEN_SOURCE 700 /* pthread_attr_setstack */
#include "harness.h"

#include <pthread.h>
#include <sodium.h>

enum { STACK = 1 << 20, TEXT = 700 };

/* All that the calls work on: none of it may lie on the stack that is searched. */
static struct {
  ac_secret_key node, client;
  ac_signing_key signing;
  ac_v1_opener opener;
  ac_v1_sealer sealer;
  ac_v1_envelope envelope;
  ac_aes256gcm aes;
  ac_hpke hpke;
  uint8_t random[AC_X25519_BYTES + AC_V1_SALT_BYTES + AC_NONCE_BYTES];
  uint8_t shared[32], prk[32], key[32];
  uint8_t enc[32], kem_shared[32], exporter_secret[32], response_secret[64];
  uint8_t text[TEXT], body[2 * TEXT];
  bytes request, event;
  size_t request_len, event_len;
  int status;
} x;

static void seal_request(void) {
  x.status = ac_v1_request_seal(&x.opener, x.request.at, x.request.len, &x.request_len, x.node.public_key, x.text, TEXT,
                                (const uint8_t *)"\"m\"", 3, 1, 0, 0, 1);
}

static void open_request(void) {
  size_t len = 0;
  x.status = ac_v1_request_open(&x.sealer, x.body, sizeof x.body, &len, &x.node, &x.signing, &x.envelope);
}

static void seal_answer(void) {
  x.status = event_seal(&x.sealer, x.event.at, x.event.len, &x.event_len, x.text, TEXT, NULL, 0);
}

static void open_answer(void) {
  ac_v1_events events = {.out = x.body, .out_cap = sizeof x.body, .event_cap = 1};
  x.status = events_open(&x.opener, &events, (view){x.event.at, x.event_len});
}

static void derive_key(void) {
  x.status = ac_hkdf_sha256(x.body, 64, x.shared, sizeof x.shared, x.random + AC_X25519_BYTES, AC_V1_SALT_BYTES, NULL, 0);
}

static void schedule(void) {
  x.status = aci_v1_schedule(&x.aes, x.client.secret, x.node.public_key, x.random + AC_X25519_BYTES);
}

static void encapsulate(void) { x.status = aci_dhkem_encapsulate(x.body, x.enc, x.node.public_key, x.client.secret); }

static void decapsulate(void) { x.status = aci_dhkem_decapsulate(x.body, x.enc, &x.node); }

static void hpke_sender(void) {
  x.status = ac_hpke_setup_sender(&x.hpke, x.enc, x.node.public_key, x.text, 24, x.client.secret);
}

static void hpke_recipient(void) { x.status = ac_hpke_setup_recipient(&x.hpke, x.enc, &x.node, x.text, 24); }

static void hpke_export(void) { x.status = ac_hpke_export(&x.hpke, x.body, 64, x.text, 16); }

static void v2_request(void) {
  x.status = aci_v2_request_schedule(&x.aes, x.body, x.body + 12, AC_SUITE_X25519, x.kem_shared, x.text);
}

static void v2_response(void) {
  x.status = aci_v2_response_schedule(&x.aes, x.body, x.response_secret, x.enc, sizeof x.enc, x.text);
}

static void signing_key(void) {
  x.status = ac_signing_key_generate(&x.signing);
}

static void expand_key(void) { x.status = ac_aes256gcm_init(&x.aes, x.key, ac_aes_backend_default()); }

/* ---- the search ---- */

/* 0, which the compiler cannot know: clang takes an array apart of which it sees all indices. */
static const volatile size_t first = 0;

/* The end of a thread uses its stack again: what is to be searched lies out of its reach. */
static void *call(void *p) {
  volatile uint8_t gap[1 << 16];
  void (*const *function)(void) = p;
  gap[first] = 1;
  (*function)();
  return gap[first] ? NULL : p;
}

uint8_t *stack_after(void (*function)(void)) {
  pthread_attr_t attributes;
  pthread_t thread;
  uint8_t *const stack = aligned_alloc(4096, STACK);
  if (stack == NULL) abort();
  memset(stack, 0xee, STACK);
  CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, stack, STACK) == 0);
  CHECK(pthread_create(&thread, &attributes, call, &function) == 0 && pthread_join(thread, NULL) == 0);
  (void)pthread_attr_destroy(&attributes);
  return stack;
}

int stack_holds(const uint8_t *stack, const void *secret, size_t secret_len) {
  enum { RUN = 16 };
  const uint8_t *s = secret;
  for (size_t j = 0; j + RUN <= secret_len; j += 4) {
    if (memcmp(s + j, s + j + 1, RUN - 1) == 0) continue;
    uint64_t head, at;
    memcpy(&head, s + j, sizeof head);
    for (size_t i = 0; i + RUN <= STACK; i += 4) {
      memcpy(&at, stack + i, sizeof at);
      if (at == head && memcmp(stack + i, s + j, RUN) == 0) return 1;
    }
  }
  return 0;
}

static void leaves_nothing(void (*function)(void)) {
  uint8_t *const stack = stack_after(function);
  CHECK_STATUS(x.status, AC_OK);
  CHECK(!stack_holds(stack, x.shared, sizeof x.shared));
  CHECK(!stack_holds(stack, x.prk, sizeof x.prk));
  CHECK(!stack_holds(stack, x.key, sizeof x.key));
  CHECK(!stack_holds(stack, x.client.secret, sizeof x.client.secret));
  CHECK(!stack_holds(stack, x.node.secret, sizeof x.node.secret));
  CHECK(!stack_holds(stack, x.signing.secret, AC_SIGN_SEED_BYTES));
  CHECK(!stack_holds(stack, x.aes.words, sizeof x.aes.words));
  CHECK(!stack_holds(stack, x.hpke.aes.words, sizeof x.hpke.aes.words));
  CHECK(!stack_holds(stack, x.kem_shared, sizeof x.kem_shared));
  CHECK(!stack_holds(stack, x.exporter_secret, sizeof x.exporter_secret));
  CHECK(!stack_holds(stack, x.response_secret, sizeof x.response_secret));
  free(stack);
}

static void spill(void) {
  volatile uint8_t copy[32];
  for (size_t i = first; i < sizeof copy; i++) copy[i] = x.key[i];
}

static void search_works(void) {
  uint8_t *const stack = stack_after(spill);
  CHECK(stack_holds(stack, x.key, sizeof x.key));
  free(stack);
}

/* The secrets of HPKE and of protocol v2, which each call computes anew. */
static void search_hpke(void) {
  CHECK_STATUS(aci_dhkem_encapsulate(x.kem_shared, x.enc, x.node.public_key, x.client.secret), AC_OK);
  CHECK_STATUS(ac_hpke_setup_shared(&x.hpke, AC_SUITE_X25519, 1, x.kem_shared, x.text, 24), AC_OK);
  memcpy(x.exporter_secret, x.hpke.exporter_secret, sizeof x.exporter_secret);
  leaves_nothing(encapsulate);
  CHECK_EQUAL(x.body, x.kem_shared, sizeof x.kem_shared);
  leaves_nothing(decapsulate);
  CHECK_EQUAL(x.body, x.kem_shared, sizeof x.kem_shared);
  leaves_nothing(hpke_sender);
  CHECK_EQUAL(x.hpke.exporter_secret, x.exporter_secret, sizeof x.exporter_secret);
  leaves_nothing(hpke_recipient);
  CHECK_STATUS(ac_hpke_export(&x.hpke, x.response_secret, sizeof x.response_secret, x.text, 16), AC_OK);
  leaves_nothing(hpke_export);
  v2_request();
  memcpy(x.response_secret, x.body + 12, AC_HASH_BYTES);
  leaves_nothing(v2_request);
  leaves_nothing(v2_response);
}

void test_stack(void) {
  uint8_t salt[32] = {0};
  memset(&x, 0, sizeof x);
  for (size_t i = 0; i < sizeof x.random; i++) x.random[i] = (uint8_t)random_below(256);
  for (size_t i = 0; i < sizeof x.text; i++) x.text[i] = (uint8_t)random_below(256);
  memcpy(salt, x.random + AC_X25519_BYTES, AC_V1_SALT_BYTES);
  x.signing = some_signing_key();
  CHECK_STATUS(ac_secret_key_generate(&x.node), AC_OK);
  CHECK_STATUS(ac_secret_key_from_bytes(&x.client, x.random), AC_OK);
  CHECK_STATUS(ac_x25519(x.shared, x.client.secret, x.node.public_key), AC_OK);
  CHECK(crypto_auth_hmacsha256(x.prk, x.shared, sizeof x.shared, salt) == 0); /* HMAC fills its key up with zeros */
  CHECK_STATUS(ac_hkdf_sha256(x.key, sizeof x.key, x.shared, sizeof x.shared, salt, AC_V1_SALT_BYTES, NULL, 0),
               AC_OK);
  x.request = bytes_new(ac_v1_request_max_bytes(TEXT, 3));
  search_works();
  random_queue(x.random, AC_SIGN_SEED_BYTES);
  leaves_nothing(signing_key);
  CHECK_EQUAL(x.signing.secret, x.random, AC_SIGN_SEED_BYTES);
  leaves_nothing(expand_key);
  leaves_nothing(derive_key); /* what one call leaves may be gone when its caller is done: they are searched alone, too */
  CHECK_EQUAL(x.body, x.key, sizeof x.key);
  leaves_nothing(schedule);
  random_queue(x.random, sizeof x.random);
  leaves_nothing(seal_request);
  x.envelope = envelope_of((view){x.request.at, x.request_len});
  leaves_nothing(open_request);
  CHECK_EQUAL(&x.sealer.aes, &x.aes, sizeof x.aes); /* they are the keys that were searched for */
  x.event = bytes_new(ac_v1_event_bytes(&x.sealer, TEXT, 0));
  leaves_nothing(seal_answer);
  leaves_nothing(open_answer);
  bytes_free(&x.request);
  bytes_free(&x.event);
  search_hpke();
}
