"""16-CMD-09 with tariffs of OCPP 2.1 in DataTransfer, and the California cost messages: money in OCPP 1.6."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.facts import Token
from agent.ipc.port import TariffAssignment, ToldCost
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import NumberingCsms, Rig
from tests.support.fake_station import T0_MS, session_facts
from tests.support.tariff_messages import COSTMSG, EVSED, TARIFF, answered, conforms, hostile_requests

PRICE = "TariffCostCtrlr.TariffFallbackMessage"


def online(scene: Callable[[Rig], Awaitable[None]], rig: Rig | None = None) -> Rig:
    """Play a scene with a registered station."""
    rig = rig or Rig()

    async def main() -> None:
        async with rig.online():
            await asyncio.sleep(1)
            await scene(rig)

    run_virtual(main())
    return rig


async def transfer(rig: Rig, vendor: str, message_id: str, **data: Any) -> dict[str, Any]:
    request = {"vendorId": vendor, "messageId": message_id, "data": json.dumps(data)}
    answer = await rig.csms.ask("DataTransfer", request)
    assert isinstance(answer.get("data", ""), str)  # the answer passed the schema of 1.6: data is a text
    return answer


@pytest.mark.parametrize(
    ("message_id", "data"),
    [
        ("SetDefaultTariff", {"evseId": 0, "tariff": TARIFF}),
        ("GetTariffs", {"evseId": 1}),
        ("ClearTariffs", {"tariffIds": ["T-1"]}),
        ("ClearTariffs", {}),
        ("ChangeTransactionTariff", {"transactionId": "100", "tariff": TARIFF}),
    ],
)
def test_16_cmd_09_tariff_messages_of_2_1(message_id: str, data: dict[str, Any]) -> None:
    conforms(f"{message_id}Request", data)

    async def scene(rig: Rig) -> None:
        rig.station.tariff_assignments = [TariffAssignment("T-1", 1, T0_MS)]
        await rig.station.append(*session_facts("tx-1")[:2])
        await rig.drained()
        answered(message_id, await transfer(rig, EVSED, message_id, **data))

    rig = online(scene)
    where = {"SetDefaultTariff": [0], "ChangeTransactionTariff": ["tx-1"]}  # 100 is what the CSMS calls tx-1
    assert [each for each, _ in rig.station.tariffs_told] == where.get(message_id, [])


@pytest.mark.parametrize(
    ("vendor", "message_id", "status"),
    [
        ("Example", "Anything", "UnknownMessageId"),
        ("com.example", "SetDefaultTariff", "UnknownVendorId"),
        (EVSED, "RunningCost", "UnknownMessageId"),
        (COSTMSG, "GetTariffs", "UnknownMessageId"),
        (EVSED, "SetDefaultTariff", "Rejected"),  # without any data
    ],
)
def test_16_cmd_09_what_is_not_known(vendor: str, message_id: str, status: str) -> None:
    async def scene(rig: Rig) -> None:
        answer = await rig.csms.ask("DataTransfer", {"vendorId": vendor, "messageId": message_id})
        assert answer["status"] == status

    online(scene)


def test_california_costs_of_a_transaction_while_it_runs_and_after() -> None:
    async def scene(rig: Rig) -> None:
        facts = session_facts("tx-1")
        await rig.station.append(*facts[:2])
        await rig.drained()
        running = {"transactionId": 100, "cost": 1.23, "meterValue": 1_234, "chargingPrice": {"kWhPrice": 0.3}}
        assert await transfer(rig, COSTMSG, "RunningCost", **running) == {"status": "Accepted"}
        await rig.station.append(*facts[2:])
        await rig.drained()
        # What it cost in the end is said after StopTransaction.
        final = {"transactionId": 100, "cost": 4.56, "priceText": "thank you"}
        assert await transfer(rig, COSTMSG, "FinalCost", **final) == {"status": "Accepted"}

    rig = online(scene)
    assert rig.station.costs == [
        ToldCost("tx-1", "1.23", meter_wh=1_234, kwh_price="0.3"),
        ToldCost("tx-1", "4.56", True, "thank you"),
    ]


@pytest.mark.parametrize("transaction", [-1, 0, 99, 101, 10**12, "", "x", "1" * 30, None])
def test_california_cost_of_an_unknown_transaction_is_refused(transaction: Any) -> None:
    csms = NumberingCsms()
    csms.on["StartTransaction"] = ["InternalError"] * 3  # given up: the CSMS has no number for it, -1 is not one

    async def scene(rig: Rig) -> None:
        await rig.station.append(*session_facts("tx-0"), *session_facts("tx-1")[:2])
        await rig.drained()
        assert (await transfer(rig, COSTMSG, "FinalCost", transactionId=transaction, cost=1))["status"] == "Rejected"

    assert online(scene, Rig(csms)).station.costs == []


def test_an_ended_transaction_cannot_be_stopped_by_its_number() -> None:
    """Its number is kept for what it cost, not for commands."""

    async def scene(rig: Rig) -> None:
        await rig.station.append(*session_facts("tx-1"))
        await rig.drained()
        assert await rig.csms.ask("RemoteStopTransaction", {"transactionId": 100}) == {"status": "Rejected"}

    assert online(scene).station.commands == []


def test_numbers_of_ended_transactions_are_kept_for_the_last_64() -> None:
    async def scene(rig: Rig) -> None:
        for number in range(65):
            await rig.station.append(*session_facts(f"tx-{number}"))
        await rig.drained()
        statuses = [
            (await transfer(rig, COSTMSG, "FinalCost", transactionId=number, cost=1))["status"] for number in (100, 101)
        ]
        assert statuses == ["Rejected", "Accepted"]

    online(scene)


def test_california_set_user_price() -> None:
    async def scene(rig: Rig) -> None:
        answer = await transfer(rig, COSTMSG, "SetUserPrice", idToken="04A2", priceText="0.30 EUR/kWh")
        assert answer == {"status": "Accepted"}

    assert online(scene).station.prices == [(Token("04A2"), "0.30 EUR/kWh")]


# ------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    ("value", "status", "kept"),
    [
        ('{"priceText":"0.30 EUR/kWh"}', "Accepted", "0.30 EUR/kWh"),
        ('{"priceText":""}', "Accepted", ""),
        # The station would not go by these, so it does not take them.
        ('{"priceText":"x","priceTextOffline":"y"}', "Rejected", "old"),
        ('{"priceText":"x","chargingPrice":{"kWhPrice":0.3}}', "Rejected", "old"),
        ("0.30 EUR/kWh", "Rejected", "old"),
        ('{"priceText":0.3}', "Rejected", "old"),
        ("{", "Rejected", "old"),
        ("{" * 400, "Rejected", "old"),
        (json.dumps({"priceText": "x" * 256}), "Rejected", "old"),
    ],
)
def test_california_default_price(value: str, status: str, kept: str) -> None:
    rig = Rig()
    rig.station.settings[PRICE] = "old"
    rig.start_gateway()

    async def scene(rig: Rig) -> None:
        answer = await rig.csms.ask("ChangeConfiguration", {"key": "DefaultPrice", "value": value})
        assert answer == {"status": status}
        [entry] = (await rig.csms.ask("GetConfiguration", {"key": ["DefaultPrice"]}))["configurationKey"]
        assert json.loads(entry["value"]) == {"priceText": kept}

    assert online(scene, rig).station.settings[PRICE] == kept


def test_california_keys_that_the_station_would_not_go_by_are_not_there() -> None:
    names = ["DefaultPriceText,en", "NumberOfDecimalsForCostValues", "TimeOffset", "CustomMultiLanguageMessages"]

    async def scene(rig: Rig) -> None:
        answer = await rig.csms.ask("GetConfiguration", {"key": [*names, "CustomDisplayCostAndPrice"]})
        assert answer == {
            "configurationKey": [{"key": "CustomDisplayCostAndPrice", "readonly": True, "value": "true"}],
            "unknownKey": names,
        }
        assert await rig.csms.ask("ChangeConfiguration", {"key": names[0], "value": "{}"}) == {"status": "NotSupported"}

    online(scene)


# ------------------------------------------------------------------------------------------ hostile


@given(st.lists(hostile_requests(data_is_text=True), min_size=1, max_size=8))
@settings(max_examples=60)
def test_hostile_money_is_always_answered_by_the_schema(requests: list[dict[str, Any]]) -> None:
    async def scene(rig: Rig) -> None:
        await rig.station.append(*session_facts("tx-1")[:2])
        await rig.drained()
        for request in requests:
            # ``ask`` takes a result only, and the link checks it: a failure of ours would be an InternalError.
            answer = await rig.csms.ask("DataTransfer", request)
            if answer["status"] == "Accepted" and "data" in answer:
                answered(request["messageId"], answer)

    online(scene)
