"""The bill: lines, stacked taxes, bounds, steps, credit."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from agent.tariff.cost import AdjustmentKind, Bill, RoundedPer, TaxLine, Unit, bill, cost_cap_incl
from agent.tariff.currency import MINOR_DIGITS, Rounding, decimal_text, minor_text, round_whole
from agent.tariff.model import Dimension, Price, Tariff, TaxRate
from agent.tariff.parse import parse_tariff
from agent.tariff.usage import Period, Usage, Volume, from_plain, to_plain
from tests.support.tariff_json import MINUTE_MS, kwh, minute, tariff

VAT = [{"type": "VAT", "tax": 19}]


def parsed(**parts: Any) -> Tariff:
    return parse_tariff(tariff(**parts))


def used(energy_mwh: int = 0, charging_ms: int = 0, idle_ms: int = 0, *, number: int = 0, price: int = 0) -> Usage:
    """All of it at one price of each dimension."""
    period = Period(
        *(0, charging_ms + idle_ms, 0, charging_ms + idle_ms),
        *(number, price, price, price),
        energy_mwh=energy_mwh,
        charging_ms=charging_ms,
        idle_ms=idle_ms,
    )
    amounts = {
        Dimension.ENERGY: energy_mwh,
        Dimension.CHARGING_TIME: charging_ms,
        Dimension.IDLE_TIME: idle_ms,
    }
    volumes = tuple(Volume(number, dimension, price, amount) for dimension, amount in amounts.items() if amount)
    return Usage((period,), volumes, 0, energy_mwh)


def joined(*parts: Usage) -> Usage:
    return Usage(
        sum((each.periods for each in parts), ()),
        sum((each.volumes for each in parts), ()),
        0,
        sum(each.energy_mwh for each in parts),
    )


def total(plan: Tariff | list[Tariff], usage: Usage, **how: Any) -> Bill:
    found = bill(plan if isinstance(plan, list) else [plan], usage, **how)
    assert found is not None
    net = sum(each.net for each in found.lines) + sum(each.net for each in found.adjustments)
    assert found.total_excl == net
    taxes = sum(each.amount for each in found.taxes) + sum(each.tax for each in found.adjustments)
    assert found.total_incl == found.total_excl + taxes
    return found


def test_no_tariff_is_no_bill() -> None:
    assert bill([], Usage()) is None


def test_lines_are_rounded_once_each() -> None:
    found = total(parsed(energy=kwh(0.333), idleTime=minute(0.01)), used(10_500_000, 0, 90_000))
    assert [(line.dimension, line.quantity, line.net) for line in found.lines] == [
        (Dimension.ENERGY, 10_500_000, 350),  # 3.4965
        (Dimension.IDLE_TIME, 90_000, 2),  # 0.015
    ]


def test_a_dimension_is_rounded_once_however_often_the_tariff_changed() -> None:
    """A price that follows the market has a tariff for each quarter of an hour; 17.5 Wh in each are half a cent."""
    plans = [parsed(tariffId=f"T{number}", energy=kwh(0.3, taxRates=VAT)) for number in range(288)]
    usage = joined(*(used(17_500, number=number) for number in range(288)))
    found = total(plans, usage)
    assert (len(found.lines), {line.net for line in found.lines}) == (288, {0, 1})
    assert (found.total_excl, found.total_incl) == (151, 180)  # 1.512
    assert total(plans, usage, rounded_per=RoundedPer.LINE).total_excl == 288, "receipts of before stay as they are"


def test_what_is_taxed_in_another_way_is_rounded_by_itself() -> None:
    """Each line is what its sum grows by when it is rounded: 0.5, 1.0, 1.5 cents of the one, 0.5 of the other."""
    plain, taxed = parsed(energy=kwh(0.005)), parsed(energy=kwh(0.005, taxRates=VAT))
    plans = [taxed, taxed, plain, taxed]
    found = total(plans, joined(*(used(1_000_000, number=number) for number in range(4))))
    assert [line.net for line in found.lines] == [1, 0, 1, 1]


def test_taxes_of_one_stack_are_added_and_the_next_lies_on_them() -> None:
    rates = [
        {"type": "Federal", "tax": 5},
        {"type": "State", "tax": 9.975},
        {"type": "City", "tax": 2, "stack": 1},
        {"type": "Green", "tax": 10, "stack": 3},
    ]
    found = total(parsed(energy=kwh(1, taxRates=rates)), used(100_000_000))
    assert [(tax.type, tax.base, tax.amount) for tax in found.taxes] == [
        ("Federal", 10_000, 500),
        ("State", 10_000, 998),
        ("City", 11_498, 230),
        ("Green", 11_728, 1_173),
    ]
    assert found.total_incl == 12_901


def test_dimensions_with_the_same_taxes_share_their_lines() -> None:
    plan = parsed(energy=kwh(1, taxRates=VAT), chargingTime=minute(1, taxRates=VAT), idleTime=minute(1))
    found = total(plan, used(1_000_000, MINUTE_MS, MINUTE_MS))
    assert [(tax.type, tax.base, tax.amount) for tax in found.taxes] == [("VAT", 200, 38)]


# ------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    ("bounds", "excl", "incl"),
    [
        ({}, 1000, 1190),
        ({"minCost": {"exclTax": 20}}, 2000, 2380),
        ({"minCost": {"inclTax": 23.8}}, 2000, 2380),
        ({"minCost": {"exclTax": 20, "inclTax": 21}}, 2000, 2380),
        ({"minCost": {"exclTax": 5, "inclTax": 13}}, 1092, 1300),
        ({"minCost": {"exclTax": 20, "inclTax": 25}}, 2101, 2500),
        ({"minCost": {"exclTax": 5}}, 1000, 1190),
        ({"maxCost": {"exclTax": 8}}, 800, 952),
        ({"maxCost": {"inclTax": 9.52}}, 800, 952),
        ({"maxCost": {"exclTax": 8, "inclTax": 100}}, 800, 952),
        ({"maxCost": {"exclTax": 100, "inclTax": 11}}, 924, 1100),
        ({"maxCost": {"exclTax": 8, "inclTax": 9}}, 756, 900),
        ({"maxCost": {"exclTax": 8, "taxRates": [{"type": "VAT", "tax": 7}]}}, 800, 856),
        ({"maxCost": {"inclTax": 11, "taxRates": [{"type": "VAT", "tax": 7}]}}, 1000, 1100),  # no cap raises the net
        ({"minCost": {"exclTax": 20}, "maxCost": {"exclTax": 15}}, 1500, 1785),
    ],
)
def test_bounds_hold_without_and_with_tax(bounds: dict[str, Any], excl: int, incl: int) -> None:
    found = total(parsed(energy=kwh(1, taxRates=VAT), **bounds), used(10_000_000))
    assert (found.total_excl, found.total_incl) == (excl, incl)


def test_running_cost_knows_no_minimum_but_the_cap() -> None:
    plan = parsed(energy=kwh(1), minCost={"exclTax": 20}, maxCost={"exclTax": 30})
    assert total(plan, used(10_000_000), final=False).total_excl == 1000
    assert total(plan, used(40_000_000), final=False).total_excl == 3000


def test_cap_of_a_replaced_tariff_is_not_lost() -> None:
    first, second = parsed(energy=kwh(1), maxCost={"exclTax": 5}), parsed(tariffId="U", energy=kwh(1))
    usage = joined(used(10_000_000), used(2_000_000, number=1))
    found = total([first, second], usage)
    assert found.total_excl == 700
    assert [(each.kind, each.net, each.description) for each in found.adjustments] == [
        (AdjustmentKind.MAX_COST, -500, "above the maximum cost")
    ]


def test_credit_is_never_exceeded_and_its_rest_is_divided_like_the_bill() -> None:
    plan = parsed(energy=kwh(1, taxRates=VAT), minCost={"exclTax": 50})
    found = total(plan, used(10_000_000), credit_limit=Fraction("9.529"))
    assert (found.total_excl, found.total_incl) == (800, 952)
    assert [each.kind for each in found.adjustments] == [AdjustmentKind.MIN_COST, AdjustmentKind.CREDIT]
    assert total(plan, used(10_000_000), credit_limit=Fraction(0)).total_incl == 0


def test_energy_below_the_least_that_is_billed_is_free() -> None:
    plan = parsed(energy=kwh(1, taxRates=VAT), chargingTime=minute(1))
    assert total(plan, used(99, MINUTE_MS), min_energy_mwh=100).total_incl == 100
    found = total(plan, used(99_999, MINUTE_MS), min_energy_mwh=100_000)
    assert [(line.net, line.waived) for line in found.lines] == [(0, True), (100, False)]
    assert not total(plan, used(100_000), min_energy_mwh=100_000).lines[0].waived


# -------------------------------------------------------------------------------------------- steps


def stepped(price: float, step: int) -> dict[str, Any]:
    return {"priceMinute": price, "stepSize": step}


def test_step_rounds_the_whole_dimension_up_at_the_last_price() -> None:
    plan = parsed(chargingTime={"prices": [stepped(1, 1), stepped(2, 300)]})
    usage = joined(used(0, 4 * MINUTE_MS), used(0, 90_000, price=1))
    found = total(plan, usage)
    assert [(line.unit_price, line.quantity) for line in found.lines] == [
        (Fraction(1), 4 * MINUTE_MS),
        (Fraction(2), 6 * MINUTE_MS),  # 5.5 min in all become 10, the rest at the last price
    ]


def test_step_of_a_price_used_before_does_not_count() -> None:
    plan = parsed(chargingTime={"prices": [stepped(1, 3600), stepped(2, 60)]})
    found = total(plan, joined(used(0, 61_000), used(0, 5_000, price=1)))
    assert sum(line.quantity for line in found.lines) == 120_000


def test_whole_steps_get_nothing_more_and_nothing_stays_nothing() -> None:
    plan = parsed(energy={"prices": [{"priceKwh": 1, "stepSize": 500}]})
    assert total(plan, used(1_500_000)).lines[0].quantity == 1_500_000
    assert total(plan, used(1_500_001)).lines[0].quantity == 2_000_000
    assert total(plan, used(0)).lines == ()


# ------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("amount", "half_up", "half_even", "down"),
    [("0.5", 1, 0, 0), ("1.5", 2, 2, 1), ("-0.5", -1, 0, 0), ("-1.5", -2, -2, -1), ("2.49", 2, 2, 2), ("2", 2, 2, 2)],
)
def test_rounding(amount: str, half_up: int, half_even: int, down: int) -> None:
    value = Fraction(amount)
    modes = (Rounding.HALF_UP, Rounding.HALF_EVEN, Rounding.DOWN)
    assert tuple(round_whole(value, mode) for mode in modes) == (half_up, half_even, down)


def test_amounts_are_written_with_the_digits_of_the_currency() -> None:
    assert [minor_text(each, "EUR") for each in (0, 5, -5, -12_345)] == ["0.00", "0.05", "-0.05", "-123.45"]
    assert [minor_text(7, code) for code in ("JPY", "KWD", "CLF")] == ["7", "0.007", "0.0007"]
    assert [decimal_text(Fraction(each), 2) for each in ("0.3", "0.3333", "-1/3", "2")] == [
        *("0.30", "0.3333", "-0.333333333333", "2.00"),
    ]
    assert (MINOR_DIGITS["EUR"], MINOR_DIGITS["ISK"], MINOR_DIGITS["TND"]) == (2, 0, 3)


# ------------------------------------------------------------------------------------ written usage


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("volumes", 0, "amount"), -1, "expected 0 or more"),
        (("volumes", 0, "amount"), 1.0, "expected an integer"),
        (("volumes", 0, "amount"), True, "expected an integer"),
        (("volumes", 0, "dimension"), "food", "food"),
        (("volumes", 0, "dimension"), 1, "expected a text"),
        (("volumes", 0, "more"), 1, "not the fields of a volume"),
        (("periods", 0, "estimated_split"), 1, "expected true or false"),
        (("periods", 0, "from_ms"), None, "expected an integer"),
        (("begin_mwh",), "0", "expected an integer"),
        (("periods",), {}, "expected lists"),
        (("more",), 1, "expected an object with"),
    ],
)
def test_usage_that_is_none_is_refused(where: tuple[Any, ...], value: Any, said: str) -> None:
    plain = to_plain(used(1, 2, 3))
    place: Any = plain
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    with pytest.raises(ValueError, match=said):
        from_plain(plain)


@pytest.mark.parametrize("usage", [used(1, number=1), used(1, price=1)])
def test_usage_of_another_tariff_is_refused(usage: Usage) -> None:
    with pytest.raises(ValueError, match="has no price"):
        bill([parsed(energy=kwh(1))], usage)


def test_usage_is_the_same_after_being_written_and_read() -> None:
    period = Period(-7, -3, 1, 5, None, None, None, None, energy_mwh=9, charging_ms=1, idle_ms=2, estimated_split=True)
    usage = Usage((period, replace(period, unbilled_ms=4, tariff=0, energy=1)), used(1, 2, 3).volumes, 5, 14, 77)
    assert from_plain(json.loads(json.dumps(to_plain(usage)))) == usage
    unread = Usage(reservation_ms=0)
    assert from_plain(json.loads(json.dumps(to_plain(unread)))) == unread


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("periods", 0, "idle_ms"), -1, "usage: idle_ms: expected 0 or more, found -1"),
        (("periods", 0, "idle_ms"), "7", "usage: idle_ms: expected an integer, found '7'"),
        (("periods", 0, "tariff"), -1, "usage: tariff: expected 0 or more"),
        (("volumes", 0, "tariff"), None, "usage: tariff: expected an integer"),
        (("volumes", 0, "price"), None, "usage: price: expected an integer"),
        (("begin_mwh",), 1.5, "usage: begin_mwh: expected an integer"),
        (("end_mwh",), "x", "usage: end_mwh: expected an integer"),
        (("reservation_ms",), None, "usage: reservation_ms: expected an integer"),
        (("volumes",), "x", "expected lists"),
        (("periods", 0), [], "usage: not the fields of a period"),
    ],
)
def test_the_field_that_is_wrong_is_named(where: tuple[Any, ...], value: Any, said: str) -> None:
    plain = to_plain(used(1, 2, 3))
    place: Any = plain
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    with pytest.raises(ValueError, match=f"^{said}" if said.startswith("usage") else said):
        from_plain(plain)


def test_sums_of_usage() -> None:
    usage = joined(used(10, 20, 30), used(1, 2, 3))
    assert (usage.energy_mwh, usage.charging_ms, usage.idle_ms, usage.elapsed_ms) == (11, 22, 33, 5)
    assert (Usage().energy_mwh, Usage().elapsed_ms, Usage().estimated_split) == (0, 0, False)
    assert (Usage(end_mwh=5).energy_mwh, Usage(begin_mwh=5).energy_mwh) == (0, 0)
    later = replace(usage.periods[1], from_ms=60, to_ms=100, unbilled_ms=7, estimated_split=True)
    usage = replace(usage, periods=(usage.periods[0], later))
    assert (usage.elapsed_ms, usage.unbilled_ms, usage.estimated_split) == (100, 7, True)


# -------------------------------------------------------------------------------- lines and rounding


def test_a_line_says_where_its_amount_comes_from() -> None:
    plan = parsed(energy=kwh(1, taxRates=VAT), chargingTime=minute(0.1), idleTime=minute(0.2), fixedFee=fee(2))
    fees = Volume(0, Dimension.FIXED_FEE, 0, 1)
    usage = used(1_000_000, MINUTE_MS, MINUTE_MS)
    found = total(plan, replace(usage, volumes=(*usage.volumes, fees)))
    assert [(each.description, each.unit, each.tariff, each.tariff_id, each.net) for each in found.lines] == [
        ("Energy", Unit.ENERGY, 0, "T", 100),
        ("Charging time", Unit.TIME, 0, "T", 10),
        ("Idle time", Unit.TIME, 0, "T", 20),
        ("Start fee", Unit.FEES, 0, "T", 200),
    ]
    assert [each.tax_rates for each in found.lines] == [plan.tax_rates(Dimension.ENERGY), (), (), ()]
    assert (found.currency, found.rounding, found.final) == ("EUR", Rounding.HALF_UP, True)
    assert found.taxes == (TaxLine("VAT", Fraction(19), 0, 100, 19),)


def test_prices_of_the_same_amount_share_a_line_and_fees_are_counted() -> None:
    plan = parsed(energy=kwh((1, {"maxEnergy": 5}), 1), fixedFee=fee(2))
    fees = Volume(0, Dimension.FIXED_FEE, 0, 3)
    usage = joined(used(1_000_000), used(2_000_000, price=1))
    found = total(plan, replace(usage, volumes=(*usage.volumes, fees)))
    assert [(each.dimension, each.quantity, each.net) for each in found.lines] == [
        (Dimension.ENERGY, 3_000_000, 300),
        (Dimension.FIXED_FEE, 3, 600),
    ]


def fee(amount: float) -> dict[str, Any]:
    return {"prices": [{"priceFixed": amount}]}


@pytest.mark.parametrize(
    ("rounding", "line", "tax", "cap"),
    [(Rounding.HALF_UP, 1, 3, 3), (Rounding.HALF_EVEN, 0, 2, 2), (Rounding.DOWN, 0, 2, 2)],
)
def test_lines_taxes_and_bounds_are_rounded_as_asked(rounding: Rounding, line: int, tax: int, cap: int) -> None:
    half_a_cent = total(parsed(energy=kwh(0.005)), used(1_000_000), rounding=rounding)
    assert half_a_cent.total_excl == line
    vat = [{"type": "VAT", "tax": 25}]
    assert total(parsed(energy=kwh(0.1, taxRates=vat)), used(1_000_000), rounding=rounding).taxes[0].amount == tax
    for bound, used_mwh in (("maxCost", 10_000_000), ("minCost", 0)):
        plan = parsed(energy=kwh(1), **{bound: {"exclTax": 0.025}})
        assert total(plan, used(used_mwh), rounding=rounding).total_excl == cap
        plan = parsed(energy=kwh(1), **{bound: {"inclTax": 0.025}})
        assert total(plan, used(used_mwh), rounding=rounding).total_incl == cap
    replaced = [parsed(energy=kwh(1), maxCost={"exclTax": 0.975}), parsed(energy=kwh(1))]
    assert total(replaced, used(1_000_000), rounding=rounding).total_excl == 100 - cap


def test_stacks_of_taxes_are_told() -> None:
    rates = [{"type": "A", "tax": 10}, {"type": "B", "tax": 10, "stack": 2}]
    found = total(parsed(energy=kwh(1, taxRates=rates)), used(1_000_000))
    assert [(tax.type, int(tax.percent), tax.stack) for tax in found.taxes] == [("A", 10, 0), ("B", 10, 2)]


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"minCost": {"exclTax": 20}}, (AdjustmentKind.MIN_COST, "up to the minimum cost")),
        ({"maxCost": {"exclTax": 5}}, (AdjustmentKind.MAX_COST, "above the maximum cost")),
    ],
)
def test_adjustments_say_what_they_are(bounds: dict[str, Any], words: tuple[AdjustmentKind, str]) -> None:
    [found] = total(parsed(energy=kwh(1), **bounds), used(10_000_000)).adjustments
    assert (found.kind, found.description) == words


def test_nothing_to_pay_and_no_credit_is_no_trouble() -> None:
    found = total(parsed(energy=kwh(1)), used(0), credit_limit=Fraction(0))
    assert (found.total_incl, found.adjustments) == (0, ())


def test_a_credit_that_is_just_enough_changes_nothing() -> None:
    plan = parsed(energy=kwh(1, taxRates=VAT))
    assert total(plan, used(10_000_000), credit_limit=Fraction("11.90")).adjustments == ()
    [found] = total(plan, used(10_000_000), credit_limit=Fraction("11.899")).adjustments
    assert (found.kind, found.description) == (AdjustmentKind.CREDIT, "above the credit, not billed")
    assert total(plan, used(10_000_000), credit_limit=Fraction("11.899")).total_incl == 1189


def test_what_lacks_to_a_minimum_without_rates_has_those_of_the_first_dimension_that_has_a_price() -> None:
    plan = parsed(idleTime=minute(1, taxRates=VAT), fixedFee=fee(1) | {"taxRates": [{"type": "VAT", "tax": 7}]})
    found = total(replace(plan, min_cost=Price(excl_tax=Fraction(3))), used(0, 0, 2 * MINUTE_MS))
    assert (found.total_excl, found.total_incl) == (300, 357)
    rated = Price(excl_tax=Fraction(3), tax_rates=(TaxRate("VAT", Fraction(10)),))
    assert total(replace(plan, min_cost=rated), used(0, 0, 2 * MINUTE_MS)).total_incl == 238 + 110


MIXED = {"energy": kwh(0.5, taxRates=VAT), "idleTime": minute(0.1)}


@pytest.mark.parametrize(
    ("bounds", "energy_kwh", "idle_min", "excl", "incl"),
    [
        ({"minCost": {"exclTax": 5}}, 0, 50, 500, 500),  # reached by what is not taxed
        ({"minCost": {"exclTax": 5}}, 0, 40, 500, 519),
        ({"minCost": {"exclTax": 5}}, 0, 0, 500, 595),
        ({"minCost": {"inclTax": 5.95}}, 0, 40, 564, 595),
        ({"minCost": {"inclTax": 5.95}}, 0, 60, 600, 600),
        ({"minCost": {"exclTax": 5}}, 1, 0, 500, 595),  # 0.095 of tax is printed as 0.10
        ({"maxCost": {"inclTax": 60}}, 60, 220, 5200, 5770),  # not reached
        ({"maxCost": {"inclTax": 60}}, 60, 400, 5548, 6000),  # of 70.00, 75.70 with tax
        ({"maxCost": {"exclTax": 50}}, 60, 300, 5000, 5475),
        ({"maxCost": {"exclTax": 1}}, 0, 400, 100, 100),  # no tax where nothing was taxed
        ({"maxCost": {"exclTax": 1, "taxRates": VAT}}, 0, 400, 100, 100),
        ({"maxCost": {"exclTax": 50, "inclTax": 59.5}}, 60, 300, 5000, 5475),  # no tax that nobody owes
        ({"minCost": {"exclTax": 5, "inclTax": 5.95}}, 0, 55, 588, 595),
        ({"maxCost": {"exclTax": 1}}, 20, 0, 100, 119),
    ],
)
def test_a_bound_binds_on_the_sides_that_are_given_and_moves_net_and_tax_together(
    bounds: dict[str, Any], energy_kwh: int, idle_min: int, excl: int, incl: int
) -> None:
    usage = used(energy_kwh * 1_000_000, 0, idle_min * MINUTE_MS)
    found = total(parsed(**MIXED, **bounds), usage)
    assert (found.total_excl, found.total_incl) == (excl, incl)


def test_the_cap_of_a_replaced_tariff_given_on_one_side_binds_on_that_side_only() -> None:
    for cap, excl, incl in (
        ({"exclTax": 25}, 2500, 2737),
        ({"inclTax": 42}, 3836, 4200),
        ({"inclTax": 43.8}, 4000, 4380),
        ({"exclTax": 40}, 4000, 4380),
    ):
        plans = [parsed(**MIXED, maxCost=cap), parsed(tariffId="U", **MIXED)]
        found = total(plans, used(40_000_000, 0, 200 * MINUTE_MS))
        assert (found.total_excl, found.total_incl) == (excl, incl)


def test_the_most_that_a_session_can_cost_with_tax() -> None:
    plan = parsed(idleTime=minute(1, taxRates=VAT), fixedFee=fee(0) | {"taxRates": [{"type": "VAT", "tax": 7}]})
    capped = replace(parsed(energy=kwh(1)), max_cost=Price(excl_tax=Fraction(1)))
    assert cost_cap_incl([replace(plan, max_cost=Price(excl_tax=Fraction(1)))]) == Fraction("1.19")
    assert cost_cap_incl([plan, capped]) == Fraction("1.19")  # what was used under the first is in it
    assert cost_cap_incl([capped]) == 1
    assert cost_cap_incl([replace(plan, max_cost=Price(Fraction(1), Fraction(2)))]) == Fraction("1.19")
    assert cost_cap_incl([replace(plan, max_cost=Price(Fraction(2), Fraction(2)))]) == 2
    assert cost_cap_incl([plan]) is None


def test_caps_of_several_replaced_tariffs_bound_what_came_so_far() -> None:
    """A cap holds for the session up to the end of its tariff, with what the tariffs before it cost."""
    first = parsed(energy=kwh(1, taxRates=VAT), maxCost={"exclTax": 5})
    second = parsed(tariffId="U", energy=kwh(1, taxRates=VAT), maxCost={"exclTax": 6})
    last = parsed(tariffId="V", energy=kwh(1, taxRates=VAT))
    usage = joined(used(10_000_000), used(2_000_000, number=1), used(1_000_000, number=2))
    found = total([first, second, last], usage)
    assert found.total_excl == 700  # 5, then 6 in all, then 1 more
    assert found.total_incl == 833
    waived = total([first, second, last], usage, min_energy_mwh=10**9)
    assert waived.total_incl == 0 and waived.adjustments == ()


def test_a_cap_with_tax_of_a_replaced_tariff_holds_for_the_amount_with_tax() -> None:
    first = parsed(energy=kwh(1, taxRates=VAT), maxCost={"exclTax": 100, "inclTax": 10})
    usage = joined(used(10_000_000), used(1_000_000, number=1))
    found = total([first, parsed(tariffId="U", energy=kwh(1, taxRates=VAT))], usage)
    assert (found.total_excl, found.total_incl) == (840 + 100, 1_000 + 119)
