"""16-ST-00, 03 to 05, 07: which connector status the CSMS sees, and by which way."""

from __future__ import annotations

import asyncio
from itertools import pairwise, product

import pytest

from agent.core.status import ConnectorState, ConnectorStatus, FaultCode
from agent.health.catalogue import CATALOGUE
from agent.ocpp import schema
from agent.ocpp.v16.status import TRANSITIONS, status_notification, way
from agent.ocpp.version import Version
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import Rig
from tests.support.fake_csms import until
from tests.support.fake_station import T0_MS

S = ConnectorState
LETTERS = dict(
    zip(
        "ABCDEFGHI",
        [
            S.AVAILABLE,
            S.PREPARING,
            S.CHARGING,
            S.SUSPENDED_EV,
            S.SUSPENDED_EVSE,
            S.FINISHING,
            S.RESERVED,
            S.UNAVAILABLE,
            S.FAULTED,
        ],
        strict=True,
    )
)
# The table of the standard, row by row, as its cells are named.
TABLE = """
A2 A3 A4 A5 A7 A8 A9
B1 B3 B4 B5 B6 B9
C1 C4 C5 C6 C8 C9
D1 D3 D5 D6 D8 D9
E1 E3 E4 E6 E8 E9
F1 F2 F8 F9
G1 G2 G8 G9
H1 H2 H3 H4 H5 H9
I1 I2 I3 I4 I5 I6 I7 I8
"""
LEGAL = {(LETTERS[cell[0]], list(LETTERS.values())[int(cell[1]) - 1]) for cell in TABLE.split()}


def states(rig: Rig, connector: int) -> list[str]:
    return [
        call.payload["status"] for call in rig.csms.of("StatusNotification") if call.payload["connectorId"] == connector
    ]


def test_the_table_is_that_of_the_standard() -> None:
    assert {(start, end) for start, ends in TRANSITIONS.items() for end in ends} == LEGAL


@pytest.mark.parametrize(("told", "state"), list(product(S, S)))
def test_every_change_goes_a_legal_way(told: ConnectorState, state: ConnectorState) -> None:
    steps = way(told, state)
    assert steps[-1] is state
    assert S.FAULTED not in steps[:-1]
    if told is not state:
        assert all(step in LEGAL for step in pairwise((told, *steps)))
    assert len(steps) == (1 if (told, state) in LEGAL or told is state else 2)


@pytest.mark.parametrize(("fault", "state"), list(product(FaultCode, S)))
def test_16_st_04_07_every_fault_has_a_legal_notification(fault: FaultCode, state: ConnectorState) -> None:
    payload = status_notification(ConnectorStatus(1, state, (fault, FaultCode.LOCK), T0_MS), state, "Example")
    schema.check_request(Version.V16, "StatusNotification", payload)
    assert payload["errorCode"] != "NoError"
    assert payload["vendorErrorCode"] == fault.value
    assert payload["info"] == "lock"
    if payload["errorCode"] == "EVCommunicationError":
        assert state in (S.PREPARING, S.SUSPENDED_EV, S.SUSPENDED_EVSE, S.FINISHING)
    else:
        assert payload["errorCode"] in (CATALOGUE[fault.value].ocpp16, "OtherError")


def test_16_st_07_all_faults_at_once_still_fit() -> None:
    """A board that fails in every way must not be the one of which nothing is told."""
    payload = status_notification(ConnectorStatus(1, S.FAULTED, tuple(FaultCode), T0_MS), S.FAULTED, "V" * 300)
    schema.check_request(Version.V16, "StatusNotification", payload)
    assert len(payload["info"]) == 50 and payload["vendorErrorCode"] == next(iter(FaultCode)).value


def test_16_st_00_every_change_is_told_in_order() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(states(rig, 2)) == 1)
            for state in (S.PREPARING, S.CHARGING, S.SUSPENDED_EV, S.CHARGING, S.FINISHING, S.AVAILABLE):
                await rig.station.show(1, state)
            await asyncio.sleep(5)
        assert states(rig, 1) == [
            "Available",
            "Preparing",
            "Charging",
            "SuspendedEV",
            "Charging",
            "Finishing",
            "Available",
        ]

    run_virtual(main())


def test_16_st_03_minimum_duration_hides_short_states_but_never_the_last_nor_a_fault() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.set("OCPPCommCtrlr.MinimumStatusDuration", "10")
        async with rig.online():
            await until(lambda: len(states(rig, 2)) == 1)
            for state, lasts_s in ((S.PREPARING, 3), (S.CHARGING, 20), (S.SUSPENDED_EV, 2), (S.CHARGING, 30)):
                await rig.station.show(1, state)
                await asyncio.sleep(lasts_s)
            assert states(rig, 1) == ["Available", "Charging"]
            await rig.station.show(1, S.FAULTED, FaultCode.OVER_CURRENT)
            await rig.station.show(1, S.AVAILABLE)
            await rig.station.show(1, S.PREPARING)
            await asyncio.sleep(30)
        assert states(rig, 1) == ["Available", "Charging", "Faulted", "Preparing"]

    run_virtual(main())


def test_16_st_05_after_offline_the_present_status_only_by_a_legal_way() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(states(rig, 2)) == 1)
            await rig.station.show(1, S.CHARGING)
            await until(lambda: states(rig, 1) == ["Available", "Charging"])
            await asyncio.sleep(1)
        for state in (S.FINISHING, S.AVAILABLE, S.FAULTED, S.AVAILABLE, S.PREPARING):
            await rig.station.show(1, state)
        async with rig.online():
            await asyncio.sleep(5)
        assert states(rig, 1) == ["Available", "Charging", "Finishing", "Preparing"]
        assert states(rig, 2) == ["Available"]

    run_virtual(main())


def test_a_fault_that_changes_nothing_in_the_state_is_told_as_a_warning() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(states(rig, 2)) == 1)
            await rig.station.show(1, S.AVAILABLE, FaultCode.LOCK)
            await rig.station.show(1, S.AVAILABLE)
            await asyncio.sleep(5)
        codes = [call.payload["errorCode"] for call in rig.csms.of("StatusNotification")][3:]
        assert codes == ["ConnectorLockFailure", "NoError"]

    run_virtual(main())


def test_field_fault_6_no_time_stamp_of_1970() -> None:
    status = ConnectorStatus(1, S.AVAILABLE, (), 5_000)
    assert "timestamp" not in status_notification(status, S.AVAILABLE, "Example")


def test_what_got_no_answer_is_told_again_on_the_same_link_ever_more_seldom() -> None:
    """A CSMS that missed one word of a welded contactor, and one that never answers these."""

    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(states(rig, 2)) == 1)
            rig.csms.on["StatusNotification"] = [None]
            await rig.station.show(1, S.FAULTED, FaultCode.CONTACTOR_WELDED)
            await asyncio.sleep(86_400)
            assert states(rig, 1) == ["Available", "Faulted", "Faulted"]
            rig.csms.on["StatusNotification"] = [None] * 1_000
            await rig.station.show(1, S.AVAILABLE)
            await asyncio.sleep(86_400)
        assert 20 < len(states(rig, 1)) < 100

    run_virtual(main())


@pytest.mark.parametrize("cut", [False, True])
def test_after_a_change_without_answer_the_state_before_is_news(cut: bool) -> None:
    """Whether the CSMS shows Faulted or not is unknown: Available was told before, and must be again."""

    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(states(rig, 2)) == 1)
            rig.csms.on["StatusNotification"] = [None]
            await rig.station.show(1, S.FAULTED, FaultCode.CONTACTOR_WELDED)
            await asyncio.sleep(1 if cut else 40)
            if not cut:
                await rig.station.show(1, S.AVAILABLE)
                await asyncio.sleep(1)
        if cut:
            await rig.station.show(1, S.AVAILABLE)
            async with rig.online():
                await asyncio.sleep(1)
        assert states(rig, 1) == ["Available", "Faulted", "Available"]

    run_virtual(main())
