"""Locations from outside: what is understood, what is refused and in which words, what is never told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.firmware.errors import SourceLost
from agent.transfer.location import DEFAULT_PORTS, LOCATION_MAX_CHARS, Location, parse_location

ALL = frozenset(DEFAULT_PORTS)


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("http://h/a", Location("http", "h", 80, "/a"), "http://h/a"),
        ("HTTPS://Example.ORG", Location("https", "example.org", 443, "/"), "https://example.org/"),
        ("https://h:8443/a%20b?t=1", Location("https", "h", 8443, "/a%20b", "t=1"), "https://h:8443/a%20b?..."),
        ("https://h:/a", Location("https", "h", 443, "/a"), "https://h/a"),
        ("https://h/a#part", Location("https", "h", 443, "/a"), "https://h/a"),
        ("https://u%20x:p%3Aw@h/", Location("https", "h", 443, "/", "", "u x", "p:w"), "https://h/"),
        ("http://u@h/", Location("http", "h", 80, "/", "", "u", ""), "http://h/"),
        ("http://[::1]:81/x", Location("http", "::1", 81, "/x"), "http://[::1]:81/x"),
        ("http://10.0.0.1/x", Location("http", "10.0.0.1", 80, "/x"), "http://10.0.0.1/x"),
        ("http://_box.a-b.c_d/x", Location("http", "_box.a-b.c_d", 80, "/x"), "http://_box.a-b.c_d/x"),
        ("ftp://h/d/a%20b", Location("ftp", "h", 21, "d/a b"), "ftp://h/d/a b"),
        ("ftp://h//d", Location("ftp", "h", 21, "/d"), "ftp://h/d"),
        ("ftp://h/%2Fd", Location("ftp", "h", 21, "/d"), "ftp://h/d"),
        ("ftps://u:p@h/d", Location("ftps", "h", 990, "d", "", "u", "p"), "ftps://h/d"),
        ("file:///media/a%20b", Location("file", "", 0, "/media/a b"), "/media/a b"),
        ("file:/media/x", Location("file", "", 0, "/media/x"), "/media/x"),
        ("file://localhost/media/x", Location("file", "", 0, "/media/x"), "/media/x"),
        ("/media/100%/ä", Location("file", "", 0, "/media/100%/ä"), "/media/100%/ä"),
    ],
)
def test_locations_that_are_understood(text: str, expected: Location, shown: str) -> None:
    found = parse_location(text, ALL)
    assert found == expected
    assert str(found) == shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("http://h/" + "a" * LOCATION_MAX_CHARS, "2009 characters, at most 2000"),
        ("http://h/\r\nX: y", "control character U+000D at 9"),
        ("http://h/\x00", "control character U+0000"),
        ("http://h/\x85", "control character U+0085"),
        ("//\x07", "control character U+0007"),
        ("relative/path", "neither with a scheme nor with /; allowed: https, http, ftps, ftp, file"),
        ("://h/", "neither with a scheme"),
        ("sftp://h/a", "sftp is not supported; allowed: https"),
        ("gopher://h/a", "gopher is not supported"),
        ("http://h/a b", "character ' ' at 10 must be percent-encoded"),
        ("http://h/ä", "character 'ä' at 9"),
        ("http://h\\@evil/", "character '\\\\' at 8"),
        ("http://h/%", "% at 9 is not followed"),
        ("http://h/%zz", "% at 9"),
        ("http://h/%0d%0aX", "the path holds an encoded control character"),
        ("http://u%00:p@h/", "the user holds"),
        ("http://u:%0A@h/", "the password holds"),
        ("http://h/%ff", "the path is not UTF-8"),
        ("http:///a", "no host; expected http://host/path"),
        ("http:a", "no host"),
        ("http://u@/a", "no host"),
        ("http://h:0/", "port 0"),
        ("http://h:65536/", "host or port cannot be read"),
        ("http://h:x/", "host or port cannot be read"),
        ("http://[::1/", "host or port cannot be read"),
        ("http://[::g]/", "host or port cannot be read"),
        ("http://[v1.a]/", "host or port cannot be read"),
        ("http://a..b/", "the host is no host name"),
        ("http://.a/", "the host is no host name"),
        ("http://-a/", "the host is no host name"),
        ("http://" + "a" * 64 + "/", "the host is no host name"),
        ("http://" + "a." * 127 + "a/", "the host is no host name"),
        ("http://h%41/", "the host is no host name"),
        ("http://:p@h/", "the user before @"),
        ("http://a%3Ab:p@h/", "the user before @"),
        ("http://a@b@h/", "the user before @"),
        ("ftp://h/", "no file"),
        ("ftp://h/d/", "no file"),
        ("ftp://h/a?b", "a query means nothing to ftp"),
        ("file://h/a", "a file is on this device"),
        ("file:a", "must be absolute"),
        ("file:///a?b", "? and # in a path"),
        ("file:///a#b", "? and # in a path"),
        ("file:///a/%2e%2e/b", "must not hold .."),
        ("/a/../b", "must not hold .."),
    ],
)
def test_locations_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(SourceLost) as refused:
        parse_location(text, ALL)
    assert str(refused.value).startswith("location: ")
    assert why in str(refused.value)
    assert not refused.value.retryable


@pytest.mark.parametrize(
    ("text", "schemes", "why"),
    [
        ("http://h/a", {"https", "ftps"}, "http is not allowed here; allowed: https, ftps"),
        ("/media/x", {"https"}, "file is not allowed here; allowed: https"),
        ("file:///media/x", {"https"}, "file is not allowed here"),
        ("sftp://h/a", {"sftp", "https"}, "sftp is not supported; allowed: https"),
        ("http://h/a", set[str](), "allowed: nothing"),
    ],
)
def test_only_schemes_that_are_allowed(text: str, schemes: set[str], why: str) -> None:
    with pytest.raises(SourceLost, match=why):
        parse_location(text, schemes)


@pytest.mark.parametrize(
    "text",
    ["http://u:secret@h:99999/", "http://u:secret@[/", "https://u:secret@h/?secret", "ftp://u:secret@h/", "x:secret"],
)
def test_secrets_are_never_told(text: str) -> None:
    try:
        told = repr(parse_location(text, ALL)) + str(parse_location(text, ALL))
    except SourceLost as refused:
        told = str(refused) + repr(refused)
    assert "secret" not in told


@given(st.text(max_size=60) | st.from_regex(r"(http|ftp|file)://[ -~]{0,40}", fullmatch=True))
def test_any_text_is_a_location_or_refused(text: str) -> None:
    try:
        found = parse_location(text, ALL)
    except SourceLost as refused:
        assert not refused.retryable
    else:
        told = f"{found} {found.path} {found.query} {found.host}"
        assert not any(ord(each) < 32 or ord(each) == 127 for each in told)
        if found.scheme.startswith("http"):
            assert found.path.isascii() and " " not in found.path + found.query
