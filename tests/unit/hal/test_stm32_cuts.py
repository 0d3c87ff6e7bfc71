"""Whatever is cut at whatever byte or flash operation: the write made again succeeds, and no torn application starts.

The simulator erases a page from its end to its beginning, so that its vectors stay longest.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sim.virtual_time import run_virtual
from hal.firmware import FirmwareFailed
from hal.firmware.stm32_entry import BootEntry
from hal.firmware.stm32_image import Stm32Settings
from hal.sim.stm32_bootloader import Mode
from tests.unit.hal.stm32_bench import ASKED, LINES, NEW, OLD, SETTINGS, Bench, StationDied

ENTRIES: dict[str, BootEntry] = {"lines": LINES, "request": ASKED}


@pytest.fixture(params=ENTRIES)
def entry(request: pytest.FixtureRequest) -> BootEntry:
    return ENTRIES[request.param]


async def finished(bench: Bench) -> None:
    """The same write made again leaves the new application running."""
    await bench.write()
    assert bench.runs(NEW)
    assert await bench.firmware.version() == "1.1"
    assert bench.runs(NEW)
    assert bench.torn_starts() == []


@pytest.mark.parametrize("power", ["kept", "lost"])
def test_a_station_that_dies_at_any_byte(entry: BootEntry, power: str) -> None:
    """``kept``: the controller still waits in the middle of a command when the station is back."""

    async def main() -> None:
        whole = Bench(entry)
        await whole.write()
        assert 500 < whole.cable.moved < 5_000
        for dies_at in range(whole.cable.moved):
            bench = Bench(entry)
            bench.cable.dies_at = dies_at
            with pytest.raises(StationDied):
                await bench.write()
            bench.cable.dies_at = None
            if power == "lost":
                bench.restart()
            await finished(bench)

    run_virtual(main())


@pytest.mark.parametrize(
    ("entry", "unit_bytes", "whole_erasures"),
    [(LINES, 8, False), (LINES, 4, False), (LINES, 2, False), (ASKED, 8, True)],
    ids=["lines-8", "lines-4", "lines-2", "request"],
)
def test_a_controller_that_loses_power_at_any_flash_operation(
    entry: BootEntry, unit_bytes: int, whole_erasures: bool
) -> None:
    def fresh() -> Bench:
        return Bench(entry, unit_bytes=unit_bytes, whole_erasures=whole_erasures)

    async def main() -> None:
        whole = fresh()
        await whole.write()
        assert 20 < whole.flash.steps < 500
        for steps in range(whole.flash.steps):
            bench = fresh()
            bench.flash.cut_after(steps)
            with pytest.raises(FirmwareFailed):
                await bench.write()
            assert bench.controller.mode is Mode.OFF
            bench.controller.power_on()
            assert steps == 0 or not bench.runs(OLD)
            await finished(bench)

    run_virtual(main())


@given(data=st.data())
def test_one_cut_after_another(data: st.DataObject) -> None:
    entry = ENTRIES[data.draw(st.sampled_from(sorted(ENTRIES)))]
    bench = Bench(entry, whole_erasures=entry is ASKED)

    async def main() -> None:
        for _ in range(data.draw(st.integers(1, 4))):
            bench.cable.moved = 0
            if data.draw(st.booleans()):
                bench.cable.dies_at = data.draw(st.integers(0, 900))
            else:
                bench.flash.cut_after(data.draw(st.integers(0, 60)))
            try:
                await bench.write()
            except (FirmwareFailed, StationDied):
                bench.cable.dies_at = None
                if bench.controller.mode is Mode.OFF or data.draw(st.booleans()):
                    bench.restart()
            bench.cable.dies_at = None
            bench.flash.cut_after(None)
        await finished(bench)

    run_virtual(main())


def test_finding_the_boot_loader_completes_no_half_erasure() -> None:
    """Where only the line can bring the boot loader back into step, what it is sent must not erase anything while the
    old application can start. A flash with more pages than the sync byte has values."""
    settings: Stm32Settings = replace(SETTINGS, page_sizes=(64,) * 130)
    old = OLD + bytes(sum(settings.page_sizes) - len(OLD))

    async def main() -> None:
        whole = Bench(ASKED, settings=settings, content=old)
        await whole.write()
        sent = whole.cable.moved
        harmless = 0
        for dies_at in range(sent):
            bench = Bench(ASKED, settings=settings, content=old, whole_erasures=True)
            bench.cable.dies_at = dies_at
            with pytest.raises(StationDied):
                await bench.write()
            bench.cable.dies_at = None
            if bench.flash.content != old:
                break
            harmless += 1
            await bench.firmware.version()
            assert bench.flash.content == old, f"died at byte {dies_at}"
        assert harmless > 40

    run_virtual(main())


def test_a_first_page_that_cannot_be_erased_leaves_the_old_application(entry: BootEntry) -> None:
    async def main() -> None:
        bench = Bench(entry)
        bench.flash.protected.add(0)
        with pytest.raises(FirmwareFailed, match=r"first page is not erased.*write-protected"):
            await bench.write()
        assert bench.runs(OLD)
        bench.flash.protected.clear()
        await finished(bench)

    run_virtual(main())


@pytest.mark.parametrize("page", [1, 2])
def test_a_protected_page_is_found_before_anything_can_start(entry: BootEntry, page: int) -> None:
    async def main() -> None:
        bench = Bench(entry)
        bench.flash.protected.add(page)
        with pytest.raises(FirmwareFailed, match="does not hold what was written"):
            await bench.write()
        assert len(bench.controller.starts) == 1  # the one at power-on
        bench.restart()
        assert bench.controller.mode is not Mode.APPLICATION
        assert bench.torn_starts() == []
        bench.flash.protected.clear()
        await finished(bench)

    run_virtual(main())
