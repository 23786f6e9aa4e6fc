/* What a v2 node sends (docs/protocol-v2.md, section 4): SSE events and objects, each finished in one call. Members stand
 * in order of code point: ciphertext, flag, salt, usage, v. */
#include "ac_internal.h"

#include "ac_write.h"

/* Fixed pieces of text and their length, without the final zero. */
#define LEN(literal) (sizeof(literal) - 1)
#define WRITE(p, literal) aci_write((p), (literal), LEN(literal))

#define DATA "data: "
#define OPEN "{\"ciphertext\":\""
#define FLAG ",\"flag\":"
#define SALT ",\"salt\":\""
#define COMPLETION ",\"usage\":{\"completion_tokens\":"
#define PROMPT ",\"prompt_tokens\":"
#define TOTAL ",\"total_tokens\":"
#define VERSION ",\"v\":2"
#define BLANK_LINE "\n\n"

enum { SALT_TEXT = 44, FLAG_TEXT = 1, QUOTE = 1, BRACE = 1 };

typedef enum kind { EVENT, OBJECT } kind;

/* `salt`: 1 if this is the first record, which shows it. */
static size_t message_bytes(kind as, int salt, size_t plaintext_len, uint32_t flag, const uint64_t *usage) {
  if (plaintext_len > SIZE_MAX / 4 || (uint64_t)plaintext_len > AC_GCM_MAX_BYTES) return SIZE_MAX;
  size_t bytes = LEN(OPEN) + ac_base64_encoded_len(plaintext_len + AC_TAG_BYTES) + QUOTE + BRACE;
  if (as == EVENT) bytes += LEN(DATA) + LEN(BLANK_LINE);
  if (flag != AC_FLAG_MORE) bytes += LEN(FLAG) + FLAG_TEXT;
  if (salt) bytes += LEN(SALT) + SALT_TEXT + QUOTE + LEN(VERSION);
  if (usage != NULL) {
    bytes += LEN(COMPLETION) + LEN(PROMPT) + LEN(TOTAL) + BRACE;
    for (size_t i = 0; i < AC_V2_USAGE; i++) bytes += aci_decimal_len(usage[i]);
  }
  return bytes;
}

size_t ac_v2_object_bytes(size_t plaintext_len, uint32_t flag, const uint64_t *usage) {
  return message_bytes(OBJECT, 1, plaintext_len, flag, usage);
}

size_t ac_v2_events_bytes(const ac_v2_sealer *sealer, size_t plaintexts_len, const size_t *plaintext_lens, size_t count,
                          uint32_t last_flag, const uint64_t *usage) {
  int salt = !ACI_LOAD_RELAXED(&sealer->begun);
  size_t total = 0, left = plaintexts_len;
  if (count == 0) return SIZE_MAX; /* there must be a last one */
  for (size_t i = 0; i < count; i++, salt = 0) {
    const uint32_t flag = i == count - 1 ? last_flag : AC_FLAG_MORE;
    if (plaintext_lens[i] > left || (flag == AC_FLAG_MORE && plaintext_lens[i] == 0)) return SIZE_MAX;
    left -= plaintext_lens[i];
    const size_t bytes = message_bytes(EVENT, salt, plaintext_lens[i], flag, usage);
    if (bytes == SIZE_MAX || bytes > SIZE_MAX - 1 - total) return SIZE_MAX;
    total += bytes;
  }
  return left == 0 ? total : SIZE_MAX;
}

static int write_message(ac_v2_sealer *sealer, uint8_t **out, kind as, uint32_t flag, const uint8_t *plaintext,
                         size_t plaintext_len, const uint64_t *usage) {
  const int salt = !sealer->begun;
  uint8_t *p = as == EVENT ? WRITE(*out, DATA OPEN) : WRITE(*out, OPEN);
  p = aci_write_room_for_sealed(p, plaintext_len);
  const int status = aci_v2_seal(sealer, aci_sealed_place(p, plaintext_len), flag, plaintext, plaintext_len, usage);
  if (status != AC_OK) return status;
  aci_encode_sealed(p, plaintext_len);
  p = WRITE(p, "\"");
  if (flag != AC_FLAG_MORE) {
    p = WRITE(p, FLAG);
    p = aci_write_decimal(p, flag);
  }
  if (salt) {
    p = WRITE(p, SALT);
    p = aci_write_base64(p, sealer->salt, sizeof sealer->salt);
    p = WRITE(p, "\"");
  }
  if (usage != NULL) { /* prompt, completion, total */
    p = WRITE(p, COMPLETION);
    p = aci_write_decimal(p, usage[1]);
    p = WRITE(p, PROMPT);
    p = aci_write_decimal(p, usage[0]);
    p = WRITE(p, TOTAL);
    p = aci_write_decimal(p, usage[2]);
    p = WRITE(p, "}");
  }
  if (salt) p = WRITE(p, VERSION);
  *out = as == EVENT ? WRITE(p, "}" BLANK_LINE) : WRITE(p, "}");
  return AC_OK;
}

/* What is checked before anything is written. */
static int check(const uint8_t *out, size_t out_cap, size_t bytes, const uint8_t *plaintext, size_t plaintext_len,
                 const uint64_t *usage) {
  if (bytes == SIZE_MAX) return AC_ERR_ARGUMENT;
  if (out_cap < bytes) return AC_ERR_CAPACITY;
  if (aci_overlap(out, bytes, plaintext, plaintext_len) ||
      aci_overlap(out, bytes, usage, usage != NULL ? AC_V2_USAGE * sizeof *usage : 0))
    return AC_ERR_OVERLAP;
  return AC_OK;
}

int64_t ac_v2_event_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, const uint8_t *plaintext,
                         size_t plaintext_len) {
  size_t out_len = 0;
  const int status = ac_v2_events_seal(sealer, out, out_cap, &out_len, plaintext, plaintext_len, &plaintext_len, 1,
                                       AC_FLAG_MORE, NULL);
  return status == AC_OK ? (int64_t)out_len : status;
}

int ac_v2_events_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len, const uint8_t *plaintexts,
                      size_t plaintexts_len, const size_t *plaintext_lens, size_t count, uint32_t last_flag,
                      const uint64_t *usage) {
  if (last_flag > AC_FLAG_ABORT || !aci_v2_usage_fits(usage)) return AC_ERR_ARGUMENT;
  int status = aci_v2_sealer_enter(sealer); /* first: whether the salt is among it depends on who was here before */
  if (status != AC_OK) return status;
  const size_t bytes = ac_v2_events_bytes(sealer, plaintexts_len, plaintext_lens, count, last_flag, usage);
  status = check(out, out_cap, bytes, plaintexts, plaintexts_len, usage);
  if (status == AC_OK && aci_overlap(out, bytes, plaintext_lens, count * sizeof *plaintext_lens)) status = AC_ERR_OVERLAP;
  if (status == AC_OK) status = aci_v2_sealer_has(sealer, count, plaintexts_len, last_flag);
  uint8_t *p = out;
  const uint8_t *in = plaintexts;
  for (size_t i = 0; i < count && status == AC_OK; i++) {
    const uint32_t flag = i == count - 1 ? last_flag : AC_FLAG_MORE;
    status = write_message(sealer, &p, EVENT, flag, in, plaintext_lens[i], usage);
    if (plaintext_lens[i] != 0) in += plaintext_lens[i]; /* NULL perhaps, where all are empty */
  }
  if (status == AC_OK) *out_len = bytes;
  aci_v2_sealer_leave(sealer, status);
  return status;
}

int ac_v2_object_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len, uint32_t flag,
                      const uint8_t *plaintext, size_t plaintext_len, const uint64_t *usage) {
  if ((flag != AC_FLAG_WHOLE && flag != AC_FLAG_ABORT) || !aci_v2_usage_fits(usage)) return AC_ERR_ARGUMENT;
  const size_t bytes = ac_v2_object_bytes(plaintext_len, flag, usage);
  int status = check(out, out_cap, bytes, plaintext, plaintext_len, usage);
  if (status == AC_OK) status = aci_v2_sealer_enter(sealer);
  if (status != AC_OK) return status;
  if (sealer->begun) status = AC_ERR_ARGUMENT; /* it would be the sole record, and is not */
  if (status == AC_OK) status = aci_v2_sealer_has(sealer, 1, plaintext_len, flag);
  uint8_t *p = out;
  if (status == AC_OK) status = write_message(sealer, &p, OBJECT, flag, plaintext, plaintext_len, usage);
  if (status == AC_OK) *out_len = bytes;
  aci_v2_sealer_leave(sealer, status);
  return status;
}
