/* What the programs here share: secrets that are planted, and a search of all of the process's memory for them. */
#ifndef PROOFS_H
#define PROOFS_H

#include "harness.h"

/* ---- search.c ---- */

void search_forget(void);                                         /* all that it was to look for */
void search_for(const char *name, const void *secret, size_t len); /* any 8 bytes in a row, kept masked */
/* How many places hold some of it. The first of each is told, with `what` was done; NULL: none is. */
size_t search_all(const char *what);

/* Call on a stack of its own, which stays where it is, until the next call, and is searched like all else. */
void on_own_stack(void (*function)(void));
size_t own_stack_depth(void); /* bytes that calls have used of it, at most */
void own_stack_clear(void);

/* ---- planted.c: what there is to find ---- */

/* The text is longer than two groups of blocks of each AES backend. */
enum { TEXT = 1500, INFO = 24 };

/* What the caller brings, secret, and wipes by itself. */
typedef struct brought {
  uint8_t node[AC_X25519_BYTES], client[AC_X25519_BYTES], seed[AC_SIGN_SEED_BYTES];
  uint8_t xwing_shared[AC_HASH_BYTES], response[AC_HASH_BYTES]; /* the latter is what v2 exports for the answer */
  uint8_t key[AC_KEY_BYTES];
  uint8_t text[TEXT];
  uint8_t queue[AC_X25519_BYTES + AC_V1_SALT_BYTES + AC_NONCE_BYTES]; /* the client's key, and what is random behind it */
  ac_secret_key pair; /* the node's */
  ac_signing_key signing;
} brought;

/* Public, and the same in each case: what goes over the wire. */
typedef struct wires {
  uint8_t node_public[AC_X25519_BYTES], client_public[AC_X25519_BYTES];
  uint8_t nonce[AC_NONCE_BYTES], salt[AC_V2_SALT_BYTES], xwing_enc[AC_V2_MAX_ENC_BYTES], info[INFO];
  uint8_t hpke_sealed[TEXT + AC_TAG_BYTES], record[TEXT + AC_TAG_BYTES];
  bytes v1_request, v1_event, v1_next, v1_reply; /* the second event shows its usage, the first none */
  bytes v2_request, v2_xwing_request, v2_object;
  bytes v2_event, v2_next, v2_last; /* one after the other: with the salt, plain, and the end with its usage */
} wires;

/* What the core keeps secrets in: to be clean by its own wiping. */
typedef struct objects {
  ac_secret_key key;
  ac_signing_key signing;
  ac_aes256gcm aes;
  ac_v1_opener v1_opener;
  ac_v1_sealer v1_sealer;
  ac_hpke hpke;
  ac_v2_opener v2_opener;
  ac_v2_sealer v2_sealer;
} objects;

extern brought in;
extern wires wire;
extern objects object;
extern const uint64_t v2_usage[AC_V2_USAGE];
extern uint8_t out[4 * TEXT]; /* what a call gives: plaintext perhaps, where it succeeds */

int start(const char *aes_backend); /* libsodium and the core */
/* Run something on each AES backend of this CPU, and say on how many; and once more as on a CPU that has next to nothing.
 * It adds up how many calls that were; `bad` gathers its verdicts. */
size_t on_each_backend(int (*run)(size_t *calls), size_t *calls, int *bad);
void queue_random(const void *p, size_t len); /* the next random bytes, in place of any that are left over */
/* Draw all of it anew for the AES backend in use, derive what follows of it, and look for that from now on. */
void plant(void);
void bring(void);  /* fill `in` */
void carry_off(void); /* wipe `in` */

#endif
