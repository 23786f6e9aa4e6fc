/* tests/vectors/atoma_v1.json, byte for byte: what is sealed under fixed randomness, and what is opened. */
#include "harness.h"

#include "vectors.h"

enum { CHUNKS = sizeof vec_chunks / sizeof vec_chunks[0] };

static ac_secret_key node_key(void) {
  ac_secret_key key;
  CHECK_STATUS(ac_secret_key_from_bytes(&key, vec_node_secret.at), AC_OK);
  CHECK_EQUAL(key.public_key, vec_node_public.at, AC_X25519_BYTES);
  return key;
}

static ac_signing_key signing_key(void) {
  ac_signing_key key;
  CHECK_STATUS(ac_signing_key_from_seed(&key, vec_seed.at), AC_OK);
  CHECK_EQUAL(key.secret + AC_SIGN_SEED_BYTES, vec_sign_public.at, AC_SIGN_PUBLIC_BYTES);
  return key;
}

/* ---- client ---- */

/* The client of the vectors: its key, its salt, its nonce. */
static ac_v1_opener client(view want, int has_units) {
  ac_v1_opener opener;
  bytes random = {0}, body = bytes_copy(vec_body.at, vec_body.len);
  bytes out = bytes_new(ac_v1_request_max_bytes(body.len, 3));
  size_t len = 0;
  bytes_append(&random, vec_client_secret.at, vec_client_secret.len);
  bytes_append(&random, vec_salt.at, vec_salt.len);
  bytes_append(&random, vec_request_nonce.at, vec_request_nonce.len);
  random_queue(random.at, random.len);
  CHECK_STATUS(ac_v1_request_seal(&opener, out.at, out.len, &len, vec_node_public.at, body.at, body.len,
                                  (const uint8_t *)"\"m\"", 3, 42, 64, has_units, 0),
               AC_OK);
  CHECK(random_left() == 0);
  CHECK_SAME(((view){out.at, len}), want);
  bytes_free(&random);
  bytes_free(&body);
  bytes_free(&out);
  return opener;
}

static ac_v1_opener fresh_client(void) { return client(vec_request, 0); }

static void open_reply(view reply, int with_usage) {
  ac_v1_opener opener = fresh_client();
  bytes in = bytes_copy(reply.at, reply.len), out = bytes_new(ac_base64_decoded_max(member(reply, "ciphertext").len));
  size_t len = 0, usage_pos = 0, usage_len = 0;
  CHECK_STATUS(ac_v1_reply_open(&opener, out.at, out.len, &len, &usage_pos, &usage_len, in.at, in.len), AC_OK);
  CHECK_SAME(((view){out.at, len}), vec_reply_plaintext);
  if (with_usage) CHECK_SAME(((view){in.at + usage_pos, usage_len}), vec_reply_usage);
  ac_v1_opener_wipe(&opener);
  bytes_free(&in);
  bytes_free(&out);
}

static bytes whole_stream(int is_signed) {
  bytes sse = {0};
  for (size_t i = 0; i < CHUNKS; i++) {
    const view event = is_signed ? vec_chunks[i].sse : vec_chunks[i].sse_unsigned;
    bytes_append(&sse, event.at, event.len);
  }
  return sse;
}

static void log_chunk(bytes *log, size_t i) {
  bytes_append(log, "E", 1);
  bytes_append(log, vec_chunks[i].plaintext.at, vec_chunks[i].plaintext.len);
  if (vec_chunks[i].usage.len != 0) bytes_append(log, " ", 1);
  bytes_append(log, vec_chunks[i].usage.at, vec_chunks[i].usage.len);
  bytes_append(log, "\n", 1);
}

/* The vectors repeat their nonce, as deployed nodes do. */
static void open_stream(int is_signed, size_t span_cap) {
  const ac_v1_opener fresh = fresh_client();
  bytes sse = whole_stream(is_signed), want = {0};
  reader r = reader_make(&fresh, span_cap, 0);
  for (size_t i = 0; i < CHUNKS; i++) {
    const view event = is_signed ? vec_chunks[i].sse : vec_chunks[i].sse_unsigned;
    log_chunk(&want, i);
    reader_feed(&r, event.at, event.len);
    CHECK_SAME(r.log, want);
    CHECK(r.opener.nonce_reused == (i > 0) && r.opener.chunks == i + 1 && !reader_unfinished(&r));
  }
  reader_free(&r);
  r = reader_make(&fresh, span_cap, 0); /* and all at once */
  reader_feed(&r, sse.at, sse.len);
  CHECK_SAME(r.log, want);
  CHECK(r.status == AC_OK && r.opener.nonce_reused == 1);
  reader_free(&r);
  bytes_free(&sse);
  bytes_free(&want);
}

static void refuse_reuse(size_t span_cap) {
  ac_v1_opener fresh = fresh_client();
  bytes sse = whole_stream(1), want = {0};
  CHECK_STATUS(ac_v1_opener_set(&fresh, SIZE_MAX, SIZE_MAX, 1), AC_OK);
  reader r = reader_make(&fresh, span_cap, 4096);
  reader_feed(&r, sse.at, sse.len);
  log_chunk(&want, 0);
  CHECK_SAME(r.log, want); /* the first is good, and comes first */
  CHECK_STATUS(r.status, AC_ERR_NONCE_REUSE);
  bytes none = {0};
  CHECK_STATUS(open_event_alone(&r.opener, &none, vec_chunks[0].sse), AC_ERR_STATE);
  CHECK(all_zero(&r.opener.aes, sizeof r.opener.aes));
  reader_free(&r);
  bytes_free(&sse);
  bytes_free(&want);
}

/* The client's own request, sent back to it as an answer. */
static void reflection(void) {
  const view ciphertext = member(vec_request, "ciphertext"), nonce = member(vec_request, "nonce");
  const view hash = member(vec_request, "plaintext_body_hash");
  char text[1024];
  for (int refuse = 0; refuse < 2; refuse++) {
    ac_v1_opener opener = fresh_client();
    bytes out = bytes_new(ac_base64_decoded_max(ciphertext.len));
    size_t len = 0, pos = 0, usage_len = 0;
    CHECK_STATUS(ac_v1_opener_set(&opener, SIZE_MAX, SIZE_MAX, refuse), AC_OK);
    ac_v1_opener other = opener, third = opener;
    CHECK_STATUS(ac_v1_sealed_open(&opener, out.at, out.len, &len, ciphertext.at, ciphertext.len, nonce.at, nonce.len,
                                   hash.at, hash.len),
                 AC_ERR_NONCE_REUSE);
    CHECK(!holds_run_of(out.at, out.len, vec_body.at, vec_body.len));
    const int text_len =
        snprintf(text, sizeof text, "data: {\"ciphertext\":\"%.*s\",\"nonce\":\"%.*s\"}\n\n", (int)ciphertext.len,
                 (const char *)ciphertext.at, (int)nonce.len, (const char *)nonce.at);
    bytes none = {0};
    CHECK_STATUS(open_event_alone(&other, &none, (view){(uint8_t *)text, (size_t)text_len}), AC_ERR_NONCE_REUSE);
    CHECK_STATUS(open_event_alone(&other, &none, vec_chunks[0].sse), AC_ERR_STATE);
    CHECK_STATUS(ac_v1_reply_open(&third, out.at, out.len, &len, &pos, &usage_len, vec_request.at, vec_request.len),
                 AC_ERR_NONCE_REUSE);
    bytes_free(&out);
  }
}

/* ---- node ---- */

/* The node of the vectors: it opens the request, and its answer begins at this nonce. */
static ac_v1_sealer node(view request, view nonce, int is_signed) {
  const ac_secret_key key = node_key();
  const ac_signing_key signing = signing_key();
  const ac_v1_envelope envelope = envelope_of(request);
  ac_v1_sealer sealer;
  bytes body = bytes_new(ac_base64_decoded_max(envelope.ciphertext_len));
  size_t len = 0;
  random_queue(nonce.at, nonce.len);
  CHECK_STATUS(ac_v1_request_open(&sealer, body.at, body.len, &len, &key, is_signed ? &signing : NULL, &envelope),
               AC_OK);
  CHECK(random_left() == 0);
  CHECK_SAME(((view){body.at, len}), vec_body);
  bytes_free(&body);
  return sealer;
}

static void seal_reply(int is_signed) {
  const view want = is_signed ? vec_reply : vec_reply_unsigned;
  ac_v1_sealer sealer = node(vec_request, vec_reply_nonce, is_signed);
  bytes out = bytes_new(want.len), plaintext = bytes_copy(vec_reply_plaintext.at, vec_reply_plaintext.len);
  size_t len = 0;
  CHECK(ac_v1_reply_bytes(&sealer, plaintext.len, vec_reply_usage.len) == want.len);
  CHECK_STATUS(ac_v1_reply_seal(&sealer, out.at, out.len, &len, plaintext.at, plaintext.len, vec_reply_usage.at,
                                vec_reply_usage.len),
               AC_OK);
  CHECK_SAME(((view){out.at, len}), want);
  ac_v1_sealer_wipe(&sealer);
  bytes_free(&out);
  bytes_free(&plaintext);
}

/* One sealer for each chunk: ours never repeats a nonce by itself. */
static void seal_chunk(size_t i, int is_signed) {
  const view want = is_signed ? vec_chunks[i].sse : vec_chunks[i].sse_unsigned, usage = vec_chunks[i].usage;
  bytes out = bytes_new(want.len), plaintext = bytes_copy(vec_chunks[i].plaintext.at, vec_chunks[i].plaintext.len);
  size_t len = 0;
  ac_v1_sealer sealer = node(vec_request, vec_stream_nonce, is_signed);
  ac_v1_sealer batch = sealer;
  CHECK(ac_v1_event_bytes(&sealer, plaintext.len, usage.len) == want.len);
  CHECK_STATUS(
      event_seal(&sealer, out.at, out.len, &len, plaintext.at, plaintext.len, usage.at, usage.len), AC_OK);
  CHECK_SAME(((view){out.at, len}), want);
  CHECK_STATUS(ac_v1_events_seal(&batch, out.at, out.len, &len, plaintext.at, plaintext.len, &plaintext.len, 1,
                                 usage.at, usage.len),
               AC_OK);
  CHECK_SAME(((view){out.at, len}), want);
  bytes_free(&out);
  bytes_free(&plaintext);
}

/* A Sui signature over the BLAKE2b of some bytes is what an event of those bytes carries. */
static void signature_of(view plaintext, view digest, view want) {
  uint8_t hash[AC_HASH_BYTES];
  CHECK_STATUS(ac_blake2b256(hash, plaintext.at, plaintext.len), AC_OK);
  CHECK_EQUAL(hash, digest.at, sizeof hash);
  if (want.len == 0) return;
  ac_v1_sealer sealer = node(vec_request, vec_stream_nonce, 1);
  bytes out = bytes_new(ac_v1_event_bytes(&sealer, plaintext.len, 0));
  size_t len = 0;
  CHECK_STATUS(event_seal(&sealer, out.at, out.len, &len, plaintext.at, plaintext.len, NULL, 0), AC_OK);
  CHECK_SAME(member(event_data(&out), "signature"), want);
  bytes_free(&out);
}

static void schedule(void) {
  static const uint8_t zero[AC_X25519_BYTES];
  uint8_t out[32];
  const struct {
    view ikm, key;
  } pairs[] = {{vec_shared_secret, vec_aes_key}, {{zero, sizeof zero}, vec_zero_secret_key}};
  for (size_t i = 0; i < 2; i++) {
    CHECK_STATUS(ac_hkdf_sha256(out, sizeof out, pairs[i].ikm.at, 32, vec_salt.at, vec_salt.len, NULL, 0), AC_OK);
    CHECK_EQUAL(out, pairs[i].key.at, sizeof out);
  }
  CHECK_STATUS(ac_x25519_public(out, vec_client_secret.at), AC_OK);
  CHECK_EQUAL(out, vec_client_public.at, 32);
  CHECK_STATUS(ac_x25519(out, vec_client_secret.at, vec_node_public.at), AC_OK);
  CHECK_EQUAL(out, vec_shared_secret.at, 32);
  CHECK_STATUS(ac_x25519(out, vec_node_secret.at, vec_client_public.at), AC_OK);
  CHECK_EQUAL(out, vec_shared_secret.at, 32);
  ac_aes256gcm aes;
  uint8_t sealed[256];
  CHECK_STATUS(ac_aes256gcm_init(&aes, vec_aes_key.at, ac_aes_backend_default()), AC_OK);
  CHECK_STATUS(ac_aes256gcm_seal(&aes, sealed, sizeof sealed, vec_request_nonce.at, vec_body.at, vec_body.len, NULL, 0),
               AC_OK);
  CHECK_EQUAL(sealed, vec_request_sealed.at, vec_request_sealed.len);
}

void test_vectors(void) {
  schedule();
  (void)client(vec_request, 0);
  (void)client(vec_request_64_units, 1);
  (void)node(vec_request_64_units, vec_reply_nonce, 1);
  for (int is_signed = 0; is_signed < 2; is_signed++) {
    seal_reply(is_signed);
    for (size_t i = 0; i < CHUNKS; i++) seal_chunk(i, is_signed);
    for (size_t span_cap = 1; span_cap <= 4; span_cap++) open_stream(is_signed, span_cap);
  }
  open_reply(vec_reply, 1);
  open_reply(vec_reply_unsigned, 1);
  refuse_reuse(1);
  refuse_reuse(AC_V1_EVENTS);
  reflection();
  signature_of(vec_request_hashed, vec_request_hash, vec_request_signature);
  signature_of(vec_attestation_hashed, vec_attestation_hash, vec_attestation_signature);
  signature_of(vec_empty_hashed, vec_empty_hash, (view){NULL, 0});
}
