"""The technician's live view: the station in a line, each EVSE with pilot, contactor, phases, and the power chart.

Charter: pure; texts come from ``agent.web.live``, the chart is drawn in the browser from the stream of events.
"""

from __future__ import annotations

from agent.web.live import Fields
from agent.web.markup import Markup, el
from agent.web.pages.layout import Frame, card, field, page, pairs, stale, top

_PHASES = ("L1", "L2", "L3")


def live_page(frame: Frame, fields: Fields, evses: tuple[int, ...]) -> bytes:
    alarm = el(
        "p",
        fields.get("s.alarm", ""),
        class_="notice",
        data_tone="fault",
        data_field="s.alarm",
        role="alert",
    )
    return page(
        frame,
        "Live",
        stale(),
        alarm,
        _station(fields),
        el("div", *(_evse(fields, evse) for evse in evses), class_="grid"),
        _chart(evses),
        scripts=("live.js", "power.js"),
        refresh_s=10,
    )


def _station(fields: Fields) -> Markup:
    rows: tuple[tuple[str, str], ...] = (
        ("CSMS link", "s.link"),
        ("Clock", "s.time"),
        ("Time is", "s.clock"),
        ("Ledger", "s.ledger"),
        ("Not yet told", "s.behind"),
        ("Up for", "s.uptime"),
        ("Health", "s.health"),
        ("Update", "s.update"),
    )
    body = pairs((name, field(fields, key)) for name, key in rows)
    return el(
        "section",
        top("Station"),
        body,
        class_="card wide",
        data_tone=fields.get("s.tone", "off"),
        data_tone_field="s.tone",
    )


def _evse(fields: Fields, evse: int) -> Markup:
    name = f"e{evse}"
    big = el(
        "p",
        el("span", field(fields, f"{name}.power", class_="big"), el("small", " kW")),
        el("span", field(fields, f"{name}.energy"), el("small", " kWh")),
        field(fields, f"{name}.cost"),
        class_="headline",
    )
    rows = (
        ("State", "state"),
        ("Pilot", "pilot"),
        ("Contactor", "contactor"),
        ("Lock", "lock"),
        ("Offered", "offered"),
        ("Limit", "limit"),
        ("Meter", "meter"),
        ("Temperature", "temperature"),
        ("Transaction", "tx"),
        ("Connected for", "lasted"),
        ("Token", "token"),
        ("Operative", "operative"),
        ("Faults", "faults"),
    )
    return el(
        "section",
        top(f"EVSE {evse}", name),
        big,
        _phases(fields, name),
        pairs((title, field(fields, f"{name}.{key}")) for title, key in rows),
        class_="card",
        aria_labelledby=name,
        data_tone=fields.get(f"{name}.tone", "off"),
        data_tone_field=f"{name}.tone",
    )


def _phases(fields: Fields, name: str) -> Markup:
    head = el("tr", el("th", "Phase", scope="col"), *(el("th", each, scope="col", class_="number") for each in _PHASES))

    def row(title: str, key: str) -> Markup:
        cells = (field(fields, f"{name}.{key}{number}", "td", "number") for number in (1, 2, 3))
        return el("tr", el("th", title, scope="row"), *cells)

    body = el("tbody", row("Current", "l"), row("Voltage", "u"))
    return el("table", el("caption", "Phases"), el("thead", head), body)


def _chart(evses: tuple[int, ...]) -> Markup:
    drawing = el(
        "div",
        id="power",
        class_="chart",
        role="img",
        aria_label="Power of each EVSE over the last hour",
        data_evses=",".join(map(str, evses)),
    )
    text = el("figcaption", "kW over the last hour, one point each ten seconds.")
    without = el("noscript", el("p", "The chart is drawn by a script.", class_="note"))
    return card("Power", el("figure", drawing, text, without), class_="wide")
