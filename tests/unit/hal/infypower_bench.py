"""Controller and simulated modules in virtual time: frames pass between them in whole steps of 20 ms."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from hal.bus_counters import BusCounters
from hal.ports import PowerEvent, PowerOutput
from hal.power.can_frame import CanFrame
from hal.power.infypower_codec import Command, Header
from hal.power.infypower_config import InfypowerConfig, Mode
from hal.power.infypower_group import InfypowerGroup
from hal.sim.dc_bus import BatteryLoad, DcLoad
from hal.sim.infypower import SimInfypower

Event = TypeVar("Event")

BATTERY = BatteryLoad(open_circuit_mv=380_000, milliohm=200)
SET = (Command.SET_MODULE_OUTPUT, Command.SET_GROUP_OUTPUT)
ON = bytes(8)
OFF = b"\x01" + bytes(7)

_STEP_MS = 20
_TICK_MS = 200


class Bench:
    """``deaf`` drops frames to the modules, ``mute`` frames from them."""

    def __init__(self, config: InfypowerConfig, sim: SimInfypower) -> None:
        self.sim = sim
        self.now_ms = 0
        self.events: list[PowerEvent] = []
        self.sent: list[tuple[int, CanFrame]] = []
        self.deaf: Callable[[CanFrame], bool] = lambda frame: False
        self.mute: Callable[[CanFrame], bool] = lambda frame: False
        self._to_modules: list[CanFrame] = []
        self._to_group: list[CanFrame] = []
        self.counters = BusCounters()
        self.group = InfypowerGroup(config, self, self.events.append, self.counters)
        sim.attach(self._to_group.append)

    def send(self, frame: CanFrame) -> None:
        self.sent.append((self.now_ms, frame))
        self._to_modules.append(frame)

    def send_first(self, frames: Iterable[CanFrame]) -> None:
        for frame in frames:
            self.send(frame)

    def link(self, up: bool) -> None:
        self.deaf = self.mute = lambda frame: not up
        self.group.link(up, "" if up else "gone", self.now_ms)

    def run(self, duration_ms: int) -> None:
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.now_ms += _STEP_MS
            if self.now_ms % _TICK_MS == 0:
                self.group.tick(self.now_ms)
            heard, self._to_modules[:] = list(self._to_modules), []
            for frame in heard:
                if not self.deaf(frame):
                    self.sim.receive(frame)
            self.sim.step(self.now_ms)
            answers, self._to_group[:] = list(self._to_group), []
            for frame in answers:
                if not self.mute(frame) and self.group.accepts(frame):
                    self.group.receive(frame, self.now_ms)

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def commands(self, *wanted: Command, since_ms: int = 0, to: int | None = None) -> list[tuple[Command, int, bytes]]:
        """(command, destination, payload) of the wanted commands, in the order they were sent."""
        found = []
        for at_ms, frame in self.sent:
            header = Header.decode(frame.id)
            if at_ms >= since_ms and header.command in wanted and to in (None, header.destination):
                found.append((Command(header.command), header.destination, frame.data))
        return found


def bench(*addresses: int, mode: Mode = Mode.MODULES, load: DcLoad = BATTERY, startup_ms: int = 0) -> Bench:
    configured = addresses if mode is Mode.MODULES else ()
    config = InfypowerConfig("dc", mode, tuple(dict.fromkeys(configured)))
    made = Bench(config, SimInfypower(addresses, load=load, startup_ms=startup_ms))
    made.link(up=True)
    return made


def running(*addresses: int, mode: Mode = Mode.MODULES) -> Bench:
    made = bench(*addresses, mode=mode)
    made.run(1_500)
    made.group.set_output(400_000, 60_000, made.now_ms)
    made.group.switch(True, made.now_ms)
    made.run(5_000)
    assert made.told(PowerOutput)[-1].on
    return made


def delivering(made: Bench) -> list[bool]:
    return [module.delivering for module in made.sim.modules]
