"""One simulated Infypower module: what it was told, what it says, how it comes up and when it gives up.

Charter: the module by itself. The bus it feeds, and the group it belongs to, are ``hal.sim.infypower``.
It shares identifiers and status bits with the driver's codec; the test vectors hold both to the document.

Faults: SILENT (dead to the bus; its own time-out runs), DROP (hears, says nothing), DELAY (``param`` ms),
CORRUPT (identifier damaged), SHORT (3 bytes), GARBAGE (all ones), DUPLICATE, WRONG_UNIT (next address),
REFUSE (error code ``param``), STUCK (readings freeze), RESET (reboots). Alarms are status bits.
"""

from __future__ import annotations

import struct

from hal.power.infypower_codec import Capability, Command, ErrorCode, Header, Output, Status
from hal.sim.faults import Fault, FaultSwitch

REG1K0100 = Capability(max_voltage_mv=1_000_000, min_voltage_mv=150_000, max_current_ma=100_000, max_power_w=30_000)

SILENCE_MS = 10_000
_PAYLOAD_BYTES = 8
_DAMAGED_COMMAND = 0x3E
_STOPPING = (
    Status.FAULT | Status.PROTECTION | Status.OVER_TEMPERATURE | Status.OUTPUT_OVER_VOLTAGE | Status.OUTPUT_SHORT
)


class SimModule:
    """A module that was plugged in at ``now_ms`` and refuses everything for ``startup_ms``."""

    def __init__(self, address: int, group: int, rating: Capability, now_ms: int, startup_ms: int) -> None:
        self.address = address
        self.group = group
        self.rating = rating
        self.alarms = Status(0)  # set from outside; over-temperature, short and their like stop the output
        self.temperature_c = 41  # set from outside, too
        self.duplicate = False
        self.faults = FaultSwitch(
            frozenset(Fault) - {Fault.UNPLUG},  # a module is unplugged by taking it out of the simulator
            self._fault_changed,
        )
        self.output = Output(0, 0)  # before the diode, as measured
        self.power_limited = False
        self.ramp_mv = 0
        self.set_mv = 0
        self.set_ma = 0
        self.follows_group = False  # the current comes from the group's total
        self._startup_ms = startup_ms
        self._now_ms = now_ms
        self._ready_at_ms = now_ms + startup_ms
        self._heard_ms = now_ms
        self._on = False
        self._interrupted = False
        self._stuck: Output | None = None

    @property
    def delivering(self) -> bool:
        return self._on and not self.alarms & _STOPPING

    @property
    def status(self) -> Status:
        status = self.alarms
        if not self.delivering:
            status |= Status.DC_OFF
        if self._interrupted:
            status |= Status.COMMUNICATION_INTERRUPTED
        if self.duplicate:
            status |= Status.ID_REPEATED
        if self.power_limited:
            status |= Status.POWER_LIMITED
        return status

    def limit_ma(self, voltage_mv: int, own_ma: int) -> int:
        """What it can give at this voltage, told ``own_ma``: by set-point, rating and power; 0 above its ramp."""
        if not self.delivering or voltage_mv > self.ramp_mv:
            return 0
        return min(own_ma, self.rating.max_current_ma, self._power_limit_ma(voltage_mv))

    def is_power_limited(self, voltage_mv: int, own_ma: int) -> bool:
        return self.delivering and self._power_limit_ma(voltage_mv) < min(own_ma, self.rating.max_current_ma)

    def _power_limit_ma(self, voltage_mv: int) -> int:
        return self.rating.max_power_w * 1_000_000 // max(1, voltage_mv)

    def advance(self, now_ms: int, soft_start_ms: int) -> None:
        """Time passes: the silence time-out, and the ramp of the soft start."""
        passed_ms = now_ms - self._now_ms
        self._now_ms = now_ms
        if now_ms - self._heard_ms > SILENCE_MS:
            self._on = False
            self._interrupted = True
        if self.delivering:
            risen_mv = self.ramp_mv + self.rating.max_voltage_mv * passed_ms // max(1, soft_start_ms)
            self.ramp_mv = min(self.set_mv, risen_mv)
        else:
            self.ramp_mv = 0

    def hear(self) -> ErrorCode:
        """A controller's frame arrived. What the error field of the answer is to be."""
        self._heard_ms = self._now_ms
        if self._now_ms < self._ready_at_ms:
            return ErrorCode.STARTING_UP
        return ErrorCode.NORMAL

    def switch(self, on: bool) -> None:
        if on and not self._on:
            self.ramp_mv = 0
        self._on = on
        self._interrupted = False  # the bit stays after a silence until somebody takes command again

    def execute(self, header: Header, data: bytes, external_mv: int) -> tuple[ErrorCode, bytes]:
        """Do or read what was asked of this module alone: error code and payload of the answer."""
        match header.command:
            case Command.READ_OUTPUT:
                output = self._stuck or self.output
                payload = struct.pack(">ff", output.voltage_mv / 1000, output.current_ma / 1000)
            case Command.READ_OUTPUT_FIXED:
                output = self._stuck or self.output
                payload = struct.pack(">II", output.voltage_mv, output.current_ma)
            case Command.READ_STATE:
                payload = struct.pack(">xxBxb", self.group, self.temperature_c) + self.status.to_bytes(3, "big")
            case Command.READ_CAPABILITY:
                payload = struct.pack(
                    ">HHHH",
                    self.rating.max_voltage_mv // 1000,
                    self.rating.min_voltage_mv // 1000,
                    self.rating.max_current_ma // 100,
                    self.rating.max_power_w // 10,
                )
            case Command.READ_EXTERNAL:
                payload = struct.pack(">HHxxxx", external_mv // 100, self.rating.max_current_ma // 100)
            case Command.SWITCH:
                if data[0] > 1:
                    return ErrorCode.DATA_INVALID, data
                self.switch(data[0] == 0)
                payload = data
            case Command.SET_MODULE_OUTPUT:
                voltage_mv, current_ma = struct.unpack(">II", data)
                if not self.accepts_voltage(voltage_mv) or current_ma > self.rating.max_current_ma:
                    return ErrorCode.DATA_INVALID, data
                self.set_mv, self.set_ma, self.follows_group = voltage_mv, current_ma, False
                payload = data
            case _:
                return ErrorCode.COMMAND_INVALID, bytes(_PAYLOAD_BYTES)
        return ErrorCode.NORMAL, payload

    def accepts_voltage(self, voltage_mv: int) -> bool:
        return self.rating.min_voltage_mv <= voltage_mv <= self.rating.max_voltage_mv

    def distort(self, header: Header, payload: bytes) -> tuple[Header, bytes]:
        """What faults make of the answer."""
        if self.faults.take(Fault.CORRUPT):
            header = Header(_DAMAGED_COMMAND, header.destination, header.source, header.device, header.error)
        if self.faults.take(Fault.WRONG_UNIT):
            header = Header(header.command, header.destination, header.source + 1, header.device, header.error)
        if self.faults.take(Fault.GARBAGE):
            payload = b"\xff" * _PAYLOAD_BYTES
        if self.faults.take(Fault.SHORT):
            payload = payload[:3]
        return header, payload

    def _fault_changed(self, fault: Fault, on: bool) -> None:
        if fault is Fault.STUCK:
            self._stuck = self.output if on else None
        elif fault is Fault.RESET and on:
            self._on = False
            self.set_mv = self.set_ma = 0
            self._ready_at_ms = self._now_ms + self._startup_ms
