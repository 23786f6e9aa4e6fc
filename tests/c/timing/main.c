/* Times what the core does with secrets, for two classes of them, and prints what Welch's t-test says. The classes come in
 * random order, and all that a batch needs is made before it is timed. Whatever t is, the program succeeds: a shared
 * machine is no judge. It fails only if something did not work.
 *
 * The method is that of Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?" (2017). */
#include "timing.h"

#include "ac_gcm_portable.c" /* key expansion, blocks and GHASH have no name outside of it */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#if ACI_X86_64
#include <x86intrin.h>
#else
#include <time.h>
#endif

enum { SAMPLES = 400000, BATCH = 500, TEXT = 64, SEALED = TEXT + AC_TAG_BYTES };

static void must(int condition, int line, const char *what) {
  if (condition) return;
  fprintf(stderr, "%s:%d: %s\n", __FILE__, line, what);
  exit(1);
}
#define MUST(condition) must((condition) != 0, __LINE__, #condition)

static uint64_t cycles(void) {
#if ACI_X86_64
  unsigned ignored;
  _mm_lfence();
  const uint64_t now = __rdtscp(&ignored);
  _mm_lfence();
  return now;
#else
  struct timespec now;
  MUST(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

static void wipe(void *p, size_t len) {
  volatile unsigned char *at = p;
  while (len-- != 0) *at++ = 0;
}

static uint32_t draw(void) {
  static uint64_t state = 0x9e3779b97f4a7c15;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 32);
}

static void draw_bytes(void *p, size_t len) {
  uint8_t *const at = p;
  for (size_t i = 0; i < len; i++) at[i] = (uint8_t)draw();
}

/* ---- what is timed: each works on `now`, where every input is copied to, whatever its class ---- */

typedef struct input {
  uint8_t key[AC_KEY_BYTES], nonce[AC_NONCE_BYTES], text[TEXT], sealed[SEALED], tags[2][AC_TAG_BYTES];
  uint64_t expanded[8 * ACI_AES_ROUND_KEYS], words[ACI_GCM_WORDS];
  layout k;
} input;

static input now;
static uint64_t made[8 * PARALLEL];
static uint8_t out[SEALED];

/* The two that the openings and the comparisons are about. */
static void differ_at(uint8_t *tag, int class) { tag[class == 0 ? 0 : AC_TAG_BYTES - 1] ^= 0x80; }

static void two_tags(input *in, int class) {
  draw_bytes(in->tags[0], AC_TAG_BYTES);
  memcpy(in->tags[1], in->tags[0], AC_TAG_BYTES);
  differ_at(in->tags[1], class);
}

static void two_tags_alike(input *in, int class) {
  (void)class;
  two_tags(in, (int)(draw() & 1));
}

static void equal_or_random(input *in, int class) {
  draw_bytes(in->tags, sizeof in->tags);
  if (class == 0) memcpy(in->tags[1], in->tags[0], AC_TAG_BYTES);
}

/* Class 0 is fixed: all zero, which a multiplier or a table that is not constant time would like best. */
static void any_key(input *in, int class) {
  memset(in, 0, sizeof *in);
  if (class != 0) draw_bytes(in->key, sizeof in->key);
}

static void any_block(input *in, int class) {
  uint64_t round_keys[2 * ACI_AES_ROUND_KEYS];
  any_key(in, class);
  if (class != 0) draw_bytes(in->nonce, sizeof in->nonce);
  expand_key(round_keys, in->key);
  expand(in->expanded, round_keys);
}

static void any_hash_key(input *in, int class) {
  any_key(in, class);
  if (class == 0) return;
  draw_bytes(in->text, sizeof in->text);
  draw_bytes(in->k.h, sizeof in->k.h);
  for (size_t i = 0; i < 2; i++) in->k.h_reversed[i] = reverse64(in->k.h[i]);
}

static void a_message(input *in) {
  memset(in, 0, sizeof *in);
  draw_bytes(in->key, sizeof in->key);
  draw_bytes(in->nonce, sizeof in->nonce);
  draw_bytes(in->text, sizeof in->text);
  aci_gcm_portable.init(in->words, in->key);
  MUST(aci_gcm_portable.seal(in->words, in->sealed, in->nonce, in->text, TEXT, NULL, 0) == AC_OK);
}

static void a_forgery(input *in, int class) {
  a_message(in);
  differ_at(in->sealed + TEXT, class);
}

static void good_or_forged(input *in, int class) {
  a_message(in);
  if (class != 0) differ_at(in->sealed + TEXT, (int)(draw() & 1));
}

/* Ends at the first difference, as memcmp may. */
static ACI_NOINLINE int leaky_equal(const uint8_t *a, const uint8_t *b, size_t len) {
  for (size_t i = 0; i < len; i++) {
    if (((const volatile uint8_t *)a)[i] != ((const volatile uint8_t *)b)[i]) return 0;
  }
  return 1;
}

static int compare_leaky(void) { return leaky_equal(now.tags[0], now.tags[1], AC_TAG_BYTES); }
static int compare_tags(void) { return aci_equal(now.tags[0], now.tags[1], AC_TAG_BYTES); }

static int expand_one_key(void) {
  expand_key(made, now.key);
  return 0;
}

static int encrypt_blocks(void) {
  key_stream(out, made, now.expanded, now.nonce, 1);
  return 0;
}

static int hash_blocks(void) {
  made[0] = made[1] = 0;
  ghash(made, &now.k, now.text, TEXT);
  return 0;
}

static int open_message(void) {
  return aci_gcm_portable.open(now.words, out, now.nonce, now.sealed, SEALED, NULL, 0);
}

static int zero(int class) {
  (void)class;
  return 0;
}

static int one_if_equal(int class) { return class == 0; }

static int refused(int class) {
  (void)class;
  return AC_ERR_AUTH;
}

static int refused_if_forged(int class) { return class == 0 ? AC_OK : AC_ERR_AUTH; }

typedef struct subject {
  const char *name, *classes;
  void (*prepare)(input *in, int class);
  int (*run)(void);
  int (*returns)(int class); /* what it must return */
} subject;

static const subject subjects[] = {
    {"control: ends at the first difference", "first byte, last byte", two_tags, compare_leaky, zero},
    {"control: the same, classes alike", "either, either", two_tags_alike, compare_leaky, zero},
    {"control: good against forged (public)", "good, forged", good_or_forged, open_message, refused_if_forged},
    {"tag compare", "first byte, last byte", two_tags, compare_tags, zero},
    {"tag compare", "equal, random", equal_or_random, compare_tags, one_if_equal},
    {"`portable` AES, key expansion", "zero, random", any_key, expand_one_key, zero},
    {"`portable` AES, four blocks", "zero, random", any_block, encrypt_blocks, zero},
    {"`portable` GHASH, four blocks", "zero, random", any_hash_key, hash_blocks, zero},
    {"`portable` open, a forged tag", "first byte, last byte", a_forgery, open_message, refused},
};

/* ---- the test ---- */

static const char *in_words(double t) {
  return fabs(t) < 4.5 ? "no difference seen" : fabs(t) < 10 ? "perhaps a difference" : "a difference";
}

static void look_at(const subject *s, sample *samples, input *inputs) {
  for (size_t done = 0; done < SAMPLES; done += BATCH) {
    sample *const batch = samples + done;
    for (size_t i = 0; i < BATCH; i++) {
      batch[i].class = (int)(draw() & 1);
      s->prepare(&inputs[i], batch[i].class);
    }
    for (size_t i = 0; i < BATCH; i++) {
      memcpy(&now, &inputs[i], sizeof now);
      const uint64_t begin = cycles();
      const int got = s->run();
      batch[i].cycles = cycles() - begin;
      MUST(got == s->returns(batch[i].class));
    }
  }
  const verdict v = judge(samples, SAMPLES);
  printf("| %s | %s | %.1f | %.1f | %s |\n", s->name, s->classes, v.all, v.widest, in_words(v.widest));
}

int main(void) {
  sample *const samples = malloc(SAMPLES * sizeof *samples);
  input *const inputs = malloc(BATCH * sizeof *inputs);
  MUST(samples != NULL && inputs != NULL && statistics_work());
  aci_sodium.memzero = wipe;
  printf("%d samples of each. By chance, t is beyond 4.5 in one row of 20,000; a leak takes it far beyond 10.\n\n", SAMPLES);
  printf("| what | classes | t, all samples | t, farthest from 0 | in words |\n| --- | --- | ---: | ---: | --- |\n");
  for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) look_at(&subjects[i], samples, inputs);
  free(samples);
  free(inputs);
  return 0;
}
