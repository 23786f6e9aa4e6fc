"""One confidential request over HTTP, without the HTTP: what to send, and what an answer is in clear."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from contextlib import suppress
from typing import Final

import atoma_crypto as ac
from atoma_crypto._envelope import load_object
from atoma_crypto._typing import Buffer, Protocol
from atoma_crypto.adapters._asked import model_json, model_of, read_body, stream_of
from atoma_crypto.adapters._lock import Lock
from atoma_crypto.adapters._progress import Progress, count_choices
from atoma_crypto.adapters._replies import is_refusal, is_sealed, refusal_code, write_event
from atoma_crypto.adapters._routes import BY_PLAINTEXT, DEFAULT_TOKENS, Endpoint, compute_units
from atoma_crypto.adapters._terms import Origin, Terms
from atoma_crypto.attestation import AttestedKey

DONE: Final = b"data: [DONE]\n\n"
_MAX_UNITS: Final[dict[Protocol, int]] = {"v1": 2**64 - 1, "v2": 2**53 - 1}
TURN_PAUSE: Final = 0.05
"""Seconds after which to ask `Exchange.may_ask` again."""


class Exchange:
    """One request for one of OpenAI's endpoints, and its answer.

    In order, once `may_ask()`: post `lock_body()` to the lock's path; `take_lock()` of the reply; if `needs_challenge`,
    the same once more, unless it does so no longer when `may_ask()`; post `seal()` with `headers` to the endpoint's
    confidential path; then `open()` of the whole answer, or for a stream `receive()` of each piece and `end()`. Where
    the node says that the lock is gone, begin again with a new lock: key, salt and nonce are then new.

    In protocol v2 an error may be sealed too, and what the HTTP says around it does not count: `has_events()` tells a
    stream, and anything else goes through `answer()`. Where that finds a refusal in clear, `knows_not_key()` says
    whether to begin again with a new lock, and after `take_lock()` `offers_same_key` whether not to.

    `body` is the plaintext JSON object, at most `limits.max_request_bytes`; its `model` is a string, its `stream` a
    boolean, null or absent. LocalProtocolError if not, before anything is sealed.
    """

    __slots__ = (
        *(
            "_challenge",
            "_choices",
            "_fault",
            "_model_json",
            "_offer",
            "_progress",
            "_refused_key",
            "_sealable",
            "_session",
            "_terms",
        ),
        *("_turn", "_verdict", "_whole"),
        *("body", "endpoint", "lock", "model", "num_compute_units", "stream"),
    )

    def __init__(self, endpoint: Endpoint | str, body: bytes, terms: Terms) -> None:
        self.endpoint: Final = endpoint if isinstance(endpoint, Endpoint) else BY_PLAINTEXT[endpoint]
        if len(body) > terms.limits.max_request_bytes:
            raise ac.LocalProtocolError(f"the body is longer than {terms.limits.max_request_bytes} bytes")
        asked = read_body(body)
        self.model: Final = model_of(asked)
        self.stream: Final = stream_of(self.endpoint, asked)
        self.num_compute_units: Final = compute_units(self.endpoint, asked)
        if (self.num_compute_units or 0) > _MAX_UNITS[terms.protocol]:
            raise ac.LocalProtocolError("the body asks for more tokens or pixels than can be counted")
        self._model_json = model_json(self.model, terms.protocol)
        self.body = body
        self._terms = terms
        self.lock: Lock | None = None
        self._challenge = b""
        self._turn: object = None
        self._offer: ac.KeyOffer | None = None
        self._verdict: AttestedKey | None = None
        self._refused_key: ac.PublicKey | None = None
        self._sealable = False
        self._session: ac.ClientSession | None = None
        self._choices = count_choices(asked)
        self._progress = Progress(self._choices)
        self._fault: Exception | None = None
        self._whole = False

    @property
    def _will_challenge(self) -> bool:
        """Whether the next lock is to be asked for with a challenge."""
        trust = self._terms.trust
        return trust is not None and trust.wants_challenge and (self.needs_challenge or trust.knows_none)

    def may_ask(self) -> bool:
        """Whether to ask for a lock now: False while enough exchanges wait for an answer to a challenge of theirs."""
        if self._turn is None and self._will_challenge and self._terms.trust is not None:
            self._turn = self._terms.trust.begin()
            return self._turn is not None
        return True

    def lock_body(self) -> bytes:
        """The JSON that asks for a lock; it names a size where the size of one that names none is too small.

        It has a new challenge where no key is known, or the last lock's was not, if the policy wants one: making
        evidence takes a node long, and for a key that was verified it need not.
        """
        units, trust = self.num_compute_units or 0, self._terms.trust
        more = b',"max_num_tokens":%d' % units if units > DEFAULT_TOKENS else b""
        self._challenge = trust.new_challenge() if trust is not None and self._will_challenge else b""
        if self._challenge:
            more += b',"challenge":"%b"' % urlsafe_b64encode(self._challenge).rstrip(b"=")
        return b'{"model":' + self._model_json + more + b"}"

    def take_lock(self, raw: bytes) -> None:
        """Read the lock reply. MessageTooLargeError, EnvelopeError (also: no key of an accepted suite)."""
        self._wipe()
        self._sealable, self._verdict = False, None
        terms = self._terms
        lock = Lock.read(raw, terms.protocol)
        if terms.trust is None or terms.protocol == "v1":
            [self._offer] = lock.offers
        else:
            self._offer = terms.trust.choose(lock.offers)
        self.lock, self._sealable = lock, True

    @property
    def needs_challenge(self) -> bool:
        """Whether the lock that was taken names a key to be verified, and was asked for without a challenge.

        Then nothing can be sealed, unless another exchange verifies the key: take another lock, which will have been.
        """
        trust = self._terms.trust
        return trust is not None and trust.wants_challenge and not (self._challenge or self.knows_key)

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the sealed request beside what every request has: routers need it on a stack just bought."""
        if self.lock is None:
            raise ac.LocalProtocolError("no lock was taken yet")
        headers = {}
        if self.lock.stack_small_id is not None:
            headers["X-Stack-Small-Id"] = str(self.lock.stack_small_id)
        if self.lock.stack_entry_digest is not None:
            headers["X-Tx-Digest"] = self.lock.stack_entry_digest
        return headers

    @property
    def knows_key(self) -> bool:
        """Whether `seal()` has no policy to ask, which may take its time."""
        trust = self._terms.trust
        return trust is None or self._offer is None or trust.knows(self._offer)

    def seal(self) -> bytes:
        """The sealed request; the policy, if there is one, is asked first. AttestationError: it accepts not the key.

        AuthenticationError: the key of the lock reply gives an all-zero shared secret.
        """
        lock, offer, terms = self.lock, self._offer, self._terms
        if not self._sealable or lock is None or offer is None:
            raise ac.LocalProtocolError("no lock was taken, or the exchange is over")
        self._sealable = False
        if terms.trust is not None:
            try:
                self._verdict = terms.trust.accept(offer, self._challenge)
            finally:
                self._end_turn()
        session = ac.ClientSession(
            offer.public_key,
            model=self.model,
            stack_small_id=lock.stack_small_id,
            protocol=terms.protocol,
            endpoint=self.endpoint.plaintext,
            nonce_reuse=terms.nonce_reuse,
            pad_to=terms.pad_to,
            limits=terms.limits,
        )
        self._session, self._progress, self._fault, self._whole = session, Progress(self._choices), None, False
        with suppress(ac.InvalidKeyError):
            return session.seal_request(self.body, stream=self.stream, num_compute_units=self.num_compute_units)
        self.close()
        raise ac.AuthenticationError

    @property
    def origin(self) -> Origin:
        """What is known of who answers: of an answer or an error that was opened."""
        offer, verdict, protocol = self._offer, self._verdict, self._terms.protocol
        if offer is None or verdict is None:
            return Origin(True, protocol, None if offer is None else offer.public_key)
        ends = verdict.expires_at if offer.not_after is None else min(offer.not_after, verdict.expires_at)
        return Origin(True, protocol, offer.public_key, verdict.claims, ends)

    # ---- an answer that is no stream, and errors ----

    def has_events(self, status: int, content_type: str) -> bool:
        """Whether an answer is to be read with `receive()` and `end()`.

        In v2 that is what a stream's content type says: an error is one object, and the status is not looked at. In v1
        a stream has status 200 and no other type: FramingError. EnvelopeError: see `is_refusal`.
        """
        refused = is_refusal(status, self._terms.protocol)
        if not self.stream or (refused and self._terms.protocol == "v1"):
            return False
        if content_type.partition(";")[0].strip().lower() == "text/event-stream":
            return True
        if self._terms.protocol == "v1":
            raise ac.FramingError("the answer is not an event stream")
        return False

    def answer(self, status: int, raw: bytes) -> bytes | None:
        """As `open()`, or None: a refusal in clear, which nobody vouches for; with the status 200 that is an error."""
        if is_refusal(status, self._terms.protocol) and not (self._terms.protocol == "v2" and is_sealed(raw)):
            self.close()
            return None
        return self.open(raw)

    def open(self, raw: Buffer) -> bytes:
        """The plaintext of a whole answer, verified; the exchange is over. Errors of `ClientSession.open_response`.

        RemoteAbortError: a sealed error, also in place of a stream.
        """
        try:
            return self._open_session().open_response(raw)
        finally:
            self.close()

    @property
    def heeds_refusals(self) -> bool:
        """Whether what refuses the sealed request in clear may be a reason to seal it again.

        In v2 nobody vouches for it, and the node may have worked on the request: callers can switch that off.
        """
        return self._terms.protocol == "v1" or self._terms.retry_unknown_key

    def knows_not_key(self, status: int, raw: bytes) -> bool:
        """Whether a refusal in clear says that the key is unknown, so that the request may be sealed again, once.

        Then take another lock, and do so unless `offers_same_key`.
        """
        if self._terms.protocol == "v1" or not self.heeds_refusals or self._refused_key is not None or status != 422:
            return False
        if refusal_code(raw) != "KEY_UNKNOWN" or self._offer is None:
            return False
        self._refused_key = self._offer.public_key
        return True

    @property
    def offers_same_key(self) -> bool:
        """Whether the lock that was taken still offers the key that a node said it does not know."""
        return self.lock is not None and any(offer.public_key == self._refused_key for offer in self.lock.offers)

    # ---- a stream ----

    def receive(self, data: Buffer) -> bytes:
        """The events of a stream that `data` completes, in clear: `data: {...}` and a blank line each, perhaps none.

        In protocol v2 `data: [DONE]` follows the last. Errors of `ClientSession.next_event`, in v2 RemoteAbortError
        among them; FramingError: an event that is no JSON object. What came before the fault is given first: the next
        call raises it then. After an error the exchange is closed.
        """
        if self._fault is None:
            self._take(data)
        return self._events()

    def _take(self, data: Buffer | None) -> None:
        """None: the bytes have ended. What came behind v2's end is refused here."""
        session = self._open_session()
        try:
            if data is None:
                session.receive_eof()
            else:
                session.receive_data(data)
        except BaseException:
            self.close()
            raise

    def end(self) -> bytes:
        """The stream's bytes have ended: in v1 `data: [DONE]` if the answer is whole; the exchange is over.

        TruncatedStreamError: it is not. Protocol v2 has an end of its own. v1 has none, so that is judged by the
        answer: each of its choices must have had a `finish_reason`, and there must be one, or `usage`.
        """
        if self._fault is None:
            self._take(None)
        rest = self._events()
        self.close()
        if self._terms.protocol == "v2":
            return rest
        if not self._progress.complete:
            raise ac.TruncatedStreamError("the stream ended before the answer did")
        return rest + DONE

    def _events(self) -> bytes:
        fault, self._fault = self._fault, None
        if fault is not None:
            self.close()
            raise fault
        out: list[bytes] = []
        try:
            for event in self._open_session().events():
                if isinstance(event, ac.Chunk):
                    told = load_object(event.plaintext, "an event's plaintext", ac.FramingError)
                    if self._terms.protocol == "v1":
                        self._progress.see(told)
                    out.append(write_event(event.plaintext))
                elif self._terms.protocol == "v2" and not self._whole:
                    self._whole = True
                    out.append(DONE)
        except Exception as exc:
            if not out:
                self.close()
                raise
            self._fault = exc
        return b"".join(out)

    @property
    def faulty(self) -> bool:
        """Whether `receive` will raise: what came before the fault was given."""
        return self._fault is not None

    @property
    def whole(self) -> bool:
        """Whether the stream has said that it is whole (v2 alone): how its connection ends does not matter then."""
        return self._whole

    def close(self) -> None:
        """Wipe the session's secrets. Harmless when done twice."""
        self._end_turn()
        self._wipe()

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and self._terms.trust is not None:
            self._terms.trust.end(turn)

    def _wipe(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(ac.ConcurrentUseError):  # whoever is inside closes it
                session.close()

    def _open_session(self) -> ac.ClientSession:
        if self._session is None:
            raise ac.LocalProtocolError("nothing was sealed, or the exchange is over")
        return self._session

    def __repr__(self) -> str:
        return f"<Exchange {self.endpoint.plaintext}>"
