/*
 * What a v1 client receives: event streams (WHATWG HTML, section 9.2), split anywhere, and replies.
 * The reader looks at each byte once: between calls the opener remembers how far it is.
 */
#include "ac_internal.h"

/* Where the reader stands, as offsets into `in`. */
typedef struct place {
  size_t event; /* begin of the current event */
  size_t line;  /* begin of its current line */
  size_t scan;  /* first byte that was not looked at; a line's end lies at or behind it */
  size_t data_pos, data_len, data_lines;
  uint32_t fields;
} place;

static place load_place(const ac_v1_opener *o) {
  return (place){0, o->line_pos, o->scan_pos, o->data_pos, o->data_len, o->data_lines, o->fields};
}

static void store_place(ac_v1_opener *o, const place *p) {
  o->line_pos = p->line - p->event;
  o->scan_pos = p->scan - p->event;
  o->data_pos = p->data_lines != 0 ? p->data_pos - p->event : 0;
  o->data_len = p->data_len;
  o->data_lines = p->data_lines;
  o->fields = p->fields;
}

static place event_at(size_t at) { return (place){.event = at, .line = at, .scan = at}; }

/* Offset of the first CR or LF, or len. In windows that grow, so that a stream of CRs does not look for a far LF again
 * and again. */
static size_t find_line_end(const uint8_t *in, size_t from, size_t len) {
  for (size_t window = 512; from < len; window *= 2) {
    const size_t part = len - from < window ? len - from : window;
    const uint8_t *lf = memchr(in + from, '\n', part);
    const uint8_t *cr = memchr(in + from, '\r', lf != NULL ? (size_t)(lf - (in + from)) : part);
    if (cr != NULL) return (size_t)(cr - in);
    if (lf != NULL) return (size_t)(lf - in);
    from += part;
  }
  return len;
}

static int is_data_line(const uint8_t *line, size_t len) {
  return len >= 4 && memcmp(line, "data", 4) == 0 && (len == 4 || line[4] == ':');
}

/* Also of a line that has only begun: a verdict must not depend on where the bytes were split. */
static int may_be_data_line(const uint8_t *line, size_t len) {
  return len < 4 ? memcmp(line, "data", len) == 0 : is_data_line(line, len);
}

/* Bytes past a byte order mark at the very start, or SIZE_MAX if that cannot be told yet. */
static size_t skip_mark(const uint8_t *in, size_t len) {
  static const uint8_t mark[3] = {0xef, 0xbb, 0xbf};
  const size_t part = len < sizeof mark ? len : sizeof mark;
  if (part != 0 && memcmp(in, mark, part) != 0) return 0;
  return part == sizeof mark ? part : SIZE_MAX;
}

/* One line, content in[p->line .. end), is complete. */
static void read_line(place *p, const uint8_t *in, size_t end) {
  const uint8_t *line = in + p->line;
  size_t len = end - p->line;
  if (line[0] == ':') return;
  p->fields = 1;
  if (!is_data_line(line, len)) return;
  const size_t skip = len == 4 ? 4 : len > 5 && line[5] == ' ' ? 6 : 5;
  if (p->data_lines++ == 0) {
    p->data_pos = p->line + skip;
    p->data_len = len - skip;
  }
}

static int too_large(const ac_v1_opener *o, const place *p, const uint8_t *in, size_t end) {
  const size_t len = end - p->line;
  if (end - p->event > o->max_event_bytes) return 1;
  return len > o->max_line_bytes && !may_be_data_line(in + p->line, len);
}

/* Find the next event that has data. AC_OK: p->data_... says where, and `behind` is the place after the event.
 * AC_PUNT: more bytes are needed. */
static int next_event(ac_v1_opener *o, place *p, place *behind, const uint8_t *in, size_t len) {
  for (;;) {
    if (o->skip_lf && p->scan < len) {
      o->skip_lf = 0;
      if (in[p->scan] == '\n') {
        if (p->event == p->scan) p->event++;
        p->line = ++p->scan;
      }
    }
    const size_t end = find_line_end(in, p->scan, len);
    if (too_large(o, p, in, end)) return AC_ERR_TOO_LARGE;
    if (end == len) {
      p->scan = len;
      return AC_PUNT;
    }
    const int blank = end == p->line;
    if (!blank) read_line(p, in, end);
    o->skip_lf = in[end] == '\r';
    p->line = p->scan = end + 1;
    if (blank && p->data_lines != 0) {
      *behind = event_at(p->scan);
      return AC_OK;
    }
    if (blank || !p->fields) *p = event_at(p->scan); /* nothing in it that counts */
  }
}

static int open_members(ac_v1_opener *o, uint8_t *out, size_t out_cap, size_t *out_len, size_t span[AC_V1_SPAN],
                        const uint8_t *in, const aci_v1_members *m) {
  const size_t need = ac_base64_decoded_max(m->ciphertext.len);
  if (out_cap < need) {
    *out_len = need;
    return AC_ERR_CAPACITY;
  }
  const int status = aci_v1_open(o, out, &span[0], m->ciphertext.at, m->ciphertext.len, m->nonce.at, m->nonce.len,
                                 m->response_hash.at, m->response_hash.len);
  if (status == AC_ERR_FORMAT) return AC_PUNT; /* it may be base64 with JSON's escapes in it */
  span[1] = m->usage.at != NULL ? (size_t)(m->usage.at - in) : 0;
  span[2] = m->usage.len;
  return status;
}

/* Open the event whose data is known. AC_PUNT: for the general parser. */
static int open_event(ac_v1_opener *o, uint8_t *out, size_t out_cap, size_t *out_len, size_t span[AC_V1_SPAN],
                      const uint8_t *in, const place *p) {
  aci_v1_members m;
  if (p->data_lines != 1 || p->data_len == 0) return AC_PUNT; /* `in` may be NULL then */
  if (aci_v1_read_members(&m, in + p->data_pos, p->data_len) != AC_OK) return AC_PUNT;
  return open_members(o, out, out_cap, out_len, span, in, &m);
}

/* The commonest event, which costs next to nothing to read. AC_PUNT: another one, or too large: next_event() tells.
 * AC_ERR_CAPACITY: nothing was changed. */
static int open_plain_event(ac_v1_opener *o, uint8_t *out, size_t out_cap, size_t span[AC_V1_SPAN], const uint8_t *in,
                            size_t len, place *p) {
  aci_v1_members m;
  size_t ignored;
  if (p->scan != p->event || p->event == len || o->skip_lf) return AC_PUNT;
  const size_t event_len = aci_v1_read_plain_event(&m, in + p->event, len - p->event);
  if (event_len == 0 || event_len > o->max_event_bytes) return AC_PUNT;
  const int status = open_members(o, out, out_cap, &ignored, span, in, &m);
  if (status == AC_OK) *p = event_at(p->event + event_len);
  return status;
}

static int is_done(const uint8_t *in, const place *p) {
  return p->data_lines == 1 && p->data_len == 6 && memcmp(in + p->data_pos, "[DONE]", 6) == 0;
}

int64_t ac_v1_events_open(ac_v1_events *events, const uint8_t *in, size_t in_len) {
  ac_v1_opener *const opener = events->opener;
  uint8_t *const out = events->out;
  const size_t out_cap = events->out_cap;
  if (aci_overlap(out, out_cap, in, in_len)) return AC_ERR_OVERLAP;
  int status = aci_v1_opener_enter(opener);
  if (status != AC_OK) return status;
  if (in_len < opener->scan_pos || events->event_cap - 1 >= AC_V1_EVENTS) {
    aci_v1_opener_leave(opener, AC_ERR_ARGUMENT);
    return AC_ERR_ARGUMENT;
  }
  place p = load_place(opener), behind = {0};
  const uint32_t started = opener->started, skipped_lf = opener->skip_lf;
  size_t used = 0, count = 0, need = 0;
  events->count = events->consumed = events->out_len = 0;

  if (!opener->started) {
    const size_t mark = skip_mark(in, in_len);
    if (mark == SIZE_MAX) goto leave;
    opener->started = 1;
    p = event_at(mark);
  }
  while (count < events->event_cap) {
    size_t *const span = events->spans + AC_V1_SPAN * count;
    uint8_t *const to = used != 0 ? out + used : out;
    status = open_plain_event(opener, to, out_cap - used, span, in, in_len, &p);
    if (status == AC_OK) {
      used += span[0];
      count++;
      continue;
    }
    if (status == AC_ERR_CAPACITY && count == 0) status = AC_PUNT; /* next_event() comes to the same, and to the need */
    if (status != AC_PUNT) {
      if (count != 0) status = AC_OK; /* leave it to the next call */
      break;
    }
    const uint32_t skip_lf = opener->skip_lf;
    const place before = p;
    status = next_event(opener, &p, &behind, in, in_len);
    if (status == AC_PUNT) { /* no complete event is left */
      status = AC_OK;
      break;
    }
    if (status == AC_OK && !is_done(in, &p)) {
      status = open_event(opener, to, out_cap - used, &need, span, in, &p);
      if (status == AC_OK) {
        used += span[0];
        count++;
      }
    }
    if (status != AC_OK) {
      const int whole = status == AC_PUNT && count == 0;
      if (whole) {
        events->punt_pos = p.event;
        p = behind;
      } else if (count != 0) { /* leave it to the next call */
        p = before;
        opener->skip_lf = skip_lf;
        status = AC_OK;
      } else if (status == AC_ERR_CAPACITY) { /* the same bytes will come again, what was passed over too */
        opener->started = started;
        opener->skip_lf = skipped_lf;
        events->out_len = need;
        goto leave;
      }
      break;
    }
    p = behind;
  }
  events->count = count;
  events->consumed = p.event;
  if (status == AC_OK) events->out_len = used;
  store_place(opener, &p);

leave:;
  const int one = status == AC_OK && count == 1 && p.event == in_len && events->spans[2] == 0 && !opener->nonce_reused;
  aci_v1_opener_leave(opener, status);
  return one ? AC_ONE + (int64_t)used : status;
}

int ac_v1_events_unfinished(const ac_v1_opener *opener, size_t in_len) {
  /* An event without its blank line, or a line without its end. All of `in` was looked at. */
  return opener->fields != 0 || in_len > opener->line_pos;
}

int ac_v1_sealed_open(ac_v1_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len,
                      const uint8_t *ciphertext, size_t ciphertext_len, const uint8_t *nonce, size_t nonce_len,
                      const uint8_t *hash, size_t hash_len) {
  if (out_cap < ac_base64_decoded_max(ciphertext_len)) return AC_ERR_CAPACITY;
  if (aci_overlap(out, out_cap, ciphertext, ciphertext_len) || aci_overlap(out, out_cap, nonce, nonce_len) ||
      aci_overlap(out, out_cap, hash, hash_len))
    return AC_ERR_OVERLAP;
  int status = aci_v1_opener_enter(opener);
  if (status != AC_OK) return status;
  status = aci_v1_open(opener, out, out_len, ciphertext, ciphertext_len, nonce, nonce_len, hash, hash_len);
  aci_v1_opener_leave(opener, status);
  return status;
}

int ac_v1_reply_open(ac_v1_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, size_t *usage_pos,
                     size_t *usage_len, const uint8_t *in, size_t in_len) {
  const place whole = {.data_len = in_len, .data_lines = 1};
  size_t span[AC_V1_SPAN] = {0};
  if (aci_overlap(out, out_cap, in, in_len)) return AC_ERR_OVERLAP;
  int status = aci_v1_opener_enter(opener);
  if (status != AC_OK) return status;
  status = open_event(opener, out, out_cap, out_len, span, in, &whole);
  if (status == AC_OK) {
    *out_len = span[0];
    *usage_pos = span[1];
    *usage_len = span[2];
  }
  aci_v1_opener_leave(opener, status);
  return status;
}
