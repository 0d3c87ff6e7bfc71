"""Tariff and cost messages in neutral form: OCPP 2.1 shapes, the California extension, and what is neither."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.facts import Token
from agent.ipc.port import TariffAssignment, ToldCost
from agent.ocpp import tariff_messages
from agent.ocpp.tariff_messages import data_transfer, plain_number, told_cost
from tests.support.fake_station import T0_MS, FakeStation
from tests.support.tariff_messages import COSTMSG, EVSED, LIMIT_SCHEMA, TARIFF, answered, conforms, hostile_requests

TX = "tx-1"


async def _tx_id_of(csms_id: str) -> str | None:
    return TX if csms_id in (TX, "100") else None


def transfer(station: FakeStation, vendor: str, message_id: str, data: Any) -> dict[str, Any]:
    request = {"vendorId": vendor, "messageId": message_id, "data": data}
    answer = asyncio.run(data_transfer(station, _tx_id_of, request))
    assert answer is not None
    return answer


def ask(station: FakeStation, message_id: str, data: dict[str, Any], *, as_text: bool = True) -> dict[str, Any]:
    """One of the 2.1 shapes: the request is checked by its schema, and so is the answer."""
    if message_id == "TransactionLimit":
        conforms(LIMIT_SCHEMA[0], data["transactionLimit"], LIMIT_SCHEMA[1])
    else:
        conforms(f"{message_id}Request", data)
    return answered(message_id, transfer(station, EVSED, message_id, json.dumps(data) if as_text else data))


# ----------------------------------------------------------------------------------- OCPP 2.1 shapes


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("status", ["Accepted", "TooManyElements", "ConditionNotSupported", "DuplicateTariffId"])
def test_i07_set_default_tariff(status: str, as_text: bool) -> None:
    station = FakeStation(tariff_status=status)
    assert ask(station, "SetDefaultTariff", {"evseId": 0, "tariff": TARIFF}, as_text=as_text) == {"status": status}
    [(evse, text)] = station.tariffs_told
    assert evse == 0 and json.loads(text) == TARIFF


def test_i07_numbers_of_a_tariff_stay_as_written() -> None:
    """They make its hash: 0.30 is another content than 0.3."""
    station = FakeStation()
    text = '{"evseId":1,"tariff":{"tariffId":"T","currency":"EUR","energy":{"prices":[{"priceKwh":0.30}]}}}'
    answered("SetDefaultTariff", transfer(station, EVSED, "SetDefaultTariff", text))
    [(_, told)] = station.tariffs_told
    assert '"priceKwh":0.30}' in told


def test_i07_what_is_wrong_with_a_tariff_is_told() -> None:
    station = FakeStation(tariff_status="Rejected: " + "$.currency: expected a code; " * 100)
    answer = ask(station, "SetDefaultTariff", {"evseId": 0, "tariff": TARIFF})
    assert answer["status"] == "Rejected" and answer["statusInfo"]["additionalInfo"].startswith("$.currency")


@pytest.mark.parametrize(
    ("tx_id", "status", "wanted"),
    [
        (TX, "Accepted", "Accepted"),
        (TX, "NoCurrencyChange", "NoCurrencyChange"),
        (TX, "TxNotFound", "TxNotFound"),
        ("tx-9", "Accepted", "TxNotFound"),
    ],
)
def test_i11_change_transaction_tariff(tx_id: str, status: str, wanted: str) -> None:
    station = FakeStation(tariff_status=status)
    assert ask(station, "ChangeTransactionTariff", {"transactionId": tx_id, "tariff": TARIFF})["status"] == wanted
    assert [where for where, _ in station.tariffs_told] == ([TX] if tx_id == TX else [])


def test_i08_get_tariffs() -> None:
    station = FakeStation()
    assert ask(station, "GetTariffs", {"evseId": 0}) == {"status": "NoTariff"}
    beyond_ms = 253_402_300_800_000 + 86_400_000  # a validFrom of 9999 with an offset can mean the year 10000
    station.tariff_assignments = [
        TariffAssignment("T-1", 0, None),
        TariffAssignment("T-2", 2, T0_MS),
        TariffAssignment("T-3", 2, beyond_ms),
    ]
    kind = {"tariffKind": "DefaultTariff"}
    assert ask(station, "GetTariffs", {"evseId": 0})["tariffAssignments"] == [
        {"tariffId": "T-1", "evseIds": [0], **kind},
        {"tariffId": "T-2", "evseIds": [2], "validFrom": "2026-11-24T08:00:00.000Z", **kind},
        {"tariffId": "T-3", "evseIds": [2], "validFrom": "9999-12-31T23:59:59.999Z", **kind},
    ]


def test_i09_clear_tariffs() -> None:
    station = FakeStation()
    answer = ask(station, "ClearTariffs", {"tariffIds": ["T-1", "T-2"], "evseId": 1})
    assert [each["tariffId"] for each in answer["clearTariffsResult"]] == ["T-1", "T-2"]
    # None found: one result without an id.
    assert ask(station, "ClearTariffs", {}) == {"clearTariffsResult": [{"status": "NoTariff"}]}


@pytest.mark.parametrize(
    "data",
    [
        {"tariffIds": []},  # by the schema at least one: it must not mean "all"
        {"tariffIds": ["x" * 61]},
        {"tariffIds": ["T"] * 101},
        {"tariffIds": [1]},
        {"tariffIds": "T-1"},
        {"evseId": -1},
        {"evseId": 1.5},
        {"evseId": "1"},
        {"evseId": None},
        {"evseId": True},
    ],
)
def test_i09_clear_tariffs_that_is_not_of_its_form_clears_nothing(data: dict[str, Any]) -> None:
    station = FakeStation()
    station.clear_tariffs = None  # type: ignore[assignment, method-assign] # asked for nothing
    answer = transfer(station, EVSED, "ClearTariffs", json.dumps(data))
    assert answer["status"] == "Rejected" and "error" in json.loads(answer["data"])


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        ({"maxCost": 12.34}, ("12.34", None, None)),
        ({"maxCost": 0, "maxEnergy": 20_000.9, "maxTime": 3_600}, ("0", 20_000, 3_600)),
    ],
)
def test_e16_transaction_limit(limit: dict[str, Any], wanted: tuple[Any, ...]) -> None:
    station = FakeStation()
    data = {"transactionId": TX, "transactionLimit": limit}
    assert ask(station, "TransactionLimit", data) == {"status": "Accepted"}
    assert station.limits == [(TX, *wanted)]
    station.limit_status = "TxNotFound"
    assert ask(station, "TransactionLimit", data) == {"status": "TxNotFound"}
    station.limit_status = "Rejected: no tariff prices it"
    info = {"reasonCode": "InvalidValue", "additionalInfo": "no tariff prices it"}
    assert ask(station, "TransactionLimit", data) == {"status": "Rejected", "statusInfo": info}
    assert ask(station, "TransactionLimit", data | {"transactionId": "tx-9"}) == {"status": "TxNotFound"}


@pytest.mark.parametrize(
    "limit",
    [
        {},
        {"maxSoC": 80},  # not done here
        {"maxCost": 5, "maxSoC": 80},
        {"maxCost": "5"},  # an unreadable limit is not none
        {"maxCost": None, "maxTime": 60},
        {"maxCost": -1},
        {"maxEnergy": -1},
        {"maxTime": "60"},
        None,
    ],
)
def test_e16_limit_that_cannot_be_kept_is_refused_as_a_whole(limit: Any) -> None:
    station = FakeStation()
    data = json.dumps({"transactionId": TX, "transactionLimit": limit})
    assert transfer(station, EVSED, "TransactionLimit", data)["status"] == "Rejected"
    assert station.limits == []


@pytest.mark.parametrize(
    "data",
    [
        None,
        "",
        "no JSON",
        "[]",
        "1",
        '{"evseId":0}',
        '{"evseId":0,"tariff":"{}"}',
        '{"evseId":1e999,"tariff":{}}',
        '{"evseId":NaN,"tariff":{}}',
        '{"evseId":0,"tariff":{"tariffId":"A","tariffId":"B"}}',
        '{"evseId":0,"tariff":{"description":"' + "x" * 66_000 + '"}}',
        '{"evseId":0,"tariff":' + '{"a":' * 40 + "1" + "}" * 41,
        {"evseId": 0, "tariff": {"description": "x" * 66_000}},
        {"evseId": 0, "tariff": [[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]},
        [],
        7,
    ],
)
def test_tariff_message_that_is_none_is_refused(data: Any) -> None:
    station = FakeStation()
    answer = transfer(station, EVSED, "SetDefaultTariff", data)
    assert answer["status"] == "Rejected" and station.tariffs_told == []
    error = answer["data"] if isinstance(data, dict) else json.loads(answer["data"])
    assert 0 < len(error["error"]) <= 400


def test_p01_vendors_and_messages() -> None:
    request = {"vendorId": "com.example", "messageId": "SetDefaultTariff", "data": "{}"}
    assert asyncio.run(data_transfer(FakeStation(), _tx_id_of, request)) is None
    assert asyncio.run(data_transfer(FakeStation(), _tx_id_of, {"vendorId": EVSED})) == {"status": "UnknownMessageId"}
    # Each vendor has its own messages.
    assert transfer(FakeStation(), EVSED, "RunningCost", "{}") == {"status": "UnknownMessageId"}
    assert transfer(FakeStation(), COSTMSG, "GetTariffs", "{}") == {"status": "UnknownMessageId"}


# ------------------------------------------------------------------------------- California messages

RUNNING = {
    "transactionId": 100,
    "timestamp": "2026-11-24T08:00:00Z",
    "meterValue": 1_234_000,
    "cost": 3.31,
    "state": "Charging",
    "chargingPrice": {"kWhPrice": 0.123, "hourPrice": 2.0, "flatFee": 42.42},
    "idlePrice": {"graceMinutes": 30, "hourPrice": 1.0},
    "nextPeriod": {"atTime": "2026-11-24T10:00:00Z", "chargingPrice": {"kWhPrice": 0.1}},
    "triggerMeterValue": {"atPowerkW": 8, "atCPStatus": ["Finishing"]},
}


def cost(station: FakeStation, message_id: str, **changes: Any) -> ToldCost:
    assert transfer(station, COSTMSG, message_id, json.dumps(RUNNING | changes)) == {"status": "Accepted"}
    return station.costs[-1]


def test_california_running_cost() -> None:
    told = cost(FakeStation(), "RunningCost")
    assert told == ToldCost(TX, "3.31", False, "", 1_234_000, T0_MS, "0.123", "2.0")


def test_california_idle_price_counts_after_its_grace() -> None:
    told = cost(FakeStation(), "RunningCost", state="Idle")
    assert (told.wall_ms, told.kwh_price, told.hour_price) == (T0_MS + 30 * 60_000, None, "1.0")
    without = cost(FakeStation(), "RunningCost", state="Idle", idlePrice={"hourPrice": 1})
    assert (without.wall_ms, without.hour_price) == (T0_MS, "1")


def test_california_final_cost() -> None:
    station = FakeStation()
    data = {"transactionId": 100, "cost": 3.31, "priceText": "GBP 2.81 @ 0.12/kWh", "qrCodeText": "https://e.example"}
    assert transfer(station, COSTMSG, "FinalCost", json.dumps(data)) == {"status": "Accepted"}
    assert station.costs == [ToldCost(TX, "3.31", True, "GBP 2.81 @ 0.12/kWh")]


def test_california_set_user_price() -> None:
    station = FakeStation()
    data = {"idToken": "CRED1234567", "priceText": "0.12/kWh", "priceTextExtra": [{"language": "nl", "content": "."}]}
    assert transfer(station, COSTMSG, "SetUserPrice", json.dumps(data)) == {"status": "Accepted"}
    assert station.prices == [(Token("CRED1234567"), "0.12/kWh")]


@pytest.mark.parametrize(
    ("message_id", "changes"),
    [
        ("RunningCost", {"transactionId": 101}),
        ("RunningCost", {"transactionId": None}),
        ("RunningCost", {"transactionId": 1e30}),
        ("RunningCost", {"cost": None}),  # absent does not mean free
        ("RunningCost", {"cost": "3.31"}),
        ("RunningCost", {"cost": True}),
        ("FinalCost", {"cost": 1e15}),
        ("SetUserPrice", {"priceText": "x"}),  # nobody's price is not everybody's
        ("SetUserPrice", {"idToken": "", "priceText": "x"}),
        ("SetUserPrice", {"idToken": "x" * 37, "priceText": "x"}),
        ("SetUserPrice", {"idToken": {"idToken": "A"}, "priceText": "x"}),
        ("SetUserPrice", {"idToken": "A"}),
        ("SetUserPrice", {"idToken": "A", "priceText": 1}),
        ("SetUserPrice", {"idToken": "A", "priceText": "\ud800"}),
    ],
)
def test_california_message_that_is_not_of_its_form_is_refused(message_id: str, changes: dict[str, Any]) -> None:
    station = FakeStation()
    assert transfer(station, COSTMSG, message_id, json.dumps(RUNNING | changes))["status"] == "Rejected"
    assert station.costs == [] and station.prices == []


def test_unreadable_details_are_left_out() -> None:
    broken = {"timestamp": "yesterday", "meterValue": -1, "chargingPrice": [1], "priceText": 7, "state": {}}
    assert cost(FakeStation(), "RunningCost", **broken) == ToldCost(TX, "3.31")


def test_words_are_cut() -> None:
    station = FakeStation()
    transfer(station, COSTMSG, "SetUserPrice", json.dumps({"idToken": "A", "priceText": "x" * 50_000}))
    told = cost(station, "FinalCost", priceText="y" * 50_000)
    assert station.prices == [(Token("A"), "x" * 1_024)] and told.text == "y" * 1_024


@pytest.mark.parametrize(
    "custom",
    [
        None,
        7,
        {},
        {"vendorId": "other", "state": "Idle"},
        {"vendorId": COSTMSG, "a": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]},
    ],
)
def test_custom_data_of_others_says_nothing_of_a_cost(custom: Any) -> None:
    assert tariff_messages.cost_details(custom) == {}


# ------------------------------------------------------------------------------------------ numbers


@given(st.decimals(min_value=-(10**10), max_value=10**10, places=4, allow_nan=False))
def test_money_told_as_a_number_is_the_number_that_was_told(amount: Decimal) -> None:
    as_float = json.loads(json.dumps(float(amount)))
    told = plain_number(as_float)
    assert told is not None and Decimal(told) == amount


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.23, "1.23"),
        (0, "0"),
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (1e5, "100000.0"),
        (1e-5, "0.00001"),
        (-1.5, "-1.5"),
        (10**12 + 1, None),
        (1e300, None),
        (5e-324, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        ("1.23", None),
        (None, None),
        ([], None),
    ],
)
def test_plain_number(value: object, text: str | None) -> None:
    assert plain_number(value) == text


def test_told_cost_holds_no_number_type_of_the_reader() -> None:
    """It goes over the local socket: plain texts and integers only."""
    told = told_cost(TX, "1", tariff_messages.cost_details({"vendorId": COSTMSG} | RUNNING), final=False)
    kinds = {type(getattr(told, name)) for name in ("text", "meter_wh", "wall_ms", "kwh_price", "hour_price")}
    assert kinds == {str, int}


# ------------------------------------------------------------------------------------------ hostile


@given(hostile_requests(data_is_text=False))
def test_nothing_that_a_csms_sends_raises(request: dict[str, Any]) -> None:
    station = FakeStation(tariff_assignments=[TariffAssignment("T-1", 0, None)])
    answer = asyncio.run(data_transfer(station, _tx_id_of, request))
    assert answer is not None
    if answer["status"] == "Accepted" and "data" in answer:
        answered(request["messageId"], answer)
    for told in station.costs:
        assert Decimal(told.cost).is_finite() and len(told.cost) < 50 and len(told.text) <= 1_024
    for _, cost_most, energy_wh, time_s in station.limits:
        assert (cost_most, energy_wh, time_s) != (None, None, None)
