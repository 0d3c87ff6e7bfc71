"""What people and the CSMS ask of money: price and cost at each EVSE, tariffs told, costs told.

Charter: the money part of ``StationService``. Money is decided by ``Billing`` and the ledger; what the CSMS
says it costs is kept as a fact and shown, never mixed with our own bill. Between two words of the CSMS the
display goes on by its prices; that is no bill.

Sources: OCPP 2.0.1 I02 to I05 (tariff and cost display), California cost extension (metering reference 3.2),
OCPP 2.1 I07 to I11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

import structlog

from agent.auth.token import fold
from agent.config.catalogue import key
from agent.config.device_model import DeviceModel
from agent.core.commands import WHO_MAX_CHARS
from agent.core.facts import CostToldFact, Fact, LogEntry, LogFact, Token
from agent.core.station import Station
from agent.core.status import EvseView
from agent.ipc.port import PriceView, TariffAssignment, ToldCost
from agent.ledger.state import Put, StateChange
from agent.station.billing import Billing
from agent.station.logic import PricesChanged
from agent.station.prepaid import amount_of
from agent.tariff.currency import minor_text
from agent.tariff.problem import TariffError
from agent.tariff.text import price_lines

MAX_PRICE_TEXTS = 64
MAX_TEXT_CHARS = 1_024
MAX_LAST_WORDS = 16  # rows of one transaction: a CSMS that changes its mind more often has gone wrong
_NUMBER_MAX_CHARS = 40
_TOKEN_MAX_CHARS = 255  # idToken of OCPP 2.1, the longest there is
_HOUR_MS = 3_600_000

log = structlog.get_logger("price")


class Shell(Protocol):
    def give(self, event: PricesChanged) -> None: ...

    def append(self, *facts: Fact, on_durable: Callable[[], None] | None = None) -> None: ...

    def commit(
        self, facts: Sequence[Fact], changes: Sequence[StateChange], on_durable: Callable[[], None] | None = None
    ) -> None: ...

    def save_lazily(self, changes: Sequence[StateChange]) -> None: ...


class Money:
    """Tariffs and costs of one station, as asked for."""

    def __init__(
        self,
        core: Station,
        billing: Billing,
        model: DeviceModel,
        shell: Shell,
        costs_told: Callable[[str], int | None],
        note: Callable[[LogFact], None],
    ) -> None:
        self._core = core
        self._billing = billing
        self._model = model
        self._shell = shell
        self._costs_told = costs_told
        self._note = note  # in the log book
        self._told: dict[str, ToldCost] = {}  # by transaction, while it runs
        self._final: dict[str, tuple[str, int]] = {}  # the last word on each transaction, and how many rows it has
        self._texts: dict[str, str] = {}  # by folded token, "" for everybody
        self._waiting: list[asyncio.Event] = []  # for the next event

    def look(self) -> None:
        """After every event: tariffs that have become valid are kept as such, since after a power cut nobody may
        know the time. It may be time for the live tariff."""
        self._billing.use_live_tariff()
        if changes := self._settled():
            self._shell.save_lazily(changes)
        while self._waiting:
            self._waiting.pop().set()

    def _settled(self) -> list[Put]:
        ctx = self._core.ctx
        return self._billing.tariffs.settle(ctx.sure_wall_ms, ctx.time_status)

    # ------------------------------------------------------------------------------------- tariffs

    async def set_default(self, evse: int, tariff: str) -> str:
        self.look()
        try:
            status, facts, changes = self._billing.tariffs.set_default(evse, tariff, self._core.ctx.sure_wall_ms)
        except TariffError as error:
            return self._refused(error)
        if status == "Accepted":
            await self._durable(facts, [*changes, *self._settled()])
        return status

    async def change(self, tx_id: str, tariff: str) -> str:
        if self._billing.books(tx_id) is None:
            return "TxNotFound"
        try:
            content, facts = self._billing.tariffs.learn(tariff, self._core.ctx.sure_wall_ms)
        except TariffError as error:
            return self._refused(error)
        await self._durable(facts)
        status: str | None = self._billing.use_tariff(tx_id, content)
        self._shell.give(PricesChanged())
        if status != "Accepted":
            return status or "Rejected"
        while (status := self._billing.change_status(tx_id, content)) is None:
            self._waiting.append(stepped := asyncio.Event())
            await stepped.wait()
        await self._durable()
        return status

    async def clear(self, ids: Sequence[str], evse: int | None, who: str = "") -> list[tuple[str, str]]:
        results, changes = self._billing.tariffs.clear(ids, evse)
        if changes:
            cleared = LogFact(LogEntry.TARIFFS_CLEARED, details=(("by", who[:WHO_MAX_CHARS]),))
            await self._durable([cleared] if who else (), changes)
        return results

    def assignments(self, evse: int) -> list[TariffAssignment]:
        return self._billing.tariffs.assignments(evse)

    def _refused(self, error: TariffError) -> str:
        log.warning("tariff refused", why=str(error))
        self._note(LogFact(LogEntry.TARIFF_REFUSED, details=(("why", str(error)[:500]),)))
        return f"Rejected: {str(error)[:400]}"

    async def _durable(self, facts: Sequence[Fact] = (), changes: Sequence[StateChange] = ()) -> None:
        """These and all that was written before are on disk, as it must be before anything is called Accepted
        (metering reference 4.2)."""
        done = asyncio.Event()
        self._shell.commit(facts, changes, done.set)
        await done.wait()

    async def limit(
        self, tx_id: str, max_cost: str | None, max_energy_wh: int | None, max_time_s: int | None, source: str
    ) -> str:
        energy_mwh = None if max_energy_wh is None else max_energy_wh * 1_000
        time_ms = None if max_time_s is None else max_time_s * 1_000
        status = self._billing.limit(tx_id, max_cost, energy_mwh, time_ms, source)
        self._shell.give(PricesChanged())
        if status == "Accepted":
            await self._durable()
        return status

    # ---------------------------------------------------------------------------------------- told

    def told_cost(self, told: ToldCost) -> None:
        """The CSMS's word on a cost: shown while the transaction runs; its last word is kept."""
        if _decimal(told.cost) is None:
            log.warning("cost told is no number", tx=told.tx_id[:64], cost=told.cost[:_NUMBER_MAX_CHARS])
            return
        told = replace(told, text=told.text[:MAX_TEXT_CHARS])
        evse = next((n for n, each in self._core.evses.items() if each.flow.tx and each.flow.tx.tx_id == told.tx_id), 0)
        if evse:
            self._told[told.tx_id] = told
        running = {each.flow.tx.tx_id for each in self._core.evses.values() if each.flow.tx}
        self._told = {tx_id: each for tx_id, each in self._told.items() if tx_id in running}
        if told.final:
            self._keep(told, evse)

    def _keep(self, told: ToldCost, evse: int) -> None:
        """A last word becomes a row where it is news. What a CSMS can say without end must not fill the ledger."""
        cost, rows = self._final.pop(told.tx_id, ("", self._costs_told(told.tx_id)))
        if rows is None:
            log.warning("cost told of no transaction", tx=told.tx_id[:64])
            return
        if cost != told.cost:
            if rows < MAX_LAST_WORDS:
                self._shell.append(CostToldFact(told.tx_id, evse, told.cost, told.final, told.text))
                rows += 1
            else:
                log.warning("cost told too often, not kept", tx=told.tx_id, cost=told.cost, kept=rows)
        self._final[told.tx_id] = told.cost, rows
        while len(self._final) > MAX_PRICE_TEXTS:
            del self._final[next(iter(self._final))]

    def told_price(self, token: Token | None, text: str) -> None:
        self._texts.pop(name := "" if token is None else fold(token.id_token[:_TOKEN_MAX_CHARS]), None)
        while len(self._texts) >= MAX_PRICE_TEXTS:
            del self._texts[next(iter(self._texts))]
        self._texts[name] = text[:MAX_TEXT_CHARS]

    def price_texts(self, belongs: Callable[[str], bool]) -> dict[str, str]:
        """What the CSMS said charging costs, by those folded tokens that ``belongs`` takes."""
        return {token: text for token, text in self._texts.items() if token and belongs(token)}

    def forget_texts(self, tokens: Iterable[str]) -> None:
        for token in tokens:
            self._texts.pop(token, None)

    # ---------------------------------------------------------------------------------------- shown

    def views(self, views: Sequence[EvseView]) -> tuple[PriceView, ...]:
        return tuple(self._view(each) for each in views)

    def _view(self, view: EvseView) -> PriceView:
        evse, tx_id = view.evse, view.tx_id
        books = self._billing.books(tx_id) if tx_id is not None else None
        token = view.token or Token("")
        ctx = self._core.ctx
        content = self._billing.tariffs.for_start(evse, token, None, ctx.sure_wall_ms, ctx.wall_ms)
        tariff = None if content is None else self._billing.tariffs.tariff(content)
        if books is not None:
            tariff = books.tariff
        told = None if tx_id is None else self._told.get(tx_id)
        if told is not None:
            so_far = f"{self._extrapolated(told, view)} {self._model.text(key('TariffCostCtrlr.Currency'))}"
            return PriceView(evse, None, told.text or self._text(token), so_far, by_csms=True)
        if tariff is None:
            unknown = self._fallback("TotalCost") if tx_id is not None else ""
            return PriceView(evse, None, self._text(token) or self._fallback("Tariff"), unknown or None)
        bill = None if tx_id is None else self._billing.cost_now(tx_id)
        cost = None if bill is None else f"{minor_text(bill.total_incl, bill.currency)} {bill.currency}"
        words = self._text(token) or "; ".join(price_lines(tariff))
        return PriceView(evse, tariff.tariff_id, words, cost, limit=self._limit_words(tx_id))

    def _text(self, token: Token) -> str:
        return self._texts.get(fold(token.id_token)) or self._texts.get("", "")

    def _fallback(self, which: str) -> str:
        return self._model.text(key(f"TariffCostCtrlr.{which}FallbackMessage"))

    def _limit_words(self, tx_id: str | None) -> str:
        books = self._billing.books(tx_id) if tx_id is not None else None
        limits = books.limits if books is not None else None
        if limits is None:
            return ""
        parts = (
            None if limits.max_cost is None else f"at most {limits.max_cost}",
            None if limits.max_energy_mwh is None else f"at most {limits.max_energy_mwh / 1e6:.3f} kWh",
            None if limits.max_time_ms is None else f"at most {limits.max_time_ms // 60_000} min",
        )
        return ", ".join(part for part in parts if part is not None)

    def _extrapolated(self, told: ToldCost, view: EvseView) -> str:
        """What the CSMS's last word has become by its prices; the word itself where it gave none."""
        cost = Decimal(told.cost)
        kwh, hour = _decimal(told.kwh_price), _decimal(told.hour_price)
        if kwh and told.meter_wh is not None and view.energy_import_mwh is not None:
            cost += kwh * max(0, view.energy_import_mwh - told.meter_wh * 1_000) / 1_000_000
        if hour and told.wall_ms is not None:
            cost += hour * max(0, self._core.ctx.wall_ms - told.wall_ms) / _HOUR_MS
        digits = max(2, -int(Decimal(told.cost).as_tuple().exponent))
        return f"{cost:.{digits}f}"


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None or len(text) > _NUMBER_MAX_CHARS else amount_of(text)
