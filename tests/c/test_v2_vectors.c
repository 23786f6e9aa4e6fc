/* tests/vectors/v2.json, byte for byte: what is sealed under fixed randomness, and what is opened or refused. */
#include "harness.h"

typedef struct vec_metadata {
  view endpoint, model;
  uint64_t stack_small_id;
  uint32_t has_stack_small_id;
  uint64_t num_compute_units;
  uint32_t has_num_compute_units;
  uint64_t sent_at;
  uint32_t stream;
} vec_metadata;

typedef struct vec_record {
  uint64_t index;
  uint32_t flag;
  int shown;
  uint64_t usage[AC_V2_USAGE];
  view plaintext, sealed, text; /* a record alone has no text */
} vec_record;

typedef struct vec_exchange {
  vec_metadata metadata;
  view model_json, node_secret, ephemeral, key_id, enc, exported, salt, body, envelope;
  const vec_record *records;
  size_t count;
} vec_exchange;

typedef struct vec_request {
  int good;
  vec_metadata metadata;
  view node_secret, key_id, enc, ciphertext, body;
} vec_request;

typedef struct vec_reply {
  const char *name;
  enum { TAKEN, REFUSED, TRUNCATED } outcome;
  int stream;
  view enc, exported, received;
  const vec_record *records;
  size_t count;
} vec_reply;

#include "vectors_v2.h"

static ac_v2_metadata metadata_of(const vec_metadata *m) {
  return (ac_v2_metadata){.endpoint = m->endpoint.at,
                          .endpoint_len = m->endpoint.len,
                          .model = m->model.at,
                          .model_len = m->model.len,
                          .stack_small_id = m->stack_small_id,
                          .num_compute_units = m->num_compute_units,
                          .sent_at = m->sent_at,
                          .has_stack_small_id = m->has_stack_small_id,
                          .has_num_compute_units = m->has_num_compute_units,
                          .stream = m->stream};
}

static const uint64_t *usage_of(const vec_record *r) { return r->shown ? r->usage : NULL; }
static int is_object(const vec_record *r) { return r->text.len != 0 && r->text.at[0] == '{'; }

/* ---- requests ---- */

static ac_v2_opener client(const vec_exchange *v, const ac_secret_key *node) {
  const ac_v2_metadata metadata = metadata_of(&v->metadata);
  ac_v2_opener opener = {0};
  bytes out = bytes_new(ac_v2_request_max_bytes(v->body.len, v->model_json.len, v->enc.len));
  size_t len = 0;
  random_queue(v->ephemeral.at, v->ephemeral.len);
  CHECK_STATUS(ac_v2_request_seal(&opener, out.at, out.len, &len, AC_SUITE_X25519, v->key_id.at, node->public_key, NULL, NULL,
                                  0, &metadata, v->model_json.at, v->model_json.len, v->body.at, v->body.len),
               AC_OK);
  CHECK(random_left() == 0);
  CHECK_SAME(((view){out.at, len}), v->envelope);
  CHECK_EQUAL(opener.key.waiting.secret, v->exported.at, AC_HASH_BYTES);
  bytes_free(&out);
  return opener;
}

static ac_v2_sealer node_of(const vec_exchange *v, const ac_secret_key *node) {
  const ac_v2_metadata metadata = metadata_of(&v->metadata);
  const view sealed = member(v->envelope, "ciphertext");
  ac_v2_sealer sealer = {0};
  bytes body = bytes_new(ac_base64_decoded_max(sealed.len));
  size_t len = 0;
  random_queue(v->salt.at, v->salt.len);
  CHECK_STATUS(ac_v2_request_open(&sealer, body.at, body.len, &len, AC_SUITE_X25519, v->key_id.at, node, NULL, v->enc.at,
                                  v->enc.len, sealed.at, sealed.len, &metadata),
               AC_OK);
  CHECK(random_left() == 0);
  CHECK_SAME(((view){body.at, len}), v->body);
  bytes_free(&body);
  return sealer;
}

static void request(const vec_request *v) {
  const ac_v2_metadata metadata = metadata_of(&v->metadata);
  ac_secret_key node;
  ac_v2_sealer sealer = {0};
  bytes body = bytes_new(ac_base64_decoded_max(v->ciphertext.len));
  size_t len = 0;
  CHECK_STATUS(ac_secret_key_from_bytes(&node, v->node_secret.at), AC_OK);
  CHECK_STATUS(ac_v2_request_open(&sealer, body.at, body.len, &len, AC_SUITE_X25519, v->key_id.at, &node, NULL, v->enc.at,
                                  v->enc.len, v->ciphertext.at, v->ciphertext.len, &metadata),
               v->good ? AC_OK : AC_ERR_AUTH);
  if (v->good && v->body.len != 0) CHECK_SAME(((view){body.at, len}), v->body);
  bytes_free(&body);
}

/* ---- records ---- */

static void seal(ac_v2_sealer sealer, const vec_exchange *v) {
  for (size_t i = 0; i < v->count; i++) {
    const vec_record *const r = &v->records[i];
    bytes plaintext = bytes_copy(r->plaintext.at, r->plaintext.len), sealed = bytes_new(plaintext.len + AC_TAG_BYTES);
    bytes text = bytes_new(r->text.len);
    ac_v2_sealer framed = sealer;
    size_t len = 0;
    sealer.index = r->index; /* some are far along */
    CHECK_STATUS(ac_v2_record_seal(&sealer, sealed.at, sealed.len, r->flag, plaintext.at, plaintext.len, usage_of(r)), AC_OK);
    CHECK_SAME(sealed, r->sealed);
    if (is_object(r)) {
      CHECK(ac_v2_object_bytes(plaintext.len, r->flag, usage_of(r)) == text.len);
      CHECK_STATUS(ac_v2_object_seal(&framed, text.at, text.len, &len, r->flag, plaintext.at, plaintext.len, usage_of(r)),
                   AC_OK);
    } else if (text.len != 0) {
      CHECK(ac_v2_events_bytes(&framed, plaintext.len, &plaintext.len, 1, r->flag, usage_of(r)) == text.len);
      CHECK_STATUS(ac_v2_events_seal(&framed, text.at, text.len, &len, plaintext.at, plaintext.len, &plaintext.len, 1, r->flag,
                                     usage_of(r)),
                   AC_OK);
    }
    CHECK_SAME(text, r->text);
    CHECK(len == text.len);
    bytes_free(&plaintext);
    bytes_free(&sealed);
    bytes_free(&text);
  }
}

static void open(const ac_v2_opener *fresh, const vec_exchange *v) {
  ac_v2_opener records;
  bytes stream = {0}, want = {0};
  CHECK_STATUS(ac_v2_opener_init(&records, v->exported.at, v->enc.at, v->enc.len, v->salt.at), AC_OK);
  for (size_t i = 0; i < v->count; i++) {
    const vec_record *const r = &v->records[i];
    bytes out = bytes_new(r->plaintext.len);
    records.index = r->index;
    CHECK_STATUS(ac_v2_record_open(&records, out.at, out.len, r->flag, r->sealed.at, r->sealed.len, usage_of(r)), AC_OK);
    CHECK_SAME(out, r->plaintext);
    bytes_append(&stream, r->text.at, r->text.len);
    v2_log(&want, r->flag, r->plaintext, usage_of(r));
    bytes_free(&out);
  }
  if (v->count != 0 && is_object(&v->records[0])) {
    ac_v2_opener opener = *fresh;
    uint64_t span[AC_V2_SPAN] = {0};
    bytes out = bytes_new(stream.len);
    size_t len = 0;
    CHECK_STATUS(ac_v2_object_open(&opener, out.at, out.len, &len, span, stream.at, stream.len), AC_OK);
    CHECK_SAME(((view){out.at, len}), v->records[0].plaintext);
    CHECK(opener.ended && span[0] == len && span[1] == v->records[0].flag && span[2] == (uint64_t)v->records[0].shown);
    bytes_free(&out);
  } else if (stream.len != 0) {
    for (size_t piece = 1; piece <= stream.len; piece = piece * 3 + 1) {
      v2_reader r = v2_reader_make(fresh, 1 + piece % 4, 0);
      for (size_t at = 0; at < stream.len; at += piece)
        v2_reader_feed(&r, stream.at + at, stream.len - at < piece ? stream.len - at : piece);
      CHECK_SAME(r.log, want);
      CHECK(r.status == AC_OK && r.opener.ended == (v->records[v->count - 1].flag != AC_FLAG_MORE));
      v2_reader_free(&r);
    }
  }
  bytes_free(&stream);
  bytes_free(&want);
}

/* ---- replies ---- */

/* What the general parser is to decide is not decided here: such a reply is not taken, nor is it refused. */
static void read_stream(const vec_reply *v, const ac_v2_opener *fresh) {
  for (size_t piece = 1; piece <= v->received.len + 1; piece = piece * 7 + 1) {
    bytes want = {0};
    v2_reader r = v2_reader_make(fresh, 1 + piece % 5, 0);
    for (size_t at = 0; at < v->received.len; at += piece)
      v2_reader_feed(&r, v->received.at + at, v->received.len - at < piece ? v->received.len - at : piece);
    for (size_t i = 0; i < v->count; i++) v2_log(&want, v->records[i].flag, v->records[i].plaintext, usage_of(&v->records[i]));
    const int taken = r.status == AC_OK && r.punts == 0 && r.opener.ended;
    CHECK(r.status == AC_OK || r.status == AC_ERR_AUTH || r.status == AC_ERR_FORMAT);
    if (v->outcome == TAKEN) {
      CHECK(taken || (r.status != AC_ERR_FORMAT && r.punts != 0));
      if (taken) CHECK_SAME(r.log, want);
    } else {
      if (!CHECK(!taken)) printf("    %s\n", v->name);
      if (v->outcome == TRUNCATED) CHECK(r.status == AC_OK && r.punts == 0);
    }
    bytes_free(&want);
    v2_reader_free(&r);
  }
}

static void read_object(const vec_reply *v, ac_v2_opener opener) {
  uint64_t span[AC_V2_SPAN] = {0};
  bytes out = bytes_new(v->received.len);
  size_t len = 0;
  const int status = ac_v2_object_open(&opener, out.at, out.len, &len, span, v->received.at, v->received.len);
  if (!CHECK((status == AC_OK) == (v->outcome == TAKEN))) printf("    %s\n", v->name);
  CHECK(status == AC_OK || status == AC_ERR_AUTH || status == AC_PUNT);
  if (status == AC_OK) {
    CHECK(v->count == 1 && span[1] == v->records[0].flag && opener.ended);
    CHECK_SAME(((view){out.at, len}), v->records[0].plaintext);
  }
  bytes_free(&out);
}

static void reply(const vec_reply *v) {
  ac_v2_opener opener;
  aci_v2_opener_start(&opener, v->exported.at, v->enc.at, v->enc.len, v->stream);
  const int object = v->received.len != 0 && v->received.at[0] == '{';
  if (strncmp(v->name, "reply: an abort: ", 17) == 0) return; /* good records, of which the session makes nothing */
  if (v->stream) read_stream(v, &opener);
  if (object || !v->stream) read_object(v, opener);
}

void test_v2_vectors(void) {
  for (size_t i = 0; i < sizeof vec_exchanges / sizeof vec_exchanges[0]; i++) {
    const vec_exchange *const v = &vec_exchanges[i];
    ac_secret_key node;
    if (v->ephemeral.len == 0) { /* X-Wing: its KEM is not here, what comes after it is */
      ac_v2_sealer sealer;
      ac_v2_opener opener;
      random_queue(v->salt.at, v->salt.len);
      CHECK_STATUS(ac_v2_sealer_init(&sealer, v->exported.at, v->enc.at, v->enc.len), AC_OK);
      aci_v2_opener_start(&opener, v->exported.at, v->enc.at, v->enc.len, (int)v->metadata.stream);
      seal(sealer, v);
      open(&opener, v);
      continue;
    }
    CHECK_STATUS(ac_secret_key_from_bytes(&node, v->node_secret.at), AC_OK);
    const ac_v2_opener opener = client(v, &node);
    seal(node_of(v, &node), v);
    open(&opener, v);
  }
  for (size_t i = 0; i < sizeof vec_requests / sizeof vec_requests[0]; i++) request(&vec_requests[i]);
  for (size_t i = 0; i < sizeof vec_replies / sizeof vec_replies[0]; i++) reply(&vec_replies[i]);
}
