"""Lines that stand for their rows, to the last bit."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import export
from agent.ledger.export import export_lines
from agent.ledger.reader import LedgerReader
from agent.ledger.rows import Row
from tests.unit.ledger.making import new_row, opened, read_all, verify, write


def row_of(line: str) -> Row:
    fields: dict[str, Any] = json.loads(line)
    encoded = fields.pop("body_base64", None)
    fields["body"] = fields["body"].encode() if encoded is None else base64.b64decode(encoded)
    for name in ("prev_hash", "hash"):
        fields[name] = bytes.fromhex(fields[name])
    return Row(**fields)


def test_the_chain_can_be_proved_from_the_lines_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_PAGE_ROWS", 3)
    path = tmp_path / "ledger.db"
    opened(path)
    bodies = [b"", b"\xff\x00", "Zähler\n\u2028".encode(), b'{"a":1}', b"OCMF|{}|{}", bytes(range(256))]
    write(path, *(new_row(n, body=body, tx_id="T") for n, body in enumerate(bodies)))
    with LedgerReader(path) as reader:
        lines = list(export_lines(reader))
        assert [row_of(line).seq for line in export_lines(reader, 3, 5)] == [3, 4, 5]
        assert [row_of(line).seq for line in export_lines(reader, 6)] == [6, 7]
        assert list(export_lines(reader, 8)) == list(export_lines(reader, 5, 4)) == []
    assert [row_of(line) for line in lines] == read_all(path)
    assert verify([row_of(line) for line in lines]).seq == 7
    assert not any("\n" in line for line in lines)
    assert '"body":"OCMF|{}|{}"' in lines[5]
