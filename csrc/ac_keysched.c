/* Key schedules: the only file that knows their labels. v1 has none: its HKDF info is empty. */
#include "ac_internal.h"

int aci_v1_schedule(ac_aes256gcm *aes, const uint8_t secret[AC_X25519_BYTES], const uint8_t peer[AC_X25519_BYTES],
                    const uint8_t salt[AC_V1_SALT_BYTES]) {
  uint8_t shared[AC_X25519_BYTES], key[AC_KEY_BYTES];
  uint8_t scratch[64 + AC_HASH_BYTES + 1];

  /* shared = X25519(secret, peer), refused if it is zero */
  int status = ac_x25519(shared, secret, peer);
  if (status != AC_OK) goto wipe;
  /* key = HKDF-SHA256(IKM = shared, salt, info = "", L = 32) */
  status = ac_hkdf_sha256(key, sizeof key, shared, sizeof shared, salt, AC_V1_SALT_BYTES, NULL, 0, scratch,
                          sizeof scratch);
  if (status != AC_OK) goto wipe;
  status = ac_aes256gcm_init(aes, key, ac_aes_backend_default());

wipe:
  aci_wipe(shared, sizeof shared);
  aci_wipe(key, sizeof key); /* scratch was wiped by ac_hkdf_sha256, or never written */
  return status;
}
