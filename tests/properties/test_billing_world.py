"""The invariants of metering and billing (metering reference, section 5) on a whole station, by their numbers.

Whatever a car, a driver, a meter, a clock, a CSMS and a dying process do in whatever order: what is on disk adds up,
is signed as it is stored, and is charged once. L1 and L4 are the ledger's own, C1 to C6 and C9 the tariff's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.billing.prices import bill_again
from agent.billing.read import Receipt
from agent.billing.receipt import body, written
from agent.core.facts import Fact, SignedFact, StopReason, TransactionFact, Trigger, TxKind
from agent.core.settings import Behaviour
from agent.ipc.codec import encode_fact
from agent.ocmf.judge import pagination
from agent.ocmf.parse import parse as parse_record
from agent.ocmf.public_key import parse_key
from agent.ocmf.verify import verify
from agent.tariff.currency import from_minor
from tests.support.billing_world import NOON_MS, ZONE, BillingWorld, Site

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# An ordinary noon, both nights in which the clock is changed, New Year; each a minute before something happens.
STARTS = {
    "noon": NOON_MS,
    "spring": 1_774_745_930_000,  # 2026-03-29 00:58:50 UTC
    "autumn": 1_792_889_930_000,  # 2026-10-25 00:58:50 UTC
    "new year": 1_798_757_930_000,  # 2026-12-31 22:58:50 UTC
}


def at_minute(wall_ms: int, minutes: int) -> str:
    local = (EPOCH + timedelta(milliseconds=wall_ms)).astimezone(ZoneInfo(ZONE)) + timedelta(minutes=minutes)
    return local.strftime("%H:%M")


def tariff_texts(wall_ms: int) -> dict[str, str]:
    """Tariffs in which something changes soon, by name."""
    first, second = at_minute(wall_ms, 1), at_minute(wall_ms, 2)
    kwh: Callable[..., dict[str, Any]] = lambda price, **held: {"priceKwh": price} | _held(held)  # noqa: E731
    minute: Callable[..., dict[str, Any]] = lambda price, **held: {"priceMinute": price} | _held(held)  # noqa: E731
    parts: dict[str, dict[str, Any]] = {
        "flat": {"energy": [kwh(0.45)], "idleTime": [minute(0.1)]},
        "hours": {
            "energy": [kwh(0.6, startTimeOfDay=first, endTimeOfDay=second), kwh(0.3)],
            "chargingTime": [minute(0.5, startTimeOfDay=first, endTimeOfDay=second), minute(0.05)],
            "idleTime": [minute(0.2, startTimeOfDay=second), minute(0.1)],
        },
        "blocks": {
            "energy": [kwh(0.2, maxEnergy=40), kwh(0.4, maxEnergy=90), kwh(0.7)],
            "idleTime": [minute(0.0, maxIdleTime=20), minute(1.0)],
        },
        "power": {"energy": [kwh(0.9, minPower=3_000), kwh(0.4)], "chargingTime": [minute(0.3, minTime=45)]},
    }
    return {name: _tariff(name, each) for name, each in parts.items()}


def _held(conditions: dict[str, Any]) -> dict[str, Any]:
    return {"conditions": conditions} if conditions else {}


def _tariff(name: str, parts: dict[str, Any]) -> str:
    taxed = {part: {"prices": prices, "taxRates": [{"type": "VAT", "tax": 19}]} for part, prices in parts.items()}
    fee = {"fixedFee": {"prices": [{"priceFixed": 0.25}]}}
    return json.dumps({"tariffId": f"T-{name}", "currency": "EUR", **taxed, **fee})


# -------------------------------------------------------------------------------------------- scripts

NAMES = ("flat", "hours", "blocks", "power")
VISIT = st.sampled_from(["plug", "authorize", "draw", "rest", "unplug", "stop"]).map(lambda name: (name, 0))
SECONDS = st.tuples(st.just("advance"), st.integers(200, 50_000))
ORDINARY = st.one_of(
    VISIT,
    SECONDS,
    SECONDS,
    st.tuples(st.just("draw"), st.sampled_from([6_000, 13_000, 32_000])),
    st.tuples(st.just("limit_current"), st.sampled_from([0, 10_000, 32_000])),
)
OFFICE = st.one_of(
    st.tuples(st.sampled_from(["set_default_tariff", "change_tariff", "live_tariff"]), st.sampled_from(NAMES)),
    st.tuples(st.just("link"), st.booleans()),
    st.tuples(st.just("slow"), st.booleans()),
)
CLOCK = st.tuples(st.just("step_clock"), st.sampled_from([-3_600_000, -70_000, -2_500, -300, 900, 61_000, 3_600_000]))
CRASH = st.tuples(st.sampled_from(["die", "power_cut", "power_cut_without_rtc"]), st.integers(0, 3))
METER = st.tuples(st.sampled_from(["meter_lost", "meter_back"]), st.just(0))


@dataclass(frozen=True)
class Script:
    start: str
    tariff: str
    steps: tuple[tuple[str, Any], ...]
    meter_step_mwh: int = 1
    aligned_ms: int = 0


def scripts(*more: st.SearchStrategy[tuple[str, Any]], most: int = 25) -> st.SearchStrategy[Script]:
    """A car that charges for a while, and then anything."""
    step = st.one_of(ORDINARY, ORDINARY, *more)
    begin = (("plug", 0), ("authorize", 0), ("draw", 16_000))
    return st.builds(
        Script,
        start=st.sampled_from(list(STARTS)),
        tariff=st.sampled_from(NAMES),
        steps=st.lists(step, max_size=most).map(lambda steps: (*begin, *steps)),
        meter_step_mwh=st.sampled_from([1, 1, 10_000]),
        aligned_ms=st.sampled_from([0, 0, 60_000]),
    )


def world_of(script: Script, **others: Any) -> BillingWorld:
    wall_ms = STARTS[script.start]
    behaviour = Behaviour(aligned_interval_ms=script.aligned_ms)
    site = Site.selling(tariff_texts(wall_ms)[script.tariff], behaviour=behaviour)
    made = BillingWorld(site, wall_ms=wall_ms, **others)
    made.meter_step_mwh = script.meter_step_mwh
    return made


def play(made: BillingWorld, script: Script) -> BillingWorld:
    for step in script.steps:
        do(made, script, *step)
    made.finish()
    return made


def do(made: BillingWorld, script: Script, name: str, value: Any) -> None:
    match name:
        case "draw":
            made.draw(value or 16_000)
        case "stop":
            made.swipe_to_stop()
        case "slow":
            made.slow_disk = value
        case "die":
            made.crash(kept=value)
        case "power_cut":
            made.crash(power=True, away_ms=20_000 * (value + 1), kept=value)
        case "power_cut_without_rtc":
            made.crash(power=True, clock_kept=False, kept=value)
            made.advance(1_500)
            made.set_clock()
        case "set_default_tariff" | "change_tariff" | "live_tariff":
            getattr(made, name)(tariff_texts(STARTS[script.start])[value])
        case "advance" | "limit_current" | "link" | "step_clock":
            getattr(made, name)(value)
        case _:
            getattr(made, name)()


def ends(made: BillingWorld) -> list[TransactionFact]:
    return [fact for fact in made.transactions() if fact.kind is TxKind.ENDED]


# --------------------------------------------------------------------------------------------- energy


@settings(max_examples=60)
@given(scripts(OFFICE, CLOCK, CRASH, METER))
def test_e1_the_energy_of_the_periods_is_the_difference_of_the_registers(script: Script) -> None:
    with world_of(script) as made:
        for receipt in play(made, script).receipts():
            usage = receipt.usage
            assert usage is not None
            assert (usage.begin_mwh, usage.end_mwh) == (receipt.facts.begin_mwh, receipt.facts.end_mwh)
            assert sum(period.energy_mwh for period in usage.periods) == receipt.energy_mwh
            assert made.audit() == []


@settings(max_examples=40)
@given(scripts(OFFICE, CLOCK, CRASH, METER))
def test_e2_no_interval_is_negative_and_no_register_falls(script: Script) -> None:
    with world_of(script) as made:
        play(made, script)
        for receipt in made.receipts():
            assert receipt.usage is not None
            assert all(period.energy_mwh >= 0 and period.to_ms >= period.from_ms for period in receipt.usage.periods)
        registers = [s.energy_import_mwh for f in made.transactions() for s in f.samples]
        assert registers == sorted(registers)


@settings(max_examples=40)
@given(scripts(CRASH, METER))
def test_e3_what_ran_between_two_transactions_is_told(script: Script) -> None:
    with world_of(script) as made:
        play(made, script)
        made.crash(power=script.aligned_ms > 0)
        made.charge(5)
        made.finish()
        receipts = made.receipts()
        assert len(receipts) >= 2
        for before, after in pairwise(receipts):
            assert before.facts.end_mwh is not None and after.facts.begin_mwh is not None
            assert after.facts.unassigned_before_mwh == after.facts.begin_mwh - before.facts.end_mwh >= 0


@settings(max_examples=80)
@given(scripts(OFFICE, CLOCK, CRASH))
def test_e4_a_crash_at_any_point_changes_no_energy(script: Script) -> None:
    """With a meter that answers, what was drawn is billed to the last mWh, whatever died meanwhile."""
    with world_of(script) as made:
        begin_mwh = made.reading().energy_import_mwh
        receipts = play(made, script).receipts()
        assert len(receipts) == len(ends(made)) == len({f.tx_id for f in made.transactions()})
        assert sum(receipt.energy_mwh or 0 for receipt in receipts) == made.reading().energy_import_mwh - begin_mwh


# ---------------------------------------------------------------------------------- records and receipts


@settings(max_examples=40)
@given(scripts(OFFICE, CRASH, METER))
def test_l2_numbers_count_on_over_every_restart(script: Script) -> None:
    with world_of(script) as made:
        play(made, script)
        records = [parse_record(row.body) for row in made.all_rows() if row.kind == "signed"]
        assert [pagination(record) for record in records] == [("T", n) for n in range(1, len(records) + 1)]
        assert [receipt.number for receipt in made.receipts()] == list(range(1, len(made.receipts()) + 1))


@settings(max_examples=40)
@given(scripts(OFFICE, CRASH, METER))
def test_l3_what_is_told_is_what_is_stored_and_what_was_signed(script: Script) -> None:
    with world_of(script) as made:
        play(made, script)
        rows = {row.seq: row for row in made.all_rows()}
        key = parse_key(made.key.public_der)
        told_records = [each for each in made.records() if isinstance(each.fact, SignedFact)]
        assert len(told_records) == sum(row.kind == "signed" for row in rows.values())
        for each in told_records:
            assert isinstance(each.fact, SignedFact) and each.fact.record.encode() == rows[each.seq].body
            assert verify(parse_record(rows[each.seq].body), key).signature.valid
        by_tx = Counter[str]()
        for receipt in made.receipts():
            stored = [row.body.decode() for row in rows.values() if row.kind == "signed" and row.seq < receipt.seq]
            assert set(receipt.records) <= set(stored)
            by_tx[receipt.facts.tx_id] += 1
        assert all(count == 1 for count in by_tx.values())


@settings(max_examples=60)
@given(scripts(OFFICE, CLOCK, CRASH, METER))
def test_l5_books_made_from_the_rows_are_the_books_that_lived(script: Script) -> None:
    with world_of(script) as made:
        for step in script.steps:
            do(made, script, *step)
            made.flush()
            if made.tx_id is not None and made.billing.books(made.tx_id) is not None:
                live, again = made.books, made.rebuilt(made.tx_id)
                assert again.usage() == live.usage() and again.marks == live.marks
                assert again.tariff_hashes == live.tariff_hashes and again.limits == live.limits
                assert again.next_boundary_ms() == live.next_boundary_ms()
        made.finish()
        for receipt in made.receipts():
            again = made.rebuilt(receipt.facts.tx_id)
            assert again.usage() == receipt.usage
            assert made.billing.bill(again, again.usage(), final=True) == receipt.bill


@settings(max_examples=60)
@given(scripts(OFFICE, CLOCK, CRASH, METER))
def test_r3_a_receipt_costs_what_anybody_computes_from_it(script: Script) -> None:
    with world_of(script) as made:
        receipts = play(made, script).receipts()
        assert [bill_again(receipt) for receipt in receipts] == [receipt.bill for receipt in receipts]
        totals = {fact.tx_id: fact.total_cost for fact in ends(made)}
        for receipt in receipts:
            assert receipt.bill is not None
            assert Fraction(totals[receipt.facts.tx_id] or "-1") == from_minor(receipt.bill.total_incl, "EUR")
        assert made.audit() == []


# ------------------------------------------------------------------------------------------------ time


@settings(max_examples=60)
@given(scripts(OFFICE, CLOCK, CRASH, METER))
def test_c7_periods_tile_the_session_with_one_price_each(script: Script) -> None:
    with world_of(script) as made:
        for receipt in play(made, script).receipts():
            assert receipt.usage is not None
            periods = receipt.usage.periods
            assert all(one.to_ms == other.from_ms for one, other in pairwise(periods))
            for period in periods:
                spent_ms = period.charging_ms + period.idle_ms + period.unbilled_ms
                assert spent_ms == period.to_ms - period.from_ms


@settings(max_examples=40)
@given(scripts(CLOCK, CRASH), st.sampled_from(["spring", "autumn"]))
def test_t1_and_c8_no_second_is_charged_twice_or_by_the_wall_clock(script: Script, night: str) -> None:
    script = replace(script, start=night)
    with world_of(script) as made:
        begin_ms = made.wall_ms
        receipts = play(made, script).receipts()
        charged_ms = sum((r.usage.charging_ms + r.usage.idle_ms) if r.usage else 0 for r in receipts)
        assert charged_ms <= made.wall_ms - begin_ms
        for receipt in receipts:
            assert receipt.usage is not None
            by_volume = sum(v.amount for v in receipt.usage.volumes if v.dimension.endswith("Time"))
            assert by_volume <= receipt.usage.charging_ms + receipt.usage.idle_ms


@settings(max_examples=30)
@given(st.integers(5, 200), st.sampled_from(list(STARTS)), st.sampled_from(NAMES))
def test_c8_the_seconds_of_a_session_are_those_that_passed(seconds: int, start: str, tariff: str) -> None:
    with world_of(Script(start, tariff, ())) as made:
        made.charge(seconds)
        made.unplug()
        made.finish()
        [receipt] = made.receipts()
        assert receipt.usage is not None
        assert seconds * 1_000 <= receipt.usage.charging_ms <= seconds * 1_000 + 1_000


# --------------------------------------------------------------------------------------- repetition


@settings(max_examples=30)
@given(scripts(OFFICE, CRASH))
def test_r1_answers_and_words_that_come_twice_change_nothing(script: Script) -> None:
    with world_of(script) as once, world_of(script) as twice:
        play(once, script)
        for step in script.steps:
            do(twice, script, *step)
            twice.again()
            if step[0] in ("set_default_tariff", "change_tariff", "live_tariff", "link", "limit_current"):
                do(twice, script, *step)
        twice.finish()
        kinds = [[fact_of(fact) for fact in each.facts()] for each in (once, twice)]
        assert kinds[0] == kinds[1]
        assert [told(each) for each in once.receipts()] == [told(each) for each in twice.receipts()]
        assert list(twice.facts()) == list(twice.facts())


def told(receipt: Receipt) -> bytes:
    """What a receipt says, without its place in the ledger and the records that name theirs."""
    facts = replace(receipt.facts, local_number=0)
    return written(body(facts, receipt.usage, receipt.bill, (), receipt.left_out))


def fact_of(fact: Fact) -> bytes:
    return b"" if isinstance(fact, SignedFact) else encode_fact(fact)


@settings(max_examples=40)
@given(scripts(OFFICE.filter(lambda step: step[0] != "link"), CLOCK, CRASH))
def test_o1_an_offline_session_has_the_receipt_of_an_online_one(script: Script) -> None:
    with world_of(script, online=True) as online, world_of(script, online=False) as offline:
        pairs = list(zip(play(online, script).receipts(), play(offline, script).receipts(), strict=True))
        for one, other in pairs:
            assert other.facts.flags.offline
            assert told(flagged(one, offline=True)) == told(other)
            crashed = any(name in ("die", "power_cut", "power_cut_without_rtc") for name, _ in script.steps)
            assert crashed or not one.facts.flags.offline  # a process that just began has no link yet


def flagged(receipt: Receipt, **flags: bool) -> Receipt:
    return replace(receipt, facts=replace(receipt.facts, flags=replace(receipt.facts.flags, **flags)))


# ---------------------------------------------------------------------------------------------- prepaid


@settings(max_examples=50)
@given(
    scripts(OFFICE, CRASH),
    st.sampled_from(["0.20", "0.30", "0.33", "0.40", "1", "1E0"]),
    st.sampled_from([None, 60]),
    st.sampled_from([None, 40]),
)
def test_p1_prepaid_never_costs_more_than_the_limit(
    script: Script, cost: str, energy_wh: int | None, time_s: int | None
) -> None:
    with world_of(script) as made:
        for step in script.steps[:3]:
            do(made, script, *step)
        tx_id = made.tx_id
        assert made.tell_limit(cost, energy_wh, time_s)
        made.flush()
        play(made, replace(script, steps=script.steps[3:]))
        receipt = next(each for each in made.receipts() if each.facts.tx_id == tx_id)
        assert receipt.bill is not None and receipt.usage is not None
        assert from_minor(receipt.bill.total_incl, "EUR") <= Fraction(cost)
        assert bill_again(receipt) == receipt.bill
        if energy_wh is not None:  # what flows while the contactor opens
            assert receipt.usage.energy_mwh <= energy_wh * 1_000 + 32 * 230 * 2_000_000 // 3_600_000
        [end] = [fact for fact in ends(made) if fact.tx_id == tx_id]
        check_reason(end)
        assert made.audit() == []


REASONS = {
    Trigger.COST_LIMIT_REACHED: StopReason.LOCAL_OUT_OF_CREDIT,
    Trigger.ENERGY_LIMIT_REACHED: StopReason.ENERGY_LIMIT_REACHED,
    Trigger.TIME_LIMIT_REACHED: StopReason.TIME_LIMIT_REACHED,
}


def check_reason(end: TransactionFact) -> None:
    assert end.kind is TxKind.ENDED
    if end.trigger in REASONS:
        assert end.stopped_reason is REASONS[end.trigger]
