"""What a gateway tells the station that cannot be true, or asks for and there is not: the station stays as it was."""

from __future__ import annotations

from agent.ipc.port import CompositeSchedule
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.station.service import StationService

YEAR_10000_MS = 253_402_300_800_000


def service(rig: WorldRig) -> StationService:
    assert rig.world.life is not None
    return rig.world.life.station.service


def test_a_clock_outside_the_calendar_is_not_taken() -> None:
    async def story(rig: WorldRig) -> list[int]:
        seen = []
        for wall_ms in (-1, YEAR_10000_MS, 2**62):
            before_ms = (await service(rig).status()).wall_ms
            await service(rig).clock(wall_ms)
            seen.append((await service(rig).status()).wall_ms - before_ms)
        return seen

    assert on_a_world_rig("2.0.1", story) == [0, 0, 0]


def test_a_believable_clock_is_taken() -> None:
    async def story(rig: WorldRig) -> int:
        before_ms = (await service(rig).status()).wall_ms
        await service(rig).clock(before_ms + 3_600_000)
        return (await service(rig).status()).wall_ms - before_ms

    assert on_a_world_rig("2.0.1", story) == 3_600_000


def test_a_schedule_in_a_unit_that_nobody_knows_is_none() -> None:
    async def story(rig: WorldRig) -> dict[str | None, CompositeSchedule | None]:
        return {unit: await service(rig).composite_schedule(1, 60, unit) for unit in ("A", "W", None, "Ah", "")}

    found = on_a_world_rig("1.6", story)
    assert [unit for unit, schedule in found.items() if schedule is None] == ["Ah", ""]
    assert found["A"] is not None and found["A"].unit == "A"
