"""No number is given out twice by the ledgers of one station, whatever becomes of them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from agent.ledger import database, store, tables
from agent.ledger.errors import LedgerError, LedgerUnusable
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row
from agent.ocmf.record import Draft, Reading, payload
from tests.unit.ledger.making import numbered, opened, read_all, write
from tests.unit.ledger.test_retention import cut, order
from tests.unit.ledger.test_store import damage_body, damage_emptied, damage_garbage, tamper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def signed(path: Path) -> int:
    """The number that the next record gets."""
    write(path, numbered())
    return int(json.loads(read_all(path)[-1].body)["number"])


def counted(path: Path) -> list[str]:
    return [file.name for file in path.parent.iterdir() if ".numbers-" in file.name]


def test_no_number_is_given_out_twice_whatever_becomes_of_the_ledgers(path: Path) -> None:
    given: list[int] = []

    def give() -> None:
        assert opened(path).damaged is None
        given.extend((signed(path), signed(path)))

    opened(path)
    give()
    assert given == [1, 2]
    for damage in (damage_garbage, damage_emptied, damage_body):
        damage(path)
        assert opened(path).damaged is not None
        give()
    assert counted(path) == ["ledger.db.numbers-3"]
    for file in path.parent.glob("*.damaged-*"):  # taken away, to look into them
        file.unlink()
    damage_garbage(path)
    assert opened(path).damaged is not None
    give()
    for file in path.parent.iterdir():  # gone without a trace
        if ".numbers-" not in file.name:
            file.unlink()
    assert opened(path).damaged is None
    give()
    assert len(set(given)) == len(given) and given == sorted(given)
    assert given[-1] == 5 * store.NUMBERS_APART + 2


@pytest.mark.parametrize(("renames", "then"), [(0, 1), (1, 2)])  # of the count, of the finished ledger
def test_a_power_cut_in_the_birth_takes_no_number_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch, renames: int, then: int
) -> None:
    opened(path)
    assert signed(path) == 1
    damage_garbage(path)
    store._set_aside(path)
    rename, left = Path.rename, iter(range(renames))

    def until_the_cut(old: Path, new: Path) -> Path:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rename(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", until_the_cut)
        with pytest.raises(KeyboardInterrupt):
            opened(path)
    assert opened(path).damaged is not None
    assert signed(path) == then * store.NUMBERS_APART + 1


@pytest.mark.parametrize(
    ("where", "what", "error"),
    [
        (database, "create", LedgerUnusable("database or disk is full")),
        (tables, "insert_rows", sqlite3.OperationalError("database or disk is full")),
    ],
)
def test_a_birth_that_fails_at_every_start_takes_no_numbers(
    path: Path, monkeypatch: pytest.MonkeyPatch, where: object, what: str, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    opened(path)
    damage_garbage(path)
    with monkeypatch.context() as patch:
        patch.setattr(where, what, fail)
        for _ in range(3):
            with pytest.raises(LedgerError, match="disk is full"):
                opened(path)
    assert counted(path) == ["ledger.db.numbers-0"]
    assert opened(path).damaged is not None
    assert signed(path) == store.NUMBERS_APART + 1


def test_the_last_number_of_the_last_ledger_has_room_in_a_record() -> None:
    draft = Draft(readings=(Reading(wall_ms=0, energy_mwh=0, tx="B"),), meter_serial="M")
    last = store.PLACES * store.NUMBERS_APART - 1
    assert f'"PG":"T{last}"'.encode() in payload(draft, f"T{last}", bytes(32))
    with pytest.raises(ValueError, match="PG"):
        payload(draft, f"T{last + 1}", bytes(32))


def test_after_the_last_ledger_no_other_begins_until_there_is_a_new_key(path: Path) -> None:
    opened(path)
    Path(f"{path}.numbers-0").rename(last := Path(f"{path}.numbers-{store.PLACES - 2}"))
    damage_garbage(path)
    assert opened(path).damaged is not None
    assert signed(path) == (store.PLACES - 1) * store.NUMBERS_APART + 1
    damage_garbage(path)
    last = Path(f"{path}.numbers-{store.PLACES - 1}")
    for _ in range(2):
        with pytest.raises(LedgerUnusable, match=f"a new metering key, then remove {last.name}"):
            opened(path)
    last.unlink()
    assert opened(path).damaged is not None


def test_ledgers_from_before_they_were_counted_are_counted_by_what_was_set_aside(path: Path) -> None:
    opened(path)
    signed(path)
    Path(f"{path}.numbers-0").unlink()
    damage_garbage(path)
    opened(path)
    assert signed(path) == store.NUMBERS_APART + 1


def test_a_count_that_is_lost_is_made_from_the_ledger(path: Path) -> None:
    opened(path)
    damage_garbage(path)
    opened(path)
    for name in counted(path):
        path.with_name(name).unlink()
    opened(path)
    assert counted(path) == ["ledger.db.numbers-1"]


def test_numbers_that_begin_where_the_first_row_says_are_sound_and_others_are_not(path: Path) -> None:
    def number_of(row: Row) -> tuple[str, int] | None:
        return ("T", json.loads(row.body)["number"]) if row.kind == "signed" else None

    opened(path)
    damage_garbage(path)
    opened(path)
    signed(path)
    with LedgerReader(path) as reader:
        assert reader.audit(number_of=number_of) == []
    tamper(path, "UPDATE counter SET value = 7 WHERE name LIKE 'ledger.%' OR name = 'T'")
    signed(path)
    with LedgerReader(path) as reader:
        [finding] = reader.audit(number_of=number_of)
    assert finding.detail == "its number of counter T is 8, 1000000002 was to come"


def test_a_cut_while_the_numbers_are_checked_is_no_gap_in_them(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were not looked at yet are removed while the whole check runs."""
    monkeypatch.setattr("agent.ledger.chain_check._PAGE_ROWS", 4)
    opened(path)
    write(path, *(numbered() for _ in range(20)))

    def number_of(row: Row) -> tuple[str, int] | None:
        if row.seq == 3:
            cut(path, order(up_to=11))
        return ("T", json.loads(row.body)["number"]) if row.kind == "signed" else None

    with LedgerReader(path) as reader:
        assert reader.audit(number_of=number_of) == []
        assert reader.rows(0, 1)[0].seq == 12
