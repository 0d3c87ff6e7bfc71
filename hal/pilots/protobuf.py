"""The three protobuf wire types that pilot boards use: varint, length-delimited, 32-bit. Pure.

Charter: fields <-> bytes; which field means what is the business of the message codec above. 64-bit
fields and groups are refused: no board sends them.
Source: Protocol Buffers encoding specification (wire types 0, 2 and 5).
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, BYTES, FIXED32 = 0, 2, 5
_MAX_FIELD = (1 << 29) - 1
_MAX_VARINT = (1 << 64) - 1


class ProtobufError(ValueError):
    """Bytes that are not a message of the supported wire types."""


def varint_field(number: int, value: int) -> bytes:
    """Unsigned integers, enumerations and bools. Raises ``ValueError`` outside 0..2**64-1."""
    return _varint(_key(number, VARINT)) + _varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Strings, bytes and sub-messages."""
    return _varint(_key(number, BYTES)) + _varint(len(value)) + value


def fixed32_field(number: int, value: bytes) -> bytes:
    """``float`` and ``fixed32``, as four bytes little-endian."""
    if len(value) != 4:
        raise ValueError(f"a 32-bit field takes 4 bytes, not {len(value)}")
    return _varint(_key(number, FIXED32)) + value


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) in the order sent: ``int`` for varint, ``bytes`` for the other two.

    Raises ``ProtobufError`` at the first damaged field.
    """
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        number, wire_type = key >> 3, key & 7
        if not 1 <= number <= _MAX_FIELD:
            raise ProtobufError(f"field number {number} at byte {at}")
        if wire_type == VARINT:
            value, at = _read_varint(message, at)
            yield number, value
            continue
        if wire_type == BYTES:
            length, at = _read_varint(message, at)
        elif wire_type == FIXED32:
            length = 4
        else:
            raise ProtobufError(f"field {number} has the unsupported wire type {wire_type}")
        if at + length > len(message):
            raise ProtobufError(f"field {number} is cut short at byte {len(message)}")
        yield number, message[at : at + length]
        at += length


def _key(number: int, wire_type: int) -> int:
    if not 1 <= number <= _MAX_FIELD:
        raise ValueError(f"field number {number} is not 1..{_MAX_FIELD}")
    return number << 3 | wire_type


def _varint(value: int) -> bytes:
    if not 0 <= value <= _MAX_VARINT:
        raise ValueError(f"{value} does not fit an unsigned varint")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value > _MAX_VARINT:
                raise ProtobufError(f"varint at byte {at} is longer than 64 bits")
            return value, at + count + 1
    raise ProtobufError(f"varint at byte {at} does not end")
