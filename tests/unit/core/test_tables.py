"""The tables themselves: complete where they claim to be, and every state can be left."""

from __future__ import annotations

import enum

import pytest

from agent.core.contactor import CONTACTOR, POWERED, ContactorEvent, ContactorState
from agent.core.faults import FROM_BOARD, SPECS
from agent.core.lock import LOCK
from agent.core.session import SESSION, SessionEvent, SessionState
from agent.core.status import FaultCode
from agent.core.table import NoTransition, Table
from hal.ports import BoardFault

TABLES: list[Table[enum.Enum, enum.Enum]] = [SESSION, CONTACTOR, LOCK]  # type: ignore[list-item]


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_every_state_has_a_row_and_a_way_out_and_in(table: Table[enum.Enum, enum.Enum]) -> None:
    states = set(type(next(iter(table.rows))))
    assert set(table.rows) == states
    for state, row in table.rows.items():
        assert any(target is not state for target in row.values()), f"{state} cannot be left"
    entered = {target for state, row in table.rows.items() for target in row.values() if target is not state}
    starts = {SessionState.RECOVERING}
    assert states - entered <= starts, "unreachable"


@pytest.mark.parametrize("state", list(ContactorState))
def test_withdraw_ends_in_a_state_without_power(state: ContactorState) -> None:
    assert CONTACTOR.next(state, ContactorEvent.WITHDRAW) not in POWERED


@pytest.mark.parametrize("state", list(SessionState))
@pytest.mark.parametrize("event", [SessionEvent.STOP, SessionEvent.UNPLUG, SessionEvent.PLUG])
def test_sessions_take_stop_and_cable_news_in_every_state(state: SessionState, event: SessionEvent) -> None:
    SESSION.next(state, event)


def test_only_a_durable_start_leads_to_active() -> None:
    rows = SESSION.rows.items()
    ways = [(s, e) for s, row in rows for e, t in row.items() if t is SessionState.ACTIVE and s is not t]
    assert ways == [(SessionState.BEGIN_WRITING, SessionEvent.DURABLE)]


def test_missing_entry_is_an_error() -> None:
    with pytest.raises(NoTransition, match="session: no entry for DURABLE in IDLE"):
        SESSION.next(SessionState.IDLE, SessionEvent.DURABLE)


def test_no_fault_is_unmapped() -> None:
    assert set(SPECS) == set(FaultCode)
    assert set(FROM_BOARD) == set(BoardFault)
