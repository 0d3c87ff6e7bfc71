"""Messages of the protobuf pilot microcontroller (Yeti field numbers): our side of the wire. Pure.

Charter: framing, and the messages that the driver sends and understands. Messages that it does not
need (telemetry, power meter, firmware update) are read and dropped.

Wire: protobuf message, its CRC-32/JAMCRC (reflected EDB88320, init FFFFFFFF, no final XOR) in little
endian, all COBS-encoded, one zero byte. 115200 8N1.
Source: EVerest ``YetiDriver`` protocol files and the firmware family that shares the framing.
Units: 0.01 % duty; ampere in the keep-alive's capabilities, as on the wire.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from hal.pilots import cobs, protobuf
from hal.ports import BoardFault, CpState, LockPosition

MAX_PACKET_BYTES = 2048

# To the MCU.
_KEEP_ALIVE, _CONNECTOR_LOCK, _PWM_DUTY_CYCLE, _ALLOW_POWER_ON, _RESET = 100, 102, 103, 104, 105
# From the MCU.
_MCU_KEEP_ALIVE, _MCU_RESET, _CP_STATE, _RELAIS_STATE, _ERROR_FLAGS, _PP_STATE, _LOCK_STATE = (
    3, 101, 102, 103, 104, 106, 107,
)  # fmt: skip
_NEEDED = frozenset({_MCU_KEEP_ALIVE, _MCU_RESET, _CP_STATE, _RELAIS_STATE, _ERROR_FLAGS, _PP_STATE, _LOCK_STATE})

_CP_STATES = tuple(CpState)  # A..F are 0..5
_ERRORS: Mapping[int, BoardFault] = {
    1: BoardFault.DIODE,
    2: BoardFault.RESIDUAL_SELF_TEST,
    3: BoardFault.RESIDUAL_CURRENT,
    4: BoardFault.NO_VENTILATION,
    5: BoardFault.LOCK,
    6: BoardFault.PILOT,
    7: BoardFault.OVER_CURRENT,
}
# 100 Ohm means 63 A with three phases and 70 A with one (IEC 61851-1 table B.2): the lower is safe in both.
_CABLE_RATINGS_MA: tuple[int | None, ...] = (None, 13_000, 20_000, 32_000, 63_000, None)
_PP_FAULT = 5
_LOCK_POSITIONS = (LockPosition.UNKNOWN, LockPosition.UNLOCKED, LockPosition.LOCKED)


class BadMessage(ValueError):
    """A frame or message that the MCU's protocol does not allow."""


class UnknownValue(BadMessage):
    """A sound message with a value that this release does not know; the MCU's firmware may be newer.

    ``means`` is what it must be taken for: nothing of what was told before holds."""

    def __init__(self, field: int, value: int, means: McuMessage) -> None:
        super().__init__(f"field {field} cannot be {value}")
        self.field, self.means = field, means


@dataclass(frozen=True, slots=True)
class McuKeepAlive:
    hardware_type: int
    hardware_revision: int
    software: str
    max_current_a: int | None  # None: not told


@dataclass(frozen=True, slots=True)
class McuReset:
    watchdog: bool


@dataclass(frozen=True, slots=True)
class McuCpState:
    cp: CpState


@dataclass(frozen=True, slots=True)
class McuRelais:
    closed: bool


@dataclass(frozen=True, slots=True)
class McuErrors:
    faults: frozenset[BoardFault]


@dataclass(frozen=True, slots=True)
class McuProximity:
    rating_ma: int | None
    fault: bool


@dataclass(frozen=True, slots=True)
class McuLock:
    position: LockPosition


McuMessage = McuKeepAlive | McuReset | McuCpState | McuRelais | McuErrors | McuProximity | McuLock

_UNKNOWN: Mapping[int, McuMessage] = {
    _CP_STATE: McuCpState(CpState.E),  # an error of the pilot: no power, and nothing is known of the vehicle
    _PP_STATE: McuProximity(None, fault=True),
    _LOCK_STATE: McuLock(LockPosition.UNKNOWN),  # such as "locking"
}


def jamcrc(data: bytes) -> int:
    """CRC-32 without its final XOR; over data and their own CRC it gives 0."""
    return zlib.crc32(data) ^ 0xFFFFFFFF


def frame(message: bytes) -> bytes:
    """A protobuf message as it goes on the wire."""
    return cobs.encode(message + jamcrc(message).to_bytes(4, "little")) + b"\x00"


def unframe(encoded: bytes) -> bytes:
    """The message of one frame without its zero byte. Raises ``BadMessage``."""
    try:
        data = cobs.decode(encoded)
    except cobs.CobsError as error:
        raise BadMessage(f"COBS: {error}") from error
    if len(data) < 4 or jamcrc(data) != 0:
        raise BadMessage(f"CRC of a frame of {len(data)} bytes")
    return data[:-4]


def keep_alive() -> bytes:
    return frame(protobuf.bytes_field(_KEEP_ALIVE, b""))


def connector_lock(locked: bool) -> bytes:
    return frame(protobuf.varint_field(_CONNECTOR_LOCK, locked))


def pwm_duty_cycle(duty_centipercent: int) -> bytes:
    """0 is state F, 10000 is steady +12 V."""
    return frame(protobuf.varint_field(_PWM_DUTY_CYCLE, duty_centipercent))


def allow_power_on(allowed: bool) -> bytes:
    return frame(protobuf.varint_field(_ALLOW_POWER_ON, allowed))


def reset() -> bytes:
    return frame(protobuf.varint_field(_RESET, True))


def decode(message: bytes) -> McuMessage | None:
    """A message from the MCU; None for one that we do not need. Raises ``BadMessage``, of a value ``UnknownValue``."""
    try:
        found = list(protobuf.fields(message))
    except protobuf.ProtobufError as error:
        raise BadMessage(f"protobuf: {error}") from error
    needed = [field for field in found if field[0] in _NEEDED]  # newer firmware may say more beside it
    if not found or len(needed) > 1:
        raise BadMessage(f"{len(found)} fields in a message that has one")
    if not needed:
        return None
    number, value = needed[0]
    if number == _MCU_KEEP_ALIVE:
        return _keep_alive(_submessage(number, value))
    if number == _ERROR_FLAGS:
        flags = _submessage(number, value)
        return McuErrors(frozenset(fault for flag, fault in _ERRORS.items() if flags.get(flag)))
    if not isinstance(value, int):
        raise BadMessage(f"field {number} is not a number")
    return _scalar(number, value)


def _scalar(number: int, value: int) -> McuMessage:
    if number == _MCU_RESET:
        return McuReset(watchdog=value == 1)
    if number == _RELAIS_STATE:
        return McuRelais(value != 0)
    if number == _CP_STATE and value < len(_CP_STATES):
        return McuCpState(_CP_STATES[value])
    if number == _PP_STATE and value < len(_CABLE_RATINGS_MA):
        return McuProximity(_CABLE_RATINGS_MA[value], fault=value == _PP_FAULT)
    if number == _LOCK_STATE and value < len(_LOCK_POSITIONS):
        return McuLock(_LOCK_POSITIONS[value])
    raise UnknownValue(number, value, _UNKNOWN[number])


def _submessage(number: int, value: int | bytes) -> dict[int, int | bytes]:
    if not isinstance(value, bytes):
        raise BadMessage(f"field {number} is not a message")
    try:
        return dict(protobuf.fields(value))
    except protobuf.ProtobufError as error:
        raise BadMessage(f"field {number}: {error}") from error


def _keep_alive(fields: Mapping[int, int | bytes]) -> McuKeepAlive:
    hardware_type, revision, software, max_current = (fields.get(number) for number in (2, 3, 6, 7))
    return McuKeepAlive(
        hardware_type=hardware_type if isinstance(hardware_type, int) else 0,
        hardware_revision=revision if isinstance(revision, int) else 0,
        software=software.decode("ascii", "replace")[:64] if isinstance(software, bytes) else "",
        max_current_a=max_current if isinstance(max_current, int) and max_current > 0 else None,
    )
