/* The JSON reader of v2's events and objects, case by case. */
#include "harness.h"

#define C "\"ciphertext\":\"YQ==\""
#define S ",\"salt\":\"cw==\",\"v\":2"
#define USAGE(completion, prompt, total) \
  ",\"usage\":{\"completion_tokens\":" completion ",\"prompt_tokens\":" prompt ",\"total_tokens\":" total "}"

static const struct {
  int status;
  uint32_t flag;
  const char *json;
  int salt;
  uint64_t usage[4]; /* the first: 1 if there is one */
} cases[] = {
    {AC_OK, 0, "{" C "}", 0, {0}},
    {AC_OK, 0, "{" C S "}", 1, {0}},
    {AC_OK, 1, "{" C ",\"flag\":1}", 0, {0}},
    {AC_OK, 2, "{\"flag\":2," C "}", 0, {0}},
    {AC_OK, 3, " \t\r\n{ \"v\" : 2 ,\t\"flag\":3,\"salt\":\"cw==\"\r\n, " C " } \n", 1, {0}},
    {AC_OK, 0, "{" C ",\"flag\":0,\"usage\":null}", 0, {0}},
    {AC_OK, 0, "{" C USAGE("9", "3", "12") "}", 0, {1, 3, 9, 12}},
    {AC_OK, 1, "{" C ",\"flag\":1" USAGE("0", "9007199254740991", "1234567890123456") "}", 0,
     {1, 9007199254740991, 0, 1234567890123456}},
    {AC_OK, 0, "{\"usage\": { \"total_tokens\" : 1 , \"prompt_tokens\":2,\"completion_tokens\":3 } ," C "}", 0, {1, 2, 3, 1}},
    {AC_OK, 0, "{\"ciphertext\":\"\xff\x01\\u0041\"}", 0, {0}}, /* its decoder looks at every byte */
    /* one of ours twice, or missing, or of another kind */
    {AC_PUNT, 0, "{" C "," C "}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":1,\"flag\":1}", 0, {0}},
    {AC_PUNT, 0, "{" C S S "}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"usage\":null,\"usage\":null}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"salt\":\"cw==\"}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"v\":2}", 0, {0}},
    {AC_PUNT, 0, "{\"salt\":\"cw==\",\"v\":2}", 0, {0}},
    {AC_PUNT, 0, "{\"ciphertext\":null}", 0, {0}},
    {AC_PUNT, 0, "{\"ciphertext\":1}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"salt\":null,\"v\":2}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"salt\":\"cw==\",\"v\":1}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"salt\":\"cw==\",\"v\":\"2\"}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"salt\":\"cw==\",\"v\":2.0}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":4}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":null}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":true}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":\"1\"}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":-0}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":-1}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":01}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":1.0}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":1e0}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":4294967297}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":18446744073709551617}", 0, {0}},
    {AC_PUNT, 0, "{" C USAGE("9007199254740992", "3", "12") "}", 0, {0}},
    {AC_PUNT, 0, "{" C USAGE("18446744073709551625", "3", "12") "}", 0, {0}},
    {AC_PUNT, 0, "{" C USAGE("00", "3", "12") "}", 0, {0}},
    {AC_PUNT, 0, "{" C USAGE("1.0", "3", "12") "}", 0, {0}},
    {AC_PUNT, 0, "{" C USAGE("-1", "3", "12") "}", 0, {0}},
    {AC_PUNT, 0, "{" C USAGE("null", "3", "12") "}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"usage\":{}}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"usage\":[]}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"usage\":{\"completion_tokens\":9,\"total_tokens\":12}}", 0, {0}},
    {AC_PUNT, 0, "{" C USAGE("1", "2", "3,\"other\":4") "}", 0, {0}},
    {AC_PUNT, 0, "{" C USAGE("1", "2", "3,\"total_tokens\":3") "}", 0, {0}},
    {AC_PUNT, 0, "{" C USAGE("1", "2", "3,") "}", 0, {0}},
    {AC_PUNT, 0, "{" C USAGE("1", "2", "3 4") "}", 0, {0}},
    /* legal, and more than this reader wants to know */
    {AC_PUNT, 0, "{" C ",\"x\":1}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"x\":\"1\"}", 0, {0}}, /* it may stand twice, which this reader would not see */
    {AC_PUNT, 0, "{" C ",\"\\u0066lag\":1}", 0, {0}},
    /* not JSON at all */
    {AC_PUNT, 0, "", 0, {0}},
    {AC_PUNT, 0, " ", 0, {0}},
    {AC_PUNT, 0, "{}", 0, {0}},
    {AC_PUNT, 0, "[]", 0, {0}},
    {AC_PUNT, 0, "[DONE]", 0, {0}},
    {AC_PUNT, 0, "null", 0, {0}},
    {AC_PUNT, 0, "{" C, 0, {0}},
    {AC_PUNT, 0, "{" C ",}", 0, {0}},
    {AC_PUNT, 0, "{," C "}", 0, {0}},
    {AC_PUNT, 0, "{" C " \"flag\":1}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\" 1}", 0, {0}},
    {AC_PUNT, 0, "{" C ",\"flag\":1 2}", 0, {0}},
    {AC_PUNT, 0, "{" C "}}", 0, {0}},
    {AC_PUNT, 0, "{" C "} x", 0, {0}},
    {AC_PUNT, 0, "{'ciphertext':'YQ=='}", 0, {0}},
    {AC_PUNT, 0, "\xef\xbb\xbf{" C "}", 0, {0}},
};

static void plain_events(void) {
  static const struct {
    size_t len, text_len;
    const char *event;
  } events[] = {
      {29, 4, "data: {\"ciphertext\":\"YQ==\"}\n\nmore"},
      {25, 0, "data: {\"ciphertext\":\"\"}\n\n"},
      {0, 0, "data:{\"ciphertext\":\"YQ==\"}\n\n"},
      {0, 0, "data: {\"ciphertext\": \"YQ==\"}\n\n"},
      {0, 0, "data: {\"ciphertext\":\"YQ==\"}\r\n\r\n"},
      {0, 0, "data: {\"ciphertext\":\"YQ==\"}\n"},
      {0, 0, "data: {\"ciphertext\":\"YQ==\"}"},
      {0, 0, "data: {\"ciphertext\":\"YQ==\",\"flag\":1}\n\n"},
      {0, 0, "data: {\"ciphertext\":\"YQ=="},
      {0, 0, "data: "},
      {0, 0, "data: {\"Ciphertext\":\"YQ==\"}\n\n"},
  };
  for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
    aci_text text = {0};
    bytes in = bytes_copy(events[i].event, strlen(events[i].event));
    const size_t len = aci_v2_read_plain_event(&text, in.at, in.len);
    CHECK(len == events[i].len);
    if (len != 0) CHECK(text.at == in.at + 21 && text.len == events[i].text_len);
    bytes_free(&in);
  }
}

void test_v2_text(void) {
  plain_events();
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const size_t len = strlen(cases[i].json);
    aci_v2_members m;
    bytes in = bytes_copy(cases[i].json, len + (len == 0)); /* never NULL: its callers see to that */
    if (!CHECK_STATUS(aci_v2_read_members(&m, in.at, len), cases[i].status)) printf("    %s\n", cases[i].json);
    if (cases[i].status == AC_OK) {
      CHECK(m.ciphertext.at != NULL && m.flag == cases[i].flag && (m.salt.at != NULL) == cases[i].salt);
      CHECK(m.has_usage == cases[i].usage[0] && (!m.has_usage || usage_is(m.usage, cases[i].usage + 1)));
      if (m.salt.at != NULL) CHECK_SAME(((view){m.salt.at, m.salt.len}), view_of("cw=="));
    }
    bytes_free(&in);
    /* cut anywhere it is not whole, unless the object's end is still there */
    for (size_t cut = 1; cut < len; cut++) {
      bytes part = bytes_copy(cases[i].json, cut);
      size_t end = cut;
      while (end > 0 && (cases[i].json[end - 1] == ' ' || cases[i].json[end - 1] == '\n')) end--;
      if (aci_v2_read_members(&m, part.at, cut) != AC_PUNT) CHECK(end > 0 && cases[i].json[end - 1] == '}');
      bytes_free(&part);
    }
  }
}
