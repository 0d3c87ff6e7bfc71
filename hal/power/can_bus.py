"""One CAN bus, shared by the drivers on it: reads it, keeps it open, lets nobody wait.

Charter: owns a ``CanPort``: reader on its file descriptor, bounded queue out, reopening with bounded
back-off. It knows frames, not protocols. Not thread-safe: everything runs in the event loop's thread.

Why not python-can's asyncio Notifier: at a hang-up the descriptor stays readable, and the Notifier spins
at full load without telling anybody (measured with 4.6.1). Here an error removes the reader at once.

Sending never blocks. A frame is put into the queue and goes out at once if there is room; otherwise it is
offered again every few milliseconds (SocketCAN's queue holds 10 frames by default). There is no
transmit acknowledgement on this level: check replies, not sends. While the bus is down frames are
dropped, not kept: what was wanted a second ago may be dangerous now, so drivers start anew at ``on_link``.

A bus on which nothing at all is heard for half a minute while frames go out is reopened: an adapter that
was reset by itself has forgotten its bit rate, and nothing else would ever tell it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

import structlog

from hal.bus_counters import BusCounters
from hal.ports import DeviceLost, LossKind
from hal.power.can_frame import CanFrame
from hal.power.can_ports import CanBusConfig, CanPort, open_can_port

_MAX_QUEUED_FRAMES = 1024  # four rounds of a full bus of 60 modules
_RETRY_SEND_S = 0.005
_REOPEN_FIRST_S = 0.5
_REOPEN_MAX_S = 5.0
_SILENCE_REOPEN_S = 30.0

_log = structlog.get_logger(__name__)


class CanLine:
    """One driver's place on the bus; made by ``CanBus.attach``."""

    def __init__(
        self,
        bus: CanBus,
        accepts: Callable[[CanFrame], bool],
        on_frame: Callable[[CanFrame], None],
        on_link: Callable[[bool, str], None],
    ) -> None:
        self._bus = bus
        self.accepts = accepts
        self.on_frame = on_frame
        self.on_link = on_link

    @property
    def up(self) -> bool:
        return self._bus.up

    @property
    def why_down(self) -> str:
        return self._bus.why_down

    def send(self, frame: CanFrame) -> None:
        """Queue a frame. Dropped while the bus is down; a full queue drops its oldest frame."""
        self._bus.enqueue(self, frame)

    def send_first(self, frames: Iterable[CanFrame]) -> None:
        """Send ahead of everybody, and drop what this line had queued: nothing older may follow an OFF."""
        self._bus.enqueue_first(self, frames)

    def close(self) -> None:
        """Leave the bus. What is queued still goes out."""
        self._bus.detach(self)


class CanBus:
    """``open_port`` is replaced in tests; ``config.name`` is the device in every message."""

    def __init__(self, config: CanBusConfig, open_port: Callable[[CanBusConfig], CanPort] = open_can_port) -> None:
        self.config = config
        self.counters = BusCounters()  # what the frames mean is for the drivers to count; here a loss of the bus
        self._open_port = open_port
        self._lines: list[CanLine] = []
        self._queue: deque[tuple[CanLine, CanFrame]] = deque()
        self._port: CanPort | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump_timer: asyncio.TimerHandle | None = None
        self._reopen_timer: asyncio.TimerHandle | None = None
        self._reopen_delay_s = _REOPEN_FIRST_S
        self._heard_at = 0.0  # loop time
        self.why_down = "not opened yet"

    @property
    def up(self) -> bool:
        return self._port is not None

    def start(self) -> None:
        """Open now, and keep open. Call inside the running loop; further calls do nothing.

        Raises ``ValueError`` for a configuration that can never work.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._open()

    async def close(self) -> None:
        """Send what is queued as far as it goes without waiting, and release the port."""
        if self._pump_timer is not None:
            self._pump_timer.cancel()
        self._pump()
        self._release()
        if self._reopen_timer is not None:
            self._reopen_timer.cancel()
            self._reopen_timer = None
        self._loop = None

    def attach(
        self,
        accepts: Callable[[CanFrame], bool],
        on_frame: Callable[[CanFrame], None],
        on_link: Callable[[bool, str], None],
    ) -> CanLine:
        """Join the bus: ``on_frame`` for every frame that ``accepts`` takes, ``on_link(up, why)`` at changes.

        The present state is the line's ``up``.
        """
        line = CanLine(self, accepts, on_frame, on_link)
        self._lines.append(line)
        return line

    def detach(self, line: CanLine) -> None:
        if line in self._lines:
            self._lines.remove(line)

    def enqueue(self, line: CanLine, frame: CanFrame) -> None:
        if self._port is None:
            return
        if len(self._queue) >= _MAX_QUEUED_FRAMES:
            self._queue.popleft()
        self._queue.append((line, frame))
        self._pump_unless_waiting()

    def enqueue_first(self, line: CanLine, frames: Iterable[CanFrame]) -> None:
        if self._port is None:
            return
        self._queue = deque(entry for entry in self._queue if entry[0] is not line)
        self._queue.extendleft((line, frame) for frame in reversed(list(frames)))
        self._pump_unless_waiting()

    # ---------------------------------------------------------------------------------- sending

    def _pump_unless_waiting(self) -> None:
        if self._pump_timer is None:
            self._pump()

    def _pump(self) -> None:
        self._pump_timer = None
        port, loop = self._port, self._loop
        if port is None or loop is None:
            return
        try:
            while self._queue and port.send(self._queue[0][1]):
                self._queue.popleft()
            drained = port.flush() and not self._queue
        except DeviceLost as error:
            self._fail(error.detail)
            return
        if not drained:
            self._pump_timer = loop.call_later(_RETRY_SEND_S, self._pump)
        if loop.time() - self._heard_at > _SILENCE_REOPEN_S:
            self._fail(f"nothing heard for {_SILENCE_REOPEN_S:.0f} s")

    # -------------------------------------------------------------------------------- receiving

    def _readable(self) -> None:
        assert self._port is not None and self._loop is not None
        try:
            frames = self._port.receive()
        except DeviceLost as error:
            self._fail(error.detail)
            return
        if frames:
            self._heard_at = self._loop.time()
            self._reopen_delay_s = _REOPEN_FIRST_S  # only now is it known that the adapter works
        for frame in frames:
            for line in list(self._lines):
                # A listener's own send may have found the bus gone: what was read before that is history.
                if self._port is not None and line.accepts(frame):
                    line.on_frame(frame)

    # ------------------------------------------------------------------------ opening and losing

    def _open(self) -> None:
        assert self._loop is not None
        self._reopen_timer = None
        try:
            port = self._open_port(self.config)
        except DeviceLost as error:
            self._fail(error.detail)
            return
        self._port = port
        self.why_down = ""
        self._heard_at = self._loop.time()
        self._loop.add_reader(port.fileno(), self._readable)
        _log.info("CAN bus up", bus=self.config.name, channel=self.config.channel)
        for line in list(self._lines):
            line.on_link(True, "")

    def _fail(self, detail: str) -> None:
        assert self._loop is not None
        self._release()
        self.counters.failed(LossKind.GONE)
        self.why_down = detail
        delay_s = self._reopen_delay_s
        self._reopen_delay_s = min(2 * delay_s, _REOPEN_MAX_S)
        self._reopen_timer = self._loop.call_later(delay_s, self._open)
        _log.warning("CAN bus down", bus=self.config.name, detail=detail, reopen_s=delay_s)
        for line in list(self._lines):
            line.on_link(False, detail)

    def _release(self) -> None:
        self._queue.clear()
        if self._pump_timer is not None:
            self._pump_timer.cancel()
            self._pump_timer = None
        if self._port is not None:
            assert self._loop is not None
            self._loop.remove_reader(self._port.fileno())
            self._port.close()
            self._port = None
