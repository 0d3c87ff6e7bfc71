"""Rules of the simulated world on energy in a bill: what a board gave away is nobody's, what no process can know of is
excused, and nothing else."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.billing import read
from agent.core.facts import Sample
from agent.sim.world.device_faults import Fault
from agent.sim.world.mirror import ENDS_IN_ORDER_MS, OWED_STEPS, Mirror, Seen, Truth
from agent.sim.world.outlet import Outlet
from tests.unit.billing import making
from tests.unit.world.outlet_rig import evse_config, in_world

SEALED = making.sealed()
BILLED_MWH = cast("int", read.parse(SEALED).energy_mwh)
STEP_MWH = 1_000
WINDOW_MS = 60_000
BEGAN = Truth(0, 0, 0, STEP_MWH, 0, 0, True)
ENDED = replace(BEGAN, metered_mwh=BILLED_MWH, disturbed=1, idle_ms=10**9)


class Bench:
    """A mirror, one transaction, and what is true at its outlet now."""

    def __init__(self, began: Truth = BEGAN) -> None:
        self.truth, self.said = BEGAN, list[str]()
        nobody = cast("Any", SimpleNamespace(judge=lambda *_: None))
        self.mirror = Mirror(
            lambda _: self.truth,
            lambda _: False,
            lambda _: False,
            nobody,
            nobody,
            nobody,
            lambda _, text: self.said.append(text),
            {1: WINDOW_MS},
        )
        self.seen = Seen("tx", 1, cast("Sample", None), began, nobody, boot_id="one")

    def end(self, truth: Truth) -> list[str]:
        """What is said of the energy in its bill."""
        self.seen.ended_truth = truth
        self.mirror.ended = [self.seen]
        row = SimpleNamespace(seq=1, kind="receipt", tx_id="tx", evse=1, body=SEALED)
        self.mirror.rows([cast("Any", row)])
        return [text for text in self.said if "mWh billed" in text]


@pytest.mark.parametrize(
    ("evse", "away_ms", "clocks", "boot_id", "right"),
    [
        (1, WINDOW_MS + ENDS_IN_ORDER_MS + 1, (True, True), "two", False),
        (1, WINDOW_MS + ENDS_IN_ORDER_MS, (True, True), "two", True),
        (1, 10 * WINDOW_MS, (False, True), "two", True),
        (1, 10 * WINDOW_MS, (True, False), "two", True),
        (1, 10 * WINDOW_MS, (False, False), "one", False),
        (1, 10 * WINDOW_MS, (True, False), "lost", False),
        (2, 10 * WINDOW_MS, (True, True), "two", True),
    ],
    ids=["for long", "not for long", "wrong before", "wrong now", "same boot", "clock lost", "another board"],
)
@pytest.mark.parametrize("started", ["before", "found"])
def test_what_a_board_gives_away_while_no_station_runs_is_in_nobodys_bill(
    evse: int,
    away_ms: int,
    clocks: tuple[bool, bool],
    boot_id: str,
    right: bool,
    started: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    mirror, seen = bench.mirror, bench.seen
    seen.evse = evse
    if started == "before":
        mirror.open[evse] = seen
    mirror.timeless = {"lost"}
    bench.truth = replace(BEGAN, clock_sound=clocks[0])
    mirror.station_gone([evse])
    bench.truth = replace(ENDED, wall_ms=away_ms, clock_sound=clocks[1])
    mirror.station_starts(boot_id)
    if started == "found":
        mirror.open[evse] = seen
        with monkeypatch.context() as patch:
            patch.setattr(Mirror, "rows", lambda *_: None)
            mirror.found([cast("Any", SimpleNamespace(tx_id="tx", kind="tx_started"))])
    assert bool(bench.end(bench.truth)) is not right


@pytest.mark.parametrize(
    ("owed", "forgotten", "billed_too_much", "right"),
    [
        (0, 0, 1, True),
        (0, 0, 3, False),
        (9, 0, OWED_STEPS + 1, True),
        (9, 0, OWED_STEPS + 3, False),
        (9, 4, OWED_STEPS + 5, True),
        (9, 4, OWED_STEPS + 7, False),
        (9, 9, 10, True),
        (9, 9, 12, False),
    ],
)
def test_what_a_register_owes_is_excused_as_far_as_nobody_could_know(
    owed: int, forgotten: int, billed_too_much: int, right: bool
) -> None:
    """All in its steps."""
    began = replace(BEGAN, owed_mwh=owed * STEP_MWH, forgotten_mwh=forgotten * STEP_MWH)
    drawn_mwh = BILLED_MWH - billed_too_much * STEP_MWH
    assert bool(Bench(began).end(replace(ENDED, metered_mwh=drawn_mwh))) is not right


def test_a_process_knows_nothing_of_what_a_register_owed_before_it() -> None:
    async def story() -> None:
        outlet = Outlet(evse_config("mcu_ac"), random.Random(1), on_change=lambda _: None)
        outlet.drivers()
        outlet.fault(Fault.METER_STUCK, 10**9)
        outlet.line.change(outlet.now_ms(), 230_000, 10_000, 1)
        await asyncio.sleep(60)
        assert outlet.owed_mwh > 0 == outlet.forgotten_mwh
        outlet.detach()
        outlet.drivers()
        before_mwh = outlet.owed_mwh
        await asyncio.sleep(60)
        assert outlet.owed_mwh > before_mwh == outlet.forgotten_mwh
        outlet.clear(Fault.METER_STUCK)
        assert outlet.owed_mwh == outlet.forgotten_mwh == 0
        outlet.fault(Fault.METER_STUCK, 10**9)
        await asyncio.sleep(60)
        assert outlet.owed_mwh > 0 == outlet.forgotten_mwh, "another time"

    in_world(story)
