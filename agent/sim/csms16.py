"""The OCPP 1.6 half of the simulated CSMS: the package's ChargePoint with handlers.

A repeated StartTransaction (same connector, time and register) gets the same transactionId: that is
how a CSMS spots a resend, as 1.6 gives it nothing better.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from ocpp.routing import on
from ocpp.v16 import ChargePoint, call, call_result

from agent.sim.csms import Book, Booked, SignedReading, Tap


class Peer16(ChargePoint):  # type: ignore[misc]
    """One connected station."""

    calls = call

    def __init__(self, identity: str, link: Tap, book: Book) -> None:
        super().__init__(identity, link)
        self.link = link
        self.book = book

    @on("BootNotification")
    async def boot(self, **_: Any) -> Any:
        self.book.boots += 1
        return call_result.BootNotification(current_time=_now(), interval=60, status="Accepted")

    @on("Heartbeat")
    async def heartbeat(self, **_: Any) -> Any:
        return call_result.Heartbeat(current_time=_now())

    @on("StatusNotification")
    async def status(self, connector_id: int, status: str, **_: Any) -> Any:
        self.book.statuses.append((connector_id, status))
        return call_result.StatusNotification()

    @on("Authorize")
    async def authorize(self, id_tag: str, **_: Any) -> Any:
        return call_result.Authorize(id_tag_info=self._tag(id_tag))

    @on("StartTransaction")
    async def start_transaction(
        self, connector_id: int, id_tag: str, meter_start: int, timestamp: str, **_: Any
    ) -> Any:
        key = f"{connector_id} {timestamp} {meter_start}"
        known = list(self.book.transactions)
        if key in self.book.transactions:
            self.book.transactions[key].repeats += 1
        else:
            self.book.transactions[key] = Booked(key, connector_id, timestamp, meter_start)
            known.append(key)
        return call_result.StartTransaction(transaction_id=known.index(key) + 1, id_tag_info=self._tag(id_tag))

    @on("MeterValues")
    async def meter_values(self, meter_value: list[dict[str, Any]], transaction_id: int = 0, **_: Any) -> Any:
        booked = self._booked(transaction_id)
        if booked is not None:
            _take(booked, meter_value)
        return call_result.MeterValues()

    @on("StopTransaction")
    async def stop_transaction(
        self,
        meter_stop: int,
        transaction_id: int,
        reason: str = "Local",
        transaction_data: list[dict[str, Any]] | None = None,
        **_: Any,
    ) -> Any:
        booked = self._booked(transaction_id)
        if booked is None:
            self.book.violations.append(f"StopTransaction of unknown {transaction_id}")
        else:
            booked.repeats += booked.stop_wh is not None
            _take(booked, transaction_data or [])
            booked.stop_wh, booked.reason = meter_stop, reason
        return call_result.StopTransaction()

    @on("DataTransfer")
    async def data_transfer(self, **_: Any) -> Any:
        return call_result.DataTransfer(status="UnknownVendorId")

    @on("SecurityEventNotification")
    async def security_event(self, type: str, **_: Any) -> Any:
        self.book.security_events.append(type)
        return call_result.SecurityEventNotification()

    @on("DiagnosticsStatusNotification")
    async def diagnostics_status(self, status: str, **_: Any) -> Any:
        self.book.uploads.append((status, None))
        return call_result.DiagnosticsStatusNotification()

    @on("LogStatusNotification")
    async def log_status(self, status: str, request_id: int | None = None, **_: Any) -> Any:
        self.book.uploads.append((status, request_id))
        return call_result.LogStatusNotification()

    @on("FirmwareStatusNotification")
    async def firmware_status(self, status: str, **_: Any) -> Any:
        self.book.firmware.append((status, None))
        return call_result.FirmwareStatusNotification()

    @on("SignedFirmwareStatusNotification")
    async def signed_firmware_status(self, status: str, request_id: int | None = None, **_: Any) -> Any:
        self.book.firmware.append((status, request_id))
        return call_result.SignedFirmwareStatusNotification()

    def _booked(self, transaction_id: int) -> Booked | None:
        booked = list(self.book.transactions.values())
        return booked[transaction_id - 1] if 0 < transaction_id <= len(booked) else None

    def _tag(self, id_tag: str) -> dict[str, str]:
        return {"status": "Invalid" if id_tag in self.book.tokens_refused else "Accepted"}


_ENERGY = "Energy.Active.Import.Register"


def _take(booked: Booked, meter_value: list[dict[str, Any]]) -> None:
    """Note the last import register and every signed record."""
    for value in meter_value:
        for sample in value["sampled_value"]:
            if sample.get("format") == "SignedData":
                signed = json.loads(sample["value"])
                record = base64.b64decode(signed["signedMeterData"], validate=True)
                booked.sign(SignedReading(sample.get("context", "Sample.Periodic"), record, signed["publicKey"]))
            elif sample.get("measurand", _ENERGY) == _ENERGY:
                scale = 1_000 if sample.get("unit") == "kWh" else 1
                booked.last_wh = float(sample["value"]) * scale


def make_peer(identity: str, tap: Tap, book: Book) -> Peer16:
    return Peer16(identity, tap, book)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
