"""The driver's view and the login: what anybody at the charger may see.

Charter: pure. Each charging point in large letters: how it is, what it gives, what it costs, what to do next.
"""

from __future__ import annotations

from agent.web.live import Fields
from agent.web.markup import Markup, el
from agent.web.pages.layout import Frame, card, field, notice, page, stale


def driver_page(frame: Frame, fields: Fields, evses: tuple[int, ...], contact: str) -> bytes:
    points = el("div", *(_point(fields, evse) for evse in evses), class_="points")
    help_line = el("p", "Need help? ", contact, class_="note help") if contact else None
    return page(frame, "Charging", stale(), points, help_line, scripts=("live.js",), refresh_s=10)


def _point(fields: Fields, evse: int) -> Markup:
    name = f"e{evse}"
    numbers = (
        ("Power", "power", "kW"),
        ("Energy", "energy", "kWh"),
        ("Cost so far", "cost", ""),
    )
    lasted = el(
        "div",
        el("dt", field(fields, f"{name}.since")),
        el("dd", field(fields, f"{name}.lasted")),
    )
    said = el(
        "div",
        el("p", fields.get(f"{name}.title", ""), class_="said", data_field=f"{name}.title"),
        el("p", fields.get(f"{name}.hint", ""), class_="hint", data_field=f"{name}.hint"),
        role="status",
        aria_live="polite",
    )
    return el(
        "section",
        el(
            "div",
            el("h2", f"Charging point {evse}", id=f"p{evse}"),
            el("span", class_="lamp", aria_hidden="true"),
            class_="top",
        ),
        said,
        el(
            "dl",
            *(_number(fields, title, f"{name}.{key}", unit) for title, key, unit in numbers),
            lasted,
            class_="numbers",
        ),
        el("p", fields.get(f"{name}.price", ""), class_="price", data_field=f"{name}.price"),
        class_="point",
        aria_labelledby=f"p{evse}",
        data_tone=fields.get(f"{name}.tone", "off"),
        data_tone_field=f"{name}.tone",
        data_running=fields.get(f"{name}.running", "no"),
        data_running_field=f"{name}.running",
    )


def _number(fields: Fields, title: str, name: str, unit: str) -> Markup:
    shown = el("span", fields.get(name, "–"), data_field=name)
    return el("div", el("dt", title), el("dd", shown, el("small", f" {unit}") if unit else None))


def login_page(frame: Frame, why: str = "", wait_s: int = 0) -> bytes:
    wait = f" Please wait {wait_s} s before you try again." if wait_s else ""
    content = card(
        "For technicians",
        notice(why + wait, "fault") if why else None,
        el(
            "form",
            # For those that keep secrets in a browser: it asks for a name.
            el("input", name="username", autocomplete="username", value="technician", hidden=True),
            el("label", "Secret of this charger", for_="secret"),
            el(
                "input",
                type="password",
                id="secret",
                name="secret",
                autocomplete="current-password",
                required=True,
                maxlength=200,
                autofocus=True,
            ),
            el("button", "Log in", type="submit"),
            method="post",
            action="/login",
            class_="login",
        ),
        el(
            "p",
            "It was set when this charger was commissioned. Each login is noted in the charger's log.",
            class_="note",
        ),
    )
    return page(frame, "Log in", content)


def message_page(frame: Frame, title: str, text: str) -> bytes:
    """Where there is nothing else to show."""
    return page(frame, title, el("p", text), el("p", el("a", "Back to the overview", href="/")))
