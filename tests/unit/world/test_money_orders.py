"""What the operator orders of money, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, cast

import pytest

from agent.core.facts import Sample, SampleContext
from agent.ocpp.version import Version
from agent.sim.virtual_time import now_ms, run_virtual
from agent.sim.world.agreed import NO_LIMIT, Agreements
from agent.sim.world.asking import Answer, Fate
from agent.sim.world.back_office import BackOffice
from agent.sim.world.booking import Book, Booked
from agent.sim.world.mirror import Mirror, Seen, Truth
from agent.sim.world.money_orders import MoneyOrders
from agent.sim.world.prices import Prices

SITE = Prices(json.dumps({"tariffId": "site", "energy": {"prices": [{"priceKwh": 0.5}]}}), "Europe/Berlin")
LOST = Answer(Fate.LOST)


class Office:
    """Answers every order in the same way, and keeps them."""

    def __init__(self, version: Version, answer: Answer | dict[str, Any]) -> None:
        self.version = version
        self.book = Book()
        self.asked: list[dict[str, Any]] = []
        self.answer = answer

    async def call(self, _action: str, payload: dict[str, Any]) -> Answer:
        self.asked.append(payload)
        if isinstance(self.answer, Answer):
            return self.answer
        data = json.dumps(self.answer) if self.version.is_16 else self.answer
        return Answer(Fate.RESULT, {"status": "Accepted", "data": data})


class Truths:
    """A mirror that knows one transaction, which draws on."""

    def __init__(self) -> None:
        self.open: dict[int, Seen] = {}
        self.drawn_mwh = 0

    def truth(self, _evse: int) -> Truth:
        self.drawn_mwh += 1_000
        return Truth(self.drawn_mwh, 0, 0, 10_000, 0, 0, True)


class Rig:
    def __init__(self, answer: Answer | dict[str, Any], version: Version = Version.V201) -> None:
        self.said: list[str] = []
        self.busy, self.charging = 1.0, asyncio.Event()
        self.office, self.mirror = Office(version, answer), Truths()
        self.agreements = Agreements(SITE, {1: 22_000}, now_ms, self._wrong, late_ms=(0, 0))
        self.orders = MoneyOrders(
            cast("BackOffice", self.office),
            cast("Mirror", self.mirror),
            self.agreements,
            random.Random(1),
            "Europe/Berlin",
            lambda: self.busy,
            self.charging,
            self._wrong,
        )

    def _wrong(self, _evse: int, text: str) -> None:
        self.said.append(text)

    def begin(self) -> Seen:
        """A transaction that the CSMS knows, too."""
        begin = Sample(SampleContext.BEGIN, 0, "METER", 5_000_400)
        seen = Seen("tx", 1, begin, self.mirror.truth(1), self.agreements.at_start(1))
        self.mirror.open[1] = seen
        self.office.book.begin(Booked("tx", 1, "", number=None, begin_mwh=5_000_000, starts=1))
        return seen

    def names(self, place: int = 1) -> list[str]:
        return [each.name if each else "-" for each in self.agreements.defaults(place)]


@pytest.mark.parametrize("version", list(Version))
def test_a_default_that_was_accepted_holds(version: Version) -> None:
    async def live() -> None:
        rig = Rig({"status": "Accepted"}, version)
        await rig.orders._set(1)
        assert rig.names() == ["CSMS-1"]
        assert isinstance(rig.office.asked[0]["data"], str if version is Version.V16 else dict)
        assert not rig.said

    run_virtual(live())


def test_a_default_that_was_refused_is_wrong_and_one_without_an_answer_may_hold() -> None:
    async def live() -> None:
        refused, lost = Rig({"status": "Rejected"}), Rig(LOST)
        await refused.orders._set(1)
        assert "without fault" in refused.said[0]
        await lost.orders._set(1)
        assert lost.names() == ["-", "CSMS-1"]
        assert not lost.said

    run_virtual(live())


def test_a_default_that_is_not_there_to_be_cleared_was_forgotten() -> None:
    async def live() -> None:
        rig = Rig({"status": "Accepted"})
        await rig.orders._set(1)
        rig.office.answer = {"clearTariffsResult": [{"tariffId": "CSMS-1", "status": "Accepted"}]}
        await rig.orders._clear(1)
        assert (rig.names(), rig.said) == (["-"], [])
        rig.office.answer = {"status": "Accepted"}
        await rig.orders._set(1)
        rig.office.answer = {"clearTariffsResult": [{"status": "NoTariff"}]}
        await rig.orders._clear(1)
        assert "was cleared" in rig.said[0]

    run_virtual(live())


def test_the_station_names_what_was_accepted() -> None:
    async def live() -> None:
        rig = Rig({"status": "NoTariff"})
        await rig.orders._read()
        assert not rig.said
        rig.office.answer = {"status": "Accepted"}
        await rig.orders._set(1)
        rig.office.answer = {"tariffAssignments": [{"tariffId": "CSMS-1", "evseIds": [1]}]}
        await rig.orders._read()
        assert not rig.said
        rig.office.answer = {"status": "NoTariff"}
        await rig.orders._read()
        assert "the station says []" in rig.said[0]

    run_virtual(live())


def test_what_holds_for_one_who_charges_is_what_was_answered() -> None:
    async def live() -> None:
        rig = Rig({"status": "Accepted"})
        seen = rig.begin()
        await rig.orders._change({}, seen)
        assert [each.name for each in seen.agreed.tariffs] == ["site", "CSMS-1"]
        assert seen.agreed.before_mwh == (1_000, 2_000)
        await rig.orders._limit({}, seen)
        assert NO_LIMIT not in seen.agreed.limits
        assert [limit for _, limit in seen.agreed.replaced] == [NO_LIMIT]
        held = list(seen.agreed.limits)
        rig.office.answer = {"status": "TxNotFound"}
        await rig.orders._change({}, seen)
        await rig.orders._limit({}, seen)
        assert [each.name for each in seen.agreed.tariffs] == ["site", "CSMS-1"]
        assert seen.agreed.limits == held
        assert not rig.said
        rig.office.answer = {"status": "Rejected"}
        await rig.orders._limit({}, seen)
        assert "a limit without fault was answered" in rig.said[0] and seen.agreed.limits == held
        rig.office.answer = LOST
        await rig.orders._change({}, seen)
        await rig.orders._limit({}, seen)
        assert [each.name for each in seen.agreed.tariffs] == ["site", "CSMS-1", "CSMS-3"]
        assert seen.agreed.before_mwh is None
        assert len(seen.agreed.limits) == 2

    run_virtual(live())


def test_it_orders_nothing_in_calm_weather() -> None:
    async def live() -> None:
        rig = Rig(LOST)
        rig.charging.set()
        rig.begin()
        task = asyncio.create_task(rig.orders.run())
        await asyncio.sleep(3 * 86_400)
        ordered = len(rig.office.asked)
        assert ordered > 5
        rig.busy = 0
        await asyncio.sleep(3 * 86_400)
        assert len(rig.office.asked) == ordered
        task.cancel()

    run_virtual(live())
