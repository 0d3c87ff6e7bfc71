"""The file of the usage statistics: joined, limited in size, whole after a crash, begun anew where it is damaged."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from dataclasses import astuple
from pathlib import Path

import pytest

from agent.usage.fold import Taken
from agent.usage.model import HOUR_MS, STATION, RegisterAt, UsageHour
from agent.usage.store import KEPT_HOURS, UsageStore

H = 500_000
REGISTERS = {1: RegisterAt("M-1", 123_456_789)}


def store(folder: Path) -> UsageStore:
    return UsageStore(folder / "usage.sqlite")


def busy(hour: int, evse: int) -> UsageHour:
    """An hour with everything in it, in large numbers."""
    return UsageHour(hour, evse, HOUR_MS, 22_000_000, 9, HOUR_MS, HOUR_MS, 350_000, 99, HOUR_MS, HOUR_MS)


def fill(kept: UsageStore, first_hour: int, hours: int) -> None:
    rows = tuple(busy(hour, evse) for hour in range(first_hour, first_hour + hours) for evse in (STATION, 1, 2))
    kept.add(Taken(rows, REGISTERS))


def filled_with_two_years(folder: Path) -> UsageStore:
    """Filled at once, past the store's own way: by another that is gone."""
    kept = store(folder)
    kept.add(Taken((), REGISTERS))
    rows = (astuple(busy(hour, evse)) for hour in range(H, H + KEPT_HOURS) for evse in (STATION, 1, 2))
    with closing(sqlite3.connect(kept.path)) as file, file:
        file.executemany(f"INSERT INTO hour VALUES ({', '.join('?' * 11)})", rows)
    return store(folder)


def test_a_new_file_has_nothing(tmp_path: Path) -> None:
    assert store(tmp_path).registers() == {}
    assert store(tmp_path).rows(0, 2**40, None) == []


def test_parts_of_an_hour_are_joined_and_the_registers_are_the_newest(tmp_path: Path) -> None:
    first = UsageHour(H, 1, 1_000_000, 500, 1, 400_000, 300_000, 7_000, 1, 10_000)
    second = UsageHour(H, 1, 600_000, 250, 0, 600_000, 0, 5_000, 0, 0)
    store(tmp_path).add(Taken((first,), REGISTERS))
    assert store(tmp_path).add(Taken((second,), {1: RegisterAt("M-2", 5)})) == 0
    assert store(tmp_path).rows(H, 1, None) == [
        UsageHour(H, 1, 1_600_000, 750, 1, 1_000_000, 300_000, 7_000, 1, 10_000)
    ]
    assert store(tmp_path).registers() == {1: RegisterAt("M-2", 5)}


def test_time_that_finds_no_room_is_told(tmp_path: Path) -> None:
    row = UsageHour(H, STATION, 2_000_000)
    store(tmp_path).add(Taken((row,), {}))
    assert store(tmp_path).add(Taken((row,), {})) == 400_000
    assert store(tmp_path).rows(H, 1, None) == [UsageHour(H, STATION, HOUR_MS)]


def test_rows_are_those_that_were_asked_for(tmp_path: Path) -> None:
    kept = store(tmp_path)
    fill(kept, H, 3)
    assert kept.rows(H + 1, 1, None) == [busy(H + 1, evse) for evse in (STATION, 1, 2)]
    assert kept.rows(H, 2, 2) == [busy(H, 2), busy(H + 1, 2)]


def test_two_years_of_two_evses_take_less_than_three_megabytes_for_ever(tmp_path: Path) -> None:
    kept = filled_with_two_years(tmp_path)
    full_bytes = kept.path.stat().st_size
    assert full_bytes < 3_000_000
    for day in range(60):
        fill(kept, H + KEPT_HOURS + 24 * day, 24)
    assert kept.path.stat().st_size < full_bytes + 100_000
    rows = kept.rows(0, 2**40, STATION)
    assert len(rows) == KEPT_HOURS
    assert rows[-1].hour - rows[0].hour == KEPT_HOURS - 1


def test_a_clock_that_was_years_ahead_makes_nothing_old(tmp_path: Path) -> None:
    kept = store(tmp_path)
    fill(kept, H, 10)
    fill(kept, 10 * H, 1)
    fill(kept, H + 10, 1)
    assert len(kept.rows(0, 2**40, 1)) == 12


@pytest.mark.parametrize("damage", ["garbage", "cut", "sectors", "other", "newer"])
def test_a_damaged_file_is_set_aside_and_another_begun(tmp_path: Path, damage: str) -> None:
    kept = store(tmp_path)
    fill(kept, H, 500)
    whole = bytearray(kept.path.read_bytes())
    if damage == "garbage":
        kept.path.write_bytes(random.Random(1).randbytes(len(whole)))
    elif damage == "cut":
        kept.path.write_bytes(whole[: len(whole) // 2])
    elif damage == "sectors":
        whole[16_384:20_480] = bytes(4_096)  # of the hours, which a start does not need
        kept.path.write_bytes(whole)
    else:
        kept.path.unlink()
        with sqlite3.connect(kept.path) as file:
            file.execute("PRAGMA user_version = " + ("7" if damage == "newer" else "1"))
            file.execute("CREATE TABLE other (a)")
        file.close()
    before = kept.path.read_bytes()
    assert kept.registers() == {}
    assert kept.path.with_name("usage.sqlite.damaged").read_bytes() == before
    fill(kept, H, 1)
    assert len(kept.rows(H, 1, None)) == 3
    assert {file.name for file in tmp_path.iterdir()} <= {
        "usage.sqlite",
        "usage.sqlite-journal",
        "usage.sqlite.damaged",
    }


def test_only_the_newest_damaged_file_is_kept(tmp_path: Path) -> None:
    kept = store(tmp_path)
    for content in (b"first" * 1_000, b"second" * 1_000):
        kept.path.write_bytes(content)
        assert kept.rows(H, 1, None) == []
    assert [file.read_bytes()[:6] for file in tmp_path.glob("*damaged*")] == [b"second"]


def test_a_full_disk_is_no_damage(tmp_path: Path) -> None:
    kept = UsageStore(tmp_path / "away" / "usage.sqlite")
    with pytest.raises(sqlite3.OperationalError):
        kept.add(Taken((busy(H, 1),), {}))
    assert list(tmp_path.iterdir()) == []


def test_a_process_killed_in_mid_commit_leaves_what_was_there_before(tmp_path: Path) -> None:
    kept = filled_with_two_years(tmp_path)
    before = kept.path.read_bytes()
    child = os.fork()
    if child == 0:  # more than SQLite holds back: pages go to the file early. It dies before the commit.
        with pytest.MonkeyPatch.context() as dying:
            dying.setattr("agent.usage.store._retire", lambda _: os._exit(0))
            fill(kept, H + KEPT_HOURS - 14_000, 14_001)
    os.waitpid(child, 0)
    assert kept.path.read_bytes() != before, "nothing was written in mid-commit: this test proves nothing"
    assert kept.registers() == REGISTERS
    assert kept.path.read_bytes() == before
