"""The station at work: logic, ledger, prices, tokens, updates and devices, joined.

Charter: turns everything that happens into events for the logic, in one thread and without ever waiting in
between, and carries out what it answers. What it stands on (clocks, disk, devices) is given, so that it runs in a
process of its own and in the simulated world alike. When to end, and what the process leaves behind, is the
process's business.

Exit codes that it asks for: 75 restart wanted (reset, configuration), 74 the ledger failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.billing.books import Stamp
from agent.config.variable import Key
from agent.core.effects import (
    Answer,
    Append,
    Effect,
    Restart,
    SampleTaken,
    SaveAvailability,
    SaveFaults,
    StatusChanged,
    TransactionEnded,
)
from agent.core.events import (
    Event,
    FromMeter,
    FromPilot,
    FromPower,
    LedgerLost,
    LinkChanged,
    Stalled,
    Tick,
    UpdateHold,
)
from agent.core.facts import BootFact, ClockFact, Fact, LogEntry, LogFact, MeterFact, SecurityFact, Token
from agent.core.vehicle import SWAP_MS
from agent.health.fold import Finding
from agent.ipc.port import ConnectorChanged, HealthChanged, News, Record, RestartComing, Welcome
from agent.ipc.port import SampleTaken as SampleNews
from agent.ipc.statistics import StationStatistics
from agent.ipc.wire import PROTOCOL
from agent.ledger.errors import LedgerFailed
from agent.ledger.retention import CutDone, CutOrder
from agent.ledger.side_records import PutKey, PutWitness
from agent.ledger.space import Reserve
from agent.ledger.state import Clear, Delete, Namespace, Put, StateChange
from agent.ledger.store import Birth, evidence_of, open_ledger
from agent.security.keys import oca_key
from agent.station.agreed_time import AgreedTime
from agent.station.archive import Archive
from agent.station.build import Build, make_durable_directory, note_boot_cause
from agent.station.clock import MachineClock, found_out
from agent.station.disk import Disk
from agent.station.ending_writer import EndingWriter
from agent.station.first_csms import cursor_at_start
from agent.station.health import StationHealth
from agent.station.logic import Logic, PricesChanged, ProfilesChanged
from agent.station.making import (
    identity_of,
    key_path,
    make_billing,
    make_core,
    make_limits,
    make_model,
    make_rows,
    make_tariffs,
    make_upkeep,
    read_text,
    refused_starts,
    unseen_damage,
)
from agent.station.networks import forgotten
from agent.station.next_look import NextLook
from agent.station.platform import Platform
from agent.station.recovery import Stranded, end_stranded
from agent.station.self_test import DeviceWatch
from agent.station.service import StationService, profiles_change
from agent.station.signers import MeterRecords
from agent.station.statistics import Statistics
from agent.station.tokens import Tokens
from agent.station.usage import Usage
from hal.ports import Back, Lost, MeterReading

if TYPE_CHECKING:
    from agent.station.updates import Updates

EXIT_LEDGER, EXIT_RESTART = 74, 75
DAY_MS = 86_400_000
UNCLEAN = ("PowerUp", "Watchdog")  # a process that ended in order leaves a note of why

log = structlog.get_logger("station")


class LiveStation:
    """One run of the station, from its start to its end, within a running event loop.

    After construction call ``begin``, then ``start``; at the end ``close``. ``publish`` takes news for whoever is
    connected; ``stop`` is asked, with an exit code, to end the run."""

    def __init__(
        self, build: Build, platform: Platform, publish: Callable[[News], None], stop: Callable[[int], None]
    ) -> None:
        self._build = build
        self._now_ms = platform.now_ms
        self._tick_ms = platform.tick_ms
        self._publish = publish
        self._stop = stop
        self.stop_cause = "ApplicationReset"
        self._loop = asyncio.get_running_loop()
        stall_s = SWAP_MS / 2_000  # it may have begun a second before the timer was due
        self._next_look = NextLook(self._loop, lambda: self.give(Tick()), stall_s, lambda: self.give(Stalled()))
        self._clock = clock = MachineClock(platform.machine_wall_ms, platform.clock_is_proven)
        software, serial = build.software_version, build.config.station.serial
        birth = Birth(software, serial, build.boot_id, self._now_ms(), clock.at_start_ms, clock.time_status)
        make_durable_directory(build.config.station.data_dir)
        opened = open_ledger(build.ledger_path, birth)
        if opened.rebuilt:
            log.warning("the ledger's table of transactions was wrong and is made anew from its rows")
        self._damaged = opened.damaged
        reserve = Reserve(build.ledger_path, floor_bytes=build.floor_bytes, look=platform.free_space)
        writer = platform.open_writer(build.ledger_path, self._ledger_failed, reserve.release)
        self._writer = EndingWriter(writer, self._ledger_failed)
        self._cutting = self._ledger_lost = self._closing = False
        self._availability_saved = asyncio.Event()
        self._availability_saved.set()
        self._archive = Archive(build.ledger_path)
        kept, last = self._archive.state(Namespace.CLOCK), self._archive.last_row()
        self._agreed = AgreedTime(kept, last, self._now_ms(), clock.witness_ms)
        self._model = make_model(build, self._archive)
        self._key = platform.metering_key(key_path(build.config))
        self._tariffs = make_tariffs(build, self._archive)
        core = make_core(build, self._archive, self._model, platform.new_tx_id, self._tariff_for)
        self._billing = make_billing(build, core, self._tariffs)
        limits = make_limits(build, self._archive, self._model)
        self.logic = Logic(core, limits, self._billing)
        self._tokens = Tokens(build.config, self._model, core, self, self._archive.state(Namespace.TOKEN))
        self._watch = DeviceWatch(build.config, lambda: self._health.gateway_is_there())
        self._updates = self._make_updates(platform)
        self._health = StationHealth(build, core, self, platform.process, self._troubles)
        self._usage = Usage(core, build.config.station.data_dir / "usage.sqlite", self._now_ms())
        self.service = StationService(
            build, self.logic, self._tokens, self._archive, self._model, self._updates, self._usage, self._health, self
        )
        self._devices = platform.devices(build.config)
        self._statistics = Statistics(
            core.evses,
            self._devices,
            self._archive,
            build.ledger_path,
            platform.process,
            self._now_ms,
            has_csms=build.config.csms is not None,
        )
        self._signers = MeterRecords(
            self._devices.signers(), identity_of(build), build.config.station.time_zone, self.append
        )
        rows = make_rows(build, self._archive, self._billing, self._key, self._model)
        known_meters = self._archive.meters_in_use()
        self._disk = Disk(self._writer, rows, self._signers, self.logic, self._key.key_id, known_meters, self)
        for evse in build.config.evse:
            self._model.put(Key("FiscalMetering", "PublicKey", evse=evse.id), self._key.public_oca)
        self._damage = unseen_damage(evidence_of(build.ledger_path), self._archive)
        self._forgotten = frozenset(self._archive.state(Namespace.FORGOTTEN))
        self.upkeep = make_upkeep(build, self, self._billing, reserve, platform.free_space, self._refused_starts)

    def start(self, controller_faults: Sequence[str] = ()) -> None:
        """Open the devices and go to work. ``controller_faults``: what went wrong with microcontrollers' firmware."""
        self._devices.start(self.give)
        self.give(Tick())
        if self._updates is not None:
            self._updates.start(controller_faults)

    async def close(self) -> None:
        """Everything into its safe state first, then the files. What the devices tell of being closed is no fault of
        theirs, and must not be kept as one: the logic hears nothing more."""
        self._closing = True
        self.service.monitoring.close()
        if self._updates is not None:
            self._updates.close()
        await self._devices.close()
        await self._usage.close()
        self._next_look.cancel()
        self._archive.close()  # first: the last to close is the writer, which leaves one tidy file
        await self._writer.close()

    # --------------------------------------------------------------------------------- the one path

    def give(self, event: Event | ProfilesChanged | PricesChanged) -> None:
        """Let the logic handle an event and carry out what follows, before anything else happens."""
        if self._closing:
            return
        self._next_look.heed()
        if isinstance(event, FromPilot | FromMeter | FromPower):
            _log_device(event)
            self._watch.hear(event)
            self._health.hear(event)
        if isinstance(event, FromMeter) and isinstance(event.event, MeterReading):
            self._disk.note_meter(event.evse, event.event)
        effects = self.logic.step(event, self._now_ms())
        if self.logic.limits.bound:
            self._save_bound_profiles()
        for effect in effects:
            self._statistics.hear(effect)
            if not self._devices.carry_out(effect):
                self._carry_out(effect)
        self._usage.look()
        self._tokens.start_free_vehicles()
        if self._updates is not None and not isinstance(event, UpdateHold):
            self._updates.look()
        self._health.look()
        self.service.look()
        self._set_timer()
        if (clock := self._clock.look(self.logic.core.ctx)) is not None:
            before_ms = self.wall_ms()
            self.give(clock)
            self.append(ClockFact(clock.wall_ms, clock.source, before_ms))

    def _set_timer(self) -> None:
        deadline_ms, now_ms = self.logic.deadline_ms(), self._now_ms()
        wait_ms = self._tick_ms if deadline_ms is None else min(self._tick_ms, max(0, deadline_ms - now_ms))
        self._next_look.within(wait_ms)

    def _carry_out(self, effect: Effect) -> None:
        """What no driver does."""
        if isinstance(effect, Append):
            self._disk.carry_out(effect)
        elif isinstance(effect, StatusChanged):
            log.info(
                "connector",
                evse=effect.status.evse,
                state=effect.status.state.value,
                faults=[fault.value for fault in effect.status.faults],
            )
            self.publish(ConnectorChanged(effect.status))
        elif isinstance(effect, Answer):
            self.service.answered(effect.command_id, effect.outcome, effect.tx_id)
        elif isinstance(effect, SaveAvailability):
            self._save_availability(effect)
        elif isinstance(effect, SaveFaults):
            self._disk.keep_faults(effect)
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

    def _save_bound_profiles(self) -> None:
        """A profile that came with a remote start is on disk before its transaction is."""
        self.logic.limits.bound = False
        self._writer.append((), [profiles_change(self.logic.limits.profiles)])

    def _save_availability(self, effect: SaveAvailability) -> None:
        where = "station" if effect.evse is None else str(effect.evse)
        self._availability_saved = saved = asyncio.Event()
        changes = [Put(Namespace.AVAILABILITY, where, "yes" if effect.operative else "no")]
        self._writer.append((), changes, lambda _: saved.set())

    def _refused_starts(self) -> str:
        """Why no transaction may begin, whatever else; empty: nothing speaks against it."""
        return refused_starts(self._build.config, self._damage, self._forgotten)

    async def acknowledge_damage(self) -> bool:
        """A person has seen that a ledger was damaged; False: there was nothing to see. Durable before it returns."""
        had = bool(self._damage)
        if had:
            seen = str(len(evidence_of(self._build.ledger_path)))
            await self.save([Put(Namespace.DAMAGE, "acknowledged", seen), Clear(Namespace.FORGOTTEN)])
            self._damage, self._forgotten = "", frozenset()
            self.upkeep.look_at_room()
        return had

    def learned_key(self, evse: int, public_der: bytes) -> None:
        """A signing meter has told the key of its records."""
        self._model.put(Key("FiscalMetering", "PublicKey", evse=evse), oca_key(public_der))

    def alarm(self) -> str:
        return self.upkeep.alarm()

    def _troubles(self) -> Iterator[Finding]:
        if self._damage:
            yield Finding("ledger_damaged", detail=self._damage)
        yield from self.upkeep.troubles()
        if self._updates is not None:
            yield from self._updates.troubles()

    def statistics(self) -> StationStatistics:
        return self._statistics.read(self.service.delivered_seq)

    def retire(self) -> None:
        """Rows that the CSMS has, or that no CSMS will ever ask for, and that are old enough go.

        Every clock must agree that they are (``AgreedTime``): one that is set years ahead makes nothing old. Where
        there is a CSMS, it must have told the time, since the machine's own clock may have come back wrong."""
        config, stamp = self._build.config, self.now_stamp()
        believed = stamp.time_status == "S" or (stamp.time_status == "I" and config.csms is None)
        if not believed or self._cutting:
            return  # nobody knows how old they are, or the last time is not over
        agreed_ms, kept = self._agreed.hear(stamp.mono_ms, stamp.wall_ms)
        self._writer.append((), [kept], lazy=True)
        told_seq = self._archive.head_seq() if config.csms is None else self._archive.delivered_seq()
        oldest_ms = agreed_ms - config.metering.retention_days * DAY_MS
        clocks = (stamp.boot_id, stamp.mono_ms, stamp.wall_ms, stamp.time_status)
        self._cutting = True
        self._writer.cut(CutOrder(told_seq, told_seq, oldest_ms, *clocks, self._billing.tariffs_in_use()), self._cut)

    def _cut(self, done: CutDone) -> None:
        self._cutting = False
        if done.rows:
            log.info("old rows removed", rows=done.rows, transactions=done.transactions, up_to_seq=done.last_seq)

    def _tariff_for(self, evse: int, token: Token, group: str | None) -> str | None:
        ctx = self.logic.core.ctx
        return self._tariffs.for_start(evse, token, group, ctx.sure_wall_ms, ctx.wall_ms)

    def _publish_sample(self, effect: SampleTaken) -> None:
        ctx = self.logic.core.ctx
        fact = MeterFact(effect.evse, effect.sample)
        record = Record(0, "meter", fact, ctx.wall_ms, ctx.wall_offset_ms, ctx.time_status != "U")
        self.publish(SampleNews(record))

    def _transaction_ended(self, effect: TransactionEnded) -> None:
        log.info("transaction ended", tx=effect.tx_id, evse=effect.evse)
        if self.logic.limits.keep_transactions({tx.id for tx in self.logic.running().values()}):
            self._writer.append((), [profiles_change(self.logic.limits.profiles)])

    # ------------------------------------------------------------------------------ for the service

    def now_ms(self) -> int:
        return self._now_ms()

    def publish(self, news: News) -> None:
        if isinstance(news, HealthChanged):
            self.service.monitoring.hear(news.parts)
        self._publish(news)

    async def save(self, changes: Sequence[StateChange | PutWitness]) -> None:
        done = asyncio.Event()
        self._writer.append((), changes, lambda _: done.set())
        await done.wait()

    async def availability_saved(self) -> None:
        await self._availability_saved.wait()

    def save_lazily(self, changes: Sequence[StateChange | PutWitness]) -> None:
        self._writer.append((), changes, lazy=True)

    def append(self, *facts: Fact, on_durable: Callable[[], None] | None = None) -> None:
        self._disk.append(*facts, stamp=self.now_stamp(), on_durable=on_durable)

    def commit(
        self, facts: Sequence[Fact], changes: Sequence[StateChange], on_durable: Callable[[], None] | None = None
    ) -> None:
        """Facts and changes in one commit."""
        self._disk.append(*facts, stamp=self.now_stamp(), changes=changes, on_durable=on_durable)

    def wall_ms(self) -> int:
        return self.now_stamp().wall_ms

    def engaged(self) -> bool:
        return self.logic.core.engaged

    def told_all(self) -> bool:
        online = self.logic.core.ctx.online
        return not online or self.service.delivered_seq >= self._archive.head_seq()

    def rebooting(self) -> None:
        """Whoever stops us now does it for the update."""
        self.stop_cause = "FirmwareUpdate"
        note_boot_cause(self._build.config, self.stop_cause)

    def now_stamp(self) -> Stamp:
        ctx, now_ms = self.logic.core.ctx, self._now_ms()
        return Stamp(self._build.boot_id, now_ms, now_ms + ctx.wall_offset_ms, ctx.time_status)

    # ------------------------------------------------------------------------------------- start up

    def begin(self) -> None:
        """The first events of every start, in this order: clock, open transactions, boot row."""
        now_ms = self._now_ms()
        clock = self._clock.first(kept := self._archive.clock_of(self._build.boot_id), now_ms)
        self.logic.step(clock, now_ms)  # what follows has its row already, or concerns devices: none is open yet
        if changes := cursor_at_start(self._archive, has_csms=self._build.config.csms is not None):
            self._writer.append((), changes)
            self.service.delivered_seq = self._archive.delivered_seq()
        if changes := forgotten(self._build.config, self._archive.state(Namespace.SETTING)):
            self._writer.append((), changes)
        trusted_wall = clock.wall_ms if self.logic.clock_known else None
        stranded: list[Fact] = []
        for found in self._archive.open_transactions(self._build.boot_id, now_ms, trusted_wall):
            log.warning("open transaction found", tx=found.tx_id, evse=found.evse)
            if isinstance(found, Stranded):
                stranded += end_stranded(found, now_ms)
            elif found.evse in self.logic.core.evses:
                self._billing.restore(self._archive.history(found.tx_id))
                self._signers.resume(found.evse, partial(self._archive.signed_before, found.tx_id, found.evse))
                self._statistics.resume(found.evse)
                self.logic.step(found, now_ms)
            else:
                why = f"EVSE {found.evse} is not configured any more"
                lost = Stranded(found.evse, found.tx_id, found.next_seq_no, found.last, found.gap, why)
                stranded += end_stranded(lost, now_ms)
        running = {tx.id for tx in self.logic.running().values()}
        if self.logic.limits.keep_transactions(running):
            self._writer.append((), [profiles_change(self.logic.limits.profiles)])
        last = self._archive.last_row()
        self.append(BootFact(self._build.boot_cause, self._build.software_version), *found_out(kept, self.now_stamp()))
        if self._build.boot_cause in UNCLEAN and last.seq > 1:
            times = (("boot_id", last.boot_id), ("mono_ms", str(last.mono_ms)), ("wall_ms", str(last.wall_ms)))
            self.append(LogFact(LogEntry.UNCLEAN_STOP, details=(("last_row", str(last.seq)), *times)))
        if stranded:
            self.append(*stranded)
        if self._key.key_id not in (known := self._archive.known_keys()):
            entry = LogEntry.KEY_IN_USE if known else LogEntry.KEY_CREATED
            used = LogFact(entry, details=(("key_id", self._key.key_id),))
            self._disk.append(used, stamp=self.now_stamp(), changes=[PutKey(self._key.key_id, self._key.public_der)])
        if facts := self._tariffs.read_site(read_text):
            self.append(*facts)
        self.append(SecurityFact("StartupOfTheDevice", self._build.boot_cause))
        if self._build.boot_cause != "PowerUp":
            self.append(SecurityFact("ResetOrReboot", self._build.boot_cause))
        if (damaged := self._damaged) is not None:
            log.error("ledger was damaged and is kept as evidence", detail=damaged)
            self.append(SecurityFact("TamperDetectionActivated", damaged[:255]))
        # Older software kept them all; what does not fit into one commit is left to the next start.
        if left_over := self._archive.left_over_csms_txs():
            self._writer.append((), [Delete(Namespace.CSMS_TX, tx_id) for tx_id in left_over], lazy=True)

    def welcome(self) -> Welcome:
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
            evses=tuple(self.logic.core.evses),
            settings=self._model.snapshot(secrets=True),
            head_seq=self._archive.head_seq(),
            firmware_version=self._build.firmware_version,
            takes_updates=self._updates is not None,
            roots=self.service.trust.pems,
            password_that_worked=self.service.password_that_worked,
        )

    def greetings(self) -> list[News]:
        updates = [] if self._updates is None else self._updates.greetings()
        return [*(ConnectorChanged(status) for status in self.logic.core.statuses()), *updates]

    def _make_updates(self, platform: Platform) -> Updates | None:
        build = self._build
        if build.config.update is None:
            return None
        from agent.station.updates import KEY, Updates  # only where the configuration asks for updates

        kept = self._archive.state(Namespace.FIRMWARE).get(KEY)
        talks = platform.installer(build.config)
        return Updates(build.config, self._model, self._watch, kept, self, talks)

    def gateway_gone(self) -> None:
        self._tokens.link(False, None)
        self.service.monitoring.link(None)
        self.give(LinkChanged(False))
        self._health.gateway_gone()
        if self._updates is not None:
            self._updates.gateway_gone()

    def _ledger_failed(self, error: LedgerFailed) -> None:
        if self._ledger_lost:
            return
        self._ledger_lost = True
        self._stop(EXIT_LEDGER)
        self.give(LedgerLost())
        log.critical("ledger failed, charging stops", reason=str(error))


def _log_device(event: FromPilot | FromMeter | FromPower) -> None:
    device = type(event).__name__.removeprefix("From").lower()
    if isinstance(event.event, Lost):
        log.warning("device lost", device=device, evse=event.evse, kind=event.event.kind.value, why=event.event.detail)
    elif isinstance(event.event, Back):
        log.info("device answers", device=device, evse=event.evse, detail=event.event.detail)
