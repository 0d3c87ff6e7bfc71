"""What the back office has booked: transactions by content, whatever way their messages came.

Charter: the ledger's counterpart for the checkers. It takes what both dialects' desks read out of messages, spots
repetitions by content, notes what came out of order, and keeps counters and short histories of everything else.
It judges nothing away: whether a gap is excused is said beside it (``excuses``).

Units: registers in mWh (1.6 tells whole Wh, rounded down). Limits: histories hold the last 256 entries, notes of a
transaction 16; transactions themselves stay until ``forget``.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeVar

from agent.sim.world.excuses import Row

HISTORY_MAX: Final = 256
NOTES_MAX: Final = 16

T = TypeVar("T")


def _history() -> deque[T]:
    return deque(maxlen=HISTORY_MAX)


class Numbers:
    """A set of whole numbers kept as ranges: thousands of consecutive ones cost one pair."""

    __slots__ = ("ranges",)

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []  # first and last, rising, apart

    def __repr__(self) -> str:
        return f"Numbers({self.ranges})"

    def __contains__(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self.ranges)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    @property
    def last(self) -> int:
        """The greatest, -1 when there is none."""
        return self.ranges[-1][1] if self.ranges else -1

    def add(self, number: int) -> None:
        """Add one; a number that is there already changes nothing."""
        if self.ranges and number == self.ranges[-1][1] + 1:
            self.ranges[-1] = (self.ranges[-1][0], number)
        elif number not in self:
            self.ranges = _merged([*self.ranges, (number, number)])

    @property
    def missing(self) -> tuple[int, ...]:
        """What lacks between 0 and the greatest."""
        present = [(-1, -1), *self.ranges]
        return tuple(n for before, after in pairwise(present) for n in range(before[1] + 1, after[0]))


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


@dataclass(slots=True)
class Booked:
    """A transaction as the back office knows it.

    ``key``: 2.0.1 the transaction id; 1.6 ``connector timestamp meterStart`` of its first StartTransaction, whose
    message id is ``message_id``. ``number``: the transactionId of 1.6. ``starts`` and ``ends`` count different
    messages that were booked (1 each is right), ``repeats`` those that came again. ``begin_mwh`` and ``end_mwh`` are
    None until told. ``verdict`` is what was said last of its token. ``excused`` counts its rows that the station may
    have dropped (MeterValues of 1.6 aside). ``disorder`` says in words what came out of order."""

    key: str
    evse: int
    message_id: str
    number: int | None = None
    id_token: str = ""
    started_at: str = ""
    ended_at: str = ""
    begin_mwh: int | None = None
    last_mwh: int | None = None
    end_mwh: int | None = None
    reason: str = ""
    starts: int = 0
    ends: int = 0
    messages: int = 0
    repeats: int = 0
    verdict: str = ""
    excused: int = 0
    seq_nos: Numbers = field(default_factory=Numbers)
    disorder: list[str] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        return self.ends == 0

    @property
    def energy_mwh(self) -> int:
        """Between its first and last told register; 0 while one is not known."""
        end_mwh = self.last_mwh if self.end_mwh is None else self.end_mwh
        return 0 if end_mwh is None or self.begin_mwh is None else end_mwh - self.begin_mwh

    def note(self, what: str) -> None:
        """Something came out of order."""
        if len(self.disorder) < NOTES_MAX:
            self.disorder.append(what)

    def read(self, register_mwh: int) -> None:
        """A register reading, which must not fall."""
        if self.last_mwh is not None and register_mwh < self.last_mwh:
            self.note(f"register fell from {self.last_mwh} to {register_mwh} mWh")
        self.last_mwh = register_mwh


@dataclass(frozen=True, slots=True)
class Orphan:
    """A message of 1.6 of no transaction: transactionId -1, or one that was never given."""

    action: str
    number: int
    evse: int | None
    at: str
    register_mwh: int | None


class Book:
    """Everything booked. ``running`` is by EVSE; ``totals`` remembers what was forgotten."""

    def __init__(self) -> None:
        self.transactions: dict[str, Booked] = {}
        self.running: dict[int, Booked] = {}
        self.orphans: dict[Orphan, int] = {}  # how often each came
        self.counts: Counter[str] = Counter()
        self.statuses: dict[int, str] = {}  # the last of each connector
        self.status_history: deque[tuple[int, str]] = _history()
        self.boots: deque[tuple[str, str]] = _history()  # software version and reason as told
        self.security_events: deque[str] = _history()
        self.firmware: deque[tuple[str, int | None]] = _history()  # status, request id
        self.authorizations: deque[tuple[str, str]] = _history()  # token, verdict
        self.forgotten_mwh = 0
        self._by_number: dict[int, str] = {}
        self.next_number = 0  # 0 is a number as good as any (16-TX-08)

    # ----------------------------------------------------------------------------------- transactions

    def begin(self, booked: Booked) -> None:
        """A transaction that was not known before."""
        before = self.running.get(booked.evse)
        if before is not None and before.excused == 0:
            booked.note(f"began while {before.key} was running on {booked.evse}")
        self.transactions[booked.key] = booked
        self.running[booked.evse] = booked

    def end(self, booked: Booked) -> None:
        """Its end was booked."""
        if self.running.get(booked.evse) is booked:
            del self.running[booked.evse]

    def number(self, booked: Booked) -> int:
        """Give it a transactionId of 1.6."""
        booked.number = self.next_number
        self.next_number += 1
        self._by_number[booked.number] = booked.key
        return booked.number

    def numbered(self, number: int) -> Booked | None:
        """The transaction of a transactionId of 1.6."""
        key = self._by_number.get(number)
        return None if key is None else self.transactions.get(key)

    def named(self, row: Row) -> Booked | None:
        """The transaction that a row belongs to, if that can be told of its name alone."""
        match row:
            case ("StartTransaction", connector, at, meter_wh):
                return self.transactions.get(f"{connector} {at} {meter_wh}")
            case ("StopTransaction", int(number), _at, _meter_wh):
                return self.numbered(number)
            case ("TransactionEvent", str(key), _seq_no):
                return self.transactions.get(key)
            case _:
                return None

    def orphan(self, orphan: Orphan) -> None:
        """A message of no transaction."""
        self.orphans[orphan] = self.orphans.get(orphan, 0) + 1

    def forget(self, key: str) -> None:
        """A checker has compared it: only its energy is kept. Raises ``KeyError``."""
        booked = self.transactions.pop(key)
        self.end(booked)
        self.forgotten_mwh += booked.energy_mwh
        if booked.number is not None:
            del self._by_number[booked.number]

    @property
    def energy_mwh(self) -> int:
        """Of all transactions, forgotten ones included; of orphans nothing is known."""
        return self.forgotten_mwh + sum(booked.energy_mwh for booked in self.transactions.values())

    # ------------------------------------------------------------------------------------ other things

    def status(self, evse: int, status: str) -> None:
        """A connector's status."""
        self.statuses[evse] = status
        self.status_history.append((evse, status))
