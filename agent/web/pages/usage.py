"""Usage: energy and occupation by hour, day or month, as charts and as a table.

Charter: pure. Charts are SVG made here, so that they are there without scripts; each bar says its value in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.usage.sums import By, PeriodUsage
from agent.web.markup import Markup, el
from agent.web.pages.layout import Frame, card, page, table

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 520, 200, 40, 22, 10
_LABELS_MAX = 6
_LABEL_ROOM = 60
_FORMATS = {By.HOUR: "%d %b %H:00", By.DAY: "%d %b", By.MONTH: "%b %Y"}
_SPANS = {By.HOUR: "the last two days", By.DAY: "the last 31 days", By.MONTH: "the last twelve months"}
_COLUMNS = (
    "Begins",
    ">Energy (kWh)",
    ">Sessions",
    ">Peak (kW)",
    ">Occupied",
    ">Charging",
    ">Faults",
    ">Link up",
)


@dataclass(frozen=True, slots=True)
class _Chart:
    title: str
    unit: str
    look: str
    value: Callable[[PeriodUsage], float]


_CHARTS = (
    _Chart("Energy", "kWh", "f1", lambda period: period.energy_import_mwh / 1e6),
    _Chart("Peak power", "kW", "f2", lambda period: period.peak_power_w / 1e3),
    _Chart("Occupied", "%", "f3", lambda period: 100 * (period.occupied or 0.0)),
    _Chart("Link to the CSMS up", "%", "f4", lambda period: 100 * (period.link_up or 0.0)),
)


def usage_page(frame: Frame, by: By, evse: int | None, evses: tuple[int, ...], periods: list[PeriodUsage]) -> bytes:
    spans = [(each.value, f"{each.value}s: {_SPANS[each]}") for each in (By.HOUR, By.DAY, By.MONTH)]
    places = [("", "all"), *((str(each), f"EVSE {each}") for each in evses)]
    bar = el(
        "form",
        _select("by", "By", spans, by.value),
        _select("evse", "Of", places, "" if evse is None else str(evse)),
        el("button", "Show", class_="quiet"),
        method="get",
        action="/tech/usage",
        class_="bar",
    )
    charts = el("div", *(card(chart.title, _bars(chart, by, periods)) for chart in _CHARTS), class_="grid charts")
    rows = (_row(by, period) for period in reversed(periods) if period.running_ms or period.energy_import_mwh)
    query = f"by={by.value}" + ("" if evse is None else f"&evse={evse}")
    files = el(
        "p",
        el("a", "CSV", href=f"/tech/usage.csv?{query}", download=True),
        " ",
        el("a", "JSON", href=f"/tech/usage.json?{query}", download=True),
    )
    numbers = card("Numbers", files, table("Usage", _COLUMNS, rows), class_="wide")
    return page(frame, "Usage", bar, charts, numbers)


def _select(name: str, title: str, options: Sequence[tuple[str, str]], chosen: str) -> Markup:
    listed = (el("option", text, value=value, selected=value == chosen) for value, text in options)
    return el("div", el("label", title, for_=name), el("select", *listed, name=name, id=name))


def _bars(chart: _Chart, by: By, periods: list[PeriodUsage]) -> Markup:
    values = [chart.value(period) for period in periods]
    top = 100.0 if chart.unit == "%" else _round_up(max([0.0, *values]))
    step = (_WIDTH - _LEFT) / max(1, len(values))
    room = _HEIGHT - _BOTTOM - _TOP
    parts: list[Markup] = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + room * (1 - share)
        parts.append(el("line", class_="axis", x1=_LEFT, x2=_WIDTH, y1=f"{y:.1f}", y2=f"{y:.1f}"))
        text = f"{top * share:g}"
        parts.append(el("text", text, class_="tick", x=_LEFT - 6, y=f"{y + 4:.1f}", text_anchor="end"))
    every = max(1, -(-len(values) // _LABELS_MAX))
    for at, (period, value) in enumerate(zip(periods, values, strict=True)):
        name = period.begin.strftime(_FORMATS[by])
        x, height = _LEFT + at * step, room * min(1.0, value / top)
        parts.append(
            el(
                "rect",
                el("title", f"{name}: {value:.1f} {chart.unit}"),
                class_=f"block {chart.look}",
                x=f"{x + step * 0.1:.1f}",
                y=f"{_TOP + room - height:.1f}",
                width=f"{step * 0.8:.1f}",
                height=f"{height:.1f}",
                rx=2,
            )
        )
        if at % every == 0:
            anchor, tick_x = ("end", x + step) if x > _WIDTH - _LABEL_ROOM else ("start", x)
            parts.append(el("text", name, class_="tick", x=f"{tick_x:.1f}", y=_HEIGHT - 5, text_anchor=anchor))
    said = f"{chart.title} in {chart.unit} for {_SPANS[by]}; the numbers stand in the table below"
    drawing = el("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=said)
    return el("figure", el("div", drawing, class_="chart"), el("figcaption", chart.unit))


def _round_up(value: float) -> float:
    """A round number not below the value, at least 1."""
    for top in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000):
        if value <= top:
            return float(top)
    return value


def _row(by: By, period: PeriodUsage) -> tuple[str, ...]:
    return (
        period.begin.strftime("%Y-%m-%d %H:%M" if by is By.HOUR else "%Y-%m-%d" if by is By.DAY else "%Y-%m"),
        f"{period.energy_import_mwh / 1e6:.2f}",
        str(period.sessions),
        f"{period.peak_power_w / 1e3:.1f}",
        _percent(period.occupied),
        _percent(period.charging),
        str(period.faults),
        _percent(period.link_up),
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"
