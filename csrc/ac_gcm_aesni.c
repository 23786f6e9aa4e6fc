/* AES-256-GCM with AES-NI and PCLMULQDQ on 128-bit registers: nearly every x86-64 CPU since 2011. */
#include "ac_internal.h"

#if ACI_X86_64

#include <immintrin.h>

ACI_TARGET_BEGIN("aes,pclmul,sse4.1")

#define LANES 1
typedef __m128i vec;

#define V_LOAD(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define V_STORE(p, a) _mm_storeu_si128((__m128i *)(void *)(p), (a))
#define V_XOR(a, b) _mm_xor_si128((a), (b))
#define V_XOR3(a, b, c) V_XOR(V_XOR((a), (b)), (c))
#define V_ADD32(a, b) _mm_add_epi32((a), (b))
#define V_BYTES(a, mask) _mm_shuffle_epi8((a), (mask))
#define V_SWAP(a) _mm_shuffle_epi32((a), 0x4e)
#define V_LOWS(a, b) _mm_unpacklo_epi64((a), (b))
#define V_HIGHS(a, b) _mm_unpackhi_epi64((a), (b))
#define V_MUL(a, b, which) _mm_clmulepi64_si128((a), (b), (which))
#define V_ROUND(a, key) _mm_aesenc_si128((a), (key))
#define V_LAST(a, key) _mm_aesenclast_si128((a), (key))
#define V_SPREAD(a) (a)
#define V_FIRST(a) (a)
#define V_FOLD(a) (a)
#define V_BLOCK(a) (a)
#define V_LAST_BYTES(f, i) _mm_set_epi32(f(i, 0) << 24, 0, 0, 0)
#define V_LANE_NUMBERS _mm_setzero_si128()

#define BACKEND aci_gcm_aesni
#define BACKEND_NAME "aesni"
#define BACKEND_FEATURES (ACI_CPU_AES | ACI_CPU_PCLMUL | ACI_CPU_SSSE3 | ACI_CPU_SSE41)

#include "ac_gcm_x86.h"

ACI_TARGET_END

#else
typedef int aci_not_empty; /* ISO C wants something in every file */
#endif
