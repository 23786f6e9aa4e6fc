/* SHA-256 (FIPS 180-4), in pieces: libsodium's is one-shot through PyNaCl, so that HMAC would need its input in one place
 * and could keep no midstates. What stays on the stack is burnt by those who call from outside of these files. */
#include "ac_internal.h"

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

const uint32_t aci_sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t load32be(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static uint32_t turn(uint32_t x, unsigned by) { return x >> by | x << (32 - by); }

static uint32_t sigma0(uint32_t x) { return turn(x, 7) ^ turn(x, 18) ^ x >> 3; }
static uint32_t sigma1(uint32_t x) { return turn(x, 17) ^ turn(x, 19) ^ x >> 10; }

/* Section 6.2.2. The letters are turned by naming them anew, 16 rounds are written out. */
static void compress_portable(uint32_t state[8], const uint8_t *in, size_t blocks) {
  uint32_t w[16];
  for (; blocks != 0; blocks--, in += ACI_SHA256_BLOCK) {
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (size_t i = 0; i < 16; i++) w[i] = load32be(in + 4 * i);
    for (size_t i = 0; i < 64; i += 16) {
      const uint32_t *const k = aci_sha256_k + i;
#define ROUND(a, b, c, d, e, f, g, h, j)                                                          \
  h += (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (g ^ (e & (f ^ g))) + k[j] + w[j];              \
  d += h;                                                                                         \
  h += (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) | (c & (a | b)));
#define EIGHT(j)                                                                                  \
  ROUND(a, b, c, d, e, f, g, h, j) ROUND(h, a, b, c, d, e, f, g, (j) + 1)                         \
  ROUND(g, h, a, b, c, d, e, f, (j) + 2) ROUND(f, g, h, a, b, c, d, e, (j) + 3)                   \
  ROUND(e, f, g, h, a, b, c, d, (j) + 4) ROUND(d, e, f, g, h, a, b, c, (j) + 5)                   \
  ROUND(c, d, e, f, g, h, a, b, (j) + 6) ROUND(b, c, d, e, f, g, h, a, (j) + 7)
      EIGHT(0) EIGHT(8)
#undef ROUND
#undef EIGHT
      if (i == 48) break;
/* the next words of the message schedule, each in the place of the one 16 before it */
#define WORD(j) \
  w[j] += sigma0(w[((j) + 1) % 16]) + w[((j) + 9) % 16] + sigma1(w[((j) + 14) % 16]);
#define FOUR(j) WORD(j) WORD((j) + 1) WORD((j) + 2) WORD((j) + 3)
      FOUR(0) FOUR(4) FOUR(8) FOUR(12)
#undef WORD
#undef FOUR
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

aci_sha256_compress aci_sha256_chosen = compress_portable;

void aci_sha256_init(aci_sha256 *hash) {
  memcpy(hash->state, initial, sizeof initial);
  hash->len = 0;
}

void aci_sha256_update(aci_sha256 *hash, const uint8_t *in, size_t in_len) {
  if (in_len == 0) return; /* `in` may be NULL */
  const size_t held = (size_t)(hash->len % ACI_SHA256_BLOCK);
  hash->len += in_len;
  if (held != 0) {
    const size_t part = ACI_SHA256_BLOCK - held < in_len ? ACI_SHA256_BLOCK - held : in_len;
    memcpy(hash->block + held, in, part);
    if (held + part < ACI_SHA256_BLOCK) return;
    aci_sha256_chosen(hash->state, hash->block, 1);
    in += part;
    in_len -= part;
  }
  const size_t blocks = in_len / ACI_SHA256_BLOCK, rest = in_len % ACI_SHA256_BLOCK;
  if (blocks != 0) aci_sha256_chosen(hash->state, in, blocks);
  memcpy(hash->block, in + blocks * ACI_SHA256_BLOCK, rest);
}

void aci_sha256_final(aci_sha256 *hash, uint8_t out[AC_HASH_BYTES]) {
  enum { LENGTH = ACI_SHA256_BLOCK - 8 };
  const uint64_t bits = hash->len * 8;
  size_t held = (size_t)(hash->len % ACI_SHA256_BLOCK);
  hash->block[held++] = 0x80;
  if (held > LENGTH) {
    memset(hash->block + held, 0, ACI_SHA256_BLOCK - held);
    aci_sha256_chosen(hash->state, hash->block, 1);
    held = 0;
  }
  memset(hash->block + held, 0, LENGTH - held);
  aci_store64be(hash->block + LENGTH, bits);
  aci_sha256_chosen(hash->state, hash->block, 1);
  for (size_t i = 0; i < 8; i++) aci_store32be(out + 4 * i, hash->state[i]);
  aci_wipe(hash, sizeof *hash);
}

void ac_sha256(uint8_t out[AC_HASH_BYTES], const uint8_t *in, size_t in_len) {
  aci_sha256 hash;
  aci_sha256_init(&hash);
  aci_sha256_update(&hash, in, in_len);
  aci_sha256_final(&hash, out); /* wipes `hash` */
  aci_burn_stack();
}

/* ---- start ---- */

/* The standard's own examples; then libsodium's answer to all lengths round the ends of a block, and to whole blocks in
 * one go, fed in two pieces. */
static int test(aci_sha256_compress backend) {
  static const char *const texts[] = {"abc", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"};
  static const uint8_t digests[][AC_HASH_BYTES] = {
      {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
       0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad},
      {0x24, 0x8d, 0x6a, 0x61, 0xd2, 0x06, 0x38, 0xb8, 0xe5, 0xc0, 0x26, 0x93, 0x0c, 0x3e, 0x60, 0x39,
       0xa3, 0x3c, 0xe4, 0x59, 0x64, 0xff, 0x21, 0x67, 0xf6, 0xec, 0xed, 0xd4, 0x19, 0xdb, 0x06, 0xc1}};
  enum { MOST = 4 * ACI_SHA256_BLOCK };
  uint8_t text[MOST], got[AC_HASH_BYTES], want[AC_HASH_BYTES];
  aci_sha256 hash;
  aci_sha256_chosen = backend;
  for (size_t i = 0; i < 2; i++) {
    ac_sha256(got, (const uint8_t *)texts[i], strlen(texts[i]));
    if (memcmp(got, digests[i], sizeof got) != 0) return 0;
  }
  for (size_t i = 0; i < MOST; i++) text[i] = (uint8_t)(37 * i);
  for (size_t len = 0; len <= MOST; len += len % ACI_SHA256_BLOCK == 2 ? 51 : 1) {
    aci_sha256_init(&hash);
    aci_sha256_update(&hash, text, len / 3);
    aci_sha256_update(&hash, text + len / 3, len - len / 3);
    aci_sha256_final(&hash, got);
    if (aci_sodium.hash_sha256(want, text, len) != 0 || memcmp(got, want, sizeof got) != 0) return 0;
  }
  return 1;
}

int aci_sha256_self_test(void) {
  if (!test(compress_portable)) return 0;
#if ACI_X86_64
  if (aci_cpu_has(ACI_CPU_SHA | ACI_CPU_SSE41 | ACI_CPU_SSSE3) && !test(aci_sha256_compress_x86)) return 0;
#endif
  return 1; /* the last that was tested is chosen: the best */
}
