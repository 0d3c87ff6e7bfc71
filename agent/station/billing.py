"""Prices of the running transactions: their books, their next boundary, what they may still use up.

Charter: pure, beside ``limits``. Follows what the core writes, adds the points at which a price changes,
asks for a reading where time alone changes one, and ends a prepaid transaction before its credit is
spent. What goes to disk of it is ``agent.station.rows``'s, what it costs ``agent.tariff``'s.

Rules (metering reference 3.5, 3.7, 4.6): at a boundary of time the last reading before it and the first
after it become one row; a change of power, current or energy that chooses another price becomes a row; so
does a new tariff and a step of the clock, with the first reading after it. A price never changes the past, since
it only holds from its row on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from agent.billing.books import Books, Stamp, Terms
from agent.billing.facts import Bounds
from agent.core.effects import Append, Effect, ReadMeter, TransactionEnded
from agent.core.events import ClockSet, Exhausted, FromMeter, Tick
from agent.core.facts import (
    Fact,
    LimitFact,
    LogEntry,
    LogFact,
    PriceCause,
    PriceFact,
    Sample,
    StopReason,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.core.session import SessionState, Transaction
from agent.core.station import Station
from agent.station.prepaid import (
    REST,
    TECHNICIAN,
    credit_of,
    forerunner,
    lesser,
    reached,
    rest_of,
    site_limit,
    told_limit,
)
from agent.station.tariffs import TariffBook
from agent.tariff.cost import Bill, bill
from agent.tariff.usage import Usage
from hal.ports import MeterReading

BOUNDARY_RETRY_MS = 5_000  # the meter did not answer at a boundary: it is asked again
CHANGE_WAIT_MS = 2_000  # a reading a second, and one may be missing; the CSMS waits for the answer
CHOICE_EVERY_MS = 10_000  # conditions on power, current and energy are looked at so often (OCPP 2.1 I12.FR.31)
CLOCK_STEP_MS = 2_000  # a smaller correction is not worth a row (the core's measure, too)
_ENDING = (SessionState.RELEASING, SessionState.END_READING)


@dataclass(slots=True)
class _Open:
    """A transaction that is not yet wholly on disk."""

    books: Books
    evse: int
    due_ms: int | None = None  # a boundary that no reading has passed yet
    looked_ahead: bool = False  # for what the books know now
    before: Sample | None = None  # the last reading before it, once it has passed
    seen: Sample | None = None  # the newest reading when the core stepped last
    asked_at_ms: int | None = None
    chosen_at_ms: int | None = None  # when power, current or energy last chose another price
    wanted: str | None = None  # content hash of a tariff that is to hold from the next reading on
    clock_moved: bool = False  # the clock was set: a row says so with the next reading
    changed_ms: int | None = None  # when that reading was asked for
    limit: LimitFact | None = None  # what it may use up at most, not yet written
    told: LimitFact | None = None  # as written last by all but a technician
    rest: LimitFact | None = None  # what the transaction before has left
    site_asked: bool = False  # whether the site's limits were looked up
    ending: bool = False  # told the core that a limit is reached

    @property
    def is_priced(self) -> bool:
        """Or is about to be: a tariff that was told holds from the next reading on."""
        return bool(self.books.tariffs) or self.wanted is not None


class Billing:
    """Books and prices of one station. ``boot_id`` is that of the rows that will be written, ``most_mw``
    what each EVSE can deliver."""

    def __init__(
        self,
        core: Station,
        tariffs: TariffBook,
        terms: Callable[[int], Terms],
        boot_id: str,
        *,
        most_mw: Mapping[int, int],
        min_energy_mwh: int = 0,
    ) -> None:
        self._core = core
        self._terms = terms
        self._boot_id = boot_id
        self._min_energy_mwh = min_energy_mwh
        self._most_mw = most_mw
        self._open: dict[str, _Open] = {}
        self._unsaid: list[LogFact] = []
        self._clock = (core.ctx.wall_offset_ms, core.ctx.time_status)
        self.tariffs = tariffs

    # ------------------------------------------------------------------------------------ following

    def restore(self, history: Iterable[tuple[Fact, Stamp]]) -> None:
        """A transaction that was found open: its rows so far. Rows that make no sense are no reason not to
        start: then the transaction goes on without books."""
        tx_id, evse = "", None
        try:
            for fact, stamp in history:
                tx_id, evse = getattr(fact, "tx_id", tx_id), getattr(fact, "evse", evse)
                self._note(fact, stamp)
        except Exception as error:
            self._give_up(tx_id, evse, error)

    def follow(self, event: object, effects: list[Effect]) -> list[Effect]:
        """After the core has stepped: note what it wrote, and return what follows from it. A boundary of price
        that was passed by what it wrote is put before it into ``effects``."""
        self._put_boundaries(effects)
        self._note_all(effects)
        more: list[Effect] = []
        for each in list(self._open.values()):
            with self._surviving(each):
                self._price(each, event)
        if isinstance(event, Tick):  # before the first one, nobody writes
            self._say()
        more += self._take()
        for each in list(self._open.values()):
            why = None
            with self._surviving(each):
                why = self._reached(each)
            if why is not None:
                each.ending = True
                ended = self._core.step(Exhausted(each.books.started.tx_id, *why), self._core.ctx.at_ms)
                self._note_all(ended)
                more += ended
        for effect in effects + more:
            if isinstance(effect, TransactionEnded):
                self._open.pop(effect.tx_id, None)
        self._look_ahead()
        return more

    def _look_ahead(self) -> None:
        now_ms = self._core.ctx.at_ms
        for each in self._open.values():
            if not each.looked_ahead and (each.due_ms is None or each.due_ms > now_ms):
                each.due_ms, each.looked_ahead = each.books.next_boundary_ms(), True
            tx = self._running(each)
            each.seen = None if tx is None else tx.last
        self._clock = (self._core.ctx.wall_offset_ms, self._core.ctx.time_status)

    def _note_all(self, effects: list[Effect]) -> None:
        for place, effect in enumerate(effects):
            if isinstance(effect, Append):
                stamp = Stamp(self._boot_id, effect.at_ms, effect.wall_ms, effect.time_status)
                for fact in effect.facts:
                    each = self._open.get(getattr(fact, "tx_id", ""))
                    with self._surviving(each):
                        self._note(fact, stamp)
                effects[place] = self._with_limits(effect, stamp)

    def _with_limits(self, effect: Append, stamp: Stamp) -> Append:
        """What is left of its limits to a transaction that follows another is one commit with its start."""
        facts = list(effect.facts)
        for fact in effect.facts:
            each = self._open.get(fact.tx_id) if isinstance(fact, TransactionFact) and fact.follows else None
            if each is not None and each.limit is not None:
                facts.append(each.limit)
                self._note(each.limit, stamp)
                each.limit = None
        return replace(effect, facts=tuple(facts))

    def _note(self, fact: Fact, stamp: Stamp) -> None:
        tx_id = getattr(fact, "tx_id", None)
        if isinstance(fact, TransactionFact) and fact.kind is TxKind.STARTED:
            before = None if fact.follows is None else self._open.get(fact.follows.tx_id)
            limit = None
            if before is not None:
                with self._surviving(before):
                    fact, limit = self._carry_on(before.books, fact)
            books = Books(fact, stamp, self.tariffs.tariff, self._terms(fact.evse))
            self._open[fact.tx_id] = each = _Open(books, fact.evse)
            if fact.tariff is not None and not books.tariff_hashes:
                self._unsaid.append(LogFact(LogEntry.TARIFF_REFUSED, fact.evse, (("tariff", fact.tariff),)))
            each.limit, each.site_asked = limit, limit is not None
        elif tx_id in self._open:
            self._open[tx_id].books.note(fact, stamp)
            self._open[tx_id].looked_ahead = False
            if isinstance(fact, LimitFact) and fact.source != TECHNICIAN:
                self._open[tx_id].told = fact
            if isinstance(fact, LimitFact) and fact.source == REST:
                self._open[tx_id].rest = fact

    def _running(self, each: _Open) -> Transaction | None:
        """The transaction while energy may flow."""
        flow = self._core.evses[each.evse].flow
        active = flow.active and flow.tx is not None and flow.tx.tx_id == each.books.started.tx_id
        return flow.tx if active else None

    def _take(self) -> list[Effect]:
        effects = self._core.ctx.take_effects()
        self._note_all(effects)
        return effects

    # ------------------------------------------------------------------------------------ surviving

    @contextlib.contextmanager
    def _surviving(self, each: _Open | None) -> Iterator[None]:
        """A mistake in the books must not stop the charger: it would come again after every restart. The
        transaction goes on without them, and the log book says so."""
        try:
            yield
        except Exception as error:
            if each is None:
                raise
            self._give_up(each.books.started.tx_id, each.evse, error)

    def _give_up(self, tx_id: str, evse: int | None, error: Exception) -> None:
        self._open.pop(tx_id, None)
        self._unsaid.append(record_failed(tx_id, evse, error))

    def failed(self, tx_id: str, evse: int, error: Exception) -> LogFact:
        """The books cannot be closed as they are: they are given up."""
        self._give_up(tx_id, evse, error)
        return self._unsaid.pop()

    def _say(self) -> None:
        if self._unsaid:
            self._core.ctx.append(*self._unsaid)
            self._unsaid.clear()

    # -------------------------------------------------------------------------------------- prices

    def _put_boundaries(self, effects: list[Effect]) -> None:
        """A row of the core may be the first behind a boundary. What the meter said before it must be known by
        then, else the energy since the last row could not be divided."""
        for each in list(self._open.values()):
            with self._surviving(each):
                tx = self._running(each)
                if tx is None or tx.last is None or each.due_ms is None or tx.last.at_ms < each.due_ms:
                    continue
                seen = each.seen if each.seen is not None and each.seen.at_ms < each.due_ms else None
                before = each.before or seen
                samples = (tx.last,) if before is None else (before, tx.last)
                self._write(each, PriceCause.BOUNDARY, samples)
                each.due_ms = None
                place = next((n for n, effect in enumerate(effects) if _concerns(effect, tx.tx_id)), len(effects))
                effects[place:place] = self._core.ctx.take_effects()

    def _price(self, each: _Open, event: object) -> None:
        tx = self._running(each)
        if tx is None or tx.last is None:
            return self._keep_promise(each)
        self._limit_by_site(each)
        if each.limit is not None:
            self._core.ctx.append(each.limit)
            each.limit = None
        each.clock_moved |= isinstance(event, ClockSet) and self._clock_moved()
        if each.wanted is not None or each.clock_moved:
            self._change(each, tx.last)
        elif self._may_choose(each, event, tx.last) and each.books.price_changes(tx.last):
            each.chosen_at_ms = self._core.ctx.at_ms
            self._write(each, PriceCause.CHOICE, (tx.last,))
        return self._wait_for_boundary(each, tx.last)

    def _may_choose(self, each: _Open, event: object, last: Sample) -> bool:
        """Power that swings around a bound must not write a row a second (flash wear)."""
        since_ms = None if each.chosen_at_ms is None else self._core.ctx.at_ms - each.chosen_at_ms
        return (since_ms is None or since_ms >= CHOICE_EVERY_MS) and self._is_fresh(each, event, last)

    def _change(self, each: _Open, last: Sample) -> None:
        """Another tariff or another time holds from a reading on: what was before it is then known to the mWh. A
        meter that does not answer cannot keep it off for long."""
        now_ms = self._core.ctx.at_ms
        if each.changed_ms is None:
            each.changed_ms = now_ms
            self._core.ctx.emit(ReadMeter(each.evse))
        if last.at_ms >= each.changed_ms or now_ms >= each.changed_ms + CHANGE_WAIT_MS:
            cause = PriceCause.CLOCK if each.wanted is None else PriceCause.TARIFF
            self._write(each, cause, (last,), each.wanted)
            each.wanted, each.clock_moved, each.changed_ms = None, False, None

    def _keep_promise(self, each: _Open) -> None:
        """A tariff that was accepted holds also where the transaction is stopped before the next reading."""
        flow = self._core.evses[each.evse].flow
        ours = flow.tx is not None and flow.tx.tx_id == each.books.started.tx_id
        if each.wanted is None or not ours or flow.state not in _ENDING or each.books.ended is not None:
            return
        if flow.tx is not None and flow.tx.last is not None:
            self._write(each, PriceCause.TARIFF, (flow.tx.last,), each.wanted)
            each.wanted, each.changed_ms = None, None

    def _clock_moved(self) -> bool:
        offset_ms, status = self._clock
        ctx = self._core.ctx
        return abs(ctx.wall_offset_ms - offset_ms) >= CLOCK_STEP_MS or ctx.time_status != status

    @staticmethod
    def _is_fresh(each: _Open, event: object, last: Sample) -> bool:
        return (
            isinstance(event, FromMeter)
            and event.evse == each.evse
            and isinstance(event.event, MeterReading)
            and last.at_ms == event.event.at_ms
        )

    def _wait_for_boundary(self, each: _Open, last: Sample) -> None:
        """At the boundary the meter is asked; the row is written with its answer."""
        now_ms = self._core.ctx.at_ms
        if each.due_ms is None or now_ms < each.due_ms or last.at_ms >= each.due_ms:
            return
        each.before = last
        if each.asked_at_ms is None or now_ms >= each.asked_at_ms + BOUNDARY_RETRY_MS:
            each.asked_at_ms = now_ms
            self._core.ctx.emit(ReadMeter(each.evse))

    def _write(self, each: _Open, cause: PriceCause, samples: tuple[Sample, ...], tariff: str | None = None) -> None:
        if cause is PriceCause.BOUNDARY:
            each.before = each.asked_at_ms = None
        self._core.ctx.append(PriceFact(each.books.started.tx_id, each.evse, cause, samples, tariff))

    def use_tariff(self, tx_id: str, content: str) -> str:
        """ChangeTransactionTariff: from the next reading on. Returns its status."""
        each = self._open.get(tx_id)
        if each is None or each.books.ended is not None:
            return "TxNotFound"
        status = self._accepts(each, content)
        if status == "Accepted" and self._running(each) is None:
            return "Rejected"  # it is just beginning or ending, or cut off: nobody can say when this would hold
        return self._want(each, content, status)

    def change_status(self, tx_id: str, content: str) -> str | None:
        """What has become of a tariff that was to hold from the next reading on; None: it waits for one still."""
        each = self._open.get(tx_id)
        if each is not None and content in each.books.tariff_hashes[-1:]:
            return "Accepted"
        if each is None or each.books.ended is not None:
            return "TxNotFound"
        return None if each.wanted == content else "Rejected"  # another one came in between

    def _accepts(self, each: _Open, content: str) -> str:
        new, old = self.tariffs.tariff(content), each.books.tariff
        return "NoCurrencyChange" if new is None or (old and old.currency != new.currency) else "Accepted"

    def _want(self, each: _Open, content: str, status: str) -> str:
        if status == "Accepted":
            # The same again changes nothing: not the periods, not what a maximum cost has bounded so far.
            each.wanted = None if each.books.tariff_hashes[-1:] == [content] else content
        return status

    def use_live_tariff(self, said: str | None = None) -> None:
        """The live tariff's file now says this (None: it may be time for what it has said): running transactions that
        follow it go by what holds from now on, those that a restart has cut off as soon as they go on."""
        content = self.tariffs.newly_live(self._core.ctx.sure_wall_ms, said, self._core.ctx.wall_ms)
        for each in self._open.values():
            now = each.wanted or next(reversed(each.books.tariff_hashes), None)
            if content is not None and each.books.ended is None and self.tariffs.follows_live(now):
                self._want(each, content, self._accepts(each, content))

    # -------------------------------------------------------------------------------------- limits

    def limit(
        self, tx_id: str, max_cost: str | None, max_energy_mwh: int | None, max_time_ms: int | None, source: str
    ) -> str:
        """What the transaction may use up at most from now on. Returns its status: Accepted, "Rejected: why", or
        TxNotFound. It does not run before its start is on disk: no row of it must overtake that.

        It takes the place of what was told before; a technician's takes only that of a technician's."""
        each = self._open.get(tx_id)
        if each is None or each.books.ended is not None:
            return "TxNotFound"
        if self._core.evses[each.evse].flow.state is SessionState.BEGIN_WRITING:
            return "TxNotFound"
        limit = told_limit(tx_id, each.evse, max_cost, max_energy_mwh, max_time_ms, source)
        if limit is None:
            return "Rejected: a limit is no number from 0 on"
        if max_cost is not None and not each.is_priced:
            return "Rejected: no tariff prices this transaction, so nothing can tell when a limit of cost is reached"
        if source == TECHNICIAN:
            if each.limit is not None:  # left by the transaction before: it must be known after a restart, too
                self._core.ctx.append(each.limit)
                each.told, each.limit = each.limit, None
            limit = lesser(limit, each.told)
        self._core.ctx.append(lesser(limit, self._site_limit(each)))
        each.site_asked = True
        return "Accepted"

    def _limit_by_site(self, each: _Open) -> None:
        """Once per process: a restart may have come between a start and its limit."""
        if each.site_asked:
            return
        each.site_asked = True
        if each.books.limits is None:
            each.limit = self._site_limit(each)

    def _site_limit(self, each: _Open) -> LimitFact | None:
        started = each.books.started
        limits = None if started.token is None else self.tariffs.limits_for(started.evse, started.token, started.group)
        return None if limits is None else site_limit(started, limits, each.rest)

    def _carry_on(self, books: Books, started: TransactionFact) -> tuple[TransactionFact, LimitFact | None]:
        """The start of what follows the transaction of these books, with the tariff and the cost of the session so far;
        and what is left of the limits."""
        books.goes_on = True
        usage = books.usage()
        cost = self.bill(books, usage, final=False)
        limit = None if books.limits is None else replace(rest_of(books.limits, cost, usage), tx_id=started.tx_id)
        tariff = books.tariff_hashes[-1] if books.tariff_hashes else started.tariff
        return replace(started, tariff=tariff, follows=forerunner(books.started, cost)), limit

    def _reached(self, each: _Open) -> tuple[Trigger, StopReason] | None:
        limits, tx = each.books.limits, self._running(each)
        if limits is None or each.ending or tx is None or tx.last is None:
            return None
        if limits.max_cost is not None and not each.books.tariffs:
            if each.is_priced:
                return None
            details = (("tx", limits.tx_id), ("max_cost", limits.max_cost), ("by", limits.source))
            self._unsaid.append(LogFact(LogEntry.LIMIT_WITHOUT_PRICE, each.evse, details))
        usage = each.books.usage_at(self._core.ctx.at_ms, self._stamp(), tx.last)
        return reached(limits, each.books, usage, self._most_mw[each.evse])

    # ------------------------------------------------------------------------------------- outlook

    @property
    def busy(self) -> bool:
        """Whether any transaction is not yet wholly on disk."""
        return bool(self._open)

    def tariffs_in_use(self) -> frozenset[str]:
        """Content hashes of all that a transaction may begin with, or goes by until it is wholly on disk."""
        running = {content for each in self._open.values() for content in (*each.books.tariff_hashes, each.wanted)}
        return frozenset(self.tariffs.in_use() | {each for each in running if each is not None})

    def books(self, tx_id: str) -> Books | None:
        each = self._open.get(tx_id)
        return None if each is None else each.books

    def cost_now(self, tx_id: str) -> Bill | None:
        """The running cost; None where no tariff prices it."""
        each = self._open.get(tx_id)
        if each is None:
            return None
        flow = self._core.evses[each.evse].flow
        last = None if flow.tx is None else flow.tx.last
        cut_off = flow.state is SessionState.RECOVERING
        usage = each.books.usage_at(self._core.ctx.at_ms, self._stamp(), last, gap=cut_off)
        return self.bill(each.books, usage, final=False)

    def bill(self, books: Books, usage: Usage, *, final: bool) -> Bill | None:
        """What a usage costs here, within the credit; no least cost where nothing was sold, or is proved."""
        credit = credit_of(books.limits)
        return bill(
            books.priced_by,
            usage,
            credit_limit=credit,
            min_energy_mwh=self._min_energy_mwh,
            final=final and not (books.undelivered or books.not_billable),
        )

    def bounds(self, books: Books) -> Bounds:
        """What bounds the bill beside the tariffs, as a receipt must say it."""
        return Bounds(
            min_energy_mwh=self._min_energy_mwh,
            credit_limit=None if books.limits is None else books.limits.max_cost,
            follows=books.started.follows,
        )

    def deadline_ms(self) -> int | None:
        """When a ``Tick`` is due at the latest."""
        now_ms = self._core.ctx.at_ms
        times = [
            each.due_ms if each.asked_at_ms is None else each.asked_at_ms + BOUNDARY_RETRY_MS
            for each in self._open.values()
        ]
        times += [each.changed_ms + CHANGE_WAIT_MS for each in self._open.values() if each.changed_ms is not None]
        return min((at_ms for at_ms in times if at_ms is not None and at_ms > now_ms), default=None)

    def _stamp(self) -> Stamp:
        ctx = self._core.ctx
        return Stamp(self._boot_id, ctx.at_ms, ctx.wall_ms, ctx.time_status)


def record_failed(tx_id: str, evse: int | None, error: Exception) -> LogFact:
    why = f"{type(error).__name__}: {error}"[:300]
    return LogFact(LogEntry.RECORD_FAILED, evse, (("tx", tx_id), ("why", why)))


def _concerns(effect: Effect, tx_id: str) -> bool:
    return isinstance(effect, Append) and any(getattr(fact, "tx_id", None) == tx_id for fact in effect.facts)
