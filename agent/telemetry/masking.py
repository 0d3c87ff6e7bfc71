"""What must not be read by people who only want to know what is wrong: secrets, and whose card it was.

Charter: plain values (dictionaries, lists, texts) to the same without passwords, keys, and the user part of URLs. Of
tokens the last four characters stay: enough to recognise a card, too few to copy it. Used for messages, configuration
and ledger rows alike; what only OCPP writes is known in ``agent.ocpp.redact``.
"""

from __future__ import annotations

import re
from typing import Any, Final

MASK: Final = "***"

SECRET: Final = re.compile("password|passwd|passphrase|secret|authorizationkey|privatekey|presharedkey|simpin")
"""Part of the lower-case name of a field, setting or variable that is a secret."""

TOKENS: Final = frozenset({"idtag", "parentidtag", "idtoken", "id_token", "customeridentifier"})
"""Lower-case names of fields that hold a token."""

_URL_USER: Final = re.compile(r"(?<=://)[^/@\s\"]+(?=@)")


def mask_text(text: str) -> str:
    """The text with users and passwords of the URLs in it masked."""
    return _URL_USER.sub(MASK, text)


def mask_token(token: str) -> str:
    """Its last four characters, where it has more."""
    return MASK + token[-4:] if len(token) > 4 else MASK


def masked(value: Any, tokens: frozenset[str] = TOKENS) -> Any:
    """A plain value without secrets; ``tokens``: lower-case names of fields that hold a token."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, list | tuple):
        return [masked(item, tokens) for item in value]
    if isinstance(value, dict):
        return {name: _member(str(name), member, tokens) for name, member in value.items()}
    return value


def _member(name: str, member: Any, tokens: frozenset[str]) -> Any:
    lower = name.lower()
    if SECRET.search(lower) and not isinstance(member, bool | None):
        return MASK
    if lower in tokens and isinstance(member, str):
        return mask_token(member)
    return masked(member, tokens)
