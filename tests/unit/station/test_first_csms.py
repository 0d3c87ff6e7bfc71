"""How far a CSMS counts as told at a start: what becomes of the cursor and its mark. On a real ledger file."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.facts import TxKind
from agent.ledger.state import Delete, Namespace, Put, StateChange
from agent.station.first_csms import accepted_by, cursor_at_start, same_csms
from tests.unit.station.test_archive import tx, written

CURSOR = Namespace.CURSOR
MARK, HEARD, HEARD_ALL = Put(CURSOR, "alone", "yes"), Put(CURSOR, "csms", "2"), Put(CURSOR, "csms", "3")
GIVEN_UP = Put(Namespace.CSMS_TX, "t1", "-1 given_up")


@pytest.mark.parametrize(
    ("has_csms", "kept", "delivered_seq", "changes"),
    [
        (False, [HEARD_ALL], 3, [MARK]),
        (False, [HEARD], 2, []),  # the rest waits for that CSMS
        (False, [HEARD, MARK], 2, []),  # written alone
        (True, [HEARD], 2, []),
        (True, [HEARD_ALL], 3, []),
        (True, [HEARD, MARK], 3, [GIVEN_UP, HEARD_ALL, Delete(CURSOR, "alone")]),
        (True, [MARK, Put(Namespace.CSMS_TX, "t1", "7")], 3, [GIVEN_UP, HEARD_ALL, Delete(CURSOR, "alone")]),
    ],
)
def test_whose_the_rows_are(
    tmp_path: Path, has_csms: bool, kept: list[StateChange], delivered_seq: int, changes: list[StateChange]
) -> None:
    """Of a transaction that is open; a number that an earlier CSMS gave it is another's to the next."""
    rows = ((tx(kind, n, 100), n, 0, "S") for n, kind in enumerate((TxKind.STARTED, TxKind.UPDATED)))
    archive = written(tmp_path / "l", *rows, changes=tuple(kept))
    assert cursor_at_start(archive, has_csms=has_csms) == changes
    assert archive.delivered_seq() == delivered_seq, "whether the changes are on disk or not"
    archive.close()


def test_a_new_station_without_a_csms_is_alone(tmp_path: Path) -> None:
    archive = written(tmp_path / "l", changes=(Put(Namespace.SETTING, "any", "1"),))
    assert cursor_at_start(archive, has_csms=False) == [MARK]
    assert cursor_at_start(archive, has_csms=True) == []
    archive.close()


OLD, NEW = "ws://old.example.com", "ws://new.example.com"


@pytest.mark.parametrize(
    ("before", "delivered_seq", "given_up"),
    [
        ("", 5, []),  # a ledger of older software: they are taken as this one's
        (OLD, 1, []),
        (OLD, 2, ["ended"]),
        (OLD, 3, ["ended", "open"]),
        (OLD, 4, ["open"]),
        (OLD, 5, ["open", "last"]),
    ],
)
def test_what_another_csms_was_told_of_and_has_not_heard_the_end_of_is_given_up(
    tmp_path: Path, before: str, delivered_seq: int, given_up: list[str]
) -> None:
    """Whether it gave numbers (1.6) or not; ``delivered_seq`` need not be on disk yet."""
    archive = written(
        tmp_path / "l",
        (tx(TxKind.STARTED, 0, 100, tx_id="ended"), 1, 0, "S"),
        (tx(TxKind.STARTED, 0, 100, tx_id="open", evse=2), 2, 0, "S"),
        (tx(TxKind.ENDED, 1, 200, tx_id="ended"), 3, 0, "S"),
        (tx(TxKind.STARTED, 0, 100, tx_id="last"), 4, 0, "S"),
        changes=(Put(Namespace.CSMS_TX, "ended", "1234"),),
    )
    marks = [Put(Namespace.CSMS_TX, tx_id, "-1 given_up") for tx_id in given_up]
    assert accepted_by(NEW, before, archive, delivered_seq) == [*marks, Put(CURSOR, "accepted by", NEW)]
    archive.close()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ws://h.example/a", "ws://h.example/a", True),
        ("ws://h.example/a", "WS://H.Example/a", True),
        ("ws://h.example/a", "ws://h.example/a/", True),
        ("ws://h.example", "ws://h.example/", True),
        ("ws://h.example/a", "ws://h.example:80/a", True),
        ("wss://h.example/a", "wss://h.example:443/a", True),
        ("ws://h.example/a", "wss://h.example/a", True),  # a security profile was raised
        ("ws://h.example:80", "wss://h.example:443", True),
        ("ws://[::1]:80/a", "ws://[::1]/a", True),
        ("ws://h.example/a?x=1", "ws://h.example/a/?x=1", True),
        ("ws://h.example/a", "ws://h.example/A", False),
        ("ws://h.example/a", "ws://h.example/a//", False),
        ("ws://h.example/a", "ws://h.example/b", False),
        ("ws://h.example/a?x=1", "ws://h.example/a?x=2", False),
        ("ws://h.example", "ws://h.example:8080", False),
        ("ws://h.example:443", "wss://h.example:80", False),
        ("ws://[::80]", "ws://[:]", False),  # the second is no URL
        ("ws://h.example", "ws://h.example.com", False),
        ("ws://h.example", "", False),
    ],
)
def test_one_csms_by_its_url_however_it_is_written(one: str, other: str, same: bool) -> None:
    assert same_csms(one, other) == same_csms(other, one) == same
