"""What is masked, and what is left to recognise."""

from __future__ import annotations

from typing import Any

import pytest

from agent.telemetry.masking import masked


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("wss://user:pass@host/x?y", "wss://***@host/x?y"),
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
