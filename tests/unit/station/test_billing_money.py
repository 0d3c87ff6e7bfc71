"""What people and the CSMS are shown and told of money."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.config.device_model import DeviceModel
from agent.config.money import Assignment, PriceConfig
from agent.core.facts import CostToldFact, Token
from agent.core.station import UNLOCK_ANSWER_MS
from agent.ipc.codec import to_json
from agent.ipc.port import PriceView, ToldCost
from agent.ledger.retention import CutOrder
from agent.ocpp.session import HANDLER_TIMEOUT_S
from agent.station.billing import CHANGE_WAIT_MS
from agent.station.money import MAX_LAST_WORDS, MAX_PRICE_TEXTS, MAX_TEXT_CHARS
from agent.station.tariffs import DEFAULTS_MAX
from tests.support.asked import at_once
from tests.support.billing_world import CARD, BillingWorld, Site

FLAT = json.dumps({"tariffId": "T", "currency": "EUR", "energy": {"prices": [{"priceKwh": 36.0}]}})


class Texts:
    """The words of the device model that money needs."""

    def text(self, key: Any) -> str:
        return {
            "TariffCostCtrlr.Currency": "EUR",
            "TariffCostCtrlr.TotalCostFallbackMessage": "cost unknown",
            "TariffCostCtrlr.TariffFallbackMessage": "see the provider",
        }[str(key)]


def world(site: Site | None = None) -> BillingWorld:
    made = BillingWorld(site or Site.selling(FLAT))
    model: DeviceModel = Texts()  # type: ignore[assignment]
    made.money._model = model
    return made


def view(made: BillingWorld) -> PriceView:
    [found] = made.money.views(made.core.views())
    return found


def told(cost: str, **others: Any) -> ToldCost:
    return ToldCost("tx-1", cost, **others)


def test_before_and_while_it_charges_the_price_and_the_cost_are_shown() -> None:
    with world() as made:
        before = view(made)
        assert (before.tariff_id, before.cost) == ("T", None) and "36" in before.price
        made.charge(100)
        assert view(made).cost in ("3.67 EUR", "3.68 EUR")
        assert not view(made).by_csms


def test_without_a_price_the_words_of_the_site_are_shown() -> None:
    with world(Site()) as made:
        assert (view(made).price, view(made).cost) == ("see the provider", None)
        made.charge(5)
        assert view(made).cost == "cost unknown"
        made.money.told_price(None, "0.50 per kWh")
        assert view(made).price == "0.50 per kWh"


def test_a_price_told_for_a_card_is_for_that_card_only_and_memory_has_an_end() -> None:
    with world(Site()) as made:
        made.money.told_price(Token(CARD.id_token.lower()), "yours")
        assert view(made).price == "see the provider"
        made.charge(5)
        assert view(made).price == "yours"
        for number in range(MAX_PRICE_TEXTS):
            made.money.told_price(Token(f"T{number}"), "x" * 5_000)
        assert len(made.money._texts) == MAX_PRICE_TEXTS
        assert max(map(len, made.money._texts.values())) == MAX_TEXT_CHARS
        assert view(made).price == "see the provider"


def test_what_the_csms_says_is_shown_and_kept_and_never_our_bill() -> None:
    with world() as made:
        made.charge(10)
        made.money.told_cost(told("7.10", text="seven"))
        shown = view(made)
        assert (shown.cost, shown.price, shown.by_csms) == ("7.10 EUR", "seven", True)
        made.unplug()
        made.finish()
        for _ in range(2):
            made.money.told_cost(told("7.90", final=True))
        made.flush()
        [fact] = [fact for fact in made.facts() if isinstance(fact, CostToldFact)]
        assert (fact.cost, fact.final) == ("7.90", True), "its last word, once"
        [receipt] = made.receipts()
        assert receipt.bill is not None and receipt.bill.total_incl < 100
        assert made.rebuilt("tx-1").usage() == receipt.usage


def test_texts_of_the_csms_are_cut_where_they_enter() -> None:
    with world() as made:
        made.charge(5)
        made.money.told_cost(told("1.00", text="x" * 50_000))
        assert len(view(made).price) == MAX_TEXT_CHARS
        made.money.told_price(Token("t" * 50_000), "yours")
        assert max(map(len, made.money._texts)) < 1_000
        made.money.told_cost(told("0" * 50_000 + "2"))
        assert view(made).cost == "1.00 EUR", "no number"


def test_a_csms_that_never_makes_up_its_mind_does_not_fill_the_ledger() -> None:
    """Neither with words on one transaction, however often others come in between, nor with some on none."""
    with world() as made:
        made.charge(5)
        made.unplug()
        made.finish()
        made.charge(5)
        for number in range(3 * MAX_LAST_WORDS):
            for tx_id in ("tx-1", "tx-2", f"no-such-{number}"):
                made.money.told_cost(ToldCost(tx_id, f"{number}.00", final=True))
            made.flush()
            if number % 5 == 0:
                made.money._final.clear()
        kept = [fact for fact in made.facts() if isinstance(fact, CostToldFact)]
        assert [fact.cost for fact in kept if fact.tx_id == "tx-1"] == [f"{n}.00" for n in range(MAX_LAST_WORDS)]
        assert len(kept) == 2 * MAX_LAST_WORDS


def test_between_two_words_of_the_csms_its_prices_go_on() -> None:
    with world() as made:
        made.charge(10)
        now_wh = made.reading().energy_import_mwh // 1_000
        made.money.told_cost(
            told("1.00", kwh_price="36", hour_price="3.6", meter_wh=now_wh, wall_ms=made.core.ctx.wall_ms)
        )
        made.advance(100_000)
        shown = (view(made).cost or "").removesuffix(" EUR")
        assert float(shown) == pytest.approx(1.0 + 3.68 + 0.1, abs=0.06)


@pytest.mark.parametrize("cost", ["", "much", "NaN", "1e999999999", "1e-999999999", "-1e999999999"])
def test_what_is_no_amount_is_neither_shown_nor_kept(cost: str) -> None:
    with world() as made:
        made.charge(5)
        made.money.told_cost(told(cost, final=True))
        assert not view(made).by_csms
        made.flush()
        assert not any(isinstance(fact, CostToldFact) for fact in made.facts())


@pytest.mark.parametrize("price", ["much", "1e999999999", "-1e999999999"])
def test_a_price_that_is_none_extrapolates_nothing(price: str) -> None:
    with world() as made:
        made.charge(5)
        made.money.told_cost(told("1.00", kwh_price=price, hour_price=price, meter_wh=0, wall_ms=0))
        assert view(made).cost == "1.00 EUR"


def test_costs_told_of_ended_transactions_are_forgotten() -> None:
    with world() as made:
        made.charge(5)
        made.money.told_cost(told("1.00"))
        made.unplug()
        made.finish()
        made.charge(5)
        made.money.told_cost(ToldCost("tx-2", "2.00"))
        assert list(made.money._told) == ["tx-2"]


def test_limits_are_shown_in_words() -> None:
    with world() as made:
        made.charge(5)
        made.tell_limit("20", 5_000, 7_200)
        assert view(made).limit == "at most 20, at most 5.000 kWh, at most 120 min"


def test_a_refused_tariff_is_a_line_of_the_log_book() -> None:
    with world() as made:
        made.charge(5)
        assert made.set_default_tariff('{"tariffId":"X"}').startswith("Rejected: ")
        assert (made.change_tariff("[]").answer or "").startswith("Rejected: ")
        made.flush()
        assert made.log().count("tariff_refused") == 2


def test_a_hacked_gateway_cannot_end_the_station_with_half_a_character() -> None:
    """The socket lets no half through, but the tariff is a text with escapes of its own."""
    with world() as made:
        made.charge(5)
        for text in (FLAT.replace('"T"', '"T\\ud83d"'), FLAT.replace('"tariffId"', '"\\ud83d": 1, "tariffId"')):
            for answer in (made.set_default_tariff(text), made.change_tariff(text).answer or ""):
                assert answer.startswith("Rejected: ") and to_json(answer)
        made.flush()
        assert made.log().count("tariff_refused") == 4


def test_a_tariff_is_on_disk_before_it_is_accepted_and_cleared_for_good() -> None:
    with world() as made:
        other = FLAT.replace('"T"', '"U"')
        assert made.set_default_tariff(other) == "Accepted"
        made.crash()
        assert view(made).tariff_id == "U"
        assert [each.tariff_id for each in made.money.assignments(0)] == ["U"]
        assert at_once(made.money.clear(["U"], None)) == [("U", "Accepted")]
        assert at_once(made.money.clear(["U"], None)) == [("U", "NoTariff")]
        made.crash()
        assert view(made).tariff_id == "T"


def test_what_was_accepted_for_a_transaction_survives_a_kill_right_after() -> None:
    with world() as made:
        made.charge(30)
        made.slow_disk = True
        assert made.tell_limit("5")
        made.crash()
        assert made.books.limits is not None and made.books.limits.max_cost == "5"
        made.advance(5_000)
        assert made.change_tariff(FLAT.replace('"T"', '"U"')).answer == "Accepted"
        made.crash()
        assert made.books.tariff is not None and made.books.tariff.tariff_id == "U"


def test_of_two_changes_that_wait_for_a_reading_the_last_is_accepted() -> None:
    with world() as made:
        made.charge(30)
        made.meter_lost()
        first, last = (made.change_tariff(FLAT.replace('"T"', name)) for name in ('"U"', '"V"'))
        assert (first.answer, last.answer) == ("Rejected", None)
        made.meter_back()
        assert last.answer == "Accepted"


def test_a_meter_that_misses_its_readings_does_not_hold_up_the_answer_to_a_change() -> None:
    """Before it is called lost: an answer that comes too late is an error to the CSMS, and the price holds all the
    same."""
    with world() as made:
        made.charge(30)
        made.meter_silent = True
        made.advance(300)
        asked = made.change_tariff(FLAT.replace('"T"', '"U"'))
        assert asked.answer is None and made.billing.deadline_ms() == made.mono_ms + CHANGE_WAIT_MS
        made.advance(CHANGE_WAIT_MS)
        assert asked.answer == "Accepted"


def test_the_station_answers_before_the_gateway_gives_up() -> None:
    """All that the answer to a command may wait for beside the disk, and a second to spare."""
    slow_disk_ms, spare_ms = 1_000, 1_000  # a change is written twice: the tariff, then the reading that it holds from
    assert max(CHANGE_WAIT_MS + 2 * slow_disk_ms, UNLOCK_ANSWER_MS) + spare_ms <= HANDLER_TIMEOUT_S * 1_000


def test_a_dated_default_that_was_in_force_is_so_after_a_power_cut_without_a_clock() -> None:
    with world() as made:
        assert made.set_default_tariff(dated("past", -1)) == "Accepted"
        made.crash(power=True, clock_kept=False)
        assert view(made).tariff_id == "past"
        made.set_clock()
        assert made.set_default_tariff(dated("next", 1)) == "Accepted"
        made.advance(1_000)
        assert view(made).tariff_id == "past"
        made.step_clock(3_600_000)
        assert view(made).tariff_id == "next"
        made.crash(power=True, clock_kept=False)
        assert view(made).tariff_id == "next", "nobody charged in between"


@pytest.mark.parametrize(("battery_backed", "price"), [(True, "next"), (False, "T")])
def test_a_clock_that_nobody_told_settles_no_default(battery_backed: bool, price: str) -> None:
    """A battery-backed clock may come back years ahead, and be set right later; without one, a note on the disk may."""
    with world() as made:
        made.set_default_tariff(dated("next", 1))
        assert made.machine_clock is not None
        made.machine_clock += 10 * 3_600_000
        made.hardware_clock += 10 * 3_600_000 * battery_backed
        made.crash(power=True)
        assert view(made).tariff_id == price
        made.charge(5)
        assert made.books.tariff is not None and made.books.tariff.tariff_id == price
        made.unplug()
        made.set_clock()
        assert view(made).tariff_id == "T"


@pytest.mark.parametrize("between", ["nothing", "restart", "power cut without a clock"])
def test_a_wrong_time_of_the_csms_does_not_make_tomorrows_price_the_price_for_good(between: str) -> None:
    with world() as made:
        made.set_default_tariff(dated("now", -1))
        made.set_default_tariff(dated("next", 3))
        made.step_clock(366 * 86_400_000)
        assert view(made).tariff_id == "next"
        if between != "nothing":
            made.crash(power=between != "restart", clock_kept=between == "restart")
        made.set_clock()
        assert view(made).tariff_id == "now"
        assert [each.tariff_id for each in made.money.assignments(0)] == ["now", "next"]
        made.crash(power=True, clock_kept=False)
        assert view(made).tariff_id == "now"
        made.charge(5)
        made.unplug()
        made.finish()
        assert [each.tariff_id for each in made.receipts()[0].facts.tariffs] == ["now"]


def dated(tariff_id: str, hours: int) -> str:
    """Valid from so many hours after the begin of the world."""
    return FLAT.replace('"T"', f'"{tariff_id}", "validFrom": "2026-12-01T{10 + hours:02d}:00:00Z"')


def test_a_csms_that_sends_tomorrows_tariff_every_day_is_never_refused() -> None:
    with world() as made:
        for day in range(DEFAULTS_MAX + 6):
            midnight = datetime.fromtimestamp(made.core.ctx.wall_ms / 1_000, UTC) + timedelta(days=1)
            text = FLAT.replace('"T"', f'"D{day}", "validFrom": "{midnight:%Y-%m-%dT00:00:00Z}"')
            assert made.set_default_tariff(text) == "Accepted"
            made.step_clock(86_400_000)
        assert view(made).tariff_id == f"D{day}" and len(made.money.assignments(0)) == 1


@pytest.mark.parametrize("restart", [False, True])
def test_what_the_csms_said_for_a_transaction_is_not_overruled_by_the_live_tariff(restart: bool) -> None:
    live, dear = (FLAT.replace('"T"', f'"{name}"') for name in ("live", "dear"))
    with world(Site(PriceConfig(tariff=Path("site"), live_tariff=Path("live")), {"site": FLAT})) as made:
        made.live_tariff(live)
        made.charge(10)
        made.meter_lost()
        asked = made.change_tariff(FLAT.replace('"T"', '"promised"'))
        made.live_tariff(dear)  # the promise waits for a reading
        made.meter_back()
        assert asked.answer == "Accepted"
        if restart:
            made.crash()
        made.live_tariff(live)
        made.advance(5_000)
        made.unplug()
        made.finish()
        assert [each.tariff_id for each in made.receipts()[0].facts.tariffs] == ["live", "promised"]


def test_a_cut_leaves_the_texts_of_all_tariffs_in_use() -> None:
    """The price of before came back under the same id: the newest of a name is not the one in force."""
    cheap, dear = (FLAT.replace("36.0", price) for price in ("1.0", "2.0"))
    with world(Site(PriceConfig(live_tariff=Path("live")))) as made:
        for live in (cheap, dear):
            made.live_tariff(live)
            made.charge(5)
            made.unplug()
            made.finish()
        made.crash()
        made.live_tariff(cheap)
        now, seq = made.now_stamp(), made.all_rows()[-1].seq
        clocks = (now.boot_id, now.mono_ms, now.wall_ms, now.time_status)
        made._book.cut(CutOrder(seq, seq, now.wall_ms, *clocks, made.billing.tariffs_in_use()))
        assert made.all_rows()[0].seq > 1
        made.charge(5)
        made.unplug()
        made.finish()
        [receipt] = made.receipts()
        assert [each.text is None for each in receipt.facts.tariffs] == [False] and made.audit() == []


def test_a_running_transaction_shows_its_own_tariff() -> None:
    with world() as made:
        made.charge(5)
        made.set_default_tariff(FLAT.replace('"T"', '"U"'))
        assert view(made).tariff_id == "T"
        made.unplug()
        made.finish()
        assert view(made).tariff_id == "U"


def test_an_assignment_of_the_card_prices_its_transaction() -> None:
    house = FLAT.replace('"T"', '"house"').replace("36.0", "1.0")
    price = PriceConfig(tariff=Path("site"), assign=(Assignment(token=CARD.id_token, tariff=Path("house")),))
    with world(Site(price, {"site": FLAT, "house": house})) as made:
        assert view(made).tariff_id == "T"
        made.charge(5)
        assert view(made).tariff_id == "house"
