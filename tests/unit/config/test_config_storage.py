"""A configuration that cannot be read just now is none that a person has to change."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from agent.cli.processes import EXIT_CONFIG, EXIT_IO, station
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

[[evse]]
id = 1
board = "mcu_ac"
connector_type = "cType2"
cable = "fixed"
max_current_ma = 16_000
pilot = { port = "/dev/ttyS91" }
meter = { port = "/dev/ttyS92" }
"""
CODES = [(errno.EIO, True), (errno.ENOMEM, True), (errno.EACCES, False), (errno.ENOENT, False)]


def written(folder: Path) -> Path:
    (folder / "ca.pem").write_text("")
    file = folder / "evsed.toml"
    file.write_text(FILE)
    return file


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
    try:
        found = station(argparse.Namespace(config=file))
    except SystemExit as end:
        found = int(str(end.code))
    assert found == ends_with
