"""``evsed health`` over a real socket, against a station that is a notebook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.core.commands import ClearFaults
from agent.core.status import Outcome
from agent.health.catalogue import CATALOGUE
from agent.health.model import Condition, Part, PartHealth
from agent.ipc.port import CommandAnswer
from tests.support.fake_station import T0_MS, FakeStation
from tests.support.station_socket import on_its_socket

pytestmark = pytest.mark.wire
EXAMPLE = Path(__file__).parents[3] / "packaging" / "evsed.example.toml"
WELDED = CATALOGUE["contactor_welded"]
FAULT = PartHealth(
    *(Part.CONTACTOR, 1, Condition.FAULT, WELDED.code, WELDED.text, WELDED.remedy, T0_MS), latched=WELDED.latched
)
WELL = [PartHealth(Part.METER, 1, Condition.OK, since_wall_ms=T0_MS), PartHealth(Part.READER, 0, Condition.ABSENT)]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FakeStation]:
    """On its socket, in a thread of its own."""
    made = FakeStation(parts=list(WELL))
    with on_its_socket(made, tmp_path):
        yield made


def ask(folder: Path, *words: str) -> int:
    config = folder / "evsed.toml"
    config.write_text(EXAMPLE.read_text().replace('run_dir = "/run/evsed"', f'run_dir = "{folder}"'))
    return main([*words, "--config", str(config)])


def test_a_station_that_is_well(tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path, "health") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["meter", "1", "ok", "2026-11-24", "08:00:00"]
    assert lines[2].split() == ["reader", "absent"]
    assert lines[-1] == "nothing is wrong"


def test_a_fault_in_plain_words_with_what_to_do(
    tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str]
) -> None:
    station.parts.append(FAULT)
    assert ask(tmp_path, "health") == 1
    out = capsys.readouterr().out
    for words in ("contactor 1", "fault", WELDED.text, WELDED.remedy, "`evsed health --clear 1`", "1 fault"):
        assert words in " ".join(out.split())


def test_a_warning_is_something_wrong_too(
    tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str]
) -> None:
    station.parts.append(PartHealth(Part.CLOCK, 0, Condition.WARNING, "clock_unset", "x", "y"))
    assert ask(tmp_path, "health") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 warning"


def test_json_is_what_the_port_says(tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str]) -> None:
    station.parts.append(FAULT)
    assert ask(tmp_path, "health", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 3
    assert found[2]["code"] == "contactor_welded"
    assert found[2]["latched"] is True


@pytest.mark.parametrize("words", [("health",), ("status", "--watch", "--json")])
def test_without_a_station(tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path, *words) == 69
    assert "station does not answer" in capsys.readouterr().err


def test_watching_needs_a_terminal(tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path, "status", "--watch") == 2
    assert "--json" in capsys.readouterr().err


def test_who_clears_is_told_with_the_command(
    tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "technician")
    assert ask(tmp_path, "health", "--clear", "1") == 0
    (command,) = station.commands
    assert isinstance(command, ClearFaults)
    assert command.evse == 1
    assert command.who.startswith("technician as ")
    assert command.who.endswith(", command line")
    assert "no fault is left" in capsys.readouterr().out


def test_what_cannot_be_cleared_is_told(
    tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str]
) -> None:
    station.parts.append(FAULT)
    station.outcomes[ClearFaults] = CommandAnswer(Outcome.REJECTED)
    assert ask(tmp_path, "health", "--clear", "1") == 1
    out = capsys.readouterr().out
    assert WELDED.text in out
    assert WELDED.remedy in out
    station.outcomes[ClearFaults] = CommandAnswer(Outcome.UNKNOWN_EVSE)
    assert ask(tmp_path, "health", "--clear", "7") == 1
    assert "there is no EVSE 7" in capsys.readouterr().out
