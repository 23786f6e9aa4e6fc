/* Base64 (RFC 4648, section 4), strict. What it codes is public, so it may branch on it. */
#include "ac_internal.h"

size_t ac_base64_encoded_len(size_t in_len) {
  const size_t groups = in_len / 3 + (in_len % 3 != 0);
  return groups > SIZE_MAX / 4 ? SIZE_MAX : 4 * groups;
}

size_t ac_base64_decoded_max(size_t in_len) { return in_len / 4 * 3; }

static const char alphabet[64] = {'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P',
                                  'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'a', 'b', 'c', 'd', 'e', 'f',
                                  'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v',
                                  'w', 'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '/'};

/* Reads each group before it writes it, and four bytes never overtake the three behind them while `in` ends where
 * `out` ends: that is what lets the event writer encode in place. */
void aci_base64_encode(uint8_t *out, const uint8_t *in, size_t len) {
#if ACI_X86_64
  if (len >= 12 && aci_cpu_has(ACI_CPU_AVX2)) {
    aci_base64_encode_avx2(out, in, len);
    return;
  }
#endif
  for (; len >= 3; in += 3, out += 4, len -= 3) {
    const uint32_t v = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
    const uint8_t text[4] = {(uint8_t)alphabet[v >> 18], (uint8_t)alphabet[v >> 12 & 63],
                             (uint8_t)alphabet[v >> 6 & 63], (uint8_t)alphabet[v & 63]};
    memcpy(out, text, sizeof text);
  }
  if (len != 0) {
    const uint32_t v = (uint32_t)in[0] << 16 | (len == 2 ? (uint32_t)in[1] << 8 : 0);
    out[0] = (uint8_t)alphabet[v >> 18];
    out[1] = (uint8_t)alphabet[v >> 12 & 63];
    out[2] = len == 2 ? (uint8_t)alphabet[v >> 6 & 63] : (uint8_t)'=';
    out[3] = (uint8_t)'=';
  }
}

/* 0 to 63; 64 for what is not in the alphabet. */
static const uint8_t values[256] = {
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 62, 64, 64, 64, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 64, 64, 64, 64, 64, 64,
    64,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 64, 64, 64, 64, 64,
    64, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
};

static uint32_t value(uint8_t c) { return values[c]; }

int aci_base64_decode(uint8_t *out, size_t *out_len, const uint8_t *in, size_t len) {
  if (len % 4 != 0) return AC_ERR_FORMAT;
  *out_len = 0;
  if (len == 0) return AC_OK;
#if ACI_X86_64
  if (len > 16 && aci_cpu_has(ACI_CPU_AVX2)) return aci_base64_decode_avx2(out, out_len, in, len);
#endif
  uint8_t *p = out;
  for (; len > 4; in += 4, p += 3, len -= 4) {
    const uint32_t a = value(in[0]), b = value(in[1]), c = value(in[2]), d = value(in[3]);
    if ((a | b | c | d) > 63) return AC_ERR_FORMAT;
    const uint32_t v = a << 18 | b << 12 | c << 6 | d;
    p[0] = (uint8_t)(v >> 16);
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)v;
  }
  const size_t pad = in[3] != '=' ? 0 : in[2] != '=' ? 1 : 2;
  const uint32_t a = value(in[0]), b = value(in[1]);
  const uint32_t c = pad > 1 ? 0 : value(in[2]), d = pad > 0 ? 0 : value(in[3]);
  if ((a | b | c | d) > 63) return AC_ERR_FORMAT;
  if ((pad == 2 && (b & 15) != 0) || (pad == 1 && (c & 3) != 0)) return AC_ERR_FORMAT; /* spare bits */
  const uint32_t v = a << 18 | b << 12 | c << 6 | d;
  *p++ = (uint8_t)(v >> 16);
  if (pad < 2) *p++ = (uint8_t)(v >> 8);
  if (pad < 1) *p++ = (uint8_t)v;
  *out_len = (size_t)(p - out);
  return AC_OK;
}

int aci_base64_decode_exact(uint8_t *out, size_t want, const uint8_t *in, size_t len) {
  uint8_t buffer[33]; /* public */
  size_t got = 0;
  if (len != ac_base64_encoded_len(want) || ac_base64_decoded_max(len) > sizeof buffer) return AC_ERR_FORMAT;
  if (aci_base64_decode(buffer, &got, in, len) != AC_OK || got != want) return AC_ERR_FORMAT;
  memcpy(out, buffer, want);
  return AC_OK;
}
