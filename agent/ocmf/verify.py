"""Verdicts on records: who signed, and whether a bill may rest on it. Two questions, two answers.

Charter: puts together what ``curves.py`` and ``judge.py`` find, for one record, for a pair of begin and
end, for a run of records. A forged record can be perfectly billable and a genuine one worthless; only
``good`` is both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.ocmf.curves import SignatureState, SignatureVerdict, check
from agent.ocmf.errors import Code, Finding
from agent.ocmf.judge import Part, between, judge, judged_registers, pagination
from agent.ocmf.parse import Entry, Record, parse
from agent.ocmf.public_key import PublicKey
from agent.ocmf.vocabulary import BEGIN_LETTER, END_LETTERS

__all__ = ["PairVerdict", "SignatureState", "Verdict", "billed", "verify", "verify_pair", "verify_sequence"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one record. ``billable`` says nothing about the signature, and the reverse."""

    record: Record
    signature: SignatureVerdict
    findings: tuple[Finding, ...]

    @property
    def billable(self) -> bool:
        return not any(finding.blocks for finding in self.findings)

    @property
    def good(self) -> bool:
        return self.signature.valid and self.billable


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """On a begin and an end record; ``findings`` are those between the two."""

    begin: Verdict
    end: Verdict
    findings: tuple[Finding, ...]

    @property
    def signed(self) -> bool:
        return self.begin.signature.valid and self.end.signature.valid

    @property
    def billable(self) -> bool:
        return self.begin.billable and self.end.billable and not any(finding.blocks for finding in self.findings)

    @property
    def good(self) -> bool:
        return self.signed and self.billable


def verify(record: bytes | Record, key: PublicKey | None, part: Part = Part.WHOLE) -> Verdict:
    """Judge one record; OcmfError when the bytes are no record at all."""
    found = _parsed(record)
    return Verdict(found, check(found.payload, found.signature, key), judge(found, part))


def verify_pair(begin: bytes | Record, end: bytes | Record, key: PublicKey | None) -> PairVerdict:
    """Judge a transaction that was signed in two records."""
    first, last = _parsed(begin), _parsed(end)
    return PairVerdict(
        verify(first, key, Part.BEGIN), verify(last, key, Part.END), tuple(_between_records(first, last))
    )


def verify_sequence(records: Iterable[bytes | Record]) -> tuple[Finding, ...]:
    """What numbers and times say about records in the order they were made, per signer and context.

    A gap blocks nothing: it is a removed record in a whole ledger, and other people's charging in the
    file of one driver. The caller knows which of the two it has.
    """
    findings: list[Finding] = []
    latest: dict[tuple[str, str, str], tuple[int, Record]] = {}
    seen: dict[tuple[str, str, str, int], bytes] = {}
    for record in map(_parsed, records):
        number = pagination(record)
        if number is None:
            findings.append(Finding(Code.PAGINATION, f"A record's number {record.text('PG')[:20]!r} is malformed."))
            continue
        counter = (record.text("GS"), record.text("MS"), number[0])
        twice = seen.setdefault((*counter, number[1]), record.raw)
        if twice is not record.raw:
            findings.append(_twice(record, twice))
            continue
        if counter in latest:
            findings += _following(*latest[counter], number[1], record)
        latest[counter] = (number[1], record)
    return tuple(findings)


def billed(begin: Record, end: Record | None = None) -> tuple[Entry, Entry] | None:
    """The two readings a bill would rest on, in one record or in two; None where one is missing."""
    last = judged_registers(end or begin)
    for obis, entries in judged_registers(begin).items():
        begins = [entry for entry in entries if entry.tx == BEGIN_LETTER]
        ends = [entry for entry in last.get(obis, ()) if entry.tx in END_LETTERS]
        if begins and ends:
            return begins[0], ends[-1]
    return None


# ----------------------------------------------------------------------------------------- relations


def _parsed(record: bytes | Record) -> Record:
    return parse(record) if isinstance(record, bytes) else record


def _between_records(begin: Record, end: Record) -> Iterator[Finding]:
    for key, what in (("GS", "gateway"), ("MS", "meter"), ("IT", "kind of identification"), ("ID", "identification")):
        if begin.text(key) != end.text(key):
            yield Finding(Code.PAIR_MISMATCH, f"Begin and end name a different {what}.")
    if begin.fields.get("IS") != end.fields.get("IS"):
        yield Finding(Code.PAIR_MISMATCH, "Only one of begin and end has a user assigned.")
    first, last = pagination(begin), pagination(end)
    if first is not None and last is not None and first >= last:
        yield Finding(Code.PAGINATION_ORDER, f"The end's number {last[1]} is not after the begin's {first[1]}.")
    if judged_registers(begin).keys() != judged_registers(end).keys():
        yield Finding(Code.PAIR_MISMATCH, "Begin and end are of different registers.")
    readings = billed(begin, end)
    if readings is not None:
        yield from between(*readings)


def _twice(record: Record, earlier: bytes) -> Finding:
    number = record.text("PG")
    if record.raw == earlier:
        return Finding(Code.PAGINATION_TWICE, f"Record {number} is there twice.", blocks=False)
    return Finding(Code.PAGINATION_TWICE, f"There are two different records {number}: one is not genuine.")


def _following(before: int, earlier: Record, number: int, record: Record) -> Iterator[Finding]:
    context = record.text("PG")[:1]
    if number > before + 1:
        missing = (
            f"{context}{before + 1}" if number == before + 2 else f"{context}{before + 1} to {context}{number - 1}"
        )
        text = f"Between {context}{before} and {context}{number} is missing: {missing}."
        yield Finding(Code.PAGINATION_GAP, text, blocks=False)
    elif number < before:
        text = f"Record {context}{number} comes after {context}{before}."
        yield Finding(Code.PAGINATION_ORDER, text, blocks=False)
        return
    times = [[entry.at.wall_ms for entry in one.readings if entry.at is not None] for one in (earlier, record)]
    if all(times) and times[0][-1] > times[1][-1]:
        text = f"Record {context}{number} ends before record {context}{before} did."
        yield Finding(Code.TIME_BACKWARDS, text, blocks=False)
