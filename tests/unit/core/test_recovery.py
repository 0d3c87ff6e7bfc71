"""Transactions found open after a restart: resumed or closed, once, with all their energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.auth.token import NO_AUTHORIZATION
from agent.core.commands import RemoteStop, Reset
from agent.core.effects import AllowPower, Append
from agent.core.events import Deauthorized, Event, FromMeter, GapKind, Recovered, StopAuthorized
from agent.core.facts import (
    Fact,
    Sample,
    SampleContext,
    StopFact,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.core.settings import EvseHardware, StationSettings
from agent.core.status import ConnectorState, Outcome
from hal.ports import BoardFault, BoardFaults, CpState
from tests.support.core_world import TOKEN, CoreWorld

S = ConnectorState
AC = EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True)


def sample(energy_mwh: int) -> Sample:
    return Sample(SampleContext.PERIODIC, 0, "M1", energy_mwh)


@pytest.mark.parametrize(
    "cp, gap_ms, gap, reason",
    [
        (CpState.C, 5_000, GapKind.PROCESS, None),
        (CpState.C, 61_000, GapKind.PROCESS, StopReason.OTHER),
        (CpState.C, None, GapKind.POWER, StopReason.POWER_LOSS),
        (CpState.A, 5_000, GapKind.PROCESS, StopReason.EV_DISCONNECTED),
        (CpState.A, 5_000, GapKind.POWER, StopReason.POWER_LOSS),
    ],
)
def test_open_transaction_is_resumed_or_closed_once(
    cp: CpState, gap_ms: int | None, gap: GapKind, reason: StopReason | None
) -> None:
    """16-BOOT-09, 20-TE-02; field fault 2: energy since the last row is in the end reading, numbers go on."""
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.evses[1].cp = cp
    made.evses[1].energy_mwh = 1_000_500
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, sample(1_000_000), gap, gap_ms))
    made.boot()
    made.run(3_000)
    facts = made.transactions()
    assert facts[0].seq_no == 4 and facts[0].samples[-1].energy_import_mwh == 1_000_500
    if reason is None:
        assert facts[0].kind is TxKind.UPDATED and made.evses[1].power
        assert made.statuses[1] == [S.SUSPENDED_EVSE, S.CHARGING], "never Preparing inside a transaction"
    else:
        assert facts[0].kind is TxKind.ENDED and facts[0].stopped_reason is reason
    assert len([f for f in facts if f.kind is TxKind.ENDED]) == (reason is not None)


@pytest.mark.parametrize("autonomous, end_mwh", [(False, 1_000_500), (True, 1_000_000)])
def test_energy_of_a_long_gap_is_billed_only_where_the_board_opens_by_itself(autonomous: bool, end_mwh: int) -> None:
    made = CoreWorld(StationSettings(evses=(EvseHardware(1, 32_000, autonomous=autonomous),)))
    made.evses[1].energy_mwh = 1_000_500
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, sample(1_000_000), GapKind.PROCESS, 61_000))
    made.boot()
    made.run(3_000)
    assert made.transactions()[-1].samples[-1].energy_import_mwh == end_mwh


def test_a_slip_of_the_first_reading_does_not_end_what_is_found_open() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.evses[1].cp, made.evses[1].energy_mwh = CpState.C, 1_000_500
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, sample(1_000_000), GapKind.PROCESS, 5_000))
    made.evses[1].meter_answers = False
    made.boot_without_meter()
    made.give(FromMeter(1, replace(made.reading(1), energy_import_mwh=0)))
    made.evses[1].meter_answers = True
    made.run(3_000)
    facts = made.transactions()
    assert facts[0].samples[-1].energy_import_mwh == 1_000_500
    assert {fact.kind for fact in facts} == {TxKind.UPDATED} and made.evses[1].power


@pytest.mark.parametrize(
    "gap, reason", [(GapKind.PROCESS, StopReason.EV_DISCONNECTED), (GapKind.POWER, StopReason.POWER_LOSS)]
)
def test_a_vehicle_that_is_seen_to_leave_before_the_meter_answers_has_left(gap: GapKind, reason: StopReason) -> None:
    """Another one, plugged in by the time the reading comes, must not charge on the transaction."""
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.evses[1].cp, made.evses[1].energy_mwh = CpState.C, 1_000_500
    made.evses[1].meter_answers = False
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, sample(1_000_000), gap, 5_000))
    made.boot()
    made.run(3_000)
    made.cp(1, CpState.A)
    made.run(10_000)
    made.cp(1, CpState.C)
    made.evses[1].meter_answers = True
    made.run(5_000)
    [ended] = made.transactions()
    assert (ended.kind, ended.stopped_reason) == (TxKind.ENDED, reason)
    assert not made.evses[1].power and made.state() == S.PREPARING


@pytest.mark.parametrize("token, state", [(Token("", NO_AUTHORIZATION), S.PREPARING), (TOKEN, S.FINISHING)])
def test_a_free_vehicle_whose_transaction_cannot_go_on_counts_as_newly_plugged_in(
    token: Token, state: ConnectorState
) -> None:
    """No card can bring its power back, and nobody stopped it."""
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.evses[1].cp = CpState.C
    made.give(Recovered(1, "old", 4, token, None, 900_000, sample(0), GapKind.POWER, None))
    made.boot()
    made.run(3_000)
    assert made.transactions()[-1].kind is TxKind.ENDED and made.state() == state


def test_recovery_without_any_meter_closes_with_the_last_good_value() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.evses[1].meter_answers = False
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, sample(1_000_000), GapKind.POWER, None))
    made.boot()
    made.run(31_000)
    end = made.transactions()[0]
    assert end.kind is TxKind.ENDED and end.samples[-1].energy_import_mwh == 1_000_000
    assert end.samples[-1].substituted


def test_a_refused_token_gets_no_energy_after_a_restart_either() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.evses[1].cp = CpState.C
    made.evses[1].energy_mwh = 1_000_500
    found = Recovered(1, "old", 4, TOKEN, None, 900_000, sample(1_000_000), GapKind.PROCESS, 5_000, "csms", True)
    made.give(found)
    made.boot()
    made.run(10_000)
    assert made.transactions()[0].kind is TxKind.UPDATED
    assert not made.evses[1].power


def test_a_token_that_is_refused_while_its_transaction_is_recovered_stays_refused() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.evses[1].cp = CpState.C
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, sample(1_000_000), GapKind.PROCESS, 5_000))
    made.give(Deauthorized("old", stop=False))
    assert made.transactions() == [], "a row of now would hide for how long nobody was there"
    made.boot()
    made.run(2_000)
    assert [fact.trigger for fact in made.transactions()].count(Trigger.DEAUTHORIZED) == 1
    assert not made.evses[1].power


# ---------------------------------------------------------------------------------------- a stop is not forgotten


class NoEnds(CoreWorld):
    """Its disk takes everything but the ends of transactions: the process dies before they are there."""

    def _append(self, effect: Append) -> list[Event]:
        if any(isinstance(fact, TransactionFact) and fact.kind is TxKind.ENDED for fact in effect.facts):
            return []
        return super()._append(effect)


def charging(kind: type[CoreWorld] = NoEnds) -> CoreWorld:
    made = kind(StationSettings(evses=(AC,)))
    made.boot()
    made.charge()
    made.run(5_000)
    return made


def killed(made: CoreWorld) -> CoreWorld:
    """The process is killed and starts again within the resume window, and some car is there that wants power."""
    started, last = made.transactions()[0], made.transactions()[-1]
    begin = started.samples[-1]
    stop = next((fact for fact in made.facts if isinstance(fact, StopFact)), None)
    again = CoreWorld(made.settings)
    again.at_ms = made.at_ms + 3_000
    again.evses[1].energy_mwh, again.evses[1].cp = made.evses[1].energy_mwh, CpState.C
    energy_mwh, next_seq_no = begin.energy_import_mwh, last.seq_no + 1
    found = Recovered(
        1, started.tx_id, next_seq_no, TOKEN, None, energy_mwh, begin, GapKind.PROCESS, 3_000, "csms", stop=stop
    )
    again.give(found)
    again.boot()
    again.run(10_000)
    return again


def over_current(made: CoreWorld) -> None:
    made.evses[1].current_ma = 60_000
    made.run(9_000)


STOPS: dict[str, tuple[Callable[[CoreWorld], object], Trigger, StopReason]] = {
    "remote": (lambda made: made.command(RemoteStop("tx-1")), Trigger.REMOTE_STOP, StopReason.REMOTE),
    "card": (lambda made: made.give(StopAuthorized(1, TOKEN)), Trigger.STOP_AUTHORIZED, StopReason.LOCAL),
    "refused": (lambda made: made.give(Deauthorized("tx-1", True)), Trigger.DEAUTHORIZED, StopReason.DE_AUTHORIZED),
    "over-current": (over_current, Trigger.ABNORMAL_CONDITION, StopReason.OVERCURRENT_FAULT),
    "left": (lambda made: made.cp(1, CpState.A), Trigger.EV_COMMUNICATION_LOST, StopReason.EV_DISCONNECTED),
}


@pytest.mark.parametrize("way", STOPS)
def test_a_transaction_that_was_stopped_does_not_go_on_after_a_restart(way: str) -> None:
    stop, trigger, reason = STOPS[way]
    made = charging()
    stop(made)
    made.run(12_000)
    rows = [fact for fact in made.facts if isinstance(fact, StopFact)]
    assert rows == [StopFact("tx-1", 1, trigger, reason, TOKEN if way == "card" else None)]
    again = killed(made)
    [end] = again.transactions()
    assert (end.kind, end.trigger, end.stopped_reason) == (TxKind.ENDED, trigger, reason)
    assert end.token == rows[0].token and not end.samples[-1].substituted
    assert not any(effect == AllowPower(1, True) for effect in again.log)
    assert not any(isinstance(fact, StopFact) for fact in again.facts), "it is written once"


@pytest.mark.parametrize("command", [RemoteStop("tx-1"), Reset(hard=False, immediate=True)], ids=["stop", "reset"])
def test_who_stops_is_answered_when_a_restart_cannot_forget_it(command: RemoteStop | Reset) -> None:
    made = charging(CoreWorld)
    made.ledger_answers = False
    assert not made.answers(made.command(command, 1)) and not made.answers(made.command(command, 2))
    assert killed(made).evses[1].power, "nobody has been told that it would end"
    made.write()
    assert [(each.command_id, each.outcome) for each in made.answers(made.log)] == [
        (1, Outcome.ACCEPTED),
        (2, Outcome.ACCEPTED),
    ]
    assert not killed(made).evses[1].power


def test_power_goes_before_the_stop_is_written() -> None:
    made = charging()
    effects = made.pilot(1, BoardFaults(frozenset({BoardFault.RESIDUAL_CURRENT})))
    written: list[Fact] = [fact for effect in effects if isinstance(effect, Append) for fact in effect.facts]
    assert [type(fact) for fact in written[:1]] == [StopFact]
    first = next(n for n, effect in enumerate(effects) if isinstance(effect, Append))
    assert AllowPower(1, False) in effects[:first]


def test_a_stop_while_recovering_is_kept_too() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, sample(1_000_000), GapKind.PROCESS, 5_000))
    made.ledger_answers = False
    assert not made.answers(made.command(RemoteStop("old")))
    made.write()
    assert made.facts == [StopFact("old", 1, Trigger.REMOTE_STOP, StopReason.REMOTE)]
    assert [each.outcome for each in made.answers(made.log)] == [Outcome.ACCEPTED]


def test_a_stop_that_comes_with_the_end_is_in_its_row_and_in_no_other() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.give(Recovered(1, "old", 4, TOKEN, None, 900_000, sample(1_000_000), GapKind.PROCESS, 5_000))
    made.at_ms += made.settings.timing.recover_ms
    made.ledger_answers = False
    assert not made.answers(made.command(RemoteStop("old")))
    made.write()
    [end] = made.facts
    assert isinstance(end, TransactionFact) and end.stopped_reason is StopReason.REMOTE
    assert [each.outcome for each in made.answers(made.log)] == [Outcome.ACCEPTED]
