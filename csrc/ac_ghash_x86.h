/* GHASH on x86-64, a part of ac_gcm_x86.h: `layout` and the vectors are defined there. */
#include "ac_internal.h"

/* Sums of products that are not reduced yet: low and high halves, and Karatsuba's middle. */
typedef struct sums {
  vec low, mid, high;
} sums;

ALWAYS_INLINE sums no_sums(void) {
  const vec zero = V_FIRST(_mm_setzero_si128());
  return (sums){zero, zero, zero};
}

/* What the compiler would load twice, or from within an instruction that is slower for it. (MemorySanitizer takes what
 * goes into asm for branched upon.) */
#if defined(__GNUC__) && !defined(ACI_NO_ASM)
#define IN_REGISTER(a) __asm__("" : "+v"(a))
#else
#define IN_REGISTER(a) (void)0
#endif

/* Add x * H^(POWERS - at), and the next lower powers for further lanes. */
ALWAYS_INLINE void add_product(sums *s, const layout *k, size_t at, vec x) {
  vec h = V_LOAD(k->h[at]);
  IN_REGISTER(h);
  s->low = V_XOR(s->low, V_MUL(x, h, 0x00));
  s->high = V_XOR(s->high, V_MUL(x, h, 0x11));
  s->mid = V_XOR(s->mid, V_MUL(V_XOR(x, V_SWAP(x)), V_XOR(h, V_SWAP(h)), 0x00));
}

/* The same for one block, where there is no whole vector. */
ALWAYS_INLINE void add_one_product(sums *s, const layout *k, size_t at, __m128i x) {
  const __m128i h = LOAD(k->h[at]);
  s->low = V_XOR(s->low, V_FIRST(_mm_clmulepi64_si128(x, h, 0x00)));
  s->high = V_XOR(s->high, V_FIRST(_mm_clmulepi64_si128(x, h, 0x11)));
  const __m128i x_sum = _mm_xor_si128(x, _mm_shuffle_epi32(x, 0x4e));
  const __m128i h_sum = _mm_xor_si128(h, _mm_shuffle_epi32(h, 0x4e));
  s->mid = V_XOR(s->mid, V_FIRST(_mm_clmulepi64_si128(x_sum, h_sum, 0x00)));
}

/* Modulo x^128 + x^7 + x^2 + x + 1, the bits being in reverse: fold 64 bits from below into what is above them. */
#define POLY _mm_set_epi64x((long long)0xc200000000000000, 1)
ALWAYS_INLINE __m128i reduce_half_block(__m128i above, __m128i below) {
  above = _mm_xor_si128(above, _mm_shuffle_epi32(below, 0x4e));
  return _mm_xor_si128(above, _mm_clmulepi64_si128(POLY, below, 0x01));
}

ALWAYS_INLINE vec reduce_half(vec above, vec below) {
  return V_XOR3(above, V_SWAP(below), V_MUL(V_SPREAD(POLY), below, 0x01));
}

ALWAYS_INLINE __m128i reduce_sums(const sums *s) {
  const vec mid = V_XOR3(s->mid, s->low, s->high); /* Karatsuba */
  return V_FOLD(reduce_half(s->high, reduce_half(mid, s->low)));
}

/* Add n <= POWERS - at blocks; y joins the first. */
ALWAYS_INLINE void add_blocks(sums *s, const layout *k, size_t at, const uint8_t *in, size_t n, __m128i y) {
  vec first = V_FIRST(y);
  for (; n >= LANES; n -= LANES, at += LANES, in += VEC_BYTES) {
    add_product(s, k, at, V_XOR(V_BYTES(V_LOAD(in), V_SPREAD(TURN)), first));
    first = V_FIRST(_mm_setzero_si128());
  }
  y = V_BLOCK(first);
  for (size_t i = 0; i < n % LANES; i++, in += ACI_BLOCK_BYTES) {
    add_one_product(s, k, at + i, _mm_xor_si128(_mm_shuffle_epi8(LOAD(in), TURN), y));
    y = _mm_setzero_si128();
  }
}

/* Whole blocks. */
ALWAYS_INLINE __m128i ghash_blocks(const layout *k, __m128i y, const uint8_t *in, size_t n) {
  while (n != 0) {
    const size_t part = n < POWERS ? n : POWERS;
    sums s = no_sums();
    add_blocks(&s, k, POWERS - part, in, part, y);
    y = reduce_sums(&s);
    in += ACI_BLOCK_BYTES * part;
    n -= part;
  }
  return y;
}

/* 1 to 15 bytes, filled up with zeros, without a byte read behind them. */
ALWAYS_INLINE __m128i load_partial(const uint8_t *in, size_t len) {
  uint64_t low = 0, high = 0;
  if (len >= 8) {
    memcpy(&low, in, 8);
    if (len > 8) { /* the last eight bytes, without those that are in `low` */
      memcpy(&high, in + len - 8, 8);
      high >>= 8 * (16 - len);
    }
  } else if (len >= 4) {
    uint32_t first, last;
    memcpy(&first, in, 4);
    memcpy(&last, in + len - 4, 4);
    low = first | (uint64_t)last << (8 * (len - 4));
  } else { /* the middle byte is the first or the last where there are fewer than three */
    low = (uint64_t)in[0] | (uint64_t)in[len / 2] << (8 * (len / 2)) | (uint64_t)in[len - 1] << (8 * (len - 1));
  }
  return _mm_set_epi64x((long long)high, (long long)low);
}

ALWAYS_INLINE __m128i ghash_padded(const layout *k, __m128i y, const uint8_t *in, size_t len) {
  y = ghash_blocks(k, y, in, len / ACI_BLOCK_BYTES);
  const size_t rest = len % ACI_BLOCK_BYTES;
  if (rest != 0) {
    sums s = no_sums();
    const __m128i x = _mm_shuffle_epi8(load_partial(in + (len - rest), rest), TURN);
    add_one_product(&s, k, POWERS - 1, _mm_xor_si128(x, y));
    y = reduce_sums(&s);
  }
  return y;
}

/* The first len < 16 bytes of a block, and zeros. */
ALWAYS_INLINE __m128i first_bytes(__m128i a, size_t len) {
  static const uint8_t ones_then_zeros[2 * ACI_BLOCK_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                                               0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  return _mm_and_si128(a, LOAD(ones_then_zeros + ACI_BLOCK_BYTES - len));
}

/* Write 1 to 15 bytes, and none behind them. */
ALWAYS_INLINE void store_partial(uint8_t *out, __m128i a, size_t len) {
  uint64_t low = (uint64_t)_mm_cvtsi128_si64(a), high = (uint64_t)_mm_extract_epi64(a, 1);
  if (len >= 8) {
    memcpy(out, &low, 8);
    if (len > 8) { /* eight bytes that end where the text ends; those before are written twice */
      const unsigned shift = 8 * (unsigned)(16 - len);
      high = high << shift | low >> (64 - shift);
      memcpy(out + len - 8, &high, 8);
    }
  } else if (len >= 4) {
    const uint32_t first = (uint32_t)low, last = (uint32_t)(low >> (8 * (len - 4)));
    memcpy(out, &first, 4);
    memcpy(out + len - 4, &last, 4);
  } else { /* the middle byte is the first or the last where there are fewer than three */
    out[0] = (uint8_t)low;
    out[len / 2] = (uint8_t)(low >> (8 * (len / 2)));
    out[len - 1] = (uint8_t)(low >> (8 * (len - 1)));
  }
}

/* Low half + high half of each power of H for vectors i and i + 1 of a group. */
ALWAYS_INLINE vec sums_of_halves(const layout *k, size_t i) {
  const uint8_t(*h)[ACI_BLOCK_BYTES] = k->h + POWERS - GROUP_BLOCKS + LANES * i;
  const vec x = V_LOAD(h[0]), z = V_LOAD(h[LANES]);
  return V_XOR(V_LOWS(x, z), V_HIGHS(x, z));
}

ALWAYS_INLINE vec turned_vector(const uint8_t *hashed, size_t i) {
  return V_BYTES(V_LOAD(hashed + VEC_BYTES * i), V_SPREAD(TURN));
}

/* Vector i of a group, turned, times its power of H: the low and the high half. */
ALWAYS_INLINE void hash_outer(sums *s, const layout *k, size_t i, vec x) {
  vec h = V_LOAD(k->h[POWERS - GROUP_BLOCKS + LANES * i]);
  IN_REGISTER(h);
  s->low = V_XOR(s->low, V_MUL(x, h, 0x00));
  s->high = V_XOR(s->high, V_MUL(x, h, 0x11));
}

/* Vectors i and i + 1 at once, where registers for both are to spare and a sum of three is one instruction. */
ALWAYS_INLINE void hash_two_outer(sums *s, const layout *k, size_t i, vec x, vec z) {
  vec h = V_LOAD(k->h[POWERS - GROUP_BLOCKS + LANES * i]), g = V_LOAD(k->h[POWERS - GROUP_BLOCKS + LANES * (i + 1)]);
  IN_REGISTER(h);
  IN_REGISTER(g);
  s->low = V_XOR3(s->low, V_MUL(x, h, 0x00), V_MUL(z, g, 0x00));
  s->high = V_XOR3(s->high, V_MUL(x, h, 0x11), V_MUL(z, g, 0x11));
}

ALWAYS_INLINE vec hash_first(sums *s, const layout *k, const uint8_t *hashed, size_t i, __m128i y) {
  const vec x = V_XOR(turned_vector(hashed, i), V_FIRST(y));
  if (LANES < 4) hash_outer(s, k, i, x);
  return x;
}

/* Vector i, and the middle of vectors i - 1 (`before`) and i at once; `half_sums` are those of their powers. */
ALWAYS_INLINE void hash_second(sums *s, const layout *k, const uint8_t *hashed, size_t i, vec before, vec half_sums) {
  const vec x = turned_vector(hashed, i);
  const vec both = V_XOR(V_LOWS(before, x), V_HIGHS(before, x));
  IN_REGISTER(half_sums);
  s->mid = V_XOR3(s->mid, V_MUL(both, half_sums, 0x00), V_MUL(both, half_sums, 0x11));
  if (LANES < 4)
    hash_outer(s, k, i, x);
  else
    hash_two_outer(s, k, i - 1, before, x);
}
