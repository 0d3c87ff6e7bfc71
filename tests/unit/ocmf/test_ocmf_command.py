"""``evsed ocmf verify``: exit codes, both outputs, every form of file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli.records import verify
from agent.ocmf.container import SafeValue, write_container
from agent.ocmf.ocpp import signed_value_201
from tests.unit.ocmf.samples import draft, reading, sealed, signing_key, vector_files


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(content: bytes, key: str | None = signing_key().public_hex, machine: bool = False) -> tuple[int, str]:
        file = tmp_path / "records"
        file.write_bytes(content)
        code = verify(argparse.Namespace(file=file, key=key, json=machine))
        return code, capsys.readouterr().out

    return call


def test_a_good_record(run: Any, tmp_path: Path) -> None:
    code, shown = run(sealed() + b"\n")
    assert code == 0
    assert "11000.001000 Wh" in shown.replace("11000.001 Wh", "11000.001000 Wh")
    assert "Signed and billable." in shown
    (tmp_path / "key.pem").write_text(signing_key().public_pem)
    assert run(sealed(), str(tmp_path / "key.pem"))[0] == 0


def test_machines_get_json(run: Any) -> None:
    code, text = run(sealed(), machine=True)
    found = json.loads(text)
    assert (code, found["result"], found["key_from_file"]) == (0, "good", False)
    (one,) = found["transactions"]
    assert one["records"][0] == {
        "number": "T7",
        "signature": "valid",
        "signature_text": "Signed with this key (secp256r1).",
    }
    assert float(one["energy_wh"]) == 11_000.001
    assert [finding["code"] for finding in one["findings"]] == ["time_status"]


def test_exit_codes_tell_forged_from_worthless(run: Any) -> None:
    forged = sealed().replace(b"23.340001", b"24.340001")
    code, shown = run(forged)
    assert (code, "signature invalid" in shown, "yes" in shown) == (1, True, True)
    code, shown = run(sealed(draft(reading("B"), reading("E", 60, status="M"))))
    assert (code, "manipulated" in shown, "NOT BILLABLE" in shown) == (3, True, True)
    for content, key in (
        (b"", "00"),
        (b"hello", None),
        (b"[]", None),
        (b"{}", None),
        (b"<x/>", None),
        (sealed(), "no"),
    ):
        code, text = run(content, key, machine=True)
        assert (code, json.loads(text)["result"]) == (2, "unreadable")
    assert run(sealed(), None)[0] == 2
    assert verify(argparse.Namespace(file=Path("/nonexistent"), key=None, json=True)) == 2


def test_the_worst_record_decides(run: Any) -> None:
    bad = sealed(draft(reading("B"), reading("E", 60, status="M")), "T8")
    forged = sealed(pagination="T9").replace(b'"T9"', b'"T8"')
    assert run(b"\n".join((sealed(), bad)))[0] == 3
    assert run(b"\n".join((bad, forged)))[0] == 1
    assert run(b"\n".join((sealed(), b"OCMF|")))[0] == 2


def test_two_different_records_of_one_number_are_not_billable(run: Any) -> None:
    code, shown = run(sealed() + b"\n" + sealed(draft(reading("B"), reading("E", 1))))
    assert (code, "two different records T7" in shown) == (3, True)


def test_begin_and_end_are_judged_together(run: Any) -> None:
    begin, end = sealed(draft(reading("B"))), sealed(draft(reading("E", 60, 13_000_000)), "T8")
    code, text = run(begin + b"\n" + end, machine=True)
    assert (code, [len(one["records"]) for one in json.loads(text)["transactions"]]) == (0, [2])
    assert run(end + b"\n" + begin)[0] == 3
    assert run(begin)[0] == 3


def test_containers_bring_their_key_and_people_are_told(run: Any) -> None:
    own = signing_key().public_hex
    content = write_container(
        [
            SafeValue(
                signed=sealed(draft(reading("B"))), public_key=own, transaction_id=1, context="Transaction.Begin"
            ),
            SafeValue(signed=sealed(draft(reading("E")), "T8"), public_key=own, transaction_id=1),
        ]
    )
    code, shown = run(content, None)
    assert (code, "printed on the charger" in shown) == (0, True)
    assert "printed on the charger" not in run(content)[1]
    assert run(content.replace(b'"1" context', b'"2" context'), None)[0] == 3, "two transactions are no pair"


def test_a_signed_value_of_ocpp(run: Any) -> None:
    wrapped = signed_value_201(sealed(), signing_key().public_oca)
    assert run(json.dumps(wrapped).encode(), None)[0] == 0
    assert run(json.dumps([wrapped]).encode(), None)[0] == 0


def test_nothing_of_a_record_reaches_the_terminal_raw(run: Any) -> None:
    hostile = sealed().replace(b"EM-0042", b"\\u001b[2J[bold]\\u202e").replace(b"HEARSAY", b"\\u001b]0;x")
    for machine in (False, True):
        shown = run(hostile, machine=machine)[1]
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert "[bold]" in run(hostile)[1], "shown, not obeyed"


def test_times_beyond_the_calendar_are_shown_as_unknown(run: Any) -> None:
    record = sealed().replace(b"2026-09-21T16:13:20,000+0200", b"0001-01-01T00:00:00,000+9959")
    assert run(record)[0] == 1


@pytest.mark.parametrize("file", vector_files())
def test_published_records(file: Path, run: Any) -> None:
    code = run(file.read_bytes(), None)[0]
    expected = {"01": 0, "03": 0, "15": 0, "19": 0, "20": 0, "21": 0, "02": 1, "10": 1, "13": 1}
    assert code == expected.get(file.name[:2], 3)
