/* What is done while secrets are planted. */
#ifndef ACTS_H
#define ACTS_H

#include "proofs.h"

typedef struct act {
  void (*run)(void);
  const char *name;
  int want;
  unsigned wrong; /* what goes wrong, if anything: see below */
  primitive in;   /* where libsodium refuses, after so many good calls */
  unsigned after;
  size_t len;       /* of the text, if not all of it */
  int gives_secret; /* where it succeeds, `out` is wiped as its caller would */
  int is_control;   /* it must be found */
} act;

#define ACT(function, ...) {.run = function, .name = #function, .want = __VA_ARGS__}

enum {
  FORGED = 1,
  OTHER_KEY = 2,
  ZERO_POINT = 4,
  WRONG_HASH = 8,
  NO_ROOM = 16,
  MALFORMED = 32,
  OVERLAPS = 64,   /* the output lies in an input */
  TOO_LONG = 128,  /* a length that nothing has */
  CLOSED = 256,    /* the object, before the call */
  BUSY = 512,      /* another thread is inside the object, which cannot be closed then */
  FORKED = 1024,   /* the object is a parent's */
  SPENT = 2048,    /* as many messages or bytes as there can be */
  AGAIN = 4096,    /* what may come only once, a second time */
  STRICT = 8192,   /* nonces that repeat are refused */
  REFLECTED = 1 << 14,
  OTHER_WAY = 1 << 15, /* what opens is to seal, what seals to open */
  NO_SUCH = 1 << 16,   /* suite or backend */
  LIMITED = 1 << 17,   /* the receiver takes next to nothing */
  PLAIN = 1 << 18      /* nothing is wrong: neither signature nor usage */
};

/* What each object refuses in one way, and each seal. */
#define STATES_OF(function) \
  ACT(function, AC_ERR_OVERLAP, .wrong = OVERLAPS), ACT(function, AC_ERR_STATE, .wrong = CLOSED), \
  ACT(function, AC_ERR_BUSY, .wrong = BUSY)
#define SEALS(function) \
  ACT(function, AC_OK), ACT(function, AC_OK, .wrong = PLAIN), ACT(function, AC_ERR_CAPACITY, .wrong = NO_ROOM), \
  STATES_OF(function), ACT(function, AC_ERR_FORKED, .wrong = FORKED), ACT(function, AC_ERR_LIMIT, .wrong = SPENT), \
  ACT(function, AC_ERR_ARGUMENT, .wrong = TOO_LONG), ACT(function, AC_ERR_PRIMITIVE, .in = IN_ENCRYPT)

/* Each ends with one that has no name. */
extern const act *const acts_of_primitives, *const acts_of_v1, *const acts_of_v2;

/* ---- registers.c ---- */

#define LOOK(call) registers_after(call)
int64_t registers_after(int64_t result); /* what a call has left in the vector registers, kept to be searched */
void registers_forget(void);

/* ---- acts.c ---- */

extern int status;     /* of the act that runs */
extern unsigned wrong; /* what is to go wrong in it */
extern size_t text_len;
extern size_t out_len;

int act_is_for(const act *a, unsigned backend); /* only libsodium's AES can refuse */
void act_begin(const act *a);

bytes spoiled(const bytes *text);          /* a message, with what is to be wrong with it; until the next */
size_t room(void);                         /* in `out`, perhaps not enough */
uint8_t *place(const void *input);         /* `out`, or perhaps within an input */
/* Of an object: what would refuse any call; and it is as it was again, but for what was closed. */
void hinder(uint32_t *state, uint32_t *busy);
void unhinder(uint32_t *busy);
const uint8_t *peer(const uint8_t *point); /* perhaps one of small order */

#endif
