"""The values of smart charging: profiles, schedules, periods, and exact limits.

Charter: what a charging profile *is*, in the shape of OCPP 2.0.1 (ChargingProfileType), which also holds
everything of OCPP 1.6. Dialects translate their payloads into these values. No rule is applied here except
that a limit is an exact number; ``rules`` says what may be installed.

Units: limits in milliampere or milliwatt (``_milli``: the schedule's rate unit decides), instants in UTC
milliseconds since 1970 (``_ms``), offsets and durations inside a schedule in seconds (``_s``), as OCPP has them.
Sources: OCPP 2.0.1 part 2, data types; OCPP 1.6 edition 2, 3.13 and 7.8-7.14.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal

MAX_LIMIT_MILLI = 10**12  # a gigawatt: beyond any station, and it keeps every later product small
MINIMUM_AC_MA = 6_000  # IEC 61851-1: the least current a pilot can offer


class Purpose(enum.StrEnum):
    """ChargingProfilePurposeEnumType; 1.6's ChargePointMaxProfile is STATION_MAX."""

    STATION_MAX = "ChargingStationMaxProfile"
    STATION_EXTERNAL = "ChargingStationExternalConstraints"
    TX_DEFAULT = "TxDefaultProfile"
    TX = "TxProfile"


class Kind(enum.StrEnum):
    ABSOLUTE = "Absolute"
    RECURRING = "Recurring"
    RELATIVE = "Relative"


class Recurrency(enum.StrEnum):
    DAILY = "Daily"
    WEEKLY = "Weekly"


class RateUnit(enum.StrEnum):
    AMPERE = "A"  # per phase
    WATT = "W"  # all phases together


class LimitSource(enum.StrEnum):
    """ChargingLimitSourceEnumType: who installed a profile. CSO is the CSMS."""

    EMS = "EMS"
    OTHER = "Other"
    SO = "SO"
    CSO = "CSO"


@dataclass(frozen=True, slots=True)
class Period:
    """One step of a schedule; it lasts until the next one starts or the schedule ends."""

    start_s: int
    limit_milli: int
    number_phases: int | None = None
    phase_to_use: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Periods in ascending order. ``start_ms`` None: counted from the start of the transaction."""

    unit: RateUnit
    periods: tuple[Period, ...]
    duration_s: int | None = None
    start_ms: int | None = None
    id: int | None = None
    min_charging_rate_milli: int | None = None


@dataclass(frozen=True, slots=True)
class ChargingProfile:
    """One charging profile. It counts from ``valid_from_ms`` (included) to ``valid_to_ms`` (excluded).

    ``transaction_id`` is the station's own id of the transaction, not the number a 1.6 CSMS gave it.
    """

    id: int
    stack_level: int
    purpose: Purpose
    kind: Kind
    schedules: tuple[Schedule, ...]
    recurrency: Recurrency | None = None
    valid_from_ms: int | None = None
    valid_to_ms: int | None = None
    transaction_id: str | None = None

    @property
    def schedule(self) -> Schedule:
        """The only schedule; ``rules`` lets no profile with more than one in."""
        (schedule,) = self.schedules
        return schedule


class LimitNumberError(ValueError):
    """A limit in a message is no number that a limit may be; the text says why."""


def exact_milli(number: int | float | Decimal, *, decimals: int = 1) -> int:
    """A JSON number of ampere or watt as exact thousandths, e.g. 8.1 -> 8100 (16-SC-13).

    A float is read through its shortest decimal form, the digits that stood in the message. At most
    ``decimals`` (0 to 3) digits after the point; raises LimitNumberError for more (6.25 with one), for
    negative, not finite or absurdly large numbers.
    """
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
        raise LimitNumberError(f"{number!r} is not a number")
    value = Decimal(str(number))
    if not value.is_finite():
        raise LimitNumberError(f"{number} is not finite")
    if not 0 <= value <= MAX_LIMIT_MILLI // 1000:
        raise LimitNumberError(f"{number} is not between 0 and {MAX_LIMIT_MILLI // 1000}")
    exponent = value.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > decimals:
        raise LimitNumberError(f"{number} has more than {decimals} decimal(s)")
    return int(value * 1000)
