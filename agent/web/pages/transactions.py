"""Transactions, the newest first, with their receipts.

Charter: pure. A receipt itself is the station's document and is shown as it came.
"""

from __future__ import annotations

from agent.ipc.receipts import ReceiptLine
from agent.web import words
from agent.web.markup import Child, Markup, el
from agent.web.pages.layout import Frame, card, page, table
from agent.web.words import Clock

PAGE_LINES = 25
_COLUMNS = ("Began", "EVSE", "Lasted", ">Energy (kWh)", ">Cost", "Token", "Receipt")


def transactions_page(frame: Frame, lines: list[ReceiptLine], clock: Clock) -> bytes:
    body = table("Transactions, the newest first", _COLUMNS, (_row(line, clock) for line in lines))
    older: Markup | None = None
    if len(lines) == PAGE_LINES:
        address = f"/tech/transactions?before={min(line.seq for line in lines)}"
        older = el("p", el("a", "Older ones", href=address, class_="button"))
    return page(frame, "Transactions", card("Newest first", body, older))


def _row(line: ReceiptLine, clock: Clock) -> tuple[Child, ...]:
    running = line.end_wall_ms is None
    lasted = "runs" if line.end_wall_ms is None else words.duration((line.end_wall_ms - line.begin_wall_ms) // 1_000)
    address = f"/tech/receipts/{line.tx_id}"
    links = (
        el("a", name, href=f"{address}/{form}", aria_label=f"Receipt of {line.tx_id[:8]} as {name}")
        for form, name in (("html", "page"), ("text", "text"), ("json", "file"))
    )
    receipt: Child = "at its end" if running else "–"
    if line.receipt:
        receipt = el("span", *(part for link in links for part in (link, " ")))
    return (
        clock.moment(line.begin_wall_ms),
        str(line.evse),
        lasted,
        "–" if line.energy_mwh is None else f"{line.energy_mwh / 1e6:.3f}",
        line.cost or "–",
        line.token or "–",
        receipt,
    )
