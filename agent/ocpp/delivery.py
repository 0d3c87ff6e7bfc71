"""The delivery pump: what the ledger holds goes to the CSMS, once, in order, one at a time.

Charter: moves the station's cursor over the ledger. It pulls rows in small pages, lets the dialect
(``Translator``) make a CALL of each row that concerns the CSMS, and moves the cursor on only when
that CALL was validly answered or given up by the retry rules; the rows stay in the ledger in any
case. It keeps no queue: memory is one page, however long the station was offline.

What the CSMS does not take is sent again, and given up in the end, by the rules of ``agent.ocpp.retry``: what is given
up is counted and logged, and the next one goes (a poison message must not stop billing). A CSMS that refuses every
reading must not hold up the bills behind them either: after a few that it refused to the end in a row, each further one
goes once, until one is taken.

Message ids derive from the row, so that a message repeated on a new connection carries the id it
had on the old one and the CSMS can spot the duplicate. A retry on the same connection takes a new id
in 1.6, where ids must differ, and keeps its id in 2.x (16-TX-05).

An answer that comes after its time-out is as good, while it is still the turn of its row, and of several the first
counts: the CSMS has booked that sending, and in 1.6 nothing else says under which number.

Where the conversation begins anew on the same connection, what is on its way is waited for before: the CSMS may book
it, and that must be heard (``_unbroken``).

Sources: OCPP 1.6 section 4.1, 3.7.1; OCPP 2.0.1 part 2 E04, E13; checklist 16-TX-01 to 05, WS-11.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

import structlog

from agent.ipc.port import CsmsTx, Progress, Record, StationPort
from agent.ocpp.dialect import Line, LinkGone, NotRegistered
from agent.ocpp.frames import Payload
from agent.ocpp.retry import Retry, RetryPolicy
from agent.ocpp.rpc import CallError, CallResult, Priority, TimedOut

log = structlog.get_logger("ocpp")

PAGE_ROWS: Final = 16
MINOR_REFUSED_MAX: Final = 3
"""So many readings in a row that were refused to the end say that the CSMS wants none."""
LIFE_EVERY_S: Final = 60.0  # between two Heartbeats to a CSMS that answers nothing
_Outcome = CallResult | CallError | TimedOut
_ID_SPACE: Final = uuid.UUID("6f2b1d1e-6d0c-4f0c-9a53-2b8f6c1f7a40")


@dataclass(frozen=True, slots=True)
class Message:
    """One CALL made of one row. ``once``: it is not transaction-related, so a refusal is the end of it. ``minor``: no
    bill is wrong without it. ``again``, once it is answered: an earlier sending may have been booked.

    ``shorter``: the same in fewer words, and in fewer still, for a CSMS that hangs up at the full one."""

    action: str
    payload: Payload
    once: bool = False
    minor: bool = False
    shorter: tuple[Payload, ...] = ()
    again: bool = False

    def form(self, number: int) -> Payload:
        """The full one is number 0."""
        return (self.payload, *self.shorter)[min(number, len(self.shorter))]


class Translator(Protocol):
    """The dialect's part in delivery."""

    async def begin(self, progress: Progress) -> None:
        """A connection begins here; ``progress`` is what the station remembers."""
        ...

    async def render(self, record: Record) -> Message | None:
        """The CALL that tells the CSMS of this row; None where the row does not concern it."""
        ...

    async def answered(self, record: Record, message: Message, answer: Payload) -> CsmsTx | None:
        """The CSMS took it; the answer conforms to its schema. Returns what must be kept with the cursor.

        May happen again for the same row, if we die before the cursor is on disk."""
        ...

    async def given_up(self, record: Record) -> CsmsTx | None:
        """The retry rules gave it up. Returns what must be kept with the cursor."""
        ...


@dataclass(slots=True)
class Counters:
    """Since the gateway started."""

    delivered: int = 0
    dropped: int = 0
    retried: int = 0


class Delivery:
    """The pump of one dialect; ``run`` once per connection, never two at a time.

    ``policy`` is asked before every retry decision, so that a changed setting holds at once."""

    def __init__(
        self,
        station: StationPort,
        identity: str,
        translator: Translator,
        policy: Callable[[], RetryPolicy],
        *,
        new_id_on_retry: bool,
    ) -> None:
        self.counters = Counters()
        self._station = station
        self._identity = identity
        self._translator = translator
        self._policy = policy
        self._new_id_on_retry = new_id_on_retry
        self._rows_appended = asyncio.Event()
        self._line: Line | None = None  # the last one
        self._retry = Retry(0)  # of the row whose turn it is, over reconnects
        self._answer: asyncio.Future[Payload]  # the first good one to this row, in time or after its time-out
        self._bookable_before = 1  # sendings of the first row by the gateway before, or another dialect: who knows
        self._minor_refused = 0  # to the end, since one was taken

    def wake(self) -> None:
        """Rows were appended."""
        self._rows_appended.set()

    def others_spoke(self) -> None:
        """Another dialect did since the last connection: it may have sent the row whose turn it is."""
        self._bookable_before = 1

    async def run(self, line: Line) -> None:
        """Deliver until the link ends. Raises ``LinkGone``, ``StationLost``."""
        progress = await self._station.progress()
        await self._translator.begin(progress)
        kept_seq = cursor = progress.delivered_seq
        while True:
            self._rows_appended.clear()
            page = await self._station.records(cursor, PAGE_ROWS)
            for record in page:
                if await self._deliver(line, record):
                    kept_seq = record.seq
                cursor = record.seq
            if cursor > kept_seq:  # rows that concern nobody: told once per page
                await self._station.delivered(cursor)
                kept_seq = cursor
            if not page:
                self._bookable_before = 0  # what comes now was sent by nobody
                await self._rows_appended.wait()

    async def _deliver(self, line: Line, record: Record) -> bool:
        """Bring one row to an end; False when there was nothing to send."""
        message = await self._translator.render(record)
        if message is None:
            return False
        if self._retry.seq != record.seq:
            self._retry, self._answer = Retry(record.seq), asyncio.get_running_loop().create_future()
        self._retry.bookable += self._bookable_before
        self._bookable_before = 0
        retry, answer, loop = self._retry, self._answer, asyncio.get_running_loop()
        if line is not self._line:
            self._line = line
            retry.connected(loop.time(), 1 + len(message.shorter))
        if retry.needs_proof and await _lives(line):
            retry.proven()
        while not (answer.done() or retry.is_over(self._policy())):
            if (wait_s := retry.not_before_s - loop.time()) > 0:
                done, _ = await asyncio.wait([answer], timeout=wait_s)
                if done:
                    break
            outcome = await _unbroken(line, self._attempt(line, record, message))
            if isinstance(outcome, CallResult):
                return True
            if isinstance(outcome, TimedOut):
                await self._until_it_lives(line)
            if not (answer.done() or retry.is_over(self._policy())):
                self.counters.retried += 1
                log.warning("delivery_retry", seq=record.seq, action=message.action, failures=retry.failures)
        if answer.done():
            await self._take(record, message)
        else:
            await self._give_up(record, message)
        return True

    async def _attempt(self, line: Line, record: Record, message: Message) -> _Outcome:
        """Send the message once, and keep what came of it. Raises ``LinkGone``."""
        outcome = await self._send(line, record, message)
        retry, now_s = self._retry, asyncio.get_running_loop().time()
        match outcome:
            case CallResult(answer):
                _keep(self._answer, answer)
                await self._take(record, message)
            case CallError():
                last = message.once or (message.minor and self._minor_refused >= MINOR_REFUSED_MAX)
                retry.refused(now_s, self._policy(), last=last)
                if message.minor and not last and retry.is_over(self._policy()):
                    self._minor_refused += 1
            case TimedOut():
                retry.timed_out(now_s, self._policy())
        return outcome

    async def _send(self, line: Line, record: Record, message: Message) -> _Outcome:
        """Send the message once, in the form that is due. Raises ``LinkGone``."""
        retry = self._retry
        number = retry.sends if self._new_id_on_retry else 0
        retry.sends += 1
        retry.bookable += 1
        try:
            return await line.call(
                message.action,
                message.form(retry.form),
                priority=Priority.STATUS if message.once else Priority.TRANSACTION,
                message_id=message_id(self._identity, record, number),
                on_late=partial(_keep, self._answer),
            )
        except NotRegistered:
            retry.denied()
            retry.bookable -= 1
            raise
        except LinkGone as gone:
            if gone.lost.sent:
                retry.hung_up(asyncio.get_running_loop().time(), gone.lost.code, 1 + len(message.shorter))
                log.warning(
                    "delivery_hung_up",
                    seq=record.seq,
                    action=message.action,
                    code=gone.lost.code,
                    hang_ups=retry.hang_ups,
                    next_form=retry.form,
                )
            else:
                retry.bookable -= 1
            raise

    async def _until_it_lives(self, line: Line) -> None:
        """After a time-out: was it the message, or does the CSMS answer nothing at all? Raises ``LinkGone``.

        Any answer is a sign of life: some CSMS answer no Heartbeat. It is waited for after the last attempt too, or the
        next message would go to a CSMS that is still busy with this one."""
        timed_out_s, at_once = asyncio.get_running_loop().time(), True
        while not (self._answer.done() or await _lives(line) or line.last_answer_s > timed_out_s):
            at_once = False
            await asyncio.wait([self._answer], timeout=LIFE_EVERY_S)
        self._retry.lived(at_once=at_once)

    async def _take(self, record: Record, message: Message) -> None:
        """The answer has come. Raises ``StationLost``."""
        message = replace(message, again=self._retry.bookable > 1)
        kept = await self._translator.answered(record, message, self._answer.result())
        await self._station.delivered(record.seq, kept)
        self.counters.delivered += 1
        if message.minor:
            self._minor_refused = 0

    async def _give_up(self, record: Record, message: Message) -> None:
        self.counters.dropped += 1
        failures, hang_ups = self._retry.failures, self._retry.hang_ups
        log.error("delivery_dropped", seq=record.seq, action=message.action, failures=failures, hang_ups=hang_ups)
        kept = await self._translator.given_up(record)
        await self._station.delivered(record.seq, kept)


def _keep(first: asyncio.Future[Payload], answer: Payload) -> None:
    if not first.done():
        first.set_result(answer)


async def _lives(line: Line) -> bool:
    """Whether the CSMS answers a Heartbeat. Raises ``LinkGone``."""
    return not isinstance(await line.call("Heartbeat", {}, priority=Priority.TRANSACTION), TimedOut)


async def _unbroken(line: Line, attempt: Coroutine[object, object, _Outcome]) -> _Outcome:
    """Await ``attempt``; cancelled where the CSMS has forgotten this station, not before it is over."""
    task = asyncio.create_task(attempt)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not line.is_forgotten:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


def message_id(identity: str, record: Record, attempt: int) -> str:
    """The id of the ``attempt``-th sending of this row on one connection.

    The fact itself is part of it: should a ledger ever start anew, its rows repeat old numbers but must
    not repeat old ids."""
    return str(uuid.uuid5(_ID_SPACE, f"{identity}/{record.seq}/{attempt}/{record.fact!r}"))
