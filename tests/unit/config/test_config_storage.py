"""A configuration that cannot be read just now, or names a file that is away, is none that a person has to change."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cli import processes
from agent.cli.checks import check_config
from agent.cli.processes import EXIT_CONFIG, EXIT_IO, gateway, load_config, station
from agent.config.load import load
from agent.config.problem import ConfigError

FILE = """
[station]
identity = "CP-1"
vendor = "Example"
model = "Wallbox"
serial = "1"
data_dir = "data"
run_dir = "run"

[csms]
url = "wss://csms.example.com/ocpp"
ca_file = "ca.pem"

{web}

[[evse]]
id = 1
board = "mcu_ac"
connector_type = "cType2"
cable = "fixed"
max_current_ma = 16_000
pilot = {{ port = "/dev/ttyS91" }}
meter = {{ port = "/dev/ttyS92" }}
"""
WEB = """
[web]
certificate_file = "web.pem"
key_file = "web.key"
"""
CODES = [(errno.EIO, True), (errno.ENOMEM, True), (errno.EACCES, False)]


@pytest.fixture(autouse=True)
def waited_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What a process would have waited before its end."""
    waits: list[float] = []
    monkeypatch.setattr(processes, "sleep", waits.append)
    return waits


def written(folder: Path, web: str = "") -> Path:
    for name in ("ca.pem", "web.pem", "web.key"):
        (folder / name).write_text("")
    file = folder / "evsed.toml"
    file.write_text(FILE.format(web=web))
    return file


def ending(process: Callable[[argparse.Namespace], int], file: Path) -> int:
    """The exit code of a process with this configuration."""
    try:
        return process(argparse.Namespace(config=file))
    except SystemExit as end:
        return int(str(end.code))


def break_file(monkeypatch: pytest.MonkeyPatch, method: str, name: str, code: int) -> None:
    """The one file cannot be read, for this reason."""
    really = getattr(Path, method)

    def failing(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.name == name:
            raise OSError(code, os.strerror(code))
        return really(path, *arguments, **more)

    monkeypatch.setattr(Path, method, failing)


@pytest.mark.parametrize(("code", "passing"), CODES)
@pytest.mark.parametrize(("method", "name"), [("open", "evsed.toml"), ("is_file", "ca.pem")])
def test_what_only_a_person_can_change_is_told_from_what_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, name: str, code: int, passing: bool
) -> None:
    file = written(tmp_path)
    assert load(file).csms is not None
    break_file(monkeypatch, method, name, code)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.passing is passing


@pytest.mark.parametrize(("code", "ends_with"), [(errno.EIO, EXIT_IO), (errno.EACCES, EXIT_CONFIG)])
def test_nobody_starts_a_station_again_after_78(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, ends_with: int
) -> None:
    file = written(tmp_path)
    break_file(monkeypatch, "open", "evsed.toml", code)
    assert ending(station, file) == ends_with


@pytest.mark.parametrize("process", [station, gateway])
@pytest.mark.parametrize("name", ["ca.pem", "web.pem", "web.key"])
def test_a_file_that_is_renewed_at_the_moment_is_waited_for(
    tmp_path: Path,
    process: Callable[[argparse.Namespace], int],
    name: str,
    capsys: pytest.CaptureFixture[str],
    waited_s: list[float],
) -> None:
    """Both processes read the whole configuration, whichever of them needs the file."""
    file = written(tmp_path, WEB)
    (tmp_path / name).unlink()
    assert ending(process, file) == EXIT_IO
    assert waited_s == [10.0], "systemd starts it again a second later, for ever"
    assert f"'{name}' (no file {tmp_path / name})" in capsys.readouterr().err
    (tmp_path / name).write_text("")
    assert load(file).web is not None


@pytest.mark.parametrize("name", ["ca.pem", "web.pem", "web.key"])
def test_a_directory_in_the_place_of_a_file_is_a_persons(tmp_path: Path, name: str, waited_s: list[float]) -> None:
    file = written(tmp_path, WEB)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert ending(station, file) == EXIT_CONFIG
    assert waited_s == []


def test_a_command_does_not_wait(tmp_path: Path, waited_s: list[float]) -> None:
    file = written(tmp_path)
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(SystemExit) as end:
        load_config(argparse.Namespace(config=file), "cli")
    assert (end.value.code, waited_s) == (EXIT_IO, [])


def test_a_person_who_asks_is_told_of_a_file_that_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path)
    (tmp_path / "ca.pem").unlink()
    assert check_config(argparse.Namespace(file=file, json=False)) == 1
    told = capsys.readouterr().out
    assert "csms.ca_file" in told and f"'ca.pem' (no file {tmp_path / 'ca.pem'})" in told


def test_the_configuration_itself_is_a_persons(tmp_path: Path) -> None:
    assert ending(station, tmp_path / "evsed.toml") == EXIT_CONFIG
