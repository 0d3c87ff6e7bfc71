"""The authorization cache: 16-AUTH-02, 08; C10."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.auth.cache import TokenCache
from agent.auth.token import Entry, WallTime
from agent.core.facts import Token

GOOD = Entry("Accepted", "G", None, "ISO14443")
BAD = Entry("Blocked", None, None, "ISO14443")


def at(ms: int, trusted: bool = True) -> WallTime:
    return WallTime(ms, trusted)


def card(number: int) -> Token:
    return Token(f"CARD{number}")


def held(cache: TokenCache) -> list[str]:
    return [row["id"] for row in cache.dump()]


def test_16_auth_08_learns_accepted_and_refused_alike() -> None:
    cache = TokenCache(5)
    assert cache.learn(card(1), GOOD, at(1)) and cache.learn(card(2), BAD, at(1))
    assert cache.lookup(Token("card1"), at(2), 0) == GOOD
    assert cache.lookup(card(2), at(2), 0) == BAD


def test_a_token_in_use_elsewhere_is_none_the_worse_for_it() -> None:
    cache = TokenCache(5)
    cache.learn(card(1), GOOD, at(1))
    assert not cache.learn(card(1), Entry("ConcurrentTx"), at(2))
    assert cache.lookup(card(1), at(3), 0) == GOOD


def test_16_auth_02_what_stands_in_the_local_list_is_not_cached() -> None:
    cache = TokenCache(5)
    assert not cache.learn(card(1), GOOD, at(1), in_local_list=True)
    cache.learn(card(2), GOOD, at(1))
    cache.forget(["card2"])
    assert len(cache) == 0


@pytest.mark.parametrize("token", [Token("", "NoAuthorization"), Token(""), Token("A" * 256), Token("\u0390" * 86)])
def test_what_cannot_be_a_token_is_not_cached(token: Token) -> None:
    cache = TokenCache(5)
    assert not cache.learn(token, GOOD, at(1))
    assert len(cache) == 0


@pytest.mark.parametrize("entry", [Entry("A" * 256), Entry("Accepted", "G" * 256)])
def test_an_entry_longer_than_any_ocpp_version_has_is_not_cached(entry: Entry) -> None:
    cache = TokenCache(5)
    assert not cache.learn(card(1), entry, at(1))
    assert len(cache) == 0


def test_16_auth_08_full_drops_refused_then_expired_then_oldest() -> None:
    cache = TokenCache(3)
    cache.learn(card(1), GOOD, at(1))
    cache.learn(card(2), Entry("Accepted", expires_wall_ms=5), at(2))
    cache.learn(card(3), BAD, at(3))
    cache.learn(card(4), GOOD, at(4))
    assert held(cache) == ["card1", "card2", "card4"]
    cache.learn(card(5), GOOD, at(6))
    assert held(cache) == ["card1", "card4", "card5"]
    cache.learn(card(4), GOOD, at(7))  # known: nothing has to go, and it is the newest now
    assert held(cache) == ["card1", "card5", "card4"]


def test_c10_life_time() -> None:
    cache = TokenCache(5)
    cache.learn(card(1), GOOD, at(1_000))
    assert cache.lookup(card(1), at(11_000), 10) == GOOD
    assert cache.lookup(card(1), at(11_001), 10) is None
    assert cache.lookup(card(1), at(10**15), 0) == GOOD


def test_c10_the_age_of_what_was_learned_without_a_clock_is_unknown() -> None:
    cache = TokenCache(5)
    cache.learn(card(1), GOOD, at(1_000, trusted=False))
    assert cache.lookup(card(1), at(10**15), 10) == GOOD


def test_c01_another_type_is_not_found() -> None:
    cache = TokenCache(5)
    cache.learn(card(1), GOOD, at(1))
    assert cache.lookup(Token("CARD1", "Central"), at(1), 0) is None
    assert cache.lookup(Token("CARD1", ""), at(1), 0) == GOOD  # from a 1.6 CSMS


def test_16_auth_08_survives_a_restart() -> None:
    cache = TokenCache(5)
    cache.learn(card(1), Entry("Accepted", "G", 99, "ISO14443"), at(1))
    cache.learn(card(2), BAD, at(2, trusted=False))
    again = TokenCache.load(5, json.loads(json.dumps(cache.dump())))
    assert again.dump() == cache.dump()
    assert TokenCache.load(1, cache.dump()).dump() == cache.dump()[1:]


json_values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
names = st.sampled_from(["id", "type", "status", "group", "expires_wall_ms", "learned_wall_ms", "other"])


@given(st.lists(st.dictionaries(names, json_values), max_size=6))
def test_damaged_rows_never_stop_a_station(rows: list[dict[str, Any]]) -> None:
    cache = TokenCache.load(3, rows)
    assert len(cache) <= 3
    assert TokenCache.load(3, cache.dump()).dump() == cache.dump()


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=40), st.integers(1, 4))
def test_the_bound_holds_and_the_newest_is_always_there(learned: list[tuple[int, bool]], capacity: int) -> None:
    cache = TokenCache(capacity)
    for ms, (number, good) in enumerate(learned):
        cache.learn(card(number), GOOD if good else BAD, at(ms))
        assert len(cache) <= capacity
        assert cache.lookup(card(number), at(ms), 0) == (GOOD if good else BAD)
