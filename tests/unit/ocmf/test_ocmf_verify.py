"""Two verdicts: published records, every billing rule, every answer on a signature."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.ocmf.curves import SignatureState
from agent.ocmf.errors import Code
from agent.ocmf.parse import parse
from agent.ocmf.public_key import PublicKey, parse_key
from agent.ocmf.record import Identification, split_readings
from agent.ocmf.verify import billed, verify, verify_pair, verify_sequence
from tests.unit.ocmf.samples import draft, named_vector, public_key, reading, sealed, signing_key, vector, vector_files

BILLABLE = {"01", "02", "03", "15", "19", "20", "21"}
REJECTED = {"02": SignatureState.INVALID, "10": SignatureState.CURVE_MISMATCH, "13": SignatureState.INVALID}


@pytest.mark.parametrize("file", vector_files())
def test_published_records(file: Path) -> None:
    found = vector(file)
    verdict = verify(found["record"].encode(), parse_key(found["public_key"]))
    number = file.name[:2]
    assert verdict.signature.state is REJECTED.get(number, SignatureState.VALID)
    assert verdict.signature.valid is found["signature_valid"]
    assert verdict.billable is (number in BILLABLE)
    assert hashlib.sha256(verdict.record.payload).hexdigest() == found["signed_bytes_sha256"]


def test_a_genuine_record_of_a_meter_in_error_is_not_billable() -> None:
    found = named_vector("14")
    verdict = verify(found["record"].encode(), parse_key(found["public_key"]))
    assert verdict.signature.valid
    assert not verdict.good
    assert {finding.code for finding in verdict.findings if finding.blocks} == {Code.METER_STATE, Code.ENERGY_UNUSABLE}


def test_a_published_pair_is_billable_together() -> None:
    begin, end = named_vector("08"), named_vector("09")
    first, last = begin["record"].encode(), end["record"].encode()
    assert verify_pair(first, last, parse_key(begin["public_key"])).good
    assert not verify_pair(last, first, parse_key(begin["public_key"])).billable


def test_ours_is_good_and_says_only_that_the_clock_is_not_certified() -> None:
    verdict = verify(sealed(), public_key())
    assert verdict.good
    assert [(finding.code, finding.blocks) for finding in verdict.findings] == [(Code.TIME_STATUS, False)]
    readings = billed(verdict.record)
    assert readings is not None
    assert [one.tx for one in readings] == ["B", "E"]


def test_a_session_without_energy_is_billable() -> None:
    assert verify(sealed(draft(reading("B"), reading("E", 1))), public_key()).good


# ----------------------------------------------------------------------------------------- signature

PAYLOAD = '{"FV":"1.0","PG":"T1","GS":"1","IS":false,"IT":"NONE","RD":[]}'
CURVES: dict[str, ec.EllipticCurve] = {
    "ECDSA-secp256k1-SHA256": ec.SECP256K1(),
    "ECDSA-secp256r1-SHA256": ec.SECP256R1(),
    "ECDSA-secp384r1-SHA256": ec.SECP384R1(),
    "ECDSA-brainpool256r1-SHA256": ec.BrainpoolP256R1(),
    "ECDSA-brainpoolP256r1-SHA256": ec.BrainpoolP256R1(),
    "ECDSA-brainpool384r1-SHA256": ec.BrainpoolP384R1(),
    "ECDSA-brainpoolP384r1-SHA256": ec.BrainpoolP384R1(),
}


def made(
    algorithm: str, raw: bool = False, encoding: str = "hex", section: dict[str, str] | None = None
) -> tuple[bytes, PublicKey, bytes]:
    """A record signed on any curve; the key as DER and as bare X,Y."""
    curve = CURVES[algorithm]
    private = ec.derive_private_key(1234567, curve)
    signature = private.sign(PAYLOAD.encode(), ec.ECDSA(SHA256(), deterministic_signing=True))
    if raw:
        size = curve.key_size // 8
        signature = b"".join(part.to_bytes(size, "big") for part in decode_dss_signature(signature))
    written = signature.hex() if encoding == "hex" else base64.b64encode(signature).decode()
    fields = {"SA": algorithm, "SE": encoding, "SD": written} | (section or {})
    public = private.public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return f"OCMF|{PAYLOAD}|{json.dumps(fields)}".encode(), PublicKey(der=der), point


def state(record: bytes, key: PublicKey | None) -> SignatureState:
    return verify(record, key).signature.state


@pytest.mark.parametrize("algorithm", CURVES)
@pytest.mark.parametrize("raw", [False, True], ids=["der", "raw"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_every_algorithm_in_every_form(algorithm: str, raw: bool, encoding: str) -> None:
    record, key, point = made(algorithm, raw, encoding)
    assert state(record, key) is SignatureState.VALID
    assert state(record, parse_key(point[1:].hex())) is SignatureState.VALID
    assert state(record, parse_key(point)) is SignatureState.VALID
    assert state(record.replace(b'"T1"', b'"T2"'), key) is SignatureState.INVALID


def test_the_other_answers() -> None:
    record, _, _ = made("ECDSA-secp256r1-SHA256")
    _, other, other_point = made("ECDSA-secp256k1-SHA256")
    assert state(record, None) is SignatureState.NO_KEY
    assert state(record, PublicKey(der=b"\x30\x00")) is SignatureState.NO_KEY
    assert state(record, other) is SignatureState.CURVE_MISMATCH
    assert state(record, PublicKey(point=other_point)) is SignatureState.CURVE_MISMATCH
    assert state(record, PublicKey(point=b"\x04" + bytes(96))) is SignatureState.CURVE_MISMATCH
    assert state(record, public_key()) is SignatureState.INVALID


def test_a_record_cannot_choose_the_curve_of_the_key() -> None:
    record, _, _ = made("ECDSA-secp256k1-SHA256")
    _, key, _ = made("ECDSA-secp256r1-SHA256")
    assert state(record, key) is SignatureState.CURVE_MISMATCH


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"SA": "ECDSA-secp192k1-SHA256"}, SignatureState.UNSUPPORTED_ALGORITHM),
        ({"SA": "ED25519"}, SignatureState.UNSUPPORTED_ALGORITHM),
        ({"SA": "ECDSA-secp256r1-SHA1"}, SignatureState.UNSUPPORTED_ALGORITHM),
        ({"SM": "text/plain"}, SignatureState.UNSUPPORTED_ALGORITHM),
        ({"SE": "base32"}, SignatureState.MALFORMED),
        ({"SD": ""}, SignatureState.MALFORMED),
        ({"SD": "0"}, SignatureState.MALFORMED),
        ({"SD": "xy"}, SignatureState.MALFORMED),
        ({"SD": "00" * 63}, SignatureState.MALFORMED),
        ({"SD": "00" * 600}, SignatureState.MALFORMED),
        ({"SE": "base64", "SD": "===="}, SignatureState.MALFORMED),
        ({"SD": "00" * 64}, SignatureState.INVALID),
        ({"SD": "ff" * 64}, SignatureState.INVALID),
        ({"SD": "3006020100020100"}, SignatureState.INVALID),
    ],
)
def test_bad_signature_sections(section: dict[str, str], expected: SignatureState) -> None:
    record, key, _ = made("ECDSA-secp256r1-SHA256", section=section)
    assert state(record, key) is expected


# ------------------------------------------------------------------------------------------- billing


def changed(record: bytes, *replacements: tuple[str, str]) -> list[Code]:
    """What blocks a bill after these changes of the text (the signature is another matter)."""
    for old, new in replacements:
        assert old.encode() in record
        record = record.replace(old.encode(), new.encode())
    return [finding.code for finding in verify(record, None).findings if finding.blocks]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('"FV":"1.3",', "", Code.FORMAT_VERSION),
        ('"FV":"1.3"', '"FV":"2.0"', Code.FORMAT_VERSION),
        ('"PG":"T7"', '"PG":"T07"', Code.PAGINATION),
        ('"PG":"T7",', "", Code.PAGINATION),
        ('"PG":"T7"', '"PG":"F7"', Code.FISCAL),
        ('"IS":true,', "", Code.USER_MISSING),
        ('"HEARSAY"', '"MISMATCH"', Code.IDENTIFICATION_ERROR),
        ('"HEARSAY"', '"UNKNOWN"', Code.IDENTIFICATION_ERROR),
        ('"TX":"B"', '"TX":"C"', Code.BEGIN_MISSING),
        ('"TX":"E"', '"TX":"C"', Code.END_MISSING),
        ('"TX":"E"', '"TX":"B"', Code.END_MISSING),
        ('"TX":"B",', "", Code.WORD_UNKNOWN),
        ("12.340000", '"x"', Code.VALUE_UNREADABLE),
        ("12.340000", "-12.340000", Code.VALUE_NEGATIVE),
        ("12.340000", "23.340002", Code.ENERGY_BACKWARDS),
        ("T16:13:20,000+0200 I", "T17:13:20,001+0200 I", Code.TIME_BACKWARDS),
        ("T16:13:20,000+0200 I", "T16:13:20,000+0200 R", Code.TIME_STATUS),
        ("T16:13:20,000+0200 I", "T16:13:20,000+0200 Z", Code.TIME_STATUS),
        ("T16:13:20,000+0200 I", "T16:13:20", Code.TIME_UNREADABLE),
        ("01-00:01.08.00*FF", "01-00:10.07.00*FF", Code.OBIS),
        ('"RI":"01-00:01.08.00*FF",', "", Code.OBIS),
        ('"RU":"kWh"', '"RU":"mOhm"', Code.UNIT),
    ],
)
def test_each_rule_has_its_finding(old: str, new: str, code: Code) -> None:
    assert code in changed(sealed(), (old, new))


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"status": "M"}, [Code.METER_STATE]),
        ({"error_flags": "E"}, [Code.ENERGY_UNUSABLE]),
        ({"error_flags": "Et"}, [Code.ENERGY_UNUSABLE]),
        ({"error_flags": "t"}, []),
        ({"time_status": "R"}, []),
        ({"tx": "P"}, []),
        ({"energy_mwh": 12_339_999}, [Code.ENERGY_BACKWARDS]),
        ({"wall_ms": 0}, [Code.TIME_BACKWARDS]),
        ({"obis": "01-00:B2.08.00*FF"}, [Code.END_MISSING, Code.BEGIN_MISSING]),
    ],
)
def test_an_end_reading(changes: dict[str, Any], codes: list[Code]) -> None:
    record = sealed(draft(reading("B"), replace(reading("E", 60, 23_340_000), **changes)))
    assert [finding.code for finding in verify(record, None).findings if finding.blocks] == codes


def blocking(*readings: Any) -> list[Code]:
    return [finding.code for finding in verify(sealed(draft(*readings)), None).findings if finding.blocks]


def test_middle_readings() -> None:
    begin, end = reading("B"), reading("E", 60, 20_000_000)
    assert blocking(begin, reading("T", 30, 15_000_000), end) == []
    assert blocking(begin, reading("T", 30, 21_000_000), end) == [Code.ENERGY_BACKWARDS]
    assert blocking(begin, reading("T", 90, 15_000_000), end) == [], "a clock set back between blocks nothing"
    assert blocking(begin, reading("C", 30, 15_000_000, error_flags="E"), end) == []
    assert blocking(begin, reading("C", 30, 15_000_000, status="T"), end) == [Code.METER_STATE]
    assert blocking(begin, reading("X", 30, 15_000_000), end) == [Code.EXCEPTION]
    assert blocking(begin, begin, end) == [Code.READING_ORDER]
    assert blocking(begin, end, end) == [Code.READING_ORDER]
    assert blocking(reading("C"), begin, end) == [Code.READING_ORDER]
    assert blocking(begin, end, reading("C", 61, 20_000_000)) == [Code.READING_ORDER]


def test_where_a_compensated_register_is_only_it_counts() -> None:
    compensated = {"obis": "01-00:B3.08.00*FF"}
    falling = reading("B", 0, 9_000_000), reading("E", 60, 8_000_000)
    assert blocking(*falling) == [Code.ENERGY_BACKWARDS]
    assert blocking(*falling, reading("B", 0, 0, **compensated), reading("E", 60, 1, **compensated)) == []


def test_units_must_agree() -> None:
    record = sealed().replace(
        b'"RV":12.340000,"RI":"01-00:01.08.00*FF","RU":"kWh"', b'"RV":12340,"RI":"01-00:01.08.00*FF","RU":"Wh"'
    )
    assert changed(record) == [Code.UNIT]


def test_losses_and_event_counters() -> None:
    assert Code.LOSS in changed(sealed(), ('"RV":12.34', '"CL":0.1,"RV":12.34'))
    counted = ('"RV":12.34', '"EI":7,"RV":12.34'), ('"RV":23.34', '"EI":8,"RV":23.34')
    assert changed(sealed(), *counted) == [Code.EVENT_COUNTER]
    assert changed(sealed(), counted[0], ('"RV":23.34', '"EI":7,"RV":23.34')) == []


def test_notes_do_not_block() -> None:
    record = sealed(draft(format_version="1.4"))
    notes = {finding.code for finding in verify(record, None).findings}
    assert notes == {Code.FORMAT_VERSION, Code.TIME_STATUS}
    unknown = record.replace(b'"HEARSAY"', b'"MAYBE"').replace(b"RFID_PLAIN", b"MAGIC").replace(b"ISO14443", b"CARD")
    verdict = verify(unknown, None)
    assert verdict.billable
    assert [finding.code for finding in verdict.findings].count(Code.WORD_UNKNOWN) == 3


# --------------------------------------------------------------------------------- pairs and sequences


def test_a_transaction_in_two_records() -> None:
    readings = (reading("B"), *(reading("T", n, 13_000_000) for n in range(1, 14)), reading("E", 60, 23_000_000))
    first, last = split_readings(draft(*readings))
    pair = verify_pair(sealed(first, "T7"), sealed(last, "T8"), public_key())
    assert pair.good
    assert not verify(sealed(first), public_key()).billable
    readings_billed = billed(pair.begin.record, pair.end.record)
    assert readings_billed is not None
    assert readings_billed[1].written == "23.000000"


@pytest.mark.parametrize(
    ("end", "pagination", "code"),
    [
        (draft(reading("E", 60, 12_000_000)), "T8", Code.ENERGY_BACKWARDS),
        (draft(reading("E", -1, 23_000_000)), "T8", Code.TIME_BACKWARDS),
        (draft(reading("E", 60, 23_000_000)), "T7", Code.PAGINATION_ORDER),
        (draft(reading("E", 60, 23_000_000), meter_serial="EM-0043"), "T8", Code.PAIR_MISMATCH),
        (draft(reading("E", 60, 23_000_000), gateway_serial=""), "T8", Code.PAIR_MISMATCH),
        (draft(reading("E", 60, 23_000_000), identification=Identification(data="04")), "T8", Code.PAIR_MISMATCH),
        (draft(reading("E", 60, 23_000_000, obis="1-b:1.8.0")), "T8", Code.PAIR_MISMATCH),
        (draft(reading("B"), reading("E", 60, 23_000_000)), "T8", Code.READING_ORDER),
        (draft(reading("C", 60, 23_000_000)), "T8", Code.END_MISSING),
    ],
)
def test_a_pair_that_does_not_fit(end: Any, pagination: str, code: Code) -> None:
    pair = verify_pair(sealed(draft(reading("B"))), sealed(end, pagination), public_key())
    assert pair.signed
    assert not pair.billable
    found = [finding.code for finding in (*pair.findings, *pair.end.findings) if finding.blocks]
    assert code in found


def test_a_pair_where_begin_is_relative_and_end_is_not() -> None:
    begin, end = sealed(draft(reading("B", time_status="R"))), sealed(draft(reading("E", 60)), "T8")
    assert [finding.code for finding in verify_pair(begin, end, public_key()).findings] == [Code.TIME_STATUS]


def numbered(*numbers: str) -> list[bytes]:
    return [sealed(draft(reading("B", at), reading("E", at + 1)), number) for at, number in enumerate(numbers)]


@pytest.mark.parametrize(
    ("numbers", "codes"),
    [
        (("T1", "T2", "T3"), []),
        (("T1", "T3"), [Code.PAGINATION_GAP]),
        (("T1", "T2", "T2"), [Code.PAGINATION_TWICE]),
        (("T1", "T2", "T3", "T1"), [Code.PAGINATION_TWICE]),
        (("T2", "T1"), [Code.PAGINATION_ORDER]),
    ],
)
def test_numbers_of_a_sequence(numbers: tuple[str, ...], codes: list[Code]) -> None:
    assert [finding.code for finding in verify_sequence(numbered(*numbers))] == codes


def test_a_sequence_names_what_is_missing_and_what_is_forged() -> None:
    assert "T2 to T4" in verify_sequence(numbered("T1", "T5"))[0].text
    same, forged = verify_sequence([sealed(), sealed()]), verify_sequence(numbered("T1", "T1"))
    assert (same[0].blocks, forged[0].blocks) == (False, True)


def test_contexts_and_signers_count_apart() -> None:
    fiscal = sealed(draft(reading(None), identification=None, tariff_text=""), "F9")
    other = sealed(draft(gateway_serial="EX-2"), "T4")
    assert verify_sequence([*numbered("T1"), fiscal, other, *numbered("T1", "T2")[1:]]) == ()


def test_later_numbers_have_later_times() -> None:
    late, early = (
        sealed(draft(reading("B", 10), reading("E", 20)), "T1"),
        sealed(draft(reading("B"), reading("E", 1)), "T2"),
    )
    assert [finding.code for finding in verify_sequence([late, early])] == [Code.TIME_BACKWARDS]


def test_signing_and_reading_agree_on_the_key() -> None:
    assert parse_key(signing_key().public_oca) == public_key()
    assert parse(sealed()).text("UH") == bytes(range(32)).hex()
