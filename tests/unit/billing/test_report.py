"""Sums over many receipts: exact, per currency, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from agent.billing.facts import Flags
from agent.billing.read import Receipt, parse
from agent.billing.report import HEADER, By, Row, report
from tests.unit.billing import making
from tests.unit.billing.making import TARIFF

GOOD = parse(making.sealed())
UNPRICED = parse(making.sealed(making.facts(())))


def changed(found: Receipt = GOOD, **facts: Any) -> Receipt:
    return replace(found, facts=replace(found.facts, **facts))


def at_evse(evse: int, found: Receipt = GOOD, **facts: Any) -> Receipt:
    return changed(found, place=replace(found.facts.place, evse=evse), **facts)


def begun(wall_ms: int) -> Receipt:
    return changed(begin=replace(GOOD.facts.begin, wall_ms=wall_ms))


def test_sums_per_token() -> None:
    receipts = [GOOD, changed(token="B"), GOOD]
    rows = report(receipts, By.TOKEN).rows()
    assert rows == [
        Row("04A2B3C4D5E6F7", "EUR", 2, 26_353_086, 9_600_000, 3_600_000, 0, 1_330, 252),
        Row("B", "EUR", 1, 13_176_543, 4_800_000, 1_800_000, 0, 665, 126),
    ]
    assert report(receipts, By.TOKEN).totals() == [Row("", "EUR", 3, 39_529_629, 14_400_000, 5_400_000, 0, 1_995, 378)]


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        (By.DAY, ["2026-03-28", "2026-03-29"]),
        (By.MONTH, ["2026-03"]),
        (By.EVSE, ["2", "10"]),
        (By.TOKEN, ["04A2B3C4D5E6F7"]),
    ],
)
def test_groups(by: By, groups: list[str]) -> None:
    # 22:59:59.999 UTC is the last millisecond of the local day.
    of = [at_evse(10, begun(1_774_738_799_999)), at_evse(2, begun(1_774_738_800_000))]
    assert [row.group for row in report(of, by).rows()] == groups


def test_days_from_and_to_are_both_included() -> None:
    of = [begun(1_774_738_799_999), begun(1_774_738_800_000)]
    first, last = date(2026, 3, 28), date(2026, 3, 29)
    assert [row.sessions for row in report(of, By.MONTH, first, last).rows()] == [2]
    assert [row.group for row in report(of, By.DAY, first=last).rows()] == ["2026-03-29"]
    assert [row.group for row in report(of, By.DAY, last=first).rows()] == ["2026-03-28"]
    assert report(of, By.DAY, date(2027, 1, 1)).rows() == []


def test_a_session_that_began_before_the_clock_was_known_is_dated_from_its_end() -> None:
    """The clock was set in mid-session: 31 minutes of it were before midnight."""
    unknown = replace(GOOD.facts.begin, wall_ms=7_000, time_status="U")
    end = replace(GOOD.facts.end, wall_ms=1_774_738_800_000 + GOOD.lasted_ms - 31 * 60_000)
    of = [changed(begin=unknown, end=end)]
    made = report(of, By.DAY, date(2026, 3, 28), date(2026, 3, 28))
    assert ([row.group for row in made.rows()], made.undated) == (["2026-03-28"], 0)
    assert report(of, By.DAY, date(2026, 3, 29)).rows() == []


def test_a_session_whose_time_nobody_knew_is_never_lost_silently() -> None:
    begin, end = (replace(each, wall_ms=7_000, time_status="U") for each in (GOOD.facts.begin, GOOD.facts.end))
    of = [GOOD, changed(begin=begin, end=end)]
    made = report(of, By.DAY, date(2026, 1, 1), date(2026, 12, 31))
    assert ([row.sessions for row in made.rows()], made.undated) == ([1], 1)
    assert json.loads(made.json())["undated_sessions"] == 1
    whole = report(of, By.MONTH)
    assert ([row.group for row in whole.rows()], whole.undated) == (["", "2026-03"], 0)


def test_currencies_and_the_unpriced_are_never_mixed() -> None:
    yen = {**TARIFF, "currency": "JPY"}
    usage = making.used((yen,))
    in_yen = parse(making.sealed(making.facts((yen,), usage), usage))
    made = report([GOOD, UNPRICED, in_yen], By.TOKEN)
    assert [(row.currency, row.gross) for row in made.rows()] == [("", 0), ("EUR", 791), ("JPY", 8)]
    assert [row.currency for row in made.totals()] == ["", "EUR", "JPY"]


def test_what_is_not_billable_counts_as_energy_only() -> None:
    (row,) = report([GOOD, changed(flags=Flags(not_billable=True))], By.EVSE).rows()
    assert (row.sessions, row.not_billable, row.energy_mwh, row.gross) == (2, 1, 26_353_086, 791)


def test_energy_in_no_transaction_stands_alone() -> None:
    of = [at_evse(1, unassigned_before_mwh=5), at_evse(2), at_evse(1, unassigned_before_mwh=None), at_evse(1)]
    made = report([*of, at_evse(1, unassigned_before_mwh=7)], By.EVSE)
    assert made.unassigned_mwh() == {1: 12}
    assert list(made.table())[-1][:3] == ("(no transaction, EVSE 1)", "0", "0.000012")


def test_registers_never_read_count_nothing() -> None:
    (row,) = report([changed(UNPRICED, end_mwh=None)], By.EVSE).rows()
    assert (row.sessions, row.energy_mwh) == (1, 0)


def test_csv_is_rfc_4180() -> None:
    of = [GOOD, changed(UNPRICED, token='a "b", c')]
    text = report(of, By.TOKEN).csv()
    assert text == (
        "token,sessions,energy (kWh),charging (s),idle (s),not billable (sessions),currency,net,tax,gross\r\n"
        "04A2B3C4D5E6F7,1,13.176543,4800,1800,0,EUR,6.65,1.26,7.91\r\n"
        '"a ""b"", c",1,13.176543,0,0,0,,,,\r\n'
    )


@pytest.mark.parametrize("token", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", '=HYPERLINK("x")'])
def test_a_token_is_never_a_formula(token: str) -> None:
    _, row = csv.reader(io.StringIO(report([changed(token=token)], By.TOKEN).csv()))
    assert row[0][0] not in "=+-@\t\r "
    assert len(row) == len(HEADER) + 1


def test_amounts_may_be_negative_and_stay_numbers() -> None:
    bill = GOOD.bill
    assert bill is not None
    _, row = csv.reader(io.StringIO(report([replace(GOOD, bill=replace(bill, total_incl=-5))], By.TOKEN).csv()))
    assert row[-3:] == ["6.65", "-6.70", "-0.05"]


def test_json() -> None:
    plain = json.loads(report([GOOD, at_evse(1, UNPRICED, unassigned_before_mwh=3)], By.EVSE).json())
    assert plain["by"] == "evse"
    assert plain["rows"][1] == {
        "group": "1",
        "sessions": 1,
        "energy_kwh": "13.176543",
        "charging_s": "4800",
        "idle_s": "1800",
        "not_billable_sessions": 0,
        "currency": "EUR",
        "net": "6.65",
        "tax": "1.26",
        "gross": "7.91",
    }
    assert (plain["rows"][0]["currency"], plain["rows"][0]["gross"]) == (None, None)
    assert plain["unassigned"] == [{"evse": 1, "energy_kwh": "0.000003"}]


def test_memory_does_not_grow_with_the_receipts() -> None:
    receipts, kept_bytes = 5_000, 500  # a receipt that was kept would take more

    def many() -> Iterator[Receipt]:
        for at in range(receipts):
            yield changed(tx_id=str(at), unassigned_before_mwh=1)

    tracemalloc.start()
    report(many(), By.TOKEN).csv()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < receipts * kept_bytes / 2
