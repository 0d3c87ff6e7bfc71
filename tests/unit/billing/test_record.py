"""Books as signed records: who, what of the token, which readings, how many records."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.billing.record import Identity, drafts, printed_token
from agent.config.money import PriceConfig
from agent.core.facts import PriceCause, PriceFact, Token
from agent.core.settings import Behaviour
from agent.ocmf.judge import Part, judge
from agent.ocmf.parse import Record
from agent.ocmf.parse import parse as parse_record
from agent.ocmf.record import fits
from tests.support.billing_world import CARD, IDENTITY, BillingWorld, Site

FLAT = json.dumps({"tariffId": "T", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.5}]}})
HASH = hashlib.sha256(b"04A1B2C3").hexdigest()[:32].upper()


def site(who: Identity = IDENTITY, tariff: str = FLAT, **others: Any) -> Site:
    return Site(PriceConfig(tariff=Path("site")), {"site": tariff}, identity=who, **others)


def records_of(made: BillingWorld) -> list[Record]:
    return [parse_record(row.body) for row in made.all_rows() if row.kind == "signed"]


def whole(made: BillingWorld, seconds: int = 5) -> Record:
    """The record of a whole transaction."""
    made.charge(seconds)
    made.unplug()
    made.finish()
    assert made.audit() == []
    return records_of(made)[-1]


@pytest.mark.parametrize("form, data", [("plain", "04A1B2C3"), ("hash", HASH), ("none", "")])
def test_the_token_stands_in_records_and_receipts_in_one_form(form: str, data: str) -> None:
    with BillingWorld(site(replace(IDENTITY, token_form=form))) as made:
        record = whole(made)
        assert record.text("ID") == data == made.receipts()[0].facts.token
        assert record.text("IT") == ("ISO14443" if form == "plain" else "UNDEFINED")
        assert (record.fields["IS"], record.text("IL")) == (True, "TRUSTED")
        assert form == "plain" or b"04A1B2C3" not in made.receipts()[0].sealed


@pytest.mark.parametrize(
    "source, level, flag",
    [
        ("csms", "TRUSTED", "OCPP_AUTH"),
        ("list", "TRUSTED", "OCPP_WHITELIST"),
        ("site", "TRUSTED", "OCPP_WHITELIST"),
        ("cache", "TRUSTED", "OCPP_CACHE"),
        ("remote", "TRUSTED", "OCPP_RS"),
        ("unknown", "NONE", "OCPP_NONE"),
    ],
)
def test_what_the_start_rests_on_is_the_level_of_trust(source: str, level: str, flag: str) -> None:
    """Metering reference 1.4: the mapping for an offline start."""
    with BillingWorld(site()) as made:
        made.plug()
        made.authorize(source=source)
        record = whole(made)
        assert record.text("IL") == level and flag in tuple(record.fields["IF"])
        assert record.fields["IS"] is (level != "NONE")


@pytest.mark.parametrize(
    "token, form, printed",
    [
        (None, "plain", ""),
        (Token(""), "hash", ""),
        (Token("Grüße|€"), "plain", "Gruesse/EUR"),
        (Token("x" * 60), "plain", "x" * 40),
    ],
)
def test_any_token_can_be_printed(token: Token | None, form: str, printed: str) -> None:
    assert printed_token(token, form) == printed


def test_the_record_at_the_start_holds_the_begin_alone() -> None:
    with BillingWorld(site()) as made:
        made.charge(5)
        [begin] = records_of(made)
        assert [entry.tx for entry in begin.readings] == ["B"]
        assert not [each for each in judge(begin, Part.BEGIN) if each.blocks]
        made.unplug()
        made.finish()
        begin, end = records_of(made)
        assert [entry.tx for entry in end.readings] == ["B", "E"]
        assert end.readings[0].written == begin.readings[0].written
        assert made.receipts()[0].records == (end.raw.decode(),)
        assert not [each for each in judge(end, Part.WHOLE) if each.blocks]


def test_no_record_at_the_start_where_none_is_wanted() -> None:
    with BillingWorld(site(signs_begin=False)) as made:
        made.charge(5)
        assert records_of(made) == []
        made.unplug()
        made.finish()
        assert [record.text("PG") for record in records_of(made)] == ["T1"]


@pytest.mark.parametrize("synchronised, status", [(False, "I"), (True, "S")])
def test_a_set_clock_is_synchronised_only_where_the_law_says_so(synchronised: bool, status: str) -> None:
    with BillingWorld(site(replace(IDENTITY, synchronised=synchronised))) as made:
        record = whole(made)
        assert {entry.at.status for entry in record.readings if entry.at} == {status}


def test_times_are_local_with_their_offset_and_registers_have_all_digits() -> None:
    with BillingWorld(site()) as made:
        begin = whole(made).readings[0]
        assert begin.at is not None and begin.at.zone_offset_minutes == 60
        assert begin.written.strip() == "5.000000"


@pytest.mark.parametrize("version", ["1.1", "1.3", "1.4"])
def test_every_version_of_the_format_has_only_its_own_fields(version: str) -> None:
    with BillingWorld(site(replace(IDENTITY, format_version=version))) as made:
        record = whole(made)
        assert record.text("FV") == version and ("CF" in record.fields) is (version != "1.1")


def test_a_long_transaction_is_split_into_records_that_ocpp_carries() -> None:
    """Metering reference 1.8: 2500 characters. The first holds the begin, the last the end; numbers follow."""
    each_minute = [{"priceKwh": 1 + n / 100, "conditions": {"startTimeOfDay": f"11:{n:02d}"}} for n in range(29, 0, -1)]
    tariff = json.dumps({"tariffId": "T", "currency": "EUR", "energy": {"prices": [*each_minute, {"priceKwh": 1}]}})
    with BillingWorld(site(tariff=tariff, behaviour=Behaviour(sample_interval_ms=0))) as made:
        made.charge(5)
        made.advance(30 * 60_000)
        made.unplug()
        made.finish()
        books = made.rebuilt("tx-1")
        parts = drafts(books, IDENTITY)
        assert len(parts) > 2 and all(fits(part) for part in parts)
        letters = ["".join(entry.tx or "" for entry in record.readings) for record in records_of(made)[1:]]
        assert "".join(letters) == "B" + "T" * 29 + "E" and len(letters) == len(parts)
        assert [record.text("PG") for record in records_of(made)] == [f"T{n + 1}" for n in range(len(parts) + 1)]
        assert len(made.receipts()[0].records) == len(parts) and made.audit() == []


def test_the_tariff_stands_under_the_signature() -> None:
    with BillingWorld(site()) as made:
        made.charge(5)
        other = FLAT.replace('"T"', '"U"')
        assert made.change_tariff(other).answer == "Accepted"
        made.advance(5_000)
        made.unplug()
        made.finish()
        begin, end = records_of(made)
        hashes = [
            fact.tariff for fact in made.facts() if isinstance(fact, PriceFact) and fact.cause is PriceCause.TARIFF
        ]
        assert begin.text("TT").startswith("001;EUR;"), "the machine form, where it is one tariff"
        first, second = end.text("TT").split(" ")
        assert first.startswith("T;") and second == f"U;{(hashes[0] or '')[:16]}"


def test_a_serial_of_strange_letters_is_written_plainly() -> None:
    with BillingWorld(site()) as made:
        made.serial = "Zähler|7"
        made.read_meter()
        assert whole(made).text("MS") == "Zaehler/7"
        assert made.receipts()[0].facts.token == CARD.id_token
