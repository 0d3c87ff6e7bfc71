"""Which tariff a transaction begins with, what the CSMS may install, and what a restart remembers of it.

I07 to I09: default tariffs per EVSE and with a time from which they hold, told and cleared."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.config.money import Assignment, PriceConfig
from agent.core.facts import TariffFact, Token
from agent.station.tariffs import DEFAULTS_MAX, PARSED_MAX, TariffBook, canonical_text
from agent.tariff.parse import content_hash
from agent.tariff.problem import TariffError

CARD = Token("04AABB")
NOW_MS = 1_796_119_200_000
YEAR_MS = 365 * 86_400_000


def text(tariff_id: str, price: float = 0.5, **more: Any) -> str:
    plain = {"tariffId": tariff_id, "currency": "EUR", "energy": {"prices": [{"priceKwh": price}]}}
    return json.dumps(plain | more)


SITE, LIVE, HOUSE, ALL, ONE = (text(name) for name in ("site", "live", "house", "all", "one"))


class Ledger:
    """Where the texts of tariffs are."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self.state: dict[str, str] = {}

    def book(self, *assign: Assignment, site: str = SITE, has_csms: bool = True, has_zone: bool = True) -> TariffBook:
        config = PriceConfig(tariff=Path("site") if site else None, assign=assign)
        find, source_of = self.texts.get, self.sources.get
        book = TariffBook(config, [1, 2], find, source_of, self.state, has_csms=has_csms, has_zone=has_zone)
        self.keep(book.read_site({"site": site, "house": HOUSE}.__getitem__))
        return book

    def keep(self, facts: list[TariffFact]) -> None:
        for fact in facts:
            self.texts[fact.content_hash] = canonical_text(fact.text).decode()
            self.sources[fact.content_hash] = fact.source

    def live(self, book: TariffBook, tariff: str, wall_ms: int = NOW_MS, shown_ms: int = 0) -> str | None:
        """The live tariff's file now says this; id of the tariff that running transactions go by, where it changes."""
        content, facts = book.learn_live(tariff)
        self.keep(facts)
        return name_of(book, book.newly_live(wall_ms, content, shown_ms))

    def settle(self, book: TariffBook, wall_ms: int, time_status: str = "S") -> bool:
        """After an event. Whether there was something to keep."""
        changes = book.settle(wall_ms, time_status)
        self.state |= {change.key: change.value for change in changes}
        return bool(changes)

    def set_default(self, book: TariffBook, evse: int, tariff: str) -> str:
        status, facts, changes = book.set_default(evse, tariff, NOW_MS)
        self.keep(facts)
        self.state |= {change.key: change.value for change in changes}
        return status


def chosen(
    book: TariffBook, evse: int = 1, token: Token = CARD, group: str | None = None, wall_ms: int = NOW_MS
) -> str:
    return name_of(book, book.for_start(evse, token, group, wall_ms)) or "none"


def name_of(book: TariffBook, content: str | None) -> str | None:
    tariff = None if content is None else book.tariff(content)
    return None if tariff is None else tariff.tariff_id


# ------------------------------------------------------------------------------------------ precedence


def test_the_nearest_tariff_wins() -> None:
    """Order: the site's for a token, the CSMS's of the EVSE, of all EVSEs, the live one, the site's."""
    ledger = Ledger()
    book = ledger.book(Assignment(token="04aabb", evse=2, tariff=Path("house")))
    assert chosen(book) == "site"
    assert ledger.live(book, LIVE) == chosen(book) == "live" and book.follows_live(content_hash(LIVE))
    assert ledger.set_default(book, 0, ALL) == "Accepted" and chosen(book) == "all"
    assert ledger.set_default(book, 1, ONE) == "Accepted" and chosen(book) == "one"
    assert (chosen(book, 2), chosen(book, 2, Token("OTHER"))) == ("house", "all")
    assert not book.follows_live(content_hash(ONE)) and not book.follows_live(content_hash(HOUSE))


def test_no_tariff_is_no_tariff() -> None:
    assert chosen(Ledger().book(site="")) == "none"


@pytest.mark.parametrize(
    "who, fits",
    [
        ((1, CARD, None), True),
        ((2, CARD, None), False),
        ((1, Token("04ccdd"), None), False),
        ((1, Token("04ccdd"), "family"), False),
    ],
)
def test_an_assignment_fits_in_all_that_it_says(who: tuple[int, Token, str | None], fits: bool) -> None:
    book = Ledger().book(Assignment(token="04AABB", evse=1, tariff=Path("house")))
    assert (chosen(book, *who) == "house") is fits


def test_a_group_has_its_tariff_and_a_token_its_limits() -> None:
    limits = Assignment(token="04aabb", max_cost=Decimal("20.00"))
    book = Ledger().book(Assignment(group="family", tariff=Path("house")), limits)
    assert chosen(book, group="family") == "house" and chosen(book) == "site"
    assert chosen(book, group="Family") == "house" and chosen(book, group="") == "site", "as 16-AUTH-09 and -11 compare"
    assert book.limits_for(1, CARD, "family") is limits and book.limits_for(1, Token("X"), None) is None


# ------------------------------------------------------------------------------- before its time

HOUR_MS = 3_600_000
SOON: dict[str, Any] = {"validFrom": "2026-12-01T12:00:00Z"}  # in two hours
LATER: dict[str, Any] = {"validFrom": "2026-12-01T13:00:00Z"}


def by_the_hour(book: TariffBook, *hours: int) -> list[str]:
    return [chosen(book, wall_ms=NOW_MS + hour * HOUR_MS) for hour in hours]


def test_a_tariff_of_the_site_prices_nothing_before_its_time() -> None:
    """Instead the next in order counts; with no clock nobody can say that its time has come."""
    ledger = Ledger()
    book = ledger.book(site=text("next", **SOON))
    assert by_the_hour(book, 0, 1, 2) == ["none", "none", "next"] and chosen(book, wall_ms=0) == "none"
    older = ledger.book(site=text("older", validFrom="2026-10-31T00:00:00Z"))
    assert chosen(older, wall_ms=0) == "older", "than this software: that time has come, whatever the clock says"
    ledger.live(book, LIVE)
    assert by_the_hour(book, 0, 2) == ["live", "live"]


def test_a_tariff_of_a_group_prices_nothing_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "HOUSE", text("house", **SOON))
    book = Ledger().book(Assignment(token="04aabb", tariff=Path("house")))
    assert by_the_hour(book, 1, 2) == ["site", "house"]


@pytest.mark.parametrize(("has_csms", "status", "kept"), [(True, "I", False), (True, "S", True), (False, "I", True)])
def test_what_has_been_in_force_is_so_without_a_clock(has_csms: bool, status: str, kept: bool) -> None:
    ledger = Ledger()
    book = ledger.book(has_csms=has_csms, site=text("next", **SOON))
    assert not ledger.settle(book, NOW_MS + HOUR_MS, status)
    assert ledger.settle(book, NOW_MS + 2 * HOUR_MS, status) is kept
    assert chosen(ledger.book(has_csms=has_csms, site=text("next", **SOON)), wall_ms=0) == ("next" if kept else "none")


def test_a_running_transaction_is_given_no_tariff_of_the_future() -> None:
    book = Ledger().book()
    for wall_ms in (0, NOW_MS):
        with pytest.raises(TariffError, match="validFrom"):
            book.learn(text("soon", **SOON), wall_ms)
    assert book.learn(text("soon", **SOON), NOW_MS + 2 * HOUR_MS)[1]


@pytest.mark.parametrize(("behind_ms", "taken"), [(200, True), (60_000, True), (60_001, False)])
def test_a_change_from_now_on_holds_where_our_clock_is_a_little_behind_the_csmss(behind_ms: int, taken: bool) -> None:
    book, now = Ledger().book(), text("from-now-on", **SOON)
    if taken:
        assert book.learn(now, NOW_MS + 2 * HOUR_MS - behind_ms)[1]
    else:
        with pytest.raises(TariffError, match="validFrom"):
            book.learn(now, NOW_MS + 2 * HOUR_MS - behind_ms)


# --------------------------------------------------------------------------- where nobody says what


def test_where_no_csms_is_configured_the_defaults_of_one_that_was_price_nothing() -> None:
    """They are not lost: it may come back."""
    ledger = Ledger()
    book = ledger.book()
    ledger.set_default(book, 0, ALL)
    ledger.set_default(book, 1, ONE)
    alone = ledger.book(has_csms=False)
    assert (chosen(alone, 1), chosen(alone, 2)) == ("site", "site")
    assert chosen(ledger.book()) == "one"
    results, changes = alone.clear((), None)
    assert results == [("all", "Accepted"), ("one", "Accepted")]
    ledger.state |= {change.key: change.value for change in changes}
    assert chosen(ledger.book()) == "site"


@pytest.mark.parametrize("how", [{"startTimeOfDay": "22:00"}, {"dayOfWeek": ["Monday"]}, {"validToDate": "2027-01-01"}])
def test_hours_and_days_of_no_zone_are_refused(how: dict[str, Any]) -> None:
    night = text("night", energy={"prices": [{"priceKwh": 0.2, "conditions": how}, {"priceKwh": 0.5}]})
    ledger = Ledger()
    book = ledger.book(has_zone=False)
    for learn in (book.learn_live, lambda it: book.learn(it, NOW_MS), lambda it: book.set_default(0, it, NOW_MS)):
        with pytest.raises(TariffError, match="time_zone"):
            learn(night)
    assert chosen(book) == "site"
    assert ledger.set_default(book, 0, ALL) == "Accepted", "what goes by no hours goes everywhere"
    assert ledger.set_default(ledger.book(), 0, night) == "Accepted"


# --------------------------------------------------------------------------------------- what is set


def test_a_default_of_the_future_replaces_the_present_one_by_itself() -> None:
    ledger = Ledger()
    book = ledger.book()
    assert ledger.set_default(book, 0, ALL) == "Accepted"
    later = text("later", validFrom="2026-12-01T12:00:00Z")
    assert ledger.set_default(book, 0, later) == "Accepted"
    assert [chosen(book, wall_ms=NOW_MS + hours * 3_600_000) for hours in (0, 1, 2, 3)] == [
        "all",
        "all",
        "later",
        "later",
    ]
    assert [(each.tariff_id, each.from_wall_ms is None) for each in book.assignments(0)] == [
        ("all", True),
        ("later", False),
    ]
    again = text("again")
    assert ledger.set_default(book, 0, again) == "Accepted", "it must not remove what becomes valid later"
    assert [chosen(book, wall_ms=NOW_MS + hours * 3_600_000) for hours in (0, 2)] == ["again", "later"]


def test_a_default_that_was_valid_once_is_so_whatever_the_clock_says() -> None:
    """After a power cut without a clock it is 1970: the default that was in force must not be of the future again."""
    ledger = Ledger()
    book = ledger.book()
    ledger.set_default(book, 0, ALL)
    ledger.set_default(book, 0, text("noon", validFrom="2026-12-01T12:00:00Z"))
    ledger.set_default(book, 1, text("night", validFrom="2026-12-02T00:00:00Z"))
    assert book.settle(NOW_MS, "S") == [] and chosen(book, wall_ms=0) == "all"
    [change] = book.settle(NOW_MS + 2 * 3_600_000, "S")
    ledger.state[change.key] = change.value
    restarted = ledger.book()
    assert (chosen(restarted, 2, wall_ms=0), chosen(restarted, 1, wall_ms=0)) == ("noon", "noon")
    assert chosen(restarted, 1, wall_ms=NOW_MS + 24 * 3_600_000) == "night"
    dates = {each.tariff_id: each.from_wall_ms for each in restarted.assignments(0)}
    assert dates == {"noon": NOW_MS + 2 * 3_600_000, "night": NOW_MS + 14 * 3_600_000}, "what it replaced is not told"
    assert restarted.settle(NOW_MS + 3 * 3_600_000, "S") == []


@pytest.mark.parametrize("restart", [False, True])
def test_a_time_that_was_wrong_makes_no_default_valid_for_good(restart: bool) -> None:
    """The CSMS tells a time years ahead, and a second later the right one."""
    ledger = Ledger()
    book = ledger.book()
    ledger.set_default(book, 0, ALL)
    ledger.set_default(book, 0, text("later", validFrom="2027-12-01T12:00:00Z"))
    ledger.set_default(book, 2, ONE)
    for wall_ms, expected in ((NOW_MS + 3 * YEAR_MS, ["later"]), (NOW_MS, ["all", "later"])):
        ledger.state |= {change.key: change.value for change in book.settle(wall_ms, "S")}
        book = ledger.book() if restart else book
        assert (chosen(book, wall_ms=wall_ms), chosen(book, wall_ms=0)) == (expected[0], expected[0])
        ledger.state |= {change.key: change.value for change in book.clear((), 2)[1]}
        assert [each.tariff_id for each in book.assignments(0)] == expected
    ledger.set_default(book, 0, text("soon", validFrom="2027-01-01T00:00:00Z"))
    assert chosen(book) == "all", "nothing is left of the time that was wrong"


def test_a_wrong_time_that_made_nothing_valid_leaves_no_trace_either() -> None:
    ledger = Ledger()
    book = ledger.book()
    ledger.set_default(book, 0, ALL)
    ledger.set_default(book, 0, text("past", validFrom="2026-11-01T00:00:00Z"))
    for wall_ms in (NOW_MS + 3 * YEAR_MS, NOW_MS):
        ledger.state |= {change.key: change.value for change in book.settle(wall_ms, "S")}
    ledger.set_default(book, 0, text("later", validFrom="2027-12-01T12:00:00Z"))
    assert (chosen(book), chosen(ledger.book())) == ("past", "past")


def test_what_a_default_has_replaced_does_not_come_back_when_it_is_cleared_or_replaced() -> None:
    for way in ("clear it", "replace it", "replace it without a clock"):
        ledger = Ledger()
        book = ledger.book()
        ledger.set_default(book, 0, ALL)
        ledger.set_default(book, 0, text("past", validFrom="2026-11-01T00:00:00Z"))
        book.settle(NOW_MS, "S")
        if way == "clear it":
            assert book.clear(["all"], None) == ([("all", "NoTariff")], [])
            assert book.clear(["past"], None)[0] == [("past", "Accepted")]
        else:
            book.set_default(0, text("new"), NOW_MS if way == "replace it" else 0)
        left = {chosen(book, wall_ms=wall_ms) for wall_ms in (0, NOW_MS, NOW_MS + YEAR_MS)}
        assert left == {"site" if way == "clear it" else "new"}, way


def test_where_there_are_too_many_the_oldest_of_those_replaced_goes() -> None:
    ledger = Ledger()
    book = ledger.book()
    days = [NOW_MS + day * 86_400_000 for day in range(2 * DEFAULTS_MAX)]
    for day, from_ms in enumerate(days):
        date = datetime.fromtimestamp(from_ms / 1_000, UTC).isoformat()
        assert book.set_default(0, text(f"d{day}", validFrom=date), from_ms - 1)[0] == "Accepted"
        book.settle(from_ms, "S")
    assert len(book.in_use()) == DEFAULTS_MAX + 1, "and the site's"
    assert [each.tariff_id for each in book.assignments(0)] == [f"d{day}"]
    book.settle(days[DEFAULTS_MAX], "S")
    assert chosen(book, wall_ms=days[DEFAULTS_MAX]) == f"d{DEFAULTS_MAX}"


def test_defaults_with_more_in_them_than_is_known_hold() -> None:
    """After a rollback from a newer release (ADR 29)."""
    ledger = Ledger()
    ledger.set_default(ledger.book(), 0, ALL)
    [(key, rows)] = ledger.state.items()
    ledger.state[key] = json.dumps([[*row, "red"] for row in json.loads(rows)])
    assert chosen(ledger.book()) == "all"


def test_one_id_never_stands_for_two_contents_also_after_a_restart() -> None:
    ledger = Ledger()
    book = ledger.book()
    assert ledger.set_default(book, 0, ALL) == "Accepted"
    assert ledger.set_default(book, 0, ALL) == "Accepted", "the same content again"
    assert ledger.set_default(book, 0, text("all", 0.6)) == "DuplicateTariffId"
    restarted = ledger.book()
    assert chosen(restarted) == "all"
    assert ledger.set_default(restarted, 0, text("all", 0.6)) == "DuplicateTariffId"


def test_what_is_no_tariff_or_no_evse_changes_nothing() -> None:
    ledger = Ledger()
    book = ledger.book()
    assert ledger.set_default(book, 3, ALL) == "Rejected"
    with pytest.raises(TariffError):
        book.set_default(0, text("bad", -1), NOW_MS)
    for number in range(DEFAULTS_MAX + 1):
        later = f"2027-01-01T00:{number // 60:02d}:{number % 60:02d}Z"
        status = ledger.set_default(book, 0, text(f"n{number}", validFrom=later))
        assert status == ("Accepted" if number < DEFAULTS_MAX else "Rejected")
    assert chosen(book) == "site"
    refused = text(f"n{DEFAULTS_MAX}", validFrom=later)
    book.clear((), None)
    assert ledger.set_default(book, 0, refused) == "Accepted"
    assert content_hash(refused) in ledger.texts, "it was refused before, and its text never kept"


@pytest.mark.parametrize(
    "ids, evse, results, left",
    [
        ((), None, {("all", "Accepted"), ("one", "Accepted")}, []),
        (("one",), None, {("one", "Accepted")}, ["all"]),
        ((), 1, {("one", "Accepted")}, ["all"]),
        (("all",), 1, {("all", "NoTariff")}, ["all", "one"]),
        (("what",), None, {("what", "NoTariff")}, ["all", "one"]),
    ],
)
def test_clearing(ids: tuple[str, ...], evse: int | None, results: set[tuple[str, str]], left: list[str]) -> None:
    ledger = Ledger()
    book = ledger.book()
    ledger.set_default(book, 0, ALL)
    ledger.set_default(book, 1, ONE)
    found, changes = book.clear(ids, evse)
    assert set(found) == results and bool(changes) is (len(left) < 2)
    assert sorted(each.tariff_id for each in book.assignments(0)) == left
    ledger.state |= {change.key: change.value for change in changes}
    assert sorted(each.tariff_id for each in ledger.book().assignments(0)) == left


def test_assignments_of_one_evse() -> None:
    ledger = Ledger()
    book = ledger.book()
    ledger.set_default(book, 0, ALL)
    ledger.set_default(book, 1, ONE)
    assert [each.tariff_id for each in book.assignments(1)] == ["one"]


def test_only_what_the_site_priced_follows_the_live_tariff() -> None:
    """Also after a restart, and where it is no longer installed."""
    ledger = Ledger()
    book = ledger.book(Assignment(token="04aabb", tariff=Path("house")))
    ledger.live(book, LIVE)
    ledger.set_default(book, 0, ALL)
    content, facts = book.learn(ONE, NOW_MS)
    assert not book.follows_live(content), "its text is not on disk yet"
    ledger.keep(facts)
    book.clear((), None)
    for each in (book, ledger.book()):
        follows = {tariff: each.follows_live(content_hash(tariff)) for tariff in (SITE, LIVE, HOUSE, ALL, ONE)}
        assert follows == {SITE: True, LIVE: True, HOUSE: False, ALL: False, ONE: False}
        assert each.follows_live(None), "nobody priced it yet"


# ------------------------------------------------------------------------------------------- memory


def test_a_tariff_that_the_csms_says_twice_is_one_fact_and_no_cut_takes_it_in_between() -> None:
    ledger = Ledger()
    book = ledger.book()
    content, facts = book.learn(text("told", 0.4), NOW_MS)
    assert len(facts) == 1
    ledger.keep(facts)
    assert content in book.in_use()
    assert book.learn(text("told", 0.4), NOW_MS) == (content, [])


@pytest.mark.parametrize("name", ["spot", "spot-{}"])
def test_a_content_that_comes_back_is_a_fact_again(name: str) -> None:
    """A cut of the ledger may be on its way that removes it, since nobody used it when that began."""
    ledger = Ledger()
    book = ledger.book()
    news = []
    for price in (0.3, 0.4, 0.3, 0.3):
        _, facts = book.learn_live(text(name.format(price), price))
        ledger.keep(facts)
        news.append(len(facts))
    assert news == [1, 1, 1, 0]


def test_a_price_that_follows_a_market_for_years_does_not_fill_the_memory() -> None:
    ledger = Ledger()
    book = ledger.book()
    first = content_hash(text("live-0", 0.0))
    for number in range(PARSED_MAX * 3):
        _, facts = book.learn_live(text(f"live-{number}", number / 1_000))
        ledger.keep(facts)
    assert max(len(book._parsed), len(book._new), len(book._hash_of_id)) <= PARSED_MAX
    old = book.tariff(first)
    assert old is not None and old.tariff_id == "live-0", "the ledger gives it back"
    assert book.tariff(content_hash(SITE)) is not None and book.text(content_hash(SITE)) is not None


def test_a_tariff_whose_text_is_not_on_disk_yet_is_not_forgotten() -> None:
    book = Ledger().book()
    contents = [book.learn(text(f"t{number}"), NOW_MS)[0] for number in range(PARSED_MAX * 2)]
    assert all(book.tariff(content) is not None for content in contents)


def test_a_text_that_is_no_tariff_any_more_is_unknown_and_stops_nobody() -> None:
    ledger = Ledger()
    ledger.texts["ab" * 32] = '{"tariffId":"old","currency":"EUR","newRule":1}'
    assert ledger.book().tariff("ab" * 32) is None
