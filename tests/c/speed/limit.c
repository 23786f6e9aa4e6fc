/* What the CPU's units could do: 14 AES rounds and 3 carry-less multiplies for each vector of text, on registers
 * alone. No AES-GCM is faster than this, as each needs so many. Eight vectors are in flight, as in ours. */
#include "speed.h"

#if ACI_X86_64

#include <immintrin.h>

#define EACH(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
/* The compiler must neither drop what nobody reads, nor take two that are alike for one. */
#define KEEP(a) __asm__ volatile("" : "+v"(a))
#define START(i) \
  VEC b##i = ZERO, s##i = ZERO; \
  KEEP(b##i); KEEP(s##i);
#define AES(i) b##i = ROUND(b##i, key);
#define MULTIPLY(i, which)   \
  {                          \
    VEC product = MUL(s##i, key, which); \
    KEEP(product);           \
  }
#define MULTIPLY_3(i) MULTIPLY(i, 0x00) MULTIPLY(i, 0x11) MULTIPLY(i, 0x01)
#define LIMIT(name)                                                              \
  double name(void) {                                                            \
    enum { TURNS = 20000 };                                                      \
    VEC key = ZERO;                                                              \
    KEEP(key);                                                                   \
    EACH(START)                                                                  \
    const double begun = now();                                                  \
    for (size_t turn = 0; turn < TURNS; turn++) {                                \
      for (size_t round = 0; round < 14; round++) { EACH(AES) }                  \
      EACH(MULTIPLY_3)                                                           \
      EACH(KEEP_B)                                                               \
    }                                                                            \
    return 8.0 * sizeof(VEC) * TURNS / (now() - begun); /* bytes per ns: GB/s */ \
  }
#define KEEP_B(i) KEEP(b##i);

ACI_TARGET_BEGIN("aes,pclmul,sse4.1")
#define VEC __m128i
#define ZERO _mm_setzero_si128()
#define ROUND(a, k) _mm_aesenc_si128(a, k)
#define MUL(a, b, which) _mm_clmulepi64_si128(a, b, which)
LIMIT(limit128)
ACI_TARGET_END
#undef VEC
#undef ZERO
#undef ROUND
#undef MUL

ACI_TARGET_BEGIN("aes,pclmul,avx2,vaes,vpclmulqdq")
#define VEC __m256i
#define ZERO _mm256_setzero_si256()
#define ROUND(a, k) _mm256_aesenc_epi128(a, k)
#define MUL(a, b, which) _mm256_clmulepi64_epi128(a, b, which)
LIMIT(limit256)
ACI_TARGET_END
#undef VEC
#undef ZERO
#undef ROUND
#undef MUL

ACI_TARGET_BEGIN("aes,pclmul,avx2,vaes,vpclmulqdq,avx512f")
#define VEC __m512i
#define ZERO _mm512_setzero_si512()
#define ROUND(a, k) _mm512_aesenc_epi128(a, k)
#define MUL(a, b, which) _mm512_clmulepi64_epi128(a, b, which)
LIMIT(limit512)
ACI_TARGET_END

#endif
