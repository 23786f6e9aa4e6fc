/*
 * A reader for the JSON of v2's events and objects (docs/protocol-v2.md, section 4). It accepts a subset: the members that
 * v2 names, each once, without escapes, integers as they are written shortest. For all else, unknown members too, it says
 * AC_PUNT and the general parser decides; it never refuses anything itself.
 */
#include "ac_internal.h"

#include "ac_json.h"

#define NAME(text, word) aci_is((text), (word), sizeof(word) - 1)
#define EXPECT(c, word) aci_skip_literal((c), (word), sizeof(word) - 1)

/* 0 to 2^53 - 1. */
static int read_integer(aci_cursor *c, uint64_t *value) {
  enum { DIGITS = 16 };
  const uint8_t *const from = c->at;
  *value = 0;
  while (c->at < c->end && *c->at >= '0' && *c->at <= '9' && c->at - from < DIGITS)
    *value = *value * 10 + (uint64_t)(*c->at++ - '0');
  if (c->at == from || (*from == '0' && c->at - from != 1)) return 0; /* a digit too many is no comma */
  return *value <= ACI_V2_MAX_INTEGER;
}

/* A name and its colon. */
static int read_name(aci_cursor *c, aci_text *name) {
  aci_skip_space(c);
  if (!aci_read_string(c, name, 1)) return 0;
  aci_skip_space(c);
  if (!aci_take(c, ':')) return 0;
  aci_skip_space(c);
  return 1;
}

static int read_usage(aci_cursor *c, uint64_t usage[AC_V2_USAGE]) {
  unsigned seen = 0;
  if (!aci_take(c, '{')) return 0;
  do {
    aci_text name;
    if (!read_name(c, &name)) return 0;
    const unsigned i = NAME(&name, "prompt_tokens") ? 0 : NAME(&name, "completion_tokens") ? 1 : 2;
    if (i == 2 && !NAME(&name, "total_tokens")) return 0;
    if ((seen & 1u << i) != 0 || !read_integer(c, &usage[i])) return 0;
    seen |= 1u << i;
    aci_skip_space(c);
  } while (aci_take(c, ','));
  return aci_take(c, '}') && seen == 7;
}

enum { CIPHERTEXT = 1, FLAG = 2, SALT = 4, USAGE = 8, VERSION = 16 };

static unsigned which(const aci_text *name) {
  if (NAME(name, "ciphertext")) return CIPHERTEXT;
  if (NAME(name, "flag")) return FLAG;
  if (NAME(name, "salt")) return SALT;
  if (NAME(name, "usage")) return USAGE;
  if (NAME(name, "v")) return VERSION;
  return 0;
}

static int read_value(aci_cursor *c, unsigned member, aci_v2_members *m) {
  uint64_t number;
  switch (member) {
    case CIPHERTEXT: return aci_read_string(c, &m->ciphertext, 0); /* its decoder looks at every byte */
    case FLAG:
      if (!read_integer(c, &number) || number > AC_FLAG_WHOLE) return 0;
      m->flag = (uint32_t)number;
      return 1;
    case SALT: return aci_read_string(c, &m->salt, 0);
    case USAGE:
      if (EXPECT(c, "null")) return 1;
      m->has_usage = 1;
      return read_usage(c, m->usage);
    case VERSION: return read_integer(c, &number) && number == 2;
    default: return 0;
  }
}

int aci_v2_read_members(aci_v2_members *members, const uint8_t *json, size_t len) {
  aci_cursor c = {json, json + len};
  unsigned seen = 0;
  *members = (aci_v2_members){0};
  aci_skip_space(&c);
  if (!aci_take(&c, '{')) return AC_PUNT;
  do {
    aci_text name;
    if (!read_name(&c, &name)) return AC_PUNT;
    const unsigned member = which(&name);
    if ((seen & member) != 0 || !read_value(&c, member, members)) return AC_PUNT;
    seen |= member;
    aci_skip_space(&c);
  } while (aci_take(&c, ','));
  if (!aci_take(&c, '}')) return AC_PUNT;
  aci_skip_space(&c);
  if (c.at != c.end || !(seen & CIPHERTEXT)) return AC_PUNT;
  return !(seen & SALT) == !(seen & VERSION) ? AC_OK : AC_PUNT; /* they come together */
}

size_t aci_v2_read_plain_event(aci_text *ciphertext, const uint8_t *in, size_t len) {
  aci_cursor c = {in, in + len};
  if (!EXPECT(&c, "data: {\"ciphertext\":") || !aci_read_string(&c, ciphertext, 0) || !EXPECT(&c, "}\n\n")) return 0;
  return (size_t)(c.at - in);
}
