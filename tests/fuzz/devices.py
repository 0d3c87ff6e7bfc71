"""Targets of ``hal``: what boards, meters, power modules and boot loaders send.

Charter: each parser as its driver calls it. Where a checksum would keep every hostile byte out, a second target puts
the right one on, since damage that a checksum misses exists, and so do devices that lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, cast

from agent.sim.virtual_time import run_virtual
from hal.firmware import FirmwareFailed
from hal.firmware.stm32_image import Stm32Settings
from hal.firmware.stm32_loader import Stm32Loader
from hal.firmware.wire import Wire
from hal.meters import em580_codes
from hal.meters.map_file import load_map, parse_map
from hal.meters.registers import RegisterMap, RegisterMapError, decode_reading, decode_serial, plan_blocks
from hal.pilots import cobs, mcu_codec, protobuf, rapi_codec
from hal.pilots.rapi_codec import RapiParser
from hal.pilots.rapi_exchange import RapiExchange
from hal.pilots.serial_line import SerialLine
from hal.ports import BadReply, DeviceTimeout
from hal.power.can_frame import CanFrame
from hal.power.infypower_codec import Command, Header, faults, parse_reply
from hal.power.slcan_line import BELL, LineCutter, decode_frame, encode_frame
from tests.fuzz.target import Target

_MAPS: Final = ("carlo_gavazzi_em580", "eastron_sdm630", "eastron_sdm72")
_UNIT = 1
_STM32 = Stm32Settings(port="fuzz", chip_id=0x468, page_sizes=(2048,) * 8)


# --------------------------------------------------------------------------------------------- pilots


def _rapi_frame(text: bytes) -> bytes:
    return text + b"^%02X\r" % rapi_codec.checksum(text)


def _rapi_texts() -> list[bytes]:
    return [b"$OK :0A", b"$NK :01", b"$OK 6 0 1 :02", b"$AT 03 03 32 0141", b"$AB 00 8.2.3", b"$ANFB 1", b"$NK"]


def _rapi_stream(data: bytes) -> None:
    parser = RapiParser()
    half = len(data) // 2
    assert len(parser.feed(data[:half]) + parser.feed(data[half:])) + parser.errors <= len(data)


class _DeafLine:
    """What ``RapiExchange`` needs of a line, and nobody at its end."""

    path = "fuzz"

    def write(self, data: bytes) -> None:
        pass

    write_urgent = write


def _rapi_exchange(data: bytes) -> None:
    async def ask() -> rapi_codec.Reply:
        exchange = RapiExchange(cast(SerialLine, _DeafLine()), lambda _notice: None, 500)
        answer = asyncio.create_task(exchange.ask("GS"))
        await asyncio.sleep(0)
        exchange.received(data)
        assert exchange.damage <= len(data)
        return await answer

    assert run_virtual(ask()).sequence_id == 1


def _mcu_stream(data: bytes) -> None:
    splitter = cobs.Splitter(mcu_codec.MAX_PACKET_BYTES)
    for encoded in splitter.feed(data):
        try:
            mcu_codec.decode(mcu_codec.unframe(encoded))
        except mcu_codec.BadMessage:
            continue


def _mcu_message(data: bytes) -> None:
    assert mcu_codec.unframe(mcu_codec.frame(data)[:-1]) == data
    mcu_codec.decode(data)


def _mcu_messages() -> list[bytes]:
    told = protobuf.varint_field(2, 1) + protobuf.bytes_field(6, b"1.2.0") + protobuf.varint_field(7, 32)
    numbers = [protobuf.varint_field(number, value) for number in (101, 102, 103, 106, 107) for value in (1, 5)]
    return [protobuf.bytes_field(3, told), protobuf.bytes_field(104, protobuf.varint_field(3, 1)), *numbers]


# --------------------------------------------------------------------------------------------- meters


def _modbus_reply(data: bytes) -> None:
    """As ``ModbusLine`` lets pymodbus see it: from the awaited unit and function on, and with a right CRC as well."""
    from pymodbus.framer import FramerRTU
    from pymodbus.pdu import DecodePDU

    framer = FramerRTU(DecodePDU(False))
    for reply in (data, data + FramerRTU.compute_CRC(data).to_bytes(2)):
        if reply[:1] == bytes((_UNIT,)) and reply[1:2] in (b"\x03", b"\x04", b"\x10", b"\x83", b"\x84", b"\x90"):
            _, found = framer.handleFrame(reply, _UNIT, 0)
            assert found is None or found.isError() or isinstance(found.registers, list)


def _modbus_replies() -> list[bytes]:
    read = bytes((_UNIT, 4, 8)) + bytes(range(8))
    return [read, read[:1] + b"\x03" + read[2:], bytes((_UNIT, 0x10, 0x71, 0, 0, 1)), bytes((_UNIT, 0x83, 2))]


def _modbus_errors() -> tuple[type[Exception], ...]:
    from pymodbus.exceptions import ModbusException

    return (ModbusException,)


@cache
def _register_map(name: str) -> RegisterMap:
    return load_map(name)


def _registers(data: bytes) -> None:
    """The first byte chooses the meter, the others are its registers; what is missing is zero."""
    meter = _register_map(_MAPS[data[0] % len(_MAPS)] if data else _MAPS[0])
    words = {}
    at = 1
    for block in plan_blocks(meter):
        content = data[at : at + 2 * block.count].ljust(2 * block.count, b"\0")
        words[block] = [int.from_bytes(content[index : index + 2]) for index in range(0, len(content), 2)]
        at += 2 * block.count
    if meter.serial is not None:
        first = next(iter(words.values()))
        decode_serial(meter.serial, (first * meter.serial.width)[: meter.serial.width])
    decode_reading("fuzz", meter, words, serial="1", at_ms=0)


def _register_seeds() -> list[bytes]:
    return [bytes((number,)) + bytes(range(200)) * 2 for number in range(len(_MAPS))] + [b"\0" + b"\0" * 300]


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2].ljust(2, b"\0")) for at in range(0, len(data), 2)]


def _em580_file(data: bytes) -> None:
    assert em580_codes.file_text("fuzz", _words(data)) in data


def _em580_key(data: bytes) -> None:
    """The first byte chooses the signature type, which says how many registers the driver reads."""
    size = 2 * em580_codes.KEY_REGISTERS[data[0] % 2 if data else 0]
    em580_codes.key_der("fuzz", _words(data[1 : 1 + size].ljust(size, b"\0")))


def _meter_map(data: bytes) -> None:
    plan_blocks(parse_map("fuzz", data.decode("utf-8", "replace")))


def _meter_maps() -> list[bytes]:
    from importlib import resources

    folder = resources.files("hal.meters")
    return [(folder / f"{name}.toml").read_bytes() for name in _MAPS]


# ---------------------------------------------------------------------------------------------- power


def _can_frame(data: bytes) -> None:
    """Four bytes of identifier, whose first bit makes it a short one; the rest is the payload."""
    number = int.from_bytes(data[:4].ljust(4, b"\0"))
    short = number >> 31
    reply = parse_reply(CanFrame(number & (0x7FF if short else 0x1FFF_FFFF), data[4:12], extended=not short))
    if hasattr(reply.message, "status"):
        faults(reply.message.status)


def _can_frames() -> list[bytes]:
    return [Header(each, 0xF0, 0x01).encode().to_bytes(4) + bytes(range(8)) for each in Command]


def _slcan(data: bytes) -> None:
    cutter = LineCutter()
    for line in cutter.feed(data):
        if line == BELL:
            continue
        try:
            frame = decode_frame(line)
            assert decode_frame(encode_frame(frame)[:-1]) == frame
            parse_reply(frame)
        except BadReply:
            continue


def _slcan_seeds() -> list[bytes]:
    frames = [CanFrame(int.from_bytes(each[:4]), each[4:]) for each in _can_frames()]
    return [b"".join(map(encode_frame, frames)), b"t1238" + b"00" * 8 + b"\rz\r\a", b"T000000010" + b"\r"]


# ------------------------------------------------------------------------------------------ STM32 loader


class _Canned:
    """A ``Wire`` on which the given bytes come; ``discard`` forgets nothing, as if they came late."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def receive(self, count: int, timeout_ms: int) -> bytes:
        answer, self._data = self._data[:count], self._data[count:]
        return answer

    def send(self, data: bytes) -> None:
        pass

    def discard(self) -> None:
        pass


def _stm32(data: bytes) -> None:
    async def talk() -> None:
        loader = Stm32Loader(cast(Wire, _Canned(data)), _STM32)
        await loader.sync(from_reset=False)
        await loader.check()
        assert len(await loader.read(0x0800_0000, 16)) == 16
        await loader.erase(1, 1)
        await loader.write(0x0800_0000, bytes(8))
        await loader.go(0x0800_0000)

    run_virtual(talk())


def _stm32_seeds() -> list[bytes]:
    commands = b"\x79\x0b\x31" + bytes((0x00, 0x01, 0x02, 0x11, 0x21, 0x31, 0x44, 0x63, 0x73, 0x82, 0x92)) + b"\x79"
    chip = b"\x79\x01\x04\x68\x79"
    return [b"\x79" + commands + commands + chip + b"\x79" * 3 + bytes(16) + b"\x79" * 7, b"\x1f\x79", b"\x79\xff" * 40]


def _streams(frames: Sequence[bytes]) -> list[bytes]:
    return [*frames, b"".join(frames)]


def targets() -> list[Target]:
    bad: Any = (BadReply,)
    return [
        Target("rapi_stream", _rapi_stream, lambda: _streams([_rapi_frame(each) for each in _rapi_texts()]), (), 400),
        Target(
            "rapi_frame",
            lambda data: _rapi_stream(_rapi_frame(b"$" + data)),
            lambda: [t[1:] for t in _rapi_texts()],
            (),
            200,
        ),
        Target(
            "rapi_exchange",
            lambda data: _rapi_exchange(b"".join(_rapi_frame(b"$" + each) for each in data.split(b"\r"))),
            lambda: [b"AT 03 03 32 0141\rOK 3 1 :01", b"NK :01", b"OK :02"],
            (DeviceTimeout,),
            200,
        ),
        Target(
            "mcu_stream", _mcu_stream, lambda: _streams([mcu_codec.frame(each) for each in _mcu_messages()]), (), 2500
        ),
        Target("mcu_message", _mcu_message, _mcu_messages, (mcu_codec.BadMessage,)),
        Target("modbus_reply", _modbus_reply, _modbus_replies, _modbus_errors(), 300),
        Target("meter_registers", _registers, _register_seeds, bad, 600),
        Target("em580_file", _em580_file, lambda: [b'OCMF|{"FV":"1.0"}|{"SD":"00"}\0\0'], bad),
        Target("em580_key", _em580_key, lambda: [b"\0\x30\x59" + bytes(90), b"\1\x30\x79" + bytes(130)], bad, 200),
        Target("meter_map", _meter_map, _meter_maps, (RegisterMapError,), 8192),
        Target("can_frame", _can_frame, _can_frames, bad, 16),
        Target("slcan_stream", _slcan, _slcan_seeds, (), 600),
        Target("stm32_loader", _stm32, _stm32_seeds, (FirmwareFailed,), 600),
    ]
