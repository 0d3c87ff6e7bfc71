"""The ``PowerModule`` port for Infypower modules: ``InfypowerGroup`` on a CAN bus, in real time.

Charter: timers and the bus around the pure ``infypower_group``. The bus is shared and belongs to who
opened it; this driver only joins and leaves. Protocol rules are in the group, bytes in the codec.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from hal.ports import PowerEvent
from hal.power.can_bus import CanBus, CanLine
from hal.power.can_frame import CanFrame
from hal.power.infypower_config import InfypowerConfig
from hal.power.infypower_group import InfypowerGroup

_TICK_MS = 200  # how fast an unconfirmed OFF is repeated
_CLOSE_WAIT_MS = 1_000


class InfypowerModules:
    """``now_ms`` is the monotonic clock of all readings. ``bus`` is to be started first."""

    def __init__(self, config: InfypowerConfig, bus: CanBus, now_ms: Callable[[], int]) -> None:
        self._bus = bus
        self._now_ms = now_ms
        self._tick_s = min(_TICK_MS, config.poll_interval_ms) / 1000
        self._on_event: Callable[[PowerEvent], None] | None = None
        self._line: CanLine | None = None
        self._at_rest = asyncio.Event()  # nothing left to switch off, or nobody to tell
        self._timer: asyncio.TimerHandle | None = None
        self._group = InfypowerGroup(config, self, self._emit, bus.counters)

    def start(self, on_event: Callable[[PowerEvent], None]) -> None:
        """Join the bus; call inside the running loop, once."""
        self._on_event = on_event
        self._line = self._bus.attach(self._group.accepts, self._receive, self._link)
        self._link(self._line.up, self._line.why_down)
        self._tick()

    def set_output(self, voltage_mv: int, current_ma: int) -> None:
        self._group.set_output(voltage_mv, current_ma, self._now_ms())

    def switch(self, on: bool) -> None:
        self._group.switch(on, self._now_ms())

    def temperatures(self) -> dict[str, int]:
        return self._group.temperatures()

    async def close(self) -> None:
        """Switch off, wait up to a second for the modules to confirm it, and leave the bus."""
        if self._line is None:
            return
        self.switch(False)
        if self._line.up and not self._group.all_off:
            self._at_rest.clear()
            with contextlib.suppress(TimeoutError):
                # A module that does not answer cannot hold up the end: its own time-out switches it off.
                await asyncio.wait_for(self._at_rest.wait(), _CLOSE_WAIT_MS / 1000)
        if self._timer is not None:
            self._timer.cancel()
        self._on_event = None
        self._line.close()
        self._line = None

    # The group's frame sink. Without a line nothing is sent: joining starts the modules from OFF anyway.

    def send(self, frame: CanFrame) -> None:
        if self._line is not None:
            self._line.send(frame)

    def send_first(self, frames: Iterable[CanFrame]) -> None:
        if self._line is not None:
            self._line.send_first(frames)

    def _receive(self, frame: CanFrame) -> None:
        self._group.receive(frame, self._now_ms())
        if self._group.all_off:
            self._at_rest.set()

    def _link(self, up: bool, why_down: str) -> None:
        self._group.link(up, why_down, self._now_ms())
        if not up:
            self._at_rest.set()

    def _emit(self, event: PowerEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def _tick(self) -> None:
        self._group.tick(self._now_ms())
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)
