/* Both ends of a request: capacity, overlap, keys of small order, every bit of the envelope. */
#include "harness.h"

static const char body_text[] = "{\"messages\":[],\"stream\":true}";
enum { BODY = sizeof body_text - 1 };

static int seal(ac_v1_opener *opener, bytes *out, size_t *len, const uint8_t *node_public) {
  bytes body = bytes_copy(body_text, BODY), model = bytes_copy("\"m\"", 3);
  const int status = ac_v1_request_seal(opener, out->at, out->len, len, node_public, body.at, body.len, model.at, 3,
                                        UINT64_MAX, UINT64_MAX, 1, 0);
  bytes_free(&body);
  bytes_free(&model);
  return status;
}

/* Both numbers as long as they get. */
static bytes make_request(const ac_secret_key *node) {
  ac_v1_opener opener;
  bytes out = bytes_new(ac_v1_request_max_bytes(BODY, 3));
  size_t len = 0;
  CHECK_STATUS(seal(&opener, &out, &len, node->public_key), AC_OK);
  bytes request = bytes_copy(out.at, len);
  bytes_free(&out);
  return request;
}

static int open_request(const ac_secret_key *node, const ac_v1_envelope *envelope, bytes *body) {
  ac_v1_sealer sealer;
  size_t len = 0;
  bytes room = bytes_new(ac_base64_decoded_max(envelope->ciphertext_len));
  const int status = ac_v1_request_open(&sealer, room.at, room.len, &len, node, NULL, envelope);
  *body = status == AC_OK ? bytes_copy(room.at, len) : (bytes){NULL, 0};
  if (status == AC_ERR_AUTH || status == AC_ERR_PRIMITIVE)
    CHECK(!holds_run_of(room.at, room.len, body_text, BODY));
  bytes_free(&room);
  return status;
}

static void capacity(const ac_secret_key *node) {
  const size_t need = ac_v1_request_max_bytes(BODY, 3);
  uint8_t random[60] = {3};
  ac_v1_opener opener;
  memset(&opener, 0x77, sizeof opener);
  const ac_v1_opener before = opener;
  size_t len = 99;
  random_queue(random, sizeof random);
  for (size_t cap = 0; cap < need; cap++) {
    bytes out = bytes_new(cap);
    CHECK_STATUS(seal(&opener, &out, &len, node->public_key), AC_ERR_CAPACITY);
    CHECK(bytes_untouched(&out) && len == 99 && memcmp(&opener, &before, sizeof opener) == 0);
    bytes_free(&out);
  }
  CHECK(random_left() == sizeof random); /* and no randomness was spent */
  bytes out = bytes_new(need);
  CHECK_STATUS(seal(&opener, &out, &len, node->public_key), AC_OK);
  CHECK(random_left() == 0 && len <= need);
  bytes_free(&out);
  CHECK(ac_v1_request_max_bytes(SIZE_MAX, 3) == SIZE_MAX && ac_v1_request_max_bytes(3, SIZE_MAX) == SIZE_MAX);
  CHECK_STATUS(ac_v1_request_seal(&opener, random, sizeof random, &len, node->public_key, random, SIZE_MAX, NULL, 0, 0,
                                  0, 0, 0),
               AC_ERR_ARGUMENT);

  bytes request = make_request(node);
  const ac_v1_envelope envelope = envelope_of(viewed(&request));
  const size_t room = ac_base64_decoded_max(envelope.ciphertext_len);
  ac_v1_sealer sealer;
  memset(&sealer, 0x77, sizeof sealer);
  const ac_v1_sealer unused = sealer;
  for (size_t cap = 0; cap <= room; cap++) {
    bytes body = bytes_new(cap);
    len = 99;
    CHECK_STATUS(ac_v1_request_open(&sealer, body.at, cap, &len, node, NULL, &envelope),
                 cap < room ? AC_ERR_CAPACITY : AC_OK);
    if (cap < room)
      CHECK(bytes_untouched(&body) && len == 99 && memcmp(&sealer, &unused, sizeof sealer) == 0);
    else
      CHECK_SAME(((view){body.at, len}), view_of(body_text));
    bytes_free(&body);
  }
  bytes_free(&request);
}

static void overlap(const ac_secret_key *node) {
  const size_t need = ac_v1_request_max_bytes(BODY, 3);
  bytes room = bytes_new(BODY + need + BODY);
  ac_v1_opener opener;
  size_t len = 0;
  for (size_t at = 0; at <= BODY + need; at++) {
    const int apart = at == 0 || at == BODY + need;
    CHECK_STATUS(ac_v1_request_seal(&opener, room.at + BODY, need, &len, node->public_key, room.at + at, BODY,
                                    (const uint8_t *)"\"m\"", 3, 1, 0, 0, 0),
                 apart ? AC_OK : AC_ERR_OVERLAP);
    CHECK_STATUS(ac_v1_request_seal(&opener, room.at + BODY, need, &len, node->public_key, NULL, 0, room.at + at, BODY,
                                    1, 0, 0, 0),
                 apart ? AC_OK : AC_ERR_OVERLAP);
  }
  bytes_free(&room);

  bytes request = make_request(node);
  ac_v1_envelope envelope = envelope_of(viewed(&request));
  const size_t text_len = envelope.ciphertext_len, body_cap = ac_base64_decoded_max(text_len);
  ac_v1_sealer sealer = {0};
  room = bytes_new(2 * text_len + body_cap);
  for (size_t at = 0; at <= text_len + body_cap; at++) {
    const int apart = at + body_cap <= text_len || at >= 2 * text_len;
    memcpy(room.at + text_len, envelope.ciphertext, text_len);
    ac_v1_envelope inside = envelope;
    inside.ciphertext = room.at + text_len;
    if (at + body_cap > room.len) break;
    CHECK_STATUS(ac_v1_request_open(&sealer, room.at + at, body_cap, &len, node, NULL, &inside),
                 apart ? AC_OK : AC_ERR_OVERLAP);
  }
  bytes_free(&room);
  bytes_free(&request);
}

/* What is read once the output is begun: the node's key, and both of a node's own. */
static void overlaps_of_keys(const ac_secret_key *node) {
  ac_v1_opener opener;
  size_t len = 0;
  const size_t need = ac_v1_request_max_bytes(BODY, 3);
  bytes room = bytes_new(need + BODY);
  memcpy(room.at + BODY, node->public_key, AC_X25519_BYTES);
  CHECK_STATUS(ac_v1_request_seal(&opener, room.at, need, &len, room.at + BODY, NULL, 0, NULL, 0, 1, 0, 0, 0),
               AC_ERR_OVERLAP);
  bytes request = make_request(node);
  const ac_v1_envelope envelope = envelope_of(viewed(&request));
  struct {
    uint8_t body[1000];
    ac_secret_key node;
    ac_signing_key signing;
  } place = {.node = *node, .signing = some_signing_key()};
  ac_v1_sealer sealer;
  const size_t before_node = sizeof place.body, before_signing = before_node + sizeof place.node;
  for (size_t cap = before_node; cap <= before_signing; cap++)
    CHECK_STATUS(ac_v1_request_open(&sealer, place.body, cap, &len, &place.node, NULL, &envelope),
                 cap > before_node ? AC_ERR_OVERLAP : AC_OK);
  for (size_t cap = before_signing; cap <= sizeof place; cap++)
    CHECK_STATUS(ac_v1_request_open(&sealer, place.body, cap, &len, node, &place.signing, &envelope),
                 cap > before_signing ? AC_ERR_OVERLAP : AC_OK);
  bytes_free(&request);
  bytes_free(&room);
}

static void empty(const ac_secret_key *node) {
  ac_v1_opener opener;
  bytes out = bytes_new(ac_v1_request_max_bytes(0, 0)), body = {0};
  size_t len = 0;
  CHECK_STATUS(ac_v1_request_seal(&opener, out.at, out.len, &len, node->public_key, NULL, 0, NULL, 0, 0, 0, 0, 0),
               AC_OK);
  const ac_v1_envelope envelope = envelope_of((view){out.at, len});
  CHECK_STATUS(open_request(node, &envelope, &body), AC_OK);
  CHECK(body.len == 0);
  bytes_free(&out);
}

static void keys_of_small_order(const ac_secret_key *node) {
  bytes request = make_request(node), out = bytes_new(ac_v1_request_max_bytes(BODY, 3));
  size_t len = 0;
  for (size_t i = 0; i < 2 * SMALL_ORDER; i++) {
    uint8_t point[32], shared[32] = {1}, text[44];
    ac_v1_opener opener = {0};
    bytes body = {0};
    CHECK(unhex(point, points_of_small_order[i / 2]) == 32);
    point[31] |= (uint8_t)(i % 2 << 7); /* the bit that X25519 ignores */
    CHECK_STATUS(ac_x25519(shared, node->secret, point), AC_ERR_KEY);
    CHECK(all_zero(shared, sizeof shared));
    CHECK_STATUS(seal(&opener, &out, &len, point), AC_ERR_KEY);
    CHECK(bytes_untouched(&out) && all_zero(&opener, sizeof opener)); /* sent nothing, made nothing */
    ac_v1_envelope envelope = envelope_of(viewed(&request));
    aci_base64_encode(text, point, sizeof point);
    envelope.client_public = text;
    CHECK_STATUS(open_request(node, &envelope, &body), AC_ERR_AUTH);
  }
  bytes_free(&request);
  bytes_free(&out);
}

/* Whatever bit is turned: an error, or the very same body. */
static void every_bit(const ac_secret_key *node) {
  bytes request = make_request(node);
  unsigned unharmed = 0;
  const ac_v1_envelope good = envelope_of(viewed(&request));
  const view members[] = {{good.ciphertext, good.ciphertext_len},
                          {good.nonce, good.nonce_len},
                          {good.salt, good.salt_len},
                          {good.client_public, good.client_public_len},
                          {good.node_public, good.node_public_len},
                          {good.body_hash, good.body_hash_len}};
  for (size_t m = 0; m < sizeof members / sizeof members[0]; m++) {
    for (size_t bit = 0; bit < 8 * members[m].len; bit++) {
      uint8_t *const at = request.at + (members[m].at - request.at) + bit / 8;
      bytes body = {0};
      *at ^= (uint8_t)(1u << bit % 8);
      const int status = open_request(node, &good, &body);
      if (status == AC_OK) {
        unharmed++;
        CHECK_SAME(body, view_of(body_text));
        CHECK(members[m].at == good.client_public);
      } else {
        CHECK(status == AC_ERR_AUTH || status == AC_ERR_FORMAT);
      }
      *at ^= (uint8_t)(1u << bit % 8);
      bytes_free(&body);
    }
  }
  CHECK(unharmed <= 1); /* the bit that X25519 ignores */
  bytes_free(&request);
}

static void wrong_lengths(const ac_secret_key *node) {
  bytes request = make_request(node), body = {0};
  const ac_v1_envelope good = envelope_of(viewed(&request));
  for (size_t m = 0; m < 6; m++) {
    for (size_t len = 0; len <= 48; len++) {
      ac_v1_envelope e = good;
      size_t *const lens[] = {&e.ciphertext_len, &e.nonce_len, &e.salt_len, &e.client_public_len, &e.node_public_len,
                              &e.body_hash_len};
      const uint8_t **const places[] = {&e.ciphertext, &e.nonce, &e.salt, &e.client_public, &e.node_public,
                                        &e.body_hash};
      if (len == *lens[m]) continue;
      bytes text = bytes_new(len); /* NULL where there is nothing */
      if (len != 0) memset(text.at, 'A', len);
      *lens[m] = len;
      *places[m] = text.at;
      /* a ciphertext of 16 bytes or more is well-formed */
      CHECK_STATUS(open_request(node, &e, &body),
                   m == 0 && len % 4 == 0 && ac_base64_decoded_max(len) >= AC_TAG_BYTES ? AC_ERR_AUTH : AC_ERR_FORMAT);
      bytes_free(&text);
    }
  }
  bytes_free(&request);
}

static void another_key(const ac_secret_key *node) {
  ac_secret_key other;
  bytes request = make_request(node), body = {0};
  const ac_v1_envelope envelope = envelope_of(viewed(&request));
  CHECK_STATUS(ac_secret_key_generate(&other), AC_OK);
  CHECK_STATUS(open_request(&other, &envelope, &body), AC_ERR_AUTH);
  memcpy(other.public_key, node->public_key, sizeof other.public_key); /* the right name, the wrong key */
  CHECK_STATUS(open_request(&other, &envelope, &body), AC_ERR_AUTH);
  CHECK_STATUS(open_request(node, &envelope, &body), AC_OK);
  CHECK_SAME(body, view_of(body_text));
  bytes_free(&body);
  bytes_free(&request);
}

void test_request(void) {
  ac_secret_key node;
  CHECK_STATUS(ac_secret_key_generate(&node), AC_OK);
  capacity(&node);
  overlap(&node);
  overlaps_of_keys(&node);
  empty(&node);
  keys_of_small_order(&node);
  every_bit(&node);
  wrong_lengths(&node);
  another_key(&node);
}
