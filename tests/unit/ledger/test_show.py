"""``evsed ledger show``: the newest rows are the newest, however many are wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import ledger
from agent.cli.main import main
from agent.ledger.reader import LedgerReader
from tests.unit.ledger.making import new_row, opened, write

EXAMPLE = Path(__file__).parents[3] / "packaging" / "evsed.example.toml"
ROWS = 23


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a station whose ledger is many pages long."""
    monkeypatch.setattr(ledger, "_PAGE_ROWS", 5)
    path = tmp_path / "ledger.sqlite"
    opened(path)
    write(path, *(new_row(number) for number in range(ROWS)))
    made = tmp_path / "evsed.toml"
    made.write_text(EXAMPLE.read_text().replace('data_dir = "/var/lib/evsed"', f'data_dir = "{tmp_path}"'))
    return made


@pytest.mark.parametrize("last", [1, 4, 5, 6, 10, 17, ROWS, 1_000])
def test_the_newest_rows(config: Path, last: int, capsys: pytest.CaptureFixture[str]) -> None:
    with LedgerReader(config.parent / "ledger.sqlite") as reader:
        head = reader.head().seq
    assert main(["ledger", "show", "--json", "--last", str(last), "--config", str(config)]) == 0
    shown = [row["seq"] for row in json.loads(capsys.readouterr().out)]
    assert shown == list(range(max(1, head - last + 1), head + 1))
