/* SHA-256's compression with the instructions of x86 for it (SHA-NI). Four rounds at a time; the two halves of the state
 * are held as the instructions want them, a b e f and c d g h. */
#include "ac_internal.h"

#if ACI_X86_64

#include <immintrin.h>

#define LOAD(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define STORE(p, v) _mm_storeu_si128((__m128i *)(void *)(p), (v))

ACI_TARGET_BEGIN("sha,sse4.1,ssse3")

void aci_sha256_compress_x86(uint32_t state[8], const uint8_t *in, size_t blocks) {
  const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  const __m128i cdab = _mm_shuffle_epi32(LOAD(state), 0xb1), efgh = _mm_shuffle_epi32(LOAD(state + 4), 0x1b);
  __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
  for (; blocks != 0; blocks--, in += ACI_SHA256_BLOCK) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w0 = _mm_shuffle_epi8(LOAD(in), big_endian), w1 = _mm_shuffle_epi8(LOAD(in + 16), big_endian);
    __m128i w2 = _mm_shuffle_epi8(LOAD(in + 32), big_endian), w3 = _mm_shuffle_epi8(LOAD(in + 48), big_endian);
    __m128i t;
#define ROUNDS(i, w)                                       \
  t = _mm_add_epi32(w, LOAD(aci_sha256_k + (i)));          \
  cdgh = _mm_sha256rnds2_epu32(cdgh, abef, t);             \
  abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(t, 0x0e));
/* w(t) = w(t-16) + sigma0(w(t-15)) + w(t-7) + sigma1(w(t-2)): `a` holds the oldest four words, and gets the new ones */
#define NEXT(a, b, c, d) \
  a = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8(d, c, 4)), d);
#define NEXT_ROUNDS(i)                          \
  NEXT(w0, w1, w2, w3) ROUNDS(i, w0)            \
  NEXT(w1, w2, w3, w0) ROUNDS((i) + 4, w1)      \
  NEXT(w2, w3, w0, w1) ROUNDS((i) + 8, w2)      \
  NEXT(w3, w0, w1, w2) ROUNDS((i) + 12, w3)
    ROUNDS(0, w0) ROUNDS(4, w1) ROUNDS(8, w2) ROUNDS(12, w3)
    NEXT_ROUNDS(16) NEXT_ROUNDS(32) NEXT_ROUNDS(48)
#undef ROUNDS
#undef NEXT
#undef NEXT_ROUNDS
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  STORE(state, _mm_blend_epi16(feba, dchg, 0xf0));
  STORE(state + 4, _mm_alignr_epi8(dchg, feba, 8));
}

ACI_TARGET_END

#endif
