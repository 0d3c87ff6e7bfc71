"""Strict JSON: every value is asked for by type and limit, and a refusal names its exact place.

Charter: bytes to checked values. Nothing is guessed or converted: a float, a NaN, a boolean where a number belongs, an
unknown or repeated key is refused. The text's own values never reach a message unless they are printable ASCII.
Memory: at most ``max_values`` values are made; they are counted before parsing, by the bytes that separate them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from agent.firmware.errors import Refusal, UpdateRefused

_DIGITS_MAX: Final = 19
_SHOWN_CHARS: Final = 60


class _Repeated(dict[str, Any]):
    """An object that named a key twice."""


class _Number:
    """A number that is never right: not whole, not finite, or too long."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def parse_json(data: bytes, document: str, max_values: int) -> Node:
    """The JSON text in ``data``, all of it. ``document`` is what refusals call it."""
    root = Node(None, document)
    if sum(map(data.count, (b"[", b"{", b",", b":"))) > max_values:
        root.refuse(f"it has more than {max_values} values")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_Number,
            parse_constant=_Number,
        )
    except UnicodeDecodeError as error:
        root.refuse(f"it is not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        root.refuse(f"it is not JSON at character {error.pos}: {error.msg}")
    except RecursionError:
        root.refuse("it is nested too deeply")
    return Node(value, document)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else _Repeated(made)


def _integer(text: str) -> int | _Number:
    return int(text) if len(text) <= _DIGITS_MAX else _Number(text)


def shown(value: object) -> str:
    """A stranger's value in a message: short, and nothing but printable ASCII."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str) and len(value) > _SHOWN_CHARS:
        return f"{value[:_SHOWN_CHARS]!a}..."
    return ascii(value)[: 2 * _SHOWN_CHARS]


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place. All methods raise ``UpdateRefused`` (malformed) with that place."""

    value: object
    document: str
    path: str = ""

    @property
    def where(self) -> str:
        return f"{self.document}: {self.path}" if self.path else self.document

    def refuse(self, why: str) -> NoReturn:
        raise UpdateRefused(Refusal.MALFORMED, self.where, why)

    def expected(self, what: str) -> NoReturn:
        self.refuse(f"{shown(self.value)} where {what} belongs")

    def members(self, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Node]:
        """The members by name; only those that are there."""
        if not isinstance(self.value, dict):
            self.expected("an object")
        if isinstance(self.value, _Repeated):
            self.refuse("a key is named twice")
        for name in self.value:
            if name not in required and name not in optional:
                self.refuse(f"unknown key {shown(name)}")
        for name in required:
            if name not in self.value:
                self.refuse(f"{name} is missing")
        return {name: self.below(name, value) for name, value in self.value.items()}

    def array(self, least: int, most: int) -> list[Node]:
        if not isinstance(self.value, list):
            self.expected("an array")
        if not least <= len(self.value) <= most:
            self.refuse(f"{len(self.value)} entries, {least} to {most} are allowed")
        return [Node(value, self.document, f"{self.path}[{index}]") for index, value in enumerate(self.value)]

    def text(self, pattern: re.Pattern[str], what: str) -> str:
        """A text that ``pattern`` matches from end to end; ``what`` says so in words."""
        if not isinstance(self.value, str) or not pattern.fullmatch(self.value):
            self.expected(what)
        return self.value

    def integer(self, least: int, most: int) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            self.expected("a whole number")
        if not least <= self.value <= most:
            self.refuse(f"{self.value}, {least} to {most} are allowed")
        return self.value

    def below(self, name: str, value: object) -> Node:
        """A member, unchecked."""
        return Node(value, self.document, f"{self.path}.{name}" if self.path else name)
