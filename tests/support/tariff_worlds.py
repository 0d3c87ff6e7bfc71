"""Random tariffs and transactions, and a station that meters them: for the properties of ``agent.tariff``.

Charter: tariffs as JSON, transactions as spans of constant power in whole seconds, with conditions near the instants
where something happens. ``drive`` writes the points as a station does: at every change, at every boundary, and
wherever a test wants one more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from agent.tariff.cost import Bill, cost_of
from agent.tariff.fold import Session
from agent.tariff.model import Tariff
from agent.tariff.parse import parse_tariff
from agent.tariff.usage import Activity, Point, Register
from tests.support.tariff_oracle import DAYS, Second

ZONE = "Europe/Berlin"
ACTIVITIES = {"charging": Activity.CHARGING, "idle": Activity.IDLE, "paused": Activity.PAUSED}
# Both clock changes, New Year, an ordinary evening, and a month's end; each some minutes before.
STARTS = ("2026-03-29T00:55", "2026-10-25T00:55", "2026-10-24T23:50", "2026-12-31T22:55", "2026-06-10T17:03")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class World:
    """``spans``: seconds, activity, watt. Energy flows at the power, whole mWh at each second."""

    tariff: dict[str, Any]
    start_utc_s: int
    spans: tuple[tuple[int, str, int], ...]
    kind: str = "AC"
    zone: str = ZONE

    @property
    def duration_s(self) -> int:
        return sum(seconds for seconds, _, _ in self.spans)

    def at(self, second: int) -> tuple[str, int]:
        """Activity and power from that second on; at the end those of the last one."""
        for seconds, activity, power_w in self.spans:
            if second < seconds:
                return activity, power_w
            second -= seconds
        return self.spans[-1][1:]

    def energy_mwh(self, second: int) -> int:
        joule = 0
        for seconds, _, power_w in self.spans:
            joule += power_w * min(seconds, max(second, 0))
            second -= seconds
        return joule * 1000 // 3600

    def parsed(self) -> Tariff:
        return parse_tariff(self.tariff)


def drive(
    world: World, cuts: Iterable[int] = (), *, from_s: int = 0, to_s: int | None = None
) -> tuple[Session, set[int]]:
    """The session of the stretch, and the seconds at which there was a point."""
    end_s = world.duration_s if to_s is None else to_s
    edges, passed = {from_s, end_s, *cuts}, 0
    for seconds, _, _ in world.spans:
        passed += seconds
        edges.add(passed)
    session = Session(world.parsed(), zone=world.zone, evse_kind=world.kind)
    pending, done = sorted(each for each in edges if from_s <= each <= end_s), set()
    while pending:
        second = pending.pop(0)
        session.add(point(world, second))
        done.add(second)
        boundary_ms = session.next_boundary_ms()
        if boundary_ms is not None and pending and boundary_ms < pending[0] * 1000:
            assert boundary_ms % 1000 == 0
            pending.insert(0, boundary_ms // 1000)
    return session, done


def point(world: World, second: int) -> Point:
    activity, power_w = world.at(second)
    register = Register(second * 1000, 7_000 + world.energy_mwh(second), power_w * 1000)
    return Point(second * 1000, (world.start_utc_s + second) * 1000, ACTIVITIES[activity], register)


def seconds_of(world: World, samples: set[int]) -> list[Second]:
    """The same transaction for the oracle."""
    found, spent, sampled_mwh = [], {"charging": 0, "idle": 0, "paused": 0}, 0
    for second in range(world.duration_s):
        if second in samples:
            sampled_mwh = world.energy_mwh(second)
        activity, power_w = world.at(second)
        if activity == "charging":
            spent["idle"] = 0
        found.append(
            Second(
                activity,
                power_w,
                world.energy_mwh(second + 1),
                sampled_mwh,
                second,
                spent["charging"],
                spent["idle"],
                world.start_utc_s + second,
            )
        )
        spent[activity] += 1
    return found


# --------------------------------------------------------------------------------------- strategies

PRICES = st.sampled_from(("0", "0.005", "0.29", "0.3333", "0.45", "1", "2.5")).map(float)
TAXES = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(("VAT", "City")),
            "tax": st.sampled_from((5, 7, 19, 8.875)),
            "stack": st.integers(0, 2),
        }
    ),
    min_size=1,
    max_size=3,
)


def _optional(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly none of them."""
    chosen = st.sets(st.sampled_from(sorted(strategies)), max_size=2)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: strategies[name] for name in sorted(names)}))


def local_conditions(start_utc_s: int) -> st.SearchStrategy[dict[str, Any]]:
    """Around the start, so that something happens."""
    start = (_EPOCH + timedelta(seconds=start_utc_s)).astimezone(ZoneInfo(ZONE))
    clock = st.integers(-5, 25).map(lambda minutes: (start + timedelta(minutes=minutes)).strftime("%H:%M"))
    times = clock | st.sampled_from(("00:00", "02:00", "02:30", "03:00", "06:00", "22:00"))
    dates = st.integers(-1, 2).map(lambda days: (start + timedelta(days=days)).strftime("%Y-%m-%d"))
    days = st.lists(st.sampled_from(DAYS), min_size=1, max_size=5, unique=True)
    return _optional(startTimeOfDay=times, endTimeOfDay=times, dayOfWeek=days, validFromDate=dates, validToDate=dates)


def running_conditions(start_utc_s: int) -> st.SearchStrategy[dict[str, Any]]:
    spent = st.integers(0, 900)
    watthours = st.integers(0, 2_000)
    running = _optional(
        minEnergy=watthours,
        maxEnergy=watthours,
        minPower=st.sampled_from((1, 5_000)),
        maxPower=st.sampled_from((5_000, 11_000)),
        minTime=spent,
        maxTime=spent,
        minChargingTime=spent,
        maxChargingTime=spent,
        minIdleTime=spent,
        maxIdleTime=spent,
        evseKind=st.sampled_from(("AC", "DC")),
    )
    return st.tuples(local_conditions(start_utc_s), running).map(lambda both: both[0] | both[1])


def components(name: str, conditions: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    price = st.tuples(PRICES, conditions).map(
        lambda both: {name: both[0]} | ({"conditions": both[1]} if both[1] else {})
    )
    prices = st.lists(price, min_size=1, max_size=3)
    return st.tuples(prices, st.none() | TAXES).map(
        lambda both: {"prices": both[0]} | ({} if both[1] is None else {"taxRates": both[1]})
    )


def tariffs(
    start_utc_s: int, conditions: st.SearchStrategy[dict[str, Any]], *, fees: bool = True
) -> st.SearchStrategy[dict[str, Any]]:
    parts = {
        "energy": components("priceKwh", conditions),
        "chargingTime": components("priceMinute", conditions),
        "idleTime": components("priceMinute", conditions),
    }
    if fees:
        parts["fixedFee"] = components("priceFixed", local_conditions(start_utc_s))
    head = {"tariffId": st.just("T"), "currency": st.sampled_from(("EUR", "EUR", "JPY", "KWD"))}
    return st.fixed_dictionaries(head, optional=parts)


def spans(longest_s: int = 400) -> st.SearchStrategy[tuple[tuple[int, str, int], ...]]:
    span = st.tuples(
        st.integers(1, longest_s),
        st.sampled_from(sorted(ACTIVITIES)),
        st.sampled_from((0, 3_600, 4_999, 11_000, 22_000)),
    ).map(lambda each: (each[0], each[1], each[2] if each[1] == "charging" else 0))
    return st.lists(span, min_size=1, max_size=4).map(tuple)


def starts() -> st.SearchStrategy[int]:
    """UTC seconds."""
    fixed = st.sampled_from(STARTS).map(lambda text: int(datetime.fromisoformat(text + "+00:00").timestamp()))
    return st.tuples(fixed, st.integers(-600, 300)).map(sum)


@st.composite
def worlds(draw: st.DrawFn, *, local_only: bool = False, fees: bool = True) -> World:
    start_utc_s = draw(starts())
    conditions = local_conditions(start_utc_s) if local_only else running_conditions(start_utc_s)
    tariff = draw(tariffs(start_utc_s, conditions, fees=fees))
    return World(tariff, start_utc_s, draw(spans()), draw(st.sampled_from(("AC", "DC"))))


@st.composite
def cut_worlds(draw: st.DrawFn, *, local_only: bool = False, fees: bool = True) -> tuple[World, list[int]]:
    """And seconds at which to look at it."""
    world = draw(worlds(local_only=local_only, fees=fees))
    return world, draw(st.lists(st.integers(0, world.duration_s), max_size=4))


def exact_cost(bill: Bill) -> Fraction:
    """Net cost of the lines before they are rounded, bounds and credit apart; with the steps."""
    return sum((cost_of(line.dimension, line.unit_price, line.quantity) for line in bill.lines), Fraction(0))
