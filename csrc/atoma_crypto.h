/*
 * atoma_crypto.h: the contract of the C core.
 *
 * Memory     All memory is the caller's. Nothing here allocates, and nothing keeps a pointer after it returns,
 *            but for the function table given to ac_init. No output may overlap another output, or the object or
 *            struct that a call is given. An output may overlap an input where the result is the same; where it would
 *            not be, that is looked at, and refused (AC_ERR_OVERLAP).
 * Order      Object, outputs, inputs; each pointer is followed by its length. `_len` is bytes in use, `_cap` is
 *            bytes available. A pointer may be NULL where its length is 0.
 * Status     Every function that returns int returns AC_OK or a status below, and it must be checked. The two that
 *            are called for each chunk return int64_t, a status or a length: to look up an output costs a caller in
 *            Python as much as AES.
 *            A refused call (AC_ERR_ARGUMENT, _CAPACITY, _OVERLAP, _KEY, _STATE, _BUSY, _FORKED, _LIMIT) has
 *            changed nothing, unless its comment says otherwise. After any other error the object is failed for
 *            good, and the outputs hold no plaintext.
 * Secrets    Objects hold secrets. Wipe each with its own wipe function; every local secret is wiped on return.
 * Threads    Objects that count (sealer, opener) are single-flight: a second call at the same time gets
 *            AC_ERR_BUSY. All other objects are read-only after their init.
 * Fork       A sealer refuses to work in a child process that inherited it: AC_ERR_FORKED.
 *
 * cffi reads what stands between the two marks; it must stay plain C declarations.
 */
#ifndef ATOMA_CRYPTO_H
#define ATOMA_CRYPTO_H

#include <stddef.h>
#include <stdint.h>

/* === contract begins === */

#define AC_OK 0
#define AC_ERR_ARGUMENT -1    /* a NULL, an unknown name, an impossible size */
#define AC_ERR_CAPACITY -2    /* the output is too small */
#define AC_ERR_OVERLAP -3     /* input and output overlap without being the same */
#define AC_ERR_KEY -4         /* the caller's own key is malformed or gives an all-zero shared secret */
#define AC_ERR_AUTH -5        /* does not verify; says nothing about why */
#define AC_ERR_FORMAT -6      /* malformed: base64, a length, a member */
#define AC_ERR_TOO_LARGE -7   /* longer than a limit that the receiver set */
#define AC_ERR_NONCE_REUSE -8 /* a nonce that was used before, where that is refused; the request's own always is */
#define AC_ERR_STATE -9       /* not initialised, failed before, or out of order */
#define AC_ERR_BUSY -10       /* another thread is inside this object */
#define AC_ERR_FORKED -11     /* the object was made by a parent process */
#define AC_ERR_LIMIT -12      /* the object's own counter is spent */
#define AC_ERR_PRIMITIVE -13  /* libsodium refused what it should do, or a self-test failed */
#define AC_PUNT 1             /* legal perhaps, but not for this reader: let the general parser decide */

#define AC_KEY_BYTES 32
#define AC_NONCE_BYTES 12
#define AC_TAG_BYTES 16
#define AC_HASH_BYTES 32
#define AC_X25519_BYTES 32
#define AC_SIGN_SEED_BYTES 32
#define AC_SIGN_PUBLIC_BYTES 32
#define AC_SIGN_SECRET_BYTES 64
#define AC_V1_SALT_BYTES 16

/* The seals of one key under random nonces: 2^32 (NIST SP 800-38D, section 8.3). */
#define AC_V1_MAX_CHUNKS 4294967296
/* Plaintext bytes under one key: 2^36. */
#define AC_V1_MAX_STREAM_BYTES 68719476736

#define AC_SUITE_X25519 1 /* DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM: HPKE's 0x0020, 1, 2 */
#define AC_SUITE_XWING 2  /* X-Wing (MLKEM768-X25519), HKDF-SHA256, AES-256-GCM: HPKE's 0x647a, 1, 2 */
#define AC_KEY_ID_BYTES 8
#define AC_V2_SALT_BYTES 32
#define AC_V2_MAX_ENC_BYTES 1120 /* X-Wing's encapsulated key */
#define AC_V2_USAGE 3            /* numbers: prompt_tokens, completion_tokens, total_tokens */
/* Records of one response: 2^32. The sealer keeps the last index back for an abort. */
#define AC_V2_MAX_RECORDS 4294967296
/* Plaintext bytes of one response: 2^36. The sealer keeps AC_V2_ABORT_BYTES of them back for an abort. */
#define AC_V2_MAX_STREAM_BYTES 68719476736
#define AC_V2_ABORT_BYTES 1048576

#define AC_FLAG_MORE 0  /* more records follow; the plaintext is not empty */
#define AC_FLAG_END 1   /* the end of a stream; the plaintext may be empty */
#define AC_FLAG_ABORT 2 /* the answer has failed; nothing follows */
#define AC_FLAG_WHOLE 3 /* the whole answer, the sole record */
/* Plaintext bytes of one AES-GCM message: 2^36 - 32 (NIST SP 800-38D, section 5.2.1.1). */
#define AC_GCM_MAX_BYTES 68719476704

/* ---- L0: the functions of libsodium that the core stands on ------------------------------------------------ */

/* Types as PyNaCl's cffi module declares them (it leaves `const` out). */
typedef struct ac_sodium {
  int (*scalarmult)(unsigned char *q, unsigned char *n, unsigned char *p);
  int (*scalarmult_base)(unsigned char *q, unsigned char *n);
  int (*hash_sha256)(unsigned char *out, unsigned char *in, unsigned long long in_len);
  int (*blake2b)(unsigned char *out, size_t out_len, unsigned char *in, unsigned long long in_len,
                 unsigned char *key, size_t key_len, unsigned char *salt, unsigned char *personal);
  int (*sign)(unsigned char *sm, unsigned long long *sm_len, unsigned char *m, unsigned long long m_len,
              unsigned char *sk);
  int (*sign_seed_keypair)(unsigned char *pk, unsigned char *sk, unsigned char *seed);
  void (*randombytes)(unsigned char *out, unsigned long long out_len);
  void (*memzero)(void *p, size_t len);
  int (*aes256gcm_is_available)(void);
  int (*aes256gcm_encrypt)(unsigned char *c, unsigned long long *c_len, unsigned char *m,
                           unsigned long long m_len, unsigned char *ad, unsigned long long ad_len,
                           unsigned char *nsec, unsigned char *npub, unsigned char *k);
  int (*aes256gcm_decrypt)(unsigned char *m, unsigned long long *m_len, unsigned char *nsec, unsigned char *c,
                           unsigned long long c_len, unsigned char *ad, unsigned long long ad_len,
                           unsigned char *npub, unsigned char *k);
} ac_sodium;

/* Copy the table, find the usable AES backends, run the self-test, choose a backend. To be called once, before
 * anything else and from one thread; libsodium must be initialised. `aes_backend` is a backend's name, or NULL
 * for the best. AC_ERR_ARGUMENT: an empty place in the table, or an unknown or unusable backend.
 * AC_ERR_PRIMITIVE: a self-test failed; ac_self_test_failure() names it. */
int ac_init(const ac_sodium *table, const char *aes_backend);
const char *ac_self_test_failure(void); /* "" while none has failed */

/* For tests: features of the CPU that the next ac_init shall not see, by name, with commas between them; "" is none.
 * AC_ERR_ARGUMENT: an unknown name. Names are those of ac_cpu_feature_name(0, 1, ...), NULL past the last. */
int ac_cpu_mask(const char *features);
const char *ac_cpu_feature_name(unsigned number);
int ac_cpu_feature_usable(unsigned number); /* 1 or 0, once ac_init has returned AC_OK: it is there and not hidden */

/* Backends are numbered best first. A name is NULL past the last number. */
const char *ac_aes_backend_name(unsigned backend);
int ac_aes_backend_usable(unsigned backend); /* 1 or 0, once ac_init has returned AC_OK */
unsigned ac_aes_backend_default(void);

void ac_wipe(void *p, size_t len);

/* Memory for secrets of any length: `cap` bytes at `at`. */
typedef struct ac_scratch {
  size_t cap;
  uint8_t at[];
} ac_scratch;

void ac_scratch_wipe(ac_scratch *scratch); /* its bytes, not its cap */

/* BLAKE2b (RFC 7693), unkeyed, with a digest length of 32: AC_OK or AC_ERR_PRIMITIVE. */
int ac_blake2b256(uint8_t out[AC_HASH_BYTES], const uint8_t *in, size_t in_len);
void ac_sha256(uint8_t out[AC_HASH_BYTES], const uint8_t *in, size_t in_len); /* FIPS 180-4 */

/* X25519 (RFC 7748). ac_x25519 refuses an all-zero result with AC_ERR_KEY, `shared` is then zero. */
int ac_x25519_public(uint8_t public_key[AC_X25519_BYTES], const uint8_t secret[AC_X25519_BYTES]);
int ac_x25519(uint8_t shared[AC_X25519_BYTES], const uint8_t secret[AC_X25519_BYTES],
              const uint8_t public_key[AC_X25519_BYTES]);

/* HKDF-SHA256 (RFC 5869), extract and expand; out_len up to 255 * 32. An empty salt is 32 zero bytes, as the RFC says.
 * AC_ERR_OVERLAP: `out` overlaps `info`. */
int ac_hkdf_sha256(uint8_t *out, size_t out_len, const uint8_t *ikm, size_t ikm_len, const uint8_t *salt,
                   size_t salt_len, const uint8_t *info, size_t info_len);

/* ---- L0: AES-256-GCM (NIST SP 800-38D), 96-bit nonces, 128-bit tags ----------------------------------------- */

typedef struct ac_aes256gcm {
  uint64_t words[110]; /* the expanded key, laid out by its backend */
  uint32_t backend;   /* number of the backend plus one; 0: not initialised */
} ac_aes256gcm;

int ac_aes256gcm_init(ac_aes256gcm *aes, const uint8_t key[AC_KEY_BYTES], unsigned backend);
void ac_aes256gcm_wipe(ac_aes256gcm *aes);

/* out = ciphertext || tag, plaintext_len + AC_TAG_BYTES bytes. `out` may be `plaintext` itself; any other
 * overlap, also with `aad`, is refused. */
int ac_aes256gcm_seal(const ac_aes256gcm *aes, uint8_t *out, size_t out_cap, const uint8_t nonce[AC_NONCE_BYTES],
                      const uint8_t *plaintext, size_t plaintext_len, const uint8_t *aad, size_t aad_len);

/* out = plaintext, sealed_len - AC_TAG_BYTES bytes. `out` may be `sealed` itself. AC_ERR_AUTH: `out` has been
 * zeroed over that length (the ciphertext too, where they are the same). It is also the answer, and `out` is as it was,
 * where no message has such a length: sealed_len < AC_TAG_BYTES, or more than AC_GCM_MAX_BYTES of plaintext. */
int ac_aes256gcm_open(const ac_aes256gcm *aes, uint8_t *out, size_t out_cap, const uint8_t nonce[AC_NONCE_BYTES],
                      const uint8_t *sealed, size_t sealed_len, const uint8_t *aad, size_t aad_len);

/* ---- keys --------------------------------------------------------------------------------------------------- */

typedef struct ac_secret_key { /* X25519 */
  uint8_t secret[AC_X25519_BYTES];
  uint8_t public_key[AC_X25519_BYTES];
} ac_secret_key;

int ac_secret_key_generate(ac_secret_key *key);
int ac_secret_key_from_bytes(ac_secret_key *key, const uint8_t secret[AC_X25519_BYTES]);
void ac_secret_key_wipe(ac_secret_key *key);

typedef struct ac_signing_key { /* Ed25519 (RFC 8032) */
  uint8_t secret[AC_SIGN_SECRET_BYTES]; /* seed || public key, as libsodium has it */
} ac_signing_key;

int ac_signing_key_generate(ac_signing_key *key);
int ac_signing_key_from_seed(ac_signing_key *key, const uint8_t seed[AC_SIGN_SEED_BYTES]);
void ac_signing_key_wipe(ac_signing_key *key);

/* ---- L2: protocol v1, node's side ---------------------------------------------------------------------------- */

/* Seals one reply or one stream of events, under the key of one request. The nonces are 12 random bytes, drawn
 * when the request is opened, plus 0, 1, 2, ... modulo 2^96 (big-endian); the request's own nonce is left out. */
typedef struct ac_v1_sealer {
  ac_aes256gcm aes;
  ac_signing_key signing;
  uint64_t chunks_left;
  uint64_t bytes_left; /* of plaintext */
  uint8_t next_nonce[AC_NONCE_BYTES];
  uint8_t request_nonce[AC_NONCE_BYTES];
  uint32_t signs; /* 1: `signing` holds a key */
  uint32_t state; /* AC_STATE_... in ac_internal.h */
  uint32_t busy;
  uint32_t generation; /* of the process that made it */
} ac_v1_sealer;

/* The members of a request envelope that matter to opening it, as they stand in the JSON: base64 text. */
typedef struct ac_v1_envelope {
  const uint8_t *ciphertext;
  size_t ciphertext_len;
  const uint8_t *nonce;
  size_t nonce_len;
  const uint8_t *salt;
  size_t salt_len;
  const uint8_t *client_public;
  size_t client_public_len;
  const uint8_t *node_public;
  size_t node_public_len;
  const uint8_t *body_hash;
  size_t body_hash_len;
} ac_v1_envelope;

/* Open a request and make the sealer of its answer. `signing` may be NULL. `body_cap` must be at least
 * ac_base64_decoded_max(ciphertext_len); body_len is what the body turns out to be. `sealer` is overwritten and is usable
 * only after AC_OK. AC_ERR_FORMAT: malformed base64 or a wrong length. AC_ERR_AUTH: another node's key, a key that
 * gives an all-zero secret, a tag or a hash that does not verify. */
int ac_v1_request_open(ac_v1_sealer *sealer, uint8_t *body, size_t body_cap, size_t *body_len,
                       const ac_secret_key *node, const ac_signing_key *signing, const ac_v1_envelope *envelope);

/* Exact sizes of what the sealer writes. SIZE_MAX: impossible. */
size_t ac_v1_event_bytes(const ac_v1_sealer *sealer, size_t plaintext_len, size_t usage_len);
size_t ac_v1_reply_bytes(const ac_v1_sealer *sealer, size_t plaintext_len, size_t usage_len);

/* One finished SSE event: `data: {...}` and a blank line. Returns its length, or a status. AC_ERR_PRIMITIVE fails the
 * sealer for good. `plaintext` must not overlap `out`. */
int64_t ac_v1_event_seal(ac_v1_sealer *sealer, uint8_t *out, size_t out_cap, const uint8_t *plaintext,
                         size_t plaintext_len);

/* `count` events, joined. The plaintexts stand one behind the other in `plaintexts`; plaintext_lens[i] is the
 * length of the i-th. All of them or none. Each shows `usage`, compact JSON text, in clear; none if usage_len is 0. */
int ac_v1_events_seal(ac_v1_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len,
                      const uint8_t *plaintexts, size_t plaintexts_len, const size_t *plaintext_lens, size_t count,
                      const uint8_t *usage, size_t usage_len);
/* Exact size of what ac_v1_events_seal writes. SIZE_MAX: impossible, or the lengths do not add up. */
size_t ac_v1_events_bytes(const ac_v1_sealer *sealer, size_t plaintexts_len, const size_t *plaintext_lens,
                          size_t count, size_t usage_len);

/* The one JSON object that answers a request that is not a stream. */
int ac_v1_reply_seal(ac_v1_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len, const uint8_t *plaintext,
                     size_t plaintext_len, const uint8_t *usage, size_t usage_len);

/* AC_ERR_BUSY: another thread is sealing; nothing was wiped. Wiping twice is harmless. */
int ac_v1_sealer_close(ac_v1_sealer *sealer);
void ac_v1_sealer_wipe(ac_v1_sealer *sealer); /* for when no other thread can hold it */

/* Where the reader of an event stream stands: offsets from the first byte that was not consumed. */
typedef struct ac_sse {
  size_t max_event_bytes;
  size_t max_line_bytes;
  size_t scan_pos; /* bytes of the current event that were looked at */
  size_t line_pos; /* where its current line begins */
  size_t data_pos; /* the value of its first `data` line */
  size_t data_len;
  size_t data_lines;
  uint32_t fields;  /* 1: the current event has a line that is not a comment */
  uint32_t skip_lf; /* 1: a CR ended the last line, a LF that follows belongs to it */
  uint32_t started; /* 1: past a byte order mark, if there was one */
} ac_sse;

/* ---- L2: protocol v1, client's side ---------------------------------------------------------------------------- */

/* Opens the reply or the events that answer one request, and remembers where in the received bytes it stands. */
typedef struct ac_v1_opener {
  ac_aes256gcm aes;
  ac_sse sse;
  uint64_t chunks; /* opened so far */
  uint8_t request_nonce[AC_NONCE_BYTES];
  uint8_t first_nonce[AC_NONCE_BYTES];
  uint8_t last_nonce[AC_NONCE_BYTES];
  uint32_t refuse_nonce_reuse;  /* 1: a repeated nonce is AC_ERR_NONCE_REUSE */
  uint32_t nonce_reused;        /* 1: one was seen */
  uint32_t state;
  uint32_t busy;
} ac_v1_opener;

/* Make a request and the opener of its answer: draws an ephemeral key, a salt and a nonce, derives the key, and
 * writes the JSON envelope, members in order of code point. `model_json` is the model's name as a JSON string in UTF-8, with
 * its quotes. num_compute_units is written if has_num_compute_units is 1. ac_v1_request_max_bytes() is always
 * enough for out_cap; out_len is what was used. `opener` is overwritten and is usable only after AC_OK. */
size_t ac_v1_request_max_bytes(size_t body_len, size_t model_json_len);
int ac_v1_request_seal(ac_v1_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len,
                       const uint8_t node_public[AC_X25519_BYTES], const uint8_t *body, size_t body_len,
                       const uint8_t *model_json, size_t model_json_len, uint64_t stack_small_id,
                       uint64_t num_compute_units, int has_num_compute_units, int stream);

/* How the opener takes a stream; to be called before its first byte. */
int ac_v1_opener_set(ac_v1_opener *opener, size_t max_event_bytes, size_t max_line_bytes, int refuse_nonce_reuse);

#define AC_V1_EVENTS 32 /* that one call opens at most */
#define AC_V1_SPAN 3    /* numbers for each event: plaintext_len, usage_pos, usage_len */
#define AC_ONE 2        /* and more: AC_OK in the commonest of cases, see ac_v1_events_open */

/* What ac_v1_events_open works with, which the caller sets, and what it has found. */
typedef struct ac_v1_events {
  ac_v1_opener *opener;
  uint8_t *out;
  size_t out_cap;
  size_t event_cap; /* 1 to AC_V1_EVENTS */
  size_t out_len;   /* in use, or needed */
  size_t count;     /* events opened */
  size_t consumed;  /* bytes of `in` that are done with */
  size_t punt_pos;
  size_t spans[AC_V1_SPAN * AC_V1_EVENTS];
} ac_v1_events;

/* Open the complete events at the beginning of `in`, up to event_cap of them. `in` begins at the first byte that was
 * not consumed; a later call brings the same bytes and more behind them. The plaintexts are written one behind the
 * other; usage_pos and usage_len say where in `in` the JSON text of an event's usage stands (length 0: none).
 * Comments and `[DONE]` are passed over.
 *   AC_OK            `count` events were opened and `consumed` bytes are done with. count 0: more bytes are needed.
 *   AC_ONE + n       so it was, and there was one event, without usage, and `in` is all done with: its plaintext has
 *                    n bytes, and nothing else need be looked at. No nonce was ever seen twice.
 *   AC_PUNT          the first event is for the general parser: it is in[punt_pos .. consumed). count is 0.
 *   AC_ERR_CAPACITY  not even the first event fits; out_len says what it needs. The opener was not changed.
 *   any other        the first event is at fault, count is 0, the opener is failed. An event at fault behind good
 *                    ones is left for the next call. */
int64_t ac_v1_events_open(ac_v1_events *events, const uint8_t *in, size_t in_len);

/* 1: the in_len bytes that the call above has left over, when it said *count 0, are an unfinished event or line. */
int ac_v1_events_unfinished(const ac_v1_opener *opener, size_t in_len);

/* Open one reply, or one event that another parser has read: members as base64 text. hash_len 0: no hash was sent.
 * `out_cap` must be at least ac_base64_decoded_max(ciphertext_len). */
int ac_v1_sealed_open(ac_v1_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len,
                      const uint8_t *ciphertext, size_t ciphertext_len, const uint8_t *nonce, size_t nonce_len,
                      const uint8_t *hash, size_t hash_len);

/* As above, reading the reply's JSON too: AC_PUNT if it is for the general parser, and the opener was not changed.
 * AC_ERR_CAPACITY: out_len says what it needs. */
int ac_v1_reply_open(ac_v1_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, size_t *usage_pos,
                     size_t *usage_len, const uint8_t *in, size_t in_len);

int ac_v1_opener_close(ac_v1_opener *opener);
void ac_v1_opener_wipe(ac_v1_opener *opener);

/* ---- L1: HPKE (RFC 9180), base mode, HKDF-SHA256, AES-256-GCM ------------------------------------------------------ */

/* One side of a context. Single-flight, as a sealer is. */
typedef struct ac_hpke {
  ac_aes256gcm aes;
  uint64_t sequence; /* of the next message */
  uint8_t base_nonce[AC_NONCE_BYTES];
  uint8_t exporter_secret[AC_HASH_BYTES];
  uint32_t suite;
  uint32_t seals; /* 1: a sender, which seals; 0: a recipient, which opens */
  uint32_t state;
  uint32_t busy;
  uint32_t generation;
} ac_hpke;

/* Suite X25519. `ephemeral_secret` is NULL, for a fresh random one, but in tests of vectors. AC_ERR_KEY: the public key
 * gives an all-zero shared secret. */
int ac_hpke_setup_sender(ac_hpke *hpke, uint8_t enc[AC_X25519_BYTES], const uint8_t public_key[AC_X25519_BYTES],
                         const uint8_t *info, size_t info_len, const uint8_t *ephemeral_secret);
/* AC_ERR_AUTH: `enc` gives an all-zero shared secret. */
int ac_hpke_setup_recipient(ac_hpke *hpke, const uint8_t enc[AC_X25519_BYTES], const ac_secret_key *key,
                            const uint8_t *info, size_t info_len);
/* From the shared secret of a KEM outside of the core: suite X-Wing, whose KEM is the caller's. `seals`: as above. */
int ac_hpke_setup_shared(ac_hpke *hpke, uint32_t suite, int seals, const uint8_t shared_secret[AC_HASH_BYTES],
                         const uint8_t *info, size_t info_len);

/* As ac_aes256gcm_seal and _open, under the nonce of the context's next message. A message that does not verify
 * (AC_ERR_AUTH) does not count, and the context can go on, as RFC 9180, section 5.2 has it. AC_ERR_STATE: a recipient
 * cannot seal, nor a sender open. AC_ERR_LIMIT: 2^64 - 1 messages. AC_ERR_FORKED: sealing in a child process. */
int ac_hpke_seal(ac_hpke *hpke, uint8_t *out, size_t out_cap, const uint8_t *plaintext, size_t plaintext_len,
                 const uint8_t *aad, size_t aad_len);
int ac_hpke_open(ac_hpke *hpke, uint8_t *out, size_t out_cap, const uint8_t *sealed, size_t sealed_len,
                 const uint8_t *aad, size_t aad_len);
/* Export (RFC 9180, section 5.3): out_len up to 255 * 32. AC_ERR_OVERLAP: `out` overlaps `context`. */
int ac_hpke_export(ac_hpke *hpke, uint8_t *out, size_t out_len, const uint8_t *context, size_t context_len);
int ac_hpke_close(ac_hpke *hpke);  /* AC_ERR_BUSY: another thread is inside; nothing was wiped */
void ac_hpke_wipe(ac_hpke *hpke);  /* for when no other thread can hold it */

/* ---- L2: protocol v2, records ----------------------------------------------------------------------------------------- */

/* Seals one response: record i under the nonce base XOR i, its flag and usage in the additional data. */
typedef struct ac_v2_sealer {
  ac_aes256gcm aes;
  uint64_t index; /* of the next record */
  uint64_t bytes_left;
  uint8_t base[AC_NONCE_BYTES];
  uint8_t salt[AC_V2_SALT_BYTES];
  uint32_t begun; /* 1: the first record was sealed, and with it the salt was shown */
  uint32_t state;
  uint32_t busy;
  uint32_t generation;
} ac_v2_sealer;

/* For embedders with a framing of their own: draws the salt. `secret` is what HPKE exported, `enc` the encapsulated key
 * as it was received, up to AC_V2_MAX_ENC_BYTES. */
int ac_v2_sealer_init(ac_v2_sealer *sealer, const uint8_t secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len);

/* One record: ciphertext || tag. `usage` is NULL or three numbers. `out` may be `plaintext` itself. After a flag that is
 * not AC_FLAG_MORE the sealer can seal nothing more: AC_ERR_STATE. AC_ERR_ARGUMENT: an unknown flag, AC_FLAG_MORE with
 * an empty plaintext, AC_FLAG_WHOLE behind other records, a usage of more than 2^53 - 1. AC_ERR_LIMIT: records or bytes
 * are spent; an abort can still be sealed. AC_ERR_PRIMITIVE fails the sealer for good: no abort follows. An index is
 * spent when AES starts. */
int ac_v2_record_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, uint32_t flag, const uint8_t *plaintext,
                      size_t plaintext_len, const uint64_t *usage);

/* Exact sizes of what follows. SIZE_MAX: impossible, the lengths do not add up, or there is no event at all. */
size_t ac_v2_events_bytes(const ac_v2_sealer *sealer, size_t plaintexts_len, const size_t *plaintext_lens, size_t count,
                          uint32_t last_flag, const uint64_t *usage);
size_t ac_v2_object_bytes(size_t plaintext_len, uint32_t flag, const uint64_t *usage);

/* One finished SSE event, of flag AC_FLAG_MORE and without usage. Returns its length, or a status. */
int64_t ac_v2_event_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, const uint8_t *plaintext,
                         size_t plaintext_len);
/* `count` events, joined, as in ac_v1_events_seal: all of them or none. The last one has `last_flag`, the others
 * AC_FLAG_MORE; each shows `usage`. Errors as of ac_v2_record_seal; an event cannot have AC_FLAG_WHOLE. */
int ac_v2_events_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len, const uint8_t *plaintexts,
                      size_t plaintexts_len, const size_t *plaintext_lens, size_t count, uint32_t last_flag,
                      const uint64_t *usage);
/* The one JSON object, of flag AC_FLAG_WHOLE or AC_FLAG_ABORT. AC_ERR_ARGUMENT: something was sealed before. */
int ac_v2_object_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len, uint32_t flag,
                      const uint8_t *plaintext, size_t plaintext_len, const uint64_t *usage);

int ac_v2_sealer_close(ac_v2_sealer *sealer);
void ac_v2_sealer_wipe(ac_v2_sealer *sealer);

/* Until the first record says which salt, the opener keeps what the key is made of. */
typedef struct ac_v2_waiting {
  uint8_t secret[AC_HASH_BYTES];
  uint8_t enc[AC_V2_MAX_ENC_BYTES];
  size_t enc_len;
} ac_v2_waiting;

/* Opens the records of one response, in their order, and remembers where in the received bytes it stands. */
typedef struct ac_v2_opener {
  union {
    ac_aes256gcm aes;      /* keyed is 1 */
    ac_v2_waiting waiting; /* keyed is 0 */
  } key;
  ac_sse sse;
  uint64_t index; /* of the next record */
  uint64_t bytes_left;
  uint8_t base[AC_NONCE_BYTES];
  uint32_t keyed;
  uint32_t stream; /* 1: events with flags 0, 1, 2, or one object with flag 2; 0: one object with flag 3 or 2 */
  uint32_t ended;  /* 1: the last record was opened */
  uint32_t state;
  uint32_t busy;
} ac_v2_opener;

/* For embedders, as ac_v2_sealer_init: any flag is taken as the sealer may give it. */
int ac_v2_opener_init(ac_v2_opener *opener, const uint8_t secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len,
                      const uint8_t salt[AC_V2_SALT_BYTES]);
/* One record. `out` may be `sealed` itself. AC_ERR_FORMAT: a record behind the last, or a flag that cannot stand here;
 * it fails the opener but for what was ended: the end stays true. AC_ERR_TOO_LARGE: more records, or more plaintext, than
 * one response has. */
int ac_v2_record_open(ac_v2_opener *opener, uint8_t *out, size_t out_cap, uint32_t flag, const uint8_t *sealed,
                      size_t sealed_len, const uint64_t *usage);

int ac_v2_opener_set(ac_v2_opener *opener, size_t max_event_bytes, size_t max_line_bytes);

#define AC_V2_EVENTS 32 /* that one call opens at most */
#define AC_V2_SPAN 6    /* numbers for each event: plaintext_len, flag, 1 if there is usage, and its three */

typedef struct ac_v2_events {
  ac_v2_opener *opener;
  uint8_t *out;
  size_t out_cap;
  size_t event_cap; /* 1 to AC_V2_EVENTS */
  size_t out_len;   /* in use, or needed */
  size_t count;     /* events opened */
  size_t consumed;  /* bytes of `in` that are done with */
  size_t punt_pos;
  uint64_t spans[AC_V2_SPAN * AC_V2_EVENTS];
} ac_v2_events;

/* As ac_v1_events_open, and AC_ONE + n only for an event of flag AC_FLAG_MORE. Nothing is opened behind the last event
 * by the call that opens it, and a later call that finds an event there returns AC_ERR_FORMAT; `[DONE]` is an event like
 * any other, and no good one. */
int64_t ac_v2_events_open(ac_v2_events *events, const uint8_t *in, size_t in_len);
int ac_v2_events_unfinished(const ac_v2_opener *opener, size_t in_len);

/* Open one object, or one event that another parser has read. `salt_len` 0: none was there. `event` is 1 or 0.
 * `out_cap` must be at least ac_base64_decoded_max(ciphertext_len). AC_ERR_FORMAT: a flag that this answer cannot have,
 * a salt that is missing or one too many, a record behind the last, malformed base64. */
int ac_v2_sealed_open(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, int event, uint32_t flag,
                      const uint8_t *ciphertext, size_t ciphertext_len, const uint8_t *salt, size_t salt_len,
                      const uint64_t *usage);
/* As above, reading an object's JSON too, as ac_v1_reply_open does. `span` is as one of ac_v2_events. */
int ac_v2_object_open(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, uint64_t span[AC_V2_SPAN],
                      const uint8_t *in, size_t in_len);

int ac_v2_opener_close(ac_v2_opener *opener);
void ac_v2_opener_wipe(ac_v2_opener *opener);

/* ---- L2: protocol v2, requests ------------------------------------------------------------------------------------------ */

/* What stands in clear in a request, parsed; the additional data is made of it. */
typedef struct ac_v2_metadata {
  const uint8_t *endpoint; /* 1 to 128 of A-Z a-z 0-9 / _ . -, which is checked */
  size_t endpoint_len;
  const uint8_t *model; /* UTF-8, 1 to 256 bytes */
  size_t model_len;
  uint64_t stack_small_id;
  uint64_t num_compute_units;
  uint64_t sent_at; /* seconds since 1970 */
  uint32_t has_stack_small_id;
  uint32_t has_num_compute_units;
  uint32_t stream; /* 1 or 0 */
} ac_v2_metadata;

/* Make a request and the opener of its answer. Suite X25519: `public_key` is the node's, `shared` and `enc` are NULL.
 * Suite X-Wing: `public_key` is NULL, and `shared` and `enc` (of enc_len bytes) are what its KEM gave. `model_json` is the
 * model's name as a JSON string in ASCII, with its quotes. The rest is as in ac_v1_request_seal. */
size_t ac_v2_request_max_bytes(size_t body_len, size_t model_json_len, size_t enc_len);
int ac_v2_request_seal(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, uint32_t suite,
                       const uint8_t key_id[AC_KEY_ID_BYTES], const uint8_t *public_key,
                       const uint8_t *shared, const uint8_t *enc, size_t enc_len, const ac_v2_metadata *metadata,
                       const uint8_t *model_json, size_t model_json_len, const uint8_t *body, size_t body_len);

/* Open a request and make the sealer of its answer, which draws the salt. Suite X25519: `node` is the key, `shared` NULL.
 * Suite X-Wing: `node` is NULL, `shared` what its KEM gave. `enc` are bytes as received, `ciphertext` is base64 text.
 * Otherwise as ac_v1_request_open. */
int ac_v2_request_open(ac_v2_sealer *sealer, uint8_t *body, size_t body_cap, size_t *body_len, uint32_t suite,
                       const uint8_t key_id[AC_KEY_ID_BYTES], const ac_secret_key *node, const uint8_t *shared,
                       const uint8_t *enc, size_t enc_len, const uint8_t *ciphertext, size_t ciphertext_len,
                       const ac_v2_metadata *metadata);

/* ---- base64 (RFC 4648, section 4: padded, no white space, spare bits zero) --------------------------------------- */

/* Of public bytes only: branches on its input. */
size_t ac_base64_encoded_len(size_t in_len); /* SIZE_MAX: impossible */
size_t ac_base64_decoded_max(size_t in_len);

/* === contract ends === */

#endif
