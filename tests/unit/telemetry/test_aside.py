"""Standard error whose reader stands still, goes away, or has no room."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest
import structlog

from agent.telemetry.aside import ROOM_BYTES, Aside
from agent.telemetry.logs import configure_logs

LINE = "x" * 199 + "\n"
PATIENCE_S = 60.0  # never waited for where all is well


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(reading end, writing end)"""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def _takes(stream: TextIO, text: str) -> bool:
    """Whether the text was taken; a writer that waits must fail the test, not stop it."""
    thread = threading.Thread(target=stream.write, args=(text,), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return not thread.is_alive()


def _stream(aside: Aside) -> TextIO:
    return io.TextIOWrapper(aside, "utf-8", "backslashreplace", line_buffering=True)


def _read_until(reader: int, end: bytes, got: bytes = b"") -> list[str]:
    while not got.endswith(end):
        got += os.read(reader, 65536)
    return got.decode().splitlines()


def test_a_reader_that_stands_still_keeps_nobody_and_is_told_what_it_missed(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    aside = Aside(writer)
    stream = _stream(aside)
    sent = 2 * ROOM_BYTES // len(LINE)
    for _ in range(sent):
        assert _takes(stream, LINE)
    assert not aside.drain(0.0)
    early = b""
    while len(early) < ROOM_BYTES // 2:  # then there is room again
        early += os.read(reader, 65536)
    stream.write("the next\n")
    *whole, note, last = _read_until(reader, b"the next\n", early)
    assert set(whole) == {LINE.strip()} and last == "the next"
    assert note == f"{sent - len(whole)} lines lost"
    assert ROOM_BYTES // len(LINE) <= len(whole) < sent


def test_a_longer_line_than_there_is_room_for_is_taken_alone(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = _stream(Aside(writer))
    text = "y" * 2 * ROOM_BYTES
    stream.write(text + "\n")
    assert _read_until(reader, b"\n") == [text]


@pytest.mark.parametrize("style", ["json", "console"])
def test_lines_that_could_not_be_written_are_counted_in_the_logs_own_shape(style: str) -> None:
    """As on a disk that was full for a while."""
    before = structlog.get_config()
    place = os.open("/dev/full", os.O_WRONLY)
    aside = Aside(place)
    reader, writer = os.pipe()
    try:
        configure_logs("station", "info", style, _stream(aside))
        log = structlog.get_logger("part")
        for number in range(3):
            log.info("nobody sees", number=number)
        assert aside.drain(PATIENCE_S)
        os.dup2(writer, place)
        log.info("seen", number=3)
        log.info("seen", number=4)
        assert aside.drain(PATIENCE_S)
        note, *seen = os.read(reader, 65536).decode().splitlines()
    finally:
        structlog.configure(**before)
        structlog.contextvars.clear_contextvars()
        for each in (place, reader, writer):
            os.close(each)
    assert len(seen) == 2 and all("seen" in each for each in seen)
    assert "log lines lost" in note and "station" in note and "3" in note
    if style == "json":
        told = json.loads(note)
        assert (told["count"], told["process"], told["level"]) == (3, "station", "warning")


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    aside = Aside(writer)
    text = "z" * 150_000  # more than a pipe holds
    aside.write(text.encode() + b"\n")
    assert _read_until(reader, b"\n") == [text]


def test_after_the_end_nothing_is_taken_any_more(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    aside = Aside(writer)
    aside.write(b"before\n")
    aside.end()
    aside.write(b"after\n")
    assert aside.drain(0.0)
    assert os.read(reader, 100) == b"before\n"
