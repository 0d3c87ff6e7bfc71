"""Signed meter records of a transaction, for the message that carries them.

Charter: finds the records among a transaction's rows, and says which public key goes along. How a record
is wrapped is ``agent.ocmf.ocpp``'s and, in which field, the dialect's. A record that has no room in a message
is left out and logged: it stays in the ledger, and what the CSMS bills by must go on.

Source: OCA white paper on signed meter values (metering reference 1.10).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from agent.core.facts import SignedFact
from agent.ipc.port import Record
from agent.ocmf.errors import OcmfError
from agent.ocmf.parse import parse
from agent.ocmf.record import SIGNED_MAX_CHARS
from agent.ocpp.dialect import StationView

SIGN_READINGS: Final = "SampledDataCtrlr.SignReadings"
SIGN_STARTED: Final = "SampledDataCtrlr.SignStartedReadings"
PUBLIC_KEY_POLICY: Final = "OCPPCommCtrlr.PublicKeyWithSignedMeterValue"

KEY_MAX_CHARS: Final = 2_500  # publicKey of SignedMeterValueType

_ONCE: Final = "OncePerTransaction"
_EVERY: Final = "EveryMeterValue"

log = structlog.get_logger("ocpp")


@dataclass(frozen=True, slots=True)
class Carried:
    """A record and the key that goes with it, as OCPP writes it; empty for none."""

    record: bytes
    public_key: str


def wanted_at_start(view: StationView) -> bool:
    """Whether the CSMS wants the reading of the start signed; ``SignReadings`` is the master switch."""
    return view.flag(SIGN_READINGS, False) and view.flag(SIGN_STARTED, False)


def at_start(view: StationView, evse: int, rows: Sequence[Record]) -> list[Carried]:
    """What goes with the start of a transaction: nothing where its first row cannot be read (ADR 29)."""
    if not (wanted_at_start(view) and rows and rows[0].kind == "tx_started"):
        return []
    return _carried(view, evse, begin_records(rows), key_told=False)


def at_end(view: StationView, evse: int, rows: Sequence[Record], *, start_told: bool) -> list[Carried]:
    """What goes with the end of a transaction. ``start_told``: this CSMS got the start in this dialect, and so the
    key that went with it."""
    if not view.flag(SIGN_READINGS, False):
        return []
    key_told = start_told and bool(at_start(view, evse, rows))
    return _carried(view, evse, end_records(rows), key_told=key_told)


def _carried(view: StationView, evse: int, records: Sequence[bytes], *, key_told: bool) -> list[Carried]:
    policy = view.text(PUBLIC_KEY_POLICY, _ONCE)
    key = view.text(f"FiscalMetering@{evse}.PublicKey") if policy in (_ONCE, _EVERY) else ""
    if len(key) > KEY_MAX_CHARS:
        log.error("public_key_left_out", evse=evse, chars=len(key), chars_max=KEY_MAX_CHARS)
        key = ""
    found: list[Carried] = []
    for record in records:
        chars = len(b64encode(record))
        if chars > SIGNED_MAX_CHARS:
            log.error("signed_record_left_out", evse=evse, chars=chars, chars_max=SIGNED_MAX_CHARS)
            continue
        now = policy == _EVERY or not (key_told or found)
        found.append(Carried(record, key if now else ""))
    return found


def begin_records(rows: Sequence[Record]) -> list[bytes]:
    """The record of the start of a transaction, which follows its first row at once. A transaction that ends in
    the same instant has that of the whole transaction there too."""
    found: list[bytes] = []
    for row in rows:
        if isinstance(row.fact, SignedFact):
            record = row.fact.record.encode()
            if _is_of_start(record):
                found.append(record)
        elif row.kind != "tx_started":
            break
    return found


def end_records(rows: Sequence[Record]) -> list[bytes]:
    """The records of a whole transaction, in order: those right before its last row."""
    found: list[bytes] = []
    for row in rows:
        if isinstance(row.fact, SignedFact):
            found.append(row.fact.record.encode())
        elif row.kind == "tx_ended":
            of_start = begin_records(rows)
            return [record for record in found if record not in of_start]
        else:
            found = []
    return []


def _is_of_start(record: bytes) -> bool:
    """One reading, and that of the begin. The first of several records of a whole transaction has more."""
    try:
        readings = parse(record).readings
    except OcmfError:
        return False
    return len(readings) == 1 and readings[0].tx == "B"
