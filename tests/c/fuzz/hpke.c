/* SHA-256 in any pieces by either compression, HKDF of any lengths, HPKE's contexts as a machine, and the schedules that they stand on: against
 * libsodium's SHA-256 and HMAC, and against the other end. */
#include "fuzz.h"

#include <sodium.h>

enum { MOST_HKDF = 255 * AC_HASH_BYTES };

static ac_secret_key key;
static aci_sha256_compress compressions[2]; /* what is chosen here, and where there are no instructions for it */
static uint8_t ephemeral[32] = {11};

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  static const uint8_t secret[AC_X25519_BYTES] = {12};
  (void)argc;
  (void)argv;
  MUST(ac_cpu_mask("sha") == AC_OK);
  fuzz_init();
  compressions[1] = aci_sha256_chosen;
  MUST(ac_cpu_mask("") == AC_OK);
  fuzz_init();
  compressions[0] = aci_sha256_chosen;
  MUST(ac_secret_key_from_bytes(&key, secret) == AC_OK);
  return 0;
}

/* Bytes to work on: some of the tape, or many more that are made of it. */
static view take_bytes(tape *t) {
  const unsigned how = take(t);
  if (how < 128) {
    const view v = take_view(t, how);
    return (view){copied(v.at, v.len), v.len};
  }
  const size_t len = (how - 128) * 7;
  uint8_t *const at = room(len);
  const uint8_t seed = take(t);
  for (size_t i = 0; i < len; i++) at[i] = (uint8_t)(i * 31 + seed);
  return (view){at, len};
}

/* ---- SHA-256 ---- */

static void hash(tape *t) {
  const view all = take_bytes(t);
  uint8_t want[32], *const got = room(32), *const once = room(32);
  aci_sha256 h;
  crypto_hash_sha256(want, all.at, all.len);
  aci_sha256_init(&h);
  for (size_t at = 0; at < all.len;) {
    const size_t left = all.len - at, size = t->left != 0 ? take(t) : left, part = size < left ? size : left;
    aci_sha256_update(&h, copied(all.at + at, part), part);
    at += part;
  }
  aci_sha256_final(&h, got);
  ac_sha256(once, all.at, all.len);
  MUST(memcmp(got, want, 32) == 0 && memcmp(once, want, 32) == 0 && all_zero(&h, sizeof h));
}

/* ---- HKDF ---- */

static void hmac(uint8_t out[32], view secret, const view *parts, size_t count) {
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, secret.at, secret.len);
  for (size_t i = 0; i < count; i++) crypto_auth_hmacsha256_update(&state, parts[i].at, parts[i].len);
  crypto_auth_hmacsha256_final(&state, out);
}

/* RFC 5869, section 2. */
static void oracle_hkdf(uint8_t *out, size_t len, view ikm, view salt, view info) {
  uint8_t prk[32], last[32];
  hmac(prk, salt, &ikm, 1);
  for (uint8_t i = 1; len != 0; i++) {
    const view parts[3] = {{last, i == 1 ? 0 : sizeof last}, info, {&i, 1}};
    hmac(last, (view){prk, sizeof prk}, parts, 3);
    const size_t part = len < sizeof last ? len : sizeof last;
    memcpy(out, last, part);
    out += part;
    len -= part;
  }
}

static void derive(tape *t) {
  const unsigned how = take(t);
  const view ikm = take_bytes(t), salt = take_bytes(t), info = take_bytes(t);
  const size_t number = (size_t)take_number(t), len = how < 200 ? number % 200 : how < 210 ? MOST_HKDF - number % 40 : number;
  uint8_t *const out = room(len <= MOST_HKDF ? len : 8), *const want = room(len <= MOST_HKDF ? len : 0);
  const int status = ac_hkdf_sha256(out, len, ikm.at, ikm.len, salt.at, salt.len, info.at, info.len);
  if (len > MOST_HKDF) {
    MUST(status == AC_ERR_ARGUMENT && untouched(out, 8));
    return;
  }
  oracle_hkdf(want, len, ikm, salt, info);
  MUST(status == AC_OK && memcmp(out, want, len) == 0);
}

/* ---- HPKE ---- */

/* RFC 9180, section 4: LabeledExtract and LabeledExpand. */
static void labeled_extract(uint8_t out[32], view salt, view suite, const char *label, view ikm) {
  const view parts[4] = {view_of("HPKE-v1"), suite, view_of(label), ikm};
  hmac(out, salt, parts, 4);
}

static void labeled_expand(uint8_t *out, size_t len, const uint8_t prk[32], view suite, const char *label, view info) {
  const uint8_t length[2] = {(uint8_t)(len >> 8), (uint8_t)len};
  uint8_t last[32];
  for (uint8_t i = 1; len != 0; i++) {
    const view parts[7] = {{last, i == 1 ? 0 : sizeof last}, {length, 2}, view_of("HPKE-v1"), suite, view_of(label), info, {&i, 1}};
    hmac(last, (view){prk, 32}, parts, 7);
    const size_t part = len < sizeof last ? len : sizeof last;
    memcpy(out, last, part);
    out += part;
    len -= part;
  }
}

/* Section 5.1, mode_base. */
static void check_schedule(const ac_hpke *h, const uint8_t shared[32], uint32_t suite_number, view info) {
  const uint8_t suite_bytes[10] = {'H', 'P', 'K', 'E', suite_number == AC_SUITE_XWING ? 0x64 : 0, suite_number == AC_SUITE_XWING ? 0x7a : 0x20, 0, 1, 0, 2};
  const view suite = {suite_bytes, sizeof suite_bytes}, none = {suite_bytes, 0};
  uint8_t context[65] = {0}, secret[32], nonce[12], exporter[32], aes_key[32], a[17], b[17];
  labeled_extract(context + 1, none, suite, "psk_id_hash", none);
  labeled_extract(context + 33, none, suite, "info_hash", info);
  labeled_extract(secret, (view){shared, 32}, suite, "secret", none);
  labeled_expand(aes_key, sizeof aes_key, secret, suite, "key", (view){context, sizeof context});
  labeled_expand(nonce, sizeof nonce, secret, suite, "base_nonce", (view){context, sizeof context});
  labeled_expand(exporter, sizeof exporter, secret, suite, "exp", (view){context, sizeof context});
  MUST(memcmp(nonce, h->base_nonce, sizeof nonce) == 0 && memcmp(exporter, h->exporter_secret, sizeof exporter) == 0);
  ac_aes256gcm aes;
  MUST(ac_aes256gcm_init(&aes, aes_key, ac_aes_backend_default()) == AC_OK);
  MUST(ac_aes256gcm_seal(&aes, a, 17, nonce, nonce, 1, NULL, 0) == AC_OK && ac_aes256gcm_seal(&h->aes, b, 17, nonce, nonce, 1, NULL, 0) == AC_OK);
  MUST(memcmp(a, b, sizeof a) == 0);
}

static void export_both(ac_hpke *s, ac_hpke *r, tape *t) {
  const view context = take_bytes(t);
  const size_t number = (size_t)take_number(t), len = number > MOST_HKDF ? number : number % 300;
  const size_t size = len > MOST_HKDF ? 8 : len;
  uint8_t *const a = room(size), *const b = room(size), *const want = room(size);
  const int status = ac_hpke_export(s, a, len, context.at, context.len);
  const int other = ac_hpke_export(r, b, len, context.at, context.len);
  const int ready = s->state == AC_STATE_READY;
  MUST(status == (len > MOST_HKDF ? AC_ERR_ARGUMENT : ready ? AC_OK : AC_ERR_STATE));
  MUST(other == (len > MOST_HKDF ? AC_ERR_ARGUMENT : r->state == AC_STATE_READY ? AC_OK : AC_ERR_STATE));
  if (status != AC_OK) MUST(untouched(a, size));
  if (status != AC_OK || other != AC_OK) return;
  const uint8_t suite_bytes[10] = {'H', 'P', 'K', 'E', s->suite == AC_SUITE_XWING ? 0x64 : 0, s->suite == AC_SUITE_XWING ? 0x7a : 0x20, 0, 1, 0, 2};
  labeled_expand(want, size, s->exporter_secret, (view){suite_bytes, sizeof suite_bytes}, "sec", context);
  MUST(memcmp(a, b, size) == 0 && memcmp(a, want, size) == 0);
}

/* One message over, as it is or changed, with hostile rooms. */
static void message(ac_hpke *s, ac_hpke *r, tape *t) {
  const view plaintext = take_bytes(t), aad = take_bytes(t);
  const unsigned how = take(t);
  const size_t sealed_len = plaintext.len + AC_TAG_BYTES;
  const size_t cap = how >= 240 ? sealed_len - 1 - how % AC_TAG_BYTES : sealed_len;
  uint8_t *const sealed = room(cap);
  const ac_hpke before = *s;
  const int status = ac_hpke_seal(s, sealed, cap, plaintext.at, plaintext.len, aad.at, aad.len);
  const int want = before.generation != aci_generation() ? AC_ERR_FORKED
                   : before.busy                         ? AC_ERR_BUSY
                   : before.state != AC_STATE_READY      ? AC_ERR_STATE
                   : !before.seals                       ? AC_ERR_STATE
                   : before.sequence == UINT64_MAX       ? AC_ERR_LIMIT
                   : cap < sealed_len                    ? AC_ERR_CAPACITY
                                                         : AC_OK;
  MUST(status == want);
  if (status != AC_OK) {
    MUST(memcmp(&before, s, sizeof before) == 0 && untouched(sealed, cap));
    return;
  }
  MUST(s->sequence == before.sequence + 1);
  if ((how & 7) == 7) return; /* it is lost: what comes next does not verify */
  uint8_t *const text = room(sealed_len + 8);
  memcpy(text, sealed, sealed_len);
  const size_t len = how & 8 ? mutate(t, text, sealed_len, sealed_len + 8) : sealed_len;
  const int genuine = len == sealed_len && memcmp(text, sealed, len) == 0 && r->sequence == before.sequence;
  const size_t need = len < AC_TAG_BYTES ? 0 : len - AC_TAG_BYTES;
  const size_t out_cap = how & 16 && need != 0 ? need - 1 : need;
  uint8_t *const out = room(out_cap);
  const ac_hpke waiting = *r;
  const int opened = ac_hpke_open(r, out, out_cap, text, len, aad.at, aad.len);
  const int expect = waiting.busy                                           ? AC_ERR_BUSY
                     : waiting.state != AC_STATE_READY || waiting.seals     ? AC_ERR_STATE
                     : waiting.sequence == UINT64_MAX                       ? AC_ERR_LIMIT
                     : len < AC_TAG_BYTES                                   ? AC_ERR_AUTH
                     : out_cap < need                                       ? AC_ERR_CAPACITY
                     : genuine                                              ? AC_OK
                                                                            : AC_ERR_AUTH;
  MUST(opened == expect);
  if (opened == AC_OK) {
    MUST(same((view){out, out_cap}, plaintext) && r->sequence == waiting.sequence + 1);
    return;
  }
  MUST(memcmp(&waiting, r, sizeof waiting) == 0); /* it can go on */
  MUST(opened == AC_ERR_AUTH ? all_zero(out, need < out_cap ? need : out_cap) : untouched(out, out_cap));
}

static void contexts(tape *t) {
  enum { MOST_STEPS = 8 };
  static ac_hpke sender, recipient; /* static: no other input's state is seen, setup overwrites all that is used */
  const unsigned how = take(t);
  const view info = take_bytes(t);
  uint8_t *const enc = room(AC_X25519_BYTES);
  uint8_t shared[32];
  memset(&sender, 0, sizeof sender);
  memset(&recipient, 0, sizeof recipient);
  const uint32_t suite = how & 1 ? AC_SUITE_X25519 : AC_SUITE_XWING;
  if (how & 1) {
    static const uint8_t zero[32];
    MUST(ac_hpke_setup_sender(&sender, enc, zero, info.at, info.len, ephemeral) == AC_ERR_KEY && sender.state == AC_STATE_NONE);
    MUST(ac_hpke_setup_recipient(&recipient, zero, &key, info.at, info.len) == AC_ERR_AUTH && recipient.state == AC_STATE_NONE);
    MUST(ac_hpke_setup_sender(&sender, enc, key.public_key, info.at, info.len, ephemeral) == AC_OK);
    MUST(ac_hpke_setup_recipient(&recipient, enc, &key, info.at, info.len) == AC_OK);
    MUST(aci_dhkem_decapsulate(shared, enc, &key) == AC_OK);
  } else {
    memset(shared, (int)how, sizeof shared);
    MUST(ac_hpke_setup_shared(&sender, 3 + how, 1, shared, info.at, info.len) == AC_ERR_ARGUMENT && sender.state == AC_STATE_NONE);
    MUST(ac_hpke_setup_shared(&sender, suite, 1, shared, info.at, info.len) == AC_OK);
    MUST(ac_hpke_setup_shared(&recipient, suite, 0, shared, info.at, info.len) == AC_OK);
  }
  check_schedule(&sender, shared, suite, info);
  check_schedule(&recipient, shared, suite, info);
  for (unsigned i = 0; i < MOST_STEPS && t->left != 0; i++) {
    const unsigned what = take(t);
    switch (what % 8) {
      case 0: export_both(&sender, &recipient, t); break;
      case 1: sender.sequence = recipient.sequence = UINT64_MAX - what / 8 % 3; break;
      case 2:
        if (what & 64) sender.busy = 1;
        message(&sender, &recipient, t);
        sender.busy = 0;
        break;
      case 3:
        if (what == 251) MUST(ac_hpke_close(&sender) == AC_OK && all_zero(&sender.aes, sizeof sender.aes));
        if (what == 243) ac_hpke_wipe(&recipient);
        if (what == 235) recipient.seals = 1;
        message(&sender, &recipient, t);
        break;
      default: message(&sender, &recipient, t); break;
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len) {
  tape t = {in, len};
  arena_reset();
  const uint8_t how = take(&t);
  aci_sha256_chosen = compressions[how >> 7];
  switch (how % 4) {
    case 0: hash(&t); break;
    case 1: derive(&t); break;
    default: contexts(&t); break;
  }
  return 0;
}
