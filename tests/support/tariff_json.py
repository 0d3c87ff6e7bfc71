"""Short ways to write the JSON of a tariff in a test."""

from __future__ import annotations

from typing import Any

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


def tariff(**parts: Any) -> dict[str, Any]:
    return {"tariffId": "T", "currency": "EUR"} | parts


def kwh(*prices: Any, **more: Any) -> dict[str, Any]:
    return {"prices": [priced("priceKwh", each) for each in prices]} | more


def minute(*prices: Any, **more: Any) -> dict[str, Any]:
    return {"prices": [priced("priceMinute", each) for each in prices]} | more


def priced(name: str, price: Any) -> dict[str, Any]:
    return {name: price[0], "conditions": price[1]} if isinstance(price, tuple) else {name: price}


def window(start: str, end: str) -> dict[str, str]:
    return {"startTimeOfDay": start, "endTimeOfDay": end}
