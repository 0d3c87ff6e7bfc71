"""Rules for single values of a configuration file: what is expected there, an example, a strict check.

Charter: every leaf of the configuration dataclasses carries one ``Rule`` in its field's metadata.
Nothing is coerced: text "5" is not the number 5, and ``true`` is not 1. A value that does not fit
raises ``Unfit``, which carries all that a person needs to mend it. Relations between values are in
``agent.config.cross``.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from agent.passing import is_passing

FILE_THERE: Final = "the path of an existing file"
_ZONE_MAX_CHARS = 80  # the longest name there is has 32


class Unfit(ValueError):
    """A value does not fit. ``expected`` and ``example`` complete the sentence of the problem; ``passing`` as there."""

    def __init__(self, expected: str, found: str, example: str, *, passing: bool = False) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found
        self.example = example
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Rule:
    """``convert`` takes the value as TOML gave it and the directory relative paths start from;
    it returns the value to keep or raises ``Unfit``."""

    expected: str
    example: str
    convert: Callable[[object, Path], object]


def show(value: object) -> str:
    """A found value as a person would write it, bounded in length."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists in lists
        return "more than can be shown"
    return text if len(text) <= 80 else f"{text[:77]}..."


def ruled(rule: Rule, default: Any = MISSING, *, default_factory: Callable[[], Any] | None = None) -> Any:
    """A dataclass field with this rule; without a default the key is required."""
    if default_factory is not None:
        return field(default_factory=default_factory, metadata={"rule": rule})
    if default is MISSING:
        return field(metadata={"rule": rule})
    return field(default=default, metadata={"rule": rule})


def _rule(expected: str, example: str, accepts: Callable[[object], bool]) -> Rule:
    def convert(value: object, _base: Path) -> object:
        if not accepts(value):
            raise Unfit(expected, show(value), example)
        return value

    return Rule(expected, example, convert)


def is_integer(value: object) -> TypeGuard[int]:
    """A whole number; true and false are none, though Python counts them as such."""
    return isinstance(value, int) and not isinstance(value, bool)


def integer_rule(low: int, high: int, example: int) -> Rule:
    def accepts(value: object) -> bool:
        return is_integer(value) and low <= value <= high

    return _rule(f"a whole number from {low} to {high}", str(example), accepts)


def phases_rule(example: int) -> Rule:
    return _rule("1 or 3", str(example), lambda value: is_integer(value) and value in (1, 3))


def text_rule(max_length: int, example: str, forbidden: str = "", min_length: int = 1) -> Rule:
    without = f" without any of {forbidden!r}" if forbidden else ""

    def accepts(value: object) -> bool:
        return (
            isinstance(value, str)
            and min_length <= len(value) <= max_length
            and value.isprintable()
            and not any(each in value for each in forbidden)
        )

    return _rule(f"text of {min_length} to {max_length} printable characters{without}", f'"{example}"', accepts)


def choice_rule(kind: type[enum.StrEnum], example: enum.StrEnum) -> Rule:
    expected = f"one of {', '.join(kind)}"

    def convert(value: object, _base: Path) -> object:
        if not isinstance(value, str) or value not in list(kind):
            raise Unfit(expected, show(value), f'"{example}"')
        return kind(value)

    return Rule(expected, f'"{example}"', convert)


def choices_rule(kind: type[enum.StrEnum], example: tuple[enum.StrEnum, ...], *, empty: bool = False) -> Rule:
    """A list without repeats."""
    expected = f"a list {'' if empty else 'of at least one '}out of {', '.join(kind)}, none twice"
    shown = "[" + ", ".join(f'"{each}"' for each in example) + "]"

    def convert(value: object, _base: Path) -> object:
        if not isinstance(value, list) or not all(isinstance(each, str) and each in list(kind) for each in value):
            raise Unfit(expected, show(value), shown)
        if len(set(value)) != len(value) or (not value and not empty):
            raise Unfit(expected, show(value), shown)
        return tuple(kind(each) for each in value)

    return Rule(expected, shown, convert)


def flag_rule(example: bool) -> Rule:
    return _rule("true or false", show(example), lambda value: isinstance(value, bool))


def path_rule(example: str) -> Rule:
    """A path; a relative one starts at the configuration file's directory."""
    expected = "a path"

    def convert(value: object, base: Path) -> object:
        if not isinstance(value, str) or not value or "\0" in value:
            raise Unfit(expected, show(value), f'"{example}"')
        return base / value

    return Rule(expected, f'"{example}"', convert)


def file_rule(example: str) -> Rule:
    """The path of a file that must exist now. One that is not there may come back by itself: a certificate is renewed
    by a program that deletes the old one first, or the storage it lies on is not mounted yet."""
    path, expected = path_rule(example), FILE_THERE

    def convert(value: object, base: Path) -> object:
        found = path.convert(value, base)
        assert isinstance(found, Path)
        try:
            is_there = found.is_file()
            is_away = not is_there and not found.exists()  # a directory in its place is a person's
        except OSError as error:
            why = f"{found}: {error.strerror}"
            raise Unfit(expected, f"{show(value)} ({why})", path.example, passing=is_passing(error)) from None
        if not is_there:
            raise Unfit(expected, f"{show(value)} (no file {found})", path.example, passing=is_away)
        return found

    return Rule(expected, path.example, convert)


def url_rule(schemes: tuple[str, ...], example: str) -> Rule:
    """See ``is_url``; kept as ``small_scheme`` writes it."""
    expected = f"an address that begins with {' or '.join(f'{each}://' for each in schemes)} and holds no password"

    def convert(value: object, _base: Path) -> object:
        if not is_url(value, schemes):
            raise Unfit(expected, show(value), f'"{example}"')
        return small_scheme(value)

    return Rule(expected, f'"{example}"', convert)


def small_scheme(url: str) -> str:
    """The same address with its scheme in small letters, so that whoever asks for it finds it."""
    scheme, rest = url.split(":", 1)
    return f"{scheme.lower()}:{rest}"


def is_url(value: object, schemes: tuple[str, ...]) -> TypeGuard[str]:
    """Whether this is an address with host; no fragment, no name or password inside."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > 512 or " " in value or "#" in value:
        return False
    try:
        parts = urlsplit(value)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return bool(parts.scheme in schemes and parts.hostname and port_fits and "@" not in parts.netloc)


def time_zone_rule(example: str) -> Rule:
    def accepts(value: object) -> bool:
        if not isinstance(value, str) or len(value) > _ZONE_MAX_CHARS:  # each / costs levels of calls
            return False
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError):  # no such zone, or a text that cannot name one
            return value == "UTC"  # also where the device has no time zone data
        return True

    return _rule("the name of a time zone", f'"{example}"', accepts)


def moment_rule(example: str) -> Rule:
    """A date and time with its offset from UTC."""

    def accepts(value: object) -> bool:
        return isinstance(value, datetime) and value.tzinfo is not None

    return _rule("a date and time with offset, unquoted", example, accepts)


def integers_rule(low: int, high: int, most: int, example: tuple[int, ...]) -> Rule:
    """A list of 1 to ``most`` different whole numbers."""
    expected = f"a list of 1 to {most} different whole numbers from {low} to {high}"
    shown = f"[{', '.join(map(str, example))}]"

    def convert(value: object, _base: Path) -> object:
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            raise Unfit(expected, show(value), shown)
        if not all(is_integer(each) and low <= each <= high for each in value) or len(set(value)) != len(value):
            raise Unfit(expected, show(value), shown)
        return tuple(value)

    return Rule(expected, shown, convert)


def setting_text(value: object) -> str | None:
    """A TOML value of the ``[settings]`` table as OCPP writes it, or None where it has no such form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    return None


def settings_rule() -> Rule:
    """``"Component.Variable" = value`` lines, quoted or as nested tables; kept as text pairs."""
    expected = "settings as Component.Variable = text, number, true/false or list of texts"
    example = '"TxCtrlr.EVConnectionTimeOut" = 60'

    def flatten(prefix: str, value: object) -> dict[str, str]:
        if isinstance(value, dict):
            flat: dict[str, str] = {}
            for key, inner in value.items():
                flat |= flatten(f"{prefix}.{key}" if prefix else key, inner)
            return flat
        text = setting_text(value)
        if text is None or not prefix:
            raise Unfit(expected, f"{prefix} = {show(value)}", example)
        return {prefix: text}

    return Rule(expected, example, lambda value, _base: flatten("", value))
