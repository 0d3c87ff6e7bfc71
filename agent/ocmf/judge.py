"""Whether a bill may rest on a record, apart from who signed it.

Charter: rules on what a record says, each broken one a finding in plain words. Pure; no signature is
looked at (``curves.py``). Judged are the registers of energy for billing; where compensated ones are
among them, only those. A meter state other than good condemns the record on any register.

Sources: OCMF 1.4 text; what the official transparency software accepts and refuses, tried out, where the text is
silent (begin R with end not R, error levels, error flag E on begin or end).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from agent.ocmf.errors import Code, Finding
from agent.ocmf.obis import is_billing, is_compensated
from agent.ocmf.parse import Entry, Record
from agent.ocmf.vocabulary import (
    BEGIN_LETTER,
    END_LETTERS,
    ERROR_LEVELS,
    FISCAL,
    FLAGS,
    FORMAT_VERSIONS,
    LEVELS,
    METER_STATES,
    TIME_STATUSES,
    TX_LETTERS,
    TYPES,
    family,
)

_PAGINATION: Final = re.compile(r"([TF])(0|[1-9][0-9]{0,18})")
_GOOD: Final = "G"
_RELATIVE: Final = "R"


class Part(enum.Enum):
    """What of a transaction a record is taken for."""

    WHOLE = "begin and end"
    BEGIN = "begin"
    END = "end"


def judge(record: Record, part: Part = Part.WHOLE) -> tuple[Finding, ...]:
    """Everything to know about one record; billable when no finding blocks."""
    return (
        *record.findings,
        *_general(record),
        *_user(record),
        *_states(record.readings),
        *_times(record.readings),
        *_registers(record, part),
    )


def pagination(record: Record) -> tuple[str, int] | None:
    """The context (T or F) and the number, None where PG is malformed."""
    match = _PAGINATION.fullmatch(record.text("PG"))
    return None if match is None else (match[1], int(match[2]))


def judged_registers(record: Record) -> dict[str, list[Entry]]:
    """The readings of the registers that count for billing, by register, in order."""
    registers: dict[str, list[Entry]] = {}
    for entry in record.readings:
        if entry.obis is not None and is_billing(entry.obis):
            registers.setdefault(entry.obis.strip(), []).append(entry)
    compensated = {obis: entries for obis, entries in registers.items() if is_compensated(obis)}
    return compensated or registers


def between(begin: Entry, end: Entry) -> Iterator[Finding]:
    """Rules that bind the first and the last reading of one register, in one record or in two."""
    if begin.energy_wh is not None and end.energy_wh is not None and begin.energy_wh > end.energy_wh:
        text = f"The end reading ({end.written.strip()}) is lower than the begin reading ({begin.written.strip()})."
        yield Finding(Code.ENERGY_BACKWARDS, text)
    if begin.unit != end.unit:
        yield Finding(Code.UNIT, f"Begin is in {begin.unit}, end in {end.unit}.")
    if begin.event_counter is not None and end.event_counter not in (None, begin.event_counter):
        yield Finding(Code.EVENT_COUNTER, "The meter counted an event between begin and end.")
    if begin.at is None or end.at is None:
        return
    if begin.at.wall_ms > end.at.wall_ms:
        yield Finding(Code.TIME_BACKWARDS, "The end is earlier than the begin.")
    if begin.at.status == _RELATIVE and end.at.status != _RELATIVE:
        text = "The begin's time is relative and the end's is not: the duration between them means nothing."
        yield Finding(Code.TIME_STATUS, text)


# ------------------------------------------------------------------------------------------- general


def _general(record: Record) -> Iterator[Finding]:
    version = record.text("FV")
    if version not in FORMAT_VERSIONS:
        yield Finding(Code.FORMAT_VERSION, f"The format version is {version[:20]!r}, no known one.")
    elif version == FORMAT_VERSIONS[-1]:
        text = f"Format version {version} is refused by the official transparency software 1.4.1."
        yield Finding(Code.FORMAT_VERSION, text, blocks=False)
    number = pagination(record)
    if number is None:
        yield Finding(Code.PAGINATION, f"The record's number {record.text('PG')[:20]!r} is not T or F with a number.")
    elif number[0] == FISCAL:
        yield Finding(Code.FISCAL, "It is a fiscal record, not one of a transaction.")
    if not record.text("GS") and not record.text("MS"):
        yield Finding(Code.SERIAL_MISSING, "It names neither meter nor gateway, so nobody knows whose key signed it.")


def _user(record: Record) -> Iterator[Finding]:
    if "IS" not in record.fields:
        yield Finding(Code.USER_MISSING, "It does not say whether a user was assigned.")
    level = record.text("IL")
    if level in ERROR_LEVELS:
        yield Finding(Code.IDENTIFICATION_ERROR, f"The identification failed ({level}).")
    elif level and level not in LEVELS:
        yield _unknown("identification level", level)
    kind = record.text("IT")
    if kind not in TYPES:
        yield _unknown("identification type", kind)
    flags = record.fields.get("IF") or ()
    for flag in flags:
        if flag not in FLAGS:
            yield _unknown("identification flag", flag)
    if len({family(flag) for flag in flags}) < len(flags):
        yield _unknown("set of identification flags", " ".join(flags))


def _unknown(what: str, word: str) -> Finding:
    return Finding(Code.WORD_UNKNOWN, f"The {what} {word[:60]!r} is not one of the format.", blocks=False)


# ------------------------------------------------------------------------------------------ readings


def _states(readings: Sequence[Entry]) -> Iterator[Finding]:
    for number, entry in enumerate(readings, 1):
        place = f"Reading {number}"
        edge = entry.tx == BEGIN_LETTER or entry.tx in END_LETTERS
        if entry.status != _GOOD:
            state = METER_STATES.get(entry.status, "unknown")
            yield Finding(Code.METER_STATE, f"{place}: the meter's state is {entry.status[:20]!r} ({state}), not good.")
        if "E" in entry.error_flags:
            yield Finding(Code.ENERGY_UNUSABLE, f"{place} is marked: energy unusable.", blocks=edge)
        if "t" in entry.error_flags:
            yield Finding(Code.TIME_UNUSABLE, f"{place} is marked: time unusable.", blocks=False)
        if entry.error_flags.strip("Et"):
            yield Finding(Code.WORD_UNKNOWN, f"{place}: error flag {entry.error_flags[:20]!r} is unknown.")
        if entry.tx == "X":
            yield Finding(Code.EXCEPTION, f"{place} says that time or energy are not usable from there on.")
        elif entry.tx not in TX_LETTERS:
            yield Finding(Code.WORD_UNKNOWN, f"{place}: {entry.tx!r:.20} is no kind of reading in a transaction.")


def _times(readings: Sequence[Entry]) -> Iterator[Finding]:
    statuses = dict.fromkeys(entry.at.status for entry in readings if entry.at is not None)
    for status in statuses:
        if status not in TIME_STATUSES:
            yield Finding(Code.TIME_STATUS, f"The time status {status!r} is unknown.")
        elif status == "U":
            yield Finding(Code.TIME_STATUS, "The clock was never set: times say nothing.", blocks=False)
        elif status == "I":
            yield Finding(Code.TIME_STATUS, "Times are for information, not from a certified clock.", blocks=False)


def _registers(record: Record, part: Part) -> Iterator[Finding]:
    registers = judged_registers(record)
    if not registers:
        codes = ", ".join(dict.fromkeys(str(entry.obis)[:30] for entry in record.readings[:5])) or "no reading at all"
        yield Finding(Code.OBIS, f"No register is one of energy for billing ({codes}).")
    for entries in registers.values():
        yield from _values(entries)
        yield from _shape(entries, part)


def _values(entries: Sequence[Entry]) -> Iterator[Finding]:
    for unit in dict.fromkeys(entry.unit for entry in entries):
        if unit not in ("kWh", "Wh"):
            yield Finding(Code.UNIT, f"The unit is {str(unit)[:20]!r}, not kWh or Wh.")
    if any(entry.value is not None and entry.value < 0 for entry in entries):
        yield Finding(Code.VALUE_NEGATIVE, "A reading is negative.")
    inner = [(a, b) for a, b in pairwise(entries) if not (a.tx == BEGIN_LETTER and b.tx in END_LETTERS)]
    if any(a.energy_wh > b.energy_wh for a, b in inner if a.energy_wh is not None and b.energy_wh is not None):
        yield Finding(Code.ENERGY_BACKWARDS, "The register falls between two readings.")
    if any(a.at.wall_ms > b.at.wall_ms for a, b in inner if a.at is not None and b.at is not None):
        yield Finding(Code.TIME_BACKWARDS, "The clock was set back between two readings.", blocks=False)


def _shape(entries: Sequence[Entry], part: Part) -> Iterator[Finding]:
    begins = [entry for entry in entries if entry.tx == BEGIN_LETTER]
    ends = [entry for entry in entries if entry.tx in END_LETTERS]
    yield from _count(begins, part is not Part.END, Code.BEGIN_MISSING, "begin")
    yield from _count(ends, part is not Part.BEGIN, Code.END_MISSING, "end")
    if begins and entries[0] is not begins[0]:
        yield Finding(Code.READING_ORDER, "A reading stands before the begin.")
    if ends and entries[-1] is not ends[-1]:
        yield Finding(Code.READING_ORDER, "A reading stands after the end.")
    if any(entry.loss for entry in begins):
        yield Finding(Code.LOSS, "Cable losses were subtracted before the begin.")
    if begins and ends:
        yield from between(begins[0], ends[-1])


def _count(found: Sequence[Entry], wanted: bool, missing: Code, name: str) -> Iterable[Finding]:
    if wanted and not found:
        yield Finding(missing, f"There is no {name} reading: the record is not a whole transaction.")
    elif not wanted and found:
        yield Finding(Code.READING_ORDER, f"There is a {name} reading where none belongs.")
    elif len(found) > 1:
        yield Finding(Code.READING_ORDER, f"There are {len(found)} {name} readings of one register.")
