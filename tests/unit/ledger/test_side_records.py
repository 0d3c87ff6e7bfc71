"""Tariffs, keys, meters, witnesses and transactions beside the rows."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.ledger import database, tables
from agent.ledger.reader import LedgerReader
from agent.ledger.side_records import (
    Meter,
    PutKey,
    PutMeter,
    PutTariff,
    PutWitness,
    SigningKey,
    Transaction,
    Witness,
)
from tests.unit.ledger.making import Pen, new_row, opened, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    opened(path)
    return path


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = database.connect_for_writing(path)
    yield connection
    connection.close()


def test_a_tariff_comes_with_its_row(path: Path) -> None:
    first, second = PutTariff("A", "csms", b'{"a":1}'), PutTariff("B", "local", b"{}")
    write(path, new_row(1, "tariff"), new_row(2), new_row(3, "tariff"), changes=[first, second])
    with LedgerReader(path) as reader:
        found = reader.tariff(first.hash)
        assert found is not None
        assert (found.tariff_id, found.source, found.seq, found.text) == ("A", "csms", 2, b'{"a":1}')
        assert [tariff.seq for tariff in reader.tariffs(0, 10)] == [2, 4]
        assert [tariff.seq for tariff in reader.tariffs(2, 10)] == [4]
        assert reader.tariff(hashlib.sha256(b"").digest()) is None


def test_a_tariff_that_comes_again_is_the_same_with_a_newer_row(path: Path) -> None:
    tariff = PutTariff("A", "csms", b"{}")
    for number in range(3):
        write(path, new_row(number, "tariff"), changes=[tariff])
    with LedgerReader(path) as reader:
        assert [found.seq for found in reader.tariffs(0, 10)] == [4]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tariff SET text = x'00'",
        "UPDATE tariff SET seq = 1",
        "UPDATE tariff SET source = ''",
        "DELETE FROM tariff",
    ],
)
def test_a_tariff_never_changes(path: Path, connection: sqlite3.Connection, statement: str) -> None:
    write(path, new_row(1, "tariff"), changes=[PutTariff("A", "csms", b"{}")])
    with pytest.raises(sqlite3.IntegrityError, match="never"):
        connection.execute(statement)
    with pytest.raises(sqlite3.IntegrityError, match="comes with its ledger row"):
        connection.execute("INSERT INTO tariff VALUES (zeroblob(32), 'X', 'x', 1, x'00')")


def test_a_key_is_known_from_its_first_row(path: Path) -> None:
    write(path, new_row(1), new_row(2), changes=[PutKey("k1", b"DER 1")])
    write(path, new_row(3), changes=[PutKey("k1", b"DER 1")])
    write(path, changes=[PutKey("k2", b"DER 2")])
    with LedgerReader(path) as reader:
        assert reader.signing_keys() == [SigningKey("k1", b"DER 1", 2), SigningKey("k2", b"DER 2", 5)]


def test_no_key_takes_the_name_of_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        pen = Pen(path)
        await pen.write(new_row(1), changes=[PutKey("k1", b"DER 1")])
        pen.send(new_row(2), changes=[PutKey("k1", b"DER 2")])
        await pen.until(lambda: bool(pen.failures))
        assert "a key never changes" in str(pen.failures[0])
        await pen.writer.close()

    asyncio.run(main())


def test_a_meter_ends_where_the_next_begins(path: Path, connection: sqlite3.Connection) -> None:
    write(path, new_row(1), changes=[PutMeter(1, "M1", "k1"), PutMeter(2, "M2")])
    write(path, new_row(2), changes=[PutMeter(1, "M1", "k1")])
    write(path, new_row(3), new_row(4), changes=[PutMeter(1, "M3", "k1")])
    write(path, changes=[PutMeter(1, "M3"), PutMeter(1, "M4")])  # the second before any row of the first
    with LedgerReader(path) as reader:
        assert reader.meters() == [
            Meter(1, "M1", "k1", 2, 3),
            Meter(2, "M2", None, 2, None),
            Meter(1, "M3", "k1", 4, 5),
            Meter(1, "M3", None, 6, 5),
            Meter(1, "M4", None, 6, None),
        ]
    for statement in ("UPDATE meter SET to_seq = 9 WHERE serial = 'M1'", "UPDATE meter SET serial = ''"):
        with pytest.raises(sqlite3.IntegrityError, match="only taken out of use"):
            connection.execute(statement)
    with pytest.raises(sqlite3.IntegrityError, match="never deleted"):
        connection.execute("DELETE FROM meter")
    with pytest.raises(sqlite3.IntegrityError, match="never deleted"):
        write(path, changes=[PutKey("k", b"")])
        connection.execute("DELETE FROM signing_key")


def test_the_newest_witnesses_are_kept_and_a_first_word_stands(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "WITNESSES_MAX", 3)
    words = [PutWitness(seq, bytes([seq]) * 32, "csms", 7) for seq in (1, 5, 2, 4)]
    write(path, changes=[*words, PutWitness(5, bytes(32), "csms", 8), PutWitness(5, bytes(32), "tpm", 9)])
    with LedgerReader(path) as reader:
        assert reader.witnesses() == [
            Witness(4, b"\4" * 32, "csms", 7),
            Witness(5, b"\5" * 32, "csms", 7),
            Witness(5, bytes(32), "tpm", 9),
        ]


def test_transactions_by_page_by_id_and_by_its_beginning(path: Path) -> None:
    write(
        path,
        new_row(1, "tx_started", tx_id="aa-1", evse=1),
        new_row(2, "tx_started", tx_id="ab%2", evse=2),
        new_row(3, "tx_ended", tx_id="aa-1", evse=1),
        new_row(4, "receipt", tx_id="aa-1", evse=1),
        new_row(5, "receipt", tx_id="aa-1", evse=1),  # corrected: the newest counts
        new_row(6, "tx_ended", tx_id="aa-1", evse=1),
        new_row(7, "tx_started", tx_id="aa-1", evse=3),
        new_row(8, "tx_ended", tx_id="unknown"),
        new_row(9, "tx_started", tx_id="b", evse=1),
    )
    first, second = Transaction("aa-1", 1, 2, 4, 6), Transaction("ab%2", 2, 3, None, None)
    third = Transaction("b", 1, 10, None, None)
    with LedgerReader(path) as reader:
        assert reader.transactions(0, 2) == [first, second]
        assert reader.transactions(3, 2) == [third]
        assert (reader.transaction("aa-1"), reader.transaction("aa")) == (first, None)
        assert reader.find_tx("a") == [first, second]
        assert reader.find_tx("ab%") == [second]
        assert reader.find_tx("ab_") == reader.find_tx("c") == []
        assert reader.find_tx("", 1) == [first]
        assert reader.audit() == []
        with pytest.raises(ValueError, match="page of 0"):
            reader.transactions(0, 0)


def test_a_table_of_transactions_that_is_wrong_is_made_anew(path: Path, connection: sqlite3.Connection) -> None:
    write(
        path,
        new_row(1, "tx_started", tx_id="A", evse=1),
        new_row(2, "tx_started", tx_id="B", evse=1),
        new_row(3, "tx_ended", tx_id="B"),
    )
    with LedgerReader(path) as reader:
        sound = reader.transactions(0, 9)
    for wrong in (
        "DELETE FROM tx WHERE tx_id = 'A'",
        "UPDATE tx SET end_seq = NULL WHERE tx_id = 'B'",
        "UPDATE tx SET begin_seq = 1 WHERE tx_id = 'A'",
        "INSERT INTO tx (begin_seq, tx_id) VALUES (4, 'C')",
    ):
        connection.execute(wrong)
        with LedgerReader(path) as reader:
            assert {finding.fault for finding in reader.audit()} == {"tx"}
        found = opened(path)
        assert (found.damaged, found.rebuilt) == (None, True)
        with LedgerReader(path) as reader:
            assert reader.transactions(0, 9) == sound
        assert not opened(path).rebuilt


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PutTariff("x" * 65, "", b""),
        lambda: PutTariff("\ud800", "", b""),
        lambda: PutTariff("A", "x", bytes(256 * 1024 + 1)),
        lambda: PutKey("", b""),
        lambda: PutKey("k", bytes(1025)),
        lambda: PutMeter(1, "\0"),
        lambda: PutMeter(1, "M", ""),
        lambda: PutMeter(2**63, "M"),
        lambda: PutWitness(1, bytes(32), "csms", 2**63),
        lambda: PutWitness(2**63, bytes(32), "csms", 0),
        lambda: PutWitness(0, bytes(32), "csms", 0),
        lambda: PutWitness(1, bytes(31), "csms", 0),
        lambda: PutWitness(1, bytes(32), "", 0),
    ],
)
def test_what_the_tables_cannot_hold_is_refused_at_the_callers_own_call(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=r"not|at most|witness"):
        wrong()
