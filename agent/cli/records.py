"""``evsed ocmf verify``: judge signed meter records in a file.

Charter: finds out what the file is, pairs begin with end, shows two verdicts per transaction: who signed
it, and whether a bill may rest on it. Works on files alone: no station, no network. What a record says is a
stranger's text: nothing of it reaches a terminal but printable characters.

The parsed arguments: ``file`` (path), ``key`` (text, file name or None), ``json`` (bool).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from agent.ocmf.container import FILE_MAX_BYTES, is_container, read_container
from agent.ocmf.errors import Finding, OcmfError
from agent.ocmf.ocpp import read_signed_value
from agent.ocmf.parse import Record, Stamp, parse
from agent.ocmf.public_key import PublicKey, parse_key
from agent.ocmf.verify import PairVerdict, SignatureState, Verdict, billed, verify_pair, verify_sequence
from agent.ocmf.verify import verify as verify_record
from agent.ocmf.vocabulary import BEGIN_LETTER, END_LETTERS

EXIT_GOOD, EXIT_SIGNATURE, EXIT_UNREADABLE, EXIT_NOT_BILLABLE = 0, 1, 2, 3
_RECORDS_MAX: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def verify(parsed: argparse.Namespace) -> int:
    """Judge all records of ``parsed.file``; returns the exit code."""
    try:
        given_key = None if parsed.key is None else parse_key(_key_text(parsed.key))
        items = _items(_read(Path(parsed.file)), given_key)
        verdicts = list(_verdicts(items))
        sequence = verify_sequence(item.record for item in items)
    except (OcmfError, OSError) as error:
        print(
            json.dumps({"result": "unreadable", "why": str(error)}) if parsed.json else f"evsed: {_clean(str(error))}"
        )
        return EXIT_UNREADABLE
    code = _exit_code(verdicts, sequence)
    own_key = given_key is None and any(item.key is not None for item in items)
    if parsed.json:
        print(json.dumps(_plain(verdicts, sequence, code, own_key)))
    else:
        _show(verdicts, sequence, code, own_key)
    return code


# ------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class _Item:
    """One record of the file, with the key to judge it by and the transaction the file puts it in."""

    record: Record
    key: PublicKey | None
    transaction_id: int | None = None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(FILE_MAX_BYTES + 1)
    if len(data) > FILE_MAX_BYTES:
        raise OcmfError("file", f"it has more than {FILE_MAX_BYTES} bytes", "give a smaller file")
    return data


def _key_text(key: str) -> str | bytes:
    """The key itself, or what the file of that name holds."""
    try:
        path = Path(key)
        return _read(path) if path.is_file() else key
    except OSError:
        return key  # a literal key may be no file name at all (too long)


def _items(data: bytes, key: PublicKey | None) -> list[_Item]:
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if is_container(text):
        values = read_container(text)
        return [_Item(parse(one.signed), key or _own_key(one.public_key), one.transaction_id) for one in values]
    if text[:1] in (b"{", b"["):
        return _json_items(text, key)
    lines = [line for line in text.splitlines() if line.strip()]
    _check_count(len(lines))
    return [_Item(parse(line), key) for line in lines]


def _check_count(count: int) -> None:
    if not 0 < count <= _RECORDS_MAX:
        raise OcmfError("file", f"it has {count} records", f"give 1 to {_RECORDS_MAX}, one in a line")


def _json_items(text: bytes, key: PublicKey | None) -> list[_Item]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OcmfError("file", f"it is not JSON ({type(error).__name__})", "give it as it was made") from error
    values = found if isinstance(found, list) else [found]
    _check_count(len(values))
    items = []
    for one in values:
        if isinstance(one, dict) and isinstance(one.get("record"), str):
            own = one.get("public_key", "")
            record, own = one["record"].encode("utf-8", "replace"), own if isinstance(own, str) else ""
        elif isinstance(one, dict) and "signedMeterData" in one:
            carried = read_signed_value(one)
            record, own = carried.record, carried.public_key
        else:
            raise OcmfError("file", "the JSON holds no record", 'give {"record": ..., "public_key": ...}')
        items.append(_Item(parse(record), key or _own_key(own)))
    return items


def _own_key(text: str) -> PublicKey | None:
    return parse_key(text) if text else None


# ------------------------------------------------------------------------------------------- judging


def _verdicts(items: Sequence[_Item]) -> Iterator[Verdict | PairVerdict]:
    """A begin and the end after it are judged together, everything else alone."""
    at = 0
    while at < len(items):
        one, after = items[at], items[at + 1] if at + 1 < len(items) else None
        if after is not None and _belong(one, after):
            yield verify_pair(one.record, after.record, one.key)
            at += 2
        else:
            yield verify_record(one.record, one.key)
            at += 1


def _belong(one: _Item, after: _Item) -> bool:
    return (
        _has(one.record) == (True, False)
        and _has(after.record) == (False, True)
        and one.key == after.key
        and one.transaction_id == after.transaction_id
        and all(one.record.text(key) == after.record.text(key) for key in ("GS", "MS"))
    )


def _has(record: Record) -> tuple[bool, bool]:
    letters = {entry.tx for entry in record.readings}
    return BEGIN_LETTER in letters, not END_LETTERS.isdisjoint(letters)


def _parts(verdict: Verdict | PairVerdict) -> tuple[Verdict, ...]:
    return (verdict,) if isinstance(verdict, Verdict) else (verdict.begin, verdict.end)


def _exit_code(verdicts: Sequence[Verdict | PairVerdict], sequence: Sequence[Finding]) -> int:
    parts = [part for verdict in verdicts for part in _parts(verdict)]
    if any(part.signature.state is SignatureState.NO_KEY for part in parts):
        return EXIT_UNREADABLE
    if not all(part.signature.valid for part in parts):
        return EXIT_SIGNATURE
    good = all(verdict.billable for verdict in verdicts) and not any(finding.blocks for finding in sequence)
    return EXIT_GOOD if good else EXIT_NOT_BILLABLE


# ------------------------------------------------------------------------------------------- showing

_RESULTS: Final = {
    EXIT_GOOD: ("good", "Signed and billable."),
    EXIT_SIGNATURE: ("signature_bad", "NOT PROVEN: a signature does not verify. Do not rely on these figures."),
    EXIT_UNREADABLE: ("no_key", "NOT JUDGED: there is no usable public key (give --key)."),
    EXIT_NOT_BILLABLE: ("not_billable", "Signed, but NOT BILLABLE: see the reasons above."),
}
_OWN_KEY: Final = "The key came with the file: compare it with the one printed on the charger."


def _findings(verdict: Verdict | PairVerdict) -> list[Finding]:
    own = verdict.findings if isinstance(verdict, PairVerdict) else ()
    return [*(finding for part in _parts(verdict) for finding in part.findings), *own]


def _energy(verdict: Verdict | PairVerdict) -> tuple[Stamp | None, Stamp | None, str]:
    """Begin, end, and the energy between them in Wh as text; empty where they are not known."""
    readings = billed(*(part.record for part in _parts(verdict)))
    if readings is None:
        return None, None, ""
    begin, end = readings
    known = begin.energy_wh is not None and end.energy_wh is not None
    return begin.at, end.at, f"{end.energy_wh - begin.energy_wh:f}" if known else ""  # type: ignore[operator]


def _plain(
    verdicts: Sequence[Verdict | PairVerdict], sequence: Sequence[Finding], code: int, own_key: bool
) -> dict[str, Any]:
    return {
        "result": _RESULTS[code][0],
        "key_from_file": own_key,
        "transactions": [_plain_verdict(verdict) for verdict in verdicts],
        "sequence": [_plain_finding(finding) for finding in sequence],
    }


def _plain_verdict(verdict: Verdict | PairVerdict) -> dict[str, Any]:
    begin, end, energy = _energy(verdict)
    return {
        "records": [
            {
                "number": part.record.text("PG"),
                "signature": part.signature.state.value,
                "signature_text": part.signature.text,
            }
            for part in _parts(verdict)
        ],
        "billable": verdict.billable,
        "begin_ms": None if begin is None else begin.wall_ms,
        "end_ms": None if end is None else end.wall_ms,
        "energy_wh": energy or None,
        "findings": [_plain_finding(finding) for finding in _findings(verdict)],
    }


def _plain_finding(finding: Finding) -> dict[str, Any]:
    return {"code": finding.code.value, "text": finding.text, "blocks": finding.blocks}


def _show(verdicts: Sequence[Verdict | PairVerdict], sequence: Sequence[Finding], code: int, own_key: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("record", "meter", "begin (UTC)", "end (UTC)", "energy", "signature", "billable"):
        table.add_column(name, justify="right" if name == "energy" else "left")
    for verdict in verdicts:
        parts = _parts(verdict)
        begin, end, energy = _energy(verdict)
        cells = (
            " + ".join(part.record.text("PG") or "?" for part in parts),
            parts[0].record.text("MS") or parts[0].record.text("GS"),
            _time(begin),
            _time(end),
            f"{energy} Wh" if energy else "-",
            " + ".join(dict.fromkeys(part.signature.state.value for part in parts)),
            "yes" if verdict.billable else "NO",
        )
        table.add_row(*(_clean(cell) for cell in cells))
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(table)
    for verdict in verdicts:
        name = " + ".join(part.record.text("PG") or "?" for part in _parts(verdict))
        for part in _parts(verdict):
            if not part.signature.valid:
                console.print(_clean(f"{name}: signature {part.signature.state.value}: {part.signature.text}"))
        for finding in _findings(verdict):
            console.print(_clean(f"{name}: {'not billable' if finding.blocks else 'note'}: {finding.text}"))
    for finding in sequence:
        console.print(_clean(f"sequence: {finding.text}"))
    console.print(_RESULTS[code][1] + (f" {_OWN_KEY}" if own_key else ""))


def _time(at: Stamp | None) -> str:
    if at is None:
        return "-"
    try:
        return f"{_EPOCH + timedelta(milliseconds=at.wall_ms):%Y-%m-%d %H:%M:%S} {at.status}"
    except OverflowError:
        return "?"  # a year before 1 or after 9999


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
