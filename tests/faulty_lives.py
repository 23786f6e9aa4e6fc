"""A life of each class that has a close(), on each kind of its objects (faulty_life.py)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from faulty_life import Life
from faulty_lives_keys import MemoryReplayCache, NodeKeyring, SecretKey, SigningKey
from faulty_lives_primitives import Aes, HpkeRecipient, HpkeSender, Opener, Sealer
from faulty_lives_sessions import ClientSession, NodeSession

LIVES: Final[Sequence[tuple[str, Callable[[], Life]]]] = (
    *(
        (f"{life.__name__} {protocol} {'stream' if stream else 'whole'}", partial(life, protocol, stream=stream))
        for life in (NodeSession, ClientSession)
        for protocol in ("v1", "v2")
        for stream in (True, False)
    ),
    ("NodeKeyring", NodeKeyring),
    ("SecretKey X25519", lambda: SecretKey("X25519")),
    ("SecretKey X-Wing", lambda: SecretKey("X-Wing")),
    ("SigningKey", SigningKey),
    ("MemoryReplayCache", MemoryReplayCache),
    ("Sealer", Sealer),
    ("Opener", Opener),
    ("AES256GCM", Aes),
    ("HPKEContext sender", HpkeSender),
    ("HPKEContext recipient", HpkeRecipient),
)
