"""Infypower REG / CEG / LRG, CAN protocol V1.13: identifiers, payloads, status bits. Pure.

Charter: bits to typed messages and back, for the driver and the simulator. No I/O, no clock, no policy.

Identifier, 29 bits: ``error(3) @26 | device(4) @22 | command(6) @16 | destination(8) @8 | source(8) @0``;
in a reply source and destination change places. Payloads are 8 bytes, big-endian. Device 0A addresses
one module, 0B a group. Modules are 00..3B, 3F is all of them, controllers are F0..F8.
Units on the wire: float V and A (03), u32 mV and mA (09, 1B, 1C), u16 V, 0.1 A and 10 W (0A), 0.1 V (0C).
Source: Infypower CAN protocol V1.13, as three open implementations agree on it; not yet checked
against a trace from the device.
"""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import dataclass

from hal.ports import BadReply, ModuleFault
from hal.power.can_frame import CanFrame

DEVICE_MODULE = 0x0A
DEVICE_GROUP = 0x0B
FIRST_CONTROLLER = 0xF0
LAST_CONTROLLER = 0xF8
LAST_MODULE = 0x3B
BROADCAST = 0x3F

_PAYLOAD_BYTES = 8
# No such module exists outside these; a value beyond them is noise, not a measurement.
_LOWEST_MV, _HIGHEST_MV = -10_000, 2_000_000
_HIGHEST_MA = 1_000_000


class Command(enum.IntEnum):
    MODULE_COUNT = 0x02
    READ_OUTPUT = 0x03  # float
    READ_STATE = 0x04
    READ_OUTPUT_FIXED = 0x09  # u32 mV, mA
    READ_CAPABILITY = 0x0A
    READ_EXTERNAL = 0x0C
    SWITCH = 0x1A
    SET_GROUP_OUTPUT = 0x1B
    SET_MODULE_OUTPUT = 0x1C


class ErrorCode(enum.IntEnum):
    """The identifier's error field; other values are reserved."""

    NORMAL = 0
    COMMAND_INVALID = 2
    DATA_INVALID = 3
    ADDRESS_INVALID = 4
    STARTING_UP = 7


class Status(enum.IntFlag):
    """The three status tables as one number: byte 5 (table 2), byte 6 (table 1), byte 7 (table 0)."""

    OUTPUT_SHORT = 1 << 0
    SLEEPING = 1 << 4
    DISCHARGE_ABNORMAL = 1 << 5
    DC_OFF = 1 << 8
    FAULT = 1 << 9
    PROTECTION = 1 << 10
    FAN = 1 << 11
    OVER_TEMPERATURE = 1 << 12
    OUTPUT_OVER_VOLTAGE = 1 << 13
    WALK_IN = 1 << 14
    COMMUNICATION_INTERRUPTED = 1 << 15
    POWER_LIMITED = 1 << 16
    ID_REPEATED = 1 << 17
    SHARING_BAD = 1 << 18
    INPUT_PHASE_LOST = 1 << 19
    INPUT_UNBALANCED = 1 << 20
    INPUT_LOW = 1 << 21
    INPUT_HIGH = 1 << 22
    PFC_OFF = 1 << 23


# Bits that are states, not alarms, are left out: DC_OFF, SLEEPING, WALK_IN, POWER_LIMITED, PFC_OFF.
# SHARING_BAD is left out too: the currents are measured, and there is nothing the station could do.
_FAULTS = {
    Status.OUTPUT_SHORT: ModuleFault.OUTPUT_SHORT,
    Status.DISCHARGE_ABNORMAL: ModuleFault.DISCHARGE,
    Status.FAULT: ModuleFault.FAULT,
    Status.PROTECTION: ModuleFault.PROTECTION,
    Status.FAN: ModuleFault.FAN,
    Status.OVER_TEMPERATURE: ModuleFault.OVER_TEMPERATURE,
    Status.OUTPUT_OVER_VOLTAGE: ModuleFault.OUTPUT_OVER_VOLTAGE,
    Status.COMMUNICATION_INTERRUPTED: ModuleFault.COMMUNICATION,
    Status.ID_REPEATED: ModuleFault.DUPLICATE_ADDRESS,
    Status.INPUT_PHASE_LOST: ModuleFault.INPUT,
    Status.INPUT_UNBALANCED: ModuleFault.INPUT,
    Status.INPUT_LOW: ModuleFault.INPUT,
    Status.INPUT_HIGH: ModuleFault.INPUT,
}


@dataclass(frozen=True, slots=True)
class Header:
    """The identifier's fields. ``command`` stays a number: a peer may send what we do not know."""

    command: int
    destination: int
    source: int
    device: int = DEVICE_MODULE
    error: int = ErrorCode.NORMAL

    def encode(self) -> int:
        """The 29-bit identifier."""
        return self.error << 26 | self.device << 22 | self.command << 16 | self.destination << 8 | self.source

    @staticmethod
    def decode(can_id: int) -> Header:
        return Header(
            error=can_id >> 26 & 0x7,
            device=can_id >> 22 & 0xF,
            command=can_id >> 16 & 0x3F,
            destination=can_id >> 8 & 0xFF,
            source=can_id & 0xFF,
        )

    def reply(self, error: int = ErrorCode.NORMAL, source: int | None = None) -> Header:
        """The header of an answer to this request."""
        answering = self.destination if source is None else source
        return Header(self.command, self.source, answering, self.device, error)


# ------------------------------------------------------------------------------------- messages


@dataclass(frozen=True, slots=True)
class ModuleCount:
    count: int


@dataclass(frozen=True, slots=True)
class Output:
    """Voltage before the output diode, and current."""

    voltage_mv: int
    current_ma: int


@dataclass(frozen=True, slots=True)
class State:
    group: int
    temperature_c: int
    status: Status


@dataclass(frozen=True, slots=True)
class Capability:
    max_voltage_mv: int
    min_voltage_mv: int
    max_current_ma: int
    max_power_w: int


@dataclass(frozen=True, slots=True)
class External:
    """Behind the output diode: the voltage of the bus, and the current the module could give now."""

    voltage_mv: int
    available_ma: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A set command was taken."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The error field was not zero; ``code`` is an ``ErrorCode`` or a reserved number."""

    code: int


Message = ModuleCount | Output | State | Capability | External | Accepted | Refused


@dataclass(frozen=True, slots=True)
class Reply:
    """``source`` is the module's address, or the group's number where ``device`` is a group."""

    source: int
    device: int
    command: Command
    message: Message


# ------------------------------------------------------------------------------------- requests


def read(command: Command, destination: int, controller: int, device: int = DEVICE_MODULE) -> CanFrame:
    """Ask for a value."""
    return CanFrame(Header(command, destination, controller, device).encode(), bytes(_PAYLOAD_BYTES))


def switch(on: bool, destination: int, controller: int, device: int = DEVICE_MODULE) -> CanFrame:
    """Output on or off. On the wire 0 is on and 1 is off."""
    payload = bytes([0 if on else 1]) + bytes(_PAYLOAD_BYTES - 1)
    return CanFrame(Header(Command.SWITCH, destination, controller, device).encode(), payload)


def set_module_output(voltage_mv: int, current_ma: int, module: int, controller: int) -> CanFrame:
    """Set-point of one module. Raises ``ValueError`` for the broadcast address: each would give it all."""
    if not 0 <= module <= LAST_MODULE:
        raise ValueError(f"a set-point goes to one module 0..{LAST_MODULE}, not to {module:#x}")
    header = Header(Command.SET_MODULE_OUTPUT, module, controller)
    return CanFrame(header.encode(), struct.pack(">II", voltage_mv, current_ma))


def set_group_output(voltage_mv: int, current_ma: int, group: int, controller: int) -> CanFrame:
    """Set-point of a group; its modules share the current."""
    header = Header(Command.SET_GROUP_OUTPUT, group, controller, DEVICE_GROUP)
    return CanFrame(header.encode(), struct.pack(">II", voltage_mv, current_ma))


# -------------------------------------------------------------------------------------- replies


def parse_reply(frame: CanFrame) -> Reply:
    """The typed reply in a frame that a module sent to a controller.

    Raises ``BadReply`` for a standard frame, a wrong length, an unknown command or an impossible value.
    """
    if not frame.extended:
        raise BadReply("infypower", f"standard frame {frame}")
    header = Header.decode(frame.id)
    where = f"{frame} from {header.source:02X}"
    try:
        command = Command(header.command)
    except ValueError:
        raise BadReply("infypower", f"unknown command {header.command:#04x} in {where}") from None
    if header.error != ErrorCode.NORMAL:
        return Reply(header.source, header.device, command, Refused(header.error))
    if len(frame.data) != _PAYLOAD_BYTES:
        raise BadReply("infypower", f"{len(frame.data)} data bytes instead of {_PAYLOAD_BYTES} in {where}")
    return Reply(header.source, header.device, command, _parse_payload(command, frame.data, where))


def _parse_payload(command: Command, data: bytes, where: str) -> Message:
    match command:
        case Command.MODULE_COUNT:
            return ModuleCount(data[2])
        case Command.READ_OUTPUT:
            volt, ampere = struct.unpack(">ff", data)
            if not (math.isfinite(volt) and math.isfinite(ampere)):
                raise BadReply("infypower", f"output is not a number in {where}")
            return _plausible(Output(round(volt * 1000), round(ampere * 1000)), where)
        case Command.READ_OUTPUT_FIXED:
            return _plausible(Output(*struct.unpack(">II", data)), where)
        case Command.READ_STATE:
            return State(data[2], struct.unpack(">b", data[4:5])[0], Status(int.from_bytes(data[5:8], "big")))
        case Command.READ_CAPABILITY:
            return _parse_capability(data, where)
        case Command.READ_EXTERNAL:
            decivolt, deciampere = struct.unpack(">HH", data[:4])
            if decivolt * 100 > _HIGHEST_MV:
                raise BadReply("infypower", f"impossible external voltage in {where}")
            return External(decivolt * 100, deciampere * 100)
        case Command.SWITCH | Command.SET_GROUP_OUTPUT | Command.SET_MODULE_OUTPUT:
            return Accepted()


def _plausible(output: Output, where: str) -> Output:
    if not _LOWEST_MV <= output.voltage_mv <= _HIGHEST_MV or abs(output.current_ma) > _HIGHEST_MA:
        raise BadReply("infypower", f"impossible output {output.voltage_mv} mV, {output.current_ma} mA in {where}")
    return output


def _parse_capability(data: bytes, where: str) -> Capability:
    max_volt, min_volt, deciampere, decawatt = struct.unpack(">HHHH", data)
    if not (min_volt <= max_volt and max_volt * 1000 <= _HIGHEST_MV and max_volt and deciampere and decawatt):
        raise BadReply("infypower", f"impossible capability in {where}")
    return Capability(max_volt * 1000, min_volt * 1000, deciampere * 100, decawatt * 10)


def faults(status: Status) -> frozenset[ModuleFault]:
    """The alarms in a status word."""
    return frozenset(fault for bit, fault in _FAULTS.items() if status & bit)
