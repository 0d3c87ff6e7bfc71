"""Noise on the pilot's line while drivers come and go: real driver, its board's simulator, real core.

A damaged frame may have said anything. Nobody charges on another's transaction by it, and nobody loses his own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent.core.effects import AllowPower, Append, Effect, ReadMeter, SetDuty
from agent.core.events import Authorized, Durable, Event, FromMeter, FromPilot, Tick
from agent.core.facts import Fact, Token, TransactionFact, TxKind
from agent.core.settings import EvseHardware, StationSettings, Timing
from agent.core.station import Station
from agent.core.status import ConnectorState
from hal.pilots.mcu import McuConfig, McuPilot
from hal.ports import CpState, MeterReading
from hal.sim.faults import Fault
from hal.sim.mcu_board import SimMcu
from tests.integration.pilot_rig import until

pytestmark = pytest.mark.wire

CP_STATE, RELAIS_STATE, KEEP_ALIVE = 102, 103, 3
TIMING = Timing(pilot_debounce_ms=10, fault_clear_ms=20, contactor_open_ms=300)


class Charger:
    """One EVSE with an honest meter and a ledger that is always there."""

    def __init__(self, sim: SimMcu, pilot: McuPilot) -> None:
        self.sim = sim
        self._pilot = pilot
        ids = iter(f"tx-{number}" for number in range(1, 100))
        self.station = Station(StationSettings((EvseHardware(1, 32_000),), timing=TIMING), ids.__next__)
        self.facts: list[Fact] = []
        self._energy_mwh = 1_000_000
        self._loop = asyncio.get_running_loop()

    def give(self, event: Event) -> None:
        for effect in self.station.step(event, self._now_ms()):
            self._carry_out(effect)

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1_000)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case SetDuty():
                self._pilot.set_duty(effect.duty_centipercent)
            case AllowPower():
                self._pilot.allow_power(effect.allowed)
            case ReadMeter():
                self._loop.call_soon(self._read)
            case Append():
                self.facts += effect.facts
                self._loop.call_soon(self.give, Durable(effect.ticket))
            case _:
                pass

    def _read(self) -> None:
        self._energy_mwh += 100 if self.sim.vehicle.relay_closed else 0
        nothing = (None, None, None)
        self.give(FromMeter(1, MeterReading(self._now_ms(), "M1", self._energy_mwh, None, 0, nothing, nothing)))

    async def clock(self) -> None:
        while True:
            self._read()
            self.give(Tick())
            await asyncio.sleep(0.01)

    @property
    def state(self) -> ConnectorState:
        return self.station.views()[0].state

    @property
    def tx_id(self) -> str | None:
        return self.station.views()[0].tx_id

    def ended(self) -> list[str]:
        return [fact.tx_id for fact in self.facts if isinstance(fact, TransactionFact) and fact.kind is TxKind.ENDED]

    async def charge(self) -> None:
        """Driver A plugs in, shows a token and charges."""
        self.sim.vehicle.set_cp(CpState.B)
        await until(lambda: self.state is ConnectorState.PREPARING, "plugged")
        self.give(Authorized(1, Token("A"), None))
        self.sim.vehicle.set_cp(CpState.C)
        await until(lambda: self.state is ConnectorState.CHARGING, "A charges")

    def damage(self, field: int) -> None:
        self.sim.faults.set(Fault.CORRUPT, count=1, param=field)

    async def damage_has_come(self) -> None:
        await until(lambda: not self.sim.faults.is_on(Fault.CORRUPT), "the damaged frame")
        await until(lambda: self.state is ConnectorState.FAULTED, "it is noticed")


def story(tmp_path: Path, test: Callable[[Charger], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        sim = SimMcu(tmp_path / "mcu", supervision_ms=2_000, keep_alive_ms=50, boot_ms=5)
        sim.start(asyncio.get_running_loop())
        pilot = McuPilot(McuConfig(sim.path, keep_alive_ms=50))
        charger = Charger(sim, pilot)
        pilot.start(lambda event: charger.give(FromPilot(1, event)))
        clock = asyncio.create_task(charger.clock())
        try:
            await until(lambda: charger.state is ConnectorState.AVAILABLE, "start")
            await test(charger)
        finally:
            clock.cancel()
            await pilot.close()
            sim.close()

    asyncio.run(main())


def test_the_next_vehicle_does_not_charge_on_the_transaction_of_the_one_before(tmp_path: Path) -> None:
    async def test(charger: Charger) -> None:
        await charger.charge()
        charger.sim.vehicle.set_cp(CpState.B)
        await until(lambda: charger.state is ConnectorState.SUSPENDED_EV, "A's vehicle is full")
        charger.damage(CP_STATE)
        charger.sim.vehicle.set_cp(CpState.A)
        await until(lambda: charger.ended() == ["tx-1"], "A's transaction ends")
        charger.sim.vehicle.set_cp(CpState.B)
        charger.sim.vehicle.set_cp(CpState.C)
        await until(lambda: charger.state is ConnectorState.PREPARING, "B plugs in")
        assert charger.tx_id is None
        assert not charger.sim.vehicle.relay_closed

    story(tmp_path, test)


@pytest.mark.parametrize("field", [KEEP_ALIVE, RELAIS_STATE])
def test_a_spike_is_a_pause_and_nothing_more(tmp_path: Path, field: int) -> None:
    async def test(charger: Charger) -> None:
        await charger.charge()
        charger.damage(field)
        charger.sim.vehicle.set_cp(CpState.B)  # pauses; with RELAIS_STATE it is the opening that nobody hears
        await charger.damage_has_come()
        charger.sim.vehicle.set_cp(CpState.C)
        await until(lambda: charger.state is ConnectorState.CHARGING, "A charges again")
        assert charger.tx_id == "tx-1"
        assert charger.ended() == []
        assert not charger.station.views()[0].faults

    story(tmp_path, test)
