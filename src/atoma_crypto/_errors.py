"""What can go wrong, told by type: whose fault it is decides the class (RFC 9110 status codes for servers, below)."""

from typing import Final


class AtomaCryptoError(Exception):
    """The root of this library's errors; never raised itself."""


class LocalProtocolError(AtomaCryptoError):
    """You called out of order, or asked for something that this session cannot do: fix your code."""


class SessionClosedError(LocalProtocolError):
    """The session or key was closed, and its secrets are gone."""


class ConcurrentUseError(LocalProtocolError):
    """Another thread was inside the same session; this call has changed nothing."""


class RemoteProtocolError(AtomaCryptoError):
    """The peer, or whoever stands between, is wrong. The session has failed for good."""


class EnvelopeError(RemoteProtocolError):
    """A request or a reply is malformed: its JSON, a member, a length, or its two `stream`s are not equal."""


class FramingError(RemoteProtocolError):
    """An event stream is malformed: not UTF-8, not JSON, a member missing, of the wrong type or length."""


class MessageTooLargeError(RemoteProtocolError):
    """Longer than one of the session's `Limits`."""


class AuthenticationError(RemoteProtocolError):
    """Something cryptographic does not hold. What it was is not said: one message for all of it."""

    def __init__(self) -> None:
        super().__init__("the message could not be authenticated")

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()  # its message is not an argument


class TruncatedStreamError(RemoteProtocolError):
    """The bytes ended inside an event."""


class NonceReuseError(RemoteProtocolError):
    """A nonce was used twice and that was to be refused, or the request's own nonce came back (reflection)."""


class RemoteAbortError(RemoteProtocolError):
    """The node has sealed an error instead of an answer, or of its rest: it is authentic (protocol v2).

    `code` and `message` are the node's words, and `status` is the HTTP status that it would have given, 400 to 599.
    """

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"the node has aborted: {self.code} ({self.status})"

    def __repr__(self) -> str:  # `message` was sealed, and may speak of the prompt
        return f"{type(self).__name__}({self.code!r}, <{len(self.message)} characters>, {self.status})"


class UnknownKeyError(RemoteProtocolError):
    """A request names a key that this node does not hold, or no longer (protocol v2)."""


class ClockSkewError(RemoteProtocolError):
    """A request was sent too long ago, or will be sent only later, by this node's clock (protocol v2)."""


class ReplayedError(RemoteProtocolError):
    """The same request was admitted before (protocol v2)."""


class AttestationError(RemoteProtocolError):
    """A key, or the evidence for it, does not satisfy the policy. The message says which check has failed."""


class ReplayStoreError(AtomaCryptoError):
    """The replay store is full or gone, or may have lost what it knew: nothing was admitted (protocol v2)."""


class InvalidKeyError(AtomaCryptoError, ValueError):
    """A key that you passed is of the wrong length or gives an all-zero shared secret."""


class LimitExceededError(AtomaCryptoError):
    """A counter of ours is spent, before it could wrap: use a new session."""


class NativeError(AtomaCryptoError):
    """The C core reported what it never should: please report it."""


class NonceReuseWarning(UserWarning):
    """The node sealed two events of a stream under one nonce, as deployed nodes do.

    AES-GCM then keeps neither of them secret nor authentic. Given once a session; `nonce_reuse="error"` refuses such
    a stream.
    """


# What a server answers when opening a request fails. The first class that fits counts; anything else is a 500.
_HTTP: Final[tuple[tuple[type[AtomaCryptoError], int, str], ...]] = (
    (MessageTooLargeError, 413, "TOO_LARGE"),
    (AuthenticationError, 400, "DECRYPTION_FAILED"),
    (NonceReuseError, 400, "DECRYPTION_FAILED"),
    (UnknownKeyError, 422, "KEY_UNKNOWN"),
    (ClockSkewError, 400, "CLOCK_SKEW"),
    (ReplayedError, 409, "REPLAYED"),
    (ReplayStoreError, 503, "REPLAY_STORE_UNAVAILABLE"),
    (RemoteProtocolError, 400, "INVALID_BODY"),
)


def http_error(error: BaseException) -> tuple[int, str, str]:
    """HTTP status, error code and message for an error of `NodeSession.open_request`.

    The message never holds a secret or a plaintext: the library's own hold none, and all else gets a fixed one.
    """
    for cls, status, code in _HTTP:
        if isinstance(error, cls):
            return status, code, str(error)
    return 500, "INTERNAL_ERROR", "Internal server error occurred"
