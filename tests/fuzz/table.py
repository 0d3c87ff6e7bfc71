"""The table of all targets, by name, and where their found cases lie."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.fuzz import devices, local, messages, money, updates
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    each.name: each for part in (devices, messages, local, money, updates) for each in part.targets()
}
CORPUS: Final = Path(__file__).parent / "corpus"
"""Inputs that once were findings, a folder for each target. They are few and small."""


def corpus(name: str) -> list[Path]:
    """The found cases of a target, in the order of their names."""
    return sorted(file for file in (CORPUS / name).glob("*") if file.is_file())
