/* What the files of the check for constant time share. */
#ifndef CT_H
#define CT_H

#include "ac_internal.h"

/* ---- marks.c ---- */

/* From here on these bytes are a secret: a branch on what is computed from them, or an address, is an error.
 * aci_declassify, in ac_internal.h, is the way back. */
void secret(void *p, size_t len);
int watched(void);              /* 1: marks mean something in this process */
void declassify_nothing(void); /* from here on */

/* libsodium itself. What it draws as a key is marked, what it gives out as public is not. */
extern const ac_sodium ct_sodium;

void must(int condition, const char *file, int line, const char *what); /* ends the program otherwise */
#define MUST(condition) must((condition) != 0, __FILE__, __LINE__, #condition)

/* ---- operations*.c: they mark what they put in and check what comes out ---- */

/* No two are alike, so that a result that does not depend on its input would show. */
void fill(uint8_t *p, size_t len);
void fill_secret(uint8_t *p, size_t len);
int same(const void *a, const void *b, size_t len); /* what the program compares itself is public from then on */
/* The bytes between the quotes of member `name`, which is there. */
const uint8_t *member(size_t *len, const uint8_t *json, size_t json_len, const char *name);
void spoil(const uint8_t *text, size_t len); /* another digit of base64, a few digits before the end */

void operate_gcm(unsigned backend);
void operate_keys(void);
void operate_sessions(void);
void operate_v2(void);

typedef struct session_pair {
  ac_v1_opener opener; /* client */
  ac_v1_sealer sealer; /* node */
} session_pair;

session_pair session_start(size_t body_len, const ac_signing_key *signing);
int session_open(ac_v1_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, size_t *consumed,
                 const uint8_t *in, size_t in_len);

#endif
