/* What goes wrong in an act, if anything. */
#include "acts.h"

int status;
unsigned wrong;
size_t out_len;

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

static const uint8_t zero[AC_V2_MAX_ENC_BYTES];

const uint8_t *peer(const uint8_t *point) { return wrong & ZERO_POINT ? zero : point; }
