"""Many receipts to what was used and what is due: per token, day, month or EVSE.

Charter: enough for a small site to raise its invoices. Sums of what the receipts say, exact, with memory that
grows with the groups and not with the receipts. Nothing is priced or rounded again: the gross of a group is the
sum of the totals that drivers were shown.

Rules: a transaction belongs to the local day on which it began; where the clock was set in the course of it, that is
counted back from its end. One whose time nobody ever knew is in no range of days; how many these are is told.
Currencies are never mixed: a group has one row per currency, and one without for what the station did not price. What
is not billable counts as energy and not as money. Energy that ran in no transaction stands in rows of its own, so that
the energies of an EVSE add up to what its meter counted.

Units: mWh, ms, minor units of the currency; kWh, seconds and decimal amounts in what is written.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

from agent.billing import words
from agent.billing.read import Receipt
from agent.ledger.kinds import TIME_UNKNOWN
from agent.tariff.currency import decimal_text, minor_text

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What a spreadsheet takes for the begin of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠")

HEADER: Final = (
    "sessions",
    "energy (kWh)",
    "charging (s)",
    "idle (s)",
    "not billable (sessions)",
    "currency",
    "net",
    "tax",
    "gross",
)


class By(StrEnum):
    TOKEN = "token"
    DAY = "day"
    MONTH = "month"
    EVSE = "evse"


@dataclass(frozen=True, slots=True)
class Row:
    """One group in one currency (empty: not priced by the station)."""

    group: str
    currency: str
    sessions: int = 0
    energy_mwh: int = 0
    charging_ms: int = 0
    idle_ms: int = 0
    not_billable: int = 0
    net: int = 0
    tax: int = 0

    @property
    def gross(self) -> int:
        return self.net + self.tax

    def plus(self, other: Row) -> Row:
        return replace(
            self,
            sessions=self.sessions + other.sessions,
            energy_mwh=self.energy_mwh + other.energy_mwh,
            charging_ms=self.charging_ms + other.charging_ms,
            idle_ms=self.idle_ms + other.idle_ms,
            not_billable=self.not_billable + other.not_billable,
            net=self.net + other.net,
            tax=self.tax + other.tax,
        )


class Report:
    """Add receipts in any order, each transaction once; ask for rows at any time."""

    def __init__(self, by: By, first: date | None = None, last: date | None = None) -> None:
        self._by, self._first, self._last = by, first, last
        self._rows: dict[tuple[str, str], Row] = {}
        self._unassigned_mwh: dict[int, int] = {}
        self.undated = 0  # receipts without a date, left out of a range of days

    def add(self, receipt: Receipt) -> None:
        day = _day(receipt)
        if day is None and (self._first, self._last) != (None, None):
            self.undated += 1
            return
        if day is not None and not (self._first or day) <= day <= (self._last or day):
            return
        row = _row(receipt, self._group(receipt, day))
        key = (row.group, row.currency)
        self._rows[key] = self._rows[key].plus(row) if key in self._rows else row
        before_mwh = receipt.facts.unassigned_before_mwh
        if before_mwh:
            evse = receipt.facts.place.evse
            self._unassigned_mwh[evse] = self._unassigned_mwh.get(evse, 0) + before_mwh

    def rows(self) -> list[Row]:
        """By group and currency."""
        return [row for _, row in sorted(self._rows.items(), key=lambda item: _sorting(*item[0]))]

    def totals(self) -> list[Row]:
        """One row per currency."""
        found: dict[str, Row] = {}
        for row in self._rows.values():
            whole = replace(row, group="")
            found[row.currency] = found[row.currency].plus(whole) if row.currency in found else whole
        return [found[currency] for currency in sorted(found)]

    def unassigned_mwh(self) -> dict[int, int]:
        """Per EVSE, what its meter counted in no transaction."""
        return dict(sorted(self._unassigned_mwh.items()))

    def _group(self, receipt: Receipt, day: date | None) -> str:
        match self._by:
            case By.TOKEN:
                return words.shown(receipt.facts.token)
            case By.DAY:
                return "" if day is None else day.isoformat()
            case By.MONTH:
                return "" if day is None else day.isoformat()[:7]
            case By.EVSE:
                return str(receipt.facts.place.evse)

    # ------------------------------------------------------------------------------------ writing

    def table(self) -> Iterator[tuple[str, ...]]:
        """The header and all rows as texts, numbers with a decimal point; texts as they are."""
        yield (str(self._by), *HEADER)
        for row in self.rows():
            yield (row.group or "(none)", *_cells(row))
        for evse, energy_mwh in self.unassigned_mwh().items():
            yield (f"(no transaction, EVSE {evse})", "0", _kwh(energy_mwh), *[""] * (len(HEADER) - 2))

    def csv(self) -> str:
        """RFC 4180. Texts that a spreadsheet would take for a formula get an apostrophe in front."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\r\n")
        for group, *cells in self.table():
            writer.writerow([f"'{group}" if group.lstrip().startswith(_FORMULA) else group, *cells])
        return out.getvalue()

    def json(self) -> str:
        return json.dumps(
            {
                "by": str(self._by),
                "rows": [_plain(row) | {"group": row.group} for row in self.rows()],
                "totals": [_plain(row) for row in self.totals()],
                "undated_sessions": self.undated,
                "unassigned": [
                    {"evse": evse, "energy_kwh": _kwh(energy_mwh)} for evse, energy_mwh in self.unassigned_mwh().items()
                ],
            }
        )


def report(receipts: Iterable[Receipt], by: By, first: date | None = None, last: date | None = None) -> Report:
    """``first`` and ``last`` are days, both included."""
    made = Report(by, first, last)
    for receipt in receipts:
        made.add(receipt)
    return made


def _row(receipt: Receipt, group: str) -> Row:
    usage, bill = receipt.usage, receipt.bill
    not_billable = receipt.facts.flags.not_billable
    row = Row(
        group,
        "" if bill is None else bill.currency,
        sessions=1,
        energy_mwh=receipt.energy_mwh or 0,
        charging_ms=0 if usage is None else usage.charging_ms,
        idle_ms=0 if usage is None else usage.idle_ms,
        not_billable=int(not_billable),
    )
    if bill is None or not_billable:
        return row
    return replace(row, net=bill.total_excl, tax=bill.total_incl - bill.total_excl)


def _day(receipt: Receipt) -> date | None:
    """The local day of the begin; None where nobody knows it."""
    begin, end = receipt.facts.begin, receipt.facts.end
    if begin.time_status != TIME_UNKNOWN:
        at, begin_ms = begin, begin.wall_ms
    elif end.time_status != TIME_UNKNOWN:
        measured = receipt.usage is not None and receipt.usage.periods
        at, begin_ms = end, end.wall_ms - (receipt.lasted_ms if measured else 0)
    else:
        return None
    return (_EPOCH + timedelta(milliseconds=begin_ms, minutes=at.offset_minutes)).date()


def _sorting(group: str, currency: str) -> tuple[int, str, str]:
    """Numbers by their size, then texts."""
    return (len(group) if group.isdecimal() and len(group) < 4 else 4, group, currency)


def _cells(row: Row) -> tuple[str, ...]:
    money = (row.net, row.tax, row.gross) if row.currency else ()
    return (
        str(row.sessions),
        _kwh(row.energy_mwh),
        _seconds(row.charging_ms),
        _seconds(row.idle_ms),
        str(row.not_billable),
        row.currency,
        *(minor_text(amount, row.currency) for amount in money),
        *[""] * (3 - len(money)),
    )


def _plain(row: Row) -> dict[str, Any]:
    sessions, energy, charging, idle, not_billable, currency, net, tax, gross = _cells(row)
    return {
        "sessions": int(sessions),
        "energy_kwh": energy,
        "charging_s": charging,
        "idle_s": idle,
        "not_billable_sessions": int(not_billable),
        "currency": currency or None,
        "net": net or None,
        "tax": tax or None,
        "gross": gross or None,
    }


def _kwh(energy_mwh: int) -> str:
    return decimal_text(Fraction(energy_mwh, 1_000_000), 6, 6)


def _seconds(length_ms: int) -> str:
    return decimal_text(Fraction(length_ms, 1_000), 0, 3)
