/* Every subset of the CPU's features hidden: what can be used then, and that it works. */
#include "harness.h"

#include <sodium.h>

enum { MOST_FEATURES = 16 };

/* What each backend needs, once more; NULL: nothing of ours. */
static const struct {
  const char *name;
  const char *needs[MOST_FEATURES];
} backends[] = {
    {"vaes512", {"aes", "pclmul", "ssse3", "sse4.1", "avx2", "vaes", "vpclmulqdq", "avx512"}},
    {"vaes", {"aes", "pclmul", "ssse3", "sse4.1", "avx2", "vaes", "vpclmulqdq"}},
    {"aesni", {"aes", "pclmul", "ssse3", "sse4.1"}},
    {"sodium", {NULL}},
    {"portable", {NULL}},
};
enum { BACKENDS = sizeof backends / sizeof backends[0] };

static unsigned features;

/* What the compiler's own library finds. clang 14 does not know the name of vaes; no CPU has one without the other. */
#if defined(__clang__)
#define VAES "vpclmulqdq"
#else
#define VAES "vaes"
#endif

#if ACI_X86_64
#include <cpuid.h>

/* Neither compiler has a name for it. */
static int cpuid_sha(void) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) != 0;
}
#endif

static int cpu_has(const char *name) {
#if ACI_X86_64
  const struct {
    const char *name;
    int found;
  } known[] = {
      {"ssse3", __builtin_cpu_supports("ssse3")},
      {"sse4.1", __builtin_cpu_supports("sse4.1")},
      {"aes", __builtin_cpu_supports("aes")},
      {"pclmul", __builtin_cpu_supports("pclmul")},
      {"avx2", __builtin_cpu_supports("avx2")},
      {"vaes", __builtin_cpu_supports(VAES)},
      {"vpclmulqdq", __builtin_cpu_supports("vpclmulqdq")},
      {"sha", cpuid_sha()},
      {"avx512", __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")},
  };
  enum { KNOWN = sizeof known / sizeof known[0] };
  size_t i = 0;
  while (i < KNOWN && strcmp(known[i].name, name) != 0) i++;
  return CHECK(i < KNOWN) && known[i].found != 0;
#else
  (void)name;
  return 0;
#endif
}

static unsigned feature_number(const char *name) {
  unsigned i = 0;
  while (i < features && strcmp(ac_cpu_feature_name(i), name) != 0) i++;
  CHECK(i < features);
  return i;
}

/* Subsets are bits, by the features' numbers. */
static int is_seen(const char *name, uint32_t hidden) {
  return cpu_has(name) && !(hidden >> feature_number(name) & 1);
}

static int can_be_used(const char *backend, uint32_t hidden) {
  size_t i = 0;
  while (i < BACKENDS && strcmp(backends[i].name, backend) != 0) i++;
  if (!CHECK(i < BACKENDS)) return 0; /* one that this test does not know */
  if (strcmp(backend, "sodium") == 0) return crypto_aead_aes256gcm_is_available() == 1;
  for (const char *const *need = backends[i].needs; *need != NULL; need++) {
    if (!is_seen(*need, hidden)) return 0;
  }
  return 1;
}

static void write_list(char *list, size_t cap, uint32_t hidden) {
  size_t len = 0;
  list[0] = '\0';
  for (unsigned i = 0; i < features; i++) {
    if (hidden >> i & 1)
      len += (size_t)snprintf(list + len, cap - len, "%s%s", len != 0 ? "," : "", ac_cpu_feature_name(i));
  }
}

/* SHA-256 has a backend of its own, which nothing else depends on. */
static int sha_can_be_used(uint32_t hidden) {
  return is_seen("sha", hidden) && is_seen("ssse3", hidden) && is_seen("sse4.1", hidden);
}

/* Bits: the backends that can be used, and above them what base64 and the reader may look at. */
static uint32_t hide(uint32_t hidden) {
  char list[MOST_FEATURES * 16];
  uint32_t outcome = 0;
  unsigned best = MOST_BACKENDS;
  write_list(list, sizeof list, hidden);
  CHECK_STATUS(ac_cpu_mask(list), AC_OK);
  CHECK_STATUS(ac_init(&sodium_table, NULL), AC_OK);
  for (unsigned i = 0; i < features; i++) CHECK(ac_cpu_feature_usable(i) == is_seen(ac_cpu_feature_name(i), hidden));
  CHECK(ac_cpu_feature_usable(features) == 0);
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL; i++) {
    const char *const name = ac_aes_backend_name(i);
    const int usable = can_be_used(name, hidden);
    if (!CHECK(ac_aes_backend_usable(i) == usable)) printf("    %s, with \"%s\" hidden\n", name, list);
    outcome |= (uint32_t)usable << i;
    if (usable && best == MOST_BACKENDS) best = i;
    if (!usable) CHECK_STATUS(ac_init(&sodium_table, name), AC_ERR_ARGUMENT);
  }
  CHECK(ac_aes_backend_default() == best);
#if ACI_X86_64
  CHECK((aci_sha256_chosen == aci_sha256_compress_x86) == sha_can_be_used(hidden));
#endif
  for (unsigned i = 0; i < features; i++) {
    const char *const name = ac_cpu_feature_name(i);
    if (strcmp(name, "ssse3") == 0 || strncmp(name, "avx", 3) == 0)
      outcome |= (uint32_t)is_seen(name, hidden) << (MOST_BACKENDS + i);
  }
  return outcome;
}

static void wrong_names(void) {
  static const char *const lists[] = {"avx3",     "aes,avx3", "avx3,aes", "AES",     "ae",         "aess",
                                      "aes avx2", " aes",     ",",        "aes,,vaes", "vaes,aes,x", "aes;avx2"};
  const uint32_t hidden = 1u << feature_number("vpclmulqdq"), before = hide(hidden);
  for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
    CHECK_STATUS(ac_cpu_mask(lists[i]), AC_ERR_ARGUMENT);
    CHECK_STATUS(ac_init(&sodium_table, NULL), AC_OK);
    for (unsigned b = 0; ac_aes_backend_name(b) != NULL; b++)
      CHECK(ac_aes_backend_usable(b) == (int)(before >> b & 1));
  }
}

/* All that asks what the CPU can do. */
static void use(unsigned round) {
  enum { CASES = 300, FIRST = 1000000 }; /* beside those of test_differential */
  compare_backends(FIRST + round * CASES, CASES / stride());
  test_base64();
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL; i++) {
    if (!ac_aes_backend_usable(i)) continue;
    CHECK_STATUS(ac_init(&sodium_table, ac_aes_backend_name(i)), AC_OK);
    test_vectors();
  }
  test_stream();
  test_event_guards();
}

void test_masks(void) {
  enum { MOST_OUTCOMES = 64 };
  uint32_t outcomes[MOST_OUTCOMES];
  unsigned count = 0, tried = 0;
  uint32_t absent = 0;
  int sha_seen[2] = {0, 0};
  while (ac_cpu_feature_name(features) != NULL) features++;
  CHECK(features <= MOST_FEATURES);
  for (unsigned i = 0; i < features; i++) absent |= (uint32_t)!cpu_has(ac_cpu_feature_name(i)) << i;
  for (uint32_t hidden = 0; hidden < 1u << features; hidden++) {
    if (stride() != 1 && (hidden & absent) != 0) continue; /* valgrind's CPU lacks much, and to hide that changes nothing */
    tried++;
    const uint32_t outcome = hide(hidden);
    const int sha = sha_can_be_used(hidden);
    if (!sha_seen[sha]) {
      test_sha256();
      test_hpke();
    }
    sha_seen[sha] = 1;
    unsigned i = 0;
    while (i < count && outcomes[i] != outcome) i++;
    if (i < count) continue;
    if (!CHECK(count < MOST_OUTCOMES)) break;
    outcomes[count++] = outcome;
    use(count);
  }
  wrong_names();
  printf("%u subsets of the CPU's features hidden, with %u outcomes\n", tried, count);
  CHECK_STATUS(ac_cpu_mask(""), AC_OK);
  CHECK(hide(0) == outcomes[0]);
}
