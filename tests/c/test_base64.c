/* Base64, against a decoder that knows only the alphabet; between guard pages, at every length that some loop of the
 * core's takes in another way, with every byte in every place. */
#include "harness.h"

enum { LONGEST = 300, LONGEST_TEXT = LONGEST / 3 * 4 };

static guarded in_room, out_room;

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The one text that RFC 4648, section 4, makes out of `in`, bit by bit. */
static size_t encode(char *out, const uint8_t *in, size_t len) {
  size_t n = 0;
  for (size_t bit = 0; bit < 8 * len; bit += 6) {
    unsigned v = 0;
    for (size_t i = bit; i < bit + 6; i++) v = v << 1 | (i < 8 * len ? (unsigned)in[i / 8] >> (7 - i % 8) & 1u : 0);
    out[n++] = alphabet[v];
  }
  while (n % 4 != 0) out[n++] = '=';
  return n;
}

/* What encodes to exactly this text, if anything does. */
static int decode(uint8_t *out, size_t *out_len, const char *text, size_t len) {
  char again[LONGEST_TEXT];
  unsigned bits = 0;
  size_t n = 0, have = 0;
  for (size_t i = 0; i < len && text[i] != '='; i++) {
    const char *at = text[i] != 0 ? strchr(alphabet, text[i]) : NULL;
    if (at == NULL) return 0;
    bits = bits << 6 | (unsigned)(at - alphabet);
    have += 6;
    if (have >= 8) {
      have -= 8;
      out[n++] = (uint8_t)(bits >> have);
    }
  }
  *out_len = n;
  return encode(again, out, n) == len && memcmp(again, text, len) == 0;
}

static void decode_both(const char *text, size_t len) {
  uint8_t want[LONGEST_TEXT];
  size_t want_len = 0;
  const int good = decode(want, &want_len, text, len);
  for (edge side = AT_BEGIN; side < EDGES; side++) {
    const uint8_t *const in = guarded_copy(&in_room, side, text, len);
    uint8_t *const out = guarded_at(&out_room, side, ac_base64_decoded_max(len));
    size_t got_len = 0;
    CHECK_STATUS(aci_base64_decode(out, &got_len, in, len), good ? AC_OK : AC_ERR_FORMAT);
    if (good) CHECK(got_len == want_len && memcmp(out, want, got_len) == 0);
  }
}

static void endings(void) {
  /* each length of each mixture of these, alone and behind a whole group */
  static const char few[] = {'A', 'B', 'Q', 'g', 'w', '/', '=', ' ', '\n', '-', '_', 0};
  enum { FEW = sizeof few };
  char text[8] = {'A', 'b', 'c', '+'};
  for (unsigned i = 0; i < FEW * FEW * FEW * FEW; i++) {
    text[4] = few[i % FEW];
    text[5] = few[i / FEW % FEW];
    text[6] = few[i / FEW / FEW % FEW];
    text[7] = few[i / FEW / FEW / FEW];
    decode_both(text + 4, 4);
    decode_both(text, 8);
    if (i < FEW * FEW * FEW) decode_both(text + 4, 3);
    if (i < FEW * FEW) decode_both(text + 4, 2);
    if (i < FEW) decode_both(text + 4, 1);
  }
  /* every byte in every place, all spare bits */
  for (unsigned i = 0; i < 4; i++) {
    for (unsigned byte = 0; byte < 256; byte++) {
      memcpy(text, "AbcdEfgh", 8);
      text[i] = (char)byte;
      decode_both(text, 8);
      memcpy(text, "AbcdEf==", 8);
      text[4 + i] = (char)byte;
      decode_both(text, 8);
      memcpy(text, "AbcdEfg=", 8);
      text[4 + i] = (char)byte;
      decode_both(text, 8);
    }
  }
  decode_both("", 0);
}

static void round_trip(const uint8_t *raw, size_t len) {
  char want[LONGEST_TEXT];
  const size_t text_len = ac_base64_encoded_len(len);
  CHECK(encode(want, raw, len) == text_len && ac_base64_decoded_max(text_len) >= len);
  for (edge side = AT_BEGIN; side < EDGES; side++) {
    const uint8_t *const in = guarded_copy(&in_room, side, raw, len);
    uint8_t *const text = guarded_at(&out_room, side, text_len);
    aci_base64_encode(text, in, len);
    CHECK_EQUAL(text, want, text_len);
    /* in place: the input stands at the end of the output */
    memset(text, '!', text_len);
    memcpy(text + text_len - len, raw, len);
    aci_base64_encode(text, text + text_len - len, len);
    CHECK_EQUAL(text, want, text_len);
  }
  decode_both(want, text_len);
}

/* Both ends of a buffer at once, which the sanitizer can do and a page cannot. */
static void on_the_heap(const uint8_t *raw, size_t len) {
  const size_t text_len = ac_base64_encoded_len(len);
  size_t back_len = 0;
  bytes in = bytes_copy(raw, len), text = bytes_new(text_len), back = bytes_new(ac_base64_decoded_max(text_len));
  aci_base64_encode(text.at, in.at, len);
  CHECK_STATUS(aci_base64_decode(back.at, &back_len, text.at, text_len), AC_OK);
  CHECK(back_len == len && (len == 0 || memcmp(back.at, raw, len) == 0));
  bytes_free(&in);
  bytes_free(&text);
  bytes_free(&back);
}

/* An exact length is that length alone. */
static void exact_lengths(const uint8_t *raw) {
  char text[LONGEST_TEXT];
  for (size_t len = 0; len <= 32; len++) {
    const size_t text_len = encode(text, raw, len);
    for (size_t other = 1; other <= 32; other++) {
      bytes exact = bytes_new(other);
      CHECK_STATUS(aci_base64_decode_exact(exact.at, other, (const uint8_t *)text, text_len),
                   other == len ? AC_OK : AC_ERR_FORMAT);
      CHECK(other == len ? memcmp(exact.at, raw, len) == 0 : bytes_untouched(&exact));
      bytes_free(&exact);
    }
  }
}

/* Alone, in front of a tail and behind other groups. */
static void every_byte_everywhere(const uint8_t *raw) {
  static const size_t lengths[] = {3, 5, 12, 13, 24, 26, 36, 48, 51, 52, 97, 99, 145};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    char text[LONGEST_TEXT];
    const size_t len = encode(text, raw, lengths[i]);
    for (size_t at = 0; at < len; at++) {
      const char right = text[at];
      for (unsigned byte = 0; byte < 256; byte += stride()) {
        text[at] = (char)byte;
        decode_both(text, len);
      }
      text[at] = right;
    }
  }
}

void test_base64(void) {
  uint8_t raw[LONGEST];
  for (size_t i = 0; i < sizeof raw; i++) raw[i] = (uint8_t)random_below(256);
  in_room = guarded_new(LONGEST_TEXT);
  out_room = guarded_new(LONGEST_TEXT);
  endings();
  for (size_t len = 0; len <= LONGEST; len++) {
    round_trip(raw, len);
    on_the_heap(raw, len);
  }
  for (size_t len = 0; len <= 48; len++) decode_both("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", len);
  exact_lengths(raw);
  every_byte_everywhere(raw);
  CHECK(ac_base64_encoded_len(SIZE_MAX) == SIZE_MAX && ac_base64_encoded_len(SIZE_MAX / 4 * 3) != 0);
  CHECK(ac_base64_encoded_len(SIZE_MAX / 4 * 3 + 3) == SIZE_MAX);
  guarded_free(&in_room);
  guarded_free(&out_room);
}
