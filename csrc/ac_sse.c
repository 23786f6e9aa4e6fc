/* Event streams (WHATWG HTML, section 9.2), split anywhere: lines, events, and what they may measure. */
#include "ac_internal.h"

#include "ac_sse.h"

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

int aci_sse_begin(ac_sse *s, aci_place *p, const uint8_t *in, size_t len) {
  static const uint8_t mark[3] = {0xef, 0xbb, 0xbf};
  const size_t part = len < sizeof mark ? len : sizeof mark;
  if (s->started) return 1;
  const int may_be_mark = part == 0 || memcmp(in, mark, part) == 0;
  if (may_be_mark && part != sizeof mark) return 0;
  s->started = 1;
  *p = aci_place_of_event(may_be_mark ? sizeof mark : 0);
  return 1;
}

/* One line, content in[p->line .. end), is complete. */
static void read_line(aci_place *p, const uint8_t *in, size_t end) {
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

static int too_large(const ac_sse *s, const aci_place *p, const uint8_t *in, size_t end) {
  const size_t len = end - p->line;
  if (end - p->event > s->max_event_bytes) return 1;
  return len > s->max_line_bytes && !may_be_data_line(in + p->line, len);
}

/* As aci_sse_next, on places that no one else can see. */
static inline int next(ac_sse *s, aci_place *p, aci_place *behind, const uint8_t *in, size_t len) {
  for (;;) {
    if (s->skip_lf && p->scan < len) {
      s->skip_lf = 0;
      if (in[p->scan] == '\n') {
        if (p->event == p->scan) p->event++;
        p->line = ++p->scan;
      }
    }
    const size_t end = find_line_end(in, p->scan, len);
    if (too_large(s, p, in, end)) return AC_ERR_TOO_LARGE;
    if (end == len) {
      p->scan = len;
      return AC_PUNT;
    }
    const int blank = end == p->line;
    if (!blank) read_line(p, in, end);
    s->skip_lf = in[end] == '\r';
    p->line = p->scan = end + 1;
    if (blank && p->data_lines != 0) {
      *behind = aci_place_of_event(p->scan);
      return AC_OK;
    }
    if (blank || !p->fields) *p = aci_place_of_event(p->scan); /* nothing in it that counts */
  }
}

int aci_sse_next(ac_sse *s, aci_place *p, aci_place *behind, const uint8_t *in, size_t len) {
  aci_place now = *p; /* in registers */
  const int status = next(s, &now, behind, in, len);
  *p = now;
  return status;
}

int aci_sse_unfinished(const ac_sse *s, size_t len) { return s->fields != 0 || len > s->line_pos; }
