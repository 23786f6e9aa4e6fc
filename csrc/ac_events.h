/*
 * The loop that opens the events of one call, of which v1's and v2's readers are both made: a text, since a call through
 * a pointer for each event would cost. Who includes it has defined, and it undefines:
 *   EVENTS_OPEN, EVENTS, OPENER         the function, and the types of its object and of the opener in there
 *   SPAN, SPAN_COUNT, EVENTS_MOST       the type of a span's numbers, how many an event has, how many events there may be
 *   ENTER, LEAVE                        of the opener
 *   ENDED(opener)                       not 0: its last event was opened
 *   IS_NOTHING(in, place)               1: the event whose data is known is to be passed over
 *   NOTHING_ELSE(events, opener)        1: of the one event that was opened its plaintext is all that there is to tell
 * and written open_plain_event() and open_event().
 */
#include "ac_internal.h"

#include "ac_sse.h"

int64_t EVENTS_OPEN(EVENTS *events, const uint8_t *in, size_t in_len) {
  OPENER *const opener = events->opener;
  uint8_t *const out = events->out;
  const size_t out_cap = events->out_cap, event_cap = events->event_cap; /* once: `spans` is bounded by what is checked */
  if (aci_overlap(out, out_cap, in, in_len)) return AC_ERR_OVERLAP;
  int status = ENTER(opener);
  if (status != AC_OK) return status;
  if (in_len < opener->sse.scan_pos || event_cap - 1 >= EVENTS_MOST) {
    LEAVE(opener, AC_ERR_ARGUMENT);
    return AC_ERR_ARGUMENT;
  }
  aci_place p = aci_place_load(&opener->sse), behind = {0};
  const uint32_t ended = ENDED(opener); /* before this call */
  const uint32_t started = opener->sse.started, skipped_lf = opener->sse.skip_lf;
  size_t used = 0, count = 0, need = 0;
  events->count = events->consumed = events->out_len = 0;

  if (!aci_sse_begin(&opener->sse, &p, in, in_len)) goto leave;
  while (count < event_cap && ENDED(opener) == ended) { /* nothing behind the last by the call that opens it */
    SPAN *const span = events->spans + SPAN_COUNT * count;
    uint8_t *const to = used != 0 ? out + used : out;
    status = open_plain_event(opener, to, out_cap - used, span, in, in_len, &p);
    if (status == AC_OK) {
      used += (size_t)span[0];
      count++;
      continue;
    }
    if (status == AC_ERR_CAPACITY && count == 0) status = AC_PUNT; /* aci_sse_next() comes to the same, and to the need */
    if (status != AC_PUNT) {
      if (count != 0) status = AC_OK; /* leave it to the next call */
      break;
    }
    const uint32_t skip_lf = opener->sse.skip_lf;
    const aci_place before = p;
    status = aci_sse_next(&opener->sse, &p, &behind, in, in_len);
    if (status == AC_PUNT) { /* no complete event is left */
      status = AC_OK;
      break;
    }
    if (status == AC_OK && !IS_NOTHING(in, &p)) {
      status = open_event(opener, to, out_cap - used, &need, span, in, &p);
      if (status == AC_OK) {
        used += (size_t)span[0];
        count++;
      }
    }
    if (status != AC_OK) {
      if (count != 0) { /* leave it to the next call */
        p = before;
        opener->sse.skip_lf = skip_lf;
        status = AC_OK;
      } else if (status == AC_PUNT) {
        events->punt_pos = p.event;
        p = behind;
      } else if (status == AC_ERR_CAPACITY) { /* the same bytes will come again, what was passed over too */
        opener->sse.started = started;
        opener->sse.skip_lf = skipped_lf;
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
  aci_place_store(&opener->sse, &p);

leave:;
  const int one = status == AC_OK && count == 1 && p.event == in_len && NOTHING_ELSE(events, opener);
  LEAVE(opener, status);
  return one ? AC_ONE + (int64_t)used : status;
}

#undef EVENTS_OPEN
#undef EVENTS
#undef OPENER
#undef SPAN
#undef SPAN_COUNT
#undef EVENTS_MOST
#undef ENTER
#undef LEAVE
#undef ENDED
#undef IS_NOTHING
#undef NOTHING_ELSE
