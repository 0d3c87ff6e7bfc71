"""A transaction's books as OCMF drafts: what the signed record says of station, driver and readings.

Charter: pure mapping; the bytes are made by ``agent.ocmf``, the signature in the ledger's own
transaction. Sources: metering reference 1.2 to 1.4, 1.8, 3.9; OCMF 1.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from agent.billing.books import Books, Mark
from agent.billing.facts import Moment
from agent.core.facts import Token
from agent.ocmf.record import Draft, Identification, Reading, plain_text, split_readings
from agent.tariff.text import machine

_TYPES: Final = {
    "ISO14443": "ISO14443",
    "ISO15693": "ISO15693",
    "eMAID": "EMAID",
    "KeyCode": "KEY_CODE",
    "MacAddress": "EVCCID",
    "Central": "CENTRAL",
    "Local": "LOCAL",
}
_RFID: Final = frozenset({"ISO14443", "ISO15693"})

# What the start rests on (agent.auth.policy.Source, or a remote start) -> (IL, the OCPP flag of IF).
_SOURCES: Final = {
    "site": ("TRUSTED", "OCPP_WHITELIST"),
    "list": ("TRUSTED", "OCPP_WHITELIST"),
    "cache": ("TRUSTED", "OCPP_CACHE"),
    "csms": ("TRUSTED", "OCPP_AUTH"),
    "remote": ("TRUSTED", "OCPP_RS"),
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs: the station (GI, GS, GV, CI), and how times and tokens are to be told.

    ``token_form``: "plain", "hash" or "none"; ``synchronised``: the way the clock is set is legally
    adequate, so a clock set by the CSMS is S and not I."""

    product: str
    serial: str
    software_version: str
    software_digest: str
    charge_box: str
    token_form: str = "plain"
    synchronised: bool = False
    format_version: str = "1.3"


def drafts(books: Books, who: Identity, marks: Sequence[Mark] | None = None) -> tuple[Draft, ...]:
    """The records of a transaction (almost always one), or one of the given readings only."""
    zone = ZoneInfo(books.terms.zone)
    readings = tuple(
        _reading(mark, zone, books.terms.evse_kind.value, who) for mark in (books.marks if marks is None else marks)
    )
    with_controller = who.format_version >= "1.3"
    draft = Draft(
        readings=readings,
        meter_serial=plain_text(books.started.samples[-1].meter_serial, 80),
        gateway_identification=plain_text(who.product, 80),
        gateway_serial=plain_text(who.serial, 80),
        gateway_version=plain_text(who.software_version, 80),
        identification=identification(books.started.token, books.started.authorized_by, who.token_form),
        tariff_text=tariff_text(books),
        controller_firmware=f"{who.software_version}+{who.software_digest[:8]}"[:25] if with_controller else "",
        charge_point_type="CBIDC",
        charge_point_id=plain_text(f"{who.charge_box} {books.started.evse}", 80),
        format_version=who.format_version,
    )
    return split_readings(draft)


def printed_token(token: Token | None, form: str) -> str:
    """The token as records and receipts show it."""
    if token is None or not token.id_token or form == "none":
        return ""
    if form == "hash":
        return hashlib.sha256(token.id_token.encode()).hexdigest()[:32].upper()
    return plain_text(token.id_token, 40)


def identification(token: Token | None, authorized_by: str, form: str) -> Identification:
    kind = "" if token is None else token.token_type
    level, flag = _SOURCES.get(authorized_by, ("NONE", "OCPP_NONE"))
    assigned = level != "NONE" and token is not None and token.id_token != ""
    rfid = "RFID_PLAIN" if kind in _RFID else "RFID_NONE"
    return Identification(
        assigned=assigned,
        level=level if assigned else "NONE",
        flags=(rfid, flag, "ISO15118_NONE", "PLMN_NONE"),
        type=_TYPES.get(kind, "UNDEFINED") if assigned and form == "plain" else "UNDEFINED" if assigned else "NONE",
        data=printed_token(token, form) if assigned else "",
    )


def tariff_text(books: Books) -> str:
    """Name and hash of each tariff in order of use, and the machine form where one tariff fits one."""
    pairs = list(zip(books.tariffs, books.tariff_hashes, strict=True))
    if len(pairs) == 1:
        return plain_text(machine(*pairs[0]), 250)
    return plain_text(" ".join(f"{tariff.tariff_id};{digest[:16]}" for tariff, digest in pairs[-4:]), 250)


def moment_of(mark: Mark, zone: ZoneInfo, who: Identity) -> Moment:
    """When a reading was taken, as record and receipt both tell it."""
    wall_ms = max(0, mark.wall_ms)
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=wall_ms)).astimezone(zone)
    offset = local.utcoffset() or timedelta(0)
    status = mark.time_status if mark.time_status != "S" or who.synchronised else "I"
    return Moment(wall_ms=wall_ms, offset_minutes=int(offset.total_seconds()) // 60, time_status=status)


def _reading(mark: Mark, zone: ZoneInfo, evse_kind: str, who: Identity) -> Reading:
    at = moment_of(mark, zone, who)
    return Reading(
        wall_ms=at.wall_ms,
        energy_mwh=mark.sample.energy_import_mwh,
        tx=mark.letter,
        zone_offset_minutes=at.offset_minutes,
        time_status=at.time_status,
        current_type=evse_kind,
        error_flags=mark.error_flags,
        status=mark.sample.meter_state,
    )
