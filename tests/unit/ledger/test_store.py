"""Opening: fresh, again, damaged, too new; every damaged ledger is kept untouched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.ledger import database, schema, store
from agent.ledger.errors import ChainBroken, ChainFault, LedgerNewer, LedgerUnusable
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import START
from agent.ledger.state import Namespace, Put
from tests.support.newer_release import take_next_schema
from tests.unit.ledger.making import BIRTH, Pen, new_row, opened, read_all, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def names(path: Path) -> set[str]:
    """But for SQLite's index of the WAL and the count of the ledgers."""
    return {file.name for file in path.parent.iterdir() if not re.search(r"-shm$|\.numbers-\d+$", file.name)}


def leave_unclean(path: Path, rows: int = 3) -> None:
    """A ledger as a power cut leaves it: rows in the WAL only."""
    opened(path)

    async def main() -> None:
        pen = Pen(path)
        await pen.write(*(new_row(n) for n in range(rows)), changes=[Put(Namespace.CURSOR, "n", "1")])
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{path}{suffix}.copy")
        await pen.writer.close()

    asyncio.run(main())
    for suffix in ("", "-wal"):
        Path(f"{path}{suffix}.copy").rename(f"{path}{suffix}")
    Path(f"{path}-shm").unlink(missing_ok=True)


def tamper(path: Path, statement: str) -> None:
    """Change rows as somebody would who knows SQL: without the triggers, which are put back."""
    connection = sqlite3.connect(path)
    triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement)
    for _, sql in triggers:
        connection.execute(sql)
    connection.commit()
    connection.close()


def test_a_fresh_ledger_begins_with_its_genesis(path: Path) -> None:
    found = opened(path)
    assert found.damaged is None
    (row,) = read_all(path)
    assert (row.seq, row.kind, row.prev_hash) == (1, "genesis", START.hash)
    assert (found.head.seq, found.head.hash) == (1, row.hash)
    assert (row.boot_id, row.mono_ms, row.wall_ms, row.time_status) == ("boot-1", 5, 1_764_000_000_000, "S")
    assert json.loads(row.body) == {"product": "evsed", "software_version": "1.2.3", "station_serial": "SN-7"}


def test_opening_again_keeps_everything(path: Path) -> None:
    opened(path)
    write(path, new_row(1), new_row(2), changes=[Put(Namespace.SETTING, "a", "b")])
    rows = read_all(path)
    found = opened(path)
    assert (found.head.seq, found.head.hash, found.damaged) == (3, rows[-1].hash, None)
    assert read_all(path) == rows
    with LedgerReader(path) as reader:
        assert reader.state(Namespace.SETTING) == {"a": "b"}


def test_rows_in_the_wal_survive_an_unclean_stop(path: Path) -> None:
    leave_unclean(path)
    found = opened(path)
    assert (found.head.seq, found.damaged) == (4, None)
    write(path, new_row(4))
    assert len(read_all(path)) == 5


def test_an_unfinished_birth_is_begun_anew(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}.new{suffix}").write_bytes(b"torn")
    assert opened(path).damaged is None
    assert names(path) <= {"ledger.db", "ledger.db-wal"}


@pytest.mark.parametrize(
    "statement",
    ["UPDATE ledger SET body = x'00'", "DELETE FROM ledger WHERE seq = 2", "UPDATE ledger SET seq = 9 WHERE seq = 3"],
)
def test_triggers_refuse_to_change_rows(path: Path, statement: str) -> None:
    opened(path)
    write(path, new_row(1), new_row(2))
    connection = database.connect_for_writing(path)
    with pytest.raises(sqlite3.IntegrityError, match="never"):
        connection.execute(statement)
    with pytest.raises(sqlite3.IntegrityError, match="only added at the end"):
        connection.execute("INSERT OR REPLACE INTO ledger SELECT * FROM ledger WHERE seq = 2")
    connection.close()
    assert len(read_all(path)) == 3


def damage_truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(6000)


def damage_zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def damage_emptied(path: Path) -> None:
    path.write_bytes(b"")


def damage_garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 500)


def damage_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 8] = b"\xff" * 8
    path.write_bytes(content)


def damage_body(path: Path) -> None:
    tamper(path, "UPDATE ledger SET body = x'7b7d' WHERE seq = 3")


def damage_deletion(path: Path) -> None:
    tamper(path, "DELETE FROM ledger WHERE seq = 3")


def damage_all_rows(path: Path) -> None:
    tamper(path, "DELETE FROM ledger")


def damage_foreign(path: Path) -> None:
    tamper(path, "PRAGMA application_id = 1")


def damage_no_wal_mode(path: Path) -> None:
    tamper(path, "PRAGMA journal_mode = DELETE")


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncated,
        damage_zeroed,
        damage_emptied,
        damage_garbage,
        damage_pages,
        damage_body,
        damage_deletion,
        damage_all_rows,
        damage_foreign,
        damage_no_wal_mode,
    ],
)
def test_a_damaged_ledger_is_kept_and_a_fresh_one_started(path: Path, damage: Callable[[Path], None]) -> None:
    opened(path)
    write(path, *(new_row(n) for n in range(5)))
    damage(path)
    content = path.read_bytes()
    found = opened(path)
    assert found.damaged is not None
    assert "ledger.db.damaged-1" in found.damaged
    evidence = path.with_name("ledger.db.damaged-1")
    assert evidence.read_bytes() == content
    (row,) = read_all(path)
    previous = json.loads(row.body)["previous"]
    assert previous["file"] == "ledger.db.damaged-1"
    assert previous["damage"] in found.damaged
    assert opened(path).damaged is None  # told once; the genesis row goes on telling
    write(path, new_row(1))


def test_the_genesis_names_the_old_head_where_it_can_be_read(path: Path) -> None:
    opened(path)
    write(path, *(new_row(n) for n in range(5)))
    old_head = read_all(path)[-1]
    damage_body(path)
    found = opened(path)
    assert found.damaged is not None
    assert "row 3: its content was changed" in found.damaged
    (row,) = read_all(path)
    previous = json.loads(row.body)["previous"]
    assert (previous["head_seq"], previous["head_hash"]) == (6, old_head.hash.hex())


def test_the_wal_goes_with_the_evidence_and_neither_is_changed(path: Path) -> None:
    leave_unclean(path)
    with path.open("r+b") as file:  # the rest of page 1, behind the header: the schema
        file.seek(100)
        file.write(b"\xff" * 3996)
    contents = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    assert opened(path).damaged is not None
    evidence = path.with_name("ledger.db.damaged-1")
    assert (evidence.read_bytes(), Path(f"{evidence}-wal").read_bytes()) == contents
    assert names(path) <= {"ledger.db", "ledger.db-wal", "ledger.db.damaged-1", "ledger.db.damaged-1-wal"}


def test_an_empty_file_does_not_cost_us_its_wal(path: Path) -> None:
    leave_unclean(path)
    wal = Path(f"{path}-wal").read_bytes()
    path.write_bytes(b"")
    assert opened(path).damaged is not None
    assert path.with_name("ledger.db.damaged-1-wal").read_bytes() == wal


def test_a_power_cut_while_setting_aside_loses_nothing(path: Path) -> None:
    leave_unclean(path)
    wal = Path(f"{path}-wal").read_bytes()
    path.rename(path.with_name("ledger.db.damaged-1"))  # and the power went before the WAL followed
    found = opened(path)
    assert found.damaged is not None
    assert path.with_name("ledger.db.damaged-1-wal").read_bytes() == wal
    (row,) = read_all(path)
    assert json.loads(row.body)["previous"]["head_seq"] == 4  # with its WAL the old one is whole


def test_a_power_cut_before_the_fresh_one_is_born_loses_nothing(path: Path) -> None:
    opened(path)
    write(path, new_row(1))
    path.rename(path.with_name("ledger.db.damaged-1"))
    found = opened(path)
    assert found.damaged is not None
    (row,) = read_all(path)
    assert json.loads(row.body)["previous"]["head_seq"] == 2


def test_evidence_is_numbered_and_limited(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "EVIDENCE_MAX", 2)
    for number in (1, 2):
        path.write_bytes(b"garbage")
        found = opened(path)
        assert found.damaged is not None
        assert f"damaged-{number}" in found.damaged
    damage_garbage(path)
    with pytest.raises(LedgerUnusable, match="2 damaged ledgers"):
        opened(path)
    assert path.exists()


def test_evidence_is_told_oldest_first(path: Path) -> None:
    for number in range(1, 11):
        path.write_bytes(b"garbage")
        opened(path)
        assert [each.name for each in store.evidence_of(path)] == [
            f"ledger.db.damaged-{each}" for each in range(1, number + 1)
        ]


def test_a_ledger_that_was_gone_counts_as_evidence(path: Path) -> None:
    leave_unclean(path)
    path.unlink()
    assert opened(path).damaged is not None
    assert [each.name for each in store.evidence_of(path)] == ["ledger.db.damaged-1"]


def test_a_newer_ledger_is_left_alone(path: Path) -> None:
    opened(path)
    tamper(path, "DELETE FROM counter")  # it does not say which older software may write it
    tamper(path, f"PRAGMA user_version = {schema.VERSION + 1}")
    content = path.read_bytes()
    with pytest.raises(LedgerNewer, match=f"schema {schema.VERSION + 1} is newer"):
        opened(path)
    with pytest.raises(LedgerNewer):
        LedgerReader(path)
    assert path.read_bytes() == content
    assert names(path) <= {"ledger.db", "ledger.db-wal"}


def test_after_a_rollback_a_newer_ledger_that_allows_it_goes_on(path: Path) -> None:
    """Otherwise an image on trial that has migrated the ledger could not be taken back (ADR 29)."""
    leave_unclean(path)
    take_next_schema(path, writable_from=schema.VERSION)
    assert opened(path).damaged is None
    write(path, new_row(9))
    with LedgerReader(path) as reader:
        assert reader.schema_version == schema.VERSION + 1
        assert reader.verify().seq == 5 and reader.audit() == []
    assert opened(path).head.seq == 5
    assert store.evidence_of(path) == []


def test_a_newer_ledger_that_allows_only_newer_ones_is_left_alone(path: Path) -> None:
    opened(path)
    take_next_schema(path, writable_from=schema.VERSION + 1)
    content = path.read_bytes()
    with pytest.raises(LedgerNewer):
        opened(path)
    assert path.read_bytes() == content


def test_what_we_know_of_a_newer_ledger_must_be_as_we_made_it(path: Path) -> None:
    opened(path)
    take_next_schema(path, writable_from=schema.VERSION)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER ledger_update")
    assert "not defined as they were made" in (opened(path).damaged or "")


def test_a_place_that_cannot_hold_a_ledger_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="missing"):
        opened(tmp_path / "missing" / "ledger.db")
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnusable):
        opened(tmp_path / "file" / "ledger.db")


def test_the_end_is_verified_at_every_start_and_all_of_it_on_request(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(path)
    write(path, *(new_row(n) for n in range(20)))
    tamper(path, "UPDATE ledger SET wall_ms = 0 WHERE seq = 11")
    monkeypatch.setattr(store, "CHECKED_ROWS", 10)  # rows 12 to 21
    assert store.open_ledger(path, BIRTH).damaged is None
    with LedgerReader(path) as reader:
        for last in (11, 21, 22, None):
            with pytest.raises(ChainBroken) as caught:
                reader.verify(last)
            assert (caught.value.seq, caught.value.fault) == (11, ChainFault.CONTENT)
    monkeypatch.setattr(store, "CHECKED_ROWS", 11)
    assert store.open_ledger(path, BIRTH).damaged is not None


def test_a_changed_definition_is_found(path: Path) -> None:
    # SQLite's own check passes it, and the first row written would be the last.
    opened(path)
    write(path, new_row(1))
    content = path.read_bytes()
    assert content.count(b"length(time_status) = 1") == 1
    path.write_bytes(content.replace(b"length(time_status) = 1", b"length(time_status) = 3"))
    found = opened(path)
    assert found.damaged is not None
    write(path, new_row(1))


def test_a_byte_that_is_no_text_still_names_its_row(path: Path) -> None:
    opened(path)
    write(path, new_row(1), new_row(2, boot_id="boot-marked"), new_row(3))
    content = path.read_bytes()
    assert content.count(b"boot-marked") == 1
    path.write_bytes(content.replace(b"boot-marked", b"boot-mark\xe5d"))
    found = opened(path)
    assert found.damaged is not None
    assert "row 3: its content was changed" in found.damaged


def test_a_header_that_forbids_writing_is_found(path: Path) -> None:
    # Reading works, and so would every start; only no row could ever be written again.
    opened(path)
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\3")
    assert opened(path).damaged is not None
    write(path, new_row(1))


def test_a_definition_that_is_no_text_is_found(path: Path) -> None:
    opened(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CHECK (length(kind)", b"CHECK (len\xe7th(kind)"))
    assert opened(path).damaged is not None
    write(path, new_row(1))


def test_a_value_turned_into_another_type_names_its_row(path: Path) -> None:
    opened(path)
    write(path, new_row(1))
    content = path.read_bytes()
    # The record of row 2: its size, its seq, its header: eleven serial types, the last two 32-byte blobs
    # (76). 77 is text of that length.
    header = bytes([0x0C, 0x00])
    at = content.index(header, 4096)
    assert content[at + 10 : at + 12] == bytes([76, 76])
    path.write_bytes(content[: at + 11] + bytes([77]) + content[at + 12 :])
    with LedgerReader(path) as reader, pytest.raises(ChainBroken, match="row 2: its hash is str"):
        reader.head()
    found = opened(path)
    assert found.damaged is not None
    assert json.loads(read_all(path)[0].body)["previous"]["head_seq"] is None


def hide_in_index(path: Path) -> None:
    """One byte in the index of transactions' rows."""
    opened(path)
    write(path, new_row(1, "tx_started", tx_id="T-marked", evse=1))
    content = path.read_bytes()
    # The table of rows comes first in the file, then its index, then the table of transactions and its own.
    places = [at for at in range(len(content)) if content.startswith(b"T-marked", at)]
    in_index = next(at for at in places if at // 4096 != places[0] // 4096)
    path.write_bytes(content[:in_index] + b"T-hidden" + content[in_index + 8 :])


def test_a_damaged_index_is_found(path: Path) -> None:
    # It would hide a transaction's rows from whoever asks for them.
    hide_in_index(path)
    found = opened(path)
    assert found.damaged is not None
    assert "ledger_tx" in found.damaged


def test_a_large_file_is_not_read_as_a_whole_at_every_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_in_index(path)
    monkeypatch.setattr("agent.ledger.reader.WHOLE_CHECK_MAX_BYTES", path.stat().st_size - 1)
    assert opened(path).damaged is None
    with LedgerReader(path) as reader:
        assert any("ledger_tx" in finding.detail for finding in reader.audit())
    monkeypatch.setattr("agent.ledger.reader.WHOLE_CHECK_MAX_BYTES", path.stat().st_size)
    assert opened(path).damaged is not None
