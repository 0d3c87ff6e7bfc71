"""The bytes we sign: their exact form, and what is refused before it is signed."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from agent.ocmf import record
from agent.ocmf.record import SIGNED_MAX_CHARS, Draft, Identification, fits, payload, plain_text, split_readings
from agent.ocmf.sign import SigningFailed, seal
from agent.security.keys import MeteringKey
from tests.unit.ocmf.samples import PREV_HASH, draft, reading, sealed, signing_key

EXPECTED = (
    '{"FV":"1.3","GI":"evsed","GS":"EX-000123","GV":"0.1.0","PG":"T7","MV":"Eastron","MM":"SDM630","MS":"EM-0042",'
    '"IS":true,"IL":"HEARSAY","IF":["RFID_PLAIN","OCPP_WHITELIST"],"IT":"ISO14443","ID":"04A1B2C3",'
    '"TT":"0.39 EUR/kWh a1b2c3d4","CF":"0.1.0","CT":"EVSEID","CI":"DE*ABC*E0001","RD":['
    '{"TM":"2026-09-21T16:13:20,000+0200 I","TX":"B","RV":12.340000,"RI":"01-00:01.08.00*FF","RU":"kWh","RT":"AC",'
    '"EF":"","ST":"G"},'
    '{"TM":"2026-09-21T17:13:20,000+0200 I","TX":"E","RV":23.340001,"RI":"01-00:01.08.00*FF","RU":"kWh","RT":"AC",'
    '"EF":"","ST":"G"}],"UH":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}'
)


def test_the_payload_is_these_bytes() -> None:
    assert payload(draft(), "T7", PREV_HASH).decode("ascii") == EXPECTED


def test_a_record_is_the_payload_as_given_between_its_frame() -> None:
    record = sealed()
    assert record.startswith(b"OCMF|" + EXPECTED.encode() + b'|{"SA":"ECDSA-secp256r1-SHA256","SE":"hex","SD":"30')
    assert record == sealed(), "the same record is signed the same way again"


def test_what_says_nothing_is_left_out() -> None:
    bare = draft(
        **dict.fromkeys(("gateway_serial", "gateway_identification", "gateway_version", "meter_vendor"), ""),
        **dict.fromkeys(("meter_model", "tariff_text", "controller_firmware", "charge_point_id"), ""),
    )
    fields = json.loads(payload(bare, "T0", PREV_HASH))
    assert list(fields) == ["FV", "PG", "MS", "IS", "IL", "IF", "IT", "ID", "RD", "UH"]


def test_a_fiscal_record_has_neither_user_nor_transaction() -> None:
    fiscal = draft(reading(None), identification=None, tariff_text="")
    fields = json.loads(payload(fiscal, "F1", PREV_HASH))
    assert "IS" not in fields
    assert "TX" not in fields["RD"][0]


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({"energy_mwh": 0}, '"RV":0.000000,'),
        ({"energy_mwh": 1}, '"RV":0.000001,'),
        ({"energy_mwh": 10**15 - 1}, '"RV":999999999.999999,'),
        ({"wall_ms": 0, "zone_offset_minutes": -210, "time_status": "U"}, '"TM":"1969-12-31T20:30:00,000-0330 U"'),
        ({"wall_ms": 999, "zone_offset_minutes": 345}, '"TM":"1970-01-01T05:45:00,999+0545 I"'),
    ],
)
def test_numbers_and_times_are_written_exactly(changes: dict[str, Any], written: str) -> None:
    assert written in payload(draft(reading("B", **changes)), "T7", PREV_HASH).decode()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"meter_serial": ""}, "MS"),
        ({"meter_serial": "a|b"}, "MS"),
        ({"gateway_version": "ü"}, "GV"),
        ({"gateway_identification": "a\nb"}, "GI"),
        ({"meter_vendor": "x" * 81}, "MV"),
        ({"tariff_text": "x" * 251}, "TT"),
        ({"tariff_text": "0,39 €"}, "TT"),
        ({"tariff_text": "x", "format_version": "1.0", "controller_firmware": ""}, "TT"),
        ({"controller_firmware": "x" * 26}, "CF"),
        ({"controller_firmware": "x", "format_version": "1.2"}, "CF"),
        ({"format_version": "2.0"}, "FV"),
        ({"charge_point_type": ""}, "CT"),
        ({"identification": Identification(level="SURE")}, "IL"),
        ({"identification": Identification(type="CARD")}, "IT"),
        ({"identification": Identification(data="x" * 41)}, "ID"),
        ({"identification": Identification(flags=("RFID",))}, "IF"),
        ({"identification": Identification(flags=("RFID_NONE", "RFID_PLAIN"))}, "IF"),
        ({"identification": None}, "PG"),
        ({"readings": ()}, "RD"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} is "):
        payload(draft(**changes), "T7", PREV_HASH)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tx": "Q"}, "TX"),
        ({"tx": None}, "TX"),
        ({"tx": ""}, "TX"),
        ({"energy_mwh": -1}, "RV"),
        ({"energy_mwh": 10**15}, "RV"),
        ({"wall_ms": -1}, "TM"),
        ({"time_status": "Z"}, "TM"),
        ({"zone_offset_minutes": 841}, "TM"),
        ({"obis": "a|b"}, "RI"),
        ({"current_type": "ac"}, "RT"),
        ({"error_flags": "tE"}, "EF"),
        ({"status": ""}, "ST"),
    ],
)
def test_a_bad_reading_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} is "):
        payload(draft(replace(reading("B"), **changes)), "T7", PREV_HASH)


@pytest.mark.parametrize("number", ["", "T", "T01", "X1", "T-1", "T1 ", "T\u0661", "F7", "T1000000000000"])
def test_a_bad_number_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match=r"^PG is "):
        payload(draft(), number, PREV_HASH)


def test_the_previous_hash_has_its_length() -> None:
    with pytest.raises(ValueError, match=r"^UH "):
        payload(draft(), "T7", bytes(31))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("0,39 €/kWh", "0,39 EUR/kWh"),
        ("Größe", "Groesse"),
        ("crème brûlée", "creme brulee"),
        ("a|b\nc\x1bd", "a/b c?d"),
        ("電", "?"),
        ("abcdef", "abcde"),
    ],
)
def test_free_text_becomes_plain(text: str, plain: str) -> None:
    limit_chars = 5 if text == "abcdef" else 80
    assert plain_text(text, limit_chars) == plain


def test_a_long_transaction_is_split_in_order_and_every_part_fits() -> None:
    readings = (reading("B"), *(reading("T", n) for n in range(1, 40)), reading("E", 60, 23_340_001))
    whole = draft(*readings)
    assert not fits(whole)
    parts = split_readings(whole)
    assert len(parts) > 1
    assert tuple(one for part in parts for one in part.readings) == readings
    for part in parts:
        assert len(base64.b64encode(sealed(part, "T999999999999"))) <= SIGNED_MAX_CHARS
        assert len(part.readings) >= 8 or part is parts[-1]


def test_a_thousand_readings_are_not_written_a_thousand_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop waits for it, and a watchdog for that: 184 s it once took, and again after every restart."""
    written: list[int] = []

    def counted(part: Draft, pagination: str, prev_hash: bytes) -> bytes:
        written.append(len(part.readings))
        assert sum(written) < 20_000
        return payload(part, pagination, prev_hash)

    monkeypatch.setattr(record, "payload", counted)
    readings = (reading("B"), *(reading("T", n) for n in range(1, 999)), reading("E", 999, 23_340_001))
    parts = split_readings(draft(*readings))
    assert tuple(one for part in parts for one in part.readings) == readings


def test_fits_is_exact_at_the_limit() -> None:
    """Not more cautious than the longest signature and number ask for."""
    longest = len(payload(draft(), "T999999999999", PREV_HASH)) + 144 + len(sealed().split(b"|")[2].split(b'"SD":')[0])
    signed_bytes = longest + len('OCMF||"SD":""}')
    limit_chars = -(-signed_bytes // 3) * 4
    assert fits(draft(), limit_chars)
    assert not fits(draft(), limit_chars - 1)


def test_one_reading_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="one reading"):
        split_readings(draft(reading("B")), 400)


class OtherKey:
    """A secure element that signs with another key than it shows."""

    def __init__(self, signer: MeteringKey, shown: bytes) -> None:
        self._signer, self._shown = signer, shown

    @property
    def public_der(self) -> bytes:
        return self._shown

    def sign(self, data: bytes) -> bytes:
        return self._signer.sign(data + b" ")


def test_a_signature_that_does_not_verify_is_never_sealed() -> None:
    with pytest.raises(SigningFailed, match="does not verify"):
        seal(b"{}", OtherKey(signing_key(), signing_key().public_der))
    with pytest.raises(SigningFailed):
        seal(b"{}", OtherKey(signing_key(), b"no key"))


def test_a_key_on_another_curve_does_not_seal() -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, derive_private_key

    with pytest.raises(SigningFailed, match="P-256"):
        seal(b"{}", MeteringKey(derive_private_key(5, SECP384R1())))


def test_a_bar_in_the_payload_is_not_sealed() -> None:
    with pytest.raises(ValueError, match=r"'\|'"):
        seal(b"{|}", signing_key())
