"""What every transaction must look like in the ledger, checked row by row as rows become durable.

Charter: follows the rows that the station was told are on disk, and holds them against the rules of a transaction
and against the physical truth at its outlet. It reads facts, not the station's memory, so it outlives every crash.

Rules: one start, one end, seqNo from 0 without a gap; one transaction at a time on an EVSE; one whose stop is on disk
does not go on after a restart, and none does after a power cut if nothing told how long that was; registers never fall
within one meter; energy billed is never more than what ran through the outlet, and no less where nothing disturbed
meter, station or power meanwhile, nor does any flow after the end then; what an autonomous board gives away while no
station runs, for longer than a transaction outlives that, is in nobody's bill; and it costs what was agreed, in its end
as on its receipt; idle time billed is no more than what the car left of its offer; a token that was refused starts
nothing, nor does anything start where the CSMS was told that it is out of service; statuses of an update follow OCPP's
order.

Units: mWh, ms. Sources: OCPP 2.0.1 E01 to E16, L01; metering reference 4.4; field faults 1, 2, 11, 12, 13.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from agent.billing import read
from agent.billing.read import Receipt
from agent.core.facts import FirmwareFact, Sample, SampleContext, TransactionFact, TxKind
from agent.ipc.codec import decode_fact
from agent.ledger.rows import Row
from agent.sim.world.agreed import Agreed, Agreements
from agent.sim.world.hearing import Hearing
from agent.sim.world.parties import Parties
from agent.station.archive import TOLD_KINDS

_TX_KINDS: Final = frozenset({"tx_started", "tx_updated", "tx_ended"})
TOLERANCE_MWH: Final = 300
"""Beside the step of the meter's register: reading and truth are not of the same instant."""

OWED_STEPS: Final = 3
"""So many steps of a register that stands still are not told from one that is read between its steps: where it does as
a transaction begins, and goes on in it, that much is made up for at the wrong bill. So is what it had missed when the
station's process started, which knows nothing of that."""

ENDS_IN_ORDER_MS: Final = 30_000
"""A station that is told to end still writes rows: its absence counts from the last of them."""

IDLE_TOLERANCE_MS: Final = 90_000
"""A state is told some seconds late, and not at each toggling."""

AFTER_END_S: Final = 15.0
"""By then whatever was still closed at the end has opened; a driver is not back so soon."""


@dataclass(frozen=True, slots=True)
class Truth:
    """At one outlet now. ``disturbed`` counts what may keep energy from being billed: faults of devices, power cuts,
    ends of the station; ``rewound`` how often the register was set, began anew, or the meter was exchanged;
    ``metered_mwh`` is what an exact meter would have counted in all; ``step_mwh`` of this one; ``idle_ms`` for how long
    in all a car was offered current that it did not ask for; ``wall_ms`` the true time, and ``clock_sound`` that the
    station's clock has it too; ``owed_mwh`` is what the register has not shown yet, because it stands still, and
    ``forgotten_mwh`` what of that was so when the station's process started."""

    metered_mwh: int
    disturbed: int
    rewound: int
    step_mwh: int
    idle_ms: int
    wall_ms: int
    clock_sound: bool
    owed_mwh: int = 0
    forgotten_mwh: int = 0


@dataclass(slots=True)
class Seen:
    """A transaction as far as its rows are durable."""

    tx_id: str
    evse: int
    begin: Sample
    started: Truth
    agreed: Agreed
    seq_no: int = 0
    last: Sample | None = None
    end: Sample | None = None
    token: str = ""
    reason: str = ""
    has_receipt: bool = False
    gaps: int = 0
    stray_mwh: int = 0  # flowed while it ran, and is nobody's
    rolled_over: bool = False
    stopped: bool = False
    boot_id: str = ""  # of its newest row
    ended_truth: Truth | None = None
    cost: str | None = None  # as its end tells it


_NEXT: Final[dict[str, frozenset[str]]] = {
    "": frozenset({"Downloading", "DownloadScheduled", "Installing", "Installed", "InstallationFailed"}),
    "DownloadScheduled": frozenset({"Downloading", "DownloadFailed"}),
    "Downloading": frozenset({"Downloaded", "DownloadPaused", "DownloadFailed", "InvalidSignature"}),
    "DownloadPaused": frozenset({"Downloading", "Downloaded", "DownloadFailed", "InvalidSignature"}),
    "DownloadFailed": frozenset({"Downloading"}),
    "Downloaded": frozenset({"SignatureVerified", "InstallScheduled", "Installing", "InvalidSignature"}),
    "SignatureVerified": frozenset({"InstallScheduled", "Installing"}),
    "InstallScheduled": frozenset({"Installing"}),
    "Installing": frozenset({"InstallRebooting", "Installed", "InstallationFailed", "InstallVerificationFailed"}),
    "InstallRebooting": frozenset({"Installed", "InstallationFailed", "InstallVerificationFailed", "Installing"}),
}
"""Which status may follow which, for one request (OCPP 2.0.1 L01, L02); a new request may follow any."""


@dataclass(slots=True)
class Mirror:
    """See the module. ``truth(evse)`` is asked at each start and end; ``refused(token)``: the CSMS would have none of
    it; ``closed(evse)``: it was told for sure that nothing starts there; ``hearing`` counts what is to be told;
    ``wrong`` takes what must not be; ``outlives_ms``: for how long, where the board is autonomous, no station may run
    and a transaction goes on."""

    truth: Callable[[int], Truth]
    refused: Callable[[str], bool]
    closed: Callable[[int], bool]
    agreements: Agreements
    hearing: Hearing
    parties: Parties
    wrong: Callable[[int, str], None]
    outlives_ms: dict[int, int] = field(default_factory=dict)
    open: dict[int, Seen] = field(default_factory=dict)
    ended: list[Seen] = field(default_factory=list)  # until somebody has compared them
    known: set[str] = field(default_factory=set)
    last_ends: dict[int, tuple[Sample, int]] = field(default_factory=dict)
    timeless: set[str] = field(default_factory=set)  # boots in which nothing told how long the power was away
    boots: int = 0
    transactions: int = 0
    billed_mwh: int = 0
    head_seq: int = 0
    told_seq: int = 0  # the last row that the CSMS is to hear of
    _latest: dict[int, str] = field(default_factory=dict)  # the transaction that began last, by EVSE
    _left: dict[int, Truth] = field(default_factory=dict)  # how the last run of the station left each outlet
    _back: tuple[str, dict[int, Truth]] = ("", {})  # the boot in which this run began, and how it found each outlet
    _rolling: set[int] = field(default_factory=set)  # a rollover has ended what ran, or is about to
    _told: tuple[int | None, str] = (None, "")

    def rows(self, rows: Sequence[Row]) -> None:
        """These are durable, and the station has been told or is about to be."""
        for row in rows:
            if self.head_seq and row.seq != self.head_seq + 1:
                self.wrong(row.evse or 0, f"row {row.seq} came after row {self.head_seq}")
            self.head_seq = row.seq
            if row.kind in TOLD_KINDS:
                self.told_seq = row.seq
            if row.kind in _TX_KINDS:
                fact = decode_fact(row.kind, row.body)
                assert isinstance(fact, TransactionFact)
                self._transaction(fact, row.boot_id)
                self.hearing.transaction(fact)
                self.parties.transaction(fact)
            elif row.kind == "stop" and row.evse in self.open:
                self.open[row.evse].stopped = True
                self.parties.stop(row.evse)
            elif row.kind == "receipt":
                self._receipt(row)
            elif row.kind == "firmware":
                self._firmware(row)
            elif row.kind == "boot":
                self.boots += 1
            elif row.kind in ("security", "meter"):
                self.hearing.row(row.kind)
            elif row.kind == "log" and b'"meter_rollover"' in row.body and row.evse is not None:
                self._rolled_over(row.evse)

    def station_gone(self, evses: Iterable[int]) -> None:
        """No station runs from here on. What it has left on disk is of before, whatever the boards do meanwhile."""
        self._left = {evse: self.truth(evse) for evse in evses}

    def station_starts(self, boot_id: str) -> None:
        """It has found nothing yet."""
        self._back = boot_id, {evse: self.truth(evse) for evse in self._left}
        for seen in self.open.values():
            self._look_at_absence(seen)

    def _look_at_absence(self, seen: Seen) -> None:
        """What a board gave away while no station ran. Over a power cut a wrong clock may tell it that this was not for
        long, and then anything goes."""
        boot_id, back = self._back
        if seen.evse not in self.outlives_ms or seen.evse not in back:
            return
        left, now = self._left[seen.evse], back[seen.evse]
        knows = boot_id == seen.boot_id or boot_id in self.timeless or (left.clock_sound and now.clock_sound)
        if knows and now.wall_ms - left.wall_ms > self.outlives_ms[seen.evse] + ENDS_IN_ORDER_MS:
            seen.stray_mwh += now.metered_mwh - left.metered_mwh

    def found(self, rows: Sequence[Row]) -> None:
        """These are on disk as a station starts, and nobody had been told of them."""
        self.rows(rows)
        for seen in self.open.values():
            if seen.evse in self._left and any(row.tx_id == seen.tx_id and row.kind == "tx_started" for row in rows):
                seen.started = self._left[seen.evse]
                self._look_at_absence(seen)

    def resume_at(self, head_seq: int) -> None:
        """The ledger ends here after a restart: rows that nobody was told of may be there or not."""
        self.head_seq = head_seq

    def _rolled_over(self, evse: int) -> None:
        """The register begins anew: what runs ends at the last reading before, and goes on in another."""
        self.last_ends.pop(evse, None)
        self._rolling.add(evse)
        if evse in self.open:
            self.open[evse].rolled_over = True

    # --------------------------------------------------------------------------------- transactions

    def _transaction(self, fact: TransactionFact, boot_id: str) -> None:
        if fact.kind is TxKind.STARTED:
            self._started(fact, boot_id)
            return
        seen = self.open.get(fact.evse)
        if seen is None or seen.tx_id != fact.tx_id:
            self.wrong(fact.evse, f"{fact.kind.value} of {fact.tx_id}, which is not running")
            return
        if fact.seq_no != seen.seq_no + 1:
            self.wrong(fact.evse, f"{fact.tx_id}: seqNo {fact.seq_no} after {seen.seq_no}")
        seen.seq_no = fact.seq_no
        seen.gaps += fact.gap
        for sample in fact.samples:
            self._sample(seen, sample)
            if sample.context is SampleContext.INTERRUPTION_END:
                self._resumed(seen, boot_id)
        seen.boot_id = boot_id
        if fact.kind is TxKind.ENDED:
            self._ended(seen, fact)

    def _started(self, fact: TransactionFact, boot_id: str) -> None:
        if fact.evse in self.open:
            self.wrong(fact.evse, f"{fact.tx_id} started while {self.open[fact.evse].tx_id} ran")
        if fact.tx_id in self.known:
            self.wrong(fact.evse, f"{fact.tx_id} started twice")
        if fact.seq_no != 0 or not fact.samples:
            self.wrong(fact.evse, f"{fact.tx_id} started with seqNo {fact.seq_no} and {len(fact.samples)} readings")
            return
        self.known.add(fact.tx_id)
        self.transactions += 1
        self._latest[fact.evse] = fact.tx_id
        begin, truth = fact.samples[-1], self.truth(fact.evse)
        before, rewound = self.last_ends.get(fact.evse, (None, 0))
        if before is not None and _fell(before, begin) and rewound == truth.rewound:
            self.wrong(fact.evse, f"{fact.tx_id} begins at {begin.energy_import_mwh} mWh, below the end before it")
        token = "" if fact.token is None else fact.token.id_token
        if fact.authorized_by != "remote" and self.refused(token):
            self.wrong(fact.evse, f"{fact.tx_id} starts with {token}, which nobody knows ({fact.authorized_by})")
        if self.closed(fact.evse) and fact.follows is None:  # else the session that ran goes on in another transaction
            self.wrong(fact.evse, f"{fact.tx_id} starts, and the CSMS was told Inoperative")
        agreed = self._agreed(fact)
        self.open[fact.evse] = Seen(
            fact.tx_id, fact.evse, begin, truth, agreed, last=begin, token=token, boot_id=boot_id
        )

    def _agreed(self, fact: TransactionFact) -> Agreed:
        before = None if fact.follows is None else self._find_ended(fact.follows.tx_id)
        return self.agreements.at_start(fact.evse) if before is None else self.agreements.follows(before.agreed)

    def _find_ended(self, tx_id: str | None) -> Seen | None:
        return next((each for each in reversed(self.ended) if each.tx_id == tx_id), None)

    def _sample(self, seen: Seen, sample: Sample) -> None:
        if seen.last is not None and _fell(seen.last, sample):
            where = f"{seen.last.energy_import_mwh} to {sample.energy_import_mwh} mWh ({sample.meter_state})"
            self.wrong(seen.evse, f"{seen.tx_id}: register fell from {where}")
        seen.last = sample

    def _resumed(self, seen: Seen, boot_id: str) -> None:
        if seen.stopped:
            self.wrong(seen.evse, f"{seen.tx_id} goes on after a restart, and had been stopped before")
        if seen.boot_id != boot_id and boot_id in self.timeless:
            self.wrong(seen.evse, f"{seen.tx_id} goes on after a power cut, and nothing tells how long that was")

    def _ended(self, seen: Seen, fact: TransactionFact) -> None:
        del self.open[fact.evse]
        if not fact.samples:
            self.wrong(fact.evse, f"{fact.tx_id} ended without a reading")
            return
        seen.end, seen.cost = fact.samples[-1], fact.total_cost
        seen.reason = "Local" if fact.stopped_reason is None else fact.stopped_reason.value
        seen.ended_truth = truth = self.truth(fact.evse)
        if fact.evse not in self._rolling and seen.started.rewound == truth.rewound:
            self.last_ends[fact.evse] = seen.end, truth.rewound
        else:
            self.last_ends.pop(fact.evse, None)
        self._rolling.discard(fact.evse)
        self.ended.append(seen)
        asyncio.get_running_loop().call_later(AFTER_END_S, self._look_back, seen, truth)

    def _look_back(self, seen: Seen, ended: Truth) -> None:
        """After its end nothing may flow any more, until there is another transaction."""
        now = self.truth(seen.evse)
        after_mwh = now.metered_mwh - ended.metered_mwh
        undisturbed = now.disturbed == seen.started.disturbed and self._latest[seen.evse] == seen.tx_id
        if undisturbed and after_mwh > TOLERANCE_MWH:
            self.wrong(seen.evse, f"{after_mwh} mWh flowed after the end of {seen.tx_id}, in no transaction")

    def _receipt(self, row: Row) -> None:
        receipt = read.parse(row.body)
        seen = self._find_ended(row.tx_id)
        if seen is None or seen.ended_truth is None:
            self.wrong(row.evse or 0, f"receipt of {row.tx_id}, which has not ended")
            return
        seen.has_receipt = True
        if receipt.bill is not None and Fraction(seen.cost or -1) * 100 != receipt.bill.total_incl:
            self.wrong(seen.evse, f"{seen.tx_id} cost {seen.cost}, its receipt says {receipt.bill.total_incl} cents")
        billed_mwh = receipt.energy_mwh
        if billed_mwh is None:
            return
        self.agreements.judge(seen, receipt)
        self._judge_idle(seen, seen.ended_truth, receipt)
        self.billed_mwh += max(0, billed_mwh)
        true_mwh = seen.ended_truth.metered_mwh - seen.started.metered_mwh - seen.stray_mwh
        tolerance_mwh = seen.started.step_mwh + TOLERANCE_MWH
        owed_mwh = min(seen.started.owed_mwh, seen.started.forgotten_mwh + OWED_STEPS * seen.started.step_mwh)
        if billed_mwh < 0 or billed_mwh > true_mwh + owed_mwh + tolerance_mwh:
            self.wrong(seen.evse, f"{seen.tx_id}: {billed_mwh} mWh billed, {true_mwh} mWh drawn")
        # A reading that cannot be, as where a car takes far more than it may, ends it at the last good one.
        sound = seen.end is not None and seen.end.meter_state == "G" and not seen.rolled_over
        sound = sound and seen.ended_truth.disturbed == seen.started.disturbed
        if sound and billed_mwh < true_mwh - tolerance_mwh:
            self.wrong(seen.evse, f"{seen.tx_id}: only {billed_mwh} mWh billed of {true_mwh} mWh, with nothing amiss")

    def _judge_idle(self, seen: Seen, ended: Truth, receipt: Receipt) -> None:
        """Where the register began anew, this transaction is told later than it ended."""
        billed_ms = 0 if receipt.usage is None else receipt.usage.idle_ms
        true_ms = ended.idle_ms - seen.started.idle_ms
        if billed_ms > true_ms + IDLE_TOLERANCE_MS and not seen.rolled_over:
            self.wrong(seen.evse, f"{seen.tx_id}: {billed_ms} ms idle billed, the car left {true_ms} ms unused")

    # -------------------------------------------------------------------------------------- updates

    def _firmware(self, row: Row) -> None:
        fact = decode_fact(row.kind, row.body)
        assert isinstance(fact, FirmwareFact)
        request, status = self._told
        same = fact.request_id == request and fact.request_id is not None
        allowed = _NEXT.get(status if same else "", frozenset())
        if same and fact.status not in allowed:
            self.wrong(0, f"firmware status {fact.status} after {status} of request {request}")
        self._told = fact.request_id, fact.status


def _fell(before: Sample, after: Sample) -> bool:
    """Within one meter; what is marked as a wrong or substituted value is no reading."""
    sound = after.meter_state in ("G", "T") and before.meter_state in ("G", "T")
    same = before.meter_serial == after.meter_serial
    return sound and same and after.energy_import_mwh < before.energy_import_mwh
