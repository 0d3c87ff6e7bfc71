"""Which software made a receipt or a record: its version, and a checksum over what is legally relevant.

Charter: the files that decide what is measured, stored, priced, signed and shown on a receipt; a change of any of
them changes the checksum. Read once, when it is first asked for, since the files of a running program stay what
they were when it started.

Form: SHA-256 over the files in order of their paths, each as path, NUL, length in decimal, NUL, bytes. Source:
metering reference, section 2 (WELMEC 7.2, REA 6-A: identification of the legally relevant software).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

PARTS: Final = (
    "agent/billing",
    "agent/core/facts.py",
    "agent/ledger",
    "agent/ocmf",
    "agent/security",
    "agent/tariff",
    "hal/meters",
)
SHORT_DIGITS: Final = 8
_SUFFIXES: Final = frozenset({".py", ".toml"})  # code, and the register maps that scale readings


def version() -> str:
    """Of the installed package; empty where it runs without being installed."""
    try:
        return metadata.version("evsed")
    except metadata.PackageNotFoundError:
        return ""


@cache
def digest() -> str:
    """64 hex digits over the legally relevant files."""
    return digest_of(Path(__file__).resolve().parents[2])


def short_digest() -> str:
    """What is shown where room is short."""
    return digest()[:SHORT_DIGITS]


def digest_of(root: Path) -> str:
    """The same of a tree that lies elsewhere. ``FileNotFoundError`` when a part of it is not there."""
    total = hashlib.sha256()
    for name, file in sorted(_files(root)):
        data = file.read_bytes()
        total.update(b"%s\0%d\0" % (name.encode(), len(data)))
        total.update(data)
    return total.hexdigest()


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for part in PARTS:
        place = root / part
        if not place.exists():
            raise FileNotFoundError(f"{part} is not there, so this software cannot be identified")
        found = [place] if place.is_file() else place.rglob("*")
        for file in found:
            if file.suffix in _SUFFIXES and file.is_file():
                yield file.relative_to(root).as_posix(), file
