/* v2's opener: capacity, every bit of a record, flags and salts out of place. */
#include "harness.h"

static const char text[] = "{\"choices\":[{\"delta\":{}}]}";
static const uint64_t usage_numbers[AC_V2_USAGE] = {3, 9, 12};

static void capacity(void) {
  v2_exchange x = v2_exchange_make(1);
  bytes event = v2_seal(&x.sealer, AC_FLAG_MORE, text, usage_numbers);
  bytes second = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL);
  bytes none = {0};
  uint64_t span[AC_V2_SPAN];
  const ac_v2_opener fresh = x.opener;
  CHECK_STATUS(v2_open_alone(&x.opener, &none, span, viewed(&event)), AC_OK);
  bytes_free(&none);
  const ac_v2_opener later = x.opener;
  const size_t need = ac_base64_decoded_max(member(v2_data_of(&event), "ciphertext").len);
  /* behind a byte order mark and things that are passed over, too: nothing may be lost then either */
  static const char *const before[] = {"", "\xef\xbb\xbf", "\xef\xbb\xbf: hi\r\n\r\n", "id: 1\n\n", "\r\r\n:\r"};
  for (size_t b = 0; b < 2 * sizeof before / sizeof before[0]; b++) {
    const int is_second = b % 2 != 0;
    if (is_second && before[b / 2][0] == '\xef') continue; /* it stands at the very start only */
    bytes stream = bytes_copy(before[b / 2], strlen(before[b / 2]));
    bytes_append(&stream, is_second ? second.at : event.at, is_second ? second.len : event.len);
    ac_v2_opener opener = is_second ? later : fresh;
    for (size_t cap = 0; cap <= need; cap++) {
      bytes out = bytes_new(cap);
      size_t len = 0, count = 0;
      CHECK_STATUS(v2_feed(&opener, &out, &len, &count, viewed(&stream)), cap < need ? AC_ERR_CAPACITY : AC_OK);
      if (cap < need) {
        CHECK(bytes_untouched(&out) && len == need);
        CHECK(memcmp(&opener, is_second ? &later : &fresh, sizeof fresh) == 0);
      } else {
        CHECK(count == 1);
        CHECK_SAME(((view){out.at, len}), view_of(text));
      }
      bytes_free(&out);
    }
    bytes_free(&stream);
  }
  v2_exchange y = v2_exchange_make(0);
  bytes object = v2_seal_object(&y.sealer, AC_FLAG_WHOLE, text, usage_numbers);
  for (size_t cap = 0; cap <= need; cap++) {
    ac_v2_opener members = y.opener, json = y.opener;
    bytes out = bytes_new(cap), also = bytes_new(cap);
    size_t len = 99, json_len = 99;
    CHECK_STATUS(v2_feed_members(&members, &out, &len, 0, AC_FLAG_WHOLE, viewed(&object), usage_numbers),
                 cap < need ? AC_ERR_CAPACITY : AC_OK);
    CHECK_STATUS(v2_feed_object(&json, &also, &json_len, span, viewed(&object)), cap < need ? AC_ERR_CAPACITY : AC_OK);
    if (cap < need) {
      CHECK(bytes_untouched(&out) && bytes_untouched(&also) && len == 99 && json_len == need);
      CHECK(memcmp(&members, &y.opener, sizeof json) == 0 && memcmp(&json, &y.opener, sizeof json) == 0);
    } else {
      CHECK_SAME(((view){out.at, len}), view_of(text));
      CHECK_SAME(((view){also.at, json_len}), view_of(text));
      CHECK(members.ended && json.ended && span[0] == len && span[1] == AC_FLAG_WHOLE && span[2] == 1);
      CHECK(usage_is(span + 3, usage_numbers));
    }
    bytes_free(&out);
    bytes_free(&also);
  }
  bytes_free(&object);
  bytes_free(&event);
  bytes_free(&second);
}

/* Of an event, or an object, one bit is another: it says the very same, or it is refused. */
static void every_bit(v2_exchange *x, const bytes *message, int is_event, uint32_t flag, const uint64_t *usage) {
  const view json = is_event ? v2_data_of(message) : viewed(message);
  const view sealed = member(json, "ciphertext"), salt = member(json, "salt");
  for (size_t bit = 0; bit < 8 * message->len; bit++) {
    uint8_t *const at = message->at + bit / 8;
    ac_v2_opener opener = x->opener;
    bytes opened = {0}, out = bytes_new(message->len);
    uint64_t span[AC_V2_SPAN] = {0};
    size_t len = 0;
    *at ^= (uint8_t)(1u << bit % 8);
    int status;
    if (is_event) {
      status = v2_open_alone(&opener, &opened, span, viewed(message));
    } else {
      status = v2_feed_object(&opener, &out, &len, span, viewed(message));
      if (status == AC_OK) opened = bytes_copy(out.at, len);
    }
    if (status == AC_OK) {
      CHECK_SAME(opened, view_of(text));
      CHECK(span[1] == flag && span[2] == (usage != NULL) && (usage == NULL || usage_is(span + 3, usage)));
      CHECK(!(at >= sealed.at && at < sealed.at + sealed.len));
      CHECK(salt.at == NULL || !(at >= salt.at && at < salt.at + salt.len));
    } else if (status == AC_PUNT) { /* and nothing was changed but where the reader stands */
      CHECK(opener.state == x->opener.state && memcmp(&opener.key, &x->opener.key, sizeof opener.key) == 0);
      CHECK(opener.index == x->opener.index && opener.keyed == x->opener.keyed && !opener.ended);
    } else {
      CHECK_STATUS(status, AC_ERR_AUTH);
      CHECK(!opener.ended);
      v2_check_failed(&opener, &out, text);
    }
    *at ^= (uint8_t)(1u << bit % 8);
    bytes_free(&opened);
    bytes_free(&out);
  }
}

static void every_bit_of_each(void) {
  v2_exchange x = v2_exchange_make(1);
  static const uint32_t flags[] = {AC_FLAG_MORE, AC_FLAG_MORE, AC_FLAG_MORE, AC_FLAG_END};
  for (size_t i = 0; i < 4; i++) {
    const uint64_t *const usage = i % 2 ? usage_numbers : NULL;
    uint64_t span[AC_V2_SPAN];
    bytes event = v2_seal(&x.sealer, flags[i], text, usage), opened = {0};
    every_bit(&x, &event, 1, flags[i], usage);
    CHECK_STATUS(v2_open_alone(&x.opener, &opened, span, viewed(&event)), AC_OK);
    bytes_free(&opened);
    bytes_free(&event);
  }
  for (uint32_t flag = AC_FLAG_ABORT; flag <= AC_FLAG_WHOLE; flag++) {
    v2_exchange y = v2_exchange_make(0);
    bytes object = v2_seal_object(&y.sealer, flag, text, usage_numbers);
    every_bit(&y, &object, 0, flag, usage_numbers);
    bytes_free(&object);
  }
}

/* Every bit of what a record stands for, without text around it: the peer refuses, for good. */
static void every_bit_of_a_record(void) {
  enum { SEALED = sizeof text - 1 + AC_TAG_BYTES };
  uint8_t secret[AC_HASH_BYTES] = {7}, enc[AC_X25519_BYTES] = {8}, sealed[SEALED];
  ac_v2_sealer sealer;
  CHECK_STATUS(ac_v2_sealer_init(&sealer, secret, enc, sizeof enc), AC_OK);
  struct {
    uint8_t secret[AC_HASH_BYTES], enc[AC_X25519_BYTES], salt[AC_V2_SALT_BYTES], sealed[SEALED];
    uint64_t usage[AC_V2_USAGE];
    uint32_t flag;
  } m;
  memset(&m, 0, sizeof m);
  m.secret[0] = 7;
  m.enc[0] = 8;
  memcpy(m.salt, sealer.salt, sizeof m.salt);
  memcpy(m.usage, usage_numbers, sizeof m.usage);
  CHECK_STATUS(ac_v2_record_seal(&sealer, m.sealed, SEALED, AC_FLAG_MORE, (const uint8_t *)text, sizeof text - 1, m.usage),
               AC_OK);
  const size_t bits = 8 * (offsetof(__typeof__(m), flag) + sizeof m.flag);
  for (size_t bit = 0; bit <= bits; bit++) { /* the last turns none */
    ac_v2_opener opener;
    bytes out = bytes_new(SEALED);
    uint8_t *const at = (uint8_t *)&m + bit / 8;
    if (bit < bits) *at ^= (uint8_t)(1u << bit % 8);
    CHECK_STATUS(ac_v2_opener_init(&opener, m.secret, m.enc, sizeof m.enc, m.salt), AC_OK);
    memcpy(sealed, m.sealed, sizeof sealed);
    const int status = ac_v2_record_open(&opener, out.at, out.len, m.flag, sealed, SEALED, m.usage);
    const int in_place = bit < bits && at >= m.sealed + SEALED && at < (uint8_t *)m.usage; /* between the members */
    if (bit == bits || in_place) {
      CHECK_STATUS(status, AC_OK);
      CHECK_EQUAL(out.at, text, sizeof text - 1);
    } else {
      CHECK(status == AC_ERR_AUTH || (status == AC_ERR_FORMAT && at >= (uint8_t *)m.usage));
      v2_check_failed(&opener, &out, text);
      CHECK_STATUS(ac_v2_record_open(&opener, out.at, out.len, m.flag, sealed, SEALED, m.usage), AC_ERR_STATE);
    }
    if (bit < bits) *at ^= (uint8_t)(1u << bit % 8);
    bytes_free(&out);
  }
}

/* ---- what may stand where ---- */

/* A record of this flag, sealed as `object` or event, is given to an opener that awaits a stream or not, as an event or
 * an object, to both readers of JSON. */
static void flags(void) {
  for (unsigned pick = 0; pick < 4 * 2 * 2; pick++) {
    const uint32_t flag = pick / 4;
    const int stream = pick % 2, as_event = pick / 2 % 2;
    const int good = as_event ? stream && flag <= AC_FLAG_ABORT
                              : flag == AC_FLAG_ABORT || (flag == AC_FLAG_WHOLE && !stream);
    v2_exchange x = v2_exchange_make(stream);
    char json[400], salt_text[45] = "", sealed_text[100] = "";
    uint8_t sealed[sizeof text - 1 + AC_TAG_BYTES];
    uint64_t span[AC_V2_SPAN] = {0};
    size_t len = 0, count = 1;
    CHECK_STATUS(ac_v2_record_seal(&x.sealer, sealed, sizeof sealed, flag, (const uint8_t *)text, sizeof text - 1, NULL), AC_OK);
    aci_base64_encode((uint8_t *)salt_text, x.sealer.salt, AC_V2_SALT_BYTES);
    aci_base64_encode((uint8_t *)sealed_text, sealed, sizeof sealed);
    (void)snprintf(json, sizeof json, "%s{\"ciphertext\":\"%s\",\"flag\":%u,\"salt\":\"%s\",\"v\":2}%s",
                   as_event ? "data: " : "", sealed_text, flag, salt_text, as_event ? "\n\n" : "");
    ac_v2_opener in_c = x.opener, members = x.opener;
    bytes out = bytes_new(400);
    const int status = as_event ? v2_feed(&in_c, &out, &len, &count, view_of(json))
                                : v2_feed_object(&in_c, &out, &len, span, view_of(json));
    CHECK_STATUS(status, good ? AC_OK : AC_PUNT);
    CHECK(in_c.ended == (uint32_t)(good && flag != AC_FLAG_MORE) && in_c.index == (good ? 1u : 0u));
    CHECK_STATUS(v2_feed_members(&members, &out, &len, as_event, flag, view_of(json), NULL), good ? AC_OK : AC_ERR_FORMAT);
    CHECK(members.ended == in_c.ended);
    if (good) CHECK_SAME(((view){out.at, len}), view_of(text));
    if (!good) v2_check_failed(&members, &out, text);
    bytes_free(&out);
  }
}

/* Malformed members, salts that are missing or one too many, flags and usages that no one has. */
static void members(void) {
  v2_exchange x = v2_exchange_make(1);
  const ac_v2_opener fresh = x.opener;
  bytes event = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL), second = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL);
  const view c = member(v2_data_of(&event), "ciphertext"), s = member(v2_data_of(&event), "salt");
  const view d = member(v2_data_of(&second), "ciphertext");
  const uint64_t big[AC_V2_USAGE] = {0, 9007199254740992, 0};
  static const uint8_t as[44] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  const view tag = {(const uint8_t *)"AAAAAAAAAAAAAAAAAAAAAA==", 24};
  const struct {
    int status, later;
    view c, s;
    uint32_t flag;
    const uint64_t *usage;
  } cases[] = {
      {AC_OK, 0, c, s, 0, NULL},
      {AC_OK, 1, d, {NULL, 0}, 0, NULL},
      {AC_ERR_FORMAT, 0, {NULL, 0}, s, 0, NULL},
      {AC_ERR_FORMAT, 0, {as, 16}, s, 0, NULL}, /* shorter than a tag */
      {AC_ERR_FORMAT, 0, tag, s, 0, NULL},      /* nothing but a tag, and not the end */
      {AC_ERR_AUTH, 0, tag, s, 1, NULL},
      {AC_ERR_FORMAT, 0, {c.at, c.len - 1}, s, 0, NULL},
      {AC_ERR_FORMAT, 0, c, {NULL, 0}, 0, NULL},
      {AC_ERR_FORMAT, 1, d, s, 0, NULL},
      {AC_ERR_FORMAT, 0, c, {s.at, 40}, 0, NULL},
      {AC_ERR_FORMAT, 0, c, {as, 43}, 0, NULL},
      {AC_ERR_FORMAT, 0, c, s, 3, NULL},
      {AC_ERR_FORMAT, 0, c, s, 4, NULL},
      {AC_ERR_FORMAT, 0, c, s, 256, NULL}, /* not what one byte makes of it */
      {AC_ERR_FORMAT, 0, c, s, 0, big},
      {AC_ERR_AUTH, 0, c, s, 1, NULL},
      {AC_ERR_AUTH, 0, c, s, 2, NULL},
      {AC_ERR_AUTH, 0, c, s, 0, usage_numbers},
      {AC_ERR_AUTH, 0, c, {as, 44}, 0, NULL},
      {AC_ERR_AUTH, 0, d, s, 0, NULL}, /* the second first */
      {AC_ERR_AUTH, 1, c, {NULL, 0}, 0, NULL},
  };
  uint64_t span[AC_V2_SPAN];
  bytes none = {0};
  CHECK_STATUS(v2_open_alone(&x.opener, &none, span, viewed(&event)), AC_OK);
  bytes_free(&none);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ac_v2_opener opener = cases[i].later ? x.opener : fresh;
    bytes out = bytes_new(c.len), exact[2] = {bytes_copy(cases[i].c.at, cases[i].c.len), bytes_copy(cases[i].s.at, cases[i].s.len)};
    size_t len = 0;
    CHECK_STATUS(ac_v2_sealed_open(&opener, out.at, out.len, &len, 1, cases[i].flag, exact[0].at, exact[0].len, exact[1].at,
                                   exact[1].len, cases[i].usage),
                 cases[i].status);
    if (cases[i].status == AC_OK) {
      CHECK_SAME(((view){out.at, len}), view_of(text));
    } else {
      v2_check_failed(&opener, &out, text);
      CHECK_STATUS(v2_feed_members(&opener, &out, &len, 1, 0, v2_data_of(&event), NULL), AC_ERR_STATE); /* for good */
    }
    for (size_t k = 0; k < 2; k++) bytes_free(&exact[k]);
    bytes_free(&out);
  }
  bytes_free(&event);
  bytes_free(&second);
}

void test_v2_opener(void) {
  capacity();
  every_bit_of_each();
  every_bit_of_a_record();
  flags();
  members();
}
