/* How fast AES-GCM is in C: our backends, libsodium's with an expanded key, and what the CPU's units could do, in turn
 * within each round, so that a noisy machine is noisy for all. Prints JSON: a list of rounds, ns for each operation and
 * GB/s for each limit.
 *     speed [rounds] */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "speed.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 1 << 20 };
static const size_t sizes[] = {16, 64, 300, 1024, 4096, 65536, MOST};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static const aci_gcm_backend *const backends[] = {
#if ACI_X86_64
    &aci_gcm_vaes512, &aci_gcm_vaes, &aci_gcm_aesni,
#endif
    &aci_gcm_portable};
enum { BACKENDS = sizeof backends / sizeof backends[0] };

static uint8_t text[MOST], sealed[MOST + AC_TAG_BYTES], opened[MOST], key[AC_KEY_BYTES], nonce[AC_NONCE_BYTES];
static uint64_t words[BACKENDS][ACI_GCM_WORDS];
static crypto_aead_aes256gcm_state theirs;

double now(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void must(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "wrong: %s\n", what);
  exit(1);
}

static void mem_zero(void *p, size_t len) { sodium_memzero(p, len); }

static void seal_ours(size_t b, size_t len) {
  must(backends[b]->seal(words[b], sealed, nonce, text, len, NULL, 0) == AC_OK, "our seal");
}

static void open_ours(size_t b, size_t len) {
  must(backends[b]->open(words[b], opened, nonce, sealed, len + AC_TAG_BYTES, NULL, 0) == AC_OK, "our open");
}

static void seal_theirs(size_t b, size_t len) {
  (void)b;
  (void)crypto_aead_aes256gcm_encrypt_afternm(sealed, NULL, text, len, NULL, 0, NULL, nonce, &theirs);
}

static void open_theirs(size_t b, size_t len) {
  (void)b;
  must(crypto_aead_aes256gcm_decrypt_afternm(opened, NULL, NULL, sealed, len + AC_TAG_BYTES, NULL, 0, nonce, &theirs) == 0,
       "libsodium's open");
}

static void expand_ours(size_t b, size_t len) {
  (void)len;
  backends[b]->init(words[b], key);
}

static void expand_theirs(size_t b, size_t len) {
  (void)b;
  (void)len;
  (void)crypto_aead_aes256gcm_beforenm(&theirs, key);
}

/* ns for one, the least of a few short runs */
static double timed(void (*work)(size_t, size_t), size_t b, size_t len) {
  const size_t times = len < 4096 ? 400 : len < MOST ? 40 : 4;
  double least = 0;
  for (size_t run = 0; run < 5; run++) {
    const double begun = now();
    for (size_t i = 0; i < times; i++) work(b, len);
    const double each = (now() - begun) / (double)times;
    if (run == 0 || each < least) least = each;
  }
  return least;
}

#if ACI_X86_64
/* The most of a few: whatever disturbs it, a limit is what the units can do. */
static double most(double (*limit)(void)) {
  double found = 0;
  for (size_t run = 0; run < 5; run++) {
    const double each = limit();
    if (each > found) found = each;
  }
  return found;
}
#endif

/* Each must open what the other has sealed, before anything is timed. */
static void agree(size_t b, size_t len) {
  memset(opened, 0, len);
  seal_ours(b, len);
  open_theirs(b, len);
  must(memcmp(opened, text, len) == 0, "our seal");
  memset(opened, 0, len);
  seal_theirs(b, len);
  open_ours(b, len);
  must(memcmp(opened, text, len) == 0, "our open");
}

static void print_all(const char *name, void (*expand)(size_t, size_t), void (*seal)(size_t, size_t),
                      void (*open)(size_t, size_t), size_t b, size_t most) {
  printf(", \"%s\": {\"key\": %.1f", name, timed(expand, b, 0));
  for (size_t i = 0; i < SIZES && sizes[i] <= most; i++) {
    printf(", \"seal %zu\": %.1f", sizes[i], timed(seal, b, sizes[i]));
    printf(", \"open %zu\": %.1f", sizes[i], timed(open, b, sizes[i])); /* what was sealed last */
  }
  printf("}");
}

int main(int argc, char **argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 11;
  must(sodium_init() >= 0 && crypto_aead_aes256gcm_is_available(), "libsodium has no AES here");
  aci_sodium.memzero = mem_zero;
  (void)aci_cpu_detect();
  randombytes_buf(key, sizeof key);
  for (size_t i = 0; i < MOST; i++) text[i] = (uint8_t)(i * 7);
  expand_theirs(0, 0);
  for (size_t b = 0; b < BACKENDS; b++) {
    if (!backends[b]->usable()) continue;
    expand_ours(b, 0);
    for (size_t i = 0; i < SIZES && (sizes[i] <= 4096 || backends[b] != &aci_gcm_portable); i++) agree(b, sizes[i]);
  }
  for (int round = 0; round < rounds; round++) {
    printf("%s{\"round\": %d", round == 0 ? "[" : ",\n", round);
#if ACI_X86_64
    printf(", \"limit128\": %.2f", most(limit128));
    if (aci_gcm_vaes.usable()) printf(", \"limit256\": %.2f", most(limit256));
    if (aci_gcm_vaes512.usable()) printf(", \"limit512\": %.2f", most(limit512));
#endif
    print_all("libsodium", expand_theirs, seal_theirs, open_theirs, 0, MOST);
    for (size_t b = 0; b < BACKENDS; b++) {
      if (backends[b]->usable())
        print_all(backends[b]->name, expand_ours, seal_ours, open_ours, b, backends[b] == &aci_gcm_portable ? 4096 : MOST);
    }
    printf("}");
  }
  printf("]\n");
  return 0;
}
