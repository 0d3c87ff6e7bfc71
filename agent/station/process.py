"""The station process: event loop, devices, ledger, socket.

Charter: turns everything that happens into events for the logic, in one thread and without ever
waiting in between, and carries out what it answers. Ends in a safe state on a signal, on a command,
and on any error of its own: hardware is told to open before anything else is cleaned up.

Exit codes: 0 stopped on request, 75 restart wanted (reset, configuration), 70 an error of our own,
74 the ledger failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import pwd
import signal
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from agent.charging.composite import Feed
from agent.charging.records import MalformedRecord, set_from_plain
from agent.charging.rules import Capabilities
from agent.config.catalogue import key
from agent.config.device_model import DeviceModel
from agent.config.station_model import build_device_model
from agent.core.effects import (
    Answer,
    Append,
    Effect,
    Restart,
    SampleTaken,
    SaveAvailability,
    StatusChanged,
    TransactionEnded,
)
from agent.core.events import (
    ClockSet,
    Durable,
    Event,
    FromMeter,
    FromPilot,
    FromPower,
    LedgerLost,
    LinkChanged,
    Tick,
)
from agent.core.facts import BootFact, Fact, MeterFact, SecurityFact, kind_of
from agent.core.settings import StationSettings
from agent.core.station import Station
from agent.ipc.codec import encode_fact, from_json
from agent.ipc.port import ConnectorChanged, News, Record, RestartComing, RowsAppended, Welcome
from agent.ipc.port import SampleTaken as SampleNews
from agent.ipc.server import IpcServer
from agent.ipc.wire import PROTOCOL
from agent.ledger.errors import LedgerFailed
from agent.ledger.rows import NewRow, Row
from agent.ledger.state import Delete, Namespace, Put, StateChange
from agent.ledger.store import Birth, open_ledger
from agent.ledger.writer import LedgerWriter
from agent.station.archive import Archive
from agent.station.behaviour import behaviour_of
from agent.station.build import BUILD_TIME_MS, Build, monotonic_ms, note_boot_cause
from agent.station.hardware import Hardware, describe
from agent.station.limits import Limits
from agent.station.logic import Logic, ProfilesChanged
from agent.station.service import StationService, profiles_change
from agent.station.tokens import Tokens
from hal.ports import Back, Lost

EXIT_STOPPED, EXIT_ERROR, EXIT_LEDGER, EXIT_RESTART = 0, 70, 74, 75
GATEWAY_USER = "evsed-gateway"
_TICK_MS = 1_000  # deadlines come on time; this only keeps views fresh

log = structlog.get_logger("station")


class StationProcess:
    """Everything of the running station. ``run`` returns the exit code."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._stopping = asyncio.Event()
        self._exit_code = EXIT_STOPPED
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        wall_ms, status = _kept_clock()
        birth = Birth(
            build.software_version, build.config.station.serial, build.boot_id, monotonic_ms(), wall_ms, status
        )
        build.config.station.data_dir.mkdir(parents=True, exist_ok=True)
        opened = open_ledger(build.ledger_path, birth)
        self._writer = LedgerWriter(build.ledger_path, self._loop, self._ledger_failed)
        self._archive = Archive(build.ledger_path)
        self._model = self._make_model()
        self._logic = Logic(self._make_core(), self._make_limits())
        self._tokens = Tokens(build.config, self._model, self._logic.core, self, self._stored_cache())
        self._service = StationService(build, self._logic, self._tokens, self._archive, self._model, self)
        self._hardware = Hardware(build.config, monotonic_ms)
        self._server = IpcServer(
            build.socket_path, self._service, self._welcome, self._greetings, _allowed_uids(), self._gateway_gone
        )
        self._begin(opened.damaged, wall_ms, status)

    async def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop, EXIT_STOPPED)
        self._loop.set_exception_handler(self._crashed)
        await self._server.start()
        self._hardware.start(self.give)
        self.give(Tick())
        # What start-up made stays for ever: looking through it again would stop the loop for tens of milliseconds.
        gc.collect()
        gc.freeze()
        log.info("station ready", identity=self._build.config.station.identity, socket=str(self._build.socket_path))
        await self._stopping.wait()
        await self._close()
        return self._exit_code

    # --------------------------------------------------------------------------------- the one path

    def give(self, event: Event | ProfilesChanged) -> None:
        """Let the logic handle an event and carry out what follows, before anything else happens."""
        if isinstance(event, FromPilot | FromMeter | FromPower):
            _log_device(event)
        for effect in self._logic.step(event, monotonic_ms()):
            if not self._hardware.carry_out(effect):
                self._carry_out(effect)
        self._tokens.start_free_vehicles()
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline_ms, now_ms = self._logic.deadline_ms(), monotonic_ms()
        wait_ms = _TICK_MS if deadline_ms is None else min(_TICK_MS, max(0, deadline_ms - now_ms))
        self._timer = self._loop.call_later(wait_ms / 1_000, self.give, Tick())

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Append):
            self._append(effect)
        elif isinstance(effect, StatusChanged):
            log.info(
                "connector",
                evse=effect.status.evse,
                state=effect.status.state.value,
                faults=[fault.value for fault in effect.status.faults],
            )
            self.publish(ConnectorChanged(effect.status))
        elif isinstance(effect, Answer):
            self._service.answered(effect.command_id, effect.outcome, effect.tx_id)
        elif isinstance(effect, SaveAvailability):
            where = "station" if effect.evse is None else str(effect.evse)
            self._writer.append((), [Put(Namespace.AVAILABILITY, where, "yes" if effect.operative else "no")])
        elif isinstance(effect, SampleTaken):
            self._publish_sample(effect)
        elif isinstance(effect, TransactionEnded):
            self._transaction_ended(effect)
        elif isinstance(effect, Restart):
            self.publish(RestartComing(effect.cause))
            note_boot_cause(self._build.config, effect.cause)
            self._stop(EXIT_RESTART)
        else:
            raise AssertionError(f"nobody carries out {effect}")

    def _append(self, effect: Append) -> None:
        rows = [self._row(fact, effect.at_ms, effect.wall_ms, effect.time_status) for fact in effect.facts]
        self._writer.append(rows, on_durable=functools.partial(self._durable, effect.ticket))
        for row in rows:
            log.info("fact", kind=row.kind, tx=row.tx_id, evse=row.evse)

    def _row(self, fact: Fact, at_ms: int, wall_ms: int, status: str) -> NewRow:
        return NewRow(
            kind=kind_of(fact),
            body=encode_fact(fact),
            boot_id=self._build.boot_id,
            mono_ms=at_ms,
            wall_ms=wall_ms,
            time_status=status,
            tx_id=getattr(fact, "tx_id", None),
            evse=getattr(fact, "evse", None),
        )

    def _durable(self, ticket: int, rows: list[Row]) -> None:
        self.give(Durable(ticket))
        self.publish(RowsAppended(rows[-1].seq))

    def _publish_sample(self, effect: SampleTaken) -> None:
        ctx = self._logic.core.ctx
        fact = MeterFact(effect.evse, effect.sample)
        record = Record(0, "meter", fact, ctx.wall_ms, ctx.wall_offset_ms, ctx.time_status != "U")
        self.publish(SampleNews(record))

    def _transaction_ended(self, effect: TransactionEnded) -> None:
        log.info("transaction ended", tx=effect.tx_id, evse=effect.evse)
        if self._logic.limits.keep_transactions({tx.id for tx in self._logic.running().values()}):
            self._writer.append((), [profiles_change(self._logic.limits.profiles)])

    # ------------------------------------------------------------------------------ for the service

    def now_ms(self) -> int:
        return monotonic_ms()

    def publish(self, news: News) -> None:
        self._server.publish(news)

    async def save(self, changes: Sequence[StateChange]) -> None:
        done = asyncio.Event()
        self._writer.append((), changes, lambda _: done.set())
        await done.wait()

    def save_lazily(self, changes: Sequence[StateChange]) -> None:
        self._writer.append((), changes, lazy=True)

    def append_security(self, fact: SecurityFact) -> None:
        ctx, now_ms = self._logic.core.ctx, monotonic_ms()
        row = self._row(fact, now_ms, now_ms + ctx.wall_offset_ms, ctx.time_status)
        self._writer.append([row], on_durable=lambda rows: self.publish(RowsAppended(rows[-1].seq)))

    # ------------------------------------------------------------------------------------- start up

    def _make_model(self) -> DeviceModel:
        model = build_device_model(self._build.config, stored=self._archive.state(Namespace.SETTING))
        if model.discarded:
            log.warning("stored settings no longer valid, defaults hold", settings=list(model.discarded))
        return model

    def _make_core(self) -> Station:
        config, kept = self._build.config, self._archive.state(Namespace.AVAILABILITY)
        settings = StationSettings(
            evses=tuple(describe(evse) for evse in config.evse),
            timing=config.timing,
            behaviour=behaviour_of(self._model, config),
            operative=kept.get("station") != "no",
            inoperative_evses=frozenset(evse.id for evse in config.evse if kept.get(str(evse.id)) == "no"),
        )
        return Station(settings, lambda: str(uuid.uuid4()))

    def _make_limits(self) -> Limits:
        config, model = self._build.config, self._model
        feeds = tuple(
            Feed(
                evse_id=evse.id,
                hard_limit_ma=min(evse.max_current_ma, evse.board.limits.max_current_ma),
                voltage_mv=evse.voltage_v * 1_000,
                phases=evse.phases,
                minimum_ma=evse.board.limits.min_current_ma,
            )
            for evse in config.evse
        )
        capabilities = Capabilities(
            evse_count=len(feeds),
            max_stack_level=model.integer(key("SmartChargingCtrlr.ProfileStackLevel")),
            max_periods=model.integer(key("SmartChargingCtrlr.PeriodsPerSchedule")),
            max_installed=model.spec(key("SmartChargingCtrlr.Entries[ChargingProfiles]")).maximum or 1,
        )
        limits = Limits(feeds, config.limits.supply_current_ma, capabilities)
        stored = self._archive.state(Namespace.PROFILE).get("installed")
        if stored is not None:
            try:
                limits.profiles = set_from_plain(from_json(stored.encode()))
            except MalformedRecord as error:
                log.error("stored charging profiles cannot be read, none hold", reason=str(error))
        return limits

    def _stored_cache(self) -> dict[str, str]:
        return self._archive.state(Namespace.TOKEN)

    def _begin(self, damaged: str | None, wall_ms: int, status: str) -> None:
        """The first events of every start, in this order: clock, open transactions, boot row."""
        now_ms = monotonic_ms()
        source = "rtc" if status == "I" else "none"
        self._logic.step(ClockSet(wall_ms, source, trusted=False), now_ms)
        trusted_wall = wall_ms if status == "I" else None
        for found in self._archive.open_transactions(self._build.boot_id, now_ms, trusted_wall):
            log.warning("open transaction found", tx=found.tx_id, evse=found.evse, gap_ms=found.gap_ms)
            if found.evse in self._logic.core.evses:
                self._logic.step(found, now_ms)
        running = {tx.id for tx in self._logic.running().values()}
        if self._logic.limits.keep_transactions(running):
            self._writer.append((), [profiles_change(self._logic.limits.profiles)])
        self._writer.append(
            [self._row(BootFact(self._build.boot_cause, self._build.software_version), now_ms, wall_ms, status)]
        )
        self.append_security(SecurityFact("StartupOfTheDevice", self._build.boot_cause))
        if damaged is not None:
            log.error("ledger was damaged and is kept as evidence", detail=damaged)
            self.append_security(SecurityFact("TamperDetectionActivated", damaged[:255]))
        delivered = self._archive.delivered_seq()
        old = [tx_id for tx_id in self._archive.csms_txs() if self._archive.told_whole(tx_id, delivered)]
        if old:
            self._writer.append((), [Delete(Namespace.CSMS_TX, tx_id) for tx_id in old], lazy=True)

    def _welcome(self) -> Welcome:
        station = self._build.config.station
        return Welcome(
            protocol=PROTOCOL,
            boot_id=f"{self._build.boot_id}/{self._build.started_at_ms}",
            boot_cause=self._build.boot_cause,
            software_version=self._build.software_version,
            identity=station.identity,
            vendor=station.vendor,
            model=station.model,
            serial=station.serial,
            evses=tuple(self._logic.core.evses),
            settings=self._model.snapshot(secrets=True),
            head_seq=self._archive.head_seq(),
        )

    def _greetings(self) -> list[News]:
        return [ConnectorChanged(status) for status in self._logic.core.statuses()]

    # ---------------------------------------------------------------------------------------- ends

    def _gateway_gone(self) -> None:
        self._tokens.link(False, None)
        self.give(LinkChanged(False))

    def _ledger_failed(self, error: LedgerFailed) -> None:
        log.critical("ledger failed, charging stops", reason=str(error))
        self.give(LedgerLost())
        self._stop(EXIT_LEDGER)

    def _crashed(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        log.critical("error of our own, going safe", what=context.get("message"), exc_info=error)
        self._stop(EXIT_ERROR)

    def _stop(self, code: int) -> None:
        if not self._stopping.is_set():
            self._exit_code = code
            self._stopping.set()

    async def _close(self) -> None:
        log.info("station stops", exit_code=self._exit_code)
        if self._exit_code == EXIT_STOPPED:
            note_boot_cause(self._build.config, "ApplicationReset")
        await self._hardware.close()
        if self._timer is not None:
            self._timer.cancel()
        await self._server.close()
        await self._writer.close()
        self._archive.close()


def _log_device(event: FromPilot | FromMeter | FromPower) -> None:
    device = type(event).__name__.removeprefix("From").lower()
    if isinstance(event.event, Lost):
        log.warning("device lost", device=device, evse=event.evse, kind=event.event.kind.value, why=event.event.detail)
    elif isinstance(event.event, Back):
        log.info("device answers", device=device, evse=event.evse, detail=event.event.detail)


def _kept_clock() -> tuple[int, str]:
    """The machine's wall clock, and whether it can be believed at all ("I") or not ("U")."""
    wall_ms = int(datetime.now(UTC).timestamp() * 1_000)
    return wall_ms, "I" if wall_ms >= BUILD_TIME_MS else "U"


def _allowed_uids() -> frozenset[int]:
    """Ourselves, root, and the gateway's user where it exists."""
    uids = {os.getuid(), 0}
    with contextlib.suppress(KeyError):  # development, or a small install with a single user
        uids.add(pwd.getpwnam(GATEWAY_USER).pw_uid)
    return frozenset(uids)


async def run_station(build: Build) -> int:
    return await StationProcess(build).run()
