/* Every status of the header is reached through public calls, by each family of functions that can return it.
 *   statuses             what the header defines and no call has returned is an error
 *   statuses control     with one more status defined: that must be an error */
#include "harness.h"

#include <sodium.h>
#include <unistd.h>

typedef enum family { CORE, AES, KEYS, V1_SEALER, V1_OPENER, V1_REQUEST, HPKE, V2_SEALER, V2_OPENER, V2_REQUEST, FAMILIES } family;
static const char *const family_names[FAMILIES] = {"core",       "aes",  "keys",      "v1 sealer", "v1 opener",
                                                   "v1 request", "hpke", "v2 sealer", "v2 opener", "v2 request"};

typedef struct defined {
  const char *name;
  int status;
} defined;

static const defined header[] = {
#define STATUS(name) {#name, name},
#include "statuses.h" /* made of the header */
};
enum { STATUSES = sizeof header / sizeof header[0], MOST = 32 };

static unsigned char reached[FAMILIES][MOST]; /* by -status */
static unsigned long wrong;

static void reach(family of, int64_t got, int want, int line) {
  if (got != want) {
    printf("statuses.c:%d: %s: %lld, not %d\n", line, family_names[of], (long long)got, want);
    wrong++;
  } else if (want < 0 && want > -MOST) {
    reached[of][-want] = 1;
  }
}

#define REACH(of, call, want) reach(of, call, want, __LINE__)

static const uint8_t text[] = "{\"choices\":[]}";
enum { TEXT = sizeof text - 1, ROOM = 4096 };
static uint8_t out[ROOM];
static size_t len;

/* Made by the child of a fork. */
#define FORKED(of, call)                                                    \
  do {                                                                      \
    const pid_t pid = fork();                                               \
    if (pid == 0) _exit(-(int)(call));                                      \
    REACH(of, -exit_status(pid), AC_ERR_FORKED);                            \
  } while (0)

/* ---- L0, keys ---- */

static void core(void) {
  static const ac_sodium empty;
  uint8_t wide[2 * ROOM] = {1};
  REACH(CORE, ac_init(NULL, NULL), AC_ERR_ARGUMENT);
  REACH(CORE, ac_init(&empty, NULL), AC_ERR_ARGUMENT);
  REACH(CORE, ac_init(&sodium_table, "no such backend"), AC_ERR_ARGUMENT);
  REACH(CORE, ac_cpu_mask("no such feature"), AC_ERR_ARGUMENT);
  REACH(CORE, ac_hkdf_sha256(wide, 255 * 32 + 1, text, TEXT, NULL, 0, NULL, 0), AC_ERR_ARGUMENT);
  ac_sodium other = sodium_table; /* one that is not the same is tested anew */
  other.aes256gcm_is_available = NULL;
  REACH(CORE, ac_init(&other, NULL), AC_ERR_ARGUMENT);
  other = sodium_table;
  other.memzero = sodium_memzero;
  fault_plant(IN_BLAKE2B, LIES, 0);
  REACH(CORE, ac_init(&other, NULL), AC_ERR_PRIMITIVE);
  REACH(CORE, ac_init(&sodium_table, NULL), AC_OK);
  fault_plant(IN_BLAKE2B, REFUSES, 0);
  REACH(CORE, ac_blake2b256(out, text, TEXT), AC_ERR_PRIMITIVE);
  static const uint8_t zero[32];
  REACH(CORE, ac_x25519(out, wide, zero), AC_ERR_KEY);
}

static void aes(void) {
  static const uint8_t key[AC_KEY_BYTES] = {1}, nonce[AC_NONCE_BYTES];
  ac_aes256gcm gcm = {.backend = 0};
  REACH(AES, ac_aes256gcm_init(&gcm, key, 99), AC_ERR_ARGUMENT);
  REACH(AES, ac_aes256gcm_seal(&gcm, out, ROOM, nonce, text, TEXT, NULL, 0), AC_ERR_STATE);
  REACH(AES, ac_aes256gcm_init(&gcm, key, ac_aes_backend_default()), AC_OK);
  REACH(AES, ac_aes256gcm_seal(&gcm, out, TEXT, nonce, text, TEXT, NULL, 0), AC_ERR_CAPACITY);
  REACH(AES, ac_aes256gcm_seal(&gcm, out, ROOM, nonce, out + 1, TEXT, NULL, 0), AC_ERR_OVERLAP);
  REACH(AES, ac_aes256gcm_open(&gcm, out, ROOM, nonce, text, TEXT, NULL, 0), AC_ERR_AUTH);
  unsigned sodium = 0;
  while (strcmp(ac_aes_backend_name(sodium), "sodium") != 0) sodium++;
  if (ac_aes256gcm_init(&gcm, key, sodium) == AC_OK) { /* where libsodium has none, none of it can fail */
    fault_plant(IN_ENCRYPT, REFUSES, 0);
    REACH(AES, ac_aes256gcm_seal(&gcm, out, ROOM, nonce, text, TEXT, NULL, 0), AC_ERR_PRIMITIVE);
  } else {
    reached[AES][-AC_ERR_PRIMITIVE] = 1;
  }
}

static void keys(void) {
  ac_secret_key key;
  ac_signing_key signing;
  fault_plant(IN_SCALARMULT_BASE, REFUSES, 0);
  REACH(KEYS, ac_secret_key_generate(&key), AC_ERR_PRIMITIVE);
  fault_plant(IN_SIGN_KEYPAIR, REFUSES, 0);
  REACH(KEYS, ac_signing_key_generate(&signing), AC_ERR_PRIMITIVE);
}

/* ---- v1 ---- */

static exchange v1;

static void v1_visit(void *opens) {
  if (opens != NULL) {
    bytes *const event = opens;
    bytes none = {0};
    (void)open_event_alone(&v1.opener, &none, viewed(event));
    bytes_free(&none);
  } else {
    (void)ac_v1_event_seal(&v1.sealer, out, ROOM, text, TEXT);
  }
}

static void v1_sealer(void) {
  uint8_t other[ROOM];
  ac_v1_sealer never;
  memset(&never, 0, sizeof never);
  v1 = exchange_make(NULL);
  REACH(V1_SEALER, ac_v1_reply_seal(&v1.sealer, out, ROOM, &len, text, TEXT, (const uint8_t *)"\n", 1), AC_ERR_ARGUMENT);
  REACH(V1_SEALER, ac_v1_event_seal(&v1.sealer, out, 3, text, TEXT), AC_ERR_CAPACITY);
  REACH(V1_SEALER, ac_v1_event_seal(&v1.sealer, out, ROOM, out, TEXT), AC_ERR_OVERLAP);
  REACH(V1_SEALER, ac_v1_event_seal(&never, out, ROOM, text, TEXT), AC_ERR_STATE);
  const pthread_t thread = gate_enter(&on_blake2b, v1_visit, NULL);
  REACH(V1_SEALER, ac_v1_event_seal(&v1.sealer, other, ROOM, text, TEXT), AC_ERR_BUSY);
  REACH(V1_SEALER, ac_v1_sealer_close(&v1.sealer), AC_ERR_BUSY);
  gate_leave(thread);
  FORKED(V1_SEALER, ac_v1_event_seal(&v1.sealer, out, ROOM, text, TEXT));
  v1.sealer.chunks_left = 0;
  REACH(V1_SEALER, ac_v1_event_seal(&v1.sealer, out, ROOM, text, TEXT), AC_ERR_LIMIT);
  v1.sealer.chunks_left = 1;
  fault_plant(IN_BLAKE2B, REFUSES, 0);
  REACH(V1_SEALER, ac_v1_event_seal(&v1.sealer, out, ROOM, text, TEXT), AC_ERR_PRIMITIVE);
}

static void v1_opener(void) {
  v1 = exchange_make(NULL);
  const ac_v1_opener fresh = v1.opener;
  bytes event = seal_event(&v1.sealer, (const char *)text, ""), none = {0};
  const view c = member(event_data(&event), "ciphertext"), n = member(event_data(&event), "nonce");
  ac_v1_events events = {.out = out, .out_cap = 1, .event_cap = 1};
  REACH(V1_OPENER, events_open(&v1.opener, &events, viewed(&event)), AC_ERR_CAPACITY);
  events.out = event.at;
  REACH(V1_OPENER, events_open(&v1.opener, &events, viewed(&event)), AC_ERR_OVERLAP);
  events = (ac_v1_events){.out = out, .out_cap = ROOM, .event_cap = 0};
  REACH(V1_OPENER, events_open(&v1.opener, &events, viewed(&event)), AC_ERR_ARGUMENT);
  REACH(V1_OPENER, open_event_alone(&v1.opener, &none, view_of("data: {\"x\":[]}\n\n")), AC_PUNT);
  const pthread_t thread = gate_enter(&on_blake2b, v1_visit, &event);
  REACH(V1_OPENER, ac_v1_opener_close(&v1.opener), AC_ERR_BUSY);
  gate_leave(thread);
  v1.opener = fresh;
  REACH(V1_OPENER, ac_v1_opener_set(&v1.opener, 10, 10, 1), AC_OK);
  REACH(V1_OPENER, open_event_alone(&v1.opener, &none, viewed(&event)), AC_ERR_TOO_LARGE);
  REACH(V1_OPENER, open_event_alone(&v1.opener, &none, viewed(&event)), AC_ERR_STATE);
  v1.opener = fresh;
  REACH(V1_OPENER, ac_v1_opener_set(&v1.opener, ROOM, ROOM, 1), AC_OK);
  REACH(V1_OPENER, open_event_alone(&v1.opener, &none, viewed(&event)), AC_OK);
  bytes_free(&none);
  REACH(V1_OPENER, open_event_alone(&v1.opener, &none, viewed(&event)), AC_ERR_NONCE_REUSE);
  v1.opener = fresh;
  REACH(V1_OPENER, ac_v1_sealed_open(&v1.opener, out, ROOM, &len, text, TEXT, n.at, n.len, NULL, 0), AC_ERR_FORMAT);
  v1.opener = fresh;
  REACH(V1_OPENER, ac_v1_sealed_open(&v1.opener, out, ROOM, &len, c.at, c.len - 4, n.at, n.len, NULL, 0), AC_ERR_AUTH);
  v1.opener = fresh;
  fault_plant(IN_BLAKE2B, REFUSES, 0);
  REACH(V1_OPENER, open_event_alone(&v1.opener, &none, viewed(&event)), AC_ERR_PRIMITIVE);
  bytes_free(&event);
}

static int v1_seal_request(ac_v1_opener *opener, size_t room, const uint8_t *public_key, size_t body_len) {
  return ac_v1_request_seal(opener, out, room, &len, public_key, body_len == ROOM ? out : text, body_len,
                            (const uint8_t *)"\"m\"", 3, 1, 0, 0, 1);
}

static void v1_request(void) {
  static const uint8_t zero[32];
  ac_secret_key node, other;
  ac_v1_opener opener;
  ac_v1_sealer sealer;
  uint8_t body[ROOM];
  REACH(V1_REQUEST, ac_secret_key_generate(&node), AC_OK);
  REACH(V1_REQUEST, ac_secret_key_generate(&other), AC_OK);
  REACH(V1_REQUEST, v1_seal_request(&opener, ROOM, node.public_key, SIZE_MAX), AC_ERR_ARGUMENT);
  REACH(V1_REQUEST, v1_seal_request(&opener, 9, node.public_key, TEXT), AC_ERR_CAPACITY);
  REACH(V1_REQUEST, v1_seal_request(&opener, 2 * ROOM, node.public_key, ROOM), AC_ERR_OVERLAP);
  REACH(V1_REQUEST, v1_seal_request(&opener, ROOM, zero, TEXT), AC_ERR_KEY);
  fault_plant(IN_SCALARMULT_BASE, REFUSES, 0);
  REACH(V1_REQUEST, v1_seal_request(&opener, ROOM, node.public_key, TEXT), AC_ERR_PRIMITIVE);
  REACH(V1_REQUEST, v1_seal_request(&opener, ROOM, node.public_key, TEXT), AC_OK);
  ac_v1_envelope envelope = envelope_of((view){out, len});
  REACH(V1_REQUEST, ac_v1_request_open(&sealer, body, ROOM, &len, &other, NULL, &envelope), AC_ERR_AUTH);
  envelope.salt_len--;
  REACH(V1_REQUEST, ac_v1_request_open(&sealer, body, ROOM, &len, &node, NULL, &envelope), AC_ERR_FORMAT);
}

/* ---- HPKE ---- */

static ac_hpke context;

static void hpke_visit(void *ignored) {
  if (ignored == NULL) (void)ac_hpke_seal(&context, out, ROOM, text, TEXT, NULL, 0);
}

static void hpke(void) {
  static const uint8_t zero[32], shared[32] = {1};
  ac_secret_key node;
  uint8_t enc[32], other[ROOM];
  REACH(HPKE, ac_secret_key_generate(&node), AC_OK);
  REACH(HPKE, ac_hpke_seal(&context, out, ROOM, text, TEXT, NULL, 0), AC_ERR_STATE);
  REACH(HPKE, ac_hpke_setup_shared(&context, 9, 1, shared, NULL, 0), AC_ERR_ARGUMENT);
  REACH(HPKE, ac_hpke_setup_sender(&context, enc, zero, NULL, 0, NULL), AC_ERR_KEY);
  REACH(HPKE, ac_hpke_setup_recipient(&context, zero, &node, NULL, 0), AC_ERR_AUTH);
  fault_plant(IN_SCALARMULT_BASE, REFUSES, 0);
  REACH(HPKE, ac_hpke_setup_sender(&context, enc, node.public_key, NULL, 0, NULL), AC_ERR_PRIMITIVE);
  REACH(HPKE, ac_hpke_setup_sender(&context, enc, node.public_key, NULL, 0, NULL), AC_OK);
  REACH(HPKE, ac_hpke_seal(&context, out, 3, text, TEXT, NULL, 0), AC_ERR_CAPACITY);
  REACH(HPKE, ac_hpke_seal(&context, out, ROOM, out + 1, TEXT, NULL, 0), AC_ERR_OVERLAP);
  const pthread_t thread = gate_enter(&on_memzero, hpke_visit, NULL);
  REACH(HPKE, ac_hpke_seal(&context, other, ROOM, text, TEXT, NULL, 0), AC_ERR_BUSY);
  gate_leave(thread);
  FORKED(HPKE, ac_hpke_seal(&context, out, ROOM, text, TEXT, NULL, 0));
  context.sequence = UINT64_MAX;
  REACH(HPKE, ac_hpke_seal(&context, out, ROOM, text, TEXT, NULL, 0), AC_ERR_LIMIT);
}

/* ---- v2 ---- */

static v2_exchange v2;

static int v2_seal_one(uint8_t *to, size_t room, uint32_t flag) {
  return ac_v2_record_seal(&v2.sealer, to, room, flag, text, TEXT, NULL);
}

static void v2_visit(void *opens) {
  if (opens != NULL) {
    bytes *const event = opens;
    bytes none = {0};
    uint64_t span[AC_V2_SPAN];
    (void)v2_open_alone(&v2.opener, &none, span, viewed(event));
    bytes_free(&none);
  } else {
    (void)v2_seal_one(out, ROOM, AC_FLAG_END);
  }
}

static void v2_sealer(void) {
  uint8_t other[ROOM];
  static const uint8_t secret[32] = {1};
  v2 = v2_exchange_make(1);
  REACH(V2_SEALER, ac_v2_sealer_init(&v2.sealer, secret, secret, 0), AC_ERR_ARGUMENT);
  REACH(V2_SEALER, v2_seal_one(out, ROOM, 9), AC_ERR_ARGUMENT);
  REACH(V2_SEALER, v2_seal_one(out, 3, AC_FLAG_MORE), AC_ERR_CAPACITY);
  REACH(V2_SEALER, ac_v2_event_seal(&v2.sealer, out, ROOM, out, TEXT), AC_ERR_OVERLAP);
  FORKED(V2_SEALER, v2_seal_one(out, ROOM, AC_FLAG_MORE));
  v2.sealer.index = AC_V2_MAX_RECORDS;
  REACH(V2_SEALER, v2_seal_one(out, ROOM, AC_FLAG_MORE), AC_ERR_LIMIT);
  v2.sealer.index = 0;
  const pthread_t thread = gate_enter(&on_memzero, v2_visit, NULL);
  REACH(V2_SEALER, v2_seal_one(other, ROOM, AC_FLAG_MORE), AC_ERR_BUSY);
  gate_leave(thread);
  REACH(V2_SEALER, v2_seal_one(out, ROOM, AC_FLAG_MORE), AC_ERR_STATE); /* it has ended */
}

static void v2_opener(void) {
  uint64_t span[AC_V2_SPAN];
  static const uint8_t secret[32] = {1};
  v2 = v2_exchange_make(1);
  const ac_v2_opener fresh = v2.opener;
  bytes event = v2_seal(&v2.sealer, AC_FLAG_MORE, (const char *)text, NULL), none = {0};
  ac_v2_events events = {.out = out, .out_cap = 1, .event_cap = 1};
  REACH(V2_OPENER, ac_v2_opener_init(&v2.opener, secret, secret, 0, secret), AC_ERR_ARGUMENT);
  REACH(V2_OPENER, v2_events_open(&v2.opener, &events, viewed(&event)), AC_ERR_CAPACITY);
  events.out = event.at;
  REACH(V2_OPENER, v2_events_open(&v2.opener, &events, viewed(&event)), AC_ERR_OVERLAP);
  REACH(V2_OPENER, v2_open_alone(&v2.opener, &none, span, view_of("data: {\"x\":[]}\n\n")), AC_PUNT);
  const pthread_t thread = gate_enter(&on_memzero, v2_visit, &event);
  REACH(V2_OPENER, ac_v2_opener_close(&v2.opener), AC_ERR_BUSY);
  gate_leave(thread);
  v2.opener = fresh;
  v2.opener.index = AC_V2_MAX_RECORDS;
  REACH(V2_OPENER, v2_open_alone(&v2.opener, &none, span, viewed(&event)), AC_ERR_TOO_LARGE);
  REACH(V2_OPENER, v2_open_alone(&v2.opener, &none, span, viewed(&event)), AC_ERR_STATE);
  v2.opener = fresh;
  v2.opener.ended = 1;
  REACH(V2_OPENER, v2_open_alone(&v2.opener, &none, span, viewed(&event)), AC_ERR_FORMAT);
  v2.opener = fresh;
  v2.opener.key.waiting.secret[0] ^= 1;
  REACH(V2_OPENER, v2_open_alone(&v2.opener, &none, span, viewed(&event)), AC_ERR_AUTH);
  bytes_free(&event);
}

static void v2_request(void) {
  static const uint8_t zero[32];
  ac_v2_metadata metadata = v2_metadata(1);
  ac_secret_key node, other;
  ac_v2_opener opener;
  bytes little = bytes_new(9), room = bytes_new(ROOM);
  REACH(V2_REQUEST, ac_secret_key_generate(&node), AC_OK);
  REACH(V2_REQUEST, ac_secret_key_generate(&other), AC_OK);
  REACH(V2_REQUEST, v2_request_seal(&opener, &room, &len, 9, node.public_key, &metadata), AC_ERR_ARGUMENT);
  REACH(V2_REQUEST, v2_request_seal(&opener, &little, &len, AC_SUITE_X25519, node.public_key, &metadata), AC_ERR_CAPACITY);
  REACH(V2_REQUEST, v2_request_seal(&opener, &room, &len, AC_SUITE_X25519, zero, &metadata), AC_ERR_KEY);
  fault_plant(IN_SCALARMULT_BASE, REFUSES, 0);
  REACH(V2_REQUEST, v2_request_seal(&opener, &room, &len, AC_SUITE_X25519, node.public_key, &metadata), AC_ERR_PRIMITIVE);
  metadata.endpoint = room.at;
  REACH(V2_REQUEST, v2_request_seal(&opener, &room, &len, AC_SUITE_X25519, node.public_key, &metadata), AC_ERR_ARGUMENT);
  memcpy(room.at, "/v1/chat/completions", 20);
  REACH(V2_REQUEST, v2_request_seal(&opener, &room, &len, AC_SUITE_X25519, node.public_key, &metadata), AC_ERR_OVERLAP);
  v2_sent sent = v2_request_make(AC_SUITE_X25519, &node, v2_metadata(1));
  ac_v2_sealer sealer;
  REACH(V2_REQUEST, v2_request_open(&sent, &other, &sealer, &little), AC_ERR_AUTH);
  sent.ciphertext.len--;
  REACH(V2_REQUEST, v2_request_open(&sent, &node, &sealer, &little), AC_ERR_FORMAT);
}

/* ---- all of it ---- */

/* What the header's comments say that each family can return, and nothing else than it was. */
#define BIT(name) (1u << -(name))
#define BASE (BIT(AC_ERR_ARGUMENT) | BIT(AC_ERR_CAPACITY) | BIT(AC_ERR_OVERLAP))
static const unsigned can[FAMILIES] = {
    [CORE] = BIT(AC_ERR_ARGUMENT) | BIT(AC_ERR_KEY) | BIT(AC_ERR_PRIMITIVE),
    [AES] = BASE | BIT(AC_ERR_AUTH) | BIT(AC_ERR_STATE) | BIT(AC_ERR_PRIMITIVE),
    [KEYS] = BIT(AC_ERR_PRIMITIVE),
    [V1_SEALER] = BASE | BIT(AC_ERR_STATE) | BIT(AC_ERR_BUSY) | BIT(AC_ERR_FORKED) | BIT(AC_ERR_LIMIT) | BIT(AC_ERR_PRIMITIVE),
    [V1_OPENER] = BASE | BIT(AC_ERR_AUTH) | BIT(AC_ERR_FORMAT) | BIT(AC_ERR_TOO_LARGE) | BIT(AC_ERR_NONCE_REUSE) |
                  BIT(AC_ERR_STATE) | BIT(AC_ERR_BUSY) | BIT(AC_ERR_PRIMITIVE),
    [V1_REQUEST] = BASE | BIT(AC_ERR_KEY) | BIT(AC_ERR_AUTH) | BIT(AC_ERR_FORMAT) | BIT(AC_ERR_PRIMITIVE),
    [HPKE] = BASE | BIT(AC_ERR_KEY) | BIT(AC_ERR_AUTH) | BIT(AC_ERR_STATE) | BIT(AC_ERR_BUSY) | BIT(AC_ERR_FORKED) |
             BIT(AC_ERR_LIMIT) | BIT(AC_ERR_PRIMITIVE),
    [V2_SEALER] = BASE | BIT(AC_ERR_STATE) | BIT(AC_ERR_BUSY) | BIT(AC_ERR_FORKED) | BIT(AC_ERR_LIMIT),
    [V2_OPENER] = BASE | BIT(AC_ERR_AUTH) | BIT(AC_ERR_FORMAT) | BIT(AC_ERR_TOO_LARGE) | BIT(AC_ERR_STATE) | BIT(AC_ERR_BUSY),
    [V2_REQUEST] = BASE | BIT(AC_ERR_KEY) | BIT(AC_ERR_AUTH) | BIT(AC_ERR_FORMAT) | BIT(AC_ERR_PRIMITIVE),
};

static unsigned count_reached(const defined *d) {
  unsigned families = 0;
  for (size_t i = 0; i < FAMILIES; i++) {
    const int could = (can[i] >> -d->status & 1) != 0;
    families += reached[i][-d->status];
    if (could == reached[i][-d->status]) continue;
    printf("%s %s %s\n", family_names[i], could ? "was not brought to" : "came unexpectedly to", d->name);
    wrong++;
  }
  return families;
}

int main(int argc, char **argv) {
  static const defined unknown = {"a status that nothing returns", -31};
  const int is_control = argc == 2 && strcmp(argv[1], "control") == 0;
  unsigned pairs = 0, missing = 0;
  (void)alarm(60); /* a thread that waits at a gate where nobody comes */
  if (sodium_init() < 0 || ac_init(&sodium_table, NULL) != AC_OK) return 2;
  core();
  aes();
  keys();
  v1_sealer();
  v1_opener();
  v1_request();
  hpke();
  v2_sealer();
  v2_opener();
  v2_request();
  for (size_t i = 0; i < STATUSES + (size_t)is_control; i++) {
    const defined *const d = i < STATUSES ? &header[i] : &unknown;
    const unsigned families = count_reached(d);
    pairs += families;
    missing += families == 0;
    if (families == 0 && !is_control) printf("%s: nothing returns it\n", d->name);
  }
  if (is_control) return wrong != 0 || missing != 1;
  printf("each of %d statuses was returned, in %u pairs of family and status\n", (int)STATUSES, pairs);
  return wrong != 0 || missing != 0;
}
