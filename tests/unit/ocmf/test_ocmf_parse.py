"""Reading records: what is kept exactly, what is tolerated with a finding, what is refused and where."""

from __future__ import annotations

import base64
import time
from decimal import Decimal

import pytest

from agent.ocmf.errors import Code, OcmfError
from agent.ocmf.parse import RECORD_MAX_BYTES, parse
from agent.ocmf.public_key import PublicKey, parse_key
from tests.unit.ocmf.samples import START_MS, public_key, sealed, signing_key

SIGNATURE = b'{"SD":"00"}'


def record(payload: str) -> bytes:
    return b"OCMF|" + payload.encode() + b"|" + SIGNATURE


def readings(text: str) -> bytes:
    return record('{"RD":[' + text + "]}")


def test_what_was_signed_is_kept_byte_for_byte() -> None:
    payload = '{ "FV" : "1.0",\t"TT":"Größe","RD" :[] }'
    found = parse(b"\r\n " + record(payload) + b" \n")
    assert found.payload == payload.encode()
    assert found.raw == record(payload)


def test_a_bar_inside_the_payload_belongs_to_it() -> None:
    assert parse(record('{"TT":"a|b"}')).text("TT") == "a|b"


def test_our_own_record() -> None:
    found = parse(sealed())
    begin, end = found.readings
    assert (begin.at and begin.at.wall_ms, begin.at and begin.at.zone_offset_minutes) == (START_MS, 120)
    assert (begin.tx, begin.written, begin.energy_wh) == ("B", "12.340000", Decimal("12340.000"))
    assert end.energy_wh == Decimal("23340.001")
    assert found.signature.algorithm == "ECDSA-secp256r1-SHA256"
    assert found.findings == ()


def test_readings_inherit_with_a_finding() -> None:
    text = '{"TM":"2026-01-01T00:00:00,000+0000 S","TX":"B","RV":1.50,"RI":"1-b:1.8.0","RU":"kWh","ST":"G"},{"TX":"E"}'
    found = parse(readings(text))
    first, second = found.readings
    assert (second.tx, second.at, second.written, second.unit, second.status) == ("E", first.at, "1.50", "kWh", "G")
    assert [finding.code for finding in found.findings] == [Code.INHERITED]


@pytest.mark.parametrize(
    ("written", "value", "code"),
    [
        ("12.340", "12.340", None),
        ("0", "0", None),
        ("-1", "-1", None),
        ("1e3", "1E+3", None),
        ('"  49.440"', "49.440", Code.VALUE_AS_TEXT),
        ('"00000000.000"', "0.000", Code.VALUE_AS_TEXT),
        ('"many"', None, Code.VALUE_UNREADABLE),
        ('"\u0661"', None, Code.VALUE_UNREADABLE),
        ("1e999999999", None, Code.VALUE_UNREADABLE),
        ("9" * 21, None, Code.VALUE_UNREADABLE),
        ("true", None, Code.VALUE_UNREADABLE),
        ("[1]", None, Code.VALUE_UNREADABLE),
    ],
)
def test_values_keep_their_written_form(written: str, value: str | None, code: Code | None) -> None:
    found = parse(readings(f'{{"TM":"2026-01-01T00:00:00,000+0000 S","RV":{written}}}'))
    got = found.readings[0].value
    assert str(got) == str(value and Decimal(value))
    assert [finding.code for finding in found.findings] == ([] if code is None else [code])


@pytest.mark.parametrize(
    "written",
    [
        "",
        "2026-01-01",
        "2026-13-01T00:00:00,000+0000 S",
        "2026-01-01T00:00:60,000+0000 S",
        "0000-01-01T00:00:00,000+0000 S",
    ],
)
def test_a_time_that_is_none_is_a_finding(written: str) -> None:
    found = parse(readings(f'{{"TM":"{written}","RV":1}}'))
    assert found.readings[0].at is None
    assert [finding.code for finding in found.findings] == [Code.TIME_UNREADABLE]


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_the_ends_of_the_calendar_are_times(year: str) -> None:
    assert parse(readings(f'{{"TM":"{year}-12-31T23:59:59,999-9959 S","RV":1}}')).readings[0].at is not None


@pytest.mark.parametrize(
    ("data", "section", "key", "offset"),
    [
        (b"", "header", "", 0),
        (b"OCMF", "header", "", 0),
        (b"OCMF|{}", "header", "", 0),
        (b"ocmf|{}|{}", "header", "", 0),
        (b"OCMF|[]|{}", "payload", "", 5),
        (b"OCMF|{]|{}", "payload", "", 6),
        (b'OCMF|{"A":}|{}', "payload", "", 10),
        (b"OCMF|{\xff}|{}", "payload", "", 6),
        (b"OCMF|{}|{}x", "signature", "", 10),
        (b"OCMF|{}|" + b"{}|{}", "payload", "", 7),
        (b'OCMF|{"PG":"T1","PG":"T2"}|{}', "payload", "PG", 5),
        (b'OCMF|{"RD":[{"RV":1,"RV":2}]}|{}', "payload", "RV", 5),
        (b'OCMF|{}|{"SD":"00","SD":"01"}', "signature", "SD", 8),
        (b'OCMF|{"A":NaN}|{}', "payload", "", 5),
        (b'OCMF|{"A":"\\ud800"}|{}', "payload", "", 5),
        (b'OCMF|{"PG":1}|{}', "payload", "PG", 5),
        (b'OCMF|{"IS":"true"}|{}', "payload", "IS", 5),
        (b'OCMF|{"IF":"RFID"}|{}', "payload", "IF", 5),
        (b'OCMF|{"IF":[1]}|{}', "payload", "IF", 5),
        (b'OCMF|{"RD":{}}|{}', "payload", "RD", 5),
        (b'OCMF|{"RD":[1]}|{}', "payload", "RD", 5),
        (b'OCMF|{"RD":[{"TM":1}]}|{}', "payload, reading 1", "TM", 5),
        (b'OCMF|{}|{"SD":1}', "signature", "SD", 8),
        (b"OCMF|" + b"[" * 9 + b"|{}", "payload", "", 13),
        (b"OCMF|" + b"[" * 60_000 + b"|{}", "payload", "", 13),
        (b"OCMF|{}|" + b" " * RECORD_MAX_BYTES, "record", "", 0),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(data: bytes, section: str, key: str, offset: int) -> None:
    with pytest.raises(OcmfError) as caught:
        parse(data)
    error = caught.value
    assert (error.section, error.key, error.offset) == (section, key, offset)
    assert error.remedy in str(error)


def test_offsets_count_bytes_not_characters() -> None:
    with pytest.raises(OcmfError) as caught:
        parse('OCMF|{"A":"ü";}|{}'.encode())
    assert caught.value.offset == len('OCMF|{"A":"ü"'.encode())


def test_too_many_readings_are_refused() -> None:
    with pytest.raises(OcmfError, match="readings"):
        parse(readings(",".join(["{}"] * 1_001)))


def test_brackets_in_text_are_not_depth() -> None:
    assert parse(record('{"TT":"[[[[[[[[[[[[\\"[[[[[["}')).text("TT").startswith("[[")


@pytest.mark.parametrize("filling", [b'\\"', b'"', b"\\", b'{"a":', b'"[', b"0", b"1e9,"])
def test_hostile_filling_takes_no_time(filling: bytes) -> None:
    data = b'OCMF|{"A":"' + filling * (60_000 // len(filling)) + b"|{}"
    start_s = time.process_time()
    with pytest.raises(OcmfError):
        parse(data)
    assert time.process_time() - start_s < 2


# ---------------------------------------------------------------------------------------------- keys


def test_keys_in_every_form_are_one_key() -> None:
    key = signing_key()
    der = key.public_der
    spaced = " ".join(key.public_hex[at : at + 4] for at in range(0, len(key.public_hex), 4))
    forms: list[str | bytes] = [
        key.public_hex,
        key.public_hex.lower(),
        spaced,
        base64.b64encode(der).decode(),
        key.public_oca,
        f"oca:base16:asn1:{key.public_hex}",
        key.public_pem,
        key.public_pem.encode(),
        key.public_hex.encode() + b"\n",
        der,
    ]
    assert {parse_key(form) for form in forms} == {public_key()}
    point = der[-65:]
    assert {parse_key(form) for form in (point.hex(), point[1:].hex(), point, base64.b64encode(point).decode())} == {
        PublicKey(point=point)
    }


@pytest.mark.parametrize(
    "text",
    ["", "00", "zz", "oca:base16:asn1:xx", "ab" * 63, "=", "x" * 9_000, b"\xff\xfe", "-----BEGIN PUBLIC KEY-----", "ü"],
)
def test_what_is_no_key_is_refused(text: str | bytes) -> None:
    with pytest.raises(OcmfError) as caught:
        parse_key(text)
    assert caught.value.section == "key"
