"""Rows and ledgers for tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

from agent.ledger.book import Change, MakeRoom
from agent.ledger.chain_check import ChainCheck
from agent.ledger.errors import ChainBroken, LedgerFailed
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import START, Head, NewRow, Row, Sealed, Slot, chain
from agent.ledger.store import Birth, Opened, open_ledger
from agent.ledger.writer import LedgerWriter

T = TypeVar("T")
BIRTH = Birth("1.2.3", "SN-7", "boot-1", mono_ms=5, wall_ms=1_764_000_000_000, time_status="S")


def new_row(number: int = 0, kind: str = "meter", **changes: Any) -> NewRow:
    fields: dict[str, Any] = {
        "kind": kind,
        "body": b'{"n":%d}' % number,
        "boot_id": "boot-1",
        "mono_ms": 1000 + number,
        "wall_ms": 1_764_000_000_000 + number,
        "time_status": "S",
    }
    return NewRow(**(fields | changes))


def sealed_row(make: Callable[[Slot], bytes], kind: str = "signed", **changes: Any) -> Sealed:
    fields: dict[str, Any] = {
        "kind": kind,
        "make": make,
        "boot_id": "boot-1",
        "mono_ms": 1000,
        "wall_ms": 1_764_000_000_000,
        "time_status": "S",
    }
    return Sealed(**(fields | changes))


def numbered(counter: str = "T", **changes: Any) -> Sealed:
    """A row whose body says which place it got."""
    return sealed_row(lambda slot: json.dumps(place_of(slot, counter)).encode(), counter=counter, **changes)


def place_of(slot: Slot, counter: str) -> dict[str, object]:
    return {"seq": slot.seq, "prev": slot.prev_hash.hex(), "counter": counter, "number": slot.number}


def chained(new_rows: Sequence[NewRow]) -> list[Row]:
    rows: list[Row] = []
    head = START
    for new in new_rows:
        rows.append(chain(head, new))
        head = type(head)(rows[-1].seq, rows[-1].hash)
    return rows


def verify(rows: Sequence[Row], after: Head = START) -> Head:
    """Walk the chain over rows that are in no file. Raises ``ChainBroken`` for the first that is wrong."""
    pages = iter([[astuple(row) for row in rows], []])

    def select(query: str, values: Sequence[object]) -> list[Any]:
        if "prev_hash FROM ledger" in query:  # which is the first row there is
            return [(rows[0].seq, rows[0].prev_hash)]
        return [] if "kind = 'cut'" in query else next(pages)

    check = ChainCheck(select)
    for finding in check.walk(after, 0):
        raise ChainBroken(finding.seq, finding.fault, finding.detail)
    return check.head


def opened(path: Path) -> Opened:
    return open_ledger(path, BIRTH)


class Pen:
    """A writer and everything it said, in order."""

    def __init__(self, path: Path, make_room: MakeRoom = lambda: False) -> None:
        self.failures: list[LedgerFailed] = []
        self.answers: list[list[Row]] = []
        self._awaited: list[asyncio.Future[Any]] = []
        self.writer = LedgerWriter(path, asyncio.get_running_loop(), self._failed, make_room)

    def _failed(self, failure: LedgerFailed) -> None:
        self.failures.append(failure)
        for answer in self._awaited:
            if not answer.done():
                answer.set_exception(failure)

    def send(self, *rows: NewRow | Sealed, changes: Sequence[Change] = (), lazy: bool = False) -> None:
        self.writer.append(rows, changes, self.answers.append, lazy=lazy)

    async def write(self, *rows: NewRow | Sealed, changes: Sequence[Change] = ()) -> list[Row]:
        """Write and wait for the answer; fails the test if there is none."""
        answer: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()

        def answered(written: list[Row]) -> None:
            self.answers.append(written)
            answer.set_result(written)

        self.writer.append(rows, changes, answered)
        return await self.answer(answer)

    async def answer(self, answer: asyncio.Future[T]) -> T:
        """Wait for what the writer will say; raises ``LedgerFailed`` at once if it fails instead."""
        self._awaited.append(answer)
        if self.failures and not answer.done():
            raise self.failures[0]
        return await asyncio.wait_for(answer, 10)

    async def until(self, met: Callable[[], bool], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not met():
                await asyncio.sleep(0.002)


def write(path: Path, *rows: NewRow | Sealed, changes: Sequence[Change] = ()) -> None:
    """Write in one commit and close. ``path`` must be an opened ledger."""

    async def main() -> None:
        pen = Pen(path)
        await pen.write(*rows, changes=changes)
        await pen.writer.close()

    asyncio.run(main())


def read_all(path: Path) -> list[Row]:
    with LedgerReader(path) as reader:
        rows: list[Row] = []
        while page := reader.rows(len(rows), 100):
            rows.extend(page)
        return rows
