/*
 * AES-256-GCM in plain C, constant time: no table, no branch and no address that depends on a secret.
 *
 * AES is bitsliced: eight 64-bit words hold four blocks, word b bit b of each byte. Byte (row r, column c) of block k
 * stands at bit 16r + 4c + k, so that ShiftRows turns 16-bit lanes and MixColumns turns whole words. The S-box is the
 * circuit of Boyar and Peralta ("A small depth-16 circuit for the AES S-box", 2011).
 *
 * GHASH multiplies with the CPU's integer multiplier: with three zero bits between any two, carries never
 * reach the next bit that counts. That is constant time where 64-bit multiplication is, as on every CPU that this
 * library is built for; it is the model that the other backends are tested against.
 *
 * Blocks between rounds are as good as the key to who knows the text, and compilers spill them. So the three entry
 * points at the end run the work in a function of its own and then wipe the stack that it used.
 */
#include "ac_internal.h"

enum { PARALLEL = 4, ROUNDS = ACI_AES_ROUND_KEYS - 1 };

/* How words[ACI_GCM_WORDS] is laid out. */
typedef struct layout {
  uint64_t round_keys[2 * ACI_AES_ROUND_KEYS]; /* bitsliced, one bit of each four; see expand() */
  uint64_t h[2];                               /* the hash key, low half first */
  uint64_t h_reversed[2];                      /* both halves with their bits reversed */
} layout;

_Static_assert(sizeof(layout) <= sizeof(uint64_t[ACI_GCM_WORDS]), "the key fits its place");

/* ---- AES ---- */

static void sub_bytes(uint64_t q[8]) {
  const uint64_t x0 = q[7], x1 = q[6], x2 = q[5], x3 = q[4], x4 = q[3], x5 = q[2], x6 = q[1], x7 = q[0];

  /* linear, in */
  const uint64_t y14 = x3 ^ x5, y13 = x0 ^ x6, y9 = x0 ^ x3, y8 = x0 ^ x5, a0 = x1 ^ x2;
  const uint64_t y1 = a0 ^ x7, y4 = y1 ^ x3, y12 = y13 ^ y14, y2 = y1 ^ x0, y5 = y1 ^ x6, y3 = y5 ^ y8;
  const uint64_t a1 = x4 ^ y12, y15 = a1 ^ x5, y20 = a1 ^ x1, y6 = y15 ^ x7, y10 = y15 ^ a0, y11 = y20 ^ y9;
  const uint64_t y7 = x7 ^ y11, y17 = y10 ^ y11, y19 = y10 ^ y8, y16 = a0 ^ y11, y21 = y13 ^ y16, y18 = x0 ^ y16;

  /* inversion in GF(2^8), over GF(2^4) */
  const uint64_t t2 = y12 & y15, t3 = y3 & y6, t4 = t3 ^ t2, t5 = y4 & x7, t6 = t5 ^ t2, t7 = y13 & y16;
  const uint64_t t8 = y5 & y1, t9 = t8 ^ t7, t10 = y2 & y7, t11 = t10 ^ t7, t12 = y9 & y11, t13 = y14 & y17;
  const uint64_t t14 = t13 ^ t12, t15 = y8 & y10, t16 = t15 ^ t12, t17 = t4 ^ t14, t18 = t6 ^ t16, t19 = t9 ^ t14;
  const uint64_t t20 = t11 ^ t16, t21 = t17 ^ y20, t22 = t18 ^ y19, t23 = t19 ^ y21, t24 = t20 ^ y18;
  const uint64_t t25 = t21 ^ t22, t26 = t21 & t23, t27 = t24 ^ t26, t28 = t25 & t27, t29 = t28 ^ t22;
  const uint64_t t30 = t23 ^ t24, t31 = t22 ^ t26, t32 = t31 & t30, t33 = t32 ^ t24, t34 = t23 ^ t33;
  const uint64_t t35 = t27 ^ t33, t36 = t24 & t35, t37 = t36 ^ t34, t38 = t27 ^ t36, t39 = t29 & t38;
  const uint64_t t40 = t25 ^ t39, t41 = t40 ^ t37, t42 = t29 ^ t33, t43 = t29 ^ t40, t44 = t33 ^ t37;
  const uint64_t t45 = t42 ^ t41;
  const uint64_t z0 = t44 & y15, z1 = t37 & y6, z2 = t33 & x7, z3 = t43 & y16, z4 = t40 & y1, z5 = t29 & y7;
  const uint64_t z6 = t42 & y11, z7 = t45 & y17, z8 = t41 & y10, z9 = t44 & y12, z10 = t37 & y3, z11 = t33 & y4;
  const uint64_t z12 = t43 & y13, z13 = t40 & y5, z14 = t29 & y2, z15 = t42 & y9, z16 = t45 & y14, z17 = t41 & y8;

  /* linear, out */
  const uint64_t b46 = z15 ^ z16, b47 = z10 ^ z11, b48 = z5 ^ z13, b49 = z9 ^ z10, b50 = z2 ^ z12, b51 = z2 ^ z5;
  const uint64_t b52 = z7 ^ z8, b53 = z0 ^ z3, b54 = z6 ^ z7, b55 = z16 ^ z17, b56 = z12 ^ b48, b57 = b50 ^ b53;
  const uint64_t b58 = z4 ^ b46, b59 = z3 ^ b54, b60 = b46 ^ b57, b61 = z14 ^ b57, b62 = b52 ^ b58, b63 = b49 ^ b58;
  const uint64_t b64 = z4 ^ b59, b65 = b61 ^ b62, b66 = z1 ^ b63, b67 = b64 ^ b65, s3 = b53 ^ b66;
  q[7] = b59 ^ b63;
  q[6] = b64 ^ ~s3;
  q[5] = b55 ^ ~b67;
  q[4] = s3;
  q[3] = b51 ^ b66;
  q[2] = b47 ^ b65;
  q[1] = b56 ^ ~b62;
  q[0] = b48 ^ ~b60;
}

static uint64_t turn_right(uint64_t x, unsigned by) { return x >> by | x << (64 - by); }

/* Row r moves r columns to the left: within its lane of 16 bits, to the right by 4r. */
static uint64_t shift_rows(uint64_t x) {
  return (x & 0x000000000000ffff) | (x & 0x00000000fff00000) >> 4 | (x & 0x00000000000f0000) << 12 |
         (x & 0x0000ff0000000000) >> 8 | (x & 0x000000ff00000000) << 8 | (x & 0xf000000000000000) >> 12 |
         (x & 0x0fff000000000000) << 4;
}

/* Each byte becomes 2a + 3b + c + d, with b, c, d the bytes of the rows below, in turn. */
static void mix_columns(uint64_t q[8]) {
  uint64_t sum[8], out[8]; /* sum = a + b; out is q's next value */
  for (size_t i = 0; i < 8; i++) sum[i] = q[i] ^ turn_right(q[i], 16);
  for (size_t i = 0; i < 8; i++) {
    const uint64_t carry = (i == 1 || i == 3 || i == 4) ? sum[7] : 0; /* the polynomial 1b */
    const uint64_t twice = (i == 0 ? sum[7] : sum[i - 1]) ^ carry;
    out[i] = twice ^ turn_right(q[i], 16) ^ turn_right(sum[i], 32);
  }
  memcpy(q, out, sizeof out);
}

/* Between bytes in words and bits in planes; its own inverse. */
static void transpose(uint64_t q[8]) {
  static const uint64_t mask[3] = {0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f};
  for (unsigned s = 0; s < 3; s++) {
    const unsigned step = 1u << s;
    for (unsigned i = 0; i < 8; i++) {
      if (i & step) continue;
      const uint64_t a = q[i], b = q[i + step];
      q[i] = (a & mask[s]) | (b & mask[s]) << step;
      q[i + step] = (a & ~mask[s]) >> step | (b & ~mask[s]);
    }
  }
}

/* Bytes 0 to 3 of x to the even bytes. */
static uint64_t spread(uint32_t x) {
  uint64_t v = x;
  v = (v | v << 16) & 0x0000ffff0000ffff;
  return (v | v << 8) & 0x00ff00ff00ff00ff;
}

static uint32_t gather(uint64_t v) {
  v &= 0x00ff00ff00ff00ff;
  v = (v | v >> 8) & 0x0000ffff0000ffff;
  return (uint32_t)(v | v >> 16);
}

static void load_blocks(uint64_t q[8], const uint32_t columns[4 * PARALLEL]) {
  for (size_t k = 0; k < PARALLEL; k++) {
    q[k] = spread(columns[4 * k]) | spread(columns[4 * k + 2]) << 8;
    q[k + 4] = spread(columns[4 * k + 1]) | spread(columns[4 * k + 3]) << 8;
  }
  transpose(q);
}

static void store_blocks(uint8_t out[ACI_BLOCK_BYTES * PARALLEL], uint64_t q[8]) {
  transpose(q);
  for (size_t k = 0; k < PARALLEL; k++) {
    aci_store32le(out + 16 * k, gather(q[k]));
    aci_store32le(out + 16 * k + 4, gather(q[k + 4]));
    aci_store32le(out + 16 * k + 8, gather(q[k] >> 8));
    aci_store32le(out + 16 * k + 12, gather(q[k + 4] >> 8));
  }
}

/* The same round key for all four blocks makes four equal bits, of which round_keys keeps one:
 * bit j of each four bits of the first word belongs to plane j, of the second to plane 4 + j. */
static void expand(uint64_t expanded[8 * ACI_AES_ROUND_KEYS], const uint64_t round_keys[2 * ACI_AES_ROUND_KEYS]) {
  for (size_t i = 0; i < 2 * ACI_AES_ROUND_KEYS; i++) {
    for (unsigned j = 0; j < 4; j++) {
      const uint64_t bit = round_keys[i] >> j & 0x1111111111111111;
      expanded[4 * i + j] = (bit << 4) - bit;
    }
  }
}

static void encrypt4(uint64_t q[8], const uint64_t expanded[8 * ACI_AES_ROUND_KEYS]) {
  for (size_t i = 0; i < 8; i++) q[i] ^= expanded[i];
  for (size_t round = 1; round <= ROUNDS; round++) {
    sub_bytes(q);
    for (size_t i = 0; i < 8; i++) q[i] = shift_rows(q[i]);
    if (round < ROUNDS) mix_columns(q);
    for (size_t i = 0; i < 8; i++) q[i] ^= expanded[8 * round + i];
  }
}

static uint32_t sub_word(uint32_t x) {
  uint64_t q[8] = {x};
  transpose(q);
  sub_bytes(q);
  transpose(q);
  const uint32_t out = (uint32_t)q[0];
  aci_wipe(q, sizeof q);
  return out;
}

static void expand_key(uint64_t round_keys[2 * ACI_AES_ROUND_KEYS], const uint8_t key[AC_KEY_BYTES]) {
  uint32_t w[4 * ACI_AES_ROUND_KEYS], columns[4 * PARALLEL];
  uint64_t q[8];
  uint32_t rcon = 1;
  for (size_t i = 0; i < 8; i++) w[i] = aci_load32le(key + 4 * i);
  for (size_t i = 8; i < 4 * ACI_AES_ROUND_KEYS; i++) {
    uint32_t t = w[i - 1];
    if (i % 8 == 0) {
      t = sub_word(t >> 8 | t << 24) ^ rcon;
      rcon <<= 1;
    } else if (i % 8 == 4) {
      t = sub_word(t);
    }
    w[i] = w[i - 8] ^ t;
  }
  for (size_t round = 0; round < ACI_AES_ROUND_KEYS; round++) {
    for (size_t i = 0; i < 4 * PARALLEL; i++) columns[i] = w[4 * round + i % 4];
    load_blocks(q, columns);
    for (size_t half = 0; half < 2; half++) {
      uint64_t packed = 0;
      for (unsigned j = 0; j < 4; j++) packed |= (q[4 * half + j] & 0x1111111111111111) << j;
      round_keys[2 * round + half] = packed;
    }
  }
  aci_wipe(w, sizeof w);
  aci_wipe(columns, sizeof columns);
  aci_wipe(q, sizeof q);
}

/* ---- GHASH ---- */

/* The low 64 bits of the carry-less product. */
static uint64_t clmul_low(uint64_t x, uint64_t y) {
  static const uint64_t every4 = 0x1111111111111111;
  uint64_t xs[4], ys[4], out = 0;
  for (unsigned i = 0; i < 4; i++) {
    xs[i] = x & every4 << i;
    ys[i] = y & every4 << i;
  }
  for (unsigned i = 0; i < 4; i++) {
    uint64_t sum = 0;
    for (unsigned j = 0; j < 4; j++) sum ^= xs[j] * ys[(i - j) & 3];
    out |= sum & every4 << i;
  }
  return out;
}

static uint64_t reverse64(uint64_t x) {
  x = (x & 0x5555555555555555) << 1 | (x >> 1 & 0x5555555555555555);
  x = (x & 0x3333333333333333) << 2 | (x >> 2 & 0x3333333333333333);
  x = (x & 0x0f0f0f0f0f0f0f0f) << 4 | (x >> 4 & 0x0f0f0f0f0f0f0f0f);
  x = (x & 0x00ff00ff00ff00ff) << 8 | (x >> 8 & 0x00ff00ff00ff00ff);
  x = (x & 0x0000ffff0000ffff) << 16 | (x >> 16 & 0x0000ffff0000ffff);
  return x << 32 | x >> 32;
}

/* y = (y + block) * H. Halves low first; GCM's bits run the other way, so the product is shifted by one. */
static void ghash_block(uint64_t y[2], const layout *key, const uint8_t block[ACI_BLOCK_BYTES]) {
  const uint64_t a1 = y[1] ^ aci_load64be(block), a0 = y[0] ^ aci_load64be(block + 8);
  const uint64_t r0 = reverse64(a0), r1 = reverse64(a1);
  const uint64_t *h = key->h, *hr = key->h_reversed;

  /* Karatsuba; the high half of each product is the low half of the reversed one */
  const uint64_t low = clmul_low(a0, h[0]), high = clmul_low(a1, h[1]);
  const uint64_t low_r = clmul_low(r0, hr[0]), high_r = clmul_low(r1, hr[1]);
  const uint64_t mid = clmul_low(a0 ^ a1, h[0] ^ h[1]) ^ low ^ high;
  const uint64_t mid_r = clmul_low(r0 ^ r1, hr[0] ^ hr[1]) ^ low_r ^ high_r;

  uint64_t v0 = low, v1 = mid ^ reverse64(low_r) >> 1, v2 = high ^ reverse64(mid_r) >> 1, v3 = reverse64(high_r) >> 1;
  v3 = v3 << 1 | v2 >> 63;
  v2 = v2 << 1 | v1 >> 63;
  v1 = v1 << 1 | v0 >> 63;
  v0 = v0 << 1;

  /* modulo x^128 + x^7 + x^2 + x + 1 */
  v2 ^= v0 ^ v0 >> 1 ^ v0 >> 2 ^ v0 >> 7;
  v1 ^= v0 << 63 ^ v0 << 62 ^ v0 << 57;
  v3 ^= v1 ^ v1 >> 1 ^ v1 >> 2 ^ v1 >> 7;
  v2 ^= v1 << 63 ^ v1 << 62 ^ v1 << 57;
  y[0] = v2;
  y[1] = v3;
}

/* Of any length, filled up with zero bytes. */
static void ghash(uint64_t y[2], const layout *key, const uint8_t *in, size_t len) {
  uint8_t last[ACI_BLOCK_BYTES] = {0}; /* ciphertext or AAD: public */
  for (; len >= ACI_BLOCK_BYTES; in += ACI_BLOCK_BYTES, len -= ACI_BLOCK_BYTES) ghash_block(y, key, in);
  if (len != 0) {
    memcpy(last, in, len);
    ghash_block(y, key, last);
  }
}

/* ---- GCM ---- */

static int is_usable(void) { return 1; }

/* Key stream for counters `counter` to `counter` + 3. */
static void key_stream(uint8_t stream[ACI_BLOCK_BYTES * PARALLEL], uint64_t q[8],
                       const uint64_t expanded[8 * ACI_AES_ROUND_KEYS], const uint8_t nonce[AC_NONCE_BYTES],
                       uint32_t counter) {
  uint32_t columns[4 * PARALLEL];
  for (uint32_t k = 0; k < PARALLEL; k++) {
    uint8_t big_endian[4];
    for (size_t i = 0; i < 3; i++) columns[4 * k + i] = aci_load32le(nonce + 4 * i);
    aci_store32be(big_endian, counter + k);
    columns[4 * k + 3] = aci_load32le(big_endian);
  }
  load_blocks(q, columns);
  encrypt4(q, expanded);
  store_blocks(stream, q);
}

static ACI_NOINLINE void init_inside(uint64_t words[ACI_GCM_WORDS], const uint8_t key[AC_KEY_BYTES]) {
  static const uint8_t zero[AC_NONCE_BYTES];
  layout k;
  uint64_t expanded[8 * ACI_AES_ROUND_KEYS], q[8];
  uint8_t h[ACI_BLOCK_BYTES * PARALLEL];
  expand_key(k.round_keys, key);
  expand(expanded, k.round_keys);
  key_stream(h, q, expanded, zero, 0); /* H = AES(0) */
  for (size_t i = 0; i < 2; i++) {
    k.h[i] = aci_load64be(h + 8 - 8 * i);
    k.h_reversed[i] = reverse64(k.h[i]);
  }
  memcpy(words, &k, sizeof k);
  aci_wipe(&k, sizeof k);
  aci_wipe(expanded, sizeof expanded);
  aci_wipe(q, sizeof q);
  aci_wipe(h, sizeof h);
}

/* Counter mode from counter 2 on. */
static void ctr(uint8_t *out, const uint8_t *in, size_t len, const uint64_t expanded[8 * ACI_AES_ROUND_KEYS],
                const uint8_t nonce[AC_NONCE_BYTES]) {
  uint8_t stream[ACI_BLOCK_BYTES * PARALLEL];
  uint64_t q[8];
  uint32_t counter = 2;
  for (size_t part; len != 0; in += part, out += part, len -= part, counter += PARALLEL) {
    part = len < sizeof stream ? len : sizeof stream;
    key_stream(stream, q, expanded, nonce, counter);
    for (size_t i = 0; i < part; i++) out[i] = in[i] ^ stream[i];
  }
  aci_wipe(stream, sizeof stream);
  aci_wipe(q, sizeof q);
}

static void compute_tag(uint8_t tag[AC_TAG_BYTES], const layout *key, const uint64_t expanded[8 * ACI_AES_ROUND_KEYS],
                        const uint8_t nonce[AC_NONCE_BYTES], const uint8_t *ciphertext, size_t len, const uint8_t *aad,
                        size_t aad_len) {
  uint8_t lengths[ACI_BLOCK_BYTES], mask[ACI_BLOCK_BYTES * PARALLEL];
  uint64_t y[2] = {0, 0}, q[8];
  ghash(y, key, aad, aad_len);
  ghash(y, key, ciphertext, len);
  aci_store64be(lengths, (uint64_t)aad_len * 8);
  aci_store64be(lengths + 8, (uint64_t)len * 8);
  ghash_block(y, key, lengths);
  key_stream(mask, q, expanded, nonce, 1);
  aci_store64be(tag, y[1] ^ aci_load64be(mask));
  aci_store64be(tag + 8, y[0] ^ aci_load64be(mask + 8));
  aci_wipe(mask, sizeof mask);
  aci_wipe(y, sizeof y);
  aci_wipe(q, sizeof q);
}

static ACI_NOINLINE int seal_inside(const uint64_t words[ACI_GCM_WORDS], uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES],
                                    const uint8_t *plaintext, size_t plaintext_len, const uint8_t *aad,
                                    size_t aad_len) {
  layout k;
  uint64_t expanded[8 * ACI_AES_ROUND_KEYS];
  memcpy(&k, words, sizeof k);
  expand(expanded, k.round_keys);
  ctr(out, plaintext, plaintext_len, expanded, nonce);
  compute_tag(out + plaintext_len, &k, expanded, nonce, out, plaintext_len, aad, aad_len);
  aci_wipe(&k, sizeof k);
  aci_wipe(expanded, sizeof expanded);
  return AC_OK;
}

static ACI_NOINLINE int open_inside(const uint64_t words[ACI_GCM_WORDS], uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES],
                                    const uint8_t *sealed, size_t sealed_len, const uint8_t *aad, size_t aad_len) {
  const size_t len = sealed_len - AC_TAG_BYTES;
  layout k;
  uint64_t expanded[8 * ACI_AES_ROUND_KEYS];
  uint8_t tag[AC_TAG_BYTES];
  memcpy(&k, words, sizeof k);
  expand(expanded, k.round_keys);
  compute_tag(tag, &k, expanded, nonce, sealed, len, aad, aad_len);
  const int good = aci_equal(tag, sealed + len, sizeof tag);
  if (good) {
    ctr(out, sealed, len, expanded, nonce);
  } else {
    aci_wipe(out, len);
  }
  aci_wipe(&k, sizeof k);
  aci_wipe(expanded, sizeof expanded);
  aci_wipe(tag, sizeof tag); /* the right tag of a forgery is a secret */
  return good ? AC_OK : AC_ERR_AUTH;
}

static void init(uint64_t words[ACI_GCM_WORDS], const uint8_t key[AC_KEY_BYTES]) {
  init_inside(words, key);
  aci_burn_stack();
}

static int seal(const uint64_t words[ACI_GCM_WORDS], uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES], const uint8_t *plaintext,
                size_t plaintext_len, const uint8_t *aad, size_t aad_len) {
  const int status = seal_inside(words, out, nonce, plaintext, plaintext_len, aad, aad_len);
  aci_burn_stack();
  return status;
}

static int open(const uint64_t words[ACI_GCM_WORDS], uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES], const uint8_t *sealed,
                size_t sealed_len, const uint8_t *aad, size_t aad_len) {
  const int status = open_inside(words, out, nonce, sealed, sealed_len, aad, aad_len);
  aci_burn_stack();
  return status;
}

const aci_gcm_backend aci_gcm_portable = {"portable", is_usable, init, seal, open};
