/* What a v1 client receives: event streams, split anywhere, and replies. */
#include "ac_internal.h"

#include "ac_sse.h"

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
                      const uint8_t *in, const aci_place *p) {
  aci_v1_members m;
  if (p->data_lines != 1 || p->data_len == 0) return AC_PUNT; /* `in` may be NULL then */
  if (aci_v1_read_members(&m, in + p->data_pos, p->data_len) != AC_OK) return AC_PUNT;
  return open_members(o, out, out_cap, out_len, span, in, &m);
}

/* The commonest event, which costs next to nothing to read. AC_PUNT: another one, or too large: aci_sse_next() tells.
 * AC_ERR_CAPACITY: nothing was changed. */
static int open_plain_event(ac_v1_opener *o, uint8_t *out, size_t out_cap, size_t span[AC_V1_SPAN], const uint8_t *in,
                            size_t len, aci_place *p) {
  aci_v1_members m;
  size_t ignored;
  if (!aci_sse_fresh(&o->sse, p, len)) return AC_PUNT;
  const size_t event_len = aci_v1_read_plain_event(&m, in + p->event, len - p->event);
  if (event_len == 0 || event_len > o->sse.max_event_bytes) return AC_PUNT;
  const int status = open_members(o, out, out_cap, &ignored, span, in, &m);
  if (status == AC_OK) *p = aci_place_of_event(p->event + event_len);
  return status;
}

static int is_done(const uint8_t *in, const aci_place *p) {
  return p->data_lines == 1 && p->data_len == 6 && memcmp(in + p->data_pos, "[DONE]", 6) == 0;
}

#define EVENTS_OPEN ac_v1_events_open
#define EVENTS ac_v1_events
#define OPENER ac_v1_opener
#define SPAN size_t
#define SPAN_COUNT AC_V1_SPAN
#define EVENTS_MOST AC_V1_EVENTS
#define ENTER aci_v1_opener_enter
#define LEAVE aci_v1_opener_leave
#define ENDED(opener) 0u /* v1's wire has no end */
#define IS_NOTHING is_done
#define NOTHING_ELSE(events, opener) ((events)->spans[2] == 0 && !(opener)->nonce_reused)
#include "ac_events.h"

int ac_v1_events_unfinished(const ac_v1_opener *opener, size_t in_len) {
  return aci_sse_unfinished(&opener->sse, in_len);
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
  const aci_place whole = {.data_len = in_len, .data_lines = 1};
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
