"""Numbers of a JSON text exactly as written, and their exact value.

Charter: ``1.10`` stays ``1.10`` for the content hash and becomes the fraction 11/10 for the cost; no binary float
lies between. Source: RFC 8259 grammar of numbers.
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_EXPONENT = 12
MAX_DIGITS = 30
_GRAMMAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE]([+-]?[0-9]+))?", re.ASCII)


class Written(str):
    """The text of a JSON number."""

    __slots__ = ()


def written(value: object) -> Written | None:
    """The text of a number that came as a value; None when it is no number. A float is the shortest text that
    gives it, which is what was written unless that had more than 15 digits."""
    if isinstance(value, Written):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Written(repr(value))


def exact(text: Written) -> Fraction | None:
    """The value; None for NaN, infinities, and numbers no price needs (beyond 1e12, exponent beyond 12, over 30
    digits)."""
    match = _GRAMMAR.fullmatch(text)
    if match is None or sum(each.isdigit() for each in text) > MAX_DIGITS:
        return None
    if match[1] is not None and abs(int(match[1])) > MAX_EXPONENT:
        return None
    value = Fraction(text)
    return value if abs(value) <= 10**MAX_EXPONENT else None
