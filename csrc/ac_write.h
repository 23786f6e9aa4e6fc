/* Writing pieces of JSON: each takes the place to write at and returns the place behind. Capacity is checked before. */
#ifndef AC_WRITE_H
#define AC_WRITE_H

#include "ac_internal.h"

static inline uint8_t *aci_write(uint8_t *p, const void *text, size_t len) {
  if (len != 0) memcpy(p, text, len); /* text may be NULL then */
  return p + len;
}

static inline uint8_t *aci_write_base64(uint8_t *p, const uint8_t *in, size_t len) {
  aci_base64_encode(p, in, len);
  return p + ac_base64_encoded_len(len);
}

static inline size_t aci_decimal_len(uint64_t v) {
  size_t len = 1;
  while (v >= 10) {
    v /= 10;
    len++;
  }
  return len;
}

static inline uint8_t *aci_write_decimal(uint8_t *p, uint64_t v) {
  const size_t len = aci_decimal_len(v);
  for (size_t i = len; i-- > 0; v /= 10) p[i] = (uint8_t)('0' + v % 10);
  return p + len;
}

/* A sealed message is written where its base64 text will end, and is then encoded forward, in place: no buffer
 * between. All three take the place that aci_write_room_for_sealed returned. */
static inline uint8_t *aci_write_room_for_sealed(uint8_t *p, size_t plaintext_len) {
  return p + ac_base64_encoded_len(plaintext_len + AC_TAG_BYTES);
}

static inline uint8_t *aci_sealed_place(uint8_t *end, size_t plaintext_len) {
  return end - (plaintext_len + AC_TAG_BYTES);
}

static inline void aci_encode_sealed(uint8_t *end, size_t plaintext_len) {
  const size_t sealed_len = plaintext_len + AC_TAG_BYTES;
  aci_base64_encode(end - ac_base64_encoded_len(sealed_len), end - sealed_len, sealed_len);
}

#endif
