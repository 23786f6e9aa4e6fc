/* What this CPU can do, what its operating system lets it, and what a test has masked. */
#include "ac_internal.h"

/* Written by ac_cpu_mask and ac_init only. */
static uint32_t masked, features;

static const struct {
  const char *name;
  uint32_t feature;
} names[] = {{"ssse3", ACI_CPU_SSSE3}, {"sse4.1", ACI_CPU_SSE41}, {"aes", ACI_CPU_AES},
             {"pclmul", ACI_CPU_PCLMUL}, {"avx2", ACI_CPU_AVX2}, {"vaes", ACI_CPU_VAES},
             {"vpclmulqdq", ACI_CPU_VPCLMULQDQ}, {"avx512", ACI_CPU_AVX512},
             {"sha", ACI_CPU_SHA}};
enum { NAMES = sizeof names / sizeof names[0] };

const char *ac_cpu_feature_name(unsigned number) { return number < NAMES ? names[number].name : NULL; }

int ac_cpu_feature_usable(unsigned number) { return number < NAMES && aci_cpu_has(names[number].feature); }

int ac_cpu_mask(const char *list) {
  uint32_t found = 0;
  while (*list != '\0') {
    const size_t len = strcspn(list, ",");
    uint32_t feature = 0;
    for (unsigned i = 0; i < NAMES; i++) {
      if (strlen(names[i].name) == len && memcmp(names[i].name, list, len) == 0) feature = names[i].feature;
    }
    if (feature == 0) return AC_ERR_ARGUMENT;
    found |= feature;
    list += len;
    if (*list == ',') list++;
  }
  masked = found;
  return AC_OK;
}

int aci_cpu_has(uint32_t wanted) { return (features & wanted) == wanted; }

#if ACI_X86_64

#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif

typedef struct registers {
  uint32_t eax, ebx, ecx, edx;
} registers;

static registers cpuid(uint32_t leaf) {
  registers r = {0, 0, 0, 0};
#if defined(_MSC_VER)
  int most[4], got[4];
  __cpuid(most, 0);
  if ((uint32_t)most[0] >= leaf) {
    __cpuidex(got, (int)leaf, 0);
    r = (registers){(uint32_t)got[0], (uint32_t)got[1], (uint32_t)got[2], (uint32_t)got[3]};
  }
#else
  (void)__get_cpuid_count(leaf, 0, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
  return r;
}

/* The registers that the operating system saves: XCR0. */
static uint64_t saved_registers(void) {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
#endif
}

static int all(uint64_t have, uint64_t want) { return (have & want) == want; }

static uint32_t detect(void) {
  enum { PCLMULQDQ = 1 << 1, SSSE3 = 1 << 9, SSE41 = 1 << 19, AES = 1 << 25, OSXSAVE = 1 << 27, AVX = 1 << 28 };
  /* leaf 7, EBX; above: leaf 1, ECX */
  enum { AVX2 = 1 << 5, AVX512F = 1 << 16, AVX512DQ = 1 << 17, SHA = 1 << 29, AVX512BW = 1 << 30 };
  const uint32_t avx512 = AVX512F | AVX512DQ | AVX512BW | 1u << 31 /* AVX512VL */;
  enum { VAES = 1 << 9, VPCLMULQDQ = 1 << 10 }; /* leaf 7, ECX */
  enum { YMM = 0x06, ZMM = 0xe6 };              /* XCR0 */
  const registers one = cpuid(1), seven = cpuid(7);
  const uint64_t saved = all(one.ecx, OSXSAVE) ? saved_registers() : 0;
  uint32_t found = 0;
  if (all(one.ecx, SSSE3)) found |= ACI_CPU_SSSE3;
  if (all(one.ecx, SSE41)) found |= ACI_CPU_SSE41;
  if (all(one.ecx, AES)) found |= ACI_CPU_AES;
  if (all(one.ecx, PCLMULQDQ)) found |= ACI_CPU_PCLMUL;
  if (all(seven.ebx, SHA)) found |= ACI_CPU_SHA;
  if (!all(one.ecx, AVX) || !all(saved, YMM)) return found;
  if (all(seven.ebx, AVX2)) found |= ACI_CPU_AVX2;
  if (all(seven.ecx, VAES)) found |= ACI_CPU_VAES;
  if (all(seven.ecx, VPCLMULQDQ)) found |= ACI_CPU_VPCLMULQDQ;
  if (all(seven.ebx, avx512) && all(saved, ZMM)) found |= ACI_CPU_AVX512;
  return found;
}

#else
static uint32_t detect(void) { return 0; }
#endif

int aci_cpu_detect(void) {
  const uint32_t before = features;
  features = detect() & ~masked;
  return features == before;
}
