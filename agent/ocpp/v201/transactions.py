"""Ledger rows as TransactionEvent, MeterValues, NotifyEvent, SecurityEventNotification and FirmwareStatusNotification.

Charter: the 2.0.1 ``Translator`` of the delivery pump. Messages are derived from rows, never stored.
The transaction id is the station's own; a transaction that began under another OCPP version goes on under
the same id, and since the CSMS never got its first event, every later one says which EVSE it is about, and
the first of them that it takes who pays and whose order it was (20-TE-06, WS-03), be it another card that ends it. So
it is where that event, or one with a token, was given up, which is kept with the cursor.

Sources: OCPP 2.0.1 part 2 E01 to E15, J01, J02, A04; checklist 2.3.
"""

from __future__ import annotations

from typing import Any, Final

import structlog

from agent.core.facts import (
    ChargingState,
    EventFact,
    FirmwareFact,
    MeterFact,
    SecurityFact,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.ipc.port import NO_CSMS_ID, CsmsTx, Progress, Record, StationPort
from agent.ocpp import signed, tariff_messages
from agent.ocpp.delivery import Message
from agent.ocpp.dialect import StationView, first_token
from agent.ocpp.frames import Payload
from agent.ocpp.metering import forms
from agent.ocpp.rows import rows_of
from agent.ocpp.timestamps import to_rfc3339
from agent.ocpp.v201 import messages, metering
from agent.ocpp.v201.events import notify_event
from agent.ocpp.v201.firmware import firmware_status

log = structlog.get_logger("ocpp")


class TransactionTranslator:
    """See the module. ``view`` gives the settings that choose the measurands."""

    def __init__(self, station: StationPort, view: StationView) -> None:
        self._station = station
        self._view = view
        self._start_lost: set[str] = set()  # transactions whose start the CSMS never took, or in OCPP 1.6 only
        self._introduced: set[str] = set()  # those that it has been told the token of, and the order

    async def begin(self, progress: Progress) -> None:
        self._start_lost = {tx.tx_id for tx in progress.csms_txs}
        self._introduced &= self._start_lost

    def _start_told(self, tx_id: str) -> bool:
        return tx_id not in self._start_lost

    async def render(self, record: Record) -> Message | None:
        match record.fact:
            case TransactionFact() as fact:
                return await self._event(fact, record)
            case MeterFact() as fact:
                payload = meter_values(self._view, record, fact)
                return None if payload is None else Message("MeterValues", payload, once=True)
            case SecurityFact() as fact:
                return Message("SecurityEventNotification", messages.security_event(fact, record), once=True)
            case FirmwareFact() as fact:
                return firmware_status(fact)
            case EventFact() as fact:
                return notify_event(fact, record)
            case _:
                return None

    async def answered(self, record: Record, message: Message, answer: Payload) -> CsmsTx | None:
        fact = record.fact
        if isinstance(fact, TransactionFact):
            told = messages.read_id_token(message.payload["idToken"]) if "idToken" in message.payload else None
            await self._money(fact, told, answer)
            if "idTokenInfo" in answer:
                await self._token_verdict(fact, told, answer["idTokenInfo"])
            self._introduced.add(fact.tx_id)
            self._forget_ended(fact)
        return None

    async def given_up(self, record: Record) -> CsmsTx | None:
        fact = record.fact
        if not isinstance(fact, TransactionFact):
            return None
        self._forget_ended(fact)
        if fact.kind is TxKind.ENDED or (fact.kind is TxKind.UPDATED and fact.token is None):
            return None
        self._introduced.discard(fact.tx_id)
        if fact.tx_id in self._start_lost:  # kept already, maybe with a number of 1.6
            return None
        self._start_lost.add(fact.tx_id)
        return CsmsTx(fact.tx_id, NO_CSMS_ID, given_up=True)

    def _forget_ended(self, fact: TransactionFact) -> None:
        if fact.kind is TxKind.ENDED:
            self._start_lost.discard(fact.tx_id)
            self._introduced.discard(fact.tx_id)

    # --------------------------------------------------------------------------------- messages

    async def _event(self, fact: TransactionFact, record: Record) -> Message:
        payload: dict[str, Any] = {
            "eventType": fact.kind.value,
            "timestamp": to_rfc3339(record.wall_ms),
            "triggerReason": _TRIGGERS.get(fact.trigger, fact.trigger).value,
            "seqNo": fact.seq_no,
            "transactionInfo": _transaction_info(fact),
        }
        if fact.offline:
            payload["offline"] = True
        if fact.kind is TxKind.STARTED or not self._start_told(fact.tx_id):
            payload["evse"] = {"id": fact.evse, "connectorId": messages.CONNECTOR}
        token = fact.token
        if not (fact.kind is TxKind.STARTED or self._start_told(fact.tx_id) or fact.tx_id in self._introduced):
            token = await first_token(self._station, fact.tx_id)
            payload["transactionInfo"] |= await self._order(fact)
        if token is not None:
            payload["idToken"] = messages.id_token(token)
        if fact.total_cost is not None:
            payload["customData"] = total_cost(fact.total_cost, fact.currency)
        in_forms = forms(await self._meter_value(fact, record))
        full, *shorter = (payload | ({"meterValue": values} if values else {}) for values in in_forms)
        minor = fact.kind is TxKind.UPDATED and fact.token is None
        return Message("TransactionEvent", full, minor=minor, shorter=tuple(shorter))

    async def _order(self, fact: TransactionFact) -> dict[str, int]:
        """The order that began this transaction: only its start says so."""
        rows = await self._station.transaction(fact.tx_id)  # its first page
        start = rows[0].fact if rows else None
        number = start.remote_start_id if isinstance(start, TransactionFact) else None
        return {} if number is None else {"remoteStartId": number}

    async def _meter_value(self, fact: TransactionFact, record: Record) -> list[dict[str, Any]]:
        if fact.kind is TxKind.ENDED:
            rows = [row async for row in rows_of(self._station, fact.tx_id)]
            values = metering.ended(self._view, rows)
            carried = signed.at_end(self._view, fact.evse, rows, start_told=self._start_told(fact.tx_id))
            if carried:
                metering.sign(values, fact.samples[-1], record.clock_offset_ms, carried)
            return values
        values = metering.started_or_updated(self._view, fact, record.clock_offset_ms)
        if fact.kind is TxKind.STARTED and signed.wanted_at_start(self._view):
            rows = await self._station.transaction(fact.tx_id)  # its first page: all that belongs to the start
            carried = signed.at_start(self._view, fact.evse, rows)
            if carried:
                metering.sign(values, fact.samples[-1], record.clock_offset_ms, carried)
        return values

    async def _money(self, fact: TransactionFact, token: Token | None, answer: Payload) -> None:
        """I02, I03, 20-TE-07: what the CSMS says it costs so far or in all (absent does not mean free), and the price
        in its words."""
        text = messages.personal_message(answer)
        if text:
            await self._tell_price(fact, token, text)
        cost = tariff_messages.plain_number(answer.get("totalCost"))
        if cost is not None:
            details = {"priceText": text, **tariff_messages.cost_details(answer.get("customData"))}
            told = tariff_messages.told_cost(fact.tx_id, cost, details, final=fact.kind is TxKind.ENDED)
            await self._station.told_cost(told)

    async def _tell_price(self, fact: TransactionFact, token: Token | None, text: str) -> None:
        token = await first_token(self._station, fact.tx_id) if token is None else token
        if token is None:  # told to nobody in particular it would be everybody's price
            log.warning("price_of_nobody", tx_id=fact.tx_id)
            return
        await self._station.told_price(token, text)

    async def _token_verdict(self, fact: TransactionFact, token: Token | None, info: Payload) -> None:
        """20-TE-07. A verdict on the token of a transaction that has ended teaches the cache only."""
        if token is None:
            log.warning("unasked_id_token_info", tx_id=fact.tx_id, status=info["status"])
            return
        verdict = messages.read_id_token_info(info, fact.evse)
        tx_id = None if fact.kind is TxKind.ENDED else fact.tx_id
        await self._station.token_verdict(token, verdict, tx_id=tx_id)


def total_cost(cost: str, currency: str | None) -> Payload:
    """What the station has worked out, in customData: 2.0.1 has no field for it (2.1: costDetails)."""
    # The float prints with the digits of the text: money has far fewer than the 15 that are safe.
    told: Payload = {"vendorId": tariff_messages.VENDOR, "totalCost": float(cost)}
    return told | ({"currency": currency} if currency else {})


def meter_values(view: StationView, record: Record, fact: MeterFact) -> Payload | None:
    """MeterValuesRequest of a reading outside transactions; None where nothing is wanted of it."""
    values = metering.idle(view, fact.sample, record.clock_offset_ms)
    return {"evseId": fact.evse, "meterValue": values} if values else None


# 2.0.1 has no reason for it; the trigger UnlockCommand tells (20-TE-09).
_STOPPED_REASONS: Final = {StopReason.UNLOCK: "Other"}
# 2.1 has a trigger for a spent credit; here the right to charge has ended, and the stop reason says why.
_TRIGGERS: Final = {Trigger.COST_LIMIT_REACHED: Trigger.DEAUTHORIZED}


def _state_after(reason: StopReason | None) -> ChargingState | None:
    """The row of an end holds the state before it. Over a power cut nobody knows whether the vehicle is still there."""
    if reason in (StopReason.EV_DISCONNECTED, StopReason.TIMEOUT):
        return ChargingState.IDLE
    return None if reason is StopReason.POWER_LOSS else ChargingState.EV_CONNECTED


def _transaction_info(fact: TransactionFact) -> dict[str, Any]:
    info: dict[str, Any] = {"transactionId": fact.tx_id}
    state = fact.charging_state if fact.kind is not TxKind.ENDED else _state_after(fact.stopped_reason)
    if state is not None:
        info["chargingState"] = state.value
    if fact.remote_start_id is not None:
        info["remoteStartId"] = fact.remote_start_id
    if fact.kind is TxKind.ENDED:
        reason = fact.stopped_reason or StopReason.LOCAL
        info["stoppedReason"] = _STOPPED_REASONS.get(reason, reason.value)
    return info
