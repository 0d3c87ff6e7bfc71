"""The ring of two files: bounded, never in the way, readable while it turns."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.telemetry.ring_file import LINE_MAX_BYTES, RingFile, RingReader, entries, older

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "x.jsonl"


def test_lines_come_back_in_order(path: Path) -> None:
    ring = RingFile(path)
    for number in range(5):
        ring.append(f"line {number}")
    assert RingReader(path).last(3) == ["line 2", "line 3", "line 4"]
    assert RingReader(path).last(0) == []
    assert len(RingReader(path).last(99)) == 5


def test_two_files_hold_the_newest_lines_and_no_more(path: Path) -> None:
    ring = RingFile(path, file_bytes=1_000)
    for number in range(500):
        ring.append(f"{number:09}")
    sizes = [each.stat().st_size for each in path.parent.iterdir()]
    assert len(sizes) == 2 and max(sizes) <= 1_000
    assert RingReader(path).last(150) == [f"{number:09}" for number in range(350, 500)]


def test_a_new_process_goes_on_where_the_old_one_stopped(path: Path) -> None:
    RingFile(path, file_bytes=100).append("before")
    ring = RingFile(path, file_bytes=100)
    for number in range(12):
        ring.append(f"{number:09}")
    assert path.stat().st_size <= 100 and older(path).read_text().startswith("before\n")


def test_a_line_that_a_kill_cut_stays_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"whole": 1}\n{"cut')
    RingFile(path).append('{"next": 2}')
    assert list(entries(RingReader(path).last(9))) == [{"whole": 1}, {"next": 2}]


def test_the_group_may_read_whatever_the_mask_is(path: Path) -> None:
    before = os.umask(0o077)
    try:
        RingFile(path).append("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_a_line_too_long_is_replaced_by_its_size(path: Path) -> None:
    RingFile(path).append("x" * LINE_MAX_BYTES)
    assert list(entries(RingReader(path).last(1))) == [{"event": "line left out", "bytes": LINE_MAX_BYTES + 1}]


def test_trouble_is_told_once_and_nothing_is_raised(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    told: list[str] = []
    ring = RingFile(tmp_path / "log" / "x", told.append)
    for _ in range(3):
        ring.append("x")
    assert len(told) == 1 and "log/x" in told[0]


def test_after_trouble_lines_are_kept_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    ring = RingFile(path, told.append)
    ring.append("one")

    def full(_file: int, data: bytes) -> int:
        return real_write(_file, data[:2])  # as a full file system does

    real_write = os.write
    monkeypatch.setattr(os, "write", full)
    ring.append("two")
    monkeypatch.undo()
    ring.append("three")
    assert RingReader(path).last(9) == ["one", "tw", "three"]
    assert told == [f"{path}: no room for a whole line"]


def test_a_symbolic_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    told: list[str] = []
    RingFile(path, told.append).append("x")
    assert os.strerror(errno.ELOOP) in told[0] and not (tmp_path / "elsewhere").exists()


# ------------------------------------------------------------------------------------------ following


def test_following_sees_each_line_once_over_turns(path: Path) -> None:
    ring, reader = RingFile(path, file_bytes=200), RingReader(path)
    assert reader.new() == []  # nothing is there yet
    seen: list[str] = []
    for number in range(100):
        ring.append(f"{number:09}")
        if number % 7 == 0:
            seen += reader.new()
    assert seen + reader.new() == [f"{number:09}" for number in range(100)]


def test_following_begins_after_the_last_lines(path: Path) -> None:
    ring, reader = RingFile(path), RingReader(path)
    ring.append("one")
    assert reader.last(1) == ["one"]
    ring.append("two")
    assert reader.new() == ["two"] and reader.new() == []


def test_a_line_that_is_not_whole_yet_waits(path: Path) -> None:
    path.parent.mkdir()
    with path.open("wb", buffering=0) as file:
        reader = RingReader(path)
        file.write(b"one\ntw")
        assert reader.new() == ["one"]
        file.write(b"o\n")
        assert reader.new() == ["two"]


def test_following_outlives_a_folder_that_goes_and_comes(path: Path) -> None:
    reader = RingReader(path)
    RingFile(path).append("one")
    assert reader.new() == ["one"]
    path.unlink()
    assert reader.new() == []
    RingFile(path).append("two")
    assert reader.new() == ["two"]


@given(lines=st.lists(NAMES, max_size=60), looks=st.sets(st.integers(0, 60)))
def test_whatever_is_written_a_reader_who_keeps_up_has_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], looks: set[int]
) -> None:
    path = tmp_path_factory.mktemp("ring") / "x"
    ring, reader, seen = RingFile(path, file_bytes=10_000), RingReader(path), list[str]()
    for number, line in enumerate(lines):
        ring.append(line)
        if number in looks:
            seen += reader.new()
    assert seen + reader.new() == lines
    ring.close()
    reader.close()


def test_entries_are_the_lines_that_are_objects() -> None:
    assert list(entries(['{"a":1}', "[1]", "", "{", '"x"', "\x00", '{"b":2}'])) == [{"a": 1}, {"b": 2}]
