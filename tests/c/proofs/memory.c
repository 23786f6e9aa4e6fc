/* No secret is left in memory: each function is run to its end and to each of its refusals, its objects are wiped by their
 * own functions, and then all of the process's writable memory is searched for what was planted and what follows of it:
 * the heap, the data, the stack that the calls have used, and the vector registers as the call has left them.
 *
 * Not looked for: nonces, which are sent or are worth nothing without their key. */
#include "acts.h"

#include <sodium.h>

/* ---- what must be found, or nothing above shows anything ---- */

static void leaves_on_stack(void) {
  volatile uint8_t copy[32];
  for (size_t i = 0; i < sizeof copy; i++) copy[i] = in.key[i];
  status = AC_OK;
}

static uint8_t *heap;

static void leaves_on_heap(void) {
  if (heap == NULL && (heap = malloc(100)) == NULL) abort();
  memcpy(heap + 61, in.client + 3, 20);
  status = AC_OK;
}

static void leaves_in_data(void) {
  memcpy(out, in.text + 301, 9);
  status = AC_OK;
}

static void leaves_an_object(void) { status = ac_aes256gcm_init(&object.aes, in.key, ac_aes_backend_default()); }

/* libsodium itself: the digits of the secret scalar stay on the stack. */
static void leaves_digits(void) {
  uint8_t public_key[AC_SIGN_PUBLIC_BYTES];
  status = sodium_table.sign_seed_keypair(public_key, object.signing.secret, in.seed) == 0 ? AC_OK : AC_PUNT;
  sodium_memzero(&object.signing, sizeof object.signing);
}

/* The same of X25519: what it gives stays there in limbs, and nowhere else once its bytes are wiped. */
static void leaves_limbs(void) {
  status = sodium_table.scalarmult(object.key.secret, in.client, wire.node_public) == 0 ? AC_OK : AC_PUNT;
  sodium_memzero(&object.key, sizeof object.key);
}

/* In a register, which is searched as it was when a call came back. */
static void leaves_in_register(void) {
#if ACI_X86_64
  __asm__ volatile("movdqu %0, %%xmm7" : : "m"(in.key) : "xmm7");
#else
  memcpy(out, in.key, sizeof in.key); /* they are not looked at here */
#endif
  status = (int)LOOK(AC_OK);
}

static const act controls[] = {
    ACT(leaves_in_register, AC_OK, .is_control = 1),
    ACT(leaves_on_stack, AC_OK, .is_control = 1), ACT(leaves_on_heap, AC_OK, .is_control = 1),
    ACT(leaves_in_data, AC_OK, .is_control = 1), ACT(leaves_an_object, AC_OK, .is_control = 1),
    ACT(leaves_digits, AC_OK, .is_control = 1), ACT(leaves_limbs, AC_OK, .is_control = 1)};

/* ---- the search ---- */

/* Places where something was left. */
static size_t left_by(const act *a, int *bad) {
  char what[200];
  (void)snprintf(what, sizeof what, "%s, %s, to end with %d", ac_aes_backend_name(ac_aes_backend_default()), a->name, a->want);
  act_begin(a);
  on_own_stack(a->run);
  if (status != a->want || (a->in != NOWHERE && !fault_struck())) {
    printf("%s: it ended with %d\n", what, status);
    *bad = 1;
  }
  fault_plant(NOWHERE, REFUSES, 0);
  carry_off();
  if (a->gives_secret && status == AC_OK) sodium_memzero(out, sizeof out);
  const size_t left = search_all(a->is_control ? NULL : what);
  if (heap != NULL) sodium_memzero(heap, 100);
  registers_forget();
  sodium_memzero(&object, sizeof object); /* one that leaves something is one complaint */
  sodium_memzero(out, sizeof out);
  return left;
}

static int run_all(size_t *calls) {
  const unsigned backend = ac_aes_backend_default();
  int bad = 0;
  plant();
  if (search_all("planting") != 0) return 1; /* nothing would mean anything */
  for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
    if (left_by(&controls[i], &bad) != 0) continue;
    printf("%s was not found\n", controls[i].name);
    bad = 1;
  }
  const act *const all[] = {acts_of_primitives, acts_of_v1, acts_of_v2};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    for (const act *a = all[i]; a->name != NULL; a++) {
      if (!act_is_for(a, backend)) continue;
      bad |= left_by(a, &bad) != 0;
      ++*calls;
    }
  }
  return bad;
}

int main(void) {
  int bad = 0;
  size_t calls = 0;
  const size_t backends = on_each_backend(run_all, &calls, &bad);
  printf("memory searched behind %zu calls, on %zu backends in all; up to %zu bytes of stack, libsodium's with it\n",
         calls, backends, own_stack_depth());
  return bad || backends < 2;
}
