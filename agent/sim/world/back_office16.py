"""The desk for OCPP 1.6: what it books of StartTransaction, MeterValues, StopTransaction and the others.

Charter: reads, books, answers; how well or badly the answer then travels is ``back_office``'s. A repeated
StartTransaction gets the number it had and, while its transaction runs, ConcurrentTx for a card that is accepted: one
transaction per card (MicroOcpp issue 237). Numbers begin at 0; beside that one, ConcurrentTx would be a refusal.

Units: registers in mWh inside, whole Wh on the wire. Sources: OCPP 1.6 sections 4 to 6; checklist 16-TX-01 to 16.
"""

from __future__ import annotations

import json
from typing import Any, Final

from agent.ocpp.version import Version
from agent.sim.world.booking import Book, Booked, Orphan
from agent.sim.world.desk import Clerk, Message, Payload
from agent.sim.world.excuses import Row

ENERGY: Final = "Energy.Active.Import.Register"
NO_NUMBER: Final = -1
_EMPTY: Final = frozenset(
    {
        "DiagnosticsStatusNotification",
        "FirmwareStatusNotification",
        "LogStatusNotification",
        "MeterValues",
        "SecurityEventNotification",
        "SignedFirmwareStatusNotification",
        "StatusNotification",
        "StopTransaction",
    }
)
_ONCE: Final = frozenset(
    {"SecurityEventNotification", "FirmwareStatusNotification", "SignedFirmwareStatusNotification"}
)


class Desk16:
    """See the module."""

    version = Version.V16

    def __init__(self, book: Book, clerk: Clerk) -> None:
        self._book = book
        self._clerk = clerk

    def row(self, action: str, payload: Payload) -> tuple[Row, bool] | None:
        match action:
            case "StartTransaction":
                return (action, payload["connectorId"], payload["timestamp"], payload["meterStart"]), False
            case "StopTransaction":
                return (action, payload["transactionId"], payload["timestamp"], payload["meterStop"]), False
            case "MeterValues":
                first = payload["meterValue"][0]
                context = first["sampledValue"][0].get("context", "Sample.Periodic")
                return (action, payload["connectorId"], first["timestamp"], context), False
            case _ if action in _ONCE:
                return (action, json.dumps(payload, sort_keys=True)), True
        return None

    def answer(self, message: Message) -> Payload | None:
        payload = message.payload
        match message.action:
            case "BootNotification":
                status, interval_s = self._clerk.boot(payload.get("firmwareVersion", ""), "")
                return {"status": status, "currentTime": self._clerk.current_time(), "interval": interval_s}
            case "Heartbeat":
                return {"currentTime": self._clerk.current_time()}
            case "Authorize":
                return {"idTagInfo": self._id_tag_info(payload["idTag"])}
            case "StartTransaction":
                return self._start(message)
            case "DataTransfer":
                return {"status": "UnknownVendorId"}
            case "MeterValues":
                self._meter_values(message)
            case "StopTransaction":
                return self._stop(message)
            case "StatusNotification":
                self._book.status(payload["connectorId"], payload["status"])
            case "SecurityEventNotification":
                if not message.is_repeat:
                    self._book.security_events.append(payload["type"])
            case "FirmwareStatusNotification" | "SignedFirmwareStatusNotification":
                self._book.firmware.append((payload["status"], payload.get("requestId")))
        return {} if message.action in _EMPTY else None

    # ----------------------------------------------------------------------------------- transactions

    def _start(self, message: Message) -> Payload:
        assert message.row is not None
        _action, connector, at, meter_wh = message.row
        key = f"{connector} {at} {meter_wh}"
        booked = self._book.transactions.get(key)
        if booked is None:
            tag = message.payload["idTag"]
            register_mwh = int(meter_wh) * 1000
            booked = Booked(key, int(connector), message.message_id, id_token=tag, started_at=str(at), starts=1)
            booked.begin_mwh = booked.last_mwh = register_mwh
            self._book.begin(booked)
        else:
            booked.repeats += 1
        booked.messages += 1
        number = self._book.number(booked) if booked.number is None else booked.number
        info = self._id_tag_info(message.payload["idTag"])
        booked.verdict = info["status"]
        if number > 0 and booked.repeats and booked.is_running and booked.verdict == "Accepted":
            info["status"] = "ConcurrentTx"
        return {"transactionId": number, "idTagInfo": info}

    def _meter_values(self, message: Message) -> None:
        payload = message.payload
        register_mwh = _register_mwh(payload["meterValue"])
        number = payload.get("transactionId")
        if number is None:
            self._book.counts["idle_meter_values"] += 1
            return
        booked = self._of(number, message, register_mwh, payload["connectorId"])
        if booked is None:
            return
        if message.is_repeat:
            booked.repeats += 1
            return
        if not booked.is_running:
            booked.note(f"MeterValues of {payload['meterValue'][0]['timestamp']} after its end")
        if booked.evse != payload["connectorId"]:
            booked.note(f"MeterValues on connector {payload['connectorId']}")
        if register_mwh is not None:
            booked.read(register_mwh)

    def _stop(self, message: Message) -> Payload:
        payload = message.payload
        register_mwh = payload["meterStop"] * 1000
        booked = self._of(payload["transactionId"], message, register_mwh, None)
        if booked is not None:
            if message.is_repeat:
                booked.repeats += 1
            else:
                self._end(booked, payload, register_mwh)
        return {"idTagInfo": self._id_tag_info(payload["idTag"])} if "idTag" in payload else {}

    def _end(self, booked: Booked, payload: Payload, register_mwh: int) -> None:
        booked.ends += 1
        if booked.ends > 1:
            booked.note(f"one more end at {payload['timestamp']}")
            return
        booked.read(register_mwh)
        booked.end_mwh = register_mwh
        booked.ended_at = payload["timestamp"]
        booked.reason = payload.get("reason", "Local")
        self._book.end(booked)

    def _of(self, number: int, message: Message, register_mwh: int | None, evse: int | None) -> Booked | None:
        """The transaction of a number; a message of none is booked as an orphan."""
        booked = None if number == NO_NUMBER else self._book.numbered(number)
        if booked is not None:
            booked.messages += 1
            return booked
        assert message.row is not None
        if message.is_repeat and number != NO_NUMBER:
            self._book.counts["repeats_of_forgotten"] += 1
            return None
        self._book.orphan(Orphan(message.action, number, evse, str(message.row[2]), register_mwh))
        if number != NO_NUMBER:
            self._clerk.violation(f"{message.action} of transactionId {number}, which was never given")
        return None

    def _id_tag_info(self, tag: str) -> dict[str, Any]:
        info = {"status": self._clerk.verdict(tag)}
        self._book.authorizations.append((tag, info["status"]))
        group = self._clerk.group(tag)
        return info if group is None else info | {"parentIdTag": group}


def _register_mwh(meter_value: list[dict[str, Any]]) -> int | None:
    """The last import register that is no signed record."""
    found = None
    for value in meter_value:
        for sample in value["sampledValue"]:
            if sample.get("measurand", ENERGY) == ENERGY and sample.get("format", "Raw") == "Raw":
                scale = 1_000_000 if sample.get("unit", "Wh") == "kWh" else 1_000
                found = round(float(sample["value"]) * scale)
    return found
