/* ct                   names the backends and the faults
 * ct BACKEND           does everything that the core does with a secret
 * ct BACKEND FAULT     commits one fault: whoever watches must end the program
 * Status: 0 if all was done, 3 if no one watches, 4 if the CPU, or what watches, does not have the backend. */
#include "ct.h"

#include <sodium.h>
#include <stdio.h>

/* ---- planted faults: each takes what the backend has computed from a secret ---- */

static volatile uint8_t sink;
static const uint8_t table[256] = {1, 2, 3};

/* An S-box that is looked up. */
static void address_from_key(unsigned backend) {
  uint8_t key[AC_KEY_BYTES] = {0};
  secret(key, sizeof key);
  (void)backend;
  sink = table[key[7]];
}

static void address_from_expanded_key(unsigned backend) {
  uint8_t key[AC_KEY_BYTES] = {0};
  ac_aes256gcm aes;
  secret(key, sizeof key);
  MUST(ac_aes256gcm_init(&aes, key, backend) == AC_OK);
  sink = table[aes.words[20] & 255];
}

/* A parser that looks at the text before anyone has asked for it. */
static void branch_on_plaintext(unsigned backend) {
  static uint8_t text[300] = "[", event[1000], opened[1000];
  session_pair pair = session_start(16, NULL);
  size_t opened_len = 0, consumed = 0;
  (void)backend;
  secret(text, sizeof text);
  const int64_t event_len = ac_v1_event_seal(&pair.sealer, event, sizeof event, text, sizeof text);
  MUST(event_len > 0);
  MUST(session_open(&pair.opener, opened, sizeof opened, &opened_len, &consumed, event, (size_t)event_len) == AC_OK);
  if (opened[0] == '[') sink = 1;
}

/* A comparison that ends at the first byte that differs: of a tag that no one has declared public, ... */
static int early_exit(const void *a, const void *b, size_t len) {
  const volatile uint8_t *x = a, *y = b; /* or a compiler might compare all of it at once, which is no fault */
  for (size_t i = 0; i < len; i++) {
    if (x[i] != y[i]) return -1;
  }
  return 0;
}

static void early_exit_of_tag(unsigned backend) {
  static const uint8_t nonce[AC_NONCE_BYTES];
  uint8_t key[AC_KEY_BYTES] = {0}, text[20] = {0}, sealed[sizeof text + AC_TAG_BYTES], claimed[AC_TAG_BYTES] = {0};
  ac_aes256gcm aes;
  declassify_nothing();
  secret(key, sizeof key);
  MUST(ac_aes256gcm_init(&aes, key, backend) == AC_OK);
  MUST(ac_aes256gcm_seal(&aes, sealed, sizeof sealed, nonce, text, sizeof text, NULL, 0) == AC_OK);
  sink = (uint8_t)early_exit(sealed + sizeof text, claimed, sizeof claimed);
}

/* ... and of a plaintext's hash. */
static void early_exit_of_hash(unsigned backend) {
  uint8_t text[300] = {0}, hash[AC_HASH_BYTES], claimed[AC_HASH_BYTES] = {0};
  (void)backend;
  secret(text, sizeof text);
  MUST(ac_blake2b256(hash, text, sizeof text) == AC_OK);
  sink = (uint8_t)early_exit(hash, claimed, sizeof claimed);
}

/* What SHA-256 makes of a secret is one. */
static void address_from_digest(unsigned backend) {
  uint8_t text[100] = {0}, digest[AC_HASH_BYTES];
  (void)backend;
  secret(text, sizeof text);
  ac_sha256(digest, text, sizeof text);
  sink = table[digest[31]];
}

static const struct {
  const char *name;
  void (*commit)(unsigned backend);
} faults[] = {{"address-from-key", address_from_key},
              {"address-from-expanded-key", address_from_expanded_key},
              {"branch-on-plaintext", branch_on_plaintext},
              {"early-exit-of-tag", early_exit_of_tag},
              {"early-exit-of-hash", early_exit_of_hash},
              {"address-from-digest", address_from_digest}};

/* ---- */

enum { BAD_USE = 3, NO_BACKEND = 4 };

/* libsodium's own AES-GCM is not ours to check. */
static void list(void) {
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL; i++) {
    if (strcmp(ac_aes_backend_name(i), "sodium") != 0) printf("backend %s\n", ac_aes_backend_name(i));
  }
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) printf("fault %s\n", faults[i].name);
}

int main(int count, char **arguments) {
  if (count < 2) {
    list();
    return 0;
  }
  if (sodium_init() < 0 || !watched()) {
    fprintf(stderr, "no one watches: run it under valgrind, or build it with MemorySanitizer\n");
    return BAD_USE;
  }
  if (ac_init(&ct_sodium, arguments[1]) != AC_OK) return NO_BACKEND;
  const unsigned backend = ac_aes_backend_default();
  if (count == 2) {
    operate_gcm(backend);
    operate_keys();
    operate_sessions();
    operate_v2();
    /* and what needs SHA-256, without the CPU's instructions for it, which valgrind does not know anyway */
    MUST(ac_cpu_mask("sha") == AC_OK && ac_init(&ct_sodium, arguments[1]) == AC_OK);
    operate_keys();
    operate_v2();
    return 0;
  }
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
    if (strcmp(faults[i].name, arguments[2]) != 0) continue;
    faults[i].commit(backend);
    return 0;
  }
  return BAD_USE;
}
