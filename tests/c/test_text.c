/* The JSON reader, case by case. */
#include "harness.h"

#define C "\"ciphertext\":\"YQ==\""
#define N "\"nonce\":\"bg==\""
#define BOTH C "," N
#define SEVEN ",\"x\":1,\"x\":1,\"x\":1,\"x\":1,\"x\":1,\"x\":1,\"x\":1"
#define MOST_USAGE "{\"a\":1,\"b\":2" SEVEN SEVEN SEVEN SEVEN "}"

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
    {AC_OK, "{\"ciphertexts\":\"\",\"nonces\":\"\"," BOTH ",\"response_hash_\":\"aA==\",\"usage2\":{}}", NULL, NULL},
    {AC_OK, "{\"ciphertext\":\"\xff\x01\\u0041\"," N "}", NULL, NULL}, /* its decoder looks at every byte */
    /* as many members as it takes, and one more */
    {AC_OK, "{" BOTH SEVEN SEVEN SEVEN SEVEN "}", NULL, NULL},
    {AC_PUNT, "{" BOTH SEVEN SEVEN SEVEN SEVEN ",\"y\":1}", NULL, NULL},
    {AC_OK, "{" BOTH ",\"usage\":" MOST_USAGE "}", NULL, MOST_USAGE},
    {AC_PUNT, "{" BOTH ",\"usage\":{\"c\":3" SEVEN SEVEN SEVEN SEVEN ",\"a\":1,\"b\":2}}", NULL, NULL},
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

void test_text(void) {
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
