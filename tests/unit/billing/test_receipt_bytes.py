"""The bytes of a receipt: fixed, whole, and never to be taken for something else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.billing import receipt
from agent.billing.account import with_fewer_periods
from agent.billing.errors import ReceiptError
from agent.billing.facts import Operator, TariffUsed
from agent.billing.read import SEALED_MAX_BYTES, parse
from agent.billing.receipt import payload, seal
from agent.billing.seal import as_json, from_json, opened, signed_by
from agent.billing.verdicts import State, verify
from agent.ledger.rows import BODY_MAX_BYTES
from agent.ocmf.parse import parse as parse_record
from agent.ocmf.public_key import PublicKey
from agent.ocmf.sign import SigningFailed
from agent.ocmf.sign import seal as seal_record
from agent.ocmf.verify import verify as verify_record
from agent.tariff.fold import Session
from agent.tariff.parse import parse_tariff
from agent.tariff.usage import Activity, Period, Point, Register
from tests.unit.billing import making
from tests.unit.billing.making import KEY, OTHER_KEY, TARIFF

PUBLIC = PublicKey(der=KEY.public_der)


def resealed(sealed: bytes, change: Any) -> bytes:
    """The receipt with its payload changed, signed again by the true key."""
    plain = json.loads(opened(sealed)[0])
    change(plain)
    return seal(receipt.written(plain), KEY)


def test_reads_back_what_was_written() -> None:
    usage = making.used((TARIFF,))
    of = making.facts(usage=usage)
    found = parse(making.sealed(of, usage))
    assert (found.facts, found.usage, found.bill) == (of, usage, making.billed(of, usage))
    assert (found.number, found.seq, found.prev_hash) == (17, 314, bytes(range(32)).hex())
    assert found.records == (making.record(of),)


def test_is_the_same_bytes_for_the_same_transaction() -> None:
    assert making.sealed() == making.sealed()


def test_is_one_line_of_ascii_with_two_bars() -> None:
    of = making.facts(operator=Operator(name="Schön | Grün €\n\u2028", address="|||"))
    sealed = making.sealed(of, making.used((TARIFF,)))
    assert sealed.isascii()
    assert sealed.count(b"|") == 2
    assert b"\n" not in sealed
    assert parse(sealed).facts.operator == of.operator


def test_golden_frame() -> None:
    sealed = making.sealed()
    head = b'EVSED-RECEIPT|{"format":"evsed receipt 1","number":17,"ledger":{"seq":314,"prev_hash":"000102'
    assert sealed.startswith(head)
    assert b'|{"SA":"ECDSA-secp256r1-SHA256","SE":"hex","SD":"30' in sealed
    assert list(json.loads(opened(sealed)[0])) == [
        *("format", "number", "ledger", "operator", "place", "software", "tx_id", "local_number", "token", "group"),
        *("stop_reason", "payment_reference", "begin", "end", "begin_mwh", "end_mwh", "unassigned_before_mwh"),
        *(
            "time_zone",
            "tzdata",
            "public_key",
            "record_key",
            "flags",
            "bounds",
            "tariffs",
            "usage",
            "bill",
            "left_out",
            "records",
        ),
    ]


def test_the_json_form_is_json_and_the_same_bytes() -> None:
    sealed = making.sealed(making.facts(group='a","signature":{'), making.used((TARIFF,)))
    form = as_json(sealed)
    assert json.loads(form)["payload"]["number"] == 17
    assert from_json(form) == sealed


# --------------------------------------------------------------------------- signatures do not mix


def test_a_receipts_signature_is_none_of_a_record() -> None:
    payload_bytes, signature = opened(making.sealed())
    section = f'{{"SA":"ECDSA-secp256r1-SHA256","SE":"hex","SD":"{signature.hex()}"}}'.encode()
    assert not verify_record(b"OCMF|" + payload_bytes + b"|" + section, PUBLIC).signature.valid


def test_a_records_signature_is_none_of_a_receipt() -> None:
    payload_bytes, _ = opened(making.sealed())
    record = seal_record(payload_bytes, KEY)
    assert verify_record(record, PUBLIC).signature.valid
    signature = bytes.fromhex(parse_record(record).signature.data)
    assert not signed_by(payload_bytes, signature, KEY.public_der)


def test_seal_refuses_a_key_that_signs_with_another() -> None:
    class Broken:
        public_der = OTHER_KEY.public_der

        def sign(self, data: bytes) -> bytes:
            return KEY.sign(data)

    with pytest.raises(SigningFailed):
        seal(b"{}", Broken())


@pytest.mark.parametrize("bad", [b"{|}", "{ü}".encode()])
def test_seal_refuses_what_could_not_be_read(bad: bytes) -> None:
    with pytest.raises(ValueError, match="ASCII"):
        seal(bad, KEY)


# ------------------------------------------------------------------------------- bytes of strangers

SEALED = making.sealed()
PAYLOAD, _SIGNATURE = opened(SEALED)


@pytest.mark.parametrize(
    ("place", "data"),
    [
        ("frame", b""),
        ("frame", b"EVSED-RECEIPT"),
        ("frame", b"EVSED-RECEIPT|{}"),
        ("frame", b"OCMF|{}|{}"),
        ("frame", SEALED + b"|"),
        ("frame", b" " + SEALED),
        ("signature section", SEALED + b" "),
        ("signature section", SEALED + b"\n\n"),
        ("signature section", SEALED[:-4] + SEALED[-4:].lower().replace(b'"', b'a"')),
        ("file", b"x" * (SEALED_MAX_BYTES + 2)),
    ],
)
def test_names_the_place_in_the_frame(place: str, data: bytes) -> None:
    with pytest.raises(ReceiptError) as caught:
        parse(data)
    assert caught.value.place == place


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"a":NaN}', "[" * 100_000, '{"a":1.5}', '{"a":1' + "0" * 400 + "}"]
)
def test_names_the_payload_when_it_is_no_json_of_ours(text: str) -> None:
    with pytest.raises(ReceiptError) as caught:
        parse(seal(text.encode(), KEY))
    assert caught.value.place in ("payload", "format")


def _set(*path: Any, to: Any) -> Any:
    def change(plain: Any) -> None:
        for step in path[:-1]:
            plain = plain[step]
        plain[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (_set("format", to="evsed receipt 2"), "format"),
        (_set("extra", to=1), "payload"),
        (lambda plain: plain.pop("token"), "token"),
        (_set("number", to=-1), "number"),
        (_set("number", to=True), "number"),
        (_set("number", to="17"), "number"),
        (_set("ledger", to=None), "ledger"),
        (_set("ledger", "prev_hash", to="xy"), "ledger"),
        (_set("ledger", "more", to=1), "ledger"),
        (_set("begin_mwh", to="5"), "begin_mwh"),
        (_set("begin_mwh", to=True), "begin_mwh"),
        (_set("token", to=5), "token"),
        (_set("flags", "offline", to=1), "flags"),
        (_set("flags", "more", to=True), "facts"),
        (_set("begin", "wall_ms", to=-1), "begin"),
        (_set("begin", "wall_ms", to=2**62), "begin"),
        (_set("end", "offset_minutes", to=100_000), "end"),
        (_set("tariffs", to="none"), "facts"),
        (_set("records", to="OCMF"), "records"),
        (_set("records", 0, to=7), "records"),
        (_set("records", 0, to="\ud800"), "records"),
        (_set("left_out", to=[1]), "left_out"),
        (_set("usage", to=[]), "usage"),
        (_set("usage", "periods", "rows", 0, 0, to="0"), "usage"),
        (_set("usage", "periods", "rows", 0, 2, to=-1), "usage"),
        (_set("usage", "periods", "rows", 0, 4, to=7), "usage"),
        (_set("usage", "volumes", 0, "tariff", to=7), "usage"),
        (_set("usage", "volumes", 0, "price", to=-1), "usage"),
        (_set("usage", "volumes", 0, "dimension", to="gold"), "usage"),
        (_set("bill", to=[]), "bill"),
        (_set("bill", "currency", to="XXX"), "bill"),
        (_set("bill", "total_incl", to="7.910"), "bill"),
        (_set("bill", "total_incl", to=7), "bill"),
        (_set("bill", "total_incl", to="1e3"), "bill"),
        (_set("bill", "lines", 0, "description", to=5), "bill"),
        (_set("bill", "lines", 0, "unit_price", to="0.390"), "bill"),
        (_set("bill", "taxes", 0, "type", to=None), "bill"),
        (_set("bill", "final", to=1), "bill"),
        (_set("bill", "rounding", to="UP"), "bill"),
    ],
)  # fmt: skip
def test_refuses_what_we_would_not_write_even_when_it_is_signed(change: Any, place: str) -> None:
    with pytest.raises(ReceiptError) as caught:
        parse(resealed(SEALED, change))
    assert caught.value.place == place


def test_refuses_another_spelling_of_the_same_json() -> None:
    for again in (
        PAYLOAD + b" ",
        PAYLOAD.replace(b'"number":17', b'"number": 17'),
        PAYLOAD.replace(b"EX-", b"\\u0045X-"),
    ):
        with pytest.raises(ReceiptError):
            parse(seal(again, KEY))


def test_refuses_a_key_that_stands_twice() -> None:
    with pytest.raises(ReceiptError):
        parse(seal(PAYLOAD.replace(b'"number":17', b'"number":16,"number":17'), KEY))


# ------------------------------------------------------------------------------------ always fits


def _flapping(points: int) -> Any:
    """A session whose power crosses the bound between two prices at every point; the dearer one has a step."""
    energy = [{"priceKwh": 0.5, "stepSize": 1000, "conditions": {"minPower": 7_000}}, {"priceKwh": 0.3}]
    tariff = TARIFF | {"energy": {"prices": energy}}
    session = Session(parse_tariff(json.dumps(tariff)), zone="UTC", evse_kind="AC")
    for at in range(points):
        at_ms, power_mw = 60_000 * at, 8_000_000 if at % 2 else 3_000_000
        register = Register(at_ms, making.BEGIN_MWH + 50_000 * at, power_mw)
        session.add(Point(at_ms, making.BEGIN_WALL_MS + at_ms, Activity.CHARGING, register))
    return (tariff,), session.usage()


def test_joins_periods_when_there_are_too_many() -> None:
    tariffs, usage = _flapping(4_000)
    of = making.facts(tariffs, usage)
    sealed = making.sealed(of, usage)
    found = parse(sealed)
    assert len(sealed) <= BODY_MAX_BYTES
    assert found.left_out == ("periods",)
    assert found.bill == making.billed(of, usage)
    assert {each.name for each in verify(found, PUBLIC) if each.state is not State.GOOD} == set()


@pytest.mark.parametrize("points", [8, 9])
def test_joined_periods_keep_every_sum_and_the_bill(points: int) -> None:
    tariffs, usage = _flapping(points)
    fewer = with_fewer_periods(usage)
    of = making.facts(tariffs, usage)
    assert len(usage.periods) == points - 1
    assert len(fewer.periods) < len(usage.periods)
    for name in ("energy_mwh", "charging_ms", "idle_ms", "unbilled_ms", "estimated_split"):
        assert getattr(fewer, name) == getattr(usage, name)
    assert making.billed(of, fewer) == making.billed(of, usage)


def test_the_last_period_of_each_dimension_is_not_joined() -> None:
    """A step size applies to the price used last: the first period's price, used again in the last."""
    one = Period(0, 1, 0, 1, 0, 0, None, None, energy_mwh=5)
    two = replace(one, energy=1)
    usage = replace(making.used((TARIFF,)), periods=(one, two, one, two, replace(one, energy_mwh=0)))
    fewer = with_fewer_periods(usage)
    assert [(period.energy, period.energy_mwh) for period in fewer.periods] == [(0, 10), (1, 5), (1, 5)]


def test_leaves_out_texts_of_tariffs_then_records_then_the_account() -> None:
    usage = making.used((TARIFF,))
    of = making.facts(usage=usage)
    padded = [TariffUsed(content_hash="00", tariff_id="t", text="x" * 60_000) for _ in range(5)]
    line = payload(
        replace(of, tariffs=(*of.tariffs, *padded)),
        usage,
        None,
        seq=1,
        prev_hash=bytes(32),
        number=1,
        records=["a"] * 9,
    )
    assert json.loads(line)["left_out"] == ["periods", "tariff_texts"]
    assert len(json.loads(line)["records"]) == 9

    records = ["x" * 60_000, *["y" * 60_000] * 8, "z"]
    line = payload(of, usage, None, seq=1, prev_hash=bytes(32), number=1, records=records)
    assert json.loads(line)["left_out"] == ["periods", "tariff_texts", "records"]
    assert json.loads(line)["records"] == [records[0], "z"]

    many = tuple(TariffUsed(content_hash="0" * 64, tariff_id="t" * 60, text=None) for _ in range(3_000))
    line = payload(replace(of, tariffs=many), usage, None, seq=1, prev_hash=bytes(32), number=1, records=["a"])
    assert json.loads(line)["left_out"] == ["periods", "tariff_texts", "records", "account"]
    assert parse(seal(line, KEY)).usage is None


def test_says_when_not_even_that_is_enough() -> None:
    with pytest.raises(ValueError, match="at most"):
        payload(making.facts(token="x" * 300_000), None, None, seq=1, prev_hash=bytes(32), number=1, records=[])
