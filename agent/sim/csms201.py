"""The OCPP 2.0.1 half of the simulated CSMS: the package's ChargePoint with handlers."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from ocpp.routing import on
from ocpp.v201 import ChargePoint, call, call_result

from agent.sim.csms import Book, Booked, SignedReading, Tap

_ENERGY = "Energy.Active.Import.Register"


class Peer201(ChargePoint):  # type: ignore[misc]
    """One connected station."""

    calls = call

    def __init__(self, identity: str, link: Tap, book: Book) -> None:
        super().__init__(identity, link)
        self.link = link
        self.book = book
        self.reports: list[dict[str, Any]] = []

    @on("BootNotification")
    async def boot(self, **_: Any) -> Any:
        self.book.boots += 1
        return call_result.BootNotification(current_time=_now(), interval=60, status="Accepted")

    @on("Heartbeat")
    async def heartbeat(self, **_: Any) -> Any:
        return call_result.Heartbeat(current_time=_now())

    @on("StatusNotification")
    async def status(self, evse_id: int, connector_status: str, **_: Any) -> Any:
        self.book.statuses.append((evse_id, connector_status))
        return call_result.StatusNotification()

    @on("Authorize")
    async def authorize(self, id_token: dict[str, Any], **_: Any) -> Any:
        return call_result.Authorize(id_token_info=self._info(id_token))

    @on("TransactionEvent")
    async def transaction_event(
        self,
        event_type: str,
        seq_no: int,
        timestamp: str,
        transaction_info: dict[str, Any],
        meter_value: list[dict[str, Any]] | None = None,
        id_token: dict[str, Any] | None = None,
        evse: dict[str, Any] | None = None,
        custom_data: dict[str, Any] | None = None,
        **_: Any,
    ) -> Any:
        energies = _energies(meter_value or [])
        key = transaction_info["transaction_id"]
        booked = self.book.transactions.get(key)
        if booked is None:
            if event_type != "Started":
                self.book.violations.append(f"{event_type} of unknown transaction {key}")
            booked = Booked(key, (evse or {}).get("id", 0), timestamp, energies[0] if energies else 0.0)
            self.book.transactions[key] = booked
        if seq_no in booked.seq_nos:
            booked.repeats += 1
        elif seq_no != len(booked.seq_nos):
            self.book.violations.append(f"seqNo {seq_no} after {booked.seq_nos[-1:]} in {key}")
        if seq_no not in booked.seq_nos:
            booked.seq_nos.append(seq_no)
        if energies:
            booked.last_wh = energies[-1]
        if event_type == "Ended":
            booked.stop_wh = booked.last_wh
            booked.reason = transaction_info.get("stopped_reason", "Local")
        for signed in _signed(meter_value or []):
            booked.sign(signed)
        if custom_data is not None and custom_data.get("vendor_id") == "evsed":
            booked.total, booked.currency = str(custom_data["total_cost"]), custom_data.get("currency")
        return call_result.TransactionEvent(
            total_cost=None if event_type == "Started" else self.book.charge(booked),
            id_token_info=self._info(id_token) if id_token else None,
        )

    @on("MeterValues")
    async def meter_values(self, **_: Any) -> Any:
        return call_result.MeterValues()

    @on("NotifyReport")
    async def notify_report(self, **payload: Any) -> Any:
        self.reports.append(payload)
        return call_result.NotifyReport()

    @on("NotifyMonitoringReport")
    async def notify_monitoring_report(self, **payload: Any) -> Any:
        self.reports.append(payload)
        return call_result.NotifyMonitoringReport()

    @on("NotifyCustomerInformation")
    async def notify_customer_information(self, **payload: Any) -> Any:
        self.reports.append(payload)
        return call_result.NotifyCustomerInformation()

    @on("NotifyEvent")
    async def notify_event(self, event_data: list[dict[str, Any]], **_: Any) -> Any:
        self.book.events += event_data
        return call_result.NotifyEvent()

    @on("SecurityEventNotification")
    async def security_event(self, type: str, **_: Any) -> Any:
        self.book.security_events.append(type)
        return call_result.SecurityEventNotification()

    @on("LogStatusNotification")
    async def log_status(self, status: str, request_id: int | None = None, **_: Any) -> Any:
        self.book.uploads.append((status, request_id))
        return call_result.LogStatusNotification()

    @on("FirmwareStatusNotification")
    async def firmware_status(self, status: str, request_id: int | None = None, **_: Any) -> Any:
        self.book.firmware.append((status, request_id))
        return call_result.FirmwareStatusNotification()

    @on("DataTransfer")
    async def data_transfer(self, **_: Any) -> Any:
        return call_result.DataTransfer(status="UnknownVendorId")

    def _info(self, id_token: dict[str, Any]) -> dict[str, str]:
        return {"status": "Invalid" if id_token.get("id_token") in self.book.tokens_refused else "Accepted"}


def _energies(meter_value: list[dict[str, Any]]) -> list[float]:
    """Import registers in Wh, in order."""
    found = []
    for value in meter_value:
        for sample in value["sampled_value"]:
            if sample.get("measurand", _ENERGY) == _ENERGY and "phase" not in sample:
                unit = sample.get("unit_of_measure", {})
                scale = 10 ** unit.get("multiplier", 0) * (1_000 if unit.get("unit", "Wh") == "kWh" else 1)
                found.append(float(sample["value"]) * scale)
    return found


def _signed(meter_value: list[dict[str, Any]]) -> list[SignedReading]:
    return [
        SignedReading(
            sample.get("context", "Sample.Periodic"),
            base64.b64decode(sample["signed_meter_value"]["signed_meter_data"], validate=True),
            sample["signed_meter_value"]["public_key"],
        )
        for value in meter_value
        for sample in value["sampled_value"]
        if "signed_meter_value" in sample
    ]


def make_peer(identity: str, tap: Tap, book: Book) -> Peer201:
    return Peer201(identity, tap, book)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
