"""One EVSE and its meter: lost, fresh, clock-aligned, wanted by the CSMS, and a register that cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.commands import RemoteStop, TakeSample
from agent.core.effects import SampleTaken
from agent.core.events import (
    Authorized,
    ClockSet,
    FromMeter,
    LedgerRoom,
    LimitSet,
)
from agent.core.facts import (
    LogEntry,
    LogFact,
    MeterFact,
    SampleContext,
    StopReason,
    Trigger,
    TxKind,
)
from agent.core.session import SessionState
from agent.core.settings import Behaviour, EvseHardware, StationSettings, Timing
from agent.core.status import FaultCode
from hal.ports import Back, CpState, LossKind, Lost
from tests.support.core_world import TOKEN, CoreWorld

AC = EvseHardware(evse=1, hard_limit_ma=32_000)
TIMING = Timing()
MINUTE_MS = 60_000


def world(hardware: EvseHardware = AC, behaviour: Behaviour | None = None) -> CoreWorld:
    made = CoreWorld(StationSettings(evses=(hardware,), behaviour=behaviour or Behaviour()))
    made.boot()
    return made


def faults(made: CoreWorld) -> tuple[FaultCode, ...]:
    return made.station.views()[0].faults


def logs(made: CoreWorld) -> list[LogEntry]:
    return [fact.entry for fact in made.facts if isinstance(fact, LogFact)]


# -------------------------------------------------------------------------------------------- meter


@pytest.mark.parametrize(
    "kind, code, entry, state",
    [
        (LossKind.SILENT, FaultCode.METER_LOST, LogEntry.METER_SILENT, "T"),
        (LossKind.GONE, FaultCode.METER_LOST, LogEntry.METER_SILENT, "T"),
        (LossKind.GARBAGE, FaultCode.METER_IMPLAUSIBLE, LogEntry.METER_IMPLAUSIBLE, "O"),
    ],
)
def test_a_lost_meter_takes_power_is_logged_once_and_says_what_was_wrong_in_the_end_row(
    kind: LossKind, code: FaultCode, entry: LogEntry, state: str
) -> None:
    made = world()
    made.charge()
    made.evses[1].meter_answers = False
    made.give(FromMeter(1, Lost(kind, "d")))
    made.give(FromMeter(1, Lost(kind, "d")))
    assert faults(made) == (code,) and not made.evses[1].power
    assert [fact for fact in made.facts if isinstance(fact, LogFact)] == [LogFact(entry, 1, (("detail", "d"),))]
    made.command(RemoteStop(made.transactions()[0].tx_id))
    made.run(10_000)
    end = made.transactions()[-1]
    assert end.kind is TxKind.ENDED and end.samples[-1].substituted and end.samples[-1].meter_state == state


def test_a_meter_that_is_back_or_read_again_is_lost_no_more() -> None:
    for news in ("back", "reading"):
        made = world()
        made.evses[1].meter_answers = False
        made.give(FromMeter(1, Lost(LossKind.SILENT, "d")))
        made.run(2_000)
        assert faults(made) == (FaultCode.METER_LOST,)
        made.give(FromMeter(1, Back("meter") if news == "back" else made.reading(1)))
        made.run(2_000)
        assert faults(made) == ()


def test_a_good_reading_makes_the_meter_state_good_again() -> None:
    made = world()
    made.charge()
    made.give(FromMeter(1, Lost(LossKind.GARBAGE, "d")))
    made.run(5_000)
    assert faults(made) == () and made.evses[1].power
    made.evses[1].meter_answers = False
    made.cp(1, CpState.A)
    made.run(10_000)
    assert made.transactions()[-1].samples[-1].meter_state == "T", "silent now, whatever was wrong before"


def test_a_reading_is_fresh_for_three_seconds() -> None:
    made = world()
    made.evses[1].meter_answers = False
    evse = made.station.evses[1]
    at_ms = made.at_ms
    made.run(TIMING.reading_fresh_ms)
    assert evse.fresh_reading() is evse.reading is not None and evse.reading.at_ms == at_ms
    made.run(1)
    assert evse.fresh_reading() is None


@pytest.mark.parametrize("trusted", [True, False])
def test_clock_aligned_readings_are_written_outside_transactions_and_only_with_a_clock(trusted: bool) -> None:
    """16-MV-02: inside, too, as rows of the transaction."""
    made = world(behaviour=Behaviour(aligned_interval_ms=MINUTE_MS))
    made.give(ClockSet(1_764_000_000_000, "csms", trusted))
    made.run(2 * MINUTE_MS)
    samples = [fact.sample for fact in made.facts if isinstance(fact, MeterFact)]
    assert len(samples) == (2 if trusted else 0)
    assert all(sample.context is SampleContext.CLOCK and sample.offered_current_ma == 0 for sample in samples)
    made.charge()
    made.run(2 * MINUTE_MS)
    assert [fact.evse for fact in made.facts if isinstance(fact, MeterFact)] == [1] * len(samples)
    aligned = [fact for fact in made.transactions() if fact.trigger is Trigger.METER_VALUE_CLOCK]
    assert len(aligned) == (2 if trusted else 0)


def test_readings_tell_what_was_offered_when_they_were_taken() -> None:
    made = world()
    made.give(LimitSet(1, 16_000))
    made.charge()
    made.run(MINUTE_MS)
    rows = [fact for fact in made.transactions() if fact.trigger is Trigger.METER_VALUE_PERIODIC]
    assert [row.samples[0].offered_current_ma for row in rows] == [16_000]


def test_a_reading_of_the_instant_in_which_the_contactor_was_seen_open_begins_at_once() -> None:
    made = world()
    made.evses[1].meter_answers = False
    made.cp(1, CpState.B)
    made.give(Authorized(1, TOKEN, "G", 17, "cache"))
    [start] = made.transactions()
    assert (start.token, start.group, start.remote_start_id, start.authorized_by) == (TOKEN, "G", 17, "cache")


def test_a_sample_the_csms_wants_is_a_row_inside_a_transaction_and_an_answer_outside() -> None:
    made = world()
    effects = made.command(TakeSample(1))
    assert [type(effect) for effect in effects].count(SampleTaken) == 1 and made.facts == []
    made.charge()
    before = len(made.transactions())
    assert not any(isinstance(effect, SampleTaken) for effect in made.command(TakeSample(1)))
    row = made.transactions()[before]
    assert row.trigger is Trigger.TRIGGER and row.samples[0].context is SampleContext.TRIGGER
    assert row.samples[0].offered_current_ma == 32_000
    made.run(5_000)
    assert len(made.transactions()) == before + 1, "one for each wish"
    made.give(LedgerRoom(enough=True, scarce=True))
    effects = made.command(TakeSample(1))
    assert [type(effect) for effect in effects].count(SampleTaken) == 1
    made.run(5_000)
    assert len(made.transactions()) == before + 1, "the room is for starts and ends"


def test_an_exchanged_meter_is_no_reason_to_end_what_has_not_begun() -> None:
    made = world()
    made.cp(1, CpState.B)
    made.evses[1].serial = "M2"
    made.run(2_000)
    made.authorize(1)
    assert made.transactions()[0].samples[0].meter_serial == "M2"


def test_a_register_out_of_range_ends_at_the_last_good_value() -> None:
    made = world()
    made.charge()
    good = made.station.evses[1].reading
    made.evses[1].energy_mwh += 10**9
    made.run(10_000)
    end = made.transactions()[-1]
    assert good is not None and (end.kind, end.stopped_reason) == (TxKind.ENDED, StopReason.OTHER)
    assert end.trigger is Trigger.ABNORMAL_CONDITION
    assert end.samples[-1].energy_import_mwh == good.energy_import_mwh
    assert end.samples[-1].meter_state == "O" and logs(made) == [LogEntry.METER_IMPLAUSIBLE]


def test_a_register_that_falls_waits_for_a_good_value_and_does_not_end() -> None:
    made = world()
    made.charge()
    made.evses[1].energy_mwh -= 50_000
    made.run(3_000)
    assert not made.evses[1].power and made.station.evses[1].flow.state is SessionState.ACTIVE
    assert logs(made) == [LogEntry.METER_BACKWARDS]


@pytest.mark.parametrize("slip_mwh", [0, 10**12])
def test_a_slip_of_the_first_reading_after_a_start_begins_no_transaction(slip_mwh: int) -> None:
    """World 3550016."""
    made = CoreWorld(StationSettings((AC,)))
    made.evses[1].energy_mwh = 7_550_000
    made.boot_without_meter()
    made.give(FromMeter(1, replace(made.reading(1), energy_import_mwh=slip_mwh)))
    made.cp(1, CpState.B)
    made.authorize(1)
    made.run(1_000)
    [begin] = made.transactions()
    assert begin.samples[0].energy_import_mwh == 7_550_000


def test_a_register_that_was_reset_while_nobody_looked_counts() -> None:
    made = CoreWorld(StationSettings((AC,)))
    made.evses[1].energy_mwh = 0
    made.boot()
    made.cp(1, CpState.B)
    made.authorize(1)
    assert made.transactions()[0].samples[0].energy_import_mwh == 0
