/* Records of protocol v2 (docs/protocol-v2.md, section 4): nonces, order, limits, the end, and failure that stays. */
#include "ac_internal.h"

enum { MOST_AAD = 1 + 8 * AC_V2_USAGE };

/* flag || usage. Its length. */
static size_t put_aad(uint8_t aad[MOST_AAD], uint32_t flag, const uint64_t *usage) {
  aad[0] = (uint8_t)flag;
  if (usage == NULL) return 1;
  for (size_t i = 0; i < AC_V2_USAGE; i++) aci_store64be(aad + 1 + 8 * i, usage[i]);
  return MOST_AAD;
}

/* base XOR index, as numbers of 12 bytes. */
static void put_nonce(uint8_t nonce[AC_NONCE_BYTES], const uint8_t base[AC_NONCE_BYTES], uint64_t index) {
  memcpy(nonce, base, AC_NONCE_BYTES - 8);
  aci_store64be(nonce + AC_NONCE_BYTES - 8, aci_load64be(base + AC_NONCE_BYTES - 8) ^ index);
}

int aci_v2_usage_fits(const uint64_t *usage) {
  for (size_t i = 0; usage != NULL && i < AC_V2_USAGE; i++) {
    if (usage[i] > ACI_V2_MAX_INTEGER) return 0;
  }
  return 1;
}

/* ---- sealer ---- */

int aci_v2_sealer_start(ac_v2_sealer *sealer, const uint8_t secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len) {
  ac_v2_sealer made = {0};
  aci_randombytes(made.salt, sizeof made.salt);
  aci_declassify(made.salt, sizeof made.salt); /* v2 sends it in clear */
  const int status = aci_v2_response_schedule(&made.aes, made.base, secret, enc, enc_len, made.salt);
  if (status == AC_OK) {
    made.bytes_left = AC_V2_MAX_STREAM_BYTES;
    made.generation = aci_generation();
    made.state = AC_STATE_READY;
    *sealer = made;
  }
  aci_wipe(&made, sizeof made);
  return status;
}

int ac_v2_sealer_init(ac_v2_sealer *sealer, const uint8_t secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len) {
  if (enc_len == 0 || enc_len > AC_V2_MAX_ENC_BYTES) return AC_ERR_ARGUMENT;
  return aci_v2_sealer_start(sealer, secret, enc, enc_len);
}

/* All but the salt, which is public, and what another thread may look at before it is refused. */
static void forget(ac_v2_sealer *sealer, uint32_t state) {
  ac_aes256gcm_wipe(&sealer->aes);
  aci_wipe(sealer->base, sizeof sealer->base);
  sealer->state = state;
}

int aci_v2_sealer_enter(ac_v2_sealer *sealer) {
  /* First of all: in a child, `busy` may be the mark of a thread that only the parent has. */
  if (sealer->generation != aci_generation()) return AC_ERR_FORKED;
  if (!aci_enter(&sealer->busy)) return AC_ERR_BUSY;
  if (sealer->state == AC_STATE_READY) return AC_OK;
  aci_leave(&sealer->busy);
  return AC_ERR_STATE;
}

void aci_v2_sealer_leave(ac_v2_sealer *sealer, int status) {
  if (status == AC_ERR_PRIMITIVE) forget(sealer, AC_STATE_FAILED);
  aci_leave(&sealer->busy);
}

int aci_v2_sealer_has(const ac_v2_sealer *sealer, uint64_t count, uint64_t plaintext_len, uint32_t last_flag) {
  const int aborts = last_flag == AC_FLAG_ABORT;
  const uint64_t kept_records = aborts ? 0 : 1, kept_bytes = aborts ? 0 : AC_V2_ABORT_BYTES;
  return sealer->index <= AC_V2_MAX_RECORDS && count + kept_records <= AC_V2_MAX_RECORDS - sealer->index &&
                 sealer->bytes_left >= kept_bytes && plaintext_len <= sealer->bytes_left - kept_bytes
             ? AC_OK
             : AC_ERR_LIMIT;
}

int aci_v2_seal(ac_v2_sealer *sealer, uint8_t *sealed, uint32_t flag, const uint8_t *plaintext, size_t plaintext_len,
                const uint64_t *usage) {
  uint8_t nonce[AC_NONCE_BYTES], aad[MOST_AAD]; /* the nonce is worth nothing without the key: not wiped */
  const size_t aad_len = put_aad(aad, flag, usage);
  put_nonce(nonce, sealer->base, sealer->index);
  sealer->index++; /* spent from here on, whatever becomes of it */
  sealer->bytes_left -= plaintext_len;
  ACI_STORE_RELAXED(&sealer->begun, 1);
  const int status = ac_aes256gcm_seal(&sealer->aes, sealed, plaintext_len + AC_TAG_BYTES, nonce, plaintext,
                                       plaintext_len, aad, aad_len);
  if (status != AC_OK) return AC_ERR_PRIMITIVE;
  if (flag != AC_FLAG_MORE) forget(sealer, AC_STATE_ENDED);
  return AC_OK;
}

int ac_v2_record_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, uint32_t flag, const uint8_t *plaintext,
                      size_t plaintext_len, const uint64_t *usage) {
  if (flag > AC_FLAG_WHOLE || (flag == AC_FLAG_MORE && plaintext_len == 0) || !aci_v2_usage_fits(usage) ||
      (uint64_t)plaintext_len > AC_GCM_MAX_BYTES || plaintext_len > SIZE_MAX - AC_TAG_BYTES)
    return AC_ERR_ARGUMENT;
  const size_t bytes = plaintext_len + AC_TAG_BYTES;
  if (out_cap < bytes) return AC_ERR_CAPACITY;
  if ((out != plaintext && aci_overlap(out, bytes, plaintext, plaintext_len)) ||
      aci_overlap(out, bytes, usage, usage != NULL ? AC_V2_USAGE * sizeof *usage : 0))
    return AC_ERR_OVERLAP;
  int status = aci_v2_sealer_enter(sealer);
  if (status != AC_OK) return status;
  if (flag == AC_FLAG_WHOLE && sealer->begun) status = AC_ERR_ARGUMENT;
  if (status == AC_OK) status = aci_v2_sealer_has(sealer, 1, plaintext_len, flag);
  if (status == AC_OK) status = aci_v2_seal(sealer, out, flag, plaintext, plaintext_len, usage);
  aci_v2_sealer_leave(sealer, status);
  return status;
}

int ac_v2_sealer_close(ac_v2_sealer *sealer) {
  if (!aci_enter_to_close(&sealer->busy)) return AC_ERR_BUSY;
  forget(sealer, AC_STATE_CLOSED);
  aci_leave(&sealer->busy);
  return AC_OK;
}

void ac_v2_sealer_wipe(ac_v2_sealer *sealer) { forget(sealer, AC_STATE_CLOSED); }

/* ---- opener ---- */

static void start(ac_v2_opener *opener, int stream) {
  opener->sse.max_event_bytes = SIZE_MAX;
  opener->sse.max_line_bytes = SIZE_MAX;
  opener->bytes_left = AC_V2_MAX_STREAM_BYTES;
  opener->stream = stream != 0;
  opener->state = AC_STATE_READY;
}

void aci_v2_opener_start(ac_v2_opener *opener, const uint8_t secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len,
                         int stream) {
  memset(opener, 0, sizeof *opener);
  memcpy(opener->key.waiting.secret, secret, AC_HASH_BYTES);
  memcpy(opener->key.waiting.enc, enc, enc_len);
  opener->key.waiting.enc_len = enc_len;
  start(opener, stream);
}

int ac_v2_opener_init(ac_v2_opener *opener, const uint8_t secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len,
                      const uint8_t salt[AC_V2_SALT_BYTES]) {
  if (enc_len == 0 || enc_len > AC_V2_MAX_ENC_BYTES) return AC_ERR_ARGUMENT;
  ac_v2_opener made = {0};
  const int status = aci_v2_response_schedule(&made.key.aes, made.base, secret, enc, enc_len, salt);
  if (status == AC_OK) {
    made.keyed = 1;
    start(&made, 1);
    *opener = made;
  }
  aci_wipe(&made, sizeof made);
  return status;
}

static void forget_opener(ac_v2_opener *opener, uint32_t state) {
  aci_wipe(&opener->key, sizeof opener->key);
  aci_wipe(opener->base, sizeof opener->base);
  opener->state = state;
}

int aci_v2_opener_enter(ac_v2_opener *opener) {
  if (!aci_enter(&opener->busy)) return AC_ERR_BUSY;
  if (opener->state == AC_STATE_READY || opener->state == AC_STATE_ENDED) return AC_OK;
  aci_leave(&opener->busy);
  return AC_ERR_STATE;
}

void aci_v2_opener_leave(ac_v2_opener *opener, int status) {
  if (status < 0 && status != AC_ERR_ARGUMENT && status != AC_ERR_CAPACITY)
    forget_opener(opener, AC_STATE_FAILED);
  aci_leave(&opener->busy);
}

int ac_v2_opener_set(ac_v2_opener *opener, size_t max_event_bytes, size_t max_line_bytes) {
  const int status = aci_v2_opener_enter(opener);
  if (status != AC_OK) return status;
  opener->sse.max_event_bytes = max_event_bytes;
  opener->sse.max_line_bytes = max_line_bytes;
  aci_v2_opener_leave(opener, AC_OK);
  return AC_OK;
}

/* Now that the salt is known. The key takes the place of what it is made of. */
static int make_key(ac_v2_opener *opener, const uint8_t salt[AC_V2_SALT_BYTES]) {
  ac_v2_waiting w = opener->key.waiting;
  aci_wipe(&opener->key, sizeof opener->key);
  const int status = aci_v2_response_schedule(&opener->key.aes, opener->base, w.secret, w.enc, w.enc_len, salt);
  opener->keyed = status == AC_OK;
  aci_wipe(&w, sizeof w);
  return status;
}

int aci_v2_open(ac_v2_opener *opener, uint8_t *out, uint32_t flag, const uint8_t *sealed, size_t sealed_len,
                const uint8_t *salt, const uint64_t *usage) {
  uint8_t nonce[AC_NONCE_BYTES], aad[MOST_AAD];

  /* check */
  if (opener->ended || flag > AC_FLAG_WHOLE || !aci_v2_usage_fits(usage)) return AC_ERR_FORMAT;
  if (sealed_len < AC_TAG_BYTES || (flag == AC_FLAG_MORE && sealed_len == AC_TAG_BYTES)) return AC_ERR_FORMAT;
  if (flag == AC_FLAG_WHOLE && opener->index != 0) return AC_ERR_FORMAT;
  if ((salt != NULL) == (opener->keyed != 0)) return AC_ERR_FORMAT; /* with the first record, and only there */
  const size_t plaintext_len = sealed_len - AC_TAG_BYTES;
  if (opener->index >= AC_V2_MAX_RECORDS || plaintext_len > opener->bytes_left) return AC_ERR_TOO_LARGE;

  /* change: whatever fails from here on is final */
  int status = salt != NULL ? make_key(opener, salt) : AC_OK;
  if (status != AC_OK) return status;
  const size_t aad_len = put_aad(aad, flag, usage);
  put_nonce(nonce, opener->base, opener->index);
  status = ac_aes256gcm_open(&opener->key.aes, out, plaintext_len, nonce, sealed, sealed_len, aad, aad_len);
  if (status != AC_OK) return status;
  opener->index++;
  opener->bytes_left -= plaintext_len;
  if (flag != AC_FLAG_MORE) {
    opener->ended = 1;
    forget_opener(opener, AC_STATE_ENDED);
  }
  return AC_OK;
}

int ac_v2_record_open(ac_v2_opener *opener, uint8_t *out, size_t out_cap, uint32_t flag, const uint8_t *sealed,
                      size_t sealed_len, const uint64_t *usage) {
  const size_t plaintext_len = sealed_len < AC_TAG_BYTES ? 0 : sealed_len - AC_TAG_BYTES;
  if (out_cap < plaintext_len) return AC_ERR_CAPACITY;
  if ((out != sealed && aci_overlap(out, plaintext_len, sealed, sealed_len)) ||
      aci_overlap(out, plaintext_len, usage, usage != NULL ? AC_V2_USAGE * sizeof *usage : 0))
    return AC_ERR_OVERLAP;
  int status = aci_v2_opener_enter(opener);
  if (status != AC_OK) return status;
  /* one that waits for its salt is a session's: nothing has said yet which key it is */
  status = opener->keyed ? aci_v2_open(opener, out, flag, sealed, sealed_len, NULL, usage) : AC_ERR_ARGUMENT;
  aci_v2_opener_leave(opener, status);
  return status;
}

int ac_v2_opener_close(ac_v2_opener *opener) {
  if (!aci_enter_to_close(&opener->busy)) return AC_ERR_BUSY;
  forget_opener(opener, AC_STATE_CLOSED);
  aci_leave(&opener->busy);
  return AC_OK;
}

void ac_v2_opener_wipe(ac_v2_opener *opener) { forget_opener(opener, AC_STATE_CLOSED); }
