"""What is wrong with an answer voids no more of it than it must, and lets nobody in (RPC-03, RPC-11)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agent.ocpp import schema
from agent.ocpp.answers import Answers
from agent.ocpp.version import Version

V16, V201 = Version.V16, Version.V201
OK = {"status": "Accepted"}
WHEN = "2026-11-24T08:00:00Z"
BOOT = {"status": "Accepted", "currentTime": WHEN, "interval": 60}
GROUP = {"idToken": "FAMILY", "type": "Central"}


@pytest.mark.parametrize(
    ("version", "action", "answer", "left"),
    [
        pytest.param(
            V16,
            "StartTransaction",
            {"transactionId": 100, "idTagInfo": OK | {"expiryDate": None, "parentIdTag": None}},
            {"transactionId": 100, "idTagInfo": OK},
            id="nulls",
        ),
        pytest.param(V16, "StopTransaction", {"idTagInfo": None}, {}, id="all of it null"),
        pytest.param(V16, "StopTransaction", {"idTagInfo": {"status": None}}, {}, id="what holds a null"),
        pytest.param(
            V16, "Authorize", {"idTagInfo": OK | {"parentIdTag": "G" * 21}}, {"idTagInfo": OK}, id="group too long"
        ),
        pytest.param(
            V201,
            "Authorize",
            {"idTokenInfo": OK | {"groupIdToken": {"idToken": "G" * 37, "type": "Central"}}},
            {"idTokenInfo": OK},
            id="group too long in 2.0.1",
        ),
        pytest.param(
            V201,
            "Authorize",
            {"idTokenInfo": OK | {"groupIdToken": GROUP | {"additionalInfo": [None]}}},
            {"idTokenInfo": OK | {"groupIdToken": GROUP}},
            id="a null in a list",
        ),
        pytest.param(
            V201,
            "TransactionEvent",
            {"totalCost": None, "idTokenInfo": None, "updatedPersonalMessage": None},
            {},
            id="nulls in 2.0.1",
        ),
        pytest.param(
            V201,
            "TransactionEvent",
            {"totalCost": "1.50", "idTokenInfo": OK | {"evseId": []}, "chargingPriority": 3},
            {"idTokenInfo": OK, "chargingPriority": 3},
            id="a number as text, an empty list",
        ),
        pytest.param(V201, "BootNotification", BOOT | {"statusInfo": {}}, BOOT, id="an empty object"),
        pytest.param(V16, "DataTransfer", OK | {"data": None}, OK, id="no data"),
        pytest.param(V201, "DataTransfer", OK | {"data": {"a": None}}, OK | {"data": {"a": None}}, id="free form"),
    ],
)
def test_what_need_not_be_there_is_dropped(
    version: Version, action: str, answer: dict[str, Any], left: dict[str, Any]
) -> None:
    Answers(version).take(action, answer)
    assert answer == left
    schema.check_response(version, action, left)


@pytest.mark.parametrize(
    ("version", "action", "answer", "left"),
    [
        (V16, "Authorize", {"idTagInfo": {"status": "accepted"}}, {"idTagInfo": {"status": "Invalid"}}),
        (V16, "StopTransaction", {"idTagInfo": {"status": "NoCredit"}}, {"idTagInfo": {"status": "Invalid"}}),
        (
            V201,
            "TransactionEvent",
            {"totalCost": 1.5, "idTokenInfo": {"status": "Banned", "groupIdToken": GROUP}},
            {"totalCost": 1.5, "idTokenInfo": {"status": "Invalid", "groupIdToken": GROUP}},
        ),
    ],
)
def test_a_status_of_a_token_that_we_do_not_know_is_invalid(
    version: Version, action: str, answer: dict[str, Any], left: dict[str, Any]
) -> None:
    [told] = Answers(version).take(action, answer)
    assert answer == left and told.endswith(" status: not one of the allowed values")


@pytest.mark.parametrize("answer", [{}, {"idTagInfo": None}, {"idTagInfo": []}])
@pytest.mark.parametrize("info", [{}, {"status": None}, {"parentIdTag": "G"}])
def test_16_tx_the_number_of_a_transaction_is_kept_where_nothing_is_said_of_its_token(
    answer: dict[str, Any], info: dict[str, Any]
) -> None:
    """It is booked, and would be booked again with each further StartTransaction. No verdict is none to stop it."""
    for each in (answer, {"idTagInfo": info}):
        taken = {"transactionId": 100} | each
        [told] = Answers(V16).take("StartTransaction", taken)
        assert taken == {"transactionId": 100}
        assert told.startswith("unusable response fields: idTagInfo")


@pytest.mark.parametrize("info", [{"status": "Maybe"}, {"status": 1}, {"status": ["Blocked"]}, "Blocked"])
def test_16_tx_the_number_of_a_transaction_is_kept_whatever_is_said_of_its_token(info: Any) -> None:
    """What nobody can read lets nobody in."""
    answer = {"transactionId": 100, "idTagInfo": info}
    [told] = Answers(V16).take("StartTransaction", answer)
    assert answer == {"transactionId": 100, "idTagInfo": {"status": "Invalid"}}
    assert told.startswith(("unusable response fields: idTagInfo", "unusable response fields: status"))


@pytest.mark.parametrize(
    ("version", "action", "answer", "path"),
    [
        (V16, "Authorize", {}, "idTagInfo"),
        (V16, "Authorize", {"idTagInfo": None}, "idTagInfo"),
        (V16, "Authorize", {"idTagInfo": {"status": None}}, "idTagInfo.status"),
        (V201, "Authorize", {"idTokenInfo": {"groupIdToken": GROUP}}, "idTokenInfo.status"),
        (V16, "StartTransaction", {"idTagInfo": OK}, "transactionId"),
        (V16, "StartTransaction", {"transactionId": None, "idTagInfo": None}, "transactionId"),
        (V16, "StartTransaction", {"transactionId": "100", "idTagInfo": OK}, "transactionId"),
        (V16, "BootNotification", BOOT | {"status": "Invalid"}, "status"),
        (V201, "Heartbeat", {"currentTime": None}, "currentTime"),
    ],
)
def test_what_must_be_there_must_be_right(version: Version, action: str, answer: dict[str, Any], path: str) -> None:
    with pytest.raises(schema.SchemaViolation) as caught:
        Answers(version).take(action, answer)
    assert caught.value.path == path


def test_no_restriction_is_dropped_that_would_let_a_token_charge_elsewhere() -> None:
    """Accepted at EVSE 2 alone is not accepted at all of them."""
    for evses in (["2"], [2, None], "2", {"2": True}):
        with pytest.raises(schema.SchemaViolation, match="evseId"):
            Answers(V201).take("Authorize", {"idTokenInfo": OK | {"evseId": evses}})


@pytest.mark.parametrize(
    ("info", "left"),
    [
        ({"status": "Blocked"}, {"status": "Blocked"}),
        ({"status": "Blocked", "groupIdToken": GROUP, "colour": "red"}, {"status": "Blocked"}),
        ({"status": "Accepted"}, {"status": "Invalid"}),
        ({"status": "blocked"}, {"status": "Invalid"}),
        ({"status": ""}, {"status": "Invalid"}),
        ({"status": None}, None),
        ({"status": 1}, None),
        ({}, None),
    ],
)
def test_20_te_07_what_is_said_of_a_token_outlives_the_evses_that_nobody_can_read(
    info: dict[str, Any], left: dict[str, Any] | None
) -> None:
    """The event is taken all the same; it is told once what was wrong."""
    answer = {"totalCost": 1.5, "idTokenInfo": {"evseId": ["1"]} | info}
    [*_, told] = Answers(V201).take("TransactionEvent", answer)
    assert answer == {"totalCost": 1.5} | ({} if left is None else {"idTokenInfo": left})
    assert told.startswith("unusable response fields: ")


def test_nulls_are_told_once_for_each_action_and_what_is_wrong_each_time() -> None:
    answers = Answers(V16)
    nulls = {"transactionId": 1, "idTagInfo": OK | {"expiryDate": None, "parentIdTag": None}}
    wrong = {"idTagInfo": OK | {"parentIdTag": 7, "colour": "red"}}
    assert answers.take("StartTransaction", copy.deepcopy(nulls)) == ["null response fields: expiryDate, parentIdTag"]
    assert answers.take("StartTransaction", copy.deepcopy(nulls)) == []
    assert answers.take("StopTransaction", {"idTagInfo": None}) == ["null response fields: idTagInfo"]
    for _ in range(2):
        assert answers.take("Authorize", copy.deepcopy(wrong)) == [
            "unknown response fields: colour",
            "unusable response fields: parentIdTag: wrong type",
        ]


def test_rpc_10_what_is_told_is_short_and_never_a_value() -> None:
    answer = {"idTokenInfo": OK | {f"extra{number}": "topsecret" for number in range(1_000)}, "totalCost": "topsecret"}
    told = Answers(V201).take("TransactionEvent", answer)
    assert all(len(each) < 255 and "topsecret" not in each for each in told) and len(told) == 2
