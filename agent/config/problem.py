"""One mistake in a configuration, and the error that carries all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.passing import is_passing


@dataclass(frozen=True, slots=True)
class Problem:
    """``path`` is the key as written in the file, e.g. ``evse[1].meter.port``, or a place in the text.

    ``example`` is something right to write there; empty where there is none. ``passing``: the machine failed, or a file
    that is named here is not there just now; the next try may find all well."""

    path: str
    expected: str
    found: str
    example: str = ""
    passing: bool = False

    def __str__(self) -> str:
        example = f"; for example {self.example}" if self.example else ""
        return f"{self.path}: expected {self.expected}, found {self.found}{example}"


def unreadable(file: Path, error: OSError) -> Problem:
    return Problem(str(file), "a readable file", error.strerror or str(error), passing=is_passing(error))


class ConfigError(Exception):
    """A configuration cannot be used. ``problems`` holds every mistake that was found, at least one."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join([f"{file}: {len(problems)} problem(s)", *map(str, problems)]))
        self.file = file
        self.problems = tuple(problems)

    @property
    def passing(self) -> bool:
        """Whether the next try may find another configuration than this one did."""
        return any(each.passing for each in self.problems)
