/* Base64, against a decoder that knows only the alphabet; and the JSON reader, case by case. */
#include "harness.h"

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
  char again[16];
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
  uint8_t want[16];
  size_t want_len = 0, got_len = 0;
  const int good = decode(want, &want_len, text, len);
  bytes in = bytes_copy(text, len), out = bytes_new(ac_base64_decoded_max(len));
  CHECK_STATUS(aci_base64_decode(out.at, &got_len, in.at, len), good ? AC_OK : AC_ERR_FORMAT);
  if (good) CHECK(got_len == want_len && (got_len == 0 || memcmp(out.at, want, got_len) == 0));
  bytes_free(&in);
  bytes_free(&out);
}

static void base64_endings(void) {
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

static void base64_round_trip(void) {
  uint8_t raw[100];
  char want[140];
  for (size_t i = 0; i < sizeof raw; i++) raw[i] = (uint8_t)random_below(256);
  for (size_t len = 0; len <= sizeof raw; len++) {
    const size_t text_len = ac_base64_encoded_len(len);
    size_t back_len = 0;
    CHECK(encode(want, raw, len) == text_len && ac_base64_decoded_max(text_len) >= len);
    bytes text = bytes_new(text_len), in = bytes_copy(raw, len), back = bytes_new(ac_base64_decoded_max(text_len));
    aci_base64_encode(text.at, in.at, len);
    CHECK_EQUAL(text.at, want, text_len);
    CHECK_STATUS(aci_base64_decode(back.at, &back_len, text.at, text_len), AC_OK);
    CHECK(back_len == len && (len == 0 || memcmp(back.at, raw, len) == 0));
    if (len != 0) { /* in place: the input stands at the end of the output */
      memcpy(text.at + text_len - len, raw, len);
      aci_base64_encode(text.at, text.at + text_len - len, len);
      CHECK_EQUAL(text.at, want, text_len);
    }
    if (len <= 32) { /* an exact length is that length alone */
      for (size_t other = 1; other <= 32; other++) {
        bytes exact = bytes_new(other);
        CHECK_STATUS(aci_base64_decode_exact(exact.at, other, text.at, text_len), other == len ? AC_OK : AC_ERR_FORMAT);
        CHECK(other == len || bytes_untouched(&exact));
        bytes_free(&exact);
      }
    }
    bytes_free(&text);
    bytes_free(&in);
    bytes_free(&back);
  }
  CHECK(ac_base64_encoded_len(SIZE_MAX) == SIZE_MAX && ac_base64_encoded_len(SIZE_MAX / 4 * 3) != 0);
  CHECK(ac_base64_encoded_len(SIZE_MAX / 4 * 3 + 3) == SIZE_MAX);
}

/* ---- JSON ---- */

#define C "\"ciphertext\":\"YQ==\""
#define N "\"nonce\":\"bg==\""
#define BOTH C "," N

static const struct {
  int status;
  const char *json, *hash, *usage; /* NULL: absent or null */
} cases[] = {
    {AC_OK, "{" BOTH "}", NULL, NULL},
    {AC_OK, "{" N "," C "}", NULL, NULL},
    {AC_OK, " \t\r\n{ \"ciphertext\" : \"YQ==\" ,\t" N "\r\n} ", NULL, NULL},
    {AC_OK, "{" BOTH ",\"response_hash\":\"aA==\"}", "aA==", NULL},
    {AC_OK, "{" BOTH ",\"response_hash\":null,\"usage\":null}", NULL, NULL},
    {AC_OK, "{" BOTH ",\"usage\":{}}", NULL, "{}"},
    {AC_OK, "{\"usage\":{\"a\":1,\"b\":null},\"signature\":\"\",\"response_hash\":\"aA==\"," BOTH "}", "aA==",
     "{\"a\":1,\"b\":null}"},
    {AC_OK, "{" BOTH ",\"usage\":{ \"a\" : -0.5e+10 , \"b\":\"c\" }}", NULL, "{ \"a\" : -0.5e+10 , \"b\":\"c\" }"},
    {AC_OK, "{" BOTH ",\"x\":true,\"y\":false,\"z\":null,\"\":\"\",\"n\":0,\"m\":-1,\"o\":1.5,\"p\":1E9}", NULL, NULL},
    {AC_OK, "{" BOTH ",\"x\":{\"y\":1,\"ciphertext\":\"other\"}}", NULL, NULL},
    {AC_OK, "{" BOTH ",\"x\":1,\"x\":2}", NULL, NULL},
    {AC_OK, "{\"ciphertext\":\"\xff\x01\\u0041\"," N "}", NULL, NULL}, /* its decoder looks at every byte */
    /* one of ours twice, or missing, or of another kind */
    {AC_PUNT, "{" BOTH "," C "}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"usage\":null,\"usage\":{}}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"response_hash\":null,\"response_hash\":\"aA==\"}", NULL, NULL},
    {AC_PUNT, "{" C "}", NULL, NULL},
    {AC_PUNT, "{" N "}", NULL, NULL},
    {AC_PUNT, "{\"ciphertext\":null," N "}", NULL, NULL},
    {AC_PUNT, "{\"ciphertext\":1," N "}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"response_hash\":\"\"}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"response_hash\":0}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"usage\":\"x\"}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"usage\":[1]}", NULL, NULL},
    /* legal, and more than this reader wants to know */
    {AC_PUNT, "{" BOTH ",\"usage\":{\"a\":{}}}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":{\"a\":[]}}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":[]}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":\"\\n\"}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":\"\xc3\xa9\"}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"\\u006eonce\":1}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":10000000000000000000000000000000000000000}", NULL, NULL},
    {AC_OK, "{" BOTH ",\"x\":1000000000000000000000000000000000000000}", NULL, NULL},
    /* not JSON at all */
    {AC_PUNT, "", NULL, NULL},
    {AC_PUNT, " ", NULL, NULL},
    {AC_PUNT, "{}", NULL, NULL},
    {AC_PUNT, "[]", NULL, NULL},
    {AC_PUNT, "null", NULL, NULL},
    {AC_PUNT, "\"ciphertext\"", NULL, NULL},
    {AC_PUNT, "{" BOTH, NULL, NULL},
    {AC_PUNT, "{" BOTH ",}", NULL, NULL},
    {AC_PUNT, "{," BOTH "}", NULL, NULL},
    {AC_PUNT, "{" C " " N "}", NULL, NULL},
    {AC_PUNT, "{" BOTH "}}", NULL, NULL},
    {AC_PUNT, "{" BOTH "} x", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\"}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":01}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":+1}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":-}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":.5}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":1.}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":1e}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":NaN}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":nulL}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":truex}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"x\":\"\t\"}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"usage\":{,}}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"usage\":{\"a\":1,}}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"usage\":{\"a\" 1}}", NULL, NULL},
    {AC_PUNT, "{" BOTH ",\"usage\":{\"a\":1 \"b\":2}}", NULL, NULL},
    {AC_PUNT, "{'ciphertext':'YQ=='," N "}", NULL, NULL},
    {AC_PUNT, "\xef\xbb\xbf{" BOTH "}", NULL, NULL},
};

static int text_is(const aci_text *text, const char *want) {
  if (want == NULL) return text->at == NULL;
  return text->at != NULL && text->len == strlen(want) && memcmp(text->at, want, text->len) == 0;
}

static void json(void) {
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const size_t len = strlen(cases[i].json);
    aci_v1_members m;
    bytes in = bytes_copy(cases[i].json, len + (len == 0)); /* never NULL: its callers see to that */
    if (!CHECK_STATUS(aci_v1_read_members(&m, in.at, len), cases[i].status)) printf("    %s\n", cases[i].json);
    if (cases[i].status == AC_OK) {
      CHECK(m.ciphertext.at != NULL && text_is(&m.nonce, "bg=="));
      CHECK(text_is(&m.response_hash, cases[i].hash) && text_is(&m.usage, cases[i].usage));
    }
    bytes_free(&in);
    /* cut anywhere it is not whole, unless the object's end is still there */
    for (size_t cut = 1; cut < len; cut++) {
      bytes part = bytes_copy(cases[i].json, cut);
      size_t end = cut;
      while (end > 0 && cases[i].json[end - 1] == ' ') end--;
      if (aci_v1_read_members(&m, part.at, cut) != AC_PUNT) CHECK(end > 0 && cases[i].json[end - 1] == '}');
      bytes_free(&part);
    }
  }
}

void test_text(void) {
  base64_endings();
  base64_round_trip();
  json();
}
