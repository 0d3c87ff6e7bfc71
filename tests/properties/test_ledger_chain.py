"""Invariants of the ledger: whatever is done to the rows is found and named (L1, L4), rows and state
go together or not at all, and no damaged bit of the file is ever read back as if it were sound."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.ledger.errors import ChainBroken, ChainFault, LedgerNewer
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import NewRow, Row
from agent.ledger.state import Clear, Delete, Namespace, Put, StateChange
from tests.unit.ledger.making import Pen, chained, new_row, opened, read_all, verify, write

# Neither drawing nor the disk is held to a time: the machine may be busy with something else.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_ID = st.text("aZ9 -~", min_size=1, max_size=8)
_INT64 = st.integers(-(2**63), 2**63 - 1)
_NEW_ROW = st.builds(
    NewRow,
    kind=st.sampled_from(["a", "meter", "tx_started", "x" * 32]),
    body=st.binary(max_size=20),
    boot_id=_ID,
    mono_ms=_INT64,
    wall_ms=_INT64,
    time_status=st.sampled_from("SIU"),
    tx_id=st.none() | _ID,
    evse=st.none() | _INT64,
)
_ROWS = st.lists(_NEW_ROW, min_size=1, max_size=6).map(chained)
_TWO_ROWS_OR_MORE = st.lists(_NEW_ROW, min_size=2, max_size=6).map(chained)
_FIELDS = ("seq", "kind", "tx_id", "evse", "body", "boot_id", "mono_ms", "wall_ms", "time_status", "prev_hash", "hash")


def _flip(name: str, value: object, bit: int) -> object:
    """``value`` with one bit changed; None becomes something."""
    match value:
        case int():
            flipped = (value % 2**64) ^ (1 << bit % 64)
            return flipped - 2**64 if flipped >= 2**63 else flipped
        case bytes():
            changed = bytearray(value or b"\0")
            changed[bit // 8 % len(changed)] ^= 1 << bit % 8
            return bytes(changed)
        case str():
            at = bit // 7 % len(value)
            return value[:at] + chr(ord(value[at]) ^ (1 << bit % 7)) + value[at + 1 :]
        case _:
            return 0 if name == "evse" else ""


@unhurried
@given(_ROWS, st.data())
def test_any_changed_bit_is_found_and_its_row_named(rows: list[Row], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(_FIELDS))
    changes: dict[str, object] = {name: _flip(name, getattr(rows[at], name), data.draw(st.integers(0, 1000)))}
    changed = replace(rows[at], **changes)  # type: ignore[arg-type]
    with pytest.raises(ChainBroken) as caught:
        verify([*rows[:at], changed, *rows[at + 1 :]])
    fault = {"seq": ChainFault.GAP, "prev_hash": ChainFault.LINK}.get(name, ChainFault.CONTENT)
    assert (caught.value.seq, caught.value.fault) == (at + 1, fault)


@unhurried
@given(_ROWS, st.data())
def test_any_missing_row_is_found_and_named(rows: list[Row], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    left = rows[:at] + rows[at + 1 :]
    if at == len(rows) - 1:
        assert verify(left).seq == at  # only a witness outside can tell
        return
    with pytest.raises(ChainBroken) as caught:
        verify(left)
    assert (caught.value.seq, caught.value.fault) == (at + 1, ChainFault.GAP)


@unhurried
@given(_TWO_ROWS_OR_MORE, st.data(), st.booleans())
def test_any_two_swapped_rows_are_found(rows: list[Row], data: st.DataObject, renumbered: bool) -> None:
    first = data.draw(st.integers(0, len(rows) - 2))
    second = data.draw(st.integers(first + 1, len(rows) - 1))
    swapped = list(rows)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    if renumbered:
        swapped = [replace(row, seq=place) for place, row in enumerate(swapped, 1)]
    with pytest.raises(ChainBroken) as caught:
        verify(swapped)
    assert caught.value.seq == first + 1


@unhurried
@given(_ROWS, st.data())
def test_fields_cannot_run_into_one_another(rows: list[Row], data: st.DataObject) -> None:
    """Moving bytes over the border of two fields is a change as any other."""
    at = data.draw(st.integers(0, len(rows) - 1))
    row = rows[at]
    moved = replace(row, boot_id=row.boot_id[:-1], tx_id=(row.tx_id or "") + row.boot_id[-1])
    with pytest.raises(ChainBroken):
        verify([*rows[:at], moved, *rows[at + 1 :]])


_NAMESPACE = st.sampled_from([Namespace.CURSOR, Namespace.TOKEN])
_KEY = st.sampled_from("ab")
_CHANGE: st.SearchStrategy[StateChange] = st.one_of(
    st.builds(Put, _NAMESPACE, _KEY, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
    st.builds(Delete, _NAMESPACE, _KEY),
    st.builds(Clear, _NAMESPACE),
)
_BATCH = st.tuples(st.lists(_NEW_ROW, max_size=3), st.lists(_CHANGE, max_size=3)).filter(any)


@settings(unhurried, max_examples=25)
@given(st.lists(st.lists(_BATCH, min_size=1, max_size=4), max_size=4))
def test_rows_and_state_are_what_was_written_in_the_order_it_was(
    runs: list[list[tuple[list[NewRow], list[StateChange]]]],
) -> None:
    """Over any number of restarts, against a list and a dictionary."""
    model: dict[tuple[str, str], str] = {}
    written: list[NewRow] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "ledger.db")
        for batches in runs:
            assert opened(path).damaged is None
            asyncio.run(_write_batches(path, batches))
            for rows, changes in batches:
                written += rows
                for change in changes:
                    _apply(change, model)
        assert opened(path).head.seq == 1 + len(written)
        found = read_all(path)
        assert found == chained([_as_new(found[0]), *written])
        with LedgerReader(path) as reader:
            for namespace in (Namespace.CURSOR, Namespace.TOKEN):
                assert reader.state(namespace) == {key: text for (ns, key), text in model.items() if ns == namespace}


async def _write_batches(path: Path, batches: list[tuple[list[NewRow], list[StateChange]]]) -> None:
    pen = Pen(path)
    for rows, changes in batches:
        pen.send(*rows, changes=changes)
    await pen.writer.close()
    assert [len(answer) for answer in pen.answers] == [len(rows) for rows, _ in batches]


def _apply(change: StateChange, model: dict[tuple[str, str], str]) -> None:
    match change:
        case Put(namespace, key, value):
            model[namespace, key] = value
        case Delete(namespace, key):
            model.pop((namespace, key), None)
        case Clear(namespace):
            for held in [held for held in model if held[0] == namespace]:
                del model[held]


def _as_new(row: Row) -> NewRow:
    return NewRow(row.kind, row.body, row.boot_id, row.mono_ms, row.wall_ms, row.time_status, row.tx_id, row.evse)


class Sound:
    """A closed ledger with a few rows and open transactions, and what is read from it."""

    def __init__(self, file: bytes, contents: tuple[list[Row], list[Row]]) -> None:
        self.file = file
        self.contents = contents


@pytest.fixture(scope="module")
def sound() -> Sound:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "ledger.db")
        opened(path)
        write(
            path,
            *(new_row(n, "tx_started", tx_id=f"T-{n}", body=bytes(range(40, 200))) for n in range(12)),
            *(new_row(n, "tx_ended", tx_id=f"T-{n}") for n in range(10)),
        )
        return Sound(path.read_bytes(), _contents(path))


def _contents(path: Path) -> tuple[list[Row], list[Row]]:
    with LedgerReader(path) as reader:
        return read_all(path), reader.open_transactions()


@settings(unhurried, max_examples=60)
@given(st.integers(0, 2**31), st.integers(0, 7), st.booleans())
def test_a_flipped_bit_in_the_file_is_found_or_does_no_harm(sound: Sound, place: int, bit: int, in_use: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "ledger.db")
        # Most of a page is free space: half of the flips go where something stands.
        places = [at for at, byte in enumerate(sound.file) if byte or not in_use]
        at = places[place % len(places)]
        damaged = bytearray(sound.file)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            found = opened(path)
        except LedgerNewer:
            assert 60 <= at < 64  # the schema version itself
            assert path.read_bytes() == damaged
            return
        if found.damaged is not None:
            assert path.with_name("ledger.db.damaged-1").read_bytes() == damaged
            assert [row.kind for row in read_all(path)] == ["genesis"]
        else:
            assert _contents(path) == sound.contents
        write(path, new_row(1))  # either way the station goes on
