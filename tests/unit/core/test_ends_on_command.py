"""What ends a transaction from outside, and what does not: UnlockConnector, Reset, a plug pulled at the vehicle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.commands import Reset, Unlock
from agent.core.effects import Restart
from agent.core.facts import StopReason, TxKind
from agent.core.settings import Behaviour, EvseHardware, StationSettings
from agent.core.status import ConnectorState, Outcome
from hal.ports import CpState
from tests.support.core_world import CoreWorld, cable

S = ConnectorState
FIXED = EvseHardware(evse=1, hard_limit_ma=32_000)
SOCKET = EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True, socket=True)


def charging(*hardware: EvseHardware, behaviour: Behaviour | None = None) -> CoreWorld:
    made = CoreWorld(StationSettings(evses=hardware, behaviour=behaviour or Behaviour()))
    made.boot()
    for each in hardware:
        if each.socket:
            made.pilot(each.evse, cable(32_000))
        made.charge(each.evse)
        assert made.state(each.evse) is S.CHARGING
    return made


@pytest.mark.parametrize(("evse", "outcome"), [(1, Outcome.NOT_SUPPORTED), (9, Outcome.UNKNOWN_EVSE)])
def test_16_tx_18_an_unlock_that_cannot_be_ends_no_transaction(evse: int, outcome: Outcome) -> None:
    """A cable that is fixed, or no such connector: the driver goes on charging."""
    made = charging(FIXED)
    assert [each.outcome for each in made.answers(made.command(Unlock(evse, end_transaction=True)))] == [outcome]
    made.run(10_000)
    assert made.state() is S.CHARGING and TxKind.ENDED not in [fact.kind for fact in made.transactions()]


def test_16_tx_18_an_unlock_ends_the_transaction_of_its_connector_and_no_other() -> None:
    made = charging(SOCKET, replace(SOCKET, evse=2))
    made.command(Unlock(1, end_transaction=True))
    made.run(10_000)
    [end] = [fact for fact in made.transactions() if fact.kind is TxKind.ENDED]
    assert (end.evse, end.stopped_reason) == (1, StopReason.UNLOCK)
    assert not made.evses[1].locked and made.evses[2].locked and made.state(2) is S.CHARGING


@pytest.mark.parametrize(("hard", "reason"), [(False, StopReason.REBOOT), (True, StopReason.IMMEDIATE_RESET)])
def test_16_cmd_07_a_reset_ends_every_transaction_and_restarts_when_the_last_end_is_written(
    hard: bool, reason: StopReason
) -> None:
    made = charging(FIXED, replace(FIXED, evse=2))
    made.ledger_answers = False
    effects = made.command(Reset(immediate=True, hard=hard)) + made.run(2_000)
    assert not any(isinstance(effect, Restart) for effect in effects)
    while made.unwritten:
        assert not any(isinstance(effect, Restart) for effect in made.log)
        made.write()
        made.run(1_000)
    ends = [fact for fact in made.transactions() if fact.kind is TxKind.ENDED]
    assert [(end.evse, end.stopped_reason) for end in ends] == [(1, reason), (2, reason)]
    assert len([effect for effect in made.log if isinstance(effect, Restart)]) == 1


def test_16_tx_16_a_plug_pulled_at_the_vehicle_suspends_and_the_socket_keeps_the_cable() -> None:
    """StopTransactionOnEVSideDisconnect is false: the cable stays, and the same transaction goes on at the replug."""
    made = charging(SOCKET, behaviour=Behaviour(stop_on_unplug=False))
    made.cp(1, CpState.A)
    made.run(30_000)
    assert made.state() is S.SUSPENDED_EV and made.evses[1].locked and not made.evses[1].power
    made.cp(1, CpState.C)
    made.run(10_000)
    assert made.state() is S.CHARGING and {fact.tx_id for fact in made.transactions()} == {"tx-1"}
    assert S.FINISHING not in made.statuses[1]


def test_16_tx_16_otherwise_it_ends_the_transaction_and_finishing_is_seen() -> None:
    made = charging(SOCKET)
    made.cp(1, CpState.A)
    made.run(10_000)
    assert made.transactions()[-1].stopped_reason is StopReason.EV_DISCONNECTED
    assert made.statuses[1][-2:] == [S.FINISHING, S.AVAILABLE] and not made.evses[1].locked
