"""A snapshot of the station as named texts, for first paint and for updates alike.

Charter: pure. One table of texts by name; pages put them into elements that carry the name, the stream of events sends
those that changed. So a number is written in one place only, and a page without scripts shows the same.

Names: ``s.*`` is the station, ``e<N>.*`` EVSE N. Names that end in ``tone`` choose a look, all others are text.
"""

from __future__ import annotations

import zlib

from agent.core.status import ConnectorState, EvseView
from agent.health.catalogue import DRIVERS
from agent.health.model import Condition, Part, PartHealth
from agent.ipc.port import PriceView, StationStatus
from agent.ipc.statistics import Temperature
from agent.ipc.updates import UpdateView
from agent.telemetry.masking import mask_token
from agent.web import words
from agent.web.feed import Snapshot
from agent.web.words import Clock

Fields = dict[str, str]
_TIME_STATUS = {"U": "not set", "I": "set by the machine", "S": "confirmed by the CSMS"}


def driver_fields(snapshot: Snapshot, clock: Clock, *, free: bool, evses: tuple[int, ...]) -> Fields:
    """What anybody may see."""
    status = snapshot.status
    if status is None:
        away = {"title": words.AWAY.title, "hint": words.AWAY.hint, "tone": words.AWAY.tone}
        return {f"e{evse}.{name}": text for evse in evses for name, text in away.items()}
    prices = {price.evse: price for price in status.prices}
    fields: Fields = {}
    for view in status.evses:
        began_ms = snapshot.began.get(view.tx_id or "")
        texts = _driver_evse(view, prices.get(view.evse), began_ms, status.wall_ms, clock, free)
        if (code := _danger_of(view, snapshot.health)) is not None:
            said = words.danger(code)
            texts |= {"title": said.title, "hint": said.hint, "tone": said.tone}
        elif view.state is ConnectorState.FAULTED and (why := _fault_of(snapshot.health, view.evse)):
            texts["hint"] = f"{why}. {texts['hint']}"
        fields |= _named(view.evse, texts)
    return fields


def _danger_of(view: EvseView, health: tuple[PartHealth, ...]) -> str | None:
    """The worst trouble of an EVSE in which touching matters: as the core has it, or as health still shows it."""
    codes = {fault.value for fault in view.faults} | {part.code for part in health if part.evse in (view.evse, 0)}
    return next((code for code in DRIVERS if code in codes), None)


def _fault_of(health: tuple[PartHealth, ...], evse: int) -> str:
    """Why an EVSE is out of order, in plain words; empty where nobody says."""
    found = [part for part in health if part.evse in (evse, 0) and part.condition is Condition.FAULT]
    found.sort(key=lambda part: part.evse != evse)
    return words.sentence(found[0].reason.partition(":")[0]) if found else ""  # the rest is for technicians


def _driver_evse(
    view: EvseView, price: PriceView | None, began_ms: int | None, now_ms: int, clock: Clock, free: bool
) -> Fields:
    said = words.said(view, free=free)
    running = view.tx_id is not None
    cost = "" if price is None or price.cost is None else price.cost
    return {
        "title": said.title,
        "hint": said.hint,
        "tone": said.tone,
        "power": words.kilowatt(view.power_mw) if running else "0.0",
        "energy": words.kilowatt_hours(view.session_energy_mwh) if running else "–",
        "cost": cost if running and cost else "–",
        "running": "yes" if running else "no",
        "since": "Time" if began_ms is None else f"Since {clock.minute(began_ms, now_ms)}",
        "lasted": "–" if began_ms is None else words.duration((now_ms - began_ms) // 1_000),
        "price": "" if price is None else "\n".join(_lines(price.price, price.limit)),
    }


def _lines(*texts: str) -> list[str]:
    """The station says a price in one line, its parts between semicolons."""
    return [part.strip() for text in texts for part in text.split(";") if part.strip()]


def technician_fields(snapshot: Snapshot, clock: Clock) -> Fields:
    """What a technician sees besides."""
    status = snapshot.status
    if status is None:
        return {"s.link": "the station does not answer", "s.tone": "fault"}
    fields = _station(status, clock) | health_fields(snapshot.health)
    if any(row.part is Part.CSMS_LINK and row.condition is Condition.ABSENT for row in snapshot.health):
        fields |= {"s.link": "none: this station works alone", "s.tone": "ready", "s.behind": "–"}
    for view in status.evses:
        temperatures = [each for each in snapshot.temperatures if each.evse == view.evse]
        fields |= _named(view.evse, _technician_evse(view) | {"temperature": _temperatures(temperatures)})
    return fields


def health_fields(health: tuple[PartHealth, ...]) -> Fields:
    """How many parts are not well, and a stamp that changes with any of them."""
    faults = sum(part.condition is Condition.FAULT for part in health)
    warnings = sum(part.condition is Condition.WARNING for part in health)
    counts = [_count(faults, "fault"), _count(warnings, "warning")]
    text = ", ".join(each for each in counts if each) or ("all well" if health else "not known")
    shown = [(part.part, part.evse, part.condition, part.code, part.reason) for part in health]
    return {"s.health": text, "s.health_stamp": f"{zlib.crc32(repr(shown).encode()):08x}"}


def _count(number: int, what: str) -> str:
    return "" if not number else f"{number} {what}{'' if number == 1 else 's'}"


def _temperatures(found: list[Temperature]) -> str:
    return ", ".join(f"{each.milli_celsius / 1_000:.0f} °C ({each.sensor})" for each in found) or "–"


def _station(status: StationStatus, clock: Clock) -> Fields:
    behind = status.head_seq - status.delivered_seq
    return {
        "s.link": f"up, OCPP {status.dialect}" if status.online else "down",
        "s.tone": "ready" if status.online else "wait",
        "s.time": clock.moment(status.wall_ms),
        "s.clock": _TIME_STATUS.get(status.time_status, status.time_status),
        "s.ledger": f"{words.number(status.head_seq)} rows",
        "s.behind": "nothing" if behind <= 0 else f"{words.number(behind)} rows",
        "s.uptime": words.duration(status.uptime_ms // 1_000),
        "s.alarm": status.alarm,
        **update_fields(status.update),
    }


def update_fields(update: UpdateView | None) -> Fields:
    """An update under way; ``s.update_done`` is whole percents."""
    if update is None:
        return {"s.update": "none under way", "s.update_why": "", "s.update_done": "0"}
    percent = 100 * update.done_bytes // update.total_bytes if update.total_bytes else 0
    done = f", {words.size(update.done_bytes)} of {words.size(update.total_bytes)}" if update.total_bytes else ""
    return {
        "s.update": f"{update.phase} {update.version}{done}".strip(),
        "s.update_why": update.why,
        "s.update_done": str(min(percent, 100)),
    }


def _technician_evse(view: EvseView) -> Fields:
    phases = {f"l{number}": words.ampere(ma) for number, ma in enumerate(view.current_ma, 1)}
    volts = {f"u{number}": words.volt(mv) for number, mv in enumerate(view.voltage_mv, 1)}
    return {
        "state": view.state.value,
        "pilot": f"{view.cp or '–'} at {view.duty_centipercent / 100:.1f} %",
        "contactor": "closed" if view.contactor_closed else "open",
        "lock": "no lock" if view.locked is None else "locked" if view.locked else "open",
        "limit": words.ampere(view.limit_ma),
        "offered": words.ampere(view.offered_ma),
        "meter": "–" if view.energy_import_mwh is None else f"{view.energy_import_mwh / 1e6:.3f} kWh",
        "tx": (view.tx_id or "–")[:8],
        "token": "–" if view.token is None else mask_token(view.token.id_token),
        "operative": "yes" if view.operative else "no",
        "faults": ", ".join(fault.value for fault in view.faults) or "none",
        "faulttone": "fault" if view.faults else "off",
        **phases,
        **volts,
    }


def _named(evse: int, fields: Fields) -> Fields:
    return {f"e{evse}.{name}": text for name, text in fields.items()}
