"""What a meter may do in the middle of a transaction (metering reference 4.6): line of the log book, end, next one.

On a whole station, so that the signed record, the receipt and the check of the ledger are looked at as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.billing.read import Receipt
from agent.config.money import Assignment, PriceConfig
from agent.core.facts import CheckpointFact, StopReason, TransactionFact, TxKind
from agent.ocmf.parse import Record
from agent.ocmf.parse import parse as parse_record
from agent.tariff.model import EvseKind
from hal.ports import LossKind
from tests.support.billing_world import CARD, BillingWorld, Site

FLAT = json.dumps({"tariffId": "T", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.5}]}})
MODULUS_MWH = 100_000_000
TEN_SECONDS_MWH = 10 * 16 * 230 * 1_000 // 3_600
TEN_SECONDS = range(TEN_SECONDS_MWH, TEN_SECONDS_MWH + 600)  # and the moments of plugging and unplugging


def charging(site: Site | None = None) -> BillingWorld:
    made = BillingWorld(site or Site.selling(FLAT))
    made.charge(10)
    made.read_meter()
    return made


def end_of(made: BillingWorld, nth: int = 0) -> TransactionFact:
    return [fact for fact in made.transactions() if fact.kind is TxKind.ENDED][nth]


def record_of(receipt: Receipt) -> Record:
    return parse_record(receipt.records[-1].encode())


Trouble = Callable[[BillingWorld], None]


@dataclass(frozen=True)
class Case:
    """What the meter does, and what becomes of the transaction."""

    name: str
    log: str
    state: str
    reason: StopReason
    billable: bool


def silence(made: BillingWorld) -> None:
    made.meter_lost()


def damage(made: BillingWorld) -> None:
    made.meter_lost(LossKind.GARBAGE)


def fall(made: BillingWorld) -> None:
    made.register_mwh -= 1_000_000
    made.read_meter()


def exchange(made: BillingWorld) -> None:
    made.serial, made.register_mwh = "M2", 7_000
    made.read_meter()


def jump(made: BillingWorld) -> None:
    made.register_mwh += 50_000_000
    made.read_meter()


CASES: dict[Trouble, Case] = {
    silence: Case("no answer", "meter_silent", "T", StopReason.LOCAL, True),
    damage: Case("nonsense", "meter_implausible", "O", StopReason.LOCAL, False),
    fall: Case("register falls", "meter_backwards", "M", StopReason.LOCAL, False),
    exchange: Case("another meter", "meter_exchanged", "X", StopReason.OTHER, False),
    jump: Case("register jumps", "meter_implausible", "O", StopReason.OTHER, False),
}


@pytest.mark.parametrize("trouble", CASES, ids=lambda each: each.__name__)
def test_the_last_good_value_ends_the_transaction(trouble: Trouble) -> None:
    """Field fault 11: nothing impossible is billed; the end says that it is no reading of the end, and why."""
    case = CASES[trouble]
    with charging() as made:
        good_mwh = made.reading().energy_import_mwh
        trouble(made)
        made.advance(2_000)
        made.swipe_to_stop()
        made.advance(40_000)
        end, [receipt] = end_of(made), made.receipts()
        sample = end.samples[-1]
        assert case.log in made.log()
        assert (sample.substituted, sample.meter_state, sample.meter_serial) == (True, case.state, "M1")
        assert sample.energy_import_mwh == receipt.facts.end_mwh == good_mwh
        assert end.stopped_reason is case.reason
        last = record_of(receipt).readings[-1]
        assert (last.error_flags, last.status) == ("E", case.state)
        assert receipt.facts.flags.substituted_reading and receipt.facts.flags.not_billable is not case.billable
        assert receipt.energy_mwh in TEN_SECONDS
        assert made.audit() == []


@pytest.mark.parametrize("trouble", [silence, damage, fall, exchange, jump])
def test_no_energy_flows_that_the_meter_does_not_count(trouble: Trouble) -> None:
    with charging() as made:
        trouble(made)
        made.advance(1_000)
        assert not made.closed


@pytest.mark.parametrize("trouble", [exchange, jump])
def test_the_place_can_be_used_again_at_once(trouble: Trouble) -> None:
    """What cannot have flowed is told as nobody's; a new meter begins its own account."""
    with charging() as made:
        trouble(made)
        made.advance(40_000)
        made.unplug()
        made.advance(2_000)
        made.charge(10)
        made.unplug()
        made.finish()
        first, second = made.receipts()
        assert second.energy_mwh in TEN_SECONDS
        assert second.facts.place.meter_serial == made.serial
        jumped = trouble is jump
        assert second.facts.unassigned_before_mwh == (50_000_000 if jumped else None)
        assert first.facts.end_mwh is not None and made.audit() == []


def test_nobody_pays_for_what_a_register_that_stood_still_has_missed() -> None:
    """Not who charged meanwhile, and above all not who comes next."""
    with charging() as made:
        made.stuck_mwh = made.reading().energy_import_mwh
        made.advance(600_000)
        end = end_of(made)
        assert not made.closed and "meter_implausible" in made.log()
        assert (end.stopped_reason, end.samples[-1].meter_state) == (StopReason.OTHER, "E")
        made.unplug()
        made.charge(30)
        assert not made.closed and len(made.receipts()) == 1, "nobody may charge on it"
        made.unplug()
        made.stuck_mwh = None
        made.advance(2_000)
        made.charge(10)
        made.unplug()
        made.finish()
        first, second = made.receipts()
        assert first.energy_mwh in TEN_SECONDS and second.energy_mwh in TEN_SECONDS
        assert not first.facts.flags.not_billable, "what it counted before is right"
        assert made.audit() == []


def test_nobody_begins_while_the_register_is_behind() -> None:
    """World 3565012: it stood still as one session ended, and went on in the next."""
    with charging() as made:
        made.stuck_mwh = made.reading().energy_import_mwh
        made.advance(280_000)
        made.swipe_to_stop()
        made.unplug()
        made.plug()
        made.authorize()
        made.advance(2_000)
        assert sum(fact.kind is TxKind.STARTED for fact in made.transactions()) == 1
        assert "meter_implausible" not in made.log(), "it may still be a meter that is late"
        made.stuck_mwh = None
        made.advance(1_000)
        made.draw()
        made.advance(10_000)
        made.rest()
        made.unplug()
        made.finish()
        first, second = made.receipts()
        assert first.energy_mwh in TEN_SECONDS and second.energy_mwh in TEN_SECONDS
        assert made.audit() == []


def test_the_newest_reading_is_billed_although_the_end_could_not_be_read() -> None:
    """It was in memory only: a row of its own keeps when it was read."""
    with charging() as made:
        read_ms, made.meter_silent = made.mono_ms, True  # not yet known as lost
        made.unplug()
        made.advance(6_000)
        made.finish()
        [receipt] = made.receipts()
        [kept] = [fact.sample for fact in made.facts() if isinstance(fact, CheckpointFact)]
        assert (kept.energy_import_mwh, kept.at_ms) == (receipt.facts.end_mwh, read_ms)
        assert receipt.usage is not None
        assert receipt.usage.energy_mwh == receipt.energy_mwh
        assert receipt.energy_mwh in TEN_SECONDS


def test_a_glitch_of_the_register_ends_nothing() -> None:
    with charging() as made:
        made.register_mwh -= 1_000_000
        made.read_meter()
        made.register_mwh += 1_000_000
        made.advance(20_000)
        made.unplug()
        made.finish()
        [receipt] = made.receipts()
        assert not receipt.facts.flags.substituted_reading
        assert receipt.energy_mwh == made.drawn_mwh and made.audit() == []


def test_a_silent_meter_catches_up() -> None:
    """Rule: the register goes on; what it shows afterwards is billed."""
    with charging() as made:
        made.meter_lost()
        made.advance(10_000)
        made.meter_back()
        made.advance(20_000)
        made.unplug()
        made.finish()
        [receipt] = made.receipts()
        assert receipt.energy_mwh == made.drawn_mwh
        assert (receipt.facts.flags.substituted_reading, receipt.facts.flags.not_billable) == (False, False)


def test_coarse_readings_are_not_interpolated() -> None:
    with BillingWorld(Site.selling(FLAT)) as made:
        made.meter_step_mwh = 10_000
        made.charge(70)
        made.unplug()
        made.finish()
        [receipt] = made.receipts()
        assert receipt.energy_mwh == made.drawn_mwh // 10_000 * 10_000
        assert {s.energy_import_mwh % 10_000 for fact in made.transactions() for s in fact.samples} == {0}


# ------------------------------------------------------------------------------------------- rollover


def before_rollover(**price: object) -> BillingWorld:
    tariff = {"site": FLAT}
    site = Site(PriceConfig(tariff=Path("site"), **price), tariff, EvseKind.AC, MODULUS_MWH)  # type: ignore[arg-type]
    made = BillingWorld(site)
    made.register_mwh = MODULUS_MWH - TEN_SECONDS_MWH - 500
    made.read_meter()
    made.charge(10)
    return made


def test_a_register_that_begins_anew_ends_one_transaction_and_begins_the_next() -> None:
    with before_rollover() as made:
        made.advance(30_000)
        made.unplug()
        made.finish()
        first, second = made.receipts()
        assert made.log().count("meter_rollover") == 1
        assert first.facts.end_mwh is not None and first.facts.end_mwh < MODULUS_MWH
        last = record_of(first).readings[-1]
        assert (last.tx, last.error_flags, last.status) == ("A", "", "G"), "a reading as good as any"
        assert not first.facts.flags.substituted_reading and not first.facts.flags.not_billable
        assert second.facts.token == first.facts.token
        assert second.facts.unassigned_before_mwh is None, "the register fell: it cannot tell"
        assert second.energy_mwh is not None and second.energy_mwh > 0
        assert made.audit() == [], "the log book explains why the register falls"


def test_whoever_stops_while_the_register_begins_anew_gets_no_further_energy() -> None:
    with before_rollover() as made:
        made.slow_disk = True
        while made.core.evses[1].flow.active:
            made.advance(200)
        made.swipe_to_stop()
        made.advance(30_000)
        made.finish()
        assert [each.energy_mwh for each in made.receipts()][1:] == [0]


def test_a_crash_while_the_register_begins_anew_loses_nothing_that_was_read() -> None:
    with before_rollover() as made:
        made.slow_disk = True
        while made.core.evses[1].flow.active:
            made.advance(200)
        made.crash()
        made.finish()
        [receipt] = made.receipts()
        assert receipt.energy_mwh is not None and 0 <= receipt.energy_mwh <= made.drawn_mwh
        assert made.audit() == []


def test_what_follows_has_only_what_is_left_of_the_limit() -> None:
    """Prepaid: the credit of a session is not given twice."""
    limit = Assignment(token=CARD.id_token, max_energy_wh=25)
    with before_rollover(assign=(limit,)) as made:
        made.advance(120_000)
        made.finish()
        first, second = made.receipts()
        assert first.energy_mwh is not None and second.energy_mwh is not None
        assert 20_000 < first.energy_mwh + second.energy_mwh <= 25_000
        assert end_of(made, 1).stopped_reason is StopReason.ENERGY_LIMIT_REACHED


def test_what_follows_goes_on_with_the_tariff_that_was_changed_to() -> None:
    other = FLAT.replace('"T"', '"U"')
    with before_rollover() as made:
        assert made.change_tariff(other).answer == "Accepted"
        made.advance(30_000)
        made.unplug()
        made.finish()
        _, second = made.receipts()
        assert [each.tariff_id for each in second.facts.tariffs] == ["U"]


def test_a_register_that_fell_while_the_station_was_off_is_a_finding() -> None:
    """The next transaction may begin (the device needs no visit), but nobody is told that all is well."""
    with charging() as made:
        made.unplug()
        made.finish()
        made.register_mwh = 1_000
        made.crash(power=True)
        made.charge(10)
        made.unplug()
        made.finish()
        receipt = made.receipts()[-1]
        assert receipt.facts.unassigned_before_mwh is None
        assert any("falls from" in each for each in made.audit())


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize(
    "change, state, log",
    [
        (fall, "M", "meter_backwards"),
        (exchange, "X", "meter_exchanged"),
        (jump, "O", "meter_implausible"),
        (silence, "T", "meter_silent"),
    ],
)
def test_what_a_meter_did_while_nobody_looked_ends_at_the_last_row(
    change: Trouble, state: str, log: str, power: bool
) -> None:
    """Metering reference 4.5: plausible after a restart, or the newest reading on disk is the end."""
    with charging() as made:
        made.advance(60_000)
        kept = made.transactions()[-1].samples
        made.slow_disk = True  # what is read now does not reach the disk
        change(made)
        made.crash(power=power)
        made.slow_disk = False
        made.advance(35_000)
        end, [receipt] = end_of(made), made.receipts()
        sample = end.samples[-1]
        assert (sample.substituted, sample.meter_state) == (True, state)
        assert kept and sample.energy_import_mwh >= kept[-1].energy_import_mwh
        assert receipt.energy_mwh is not None and receipt.energy_mwh <= made.drawn_mwh
        assert receipt.facts.flags.not_billable is (state != "T")
        assert log in made.log() and made.audit() == []


def test_a_driver_who_left_instead_has_all_of_the_limit_the_next_time() -> None:
    limit = Assignment(token=CARD.id_token, max_energy_wh=25)
    with before_rollover(assign=(limit,)) as made:
        made.slow_disk = True
        while made.core.evses[1].flow.active:
            made.advance(200)
        made.unplug()
        made.finish()
        made.charge(60)
        made.finish()
        last = made.receipts()[-1]
        assert last.energy_mwh is not None and 20_000 < last.energy_mwh <= 25_000
