/* L0, keys, HPKE and key schedules: to their end and to each refusal, and then wiped. */
#include "acts.h"

#include <sodium.h>

/* ---- L0 and keys ---- */

static void key_from_bytes(void) {
  status = (int)LOOK(ac_secret_key_from_bytes(&object.key, in.node));
  ac_secret_key_wipe(&object.key);
}

static void key_generate(void) {
  queue_random(in.client, sizeof in.client);
  status = (int)LOOK(ac_secret_key_generate(&object.key));
  ac_secret_key_wipe(&object.key);
}

static void signing_from_seed(void) {
  status = (int)LOOK(ac_signing_key_from_seed(&object.signing, in.seed));
  ac_signing_key_wipe(&object.signing);
}

static void signing_generate(void) {
  queue_random(in.seed, sizeof in.seed);
  status = (int)LOOK(ac_signing_key_generate(&object.signing));
  ac_signing_key_wipe(&object.signing);
}

static void x25519_public(void) { status = (int)LOOK(ac_x25519_public(out, in.client)); }
static void x25519(void) { status = (int)LOOK(ac_x25519(out, in.client, peer(wire.node_public))); }

static void hkdf(void) {
  const size_t len = wrong & TOO_LONG ? 255 * AC_HASH_BYTES + 1 : wrong & OVERLAPS ? INFO - 1 : 32;
  status = (int)LOOK(ac_hkdf_sha256(place(wire.info), len, in.key, sizeof in.key, wire.salt, sizeof wire.salt, wire.info, INFO));
}

static void sha256(void) {
  ac_sha256(out, in.text, text_len);
  status = (int)LOOK(AC_OK);
}

static void blake2b(void) { status = (int)LOOK(ac_blake2b256(out, in.text, TEXT)); }

static void aes_with(int (*then)(void)) {
  status = (int)LOOK(ac_aes256gcm_init(&object.aes, in.key, wrong & NO_SUCH ? 99 : ac_aes_backend_default()));
  if (wrong & CLOSED) ac_aes256gcm_wipe(&object.aes);
  if (status == AC_OK) status = then();
  ac_aes256gcm_wipe(&object.aes);
}

static int aes_sealed(void) {
  return (int)LOOK(ac_aes256gcm_seal(&object.aes, place(in.text), room(), wire.nonce, in.text, text_len, wire.info, wrong & PLAIN ? 0 : INFO));
}

static int aes_opened(void) {
  static uint8_t sealed[TEXT + AC_TAG_BYTES];
  const size_t aad_len = wrong & PLAIN ? 0 : INFO;
  const int made = ac_aes256gcm_seal(&object.aes, sealed, sizeof sealed, wire.nonce, in.text, text_len, wire.info, aad_len);
  const size_t sealed_len = wrong & MALFORMED ? AC_TAG_BYTES - 1 : text_len + AC_TAG_BYTES;
  if (made != AC_OK && !(wrong & CLOSED)) return made;
  if (wrong & FORGED) sealed[text_len / 2] ^= 1;
  return (int)LOOK(ac_aes256gcm_open(&object.aes, place(sealed), room(), wire.nonce, sealed, sealed_len, wire.info, aad_len));
}

static void aes_seal(void) { aes_with(aes_sealed); }
static void aes_open(void) { aes_with(aes_opened); }

/* ---- HPKE ---- */

static int hpke_sender(void) {
  queue_random(in.client, sizeof in.client);
  return (int)LOOK(ac_hpke_setup_sender(&object.hpke, out, peer(wire.node_public), wire.info, INFO, NULL));
}

static int hpke_recipient(void) {
  return (int)LOOK(ac_hpke_setup_recipient(&object.hpke, peer(wire.client_public), &in.pair, wire.info, INFO));
}

static void hpke_then(int made, int (*then)(void)) {
  ac_hpke *const hpke = &object.hpke;
  hinder(&hpke->state, &hpke->busy);
  if (wrong & FORKED) hpke->generation--;
  if (wrong & SPENT) hpke->sequence = UINT64_MAX;
  status = made == AC_OK ? then() : made;
  if (wrong & BUSY && ac_hpke_close(hpke) != AC_ERR_BUSY) abort();
  unhinder(&hpke->busy);
  if (made == AC_OK ? ac_hpke_close(hpke) != AC_OK : !all_zero(hpke, sizeof *hpke)) abort();
}

static int hpke_sealed(void) { return (int)LOOK(ac_hpke_seal(&object.hpke, place(in.text), room(), in.text, TEXT, NULL, 0)); }

static int hpke_opened(void) {
  uint8_t sealed[sizeof wire.hpke_sealed];
  memcpy(sealed, wire.hpke_sealed, sizeof sealed);
  if (wrong & FORGED) sealed[TEXT] ^= 1;
  return (int)LOOK(ac_hpke_open(&object.hpke, place(sealed), room(), sealed, sizeof sealed, NULL, 0));
}

static int hpke_exported(void) {
  static uint8_t response[] = "atoma/2 response"; /* of this context it is another secret than v2's */
  uint8_t *const to = wrong & OVERLAPS ? response : out;
  const int done = (int)LOOK(ac_hpke_export(&object.hpke, to, wrong & TOO_LONG ? 255 * AC_HASH_BYTES + 1 : 64, response,
                                            sizeof response - 1));
  sodium_memzero(out, 64);
  return done;
}

static void hpke_seal(void) { hpke_then(wrong & OTHER_WAY ? hpke_recipient() : hpke_sender(), hpke_sealed); }
static void hpke_open(void) { hpke_then(wrong & OTHER_WAY ? hpke_sender() : hpke_recipient(), hpke_opened); }
static void hpke_export(void) { hpke_then(hpke_recipient(), hpke_exported); }

static void hpke_shared(void) {
  const uint32_t suite = wrong & NO_SUCH ? 9 : AC_SUITE_XWING;
  hpke_then((int)LOOK(ac_hpke_setup_shared(&object.hpke, suite, 1, in.xwing_shared, wire.info, INFO)), hpke_sealed);
}

/* Where the caller has a key of its own for it, and wipes without closing. */
static void hpke_setup(void) {
  uint8_t *const enc = wrong & OVERLAPS ? wire.info : out;
  status = (int)LOOK(ac_hpke_setup_sender(&object.hpke, enc, wire.node_public, wire.info, INFO, in.client));
  ac_hpke_wipe(&object.hpke);
}

/* ---- inside: what one call leaves may be gone when its caller is done ---- */

static void v1_schedule(void) {
  const uint8_t *const salt = in.queue + AC_X25519_BYTES;
  status = (int)LOOK(aci_v1_schedule(&object.aes, in.client, peer(wire.node_public), salt));
  ac_aes256gcm_wipe(&object.aes);
}

/* What they give is the caller's to wipe. */
static void encapsulate(void) { status = (int)LOOK(aci_dhkem_encapsulate(out, out + 32, peer(wire.node_public), in.client)); }
static void decapsulate(void) { status = (int)LOOK(aci_dhkem_decapsulate(out, peer(wire.client_public), &in.pair)); }

static void v2_request_schedule(void) {
  const uint32_t suite = wrong & NO_SUCH ? 9 : AC_SUITE_XWING;
  status = (int)LOOK(aci_v2_request_schedule(&object.aes, out, out + 12, suite, in.xwing_shared, v2_key_id));
  ac_aes256gcm_wipe(&object.aes);
}

static void v2_response_schedule(void) {
  status = (int)LOOK(aci_v2_response_schedule(&object.aes, out, in.response, wire.client_public, AC_X25519_BYTES, wire.salt));
  ac_aes256gcm_wipe(&object.aes);
}

/* ---- the acts ---- */

#define BOTH_WAYS(bytes) ACT(aes_seal, AC_OK, .len = (bytes)), ACT(aes_open, AC_OK, .len = (bytes), .gives_secret = 1)

static const act acts[] = {
    ACT(key_from_bytes, AC_OK), ACT(key_from_bytes, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(key_generate, AC_OK), ACT(key_generate, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(signing_from_seed, AC_OK), ACT(signing_from_seed, AC_ERR_PRIMITIVE, .in = IN_SIGN_KEYPAIR),
    ACT(signing_generate, AC_OK), ACT(signing_generate, AC_ERR_PRIMITIVE, .in = IN_SIGN_KEYPAIR),
    ACT(x25519_public, AC_OK), ACT(x25519, AC_OK, .gives_secret = 1), ACT(x25519, AC_ERR_KEY, .wrong = ZERO_POINT),
    ACT(x25519, AC_ERR_KEY, .in = IN_SCALARMULT), ACT(hkdf, AC_OK, .gives_secret = 1), ACT(hkdf, AC_ERR_ARGUMENT, .wrong = TOO_LONG),
    ACT(hkdf, AC_ERR_OVERLAP, .wrong = OVERLAPS), ACT(sha256, AC_OK), ACT(sha256, AC_OK, .len = 60), /* the length needs a block */
    ACT(blake2b, AC_OK), ACT(blake2b, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B),

    ACT(aes_seal, AC_OK), ACT(aes_seal, AC_OK, .wrong = PLAIN), ACT(aes_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(aes_seal, AC_ERR_OVERLAP, .wrong = OVERLAPS), ACT(aes_seal, AC_ERR_ARGUMENT, .wrong = TOO_LONG),
    ACT(aes_seal, AC_ERR_ARGUMENT, .wrong = NO_SUCH), ACT(aes_seal, AC_ERR_STATE, .wrong = CLOSED),
    ACT(aes_seal, AC_ERR_PRIMITIVE, .in = IN_ENCRYPT), ACT(aes_open, AC_OK, .gives_secret = 1),
    ACT(aes_open, AC_OK, .wrong = PLAIN, .gives_secret = 1), ACT(aes_open, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(aes_open, AC_ERR_OVERLAP, .wrong = OVERLAPS), ACT(aes_open, AC_ERR_STATE, .wrong = CLOSED),
    ACT(aes_open, AC_ERR_AUTH, .wrong = FORGED), ACT(aes_open, AC_ERR_AUTH, .wrong = MALFORMED),
    ACT(aes_open, AC_ERR_AUTH, .in = IN_DECRYPT),
    /* what is less than four bytes, a word, a block; some blocks, groups of them, and what is left then */
    BOTH_WAYS(11), BOTH_WAYS(15), BOTH_WAYS(33), BOTH_WAYS(130), BOTH_WAYS(200), BOTH_WAYS(300), BOTH_WAYS(512),
    BOTH_WAYS(600), BOTH_WAYS(1100),

    ACT(hpke_seal, AC_OK), ACT(hpke_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(hpke_seal, AC_ERR_KEY, .wrong = ZERO_POINT),
    ACT(hpke_seal, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE), ACT(hpke_seal, AC_ERR_PRIMITIVE, .in = IN_ENCRYPT),
    ACT(hpke_seal, AC_ERR_OVERLAP, .wrong = OVERLAPS), ACT(hpke_seal, AC_ERR_STATE, .wrong = CLOSED),
    ACT(hpke_seal, AC_ERR_BUSY, .wrong = BUSY), ACT(hpke_seal, AC_ERR_FORKED, .wrong = FORKED),
    ACT(hpke_seal, AC_ERR_LIMIT, .wrong = SPENT), ACT(hpke_seal, AC_ERR_STATE, .wrong = OTHER_WAY),
    ACT(hpke_open, AC_OK, .gives_secret = 1), ACT(hpke_open, AC_ERR_CAPACITY, .wrong = NO_ROOM),
    ACT(hpke_open, AC_ERR_AUTH, .wrong = ZERO_POINT), ACT(hpke_open, AC_ERR_AUTH, .wrong = FORGED),
    ACT(hpke_open, AC_ERR_OVERLAP, .wrong = OVERLAPS), ACT(hpke_open, AC_ERR_STATE, .wrong = CLOSED),
    ACT(hpke_open, AC_ERR_BUSY, .wrong = BUSY), ACT(hpke_open, AC_ERR_LIMIT, .wrong = SPENT),
    ACT(hpke_open, AC_ERR_STATE, .wrong = OTHER_WAY), ACT(hpke_export, AC_OK), ACT(hpke_export, AC_ERR_ARGUMENT, .wrong = TOO_LONG),
    ACT(hpke_export, AC_ERR_OVERLAP, .wrong = OVERLAPS), ACT(hpke_export, AC_ERR_STATE, .wrong = CLOSED),
    ACT(hpke_export, AC_ERR_BUSY, .wrong = BUSY), ACT(hpke_shared, AC_OK), ACT(hpke_shared, AC_ERR_ARGUMENT, .wrong = NO_SUCH),
    ACT(hpke_setup, AC_OK), ACT(hpke_setup, AC_ERR_OVERLAP, .wrong = OVERLAPS),

    ACT(v1_schedule, AC_OK), ACT(v1_schedule, AC_ERR_KEY, .wrong = ZERO_POINT),
    ACT(encapsulate, AC_OK, .gives_secret = 1), ACT(encapsulate, AC_ERR_KEY, .wrong = ZERO_POINT),
    ACT(encapsulate, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE), ACT(decapsulate, AC_OK, .gives_secret = 1),
    ACT(decapsulate, AC_ERR_KEY, .wrong = ZERO_POINT), ACT(v2_request_schedule, AC_OK, .gives_secret = 1),
    ACT(v2_request_schedule, AC_ERR_ARGUMENT, .wrong = NO_SUCH), ACT(v2_response_schedule, AC_OK),
    {0},
};
const act *const acts_of_primitives = acts;
