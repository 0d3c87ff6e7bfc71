"""Whose signature counts: roots, chains, revocation, and what time it is for that purpose.

Charter: judges chains of certificates against the device's own store. Not here: single certificates
(``certificates``), the signatures' mathematics (``signatures``). Times are UTC in ms since 1970.

Time. A charger may start with a clock of 1970, and lives longer than the certificates that signed its updates. If
expiry were judged by its clock, either would end its updates for ever. So:

- A signer's certificates, and those between it and the root, must have been valid when the bundle says it was built
  (``built``, which is signed). A key stolen after its certificate expired could lie about that; the answer to a stolen
  key is the revocation list.
- A root is trusted because it is in the store, not because of its dates. Taking it out, or naming it in the revocation
  list, ends that.
- "Now" is the latest of the clock, this agent's build time, and the last time that was trusted. It is used only to
  refuse a ``built`` more than a day ahead, when the clock is trusted; and, where the policy is
  ``ExpiredSigners.REFUSE``, to refuse certificates that have expired since. Too early a "now" can only let more in,
  never strand the device.

Source: firmware reference 1.3 (item 3) and 1.5; RFC 5280, 6.1. Imports ``cryptography``; import it where needed.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import Certificate

from agent.firmware.bundle import certificates
from agent.firmware.bundle.strict import shown
from agent.firmware.errors import Refusal, UpdateRefused

AHEAD_MAX_MS: Final = 24 * 3600 * 1000
"""A builder's clock may be this much ahead of ours."""
ROOTS_MAX: Final = 64
ROOTS_BYTES_MAX: Final = 256 * 1024
REVOKED_MAX: Final = 4096
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


class TrustStoreUnusable(Exception):
    """Roots or revocation list of this device are not what they should be; the text says where and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where, self.why = where, why


class ExpiredSigners(enum.StrEnum):
    """What a certificate that has expired since the bundle was built means."""

    ACCEPT = "accept-if-valid-when-built"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """``threshold``: so many different keys must have signed. ``revoked``: SHA-256 of public keys, lower-case hex."""

    roots: tuple[Certificate, ...]
    threshold: int = 1
    allow_pkcs1: bool = False
    revoked: frozenset[str] = frozenset()
    expired_signers: ExpiredSigners = ExpiredSigners.ACCEPT

    def __post_init__(self) -> None:
        if self.threshold < 1:
            raise ValueError(f"a threshold of {self.threshold} would let unsigned bundles in")


@dataclass(frozen=True, slots=True)
class JudgedTime:
    """The best lower bound of the true time; ``trusted``: it is the true time."""

    now_ms: int
    trusted: bool


def judged_time(*, clock_ms: int, clock_trusted: bool, agent_built_ms: int, last_trusted_ms: int) -> JudgedTime:
    """``clock_trusted``: somebody has set the clock (NTP, CSMS) since it ran."""
    return JudgedTime(max(clock_ms, agent_built_ms, last_trusted_ms), clock_trusted)


# --------------------------------------------------------------------------------------------- stores


def load_roots(pem: bytes) -> tuple[Certificate, ...]:
    """The trusted roots in a PEM text. Raises ``TrustStoreUnusable``."""
    if len(pem) > ROOTS_BYTES_MAX:
        raise TrustStoreUnusable("roots", f"{len(pem)} bytes, at most {ROOTS_BYTES_MAX} are allowed")
    blocks = certificates.pem_blocks(pem)
    if not 1 <= len(blocks) <= ROOTS_MAX or len(blocks) != pem.count(b"-----BEGIN CERTIFICATE-----"):
        raise TrustStoreUnusable("roots", f"{len(blocks)} whole certificates, 1 to {ROOTS_MAX} belong there")
    roots = []
    for number, block in enumerate(blocks, 1):
        try:
            root = certificates.load_pem(block, f"roots: certificate {number}")
            certificates.check_issuer(root, 0, f"roots: certificate {number} ({certificates.name_of(root)})")
        except UpdateRefused as error:
            raise TrustStoreUnusable(error.where, error.why) from error
        roots.append(root)
    return tuple(roots)


def load_revoked(text: str) -> frozenset[str]:
    """The SHA-256 of a public key (SubjectPublicKeyInfo, DER) a line: 64 hex digits, upper or lower case, perhaps with
    colons; ``#`` begins a comment. Raises ``TrustStoreUnusable`` naming the first line that is neither: a list half
    read protects half."""
    found = set()
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        digits = entry.replace(":", "").lower()
        if not entry:
            continue
        if not _FINGERPRINT.fullmatch(digits):
            raise TrustStoreUnusable(f"revoked: line {number}", f"{shown(entry)} is no SHA-256 fingerprint")
        found.add(digits)
        if len(found) > REVOKED_MAX:
            raise TrustStoreUnusable(f"revoked: line {number}", f"more than {REVOKED_MAX} fingerprints")
    return frozenset(found)


# --------------------------------------------------------------------------------------------- chains


def check_chain(chain: tuple[Certificate, ...], policy: TrustPolicy, where: str) -> Certificate:
    """The root that ``chain`` (leaf first) leads to; its dates are not judged. Raises ``UpdateRefused``:
    certificate, revoked."""
    names = [f"{where}[{index}] ({certificates.name_of(each)})" for index, each in enumerate(chain)]
    for certificate, name in zip(chain, names, strict=True):
        _check_revoked(certificate, policy, name)
    certificates.check_leaf(chain[0], names[0])
    below = 0
    for index in range(1, len(chain)):
        certificates.check_issuer(chain[index], below, names[index])
        _check_issued(chain[index - 1], chain[index], names[index - 1])
        if chain[index].subject != chain[index].issuer:  # a CA's certificate for its own new key does not count
            below += 1
    last = chain[-1]
    if len(chain) > 1 and last in policy.roots:
        return last
    return _root_of(last, below, policy, names[-1])


def _root_of(last: Certificate, below: int, policy: TrustPolicy, name: str) -> Certificate:
    refusal = certificates.refused(name, "it leads to no root that this device trusts", "sign under a trusted root")
    for root in policy.roots:
        if root.subject != last.issuer:
            continue
        try:
            _check_issued(last, root, name)
            root_name = f"root {certificates.name_of(root)}"
            certificates.check_issuer(root, below, root_name)
            _check_revoked(root, policy, root_name)
        except UpdateRefused as error:  # another root of the same name may do
            refusal = error
            continue
        return root
    raise refusal


def _check_issued(certificate: Certificate, issuer: Certificate, name: str) -> None:
    hashed = certificate.signature_hash_algorithm
    if not isinstance(hashed, _HASHES):
        raise certificates.refused(name, f"its own signature is over {hashed.name if hashed else 'no known hash'}")
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise certificates.refused(name, f"{certificates.name_of(issuer)} did not issue it") from error


def _check_revoked(certificate: Certificate, policy: TrustPolicy, name: str) -> None:
    digest = certificates.fingerprint(certificate, name)
    if digest in policy.revoked:
        raise UpdateRefused(Refusal.REVOKED, name, f"key {digest} is revoked", "sign with another key")


def check_expiry(chain: tuple[Certificate, ...], policy: TrustPolicy, at_ms: int, when: str, where: str) -> None:
    """All of ``chain`` but roots are valid at ``at_ms``, which messages call ``when``. Raises ``UpdateRefused``."""
    for index, certificate in enumerate(chain):
        if certificate in policy.roots:
            continue
        name = f"{where}[{index}] ({certificates.name_of(certificate)})"
        first_ms, last_ms = certificates.validity_ms(certificate)
        if at_ms < first_ms:
            raise certificates.refused(name, f"it is not valid before {_day(certificate, first=True)}, after {when}")
        if at_ms > last_ms:
            raise certificates.refused(name, f"it expired on {_day(certificate, first=False)}, before {when}")


def _day(certificate: Certificate, *, first: bool) -> str:
    at = certificate.not_valid_before_utc if first else certificate.not_valid_after_utc
    return at.date().isoformat()
