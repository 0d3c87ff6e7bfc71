"""Simulated Infypower modules on a CAN bus, feeding one DC bus together.

Charter: a CAN node with several modules on it, as far as a controller can tell real ones: protocol V1.13,
soft start, bleed-down, limits by voltage, current and power, the 10 s silence time-out, refusal while
starting up, hot-plug, duplicate addresses, and faults by name (see ``infypower_module``).

Time comes in by ``step(now_ms)``, so hours pass in a moment; ``start`` lets it follow a clock instead.
It attaches to anything that carries ``CanFrame``: ``SimSlcanAdapter``, a ``CanBus``, a test's own list.
Units: mV, mA, W, ms; ``energy_mwh`` is what the load took, exact over all steps.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable

from hal.power.can_frame import CanFrame
from hal.power.infypower_codec import (
    BROADCAST,
    DEVICE_GROUP,
    DEVICE_MODULE,
    FIRST_CONTROLLER,
    LAST_CONTROLLER,
    Capability,
    Command,
    ErrorCode,
    Header,
    Output,
)
from hal.sim.dc_bus import DcLoad, EnergyCounter, OpenCircuit, operating_point
from hal.sim.faults import Fault
from hal.sim.infypower_module import REG1K0100, SimModule

_STEP_MS = 20  # the longest piece of time that is treated as one
_DELAY_MS = 500
_MAX_LATE_FRAMES = 1000


class SimInfypower:
    """All modules of one group. ``load`` may be replaced at any time (a vehicle is plugged in or out)."""

    def __init__(
        self,
        addresses: Iterable[int],
        *,
        load: DcLoad | None = None,
        group: int = 0,
        rating: Capability = REG1K0100,
        startup_ms: int = 0,
        soft_start_ms: int = 1_000,
        bleed_ms: int = 2_000,
        now_ms: int = 0,
    ) -> None:
        self.load: DcLoad = load if load is not None else OpenCircuit()
        self.group = group
        self.modules: list[SimModule] = []
        self.voltage_mv = 0
        self.current_ma = 0
        self._rating = rating
        self._startup_ms = startup_ms
        self._soft_start_ms = soft_start_ms
        self._bleed_ms = bleed_ms
        self._now_ms = now_ms
        self._group_ma = 0
        self._energy = EnergyCounter()
        self._transmit: Callable[[CanFrame], None] | None = None
        self._late: list[tuple[int, CanFrame]] = []
        self._timer: asyncio.TimerHandle | None = None
        for address in addresses:
            self.plug_in(address)

    @property
    def energy_mwh(self) -> int:
        return self._energy.mwh

    @property
    def energy_nanojoule(self) -> int:
        return self._energy.nanojoule

    def attach(self, transmit: Callable[[CanFrame], None]) -> None:
        """Where this node's frames go."""
        self._transmit = transmit

    def plug_in(self, address: int) -> SimModule:
        """Add a module while everything runs. An address twice is possible, as in the field."""
        module = SimModule(address, self.group, self._rating, self._now_ms, self._startup_ms)
        self.modules.append(module)
        self._mark_duplicates()
        return module

    def pull_out(self, module: SimModule) -> None:
        """Take a module away: neither its power nor its answers are there any more."""
        self.modules.remove(module)
        self._mark_duplicates()

    def _mark_duplicates(self) -> None:
        addresses = [module.address for module in self.modules]
        for module in self.modules:
            module.duplicate = addresses.count(module.address) > 1

    # --------------------------------------------------------------------------------------- time

    def start(self, now_ms: Callable[[], int], interval_ms: int = _STEP_MS) -> None:
        """Follow a clock; call inside the running loop."""
        self.step(now_ms())
        self._timer = asyncio.get_running_loop().call_later(interval_ms / 1000, self.start, now_ms, interval_ms)

    def close(self) -> None:
        """Stop following the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def step(self, now_ms: int) -> None:
        """Let time pass up to ``now_ms``; time does not go back."""
        while self._now_ms < now_ms:
            passed_ms = min(_STEP_MS, now_ms - self._now_ms)
            self._now_ms += passed_ms
            for module in self.modules:
                module.advance(self._now_ms, self._soft_start_ms)
            self._settle(passed_ms)
            self._energy.add(self.voltage_mv, self.current_ma, passed_ms)
        due = [frame for due_ms, frame in self._late if due_ms <= now_ms]
        self._late = [entry for entry in self._late if entry[0] > now_ms]
        for frame in due:
            self._send(frame)

    def _settle(self, passed_ms: int) -> None:
        """Find where modules and load meet, and give each module its part of the current."""
        running = [module for module in self.modules if module.delivering]
        self.current_ma = 0
        if not running:
            self.voltage_mv = max(0, self.voltage_mv - self._rating.max_voltage_mv * passed_ms // self._bleed_ms)
        else:
            own_ma = {id(m): self._group_ma // len(running) if m.follows_group else m.set_ma for m in running}

            def supply_ma(voltage_mv: int) -> int:
                return sum(m.limit_ma(voltage_mv, own_ma[id(m)]) for m in running)

            highest_mv = max(m.ramp_mv for m in running)
            self.voltage_mv, self.current_ma = operating_point(self.load, supply_ma, highest_mv)
            limited = self.voltage_mv < highest_mv
        total_ma = supply_ma(self.voltage_mv) if running else 0
        left_ma = self.current_ma
        for module in self.modules:
            module.output = Output(0, 0)
            module.power_limited = False
            if module.delivering:
                limit_ma = module.limit_ma(self.voltage_mv, own_ma[id(module)])
                part_ma = self.current_ma * limit_ma // total_ma if total_ma else 0
                module.output = Output(self.voltage_mv, part_ma)
                module.power_limited = limited and module.is_power_limited(self.voltage_mv, own_ma[id(module)])
                left_ma -= part_ma
        if running:  # what integer division left over, so that the parts are the whole
            running[0].output = Output(self.voltage_mv, running[0].output.current_ma + left_ma)

    # ---------------------------------------------------------------------------------------- bus

    def receive(self, frame: CanFrame) -> None:
        """A frame on the bus, whoever sent it."""
        header = Header.decode(frame.id)
        if not frame.extended or not FIRST_CONTROLLER <= header.source <= LAST_CONTROLLER:
            return
        if header.device == DEVICE_GROUP and header.destination == self.group:
            self._receive_group(header, frame.data)
        elif header.device == DEVICE_MODULE:
            for module in list(self.modules):
                if header.destination in (module.address, BROADCAST) and not module.faults.take(Fault.SILENT):
                    error, payload = self._obey(module, header, frame.data)
                    self._answer(module, header.reply(error, module.address), payload)

    def _obey(self, module: SimModule, header: Header, data: bytes) -> tuple[ErrorCode | int, bytes]:
        error = module.hear()
        if error is not ErrorCode.NORMAL:
            return error, data
        refusal = module.faults.param(Fault.REFUSE, ErrorCode.COMMAND_INVALID)
        if module.faults.take(Fault.REFUSE):
            return refusal, data
        if len(data) != 8:
            return ErrorCode.DATA_INVALID, data
        return module.execute(header, data, self.voltage_mv)

    def _receive_group(self, header: Header, data: bytes) -> None:
        """The first module that lives speaks for the group; all of them hear."""
        alive = [module for module in self.modules if not module.faults.take(Fault.SILENT)]
        ready = [module for module in alive if module.hear() is ErrorCode.NORMAL]
        if not alive:
            return
        error, payload = ErrorCode.NORMAL, data
        if not ready:
            error = ErrorCode.STARTING_UP
        elif header.command == Command.MODULE_COUNT:
            payload = bytes([0, 0, len(ready), 0, 0, 0, 0, 0])
        elif header.command == Command.SET_GROUP_OUTPUT and len(data) == 8:
            voltage_mv, current_ma = struct.unpack(">II", data)
            if all(module.accepts_voltage(voltage_mv) for module in ready):
                self._group_ma = current_ma
                for module in ready:
                    module.set_mv, module.follows_group = voltage_mv, True
            else:
                error = ErrorCode.DATA_INVALID
        elif header.command == Command.SWITCH and data[:1] in (b"\x00", b"\x01"):
            for module in ready:
                module.switch(data[0] == 0)
        else:
            error = ErrorCode.COMMAND_INVALID
        self._answer(alive[0], header.reply(error, self.group), payload)

    def _answer(self, module: SimModule, header: Header, payload: bytes) -> None:
        if module.faults.take(Fault.DROP):
            return
        header, payload = module.distort(header, payload)
        frame = CanFrame(header.encode(), payload)
        copies = 2 if module.faults.take(Fault.DUPLICATE) else 1
        delay_ms = module.faults.param(Fault.DELAY, _DELAY_MS)
        delayed = module.faults.take(Fault.DELAY)
        for _ in range(copies):
            if not delayed:
                self._send(frame)
            elif len(self._late) < _MAX_LATE_FRAMES:
                self._late.append((self._now_ms + delay_ms, frame))

    def _send(self, frame: CanFrame) -> None:
        if self._transmit is not None:
            self._transmit(frame)
