"""The OCPP 2.0.1 dialect: what happens when.

Charter: puts the parts together for one station: registration, status reports, delivery, heartbeat,
authorization of drivers, and the CSMS's requests. The parts hold the rules; here is only the order.
Actions that are not in ``supported`` are answered NotSupported by the session.

Sources: OCPP 2.0.1 edition 3 part 2; checklist part 2.
"""

from __future__ import annotations

import random
from functools import partial

from agent.core.commands import TakeSample
from agent.core.facts import MeterFact, Token
from agent.ipc.monitors import CustomerRequest
from agent.ipc.port import AuthorizeWanted, Record, StationPort, TokenVerdict
from agent.ocpp.conversation import Answerer, Conversation
from agent.ocpp.dialect import Line, StationView
from agent.ocpp.frames import Payload
from agent.ocpp.heartbeat import beat
from agent.ocpp.log_requests import LogReport, LogUploads, tell_log_status
from agent.ocpp.session import Reply
from agent.ocpp.v201 import (
    certificates,
    charging,
    commands,
    customer,
    firmware,
    logs,
    messages,
    monitoring,
    networks,
    variables,
)
from agent.ocpp.v201.status import StatusReporter
from agent.ocpp.v201.transactions import TransactionTranslator, meter_values
from agent.ocpp.version import Version


class Dialect201(Conversation):
    """See ``agent.ocpp.dialect.Dialect``."""

    version = Version.V201

    def __init__(
        self, station: StationPort, view: StationView, rng: random.Random, uploads: LogUploads | None = None
    ) -> None:
        self._statuses = StatusReporter(view, self._wall_ms)
        translator = TransactionTranslator(station, view)
        super().__init__(station, view, rng, translator, self._statuses, uploads, new_id_on_retry=False)

    def _table(self) -> dict[str, Answerer]:
        station, view = self._station, self._view
        table: dict[str, Answerer] = {
            "ChangeAvailability": partial(commands.change_availability, station, view),
            "ClearCache": partial(commands.clear_cache, station),
            "CostUpdated": partial(commands.cost_updated, station),
            "ClearChargingProfile": partial(charging.clear_charging_profile, station),
            "ClearVariableMonitoring": partial(monitoring.clear_variable_monitoring, station, view),
            "CustomerInformation": self._customer_information,
            "DataTransfer": partial(commands.data_transfer, station, view),
            "DeleteCertificate": partial(certificates.delete, station, view),
            "GetBaseReport": self._get_base_report,
            "GetCompositeSchedule": partial(charging.get_composite_schedule, station, view),
            "GetInstalledCertificateIds": partial(certificates.installed, station),
            "GetMonitoringReport": self._get_monitoring_report,
            "GetTransactionStatus": partial(commands.transaction_status, station),
            "GetVariables": partial(variables.get_variables, station, view),
            "InstallCertificate": partial(certificates.install, station),
            "RequestStartTransaction": partial(commands.request_start, station, view),
            "RequestStopTransaction": partial(commands.request_stop, station),
            "Reset": partial(commands.reset, station, view),
            "SetChargingProfile": partial(charging.set_charging_profile, station, view),
            "SetMonitoringBase": partial(monitoring.set_monitoring_base, station),
            "SetMonitoringLevel": partial(monitoring.set_monitoring_level, station),
            "SetNetworkProfile": partial(networks.set_network_profile, station),
            "SetVariableMonitoring": partial(monitoring.set_variable_monitoring, station, view),
            "SetVariables": partial(variables.set_variables, station, view),
            "TriggerMessage": self._trigger,
            "UnlockConnector": partial(commands.unlock_connector, station, view),
        }
        if view.welcome.takes_updates:
            table["UpdateFirmware"] = partial(firmware.update_firmware, station)
        if (uploads := self._logs) is not None:
            table["GetLog"] = partial(logs.get_log, station, uploads)
        return table

    # ----------------------------------------------------------------------- what 2.0.1 says

    def _boot_notification(self) -> Payload:
        return messages.boot_notification(self._view.welcome)

    def _authorize_request(self, token: Token) -> Payload:
        return messages.authorize(token)

    def _read_verdict(self, answer: Payload, wanted: AuthorizeWanted) -> TokenVerdict:
        return messages.read_id_token_info(answer["idTokenInfo"], wanted.evse)

    def _price_text(self, answer: Payload) -> str:
        return messages.personal_message(answer)

    def _meter_values(self, record: Record) -> Payload | None:
        return meter_values(self._view, record, record.fact) if isinstance(record.fact, MeterFact) else None

    def _log_notification(self, report: LogReport) -> tuple[str, Payload] | None:
        return logs.notification(report)

    # ---------------------------------------------------------------------------- from the CSMS

    async def _get_base_report(self, request: Payload) -> Payload | Reply:
        """GetBaseReportResponse (B07)."""
        data = await self._station.report(request["reportBase"])
        if data is None:
            return {"status": "NotSupported"}
        if not data:
            return {"status": "EmptyResultSet"}
        parts = variables.report_parts(request["requestId"], await self._wall_ms(), data)
        return self._accept_and(partial(variables.send_report, "NotifyReport", parts))

    async def _get_monitoring_report(self, request: Payload) -> Payload | Reply:
        """GetMonitoringReportResponse (N02)."""
        found = await monitoring.wanted(self._station, self._view, request)
        if not found:
            return {"status": "EmptyResultSet"}
        parts = monitoring.report_parts(request["requestId"], await self._wall_ms(), found)
        return self._accept_and(partial(variables.send_report, "NotifyMonitoringReport", parts))

    async def _customer_information(self, request: Payload) -> Payload | Reply:
        """CustomerInformationResponse (N09, N10)."""
        asked = customer.read(request)
        if not isinstance(asked, CustomerRequest):
            return asked
        words = await self._station.customer_information(asked) or customer.nothing(asked)
        parts = customer.report_parts(request["requestId"], await self._wall_ms(), words)
        return self._accept_and(partial(variables.send_report, "NotifyCustomerInformation", parts))

    async def _wall_ms(self) -> int:
        return (await self._station.status()).wall_ms

    async def _trigger(self, request: Payload) -> Payload | Reply:
        """TriggerMessageResponse (F06)."""
        evse = request.get("evse")
        if evse is not None and not commands.is_known(self._view, evse):
            return messages.status("Rejected", "UnknownEvse")
        match request["requestedMessage"]:
            case "BootNotification":
                if self._registration.is_accepted:
                    return {"status": "Rejected"}
                return Reply({"status": "Accepted"}, after=self._registration.ask_again)
            case "Heartbeat":
                return self._accept_and(partial(beat, station=self._station))
            case "FirmwareStatusNotification" if self._view.welcome.takes_updates:
                return self._accept_and(partial(firmware.tell_status, station=self._station))
            case "LogStatusNotification" if self._logs is not None:
                return self._accept_and(partial(tell_log_status, uploads=self._logs))
            case "StatusNotification":
                if evse is None or "connectorId" not in evse:  # F06: it is of one connector
                    return {"status": "Rejected"}
                return self._accept_and(partial(self._statuses.tell, evse=evse["id"]))
            case "MeterValues":
                return self._accept_and(partial(self._take_samples, (None if evse is None else evse["id"],)))
            case "TransactionEvent":
                return await self._trigger_transaction_event(None if evse is None else evse["id"])
            case _:
                return {"status": "NotImplemented"}

    async def _trigger_transaction_event(self, evse: int | None) -> Payload | Reply:
        running = tuple(
            view.evse
            for view in (await self._station.status()).evses
            if view.tx_id is not None and evse in (None, view.evse)
        )
        if not running:
            return messages.status("Rejected", "TxNotFound")
        return self._accept_and(partial(self._take_samples, running))

    async def _take_samples(self, evses: tuple[int | None, ...], _line: Line) -> None:
        # Each reading comes back as a row of its transaction, or as SampleTaken where none runs.
        for evse in evses:
            await self._station.command(TakeSample(evse))
