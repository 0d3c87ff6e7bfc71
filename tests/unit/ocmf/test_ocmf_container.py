"""The XML container and the OCPP wrapping: there and back, and nothing a stranger's file can do."""

from __future__ import annotations

import base64
import json

import pytest

from agent.ocmf.container import FILE_MAX_BYTES, SafeValue, is_container, read_container, write_container
from agent.ocmf.errors import OcmfError
from agent.ocmf.ocpp import read_signed_value, signed_value_16, signed_value_21, signed_value_201
from tests.unit.ocmf.samples import sealed, signing_key


def value(data: str, attributes: str = "", key: str = "") -> bytes:
    return f"<values><value><signedData {attributes}>{data}</signedData>{key}</value></values>".encode()


def test_there_and_back() -> None:
    values = (
        SafeValue(signed=sealed(), public_key=signing_key().public_hex, transaction_id=7, context="Transaction.Begin"),
        SafeValue(signed='OCMF|{"TT":"<&> \\"ü\\" ]]>"}|{}'.encode()),
    )
    written = write_container(values)
    assert is_container(written)
    assert read_container(written) == values
    assert b'<signedData format="OCMF" encoding="plain">OCMF|' in written


@pytest.mark.parametrize(
    "bad",
    [
        SafeValue(signed=b"OCMF|\n|"),
        SafeValue(signed=b"", public_key="<x>"),
        SafeValue(signed=b"", transaction_id=-1),
        SafeValue(signed=b"", context='"'),
    ],
)
def test_what_would_not_survive_is_not_written(bad: SafeValue) -> None:
    with pytest.raises(ValueError):
        write_container([bad])


@pytest.mark.parametrize(
    ("data", "attributes"),
    [
        ("\n  OCMF|a|b\n ", ""),
        ("OCMF|a|b", 'format="ocmf" encoding="plain"'),
        (b"OCMF|a|b".hex(), 'encoding="hex"'),
        ("4F434D46\n 7C617C62", 'format="OCMF" encoding="HEX"'),
        (base64.b64encode(b"OCMF|a|b").decode(), 'encoding="base64"'),
        ("<![CDATA[OCMF|a|b]]>", ""),
    ],
)
def test_encodings(data: str, attributes: str) -> None:
    assert read_container(value(data, attributes))[0].signed == b"OCMF|a|b"


def test_keys_lose_their_white_space_and_namespaces_do_not_matter() -> None:
    inside = "<s:value><s:signedData>a</s:signedData><s:publicKey>30\n 59</s:publicKey></s:value>"
    assert read_container(f"<s:values xmlns:s='x'>{inside}</s:values>".encode())[0].public_key == "3059"


def test_what_the_file_says_of_its_encoding_does_not_count() -> None:
    data = b"<?xml version='1.0' encoding='latin-1'?>" + value("\u00fc")
    assert read_container(data)[0].signed == "\u00fc".encode()


BOMB = (
    b'<!DOCTYPE v [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><values><value><signedData>&b;</signedData></value></values>'
)
OUTSIDE = b'<!DOCTYPE v [<!ENTITY a SYSTEM "file:///etc/hostname">]><values><value><signedData>&a;</signedData></value></values>'


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (BOMB, "document type"),
        (OUTSIDE, "document type"),
        (b'<!DOCTYPE v SYSTEM "http://localhost/x.dtd"><values/>', "document type"),
        (b"<values>", "not XML"),
        (b"", "not XML"),
        (value("&a;"), "not XML"),
        (b"<?xml version='1.0' encoding='latin-1'?>" + value("x").replace(b"x", b"\xe9"), "not UTF-8"),
        ("<?xml version='1.0' encoding='utf-16'?><values/>".encode("utf-16"), "not UTF-8"),
        (b"<values/>", "no <value>"),
        (b"<values><value/></values>", "no <value>"),
        (b"<a>" * 9, "deeper"),
        (b"<values><value><value/></value></values>", "inside another"),
        (value("a</signedData><signedData>b"), "twice"),
        (value("a", "", "<publicKey>1</publicKey><publicKey>2</publicKey>"), "twice"),
        (value("xy", 'encoding="hex"'), "not 'hex'"),
        (value("x", 'encoding="base64"'), "not 'base64'"),
        (value("x", 'encoding="rot13"'), "not 'rot13'"),
        (value("x", 'format="ALFEN"'), "not OCMF"),
        (value("a", "", f"<publicKey>{'0' * 9_000}</publicKey>"), "longer"),
        (value("a" * 200_000), "characters"),
        (value("a").replace(b"<value>", b'<value transactionId="x1">'), "not a number"),
        (b"<values>" + b"<value><signedData>a</signedData></value>" * 1_001 + b"</values>", "1000 records"),
        (b" " * (FILE_MAX_BYTES + 1), "bytes"),
    ],
)
def test_what_is_no_container_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(OcmfError, match=problem):
        read_container(data)


# ---------------------------------------------------------------------------------------------- OCPP


def test_each_version_carries_the_record_and_gives_it_back() -> None:
    record, key = sealed(), signing_key().public_oca
    assert json.loads(signed_value_16(record, "")) == signed_value_201(record, "")
    full = signed_value_201(record, key)
    assert list(full) == ["signedMeterData", "signingMethod", "encodingMethod", "publicKey"]
    assert (full["signingMethod"], full["encodingMethod"], full["publicKey"]) == ("", "OCMF", key)
    assert list(signed_value_21(record, "")) == ["signedMeterData", "encodingMethod"]
    for wrapped in (signed_value_16(record, key), full, signed_value_21(record, key)):
        carried = read_signed_value(wrapped)
        assert (carried.record, carried.public_key) == (record, key)


def test_the_limits_of_the_schemas() -> None:
    assert len(signed_value_201(b"x" * 1_875, "")["signedMeterData"]) == 2_500
    for wrap in (signed_value_16, signed_value_201):
        with pytest.raises(ValueError, match="2500"):
            wrap(b"x" * 1_876, "")
    assert signed_value_21(b"x" * 1_876, "")
    with pytest.raises(ValueError, match="32768"):
        signed_value_21(b"x" * 24_577, "")
    with pytest.raises(ValueError, match="publicKey"):
        signed_value_201(b"x", "k" * 2_501)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "[]",
        "[" * 100_000,
        "9" * 5_000,
        " " * 300_000,
        "{}",
        {"encodingMethod": "EDL", "signedMeterData": ""},
        {"encodingMethod": "OCMF"},
        {"encodingMethod": "OCMF", "signedMeterData": "?"},
        {"encodingMethod": "OCMF", "signedMeterData": "ü"},
        {"encodingMethod": "OCMF", "signedMeterData": "x" * 200_000},
        {"encodingMethod": "OCMF", "signedMeterData": "", "publicKey": 1},
    ],
)
def test_what_is_no_signed_value_is_refused(bad: object) -> None:
    with pytest.raises(OcmfError):
        read_signed_value(bad)  # type: ignore[arg-type]
