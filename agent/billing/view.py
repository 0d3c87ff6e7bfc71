"""What a person is shown of a receipt, whatever the form.

Charter: one parsed receipt to headings, pairs and tables of finished texts; ``text`` and ``html`` only lay them
out. Everything comes from the signed payload but for ``told``, which is marked. The sum of the amounts in the
bill's table is the total below it (C5).

Order: what a driver wants first (energy, time, price, total), then registers, then how to check.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from agent.billing import words
from agent.billing.prices import tariffs_of
from agent.billing.read import Receipt
from agent.billing.told import Told
from agent.core.facts import Forerunner, StopReason
from agent.tariff.cost import Bill, RoundedPer, Unit, cost_of
from agent.tariff.currency import MINOR_DIGITS, decimal_text, minor_text
from agent.tariff.model import Dimension, Tariff
from agent.tariff.usage import Period

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns whose names begin with ``>`` hold numbers. ``total`` is a last row that stands out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class View:
    title: str
    seller: tuple[str, ...]
    headline: Pairs
    notices: tuple[str, ...]
    session: Pairs
    prices: tuple[tuple[str, tuple[str, ...]], ...]
    bill: Table | None
    told: tuple[str, ...]
    registers: Pairs
    periods: Table | None
    identity: Pairs
    checks: tuple[str, ...]
    commands: tuple[str, ...]


def view(receipt: Receipt, told: Told | None = None, *, earlier: bool = False) -> View:
    """``earlier``: in the words of earlier releases, which said some things that were not so."""
    facts = receipt.facts
    operator = facts.operator
    bill = None if _costs_nothing(receipt) and not earlier else receipt.bill
    seller = (operator.name, operator.address, operator.contact, operator.vat_id and f"VAT id {operator.vat_id}")
    return View(
        title=f"Receipt {receipt.number}",
        seller=tuple(words.shown(line) for line in seller if line),
        headline=_headline(receipt, bill),
        notices=_notices(receipt, earlier=earlier),
        session=_session(receipt),
        prices=tuple(
            (f"Tariff {words.shown(each.tariff_id)}", tuple(map(words.shown, each.words))) for each in facts.tariffs
        ),
        bill=None if bill is None else _bill(bill),
        told=() if told is None else _told(told),
        registers=_registers(receipt),
        periods=_periods(receipt, bill),
        identity=_identity(receipt),
        checks=_checks(receipt),
        commands=_COMMANDS,
    )


def _costs_nothing(receipt: Receipt) -> bool:
    """For its readings. Older software set the flag and billed all the same: what it signed is shown."""
    return receipt.facts.flags.not_billable and (receipt.bill is None or receipt.bill.total_incl == 0)


# ------------------------------------------------------------------------------------------ sections


def _headline(receipt: Receipt, bill: Bill | None) -> Pairs:
    energy_mwh = receipt.energy_mwh
    if bill is None:
        total = "priced by the operator" if receipt.bill is None else "nothing is billed"
    else:
        total = f"{minor_text(bill.total_incl, bill.currency)} {bill.currency}"
    return (
        ("Energy", "not known" if energy_mwh is None else words.kwh(energy_mwh)),
        ("Time (h:mm:ss)", words.duration(receipt.lasted_ms)),
        ("Total", total),
    )


_FLAGS: Final = {
    "offline": "The station was out of touch with its operator during this transaction.",
    "power_failure": "The power failed during this transaction. Time without power is not billed.",
    "estimated_split": "Energy was divided between two prices without a meter reading at the change, at the lower one.",
    "time_not_billable": "The station's clock was not good enough to bill time: time costs nothing here.",
    "substituted_reading": "The meter could not be read at the end. The last good reading counts.",
    "not_billable": "The meter readings of this transaction are not good enough for a bill.",
}
_INTERRUPTED: Final = (
    "The station was restarted, or had no power, during this transaction. The time in between is not billed."
)
_SOME_TIME: Final = (
    "For some of the time the station's clock was not good enough to bill time: that time costs nothing."
)
_NO_END: Final = "There is no reading of the end that counts. The last good reading before it does."
_IMPOSSIBLE: Final = "The end is the last good reading: what came after it is of another meter, or cannot be right."
_LEFT_OUT: Final = {
    "periods": "Periods with the same prices are put together here; the station's ledger has them one by one.",
    "tariff_texts": "The texts of the tariffs are too long for this receipt; the ledger has them.",
    "records": "Only the first and the last meter record are in this receipt; the ledger has them all.",
    "account": "The bill is too long for this receipt; the ledger has it.",
}
_NO_PRICE: Final = "This station knows no price for the transaction: the operator's back office prices it."


def _notices(receipt: Receipt, *, earlier: bool) -> tuple[str, ...]:
    texts = _FLAGS if earlier else _FLAGS | _closer(receipt)
    flags = [text for name, text in texts.items() if getattr(receipt.facts.flags, name)]
    left_out = [_LEFT_OUT[name] for name in receipt.left_out if name in _LEFT_OUT]
    no_price = [_NO_PRICE] if receipt.bill is None and "account" not in receipt.left_out else []
    return (*flags, *left_out, *no_price)


def _closer(receipt: Receipt) -> dict[str, str]:
    """Other words where a flag says more than was so."""
    facts, usage, found = receipt.facts, receipt.usage, {"substituted_reading": _NO_END}
    if facts.stop_reason != StopReason.POWER_LOSS.value:
        found["power_failure"] = _INTERRUPTED
    if facts.flags.not_billable:
        found["substituted_reading"] = _IMPOSSIBLE
    if not _costs_nothing(receipt) and (usage is None or usage.charging_ms or usage.idle_ms):
        found["time_not_billable"] = _SOME_TIME
    return found


def _session(receipt: Receipt) -> Pairs:
    facts, usage = receipt.facts, receipt.usage
    pairs = [
        ("Begin", words.moment(facts.begin)),
        ("End", words.moment(facts.end)),
        ("Place", f"{words.shown(facts.place.identity)}, EVSE {facts.place.evse}"),
        ("Token", words.shown(facts.token) or "none"),
        ("Group", words.shown(facts.group)),
        ("Stopped by", words.shown(facts.stop_reason)),
        ("Payment", words.shown(facts.payment_reference)),
    ]
    if usage is not None:
        pairs += [
            ("Charging", words.duration(usage.charging_ms)),
            ("Connected, idle", words.duration(usage.idle_ms)),
            ("Time not billed", words.duration(usage.unbilled_ms) if usage.unbilled_ms else ""),
            ("Reserved", words.duration(usage.reservation_ms) if usage.reservation_ms else ""),
        ]
    return _given(pairs)


def _bill(bill: Bill) -> Table:
    currency = bill.currency
    rows = [
        (
            words.shown(line.description),
            words.quantity(line),
            words.unit_price(line.unit_price, currency, line.unit),
            minor_text(line.net, currency),
        )
        for line in bill.lines
    ]
    for tax in bill.taxes:
        name = f"{words.shown(tax.type)} {words.percent(tax.percent)}"
        rows.append((name, f"on {minor_text(tax.base, currency)}", "", minor_text(tax.amount, currency)))
    for each in bill.adjustments:
        split = f"net {minor_text(each.net, currency)}, tax {minor_text(each.tax, currency)}"
        rows.append((words.shown(each.description).capitalize(), split, "", minor_text(each.net + each.tax, currency)))
    net, tax_sum = minor_text(bill.total_excl, currency), minor_text(bill.total_incl - bill.total_excl, currency)
    return Table(
        "What it costs",
        ("Item", ">How much", ">Price", f">{currency}"),
        tuple(rows),
        (f"Total {currency}", f"net {net}, tax {tax_sum}", "", minor_text(bill.total_incl, currency)),
        f"Prices are without tax. {_ROUNDED[bill.rounded_per]} ({bill.rounding}); the total is the sum of the lines.",
    )


_ROUNDED: Final = {
    RoundedPer.DIMENSION: "Lines of one kind are added up, then rounded once",
    RoundedPer.LINE: "Each line is rounded once",  # word for word as on pages of before
}


def _told(told: Told) -> tuple[str, ...]:
    kind = "in the end" if told.final else "so far"
    lines = [
        f"The operator's back office says that this transaction costs {words.shown(told.cost)} {kind}.",
        words.shown(told.text),
        "The station did not compute this and did not sign it.",
    ]
    return tuple(line for line in lines if line)


def _registers(receipt: Receipt) -> Pairs:
    facts = receipt.facts
    unassigned_mwh = facts.unassigned_before_mwh
    return _given(
        [
            ("Meter", words.shown(facts.place.meter_serial) or "never read"),
            ("Register at begin", words.register(facts.begin_mwh)),
            ("Register at end", words.register(facts.end_mwh)),
            ("Difference", words.register(receipt.energy_mwh)),
            ("Begin", f"{words.utc(facts.begin.wall_ms)} ({words.clock(facts.begin.time_status)})"),
            ("End", f"{words.utc(facts.end.wall_ms)} ({words.clock(facts.end.time_status)})"),
            ("Metered before, in no transaction", "" if unassigned_mwh is None else words.register(unassigned_mwh)),
        ]
    )


def _identity(receipt: Receipt) -> Pairs:
    facts, place = receipt.facts, receipt.facts.place
    tariffs = [(f"Tariff {words.shown(each.tariff_id)}", words.shown(each.content_hash)) for each in facts.tariffs]
    return _given(
        [
            ("Transaction", words.shown(facts.tx_id)),
            ("Transaction, as a number", str(facts.local_number)),
            ("Station", f"{words.shown(place.vendor)} {words.shown(place.model)}, serial {words.shown(place.serial)}"),
            ("Software", f"{words.shown(facts.software.version)}, files {words.shown(facts.software.checksum)}"),
            ("Time zone", f"{words.shown(facts.time_zone)}, tzdata {words.shown(facts.tzdata)}"),
            *tariffs,
            ("Least energy billed", words.kwh(facts.bounds.min_energy_mwh) if facts.bounds.min_energy_mwh else ""),
            ("Credit limit", words.shown(facts.bounds.credit_limit or "")),
            *_before(facts.bounds.follows),
            ("Ledger row", str(receipt.seq)),
            ("Hash of the row before", receipt.prev_hash),
            ("Public key", words.shown(facts.public_key).upper()),
            ("Public key of the meter", words.shown(facts.record_key).upper()),
        ]
    )


def _before(follows: Forerunner | None) -> list[tuple[str, str]]:
    if follows is None:
        return []
    cost = "" if follows.cost_incl is None else f", which came to {words.shown(follows.cost_incl)} by then"
    return [("Goes on with the session of", words.shown(follows.tx_id) + cost)]


def _checks(receipt: Receipt) -> tuple[str, ...]:
    records = len(receipt.records)
    signed = "one meter record" if records == 1 else f"{records} meter records"
    return (
        "Take the public key (KEY) from the charger's label or from the operator and compare it with the one "
        "above: a key that came with the receipt proves nothing.",
        "The first command checks the signature, the meter records and the sums, and computes the cost again "
        "from the tariff in the receipt. FILE is the receipt, or the page that holds it.",
        f"The receipt holds {signed} (OCMF), signed one by one. The second command checks them alone; so does "
        "any transparency software that opens the file of records (RECORDS).",
    )


_COMMANDS: Final = ("evsed receipt verify FILE --key KEY", "evsed ocmf verify RECORDS --key KEY")


def _given(pairs: list[tuple[str, str]]) -> Pairs:
    return tuple((name, value) for name, value in pairs if value)


# ------------------------------------------------------------------------------------------- periods


def _periods(receipt: Receipt, bill: Bill | None) -> Table | None:
    usage = receipt.usage
    if usage is None or not usage.periods:
        return None
    begin, end = receipt.facts.begin, receipt.facts.end
    # Which of two offsets held at a period only a time zone database knows, and not every one says the same.
    offset_minutes = begin.offset_minutes if begin.offset_minutes == end.offset_minutes else 0
    tariffs = () if bill is None else tariffs_of(receipt)
    rows = tuple(
        (
            words.local(period.from_wall_ms, offset_minutes),
            words.local(period.to_wall_ms, offset_minutes),
            words.kwh(period.energy_mwh),
            words.duration(period.charging_ms),
            words.duration(period.idle_ms),
            *(() if bill is None else _priced(period, tariffs, bill.currency)),
        )
        for period in usage.periods
    )
    names = (f"From ({words.zone(offset_minutes)})", "To", ">Energy", ">Charging", ">Idle")
    if bill is None:
        return Table("Periods", names, rows)
    note = "Amounts are without tax and not rounded yet; fees and taxes stand in the bill."
    return Table("Periods", (*names, "Prices", f">{bill.currency}"), rows, note=note)


def _priced(period: Period, tariffs: tuple[Tariff | None, ...], currency: str) -> tuple[str, str]:
    """The price elements of a period and what they come to, before rounding."""
    tariff = None if period.tariff is None else tariffs[period.tariff]
    if tariff is None:
        return ("none" if period.tariff is None else "not in this receipt", "")
    names, cost = [], Fraction(0)
    for dimension, index, amount, unit in (
        (Dimension.ENERGY, period.energy, period.energy_mwh, Unit.ENERGY),
        (Dimension.CHARGING_TIME, period.charging_time, period.charging_ms, Unit.TIME),
        (Dimension.IDLE_TIME, period.idle_time, period.idle_ms, Unit.TIME),
    ):
        prices = tariff.prices(dimension)
        if index is None or not 0 <= index < len(prices) or not amount:
            continue
        names.append(f"{_SHORT[dimension]} {words.unit_price(prices[index].amount, currency, unit)}")
        cost += cost_of(dimension, prices[index].amount, amount)
    digits = MINOR_DIGITS[tariff.currency]
    return "; ".join(names) or "nothing", decimal_text(cost, digits, digits + 4)


_SHORT: Final = {
    Dimension.ENERGY: "energy",
    Dimension.CHARGING_TIME: "charging",
    Dimension.IDLE_TIME: "idle",
}
