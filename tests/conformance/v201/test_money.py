"""I01-I06, 20-TE-07, P01 and the California cost extension: money in OCPP 2.0.1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.facts import Token, TxKind
from agent.ipc.port import AuthorizeWanted, TariffAssignment, ToldCost
from agent.ocpp import frames
from agent.ocpp.v201.transactions import total_cost
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig
from tests.support.fake_station import T0_MS, TOKEN, session_facts
from tests.support.tariff_messages import COSTMSG, EVSED, TARIFF, answered, conforms, hostile_requests

MESSAGE = {"format": "UTF8", "content": "0.30 EUR/kWh"}
ACCEPTED = {"idTokenInfo": {"status": "Accepted"}}
EXTENSION = {
    "vendorId": COSTMSG,
    "timestamp": "2026-11-24T08:00:00Z",
    "meterValue": 1_234,
    "state": "Charging",
    "chargingPrice": {"kWhPrice": 0.123, "hourPrice": 2.0},
}


def online(scene: Callable[[Rig], Awaitable[None]], rig: Rig | None = None) -> Rig:
    """Play a scene with a registered station."""
    rig = rig or Rig()

    async def main() -> None:
        async with rig.registered():
            await scene(rig)

    run_virtual(main())
    return rig


def answering(*answers: dict[str, Any]) -> Rig:
    """A transaction whose events are answered so; the rest are answered with nothing."""

    async def scene(rig: Rig) -> None:
        rig.csms.on["TransactionEvent"] = list(answers)
        await rig.station.append(*session_facts("tx-1"))
        await rig.drained()

    return online(scene)


# --------------------------------------------------------------------------------- what the CSMS says


def test_i02_i03_costs_in_answers_are_running_until_the_end() -> None:
    rig = answering({"totalCost": 0.1}, {"totalCost": 1.23}, {}, {"totalCost": 4.567})
    assert rig.station.costs == [ToldCost("tx-1", "0.1"), ToldCost("tx-1", "1.23"), ToldCost("tx-1", "4.567", True)]


def test_i03_absent_does_not_mean_free() -> None:
    assert answering({}, {}, {}, ACCEPTED).station.costs == []
    assert answering({}, {}, {}, {"totalCost": 0}).station.costs == [ToldCost("tx-1", "0", True)]


def test_20_te_07_message_of_one_transaction_is_for_its_driver() -> None:
    # The second event of the transaction brings no token of its own.
    rig = answering({}, {"updatedPersonalMessage": MESSAGE})
    assert rig.events()[1].get("idToken") is None
    assert rig.station.prices == [(TOKEN, "0.30 EUR/kWh")]


def test_20_te_07_message_and_cost_together() -> None:
    rig = answering({"updatedPersonalMessage": MESSAGE, "totalCost": 1.5})
    assert rig.station.prices == [(TOKEN, "0.30 EUR/kWh")]
    assert rig.station.costs == [ToldCost("tx-1", "1.5", text="0.30 EUR/kWh")]


def test_20_te_07_message_of_a_transaction_without_token_is_not_everybodys() -> None:
    async def scene(rig: Rig) -> None:
        rig.csms.on["TransactionEvent"] = [{"updatedPersonalMessage": MESSAGE}]
        await rig.station.append(*(replace(fact, token=None) for fact in session_facts("tx-1")))
        await rig.drained()

    assert online(scene).station.prices == []


def test_california_details_in_an_answer() -> None:
    rig = answering({"totalCost": 3.31, "customData": EXTENSION})
    assert rig.station.costs == [
        ToldCost("tx-1", "3.31", meter_wh=1_234, wall_ms=T0_MS, kwh_price="0.123", hour_price="2.0")
    ]


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ({"status": "Accepted", "personalMessage": MESSAGE}, "0.30 EUR/kWh"),
        ({"status": "Blocked", "personalMessage": MESSAGE}, None),  # says why, not what it costs
        ({"status": "Accepted"}, None),
    ],
)
def test_i01_price_in_the_answer_to_authorize(info: dict[str, Any], text: str | None) -> None:
    async def scene(rig: Rig) -> None:
        rig.csms.on["Authorize"] = [{"idTokenInfo": info}]
        await rig.station.tell(AuthorizeWanted(1, TOKEN, 1))
        await rig.came("Authorize")
        await asyncio.sleep(1)

    rig = online(scene)
    assert rig.station.prices == ([] if text is None else [(TOKEN, text)])
    assert [verdict.status for _, verdict, _, _ in rig.station.verdicts] == [info["status"]]


def test_i01_price_in_the_answer_to_an_event() -> None:
    rig = answering({"idTokenInfo": {"status": "Accepted", "personalMessage": MESSAGE}})
    assert rig.station.prices == [(TOKEN, "0.30 EUR/kWh")]


@pytest.mark.parametrize(
    ("custom", "details"),
    [
        ({}, {}),
        (
            {"customData": EXTENSION},
            {"meter_wh": 1_234, "wall_ms": T0_MS, "kwh_price": "0.123", "hour_price": "2.0"},
        ),
        ({"customData": EXTENSION | {"vendorId": "com.example"}}, {}),
    ],
)
def test_i02_cost_updated(custom: dict[str, Any], details: dict[str, Any]) -> None:
    async def scene(rig: Rig) -> None:
        await rig.station.append(*session_facts("tx-1")[:2])
        assert await rig.csms.ask("CostUpdated", {"totalCost": 1.23, "transactionId": "tx-1"} | custom) == {}

    assert online(scene).station.costs == [ToldCost("tx-1", "1.23", **details)]


def test_i02_cost_updated_of_a_transaction_that_runs_on_this_evse() -> None:
    rig = Rig()
    rig.station.running = {1: "tx-7"}

    async def scene(rig: Rig) -> None:
        assert await rig.csms.ask("CostUpdated", {"totalCost": 1, "transactionId": "tx-7"}) == {}

    assert [told.tx_id for told in online(scene, rig).station.costs] == ["tx-7"]


@pytest.mark.parametrize(("tx_id", "cost"), [("tx-9", 1.0), ("", 1.0), ("tx-1", 1e300)])
def test_i02_cost_updated_of_nothing_is_answered_and_kept_nowhere(tx_id: str, cost: float) -> None:
    async def scene(rig: Rig) -> None:
        await rig.station.append(*session_facts("tx-1"))
        assert await rig.csms.ask("CostUpdated", {"totalCost": cost, "transactionId": tx_id}) == {}

    assert online(scene).station.costs == []


# ------------------------------------------------------------------------------ what the station says


def test_total_of_the_station_goes_out_with_ended() -> None:
    """I12: the station's own cost; 2.0.1 has no costDetails, so it is customData."""

    async def scene(rig: Rig) -> None:
        *before, last = session_facts("tx-1")
        await rig.station.append(*before, replace(last, total_cost="1.23", currency="EUR"))
        await rig.drained()

    events = online(scene).events()
    assert [event["eventType"] for event in events if "customData" in event] == [TxKind.ENDED]
    assert events[-1]["customData"] == {"vendorId": "evsed", "totalCost": 1.23, "currency": "EUR"}


def test_a_transaction_that_nobody_priced_says_nothing_of_cost() -> None:
    assert all("customData" not in event for event in answering().events())


@given(st.decimals(min_value=-(10**10), max_value=10**10, places=4), st.integers(0, 4))
def test_money_on_the_wire_is_the_text_of_the_ledger(amount: Decimal, places: int) -> None:
    """Up to four decimals, as currencies have: no digit is lost on the way through a float."""
    text = f"{round(amount, places):f}"
    frame = frames.call_text("1", "TransactionEvent", {"customData": total_cost(text, "EUR")})
    [_, _, _, payload] = json.loads(frame, parse_float=Decimal, parse_int=Decimal)
    assert payload["customData"]["totalCost"] == Decimal(text)


# -------------------------------------------------------------------------------------- DataTransfer


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize(
    ("message_id", "data"),
    [
        ("SetDefaultTariff", {"evseId": 0, "tariff": TARIFF}),
        ("GetTariffs", {"evseId": 1}),
        ("ClearTariffs", {"tariffIds": ["T-1"]}),
        ("ClearTariffs", {}),
        ("ChangeTransactionTariff", {"transactionId": "tx-1", "tariff": TARIFF}),
        ("ChangeTransactionTariff", {"transactionId": "tx-9", "tariff": TARIFF}),
    ],
)
def test_p01_tariff_messages_of_2_1(message_id: str, data: dict[str, Any], as_text: bool) -> None:
    conforms(f"{message_id}Request", data)

    async def scene(rig: Rig) -> None:
        rig.station.tariff_assignments = [TariffAssignment("T-1", 1, T0_MS)]
        await rig.station.append(*session_facts("tx-1")[:2])
        sent = json.dumps(data) if as_text else data
        request = {"vendorId": EVSED, "messageId": message_id, "data": sent}
        answer = await rig.csms.ask("DataTransfer", request)
        assert isinstance(answer["data"], type(sent))
        inner = answered(message_id, answer)
        assert (inner.get("status") == "TxNotFound") == (data.get("transactionId") == "tx-9")

    online(scene)


@pytest.mark.parametrize(
    ("vendor", "message_id", "status"),
    [
        ("Example", "Anything", "UnknownMessageId"),
        ("com.example", "SetDefaultTariff", "UnknownVendorId"),
        (EVSED, "RunningCost", "UnknownMessageId"),
        (EVSED, "SetDefaultTariff", "Rejected"),  # without any data
    ],
)
def test_p01_what_is_not_known(vendor: str, message_id: str, status: str) -> None:
    async def scene(rig: Rig) -> None:
        answer = await rig.csms.ask("DataTransfer", {"vendorId": vendor, "messageId": message_id})
        assert answer["status"] == status

    online(scene)


def test_p01_california_messages_are_taken_as_in_1_6() -> None:
    async def scene(rig: Rig) -> None:
        price = {"vendorId": COSTMSG, "messageId": "SetUserPrice", "data": {"idToken": "04A2", "priceText": "free"}}
        assert await rig.csms.ask("DataTransfer", price) == {"status": "Accepted"}

    assert online(scene).station.prices == [(Token("04A2"), "free")]


# ------------------------------------------------------------------------------------------ hostile

_CUSTOM = hostile_requests(data_is_text=False).map(lambda request: request["data"])
_COSTS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63) + 1, 2**63 - 1)


@given(st.lists(hostile_requests(data_is_text=False), max_size=4), st.lists(st.tuples(_COSTS, _CUSTOM), max_size=4))
@settings(max_examples=60)
def test_hostile_money_is_always_answered_by_the_schema(
    requests: list[dict[str, Any]], costs: list[tuple[float, Any]]
) -> None:
    def with_cost(cost: float, custom: Any) -> dict[str, Any]:
        extra = {"customData": custom | {"vendorId": COSTMSG}} if isinstance(custom, dict) else {}
        return {"totalCost": cost} | extra

    async def scene(rig: Rig) -> None:
        rig.csms.on["TransactionEvent"] = [with_cost(*each) for each in costs]
        await rig.station.append(*session_facts("tx-1"))
        await rig.drained()
        for request in requests:
            # ``ask`` takes a result only, and the link checks it: a failure of ours would be an InternalError.
            answer = await rig.csms.ask("DataTransfer", request)
            if answer["status"] == "Accepted" and "data" in answer:
                answered(request["messageId"], answer)
        for each in costs:
            assert await rig.csms.ask("CostUpdated", {"transactionId": "tx-1"} | with_cost(*each)) == {}

    rig = online(scene)
    assert all(Decimal(told.cost).is_finite() and len(told.cost) < 50 for told in rig.station.costs)
