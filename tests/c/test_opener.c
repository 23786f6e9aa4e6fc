/* The client's opener: capacity, every bit of an event, limits, state, and what is left of it when it is closed. */
#include "harness.h"

static const char text[] = "{\"choices\":[{\"delta\":{}}]}";
static const char usage_text[] = "{\"total_tokens\":2}";

static int feed(ac_v1_opener *opener, bytes *out, size_t *len, size_t *count, view event) {
  ac_v1_events events = {.out = out->at, .out_cap = out->len, .event_cap = 1, .out_len = *len};
  bytes in = bytes_copy(event.at, event.len);
  const int status = events_open(opener, &events, (view){in.at, in.len});
  *count = events.count;
  *len = events.out_len;
  bytes_free(&in);
  return status;
}

static int feed_members(ac_v1_opener *opener, bytes *out, size_t *len, view json) {
  const view c = member(json, "ciphertext"), n = member(json, "nonce"), h = member(json, "response_hash");
  bytes ciphertext = bytes_copy(c.at, c.len), nonce = bytes_copy(n.at, n.len), hash = bytes_copy(h.at, h.len);
  const int status = ac_v1_sealed_open(opener, out->at, out->len, len, ciphertext.at, c.len, nonce.at, n.len, hash.at,
                                       h.len);
  bytes_free(&ciphertext);
  bytes_free(&nonce);
  bytes_free(&hash);
  return status;
}

static int feed_reply(ac_v1_opener *opener, bytes *out, size_t *len, view json) {
  size_t pos = 0, usage_len = 0;
  bytes in = bytes_copy(json.at, json.len);
  const int status = ac_v1_reply_open(opener, out->at, out->len, len, &pos, &usage_len, in.at, in.len);
  if (status == AC_OK) CHECK_SAME(((view){in.at + pos, usage_len}), view_of(usage_text));
  bytes_free(&in);
  return status;
}

static void capacity(void) {
  exchange x = exchange_make(NULL);
  bytes event = seal_event(&x.sealer, text, usage_text);
  const view json = event_data(&event);
  const size_t need = ac_base64_decoded_max(member(json, "ciphertext").len);
  const ac_v1_opener fresh = x.opener;
  /* behind a byte order mark and things that are passed over, too: nothing may be lost then either */
  static const char *const before[] = {"", "\xef\xbb\xbf", "\xef\xbb\xbf: hi\r\n\r\n", "data: [DONE]\n\n", "\r\r\n:\r"};
  for (size_t b = 0; b < sizeof before / sizeof before[0]; b++) {
    bytes stream = bytes_copy(before[b], strlen(before[b]));
    bytes_append(&stream, event.at, event.len);
    ac_v1_opener opener = fresh;
    for (size_t cap = 0; cap <= need; cap++) {
      bytes out = bytes_new(cap);
      size_t len = 0, count = 0;
      CHECK_STATUS(feed(&opener, &out, &len, &count, viewed(&stream)), cap < need ? AC_ERR_CAPACITY : AC_OK);
      if (cap < need) {
        CHECK(bytes_untouched(&out) && len == need && memcmp(&opener, &fresh, sizeof fresh) == 0);
      } else {
        CHECK(count == 1);
        CHECK_SAME(((view){out.at, len}), view_of(text));
      }
      bytes_free(&out);
    }
    bytes_free(&stream);
  }
  for (size_t cap = 0; cap <= need; cap++) {
    ac_v1_opener members = fresh, reply = fresh;
    bytes out = bytes_new(cap);
    size_t len = 99;
    CHECK_STATUS(feed_members(&members, &out, &len, json), cap < need ? AC_ERR_CAPACITY : AC_OK);
    CHECK_STATUS(feed_reply(&reply, &out, &len, json), cap < need ? AC_ERR_CAPACITY : AC_OK);
    if (cap < need) {
      CHECK(bytes_untouched(&out) && len == need);
      CHECK(memcmp(&members, &fresh, sizeof fresh) == 0 && memcmp(&reply, &fresh, sizeof fresh) == 0);
    } else {
      CHECK_SAME(((view){out.at, len}), view_of(text));
    }
    bytes_free(&out);
  }
  bytes_free(&event);
}

/* An event of which one bit was turned gives the same plaintext (what was hit is not protected), or none at all. */
static void every_bit(const ac_signing_key *signing) {
  exchange x = exchange_make(signing);
  bytes event = seal_event(&x.sealer, text, usage_text);
  const view sealed = member(event_data(&event), "ciphertext"), nonce = member(event_data(&event), "nonce");
  unsigned same = 0;
  for (size_t bit = 0; bit < 8 * event.len; bit++) {
    uint8_t *const at = event.at + bit / 8;
    ac_v1_opener opener = x.opener;
    bytes opened = {0};
    *at ^= (uint8_t)(1u << bit % 8);
    const int status = open_event_alone(&opener, &opened, viewed(&event));
    if (status == AC_OK) {
      same++;
      CHECK_SAME(opened, view_of(text));
      CHECK(!(at >= sealed.at && at < sealed.at + sealed.len) && !(at >= nonce.at && at < nonce.at + nonce.len));
      CHECK(opener.chunks == 1);
    } else {
      CHECK(status == AC_PUNT || status == AC_ERR_AUTH);
      CHECK(status == AC_PUNT || opener.state == AC_STATE_FAILED);
      CHECK(opener.chunks == 0);
    }
    *at ^= (uint8_t)(1u << bit % 8);
    bytes_free(&opened);
  }
  CHECK(same != 0); /* names of members that are not needed, for one */
  bytes_free(&event);
}

/* What another parser hands over: malformed members, and a hash that does not fit. */
static void members(void) {
  exchange x = exchange_make(NULL);
  bytes event = seal_event(&x.sealer, text, "");
  const view json = event_data(&event);
  const view c = member(json, "ciphertext"), n = member(json, "nonce"), h = member(json, "response_hash");
  static const uint8_t as[44] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  const struct {
    int status;
    view c, n, h;
  } cases[] = {
      {AC_OK, c, n, h},
      {AC_OK, c, n, {NULL, 0}},
      {AC_ERR_FORMAT, {NULL, 0}, n, h},
      {AC_ERR_FORMAT, {as, 16}, n, h}, /* shorter than a tag */
      {AC_ERR_FORMAT, {c.at, c.len - 1}, n, h},
      {AC_ERR_FORMAT, c, {NULL, 0}, h},
      {AC_ERR_FORMAT, c, {n.at, 12}, h},
      {AC_ERR_FORMAT, c, {as, 20}, h},
      {AC_ERR_FORMAT, c, n, {h.at, 40}},
      {AC_ERR_FORMAT, c, n, {as, 1}},
      {AC_ERR_AUTH, {c.at, c.len - 4}, n, h},
      {AC_ERR_AUTH, c, {as, 16}, h},
      {AC_ERR_AUTH, c, n, {as, 44}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ac_v1_opener opener = x.opener;
    bytes out = bytes_new(c.len);
    bytes exact[3] = {bytes_copy(cases[i].c.at, cases[i].c.len), bytes_copy(cases[i].n.at, cases[i].n.len),
                      bytes_copy(cases[i].h.at, cases[i].h.len)};
    size_t len = 0;
    CHECK_STATUS(ac_v1_sealed_open(&opener, out.at, out.len, &len, exact[0].at, exact[0].len, exact[1].at,
                                   exact[1].len, exact[2].at, exact[2].len),
                 cases[i].status);
    if (cases[i].status == AC_OK) {
      CHECK_SAME(((view){out.at, len}), view_of(text));
    } else {
      CHECK(opener.state == AC_STATE_FAILED && all_zero(&opener.aes, sizeof opener.aes));
      CHECK(!holds_run_of(out.at, out.len, text, sizeof text - 1));
      CHECK_STATUS(feed_members(&opener, &out, &len, json), AC_ERR_STATE); /* for good */
    }
    for (size_t k = 0; k < 3; k++) bytes_free(&exact[k]);
    bytes_free(&out);
  }
  bytes_free(&event);
}

/* A nonce that comes again is noticed if it is the first or the previous one. */
static void reuse(void) {
  static const struct {
    const char *order;
    size_t noticed; /* at this event, for the first time; 0: never */
  } cases[] = {{"abc", 0}, {"aa", 1}, {"aba", 2}, {"abb", 2}, {"abca", 3}, {"abcc", 3}};
  exchange x = exchange_make(NULL);
  bytes events[3], none = {0};
  for (size_t i = 0; i < 3; i++) events[i] = seal_event(&x.sealer, text, "");
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ac_v1_opener warns = x.opener, refuses = x.opener;
    CHECK_STATUS(ac_v1_opener_set(&refuses, SIZE_MAX, SIZE_MAX, 1), AC_OK);
    for (size_t k = 0; cases[i].order[k] != 0; k++) {
      const bytes *event = &events[cases[i].order[k] - 'a'];
      const int reused = cases[i].noticed != 0 && k >= cases[i].noticed;
      CHECK_STATUS(open_event_alone(&warns, &none, viewed(event)), AC_OK);
      bytes_free(&none);
      CHECK(warns.nonce_reused == (uint32_t)reused && warns.chunks == k + 1);
      CHECK_STATUS(open_event_alone(&refuses, &none, viewed(event)), reused ? AC_ERR_NONCE_REUSE : AC_OK);
      bytes_free(&none);
    }
  }
  for (size_t i = 0; i < 3; i++) bytes_free(&events[i]);

  /* the first of all has none before it, whatever its nonce is */
  static const uint8_t zeros[AC_NONCE_BYTES], zeros_base64[] = "AAAAAAAAAAAAAAAA";
  uint8_t sealed[sizeof text - 1 + AC_TAG_BYTES], ciphertext[100], opened[100];
  size_t len = 0;
  CHECK_STATUS(ac_aes256gcm_seal(&x.opener.aes, sealed, sizeof sealed, zeros, (const uint8_t *)text, sizeof text - 1,
                                 NULL, 0),
               AC_OK);
  const size_t ciphertext_len = ac_base64_encoded_len(sizeof sealed);
  aci_base64_encode(ciphertext, sealed, sizeof sealed);
  CHECK_STATUS(ac_v1_opener_set(&x.opener, SIZE_MAX, SIZE_MAX, 1), AC_OK);
  for (int again = 0; again < 2; again++) {
    CHECK_STATUS(ac_v1_sealed_open(&x.opener, opened, sizeof opened, &len, ciphertext, ciphertext_len, zeros_base64,
                                   sizeof zeros_base64 - 1, NULL, 0),
                 again ? AC_ERR_NONCE_REUSE : AC_OK);
  }
}

/* The event that the quick way takes has what others have: a limit, and no hash that is empty. */
static void plain(void) {
  exchange x = exchange_make(NULL);
  const ac_v1_opener fresh = x.opener;
  bytes event = seal_event(&x.sealer, text, ""), out = bytes_new(event.len);
  size_t len = 0, count = 0;
  for (size_t less = 0; less < 4; less++) { /* the empty line does not count */
    x.opener = fresh;
    CHECK_STATUS(ac_v1_opener_set(&x.opener, event.len - less, SIZE_MAX, 0), AC_OK);
    CHECK_STATUS(feed(&x.opener, &out, &len, &count, viewed(&event)), less > 1 ? AC_ERR_TOO_LARGE : AC_OK);
  }
  const view hash = member(event_data(&event), "response_hash");
  bytes without = bytes_copy(event.at, (size_t)(hash.at - event.at));
  bytes_append(&without, hash.at + hash.len, event.len - without.len - hash.len);
  x.opener = fresh;
  CHECK_STATUS(feed(&x.opener, &out, &len, &count, viewed(&without)), AC_PUNT);
  bytes_free(&without);
  bytes_free(&out);
  bytes_free(&event);
}

/* ---- state ---- */

static void nothing_works(ac_v1_opener *opener, const bytes *event) {
  const ac_v1_opener before = *opener;
  bytes out = bytes_new(event->len);
  size_t len = 99, count = 99;
  CHECK_STATUS(feed(opener, &out, &len, &count, viewed(event)), AC_ERR_STATE);
  CHECK_STATUS(feed_members(opener, &out, &len, event_data(event)), AC_ERR_STATE);
  CHECK_STATUS(feed_reply(opener, &out, &len, event_data(event)), AC_ERR_STATE);
  CHECK_STATUS(ac_v1_opener_set(opener, 1, 1, 1), AC_ERR_STATE);
  CHECK(memcmp(opener, &before, sizeof before) == 0 && bytes_untouched(&out) && len == 99);
  bytes_free(&out);
}

static void states(void) {
  exchange x = exchange_make(NULL);
  bytes event = seal_event(&x.sealer, text, usage_text);
  const ac_v1_opener before = x.opener;
  ac_v1_opener none = {0};
  nothing_works(&none, &event);
  for (int close = 0; close < 2; close++) {
    ac_v1_opener opener = before;
    for (int twice = 0; twice < 2; twice++) {
      if (close)
        CHECK_STATUS(ac_v1_opener_close(&opener), AC_OK);
      else
        ac_v1_opener_wipe(&opener);
      nothing_works(&opener, &event);
    }
    CHECK(!holds_run_of(&opener, sizeof opener, before.aes.words, 32) && opener.state == AC_STATE_CLOSED);
    CHECK(all_zero(&opener.aes, sizeof opener.aes) && all_zero(opener.request_nonce, sizeof opener.request_nonce));
  }
  ac_v1_opener failed = before;
  bytes forged = bytes_copy(event.at, event.len), nothing = bytes_new(event.len);
  size_t forged_len = 0, forged_count = 0;
  forged.at[30] = forged.at[30] == 'A' ? 'B' : 'A';
  CHECK_STATUS(feed(&failed, &nothing, &forged_len, &forged_count, viewed(&forged)), AC_ERR_AUTH);
  bytes_free(&forged);
  bytes_free(&nothing);
  CHECK(all_zero(&failed.aes, sizeof failed.aes));
  nothing_works(&failed, &event);

  /* bytes that were seen before must come again */
  ac_v1_opener opener = before;
  bytes out = bytes_new(event.len);
  size_t len = 0, count = 0;
  CHECK_STATUS(feed(&opener, &out, &len, &count, (view){event.at, 100}), AC_OK);
  CHECK(count == 0 && ac_v1_events_unfinished(&opener, 100));
  const ac_v1_opener waiting = opener;
  CHECK_STATUS(feed(&opener, &out, &len, &count, (view){event.at, 99}), AC_ERR_ARGUMENT);
  CHECK(memcmp(&opener, &waiting, sizeof waiting) == 0);
  for (size_t wrong = 0; wrong <= AC_V1_EVENTS + 1; wrong += AC_V1_EVENTS + 1) {
    ac_v1_events events = {.out = out.at, .out_cap = out.len, .event_cap = wrong};
    CHECK_STATUS(events_open(&opener, &events, viewed(&event)), AC_ERR_ARGUMENT);
  }
  CHECK(memcmp(&opener, &waiting, sizeof waiting) == 0);
  CHECK_STATUS(feed(&opener, &out, &len, &count, viewed(&event)), AC_OK);
  CHECK(count == 1);
  bytes_free(&out);
  bytes_free(&event);
}

/* Output that lies anywhere in the input is refused, and nothing is changed. */
static void overlap(void) {
  exchange x = exchange_make(NULL);
  bytes event = seal_event(&x.sealer, text, usage_text);
  const view json = event_data(&event);
  const view c = member(json, "ciphertext"), n = member(json, "nonce"), h = member(json, "response_hash");
  const ac_v1_opener fresh = x.opener;
  size_t len = 0, count = 0, pos = 0, usage_len = 0;
  for (size_t at = 0; at < event.len; at++) {
    uint8_t *const out = event.at + at;
    const size_t cap = event.len - at;
    ac_v1_events events = {.out = out, .out_cap = cap, .event_cap = 1};
    CHECK_STATUS(events_open(&x.opener, &events, viewed(&event)), AC_ERR_OVERLAP);
    if (out >= json.at + json.len || cap < ac_base64_decoded_max(c.len)) continue;
    CHECK_STATUS(ac_v1_reply_open(&x.opener, out, cap, &len, &pos, &usage_len, json.at, json.len), AC_ERR_OVERLAP);
    CHECK_STATUS(ac_v1_sealed_open(&x.opener, out, cap, &len, c.at, c.len, n.at, n.len, h.at, h.len), AC_ERR_OVERLAP);
  }
  const view members[] = {c, n, h};
  for (size_t m = 0; m < 3; m++) { /* in one member, and nowhere else */
    bytes alone = bytes_copy(members[m].at, members[m].len);
    view v[] = {c, n, h};
    bytes_append(&alone, event.at, event.len);
    v[m].at = alone.at;
    for (size_t at = 0; at < members[m].len; at++)
      CHECK_STATUS(ac_v1_sealed_open(&x.opener, alone.at + at, event.len, &len, v[0].at, v[0].len, v[1].at, v[1].len,
                                     v[2].at, v[2].len),
                   AC_ERR_OVERLAP);
    bytes_free(&alone);
  }
  CHECK(memcmp(&x.opener, &fresh, sizeof fresh) == 0);
  bytes out = bytes_new(event.len);
  CHECK_STATUS(feed(&x.opener, &out, &len, &count, viewed(&event)), AC_OK);
  CHECK(count == 1);
  bytes_free(&out);
  bytes_free(&event);
}

/* The claimed hash of another text, in any of its bytes. */
static void wrong_hash(void) {
  exchange x = exchange_make(NULL);
  bytes event = seal_event(&x.sealer, text, "");
  const view json = event_data(&event);
  const view c = member(json, "ciphertext"), n = member(json, "nonce"), h = member(json, "response_hash");
  bytes out = bytes_new(event.len);
  for (size_t at = 0; at < AC_HASH_BYTES; at++) {
    ac_v1_opener opener = x.opener;
    uint8_t hash[AC_HASH_BYTES], claimed[44];
    size_t len = 99;
    CHECK_STATUS(aci_base64_decode_exact(hash, sizeof hash, h.at, h.len), AC_OK);
    hash[at] ^= 1;
    aci_base64_encode(claimed, hash, sizeof hash);
    CHECK_STATUS(ac_v1_sealed_open(&opener, out.at, out.len, &len, c.at, c.len, n.at, n.len, claimed, sizeof claimed),
                 AC_ERR_AUTH);
    CHECK(len == 99 && opener.state == AC_STATE_FAILED && all_zero(out.at, ac_base64_decoded_max(c.len) - AC_TAG_BYTES - 2));
  }
  bytes_free(&out);
  bytes_free(&event);
}

static ac_v1_events *told_otherwise;

static void tell_otherwise(void) { told_otherwise->event_cap = SIZE_MAX; }

/* Another thread may write to `events`: what was checked of it is what counts. */
static void changed_meanwhile(void) {
  exchange x = exchange_make(NULL);
  bytes stream = {0}, out = bytes_new(1 << 16);
  for (size_t i = 0; i < 2 * AC_V1_EVENTS; i++) {
    bytes event = seal_event(&x.sealer, text, "");
    bytes_append(&stream, event.at, event.len);
    bytes_free(&event);
  }
  ac_v1_events *const events = calloc(1, sizeof *events);
  *events = (ac_v1_events){.out = out.at, .out_cap = out.len, .event_cap = AC_V1_EVENTS};
  told_otherwise = events;
  on_blake2b = tell_otherwise;
  CHECK_STATUS(events_open(&x.opener, events, viewed(&stream)), AC_OK);
  on_blake2b = NULL;
  CHECK(events->event_cap == SIZE_MAX && events->count == AC_V1_EVENTS);
  free(events);
  bytes_free(&out);
  bytes_free(&stream);
}

/* The commonest form of event is read in a way of its own; behind a comment it is not. Both must say the same of an
 * event in which any byte is another, is missing, or has another before it. */
static void ways(const ac_signing_key *signing) {
  static const char others[] = {'"', '\\', '\n', '\r', ' ', '=', 'A', ',', '}', '\0', '\x80'};
  enum { OTHERS = sizeof others, CASES = 2 * OTHERS + 1 };
  exchange x = exchange_make(signing);
  bytes event = seal_event(&x.sealer, text, "");
  bytes out = bytes_new(event.len), also = bytes_new(event.len);
  for (size_t at = 0; at < event.len; at++) {
    for (size_t i = 0; i < CASES; i += stride()) {
      const int put = i < CASES - 1, more = put && i >= OTHERS;
      const uint8_t other = put ? (uint8_t)others[i % OTHERS] : 0;
      bytes behind = bytes_copy(":\n", 2);
      bytes_append(&behind, event.at, at);
      if (put) bytes_append(&behind, &other, 1);
      bytes_append(&behind, event.at + at + !more, event.len - at - !more);
      bytes alone = bytes_copy(behind.at + 2, behind.len - 2);
      ac_v1_opener first = x.opener, second = x.opener;
      ac_v1_events one = {.out = out.at, .out_cap = out.len, .event_cap = 2};
      ac_v1_events two = {.out = also.at, .out_cap = also.len, .event_cap = 2};
      const int status = events_open(&first, &one, viewed(&alone));
      CHECK_STATUS(events_open(&second, &two, viewed(&behind)), status);
      CHECK(one.count == two.count && one.out_len == two.out_len &&
            one.consumed + 2 == two.consumed);
      if (one.count == 1) CHECK_EQUAL(out.at, also.at, one.out_len);
      CHECK(first.state == second.state && first.chunks == second.chunks);
      CHECK(status != AC_OK || first.sse.fields == second.sse.fields);
      bytes_free(&alone);
      bytes_free(&behind);
    }
  }
  bytes_free(&out);
  bytes_free(&also);
  bytes_free(&event);
}

void test_opener(void) {
  overlap();
  changed_meanwhile();
  const ac_signing_key signing = some_signing_key();
  capacity();
  wrong_hash();
  every_bit(NULL);
  every_bit(&signing);
  ways(NULL);
  ways(&signing);
  members();
  reuse();
  plain();
  states();
}
