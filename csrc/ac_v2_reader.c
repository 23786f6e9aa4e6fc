/* What a v2 client receives (docs/protocol-v2.md, section 4): event streams, split anywhere, and objects. */
#include "ac_internal.h"

#include "ac_sse.h"

typedef enum kind { OBJECT = 0, EVENT = 1 } kind;

/* Whether an answer of this kind may have a record with this flag. */
static int flag_fits(const ac_v2_opener *o, kind as, uint32_t flag) {
  if (as == EVENT) return o->stream && flag <= AC_FLAG_ABORT;
  return flag == AC_FLAG_ABORT || (flag == AC_FLAG_WHOLE && !o->stream);
}

/* One record whose members are base64 text. AC_ERR_FORMAT: nothing was changed but `out`, and no plaintext is there. */
static int open_texts(ac_v2_opener *o, uint8_t *out, size_t *plaintext_len, kind as, uint32_t flag,
                      const aci_text *ciphertext, const aci_text *salt, const uint64_t *usage) {
  uint8_t salt_bytes[AC_V2_SALT_BYTES];
  size_t sealed_len = 0;
  const int has_salt = salt->at != NULL;
  if (o->ended || !flag_fits(o, as, flag) || (as == OBJECT && !has_salt)) return AC_ERR_FORMAT;
  if (has_salt && aci_base64_decode_exact(salt_bytes, sizeof salt_bytes, salt->at, salt->len) != AC_OK)
    return AC_ERR_FORMAT;
  if (aci_base64_decode(out, &sealed_len, ciphertext->at, ciphertext->len) != AC_OK) return AC_ERR_FORMAT;
  const int status = aci_v2_open(o, out, flag, out, sealed_len, has_salt ? salt_bytes : NULL, usage);
  if (status == AC_OK) *plaintext_len = sealed_len - AC_TAG_BYTES;
  return status;
}

/* JSON in one piece. AC_PUNT: for the general parser. */
static int open_json(ac_v2_opener *o, uint8_t *out, size_t out_cap, size_t *out_len, uint64_t span[AC_V2_SPAN], kind as,
                     const uint8_t *json, size_t len) {
  aci_v2_members m;
  size_t plaintext_len = 0;
  if (len == 0 || aci_v2_read_members(&m, json, len) != AC_OK) return AC_PUNT; /* json may be NULL then */
  const size_t need = ac_base64_decoded_max(m.ciphertext.len);
  if (out_cap < need) {
    *out_len = need;
    return AC_ERR_CAPACITY;
  }
  const int status = open_texts(o, out, &plaintext_len, as, m.flag, &m.ciphertext, &m.salt, m.has_usage ? m.usage : NULL);
  if (status == AC_ERR_FORMAT) return AC_PUNT; /* it may be base64 with JSON's escapes in it */
  span[0] = plaintext_len;
  span[1] = m.flag;
  span[2] = m.has_usage;
  memcpy(span + 3, m.usage, sizeof m.usage);
  return status;
}

/* The commonest event, which costs next to nothing to read. AC_PUNT: another one, or too large: aci_sse_next() tells.
 * AC_ERR_CAPACITY: nothing was changed. */
static int open_plain_event(ac_v2_opener *o, uint8_t *out, size_t out_cap, uint64_t span[AC_V2_SPAN], const uint8_t *in,
                            size_t len, aci_place *p) {
  aci_text ciphertext;
  size_t sealed_len = 0;
  if (!aci_sse_fresh(&o->sse, p, len) || !o->keyed || !o->stream) return AC_PUNT;
  const size_t event_len = aci_v2_read_plain_event(&ciphertext, in + p->event, len - p->event);
  if (event_len == 0 || event_len > o->sse.max_event_bytes) return AC_PUNT;
  if (out_cap < ac_base64_decoded_max(ciphertext.len)) return AC_ERR_CAPACITY;
  if (aci_base64_decode(out, &sealed_len, ciphertext.at, ciphertext.len) != AC_OK) return AC_PUNT;
  const int status = aci_v2_open(o, out, AC_FLAG_MORE, out, sealed_len, NULL, NULL);
  if (status == AC_ERR_FORMAT) return AC_PUNT; /* as above */
  if (status != AC_OK) return status;
  span[0] = sealed_len - AC_TAG_BYTES;
  memset(span + 1, 0, (AC_V2_SPAN - 1) * sizeof *span); /* AC_FLAG_MORE, and no usage */
  *p = aci_place_of_event(p->event + event_len);
  return AC_OK;
}

/* The event whose data is known. AC_PUNT: for the general parser. */
static int open_event(ac_v2_opener *o, uint8_t *out, size_t out_cap, size_t *out_len, uint64_t span[AC_V2_SPAN],
                      const uint8_t *in, const aci_place *p) {
  if (o->ended) return AC_ERR_FORMAT; /* whatever it is */
  if (p->data_lines != 1) return AC_PUNT;
  return open_json(o, out, out_cap, out_len, span, EVENT, in + p->data_pos, p->data_len);
}

#define EVENTS_OPEN ac_v2_events_open
#define EVENTS ac_v2_events
#define OPENER ac_v2_opener
#define SPAN uint64_t
#define SPAN_COUNT AC_V2_SPAN
#define EVENTS_MOST AC_V2_EVENTS
#define ENTER aci_v2_opener_enter
#define LEAVE aci_v2_opener_leave
#define ENDED(opener) ((opener)->ended)
#define IS_NOTHING(in, place) 0 /* `[DONE]` is a bad event like others */
#define NOTHING_ELSE(events, opener) ((events)->spans[1] == AC_FLAG_MORE && (events)->spans[2] == 0)
#include "ac_events.h"

int ac_v2_events_unfinished(const ac_v2_opener *opener, size_t in_len) { return aci_sse_unfinished(&opener->sse, in_len); }

int ac_v2_sealed_open(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, int event, uint32_t flag,
                      const uint8_t *ciphertext, size_t ciphertext_len, const uint8_t *salt, size_t salt_len,
                      const uint64_t *usage) {
  const aci_text ciphertext_text = {ciphertext, ciphertext_len}, salt_text = {salt_len != 0 ? salt : NULL, salt_len};
  if (out_cap < ac_base64_decoded_max(ciphertext_len)) return AC_ERR_CAPACITY;
  if (aci_overlap(out, out_cap, ciphertext, ciphertext_len) || aci_overlap(out, out_cap, salt, salt_len) ||
      aci_overlap(out, out_cap, usage, usage != NULL ? AC_V2_USAGE * sizeof *usage : 0))
    return AC_ERR_OVERLAP;
  int status = aci_v2_opener_enter(opener);
  if (status != AC_OK) return status;
  status = open_texts(opener, out, out_len, event ? EVENT : OBJECT, flag, &ciphertext_text, &salt_text, usage);
  aci_v2_opener_leave(opener, status);
  return status;
}

int ac_v2_object_open(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, uint64_t span[AC_V2_SPAN],
                      const uint8_t *in, size_t in_len) {
  if (aci_overlap(out, out_cap, in, in_len)) return AC_ERR_OVERLAP;
  int status = aci_v2_opener_enter(opener);
  if (status != AC_OK) return status;
  status = open_json(opener, out, out_cap, out_len, span, OBJECT, in, in_len);
  if (status == AC_OK) *out_len = (size_t)span[0];
  aci_v2_opener_leave(opener, status);
  return status;
}
