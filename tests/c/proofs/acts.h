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
  int gives_secret; /* where it succeeds, `out` is wiped as its caller would */
  int is_control;   /* it must be found */
} act;

#define ACT(function, ...) {.run = function, .name = #function, .want = __VA_ARGS__}

enum { FORGED = 1, OTHER_KEY = 2, ZERO_POINT = 4, WRONG_HASH = 8, NO_ROOM = 16, MALFORMED = 32 };

/* Each ends with one that has no name. */
extern const act *const acts_of_primitives, *const acts_of_v1, *const acts_of_v2;

/* ---- registers.c ---- */

#define LOOK(call) registers_after(call)
int64_t registers_after(int64_t result); /* what a call has left in the vector registers, kept to be searched */
void registers_forget(void);

/* ---- acts.c ---- */

extern int status;     /* of the act that runs */
extern unsigned wrong; /* what is to go wrong in it */
extern size_t out_len;

bytes spoiled(const bytes *text);          /* a message, with what is to be wrong with it; until the next */
size_t room(void);                         /* in `out`, perhaps not enough */
const uint8_t *peer(const uint8_t *point); /* perhaps one of small order */

#endif
