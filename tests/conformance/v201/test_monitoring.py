"""N02 to N06: monitors set, cleared and reported (TC_N_01 to 03, 05, 08: the station's side)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.facts import MonitorOrigin, VariableName
from agent.ipc.monitors import ClearMonitorStatus, Monitor, MonitorAnswer, MonitorType, MonitorWrite, SetMonitorStatus
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig

POWER = {"component": {"name": "EVSE", "evse": {"id": 1}}, "variable": {"name": "Power"}}
WIRED = Monitor(
    3, VariableName("RCD", "Tripped", evse=2), MonitorType.UPPER_THRESHOLD, "0", 0, origin=MonitorOrigin.HARD_WIRED
)


def item(kind: str = "UpperThreshold", value: float = 7_000.5, severity: int = 4, **more: Any) -> dict[str, Any]:
    return POWER | {"type": kind, "value": value, "severity": severity} | more


# ------------------------------------------------------------------------------------------- set, clear


def test_n04_fr_01_fr_02_one_result_per_item_in_order_with_its_names() -> None:
    """TC_N_08."""
    items = [
        item(),
        item("Delta", 0, 9, transaction=True, id=100_000),
        item(component={"name": "Nothing", "instance": "x"}),
        item(variable={"name": "Nothing", "instance": "y"}),
        item("LowerThreshold"),
        item("Periodic", 60),
        item("PeriodicClockAligned", 900),
    ]
    statuses = list(SetMonitorStatus)
    wanted = ["Accepted", "Accepted", *(status.value for status in statuses[1:])]

    async def main() -> None:
        rig = Rig()
        answers = iter([MonitorAnswer(statuses[0], 100_001), *(MonitorAnswer(each, reason="why") for each in statuses)])
        rig.station.monitor_answer = lambda _write: next(answers)
        async with rig.registered():
            answer = await rig.csms.ask("SetVariableMonitoring", {"setMonitoringData": items})
        results = answer["setMonitoringResult"]
        assert [result["status"] for result in results] == wanted[: len(items)]
        for asked, result in zip(items, results, strict=True):
            assert {name: asked[name] for name in ("component", "variable", "type", "severity")} == {
                name: result[name] for name in ("component", "variable", "type", "severity")
            }
        assert [result.get("id") for result in results[:2]] == [100_001, 100_000]
        assert results[2]["statusInfo"] == {"reasonCode": "Unspecified", "additionalInfo": "why"}
        assert rig.station.monitor_writes[:2] == [
            MonitorWrite(VariableName("EVSE", "Power", evse=1), MonitorType.UPPER_THRESHOLD, "7000.5", 4),
            MonitorWrite(VariableName("EVSE", "Power", evse=1), MonitorType.DELTA, "0", 9, True, 100_000),
        ]
        assert rig.station.monitor_writes[2].name == VariableName("Nothing", "Power", component_instance="x")
        assert rig.station.monitor_writes[3].name == VariableName("EVSE", "Nothing", "y", evse=1)

    run_virtual(main())


def test_n06_one_result_per_id_in_order() -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.clear_answers = {3: ClearMonitorStatus.REJECTED, 9: ClearMonitorStatus.NOT_FOUND}
        async with rig.registered():
            answer = await rig.csms.ask("ClearVariableMonitoring", {"id": [9, 100_000, 3, 9]})
        assert answer["clearMonitoringResult"] == [
            {"id": 9, "status": "NotFound"},
            {"id": 100_000, "status": "Accepted"},
            {"id": 3, "status": "Rejected"},
            {"id": 9, "status": "NotFound"},
        ]
        assert rig.station.monitors_cleared == [9, 100_000, 3, 9]

    run_virtual(main())


@pytest.mark.parametrize(
    ("action", "field", "each"),
    [("SetVariableMonitoring", "setMonitoringData", item()), ("ClearVariableMonitoring", "id", 100_000)],
)
def test_n04_fr_09_n06_fr_06_fr_07_limits_of_a_message(action: str, field: str, each: Any) -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            assert (await rig.csms.call(action, {field: [each] * 100}))[0] == 3
            frame = await rig.csms.call(action, {field: [each] * 101})
            assert frame[0] == 4 and frame[2] == "OccurrenceConstraintViolation"
            await rig.station.set(f"MonitoringCtrlr.BytesPerMessage[{action}]", "250")
            assert (await rig.csms.call(action, {field: [each]}))[0] == 3
            frame = await rig.csms.call(action, {field: [each] * 50})
            assert frame[0] == 4 and frame[2] == "FormatViolation"
        assert len(rig.station.monitor_writes) + len(rig.station.monitors_cleared) == 101

    run_virtual(main())


def test_n03_n05_base_and_level() -> None:
    """TC_N_05."""

    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            for base in ("All", "FactoryDefault", "HardWiredOnly"):
                assert await rig.csms.ask("SetMonitoringBase", {"monitoringBase": base}) == {"status": "Accepted"}
            assert await rig.csms.ask("SetMonitoringLevel", {"severity": 4}) == {"status": "Accepted"}
            assert await rig.csms.ask("SetMonitoringLevel", {"severity": 10}) == {"status": "Rejected"}
        assert rig.station.monitoring_told == ["All", "FactoryDefault", "HardWiredOnly", 4, 10]

    run_virtual(main())


# --------------------------------------------------------------------------------------------- report

MONITORS = [
    WIRED,
    replace(WIRED, id=4, severity=1),
    Monitor(100_000, VariableName("EVSE", "Power", evse=1), MonitorType.LOWER_THRESHOLD, "-1.5", 5, True),
    Monitor(100_001, VariableName("EVSE", "Power", evse=2), MonitorType.DELTA, "100", 6),
    Monitor(100_002, VariableName("ClockCtrlr", "DateTime"), MonitorType.PERIODIC, "3600", 8),
    Monitor(
        100_003, VariableName("Connector", "Problem", "a", 1, 1, "left"), MonitorType.PERIODIC_CLOCK_ALIGNED, "9", 9
    ),
]

REPORTS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [3, 4, 100_000, 100_001, 100_002, 100_003]),
    ({"monitoringCriteria": ["ThresholdMonitoring"]}, [3, 4, 100_000]),
    ({"monitoringCriteria": ["DeltaMonitoring", "PeriodicMonitoring"]}, [100_001, 100_002, 100_003]),
    ({"componentVariable": [{"component": {"name": "evse"}}]}, [100_000, 100_001]),
    ({"componentVariable": [{"component": {"name": "EVSE", "evse": {"id": 2}}}]}, [100_001]),
    ({"componentVariable": [{"component": {"name": "RCD"}, "variable": {"name": "tripped"}}]}, [3, 4]),
    ({"componentVariable": [{"component": {"name": "RCD"}, "variable": {"name": "Problem"}}]}, []),
    ({"componentVariable": [{"component": {"name": "Connector"}, "variable": {"name": "Problem"}}]}, [100_003]),
    ({"componentVariable": [{"component": {"name": "Connector", "instance": "right"}}]}, []),
    ({"componentVariable": [{"component": {"name": "Connector", "evse": {"id": 1, "connectorId": 2}}}]}, []),
    (
        {"componentVariable": [{"component": {"name": "RCD"}}, {"component": {"name": "ClockCtrlr"}}]},
        [3, 4, 100_002],
    ),
    (
        {
            "monitoringCriteria": ["DeltaMonitoring"],
            "componentVariable": [{"component": {"name": "EVSE"}}, {"component": {"name": "RCD"}}],
        },
        [100_001],
    ),
]


@pytest.mark.parametrize(("asked", "ids"), REPORTS)
def test_n02_what_is_reported(asked: dict[str, Any], ids: list[int]) -> None:
    """TC_N_01, 02, 03; N02.FR.05, 06, 08, 10 to 17."""

    async def main() -> None:
        rig = Rig()
        rig.station.monitors_set = MONITORS
        async with rig.registered():
            answer = await rig.csms.ask("GetMonitoringReport", {"requestId": 5} | asked)
            if not ids:
                assert answer == {"status": "EmptyResultSet"}
                return
            assert answer == {"status": "Accepted"}
            (part,) = await rig.came("NotifyMonitoringReport")
        assert (part.payload["requestId"], part.payload["seqNo"], "tbc" in part.payload) == (5, 0, False)
        assert [each["id"] for row in part.payload["monitor"] for each in row["variableMonitoring"]] == ids

    run_virtual(main())


def test_n02_a_monitor_is_reported_whole_and_grouped_by_its_variable() -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.monitors_set = MONITORS
        async with rig.registered():
            await rig.csms.ask("GetMonitoringReport", {"requestId": 5})
            (part,) = await rig.came("NotifyMonitoringReport")
        rows = part.payload["monitor"]
        assert len(rows) == 5
        assert rows[0] == {
            "component": {"name": "RCD", "evse": {"id": 2}},
            "variable": {"name": "Tripped"},
            "variableMonitoring": [
                {"id": 3, "transaction": False, "value": 0, "type": "UpperThreshold", "severity": 0},
                {"id": 4, "transaction": False, "value": 0, "type": "UpperThreshold", "severity": 1},
            ],
        }
        assert rows[1]["variableMonitoring"] == [
            {"id": 100_000, "transaction": True, "value": -1.5, "type": "LowerThreshold", "severity": 5}
        ]
        assert rows[4]["component"] == {
            "name": "Connector",
            "instance": "left",
            "evse": {"id": 1, "connectorId": 1},
        }
        assert rows[4]["variable"] == {"name": "Problem", "instance": "a"}

    run_virtual(main())


def test_n02_fr_04_fr_09_a_long_report_comes_in_parts_after_the_answer() -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.monitors_set = [
            Monitor(number, VariableName("A", f"V{number}"), MonitorType.DELTA, "1", 5) for number in range(45)
        ]
        async with rig.registered():
            assert await rig.csms.ask("GetMonitoringReport", {"requestId": 6}) == {"status": "Accepted"}
            parts = [call.payload for call in await rig.came("NotifyMonitoringReport", 3)]
        assert [(part["requestId"], part["seqNo"], part.get("tbc", False)) for part in parts] == [
            (6, 0, True),
            (6, 1, True),
            (6, 2, False),
        ]
        assert [each["variable"]["name"] for part in parts for each in part["monitor"]] == [f"V{n}" for n in range(45)]

    run_virtual(main())


def test_n02_fr_07_too_many_places() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            place = {"component": {"name": "EVSE"}}
            frame = await rig.csms.call("GetMonitoringReport", {"requestId": 1, "componentVariable": [place] * 101})
        assert frame[0] == 4 and frame[2] == "OccurrenceConstraintViolation"

    run_virtual(main())
