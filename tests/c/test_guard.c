/* Guard pages right before and right behind each buffer of AES-256-GCM, and of events that are written and read. */
#include "harness.h"

enum { LONGEST = 4096 + 20, SEALED = LONGEST + AC_TAG_BYTES };

/* ---- AES-256-GCM ---- */

static struct {
  guarded aes, key, nonce, in, out, aad;
} room;

static struct {
  uint8_t key[AC_KEY_BYTES], nonce[AC_NONCE_BYTES], plaintext[LONGEST], aad[LONGEST];
} material;

static void fill(void *p, size_t len) {
  uint8_t *at = p;
  for (size_t i = 0; i < len; i++) at[i] = (uint8_t)random_below(256);
}

static uint8_t *place_output(edge side, size_t len) { return memset(guarded_at(&room.out, side, len), 0xee, len); }

static void open_both_ways(const ac_aes256gcm *aes, edge side, const uint8_t *sealed, size_t len, const uint8_t *nonce,
                           const uint8_t *aad, size_t aad_len, int status) {
  const size_t sealed_len = len + AC_TAG_BYTES;
  const uint8_t *const in = guarded_copy(&room.in, side, sealed, sealed_len);
  uint8_t *out = place_output(side, len);
  CHECK_STATUS(ac_aes256gcm_open(aes, out, len, nonce, in, sealed_len, aad, aad_len), status);
  CHECK(status == AC_OK ? memcmp(out, material.plaintext, len) == 0 : all_zero(out, len));
  out = guarded_copy(&room.out, side, sealed, sealed_len);
  CHECK_STATUS(ac_aes256gcm_open(aes, out, len, nonce, out, sealed_len, aad, aad_len), status);
  CHECK(status == AC_OK ? memcmp(out, material.plaintext, len) == 0 : all_zero(out, len));
}

static void beside_guards(const ac_aes256gcm *aes, edge side, uint8_t *want, size_t len, size_t aad_len) {
  const size_t sealed_len = len + AC_TAG_BYTES;
  const uint8_t *const nonce = guarded_copy(&room.nonce, side, material.nonce, AC_NONCE_BYTES);
  const uint8_t *const aad = guarded_copy(&room.aad, side, material.aad, aad_len);
  const uint8_t *const in = guarded_copy(&room.in, side, material.plaintext, len);
  uint8_t *out = place_output(side, sealed_len);
  CHECK_STATUS(ac_aes256gcm_seal(aes, out, sealed_len, nonce, in, len, aad, aad_len), AC_OK);
  CHECK(memcmp(out, want, sealed_len) == 0);
  out = guarded_at(&room.out, side, sealed_len);
  memcpy(out, material.plaintext, len);
  CHECK_STATUS(ac_aes256gcm_seal(aes, out, sealed_len, nonce, out, len, aad, aad_len), AC_OK);
  CHECK(memcmp(out, want, sealed_len) == 0);
  open_both_ways(aes, side, want, len, nonce, aad, aad_len, AC_OK);
  uint8_t *const spoilt = &want[random_below((uint32_t)sealed_len)];
  *spoilt ^= 1;
  open_both_ways(aes, side, want, len, nonce, aad, aad_len, AC_ERR_AUTH);
  *spoilt ^= 1;
}

static void every_backend(size_t len, size_t aad_len) {
  uint8_t want[SEALED];
  ac_aes256gcm model;
  CHECK_STATUS(ac_aes256gcm_init(&model, material.key, model_backend()), AC_OK);
  CHECK_STATUS(ac_aes256gcm_seal(&model, want, sizeof want, material.nonce, material.plaintext, len, material.aad,
                                 aad_len),
               AC_OK);
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL; i++) {
    if (!ac_aes_backend_usable(i)) continue;
    for (edge side = AT_BEGIN; side < EDGES; side++) {
      const uint8_t *const key = guarded_copy(&room.key, side, material.key, AC_KEY_BYTES);
      ac_aes256gcm *const aes = (ac_aes256gcm *)(void *)guarded_at(&room.aes, side, sizeof *aes);
      CHECK_STATUS(ac_aes256gcm_init(aes, key, i), AC_OK);
      beside_guards(aes, side, want, len, aad_len);
    }
  }
}

void test_gcm_guards(void) {
  static guarded *const rooms[] = {&room.aes, &room.key, &room.nonce, &room.in, &room.out, &room.aad};
  enum { ROOMS = sizeof rooms / sizeof rooms[0], ALL = 1100, AROUND = 20 };
  fill(&material, sizeof material);
  for (size_t i = 0; i < ROOMS; i++) *rooms[i] = guarded_new(SEALED);
  for (size_t len = 0; len <= LONGEST; len += stride()) {
    if (len > ALL && (len + AROUND) % 2048 > 2 * AROUND) continue;
    every_backend(len, len * 5 % 41);
    every_backend(len * 5 % 41, len);
  }
  for (size_t i = 0; i < ROOMS; i++) guarded_free(rooms[i]);
}

/* ---- events ---- */

static const char usage_text[] = "{\"total_tokens\":2}";

/* A plaintext of each length becomes an event and is read again. */
static void seal_and_open(exchange *x) {
  enum { MOST = 400, CAP = 2 * MOST + 600 };
  guarded plaintext = guarded_new(MOST), usage = guarded_new(sizeof usage_text), in = guarded_new(CAP);
  guarded out = guarded_new(CAP);
  for (size_t len = 0; len <= MOST; len += stride()) {
    for (edge side = AT_BEGIN; side < EDGES; side++) {
      const size_t usage_len = len % 2 != 0 ? sizeof usage_text - 1 : 0;
      const size_t event_len = ac_v1_event_bytes(&x->sealer, len, usage_len);
      const uint8_t *const from = guarded_copy(&plaintext, side, material.plaintext, len);
      const uint8_t *const spent = guarded_copy(&usage, side, usage_text, usage_len);
      uint8_t *const event = guarded_at(&out, side, event_len);
      ac_v1_events events = {.event_cap = 1};
      size_t sealed_len = 0;
      CHECK_STATUS(event_seal(&x->sealer, event, event_len, &sealed_len, from, len, spent, usage_len), AC_OK);
      CHECK(sealed_len == event_len);
      const uint8_t *const received = guarded_copy(&in, side, event, event_len);
      ac_v1_opener opener = x->opener;
      CHECK_STATUS(events_open(&opener, &events, (view){received, event_len}), AC_ERR_CAPACITY); /* a tag is always there */
      const size_t need = events.out_cap = events.out_len;
      CHECK(need >= len + AC_TAG_BYTES && need <= len + AC_TAG_BYTES + 2);
      uint8_t *const opened = events.out = guarded_at(&out, side, need);
      CHECK_STATUS(events_open(&opener, &events, (view){received, event_len}), AC_OK);
      CHECK(events.count == 1 && events.spans[0] == len && memcmp(opened, material.plaintext, len) == 0);
    }
  }
  guarded_free(&plaintext);
  guarded_free(&usage);
  guarded_free(&in);
  guarded_free(&out);
}

/* A stream that is cut in two at each place: both halves end, or begin, where the memory does. */
static void cut_streams(exchange *x) {
  static const char *const texts[] = {"", "{\"a\":1}", "{\"choices\":[{\"delta\":{\"content\":\" a longer one\"}}]}"};
  enum { EVENTS = sizeof texts / sizeof texts[0] };
  static const char begin[] = "\xef\xbb\xbf: a comment\r\n\r\n", end[] = "data: [DONE]\r\r: another, without its end";
  bytes stream = bytes_copy(begin, sizeof begin - 1), want = {NULL, 0};
  size_t ends[EVENTS];
  for (size_t i = 0; i < EVENTS; i++) {
    bytes event = seal_event(&x->sealer, texts[i], i == 1 ? usage_text : "");
    bytes_append(&stream, event.at, event.len);
    bytes_append(&want, texts[i], strlen(texts[i]));
    ends[i] = stream.len;
    bytes_free(&event);
  }
  bytes_append(&stream, end, sizeof end - 1);
  guarded in = guarded_new(stream.len), out = guarded_new(stream.len);
  for (size_t cut = 0; cut <= stream.len; cut += stride()) {
    for (edge side = AT_BEGIN; side < EDGES; side++) {
      size_t whole = 0;
      ac_v1_opener opener = x->opener;
      uint8_t *const opened = guarded_at(&out, side, stream.len);
      ac_v1_events events = {.out = opened, .out_cap = stream.len, .event_cap = EVENTS};
      while (whole < EVENTS && ends[whole] <= cut) whole++;
      const uint8_t *const first = guarded_copy(&in, side, stream.at, cut);
      CHECK_STATUS(events_open(&opener, &events, (view){first, cut}), AC_OK);
      CHECK(events.count == whole && events.consumed <= cut);
      const size_t consumed = events.consumed, used = events.out_len;
      const uint8_t *const rest = guarded_copy(&in, side, stream.at + consumed, stream.len - consumed);
      events.out = opened + used;
      events.out_cap = stream.len - used;
      CHECK_STATUS(events_open(&opener, &events, (view){rest, stream.len - consumed}), AC_OK);
      CHECK(events.count == EVENTS - whole && used + events.out_len == want.len);
      CHECK(memcmp(opened, want.at, want.len) == 0);
    }
  }
  guarded_free(&in);
  guarded_free(&out);
  bytes_free(&stream);
  bytes_free(&want);
}

void test_event_guards(void) {
  exchange x = exchange_make(NULL);
  fill(material.plaintext, sizeof material.plaintext);
  seal_and_open(&x);
  cut_streams(&x);
}
