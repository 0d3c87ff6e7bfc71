"""Core, limits and prices as one: what begins and goes on with a transaction."""

from __future__ import annotations

from typing import Any, cast

import pytest

from agent.charging.composite import Feed
from agent.charging.profiles import ChargingProfile, Kind, Period, Purpose, RateUnit, Schedule
from agent.charging.records import profile_to_plain
from agent.charging.rules import Capabilities, Rules
from agent.core.commands import RemoteStart
from agent.core.effects import Append, Effect
from agent.core.events import (
    Authorized,
    ClockSet,
    Commanded,
    Durable,
    FromMeter,
    FromPilot,
    GapKind,
    LinkChanged,
    Recovered,
    Tick,
)
from agent.core.facts import Sample, SampleContext, Token
from agent.core.settings import EvseHardware, StationSettings
from agent.core.station import Station
from agent.station.limits import Limits
from agent.station.logic import Logic
from hal.ports import Back, Cable, Contactor, CpState, MeterReading, PilotState

NOW_MS = 1_800_000_000_000
TOKEN, OTHER = Token("AA"), Token("BB")
NONE = (None, None, None)
STEPS = (Period(0, 20_000), Period(600, 8_000))


class NoBilling:
    def follow(self, event: object, effects: list[Effect]) -> list[Effect]:
        return []

    def deadline_ms(self) -> None:
        return None


class Bench:
    """One EVSE whose car is plugged in whenever it is told so."""

    def __init__(self) -> None:
        hardware = EvseHardware(1, 32_000)
        ids = iter(f"tx-{number}" for number in range(1, 9))
        limits = Limits((Feed(1, 32_000, 230_000, 3),), None, Capabilities(1, 9, 9, 9))
        self.logic = Logic(Station(StationSettings((hardware,)), lambda: next(ids)), limits, cast(Any, NoBilling()))
        self.at_ms = 10_000
        self.give(ClockSet(NOW_MS, "CSMS", trusted=True))

    def give(self, event: Any) -> list[Effect]:
        effects = self.logic.step(event, self.at_ms)
        for effect in list(effects):
            if isinstance(effect, Append):
                effects += self.give(Durable(effect.ticket))
        return effects

    def come(self, cp: CpState) -> None:
        for event in (Back("board"), Cable(None), Contactor(False), PilotState(cp)):
            self.give(FromPilot(1, event))
        self.give(LinkChanged(True))
        self.wait(1)

    def wait(self, seconds: int) -> None:
        """Time passes; the meter reads once a second, and a car that is there stays."""
        for _ in range(seconds):
            self.at_ms += 1_000
            self.give(FromMeter(1, MeterReading(self.at_ms, "M1", 5_000_000, None, 0, NONE, NONE)))
            self.give(Tick())

    def allowed_ma(self) -> int:
        return self.logic.core.evses[1].allowed_ma()


def profile(**changes: Any) -> ChargingProfile:
    schedule = Schedule(RateUnit.AMPERE, STEPS)
    fields: dict[str, Any] = {"purpose": Purpose.TX, "kind": Kind.RELATIVE, "schedules": (schedule,)}
    return ChargingProfile(**({"id": 5, "stack_level": 0} | fields | changes))


def start(token: Token = TOKEN) -> Commanded:
    return Commanded(1, RemoteStart(token, 1, profile=profile_to_plain(profile()), rules="1.6"))


def test_a_relative_profile_goes_on_where_it_was_before_a_restart() -> None:
    made = Bench()
    default = profile(purpose=Purpose.TX_DEFAULT)
    assert made.logic.limits.install(default, 1, Rules.OCPP201, {}, NOW_MS) is None
    last = Sample(SampleContext.PERIODIC, 9_000, "M1", 5_000_000)
    made.give(Recovered(1, "tx-0", 3, TOKEN, None, 0, last, GapKind.PROCESS, 5_000, age_ms=590_000))
    assert made.logic.running()[1].started_ms == NOW_MS - 590_000
    assert made.allowed_ma() == 20_000
    made.come(CpState.B)
    made.wait(5)
    assert made.allowed_ma() == 20_000
    made.wait(5)
    assert made.allowed_ma() == 8_000


def test_the_profile_of_a_remote_start_holds_from_the_first_row_on() -> None:
    made = Bench()
    made.come(CpState.B)
    made.give(start())
    assert made.logic.running()[1].id == "tx-1" and made.allowed_ma() == 20_000
    (entry,) = made.logic.limits.profiles.entries
    assert entry.profile.transaction_id == "tx-1" and made.logic.limits.bound
    made.wait(600)
    assert made.allowed_ma() == 8_000


def test_the_profile_of_a_start_that_no_car_came_for_is_nobody_elses() -> None:
    made = Bench()
    made.come(CpState.A)
    made.give(start())
    made.wait(1 + made.logic.core.ctx.behaviour.connect_timeout_ms // 1_000)
    made.give(Authorized(1, OTHER, None))
    made.give(FromPilot(1, PilotState(CpState.B)))
    made.wait(3)
    assert made.logic.running()[1].id == "tx-1"
    assert made.allowed_ma() == 32_000 and made.logic.limits.profiles.entries == ()


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, ""),
        ({"purpose": Purpose.TX_DEFAULT}, "not a TxProfile"),
        ({"transaction_id": "tx-1"}, "not a TxProfile"),
        ({"stack_level": 10}, "stackLevel 10 is above 9"),
        ({"schedules": (Schedule(RateUnit.AMPERE, STEPS, 60, NOW_MS - 60_000),), "kind": Kind.ABSOLUTE}, "passed"),
    ],
)
def test_the_profile_of_a_remote_start_is_judged_as_if_it_ran(changes: dict[str, Any], wrong: str) -> None:
    limits = Bench().logic.limits
    refusal = limits.judge_start(profile_to_plain(profile(**changes)), 1, Rules.OCPP201, NOW_MS)
    assert (str(refusal) if refusal else "").count(wrong) and (refusal is None) is (wrong == "")
    assert limits.profiles.entries == ()
