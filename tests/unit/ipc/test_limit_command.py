"""``evsed limit`` over a real socket, against a station that is a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.ipc.port import StationStatus
from tests.support.fake_station import FakeStation
from tests.support.station_socket import on_its_socket
from tests.support.web_rig import view

pytestmark = pytest.mark.wire
EXAMPLE = Path(__file__).parents[3] / "packaging" / "evsed.example.toml"


class Charging(FakeStation):
    async def status(self) -> StationStatus:
        return replace(await super().status(), evses=(view(1, tx_id="tx-1"), view(2)))


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FakeStation]:
    """On its socket, in a thread of its own."""
    made = Charging()
    with on_its_socket(made, tmp_path):
        yield made


def limit(folder: Path, *words: str) -> int:
    config = folder / "evsed.toml"
    config.write_text(EXAMPLE.read_text().replace('run_dir = "/run/evsed"', f'run_dir = "{folder}"'))
    return main(["limit", *words, "--config", str(config)])


def test_a_limit_is_told_as_a_technician_s(tmp_path: Path, station: FakeStation) -> None:
    assert limit(tmp_path, "--max-energy-wh", "20000", "--max-cost", "8") == 0
    assert station.limits == [("tx-1", "8", 20_000, None)] and station.limits_of_technicians == 1


def test_why_a_limit_is_refused_is_said(
    tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str]
) -> None:
    station.limit_status = "Rejected: no tariff prices this transaction"
    assert limit(tmp_path, "--max-cost", "8") == 1
    assert capsys.readouterr().out == "no tariff prices this transaction\n"


def test_without_any_limit_nothing_is_told(
    tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert limit(tmp_path) == 2
    assert "--max-cost" in capsys.readouterr().err
    assert station.limits == []


def test_without_a_transaction_there_is_nothing_to_limit(
    tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert limit(tmp_path, "--evse", "2", "--max-cost", "5") == 1
    assert "no transaction runs" in capsys.readouterr().out
    assert station.limits == []
