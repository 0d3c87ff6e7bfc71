"""Whatever a meter shows, nothing impossible is billed (field fault 11), and the ledger stays one that adds up.

Registers fall, jump, begin anew, go silent, belong to another meter, before and after crashes. Invariants by the
numbers of the metering reference, section 5.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.billing.read import Receipt
from agent.core.facts import TransactionFact, TxKind
from hal.ports import LossKind
from tests.support.billing_world import BillingWorld, Site

FLAT = json.dumps({"tariffId": "T", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.5}]}})
MODULUS_MWH = 10_000_000
SLACK_MWH = 100_000  # a jump of less is the driver's affair: the coarsest register has such steps

STEP = st.one_of(
    st.sampled_from(["plug", "authorize", "draw", "rest", "unplug", "swipe_to_stop"]).map(lambda name: (name, 0)),
    st.tuples(st.just("advance"), st.integers(200, 30_000)),
    st.tuples(st.just("advance"), st.integers(200, 30_000)),
    st.tuples(st.just("shift"), st.sampled_from([-2_000_000, -1, 1, 3_000_000, 60_000_000])),
    st.tuples(st.just("anew"), st.just(0)),
    st.tuples(st.just("serial"), st.sampled_from(["M1", "M2"])),
    st.tuples(st.just("lost"), st.sampled_from([LossKind.SILENT, LossKind.GARBAGE])),
    st.tuples(st.just("back"), st.just(0)),
    st.tuples(st.just("slow"), st.booleans()),
    st.tuples(st.just("crash"), st.booleans()),
)
STEPS = st.lists(STEP, max_size=25).map(lambda steps: [("plug", 0), ("authorize", 0), ("draw", 0), *steps])


def play(made: BillingWorld, steps: list[tuple[str, Any]]) -> list[Receipt]:
    for name, value in steps:
        match name:
            case "advance":
                made.advance(value)
            case "shift":
                made.register_mwh = max(0, made.register_mwh + value)
            case "anew":  # the last digits before the register begins at 0
                made.register_mwh += -(made.register_mwh + 20_000) % MODULUS_MWH
            case "serial":
                made.serial = value
            case "lost":
                made.meter_lost(value)
            case "back":
                made.meter_back()
            case "slow":
                made.slow_disk = value
            case "crash":
                made.crash(power=value)
            case _:
                getattr(made, name)()
    made.finish()
    return made.receipts()


@settings(max_examples=150)
@given(STEPS, st.sampled_from([None, MODULUS_MWH]))
def test_e1_e2_nothing_impossible_is_billed(steps: list[tuple[str, Any]], modulus_mwh: int | None) -> None:
    with BillingWorld(Site.selling(FLAT, rollover_mwh=modulus_mwh)) as made:
        receipts = play(made, steps)
        for receipt in receipts:
            usage = receipt.usage
            assert usage is not None and receipt.energy_mwh is not None
            assert receipt.energy_mwh == sum(period.energy_mwh for period in usage.periods) >= 0
        shifted = sum(value for name, value in steps if name == "shift" and 0 < value <= 3_000_000)
        billed_mwh = sum(receipt.energy_mwh or 0 for receipt in receipts if not receipt.facts.flags.not_billable)
        most_mwh = made.drawn_mwh + SLACK_MWH * len(receipts)
        assert billed_mwh <= most_mwh + shifted, "a register that creeps cannot be told from one that counts"


@settings(max_examples=150)
@given(STEPS, st.sampled_from([None, MODULUS_MWH]))
def test_every_transaction_ends_once_with_a_receipt(steps: list[tuple[str, Any]], modulus_mwh: int | None) -> None:
    """Also L2, L3, R3: the check of the ledger finds nothing but registers that did fall."""
    with BillingWorld(Site.selling(FLAT, rollover_mwh=modulus_mwh)) as made:
        receipts = play(made, steps)
        kinds: dict[str, list[TxKind]] = {}
        for fact in made.facts():
            if isinstance(fact, TransactionFact):
                kinds.setdefault(fact.tx_id, []).append(fact.kind)
        assert all(each[0] is TxKind.STARTED and each[-1] is TxKind.ENDED for each in kinds.values())
        assert all(each.count(TxKind.ENDED) == each.count(TxKind.STARTED) == 1 for each in kinds.values())
        assert sorted(receipt.facts.tx_id for receipt in receipts) == sorted(kinds)
        assert not made.billing.busy
        fell = any(name in ("shift", "serial", "anew") for name, _ in steps)
        assert [each for each in made.audit() if not (fell and each.startswith("register "))] == []
        for tx_id in kinds:
            registers = [
                sample.energy_import_mwh
                for fact in made.facts()
                if isinstance(fact, TransactionFact) and fact.tx_id == tx_id
                for sample in fact.samples
            ]
            assert registers == sorted(registers)
