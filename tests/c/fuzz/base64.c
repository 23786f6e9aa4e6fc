/* Base64: each codec that the core has, the plain one for long texts too, against one that is written plainly; encoding in place too; sizes of any length. */
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  fuzz_init();
  return 0;
}

/* The plain codec meets what it would on a CPU without AVX2. */
static void hide_avx2(int hide) {
  static int hidden;
  if (hide == hidden) return; /* to ask the CPU takes its time */
  hidden = hide;
  MUST(ac_cpu_mask(hide ? "avx2" : "") == AC_OK);
  (void)aci_cpu_detect();
}

static void decode(view text) {
  uint8_t *const want = room(text.len), *const in = copied(text.at, text.len);
  uint8_t *const out = room(ac_base64_decoded_max(text.len));
  size_t want_len = 0, len = 0;
  const int good = oracle_base64(want, &want_len, text);
  const int status = aci_base64_decode(out, &len, in, text.len);
  MUST(status == (good ? AC_OK : AC_ERR_FORMAT));
  MUST(same((view){in, text.len}, text));
  if (good) MUST(same((view){out, len}, (view){want, want_len}));
  for (size_t n = 0; n <= 32; n += 4) {
    uint8_t *const exact = room(n);
    const int fits = good && want_len == n;
    MUST(aci_base64_decode_exact(exact, n, in, text.len) == (fits ? AC_OK : AC_ERR_FORMAT));
    MUST(fits ? memcmp(exact, want, n) == 0 : untouched(exact, n));
  }
}

static void encode(view bytes) {
  const size_t text_len = ac_base64_encoded_len(bytes.len);
  uint8_t *const in = copied(bytes.at, bytes.len), *const out = room(text_len), *const want = room(text_len);
  uint8_t *const over = room(text_len), *const back = room(ac_base64_decoded_max(text_len));
  size_t back_len = 0;
  MUST(oracle_base64_encode(want, bytes.at, bytes.len) == text_len);
  aci_base64_encode(out, in, bytes.len);
  MUST(memcmp(out, want, text_len) == 0);
  if (bytes.len != 0) memcpy(over + text_len - bytes.len, bytes.at, bytes.len); /* at its end, as the writers of events do */
  aci_base64_encode(over, over + text_len - bytes.len, bytes.len);
  MUST(memcmp(over, want, text_len) == 0);
  MUST(aci_base64_decode(back, &back_len, out, text_len) == AC_OK && same((view){back, back_len}, bytes));
}

/* No length overflows: of what would need more than there is, nothing is promised. */
static void sizes(tape *t) {
  const size_t len = (size_t)take_number(t), encoded = ac_base64_encoded_len(len);
  MUST(encoded >= len && (encoded == SIZE_MAX || encoded % 4 == 0));
  MUST((encoded == SIZE_MAX) == (len > SIZE_MAX / 4 * 3));
  if (encoded != SIZE_MAX) MUST(ac_base64_decoded_max(encoded) >= len && ac_base64_decoded_max(encoded) - len < 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len) {
  tape t = {in, len};
  arena_reset();
  const uint8_t how = take(&t);
  hide_avx2(how >> 7);
  switch (how % 4) {
    case 0: decode((view){t.at, t.left}); break;
    case 1: encode((view){t.at, t.left}); break;
    case 2: { /* the text of some bytes, changed */
      const size_t from = t.left / 2, cap = ac_base64_encoded_len(from) + 64;
      uint8_t *const text = room(cap);
      const size_t text_len = oracle_base64_encode(text, t.at, from);
      t.at += from;
      t.left -= from;
      if (how & 4 && text_len != 0) { /* near its end, where there is padding */
        text[text_len - 1 - take_below(&t, 4)] = take(&t);
        decode((view){text, text_len});
        break;
      }
      decode((view){text, mutate(&t, text, text_len, cap)});
      break;
    }
    default: sizes(&t); break;
  }
  return 0;
}
