/* AES-256-GCM with VAES and VPCLMULQDQ on 256-bit registers (AMD since Zen 3, Intel since Ice Lake). */
#include "ac_internal.h"

#if ACI_X86_64

#include <immintrin.h>

ACI_TARGET_BEGIN("aes,pclmul,sse4.1,avx2,vaes,vpclmulqdq")

#define LANES 2
typedef __m256i vec;

#define V_LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define V_STORE(p, a) _mm256_storeu_si256((__m256i *)(void *)(p), (a))
#define V_XOR(a, b) _mm256_xor_si256((a), (b))
#define V_XOR3(a, b, c) V_XOR(V_XOR((a), (b)), (c))
#define V_ADD32(a, b) _mm256_add_epi32((a), (b))
#define V_BYTES(a, mask) _mm256_shuffle_epi8((a), (mask))
#define V_SWAP(a) _mm256_shuffle_epi32((a), 0x4e)
#define V_LOWS(a, b) _mm256_unpacklo_epi64((a), (b))
#define V_HIGHS(a, b) _mm256_unpackhi_epi64((a), (b))
#define V_MUL(a, b, which) _mm256_clmulepi64_epi128((a), (b), (which))
#define V_ROUND(a, key) _mm256_aesenc_epi128((a), (key))
#define V_LAST(a, key) _mm256_aesenclast_epi128((a), (key))
#define V_SPREAD(a) _mm256_broadcastsi128_si256(a)
#define V_FIRST(a) _mm256_inserti128_si256(_mm256_setzero_si256(), (a), 0)
#define V_FOLD(a) _mm_xor_si128(_mm256_castsi256_si128(a), _mm256_extracti128_si256((a), 1))
#define V_BLOCK(a) _mm256_castsi256_si128(a)
#define V_LAST_BYTES(f, i) _mm256_set_epi32(f(i, 1) << 24, 0, 0, 0, f(i, 0) << 24, 0, 0, 0)
#define V_LANE_NUMBERS _mm256_set_epi32(1, 0, 0, 0, 0, 0, 0, 0)

#define BACKEND aci_gcm_vaes
#define BACKEND_NAME "vaes"
#define BACKEND_FEATURES \
  (ACI_CPU_AES | ACI_CPU_PCLMUL | ACI_CPU_SSSE3 | ACI_CPU_SSE41 | ACI_CPU_AVX2 | ACI_CPU_VAES | ACI_CPU_VPCLMULQDQ)

#include "ac_gcm_x86.h"

ACI_TARGET_END

#else
typedef int aci_not_empty; /* ISO C wants something in every file */
#endif
