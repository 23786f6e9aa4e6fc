/* What the fuzz targets share: the tape that an input is, buffers that end where they end, libsodium under guard, readers
 * that have nothing in common with the core's, and a fixed exchange. */
#ifndef FUZZ_H
#define FUZZ_H

#include "ac_internal.h"

/* A disagreement ends the process: libFuzzer keeps the input. */
#define MUST(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))
_Noreturn void fuzz_fail(const char *file, int line, const char *what);

typedef struct view {
  const uint8_t *at;
  size_t len;
} view;

static inline int same(view a, view b) { return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0); }
static inline view view_of(const char *text) { return (view){(const uint8_t *)text, strlen(text)}; }

/* ---- the input is a tape of decisions; past its end it reads as zeros ---- */

typedef struct tape {
  const uint8_t *at;
  size_t left;
} tape;

static inline uint8_t take(tape *t) {
  if (t->left == 0) return 0;
  t->left--;
  return *t->at++;
}

static inline unsigned take_below(tape *t, unsigned bound) { return take(t) % bound; }
/* Any number, with a liking for those that stand at an edge. */
uint64_t take_number(tape *t);
/* Up to `most` bytes, as many as its next byte says and as are left. */
view take_view(tape *t, size_t most);
/* Change a text as the tape says: flip, set, insert, delete, repeat, cut. The new length, at most `cap`. */
size_t mutate(tape *t, uint8_t *text, size_t len, size_t cap);

/* ---- buffers: of exactly so many bytes, those beside them poisoned ---- */

enum { PATTERN = 0xa5, ARENA_BYTES = 1 << 20 };

void arena_reset(void);        /* to be called first thing for each input */
uint8_t *room(size_t len);     /* holds the pattern; not NULL, even of 0 bytes */
uint8_t *copied(const void *from, size_t len);
int untouched(const void *p, size_t len); /* holds the pattern still */
int all_zero(const void *p, size_t len);

/* ---- libsodium ---- */

/* ac_init with the best backend. Each function asks the sanitizer whether what it is given may be touched. */
void fuzz_init(void);
void random_restart(uint64_t seed); /* the bytes that are drawn from here on depend on the seed alone */

/* ---- readers of their own: slow, plain, strict ---- */

/* RFC 4648, section 4. 1: it is good; its bytes. */
int oracle_base64(uint8_t *out, size_t *out_len, view text);
size_t oracle_base64_encode(uint8_t *out, const uint8_t *in, size_t len);

typedef struct json_member {
  view name, value; /* strings without their quotes */
  char kind;        /* the value's first byte; '0' for a number */
  int escaped;      /* a backslash in the name, or in a string that is the value */
} json_member;

enum { JSON_MEMBERS = 256 }; /* a member is five bytes at least, and no target reads longer objects */

typedef struct json_object {
  json_member members[JSON_MEMBERS];
  size_t count;
} json_object;

/* An object in the grammar of RFC 8259, in UTF-8, with white space around, with up to JSON_MEMBERS members. */
int oracle_json(json_object *object, view text);
/* The only member with this name, or NULL. *many: how many there are. */
const json_member *json_find(const json_object *object, const char *name, size_t *many);
int json_number(const json_member *member, uint64_t *value); /* 1: a whole number without sign, up to 2^53 - 1 */

/* An event of a stream (WHATWG HTML, section 9.2) that has data. */
typedef struct sse_event {
  view data; /* of its first data line */
  size_t data_lines;
  const uint8_t *end; /* behind the line end of its blank line; a CR that ends it may have a LF behind it */
} sse_event;

typedef struct sse_limits {
  size_t event, line; /* bytes; of a line that is no data */
} sse_limits;

extern const sse_limits no_limits;

/* What stands behind the complete events. */
enum { NOTHING = 0, UNFINISHED = 1, TOO_LARGE = 2 };

/* The complete events, up to the first byte that is one too many. */
size_t oracle_sse(sse_event *events, size_t most, view stream, sse_limits limits, int *rest);

/* ---- the exchange: made once, copied for each input ---- */

/* Something that the node has sealed, and what a client must make of it. */
typedef struct sealed {
  view text;             /* the event or object as it was sent; an event has `data: ` before and a blank line behind */
  view json;             /* in there */
  view plaintext;        /* holds the mark, if it is long enough */
  view ciphertext;       /* base64 text */
  view nonce, hash;      /* base64 text, v1 */
  view usage;            /* JSON text */
  uint64_t numbers[AC_V2_USAGE];
  uint32_t index, flag;  /* v2 */
} sealed;

enum { MOST_SEALED = 40 };

typedef struct exchange {
  ac_secret_key node;
  ac_signing_key signing;
  ac_v1_opener v1_opener;
  ac_v1_sealer v1_sealer;
  ac_v2_opener v2_opener; /* waits for the salt */
  ac_v2_sealer v2_sealer;
  uint8_t v2_salt[44];    /* base64 text */
  view v1_request, v2_request;
  sealed v1[MOST_SEALED], v2[MOST_SEALED]; /* events */
  size_t v1_count, v2_count;
  sealed v1_replies[4], v2_objects[8];
  size_t v1_reply_count, v2_object_count;
} exchange;

extern const ac_v2_metadata v2_metadata;
extern const uint8_t v2_key_id[AC_KEY_ID_BYTES];
const exchange *exchange_make(void); /* after fuzz_init */
/* 1: a piece of a sealed plaintext stands in there. */
int holds_plaintext(const void *p, size_t len);
view member_text(view json, const char *name); /* of JSON that the core has written */
view kept(const void *from, size_t len);       /* a copy that stays */

/* A stream of sealed events, in and out of order, changed, and of other bytes. `v2`: which list. Its length. */
size_t stream_make(tape *t, uint8_t *out, size_t cap, const exchange *x, int v2);

/* ---- for targets ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

#endif
