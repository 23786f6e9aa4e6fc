/* Both ends of a v2 request (docs/protocol-v2.md, section 3): what the client seals and what the node opens. */
#include "ac_internal.h"

#include "ac_write.h"

enum {
  MOST_ENDPOINT = 128,
  MOST_MODEL = 256,
  /* endpoint, model, stack_small_id, num_compute_units, stream, sent_at, each behind its length */
  MOST_AAD = 6 * 4 + MOST_ENDPOINT + MOST_MODEL + 8 + 8 + 1 + 8
};

/* ---- metadata ---- */

static int is_endpoint(const uint8_t *text, size_t len) {
  if (len == 0 || len > MOST_ENDPOINT || text[0] != '/') return 0;
  for (size_t i = 0; i < len; i++) {
    const uint8_t c = text[i];
    const int letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (!letter && !(c >= '0' && c <= '9') && c != '/' && c != '_' && c != '.' && c != '-') return 0;
  }
  return 1;
}

static int is_metadata(const ac_v2_metadata *m) {
  return is_endpoint(m->endpoint, m->endpoint_len) && m->model_len != 0 && m->model_len <= MOST_MODEL &&
         (!m->has_stack_small_id || m->stack_small_id <= ACI_V2_MAX_INTEGER) &&
         (!m->has_num_compute_units || m->num_compute_units <= ACI_V2_MAX_INTEGER) &&
         m->sent_at <= ACI_V2_MAX_INTEGER && m->stream <= 1;
}

static uint8_t *put_text(uint8_t *p, const uint8_t *text, size_t len) {
  aci_store32be(p, (uint32_t)len);
  return aci_write(p + 4, text, len);
}

static uint8_t *put_number(uint8_t *p, uint64_t number, uint32_t has) {
  uint8_t bytes[8];
  aci_store64be(bytes, number);
  return put_text(p, bytes, has ? sizeof bytes : 0);
}

/* The additional data of the request: each value with its length before it. Its length. */
static size_t put_aad(uint8_t aad[MOST_AAD], const ac_v2_metadata *m) {
  const uint8_t stream = m->stream != 0;
  uint8_t *p = put_text(aad, m->endpoint, m->endpoint_len);
  p = put_text(p, m->model, m->model_len);
  p = put_number(p, m->stack_small_id, m->has_stack_small_id);
  p = put_number(p, m->num_compute_units, m->has_num_compute_units);
  p = put_text(p, &stream, 1);
  p = put_number(p, m->sent_at, 1);
  return (size_t)(p - aad);
}

/* ---- client ---- */

static const char part_ciphertext[] = "{\"ciphertext\":\"";
static const char part_enc[] = "\",\"enc\":\"";
static const char part_endpoint[] = "\",\"endpoint\":\"";
static const char part_key_id[] = "\",\"key_id\":\"";
static const char part_model[] = "\",\"model_name\":";
static const char part_units[] = ",\"num_compute_units\":";
static const char part_sent_at[] = ",\"sent_at\":";
static const char part_stack[] = ",\"stack_small_id\":";
static const char part_stream[] = ",\"stream\":";
static const char part_end[] = ",\"v\":2}";

enum { /* all but the ciphertext, the encapsulated key and the model's name; a number has up to 16 digits */
  FIXED_BYTES = sizeof part_ciphertext + sizeof part_enc + sizeof part_endpoint + sizeof part_key_id + sizeof part_model +
                sizeof part_units + sizeof part_sent_at + sizeof part_stack + sizeof part_stream + sizeof part_end +
                MOST_ENDPOINT + 12 + 3 * 16 + 5
};

size_t ac_v2_request_max_bytes(size_t body_len, size_t model_json_len, size_t enc_len) {
  const size_t most = SIZE_MAX / 8;
  if (body_len > most || model_json_len > most || enc_len > AC_V2_MAX_ENC_BYTES) return SIZE_MAX;
  return FIXED_BYTES + model_json_len + ac_base64_encoded_len(enc_len) + ac_base64_encoded_len(body_len + AC_TAG_BYTES);
}

static uint8_t *write_number(uint8_t *p, uint64_t number, uint32_t has) {
  return has ? aci_write_decimal(p, number) : aci_write(p, "null", 4);
}

int ac_v2_request_seal(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, uint32_t suite,
                       const uint8_t key_id[AC_KEY_ID_BYTES], const uint8_t *public_key, const uint8_t *shared,
                       const uint8_t *enc, size_t enc_len, const ac_v2_metadata *metadata, const uint8_t *model_json,
                       size_t model_json_len, const uint8_t *body, size_t body_len) {
  const ac_v2_metadata *const m = metadata;
  const int own_kem = suite == AC_SUITE_X25519;
  if (own_kem ? public_key == NULL || shared != NULL || enc != NULL
              : suite != AC_SUITE_XWING || public_key != NULL || shared == NULL || enc == NULL ||
                    enc_len != AC_V2_MAX_ENC_BYTES)
    return AC_ERR_ARGUMENT;
  const size_t most = ac_v2_request_max_bytes(body_len, model_json_len, own_kem ? AC_X25519_BYTES : enc_len);
  if (most == SIZE_MAX || (uint64_t)body_len > AC_GCM_MAX_BYTES || !is_metadata(m)) return AC_ERR_ARGUMENT;
  if (out_cap < most) return AC_ERR_CAPACITY;
  if (aci_overlap(out, out_cap, body, body_len) || aci_overlap(out, out_cap, model_json, model_json_len) ||
      aci_overlap(out, out_cap, enc, own_kem ? 0 : enc_len) || aci_overlap(out, out_cap, key_id, AC_KEY_ID_BYTES) ||
      aci_overlap(out, out_cap, m->endpoint, m->endpoint_len) || aci_overlap(out, out_cap, m->model, m->model_len) ||
      aci_overlap(out, out_cap, m, sizeof *m))
    return AC_ERR_OVERLAP;
  ac_aes256gcm aes = {0};
  uint8_t made_shared[AC_HASH_BYTES] = {0}, secret[AC_HASH_BYTES] = {0};
  uint8_t made_enc[AC_X25519_BYTES], nonce[AC_NONCE_BYTES], aad[MOST_AAD]; /* sent, or of no use alone: not wiped */
  uint8_t *p = out;
  int status = AC_OK;

  /* enc, context = SetupBase(public key, "atoma/2 request" || 0 || key_id) */
  if (own_kem) {
    status = aci_dhkem_encapsulate(made_shared, made_enc, public_key, NULL);
    shared = made_shared;
    enc = made_enc;
    enc_len = sizeof made_enc;
  }
  if (status == AC_OK) status = aci_v2_request_schedule(&aes, nonce, secret, suite, shared, key_id);
  if (status != AC_OK) goto wipe;

  /* ciphertext = context.Seal(metadata, body); members in order of code point, compact */
  const size_t aad_len = put_aad(aad, m);
  p = aci_write(p, part_ciphertext, sizeof part_ciphertext - 1);
  p = aci_write_room_for_sealed(p, body_len);
  status = ac_aes256gcm_seal(&aes, aci_sealed_place(p, body_len), body_len + AC_TAG_BYTES, nonce, body, body_len, aad,
                             aad_len);
  if (status != AC_OK) goto wipe;
  aci_encode_sealed(p, body_len);
  p = aci_write(p, part_enc, sizeof part_enc - 1);
  p = aci_write_base64(p, enc, enc_len);
  p = aci_write(p, part_endpoint, sizeof part_endpoint - 1);
  p = aci_write(p, m->endpoint, m->endpoint_len);
  p = aci_write(p, part_key_id, sizeof part_key_id - 1);
  p = aci_write_base64(p, key_id, AC_KEY_ID_BYTES);
  p = aci_write(p, part_model, sizeof part_model - 1);
  p = aci_write(p, model_json, model_json_len);
  p = aci_write(p, part_units, sizeof part_units - 1);
  p = write_number(p, m->num_compute_units, m->has_num_compute_units);
  p = aci_write(p, part_sent_at, sizeof part_sent_at - 1);
  p = write_number(p, m->sent_at, 1);
  p = aci_write(p, part_stack, sizeof part_stack - 1);
  p = write_number(p, m->stack_small_id, m->has_stack_small_id);
  p = aci_write(p, part_stream, sizeof part_stream - 1);
  p = m->stream ? aci_write(p, "true", 4) : aci_write(p, "false", 5);
  p = aci_write(p, part_end, sizeof part_end - 1);

  aci_v2_opener_start(opener, secret, enc, enc_len, m->stream != 0);
  *out_len = (size_t)(p - out);

wipe:
  ac_aes256gcm_wipe(&aes);
  aci_wipe(made_shared, sizeof made_shared);
  aci_wipe(secret, sizeof secret);
  return status;
}

/* ---- node ---- */

int ac_v2_request_open(ac_v2_sealer *sealer, uint8_t *body, size_t body_cap, size_t *body_len, uint32_t suite,
                       const uint8_t key_id[AC_KEY_ID_BYTES], const ac_secret_key *node, const uint8_t *shared,
                       const uint8_t *enc, size_t enc_len, const uint8_t *ciphertext, size_t ciphertext_len,
                       const ac_v2_metadata *metadata) {
  const int own_kem = suite == AC_SUITE_X25519;
  if (own_kem ? node == NULL || shared != NULL : suite != AC_SUITE_XWING || node != NULL || shared == NULL)
    return AC_ERR_ARGUMENT;
  if (body_cap < ac_base64_decoded_max(ciphertext_len)) return AC_ERR_CAPACITY;
  /* all else is read after the body is written */
  if (aci_overlap(body, body_cap, ciphertext, ciphertext_len) || aci_overlap(body, body_cap, enc, enc_len) ||
      aci_overlap(body, body_cap, metadata->endpoint, metadata->endpoint_len) ||
      aci_overlap(body, body_cap, metadata->model, metadata->model_len) ||
      aci_overlap(body, body_cap, metadata, sizeof *metadata) || aci_overlap(body, body_cap, key_id, AC_KEY_ID_BYTES) ||
      aci_overlap(body, body_cap, shared, own_kem ? 0 : AC_HASH_BYTES) ||
      aci_overlap(body, body_cap, node, own_kem ? sizeof *node : 0))
    return AC_ERR_OVERLAP;
  ac_aes256gcm aes = {0};
  uint8_t made_shared[AC_HASH_BYTES] = {0}, secret[AC_HASH_BYTES] = {0}, nonce[AC_NONCE_BYTES], aad[MOST_AAD];
  size_t sealed_len = 0;

  /* syntax: all of it before any key is touched */
  if (!is_metadata(metadata) || enc_len != (own_kem ? AC_X25519_BYTES : AC_V2_MAX_ENC_BYTES) ||
      aci_base64_decode(body, &sealed_len, ciphertext, ciphertext_len) != AC_OK || sealed_len < AC_TAG_BYTES)
    return AC_ERR_FORMAT;

  /* context = SetupBase(enc, node's key, "atoma/2 request" || 0 || key_id) */
  int status = AC_OK;
  if (own_kem) {
    status = aci_dhkem_decapsulate(made_shared, enc, node);
    if (status == AC_ERR_KEY) status = AC_ERR_AUTH; /* the client's key, not ours, is at fault */
    shared = made_shared;
  }
  if (status == AC_OK) status = aci_v2_request_schedule(&aes, nonce, secret, suite, shared, key_id);
  if (status != AC_OK) goto wipe;

  /* body = context.Open(metadata, ciphertext), in place */
  const size_t aad_len = put_aad(aad, metadata);
  status = ac_aes256gcm_open(&aes, body, body_cap, nonce, body, sealed_len, aad, aad_len);
  if (status != AC_OK) goto wipe;
  status = aci_v2_sealer_start(sealer, secret, enc, enc_len);
  if (status != AC_OK) goto wipe;
  *body_len = sealed_len - AC_TAG_BYTES;

wipe:
  if (status != AC_OK) aci_wipe(body, sealed_len);
  ac_aes256gcm_wipe(&aes);
  aci_wipe(made_shared, sizeof made_shared);
  aci_wipe(secret, sizeof secret);
  return status;
}
