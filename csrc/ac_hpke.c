/* Contexts of HPKE (RFC 9180, section 5.2): the nonce of each message, order of calls, and failure that stays. */
#include "ac_internal.h"

static int start(ac_hpke *hpke, uint32_t suite, int seals, const uint8_t shared[AC_HASH_BYTES], const uint8_t *info,
                 size_t info_len) {
  const int status =
      aci_hpke_schedule(&hpke->aes, hpke->base_nonce, hpke->exporter_secret, suite, shared, info, info_len);
  if (status != AC_OK) return status;
  hpke->sequence = 0;
  hpke->suite = suite;
  hpke->seals = seals != 0;
  hpke->generation = aci_generation();
  hpke->busy = 0;
  hpke->state = AC_STATE_READY;
  return AC_OK;
}

int ac_hpke_setup_sender(ac_hpke *hpke, uint8_t enc[AC_X25519_BYTES], const uint8_t public_key[AC_X25519_BYTES],
                         const uint8_t *info, size_t info_len, const uint8_t *ephemeral_secret) {
  uint8_t shared[AC_HASH_BYTES];
  if (aci_overlap(enc, AC_X25519_BYTES, info, info_len)) return AC_ERR_OVERLAP; /* enc is written first */
  int status = aci_dhkem_encapsulate(shared, enc, public_key, ephemeral_secret);
  if (status != AC_OK) return status;
  status = start(hpke, AC_SUITE_X25519, 1, shared, info, info_len);
  aci_wipe(shared, sizeof shared);
  return status;
}

int ac_hpke_setup_recipient(ac_hpke *hpke, const uint8_t enc[AC_X25519_BYTES], const ac_secret_key *key,
                            const uint8_t *info, size_t info_len) {
  uint8_t shared[AC_HASH_BYTES];
  int status = aci_dhkem_decapsulate(shared, enc, key);
  if (status != AC_OK) return status == AC_ERR_KEY ? AC_ERR_AUTH : status; /* it is the sender's, not the caller's */
  status = start(hpke, AC_SUITE_X25519, 0, shared, info, info_len);
  aci_wipe(shared, sizeof shared);
  return status;
}

int ac_hpke_setup_shared(ac_hpke *hpke, uint32_t suite, int seals, const uint8_t shared_secret[AC_HASH_BYTES],
                         const uint8_t *info, size_t info_len) {
  return start(hpke, suite, seals, shared_secret, info, info_len);
}

/* All but what another thread may look at before it is refused. */
static void forget(ac_hpke *hpke, uint32_t state) {
  ac_aes256gcm_wipe(&hpke->aes);
  aci_wipe(hpke->base_nonce, sizeof hpke->base_nonce);
  aci_wipe(hpke->exporter_secret, sizeof hpke->exporter_secret);
  hpke->state = state;
}

static int enter(ac_hpke *hpke) {
  if (!aci_enter(&hpke->busy)) return AC_ERR_BUSY;
  if (hpke->state == AC_STATE_READY) return AC_OK;
  aci_leave(&hpke->busy);
  return AC_ERR_STATE;
}

/* Enter for the message after the last, in the direction that `seals` says, and compute its nonce. */
static int begin(ac_hpke *hpke, uint32_t seals, uint8_t nonce[AC_NONCE_BYTES]) {
  int status = enter(hpke);
  if (status != AC_OK) return status;
  if (hpke->seals != seals) {
    status = AC_ERR_STATE;
  } else if (hpke->sequence == UINT64_MAX) {
    status = AC_ERR_LIMIT;
  }
  if (status != AC_OK) {
    aci_leave(&hpke->busy);
    return status;
  }
  /* ComputeNonce: base_nonce XOR I2OSP(seq, Nn) */
  memcpy(nonce, hpke->base_nonce, AC_NONCE_BYTES);
  for (size_t i = 0; i < 8; i++) nonce[AC_NONCE_BYTES - 1 - i] ^= (uint8_t)(hpke->sequence >> 8 * i);
  return AC_OK;
}

static void end(ac_hpke *hpke, int status) {
  if (status == AC_OK) {
    hpke->sequence++; /* IncrementSeq */
  } else if (status == AC_ERR_PRIMITIVE) {
    forget(hpke, AC_STATE_FAILED);
  }
  aci_leave(&hpke->busy);
}

int ac_hpke_seal(ac_hpke *hpke, uint8_t *out, size_t out_cap, const uint8_t *plaintext, size_t plaintext_len,
                 const uint8_t *aad, size_t aad_len) {
  uint8_t nonce[AC_NONCE_BYTES];
  /* First of all: in a child, `busy` may be the mark of a thread that only the parent has. */
  if (hpke->generation != aci_generation()) return AC_ERR_FORKED;
  int status = begin(hpke, 1, nonce);
  if (status != AC_OK) return status;
  status = ac_aes256gcm_seal(&hpke->aes, out, out_cap, nonce, plaintext, plaintext_len, aad, aad_len);
  aci_wipe(nonce, sizeof nonce); /* HPKE's nonces are not sent */
  end(hpke, status);
  return status;
}

int ac_hpke_open(ac_hpke *hpke, uint8_t *out, size_t out_cap, const uint8_t *sealed, size_t sealed_len,
                 const uint8_t *aad, size_t aad_len) {
  uint8_t nonce[AC_NONCE_BYTES];
  int status = begin(hpke, 0, nonce);
  if (status != AC_OK) return status;
  status = ac_aes256gcm_open(&hpke->aes, out, out_cap, nonce, sealed, sealed_len, aad, aad_len);
  aci_wipe(nonce, sizeof nonce);
  end(hpke, status);
  return status;
}

int ac_hpke_export(ac_hpke *hpke, uint8_t *out, size_t out_len, const uint8_t *context, size_t context_len) {
  if (out_len > 255 * AC_HASH_BYTES) return AC_ERR_ARGUMENT;
  if (aci_overlap(out, out_len, context, context_len)) return AC_ERR_OVERLAP;
  const int status = enter(hpke);
  if (status != AC_OK) return status;
  aci_hpke_export(out, out_len, hpke->suite, hpke->exporter_secret, context, context_len);
  aci_leave(&hpke->busy);
  return AC_OK;
}

int ac_hpke_close(ac_hpke *hpke) {
  if (!aci_enter_to_close(&hpke->busy)) return AC_ERR_BUSY;
  forget(hpke, AC_STATE_CLOSED);
  aci_leave(&hpke->busy);
  return AC_OK;
}

void ac_hpke_wipe(ac_hpke *hpke) { forget(hpke, AC_STATE_CLOSED); }
