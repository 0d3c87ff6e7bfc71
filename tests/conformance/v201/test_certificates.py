"""M03, M04, M05: root certificates. TC_M_01 to 09, 12 to 23, as far as roots of the CSMS go."""

from __future__ import annotations

from typing import Any

import pytest

from agent.ipc.certificates import (
    CertificateUse,
    DeleteAnswer,
    DeleteStatus,
    InstallAnswer,
    InstalledCertificate,
    InstallStatus,
)
from agent.security.roots import CertificateHash, HashAlgorithm
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig

HASH = CertificateHash(HashAlgorithm.SHA256, "aa", "bb", "42")
DATA = {"hashAlgorithm": "SHA256", "issuerNameHash": "aa", "issuerKeyHash": "bb", "serialNumber": "42"}
ROWS = [
    InstalledCertificate(CertificateUse.CSMS_ROOT, HASH),
    InstalledCertificate(CertificateUse.MANUFACTURER_ROOT, HASH),
]


def ask(action: str, payload: dict[str, Any], rig: Rig) -> Any:
    async def main() -> Any:
        async with rig.registered():
            return await rig.csms.ask(action, payload)

    return run_virtual(main())


def test_m05_a_root_is_handed_to_the_station() -> None:
    rig = Rig()
    payload = {"certificateType": "CSMSRootCertificate", "certificate": "PEM"}
    assert ask("InstallCertificate", payload, rig) == {"status": "Accepted"}
    assert rig.station.certificates_asked == [(CertificateUse.CSMS_ROOT, "PEM")]


@pytest.mark.parametrize(
    ("use", "code"),
    [
        ("CSMSRootCertificate", "InvalidCertificate"),
        ("ManufacturerRootCertificate", "UnsupportedParam"),
        ("V2GRootCertificate", "UnsupportedParam"),
        ("MORootCertificate", "UnsupportedParam"),
    ],
)
def test_m05_a_refusal_says_why(use: str, code: str) -> None:
    rig = Rig()
    rig.station.install_answer = InstallAnswer(InstallStatus.REJECTED, "it has expired")
    assert ask("InstallCertificate", {"certificateType": use, "certificate": "PEM"}, rig) == {
        "status": "Rejected",
        "statusInfo": {"reasonCode": code, "additionalInfo": "it has expired"},
    }


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (DeleteAnswer(DeleteStatus.ACCEPTED), {"status": "Accepted"}),
        (DeleteAnswer(DeleteStatus.NOT_FOUND), {"status": "NotFound"}),
        (
            DeleteAnswer(DeleteStatus.FAILED, "the present connection rests on it"),
            {
                "status": "Failed",
                "statusInfo": {"reasonCode": "ReadOnly", "additionalInfo": "the present connection rests on it"},
            },
        ),
    ],
)
def test_m04_a_root_is_deleted_by_its_hashes(answer: DeleteAnswer, told: dict[str, Any]) -> None:
    rig = Rig()
    rig.station.delete_answer = answer
    rig.view.root_in_use = "fingerprint"
    assert ask("DeleteCertificate", {"certificateHashData": DATA}, rig) == told
    assert rig.station.certificates_asked == [(HASH, "fingerprint")]


@pytest.mark.parametrize(
    ("wanted", "uses"),
    [
        (None, ["CSMSRootCertificate", "ManufacturerRootCertificate"]),
        (["CSMSRootCertificate"], ["CSMSRootCertificate"]),
        (["MORootCertificate", "ManufacturerRootCertificate"], ["ManufacturerRootCertificate"]),
        (["V2GCertificateChain", "V2GRootCertificate"], []),
    ],
)
def test_m03_installed_roots_are_listed(wanted: list[str] | None, uses: list[str]) -> None:
    rig = Rig()
    rig.station.installed_certificates = ROWS
    answer = ask("GetInstalledCertificateIds", {} if wanted is None else {"certificateType": wanted}, rig)
    rows = [{"certificateType": use, "certificateHashData": DATA} for use in uses]
    assert answer == ({"status": "Accepted", "certificateHashDataChain": rows} if uses else {"status": "NotFound"})
