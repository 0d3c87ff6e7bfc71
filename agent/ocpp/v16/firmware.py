"""Firmware updates in 1.6: two requests, two notifications.

Charter: UpdateFirmware of the core standard knows no id, no signature, few statuses and no refusal; the security
white paper brings SignedUpdateFirmware with all of them. An update is told in the words it was asked for.

UpdateFirmware has an empty answer. What the station refuses is answered with a CALLERROR, NotSupported where it takes
signed updates only (white paper) and GenericError otherwise: an empty answer would leave the operator waiting for a
status that never comes, and a made-up DownloadFailed would have nothing to do with a download.

The statuses of core 1.6 are the others reduced. Steps that it has no word for are not told; a trigger, which must say
something, gets the nearest. An image that came but was found bad (InvalidSignature, InstallVerificationFailed) is
InstallationFailed, whenever that was found out: DownloadFailed reads as "try again". What is the same after the
reduction is told once, but an end always. What was told last is remembered as long as the gateway lives: after its
restart a step may be told again, which is harmless. A request that takes the place of one that is being downloaded
shows as one Downloading.

An update asked for in 2.0.1 and told here: with a signature by SignedFirmwareStatusNotification with its id, without
one by FirmwareStatusNotification, which has no place for the id.

Sources: OCPP 1.6 sections 4.5, 5.17, 5.19; security white paper for 1.6, L01; checklist 16-CMD-08, 16-CMD-11,
16-SEC-12, 16-SEC-13; firmware reference 1.4.
"""

from __future__ import annotations

from typing import Final

from agent.core.facts import FirmwareFact, UpdateVia
from agent.ipc.port import StationPort
from agent.ipc.updates import UpdateOutcome
from agent.ocpp import firmware_messages
from agent.ocpp.delivery import Message
from agent.ocpp.dialect import Line
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.firmware_messages import notification
from agent.ocpp.frames import Payload
from agent.ocpp.rpc import Priority

_BETWEEN: Final = {
    "DownloadScheduled": "Idle",
    "DownloadPaused": "Downloading",
    "SignatureVerified": "Downloaded",
    "InstallScheduled": "Downloaded",
    "InstallRebooting": "Installing",
}
"""Steps without a word of their own in core 1.6, and what a trigger is told of them."""

_FAILURES: Final = {"InvalidSignature": "InstallationFailed", "InstallVerificationFailed": "InstallationFailed"}
_ENDS: Final = frozenset({"Installed", "DownloadFailed", "InstallationFailed"})


async def update_firmware(station: StationPort, request: Payload) -> Payload:
    """UpdateFirmware.conf. Raises ``RpcError`` where the station refuses."""
    answer = await firmware_messages.ask(station, firmware_messages.plain_request(request))
    if answer.outcome not in (UpdateOutcome.ACCEPTED, UpdateOutcome.ACCEPTED_CANCELED):
        raise RpcError(ErrorCode.GENERIC_ERROR, answer.reason or answer.outcome.value)
    return {}


async def signed_update_firmware(station: StationPort, request: Payload) -> Payload:
    """SignedUpdateFirmware.conf. Raises ``RpcError`` where the station takes no updates."""
    asked = firmware_messages.request_with_id(request, UpdateVia.SIGNED)
    return {"status": (await firmware_messages.ask(station, asked)).outcome.value}


async def tell_status(line: Line, station: StationPort) -> None:
    """FirmwareStatusNotification, as TriggerMessage asks for it."""
    now = await station.firmware_status()
    payload = {"status": _reduced(now.status)}
    await line.call("FirmwareStatusNotification", payload, priority=Priority.STATUS)


async def tell_signed_status(line: Line, station: StationPort) -> None:
    """SignedFirmwareStatusNotification, as ExtendedTriggerMessage asks for it."""
    now = await station.firmware_status()
    payload = notification(now.status, now.request_id)
    await line.call("SignedFirmwareStatusNotification", payload, priority=Priority.STATUS)


class FirmwareRows:
    """The firmware rows of the ledger as messages; remembers what was told last in the words of core 1.6."""

    def __init__(self) -> None:
        self._told = ""

    def render(self, fact: FirmwareFact) -> Message | None:
        """The message of a row; None where there is nothing to tell."""
        match fact.via:
            case UpdateVia.SIGNED:
                payload = notification(fact.status, fact.request_id)
                return Message("SignedFirmwareStatusNotification", payload, once=True)
            case UpdateVia.PLAIN if fact.status not in _BETWEEN:
                status = _reduced(fact.status)
                repeated = status == self._told and status not in _ENDS
                return None if repeated else Message("FirmwareStatusNotification", {"status": status}, once=True)
            case _:
                return None

    def done(self, fact: FirmwareFact) -> None:
        """The message of this row was taken or given up."""
        if fact.via is UpdateVia.PLAIN:
            self._told = _reduced(fact.status)


def _reduced(status: str) -> str:
    """A FirmwareStatus of core 1.6."""
    return _BETWEEN.get(status) or _FAILURES.get(status, status)
