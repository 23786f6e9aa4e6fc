/* What our AES-GCM and our SHA-256 leave on the stack, without sanitizers, which lay it out anew.
 *
 * Each call runs on a stack of its own under two keys and two texts, with all else alike. What then differs between
 * the two stacks comes from a secret, whether or not anyone has thought of it: round states, key stream, round keys, H,
 * plaintext. So none may differ; with the wipe of the stack left out, some must, or this would show nothing. */
#define _XOPEN_SOURCE 700 /* pthread_attr_setstack */
#include "ac_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Whole blocks of text: what is copied of a last part is ciphertext, which would differ and be no secret. Several groups
 * of them on every backend. */
enum { STACK = 1 << 18, GAP = 1 << 16, TEXT = 3200, PAINT = 0xee, BURN_LEAST = 4096 };

/* All that the calls work on: the stacks hold nothing but what the calls put there. */
static struct {
  uint64_t words[ACI_GCM_WORDS];
  uint8_t key[AC_KEY_BYTES], nonce[AC_NONCE_BYTES], text[TEXT], sealed[TEXT + AC_TAG_BYTES], opened[TEXT];
  int status;
} x;

static const aci_gcm_backend *backend;

static void call_init(void) { backend->init(x.words, x.key); }

static void call_seal(void) {
  x.status = backend->seal(x.words, x.sealed, x.nonce, x.text, TEXT, x.nonce, sizeof x.nonce);
}

static void call_open(void) {
  x.status = backend->open(x.words, x.opened, x.nonce, x.sealed, sizeof x.sealed, x.nonce, sizeof x.nonce);
}

/* The text is secret there, and what is derived of it. */
static void call_hash(void) { ac_sha256(x.opened, x.text, TEXT); }

static void call_hkdf(void) {
  x.status = ac_hkdf_sha256(x.opened, 100, x.text, 100, x.text + 100, 100, x.nonce, sizeof x.nonce);
}

typedef struct stack_call {
  const char *name;
  void (*function)(void);
  int forged; /* one bit of the tag is wrong */
} stack_call;

enum { CALLS = 4 };
static const stack_call gcm_calls[CALLS] = {
    {"init", call_init, 0}, {"seal", call_seal, 0}, {"open", call_open, 0}, {"open, forged", call_open, 1}};
static const stack_call hash_calls[CALLS] = {{"SHA-256", call_hash, 0}, {"HKDF", call_hkdf, 0}};
static const stack_call *calls;
static const char *subject;
static int spills_nothing; /* 1: may leave nothing even with the wipe left out */

/* ---- what the core needs of libsodium ---- */

typedef struct part {
  const uint8_t *at;
  size_t len;
} part;

static int burning;
static part burn; /* what was to be wiped of the stack */

int aci_leaves_stack(uint8_t *used, size_t len) {
  burn.at = used;
  burn.len = len;
  return !burning;
}

/* The self-test asks libsodium, which is not here. */
static int hash_sha256(unsigned char *out, unsigned char *in, unsigned long long in_len) {
  ac_sha256(out, in, (size_t)in_len);
  return 0;
}

/* `portable` wipes it so: nothing else is as long as BURN_LEAST. */
static void memzero(void *p, size_t len) {
  uint8_t *const bytes = p;
  volatile uint8_t *at = p;
  if (len >= BURN_LEAST && aci_leaves_stack(bytes, len)) return;
  for (size_t i = 0; i < len; i++) at[i] = 0;
}

/* ---- the stacks ---- */

static uint8_t *stack;
static size_t deepest;
static size_t end; /* of what is searched: above lies what the thread itself uses when it starts and ends */

static void *call(void *p) {
  volatile uint8_t gap[GAP];
  void (*const *function)(void) = p;
  gap[0] = 1;
  end = (size_t)((uintptr_t)gap - (uintptr_t)stack);
  (*function)();
  return gap[0] ? NULL : p;
}

static void run(void (*function)(void)) {
  pthread_attr_t attributes;
  pthread_t thread;
  memset(stack, PAINT, STACK);
  if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstack(&attributes, stack, STACK) != 0) abort();
  if (pthread_create(&thread, &attributes, call, &function) != 0 || pthread_join(thread, NULL) != 0) abort();
  (void)pthread_attr_destroy(&attributes);
}

static void fill(uint8_t *p, size_t len, uint32_t *seed) {
  for (size_t i = 0; i < len; i++) {
    *seed = *seed * 1664525u + 1013904223u;
    p[i] = (uint8_t)(*seed >> 24);
  }
}

/* Bytes that the call has reached of what was to be wiped, from its upper end. */
static size_t depth(void) {
  size_t i = 0;
  while (i < burn.len && burn.at[i] == PAINT) i++;
  return burn.len - i;
}

/* The stack after each call. */
static int run_all(uint8_t *after[CALLS], uint32_t seed) {
  int good = 1;
  fill(x.key, sizeof x.key, &seed);
  fill(x.text, sizeof x.text, &seed);
  for (size_t i = 0; i < CALLS && calls[i].name != NULL; i++) {
    x.status = AC_OK;
    burn = (part){NULL, 0};
    x.sealed[TEXT] ^= (uint8_t)calls[i].forged;
    run(calls[i].function);
    memcpy(after[i], stack, STACK);
    if (!burning && depth() > deepest) deepest = depth();
    good &= burn.at != NULL;
    good &= x.status == (calls[i].forged ? AC_ERR_AUTH : AC_OK);
    if (calls[i].function == call_open && !calls[i].forged) good &= memcmp(x.opened, x.text, TEXT) == 0;
  }
  return good;
}

static size_t differences(const uint8_t *a, const uint8_t *b) {
  size_t count = 0;
  for (size_t i = 0; i < end; i++) count += a[i] != b[i];
  return count;
}

/* With the wipe of the stack left out and with it. 1: bad. */
static int search(const char *program) {
  uint8_t *after[2][CALLS];
  int bad = 0;
  for (size_t i = 0; i < 2 * CALLS; i++) {
    after[i / CALLS][i % CALLS] = malloc(STACK);
    if (after[i / CALLS][i % CALLS] == NULL) abort();
  }
  for (burning = 0; burning < 2; burning++) {
    bad |= !run_all(after[0], 3); /* what the linker binds at a first call uses the stack, too */
    if (!burning) deepest = 0;
    bad |= !run_all(after[0], 1);
    bad |= !run_all(after[1], 2);
    for (size_t i = 0; i < CALLS && calls[i].name != NULL; i++) {
      const size_t count = differences(after[0][i], after[1][i]);
      if (burning ? count != 0 : count == 0 && !spills_nothing) {
        printf("%s: %s %s, %s: %zu bytes of the stack depend on secrets\n", program, subject, calls[i].name,
               burning ? "wiped" : "not wiped", count);
        bad = 1;
      }
    }
  }
  for (size_t i = 0; i < 2 * CALLS; i++) free(after[i / CALLS][i % CALLS]);
  if (bad || deepest > burn.len / 8 * 7) { /* the rest is for compilers that are not here */
    printf("%s: %s failed; %zu bytes of stack used, %zu wiped\n", program, subject, deepest, burn.len);
    bad = 1;
  }
  return bad;
}

int main(int argc, char **argv) {
  static const aci_gcm_backend *const all[] = {
      &aci_gcm_portable,
#if ACI_X86_64 && defined(__OPTIMIZE__) /* what is not optimised keeps every vector on the stack */
      &aci_gcm_aesni, &aci_gcm_vaes, &aci_gcm_vaes512,
#endif
  };
  int bad = 0;
  if (argc < 1) abort();
  aci_sodium.memzero = memzero;
  aci_sodium.hash_sha256 = hash_sha256;
  (void)aci_cpu_detect(); /* whether anything has changed: it has */
  stack = aligned_alloc(4096, STACK);
  if (stack == NULL) abort();
  printf("stack searched:");
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    backend = all[i];
    calls = gcm_calls;
    subject = backend->name;
    if (!backend->usable()) continue;
    bad |= search(argv[0]);
    printf(" %s (%zu of %zu)", subject, deepest, burn.len);
  }
  calls = hash_calls;
  for (int hidden = 1; hidden >= 0; hidden--) { /* without the instructions for it, and with them */
    bad |= ac_cpu_mask(hidden ? "sha" : "") != AC_OK;
    (void)aci_cpu_detect();
    bad |= !aci_sha256_self_test();
#if ACI_X86_64 && defined(__OPTIMIZE__)
    spills_nothing = aci_sha256_chosen == aci_sha256_compress_x86; /* it has registers for all */
#endif
    if (!hidden && !spills_nothing) break;
    subject = hidden ? "sha256" : "sha256 (x86)";
    bad |= search(argv[0]);
    printf(" %s (%zu of %zu)", subject, deepest, burn.len);
  }
  printf("; %s\n", argv[0]);
  return bad;
}
