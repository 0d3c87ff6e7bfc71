"""The signed documents of a ledger, and the registers, looked at row by row.

Charter: what the ledger itself cannot know: whether the records and receipts in its rows carry valid
signatures of this station's keys, stand where they say, and have numbers; and that no register falls (but by
starting again at 0, where the log book says so). How long a transaction took is told by its usage, which counts
elapsed time: a clock that was set back meanwhile is no finding.
Given to ``LedgerReader.audit`` as ``number_of``; collects findings of its own, in constant memory. A receipt
that says honestly that its readings are not fit for a bill is no finding. Nor is what another release wrote and
this one cannot read (ADR 29): the chain covers its bytes, and a receipt must be signed by this station all the same.

Invariants (metering reference 5): E2, E3, L2, L3, R3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from agent.billing import consistency, read, verdicts
from agent.billing.errors import ReceiptError
from agent.billing.seal import opened, signed_by
from agent.core.facts import CheckpointFact, Fact, LogEntry, LogFact, PriceFact, Sample, TransactionFact
from agent.ipc.codec import CodecError, decode_fact
from agent.ledger.rows import Row
from agent.ocmf.errors import OcmfError
from agent.ocmf.judge import pagination
from agent.ocmf.parse import parse
from agent.ocmf.public_key import PublicKey, parse_key
from agent.ocmf.verify import verify

FINDINGS_MAX: Final = 100
_METERS_MAX: Final = 1_000
_READING_KINDS: Final = frozenset({"tx_started", "tx_updated", "tx_ended", "checkpoint", "price", "log"})


@dataclass(frozen=True, slots=True)
class DocumentFinding:
    """What is wrong with the document or the register of one row."""

    seq: int
    what: str  # "signature", "place", "document", "register", or a verdict's name
    detail: str


class DocumentCheck:
    """Look at rows in order. ``keys`` are the DER public keys that ever signed here."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = [parse_key(der) for der in keys]
        self._registers: dict[str, int] = {}  # meter serial -> the highest register so far
        self._begin_anew: set[str] = set()  # meters whose register may fall once
        self.findings: list[DocumentFinding] = []
        self.signed = self.receipts = 0
        self.unread = 0  # rows of another release

    def number_of(self, row: Row) -> tuple[str, int] | None:
        """Judge a row; the number of its counter that is in it, if any."""
        if row.kind == "signed":
            return self._record(row)
        if row.kind == "receipt":
            return self._receipt(row)
        if row.kind in _READING_KINDS:
            self._registers_of(row)
        return None

    def _find(self, row: Row, what: str, detail: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(DocumentFinding(row.seq, what, detail))

    # ------------------------------------------------------------------------------------- records

    def _record(self, row: Row) -> tuple[str, int] | None:
        self.signed += 1
        try:
            record = parse(row.body)
        except OcmfError as error:
            self._find(row, "document", str(error))
            return None
        if not any(verify(record, key).signature.valid for key in self._keys):
            self._find(row, "signature", f"record {record.text('PG')} is not signed by a key of this station")
        ours = record.fields.get("UH")
        if ours is None:
            return None  # a meter that signs by itself counts by itself
        if ours != row.prev_hash.hex():
            self._find(row, "place", f"record {record.text('PG')} was signed for another place in the ledger")
        return pagination(record)

    def _receipt(self, row: Row) -> tuple[str, int] | None:
        self.receipts += 1
        try:
            receipt = read.parse(row.body)
        except ReceiptError as error:
            number = self._number_of_unread(row.body)
            if number is None:
                self._find(row, "document", str(error))
                return None
            self.unread += 1
            return "receipt", number
        if (receipt.seq, receipt.prev_hash) != (row.seq, row.prev_hash.hex()):
            self._find(row, "place", f"receipt {receipt.number} was signed for another place in the ledger")
        for verdict in verdicts.verify(receipt, self._key_of(receipt)):
            if verdict.state is verdicts.State.BAD and verdict.name not in ("billable", "plausibility"):
                self._find(row, verdict.name, f"receipt {receipt.number}: {verdict.text}")
        for text in consistency.implausible(_by_elapsed_time(receipt)):
            self._find(row, "plausibility", f"receipt {receipt.number}: {text}")
        return "receipt", receipt.number

    def _number_of_unread(self, sealed: bytes) -> int | None:
        """Of a receipt in another form than ours: its number, if the station has signed it."""
        try:
            payload, signature = opened(sealed)
            number = read.number_in(payload)
        except ReceiptError:
            return None
        signed = (key.der is not None and signed_by(payload, signature, key.der) for key in self._keys)
        return number if any(signed) else None

    def _key_of(self, receipt: read.Receipt) -> PublicKey | None:
        """The station's key that the receipt names; the first where it names none of them."""
        named = receipt.facts.public_key.lower()
        of_that_name = (key for key in self._keys if key.der is not None and key.der.hex() == named)
        return next(of_that_name, self._keys[0] if self._keys else None)

    # ----------------------------------------------------------------------------------- registers

    def _registers_of(self, row: Row) -> None:
        try:
            fact = decode_fact(row.kind, row.body, row.tx_id, row.evse)
        except CodecError:
            self.unread += 1
            return
        if isinstance(fact, LogFact) and fact.entry is LogEntry.METER_ROLLOVER:
            self._begin_anew.add(dict(fact.details).get("serial", ""))  # at the transaction after this one
        sample = _newest(fact)
        if sample is None or sample.substituted:
            return
        last_mwh = self._registers.get(sample.meter_serial, 0)
        if sample.energy_import_mwh < last_mwh and sample.meter_serial in self._begin_anew:
            self._begin_anew.discard(sample.meter_serial)
            last_mwh = 0
        if sample.energy_import_mwh < last_mwh:
            fell = f"register of meter {sample.meter_serial} falls from {last_mwh} to {sample.energy_import_mwh} mWh"
            self._find(row, "register", fell)
        elif len(self._registers) < _METERS_MAX or sample.meter_serial in self._registers:
            self._registers[sample.meter_serial] = sample.energy_import_mwh


def _by_elapsed_time(receipt: read.Receipt) -> read.Receipt:
    facts, usage = receipt.facts, receipt.usage
    if usage is None:
        return receipt
    end = replace(facts.end, wall_ms=facts.begin.wall_ms + usage.elapsed_ms)
    return replace(receipt, facts=replace(facts, end=end))


def _newest(fact: Fact | None) -> Sample | None:
    match fact:
        case TransactionFact(samples=samples) | PriceFact(samples=samples) if samples:
            return samples[-1]
        case CheckpointFact(sample=sample):
            return sample
        case _:
            return None
