/* AES-256-GCM with VAES and VPCLMULQDQ on 512-bit registers (Intel since Ice Lake, AMD since Zen 4). */
#include "ac_internal.h"

#if ACI_X86_64

#include <immintrin.h>

ACI_TARGET_BEGIN("aes,pclmul,sse4.1,avx2,vaes,vpclmulqdq,avx512f,avx512bw,avx512dq,avx512vl")

#define LANES 4
typedef __m512i vec;

#define V_LOAD(p) _mm512_loadu_si512((const void *)(p))
#define V_STORE(p, a) _mm512_storeu_si512((void *)(p), (a))
#define V_XOR(a, b) _mm512_xor_si512((a), (b))
#if defined(ACI_NO_ASM) /* MemorySanitizer does not know the other */
#define V_XOR3(a, b, c) V_XOR(V_XOR((a), (b)), (c))
#else
#define V_XOR3(a, b, c) _mm512_ternarylogic_epi64((a), (b), (c), 0x96)
#endif
#define V_ADD32(a, b) _mm512_add_epi32((a), (b))
#define V_BYTES(a, mask) _mm512_shuffle_epi8((a), (mask))
#define V_SWAP(a) _mm512_shuffle_epi32((a), 0x4e)
#define V_LOWS(a, b) _mm512_unpacklo_epi64((a), (b))
#define V_HIGHS(a, b) _mm512_unpackhi_epi64((a), (b))
#define V_MUL(a, b, which) _mm512_clmulepi64_epi128((a), (b), (which))
#define V_ROUND(a, key) _mm512_aesenc_epi128((a), (key))
#define V_LAST(a, key) _mm512_aesenclast_epi128((a), (key))
#define V_SPREAD(a) _mm512_broadcast_i32x4(a)
#define V_FIRST(a) _mm512_zextsi128_si512(a)
#define V_BLOCK(a) _mm512_castsi512_si128(a)
static inline __m128i fold(__m512i a) {
  const __m256i b = _mm256_xor_si256(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
  return _mm_xor_si128(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
}
#define V_FOLD(a) fold(a)
#define V_LAST_BYTES(f, i) \
  _mm512_set_epi32(f(i, 3) << 24, 0, 0, 0, f(i, 2) << 24, 0, 0, 0, f(i, 1) << 24, 0, 0, 0, f(i, 0) << 24, 0, 0, 0)
#define V_LANE_NUMBERS _mm512_set_epi32(3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)

#define BACKEND aci_gcm_vaes512
#define BACKEND_NAME "vaes512"
#define BACKEND_FEATURES \
  (ACI_CPU_AES | ACI_CPU_PCLMUL | ACI_CPU_SSSE3 | ACI_CPU_SSE41 | ACI_CPU_AVX2 | ACI_CPU_VAES | ACI_CPU_VPCLMULQDQ | \
   ACI_CPU_AVX512)

#include "ac_gcm_x86.h"

ACI_TARGET_END

#else
typedef int aci_not_empty; /* ISO C wants something in every file */
#endif
