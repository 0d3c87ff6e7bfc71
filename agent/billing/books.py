"""One transaction's books: its ledger rows, in order, become volumes to price and readings to prove.

Charter: a fold, the same for the running station, for a restart and for whoever checks a ledger
afterwards: what is charged follows from the rows alone. Pure; money is ``agent.tariff``'s.

Rules:

* Time is monotonic and goes on over restarts: a row of another boot is placed by the difference of the
  wall clocks, and what lies between is a gap, which costs no time.
* Charged as charging is the time in which the vehicle charges, as idling the time in which the vehicle
  does not want to. The station's own pauses, getting ready and waiting cost nobody anything.
* Begin and end count from their register readings, everything else from its row.
* A substituted end reading is the last good one: there is nothing to bill beyond it.
* A clock that nobody has set places nothing: a gap to or from it takes no time at all.
* A transaction that follows another in the same session has no fees of its own; least and greatest cost are of both.
* Where no energy has flowed and it was not the driver's doing, there is neither a fee nor a least cost: it was ended by
  a fault, a power cut or a reset, the CSMS refused the card, or the credit did not reach for any. Where the card or the
  credit was why from the beginning (before that nothing was offered, or not for a minute), time costs nothing either:
  nothing was sold.
* Where the meter was exchanged, fell or told what cannot be (OCMF ST X, M, O), no bill may rest on its readings: all
  that was used has no price, and there is neither fee nor least cost.
* The end is the end: whatever is written behind it changes nothing.

Units: milliseconds, milliwatt-hours. Sources: metering reference 3.5, 3.7, 4.5, 4.6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent.billing.account import decimal_of
from agent.core.facts import (
    ChargingState,
    CheckpointFact,
    Fact,
    Forerunner,
    LimitFact,
    PriceCause,
    PriceFact,
    Sample,
    StopReason,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.tariff.calendar import MAX_WALL_MS, MIN_WALL_MS
from agent.tariff.fold import Session
from agent.tariff.model import Dimension, EvseKind, Tariff
from agent.tariff.usage import Activity, Period, Point, Register, Usage

_ACTIVITY: Final = {
    ChargingState.CHARGING: Activity.CHARGING,
    ChargingState.SUSPENDED_EV: Activity.IDLE,
}

_PREVENTED: Final = frozenset({Trigger.ABNORMAL_CONDITION, Trigger.RESET_COMMAND})
_UNPROVED: Final = frozenset({"M", "X", "O"})  # states of a meter, as OCMF has them
_LIMITS: Final = frozenset({Trigger.COST_LIMIT_REACHED, Trigger.ENERGY_LIMIT_REACHED, Trigger.TIME_LIMIT_REACHED})

DECLINED_MS: Final = 60_000
"""What a vehicle was offered for so long and has not taken, it did not want. A CSMS has answered by then."""

MARKS_MAX: Final = 1_000  # changes of price beyond these are not signed; their rows are there all the same

# OCMF TX of the end reading: who or what ended it (metering reference 1.3).
_END_LETTERS: Final = {
    StopReason.LOCAL: "L",
    StopReason.MASTER_PASS: "L",
    StopReason.REMOTE: "R",
    StopReason.POWER_LOSS: "P",
    StopReason.EMERGENCY_STOP: "A",
    StopReason.GROUND_FAULT: "A",
    StopReason.OVERCURRENT_FAULT: "A",
    StopReason.OTHER: "A",
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """The clocks of a ledger row."""

    boot_id: str
    mono_ms: int
    wall_ms: int
    time_status: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What the site says: its time zone, and which quality of time is enough to bill time
    ("any", "informative", "never")."""

    zone: str
    evse_kind: EvseKind
    time_policy: str = "informative"

    def bills_time(self, time_status: str) -> bool:
        return self.time_policy == "any" or (self.time_policy == "informative" and time_status != "U")


@dataclass(frozen=True, slots=True)
class Mark:
    """A reading to be signed: OCMF TX letter and EF, and the wall time of the reading."""

    letter: str
    sample: Sample
    wall_ms: int
    time_status: str
    error_flags: str = ""


class Books:
    """The books of one transaction; ``started`` is its first fact."""

    def __init__(
        self, started: TransactionFact, stamp: Stamp, tariff_of: Callable[[str], Tariff | None], terms: Terms
    ) -> None:
        assert started.kind is TxKind.STARTED
        self.started = started
        self.ended: TransactionFact | None = None
        self.goes_on = False  # in another transaction of the same session
        self.marks: list[Mark] = []
        self.limits: LimitFact | None = None
        self.offline = started.offline
        self.gaps = 0
        self.time_unbilled = not terms.bills_time(stamp.time_status)
        self.terms = terms
        self._tariff_of = tariff_of
        self._state = started.charging_state
        self._refused = False  # the card, by the CSMS
        self._offered_ms = 0  # so long the vehicle was offered energy
        self._offering = False  # since the last row
        self._withheld_ms = 0  # so long the station gave nothing
        self._withholding = False  # since the last row
        self._charged = False
        self._register: Register | None = None
        self._boot_id, self._base_ms = stamp.boot_id, 0
        self._last_ms, self._last_wall_ms = stamp.mono_ms, stamp.wall_ms
        self._last_status = stamp.time_status
        tariff = tariff_of(started.tariff) if started.tariff is not None else None
        self.tariff_hashes = [] if tariff is None or started.tariff is None else [started.tariff]
        fees = started.follows is None
        self._session = Session(tariff, zone=terms.zone, evse_kind=terms.evse_kind, fees=fees)
        begin = started.samples[-1]
        self._mark("B", begin, stamp)
        self._last_ms = begin.at_ms
        self._add(begin.at_ms, stamp, begin)

    # ------------------------------------------------------------------------------------ the fold

    def note(self, fact: Fact, stamp: Stamp) -> None:
        """The next row of the transaction."""
        if self.ended is not None:
            return
        match fact:
            case TransactionFact():
                self._note_event(fact, stamp)
            case CheckpointFact(sample=sample):
                self._add(stamp.mono_ms, stamp, sample)
            case PriceFact():
                self._note_price(fact, stamp)
            case LimitFact():
                self.limits = fact
            case _:
                pass

    def _note_event(self, fact: TransactionFact, stamp: Stamp) -> None:
        self._state = fact.charging_state
        self._refused = self._refused or fact.trigger is Trigger.DEAUTHORIZED
        self.offline = self.offline or fact.offline
        self.gaps += fact.gap
        sample = fact.samples[-1] if fact.samples else None
        if fact.kind is TxKind.ENDED:
            assert sample is not None
            self.ended = fact
            letter = _END_LETTERS.get(fact.stopped_reason or StopReason.LOCAL, "E")
            self._add(sample.at_ms, stamp, sample, gap=fact.gap)
            self._mark(letter, sample, stamp, "E" if sample.substituted else "")
            return
        self._add(stamp.mono_ms, stamp, sample, gap=fact.gap)
        if fact.gap and sample is not None:
            self._mark("X", sample, stamp, "t")  # time is not known before this reading

    def _note_price(self, fact: PriceFact, stamp: Stamp) -> None:
        tariff = self._tariff_of(fact.tariff) if fact.tariff is not None else None
        if tariff is not None and fact.tariff is not None:
            self.tariff_hashes.append(fact.tariff)
        for before in fact.samples[:-1]:
            self._add(before.at_ms, stamp, before)
        last = fact.samples[-1] if fact.samples else None
        self._add(stamp.mono_ms, stamp, last, tariff=tariff)
        signed = fact.cause in (PriceCause.BOUNDARY, PriceCause.TARIFF) and len(self.marks) < MARKS_MAX
        if last is not None and signed:
            self._mark("T", last, stamp)

    # -------------------------------------------------------------------------------------- points

    def point(self, mono_ms: int, stamp: Stamp, sample: Sample | None, *, gap: bool = False) -> Point:
        """The point that a row at ``mono_ms`` would be; nothing is changed."""
        base_ms = self._base_of(mono_ms, stamp)
        at_ms = max(base_ms + mono_ms, self._last_ms)
        register = None
        if sample is not None:
            read_at_ms = min(base_ms + sample.at_ms, at_ms)
            register = Register(read_at_ms, sample.energy_import_mwh, sample.power_mw, _total(sample.current_ma))
            if self._is_behind(register):
                register = None
        return Point(
            at_ms=at_ms,
            wall_ms=_wall(stamp, at_ms - base_ms),
            activity=_ACTIVITY.get(self._state, Activity.PAUSED),
            register=register,
            tariff=None,
            gap=gap or stamp.boot_id != self._boot_id,
            time_billable=self.terms.bills_time(stamp.time_status),
            wall_known=stamp.time_status != "U",
        )

    def _base_of(self, mono_ms: int, stamp: Stamp) -> int:
        """What is to be added to the monotonic time of the row's boot. Another boot begins where the last row
        was, and as much later as the wall clock has gone on, where it was known both times."""
        if stamp.boot_id == self._boot_id:
            return self._base_ms
        known = "U" not in (stamp.time_status, self._last_status)
        away_ms = max(0, stamp.wall_ms - self._last_wall_ms) if known else 0
        return self._last_ms + away_ms - mono_ms

    def _add(
        self, mono_ms: int, stamp: Stamp, sample: Sample | None, *, gap: bool = False, tariff: Tariff | None = None
    ) -> None:
        point = replace(self.point(mono_ms, stamp, sample, gap=gap), tariff=tariff)
        self._session.add(point)
        passed_ms = 0 if point.gap else point.at_ms - self._last_ms
        self._offered_ms += passed_ms * self._offering
        self._withheld_ms += passed_ms * self._withholding
        self._offering = point.activity is not Activity.PAUSED
        self._withholding = self._state is ChargingState.SUSPENDED_EVSE
        self._charged = self._charged or self._state is ChargingState.CHARGING
        self._base_ms, self._boot_id = self._base_of(mono_ms, stamp), stamp.boot_id
        self._last_status = stamp.time_status
        self._register = point.register or self._register
        self._last_ms, self._last_wall_ms = point.at_ms, point.wall_ms
        self.time_unbilled = self.time_unbilled or not point.time_billable

    def _is_behind(self, register: Register) -> bool:
        """A reading that a later row repeats, or that another process wrote before: it says nothing new."""
        last = self._register
        return last is not None and (register.at_ms < last.at_ms or register.energy_mwh < last.energy_mwh)

    def _mark(self, letter: str, sample: Sample, stamp: Stamp, error_flags: str = "") -> None:
        self.marks.append(Mark(letter, sample, _wall(stamp, sample.at_ms), stamp.time_status, error_flags))

    # ------------------------------------------------------------------------------------- outlook

    @property
    def tariff(self) -> Tariff | None:
        """The one in force."""
        return self._session.tariff

    @property
    def tariffs(self) -> tuple[Tariff, ...]:
        """All that were in force, in order of use."""
        return self._session.tariffs

    @property
    def priced_by(self) -> list[Tariff]:
        """``tariffs`` with what is left of their bounds."""
        return within_session(self.tariffs, self.started.follows)

    @property
    def undelivered(self) -> bool:
        """Whether no energy has flowed, and that was the station's or the CSMS's doing: neither fee nor least cost."""
        if self.ended is None or not self._is_empty(self.ended):
            return False
        withheld = self._offered_ms == 0 and self._withheld_ms >= DECLINED_MS  # whoever gives up then was given nothing
        return self.ended.trigger in _PREVENTED or self._refused or self._unsold or withheld

    def _is_empty(self, ended: TransactionFact) -> bool:
        """Whether the meter says that no energy has flowed in it, and with it in the session. Where its last word is
        missing, that the contactor never closed says so, too."""
        begin, end = self.started.samples[-1], ended.samples[-1]
        still = end.energy_import_mwh == begin.energy_import_mwh and not (end.substituted and self._charged)
        return still and self.started.follows is None and not self.goes_on

    @property
    def _unsold(self) -> bool:
        """Of one without energy: whether the card or the credit was why, from the beginning."""
        by_limit = self.ended is not None and self.ended.trigger in _LIMITS
        return (self._refused or by_limit) and self._offered_ms < DECLINED_MS

    @property
    def not_billable(self) -> bool:
        """Whether no bill may rest on what its meter told."""
        return self.ended is not None and self.ended.samples[-1].meter_state in _UNPROVED

    def usage(self) -> Usage:
        """As of the last row."""
        usage = self._session.usage()
        if self.not_billable:
            return replace(usage, periods=tuple(map(_unpriced, usage.periods)), volumes=())
        if not self.undelivered:
            return usage
        if self._unsold:
            return replace(usage, periods=tuple(map(_unbilled, usage.periods)), volumes=())
        sold = tuple(each for each in usage.volumes if each.dimension is not Dimension.FIXED_FEE)
        return replace(usage, volumes=sold)

    def usage_at(self, mono_ms: int, stamp: Stamp, sample: Sample | None, *, gap: bool = False) -> Usage:
        """As if there were a row now; nothing is changed. ``gap``: what was since the last row is unknown."""
        return self._session.preview(self.point(mono_ms, stamp, sample, gap=gap))

    def next_boundary_ms(self) -> int | None:
        """Monotonic time (of the boot of the last row) at which time alone may change a price."""
        at_ms = self._session.next_boundary_ms()
        return None if at_ms is None else at_ms - self._base_ms

    def price_changes(self, sample: Sample) -> bool:
        """Whether power, current or energy of this reading choose another price."""
        at_ms = self._base_ms + sample.at_ms
        register = Register(at_ms, sample.energy_import_mwh, sample.power_mw, _total(sample.current_ma))
        return self._session.price_changes(register)


def within_session(tariffs: Sequence[Tariff], follows: Forerunner | None) -> list[Tariff]:
    """The tariffs with what is left of their bounds to a transaction that is not the first of its session."""
    if follows is None or follows.cost_excl is None or follows.cost_incl is None:
        return list(tariffs)
    excl, incl = decimal_of(follows.cost_excl), decimal_of(follows.cost_incl)
    return [tariff.after(excl, incl) for tariff in tariffs]


def _unbilled(period: Period) -> Period:
    """With its time charged to nobody."""
    spent_ms = period.charging_ms + period.idle_ms + period.unbilled_ms
    return replace(period, charging_ms=0, idle_ms=0, unbilled_ms=spent_ms)


def _unpriced(period: Period) -> Period:
    """With what was used in it at no price."""
    return replace(period, energy=None, charging_time=None, idle_time=None, estimated_split=False)


def _wall(stamp: Stamp, mono_ms: int) -> int:
    """Wall time of an instant of the stamp's boot. A clock may be set to anything; a bill needs a date."""
    return min(max(stamp.wall_ms - stamp.mono_ms + mono_ms, MIN_WALL_MS), MAX_WALL_MS)


def _total(current_ma: tuple[int | None, int | None, int | None]) -> int | None:
    known = [each for each in current_ma if each is not None]
    return sum(known) if known else None
