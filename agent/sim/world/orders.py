"""The operator: sends orders over the back office, sensible and senseless ones, and remembers what was promised.

Charter: when to want what (seeded, tunable rates), and what came of it. How an order is worded is ``order_words``'s.
``availability`` is the last *confirmed* one per EVSE (0: the station), operative or not, for a checker to compare after
restarts: None where the last order got no answer, so that nobody knows. A Scheduled one is a promise for the end of the
running transactions, and as good. ``confirmed_ms`` is when that was.

Deterministic: the random source is handed in; time is the running loop's.
Units: rates in orders per day, seconds of the loop's clock. Limits: the last 256 orders are kept, all are counted.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.sim.virtual_time import now_ms
from agent.sim.world.asking import Answer, Fate
from agent.sim.world.back_office import BackOffice
from agent.sim.world.desk import Payload
from agent.sim.world.order_words import STRANGER, Image, Scene, Wish, words_16, words_201

ORDERS_MAX: Final = 256
LOOK_EVERY_S: Final = 3_600.0  # changed rates hold within this time
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class OrderRates:
    """Orders per day by wish, and bursts (reset, update, reservation and more at once) per day."""

    wishes: Mapping[Wish, float] = field(default_factory=dict)
    bursts: float = 0.0

    @property
    def total(self) -> float:
        return self.bursts + sum(self.wishes.values())


QUIET: Final = OrderRates()

BUSY: Final = OrderRates(
    {
        Wish.START: 3.0,
        Wish.STOP: 2.0,
        Wish.UNLOCK: 0.5,
        Wish.AVAILABILITY: 1.0,
        Wish.RESET: 0.3,
        Wish.TRIGGER: 3.0,
        Wish.LIMIT: 4.0,
        Wish.UNLIMIT: 1.0,
        Wish.SCHEDULE: 1.0,
        Wish.CONFIGURE: 1.0,
        Wish.READ: 1.0,
        Wish.CLEAR_CACHE: 0.3,
        Wish.RESERVE: 0.3,
        Wish.UPDATE: 0.1,
    },
    bursts=0.1,
)

BURST: Final = (Wish.RESET, Wish.UPDATE, Wish.RESERVE, Wish.AVAILABILITY, Wish.START)


@dataclass(frozen=True, slots=True)
class Order:
    """One order and what came of it."""

    at_s: float
    wish: Wish
    action: str
    payload: Payload
    answer: Answer


class Operator:
    """See the module. ``rates`` and ``images`` are for the world to set at any time.

    ``counts`` counts ``action fate`` and, where there is one, ``action status-or-code``; ``errors`` the CALLERRORs."""

    def __init__(
        self,
        office: BackOffice,
        rng: random.Random,
        wall_ms: Callable[[], int],
        *,
        evses: tuple[int, ...],
        tokens: tuple[str, ...],
        images: tuple[Image, ...] = (),
        rates: OrderRates = QUIET,
    ) -> None:
        self.rates = rates
        self.images = images
        self.orders: deque[Order] = deque(maxlen=ORDERS_MAX)
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.availability: dict[int, bool | None] = {}
        self.confirmed_ms: dict[int, int] = {}
        self._office = office
        self._rng = rng
        self._wall_ms = wall_ms
        self._evses = evses
        self._tokens = tokens
        self._number = 0
        office.mind.tokens.setdefault(STRANGER, "Invalid")

    async def run(self) -> None:
        """Want something now and then, until cancelled."""
        while True:
            total = self.rates.total
            wait_s = self._rng.expovariate(total / _DAY_S) if total else LOOK_EVERY_S
            if wait_s >= LOOK_EVERY_S:  # a new draw after it is as good as the rest of this one
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            await asyncio.sleep(wait_s)
            wish = self._draw(total)
            if wish is None:
                await self.burst()
            else:
                await self.order(wish)

    def _draw(self, total: float) -> Wish | None:
        luck = self._rng.random() * total
        for wish, rate in self.rates.wishes.items():
            luck -= rate
            if luck < 0:
                return wish
        return None

    async def burst(self) -> None:
        """Everything at once."""
        wishes = list(BURST)
        self._rng.shuffle(wishes)
        await asyncio.gather(*(self.order(wish) for wish in wishes))

    async def order(self, wish: Wish) -> Order | None:
        """Order something now; None while nobody is connected."""
        version = self._office.version
        if version is None:
            self.counts["offline"] += 1
            return None
        action, payload = (words_16 if version.is_16 else words_201)(wish, self._scene())
        return await self.send(wish, action, payload)

    async def send(self, wish: Wish, action: str, payload: Payload) -> Order:
        """Order exactly this."""
        at_s = asyncio.get_running_loop().time()
        places = self._places(payload) if action == "ChangeAvailability" else ()
        before = {place: self.availability.get(place) for place in places}
        self.availability |= dict.fromkeys(places)
        answer = await self._office.call(action, payload)
        self._confirm(payload, answer, before)
        order = Order(at_s, wish, action, payload, answer)
        self._note(order)
        return order

    def _scene(self) -> Scene:
        self._number += 1
        running = tuple(self._office.book.running.values())
        return Scene(self._rng, self._wall_ms(), self._number, self._evses, self._tokens, self.images, running)

    def _confirm(self, payload: Payload, answer: Answer, before: dict[int, bool | None]) -> None:
        if answer.status in ("Accepted", "Scheduled"):
            self.availability |= dict.fromkeys(before, _is_operative(payload))
            self.confirmed_ms |= dict.fromkeys(before, now_ms())
        elif answer.fate in (Fate.RESULT, Fate.OFFLINE):
            self.availability |= before

    def _places(self, payload: Payload) -> tuple[int, ...]:
        """What a ChangeAvailability is about; 0: the station. In 1.6 a station that becomes Operative takes all its
        connectors along (section 5.2)."""
        if payload.get("connectorId") == 0 and _is_operative(payload):
            return (0, *self._evses)
        return (payload["connectorId"] if "connectorId" in payload else payload.get("evse", {}).get("id", 0),)

    def _note(self, order: Order) -> None:
        self.orders.append(order)
        answer = order.answer
        self.counts[f"{order.action} {answer.fate}"] += 1
        if answer.status:
            self.counts[f"{order.action} {answer.status}"] += 1
        if answer.code:
            self.errors[f"{order.action} {answer.code}"] += 1


def _is_operative(payload: Payload) -> bool:
    return "Operative" in (payload.get("type"), payload.get("operationalStatus"))
