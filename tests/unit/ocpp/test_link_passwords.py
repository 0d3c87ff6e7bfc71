"""Which password the next attempt shows (A01, 16-SEC-04, field fault 14)."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.model import KeyEncoding
from agent.ocpp.link_passwords import Passwords, forms_of

FACTORY, OLD, NEW, WRONG = (b"factory",), (b"old",), (b"new",), (b"wrong",)
BYTES, TEXT = b"raw bytes", b"the text"
AT_MOST: Final = 5  # two forms of the wanted one and of the delivered one, and the last that worked


@pytest.mark.parametrize(
    ("text", "encoding", "forms"),
    [
        ("00112233445566778899aabbccddeeFF00112233", KeyEncoding.AUTO, ("bytes", "text")),
        ("00112233445566778899aabbccddeeFF00112233", KeyEncoding.TEXT, ("text",)),
        ("00112233445566778899aabbccddeeFF00112233", KeyEncoding.HEX, ("bytes",)),
        ("00112233445566778899aabbccddeeff0011223", KeyEncoding.AUTO, ("text",)),
        ("00112233445566778899aabbccddeeff0011223x", KeyEncoding.AUTO, ("text",)),
        ("00112233445566778899aabbccddee", KeyEncoding.AUTO, ("text",)),
        ("00112233445566778899aabbccddeeff001122334455", KeyEncoding.AUTO, ("text",)),
        ("00112233445566778899aabbccddeeff", KeyEncoding.HEX, ("bytes",)),
        ("00112233445566778899aabbccddeef", KeyEncoding.HEX, ()),
        ("0011 2233 4455 6677", KeyEncoding.HEX, ()),
        ("a passphrase of words", KeyEncoding.HEX, ()),
        ("\u0660" * 40, KeyEncoding.AUTO, ("text",)),  # digits, but no hex
    ],
)
def test_16_sec_04_forms(text: str, encoding: KeyEncoding, forms: tuple[str, ...]) -> None:
    meant = {"text": lambda: text.encode(), "bytes": lambda: bytes.fromhex(text)}
    expected = tuple(meant[form]() for form in forms)
    assert forms_of(text, encoding, text_first=False) == expected
    assert forms_of(text, encoding, text_first=True) == expected[::-1]


@pytest.mark.parametrize("digits", [32, 34, 36, 38])
@pytest.mark.parametrize("text_first", [False, True])
def test_16_sec_04_fewer_than_forty_digits_are_rather_a_text(digits: int, text_first: bool) -> None:
    text = ("0123456789abcdef" * 3)[:digits]
    assert forms_of(text, KeyEncoding.AUTO, text_first=text_first) == (text.encode(), bytes.fromhex(text))


def test_without_any_there_is_none() -> None:
    passwords = Passwords()
    passwords.refused()
    assert passwords.worked() is None
    assert passwords.choose((), None, ()) is None


def test_a_good_new_one_replaces_the_old_one_for_good() -> None:
    passwords = Passwords()
    assert passwords.choose(OLD, None, FACTORY) == b"old"
    assert passwords.worked() == b"old"
    assert passwords.choose(NEW, b"old", FACTORY) == b"new"
    assert passwords.worked() == b"new"
    for _ in range(3):
        passwords.refused()
        assert passwords.choose(NEW, b"new", FACTORY) == b"new", "the old one has had its day"


def test_a_bad_new_one_is_left_for_the_old_one_which_stays() -> None:
    passwords = Passwords()
    passwords.choose(OLD, None, FACTORY)
    passwords.worked()
    assert passwords.choose(WRONG, b"old", FACTORY) == b"wrong"
    passwords.refused()
    assert passwords.choose(WRONG, b"old", FACTORY) == b"old"
    assert passwords.worked() == b"old", "whatever it was told since it said what it keeps"
    assert passwords.worked() is None, "once is enough"
    passwords.closed()
    assert passwords.choose(WRONG, b"old", FACTORY) == b"old", "a reconnect goes on with what worked"
    passwords.refused()  # the CSMS knows it after all
    assert passwords.choose(WRONG, b"old", FACTORY) == b"factory"
    passwords.refused()
    assert passwords.choose(WRONG, b"old", FACTORY) == b"wrong"


def test_one_that_a_csms_lets_in_to_close_at_once_has_not_worked() -> None:
    passwords = Passwords()
    assert passwords.choose(WRONG, b"old", FACTORY) == b"wrong"
    passwords.closed()
    assert passwords.choose(WRONG, b"old", FACTORY) == b"old"
    assert passwords.worked() == b"old"
    passwords.choose(WRONG, b"old", FACTORY)
    passwords.closed()  # the CSMS knows it after all
    assert passwords.choose(WRONG, b"old", FACTORY) == b"factory"


def test_the_wanted_one_that_has_worked_is_left_for_no_csms_that_flaps() -> None:
    passwords = Passwords()
    passwords.choose((BYTES, TEXT), None, FACTORY)
    passwords.worked()
    for _ in range(3):
        passwords.closed()
        assert passwords.choose((BYTES, TEXT), None, FACTORY) == BYTES


def test_one_that_comes_back_is_remembered_anew() -> None:
    passwords = Passwords()
    for wanted in (OLD, NEW, OLD):  # the station said what it keeps when it was found, and not since
        passwords.choose(wanted, b"old", FACTORY)
        assert passwords.worked() == wanted[0]


def test_after_a_restart_what_the_station_remembers_and_the_one_of_the_factory_are_the_way_back() -> None:
    passwords = Passwords()
    assert passwords.choose(WRONG, b"old", FACTORY) == b"wrong"
    passwords.refused()
    assert passwords.choose(WRONG, b"old", FACTORY) == b"old"
    passwords.refused()
    assert passwords.choose(WRONG, b"old", FACTORY) == b"factory"
    assert passwords.worked() is None, "its file is its memory"


def test_a_file_that_comes_later_is_tried_too() -> None:
    passwords = Passwords()
    assert passwords.choose(WRONG, None, ()) == b"wrong"
    passwords.refused()
    assert passwords.choose(WRONG, None, FACTORY) == b"factory"


def test_of_two_forms_the_one_that_worked_is_shown_first_also_after_a_restart() -> None:
    passwords = Passwords()
    assert passwords.choose((BYTES, TEXT), None, FACTORY) == BYTES
    passwords.refused()
    assert passwords.choose((BYTES, TEXT), None, FACTORY) == TEXT
    assert passwords.worked() == TEXT
    assert passwords.choose((TEXT, BYTES), TEXT, FACTORY) == TEXT, "now it is known which version is spoken"
    assert Passwords().choose((BYTES, TEXT), TEXT, FACTORY) == TEXT


def test_one_that_cannot_be_shown_is_left_out() -> None:
    passwords = Passwords()
    assert passwords.choose((), b"old", FACTORY) == b"old"
    passwords.refused()
    assert passwords.choose((), b"old", FACTORY) == b"factory"


STEPS = st.lists(st.sampled_from(["1", "2", "3", "4", "restart", "lost"]), max_size=30)


@given(STEPS, st.booleans())
def test_whatever_the_csms_sets_the_last_that_worked_comes_round_again(steps: list[str], in_text: bool) -> None:
    """Whatever it says it wants, it only takes the one it has; and the station may restart at any time."""
    passwords, kept, good = Passwords(), None, b"1-text" if in_text else b"1-bytes"
    wanted = (b"1-bytes", b"1-text")
    for step in ["lost", *steps]:
        for _ in range(AT_MOST):
            if passwords.choose(wanted, kept, FACTORY) == good:
                kept = passwords.worked() or kept
                break
            passwords.refused()
        else:
            raise AssertionError("locked out")
        if step == "restart":
            passwords = Passwords()
        elif step != "lost":  # it says so over the link, so the link is up with the good one before
            wanted = (f"{step}-bytes".encode(), f"{step}-text".encode())
