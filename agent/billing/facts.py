"""What the station knows of a finished transaction, as its receipt will say it.

Charter: plain frozen values, filled from the ledger by ``books`` and by reading a receipt. Nothing is
decided here. The order of fields is the order of the keys in a receipt.

Units: energy mWh, wall time in ms since 1970 UTC, UTC offset in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.facts import Forerunner


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who sells the energy."""

    name: str = ""
    address: str = ""
    contact: str = ""
    vat_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where it was sold. ``meter_serial`` is empty where the meter was never read."""

    identity: str
    vendor: str
    model: str
    serial: str
    evse: int
    meter_serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """What made the receipt: version and SHA-256 (64 hex digits) of the legally relevant files."""

    version: str
    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An instant and how well it is known: U unknown, I informative, S synchronised, R relative (OCMF)."""

    wall_ms: int
    offset_minutes: int
    time_status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What a driver must be told beside the numbers."""

    offline: bool = False  # the CSMS could not be reached for some of the time
    power_failure: bool = False  # or a restart: for some of the time nobody looked
    estimated_split: bool = False  # energy was split over prices without a reading at the change
    time_not_billable: bool = False  # for some of the time at least the clock was not good enough to bill it
    substituted_reading: bool = False  # the end is the last good reading, not one of the end
    not_billable: bool = False  # the readings are not good enough to bill anything


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffUsed:
    """A tariff as it was received. ``text`` is None where a receipt would otherwise be too large."""

    content_hash: str
    tariff_id: str
    text: str | None
    words: tuple[str, ...] = ()  # its prices as a person reads them


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What bounds the bill beside the tariffs. ``credit_limit`` is a decimal number in the tariff's currency, tax
    included. ``follows``: the session did not begin with this transaction, and the tariffs' bounds are of the whole
    session; it is not written where it is None."""

    min_energy_mwh: int = 0
    credit_limit: str | None = None
    follows: Forerunner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFacts:
    """All of a receipt but its numbers, its records and its money.

    ``local_number`` stands for the transaction where a number must do (SAFE). ``token`` is as it may be
    printed: plain, hashed or empty. ``unassigned_before_mwh`` ran through the meter since the transaction
    before; None when that is not known. ``public_key`` is the metering key, hex of DER SubjectPublicKeyInfo.
    ``record_key`` is the meter's, where the meter signed the records by itself; else empty. ``tariffs`` stand
    in the order of use, which is what the indices of the usage count."""

    operator: Operator
    place: Place
    software: Software
    tx_id: str
    local_number: int
    token: str
    group: str
    stop_reason: str
    payment_reference: str
    begin: Moment
    end: Moment
    begin_mwh: int | None
    end_mwh: int | None
    unassigned_before_mwh: int | None
    time_zone: str
    tzdata: str
    public_key: str
    record_key: str = ""
    flags: Flags = Flags()
    bounds: Bounds = Bounds()
    tariffs: tuple[TariffUsed, ...] = ()
