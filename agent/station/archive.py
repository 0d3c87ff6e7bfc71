"""Reading the ledger for others: records for the dialects, open transactions for recovery.

Charter: rows to facts, with their wall times put right. A row made before the clock was set carries
``time_status`` "U"; a later ``clock`` row of the same boot fixes the offset between the clocks, and
with it the time of all rows of that boot. A clock that is set while a transaction runs leaves its rows
on the clock of its start: it lasts as long as it lasted (field fault 6). What a newer release wrote and this one cannot
read is logged and left out; it stays in the ledger (ADR 29). Reads only; the writer is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import structlog

from agent.billing.books import Stamp
from agent.core.events import GapKind, Recovered
from agent.core.facts import (
    KIND_OF,
    CheckpointFact,
    ClockFact,
    CostToldFact,
    Fact,
    PriceFact,
    ReceiptFact,
    Sample,
    SampleContext,
    SignedFact,
    StopFact,
    TariffFact,
    TransactionFact,
    Trigger,
)
from agent.ipc.codec import CodecError, decode_fact, from_json, from_stored
from agent.ipc.port import CsmsTx, Progress, Record
from agent.ledger.reader import PAGE_MAX_ROWS, LedgerReader
from agent.ledger.rows import Row
from agent.ledger.side_records import Transaction
from agent.ledger.state import Namespace
from agent.station.recovery import Stranded

CURSOR = "csms"
_EVENT_KINDS = frozenset({"tx_started", "tx_updated", "tx_ended"})  # each with the next seqNo
_KINDS_OF_RUNNING = _EVENT_KINDS | {KIND_OF[CheckpointFact], KIND_OF[PriceFact]}
TOLD_KINDS = ("tx_started", "tx_updated", "tx_ended", "meter", "security", "event")
_PAGE_ROWS = 500
# Of rows for others: to read, decode and send them takes a station less than the pilot may wait.
_TOLD_ROWS = 100
_TOLD_BYTES = 256 * 1024
_DOCUMENTS = frozenset({KIND_OF[ReceiptFact], KIND_OF[TariffFact]})  # they go without their text: ``_for_others``
_STARTS_KEPT = 16
_COUNTED_ROWS = 10_000  # after a year without a CSMS there are so many that to count them would keep the pilots waiting
_REGISTER = ("at_ms", "meter_serial", "energy_import_mwh")

log = structlog.get_logger("archive")


class Archive:
    """The ledger as a source of records."""

    def __init__(self, path: Path) -> None:
        self._reader = LedgerReader(path)
        self._offsets: dict[str, int] = {}
        self._starts: dict[str, Row] = {}
        self._clock_seq = 0
        self._unreadable_seq = 0  # the last that was logged
        self.skipped_seq = 0  # up to here no row is for the CSMS, be that on disk yet or not

    def close(self) -> None:
        self._reader.close()

    def records(self, after_seq: int, limit: int) -> list[Record]:
        """The next rows that others may see; empty only where none is left. Some are nobody else's (what retention
        removed), and there may be many of them in a row: an empty page would stop whoever reads on."""
        limit = max(1, min(limit, _TOLD_ROWS))
        return self._page(after_seq, lambda seq: _weighed(self._reader.rows(seq, limit)))

    def security_records(self, after_seq: int, limit: int) -> list[Record]:
        """As ``records``."""
        limit = max(1, min(limit, _TOLD_ROWS))
        return self._page(after_seq, lambda seq: self._reader.rows(seq, limit, kinds=("security",)))

    def transaction(self, tx_id: str, after_seq: int = 0, *, newest: bool = False) -> list[Record]:
        """See ``agent.ipc.port.StationPort.transaction``."""

        def read(seq: int) -> list[Row]:
            return _weighed(self._reader.rows(seq, _TOLD_ROWS, tx_id=tx_id, newest=newest), newest=newest)

        return self._page(after_seq, read)

    def _page(self, after_seq: int, read: Callable[[int], list[Row]]) -> list[Record]:
        found: list[Record] = []
        while not found and (rows := read(after_seq)):
            found = self._records(rows)
            after_seq = rows[-1].seq
        return found

    def _pages_of(self, tx_id: str) -> Iterator[list[Row]]:
        """All rows of a transaction, and never more than a page of them at a time: a car may stay for months."""
        after_seq = 0
        while page := self._reader.rows(after_seq, _PAGE_ROWS, tx_id=tx_id):
            yield page
            after_seq = page[-1].seq

    def transactions(self, before_seq: int | None, limit: int) -> list[tuple[Transaction, Record, Record | None]]:
        """Transactions that began before a row, the newest first, with their first rows and, where ended, last ones;
        empty only where none is left that can be read."""
        found: list[tuple[Transaction, Record, Record | None]] = []
        while not found and (page := self._reader.newest_transactions(before_seq, limit)):
            for each in page:
                ends = [] if each.end_seq is None else self._records(self._reader.rows(each.end_seq - 1, 1))
                for begin in self._records(self._reader.rows(each.begin_seq - 1, 1)):
                    found.append((each, begin, ends[0] if ends else None))
            before_seq = page[-1].begin_seq
        return found

    def receipt(self, tx_id: str) -> bytes | None:
        """The newest sealed receipt of a transaction; None where there is none."""
        found = self._reader.transaction(tx_id)
        if found is None or found.receipt_seq is None:
            return None
        rows = self._reader.rows(found.receipt_seq - 1, 1)
        return rows[0].body if rows and rows[0].seq == found.receipt_seq else None

    def told_cost(self, tx_id: str) -> CostToldFact | None:
        """What the CSMS said last that a transaction costs."""
        rows = self._reader.rows(0, 1, kinds=("cost_told",), tx_id=tx_id, newest=True)
        fact = self._fact(rows[0]) if rows else None
        return fact if isinstance(fact, CostToldFact) else None

    def costs_told(self, tx_id: str) -> int | None:
        """How many rows hold the CSMS's last word on a transaction; where it has ended, how many since then. None:
        there is no such transaction."""
        found = self._reader.transaction(tx_id)
        if found is None:
            return None
        return self._reader.count(found.end_seq or found.begin_seq, kinds=("cost_told",), tx_id=tx_id)

    def head_seq(self) -> int:
        return self._reader.head().seq

    def oldest_seq(self) -> int:
        return self._reader.rows(0, 1)[0].seq

    def oldest_untold_wall_ms(self, delivered_seq: int) -> int | None:
        """The time of the first row after this one that concerns the CSMS; None: there is none."""
        records = self._page(delivered_seq, lambda seq: self._reader.rows(seq, 1, kinds=TOLD_KINDS))
        return records[0].wall_ms if records else None

    def last_row(self) -> Row:
        return self._reader.rows(self._reader.head().seq - 1, 1)[0]

    def end_at(self, seq: int) -> Row | None:
        """This row if it ends a transaction."""
        rows = self._reader.rows(seq - 1, 1)
        return rows[0] if rows and rows[0].seq == seq and rows[0].kind == "tx_ended" else None

    def known_keys(self) -> set[str]:
        """The ids of all keys that ever signed here."""
        return {key.key_id for key in self._reader.signing_keys()}

    def meters_in_use(self) -> dict[int, str]:
        """The serial of the meter that each EVSE had last."""
        return {meter.evse: meter.serial for meter in self._reader.meters() if meter.to_seq is None}

    def state(self, namespace: Namespace) -> dict[str, str]:
        return self._reader.state(namespace)

    def delivered_seq(self) -> int:
        return max(self.skipped_seq, int(self.state(Namespace.CURSOR).get(CURSOR, "0")))

    def progress(self) -> Progress:
        delivered = self.delivered_seq()
        kept = self._reader.state_of_running(Namespace.CSMS_TX, delivered)
        csms_txs = tuple(_csms_tx(tx_id, text) for tx_id, text in kept.items())
        return Progress(delivered, csms_txs, self._reader.count(delivered, kinds=TOLD_KINDS, limit=_COUNTED_ROWS))

    def untold_events(self) -> int:
        """How many rows of monitors wait for the CSMS."""
        return self._reader.count(self.delivered_seq(), kinds=("event",))

    def left_over_csms_txs(self) -> list[str]:
        """Transactions that the CSMS has heard the end of and whose CSMS's id is kept all the same; at most
        ``PAGE_MAX_ROWS``."""
        return self._reader.state_of_ended(Namespace.CSMS_TX, self.delivered_seq(), PAGE_MAX_ROWS)

    def clock_of(self, boot_id: str) -> Row | None:
        """Of the newest rows of this boot the one that was made last: each tells by which clock the station went then.
        A row that waits for a meter's signature comes to the ledger after younger ones."""
        rows = self._reader.rows(0, _TOLD_ROWS, newest=True)
        return max(
            (row for row in rows if row.boot_id == boot_id), key=lambda row: (row.mono_ms, row.seq), default=None
        )

    def _records(self, rows: list[Row]) -> list[Record]:
        self._learn_clock()
        found = []
        for row in rows:
            fact = _for_others(self._fact(row))
            if fact is None:
                continue
            offset_ms, known = self._clock_of(row)
            found.append(Record(row.seq, row.kind, fact, row.mono_ms + offset_ms, offset_ms, known))
        return found

    def _fact(self, row: Row) -> Fact | None:
        """None also for what cannot be read: whoever asks again and again must not end the station."""
        try:
            return decode_fact(row.kind, row.body, row.tx_id, row.evse)
        except CodecError as error:
            if row.seq > self._unreadable_seq:
                self._unreadable_seq = row.seq
                log.error("row of another release cannot be read", row=row.seq, kind=row.kind, why=str(error))
            return None

    def _clock_of(self, row: Row) -> tuple[int, bool]:
        """What to add to the monotonic times of a row, and whether that is known or all there is."""
        known = self._offsets.get(row.boot_id) if row.time_status == "U" else row.wall_ms - row.mono_ms
        offset_ms = row.wall_ms - row.mono_ms if known is None else known
        start = None if row.tx_id is None else self._start_of(row.tx_id)
        if start is not None and start.seq < row.seq:
            start_offset_ms, start_known = self._clock_of(start)
            if start.boot_id == row.boot_id:
                return start_offset_ms, start_known
            return max(offset_ms, start.mono_ms + start_offset_ms - row.mono_ms), known is not None
        return offset_ms, known is not None

    def _start_of(self, tx_id: str) -> Row | None:
        """The first row of a transaction; the last few that were asked for are remembered."""
        if tx_id not in self._starts:
            found = self._reader.transaction(tx_id)
            if found is None:
                return None
            (self._starts[tx_id],) = self._reader.rows(found.begin_seq - 1, 1)
            if len(self._starts) > _STARTS_KEPT:
                del self._starts[next(iter(self._starts))]
        return self._starts[tx_id]

    def _learn_clock(self) -> None:
        """The first fix of each boot restamps what came before it."""
        while page := self._reader.rows(self._clock_seq, _PAGE_ROWS, kinds=("clock",)):
            for row in page:
                if isinstance(fact := self._fact(row), ClockFact):
                    self._offsets.setdefault(row.boot_id, fact.wall_ms - row.mono_ms)
            self._clock_seq = page[-1].seq

    # ------------------------------------------------------------------------------------ recovery

    def open_tx_ids(self) -> list[str]:
        return [start.tx_id for start in self._reader.open_transactions() if start.tx_id is not None]

    def half_told(self, delivered_seq: int) -> list[str]:
        """Transactions that a CSMS which was told all up to this row knows, and has not heard the end of."""
        return self._reader.begun_and_not_ended(delivered_seq)

    def open_transactions(self, boot_id: str, mono_ms: int, wall_ms: int | None) -> list[Recovered | Stranded]:
        """Transactions with a start row and no end row, as the core wants to hear of them, or as they must end here.

        One with a row of another release that cannot be read is not resumed: that row may have stopped it. One after
        which others began at its EVSE has been left open by such a release, and what has flowed since is not its own.
        One of which not even a reading can be read waits for the release that can.

        ``wall_ms`` None: no clock can be trusted yet, so only a gap within one boot is known."""
        found: list[Recovered | Stranded | None] = []
        for start in self._reader.open_transactions():
            assert start.tx_id is not None
            traces = _Traces(start)
            for page in self._pages_of(start.tx_id):
                traces.take(page, self._records(page))
            if not traces.whole:
                found.append(_stranded(traces, boot_id, "it has rows that only another release can read"))
            elif self._began_since(start):
                found.append(_stranded(traces, boot_id, "others have charged here since"))
            else:
                found.append(self._recovered(traces, boot_id, mono_ms, wall_ms))
        return [each for each in found if each is not None]

    def _began_since(self, start: Row) -> bool:
        newest = self._reader.newest_transactions(None, PAGE_MAX_ROWS)
        return any(each.evse == start.evse and each.begin_seq > start.seq for each in newest)

    def history(self, tx_id: str) -> Iterator[tuple[Fact, Stamp]]:
        """A transaction's facts with the clocks of their rows as they stood then. Raises ``CodecError`` for one that
        cannot be read: a bill must not be made without it."""
        for row in (row for page in self._pages_of(tx_id) for row in page):
            fact = decode_fact(row.kind, row.body, row.tx_id, row.evse)
            if fact is not None:
                yield fact, Stamp(row.boot_id, row.mono_ms, row.wall_ms, row.time_status)

    def signed_before(self, tx_id: str, evse: int) -> bytes | None:
        """The newest signed record of other transactions of an EVSE, if it is among the last ones of all."""
        rows = self._reader.rows(0, PAGE_MAX_ROWS, kinds=(KIND_OF[SignedFact],), newest=True)
        return next((row.body for row in reversed(rows) if row.evse == evse and row.tx_id != tx_id), None)

    def tariff_text(self, content_hash: str) -> str | None:
        """The canonical text of a tariff this ledger knows."""
        found = self._reader.tariff(bytes.fromhex(content_hash))
        return None if found is None else found.text.decode()

    def tariff_source(self, content_hash: str) -> str | None:
        """Who brought a tariff first, if this ledger knows it."""
        found = self._reader.tariff(bytes.fromhex(content_hash))
        return None if found is None else found.source

    def _recovered(self, traces: _Traces, boot_id: str, mono_ms: int, wall_ms: int | None) -> Recovered:
        start, (ran, ran_wall_ms, known), last = traces.begin, traces.ran, traces.last
        assert start is not None and last is not None
        first = start.fact
        assert isinstance(first, TransactionFact)
        same_boot = ran.boot_id == boot_id
        gap_ms: int | None = None
        if same_boot:
            gap_ms = mono_ms - ran.mono_ms
        elif wall_ms is not None and known and wall_ms >= ran_wall_ms:  # else it is behind, and tells nothing
            gap_ms = wall_ms - ran_wall_ms
        return Recovered(
            evse=first.evse,
            tx_id=first.tx_id,
            next_seq_no=traces.next_seq_no,
            token=first.token,
            group=first.group,
            begin_energy_mwh=first.samples[-1].energy_import_mwh,
            last=last,
            gap=GapKind.PROCESS if same_boot else GapKind.POWER,
            gap_ms=gap_ms,
            authorized_by=first.authorized_by,
            energy_blocked=traces.blocked,
            stop=traces.stop,
            age_ms=ran_wall_ms - self._session_began_ms(start) + (gap_ms or 0),
            follows=first.follows,
        )

    def _session_began_ms(self, start: Record) -> int:
        """By the clock, as far as the rows are still there."""
        while isinstance(start.fact, TransactionFact) and start.fact.follows is not None:
            before = self._records(self._reader.rows(0, 1, tx_id=start.fact.follows.tx_id))
            if not before:
                break
            start = before[0]
        return start.wall_ms


class _Traces:
    """What the rows of an open transaction come to, taken page by page."""

    def __init__(self, start: Row) -> None:
        self.start = self.last_row = start
        self.whole = True  # all of them can be read
        self.begin: Record | None = None
        self.last: Sample | None = None  # the newest reading, also out of a row that cannot be read as a whole
        # What is said of it (a cost, a limit) may come while it is being recovered: no sign that it ran in that boot.
        self.ran = start, start.wall_ms, False  # the newest row that is one, when it was, and if that is known
        self.events = self.next_seq_no = 0
        self.blocked = False
        self.stop: StopFact | None = None

    def take(self, rows: list[Row], records: list[Record]) -> None:
        read = {record.seq: record for record in records}
        for row in rows:
            self.last_row = row
            self.events += row.kind in _EVENT_KINDS
            if (record := read.get(row.seq)) is None:
                self.whole = False
                self._note(_left_in(row.body))
                continue
            self._note(_readings(record.fact))
            if row.kind in _KINDS_OF_RUNNING:
                self.ran = row, record.wall_ms, record.trusted_time
            if isinstance(record.fact, TransactionFact):
                self.begin = record if row.seq == self.start.seq else self.begin
                self.next_seq_no = record.fact.seq_no + 1
                self.blocked = self.blocked or record.fact.trigger is Trigger.DEAUTHORIZED
            elif isinstance(record.fact, StopFact):
                self.stop = record.fact

    def _note(self, samples: tuple[Sample, ...]) -> None:
        if samples:
            self.last = _newest([self.last or samples[-1], *samples])


def _stranded(traces: _Traces, boot_id: str, why: str) -> Stranded | None:
    """None: not even a reading is there."""
    start, last = traces.start, traces.last
    if last is None:
        return None
    assert start.tx_id is not None and start.evse is not None
    gap = GapKind.PROCESS if traces.last_row.boot_id == boot_id else GapKind.POWER
    return Stranded(start.evse, start.tx_id, traces.events, last, gap, why)


def _for_others(fact: Fact | None) -> Fact | None:
    """Documents that no dialect needs go without their text: it may be long."""
    match fact:
        case ReceiptFact():
            return replace(fact, document="")
        case TariffFact():
            return replace(fact, text="")
        case _:
            return fact


def _weighed(rows: list[Row], *, newest: bool = False) -> list[Row]:
    """As many of these as an answer should weigh, the first of them or the last; one at least."""
    taken, bytes_left = 0, _TOLD_BYTES
    for row in reversed(rows) if newest else rows:
        bytes_left -= 0 if row.kind in _DOCUMENTS else len(row.body)
        if taken and bytes_left < 0:
            break
        taken += 1
    return rows[len(rows) - taken :] if newest else rows[:taken]


def csms_tx_text(tx: CsmsTx) -> str:
    """As ``Namespace.CSMS_TX`` keeps it."""
    return f"{tx.csms_id}{' given_up' if tx.given_up else ''}"


def _csms_tx(tx_id: str, text: str) -> CsmsTx:
    number, _, given_up = text.partition(" ")
    return CsmsTx(tx_id, int(number), given_up == "given_up")


def _newest(samples: list[Sample]) -> Sample:
    """Registers only rise, so the greatest is the newest, whatever order rows were made in."""
    return max(samples, key=lambda sample: sample.energy_import_mwh)


def _readings(fact: Fact) -> tuple[Sample, ...]:
    match fact:
        case TransactionFact(samples=samples) | PriceFact(samples=samples):
            return samples
        case CheckpointFact(sample=sample):
            return (sample,)
        case _:
            return ()


def _left_in(body: bytes) -> tuple[Sample, ...]:
    """The registers in a row that cannot be read as a whole."""
    try:
        kept = [{name: each[name] for name in _REGISTER} for each in from_json(body)["samples"]]
        return tuple(from_stored({"context": SampleContext.END, **each}, Sample) for each in kept)
    except (CodecError, KeyError, TypeError):
        return ()
