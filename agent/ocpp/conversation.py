"""A dialect's life on a connection, the same for every version.

Charter: the order of things (registration, then status reports, delivery and heartbeat), jobs that
answers leave behind, drivers' tokens, and what registration admits. What is said, and in which
spelling, is each version's: a few hooks and a table of answers.

Sources: OCPP 1.6 sections 4.2 to 4.8, OCPP 2.0.1 B01-B03, C01, G02, F06; checklist part 4 (RPC-12, RPC-13).
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, Protocol

import structlog

from agent.core.facts import Token
from agent.core.status import ConnectorStatus
from agent.ipc.port import (
    AuthorizeWanted,
    ConnectorChanged,
    News,
    Record,
    RowsAppended,
    SampleTaken,
    SettingsChanged,
    SettingWrite,
    StationPort,
    TokenVerdict,
)
from agent.ocpp.delivery import Delivery, Translator
from agent.ocpp.dialect import Caller, Jobs, Line, StationView, refuse_authorize, until_link_gone
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.frames import Payload
from agent.ocpp.heartbeat import keep_beating
from agent.ocpp.log_requests import LogReport, LogUploads
from agent.ocpp.registration import Admission, Registration
from agent.ocpp.retry import RetryPolicy
from agent.ocpp.rpc import CallError, CallResult, Priority
from agent.ocpp.session import Reply
from agent.ocpp.version import Version

log = structlog.get_logger("ocpp")

HEARTBEAT_INTERVAL: Final = "OCPPCommCtrlr.HeartbeatInterval"
MESSAGE_ATTEMPTS: Final = "OCPPCommCtrlr.MessageAttempts[TransactionEvent]"
MESSAGE_ATTEMPT_INTERVAL: Final = "OCPPCommCtrlr.MessageAttemptInterval[TransactionEvent]"
ATTEMPTS_DEFAULT: Final = 3
ATTEMPT_INTERVAL_DEFAULT_S: Final = 60

# The CSMS has judged the token, maybe refused it, and we cannot read how. So it starts nothing, and what was known of
# it before is known no more: the cache would let it in as soon as the link is lost.
_UNREADABLE: Final = TokenVerdict("Invalid", everywhere=False)

Answerer = Callable[[Payload], Awaitable[Payload | Reply]]
Job = Callable[[Line], Awaitable[None]]


class Statuses(Protocol):
    """Reports connector states in the version's own words."""

    def hear(self, status: ConnectorStatus) -> None: ...

    def forget(self) -> None:
        """The CSMS is about to be told of a boot and knows nothing of us, or was told in another version since: all
        connectors are told anew."""
        ...

    async def run(self, line: Line) -> None: ...


class Conversation(ABC):
    """See ``agent.ocpp.dialect.Dialect``; subclasses fill in what their version says."""

    version: Version

    def __init__(
        self,
        station: StationPort,
        view: StationView,
        rng: random.Random,
        translator: Translator,
        statuses: Statuses,
        logs: LogUploads | None,
        *,
        new_id_on_retry: bool,
    ) -> None:
        self._station = station
        self._view = view
        self._line: Line | None = None
        self._jobs = Jobs()
        self._registration = Registration(rng)
        self._reporter = statuses
        self._logs = logs
        self._settings_changed = asyncio.Event()
        self.delivery = Delivery(
            station, view.welcome.identity, translator, self._retry_policy, new_id_on_retry=new_id_on_retry
        )
        self._answerers = self._table()
        self.supported = frozenset(self._answerers)

    @property
    def registration(self) -> str:
        """See ``agent.ocpp.dialect.Dialect``."""
        return self._registration.state.value

    # ------------------------------------------------------------------------ what a version says

    @abstractmethod
    def _table(self) -> Mapping[str, Answerer]:
        """The CSMS's actions that are taken, and who answers them."""

    @abstractmethod
    def _boot_notification(self) -> Payload: ...

    @abstractmethod
    def _authorize_request(self, token: Token) -> Payload: ...

    @abstractmethod
    def _read_verdict(self, answer: Payload, wanted: AuthorizeWanted) -> TokenVerdict: ...

    @abstractmethod
    def _meter_values(self, record: Record) -> Payload | None:
        """MeterValues of a reading outside transactions; None where nothing is wanted of it."""

    @abstractmethod
    def _log_notification(self, report: LogReport) -> tuple[str, Payload] | None:
        """The message of a step of a log's upload; None where this version has no words for it."""

    def _price_text(self, answer: Payload) -> str:  # noqa: ARG002 - not every version says it there
        """What charging costs this token, in the words of the answer to Authorize; empty: it says nothing."""
        return ""

    # --------------------------------------------------------------------------------- connection

    def others_spoke(self) -> None:
        """See ``Dialect.others_spoke``."""
        self._reporter.forget()
        self.delivery.others_spoke()

    async def run(self, session: Caller) -> None:
        """See ``Dialect.run``."""
        line = Line(session, self._registration.may_talk, self._registration.was_denied)
        is_over = False
        while not is_over:
            line.is_forgotten = False
            await until_link_gone(self._converse(line))
            is_over = not line.is_forgotten

    async def _converse(self, line: Line) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                self._line = line
                self._jobs.open(tasks)
                boot = self._boot_notification()
                if self._registration.is_needed(boot):
                    self._reporter.forget()
                await self._registration.register(line, boot, self._station)
                await self._adopt_heartbeat_interval()
                await self._station.link_state(True, self.version.value)
                tasks.create_task(self._reporter.run(line))
                tasks.create_task(self.delivery.run(line))
                tasks.create_task(keep_beating(line, self._station, self._heartbeat_s, self._settings_changed))
                if self._logs is not None:
                    tasks.create_task(self._logs.tell(line, self._log_notification))
        finally:
            self._line = None
            self._jobs.open(None)
            await self._station.link_state(False, None)

    async def _adopt_heartbeat_interval(self) -> None:
        """16-BOOT-02, G02: the interval of the boot becomes the setting, which the CSMS may change later."""
        interval_s = self._registration.take_interval_s()
        if interval_s is None or self._heartbeat_s() == interval_s:
            return
        write = SettingWrite("OCPPCommCtrlr", "HeartbeatInterval", str(interval_s))
        [status] = await self._station.set_settings([write])
        log.info("heartbeat_interval", interval_s=interval_s, status=status)

    def _heartbeat_s(self) -> float:
        setting_s = self._view.integer(HEARTBEAT_INTERVAL, 0)
        return setting_s if setting_s > 0 else self._registration.heartbeat_s

    def _retry_policy(self) -> RetryPolicy:
        return RetryPolicy(
            self._view.integer(MESSAGE_ATTEMPTS, ATTEMPTS_DEFAULT),
            self._view.integer(MESSAGE_ATTEMPT_INTERVAL, ATTEMPT_INTERVAL_DEFAULT_S),
        )

    # --------------------------------------------------------------------------- from the station

    async def hear(self, news: News) -> None:
        """See ``Dialect.hear``."""
        match news:
            case RowsAppended():
                self.delivery.wake()
            case ConnectorChanged(status):
                self._reporter.hear(status)
            case AuthorizeWanted():
                if not (self._registration.is_accepted and self._later(partial(self._authorize, news))):
                    await refuse_authorize(self._station, news)
            case SampleTaken(record):
                self._later(partial(self._send_sample, record))
            case SettingsChanged():
                self._settings_changed.set()
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
            request = self._authorize_request(wanted.token)
            outcome = await line.call("Authorize", request, priority=Priority.DRIVER)
            if isinstance(outcome, CallResult):
                verdict = self._read_verdict(outcome.payload, wanted)
                if text := self._price_text(outcome.payload):
                    await self._station.told_price(wanted.token, text)
            elif isinstance(outcome, CallError) and outcome.unusable:
                verdict = _UNREADABLE
        finally:
            # However the call ends: a driver waits for this.
            await self._station.token_verdict(wanted.token, verdict, request_id=wanted.request_id)

    async def _send_sample(self, record: Record, line: Line) -> None:
        payload = self._meter_values(record)
        if payload is not None:
            await line.call("MeterValues", payload, priority=Priority.STATUS)

    # ------------------------------------------------------------------------------ from the CSMS

    async def handle(self, action: str, payload: Payload) -> Payload | Reply:
        """See ``Dialect.handle``."""
        match self._registration.admit(action):
            case Admission.SERVE:
                return await self._answerers[action](payload)
            case Admission.REJECT_START:
                return {"status": "Rejected"}  # 16-BOOT-03, B02
            case Admission.REFUSE:
                raise RpcError(ErrorCode.SECURITY_ERROR, "not registered")  # B03

    def _accept_and(self, job: Job) -> Reply:
        """The answer goes first, then what was asked for (16-CMD-08, F06, B07)."""

        def after() -> None:
            if not self._later(job):
                log.warning("trigger_dropped")  # the connection ended meanwhile, or the CSMS asks too much

        return Reply({"status": "Accepted"}, after=after)
