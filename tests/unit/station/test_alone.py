"""A second station on the same data or the same socket waits, then leaves without touching anything."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from agent.cli import processes
from agent.sim.stage import Stage
from agent.station import alone as module
from agent.station.alone import LOCK_FILE, NotAlone, alone
from agent.station.process import EXIT_NOT_ALONE


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("data, run", [("data", "run"), ("data", "other"), ("other", "run"), ("run", "data")])
def test_whoever_shares_a_directory_with_a_station_that_runs_is_refused(tmp_path: Path, data: str, run: str) -> None:
    with alone(tmp_path / "data", tmp_path / "run"):
        with pytest.raises(NotAlone, match="another station works on"), alone(tmp_path / data, tmp_path / run):
            raise AssertionError("it got in")
        with alone(tmp_path / "data2", tmp_path / "run2"):
            pass
    with alone(tmp_path / data, tmp_path / run):
        pass


@pytest.mark.usefixtures("impatient")
def test_one_directory_for_both_is_no_second_station(tmp_path: Path) -> None:
    with alone(tmp_path, tmp_path):
        pass


def test_a_station_that_is_just_ending_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = alone(tmp_path / "data", tmp_path / "run")
    first.__enter__()
    monkeypatch.setattr("time.sleep", lambda _: first.__exit__(None, None, None))
    with alone(tmp_path / "data", tmp_path / "run"):
        pass


@pytest.mark.usefixtures("impatient")
def test_a_second_station_process_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path, None, boards=("mcu_ac",), extra="[auth]\nfree = true\n")
    stage.lay_out()
    monkeypatch.setattr(processes, "configure_logs", lambda *_, **__: None)
    with alone(tmp_path / "data", tmp_path / "run"):
        assert processes.station(argparse.Namespace(config=stage.config_file)) == EXIT_NOT_ALONE
    assert "another station works on" in capsys.readouterr().err
    assert [each.name for each in (tmp_path / "data").iterdir()] == [LOCK_FILE]
    assert [each.name for each in (tmp_path / "run").iterdir()] == [LOCK_FILE]
