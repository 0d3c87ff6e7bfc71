"""What the firmware update messages of OCPP 1.6 and 2.0.1 have in common.

Charter: from a (schema-valid) request to the station's ``UpdateRequest``, and from a status to its notification. The
station decides whether it takes an update and what happens when; nothing here judges a certificate, a signature or
an address, they are passed on as they came. SignedUpdateFirmware of the 1.6 white paper has the shape of
UpdateFirmware in 2.0.1, so one reader serves both.

Statuses are told as ledger rows are delivered: in order, and after BootNotification was accepted, so ``Installed``
comes from the station that runs the new image, never before. A refused notification is the end of it, after silence
it is sent again (``agent.ocpp.delivery``). The id of a request goes with every status where the request had one: an
update that was asked for by UpdateFirmware of 1.6 has none in 2.0.1 either, and none is invented for it.

Units: UTC in milliseconds, seconds between tries.
Sources: OCPP 1.6 sections 4.5, 5.19; security white paper for 1.6, L01; OCPP 2.0.1 part 2 L01, L02; firmware
reference 1.4.
"""

from __future__ import annotations

from typing import Any, Final

from agent.core.facts import UpdateVia
from agent.ipc.port import StationPort
from agent.ipc.updates import UpdateAnswer, UpdateOutcome, UpdateRequest
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.frames import Payload
from agent.ocpp.timestamps import BadTimestamp, from_rfc3339

LOCATION_MAX_CHARS: Final = 2_000  # as in 2.1; 1.6 core has no limit of its own
COUNT_MAX: Final = 2**31 - 1  # of an OCPP integer


async def ask(station: StationPort, request: UpdateRequest) -> UpdateAnswer:
    """What the station says. Raises ``RpcError`` NotSupported where it does not take such an update in this message."""
    answer = await station.update_firmware(request)
    if answer.outcome is UpdateOutcome.NOT_SUPPORTED:
        raise RpcError(ErrorCode.NOT_SUPPORTED, answer.reason)
    return answer


def plain_request(request: Payload) -> UpdateRequest:
    """Of UpdateFirmware.req in 1.6. Raises ``RpcError``."""
    retries, interval_s = retry_wish(request)
    return UpdateRequest(
        UpdateVia.PLAIN,
        None,
        _location(request, ""),
        instant(request, "", "retrieveDate"),
        retries=retries,
        retry_interval_s=interval_s,
    )


def request_with_id(request: Payload, via: UpdateVia) -> UpdateRequest:
    """Of SignedUpdateFirmware.req (1.6) and UpdateFirmwareRequest (2.0.1). Raises ``RpcError``."""
    firmware = request["firmware"]
    retries, interval_s = retry_wish(request)
    install = instant(firmware, "firmware.", "installDateTime") if "installDateTime" in firmware else None
    return UpdateRequest(
        via,
        request["requestId"],  # of any size: some CSMS take the time in milliseconds
        _location(firmware, "firmware."),
        instant(firmware, "firmware.", "retrieveDateTime"),
        install,
        retries,
        interval_s,
        firmware.get("signingCertificate", ""),
        firmware.get("signature", ""),
    )


def notification(status: str, request_id: int | None) -> Payload:
    """SignedFirmwareStatusNotification.req (1.6) and FirmwareStatusNotificationRequest (2.0.1)."""
    return {"status": status} | ({} if request_id is None else {"requestId": request_id})


def retry_wish(request: Payload) -> tuple[int | None, int | None]:
    """``retries`` and ``retryInterval`` (seconds) of a request. Raises ``RpcError``."""
    return _count(request, "retries"), _count(request, "retryInterval")


def _count(request: Payload, name: str) -> int | None:
    number: int | None = request.get(name)
    if number is not None and not 0 <= number <= COUNT_MAX:
        raise refusal(name, "out of range")
    return number


def _location(fields: dict[str, Any], path: str) -> str:
    location: str = fields["location"]
    if len(location) > LOCATION_MAX_CHARS:
        raise refusal(f"{path}location", "too long")
    return location


def instant(fields: dict[str, Any], path: str, name: str) -> int:
    """The UTC milliseconds of a field. Raises ``RpcError``."""
    try:
        return from_rfc3339(fields[name])
    except BadTimestamp as error:
        raise refusal(f"{path}{name}", str(error)) from None


def refusal(path: str, why: str) -> RpcError:
    """What is wrong with a field that its schema could not see."""
    return RpcError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, f"{path}: {why}")
