"""Receipts, reports and keys from a ledger, and the checking of files, as a person at the command line sees them."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from agent.billing import verdicts
from agent.billing.read import parse
from agent.cli import billing
from agent.core.facts import CostToldFact
from agent.ipc.codec import encode_fact
from agent.ledger.rows import NewRow
from agent.ledger.side_records import PutKey
from agent.security.keys import load_or_create_key
from tests.unit.billing import making
from tests.unit.billing.making import KEY, OTHER_KEY
from tests.unit.ledger.making import new_row, opened, write

CONFIG = """
[station]
identity = "CP-0001"
vendor = "Example"
model = "Wallbox 11"
serial = "EX-000123"
data_dir = "{data}"
run_dir = "{data}"
[auth]
free = true
[[evse]]
id = 1
board = "mcu_ac"
connector_type = "cType2"
cable = "fixed"
max_current_ma = 16_000
pilot = {{ port = "/dev/ttyS1" }}
meter = {{ port = "/dev/ttyUSB0" }}
"""

TX, OPEN, OLD = "7d0f9c1e-0000-4000-8000-000000000001", "7d0f9c1e-0000-4000-8000-000000000002", "a1"


def of_tx(tx_id: str, kind: str, body: bytes = b"{}") -> NewRow:
    return new_row(kind=kind, body=body, tx_id=tx_id, evse=1)


def sealed_for(tx_id: str, **changes: Any) -> bytes:
    usage = making.used((making.TARIFF,))
    return making.sealed(replace(making.facts(usage=usage), tx_id=tx_id, **changes), usage)


@pytest.fixture
def station(tmp_path: Path) -> Path:
    """A station with three transactions: one with a receipt, one still open, one that ended without."""
    (tmp_path / "evsed.toml").write_text(CONFIG.format(data=tmp_path))
    path = tmp_path / "ledger.sqlite"
    opened(path)
    told = [CostToldFact(TX, 1, cost, final, "thanks") for cost, final in (("1.00", False), ("12.30", True))]
    write(
        path,
        of_tx(TX, "tx_started"),
        of_tx(TX, "tx_ended"),
        of_tx(TX, "receipt", sealed_for(TX, group="replaced")),
        of_tx(TX, "receipt", sealed_for(TX)),
        *(of_tx(TX, "cost_told", encode_fact(each)) for each in told),
        of_tx(OPEN, "tx_started"),
        of_tx(OLD, "tx_started"),
        of_tx(OLD, "tx_ended"),
        changes=[PutKey("old", OTHER_KEY.public_der)],
    )
    return tmp_path


Run = Callable[..., int]


@pytest.fixture
def run(station: Path) -> Run:
    """A command with its arguments; those not given are as the command line leaves them."""
    left = {
        "format": "text",
        "out": None,
        "by": "token",
        "first": None,
        "last": None,
        "csv": False,
        "json": False,
        "key": None,
    }

    def call(command: Callable[[argparse.Namespace], int], **given: Any) -> int:
        return command(argparse.Namespace(config=station / "evsed.toml", **(left | given)))

    return call


# ------------------------------------------------------------------------------------------- receipt


def test_receipt_as_text(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(billing.receipt, tx=TX) == 0
    shown = capsys.readouterr().out
    assert "Total           7.91 EUR" in shown
    assert "Group            household" in shown
    assert "this transaction costs 12.30 in the end" in shown


def test_a_cost_of_another_release_costs_no_receipt(
    run: Run, station: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ADR 29: what cannot be read is said and left out."""
    write(station / "ledger.sqlite", of_tx(TX, "cost_told", b'{"words": []}'))
    assert run(billing.receipt, tx=TX) == 0
    shown = capsys.readouterr()
    assert "Total           7.91 EUR" in shown.out and "12.30" not in shown.out
    assert "left out, what the CSMS said that it costs (row" in shown.err


@pytest.mark.parametrize("form", ["html", "json", "sealed"])
def test_receipt_in_a_file_can_be_verified(
    run: Run, station: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = station / "receipt"
    assert run(billing.receipt, tx=TX, format=form, out=out) == 0
    assert capsys.readouterr().out == ""
    assert run(billing.verify_receipt, file=out, key=KEY.public_hex) == 0
    assert run(billing.verify_receipt, file=str(out), key=KEY.public_oca) == 0


@pytest.mark.parametrize(("form", "begin"), [("xml", "<?xml"), ("ocmf", "OCMF|{")])
def test_records_of_a_receipt(run: Run, form: str, begin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(billing.receipt, tx=TX, format=form) == 0
    assert capsys.readouterr().out.startswith(begin)


@pytest.mark.parametrize(
    ("tx", "why"),
    [
        ("7d0f", "more than one"),
        ("zz", "no transaction begins with zz"),
        ("\x1b[2J", "no transaction begins with \ufffd[2J"),
        (OPEN, "not ended yet"),
        (OLD, "none was written"),
    ],
)
def test_why_there_is_no_receipt(run: Run, tx: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(billing.receipt, tx=tx) == 1
    said = capsys.readouterr()
    assert (said.out, why in said.err) == ("", True)


def test_the_first_letters_of_an_id_will_do(run: Run) -> None:
    assert run(billing.receipt, tx=TX[:-1] + "1") == 0


def test_no_ledger(run: Run, station: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (station / "ledger.sqlite").unlink()
    assert run(billing.receipt, tx=TX) == 1
    assert run(billing.report) == 1
    assert capsys.readouterr().err.startswith("evsed: ")


# -------------------------------------------------------------------------------------------- report


def test_report_counts_each_transaction_once(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(billing.report, csv=True) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert [row[:2] for row in rows[1:]] == [["04A2B3C4D5E6F7", "1"]]
    assert run(billing.report, json=True, by="month") == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["group"], row["gross"]) == ("2026-03", "7.91")


def test_report_as_a_table_of_some_days(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(billing.report, by="day", first=date(2026, 3, 28), last=date(2026, 3, 28)) == 0
    assert "2026-03-28" in capsys.readouterr().out
    assert run(billing.report, by="day", first=date(2026, 3, 29)) == 0
    assert "2026-03" not in capsys.readouterr().out


def test_report_shows_a_token_as_it_is(run: Run, station: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marked = sealed_for("b", token="[red]x[/red]\x1b[2J")
    write(station / "ledger.sqlite", of_tx("b", "tx_started"), of_tx("b", "tx_ended"), of_tx("b", "receipt", marked))
    assert run(billing.report) == 0
    assert "[red]x[/red]\ufffd[2J" in capsys.readouterr().out


def test_report_goes_on_past_a_receipt_that_is_none(
    run: Run, station: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [of_tx("b", "tx_started"), of_tx("b", "tx_ended"), of_tx("b", "receipt", b"EVSED-RECEIPT|{}|{}")]
    write(station / "ledger.sqlite", *rows)
    assert run(billing.report, csv=True) == 1
    said = capsys.readouterr()
    assert "04A2B3C4D5E6F7,1," in said.out
    assert "receipt of b" in said.err


# -------------------------------------------------------------------------------------------- verify


def test_verify_says_what_is_wrong(run: Run, station: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = station / "receipt"
    file.write_bytes(making.sealed().replace(b'"local_number":41', b'"local_number":42'))
    assert run(billing.verify_receipt, file=file, key=KEY.public_hex) == verdicts.EXIT_SIGNATURE
    shown = capsys.readouterr().out
    assert "signature        BAD   not signed by this key" in shown
    assert "cost_recomputed  good" in shown


def test_verify_for_machines(run: Run, station: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = station / "receipt"
    file.write_bytes(making.sealed())
    assert run(billing.verify_receipt, file=file, json=True) == verdicts.EXIT_OPEN
    plain = json.loads(capsys.readouterr().out)
    assert (plain["result"], plain["exit_code"], plain["key_given"]) == ("not good", verdicts.EXIT_OPEN, False)
    assert plain["verdicts"]["signature"]["state"] == "open"
    assert plain["total"] == {"currency": "EUR", "minor_units": 791}


def test_verify_takes_a_key_from_a_file(run: Run, station: Path) -> None:
    (station / "receipt").write_bytes(making.sealed())
    (station / "key.pem").write_text(KEY.public_pem)
    assert run(billing.verify_receipt, file=station / "receipt", key=str(station / "key.pem")) == 0
    assert run(billing.verify_receipt, file=station / "receipt", key=OTHER_KEY.public_hex) == verdicts.EXIT_SIGNATURE


@pytest.mark.parametrize("data", [b"", b"\x1b[2J", b"<html>", b"{}", b"x" * 5_000_000])
def test_verify_of_something_else(run: Run, station: Path, data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    file = station / "receipt"
    file.write_bytes(data)
    assert run(billing.verify_receipt, file=file) == verdicts.EXIT_UNREADABLE
    assert "\x1b" not in capsys.readouterr().out
    assert run(billing.verify_receipt, file=file, json=True) == verdicts.EXIT_UNREADABLE
    assert json.loads(capsys.readouterr().out)["result"] == "unreadable"


def test_verify_without_file_or_with_a_key_that_is_none(run: Run, station: Path) -> None:
    assert run(billing.verify_receipt, file=station / "nothing") == verdicts.EXIT_UNREADABLE
    (station / "receipt").write_bytes(making.sealed())
    for key in ("no key", "", "x" * 5_000):
        assert run(billing.verify_receipt, file=station / "receipt", key=key) == verdicts.EXIT_UNREADABLE


def test_verify_shows_no_controls(run: Run, station: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (station / "receipt").write_bytes(sealed_for("a\x1b[2Jb"))
    run(billing.verify_receipt, file=station / "receipt")
    assert "\x1b" not in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------- key


def test_key_in_use_and_before(run: Run, station: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = load_or_create_key(station / "metering.key")
    for form, mine, other in (
        ("hex", key.public_hex, OTHER_KEY.public_hex),
        ("pem", key.public_pem, OTHER_KEY.public_pem),
        ("ocpp", key.public_oca, OTHER_KEY.public_oca),
    ):
        assert run(billing.key, format=form) == 0
        assert capsys.readouterr().out == f"{mine.rstrip()}\n# key old, from ledger row 2 on\n{other.rstrip()}\n"
    assert run(billing.key, format="json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["in_use"]["hex"] == key.public_hex
    assert [(each["key_id"], each["from_row"]) for each in plain["ledger"]] == [("old", 2)]


def test_keys_for_people(run: Run, station: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = load_or_create_key(station / "metering.key")
    earlier = f"Earlier, from ledger row 2 on:\n  {OTHER_KEY.public_hex}\n"
    assert run(billing.key) == 0
    assert capsys.readouterr().out == f"In use, nothing signed yet:\n  {key.public_hex}\n{earlier}"
    write(station / "ledger.sqlite", new_row(), changes=[PutKey(key.key_id, key.public_der)])
    assert run(billing.key) == 0
    assert capsys.readouterr().out == f"In use, from ledger row 11 on:\n  {key.public_hex}\n{earlier}"


def test_no_key_is_made_by_looking(run: Run, station: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(billing.key, format="hex") == 1
    said = capsys.readouterr()
    assert OTHER_KEY.public_hex in said.out
    assert "metering key" in said.err
    assert not (station / "metering.key").exists()


def test_forms_are_those_of_the_key_itself() -> None:
    forms = billing._forms(KEY.public_der)
    assert forms == {"hex": KEY.public_hex, "pem": KEY.public_pem, "ocpp": KEY.public_oca}
    assert parse(making.sealed()).facts.public_key == forms["hex"]
