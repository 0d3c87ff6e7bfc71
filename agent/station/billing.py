"""Prices of the running transactions: their books, their next boundary, what they may still use up.

Charter: pure, beside ``limits``. Follows what the core writes, adds the points at which a price changes,
asks for a reading where time alone changes one, and ends a prepaid transaction before its credit is
spent. What goes to disk of it is ``agent.station.rows``'s, what it costs ``agent.tariff``'s.

Rules (metering reference 3.5, 3.7, 4.6): at a boundary of time the last reading before it and the first
after it become one row; a change of power, current or energy that chooses another price becomes a row; so
does a new tariff and a step of the clock. A price never changes the past, since it only holds from its row on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from agent.billing.books import Books, Stamp, Terms
from agent.billing.facts import Bounds
from agent.core.effects import Append, Effect, ReadMeter, TransactionEnded
from agent.core.events import ClockSet, Exhausted, FromMeter
from agent.core.facts import (
    Fact,
    LimitFact,
    PriceCause,
    PriceFact,
    Sample,
    StopReason,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.core.station import Station
from agent.station.tariffs import TariffBook
from agent.tariff.cost import Bill, bill
from agent.tariff.prepaid import Limit, TransactionLimits, exhausted
from agent.tariff.usage import Usage
from hal.ports import MeterReading

BOUNDARY_RETRY_MS = 5_000  # the meter did not answer at a boundary: it is asked again
LIMIT_INTERVAL_MS = 2_000  # how far ahead a limit is looked at: a reading a second, and one may be missing

_LIMIT_ENDS = {
    Limit.COST: (Trigger.COST_LIMIT_REACHED, StopReason.LOCAL_OUT_OF_CREDIT),
    Limit.ENERGY: (Trigger.ENERGY_LIMIT_REACHED, StopReason.ENERGY_LIMIT_REACHED),
    Limit.TIME: (Trigger.TIME_LIMIT_REACHED, StopReason.TIME_LIMIT_REACHED),
}


@dataclass(slots=True)
class _Open:
    """A transaction that is not yet wholly on disk."""

    books: Books
    evse: int
    before: Sample | None = None  # the last reading before a boundary that has passed
    asked_at_ms: int | None = None
    ending: bool = False  # told the core that a limit is reached


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
        self.tariffs = tariffs

    # ------------------------------------------------------------------------------------ following

    def restore(self, history: Iterable[tuple[Fact, Stamp]]) -> None:
        """A transaction that was found open: its rows so far."""
        for fact, stamp in history:
            self._note(fact, stamp)

    def follow(self, event: object, effects: list[Effect]) -> list[Effect]:
        """After the core has stepped: note what it wrote, and return what follows from it."""
        self._note_all(effects)
        more: list[Effect] = []
        for each in list(self._open.values()):
            self._price(each, event)
        more += self._take()
        for each in list(self._open.values()):
            if (reached := self._reached(each)) is not None:
                each.ending = True
                ended = self._core.step(Exhausted(each.books.started.tx_id, *reached), self._core.ctx.at_ms)
                self._note_all(ended)
                more += ended
        for effect in effects + more:
            if isinstance(effect, TransactionEnded):
                self._open.pop(effect.tx_id, None)
        return more

    def _note_all(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Append):
                stamp = Stamp(self._boot_id, effect.at_ms, effect.wall_ms, effect.time_status)
                for fact in effect.facts:
                    self._note(fact, stamp)

    def _note(self, fact: Fact, stamp: Stamp) -> None:
        tx_id = getattr(fact, "tx_id", None)
        if isinstance(fact, TransactionFact) and fact.kind is TxKind.STARTED:
            books = Books(fact, stamp, self.tariffs.tariff, self._terms(fact.evse))
            self._open[fact.tx_id] = _Open(books, fact.evse)
            self._limit_by_site(fact)
        elif tx_id in self._open:
            self._open[tx_id].books.note(fact, stamp)

    def _limit_by_site(self, fact: TransactionFact) -> None:
        limits = None if fact.token is None else self.tariffs.limits_for(fact.evse, fact.token, fact.group)
        if limits is not None and fact.tx_id == self._running_id(fact.evse):
            self.limit(
                fact.tx_id,
                None if limits.max_cost is None else str(limits.max_cost),
                None if limits.max_energy_wh is None else limits.max_energy_wh * 1_000,
                None if limits.max_time_s is None else limits.max_time_s * 1_000,
                "site",
            )

    def _running_id(self, evse: int) -> str | None:
        tx = self._core.evses[evse].flow.tx
        return None if tx is None else tx.tx_id

    def _take(self) -> list[Effect]:
        effects = self._core.ctx.take_effects()
        self._note_all(effects)
        return effects

    # -------------------------------------------------------------------------------------- prices

    def _price(self, each: _Open, event: object) -> None:
        flow = self._core.evses[each.evse].flow
        tx = flow.tx
        if not flow.active or tx is None or tx.last is None or tx.tx_id != each.books.started.tx_id:
            return
        if isinstance(event, ClockSet):
            self._write(each, PriceCause.CLOCK, (tx.last,))
        now_ms = self._core.ctx.at_ms
        due_ms = each.books.next_boundary_ms()
        fresh = (
            isinstance(event, FromMeter)
            and event.evse == each.evse
            and isinstance(event.event, MeterReading)
            and tx.last.at_ms == event.event.at_ms
        )
        if due_ms is not None and now_ms >= due_ms:
            self._pass_boundary(each, tx.last, due_ms)
        elif fresh and each.books.price_changes(tx.last):
            self._write(each, PriceCause.CHOICE, (tx.last,))

    def _pass_boundary(self, each: _Open, last: Sample, due_ms: int) -> None:
        """Write a row once there is a reading from after the boundary; ask for it at the boundary."""
        if last.at_ms >= due_ms:
            before = () if each.before is None else (each.before,)
            self._write(each, PriceCause.BOUNDARY, (*before, last))
            return
        each.before = last
        now_ms = self._core.ctx.at_ms
        if each.asked_at_ms is None or now_ms >= each.asked_at_ms + BOUNDARY_RETRY_MS:
            each.asked_at_ms = now_ms
            self._core.ctx.emit(ReadMeter(each.evse))

    def _write(self, each: _Open, cause: PriceCause, samples: tuple[Sample, ...], tariff: str | None = None) -> None:
        each.before = each.asked_at_ms = None
        self._core.ctx.append(PriceFact(each.books.started.tx_id, each.evse, cause, samples, tariff))

    def use_tariff(self, tx_id: str, content: str) -> str:
        """ChangeTransactionTariff: from now on. Returns its status; ``follow`` gives the effects."""
        each = self._open.get(tx_id)
        tx = None if each is None else self._core.evses[each.evse].flow.tx
        if each is None or tx is None or tx.last is None:
            return "TxNotFound"
        new, old = self.tariffs.tariff(content), each.books.tariff
        if new is None or (old is not None and old.currency != new.currency):
            return "NoCurrencyChange"
        self._write(each, PriceCause.TARIFF, (tx.last,), content)
        return "Accepted"

    def use_live_tariff(self, content: str) -> None:
        """The site's live tariff is now this: running transactions that follow it do so from now on."""
        for tx_id, each in self._open.items():
            if self.tariffs.follows_live(each.books.tariff_hashes[-1] if each.books.tariff_hashes else None):
                self.use_tariff(tx_id, content)

    # -------------------------------------------------------------------------------------- limits

    def limit(
        self, tx_id: str, max_cost: str | None, max_energy_mwh: int | None, max_time_ms: int | None, source: str
    ) -> bool:
        """What the transaction may use up at most from now on; False: it does not run."""
        each = self._open.get(tx_id)
        if each is None or each.books.ended is not None:
            return False
        cost = None if max_cost is None else f"{Decimal(max_cost):f}"
        self._core.ctx.append(LimitFact(tx_id, each.evse, cost, max_energy_mwh, max_time_ms, source))
        return True

    def _reached(self, each: _Open) -> tuple[Trigger, StopReason] | None:
        limits, flow = each.books.limits, self._core.evses[each.evse].flow
        if limits is None or each.ending or not flow.active or flow.tx is None or flow.tx.last is None:
            return None
        usage = each.books.usage_at(self._core.ctx.at_ms, self._stamp(), flow.tx.last)
        found = exhausted(
            TransactionLimits(_credit(limits), limits.max_energy_mwh, limits.max_time_ms),
            each.books.tariffs,
            usage,
            interval_ms=LIMIT_INTERVAL_MS,
            max_power_mw=self._most_mw[each.evse],
        )
        return None if found is None else _LIMIT_ENDS[found]

    # ------------------------------------------------------------------------------------- outlook

    @property
    def busy(self) -> bool:
        """Whether any transaction is not yet wholly on disk."""
        return bool(self._open)

    def books(self, tx_id: str) -> Books | None:
        each = self._open.get(tx_id)
        return None if each is None else each.books

    def cost_now(self, tx_id: str) -> Bill | None:
        """The running cost; None where no tariff prices it."""
        each = self._open.get(tx_id)
        if each is None:
            return None
        tx = self._core.evses[each.evse].flow.tx
        last = tx.last if tx is not None else None
        return self.bill(each.books, each.books.usage_at(self._core.ctx.at_ms, self._stamp(), last), final=False)

    def bill(self, books: Books, usage: Usage, *, final: bool) -> Bill | None:
        """What a usage costs here, with the credit of the transaction."""
        credit = None if books.limits is None else _credit(books.limits)
        return bill(
            books.tariffs,
            usage,
            credit_limit=credit,
            min_energy_mwh=self._min_energy_mwh,
            final=final,
        )

    def bounds(self, books: Books) -> Bounds:
        """What bounds the bill beside the tariffs, as a receipt must say it."""
        return Bounds(
            min_energy_mwh=self._min_energy_mwh, credit_limit=None if books.limits is None else books.limits.max_cost
        )

    def deadline_ms(self) -> int | None:
        """When a ``Tick`` is due at the latest."""
        now_ms = self._core.ctx.at_ms
        times = [each.books.next_boundary_ms() for each in self._open.values() if each.asked_at_ms is None]
        return min((at_ms for at_ms in times if at_ms is not None and at_ms > now_ms), default=None)

    def _stamp(self) -> Stamp:
        ctx = self._core.ctx
        return Stamp(self._boot_id, ctx.at_ms, ctx.wall_ms, ctx.time_status)


def _credit(limits: LimitFact) -> Fraction | None:
    return None if limits.max_cost is None else Fraction(limits.max_cost)
