"""Transactions found open after a restart: resumed or closed, once, with all their energy."""

from __future__ import annotations

import pytest

from agent.core.events import GapKind, Recovered
from agent.core.facts import Sample, SampleContext, StopReason, TxKind
from agent.core.settings import EvseHardware, StationSettings
from agent.core.status import ConnectorState
from hal.ports import CpState
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
    """16-BOOT-09; field fault 2: energy since the last row is in the end reading."""
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
