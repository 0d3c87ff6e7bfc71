"""Health: what is wrong in plain words, what to do about it, and what is well.

Charter: pure. Words are the catalogue's (``agent.health``); latched faults can be cleared here, with a confirmation.
"""

from __future__ import annotations

from agent.health.model import Condition, Part, PartHealth
from agent.web.live import Fields
from agent.web.markup import Markup, el
from agent.web.pages.layout import Frame, card, form, notice, page, stale, table
from agent.web.words import Clock, sentence

_NAMES = {
    Part.BUS: "device bus",
    Part.CSMS_LINK: "link to the CSMS",
    Part.SLOTS: "firmware slots",
    Part.POWER_MODULE: "power module",
}
_TONES = {
    Condition.OK: "ready",
    Condition.WARNING: "wait",
    Condition.FAULT: "fault",
    Condition.UNKNOWN: "off",
    Condition.ABSENT: "off",
}
_WRONG = (Condition.FAULT, Condition.WARNING)


def health_page(
    frame: Frame, fields: Fields, health: tuple[PartHealth, ...], clock: Clock, form_token: str, said: str = ""
) -> bytes:
    """``said``: how the last clearing went."""
    wrong = sorted((each for each in health if each.condition in _WRONG), key=lambda each: _WRONG.index(each.condition))
    latched = sorted({each.evse for each in wrong if each.latched and each.evse > 0})
    content = el(
        "div",
        notice(said) if said else None,
        None if wrong else notice(fields.get("s.health", "").capitalize() + ".", "ready" if health else "off"),
        *(_trouble(each, clock) for each in wrong),
        *(_clearing(evse, form_token) for evse in latched),
        _all(health),
        data_reload_field="s.health_stamp",
        data_reload_stamp=fields.get("s.health_stamp", ""),
    )
    return page(frame, "Health", stale(), content, scripts=("live.js",), refresh_s=10)


def part_name(each: PartHealth) -> str:
    name = _NAMES.get(each.part, each.part.value.replace("_", " "))
    return sentence(name) + (f", EVSE {each.evse}" if each.evse else "")


def badge(condition: Condition) -> Markup:
    return el("span", condition.value, class_="badge", data_tone=_TONES[condition])


def _trouble(each: PartHealth, clock: Clock) -> Markup:
    since = f"Since {clock.moment(each.since_wall_ms)}" if each.since_wall_ms else ""
    latched = " Stays until somebody clears it." if each.latched else ""
    return el(
        "section",
        el("div", el("h2", part_name(each)), badge(each.condition), class_="top"),
        el("p", el("strong", sentence(each.reason), ".")),
        el("p", "What to do: ", each.remedy) if each.remedy else None,
        el("p", since, ". Code ", el("code", each.code), ".", latched, class_="note"),
        class_="card",
        data_tone=_TONES[each.condition],
    )


def _clearing(evse: int, form_token: str) -> Markup:
    sure = el("input", type="checkbox", name="sure", value="yes", required=True, id=f"sure{evse}")
    label = el("label", sure, "The cause is gone: I have looked at the charger.", for_=f"sure{evse}")
    hidden = el("input", type="hidden", name="evse", value=str(evse))
    body = form("/tech/health/clear", form_token, hidden, el("p", label), el("button", "Clear latched faults"))
    return card(f"Clear EVSE {evse}", body)


def _all(health: tuple[PartHealth, ...]) -> Markup:
    rows = ((part_name(each), badge(each.condition), sentence(each.reason) if each.reason else "") for each in health)
    body = table("Every part", ("Part", "Condition", "What is known"), rows, "The station has told nothing yet.")
    return card("Every part", body)
