"""Every row of the OCPP checklist is named by a test, or stands in the list of those that have none, with the reason.

Charter: reads ``../shared/ocpp-checklist.md`` and the sources of the tests; nothing is started. A row is named where
its ID stands as a word, in a docstring, a comment or a case's name, or in the name of a test as ``16_tx_03``. Of a
range (``K02-K05``) any ID will do; a row of several IDs (``F01/F02``) needs each; ``A02+`` is 2.1's part of ``A02``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKLIST = ROOT.parent / "shared" / "ocpp-checklist.md"
WITHOUT = Path(__file__).with_name("rows_without_a_test.toml")
ID = r"(?:\d\d-)?[A-Z]+-?(?:\d+[a-z]?|GEN)(?:-[A-Z]\d+)?\+?"
ROW = re.compile(rf"^\| *({ID}(?:(?:, |/){ID})*) *\|", re.MULTILINE)
RANGE = re.compile(r"([A-Z])(\d+)-[A-Z](\d+)")

pytestmark = pytest.mark.skipif(not CHECKLIST.exists(), reason="the checklist is not beside the checkout")


def rows() -> list[str]:
    return ROW.findall(CHECKLIST.read_text())


def without() -> dict[str, str]:
    reasons = tomllib.loads(WITHOUT.read_text())
    assert all(isinstance(reason, str) and reason for reason in reasons.values())
    return reasons


def names_of(row: str) -> Iterator[set[str]]:
    """For each part of a row the names of which one is enough."""
    for part in re.split(", |/", row.replace("+", "")):
        found = RANGE.fullmatch(part)
        numbers = range(int(found[2]), int(found[3]) + 1) if found else ()
        yield {part, *(f"{part[0]}{number:02}" for number in numbers)}


def unnamed() -> list[str]:
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
    words = set(re.findall(r"[A-Z0-9]+(?:-[A-Z0-9]+)*[a-z]?", sources))
    functions = "".join(f"{name}_" for name in re.findall(r"def (test_\w+)", sources))

    def is_named(names: set[str]) -> bool:
        return any(name in words or f"_{name.lower().replace('-', '_')}_" in functions for name in names)

    return [row for row in rows() if not all(is_named(names) for names in names_of(row))]


def test_the_checklist_is_read() -> None:
    assert len(rows()) > 200 and len(set(rows())) == len(rows())
    assert list(names_of("K02-K04/A02+")) == [{"K02-K04", "K02", "K03", "K04"}, {"A02"}]


def test_every_row_is_named_by_a_test_or_has_a_reason() -> None:
    assert sorted(set(unnamed()) - set(without())) == []


def test_no_row_has_both_a_test_and_a_reason_for_none() -> None:
    assert sorted(set(without()) - set(unnamed())) == []
