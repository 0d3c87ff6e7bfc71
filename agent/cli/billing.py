"""``evsed ledger receipt``, ``ledger report``, ``ledger key`` and ``receipt verify``.

Charter: the ledger's receipts to people, files and spreadsheets; the checking of a receipt from a file alone. No
station is needed. What stands in a receipt is a stranger's text: nothing of it reaches a terminal but printable
characters.

The parsed arguments: ``receipt``: ``tx``, ``format`` (a ``Form``), ``out`` (path or None); ``report``: ``by`` (a
``By``), ``first``, ``last`` (dates or None), ``csv``, ``json``; ``verify_receipt``: ``file``, ``key`` (text, file
name or None), ``json``; ``key``: ``format`` (text, hex, pem, ocpp, json). All but ``verify_receipt`` have ``config``.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.billing import words
from agent.billing.errors import ReceiptError
from agent.billing.forms import Form, written
from agent.billing.page import FILE_MAX_BYTES, Found, find, verify_found
from agent.billing.read import Receipt, parse
from agent.billing.report import By, Report
from agent.billing.told import Told
from agent.billing.verdicts import EXIT_UNREADABLE, State, Verdict, exit_code
from agent.cli.processes import EXIT_CONFIG, load_config
from agent.core.facts import CostToldFact
from agent.ipc.codec import CodecError, decode_fact
from agent.ledger.kinds import RECEIPT
from agent.ocmf.errors import OcmfError
from agent.ocmf.public_key import PublicKey, parse_key

if TYPE_CHECKING:
    from agent.config.model import Config
    from agent.ledger.reader import LedgerReader
    from agent.ledger.side_records import SigningKey, Transaction

_COST_TOLD: Final = "cost_told"
_PAGE_ROWS: Final = 200
_KEY_MAX_BYTES: Final = 8_192


class _Refused(Exception):
    """Why there is nothing to show; the command ends with 1."""


# ------------------------------------------------------------------------------------------- receipt


def receipt(parsed: argparse.Namespace) -> int:
    """One transaction's receipt in one form, to standard output or a file."""

    def show(reader: LedgerReader, _config: Config) -> int:
        found = _transaction(reader, parsed.tx)
        data = written(_receipt_of(reader, found), Form(parsed.format), _told(reader, found.tx_id))
        if data is None:
            raise _Refused(f"the receipt of {found.tx_id} holds no meter record that can be given as {parsed.format}")
        if parsed.out is None:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            Path(parsed.out).write_bytes(data)
        return 0

    return _with_ledger(parsed, show)


def _transaction(reader: LedgerReader, prefix: str) -> Transaction:
    """The one transaction whose id begins like this."""
    found = reader.find_tx(prefix)
    whole = [each for each in found if each.tx_id == prefix]
    if len(found) == 1 or whole:
        return (whole or found)[0]
    if not found:
        raise _Refused(f"no transaction begins with {words.shown(prefix)}")
    raise _Refused(f"more than one transaction begins so: {', '.join(each.tx_id for each in found)}")


def _receipt_of(reader: LedgerReader, found: Transaction) -> Receipt:
    if found.receipt_seq is None:
        open_yet = "it has not ended yet" if found.end_seq is None else "none was written"
        raise _Refused(f"there is no receipt of transaction {found.tx_id}: {open_yet}")
    newest = _newest_receipt(reader, found)
    if newest is None:
        raise _Refused(f"the receipt of transaction {found.tx_id} is no longer in the ledger")
    return newest


def _newest_receipt(reader: LedgerReader, found: Transaction) -> Receipt | None:
    """The newest receipt of a transaction; None where there is none, or none any more."""
    if found.receipt_seq is None:
        return None
    rows = reader.rows(found.receipt_seq - 1, 1, kinds=[RECEIPT])
    return parse(rows[0].body) if rows and rows[0].seq == found.receipt_seq else None


def _told(reader: LedgerReader, tx_id: str) -> Told | None:
    """What the CSMS said last that the transaction costs."""
    rows = reader.rows(0, 1, kinds=[_COST_TOLD], tx_id=tx_id, newest=True)
    try:
        fact = decode_fact(_COST_TOLD, rows[0].body) if rows else None
    except CodecError as error:
        why = words.shown(str(error))
        print(f"evsed: left out, what the CSMS said that it costs (row {rows[0].seq}): {why}", file=sys.stderr)
        return None
    return Told(fact.cost, fact.final, fact.text) if isinstance(fact, CostToldFact) else None


# -------------------------------------------------------------------------------------------- report


def report(parsed: argparse.Namespace) -> int:
    """What was used and what is due, over all receipts of the ledger."""

    def show(reader: LedgerReader, _config: Config) -> int:
        made = Report(By(parsed.by), parsed.first, parsed.last)
        code = 0
        for found in _transactions(reader):
            try:
                one = _newest_receipt(reader, found)
            except ReceiptError as error:
                print(f"evsed: receipt of {found.tx_id}: {words.shown(str(error))}", file=sys.stderr)
                code = 1
                continue
            if one is not None:
                made.add(one)
        _show_report(made, parsed)
        if made.undated:
            print(f"evsed: left out, since nobody knew their time: {made.undated} sessions", file=sys.stderr)
        return code

    return _with_ledger(parsed, show)


def _transactions(reader: LedgerReader) -> Iterator[Transaction]:
    after_seq = 0
    while page := reader.transactions(after_seq, _PAGE_ROWS):
        yield from page
        after_seq = page[-1].begin_seq


def _show_report(made: Report, parsed: argparse.Namespace) -> None:
    if parsed.json:
        print(made.json())
    elif parsed.csv:
        sys.stdout.flush()
        sys.stdout.buffer.write(made.csv().encode())
        sys.stdout.buffer.flush()
    else:
        _print_table([*made.table()])


def _print_table(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if at == 0 or name == "currency" else "right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    # A pipe has no width of its own; cutting columns there would lose what a script looks for.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


# -------------------------------------------------------------------------------------------- verify


def verify_receipt(parsed: argparse.Namespace) -> int:
    """Judge the receipt in a file; the exit code says what is wrong with it."""
    try:
        given = None if parsed.key is None else parse_key(_key_text(parsed.key))
        found = find(_read(Path(parsed.file), FILE_MAX_BYTES))
    except (ReceiptError, OcmfError, OSError) as error:
        text = words.shown(str(error))
        print(json.dumps({"result": "unreadable", "why": text}) if parsed.json else f"evsed: {text}")
        return EXIT_UNREADABLE
    verdicts = verify_found(found, given)
    code = exit_code(verdicts)
    if parsed.json:
        print(json.dumps(_verdicts_plain(found, verdicts, code, given)))
    else:
        _show_verdicts(found, verdicts)
    return code


def _read(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ReceiptError("file", f"it has more than {limit_bytes} bytes")
    return data


def _key_text(key: str) -> str | bytes:
    """The key itself, or what the file of that name holds."""
    try:
        path = Path(key)
        return _read(path, _KEY_MAX_BYTES) if path.is_file() else key
    except OSError:
        return key  # too long for a name: then it is the key


def _verdicts_plain(found: Found, verdicts: tuple[Verdict, ...], code: int, given: PublicKey | None) -> dict[str, Any]:
    receipt = found.receipt
    bill = receipt.bill
    return {
        "result": "good" if code == 0 else "not good",
        "exit_code": code,
        "number": receipt.number,
        "tx_id": receipt.facts.tx_id,
        "energy_mwh": receipt.energy_mwh,
        "total": None if bill is None else {"currency": bill.currency, "minor_units": bill.total_incl},
        "key_given": given is not None,
        "verdicts": {each.name: {"state": str(each.state), "why": each.text} for each in verdicts},
    }


_MARKS: Final = {State.GOOD: "good", State.BAD: "BAD", State.OPEN: "open"}


def _show_verdicts(found: Found, verdicts: tuple[Verdict, ...]) -> None:
    from agent.billing.view import view

    print(f"Receipt {found.receipt.number} of transaction {words.shown(found.receipt.facts.tx_id)}")
    for name, value in view(found.receipt).headline:
        print(f"  {name}: {value}")
    for each in verdicts:
        print(f"{each.name:<16} {_MARKS[each.state]:<5} {words.shown(each.text)}")


# ----------------------------------------------------------------------------------------------- key


def key(parsed: argparse.Namespace) -> int:
    """The public metering key, and those that the ledger knows from before."""

    def show(reader: LedgerReader, config: Config) -> int:
        in_use, why = _key_in_use(config.station.data_dir / "metering.key")
        known = reader.signing_keys()
        if why:
            print(f"evsed: {why}", file=sys.stderr)
        if parsed.format == "json":
            ledger = [{"key_id": each.key_id, "from_row": each.from_seq, **_forms(each.public_der)} for each in known]
            print(json.dumps({"in_use": None if in_use is None else _forms(in_use), "ledger": ledger}))
        elif parsed.format == "text":
            _show_keys(in_use, known)
        else:
            if in_use is not None:
                print(_forms(in_use)[parsed.format].rstrip())
            for each in known:
                if each.public_der != in_use:
                    print(f"# key {each.key_id}, from ledger row {each.from_seq} on")
                    print(_forms(each.public_der)[parsed.format].rstrip())
        return 0 if in_use is not None else 1

    return _with_ledger(parsed, show)


def _show_keys(in_use: bytes | None, known: list[SigningKey]) -> None:
    """For people: which key it is, since when, and the form that is printed on the charger."""
    rows = {each.public_der: f", from ledger row {each.from_seq} on" for each in known}
    if in_use is not None:
        print(f"In use{rows.pop(in_use, ', nothing signed yet')}:\n  {_forms(in_use)['hex']}")
    for public_der, since in rows.items():
        print(f"Earlier{since}:\n  {_forms(public_der)['hex']}")


def _key_in_use(path: Path) -> tuple[bytes | None, str]:
    """The public half of the station's key, or why it cannot be read. Never makes one."""
    from agent.security.keys import KeyUnusable, load_key

    try:
        return load_key(path).public_der, ""
    except KeyUnusable as error:
        return None, str(error)


def _forms(public_der: bytes) -> dict[str, str]:
    """A public key as printed on labels, as openssl reads it, as OCPP carries it."""
    printed, text = public_der.hex().upper(), base64.b64encode(public_der).decode("ascii")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return {
        "hex": printed,
        "pem": "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""]),
        "ocpp": base64.b64encode(f"oca:base16:asn1:{printed}".encode("ascii")).decode("ascii"),
    }


# ------------------------------------------------------------------------------------------ reaching


def _with_ledger(parsed: argparse.Namespace, action: Callable[[LedgerReader, Config], int]) -> int:
    from agent.ledger.errors import LedgerError
    from agent.ledger.reader import LedgerReader

    config = load_config(parsed, "cli")
    if config is None:
        return EXIT_CONFIG
    try:
        with LedgerReader(config.station.data_dir / "ledger.sqlite") as reader:
            return action(reader, config)
    except (LedgerError, ReceiptError, _Refused, OSError) as error:
        print(f"evsed: {words.shown(str(error))}", file=sys.stderr)
        return 1
