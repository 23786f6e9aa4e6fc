/* Base64 with AVX2, 24 bytes of text's content at a time. What it codes is public. */
#include "ac_internal.h"

#if ACI_X86_64

#include <immintrin.h>

ACI_TARGET_BEGIN("avx2")

/* The same bytes in both lanes. */
#define TWICE(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))

/* Two pieces of memory of 16 bytes, of which 12 count: one for each lane. */
static inline __m256i load_two(const uint8_t *in, size_t step) {
  const __m128i low = _mm_loadu_si128((const __m128i *)(const void *)in);
  const __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(in + step));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

size_t aci_base64_encode_avx2(uint8_t *out, const uint8_t *in, size_t len) {
  /* bytes a b c -> b a c b: two 16-bit numbers, each holding two of the four digits whole */
  const __m256i spread = TWICE(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
  /* what to add to a digit: by 0 for a-z, 1 to 10 for 0-9, 11 for +, 12 for /, 13 for A-Z */
  const __m256i add = TWICE('a' - 26, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52,
                            '0' - 52, '0' - 52, '+' - 62, '/' - 63, 'A', 0, 0);
  size_t done = 0;
  /* 28 bytes are read. What is written ends before what is not read yet, where `in` ends with `out`: there `in` is
   * ahead by a third of what is left. */
  for (; len - done >= 28; done += 24, out += 32) {
    const __m256i x = _mm256_shuffle_epi8(load_two(in + done, 12), spread);
    /* digits 0 and 2 are shifted down by 10 and by 6, digits 1 and 3 up by 4 and by 8, to the low bits of their byte */
    const __m256i even = _mm256_mulhi_epu16(_mm256_and_si256(x, _mm256_set1_epi32(0x0fc0fc00)),
                                            _mm256_set1_epi32(0x04000040));
    const __m256i odd = _mm256_mullo_epi16(_mm256_and_si256(x, _mm256_set1_epi32(0x003f03f0)),
                                           _mm256_set1_epi32(0x01000010));
    const __m256i digit = _mm256_or_si256(even, odd);
    const __m256i capital = _mm256_cmpgt_epi8(_mm256_set1_epi8(26), digit);
    const __m256i kind = _mm256_or_si256(_mm256_subs_epu8(digit, _mm256_set1_epi8(51)),
                                         _mm256_and_si256(capital, _mm256_set1_epi8(13)));
    const __m256i text = _mm256_add_epi8(digit, _mm256_shuffle_epi8(add, kind));
    _mm256_storeu_si256((__m256i *)(void *)out, text);
  }
  return done;
}

size_t aci_base64_decode_avx2(uint8_t *out, const uint8_t *in, size_t len) {
  /* A character is a row (its high four bits) and a column. Rows are of five kinds, a bit for each:
   * 1: + /    2: 0-9    4: @ A-O, ` a-o    8: P-Z, p-z and more    16: nothing of ours */
  const __m256i kinds = TWICE(16, 16, 1, 2, 4, 8, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16);
  /* By column: the kinds of row that have nothing of ours there. */
  const __m256i holes = TWICE(16 + 4 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1,
                              16 + 2 + 1, 16 + 8 + 2, 16 + 8 + 2 + 1, 16 + 8 + 2 + 1, 16 + 8 + 2 + 1, 16 + 8 + 2);
  /* By row: from the character to its digit; '/' is looked up one row above its own. */
  const __m256i add = TWICE(0, 63 - '/', 62 - '+', 52 - '0', -'A', -'A', 26 - 'a', 26 - 'a', 0, 0, 0, 0, 0, 0, 0, 0);
  /* the three bytes of each number, first one first */
  const __m256i pack = TWICE(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
  const __m256i low_four = _mm256_set1_epi8(15);
  size_t done = 0;
  /* 28 bytes are written: at least as many are to come. The last characters, which may be padding, are not looked at. */
  for (; len - done >= 40; done += 32, out += 24) {
    const __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)(in + done));
    const __m256i row = _mm256_and_si256(_mm256_srli_epi32(c, 4), low_four);
    const __m256i kind = _mm256_shuffle_epi8(kinds, row);
    if (!_mm256_testz_si256(kind, _mm256_shuffle_epi8(holes, _mm256_and_si256(c, low_four)))) break;
    const __m256i slash = _mm256_cmpeq_epi8(c, _mm256_set1_epi8('/'));
    const __m256i digit = _mm256_add_epi8(c, _mm256_shuffle_epi8(add, _mm256_add_epi8(row, slash)));
    const __m256i pairs = _mm256_maddubs_epi16(digit, _mm256_set1_epi32(0x01400140)); /* 64 * first + second */
    const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00011000));    /* 4096 * first + second */
    const __m256i bytes = _mm256_shuffle_epi8(fours, pack);
    _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(bytes));
    _mm_storeu_si128((__m128i *)(void *)(out + 12), _mm256_extracti128_si256(bytes, 1));
  }
  return done;
}

ACI_TARGET_END

#else
typedef int aci_not_empty; /* ISO C wants something in every file */
#endif
