/* AES-256-GCM: every backend against every other one, at every length; forgeries, overlap, capacity, state. */
#include "harness.h"

enum { LONGEST = 1100, EVERY_AAD = 600, LONGEST_AAD = 40 }; /* up to EVERY_AAD bytes, each with each length of AAD */

typedef struct material {
  uint8_t key[AC_KEY_BYTES], nonce[AC_NONCE_BYTES], plaintext[LONGEST], aad[LONGEST_AAD];
} material;

static void fill(void *p, size_t len) {
  uint8_t *at = p;
  for (size_t i = 0; i < len; i++) at[i] = (uint8_t)random_below(256);
}

/* Sealed by one backend; the others write the same, to another place and in place, and read it in both ways. */
static void agree(const ac_aes256gcm *aes, unsigned count, const material *m, size_t len, size_t aad_len) {
  const size_t sealed_len = len + AC_TAG_BYTES;
  bytes plaintext = bytes_copy(m->plaintext, len), aad = bytes_copy(m->aad, aad_len), want = {0};
  for (unsigned i = 0; i < count; i++) {
    bytes sealed = bytes_new(sealed_len), opened = bytes_new(len), place = bytes_new(sealed_len);
    CHECK_STATUS(ac_aes256gcm_seal(&aes[i], sealed.at, sealed_len, m->nonce, plaintext.at, len, aad.at, aad_len),
                 AC_OK);
    if (want.at == NULL) want = bytes_copy(sealed.at, sealed_len);
    CHECK_SAME(sealed, want);
    CHECK_STATUS(ac_aes256gcm_open(&aes[i], opened.at, len, m->nonce, sealed.at, sealed_len, aad.at, aad_len), AC_OK);
    CHECK_SAME(opened, plaintext);
    if (len != 0) memcpy(place.at, plaintext.at, len);
    CHECK_STATUS(ac_aes256gcm_seal(&aes[i], place.at, sealed_len, m->nonce, place.at, len, aad.at, aad_len), AC_OK);
    CHECK_SAME(place, want);
    CHECK_STATUS(ac_aes256gcm_open(&aes[i], place.at, len, m->nonce, place.at, sealed_len, aad.at, aad_len), AC_OK);
    CHECK_EQUAL(place.at, plaintext.at, len);
    bytes_free(&sealed);
    bytes_free(&opened);
    bytes_free(&place);
  }
  bytes_free(&want);
  bytes_free(&plaintext);
  bytes_free(&aad);
}

static void forge_one(const ac_aes256gcm *aes, const material *m, const bytes *forged, size_t aad_len) {
  const size_t len = forged->len - AC_TAG_BYTES;
  bytes out = bytes_new(len), aad = bytes_copy(m->aad, aad_len), place = bytes_copy(forged->at, forged->len);
  CHECK_STATUS(ac_aes256gcm_open(aes, out.at, len, m->nonce, forged->at, forged->len, aad.at, aad_len), AC_ERR_AUTH);
  CHECK(all_zero(out.at, len));
  CHECK_STATUS(ac_aes256gcm_open(aes, place.at, len, m->nonce, place.at, place.len, aad.at, aad_len), AC_ERR_AUTH);
  CHECK(all_zero(place.at, len) && memcmp(place.at + len, forged->at + len, AC_TAG_BYTES) == 0);
  bytes_free(&out);
  bytes_free(&aad);
  bytes_free(&place);
}

/* Each byte of the tag, one of the ciphertext, one of the AAD, the nonce and the length. */
static void forge(const ac_aes256gcm *aes, const material *m, size_t len, size_t aad_len) {
  const size_t sealed_len = len + AC_TAG_BYTES;
  bytes sealed = bytes_new(sealed_len);
  material other = *m;
  CHECK_STATUS(ac_aes256gcm_seal(aes, sealed.at, sealed_len, m->nonce, m->plaintext, len, m->aad, aad_len), AC_OK);
  for (size_t i = 0; i < AC_TAG_BYTES; i++) {
    const uint8_t bit = (uint8_t)(1u << random_below(8));
    sealed.at[len + i] ^= bit;
    forge_one(aes, m, &sealed, aad_len);
    sealed.at[len + i] ^= bit;
  }
  if (len != 0) {
    const size_t at = random_below((uint32_t)len);
    sealed.at[at] ^= 4;
    forge_one(aes, m, &sealed, aad_len);
    sealed.at[at] ^= 4;
    bytes shorter = bytes_copy(sealed.at, sealed_len - 1);
    forge_one(aes, m, &shorter, aad_len);
    bytes_free(&shorter);
  }
  if (aad_len != 0) {
    other.aad[random_below((uint32_t)aad_len)] ^= 1;
    forge_one(aes, &other, &sealed, aad_len);
    forge_one(aes, m, &sealed, aad_len - 1);
  }
  other = *m;
  other.nonce[random_below(AC_NONCE_BYTES)] ^= 0x80;
  forge_one(aes, &other, &sealed, aad_len);
  bytes_free(&sealed);
}

static void overlap(const ac_aes256gcm *aes) {
  enum { LEN = 48, SEALED = LEN + AC_TAG_BYTES, ROOM = 4 * SEALED };
  uint8_t *room = malloc(ROOM), nonce[AC_NONCE_BYTES] = {0}, before[ROOM];
  if (room == NULL) abort();
  memset(room, 1, ROOM);
  memcpy(before, room, ROOM);
  uint8_t *const out = room + SEALED;
  for (size_t at = 0; at <= ROOM - SEALED; at++) {
    const size_t distance = at > SEALED ? at - SEALED : SEALED - at;
    uint8_t *const in = room + at;
    /* `in` as plaintext, as AAD, as nonce; what is refused has written nothing */
    int apart = in + LEN <= out || in >= out + SEALED;
    CHECK_STATUS(ac_aes256gcm_seal(aes, out, SEALED, nonce, in, LEN, NULL, 0),
                 apart || in == out ? AC_OK : AC_ERR_OVERLAP);
    CHECK(apart || in == out || memcmp(room, before, ROOM) == 0);
    memcpy(room, before, ROOM);
    CHECK_STATUS(ac_aes256gcm_seal(aes, out, SEALED, nonce, NULL, 0, in, LEN),
                 in + LEN <= out || in >= out + AC_TAG_BYTES ? AC_OK : AC_ERR_OVERLAP);
    memcpy(room, before, ROOM);
    CHECK_STATUS(ac_aes256gcm_seal(aes, out, SEALED, in, NULL, 0, NULL, 0),
                 in + AC_NONCE_BYTES <= out || in >= out + AC_TAG_BYTES ? AC_OK : AC_ERR_OVERLAP);
    memcpy(room, before, ROOM);
    apart = distance == 0 || in + SEALED <= out || in >= out + LEN;
    CHECK_STATUS(ac_aes256gcm_open(aes, out, LEN, nonce, in, SEALED, NULL, 0), apart ? AC_ERR_AUTH : AC_ERR_OVERLAP);
    CHECK(apart || memcmp(room, before, ROOM) == 0);
    memcpy(room, before, ROOM);
    apart = in + LEN <= out || in >= out + LEN;
    CHECK_STATUS(ac_aes256gcm_open(aes, out, LEN, nonce, before, SEALED, in, LEN),
                 apart ? AC_ERR_AUTH : AC_ERR_OVERLAP);
    memcpy(room, before, ROOM);
    apart = in + AC_NONCE_BYTES <= out || in >= out + LEN;
    CHECK_STATUS(ac_aes256gcm_open(aes, out, LEN, in, before, SEALED, NULL, 0), apart ? AC_ERR_AUTH : AC_ERR_OVERLAP);
    memcpy(room, before, ROOM);
  }
  free(room);
}

static void capacity(const ac_aes256gcm *aes, const material *m) {
  enum { LEN = 33 };
  uint8_t sealed[LEN + AC_TAG_BYTES];
  CHECK_STATUS(ac_aes256gcm_seal(aes, sealed, sizeof sealed, m->nonce, m->plaintext, LEN, NULL, 0), AC_OK);
  for (size_t cap = 0; cap < LEN + AC_TAG_BYTES; cap++) {
    bytes out = bytes_new(cap);
    CHECK_STATUS(ac_aes256gcm_seal(aes, out.at, cap, m->nonce, m->plaintext, LEN, NULL, 0), AC_ERR_CAPACITY);
    CHECK(bytes_untouched(&out));
    if (cap < LEN) {
      CHECK_STATUS(ac_aes256gcm_open(aes, out.at, cap, m->nonce, sealed, sizeof sealed, NULL, 0), AC_ERR_CAPACITY);
      CHECK(bytes_untouched(&out));
    }
    if (cap < AC_TAG_BYTES) /* shorter than a tag */
      CHECK_STATUS(ac_aes256gcm_open(aes, NULL, 0, m->nonce, sealed, cap, NULL, 0), AC_ERR_AUTH);
    bytes_free(&out);
  }
}

/* More than one message may have is refused before its room is looked at. */
static void most(const ac_aes256gcm *aes, const material *m) {
  const uint64_t len = AC_GCM_MAX_BYTES;
  uint8_t out[1];
  if (len > SIZE_MAX - 2 * AC_TAG_BYTES) return;
  for (unsigned more = 0; more < 2; more++) {
    CHECK_STATUS(ac_aes256gcm_seal(aes, out, sizeof out, m->nonce, m->plaintext, (size_t)len + more, NULL, 0),
                 more ? AC_ERR_ARGUMENT : AC_ERR_CAPACITY);
    CHECK_STATUS(ac_aes256gcm_open(aes, out, sizeof out, m->nonce, m->plaintext, (size_t)len + AC_TAG_BYTES + more, NULL, 0),
                 more ? AC_ERR_AUTH : AC_ERR_CAPACITY);
  }
}

static void state(void) {
  ac_aes256gcm aes = {0};
  uint8_t key[AC_KEY_BYTES] = {0}, out[AC_TAG_BYTES];
  for (int round = 0; round < 2; round++) { /* never made, and wiped */
    CHECK_STATUS(ac_aes256gcm_seal(&aes, out, sizeof out, key, NULL, 0, NULL, 0), AC_ERR_STATE);
    CHECK_STATUS(ac_aes256gcm_open(&aes, NULL, 0, key, out, sizeof out, NULL, 0), AC_ERR_STATE);
    CHECK_STATUS(ac_aes256gcm_init(&aes, key, ac_aes_backend_default()), AC_OK);
    CHECK_STATUS(ac_aes256gcm_seal(&aes, out, sizeof out, key, NULL, 0, NULL, 0), AC_OK);
    ac_aes256gcm_wipe(&aes);
    CHECK(all_zero(&aes, sizeof aes));
  }
  CHECK_STATUS(ac_aes256gcm_init(&aes, key, 99), AC_ERR_ARGUMENT);
  CHECK(ac_aes_backend_name(99) == NULL && !ac_aes_backend_usable(99));
  CHECK_STATUS(ac_aes256gcm_init(&aes, key, ac_aes_backend_default()), AC_OK);
  aes.backend = 99;
  CHECK_STATUS(ac_aes256gcm_seal(&aes, out, sizeof out, key, NULL, 0, NULL, 0), AC_ERR_STATE);
}

/* Counter blocks, hash and lengths over many groups, at sizes that straddle them; the last has more than 2^16 blocks. */
static void long_messages(const ac_aes256gcm *aes, unsigned count, const material *m) {
  static const size_t sizes[] = {4095, 4096, 4097, 65535, 65536, 65537, (1 << 20) + 4113};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    bytes plaintext = bytes_new(sizes[i]), want = {0};
    for (unsigned b = 0; b < count; b++) {
      bytes sealed = bytes_new(sizes[i] + AC_TAG_BYTES), aad = bytes_new(sizes[i] / 3);
      CHECK_STATUS(ac_aes256gcm_seal(&aes[b], sealed.at, sealed.len, m->nonce, plaintext.at, plaintext.len, aad.at,
                                     aad.len),
                   AC_OK);
      if (want.at == NULL) want = bytes_copy(sealed.at, sealed.len);
      CHECK_SAME(sealed, want);
      bytes_free(&sealed);
      bytes_free(&aad);
    }
    bytes_free(&plaintext);
    bytes_free(&want);
  }
}

void test_gcm(void) {
  ac_aes256gcm aes[MOST_BACKENDS];
  material m;
  unsigned count = 0;
  fill(&m, sizeof m);
  for (unsigned i = 0; ac_aes_backend_name(i) != NULL && count < MOST_BACKENDS; i++) {
    if (ac_aes_backend_usable(i)) CHECK_STATUS(ac_aes256gcm_init(&aes[count++], m.key, i), AC_OK);
  }
  for (size_t len = 0; len <= LONGEST; len += stride()) {
    for (size_t aad_len = 0; aad_len <= LONGEST_AAD; aad_len++) {
      if (len <= EVERY_AAD || aad_len == 0 || aad_len == len % LONGEST_AAD) agree(aes, count, &m, len, aad_len);
    }
    for (unsigned i = 0; i < count; i++) forge(&aes[i], &m, len, len % (LONGEST_AAD + 1));
  }
  for (unsigned i = 0; i < count; i++) {
    overlap(&aes[i]);
    capacity(&aes[i], &m);
    most(&aes[i], &m);
  }
  long_messages(aes, count, &m);
  state();
}
