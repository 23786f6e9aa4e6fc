/* AES-256-GCM: random cases, each backend against the model, at every alignment. Each case is made from its number
 * alone, so that one that fails can be run again. */
#include "harness.h"

enum {
  CASES = 100000,
  LONGEST = 4096,
  LONGEST_AAD = 300,
  ALIGNMENTS = 64,
  MARGIN = ALIGNMENTS, /* at least so much around what is placed */
  ROOM = MARGIN + ALIGNMENTS + LONGEST + AC_TAG_BYTES + MARGIN,
  PATTERN = 0xa5
};

static const uint64_t SEED = 0x61746f6d612d6763;

/* Steele, Lea and Flood's SplitMix64. */
static uint64_t next(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

static size_t below(uint64_t *state, size_t bound) { return (size_t)(next(state) % bound); }

static void fill(uint64_t *state, uint8_t *p, size_t len) {
  for (size_t at = 0; at < len; at += sizeof(uint64_t)) {
    const uint64_t word = next(state);
    memcpy(p + at, &word, len - at < sizeof word ? len - at : sizeof word);
  }
}

typedef struct message {
  uint8_t nonce[AC_NONCE_BYTES], text[LONGEST + AC_TAG_BYTES], aad[LONGEST_AAD];
  size_t len, aad_len;
} message;

typedef struct alignment {
  size_t key, nonce, in, out, aad;
  int in_place; /* at `out` */
} alignment;

static unsigned met[2][3][ALIGNMENTS]; /* in place or not; input, output and AAD */

/* Half of the lengths lie anywhere; the others at the ends of blocks, or are short as tokens are. */
static size_t some_length(uint64_t *state) {
  const size_t near = 16 * below(state, LONGEST / 16 + 1) + below(state, 3);
  switch (below(state, 4)) {
  case 0: return near == 0 ? 0 : near - 1 < LONGEST ? near - 1 : LONGEST;
  case 1: return below(state, 600);
  default: return below(state, LONGEST + 1);
  }
}

static alignment some_alignment(uint64_t *state) {
  alignment a = {.key = below(state, ALIGNMENTS), .nonce = below(state, ALIGNMENTS), .aad = below(state, ALIGNMENTS)};
  a.in_place = (int)below(state, 2);
  a.out = below(state, ALIGNMENTS);
  a.in = a.in_place ? a.out : below(state, ALIGNMENTS);
  met[a.in_place][0][a.in]++;
  met[a.in_place][1][a.out]++;
  met[a.in_place][2][a.aad]++;
  return a;
}

/* ---- one call ---- */

/* Nothing but a pattern all around; `from` may be NULL. */
static uint8_t *place(uint8_t room[ROOM], size_t at, const uint8_t *from, size_t len) {
  memset(room, PATTERN, ROOM);
  uint8_t *const p = room + MARGIN + at;
  if (from != NULL && len != 0) memcpy(p, from, len);
  return p;
}

static int is_pattern(const uint8_t *p, size_t len) {
  static uint8_t pattern[ROOM];
  if (pattern[0] == 0) memset(pattern, PATTERN, sizeof pattern);
  return memcmp(p, pattern, len) == 0;
}

/* `in` becomes `want`, or zeros of that length, and nothing else is written. */
static int gives(const ac_aes256gcm *aes, const alignment *a, const message *in, int opening, int status,
                 const uint8_t *want, size_t want_len) {
  _Alignas(ALIGNMENTS) static uint8_t nonce_room[ROOM], in_room[ROOM], out_room[ROOM], aad_room[ROOM];
  const uint8_t *const nonce = place(nonce_room, a->nonce, in->nonce, AC_NONCE_BYTES);
  const uint8_t *const aad = place(aad_room, a->aad, in->aad, in->aad_len);
  uint8_t *const out = place(out_room, a->out, a->in_place ? in->text : NULL, in->len);
  const uint8_t *const text = a->in_place ? out : place(in_room, a->in, in->text, in->len);
  const int got = opening ? ac_aes256gcm_open(aes, out, want_len, nonce, text, in->len, aad, in->aad_len)
                          : ac_aes256gcm_seal(aes, out, want_len, nonce, text, in->len, aad, in->aad_len);
  int good = CHECK_STATUS(got, status);
  good &= CHECK(status == AC_OK ? memcmp(out, want, want_len) == 0 : all_zero(out, want_len));
  size_t end = MARGIN + a->out + want_len;
  good &= CHECK(is_pattern(out_room, MARGIN + a->out));
  if (a->in_place && opening) { /* the tag is still there */
    good &= CHECK(memcmp(out_room + end, in->text + want_len, AC_TAG_BYTES) == 0);
    end += AC_TAG_BYTES;
  }
  good &= CHECK(is_pattern(out_room + end, ROOM - end));
  return good;
}

/* ---- one case ---- */

/* One bit of the ciphertext, the tag, the AAD or the nonce. */
static void spoil(message *m, uint64_t *state) {
  const size_t ciphertext_len = m->len - AC_TAG_BYTES;
  const uint8_t bit = (uint8_t)(1u << below(state, 8));
  const size_t where = below(state, 4);
  if (where == 0 && ciphertext_len != 0) {
    m->text[below(state, ciphertext_len)] ^= bit;
  } else if (where == 1 && m->aad_len != 0) {
    m->aad[below(state, m->aad_len)] ^= bit;
  } else if (where == 2) {
    m->nonce[below(state, AC_NONCE_BYTES)] ^= bit;
  } else {
    m->text[ciphertext_len + below(state, AC_TAG_BYTES)] ^= bit;
  }
}

static void compare(unsigned number) {
  static message plain, sealed, spoilt;
  _Alignas(ALIGNMENTS) static uint8_t key_room[ALIGNMENTS + AC_KEY_BYTES];
  uint64_t state = SEED + number * UINT64_C(0x100000001);
  const alignment a = some_alignment(&state);
  uint8_t *const key = key_room + a.key;
  ac_aes256gcm aes;

  plain.len = some_length(&state);
  plain.aad_len = below(&state, LONGEST_AAD + 1);
  fill(&state, key, AC_KEY_BYTES);
  fill(&state, plain.nonce, AC_NONCE_BYTES);
  fill(&state, plain.text, plain.len);
  fill(&state, plain.aad, plain.aad_len);
  sealed = plain;
  sealed.len += AC_TAG_BYTES;
  CHECK_STATUS(ac_aes256gcm_init(&aes, key, model_backend()), AC_OK);
  CHECK_STATUS(ac_aes256gcm_seal(&aes, sealed.text, sealed.len, plain.nonce, plain.text, plain.len, plain.aad,
                                 plain.aad_len),
               AC_OK);
  spoilt = sealed;
  spoil(&spoilt, &state);
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL; i++) {
    if (!ac_aes_backend_usable(i)) continue;
    CHECK_STATUS(ac_aes256gcm_init(&aes, key, i), AC_OK);
    if (gives(&aes, &a, &plain, 0, AC_OK, sealed.text, sealed.len) &
        gives(&aes, &a, &sealed, 1, AC_OK, plain.text, plain.len) &
        gives(&aes, &a, &spoilt, 1, AC_ERR_AUTH, NULL, plain.len))
      continue;
    printf("    case %u (seed %#llx) by %s: %zu bytes, %zu of AAD; alignments: key %zu, nonce %zu, in %zu, out %zu, "
           "aad %zu\n",
           number, (unsigned long long)SEED, ac_aes_backend_name(i), plain.len, plain.aad_len, a.key, a.nonce, a.in,
           a.out, a.aad);
  }
}

void compare_backends(unsigned first, unsigned count) {
  for (unsigned i = 0; i < count; i++) compare(first + i);
}

void test_differential(void) {
  memset(met, 0, sizeof met);
  compare_backends(0, CASES / stride());
  for (size_t i = 0; i < ALIGNMENTS; i++) {
    for (size_t which = 0; which < 3; which++) CHECK(met[0][which][i] != 0 && met[1][which][i] != 0);
  }
}
