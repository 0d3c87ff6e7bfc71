"""The fold of a transaction: points in, usage out.

Charter: puts every millisecond and every mWh of a transaction to exactly one price, or to none. Knows nothing of
money. Time is elapsed monotonic time; the wall clock only decides which local conditions hold, so a clock step
moves the boundaries from then on and charges nothing twice.

How: between two points time is cut at every instant at which a condition on time can change. Each piece (a
*stretch*) has one set of selected prices; its milliseconds go there at once. Energy comes with meter readings: the
energy between two of them belongs to the stretches between them, and where these have different prices to the
cheapest (a reading at the boundary avoids that, and its row may come a moment later). Within a reading's energy the
thresholds of energy conditions are exact. Power, current, and energy conditions of time prices are looked at at the
points.

Decisions: the charging time of conditions is the sum over the transaction; their idle time is that since the car
charged last, so that each idle period has its own grace (OCPP 2.1 minIdleTime: "duration in seconds the idle period
(i.e. not charging) MUST last"). Both also count where they were not billable; the time of a gap or of the station's own
pause counts for neither. Fixed fees and reservation prices are chosen once, at the first point.

Units: mWh, ms, mW, mA. Sources: OCPP 2.1 I12; metering notes on arithmetic and on clock edge cases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from agent.tariff.calendar import MAX_WALL_MS, MIN_WALL_MS, boundary_minutes, local_time, next_change_ms
from agent.tariff.check import has_free_hours
from agent.tariff.energy import Choice, Stretch, cheapest, pieces
from agent.tariff.model import Dimension, EvseKind, Payment, Tariff, same_currency
from agent.tariff.select import Situation, energy_candidates, is_for_any_energy, selected, sometime_candidates
from agent.tariff.usage import Activity, Period, Point, Register, Usage, Volume

ESTIMATE_ABOVE_MS = 3_000  # a reading this close to a boundary counts as one at the boundary
MAX_STRETCHES = 64  # kept since the last reading; older ones are joined
GAP_LOOK_BACK_MS = 31 * 86_400_000  # a gap seems longer only when the clock was wrong
GAP_BOUNDARIES = (
    500  # looked at one by one: a tariff may have a thousand a day, and the watchdog waits for none of them
)


@dataclass(frozen=True, slots=True)
class _Key:
    """What a period has one of."""

    tariff: int | None
    energy: int | None
    charging_time: int | None
    idle_time: int | None


_Thresholds = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # transaction, charging, idle


class Session:
    """One transaction. ``add`` its points in order; ``usage`` may be asked at any time after."""

    def __init__(
        self,
        tariff: Tariff | None,
        *,
        zone: str,
        evse_kind: EvseKind | str,
        payment: Payment | None = None,
        reservation_ms: int = 0,
        fees: bool = True,
    ) -> None:
        """``fees``: False where the session began with another transaction, which had its fees."""
        self._zone = ZoneInfo(zone)
        self._kind = EvseKind(evse_kind)
        self._payment = payment
        self._reservation_ms = reservation_ms
        self._fees = fees
        self._tariffs: list[Tariff] = [] if tariff is None else [tariff]
        self._minutes: tuple[int, ...] = ()
        self._thresholds_ms: _Thresholds = ((), (), ())
        self._now: Point | None = None
        self._begin: Register | None = None
        self._last: Register | None = None
        self._elapsed_ms = self._charging_ms = self._idle_ms = 0
        self._periods: list[Period] = []
        self._stretches: list[Stretch] = []
        self._volumes: Counter[tuple[int, Dimension, int]] = Counter()

    @property
    def tariffs(self) -> tuple[Tariff, ...]:
        """In order of use, one for each that was given, also where it equals the one before; positions in
        ``Usage`` refer to it."""
        return tuple(self._tariffs)

    @property
    def tariff(self) -> Tariff | None:
        """The one in force."""
        return self._tariffs[-1] if self._tariffs else None

    def add(self, point: Point) -> None:
        """The next point. ``ValueError`` (nothing changed) when it cannot follow the ones before."""
        self._refuse(point)
        if self._now is None:
            self._start(point)
            return
        if point.gap:
            self._pass_gap(self._now, point)
        else:
            self._pass(self._now, point.at_ms)
        if point.register is not None:
            self._read(point, point.register)
        self._now = point
        if point.activity is Activity.CHARGING:
            self._idle_ms = 0  # the next idle period has a grace of its own
        if point.tariff is not None:
            self._use(point.tariff)
        self._select()

    def preview(self, point: Point) -> Usage:
        """The usage if the point came next; the session stays as it is."""
        trial = self._copy()
        trial.add(point)
        return trial.usage()

    def usage(self) -> Usage:
        periods = tuple(self._periods)
        if len(periods) > 1 and _is_blank(periods[-1]):
            periods = periods[:-1]  # prices that would have counted from the last instant on
        rank = list(Dimension).index
        ordered = sorted(self._volumes.items(), key=lambda item: (item[0][0], rank(item[0][1]), item[0][2]))
        return Usage(
            periods,
            tuple(Volume(*key, amount) for key, amount in ordered if amount),
            None if self._begin is None else self._begin.energy_mwh,
            None if self._last is None else self._last.energy_mwh,
            self._reservation_ms,
        )

    def next_boundary_ms(self) -> int | None:
        """When, on the monotonic clock, time alone may change a selected price next: then a reading is wanted."""
        now = self._now
        return None if now is None else self._boundary_ms(now.at_ms, now.wall_ms, now.activity)

    def price_changes(self, register: Register) -> bool:
        """Would this reading change a selected price? Then it should become a point."""
        if self._now is None:
            return False
        return self._key(self._now.wall_ms, register) != self._key(self._now.wall_ms)

    # ------------------------------------------------------------------------------------- points

    def _refuse(self, point: Point) -> None:
        if not MIN_WALL_MS <= point.wall_ms <= MAX_WALL_MS:
            raise ValueError(f"wall time {point.wall_ms} ms is no date")
        if self._now is not None and point.at_ms < self._now.at_ms:
            raise ValueError(f"point at {point.at_ms} ms comes after one at {self._now.at_ms} ms")
        if not same_currency(self.tariff, point.tariff):
            raise ValueError("a transaction has one currency")
        register = point.register
        if register is None:
            return
        if register.at_ms > point.at_ms:
            raise ValueError(f"reading at {register.at_ms} ms in a point at {point.at_ms} ms")
        last = self._last
        if last is not None and (register.at_ms < last.at_ms or register.energy_mwh < last.energy_mwh):
            raise ValueError(f"reading {register} falls behind {last}")

    def _start(self, point: Point) -> None:
        if point.tariff is not None:
            self._tariffs = [point.tariff]
        self._learn_boundaries()
        self._now = point
        self._begin = self._last = point.register
        self._choose_fees(point)
        self._select()

    def _choose_fees(self, point: Point) -> None:
        if self.tariff is None or not self._fees:
            return
        now = self._situation(point.wall_ms)
        amounts = {Dimension.FIXED_FEE: 1}
        if self._reservation_ms:
            amounts |= {Dimension.RESERVATION_TIME: self._reservation_ms, Dimension.RESERVATION_FIXED: 1}
        for dimension, amount in amounts.items():
            index = selected(self.tariff, dimension, now)
            if index is not None:
                self._volumes[0, dimension, index] += amount

    def _use(self, tariff: Tariff) -> None:
        self._tariffs.append(tariff)
        self._learn_boundaries()

    def _learn_boundaries(self) -> None:
        if self.tariff is not None:
            self._minutes = boundary_minutes(self.tariff)
            self._thresholds_ms = _thresholds_ms(self.tariff)

    # --------------------------------------------------------------------------------------- time

    def _pass(self, now: Point, until_ms: int) -> None:
        """Time goes on to ``until_ms`` as it was, cut at every boundary."""
        at_ms = now.at_ms
        while at_ms < until_ms:
            wall_ms = now.wall_ms + at_ms - now.at_ms
            boundary_ms = self._boundary_ms(at_ms, wall_ms, now.activity)
            to_ms = until_ms if boundary_ms is None else min(boundary_ms, until_ms)
            self._spend(now, at_ms, to_ms)
            at_ms = to_ms
            if at_ms < until_ms:
                self._select(at_ms, now.wall_ms + at_ms - now.at_ms)

    def _spend(self, now: Point, from_ms: int, to_ms: int) -> None:
        """One stretch, with the prices selected at its beginning."""
        spent_ms, period = to_ms - from_ms, self._periods[-1]
        choice = self._choice(now.wall_ms + from_ms - now.at_ms)
        self._keep(Stretch(from_ms, to_ms, (choice,)))
        to_wall_ms = now.wall_ms + to_ms - now.at_ms
        charging_ms = idle_ms = 0
        if now.time_billable:
            charging_ms = spent_ms if now.activity is Activity.CHARGING else 0
            idle_ms = spent_ms if now.activity is Activity.IDLE else 0
        self._periods[-1] = replace(
            period,
            to_ms=to_ms,
            to_wall_ms=to_wall_ms,
            charging_ms=period.charging_ms + charging_ms,
            idle_ms=period.idle_ms + idle_ms,
            unbilled_ms=period.unbilled_ms + spent_ms - charging_ms - idle_ms,
        )
        if period.tariff is not None:
            self._book(period.tariff, Dimension.CHARGING_TIME, period.charging_time, charging_ms)
            self._book(period.tariff, Dimension.IDLE_TIME, period.idle_time, idle_ms)
        self._elapsed_ms += spent_ms
        if now.activity is Activity.CHARGING:
            self._charging_ms += spent_ms
        elif now.activity is Activity.IDLE:
            self._idle_ms += spent_ms

    def _pass_gap(self, now: Point, point: Point) -> None:
        """Nobody knows when in the gap energy flowed: all that holds anywhere in it may count."""
        period = self._periods[-1]
        choices = {self._choice(now.wall_ms): None}
        between = now.wall_known and point.wall_known
        at_ms = max(now.wall_ms, point.wall_ms - GAP_LOOK_BACK_MS) if between else None
        looked = 0
        while at_ms is not None and at_ms <= point.wall_ms:
            if looked == GAP_BOUNDARIES:
                choices |= dict.fromkeys(self._any_choice(now.wall_ms, point.wall_ms))
                break
            choices[self._choice(at_ms)] = None
            at_ms = next_change_ms(self._minutes, self._zone, at_ms)
            looked += 1
        choices[self._choice(point.wall_ms, known=point.wall_known)] = None
        self._keep(Stretch(now.at_ms, point.at_ms, tuple(choices), is_gap=True))
        self._periods[-1] = replace(
            period,
            to_ms=point.at_ms,
            to_wall_ms=point.wall_ms,
            unbilled_ms=period.unbilled_ms + point.at_ms - now.at_ms,
        )

    def _boundary_ms(self, at_ms: int, wall_ms: int, activity: Activity) -> int | None:
        """The next instant at which a condition on time can change, on the monotonic clock."""
        found: list[int] = []
        change_ms = next_change_ms(self._minutes, self._zone, wall_ms) if self._knows_the_time() else None
        if change_ms is not None:
            found.append(at_ms + change_ms - wall_ms)
        spent = (self._elapsed_ms, self._charging_ms, self._idle_ms)
        runs = (True, activity is Activity.CHARGING, activity is Activity.IDLE)
        for thresholds, spent_ms, running in zip(self._thresholds_ms, spent, runs, strict=True):
            if running:
                found += [at_ms + each - spent_ms for each in thresholds if each > spent_ms]
        return min(found, default=None)

    # ------------------------------------------------------------------------------------- energy

    def _read(self, point: Point, register: Register) -> None:
        """The energy since the last reading goes to the stretches in between."""
        last, self._last = self._last, register
        if last is None:
            self._begin = register
        elif self._begin is not None and register.energy_mwh > last.energy_mwh:
            begin_mwh = self._begin.energy_mwh
            over = [each for each in self._stretches if each.overlaps(last.at_ms, register.at_ms)]
            choices = list(dict.fromkeys(choice for each in over or self._stretches[-1:] for choice in each.choices))
            choices = choices or [self._choice(point.wall_ms, known=point.wall_known)]
            length_ms = register.at_ms - last.at_ms
            unsure = length_ms > ESTIMATE_ABOVE_MS or any(each.is_gap for each in over)
            from_mwh, to_mwh = last.energy_mwh - begin_mwh, register.energy_mwh - begin_mwh
            for low_mwh, high_mwh in pieces(self._tariffs, choices, from_mwh, to_mwh):
                self._put(choices, low_mwh, high_mwh - low_mwh, unsure=unsure, point=point)
        # A row comes a moment after its reading; what holds from the row on holds for all that flows after the reading.
        at_row = point.at_ms - register.at_ms <= ESTIMATE_ABOVE_MS
        self._stretches = [each for each in self._stretches if each.to_ms > register.at_ms and not at_row]

    def _put(self, choices: list[Choice], at_mwh: int, amount_mwh: int, *, unsure: bool, point: Point) -> None:
        choice, index, differ = cheapest(self._tariffs, choices, at_mwh)
        number = choice.period
        if self._periods[number].energy != index:
            # A threshold was passed somewhere before this reading: the new period begins with the reading.
            key = _Key(choice.tariff, index, self._periods[number].charging_time, self._periods[number].idle_time)
            if _key_of(self._periods[-1]) != key:
                self._begin_period(key, point.at_ms, point.wall_ms)
            number = len(self._periods) - 1
        period = self._periods[number]
        self._periods[number] = replace(
            period,
            energy_mwh=period.energy_mwh + amount_mwh,
            estimated_split=period.estimated_split or (differ and unsure),
        )
        if choice.tariff is not None:
            self._book(choice.tariff, Dimension.ENERGY, index, amount_mwh)

    def _keep(self, stretch: Stretch) -> None:
        last = self._stretches[-1] if self._stretches else None
        if last is not None and last.joins(stretch):
            self._stretches[-1] = last.joined(stretch)
        else:
            self._stretches.append(stretch)
        if len(self._stretches) > MAX_STRETCHES:
            self._stretches[:2] = [self._stretches[0].joined(self._stretches[1])]

    # ---------------------------------------------------------------------------------- selection

    def _select(self, at_ms: int | None = None, wall_ms: int | None = None) -> None:
        """Begin a new period if any selected price is another one now."""
        assert self._now is not None
        at_ms = self._now.at_ms if at_ms is None else at_ms
        wall_ms = self._now.wall_ms if wall_ms is None else wall_ms
        key = self._key(wall_ms)
        if not self._periods or _key_of(self._periods[-1]) != key:
            self._begin_period(key, at_ms, wall_ms)

    def _begin_period(self, key: _Key, at_ms: int, wall_ms: int) -> None:
        number = len(self._periods) - 1
        referred = any(choice.period == number for each in self._stretches for choice in each.choices)
        if self._periods and _is_blank(self._periods[-1]) and not referred:
            self._periods.pop()  # it lasted no time
            if self._periods and _key_of(self._periods[-1]) == key:
                return
        self._periods.append(
            Period(at_ms, at_ms, wall_ms, wall_ms, key.tariff, key.energy, key.charging_time, key.idle_time)
        )

    def _key(self, wall_ms: int, reading: Register | None = None) -> _Key:
        """``reading``: as if this were the last one."""
        tariff = self.tariff
        if tariff is None:
            return _Key(None, None, None, None)
        now = self._situation(wall_ms, reading=reading)
        energy, charging, idle = (
            selected(tariff, dimension, now)
            for dimension in (Dimension.ENERGY, Dimension.CHARGING_TIME, Dimension.IDLE_TIME)
        )
        return _Key(len(self._tariffs) - 1, energy, charging, idle)

    def _choice(self, wall_ms: int, *, known: bool | None = None) -> Choice:
        if self.tariff is None:
            return Choice(len(self._periods) - 1, None, ())
        candidates = energy_candidates(self.tariff, self._situation(wall_ms, known=known))
        return Choice(len(self._periods) - 1, len(self._tariffs) - 1, candidates)

    def _any_choice(self, wall_ms: int, until_wall_ms: int) -> Iterator[Choice]:
        """Each energy price that may hold at some time. Where the energy is not within its bounds, what holds at
        ``wall_ms`` counts. Where the days of the gap have hours without any of these, also what holds at all hours,
        be it nothing."""
        assert self.tariff is not None
        then = self._choice(wall_ms)
        found = sometime_candidates(self.tariff, self._situation(wall_ms))
        for index in found:
            yield replace(then, candidates=(index, *then.candidates))
        held = {index: self.tariff.prices(Dimension.ENERGY)[index].conditions for index in found}
        since_ms = max(wall_ms, until_wall_ms - GAP_LOOK_BACK_MS)
        first, last = (local_time(self._zone, each).date for each in (since_ms, until_wall_ms))
        if has_free_hours([each for each in held.values() if is_for_any_energy(each)], first, last):
            yield replace(then, candidates=tuple(index for index, each in held.items() if not each.is_local))

    def _knows_the_time(self) -> bool:
        return self._now is None or self._now.wall_known

    def _situation(self, wall_ms: int, *, known: bool | None = None, reading: Register | None = None) -> Situation:
        begin, last = self._begin or reading, reading or self._last
        known = self._knows_the_time() if known is None else known
        return Situation(
            local_time(self._zone, wall_ms) if known else None,
            self._kind,
            self._payment,
            0 if begin is None or last is None else last.energy_mwh - begin.energy_mwh,
            None if last is None else last.power_mw,
            None if last is None else last.current_ma,
            self._elapsed_ms,
            self._charging_ms,
            self._idle_ms,
        )

    def _book(self, tariff: int, dimension: Dimension, price: int | None, amount: int) -> None:
        if price is not None and amount:
            self._volumes[tariff, dimension, price] += amount

    def _copy(self) -> Session:
        other = copy(self)
        other._tariffs, other._periods = self._tariffs.copy(), self._periods.copy()
        other._stretches, other._volumes = self._stretches.copy(), self._volumes.copy()
        return other


def _key_of(period: Period) -> _Key:
    return _Key(period.tariff, period.energy, period.charging_time, period.idle_time)


def _is_blank(period: Period) -> bool:
    return period.from_ms == period.to_ms and period.energy_mwh == 0


def _thresholds_ms(tariff: Tariff) -> _Thresholds:
    """The bounds of the conditions on transaction, charging and idle time."""
    found: tuple[set[int], set[int], set[int]] = (set(), set(), set())
    for dimension in (Dimension.ENERGY, Dimension.CHARGING_TIME, Dimension.IDLE_TIME):
        for price in tariff.prices(dimension):
            held = price.conditions
            pairs = (
                (held.min_time_s, held.max_time_s),
                (held.min_charging_s, held.max_charging_s),
                (held.min_idle_s, held.max_idle_s),
            )
            for bounds, pair in zip(found, pairs, strict=True):
                bounds.update(each * 1000 for each in pair if each is not None)
    transaction, charging, idle = (tuple(sorted(each)) for each in found)
    return transaction, charging, idle
