"""Message trace without secrets.

Charter: the text of a frame as a technician may see it. Passwords, keys, the user part of URLs and the queries of
locations are masked; of identification tokens the last four characters stay, enough to recognise a card and too few to
copy it. JSON inside a text is looked through as well (DataTransfer, signed values of 1.6). Of signed meter data, which
may name a token in Base64, the length is left. A frame that cannot be parsed is replaced by its size: nobody knows
what it holds.

Sources: 1.6 security white paper (AuthorizationKey), 2.0.1 BasicAuthPassword, SetNetworkProfile (APN, VPN); white
papers on signed meter values and on cost messages (SetUserPrice).
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from agent.telemetry.masking import LOCATIONS, MASK, SECRET, TOKENS, mask_location, mask_text, mask_token


def redact(frame: bytes) -> str:
    """The frame with its secrets masked. Never raises."""
    try:
        return json.dumps(_masked(json.loads(frame)), separators=(",", ":"))
    except (ValueError, RecursionError):
        return f"<unreadable, {len(frame)} bytes>"


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if isinstance(value, str):
        return _masked_text(value)
    if not isinstance(value, dict):
        return value
    hide_values = _names_a_secret(value)
    return {name: _masked_member(name, member, value, hide_values) for name, member in value.items()}


def _masked_text(text: str) -> str:
    if text.startswith(("{", "[")):
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(_masked(json.loads(text)), separators=(",", ":"))
    return mask_text(text)


def _masked_member(name: str, member: Any, siblings: dict[str, Any], hide_values: bool) -> Any:
    lower = name.lower()
    if SECRET.search(lower) or (hide_values and ("value" in lower or lower == "variableattribute")):
        return MASK
    if lower == "key" and "server" in siblings:  # VPNType: the pre-shared key
        return MASK
    if lower == "data" and "generatedAt" in siblings:  # NotifyCustomerInformation: a person's
        return MASK
    if lower == "signedmeterdata" and isinstance(member, str):
        return f"<{len(member)} characters>"
    if lower in TOKENS and isinstance(member, str):
        return mask_token(member)
    if lower in LOCATIONS and isinstance(member, str):
        return mask_location(member)
    return _masked(member)


def _names_a_secret(entry: dict[str, Any]) -> bool:
    """True for {key: AuthorizationKey, value: ...} of 1.6 and {variable: {name: BasicAuthPassword}, ...} of 2.x."""
    variable = entry.get("variable")
    names = (entry.get("key"), variable.get("name") if isinstance(variable, dict) else None)
    return any(isinstance(name, str) and SECRET.search(name.lower()) is not None for name in names)
