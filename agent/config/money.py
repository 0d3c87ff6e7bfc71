"""The tables of the configuration that concern metering for billing: ``[metering]``, ``[price]``, ``[operator]``.

Charter: plain data with a rule at each field, as ``agent.config.model``; ``Config`` there has them as
tables. What a tariff file must hold is ``agent.tariff``'s affair; whether it does is checked with the
rest of the configuration. Sources: metering reference 1.4 (identification), 1.7 (version), 2 (policies),
4.2 (space), 3.8 (kinds of tariff).
"""

# ruff: noqa: RUF009 - ``ruled`` makes a dataclass field; it is not a default value.
from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from agent.config.fields import (
    Rule,
    Unfit,
    choice_rule,
    file_rule,
    flag_rule,
    integer_rule,
    path_rule,
    ruled,
    show,
    text_rule,
)


class FormatVersion(enum.StrEnum):
    """OCMF FV. The transparency software in the field refuses 1.4, so it is a choice, not the default."""

    V11 = "1.1"
    V13 = "1.3"
    V14 = "1.4"


class TokenInRecord(enum.StrEnum):
    """How an identification token stands in signed records, which are kept for years."""

    PLAIN = "plain"
    HASH = "hash"  # the first 32 hex digits of its SHA-256
    NONE = "none"


class AfterDamage(enum.StrEnum):
    """What may happen after a damaged ledger was set aside as evidence."""

    CHARGE = "charge"  # go on with the fresh ledger, unless faults or limits were lost; the alarm is raised
    REFUSE = "refuse"  # no new transaction until the damage is acknowledged


class TimePolicy(enum.StrEnum):
    """Which quality of the clock is enough to bill time. A clock that nobody vouches for is unknown, however right it
    looks."""

    ANY = "any"
    INFORMATIVE = "informative"  # since boot the CSMS told it, or a hardware clock or time server vouched for it
    NEVER = "never"  # energy only


def money_rule(example: str) -> Rule:
    """A decimal amount as text: money is never a float."""
    expected = "an amount of money as text with at most 6 decimals, not negative"

    def convert(value: object, _base: Path) -> object:
        try:
            amount = Decimal(value) if isinstance(value, str) else None
        except InvalidOperation:
            amount = None
        fits = amount is not None and amount.is_finite() and 0 <= amount <= 1_000_000
        if amount is None or not fits or -int(amount.as_tuple().exponent) > 6:
            raise Unfit(expected, show(value), f'"{example}"')
        return amount

    return Rule(expected, f'"{example}"', convert)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteringConfig:
    """``[metering]``. Signed records are made for every transaction; here is how.

    ``time_is_legal`` declares that the way this station's clock is set is adequate by law, so times are told as
    synchronised (S) instead of informative (I)."""

    format_version: FormatVersion = ruled(choice_rule(FormatVersion, FormatVersion.V13), FormatVersion.V13)
    token_in_record: TokenInRecord = ruled(choice_rule(TokenInRecord, TokenInRecord.HASH), TokenInRecord.PLAIN)
    time_is_legal: bool = ruled(flag_rule(True), False)
    after_damage: AfterDamage = ruled(choice_rule(AfterDamage, AfterDamage.REFUSE), AfterDamage.CHARGE)
    retention_days: int = ruled(integer_rule(1, 36_500, 3_650), 3_650)
    free_space_floor_mib: int = ruled(integer_rule(1, 4_096, 16), 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """``[[price.assign]]``: a tariff, or limits (prepaid), for a token, a group or an EVSE. The first that fits
    counts; what is left out fits everything."""

    token: str | None = ruled(text_rule(36, "04A2B3C4D5E6F7"), None)
    group: str | None = ruled(text_rule(36, "household"), None)
    evse: int | None = ruled(integer_rule(1, 64, 1), None)
    tariff: Path | None = ruled(file_rule("/etc/evsed/flat.json"), None)
    max_cost: Decimal | None = ruled(money_rule("20.00"), None)
    max_energy_wh: int | None = ruled(integer_rule(1, 10_000_000, 20_000), None)
    max_time_s: int | None = ruled(integer_rule(1, 31_536_000, 7_200), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceConfig:
    """``[price]``. ``tariff``: the site's own, where the CSMS gives none. ``live_tariff``: a file that another
    program may replace at any time; what it then says holds from that instant, for running transactions too."""

    tariff: Path | None = ruled(file_rule("/etc/evsed/tariff.json"), None)
    live_tariff: Path | None = ruled(path_rule("/var/lib/evsed/price.json"), None)
    time_policy: TimePolicy = ruled(choice_rule(TimePolicy, TimePolicy.INFORMATIVE), TimePolicy.INFORMATIVE)
    minimum_billable_wh: int = ruled(integer_rule(0, 10_000, 100), 0)
    allow_negative: bool = ruled(flag_rule(False), False)
    assign: tuple[Assignment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfig:
    """``[operator]``: who sells the energy; printed on receipts."""

    name: str = ruled(text_rule(80, "Example Charging Ltd"), "")
    address: str = ruled(text_rule(160, "1 Example Street, 12345 Example"), "")
    contact: str = ruled(text_rule(80, "+49 30 1234567"), "")
    vat_id: str = ruled(text_rule(20, "DE123456789"), "")
