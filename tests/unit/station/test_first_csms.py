"""How far a CSMS counts as told at a start: what becomes of the cursor and its mark. On a real ledger file."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.facts import TxKind
from agent.ledger.state import Delete, Namespace, Put, StateChange
from agent.station.first_csms import cursor_at_start
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
