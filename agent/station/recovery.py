"""An open transaction that nobody can go on with: its EVSE is not configured any more.

Charter: pure; the facts that end it. One that stayed open would keep all rows behind it from ever being removed. What
the core recovers, it ends by itself.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.events import GapKind, Recovered
from agent.core.facts import (
    ChargingState,
    LogEntry,
    LogFact,
    SampleContext,
    StopReason,
    TransactionFact,
    Trigger,
    TxKind,
)


def end_without_evse(found: Recovered, now_ms: int) -> tuple[TransactionFact, LogFact]:
    """It ends with its last reading. Without its EVSE there are no terms to price it by, and so neither a signed
    record nor a receipt; the log book says why. ``now_ms``: monotonic."""
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
    why = f"EVSE {found.evse} is not configured any more"
    return ended, LogFact(LogEntry.RECORD_FAILED, found.evse, (("tx", found.tx_id), ("why", why)))
