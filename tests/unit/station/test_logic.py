"""Core, limits and prices as one: what begins and goes on with a transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from agent.charging.composite import Feed, Transaction
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
from agent.core.facts import Forerunner, Sample, SampleContext, Token
from agent.core.settings import EvseHardware, StationSettings
from agent.core.station import Station
from agent.station.limits import Limits
from agent.station.logic import Logic
from hal.ports import Back, Cable, Contactor, CpState, LossKind, Lost, MeterReading, PilotState

NOW_MS = 1_800_000_000_000
TOKEN, OTHER = Token("AA"), Token("BB")
NONE = (None, None, None)
STEPS = (Period(0, 20_000), Period(600, 8_000))
MODULUS_MWH = 1_000_000_000_000


class NoBilling:
    def follow(self, event: object, effects: list[Effect]) -> list[Effect]:
        return []

    def deadline_ms(self) -> None:
        return None


class Bench:
    """One EVSE whose car is plugged in whenever it is told so."""

    def __init__(self, *beside: EvseHardware, supply_ma: int | None = None) -> None:
        hardware = (EvseHardware(1, 32_000, meter_rollover_mwh=MODULUS_MWH), *beside)
        ids = iter(f"tx-{number}" for number in range(1, 9))
        feeds = tuple(Feed(each.evse, 32_000, 230_000, 3) for each in hardware)
        limits = Limits(feeds, supply_ma, Capabilities(len(feeds), 9, 9, 9))
        core = Station(StationSettings(hardware), lambda: next(ids))
        self.logic = Logic(core, limits, cast(Any, NoBilling()))
        self.at_ms = 10_000
        self.register_mwh = 5_000_000

    def told(self, wall_ms: int = NOW_MS) -> Bench:
        """By the CSMS what time it is."""
        self.give(ClockSet(wall_ms, "CSMS", trusted=True))
        return self

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
        self.wait(2)  # the second reading confirms the first

    def wait(self, seconds: int) -> None:
        """Time passes; the meter reads once a second, and a car that is there stays."""
        for _ in range(seconds):
            self.at_ms += 1_000
            self.give(FromMeter(1, MeterReading(self.at_ms, "M1", self.register_mwh, None, 0, NONE, NONE)))
            self.give(Tick())

    def allowed_ma(self) -> int:
        return self.logic.core.evses[1].allowed_ma()


@pytest.mark.parametrize(("autonomous", "unseen_ma"), [(True, 10_000), (False, 16_000)])
def test_a_board_that_charges_by_itself_has_its_least_of_the_supply_while_nobody_sees_it(
    autonomous: bool, unseen_ma: int
) -> None:
    """A subordinate board opens where it hears nobody."""
    made = Bench(EvseHardware(2, 32_000, autonomous=autonomous), supply_ma=16_000).told()
    made.come(CpState.B)
    made.give(start())
    assert made.allowed_ma() == unseen_ma, "never seen since the start"
    for event in (Back("board"), Contactor(False), PilotState(CpState.A)):
        made.give(FromPilot(2, event))
    assert made.allowed_ma() == 16_000
    made.give(FromPilot(2, Lost(LossKind.SILENT, "no reply")))
    assert made.allowed_ma() == unseen_ma


def profile(**changes: Any) -> ChargingProfile:
    schedule = Schedule(RateUnit.AMPERE, STEPS)
    fields: dict[str, Any] = {"purpose": Purpose.TX, "kind": Kind.RELATIVE, "schedules": (schedule,)}
    return ChargingProfile(**({"id": 5, "stack_level": 0} | fields | changes))


def start(token: Token = TOKEN) -> Commanded:
    return Commanded(1, RemoteStart(token, 1, profile=profile_to_plain(profile()), rules="1.6"))


def test_a_relative_profile_goes_on_where_it_was_before_a_restart() -> None:
    made = Bench().told()
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


@pytest.mark.parametrize(("source", "status", "limit_ma"), [("rtc", "I", 20_000), ("none", "U", 8_000)])
def test_a_clock_that_may_have_stood_still_lifts_no_limit_until_the_csms_tells_the_time(
    source: str, status: str, limit_ma: int
) -> None:
    made = Bench()
    schedule = Schedule(RateUnit.AMPERE, STEPS, start_ms=NOW_MS)
    steps = profile(purpose=Purpose.TX_DEFAULT, kind=Kind.ABSOLUTE, schedules=(schedule,))
    assert made.logic.limits.install(steps, 1, Rules.OCPP201, {}, NOW_MS) is None
    made.give(ClockSet(NOW_MS + 60_000, source, trusted=False))
    last = Sample(SampleContext.PERIODIC, 9_000, "M1", 5_000_000)
    made.give(Recovered(1, "tx-0", 3, TOKEN, None, 0, last, GapKind.PROCESS, 5_000, age_ms=60_000))
    assert made.logic.core.ctx.time_status == status and made.allowed_ma() == limit_ma
    assert made.told(NOW_MS + 61_000).allowed_ma() == 20_000
    assert made.told(NOW_MS + 601_000).allowed_ma() == 8_000


def test_a_clock_of_1970_is_known_to_nobody() -> None:
    made = Bench()
    made.give(ClockSet(60_000, "none", trusted=False))
    assert not made.logic.clock_known and made.told().logic.clock_known


def test_the_profile_of_a_remote_start_holds_from_the_first_row_on() -> None:
    made = Bench().told()
    made.come(CpState.B)
    made.give(start())
    assert made.logic.running()[1].id == "tx-1" and made.allowed_ma() == 20_000
    (entry,) = made.logic.limits.profiles.entries
    assert entry.profile.transaction_id == "tx-1" and made.logic.limits.bound
    made.wait(600)
    assert made.allowed_ma() == 8_000


def test_the_profiles_of_a_session_go_on_where_the_register_begins_anew() -> None:
    made = Bench().told()
    made.register_mwh = MODULUS_MWH - 1_000
    made.come(CpState.B)
    made.give(start())
    made.wait(590)
    began_ms, made.register_mwh = made.logic.running()[1].started_ms, 1_000
    made.wait(3)
    assert made.logic.running()[1] == Transaction("tx-2", began_ms) and made.allowed_ma() == 20_000
    assert made.logic.limits.keep_transactions({"tx-2"}), "the disk is to know"
    assert not made.logic.limits.keep_transactions({"tx-2"})
    made.wait(7)
    assert made.allowed_ma() == 8_000, "it counts from the start of the session"


@pytest.mark.parametrize("stored", ["tx-0", "tx-1"])
def test_a_restart_finds_the_profiles_of_a_session_whose_they_were_last(stored: str) -> None:
    made = Bench().told()
    limits, last = made.logic.limits, Sample(SampleContext.PERIODIC, 9_000, "M1", 1_000)
    assert limits.install(profile(), 1, Rules.OCPP16, {1: Transaction(stored, NOW_MS)}, NOW_MS) is None
    found = Recovered(1, "tx-1", 3, TOKEN, None, 0, last, GapKind.PROCESS, 5_000, age_ms=700_000)
    made.give(replace(found, follows=Forerunner("tx-0")))
    limits.keep_transactions({"tx-1"})
    assert [entry.profile.transaction_id for entry in limits.profiles.entries] == ["tx-1"]
    assert made.allowed_ma() == 8_000


def test_the_profile_of_a_start_that_no_car_came_for_is_nobody_elses() -> None:
    made = Bench().told()
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
