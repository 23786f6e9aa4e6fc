"""What the built-in model knows of this library: short answers, each of which is true."""

from atoma_crypto.server.eliza_script import Rule, rule

TOPICS: tuple[Rule, ...] = (
    rule(
        70,
        r"(?:routers?|prox(?:y|ies)|middle ?man|man in the middle)\b",
        "The router carries us without reading us. It sees the model's name, the stack's number, lengths, "
        "token counts and, in version 1, a hash of each message. The words themselves are sealed.",
        "It forwards, it counts, it bills. It could also drop or reorder pieces of an answer: in version 1 "
        "nobody would tell you, in version 2 the next piece does.",
        "Treat the router as a postman who knows the weight of every letter and the language of none.",
    ),
    rule(
        69,
        r"(?:tees?|enclaves?|attest\w*|trusted execution|tdx|sev)\b",
        "A TEE is a part of a processor that keeps its memory from the machine's own operator. It is where "
        "a node's secret key belongs; attestation is how a client learns that the key really is there.",
        "Version 1 of the protocol hands you a node's key without evidence. Compare its fingerprint with "
        "one that you trust, or the best enclave of the world proves nothing to you.",
    ),
    rule(
        68,
        r"(?:nonces?|initiali[sz]ation vectors?)\b",
        "A nonce is a number used once. Under one AES-GCM key two messages with the same nonce betray each "
        "other, so a session draws and counts its nonces in C and takes none from its caller.",
        "Twelve bytes, and within a stream never the same twelve twice. Our node starts each stream at a "
        "random place and counts from there.",
    ),
    rule(
        67,
        r"(?:quantum|post-quantum|ml-kem|x-wing)\b",
        "Version 1 stands on X25519 alone, and a large quantum computer would undo that, even for what is "
        "recorded today. Version 2 has a suite called X-Wing, which adds ML-KEM to it.",
    ),
    rule(
        66,
        r"(?:forward secrecy|steal\w* (?:the |your |a )?keys?|stolen keys?|leaked keys?|key leaks?)\b",
        "Your side's key lives for one request and is wiped. The node's key lives longer: whoever steals "
        "it can read what was recorded while it was in use. So keep it well, and rotate it.",
    ),
    rule(
        65,
        r"(?:keys?|x25519|diffie|hkdf|fingerprints?)\b",
        "Each request makes a fresh X25519 key pair. Its secret half and the node's public key give a "
        "shared secret, HKDF-SHA256 turns that into an AES key, and the key never leaves the C core.",
        "Two keys meet: yours, made for one request, and the node's, which the lock hands you. If you can, "
        "compare the node's fingerprint with one from a second source.",
    ),
    rule(
        64,
        r"(?:hash\w*|blake2b?)\b",
        "Version 1 sends a BLAKE2b hash of every plaintext in clear. It reveals no text, but whoever "
        "guesses the whole text can confirm the guess. It is an honest flaw, and version 2 drops it.",
    ),
    rule(
        63,
        r"(?:metadata|lengths?|usage|billing|billed|token counts?|in clear)\b",
        "Lengths, timing, the model's name and token counts travel in clear: somebody has to bill them. An "
        "observer can learn a good deal from how long an answer is, so do not call that nothing.",
    ),
    rule(
        62,
        r"(?:replay\w*|reorder\w*|truncat\w*|duplicat\w*)\b",
        "Each piece of an answer is authentic by itself in version 1, but nothing binds their order or "
        "their end. An adapter can still notice that the finish reason never came.",
        "Version 2 counts the pieces of an answer and seals its end, and a node of it answers each request "
        "once, however often it comes.",
    ),
    rule(
        61,
        r"(?:signatures?|ed25519|sui)\b",
        "A node may sign the hash of each reply with Ed25519, in the form that Sui wallets use. It says "
        "who answered; the sealing is what keeps others out.",
    ),
    rule(
        60,
        r"(?:encrypt\w*|decrypt\w*|cipher\w*|aes|gcm|crypto\w*|seal(?:ed|ing|s)?|end[- ]to[- ]end)\b",
        "Your words are sealed with AES-256-GCM before they leave your process and opened again inside "
        "mine. Between the two they are noise with a length.",
        "X25519 to agree on a secret, HKDF to make a key of it, AES-256-GCM to seal, and a tag that turns "
        "any change into an error. Nothing here was invented for the occasion.",
    ),
    rule(
        59,
        r"(?:privacy|private|confidential\w*|secrets?|eavesdrop\w*|spy\w*|spies|snoop\w*|surveil\w*"
        r"|(?:someone|somebody|anyone|anybody|who)(?: \w+){0,3} "
        r"(?:reads?|reading|listens?|listening|watch\w*|sees?|hears?|overhears?))\b",
        "Only the two ends can read this: your process and mine. What stands between sees how much we say "
        "and when, not what.",
        "You may speak freely as far as the wire goes. What I do with your words inside the node is a "
        "matter of trust, not of encryption; I happen to forget them as I answer.",
        "The carrier learns the length of your sentence. The sentence stays here.",
    ),
    rule(
        58,
        r"(?:atoma|this library|sdk|sans-?io|this demo|this program)\b",
        "This library holds both ends of a confidential chat: a client that seals the question and a node "
        "that seals the answer. It turns bytes into bytes, and leaves sockets to others.",
        "A core in C with a thin Python skin. You give it plaintext, it hands you envelopes; the network "
        "in between is your choice.",
    ),
)
