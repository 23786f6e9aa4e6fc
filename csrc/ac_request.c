/* Both ends of a v1 request: what the client seals and what the node opens. */
#include "ac_internal.h"

#include "ac_write.h"

/* ---- client ---- */

static const char part_ciphertext[] = "{\"ciphertext\":\"";
static const char part_client[] = "\",\"client_dh_public_key\":\"";
static const char part_model[] = "\",\"model_name\":";
static const char part_node[] = ",\"node_dh_public_key\":\"";
static const char part_nonce[] = "\",\"nonce\":\"";
static const char part_units[] = ",\"num_compute_units\":";
static const char part_hash[] = ",\"plaintext_body_hash\":\"";
static const char part_salt[] = "\",\"salt\":\"";
static const char part_stack[] = "\",\"stack_small_id\":";
static const char part_stream[] = ",\"stream\":";

enum { /* all but the ciphertext and the model's name; the longest number is 20 digits, the longer boolean 5 */
  FIXED_BYTES = sizeof part_ciphertext + sizeof part_client + sizeof part_model + sizeof part_node + sizeof part_nonce +
                sizeof part_units + sizeof part_hash + sizeof part_salt + sizeof part_stack + sizeof part_stream +
                3 * 44 + 16 + 24 + 2 * 20 + 5 + 4
};

size_t ac_v1_request_max_bytes(size_t body_len, size_t model_json_len) {
  const size_t most = SIZE_MAX / 4;
  if (body_len > most || model_json_len > most) return SIZE_MAX;
  return FIXED_BYTES + model_json_len + ac_base64_encoded_len(body_len + AC_TAG_BYTES);
}

int ac_v1_request_seal(ac_v1_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len,
                       const uint8_t node_public[AC_X25519_BYTES], const uint8_t *body, size_t body_len,
                       const uint8_t *model_json, size_t model_json_len, uint64_t stack_small_id,
                       uint64_t num_compute_units, int has_num_compute_units, int stream) {
  const size_t most = ac_v1_request_max_bytes(body_len, model_json_len);
  if (most == SIZE_MAX || (uint64_t)body_len > AC_GCM_MAX_BYTES) return AC_ERR_ARGUMENT;
  if (out_cap < most) return AC_ERR_CAPACITY;
  if (aci_overlap(out, out_cap, body, body_len) || aci_overlap(out, out_cap, model_json, model_json_len) ||
      aci_overlap(out, out_cap, node_public, AC_X25519_BYTES))
    return AC_ERR_OVERLAP;
  ac_secret_key ephemeral;
  ac_v1_opener made = {0};
  uint8_t salt[AC_V1_SALT_BYTES], nonce[AC_NONCE_BYTES], hash[AC_HASH_BYTES]; /* these three are sent: not wiped */
  uint8_t *p = out;

  /* an ephemeral key, a salt and a nonce for this request alone */
  int status = ac_secret_key_generate(&ephemeral);
  if (status != AC_OK) goto wipe;
  aci_randombytes(salt, sizeof salt);
  aci_randombytes(nonce, sizeof nonce);
  status = aci_v1_schedule(&made.aes, ephemeral.secret, node_public, salt);
  if (status != AC_OK) goto wipe;
  status = ac_blake2b256(hash, body, body_len);
  if (status != AC_OK) goto wipe;
  aci_declassify(hash, sizeof hash); /* v1 sends it in clear */

  /* members in order of code point, compact */
  p = aci_write(p, part_ciphertext, sizeof part_ciphertext - 1);
  p = aci_write_room_for_sealed(p, body_len);
  status = ac_aes256gcm_seal(&made.aes, aci_sealed_place(p, body_len), body_len + AC_TAG_BYTES, nonce, body, body_len,
                             NULL, 0);
  if (status != AC_OK) goto wipe;
  aci_encode_sealed(p, body_len);
  p = aci_write(p, part_client, sizeof part_client - 1);
  p = aci_write_base64(p, ephemeral.public_key, sizeof ephemeral.public_key);
  p = aci_write(p, part_model, sizeof part_model - 1);
  p = aci_write(p, model_json, model_json_len);
  p = aci_write(p, part_node, sizeof part_node - 1);
  p = aci_write_base64(p, node_public, AC_X25519_BYTES);
  p = aci_write(p, part_nonce, sizeof part_nonce - 1);
  p = aci_write_base64(p, nonce, sizeof nonce);
  p = aci_write(p, "\"", 1);
  if (has_num_compute_units) {
    p = aci_write(p, part_units, sizeof part_units - 1);
    p = aci_write_decimal(p, num_compute_units);
  }
  p = aci_write(p, part_hash, sizeof part_hash - 1);
  p = aci_write_base64(p, hash, sizeof hash);
  p = aci_write(p, part_salt, sizeof part_salt - 1);
  p = aci_write_base64(p, salt, sizeof salt);
  p = aci_write(p, part_stack, sizeof part_stack - 1);
  p = aci_write_decimal(p, stack_small_id);
  p = aci_write(p, part_stream, sizeof part_stream - 1);
  p = stream ? aci_write(p, "true}", 5) : aci_write(p, "false}", 6);

  aci_v1_opener_start(&made, nonce);
  *opener = made;
  *out_len = (size_t)(p - out);

wipe:
  ac_secret_key_wipe(&ephemeral);
  aci_wipe(&made, sizeof made);
  return status;
}

/* ---- node ---- */

int ac_v1_request_open(ac_v1_sealer *sealer, uint8_t *body, size_t body_cap, size_t *body_len,
                       const ac_secret_key *node, const ac_signing_key *signing, const ac_v1_envelope *envelope) {
  uint8_t nonce[AC_NONCE_BYTES], salt[AC_V1_SALT_BYTES], client_public[AC_X25519_BYTES];
  uint8_t node_public[AC_X25519_BYTES], claimed[AC_HASH_BYTES], computed[AC_HASH_BYTES];
  ac_v1_sealer made = {0};
  size_t sealed_len = 0;
  const ac_v1_envelope *e = envelope;

  /* syntax: all of it before any key is touched */
  if (body_cap < ac_base64_decoded_max(e->ciphertext_len)) return AC_ERR_CAPACITY;
  /* the other members are read before the body is written, the keys after that */
  if (aci_overlap(body, body_cap, e->ciphertext, e->ciphertext_len) || aci_overlap(body, body_cap, node, sizeof *node) ||
      aci_overlap(body, body_cap, signing, signing != NULL ? sizeof *signing : 0))
    return AC_ERR_OVERLAP;
  if (aci_base64_decode_exact(nonce, sizeof nonce, e->nonce, e->nonce_len) != AC_OK ||
      aci_base64_decode_exact(salt, sizeof salt, e->salt, e->salt_len) != AC_OK ||
      aci_base64_decode_exact(client_public, sizeof client_public, e->client_public, e->client_public_len) != AC_OK ||
      aci_base64_decode_exact(node_public, sizeof node_public, e->node_public, e->node_public_len) != AC_OK ||
      aci_base64_decode_exact(claimed, sizeof claimed, e->body_hash, e->body_hash_len) != AC_OK ||
      aci_base64_decode(body, &sealed_len, e->ciphertext, e->ciphertext_len) != AC_OK || sealed_len < AC_TAG_BYTES)
    return AC_ERR_FORMAT;

  /* keys: both are public, so this comparison may end early */
  if (memcmp(node_public, node->public_key, sizeof node_public) != 0) return AC_ERR_AUTH;
  int status = aci_v1_schedule(&made.aes, node->secret, client_public, salt);
  if (status == AC_ERR_KEY) status = AC_ERR_AUTH; /* the client's key, not ours, is at fault */
  if (status != AC_OK) goto wipe;

  /* body, in place of its ciphertext */
  status = ac_aes256gcm_open(&made.aes, body, body_cap, nonce, body, sealed_len, NULL, 0);
  if (status != AC_OK) goto wipe;
  status = ac_blake2b256(computed, body, sealed_len - AC_TAG_BYTES);
  if (status == AC_OK && !aci_equal(computed, claimed, sizeof computed)) status = AC_ERR_AUTH;
  if (status != AC_OK) goto wipe;

  status = aci_v1_sealer_start(&made, nonce, signing);
  if (status != AC_OK) goto wipe;
  *sealer = made;
  *body_len = sealed_len - AC_TAG_BYTES;

wipe:
  if (status != AC_OK) aci_wipe(body, sealed_len);
  aci_wipe(&made, sizeof made);
  return status;
}
