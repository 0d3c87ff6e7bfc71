"""The values of a transaction: what goes into the fold, and the volumes that come out.

Charter: points in, usage out, and usage as plain JSON values so that a receipt can carry it and anybody can
recompute the cost from it. ``fold.Session`` makes the one from the other.

Units: energy mWh, time ms, power mW, current mA (sum over the phases). ``*_ms`` of a point or period is the
monotonic clock of the transaction, ``*wall_ms`` UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from agent.tariff.model import Dimension, Tariff


class Activity(StrEnum):
    CHARGING = "Charging"
    IDLE = "Idle"
    PAUSED = "Paused"  # the station's own pause, charged to nobody


@dataclass(frozen=True, slots=True)
class Register:
    """One meter reading. Power and current are None when the meter does not tell them."""

    at_ms: int
    energy_mwh: int
    power_mw: int | None = None
    current_ma: int | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One durable row: what is so from ``at_ms`` on, and the reading that was taken at or shortly before.

    ``gap``: what happened since the previous point is unknown; that time is not billed. ``time_billable``: may
    the time from here on be billed (time quality policy). ``wall_known``: does ``wall_ms`` mean anything; from a
    point with an unset clock on, no condition on time of day, weekday or date is met.
    """

    at_ms: int
    wall_ms: int
    activity: Activity
    register: Register | None = None
    tariff: Tariff | None = None  # takes effect here; None: as before
    gap: bool = False
    time_billable: bool = True
    wall_known: bool = True


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of the transaction with one selected price (index, or None) per dimension.

    A period that was begun by energy reaching a threshold begins with the reading that showed it.
    """

    from_ms: int
    to_ms: int
    from_wall_ms: int
    to_wall_ms: int
    tariff: int | None  # position in the order of use
    energy: int | None
    charging_time: int | None
    idle_time: int | None
    energy_mwh: int = 0
    charging_ms: int = 0
    idle_ms: int = 0
    unbilled_ms: int = 0
    estimated_split: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """What is billed at one price: mWh, ms, or the number of fees."""

    tariff: int
    dimension: Dimension
    price: int
    amount: int


@dataclass(frozen=True, slots=True)
class Usage:
    """``begin_mwh`` and ``end_mwh`` are None as long as the meter was never read."""

    periods: tuple[Period, ...] = ()
    volumes: tuple[Volume, ...] = ()
    begin_mwh: int | None = None
    end_mwh: int | None = None
    reservation_ms: int = 0

    @property
    def energy_mwh(self) -> int:
        return 0 if self.begin_mwh is None or self.end_mwh is None else self.end_mwh - self.begin_mwh

    @property
    def charging_ms(self) -> int:
        return sum(period.charging_ms for period in self.periods)

    @property
    def idle_ms(self) -> int:
        return sum(period.idle_ms for period in self.periods)

    @property
    def unbilled_ms(self) -> int:
        return sum(period.unbilled_ms for period in self.periods)

    @property
    def elapsed_ms(self) -> int:
        return self.periods[-1].to_ms - self.periods[0].from_ms if self.periods else 0

    @property
    def estimated_split(self) -> bool:
        return any(period.estimated_split for period in self.periods)


def to_plain(usage: Usage) -> dict[str, Any]:
    """JSON values: integers, strings, booleans and null only."""
    return {
        "periods": [_plain(period) for period in usage.periods],
        "volumes": [_plain(volume) for volume in usage.volumes],
        "begin_mwh": usage.begin_mwh,
        "end_mwh": usage.end_mwh,
        "reservation_ms": usage.reservation_ms,
    }


def from_plain(plain: Any) -> Usage:
    """The usage of a receipt; ``ValueError`` when it is none."""
    if not isinstance(plain, dict) or set(plain) != {field.name for field in fields(Usage)}:
        raise ValueError("usage: expected an object with periods, volumes, begin_mwh, end_mwh, reservation_ms")
    if not isinstance(plain["periods"], list) or not isinstance(plain["volumes"], list):
        raise ValueError("usage: expected lists of periods and volumes")
    volumes = [_record(Volume, each, {"dimension"}) for each in plain["volumes"]]
    return Usage(
        tuple(Period(**_record(Period, each, set())) for each in plain["periods"]),
        tuple(Volume(**(each | {"dimension": Dimension(each["dimension"])})) for each in volumes),
        _integer("begin_mwh", plain["begin_mwh"], optional=True),
        _integer("end_mwh", plain["end_mwh"], optional=True),
        _integer("reservation_ms", plain["reservation_ms"], optional=False) or 0,
    )


_OPTIONAL = frozenset({"energy", "charging_time", "idle_time"})
_MAY_BE_NEGATIVE = frozenset({"from_ms", "to_ms"})  # whatever the monotonic clock began with


def _plain(value: Period | Volume) -> dict[str, Any]:
    plain = {field.name: getattr(value, field.name) for field in fields(value)}
    return {name: str(each) if isinstance(each, Dimension) else each for name, each in plain.items()}


def _record(kind: type[Period] | type[Volume], plain: Any, texts: set[str]) -> dict[str, Any]:
    """The fields of one value, each checked for its type."""
    if not isinstance(plain, dict) or set(plain) != {field.name for field in fields(kind)}:
        raise ValueError(f"usage: not the fields of a {kind.__name__.lower()}: {plain!r:.200}")
    for name, value in plain.items():
        if name == "estimated_split":
            if not isinstance(value, bool):
                raise ValueError(f"usage: {name}: expected true or false, found {value!r:.80}")
        elif name in texts:
            if not isinstance(value, str):
                raise ValueError(f"usage: {name}: expected a text, found {value!r:.80}")
        else:
            found = _integer(name, value, optional=name in _OPTIONAL or (kind is Period and name == "tariff"))
            if found is not None and found < 0 and name not in _MAY_BE_NEGATIVE:
                raise ValueError(f"usage: {name}: expected 0 or more, found {found}")
    return plain


def _integer(name: str, value: Any, *, optional: bool) -> int | None:
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"usage: {name}: expected an integer, found {value!r:.80}")
    return value
