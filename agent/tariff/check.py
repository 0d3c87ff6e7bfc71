"""What is odd about a tariff that can be used: prices that never count, times without a price.

Charter: warnings for the person who wrote the tariff; ``parse`` has refused what is wrong. Local time is looked at
in a grid of date ranges, weekdays and minutes of the day (a bit each), so that a price hidden by several earlier
ones together is found as well. Conditions other than local ones are compared one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from agent.tariff.calendar import next_skip
from agent.tariff.model import DAY_MINUTES, Conditions, Dimension, Price, Tariff
from agent.tariff.problem import Finding

DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WHOLE_DAY = (1 << DAY_MINUTES) - 1
_Region = dict[tuple[int, int], int]  # (number of the date range, weekday): one bit per minute
# The pairs of bounds: ending of the field's name, ending of the name in the JSON.
_RANGES = (
    ("energy_mwh", "Energy"),
    ("current_ma", "Current"),
    ("power_mw", "Power"),
    ("time_s", "Time"),
    ("charging_s", "ChargingTime"),
    ("idle_s", "IdleTime"),
)


def check(tariff: Tariff) -> list[Finding]:
    findings = list(_bounds(tariff))
    for dimension in Dimension:
        findings += _dimension(tariff, dimension)
    return findings


def check_skipped(tariff: Tariff, zone: str, wall_ms: int) -> list[Finding]:
    """Prices that do not occur on the day of the next jump of the zone's clock to summer time."""
    skip = next_skip(ZoneInfo(zone), wall_ms)
    if skip is None:
        return []
    hole = _bits(skip.from_minute, skip.to_minute)
    return [
        Finding(f"$.{dimension}.prices[{index}]", f"does not occur on {skip.date}: the clock jumps over it")
        for dimension in Dimension
        for index, price in enumerate(tariff.prices(dimension))
        if (minutes := _minutes(price.conditions)) and not minutes & ~hole
    ]


def not_yet(tariff: Tariff, wall_ms: int) -> list[Finding]:
    """The tariff is of the future: until then it prices nothing."""
    if tariff.valid_from_ms is None or tariff.valid_from_ms <= wall_ms:
        return []
    begins = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=tariff.valid_from_ms)
    return [Finding("$.validFrom", f"{begins:%Y-%m-%d %H:%M:%S} UTC is in the future: it prices nothing before")]


def goes_by_local_time(tariff: Tariff) -> bool:
    return any(price.conditions.is_local for dimension in Dimension for price in tariff.prices(dimension))


def has_free_hours(all_conditions: Sequence[Conditions], first: date, last: date) -> bool:
    """Whether one of these days has a local time at which none of the conditions holds, whatever else is so."""
    for day in range((last - first).days + 1):
        covered, weekday = 0, (first + timedelta(days=day)).weekday()
        dates = _Dates(first + timedelta(days=day), first + timedelta(days=day + 1))
        for held in all_conditions:
            if _in_range(held, dates) and (held.days is None or weekday in held.days):
                covered |= _minutes(held)
        if covered != _WHOLE_DAY:
            return True
    return False


def _bounds(tariff: Tariff) -> Iterator[Finding]:
    for name, price in (("minCost", tariff.min_cost), ("maxCost", tariff.max_cost)):
        if price is None or price.excl_tax is None or price.incl_tax is None:
            continue
        if price.excl_tax > price.incl_tax:
            yield Finding(f"$.{name}", "exclTax is above inclTax")
    least, most = tariff.min_cost or Price(), tariff.max_cost or Price()
    for side, low, high in (
        ("exclTax", least.excl_tax, most.excl_tax),
        ("inclTax", least.incl_tax, most.incl_tax),
    ):
        if low is not None and high is not None and low > high:
            yield Finding(f"$.minCost.{side}", f"above maxCost.{side}: every session costs maxCost")


def _dimension(tariff: Tariff, dimension: Dimension) -> Iterator[Finding]:
    all_conditions = [price.conditions for price in tariff.prices(dimension)]
    if not all_conditions:
        return
    ranges = _date_ranges(all_conditions)
    regions = [_region(each, ranges) for each in all_conditions]
    for index, conditions in enumerate(all_conditions):
        path = f"$.{dimension}.prices[{index}]"
        never = list(_never(conditions))
        for text in never:
            yield Finding(f"{path}.conditions", text)
        if not never and index:
            hidden_by = _hidden_by(index, all_conditions, regions)
            if hidden_by is not None:
                yield Finding(path, f"never counts: always hidden by earlier prices {hidden_by}")
    yield from _gaps(dimension, ranges, regions)


def _never(conditions: Conditions) -> Iterator[str]:
    """Why the conditions can never all hold."""
    if conditions.start_minute is not None and conditions.start_minute == conditions.end_minute:
        yield "startTimeOfDay equals endTimeOfDay: never holds (for a whole day leave both out)"
    if (
        conditions.from_date is not None
        and conditions.to_date is not None
        and conditions.from_date >= conditions.to_date
    ):
        yield "validFromDate is not before validToDate: never holds (validToDate is the first day without)"
    for name, written in _RANGES:
        least, below = getattr(conditions, f"min_{name}"), getattr(conditions, f"max_{name}")
        # Bounds below zero are for discharging and mirror.
        if least is not None and below is not None and (abs(least) >= abs(below) or least * below < 0):
            yield f"min{written} is not below max{written}: never holds"
    for name, written in _RANGES[3:] + _RANGES[:1]:
        if getattr(conditions, f"max_{name}") == 0:
            yield f"max{written} is 0: never holds"


# -------------------------------------------------------------------------------------- local regions


@dataclass(frozen=True, slots=True)
class _Dates:
    """From inclusive, to exclusive; None: open."""

    from_date: date | None
    to_date: date | None

    def weekdays(self) -> set[int]:
        if self.from_date is None or self.to_date is None or (self.to_date - self.from_date).days >= 7:
            return set(range(7))
        return {(self.from_date + timedelta(days=day)).weekday() for day in range((self.to_date - self.from_date).days)}

    def __str__(self) -> str:
        if self.from_date is None:
            return "" if self.to_date is None else f" before {self.to_date}"
        return f" from {self.from_date}" + ("" if self.to_date is None else f" until before {self.to_date}")


def _date_ranges(all_conditions: list[Conditions]) -> list[_Dates]:
    """Within each range no condition on the date changes."""
    dates = {each for held in all_conditions for each in (held.from_date, held.to_date) if each is not None}
    edges: list[date | None] = [None, *sorted(dates), None]
    return [_Dates(edges[number], edges[number + 1]) for number in range(len(edges) - 1)]


def _region(conditions: Conditions, ranges: list[_Dates]) -> _Region:
    minutes = _minutes(conditions)
    days = frozenset(range(7)) if conditions.days is None else conditions.days
    return {
        (number, day): minutes
        for number, dates in enumerate(ranges)
        if _in_range(conditions, dates)
        for day in dates.weekdays() & days
        if minutes
    }


def _in_range(conditions: Conditions, dates: _Dates) -> bool:
    first, after = conditions.from_date, conditions.to_date
    starts = first is None or (dates.from_date is not None and dates.from_date >= first)
    return starts and (after is None or (dates.to_date is not None and dates.to_date <= after))


def _minutes(conditions: Conditions) -> int:
    start = conditions.start_minute or 0
    end = DAY_MINUTES if conditions.end_minute is None else conditions.end_minute
    if end < start:
        return _WHOLE_DAY ^ _bits(end, start)
    return _bits(start, end)


def _bits(start: int, end: int) -> int:
    return (1 << end) - (1 << start)


# ------------------------------------------------------------------------------------ hidden and gaps


def _hidden_by(index: int, all_conditions: list[Conditions], regions: list[_Region]) -> list[int] | None:
    """The earlier prices that hold whenever this one does."""
    rest, hiding = dict(regions[index]), []
    for earlier in range(index):
        if not rest:
            break
        if not _follows(all_conditions[index], all_conditions[earlier]):
            continue
        region = regions[earlier]
        touched = False
        for cell in [each for each in rest if rest[each] & region.get(each, 0)]:
            touched = True
            rest[cell] &= ~region[cell]
            if not rest[cell]:
                del rest[cell]
        if touched:
            hiding.append(earlier)
    return hiding if hiding and not rest else None


def _follows(conditions: Conditions, wider: Conditions) -> bool:
    """Do the other conditions (not local ones) of ``wider`` hold whenever those of ``conditions`` do?"""
    for name in ("evse_kind", "payment_brand", "payment_recognition"):
        if getattr(wider, name) not in (None, getattr(conditions, name)):
            return False
    for name, _ in _RANGES:
        for bound, sign in (("min", 1), ("max", -1)):
            mine, its = getattr(conditions, f"{bound}_{name}"), getattr(wider, f"{bound}_{name}")
            if its is None or mine == its:
                continue
            # Mirrored bounds are compared only with themselves.
            if mine is None or mine < 0 or its < 0 or (mine - its) * sign < 0:
                return False
    return True


def _gaps(dimension: Dimension, ranges: list[_Dates], regions: list[_Region]) -> Iterator[Finding]:
    """Local times at which no price of the dimension can hold, whatever else is so."""
    for number, dates in enumerate(ranges):
        by_gap: dict[int, list[int]] = {}
        for day in sorted(dates.weekdays()):
            covered = 0
            for region in regions:
                covered |= region.get((number, day), 0)
            if covered != _WHOLE_DAY:
                by_gap.setdefault(_WHOLE_DAY ^ covered, []).append(day)
        for gap, days in by_gap.items():
            when = "" if len(days) == len(dates.weekdays()) else " on " + ", ".join(DAY_NAMES[day] for day in days)
            yield Finding(f"$.{dimension}", f"no price{dates}{when}{_spans(gap)}: this costs nothing then")


def _spans(minutes: int) -> str:
    if minutes == _WHOLE_DAY:
        return ""
    edges = [each for each in range(DAY_MINUTES + 1) if _bit(minutes, each) != _bit(minutes, each - 1)]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return " at " + ", ".join(f"{clock(start)}-{clock(end)}" for start, end in pairs)


def _bit(minutes: int, minute: int) -> bool:
    return minute >= 0 and bool(minutes >> minute & 1)


def clock(minute: int) -> str:
    """A minute of the day as ``hh:mm``; the end of the day is ``24:00``."""
    return f"{minute // 60:02d}:{minute % 60:02d}"
