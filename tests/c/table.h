/* libsodium's functions for the core's table, each behind one of the same name that the including file has written, to
 * watch, to count or to mark what goes through it. */
#ifndef TABLE_H
#define TABLE_H

#define TABLE \
  { \
    .scalarmult = scalarmult, .scalarmult_base = scalarmult_base, .hash_sha256 = sha256, .blake2b = blake2b, .sign = sign, \
    .sign_seed_keypair = sign_seed_keypair, .randombytes = random_bytes, .memzero = mem_zero, \
    .aes256gcm_is_available = crypto_aead_aes256gcm_is_available, .aes256gcm_encrypt = aes_encrypt, \
    .aes256gcm_decrypt = aes_decrypt \
  }

#endif
