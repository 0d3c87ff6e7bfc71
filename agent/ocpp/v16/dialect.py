"""The OCPP 1.6J dialect: what happens when.

Charter: puts the parts together for one station: registration, status reports, delivery, heartbeat,
authorization of drivers, and the CSMS's requests. The parts hold the rules; here is only the order.

Sources: OCPP 1.6 edition 2 and errata 4; checklist part 1.
"""

from __future__ import annotations

import random
import re
from functools import partial

from agent.core.commands import TakeSample
from agent.core.facts import MeterFact, Token
from agent.ipc.port import AuthorizeWanted, Record, StationPort, TokenVerdict
from agent.ocpp import tariff_messages
from agent.ocpp.conversation import Answerer, Conversation, Job
from agent.ocpp.dialect import Line, StationView
from agent.ocpp.frames import Payload
from agent.ocpp.heartbeat import beat
from agent.ocpp.log_requests import LogReport, LogUploads, tell_log_status
from agent.ocpp.session import Reply
from agent.ocpp.v16 import certificates, charging, commands, firmware, keys, logs, messages
from agent.ocpp.v16.status import StatusReporter
from agent.ocpp.v16.transactions import TransactionIds, TransactionTranslator, meter_values
from agent.ocpp.version import Version


class Dialect16(Conversation):
    """See ``agent.ocpp.dialect.Dialect``."""

    version = Version.V16

    def __init__(
        self, station: StationPort, view: StationView, rng: random.Random, uploads: LogUploads | None = None
    ) -> None:
        self._ids = TransactionIds()
        self._statuses = StatusReporter(view)
        translator = TransactionTranslator(station, view, self._ids)
        super().__init__(station, view, rng, translator, self._statuses, uploads, new_id_on_retry=True)

    def _table(self) -> dict[str, Answerer]:
        station, view, ids = self._station, self._view, self._ids
        table: dict[str, Answerer] = {
            "ChangeAvailability": partial(commands.change_availability, station, view),
            "ChangeConfiguration": self._change_configuration,
            "ClearCache": self._clear_cache,
            "ClearChargingProfile": partial(charging.clear_charging_profile, station),
            "DataTransfer": self._data_transfer,
            "DeleteCertificate": partial(certificates.delete, station, view),
            "ExtendedTriggerMessage": partial(self._trigger, partial(firmware.tell_signed_status, station=station)),
            "GetCompositeSchedule": partial(charging.get_composite_schedule, station, view),
            "GetConfiguration": self._get_configuration,
            "GetInstalledCertificateIds": partial(certificates.installed, station),
            "InstallCertificate": partial(certificates.install, station),
            "RemoteStartTransaction": partial(commands.remote_start, station, view),
            "RemoteStopTransaction": partial(commands.remote_stop, station, ids),
            "Reset": partial(commands.reset, station),
            "SetChargingProfile": partial(charging.set_charging_profile, station, view, ids),
            "TriggerMessage": partial(self._trigger, partial(firmware.tell_status, station=station)),
            "UnlockConnector": partial(commands.unlock_connector, station, view),
        }
        if view.welcome.takes_updates:
            table["UpdateFirmware"] = partial(firmware.update_firmware, station)
            table["SignedUpdateFirmware"] = partial(firmware.signed_update_firmware, station)
        if (uploads := self._logs) is not None:
            table["GetDiagnostics"] = partial(logs.get_diagnostics, station, uploads)
            table["GetLog"] = partial(logs.get_log, station, uploads)
        return table

    # ------------------------------------------------------------------------- what 1.6 says

    def _boot_notification(self) -> Payload:
        return messages.boot_notification(self._view.welcome)

    def _authorize_request(self, token: Token) -> Payload:
        return messages.authorize(token)

    def _read_verdict(self, answer: Payload, _wanted: AuthorizeWanted) -> TokenVerdict:
        return messages.read_id_tag_info(answer["idTagInfo"])

    def _meter_values(self, record: Record) -> Payload | None:
        fact = record.fact
        if not isinstance(fact, MeterFact):
            return None
        return meter_values(self._view, fact.evse, (fact.sample,), record.clock_offset_ms, None)

    def _log_notification(self, report: LogReport) -> tuple[str, Payload] | None:
        return logs.notification(report)

    # ---------------------------------------------------------------------------- from the CSMS

    async def _get_configuration(self, request: Payload) -> Payload:
        return keys.get_configuration(self._view, request.get("key", []))

    async def _change_configuration(self, request: Payload) -> Payload:
        return await keys.change_configuration(self._view, self._station, request["key"], request["value"])

    async def _clear_cache(self, _request: Payload) -> Payload:
        return await commands.clear_cache(self._station)

    async def _data_transfer(self, request: Payload) -> Payload:
        answer = await tariff_messages.data_transfer(self._station, self._tx_id, request)
        return commands.data_transfer(self._view, request) if answer is None else answer

    async def _tx_id(self, csms_id: str) -> str | None:
        """Our transaction of the number that the CSMS gave it."""
        return self._ids.told_tx_id(int(csms_id)) if re.fullmatch(r"-?[0-9]{1,10}", csms_id) else None

    async def _trigger(self, tell_firmware: Job, request: Payload) -> Payload | Reply:
        """TriggerMessage.conf and ExtendedTriggerMessage.conf: the answer goes first, then the message (16-CMD-08,
        16-SEC-13). Of a firmware update each asks for a notification of its own."""
        connector = request.get("connectorId")
        known = connector is None or connector == 0 or connector in self._view.welcome.evses
        match request["requestedMessage"]:
            case "BootNotification":
                if self._registration.is_accepted:
                    return {"status": "Rejected"}
                return Reply({"status": "Accepted"}, after=self._registration.ask_again)
            case "Heartbeat":
                return self._accept_and(partial(beat, station=self._station))
            case "FirmwareStatusNotification" if self._view.welcome.takes_updates:
                return self._accept_and(tell_firmware)
            case "DiagnosticsStatusNotification" if self._logs is not None:
                return self._accept_and(partial(logs.tell_diagnostics_status, uploads=self._logs))
            case "LogStatusNotification" if self._logs is not None:
                return self._accept_and(partial(tell_log_status, uploads=self._logs))
            case "StatusNotification" if known:
                return self._accept_and(partial(self._tell_statuses, connector))
            case "MeterValues" if known:
                return self._accept_and(partial(self._take_sample, connector))
            case "StatusNotification" | "MeterValues":
                return {"status": "Rejected"}
            case _:
                return {"status": "NotImplemented"}

    async def _tell_statuses(self, connector: int | None, line: Line) -> None:
        for evse in (0, *self._view.welcome.evses) if connector is None else (connector,):
            await self._statuses.tell(line, evse)

    async def _take_sample(self, connector: int | None, _line: Line) -> None:
        # The reading comes back as a row of the transaction, or as SampleTaken where none runs.
        await self._station.command(TakeSample(connector or None))
