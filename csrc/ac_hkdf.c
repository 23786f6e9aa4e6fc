/* HMAC-SHA256 (RFC 2104) and HKDF-SHA256 (RFC 5869). */
#include "ac_internal.h"

/* What aci_hmac_key_init makes of an empty secret. */
const aci_hmac_key aci_hmac_empty_key = {
    {0xf454dead, 0x9725214f, 0x90daf2a0, 0xdf1228ea, 0x64e5750f, 0xa3924181, 0x824a932b, 0xf8e04e32},
    {0xd385480f, 0x7abb6477, 0x37c9c538, 0x5dd82467, 0x8e043a72, 0x753434b0, 0xdeb82818, 0x361d45a6}};

static void update(aci_sha256 *hash, const aci_bytes *parts, size_t count) {
  for (size_t i = 0; i < count; i++) aci_sha256_update(hash, parts[i].at, parts[i].len);
}

/* The state behind the key's block, padded with `pad`. */
static void midstate(uint32_t state[8], const uint8_t block[ACI_SHA256_BLOCK], uint8_t pad) {
  aci_sha256 hash;
  uint8_t padded[ACI_SHA256_BLOCK];
  for (size_t i = 0; i < sizeof padded; i++) padded[i] = block[i] ^ pad;
  aci_sha256_init(&hash);
  aci_sha256_update(&hash, padded, sizeof padded);
  memcpy(state, hash.state, sizeof hash.state);
  aci_wipe(padded, sizeof padded);
  aci_wipe(&hash, sizeof hash);
}

void aci_hmac_key_init(aci_hmac_key *key, const aci_bytes *secret, size_t count) {
  aci_sha256 hash;
  uint8_t block[ACI_SHA256_BLOCK + AC_HASH_BYTES] = {0};
  uint64_t len = 0;
  for (size_t i = 0; i < count; i++) len += secret[i].len;
  if (len > ACI_SHA256_BLOCK) {
    aci_sha256_init(&hash);
    update(&hash, secret, count);
    aci_sha256_final(&hash, block);
  } else {
    uint8_t *end = block;
    for (size_t i = 0; i < count; i++) {
      if (secret[i].len != 0) memcpy(end, secret[i].at, secret[i].len);
      end += secret[i].len;
    }
  }
  midstate(key->inner, block, 0x36);
  midstate(key->outer, block, 0x5c);
  aci_wipe(block, sizeof block);
}

static void resume(aci_sha256 *hash, const uint32_t state[8]) {
  memcpy(hash->state, state, sizeof hash->state);
  hash->len = ACI_SHA256_BLOCK;
}

void aci_hmac(uint8_t mac[AC_HASH_BYTES], const aci_hmac_key *key, const aci_bytes *text, size_t count) {
  aci_sha256 hash;
  uint8_t inner[AC_HASH_BYTES];
  resume(&hash, key->inner);
  update(&hash, text, count);
  aci_sha256_final(&hash, inner);
  resume(&hash, key->outer);
  aci_sha256_update(&hash, inner, sizeof inner);
  aci_sha256_final(&hash, mac); /* wipes `hash` */
  aci_wipe(inner, sizeof inner);
}

void aci_hkdf_extract(aci_hmac_key *prk, const aci_hmac_key *salt, const aci_bytes *ikm, size_t count) {
  uint8_t secret[AC_HASH_BYTES];
  aci_hmac(secret, salt, ikm, count);
  const aci_bytes part = {secret, sizeof secret};
  aci_hmac_key_init(prk, &part, 1);
  aci_wipe(secret, sizeof secret);
}

void aci_hkdf_expand(uint8_t *out, size_t out_len, const aci_hmac_key *prk, const aci_bytes *info, size_t count) {
  aci_sha256 hash;
  uint8_t t[AC_HASH_BYTES], inner[AC_HASH_BYTES];
  /* T(i) = HMAC(PRK, T(i-1) || info || i) */
  uint8_t i = 1;
  for (size_t done = 0; done < out_len; i++) {
    resume(&hash, prk->inner);
    if (i > 1) aci_sha256_update(&hash, t, sizeof t);
    update(&hash, info, count);
    aci_sha256_update(&hash, &i, 1);
    aci_sha256_final(&hash, inner);
    resume(&hash, prk->outer);
    aci_sha256_update(&hash, inner, sizeof inner);
    aci_sha256_final(&hash, t);
    const size_t part = out_len - done < sizeof t ? out_len - done : sizeof t;
    memcpy(out + done, t, part);
    done += part;
  }
  aci_wipe(t, sizeof t);
  aci_wipe(inner, sizeof inner); /* `hash` was wiped by aci_sha256_final, or never written */
}

int ac_hkdf_sha256(uint8_t *out, size_t out_len, const uint8_t *ikm, size_t ikm_len, const uint8_t *salt,
                   size_t salt_len, const uint8_t *info, size_t info_len) {
  if (out_len > 255 * AC_HASH_BYTES) return AC_ERR_ARGUMENT;
  if (aci_overlap(out, out_len, info, info_len)) return AC_ERR_OVERLAP; /* read again after each 32 bytes */
  const aci_bytes salt_part = {salt, salt_len}, ikm_part = {ikm, ikm_len}, info_part = {info, info_len};
  aci_hmac_key salt_key, prk;
  aci_hmac_key_init(&salt_key, &salt_part, 1);
  aci_hkdf_extract(&prk, &salt_key, &ikm_part, 1);
  aci_hkdf_expand(out, out_len, &prk, &info_part, 1);
  aci_wipe(&salt_key, sizeof salt_key);
  aci_wipe(&prk, sizeof prk);
  aci_burn_stack();
  return AC_OK;
}
