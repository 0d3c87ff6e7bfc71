"""Start decisions, one table: checklist rows 16-AUTH-01 to 08, 15 and use cases C01, C02, C10, C12 to C16."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.auth.cache import TokenCache
from agent.auth.policy import Accept, AskCsms, AuthSettings, Decision, Knowledge, Refuse, Source
from agent.auth.start import decide_start, start_answered
from agent.auth.token import Entry, WallTime
from agent.core.facts import Token

NOW_MS = 1_800_000_000_000
NOW = WallTime(NOW_MS, trusted=True)
DOUBTFUL = WallTime(NOW_MS, trusted=False)
CARD = Token("04AABBCC", "ISO14443")
GOOD = Entry("Accepted", group="G1", token_type="ISO14443")
BLOCKED = Entry("Blocked", token_type="ISO14443")
PAST = replace(GOOD, expires_wall_ms=NOW_MS - 1)
FUTURE = replace(GOOD, expires_wall_ms=NOW_MS + 1)


@dataclass(frozen=True)
class Case:
    name: str
    expected: Decision
    online: bool = True
    listed: Entry | None = None
    cached: Entry | None = None
    site: Entry | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    token: Token = CARD
    now: WallTime = NOW


PRE = {"local_pre_authorize": True}
ANY_OFFLINE = {"offline_unknown": True}
FROM_LIST = Accept(Source.LIST, "G1")
FROM_CACHE = Accept(Source.CACHE, "G1")
BUTTON = Token("", "NoAuthorization")

CASES = (
    Case("C02 start button needs no check", Accept(Source.NOT_NEEDED), token=BUTTON, online=False),
    Case("16-AUTH-11 empty id", Refuse("Invalid", Source.POLICY), token=Token("")),
    Case("16-AUTH-11 20 fit in 1.6", AskCsms(), token=Token("A" * 20), settings={"max_id_length": 20}),
    Case(
        "16-AUTH-11 21 do not", Refuse("Invalid", Source.POLICY), token=Token("A" * 21), settings={"max_id_length": 20}
    ),
    Case("16-AUTH-01 unknown online asks", AskCsms()),
    Case("16-AUTH-02 list beats cache", FROM_LIST, listed=GOOD, cached=BLOCKED, settings=PRE),
    Case("16-AUTH-02 list beats cache, refusing", AskCsms(), listed=BLOCKED, cached=GOOD, settings=PRE),
    Case("16-AUTH-02 C13 the same offline", Refuse("Blocked", Source.LIST), listed=BLOCKED, cached=GOOD, online=False),
    Case("16-AUTH-03 list starts at once", FROM_LIST, listed=GOOD, settings=PRE),
    Case("16-AUTH-03 C12 cache starts at once", FROM_CACHE, cached=GOOD, settings=PRE),
    Case("16-AUTH-04 without pre-authorize ask", AskCsms(), listed=GOOD, cached=GOOD),
    Case("16-AUTH-04 bad ones too", AskCsms(), listed=BLOCKED, settings={"list_disable_post_authorize": True}),
    Case("16-AUTH-05 C12 bad in cache asks", AskCsms(), cached=BLOCKED, settings=PRE),
    Case(
        "C12 DisablePostAuthorize",
        Refuse("Blocked", Source.CACHE),
        cached=BLOCKED,
        settings={**PRE, "cache_disable_post_authorize": True},
    ),
    Case(
        "C14 DisablePostAuthorize of the list",
        Refuse("Blocked", Source.LIST),
        listed=BLOCKED,
        settings={**PRE, "list_disable_post_authorize": True},
    ),
    Case(
        "C14 that of the cache does not count",
        AskCsms(),
        listed=BLOCKED,
        settings={**PRE, "cache_disable_post_authorize": True},
    ),
    Case("16-AUTH-06 C13 offline list", FROM_LIST, listed=GOOD, online=False),
    Case("16-AUTH-06 offline cache", FROM_CACHE, cached=GOOD, online=False),
    Case(
        "16-AUTH-06 not with LocalAuthorizeOffline off",
        Refuse("Unknown", Source.POLICY),
        listed=GOOD,
        cached=GOOD,
        online=False,
        settings={"local_authorize_offline": False},
    ),
    Case("16-AUTH-07 offline unknown", Refuse("Unknown", Source.POLICY), online=False),
    Case("16-AUTH-07 C15 allowed", Accept(Source.OFFLINE_UNKNOWN), online=False, settings=ANY_OFFLINE),
    Case("16-AUTH-07 listed bad", Refuse("Blocked", Source.LIST), listed=BLOCKED, online=False, settings=ANY_OFFLINE),
    Case("16-AUTH-07 listed expired", Refuse("Expired", Source.LIST), listed=PAST, online=False, settings=ANY_OFFLINE),
    Case(
        "16-AUTH-07 known bad even where lists are not used",
        Refuse("Blocked", Source.LIST),
        listed=BLOCKED,
        online=False,
        settings={**ANY_OFFLINE, "local_authorize_offline": False},
    ),
    Case("16-AUTH-07 not yet expired", FROM_LIST, listed=FUTURE, online=False),
    Case("16-AUTH-08 expired in cache", Refuse("Expired", Source.CACHE), cached=PAST, online=False),
    Case("16-AUTH-08 expired online asks", AskCsms(), cached=PAST, settings=PRE),
    Case("16-AUTH-15 Blocked", Refuse("Blocked", Source.CACHE), cached=Entry("Blocked"), online=False),
    Case("21-GEN unknown status refuses", Refuse("Martian", Source.CACHE), cached=Entry("Martian"), online=False),
    Case(
        "16-LL-04 list disabled",
        Refuse("Unknown", Source.POLICY),
        listed=GOOD,
        online=False,
        settings={"list_enabled": False},
    ),
    Case(
        "C10 cache disabled",
        Refuse("Unknown", Source.POLICY),
        cached=GOOD,
        online=False,
        settings={"cache_enabled": False},
    ),
    Case(
        "C01 another type is another token",
        Refuse("Unknown", Source.POLICY),
        listed=replace(GOOD, token_type="Central"),
        online=False,
    ),
    Case("C01 case does not count", FROM_LIST, listed=GOOD, online=False, token=Token("04aabbcc", "ISO14443")),
    Case("16-AUTH-11 1.6 knows no type", FROM_LIST, listed=replace(GOOD, token_type=""), online=False),
    Case(
        "C16 master pass never starts",
        Refuse("Invalid", Source.MASTER_PASS),
        listed=GOOD,
        settings={**PRE, "master_pass_group": "g1"},
    ),
    Case(
        "C16 nor offline",
        Refuse("Invalid", Source.MASTER_PASS),
        cached=GOOD,
        online=False,
        settings={"master_pass_group": "G1"},
    ),
    Case("site list holds online", Accept(Source.SITE, "G1"), site=GOOD, cached=BLOCKED),
    Case(
        "site list holds offline",
        Accept(Source.SITE, "G1"),
        site=GOOD,
        online=False,
        settings={"local_authorize_offline": False, "list_enabled": False},
    ),
    Case("site entry expired", Refuse("Unknown", Source.POLICY), site=PAST, online=False),
    Case("no clock: maybe expired asks", AskCsms(), listed=FUTURE, settings=PRE, now=DOUBTFUL),
    Case("no clock: maybe expired serves offline", FROM_LIST, listed=FUTURE, online=False, now=DOUBTFUL),
    Case("no clock: surely expired refuses", Refuse("Expired", Source.LIST), listed=PAST, online=False, now=DOUBTFUL),
)


def knowledge(case: Case) -> Knowledge:
    cache = TokenCache(10)
    if case.cached is not None:
        cache.learn(CARD, case.cached, case.now)
    return Knowledge(
        settings=AuthSettings(**case.settings),
        cache=cache,
        now=case.now,
        online=case.online,
        local_list={} if case.listed is None else {"04aabbcc": case.listed},
        site={} if case.site is None else {"04aabbcc": case.site},
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_start(case: Case) -> None:
    assert decide_start(case.token, knowledge(case)) == case.expected


@pytest.mark.parametrize("status", ["Blocked", "ConcurrentTx", "Expired", "Invalid", "NoCredit", "Unknown", "Martian"])
def test_16_auth_15_no_energy_for_any_other_answer(status: str) -> None:
    assert start_answered(Entry(status, "G1"), AuthSettings()) == Refuse(status, Source.CSMS)


def test_the_answer_of_the_csms_is_kept_with_its_group() -> None:
    assert start_answered(GOOD, AuthSettings()) == Accept(Source.CSMS, "G1")


def test_c16_the_csms_cannot_start_a_master_pass_either() -> None:
    assert start_answered(GOOD, AuthSettings(master_pass_group="G1")) == Refuse("Invalid", Source.MASTER_PASS)
