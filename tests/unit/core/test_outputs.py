"""From wanted outputs to effects: each difference once, less power first, everything to a board that knows nothing."""

from __future__ import annotations

import pytest

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
from agent.core.outputs import Wanted, autonomous_effects, subordinate_effects

OFF = Wanted(10_000, power=False, offer_ma=0)
ON = Wanted(5_333, power=True, offer_ma=32_000)
DC_OFF = Wanted(10_000, power=False, offer_ma=0)
DC_READY = Wanted(500, power=True, offer_ma=40_000)
DC_ON = DC_READY._replace(output_on=True, output_mv=400_000, output_ma=40_000)
DC_LESS = DC_ON._replace(output_ma=20_000)
DC_LOWER = DC_ON._replace(output_mv=350_000)


@pytest.mark.parametrize(
    "told, wanted, effects",
    [
        (None, OFF, [AllowPower(3, False), SetDuty(3, 10_000)]),
        (None, ON, [SetDuty(3, 5_333), AllowPower(3, True)]),
        (OFF, OFF, []),
        (ON, ON, []),
        (OFF, ON, [SetDuty(3, 5_333), AllowPower(3, True)]),
        (ON, OFF, [AllowPower(3, False), SetDuty(3, 10_000)]),
        (ON, ON._replace(duty_centipercent=1_000), [SetDuty(3, 1_000)]),
        (ON, ON._replace(power=False), [AllowPower(3, False)]),
        (ON, ON._replace(offer_ma=1), []),
    ],
)
def test_a_board_that_obeys(told: Wanted | None, wanted: Wanted, effects: list[Effect]) -> None:
    assert subordinate_effects(3, told, wanted, dc=False) == effects


@pytest.mark.parametrize(
    "told, wanted, effects",
    [
        (None, DC_OFF, [SwitchOutput(3, False), AllowPower(3, False), SetDuty(3, 10_000)]),
        (
            None,
            DC_ON,
            [SetDuty(3, 500), AllowPower(3, True), SetOutput(3, 400_000, 40_000), SwitchOutput(3, True)],
        ),
        (DC_OFF, DC_OFF, []),
        (DC_READY, DC_ON, [SetOutput(3, 400_000, 40_000), SwitchOutput(3, True)]),
        (DC_ON, DC_ON, []),
        (DC_ON, DC_LESS, [SetOutput(3, 400_000, 20_000)]),
        (DC_ON, DC_LOWER, [SetOutput(3, 350_000, 40_000)]),
        (DC_ON, DC_READY, [SwitchOutput(3, False)]),
        (DC_ON, DC_OFF, [SwitchOutput(3, False), AllowPower(3, False), SetDuty(3, 10_000)]),
        (DC_ON._replace(output_on=False), DC_ON, [SetOutput(3, 400_000, 40_000), SwitchOutput(3, True)]),
    ],
)
def test_dc_modules_go_off_first_and_on_last(told: Wanted | None, wanted: Wanted, effects: list[Effect]) -> None:
    assert subordinate_effects(3, told, wanted, dc=True) == effects


def test_an_ac_board_has_no_output_to_switch() -> None:
    assert subordinate_effects(3, None, DC_ON, dc=False) == [SetDuty(3, 500), AllowPower(3, True)]


@pytest.mark.parametrize(
    "told, wanted, effects",
    [
        (None, OFF, [StopOffer(3)]),
        (None, ON, [OfferCurrent(3, 32_000)]),
        (OFF, OFF, []),
        (ON, ON, []),
        (ON, ON._replace(offer_ma=1), [OfferCurrent(3, 1)]),
        (ON, OFF, [StopOffer(3)]),
        (ON, ON._replace(disable=True), [DisableBoard(3)]),
        (ON._replace(disable=True), OFF._replace(disable=True), []),
        (OFF._replace(disable=True), OFF, [StopOffer(3)]),
    ],
)
def test_a_board_that_runs_the_pilot_itself(told: Wanted | None, wanted: Wanted, effects: list[Effect]) -> None:
    assert autonomous_effects(3, told, wanted) == effects
