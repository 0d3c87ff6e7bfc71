"""What the operator orders of money: default tariffs, another tariff or a limit for who charges, and to read them.

Charter: draws valid orders, sends them as DataTransfer of vendor ``evsed``, and tells ``agreed`` what may hold from
then on and, when the answer is there, what does. The station's own word on what holds (GetTariffs, ClearTariffs) is
held against that. One order at a time; it is as busy as the operator, and rests in calm weather.

Units: prices in EUR, as OCPP has them. Sources: docs/billing.md; OCPP 2.1 I07 to I11, TransactionLimitType.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from agent.ocpp.version import Version
from agent.sim.virtual_time import now_ms
from agent.sim.world.agreed import ALL, Agreements, Limit
from agent.sim.world.asking import Fate
from agent.sim.world.back_office import BackOffice
from agent.sim.world.booking import Booked
from agent.sim.world.desk import Payload
from agent.sim.world.mirror import Mirror, Seen
from agent.sim.world.prices import Prices

EVERY_H: Final = 3.0
"""Between two orders of a busy operator, on average."""

INTO_CHARGE_S: Final = 1_200.0
"""So long into a charge it orders something of it, at most; and so long after that again."""

LOOK_EVERY_S: Final = 3_600.0

_VAT: Final = [{"type": "VAT", "tax": 19}]
_KWH: Final = (0.2, 0.31, 0.79)
_NIGHT: Final = {"priceKwh": 0.9, "conditions": {"startTimeOfDay": "22:00", "endTimeOfDay": "06:00"}}
_LIMITS: Final = (
    {"maxEnergy": 500},
    {"maxEnergy": 3_000},
    {"maxEnergy": 8_000},
    {"maxTime": 60},
    {"maxTime": 1_200},
    {"maxTime": 14_400},
    {"maxCost": 0.5},
    {"maxCost": 2},
    {"maxCost": 4},
    {"maxCost": 3, "maxEnergy": 6_000, "maxTime": 7_200},
)


class MoneyOrders:
    """See the module. ``busy()``: the share of a busy operator's orders, 0 for none; ``charging``: somebody does."""

    def __init__(
        self,
        office: BackOffice,
        mirror: Mirror,
        agreements: Agreements,
        chance: random.Random,
        zone: str,
        busy: Callable[[], float],
        charging: asyncio.Event,
        wrong: Callable[[int, str], None],
    ) -> None:
        self._office = office
        self._mirror = mirror
        self._agreements = agreements
        self._chance = chance
        self._zone = zone
        self._busy = busy
        self._charging = charging
        self._wrong = wrong
        self._tariffs = 0
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Order something now and then, until cancelled: of the defaults, or of the next one who charges."""
        while True:
            if not (share := self._busy()):
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            await asyncio.sleep(self._chance.expovariate(share / (EVERY_H * 3_600)))
            if self._chance.random() < 0.3:
                await self._when_there(self.order_of_defaults)
                continue
            await self._charging.wait()
            for _ in range(self._chance.choice((1, 2))):  # the second takes the place of the first
                await asyncio.sleep(self._chance.uniform(0, INTO_CHARGE_S))
                await self._when_there(self.order_of_charge)

    async def _when_there(self, order: Callable[[], Awaitable[None]]) -> None:
        if self._busy() and self._office.version is not None:
            await order()

    # ------------------------------------------------------------------------------------ defaults

    async def order_of_defaults(self) -> None:
        """Set, clear or read default tariffs."""
        luck, place = self._chance.random(), self._chance.choice(self._agreements.places)
        if luck < 0.6:
            await self._set(place)
        elif luck < 0.8:
            await self._clear(place)
        else:
            await self._read()

    async def _set(self, place: int) -> None:
        plain, tariff = self._draw()
        self._agreements.may_become(place, tariff)
        answer = await self._send("SetDefaultTariff", {"evseId": place, "tariff": plain})
        if answer is None:
            return
        if answer.get("status") != "Accepted":
            self._wrong(place, f"a default tariff without fault was answered {answer}")
        self._agreements.became(place, tariff)

    async def _clear(self, place: int) -> None:
        """All, those of one place, or one by its name."""
        agreements = self._agreements
        places = agreements.places if place == ALL else (place,)
        held = {each: agreements.defaults(each) for each in places}
        known = [each for tariffs in held.values() for each in tariffs if each is not None]
        named = self._chance.choice(known) if known and self._chance.random() < 0.3 else None
        for each in places:
            agreements.may_become(each, None)
        data: Payload = {} if place == ALL else {"evseId": place}
        answer = await self._send("ClearTariffs", data | ({} if named is None else {"tariffIds": [named.name]}))
        if answer is None:
            return
        results = {each.get("tariffId"): each["status"] for each in answer["clearTariffsResult"]}
        for each, tariffs in held.items():
            meant = [tariff for tariff in tariffs if tariff is not None and named in (None, tariff)]
            if len(tariffs) == 1 and meant and results.get(meant[0].name) != "Accepted":
                self._wrong(each, f"the default tariff {meant[0].name} was cleared, and answered {results}")
            left = [tariff for tariff in tariffs if tariff not in meant]
            agreements.became(each, *dict.fromkeys([*left, None] if meant else left))

    async def _read(self) -> None:
        """The station names the defaults that were accepted, and no other."""
        answer = await self._send("GetTariffs", {"evseId": ALL})
        if answer is None:
            return
        named = [(each["evseIds"][0], each["tariffId"]) for each in answer.get("tariffAssignments", [])]
        for place in self._agreements.places:
            tariffs = self._agreements.defaults(place)
            theirs = [name for where, name in named if where == place]
            ours = [each.name for each in tariffs if each is not None]
            if len(tariffs) == 1 and ours != theirs:
                self._wrong(place, f"the default tariffs here are {ours}, the station says {theirs}")

    def _draw(self) -> tuple[Payload, Prices]:
        """A new tariff: as it is sent, and as it is read here."""
        chance = self._chance
        self._tariffs += 1
        plain: Payload = {
            "tariffId": f"CSMS-{self._tariffs}",
            "currency": "EUR",
            "energy": {"prices": [{"priceKwh": chance.choice(_KWH)}], "taxRates": _VAT},
        }
        if chance.random() < 0.3:
            plain["energy"]["prices"].insert(0, _NIGHT)
        if chance.random() < 0.3:
            plain["chargingTime"] = {"prices": [{"priceMinute": 0.02}], "taxRates": _VAT}
        if chance.random() < 0.3:
            plain["idleTime"] = {"prices": [{"priceMinute": 0.05}]}
        if chance.random() < 0.3:
            plain["fixedFee"] = {"prices": [{"priceFixed": 0.7}]}
        if chance.random() < 0.2:
            plain["minCost"] = {chance.choice(("exclTax", "inclTax")): 1.5}
        if chance.random() < 0.2:
            plain["maxCost"] = {chance.choice(("exclTax", "inclTax")): 4}
        return plain, Prices(json.dumps(plain), self._zone)

    # ------------------------------------------------------------------------------ of one who charges

    async def order_of_charge(self) -> None:
        """Another tariff or a limit for one of those that run, as far as the CSMS knows."""
        running = list(self._office.book.running.values())
        if not running:
            return
        booked = self._chance.choice(running)
        seen = self._mirror.open.get(booked.evse)
        if seen is not None and not self._is(seen, booked):
            seen = None
        data: Payload = {"transactionId": booked.key if booked.number is None else booked.number}
        if self._chance.random() < 0.3:
            await self._change(data, seen)
        else:
            await self._limit(data, seen)

    def _is(self, seen: Seen, booked: Booked) -> bool:
        """In 1.6 two in a row may look alike, if nothing has flowed: then the answer tells."""
        if self._office.version is Version.V16:
            return seen.begin.energy_import_mwh // 1_000 * 1_000 == booked.begin_mwh
        return booked.key == seen.tx_id

    async def _change(self, data: Payload, seen: Seen | None) -> None:
        plain, tariff = self._draw()
        before_mwh = 0
        if seen is not None:
            seen.agreed.tariffs.append(tariff)
            seen.agreed.before_mwh = None
            before_mwh = self._drawn_mwh(seen)
        answer = await self._send("ChangeTransactionTariff", data | {"tariff": plain})
        if answer is None or seen is None:
            return
        if answer.get("status") == "Accepted":
            seen.agreed.before_mwh = before_mwh, self._drawn_mwh(seen)
        else:
            seen.agreed.tariffs.remove(tariff)

    async def _limit(self, data: Payload, seen: Seen | None) -> None:
        plain = self._chance.choice(_LIMITS)
        limit = _read(plain)
        before: list[Limit] = []
        if seen is not None:
            before = list(seen.agreed.limits)
            seen.agreed.limits.append(limit)
        answer = await self._send("TransactionLimit", data | {"transactionLimit": plain})
        if answer is None or seen is None:
            return
        if answer.get("status") == "Rejected":  # as it may be where nothing prices: here something always does
            self._wrong(seen.evse, f"a limit without fault was answered {answer}")
        if answer.get("status") != "Accepted":
            seen.agreed.limits = before
            return
        seen.agreed.replaced += [(now_ms(), each) for each in before]
        told_ms = self._mirror.truth(seen.evse).wall_ms
        seen.agreed.limits = [replace(limit, told_ms=told_ms, drawn_mwh=self._drawn_mwh(seen))]

    def _drawn_mwh(self, seen: Seen) -> int:
        return self._mirror.truth(seen.evse).metered_mwh - seen.started.metered_mwh

    # --------------------------------------------------------------------------------------- sending

    async def _send(self, name: str, data: Payload) -> Payload | None:
        """What the station answers; None where nobody knows what it made of it."""
        is_16 = self._office.version is Version.V16
        request = {"vendorId": "evsed", "messageId": name, "data": json.dumps(data) if is_16 else data}
        answer = await self._office.call("DataTransfer", request)
        self.counts[f"{name} {answer.fate}"] += 1
        if answer.fate is not Fate.RESULT:
            return None
        told = answer.payload.get("data")
        if answer.status != "Accepted" or told is None:
            self._wrong(0, f"{name} without fault was answered {answer.payload}")
            return None
        found: Payload = json.loads(told) if isinstance(told, str) else told
        self.counts[f"{name} {found.get('status', '')}"] += 1
        return found


def _read(plain: Mapping[str, Any]) -> Limit:
    cents, energy_wh, time_s = plain.get("maxCost"), plain.get("maxEnergy"), plain.get("maxTime")
    return Limit(
        None if cents is None else round(cents * 100),
        None if energy_wh is None else energy_wh * 1_000,
        None if time_s is None else time_s * 1_000,
    )
