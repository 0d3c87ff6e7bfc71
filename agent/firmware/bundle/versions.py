"""Versions: how they are written, and which of two is newer.

Charter: dotted whole numbers, then perhaps a suffix: ``2.1``, ``2025.01-rc3``, ``2023.01+dfsg-2``. Numbers compare as
numbers and missing ones count as zero (2.1 equals 2.1.0). What follows ``-`` is a forerunner: older than the same
numbers without it, and among each other ordered piece by piece, numbers before words. What follows ``+`` names a build
of the same version and does not count. Pure.
"""

from __future__ import annotations

import re
from typing import Final

VERSION_CHARS_MAX: Final = 64
PLAIN_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}", re.ASCII)
"""What may name a bundle: any plain word. Nobody asks which of two bundles is newer; the epoch does that."""

_COMPARABLE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)*)(?:-([A-Za-z0-9.~-]+))?(?:\+[A-Za-z0-9._+~-]*)?", re.ASCII)
_PIECES: Final = re.compile(r"[0-9]+|[A-Za-z]+", re.ASCII)

VersionKey = tuple[tuple[int, ...], int, tuple[tuple[int, int, str], ...]]


def version_key(text: str) -> VersionKey | None:
    """Greater for a newer version; None where ``text`` is not written as this module says."""
    matched = _COMPARABLE.fullmatch(text) if len(text) <= VERSION_CHARS_MAX else None
    if matched is None:
        return None
    numbers = [int(number) for number in matched[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    if matched[2] is None:
        return tuple(numbers), 1, ()
    pieces = _PIECES.findall(matched[2])
    return tuple(numbers), 0, tuple((0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces)
