"""What the peers need for 300 bytes, and for their set-up, each in the way in which its own users call it.

Prints JSON: peer: operation: ns. What was sealed must open to the same before anything is timed. "seal 300" and
"open 300" are one message with keys that are kept, if the peer can keep any; "set-up" is all that a client does, from
the node's public key on, until a request of 300 bytes is sealed. What some of them still compute once the answer
begins (its keys; in Noise an exchange) is not counted. None of them reads or writes JSON; atoma-crypto does.
"""

import os
from collections.abc import Iterator
from importlib.metadata import version
from itertools import count

import ehbp
import hpke_http.protocol as hh
import nacl.bindings
import nacl.secret
import pyhpke
import tink
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from noise.connection import Keypair, NoiseConnection
from timing import TEXT, measure, report
from tink import aead, hybrid

Operations = dict[str, float]


def hpke_suite() -> pyhpke.CipherSuite:
    return pyhpke.CipherSuite.new(
        pyhpke.KEMId.DHKEM_X25519_HKDF_SHA256, pyhpke.KDFId.HKDF_SHA256, pyhpke.AEADId.AES256_GCM
    )


def cryptography_hpke() -> Operations:
    """A key a message: it has no context to keep. So to seal a message is to set up."""
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    secret = X25519PrivateKey.generate()
    public = secret.public_key()
    sealed = suite.encrypt(TEXT, public)
    assert suite.decrypt(sealed, secret) == TEXT
    seal = measure(lambda: suite.encrypt(TEXT, public))
    return {"seal 300": seal, "open 300": measure(lambda: suite.decrypt(sealed, secret)), "set-up": seal}


def pynacl_aes() -> Operations:
    """Takes the nonce from its caller: a counter is the cheapest that never repeats."""
    key, numbers = os.urandom(32), count()
    seal, open_ = nacl.bindings.crypto_aead_aes256gcm_encrypt, nacl.bindings.crypto_aead_aes256gcm_decrypt
    nonce = next(numbers).to_bytes(12, "little")
    sealed = seal(TEXT, None, nonce, key)
    assert open_(sealed, None, nonce, key) == TEXT
    return {
        "seal 300": measure(lambda: seal(TEXT, None, next(numbers).to_bytes(12, "little"), key)),
        "open 300": measure(lambda: open_(sealed, None, nonce, key)),
    }


def pynacl_box() -> Operations:
    """XSalsa20-Poly1305; draws its nonce itself and sends it along."""
    box = nacl.secret.SecretBox(os.urandom(32))
    sealed = bytes(box.encrypt(TEXT))
    assert box.decrypt(sealed) == TEXT
    return {"seal 300": measure(lambda: box.encrypt(TEXT)), "open 300": measure(lambda: box.decrypt(sealed))}


def tinfoil() -> Operations:
    """The client's side is what its transports call; a node's is what the package gives to write one with."""
    secret = X25519PrivateKey.generate()
    identity = ehbp.ServerIdentity.from_public_key_bytes(secret.public_key().public_bytes_raw())
    request = identity.encrypt_request_body(TEXT)

    suite = hpke_suite()
    private = suite.kem.deserialize_private_key(secret.private_bytes_raw())
    node = suite.create_recipient_context(request.encapsulated_key, private, info=ehbp.protocol.HPKE_REQUEST_INFO)
    assert node.open(request.body[ehbp.protocol.LENGTH_PREFIX_SIZE :]) == TEXT

    nonce, numbers = os.urandom(32), count()
    exported = node.export(ehbp.protocol.EXPORT_LABEL, ehbp.protocol.EXPORT_LENGTH)
    keys = ehbp.derive_response_keys(exported, request.encapsulated_key, nonce)
    decryptor = request.token.create_response_decryptor(nonce)

    def seal() -> bytes:
        return bytes(ehbp.frame_chunk(ehbp.encrypt_chunk(keys, next(numbers), TEXT)))

    def frames(how_many: int) -> Iterator[bytes]:
        return (seal() for _ in range(how_many))

    assert [decryptor.push(frame) for frame in frames(3)] == [[TEXT]] * 3
    opened = measure(decryptor.push, frames)  # in their order, so before others are sealed
    return {
        "seal 300": measure(seal),
        "open 300": opened,
        "set-up": measure(lambda: identity.encrypt_request_body(TEXT)),
    }


def hpke_over_http() -> Operations:
    """Its own calls for a request that is in memory, and for a stream of events, without the threads of its adapters.

    A message is an event of a stream, with its "data: " and the empty line. It is compressed before it is sealed, and
    nothing turns that off. A client is kept for one node and one credential, as the adapters keep it.
    """
    pair, psk = hh.generate_key_pair(), os.urandom(32)
    client, server = hh.Client(pair.public_key, b"key", psk, b"tenant"), hh.Server(pair.private_key, b"key")
    headers = (hh.Header("content-type", "application/json"),)
    request = hh.Request(hh.Method.POST, "node.example", "/v1/chat/completions", headers, TEXT)

    protected = client.protect(request)
    admitted = server.preparse(protected.envelope).authenticate(psk).admit(accepted=True)
    assert admitted.request == request

    sealer, start = admitted.into_sealer(200, (hh.Header("content-type", "text/event-stream"),))
    opener = protected.into_opener()
    used, record = opener.feed(start)
    assert (used, record.kind, record.mode) == (len(start), "start", "sse")

    block = b"data: " + TEXT + b"\n\n"

    def records(how_many: int) -> Iterator[bytes]:
        return (sealer.seal_sse_block(block) for _ in range(how_many))

    for sealed in records(3):
        used, record = opener.feed(sealed)
        assert (used, record.kind, record.block) == (len(sealed), "data", block)
    opened = measure(opener.feed, records)  # in their order, so before others are sealed
    return {
        "seal 300": measure(lambda: sealer.seal_sse_block(block)),
        "open 300": opened,
        "set-up": measure(lambda: client.protect(request)),
    }


def tink_aead() -> Operations:
    """Draws its nonce itself and sends it along."""
    aead.register()
    primitive = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)
    sealed = primitive.encrypt(TEXT, b"")
    assert primitive.decrypt(sealed, b"") == TEXT
    return {
        "seal 300": measure(lambda: primitive.encrypt(TEXT, b"")),
        "open 300": measure(lambda: primitive.decrypt(sealed, b"")),
    }


def tink_hybrid() -> Operations:
    """A key a message, as in `cryptography`. So to seal a message is to set up."""
    hybrid.register()
    template = hybrid.hybrid_key_templates.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM
    private = tink.new_keyset_handle(template)
    sender = private.public_keyset_handle().primitive(hybrid.HybridEncrypt)
    recipient = private.primitive(hybrid.HybridDecrypt)
    sealed = sender.encrypt(TEXT, b"")
    assert recipient.decrypt(sealed, b"") == TEXT
    seal = measure(lambda: sender.encrypt(TEXT, b""))
    return {"seal 300": seal, "open 300": measure(lambda: recipient.decrypt(sealed, b"")), "set-up": seal}


def py_hpke() -> Operations:
    """A context a direction, and many messages with it."""
    suite = hpke_suite()
    pair = suite.kem.derive_key_pair(os.urandom(32))
    encapsulated, sender = suite.create_sender_context(pair.public_key)
    recipient = suite.create_recipient_context(encapsulated, pair.private_key)

    def sealed(how_many: int) -> Iterator[bytes]:
        return (sender.seal(TEXT) for _ in range(how_many))

    def set_up() -> tuple[bytes, bytes]:
        encapsulated, sender = suite.create_sender_context(pair.public_key)
        return encapsulated, sender.seal(TEXT)

    encapsulated, request = set_up()
    assert suite.create_recipient_context(encapsulated, pair.private_key).open(request) == TEXT
    assert [recipient.open(message) for message in sealed(3)] == [TEXT] * 3
    opened = measure(recipient.open, sealed)  # in their order, so before others are sealed
    return {"seal 300": measure(lambda: sender.seal(TEXT)), "open 300": opened, "set-up": measure(set_up)}


def noise() -> Operations:
    """NK: the client knows the node's key, as with us, and its request is the first message's payload."""
    secret = X25519PrivateKey.generate()
    public = secret.public_key().public_bytes_raw()

    def set_up() -> tuple[NoiseConnection, bytes]:
        client = NoiseConnection.from_name(b"Noise_NK_25519_AESGCM_SHA256")
        client.set_as_initiator()
        client.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, public)
        client.start_handshake()
        return client, client.write_message(TEXT)

    node = NoiseConnection.from_name(b"Noise_NK_25519_AESGCM_SHA256")
    node.set_as_responder()
    node.set_keypair_from_private_bytes(Keypair.STATIC, secret.private_bytes_raw())
    node.start_handshake()
    client, request = set_up()
    assert node.read_message(request) == TEXT
    client.read_message(node.write_message())

    def sealed(how_many: int) -> Iterator[bytes]:
        return (node.encrypt(TEXT) for _ in range(how_many))

    assert [client.decrypt(message) for message in sealed(3)] == [TEXT] * 3
    opened = measure(client.decrypt, sealed)  # in their order, so before others are sealed
    return {"seal 300": measure(lambda: node.encrypt(TEXT)), "open 300": opened, "set-up": measure(set_up)}


if __name__ == "__main__":
    report(
        {
            f"cryptography {version('cryptography')}, hpke": cryptography_hpke(),
            f"PyNaCl {version('pynacl')}, aes256gcm": pynacl_aes(),
            f"PyNaCl {version('pynacl')}, SecretBox": pynacl_box(),
            f"tinfoil-ehbp {version('tinfoil-ehbp')}": tinfoil(),
            f"hpke-http {version('hpke-http')}": hpke_over_http(),
            f"tink {version('tink')}, AEAD": tink_aead(),
            f"tink {version('tink')}, hybrid": tink_hybrid(),
            f"pyhpke {version('pyhpke')}": py_hpke(),
            f"noiseprotocol {version('noiseprotocol')}, NK": noise(),
        }
    )
