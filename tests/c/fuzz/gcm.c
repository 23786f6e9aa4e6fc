/* AES-256-GCM: each backend that this CPU has against the one that is written for clarity, and against what was promised. */
#include "fuzz.h"

enum { KEYS = 4, BACKENDS = 8, MOST = 1500 };

static ac_aes256gcm contexts[KEYS][BACKENDS];
static unsigned backends, model;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  fuzz_init();
  while (ac_aes_backend_name(backends) != NULL) backends++;
  MUST(backends <= BACKENDS);
  for (unsigned b = 0; b < backends; b++) {
    if (strcmp(ac_aes_backend_name(b), "portable") == 0) model = b;
    for (unsigned k = 0; k < KEYS; k++) {
      uint8_t key[AC_KEY_BYTES] = {0};
      for (size_t i = 0; i < sizeof key && k != 0; i++) key[i] = k == 1 ? 0xff : (uint8_t)(k * 37 + i * 101);
      if (ac_aes_backend_usable(b)) MUST(ac_aes256gcm_init(&contexts[k][b], key, b) == AC_OK);
      else MUST(ac_aes256gcm_init(&contexts[k][b], key, b) == AC_ERR_ARGUMENT);
    }
  }
  return 0;
}

typedef struct message {
  uint8_t nonce[AC_NONCE_BYTES];
  view plaintext, aad, sealed;
} message;

static void check_backend(const ac_aes256gcm *aes, const message *m, tape t) {
  const size_t len = m->plaintext.len, sealed_len = m->sealed.len;
  const uint8_t *const nonce = copied(m->nonce, sizeof m->nonce), *const aad = copied(m->aad.at, m->aad.len);
  uint8_t *const apart = room(sealed_len), *const over = room(sealed_len), *const back = room(len);
  /* seal: apart, and in place */
  MUST(ac_aes256gcm_seal(aes, apart, sealed_len, nonce, copied(m->plaintext.at, len), len, aad, m->aad.len) == AC_OK);
  MUST(memcmp(apart, m->sealed.at, sealed_len) == 0);
  if (len != 0) memcpy(over, m->plaintext.at, len);
  MUST(ac_aes256gcm_seal(aes, over, sealed_len, nonce, over, len, aad, m->aad.len) == AC_OK);
  MUST(memcmp(over, m->sealed.at, sealed_len) == 0);
  /* open */
  MUST(ac_aes256gcm_open(aes, back, len, nonce, apart, sealed_len, aad, m->aad.len) == AC_OK);
  MUST(same((view){back, len}, m->plaintext));
  MUST(ac_aes256gcm_open(aes, over, len, nonce, over, sealed_len, aad, m->aad.len) == AC_OK);
  MUST(same((view){over, len}, m->plaintext));
  /* one bit: of the sealed message, of the nonce, of the additional data */
  uint8_t *const forged = copied(m->sealed.at, sealed_len), *const bad_nonce = copied(nonce, AC_NONCE_BYTES);
  uint8_t *const bad_aad = copied(m->aad.at, m->aad.len);
  const unsigned what = take(&t), where = take(&t) * 256u + take(&t);
  const uint8_t bit = (uint8_t)(1 << what / 4 % 8);
  if (what % 4 == 0) bad_nonce[where % AC_NONCE_BYTES] ^= bit;
  else if (what % 4 == 1 && m->aad.len != 0) bad_aad[where % m->aad.len] ^= bit;
  else if (what % 4 == 2) forged[sealed_len - 1 - where % AC_TAG_BYTES] ^= bit;
  else forged[where % sealed_len] ^= bit;
  if (len != 0) memset(back, PATTERN, len);
  MUST(ac_aes256gcm_open(aes, back, len, bad_nonce, forged, sealed_len, bad_aad, m->aad.len) == AC_ERR_AUTH);
  MUST(all_zero(back, len));
  MUST(ac_aes256gcm_open(aes, forged, len, bad_nonce, forged, sealed_len, bad_aad, m->aad.len) == AC_ERR_AUTH);
  MUST(all_zero(forged, len));
  /* too little room; what shares bytes without being the same */
  const size_t short_cap = where % sealed_len;
  uint8_t *const little = room(short_cap);
  MUST(ac_aes256gcm_seal(aes, little, short_cap, nonce, m->plaintext.at, len, aad, m->aad.len) == AC_ERR_CAPACITY);
  if (short_cap < len) MUST(ac_aes256gcm_open(aes, little, short_cap, nonce, apart, sealed_len, aad, m->aad.len) == AC_ERR_CAPACITY);
  MUST(untouched(little, short_cap));
  MUST(ac_aes256gcm_open(aes, little, short_cap, nonce, apart, where % AC_TAG_BYTES, aad, m->aad.len) == AC_ERR_AUTH);
  if (len < 2) return;
  uint8_t *const both = room(2 * sealed_len);
  const size_t shift = 1 + where % (len - 1);
  MUST(ac_aes256gcm_seal(aes, both, sealed_len, nonce, both + shift, len, aad, m->aad.len) == AC_ERR_OVERLAP);
  MUST(ac_aes256gcm_seal(aes, both + shift, sealed_len, nonce, both, len, aad, m->aad.len) == AC_ERR_OVERLAP);
  MUST(ac_aes256gcm_open(aes, both, len, nonce, both + shift, sealed_len, aad, m->aad.len) == AC_ERR_OVERLAP);
  MUST(ac_aes256gcm_seal(aes, both, sealed_len, nonce, apart, len, both + shift, 1) == AC_ERR_OVERLAP);
  MUST(ac_aes256gcm_open(aes, both, len, both + shift, apart, sealed_len, aad, m->aad.len) == AC_ERR_OVERLAP);
  MUST(untouched(both, 2 * sealed_len));
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len) {
  message m;
  tape t = {in, len};
  arena_reset();
  const unsigned how = take(&t);
  const size_t plaintext_len = (how & 4 ? (take(&t) * 256u + take(&t)) % MOST : take(&t)), aad_len = how & 8 ? take(&t) : how & 16 ? 25 : 0;
  for (size_t i = 0; i < sizeof m.nonce; i++) m.nonce[i] = how & 32 ? take(&t) : 0xff;
  uint8_t *const plaintext = room(plaintext_len), *const aad = room(aad_len), *const sealed = room(plaintext_len + AC_TAG_BYTES);
  const uint8_t seed = take(&t);
  for (size_t i = 0; i < plaintext_len; i++) plaintext[i] = how & 64 ? seed : (uint8_t)(i * 73 + seed + (i >> 8));
  for (size_t i = 0; i < aad_len; i++) aad[i] = (uint8_t)(i * 29 + seed);
  m.plaintext = (view){plaintext, plaintext_len};
  m.aad = (view){aad, aad_len};
  MUST(ac_aes256gcm_seal(&contexts[how % KEYS][model], sealed, plaintext_len + AC_TAG_BYTES, m.nonce, plaintext, plaintext_len, aad,
                         aad_len) == AC_OK);
  m.sealed = (view){sealed, plaintext_len + AC_TAG_BYTES};
  for (unsigned b = 0; b < backends; b++) {
    if (ac_aes_backend_usable(b) && (b != model || how >= 192)) check_backend(&contexts[how % KEYS][b], &m, t);
  }
  return 0;
}
