"""The OCPP 1.6J dialect: what happens when.

Charter: puts the parts together for one station: registration, status reports, delivery, heartbeat,
authorization of drivers, and the CSMS's requests. The parts hold the rules; here is only the order.

Sources: OCPP 1.6 edition 2 and errata 4; checklist part 1.
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
from agent.ocpp.v16 import charging, commands, keys, messages
from agent.ocpp.v16.status import StatusReporter
from agent.ocpp.v16.transactions import TransactionIds, TransactionTranslator, meter_values
from agent.ocpp.version import Version

log = structlog.get_logger("ocpp")

ATTEMPTS_DEFAULT: Final = 3
RETRY_INTERVAL_DEFAULT_S: Final = 60

Answerer = Callable[[Payload], Awaitable[Payload | Reply]]


class Dialect16:
    """See ``agent.ocpp.dialect.Dialect``."""

    version = Version.V16

    def __init__(self, station: StationPort, view: StationView, rng: random.Random) -> None:
        self._station = station
        self._view = view
        self._line: Line | None = None
        self._jobs = Jobs()
        self._registration = Registration(rng)
        self._statuses = StatusReporter(view)
        self._ids = TransactionIds()
        self.delivery = Delivery(
            station,
            view.welcome.identity,
            TransactionTranslator(station, view, self._ids),
            self._retry_policy,
            new_id_on_retry=True,
        )
        self._answerers = self._table()
        self.supported = frozenset(self._answerers)

    def _table(self) -> dict[str, Answerer]:
        station, view, ids = self._station, self._view, self._ids
        return {
            "ChangeAvailability": partial(commands.change_availability, station, view),
            "ChangeConfiguration": self._change_configuration,
            "ClearCache": self._clear_cache,
            "ClearChargingProfile": partial(charging.clear_charging_profile, station),
            "DataTransfer": self._data_transfer,
            "GetCompositeSchedule": partial(charging.get_composite_schedule, station, view),
            "GetConfiguration": self._get_configuration,
            "RemoteStartTransaction": partial(commands.remote_start, station, view),
            "RemoteStopTransaction": partial(commands.remote_stop, station, ids),
            "Reset": partial(commands.reset, station),
            "SetChargingProfile": partial(charging.set_charging_profile, station, view, ids),
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
                boot = messages.boot_notification(self._view.welcome)
                await self._registration.register(line, boot, self._station)
                await self._adopt_heartbeat_interval()
                await self._station.link_state(True, self.version.value)
                tasks.create_task(self._statuses.run(line))
                tasks.create_task(self.delivery.run(line))
                tasks.create_task(keep_beating(line, self._station, self._heartbeat_s))
        finally:
            self._line = None
            self._jobs.open(None)
            await self._station.link_state(False, None)

    async def _adopt_heartbeat_interval(self) -> None:
        """16-BOOT-02: the interval of the boot becomes the setting, which the CSMS may change later."""
        interval_s = self._registration.take_interval_s()
        if interval_s is None or self._heartbeat_s() == interval_s:
            return
        write = SettingWrite("OCPPCommCtrlr", "HeartbeatInterval", str(interval_s))
        [status] = await self._station.set_settings([write])
        log.info("heartbeat_interval", interval_s=interval_s, status=status)

    def _heartbeat_s(self) -> float:
        setting_s = self._view.integer(keys.HEARTBEAT_INTERVAL, 0)
        return setting_s if setting_s > 0 else self._registration.heartbeat_s

    def _retry_policy(self) -> RetryPolicy:
        return RetryPolicy(
            self._view.integer(keys.MESSAGE_ATTEMPTS, ATTEMPTS_DEFAULT),
            self._view.integer(keys.MESSAGE_RETRY_INTERVAL, RETRY_INTERVAL_DEFAULT_S),
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

    def _later(self, job: Callable[[Line], Awaitable[None]]) -> bool:
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
                verdict = messages.read_id_tag_info(outcome.payload["idTagInfo"])
        finally:
            # However the call ends: a driver waits for this.
            await self._station.token_verdict(wanted.token, verdict, request_id=wanted.request_id)

    async def _send_sample(self, record: Record, line: Line) -> None:
        fact = record.fact
        if isinstance(fact, MeterFact):
            payload = meter_values(self._view, fact.evse, (fact.sample,), record.clock_offset_ms, None)
            if payload is not None:
                await line.call("MeterValues", payload, priority=Priority.STATUS)

    # ---------------------------------------------------------------------------- from the CSMS

    async def handle(self, action: str, payload: Payload) -> Payload | Reply:
        """See ``Dialect.handle``."""
        match self._registration.admit(action):
            case Admission.SERVE:
                return await self._answerers[action](payload)
            case Admission.REJECT_START:
                return {"status": "Rejected"}  # 16-BOOT-03
            case Admission.REFUSE:
                raise RpcError(ErrorCode.SECURITY_ERROR, "not registered")

    async def _get_configuration(self, request: Payload) -> Payload:
        return keys.get_configuration(self._view, request.get("key", []))

    async def _change_configuration(self, request: Payload) -> Payload:
        return await keys.change_configuration(self._view, self._station, request["key"], request["value"])

    async def _clear_cache(self, _request: Payload) -> Payload:
        return await commands.clear_cache(self._station)

    async def _data_transfer(self, request: Payload) -> Payload:
        return commands.data_transfer(self._view, request)

    async def _trigger(self, request: Payload) -> Payload | Reply:
        """TriggerMessage.conf: the answer goes first, then the message (16-CMD-08)."""
        connector = request.get("connectorId")
        known = connector is None or connector == 0 or connector in self._view.welcome.evses
        match request["requestedMessage"]:
            case "BootNotification":
                if self._registration.is_accepted:
                    return {"status": "Rejected"}
                return Reply({"status": "Accepted"}, after=self._registration.ask_again)
            case "Heartbeat":
                return self._accept_and(partial(beat, station=self._station))
            case "StatusNotification" if known:
                return self._accept_and(partial(self._tell_statuses, connector))
            case "MeterValues" if known:
                return self._accept_and(partial(self._take_sample, connector))
            case "StatusNotification" | "MeterValues":
                return {"status": "Rejected"}
            case _:
                return {"status": "NotImplemented"}

    def _accept_and(self, job: Callable[[Line], Awaitable[None]]) -> Reply:
        def after() -> None:
            if not self._later(job):
                log.warning("trigger_dropped")  # the connection ended meanwhile, or the CSMS triggers too much

        return Reply({"status": "Accepted"}, after=after)

    async def _tell_statuses(self, connector: int | None, line: Line) -> None:
        for evse in (0, *self._view.welcome.evses) if connector is None else (connector,):
            await self._statuses.tell(line, evse)

    async def _take_sample(self, connector: int | None, _line: Line) -> None:
        # The reading comes back as a row of the transaction, or as SampleTaken where none runs.
        await self._station.command(TakeSample(connector or None))
