"""Tariff messages of OCPP 2.1, and the California cost messages, in neutral form.

Charter: from a message's payload to the station's port and back. OCPP 2.1 sends these shapes as messages of
their own; towards older dialects a CSMS sends the same JSON in DataTransfer with vendor id ``evsed`` and the
message's name as message id. ``TransactionLimit`` is ours: 2.1 has that type in answers only. The cost messages of
vendor ``org.openchargealliance.costmsg`` come in DataTransfer (1.6) or in customData (2.0.1).

Nothing here raises for what a CSMS sends: the answer says what is wrong. Numbers stay the text that was written
(or the shortest text of the float they came as): money is never rounded on the way.

Of the California extension the station does not do: prices after ``nextPeriod``, readings at ``triggerMeterValue``,
QR codes, other languages.

Sources: OCPP 2.1 schemas of SetDefaultTariff, GetTariffs, ClearTariffs, ChangeTransactionTariff and
TransactionLimitType; metering reference 3.2, 3.3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeGuard

from agent.core.facts import Token
from agent.ipc.port import StationPort, ToldCost
from agent.ocpp.frames import Payload
from agent.ocpp.timestamps import BadTimestamp, from_rfc3339, to_rfc3339
from agent.tariff.canonical import MAX_BYTES, canonical, load
from agent.tariff.number import Written, exact, written
from agent.tariff.problem import TariffError

VENDOR: Final = "evsed"
COST_VENDOR: Final = "org.openchargealliance.costmsg"
TEXT_MAX_CHARS: Final = 1_024
"""Of words for a driver; more is cut."""
_ID_MAX_CHARS: Final = 60  # tariffId
_TOKEN_MAX_CHARS: Final = 36
_IDS_MAX: Final = 100
_MINUTE_MS: Final = 60_000
_LATEST_MS: Final = 253_402_300_799_999  # the last millisecond that RFC 3339 can write

TxIdOf = Callable[[str], Awaitable[str | None]]
"""Our id of a transaction from what the CSMS calls it; None for one we do not know."""


class _Unfit(ValueError):
    """A message that is not of its form."""


# ------------------------------------------------------------------------------------ DataTransfer


async def data_transfer(station: StationPort, tx_id_of: TxIdOf, request: Payload) -> Payload | None:
    """The answer to a DataTransfer of one of our vendors; None for any other vendor. Its ``data`` is a text where
    that of the request was one (1.6), else an object."""
    handlers = {VENDOR: _TARIFF_MESSAGES, COST_VENDOR: _COST_MESSAGES}.get(request["vendorId"])
    if handlers is None:
        return None
    handler = handlers.get(request.get("messageId", ""))
    if handler is None:
        return {"status": "UnknownMessageId"}
    status, data = "Accepted", request.get("data")
    answer: Payload | None
    try:
        answer = await handler(station, tx_id_of, _object(data))
    except _Unfit as error:
        status, answer = "Rejected", {"error": str(error)[:400]}
    if answer is None:
        return {"status": status}
    return {"status": status, "data": answer if isinstance(data, dict) else json.dumps(answer)}


def _object(data: object) -> dict[str, Any]:
    """The JSON object in ``data``, which is its text (1.6) or itself (2.0.1); its numbers are ``Written``."""
    if not isinstance(data, str | dict):
        raise _Unfit("data is no JSON object")
    try:
        value = load(data)
    except TariffError as error:
        raise _Unfit(f"data: {error}") from error
    if not isinstance(value, dict):
        raise _Unfit("data is no JSON object")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # half a character, written as an escape: it could not be stored
        raise _Unfit("data is not Unicode") from error
    return value


# ---------------------------------------------------------------------------------- OCPP 2.1 shapes


async def _set_default(station: StationPort, _: TxIdOf, data: Payload) -> Payload:
    return _status(await station.set_default_tariff(_integer(data, "evseId"), _tariff(data)))


async def _change(station: StationPort, tx_id_of: TxIdOf, data: Payload) -> Payload:
    tariff = _tariff(data)
    tx_id = await tx_id_of(_text(data, "transactionId"))
    if tx_id is None:
        return {"status": "TxNotFound"}
    return _status(await station.change_tariff(tx_id, tariff))


async def _get(station: StationPort, _: TxIdOf, data: Payload) -> Payload:
    found = await station.tariffs(_integer(data, "evseId"))
    if not found:
        return {"status": "NoTariff"}
    assignments = [
        {"tariffId": each.tariff_id, "tariffKind": "DefaultTariff", "evseIds": [each.evse]}
        | ({} if each.from_wall_ms is None else {"validFrom": to_rfc3339(min(each.from_wall_ms, _LATEST_MS))})
        for each in found
    ]
    return {"status": "Accepted", "tariffAssignments": assignments}


async def _clear(station: StationPort, _: TxIdOf, data: Payload) -> Payload:
    ids: list[str] = []
    if "tariffIds" in data:
        # An empty list is not "all of them": that is said by leaving it out.
        if not isinstance(data["tariffIds"], list) or not 1 <= len(data["tariffIds"]) <= _IDS_MAX:
            raise _Unfit(f"tariffIds is no list of 1 to {_IDS_MAX} texts")
        ids = [_words("tariffIds", each, _ID_MAX_CHARS) for each in data["tariffIds"]]
    evse = _integer(data, "evseId") if "evseId" in data else None
    results = await station.clear_tariffs(ids, evse)
    found = [{"tariffId": tariff_id, "status": status} for tariff_id, status in results]
    return {"clearTariffsResult": found or [{"status": "NoTariff"}]}


async def _limit(station: StationPort, tx_id_of: TxIdOf, data: Payload) -> Payload:
    """TransactionLimitType of a TransactionEvent answer, with the transaction it is for. What cannot be kept is
    refused as a whole: a limit must not be believed in that is none."""
    limit = data.get("transactionLimit")
    if not isinstance(limit, dict):
        raise _Unfit("transactionLimit is no object")
    if strange := sorted(limit.keys() - {"maxCost", "maxEnergy", "maxTime", "customData"}):
        raise _Unfit(f"there is no limit of {strange[0]} here")
    cost = plain_number(limit.get("maxCost"))
    if "maxCost" in limit and (cost is None or cost.startswith("-")):
        raise _Unfit("maxCost is no amount")
    energy_wh, time_s = _floor(limit, "maxEnergy"), _floor(limit, "maxTime")
    if cost is None and energy_wh is None and time_s is None:
        raise _Unfit("transactionLimit has no limit")
    tx_id = await tx_id_of(_text(data, "transactionId"))
    if tx_id is None:
        return {"status": "TxNotFound"}
    return _status(await station.limit_transaction(tx_id, cost, energy_wh, time_s))


def _status(said: str) -> Payload:
    status, _, why = said.partition(": ")
    info = {"reasonCode": "InvalidValue", "additionalInfo": why[:TEXT_MAX_CHARS]}
    return {"status": status} | ({"statusInfo": info} if why else {})


def _tariff(data: Payload) -> str:
    tariff = data.get("tariff")
    if not isinstance(tariff, dict):
        raise _Unfit("tariff is no object")
    text = canonical(tariff)
    if len(text) > MAX_BYTES:
        raise _Unfit(f"tariff has {len(text)} bytes, at most {MAX_BYTES}")
    return text


# ------------------------------------------------------------------------------- California messages


async def _user_price(station: StationPort, _: TxIdOf, data: Payload) -> None:
    token = _words("idToken", data.get("idToken"), _TOKEN_MAX_CHARS)
    text = data.get("priceText")
    if not _is_text(text) or not text:
        raise _Unfit("priceText is no text")
    await station.told_price(Token(token), text[:TEXT_MAX_CHARS])


async def _running_cost(station: StationPort, tx_id_of: TxIdOf, data: Payload) -> None:
    await _tell_cost(station, tx_id_of, data, final=False)


async def _final_cost(station: StationPort, tx_id_of: TxIdOf, data: Payload) -> None:
    await _tell_cost(station, tx_id_of, data, final=True)


async def _tell_cost(station: StationPort, tx_id_of: TxIdOf, data: Payload, *, final: bool) -> None:
    cost = plain_number(data.get("cost"))
    if cost is None:
        raise _Unfit("cost is no number")
    tx_id = await tx_id_of(_text(data, "transactionId"))
    if tx_id is None:
        raise _Unfit("no such transaction")
    await station.told_cost(told_cost(tx_id, cost, data, final=final))


def told_cost(tx_id: str, cost: str, details: Mapping[str, Any], *, final: bool) -> ToldCost:
    """A cost with what the California extension says beside it; what is unreadable there is left out."""
    idle = details.get("state") == "Idle"
    prices = details.get("idlePrice" if idle else "chargingPrice")
    prices = prices if isinstance(prices, dict) else {}
    text = details.get("priceText")
    wall_ms = _wall_ms(details.get("timestamp"))
    if wall_ms is not None and idle:
        wall_ms += (_whole_part(prices.get("graceMinutes")) or 0) * _MINUTE_MS  # until then it costs nothing
    return ToldCost(
        tx_id=tx_id,
        cost=cost,
        final=final,
        text=text[:TEXT_MAX_CHARS] if _is_text(text) else "",
        meter_wh=_whole_part(details.get("meterValue")),
        wall_ms=wall_ms,
        kwh_price=plain_number(prices.get("kWhPrice")),
        hour_price=plain_number(prices.get("hourPrice")),
    )


def cost_details(custom_data: object) -> Mapping[str, Any]:
    """What customData of the California extension says beside a cost; empty where it is none, or unusable."""
    if not isinstance(custom_data, dict) or custom_data.get("vendorId") != COST_VENDOR:
        return {}
    try:
        return _object(custom_data)
    except _Unfit:
        return {}


async def known(station: StationPort, tx_id: str) -> str | None:
    """``TxIdOf`` of a dialect that calls transactions as the station does: running ones, and those in the ledger."""
    running = any(view.tx_id == tx_id for view in (await station.status()).evses)
    return tx_id if running or await station.transaction(tx_id) else None


# ----------------------------------------------------------------------------------------- reading


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not isinstance(value, Written)


def _words(name: str, value: object, most_chars: int) -> str:
    if not _is_text(value) or not 1 <= len(value) <= most_chars:
        raise _Unfit(f"{name} is no text of 1 to {most_chars} characters")
    return value


def _text(data: Payload, name: str) -> str:
    """A transaction's name: a text, or a whole number (1.6)."""
    value = data.get(name)
    if isinstance(value, Written) and re.fullmatch(r"-?[0-9]{1,20}", value):
        return str(value)
    return _words(name, value, _TOKEN_MAX_CHARS)


def _integer(data: Payload, name: str) -> int:
    value = _floor(data, name)
    if value is None or exact(data[name]) != value:
        raise _Unfit(f"{name} is no whole number")
    return value


def _floor(data: Payload, name: str) -> int | None:
    """A number, rounded down; None where it is left out."""
    if name not in data:
        return None
    value = _whole_part(data[name])
    if value is None:
        raise _Unfit(f"{name} is no number from 0 on")
    return value


def _whole_part(value: object) -> int | None:
    number = exact(value) if isinstance(value, Written) else None
    return None if number is None or number < 0 else int(number)


def _wall_ms(value: object) -> int | None:
    try:
        return from_rfc3339(value) if _is_text(value) else None
    except BadTimestamp:
        return None


def plain_number(value: object) -> str | None:
    """A JSON number as decimal text; None for anything else, and for numbers that no money needs."""
    number = written(value)
    if number is None or exact(number) is None:
        return None
    decimal = Decimal(number)
    return f"{decimal.copy_abs() if decimal.is_zero() else decimal:f}"


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
