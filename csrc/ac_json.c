/*
 * A reader for the flat JSON objects that v1 sends. It accepts a subset of RFC 8259: printable ASCII, no escapes where
 * it would have to understand them, nesting of one level. For all else it says AC_PUNT and the general parser decides;
 * it never refuses anything itself. What it accepts, it reads as the general parser would.
 */
#include "ac_internal.h"

#include "ac_json.h"

/* In one object. The general parser sets a limit to what a message may cost, and this one must not be the way around it:
 * usage stands in clear, so that anybody can make it long, and is made an object of the caller's. */
enum { MOST_MEMBERS = 30 };

static size_t skip_digits(aci_cursor *c) {
  const uint8_t *from = c->at;
  while (c->at < c->end && *c->at >= '0' && *c->at <= '9') c->at++;
  return (size_t)(c->at - from);
}

static int skip_number(aci_cursor *c) {
  enum { LONGEST = 40 }; /* general parsers have limits of their own for long ones */
  const uint8_t *from = c->at;
  (void)aci_take(c, '-');
  if (!aci_take(c, '0') && skip_digits(c) == 0) return 0;
  if (aci_take(c, '.') && skip_digits(c) == 0) return 0;
  if (aci_take(c, 'e') || aci_take(c, 'E')) {
    if (!aci_take(c, '+')) (void)aci_take(c, '-');
    if (skip_digits(c) == 0) return 0;
  }
  return c->at - from <= LONGEST;
}

static int skip_scalar(aci_cursor *c) {
  aci_text ignored;
  if (c->at == c->end) return 0;
  switch (*c->at) {
    case '"': return aci_read_string(c, &ignored, 1);
    case 't': return aci_skip_literal(c, "true", 4);
    case 'f': return aci_skip_literal(c, "false", 5);
    case 'n': return aci_skip_literal(c, "null", 4);
    default: return skip_number(c);
  }
}

/* An object of scalars. */
static int skip_flat_object(aci_cursor *c) {
  aci_text ignored;
  if (!aci_take(c, '{')) return 0;
  aci_skip_space(c);
  if (aci_take(c, '}')) return 1;
  for (unsigned members = 0; members < MOST_MEMBERS; members++) {
    aci_skip_space(c);
    if (!aci_read_string(c, &ignored, 1)) return 0;
    aci_skip_space(c);
    if (!aci_take(c, ':')) return 0;
    aci_skip_space(c);
    if (!skip_scalar(c)) return 0;
    aci_skip_space(c);
    if (aci_take(c, '}')) return 1;
    if (!aci_take(c, ',')) return 0;
  }
  return 0;
}

typedef struct member {
  aci_text *text; /* NULL: not one of ours */
  unsigned bit;
  int base64; /* its decoder looks at every byte */
} member;

static member which(aci_v1_members *m, const aci_text *name) {
  if (aci_is(name, "ciphertext", 10)) return (member){&m->ciphertext, 1, 1};
  if (aci_is(name, "nonce", 5)) return (member){&m->nonce, 2, 1};
  if (aci_is(name, "response_hash", 13)) return (member){&m->response_hash, 4, 1};
  if (aci_is(name, "usage", 5)) return (member){&m->usage, 8, 0};
  return (member){NULL, 0, 0};
}

static int read_value(aci_cursor *c, const member *m) {
  if (c->at == c->end) return 0;
  if (m->text == NULL) return *c->at == '{' ? skip_flat_object(c) : skip_scalar(c);
  if (m->base64) {
    if (m->bit == 4 && *c->at == 'n') return aci_skip_literal(c, "null", 4);
    return aci_read_string(c, m->text, 0);
  }
  if (*c->at == 'n') return aci_skip_literal(c, "null", 4);
  m->text->at = c->at;
  if (!skip_flat_object(c)) return 0;
  m->text->len = (size_t)(c->at - m->text->at);
  return 1;
}

size_t aci_v1_read_plain_event(aci_v1_members *members, const uint8_t *in, size_t len) {
#define EXPECT(word) aci_skip_literal(&c, (word), sizeof(word) - 1)
  aci_cursor c = {in, in + len};
  aci_text ignored;
  *members = (aci_v1_members){0};
  if (!EXPECT("data: {\"ciphertext\":") || !aci_read_string(&c, &members->ciphertext, 0)) return 0;
  if (!EXPECT(",\"nonce\":") || !aci_read_string(&c, &members->nonce, 0)) return 0;
  if (!EXPECT(",\"signature\":") || !aci_read_string(&c, &ignored, 1)) return 0;
  if (!EXPECT(",\"response_hash\":") || !aci_read_string(&c, &members->response_hash, 0)) return 0;
  if (!EXPECT("}\n\n") || members->response_hash.len == 0) return 0;
  return (size_t)(c.at - in);
#undef EXPECT
}

int aci_v1_read_members(aci_v1_members *members, const uint8_t *json, size_t len) {
  aci_cursor c = {json, json + len};
  unsigned seen = 0;
  *members = (aci_v1_members){0};
  aci_skip_space(&c);
  if (!aci_take(&c, '{')) return AC_PUNT;
  for (unsigned count = 1;; count++) {
    aci_text name;
    aci_skip_space(&c);
    if (!aci_read_string(&c, &name, 1)) return AC_PUNT;
    aci_skip_space(&c);
    if (!aci_take(&c, ':')) return AC_PUNT;
    aci_skip_space(&c);
    const member m = which(members, &name);
    if (seen & m.bit) return AC_PUNT; /* twice */
    seen |= m.bit;
    if (!read_value(&c, &m)) return AC_PUNT;
    aci_skip_space(&c);
    if (aci_take(&c, '}')) break;
    if (!aci_take(&c, ',') || count == MOST_MEMBERS) return AC_PUNT;
  }
  aci_skip_space(&c);
  if (c.at != c.end || members->ciphertext.at == NULL || members->nonce.at == NULL) return AC_PUNT;
  if (members->response_hash.at != NULL && members->response_hash.len == 0) return AC_PUNT;
  return AC_OK;
}
