"""G01: five statuses, told when they change and last."""

from __future__ import annotations

import asyncio

import pytest

from agent.core.status import ConnectorState, FaultCode
from agent.ocpp.timestamps import to_rfc3339
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig
from tests.support.fake_station import T0_MS

STATUSES = {
    ConnectorState.AVAILABLE: "Available",
    ConnectorState.PREPARING: "Occupied",
    ConnectorState.CHARGING: "Occupied",
    ConnectorState.SUSPENDED_EV: "Occupied",
    ConnectorState.SUSPENDED_EVSE: "Occupied",
    ConnectorState.FINISHING: "Occupied",
    ConnectorState.RESERVED: "Reserved",
    ConnectorState.UNAVAILABLE: "Unavailable",
    ConnectorState.FAULTED: "Faulted",
}


@pytest.mark.parametrize("state", list(ConnectorState))
def test_g01_every_state_has_its_status(state: ConnectorState) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            rig.csms.received.clear()
            await rig.station.show(1, state, wall_ms=1_795_507_260_000)
            await asyncio.sleep(1)
        told = [call.payload for call in rig.csms.of("StatusNotification")]
        expected = {
            "timestamp": "2026-11-24T08:01:00.000Z",
            "connectorStatus": STATUSES[state],
            "evseId": 1,
            "connectorId": 1,
        }
        assert told == ([] if state is ConnectorState.AVAILABLE else [expected])

    run_virtual(main())


def test_b01_a_status_from_before_the_clock_was_set_has_the_time_now() -> None:
    """Else a CSMS that goes by the time stamps shows the status from before the power cut for ever."""

    async def main() -> None:
        rig = Rig()
        for evse, wall_ms in ((1, 5_000), (2, T0_MS - 60_000)):
            await rig.station.show(evse, ConnectorState.AVAILABLE, wall_ms=wall_ms)
        async with rig.online():
            await asyncio.sleep(1)
        told = {call.payload["evseId"]: call.payload["timestamp"] for call in rig.csms.of("StatusNotification")}
        assert told == {1: to_rfc3339(T0_MS), 2: to_rfc3339(T0_MS - 60_000)}

    run_virtual(main())


def test_g01_what_is_occupied_stays_occupied_and_the_station_has_no_status() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            rig.csms.received.clear()
            for state in (ConnectorState.PREPARING, ConnectorState.CHARGING, ConnectorState.FINISHING):
                await rig.station.show(1, state)
                await asyncio.sleep(1)
            await rig.station.show(0, ConnectorState.UNAVAILABLE)
            await asyncio.sleep(1)
        assert [call.payload["connectorStatus"] for call in rig.csms.received] == ["Occupied"]

    run_virtual(main())


def test_minimum_status_duration_hides_short_statuses_but_no_fault() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            await rig.station.set("OCPPCommCtrlr.MinimumStatusDuration", "5")
            rig.csms.received.clear()
            await rig.station.show(1, ConnectorState.PREPARING)
            await asyncio.sleep(2)
            await rig.station.show(1, ConnectorState.AVAILABLE)
            await asyncio.sleep(10)
            assert rig.csms.received == []
            await rig.station.show(1, ConnectorState.PREPARING)
            await asyncio.sleep(6)
            await rig.station.show(1, ConnectorState.FAULTED, FaultCode.METER_LOST)
            await asyncio.sleep(1)
        assert [call.payload["connectorStatus"] for call in rig.csms.received] == ["Occupied", "Faulted"]

    run_virtual(main())


def test_a_status_without_answer_is_told_again_on_the_next_connection() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["StatusNotification"] = [None]
        async with rig.online(message_timeout_s=5):
            await asyncio.sleep(10)
        rig.csms.received.clear()
        async with rig.online():
            await asyncio.sleep(1)
        assert [call.payload["evseId"] for call in rig.csms.of("StatusNotification")] == [1]

    run_virtual(main())


def test_what_got_no_answer_is_told_again_on_the_same_link_ever_more_seldom() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await asyncio.sleep(5)
            rig.csms.received.clear()
            rig.csms.on["StatusNotification"] = [None]
            await rig.station.show(1, ConnectorState.FAULTED)
            await asyncio.sleep(86_400)
            told = [call.payload["connectorStatus"] for call in rig.csms.of("StatusNotification")]
            assert told == ["Faulted", "Faulted"]
            rig.csms.on["StatusNotification"] = [None] * 1_000
            await rig.station.show(1, ConnectorState.AVAILABLE)
            await asyncio.sleep(86_400)
        assert 20 < len(rig.csms.of("StatusNotification")) < 100

    run_virtual(main())


def test_after_a_change_without_answer_the_state_before_is_news() -> None:
    """Whether the CSMS shows Faulted or not is unknown: Available was told before, and must be again."""

    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await asyncio.sleep(5)
            rig.csms.received.clear()
            rig.csms.on["StatusNotification"] = [None]
            await rig.station.show(1, ConnectorState.FAULTED)
            await asyncio.sleep(40)
            await rig.station.show(1, ConnectorState.AVAILABLE)
            await asyncio.sleep(1)
        told = [call.payload["connectorStatus"] for call in rig.csms.of("StatusNotification")]
        assert told == ["Faulted", "Available"]

    run_virtual(main())
