"""Right inputs made a little wrong.

Charter: byte and JSON mutations, driven by a ``Random`` so that Hypothesis and the coverage-guided fuzzer share them.
The JSON steps work on any value inside the bytes, wherever it begins, so they reach into records and frames too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

_STEPS_MAX: Final = 4
_PIECE_MAX_BYTES: Final = 64
_REPEATS_MAX: Final = 200
_NEST_MAX: Final = 1_200
"""Beyond the interpreter's own limit of some 1000 calls."""

_NUMBERS: Final = (
    b"0", b"1", b"-1", b"-0", b"00", b"127", b"255", b"65535", b"65536", b"2147483648", b"4294967296",
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"1e5", b"1e400", b"-1e-400", b"0.1",
    b"1.0", b"9" * 30, b"9" * 5_000, b"NaN", b"Infinity", b"inf", b"1_0", b"0x1", "\u0663".encode(),
)  # fmt: skip
_TEXTS: Final = (
    "", "\x00", " ", "a" * 300, "\ud800", "\u2028", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    "2026-02-30T00:00:00Z", "24:00", "-1", "1e9", "EUR", "true", "Europe/Berlin", "http://[", "file:///..", "%00",
)  # fmt: skip
_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**31, 2**53, 2**63, -(2**63) - 1, 10**30, 0.0, -0.0, 0.1, 1e308, 1e-308,
    float("nan"), float("inf"), [], {}, [None], [[]], [{}], {"": None},
)  # fmt: skip
_BYTES: Final = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\r\n", b"\n", b"|", b"^", b"$", b'"', b"\\ud800", b"\xed\xa0\x80",
)  # fmt: skip
_OPENING: Final = re.compile(rb"[\[{]")


def mutated(data: bytes, others: Sequence[bytes], random: Random, max_bytes: int) -> bytes:
    """``data`` after a few steps, some of which take pieces of ``others``; at most ``max_bytes`` long."""
    for _ in range(random.randint(1, _STEPS_MAX)):
        data = random.choice(_STEPS)(data, others, random)
    return data[:max_bytes]


def _span(data: bytes, random: Random) -> tuple[int, int]:
    """A short piece: where it begins and ends."""
    begin = random.randint(0, len(data))
    return begin, min(len(data), begin + random.randint(0, _PIECE_MAX_BYTES))


def _flip(data: bytes, _others: Sequence[bytes], random: Random) -> bytes:
    changed = bytearray(data or b"\0")
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _truncate(data: bytes, _others: Sequence[bytes], random: Random) -> bytes:
    return data[: random.randint(0, len(data))]


def _cut(data: bytes, _others: Sequence[bytes], random: Random) -> bytes:
    begin, end = _span(data, random)
    return data[:begin] + data[end:]


def _repeat(data: bytes, _others: Sequence[bytes], random: Random) -> bytes:
    begin, end = _span(data, random)
    return data[:end] + data[begin:end] * random.randint(1, _REPEATS_MAX) + data[end:]


def _insert(data: bytes, _others: Sequence[bytes], random: Random) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(_BYTES + _NUMBERS) + data[at:]


def _splice(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(others) if others else data
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _number(data: bytes, _others: Sequence[bytes], random: Random) -> bytes:
    found = list(re.finditer(rb"-?[0-9]+(?:\.[0-9]+)?", data))
    if not found:
        return data
    one = random.choice(found)
    return data[: one.start()] + random.choice(_NUMBERS) + data[one.end() :]


def _digit(data: bytes, _others: Sequence[bytes], random: Random) -> bytes:
    """A number of the same length: another day, another hour, one byte more in a length."""
    places = [at for at, byte in enumerate(data) if 0x30 <= byte <= 0x39]
    if not places:
        return data
    at = random.choice(places)
    return data[:at] + b"%d" % random.randrange(10) + data[at + 1 :]


def _nest(data: bytes, _others: Sequence[bytes], random: Random) -> bytes:
    """One value, many levels deeper."""
    depth = random.randint(1, _NEST_MAX)
    opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"{a=", b"}"), (b"<a>", b"</a>")))
    place = _json_place(data, random) if random.random() < 0.7 else None
    begin, end = _span(data, random) if place is None else place[:2]
    return data[:begin] + opening * depth + (data[begin:end] or b"1") + closing * depth + data[end:]


def _json_place(data: bytes, random: Random) -> tuple[int, int, Any] | None:
    """A JSON array or object somewhere in the bytes: where it begins and ends, and its value."""
    openings = [each.start() for each in _OPENING.finditer(data)]
    if not openings:
        return None
    begin = random.choice(openings)
    text = data[begin:].decode("utf-8", "surrogateescape")
    try:
        value, length = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return begin, begin + len(text[:length].encode("utf-8", "surrogateescape")), value


def _json_step(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """One member of an array or object replaced, dropped, doubled or renamed."""
    place = _json_place(data, random)
    if place is None:
        return data
    begin, end, value = place
    try:
        text = json.dumps(_changed(value, others, random))
    except (ValueError, RecursionError):
        return data
    return data[:begin] + text.encode() + data[end:]


def _changed(value: Any, others: Sequence[bytes], random: Random) -> Any:
    new = _any_value(others, random)
    if not value:
        return new
    if isinstance(value, list):
        at = random.randrange(len(value))
        return random.choice((
            [*value[:at], new, *value[at + 1 :]],
            [*value[:at], *value[at + 1 :]],
            [*value[:at], *[value[at]] * random.randint(2, 20), *value[at + 1 :]],
        ))  # fmt: skip
    name = random.choice(list(value))
    return random.choice((
        {**value, name: new},
        {each: value[each] for each in value if each != name},
        {(random.choice(_TEXTS) if each == name else each): value[each] for each in value},
        {**value, random.choice(list(value)): value[name]},
    ))  # fmt: skip


def _any_value(others: Sequence[bytes], random: Random) -> Any:
    kind = random.randrange(4)
    if kind == 0 and others:
        place = _json_place(random.choice(others), random)
        return None if place is None else place[2]
    return random.choice(_TEXTS) if kind == 1 else random.choice(_VALUES)


_Step = Callable[[bytes, Sequence[bytes], Random], bytes]
_STEPS: Final[tuple[_Step, ...]] = (
    _flip, _truncate, _cut, _repeat, _insert, _splice, _number, _digit, _nest, _json_step, _json_step, _json_step,
)  # fmt: skip
