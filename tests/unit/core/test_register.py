"""What a register says, judged: fell, began anew, exchanged, out of range; and what the log book is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.context import Context
from agent.core.effects import Append, ReadMeter
from agent.core.facts import LogEntry, LogFact, Sample, SampleContext
from agent.core.register import Register
from agent.core.settings import Behaviour, EvseHardware
from hal.ports import MeterReading

MODULUS_MWH = 100_000_000
AC = EvseHardware(evse=2, hard_limit_ma=32_000, meter_rollover_mwh=MODULUS_MWH)
MOST_AC_MWH_PER_HOUR = 32 * 900 * 1_000  # 32 A at 900 V over all phases
SLACK_MWH = 100_000
BEHIND_S = 30


def reading(energy_mwh: int, at_ms: int = 0, serial: str = "M1", power_mw: int = 0) -> MeterReading:
    absent = (None, None, None)
    return MeterReading(at_ms, serial, energy_mwh, None, power_mw, absent, absent)


def sample(energy_mwh: int, at_ms: int = 0, serial: str = "M1") -> Sample:
    return Sample(SampleContext.PERIODIC, at_ms, serial, energy_mwh)


def register(hardware: EvseHardware = AC) -> tuple[Register, Context]:
    ctx = Context(Behaviour(), lambda: "tx", lambda *_: None)
    return Register(hardware, ctx, BEHIND_S * 1_000), ctx


def judge(
    made: Register,
    new: MeterReading,
    before: MeterReading | None,
    counted: Sample | None = None,
    *,
    bounded: bool = True,
    told: bool = False,
) -> bool:
    return made.judge(new, before, counted, bounded=bounded, told=told)


def logged(ctx: Context) -> list[tuple[LogEntry, int | None, dict[str, str]]]:
    facts = [fact for effect in ctx.take_effects() if isinstance(effect, Append) for fact in effect.facts]
    return [(fact.entry, fact.evse, dict(fact.details)) for fact in facts if isinstance(fact, LogFact)]


@pytest.mark.parametrize(
    ("registers_mwh", "known_from"),
    [
        ((5_000, 5_000), 1),
        ((5_000, 5_000 + SLACK_MWH), 1),  # a reading at the end of a step
        ((0, 7_550_000, 7_550_000), 2),  # a slip to zero, as in world 3550016
        ((10**12, 7_550_000, 7_550_000), 2),
        ((7_550_000, 0, 7_550_000, 7_550_001), 3),
    ],
)
def test_a_register_that_nobody_knows_counts_once_a_second_reading_confirms_it(
    registers_mwh: tuple[int, ...], known_from: int
) -> None:
    made, ctx = register()
    known = [made.is_known(reading(mwh, at_ms=n * 1_000), None) for n, mwh in enumerate(registers_mwh)]
    assert known.index(True) == known_from and known[known_from:] == [True] * (len(known) - known_from)
    asked = [effect for effect in ctx.take_effects() if isinstance(effect, ReadMeter)]
    assert len(asked) == 1, "a meter whose register always falls is not read without a pause"


def test_what_can_have_flowed_counts_from_the_first_reading_not_from_the_start() -> None:
    day_ms = 86_400_000
    made, _ = register()
    assert not made.is_known(reading(0, day_ms), None)
    assert not made.is_known(reading(10 * SLACK_MWH, day_ms + 1_000), None)
    assert made.is_known(reading(10 * SLACK_MWH, day_ms + 2_000), None)


def test_a_slip_to_zero_is_no_beginning_anew_however_long_the_station_runs() -> None:
    day_ms = 86_400_000
    made, _ = register()
    assert not judge(made, reading(0, at_ms=day_ms + 1_000), reading(MODULUS_MWH - 310_000, at_ms=day_ms))
    assert made.wrong == "M"


def test_a_meter_that_was_not_here_before_is_read_twice_too() -> None:
    made, _ = register()
    before = reading(5_000)
    assert made.is_known(reading(4_000), before), "known, and to be judged"
    assert [
        made.is_known(reading(7, at_ms, serial), before) for at_ms, serial in ((1, "M2"), (2, "M3"), (3, "M3"))
    ] == [
        False,
        False,
        True,
    ]
    assert made.is_known(reading(5_000), before) and not made.is_known(reading(7, 4, "M3"), before)


@pytest.mark.parametrize("before", [None, reading(0), reading(5_000), reading(9_000, serial="M0")])
def test_a_register_that_has_not_fallen_is_good(before: MeterReading | None) -> None:
    made, ctx = register()
    assert not judge(made, reading(5_000), before)
    assert made.wrong is None and logged(ctx) == []


def test_a_register_that_fell_is_told_once_with_both_values() -> None:
    made, ctx = register()
    assert not judge(made, reading(4_999), reading(5_000))
    assert made.wrong == "M"
    assert logged(ctx) == [(LogEntry.METER_BACKWARDS, 2, {"before_mwh": "5000", "after_mwh": "4999"})]
    judge(made, reading(4_998), reading(5_000), told=True)
    assert made.wrong == "M" and logged(ctx) == []
    judge(made, reading(5_001), reading(5_000))
    assert made.wrong is None


def test_a_slip_to_zero_near_the_last_digit_is_no_beginning_anew() -> None:
    """So much cannot have flowed since the reading before."""
    made, _ = register()
    assert not judge(made, reading(0, at_ms=1_000), reading(MODULUS_MWH - 310_000))
    assert made.wrong == "M"
    assert judge(made, reading(0, at_ms=1_000), reading(MODULUS_MWH - 5_000))


@pytest.mark.parametrize(
    "before_mwh, after_mwh, anew",
    [
        (MODULUS_MWH - 1, 0, True),
        (MODULUS_MWH - MODULUS_MWH // 100, 0, True),
        (MODULUS_MWH - MODULUS_MWH // 100 - 1, 0, False),
        (MODULUS_MWH - 1, MODULUS_MWH // 100 - 1, True),
        (MODULUS_MWH - 1, MODULUS_MWH // 100, False),
        (MODULUS_MWH - 1, MODULUS_MWH - 2, False),
    ],
)
def test_a_register_begins_anew_only_from_its_last_digit_to_its_first(
    before_mwh: int, after_mwh: int, anew: bool
) -> None:
    made, ctx = register()
    assert judge(made, reading(after_mwh, at_ms=3_600_000), reading(before_mwh)) is anew
    assert made.wrong == (None if anew else "M")
    details = {"before_mwh": str(before_mwh), "after_mwh": str(after_mwh)}
    expected = (LogEntry.METER_ROLLOVER, 2, {"serial": "M1", **details})
    assert logged(ctx) == [expected if anew else (LogEntry.METER_BACKWARDS, 2, details)]


def test_a_register_of_unknown_size_never_begins_anew() -> None:
    made, _ = register(replace(AC, meter_rollover_mwh=None))
    assert not judge(made, reading(0), reading(MODULUS_MWH - 1))
    assert made.wrong == "M"


def test_another_meter_is_told_once_and_only_while_a_transaction_counts_on_one() -> None:
    made, ctx = register()
    judge(made, reading(7, serial="M2"), reading(5_000), sample(5_000))
    assert made.wrong == "X"
    assert logged(ctx) == [(LogEntry.METER_EXCHANGED, 2, {"serial": "M2", "before": "M1"})]
    judge(made, reading(8, serial="M2"), reading(5_000), sample(5_000))
    assert made.wrong == "X" and logged(ctx) == []
    judge(made, reading(9, serial="M2"), reading(5_000), None)
    assert made.wrong is None


def test_a_jump_is_told_once_and_only_where_it_is_bounded() -> None:
    made, ctx = register()
    far = reading(10**9, at_ms=1_000)
    judge(made, far, reading(0), sample(0))
    assert made.wrong == "O"
    details = {"detail": "out of range", "before_mwh": "0", "after_mwh": str(10**9)}
    assert logged(ctx) == [(LogEntry.METER_IMPLAUSIBLE, 2, details)]
    judge(made, far, reading(0), sample(0))
    assert made.wrong == "O" and logged(ctx) == []
    judge(made, far, reading(0), sample(0), bounded=False)
    assert made.wrong is None
    judge(made, far, reading(0), None)
    assert made.wrong is None


def test_a_jump_counts_from_the_last_sample_of_the_transaction_and_its_instant() -> None:
    made, _ = register()
    hour_ms = 3_600_000
    judge(made, reading(1_000 + MOST_AC_MWH_PER_HOUR, at_ms=2 * hour_ms), reading(0), sample(1_000, at_ms=hour_ms))
    assert made.wrong is None
    judge(made, reading(1_000 + MOST_AC_MWH_PER_HOUR, at_ms=2 * hour_ms), reading(0), sample(1_000, at_ms=2 * hour_ms))
    assert made.wrong == "O"


@pytest.mark.parametrize(
    "hardware, mwh_per_hour", [(AC, MOST_AC_MWH_PER_HOUR), (replace(AC, dc=True), 32 * 1_000 * 1_000)]
)
def test_how_much_an_evse_can_have_delivered(hardware: EvseHardware, mwh_per_hour: int) -> None:
    made, _ = register(hardware)
    for within_ms, counted_ms in ((3_599_000, 3_600_000), (0, 1_000), (-60_000, 1_000)):
        most_mwh = mwh_per_hour * counted_ms // 3_600_000 + SLACK_MWH
        assert made.can_have_risen(most_mwh, within_ms)
        assert not made.can_have_risen(most_mwh + 1, within_ms)


def test_a_clock_that_was_wrong_by_years_makes_no_jump_plausible() -> None:
    """World 3500006: over a restart a clock came right by 400 days, and 99,996 kWh were billed."""
    made, _ = register()
    day_ms = 86_400_000
    assert made.can_have_risen(24 * MOST_AC_MWH_PER_HOUR, 400 * day_ms)
    assert not made.can_have_risen(25 * MOST_AC_MWH_PER_HOUR, 400 * day_ms)


@pytest.mark.parametrize("implausible, entry", [(True, LogEntry.METER_IMPLAUSIBLE), (False, LogEntry.METER_SILENT)])
def test_a_lost_meter_is_told_with_a_bounded_detail(implausible: bool, entry: LogEntry) -> None:
    made, ctx = register()
    made.lost(implausible=implausible, detail="x" * 1_000)
    assert logged(ctx) == [(entry, 2, {"detail": "x" * 200})]


# --------------------------------------------------------------------------------------- standing still

STEP_MWH = 10_000
FINE = replace(AC, meter_step_mwh=STEP_MWH)
POWER_MW = 11_040_000
TWO_STEPS_S = 9  # until three quarters of the power have made more than two steps


def stand_still(made: Register, seconds: int, *, every_s: int = 1, power_mw: int = POWER_MW, **told: str) -> int | None:
    """The second from which on the register was called wrong, if it was."""
    for second in range(0, seconds + 1, every_s):
        judge(made, reading(0, second * 1_000, power_mw=power_mw, **told), None)
        if made.wrong == "E":
            return second
    return None


@pytest.mark.parametrize("power_mw", [POWER_MW, -POWER_MW], ids=["", "connected the wrong way round"])
def test_a_register_that_stands_still_while_power_flows_is_told_once(power_mw: int) -> None:
    made, ctx = register(FINE)
    assert stand_still(made, 600, power_mw=power_mw) == TWO_STEPS_S + BEHIND_S
    details = {"detail": "the register stands still while power flows", "register_mwh": "0"}
    assert logged(ctx) == [(LogEntry.METER_IMPLAUSIBLE, 2, details)]
    judge(made, reading(0, 700_000), None)
    assert made.wrong == "E" and logged(ctx) == [], "also when nothing flows any more: it has not made up for it"


def test_power_that_has_stopped_does_not_hide_it() -> None:
    """Whoever comes next would pay for it."""
    made, _ = register(FINE)
    stand_still(made, TWO_STEPS_S)
    judge(made, reading(0, (TWO_STEPS_S + BEHIND_S) * 1_000 - 1), None)
    assert made.wrong is None
    judge(made, reading(0, (TWO_STEPS_S + BEHIND_S) * 1_000), None)
    assert made.wrong == "E"


@pytest.mark.parametrize(
    ("after", "wrong"),
    [
        (reading(2 * STEP_MWH, 700_000), "E"),  # not enough
        (reading(1_840_000, 700_000), None),
        (reading(0, 700_000, serial="M2"), None),
    ],
)
def test_it_is_right_again_when_it_has_made_up_for_it_or_is_another(after: MeterReading, wrong: str | None) -> None:
    made, _ = register(FINE)
    stand_still(made, 600)
    judge(made, after, None)
    assert made.wrong == wrong


@pytest.mark.parametrize(
    "how",
    [
        {"power_mw": 99_999},  # a meter need not count so little
        {"power_mw": -99_999},
        {"every_s": 16},  # nobody knows what flowed meanwhile
    ],
)
def test_what_a_meter_need_not_count_accuses_nobody(how: Any) -> None:
    made, _ = register(FINE)
    assert stand_still(made, 7_200, **how) is None


@pytest.mark.parametrize(("power_mw", "every_s"), [(100_000, 1), (POWER_MW, 15)])
def test_the_least_power_and_the_longest_pause_that_count(power_mw: int, every_s: int) -> None:
    made, _ = register(FINE)
    assert stand_still(made, 7_200, power_mw=power_mw, every_s=every_s) is not None


def test_two_steps_are_not_behind_and_whatever_is_more_is() -> None:
    """Three quarters of 4.8 kW make 1 Wh a second."""
    made, _ = register(FINE)
    behind = []
    for second in range(22):
        judge(made, reading(0, second * 1_000, power_mw=4_800_000), None)
        behind.append(made.behind)
    assert behind == [False] * 21 + [True]


@given(
    step_mwh=st.sampled_from([1, 1_000, 10_000, 100_000]),
    late_s=st.integers(0, 20),
    powers_mw=st.lists(st.integers(0, 22_080_000), min_size=1, max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_an_honest_register_is_never_accused_however_rough_or_late(
    step_mwh: int, late_s: int, powers_mw: list[int]
) -> None:
    """Each power lasts 20 s; the register moves in steps, and only every so many seconds."""
    made, _ = register(replace(AC, meter_step_mwh=step_mwh))
    true_uj, shown_mwh, second = 0, 0, 0
    for power_mw in powers_mw:
        for _ in range(20):
            if second % (late_s + 1) == 0:
                shown_mwh = true_uj // 3_600_000 // step_mwh * step_mwh
            judge(made, reading(shown_mwh, second * 1_000, power_mw=power_mw), None)
            assert made.wrong is None
            true_uj += power_mw * 1_000
            second += 1
