"""Currencies: how many minor units, and the one place where an exact amount becomes a printed one.

Charter: ISO 4217 codes with their exponents, and rounding of exact fractions to whole minor units. Nothing here
uses ``Decimal`` arithmetic, so no decimal context can change a result (C6). Source: ISO 4217 list one.
"""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction

# Currencies whose minor unit is not 1/100.
_EXPONENTS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_CENTS = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF"
    " CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF"
    " IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN"
    " MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS"
    " SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)

MINOR_DIGITS: dict[str, int] = dict.fromkeys(_CENTS.split(), 2) | {
    code: digits for digits, codes in _EXPONENTS.items() for code in codes.split()
}


class Rounding(StrEnum):
    HALF_UP = "HALF_UP"  # a tie goes away from zero
    HALF_EVEN = "HALF_EVEN"
    DOWN = "DOWN"  # towards zero


def round_whole(amount: Fraction, rounding: Rounding = Rounding.HALF_UP) -> int:
    """The whole number nearest to the amount; the sign never changes how large it gets."""
    whole, rest = divmod(abs(amount), 1)
    if rounding is Rounding.HALF_UP:
        whole += rest >= Fraction(1, 2)
    elif rounding is Rounding.HALF_EVEN:
        whole += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2)
    return int(-whole if amount < 0 else whole)


def to_minor(amount: Fraction, currency: str, rounding: Rounding = Rounding.HALF_UP) -> int:
    """An exact amount of the currency in whole minor units."""
    return round_whole(amount * 10 ** MINOR_DIGITS[currency], rounding)


def from_minor(minor: int, currency: str) -> Fraction:
    return Fraction(minor, 10 ** MINOR_DIGITS[currency])


def minor_text(minor: int, currency: str) -> str:
    """``-1234`` EUR as ``-12.34``: always all digits of the currency."""
    digits = MINOR_DIGITS[currency]
    sign, whole = ("-" if minor < 0 else ""), str(abs(minor)).rjust(digits + 1, "0")
    return f"{sign}{whole[:-digits]}.{whole[-digits:]}" if digits else sign + whole


def decimal_text(amount: Fraction, least_digits: int = 0, most_digits: int = 12) -> str:
    """A fraction as a decimal number, exact where ``most_digits`` suffice, else rounded there."""
    scaled = round_whole(amount * 10**most_digits)
    sign, digits = ("-" if scaled < 0 else ""), str(abs(scaled)).rjust(most_digits + 1, "0")
    whole, rest = digits[: len(digits) - most_digits], digits[len(digits) - most_digits :]
    rest = rest[:least_digits] + rest[least_digits:].rstrip("0")
    return f"{sign}{whole}.{rest}" if rest else sign + whole
