"""A station-year in seconds: station, gateway, devices, cars, people, network and back office, from one seed.

Charter: puts the parts together, starts and ends the station's processes, and lets trouble happen at its rates.
After calm weather, which comes every few days, everything must have come to rest and every account must agree.
Decides nothing about what is right: ``watch``, ``mirror`` and ``accounts`` do.

Units: ms of virtual time since the world began. Source: issue of reliability; docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import random
import re
import traceback
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from agent.config.model import EvseConfig
from agent.core.commands import ClearFaults, RemoteStop
from agent.core.facts import Token
from agent.core.status import ConnectorState, FaultCode
from agent.gateway import Gateway, Outside, StationLine
from agent.ipc.port import StationLost
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row
from agent.ledger.store import evidence_of
from agent.ocpp.version import Version
from agent.security.keys import MeteringKey
from agent.sim.virtual_time import now_ms
from agent.sim.world.accounts import Accounts
from agent.sim.world.back_office import BackOffice
from agent.sim.world.device_faults import Fault
from agent.sim.world.disk import LedgerDisk
from agent.sim.world.installer import Bundle, DownloadModel, Fate, InstallerModel
from agent.sim.world.journal import Journal
from agent.sim.world.life import Grounds, Life
from agent.sim.world.manners import QUIET as QUIET_MANNERS
from agent.sim.world.manners import Manner
from agent.sim.world.mirror import Mirror, Truth
from agent.sim.world.order_words import Image, Wish
from agent.sim.world.orders import BUSY, LOOK_EVERY_S, Operator, OrderRates
from agent.sim.world.outlet import Outlet
from agent.sim.world.pace import Pace
from agent.sim.world.people import AtOutlet, Traffic
from agent.sim.world.people import Manners as People
from agent.sim.world.profile import Profile
from agent.sim.world.site import TOKENS, UNKNOWN_TOKEN, make_site
from agent.sim.world.trouble import Troubles
from agent.sim.world.vehicle import Kind, Vehicle
from agent.sim.world.watch import Watch
from agent.sim.world.wire import QUIET as QUIET_NETWORK
from agent.sim.world.wire import Network
from agent.station.disk import raise_what_crashed
from agent.station.upkeep import ROOM_EVERY_S

EPOCH_MS: Final = 1_893_456_000_000  # 2030-01-01: later than any build
RESTART_MS: Final = (500, 30_000)  # until a supervisor starts a process again, longer each time
STABLE_MS: Final = 60_000
BOOT_MS: Final = (5_000, 40_000)  # a machine starts
CALM_EVERY_MS: Final = 8 * 86_400_000
RESTS_WITHIN_MS: Final = 6 * 3_600_000
"""After the last fault everything must have settled by then: no livelock."""

REWINDS: Final = (Fault.METER_RESET, Fault.METER_EXCHANGED, Fault.METER_ROLLOVER)
ORDERS_END_S: Final = LOOK_EVERY_S + 120  # what an operator had in mind is done by then
HOUR_MS: Final = 3_600_000
_DIGITS: Final = re.compile(r"[0-9a-f]*[0-9][0-9a-f-]*")


class WorldFailed(Exception):
    """Something happened that must not. ``rule`` names the kind of failure, the same for the same kind."""

    def __init__(self, evse: int, text: str) -> None:
        super().__init__(text)
        self.evse, self.text = evse, text
        self.rule = _DIGITS.sub("N", text)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a world is."""

    at_ms: int
    transactions: int
    troubles: int


class World:
    """See the module. Make it within a loop of virtual time, then ``run``, at last ``close``.

    ``folder`` holds its disk, and should be in memory."""

    def __init__(self, seed: int, profile: Profile, pace: Pace, folder: Path) -> None:
        self.seed, self.profile, self.pace = seed, profile, pace
        version = Version.V16 if seed % 2 == 0 else Version.V201
        self.config = config = make_site(folder, seed, self.chance("site"), version.value, pace)
        self.journal = Journal()
        self._lifetime, self._ids = self.chance("lifetime"), self.chance("ids")
        self._loop = asyncio.get_running_loop()
        self._clock_error_ms = self._csms_error_ms = 0
        self._clock_lost = False
        self._booted_ms = 0
        self._boots = self._gateways = self._reset_ms = self._started_ms = 0
        self._wait_ms = RESTART_MS[0]
        self.outlets = {evse.id: self._outlet(evse) for evse in config.evse}
        self._disturbed = dict.fromkeys(self.outlets, 0)
        self._rewound = dict.fromkeys(self.outlets, 0)
        self.office = BackOffice(
            self.chance("office"),
            self._csms_wall_ms,
            versions=(version,),
            manners=profile.manners,
            heartbeat_s=pace.heartbeat_s,
        )
        self.office.mind.tokens[UNKNOWN_TOKEN] = "Invalid"
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
        self.mirror = Mirror(self._truth, self.wrong)
        self.watch = Watch(config, self.outlets, self.mirror, self.wrong)
        self.disk = LedgerDisk(
            config.station.data_dir / "ledger.sqlite", self.chance("disk"), self._rows, self.mirror.resume_at
        )
        self.installer = InstallerModel(self.chance("installer"), self._reboot)
        self.accounts = Accounts(
            self.disk.path, self.mirror, self.office, is_16=version.is_16, rewound=self._was_rewound, wrong=self.wrong
        )
        self.troubles = Troubles(profile, self, self.chance)
        self._visits = {evse: self.chance(f"people {evse}") for evse in self.outlets}
        self._grounds = Grounds(
            config=config,
            outlets=self.outlets,
            disk=self.disk,
            installer=self.installer,
            key=_key(seed),
            now_ms=self.mono_ms,
            booted_ms=lambda: self._booted_ms,
            wall_ms=self._machine_wall_ms,
            new_id=self._new_id,
            pace=pace,
            watch=self.watch,
        )
        self.life: Life | None = None
        self._starting: asyncio.Task[None] | None = None
        self._gateway: asyncio.Task[None] | None = None
        self._powered = False
        self._ending: dict[asyncio.Task[None], None] = {}
        self.failure: WorldFailed | None = None
        self._failed = asyncio.Event()
        self._loop.set_exception_handler(self._crashed)

    def chance(self, name: str) -> random.Random:
        """Random numbers of its own for each part: one part less leaves the others where they were."""
        return random.Random(f"{self.seed}/{name}")

    # ------------------------------------------------------------------------------------ its times

    def mono_ms(self) -> int:
        """Since the machine booted."""
        return now_ms() - self._booted_ms

    def true_wall_ms(self) -> int:
        return EPOCH_MS + now_ms()

    def _machine_wall_ms(self) -> int:
        return self.mono_ms() if self._clock_lost else self.true_wall_ms() + self._clock_error_ms

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

    def note(self, evse: int, text: str) -> None:
        self.journal.note(now_ms(), evse, text)

    def _crashed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        what = context.get("message", "") if error is None else "".join(traceback.format_exception(error)[-12:])
        self.wrong(0, f"an error of the program itself: {what}")

    def _physical(self, evse: int, text: str) -> None:
        self.note(evse, text)
        if text.startswith("contactor"):
            self.watch.contact(evse)

    def _rows(self, rows: Sequence[Row]) -> None:
        self.mirror.rows(rows)
        for row in rows:
            self.note(row.evse or 0, f"on disk: row {row.seq} {row.kind} {row.tx_id or ''}")

    def _truth(self, evse: int) -> Truth:
        outlet = self.outlets[evse]
        return Truth(outlet.drawn_mwh, self._disturbed[evse], self._rewound[evse], outlet.meter.step_mwh)

    def disturb(self, evse: int | None = None) -> None:
        """From here on energy may be missing from a bill, for a reason."""
        for number in self._disturbed if evse is None else (evse,):
            self._disturbed[number] += 1

    def _was_rewound(self) -> bool:
        """Whether any meter was ever reset or exchanged: then the ledger holds, truly, a register that fell."""
        return any(self._rewound.values())

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
        self._booted_ms = now_ms()
        while not self.installer.boot():
            self.note(0, f"slot {self.installer.running} does not start")
            await asyncio.sleep(60)  # the hardware's watchdog starts it again
        self._booted_ms = now_ms()
        self._boots += 1
        self._boot_file.write_text(f"boot-{self._boots}")
        self._start_station()
        self._start_gateway()

    @property
    def _boot_file(self) -> Path:
        assert self.config.update is not None
        return self.config.update.boot_id_file

    def _start_station(self) -> None:
        self._started_ms = now_ms()
        self._find_what_is_on_disk()
        self.life = Life(self._grounds, f"boot-{self._boots}", self._station_ended)
        self.note(0, f"station starts ({self.life.cause})")

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
                self.mirror.rows(rows)

    def _station_ended(self, code: int) -> None:
        """It wants to end: the supervisor starts it again."""
        self.note(0, f"station ends with code {code}")
        self._later(self._restart_station())

    async def _restart_station(self) -> None:
        life, self.life = self.life, None
        self.watch.new_run(None)
        self.disturb()
        if life is not None:
            await life.close()
        self._starting = self._loop.create_task(self._start_again())

    async def _start_again(self) -> None:
        stable = now_ms() - self._started_ms > STABLE_MS
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

    async def _find_station(self, gateway: int) -> StationLine:
        if gateway != self._gateways or self._gateway is None:
            await self._loop.create_future()  # killed, and not yet gone
        if self.life is None:
            await asyncio.sleep(0.5)
            raise StationLost("no station runs")
        return cast(StationLine, self.life.connect())

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
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.cancel()
            self._later(_end(gateway))

    def _end_life(self) -> None:
        life, self.life = self.life, None
        self.watch.new_run(None)
        self.disturb()
        if life is not None:
            life.kill()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._ending[task] = None
        task.add_done_callback(lambda done: self._ending.pop(done, None))
        task.add_done_callback(raise_what_crashed)

    def _reboot(self) -> None:
        """The installer restarts the machine: an orderly end."""
        self.note(0, "the machine restarts")
        self._later(self._restart_machine())

    async def _restart_machine(self) -> None:
        await asyncio.sleep(self._lifetime.uniform(0.5, 5))
        if not self._powered or self.life is None:
            return
        self._stop_starting()
        self._end_gateway()
        self.network.lose_station(power=False)
        life, self.life = self.life, None
        self.watch.new_run(None)
        self.disturb()
        await life.close()
        self._switch_on()

    # --------------------------------------------------------------------- hands, for ``Troubles``

    def cut_power(self, *, clock_lost: bool = False) -> None:
        if not self._powered:
            return
        self.note(0, "power fails")
        self._powered = False
        self._stop_starting()
        self._end_gateway()
        self.network.lose_station(power=True)
        self._end_life()
        for outlet in self.outlets.values():
            outlet.power(False)
        self._clock_lost = clock_lost

    def restore_power(self) -> None:
        if self._powered:
            return
        self.note(0, "power comes back")
        for outlet in self.outlets.values():
            outlet.power(True)
        self._switch_on()

    def cut_power_in_next_commit(self) -> None:
        self.disk.cut_in_commit = self.cut_power

    def poison(self, chance: random.Random) -> None:
        action = chance.choice(("StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"))
        manner = chance.choice((Manner.ERROR, Manner.MALFORMED, Manner.GARBAGE, Manner.SILENCE, Manner.CLOSE))
        times = chance.randint(1, 6)
        self.note(0, f"the CSMS answers the next {times} {action} with {manner.value}")
        self.office.script(action, *[manner] * times)

    def kill_station(self) -> None:
        if self.life is None:
            return
        self.note(0, "the station process is killed")
        self._end_life()
        self._starting = self._loop.create_task(self._start_again())

    def kill_gateway(self) -> None:
        if self._gateway is None:
            return
        self.note(0, "the gateway process is killed")
        self._end_gateway()
        self.network.lose_station(power=False)
        self._later(self._start_gateway_again())

    async def _start_gateway_again(self) -> None:
        await asyncio.sleep(self._lifetime.uniform(0.5, 5))
        if self._powered and self._gateway is None and self._boots:
            self._start_gateway()

    def fill_disk(self, full: bool) -> None:
        self.note(0, "the disk is full" if full else "the disk has room again")
        self.disk.fill(full)
        self.disturb()
        self._loop.call_later(ROOM_EVERY_S, self._look_at_room)

    def _look_at_room(self) -> None:
        """The station looks at its disk so often, whatever the pace."""
        if self.life is not None:
            self.life.station.upkeep.look_at_room()

    def fail_next_sync(self) -> None:
        self.note(0, "the disk fails to sync")
        self.disk.sync_fails = True

    def step_machine_clock(self, by_ms: int) -> None:
        self.note(0, f"the machine's clock steps by {by_ms} ms")
        self._clock_error_ms = by_ms

    def csms_tells_wrong_time(self, by_ms: int) -> None:
        self.note(0, f"the CSMS's clock is {by_ms} ms off")
        self._csms_error_ms = by_ms

    def link_down(self, *, silently: bool) -> None:
        self.note(0, "the network is gone" + (", silently" if silently else ""))
        self.network.go_down(silently=silently)

    def link_up(self) -> None:
        self.note(0, "the network is back")
        self.network.go_up()

    def cut_link(self) -> None:
        self.note(0, "the connection is cut")
        self.network.cut()

    def link_half_open(self) -> None:
        self.note(0, "the connection falls silent")
        self.network.half_open()

    def stall_link(self, for_s: float) -> None:
        self.note(0, f"the connection stalls for {for_s:.0f} s")
        self.network.stall(for_s)

    def rude(self, on: bool) -> None:
        self.note(0, "the CSMS becomes rude" if on else "the CSMS behaves again")
        self.office.mind.manners = self.profile.rude if on else self.profile.manners

    def installer_away(self, away: bool) -> None:
        self.installer.away = away

    def break_device(self, chance: random.Random) -> Callable[[], None] | None:
        evse = chance.choice(list(self.outlets))
        outlet = self.outlets[evse]
        fault = chance.choice([fault for fault in Fault if outlet.applies(fault)])
        if fault in outlet.faults:
            return None
        self.disturb(evse)
        self._rewound[evse] += fault in REWINDS
        if fault is Fault.METER_EXCHANGED:  # nobody does that under voltage
            self.cut_power()
            outlet.fault(fault)
            return self.restore_power
        outlet.fault(fault)

        def undo() -> None:
            self.disturb(evse)
            outlet.clear(fault)

        return undo

    # -------------------------------------------------------------------------------------- the run

    async def run(self, until_ms: int, on_progress: Callable[[Progress], None] = lambda _: None) -> None:
        """Live until then, with calm weather every few days and at the end. Raises ``WorldFailed``."""
        story = self._loop.create_task(self._story(until_ms, on_progress))
        failed = self._loop.create_task(self._failed.wait())
        try:
            await asyncio.wait({story, failed}, return_when=asyncio.FIRST_COMPLETED)
            if self.failure is not None:
                raise self.failure
            await story
        finally:
            for task in (story, failed):
                task.cancel()
            await asyncio.gather(story, failed, return_exceptions=True)

    async def _story(self, until_ms: int, on_progress: Callable[[Progress], None]) -> None:
        self._switch_on()
        self._later(self.operator.run())
        self.troubles.start()
        while now_ms() < until_ms:
            people = [self._loop.create_task(traffic.run()) for traffic in self._traffic()]
            for task in people:
                task.add_done_callback(raise_what_crashed)
            await asyncio.sleep(min(CALM_EVERY_MS, until_ms - now_ms()) / 1_000)
            for task in people:
                task.cancel()
            await asyncio.gather(*people, return_exceptions=True)
            await self._calm_down()
            on_progress(Progress(now_ms(), self.mirror.transactions, self.troubles.counts.total()))

    def _traffic(self) -> list[Traffic]:
        manners = People(
            gap_ms=round(self.pace.visit_every_h * HOUR_MS),
            stay_ms=self.pace.stay_s * 1_000,
            odd_percent=round(self.profile.careless * 100),
            broken_percent=round(self.profile.careless * 25),
            bystander_percent=round(self.profile.careless * 50),
        )
        return [
            Traffic(
                AtOutlet(outlet, partial(self.swipe, evse)),
                self._visits[evse],
                manners,
                TOKENS,
                (UNKNOWN_TOKEN,),
                partial(self.note, evse),
            )
            for evse, outlet in self.outlets.items()
        ]

    def swipe(self, evse: int, token: str) -> None:
        """A card is held to the reader of this outlet."""
        self.note(evse, f"card {token}")
        if self.life is not None:
            self._later(self._present(self.life, evse, token))

    async def _present(self, life: Life, evse: int, token: str) -> None:
        said = await life.station.service.present_token(Token(token), evse)
        self.note(evse, f"the display says: {said}")

    async def _calm_down(self) -> None:
        """Fair weather: nothing new happens, what is broken is mended, and all must come to rest and agree."""
        self.note(0, "calm weather")
        self.troubles.calm(True)
        self.operator.rates = busy(0.0)
        self.office.mind.manners = QUIET_MANNERS
        self.network.faults = QUIET_NETWORK
        self._clock_error_ms = self._csms_error_ms = 0
        await asyncio.sleep(1)  # those who make trouble end it
        for outlet in self.outlets.values():
            outlet.clear()
            outlet.unplug(forced=True)
        self.restore_power()
        self.installer.away = False
        self.disk.cut_in_commit = None
        await asyncio.sleep(ORDERS_END_S)
        await self.operator.send(Wish.UNLIMIT, "ClearChargingProfile", {})
        await self._rest()
        self.accounts.settle()
        for evse in self.outlets:
            await self._next_car_can_charge(evse)
        await self._rest()
        self.accounts.settle()
        self.note(0, "the weather turns")
        self.office.mind.manners = self.profile.manners
        self.network.faults = self.profile.network
        self.operator.rates = busy(self.profile.orders)
        self.troubles.calm(False)

    async def _rest(self) -> None:
        """Wait until nothing is left to do."""
        until_ms = now_ms() + RESTS_WITHIN_MS
        while (unrest := await self._unrest()) and self.failure is None:
            if now_ms() >= until_ms:
                self.wrong(0, f"no rest {RESTS_WITHIN_MS // HOUR_MS} hours after the last fault: {unrest}")
                return
            await asyncio.sleep(60)

    async def _unrest(self) -> str:
        """What is still going on; a technician and the operator help where only they can."""
        life, office = self.life, self.office
        if life is None:
            return "the station does not run"
        if office.version is None or office.registration != "Accepted":
            return "the CSMS does not see the station"
        await self._help(life)
        core = life.station.logic.core
        for evse, view in zip(core.evses, core.views(), strict=True):
            if view.state is not ConnectorState.AVAILABLE:
                return f"EVSE {evse} is {view.state.value} ({', '.join(fault.value for fault in view.faults)})"
        if life.station.service.delivered_seq < self.mirror.told_seq:
            return "the CSMS has not been told everything"
        return ""

    async def _help(self, life: Life) -> None:
        """A technician clears what is latched; the operator lets cars in again, and restarts a station whose meter was
        exchanged or reset, since its driver then waits for somebody to decide that."""
        views = life.station.logic.core.views()
        if any(FaultCode.METER_IMPLAUSIBLE in view.faults for view in views) and now_ms() - self._reset_ms > HOUR_MS:
            self._reset_ms = now_ms()
            kind = "Hard" if self.office.version is Version.V16 else "Immediate"
            await self.operator.send(Wish.RESET, "Reset", {"type": kind})
            return
        for evse, outlet in self.outlets.items():
            await life.station.service.command(ClearFaults(evse))
            tx = life.station.logic.core.evses[evse].flow.tx
            if tx is not None and outlet.vehicle is None:  # where a lost vehicle does not end it
                await life.station.service.command(RemoteStop(tx.tx_id))
        for evse in (0, *self.outlets):
            known = self.operator.availability.get(evse)
            if (known is None and evse in self.operator.availability) or (known and not known.operative):
                await self._make_operative(evse)

    async def _make_operative(self, evse: int) -> None:
        if self.office.version is Version.V16:
            payload: dict[str, Any] = {"connectorId": evse, "type": "Operative"}
        else:
            payload = {"operationalStatus": "Operative", **({"evse": {"id": evse}} if evse else {})}
        await self.operator.send(Wish.AVAILABILITY, "ChangeAvailability", payload)

    async def _next_car_can_charge(self, evse: int) -> None:
        """Whatever happened before (field fault 4)."""
        outlet = self.outlets[evse]
        before_mwh = outlet.drawn_mwh
        vehicle = Vehicle(Kind(), 2_000_000, self._visits[evse])
        if not outlet.plug(vehicle):
            self.wrong(evse, "the next car cannot be plugged in")
            return
        await asyncio.sleep(5)
        self.swipe(evse, TOKENS[0])
        await asyncio.sleep(300)
        if outlet.drawn_mwh == before_mwh:
            self.wrong(evse, "the next car cannot charge")
        self.swipe(evse, TOKENS[0])
        await asyncio.sleep(60)
        outlet.unplug(forced=True)

    def counts(self) -> dict[str, int]:
        """What happened how often."""
        return {
            "transactions": self.mirror.transactions,
            "billed_wh": self.mirror.billed_mwh // 1_000,
            "compared": self.accounts.compared,
            "excused": self.accounts.excused,
            "boots of the machine": self._boots,
            "starts of the station": self.mirror.boots,
            "torn commits": self.disk.torn,
            "commits": self.disk.commits,
            "looks at power": self.watch.looks,
            "connections": self.office.counts["connections"],
            "messages": sum(count for name, count in self.office.counts.items() if name[:1].isupper()),
            "orders": sum(self.operator.counts.values()),
            "heartbeats": self.office.counts["Heartbeat"],
            **{f"trouble {name}": count for name, count in sorted(self.troubles.counts.items())},
        }

    async def close(self) -> None:
        """End everything that still runs."""
        await self.troubles.stop()
        self._powered = False
        self._stop_starting()
        self._end_gateway()
        self._end_life()
        while self._ending:
            await asyncio.wait(list(self._ending), timeout=2)
            for task in list(self._ending):
                task.cancel()
        await self.office.close()


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
