"""Who pays, and why it ended: what the ledger says of a transaction, held against what people really did.

Charter: remembers the cards that were held up at each reader, the cars that left, and what the operator ordered. A
start rests on this card at this very reader, held up since the last car left, or on an order for this token here, and
one that names no outlet is not for a car that has charged here before; an end that is told as the driver's, the
operator's or the car's is his doing; and the driver's own card, or the plug pulled, ends it soon where nothing else is
amiss. It believes nothing that the station says of itself, but for how long a car may be away.

Units: ms of virtual time. Limits: the last 64 cards of an outlet and the last 512 orders are remembered.
Sources: OCPP 2.0.1 C01, E02, E03, E06, E07, F01 to F03; checklist 16-TX.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from agent.core.facts import StopReason, TransactionFact, TxKind
from agent.core.station import Station
from agent.sim.virtual_time import now_ms
from agent.sim.world.booking import Book
from agent.sim.world.desk import Payload
from agent.sim.world.device_faults import Fault
from agent.sim.world.outlet import Outlet
from agent.sim.world.vehicle import Vehicle

LATELY_MS: Final = 600_000
"""From card or order to the durable row that rests on it: the plug, the CSMS's word, a reading of the meter."""

WRITTEN_MS: Final = 60_000
"""From the reading that a start rests on to its durable row."""

ENDS_WITHIN_S: Final = 60.0
CARDS_MAX: Final = 64
ORDERS_MAX: Final = 512

_STARTS: Final = frozenset({"RemoteStartTransaction", "RequestStartTransaction"})
_STOPS: Final = frozenset({"RemoteStopTransaction", "RequestStopTransaction"})
_HIDES_CAR: Final = frozenset(
    {Fault.PILOT_SILENT, Fault.PILOT_GARBAGE, Fault.BUS_GARBAGE, Fault.BOARD_RESET, Fault.PILOT_CHATTER}
)
"""Under these a car that stays may look as one that left."""

_HIDES_SWAP: Final = _HIDES_CAR | {Fault.PILOT_SHORT}
"""Under these one car may go and the next come unseen."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An order to start or to stop. ``evse``: None where any may be meant; ``tx_id``: "" where it has a number only."""

    at_ms: int
    stops: bool
    evse: int | None
    token: str = ""
    tx_id: str = ""


@dataclass(slots=True)
class Running:
    """A transaction whose start is durable. ``vehicle``: the car that was there then; ``stop_ms``: since when its stop
    is on disk; None: it is not."""

    tx_id: str
    evse: int
    token: str
    began_ms: int
    vehicle: Vehicle | None
    stop_ms: int | None = None


class Parties:
    """See the module. ``book`` knows the numbers of 1.6; ``at_ms()``: when what becomes known of the ledger now was
    written, at the latest; ``disturbed(evse)`` counts what may keep the station from doing as it should; ``core()`` is
    the station where it has run for long enough to know its devices, else None; ``wrong`` takes what must not be."""

    def __init__(
        self,
        outlets: dict[int, Outlet],
        book: Book,
        at_ms: Callable[[], int],
        disturbed: Callable[[int], int],
        core: Callable[[], Station | None],
        wrong: Callable[[int, str], None],
    ) -> None:
        self._outlets = outlets
        self._book = book
        self._at_ms = at_ms
        self._disturbed = disturbed
        self._core = core
        self._wrong = wrong
        self._loop = asyncio.get_running_loop()
        self._cards: dict[int, deque[tuple[int, str]]] = {evse: deque(maxlen=CARDS_MAX) for evse in outlets}
        self._left_ms: dict[int, int] = {}
        self._orders: deque[Asked] = deque(maxlen=ORDERS_MAX)
        self._running: dict[int, Running] = {}
        self._served: dict[int, Running] = {}  # what ended last at each outlet

    # -------------------------------------------------------------------------------- what people do

    def card(self, evse: int, token: str) -> None:
        """A card is held to the reader of this outlet."""
        self._cards[evse].append((now_ms(), token.upper()))
        running = self._running.get(evse)
        if running is not None and running.token == token.upper():
            self._must_end(running, "the driver's own card")

    def left(self, evse: int) -> None:
        """A car has left."""
        self._left_ms[evse] = left_ms = now_ms()
        running, core = self._running.get(evse), self._core()
        if running is None or core is None:
            return
        behaviour = core.ctx.behaviour
        if behaviour.stop_on_unplug:
            self._must_end(running, "the car has left")
        else:  # E10: one that comes back in time goes on
            look = partial(self._has_stayed_away, running, left_ms, self._disturbed(evse))
            self._loop.call_later(behaviour.connect_timeout_ms / 1_000 + ENDS_WITHIN_S, look)

    def asks(self, action: str, payload: Payload) -> None:
        """The operator orders this."""
        evse = payload.get("evseId", payload.get("connectorId"))
        if action in _STARTS:
            token = payload["idTag"] if "idTag" in payload else payload["idToken"]["idToken"]
            self._orders.append(Asked(now_ms(), False, evse, token=token.upper()))
        elif action in _STOPS:
            number = payload["transactionId"]
            if isinstance(number, str):
                self._orders.append(Asked(now_ms(), True, None, tx_id=number))
            elif (booked := self._book.numbered(number)) is not None:
                self._orders.append(Asked(now_ms(), True, booked.evse))

    def _must_end(self, running: Running, why: str) -> None:
        if self._core() is not None:
            self._loop.call_later(ENDS_WITHIN_S, self._has_ended, running, self._disturbed(running.evse), why)

    def _has_ended(self, running: Running, disturbed: int, why: str) -> None:
        evse = running.evse
        if self._running.get(evse) is running and self._disturbed(evse) == disturbed:
            self._wrong(evse, f"{running.tx_id} still runs {ENDS_WITHIN_S:.0f} s after this: {why}")

    def _has_stayed_away(self, running: Running, left_ms: int, disturbed: int) -> None:
        evse = running.evse
        if self._outlets[evse].vehicle is None and self._left_ms[evse] == left_ms:
            self._has_ended(running, disturbed, "the time is over in which a car that left may come back")

    # ------------------------------------------------------------------------- what the ledger says

    def transaction(self, fact: TransactionFact) -> None:
        """A row of a transaction has become durable."""
        if fact.kind is TxKind.STARTED:
            token = "" if fact.token is None else fact.token.id_token.upper()
            vehicle = self._outlets[fact.evse].vehicle
            running = self._running[fact.evse] = Running(fact.tx_id, fact.evse, token, self._at_ms(), vehicle)
            if fact.follows is None:  # else the session that ran goes on in another transaction
                self._look_at_start(running, fact.authorized_by)
        elif fact.kind is TxKind.ENDED and (ended := self._running.pop(fact.evse, None)) is not None:
            self._served[fact.evse] = ended
            self._look_at_end(ended, fact)

    def stop(self, evse: int) -> None:
        """The stop of what runs here is durable."""
        if evse in self._running:
            self._running[evse].stop_ms = self._at_ms()

    def _look_at_start(self, running: Running, authorized_by: str) -> None:
        token, since_ms = running.token, running.began_ms - LATELY_MS
        ordered = [
            each.evse
            for each in self._orders
            if not each.stops and each.token == token and each.evse in (None, running.evse) and each.at_ms >= since_ms
        ]
        shown = self._was_shown(running.evse, token, max(since_ms, self._seen_to_leave_ms(running)))
        if not ordered and (authorized_by == "remote" or not shown):
            text = f"{running.tx_id} starts for {token} ({authorized_by})"
            self._wrong(running.evse, f"{text}, whose card nobody held up here, and nobody ordered it")
        unnamed = len(self._outlets) > 1 and not shown and running.evse not in ordered
        if unnamed and self._has_charged_before(running):
            text = f"{running.tx_id} starts for {token}, ordered for no outlet"
            self._wrong(running.evse, f"{text}, with a car that has charged here before")

    def _has_charged_before(self, started: Running) -> bool:
        """Whether its car has stood here since the transaction before. One that looked as if it had left counts as
        another."""
        before, outlet = self._served.get(started.evse), self._outlets[started.evse]
        if before is None or before.vehicle is None or before.vehicle is not started.vehicle:
            return False
        left = self._left_ms.get(started.evse, 0) > before.began_ms
        return not left and not outlet.was_struck(_HIDES_SWAP, before.began_ms)

    def _seen_to_leave_ms(self, started: Running) -> int:
        """When the last car left, where the station must have seen that before this start; else 0. A car that left
        while it was written may be its own."""
        left_ms = self._left_ms.get(started.evse, 0)
        hidden = self._outlets[started.evse].was_struck(_HIDES_SWAP, left_ms - WRITTEN_MS)
        return 0 if hidden or left_ms > started.began_ms - WRITTEN_MS else left_ms

    def _look_at_end(self, ended: Running, fact: TransactionFact) -> None:
        evse, reason = ended.evse, fact.stopped_reason or StopReason.LOCAL
        at_ms = self._at_ms() if ended.stop_ms is None else ended.stop_ms
        if reason is StopReason.LOCAL:
            token = None if fact.token is None else fact.token.id_token.upper()
            if not self._was_shown(evse, token, at_ms - LATELY_MS):
                self._wrong(evse, f"{ended.tx_id} ended by the driver ({token}), whose card nobody held up here")
        elif reason is StopReason.REMOTE:
            if not any(each.stops and (each.tx_id == ended.tx_id or each.evse == evse) for each in self._since(ended)):
                self._wrong(evse, f"{ended.tx_id} ended remotely, and nobody ordered it")
        elif reason in (StopReason.EV_DISCONNECTED, StopReason.TIMEOUT) and not self._may_have_left(ended):
            self._wrong(evse, f"{ended.tx_id} ended as if the car had left, and it was there all the time")

    def _since(self, ended: Running) -> Iterable[Asked]:
        return (each for each in self._orders if each.at_ms >= ended.began_ms)

    def _was_shown(self, evse: int, token: str | None, since_ms: int) -> bool:
        return any(at_ms >= since_ms and token in (None, shown) for at_ms, shown in self._cards[evse])

    def _may_have_left(self, ended: Running) -> bool:
        """A car that leaves while its start is being written is in time, too. Whoever finds a board that was out of
        sight for long takes the car for another one."""
        outlet, since_ms, left_ms = (
            self._outlets[ended.evse],
            ended.began_ms - WRITTEN_MS,
            self._left_ms.get(ended.evse),
        )
        left = outlet.vehicle is None or (left_ms is not None and left_ms >= since_ms)
        return left or self._core() is None or outlet.was_struck(_HIDES_CAR, since_ms)
