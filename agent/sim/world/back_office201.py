"""The desk for OCPP 2.0.1: what it books of TransactionEvent and the others.

Charter: reads, books, answers; how well or badly the answer then travels is ``back_office``'s. A repetition is spotted
by transactionId and seqNo. A gap in seqNo that the station was not driven to is noted at the transaction.

Units: registers in mWh inside, Wh on the wire. Sources: OCPP 2.0.1 part 2 B01, C01, E01 to E15; checklist 2.3.
"""

from __future__ import annotations

import json
from typing import Any, Final

from agent.ocpp.version import Version
from agent.sim.world.booking import Book, Booked
from agent.sim.world.desk import Clerk, Message, Payload
from agent.sim.world.excuses import Row

ENERGY: Final = "Energy.Active.Import.Register"
GAP_MAX: Final = 1_000  # numbers of a gap that are looked at
_EMPTY: Final = frozenset(
    {
        "FirmwareStatusNotification",
        "LogStatusNotification",
        "MeterValues",
        "NotifyCustomerInformation",
        "NotifyEvent",
        "NotifyMonitoringReport",
        "NotifyReport",
        "SecurityEventNotification",
        "StatusNotification",
    }
)
_ONCE: Final = frozenset({"FirmwareStatusNotification", "MeterValues", "NotifyEvent", "SecurityEventNotification"})


class Desk201:
    """See the module."""

    version = Version.V201

    def __init__(self, book: Book, clerk: Clerk) -> None:
        self._book = book
        self._clerk = clerk

    def row(self, action: str, payload: Payload) -> tuple[Row, bool] | None:
        if action == "TransactionEvent":
            return (action, payload["transactionInfo"]["transactionId"], payload["seqNo"]), False
        if action in _ONCE:
            return (action, json.dumps(payload, sort_keys=True)), True
        return None

    def answer(self, message: Message) -> Payload | None:
        payload = message.payload
        match message.action:
            case "BootNotification":
                software = payload["chargingStation"].get("firmwareVersion", "")
                status, interval_s = self._clerk.boot(software, payload["reason"])
                return {"status": status, "currentTime": self._clerk.current_time(), "interval": interval_s}
            case "Heartbeat":
                return {"currentTime": self._clerk.current_time()}
            case "Authorize":
                return {"idTokenInfo": self._id_token_info(payload["idToken"]["idToken"])}
            case "TransactionEvent":
                return self._event(message)
            case "DataTransfer":
                return {"status": "UnknownVendorId"}
            case "MeterValues":
                self._book.counts["idle_meter_values"] += not message.is_repeat
            case "StatusNotification":
                self._book.status(payload["evseId"], payload["connectorStatus"])
            case "SecurityEventNotification":
                if not message.is_repeat:
                    self._book.security_events.append(payload["type"])
            case "FirmwareStatusNotification":
                self._book.firmware.append((payload["status"], payload.get("requestId")))
        return {} if message.action in _EMPTY else None

    # ----------------------------------------------------------------------------------- transactions

    def _event(self, message: Message) -> Payload:
        payload = message.payload
        if message.is_repeat and payload["transactionInfo"]["transactionId"] not in self._book.transactions:
            self._book.counts["repeats_of_forgotten"] += 1
            return {}
        booked = self._booked(message)
        booked.messages += 1
        if message.is_repeat or payload["seqNo"] in booked.seq_nos:
            booked.repeats += 1
        else:
            self._take(booked, payload)
        if "idToken" not in payload:
            return {}
        info = self._id_token_info(payload["idToken"]["idToken"])
        booked.verdict = info["status"]
        return {"idTokenInfo": info}

    def _booked(self, message: Message) -> Booked:
        payload = message.payload
        key = payload["transactionInfo"]["transactionId"]
        booked = self._book.transactions.get(key)
        if booked is None:
            evse = payload.get("evse", {}).get("id", 0)
            booked = Booked(key, evse, message.message_id, started_at=payload["timestamp"])
            if evse == 0:
                booked.note("its first event names no EVSE")
            self._book.begin(booked)
        return booked

    def _take(self, booked: Booked, payload: Payload) -> None:
        seq_no, kind = payload["seqNo"], payload["eventType"]
        self._place(booked, seq_no)
        if not booked.is_running:
            booked.note(f"seqNo {seq_no} after its end")
        if (kind == "Started") != (seq_no == 0):
            booked.note(f"{kind} has seqNo {seq_no}")
        if not booked.id_token and "idToken" in payload:
            booked.id_token = payload["idToken"]["idToken"]
        registers = _registers_mwh(payload.get("meterValue", ()))
        # The end repeats readings from the begin on: only its last one is new.
        for register_mwh in registers[-1:] if kind == "Ended" else registers:
            booked.read(register_mwh)
        if kind == "Started":
            booked.starts += 1
            booked.begin_mwh = registers[-1] if registers else None
        elif kind == "Ended":
            booked.ends += 1
            booked.end_mwh = registers[-1] if registers else None
            booked.ended_at = payload["timestamp"]
            booked.reason = payload["transactionInfo"].get("stoppedReason", "Local")
            self._book.end(booked)

    def _place(self, booked: Booked, seq_no: int) -> None:
        """Each seqNo must be the next one, but for rows that the station may have dropped."""
        last = booked.seq_nos.last
        if seq_no < last:
            booked.note(f"seqNo {seq_no} after {last}")
        for missing in range(last + 1, min(seq_no, last + 1 + GAP_MAX)):
            if not self._clerk.is_excused(("TransactionEvent", booked.key, missing)):
                booked.note(f"seqNo {missing} is missing before {seq_no}")
        booked.seq_nos.add(seq_no)

    def _id_token_info(self, token: str) -> dict[str, Any]:
        info: dict[str, Any] = {"status": self._clerk.verdict(token)}
        self._book.authorizations.append((token, info["status"]))
        group = self._clerk.group(token)
        return info if group is None else info | {"groupIdToken": {"idToken": group, "type": "Central"}}


def _registers_mwh(meter_value: Any) -> list[int]:
    """All import registers, in order."""
    found = []
    for value in meter_value:
        for sample in value["sampledValue"]:
            if sample.get("measurand", ENERGY) == ENERGY and "phase" not in sample:
                unit = sample.get("unitOfMeasure", {})
                scale = 10 ** (3 + unit.get("multiplier", 0)) * (1000 if unit.get("unit", "Wh") == "kWh" else 1)
                found.append(round(float(sample["value"]) * scale))
    return found
