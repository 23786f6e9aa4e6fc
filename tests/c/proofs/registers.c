/* The vector registers, as a call has left them: all that whoever saves them would write to memory. */
#include "acts.h"

#include <sodium.h>

static uint8_t kept[32 * 64];

#if ACI_X86_64
#define MOVE(instruction, register, at) instruction " %%" register ", " #at "(%0)\n\t"
#define SIXTEEN(instruction, kind) \
  MOVE(instruction, kind "0", 0) MOVE(instruction, kind "1", 64) MOVE(instruction, kind "2", 128) \
  MOVE(instruction, kind "3", 192) MOVE(instruction, kind "4", 256) MOVE(instruction, kind "5", 320) \
  MOVE(instruction, kind "6", 384) MOVE(instruction, kind "7", 448) MOVE(instruction, kind "8", 512) \
  MOVE(instruction, kind "9", 576) MOVE(instruction, kind "10", 640) MOVE(instruction, kind "11", 704) \
  MOVE(instruction, kind "12", 768) MOVE(instruction, kind "13", 832) MOVE(instruction, kind "14", 896) \
  MOVE(instruction, kind "15", 960)

static void keep(void) {
  if (aci_cpu_has(ACI_CPU_AVX512)) {
    __asm__ volatile(SIXTEEN("vmovdqu64", "zmm") : : "r"(kept) : "memory");
    __asm__ volatile(MOVE("vmovdqu64", "zmm16", 0) MOVE("vmovdqu64", "zmm17", 64) MOVE("vmovdqu64", "zmm18", 128)
                     MOVE("vmovdqu64", "zmm19", 192) MOVE("vmovdqu64", "zmm20", 256) MOVE("vmovdqu64", "zmm21", 320)
                     MOVE("vmovdqu64", "zmm22", 384) MOVE("vmovdqu64", "zmm23", 448) MOVE("vmovdqu64", "zmm24", 512)
                     MOVE("vmovdqu64", "zmm25", 576) MOVE("vmovdqu64", "zmm26", 640) MOVE("vmovdqu64", "zmm27", 704)
                     MOVE("vmovdqu64", "zmm28", 768) MOVE("vmovdqu64", "zmm29", 832) MOVE("vmovdqu64", "zmm30", 896)
                     MOVE("vmovdqu64", "zmm31", 960) : : "r"(kept + 1024) : "memory");
  } else if (aci_cpu_has(ACI_CPU_AVX2)) {
    __asm__ volatile(SIXTEEN("vmovdqu", "ymm") : : "r"(kept) : "memory");
  } else {
    __asm__ volatile(SIXTEEN("movdqu", "xmm") : : "r"(kept) : "memory");
  }
}
#else
static void keep(void) {}
#endif

int64_t registers_after(int64_t result) {
  keep();
  return result;
}

void registers_forget(void) { sodium_memzero(kept, sizeof kept); }
