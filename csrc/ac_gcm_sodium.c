/* AES-256-GCM by libsodium (x86 with AES-NI, Arm with its crypto extension). Its one-shot calls take the raw key, and
 * leave plaintext on the stack. Of the texts that the standard allows it refuses those of the last 16 lengths, as if AES
 * had failed, or as if they did not verify. */
#include "ac_internal.h"

#define MUTABLE(p) ((unsigned char *)(uintptr_t)(p)) /* the table's types leave `const` out */

static int is_usable(void) { return aci_sodium.aes256gcm_is_available() == 1; }

static void init(uint64_t words[ACI_GCM_WORDS], const uint8_t key[AC_KEY_BYTES]) {
  memcpy(words, key, AC_KEY_BYTES);
  aci_clear_registers();
}

static int seal(const uint64_t words[ACI_GCM_WORDS], uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES], const uint8_t *plaintext,
                size_t plaintext_len, const uint8_t *aad, size_t aad_len) {
  unsigned long long out_len = 0;
  const int refused = aci_sodium.aes256gcm_encrypt(out, &out_len, MUTABLE(plaintext), plaintext_len, MUTABLE(aad),
                                                   aad_len, NULL, MUTABLE(nonce), MUTABLE(words));
  aci_burn_stack();
  if (refused || out_len != plaintext_len + AC_TAG_BYTES) {
    aci_wipe(out, plaintext_len + AC_TAG_BYTES);
    return AC_ERR_PRIMITIVE;
  }
  return AC_OK;
}

static int open(const uint64_t words[ACI_GCM_WORDS], uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES], const uint8_t *sealed,
                size_t sealed_len, const uint8_t *aad, size_t aad_len) {
  /* libsodium wants somewhere to write even where there is nothing to be written. */
  uint8_t nothing[1];
  const int refused = aci_sodium.aes256gcm_decrypt(sealed_len > AC_TAG_BYTES ? out : nothing, NULL, NULL,
                                                   MUTABLE(sealed), sealed_len, MUTABLE(aad), aad_len, MUTABLE(nonce),
                                                   MUTABLE(words));
  aci_burn_stack();
  if (refused) {
    aci_wipe(out, sealed_len - AC_TAG_BYTES);
    return AC_ERR_AUTH;
  }
  return AC_OK;
}

const aci_gcm_backend aci_gcm_sodium = {"sodium", is_usable, init, seal, open};
