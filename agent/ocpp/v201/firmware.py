"""Firmware updates in 2.0.1: L01 (signed), L02 (not signed).

Charter: from UpdateFirmwareRequest to our answer, from ledger rows and triggers to FirmwareStatusNotification. The
statuses are the station's own.

Certificate and signature make a request a signed one (L01), the lack of both an unsigned one (L02), which the
station may refuse. One without the other is Rejected: nobody could verify it, and to take it as unsigned would
let a lost field take the protection away. An empty text counts as absent; a CSMS could have left it out as well.

An update asked for in 1.6 and told here: with the id that SignedUpdateFirmware gave it; without any where it was
UpdateFirmware.

Sources: OCPP 2.0.1 part 2 L01, L02, F06, appendix 5 (reason codes); firmware reference 1.4.
"""

from __future__ import annotations

from typing import Final

from agent.core.facts import FirmwareFact, UpdateVia
from agent.ipc.port import StationPort
from agent.ipc.updates import UpdateOutcome
from agent.ocpp import firmware_messages
from agent.ocpp.delivery import Message
from agent.ocpp.dialect import Line
from agent.ocpp.firmware_messages import notification
from agent.ocpp.frames import Payload
from agent.ocpp.rpc import Priority
from agent.ocpp.v201.messages import status

_REASON_CODES: Final = {
    UpdateOutcome.ACCEPTED: "NoError",
    UpdateOutcome.ACCEPTED_CANCELED: "NoError",
    UpdateOutcome.INVALID_CERTIFICATE: "InvalidCertificate",
    UpdateOutcome.REVOKED_CERTIFICATE: "InvalidCertificate",
    UpdateOutcome.REJECTED: "Unspecified",
}
"""Of the standard's list; the station's own words go beside it."""


async def update_firmware(station: StationPort, request: Payload) -> Payload:
    """UpdateFirmwareResponse (L01, L02). Raises ``RpcError`` where the station takes no updates."""
    given = {name for name in ("signingCertificate", "signature") if request["firmware"].get(name)}
    if len(given) == 1:
        return status("Rejected", "MissingParam", f"{given.pop()} alone cannot be verified")
    via = UpdateVia.SIGNED if given else UpdateVia.PLAIN
    answer = await firmware_messages.ask(station, firmware_messages.request_with_id(request, via))
    reason_code = _REASON_CODES[answer.outcome] if answer.reason else ""
    return status(answer.outcome.value, reason_code, answer.reason)


async def tell_status(line: Line, station: StationPort) -> None:
    """FirmwareStatusNotificationRequest, as TriggerMessage asks for it (L01.FR.25, 26)."""
    now = await station.firmware_status()
    payload = notification(now.status, now.request_id)
    await line.call("FirmwareStatusNotification", payload, priority=Priority.STATUS)


def firmware_status(fact: FirmwareFact) -> Message | None:
    """FirmwareStatusNotificationRequest of a row; None where a technician asked for the update."""
    if fact.via is UpdateVia.LOCAL:
        return None
    return Message("FirmwareStatusNotification", notification(fact.status, fact.request_id), once=True)
