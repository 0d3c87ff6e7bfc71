"""Of roots that share a name, which one is trusted at this attempt.

Charter: pure. An authority that changes its key may keep its name. Where its certificates carry no key ids, OpenSSL
takes the first root of that name and never tries the other, so that either the old server or the new one is refused
for good. All of them together is right wherever there are key ids, and comes first; after an attempt that failed by
the certificate they take turns, one at a time, the newest first.

Source: OpenSSL X509_STORE_CTX_get1_issuer(3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def in_turn(pems: Iterable[str], turn: int) -> list[str] | None:
    """The certificates (PEM) to trust at this turn, of all in ``pems``, the oldest first; None: all of them.

    Raises ``ValueError`` where they cannot be read."""
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import InvalidVersion, load_pem_x509_certificates

    by_name: dict[str, list[Certificate]] = {}
    try:
        for each in dict.fromkeys(each for pem in pems for each in load_pem_x509_certificates(pem.encode())):
            by_name.setdefault(_name(each), []).insert(0, each)
    except InvalidVersion as error:
        raise ValueError(str(error)) from error
    most = max(map(len, by_name.values()), default=1)
    place = turn % (most + 1)
    if most == 1 or place == 0:
        return None
    chosen = (same[(place - 1) % len(same)] for same in by_name.values())
    return [each.public_bytes(Encoding.PEM).decode("ascii") for each in chosen]


def _name(certificate: Certificate) -> str:
    """As OpenSSL compares names: without regard to case, blanks and the kind of string."""
    return " ".join(certificate.subject.rfc4514_string().lower().split())
