/* What goes wrong in an act, if anything. */
#include "acts.h"

int status;
unsigned wrong;
size_t text_len;
size_t out_len;

int act_is_for(const act *a, unsigned backend) {
  return (a->in != IN_ENCRYPT && a->in != IN_DECRYPT) || strcmp(ac_aes_backend_name(backend), "sodium") == 0;
}

void act_begin(const act *a) {
  bring();
  wrong = a->wrong;
  text_len = wrong & TOO_LONG ? SIZE_MAX : a->len != 0 ? a->len : TEXT;
  status = AC_PUNT - 99;
  fault_plant(a->in, REFUSES, a->after);
}

bytes spoiled(const bytes *text) {
  static uint8_t room_for_it[4 * TEXT]; /* nothing here is to allocate */
  const bytes copy = {room_for_it, text->len};
  if (text->len > sizeof room_for_it) abort();
  memcpy(copy.at, text->at, text->len);
  const view c = member(viewed(&copy), "ciphertext");
  uint8_t *const at = copy.at + (c.at - copy.at) + c.len / 2;
  if (wrong & FORGED) *at = *at == 'A' ? 'B' : 'A';
  if (wrong & MALFORMED) *at = '!';
  const view h = member(viewed(&copy), "response_hash"), b = member(viewed(&copy), "plaintext_body_hash");
  const view hash = h.len != 0 ? h : b;
  if (wrong & WRONG_HASH) copy.at[hash.at - copy.at] = hash.at[0] == 'A' ? 'B' : 'A';
  return copy;
}

size_t room(void) { return wrong & NO_ROOM ? 1 : sizeof out; }

uint8_t *place(const void *input) { return wrong & OVERLAPS ? (uint8_t *)(uintptr_t)input + 1 : out; }

void hinder(uint32_t *state, uint32_t *busy) {
  if (wrong & CLOSED) *state = AC_STATE_CLOSED;
  if (wrong & BUSY) *busy = aci_generation() + 1; /* as aci_enter() marks it */
}

void unhinder(uint32_t *busy) { *busy = 0; }

static const uint8_t zero[AC_V2_MAX_ENC_BYTES];

const uint8_t *peer(const uint8_t *point) { return wrong & ZERO_POINT ? zero : point; }
