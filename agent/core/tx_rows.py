"""The rows of a running transaction: numbered, and each resting on the newest reading.

Charter: makes the rows and says when a reading is one (``sampling.py`` has the rules). Why a transaction begins or ends
is the flow's business.

While room is scarce (20-TE-12, 16-TX-19) readings between start and end are left out, and checkpoints become rare:
what the ledger has left is for starts and ends. The end reading has all the energy. Rows are numbered as they are
written, so none seems to be missing.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.context import Context
from agent.core.facts import (
    CheckpointFact,
    Sample,
    SampleContext,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.core.sampling import SCARCE_CHECKPOINT_MS, AlignedClock, to_sample
from agent.core.session import Transaction
from hal.ports import MeterReading


class TxRows:
    """Those of one EVSE's transactions, one after the other."""

    def __init__(self, evse: int, ctx: Context) -> None:
        self._evse = evse
        self._ctx = ctx
        self._aligned = AlignedClock()
        self.blind = False  # nothing is known of the time since the last row (a restart)

    def begin(self, tx: Transaction) -> None:
        """``tx`` begins now."""
        self._aligned = AlignedClock()  # an interval that began before it is not its own
        self.count_from_now(tx)

    def count_from_now(self, tx: Transaction) -> None:
        """The interval of periodic readings begins now."""
        interval_ms = self._ctx.behaviour.sample_interval_ms
        tx.next_sample_ms = self._ctx.at_ms + interval_ms if interval_ms else None

    def fact(
        self,
        tx: Transaction,
        kind: TxKind,
        trigger: Trigger,
        sample: Sample | None,
        *,
        token: Token | None = None,
        reason: StopReason | None = None,
    ) -> TransactionFact:
        """The next row of the transaction."""
        fact = TransactionFact(
            kind=kind,
            tx_id=tx.tx_id,
            seq_no=tx.next_seq_no,
            evse=self._evse,
            trigger=trigger,
            charging_state=tx.told_state,
            offline=not self._ctx.online,
            samples=() if sample is None else (sample,),
            token=token,
            group=tx.group if kind is TxKind.STARTED else None,
            remote_start_id=tx.remote_start_id if kind is TxKind.STARTED else None,
            stopped_reason=reason,
            tariff=tx.tariff if kind is TxKind.STARTED else None,
            gap=self.blind,
            authorized_by=tx.authorized_by if kind is TxKind.STARTED else "",
            follows=tx.follows if kind is TxKind.STARTED else None,
        )
        self.blind = False
        tx.next_seq_no += 1
        if sample is not None:
            tx.last = tx.durable = sample
            tx.last_durable_ms = self._ctx.at_ms
        return fact

    def checkpoint(self, tx: Transaction) -> None:
        """Keep the newest reading."""
        assert tx.last is not None
        self._ctx.append(CheckpointFact(tx.tx_id, self._evse, tx.last))
        tx.durable, tx.last_durable_ms = tx.last, self._ctx.at_ms

    def take(self, tx: Transaction, reading: MeterReading, offered_ma: int) -> None:
        """A reading of the running transaction: a row, if it is time for one and there is room."""
        now_ms, behaviour, scarce = self._ctx.at_ms, self._ctx.behaviour, self._ctx.ledger_scarce
        tx.last = to_sample(reading, SampleContext.PERIODIC, offered_ma)
        aligned = self._aligned.due(self._ctx.wall_ms, behaviour.aligned_interval_ms, self._ctx.time_status != "U")
        if self._periodic_due(tx) and not scarce:
            self._ctx.append(self.fact(tx, TxKind.UPDATED, Trigger.METER_VALUE_PERIODIC, tx.last))
        if aligned and not scarce:
            clock = replace(tx.last, context=SampleContext.CLOCK)
            self._ctx.append(self.fact(tx, TxKind.UPDATED, Trigger.METER_VALUE_CLOCK, clock))
        if now_ms - tx.last_durable_ms >= self._checkpoint_ms():
            self.checkpoint(tx)

    def _checkpoint_ms(self) -> int:
        """While room is scarce they are rare, but not rarer than what a restart needs to go on."""
        behaviour = self._ctx.behaviour
        if not self._ctx.ledger_scarce:
            return behaviour.checkpoint_ms
        return max(behaviour.checkpoint_ms, min(SCARCE_CHECKPOINT_MS, behaviour.resume_window_ms // 2))

    def _periodic_due(self, tx: Transaction) -> bool:
        now_ms, interval_ms = self._ctx.at_ms, self._ctx.behaviour.sample_interval_ms
        latest_ms = now_ms + interval_ms  # the interval may have become shorter meanwhile
        next_ms = min(tx.next_sample_ms or latest_ms, latest_ms)
        tx.next_sample_ms = next_ms if interval_ms > 0 else None
        if tx.next_sample_ms is None or now_ms < tx.next_sample_ms:
            return False
        missed = (now_ms - tx.next_sample_ms) // interval_ms
        tx.next_sample_ms += (missed + 1) * interval_ms
        return True
