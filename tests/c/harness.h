/* What the files of the harness share: checks, buffers that end where they end, libsodium with planted faults. */
#ifndef HARNESS_H
#define HARNESS_H

#include "ac_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

/* ---- checks: each counts; one that fails says where ---- */

int check(int good, const char *file, int line, const char *what);
int check_status(int got, int want, const char *file, int line, const char *what);
int check_bytes(const void *got, size_t got_len, const void *want, size_t want_len, const char *file, int line,
                const char *what);

/* Loops over many cases go on by this: 1, or more under valgrind, which is some fifty times slower, or what the environment
 * has in HARNESS_STRIDE. Vectors are always run whole. */
unsigned stride(void);

#define CHECK(condition) check((condition) != 0, __FILE__, __LINE__, #condition)
#define CHECK_STATUS(call, want) check_status((call), (want), __FILE__, __LINE__, #call)
/* Both are a view or bytes. */
#define CHECK_SAME(got, want) \
  check_bytes((got).at, (got).len, (want).at, (want).len, __FILE__, __LINE__, #got " is " #want)
#define CHECK_EQUAL(got, want, len) check_bytes((got), (len), (want), (len), __FILE__, __LINE__, #got " is " #want)

/* ---- buffers ---- */

typedef struct view {
  const uint8_t *at;
  size_t len;
} view;

/* Of exactly `len` bytes on the heap, so that the sanitizer sees one byte beside it. NULL if len is 0. */
typedef struct bytes {
  uint8_t *at;
  size_t len;
} bytes;

bytes bytes_new(size_t len); /* holds a pattern */
bytes bytes_copy(const void *from, size_t len);
void bytes_append(bytes *b, const void *from, size_t len);
void bytes_free(bytes *b);
int bytes_untouched(const bytes *b); /* holds the pattern still */
int all_zero(const void *p, size_t len);
/* Some 8 bytes in a row of `secret` stand in p. */
int holds_run_of(const void *p, size_t len, const void *secret, size_t secret_len);

/* Memory between two pages that must not be touched. */
typedef struct guarded {
  uint8_t *begin, *end;
} guarded;

typedef enum edge { AT_BEGIN, AT_END, EDGES } edge;

guarded guarded_new(size_t least);
void guarded_free(guarded *g);
/* `len` bytes right behind the page before, or right before the page behind. */
uint8_t *guarded_at(const guarded *g, edge side, size_t len);
uint8_t *guarded_copy(const guarded *g, edge side, const void *from, size_t len);

view view_of(const char *text);
view viewed(const bytes *b);
size_t unhex(uint8_t *out, const char *hex); /* the length */
/* The content of the string or object that stands as member `name` in compact JSON. */
view member(view json, const char *name);

/* ---- libsodium ---- */

typedef enum primitive {
  NOWHERE,
  IN_SHA256,
  IN_BLAKE2B,
  IN_SIGN,
  IN_SIGN_KEYPAIR,
  IN_SCALARMULT,
  IN_SCALARMULT_BASE,
  IN_ENCRYPT,
  IN_DECRYPT
} primitive;

typedef enum fault_kind {
  REFUSES, /* returns -1, half way: X25519 and AES leave something in their output */
  LIES,    /* returns 0, one bit of its output is wrong */
  IS_ZERO  /* returns 0, its output is zero */
} fault_kind;

extern const ac_sodium sodium_table;
void fault_plant(primitive in, fault_kind kind, unsigned after); /* strikes once, after so many good calls */
int fault_struck(void);                                          /* and is gone then */

extern void (*on_blake2b)(void); /* called first thing in each BLAKE2b, if not NULL */
extern void (*on_memzero)(void); /* and in each wipe */

/* A thread that calls visit(what), and is held the first time it comes to `at`, one of these two; or it is done. */
pthread_t gate_enter(void (**at)(void), void (*visit)(void *), void *what);
void gate_leave(pthread_t thread); /* let it go on, to its end */
int exit_status(pid_t pid);        /* of a child; -1 if it has none */

/* The next random bytes; none may be left over before more are queued. */
void random_queue(const void *p, size_t len);
size_t random_left(void);
uint32_t random_below(uint32_t bound); /* for cases, the same in each run */

/* ---- AES backends ---- */

enum { MOST_BACKENDS = 8 };

/* The one that is written for clarity, and that every CPU has: the others are held to it. */
unsigned model_backend(void);

/* ---- protocol ---- */

/* X25519's, in hex: what anything times one of them is zero. */
enum { SMALL_ORDER = 7 };
extern const char *const points_of_small_order[SMALL_ORDER];

/* The longest plaintext whose message has a length: where size_t has 32 bits, they are the limit. */
#define MOST_PLAINTEXT (SIZE_MAX / 4 < AC_GCM_MAX_BYTES ? SIZE_MAX / 4 : (size_t)AC_GCM_MAX_BYTES)

typedef struct exchange {
  ac_v1_opener opener; /* client */
  ac_v1_sealer sealer; /* node */
} exchange;

exchange exchange_make(const ac_signing_key *signing);
ac_signing_key some_signing_key(void);
ac_v1_envelope envelope_of(view json);
/* ac_v1_event_seal, or ac_v1_events_seal for one event that shows its usage. */
int event_seal(ac_v1_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len, const uint8_t *plaintext,
               size_t plaintext_len, const uint8_t *usage, size_t usage_len);
bytes seal_event(ac_v1_sealer *sealer, const char *plaintext, const char *usage);
view event_data(const bytes *event); /* its JSON */
/* Open one event alone. The plaintext, or nothing. */
/* ac_v1_events_open with this opener, AC_ONE looked into and told as AC_OK. */
int events_open(ac_v1_opener *opener, ac_v1_events *events, view in);
int open_event_alone(ac_v1_opener *opener, bytes *plaintext, view event);

/* Takes a stream as a session does: what was not consumed comes again, with more behind it. */
typedef struct reader {
  ac_v1_opener opener;
  size_t span_cap, out_cap;
  bytes held;
  bytes log; /* E plaintext (usage) \n, P data \n for the general parser */
  int status;
} reader;

reader reader_make(const ac_v1_opener *fresh, size_t span_cap, size_t out_cap);
void reader_feed(reader *r, const void *in, size_t len);
int reader_unfinished(const reader *r);
void reader_free(reader *r);
/* The rules of WHATWG HTML 9.2 once more, told plainly: data of the complete events, each ended by a zero byte; the
 * return value is 1 if something unfinished stands behind them. */
int model_read(bytes *data, view stream);

/* ---- the stack ---- */

/* A stack of its own for this call, as it left it; to be freed. */
uint8_t *stack_after(void (*function)(void));
/* Some 16 bytes in a row of `secret`, but for those that are all alike. */
int stack_holds(const uint8_t *stack, const void *secret, size_t secret_len);

/* ---- protocol v2 ---- */

typedef struct v2_exchange {
  ac_v2_opener opener; /* client */
  ac_v2_sealer sealer; /* node */
} v2_exchange;

extern const uint8_t v2_key_id[AC_KEY_ID_BYTES];
ac_v2_metadata v2_metadata(int stream); /* with all that can be there */
v2_exchange v2_exchange_make(int stream);
int usage_is(const uint64_t *got, const uint64_t *want);
/* One event; `usage` may be NULL. */
bytes v2_seal(ac_v2_sealer *sealer, uint32_t flag, const char *plaintext, const uint64_t *usage);
bytes v2_seal_object(ac_v2_sealer *sealer, uint32_t flag, const char *plaintext, const uint64_t *usage);
/* ac_v2_events_open with this opener, AC_ONE looked into and told as AC_OK. */
int v2_events_open(ac_v2_opener *opener, ac_v2_events *events, view in);
/* Open one event alone. The plaintext, or nothing; what its span says. */
int v2_open_alone(ac_v2_opener *opener, bytes *plaintext, uint64_t span[AC_V2_SPAN], view event);

/* One event, or one object, as it is or as another parser hands it over, in a buffer that ends where it ends. */
int v2_feed(ac_v2_opener *opener, bytes *out, size_t *len, size_t *count, view event);
int v2_feed_members(ac_v2_opener *opener, bytes *out, size_t *len, int event, uint32_t flag, view json,
                    const uint64_t *usage);
int v2_feed_object(ac_v2_opener *opener, bytes *out, size_t *len, uint64_t span[AC_V2_SPAN], view json);
view v2_data_of(const bytes *event); /* its JSON */
/* It has failed for good, and nothing of the plaintext is in `out`. */
void v2_check_failed(const ac_v2_opener *opener, const bytes *out, const char *plaintext);

enum { V2_BODY = 29 };
extern const char v2_body[V2_BODY + 1]; /* of each v2_request */
/* What X-Wing's KEM would have given; for both ends, whatever the key. */
extern uint8_t v2_xwing_shared[AC_HASH_BYTES], v2_xwing_enc[AC_V2_MAX_ENC_BYTES];
void v2_xwing_draw(void);

/* A request as it was sent, taken apart as a node's parser does. */
typedef struct v2_sent {
  uint32_t suite;
  ac_v2_opener opener;
  ac_v2_metadata metadata;
  bytes json;
  view ciphertext;
  uint8_t key_id[AC_KEY_ID_BYTES];
  uint8_t enc[AC_V2_MAX_ENC_BYTES + 2]; /* as the decoder asks for */
  size_t enc_len;
} v2_sent;

int v2_request_seal(ac_v2_opener *opener, bytes *out, size_t *len, uint32_t suite, const uint8_t *public_key,
                    const ac_v2_metadata *metadata);
v2_sent v2_request_make(uint32_t suite, const ac_secret_key *node, ac_v2_metadata metadata);
int v2_request_open(const v2_sent *r, const ac_secret_key *node, ac_v2_sealer *sealer, bytes *body);
void v2_request_open_is(const v2_sent *r, const ac_secret_key *node, int want);

typedef struct v2_reader {
  ac_v2_opener opener;
  size_t span_cap, out_cap;
  bytes held;
  bytes log; /* E flag plaintext (usage) \n, P data \n for the general parser */
  size_t punts;
  int status;
} v2_reader;

v2_reader v2_reader_make(const ac_v2_opener *fresh, size_t span_cap, size_t out_cap);
void v2_reader_feed(v2_reader *r, const void *in, size_t len);
void v2_reader_free(v2_reader *r);
void v2_log(bytes *log, uint64_t flag, view plaintext, const uint64_t *usage);

/* ---- the tests ---- */

/* Random cases number `first`, `first` + 1, ...: each backend that can be used against the model. */
void compare_backends(unsigned first, unsigned count);

void test_primitives(void);
void test_sha256(void);
void test_hpke(void);
void test_gcm(void);
void test_differential(void);
void test_gcm_guards(void);
void test_base64(void);
void test_text(void);
void test_masks(void);
void test_event_guards(void);
void test_vectors(void);
void test_request(void);
void test_sealer(void);
void test_opener(void);
void test_stream(void);
void test_faults(void);
void test_parallel(void);
void test_stack(void);
void test_v2_text(void);
void test_v2_vectors(void);
void test_v2_sealer(void);
void test_v2_opener(void);
void test_v2_states(void);
void test_v2_stream(void);
void test_v2_request(void);
void test_v2_bound(void);
void test_v2_parallel(void);
void test_v2_guards(void);
void test_v2_stack(void);

#endif
