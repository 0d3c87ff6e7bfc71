"""The monitors that every station has: one for each problem variable and severity of the health catalogue.

Charter: pure. Several troubles of one component share its variable; those of one severity share its monitor, since a
variable has no two alike (N04.FR.10). An event tells the trouble's own code, so nothing is lost by it.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.config.monitoring_catalogue import problem_name, problems
from agent.core.facts import VariableName
from agent.ipc.monitors import Monitor
from agent.monitoring.book import hard_wired

Trouble = tuple[str, int]
"""A code of the catalogue and its EVSE (0: the station)."""


def monitors_of(evses: Mapping[int, bool]) -> dict[Trouble, Monitor]:
    """By trouble; ``evses`` as for ``problems``. Ids count from 1 in the order of places and names."""
    wanted = {(entry.code, evse): (problem_name(entry, evse), entry.severity.value) for entry, evse in problems(evses)}
    ordered = sorted(set(wanted.values()), key=_place)
    made = {each: hard_wired(number, *each) for number, each in enumerate(ordered, 1)}
    return {trouble: made[each] for trouble, each in wanted.items()}


def _place(monitor: tuple[VariableName, int]) -> tuple[int, str, str, int]:
    name, severity = monitor
    return name.evse or 0, name.component, name.variable, severity
