/* A request of protocol v2, taken apart as a node's parser does. */
#include "harness.h"

const char v2_body[V2_BODY + 1] = "{\"messages\":[],\"stream\":true}";
uint8_t v2_xwing_shared[AC_HASH_BYTES], v2_xwing_enc[AC_V2_MAX_ENC_BYTES];

void v2_xwing_draw(void) {
  for (size_t i = 0; i < sizeof v2_xwing_shared; i++) v2_xwing_shared[i] = (uint8_t)random_below(256);
  for (size_t i = 0; i < sizeof v2_xwing_enc; i++) v2_xwing_enc[i] = (uint8_t)random_below(256);
}

int v2_request_seal(ac_v2_opener *opener, bytes *out, size_t *len, uint32_t suite, const uint8_t *public_key,
                    const ac_v2_metadata *metadata) {
  bytes body = bytes_copy(v2_body, V2_BODY), model = bytes_copy("\"m\"", 3);
  const int own = suite == AC_SUITE_X25519;
  const int status = ac_v2_request_seal(opener, out->at, out->len, len, suite, v2_key_id, own ? public_key : NULL,
                                        own ? NULL : v2_xwing_shared, own ? NULL : v2_xwing_enc, own ? 0 : sizeof v2_xwing_enc,
                                        metadata, model.at, 3, body.at, body.len);
  bytes_free(&body);
  bytes_free(&model);
  return status;
}

v2_sent v2_request_make(uint32_t suite, const ac_secret_key *node, ac_v2_metadata metadata) {
  v2_sent r = {.suite = suite, .metadata = metadata};
  r.enc_len = suite == AC_SUITE_X25519 ? AC_X25519_BYTES : sizeof v2_xwing_enc;
  bytes out = bytes_new(ac_v2_request_max_bytes(V2_BODY, 3, r.enc_len));
  size_t len = 0, decoded = 0;
  CHECK_STATUS(v2_request_seal(&r.opener, &out, &len, suite, node->public_key, &metadata), AC_OK);
  CHECK(len <= out.len);
  r.json = bytes_copy(out.at, len);
  r.ciphertext = member(viewed(&r.json), "ciphertext");
  const view enc = member(viewed(&r.json), "enc"), key_id = member(viewed(&r.json), "key_id");
  CHECK_STATUS(aci_base64_decode(r.enc, &decoded, enc.at, enc.len), AC_OK);
  CHECK(decoded == r.enc_len);
  CHECK_STATUS(aci_base64_decode_exact(r.key_id, sizeof r.key_id, key_id.at, key_id.len), AC_OK);
  CHECK_EQUAL(r.key_id, v2_key_id, sizeof r.key_id);
  bytes_free(&out);
  return r;
}

int v2_request_open(const v2_sent *r, const ac_secret_key *node, ac_v2_sealer *sealer, bytes *body) {
  const ac_v2_metadata m = r->metadata;
  bytes room = bytes_new(ac_base64_decoded_max(r->ciphertext.len)), enc = bytes_copy(r->enc, r->enc_len);
  bytes endpoint = bytes_copy(m.endpoint, m.endpoint_len), model = bytes_copy(m.model, m.model_len);
  bytes text = bytes_copy(r->ciphertext.at, r->ciphertext.len);
  ac_v2_metadata exact = m;
  size_t len = 0;
  exact.endpoint = endpoint.at;
  exact.model = model.at;
  memset(sealer, 0, sizeof *sealer);
  const int own = r->suite == AC_SUITE_X25519;
  const int status = ac_v2_request_open(sealer, room.at, room.len, &len, r->suite, r->key_id, own ? node : NULL,
                                        own ? NULL : v2_xwing_shared, enc.at, enc.len, text.at, text.len, &exact);
  *body = status == AC_OK ? bytes_copy(room.at, len) : (bytes){NULL, 0};
  if (status != AC_OK) {
    CHECK(status == AC_ERR_AUTH || status == AC_ERR_FORMAT || status == AC_ERR_PRIMITIVE);
    CHECK(!holds_run_of(room.at, room.len, v2_body, V2_BODY) && all_zero(sealer, sizeof *sealer) && len == 0);
  }
  bytes_free(&room);
  bytes_free(&enc);
  bytes_free(&endpoint);
  bytes_free(&model);
  bytes_free(&text);
  return status;
}

void v2_request_open_is(const v2_sent *r, const ac_secret_key *node, int want) {
  ac_v2_sealer sealer;
  bytes body = {0};
  CHECK_STATUS(v2_request_open(r, node, &sealer, &body), want);
  if (want == AC_OK) CHECK_SAME(body, view_of(v2_body));
  bytes_free(&body);
}
