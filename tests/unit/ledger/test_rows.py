"""The byte layout under the hash, and what a row may be."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from agent.ledger.errors import ChainBroken, ChainFault
from agent.ledger.rows import BODY_MAX_BYTES, START, Head, NewRow, chain
from tests.unit.ledger.making import chained, new_row, verify


def test_the_hash_covers_the_documented_bytes() -> None:
    # Written out by hand from the layout in the module's docstring: a ledger made today must verify
    # with every later version.
    new = NewRow("tx_started", b"{}", "boot", 1, -2, "S", tx_id="T-1", evse=None)
    row = chain(Head(6, b"\xaa" * 32), new)
    layout = (
        b"evsed ledger row 1\n"
        b"\0\0\0\0\0\0\0\x07"
        b"\0\0\0\x0atx_started" + b"\xaa" * 32 + b"\0\0\0\x03T-1"
        b"\xff\xff\xff\xff"
        b"\0\0\0\x04boot"
        b"\0\0\0\x08\0\0\0\0\0\0\0\x01"
        b"\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe"
        b"\0\0\0\x01S"
        b"\0\0\0\x02{}"
    )
    assert row.hash == hashlib.sha256(layout).digest()
    assert (row.seq, row.prev_hash) == (7, b"\xaa" * 32)


def test_a_whole_chain_verifies_from_its_start_and_from_any_place() -> None:
    rows = chained([new_row(n) for n in range(5)])
    head = Head(5, rows[-1].hash)
    assert verify(rows) == head
    assert verify(rows[2:], Head(2, rows[1].hash)) == head
    assert verify([]) == START


def test_an_absent_field_is_not_an_empty_one() -> None:
    with_evse = chain(START, new_row(evse=0))
    assert chain(START, new_row(evse=None)).hash != with_evse.hash
    with pytest.raises(ChainBroken):
        verify([replace(with_evse, evse=None)])


@pytest.mark.parametrize(
    ("seq", "change", "fault"),
    [
        (2, {"body": b"{}"}, ChainFault.CONTENT),
        (2, {"hash": bytes(32)}, ChainFault.CONTENT),
        (3, {"prev_hash": bytes(32)}, ChainFault.LINK),
        (4, {"seq": 9}, ChainFault.GAP),
    ],
)
def test_the_first_wrong_row_is_named(seq: int, change: dict[str, Any], fault: ChainFault) -> None:
    rows = chained([new_row(n) for n in range(5)])
    rows[seq - 1] = replace(rows[seq - 1], **change)
    with pytest.raises(ChainBroken) as caught:
        verify(rows)
    assert (caught.value.seq, caught.value.fault) == (seq, fault)
    assert str(seq) in str(caught.value)


def test_a_row_that_was_changed_and_hashed_anew_shows_at_the_next() -> None:
    rows = chained([new_row(n) for n in range(3)])
    forged = chain(Head(1, rows[0].hash), new_row(99))
    with pytest.raises(ChainBroken) as caught:
        verify([rows[0], forged, rows[2]])
    assert (caught.value.seq, caught.value.fault) == (3, ChainFault.LINK)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": ""},
        {"kind": "Tx"},
        {"kind": "x" * 33},
        {"body": bytes(BODY_MAX_BYTES + 1)},
        {"boot_id": ""},
        {"boot_id": "x" * 65},
        {"tx_id": ""},
        {"tx_id": "a\0b"},
        {"tx_id": "ü"},
        {"time_status": ""},
        {"time_status": "s"},
        {"time_status": "SU"},
        {"mono_ms": 2**63},
        {"wall_ms": -(2**63) - 1},
        {"evse": 2**63},
    ],
)
def test_what_the_tables_cannot_hold_is_refused_at_the_callers_own_call(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"ledger row {next(iter(change))}"):
        new_row(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "x" * 32},
        {"body": bytes(BODY_MAX_BYTES)},
        {"boot_id": "x"},
        {"boot_id": "x" * 64},
        {"tx_id": "T"},
        {"time_status": "A"},
        {"time_status": "Z"},
        {"mono_ms": 2**63 - 1},
        {"wall_ms": -(2**63)},
        {"evse": 0},
    ],
)
def test_what_is_just_small_enough_is_held(change: dict[str, Any]) -> None:
    row = chain(START, new_row(**change))
    assert verify([row]) == Head(1, row.hash)


@pytest.mark.parametrize("column", ["kind", "tx_id", "evse", "body", "boot_id", "mono_ms", "wall_ms", "time_status"])
def test_a_column_of_another_type_is_named(column: str) -> None:
    """One damaged bit in a record of SQLite can make one."""
    rows = chained([new_row(n, tx_id="T", evse=1) for n in range(3)])
    damaged: dict[str, Any] = {column: 1.5}
    rows[1] = replace(rows[1], **damaged)
    with pytest.raises(ChainBroken, match=f"row 2.*its {column} is float") as caught:
        verify(rows)
    assert (caught.value.seq, caught.value.fault) == (2, ChainFault.CONTENT)


@pytest.mark.parametrize(
    ("seq", "change", "detail"),
    [
        (2, {"body": b"{}"}, "its content was changed"),
        (3, {"prev_hash": bytes(32)}, "it does not follow the row before it"),
        (4, {"seq": 9}, "row 9 stands in its place"),
    ],
)
def test_what_is_wrong_is_said(seq: int, change: dict[str, Any], detail: str) -> None:
    rows = chained([new_row(n) for n in range(5)])
    rows[seq - 1] = replace(rows[seq - 1], **change)
    with pytest.raises(ChainBroken, match=f"row {seq}.*{detail}"):
        verify(rows)
