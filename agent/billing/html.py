"""A receipt as one page that can be read, printed, kept and checked.

Charter: lays out a ``View``; decides nothing. One file with no script and no reference to anything outside. It
holds the sealed receipt and the meter records word for word, so the page is the receipt. Everything that came
from others is escaped. The same receipt always gives the same bytes: ``page`` compares them.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from html import escape
from typing import Final

from agent.billing.read import Receipt
from agent.billing.safe import container
from agent.billing.style import STYLE
from agent.billing.told import Told
from agent.billing.view import Pairs, Table, view

RECEIPT_ID: Final = "evsed-receipt"
TOLD_NAME: Final = "evsed-told"

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def render(receipt: Receipt, told: Told | None = None, *, earlier: bool = False) -> str:
    """``earlier``: in the words of earlier releases."""
    shown = view(receipt, told, earlier=earlier)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        *([] if told is None else [f'<meta name="{TOLD_NAME}" content="{escape(json.dumps(asdict(told)))}">']),
        f"<title>{escape(shown.title)}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        "<header>",
        f"<h1>{escape(shown.title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in shown.seller),
        "</header>",
        _pairs(shown.headline, "headline"),
        _list(shown.notices, "notices"),
        "" if shown.bill is None else _section(shown.bill.title, _table(shown.bill), "bill"),
        _section("Told by the operator", _paragraphs(shown.told), "told") if shown.told else "",
        _section("Session", _pairs(shown.session)),
        *(_section(name, _list(lines)) for name, lines in shown.prices),
        _section("Meter", _pairs(shown.registers)),
        "" if shown.periods is None else _section(shown.periods.title, _table(shown.periods), "periods"),
        _section("Identity", _pairs(shown.identity), "identity"),
        _section("How to check this receipt", f"{_list(shown.checks)}\n{_commands(shown.commands)}", "checks"),
        _embedded(receipt),
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _section(title: str, body: str, kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f"<section{marked}>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def _paragraphs(lines: tuple[str, ...]) -> str:
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)


def _pairs(pairs: Pairs, kind: str = "pairs") -> str:
    rows = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return "\n".join((f'<dl class="{kind}">', *rows, "</dl>"))


def _list(lines: tuple[str, ...], kind: str = "") -> str:
    if not lines:
        return ""
    marked = f' class="{kind}"' if kind else ""
    return "\n".join((f"<ul{marked}>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"))


def _commands(commands: tuple[str, ...]) -> str:
    return f"<pre><code>{escape(chr(10).join(commands))}</code></pre>"


def _table(table: Table) -> str:
    names = [name.lstrip(">") for name in table.columns]
    numeric = [name.startswith(">") for name in table.columns]

    def row(cells: tuple[str, ...]) -> str:
        first = f'<th scope="row" role="rowheader">{escape(cells[0])}</th>'
        # On a narrow screen every cell stands on its own line and needs the name of its column.
        rest = (
            f'<td role="cell" data-name="{escape(name)}"{_number(is_number)}>{escape(cell)}</td>'
            for name, is_number, cell in zip(names[1:], numeric[1:], cells[1:], strict=True)
        )
        return f'<tr role="row">{first}{"".join(rest)}</tr>'

    head = "".join(
        f'<th scope="col"{_number(is_number)}>{escape(name)}</th>'
        for name, is_number in zip(names, numeric, strict=True)
    )
    lines = [
        # The roles say what the elements are by themselves, but not where the narrow layout makes blocks of them.
        '<table role="table">',
        f"<caption>{escape(table.title)}</caption>",
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *map(row, table.rows),
        "</tbody>",
    ]
    if table.total:
        lines.append(f"<tfoot>{row(table.total)}</tfoot>")
    lines.append("</table>")
    return "\n".join([*lines, f'<p class="note">{escape(table.note)}</p>'] if table.note else lines)


def _number(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _embedded(receipt: Receipt) -> str:
    lines = [
        "<details>",
        "<summary>The receipt itself, for programs</summary>",
        "<p>The sealed receipt, word for word. Saved alone in a file, it can be checked like this page.</p>",
        f'<pre id="{RECEIPT_ID}">{escape(receipt.sealed.decode("ascii"))}</pre>',
    ]
    if receipt.records:
        lines += [
            "<p>The meter records (OCMF), word for word.</p>",
            *(f"<pre>{escape(record)}</pre>" for record in receipt.records),
        ]
    xml = container(receipt)
    if xml is not None:
        data = base64.b64encode(xml).decode("ascii")
        name = f"receipt-{receipt.number}.xml"
        lines.append(
            f'<p><a download="{name}" href="data:application/xml;base64,{data}">Save the meter records with their key '
            "for transparency software (XML)</a></p>"
        )
    return "\n".join([*lines, "</details>"])
