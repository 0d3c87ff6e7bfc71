"""Tariff messages of OCPP 2.1, and the California cost messages, in neutral form.

Charter: from a message's payload to the station's port and back. OCPP 2.1 sends these shapes as messages of
their own; towards older dialects a CSMS sends the same JSON in DataTransfer with vendor id ``evsed`` and the
message's name as message id. The cost messages of vendor ``org.openchargealliance.costmsg`` come in
DataTransfer (1.6) or in customData (2.0.1).

Nothing here raises for what a CSMS sends: the answer says what is wrong.

Sources: OCPP 2.1 schemas of SetDefaultTariff, GetTariffs, ClearTariffs, ChangeTransactionTariff and
TransactionLimitType; metering reference 3.2, 3.3.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, Final

from agent.core.facts import Token
from agent.ipc.port import StationPort, ToldCost
from agent.ocpp.frames import Payload
from agent.ocpp.timestamps import BadTimestamp, from_rfc3339, to_rfc3339
from agent.tariff.canonical import canonical, read

VENDOR: Final = "evsed"
COST_VENDOR: Final = "org.openchargealliance.costmsg"
_DATA_MAX_CHARS: Final = 128 * 1024

TxIdOf = Callable[[str], str | None]
"""Our id of a transaction from what the CSMS calls it; None for one we do not know."""


class _Unfit(ValueError):
    """A message that is not of its form."""


# ------------------------------------------------------------------------------------ DataTransfer


async def data_transfer(station: StationPort, tx_id_of: TxIdOf, request: Payload) -> Payload | None:
    """The answer to a DataTransfer of one of our vendors; None for any other vendor."""
    handlers = {VENDOR: _TARIFF_MESSAGES, COST_VENDOR: _COST_MESSAGES}.get(request["vendorId"])
    if handlers is None:
        return None
    handler = handlers.get(str(request.get("messageId", "")))
    if handler is None:
        return {"status": "UnknownMessageId"}
    try:
        answer = await handler(station, tx_id_of, _data(request.get("data")))
    except _Unfit as error:
        return {"status": "Rejected", "data": json.dumps({"error": str(error)[:400]})}
    return {"status": "Accepted"} | ({} if answer is None else {"data": json.dumps(answer)})


def _data(data: object) -> Payload:
    """The JSON object in ``data``, which is its text (1.6) or itself (2.0.1). A tariff in a text stays text, so
    that its numbers stay as they were written."""
    tariff: str | None = None
    if isinstance(data, str):
        if len(data) > _DATA_MAX_CHARS:
            raise _Unfit(f"data has {len(data)} characters, at most {_DATA_MAX_CHARS}")
        try:
            as_written, _ = read(data)
            data = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise _Unfit(f"data is no JSON: {error}") from error
        if isinstance(as_written, dict) and isinstance(as_written.get("tariff"), dict):
            tariff = canonical(as_written["tariff"])
    if not isinstance(data, dict):
        raise _Unfit("data is no JSON object")
    return data if tariff is None else data | {"tariff": tariff}


# ---------------------------------------------------------------------------------- OCPP 2.1 shapes


async def _set_default(station: StationPort, _: TxIdOf, data: Payload) -> Payload:
    return _status(await station.set_default_tariff(_integer(data, "evseId"), _tariff(data)))


async def _change(station: StationPort, tx_id_of: TxIdOf, data: Payload) -> Payload:
    tx_id = tx_id_of(_text(data, "transactionId"))
    if tx_id is None:
        return {"status": "TxNotFound"}
    return _status(await station.change_tariff(tx_id, _tariff(data)))


async def _get(station: StationPort, _: TxIdOf, data: Payload) -> Payload:
    found = await station.tariffs(_integer(data, "evseId"))
    if not found:
        return {"status": "NoTariff"}
    assignments = [
        {"tariffId": each.tariff_id, "tariffKind": "DefaultTariff", "evseIds": [each.evse]}
        | ({} if each.from_wall_ms is None else {"validFrom": to_rfc3339(each.from_wall_ms)})
        for each in found
    ]
    return {"status": "Accepted", "tariffAssignments": assignments}


async def _clear(station: StationPort, _: TxIdOf, data: Payload) -> Payload:
    ids = data.get("tariffIds", [])
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise _Unfit("tariffIds is no list of texts")
    evse = _integer(data, "evseId") if "evseId" in data else None
    results = await station.clear_tariffs(ids, evse)
    return {"clearTariffsResult": [{"tariffId": tariff_id, "status": status} for tariff_id, status in results]}


async def _limit(station: StationPort, tx_id_of: TxIdOf, data: Payload) -> Payload:
    """TransactionLimitType of a TransactionEvent answer, with the transaction it is for."""
    tx_id = tx_id_of(_text(data, "transactionId"))
    limit = data.get("transactionLimit")
    if not isinstance(limit, dict):
        raise _Unfit("transactionLimit is no object")
    energy, time = limit.get("maxEnergy"), limit.get("maxTime")
    taken = tx_id is not None and await station.limit_transaction(
        tx_id, plain_number(limit.get("maxCost")), _whole("maxEnergy", energy), _whole("maxTime", time)
    )
    return {"status": "Accepted" if taken else "TxNotFound"}


def _status(said: str) -> Payload:
    status, _, why = said.partition(": ")
    return {"status": status} | ({"statusInfo": {"reasonCode": "InvalidValue", "additionalInfo": why}} if why else {})


def _tariff(data: Payload) -> str:
    tariff = data.get("tariff")
    if isinstance(tariff, dict):
        return json.dumps(tariff)
    if not isinstance(tariff, str):
        raise _Unfit("tariff is no object")
    return tariff


# ------------------------------------------------------------------------------- California messages


async def _user_price(station: StationPort, _: TxIdOf, data: Payload) -> None:
    token = data.get("idToken")
    if isinstance(token, dict):
        token = token.get("idToken")
    text = _text(data, "priceText")
    await station.told_price(Token(token) if isinstance(token, str) and token else None, text)


async def _running_cost(station: StationPort, tx_id_of: TxIdOf, data: Payload) -> None:
    await _tell_cost(station, tx_id_of(_text(data, "transactionId")), data, final=False)


async def _final_cost(station: StationPort, tx_id_of: TxIdOf, data: Payload) -> None:
    await _tell_cost(station, tx_id_of(_text(data, "transactionId")), data, final=True)


async def _tell_cost(station: StationPort, tx_id: str | None, data: Payload, *, final: bool) -> None:
    if tx_id is None:
        raise _Unfit("no such transaction")
    cost = plain_number(data.get("cost"))
    if cost is None:
        raise _Unfit("cost is no number")
    await station.told_cost(told_cost(tx_id, cost, final, data))


def told_cost(tx_id: str, cost: str, final: bool, details: Payload) -> ToldCost:
    """A cost with what the California extension says beside it; what is unreadable there is left out."""
    idle = details.get("state") == "Idle"
    prices = details.get("idlePrice" if idle else "chargingPrice")
    prices = prices if isinstance(prices, dict) else {}
    try:
        wall_ms = from_rfc3339(details["timestamp"])
    except (KeyError, TypeError, BadTimestamp):
        wall_ms = None
    meter = details.get("meterValue")
    text = details.get("priceText")
    return ToldCost(
        tx_id=tx_id,
        cost=cost,
        final=final,
        text=text if isinstance(text, str) else "",
        meter_wh=int(meter) if isinstance(meter, int | float) and not isinstance(meter, bool) else None,
        wall_ms=wall_ms,
        kwh_price=plain_number(prices.get("kWhPrice")),
        hour_price=plain_number(prices.get("hourPrice")),
    )


# ----------------------------------------------------------------------------------------- reading


def _text(data: Payload, name: str) -> str:
    value = data.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise _Unfit(f"{name} is no text")
    return value


def _integer(data: Payload, name: str) -> int:
    value = _whole(name, data.get(name))
    if value is None:
        raise _Unfit(f"{name} is missing")
    return value


def _whole(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or not 0 <= value < 2**53:
        raise _Unfit(f"{name} is no whole number")
    return int(value)


def plain_number(value: object) -> str | None:
    """A JSON number as decimal text, in the shortest form that is the same number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = Decimal(repr(value))
    return f"{number:f}" if number.is_finite() and abs(number) < 10**12 else None


_Handler = Callable[[StationPort, TxIdOf, Payload], Awaitable[Any]]
_TARIFF_MESSAGES: Final[dict[str, _Handler]] = {
    "SetDefaultTariff": _set_default,
    "GetTariffs": _get,
    "ClearTariffs": _clear,
    "ChangeTransactionTariff": _change,
    "TransactionLimit": _limit,
}
_COST_MESSAGES: Final[dict[str, _Handler]] = {
    "SetUserPrice": _user_price,
    "RunningCost": _running_cost,
    "FinalCost": _final_cost,
}
