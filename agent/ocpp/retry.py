"""When a message that the CSMS does not take is sent again, in which form, and when it is given up. Pure.

Charter: the story of one ledger row's message, over connections: refusals, time-outs, and links that ended at it.
Nobody sends or sleeps here; time is an argument.

Refused, or swallowed by a CSMS that lives (16-TX-03, 20-TE-04): the same message goes again after ``interval`` x the
number of sends that failed so, ``attempts`` in total. These and the wait after one hold over reconnects, so that a link
that comes and goes does not use up the attempts early.

A time-out alone says nothing of the message: the link may be dead, or the CSMS behind a balancer that holds it open,
and each row would be given up in its turn. So a Heartbeat is asked right after it. Where it or another call is answered
then, the message was swallowed: an attempt. Else nothing is counted, and the message goes again when the CSMS answers
something: one that was only slow may book each of them. If it times out again, that is an attempt whatever comes after
it: a CSMS that takes one call at a time, and long for this one, leaves the Heartbeat behind it unanswered every time.
So a message goes at most once more than ``attempts`` on one link.

A link that ended is no attempt (16-TX-04): the message goes again on the next one. But some messages end the link
themselves: one that is too big for the CSMS, or at which it crashes. Billing must not stop for ever behind one, and no
bill may be lost to a bad link. So:

- Where the CSMS closes with a code that speaks of the message (``CODES_OF_A_MESSAGE``), the next form of the message
  goes: shorter, the bill still in it.
- Otherwise it takes ``HANG_UPS`` links in a row that ended at this very message, over ``PATIENCE_S`` at least, and all
  but the first few of them with a Heartbeat answered right before (``needs_proof``): then it is not the link, nor a
  CSMS that is away. From then on each further one takes the next form too, and after the last form the message is
  given up. ``PATIENCE_S`` is below the time between two nightly restarts, which forget this story.

Units: seconds of one clock that never steps.
Sources: checklist 16-TX-03, 16-TX-04, 20-TE-04; RFC 6455 section 7.4.1 (close codes); field faults 5, 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INTERVAL_MAX_S: Final = 3600
HANG_UPS: Final = 20
PROOF_AFTER: Final = 5  # hang-ups in a row; before, a link that comes and goes is told nothing but what it must
PATIENCE_S: Final = 6 * 3600.0
CODES_OF_A_MESSAGE: Final = frozenset({1003, 1007, 1009})  # cannot be taken, cannot be read, too big


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``attempts`` sends in total, ``interval_s`` x sends so far between them."""

    attempts: int
    interval_s: int


@dataclass(slots=True)
class Retry:
    """The story of the message of row ``seq``. ``form``: the one to send, 0 is the full one."""

    seq: int
    form: int = 0
    not_before_s: float = float("-inf")
    hang_ups: int = 0
    failures: int = 0  # refused, or swallowed
    sends: int = 0  # on this connection; one that was denied counts on the next as well: its id is used up
    bookable: int = 0  # sendings that the CSMS may have booked, on whatever connection
    _denied_sends: int = 0
    _first_hang_up_s: float = 0.0
    _proven: bool = False  # the CSMS answered on this connection
    _unanswered: bool = False  # sent on this connection, and not a word on it since
    _lived: bool = False  # the CSMS answered something on this connection after this had timed out
    _given_up: bool = False

    @property
    def needs_proof(self) -> bool:
        """Whether a Heartbeat is to be answered before this goes: ``proven`` says that it was."""
        return self.hang_ups >= PROOF_AFTER and not self._proven

    def is_over(self, policy: RetryPolicy) -> bool:
        """Whether it is given up."""
        return self._given_up or self.failures >= max(1, policy.attempts)

    def connected(self, now_s: float, forms: int) -> None:
        """A connection begins at this row. ``forms``: how many the message has."""
        if self._unanswered:  # the last one ended without a word on this message
            self.hung_up(now_s, None, forms)
            self.not_before_s = now_s
        self._proven = self._lived = False
        self.sends = self._denied_sends

    def proven(self) -> None:
        """The CSMS answered a Heartbeat on this connection."""
        self._proven = True

    def denied(self) -> None:
        """It was sent to a CSMS that had forgotten the registration: no attempt."""
        self._denied_sends = self.sends

    def refused(self, now_s: float, policy: RetryPolicy, *, last: bool = False) -> None:
        """A CALLERROR, or an answer that cannot be used. ``last``: it does not go again."""
        self._wait(now_s, policy)
        self._failed()
        self._given_up = last

    def timed_out(self, now_s: float, policy: RetryPolicy) -> None:
        """No answer in time: swallowed, if it went because the CSMS had answered again."""
        self._wait(now_s, policy)
        self._unanswered = True
        if self._lived:
            self._failed()

    def lived(self, *, at_once: bool) -> None:
        """The CSMS answered something after the time-out. ``at_once``: right after it, so the message was swallowed."""
        self._lived = True
        if at_once and self._unanswered:  # else it is counted already
            self._failed()

    def hung_up(self, now_s: float, code: int | None, forms: int) -> None:
        """The link ended after this was sent, before its answer; ``code``: with which the CSMS closed it."""
        self._unanswered = False
        counts = not self.needs_proof
        if counts:
            self._first_hang_up_s = now_s if self.hang_ups == 0 else self._first_hang_up_s
            self.hang_ups += 1
        tired = counts and self.hang_ups >= HANG_UPS and now_s - self._first_hang_up_s >= PATIENCE_S
        if not tired and code not in CODES_OF_A_MESSAGE:
            return
        if self.form + 1 < forms:
            self.form += 1
        elif tired:
            self._given_up = True

    def _failed(self) -> None:
        self.failures += 1
        self.hang_ups, self._unanswered = 0, False

    def _wait(self, now_s: float, policy: RetryPolicy) -> None:
        self.not_before_s = now_s + min(policy.interval_s * (self.failures + 1), INTERVAL_MAX_S)
