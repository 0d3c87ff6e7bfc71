"""Signed meter records of a transaction, for the message that carries them.

Charter: finds the records among a transaction's rows, and says which public key goes along. How a record
is wrapped is ``agent.ocmf.ocpp``'s and, in which field, the dialect's. Source: OCA white paper on signed
meter values (metering reference 1.10).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agent.core.facts import SignedFact
from agent.ipc.port import Record
from agent.ocpp.dialect import StationView

SIGN_READINGS: Final = "SampledDataCtrlr.SignReadings"
SIGN_STARTED: Final = "SampledDataCtrlr.SignStartedReadings"
PUBLIC_KEY_POLICY: Final = "OCPPCommCtrlr.PublicKeyWithSignedMeterValue"


def public_key(view: StationView, evse: int, *, at_end: bool) -> str:
    """The key to send with a record, as OCPP writes it; empty where the policy says so.

    Once per transaction means: with the record of the start where there is one, else with that of the end."""
    policy = view.text(PUBLIC_KEY_POLICY, "OncePerTransaction")
    once_is_now = at_end is not view.flag(SIGN_STARTED, False)
    if policy == "EveryMeterValue" or (policy == "OncePerTransaction" and once_is_now):
        return view.text(f"FiscalMetering@{evse}.PublicKey")
    return ""


def begin_records(rows: Iterable[Record]) -> list[bytes]:
    """The records made at the start of a transaction: those that follow its first row at once."""
    found: list[bytes] = []
    for row in rows:
        if isinstance(row.fact, SignedFact):
            found.append(row.fact.record.encode())
        elif row.kind != "tx_started":
            break
    return found


def end_records(rows: Iterable[Record]) -> list[bytes]:
    """The records of a whole transaction: those right before its last row."""
    found: list[bytes] = []
    for row in rows:
        if isinstance(row.fact, SignedFact):
            found.append(row.fact.record.encode())
        elif row.kind == "tx_ended":
            return found
        else:
            found = []
    return []
