"""A station that takes nobody says so, to the CSMS and to whoever asks, and is not out of service for that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.commands import ChangeAvailability, Reset
from agent.core.effects import SaveAvailability
from agent.core.events import LedgerRoom
from agent.core.settings import EvseHardware, StationSettings
from agent.core.status import ConnectorState as S
from agent.core.status import Outcome
from tests.support.core_world import CoreWorld

AC = EvseHardware(evse=1, hard_limit_ma=32_000, has_lock=True)


@pytest.mark.parametrize("command", [Reset(immediate=False), ChangeAvailability(operative=False)])
def test_a_station_that_waits_for_one_evse_says_that_the_others_take_nobody(
    command: Reset | ChangeAvailability,
) -> None:
    """B12, G03. It is not out of service for that: the next run takes whoever comes."""
    made = CoreWorld(StationSettings(evses=(AC, replace(AC, evse=2))))
    made.boot()
    made.charge()
    effects = made.command(command) + made.run(30_000)
    assert made.answers(effects)[0].outcome is Outcome.SCHEDULED
    assert not made.station.accepts_start(2)
    assert [made.statuses[evse][-1] for evse in (0, 1, 2)] == [S.UNAVAILABLE, S.CHARGING, S.UNAVAILABLE]
    saved = [e.evse for e in effects if isinstance(e, SaveAvailability)]
    assert saved == ([] if isinstance(command, Reset) else [None])


def test_a_station_without_room_for_another_transaction_says_so() -> None:
    made = CoreWorld(StationSettings(evses=(AC,)))
    made.boot()
    made.give(LedgerRoom(False))
    assert not made.station.accepts_start(1)
    made.give(LedgerRoom(True))
    assert made.station.accepts_start(1)
    assert made.statuses[1] == [S.AVAILABLE, S.UNAVAILABLE, S.AVAILABLE]
    assert not any(isinstance(e, SaveAvailability) for e in made.log)
