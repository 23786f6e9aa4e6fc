/* What this CPU can do, and what its operating system lets it. */
#include "ac_internal.h"

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

enum { /* leaf 1, ECX */
  PCLMULQDQ = 1 << 1,
  SSSE3 = 1 << 9,
  SSE41 = 1 << 19,
  AES = 1 << 25,
  OSXSAVE = 1 << 27,
  AVX = 1 << 28
};
enum { /* leaf 7, EBX and ECX */
  AVX2 = 1 << 5,
  VAES = 1 << 9,
  VPCLMULQDQ = 1 << 10
};
enum { XCR0_SSE_AVX = 6 };

static int all(uint32_t have, uint32_t want) { return (have & want) == want; }

int aci_cpu_has_aesni(void) { return all(cpuid(1).ecx, PCLMULQDQ | SSSE3 | SSE41 | AES); }

int aci_cpu_has_vaes(void) {
  if (!aci_cpu_has_aesni() || !all(cpuid(1).ecx, OSXSAVE | AVX)) return 0;
  if ((saved_registers() & XCR0_SSE_AVX) != XCR0_SSE_AVX) return 0;
  const registers r = cpuid(7);
  return all(r.ebx, AVX2) && all(r.ecx, VAES | VPCLMULQDQ);
}

#else
typedef int aci_not_empty; /* ISO C wants something in every file */
#endif
