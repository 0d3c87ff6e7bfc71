"""The signed part of an OCMF record, written byte for byte.

Charter: turns a draft into the one line of JSON that gets signed. Pure. What is signed is never parsed
and written again (OCMF knows no canonical form), so this is the only place where payload bytes are
made. Nothing is signed here (``sign.py``) and nothing is judged (``verify.py``): a reading goes in as
the meter gave it, also one that makes the record worthless for billing.

Choices that keep every known verifier content: no optional white space, ASCII only, no vertical bar
even inside text, every field in every reading (inheritance is read differently by different
verifiers), format version 1.3 (the official one refuses 1.4).

Sources: OCMF 1.4 text, sections "payload data" and "readings"; limits of OCPP 2.0.1 SignedMeterValueType.
Units: energy in mWh, written as kWh with six decimals; time in ms since 1970 UTC.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from agent.ocmf.vocabulary import (
    DEFAULT_OBIS,
    ERROR_FLAGS,
    FISCAL,
    FLAGS,
    FORMAT_VERSIONS,
    LEVELS,
    METER_STATES,
    TIME_STATUSES,
    TRANSACTION,
    TX_LETTERS,
    TYPES,
    family,
)

SIGNED_MAX_CHARS: Final = 2_500
"""Base64 characters of one signed record in OCPP 1.6 and 2.0.1 (2.1 takes 32768)."""
SIGNATURE_MAX_BYTES: Final = 72
"""A P-256 signature in DER: two integers of at most 33 bytes and six bytes of frame."""

_TEXT_MAX_CHARS: Final = 80
_TARIFF_MAX_CHARS: Final = 250
_CONTROLLER_MAX_CHARS: Final = 25
_ID_MAX_CHARS: Final = 40
# Fifteen digits: a verifier that reads numbers as 64-bit floats still reads the exact value.
_ENERGY_MAX_MWH: Final = 10**15 - 1
_ZONE_MIN_MINUTES, _ZONE_MAX_MINUTES = -12 * 60, 14 * 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WALL_MAX_MS: Final = 253_370_764_800_000  # year 9999, so that no zone leads out of the calendar

_PAGINATION: Final = re.compile(r"[TF](0|[1-9][0-9]{0,11})")
_LONGEST_PAGINATION: Final = "T" + 12 * "9"
_PLAIN: Final = re.compile(r"[ -{}~]*")  # printable ASCII without the bar
_OBIS: Final = re.compile(r"[0-9A-Fa-fb.:*\-]{5,30}")

_HASH_BYTES: Final = 32
_FRAME_BYTES: Final = len('OCMF||{"SA":"ECDSA-secp256r1-SHA256","SE":"hex","SD":""}') + 2 * SIGNATURE_MAX_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One register value with its time; ``tx`` is None in fiscal records only."""

    wall_ms: int
    energy_mwh: int
    tx: str | None
    zone_offset_minutes: int = 0
    time_status: str = "I"
    obis: str = DEFAULT_OBIS
    current_type: str = "AC"
    error_flags: str = ""
    status: str = "G"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identification:
    """Who the energy is for, and how surely that is known (IS, IL, IF, IT, ID)."""

    assigned: bool = False
    level: str = "NONE"
    flags: tuple[str, ...] = ()
    type: str = "NONE"
    data: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A record before it is signed. Transaction records have an identification, fiscal ones have none."""

    readings: tuple[Reading, ...]
    meter_serial: str
    gateway_serial: str = ""
    gateway_identification: str = ""
    gateway_version: str = ""
    meter_vendor: str = ""
    meter_model: str = ""
    meter_firmware: str = ""
    identification: Identification | None = Identification()
    tariff_text: str = ""
    controller_firmware: str = ""
    charge_point_type: str = "EVSEID"
    charge_point_id: str = ""
    format_version: str = "1.3"


def payload(draft: Draft, pagination: str, prev_hash: bytes) -> bytes:
    """The bytes to sign. ValueError names the field that OCMF (or OCPP's transport) does not allow."""
    _check(draft, pagination)
    if len(prev_hash) != _HASH_BYTES:
        raise ValueError(f"UH (previous hash) is {len(prev_hash)} bytes, expected {_HASH_BYTES}")
    parts = [
        ("FV", _text(draft.format_version)),
        *_given(("GI", draft.gateway_identification), ("GS", draft.gateway_serial), ("GV", draft.gateway_version)),
        ("PG", _text(pagination)),
        *_given(("MV", draft.meter_vendor), ("MM", draft.meter_model)),
        ("MS", _text(draft.meter_serial)),
        *_given(("MF", draft.meter_firmware)),
        *_user(draft),
        *_given(("CF", draft.controller_firmware)),
        *_place(draft),
        ("RD", f"[{','.join(map(_reading, draft.readings))}]"),
        ("UH", _text(prev_hash.hex())),
    ]
    return _object(parts).encode("ascii")


def fits(draft: Draft, limit_chars: int = SIGNED_MAX_CHARS) -> bool:
    """Whether the record stays within so many Base64 characters once it is signed, whatever its number."""
    pagination = _LONGEST_PAGINATION.replace(TRANSACTION, _context(draft))
    signed_bytes = len(payload(draft, pagination, bytes(_HASH_BYTES))) + _FRAME_BYTES
    return -(-signed_bytes // 3) * 4 <= limit_chars


def split_readings(draft: Draft, limit_chars: int = SIGNED_MAX_CHARS) -> tuple[Draft, ...]:
    """The same readings in the same order, in as few drafts as fit.

    The first then holds the begin and the last the end, the shape in which verifiers pair two records.
    Who would rather have one record drops middle readings until it ``fits``.
    """
    drafts: list[Draft] = []
    for reading in draft.readings:
        alone = replace(draft, readings=(reading,))
        longer = replace(draft, readings=(*drafts[-1].readings, reading)) if drafts else alone
        if fits(longer, limit_chars):
            drafts[-1:] = [longer]
        elif fits(alone, limit_chars):
            drafts.append(alone)
        else:
            raise ValueError(f"a record with one reading is longer than {limit_chars} characters once signed")
    return tuple(drafts)


def plain_text(text: str, limit_chars: int) -> str:
    """Free text made fit for a signed record: accents fall off, the euro sign becomes EUR, a bar a slash,
    anything else outside printable ASCII a question mark; cut to the limit."""
    written = text.translate(_SPELLED)
    letters = (char for char in unicodedata.normalize("NFKD", written) if not unicodedata.combining(char))
    return "".join(char if _PLAIN.fullmatch(char) else "?" for char in letters)[:limit_chars]


_SPELLED: Final = str.maketrans(
    {
        "|": "/",
        "€": "EUR",
        "£": "GBP",
        "ß": "ss",
        "Ä": "Ae",
        "Ö": "Oe",
        "Ü": "Ue",
        "ä": "ae",
        "ö": "oe",
        "ü": "ue",
        "æ": "ae",
        "ø": "oe",
        "\n": " ",
        "\r": " ",
        "\t": " ",
        "–": "-",
        "—": "-",
    }
)


# ------------------------------------------------------------------------------------------- writing


def _object(parts: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f'"{key}":{value}' for key, value in parts) + "}"


def _text(text: str) -> str:
    return json.dumps(text)


def _given(*fields: tuple[str, str]) -> list[tuple[str, str]]:
    """Optional fields are left out when they say nothing: some verifiers refuse empty ones."""
    return [(key, _text(value)) for key, value in fields if value]


def _place(draft: Draft) -> list[tuple[str, str]]:
    if not draft.charge_point_id:
        return []
    return [("CT", _text(draft.charge_point_type)), ("CI", _text(draft.charge_point_id))]


def _user(draft: Draft) -> list[tuple[str, str]]:
    """The user group with the tariff: whole in a transaction, absent in a fiscal record."""
    who = draft.identification
    if who is None:
        return []
    return [
        ("IS", "true" if who.assigned else "false"),
        ("IL", _text(who.level)),
        ("IF", json.dumps(who.flags, separators=(",", ":"))),
        ("IT", _text(who.type)),
        ("ID", _text(who.data)),
        *_given(("TT", draft.tariff_text)),
    ]


def _reading(reading: Reading) -> str:
    whole, fraction = divmod(reading.energy_mwh, 1_000_000)
    parts = [
        ("TM", _text(_time(reading))),
        ("RV", f"{whole}.{fraction:06d}"),
        ("RI", _text(reading.obis)),
        ("RU", _text("kWh")),
        ("RT", _text(reading.current_type)),
        ("EF", _text(reading.error_flags)),
        ("ST", _text(reading.status)),
    ]
    if reading.tx is not None:
        parts.insert(1, ("TX", _text(reading.tx)))
    return _object(parts)


def _time(reading: Reading) -> str:
    zone = reading.zone_offset_minutes
    local = _EPOCH + timedelta(milliseconds=reading.wall_ms + zone * 60_000)
    hours, minutes = divmod(abs(zone), 60)
    sign = "-" if zone < 0 else "+"
    stamp = f"{local:%Y-%m-%dT%H:%M:%S},{local.microsecond // 1_000:03d}"
    return f"{stamp}{sign}{hours:02d}{minutes:02d} {reading.time_status}"


# ------------------------------------------------------------------------------------------ checking


def _context(draft: Draft) -> str:
    return FISCAL if draft.identification is None else TRANSACTION


def _check(draft: Draft, pagination: str) -> None:
    _need("PG", pagination, _PAGINATION.fullmatch(pagination) is not None, "T or F and a number without leading zeros")
    _need("PG", pagination, pagination[0] == _context(draft), "T with an identification, F without one")
    _need("FV", draft.format_version, draft.format_version in FORMAT_VERSIONS, f"one of {FORMAT_VERSIONS}")
    _need("MS", draft.meter_serial, draft.meter_serial != "", "the serial of the meter")
    _need("CT", draft.charge_point_type, draft.charge_point_type in ("EVSEID", "CBIDC"), "EVSEID or CBIDC")
    for key, value, limit in (
        ("GI", draft.gateway_identification, _TEXT_MAX_CHARS),
        ("GS", draft.gateway_serial, _TEXT_MAX_CHARS),
        ("GV", draft.gateway_version, _TEXT_MAX_CHARS),
        ("MV", draft.meter_vendor, _TEXT_MAX_CHARS),
        ("MM", draft.meter_model, _TEXT_MAX_CHARS),
        ("MS", draft.meter_serial, _TEXT_MAX_CHARS),
        ("MF", draft.meter_firmware, _TEXT_MAX_CHARS),
        ("CI", draft.charge_point_id, _TEXT_MAX_CHARS),
        ("TT", draft.tariff_text, _TARIFF_MAX_CHARS),
        ("CF", draft.controller_firmware, _CONTROLLER_MAX_CHARS),
    ):
        _check_text(key, value, limit)
    version, tariff, firmware = draft.format_version, draft.tariff_text, draft.controller_firmware
    _need("TT", tariff, not tariff or version >= "1.1", "nothing before FV 1.1")
    _need("TT", tariff, not tariff or draft.identification is not None, "nothing in a fiscal record")
    _need("CF", firmware, not firmware or version >= "1.3", "nothing before FV 1.3")
    if draft.identification is not None:
        _check_identification(draft.identification)
    _need("RD", len(draft.readings), len(draft.readings) > 0, "at least one reading")
    for reading in draft.readings:
        _check_reading(reading, in_transaction=draft.identification is not None)


def _check_identification(who: Identification) -> None:
    _need("IL", who.level, who.level in LEVELS, f"one of {', '.join(sorted(LEVELS))}")
    _need("IF", who.flags, FLAGS.issuperset(who.flags), f"only of {', '.join(sorted(FLAGS))}")
    _need("IF", who.flags, len({family(flag) for flag in who.flags}) == len(who.flags), "one flag of each family")
    _need("IT", who.type, who.type in TYPES, f"one of {', '.join(sorted(TYPES))}")
    _check_text("ID", who.data, _ID_MAX_CHARS)


def _check_reading(reading: Reading, in_transaction: bool) -> None:
    zone = reading.zone_offset_minutes
    _need("TM", reading.wall_ms, 0 <= reading.wall_ms <= _WALL_MAX_MS, "ms since 1970")
    _need("TM", zone, _ZONE_MIN_MINUTES <= zone <= _ZONE_MAX_MINUTES, "a zone between -1200 and +1400")
    _need("TM", reading.time_status, reading.time_status in TIME_STATUSES, "U, I, S or R")
    if in_transaction:
        _need("TX", reading.tx, reading.tx in TX_LETTERS, "one of B C X E L R A P S T")
    else:
        _need("TX", reading.tx, reading.tx is None, "none in a fiscal record")
    _need("RV", reading.energy_mwh, 0 <= reading.energy_mwh <= _ENERGY_MAX_MWH, "0 to 10^15 mWh")
    _need("RI", reading.obis, _OBIS.fullmatch(reading.obis) is not None, f"an OBIS code such as {DEFAULT_OBIS}")
    _need("RT", reading.current_type, reading.current_type in ("AC", "DC"), "AC or DC")
    _need("EF", reading.error_flags, reading.error_flags in ERROR_FLAGS, "empty, E, t or Et")
    _need("ST", reading.status, reading.status in METER_STATES, f"one of {' '.join(sorted(METER_STATES))}")


def _check_text(key: str, value: str, limit_chars: int) -> None:
    _need(key, value, len(value) <= limit_chars, f"at most {limit_chars} characters")
    _need(key, value, _PLAIN.fullmatch(value) is not None, "printable ASCII without '|' (see plain_text)")


def _need(key: str, value: object, good: bool, expected: str) -> None:
    if not good:
        raise ValueError(f"{key} is {value!r}, expected {expected}")
