"""All profiles together: the limit in force, when it may change, and the composite schedule.

Charter: the answer to "how much may flow". The limit is the least of

* the feed's own hard limit,
* ChargingStationMaxProfile,
* external constraints of each source, for the station and for the EVSE,
* the TxProfile of the running transaction, else the TxDefaultProfile of the EVSE, else that of EVSE 0
  (16-SC-01, -04, -14; K02). A profile that says nothing at the moment gives way to the next one.

Within each of these the highest stackLevel with a period in force prevails (16-SC-03). Without a running
transaction one that starts now is assumed, so the answer foretells what a vehicle would get.

Ampere are per phase and taken as given, whatever numberPhases says (16-SC-15); watt are of all phases. Between
the two the feed's nominal voltage and number of phases count, rounded down, so never above the limit.
``wall_ms`` must come from a clock that is set; without one the station has its offline limit.

Units: mA, mW, UTC milliseconds. Rows: 16-SC-03, -04, -08, -12, -14, -15; OCPP 2.0.1 K02, K08.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.charging.profiles import MINIMUM_AC_MA, ChargingProfile, LimitSource, Period, Purpose, RateUnit
from agent.charging.store import ProfileSet
from agent.charging.timeline import earliest, period_at

MAX_CHANGES = 500  # steps of one composite schedule; beyond, it is cut and its duration says so


@dataclass(frozen=True, slots=True)
class Transaction:
    """The running transaction. Relative schedules count from ``started_ms``; after a clock step the station
    gives the corrected instant (wall time now minus the time elapsed on the monotonic clock)."""

    id: str
    started_ms: int


@dataclass(frozen=True, slots=True)
class Feed:
    """What is limited: an EVSE, or with ``evse_id`` 0 the station's own supply.

    ``minimum_ma`` is the least current that can be offered; a DC output has 0.
    """

    evse_id: int
    hard_limit_ma: int
    voltage_mv: int  # phase to neutral, nominal
    phases: int
    transaction: Transaction | None = None
    minimum_ma: int = MINIMUM_AC_MA


@dataclass(frozen=True, slots=True)
class CurrentLimit:
    """Holds until ``next_change_ms`` (None: until something is installed, cleared, started or ended).

    It may turn out unchanged then, but never changes before. ``limit_ma`` is 0 or at least the minimum.
    """

    limit_ma: int
    next_change_ms: int | None


@dataclass(frozen=True, slots=True)
class CompositePeriod:
    start_s: int
    limit_milli: int
    number_phases: int | None  # as the deciding profile gave it

    @property
    def limit_tenths(self) -> int:
        """The limit in 0.1 A or 0.1 W, all that OCPP can carry; rounded down."""
        return self.limit_milli // 100


@dataclass(frozen=True, slots=True)
class CompositeSchedule:
    evse_id: int
    start_ms: int
    duration_s: int
    unit: RateUnit
    periods: tuple[CompositePeriod, ...]


@dataclass(frozen=True, slots=True)
class _Sample:
    limit_milli: int
    number_phases: int | None
    until_ms: int | None


_Sampler = Callable[[int], _Sample]
_Stack = tuple[ChargingProfile, ...]  # in order of precedence


def convert(limit_milli: int, unit: RateUnit, wanted: RateUnit, feed: Feed) -> int:
    """A limit of ``unit`` in ``wanted`` at the feed's voltage and phases, rounded down."""
    if unit is wanted:
        return limit_milli
    if wanted is RateUnit.WATT:
        return limit_milli * feed.voltage_mv * feed.phases // 1000
    return limit_milli * 1000 // (feed.voltage_mv * feed.phases)


def current_limit(profiles: ProfileSet, feed: Feed, wall_ms: int) -> CurrentLimit:
    """The limit of the feed now. For the station (``evse_id`` 0) it is one of the sum over all EVSEs:
    ``sharing.allocate`` spreads it."""
    sample = _sampler(profiles, feed, RateUnit.AMPERE, wall_ms)(wall_ms)
    limit_ma = sample.limit_milli if sample.limit_milli >= feed.minimum_ma else 0
    return CurrentLimit(limit_ma, sample.until_ms)


def composite_schedule(
    profiles: ProfileSet,
    feed: Feed,
    wall_ms: int,
    duration_s: int,
    unit: RateUnit,
    *,
    evses: Sequence[Feed] = (),
) -> CompositeSchedule:
    """The limits from now on for ``duration_s``, equal neighbours merged, gaps filled with the hard limit.

    For the station (``evse_id`` 0) ``evses`` are its outlets: the expected draw from the grid is their sum,
    within the station's own limit (16-SC-08). Limits stand as the profiles give them, also where they are
    too low to charge. A change between two whole seconds shows at the later one.
    """
    sample = _sampler(profiles, feed, unit, wall_ms)
    if evses:
        sample = _within(sample, [_sampler(profiles, evse, unit, wall_ms) for evse in evses])
    periods: list[CompositePeriod] = []
    at_s, end_s = 0, max(duration_s, 0)
    for _ in range(MAX_CHANGES):
        now = sample(wall_ms + at_s * 1000)
        if not periods or (now.limit_milli, now.number_phases) != (periods[-1].limit_milli, periods[-1].number_phases):
            periods.append(CompositePeriod(at_s, now.limit_milli, now.number_phases))
        if now.until_ms is None:
            break
        at_s = -((wall_ms - now.until_ms) // 1000)
        if at_s >= end_s:
            break
    else:
        end_s = at_s
    return CompositeSchedule(feed.evse_id, wall_ms, end_s, unit, tuple(periods))


def _sampler(profiles: ProfileSet, feed: Feed, unit: RateUnit, wall_ms: int) -> _Sampler:
    """The limit of one feed as a function of time, from ``wall_ms`` on."""
    stacks = _stacks(profiles, feed)
    started_ms = wall_ms if feed.transaction is None else feed.transaction.started_ms

    def sample(at_ms: int) -> _Sample:
        least = _Sample(convert(feed.hard_limit_ma, RateUnit.AMPERE, unit, feed), None, None)
        for stack in stacks:
            prevailing, until_ms = _prevailing(stack, at_ms, started_ms)
            until_ms = earliest(least.until_ms, until_ms)
            limit_milli, number_phases = least.limit_milli, least.number_phases
            if prevailing is not None:
                profile, period = prevailing
                asked = convert(period.limit_milli, profile.schedule.unit, unit, feed)
                if asked <= limit_milli:
                    limit_milli, number_phases = asked, period.number_phases
            least = _Sample(limit_milli, number_phases, until_ms)
        return least

    return sample


def _within(station: _Sampler, evses: Sequence[_Sampler]) -> _Sampler:
    """The sum of the EVSEs, at most what the station may draw."""

    def sample(at_ms: int) -> _Sample:
        total = station(at_ms)
        parts = [evse(at_ms) for evse in evses]
        until_ms = earliest(total.until_ms, *(part.until_ms for part in parts))
        summed = sum(part.limit_milli for part in parts)
        if summed < total.limit_milli:
            return _Sample(summed, None, until_ms)
        return _Sample(total.limit_milli, total.number_phases, until_ms)

    return sample


def _prevailing(stack: _Stack, at_ms: int, started_ms: int) -> tuple[tuple[ChargingProfile, Period] | None, int | None]:
    """The first profile with a period in force, and until when that is so. Profiles below it do not matter
    until then: only its own end, or one above it coming into force, can change the answer."""
    until_ms: int | None = None
    for profile in stack:
        period, profile_until_ms = period_at(profile, at_ms, started_ms)
        until_ms = earliest(until_ms, profile_until_ms)
        if period is not None:
            return (profile, period), until_ms
    return None, until_ms


def _stacks(profiles: ProfileSet, feed: Feed) -> list[_Stack]:
    """The stacks whose least limit counts for the feed."""

    def stack(purpose: Purpose, evse_id: int, source: LimitSource, transaction_id: str | None = None) -> _Stack:
        matching = [
            entry.profile
            for entry in profiles.entries
            if (entry.profile.purpose, entry.evse_id, entry.source) == (purpose, evse_id, source)
            and entry.profile.transaction_id == transaction_id
        ]
        return tuple(sorted(matching, key=lambda profile: (-profile.stack_level, profile.id)))

    stacks = [stack(Purpose.STATION_MAX, 0, LimitSource.CSO)]
    for source in LimitSource:
        stacks += [stack(Purpose.STATION_EXTERNAL, evse_id, source) for evse_id in sorted({0, feed.evse_id})]
    if feed.evse_id != 0:
        own = () if feed.transaction is None else stack(Purpose.TX, feed.evse_id, LimitSource.CSO, feed.transaction.id)
        default = [stack(Purpose.TX_DEFAULT, evse_id, LimitSource.CSO) for evse_id in (feed.evse_id, 0)]
        stacks.append((*own, *default[0], *default[1]))
    return [found for found in stacks if found]
