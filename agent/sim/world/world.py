"""A station-year in seconds: one machine, its cars, people, network and back office, in a weather of faults.

Charter: lets time go by. Drivers come, operators order, trouble happens at its rates (``Troubles`` asks for it here);
every few days the weather calms down and all accounts must agree (``calm``). Decides nothing about what is right:
``watch``, ``mirror`` and ``accounts`` do. What is real here and what is a model stands in docs/reliability.md.

Units: ms of virtual time since the world began.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Final

from agent.config.model import Config
from agent.core.commands import ClearFaults
from agent.core.facts import Token
from agent.sim.virtual_time import now_ms
from agent.sim.world.calm import HOUR_MS, calm_down
from agent.sim.world.device_faults import Fault
from agent.sim.world.life import Life
from agent.sim.world.machine import Machine
from agent.sim.world.manners import Manner
from agent.sim.world.pace import Pace
from agent.sim.world.people import AtOutlet, Traffic
from agent.sim.world.people import Manners as People
from agent.sim.world.profile import Profile
from agent.sim.world.site import TOKENS, UNKNOWN_TOKEN
from agent.sim.world.trouble import Troubles
from agent.sim.world.watch import UNTIL_CLEARED
from agent.station.disk import raise_what_crashed
from agent.station.upkeep import ROOM_EVERY_S

CALM_EVERY_MS: Final = 8 * HOUR_MS * 24
TECHNICIAN_EVERY_H: Final = (2, 24)
REWINDS: Final = (Fault.METER_RESET, Fault.METER_EXCHANGED, Fault.METER_ROLLOVER)


class World(Machine):
    """See the module. Make it within a loop of virtual time, then ``run``, at last ``close``."""

    def __init__(self, seed: int, profile: Profile, pace: Pace, config: Config) -> None:
        super().__init__(seed, profile, pace, config)
        self.troubles = Troubles(profile, self, self.chance)
        self._technician = self.chance("technician")
        self._struck = asyncio.Event()  # power has failed in the commit that it was to fail in

    # --------------------------------------------------------------------- hands, for ``Troubles``

    def cut_power(self, *, clock_lost: bool = False, clock_stands: bool = False) -> None:
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
        self._clock_lost, self._clock_stood = clock_lost, clock_stands
        self._cut_ms, self._stood_ms = self._now_ms(), 0

    def restore_power(self) -> None:
        if self._powered:
            return
        self.note(0, "power comes back")
        self._look_at_cut()
        if self._clock_stood:
            self._stood_ms = self._now_ms() - self._cut_ms
        for outlet in self.outlets.values():
            outlet.power(True)
        self._switch_on()

    def _look_at_cut(self) -> None:
        """A world without power tells nothing: whoever cuts it gives it back."""
        away_s, longest_s = (self._now_ms() - self._cut_ms) // 1_000, self.profile.longest_cut_s
        if longest_s is not None and away_s > longest_s:
            self.wrong(0, f"power was away for {away_s} s, nothing cuts it for more than {longest_s:.0f} s")

    def cut_power_in_next_commit(self) -> asyncio.Event:
        if self.disk.cut_in_commit is None:
            self._struck = asyncio.Event()
            self.disk.cut_in_commit = self._strike
        return self._struck

    def _strike(self) -> None:
        self.cut_power()
        self._struck.set()

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
        self._gateway_starting = self._loop.create_task(self._start_gateway_again())

    async def _start_gateway_again(self) -> None:
        await asyncio.sleep(self._lifetime.uniform(0.5, 5))
        self._gateway_starting = None
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
        self.clock_doubted = True

    def csms_tells_wrong_time(self, by_ms: int) -> None:
        self.note(0, f"the CSMS's clock is {by_ms} ms off")
        self._csms_error_ms = by_ms
        self.clock_doubted = True

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

    def break_device(self, chance: random.Random, *, charging: bool) -> Callable[[], None] | None:
        places = [evse for evse, outlet in self.outlets.items() if outlet.contactor_closed or not charging]
        if not places:
            return None
        evse = chance.choice(places)
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

    async def run(self, until_ms: int) -> None:
        """Live until then, with calm weather every few days and at the end. Raises ``WorldFailed``."""
        story = self._loop.create_task(self._story(until_ms))
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

    async def _story(self, until_ms: int) -> None:
        self._switch_on()
        self.later(self.operator.run())
        self.later(self.money_orders.run())
        self.troubles.start()
        while now_ms() < until_ms:
            people = [self._loop.create_task(traffic.run()) for traffic in self._traffic()]
            people.append(self._loop.create_task(self._make_rounds()))
            for task in people:
                task.add_done_callback(raise_what_crashed)
            await asyncio.sleep(min(CALM_EVERY_MS, until_ms - now_ms()) / 1_000)
            for task in people:
                task.cancel()
            await asyncio.gather(*people, return_exceptions=True)
            self._look_at_promises()
            await calm_down(self)

    def _look_at_promises(self) -> None:
        """What outlives every restart, before the operator undoes it in calm weather."""
        if self.installer.unbootable:
            self.wrong(0, f"{self.installer.unbootable} starts of the machine found an empty slot")
        if self.life is not None:
            logic = self.life.station.logic
            self.accounts.compare_availability(self.operator.availability, logic.core)
            self.accounts.compare_profiles(self.operator.orders, logic.limits.profiles)

    def _traffic(self) -> list[Traffic]:
        manners = People(
            gap_ms=round(self.pace.visit_every_h * HOUR_MS),
            stay_ms=self.pace.stay_s * 1_000,
            long_percent=self.pace.long_percent,
            odd_percent=round(self.profile.careless * 100),
            broken_percent=round(self.profile.careless * 25),
            bystander_percent=round(self.profile.careless * 50),
        )
        return [
            Traffic(
                AtOutlet(outlet, partial(self.swipe, evse)),
                self.visits[evse],
                manners,
                TOKENS,
                (UNKNOWN_TOKEN,),
                partial(self.note, evse),
            )
            for evse, outlet in self.outlets.items()
        ]

    async def _make_rounds(self) -> None:
        """A technician comes now and then and clears what only he can: no restart does it for him."""
        while True:
            await asyncio.sleep(self._technician.uniform(*TECHNICIAN_EVERY_H) * HOUR_MS / 1_000)
            life = self.life
            if life is None:
                continue
            for number, evse in life.station.logic.core.evses.items():
                if not UNTIL_CLEARED.isdisjoint(evse.faults.active):
                    self.note(number, "a technician clears the faults")
                    await life.station.service.command(ClearFaults(number))

    def swipe(self, evse: int, token: str) -> None:
        """A card is held to the reader of this outlet."""
        self.note(evse, f"card {token}")
        self.parties.card(evse, token)
        if self.life is not None:
            self.later(self._present(self.life, evse, token))

    async def _present(self, life: Life, evse: int, token: str) -> None:
        said = await life.station.service.present_token(Token(token), evse)
        self.note(evse, f"the display says: {said}")

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
            "orders of money": sum(self.money_orders.counts.values()),
            "receipts under a limit": self.agreements.limited,
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
