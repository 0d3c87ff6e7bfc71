"""Messages about tariffs and costs, good and hostile, and the schemas of OCPP 2.1 to hold them against."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft4Validator  # type: ignore[import-untyped]

from tests.support.tariff_json import kwh, tariff

EVSED = "evsed"
COSTMSG = "org.openchargealliance.costmsg"
TARIFF = tariff(tariffId="T-1", energy=kwh(0.3))
# 2.1 sends a transaction's limit in this answer only.
LIMIT_SCHEMA = ("TransactionEventResponse", "TransactionLimitType")


def conforms(message: str, payload: object, definition: str | None = None) -> None:
    """Raise unless the payload is a valid message of OCPP 2.1, or a type that the message uses."""
    schema = _schema(message)
    if definition is not None:
        schema = schema["definitions"][definition] | {"definitions": schema["definitions"]}
    Draft4Validator(schema).validate(payload)


@functools.cache
def _schema(message: str) -> dict[str, Any]:
    spec = importlib.util.find_spec("ocpp")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "v21" / "schemas"
    schema: dict[str, Any] = json.loads((folder / f"{message}.json").read_text(encoding="utf-8"))
    return schema


def answered(message_id: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The 2.1 message inside a DataTransfer answer, held against its schema."""
    assert answer["status"] == "Accepted", answer
    data = answer["data"]
    inner: dict[str, Any] = json.loads(data) if isinstance(data, str) else data
    if message_id == "TransactionLimit":
        assert inner.keys() <= {"status", "statusInfo"}
    else:
        conforms(f"{message_id}Response", inner)
    return inner


# ------------------------------------------------------------------------------------------ hostile

_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["", "tx-1", "100", "T-1", "x" * 5_000, "2026-11-24T08:00:00Z", "9999-12-31T23:59:59-23:59"]),
)
_VALUE = st.recursive(
    _JUNK,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_NAMES = [
    "evseId",
    "tariff",
    "tariffIds",
    "transactionId",
    "transactionLimit",
    "idToken",
    "priceText",
    "cost",
    "state",
    "meterValue",
    "timestamp",
    "chargingPrice",
    "idlePrice",
    "customData",
]
_PARTS = {
    "tariff": st.just(TARIFF) | _VALUE,
    "transactionLimit": st.dictionaries(st.sampled_from(["maxCost", "maxEnergy", "maxTime", "maxSoC"]), _JUNK),
    "chargingPrice": st.dictionaries(st.sampled_from(["kWhPrice", "hourPrice"]), _JUNK),
    "idlePrice": st.dictionaries(st.sampled_from(["graceMinutes", "hourPrice"]), _JUNK),
    "state": st.sampled_from(["Charging", "Idle"]) | _JUNK,
    "transactionId": st.sampled_from(["tx-1", "100", 100]) | _JUNK,
}
_FIELDS = st.fixed_dictionaries({}, optional={name: _PARTS.get(name, _VALUE) for name in _NAMES})
_TEXTS = st.sampled_from(
    [
        "",
        "[]",
        "NaN",
        '{"cost":NaN,"transactionId":100}',
        '{"cost":1e999,"transactionId":100}',
        '{"cost":1,"transactionId":100,"meterValue":1e999}',
        '{"evseId":1e400}',
        '{"evseId":' + "9" * 5_000 + "}",
        '{"tariff":' + "[" * 50_000,
        '{"evseId":0,"tariff":{"tariffId":"a","tariffId":"b"}}',
        '{"evseId":0,"tariff":"' + "x" * 70_000 + '"}',
        '{"idToken":"A","priceText":"\\ud800"}',
    ]
)
MESSAGE_IDS = {
    EVSED: ("SetDefaultTariff", "GetTariffs", "ClearTariffs", "ChangeTransactionTariff", "TransactionLimit", "Else"),
    COSTMSG: ("SetUserPrice", "RunningCost", "FinalCost", ""),
}


def hostile_requests(*, data_is_text: bool) -> st.SearchStrategy[dict[str, Any]]:
    """DataTransfer requests of our vendors that pass the schema and are anything inside."""
    as_text = _FIELDS.map(json.dumps) | _TEXTS | st.text(max_size=40)
    data = as_text if data_is_text else _FIELDS | _VALUE | as_text
    known = [(vendor, message_id) for vendor, ids in MESSAGE_IDS.items() for message_id in ids]
    return st.builds(
        lambda pair, data: {"vendorId": pair[0], "messageId": pair[1], "data": data}, st.sampled_from(known), data
    )
