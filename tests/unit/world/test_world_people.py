"""The people of the simulated world do what their plan says, at the moment that it says."""

from __future__ import annotations

import asyncio
import random

import pytest

from agent.core.events import Authorized, StopAuthorized
from agent.core.facts import Token
from agent.sim.virtual_time import now_ms, run_virtual
from agent.sim.world.people import QUIET, AtOutlet, Coming, Driver, Leaving, Manners, Traffic, Visit
from agent.sim.world.vehicle import Vehicle
from tests.unit.world.outlet_rig import KWH, Rig, car, in_world

CARD, STRANGER = "04A1B2C3", "04FFFFFF"


class Diary:
    """Hands that write down what they do. ``locked`` holds the plug so many times."""

    def __init__(self, locked: int = 0, closes_after_s: float | None = 5.0) -> None:
        self.done: list[tuple[int, str]] = []
        self.locked = locked
        self.closes_after_s = closes_after_s
        self.inside: Vehicle | None = None

    def plug(self, vehicle: Vehicle) -> bool:
        self._note("plug")
        self.inside = vehicle
        vehicle._plug = object()  # type: ignore[assignment] # plugged, as far as its driver can see
        return True

    def unplug(self, *, forced: bool = False) -> bool:
        self._note("force" if forced else "unplug")
        if self.locked > 0 and not forced:
            self.locked -= 1
            return False
        assert self.inside is not None
        self.inside._plug = None
        return True

    def swipe(self, token: str) -> None:
        self._note(f"swipe {token}")

    async def closes(self) -> None:
        await asyncio.sleep(3_600_000 if self.closes_after_s is None else self.closes_after_s)
        self._note("closes")

    def _note(self, what: str) -> None:
        self.done.append((now_ms(), what))

    @property
    def order(self) -> list[str]:
        return [what for _, what in self.done]


def visit(coming: Coming, leaving: Leaving, hands: Diary, *, again_ms: int | None = None, seed: int = 1) -> Diary:
    plan = Visit(coming, leaving, CARD, STRANGER, 600_000, again_ms)

    async def story() -> None:
        await Driver(plan, car(), hands, random.Random(seed)).run()

    run_virtual(story())
    return hands


PLAN = {
    Coming.PLUG_THEN_SWIPE: ["plug", f"swipe {CARD}", "unplug"],
    Coming.SWIPE_THEN_PLUG: [f"swipe {CARD}", "plug", "unplug"],
    Coming.PLUG_ONLY: ["plug", "unplug"],
    Coming.SWIPE_ONLY: [f"swipe {CARD}"],
    Coming.SWIPE_TWICE: ["plug", f"swipe {CARD}", f"swipe {CARD}", "unplug"],
    Coming.WRONG_TOKEN_FIRST: ["plug", f"swipe {STRANGER}", f"swipe {CARD}", "unplug"],
}


@pytest.mark.parametrize("coming", Coming)
def test_coming(coming: Coming) -> None:
    assert visit(coming, Leaving.UNPLUGGING, Diary()).order == PLAN[coming]


@pytest.mark.parametrize("seed", range(20))
def test_the_worst_moments_are_hit(seed: int) -> None:
    authorizing = visit(Coming.PLUG_THEN_SWIPE, Leaving.WHILE_AUTHORIZING, Diary(), seed=seed).done
    assert authorizing[-1][0] - authorizing[-2][0] <= 500
    closing = visit(Coming.PLUG_THEN_SWIPE, Leaving.AS_IT_CLOSES, Diary(), seed=seed).done
    assert [what for _, what in closing[-2:]] == ["closes", "unplug"]
    assert closing[-1][0] - closing[-2][0] <= 60
    ending = visit(Coming.PLUG_THEN_SWIPE, Leaving.IN_THE_ENDING, Diary(), seed=seed).done
    assert [what for _, what in ending[-2:]] == [f"swipe {CARD}", "unplug"]
    assert ending[-1][0] - ending[-2][0] <= 300


def test_who_waits_for_a_contactor_that_never_closes_leaves_in_the_end() -> None:
    diary = visit(Coming.PLUG_THEN_SWIPE, Leaving.AS_IT_CLOSES, Diary(closes_after_s=None))
    assert diary.order == ["plug", f"swipe {CARD}", "unplug"]


def test_a_locked_plug_is_pulled_again_and_help_comes_at_last() -> None:
    patient = visit(Coming.PLUG_THEN_SWIPE, Leaving.UNPLUGGING, Diary(locked=4))
    assert patient.order.count("unplug") == 5
    assert patient.order.count(f"swipe {CARD}") == 2
    helped = visit(Coming.PLUG_THEN_SWIPE, Leaving.UNPLUGGING, Diary(locked=1_000))
    assert helped.order[-1] == "force"
    assert helped.done[-1][0] - helped.done[0][0] > 3_600_000


def test_plugging_in_again_at_once() -> None:
    diary = visit(Coming.PLUG_THEN_SWIPE, Leaving.UNPLUGGING, Diary(), again_ms=700)
    assert diary.order == ["plug", f"swipe {CARD}", "unplug"] * 2
    assert diary.done[3][0] - diary.done[2][0] == 700


def test_who_waits_for_a_full_car_leaves_when_it_is() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        rig.live()
        await asyncio.sleep(5)
        plan = Visit(Coming.PLUG_THEN_SWIPE, Leaving.WHEN_FULL, CARD, STRANGER, 7_200_000)
        await Driver(plan, car(KWH), AtOutlet(rig.outlet, _reader(rig)), random.Random(1)).run()
        full_ms = next(at_ms for at_ms, text in rig.told if text == "car is full")
        left_ms = next(at_ms for at_ms, text in rig.told if text == "car unplugs")
        # He looks once a minute; the lock lets go when he has pulled and swiped.
        assert full_ms < left_ms < full_ms + 240_000
        assert not rig.outlet.contactor_closed

    in_world(story)


def _reader(rig: Rig):  # type: ignore[no-untyped-def]
    """A station without a CSMS: the card is good, and stops what it has started."""

    def swiped(token: str) -> None:
        if token == STRANGER:
            return
        busy = rig.station.evses[1].flow.in_transaction
        rig.give(StopAuthorized(1, Token(token)) if busy else Authorized(1, Token(token), None))

    return swiped


@pytest.mark.parametrize("board", ["mcu_ac", "openevse", "mcu_dc"])
def test_traffic_at_a_real_core(board: str) -> None:
    """Odd people and broken cars; after each visit the outlet is dead and what was billed is what flowed."""

    async def story() -> None:
        rig = Rig(board, seed=5)
        rig.live()
        await asyncio.sleep(5)
        told: list[str] = []
        manners = Manners(stay_ms=900_000, wants_mwh=5 * KWH, odd_percent=60, broken_percent=10)
        traffic = Traffic(
            AtOutlet(rig.outlet, _reader(rig)), random.Random(11), manners, [CARD, "04B0B0B0"], [STRANGER], told.append
        )
        for _ in range(12):
            await traffic.visit()
            await asyncio.sleep(30)
            assert rig.outlet.vehicle is None
            assert not rig.outlet.contactor_closed
            await asyncio.sleep(120)
        assert len(told) >= 12
        billed_mwh = sum(end_mwh - begin_mwh for begin_mwh, end_mwh in rig.transactions())
        assert len(rig.transactions()) >= 5
        first_mwh = rig.readings()[0].energy_import_mwh
        assert billed_mwh == rig.outlet.register_mwh - first_mwh
        assert billed_mwh > KWH

    in_world(story)


def test_traffic_is_the_same_for_the_same_seed_and_quiet_people_are_ordinary() -> None:
    async def plans(seed: int) -> list[tuple[Visit, int]]:
        traffic = Traffic(Diary(), random.Random(seed), QUIET, [CARD], [STRANGER], lambda _: None)
        return [(traffic.draw_visit(), traffic.draw_vehicle().wants_mwh) for _ in range(50)]

    assert run_virtual(plans(1)) == run_virtual(plans(1))
    assert run_virtual(plans(1)) != run_virtual(plans(2))
    for each, _ in run_virtual(plans(1)):
        assert each.coming in (Coming.PLUG_THEN_SWIPE, Coming.SWIPE_THEN_PLUG)
        assert each.leaving in (Leaving.WHEN_FULL, Leaving.UNPLUGGING, Leaving.SWIPING)
        assert each.again_ms is None


def test_long_stays_are_days_with_cars_that_sleep() -> None:
    async def visits() -> list[Visit]:
        manners = Manners(long_percent=50, broken_percent=100)
        traffic = Traffic(Diary(), random.Random(1), manners, [CARD], [STRANGER], lambda _: None)
        assert not traffic.draw_vehicle(sleeps=True).habits
        assert traffic.draw_vehicle().habits
        return [traffic.draw_visit() for _ in range(200)]

    half_a_day_ms = 43_200_000
    stays = [each for each in run_virtual(visits()) if each.stay_ms >= half_a_day_ms]
    assert 60 < len(stays) < 120
    assert max(each.stay_ms for each in stays) <= 18 * half_a_day_ms
    assert {each.leaving for each in stays} == {Leaving.UNPLUGGING, Leaving.SWIPING}
    assert Coming.PLUG_ONLY not in {each.coming for each in stays}


def test_endless_traffic_can_be_called_off_and_leaves_no_car_behind() -> None:
    async def story() -> None:
        rig = Rig("mcu_ac")
        traffic = Traffic(
            AtOutlet(rig.outlet, lambda _: None), random.Random(1), Manners(), [CARD], [STRANGER], lambda _: None
        )
        task = asyncio.create_task(traffic.run())
        while rig.outlet.vehicle is None:
            await asyncio.sleep(10)
        task.cancel()
        await asyncio.wait([task])
        assert rig.outlet.vehicle is None

    in_world(story)
