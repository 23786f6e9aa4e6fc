/*
 * AES-256-GCM on x86-64: one text for every width of register. A file that includes it has defined
 *   LANES                         blocks in a vector
 *   vec                           the vector's type
 *   V_LOAD V_STORE V_XOR V_ADD32  on unaligned memory, lane by lane
 *   V_XOR3(a, b, c)               the sum of three
 *   V_BYTES(a, mask)              shuffle the bytes of each lane
 *   V_SWAP(a)                     swap the 64-bit halves of each lane
 *   V_LOWS V_HIGHS(a, b)          the low, the high halves of a's lanes and b's, side by side
 *   V_MUL(a, b, which)            carry-less multiply of the halves that `which` names, in each lane
 *   V_ROUND V_LAST(a, key)        an AES round, the last one
 *   V_SPREAD(a)                   a block to every lane
 *   V_FIRST(a)                    a block to the first lane, zero to the others
 *   V_LANE_NUMBERS                0, 1, ... in the first 32 bits of each lane
 *   V_LAST_BYTES(f, i)            f(i, lane) in the last byte of each lane, zero elsewhere
 *   V_FOLD(a)                     the sum of the lanes
 *   V_BLOCK(a)                    the first lane
 *   BACKEND, BACKEND_NAME, BACKEND_FEATURES
 * and has set the target of its functions.
 *
 * AES: eight vectors of counter blocks are in flight, which is what it takes to keep two AES units with a latency of
 * four cycles busy. GHASH is stitched in: while a group of 8 * LANES blocks is being encrypted, another group is
 * hashed, one vector after each round; sealing hashes the group before, opening the one that it is about to decrypt.
 *
 * GHASH: blocks are multiplied by descending powers of H and summed, with one reduction at the end. H is kept as H * x
 * with its bits in the CPU's order, so that the product needs no shift (Gueron and Kounavis, "Intel Carry-Less
 * Multiplication Instruction and its Usage for Computing the GCM Mode", section on the reflected representation).
 * Multiplication is Karatsuba's; for the stitched groups the sums of the halves of H^i are at hand, too.
 *
 * What the compiler spills is as good as the key: the entry points at the end wipe the stack that the work has used.
 */
#include "ac_internal.h"

enum {
  POWERS = LANES < 4 ? 32 : 34, /* of H that are kept: enough for one reduction where no group is whole */
  GROUP_BLOCKS = 8 * LANES,
  GROUP_BYTES = ACI_BLOCK_BYTES * GROUP_BLOCKS,
  VEC_BYTES = ACI_BLOCK_BYTES * LANES,
  SHORT_BYTES = ACI_BLOCK_BYTES * (POWERS - 2) /* hashed at once, with the block of lengths: no stitching */
};

/* What is wiped of the stack after the work, and how far below its upper end the work begins: the frame of burn_stack()
 * holds more than what it wipes (where it returns to, a canary, room for alignment). It is more than the work uses, where
 * the compiler optimises; clang uses more than gcc. */
enum { GAP_BYTES = 128 };
#if defined(__SANITIZE_ADDRESS__)
enum { STACK_BYTES = 4096 };
#define ACI_PLAIN_STACK __attribute__((no_sanitize_address)) /* without gaps that would not be wiped */
#else
#define ACI_PLAIN_STACK
#if defined(__GNUC__) && !defined(__clang__)
enum { STACK_BYTES = LANES == 1 ? 1024 : 1088 };
#else
enum { STACK_BYTES = LANES == 1 ? 1024 : LANES == 2 ? 1344 : 1792 };
#endif
#endif

typedef struct layout {
  uint8_t round_keys[ACI_AES_ROUND_KEYS][ACI_BLOCK_BYTES];
  uint8_t h[POWERS][ACI_BLOCK_BYTES]; /* H^POWERS first: what hashes n blocks begins at h[POWERS - n] */
#if LANES < 4
  uint8_t group_sums[4][VEC_BYTES]; /* for the vectors of a group, two by two: low half + high half of each */
#endif
} layout;
#if LANES < 4
#define HALF_SUMS(k, i) V_LOAD((k)->group_sums[i])
#else /* made once a message: there is no room for them in a key */
#define HALF_SUMS(k, i) sums_of_halves((k), 2 * (i))
#endif

_Static_assert(SHORT_BYTES >= GROUP_BYTES, "what is longer has a whole group, and what a group leaves over is short");
_Static_assert(sizeof(layout) <= sizeof(uint64_t[ACI_GCM_WORDS]), "the key fits its place");

#define LOAD(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define STORE(p, a) _mm_storeu_si128((__m128i *)(void *)(p), (a))

/* Between the order of bytes on the wire and that of the multiplier. */
#define TURN _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
/* Only the last four bytes of a counter block count. */
#define TURN_COUNTER _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)

#define EACH_OF_4(M) M(0) M(1) M(2) M(3)
#define EACH_OF_8(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)

/* gcc reorders rounds and loads until it runs out of registers, and keeps copies of round keys on the stack, unless
 * their order is pinned. clang keeps it, and spills where it is pinned. */
#if defined(__GNUC__) && !defined(__clang__)
#define PIN_BLOCKS "+v"(b0), "+v"(b1), "+v"(b2), "+v"(b3), "+v"(b4), "+v"(b5), "+v"(b6), "+v"(b7)
#define PIN __asm__ volatile("" : PIN_BLOCKS, "+v"(s.low), "+v"(s.mid), "+v"(s.high) : : "memory")
#else
#define PIN (void)0
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define ALWAYS_INLINE static __forceinline
#else
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#endif

#include "ac_ghash_x86.h"

/* ---- AES in counter mode ---- */

/* The next counter blocks, one in each lane, in the CPU's order. */
ALWAYS_INLINE vec first_counters(const uint8_t nonce[AC_NONCE_BYTES], uint32_t counter) {
  uint64_t low;
  uint32_t high;
  memcpy(&low, nonce, sizeof low);
  memcpy(&high, nonce + sizeof low, sizeof high);
  const __m128i block = _mm_set_epi64x((long long)((uint64_t)counter << 32 | high), (long long)low);
  return V_ADD32(V_SPREAD(block), V_LANE_NUMBERS);
}

/* Add the next group of counter blocks, encrypted, to `in`. `hashed`: a group of blocks to hash, starting from *y, or
 * NULL. `half_sums`: see layout. `out` may be `in` and `hashed`. */
ALWAYS_INLINE void crypt_group(const layout *k, vec *c, uint8_t *out, const uint8_t *in, const uint8_t *hashed,
                               __m128i *y, const vec half_sums[4]) {
  const vec turn = V_SPREAD(TURN_COUNTER);
  const __m128i none = _mm_setzero_si128();
  vec key = V_SPREAD(LOAD(k->round_keys[0])), b0, b1, b2, b3, b4, b5, b6, b7, x = V_FIRST(none);
  sums s = no_sums();

  /* The first counter of a group is 2 modulo GROUP_BLOCKS: but for the last vectors nothing is carried out of the lowest
   * bits, and each differs from the first vector in bits that are always the same. */
  b0 = V_XOR(V_BYTES(*c, turn), key);
#define STEP(i, lane) ((2 + (lane)) ^ (2 + (lane) + LANES * (i)))
#define NEXT(i) b##i = V_XOR(b0, V_LAST_BYTES(STEP, i));
#define CARRIED(i) b##i = V_XOR(V_BYTES(V_ADD32(*c, V_SPREAD(_mm_set_epi32(LANES * (i), 0, 0, 0))), turn), key);
  NEXT(1) NEXT(2) NEXT(3) NEXT(4) NEXT(5)
#if LANES > 1
  NEXT(6)
#else
  CARRIED(6)
#endif
  CARRIED(7)
#undef STEP
#undef NEXT
#undef CARRIED
  *c = V_ADD32(*c, V_SPREAD(_mm_set_epi32(GROUP_BLOCKS, 0, 0, 0)));

#define ENCRYPT(i) b##i = V_ROUND(b##i, key);
#define ROUND(r)                          \
  key = V_SPREAD(LOAD(k->round_keys[r])); \
  EACH_OF_8(ENCRYPT)                      \
  PIN;
#define WITH_HASH(r, work) \
  ROUND(r)                 \
  if (hashed != NULL) work;
  /* The first vectors, which the sum of the group before joins, come last: that sum may still be on its way. */
  WITH_HASH(1, x = hash_first(&s, k, hashed, 2, none))
  WITH_HASH(2, hash_second(&s, k, hashed, 3, x, half_sums[1]))
  WITH_HASH(3, x = hash_first(&s, k, hashed, 4, none))
  WITH_HASH(4, hash_second(&s, k, hashed, 5, x, half_sums[2]))
  WITH_HASH(5, x = hash_first(&s, k, hashed, 6, none))
  WITH_HASH(6, hash_second(&s, k, hashed, 7, x, half_sums[3]))
  WITH_HASH(7, x = hash_first(&s, k, hashed, 0, *y))
  WITH_HASH(8, hash_second(&s, k, hashed, 1, x, half_sums[0]))
  WITH_HASH(9, s.mid = V_XOR3(s.mid, s.low, s.high)) /* Karatsuba */
  WITH_HASH(10, s.mid = reduce_half(s.mid, s.low))
  WITH_HASH(11, s.high = reduce_half(s.high, s.mid))
  WITH_HASH(12, *y = V_FOLD(s.high))
  ROUND(13)
#undef WITH_HASH
#undef ROUND
#undef ENCRYPT

  key = V_SPREAD(LOAD(k->round_keys[14]));
#define LAST(i) \
  V_STORE(out + VEC_BYTES * (i), V_LAST(b##i, V_XOR(key, V_LOAD(in + VEC_BYTES * (i)))));
  EACH_OF_8(LAST)
#undef LAST
}

/* What the compiler would otherwise leave out. (Where there is no asm to be had, a function that the compiler cannot see is
 * given all of it. The search of the stack defines ACI_OTHER_COMPILER to try that form.) */
#if defined(__GNUC__) && !defined(ACI_OTHER_COMPILER)
#define HOLD(bytes) __asm__ volatile("" : : "r"(bytes) : "memory")
#else
#define HOLD(bytes) aci_wipe((bytes), sizeof(bytes))
#endif

/* What the compiler has spilled lies on the stack of who called this. */
static ACI_NOINLINE ACI_PLAIN_STACK void burn_stack(void) {
  uint8_t used[STACK_BYTES];
#if defined(ACI_STACK_CHECK)
  if (aci_leaves_stack(used, sizeof used)) return;
#endif
  for (size_t i = 0; i < sizeof used; i += VEC_BYTES) V_STORE(used + i, V_FIRST(_mm_setzero_si128()));
  HOLD(used);
}

/* One vector of key stream. The CPU works on several at once, as they do not depend on one another. */
ALWAYS_INLINE vec next_stream(const layout *k, vec *c) {
  vec b = V_XOR(V_BYTES(*c, V_SPREAD(TURN_COUNTER)), V_SPREAD(LOAD(k->round_keys[0])));
  *c = V_ADD32(*c, V_SPREAD(_mm_set_epi32(LANES, 0, 0, 0)));
  for (size_t r = 1; r < 14; r++) b = V_ROUND(b, V_SPREAD(LOAD(k->round_keys[r])));
  return V_LAST(b, V_SPREAD(LOAD(k->round_keys[14])));
}

/* Several vectors of text, and then their hash: with one at a time the CPU would wait for each to go through the rounds. */
#define CRYPT_SEVERAL(name, each, blocks)                                                                          \
  ALWAYS_INLINE void name(const layout *k, vec *c, sums *s, size_t at, vec y, uint8_t *out, const uint8_t *in, \
                          int sealing) {                                                                           \
    const vec turn = V_SPREAD(TURN), turn_counter = V_SPREAD(TURN_COUNTER);                                        \
    vec key = V_SPREAD(LOAD(k->round_keys[0])), blocks;                                                            \
    each(SEVERAL_FIRST)                                                                                            \
    for (size_t r = 1; r < 14; r++) {                                                                              \
      key = V_SPREAD(LOAD(k->round_keys[r]));                                                                      \
      each(SEVERAL_ROUND)                                                                                          \
    }                                                                                                              \
    key = V_SPREAD(LOAD(k->round_keys[14]));                                                                       \
    each(SEVERAL_LAST)                                                                                             \
  }
#define SEVERAL_FIRST(i)                               \
  b##i = V_XOR(V_BYTES(*c, turn_counter), key); \
  *c = V_ADD32(*c, V_SPREAD(_mm_set_epi32(LANES, 0, 0, 0)));
#define SEVERAL_ROUND(i) b##i = V_ROUND(b##i, key);
#define SEVERAL_LAST(i)                                                            \
  {                                                                                \
    const vec x = V_LOAD(in + VEC_BYTES * (i)), z = V_XOR(x, V_LAST(b##i, key));   \
    V_STORE(out + VEC_BYTES * (i), z);                                             \
    add_product(s, k, at + LANES * (i), V_XOR(V_BYTES(sealing ? z : x, turn), y)); \
    y = V_FIRST(_mm_setzero_si128());                                              \
  }
#define BLOCKS_4 b0, b1, b2, b3
#define BLOCKS_8 b0, b1, b2, b3, b4, b5, b6, b7
CRYPT_SEVERAL(crypt_eight, EACH_OF_8, BLOCKS_8)
CRYPT_SEVERAL(crypt_four, EACH_OF_4, BLOCKS_4)

/* The last len <= SHORT_BYTES bytes, and the block of lengths: all in registers, with one reduction. */
ALWAYS_INLINE __m128i crypt_rest(const layout *k, vec *c, __m128i y, uint8_t *out, const uint8_t *in, size_t len,
                                 __m128i lengths, int sealing) {
  const vec turn = V_SPREAD(TURN);
  size_t at = POWERS - 1 - (len + ACI_BLOCK_BYTES - 1) / ACI_BLOCK_BYTES; /* the place of the power of the next block */
  vec before = V_FIRST(y), stream_of_tail = before;
  sums s = no_sums();
  if (len % VEC_BYTES != 0) { /* first of all, as it would be waited for at the end */
    vec tail = V_ADD32(*c, V_SPREAD(_mm_set_epi32((int)(len / VEC_BYTES * LANES), 0, 0, 0)));
    stream_of_tail = next_stream(k, &tail);
  }
  for (; len >= 8 * VEC_BYTES; in += 8 * VEC_BYTES, out += 8 * VEC_BYTES, len -= 8 * VEC_BYTES, at += 8 * LANES) {
    crypt_eight(k, c, &s, at, before, out, in, sealing);
    before = V_FIRST(_mm_setzero_si128());
  }
  for (; len >= 4 * VEC_BYTES; in += 4 * VEC_BYTES, out += 4 * VEC_BYTES, len -= 4 * VEC_BYTES, at += 4 * LANES) {
    crypt_four(k, c, &s, at, before, out, in, sealing);
    before = V_FIRST(_mm_setzero_si128());
  }
  for (; len >= VEC_BYTES; in += VEC_BYTES, out += VEC_BYTES, len -= VEC_BYTES, at += LANES) {
    const vec x = V_LOAD(in), z = V_XOR(x, next_stream(k, c));
    V_STORE(out, z);
    add_product(&s, k, at, V_XOR(V_BYTES(sealing ? z : x, turn), before));
    before = V_FIRST(_mm_setzero_si128());
  }
  y = V_BLOCK(before);
  if (len != 0) {
    uint8_t stream[VEC_BYTES];
    const uint8_t *p = stream;
    V_STORE(stream, stream_of_tail);
    for (; len >= ACI_BLOCK_BYTES; in += ACI_BLOCK_BYTES, out += ACI_BLOCK_BYTES, p += ACI_BLOCK_BYTES,
                                   len -= ACI_BLOCK_BYTES) {
      const __m128i x = LOAD(in), z = _mm_xor_si128(x, LOAD(p));
      STORE(out, z);
      add_one_product(&s, k, at++, _mm_xor_si128(_mm_shuffle_epi8(sealing ? z : x, TURN), y));
      y = _mm_setzero_si128();
    }
    if (len != 0) {
      const __m128i x = load_partial(in, len), z = first_bytes(_mm_xor_si128(x, LOAD(p)), len);
      store_partial(out, z, len);
      add_one_product(&s, k, at++, _mm_xor_si128(_mm_shuffle_epi8(sealing ? z : x, TURN), y));
      y = _mm_setzero_si128();
    }
  }
  add_one_product(&s, k, at, _mm_xor_si128(lengths, y));
  return reduce_sums(&s);
}

/* Encrypt or decrypt `len` bytes, and give the tag that belongs to them. */
ALWAYS_INLINE __m128i crypt(const layout *k, uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES], const uint8_t *in,
                            size_t len, const uint8_t *aad, size_t aad_len, int sealing) {
  const __m128i lengths = _mm_set_epi64x((long long)((uint64_t)aad_len * 8), (long long)((uint64_t)len * 8));
  vec c = first_counters(nonce, 1);
  const vec mask = next_stream(k, &c);
  __m128i y = _mm_setzero_si128();
  c = first_counters(nonce, 2);
  if (aad_len != 0) y = ghash_padded(k, y, aad, aad_len);
  if (len > SHORT_BYTES) {
    vec half_sums[4];
    for (size_t i = 0; i < 4; i++) half_sums[i] = HALF_SUMS(k, i);
    if (sealing) { /* one group ahead of its hash */
      crypt_group(k, &c, out, in, NULL, NULL, half_sums);
      for (;;) {
        out += GROUP_BYTES;
        in += GROUP_BYTES;
        len -= GROUP_BYTES;
        if (len < GROUP_BYTES) break;
        crypt_group(k, &c, out, in, out - GROUP_BYTES, &y, half_sums);
      }
      y = ghash_blocks(k, y, out - GROUP_BYTES, GROUP_BLOCKS);
    } else {
      for (; len >= GROUP_BYTES; out += GROUP_BYTES, in += GROUP_BYTES, len -= GROUP_BYTES)
        crypt_group(k, &c, out, in, in, &y, half_sums);
    }
  }
  y = crypt_rest(k, &c, y, out, in, len, lengths, sealing);
  return _mm_xor_si128(_mm_shuffle_epi8(y, TURN), V_BLOCK(mask));
}

/* ---- keys ---- */

/* Four copies of SubWord(word 3 of a), rotated first or not: AESENCLAST on a block of four equal columns leaves
 * ShiftRows without effect. */
#define SUB_ROTATED(a, rcon) \
  _mm_aesenclast_si128(_mm_shuffle_epi8((a), _mm_set1_epi32(0x0c0f0e0d)), _mm_set1_epi32(rcon))
#define SUB_PLAIN(a) _mm_aesenclast_si128(_mm_shuffle_epi8((a), _mm_set1_epi32(0x0f0e0d0c)), _mm_setzero_si128())

/* Each word plus all words before it, plus t. */
ALWAYS_INLINE __m128i next_key(__m128i a, __m128i t) {
  a = _mm_xor_si128(a, _mm_slli_si128(a, 4));
  a = _mm_xor_si128(a, _mm_slli_si128(a, 8));
  return _mm_xor_si128(a, t);
}

ALWAYS_INLINE __m128i multiply(__m128i a, __m128i b) {
  const __m128i low = _mm_clmulepi64_si128(a, b, 0x00), high = _mm_clmulepi64_si128(a, b, 0x11);
  const __m128i a_sum = _mm_xor_si128(a, _mm_shuffle_epi32(a, 0x4e));
  const __m128i b_sum = _mm_xor_si128(b, _mm_shuffle_epi32(b, 0x4e));
  const __m128i mid = _mm_xor_si128(_mm_clmulepi64_si128(a_sum, b_sum, 0x00), _mm_xor_si128(low, high));
  return reduce_half_block(high, reduce_half_block(mid, low));
}

static ACI_NOINLINE void init_inside(layout *k, const uint8_t key[AC_KEY_BYTES]) {
  __m128i a = LOAD(key), b = LOAD(key + 16), h, power[POWERS + 1];
  STORE(k->round_keys[0], a);
  STORE(k->round_keys[1], b);
#define TWO_KEYS(i, rcon)                       \
  a = next_key(a, SUB_ROTATED(b, rcon));        \
  STORE(k->round_keys[i], a);                   \
  b = next_key(b, SUB_PLAIN(a));                \
  STORE(k->round_keys[(i) + 1], b);
  TWO_KEYS(2, 0x01) TWO_KEYS(4, 0x02) TWO_KEYS(6, 0x04)
  TWO_KEYS(8, 0x08) TWO_KEYS(10, 0x10) TWO_KEYS(12, 0x20)
#undef TWO_KEYS
  a = next_key(a, SUB_ROTATED(b, 0x40));
  STORE(k->round_keys[14], a);

  /* H = AES(0), turned, times x */
  h = LOAD(k->round_keys[0]);
  for (size_t i = 1; i < 14; i++) h = _mm_aesenc_si128(h, LOAD(k->round_keys[i]));
  h = _mm_shuffle_epi8(_mm_aesenclast_si128(h, LOAD(k->round_keys[14])), TURN);
  const __m128i top = _mm_srai_epi32(_mm_shuffle_epi32(h, 0xd3), 31); /* where bits are carried out */
  const __m128i carry = _mm_and_si128(top, _mm_set_epi32((int)0xc2000000, 1, 0, 1));
  power[1] = _mm_xor_si128(_mm_add_epi64(h, h), carry);
  for (size_t i = 2; i <= POWERS; i++) power[i] = multiply(power[i / 2], power[i - i / 2]);
  for (size_t i = 1; i <= POWERS; i++) STORE(k->h[POWERS - i], power[i]);
#if LANES < 4
  for (size_t i = 0; i < 8; i += 2) V_STORE(k->group_sums[i / 2], sums_of_halves(k, i));
#endif
}

/* ---- the backend ---- */

static ACI_NOINLINE void seal_inside(const layout *k, uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES],
                                     const uint8_t *plaintext, size_t plaintext_len, const uint8_t *aad,
                                     size_t aad_len) {
  STORE(out + plaintext_len, crypt(k, out, nonce, plaintext, plaintext_len, aad, aad_len, 1));
}

/* 1 if the tag holds. */
static ACI_NOINLINE int open_inside(const layout *k, uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES],
                                    const uint8_t *sealed, size_t len, const uint8_t *aad, size_t aad_len) {
  const __m128i claimed = LOAD(sealed + len); /* before `out`, which may be `sealed`, is written */
  const __m128i differ = _mm_xor_si128(crypt(k, out, nonce, sealed, len, aad, aad_len, 0), claimed);
  /* not PTEST: MemorySanitizer takes that for a branch */
  return (_mm_cvtsi128_si64(differ) | _mm_cvtsi128_si64(_mm_unpackhi_epi64(differ, differ))) == 0;
}

/* The same, GAP_BYTES further down. */
static ACI_NOINLINE void init_below(layout *k, const uint8_t key[AC_KEY_BYTES]) {
  uint8_t gap[GAP_BYTES];
  HOLD(gap);
  init_inside(k, key);
  HOLD(gap);
}

static ACI_NOINLINE void seal_below(const layout *k, uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES],
                                    const uint8_t *plaintext, size_t plaintext_len, const uint8_t *aad,
                                    size_t aad_len) {
  uint8_t gap[GAP_BYTES];
  HOLD(gap);
  seal_inside(k, out, nonce, plaintext, plaintext_len, aad, aad_len);
  HOLD(gap);
}

static ACI_NOINLINE int open_below(const layout *k, uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES],
                                   const uint8_t *sealed, size_t len, const uint8_t *aad, size_t aad_len) {
  uint8_t gap[GAP_BYTES];
  HOLD(gap);
  const int good = open_inside(k, out, nonce, sealed, len, aad, aad_len);
  HOLD(gap);
  return good;
}

static void init(uint64_t words[ACI_GCM_WORDS], const uint8_t key[AC_KEY_BYTES]) {
  init_below((layout *)(void *)words, key);
  burn_stack();
  aci_clear_registers();
}

static int seal(const uint64_t words[ACI_GCM_WORDS], uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES],
                const uint8_t *plaintext, size_t plaintext_len, const uint8_t *aad, size_t aad_len) {
  seal_below((const layout *)(const void *)words, out, nonce, plaintext, plaintext_len, aad, aad_len);
  burn_stack();
  aci_clear_registers();
  return AC_OK;
}

static int open(const uint64_t words[ACI_GCM_WORDS], uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES],
                const uint8_t *sealed, size_t sealed_len, const uint8_t *aad, size_t aad_len) {
  const size_t len = sealed_len - AC_TAG_BYTES;
  int good = open_below((const layout *)(const void *)words, out, nonce, sealed, len, aad, aad_len);
  burn_stack();
  aci_clear_registers();
  aci_declassify(&good, sizeof good); /* the verdict itself is no secret */
  if (good) return AC_OK;
  aci_wipe(out, len);
  return AC_ERR_AUTH;
}

static int usable(void) { return aci_cpu_has(BACKEND_FEATURES); }

const aci_gcm_backend BACKEND = {BACKEND_NAME, usable, init, seal, open};
