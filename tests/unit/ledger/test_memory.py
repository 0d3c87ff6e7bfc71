"""What a station must not forget outlives a damaged ledger; what may be missing of it is named."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.facts import TariffFact
from agent.ipc.codec import decode_fact, encode_fact
from agent.ledger.memory import MEMORY
from agent.ledger.reader import LedgerReader
from agent.ledger.side_records import PutTariff
from agent.ledger.state import Namespace, Put
from tests.unit.ledger.making import new_row, opened, read_all, write

LEFT_BEHIND = {Namespace.CURSOR, Namespace.CSMS_TX, Namespace.METER, Namespace.DAMAGE, Namespace.TOKEN}
TARIFF = PutTariff("T-1", "csms", b'{"currency":"EUR","tariffId":"T-1"}')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with something of every namespace."""
    path = tmp_path / "ledger.db"
    opened(path)
    brought = TariffFact(TARIFF.hash.hex(), TARIFF.tariff_id, TARIFF.source, TARIFF.text.decode())
    values = [Put(each, f"key {each}", f"value {each} {'.' * 3000}") for each in Namespace]
    named = Put(Namespace.TARIFF, "defaults", json.dumps([[0, TARIFF.hash.hex(), 0], [1, TARIFF.hash.hex(), 0]]))
    write(path, new_row(1, "tariff", body=encode_fact(brought)), new_row(2), changes=[TARIFF, *values, named])
    return path


def spoil_row(path: Path) -> None:
    """The ledger is damaged, and the state is not."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"SN-7", b"SN-8"))


def spoil_value(path: Path) -> None:
    """A hole in the middle of a charging profile, as a bad sector makes one."""
    content = path.read_bytes()
    path.write_bytes(re.sub(rb"(value profile \.{50})\.{300}", lambda found: found[1] + bytes(300), content))


def spoil_text(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"value fault ", b"value f\xe5ult "))


def spoil_tree(path: Path) -> None:
    """A record stands in the wrong place, and is not found there; whatever is read tells nothing of it."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"availabilitykey", b"zvailabilitykey"))
    spoil_row(path)


def spoil_tariff(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(TARIFF.text, TARIFF.text.replace(b"EUR", b"CHF")))


def remembered(path: Path) -> dict[Namespace, dict[str, str]]:
    with LedgerReader(path) as reader:
        return {each: found for each in Namespace if (found := reader.state(each))}


def unread(path: Path) -> list[str]:
    """As the first row has it; what is kept until a person has seen it must be the same."""
    named = json.loads(read_all(path)[0].body)["previous"]["unread"]
    with LedgerReader(path) as reader:
        forgotten = reader.state(Namespace.FORGOTTEN)
    assert {each for each in forgotten if not each.startswith("key")} == set(named)
    return list(named)


def test_all_that_is_memory_comes_over_and_the_rest_stays(path: Path) -> None:
    before = remembered(path)
    assert set(before) == set(Namespace)
    spoil_row(path)
    assert opened(path).damaged is not None
    assert remembered(path) == {each: before[each] for each in MEMORY}
    assert set(Namespace) - set(MEMORY) == LEFT_BEHIND
    assert unread(path) == []


def test_a_tariff_that_is_named_comes_over_with_a_row(path: Path) -> None:
    spoil_row(path)
    head = opened(path).head
    genesis, row = read_all(path)
    assert (genesis.kind, row.kind, row.hash) == ("genesis", "tariff", head.hash)
    text = TARIFF.text.decode()
    assert decode_fact(row.kind, row.body) == TariffFact(TARIFF.hash.hex(), TARIFF.tariff_id, TARIFF.source, text)
    with LedgerReader(path) as reader:
        found = reader.tariff(TARIFF.hash)
        assert found is not None and found.text == TARIFF.text
        assert reader.audit() == []
    write(path, new_row(3))


@pytest.mark.parametrize(
    "spoil, lost", [(spoil_text, Namespace.FAULT), (spoil_value, Namespace.PROFILE), (spoil_tariff, Namespace.TARIFF)]
)
def test_what_cannot_be_read_takes_nothing_else_with_it(
    path: Path, spoil: Callable[[Path], None], lost: Namespace
) -> None:
    spoil(path)
    spoil_row(path)
    assert opened(path).damaged is not None
    assert unread(path) == [lost]
    assert set(MEMORY) - set(remembered(path)) == {lost}


def test_where_the_tree_is_wrong_nothing_counts_as_whole(path: Path) -> None:
    """What is there comes over; but nobody can say what else there was."""
    spoil_tree(path)
    assert opened(path).damaged is not None
    assert unread(path) == list(MEMORY)
    assert Namespace.AVAILABILITY not in remembered(path)
    assert Namespace.FAULT in remembered(path)


@pytest.mark.parametrize("content", [b"", bytes(50_000), b"garbage" * 5000])
def test_of_a_file_that_is_no_ledger_all_is_forgotten(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert opened(path).damaged is not None
    assert unread(path) == list(MEMORY)
    assert set(remembered(path)) == {Namespace.FORGOTTEN}


def test_of_a_file_that_is_gone_all_is_forgotten(path: Path) -> None:
    path.rename(path.with_name("ledger.db-wal"))
    assert opened(path).damaged is not None
    assert unread(path) == list(MEMORY)


def test_what_was_forgotten_stays_so_when_the_next_ledger_is_damaged_too(path: Path) -> None:
    path.write_bytes(b"garbage")
    opened(path)
    spoil_row(path)
    assert "damaged-2" in (opened(path).damaged or "")
    with LedgerReader(path) as reader:
        assert set(reader.state(Namespace.FORGOTTEN)) == set(MEMORY)


def test_a_power_cut_before_the_next_ledger_is_born_costs_no_memory(path: Path) -> None:
    before = remembered(path)
    spoil_row(path)
    path.rename(path.with_name("ledger.db.damaged-1"))
    assert opened(path).damaged is not None
    assert remembered(path) == {each: before[each] for each in MEMORY}


def test_the_evidence_is_not_touched(path: Path) -> None:
    spoil_row(path)
    content = path.read_bytes()
    opened(path)
    assert path.with_name("ledger.db.damaged-1").read_bytes() == content
    with sqlite3.connect(f"file:{path}.damaged-1?mode=ro", uri=True) as connection:
        assert connection.execute("SELECT count(*) FROM state").fetchone() == (len(Namespace) + 1,)
