"""Whatever a ledger refuses ends the station, from whichever place it was written, and raises nothing there."""

from __future__ import annotations

import pytest

from agent.ledger.errors import LedgerFailed
from agent.ledger.retention import CutOrder
from agent.station.ending_writer import EndingWriter


class Refusing:
    """A writer that takes nothing, with what it is asked for."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def append(self, *_: object, **__: object) -> None:
        raise self.error

    def cut(self, *_: object) -> None:
        raise self.error

    async def close(self) -> None:
        raise AssertionError("not asked for")


ORDER = CutOrder(1, 1, 0, "boot-1", 0, 0, "S", frozenset())


def test_a_refusal_is_told_and_raises_nothing() -> None:
    told: list[LedgerFailed] = []
    error = LedgerFailed("disk I/O error")
    writer = EndingWriter(Refusing(error), told.append)
    writer.append((), (), lambda _: pytest.fail("never durable"))
    writer.cut(ORDER, lambda _: pytest.fail("never cut"))
    assert told == [error, error]


def test_a_mistake_of_ours_is_raised() -> None:
    writer = EndingWriter(Refusing(RuntimeError("the ledger writer is closed")), lambda _: pytest.fail("no failure"))
    with pytest.raises(RuntimeError):
        writer.append()
    with pytest.raises(RuntimeError):
        writer.cut(ORDER, lambda _: None)
