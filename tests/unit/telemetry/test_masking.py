"""What is masked, and what is left to recognise."""

from __future__ import annotations

from typing import Any

import pytest

from agent.telemetry.masking import mask_text, masked


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("wss://user:pass@host/x?y", "wss://***@host/x?y"),
        ("ftp://user:p/ss@host/x and ftp://user:p@ss@host/y", "ftp://***@host/x and ftp://***@host/y"),
        ("wss://user:p?s#s@host/x", "wss://***@host/x"),
        ('{"url":"https://host/x","mail":"me@example.com"}', '{"url":"https://host/x","mail":"me@example.com"}'),
        ("mail me@example.com", "mail me@example.com"),
        ({"id_token": "04A2B3C4"}, {"id_token": "***B3C4"}),
        ({"idTag": "AB"}, {"idTag": "***"}),
        ({"password_file": "/etc/x", "secret": None, "with_password": True}, None),
        ({"a": [{"b": ("ftp://u@h", 1, None, 1.5, False)}]}, {"a": [{"b": ["ftp://***@h", 1, None, 1.5, False]}]}),
        ({"BasicAuthPassword": {"deep": ["x"]}}, {"BasicAuthPassword": "***"}),
    ],
)
def test_masked(value: Any, shown: Any) -> None:
    if shown is None:
        shown = {"password_file": "***", "secret": None, "with_password": True}
    assert masked(value) == shown


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://host:8443/logs/", "https://host:8443/logs/"),
        ("https://acct.example/c/x?sv=2024&sig=SECRET", "https://acct.example/c/x?***"),
        ("https://acct.example/x#SECRET", "https://acct.example/x#***"),
        ("HTTPS://host/x?next=ftp://SECRET", "HTTPS://host/x?***"),
        ("ftp://user:SECRET@host/x.bin", "ftp://***@host/x.bin"),
        ("ftp://user:SEC/RET@host/x.bin", "ftp://***@host/x.bin"),
        ("ftp://user:SEC@RET@host/x.bin?SECRET", "ftp://***@host/x.bin?***"),
        ("ftp://user:SEC RET\n@host/x.bin", "ftp://***@host/x.bin"),
        ("ftp://user:SEC?RET@host/x.bin", "ftp://***"),
        ("ftp://user:1/SEC#RET@host/x.bin", "ftp://***"),
        ("https://host/x?mail=me@example.com&sig=SECRET", "https://***"),
        ("user:SECRET@host/x.bin?SECRET", "***@host/x.bin?***"),
        ("user:SECRET://SECRET@host/x", "***@host/x"),
        ("/var/lib/evsed-files/x.evb", "/var/lib/evsed-files/x.evb"),
        ("Outlet", "Outlet"),  # where a value was measured
        ("", ""),
    ],
)
@pytest.mark.parametrize("name", ["location", "remoteLocation", "RemoteLocation"])
def test_of_a_location_scheme_host_and_path_stay(name: str, location: str, shown: str) -> None:
    assert masked({"order": {name: location}}) == {"order": {name: shown}}


def test_a_hostile_text_takes_no_longer_than_its_length() -> None:
    """Seen from every :// of it to its end, this would take hours."""
    text = 300_000 * "x://"
    assert mask_text(text) == text
