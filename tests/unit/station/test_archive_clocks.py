"""Which times the archive gives rows and gaps, whatever the clocks of their boots were worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.events import GapKind
from agent.core.facts import BootFact, ClockFact, SecurityFact, TxKind
from tests.unit.station.test_archive import BOOT, recovered, tx, written


def test_rows_of_1970_are_restamped_once_the_clock_is_set(tmp_path: Path) -> None:
    """Checklist part 8 test 12; field fault 6."""
    archive = written(
        tmp_path / "l",
        (tx(TxKind.STARTED, 0, 5, at_ms=900), 1_000, 1_000, "U"),
        (ClockFact(1_800_000_010_000, "CSMS", 10_000), 10_000, 1_800_000_010_000, "S"),
        (tx(TxKind.ENDED, 1, 9), 11_000, 1_800_000_011_000, "S"),
    )
    first, clock, last = archive.records(0, 10)
    assert (first.wall_ms, first.trusted_time) == (1_800_000_001_000, True)
    assert first.clock_offset_ms + first.fact.samples[0].at_ms == 1_800_000_000_900  # type: ignore[union-attr]
    assert clock.kind == "clock" and last.wall_ms - first.wall_ms == 10_000
    archive.close()


def test_rows_of_a_boot_that_never_learned_the_time_say_so(tmp_path: Path) -> None:
    archive = written(tmp_path / "l", (tx(TxKind.STARTED, 0, 5), 1_000, 1_000, "U"))
    [record] = archive.records(0, 10)
    assert not record.trusted_time and record.wall_ms == 1_000
    archive.close()


def test_gap_over_a_boot_is_told_by_the_wall_clock_or_not_at_all(tmp_path: Path) -> None:
    archive = written(tmp_path / "l", (tx(TxKind.STARTED, 0, 100), 1_000, 1_800_000_000_000, "S"))
    found = recovered(archive, 50, 1_800_000_030_000, "boot-2")
    assert (found.gap, found.gap_ms, found.age_ms) == (GapKind.POWER, 30_000, 30_000)
    assert recovered(archive, 50, None, "boot-2").gap_ms is None
    assert recovered(archive, 50, 1_799_999_999_999, "boot-2").gap_ms is None, "a clock that is behind tells nothing"
    archive.close()


def test_gap_over_a_boot_is_unknown_where_nobody_vouched_for_the_clock_before_it(tmp_path: Path) -> None:
    """It may have been ahead: hours without power would look like seconds."""
    archive = written(tmp_path / "l", (tx(TxKind.STARTED, 0, 100), 1_000, 1_800_000_000_000, "U"))
    found = recovered(archive, 50, 1_800_000_030_000, "boot-2")
    assert (found.gap, found.gap_ms) == (GapKind.POWER, None)
    archive.close()


def test_the_clock_of_a_boot_is_that_of_the_row_made_last(tmp_path: Path) -> None:
    """A clock need not have left a row of its own (``agent.core.clock``)."""
    archive = written(
        tmp_path / "l",
        (BootFact("PowerUp", "1"), 1_000, 1_800_000_001_000, "U"),
        (ClockFact(1_800_003_602_000, "CSMS", 0), 2_000, 1_800_003_602_000, "S"),
        (SecurityFact("E", ""), 3_000, 1_800_007_203_000, "S"),
    )
    found = archive.clock_of(BOOT)
    assert found is not None and (found.mono_ms, found.wall_ms, found.time_status) == (3_000, 1_800_007_203_000, "S")
    assert archive.clock_of("boot-2") is None
    archive.close()


@pytest.mark.parametrize("tie", [False, True])
def test_a_row_that_waited_for_a_signature_does_not_take_the_clock_back(tmp_path: Path, tie: bool) -> None:
    archive = written(
        tmp_path / "l",
        (BootFact("PowerUp", "1"), 2_000, 2_000, "U"),
        (ClockFact(1_800_003_602_000, "CSMS", 0), 2_000 if tie else 2_001, 1_800_003_602_000, "S"),
        *[(SecurityFact("E", ""), 1_000, 1_000, "U")] * 5,
    )
    found = archive.clock_of(BOOT)
    assert found is not None and (found.wall_ms, found.time_status) == (1_800_003_602_000, "S")
    archive.close()
