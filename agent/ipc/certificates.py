"""Root certificates as station and gateway speak of them.

Charter: plain data of the port (``agent.ipc.port``), shaped like OCPP 2.0.1 block M.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.security.roots import CertificateHash


class CertificateUse(enum.StrEnum):
    """OCPP 2.0.1 InstallCertificateUseEnumType."""

    CSMS_ROOT = "CSMSRootCertificate"
    MANUFACTURER_ROOT = "ManufacturerRootCertificate"
    V2G_ROOT = "V2GRootCertificate"
    MO_ROOT = "MORootCertificate"


@dataclass(frozen=True, slots=True)
class InstalledCertificate:
    use: CertificateUse
    hash: CertificateHash


class InstallStatus(enum.StrEnum):
    """OCPP 2.0.1 InstallCertificateStatusEnumType."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    FAILED = "Failed"


class DeleteStatus(enum.StrEnum):
    """OCPP 2.0.1 DeleteCertificateStatusEnumType."""

    ACCEPTED = "Accepted"
    FAILED = "Failed"
    NOT_FOUND = "NotFound"


@dataclass(frozen=True, slots=True)
class InstallAnswer:
    """``reason`` (plain words) stands where it was not accepted."""

    status: InstallStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeleteAnswer:
    """``reason`` (plain words) stands where it was not accepted."""

    status: DeleteStatus
    reason: str = ""
