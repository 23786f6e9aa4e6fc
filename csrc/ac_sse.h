/* The reader of event streams (WHATWG HTML, section 9.2), of which v1 and v2 are both made. It finds events; what is in
 * their data is for others. It looks at each byte once: between calls an ac_sse remembers how far it is. */
#ifndef AC_SSE_H
#define AC_SSE_H

#include "ac_internal.h"

/* Where the reader stands, as offsets into `in`. */
typedef struct aci_place {
  size_t event; /* begin of the current event */
  size_t line;  /* begin of its current line */
  size_t scan;  /* first byte that was not looked at; a line's end lies at or behind it */
  size_t data_pos, data_len, data_lines;
  uint32_t fields;
} aci_place;

static inline aci_place aci_place_load(const ac_sse *s) {
  return (aci_place){0, s->line_pos, s->scan_pos, s->data_pos, s->data_len, s->data_lines, s->fields};
}

static inline void aci_place_store(ac_sse *s, const aci_place *p) {
  s->line_pos = p->line - p->event;
  s->scan_pos = p->scan - p->event;
  s->data_pos = p->data_lines != 0 ? p->data_pos - p->event : 0;
  s->data_len = p->data_len;
  s->data_lines = p->data_lines;
  s->fields = p->fields;
}

static inline aci_place aci_place_of_event(size_t at) { return (aci_place){.event = at, .line = at, .scan = at}; }

/* 1: an event that begins at p could be told by its bytes alone, nothing of it was looked at. */
static inline int aci_sse_fresh(const ac_sse *s, const aci_place *p, size_t len) {
  return p->scan == p->event && p->event != len && !s->skip_lf;
}

/* Pass over a byte order mark, once. 0: whether there is one cannot be told yet. */
int aci_sse_begin(ac_sse *s, aci_place *p, const uint8_t *in, size_t len);
/* Find the next event that has data. AC_OK: p->data_... says where its first `data` line is, and `behind` is the place
 * after the event. AC_PUNT: more bytes are needed. AC_ERR_TOO_LARGE: an event, or a line that is no data. */
int aci_sse_next(ac_sse *s, aci_place *p, aci_place *behind, const uint8_t *in, size_t len);
/* 1: the `len` bytes that are left over are an event without its blank line, or a line without its end. All of them
 * were looked at. */
int aci_sse_unfinished(const ac_sse *s, size_t len);

#endif
