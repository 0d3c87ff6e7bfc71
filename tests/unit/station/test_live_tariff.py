"""Which live tariff holds: before its time, over restarts, and where nobody knows the time."""

from __future__ import annotations

import pytest

from agent.tariff.parse import content_hash
from tests.unit.station.test_billing_tariffs import (
    CARD,
    HOUR_MS,
    LATER,
    LIVE,
    NOW_MS,
    SOON,
    Ledger,
    by_the_hour,
    chosen,
    name_of,
    text,
)


def test_until_the_time_of_a_live_tariff_the_one_before_goes_on() -> None:
    ledger = Ledger()
    book = ledger.book()
    ledger.live(book, LIVE)
    assert ledger.live(book, text("soon", **SOON)) is None, "nothing changes for those who charge"
    assert by_the_hour(book, 0, 1, 2) == ["live", "live", "soon"] and chosen(book, wall_ms=0) == "live"
    assert [book.newly_live(NOW_MS + hour * HOUR_MS) for hour in (0, 1)] == [None, None]
    assert [name_of(book, book.newly_live(NOW_MS + hour * HOUR_MS)) for hour in (2, 3, 1)] == ["soon", None, "live"], (
        "and back, where the clock was wrong"
    )


def test_a_live_tariff_that_is_replaced_before_its_time_has_never_been() -> None:
    ledger = Ledger()
    book = ledger.book()
    for tariff in (LIVE, text("soon", **SOON), text("later", **LATER)):
        ledger.live(book, tariff)
    assert by_the_hour(book, 0, 2, 3) == ["live", "live", "later"]


def test_the_live_tariff_before_one_of_the_future_outlives_a_restart() -> None:
    """Its file says it no more."""
    ledger = Ledger()
    book = ledger.book()
    ledger.live(book, LIVE)
    assert ledger.settle(book, NOW_MS) and not ledger.settle(book, NOW_MS)
    ledger.live(book, text("soon", **SOON))
    assert ledger.settle(book, NOW_MS, "U") and not ledger.settle(book, NOW_MS)
    restarted = ledger.book()
    assert content_hash(LIVE) in restarted.in_use(), "no cut of the ledger takes it"
    assert ledger.live(restarted, text("soon", **SOON)) == "live"
    assert by_the_hour(restarted, 0, 2) == ["live", "soon"] and not ledger.settle(restarted, NOW_MS)


@pytest.mark.parametrize("since", ["2026-12-01T09:00:00Z", "2026-10-31T00:00:00Z"])
@pytest.mark.parametrize("alone", [True, False])
def test_the_live_tariff_that_holds_goes_on_where_its_file_is_replaced_while_no_process_runs(
    since: str, alone: bool
) -> None:
    ledger = Ledger()
    book = ledger.book()
    if not alone:
        ledger.live(book, LIVE)
    ledger.live(book, text("today", validFrom=since))
    assert ledger.settle(book, NOW_MS)
    restarted = ledger.book()
    assert ledger.live(restarted, text("soon", **SOON)) == "today"
    assert by_the_hour(restarted, 0, 2) == ["today", "soon"] and chosen(restarted, wall_ms=0) == "today"
    assert ledger.settle(restarted, NOW_MS)
    again = ledger.book()
    assert ledger.live(again, text("later", **LATER)) == "today"
    assert by_the_hour(again, 0, 2, 3) == ["today", "today", "later"], "one replaced before its time has never been"


def test_one_that_was_replaced_before_its_time_does_not_come_with_a_restart() -> None:
    ledger = Ledger()
    book = ledger.book()
    ledger.live(book, text("soon", **SOON))
    assert ledger.settle(book, NOW_MS)
    restarted = ledger.book()
    ledger.live(restarted, text("later", **LATER))
    assert by_the_hour(restarted, 0, 2, 3) == ["site", "site", "later"]


def test_what_held_before_one_of_the_future_is_not_forgotten_while_nobody_knows_the_time() -> None:
    ledger = Ledger()
    book = ledger.book()
    for tariff in (text("today", validFrom="2026-12-01T09:00:00Z"), text("soon", **SOON)):
        ledger.live(book, tariff)
    ledger.settle(book, NOW_MS, "I")
    for tariff in (text("soon", **SOON), text("later", **LATER)):
        dark = ledger.book()
        assert ledger.live(dark, tariff, wall_ms=0) is None and chosen(dark, wall_ms=0) == "site"
        ledger.settle(dark, 0, "U")
        assert by_the_hour(dark, 0, 1) == ["today", "today"]


def test_a_live_tariff_of_each_quarter_costs_one_change_each_and_is_forgotten_with_the_next_but_one() -> None:
    ledger = Ledger()
    book = ledger.book()
    for number in range(20):
        ledger.live(book, text(f"quarter-{number}"))
        assert len(book.settle(NOW_MS, "S")) == 1 and book.settle(NOW_MS, "S") == []
    assert len(book.in_use()) == 3, "the site's, the one before and this"


def test_where_nobody_knows_the_time_and_none_surely_holds_the_live_tariff_goes_by_the_machines_clock() -> None:
    """Its file is written by the same clock."""
    ledger = Ledger()
    book = ledger.book(site="")

    def starts() -> str | None:
        return name_of(book, book.for_start(1, CARD, None, 0, NOW_MS))

    assert ledger.live(book, text("quarter", validFrom="2026-12-01T09:59:00Z"), 0, NOW_MS) == starts() == "quarter"
    assert ledger.live(book, text("soon", **SOON), 0, NOW_MS) is None and starts() == "quarter", "it still waits"
    assert name_of(book, book.newly_live(0, shown_ms=NOW_MS + 2 * HOUR_MS)) == "soon"
    assert ledger.live(book, LIVE, 0, NOW_MS) == "live"
    assert ledger.live(book, text("next", validFrom="2026-12-01T09:59:00Z"), 0, NOW_MS) is None
    assert starts() == "live", "one surely holds"


def test_no_other_tariff_of_a_date_goes_by_a_clock_that_nobody_vouches_for() -> None:
    book = Ledger().book(site=text("next", **SOON))
    assert book.for_start(1, CARD, None, 0, NOW_MS + 2 * HOUR_MS) is None
