"""Ledger rows as 1.6 transaction messages, and the CSMS's ids for our transactions.

Charter: the 1.6 ``Translator`` of the delivery pump. StartTransaction, MeterValues, StopTransaction
(and SecurityEventNotification, and firmware statuses) are derived from rows, never stored. The CSMS
names a transaction in its answer to StartTransaction; that number is kept with the cursor, and since
delivery is strictly in order it is known before any later message of the transaction goes out (16-TX-06).

Where the CSMS has no number for a transaction, because StartTransaction was given up or because the
transaction began under another OCPP version, its messages carry -1 (16-TX-07, WS-03). A number is
opaque: 0 and negatives occur in the field (16-TX-08).

Sources: OCPP 1.6 section 4.7, 4.8, 4.10 and errata 4; checklist 16-TX-01 to 16, 16-MV-01 to 09.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import structlog

from agent.auth.token import CONCURRENT_TX
from agent.core.facts import (
    FirmwareFact,
    MeterFact,
    Sample,
    SampleContext,
    SecurityFact,
    SignedFact,
    StopReason,
    Token,
    TransactionFact,
    TxKind,
)
from agent.ipc.port import NO_CSMS_ID, CsmsTx, Progress, Record, StationPort
from agent.ocpp import signed
from agent.ocpp.delivery import Message
from agent.ocpp.dialect import StationView, first_token
from agent.ocpp.frames import Payload
from agent.ocpp.metering import forms, thin
from agent.ocpp.rows import rows_of
from agent.ocpp.timestamps import to_rfc3339
from agent.ocpp.v16 import keys
from agent.ocpp.v16.firmware import FirmwareRows
from agent.ocpp.v16.messages import id_tag, read_id_tag_info
from agent.ocpp.v16.metering import meter_value, signed_value, whole_wh

log = structlog.get_logger("ocpp")

ENDED_MAX: Final = 64

REASONS: Final[dict[StopReason, str]] = {
    StopReason.DE_AUTHORIZED: "DeAuthorized",
    StopReason.EMERGENCY_STOP: "EmergencyStop",
    StopReason.EV_DISCONNECTED: "EVDisconnected",
    StopReason.IMMEDIATE_RESET: "HardReset",
    StopReason.REBOOT: "SoftReset",
    StopReason.LOCAL: "Local",
    StopReason.MASTER_PASS: "Local",
    StopReason.OTHER: "Other",
    StopReason.OVERCURRENT_FAULT: "Other",
    StopReason.GROUND_FAULT: "Other",
    StopReason.ENERGY_LIMIT_REACHED: "Other",
    StopReason.TIME_LIMIT_REACHED: "Other",
    StopReason.TIMEOUT: "EVDisconnected",  # the vehicle left, and did not come back in time
    StopReason.LOCAL_OUT_OF_CREDIT: "Other",
    StopReason.POWER_LOSS: "PowerLoss",
    StopReason.REMOTE: "Remote",
    StopReason.UNLOCK: "UnlockCommand",
}

# The 1.6 names of 2.0.1 security events where they differ (16-SEC-14).
SECURITY_EVENTS: Final = {
    "FailedToAuthenticateAtCsms": "FailedToAuthenticateAtCentralSystem",
    "CsmsFailedToAuthenticate": "CentralSystemFailedToAuthenticate",
    "InvalidCsmsCertificate": "InvalidCentralSystemCertificate",
    "InvalidChargingStationCertificate": "InvalidChargePointCertificate",
}


class TransactionIds:
    """Our transaction ids and the CSMS's, for transactions that are not wholly delivered.

    ``read`` replaces the lot by what the station keeps. The last that ended stay beside them, as long as this
    process lives: what they cost in the end is said after StopTransaction."""

    def __init__(self) -> None:
        self._by_tx_id: dict[str, CsmsTx] = {}
        self._ended: dict[int, str] = {}

    def read(self, progress: Progress) -> None:
        self._by_tx_id = {tx.tx_id: tx for tx in progress.csms_txs}

    def learn(self, tx: CsmsTx) -> None:
        self._by_tx_id[tx.tx_id] = tx

    def end(self, tx_id: str) -> None:
        tx = self._by_tx_id.pop(tx_id, None)
        if tx is None or tx.given_up:
            return
        self._ended.pop(tx.csms_id, None)
        while len(self._ended) >= ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        self._ended[tx.csms_id] = tx_id

    def is_known(self, tx_id: str) -> bool:
        """Whether the CSMS took the start of this transaction."""
        tx = self._by_tx_id.get(tx_id)
        return tx is not None and not tx.given_up

    def csms_id(self, tx_id: str) -> int:
        """What to call this transaction towards the CSMS."""
        tx = self._by_tx_id.get(tx_id)
        return NO_CSMS_ID if tx is None or tx.given_up else tx.csms_id

    def tx_id(self, csms_id: int) -> str | None:
        """Which of our transactions the CSMS means; the newest, should it have given a number twice."""
        for tx in reversed(self._by_tx_id.values()):
            if tx.csms_id == csms_id and not tx.given_up:
                return tx.tx_id
        return None

    def told_tx_id(self, csms_id: int) -> str | None:
        """As ``tx_id``; it may have ended."""
        return self.tx_id(csms_id) or self._ended.get(csms_id)


class TransactionTranslator:
    """See the module. ``view`` gives the settings that choose the measurands."""

    def __init__(self, station: StationPort, view: StationView, ids: TransactionIds) -> None:
        self._station = station
        self._view = view
        self._ids = ids
        self._firmware = FirmwareRows()
        self._begin_refused: set[str] = set()  # transactions whose signed begin, and its key, the CSMS did not take

    # ------------------------------------------------------------------------------- Translator

    async def begin(self, progress: Progress) -> None:
        self._ids.read(progress)

    async def render(self, record: Record) -> Message | None:
        match record.fact:
            case TransactionFact(kind=TxKind.STARTED) as fact:
                return Message("StartTransaction", await self._start(fact, record))
            case TransactionFact(kind=TxKind.UPDATED) as fact:
                return self._meter_values(fact.evse, fact.samples, record, self._ids.csms_id(fact.tx_id))
            case TransactionFact() as fact:
                return await self._stop(fact, record)
            case MeterFact() as fact:
                return self._meter_values(fact.evse, (fact.sample,), record, None)
            case SignedFact() as fact:
                return await self._begin_record(fact)
            case SecurityFact() as fact:
                return Message("SecurityEventNotification", _security_event(fact, record), once=True)
            case FirmwareFact() as fact:
                return self._firmware.render(fact)
            case _:
                return None

    async def answered(self, record: Record, message: Message, answer: Payload) -> CsmsTx | None:
        match record.fact:
            case TransactionFact(kind=TxKind.STARTED) as fact:
                kept = CsmsTx(fact.tx_id, answer["transactionId"])
                self._ids.learn(kept)
                info = answer.get("idTagInfo")
                if info is not None and not (message.again and _is_of_itself(answer)):
                    await self._token_verdict(message.payload["idTag"], fact, info, tx_id=fact.tx_id)
                return kept
            case TransactionFact(kind=TxKind.ENDED) as fact:
                self._end(fact)
                if "idTagInfo" in answer and "idTag" in message.payload:
                    # It teaches the cache only: the transaction has ended (16-TX-14).
                    await self._token_verdict(message.payload["idTag"], fact, answer["idTagInfo"], tx_id=None)
            case FirmwareFact() as fact:
                self._firmware.done(fact)
        return None

    async def given_up(self, record: Record) -> CsmsTx | None:
        match record.fact:
            case TransactionFact(kind=TxKind.STARTED) as fact:
                kept = CsmsTx(fact.tx_id, NO_CSMS_ID, given_up=True)
                self._ids.learn(kept)
                return kept
            case TransactionFact(kind=TxKind.ENDED) as fact:
                self._end(fact)
            case SignedFact() as fact:
                self._begin_refused.add(fact.tx_id)
            case FirmwareFact() as fact:
                self._firmware.done(fact)
        return None

    def _end(self, fact: TransactionFact) -> None:
        self._ids.end(fact.tx_id)
        self._begin_refused.discard(fact.tx_id)

    # --------------------------------------------------------------------------------- messages

    async def _start(self, fact: TransactionFact, record: Record) -> Payload:
        # It may come later: the cable first, say.
        token = await first_token(self._station, fact.tx_id) if fact.token is None else fact.token
        begin = fact.samples[-1]
        return {
            "connectorId": fact.evse,
            "idTag": "" if token is None else id_tag(token),
            "meterStart": whole_wh(begin.energy_import_mwh),
            "timestamp": to_rfc3339(record.clock_offset_ms + begin.at_ms),
        }

    def _meter_values(
        self, evse: int, samples: Iterable[Sample], record: Record, csms_id: int | None
    ) -> Message | None:
        payload = meter_values(self._view, evse, samples, record.clock_offset_ms, csms_id)
        return None if payload is None else Message("MeterValues", payload, minor=True)

    async def _begin_record(self, fact: SignedFact) -> Message | None:
        """The signed record of the start goes in a MeterValues right after StartTransaction; that of the whole
        transaction in StopTransaction."""
        if not signed.wanted_at_start(self._view):
            return None
        rows = await self._station.transaction(fact.tx_id)  # its first page: all that belongs to the start
        record = fact.record.encode()
        carried = next((each for each in signed.at_start(self._view, fact.evse, rows) if each.record == record), None)
        if carried is None:
            return None
        value = signed_value(_begin_wall_ms(rows[0]), SampleContext.BEGIN, carried)
        payload = {"connectorId": fact.evse, "meterValue": [value], "transactionId": self._ids.csms_id(fact.tx_id)}
        return Message("MeterValues", payload)

    async def _stop(self, fact: TransactionFact, record: Record) -> Message:
        """What a night has measured is more than some CSMS take in one frame: the bill is in the shorter ones too."""
        end = fact.samples[-1]
        payload: dict[str, Any] = {
            "transactionId": self._ids.csms_id(fact.tx_id),
            "meterStop": whole_wh(end.energy_import_mwh),
            "timestamp": to_rfc3339(record.clock_offset_ms + end.at_ms),
            "reason": REASONS[fact.stopped_reason or StopReason.LOCAL],
        }
        if fact.token is not None and (tag := id_tag(fact.token)):
            payload["idTag"] = tag
        rows = [row async for row in rows_of(self._station, fact.tx_id)]
        data = self._transaction_data(rows)
        at_ms = record.clock_offset_ms + end.at_ms
        start_told = self._ids.is_known(fact.tx_id) and fact.tx_id not in self._begin_refused
        carried = signed.at_end(self._view, fact.evse, rows, start_told=start_told)
        signed_end = [signed_value(at_ms, SampleContext.END, each) for each in carried]
        full, *shorter = (
            payload | ({"transactionData": values} if values else {}) for values in forms(data, signed_end)
        )
        return Message("StopTransaction", full, shorter=tuple(shorter))

    def _transaction_data(self, rows: Iterable[Record]) -> list[dict[str, Any]]:
        """16-TX-15: begin and end with every configured measurand, between them each kind with its own."""
        sampled = self._view.names(keys.STOP_TXN_SAMPLED_DATA)
        aligned = self._view.names(keys.STOP_TXN_ALIGNED_DATA)
        both = tuple(dict.fromkeys(sampled + aligned))
        if not both:
            return []
        measurands = {
            SampleContext.BEGIN: both,
            SampleContext.END: both,
            SampleContext.PERIODIC: sampled,
            SampleContext.CLOCK: aligned,
        }
        values = [
            value
            for row in rows
            if isinstance(row.fact, TransactionFact)
            for sample in row.fact.samples
            if (value := meter_value(sample, row.clock_offset_ms, measurands.get(sample.context, ())))
        ]
        return thin(values)

    async def _token_verdict(self, tag: str, fact: TransactionFact, info: Payload, tx_id: str | None) -> None:
        token = fact.token
        if token is None or token.id_token != tag:  # no word on a token that it was not told
            token = Token(tag)
        await self._station.token_verdict(token, read_id_tag_info(info), tx_id=tx_id)


def _is_of_itself(answer: Payload) -> bool:
    """To a start that was booked before, ConcurrentTx says that the card is in use here (MicroOcpp issue 237). A number
    that nobody gives goes with a refusal: CitrineOS books nothing then, and answers 0."""
    return bool(answer["idTagInfo"]["status"] == CONCURRENT_TX and answer["transactionId"] > 0)


def meter_values(
    view: StationView, evse: int, samples: Iterable[Sample], clock_offset_ms: int, csms_id: int | None
) -> Payload | None:
    """MeterValues.req of these samples, each with the measurands of its kind; None where nothing is wanted."""
    values = []
    for sample in samples:
        aligned = sample.context is SampleContext.CLOCK
        measurands = view.names(keys.METER_VALUES_ALIGNED_DATA if aligned else keys.METER_VALUES_SAMPLED_DATA)
        if value := meter_value(sample, clock_offset_ms, measurands):
            values.append(value)
    if not values:
        return None
    payload: dict[str, Any] = {"connectorId": evse, "meterValue": values}
    # 16-MV-09: a reading belongs to the transaction that ran when it was taken, none on connector 0.
    if csms_id is not None and evse > 0:
        payload["transactionId"] = csms_id
    return payload


def _begin_wall_ms(started: Record) -> int:
    """The time of a transaction's begin reading."""
    assert isinstance(started.fact, TransactionFact)
    return started.clock_offset_ms + started.fact.samples[-1].at_ms


def _security_event(fact: SecurityFact, record: Record) -> Payload:
    payload = {
        "type": SECURITY_EVENTS.get(fact.event_type, fact.event_type)[:50],
        "timestamp": to_rfc3339(record.wall_ms),
    }
    return payload | ({"techInfo": fact.tech_info[:255]} if fact.tech_info else {})
