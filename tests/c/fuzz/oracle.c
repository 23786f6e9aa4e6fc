/* Readers that have nothing in common with the core's: written for clarity, from the standards alone. */
#include "fuzz.h"

/* ---- base64 ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t oracle_base64_encode(uint8_t *out, const uint8_t *in, size_t len) {
  size_t written = 0;
  for (size_t bit = 0; bit < 8 * len; bit += 6) {
    unsigned value = 0;
    for (size_t i = bit; i < bit + 6; i++) {
      const unsigned one = i < 8 * len ? (unsigned)in[i / 8] >> (7 - i % 8) & 1 : 0;
      value = value << 1 | one;
    }
    out[written++] = (uint8_t)alphabet[value];
  }
  while (written % 4 != 0) out[written++] = '=';
  return written;
}

int oracle_base64(uint8_t *out, size_t *out_len, view text) {
  static uint8_t again[ARENA_BYTES];
  size_t digits = text.len, bits = 0;
  unsigned value = 0;
  *out_len = 0;
  while (digits != 0 && text.len - digits < 2 && text.at[digits - 1] == '=') digits--;
  for (size_t i = 0; i < digits; i++) {
    const char *const at = text.at[i] != 0 ? strchr(alphabet, text.at[i]) : NULL;
    if (at == NULL) return 0;
    value = (value << 6 | (unsigned)(at - alphabet)) & 0xffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    out[(*out_len)++] = (uint8_t)(value >> bits);
  }
  /* what is strict about it: there is one text for each bytes */
  return oracle_base64_encode(again, out, *out_len) == text.len && (text.len == 0 || memcmp(again, text.at, text.len) == 0);
}

/* ---- JSON ---- */

typedef struct parser {
  const uint8_t *at, *end;
  int depth;
} parser;

static int next_is(const parser *p, uint8_t byte) { return p->at < p->end && *p->at == byte; }

static int accept(parser *p, uint8_t byte) {
  if (!next_is(p, byte)) return 0;
  p->at++;
  return 1;
}

static void space(parser *p) {
  while (accept(p, ' ') || accept(p, '\t') || accept(p, '\n') || accept(p, '\r')) continue;
}

static int digits(parser *p) {
  const uint8_t *const from = p->at;
  while (p->at < p->end && *p->at >= '0' && *p->at <= '9') p->at++;
  return p->at != from;
}

static int number(parser *p) {
  (void)accept(p, '-');
  if (!accept(p, '0') && !digits(p)) return 0;
  if (accept(p, '.') && !digits(p)) return 0;
  if (accept(p, 'e') || accept(p, 'E')) {
    if (!accept(p, '+')) (void)accept(p, '-');
    return digits(p);
  }
  return 1;
}

static int word(parser *p, const char *text) {
  const size_t len = strlen(text);
  if ((size_t)(p->end - p->at) < len || memcmp(p->at, text, len) != 0) return 0;
  p->at += len;
  return 1;
}

/* One character of UTF-8 (RFC 3629). */
static int character(parser *p) {
  const uint8_t first = *p->at++;
  if (first < 0x80) return first >= 0x20;
  const unsigned more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
  if (first < 0xc2 || first > 0xf4 || (size_t)(p->end - p->at) < more) return 0;
  uint32_t code = first & (0x3fu >> more);
  for (unsigned i = 0; i < more; i++, p->at++) {
    if ((*p->at & 0xc0) != 0x80) return 0;
    code = code << 6 | (*p->at & 0x3fu);
  }
  if (more == 2 && code < 0x800) return 0;
  if (more == 3 && (code < 0x10000 || code > 0x10ffff)) return 0;
  return code < 0xd800 || code > 0xdfff;
}

static int string(parser *p, view *content, int *escaped) {
  if (!accept(p, '"')) return 0;
  const uint8_t *const from = p->at;
  while (p->at < p->end && *p->at != '"') {
    if (*p->at != '\\') {
      if (!character(p)) return 0;
      continue;
    }
    *escaped = 1;
    p->at++;
    if (p->at == p->end) return 0;
    const uint8_t kind = *p->at++;
    if (kind == 'u') {
      for (unsigned i = 0; i < 4; i++, p->at++) {
        if (p->at == p->end || strchr("0123456789abcdefABCDEF", *p->at) == NULL || *p->at == 0) return 0;
      }
    } else if (kind == 0 || strchr("\"\\/bfnrt", kind) == NULL) {
      return 0;
    }
  }
  *content = (view){from, (size_t)(p->at - from)};
  return accept(p, '"');
}

static int value(parser *p, json_member *m);

/* `object` may be NULL. */
static int members(parser *p, json_object *object) {
  if (!accept(p, '{')) return 0;
  space(p);
  if (accept(p, '}')) return 1;
  do {
    json_member m = {0};
    space(p);
    if (!string(p, &m.name, &m.escaped)) return 0;
    space(p);
    if (!accept(p, ':') || !value(p, &m)) return 0;
    if (object != NULL) {
      if (object->count == JSON_MEMBERS) return 0;
      object->members[object->count++] = m;
    }
  } while (accept(p, ','));
  return accept(p, '}');
}

static int elements(parser *p) {
  if (!accept(p, '[')) return 0;
  space(p);
  if (accept(p, ']')) return 1;
  do {
    json_member ignored = {0};
    if (!value(p, &ignored)) return 0;
  } while (accept(p, ','));
  return accept(p, ']');
}

/* With the white space around it. */
static int value(parser *p, json_member *m) {
  enum { DEEPEST = 64 };
  int good = 0;
  space(p);
  if (p->at == p->end || ++p->depth > DEEPEST) return 0;
  const uint8_t *const from = p->at;
  m->kind = (char)*from;
  switch (m->kind) {
    case '"': good = string(p, &m->value, &m->escaped); break;
    case '{': good = members(p, NULL); break;
    case '[': good = elements(p); break;
    case 't': good = word(p, "true"); break;
    case 'f': good = word(p, "false"); break;
    case 'n': good = word(p, "null"); break;
    default:
      m->kind = '0';
      good = number(p);
      break;
  }
  if (m->kind != '"') m->value = (view){from, (size_t)(p->at - from)};
  p->depth--;
  space(p);
  return good;
}

int oracle_json(json_object *object, view text) {
  parser p = {text.at, text.at + text.len, 0};
  object->count = 0;
  if (text.len == 0) return 0;
  space(&p);
  if (!members(&p, object)) return 0;
  space(&p);
  return p.at == p.end;
}

const json_member *json_find(const json_object *object, const char *name, size_t *many) {
  const json_member *found = NULL;
  size_t count = 0;
  for (size_t i = 0; i < object->count; i++) {
    const json_member *const m = &object->members[i];
    if (!same(m->name, view_of(name))) continue;
    found = m;
    count++;
  }
  if (many != NULL) *many = count;
  return count == 1 ? found : NULL;
}

int json_number(const json_member *member, uint64_t *number_value) {
  *number_value = 0;
  if (member->kind != '0' || member->value.len > 16) return 0;
  for (size_t i = 0; i < member->value.len; i++) {
    if (member->value.at[i] < '0' || member->value.at[i] > '9') return 0;
    *number_value = *number_value * 10 + (uint64_t)(member->value.at[i] - '0');
  }
  return *number_value <= ACI_V2_MAX_INTEGER;
}

/* ---- event streams ---- */

const sse_limits no_limits = {SIZE_MAX, SIZE_MAX};

size_t oracle_sse(sse_event *events, size_t most, view stream, sse_limits limits, int *rest) {
  static const char mark[3] = "\xef\xbb\xbf";
  const uint8_t *at = stream.at, *const end = stream.at + stream.len;
  size_t count = 0;
  sse_event event = {{NULL, 0}, 0, NULL};
  int fields = 0;
  *rest = stream.len != 0 ? UNFINISHED : NOTHING;
  if (stream.len < sizeof mark && (stream.len == 0 || memcmp(at, mark, stream.len) == 0)) return 0; /* not begun yet */
  if (stream.len >= sizeof mark && memcmp(at, mark, sizeof mark) == 0) at += sizeof mark;
  for (const uint8_t *begin = at;;) {
    const uint8_t *const line = at;
    while (at < end && *at != '\r' && *at != '\n') at++;
    const size_t len = (size_t)(at - line);
    const int is_data = len >= 4 && memcmp(line, "data", 4) == 0 && (len == 4 || line[4] == ':');
    const int may_be_data = is_data || (len < 4 && memcmp(line, "data", len) == 0); /* so it is said of a whole line, too */
    if ((size_t)(at - begin) > limits.event || (len > limits.line && !may_be_data)) {
      *rest = TOO_LARGE;
      return count;
    }
    if (at == end) {
      *rest = fields || at != line ? UNFINISHED : NOTHING;
      return count;
    }
    at += *at == '\r' && at + 1 < end && at[1] == '\n' ? 2 : 1;
    if (len == 0) { /* dispatch */
      event.end = at;
      if (event.data_lines != 0 && count < most) events[count++] = event;
      event = (sse_event){{NULL, 0}, 0, NULL};
      fields = 0;
    } else if (line[0] != ':') {
      fields = 1;
    }
    if (!fields) begin = at; /* comments alone are passed over */
    if (is_data) {
      size_t skip = len == 4 ? 4 : 5;
      if (skip < len && line[skip] == ' ') skip++;
      if (event.data_lines++ == 0) event.data = (view){line + skip, len - skip};
    }
  }
}
