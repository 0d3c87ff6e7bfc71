"""The serial transport on a real pty: overtaking, hang-ups, bounds, reopening."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hal.pilots import serial_line
from hal.pilots.serial_line import SerialLine
from hal.sim.pty import PtyLink
from tests.support.serial_calls import note_calls

pytestmark = pytest.mark.wire


class Ends:
    """A line, its far end, and what each was told."""

    def __init__(self, link: PtyLink) -> None:
        self.link = link
        self.opened = 0
        self.lost: list[str] = []
        self.got = bytearray()
        self.far_end_got = bytearray()
        self.line = self.another()

    def another(self, **settings: Any) -> SerialLine:
        return SerialLine(
            self.link.path,
            baud=115_200,
            on_open=self._on_open,
            on_bytes=self.got.extend,
            on_lost=self.lost.append,
            **settings,
        )

    def _on_open(self) -> None:
        self.opened += 1

    def listen(self) -> None:
        self.link.start(asyncio.get_running_loop(), self.far_end_got.extend)

    def jam(self) -> None:
        """Fill the kernel's buffer, so that the line must keep what it is given."""
        with pytest.raises(BlockingIOError):
            while True:
                os.write(self.line._fd, b".")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.002)


def run(tmp_path: Path, test: Callable[[Ends], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        link = PtyLink(tmp_path / "line")
        ends = Ends(link)
        try:
            await test(ends)
        finally:
            await ends.line.close()
            link.close()

    asyncio.run(main())


def test_bytes_both_ways(tmp_path: Path) -> None:
    async def test(ends: Ends) -> None:
        ends.listen()
        ends.line.start()
        ends.line.write(b"\x00\x03\x0a\x0d\x11\x13\xff")  # nothing is translated or swallowed
        ends.link.write(b"\x00\x03\x0a\x0d\x11\x13\xff")
        await ends.until(lambda: len(ends.got) == 7 and len(ends.far_end_got) == 7)
        assert ends.got == ends.far_end_got == b"\x00\x03\x0a\x0d\x11\x13\xff"

    run(tmp_path, test)


def test_urgent_goes_instead_of_what_waits_but_splits_no_frame(tmp_path: Path) -> None:
    async def test(ends: Ends) -> None:
        ends.line.start()
        ends.jam()
        ends.line.write(b"<begun>")
        ends.line._backlog[0], ends.line._head_begun = b"gun>", True  # as after a partial write
        ends.line.write(b"<grant>")
        assert ends.line.write_urgent(b"<withdraw>")
        ends.line.write(b"<later>")
        ends.listen()
        await ends.until(lambda: ends.far_end_got.endswith(b"<later>"))
        assert ends.far_end_got.lstrip(b".") == b"gun><withdraw><later>"

    run(tmp_path, test)


def test_urgent_on_a_free_line_leaves_at_once_and_discards_nothing(tmp_path: Path) -> None:
    async def test(ends: Ends) -> None:
        ends.line.start()
        assert not ends.line.write_urgent(b"<withdraw>")
        assert os.read(ends.link.master_fd, 100) == b"<withdraw>"  # no turn of the loop between

    run(tmp_path, test)


def test_a_port_that_takes_nothing_is_lost_and_the_backlog_bounded(tmp_path: Path) -> None:
    async def test(ends: Ends) -> None:
        ends.line.start()
        ends.jam()
        for _ in range(100):
            ends.line.write(b"x" * 100)
            assert sum(map(len, ends.line._backlog)) <= 4096
        assert not ends.lost  # never told from inside write
        await ends.until(lambda: ends.lost != [])
        assert ends.lost == ["the port takes no more bytes"]

    run(tmp_path, test)


def test_what_waits_is_dropped_before_a_port_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tty waits up to 30 s in close() for what its adapter does not take. A pty does not: the order is looked at."""
    done = note_calls(monkeypatch, "reset_output_buffer", "close")

    async def test(ends: Ends) -> None:
        ends.line.start()
        ends.jam()
        done.clear()
        for _ in range(100):
            ends.line.write(b"x" * 100)
        assert done[:2] == ["reset_output_buffer", "close"]

    run(tmp_path, test)


def test_the_last_words_of_an_orderly_end_are_not_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may still hold them when the port is closed."""
    done = note_calls(monkeypatch, "reset_output_buffer", "close")

    async def test(ends: Ends) -> None:
        ends.line.start()
        done.clear()
        ends.line.write(b"off")
        await ends.line.close()
        assert "reset_output_buffer" not in done
        assert os.read(ends.link.master_fd, 100) == b"off"

    run(tmp_path, test)


def test_a_port_on_which_nothing_is_heard_while_frames_go_out_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_line, "_SILENCE_REOPEN_S", 0.2)

    async def test(ends: Ends) -> None:
        ends.listen()
        ends.line.start()

        async def speak_until(condition: Callable[[], bool]) -> None:
            async with asyncio.timeout(5):
                while not condition():
                    ends.line.write(b"anybody there?")
                    await asyncio.sleep(0.01)

        await speak_until(lambda: ends.opened == 2)
        assert ends.lost == ["nothing heard for 0.2 s"]
        ends.link.write(b"yes")
        await speak_until(lambda: ends.got == b"yes")
        assert ends.opened == 2

    run(tmp_path, test)


def test_hang_up_is_told_once_and_the_port_opened_again(tmp_path: Path) -> None:
    async def test(ends: Ends) -> None:
        ends.listen()
        ends.line.start()
        ends.link.unplug()
        await ends.until(lambda: ends.lost != [])
        assert not ends.line.is_open
        ends.line.write(b"into the void")
        await ends.until(lambda: ends.line._retry_s > 0.4)  # an attempt failed meanwhile
        assert len(ends.lost) == 1
        ends.link.replug()
        await ends.until(lambda: ends.opened == 2)
        ends.line.write(b"again")
        await ends.until(lambda: ends.far_end_got == b"again")

    run(tmp_path, test)


def test_back_off_doubles_up_to_its_bound_and_starts_anew_with_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_line, "_LAST_RETRY_S", 0.004)
    waits: list[float] = []

    async def test(ends: Ends) -> None:
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def noted(delay: float, *call: Any, **rest: Any) -> asyncio.TimerHandle:
            if call[0] == ends.line._open:
                waits.append(delay)
            return call_later(delay, *call, **rest)

        monkeypatch.setattr(loop, "call_later", noted)
        ends.line._retry_s = 0.001
        ends.link.unplug()
        ends.line.start()
        await ends.until(lambda: len(waits) >= 5)
        assert waits[:5] == [0.001, 0.002, 0.004, 0.004, 0.004]
        assert len(ends.lost) == 1
        ends.link.replug()
        await ends.until(lambda: ends.opened == 1)
        ends.listen()
        ends.link.write(b"alive")
        await ends.until(lambda: ends.got != b"")
        assert ends.line._retry_s == serial_line._FIRST_RETRY_S

    run(tmp_path, test)


def test_parity_is_ignored_where_the_port_is_a_pty(tmp_path: Path) -> None:
    async def test(ends: Ends) -> None:
        ends.line = ends.another(parity="E")
        ends.line.start()
        assert ends.opened == 1

    run(tmp_path, test)


def test_a_port_has_one_owner(tmp_path: Path) -> None:
    async def test(ends: Ends) -> None:
        ends.line.start()
        second = ends.another()
        second.start()
        assert ends.opened == 1
        assert "lock" in ends.lost[0]
        await second.close()

    run(tmp_path, test)


def test_close_lets_go_for_good(tmp_path: Path) -> None:
    async def test(ends: Ends) -> None:
        ends.line.start()
        await ends.line.close()
        assert not ends.line.is_open
        ends.link.unplug()
        await asyncio.sleep(0.01)
        assert ends.lost == []
        with pytest.raises(RuntimeError, match="twice"):
            ends.line.start()

    run(tmp_path, test)
