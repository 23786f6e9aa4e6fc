/* Sealer and opener of protocol v1: nonces, order of calls, limits, and failure that stays. */
#include "ac_internal.h"

/* ---- sealer ---- */

int aci_v1_sealer_start(ac_v1_sealer *sealer, const uint8_t request_nonce[AC_NONCE_BYTES],
                        const ac_signing_key *signing) {
  memcpy(sealer->request_nonce, request_nonce, AC_NONCE_BYTES);
  aci_randombytes(sealer->next_nonce, AC_NONCE_BYTES);
  sealer->signs = signing != NULL;
  if (signing != NULL) sealer->signing = *signing;
  sealer->chunks_left = AC_V1_MAX_CHUNKS;
  sealer->bytes_left = AC_V1_MAX_STREAM_BYTES;
  sealer->generation = aci_generation();
  sealer->busy = 0;
  sealer->state = AC_STATE_READY;
  return AC_OK;
}

/* All but what another thread may look at before it is refused. */
static void forget(ac_v1_sealer *sealer, uint32_t state) {
  ac_aes256gcm_wipe(&sealer->aes);
  ac_signing_key_wipe(&sealer->signing);
  aci_wipe(sealer->next_nonce, sizeof sealer->next_nonce);
  aci_wipe(sealer->request_nonce, sizeof sealer->request_nonce);
  sealer->state = state;
}

int aci_v1_sealer_enter(ac_v1_sealer *sealer, uint64_t count, uint64_t plaintext_len) {
  /* First of all: in a child, `busy` may be the mark of a thread that only the parent has. */
  if (sealer->generation != aci_generation()) return AC_ERR_FORKED;
  if (!aci_enter(&sealer->busy)) return AC_ERR_BUSY;
  const int status = sealer->state != AC_STATE_READY                                            ? AC_ERR_STATE
                     : count > sealer->chunks_left || plaintext_len > sealer->bytes_left ? AC_ERR_LIMIT
                                                                                                : AC_OK;
  if (status != AC_OK) aci_leave(&sealer->busy);
  return status;
}

void aci_v1_sealer_leave(ac_v1_sealer *sealer, int status) {
  if (status == AC_ERR_PRIMITIVE) forget(sealer, AC_STATE_FAILED);
  aci_leave(&sealer->busy);
}

/* The next nonce that is not the request's, modulo 2^96, big-endian. */
static void take_nonce(ac_v1_sealer *sealer, uint8_t nonce[AC_NONCE_BYTES]) {
  do {
    memcpy(nonce, sealer->next_nonce, AC_NONCE_BYTES);
    for (size_t i = AC_NONCE_BYTES; i-- > 0;) {
      if (++sealer->next_nonce[i] != 0) break;
    }
  } while (memcmp(nonce, sealer->request_nonce, AC_NONCE_BYTES) == 0);
}

int aci_v1_seal(ac_v1_sealer *sealer, uint8_t *sealed, uint8_t nonce[AC_NONCE_BYTES], uint8_t hash[AC_HASH_BYTES],
                uint8_t signature[ACI_SUI_SIGNATURE_BYTES], const uint8_t *plaintext, size_t plaintext_len) {
  take_nonce(sealer, nonce);
  sealer->chunks_left--;
  sealer->bytes_left -= plaintext_len;
  int status = ac_blake2b256(hash, plaintext, plaintext_len);
  if (status != AC_OK) return status;
  aci_declassify(hash, AC_HASH_BYTES); /* v1 sends it in clear */
  if (sealer->signs) {
    /* flag 0 (Ed25519) || signature over the hash itself || public key */
    uint8_t message[AC_HASH_BYTES], signed_message[64 + AC_HASH_BYTES]; /* public */
    unsigned long long signed_len = 0;
    memcpy(message, hash, sizeof message);
    const int refused =
        aci_sodium.sign(signed_message, &signed_len, message, sizeof message, sealer->signing.secret) != 0;
    aci_burn_stack(); /* the digits of the signature's secret number are left there */
    if (refused || signed_len != sizeof signed_message) return AC_ERR_PRIMITIVE;
    signature[0] = 0;
    memcpy(signature + 1, signed_message, 64);
    memcpy(signature + 65, sealer->signing.secret + AC_SIGN_SEED_BYTES, AC_SIGN_PUBLIC_BYTES);
  }
  status = ac_aes256gcm_seal(&sealer->aes, sealed, plaintext_len + AC_TAG_BYTES, nonce, plaintext, plaintext_len,
                             NULL, 0);
  return status == AC_OK ? AC_OK : AC_ERR_PRIMITIVE; /* the nonce is spent, whatever it was */
}

int ac_v1_sealer_close(ac_v1_sealer *sealer) {
  /* In a child, `busy` may be the mark of a thread that only the parent has. */
  if (sealer->generation == aci_generation() && !aci_enter(&sealer->busy)) return AC_ERR_BUSY;
  forget(sealer, AC_STATE_CLOSED);
  aci_leave(&sealer->busy);
  return AC_OK;
}

void ac_v1_sealer_wipe(ac_v1_sealer *sealer) { forget(sealer, AC_STATE_CLOSED); }

/* ---- opener ---- */

void aci_v1_opener_start(ac_v1_opener *opener, const uint8_t request_nonce[AC_NONCE_BYTES]) {
  memcpy(opener->request_nonce, request_nonce, AC_NONCE_BYTES);
  opener->sse.max_event_bytes = SIZE_MAX;
  opener->sse.max_line_bytes = SIZE_MAX;
  opener->generation = aci_generation();
  opener->busy = 0;
  opener->state = AC_STATE_READY;
}

int ac_v1_opener_set(ac_v1_opener *opener, size_t max_event_bytes, size_t max_line_bytes, int refuse_nonce_reuse) {
  const int status = aci_v1_opener_enter(opener);
  if (status != AC_OK) return status;
  opener->sse.max_event_bytes = max_event_bytes;
  opener->sse.max_line_bytes = max_line_bytes;
  opener->refuse_nonce_reuse = refuse_nonce_reuse != 0;
  aci_v1_opener_leave(opener, AC_OK);
  return AC_OK;
}

static void forget_opener(ac_v1_opener *opener, uint32_t state) {
  ac_aes256gcm_wipe(&opener->aes);
  aci_wipe(opener->request_nonce, sizeof opener->request_nonce);
  aci_wipe(opener->first_nonce, sizeof opener->first_nonce);
  aci_wipe(opener->last_nonce, sizeof opener->last_nonce);
  opener->state = state;
}

int aci_v1_opener_enter(ac_v1_opener *opener) {
  if (!aci_enter(&opener->busy)) return AC_ERR_BUSY;
  if (opener->state == AC_STATE_READY) return AC_OK;
  aci_leave(&opener->busy);
  return AC_ERR_STATE;
}

void aci_v1_opener_leave(ac_v1_opener *opener, int status) {
  if (status < 0 && status != AC_ERR_ARGUMENT && status != AC_ERR_CAPACITY)
    forget_opener(opener, AC_STATE_FAILED);
  aci_leave(&opener->busy);
}

int aci_v1_open(ac_v1_opener *opener, uint8_t *out, size_t *out_len, const uint8_t *ciphertext, size_t ciphertext_len,
                const uint8_t *nonce, size_t nonce_len, const uint8_t *hash, size_t hash_len) {
  uint8_t nonce_bytes[AC_NONCE_BYTES], claimed[AC_HASH_BYTES], computed[AC_HASH_BYTES];
  size_t sealed_len = 0;

  /* check */
  if (aci_base64_decode_exact(nonce_bytes, sizeof nonce_bytes, nonce, nonce_len) != AC_OK) return AC_ERR_FORMAT;
  if (hash_len != 0 && aci_base64_decode_exact(claimed, sizeof claimed, hash, hash_len) != AC_OK)
    return AC_ERR_FORMAT;
  if (aci_base64_decode(out, &sealed_len, ciphertext, ciphertext_len) != AC_OK) return AC_ERR_FORMAT;
  if (sealed_len < AC_TAG_BYTES) return AC_ERR_FORMAT;
  if (memcmp(nonce_bytes, opener->request_nonce, AC_NONCE_BYTES) == 0) return AC_ERR_NONCE_REUSE; /* reflection */
  const int reused = opener->chunks != 0 && (memcmp(nonce_bytes, opener->first_nonce, AC_NONCE_BYTES) == 0 ||
                                             memcmp(nonce_bytes, opener->last_nonce, AC_NONCE_BYTES) == 0);
  if (reused && opener->refuse_nonce_reuse) return AC_ERR_NONCE_REUSE;
  int status = ac_aes256gcm_open(&opener->aes, out, sealed_len, nonce_bytes, out, sealed_len, NULL, 0);
  if (status != AC_OK) return status;
  const size_t plaintext_len = sealed_len - AC_TAG_BYTES;
  if (hash_len != 0) {
    status = ac_blake2b256(computed, out, plaintext_len);
    if (status == AC_OK && !aci_equal(computed, claimed, sizeof computed)) status = AC_ERR_AUTH;
    if (status != AC_OK) {
      aci_wipe(out, plaintext_len);
      return status;
    }
  }

  /* change */
  if (opener->chunks == 0) memcpy(opener->first_nonce, nonce_bytes, AC_NONCE_BYTES);
  memcpy(opener->last_nonce, nonce_bytes, AC_NONCE_BYTES);
  if (reused) opener->nonce_reused = 1;
  opener->chunks++;
  *out_len = plaintext_len;
  return AC_OK;
}

int ac_v1_opener_close(ac_v1_opener *opener) {
  if (opener->generation == aci_generation() && !aci_enter(&opener->busy)) return AC_ERR_BUSY; /* as the sealer's */
  forget_opener(opener, AC_STATE_CLOSED);
  aci_leave(&opener->busy);
  return AC_OK;
}

void ac_v1_opener_wipe(ac_v1_opener *opener) { forget_opener(opener, AC_STATE_CLOSED); }
