"""Targets of what is measured, priced, proved and limited: tariffs, charging profiles, OCMF records, receipts.

Charter: the readers of documents that come from anybody, followed by the judgements that are made of what they accept.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Final

from agent.billing.errors import ReceiptError
from agent.billing.page import find, verify_found
from agent.charging.composite import Feed, Transaction, composite_schedule, current_limit
from agent.charging.profiles import ChargingProfile, Kind, Period, Purpose, RateUnit, Recurrency, Schedule
from agent.charging.records import (
    MalformedRecord,
    criteria_from_plain,
    profile_from_plain,
    profile_to_plain,
    set_from_plain,
    set_to_plain,
)
from agent.charging.rules import Capabilities, Refusal, Rules
from agent.charging.store import ProfileSet
from agent.ipc.codec import CodecError, from_json, to_json
from agent.ocmf.container import SafeValue, read_container, write_container
from agent.ocmf.errors import OcmfError
from agent.ocmf.parse import parse
from agent.ocmf.public_key import PublicKey, parse_key
from agent.ocmf.verify import billed, verify, verify_pair
from agent.tariff.check import check, check_skipped
from agent.tariff.parse import content_hash, parse_tariff
from agent.tariff.problem import TariffError
from agent.tariff.text import machine, price_lines
from tests.fuzz.target import Target

_WALL_MS: Final = 1_795_507_200_000
_CAPABILITIES: Final = Capabilities(evse_count=2, max_stack_level=8, max_periods=32, max_installed=16)
_FEEDS: Final = (Feed(0, 64_000, 230_000, 3), Feed(1, 32_000, 230_000, 3, Transaction("tx-1", _WALL_MS - 60_000)))
_PROFILE: Final = ChargingProfile(
    id=1,
    stack_level=0,
    purpose=Purpose.TX_DEFAULT,
    kind=Kind.RECURRING,
    recurrency=Recurrency.DAILY,
    valid_from_ms=_WALL_MS,
    valid_to_ms=_WALL_MS + 10_000_000,
    schedules=(
        Schedule(
            unit=RateUnit.AMPERE,
            periods=(Period(0, 8_100, 1, 2), Period(60, 16_000)),
            duration_s=3_600,
            start_ms=_WALL_MS + 500,
            id=11,
            min_charging_rate_milli=6_000,
        ),
    ),
)


# -------------------------------------------------------------------------------------------- tariffs


def _tariff(data: bytes) -> None:
    for allow_negative in (False, True):
        tariff = parse_tariff(data, allow_negative=allow_negative)
    machine(tariff, content_hash(data))
    for finding in (*check(tariff), *check_skipped(tariff, "Europe/Berlin", _WALL_MS)):
        assert str(finding)
    price_lines(tariff)


def _tariffs() -> list[bytes]:
    from tests.unit.billing.making import TARIFF

    price = {
        "priceKwh": 0.3,
        "stepSize": 100,
        "conditions": {
            "dayOfWeek": ["Monday", "Sunday"],
            "validFromDate": "2026-01-01",
            "validToDate": "2027-01-01",
            "minPower": 3700,
            "maxEnergy": 20_000,
            "evseKind": "AC",
        },
    }
    rich = {
        "tariffId": "T-1",
        "description": [{"format": "UTF8", "language": "en", "content": "Hello"}],
        "currency": "EUR",
        "energy": {"prices": [price, {"priceKwh": 0.4}], "taxRates": [{"type": "VAT", "tax": 19, "stack": 0}]},
        "chargingTime": {"prices": [{"priceMinute": 0.01}]},
        "reservationFixed": {"prices": [{"priceFixed": 1, "conditions": {"paymentBrand": "X"}}]},
        "minCost": {"exclTax": 1, "inclTax": 1.19},
        "maxCost": {"exclTax": 50.00},
        "validFrom": "2026-01-01T00:00:00Z",
    }
    return [json.dumps(each).encode() for each in (TARIFF, rich)]


# ------------------------------------------------------------------------------------------- profiles


def _profiles(data: bytes) -> None:
    """A set, a profile or criteria, whichever the bytes are nearest to; what is installed gives a schedule."""
    plain = from_json(data)
    if isinstance(plain, dict) and "installed" in plain:
        read, wrong = set_from_plain(plain)
        again, still_wrong = set_from_plain(set_to_plain(read))
        assert (again, len(still_wrong)) == (read, len(wrong))
        return
    if isinstance(plain, dict) and "ids" in plain:
        criteria_from_plain(plain)
        return
    profile = profile_from_plain(plain)
    assert profile_from_plain(profile_to_plain(profile)) == profile
    for rules in Rules:
        for evse in (0, 1):
            installed = ProfileSet().install(
                profile, evse, rules=rules, capabilities=_CAPABILITIES, running={1: "tx-1"}, wall_ms=_WALL_MS
            )
            if isinstance(installed, Refusal):
                assert str(installed)
                continue
            _schedules(installed)


def _schedules(installed: ProfileSet) -> None:
    for feed in _FEEDS:
        for unit in RateUnit:
            schedule = composite_schedule(installed, feed, _WALL_MS, 86_400, unit)
            assert all(0 <= each.start_s < 86_400 and each.limit_milli >= 0 for each in schedule.periods)
        current_limit(installed, feed, _WALL_MS)


def _profile_seeds() -> list[bytes]:
    """Both dialects' profiles as they reach the station, and a set of them as it lies on disk."""
    plain = profile_to_plain(_PROFILE)
    other = plain | {"id": 2, "kind": "Relative", "purpose": "TxProfile", "transaction_id": "tx-1"}
    kept = {"format": 1, "installed": [{"evse_id": 1, "source": "CSO", "profile": plain}]}
    criteria = {"ids": [1, 2], "evse_id": 1, "purpose": "TxProfile", "stack_level": 0, "sources": ["EMS", "CSO"]}
    return [to_json(each) for each in (plain, other, kept, criteria)]


# ----------------------------------------------------------------------------------------------- OCMF


@cache
def _key() -> PublicKey:
    from tests.unit.billing.making import KEY

    return PublicKey(der=KEY.public_der)


def _record(data: bytes) -> None:
    record = parse(data)
    assert record.payload in record.raw
    verify(record, _key())
    verify_pair(record, record, None)
    billed(record, record)


def _records() -> list[bytes]:
    from tests.support.fake_station import ocmf
    from tests.unit.billing.making import facts, record

    return [record(facts()).encode(), ocmf("B", "C", "E").encode()]


def _container(data: bytes) -> None:
    for value in read_container(data):
        assert isinstance(value.signed, bytes)


def _containers() -> list[bytes]:
    from tests.unit.billing.making import KEY

    signed = _records()[0]
    value = SafeValue(signed=signed, public_key=KEY.public_der.hex(), transaction_id=4, context="Transaction.Begin")
    plain = write_container([value])
    coded = signed.hex().encode()
    return [
        plain,
        b'<values><value><signedData format="OCMF" encoding="hex">' + coded + b"</signedData></value></values>",
    ]


def _public_key(data: bytes) -> None:
    for key in (data, data.decode("utf-8", "replace")):
        verify(_records_once()[0], parse_key(key))


@cache
def _records_once() -> tuple[bytes, ...]:
    return tuple(_records())


def _public_keys() -> list[bytes]:
    import base64

    from tests.unit.billing.making import KEY

    der = KEY.public_der
    text = base64.b64encode(der)
    pem = b"-----BEGIN PUBLIC KEY-----\n" + text + b"\n-----END PUBLIC KEY-----\n"
    return [der, der.hex().encode(), text, pem, b"oca:base16:asn1:" + der.hex().encode(), der[-64:].hex().encode()]


# ------------------------------------------------------------------------------------------- receipts


def _receipt(data: bytes) -> None:
    for verdict in verify_found(find(data)):
        assert verdict.text


def _framed(data: bytes) -> None:
    """The frame is right (but for the signature, which says nothing of the content), the payload is anything."""
    head, _, section = _receipts()[0].split(b"|")
    _receipt(b"|".join((head, data, section)))


@cache
def _receipts() -> tuple[bytes, ...]:
    from agent.billing.html import render
    from agent.billing.read import parse as parse_receipt
    from agent.billing.seal import as_json
    from tests.unit.billing.making import sealed

    receipt = sealed()
    page = render(parse_receipt(receipt), None).encode()
    return receipt, as_json(receipt), page


def _payloads() -> list[bytes]:
    from agent.billing.seal import opened

    return [opened(_receipts()[0])[0]]


def targets() -> list[Target]:
    return [
        Target("tariff", _tariff, _tariffs, (TariffError,), 70_000),
        Target("charging_profiles", _profiles, _profile_seeds, (CodecError, MalformedRecord)),
        Target("ocmf_record", _record, _records, (OcmfError,), 8192),
        Target("ocmf_container", _container, _containers, (OcmfError,), 8192),
        Target("ocmf_key", _public_key, _public_keys, (OcmfError,), 1024),
        Target("receipt", _receipt, lambda: list(_receipts()), (ReceiptError,), 40_000),
        Target("receipt_payload", _framed, _payloads, (ReceiptError,), 16_000),
    ]
