"""The OCPP 2.0.1 dialect: what happens when.

Charter: puts the parts together for one station: registration, status reports, delivery, heartbeat,
authorization of drivers, and the CSMS's requests. The parts hold the rules; here is only the order.
Actions that are not in ``supported`` are answered NotSupported by the session.

Sources: OCPP 2.0.1 edition 3 part 2; checklist part 2.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from agent.core.commands import TakeSample
from agent.core.facts import MeterFact
from agent.ipc.port import (
    AuthorizeWanted,
    ConnectorChanged,
    News,
    Record,
    RowsAppended,
    SampleTaken,
    SettingWrite,
    StationPort,
    TokenVerdict,
)
from agent.ocpp.delivery import Delivery, RetryPolicy
from agent.ocpp.dialect import Caller, Jobs, Line, StationView, refuse_authorize, until_link_gone
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.frames import Payload
from agent.ocpp.heartbeat import beat, keep_beating
from agent.ocpp.registration import Admission, Registration
from agent.ocpp.rpc import CallResult, Priority
from agent.ocpp.session import Reply
from agent.ocpp.v201 import charging, commands, messages, settings, variables
from agent.ocpp.v201.status import StatusReporter
from agent.ocpp.v201.transactions import TransactionTranslator, meter_values
from agent.ocpp.version import Version

log = structlog.get_logger("ocpp")

ATTEMPTS_DEFAULT: Final = 3
ATTEMPT_INTERVAL_DEFAULT_S: Final = 60

Answerer = Callable[[Payload], Awaitable[Payload | Reply]]
Job = Callable[[Line], Awaitable[None]]


class Dialect201:
    """See ``agent.ocpp.dialect.Dialect``."""

    version = Version.V201

    def __init__(self, station: StationPort, view: StationView, rng: random.Random) -> None:
        self._station = station
        self._view = view
        self._line: Line | None = None
        self._jobs = Jobs()
        self._registration = Registration(rng)
        self._statuses = StatusReporter(view)
        self.delivery = Delivery(
            station,
            view.welcome.identity,
            TransactionTranslator(station, view),
            self._retry_policy,
            new_id_on_retry=False,
        )
        self._answerers = self._table()
        self.supported = frozenset(self._answerers)

    def _table(self) -> dict[str, Answerer]:
        station, view = self._station, self._view
        return {
            "ChangeAvailability": partial(commands.change_availability, station, view),
            "ClearCache": partial(commands.clear_cache, station),
            "ClearChargingProfile": partial(charging.clear_charging_profile, station),
            "DataTransfer": partial(commands.data_transfer, view),
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

    # ------------------------------------------------------------------------------- connection

    async def run(self, session: Caller) -> None:
        """See ``Dialect.run``."""
        await until_link_gone(self._converse(Line(session)))

    async def _converse(self, line: Line) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                self._line = line
                self._jobs.open(tasks)
                await self._register(line)
                await self._station.link_state(True, self.version.value)
                tasks.create_task(self._statuses.run(line))
                tasks.create_task(self.delivery.run(line))
                tasks.create_task(keep_beating(line, self._station, self._heartbeat_s))
        finally:
            self._line = None
            self._jobs.open(None)
            await self._station.link_state(False, None)

    async def _register(self, line: Line) -> None:
        boot = messages.boot_notification(self._view.welcome)
        if self._registration.is_needed(boot):
            self._statuses.forget()
        await self._registration.register(line, boot, self._station)
        await self._adopt_heartbeat_interval()

    async def _adopt_heartbeat_interval(self) -> None:
        """G02: the interval of the boot becomes the setting, which the CSMS may change later."""
        interval_s = self._registration.take_interval_s()
        if interval_s is None or self._heartbeat_s() == interval_s:
            return
        write = SettingWrite("OCPPCommCtrlr", "HeartbeatInterval", str(interval_s))
        [status] = await self._station.set_settings([write])
        log.info("heartbeat_interval", interval_s=interval_s, status=status)

    def _heartbeat_s(self) -> float:
        setting_s = self._view.integer(settings.HEARTBEAT_INTERVAL, 0)
        return setting_s if setting_s > 0 else self._registration.heartbeat_s

    def _retry_policy(self) -> RetryPolicy:
        return RetryPolicy(
            self._view.integer(settings.MESSAGE_ATTEMPTS, ATTEMPTS_DEFAULT),
            self._view.integer(settings.MESSAGE_ATTEMPT_INTERVAL, ATTEMPT_INTERVAL_DEFAULT_S),
        )

    # ------------------------------------------------------------------------- from the station

    async def hear(self, news: News) -> None:
        """See ``Dialect.hear``."""
        match news:
            case RowsAppended():
                self.delivery.wake()
            case ConnectorChanged(status):
                self._statuses.hear(status)
            case AuthorizeWanted():
                if not (self._registration.is_accepted and self._later(partial(self._authorize, news))):
                    await refuse_authorize(self._station, news)
            case SampleTaken(record):
                self._later(partial(self._send_sample, record))
            case _:
                pass  # the view has it

    def _later(self, job: Job) -> bool:
        """Run a job that needs the line, if there is one and not too much to do already."""
        line = self._line
        if line is None:
            return False

        async def run() -> None:
            await job(line)

        return self._jobs.later(run())

    async def _authorize(self, wanted: AuthorizeWanted, line: Line) -> None:
        verdict = TokenVerdict("")  # no answer: the station decides by its offline rules
        try:
            outcome = await line.call("Authorize", messages.authorize(wanted.token), priority=Priority.DRIVER)
            if isinstance(outcome, CallResult):
                verdict = messages.read_id_token_info(outcome.payload["idTokenInfo"], wanted.evse)
        finally:
            # However the call ends: a driver waits for this.
            await self._station.token_verdict(wanted.token, verdict, request_id=wanted.request_id)

    async def _send_sample(self, record: Record, line: Line) -> None:
        if isinstance(record.fact, MeterFact):
            payload = meter_values(self._view, record, record.fact)
            if payload is not None:
                await line.call("MeterValues", payload, priority=Priority.STATUS)

    # ---------------------------------------------------------------------------- from the CSMS

    async def handle(self, action: str, payload: Payload) -> Payload | Reply:
        """See ``Dialect.handle``."""
        match self._registration.admit(action):
            case Admission.SERVE:
                return await self._answerers[action](payload)
            case Admission.REJECT_START:
                return {"status": "Rejected"}  # B02
            case Admission.REFUSE:
                raise RpcError(ErrorCode.SECURITY_ERROR, "not registered")  # B03

    def _accept_and(self, job: Job) -> Reply:
        """The answer goes first, then what was asked for (F06, B07)."""

        def after() -> None:
            if not self._later(job):
                log.warning("trigger_dropped")  # the connection ended meanwhile, or the CSMS asks too much

        return Reply({"status": "Accepted"}, after=after)

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
