"""The device: identity, versions, the public keys that prove its records, and every OCPP setting, read-only.

Charter: pure. Settings are shown as the device model reports them; secrets have no value there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

from agent.web.markup import Child, Markup, el
from agent.web.pages.layout import Frame, card, page, pairs, table

_KEY_PREFIX = "oca:base16:asn1:"


def device_page(
    frame: Frame, facts: Sequence[tuple[str, str]], keys: Sequence[tuple[int, str]], report: list[dict[str, Any]]
) -> bytes:
    """``keys``: (EVSE, hex of the public key)."""
    diagnostics = card(
        "Diagnostics",
        el("p", "One archive with health, newest logs, versions and settings. Secrets are not in it."),
        el("p", el("a", "Download", href="/tech/diagnostics", class_="button", download=True)),
    )
    groups = (_group(name, rows) for name, rows in _grouped(report))
    settings = card(
        "Settings",
        el("p", "As the CSMS sees them. They are changed by the CSMS, or by the configuration file.", class_="note"),
        *groups,
    )
    return page(frame, "Device", card("This charger", pairs(facts)), _keys(keys), diagnostics, settings)


def public_key_hex(text: str) -> str:
    """The key as printed on labels, out of the setting ``FiscalMetering.PublicKey``; empty for anything else."""
    try:
        decoded = base64.b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return ""
    return decoded.removeprefix(_KEY_PREFIX) if decoded.startswith(_KEY_PREFIX) else ""


def _keys(keys: Sequence[tuple[int, str]]) -> Markup:
    figures = (
        el(
            "figure",
            el("img", src=f"/tech/keys/{evse}.svg", alt=f"Public key of EVSE {evse} as a QR code", class_="qr"),
            el("figcaption", f"EVSE {evse}"),
            el("details", el("summary", "as text"), el("pre", key)),
        )
        for evse, key in keys
    )
    note = "Whoever has this key can check the receipts and meter records of this charger."
    body = el("div", *figures, class_="grid") if keys else el("p", "No key yet.", class_="note")
    return card("Public keys", el("p", note, class_="note"), body)


def _grouped(report: Iterable[dict[str, Any]]) -> list[tuple[str, list[tuple[Child, ...]]]]:
    groups: dict[str, list[tuple[Child, ...]]] = {}
    for entry in report:
        component, variable = entry["component"], entry["variable"]
        attribute = entry["variableAttribute"][0]
        place = component.get("evse", {}).get("id")
        name = component["name"] + (f" {component['instance']}" if "instance" in component else "")
        title = name + ("" if place is None else f", EVSE {place}")
        instance = f"[{variable['instance']}]" if "instance" in variable else ""
        secret = attribute.get("mutability") == "WriteOnly"
        value = "secret, not shown" if secret else attribute.get("value", "")
        unit = entry.get("variableCharacteristics", {}).get("unit", "")
        shown = f"{value} {unit}".strip() if value else "–"
        groups.setdefault(title, []).append((f"{variable['name']}{instance}", shown, attribute.get("mutability", "")))
    return sorted(groups.items())


def _group(name: str, rows: list[tuple[Child, ...]]) -> Markup:
    summary = el("summary", name, " ", el("span", f"({len(rows)})", class_="note"))
    return el("details", summary, table(name, ("Variable", "Value", "Access"), rows))
