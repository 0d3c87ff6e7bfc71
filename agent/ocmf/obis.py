"""Which registers a bill may rest on.

Charter: reads an OBIS code (A-B:C.D.E*F) and says whether verifiers accept it as billing relevant. Pure.

Sources: OCMF 1.4 text, "Extension to billing relevant OBIS representation" (groups are hex); the registers that
published records use and the official verifier accepts.
"""

from __future__ import annotations

import re
from typing import Final

_CODE: Final = re.compile(
    r"([0-9A-Fa-f]{1,2})-([0-9A-Fa-f]{1,2}):([0-9A-Fa-f]{1,2})\.([0-9A-Fa-f]{1,2})\.([0-9A-Fa-f]{1,2})"
    r"(?:[.*]([0-9A-Fa-f]{1,3}))?"
)
_ELECTRICITY: Final = 0x01
_TOTAL: Final = 0x08
_ENERGY: Final = frozenset((0x01, 0x98, 0x9E, *range(0xB0, 0xC8)))
_COMPENSATED: Final = frozenset((0x98, 0xB1, 0xB3, 0xC1, 0xC3))
# No stored earlier period, or this one. Some makers write the group in decimal (255), and 200 for "not used".
_NOW: Final = frozenset((0x00, 0xFF, 0x255, 0x200))


def is_billing(code: str | None) -> bool:
    """Whether the register is one of energy for billing."""
    groups = _groups(code)
    if groups is None:
        return False
    a, c, d, f = groups
    return a == _ELECTRICITY and c in _ENERGY and d == _TOTAL and f in _NOW


def is_compensated(code: str | None) -> bool:
    """Whether the cable's losses are already subtracted. Where such a register is, only such count."""
    groups = _groups(code)
    return groups is not None and is_billing(code) and groups[1] in _COMPENSATED


def _groups(code: str | None) -> tuple[int, int, int, int] | None:
    match = _CODE.fullmatch((code or "").strip())
    if match is None:
        return None
    a, _, c, d, _, f = (int(group or "FF", 16) for group in match.groups())
    return a, c, d, f
