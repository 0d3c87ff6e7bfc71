"""All profiles together: the limit in force, when it may change, and the composite schedule.

Charter: the answer to "how much may flow". The limit is the least of

* the feed's own hard limit,
* ChargingStationMaxProfile,
* external constraints of each source, for the station and for the EVSE,
* the TxProfile of the running transaction, else the TxDefaultProfile of the EVSE, else that of EVSE 0
  (16-SC-01, -04, -14; K02). A profile that says nothing at the moment gives way to the next one.

Within each of these the highest stackLevel with a period in force prevails (16-SC-03). Without a running
transaction one that starts now is assumed, so the answer foretells what a vehicle would get.

Where all profiles of one of these are over, for good or for this transaction, its limit has lapsed: the feed's offline
limit holds in its place. A gap before what is still to come is no lapse: there nothing is limited (16-SC-06).

Ampere are per phase and taken as given, whatever numberPhases says (16-SC-15); watt are of all phases. Between
the two the feed's nominal voltage and number of phases count, rounded down, so never above the limit.
A profile with a start or a validity needs the clock. While that is not known, or lies before the profile was
installed, nobody can tell which of its periods is in force, or whether any is: then the one with the lowest limit
holds, and profiles below it count beside it. So no clock lifts a limit. Nor does one that is a little behind the
CSMS's: what was to begin within 5 s of its installation began with it.

Units: mA, mW, UTC milliseconds. Rows: 16-SC-03, -04, -08, -12, -14, -15; OCPP 2.0.1 K02, K08.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.charging.profiles import MINIMUM_AC_MA, ChargingProfile, LimitSource, Period, Purpose, RateUnit
from agent.charging.store import Installed, ProfileSet
from agent.charging.timeline import earliest, least, needs_clock, period_at

MAX_CHANGES = 500  # steps of one composite schedule; beyond, it is cut and its duration says so
_BEGINS_AT_ONCE_MS = 5_000  # a start so little ahead is a CSMS's "now", by a clock that is not quite ours


@dataclass(frozen=True, slots=True)
class Transaction:
    """The running transaction. Relative schedules count from ``started_ms``; after a clock step the station
    gives the corrected instant (wall time now minus the time elapsed on the monotonic clock)."""

    id: str
    started_ms: int


@dataclass(frozen=True, slots=True)
class Feed:
    """What is limited: an EVSE, or with ``evse_id`` 0 the station's own supply.

    ``minimum_ma`` is the least current that can be offered, ``offline_limit_ma`` what holds in place of a limit that
    has lapsed. A DC output (``dc``) has the voltage it is driven with, and one phase: its ampere are not those of the
    supply, see ``at_supply``.
    """

    evse_id: int
    hard_limit_ma: int
    voltage_mv: int  # AC: phase to neutral, nominal
    phases: int
    transaction: Transaction | None = None
    minimum_ma: int = MINIMUM_AC_MA
    dc: bool = False
    offline_limit_ma: int | None = None  # of an EVSE; the station's own supply has none

    @property
    def uw_per_ma(self) -> int:
        """What its currents are worth as power."""
        return self.voltage_mv * self.phases


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
_Stack = tuple[Installed, ...]  # in order of precedence
_Step = tuple[ChargingProfile, Period]


def convert(limit_milli: int, unit: RateUnit, wanted: RateUnit, feed: Feed) -> int:
    """A limit of ``unit`` in ``wanted`` at the feed's voltage and phases, rounded down."""
    if unit is wanted:
        return limit_milli
    if wanted is RateUnit.WATT:
        return limit_milli * feed.uw_per_ma // 1000
    return limit_milli * 1000 // feed.uw_per_ma


def at_supply(current_ma: int, feed: Feed, station: Feed) -> int:
    """What a current of the feed takes from each phase of the supply, rounded up. AC draws what it gives; a DC output
    counts by its power, spread over the station's phases (without the losses of its modules, which nobody told us)."""
    return -(-current_ma * feed.uw_per_ma // station.uw_per_ma) if feed.dc else current_ma


def from_supply(supply_ma: int, feed: Feed, station: Feed) -> int:
    """The current of the feed for which it takes no more than this from the supply; the other way round."""
    return supply_ma * station.uw_per_ma // feed.uw_per_ma if feed.dc else supply_ma


def current_limit(profiles: ProfileSet, feed: Feed, wall_ms: int, *, clock_known: bool = True) -> CurrentLimit:
    """The limit of the feed now. For the station (``evse_id`` 0) it is one of the sum over all EVSEs:
    ``sharing.allocate`` spreads it."""
    sample = _sampler(profiles, feed, RateUnit.AMPERE, wall_ms, clock_known)(wall_ms)
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
    clock_known: bool = True,
) -> CompositeSchedule:
    """The limits from now on for ``duration_s``, equal neighbours merged, gaps filled with the hard limit.

    For the station (``evse_id`` 0) ``evses`` are its outlets: the expected draw from the grid is their sum,
    within the station's own limit (16-SC-08). Limits stand as the profiles give them, also where they are
    too low to charge. A change between two whole seconds shows at the later one.
    """
    sample = _sampler(profiles, feed, unit, wall_ms, clock_known)
    if evses:
        sample = _within(sample, [_drawn(profiles, evse, feed, unit, wall_ms, clock_known) for evse in evses])
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


def _sampler(profiles: ProfileSet, feed: Feed, unit: RateUnit, wall_ms: int, clock_known: bool) -> _Sampler:
    """The limit of one feed as a function of time, from ``wall_ms`` on."""
    stacks = _stacks(profiles, feed)
    started_ms = wall_ms if feed.transaction is None else feed.transaction.started_ms
    hard_milli = convert(feed.hard_limit_ma, RateUnit.AMPERE, unit, feed)
    offline_milli = hard_milli
    if feed.offline_limit_ma is not None:
        offline_milli = convert(feed.offline_limit_ma, RateUnit.AMPERE, unit, feed)

    def sample(at_ms: int) -> _Sample:
        lowest = _Sample(hard_milli, None, None)
        for stack in stacks:
            steps, until_ms = _in_force(stack, at_ms, started_ms, clock_known)
            has_lapsed = not steps and until_ms is None
            until_ms = earliest(lowest.until_ms, until_ms)
            limit_milli, number_phases = lowest.limit_milli, lowest.number_phases
            for profile, period in steps:
                asked = convert(period.limit_milli, profile.schedule.unit, unit, feed)
                if asked <= limit_milli:
                    limit_milli, number_phases = asked, period.number_phases
            if has_lapsed and offline_milli < limit_milli:
                limit_milli, number_phases = offline_milli, None
            lowest = _Sample(limit_milli, number_phases, until_ms)
        return lowest

    return sample


def _drawn(
    profiles: ProfileSet, evse: Feed, station: Feed, unit: RateUnit, wall_ms: int, clock_known: bool
) -> _Sampler:
    """What an EVSE may take from the supply, as a function of time."""
    limit = _sampler(profiles, evse, unit, wall_ms, clock_known)
    if unit is RateUnit.WATT or not evse.dc:
        return limit

    def sample(at_ms: int) -> _Sample:
        own = limit(at_ms)
        return replace(own, limit_milli=at_supply(own.limit_milli, evse, station))

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


def _in_force(stack: _Stack, at_ms: int, started_ms: int, clock_known: bool) -> tuple[list[_Step], int | None]:
    """The period of the first profile that has one in force, and until when that is so. Profiles below it do not
    matter until then: only its own end, or one above it coming into force, can change the answer. Those above it whose
    clock cannot be right may be in force instead: their least periods stand beside it."""
    steps: list[_Step] = []
    until_ms: int | None = None
    for entry in stack:
        profile = entry.profile
        if needs_clock(profile) and (not clock_known or at_ms < entry.installed_ms):
            steps.append((profile, least(profile)))
            until_ms = earliest(until_ms, entry.installed_ms if clock_known else None)
            continue
        period, profile_until_ms = period_at(profile, _as_begun(entry, at_ms), started_ms)
        until_ms = earliest(until_ms, profile_until_ms)
        if period is not None:
            steps.append((profile, period))
            break
    return steps, until_ms


def _as_begun(entry: Installed, at_ms: int) -> int:
    """The instant for which to ask the profile: its beginning, while that is still ahead by next to nothing."""
    profile = entry.profile
    for begins_ms in (profile.schedule.start_ms, profile.valid_from_ms):
        if begins_ms is not None and entry.installed_ms < begins_ms <= entry.installed_ms + _BEGINS_AT_ONCE_MS:
            at_ms = max(at_ms, begins_ms)
    return at_ms


def _stacks(profiles: ProfileSet, feed: Feed) -> list[_Stack]:
    """The stacks whose least limit counts for the feed."""

    def stack(purpose: Purpose, evse_id: int, source: LimitSource, transaction_id: str | None = None) -> _Stack:
        matching = [
            entry
            for entry in profiles.entries
            if (entry.profile.purpose, entry.evse_id, entry.source) == (purpose, evse_id, source)
            and entry.profile.transaction_id == transaction_id
        ]
        return tuple(sorted(matching, key=lambda entry: (-entry.profile.stack_level, entry.profile.id)))

    stacks = [stack(Purpose.STATION_MAX, 0, LimitSource.CSO)]
    for source in LimitSource:
        stacks += [stack(Purpose.STATION_EXTERNAL, evse_id, source) for evse_id in sorted({0, feed.evse_id})]
    if feed.evse_id != 0:
        own = () if feed.transaction is None else stack(Purpose.TX, feed.evse_id, LimitSource.CSO, feed.transaction.id)
        default = [stack(Purpose.TX_DEFAULT, evse_id, LimitSource.CSO) for evse_id in (feed.evse_id, 0)]
        stacks.append((*own, *default[0], *default[1]))
    return [found for found in stacks if found]
