"""Commands and replies over RAPI: one command in flight, matched by its sequence id.

Charter: pairs replies with commands, hands notifications on in the callback that brought their bytes,
times out, and counts all of it. What is asked, repeated or concluded is the driver's business.

The sequence id is the only guard against a late reply, so every command carries a new one, and a
reply with any other id is dropped. An urgent command does not wait for the one in flight: the board
takes them one after another from its receive buffer; nobody waits for its reply, because the driver
repeats it until the board's state confirms it.

Source: OpenEVSE firmware ``rapi_proc.cpp`` (its own sender waits 500 ms).
Units: milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hal.bus_counters import BusCounters
from hal.pilots import rapi_codec
from hal.pilots.rapi_codec import Boot, Notice, RapiParser, Reply, StateChange
from hal.pilots.serial_line import SerialLine
from hal.ports import DeviceTimeout, LossKind


class RapiExchange:
    """RAPI on one open line. ``on_notice`` must not raise; it may send urgent commands."""

    def __init__(
        self, line: SerialLine, on_notice: Callable[[StateChange | Boot | Notice], None], timeout_ms: int
    ) -> None:
        self.counters = BusCounters()
        self._line = line
        self._on_notice = on_notice
        self._timeout_ms = timeout_ms
        self._parser = RapiParser()
        self._sequence_id = 0
        self._waiting_id = 0  # 0: nothing in flight
        self._answer: asyncio.Future[Reply] | None = None
        self._unreadable_commands = 0  # the board said NK without telling to what

    @property
    def damage(self) -> int:
        """Damaged frames and noise in either direction since the start; only ever grows."""
        return self._parser.errors + self._unreadable_commands

    async def ask(self, text: str) -> Reply:
        """Send one command and wait for its reply, once. The bytes leave before the first await.

        Raises ``DeviceTimeout``; ``RuntimeError`` if a command is in flight already.
        """
        if self._answer is not None:
            raise RuntimeError(f"{self._line.path}: {text!r} while a command is in flight")
        sequence_id = self._next_id()
        frame = rapi_codec.command(text, sequence_id)
        self._waiting_id = sequence_id
        self._answer = asyncio.get_running_loop().create_future()
        self._line.write(frame)
        damage, loop = self.damage, asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            reply = await asyncio.wait_for(self._answer, self._timeout_ms / 1000)
            self.counters.answered(round((loop.time() - asked_at) * 1_000_000))
            return reply
        except TimeoutError:
            if self.damage == damage:  # what came damaged is counted already
                self.counters.failed(LossKind.SILENT)
            raise DeviceTimeout(self._line.path, f"no reply to {text!r} in {self._timeout_ms} ms") from None
        finally:
            self._answer = None

    def send_urgent(self, text: str) -> None:
        """Send now, also while a command is in flight; the reply is not awaited."""
        self._line.write_urgent(rapi_codec.command(text, self._next_id()))

    def received(self, data: bytes) -> None:
        """Bytes from the line; notifications are handed on before this returns."""
        damage = self.damage
        for frame in self._parser.feed(data):
            if not isinstance(frame, Reply):
                self._on_notice(frame)
            elif frame.sequence_id is None:
                self._unreadable_commands += 1
            elif self._answer is not None and frame.sequence_id == self._waiting_id and not self._answer.done():
                self._answer.set_result(frame)
        self.counters.failed(LossKind.GARBAGE, self.damage - damage)

    def _next_id(self) -> int:
        self._sequence_id = self._sequence_id % 0xFF + 1
        return self._sequence_id
