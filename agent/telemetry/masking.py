"""What must not be read by people who only want to know what is wrong: secrets, and whose card it was.

Charter: plain values (dictionaries, lists, texts) to the same without passwords, keys, and the user part of URLs. Of
tokens the last four characters stay: enough to recognise a card, too few to copy it. Of a location (where a file is to
come from or go to) scheme, host and path stay: its query may be a key to the file (X-Amz-Signature, sig). Used for
messages, configuration and ledger rows alike; what only OCPP writes is known in ``agent.ocpp.redact``.

Passwords are looked for in what people write, not only in what RFC 3986 allows: with / ? # @ inside. Where that could
be read in two ways, more is masked.
"""

from __future__ import annotations

import re
from typing import Any, Final

MASK: Final = "***"

SECRET: Final = re.compile("password|passwd|passphrase|secret|authorizationkey|privatekey|presharedkey|simpin")
"""Part of the lower-case name of a field, setting or variable that is a secret."""

TOKENS: Final = frozenset({"idtag", "parentidtag", "idtoken", "id_token", "additionalidtoken", "customeridentifier"})
"""Lower-case names of fields that hold a token."""

LOCATIONS: Final = frozenset({"location", "remotelocation"})
"""Lower-case names of fields that hold the address of a file; a word (where a value was measured) is none."""

_AFTER_SCHEME: Final = re.compile(r"(?<=://)[^\s\"]+")
_LOCATION: Final = re.compile(r"([a-z][a-z0-9+.-]*://)?([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)


def mask_text(text: str) -> str:
    """The text with users and passwords of the URLs in it masked."""
    return _AFTER_SCHEME.sub(lambda found: _without_user(found[0]), text)


def mask_location(text: str) -> str:
    """Scheme, host and path of an address."""
    found = _LOCATION.fullmatch(text)
    assert found is not None  # every text is one
    scheme, address, query = found.groups(default="")
    if "@" in query:  # or is it a password with ? or # inside?
        return scheme + MASK
    return scheme + _without_user(address) + (f"{query[0]}{MASK}" if query else "")


def _without_user(address: str) -> str:
    _, at, rest = address.rpartition("@")
    return f"{MASK}@{rest}" if at else address


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
    if lower in LOCATIONS and isinstance(member, str):
        return mask_location(member)
    return masked(member, tokens)
