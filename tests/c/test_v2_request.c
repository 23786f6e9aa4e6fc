/* Both ends of a v2 request: the envelope, its answer's secrets, capacity, overlap, arguments, primitives that fail. */
#include "harness.h"

/* The whole envelope, told once more: all ten members, null where absent, in order. */
static void envelope(const ac_secret_key *node) {
  static const struct {
    uint32_t has_stack, has_units, stream;
    uint64_t stack, units, sent_at;
    const char *want;
  } cases[] = {
      {1, 1, 1, 42, 64, 1763808745, "\"num_compute_units\":64,\"sent_at\":1763808745,\"stack_small_id\":42,\"stream\":true,\"v\":2}"},
      {0, 0, 0, 7, 7, 0, "\"num_compute_units\":null,\"sent_at\":0,\"stack_small_id\":null,\"stream\":false,\"v\":2}"},
      {1, 1, 0, 0, 9007199254740991, 9007199254740991,
       "\"num_compute_units\":9007199254740991,\"sent_at\":9007199254740991,\"stack_small_id\":0,\"stream\":false,\"v\":2}"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    for (uint32_t suite = AC_SUITE_X25519; suite <= AC_SUITE_XWING; suite++) {
      char want[4096];
      ac_v2_metadata m = v2_metadata((int)cases[i].stream);
      m.has_stack_small_id = cases[i].has_stack;
      m.has_num_compute_units = cases[i].has_units;
      m.stack_small_id = cases[i].stack;
      m.num_compute_units = cases[i].units;
      m.sent_at = cases[i].sent_at;
      v2_sent r = v2_request_make(suite, node, m);
      const view enc = member(viewed(&r.json), "enc");
      const int len = snprintf(want, sizeof want,
                               "{\"ciphertext\":\"%.*s\",\"enc\":\"%.*s\",\"endpoint\":\"/v1/chat/completions\","
                               "\"key_id\":\"AQIDBAUGBwg=\",\"model_name\":\"m\",%s",
                               (int)r.ciphertext.len, (const char *)r.ciphertext.at, (int)enc.len, (const char *)enc.at,
                               cases[i].want);
      CHECK_SAME(viewed(&r.json), ((view){(uint8_t *)want, (size_t)len}));
      CHECK(r.opener.stream == cases[i].stream && !r.opener.keyed && r.opener.state == AC_STATE_READY);
      v2_request_open_is(&r, node, AC_OK);
      bytes_free(&r.json);
    }
  }
}

/* The answer's secrets agree, and hang on every byte of `enc`, also where the KEM is not ours. */
static void answers(const ac_secret_key *node) {
  for (uint32_t suite = AC_SUITE_X25519; suite <= AC_SUITE_XWING; suite++) {
    v2_sent r = v2_request_make(suite, node, v2_metadata(1));
    for (size_t spoilt = suite == AC_SUITE_XWING ? 0 : r.enc_len; spoilt <= r.enc_len; spoilt += stride()) {
      ac_v2_sealer sealer;
      ac_v2_opener opener = r.opener;
      uint64_t span[AC_V2_SPAN];
      bytes body = {0}, opened = {0};
      if (spoilt < r.enc_len) r.enc[spoilt] ^= 0x80;
      CHECK_STATUS(v2_request_open(&r, node, &sealer, &body), AC_OK);
      if (spoilt < r.enc_len) r.enc[spoilt] ^= 0x80;
      bytes event = v2_seal(&sealer, AC_FLAG_END, v2_body, NULL);
      CHECK_STATUS(v2_open_alone(&opener, &opened, span, viewed(&event)), spoilt < r.enc_len ? AC_ERR_AUTH : AC_OK);
      if (spoilt == r.enc_len) CHECK_SAME(opened, view_of(v2_body));
      bytes_free(&event);
      bytes_free(&opened);
      bytes_free(&body);
    }
    bytes_free(&r.json);
  }
}

static void capacity(const ac_secret_key *node) {
  const size_t need = ac_v2_request_max_bytes(V2_BODY, 3, AC_X25519_BYTES);
  const ac_v2_metadata metadata = v2_metadata(0);
  uint8_t random[AC_X25519_BYTES] = {3};
  ac_v2_opener opener;
  memset(&opener, 0x77, sizeof opener);
  const ac_v2_opener before = opener;
  size_t len = 99;
  random_queue(random, sizeof random);
  for (size_t cap = 0; cap < need; cap++) {
    bytes out = bytes_new(cap);
    CHECK_STATUS(v2_request_seal(&opener, &out, &len, AC_SUITE_X25519, node->public_key, &metadata), AC_ERR_CAPACITY);
    CHECK(bytes_untouched(&out) && len == 99 && memcmp(&opener, &before, sizeof opener) == 0);
    bytes_free(&out);
  }
  CHECK(random_left() == sizeof random); /* and no randomness was spent */
  bytes out = bytes_new(need);
  CHECK_STATUS(v2_request_seal(&opener, &out, &len, AC_SUITE_X25519, node->public_key, &metadata), AC_OK);
  CHECK(random_left() == 0 && len <= need);
  bytes_free(&out);
  CHECK(ac_v2_request_max_bytes(SIZE_MAX, 3, 32) == SIZE_MAX && ac_v2_request_max_bytes(3, SIZE_MAX, 32) == SIZE_MAX);
  CHECK(ac_v2_request_max_bytes(3, 3, 1121) == SIZE_MAX);

  v2_sent r = v2_request_make(AC_SUITE_X25519, node, metadata);
  const size_t room = ac_base64_decoded_max(r.ciphertext.len);
  ac_v2_sealer sealer;
  memset(&sealer, 0x77, sizeof sealer);
  const ac_v2_sealer unused = sealer;
  for (size_t cap = 0; cap <= room; cap++) {
    bytes body = bytes_new(cap);
    len = 99;
    CHECK_STATUS(ac_v2_request_open(&sealer, body.at, cap, &len, r.suite, r.key_id, node, NULL, r.enc, r.enc_len,
                                    r.ciphertext.at, r.ciphertext.len, &metadata),
                 cap < room ? AC_ERR_CAPACITY : AC_OK);
    if (cap < room)
      CHECK(bytes_untouched(&body) && len == 99 && memcmp(&sealer, &unused, sizeof sealer) == 0);
    else
      CHECK_SAME(((view){body.at, len}), view_of(v2_body));
    bytes_free(&body);
  }
  bytes_free(&r.json);
}

static void overlap(const ac_secret_key *node) {
  const size_t need = ac_v2_request_max_bytes(V2_BODY, 3, sizeof v2_xwing_enc);
  const ac_v2_metadata metadata = v2_metadata(0);
  bytes room = bytes_new(2 * need);
  ac_v2_opener opener = {0};
  ac_v2_sealer sealer;
  size_t len = 0;
  uint8_t *const inside = room.at + need / 2, model[3] = "\"m\"", body[V2_BODY] = {0};
  memset(inside, '/', 64);
  for (unsigned i = 0; i < 6; i++) {
    ac_v2_metadata m = metadata;
    if (i == 0) m.endpoint = inside;
    if (i == 1) m.model = inside;
    CHECK_STATUS(ac_v2_request_seal(&opener, room.at, need, &len, AC_SUITE_XWING, i == 2 ? inside : v2_key_id, NULL,
                                    v2_xwing_shared, i == 3 ? inside : v2_xwing_enc, sizeof v2_xwing_enc, &m,
                                    i == 4 ? inside : model,
                                    3, i == 5 ? inside : body, V2_BODY),
                 AC_ERR_OVERLAP);
  }
  ac_v2_metadata *const metadata_inside = (ac_v2_metadata *)(void *)room.at; /* of malloc: it is aligned */
  *metadata_inside = metadata;
  CHECK_STATUS(ac_v2_request_seal(&opener, room.at, need, &len, AC_SUITE_XWING, v2_key_id, NULL, v2_xwing_shared,
                                  v2_xwing_enc, sizeof v2_xwing_enc, metadata_inside, model, 3, body, V2_BODY),
               AC_ERR_OVERLAP);
  CHECK(all_zero(&opener, sizeof opener));
  for (unsigned i = 0; i < 4; i++) {
    ac_v2_metadata m = metadata;
    if (i == 0) m.endpoint = inside;
    if (i == 1) m.model = inside;
    CHECK_STATUS(ac_v2_request_open(&sealer, room.at, need, &len, AC_SUITE_X25519, v2_key_id, node, NULL,
                                    i == 2 ? inside : body, AC_X25519_BYTES, i == 3 ? inside : (const uint8_t *)"AAAA", 4, &m),
                 AC_ERR_OVERLAP);
  }
  for (unsigned i = 0; i < 4; i++) { /* the key's id and the keys, which are read after the body is written */
    const int own_kem = i < 2;
    const ac_secret_key *const secret = i == 0 ? (const ac_secret_key *)(const void *)inside : node;
    CHECK_STATUS(ac_v2_request_open(&sealer, room.at, need, &len, own_kem ? AC_SUITE_X25519 : AC_SUITE_XWING,
                                    i == 1 ? inside : v2_key_id, own_kem ? secret : NULL,
                                    own_kem ? NULL : i == 2 ? inside : v2_xwing_shared, v2_xwing_enc,
                                    own_kem ? AC_X25519_BYTES : sizeof v2_xwing_enc, (const uint8_t *)"AAAA", 4,
                                    i == 3 ? metadata_inside : &metadata),
                 AC_ERR_OVERLAP);
  }
  bytes_free(&room);
}

static void arguments(const ac_secret_key *node) {
  static const char long_model[257] = "m";
  static const char *const bad_endpoints[] = {"", "v1", "/v1 ", "/v1?", "/v1%20", "/\xc3\xa9", "//\"", "/v1\n"};
  const uint64_t too_big = 9007199254740992;
  bytes out = bytes_new(8192), body = {0};
  ac_v2_opener opener = {0};
  v2_sent r = v2_request_make(AC_SUITE_X25519, node, v2_metadata(0));
  const ac_v2_metadata good = r.metadata;
  size_t len = 99;
  char endpoint[130];
  memset(endpoint, '/', sizeof endpoint);
  for (unsigned i = 0; i < 9 + sizeof bad_endpoints / sizeof bad_endpoints[0]; i++) {
    ac_v2_metadata m = good;
    switch (i) {
      case 0: m.model_len = 0; break;
      case 1: m.model = (const uint8_t *)long_model, m.model_len = 257; break;
      case 2: m.stack_small_id = too_big; break;
      case 3: m.num_compute_units = UINT64_MAX; break;
      case 4: m.sent_at = too_big; break;
      case 5: m.stream = 2; break;
      case 6: m.endpoint = (const uint8_t *)endpoint, m.endpoint_len = 129; break;
      case 7: m.endpoint = NULL, m.endpoint_len = 0; break;
      case 8: m.model = NULL, m.model_len = 0; break;
      default: m.endpoint = view_of(bad_endpoints[i - 9]).at, m.endpoint_len = strlen(bad_endpoints[i - 9]);
    }
    CHECK_STATUS(v2_request_seal(&opener, &out, &len, AC_SUITE_X25519, node->public_key, &m), AC_ERR_ARGUMENT);
    r.metadata = m;
    v2_request_open_is(&r, node, AC_ERR_FORMAT);
  }
  r.metadata = good;
#define SEAL(suite, public_key, shared, enc, enc_len)                                                             \
  ac_v2_request_seal(&opener, out.at, out.len, &len, suite, v2_key_id, public_key, shared, enc, enc_len, &good,   \
                     (const uint8_t *)"\"m\"", 3, (const uint8_t *)v2_body, V2_BODY)
  CHECK_STATUS(SEAL(0, node->public_key, NULL, NULL, 0), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(3, NULL, v2_xwing_shared, v2_xwing_enc, 1120), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(1, NULL, NULL, NULL, 0), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(1, NULL, v2_xwing_shared, v2_xwing_enc, 1120), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(1, node->public_key, v2_xwing_shared, NULL, 0), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(2, node->public_key, v2_xwing_shared, v2_xwing_enc, 1120), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(2, NULL, NULL, v2_xwing_enc, 1120), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(2, NULL, v2_xwing_shared, NULL, 0), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(2, NULL, v2_xwing_shared, v2_xwing_enc, 1119), AC_ERR_ARGUMENT);
#undef SEAL
  ac_v2_sealer sealer = {0};
#define OPEN(suite, node, shared)                                                                              \
  ac_v2_request_open(&sealer, out.at, out.len, &len, suite, v2_key_id, node, shared, r.enc, r.enc_len, r.ciphertext.at, \
                     r.ciphertext.len, &good)
  CHECK_STATUS(OPEN(0, node, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(OPEN(1, NULL, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(OPEN(1, node, v2_xwing_shared), AC_ERR_ARGUMENT);
  CHECK_STATUS(OPEN(2, node, v2_xwing_shared), AC_ERR_ARGUMENT);
  CHECK_STATUS(OPEN(2, NULL, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(OPEN(3, NULL, v2_xwing_shared), AC_ERR_ARGUMENT);
  CHECK_STATUS(OPEN(2, NULL, v2_xwing_shared), AC_ERR_FORMAT); /* of a length that its suite does not have */
#undef OPEN
  CHECK(bytes_untouched(&out) && len == 99 && all_zero(&opener, sizeof opener) && all_zero(&sealer, sizeof sealer));
  for (size_t wrong = 0; wrong <= 1120; wrong += wrong == 31 ? 2 : 1) {
    r.enc_len = wrong;
    v2_request_open_is(&r, node, AC_ERR_FORMAT);
  }
  r.enc_len = AC_X25519_BYTES;
  for (size_t text_len = 0; text_len <= r.ciphertext.len; text_len++) {
    v2_sent cut = r;
    cut.ciphertext.len = text_len;
    const int malformed = text_len % 4 != 0 || text_len < 24;
    v2_request_open_is(&cut, node, text_len == r.ciphertext.len ? AC_OK : malformed ? AC_ERR_FORMAT : AC_ERR_AUTH);
  }
  bytes_free(&body);
  bytes_free(&out);
  bytes_free(&r.json);
}

static void empty(const ac_secret_key *node) {
  const ac_v2_metadata metadata = v2_metadata(0);
  ac_v2_opener opener;
  ac_v2_sealer sealer;
  bytes out = bytes_new(ac_v2_request_max_bytes(0, 3, 32)), room = bytes_new(18);
  uint8_t enc[AC_X25519_BYTES];
  size_t len = 0;
  CHECK_STATUS(ac_v2_request_seal(&opener, out.at, out.len, &len, AC_SUITE_X25519, v2_key_id, node->public_key, NULL, NULL, 0,
                                  &metadata, (const uint8_t *)"\"m\"", 3, NULL, 0),
               AC_OK);
  const view json = {out.at, len}, c = member(json, "ciphertext"), e = member(json, "enc");
  CHECK_STATUS(aci_base64_decode_exact(enc, sizeof enc, e.at, e.len), AC_OK);
  CHECK_STATUS(ac_v2_request_open(&sealer, room.at, room.len, &len, AC_SUITE_X25519, v2_key_id, node, NULL, enc, sizeof enc,
                                  c.at, c.len, &metadata),
               AC_OK);
  CHECK(len == 0);
  bytes_free(&out);
  bytes_free(&room);
}

/* Every byte as the last one of an endpoint. */
static void endpoints(const ac_secret_key *node) {
  static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_.-";
  bytes out = bytes_new(ac_v2_request_max_bytes(V2_BODY, 3, 32));
  for (unsigned byte = 0; byte < 256; byte++) {
    const uint8_t endpoint[2] = {'/', (uint8_t)byte};
    ac_v2_metadata m = v2_metadata(0);
    ac_v2_opener opener = {0};
    size_t len = 0;
    m.endpoint = endpoint;
    m.endpoint_len = 2;
    CHECK_STATUS(v2_request_seal(&opener, &out, &len, AC_SUITE_X25519, node->public_key, &m),
                 memchr(good, (int)byte, sizeof good - 1) != NULL ? AC_OK : AC_ERR_ARGUMENT);
  }
  bytes_free(&out);
}

/* The longest that a request can be for its body fits where it is said to fit. */
static void longest(const ac_secret_key *node) {
  uint8_t endpoint[128];
  ac_v2_metadata m = v2_metadata(0);
  memset(endpoint, '/', sizeof endpoint);
  m.endpoint = endpoint;
  m.endpoint_len = sizeof endpoint;
  m.has_stack_small_id = m.has_num_compute_units = 1;
  m.stack_small_id = m.num_compute_units = m.sent_at = 9007199254740991;
  v2_sent r = v2_request_make(AC_SUITE_X25519, node, m);
  CHECK(r.json.len <= ac_v2_request_max_bytes(V2_BODY, 3, 32));
  v2_request_open_is(&r, node, AC_OK);
  bytes_free(&r.json);
}

/* ---- a primitive that fails ---- */

static void faults(const ac_secret_key *node) {
  static const struct {
    primitive in;
    int seals, want;
  } cases[] = {{IN_SCALARMULT_BASE, 1, AC_ERR_PRIMITIVE},
               {IN_SCALARMULT, 1, AC_ERR_KEY}, /* it does not say why */
               {IN_ENCRYPT, 1, AC_ERR_PRIMITIVE},
               {IN_SCALARMULT, 0, AC_ERR_AUTH},
               {IN_DECRYPT, 0, AC_ERR_AUTH}};
  const int aes_can_fail = strcmp(ac_aes_backend_name(ac_aes_backend_default()), "sodium") == 0;
  const ac_v2_metadata metadata = v2_metadata(0);
  v2_sent r = v2_request_make(AC_SUITE_X25519, node, metadata);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    if (!aes_can_fail && (cases[i].in == IN_ENCRYPT || cases[i].in == IN_DECRYPT)) continue;
    ac_v2_opener opener = {0};
    bytes out = bytes_new(ac_v2_request_max_bytes(V2_BODY, 3, 32));
    size_t len = 99;
    fault_plant(cases[i].in, REFUSES, 0);
    if (cases[i].seals) {
      CHECK_STATUS(v2_request_seal(&opener, &out, &len, AC_SUITE_X25519, node->public_key, &metadata), cases[i].want);
      CHECK(len == 99 && all_zero(&opener, sizeof opener) && !holds_run_of(out.at, out.len, v2_body, V2_BODY));
    } else {
      v2_request_open_is(&r, node, cases[i].want);
    }
    CHECK(fault_struck());
    bytes_free(&out);
  }
  bytes_free(&r.json);
}

void test_v2_request(void) {
  ac_secret_key node;
  v2_xwing_draw();
  CHECK_STATUS(ac_secret_key_generate(&node), AC_OK);
  envelope(&node);
  answers(&node);
  capacity(&node);
  overlap(&node);
  arguments(&node);
  empty(&node);
  endpoints(&node);
  longest(&node);
  faults(&node);
}
