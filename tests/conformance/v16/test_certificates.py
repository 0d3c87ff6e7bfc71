"""16-SEC-09: root certificates, by the security white paper."""

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
from tests.conformance.v16.rig import Rig

HASH = CertificateHash(HashAlgorithm.SHA512, "aa", "bb", "42")
DATA = {"hashAlgorithm": "SHA512", "issuerNameHash": "aa", "issuerKeyHash": "bb", "serialNumber": "42"}
USES = [
    ("CentralSystemRootCertificate", CertificateUse.CSMS_ROOT),
    ("ManufacturerRootCertificate", CertificateUse.MANUFACTURER_ROOT),
]


def ask(action: str, payload: dict[str, Any], rig: Rig) -> Any:
    async def main() -> Any:
        async with rig.online():
            return await rig.csms.ask(action, payload)

    return run_virtual(main())


@pytest.mark.parametrize(("name", "use"), USES)
@pytest.mark.parametrize("status", list(InstallStatus))
def test_a_root_is_handed_to_the_station(name: str, use: CertificateUse, status: InstallStatus) -> None:
    rig = Rig()
    rig.station.install_answer = InstallAnswer(status, "in plain words")
    answer = ask("InstallCertificate", {"certificateType": name, "certificate": "PEM"}, rig)
    assert answer == {"status": status.value}
    assert rig.station.certificates_asked == [(use, "PEM")]


@pytest.mark.parametrize("status", list(DeleteStatus))
def test_a_root_is_deleted_by_its_hashes(status: DeleteStatus) -> None:
    rig = Rig()
    rig.station.delete_answer = DeleteAnswer(status, "in plain words")
    rig.view.root_in_use = "fingerprint"
    assert ask("DeleteCertificate", {"certificateHashData": DATA}, rig) == {"status": status.value}
    assert rig.station.certificates_asked == [(HASH, "fingerprint")]


@pytest.mark.parametrize(("name", "use"), USES)
def test_installed_roots_are_listed(name: str, use: CertificateUse) -> None:
    rig = Rig()
    assert ask("GetInstalledCertificateIds", {"certificateType": name}, rig) == {"status": "NotFound"}
    rig = Rig()
    rig.station.installed_certificates = [InstalledCertificate(use, HASH)]
    answer = ask("GetInstalledCertificateIds", {"certificateType": name}, rig)
    assert answer == {"status": "Accepted", "certificateHashData": [DATA]}
