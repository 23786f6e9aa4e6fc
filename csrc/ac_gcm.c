/* AES-256-GCM: the table of backends, the checks that all of them share, and their known-answer test. */
#include "ac_internal.h"

/* Best first. */
static const aci_gcm_backend *const backends[] = {
#if ACI_X86_64
    &aci_gcm_vaes512, &aci_gcm_vaes, &aci_gcm_aesni,
#endif
    &aci_gcm_sodium, &aci_gcm_portable};
enum { BACKENDS = sizeof backends / sizeof backends[0] };

/* Written by ac_init only. */
static int usable[BACKENDS];
static unsigned chosen;

const char *ac_aes_backend_name(unsigned backend) { return backend < BACKENDS ? backends[backend]->name : NULL; }

int ac_aes_backend_usable(unsigned backend) { return backend < BACKENDS && usable[backend]; }

unsigned ac_aes_backend_default(void) { return chosen; }

int ac_aes256gcm_init(ac_aes256gcm *aes, const uint8_t key[AC_KEY_BYTES], unsigned backend) {
  if (!ac_aes_backend_usable(backend)) return AC_ERR_ARGUMENT;
  memset(aes->words, 0, sizeof aes->words);
  backends[backend]->init(aes->words, key);
  aes->backend = backend + 1;
  return AC_OK;
}

void ac_aes256gcm_wipe(ac_aes256gcm *aes) { aci_wipe(aes, sizeof *aes); }

int ac_aes256gcm_seal(const ac_aes256gcm *aes, uint8_t *out, size_t out_cap, const uint8_t nonce[AC_NONCE_BYTES],
                      const uint8_t *plaintext, size_t plaintext_len, const uint8_t *aad, size_t aad_len) {
  if (aes->backend - 1 >= BACKENDS) return AC_ERR_STATE;
  if (plaintext_len > SIZE_MAX - AC_TAG_BYTES || (uint64_t)plaintext_len > AC_GCM_MAX_BYTES) return AC_ERR_ARGUMENT;
  const size_t out_len = plaintext_len + AC_TAG_BYTES;
  if (out_cap < out_len) return AC_ERR_CAPACITY;
  if ((out != plaintext && aci_overlap(out, out_len, plaintext, plaintext_len)) ||
      aci_overlap(out, out_len, aad, aad_len) || aci_overlap(out, out_len, nonce, AC_NONCE_BYTES))
    return AC_ERR_OVERLAP;
  const int status = backends[aes->backend - 1]->seal(aes->words, out, nonce, plaintext, plaintext_len, aad, aad_len);
  aci_declassify(out, out_len);
  return status;
}

int ac_aes256gcm_open(const ac_aes256gcm *aes, uint8_t *out, size_t out_cap, const uint8_t nonce[AC_NONCE_BYTES],
                      const uint8_t *sealed, size_t sealed_len, const uint8_t *aad, size_t aad_len) {
  if (aes->backend - 1 >= BACKENDS) return AC_ERR_STATE;
  if (sealed_len < AC_TAG_BYTES || (uint64_t)sealed_len - AC_TAG_BYTES > AC_GCM_MAX_BYTES) return AC_ERR_AUTH;
  const size_t out_len = sealed_len - AC_TAG_BYTES;
  if (out_cap < out_len) return AC_ERR_CAPACITY;
  if ((out != sealed && aci_overlap(out, out_len, sealed, sealed_len)) || aci_overlap(out, out_len, aad, aad_len) ||
      aci_overlap(out, out_len, nonce, AC_NONCE_BYTES))
    return AC_ERR_OVERLAP;
  return backends[aes->backend - 1]->open(aes->words, out, nonce, sealed, sealed_len, aad, aad_len);
}

/* ---- start ---- */

/* McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16: 60 bytes, 20 of AAD. */
static const uint8_t key[AC_KEY_BYTES] = {0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f,
                                          0x94, 0x67, 0x30, 0x83, 0x08, 0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65,
                                          0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08};
static const uint8_t nonce[AC_NONCE_BYTES] = {0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce,
                                              0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88};
static const uint8_t aad[20] = {0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed,
                                0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab, 0xad, 0xda, 0xd2};

static int known_answer(const aci_gcm_backend *backend) {
  static const uint8_t plaintext[60] = {
      0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf, 0xf5, 0x26, 0x9a,
      0x86, 0xa7, 0xa9, 0x53, 0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c, 0x30, 0x3d, 0x8a, 0x31, 0x8a, 0x72,
      0x1c, 0x3c, 0x0c, 0x95, 0x95, 0x68, 0x09, 0x53, 0x2f, 0xcf, 0x0e, 0x24, 0x49, 0xa6, 0xb5, 0x25,
      0xb1, 0x6a, 0xed, 0xf5, 0xaa, 0x0d, 0xe6, 0x57, 0xba, 0x63, 0x7b, 0x39};
  static const uint8_t sealed[60 + AC_TAG_BYTES] = {
      0x52, 0x2d, 0xc1, 0xf0, 0x99, 0x56, 0x7d, 0x07, 0xf4, 0x7f, 0x37, 0xa3, 0x2a, 0x84, 0x42, 0x7d,
      0x64, 0x3a, 0x8c, 0xdc, 0xbf, 0xe5, 0xc0, 0xc9, 0x75, 0x98, 0xa2, 0xbd, 0x25, 0x55, 0xd1, 0xaa,
      0x8c, 0xb0, 0x8e, 0x48, 0x59, 0x0d, 0xbb, 0x3d, 0xa7, 0xb0, 0x8b, 0x10, 0x56, 0x82, 0x88, 0x38,
      0xc5, 0xf6, 0x1e, 0x63, 0x93, 0xba, 0x7a, 0x0a, 0xbc, 0xc9, 0xf6, 0x62, 0x76, 0xfc, 0x6e, 0xce,
      0x0f, 0x4e, 0x17, 0x68, 0xcd, 0xdf, 0x88, 0x53, 0xbb, 0x2d, 0x55, 0x1b};
  static const uint8_t zero[60];
  uint64_t words[ACI_GCM_WORDS] = {0}; /* a published key: not wiped */
  uint8_t out[sizeof sealed];

  backend->init(words, key);
  if (backend->seal(words, out, nonce, plaintext, sizeof plaintext, aad, sizeof aad) != AC_OK) return 0;
  if (memcmp(out, sealed, sizeof sealed) != 0) return 0;
  /* in place, and then a forgery: nothing of the plaintext may be left */
  if (backend->open(words, out, nonce, out, sizeof sealed, aad, sizeof aad) != AC_OK) return 0;
  if (memcmp(out, plaintext, sizeof plaintext) != 0) return 0;
  memcpy(out, sealed, sizeof sealed);
  out[sizeof sealed - 1] ^= 0x80;
  if (backend->open(words, out, nonce, out, sizeof sealed, aad, sizeof aad) != AC_ERR_AUTH) return 0;
  return memcmp(out, zero, sizeof zero) == 0;
}

/* With a text of 0, 1, ... 255, 0, ... and 13 bytes of AAD: several groups of blocks on every backend, a carry out of the
 * last byte of the counter, and an end that fills neither a group nor a block. */
static int long_answer(const aci_gcm_backend *backend) {
  enum { LEN = 4399 };
  static const uint8_t end[16 + AC_TAG_BYTES] = {
      0xc4, 0xf6, 0xac, 0x28, 0x7c, 0x3b, 0xc2, 0x42, 0x3e, 0x6d, 0x1e, 0x5c, 0x4a, 0x38, 0x22, 0xe4,
      0x52, 0x9e, 0xf8, 0x00, 0x7e, 0x91, 0xc0, 0x72, 0x2a, 0x37, 0x9b, 0xbc, 0x00, 0xbf, 0x05, 0xf8};
  uint64_t words[ACI_GCM_WORDS] = {0};
  uint8_t plaintext[LEN], out[LEN + AC_TAG_BYTES];
  for (size_t i = 0; i < LEN; i++) plaintext[i] = (uint8_t)i;
  backend->init(words, key);
  if (backend->seal(words, out, nonce, plaintext, LEN, aad, 13) != AC_OK) return 0;
  if (memcmp(out + sizeof out - sizeof end, end, sizeof end) != 0) return 0;
  if (backend->open(words, out, nonce, out, sizeof out, aad, 13) != AC_OK) return 0;
  return memcmp(out, plaintext, LEN) == 0;
}

const char *aci_gcm_self_test(void) {
  for (unsigned i = 0; i < BACKENDS; i++) {
    const int able = backends[i]->usable();
    if (able && !(known_answer(backends[i]) && long_answer(backends[i]))) return backends[i]->name;
    usable[i] = able;
  }
  return NULL;
}

int aci_gcm_choose(const char *name) {
  for (unsigned i = 0; i < BACKENDS; i++) {
    if (usable[i] && (name == NULL || strcmp(name, backends[i]->name) == 0)) {
      chosen = i;
      return AC_OK;
    }
  }
  return AC_ERR_ARGUMENT;
}
