"""Firmware: what runs, the update under way, and the two slots.

Charter: pure; slots are as the installer tells them, where it answers.
"""

from __future__ import annotations

from agent.firmware.view import InstallerView, SlotView
from agent.web.live import Fields
from agent.web.markup import Child, Markup, el, join
from agent.web.pages.layout import Frame, card, field, notice, page, pairs, stale, table
from agent.web.words import Clock


def firmware_page(
    frame: Frame, fields: Fields, versions: list[tuple[str, str]], installer: InstallerView | str, clock: Clock
) -> bytes:
    """``installer``: what it says, or why it says nothing."""
    done = fields.get("s.update_done", "0")
    update = card(
        "Update",
        el("p", field(fields, "s.update")),
        el("p", field(fields, "s.update_why"), class_="note"),
        el("progress", max="100", value=done, aria_label="Progress of the update", data_value_field="s.update_done"),
    )
    slots = card("Slots", notice(installer, "off")) if isinstance(installer, str) else _slots(installer, clock)
    return page(frame, "Firmware", stale(), card("Versions", pairs(versions)), update, slots, scripts=("live.js",))


def _slots(view: InstallerView, clock: Clock) -> Markup:
    facts = pairs(
        (
            ("Engine", view.engine),
            ("Boot loader", view.selector),
            ("Running slot", view.booted or "not known"),
            ("Boots next", view.primary or "not known"),
            ("On trial", "yes" if view.on_trial else "no"),
            ("Security epoch", str(view.security_epoch)),
        )
    )
    columns = ("Slot", "State", "Version", ">Epoch", "Installed")
    staged = view.staged
    waiting = None if staged is None else el("p", f"In slot {staged.slot}: {staged.version}, {staged.phase.value}.")
    notes = None if not view.notes else el("ul", *(el("li", note) for note in view.notes))
    body = table("Slots", columns, (_slot(each, clock) for each in view.slots))
    return card("Slots", join(facts, body, waiting, notes))


def _slot(slot: SlotView, clock: Clock) -> tuple[Child, ...]:
    words = [
        "runs" if slot.running else "",
        "good" if slot.good else "not marked good",
        "" if slot.bootable else "does not boot",
        "" if slot.tries_left is None else f"{slot.tries_left} tries left",
    ]
    return (
        slot.slot,
        ", ".join(word for word in words if word),
        slot.version or "–",
        "–" if slot.security_epoch is None else str(slot.security_epoch),
        "–" if slot.installed_wall_ms is None else clock.moment(slot.installed_wall_ms),
    )
