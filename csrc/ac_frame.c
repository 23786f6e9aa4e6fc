/* What a v1 node sends: replies and SSE events, each finished in one call. The order of members is that of deployed
 * nodes; every reader takes any. */
#include "ac_internal.h"

#include "ac_write.h"

/* Fixed pieces of text and their length, without the final zero. */
#define LEN(literal) (sizeof(literal) - 1)
#define WRITE(p, literal) aci_write((p), (literal), LEN(literal))

#define EVENT_OPEN "data: {\"ciphertext\":\""
#define EVENT_NONCE "\",\"nonce\":\""
#define EVENT_USAGE "\",\"usage\":"
#define EVENT_SIGNATURE ",\"signature\":\""
#define EVENT_HASH "\",\"response_hash\":\""
#define EVENT_END "\"}\n\n"

#define REPLY_OPEN "{\"nonce\":\""
#define REPLY_CIPHERTEXT "\",\"ciphertext\":\""
#define REPLY_HASH "\",\"response_hash\":\""
#define REPLY_SIGNATURE "\",\"signature\":\""
#define REPLY_USAGE "\",\"usage\":"
#define REPLY_END "}"

enum {
  NONCE_TEXT = 16,
  HASH_TEXT = 44,
  SIGNATURE_TEXT = 132,
  QUOTE = 1,
  /* a message without usage ends its nonce, or its signature, with a bare quote instead of EVENT_USAGE, REPLY_USAGE */
  EVENT_FIXED = LEN(EVENT_OPEN) + LEN(EVENT_NONCE) + NONCE_TEXT + QUOTE + LEN(EVENT_SIGNATURE) + LEN(EVENT_HASH) +
                HASH_TEXT + LEN(EVENT_END),
  REPLY_FIXED = LEN(REPLY_OPEN) + NONCE_TEXT + LEN(REPLY_CIPHERTEXT) + LEN(REPLY_HASH) + HASH_TEXT +
                LEN(REPLY_SIGNATURE) + QUOTE + LEN(REPLY_END)
};

static size_t message_bytes(const ac_v1_sealer *sealer, size_t fixed, size_t usage_key, size_t plaintext_len,
                            size_t usage_len) {
  const size_t most = SIZE_MAX / 4;
  if (plaintext_len > most || usage_len > most || (uint64_t)plaintext_len > AC_GCM_MAX_BYTES) return SIZE_MAX;
  return fixed + ac_base64_encoded_len(plaintext_len + AC_TAG_BYTES) + (sealer->signs ? SIGNATURE_TEXT : 0) +
         (usage_len != 0 ? usage_key - QUOTE + usage_len : 0);
}

size_t ac_v1_event_bytes(const ac_v1_sealer *sealer, size_t plaintext_len, size_t usage_len) {
  return message_bytes(sealer, EVENT_FIXED, LEN(EVENT_USAGE), plaintext_len, usage_len);
}

size_t ac_v1_reply_bytes(const ac_v1_sealer *sealer, size_t plaintext_len, size_t usage_len) {
  return message_bytes(sealer, REPLY_FIXED, LEN(REPLY_USAGE), plaintext_len, usage_len);
}

size_t ac_v1_events_bytes(const ac_v1_sealer *sealer, size_t plaintexts_len, const size_t *plaintext_lens,
                          size_t count, size_t usage_len) {
  size_t total = 0, left = plaintexts_len;
  for (size_t i = 0; i < count; i++) {
    if (plaintext_lens[i] > left) return SIZE_MAX;
    left -= plaintext_lens[i];
    const size_t bytes = ac_v1_event_bytes(sealer, plaintext_lens[i], usage_len);
    if (bytes == SIZE_MAX || bytes > SIZE_MAX - 1 - total) return SIZE_MAX;
    total += bytes;
  }
  return left == 0 ? total : SIZE_MAX;
}

/* It goes into one line of an event stream. */
static int usage_is_one_line(const uint8_t *usage, size_t usage_len) {
  for (size_t i = 0; i < usage_len; i++) {
    if (usage[i] < 0x20) return 0;
  }
  return 1;
}

static uint8_t *write_signature(uint8_t *p, const ac_v1_sealer *sealer, const uint8_t *signature) {
  return sealer->signs ? aci_write_base64(p, signature, ACI_SUI_SIGNATURE_BYTES) : p;
}

/* Seal into the room that begins at p. */
static int seal_in_place(ac_v1_sealer *sealer, uint8_t **p, uint8_t nonce[AC_NONCE_BYTES],
                         uint8_t hash[AC_HASH_BYTES], uint8_t signature[ACI_SUI_SIGNATURE_BYTES],
                         const uint8_t *plaintext, size_t plaintext_len) {
  uint8_t *const end = aci_write_room_for_sealed(*p, plaintext_len);
  const int status = aci_v1_seal(sealer, aci_sealed_place(end, plaintext_len), nonce, hash, signature, plaintext,
                                 plaintext_len);
  if (status == AC_OK) aci_encode_sealed(end, plaintext_len);
  *p = end;
  return status;
}

static int write_event(ac_v1_sealer *sealer, uint8_t **out, const uint8_t *plaintext, size_t plaintext_len,
                       const uint8_t *usage, size_t usage_len) {
  uint8_t nonce[AC_NONCE_BYTES], hash[AC_HASH_BYTES], signature[ACI_SUI_SIGNATURE_BYTES]; /* sent: not wiped */
  uint8_t *p = WRITE(*out, EVENT_OPEN);
  const int status = seal_in_place(sealer, &p, nonce, hash, signature, plaintext, plaintext_len);
  if (status != AC_OK) return status;
  p = WRITE(p, EVENT_NONCE);
  p = aci_write_base64(p, nonce, sizeof nonce);
  if (usage_len != 0) {
    p = WRITE(p, EVENT_USAGE);
    p = aci_write(p, usage, usage_len);
  } else {
    p = WRITE(p, "\"");
  }
  p = WRITE(p, EVENT_SIGNATURE);
  p = write_signature(p, sealer, signature);
  p = WRITE(p, EVENT_HASH);
  p = aci_write_base64(p, hash, sizeof hash);
  *out = WRITE(p, EVENT_END);
  return AC_OK;
}

static int write_reply(ac_v1_sealer *sealer, uint8_t *out, const uint8_t *plaintext, size_t plaintext_len,
                       const uint8_t *usage, size_t usage_len) {
  uint8_t nonce[AC_NONCE_BYTES], hash[AC_HASH_BYTES], signature[ACI_SUI_SIGNATURE_BYTES]; /* sent: not wiped */
  uint8_t *const nonce_place = WRITE(out, REPLY_OPEN); /* known once sealed */
  uint8_t *p = WRITE(nonce_place + NONCE_TEXT, REPLY_CIPHERTEXT);
  const int status = seal_in_place(sealer, &p, nonce, hash, signature, plaintext, plaintext_len);
  if (status != AC_OK) return status;
  (void)aci_write_base64(nonce_place, nonce, sizeof nonce);
  p = WRITE(p, REPLY_HASH);
  p = aci_write_base64(p, hash, sizeof hash);
  p = WRITE(p, REPLY_SIGNATURE);
  p = write_signature(p, sealer, signature);
  if (usage_len != 0) {
    p = WRITE(p, REPLY_USAGE);
    p = aci_write(p, usage, usage_len);
  } else {
    p = WRITE(p, "\"");
  }
  (void)WRITE(p, REPLY_END);
  return AC_OK;
}

/* What every call checks before it enters the sealer. */
static int check(const uint8_t *out, size_t out_cap, size_t bytes, const uint8_t *plaintext, size_t plaintext_len,
                 const uint8_t *usage, size_t usage_len) {
  if (bytes == SIZE_MAX || !usage_is_one_line(usage, usage_len)) return AC_ERR_ARGUMENT;
  if (out_cap < bytes) return AC_ERR_CAPACITY;
  if (aci_overlap(out, bytes, plaintext, plaintext_len) || aci_overlap(out, bytes, usage, usage_len))
    return AC_ERR_OVERLAP;
  return AC_OK;
}

int64_t ac_v1_event_seal(ac_v1_sealer *sealer, uint8_t *out, size_t out_cap, const uint8_t *plaintext,
                         size_t plaintext_len) {
  size_t out_len = 0;
  const int status = ac_v1_events_seal(sealer, out, out_cap, &out_len, plaintext, plaintext_len, &plaintext_len, 1, NULL, 0);
  return status == AC_OK ? (int64_t)out_len : status;
}

int ac_v1_events_seal(ac_v1_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len,
                      const uint8_t *plaintexts, size_t plaintexts_len, const size_t *plaintext_lens, size_t count,
                      const uint8_t *usage, size_t usage_len) {
  const size_t bytes = ac_v1_events_bytes(sealer, plaintexts_len, plaintext_lens, count, usage_len);
  int status = check(out, out_cap, bytes, plaintexts, plaintexts_len, usage, usage_len);
  if (status == AC_OK && aci_overlap(out, bytes, plaintext_lens, count * sizeof *plaintext_lens))
    status = AC_ERR_OVERLAP;
  if (status == AC_OK) status = aci_v1_sealer_enter(sealer, count, plaintexts_len);
  if (status != AC_OK) return status;
  uint8_t *p = out;
  const uint8_t *in = plaintexts;
  for (size_t i = 0; i < count && status == AC_OK; i++) {
    status = write_event(sealer, &p, in, plaintext_lens[i], usage, usage_len);
    if (plaintext_lens[i] != 0) in += plaintext_lens[i]; /* NULL perhaps, where all are empty */
  }
  if (status == AC_OK) *out_len = bytes;
  aci_v1_sealer_leave(sealer, status);
  return status;
}

int ac_v1_reply_seal(ac_v1_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len, const uint8_t *plaintext,
                     size_t plaintext_len, const uint8_t *usage, size_t usage_len) {
  const size_t bytes = ac_v1_reply_bytes(sealer, plaintext_len, usage_len);
  int status = check(out, out_cap, bytes, plaintext, plaintext_len, usage, usage_len);
  if (status == AC_OK) status = aci_v1_sealer_enter(sealer, 1, plaintext_len);
  if (status != AC_OK) return status;
  status = write_reply(sealer, out, plaintext, plaintext_len, usage, usage_len);
  if (status == AC_OK) *out_len = bytes;
  aci_v1_sealer_leave(sealer, status);
  return status;
}
