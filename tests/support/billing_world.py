"""A whole station that meters, prices, signs and stores, in virtual time: only car, meter and CSMS are made up.

Charter: the station's own core, logic, prices, row maker and archive around the ledger's own commit on a real file,
wired as ``agent.station.live`` wires them. Verbs say what happens outside (plug, draw, cut the power); what was
true all along (``drawn_mwh``) stands beside what the station wrote. Rows not yet committed die with a crash.

Units: mWh, mA, ms; ``wall_ms`` is what a right clock shows, ``mono_ms`` the time since this boot.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from agent.billing import read
from agent.billing.books import Books, Stamp, Terms
from agent.billing.facts import Operator, Software
from agent.billing.ledger_check import DocumentCheck
from agent.billing.record import Identity
from agent.charging.composite import Feed
from agent.charging.rules import Capabilities
from agent.config.money import PriceConfig
from agent.core.effects import AllowPower, Append, Effect, ReadMeter, SetDuty
from agent.core.events import (
    Authorized,
    ClockSet,
    Durable,
    Event,
    FromMeter,
    FromPilot,
    LimitSet,
    LinkChanged,
    Recovered,
    StopAuthorized,
    Tick,
)
from agent.core.facts import BootFact, Fact, LogEntry, LogFact, Token, TransactionFact
from agent.core.settings import Behaviour, EvseHardware, StationSettings
from agent.core.station import Station
from agent.ipc.port import Record, RowsAppended
from agent.ledger import database, tables
from agent.ledger.book import Book, Job
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row
from agent.ledger.side_records import PutKey
from agent.ledger.state import Namespace, StateChange
from agent.ledger.writer import OnDurable
from agent.station.archive import Archive
from agent.station.billing import Billing
from agent.station.clock import MachineClock, found_out
from agent.station.disk import Disk
from agent.station.limits import Limits
from agent.station.logic import Logic, PricesChanged
from agent.station.money import Money
from agent.station.rows import RowMaker, Seller
from agent.station.signers import MeterRecords
from agent.station.tariffs import TariffBook
from agent.tariff.model import EvseKind
from hal.ports import Back, Cable, Contactor, CpState, LossKind, Lost, MeterReading, PilotState
from hal.sim.vehicle_port import vehicle_current_ma
from tests.support.asked import Asked, at_once
from tests.support.new_station import new_ledger, station_key

CARD = Token("04A1B2C3")
ZONE = "Europe/Berlin"
NOON_MS = 1_796_119_200_000  # 2026-12-01 10:00 UTC, 11:00 in Berlin
VOLT = 230
SOFTWARE = Software(version="0.1.0", checksum="ab" * 32)
IDENTITY = Identity("Maker Model", "S-1", "0.1.0", "ab" * 32, "CS-1")
SELLER = Seller(Operator(name="Operator"), "CS-1", "Maker", "Model", "S-1", SOFTWARE, ZONE)


class _Writer:
    """The ledger's writer without its thread."""

    def __init__(self, world: BillingWorld) -> None:
        self.append = world.write


@dataclass(frozen=True)
class Site:
    """What is configured. ``texts`` are the files that ``price`` names."""

    price: PriceConfig = field(default_factory=PriceConfig)
    texts: dict[str, str] = field(default_factory=dict)
    kind: EvseKind = EvseKind.AC
    rollover_mwh: int | None = None
    behaviour: Behaviour = field(default_factory=Behaviour)
    identity: Identity = IDENTITY
    signs_begin: bool = True
    has_csms: bool = True

    @classmethod
    def selling(cls, tariff: str, **others: Any) -> Site:
        return cls(PriceConfig(tariff=Path("site")), {"site": tariff}, **others)


class BillingWorld:
    """One EVSE. Close it, or use it as a context."""

    def __init__(
        self, site: Site | None = None, *, wall_ms: int = NOON_MS, clock: str = "S", online: bool = True
    ) -> None:
        self.site = site or Site()
        self._place = tempfile.TemporaryDirectory()
        self.path = Path(self._place.name) / "ledger"
        self.path.write_bytes(new_ledger())
        self.key = station_key()
        self._ids, self._boots = itertools.count(1), itertools.count(1)
        self.wall_ms = wall_ms
        self.online = online
        self.cp = CpState.A
        self.car_ma = 0
        self.closed = False
        self.serial = "M1"
        self.meter_silent, self.meter_step_mwh, self.meter_lag_ms = False, 1, 0  # so old is a reading that is told
        self.stuck_mwh: int | None = None  # what the register shows instead of the truth
        self.register_mwh, self.drawn_mwh = 5_000_000, 0
        self._fraction = 0  # of a mWh, in mW ms
        self._duty = 10_000
        self.boot_id, self.mono_ms = "", 0
        self.machine_clock: int | None = wall_ms if clock != "U" else None  # None: it lost the time
        self.hardware_clock = self.machine_clock or 0  # what vouches for it by showing the same
        self.slow_disk = False
        self._waiting: list[tuple[Job, OnDurable | None]] = []
        self._told_durable: list[Durable] = []
        self._asked: list[Asked[str]] = []
        self._boot(power=True)
        if clock == "S":
            self.give(ClockSet(self.wall_ms, "csms", trusted=True))

    def __enter__(self) -> BillingWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.flush()
        self._leave()
        self._place.cleanup()

    # ---------------------------------------------------------------------------------- the process

    def _boot(self, *, power: bool) -> None:
        """As ``LiveStation`` does it."""
        if power:
            self.boot_id, self.mono_ms = f"boot-{next(self._boots)}", 3_000
        self._connection = database.connect_for_writing(self.path)
        self._connection.execute("PRAGMA synchronous = OFF")  # a crash here is of the process, told by dropped jobs
        self.archive = kept = Archive(self.path)
        self._book = Book(self._connection, tables.head(self._connection, self.path))
        price, site = self.site.price, self.site
        find, source_of, stored = kept.tariff_text, kept.tariff_source, kept.state(Namespace.TARIFF)
        self.tariffs = TariffBook(price, [1], find, source_of, stored, has_csms=site.has_csms, has_zone=True)
        hardware = EvseHardware(1, 32_000, phases=1, meter_rollover_mwh=site.rollover_mwh)
        settings = StationSettings((hardware,), behaviour=site.behaviour)
        self.core = Station(settings, lambda: f"tx-{next(self._ids)}", self._tariff_for)
        self.billing = Billing(
            self.core,
            self.tariffs,
            lambda _: Terms(ZONE, site.kind, price.time_policy.value),
            self.boot_id,
            most_mw={1: 32 * VOLT * 1_000},
            min_energy_mwh=price.minimum_billable_wh * 1_000,
        )
        limits = Limits((Feed(1, 32_000, VOLT * 1_000, 1),), None, Capabilities(1, 9, 24, 10))
        self.logic = Logic(self.core, limits, self.billing)
        ends = self.archive.state(Namespace.METER)
        self.rows = RowMaker(self.billing, site.identity, SELLER, self.key, ends, lambda: site.signs_begin)
        self.money = Money(self.core, self.billing, cast(Any, None), self, self.archive.costs_told, self.append)
        signers = MeterRecords({}, site.identity, ZONE, self.append)
        known = self.archive.meters_in_use()
        self.disk = Disk(cast(Any, _Writer(self)), self.rows, signers, self.logic, self.key.key_id, known, self)
        self._begin()
        self._devices_come()

    def _tariff_for(self, evse: int, token: Token, group: str | None) -> str | None:
        ctx = self.core.ctx
        return self.tariffs.for_start(evse, token, group, ctx.sure_wall_ms, ctx.wall_ms)

    def _begin(self) -> None:
        shown_ms = self.mono_ms if self.machine_clock is None else self.machine_clock
        machine = MachineClock(
            lambda: shown_ms, lambda ms: abs(ms - self.hardware_clock) < 5_000, earliest_ms=NOON_MS // 2
        )
        clock = machine.first(kept := self.archive.clock_of(self.boot_id), self.mono_ms)
        self.logic.step(clock, self.mono_ms)
        wall_ms = clock.wall_ms if self.logic.clock_known else None
        for found in self.archive.open_transactions(self.boot_id, self.mono_ms, wall_ms):
            self.billing.restore(self.archive.history(found.tx_id))
            self.logic.step(cast(Recovered, found), self.mono_ms)  # nobody carries out what follows: there is no device
        self.append(BootFact("PowerUp", "0.1.0"), *found_out(kept, self.now_stamp()))
        if self.key.key_id not in self.archive.known_keys():
            created = LogFact(LogEntry.KEY_CREATED, details=(("key_id", self.key.key_id),))
            keys = [PutKey(self.key.key_id, self.key.public_der)]
            self.disk.append(created, stamp=self.now_stamp(), changes=keys)
        if facts := self.tariffs.read_site(self.site.texts.__getitem__):
            self.append(*facts)

    def _devices_come(self) -> None:
        self.closed, self._duty = False, 10_000
        for event in (Back("board"), Cable(None), Contactor(False), PilotState(self.cp)):
            self.give(FromPilot(1, event))
        if self.online:
            self.give(LinkChanged(True))
        self.give(FromMeter(1, Lost(LossKind.SILENT, "no answer") if self.meter_silent else Back("meter")))
        self.read_meter()

    def _leave(self) -> None:
        self.closed = False
        for asked in self._asked:
            asked.forget()
        self._connection.close()
        self.archive.close()

    def give(self, event: Event | PricesChanged) -> None:
        """One event and all that follows from it, with the commits of a quick disk."""
        events: list[Event | PricesChanged] = [event]
        while events:
            now = events.pop(0)
            if isinstance(now, Durable):
                self._told_durable.append(now)
            if isinstance(now, FromMeter) and isinstance(now.event, MeterReading):
                self.disk.note_meter(1, now.event)
            for effect in self.logic.step(now, self.mono_ms):
                events += self._carry_out(effect)
            self.money.look()
        if not self.slow_disk:
            self.flush()

    def _carry_out(self, effect: Effect) -> list[Event]:
        if isinstance(effect, Append):
            self.disk.carry_out(effect)
        elif isinstance(effect, ReadMeter) and not self.meter_silent:
            return [FromMeter(1, self.reading())]
        elif isinstance(effect, AllowPower) and effect.allowed is not self.closed:
            self.closed = effect.allowed
            return [FromPilot(1, Contactor(self.closed))]
        elif isinstance(effect, SetDuty):
            self._duty = effect.duty_centipercent
        return []

    def flush(self) -> None:
        """All that waits reaches the disk, and the station hears of it."""
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for (_, on_durable), rows in zip(waiting, self._book.commit([job for job, _ in waiting]), strict=True):
                if on_durable is not None:
                    on_durable(rows)

    # What ``Disk`` and ``Money`` want of a shell, and of a writer.

    def write(self, rows: Sequence[Any], changes: Sequence[Any], on_durable: OnDurable | None = None) -> None:
        self._waiting.append((Job(tuple(rows), tuple(changes)), on_durable))

    def publish(self, _: RowsAppended) -> None: ...

    def learned_key(self, evse: int, public_der: bytes) -> None: ...

    def now_stamp(self) -> Stamp:
        ctx = self.core.ctx
        return Stamp(self.boot_id, self.mono_ms, self.mono_ms + ctx.wall_offset_ms, ctx.time_status)

    def append(self, *facts: Fact, on_durable: Callable[[], None] | None = None) -> None:
        self.disk.append(*facts, stamp=self.now_stamp(), on_durable=on_durable)
        if on_durable is not None:
            self.flush()

    def commit(
        self, facts: Sequence[Fact], changes: Sequence[StateChange], on_durable: Callable[[], None] | None = None
    ) -> None:
        self.disk.append(*facts, stamp=self.now_stamp(), changes=changes, on_durable=on_durable)
        self.flush()

    def save_lazily(self, changes: Sequence[StateChange]) -> None:
        self.write((), changes)

    # ------------------------------------------------------------------------------------ the verbs

    def advance(self, ms: int) -> None:
        """Time passes: deadlines on their instant, the meter once a second."""
        end_ms = self.mono_ms + ms
        while self.mono_ms < end_ms:
            due_ms = self.logic.deadline_ms()
            second_ms = self.mono_ms - self.mono_ms % 1_000 + 1_000
            stop_ms = min(end_ms, second_ms, end_ms if due_ms is None else due_ms)
            self._pass(max(1, stop_ms - self.mono_ms))
            if self.mono_ms % 1_000 == 0:
                self.flush()  # the slowest disk takes a second
                self.read_meter()
            self.give(Tick())

    def _pass(self, ms: int) -> None:
        self.mono_ms += ms
        self.wall_ms += ms
        self.hardware_clock += ms
        if self.machine_clock is not None:
            self.machine_clock += ms
        self._fraction += self.current_ma * VOLT * ms
        more_mwh, self._fraction = divmod(self._fraction, 3_600_000)
        self.register_mwh += more_mwh
        self.drawn_mwh += more_mwh

    @property
    def current_ma(self) -> int:
        flows = self.closed and self.cp is CpState.C
        return min(self.car_ma, vehicle_current_ma(self._duty)) if flows else 0

    def reading(self) -> MeterReading:
        whole_mwh = self.register_mwh - self.register_mwh % self.meter_step_mwh
        shown_mwh = whole_mwh if self.stuck_mwh is None else self.stuck_mwh
        if self.site.rollover_mwh is not None:
            shown_mwh %= self.site.rollover_mwh
        now_ma = self.current_ma
        volts, amps = (VOLT * 1_000, None, None), (now_ma, None, None)
        return MeterReading(self.mono_ms - self.meter_lag_ms, self.serial, shown_mwh, None, now_ma * VOLT, volts, amps)

    def read_meter(self) -> None:
        if not self.meter_silent:
            self.give(FromMeter(1, self.reading()))

    def set_cp(self, cp: CpState) -> None:
        self.cp = cp
        self.give(FromPilot(1, PilotState(cp)))
        self.advance(200)

    def plug(self) -> None:
        if self.cp is CpState.A:
            self.set_cp(CpState.B)

    def unplug(self) -> None:
        self.set_cp(CpState.A)

    def authorize(self, token: Token = CARD, source: str = "csms") -> None:
        self.give(Authorized(1, token, None, source=source))

    def draw(self, current_ma: int = 16_000) -> None:
        """The car wants energy (again)."""
        self.car_ma = current_ma
        if self.cp is CpState.B:
            self.set_cp(CpState.C)

    def rest(self) -> None:
        """The car wants no energy for now."""
        if self.cp is CpState.C:
            self.set_cp(CpState.B)

    def charge(self, seconds: int, current_ma: int = 16_000) -> None:
        """From an empty place to a car that has charged for some time."""
        self.plug()
        self.authorize()
        self.draw(current_ma)
        self.advance(seconds * 1_000)

    def swipe_to_stop(self) -> None:
        if self.core.evses[1].flow.in_transaction:
            self.give(StopAuthorized(1, CARD))

    def limit_current(self, limit_ma: int | None) -> None:
        self.give(LimitSet(1, limit_ma))

    def link(self, online: bool) -> None:
        self.online = online
        self.give(LinkChanged(online))

    def step_clock(self, ms: int, source: str = "csms") -> None:
        """The CSMS says that it is so much later (or earlier) than the station thinks."""
        wall_ms = self.core.ctx.wall_ms + ms
        if self.machine_clock is not None:
            self.machine_clock = self.hardware_clock = wall_ms
        self.give(ClockSet(wall_ms, source, trusted=True))

    def set_clock(self) -> None:
        """The CSMS tells the right time."""
        self.machine_clock = self.hardware_clock = self.wall_ms
        self.give(ClockSet(self.wall_ms, "csms", trusted=True))

    def meter_lost(self, kind: LossKind = LossKind.SILENT) -> None:
        if not self.meter_silent:
            self.meter_silent = True
            self.give(FromMeter(1, Lost(kind, "no answer")))

    def meter_back(self) -> None:
        if self.meter_silent:
            self.meter_silent = False
            self.give(FromMeter(1, Back("meter")))
            self.read_meter()

    def set_default_tariff(self, text: str, evse: int = 0) -> str:
        return at_once(self.money.set_default(evse, text))

    def change_tariff(self, text: str) -> Asked[str]:
        self._asked.append(Asked(self.money.change(self.tx_id or "none", text)))
        return self._asked[-1]

    def live_tariff(self, text: str) -> None:
        """As ``Upkeep`` does it when the file has changed."""
        content, facts = self.tariffs.learn_live(text)
        if facts:
            self.append(*facts)
        self.billing.use_live_tariff(content)
        self.give(PricesChanged())

    def tell_limit(self, cost: str | None = None, energy_wh: int | None = None, time_s: int | None = None) -> bool:
        return at_once(self.money.limit(self.tx_id or "none", cost, energy_wh, time_s, "told")) == "Accepted"

    def crash(self, *, power: bool = False, away_ms: int = 2_000, kept: int = 0, clock_kept: bool = True) -> None:
        """The process dies, or (``power``) the machine; the first ``kept`` of the waiting commits were made."""
        self._book.commit([job for job, _ in self._waiting[:kept]])
        self._waiting.clear()
        self._told_durable.clear()
        self._leave()
        self._pass(away_ms)
        if power and not clock_kept:
            self.machine_clock = None
        self._boot(power=power)
        self.flush()

    def again(self) -> None:
        """All that was answered is answered again."""
        for durable in self._told_durable[-20:]:
            self.give(durable)

    def finish(self) -> None:
        """Everything calms down: the car is gone, the transaction ended and on disk."""
        self.slow_disk = False
        self.flush()
        self.meter_back()
        self.set_cp(CpState.A)
        self.advance(45_000)
        self.flush()

    # ------------------------------------------------------------------------------------ what is so

    @property
    def tx_id(self) -> str | None:
        tx = self.core.evses[1].flow.tx
        return None if tx is None else tx.tx_id

    @property
    def books(self) -> Books:
        assert self.tx_id is not None
        books = self.billing.books(self.tx_id)
        assert books is not None
        return books

    def all_rows(self) -> list[Row]:
        with LedgerReader(self.path) as reader:
            found = reader.rows(0, 500)
            while page := reader.rows(found[-1].seq, 500):
                found += page
            return found

    def facts(self) -> Iterator[Fact]:
        return (record.fact for record in self.records())

    def records(self) -> Iterator[Record]:
        """The ledger as the dialects are given it."""
        after = 0
        while page := self.archive.records(after, 500):
            yield from page
            after = page[-1].seq

    def transactions(self) -> list[TransactionFact]:
        return [fact for fact in self.facts() if isinstance(fact, TransactionFact)]

    def log(self) -> list[str]:
        return [fact.entry.value for fact in self.facts() if isinstance(fact, LogFact)]

    def receipts(self) -> list[read.Receipt]:
        return [read.parse(row.body) for row in self.all_rows() if row.kind == "receipt"]

    def audit(self) -> list[str]:
        """All that is wrong with the ledger."""
        with LedgerReader(self.path) as reader:
            check = DocumentCheck(key.public_der for key in reader.signing_keys())
            found = reader.audit(number_of=check.number_of)
        wrong = [f"{each.fault} {each.seq}: {each.detail}" for each in found]
        return wrong + [f"{each.what} {each.seq}: {each.detail}" for each in check.findings]

    def rebuilt(self, tx_id: str) -> Books:
        """The books of a transaction made from its rows alone."""
        fresh = Billing(self.core, self.tariffs, self.billing._terms, "elsewhere", most_mw={1: 1})
        fresh.restore(self.archive.history(tx_id))
        books = fresh.books(tx_id)
        assert books is not None
        return books
