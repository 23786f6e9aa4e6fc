/* v2's opener in its states: limits, the end and what may stand behind it, failure that stays, and what is left of it. */
#include "harness.h"

static const char text[] = "{\"choices\":[{\"delta\":{}}]}";
static const uint64_t usage_numbers[AC_V2_USAGE] = {3, 9, 12};

static void record_limits(void) {
  uint8_t secret[AC_HASH_BYTES] = {7}, enc[AC_X25519_BYTES] = {8}, sealed[sizeof text - 1 + AC_TAG_BYTES], out[sizeof sealed];
  ac_v2_sealer sealer;
  ac_v2_opener fresh;
  CHECK_STATUS(ac_v2_sealer_init(&sealer, secret, enc, sizeof enc), AC_OK);
  CHECK_STATUS(ac_v2_opener_init(&fresh, secret, enc, sizeof enc, sealer.salt), AC_OK);
  CHECK(fresh.bytes_left == AC_V2_MAX_STREAM_BYTES && fresh.index == 0);
  sealer.index = AC_V2_MAX_RECORDS - 1;
  CHECK_STATUS(ac_v2_record_seal(&sealer, sealed, sizeof sealed, AC_FLAG_ABORT, (const uint8_t *)text, sizeof text - 1, NULL),
               AC_OK);
  static const struct {
    uint64_t index, bytes;
    int want;
  } cases[] = {{AC_V2_MAX_RECORDS - 1, sizeof text - 1, AC_OK}, /* the very last of both */
               {AC_V2_MAX_RECORDS - 1, sizeof text - 2, AC_ERR_TOO_LARGE},
               {AC_V2_MAX_RECORDS, sizeof text - 1, AC_ERR_TOO_LARGE},
               {AC_V2_MAX_RECORDS - 2, sizeof text - 1, AC_ERR_AUTH}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ac_v2_opener opener = fresh;
    bytes none = {0};
    opener.index = cases[i].index;
    opener.bytes_left = cases[i].bytes;
    CHECK_STATUS(ac_v2_record_open(&opener, out, sizeof out, AC_FLAG_ABORT, sealed, sizeof sealed, NULL), cases[i].want);
    CHECK(opener.ended == (cases[i].want == AC_OK));
    if (cases[i].want == AC_OK)
      CHECK(opener.index == AC_V2_MAX_RECORDS && opener.bytes_left == 0);
    else
      v2_check_failed(&opener, &none, text);
  }
  for (size_t at = 0; at < 2; at++) { /* the output may be the input, and must not overlap it otherwise */
    uint8_t room[sizeof sealed + 1];
    ac_v2_opener opener = fresh;
    opener.index = AC_V2_MAX_RECORDS - 1;
    const ac_v2_opener before = opener;
    memcpy(room, sealed, sizeof sealed);
    CHECK_STATUS(ac_v2_record_open(&opener, room + at, sizeof sealed, AC_FLAG_ABORT, room, sizeof sealed, NULL),
                 at ? AC_ERR_OVERLAP : AC_OK);
    if (at) CHECK(memcmp(&opener, &before, sizeof before) == 0);
    if (!at) CHECK_EQUAL(room, text, sizeof text - 1);
    opener = before;
    CHECK_STATUS(ac_v2_record_open(&opener, out, sizeof text - 2, AC_FLAG_ABORT, sealed, sizeof sealed, NULL), AC_ERR_CAPACITY);
    CHECK(memcmp(&opener, &before, sizeof before) == 0);
  }
  for (size_t len = 0; len < AC_TAG_BYTES; len++) {
    ac_v2_opener opener = fresh;
    CHECK_STATUS(ac_v2_record_open(&opener, NULL, 0, AC_FLAG_END, sealed, len, NULL), AC_ERR_FORMAT);
    CHECK(opener.state == AC_STATE_FAILED);
  }
}

/* A record's usage is read once its output is written: no byte of it may be in there. */
static void over_usage(void) {
  enum { PLACES = 64 };
  uint8_t secret[AC_HASH_BYTES] = {7}, enc[AC_X25519_BYTES] = {8}, sealed[sizeof text - 1 + AC_TAG_BYTES];
  ac_v2_sealer sealer;
  ac_v2_opener opener;
  const v2_exchange x = v2_exchange_make(1);
  CHECK_STATUS(ac_v2_sealer_init(&sealer, secret, enc, sizeof enc), AC_OK);
  CHECK_STATUS(ac_v2_opener_init(&opener, secret, enc, sizeof enc, sealer.salt), AC_OK);
  CHECK_STATUS(ac_v2_record_seal(&sealer, sealed, sizeof sealed, AC_FLAG_MORE, (const uint8_t *)text, sizeof text - 1,
                                 usage_numbers),
               AC_OK);
  v2_exchange y = x;
  bytes event = v2_seal(&y.sealer, AC_FLAG_MORE, text, usage_numbers);
  const view c = member(v2_data_of(&event), "ciphertext"), salt = member(v2_data_of(&event), "salt");
  for (int members = 0; members < 2; members++) {
    const ac_v2_opener fresh = members ? x.opener : opener;
    const size_t cap = members ? ac_base64_decoded_max(c.len) : sizeof text - 1;
    for (size_t at = 0; at <= PLACES + sizeof usage_numbers; at++) {
      uint64_t place[(2 * PLACES + sizeof usage_numbers) / sizeof(uint64_t)] = {0}, before[sizeof place / sizeof place[0]];
      uint64_t *const usage = place + PLACES / sizeof *place;
      uint8_t *const out = (uint8_t *)place + at;
      const int apart = at + cap <= PLACES || at >= PLACES + sizeof usage_numbers;
      ac_v2_opener o = fresh;
      size_t len = 0;
      memcpy(usage, usage_numbers, sizeof usage_numbers);
      memcpy(before, place, sizeof place);
      const int status = members ? ac_v2_sealed_open(&o, out, cap, &len, 1, AC_FLAG_MORE, c.at, c.len, salt.at, salt.len, usage)
                                 : ac_v2_record_open(&o, out, cap, AC_FLAG_MORE, sealed, sizeof sealed, usage);
      CHECK_STATUS(status, apart ? AC_OK : AC_ERR_OVERLAP);
      if (apart) CHECK_EQUAL(out, text, sizeof text - 1);
      if (!apart) CHECK(memcmp(&o, &fresh, sizeof o) == 0 && memcmp(place, before, sizeof place) == 0);
    }
  }
  bytes_free(&event);
}

static void nothing_works(ac_v2_opener *opener, const bytes *event) {
  const ac_v2_opener before = *opener;
  uint64_t span[AC_V2_SPAN];
  bytes out = bytes_new(event->len);
  size_t len = 99, count = 99;
  CHECK_STATUS(v2_feed(opener, &out, &len, &count, viewed(event)), AC_ERR_STATE);
  CHECK_STATUS(v2_feed_members(opener, &out, &len, 1, 0, v2_data_of(event), NULL), AC_ERR_STATE);
  CHECK_STATUS(v2_feed_object(opener, &out, &len, span, v2_data_of(event)), AC_ERR_STATE);
  CHECK_STATUS(ac_v2_record_open(opener, out.at, out.len, 0, event->at, 40, NULL), AC_ERR_STATE);
  CHECK_STATUS(ac_v2_opener_set(opener, 1, 1), AC_ERR_STATE);
  CHECK(memcmp(opener, &before, sizeof before) == 0 && bytes_untouched(&out) && len == 99);
  bytes_free(&out);
}

static void states(void) {
  v2_exchange x = v2_exchange_make(1);
  bytes event = v2_seal(&x.sealer, AC_FLAG_MORE, text, usage_numbers), last = v2_seal(&x.sealer, AC_FLAG_END, text, NULL);
  bytes opened = {0};
  uint64_t span[AC_V2_SPAN];
  ac_v2_opener stages[3] = {x.opener, x.opener, x.opener}; /* it waits for the salt; it has its key; it is at the end */
  ac_v2_opener none = {0};
  nothing_works(&none, &event);
  for (size_t i = 1; i < 3; i++) {
    CHECK_STATUS(v2_open_alone(&stages[i], &opened, span, viewed(&event)), AC_OK);
    CHECK(!holds_run_of(&stages[i], sizeof none, x.opener.key.waiting.secret, AC_HASH_BYTES)); /* has done its work */
    bytes_free(&opened);
  }
  CHECK_STATUS(v2_open_alone(&stages[2], &opened, span, viewed(&last)), AC_OK);
  CHECK(all_zero(&stages[2].key, sizeof stages[2].key) && all_zero(stages[2].base, sizeof stages[2].base));
  bytes_free(&opened);
  for (int close = 0; close < 2; close++) {
    for (size_t i = 0; i < 3; i++) {
      ac_v2_opener opener = stages[i];
      for (int twice = 0; twice < 2; twice++) {
        if (close)
          CHECK_STATUS(ac_v2_opener_close(&opener), AC_OK);
        else
          ac_v2_opener_wipe(&opener);
        nothing_works(&opener, &event);
      }
      CHECK(opener.state == AC_STATE_CLOSED && opener.ended == (i == 2));
      CHECK(all_zero(&opener.key, sizeof opener.key) && all_zero(opener.base, sizeof opener.base));
      if (i == 0) CHECK(!holds_run_of(&opener, sizeof opener, x.opener.key.waiting.secret, AC_HASH_BYTES));
    }
  }
  /* a record behind the end, by each way in: the end stays true */
  for (int way = 0; way < 4; way++) {
    ac_v2_opener opener = stages[2];
    bytes out = bytes_new(event.len);
    size_t len = 0, count = 0;
    if (way == 0) CHECK_STATUS(v2_feed(&opener, &out, &len, &count, viewed(&last)), AC_ERR_FORMAT);
    if (way == 1) CHECK_STATUS(v2_feed_members(&opener, &out, &len, 1, AC_FLAG_END, v2_data_of(&last), NULL), AC_ERR_FORMAT);
    if (way == 2) CHECK_STATUS(ac_v2_record_open(&opener, out.at, out.len, 1, event.at, 40, NULL), AC_ERR_FORMAT);
    if (way == 3) {
      CHECK_STATUS(v2_feed_object(&opener, &out, &len, span, v2_data_of(&last)), AC_PUNT); /* then as in 1 */
      CHECK_STATUS(v2_feed_members(&opener, &out, &len, 0, AC_FLAG_ABORT, v2_data_of(&event), NULL), AC_ERR_FORMAT);
    }
    CHECK(opener.ended);
    v2_check_failed(&opener, &out, text);
    nothing_works(&opener, &event);
    bytes_free(&out);
  }
  /* one that waits for its salt is no embedder's */
  uint8_t record[40] = {0};
  const ac_v2_opener waiting = stages[0];
  CHECK_STATUS(ac_v2_record_open(&stages[0], record, sizeof record, 0, record, sizeof record, NULL), AC_ERR_ARGUMENT);
  CHECK(memcmp(&stages[0], &waiting, sizeof waiting) == 0);

  /* bytes that were seen before must come again */
  bytes out = bytes_new(event.len);
  size_t len = 0, count = 0;
  CHECK_STATUS(v2_feed(&stages[0], &out, &len, &count, (view){event.at, 100}), AC_OK);
  CHECK(count == 0 && ac_v2_events_unfinished(&stages[0], 100));
  const ac_v2_opener before = stages[0];
  CHECK_STATUS(v2_feed(&stages[0], &out, &len, &count, (view){event.at, 99}), AC_ERR_ARGUMENT);
  for (size_t wrong = 0; wrong <= AC_V2_EVENTS + 1; wrong += AC_V2_EVENTS + 1) {
    ac_v2_events events = {.out = out.at, .out_cap = out.len, .event_cap = wrong};
    CHECK_STATUS(v2_events_open(&stages[0], &events, viewed(&event)), AC_ERR_ARGUMENT);
  }
  for (size_t at = 0; at < event.len; at++) { /* output that lies anywhere in the input */
    ac_v2_events events = {.out = event.at + at, .out_cap = event.len - at, .event_cap = 1};
    const view c = member(v2_data_of(&event), "ciphertext"), s = member(v2_data_of(&event), "salt");
    CHECK_STATUS(v2_events_open(&stages[0], &events, viewed(&event)), AC_ERR_OVERLAP);
    if (at < (size_t)(c.at - event.at) + c.len && at + ac_base64_decoded_max(c.len) < event.len)
      CHECK_STATUS(ac_v2_sealed_open(&stages[0], event.at + at, event.len - at, &len, 1, 0, c.at, c.len, s.at, s.len, NULL),
                   AC_ERR_OVERLAP);
  }
  const view first = member(v2_data_of(&event), "ciphertext"), salt = member(v2_data_of(&event), "salt");
  bytes alone = bytes_copy(salt.at, salt.len); /* in the salt, and nowhere else */
  bytes_append(&alone, event.at, event.len);
  for (size_t at = 0; at < salt.len; at++)
    CHECK_STATUS(ac_v2_sealed_open(&stages[0], alone.at + at, event.len, &len, 1, 0, first.at, first.len, alone.at,
                                   salt.len, NULL),
                 AC_ERR_OVERLAP);
  bytes_free(&alone);
  CHECK(memcmp(&stages[0], &before, sizeof before) == 0);
  bytes_free(&out);
  bytes_free(&event);
  bytes_free(&last);
}

/* The commonest form of event is read in a way of its own; behind a comment it is not. Both must say the same of an
 * event in which any byte is another, is missing, or has another before it. */
static void ways(void) {
  static const char others[] = {'"', '\\', '\n', '\r', ' ', '=', 'A', ',', '}', '\0', '\x80'};
  enum { OTHERS = sizeof others, CASES = 2 * OTHERS + 1 };
  v2_exchange x = v2_exchange_make(1);
  uint64_t span[AC_V2_SPAN];
  bytes first_event = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL), event = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL);
  bytes out = bytes_new(event.len), also = bytes_new(event.len), opened = {0};
  CHECK_STATUS(v2_open_alone(&x.opener, &opened, span, viewed(&first_event)), AC_OK);
  for (size_t at = 0; at < event.len; at++) {
    for (size_t i = 0; i < CASES; i += stride()) {
      const int put = i < CASES - 1, more = put && i >= OTHERS;
      const uint8_t other = put ? (uint8_t)others[i % OTHERS] : 0;
      bytes behind = bytes_copy(":\n", 2);
      bytes_append(&behind, event.at, at);
      if (put) bytes_append(&behind, &other, 1);
      bytes_append(&behind, event.at + at + !more, event.len - at - !more);
      bytes alone = bytes_copy(behind.at + 2, behind.len - 2);
      ac_v2_opener first = x.opener, second = x.opener;
      ac_v2_events one = {.out = out.at, .out_cap = out.len, .event_cap = 2};
      ac_v2_events two = {.out = also.at, .out_cap = also.len, .event_cap = 2};
      const int status = v2_events_open(&first, &one, viewed(&alone));
      CHECK_STATUS(v2_events_open(&second, &two, viewed(&behind)), status);
      CHECK(one.count == two.count && one.out_len == two.out_len && one.consumed + 2 == two.consumed);
      if (one.count == 1) CHECK_EQUAL(out.at, also.at, one.out_len);
      CHECK(first.state == second.state && first.index == second.index);
      CHECK(status != AC_OK || first.sse.fields == second.sse.fields);
      bytes_free(&alone);
      bytes_free(&behind);
    }
  }
  bytes_free(&out);
  bytes_free(&also);
  bytes_free(&opened);
  bytes_free(&event);
  bytes_free(&first_event);
}

/* The limit of an event holds in each of the two ways, at whatever place it is cut. */
static void event_limit(void) {
  v2_exchange x = v2_exchange_make(1);
  bytes first = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL), event = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL), opened = {0};
  uint64_t span[AC_V2_SPAN];
  CHECK_STATUS(v2_open_alone(&x.opener, &opened, span, viewed(&first)), AC_OK);
  for (size_t cut = 0; cut <= event.len; cut++) {
    for (size_t less = 0; less < 2; less++) { /* up to where the blank line begins */
      ac_v2_opener opener = x.opener;
      bytes out = bytes_new(event.len);
      size_t len = 0, count = 0;
      CHECK_STATUS(ac_v2_opener_set(&opener, event.len - 1 - less, SIZE_MAX), AC_OK);
      int status = v2_feed(&opener, &out, &len, &count, (view){event.at, cut});
      if (status == AC_OK && count == 0) status = v2_feed(&opener, &out, &len, &count, viewed(&event));
      CHECK_STATUS(status, less ? AC_ERR_TOO_LARGE : AC_OK);
      CHECK(count == 1 - less);
      bytes_free(&out);
    }
  }
  bytes_free(&first);
  bytes_free(&event);
  bytes_free(&opened);
}

/* Records that no sealer of ours would seal, with tags that hold: the opener refuses them by itself. */
static void out_of_place(void) {
  v2_exchange x = v2_exchange_make(1);
  bytes first = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL), opened = {0};
  uint64_t span[AC_V2_SPAN];
  CHECK_STATUS(v2_open_alone(&x.opener, &opened, span, viewed(&first)), AC_OK);
  bytes_free(&opened);
  enum { SEALED = sizeof text - 1 + AC_TAG_BYTES };
  uint8_t sealed[SEALED], out[SEALED + 2], base64[4 * (SEALED + 2) / 3 + 1];
  size_t len = 0;
  for (uint32_t flag = AC_FLAG_ABORT; flag <= AC_FLAG_WHOLE; flag++) { /* as the second record */
    ac_v2_sealer sealer = x.sealer;
    ac_v2_opener opener = x.opener, also = x.opener;
    sealer.begun = 0;
    CHECK_STATUS(ac_v2_record_seal(&sealer, sealed, SEALED, flag, (const uint8_t *)text, sizeof text - 1, NULL), AC_OK);
    const int status = ac_v2_record_open(&opener, out, sizeof out, flag, sealed, SEALED, NULL);
    CHECK_STATUS(status, flag == AC_FLAG_ABORT ? AC_OK : AC_ERR_FORMAT); /* an abort may stand there, the whole may not */
    aci_base64_encode(base64, sealed, SEALED); /* and neither may as an object, which would have a salt */
    CHECK_STATUS(ac_v2_sealed_open(&also, out, sizeof out, &len, 0, flag, base64, ac_base64_encoded_len(SEALED), NULL, 0, NULL),
                 AC_ERR_FORMAT);
    CHECK(!also.ended && also.state == AC_STATE_FAILED);
  }
  bytes_free(&first);
}

static void faults(void) {
  if (strcmp(ac_aes_backend_name(ac_aes_backend_default()), "sodium") != 0) return; /* only that one can fail */
  v2_exchange x = v2_exchange_make(1);
  bytes event = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL), none = {0};
  uint64_t span[AC_V2_SPAN];
  fault_plant(IN_DECRYPT, REFUSES, 0);
  CHECK_STATUS(v2_open_alone(&x.opener, &none, span, viewed(&event)), AC_ERR_AUTH); /* it does not say why */
  CHECK(fault_struck());
  v2_check_failed(&x.opener, &none, text);
  bytes_free(&event);
}

void test_v2_states(void) {
  record_limits();
  over_usage();
  states();
  ways();
  event_limit();
  out_of_place();
  faults();
}
