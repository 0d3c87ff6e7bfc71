"""What a bench hands back: measured values beside their aims.

Charter: percentiles and their printing. A missed aim is told, never an error: the machine may be busy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, its unit, and the most it should be (``at_least``: the least). ``aim`` None: no aim."""

    name: str
    value: float
    unit: str
    aim: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.aim is None:
            return ""
        met = self.value >= self.aim if self.at_least else self.value <= self.aim
        return "met" if met else "MISSED"

    def line(self) -> str:
        aim = ""
        if self.aim is not None:
            aim = f"   aim {'>=' if self.at_least else '<='} {self.aim:g} {self.unit}: {self.verdict}"
        return f"  {self.name:<38} {self.value:>10.2f} {self.unit}{aim}"

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: a value that was measured. Raises ``ValueError`` for no values."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def spread(name: str, values: Sequence[float], unit: str, **aims: float) -> list[Figure]:
    """p50, p95, p99 and max of ``values``; ``aims`` by these names."""
    wanted = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    return [Figure(f"{name} {key}", percentile(values, rank), unit, aims.get(key)) for key, rank in wanted.items()]
