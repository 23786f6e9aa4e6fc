/* The node's sealer: capacity, overlap, nonces, limits, state, and what is left of it when it is closed. */
#include "harness.h"

static const char text[] = "{\"choices\":[]}";
static const char usage_text[] = "{\"total_tokens\":2}";
enum { TEXT = sizeof text - 1, USAGE = sizeof usage_text - 1 };

typedef enum writer { EVENT, EVENTS, REPLY } writer;
enum { WRITERS = 3 };

/* A batch seals three: all of the text, nothing, and the text's first byte again. */
static const size_t batch_lens[] = {TEXT, 0, 1};

static int write(writer w, ac_v1_sealer *s, bytes *out, size_t *len, size_t usage_len) {
  bytes plaintext = bytes_copy(text, TEXT), usage = bytes_copy(usage_text, usage_len);
  int status;
  if (w == EVENTS) bytes_append(&plaintext, text, 1);
  if (w == EVENT)
    status = event_seal(s, out->at, out->len, len, plaintext.at, plaintext.len, usage.at, usage_len);
  else if (w == REPLY)
    status = ac_v1_reply_seal(s, out->at, out->len, len, plaintext.at, plaintext.len, usage.at, usage_len);
  else
    status = ac_v1_events_seal(s, out->at, out->len, len, plaintext.at, plaintext.len, batch_lens, 3, usage.at,
                               usage_len);
  bytes_free(&plaintext);
  bytes_free(&usage);
  return status;
}

static size_t size_of(writer w, const ac_v1_sealer *s, size_t usage_len) {
  return w == EVENT   ? ac_v1_event_bytes(s, TEXT, usage_len)
         : w == REPLY ? ac_v1_reply_bytes(s, TEXT, usage_len)
                      : ac_v1_events_bytes(s, TEXT + 1, batch_lens, 3, usage_len);
}

static int nonce_is(view json, const uint8_t want[AC_NONCE_BYTES]) {
  uint8_t nonce[AC_NONCE_BYTES];
  const view got = member(json, "nonce");
  return aci_base64_decode_exact(nonce, sizeof nonce, got.at, got.len) == AC_OK &&
         memcmp(nonce, want, sizeof nonce) == 0;
}

/* A refused call has changed nothing: neither the object, nor its nonce, nor the output. */
static void capacity(const ac_signing_key *signing) {
  exchange x = exchange_make(signing);
  for (int w = 0; w < WRITERS; w++) {
    for (size_t usage_len = 0; usage_len <= USAGE; usage_len += USAGE) {
      const size_t need = size_of((writer)w, &x.sealer, usage_len);
      const ac_v1_sealer before = x.sealer;
      for (size_t cap = 0; cap <= need; cap++) {
        bytes out = bytes_new(cap);
        size_t len = 99;
        CHECK_STATUS(write((writer)w, &x.sealer, &out, &len, usage_len), cap < need ? AC_ERR_CAPACITY : AC_OK);
        if (cap < need) {
          CHECK(bytes_untouched(&out) && len == 99 && memcmp(&x.sealer, &before, sizeof before) == 0);
        } else {
          CHECK(len == need && nonce_is(viewed(&out), before.next_nonce));
        }
        bytes_free(&out);
      }
      bytes roomy = bytes_new(need + 7); /* and writes no more than it says */
      size_t len = 0;
      CHECK_STATUS(write((writer)w, &x.sealer, &roomy, &len, usage_len), AC_OK);
      const bytes behind = {roomy.at + need, 7};
      CHECK(len == need && bytes_untouched(&behind));
      bytes_free(&roomy);
    }
  }
}

static void overlap(void) {
  exchange x = exchange_make(NULL);
  const size_t need = ac_v1_event_bytes(&x.sealer, TEXT, 0), reply_need = ac_v1_reply_bytes(&x.sealer, TEXT, 0);
  size_t len = 0;
  bytes room = bytes_new(TEXT + need + TEXT);
  for (size_t at = 0; at <= TEXT + need; at++) {
    const ac_v1_sealer before = x.sealer;
    bytes same = bytes_copy(room.at, room.len);
    const int apart = at == 0 || at == TEXT + need;
    CHECK_STATUS(event_seal(&x.sealer, room.at + TEXT, need, &len, room.at + at, TEXT, NULL, 0),
                 apart ? AC_OK : AC_ERR_OVERLAP);
    if (!apart) {
      CHECK_SAME(room, same);
      CHECK(memcmp(&x.sealer, &before, sizeof before) == 0);
    }
    bytes_free(&same);
  }
  /* capacity that is not used may overlap, but not one byte of what is */
  CHECK_STATUS(event_seal(&x.sealer, room.at, room.len, &len, room.at + need, TEXT, NULL, 0), AC_OK);
  CHECK_STATUS(event_seal(&x.sealer, room.at, room.len, &len, room.at + need - 1, TEXT, NULL, 0), AC_ERR_OVERLAP);
  CHECK_STATUS(ac_v1_reply_seal(&x.sealer, room.at, room.len, &len, room.at + reply_need, TEXT, NULL, 0), AC_OK);
  CHECK_STATUS(ac_v1_reply_seal(&x.sealer, room.at, room.len, &len, room.at + reply_need - 1, TEXT, NULL, 0),
               AC_ERR_OVERLAP);
  memset(room.at, ' ', room.len); /* a usage must be one line */
  const size_t with_usage = ac_v1_event_bytes(&x.sealer, 0, TEXT);
  CHECK_STATUS(event_seal(&x.sealer, room.at, room.len, &len, NULL, 0, room.at + with_usage - 1, TEXT),
               AC_ERR_OVERLAP);
  size_t lens[200] = {0}; /* inside of the output */
  lens[3] = TEXT;
  CHECK_STATUS(ac_v1_events_seal(&x.sealer, (uint8_t *)lens, sizeof lens, &len, room.at, TEXT, lens + 3, 1, NULL, 0),
               AC_ERR_OVERLAP);
  CHECK(lens[3] == TEXT && lens[0] == 0);
  bytes_free(&room);
}

static void arguments(void) {
  exchange x = exchange_make(NULL);
  const ac_v1_sealer before = x.sealer;
  bytes out = bytes_new(1000);
  size_t len = 99;
  const size_t too_few[] = {TEXT - 1}, too_many[] = {TEXT + 1}, wrapping[] = {TEXT, SIZE_MAX, 1};
  const uint8_t *const p = (const uint8_t *)text;
  CHECK(ac_v1_events_bytes(&x.sealer, TEXT, too_few, 1, 0) == SIZE_MAX);
  CHECK_STATUS(ac_v1_events_seal(&x.sealer, out.at, out.len, &len, p, TEXT, too_few, 1, NULL, 0), AC_ERR_ARGUMENT);
  CHECK_STATUS(ac_v1_events_seal(&x.sealer, out.at, out.len, &len, p, TEXT, too_many, 1, NULL, 0), AC_ERR_ARGUMENT);
  CHECK_STATUS(ac_v1_events_seal(&x.sealer, out.at, out.len, &len, p, TEXT, wrapping, 3, NULL, 0), AC_ERR_ARGUMENT);
  CHECK(ac_v1_event_bytes(&x.sealer, SIZE_MAX, 0) == SIZE_MAX && ac_v1_event_bytes(&x.sealer, 0, SIZE_MAX) == SIZE_MAX);
  CHECK(ac_v1_event_bytes(&x.sealer, MOST_PLAINTEXT + 1, 0) == SIZE_MAX);
  CHECK(ac_v1_reply_bytes(&x.sealer, MOST_PLAINTEXT, 0) != SIZE_MAX);
  for (unsigned byte = 0; byte < 0x20; byte++) { /* would break the event's one line */
    const uint8_t usage[3] = {'{', (uint8_t)byte, '}'};
    for (size_t from = 0; from < 2; from++) /* also as the first byte, and as the last */
      CHECK_STATUS(event_seal(&x.sealer, out.at, out.len, &len, p, TEXT, usage + from, 2), AC_ERR_ARGUMENT);
    CHECK_STATUS(event_seal(&x.sealer, out.at, out.len, &len, p, TEXT, usage, 3), AC_ERR_ARGUMENT);
  }
  CHECK(bytes_untouched(&out) && len == 99 && memcmp(&x.sealer, &before, sizeof before) == 0);
  CHECK_STATUS(ac_v1_events_seal(&x.sealer, NULL, 0, &len, NULL, 0, NULL, 0, NULL, 0), AC_OK);
  CHECK(len == 0 && memcmp(&x.sealer, &before, sizeof before) == 0);
  bytes_free(&out);
}

/* ---- nonces ---- */

static void next_is(ac_v1_sealer *sealer, const char *hex) {
  uint8_t want[AC_NONCE_BYTES];
  CHECK(unhex(want, hex) == sizeof want);
  bytes event = seal_event(sealer, text, "");
  CHECK(nonce_is(event_data(&event), want));
  bytes_free(&event);
}

static void counter(void) {
  exchange x = exchange_make(NULL);
  memset(x.sealer.next_nonce, 0xff, AC_NONCE_BYTES); /* wraps */
  next_is(&x.sealer, "ffffffffffffffffffffffff");
  next_is(&x.sealer, "000000000000000000000000");
  next_is(&x.sealer, "000000000000000000000001");
  x.sealer.next_nonce[11] = 0xff; /* carries */
  next_is(&x.sealer, "0000000000000000000000ff");
  next_is(&x.sealer, "000000000000000000000100");
  memset(x.sealer.next_nonce, 0xff, AC_NONCE_BYTES);
  x.sealer.next_nonce[0] = 0x41;
  next_is(&x.sealer, "41ffffffffffffffffffffff");
  next_is(&x.sealer, "420000000000000000000000");

  /* leaves out the request's own: as the first one, as a later one, across the wrap, inside a batch */
  (void)unhex(x.sealer.request_nonce, "420000000000000000000001");
  next_is(&x.sealer, "420000000000000000000002");
  (void)unhex(x.sealer.request_nonce, "420000000000000000000004");
  next_is(&x.sealer, "420000000000000000000003");
  next_is(&x.sealer, "420000000000000000000005");
  memset(x.sealer.next_nonce, 0xff, AC_NONCE_BYTES);
  memset(x.sealer.request_nonce, 0, AC_NONCE_BYTES);
  next_is(&x.sealer, "ffffffffffffffffffffffff");
  next_is(&x.sealer, "000000000000000000000001");
  (void)unhex(x.sealer.request_nonce, "000000000000000000000003");
  bytes out = bytes_new(size_of(EVENTS, &x.sealer, 0));
  size_t len = 0;
  CHECK_STATUS(write(EVENTS, &x.sealer, &out, &len, 0), AC_OK);
  next_is(&x.sealer, "000000000000000000000006");
  bytes_free(&out);
}

/* ---- limits and state ---- */

static void limits(void) {
  exchange x = exchange_make(NULL);
  CHECK(x.sealer.chunks_left == AC_V1_MAX_CHUNKS && x.sealer.bytes_left == AC_V1_MAX_STREAM_BYTES);
  for (int w = 0; w < WRITERS; w++) {
    const uint64_t chunks = w == EVENTS ? 3 : 1, plaintext_len = w == EVENTS ? TEXT + 1 : TEXT;
    bytes out = bytes_new(size_of((writer)w, &x.sealer, 0));
    size_t len = 0;
    x.sealer.chunks_left = chunks - 1;
    x.sealer.bytes_left = AC_V1_MAX_STREAM_BYTES;
    for (int round = 0; round < 2; round++) {
      const ac_v1_sealer before = x.sealer;
      CHECK_STATUS(write((writer)w, &x.sealer, &out, &len, 0), AC_ERR_LIMIT);
      CHECK(memcmp(&x.sealer, &before, sizeof before) == 0 && bytes_untouched(&out));
      x.sealer.chunks_left = chunks;
      x.sealer.bytes_left = plaintext_len - 1;
    }
    x.sealer.bytes_left = plaintext_len;
    CHECK_STATUS(write((writer)w, &x.sealer, &out, &len, 0), AC_OK);
    CHECK(x.sealer.chunks_left == 0 && x.sealer.bytes_left == 0);
    CHECK_STATUS(write((writer)w, &x.sealer, &out, &len, 0), AC_ERR_LIMIT);
    bytes_free(&out);
  }
}

static void no_writer_works(ac_v1_sealer *sealer) {
  for (int w = 0; w < WRITERS; w++) {
    const ac_v1_sealer before = *sealer;
    bytes out = bytes_new(2000);
    size_t len = 99;
    CHECK_STATUS(write((writer)w, sealer, &out, &len, 0), AC_ERR_STATE);
    CHECK(bytes_untouched(&out) && len == 99 && memcmp(sealer, &before, sizeof before) == 0);
    bytes_free(&out);
  }
}

static void closing(void) {
  const ac_signing_key signing = some_signing_key();
  for (int close = 0; close < 2; close++) {
    exchange x = exchange_make(&signing);
    const ac_v1_sealer before = x.sealer;
    bytes event = seal_event(&x.sealer, text, "");
    for (int twice = 0; twice < 2; twice++) {
      if (close)
        CHECK_STATUS(ac_v1_sealer_close(&x.sealer), AC_OK);
      else
        ac_v1_sealer_wipe(&x.sealer);
      no_writer_works(&x.sealer);
    }
    /* nothing is left of it but numbers */
    CHECK(!holds_run_of(&x.sealer, sizeof x.sealer, before.aes.words, 32));
    CHECK(!holds_run_of(&x.sealer, sizeof x.sealer, &signing, sizeof signing));
    CHECK(x.sealer.state == AC_STATE_CLOSED && x.sealer.generation == before.generation);
    CHECK(all_zero(&x.sealer.aes, sizeof x.sealer.aes) && all_zero(&x.sealer.signing, sizeof x.sealer.signing));
    CHECK(all_zero(x.sealer.next_nonce, AC_NONCE_BYTES) && all_zero(x.sealer.request_nonce, AC_NONCE_BYTES));
    bytes_free(&event);
  }
  ac_v1_sealer none = {0}; /* never made */
  no_writer_works(&none);
  CHECK_STATUS(ac_v1_sealer_close(&none), AC_OK);
  no_writer_works(&none);
}

/* The sizes that it announces are those that it writes, and what it writes can be read. */
static void sizes(const ac_signing_key *signing) {
  exchange x = exchange_make(signing);
  char plaintext[130];
  memset(plaintext, 'x', sizeof plaintext);
  for (size_t len = 0; len < sizeof plaintext; len++) {
    bytes opened = {0};
    plaintext[len] = 0;
    bytes event = seal_event(&x.sealer, plaintext, len % 2 ? usage_text : "");
    CHECK_STATUS(open_event_alone(&x.opener, &opened, viewed(&event)), AC_OK);
    CHECK_SAME(opened, view_of(plaintext));
    CHECK(x.opener.nonce_reused == 0);
    plaintext[len] = 'x';
    bytes_free(&event);
    bytes_free(&opened);
  }
}

void test_sealer(void) {
  const ac_signing_key signing = some_signing_key();
  capacity(NULL);
  capacity(&signing);
  overlap();
  arguments();
  counter();
  limits();
  closing();
  sizes(NULL);
  sizes(&signing);
}
