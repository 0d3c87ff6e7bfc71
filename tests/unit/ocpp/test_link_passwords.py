"""Which password the next attempt shows (A01, field fault 14)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.ocpp.link_passwords import KNOWN_MAX, Passwords

FACTORY, OLD, NEW, WRONG = b"factory", b"old", b"new", b"wrong"


def test_without_any_there_is_none() -> None:
    passwords = Passwords()
    passwords.refused()
    passwords.worked()
    assert passwords.choose(None, None) is None


def test_a_good_new_one_replaces_the_old_one_for_good() -> None:
    passwords = Passwords()
    assert passwords.choose(OLD, FACTORY) == OLD
    passwords.worked()
    assert passwords.choose(NEW, FACTORY) == NEW
    passwords.worked()
    for _ in range(3):
        passwords.refused()
        assert passwords.choose(NEW, FACTORY) == NEW, "the old one has had its day"


def test_a_bad_new_one_is_left_for_the_old_one_which_stays() -> None:
    passwords = Passwords()
    passwords.choose(OLD, FACTORY)
    passwords.worked()
    assert passwords.choose(WRONG, FACTORY) == WRONG
    passwords.refused()
    assert passwords.choose(WRONG, FACTORY) == OLD
    passwords.worked()
    assert passwords.choose(WRONG, FACTORY) == OLD, "a reconnect goes on with what worked"
    passwords.refused()  # the CSMS knows it after all
    assert passwords.choose(WRONG, FACTORY) in (FACTORY, WRONG)
    passwords.refused()
    assert passwords.choose(WRONG, FACTORY) in (FACTORY, WRONG)


def test_after_a_restart_the_one_of_the_factory_is_the_way_back() -> None:
    passwords = Passwords()
    assert passwords.choose(WRONG, FACTORY) == WRONG
    passwords.refused()
    assert passwords.choose(WRONG, FACTORY) == FACTORY


@given(st.lists(st.sampled_from([b"1", b"2", b"3", b"4", b"worked", b"refused"])), st.sampled_from([b"1", b"2"]))
def test_whatever_happens_the_last_that_worked_comes_round_again(steps: list[bytes], good: bytes) -> None:
    """Only ``good`` works, whatever the CSMS sets; there are never more than a few to try."""
    passwords = Passwords()
    wanted = good
    assert passwords.choose(wanted, FACTORY) == good
    passwords.worked()
    for step in steps:
        if step not in (b"worked", b"refused"):
            wanted = step  # it says so over the link, so the link is up with the good one before
            _until_good(passwords, wanted, good)
        elif passwords.choose(wanted, FACTORY) == good:
            passwords.worked()
        else:
            passwords.refused()
    _until_good(passwords, wanted, good)


def _until_good(passwords: Passwords, wanted: bytes, good: bytes) -> None:
    for _ in range(KNOWN_MAX):
        if passwords.choose(wanted, FACTORY) == good:
            passwords.worked()
            return
        passwords.refused()
    raise AssertionError("locked out")
