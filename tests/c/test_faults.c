/* A primitive that fails: the caller is told, the object is failed for good, and nothing is left lying about. */
#include "harness.h"

static const char text[] = "{\"choices\":[{\"delta\":{}}]}";
enum { TEXT = sizeof text - 1 };

static int aes_can_fail(void) { return strcmp(ac_aes_backend_name(ac_aes_backend_default()), "sodium") == 0; }

static void sealer_fails(primitive in, unsigned after, int writer) {
  const ac_signing_key signing = some_signing_key();
  static const size_t lens[] = {TEXT, 0, 1};
  exchange x = exchange_make(&signing);
  const ac_v1_sealer before = x.sealer;
  bytes out = bytes_new(4096), plaintext = bytes_copy(text, TEXT);
  size_t len = 99;
  bytes_append(&plaintext, text, 1);
  fault_plant(in, REFUSES, after);
  CHECK_STATUS(writer == 0   ? event_seal(&x.sealer, out.at, out.len, &len, plaintext.at, TEXT, NULL, 0)
               : writer == 1 ? ac_v1_reply_seal(&x.sealer, out.at, out.len, &len, plaintext.at, TEXT, NULL, 0)
                             : ac_v1_events_seal(&x.sealer, out.at, out.len, &len, plaintext.at, plaintext.len, lens, 3,
                                                 NULL, 0),
               AC_ERR_PRIMITIVE);
  CHECK(fault_struck() && len == 99 && !holds_run_of(out.at, out.len, text, TEXT));
  CHECK(x.sealer.state == AC_STATE_FAILED && x.sealer.busy == 0);
  CHECK(!holds_run_of(&x.sealer, sizeof x.sealer, &signing, sizeof signing));
  CHECK(!holds_run_of(&x.sealer, sizeof x.sealer, before.aes.words, 32));
  CHECK_STATUS(event_seal(&x.sealer, out.at, out.len, &len, plaintext.at, TEXT, NULL, 0), AC_ERR_STATE);
  CHECK_STATUS(ac_v1_reply_seal(&x.sealer, out.at, out.len, &len, plaintext.at, TEXT, NULL, 0), AC_ERR_STATE);
  CHECK_STATUS(ac_v1_sealer_close(&x.sealer), AC_OK);
  bytes_free(&out);
  bytes_free(&plaintext);
}

static void opener_fails(primitive in, int want) {
  exchange x = exchange_make(NULL);
  bytes event = seal_event(&x.sealer, text, ""), none = {0}, out = bytes_new(event.len);
  const view json = event_data(&event), c = member(json, "ciphertext"), n = member(json, "nonce");
  const view h = member(json, "response_hash");
  ac_v1_opener stream = x.opener, single = x.opener;
  size_t len = 99;
  fault_plant(in, REFUSES, 0);
  CHECK_STATUS(open_event_alone(&stream, &none, viewed(&event)), want);
  CHECK(fault_struck() && stream.state == AC_STATE_FAILED);
  CHECK_STATUS(open_event_alone(&stream, &none, viewed(&event)), AC_ERR_STATE);
  fault_plant(in, REFUSES, 0);
  CHECK_STATUS(ac_v1_sealed_open(&single, out.at, out.len, &len, c.at, c.len, n.at, n.len, h.at, h.len), want);
  CHECK(fault_struck() && len == 99 && single.state == AC_STATE_FAILED && all_zero(&single.aes, sizeof single.aes));
  CHECK(all_zero(out.at, TEXT)); /* what was opened before the fault has been wiped */
  bytes_free(&out);
  bytes_free(&event);
}

static void request_seal_fails(primitive in, unsigned after, int want) {
  ac_secret_key node;
  ac_v1_opener opener = {0};
  bytes out = bytes_new(ac_v1_request_max_bytes(TEXT, 3)), none = {0};
  size_t len = 99;
  CHECK_STATUS(ac_secret_key_generate(&node), AC_OK);
  fault_plant(in, REFUSES, after);
  CHECK_STATUS(ac_v1_request_seal(&opener, out.at, out.len, &len, node.public_key, (const uint8_t *)text, TEXT,
                                  (const uint8_t *)"\"m\"", 3, 1, 0, 0, 1),
               want);
  CHECK(fault_struck() && len == 99 && all_zero(&opener, sizeof opener));
  CHECK(!holds_run_of(out.at, out.len, text, TEXT));
  CHECK_STATUS(open_event_alone(&opener, &none, view_of("data: {}\n\n")), AC_ERR_STATE);
  bytes_free(&out);
}

static void request_open_fails(primitive in, unsigned after, int want) {
  const ac_signing_key signing = some_signing_key();
  ac_secret_key node;
  ac_v1_opener opener;
  ac_v1_sealer sealer = {0};
  bytes out = bytes_new(ac_v1_request_max_bytes(TEXT, 3));
  size_t len = 0;
  CHECK_STATUS(ac_secret_key_generate(&node), AC_OK);
  CHECK_STATUS(ac_v1_request_seal(&opener, out.at, out.len, &len, node.public_key, (const uint8_t *)text, TEXT,
                                  (const uint8_t *)"\"m\"", 3, 1, 0, 0, 1),
               AC_OK);
  const ac_v1_envelope envelope = envelope_of((view){out.at, len});
  bytes body = bytes_new(ac_base64_decoded_max(envelope.ciphertext_len));
  fault_plant(in, REFUSES, after);
  CHECK_STATUS(ac_v1_request_open(&sealer, body.at, body.len, &len, &node, &signing, &envelope), want);
  CHECK(fault_struck() && all_zero(&sealer, sizeof sealer) && all_zero(body.at, TEXT));
  bytes_free(&body);
  bytes_free(&out);
}

void test_faults(void) {
  for (int writer = 0; writer < 3; writer++) {
    for (unsigned after = 0; after < (writer == 2 ? 3u : 1u); after++) {
      sealer_fails(IN_BLAKE2B, after, writer);
      sealer_fails(IN_SIGN, after, writer);
      if (aes_can_fail()) sealer_fails(IN_ENCRYPT, after, writer);
    }
  }
  opener_fails(IN_BLAKE2B, AC_ERR_PRIMITIVE);
  if (aes_can_fail()) opener_fails(IN_DECRYPT, AC_ERR_AUTH); /* it does not say why */
  request_seal_fails(IN_SCALARMULT_BASE, 0, AC_ERR_PRIMITIVE);
  request_seal_fails(IN_SCALARMULT, 0, AC_ERR_KEY); /* it does not say why */
  request_seal_fails(IN_BLAKE2B, 0, AC_ERR_PRIMITIVE);
  request_open_fails(IN_SCALARMULT, 0, AC_ERR_AUTH);
  request_open_fails(IN_BLAKE2B, 0, AC_ERR_PRIMITIVE);
  if (aes_can_fail()) {
    request_seal_fails(IN_ENCRYPT, 0, AC_ERR_PRIMITIVE);
    request_open_fails(IN_DECRYPT, 0, AC_ERR_AUTH);
  }
}
