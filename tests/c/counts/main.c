/* counts BACKEND: fixed operations, each counted by itself. To be run under `valgrind --tool=callgrind
 * --collect-atstart=no`, which writes one profile for each and names it. Without a BACKEND: tells what the counts
 * depend on, apart from the code.
 *
 * What libsodium computes is not counted (X25519, BLAKE2b, random bytes), what it wipes and compares is, and so is what
 * the core calls of the C library. SHA-256 is the portable one: valgrind does not know the instructions for it. Nothing
 * is random: the same code gives the same counts. A string
 * instruction, by which long stretches are wiped, counts once for each byte. */
#include "ac_internal.h"

#include "../table.h"

#include <gnu/libc-version.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <valgrind/callgrind.h>

#define MUST(condition) must((condition) != 0, __LINE__, #condition)

static void must(int condition, int line, const char *what) {
  if (condition) return;
  fprintf(stderr, "%s:%d: %s\n", __FILE__, line, what);
  exit(1);
}

/* ---- libsodium, not counted ---- */

static int counting;

static void pause_counting(void) {
  if (counting) CALLGRIND_TOGGLE_COLLECT;
}

#define UNCOUNTED(call)         \
  pause_counting();             \
  const int status = (call);    \
  pause_counting();             \
  return status

static int scalarmult(unsigned char *q, unsigned char *n, unsigned char *p) { UNCOUNTED(crypto_scalarmult(q, n, p)); }

static int scalarmult_base(unsigned char *q, unsigned char *n) { UNCOUNTED(crypto_scalarmult_base(q, n)); }

static int sha256(unsigned char *out, unsigned char *in, unsigned long long in_len) {
  UNCOUNTED(crypto_hash_sha256(out, in, in_len));
}

static int blake2b(unsigned char *out, size_t out_len, unsigned char *in, unsigned long long in_len,
                   unsigned char *key, size_t key_len, unsigned char *salt, unsigned char *personal) {
  UNCOUNTED(crypto_generichash_blake2b_salt_personal(out, out_len, in, in_len, key, key_len, salt, personal));
}

static int sign(unsigned char *sm, unsigned long long *sm_len, unsigned char *m, unsigned long long m_len,
                unsigned char *sk) {
  UNCOUNTED(crypto_sign(sm, sm_len, m, m_len, sk));
}

static int sign_seed_keypair(unsigned char *pk, unsigned char *sk, unsigned char *seed) {
  UNCOUNTED(crypto_sign_seed_keypair(pk, sk, seed));
}

static void fill(uint8_t *p, size_t len) {
  static uint32_t state = 1;
  for (size_t i = 0; i < len; i++) {
    state = state * 1664525 + 1013904223;
    p[i] = (uint8_t)(state >> 24);
  }
}

static void random_bytes(unsigned char *out, unsigned long long out_len) {
  pause_counting();
  fill(out, (size_t)out_len);
  pause_counting();
}

static void mem_zero(void *p, size_t len) { sodium_memzero(p, len); }

static int aes_encrypt(unsigned char *c, unsigned long long *c_len, unsigned char *m, unsigned long long m_len,
                       unsigned char *ad, unsigned long long ad_len, unsigned char *nsec, unsigned char *npub,
                       unsigned char *k) {
  UNCOUNTED(crypto_aead_aes256gcm_encrypt(c, c_len, m, m_len, ad, ad_len, nsec, npub, k));
}

static int aes_decrypt(unsigned char *m, unsigned long long *m_len, unsigned char *nsec, unsigned char *c,
                       unsigned long long c_len, unsigned char *ad, unsigned long long ad_len, unsigned char *npub,
                       unsigned char *k) {
  UNCOUNTED(crypto_aead_aes256gcm_decrypt(m, m_len, nsec, c, c_len, ad, ad_len, npub, k));
}

static const ac_sodium table = TABLE;

/* ---- operations: each finds what it needs in `x` ---- */

enum {
  MOST = 65536,
  EVENTS = 32,
  TEXT = 300,
  EVENT_ROOM = 4 * TEXT,
  BINARY = 300,
  BASE64 = 400,
  COMMENT = 500,
  COMMENTS = 32 * COMMENT
};

static struct {
  uint8_t key[AC_KEY_BYTES], nonce[AC_NONCE_BYTES];
  uint8_t digest[AC_HASH_BYTES], enc[AC_X25519_BYTES];
  ac_aes256gcm aes;
  ac_hpke hpke;
  ac_secret_key node;
  ac_v1_opener opener;
  ac_v1_sealer sealer;
  ac_v1_envelope envelope;
  size_t lens[EVENTS], len, events_len;
  ac_v1_events found;
  ac_v2_opener v2_opener;
  ac_v2_sealer v2_sealer;
  ac_v2_events v2_found;
  uint8_t text[MOST], sealed[MOST + AC_TAG_BYTES], out[MOST + AC_TAG_BYTES];
  uint8_t request[EVENT_ROOM], body[EVENT_ROOM], base64[BASE64], binary[BASE64];
  uint8_t events[EVENTS * EVENT_ROOM];
} x;

static int expand_key(size_t n) {
  (void)n;
  return ac_aes256gcm_init(&x.aes, x.key, ac_aes_backend_default());
}

static int seal(size_t len) {
  return ac_aes256gcm_seal(&x.aes, x.sealed, sizeof x.sealed, x.nonce, x.text, len, NULL, 0);
}

static int open(size_t len) {
  return ac_aes256gcm_open(&x.aes, x.out, sizeof x.out, x.nonce, x.sealed, len + AC_TAG_BYTES, NULL, 0);
}

static int digest(size_t len) {
  ac_sha256(x.digest, x.text, len);
  return AC_OK;
}

static int set_up_sender(size_t info_len) {
  return ac_hpke_setup_sender(&x.hpke, x.enc, x.node.public_key, x.text, info_len, NULL);
}

static int set_up_recipient(size_t info_len) {
  return ac_hpke_setup_recipient(&x.hpke, x.enc, &x.node, x.text, info_len);
}

static int export(size_t len) { return ac_hpke_export(&x.hpke, x.out, len, x.text, 16); }

static int schedule_request(size_t len) {
  (void)len;
  return aci_v2_request_schedule(&x.aes, x.nonce, x.digest, AC_SUITE_X25519, x.key, x.text);
}

static int schedule_response(size_t enc_len) {
  return aci_v2_response_schedule(&x.aes, x.nonce, x.key, x.text, enc_len, x.text);
}

static int seal_request(size_t len) {
  return ac_v1_request_seal(&x.opener, x.request, sizeof x.request, &x.len, x.node.public_key, x.text, len,
                            (const uint8_t *)"\"m\"", 3, 42, 7, 1, 1);
}

static int open_request(size_t len) {
  (void)len;
  return ac_v1_request_open(&x.sealer, x.body, sizeof x.body, &x.len, &x.node, NULL, &x.envelope);
}

static int seal_events(size_t count) {
  return ac_v1_events_seal(&x.sealer, x.events, sizeof x.events, &x.events_len, x.text, count * TEXT, x.lens, count,
                           NULL, 0);
}

static int open_some(size_t most, const uint8_t *in, size_t in_len) {
  x.found.opener = &x.opener;
  x.found.out = x.out;
  x.found.out_cap = sizeof x.out;
  x.found.event_cap = most;
  const int64_t status = ac_v1_events_open(&x.found, in, in_len);
  return status >= AC_ONE ? AC_OK : (int)status;
}

static int open_events(size_t count) { return open_some(count, x.events, x.events_len); }

static ac_v2_metadata metadata(void) {
  return (ac_v2_metadata){.endpoint = (const uint8_t *)"/v1/chat/completions",
                          .endpoint_len = 20,
                          .model = (const uint8_t *)"m",
                          .model_len = 1,
                          .stack_small_id = 42,
                          .num_compute_units = 7,
                          .sent_at = 1763808745,
                          .has_stack_small_id = 1,
                          .has_num_compute_units = 1,
                          .stream = 1};
}

static int seal_v2_request(size_t len) {
  const ac_v2_metadata m = metadata();
  return ac_v2_request_seal(&x.v2_opener, x.request, sizeof x.request, &x.len, AC_SUITE_X25519, x.key, x.node.public_key,
                            NULL, NULL, 0, &m, (const uint8_t *)"\"m\"", 3, x.text, len);
}

static int open_v2_request(size_t len) {
  const ac_v2_metadata m = metadata();
  (void)len;
  return ac_v2_request_open(&x.v2_sealer, x.body, sizeof x.body, &x.len, AC_SUITE_X25519, x.key, &x.node, NULL, x.enc,
                            sizeof x.enc, x.envelope.ciphertext, x.envelope.ciphertext_len, &m);
}

static int seal_v2_events(size_t count) {
  return ac_v2_events_seal(&x.v2_sealer, x.events, sizeof x.events, &x.events_len, x.text, count * TEXT, x.lens, count,
                           AC_FLAG_MORE, NULL);
}

static int open_v2_events(size_t count) {
  x.v2_found.opener = &x.v2_opener;
  x.v2_found.out = x.out;
  x.v2_found.out_cap = sizeof x.out;
  x.v2_found.event_cap = count;
  const int64_t status = ac_v2_events_open(&x.v2_found, x.events, x.events_len);
  return status >= AC_ONE ? AC_OK : (int)status;
}

/* The reader alone: lines that are passed over. */
static int read_comments(size_t len) {
  return open_some(EVENTS, x.text, len);
}

static int encode(size_t len) {
  aci_base64_encode(x.base64, x.text, len);
  return AC_OK;
}

static int decode(size_t len) { return aci_base64_decode(x.binary, &x.len, x.base64, len); }

/* ---- */

static void count(const char *name, int (*operation)(size_t), size_t argument) {
  counting = 1;
  CALLGRIND_TOGGLE_COLLECT;
  const int status = operation(argument);
  CALLGRIND_TOGGLE_COLLECT;
  counting = 0;
  MUST(status == AC_OK);
  CALLGRIND_DUMP_STATS_AT(name);
}

/* The bytes between the quotes of member `name`, which is there. */
static const uint8_t *member(size_t *len, const char *name) {
  const char *const at = strstr((const char *)x.request, name);
  MUST(at != NULL);
  const char *const begin = at + strlen(name) + 3; /* ":" */
  *len = strcspn(begin, "\"");
  return (const uint8_t *)begin;
}

static void read_envelope(void) {
  ac_v1_envelope *const e = &x.envelope;
  x.request[x.len] = 0;
  e->ciphertext = member(&e->ciphertext_len, "ciphertext");
  e->nonce = member(&e->nonce_len, "nonce");
  e->salt = member(&e->salt_len, "salt");
  e->client_public = member(&e->client_public_len, "client_dh_public_key");
  e->node_public = member(&e->node_public_len, "node_dh_public_key");
  e->body_hash = member(&e->body_hash_len, "plaintext_body_hash");
}

static void count_v2(void) {
  count("seal a v2 request of 300 B", seal_v2_request, TEXT);
  size_t text_len;
  x.request[x.len] = 0;
  const uint8_t *const text = member(&text_len, "enc");
  MUST(aci_base64_decode_exact(x.enc, sizeof x.enc, text, text_len) == AC_OK);
  x.envelope.ciphertext = member(&x.envelope.ciphertext_len, "ciphertext");
  count("open a v2 request of 300 B", open_v2_request, TEXT);
  MUST(x.len == TEXT && memcmp(x.body, x.text, TEXT) == 0);
  MUST(seal_v2_events(1) == AC_OK);
  count("open the first v2 event of 300 B", open_v2_events, 1); /* which makes the key */
  count("seal a v2 event of 300 B", seal_v2_events, 1);
  count("open a v2 event of 300 B", open_v2_events, 1);
  count("seal 32 v2 events of 300 B", seal_v2_events, EVENTS);
  count("open 32 v2 events of 300 B", open_v2_events, EVENTS);
  MUST(x.v2_found.count == EVENTS && memcmp(x.out, x.text, EVENTS * TEXT) == 0);
}

static void count_all(void) {
  fill(x.key, sizeof x.key);
  fill(x.nonce, sizeof x.nonce);
  memset(x.text, 'x', sizeof x.text);
  for (size_t i = 0; i < EVENTS; i++) x.lens[i] = TEXT;

  count("expand a key", expand_key, 0);
  count("seal 16 B", seal, 16);
  count("open 16 B", open, 16);
  count("seal 300 B", seal, 300);
  count("open 300 B", open, 300);
  count("seal 1 KiB", seal, 1024);
  count("open 1 KiB", open, 1024);
  count("seal 64 KiB", seal, MOST);
  count("open 64 KiB", open, MOST);
  MUST(memcmp(x.out, x.text, MOST) == 0);

  MUST(ac_secret_key_generate(&x.node) == AC_OK);
  count("SHA-256 of 32 B", digest, 32);
  count("SHA-256 of 1 KiB", digest, 1024);
  count("set up HPKE's sender", set_up_sender, 24);
  count("set up HPKE's recipient", set_up_recipient, 24);
  count("export 32 B", export, AC_HASH_BYTES);
  count("schedule a v2 request", schedule_request, 0);
  count("schedule a v2 answer, X25519", schedule_response, AC_X25519_BYTES);
  count("schedule a v2 answer, X-Wing", schedule_response, AC_V2_MAX_ENC_BYTES);

  count("seal a request of 300 B", seal_request, TEXT);
  read_envelope();
  count("open a request of 300 B", open_request, TEXT);
  MUST(x.len == TEXT && memcmp(x.body, x.text, TEXT) == 0);
  count("seal an event of 300 B", seal_events, 1);
  count("open an event of 300 B", open_events, 1);
  count("seal 32 events of 300 B", seal_events, EVENTS);
  count("open 32 events of 300 B", open_events, EVENTS);
  MUST(x.found.count == EVENTS && memcmp(x.out, x.text, EVENTS * TEXT) == 0);

  count_v2();

  for (size_t i = 0; i < COMMENTS; i += COMMENT) memcpy(x.text + i + COMMENT - 3, "\n\n:", 3);
  x.text[0] = ':';
  count("read 32 comments of 500 B", read_comments, COMMENTS);
  MUST(x.found.count == 0 && x.found.consumed >= COMMENTS - COMMENT);

  count("encode base64 of 400 B", encode, BINARY);
  count("decode base64 of 400 B", decode, BASE64);
  MUST(x.len == BINARY && memcmp(x.binary, x.text, BINARY) == 0);
}

/* A build for any CPU, or for what this one can do. */
static int choose(const char *backend) {
  char all[200] = "";
  if (strcmp(backend, "portable") == 0) {
    for (unsigned i = 0; ac_cpu_feature_name(i) != NULL; i++)
      strcat(strcat(all, i != 0 ? "," : ""), ac_cpu_feature_name(i));
  }
  MUST(ac_cpu_mask(all) == AC_OK);
  return ac_init(&table, backend);
}

int main(int arguments, char **argument) {
  if (arguments < 2) {
    /* The C library chooses its memcpy as the CPU is. */
    printf("gcc %s, glibc %s, %s\n", __VERSION__, gnu_get_libc_version(),
           __builtin_cpu_supports("avx2") ? "AVX2" : "no AVX2");
    return 0;
  }
  MUST(sodium_init() >= 0);
  MUST(choose(argument[1]) == AC_OK);
  count_all();
  return 0;
}
