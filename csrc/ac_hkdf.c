/* HKDF-SHA256 (RFC 5869) on a one-shot SHA-256: HMAC's input has to be contiguous, so the caller lends scratch. */
#include "ac_internal.h"

enum { HMAC_BLOCK = 64 };

size_t ac_hkdf_scratch_bytes(size_t ikm_len, size_t info_len) {
  const size_t most = SIZE_MAX - HMAC_BLOCK - AC_HASH_BYTES - 1;
  if (ikm_len > most || info_len > most) return SIZE_MAX;
  const size_t expand = AC_HASH_BYTES + info_len + 1;
  return HMAC_BLOCK + (ikm_len > expand ? ikm_len : expand);
}

/* HMAC (RFC 2104) of scratch[HMAC_BLOCK ..][len], the first HMAC_BLOCK bytes being left free for the padded key. */
static int hmac(uint8_t mac[AC_HASH_BYTES], const uint8_t key[HMAC_BLOCK], uint8_t *scratch, size_t len) {
  uint8_t outer[HMAC_BLOCK + AC_HASH_BYTES];
  for (size_t i = 0; i < HMAC_BLOCK; i++) {
    scratch[i] = key[i] ^ 0x36;
    outer[i] = key[i] ^ 0x5c;
  }
  int status = ac_sha256(outer + HMAC_BLOCK, scratch, HMAC_BLOCK + len);
  if (status == AC_OK) status = ac_sha256(mac, outer, sizeof outer);
  aci_wipe(outer, sizeof outer);
  return status;
}

int ac_hkdf_sha256(uint8_t *out, size_t out_len, const uint8_t *ikm, size_t ikm_len, const uint8_t *salt,
                   size_t salt_len, const uint8_t *info, size_t info_len, uint8_t *scratch, size_t scratch_cap) {
  const size_t need = ac_hkdf_scratch_bytes(ikm_len, info_len);
  if (out_len > 255 * AC_HASH_BYTES || need == SIZE_MAX) return AC_ERR_ARGUMENT;
  if (scratch_cap < need) return AC_ERR_CAPACITY;
  uint8_t key[HMAC_BLOCK] = {0}, prk[AC_HASH_BYTES], t[AC_HASH_BYTES];
  uint8_t *const message = scratch + HMAC_BLOCK;
  int status = AC_OK;

  /* PRK = HMAC(salt, IKM) */
  if (salt_len > HMAC_BLOCK) {
    status = ac_sha256(key, salt, salt_len);
  } else if (salt_len != 0) {
    memcpy(key, salt, salt_len);
  }
  if (status != AC_OK) goto wipe;
  if (ikm_len != 0) memcpy(message, ikm, ikm_len);
  status = hmac(prk, key, scratch, ikm_len);
  if (status != AC_OK) goto wipe;

  /* T(i) = HMAC(PRK, T(i-1) || info || i) */
  memset(key, 0, sizeof key);
  memcpy(key, prk, sizeof prk);
  size_t previous = 0;
  for (size_t done = 0, i = 1; done < out_len; i++) {
    memcpy(message, t, previous);
    if (info_len != 0) memcpy(message + previous, info, info_len);
    message[previous + info_len] = (uint8_t)i;
    status = hmac(t, key, scratch, previous + info_len + 1);
    if (status != AC_OK) goto wipe;
    const size_t part = out_len - done < sizeof t ? out_len - done : sizeof t;
    memcpy(out + done, t, part);
    done += part;
    previous = sizeof t;
  }

wipe:
  if (status != AC_OK) aci_wipe(out, out_len);
  aci_wipe(key, sizeof key);
  aci_wipe(prk, sizeof prk);
  aci_wipe(t, sizeof t);
  aci_wipe(scratch, need);
  return status;
}
