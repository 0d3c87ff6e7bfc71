"""What the station may have given up for good reason: the back office's refusals and silences, per row.

Charter: counts, for each row of the station's ledger that came as a message, what the station must have seen of its
sendings. A checker asks ``excused`` before it calls a missing row a loss.

What the station may drop (``agent.ocpp.retry``; 16-TX-03, 16-TX-04, 20-TE-04), and how it is counted here:

- A CALLERROR, or an answer that is no valid CALLRESULT of its message, is a refusal. Refusals of a row add up over
  connections (they are counted here over restarts of the gateway too, which forgets them: that errs on the lenient
  side, and then the row comes again anyway).
- No answer within the message time-out while the connection lives is a time-out. So is an answer that comes late,
  one that was spoiled, and a message that was spoiled or swallowed on its way: to the station all look alike (a late
  one it takes, while the message's turn lasts: counted all the same, on the lenient side). It counts
  where the back office answers another CALL on the same connection afterwards; the station asks for one at once, and
  takes only that (again on the lenient side). While nothing is answered nothing may be dropped.
- A connection that ends before the time-out is no attempt at all. (Of very many at the same row the station makes one,
  ``agent.ocpp.retry``: more than anything here brings about.)
- Refusals and time-outs together reach ``attempts`` (OCPPCommCtrlr.MessageAttempts): the row is dropped, and the
  next one goes. A message that is not transaction-related (``once``) is dropped at its first refusal.
- After a dropped StartTransaction of 1.6 the transaction goes on under transactionId -1: its messages come, but
  belong to nothing (``booking.Orphan``). After a dropped Started of 2.0.1 the transaction simply begins later.
- Nothing else. A row that came neither to the book nor here was lost by the station, and so was one that comes after
  a later row.

A row may be both booked and excused: the back office can book a message and fail to say so in time.

A row's name: ("StartTransaction", connector, timestamp, meterStart), ("StopTransaction", transactionId, timestamp,
meterStop), ("MeterValues", connector, timestamp, context), ("TransactionEvent", transactionId, seqNo), or the action
with the text of its payload.

Limits: 4,096 rows under way, 100,000 excuses; the oldest go first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

UNDER_WAY_MAX: Final = 4_096
EXCUSES_MAX: Final = 100_000

Row = tuple[str | int, ...]


@dataclass(slots=True)
class Tally:
    """What the station saw of one row so far."""

    refusals: int = 0
    timeouts: int = 0
    message_id: str = ""


class Excuses:
    """See the module. ``attempts`` is the station's setting; lower it here before it is lowered there."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.excused: OrderedDict[Row, Tally] = OrderedDict()
        self._under_way: OrderedDict[Row, Tally] = OrderedDict()
        self._unproven: dict[Row, tuple[int, Tally]] = {}  # time-outs that do not count yet, and on which connection

    def refused(self, row: Row, message_id: str, *, once: bool) -> bool:
        """The station got a refusal or an unusable answer in time. True: it may have dropped the row now."""
        self._unproven.pop(row, None)
        tally = self._tally(row, message_id)
        tally.refusals += 1
        return self._judge(row, tally, self.attempts if not once else 1)

    def timed_out(self, row: Row, message_id: str, wire: int) -> None:
        """The station got nothing in time on the connection of this number."""
        self._unproven[row] = (wire, self._tally(row, message_id))

    def answered(self, row: Row | None, wire: int) -> list[Row]:
        """The station got an answer to a CALL, of this row if any, on that connection. Returns what it may have dropped
        now."""
        before, self._unproven = self._unproven, {}
        dropped = []
        for each, (number, tally) in before.items():
            if number != wire:
                continue  # the next connection counts from nothing
            if each == row:
                self._unproven[each] = (number, tally)
                continue
            tally.timeouts += 1
            if self._judge(each, tally, self.attempts):
                dropped.append(each)
        return dropped

    def settled(self, row: Row) -> None:
        """The station got a good answer in time."""
        self._under_way.pop(row, None)
        self._unproven.pop(row, None)

    def _tally(self, row: Row, message_id: str) -> Tally:
        tally = self._under_way.get(row)
        if tally is None:
            tally = self._under_way[row] = Tally(message_id=message_id)
            if len(self._under_way) > UNDER_WAY_MAX:
                self._under_way.popitem(last=False)
        return tally

    def _judge(self, row: Row, tally: Tally, allowed: int) -> bool:
        if tally.refusals + tally.timeouts < max(1, allowed):
            return False
        self.excused[row] = tally
        if len(self.excused) > EXCUSES_MAX:
            self.excused.popitem(last=False)
        return True
