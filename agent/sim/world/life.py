"""One run of the simulated station: the real one, on a platform of virtual time.

Charter: makes ``LiveStation`` with the world's clock, disk and devices, looks at it after every event, and ends it in
any of the ways a process ends. Between station and gateway stands ``Line``, a connection without a socket. What is
real and what is a model is told in docs/reliability.md.

Units: ms of virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from agent.config.model import Config
from agent.core.commands import ClearFaults
from agent.core.effects import Effect
from agent.core.events import Commanded, Event
from agent.ipc.port import News, StationLost, Welcome
from agent.security.keys import MeteringKey
from agent.sim.world.disk import LedgerDisk
from agent.sim.world.installer import InstallerModel
from agent.sim.world.outlet import Outlet
from agent.sim.world.pace import Pace
from agent.sim.world.watch import Watch
from agent.station.build import Build, take_boot_cause
from agent.station.hardware import Hardware
from agent.station.live import LiveStation
from agent.station.logic import PricesChanged, ProfilesChanged
from agent.station.platform import Platform


@dataclass(frozen=True, slots=True)
class Grounds:
    """What outlives every run. ``now_ms`` counts from the machine's boot, ``wall_ms`` is what its clock shows, and
    ``clock_is_proven`` whether a hardware clock shows the same."""

    config: Config
    outlets: dict[int, Outlet]
    disk: LedgerDisk
    installer: InstallerModel
    key: MeteringKey
    now_ms: Callable[[], int]
    booted_ms: Callable[[], int]
    wall_ms: Callable[[], int]
    clock_is_proven: Callable[[], bool]
    new_id: Callable[[], str]
    pace: Pace
    watch: Watch


class Life:
    """One run, from ``boot`` to ``kill`` or to its own end. ``on_end(code)`` hears that it wants to end."""

    def __init__(self, grounds: Grounds, boot_id: str, on_end: Callable[[int], None]) -> None:
        self._grounds = grounds
        self._loop = asyncio.get_running_loop()
        self._lines: list[Line] = []
        self._on_end = on_end
        self._ended = False
        self._upkeep_timer: asyncio.TimerHandle | None = None
        config = grounds.config
        build = Build(config, boot_id, take_boot_cause(config, boot_id), "1.0.0", grounds.now_ms())
        platform = Platform(
            now_ms=grounds.now_ms,
            machine_wall_ms=grounds.wall_ms,
            clock_is_proven=lambda _: grounds.clock_is_proven(),
            new_tx_id=grounds.new_id,
            metering_key=lambda _: grounds.key,
            open_writer=grounds.disk.open_writer,
            devices=self._devices,
            installer=lambda _: grounds.installer.talks(),
            free_space=grounds.disk.look,
            tick_ms=grounds.pace.tick_ms,
        )
        self.boot_id = boot_id
        self.cause = build.boot_cause
        self.station = _Watched(grounds.watch, build, platform, self._publish, self._stop)
        grounds.watch.new_run(self)
        self.station.begin()
        self._upkeep()
        self.station.start()

    def _devices(self, config: Config) -> Hardware:
        drivers = {evse.id: self._grounds.outlets[evse.id].drivers(self._grounds.booted_ms()) for evse in config.evse}
        return _WatchedHardware(
            self._grounds.watch,
            {evse: each.pilot for evse, each in drivers.items()},
            {evse: each.meter for evse, each in drivers.items()},
            {evse: each.module for evse, each in drivers.items() if each.module is not None},
        )

    def _upkeep(self) -> None:
        """What ``Upkeep.run`` does, without its five-second steps."""
        self.station.upkeep.look_at_room()
        self.station.retire()
        self._upkeep_timer = self._loop.call_later(self._grounds.pace.upkeep_ms / 1_000, self._upkeep)

    # ------------------------------------------------------------------------------------- the ends

    def _stop(self, code: int) -> None:
        if not self._ended:
            self._ended = True
            self._loop.call_soon(self._on_end, code)

    async def close(self) -> None:
        """An orderly end, as the process makes one: devices first."""
        self._leave()
        await self.station.close()
        for outlet in self._grounds.outlets.values():
            outlet.detach()

    def kill(self) -> None:
        """The process is gone at this instant, with whatever it had not written. The devices do not notice yet."""
        self._ended = True
        for outlet in self._grounds.outlets.values():
            outlet.detach()
        restore = self._grounds.disk.lose()
        self._leave()
        at_once(self.station.close())  # nothing it stands on listens any more; this gives back files and timers
        restore()

    def _leave(self) -> None:
        if self._upkeep_timer is not None:
            self._upkeep_timer.cancel()
        for line in list(self._lines):
            line.lose()

    # --------------------------------------------------------------------------------- the gateway

    def connect(self) -> Line:
        line = Line(self)
        self._lines.append(line)
        return line

    def forget(self, line: Line) -> None:
        """The other end of this line is gone."""
        if line in self._lines:
            self._lines.remove(line)
            if line.is_gateway and not self._ended:
                self.station.gateway_gone()

    def _publish(self, news: News) -> None:
        for line in self._lines:
            line.news.put_nowait(news)


class _Watched(LiveStation):
    """The station, and somebody who looks at it after each event."""

    def __init__(self, watch: Watch, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._world = watch

    def give(self, event: Event | ProfilesChanged | PricesChanged) -> None:
        if isinstance(event, Commanded) and isinstance(event.command, ClearFaults):
            self._world.technician(event.command.evse)
        super().give(event)
        self._world.look()


class _WatchedHardware(Hardware):
    """The way to the drivers, and somebody who hears what they are told."""

    def __init__(self, watch: Watch, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._hear = watch.effect

    def carry_out(self, effect: Effect) -> bool:
        self._hear(effect)
        return super().carry_out(effect)


class Line:
    """A ``StationConnection`` to the station of one run, without a socket: calls are tasks of the station."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.welcome: Welcome = life.station.welcome()
        self.news: asyncio.Queue[News | None] = asyncio.Queue()
        for news in life.station.greetings():
            self.news.put_nowait(news)
        self.is_gateway = False
        self._calls: set[asyncio.Task[Any]] = set()
        self._lost = False

    def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        answer = getattr(self._life.station.service, method)

        async def call(*arguments: Any, **named: Any) -> Any:
            if self._lost:
                raise StationLost("station is away")
            self.is_gateway = self.is_gateway or method in ("link_state", "report_parts")
            task = asyncio.get_running_loop().create_task(answer(*arguments, **named))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if task.cancelled():  # not the caller
                    raise StationLost("station went away") from None
                raise

        return call

    def lose(self) -> None:
        """The station is gone."""
        if not self._lost:
            self._drop()
            self.news.put_nowait(None)

    async def close(self) -> None:
        if not self._lost:
            self._drop()
            self._life.forget(self)

    def _drop(self) -> None:
        self._lost = True
        for call in list(self._calls):
            call.cancel()


def at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run what must not wait for anything."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("an end that waits is no sudden end")
