"""End-to-end encryption for AI inference: both ends of Atoma's confidential chat completions.

`ClientSession` seals one request and opens its answer; `NodeSession` opens a request and seals its answer, with a
SecretKey or a NodeKeyring of keys that rotate. Both turn bytes into bytes and have no sockets: `atoma_crypto.server`
is a node that speaks HTTP. `Sealer` and `Opener` are protocol v2's records alone, for a framing of one's own;
`atoma_crypto.hazmat` holds the primitives.
"""

from ._errors import (
    AtomaCryptoError,
    AttestationError,
    AuthenticationError,
    ClockSkewError,
    ConcurrentUseError,
    EnvelopeError,
    FramingError,
    InvalidKeyError,
    LimitExceededError,
    LocalProtocolError,
    MessageTooLargeError,
    NativeError,
    NonceReuseError,
    NonceReuseWarning,
    RemoteAbortError,
    RemoteProtocolError,
    ReplayedError,
    ReplayStoreError,
    SessionClosedError,
    TruncatedStreamError,
    UnknownKeyError,
)
from ._events import NEED_DATA, Chunk, EndOfStream, Limits, Request
from ._keys import PublicKey, SecretKey, SigningKey
from .client import ClientSession
from .keyring import KeyOffer, NodeKeyring
from .node import NodeSession
from .records import Opener, Sealer
from .replay import MemoryReplayCache, ReplayCache

__version__ = "0.1.0"

__all__ = [
    "NEED_DATA",
    "AtomaCryptoError",
    "AttestationError",
    "AuthenticationError",
    "Chunk",
    "ClientSession",
    "ClockSkewError",
    "ConcurrentUseError",
    "EndOfStream",
    "EnvelopeError",
    "FramingError",
    "InvalidKeyError",
    "KeyOffer",
    "LimitExceededError",
    "Limits",
    "LocalProtocolError",
    "MemoryReplayCache",
    "MessageTooLargeError",
    "NativeError",
    "NodeKeyring",
    "NodeSession",
    "NonceReuseError",
    "NonceReuseWarning",
    "Opener",
    "PublicKey",
    "RemoteAbortError",
    "RemoteProtocolError",
    "ReplayCache",
    "ReplayStoreError",
    "ReplayedError",
    "Request",
    "Sealer",
    "SecretKey",
    "SessionClosedError",
    "SigningKey",
    "TruncatedStreamError",
    "UnknownKeyError",
]
