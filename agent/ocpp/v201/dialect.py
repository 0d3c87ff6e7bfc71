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
from agent.ipc.port import AuthorizeWanted, Record, StationPort, TokenVerdict
from agent.ocpp import firmware_messages
from agent.ocpp.conversation import Answerer, Conversation
from agent.ocpp.dialect import Line, StationView
from agent.ocpp.frames import Payload
from agent.ocpp.heartbeat import beat
from agent.ocpp.session import Reply
from agent.ocpp.v201 import charging, commands, firmware, messages, variables
from agent.ocpp.v201.status import StatusReporter
from agent.ocpp.v201.transactions import TransactionTranslator, meter_values
from agent.ocpp.version import Version


class Dialect201(Conversation):
    """See ``agent.ocpp.dialect.Dialect``."""

    version = Version.V201

    def __init__(self, station: StationPort, view: StationView, rng: random.Random) -> None:
        self._statuses = StatusReporter(view)
        translator = TransactionTranslator(station, view)
        super().__init__(station, view, rng, translator, self._statuses, new_id_on_retry=False)

    def _table(self) -> dict[str, Answerer]:
        station, view = self._station, self._view
        table: dict[str, Answerer] = {
            "ChangeAvailability": partial(commands.change_availability, station, view),
            "ClearCache": partial(commands.clear_cache, station),
            "CostUpdated": partial(commands.cost_updated, station),
            "ClearChargingProfile": partial(charging.clear_charging_profile, station),
            "DataTransfer": partial(commands.data_transfer, station, view),
            "GetBaseReport": self._get_base_report,
            "GetCompositeSchedule": partial(charging.get_composite_schedule, station, view),
            "GetTransactionStatus": partial(commands.transaction_status, station),
            "GetVariables": partial(variables.get_variables, station, view),
            "RequestStartTransaction": partial(commands.request_start, station, view),
            "RequestStopTransaction": partial(commands.request_stop, station),
            "Reset": partial(commands.reset, station, view),
            "SetChargingProfile": partial(charging.set_charging_profile, station, view),
            "SetVariables": partial(variables.set_variables, station, view),
            "TriggerMessage": self._trigger,
            "UnlockConnector": partial(commands.unlock_connector, station, view),
        }
        if firmware_messages.offered(view):
            table["UpdateFirmware"] = partial(firmware.update_firmware, station)
        return table

    # ----------------------------------------------------------------------- what 2.0.1 says

    def _boot_notification(self) -> Payload:
        return messages.boot_notification(self._view.welcome)

    def _boot_begins(self) -> None:
        self._statuses.forget()  # B01: all connectors are told anew

    def _authorize_request(self, token: Token) -> Payload:
        return messages.authorize(token)

    def _read_verdict(self, answer: Payload, wanted: AuthorizeWanted) -> TokenVerdict:
        return messages.read_id_token_info(answer["idTokenInfo"], wanted.evse)

    def _price_text(self, answer: Payload) -> str:
        return messages.personal_message(answer)

    def _meter_values(self, record: Record) -> Payload | None:
        return meter_values(self._view, record, record.fact) if isinstance(record.fact, MeterFact) else None

    # ---------------------------------------------------------------------------- from the CSMS

    async def _get_base_report(self, request: Payload) -> Payload | Reply:
        """GetBaseReportResponse (B07)."""
        data = await self._station.report(request["reportBase"])
        if data is None:
            return {"status": "NotSupported"}
        if not data:
            return {"status": "EmptyResultSet"}
        wall_ms = (await self._station.status()).wall_ms
        return self._accept_and(
            partial(variables.send_report, variables.report_parts(request["requestId"], wall_ms, data))
        )

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
            case "FirmwareStatusNotification" if firmware_messages.offered(self._view):
                return self._accept_and(partial(firmware.tell_status, station=self._station))
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
