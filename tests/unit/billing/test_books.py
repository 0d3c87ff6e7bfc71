"""Books of one transaction, row by row: what is charged, which readings are signed, what a gap and a clock do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.billing.books import MARKS_MAX, Books, Stamp, Terms
from agent.core.facts import (
    ChargingState,
    CheckpointFact,
    LimitFact,
    PriceCause,
    PriceFact,
    Sample,
    SampleContext,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.tariff.model import EvseKind, Tariff
from agent.tariff.parse import parse_tariff

NOON_MS = 1_796_119_200_000  # 11:00 in Berlin
BOOT = 10_000  # the begin, on the clock of the first boot

C, E, V, N = ChargingState.CHARGING, ChargingState.SUSPENDED_EVSE, ChargingState.SUSPENDED_EV, ChargingState.IDLE


def tariff(tariff_id: str = "T", **parts: list[dict[str, Any]]) -> Tariff:
    plain = {name: {"prices": prices} for name, prices in parts.items()}
    return parse_tariff(json.dumps({"tariffId": tariff_id, "currency": "EUR", **plain}))


FROM_NOON_ON = {"conditions": {"startTimeOfDay": "12:00", "endTimeOfDay": "13:00"}}
KNOWN = {
    "flat": tariff(energy=[{"priceKwh": 0.5}], idleTime=[{"priceMinute": 0.1}], chargingTime=[{"priceMinute": 0.2}]),
    "lunch": tariff("L", energy=[{"priceKwh": 9} | FROM_NOON_ON, {"priceKwh": 1}]),
    "other": tariff("O", energy=[{"priceKwh": 0.7}]),
}


class Story:
    """Rows of one transaction. Times are milliseconds since its begin."""

    def __init__(self, *, policy: str = "informative", status: str = "S", price: str | None = "flat") -> None:
        self.status, self.boot, self.offset_ms, self.wall_ms = status, "boot-1", BOOT, NOON_MS
        self.seq_no = 0
        begin = self.event(TxKind.STARTED, 0, ChargingState.EV_CONNECTED, 1_000, tariff=price, token=Token("04AABB"))
        self.books = Books(begin, self.stamp(0), KNOWN.get, Terms("Europe/Berlin", EvseKind.AC, policy))

    def stamp(self, at_ms: int) -> Stamp:
        return Stamp(self.boot, self.offset_ms + at_ms, self.wall_ms + at_ms, self.status)

    def sample(self, mwh: int, at_ms: int, **others: Any) -> Sample:
        return Sample(SampleContext.PERIODIC, self.offset_ms + at_ms, "M1", mwh, **others)

    def event(
        self, kind: TxKind, at_ms: int, state: ChargingState, mwh: int | None, read_ms: int | None = None, **others: Any
    ) -> TransactionFact:
        read_at_ms = at_ms if read_ms is None else read_ms
        substituted = others.pop("substituted", {})
        samples = () if mwh is None else (self.sample(mwh, read_at_ms, **substituted),)
        self.seq_no += 1
        return TransactionFact(
            kind, "tx", self.seq_no, 1, Trigger.TRIGGER, state, False, samples, authorized_by="csms", **others
        )

    def update(self, at_ms: int, state: ChargingState, mwh: int | None = None, **others: Any) -> None:
        self.books.note(self.event(TxKind.UPDATED, at_ms, state, mwh, **others), self.stamp(at_ms))

    def checkpoint(self, at_ms: int, mwh: int, read_ms: int | None = None) -> None:
        sample = self.sample(mwh, at_ms if read_ms is None else read_ms)
        self.books.note(CheckpointFact("tx", 1, sample), self.stamp(at_ms))

    def price(self, at_ms: int, cause: PriceCause, *samples: tuple[int, int], to: str | None = None) -> None:
        made = tuple(self.sample(mwh, read_ms) for mwh, read_ms in samples)
        self.books.note(PriceFact("tx", 1, cause, made, to), self.stamp(at_ms))

    def end(self, at_ms: int, mwh: int, reason: StopReason = StopReason.LOCAL, **others: Any) -> None:
        ended = self.event(TxKind.ENDED, at_ms, C, mwh, stopped_reason=reason, **others)
        self.books.note(ended, self.stamp(at_ms))

    def reboot(self, *, away_ms: int, status: str = "S", mono_ms: int = 500) -> None:
        """The next row at 0 comes so much later, in another boot."""
        self.wall_ms += away_ms
        self.boot, self.offset_ms, self.status = "boot-2", mono_ms, status

    def marks(self) -> list[tuple[str, int, str]]:
        """Letter, seconds since the begin by the wall clock, error flags."""
        return [(m.letter, (m.wall_ms - NOON_MS) // 1_000, m.error_flags) for m in self.books.marks]


def seconds(story: Story) -> tuple[int, int, int]:
    """Charged as charging, as idling, to nobody."""
    usage = story.books.usage()
    return usage.charging_ms // 1_000, usage.idle_ms // 1_000, usage.unbilled_ms // 1_000


# ------------------------------------------------------------------------------------------- activity


@pytest.mark.parametrize(
    "state, charged",
    [(C, (60, 0, 0)), (V, (0, 60, 0)), (E, (0, 0, 60)), (N, (0, 0, 60)), (ChargingState.EV_CONNECTED, (0, 0, 60))],
)
def test_only_charging_and_what_the_car_idles_cost_time(state: ChargingState, charged: tuple[int, int, int]) -> None:
    story = Story()
    story.update(0, state)
    story.update(60_000, C)
    assert seconds(story) == charged


@pytest.mark.parametrize("status", ["U", "I", "S"])
@pytest.mark.parametrize("policy, billed", [("any", "UIS"), ("informative", "IS"), ("never", "")])
def test_the_time_policy_says_which_clock_is_good_enough(policy: str, billed: str, status: str) -> None:
    story = Story(policy=policy, status=status)
    story.update(0, C)
    story.update(60_000, V)
    story.end(120_000, 2_000)
    assert seconds(story) == ((60, 60, 0) if status in billed else (0, 0, 120))
    assert story.books.time_unbilled is (status not in billed)
    assert story.books.usage().energy_mwh == 1_000, "energy is billed whatever the clock"


# ---------------------------------------------------------------------------------------------- marks


@pytest.mark.parametrize(
    "reason, letter",
    [
        (StopReason.LOCAL, "L"),
        (StopReason.REMOTE, "R"),
        (StopReason.POWER_LOSS, "P"),
        (StopReason.EMERGENCY_STOP, "A"),
        (StopReason.GROUND_FAULT, "A"),
        (StopReason.OVERCURRENT_FAULT, "A"),
        (StopReason.OTHER, "A"),
        (StopReason.EV_DISCONNECTED, "E"),
        (StopReason.DE_AUTHORIZED, "E"),
        (StopReason.LOCAL_OUT_OF_CREDIT, "E"),
        (StopReason.ENERGY_LIMIT_REACHED, "E"),
    ],
)
def test_the_end_reading_says_who_ended_it(reason: StopReason, letter: str) -> None:
    story = Story()
    story.end(60_000, 2_000, reason)
    assert story.marks() == [("B", 0, ""), (letter, 60, "")]


@pytest.mark.parametrize(
    "cause, signed",
    [(PriceCause.BOUNDARY, True), (PriceCause.TARIFF, True), (PriceCause.CHOICE, False), (PriceCause.CLOCK, False)],
)
def test_changes_of_price_are_signed_where_a_reading_belongs_to_them(cause: PriceCause, signed: bool) -> None:
    story = Story()
    story.price(30_000, cause, (1_400, 29_000), (1_500, 30_000), to="other" if cause is PriceCause.TARIFF else None)
    assert story.marks() == [("B", 0, ""), *([("T", 30, "")] if signed else [])]


def test_a_price_that_changes_every_moment_does_not_fill_the_memory() -> None:
    story = Story()
    for second in range(1, MARKS_MAX + 100):
        story.price(second * 1_000, PriceCause.BOUNDARY, (1_000 + second, second * 1_000))
    story.end(MARKS_MAX * 1_100, 90_000)
    assert len(story.books.marks) == MARKS_MAX + 1 and story.books.marks[-1].letter == "L"


@pytest.mark.parametrize("state", ["T", "X", "M", "O"])
def test_a_substituted_end_is_the_last_good_reading_and_says_so(state: str) -> None:
    """It may be newer than the last row: it is billed all the same, and nothing beyond it."""
    story = Story()
    story.update(0, C)
    story.checkpoint(30_000, 1_500)
    story.end(60_000, 1_700, substituted={"substituted": True, "meter_state": state})
    last = story.books.marks[-1]
    assert (last.letter, last.error_flags, last.sample.meter_state) == ("L", "E", state)
    usage = story.books.usage()
    assert (usage.begin_mwh, usage.end_mwh, usage.energy_mwh) == (1_000, 1_700, 700)
    assert sum(period.energy_mwh for period in usage.periods) == 700


def test_the_times_of_marks_are_those_of_the_readings() -> None:
    story = Story()
    story.price(31_000, PriceCause.TARIFF, (1_500, 30_000), to="other")
    story.end(62_000, 2_000, read_ms=60_000)
    assert story.marks() == [("B", 0, ""), ("T", 30, ""), ("L", 60, "")]


def test_nothing_counts_behind_the_end() -> None:
    story = Story()
    story.update(0, C)
    story.end(60_000, 2_000)
    before = story.books.usage(), list(story.books.marks), list(story.books.tariff_hashes)
    story.price(90_000, PriceCause.TARIFF, (3_000, 90_000), to="other")
    story.checkpoint(95_000, 4_000)
    story.books.note(LimitFact("tx", 1, "1"), story.stamp(96_000))
    assert (story.books.usage(), story.books.marks, story.books.tariff_hashes) == before
    assert story.books.limits is None


# ---------------------------------------------------------------------------------------------- prices


def amounts(story: Story) -> dict[tuple[int, int], int]:
    """mWh by tariff and price."""
    return {(v.tariff, v.price): v.amount for v in story.books.usage().volumes if v.dimension == "energy"}


def an_hour_of_lunch(*rows: tuple[int, tuple[tuple[int, int], ...]]) -> Story:
    story = Story(price="lunch")
    story.update(0, C, 1_000)
    assert story.books.next_boundary_ms() == BOOT + 3_600_000
    for at_ms, samples in rows:
        story.price(at_ms, PriceCause.BOUNDARY, *samples)
    story.end(7_000_000, 9_000)
    return story


def test_readings_at_a_boundary_divide_the_energy() -> None:
    story = an_hour_of_lunch((3_600_100, ((4_000, 3_599_500), (4_001, 3_600_100))))
    assert amounts(story) == {(0, 1): 3_001, (0, 0): 4_999}, "the mWh in between goes to the cheaper price"
    assert not story.books.usage().estimated_split


def test_without_readings_there_the_energy_is_the_cheapest_price_s() -> None:
    story = an_hour_of_lunch()
    assert amounts(story) == {(0, 1): 8_000} and story.books.usage().estimated_split


def test_a_reading_that_is_older_than_the_last_row_turns_no_time_back() -> None:
    """A row of state passed the boundary; then comes the reading from before it."""
    story = Story(price="lunch")
    story.update(0, C, 1_000)
    story.update(3_600_000, C)
    story.price(3_600_400, PriceCause.BOUNDARY, (4_000, 3_599_500), (4_001, 3_600_400))
    periods = story.books.usage().periods
    assert [(period.from_ms - BOOT, period.energy) for period in periods] == [(0, 1), (3_600_000, 0)]


def test_another_tariff_holds_from_its_row_on() -> None:
    story = Story()
    story.update(0, C)
    story.price(60_000, PriceCause.TARIFF, (1_400, 60_000), to="other")
    story.end(120_000, 2_000)
    assert amounts(story) == {(0, 0): 400, (1, 0): 600}
    assert story.books.tariff_hashes == ["flat", "other"] and story.books.tariff is KNOWN["other"]


def test_a_tariff_that_nobody_knows_changes_nothing() -> None:
    story = Story(price="gone")
    story.price(60_000, PriceCause.TARIFF, (1_400, 60_000), to="gone too")
    story.end(120_000, 2_000)
    assert story.books.tariffs == () and story.books.usage().energy_mwh == 1_000


# ------------------------------------------------------------------------------------------------ gaps


def test_a_restarted_process_bills_the_energy_of_its_absence_and_no_second_of_it() -> None:
    story = Story()
    story.update(0, C)
    story.checkpoint(60_000, 1_500)
    story.update(90_000, E, 1_600, gap=True)
    story.update(90_000, C)
    story.end(120_000, 2_000)
    assert seconds(story) == (90, 0, 30)
    assert story.books.usage().energy_mwh == 1_000 and story.books.gaps == 1
    assert story.marks() == [("B", 0, ""), ("X", 90, "t"), ("L", 120, "")]


@pytest.mark.parametrize("away_ms, placed", [(600_000, 660), (-3_600_000, 60)])
def test_another_boot_is_placed_by_the_wall_clock(away_ms: int, placed: int) -> None:
    story = Story()
    story.update(0, C)
    story.checkpoint(60_000, 1_500)
    story.wall_ms += 60_000
    story.reboot(away_ms=away_ms)
    story.update(0, E, 1_500, gap=True)
    story.update(30_000, C)
    assert story.books.usage().elapsed_ms // 1_000 == placed + 30
    assert seconds(story) == (60, 0, placed - 60 + 30)


@pytest.mark.parametrize("before, after", [("S", "U"), ("U", "S"), ("U", "U")])
def test_a_clock_that_nobody_has_set_places_nothing(before: str, after: str) -> None:
    """56 years between 1970 and now are no gap: a limit of time would be used up by them."""
    story = Story(status=before)
    story.update(0, C)
    story.checkpoint(60_000, 1_500)
    story.reboot(away_ms=1_000_000_000_000, status=after)
    story.update(0, E, 1_500, gap=True)
    story.update(30_000, C)
    assert story.books.usage().elapsed_ms == 90_000


def test_looking_ahead_after_a_restart_changes_nothing() -> None:
    """The clock of the new boot may still be put right before its first row."""
    story = Story()
    story.update(0, C)
    story.wall_ms += 60_000
    story.reboot(away_ms=0)
    told = replace(story.stamp(5_000), wall_ms=NOON_MS + 999_000)
    for _ in range(2):
        story.books.usage_at(told.mono_ms, told, story.sample(1_500, 5_000), gap=True)
    story.update(10_000, E, 1_500, gap=True)
    assert story.books.usage().elapsed_ms == 70_000


# ----------------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("step_ms", [-7_200_000, -1_000, 1_000, 7_200_000])
def test_a_clock_step_charges_no_second_twice(step_ms: int) -> None:
    """T1: elapsed time counts; the wall clock only says which prices hold."""
    story = Story()
    story.update(0, C)
    story.wall_ms += step_ms
    story.price(60_000, PriceCause.CLOCK, (1_500, 60_000))
    story.end(120_000, 2_000)
    assert seconds(story) == (120, 0, 0)


@pytest.mark.parametrize("wall_ms", [-(10**14), 10**16])
def test_no_clock_is_wrong_enough_to_stop_the_books(wall_ms: int) -> None:
    story = Story()
    story.wall_ms = wall_ms
    story.price(1_000, PriceCause.BOUNDARY, (1_500, 1_000))
    story.end(120_000, 2_000)
    assert story.books.usage().energy_mwh == 1_000 and all(mark.wall_ms >= 0 for mark in story.books.marks)


def test_no_time_of_day_holds_while_nobody_has_set_the_clock() -> None:
    """Metering reference 3.5, rule 13; 4.6, time before the build date at boot."""
    story = Story(status="U", price="lunch", policy="any")
    story.wall_ms += 3_700_000
    story.update(0, C, 1_000)
    assert story.books.next_boundary_ms() is None
    story.checkpoint(60_000, 2_000)
    story.status = "S"
    story.price(60_000, PriceCause.CLOCK, (2_000, 60_000))
    story.end(120_000, 5_000)
    assert amounts(story) == {(0, 1): 1_000, (0, 0): 3_000}


def test_limits_are_those_told_last() -> None:
    story = Story()
    first, second = LimitFact("tx", 1, "5"), LimitFact("tx", 1, None, 1_000)
    story.books.note(first, story.stamp(0))
    story.books.note(second, story.stamp(1_000))
    assert story.books.limits == second
