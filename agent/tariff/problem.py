"""What is wrong with a tariff: where, what was expected, what was found.

Charter: the values of errors and findings; who makes them is ``canonical``, ``parse`` and ``check``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """``path`` is a JSON path such as ``$.energy.prices[0].priceKwh``."""

    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


def inner_path(path: str, name: str) -> str:
    """The path of a value in an object. A name may be anything, even half a character, which nobody could store."""
    return f"{path}.{name}"[:200].encode(errors="replace").decode()


class TariffError(ValueError):
    """A tariff that cannot be used, with all its problems (the first hundred)."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems[:MAX_PROBLEMS])
        super().__init__("; ".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Finding:
    """A tariff that can be used, but perhaps is not meant so."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"
