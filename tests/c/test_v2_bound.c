/* What a v2 request is bound to: every bit that its node is handed, its key, its suite; and keys of small order. */
#include "harness.h"

static void keys_of_small_order(const ac_secret_key *node) {
  const ac_v2_metadata metadata = v2_metadata(0);
  v2_sent r = v2_request_make(AC_SUITE_X25519, node, metadata);
  for (size_t i = 0; i < 2 * SMALL_ORDER; i++) {
    uint8_t point[AC_X25519_BYTES];
    ac_v2_opener opener = {0};
    bytes out = bytes_new(ac_v2_request_max_bytes(V2_BODY, 3, sizeof point));
    size_t len = 0;
    CHECK(unhex(point, points_of_small_order[i / 2]) == sizeof point);
    point[31] |= (uint8_t)(i % 2 << 7); /* the bit that X25519 ignores */
    CHECK_STATUS(v2_request_seal(&opener, &out, &len, AC_SUITE_X25519, point, &metadata), AC_ERR_KEY);
    CHECK(bytes_untouched(&out) && all_zero(&opener, sizeof opener)); /* sent nothing, made nothing */
    memcpy(r.enc, point, sizeof point);
    v2_request_open_is(&r, node, AC_ERR_AUTH);
    bytes_free(&out);
  }
  bytes_free(&r.json);
}

/* Each bit that the node's parser hands over: of `enc` (bit 255 too), of the key's id, of the ciphertext, of each value. */
static void every_bit(const ac_secret_key *node) {
  for (uint32_t suite = AC_SUITE_X25519; suite <= AC_SUITE_XWING; suite++) {
    v2_sent r = v2_request_make(suite, node, v2_metadata(1));
    bytes endpoint = bytes_copy(r.metadata.endpoint, r.metadata.endpoint_len);
    bytes model = bytes_copy(r.metadata.model, r.metadata.model_len);
    r.metadata.endpoint = endpoint.at;
    r.metadata.model = model.at;
    const struct {
      void *at;
      size_t len;
      int may_be_malformed;
    } parts[] = {{r.enc, suite == AC_SUITE_X25519 ? AC_X25519_BYTES : 0, 0}, /* the other KEM's is its own affair */
                 {r.key_id, sizeof r.key_id, 0},
                 {r.json.at + (r.ciphertext.at - r.json.at), r.ciphertext.len, 1},
                 {endpoint.at, endpoint.len, 1},
                 {model.at, model.len, 0},
                 {&r.metadata.stack_small_id, 8, 1},
                 {&r.metadata.num_compute_units, 8, 1},
                 {&r.metadata.sent_at, 8, 1},
                 {&r.metadata.stream, 4, 1}};
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
      for (size_t bit = 0; bit < 8 * parts[p].len; bit++) {
        uint8_t *const at = (uint8_t *)parts[p].at + bit / 8;
        ac_v2_sealer sealer;
        bytes body = {0};
        *at ^= (uint8_t)(1u << bit % 8);
        const int status = v2_request_open(&r, node, &sealer, &body);
        CHECK(status == AC_ERR_AUTH || (status == AC_ERR_FORMAT && parts[p].may_be_malformed));
        *at ^= (uint8_t)(1u << bit % 8);
      }
    }
    /* null is not zero, nor any other number */
    for (unsigned i = 0; i < 2; i++) {
      uint32_t *const has = i ? &r.metadata.has_num_compute_units : &r.metadata.has_stack_small_id;
      uint64_t *const number = i ? &r.metadata.num_compute_units : &r.metadata.stack_small_id;
      const uint64_t was = *number;
      *has = 0;
      v2_request_open_is(&r, node, AC_ERR_AUTH);
      *number = 0;
      v2_request_open_is(&r, node, AC_ERR_AUTH);
      *has = 1;
      v2_request_open_is(&r, node, AC_ERR_AUTH);
      *number = was;
    }
    /* nor can a byte go from one value to its neighbour */
    r.metadata.endpoint_len--;
    v2_request_open_is(&r, node, AC_ERR_AUTH);
    r.metadata.endpoint_len++;
    v2_request_open_is(&r, node, AC_OK);
    bytes_free(&endpoint);
    bytes_free(&model);
    bytes_free(&r.json);
  }
}

static void another_key(const ac_secret_key *node) {
  ac_secret_key other;
  v2_sent r = v2_request_make(AC_SUITE_X25519, node, v2_metadata(0));
  CHECK_STATUS(ac_secret_key_generate(&other), AC_OK);
  v2_request_open_is(&r, &other, AC_ERR_AUTH);
  memcpy(other.public_key, node->public_key, sizeof other.public_key); /* the right name, the wrong key */
  v2_request_open_is(&r, &other, AC_ERR_AUTH);
  bytes_free(&r.json);
  r = v2_request_make(AC_SUITE_XWING, node, v2_metadata(0));
  v2_xwing_shared[7] ^= 1;
  v2_request_open_is(&r, node, AC_ERR_AUTH);
  v2_xwing_shared[7] ^= 1;
  r.suite = AC_SUITE_X25519; /* the same bytes in the other suite */
  r.enc_len = AC_X25519_BYTES;
  v2_request_open_is(&r, node, AC_ERR_AUTH);
  bytes_free(&r.json);
}

void test_v2_bound(void) {
  ac_secret_key node;
  v2_xwing_draw();
  CHECK_STATUS(ac_secret_key_generate(&node), AC_OK);
  keys_of_small_order(&node);
  every_bit(&node);
  another_key(&node);
}
