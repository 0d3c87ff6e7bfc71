"""The frame of every page, and the few shapes that pages are made of.

Charter: pure; head, navigation, cards, tables, pairs. Looks are ``assets/page.css``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.web.markup import Child, Markup, el, join

PAGES = (
    ("/tech", "Live"),
    ("/tech/health", "Health"),
    ("/tech/transactions", "Transactions"),
    ("/tech/usage", "Usage"),
    ("/tech/messages", "Messages"),
    ("/tech/logs", "Logs"),
    ("/tech/firmware", "Firmware"),
    ("/tech/device", "Device"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a page. ``form_token`` None: nobody is logged in, and there is no navigation."""

    station: str
    path: str
    form_token: str | None = None
    login_offered: bool = False


def page(frame: Frame, title: str, *content: Child, scripts: Sequence[str] = (), refresh_s: int | None = None) -> bytes:
    """A whole document. ``refresh_s``: how often it is loaded again where scripts do not run."""
    logged_in = frame.form_token is not None
    refresh = el("noscript", el("meta", http_equiv="refresh", content=str(refresh_s))) if refresh_s else None
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("title", f"{title} · {frame.station}"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="/assets/icon.svg", type="image/svg+xml"),
        el("link", rel="stylesheet", href="/assets/page.css"),
        *(el("script", src=f"/assets/{name}", type="module") for name in scripts),
        refresh,
    )
    body = el(
        "body",
        el("a", "Skip to content", class_="skip", href="#content"),
        _banner(frame),
        _navigation(frame) if logged_in else None,
        el("main", el("h1", title), *content, id="content", tabindex="-1"),
        class_="tech" if logged_in else "driver",
    )
    return join(Markup("<!DOCTYPE html>\n"), el("html", head, body, lang="en")).encode()


def _banner(frame: Frame) -> Markup:
    if frame.form_token is not None:
        right = form("/logout", frame.form_token, el("button", "Log out", class_="quiet"))
    elif frame.login_offered:
        right = el("a", "Technician", href="/login", class_="quiet")
    else:
        right = Markup("")
    name = el(
        "a", el("img", src="/assets/icon.svg", alt="", width=28, height=28), frame.station, href="/", class_="name"
    )
    return el("header", name, right, class_="banner")


def _navigation(frame: Frame) -> Markup:
    links = (
        el("li", el("a", name, href=path, aria_current="page" if path == frame.path else None)) for path, name in PAGES
    )
    return el("nav", el("ul", *links), aria_label="Technician")


def form(action: str, form_token: str, *content: Child, class_: str | None = None) -> Markup:
    """A form that changes something: it carries the session's token."""
    token = el("input", type="hidden", name="form_token", value=form_token)
    return el("form", token, *content, method="post", action=action, class_=class_)


def card(title: Child, *content: Child, class_: str = "") -> Markup:
    return el("section", el("h2", title), *content, class_=f"card {class_}".strip())


def field(fields: Mapping[str, str], name: str, tag: str = "span", class_: str | None = None) -> Markup:
    """A text that the stream of events keeps current."""
    return el(tag, fields.get(name, "–"), data_field=name, class_=class_)


def pairs(rows: Iterable[tuple[Child, Child]]) -> Markup:
    return el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in rows), class_="pairs")


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Child]], empty: str = "Nothing yet.") -> Markup:
    """Columns whose names begin with ``>`` hold numbers."""
    names = [name.lstrip(">") for name in columns]
    numeric = ["number" if name.startswith(">") else None for name in columns]
    head = el("tr", *(el("th", name, scope="col", class_=kind) for name, kind in zip(names, numeric, strict=True)))

    def row(cells: Sequence[Child]) -> Markup:
        rest = zip(names[1:], numeric[1:], cells[1:], strict=True)
        # On a narrow screen every cell stands on a line of its own, with the name of its column before it.
        return el(
            "tr",
            el("th", cells[0], scope="row", role="rowheader"),
            *(el("td", cell, data_name=name, class_=kind, role="cell") for name, kind, cell in rest),
            role="row",
        )

    body = [row(cells) for cells in rows]
    if not body:
        return el("p", empty, class_="note")
    return el("table", el("caption", caption), el("thead", head), el("tbody", *body), role="table", class_="stacked")


def top(title: str, id_: str | None = None) -> Markup:
    """A heading with the lamp of its section's tone."""
    return el("div", el("h2", title, id=id_), el("span", class_="lamp", aria_hidden="true"), class_="top")


def stale() -> Markup:
    """Shown by the script while no news come."""
    text = "No connection to the charger: what is shown here is old."
    return el("p", text, class_="notice", data_tone="fault", id="stale", hidden=True)


def notice(text: Child, tone: str = "wait") -> Markup:
    return el("p", text, class_="notice", data_tone=tone, role="status")
