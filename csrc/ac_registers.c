/* Vector registers hold what was copied or computed last. Whoever saves all of them, as a dynamic linker does where a
 * function is called for the first time, writes that to the stack: so they are cleared with every wipe. */
#include "ac_internal.h"

/* Not on Windows: half of them have to be given back as they were there, and would go to the stack for that. */
#if ACI_X86_64 && !defined(_WIN32)

#define FIRST_16(each) \
  each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8) each(9) each(10) each(11) each(12) each(13) \
  each(14) each(15)
#define LAST_16(each) \
  each(16) each(17) each(18) each(19) each(20) each(21) each(22) each(23) each(24) each(25) each(26) each(27) each(28) \
  each(29) each(30) each(31)

/* Each says what it changes: a compiler that sees all of the core at once would otherwise rely on what it saw. */
#define CLEAR_128(i) __asm__ volatile("pxor %%xmm" #i ", %%xmm" #i : : : "xmm" #i);
#define CLEAR_256(i) __asm__ volatile("vpxor %%xmm" #i ", %%xmm" #i ", %%xmm" #i : : : "xmm" #i);
#define CLEAR_512(i) __asm__ volatile("vpxord %%xmm" #i ", %%xmm" #i ", %%xmm" #i : : : "xmm" #i);

static ACI_NOINLINE void clear_128(void) { FIRST_16(CLEAR_128) }

ACI_TARGET_BEGIN("avx") /* to the registers' whole length */
static ACI_NOINLINE void clear_256(void) { FIRST_16(CLEAR_256) }
ACI_TARGET_END

ACI_TARGET_BEGIN("avx512f,avx512vl")
static ACI_NOINLINE void clear_512(void) { LAST_16(CLEAR_512) }
ACI_TARGET_END

void aci_clear_registers(void) {
  if (!aci_cpu_has(ACI_CPU_AVX2)) {
    clear_128();
    return;
  }
  if (aci_cpu_has(ACI_CPU_AVX512)) clear_512();
  clear_256();
}

#else
void aci_clear_registers(void) {} /* elsewhere they are left as they are */
#endif
