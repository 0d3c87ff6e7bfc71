"""``evsed usage`` against a station on its socket."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.usage.model import HOUR_MS, PAGE_HOURS, STATION, UsageHour
from tests.support.fake_station import T0_MS, FakeStation
from tests.support.station_socket import on_its_socket

pytestmark = pytest.mark.wire

NOW_HOUR = T0_MS // HOUR_MS  # 2026-11-24, 09:00 in Berlin
TODAY = NOW_HOUR - 9

CONFIG = """
[station]
identity = "CP-1"
vendor = "Example"
model = "Bench"
serial = "S-1"
time_zone = "Europe/Berlin"
data_dir = "data"
run_dir = "run"

[auth]
free = true

[[evse]]
id = 1
board = "mcu_ac"
connector_type = "sType2"
cable = "socket"
max_current_ma = 32_000
[evse.pilot]
port = "pilot"
[evse.meter]
port = "meter"
"""


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FakeStation]:
    """A station on its socket, in a thread of its own."""
    made = FakeStation(
        usage_hours=[
            UsageHour(TODAY - 24, 1, HOUR_MS, 40_000_000, 3, HOUR_MS // 2, HOUR_MS // 4, 11_000),
            UsageHour(TODAY - 24, STATION, HOUR_MS, peak_power_w=11_000, link_up_ms=HOUR_MS),
            UsageHour(TODAY, 1, HOUR_MS, 5_500_000, 1, HOUR_MS, HOUR_MS, 7_360, 2, 36_000),
            UsageHour(TODAY, STATION, HOUR_MS, peak_power_w=7_360, link_up_ms=HOUR_MS // 2),
        ]
    )
    with on_its_socket(made, tmp_path / "run"):
        yield made


def ask(folder: Path, *words: str) -> int:
    config = folder / "evsed.toml"
    config.write_text(CONFIG)
    return main(["usage", "--config", str(config), *words])


@pytest.mark.usefixtures("station")
def test_days_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 30 + 1
    assert lines[-3].split()[:8] == ["2026-11-23", "40.000", "3", "11.00", "50.0", "0", "100.0", "4.2"]
    assert lines[-2].split()[:8] == ["2026-11-24", "5.500", "1", "7.36", "100.0", "2", "50.0", "4.2"]
    assert lines[-3].count("█") > 6 * lines[-2].count("█") > 0
    assert lines[-1].split()[:5] == ["all", "45.500", "4", "11.00", "75.0"]


@pytest.mark.usefixtures("station")
def test_csv_has_units_in_its_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path, "--csv", "--by", "hour", "--from", "2026-11-24", "--to", "2026-11-24") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    assert len(rows) == 1 + 24
    assert rows[0][:5] == ["period", "length (h)", "energy (kWh)", "sessions", "peak (kW)"]
    assert rows[1] == [
        "2026-11-24 00:00 +0100",
        "1",
        "5.500",
        "1",
        "7.36",
        "100.0",
        "100.0",
        "2",
        "1.0",
        "50.0",
        "100.0",
    ]
    assert rows[2][1:] == ["1", "0.000", "0", "0.00", "", "", "0", "", "", "0.0"]


@pytest.mark.usefixtures("station")
def test_json_of_months_and_one_evse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path, "--json", "--by", "month", "--evse", "2", "--from", "2026-11-01", "--to", "2026-11-30") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["by"], said["evse"]) == ("month", 2)
    (november,) = said["rows"]
    assert (november["period"], november["length_h"]) == ("2026-11", 720)
    assert (november["energy_import_mwh"], november["occupied"], november["link_up"]) == (0, None, 0.75)


def test_long_times_are_asked_for_page_by_page(
    station: FakeStation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    station.usage_hours = [UsageHour(hour, 1, energy_import_mwh=1_000_000) for hour in range(TODAY - 900, TODAY)]
    assert ask(tmp_path, "--json", "--from", "2026-10-01", "--to", "2026-11-24") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert sum(row["energy_import_mwh"] for row in rows) == 900_000_000
    assert PAGE_HOURS < 900


@pytest.mark.usefixtures("station")
@pytest.mark.parametrize("first, last", [("2026-11-25", "2026-11-24"), ("2020-01-01", "2026-11-24")])
def test_days_that_make_no_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: str, last: str
) -> None:
    assert ask(tmp_path, "--from", first, "--to", last) == 2
    assert "days" in capsys.readouterr().err


def test_without_a_station_there_is_nothing_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path) == 69
    assert "station" in capsys.readouterr().err
