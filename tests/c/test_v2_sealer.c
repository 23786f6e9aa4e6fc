/* v2's sealer: capacity, overlap, nonces and what the tag covers, limits, the end, faults, and what is left of it. */
#include "harness.h"

static const char text[] = "{\"choices\":[]}";
enum { TEXT = sizeof text - 1 };
static const uint64_t usage_numbers[AC_V2_USAGE] = {3, 9, 12};

/* A batch seals three, the last of which is the end, and empty. */
static const size_t batch_lens[] = {TEXT, 1, 0};

typedef enum writer { EVENT, SHOWN, EVENTS, ABORT, RECORD, OBJECT, REFUSAL, WRITERS } writer;

static int begins(writer w) { return w >= OBJECT; } /* only as the first */

static uint32_t last_flag(writer w) {
  static const uint32_t flags[WRITERS] = {AC_FLAG_MORE, AC_FLAG_MORE,  AC_FLAG_END,  AC_FLAG_ABORT,
                                          AC_FLAG_MORE, AC_FLAG_WHOLE, AC_FLAG_ABORT};
  return flags[w];
}

static const uint64_t *usage_of(writer w) { return w == EVENT || w == RECORD || w == REFUSAL ? NULL : usage_numbers; }
static size_t plaintext_len_of(writer w) { return w == EVENTS ? TEXT + 1 : TEXT; }
static uint64_t records_of(writer w) { return w == EVENTS ? 3 : 1; }

static int write(writer w, ac_v2_sealer *s, bytes *out, size_t *len) {
  const uint64_t *const usage = usage_of(w);
  bytes plaintext = bytes_copy(text, TEXT);
  int status;
  if (w == EVENTS) bytes_append(&plaintext, text, 1);
  if (w == EVENT) {
    const int64_t written = ac_v2_event_seal(s, out->at, out->len, plaintext.at, TEXT);
    status = written < 0 ? (int)written : AC_OK;
    if (written >= 0) *len = (size_t)written;
  } else if (w == RECORD) {
    status = ac_v2_record_seal(s, out->at, out->len, AC_FLAG_MORE, plaintext.at, TEXT, usage);
    if (status == AC_OK) *len = TEXT + AC_TAG_BYTES;
  } else if (begins(w)) {
    status = ac_v2_object_seal(s, out->at, out->len, len, last_flag(w), plaintext.at, TEXT, usage);
  } else {
    const size_t one = TEXT;
    status = ac_v2_events_seal(s, out->at, out->len, len, plaintext.at, plaintext.len, w == EVENTS ? batch_lens : &one,
                               w == EVENTS ? 3 : 1, last_flag(w), usage);
  }
  bytes_free(&plaintext);
  return status;
}

static size_t size_of(writer w, const ac_v2_sealer *s) {
  const size_t one = TEXT;
  if (w == RECORD) return TEXT + AC_TAG_BYTES;
  if (begins(w)) return ac_v2_object_bytes(TEXT, last_flag(w), usage_of(w));
  return ac_v2_events_bytes(s, plaintext_len_of(w), w == EVENTS ? batch_lens : &one, w == EVENTS ? 3 : 1, last_flag(w),
                            usage_of(w));
}

static void refused(writer w, ac_v2_sealer *s, int want) {
  const ac_v2_sealer before = *s;
  bytes out = bytes_new(2000);
  size_t len = 99;
  CHECK_STATUS(write(w, s, &out, &len), want);
  CHECK(bytes_untouched(&out) && len == 99 && memcmp(s, &before, sizeof before) == 0);
  bytes_free(&out);
}

/* A refused call has changed nothing. What is written is as long as was said, first or later. */
static void capacity(void) {
  for (writer w = 0; w < WRITERS; w++) {
    for (int later = 0; later < (begins(w) ? 1 : 2); later++) {
      v2_exchange x = v2_exchange_make(!begins(w));
      if (later) {
        bytes first = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL);
        bytes_free(&first);
      }
      const size_t need = size_of(w, &x.sealer);
      const ac_v2_sealer before = x.sealer;
      for (size_t cap = 0; cap <= need; cap++) {
        bytes out = bytes_new(cap);
        size_t len = 99;
        CHECK_STATUS(write(w, &x.sealer, &out, &len), cap < need ? AC_ERR_CAPACITY : AC_OK);
        if (cap < need)
          CHECK(bytes_untouched(&out) && len == 99 && memcmp(&x.sealer, &before, sizeof before) == 0);
        else
          CHECK(len == need);
        bytes_free(&out);
      }
      x.sealer = before;
      bytes roomy = bytes_new(need + 7); /* and writes no more than it says */
      size_t len = 0;
      CHECK_STATUS(write(w, &x.sealer, &roomy, &len), AC_OK);
      const bytes behind = {roomy.at + need, 7};
      CHECK(len == need && bytes_untouched(&behind));
      bytes_free(&roomy);
    }
  }
}

static void overlap(void) {
  v2_exchange x = v2_exchange_make(1);
  bytes first = v2_seal(&x.sealer, AC_FLAG_MORE, text, NULL);
  const size_t one = TEXT, need = ac_v2_events_bytes(&x.sealer, TEXT, &one, 1, AC_FLAG_MORE, NULL);
  bytes room = bytes_new(TEXT + need + TEXT);
  for (size_t at = 0; at <= TEXT + need; at++) {
    const ac_v2_sealer before = x.sealer;
    bytes same = bytes_copy(room.at, room.len);
    const int apart = at == 0 || at == TEXT + need;
    const int64_t status = ac_v2_event_seal(&x.sealer, room.at + TEXT, need, room.at + at, TEXT);
    CHECK(apart ? status == (int64_t)need : status == AC_ERR_OVERLAP);
    if (!apart) {
      CHECK_SAME(room, same);
      CHECK(memcmp(&x.sealer, &before, sizeof before) == 0);
    }
    bytes_free(&same);
  }
  /* a record may be sealed where it lies, and only there */
  for (size_t at = 0; at <= TEXT + AC_TAG_BYTES; at++) {
    const int good = at == TEXT || at == TEXT + AC_TAG_BYTES + TEXT || at == 0;
    CHECK_STATUS(ac_v2_record_seal(&x.sealer, room.at + TEXT, TEXT + AC_TAG_BYTES, AC_FLAG_MORE, room.at + at, TEXT, NULL),
                 good ? AC_OK : AC_ERR_OVERLAP);
  }
  uint64_t numbers[100] = {0}; /* usage, and lengths, inside of the output */
  size_t len = 0, *const lens = (size_t *)(void *)numbers;
  uint8_t *const out = (uint8_t *)numbers;
  CHECK_STATUS(ac_v2_record_seal(&x.sealer, out, sizeof numbers, AC_FLAG_MORE, room.at, TEXT, numbers + 1), AC_ERR_OVERLAP);
  CHECK_STATUS(ac_v2_events_seal(&x.sealer, out, sizeof numbers, &len, room.at, TEXT, &one, 1, AC_FLAG_MORE, numbers + 2),
               AC_ERR_OVERLAP);
  lens[3] = TEXT;
  CHECK_STATUS(ac_v2_events_seal(&x.sealer, out, sizeof numbers, &len, room.at, TEXT, lens + 3, 1, AC_FLAG_MORE, NULL),
               AC_ERR_OVERLAP);
  bytes_free(&first);
  bytes_free(&room);
}

static void arguments(void) {
  v2_exchange x = v2_exchange_make(1);
  const ac_v2_sealer before = x.sealer;
  bytes out = bytes_new(1000);
  size_t len = 99;
  const size_t one[] = {TEXT}, few[] = {TEXT - 1}, many[] = {TEXT + 1}, wrap[] = {TEXT, SIZE_MAX, 1}, none[] = {TEXT, 0};
  const uint64_t most = 9007199254740991, big[] = {0, 0, most + 1}, fits[] = {most, most, most};
  const uint8_t *const p = (const uint8_t *)text, secret[AC_HASH_BYTES] = {1};
#define SEAL(lens, count, flag, usage) \
  ac_v2_events_seal(&x.sealer, out.at, out.len, &len, p, TEXT, lens, count, flag, usage)
  CHECK_STATUS(SEAL(few, 1, AC_FLAG_MORE, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(many, 1, AC_FLAG_MORE, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(wrap, 3, AC_FLAG_MORE, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(none, 2, AC_FLAG_MORE, NULL), AC_ERR_ARGUMENT); /* empty, and not the end */
  CHECK_STATUS(SEAL(one, 0, AC_FLAG_END, NULL), AC_ERR_ARGUMENT);
  CHECK(ac_v2_events_bytes(&x.sealer, 0, NULL, 0, AC_FLAG_END, NULL) == SIZE_MAX); /* no event is no end */
  CHECK_STATUS(SEAL(one, 1, AC_FLAG_WHOLE, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(one, 1, 4, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(one, 1, UINT32_MAX, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(SEAL(one, 1, AC_FLAG_END, big), AC_ERR_ARGUMENT);
#undef SEAL
  CHECK(ac_v2_event_seal(&x.sealer, out.at, out.len, NULL, 0) == AC_ERR_ARGUMENT);
  for (uint32_t flag = 0; flag < 5; flag++) {
    if (flag != AC_FLAG_WHOLE && flag != AC_FLAG_ABORT)
      CHECK_STATUS(ac_v2_object_seal(&x.sealer, out.at, out.len, &len, flag, p, TEXT, NULL), AC_ERR_ARGUMENT);
    CHECK_STATUS(ac_v2_object_seal(&x.sealer, out.at, out.len, &len, flag, p, TEXT, big), AC_ERR_ARGUMENT);
    CHECK_STATUS(ac_v2_record_seal(&x.sealer, out.at, out.len, flag, p, TEXT, big), AC_ERR_ARGUMENT);
    CHECK_STATUS(ac_v2_record_seal(&x.sealer, out.at, out.len, flag, p, SIZE_MAX, NULL), AC_ERR_ARGUMENT);
  }
  CHECK_STATUS(ac_v2_record_seal(&x.sealer, out.at, out.len, 4, p, TEXT, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(ac_v2_record_seal(&x.sealer, out.at, out.len, AC_FLAG_MORE, NULL, 0, NULL), AC_ERR_ARGUMENT);
  CHECK(ac_v2_object_bytes(SIZE_MAX, AC_FLAG_WHOLE, NULL) == SIZE_MAX);
  CHECK(ac_v2_object_bytes(MOST_PLAINTEXT + 1, AC_FLAG_WHOLE, NULL) == SIZE_MAX);
  CHECK(ac_v2_object_bytes(MOST_PLAINTEXT, AC_FLAG_WHOLE, NULL) != SIZE_MAX);
  CHECK(bytes_untouched(&out) && len == 99 && memcmp(&x.sealer, &before, sizeof before) == 0);
  CHECK_STATUS(ac_v2_record_seal(&x.sealer, out.at, out.len, AC_FLAG_MORE, p, TEXT, fits), AC_OK);
  refused(OBJECT, &x.sealer, AC_ERR_ARGUMENT); /* something was sealed */
  refused(REFUSAL, &x.sealer, AC_ERR_ARGUMENT);
  CHECK_STATUS(ac_v2_record_seal(&x.sealer, out.at, out.len, AC_FLAG_WHOLE, p, TEXT, NULL), AC_ERR_ARGUMENT);
  CHECK_STATUS(ac_v2_record_seal(&x.sealer, out.at, out.len, AC_FLAG_END, NULL, 0, NULL), AC_OK);
  for (size_t enc_len = 0; enc_len <= AC_V2_MAX_ENC_BYTES + 1; enc_len += AC_V2_MAX_ENC_BYTES + 1) {
    CHECK_STATUS(ac_v2_sealer_init(&x.sealer, secret, out.at, enc_len), AC_ERR_ARGUMENT);
    CHECK_STATUS(ac_v2_opener_init(&x.opener, secret, out.at, enc_len, secret), AC_ERR_ARGUMENT);
  }
  bytes_free(&out);
}

/* ---- nonces ---- */

/* Record `index` has been sealed under base XOR index and flag || usage: opened here with nothing of what sealed it. */
static void sealed_as(const ac_v2_sealer *before, uint64_t index, uint32_t flag, const uint64_t *usage, const uint8_t *sealed) {
  uint8_t nonce[AC_NONCE_BYTES], aad[25] = {(uint8_t)flag}, opened[TEXT];
  memcpy(nonce, before->base, sizeof nonce);
  for (size_t i = 0; i < 8; i++) nonce[11 - i] ^= (uint8_t)(index >> 8 * i);
  for (size_t i = 0; usage != NULL && i < 24; i++) aad[1 + i] = (uint8_t)(usage[i / 8] >> (56 - i % 8 * 8));
  CHECK_STATUS(ac_aes256gcm_open(&before->aes, opened, TEXT, nonce, sealed, TEXT + AC_TAG_BYTES, aad, usage ? 25 : 1), AC_OK);
  CHECK_EQUAL(opened, text, TEXT);
}

static void counter(void) {
  static const uint64_t indices[] = {0, 1, 2, 255, 256, 65535, 65536, 16777216, 4294967293, 4294967294, 4294967295};
  v2_exchange x = v2_exchange_make(1);
  for (size_t i = 0; i < sizeof indices / sizeof indices[0]; i++) {
    for (uint32_t flag = 0; flag < 4; flag++) {
      for (int shown = 0; shown < 2; shown++) {
        ac_v2_sealer sealer = x.sealer;
        const uint64_t *const usage = shown ? usage_numbers : NULL;
        uint8_t sealed[TEXT + AC_TAG_BYTES];
        sealer.index = indices[i];
        const int status = ac_v2_record_seal(&sealer, sealed, sizeof sealed, flag, (const uint8_t *)text, TEXT, usage);
        if (indices[i] == AC_V2_MAX_RECORDS - 1 && flag != AC_FLAG_ABORT) { /* kept back for the abort */
          CHECK_STATUS(status, AC_ERR_LIMIT);
          continue;
        }
        CHECK_STATUS(status, AC_OK);
        CHECK(sealer.index == indices[i] + 1 && sealer.bytes_left == x.sealer.bytes_left - TEXT);
        sealed_as(&x.sealer, indices[i], flag, usage, sealed);
      }
    }
  }
}

/* ---- limits and state ---- */

static void limits(void) {
  for (writer w = 0; w < WRITERS; w++) {
    v2_exchange x = v2_exchange_make(1);
    const int aborts = last_flag(w) == AC_FLAG_ABORT;
    const uint64_t kept_records = aborts ? 0 : 1, kept_bytes = aborts ? 0 : AC_V2_ABORT_BYTES;
    CHECK(x.sealer.index == 0 && x.sealer.bytes_left == AC_V2_MAX_STREAM_BYTES);
    const ac_v2_sealer fresh = x.sealer;
    const uint64_t last = AC_V2_MAX_RECORDS - records_of(w) - kept_records, least = kept_bytes + plaintext_len_of(w);
    bytes out = bytes_new(2000);
    size_t len = 0;
    x.sealer.index = last + 1;
    refused(w, &x.sealer, AC_ERR_LIMIT);
    x.sealer.index = AC_V2_MAX_RECORDS;
    refused(w, &x.sealer, AC_ERR_LIMIT);
    x.sealer.index = UINT64_MAX;
    refused(w, &x.sealer, AC_ERR_LIMIT);
    x.sealer.index = last;
    x.sealer.bytes_left = least - 1;
    refused(w, &x.sealer, AC_ERR_LIMIT);
    x.sealer.bytes_left = 0;
    refused(w, &x.sealer, AC_ERR_LIMIT);
    x.sealer.bytes_left = least;
    CHECK_STATUS(write(w, &x.sealer, &out, &len), AC_OK);
    CHECK(x.sealer.index == AC_V2_MAX_RECORDS - kept_records && x.sealer.bytes_left == kept_bytes);
    if (last_flag(w) == AC_FLAG_MORE) { /* spent: an abort can still be sealed, and nothing else */
      refused(EVENT, &x.sealer, AC_ERR_LIMIT);
      refused(EVENTS, &x.sealer, AC_ERR_LIMIT);
      refused(RECORD, &x.sealer, AC_ERR_LIMIT);
      CHECK_STATUS(write(ABORT, &x.sealer, &out, &len), AC_OK);
    }
    refused(EVENT, &x.sealer, x.sealer.state == AC_STATE_ENDED ? AC_ERR_STATE : AC_ERR_LIMIT);
    x.sealer = fresh;
    bytes_free(&out);
  }
}

static void nothing_works(ac_v2_sealer *sealer) {
  for (writer w = 0; w < WRITERS; w++) refused(w, sealer, AC_ERR_STATE);
}

static void nothing_left(const ac_v2_sealer *sealer, const ac_v2_sealer *before, uint32_t state) {
  CHECK(!holds_run_of(sealer, sizeof *sealer, before->aes.words, 32) && !holds_run_of(sealer, sizeof *sealer, before->base, 12));
  CHECK(sealer->state == state && all_zero(&sealer->aes, sizeof sealer->aes) && all_zero(sealer->base, sizeof sealer->base));
  CHECK_EQUAL(sealer->salt, before->salt, sizeof sealer->salt); /* is public, and may be asked for */
}

static void states(void) {
  for (writer w = 0; w < WRITERS; w++) { /* after the end, of each kind */
    v2_exchange x = v2_exchange_make(1);
    const ac_v2_sealer before = x.sealer;
    bytes out = bytes_new(2000);
    size_t len = 0;
    CHECK_STATUS(write(w, &x.sealer, &out, &len), AC_OK);
    if (last_flag(w) != AC_FLAG_MORE) {
      nothing_left(&x.sealer, &before, AC_STATE_ENDED);
      nothing_works(&x.sealer);
    }
    for (int twice = 0; twice < 2; twice++) {
      if (w % 2)
        CHECK_STATUS(ac_v2_sealer_close(&x.sealer), AC_OK);
      else
        ac_v2_sealer_wipe(&x.sealer);
      nothing_left(&x.sealer, &before, AC_STATE_CLOSED);
      nothing_works(&x.sealer);
    }
    bytes_free(&out);
  }
  ac_v2_sealer none = {0}; /* never made */
  nothing_works(&none);
  CHECK_STATUS(ac_v2_sealer_close(&none), AC_OK);
  nothing_works(&none);
}

/* A seal that does not yield a complete event fails the sealer, and not even an abort follows. */
static void faults(void) {
  if (strcmp(ac_aes_backend_name(ac_aes_backend_default()), "sodium") != 0) return; /* only that one can fail */
  for (writer w = 0; w < WRITERS; w++) {
    for (unsigned after = 0; after < records_of(w); after++) {
      v2_exchange x = v2_exchange_make(1);
      const ac_v2_sealer before = x.sealer;
      bytes out = bytes_new(2000);
      size_t len = 99;
      fault_plant(IN_ENCRYPT, REFUSES, after);
      CHECK_STATUS(write(w, &x.sealer, &out, &len), AC_ERR_PRIMITIVE);
      CHECK(fault_struck() && len == 99 && !holds_run_of(out.at, out.len, text, TEXT));
      CHECK(x.sealer.busy == 0 && x.sealer.index == after + 1); /* spent, whatever became of it */
      nothing_left(&x.sealer, &before, AC_STATE_FAILED);
      nothing_works(&x.sealer);
      CHECK_STATUS(ac_v2_sealer_close(&x.sealer), AC_OK);
      bytes_free(&out);
    }
  }
}

/* Plaintexts of each length, in both kinds of call, are what the client reads. */
static void sizes(void) {
  v2_exchange x = v2_exchange_make(1);
  char plaintext[130];
  memset(plaintext, 'x', sizeof plaintext);
  for (size_t len = 1; len < sizeof plaintext; len++) {
    const uint64_t numbers[AC_V2_USAGE] = {len, len * len, 9007199254740991 >> len % 53};
    uint64_t span[AC_V2_SPAN];
    bytes opened = {0};
    plaintext[len] = 0;
    bytes event = v2_seal(&x.sealer, AC_FLAG_MORE, plaintext, len % 2 ? numbers : NULL);
    CHECK_STATUS(v2_open_alone(&x.opener, &opened, span, viewed(&event)), AC_OK);
    CHECK_SAME(opened, view_of(plaintext));
    CHECK(span[0] == len && span[1] == AC_FLAG_MORE && span[2] == len % 2 && (len % 2 == 0 || usage_is(span + 3, numbers)));
    plaintext[len] = 'x';
    bytes_free(&event);
    bytes_free(&opened);
  }
}

void test_v2_sealer(void) {
  capacity();
  overlap();
  arguments();
  counter();
  limits();
  states();
  faults();
  sizes();
}
