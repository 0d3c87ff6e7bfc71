"""What CSMS and station agreed on money, and which receipts do not keep to it."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.billing.read import Receipt
from agent.core.facts import Sample
from agent.sim.virtual_time import now_ms, run_virtual
from agent.sim.world.agreed import ALL, LATE_MS, NO_LIMIT, Agreed, Agreements, Limit
from agent.sim.world.mirror import Mirror, Seen, Truth
from agent.sim.world.prices import Prices
from tests.unit.billing import making

HOUR_MS = 3_600_000
KWH = 1_000_000


def tariff(name: str, price: float) -> Prices:
    plain = {"tariffId": name, "energy": {"prices": [{"priceKwh": price}]}}
    return Prices(json.dumps(plain), "Europe/Berlin")


SITE, RED, BLUE = tariff("site", 0.5), tariff("red", 1), tariff("blue", 2)


class Rig:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.agreements = Agreements(
            SITE,
            {1: 22_000, 2: 22_000},
            now_ms,
            lambda _evse, text: self.said.append(text),
            late_ms=(1_000, 1_000),
        )

    def start(self, evse: int = 1) -> list[str]:
        return [each.name for each in self.agreements.at_start(evse).tariffs]

    def judge(
        self,
        limits: list[Limit],
        *,
        mwh: int = 4 * KWH,
        hours: int = 1,
        cents: int = 200,
        reason: str = "Local",
        site: Prices = SITE,
        **more: Any,
    ) -> str:
        """What is said of such a transaction on the site's tariff."""
        began = Truth(0, 0, 0, 10_000, 0, 0, True)
        ended = Truth(mwh, 0, 0, 10_000, 0, hours * HOUR_MS, True)
        agreed = Agreed([site], limits, more.pop("replaced", []), whole=more.pop("whole", True))
        seen = Seen("tx", 1, cast("Sample", None), began, agreed, reason=reason, ended_truth=ended, **more)
        receipt = SimpleNamespace(energy_mwh=mwh, bill=SimpleNamespace(total_incl=cents))
        self.agreements.judge(seen, cast("Receipt", receipt))
        return self.said[0] if self.said else ""


def test_the_default_of_an_evse_comes_before_that_of_all_and_this_before_the_sites() -> None:
    async def live() -> None:
        rig = Rig()
        assert rig.start() == ["site"]
        rig.agreements.became(ALL, RED)
        await asyncio.sleep(120)
        assert rig.start() == ["red"]
        rig.agreements.became(1, BLUE)
        await asyncio.sleep(120)
        assert (rig.start(1), rig.start(2)) == (["blue"], ["red"])

    run_virtual(live())


def test_an_order_without_an_answer_leaves_both() -> None:
    async def live() -> None:
        rig = Rig()
        rig.agreements.may_become(1, RED)
        await asyncio.sleep(HOUR_MS / 1_000)
        assert sorted(rig.start()) == ["red", "site"]
        rig.agreements.became(1, BLUE)
        await asyncio.sleep(120)
        assert rig.start() == ["blue"]

    run_virtual(live())


def test_what_was_replaced_a_moment_ago_may_have_been_chosen() -> None:
    async def live() -> None:
        rig = Rig()
        rig.agreements.became(1, RED)
        rig.agreements.became(1, BLUE)
        await asyncio.sleep(30)
        assert sorted(rig.start()) == ["blue", "red", "site"]
        await asyncio.sleep(90)
        assert rig.start() == ["blue"]

    run_virtual(live())


def test_a_session_that_goes_on_keeps_tariffs_and_limits() -> None:
    before = Agreed([RED], [Limit(cents=300)])
    after = Agreements.follows(before)
    assert (after.tariffs, after.limits, after.whole) == ([RED], [Limit(cents=300)], False)


@pytest.mark.parametrize(
    ("limits", "how", "said"),
    [
        ([NO_LIMIT], {}, ""),
        ([NO_LIMIT], {"cents": 190}, "are right by site"),
        ([Limit(cents=150)], {"cents": 150}, ""),  # what lies above it is not billed
        ([Limit(cents=150)], {}, "the CSMS allowed 150"),
        ([Limit(cents=150)], {"cents": 20, "whole": False}, ""),  # of which the transaction before has left 20
        ([NO_LIMIT], {"cents": 20, "whole": False}, "are right by site"),
        ([Limit(energy_mwh=1 * KWH)], {}, "the CSMS allowed 1000000 mWh"),
        ([Limit(energy_mwh=1 * KWH, drawn_mwh=4 * KWH)], {}, ""),  # it came too late
        ([Limit(energy_mwh=1 * KWH), NO_LIMIT], {}, ""),  # nobody knows whether it holds
        ([Limit(energy_mwh=1 * KWH)], {"whole": False}, "the CSMS allowed 1000000 mWh"),
        ([Limit(time_ms=HOUR_MS)], {"hours": 2}, "the CSMS allowed 3600000 ms"),
        ([Limit(time_ms=HOUR_MS)], {"hours": 2, "gaps": 1}, ""),
        ([Limit(time_ms=HOUR_MS, told_ms=2 * HOUR_MS)], {"hours": 2}, ""),
        ([NO_LIMIT], {"reason": "EnergyLimitReached"}, "has no such limit"),
        ([Limit(cents=200)], {"reason": "EnergyLimitReached"}, "has no such limit"),
        ([Limit(energy_mwh=4 * KWH)], {"reason": "EnergyLimitReached"}, ""),
        ([Limit(energy_mwh=5 * KWH)], {"reason": "EnergyLimitReached"}, "the limit is 5000000"),
        ([Limit(energy_mwh=5 * KWH)], {"reason": "EnergyLimitReached", "whole": False}, ""),
        ([Limit(time_ms=2 * HOUR_MS)], {"reason": "TimeLimitReached"}, "the limit is 7200000"),
        ([Limit(cents=200)], {"reason": "LocalOutOfCredit"}, ""),
        ([Limit(cents=300)], {"reason": "LocalOutOfCredit"}, "the limit is 300"),
        ([Limit(cents=30)], {"reason": "LocalOutOfCredit", "mwh": 0, "cents": 0}, ""),  # less than the fee
    ],
)
def test_a_receipt_keeps_to_the_limit(limits: list[Limit], how: dict[str, Any], said: str) -> None:
    found = Rig().judge(limits, **how)
    assert bool(found) == bool(said)
    assert said in found


@pytest.mark.parametrize("bound", [{"fixedFee": {"prices": [{"priceFixed": 1}]}}, {"minCost": {"inclTax": 1}}])
@pytest.mark.parametrize(
    ("reason", "how", "right"),
    [
        ("Local", {}, True),
        ("DeAuthorized", {}, False),
        ("ImmediateReset", {}, False),
        ("Reboot", {}, False),
        ("Reboot", {"mwh": KWH, "cents": 150}, True),
        ("Reboot", {"rolled_over": True}, True),
        ("Reboot", {"whole": False}, True),
    ],
)
def test_where_nothing_was_sold_there_is_no_fee(
    bound: dict[str, Any], reason: str, how: dict[str, Any], right: bool
) -> None:
    dear = {"tariffId": "site", "energy": {"prices": [{"priceKwh": 0.5}]}} | bound
    if "minCost" in bound and "mwh" in how:
        how = how | {"cents": 100}
    site = Prices(json.dumps(dear), "Europe/Berlin")
    told: dict[str, Any] = {"mwh": 0, "cents": 100, "reason": reason, "site": site} | how
    found = Rig().judge([NO_LIMIT], **told)
    assert ("are right by site" in found) is not right


@pytest.mark.parametrize(("ago_ms", "said"), [(1_000, ""), (LATE_MS, "has no such limit")])
def test_one_that_ends_for_its_limit_may_be_given_another_meanwhile(ago_ms: int, said: str) -> None:
    async def live() -> None:
        await asyncio.sleep(HOUR_MS / 1_000)
        replaced = [(now_ms() - ago_ms, Limit(time_ms=HOUR_MS))]
        found = Rig().judge([Limit(cents=300)], reason="TimeLimitReached", replaced=replaced)
        assert bool(found) == bool(said)
        assert said in found

    run_virtual(live())


@pytest.mark.parametrize("state", ["M", "X", "O"])
@pytest.mark.parametrize(("cents", "said"), [(0, ""), (200, "cannot be believed")])
def test_what_the_meter_cannot_prove_costs_nothing(cents: int, said: str, state: str) -> None:
    end = cast("Sample", SimpleNamespace(meter_state=state, substituted=True))
    heard = Rig().judge([Limit(cents=200)], cents=cents, end=end, reason="LocalOutOfCredit")
    assert said in heard and bool(heard) is bool(said)


@pytest.mark.parametrize(("cost", "right"), [("7.91", True), ("7.9", False), (None, False)])
def test_the_end_of_a_transaction_costs_what_its_receipt_says(cost: str | None, right: bool) -> None:
    said: list[str] = []
    nobody = cast("Any", SimpleNamespace(judge=lambda *_: None))
    truth = Truth(20 * KWH, 0, HOUR_MS, 10_000, 0, HOUR_MS, True)
    mirror = Mirror(
        lambda _: truth, lambda _: False, lambda _: False, nobody, nobody, nobody, lambda _, text: said.append(text)
    )
    began = Truth(0, 0, 0, 10_000, 0, 0, True)
    mirror.ended = [Seen("tx", 1, cast("Sample", None), began, nobody, ended_truth=truth, cost=cost)]
    mirror.rows([cast("Any", SimpleNamespace(seq=1, kind="receipt", tx_id="tx", evse=1, body=making.sealed()))])
    assert any("its receipt says 791 cents" in each for each in said) is not right
