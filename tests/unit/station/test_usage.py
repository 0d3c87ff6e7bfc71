"""The station's use as it is seen at the core and kept beside the ledger."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from agent.core.effects import Effect
from agent.core.events import ClockSet, Event, FromMeter, GapKind, LinkChanged, Recovered
from agent.core.facts import Sample, SampleContext
from agent.core.settings import EvseHardware, StationSettings
from agent.sim.scenario import verbs
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.virtual_time import run_virtual
from agent.sim.world.site import LOCAL_TOKEN
from agent.station.usage import QUIET_TURNS, SAVE_EVERY_S, Usage
from agent.usage.model import HOUR_MS, PAGE_HOURS, STATION, UsageHour
from agent.usage.store import UsageStore
from hal.ports import BoardFault, BoardFaults, CpState, LossKind, Lost
from tests.support.core_world import TOKEN, CoreWorld

T = TypeVar("T")
AC = EvseHardware(evse=1, hard_limit_ma=32_000)
H = 530_000


@dataclass
class Watched(CoreWorld):
    """A core, its world, and the usage that looks on."""

    usage: Usage | None = None

    def give(self, event: Event) -> list[Effect]:
        effects = super().give(event)
        if self.usage is not None:
            self.usage.look()
        return effects

    async def hours(self) -> dict[int, UsageHour]:
        """What is known of the first hour, by EVSE."""
        assert self.usage is not None
        return {row.evse: row for row in await self.usage.hours(H, 1, None)}


def watched(
    folder: Path, *, clock: bool = True, devices: bool = True, evses: tuple[EvseHardware, ...] = (AC,)
) -> Watched:
    made = Watched(StationSettings(evses=evses))
    made.usage = Usage(made.station, folder / "usage.sqlite", made.at_ms)
    if clock:
        made.give(ClockSet(H * HOUR_MS, "CSMS", trusted=True))
    if devices:
        made.boot()
    return made


def virtually(story: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await story()

    return run_virtual(main())


def kept(folder: Path) -> list[UsageHour]:
    return UsageStore(folder / "usage.sqlite").rows(0, 2**40, None)


def test_a_charge_from_plug_to_unplug(tmp_path: Path) -> None:
    async def story() -> None:
        made = watched(tmp_path)
        made.run(10_000)
        begin_mwh = made.evses[1].energy_mwh
        made.charge()
        made.run(60_000)
        made.cp(1, CpState.B)
        made.run(30_000)
        made.cp(1, CpState.A)
        made.run(5_000)
        rows = await made.hours()
        assert rows[1].sessions == 1
        assert rows[1].energy_import_mwh == made.evses[1].energy_mwh - begin_mwh > 0
        assert 60_000 <= rows[1].charging_ms < 63_000
        assert 90_000 <= rows[1].occupied_ms < 93_000
        assert rows[1].peak_power_w == rows[STATION].peak_power_w == 2_300
        assert rows[1].running_ms == rows[STATION].running_ms > 105_000
        assert rows[STATION].link_up_ms == rows[1].faults == rows[1].fault_ms == 0

    virtually(story)


def test_link_faults_and_a_lost_meter(tmp_path: Path) -> None:
    async def story() -> None:
        made = watched(tmp_path)
        made.give(LinkChanged(True))
        made.run(20_000)
        made.give(LinkChanged(False))
        made.pilot(1, BoardFaults(frozenset({BoardFault.NO_GROUND, BoardFault.DIODE})))
        made.run(10_000)
        made.pilot(1, Lost(LossKind.GONE, "unplugged"))
        made.run(5_000)
        rows = await made.hours()
        assert rows[STATION].link_up_ms == 20_000
        assert rows[1].faults == 3
        assert rows[1].fault_ms == 15_000

    virtually(story)


def test_power_of_a_lost_meter_is_not_added_to_the_others(tmp_path: Path) -> None:
    async def story() -> None:
        made = watched(tmp_path, evses=(AC, EvseHardware(evse=2, hard_limit_ma=32_000)))
        made.charge(1)
        made.evses[1].meter_answers = False
        made.give(FromMeter(1, Lost(LossKind.SILENT, "no answer")))
        made.charge(2, current_ma=8_000)
        rows = await made.hours()
        assert [rows[evse].peak_power_w for evse in (STATION, 1, 2)] == [2_300, 2_300, 1_840]

    virtually(story)


def test_a_session_that_goes_on_after_a_restart_is_counted_once(tmp_path: Path) -> None:
    async def story() -> None:
        first = watched(tmp_path)
        first.charge()
        first.run(60_000)
        assert first.usage is not None
        await first.usage.close()
        second = watched(tmp_path, clock=False, devices=False)
        second.at_ms = first.at_ms
        second.evses[1].cp = CpState.C
        second.evses[1].energy_mwh = first.evses[1].energy_mwh + 700
        last = Sample(SampleContext.PERIODIC, 0, "M1", first.evses[1].energy_mwh)
        recovered = Recovered(1, "tx-1", 4, TOKEN, None, 1_000_000, last, GapKind.PROCESS, 1_000)
        for event in (ClockSet(H * HOUR_MS, "CSMS", trusted=True), recovered):
            second.station.step(event, second.at_ms)  # before anybody looks, as the station does it
        second.boot()
        second.run(2_000)
        rows = await second.hours()
        assert rows[1].sessions == 1
        assert rows[1].energy_import_mwh == second.evses[1].energy_mwh - 1_000_000

    virtually(story)


def test_without_a_clock_nothing_is_kept_until_it_comes(tmp_path: Path) -> None:
    async def story() -> None:
        made = watched(tmp_path, clock=False)
        made.charge()
        made.run(30_000)
        assert made.usage is not None
        await asyncio.sleep(SAVE_EVERY_S * QUIET_TURNS + 1)
        assert kept(tmp_path) == []
        made.give(ClockSet(H * HOUR_MS + made.at_ms, "CSMS", trusted=True))
        rows = await made.hours()
        assert rows[1].sessions == 1 and rows[1].charging_ms > 30_000

    virtually(story)


def test_it_is_written_every_quarter_of_an_hour_and_rarer_where_nothing_happens(tmp_path: Path) -> None:
    async def story() -> None:
        made = watched(tmp_path)
        made.run(1_000)
        await asyncio.sleep(SAVE_EVERY_S + 1)
        first = kept(tmp_path)
        assert first != []
        made.run(1_000)
        await asyncio.sleep(SAVE_EVERY_S * (QUIET_TURNS - 1))
        assert kept(tmp_path) == first
        await asyncio.sleep(SAVE_EVERY_S)
        quiet = kept(tmp_path)
        assert quiet != first
        made.cp(1, CpState.B)
        await asyncio.sleep(SAVE_EVERY_S)
        assert kept(tmp_path) != quiet

    virtually(story)


def test_a_disk_that_takes_nothing_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    async def story() -> None:
        made = watched(tmp_path)
        made.charge()
        with monkeypatch.context() as broken:
            broken.setattr(UsageStore, "add", refuse)
            await asyncio.sleep(SAVE_EVERY_S + 1)
        before = await made.hours()
        await asyncio.sleep(SAVE_EVERY_S * QUIET_TURNS)
        assert {row.evse: row for row in kept(tmp_path)} == before
        assert before[1].sessions == 1

    virtually(story)


def test_a_file_that_cannot_be_read_keeps_nobody_from_working(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "usage.sqlite").mkdir()
        made = watched(tmp_path)
        made.charge()
        assert (await made.hours())[1].sessions == 1
        assert made.usage is not None
        await made.usage.close()

    virtually(story)


@pytest.mark.parametrize("first", [-(2**63), 0, 2**63 - 1])
@pytest.mark.parametrize("hours", [-(2**63), -1, 0, 2**63 - 1])
def test_numbers_that_make_no_sense_are_answered(tmp_path: Path, first: int, hours: int) -> None:
    async def story() -> None:
        made = watched(tmp_path)
        assert made.usage is not None
        assert await made.usage.hours(first, hours, 2**63 - 1) == []

    virtually(story)


def test_a_week_is_answered_at_most(tmp_path: Path) -> None:
    async def story() -> None:
        made = watched(tmp_path)
        made.at_ms += (PAGE_HOURS + 50) * HOUR_MS
        made.run(1_000)
        assert made.usage is not None
        rows = await made.usage.hours(H, 10_000, STATION)
        assert [row.hour for row in rows] == [*range(H, H + PAGE_HOURS)]

    virtually(story)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_energy_of_a_live_station_is_the_meters_over_kill_and_power_cut(version: str) -> None:
    async def story(rig: WorldRig) -> None:
        world = rig.world
        first_hour = world.true_wall_ms() // HOUR_MS
        begin_mwh = world.outlets[1].register_mwh
        await rig.do(verbs.Plug())
        await rig.do(verbs.Swipe(LOCAL_TOKEN))
        await rig.wait(4 * 60_000)
        await rig.do(verbs.Kill(verbs.STATION))
        await rig.wait(3 * 60_000)
        await rig.do(verbs.CutPower())
        await rig.wait(60_000)
        await rig.do(verbs.RestorePower())
        await rig.wait(4 * 60_000)
        life = world.life
        assert life is not None
        rows = await life.station.service.usage(first_hour, 24, 1)
        assert sum(row.energy_import_mwh for row in rows) > 500_000
        metered_mwh = world.outlets[1].register_mwh - begin_mwh
        assert abs(sum(row.energy_import_mwh for row in rows) - metered_mwh) <= 100_000
        assert all(row.occupied_ms <= row.running_ms <= HOUR_MS for row in rows)
        station = await life.station.service.usage(first_hour, 24, STATION)
        assert 0.5 < sum(row.link_up_ms for row in station) / sum(row.running_ms for row in station) <= 1

    on_a_world_rig(version, story)
