"""A receipt as plain text, 80 columns wide.

Charter: lays out a ``View``; decides nothing. Longer texts are wrapped, never cut.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from agent.billing.read import Receipt
from agent.billing.told import Told
from agent.billing.view import Pairs, Table, view

WIDTH: Final = 80
_INDENT: Final = "  "


def render(receipt: Receipt, told: Told | None = None) -> str:
    shown = view(receipt, told)
    parts = [
        ["=" * WIDTH, *_wrapped(shown.title.upper()), *_lines(shown.seller)],
        ["=" * WIDTH, *_pairs(shown.headline), "=" * WIDTH],
        _lines(shown.notices, "! "),
        [] if shown.bill is None else _table(shown.bill),
        _titled("Told by the operator", _lines(shown.told)) if shown.told else [],
        _titled("Session", _pairs(shown.session)),
        *(_titled(name, _lines(lines, "- ")) for name, lines in shown.prices),
        _titled("Meter", _pairs(shown.registers)),
        [] if shown.periods is None else _table(shown.periods),
        _titled("Identity", _pairs(shown.identity)),
        _titled("How to check this receipt", [*_lines(shown.checks, "* "), *_lines(shown.commands, "    ")]),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _titled(title: str, lines: list[str]) -> list[str]:
    return [*_wrapped(title), "-" * WIDTH, *lines] if lines else _wrapped(title)


def _pairs(pairs: Pairs) -> list[str]:
    width = min(max((len(name) for name, _ in pairs), default=0), 34)
    lines: list[str] = []
    for name, value in pairs:
        names = textwrap.wrap(name, width) or [""]
        values = textwrap.wrap(value, WIDTH - width - 2) or [""]
        rows = max(len(names), len(values))
        names += [""] * (rows - len(names))
        values += [""] * (rows - len(values))
        lines += [f"{one:<{width}}  {other}".rstrip() for one, other in zip(names, values, strict=True)]
    return lines


def _lines(texts: tuple[str, ...], mark: str = "") -> list[str]:
    return [line for text in texts for line in _wrapped(text, mark)]


def _wrapped(text: str, mark: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark)) or [mark]


# -------------------------------------------------------------------------------------------- tables


def _table(table: Table) -> list[str]:
    """In columns where they fit, else one block of lines per row."""
    rows = [*table.rows, *([table.total] if table.total else [])]
    widths = [max([len(name.lstrip(">")), *(len(row[at]) for row in rows)]) for at, name in enumerate(table.columns)]
    fits = sum(widths) + 2 * (len(widths) - 1) <= WIDTH
    body = _columns(table, widths) if fits else list(_blocks(table))
    return [*_titled(table.title, body), *_wrapped(table.note)] if table.note else _titled(table.title, body)


def _columns(table: Table, widths: list[int]) -> list[str]:
    widths = [widths[0] + WIDTH - sum(widths) - 2 * (len(widths) - 1), *widths[1:]]

    def line(cells: tuple[str, ...]) -> str:
        placed = zip(cells, widths, table.columns, strict=True)
        return "  ".join(f"{x:>{w}}" if name.startswith(">") else f"{x:<{w}}" for x, w, name in placed).rstrip()

    names = line(tuple(name.lstrip(">") for name in table.columns))
    lines = [names, *map(line, table.rows)]
    return [*lines, "-" * WIDTH, line(table.total)] if table.total else lines


def _blocks(table: Table) -> Iterator[str]:
    names = [name.lstrip(">") for name in table.columns]
    for row in (*table.rows, *([table.total] if table.total else [])):
        cells = [f"{name} {cell}".strip() for name, cell in zip(names, row, strict=True) if cell]
        yield from _wrapped(cells[0]) if cells else ()
        yield from _wrapped(", ".join(cells[1:]), _INDENT)
