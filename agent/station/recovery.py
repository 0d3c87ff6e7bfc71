"""An open transaction that nobody can go on with: its EVSE is not configured any more, or another release wrote what
cannot be read here.

Charter: pure; the facts that end it. One that stayed open would keep all rows behind it from ever being removed, and
would be taken up some day with the energy of others. What the core recovers, it ends by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.core.events import GapKind
from agent.core.facts import (
    ChargingState,
    LogEntry,
    LogFact,
    Sample,
    SampleContext,
    StopReason,
    TransactionFact,
    Trigger,
    TxKind,
)


@dataclass(frozen=True, slots=True)
class Stranded:
    """``last``: the newest reading of its own; ``why``: in plain words, for the log book."""

    evse: int
    tx_id: str
    next_seq_no: int
    last: Sample
    gap: GapKind
    why: str


def end_stranded(found: Stranded, now_ms: int) -> tuple[TransactionFact, LogFact]:
    """It ends with its last reading. Nothing is there to price it by, and so there is neither a signed record nor a
    receipt; the log book says why. ``now_ms``: monotonic."""
    last = replace(found.last, context=SampleContext.END, at_ms=now_ms, substituted=True, meter_state="T")
    ended = TransactionFact(
        kind=TxKind.ENDED,
        tx_id=found.tx_id,
        seq_no=found.next_seq_no,
        evse=found.evse,
        trigger=Trigger.ABNORMAL_CONDITION,
        charging_state=ChargingState.SUSPENDED_EVSE,
        offline=True,
        samples=(last,),
        stopped_reason=StopReason.POWER_LOSS if found.gap is GapKind.POWER else StopReason.OTHER,
        gap=True,
    )
    return ended, LogFact(LogEntry.RECORD_FAILED, found.evse, (("tx", found.tx_id), ("why", found.why)))
