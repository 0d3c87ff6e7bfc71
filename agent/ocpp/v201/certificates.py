"""Root certificates in 2.0.1: what may be installed, listed and deleted (M03, M04, M05).

Charter: from request to the station's answer. Of the uses that only an ISO 15118 station has, none is ever found.

Sources: OCPP 2.0.1 part 2 M03, M04, M05, appendix 5 (reason codes).
"""

from __future__ import annotations

from agent.ipc.certificates import CertificateUse, DeleteStatus, InstallStatus
from agent.ipc.port import StationPort
from agent.ocpp.certificate_hashes import hash_data, read_hash
from agent.ocpp.dialect import StationView
from agent.ocpp.frames import Payload
from agent.ocpp.v201.messages import status


async def install(station: StationPort, request: Payload) -> Payload:
    """InstallCertificateResponse."""
    use = CertificateUse(request["certificateType"])
    answer = await station.install_certificate(use, request["certificate"])
    if answer.status is InstallStatus.ACCEPTED:
        return status("Accepted")
    code = "InvalidCertificate" if use is CertificateUse.CSMS_ROOT else "UnsupportedParam"
    return status(answer.status.value, code, answer.reason)


async def delete(station: StationPort, view: StationView, request: Payload) -> Payload:
    """DeleteCertificateResponse."""
    answer = await station.delete_certificate(read_hash(request["certificateHashData"]), view.root_in_use)
    code = "ReadOnly" if answer.status is DeleteStatus.FAILED else ""
    return status(answer.status.value, code, answer.reason)


async def installed(station: StationPort, request: Payload) -> Payload:
    """GetInstalledCertificateIdsResponse."""
    wanted = request.get("certificateType")
    found = [
        {"certificateType": row.use.value, "certificateHashData": hash_data(row.hash)}
        for row in await station.certificates()
        if wanted is None or row.use.value in wanted
    ]
    return {"status": "Accepted", "certificateHashDataChain": found} if found else {"status": "NotFound"}
