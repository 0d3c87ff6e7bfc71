"""What must hold for every OCMF record: nothing changes unseen, nothing hostile gets further than OcmfError."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.ocmf.container import SafeValue, read_container, write_container
from agent.ocmf.curves import SignatureState, check
from agent.ocmf.errors import OcmfError
from agent.ocmf.ocpp import read_signed_value, signed_value_201
from agent.ocmf.parse import parse
from agent.ocmf.public_key import PublicKey, parse_key
from agent.ocmf.record import Draft, Identification, Reading, fits, payload, plain_text, split_readings
from agent.ocmf.sign import seal
from agent.ocmf.verify import verify, verify_pair, verify_sequence
from agent.ocmf.vocabulary import ERROR_FLAGS, FLAGS, LEVELS, METER_STATES, TX_LETTERS, TYPES, family
from tests.unit.ocmf.samples import sealed, signing_key

KEY = PublicKey(der=signing_key().public_der)
PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="|"), max_size=20)
READINGS = st.builds(
    Reading,
    wall_ms=st.integers(0, 253_370_764_800_000),
    energy_mwh=st.integers(0, 10**15 - 1),
    tx=st.sampled_from(sorted(TX_LETTERS)),
    zone_offset_minutes=st.integers(-720, 840),
    time_status=st.sampled_from("UISR"),
    current_type=st.sampled_from(("AC", "DC")),
    error_flags=st.sampled_from(sorted(ERROR_FLAGS)),
    status=st.sampled_from(sorted(METER_STATES)),
)
DRAFTS = st.builds(
    Draft,
    readings=st.lists(READINGS, min_size=1, max_size=12).map(tuple),
    meter_serial=PLAIN.filter(bool),
    gateway_serial=PLAIN,
    meter_vendor=PLAIN,
    tariff_text=PLAIN,
    controller_firmware=PLAIN,
    charge_point_id=PLAIN,
    identification=st.builds(
        Identification,
        assigned=st.booleans(),
        level=st.sampled_from(sorted(LEVELS)),
        flags=st.lists(st.sampled_from(sorted(FLAGS)), unique_by=family, max_size=4).map(tuple),
        type=st.sampled_from(sorted(TYPES)),
        data=PLAIN,
    ),
)
NUMBERS = st.integers(0, 10**12 - 1).map(lambda number: f"T{number}")
HASHES = st.binary(min_size=32, max_size=32)


@given(DRAFTS, NUMBERS, HASHES)
@settings(max_examples=60)
def test_a_payload_comes_back_from_the_reader_as_it_went_in(draft: Draft, number: str, prev_hash: bytes) -> None:
    signed = payload(draft, number, prev_hash)
    found = parse(seal(signed, signing_key()))
    assert found.payload == signed, "published bytes = signed bytes"
    assert signed.isascii()
    assert not set(signed) & {*b"|\n\r"}
    assert found.findings == ()
    assert (found.text("PG"), found.text("UH")) == (number, prev_hash.hex())
    assert (found.text("MS"), found.text("TT"), found.text("ID")) == (
        draft.meter_serial,
        draft.tariff_text,
        draft.identification.data if draft.identification else "",
    )
    for wrote, read in zip(draft.readings, found.readings, strict=True):
        assert read.at is not None
        assert (read.at.wall_ms, read.at.zone_offset_minutes) == (wrote.wall_ms, wrote.zone_offset_minutes)
        assert (read.tx, read.error_flags, read.status) == (wrote.tx, wrote.error_flags, wrote.status)
        assert read.energy_wh == Decimal(wrote.energy_mwh) / 1_000
        assert read.written.partition(".")[2] == f"{wrote.energy_mwh % 1_000_000:06d}"


@given(DRAFTS, NUMBERS, HASHES)
@settings(max_examples=40)
def test_what_is_sealed_verifies_and_survives_every_carrier(draft: Draft, number: str, prev_hash: bytes) -> None:
    for part in split_readings(draft):
        assert fits(part)
        record = seal(payload(part, number, prev_hash), signing_key())
        assert verify(record, KEY).signature.valid
        assert read_signed_value(signed_value_201(record, "")).record == record
        assert read_container(write_container([SafeValue(signed=record)]))[0].signed == record


def test_any_single_bit_changed_in_what_was_signed_is_found() -> None:
    record = sealed()
    for at in range(record.index(b"|") + 1, record.rindex(b"|")):
        for bit in range(8):
            assert _state(_flipped(record, at, bit)) is not SignatureState.VALID, (at, bit)


def test_any_single_bit_changed_in_the_signature_is_found() -> None:
    record = sealed()
    first = record.index(b'"SD":"') + 6
    last = record.index(b'"', first)
    for at in range(first, last):
        for bit in range(8):
            changed = _flipped(record, at, bit)
            if changed.upper() == record.upper():
                continue  # a hex digit in the other case is the same signature
            assert _state(changed) is not SignatureState.VALID, (at, bit)


def _flipped(record: bytes, at: int, bit: int) -> bytes:
    return record[:at] + bytes([record[at] ^ 1 << bit]) + record[at + 1 :]


def _state(record: bytes) -> SignatureState | None:
    try:
        found = parse(record)
        return check(found.payload, found.signature, KEY).state
    except OcmfError:
        return None


@given(st.text(max_size=300), st.integers(0, 250))
def test_plain_text_is_always_fit_to_be_signed(text: str, limit_chars: int) -> None:
    plain = plain_text(text, limit_chars)
    assert len(plain) <= limit_chars
    assert all(" " <= char <= "~" and char != "|" for char in plain)


# ------------------------------------------------------------------------------------------- hostile

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=6,
)
KEYS = st.sampled_from("FV GI GS PG MS IS IL IF IT ID TT LC RD TM TX RV RI RU CL EF ST EI SA SE SM SD".split())  # noqa: SIM905
FIELDS = st.dictionaries(KEYS, JUNK, max_size=6)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good record with pieces cut out, doubled, or replaced."""
    record = bytearray(sealed())
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(record))), draw(st.integers(0, 40))
        record[at : at + size] = draw(
            st.binary(max_size=8)
            | st.sampled_from(
                [b"|", b'"', b"\\", b"{", b"1e99", b"\\ud800", b"null", bytes(record[at : at + 2 * size])]
            )
        )
    return bytes(record)


@st.composite
def shaped(draw: st.DrawFn) -> bytes:
    """Well-formed sections with anything at all in the known fields."""
    fields = draw(FIELDS) | draw(st.just({}) | st.fixed_dictionaries({"RD": st.lists(FIELDS, max_size=3)}))
    return f"OCMF|{json.dumps(fields)}|{json.dumps(draw(FIELDS))}".encode()


@given(st.binary(max_size=200) | mutated() | shaped())
@settings(max_examples=600)
def test_no_record_raises_anything_but_its_error(data: bytes) -> None:
    def judged() -> Any:
        record = parse(data)
        assert record.payload in data
        return verify(record, KEY), verify_pair(record, sealed(), KEY), verify_sequence([data, sealed(), data])

    _only_its_error(judged)


@given(st.text(max_size=100) | st.binary(max_size=100))
def test_no_key_raises_anything_but_its_error(text: str | bytes) -> None:
    _only_its_error(lambda: verify(sealed(), parse_key(text)))


@given(st.binary(min_size=1, max_size=100) | st.binary(min_size=64, max_size=65), st.booleans())
def test_no_key_of_junk_verifies(data: bytes, der: bool) -> None:
    key = PublicKey(der=data) if der else PublicKey(point=data)
    assert not verify(sealed(), key).signature.valid


@given(JUNK)
def test_no_signed_value_raises_anything_but_its_error(value: Any) -> None:
    _only_its_error(lambda: read_signed_value(value))
    _only_its_error(lambda: read_signed_value(json.dumps(value)))
    _only_its_error(lambda: read_signed_value({"encodingMethod": "OCMF", "signedMeterData": value, "publicKey": value}))


@given(st.data())
@settings(max_examples=300)
def test_no_container_raises_anything_but_its_error(data: st.DataObject) -> None:
    xml = bytearray(
        write_container([SafeValue(signed=sealed(), public_key=signing_key().public_hex, transaction_id=1)])
    )
    at, size = data.draw(st.integers(0, len(xml))), data.draw(st.integers(0, 60))
    xml[at : at + size] = data.draw(
        st.binary(max_size=8) | st.sampled_from([b"<", b"<value>", b"&#0;", b"<!DOCTYPE x>"])
    )
    _only_its_error(lambda: read_container(bytes(xml)))


def _only_its_error(call: Any) -> None:
    try:
        call()
    except OcmfError as error:
        assert str(error)
