"""One simulated machine and all that stands around it, made from a seed: its parts, its times, its processes.

Charter: puts the parts together, starts and ends the station's processes as a supervisor and a boot loader do, and
notes what is seen. What happens to it, and when, is ``world``'s.

Units: ms of virtual time since the world began; ``mono_ms`` since this machine booted.
"""

from __future__ import annotations

import asyncio
import random
import re
import traceback
import uuid
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from agent.config.model import Config, EvseConfig
from agent.core.station import Station
from agent.gateway import Gateway, Outside
from agent.ipc.client import StationConnection
from agent.ipc.port import StationLost
from agent.ledger.kinds import TIME_UNKNOWN
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row
from agent.ledger.store import evidence_of
from agent.ocpp.version import Version
from agent.security.keys import MeteringKey
from agent.sim.world.accounts import Accounts
from agent.sim.world.agreed import Agreements
from agent.sim.world.availability import Availability
from agent.sim.world.back_office import BackOffice
from agent.sim.world.disk import LedgerDisk
from agent.sim.world.hearing import Hearing
from agent.sim.world.installer import Bundle, DownloadModel, Fate, InstallerModel
from agent.sim.world.journal import Journal
from agent.sim.world.keeping import Keeping
from agent.sim.world.life import Grounds, Life
from agent.sim.world.mirror import Mirror, Truth
from agent.sim.world.money_orders import MoneyOrders
from agent.sim.world.order_words import Image
from agent.sim.world.orders import BUSY, Operator, OrderRates
from agent.sim.world.outlet import CAR_LEAVES, Outlet
from agent.sim.world.pace import Pace
from agent.sim.world.parties import Parties
from agent.sim.world.prices import Prices
from agent.sim.world.profile import Profile
from agent.sim.world.site import TOKENS, UNKNOWN_TOKEN, chance_of
from agent.sim.world.watch import Watch
from agent.sim.world.wire import Network
from agent.station.disk import raise_what_crashed

EPOCH_MS: Final = 1_893_456_000_000  # 2030-01-01: later than any build
RESTART_MS: Final = (500, 30_000)  # until a supervisor starts a process again, longer each time
STABLE_MS: Final = 60_000
BOOT_MS: Final = (5_000, 40_000)  # a machine starts
SETTLES_MS: Final = 120_000  # a station has found its devices, and what ran before, or lost them
CLOSED_WITHIN_MS: Final = 60_000  # what was about to start when it was closed has started by then
HEARTBEAT_MAX_S: Final = 7_200  # what operators set
CAR_TAKES_PERCENT: Final = 150  # of what it is offered, if it is the worst of all
_DIGITS: Final = re.compile(r"[0-9a-f]*[0-9][0-9a-f-]*")


class WorldFailed(Exception):
    """Something happened that must not. ``rule`` names the kind of failure, the same for the same kind."""

    def __init__(self, evse: int, text: str) -> None:
        super().__init__(text)
        self.evse, self.text = evse, text
        self.rule = _DIGITS.sub("N", text)


class Machine:
    """See the module. Make it within a loop of virtual time. The folders that ``config`` names should be in memory."""

    def __init__(self, seed: int, profile: Profile, pace: Pace, config: Config) -> None:
        assert config.csms is not None
        self.seed, self.profile, self.pace, self.config = seed, profile, pace, config
        version = Version(config.csms.versions[0].value)
        self.journal = Journal()
        self._lifetime, self._ids = self.chance("lifetime"), self.chance("ids")
        self._loop = asyncio.get_running_loop()
        self._clock_error_ms = self._csms_error_ms = 0
        self._clock_lost = self._clock_stood = False
        self._cut_ms = self._stood_ms = 0  # when power went; for how long the clock stood still then
        self.clock_doubted = False  # a wrong time was told or shown, and the station may still believe it
        self._booted_ms = 0
        self._boots = self._gateways = self.reset_ms = self._started_ms = self._gone_ms = 0
        self._wait_ms = RESTART_MS[0]
        self.outlets = {evse.id: self._outlet(evse) for evse in config.evse}
        self.charging = asyncio.Event()
        self._disturbed = dict.fromkeys(self.outlets, 0)
        self._rewound = dict.fromkeys(self.outlets, 0)
        self.office = BackOffice(
            self.chance("office"),
            self._csms_wall_ms,
            versions=(version,),
            manners=profile.manners,
            heartbeat_s=pace.heartbeat_s,
            check_schema=True,
        )
        self.office.mind.tokens[UNKNOWN_TOKEN] = "Invalid"
        self.office.mind.groups.update(dict.fromkeys(TOKENS[1:3], "FAMILY"))
        self.parties = Parties(
            self.outlets,
            self.office.book,
            self._heard_ms,
            lambda evse: self._truth(evse).disturbed,
            self._settled_core,
            self.wrong,
        )
        self.office.on_order = self.parties.asks
        self.network = Network(self.office, self.chance("network"))
        self.network.faults = profile.network
        self.operator = Operator(
            self.office,
            self.chance("operator"),
            self._csms_wall_ms,
            evses=tuple(self.outlets),
            tokens=TOKENS,
            images=(Image("https://images.example/bundle"),),
            rates=busy(profile.orders),
        )
        assert config.price.tariff is not None
        self.keeping = Keeping(self.wrong)
        self.hearing = Hearing(
            self.office, is_16=version.is_16, heartbeat_s=max(pace.heartbeat_s, HEARTBEAT_MAX_S), wrong=self.wrong
        )
        zone = config.station.time_zone
        self.agreements = Agreements(
            Prices(config.price.tariff.read_text(), zone),
            {evse.id: evse.max_power_w * CAR_TAKES_PERCENT // 100 for evse in config.evse},
            self._heard_ms,
            self.wrong,
            late_ms=(pace.poll_ms, pace.tick_ms),
        )
        self.mirror = Mirror(
            self._truth, self._is_refused, self._is_closed, self.agreements, self.hearing, self.parties, self.wrong
        )
        window_ms = config.session.resume_window_s * 1_000
        self.mirror.outlives_ms = {evse.id: window_ms for evse in config.evse if evse.board.pilot.driver.autonomous}
        self.money_orders = MoneyOrders(
            self.office,
            self.mirror,
            self.agreements,
            self.chance("money"),
            zone,
            lambda: self.operator.rates.total / BUSY.total,
            self.charging,
            self.wrong,
        )
        self.watch = Watch(config, self.outlets, self.mirror, self.wrong)
        self.disk = LedgerDisk(
            config.station.data_dir / "ledger.sqlite", self.chance("disk"), self._rows, self.mirror.resume_at
        )
        self.installer = InstallerModel(self.chance("installer"), self._reboot)
        self.accounts = Accounts(
            self.disk.path, self.mirror, self.office, is_16=version.is_16, rewound=self._was_rewound, wrong=self.wrong
        )
        self.visits = {evse: self.chance(f"people {evse}") for evse in self.outlets}
        self._grounds = Grounds(
            config=config,
            outlets=self.outlets,
            disk=self.disk,
            installer=self.installer,
            key=_key(seed),
            now_ms=self.mono_ms,
            booted_ms=lambda: self._booted_ms,
            wall_ms=self._machine_wall_ms,
            clock_is_proven=lambda: not self._clock_stood,
            new_id=self._new_id,
            pace=pace,
            watch=self.watch,
        )
        self.life: Life | None = None
        self.availability = Availability(
            tuple(self.outlets), self.office, lambda: self.life, lambda: self.mirror.told_seq, self.wrong
        )
        self._starting: asyncio.Task[None] | None = None
        self._gateway: asyncio.Task[None] | None = None
        self._gateway_starting: asyncio.Task[None] | None = None
        self._powered = False
        self._ending: dict[asyncio.Task[None], None] = {}
        self.failure: WorldFailed | None = None
        self._failed = asyncio.Event()
        self._loop.set_exception_handler(self._crashed)

    def chance(self, name: str) -> random.Random:
        """Random numbers of its own for each part: one part less leaves the others where they were."""
        return chance_of(self.seed, name)

    # ------------------------------------------------------------------------------------ its times

    def _now_ms(self) -> int:
        return round(self._loop.time() * 1_000)

    def mono_ms(self) -> int:
        """Since the machine booted."""
        return self._now_ms() - self._booted_ms

    def true_wall_ms(self) -> int:
        return EPOCH_MS + self._now_ms()

    def _machine_wall_ms(self) -> int:
        if self._clock_lost:
            return self.mono_ms()
        return self.true_wall_ms() + self._clock_error_ms - self._stood_ms

    def _csms_wall_ms(self) -> int:
        return max(0, self.true_wall_ms() + self._csms_error_ms)

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._ids.getrandbits(128), version=4))

    # ---------------------------------------------------------------------------------- what is seen

    def wrong(self, evse: int, text: str) -> None:
        """A rule is broken: the world ends here."""
        if self.failure is None:
            self.note(evse, f"WRONG: {text}")
            self.failure = WorldFailed(evse, text)
            self._failed.set()

    def note(self, evse: int, text: str, unsaid: bytes = b"") -> None:
        self.journal.note(self._now_ms(), evse, text, unsaid)

    def _crashed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        what = context.get("message", "") if error is None else "".join(traceback.format_exception(error)[-12:])
        self.wrong(0, f"an error of the program itself: {what}")

    def _physical(self, evse: int, text: str) -> None:
        self.note(evse, text)
        if text == CAR_LEAVES:
            self.parties.left(evse)
        elif text.startswith("contactor"):
            self.watch.contact(evse)
            if any(outlet.contactor_closed for outlet in self.outlets.values()):
                self.charging.set()
            else:
                self.charging.clear()

    def _rows(self, rows: Sequence[Row]) -> None:
        self.mirror.rows(rows)
        for row in rows:
            off_ms = 0 if row.time_status == TIME_UNKNOWN else row.wall_ms - self.true_wall_ms()
            self.keeping.row(row.seq, off_ms)
            self.note(row.evse or 0, f"on disk: row {row.seq} {row.kind} {row.tx_id or ''}", row.hash)

    def _truth(self, evse: int) -> Truth:
        outlet, disturbed = self.outlets[evse], self._disturbed[evse]
        if outlet.faults:  # what lasts disturbs all that goes on from here
            self.disturb(evse)
        return Truth(
            outlet.drawn_mwh,
            disturbed,
            self._rewindings(evse),
            outlet.meter.step_mwh,
            outlet.idle_ms,
            self.true_wall_ms(),
            not self.clock_doubted,
            outlet.owed_mwh,
            outlet.forgotten_mwh,
        )

    def _is_refused(self, token: str) -> bool:
        return self.office.mind.tokens.get(token.upper(), "Accepted") != "Accepted"

    def _is_closed(self, evse: int) -> bool:
        """Whether the CSMS was told for sure, and some time ago, that nothing starts here."""
        at_ms, operator = self._heard_ms(), self.operator
        return any(
            operator.availability.get(number) is False and at_ms - operator.confirmed_ms[number] > CLOSED_WITHIN_MS
            for number in (0, evse)
        )

    def _heard_ms(self) -> int:
        """When the station heard its orders at the latest: what is found on disk is of before."""
        return self._gone_ms if self.life is None else self._now_ms()

    def _settled_core(self) -> Station | None:
        """The station of a run that has had the time to look for its devices."""
        settled = self._now_ms() - self._started_ms > SETTLES_MS
        return None if self.life is None or not settled else self.life.station.logic.core

    def disturb(self, evse: int | None = None) -> None:
        """From here on energy may be missing from a bill, for a reason."""
        for number in self._disturbed if evse is None else (evse,):
            self._disturbed[number] += 1

    def _was_rewound(self, evse: int) -> bool:
        """Whether this meter's register ever fell: then the ledger holds, truly, one that did."""
        return self._rewindings(evse) > 0

    def _rewindings(self, evse: int) -> int:
        """Resets, exchanges, and new beginnings after the last digit, which may come while no station runs."""
        return self._rewound[evse] + self.outlets[evse].meter.turns(self._now_ms())

    def _outlet(self, evse: EvseConfig) -> Outlet:
        return Outlet(
            evse,
            self.chance(f"outlet {evse.id}"),
            poll_ms=self.pace.poll_ms,
            idle_poll_ms=self.pace.idle_poll_ms,
            on_change=partial(self._physical, evse.id),
        )

    # ------------------------------------------------------------------------------------- processes

    def _switch_on(self) -> None:
        """The machine gets power, or starts again."""
        self._powered = True
        self._starting = self._loop.create_task(self._start_machine())

    async def _start_machine(self) -> None:
        await asyncio.sleep(self._lifetime.uniform(*BOOT_MS) / 1_000)
        self._booted_ms = self._now_ms()
        while not self.installer.boot():
            self.note(0, f"slot {self.installer.running} does not start")
            await asyncio.sleep(60)  # the hardware's watchdog starts it again
        self._booted_ms = self._now_ms()
        self._boots += 1
        self._boot_file.write_text(f"boot-{self._boots}")
        if self._clock_lost or self._clock_stood:
            self.mirror.timeless.add(f"boot-{self._boots}")
            self.clock_doubted = True  # until the CSMS has told the time: then the whole boot knows it
        self._start_station()
        self._start_gateway()

    @property
    def _boot_file(self) -> Path:
        assert self.config.update is not None
        return self.config.update.boot_id_file

    def _start_station(self) -> None:
        self._started_ms = self._now_ms()
        self.mirror.station_starts(f"boot-{self._boots}")
        self._find_what_is_on_disk()
        self.life = Life(self._grounds, f"boot-{self._boots}", self._station_ended)
        self.note(0, f"station starts ({self.life.cause})")
        self.office.restarted()
        self.accounts.compare_availability(self.operator.availability, self.life.station.logic.core)

    def _find_what_is_on_disk(self) -> None:
        """Rows that nobody was told of may have reached the disk; rows that somebody was told of must be there."""
        path = self.disk.path
        if not path.exists():
            return
        if evidence_of(path):
            self.wrong(0, "the ledger was found damaged")
        with LedgerReader(path) as reader:
            head = reader.head()
            if head.seq < self.mirror.head_seq:
                self.wrong(0, f"the ledger ends at row {head.seq}, row {self.mirror.head_seq} was on disk")
            while rows := reader.rows(self.mirror.head_seq, 500):
                self.mirror.found(rows)

    def _station_ended(self, code: int) -> None:
        """It wants to end: the supervisor starts it again."""
        self.note(0, f"station ends with code {code}")
        self.later(self._restart_station())

    async def _restart_station(self) -> None:
        life = self._take_life()
        if life is not None:
            await life.close()
        if self._powered:  # else it comes back with the power
            self._starting = self._loop.create_task(self._start_again())

    async def _start_again(self) -> None:
        stable = self._now_ms() - self._started_ms > STABLE_MS
        self._wait_ms = RESTART_MS[0] if stable else min(2 * self._wait_ms, RESTART_MS[1])
        await asyncio.sleep((self._wait_ms + self._lifetime.randrange(1_000)) / 1_000)
        self._start_station()

    def _start_gateway(self) -> None:
        self._gateways += 1
        outside = Outside(
            find_station=partial(self._find_station, self._gateways),
            open=self.network.connect,
            fetcher=lambda station: DownloadModel(self.installer, self.chance("download"), station, self._image()),
            rng=self.chance(f"gateway {self._boots}"),
            now_ms=self.mono_ms,
            new_id=self._new_id,
        )
        self.office.restarted()
        self._gateway = self._loop.create_task(Gateway(self.config, outside).run())
        self._gateway.add_done_callback(raise_what_crashed)

    async def _find_station(self, gateway: int) -> StationConnection:
        if gateway != self._gateways or self._gateway is None:
            await self._loop.create_future()  # killed, and not yet gone
        if self.life is None:
            await asyncio.sleep(0.5)
            raise StationLost("no station runs")
        return cast(StationConnection, self.life.connect())

    def _image(self) -> Bundle:
        """What the next download brings."""
        chance = self._lifetime
        fate = chance.choices(tuple(Fate), (50, 15, 15, 10, 10))[0]
        return Bundle(f"1.{chance.randrange(1_000)}", fate)

    def _stop_starting(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None

    def _end_gateway(self) -> None:
        """No gateway runs from here on, nor does one start that was to come."""
        if self._gateway_starting is not None:
            self._gateway_starting.cancel()
            self._gateway_starting = None
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.cancel()
            self.later(_end(gateway))

    def _take_life(self) -> Life | None:
        """No station runs from here on; whoever takes the one that did ends it in his own way."""
        life, self.life = self.life, None
        if life is not None:  # else power fails again: what is on disk is of before the first time
            self._gone_ms = self._now_ms()
            self.mirror.station_gone(self.outlets)
        self.watch.new_run(None)
        self.disturb()
        return life

    def _end_life(self) -> None:
        life = self._take_life()
        if life is not None:
            life.kill()

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._ending[task] = None
        task.add_done_callback(lambda done: self._ending.pop(done, None))
        task.add_done_callback(raise_what_crashed)

    def _reboot(self) -> None:
        """The installer restarts the machine: an orderly end."""
        self.note(0, "the machine restarts")
        self.later(self._restart_machine())

    async def _restart_machine(self) -> None:
        await asyncio.sleep(self._lifetime.uniform(0.5, 5))
        if not self._powered or self.life is None:
            return
        self._stop_starting()
        self._end_gateway()
        self.network.lose_station(power=False)
        life = self._take_life()
        assert life is not None
        await life.close()
        if self._powered:
            self._switch_on()


async def _end(task: asyncio.Task[None]) -> None:
    """Losing the station at the same moment can swallow one cancellation: ask until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1)


def busy(share: float) -> OrderRates:
    """So much of what a busy operator orders."""
    return OrderRates({wish: rate * share for wish, rate in BUSY.wishes.items()}, BUSY.bursts * share)


def _key(seed: int) -> MeteringKey:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

    return MeteringKey(derive_private_key(seed + 1, SECP256R1()))
