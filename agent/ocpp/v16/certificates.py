"""Root certificates in 1.6: what may be installed, listed and deleted.

Charter: from request to the station's answer, which is told without its reason: 1.6 has no place for one.

Sources: security white paper for 1.6, M03 to M05; checklist 16-SEC-09.
"""

from __future__ import annotations

from typing import Final

import structlog

from agent.ipc.certificates import CertificateUse
from agent.ipc.port import StationPort
from agent.ocpp.certificate_hashes import hash_data, read_hash
from agent.ocpp.dialect import StationView
from agent.ocpp.frames import Payload

_USES: Final = {
    "CentralSystemRootCertificate": CertificateUse.CSMS_ROOT,
    "ManufacturerRootCertificate": CertificateUse.MANUFACTURER_ROOT,
}

log = structlog.get_logger("ocpp")


async def install(station: StationPort, request: Payload) -> Payload:
    """InstallCertificate.conf."""
    answer = await station.install_certificate(_USES[request["certificateType"]], request["certificate"])
    return _status(answer.status.value, answer.reason)


async def delete(station: StationPort, view: StationView, request: Payload) -> Payload:
    """DeleteCertificate.conf."""
    answer = await station.delete_certificate(read_hash(request["certificateHashData"]), view.root_in_use)
    return _status(answer.status.value, answer.reason)


async def installed(station: StationPort, request: Payload) -> Payload:
    """GetInstalledCertificateIds.conf."""
    use = _USES[request["certificateType"]]
    found = [hash_data(row.hash) for row in await station.certificates() if row.use is use]
    return {"status": "Accepted", "certificateHashData": found} if found else {"status": "NotFound"}


def _status(status: str, reason: str) -> Payload:
    if reason:
        log.warning("certificate", status=status, reason=reason)
    return {"status": status}
