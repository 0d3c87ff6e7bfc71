"""Do the parts of a receipt tell the same story, and can it be true?

Charter: compares what the receipt says with its meter records and its usage, all of them already parsed. Each
function gives the mistakes it finds, in words; none means that all is well.

Units: mWh, ms, mW.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from agent.billing import receipt
from agent.billing.facts import Moment, ReceiptFacts
from agent.billing.prices import tariffs_of
from agent.billing.read import Receipt
from agent.ocmf.errors import Code, Finding
from agent.ocmf.judge import Part, judge
from agent.ocmf.parse import Entry, Record
from agent.ocmf.public_key import PublicKey
from agent.ocmf.record import plain_text
from agent.ocmf.verify import billed, verify_pair, verify_sequence
from agent.ocmf.vocabulary import BEGIN_LETTER, END_LETTERS
from agent.tariff.model import Dimension
from agent.tariff.usage import Usage

METER_STEP_MWH: Final = 10_000
"""How far a meter's own signed register may be from ours: the step of a coarse display register."""
METER_CLOCK_MS: Final = 120_000
_CLOCK_STEP_MS: Final = METER_CLOCK_MS // 2  # a smaller step of our clock leaves a meter that is late within its bound
_POWER_MAX_MW: Final = 1_000_000_000  # no EVSE of ours gives a megawatt
_MS_PER_HOUR: Final = 3_600_000
# In one transaction the numbers need not follow each other: other EVSEs sign with the same key.
_OF_OTHERS: Final = frozenset({Code.PAGINATION_GAP})


# ------------------------------------------------------------------------------------------- records


def unbillable(records: list[Record]) -> Iterator[str]:
    """Why no bill may rest on these records."""
    ends = _ends(records)
    if ends is None:
        yield "no record holds the end of the transaction, or none its begin"
        return
    begin, end = ends
    if begin is end:
        yield from _blocking(judge(begin, Part.WHOLE))
    else:
        pair = verify_pair(begin, end, None)
        yield from _blocking((*pair.begin.findings, *pair.end.findings, *pair.findings))
    yield from _blocking(each for each in verify_sequence(records) if each.code not in _OF_OTHERS)


def _ends(records: list[Record]) -> tuple[Record, Record] | None:
    """The record with the begin and that with the end: preferably one that has both."""
    begins = [record for record in records if any(entry.tx == BEGIN_LETTER for entry in record.readings)]
    ends = [record for record in records if any(entry.tx in END_LETTERS for entry in record.readings)]
    if not begins or not ends:
        return None
    return (ends[-1] if ends[-1] in begins else begins[0]), ends[-1]


def _blocking(findings: Iterator[Finding] | tuple[Finding, ...]) -> Iterator[str]:
    yield from (each.text for each in findings if each.blocks)


# --------------------------------------------------------------------------------------- consistency


def differences(found: Receipt, records: list[Record], key: PublicKey | None) -> Iterator[str]:
    """Where receipt, records and usage do not say the same."""
    if key is not None and key.der is not None and key.der.hex() != found.facts.public_key.lower():
        yield "the receipt names another public key than the one it is checked with"
    yield from _against_records(found, records)
    if found.usage is not None:
        yield from _against_usage(found, found.usage)
    if found.bill is not None and [line.tariff_id for line in found.bill.lines] != [
        found.facts.tariffs[line.tariff].tariff_id if 0 <= line.tariff < len(found.facts.tariffs) else None
        for line in found.bill.lines
    ]:
        yield "a line of the bill names a tariff that is not in the receipt"
    for tariff, used in zip(tariffs_of(found), found.facts.tariffs, strict=True):
        if tariff is not None and tariff.tariff_id != used.tariff_id:
            yield f"tariff {used.tariff_id!r:.70} has another id in its text"


def _against_records(found: Receipt, records: list[Record]) -> Iterator[str]:
    facts, ends = found.facts, _ends(records)
    if ends is None:
        return
    for record in records:
        if record.text("MS") != plain_text(facts.place.meter_serial, 80):
            yield "a record is of another meter"
        if record.text("ID") not in ("", plain_text(facts.token, 40)):
            yield "a record names another token"
    readings = billed(ends[0], None if ends[0] is ends[1] else ends[1])
    if readings is None:
        yield "the records hold no begin and end of one register"
        return
    if facts.record_key:
        yield from _near_registers(facts, *readings)
        yield from _near_times(found, *readings)
        return
    yield from _against_reading("begin", readings[0], facts.begin, facts.begin_mwh)
    yield from _against_reading("end", readings[1], facts.end, facts.end_mwh)


def _against_reading(name: str, entry: Entry, at: Moment, energy_mwh: int | None) -> Iterator[str]:
    if entry.energy_wh is None or energy_mwh is None or entry.energy_wh * 1_000 != energy_mwh:
        yield f"the register at the {name} is not that of the record"
    stamp = entry.at
    if stamp is None or (stamp.wall_ms, stamp.zone_offset_minutes) != (at.wall_ms, at.offset_minutes):
        yield f"the time of the {name} is not that of the record"
    elif stamp.status != at.time_status:
        yield f"the quality of the clock at the {name} is not that of the record"


def _near_registers(facts: ReceiptFacts, begin: Entry, end: Entry) -> Iterator[str]:
    """A meter that signs by itself reads its register a moment before or after the station does."""
    for name, entry, energy_mwh in (("begin", begin, facts.begin_mwh), ("end", end, facts.end_mwh)):
        ahead_mwh = None if entry.energy_wh is None or energy_mwh is None else entry.energy_wh * 1_000 - energy_mwh
        # A substituted reading is from before the end: the meter may have counted on, and nobody is billed for it.
        counted_on = name == "end" and facts.flags.substituted_reading and ahead_mwh is not None and ahead_mwh > 0
        if ahead_mwh is None or (abs(ahead_mwh) > METER_STEP_MWH and not counted_on):
            yield f"the register at the {name} is not that of the meter's own record"


def _near_times(found: Receipt, begin: Entry, end: Entry) -> Iterator[str]:
    """Such a meter also has a clock of its own, which is set at the begin where the station knows the time then, and
    goes on by itself. The end tells nothing where our clock was set meanwhile, and where it is another instant than the
    meter's: this one ends its record when the power fails, and answers when a reading had to be substituted."""
    facts = found.facts
    if not _both_known(begin, facts.begin):
        return
    if _is_far(begin, facts.begin):
        yield "the time of the begin is far from that of the meter's own record"
    another_instant = facts.flags.power_failure or facts.flags.substituted_reading
    if another_instant or _clock_was_set(found) or not _both_known(end, facts.end):
        return
    if _is_far(end, facts.end):
        yield "the time of the end is far from that of the meter's own record"


def _both_known(entry: Entry, at: Moment) -> bool:
    return at.time_status != "U" and (entry.at is None or entry.at.status != "U")


def _is_far(entry: Entry, at: Moment) -> bool:
    return entry.at is None or abs(entry.at.wall_ms - at.wall_ms) > METER_CLOCK_MS


def _clock_was_set(found: Receipt) -> bool:
    """Ours, between begin and end: then it has not gone as far as time has passed. Without usage nobody knows."""
    if found.usage is None or not found.usage.periods:
        return True
    went_ms = found.facts.end.wall_ms - found.facts.begin.wall_ms
    return abs(went_ms - found.lasted_ms) > _CLOCK_STEP_MS


def _against_usage(found: Receipt, usage: Usage) -> Iterator[str]:
    if (usage.begin_mwh, usage.end_mwh) != (found.facts.begin_mwh, found.facts.end_mwh):
        yield "the usage counts from other registers"
    if sum(period.energy_mwh for period in usage.periods) != usage.energy_mwh:
        yield "the energy of the periods is not the difference of the registers"
    if usage.estimated_split != found.facts.flags.estimated_split:
        yield "the receipt does not say rightly whether energy was divided without a reading"
    volumes = {
        (each.tariff, each.dimension, each.price): each.amount
        for each in usage.volumes
        if each.dimension in _OF_PERIODS and each.amount
    }
    if volumes != _period_volumes(usage):
        yield "what is billed is not what the periods add up to"


_OF_PERIODS: Final = frozenset({Dimension.ENERGY, Dimension.CHARGING_TIME, Dimension.IDLE_TIME})


def _period_volumes(usage: Usage) -> dict[tuple[int, Dimension, int], int]:
    amounts: Counter[tuple[int, Dimension, int]] = Counter()
    for period in usage.periods:
        for dimension, price, amount in (
            (Dimension.ENERGY, period.energy, period.energy_mwh),
            (Dimension.CHARGING_TIME, period.charging_time, period.charging_ms),
            (Dimension.IDLE_TIME, period.idle_time, period.idle_ms),
        ):
            if period.tariff is not None and price is not None and amount:
                amounts[period.tariff, dimension, price] += amount
    return dict(amounts)


# -------------------------------------------------------------------------------------- plausibility


def implausible(found: Receipt) -> Iterator[str]:
    """What cannot have been so. Over a power failure the clock may have been lost: then begin and end do not tell how
    long it took."""
    facts, energy_mwh = found.facts, found.energy_mwh
    if facts.end.wall_ms < facts.begin.wall_ms and not facts.flags.power_failure:
        yield "it ends before it begins"
    if energy_mwh is not None:
        if energy_mwh < 0:
            yield "the register fell"
        elif energy_mwh * _MS_PER_HOUR > _POWER_MAX_MW * max(found.lasted_ms, 1_000) and not facts.flags.power_failure:
            yield "so much energy in so little time takes more than a megawatt"
    if facts.unassigned_before_mwh is not None and facts.unassigned_before_mwh < 0:
        yield "the register at the begin is below that of the end before"
    if found.usage is not None:
        yield from _implausible_usage(found, found.usage)


def _implausible_usage(found: Receipt, usage: Usage) -> Iterator[str]:
    periods = usage.periods
    for period in periods:
        if period.charging_ms + period.idle_ms + period.unbilled_ms > period.to_ms - period.from_ms:
            yield "a period holds more time than it lasts"
            return
    if receipt.PERIODS not in found.left_out and any(one.to_ms != other.from_ms for one, other in pairwise(periods)):
        yield "the periods do not follow each other without a gap"
