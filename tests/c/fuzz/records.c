/* v2's records between two ends, against a model of a few numbers: what is opened is the next record, unchanged. */
#include "fuzz.h"

enum { MOST_RECORDS = 8, MOST_PLAINTEXT = 160 };

static const exchange *x;
static ac_v2_sealer first_sealer;
static ac_v2_opener first_opener;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  static const uint8_t secret[AC_HASH_BYTES] = {3}, enc[AC_X25519_BYTES] = {4};
  (void)argc;
  (void)argv;
  fuzz_init();
  x = exchange_make();
  MUST(ac_v2_sealer_init(&first_sealer, secret, enc, sizeof enc) == AC_OK);
  MUST(ac_v2_opener_init(&first_opener, secret, enc, sizeof enc, first_sealer.salt) == AC_OK);
  return 0;
}

typedef struct record {
  uint8_t bytes[MOST_PLAINTEXT + AC_TAG_BYTES], plaintext[MOST_PLAINTEXT];
  size_t len;
  uint64_t index, usage[AC_V2_USAGE];
  uint32_t flag;
  int shows;
} record;

typedef struct machine {
  ac_v2_sealer sealer;
  ac_v2_opener opener;
  record records[MOST_RECORDS];
  size_t count;
} machine;

static int fits(const uint64_t *usage) {
  return usage == NULL || (usage[0] <= ACI_V2_MAX_INTEGER && usage[1] <= ACI_V2_MAX_INTEGER && usage[2] <= ACI_V2_MAX_INTEGER);
}

/* `in` of in_len bytes and room for out_len, apart, in one place, or so that they share bytes. */
typedef struct places {
  uint8_t *in, *out;
  int overlap;
} places;

static places take_places(tape *t, const uint8_t *from, size_t in_len, size_t written, size_t out_cap) {
  enum { SHIFT = 40 };
  const unsigned how = take(t);
  if (how < 128) return (places){copied(from, in_len), room(out_cap), 0};
  const size_t in_at = how < 192 ? 0 : take_below(t, SHIFT), out_at = how < 192 ? 0 : take_below(t, SHIFT);
  uint8_t *const both = room((in_len > out_cap ? in_len : out_cap) + (how < 192 ? 0 : SHIFT));
  if (in_len != 0) memcpy(both + in_at, from, in_len);
  const int shares = in_len != 0 && written != 0 && in_at < out_at + written && out_at < in_at + in_len;
  return (places){both + in_at, both + out_at, shares && in_at != out_at};
}

static size_t take_cap(tape *t, size_t need) {
  const unsigned how = take(t);
  return how < 200 ? need : how < 225 ? need + how % 9 : need - (need < how % 9 ? need : how % 9);
}

static uint64_t *take_usage(tape *t) {
  const unsigned how = take(t);
  if (how < 128) return NULL;
  uint64_t *const usage = (uint64_t *)(void *)room(AC_V2_USAGE * sizeof *usage);
  for (size_t i = 0; i < AC_V2_USAGE; i++) usage[i] = how < 200 ? (uint64_t)how * i : take_number(t);
  return usage;
}

static void seal(machine *m, tape *t) {
  uint8_t plaintext[MOST_PLAINTEXT];
  const size_t len = take(t) % (MOST_PLAINTEXT + 1), need = len + AC_TAG_BYTES;
  const unsigned how = take(t);
  const uint32_t flag = how < 192 ? AC_FLAG_MORE : how % 5;
  uint64_t *const usage = take_usage(t);
  for (size_t i = 0; i < len; i++) plaintext[i] = (uint8_t)"atoma-in-clear"[i % 14];
  const size_t cap = take_cap(t, need);
  const places p = take_places(t, plaintext, len, need, cap);
  const ac_v2_sealer before = m->sealer;
  const uint8_t *const out_before = copied(p.out, cap);
  const int status = ac_v2_record_seal(&m->sealer, p.out, cap, flag, p.in, len, usage);
  const uint64_t keep = flag == AC_FLAG_ABORT ? 0 : 1;
  const int limit = before.index + 1 + keep > AC_V2_MAX_RECORDS || len + keep * AC_V2_ABORT_BYTES > before.bytes_left;
  const int want = flag > AC_FLAG_WHOLE || (flag == AC_FLAG_MORE && len == 0) || !fits(usage) ? AC_ERR_ARGUMENT
                   : cap < need                                                                ? AC_ERR_CAPACITY
                   : p.overlap                                                                 ? AC_ERR_OVERLAP
                   : before.busy                                                               ? AC_ERR_BUSY
                   : before.state != AC_STATE_READY                                            ? AC_ERR_STATE
                   : flag == AC_FLAG_WHOLE && before.begun                                     ? AC_ERR_ARGUMENT
                   : limit                                                                     ? AC_ERR_LIMIT
                                                                                               : AC_OK;
  MUST(status == want);
  if (status != AC_OK) {
    MUST(memcmp(&before, &m->sealer, sizeof before) == 0 && memcmp(p.out, out_before, cap) == 0);
    return;
  }
  MUST(m->sealer.index == before.index + 1 && m->sealer.bytes_left == before.bytes_left - len && m->sealer.begun);
  MUST((m->sealer.state == AC_STATE_ENDED) == (flag != AC_FLAG_MORE) && memcmp(p.out + need, out_before + need, cap - need) == 0);
  record *const r = &m->records[m->count++ % MOST_RECORDS];
  *r = (record){.len = need, .index = before.index, .flag = flag, .shows = usage != NULL};
  memcpy(r->bytes, p.out, need);
  memcpy(r->plaintext, plaintext, len);
  if (usage != NULL) memcpy(r->usage, usage, sizeof r->usage);
}

static void open(machine *m, tape *t) {
  record none = {.len = take_below(t, 40)};
  const record *r = &none;
  const unsigned which = take(t), change = take(t);
  for (size_t i = 0; i < m->count && i < MOST_RECORDS; i++) {
    if (which < 200 ? m->records[i].index == m->opener.index : i == which % MOST_RECORDS) r = &m->records[i];
  }
  uint8_t bytes[MOST_PLAINTEXT + AC_TAG_BYTES + 8];
  size_t len = r->len;
  memcpy(bytes, r->bytes, len);
  uint32_t flag = r->flag;
  uint64_t *usage = r->shows ? (uint64_t *)(void *)copied(r->usage, sizeof r->usage) : NULL;
  if ((change & 0xe0) == 0xe0) len = mutate(t, bytes, len, sizeof bytes);
  if ((change & 0x1c) == 0x1c) flag = take_below(t, 6);
  if ((change & 0x13) == 0x13) usage = take_usage(t);
  if (change % 8 == 1 && usage != NULL) usage[take(t) % AC_V2_USAGE] ^= UINT64_C(1) << take_below(t, 64); /* one bit */
  const int genuine = r != &none && len == r->len && memcmp(bytes, r->bytes, len) == 0 && flag == r->flag &&
                      (usage != NULL) == r->shows && (usage == NULL || memcmp(usage, r->usage, sizeof r->usage) == 0) &&
                      r->index == m->opener.index;
  const size_t need = len < AC_TAG_BYTES ? 0 : len - AC_TAG_BYTES, cap = take_cap(t, need);
  const places p = take_places(t, bytes, len, need, cap);
  const ac_v2_opener before = m->opener;
  const uint8_t *const out_before = copied(p.out, cap);
  const int status = ac_v2_record_open(&m->opener, p.out, cap, flag, p.in, len, usage);
  const int ready = before.state == AC_STATE_READY || before.state == AC_STATE_ENDED;
  const int format = before.ended || flag > AC_FLAG_WHOLE || !fits(usage) || len < AC_TAG_BYTES ||
                     (flag == AC_FLAG_MORE && len == AC_TAG_BYTES) || (flag == AC_FLAG_WHOLE && before.index != 0);
  const int want = cap < need                                                             ? AC_ERR_CAPACITY
                   : p.overlap                                                            ? AC_ERR_OVERLAP
                   : before.busy                                                          ? AC_ERR_BUSY
                   : !ready                                                               ? AC_ERR_STATE
                   : !before.keyed                                                        ? AC_ERR_ARGUMENT
                   : format                                                               ? AC_ERR_FORMAT
                   : before.index >= AC_V2_MAX_RECORDS || need > before.bytes_left        ? AC_ERR_TOO_LARGE
                   : genuine                                                              ? AC_OK
                                                                                          : AC_ERR_AUTH;
  MUST(status == want);
  if (status == AC_OK) {
    MUST(memcmp(p.out, r->plaintext, need) == 0 && memcmp(p.out + need, out_before + need, cap - need) == 0);
    MUST(m->opener.index == before.index + 1 && m->opener.bytes_left == before.bytes_left - need);
    MUST((m->opener.ended != 0) == (flag != AC_FLAG_MORE) && (!m->opener.ended || all_zero(&m->opener.key, sizeof m->opener.key)));
    return;
  }
  if (status == AC_ERR_AUTH || status == AC_ERR_FORMAT || status == AC_ERR_TOO_LARGE) {
    MUST(m->opener.state == AC_STATE_FAILED && all_zero(&m->opener.key, sizeof m->opener.key) && m->opener.busy == 0);
    MUST(all_zero(m->opener.base, sizeof m->opener.base) && m->opener.ended == before.ended && m->opener.index == before.index);
    MUST(status != AC_ERR_AUTH || all_zero(p.out, need));
    MUST(!holds_plaintext(p.out, cap));
    return;
  }
  MUST(memcmp(&before, &m->opener, sizeof before) == 0 && memcmp(p.out, out_before, cap) == 0);
}

/* Near the limits, closed, held by another, or waiting for a salt. */
static void turn(machine *m, tape *t) {
  const unsigned how = take(t);
  const uint64_t left = AC_V2_ABORT_BYTES * (uint64_t)(how & 1) + take(t);
  m->sealer.busy = m->opener.busy = 0;
  switch (how / 2 % 8) {
    case 0: m->sealer.bytes_left = left; break;
    case 1: m->opener.bytes_left = left; break;
    case 2:
      if (m->count != 0 || m->sealer.index != 0) break;
      m->sealer.index = AC_V2_MAX_RECORDS - left % 4;
      m->sealer.begun = 1;
      m->opener.index = m->sealer.index;
      break;
    case 3: m->sealer.busy = 1; break;
    case 4: m->opener.busy = 1; break;
    case 5:
      if (how & 64) MUST(ac_v2_sealer_close(&m->sealer) == AC_OK);
      break;
    case 6:
      if (how & 64) MUST(ac_v2_opener_close(&m->opener) == AC_OK);
      break;
    default:
      if (how & 64) m->opener = x->v2_opener;
      break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len) {
  enum { MOST_STEPS = 24 };
  static machine m;
  tape t = {in, len};
  m.sealer = first_sealer;
  m.opener = first_opener;
  m.count = 0;
  for (unsigned i = 0; i < MOST_STEPS && t.left != 0; i++) {
    arena_reset();
    const unsigned what = take_below(&t, 16);
    if (what < 7) seal(&m, &t);
    else if (what < 15) open(&m, &t);
    else turn(&m, &t);
  }
  return 0;
}
