/* Reading pieces of JSON: each takes what it names and moves behind it, or says 0. */
#ifndef AC_JSON_H
#define AC_JSON_H

#include "ac_internal.h"

typedef struct aci_cursor {
  const uint8_t *at, *end;
} aci_cursor;

static inline void aci_skip_space(aci_cursor *c) {
  while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')) c->at++;
}

static inline int aci_take(aci_cursor *c, uint8_t byte) {
  if (c->at == c->end || *c->at != byte) return 0;
  c->at++;
  return 1;
}

/* A string's content, without its quotes. With `plain`, nothing but printable ASCII without a backslash passes;
 * without, the caller's own decoder refuses all else. */
static inline int aci_read_string(aci_cursor *c, aci_text *text, int plain) {
  if (!aci_take(c, '"')) return 0;
  const uint8_t *close = memchr(c->at, '"', (size_t)(c->end - c->at));
  if (close == NULL) return 0;
  text->at = c->at;
  text->len = (size_t)(close - c->at);
  c->at = close + 1;
  for (size_t i = 0; plain && i < text->len; i++) {
    if (text->at[i] < 0x20 || text->at[i] > 0x7e || text->at[i] == '\\') return 0;
  }
  return 1;
}

static inline int aci_skip_literal(aci_cursor *c, const char *word, size_t len) {
  if ((size_t)(c->end - c->at) < len || memcmp(c->at, word, len) != 0) return 0;
  c->at += len;
  return 1;
}

static inline int aci_is(const aci_text *name, const char *word, size_t len) {
  return name->len == len && memcmp(name->at, word, len) == 0;
}

#endif
