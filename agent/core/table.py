"""Transition tables: the state machines' shape, which is also their documentation.

Charter: a table maps (state, event) to the next state and nothing else; what follows from a state is
computed elsewhere from all states together. A pair without an entry is a programming error, never
silently ignored; "nothing happens" is written as an entry that stays.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Generic, TypeVar

S = TypeVar("S", bound=enum.Enum)
E = TypeVar("E", bound=enum.Enum)


class NoTransition(Exception):
    """The table has no entry for this state and event."""


class Table(Generic[S, E]):
    """A named, immutable transition table."""

    def __init__(self, name: str, rows: Mapping[S, Mapping[E, S]]) -> None:
        self.name = name
        self.rows = {state: dict(row) for state, row in rows.items()}

    def next(self, state: S, event: E) -> S:
        try:
            return self.rows[state][event]
        except KeyError:
            raise NoTransition(f"{self.name}: no entry for {event.name} in {state.name}") from None

    def mermaid(self) -> str:
        """A Mermaid state diagram of all entries that change the state; parallel events share an arrow."""
        arrows: dict[tuple[str, str], list[str]] = {}
        for state, row in self.rows.items():
            for event, target in row.items():
                if target is not state:
                    arrows.setdefault((state.name, target.name), []).append(event.name.lower())
        lines = ["stateDiagram-v2"]
        lines += [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()]
        return "\n".join(lines)


def staying(state: S, lost: E, lost_to: S, moves: Mapping[str, S]) -> dict[E, S]:
    """A row in which every event stays, except ``lost`` and those named (lower case) in ``moves``."""
    events = type(lost)
    row = dict.fromkeys(events, state)
    row[lost] = lost_to
    row.update({events[name.upper()]: target for name, target in moves.items()})
    return row
