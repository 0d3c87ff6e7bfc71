"""Mutants that may survive, and why.

Charter: ``survivors.toml`` lists them by what they change, so that an entry outlives edits elsewhere; two kinds need
no entry, because no test should look at them: the case of SQL, and the wording of text for people (a literal with a
space in it). The words themselves are free; that a text is there at all is not: those mutants need a test or an entry.
"""

from __future__ import annotations

import io
import re
import tokenize
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import Change

_SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|PRAGMA|BEGIN|COMMIT|ROLLBACK|AND|WHERE|FROM)\b")
_PART_OF_TEXT = getattr(tokenize, "FSTRING_MIDDLE", -1)  # since Python 3.12; one literal before


class BadList(Exception):
    """``survivors.toml`` is not what it must be; says which entry."""


@dataclass(frozen=True, slots=True)
class Excuses:
    """The explained mutants, and the reason of each."""

    reasons: dict[Change, str]

    def reason(self, change: Change) -> str | None:
        """Why this mutant may survive; None if nobody has said."""
        if change in self.reasons:
            return self.reasons[change]
        if is_case_of_sql(change):
            return "case of SQL"
        return "wording" if is_wording(change) else None


def load(path: Path) -> Excuses:
    """Raises ``BadList``."""
    reasons: dict[Change, str] = {}
    for number, entry in enumerate(tomllib.loads(path.read_text()).get("survivor", []), 1):
        try:
            file, function, reason = (str(entry[key]).strip() for key in ("file", "function", "reason"))
            changes = [Change(file, function, old, new) for old, new in entry["changes"]]
        except (KeyError, TypeError, ValueError) as error:
            raise BadList(
                f"{path.name}: survivor {number}: needs file, function, reason, changes: {error!r}"
            ) from error
        if not reason or not changes:
            raise BadList(f"{path.name}: survivor {number}: a reason and at least one change must be given")
        reasons.update(dict.fromkeys(changes, reason))
    return Excuses(reasons)


def is_case_of_sql(change: Change) -> bool:
    """Keywords and names of SQL mean the same in either case."""
    return bool(_SQL.search(change.old)) and change.old.casefold() == change.new.casefold()


def is_wording(change: Change) -> bool:
    """Only text differs, and only text in which there are several words."""
    old, new = _tokens(change.old), _tokens(change.new)
    if len(old) != len(new):
        return False
    differing = [(before, after) for before, after in zip(old, new, strict=True) if before != after]
    return bool(differing) and all(_is_text(*before) and after[0] == before[0] for before, after in differing)


def _is_text(kind: int, literal: str) -> bool:
    words = literal if kind == _PART_OF_TEXT else literal.strip("\"'rf ")
    return kind in (tokenize.STRING, _PART_OF_TEXT) and " " in words and not _SQL.search(literal)


def _tokens(text: str) -> list[tuple[int, str]]:
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            found.append((token.type, token.string))
    except (tokenize.TokenError, IndentationError):
        pass  # a part of a statement: brackets stay open, what came before counts
    return found
