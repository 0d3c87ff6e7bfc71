"""Stop decisions: 16-AUTH-06, 09, 10; C01, C09, C16."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.auth.cache import TokenCache
from agent.auth.policy import Accept, AskCsms, AuthSettings, Decision, Knowledge, Refuse, Source
from agent.auth.stop import Running, decide_stop, stop_answered
from agent.auth.token import Entry, WallTime
from agent.core.facts import Token

NOW = WallTime(1_800_000_000_000, trusted=True)
MINE = Token("AA01", "ISO14443")
OTHER = Token("BB02", "ISO14443")
BUTTON = Token("", "NoAuthorization")
FAMILY = Entry("Accepted", "family")
RUNNING = Running(MINE, "Family")


def decide(
    token: Token,
    running: Running = RUNNING,
    known: Entry | None = None,
    *,
    online: bool = True,
    settings: AuthSettings | None = None,
) -> Decision:
    listed = {} if known is None else {"bb02": known}
    return decide_stop(token, running, Knowledge(settings or AuthSettings(), TokenCache(1), NOW, online, listed))


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("token", [MINE, Token("aa01", "ISO14443"), Token("AA01", "")])
def test_16_auth_10_the_same_token_stops_unasked(token: Token, online: bool) -> None:
    assert decide(token, online=online) == Accept(Source.SAME_TOKEN, "Family")


def test_c01_the_same_text_of_another_type_is_another_token() -> None:
    assert decide(Token("AA01", "Central"), online=False) == Refuse("Unknown", Source.POLICY)


def test_a_button_stops_what_the_button_started_and_nothing_else() -> None:
    assert decide(BUTTON, Running(BUTTON)) == Accept(Source.SAME_TOKEN)
    assert decide(BUTTON) == Refuse("Invalid", Source.POLICY)
    assert decide(Token("", ""), Running(BUTTON)) == Refuse("Invalid", Source.POLICY)


@pytest.mark.parametrize("online", [True, False])
def test_16_auth_09_c09_a_known_group_stops_unasked(online: bool) -> None:
    assert decide(OTHER, known=FAMILY, online=online) == Accept(Source.SAME_GROUP, "family")


def test_16_auth_06_the_list_is_not_used_offline_unless_allowed() -> None:
    never = AuthSettings(local_authorize_offline=False)
    assert decide(OTHER, known=FAMILY, online=False, settings=never) == Refuse("Invalid", Source.POLICY)


def test_16_auth_09_no_group_is_not_the_same_group() -> None:
    for known, running in ((Entry("Accepted", None), None), (Entry("Accepted", ""), "")):
        assert decide(OTHER, Running(MINE, running), known, online=False) == Refuse("Invalid", Source.POLICY)


def test_16_auth_09_a_group_is_never_compared_with_a_token() -> None:
    # The running token's text equals the other one's group, and the other way round.
    assert decide(OTHER, Running(MINE, None), Entry("Accepted", "AA01"), online=False) == Refuse(
        "Invalid", Source.POLICY
    )
    assert decide(OTHER, Running(MINE, "BB02"), online=False) == Refuse("Unknown", Source.POLICY)


def test_a_refused_or_expired_entry_does_not_stop_by_its_group() -> None:
    for known in (replace(FAMILY, status="Blocked"), replace(FAMILY, expires_wall_ms=1)):
        assert decide(OTHER, known=known) == AskCsms()
        assert decide(OTHER, known=known, online=False) == Refuse("Invalid", Source.POLICY)


@pytest.mark.parametrize("known", [None, Entry("Accepted", "strangers")])
def test_what_is_not_known_to_fit_is_asked_online(known: Entry | None) -> None:
    assert decide(OTHER, known=known) == AskCsms()


def test_c16_master_pass_stops_any_transaction() -> None:
    settings = AuthSettings(master_pass_group="Janitors")
    allowed = Accept(Source.MASTER_PASS, "janitors")
    assert decide(OTHER, known=Entry("Accepted", "janitors"), online=False, settings=settings) == allowed
    assert stop_answered(Entry("Accepted", "janitors"), RUNNING, settings) == allowed


def test_c16_no_master_pass_group_means_no_master_pass() -> None:
    assert stop_answered(Entry("Accepted", ""), RUNNING, AuthSettings()) == Refuse("Invalid", Source.CSMS)


def test_c09_the_csms_may_know_the_group() -> None:
    settings = AuthSettings()
    assert stop_answered(FAMILY, RUNNING, settings) == Accept(Source.SAME_GROUP, "family")
    assert stop_answered(Entry("Accepted", "strangers"), RUNNING, settings) == Refuse("Invalid", Source.CSMS)
    assert stop_answered(replace(FAMILY, status="Blocked"), RUNNING, settings) == Refuse("Blocked", Source.CSMS)


def test_a_free_or_remote_start_without_token_is_stopped_by_nobody_unasked() -> None:
    assert decide(OTHER, Running(None), online=False) == Refuse("Unknown", Source.POLICY)
