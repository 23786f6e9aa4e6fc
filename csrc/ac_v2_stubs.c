/* Stands in for what is not written yet. */
#include "ac_internal.h"
int ac_v2_sealer_init(ac_v2_sealer *sealer, const uint8_t secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len) { (void)sealer; (void)secret; (void)enc; (void)enc_len; return AC_ERR_STATE; }
int ac_v2_record_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, uint32_t flag, const uint8_t *plaintext,
                      size_t plaintext_len, const uint64_t *usage) { (void)sealer; (void)out; (void)out_cap; (void)flag; (void)plaintext; (void)plaintext_len; (void)usage; return AC_ERR_STATE; }
size_t ac_v2_events_bytes(const ac_v2_sealer *sealer, size_t plaintexts_len, const size_t *plaintext_lens, size_t count,
                          uint32_t last_flag, const uint64_t *usage) { (void)sealer; (void)plaintexts_len; (void)plaintext_lens; (void)count; (void)last_flag; (void)usage; return 0; }
size_t ac_v2_object_bytes(size_t plaintext_len, uint32_t flag, const uint64_t *usage) { (void)plaintext_len; (void)flag; (void)usage; return 0; }
int64_t ac_v2_event_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, const uint8_t *plaintext,
                         size_t plaintext_len) { (void)sealer; (void)out; (void)out_cap; (void)plaintext; (void)plaintext_len; return AC_ERR_STATE; }
int ac_v2_events_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len, const uint8_t *plaintexts,
                      size_t plaintexts_len, const size_t *plaintext_lens, size_t count, uint32_t last_flag,
                      const uint64_t *usage) { (void)sealer; (void)out; (void)out_cap; (void)out_len; (void)plaintexts; (void)plaintexts_len; (void)plaintext_lens; (void)count; (void)last_flag; (void)usage; return AC_ERR_STATE; }
int ac_v2_object_seal(ac_v2_sealer *sealer, uint8_t *out, size_t out_cap, size_t *out_len, uint32_t flag,
                      const uint8_t *plaintext, size_t plaintext_len, const uint64_t *usage) { (void)sealer; (void)out; (void)out_cap; (void)out_len; (void)flag; (void)plaintext; (void)plaintext_len; (void)usage; return AC_ERR_STATE; }
int ac_v2_sealer_close(ac_v2_sealer *sealer) { (void)sealer; return AC_ERR_STATE; }
void ac_v2_sealer_wipe(ac_v2_sealer *sealer) { (void)sealer;  }
int ac_v2_opener_init(ac_v2_opener *opener, const uint8_t secret[AC_HASH_BYTES], const uint8_t *enc, size_t enc_len,
                      const uint8_t salt[AC_V2_SALT_BYTES]) { (void)opener; (void)secret; (void)enc; (void)enc_len; (void)salt; return AC_ERR_STATE; }
int ac_v2_record_open(ac_v2_opener *opener, uint8_t *out, size_t out_cap, uint32_t flag, const uint8_t *sealed,
                      size_t sealed_len, const uint64_t *usage) { (void)opener; (void)out; (void)out_cap; (void)flag; (void)sealed; (void)sealed_len; (void)usage; return AC_ERR_STATE; }
int ac_v2_opener_set(ac_v2_opener *opener, size_t max_event_bytes, size_t max_line_bytes) { (void)opener; (void)max_event_bytes; (void)max_line_bytes; return AC_ERR_STATE; }
int64_t ac_v2_events_open(ac_v2_events *events, const uint8_t *in, size_t in_len) { (void)events; (void)in; (void)in_len; return AC_ERR_STATE; }
int ac_v2_events_unfinished(const ac_v2_opener *opener, size_t in_len) { (void)opener; (void)in_len; return AC_ERR_STATE; }
int ac_v2_sealed_open(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, int event, uint32_t flag,
                      const uint8_t *ciphertext, size_t ciphertext_len, const uint8_t *salt, size_t salt_len,
                      const uint64_t *usage) { (void)opener; (void)out; (void)out_cap; (void)out_len; (void)event; (void)flag; (void)ciphertext; (void)ciphertext_len; (void)salt; (void)salt_len; (void)usage; return AC_ERR_STATE; }
int ac_v2_object_open(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, uint64_t span[AC_V2_SPAN],
                      const uint8_t *in, size_t in_len) { (void)opener; (void)out; (void)out_cap; (void)out_len; (void)span; (void)in; (void)in_len; return AC_ERR_STATE; }
int ac_v2_opener_close(ac_v2_opener *opener) { (void)opener; return AC_ERR_STATE; }
void ac_v2_opener_wipe(ac_v2_opener *opener) { (void)opener;  }
size_t ac_v2_request_max_bytes(size_t body_len, size_t model_json_len, size_t enc_len) { (void)body_len; (void)model_json_len; (void)enc_len; return 0; }
int ac_v2_request_seal(ac_v2_opener *opener, uint8_t *out, size_t out_cap, size_t *out_len, uint32_t suite,
                       const uint8_t key_id[AC_KEY_ID_BYTES], const uint8_t *public_key,
                       const uint8_t *shared, const uint8_t *enc, size_t enc_len, const ac_v2_metadata *metadata,
                       const uint8_t *model_json, size_t model_json_len, const uint8_t *body, size_t body_len) { (void)opener; (void)out; (void)out_cap; (void)out_len; (void)suite; (void)key_id; (void)public_key; (void)shared; (void)enc; (void)enc_len; (void)metadata; (void)model_json; (void)model_json_len; (void)body; (void)body_len; return AC_ERR_STATE; }
int ac_v2_request_open(ac_v2_sealer *sealer, uint8_t *body, size_t body_cap, size_t *body_len, uint32_t suite,
                       const uint8_t key_id[AC_KEY_ID_BYTES], const ac_secret_key *node, const uint8_t *shared,
                       const uint8_t *enc, size_t enc_len, const uint8_t *ciphertext, size_t ciphertext_len,
                       const ac_v2_metadata *metadata) { (void)sealer; (void)body; (void)body_cap; (void)body_len; (void)suite; (void)key_id; (void)node; (void)shared; (void)enc; (void)enc_len; (void)ciphertext; (void)ciphertext_len; (void)metadata; return AC_ERR_STATE; }
