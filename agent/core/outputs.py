"""From wanted outputs to effects: only differences are told, and less power comes first.

Charter: the last step of an EVSE's settling. ``Wanted`` is computed from all machines together after
every event, so no path can forget to take something back.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.core.effects import (
    AllowPower,
    DisableBoard,
    Effect,
    OfferCurrent,
    SetDuty,
    SetOutput,
    StopOffer,
    SwitchOutput,
)


class Wanted(NamedTuple):
    """The outputs of one EVSE. ``disable`` is for autonomous boards only."""

    duty_centipercent: int
    power: bool
    offer_ma: int
    disable: bool = False
    output_on: bool = False
    output_mv: int = 0
    output_ma: int = 0


def _dc_effects(evse: int, told: Wanted | None, wanted: Wanted) -> tuple[list[Effect], list[Effect]]:
    """(first, last): switching off comes before anything else, switching on after everything."""
    if not wanted.output_on:
        return ([SwitchOutput(evse, False)] if told is None or told.output_on else []), []
    setpoint = (wanted.output_mv, wanted.output_ma)
    effects: list[Effect] = []
    if told is None or not told.output_on or (told.output_mv, told.output_ma) != setpoint:
        effects.append(SetOutput(evse, *setpoint))
    if told is None or not told.output_on:
        effects.append(SwitchOutput(evse, True))
    return [], effects


def subordinate_effects(evse: int, told: Wanted | None, wanted: Wanted, *, dc: bool) -> list[Effect]:
    """Effects that bring a board that obeys from ``told`` (None: nothing is known) to ``wanted``."""
    first, last = _dc_effects(evse, told, wanted) if dc else ([], [])
    effects = first
    power = [AllowPower(evse, wanted.power)] if told is None or told.power is not wanted.power else []
    duty = (
        [SetDuty(evse, wanted.duty_centipercent)]
        if told is None or told.duty_centipercent != wanted.duty_centipercent
        else []
    )
    effects += [*duty, *power] if wanted.power else [*power, *duty]
    return effects + last


def autonomous_effects(evse: int, told: Wanted | None, wanted: Wanted) -> list[Effect]:
    """The same for a board that runs the pilot itself: offer, stop or disable."""
    now = _board_mode(evse, wanted)
    return [] if told is not None and _board_mode(evse, told) == now else [now]


def _board_mode(evse: int, wanted: Wanted) -> Effect:
    if wanted.disable:
        return DisableBoard(evse)
    return OfferCurrent(evse, wanted.offer_ma) if wanted.offer_ma > 0 else StopOffer(evse)
