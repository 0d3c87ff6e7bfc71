"""B05 to B07: SetVariables, GetVariables, base reports."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config.variable import Key
from agent.ipc.port import SettingWrite
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig


def _item(component: str, variable: str, **more: Any) -> dict[str, Any]:
    return {"component": {"name": component}, "variable": {"name": variable}} | more


INTERVAL = _item("SampledDataCtrlr", "TxUpdatedInterval")


def test_b05_one_result_per_item_in_order() -> None:
    items = [
        INTERVAL | {"attributeValue": "30"},
        INTERVAL | {"attributeValue": "often", "attributeType": "Actual"},
        INTERVAL | {"attributeValue": "30", "attributeType": "Target"},
        _item("SampledDataCtrlr", "Nonsense", attributeValue="1"),
        _item("NoCtrlr", "TxUpdatedInterval", attributeValue="1"),
        _item("OCPPCommCtrlr", "NetworkConfigurationPriority", attributeValue="1"),
    ]

    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            answer = await rig.csms.ask("SetVariables", {"setVariableData": items})
        results = answer["setVariableResult"]
        assert [result["attributeStatus"] for result in results] == [
            "Accepted",
            "Rejected",
            "NotSupportedAttributeType",
            "UnknownVariable",
            "UnknownComponent",
            "RebootRequired",
        ]
        for item, result in zip(items, results, strict=True):
            assert {k: v for k, v in item.items() if k != "attributeValue"} == {
                k: v for k, v in result.items() if k != "attributeStatus"
            }
        assert rig.view.integer("SampledDataCtrlr.TxUpdatedInterval", 0) == 30

    run_virtual(main())


@pytest.mark.parametrize("value", ["1", "2", "3"])
def test_tc_a_22_the_security_profile_cannot_be_lowered_by_a_message(value: str) -> None:
    """Nor raised: it is what the configuration file says."""

    async def main() -> None:
        rig = Rig()
        profile = _item("SecurityCtrlr", "SecurityProfile")
        rig.model.put(Key.parse("SecurityCtrlr.SecurityProfile"), "2")
        async with rig.registered():
            answer = await rig.csms.ask("SetVariables", {"setVariableData": [profile | {"attributeValue": value}]})
        assert answer["setVariableResult"] == [profile | {"attributeStatus": "Rejected"}]
        assert rig.model.text(Key.parse("SecurityCtrlr.SecurityProfile")) == "2"

    run_virtual(main())


def test_b05_names_reach_the_store_whole() -> None:
    item = {
        "component": {"name": "Connector", "instance": "left", "evse": {"id": 1, "connectorId": 2}},
        "variable": {"name": "ChargeProtocol", "instance": "A"},
        "attributeValue": "x",
        "attributeType": "MinSet",
    }

    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            await rig.csms.ask("SetVariables", {"setVariableData": [item]})
        assert rig.station.writes[-1] == SettingWrite("Connector", "ChargeProtocol", "x", "A", "left", 1, 2, "MinSet")

    run_virtual(main())


def test_b06_values_and_unknown_ones() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            answer = await rig.csms.ask(
                "GetVariables",
                {"getVariableData": [INTERVAL, _item("OCPPCommCtrlr", "Nonsense", attributeType="Actual")]},
            )
        assert answer["getVariableResult"] == [
            INTERVAL | {"attributeStatus": "Accepted", "attributeValue": "60"},
            _item("OCPPCommCtrlr", "Nonsense", attributeType="Actual", attributeStatus="UnknownVariable"),
        ]

    run_virtual(main())


@pytest.mark.parametrize(
    ("action", "field", "extra"),
    [("GetVariables", "getVariableData", {}), ("SetVariables", "setVariableData", {"attributeValue": "30"})],
)
def test_b05_b06_limits_of_a_message(action: str, field: str, extra: dict[str, str]) -> None:
    async def main() -> None:
        rig = Rig()
        item = INTERVAL | extra
        async with rig.registered():
            assert (await rig.csms.call(action, {field: [item] * 100}))[0] == 3
            frame = await rig.csms.call(action, {field: [item] * 101})
            assert frame[0] == 4 and frame[2] == "OccurrenceConstraintViolation"
            await rig.station.set(f"DeviceDataCtrlr.BytesPerMessage[{action}]", "300")
            assert (await rig.csms.call(action, {field: [item]}))[0] == 3
            frame = await rig.csms.call(action, {field: [item] * 4})
            assert frame[0] == 4 and frame[2] == "FormatViolation"
            assert len(rig.station.writes) == (101 if extra else 0)

    run_virtual(main())


def _rows(count: int) -> list[dict[str, Any]]:
    return [_item("A", f"V{number}", variableAttribute=[{"value": "1"}]) for number in range(count)]


@pytest.mark.parametrize(("count", "parts"), [(1, [1]), (20, [20]), (21, [20, 1]), (45, [20, 20, 5])])
def test_b07_a_report_comes_in_parts_after_the_answer(count: int, parts: list[int]) -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.report_rows["FullInventory"] = _rows(count)
        async with rig.registered():
            answer = await rig.csms.ask("GetBaseReport", {"requestId": 8, "reportBase": "FullInventory"})
            assert answer == {"status": "Accepted"}
            assert rig.csms.of("NotifyReport") == []
            calls = await rig.came("NotifyReport", len(parts))
        payloads = [call.payload for call in calls]
        assert [len(payload["reportData"]) for payload in payloads] == parts
        assert [payload["seqNo"] for payload in payloads] == list(range(len(parts)))
        assert [payload.get("tbc", False) for payload in payloads] == [True] * (len(parts) - 1) + [False]
        assert {(payload["requestId"], payload["generatedAt"]) for payload in payloads} == {
            (8, "2026-11-24T08:00:00.000Z")
        }
        assert [row for payload in payloads for row in payload["reportData"]] == _rows(count)

    run_virtual(main())


def test_b07_nothing_to_report_or_no_such_report() -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.report_rows["SummaryInventory"] = []
        async with rig.registered():
            ask = rig.csms.ask
            summary = await ask("GetBaseReport", {"requestId": 8, "reportBase": "SummaryInventory"})
            assert summary == {"status": "EmptyResultSet"}
            full = await ask("GetBaseReport", {"requestId": 8, "reportBase": "FullInventory"})
            assert full == {"status": "NotSupported"}

    run_virtual(main())


def test_b07_a_refused_part_ends_the_report() -> None:
    async def main() -> None:
        rig = Rig()
        rig.station.report_rows["FullInventory"] = _rows(45)
        rig.csms.on["NotifyReport"] = [{}, "InternalError"]
        async with rig.registered():
            await rig.csms.ask("GetBaseReport", {"requestId": 8, "reportBase": "FullInventory"})
            await rig.came("Heartbeat")
        assert len(rig.csms.of("NotifyReport")) == 2

    run_virtual(main())
