"""Versions: how they are written, and which of two is newer.

Charter: dotted whole numbers, then perhaps a suffix: ``2.1``, ``2025.01-rc3``, ``2023.01+dfsg-2``. Numbers compare as
numbers and missing ones count as zero (2.1 equals 2.1.0). What follows ``-`` is a forerunner: older than the same
numbers without it, and among each other ordered piece by piece, numbers before words. What follows ``+`` names a build
of the same version and does not count. Python's own suffixes are read too, since this agent's version is written so:
``2.1.dev3`` < ``2.1rc1`` (as ``2.1-rc1``) < ``2.1`` < ``2.1.post1``. Pure. Source of these: PEP 440.
"""

from __future__ import annotations

import re
from typing import Final

VERSION_CHARS_MAX: Final = 64
PLAIN_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}", re.ASCII)
"""What may name a bundle: any plain word. Nobody asks which of two bundles is newer; the epoch does that."""

_COMPARABLE: Final = re.compile(
    r"""(?P<numbers>[0-9]+(?:\.[0-9]+)*)
    (?: -(?P<suffix>[A-Za-z0-9.~-]+)
      | (?P<pre>(?:a|b|rc)[0-9]+)? (?:\.post(?P<post>[0-9]+))? (?:\.dev(?P<dev>[0-9]+))? )
    (?:\+[A-Za-z0-9._+~-]*)?""",
    re.ASCII | re.VERBOSE,
)
_PIECES: Final = re.compile(r"[0-9]+|[A-Za-z]+", re.ASCII)

Piece = tuple[int, int, str]
VersionKey = tuple[tuple[int, ...], int, tuple[Piece, ...]]

# Kinds of pieces, in their order: one version goes on as another one ends, or begins with it.
_DEV, _END, _NUMBER, _WORD, _POST = range(5)


def version_key(text: str) -> VersionKey | None:
    """Greater for a newer version; None where ``text`` is not written as this module says."""
    matched = _COMPARABLE.fullmatch(text) if len(text) <= VERSION_CHARS_MAX else None
    if matched is None:
        return None
    numbers = [int(number) for number in matched["numbers"].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    before, post, dev = matched["suffix"] or matched["pre"], matched["post"], matched["dev"]
    pieces: list[Piece] = [
        (_NUMBER, int(piece), "") if piece.isdigit() else (_WORD, 0, piece) for piece in _PIECES.findall(before or "")
    ]
    pieces += [(kind, int(number), "") for kind, number in ((_POST, post), (_DEV, dev)) if number is not None]
    is_forerunner = before is not None or (dev is not None and post is None)
    return tuple(numbers), 0 if is_forerunner else 1, (*pieces, (_END, 0, ""))
