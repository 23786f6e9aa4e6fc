/* Base64 with AVX2: 24 bytes to 32 characters at a time. What it codes is public.
 * The last vector ends where the message ends and overlaps the one before it: no rest is left for a loop over bytes,
 * and nothing is touched but the message. One too short for a whole vector is two halves that overlap. */
#include "ac_internal.h"

#if ACI_X86_64

#include <immintrin.h>

ACI_TARGET_BEGIN("avx2")

/* The same bytes in both halves, as one constant: the compiler would build a broadcast anew in every call. */
#define TWICE(...) _mm256_setr_epi8(__VA_ARGS__, __VA_ARGS__)
#define BYTES(b) _mm256_set1_epi8((char)(b))

static inline __m128i load8(const uint8_t *p) { return _mm_loadl_epi64((const __m128i *)(const void *)p); }
static inline __m128i load16(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
static inline __m256i load32(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
static inline void store8(uint8_t *p, __m128i a) { _mm_storel_epi64((__m128i *)(void *)p, a); }
static inline void store16(uint8_t *p, __m128i a) { _mm_storeu_si128((__m128i *)(void *)p, a); }
static inline void store32(uint8_t *p, __m256i a) { _mm256_storeu_si256((__m256i *)(void *)p, a); }

static inline __m128i load12(const uint8_t *p) {
  int32_t last;
  memcpy(&last, p + 8, 4);
  return _mm_insert_epi32(load8(p), last, 2);
}

static inline void store12(uint8_t *p, __m128i a) {
  const int32_t last = _mm_extract_epi32(a, 2);
  store8(p, a);
  memcpy(p + 8, &last, 4);
}

static inline __m256i halves(__m128i low, __m128i high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

static inline __m128i low_half(__m256i a) { return _mm256_castsi256_si128(a); }
static inline __m128i high_half(__m256i a) { return _mm256_extracti128_si256(a, 1); }

/* From '=' to 'A', which stands for zero, in the last `pads` bytes, two at most. */
static inline __m256i pad_distance(size_t pads) {
  static const uint8_t distance[32 + 2] = {[32] = 'A' - '=', [33] = 'A' - '='};
  return load32(distance + pads);
}

/* ---- encode ---- */

/* For _mm256_shuffle_epi8: three bytes a b c to b a c b, in which each 16-bit number holds two digits whole.
 * 0x70 changes nothing by itself; with it, the index of what lies behind the 16th byte has bit 7 set, which gives 0. */
#define SPREAD(i) 0x70 + (i) + 1, 0x70 + (i), 0x70 + (i) + 2, 0x70 + (i) + 1
#define SPREAD_FROM(i) SPREAD(i), SPREAD((i) + 3), SPREAD((i) + 6), SPREAD((i) + 9)

static inline __m256i to_text(__m256i bytes, __m256i spread) {
  const __m256i x = _mm256_shuffle_epi8(bytes, spread);
  /* each digit to the low bits of its byte: the first and third go right by 10 and 6, the others left by 4 and 8 */
  const __m256i right = _mm256_mulhi_epu16(_mm256_and_si256(x, _mm256_set1_epi32(0x0fc0fc00)),
                                           _mm256_set1_epi32(0x04000040));
  const __m256i left = _mm256_mullo_epi16(_mm256_and_si256(x, _mm256_set1_epi32(0x003f03f0)),
                                          _mm256_set1_epi32(0x01000010));
  const __m256i digit = _mm256_or_si256(right, left);
  /* 0: A to Z; 1: a to z; 2 to 11: 0 to 9; 12: +; 13: / */
  const __m256i kind = _mm256_sub_epi8(_mm256_subs_epu8(digit, BYTES(51)), _mm256_cmpgt_epi8(digit, BYTES(25)));
  const __m256i distance = TWICE('A', 'a' - 26, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52,
                                 '0' - 52, '0' - 52, '0' - 52, '+' - 62, '/' - 63, 0, 0);
  return _mm256_add_epi8(digit, _mm256_shuffle_epi8(distance, kind));
}

void aci_base64_encode_avx2(uint8_t *out, const uint8_t *in, size_t len) {
  const size_t text_len = (len + 2) / 3 * 4, pads = text_len / 4 * 3 - len;
  const __m256i pad = pad_distance(pads);
  if (len < 24) {
    const __m256i spread = TWICE(SPREAD_FROM(0)), later = halves(_mm_setzero_si128(), low_half(BYTES(pads)));
    const __m256i both = halves(load12(in), load12(in + len - 12));
    const __m256i text = _mm256_sub_epi8(to_text(both, _mm256_add_epi8(spread, later)), pad);
    store16(out, low_half(text));
    store16(out + text_len - 16, high_half(text));
    return;
  }
  /* A vector reads its 24 bytes and no more: the high half gets its 12 as the last ones of 16. In place, `in` is ahead
   * by a third of what is left, so no unread byte is written over. The last vector reads some bytes again: it reads
   * before the others write. */
  const __m256i spread = _mm256_setr_epi8(SPREAD_FROM(0), SPREAD_FROM(4));
  const uint8_t *const last_in = in + len - 24;
  uint8_t *const last_out = out + text_len - 32;
  const __m256i last = halves(load16(last_in), load16(last_in + 8));
  for (; in < last_in; in += 24, out += 32) store32(out, to_text(halves(load16(in), load16(in + 8)), spread));
  store32(last_out, _mm256_sub_epi8(to_text(last, _mm256_add_epi8(spread, BYTES(pads))), pad));
}

/* ---- decode ---- */

/* Each four characters to a number of 24 bits. What is not in the alphabet leaves a bit in *bad. */
static inline __m256i from_text(__m256i text, __m256i *bad) {
  /* By row, which is the high four bits, one bit for each sort of row:
   * 1: + and /    2: 0 to 9    4: A to O or a to o    8: P to Z or p to z    16: nothing of ours */
  const __m256i sorts = TWICE(16, 16, 1, 2, 4, 8, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16);
  /* By column, which is the low four bits: the sorts of row in which that place is not ours. */
  const __m256i holes = TWICE(16 + 4 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1, 16 + 1,
                              16 + 2 + 1, 16 + 8 + 2, 16 + 8 + 2 + 1, 16 + 8 + 2 + 1, 16 + 8 + 2 + 1, 16 + 8 + 2);
  /* By row, from the character to its digit. The slash takes the place of row 1, where nothing is. */
  const __m256i distance = TWICE(0, 63 - '/', 62 - '+', 52 - '0', -'A', -'A', 26 - 'a', 26 - 'a',
                                 0, 0, 0, 0, 0, 0, 0, 0);
  const __m256i row = _mm256_and_si256(_mm256_srli_epi32(text, 4), BYTES(15));
  const __m256i column = _mm256_and_si256(text, BYTES(15));
  const __m256i hole = _mm256_and_si256(_mm256_shuffle_epi8(sorts, row), _mm256_shuffle_epi8(holes, column));
  *bad = _mm256_or_si256(*bad, hole);
  const __m256i slash = _mm256_cmpeq_epi8(text, BYTES('/'));
  const __m256i digit = _mm256_add_epi8(text, _mm256_shuffle_epi8(distance, _mm256_add_epi8(row, slash)));
  const __m256i twelve_bits = _mm256_maddubs_epi16(digit, _mm256_set1_epi32(0x01400140)); /* 64 * first + second */
  return _mm256_madd_epi16(twelve_bits, _mm256_set1_epi32(0x00011000));                   /* 4096 * first + second */
}

/* The bytes of the numbers, highest first, in the first 12 bytes of each half. */
static inline __m256i pack(__m256i numbers) {
  return _mm256_shuffle_epi8(numbers, TWICE(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1));
}

static inline void store24(uint8_t *p, __m256i packed) {
  const __m256i joined = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7));
  store16(p, low_half(joined));
  store8(p + 16, high_half(joined));
}

int aci_base64_decode_avx2(uint8_t *out, size_t *out_len, const uint8_t *in, size_t len) {
  /* a '=' with something else behind it is counted too, but stays what it is, and is bad */
  const size_t room = len / 4 * 3, pads = (size_t)(in[len - 1] == '=') + (in[len - 2] == '=');
  const __m256i pad = pad_distance(pads);
  __m256i bad = _mm256_setzero_si256(), numbers;
  if (len < 32) {
    numbers = from_text(_mm256_add_epi8(halves(load16(in), load16(in + len - 16)), pad), &bad);
    const __m256i packed = pack(numbers);
    store12(out, low_half(packed));
    store12(out + room - 12, high_half(packed));
  } else {
    const uint8_t *const last_in = in + len - 32;
    uint8_t *const last_out = out + room - 24;
    for (; last_in - in >= 8; in += 32, out += 24) { /* 28 bytes are written, 30 and more are to come */
      const __m256i packed = pack(from_text(load32(in), &bad));
      store16(out, low_half(packed));
      store16(out + 12, high_half(packed));
    }
    if (in < last_in) store24(out, pack(from_text(load32(in), &bad)));
    numbers = from_text(_mm256_add_epi8(load32(last_in), pad), &bad);
    store24(last_out, pack(numbers));
  }
  /* The spare bits came out as bytes where there is padding. */
  const uint32_t spare = (uint32_t)_mm256_extract_epi32(numbers, 7) & ((UINT32_C(1) << 8 * pads) - 1);
  if (!_mm256_testz_si256(bad, bad) || spare != 0) return AC_ERR_FORMAT;
  *out_len = room - pads;
  return AC_OK;
}

ACI_TARGET_END

#else
typedef int aci_not_empty; /* ISO C wants something in every file */
#endif
