"""A vehicle that sleeps since our pause is woken over the wire: real driver, its board's simulator, real core."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.events import LimitSet
from agent.core.facts import ChargingState, TransactionFact
from agent.core.status import ConnectorState
from hal.ports import DUTY_F, DUTY_X1, CpState
from hal.sim.vehicle_port import VehiclePort
from tests.integration import test_mcu_noise_story as rig
from tests.integration.pilot_rig import until

pytestmark = pytest.mark.wire

SOON = replace(rig.TIMING, vehicle_ready_ms=200, wake_up_f_ms=200, wake_up_x1_ms=100)


class Sleeper:
    """Stops when PWM goes, and asks for power only after state F."""

    def __init__(self, port: VehiclePort) -> None:
        self.port = port
        self.seen: list[int] = []

    def __call__(self) -> None:
        duty = self.port.duty_centipercent
        self.seen.append(duty)
        awake = DUTY_F in self.seen
        wanted = CpState.C if awake and duty not in (DUTY_F, DUTY_X1) else CpState.B
        if self.port.cp is not wanted:
            self.port.set_cp(wanted)


def test_a_sleeping_vehicle_is_woken_and_its_driver_pays_no_idling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig, "TIMING", SOON)

    async def test(charger: rig.Charger) -> None:
        await charger.charge()
        sleeper = charger.sim.vehicle.on_change = Sleeper(charger.sim.vehicle)
        charger.give(LimitSet(1, 0))
        await until(lambda: charger.state is ConnectorState.SUSPENDED_EVSE, "our pause")
        await until(lambda: not charger.station.views()[0].contactor_closed, "the station sees it opened")
        charger.give(LimitSet(1, None))
        await until(lambda: charger.state is ConnectorState.CHARGING, "it charges again")
        assert [duty for duty in sleeper.seen if duty in (DUTY_F, DUTY_X1)][-2:] == [DUTY_F, DUTY_X1]
        states = [fact.charging_state for fact in charger.facts if isinstance(fact, TransactionFact)]
        assert ChargingState.SUSPENDED_EV not in states
        assert not charger.ended() and not charger.station.views()[0].faults

    rig.story(tmp_path, test)
