"""Intel TDX: quotes, judged by dcap-qvl and by a policy."""

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from atoma_crypto._errors import AttestationError
from atoma_crypto.attestation._binding import bound, check_binding, check_offer, evidence_of, freshness
from atoma_crypto.attestation._guard import guarded
from atoma_crypto.attestation._tdx_policy import REGISTERS, TdxPolicy
from atoma_crypto.attestation._values import AttestedKey, Evidence
from atoma_crypto.keyring import KeyOffer

_MAX_QUOTE_BYTES: Final = 64 * 1024
_MAX_COLLATERAL_BYTES: Final = 1024 * 1024
_TEE_TYPE_TDX: Final = 0x81
_DEBUG: Final = 0x01  # TD attributes, bits 0 to 7 (TUD): a debugger may read the machine's memory


class _Found(NamedTuple):
    """What the library says of a quote that is good: the platform's state, and when the first of it all ends."""

    status: str
    advisories: tuple[str, ...]
    evaluation: int
    fmspc: bytes
    until: int


class TdxVerifier:
    """Accepts a key whose binding stands in the quote of a TDX machine that the policy accepts. Needs the extra `tdx`.

    Checked: the quote's signature, its quoting enclave's, the chains and revocation lists to Intel's root, that
    quote and collateral are of TDX and belong together, that all of it is valid at `now`, the state of the platform,
    debug off, the measurements, and that the quote was made for this offer and this challenge.

    `fetch_collateral` is asked for collateral (JSON) where the evidence has none; it is given the quote. Without it
    nothing is fetched. `root` is a root certificate (DER) to go by instead of Intel's.
    """

    wants_challenge: Final = True

    def __init__(
        self,
        policy: TdxPolicy,
        *,
        fetch_collateral: Callable[[bytes], bytes] | None = None,
        root: bytes | None = None,
    ) -> None:
        try:
            import dcap_qvl  # type: ignore[import-untyped]  # noqa: PLC0415 - of an extra, and it has no py.typed
        except ImportError as error:
            raise ImportError("TdxVerifier needs dcap-qvl: install atoma-crypto[tdx]") from error
        if not isinstance(policy, TdxPolicy):
            raise TypeError(f"policy must be TdxPolicy, not {type(policy).__name__}")
        self._library: Any = dcap_qvl
        self._policy = policy
        self._fetch = fetch_collateral
        self._root = root

    def verify(self, evidence: Evidence | None, offer: KeyOffer, *, challenge: bytes = b"", now: float) -> AttestedKey:
        """As `Verifier.verify`. The claims hold the platform's state, its advisories and the measurements, in hex."""
        ends = check_offer(offer, challenge, now)
        evidence = evidence_of(evidence, "tdx")
        if len(evidence.data) > _MAX_QUOTE_BYTES:
            raise AttestationError(f"the TDX quote is longer than {_MAX_QUOTE_BYTES} bytes")
        report = self._report(evidence.data)
        collateral = self._collateral(evidence)
        found = self._judged(evidence.data, collateral, now)
        if now >= found.until:
            raise AttestationError("the TDX collateral, or a certificate, has expired")
        self._check_state(found)
        measured, compared = self._check_machine(report)
        check_binding(report.report_data, offer, challenge)
        claims = {
            "policy": "tdx",
            "binding": bound(offer, challenge),
            "fresh": freshness(offer, challenge),
            "tcb_status": found.status,
            "advisories": list(found.advisories),
            "evaluation": found.evaluation,
            "fmspc": found.fmspc.hex(),
            "measurements": {name: value.hex() for name, value in measured.items()},
            "measurements_checked": bool(compared),
            "registers_checked": compared,
            "collateral_until": found.until,
        }
        return AttestedKey(offer.public_key, claims, min(ends, found.until))

    def _report(self, quote: bytes) -> Any:
        parsed = guarded("the TDX quote is malformed", lambda: self._library.Quote.parse(quote))
        if parsed.header.tee_type != _TEE_TYPE_TDX:
            raise AttestationError("the quote is not one of TDX")
        return parsed.report

    def _collateral(self, evidence: Evidence) -> Any:
        data = evidence.collateral
        if not data:
            fetch = self._fetch
            if fetch is None:
                raise AttestationError("the TDX evidence has no collateral, and none is fetched")
            data = guarded("the TDX collateral could not be fetched", lambda: fetch(evidence.data))
        if len(data) > _MAX_COLLATERAL_BYTES:
            raise AttestationError(f"the TDX collateral is longer than {_MAX_COLLATERAL_BYTES} bytes")
        return guarded("the TDX collateral is malformed", lambda: self._read(bytes(data)))

    def _read(self, data: bytes) -> Any:
        collateral = self._library.QuoteCollateralV3.from_json(data.decode())
        # The library takes any certificate under the root for the signer of these. The certificate of a machine is one
        # too: whoever has got at that machine's key could then sign that all is well with it.
        for chain in (collateral.tcb_info_issuer_chain, collateral.qe_identity_issuer_chain):
            try:
                self._library.parse_pck_extension_from_pem(chain.encode())
            except ValueError:
                continue  # it is no machine's
            raise AttestationError("the TDX collateral is signed by the certificate of a machine")
        return collateral

    def _judged(self, quote: bytes, collateral: Any, now: float) -> _Found:
        """What the library has found, all signatures, chains, lists and dates being good."""

        def judge() -> _Found:
            policy = self._library.QuotePolicy.claims_only(int(now))  # ours is below
            verifier = self._library.QuoteVerifier(self._root)
            found = json.loads(verifier.verify_with_policy(quote, collateral, int(now), policy).to_json())
            if found["claims_version"] != 1 or found["tee_type"] != _TEE_TYPE_TDX:
                raise ValueError("claims of another kind")
            tcb = found["tcb"]
            return _Found(
                str(tcb["status"]),
                tuple(tcb["advisory_ids"]),
                int(tcb["eval_data_number"]),
                bytes(found["platform"]["pck"]["fmspc"]),
                min(found["earliest_expiration_date"], found["qe_iden_earliest_expiration_date"]),
            )

        return guarded("the TDX quote does not verify", judge)

    def _check_state(self, found: _Found) -> None:
        policy = self._policy
        if found.status not in policy.statuses:
            raise AttestationError(f"the TDX platform's status is {found.status}, which the policy does not accept")
        if unaccepted := sorted(set(found.advisories) - set(policy.advisories)):
            raise AttestationError(f"advisories that the policy does not accept: {', '.join(unaccepted)}")
        if found.evaluation < policy.min_evaluation:
            raise AttestationError(f"the TDX collateral is of evaluation {found.evaluation}: too old")

    def _check_machine(self, report: Any) -> tuple[dict[str, bytes], list[str]]:
        """The registers, and the names of those that the policy has a value for."""
        if report.td_attributes[0] & _DEBUG:
            raise AttestationError("the TDX machine is in debug mode")
        measured = {name: bytes(getattr(report, name)) for name in REGISTERS}
        accepted = [one.registers() for one in self._policy.measurements]
        if not accepted:
            return measured, []
        for one in accepted:
            if one.items() <= measured.items():
                return measured, list(one)
        raise AttestationError(f"the measurements are none that the policy accepts; mr_td is {measured['mr_td'].hex()}")
