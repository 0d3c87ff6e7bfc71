"""What the CSMS may ask of a 1.6 station, except its settings and charging profiles.

Charter: one function per message, from its (schema-valid) request to our answer, by way of the
station's commands. Nothing here calls the CSMS: what has to be sent after an answer is for the
dialect (TriggerMessage).

Sources: OCPP 1.6 section 5; checklist 16-CMD-01 to 09, 16-TX-18.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from agent.charging.records import profile_to_plain
from agent.core.commands import ChangeAvailability, RemoteStart, RemoteStop, Reset, Unlock
from agent.core.facts import Token
from agent.core.status import Outcome
from agent.ipc.port import StationPort
from agent.ocpp.dialect import StationView
from agent.ocpp.frames import Payload
from agent.ocpp.v16 import charging
from agent.ocpp.v16.transactions import TransactionIds

_UNLOCK_STATUS: Final = {
    Outcome.UNLOCKED: "Unlocked",
    Outcome.ACCEPTED: "Unlocked",
    Outcome.NOT_SUPPORTED: "NotSupported",
    Outcome.UNKNOWN_EVSE: "NotSupported",
}


def _status(status: str) -> Payload:
    return {"status": status}


def _accepted(outcome: Outcome) -> Payload:
    return _status("Accepted" if outcome is Outcome.ACCEPTED else "Rejected")


async def remote_start(station: StationPort, view: StationView, request: Payload) -> Payload:
    """RemoteStartTransaction.conf. A profile that comes along is in force from the transaction's begin; where it cannot
    be, nothing starts (16-CMD-05)."""
    evse = request.get("connectorId")
    if evse is not None and evse not in view.welcome.evses:
        return _status("Rejected")
    command = RemoteStart(Token(request["idTag"]), evse)
    if (profile := request.get("chargingProfile")) is not None:
        if evse is None and len(view.welcome.evses) == 1:
            (evse,) = view.welcome.evses
        if "transactionId" in profile:
            return _status("Rejected")
        plain = profile_to_plain(charging.read_profile(profile, None))
        command = replace(command, evse=evse, profile=plain, rules=charging.RULES)
    return _accepted((await station.command(command)).outcome)


async def remote_stop(station: StationPort, ids: TransactionIds, request: Payload) -> Payload:
    """RemoteStopTransaction.conf (16-CMD-06)."""
    tx_id = ids.tx_id(request["transactionId"])
    if tx_id is None:
        return _status("Rejected")
    return _accepted((await station.command(RemoteStop(tx_id))).outcome)


async def change_availability(station: StationPort, view: StationView, request: Payload) -> Payload:
    """ChangeAvailability.conf (16-CMD-01); connector 0 is the station. Where that is to be Operative, all connectors
    are, too (section 5.2), whoever had taken them out of service."""
    connector = request["connectorId"]
    if connector != 0 and connector not in view.welcome.evses:
        return _status("Rejected")
    operative = request["type"] == "Operative"
    outcome = (await station.command(ChangeAvailability(operative, connector or None))).outcome
    if connector == 0 and operative and outcome is Outcome.ACCEPTED:
        for evse in view.welcome.evses:
            await station.command(ChangeAvailability(True, evse))
    return _status("Scheduled") if outcome is Outcome.SCHEDULED else _accepted(outcome)


async def reset(station: StationPort, request: Payload) -> Payload:
    """Reset.conf (16-CMD-07)."""
    outcome = (await station.command(Reset(immediate=True, hard=request["type"] == "Hard"))).outcome
    return _status("Accepted" if outcome in (Outcome.ACCEPTED, Outcome.SCHEDULED) else "Rejected")


async def unlock_connector(station: StationPort, view: StationView, request: Payload) -> Payload:
    """UnlockConnector.conf (16-TX-18)."""
    connector = request["connectorId"]
    if connector not in view.welcome.evses:
        return _status("NotSupported")
    outcome = (await station.command(Unlock(connector, end_transaction=True))).outcome
    return _status(_UNLOCK_STATUS.get(outcome, "UnlockFailed"))


async def clear_cache(station: StationPort) -> Payload:
    """ClearCache.conf; Rejected: there is no cache."""
    return _status("Accepted" if await station.clear_cache() else "Rejected")


def data_transfer(view: StationView, request: Payload) -> Payload:
    """DataTransfer.conf: no vendor's messages are known here (16-CMD-09)."""
    return _status("UnknownMessageId" if request["vendorId"] == view.welcome.vendor else "UnknownVendorId")
