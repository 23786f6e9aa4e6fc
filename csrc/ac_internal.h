/* What the files of the core share among themselves. Nothing here is exported. */
#ifndef AC_INTERNAL_H
#define AC_INTERNAL_H

#include "atoma_crypto.h"

#include <string.h>

/* An object that was never made is all zero bytes, hence AC_STATE_NONE. */
enum { AC_STATE_NONE = 0, AC_STATE_READY = 1, AC_STATE_FAILED = 2, AC_STATE_CLOSED = 3, AC_STATE_ENDED = 4 };

#define ACI_SUI_SIGNATURE_BYTES 97 /* flag || Ed25519 signature || public key */
#define ACI_AES_ROUND_KEYS 15
#define ACI_BLOCK_BYTES 16

#define ACI_GCM_WORDS (sizeof(((ac_aes256gcm *)0)->words) / sizeof(uint64_t))

#if defined(__x86_64__) || defined(_M_X64)
#define ACI_X86_64 1
#else
#define ACI_X86_64 0
#endif

/* What stands between these two may use the instructions named, and is called only where the CPU has them. */
#define ACI_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define ACI_TARGET_BEGIN(names) \
  ACI_PRAGMA(clang attribute push(__attribute__((target(names))), apply_to = function))
#define ACI_TARGET_END _Pragma("clang attribute pop")
#elif defined(__GNUC__)
#define ACI_TARGET_BEGIN(names) _Pragma("GCC push_options") ACI_PRAGMA(GCC target(names))
#define ACI_TARGET_END _Pragma("GCC pop_options")
#else
#define ACI_TARGET_BEGIN(names)
#define ACI_TARGET_END
#endif

/* What was computed from secrets and is public from here on: a sealed message, a verdict. Means something only to the
 * check for constant time (tests/c/ct), which defines ACI_CT_CHECK and this function. */
#if defined(ACI_CT_CHECK)
void aci_declassify(const void *p, size_t len);
#else
#define aci_declassify(p, len) ((void)0)
#endif

/* 1: the stack is not to be wiped. Only the search of the stack (tests/c/stack) defines this, which must find something
 * then. */
#if defined(ACI_STACK_CHECK)
int aci_leaves_stack(uint8_t *used, size_t len);
#endif

/* Of a word that one thread writes while others look. */
#if defined(_MSC_VER) && !defined(__clang__)
#define ACI_LOAD_RELAXED(p) (*(const volatile uint32_t *)(p))
#define ACI_STORE_RELAXED(p, v) ((void)(*(volatile uint32_t *)(p) = (v)))
#else
#define ACI_LOAD_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define ACI_STORE_RELAXED(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#endif

/* ---- ac_cpu.c ---- */

enum { /* features of x86-64; those with registers of their own only where the operating system saves them */
  ACI_CPU_SSSE3 = 1,
  ACI_CPU_SSE41 = 2,
  ACI_CPU_AES = 4,
  ACI_CPU_PCLMUL = 8,
  ACI_CPU_AVX2 = 16,
  ACI_CPU_VAES = 32,
  ACI_CPU_VPCLMULQDQ = 64,
  ACI_CPU_AVX512 = 128, /* F, BW, DQ and VL */
  ACI_CPU_SHA = 256
};

/* Look, once per ac_init. 1: nothing has changed since the last time. */
int aci_cpu_detect(void);
int aci_cpu_has(uint32_t features); /* all of them */

/* ---- ac_util.c ---- */

extern ac_sodium aci_sodium; /* written by ac_init only */

#define aci_wipe ac_wipe

#if defined(_MSC_VER) && !defined(__clang__)
#define ACI_NOINLINE __declspec(noinline)
#else
#define ACI_NOINLINE __attribute__((noinline))
#endif

/* Wipe the stack below the caller, where the functions that it has called kept what the compiler spilled. */
void aci_burn_stack(void);
int aci_equal(const uint8_t *a, const uint8_t *b, size_t len); /* constant time */
int aci_is_zero32(const uint8_t p[32]);                  /* constant time */
void aci_randombytes(uint8_t *out, size_t len);

/* Two ranges share a byte. */
int aci_overlap(const void *a, size_t a_len, const void *b, size_t b_len);

/* Single flight: 1 if the object is now ours. */
int aci_enter(uint32_t *busy);
void aci_leave(uint32_t *busy);

/* Counts the forks that lie between this process and the one that loaded the library. */
uint32_t aci_generation(void);
int aci_watch_forks(void); /* 1: a fork will be noticed */

uint32_t aci_load32le(const uint8_t *p);
uint64_t aci_load64be(const uint8_t *p);
void aci_store32le(uint8_t *p, uint32_t v);
void aci_store32be(uint8_t *p, uint32_t v);
void aci_store64be(uint8_t *p, uint64_t v);

/* ---- ac_registers.c ---- */

void aci_clear_registers(void); /* those of vectors; every wipe does it */

/* ---- ac_gcm*.c ---- */

/* What a backend does. ac_gcm.c has checked every length and overlap before it calls. `seal` and `open` return AC_OK,
 * AC_ERR_AUTH or AC_ERR_PRIMITIVE; on any error they leave no plaintext in `out`. */
typedef struct aci_gcm_backend {
  const char *name;
  int (*usable)(void);
  void (*init)(uint64_t words[ACI_GCM_WORDS], const uint8_t key[AC_KEY_BYTES]);
  int (*seal)(const uint64_t words[ACI_GCM_WORDS], uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES], const uint8_t *plaintext,
              size_t plaintext_len, const uint8_t *aad, size_t aad_len);
  int (*open)(const uint64_t words[ACI_GCM_WORDS], uint8_t *out, const uint8_t nonce[AC_NONCE_BYTES], const uint8_t *sealed,
              size_t sealed_len, const uint8_t *aad, size_t aad_len);
} aci_gcm_backend;

extern const aci_gcm_backend aci_gcm_vaes512;
extern const aci_gcm_backend aci_gcm_vaes;
extern const aci_gcm_backend aci_gcm_aesni;
extern const aci_gcm_backend aci_gcm_portable;
extern const aci_gcm_backend aci_gcm_sodium;

/* Name of the backend that failed, or NULL. Marks those that may be used. */
const char *aci_gcm_self_test(void);
/* AC_ERR_ARGUMENT: no such backend, or it cannot be used here. NULL: the best. */
int aci_gcm_choose(const char *name);

/* ---- ac_sha256*.c. What these and ac_hkdf.c's leave on the stack below them, the caller burns. ---- */

#define ACI_SHA256_BLOCK 64

extern const uint32_t aci_sha256_k[64];

typedef void (*aci_sha256_compress)(uint32_t state[8], const uint8_t *in, size_t blocks);
#if ACI_X86_64
void aci_sha256_compress_x86(uint32_t state[8], const uint8_t *in, size_t blocks);
#endif
extern aci_sha256_compress aci_sha256_chosen; /* written by ac_init only */

/* 1: good. Chooses what is used from then on. */
int aci_sha256_self_test(void);

typedef struct aci_sha256 {
  uint32_t state[8];
  uint64_t len;                    /* bytes so far */
  uint8_t block[ACI_SHA256_BLOCK]; /* the last len % 64 of them */
} aci_sha256;

void aci_sha256_init(aci_sha256 *hash);
void aci_sha256_update(aci_sha256 *hash, const uint8_t *in, size_t in_len);
void aci_sha256_final(aci_sha256 *hash, uint8_t out[AC_HASH_BYTES]); /* wipes `hash` */

/* ---- ac_hkdf.c ---- */

/* Inputs come in pieces, which are read one behind the other. */
typedef struct aci_bytes {
  const uint8_t *at; /* may be NULL where len is 0 */
  size_t len;
} aci_bytes;

/* A key of HMAC-SHA256 (RFC 2104): the hash states behind its two padded blocks. */
typedef struct aci_hmac_key {
  uint32_t inner[8], outer[8];
} aci_hmac_key;

extern const aci_hmac_key aci_hmac_empty_key; /* of no bytes, or of zeros */
void aci_hmac_key_init(aci_hmac_key *key, const aci_bytes *secret, size_t count);
void aci_hmac(uint8_t mac[AC_HASH_BYTES], const aci_hmac_key *key, const aci_bytes *text, size_t count);
/* HKDF (RFC 5869). The PRK that extract gives is a key of HMAC, ready for any number of expands. */
void aci_hkdf_extract(aci_hmac_key *prk, const aci_hmac_key *salt, const aci_bytes *ikm, size_t count);
/* out_len up to 255 * 32, which is not checked. */
void aci_hkdf_expand(uint8_t *out, size_t out_len, const aci_hmac_key *prk, const aci_bytes *info, size_t count);

/* ---- ac_keysched.c ---- */

/* X25519, then v1's key schedule. AC_ERR_KEY: an all-zero shared secret. */
int aci_v1_schedule(ac_aes256gcm *aes, const uint8_t secret[AC_X25519_BYTES], const uint8_t peer[AC_X25519_BYTES],
                    const uint8_t salt[AC_V1_SALT_BYTES]);

/* DHKEM(X25519, HKDF-SHA256) (RFC 9180, section 4.1). `ephemeral` is NULL but in tests of vectors. AC_ERR_KEY: an all-zero
 * result. */
int aci_dhkem_encapsulate(uint8_t shared[AC_HASH_BYTES], uint8_t enc[AC_X25519_BYTES],
                          const uint8_t public_key[AC_X25519_BYTES], const uint8_t *ephemeral);
int aci_dhkem_decapsulate(uint8_t shared[AC_HASH_BYTES], const uint8_t enc[AC_X25519_BYTES], const ac_secret_key *key);
/* KeySchedule of HPKE's base mode (RFC 9180, section 5.1). AC_ERR_ARGUMENT: no such suite. */
int aci_hpke_schedule(ac_aes256gcm *aes, uint8_t base_nonce[AC_NONCE_BYTES], uint8_t exporter_secret[AC_HASH_BYTES],
                      uint32_t suite, const uint8_t shared[AC_HASH_BYTES], const uint8_t *info, size_t info_len);
/* Section 5.3. out_len up to 255 * 32, which is not checked. */
void aci_hpke_export(uint8_t *out, size_t out_len, uint32_t suite, const uint8_t exporter_secret[AC_HASH_BYTES],
                     const uint8_t *context, size_t context_len);
/* docs/protocol-v2.md, section 3: what HPKE's SetupBase with v2's info gives, of the KEM's shared secret. `nonce` is that
 * of message 0, `response_secret` what is exported for the answer. AC_ERR_ARGUMENT: no such suite. */
int aci_v2_request_schedule(ac_aes256gcm *aes, uint8_t nonce[AC_NONCE_BYTES], uint8_t response_secret[AC_HASH_BYTES],
                            uint32_t suite, const uint8_t shared[AC_HASH_BYTES],
                            const uint8_t key_id[AC_KEY_ID_BYTES]);
/* docs/protocol-v2.md, section 4. */
int aci_v2_response_schedule(ac_aes256gcm *aes, uint8_t base[AC_NONCE_BYTES],
                             const uint8_t response_secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len,
                             const uint8_t salt[AC_V2_SALT_BYTES]);

/* ---- ac_stream.c: the only place that makes nonces for answers ---- */

int aci_v1_sealer_start(ac_v1_sealer *sealer, const uint8_t request_nonce[AC_NONCE_BYTES],
                        const ac_signing_key *signing);
/* Enter for `count` seals of `plaintext_len` bytes in all; after AC_OK the caller owes one aci_v1_sealer_leave. */
int aci_v1_sealer_enter(ac_v1_sealer *sealer, uint64_t count, uint64_t plaintext_len);
void aci_v1_sealer_leave(ac_v1_sealer *sealer, int status);
/* One seal inside enter and leave: spends a nonce and says which. */
int aci_v1_seal(ac_v1_sealer *sealer, uint8_t *sealed, uint8_t nonce[AC_NONCE_BYTES], uint8_t hash[AC_HASH_BYTES],
                uint8_t signature[ACI_SUI_SIGNATURE_BYTES], const uint8_t *plaintext, size_t plaintext_len);

void aci_v1_opener_start(ac_v1_opener *opener, const uint8_t request_nonce[AC_NONCE_BYTES]);
int aci_v1_opener_enter(ac_v1_opener *opener);
void aci_v1_opener_leave(ac_v1_opener *opener, int status);
/* Open members that are base64 text into `out`, which holds ac_base64_decoded_max(ciphertext_len). */
int aci_v1_open(ac_v1_opener *opener, uint8_t *out, size_t *out_len, const uint8_t *ciphertext, size_t ciphertext_len,
                const uint8_t *nonce, size_t nonce_len, const uint8_t *hash, size_t hash_len);

/* ---- ac_v2_record.c: the only place that makes nonces for v2's records ---- */

#define ACI_V2_MAX_INTEGER 9007199254740991 /* 2^53 - 1: JavaScript's */

int aci_v2_usage_fits(const uint64_t *usage); /* may be NULL */

/* Draws the salt. `sealer` is overwritten, after AC_OK only. */
int aci_v2_sealer_start(ac_v2_sealer *sealer, const uint8_t secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len);
/* After AC_OK the caller owes one aci_v2_sealer_leave. */
int aci_v2_sealer_enter(ac_v2_sealer *sealer);
void aci_v2_sealer_leave(ac_v2_sealer *sealer, int status);
/* Inside: AC_OK, or AC_ERR_LIMIT if so many records with so much plaintext in all are more than what is left. */
int aci_v2_sealer_has(const ac_v2_sealer *sealer, uint64_t count, uint64_t plaintext_len, uint32_t last_flag);
/* Inside, once it has: one seal, which spends an index. AC_OK or AC_ERR_PRIMITIVE. */
int aci_v2_seal(ac_v2_sealer *sealer, uint8_t *sealed, uint32_t flag, const uint8_t *plaintext, size_t plaintext_len,
                const uint64_t *usage);

/* `opener` is overwritten. It waits for the salt. */
void aci_v2_opener_start(ac_v2_opener *opener, const uint8_t secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len,
                         int stream);
int aci_v2_opener_enter(ac_v2_opener *opener); /* also behind the end: something may stand there */
void aci_v2_opener_leave(ac_v2_opener *opener, int status);
/* Open the next record; `out` may be `sealed`. `salt` is NULL but with the first record, where the opener waits for it.
 * AC_ERR_FORMAT: nothing was changed. */
int aci_v2_open(ac_v2_opener *opener, uint8_t *out, uint32_t flag, const uint8_t *sealed, size_t sealed_len,
                const uint8_t *salt, const uint64_t *usage);

/* ---- ac_base64.c ---- */

/* Writes ac_base64_encoded_len(len). `in` may lie at the very end of `out`'s own range. */
void aci_base64_encode(uint8_t *out, const uint8_t *in, size_t len);
/* AC_ERR_FORMAT, or the decoded length through *out_len; `out` holds ac_base64_decoded_max(len). */
int aci_base64_decode(uint8_t *out, size_t *out_len, const uint8_t *in, size_t len);
/* Exactly `want` bytes or AC_ERR_FORMAT. want <= 32 */
int aci_base64_decode_exact(uint8_t *out, size_t want, const uint8_t *in, size_t len);

#if ACI_X86_64
/* The same, where the CPU has AVX2: from 12 bytes on; from 20 characters on, a multiple of 4. */
void aci_base64_encode_avx2(uint8_t *out, const uint8_t *in, size_t len);
int aci_base64_decode_avx2(uint8_t *out, size_t *out_len, const uint8_t *in, size_t len);
#endif

/* ---- ac_json.c: reads the flat objects that v1 sends ---- */

typedef struct aci_text {
  const uint8_t *at; /* NULL: absent or null */
  size_t len;
} aci_text;

typedef struct aci_v1_members {
  aci_text ciphertext, nonce, response_hash, usage;
} aci_v1_members;

/* AC_OK, or AC_PUNT for anything that is not plainly well-formed. */
int aci_v1_read_members(aci_v1_members *members, const uint8_t *json, size_t len);
/* The same of a whole event, of the very form in which deployed nodes write one that shows no usage. Its length, with
 * the blank line; 0 for any other, about which that says nothing. What stands in the members was not looked at: it is
 * free of line ends and escapes if it turns out to be base64. */
size_t aci_v1_read_plain_event(aci_v1_members *members, const uint8_t *in, size_t len);

/* ---- ac_v2_json.c: reads what v2 sends ---- */

typedef struct aci_v2_members {
  aci_text ciphertext, salt; /* salt.at NULL: absent */
  uint64_t usage[AC_V2_USAGE];
  uint32_t flag;
  uint32_t has_usage;
} aci_v2_members;

/* As those of v1. */
int aci_v2_read_members(aci_v2_members *members, const uint8_t *json, size_t len);
size_t aci_v2_read_plain_event(aci_text *ciphertext, const uint8_t *in, size_t len);

#endif
