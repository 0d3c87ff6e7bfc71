"""Reading OCMF records of any maker.

Charter: from bytes to a ``Record``: the exact signed bytes, the fields, the readings with inheritance
resolved. Strict where a reader could be fooled (duplicate keys, sizes, depth, what exactly was
signed), tolerant where makers differ in the field (values as text, missing fields), and every
tolerance is a finding. Whatever the bytes, the only thing raised is ``OcmfError``. Nothing is judged
here (``judge.py``) and no signature is computed (``curves.py``). Pure.

The signed bytes are those between the first and the last vertical bar; they are kept, never rebuilt.

Sources: OCMF 1.4 text, sections on the record, payload data, readings and signature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from types import MappingProxyType
from typing import Any, Final

from agent.ocmf.errors import Code, Finding, OcmfError

RECORD_MAX_BYTES: Final = 64 * 1024
_DEPTH_MAX: Final = 8
_READINGS_MAX: Final = 1_000

_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2}),([0-9]{3})([+-])([0-9]{2})([0-9]{2}) ([A-Z])"
)
_VALUE: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9])?")
_EXACT: Final = Context(prec=60)
_EPOCH: Final = datetime(1970, 1, 1)
_READING_KEYS: Final = ("TM", "TX", "RV", "RI", "RU", "RT", "CL", "EF", "ST", "EI")
_PAYLOAD_TEXTS: Final = ("FV", "GI", "GS", "GV", "PG", "MV", "MM", "MS", "MF", "IL", "IT", "ID", "TT", "CF", "CT", "CI")


class Number(str):
    """A JSON number as it was written: 12.340 is not 12.34 (trailing zeros carry the resolution)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Stamp:
    """A reading's time. ``status`` is the letter behind it (U, I, S, R or something else)."""

    wall_ms: int
    zone_offset_minutes: int
    status: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One reading, with what it inherited. None: absent, or no such thing (then there is a finding)."""

    at: Stamp | None
    tx: str | None
    written: str
    value: Decimal | None
    obis: str | None
    unit: str | None
    error_flags: str
    status: str
    loss: Decimal | None
    event_counter: str | None

    @property
    def energy_wh(self) -> Decimal | None:
        """Exactly the value in Wh; None where the unit is not one of energy."""
        if self.value is None or self.unit not in ("kWh", "Wh"):
            return None
        return self.value.scaleb(3, _EXACT) if self.unit == "kWh" else self.value


@dataclass(frozen=True, slots=True)
class SignatureSection:
    """The third section; defaults filled in."""

    algorithm: str
    encoding: str
    mime_type: str
    data: str


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read. ``raw`` and ``payload`` are the bytes as they came."""

    raw: bytes
    payload: bytes
    fields: Mapping[str, Any]
    readings: tuple[Entry, ...]
    signature: SignatureSection
    findings: tuple[Finding, ...]

    def text(self, key: str) -> str:
        """A text field of the payload, empty where it is absent."""
        value = self.fields.get(key)
        return value if isinstance(value, str) else ""


def parse(data: bytes) -> Record:
    """Read one record; white space around it does not count. OcmfError when it is none."""
    if len(data) > RECORD_MAX_BYTES:
        raise OcmfError("record", f"it has more than {RECORD_MAX_BYTES} bytes", "give one record at a time")
    raw = data.strip(b" \t\r\n")
    first, last = raw.find(b"|"), raw.rfind(b"|")
    if raw[: max(first, 0)] != b"OCMF" or first == last:
        raise OcmfError("header", "it does not read OCMF|payload|signature", "give the whole record as it was signed")
    signed = raw[first + 1 : last]
    fields = _json_object("payload", signed, first + 1)
    section = _json_object("signature", raw[last + 1 :], last + 1)
    _check_payload(fields, first + 1)
    readings, findings = _readings(fields, first + 1)
    return Record(raw, signed, MappingProxyType(fields), readings, _signature(section, last + 1), tuple(findings))


# ---------------------------------------------------------------------------------------------- JSON


def _json_object(section: str, data: bytes, offset: int) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OcmfError(section, "it is not UTF-8", "transfer it as bytes", offset=offset + error.start) from error
    _check_depth(section, data, offset)
    try:
        found = json.loads(
            text,
            object_pairs_hook=lambda pairs: _without_duplicates(section, pairs, offset),
            parse_int=Number,
            parse_float=Number,
            parse_constant=lambda name: _no_constant(section, name, offset),
        )
    except json.JSONDecodeError as error:
        at = offset + len(text[: error.pos].encode("utf-8"))
        raise OcmfError(section, f"it is not JSON ({error.msg})", "give it as it was signed", offset=at) from error
    if not isinstance(found, dict):
        raise OcmfError(section, "it is not a JSON object", "give it as it was signed", offset=offset)
    _check_texts(section, found, offset)
    return found


def _check_depth(section: str, data: bytes, offset: int) -> None:
    """Before the parser, which would go as deep as it is led. Text may hold brackets: it is skipped."""
    depth = 0
    for match in _STRUCTURE.finditer(data):
        token = match[0]
        depth += token in (b"{", b"[")
        depth -= token in (b"}", b"]")
        if depth > _DEPTH_MAX:
            at = offset + match.start()
            raise OcmfError(section, f"it is nested deeper than {_DEPTH_MAX}", "no record needs that", offset=at)


# The closing quote is optional: retrying an open text from each of its quotes would take minutes.
_STRUCTURE: Final = re.compile(rb'[\[\]{}]|"(?:[^"\\]|\\.)*+"?', re.DOTALL)


def _without_duplicates(section: str, pairs: list[tuple[str, Any]], offset: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            # Two readers would take two different values from the same signed bytes.
            raise OcmfError(section, "the key is there twice", "do not trust the record", key=key[:40], offset=offset)
        found[key] = value
    return found


def _no_constant(section: str, name: str, offset: int) -> Any:
    raise OcmfError(section, f"{name} is not a JSON number", "give it as it was signed", offset=offset)


def _check_texts(section: str, value: Any, offset: int) -> None:
    """Half a surrogate pair is no character: it could be neither printed nor stored."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise OcmfError(section, "a text holds half a character", "do not trust the record", offset=offset)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(section, key, offset)
            _check_texts(section, item, offset)
    elif isinstance(value, list):
        for item in value:
            _check_texts(section, item, offset)


# -------------------------------------------------------------------------------------------- fields


def _typed(section: str, found: Mapping[str, Any], key: str, kind: type, expected: str, offset: int) -> None:
    value = found.get(key)
    # A Number is a str to Python, but 12 is no text to JSON.
    if value is not None and (not isinstance(value, kind) or (kind is str and isinstance(value, Number))):
        raise OcmfError(section, f"it is not {expected}", "ask the maker of the record", key=key, offset=offset)


def _check_payload(fields: Mapping[str, Any], offset: int) -> None:
    for key in _PAYLOAD_TEXTS:
        _typed("payload", fields, key, str, "a text", offset)
    _typed("payload", fields, "IS", bool, "true or false", offset)
    _typed("payload", fields, "IF", list, "an array", offset)
    _typed("payload", fields, "LC", dict, "an object", offset)
    _typed("payload", fields, "RD", list, "an array", offset)
    for flag in fields.get("IF") or ():
        # An entry cannot be absent: null is no text either.
        _typed("payload", {"IF": False if flag is None else flag}, "IF", str, "an array of texts", offset)


def _signature(section: Mapping[str, Any], offset: int) -> SignatureSection:
    for key in ("SA", "SE", "SM", "SD"):
        _typed("signature", section, key, str, "a text", offset)
    return SignatureSection(
        section.get("SA") or "ECDSA-secp256r1-SHA256",
        section.get("SE") or "hex",
        section.get("SM") or "application/x-der",
        section.get("SD") or "",
    )


def _readings(fields: Mapping[str, Any], offset: int) -> tuple[tuple[Entry, ...], list[Finding]]:
    items = fields.get("RD") or []
    if len(items) > _READINGS_MAX:
        raise OcmfError("payload", f"more than {_READINGS_MAX} readings", "split it", key="RD", offset=offset)
    readings: list[Entry] = []
    findings: list[Finding] = []
    inherited: dict[str, Any] = {}
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise OcmfError("payload", f"reading {number} is not an object", "ask the maker", key="RD", offset=offset)
        missing = [key for key in _READING_KEYS if key not in item and key in inherited]
        if missing:
            text = f"Reading {number} takes {', '.join(missing)} from the reading before it; verifiers differ here."
            findings.append(Finding(Code.INHERITED, text, blocks=False))
        inherited |= item
        readings.append(_entry(inherited, number, findings, offset))
    return tuple(readings), findings


def _entry(item: Mapping[str, Any], number: int, findings: list[Finding], offset: int) -> Entry:
    for key in ("TM", "TX", "RI", "RU", "RT", "EF", "ST"):
        _typed(f"payload, reading {number}", item, key, str, "a text", offset)
    return Entry(
        at=_time(item.get("TM"), number, findings),
        tx=item.get("TX"),
        written=str(item.get("RV", "")),
        value=_value(item.get("RV"), number, findings),
        obis=item.get("RI"),
        unit=item.get("RU"),
        error_flags=item.get("EF") or "",
        status=item.get("ST") or "",
        loss=_decimal(item.get("CL")),
        event_counter=None if item.get("EI") is None else str(item["EI"]),
    )


def _time(written: str | None, number: int, findings: list[Finding]) -> Stamp | None:
    match = _TIME.fullmatch(written or "")
    try:
        if match is None:
            raise ValueError("not a time")
        year, month, day, hour, minute, second, millisecond = map(int, match.groups()[:7])
        local = datetime(year, month, day, hour, minute, second, millisecond * 1_000)
    except ValueError:
        text = f"Reading {number} has no time that can be read ({_shown(written)})."
        findings.append(Finding(Code.TIME_UNREADABLE, text))
        return None
    zone = int(match[9]) * 60 + int(match[10])
    zone = -zone if match[8] == "-" else zone
    since = local - _EPOCH
    local_ms = (since.days * 86_400 + since.seconds) * 1_000 + millisecond
    return Stamp(local_ms - zone * 60_000, zone, match[11])


def _value(written: Any, number: int, findings: list[Finding]) -> Decimal | None:
    value = _decimal(written)
    if value is None:
        text = f"Reading {number} has no value that can be read ({_shown(written)})."
        findings.append(Finding(Code.VALUE_UNREADABLE, text))
    elif not isinstance(written, Number):
        text = f"Reading {number} gives its value as text, which the format does not allow."
        findings.append(Finding(Code.VALUE_AS_TEXT, text, blocks=False))
    return value


def _decimal(written: Any) -> Decimal | None:
    """Numbers beyond any meter are no numbers here: a huge exponent must not cost memory later."""
    if not isinstance(written, str) or _VALUE.fullmatch(written.strip(" ")) is None:
        return None
    return Decimal(written.strip(" "))


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)[:40]
