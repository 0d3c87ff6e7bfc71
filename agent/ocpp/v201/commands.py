"""What the CSMS may ask of a 2.0.1 station, except its variables and charging profiles.

Charter: one function per message, from its (schema-valid) request to our answer, by way of the
station's commands. Nothing here calls the CSMS: what has to be sent after an answer is for the
dialect.

Sources: OCPP 2.0.1 part 2 B11, B12, C11, E14, F01 to F05, G03, G04, P01; checklist 2.2.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from agent.charging.records import profile_to_plain
from agent.core.commands import ChangeAvailability, RemoteStart, RemoteStop, Reset, Unlock
from agent.core.facts import TransactionFact
from agent.core.status import Outcome
from agent.ipc.port import StationPort
from agent.ocpp import tariff_messages
from agent.ocpp.dialect import StationView
from agent.ocpp.frames import Payload
from agent.ocpp.rows import rows_of
from agent.ocpp.v201 import charging, settings
from agent.ocpp.v201.messages import CONNECTOR, read_id_token, status

log = structlog.get_logger("ocpp")

_UNLOCK_STATUS: Final = {
    Outcome.UNLOCKED: "Unlocked",
    Outcome.ACCEPTED: "Unlocked",
    Outcome.ONGOING_TRANSACTION: "OngoingAuthorizedTransaction",
    Outcome.UNKNOWN_EVSE: "UnknownConnector",
}


async def request_start(station: StationPort, view: StationView, request: Payload) -> Payload:
    """RequestStartTransactionResponse (F01, F02). A profile that comes along is in force from the transaction's begin;
    where it cannot be, nothing starts."""
    evse = request.get("evseId")
    if evse is not None and evse not in view.welcome.evses:
        return status("Rejected", "UnknownEvse")
    group = request.get("groupIdToken", {}).get("idToken")
    command = RemoteStart(read_id_token(request["idToken"]), evse, request["remoteStartId"], group)
    # Without smart charging a profile is ignored (F01).
    profile = request.get("chargingProfile") if view.flag(settings.SMART_CHARGING_ENABLED, True) else None
    if profile is not None:
        if evse is None and len(view.welcome.evses) == 1:
            (evse,) = view.welcome.evses
        plain = profile_to_plain(charging.read_profile(profile))
        command = replace(command, evse=evse, profile=plain, rules=charging.RULES)
    answer = await station.command(command)
    if answer.reason:
        return status("Rejected", "InvalidProfile", answer.reason)
    response = _accepted(answer.outcome)
    return response if answer.tx_id is None else response | {"transactionId": answer.tx_id}


async def request_stop(station: StationPort, request: Payload) -> Payload:
    """RequestStopTransactionResponse (F03)."""
    outcome = (await station.command(RemoteStop(request["transactionId"]))).outcome
    return status("Rejected", "TxNotFound") if outcome is Outcome.UNKNOWN_TRANSACTION else _accepted(outcome)


async def transaction_status(station: StationPort, request: Payload) -> Payload:
    """GetTransactionStatusResponse (E14)."""
    progress = await station.progress()
    if "transactionId" not in request:
        return {"messagesInQueue": progress.undelivered > 0}
    tx_id = request["transactionId"]
    waiting = False
    async for row in rows_of(station, tx_id, progress.delivered_seq):
        if waiting := isinstance(row.fact, TransactionFact):
            break
    ongoing = any(view.tx_id == tx_id for view in (await station.status()).evses)
    return {"ongoingIndicator": ongoing, "messagesInQueue": waiting}


async def change_availability(station: StationPort, view: StationView, request: Payload) -> Payload:
    """ChangeAvailabilityResponse (G03, G04): station, EVSE or connector; the last two are one."""
    evse = request.get("evse")
    if evse is not None and not is_known(view, evse):
        return status("Rejected", "UnknownEvse")
    command = ChangeAvailability(request["operationalStatus"] == "Operative", None if evse is None else evse["id"])
    outcome = (await station.command(command)).outcome
    return status("Scheduled") if outcome is Outcome.SCHEDULED else _accepted(outcome)


async def reset(station: StationPort, view: StationView, request: Payload) -> Payload:
    """ResetResponse (B11, B12). ``hard`` makes the stop reason ImmediateReset."""
    evse = request.get("evseId")
    if evse is not None and evse not in view.welcome.evses:
        return status("Rejected", "UnknownEvse")
    immediate = request["type"] == "Immediate"
    outcome = (await station.command(Reset(immediate=immediate, hard=immediate, evse=evse))).outcome
    return status("Scheduled") if outcome is Outcome.SCHEDULED else _accepted(outcome)


async def unlock_connector(station: StationPort, view: StationView, request: Payload) -> Payload:
    """UnlockConnectorResponse (F05)."""
    if not is_known(view, {"id": request["evseId"], "connectorId": request["connectorId"]}):
        return status("UnknownConnector")
    outcome = (await station.command(Unlock(request["evseId"], end_transaction=False))).outcome
    return status(_UNLOCK_STATUS.get(outcome, "UnlockFailed"))


async def clear_cache(station: StationPort, _request: Payload) -> Payload:
    """ClearCacheResponse (C11); Rejected: there is no cache."""
    return status("Accepted" if await station.clear_cache() else "Rejected")


async def cost_updated(station: StationPort, request: Payload) -> Payload:
    """CostUpdatedResponse (I02), which cannot refuse: a cost of no transaction of ours is logged."""
    cost = tariff_messages.plain_number(request["totalCost"])
    tx_id = await tariff_messages.known(station, request["transactionId"])
    if cost is None or tx_id is None:
        log.warning("cost_of_nothing", tx_id=request["transactionId"], cost=request["totalCost"])
        return {}
    details = tariff_messages.cost_details(request.get("customData"))
    await station.told_cost(tariff_messages.told_cost(tx_id, cost, details, final=False))
    return {}


async def data_transfer(station: StationPort, view: StationView, request: Payload) -> Payload:
    """DataTransferResponse (P01): tariff and cost messages are known here."""
    answer = await tariff_messages.data_transfer(station, partial(tariff_messages.known, station), request)
    if answer is not None:
        return answer
    return status("UnknownMessageId" if request["vendorId"] == view.welcome.vendor else "UnknownVendorId")


def is_known(view: StationView, evse: Payload) -> bool:
    """Whether an EVSEType names something this station has."""
    return evse["id"] in view.welcome.evses and evse.get("connectorId", CONNECTOR) == CONNECTOR


def _accepted(outcome: Outcome) -> Payload:
    return status("Accepted" if outcome is Outcome.ACCEPTED else "Rejected")
