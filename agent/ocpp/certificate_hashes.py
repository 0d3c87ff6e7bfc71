"""CertificateHashDataType, spelled the same in 1.6 (security white paper) and 2.0.1.

Charter: between a payload and ``CertificateHash``. Sources: OCPP 2.0.1 part 2, 2.6; checklist 16-SEC-09.
"""

from __future__ import annotations

from agent.ocpp.frames import Payload
from agent.security.roots import CertificateHash, HashAlgorithm


def read_hash(payload: Payload) -> CertificateHash:
    """Of a payload that conforms to its schema."""
    return CertificateHash(
        HashAlgorithm(payload["hashAlgorithm"]),
        payload["issuerNameHash"],
        payload["issuerKeyHash"],
        payload["serialNumber"],
    )


def hash_data(told: CertificateHash) -> Payload:
    return {
        "hashAlgorithm": told.algorithm.value,
        "issuerNameHash": told.issuer_name_hash,
        "issuerKeyHash": told.issuer_key_hash,
        "serialNumber": told.serial_number,
    }
