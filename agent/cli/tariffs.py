"""``evsed tariff check`` and ``tariff quote``: is a tariff right, and what would a session cost.

Charter: files and the command line to the pure functions of ``agent.tariff``, tables for people, JSON for machines.
No station is needed. Exit 0: good (there may be warnings); 1: the tariff or the session is wrong; 2: a file cannot be
read or the command line makes no sense.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.tariff.check import check as find_oddities
from agent.tariff.check import check_skipped, not_yet
from agent.tariff.currency import decimal_text, minor_text
from agent.tariff.model import EvseKind, Payment, Tariff
from agent.tariff.parse import content_hash, parse_tariff
from agent.tariff.problem import TariffError
from agent.tariff.quote import Profile, Quote
from agent.tariff.quote import quote as make_quote
from agent.tariff.text import amount_text, bill_lines, machine, price_lines, quantity_text
from agent.tariff.usage import to_plain

EXIT_WRONG = 1
EXIT_USAGE = 2
MAX_FILE_BYTES = 1024 * 1024
EXAMPLE = "start=2026-03-29T00:30,energy_wh=20000,power_w=11000,idle_min=30,kind=AC"


class _Refused(Exception):
    """What the person should change; the command ends."""

    def __init__(self, exit_code: int, said: str, plain: object = None) -> None:
        super().__init__(said)
        self.exit_code, self.plain = exit_code, plain


def check(parsed: argparse.Namespace) -> int:
    return _run(parsed, _check)


def quote(parsed: argparse.Namespace) -> int:
    return _run(parsed, _quote)


def _run(parsed: argparse.Namespace, action: Callable[[argparse.Namespace], int]) -> int:
    try:
        return action(parsed)
    except _Refused as refused:
        if parsed.json and refused.plain is not None:
            print(json.dumps(refused.plain))
        else:
            print(f"evsed: {refused}", file=sys.stderr)
        return refused.exit_code


def _check(parsed: argparse.Namespace) -> int:
    zone = _zone(parsed)
    data, tariff = _tariff(parsed)
    now_ms = int(time.time() * 1000)
    findings = find_oddities(tariff) + not_yet(tariff, now_ms)
    if zone is not None:
        findings += check_skipped(tariff, zone, now_ms)
    digest = content_hash(data)
    if parsed.json:
        plain = [dataclasses.asdict(each) for each in findings]
        print(json.dumps({"file": str(parsed.file), "tariff_id": tariff.tariff_id, "hash": digest, "findings": plain}))
        return 0
    print(f"{parsed.file}: tariff {tariff.tariff_id}, no errors, {len(findings) or 'no'} warnings")
    for line in price_lines(tariff):
        print(f"  {line}")
    print(f"  hash {digest}\n  signed text {machine(tariff, digest)}")
    for finding in findings:
        print(f"warning: {finding}")
    return 0


def _quote(parsed: argparse.Namespace) -> int:
    zone = _zone(parsed) or "UTC"
    _, tariff = _tariff(parsed)
    profile = _profile(parsed.profile)
    try:
        quoted = make_quote(tariff, profile, zone=zone)
    except ValueError as error:
        raise _Refused(EXIT_WRONG, f"profile: {error}; for example --profile {EXAMPLE}") from error
    if parsed.json:
        print(json.dumps(_plain(quoted)))
    else:
        _show(quoted, tariff, zone)
    return 0


# ------------------------------------------------------------------------------------------- reading


def _read(file: Path, what: str) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES)
    except OSError as error:
        raise _Refused(EXIT_USAGE, f"{what} {file}: {error.strerror}; name a file that can be read") from error


def _tariff(parsed: argparse.Namespace) -> tuple[bytes, Tariff]:
    data = _read(Path(parsed.file), "tariff")
    try:
        return data, parse_tariff(data)
    except TariffError as error:
        said = [f"tariff {parsed.file}: {len(error.problems)} problems", *(f"  {each}" for each in error.problems)]
        plain = [dataclasses.asdict(each) for each in error.problems]
        raise _Refused(EXIT_WRONG, "\n".join(said), {"file": str(parsed.file), "problems": plain}) from error


def _zone(parsed: argparse.Namespace) -> str | None:
    if parsed.zone is None:
        return None
    try:
        return ZoneInfo(parsed.zone).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        said = f"--zone {parsed.zone}: expected a time zone of the IANA list, such as Europe/Berlin"
        raise _Refused(EXIT_USAGE, said) from error


def _profile(spec: str) -> Profile:
    """From ``key=value,...``, or from a JSON file with the same names."""
    if "=" in spec:
        pairs = [each.partition("=") for each in spec.split(",")]
        values: Any = {name.strip(): value.strip() for name, _, value in pairs}
    else:
        try:
            values = json.loads(_read(Path(spec), "--profile"))
        except ValueError as error:
            raise _Refused(EXIT_USAGE, f"--profile {spec}: expected JSON ({error})") from error
    if not isinstance(values, dict):
        raise _Refused(EXIT_USAGE, f"--profile {spec}: expected an object; for example {EXAMPLE}")
    fields: dict[str, Any] = {"energy_wh": 0}
    payment = {name: str(values.pop(name)) for name in ("brand", "recognition") if name in values}
    for name, value in values.items():
        if name not in _READERS:
            raise _Refused(EXIT_USAGE, f"--profile: no setting {name!r}; there are {', '.join(_READERS)}")
        field, read, expected = _READERS[name]
        try:
            fields[field] = read(value)
        except (ValueError, TypeError) as error:
            raise _Refused(EXIT_USAGE, f"--profile: {name}: expected {expected}, found {value!r}") from error
    if "start" not in fields:
        raise _Refused(EXIT_USAGE, f"--profile: start is missing; for example {EXAMPLE}")
    return Profile(**fields, payment=Payment(**payment) if payment else None)


def _power(value: Any) -> tuple[tuple[int, int], ...]:
    """``11000``, or steps ``0:11000/1800:7000`` (second:watt), in JSON ``[[0, 11000], [1800, 7000]]``."""
    if isinstance(value, str):
        value = [each.split(":") for each in value.split("/")] if ":" in value else int(value)
    if isinstance(value, int):
        return ((0, value),)
    return tuple((int(from_s), int(power_w)) for from_s, power_w in value)


_Reader = tuple[str, Callable[[Any], object], str]  # the field of Profile, how it is read, what is expected
_READERS: dict[str, _Reader] = {
    "start": ("start", datetime.fromisoformat, "a local time such as 2026-03-29T00:30"),
    "energy_wh": ("energy_wh", int, "a whole number"),
    "power_w": ("power_w", _power, "a whole number, or steps such as 0:11000/1800:7000"),
    "charging_min": ("charging_min", int, "a whole number"),
    "idle_min": ("idle_min", int, "a whole number"),
    "kind": ("evse_kind", EvseKind, "AC or DC"),
    "reservation_min": ("reservation_min", int, "a whole number"),
}


# ------------------------------------------------------------------------------------------- showing


def _plain(quoted: Quote) -> dict[str, Any]:
    bill = quoted.bill
    if bill is None:
        return {"usage": to_plain(quoted.usage), "bill": None}
    plain = {
        "currency": bill.currency,
        "lines": [
            {
                "dimension": line.dimension,
                "tariff_id": line.tariff_id,
                "unit_price": decimal_text(line.unit_price),
                "quantity": line.quantity,
                "unit": line.unit,
                "net_minor": line.net,
            }
            for line in bill.lines
        ],
        "taxes": [
            {
                "type": tax.type,
                "percent": decimal_text(tax.percent),
                "stack": tax.stack,
                "base_minor": tax.base,
                "amount_minor": tax.amount,
            }
            for tax in bill.taxes
        ],
        "adjustments": [{"kind": each.kind, "net_minor": each.net, "tax_minor": each.tax} for each in bill.adjustments],
        "total_excl_minor": bill.total_excl,
        "total_incl_minor": bill.total_incl,
    }
    return {"usage": to_plain(quoted.usage), "bill": plain}


def _show(quoted: Quote, tariff: Tariff, zone: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    periods = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("from", "to", "kWh", "charging", "idle", "price per kWh", "per minute", "idle per minute"):
        periods.add_column(name, justify="left" if name in ("from", "to") else "right", no_wrap=True)
    for each in quoted.usage.periods:
        prices = (
            _price(tariff, tariff.energy, each.energy),
            _price(tariff, tariff.charging_time, each.charging_time),
            _price(tariff, tariff.idle_time, each.idle_time),
        )
        energy, charging, idle = f"{each.energy_mwh / 1e6:.3f}", _minutes(each.charging_ms), _minutes(each.idle_ms)
        from_, to = _local(each.from_wall_ms, zone), _local(each.to_wall_ms, zone)
        periods.add_row(from_, to, energy, charging, idle, *prices)
    console.print(periods)
    print()
    if quoted.bill is None:
        return
    lines = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("what", "quantity", "price", f"amount ({tariff.currency})"):
        lines.add_column(name, justify="left" if name == "what" else "right", no_wrap=True)
    for line in quoted.bill.lines:
        net, price = minor_text(line.net, tariff.currency), amount_text(line.unit_price, tariff.currency)
        lines.add_row(line.description, quantity_text(line), price, net)
    console.print(lines)
    for text in bill_lines(quoted.bill)[len(quoted.bill.lines) :]:
        print(text)


def _price(tariff: Tariff, component: Any, index: int | None) -> str:
    return "-" if index is None else amount_text(component.prices[index].amount, tariff.currency)


def _minutes(spent_ms: int) -> str:
    return f"{spent_ms // 60_000}:{spent_ms // 1000 % 60:02d}"


def _local(wall_ms: int, zone: str) -> str:
    local = datetime.fromtimestamp(wall_ms // 1000, UTC).astimezone(ZoneInfo(zone))
    return local.strftime("%Y-%m-%d %H:%M:%S %Z")
