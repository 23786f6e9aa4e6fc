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
  status = (int)LOOK(ac_hkdf_sha256(out, 32, in.key, sizeof in.key, wire.salt, sizeof wire.salt, wire.info, INFO));
}

static void sha256(void) {
  ac_sha256(out, in.text, TEXT);
  status = (int)LOOK(AC_OK);
}

static void blake2b(void) { status = (int)LOOK(ac_blake2b256(out, in.text, TEXT)); }

static void aes_seal(void) {
  status = (int)LOOK(ac_aes256gcm_init(&object.aes, in.key, ac_aes_backend_default()));
  if (status == AC_OK) status = (int)LOOK(ac_aes256gcm_seal(&object.aes, out, room(), wire.nonce, in.text, TEXT, NULL, 0));
  ac_aes256gcm_wipe(&object.aes);
}

static void aes_open(void) {
  uint8_t sealed[sizeof wire.sealed];
  memcpy(sealed, wire.sealed, sizeof sealed);
  if (wrong & FORGED) sealed[TEXT / 2] ^= 1;
  status = (int)LOOK(ac_aes256gcm_init(&object.aes, in.key, ac_aes_backend_default()));
  if (status == AC_OK) status = (int)LOOK(ac_aes256gcm_open(&object.aes, out, room(), wire.nonce, sealed, sizeof sealed, NULL, 0));
  ac_aes256gcm_wipe(&object.aes);
}

/* ---- HPKE ---- */

static int hpke_sender(void) {
  queue_random(in.client, sizeof in.client);
  return (int)LOOK(ac_hpke_setup_sender(&object.hpke, out, peer(wire.node_public), wire.info, INFO, NULL));
}

static int hpke_recipient(void) {
  return (int)LOOK(ac_hpke_setup_recipient(&object.hpke, peer(wire.client_public), &in.pair, wire.info, INFO));
}

static void hpke_then(int made, int (*then)(void)) {
  status = made == AC_OK ? then() : made;
  if (made == AC_OK ? ac_hpke_close(&object.hpke) != AC_OK : !all_zero(&object.hpke, sizeof object.hpke)) abort();
}

static int hpke_sealed(void) { return (int)LOOK(ac_hpke_seal(&object.hpke, out, room(), in.text, TEXT, NULL, 0)); }

static int hpke_opened(void) {
  uint8_t sealed[sizeof wire.hpke_sealed];
  memcpy(sealed, wire.hpke_sealed, sizeof sealed);
  if (wrong & FORGED) sealed[TEXT] ^= 1;
  return (int)LOOK(ac_hpke_open(&object.hpke, out, room(), sealed, sizeof sealed, NULL, 0));
}

static int hpke_exported(void) {
  static const char response[] = "atoma/2 response"; /* of this context it is another secret than v2's */
  const int done = (int)LOOK(ac_hpke_export(&object.hpke, out, 64, (const uint8_t *)response, sizeof response - 1));
  sodium_memzero(out, 64);
  return done;
}

static void hpke_seal(void) { hpke_then(hpke_sender(), hpke_sealed); }
static void hpke_open(void) { hpke_then(hpke_recipient(), hpke_opened); }
static void hpke_export(void) { hpke_then(hpke_recipient(), hpke_exported); }

static void hpke_shared(void) {
  const uint32_t suite = wrong & MALFORMED ? 9 : AC_SUITE_XWING;
  hpke_then((int)LOOK(ac_hpke_setup_shared(&object.hpke, suite, 1, in.xwing_shared, wire.info, INFO)), hpke_sealed);
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
  const uint32_t suite = wrong & MALFORMED ? 9 : AC_SUITE_XWING;
  status = (int)LOOK(aci_v2_request_schedule(&object.aes, out, out + 12, suite, in.xwing_shared, v2_key_id));
  ac_aes256gcm_wipe(&object.aes);
}

static void v2_response_schedule(void) {
  status = (int)LOOK(aci_v2_response_schedule(&object.aes, out, in.response, wire.client_public, AC_X25519_BYTES, wire.salt));
  ac_aes256gcm_wipe(&object.aes);
}

/* ---- the acts ---- */

static const act acts[] = {
    ACT(key_from_bytes, AC_OK), ACT(key_from_bytes, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(key_generate, AC_OK), ACT(key_generate, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE),
    ACT(signing_from_seed, AC_OK), ACT(signing_from_seed, AC_ERR_PRIMITIVE, .in = IN_SIGN_KEYPAIR),
    ACT(signing_generate, AC_OK), ACT(signing_generate, AC_ERR_PRIMITIVE, .in = IN_SIGN_KEYPAIR),
    ACT(x25519_public, AC_OK), ACT(x25519, AC_OK, .gives_secret = 1), ACT(x25519, AC_ERR_KEY, .wrong = ZERO_POINT),
    ACT(x25519, AC_ERR_KEY, .in = IN_SCALARMULT), ACT(hkdf, AC_OK, .gives_secret = 1), ACT(sha256, AC_OK),
    ACT(blake2b, AC_OK), ACT(blake2b, AC_ERR_PRIMITIVE, .in = IN_BLAKE2B),
    ACT(aes_seal, AC_OK), ACT(aes_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(aes_open, AC_OK, .gives_secret = 1),
    ACT(aes_open, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(aes_open, AC_ERR_AUTH, .wrong = FORGED),

    ACT(hpke_seal, AC_OK), ACT(hpke_seal, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(hpke_seal, AC_ERR_KEY, .wrong = ZERO_POINT),
    ACT(hpke_seal, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE), ACT(hpke_open, AC_OK, .gives_secret = 1),
    ACT(hpke_open, AC_ERR_CAPACITY, .wrong = NO_ROOM), ACT(hpke_open, AC_ERR_AUTH, .wrong = ZERO_POINT),
    ACT(hpke_open, AC_ERR_AUTH, .wrong = FORGED), ACT(hpke_export, AC_OK), ACT(hpke_shared, AC_OK),
    ACT(hpke_shared, AC_ERR_ARGUMENT, .wrong = MALFORMED),

    ACT(v1_schedule, AC_OK), ACT(v1_schedule, AC_ERR_KEY, .wrong = ZERO_POINT),
    ACT(encapsulate, AC_OK, .gives_secret = 1), ACT(encapsulate, AC_ERR_KEY, .wrong = ZERO_POINT),
    ACT(encapsulate, AC_ERR_PRIMITIVE, .in = IN_SCALARMULT_BASE), ACT(decapsulate, AC_OK, .gives_secret = 1),
    ACT(decapsulate, AC_ERR_KEY, .wrong = ZERO_POINT), ACT(v2_request_schedule, AC_OK, .gives_secret = 1),
    ACT(v2_request_schedule, AC_ERR_ARGUMENT, .wrong = MALFORMED), ACT(v2_response_schedule, AC_OK),
    {0},
};
const act *const acts_of_primitives = acts;
