"""The small durable state beside the rows: (namespace, key) -> text. Pure: values only.

Charter: what must survive a restart but is not evidence: it may change and go. Changes are committed
together with the rows they belong to. Values are text of the owner's own making; the number of keys in
a namespace is limited by its owner, their size here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

KEY_MAX_CHARS: Final = 512
VALUE_MAX_CHARS: Final = 64 * 1024


class Namespace(enum.StrEnum):
    """Who keeps what. The spelling is on disk: never rename, only add."""

    CURSOR = "cursor"  # reader's name -> seq of the last row it is done with; and who it was: ``station.first_csms``
    CSMS_TX = "csms_tx"  # our transaction id -> the id the CSMS gave it (OCPP 1.6)
    SETTING = "setting"  # device model variable -> its value
    TOKEN = "token"  # identification token -> what the CSMS last said of it
    AVAILABILITY = "availability"  # station, EVSE or connector -> operative or not
    FAULT = "fault"  # EVSE -> its faults that do not end with a restart
    LIMIT = "limit"  # source -> a current limit that outlives a restart
    TARIFF = "tariff"  # the CSMS's default tariffs
    DAMAGE = "damage"  # "acknowledged" -> how much evidence of damage a person has seen
    METER = "meter"  # EVSE -> serial and register at the end of its last transaction
    FIRMWARE = "firmware"  # "update" -> the firmware update under way, or the last one
    PROFILE = "profile"  # charging profile id -> the profile
    MONITOR = "monitor"  # the CSMS's monitors, and what it was told of those that alert
    PASSWORD = "password"  # "that worked" -> hex of the password that the CSMS took last
    CLOCK = "clock"  # "agreed" -> the latest time that all clocks of a run agreed on
    FORGOTTEN = "forgotten"  # namespace -> the damaged ledger where not all of it could be read; until a person knows
    CERTIFICATE = "certificate"  # SHA-256 of a root certificate that the CSMS has installed -> its PEM text


@dataclass(frozen=True, slots=True)
class Put:
    """Set one value, whether or not there was one."""

    namespace: Namespace
    key: str
    value: str

    def __post_init__(self) -> None:
        _check(self.namespace, "key", self.key, KEY_MAX_CHARS)
        _check(self.namespace, "value", self.value, VALUE_MAX_CHARS)


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one value; nothing happens if there is none."""

    namespace: Namespace
    key: str

    def __post_init__(self) -> None:
        _check(self.namespace, "key", self.key, KEY_MAX_CHARS)


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove all values of a namespace."""

    namespace: Namespace


StateChange = Put | Delete | Clear


def fits(key: str, value: str = "") -> bool:
    """Whether the state can hold this; whoever keeps a text of somebody else's asks first."""
    return not (_fault(key, KEY_MAX_CHARS) or _fault(value, VALUE_MAX_CHARS))


def _check(namespace: Namespace, what: str, text: str, chars_max: int) -> None:
    """Raises ``ValueError`` for what the table cannot hold."""
    if fault := _fault(text, chars_max):
        raise ValueError(f"state {namespace}: {what} {fault}")


def _fault(text: str, chars_max: int) -> str:
    """Why the table cannot hold a text: too long, NUL, lone surrogates; empty: it can."""
    if len(text) > chars_max:
        return f"of {len(text)} characters, at most {chars_max}"
    return f"{text[:80]!r} is not storable text" if "\0" in text or not is_unicode(text) else ""


def is_unicode(text: str) -> bool:
    """Whether the text can be stored as UTF-8 (a lone surrogate cannot)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
