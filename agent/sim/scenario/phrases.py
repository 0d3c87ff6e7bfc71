"""Steps that many scenarios share: a driver comes, a driver leaves, and what must be true at the end.

Charter: values only. Draws are tiny, so that a rig in real time takes seconds.
"""

from __future__ import annotations

from agent.sim.scenario.expectations import (
    available,
    booked,
    charging,
    finished,
    in_order,
    kept,
    no_negative_duration,
    nothing_wrong,
    preparing,
    registers_never_fall,
    totals_equal,
)
from agent.sim.scenario.play import Step, expect, hold
from agent.sim.scenario.verbs import (
    CARD,
    START,
    STOP,
    VALUES,
    plug,
    swipe,
    unplug,
)

HOUR_S, FIFTY_YEARS_S = 3_600, 50 * 365 * 86_400
SILENCE_MS = 600_000  # a silent CSMS is waited for 30 s, each time a message is sent


def arrive(token: str = CARD) -> tuple[Step, ...]:
    """A driver plugs in and shows a card; the car charges."""
    return plug(), expect(preparing()), swipe(token), expect(charging())


def leave(token: str = CARD) -> tuple[Step, ...]:
    """The driver shows the card again and unplugs."""
    return swipe(token), expect(finished()), unplug(), expect(available())


# What no waiting makes true.
NEVER = (hold(registers_never_fall(), 0), hold(no_negative_duration(), 0), hold(nothing_wrong(), 0))


def all_is_well(transactions: int) -> tuple[Step, ...]:
    """Every transaction is booked as it should be, and all witnesses agree."""
    return (
        expect(booked(START, VALUES, STOP, transactions=transactions)),
        expect(kept(transactions)),
        expect(in_order()),
        expect(totals_equal()),
        *NEVER,
    )
