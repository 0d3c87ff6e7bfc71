"""``evsed ledger show``, ``verify``, ``export``, ``stats``: the ledger as a file.

Charter: tables for people, JSON for machines. No station is needed: rows may be added meanwhile. Exit codes
of ``verify``: 0 whole, 1 something is wrong, 2 it cannot be read.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.cli.looking import print_table, utc_text
from agent.cli.processes import EXIT_CONFIG, load_config
from agent.ledger.errors import LedgerError
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row
from agent.ledger.side_records import Witness

EXIT_WRONG, EXIT_UNREADABLE = 1, 2
_PAGE_ROWS = 500
_SHOWN_TEXTS = {"signed": "OCMF record", "receipt": "receipt"}


def show(parsed: argparse.Namespace) -> int:
    def action(reader: LedgerReader) -> int:
        rows = _rows(reader, parsed.tx, max(1, parsed.last))
        if parsed.json:
            print(json.dumps([_plain(row) for row in rows]))
        else:
            _show_rows(rows)
        return 0

    return _with_ledger(parsed, action)


def verify(parsed: argparse.Namespace) -> int:
    from agent.billing.ledger_check import DocumentCheck

    try:
        witnesses = [_witness(text) for text in parsed.witness]
    except ValueError as error:
        print(f"evsed: {error}", file=sys.stderr)
        return EXIT_UNREADABLE

    def action(reader: LedgerReader) -> int:
        check = DocumentCheck(key.public_der for key in reader.signing_keys())
        with _progress(parsed) as progress:
            found = reader.audit(witnesses=witnesses, number_of=check.number_of, on_progress=progress)
        findings = [{"row": each.seq, "what": each.fault.value, "text": each.detail} for each in found]
        findings += [{"row": each.seq, "what": each.what, "text": each.detail} for each in check.findings]
        head = reader.head()
        if parsed.json:
            counts = {"rows": head.seq, "records": check.signed, "receipts": check.receipts, "unread": check.unread}
            print(json.dumps({"whole": not findings, **counts, "head": head.hash.hex(), "findings": findings}))
        else:
            for each in findings:
                where = "" if each["row"] is None else f"row {each['row']}: "
                print(f"WRONG  {where}{each['text']} ({each['what']})")
            unread = f" {check.unread} rows that only another release can read," if check.unread else ""
            print(
                f"{'not whole' if findings else 'whole'}: rows up to {head.seq}, {check.signed} signed records,"
                f" {check.receipts} receipts,{unread} head {head.seq}:{head.hash.hex()}"
            )
        return EXIT_WRONG if findings else 0

    return _with_ledger(parsed, action)


def export(parsed: argparse.Namespace) -> int:
    from agent.ledger.export import export_lines

    def action(reader: LedgerReader) -> int:
        for line in export_lines(reader, parsed.from_seq, parsed.to_seq):
            print(line)
        return 0

    return _with_ledger(parsed, action)


def stats(parsed: argparse.Namespace) -> int:
    from agent.ledger.stats import stats_of

    config = load_config(parsed, "cli")
    if config is None:
        return EXIT_CONFIG
    try:
        found = stats_of(config.station.data_dir / "ledger.sqlite")
    except (LedgerError, OSError) as error:
        print(f"evsed: {error}", file=sys.stderr)
        return EXIT_UNREADABLE
    if parsed.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        _show_stats(found)
    return 0


# ------------------------------------------------------------------------------------------ reaching


def _with_ledger(parsed: argparse.Namespace, action: Callable[[LedgerReader], int]) -> int:
    file: Path | None = getattr(parsed, "file", None)
    if file is None:
        config = load_config(parsed, "cli")
        if config is None:
            return EXIT_CONFIG
        file = config.station.data_dir / "ledger.sqlite"
    try:
        with LedgerReader(file) as reader:
            return action(reader)
    except LedgerError as error:
        if getattr(parsed, "json", False):
            print(json.dumps({"whole": False, "findings": [{"row": None, "what": "file", "text": str(error)}]}))
        print(f"evsed: {error}", file=sys.stderr)
        return EXIT_UNREADABLE


def _rows(reader: LedgerReader, tx: str | None, last: int) -> list[Row]:
    """The newest rows, or all of the transactions that a prefix names."""
    if tx is None:
        return _rows_after(reader, max(0, reader.head().seq - last))[-last:]  # some may have come meanwhile
    return [row for each in reader.find_tx(tx) for row in _rows_after(reader, 0, each.tx_id)]


def _rows_after(reader: LedgerReader, seq: int, tx_id: str | None = None) -> list[Row]:
    found: list[Row] = []
    while page := reader.rows(seq, _PAGE_ROWS, tx_id=tx_id):
        found += page
        seq = page[-1].seq
    return found


def _witness(text: str) -> Witness:
    seq, _, digest = text.partition(":")
    try:
        return Witness(int(seq), bytes.fromhex(digest), "given", 0)
    except ValueError:
        raise ValueError(f"--witness {text!r:.100}: expected a row and its hash, e.g. 1234:9f3c...") from None


class _progress:  # noqa: N801 - reads as the word it is
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        self._shown = sys.stderr.isatty() and not parsed.json
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        if self._shown:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True))
            self._task = self._bar.add_task("checking", total=None)
            self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _tell(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)


# ------------------------------------------------------------------------------------------- showing


def _body(row: Row) -> Any:
    """A row's JSON; a signed document, or what is no JSON, stands as text."""
    text = row.body.decode(errors="replace")
    try:
        return text if row.kind in _SHOWN_TEXTS else json.loads(text)
    except ValueError:
        return text


def _plain(row: Row) -> dict[str, Any]:
    hashes = {"prev_hash": row.prev_hash.hex(), "hash": row.hash.hex()}
    return dataclasses.asdict(row) | {"body": _body(row)} | hashes


def _show_rows(rows: list[Row]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("seq", "time (UTC)", "kind", "evse", "transaction", "what", "hash"):
        table.add_column(name, justify="right" if name in ("seq", "evse") else "left", no_wrap=True)
    for row in rows:
        mark = "" if row.time_status == "S" else f" {row.time_status}"
        tx, evse = (row.tx_id or "")[:8], "" if row.evse is None else str(row.evse)
        try:
            what = _what(row.kind, _body(row))
        except (LookupError, TypeError):
            what = "(of another release)"  # in a form that is not known here (ADR 29)
        table.add_row(str(row.seq), utc_text(row.wall_ms) + mark, row.kind, evse, tx, what, row.hash.hex()[:8])
    print_table(table)


def _what(kind: str, body: Any) -> str:
    """The one thing about a row that a person wants to see."""
    if not isinstance(body, dict):
        return _SHOWN_TEXTS.get(kind, "") + f" ({len(body)} characters)"
    if kind.startswith("tx_"):
        said = body.get("stopped_reason") or body.get("trigger", "")
        cost = f"  {body['total_cost']} {body['currency']}" if body.get("total_cost") else ""
        return f"{body['seq_no']}: {said}{_energy(body.get('samples'))}{cost}"
    if kind in ("checkpoint", "meter"):
        return _energy([body["sample"]]).strip()
    if kind == "price":
        return f"{body['cause']}{_energy(body.get('samples'))}"
    if kind == "firmware":
        return " ".join(str(each) for each in (body["status"], body["version"], body["why"]) if each)
    if kind == "event":
        said = f"{body['name']['component']}.{body['name']['variable']} {body['value']} {body['tech_code']}".strip()
        return said + (" cleared" if body["cleared"] else "")
    names = ("cause", "event_type", "entry", "reason", "tariff_id", "cost", "source", "product", "last_seq")
    return next((str(body[name]) for name in names if body.get(name)), "")


def _energy(samples: Any) -> str:
    return f"  {samples[-1]['energy_import_mwh'] / 1e6:.3f} kWh" if samples else ""


def _show_stats(found: Any) -> None:
    print(f"{found.rows} rows, from {_span(found.oldest)} to {_span(found.newest)}")
    if found.cut_up_to_seq is not None:
        print(f"removed by retention: rows up to {found.cut_up_to_seq}")
    sizes = ", ".join(f"{suffix or 'ledger'} {size / 1e6:.2f} MB" for suffix, size in found.file_bytes.items())
    print(f"files: {sizes}; free inside {found.free_page_bytes / 1e6:.2f} MB")
    print(f"commits: {found.commits} with {found.committed_bytes / 1e6:.2f} MB", end="")
    print("" if found.commits_per_day is None else f", {found.commits_per_day:.0f} a day")
    if found.estimated_nand_bytes_per_year is not None:
        print(f"flash wear (an estimate by a model): {found.estimated_nand_bytes_per_year / 1e9:.1f} GB a year")
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("kind")
    table.add_column("rows", justify="right")
    for kind, count in sorted(found.rows_by_kind.items()):
        table.add_row(kind, str(count))
    print_table(table)


def _span(span: Any) -> str:
    return f"row {span.seq} ({utc_text(span.wall_ms)} UTC{'' if span.time_status == 'S' else ' ' + span.time_status})"
