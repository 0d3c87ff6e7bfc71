"""``evsed make-safe`` as its unit calls it, with boards that are ptys."""

from __future__ import annotations

import os
import subprocess
import sys
import termios
from pathlib import Path
from unittest import mock

import pytest

from agent import safe
from agent.config.load import load
from agent.config.pilot_lines import keep
from agent.safe import make_safe
from hal.sim.pty import PtyLink

pytestmark = pytest.mark.wire

OPEN = b"\r$FD^26\r"


class Charger:
    """Two OpenEVSE boards, and a configuration without a mistake."""

    def __init__(self, folder: Path) -> None:
        self.boards = [PtyLink(folder / f"pilot{number}") for number in (1, 2)]
        for board in self.boards:
            os.set_blocking(board.master_fd, False)
        self.data_dir = folder / "data"
        self.data_dir.mkdir()
        self.ca_file = folder / "csms-ca.pem"
        self.ca_file.touch()
        self.file = folder / "evsed.toml"
        self.file.write_text(
            """\
[station]
identity = "CP-0001"
vendor = "Example"
model = "W"
serial = "1"
data_dir = "data"
run_dir = "run"
[csms]
url = "wss://csms.example.com/ocpp"
ca_file = "csms-ca.pem"
[auth]
free = true
"""
            + "".join(
                f"""\
[[evse]]
id = {number}
board = "openevse"
connector_type = "cType2"
cable = "fixed"
max_current_ma = 16_000
pilot.port = "{board.path}"
meter.port = "meter{number}"
"""
                for number, board in enumerate(self.boards, 1)
            )
        )

    def make_safe(self, **environment: str) -> int:
        """The command's exit code."""
        command = [sys.executable, "-m", "agent.cli", "make-safe", "--config", str(self.file)]
        return subprocess.run(command, env=os.environ | environment, timeout=30, check=False).returncode

    def heard(self) -> list[bytes]:
        said = []
        for board in self.boards:
            try:
                said.append(os.read(board.master_fd, 1_000))
            except BlockingIOError:
                said.append(b"")
        return said


@pytest.fixture
def charger(tmp_path: Path) -> Charger:
    return Charger(tmp_path)


def test_boards_are_told_though_a_file_is_gone_that_has_nothing_to_do_with_them(charger: Charger) -> None:
    charger.ca_file.unlink()
    assert charger.make_safe() == 0
    assert charger.heard() == [OPEN, OPEN]


def test_boards_of_the_last_start_are_told_though_the_file_is_broken(charger: Charger) -> None:
    keep(load(charger.file))
    with charger.file.open("a") as file:
        file.write("nonsense =\n")
    assert charger.make_safe() == 0
    assert charger.heard() == [OPEN, OPEN]


def test_boards_of_the_last_start_are_told_though_the_file_is_gone(charger: Charger) -> None:
    """systemd tells where the note is."""
    keep(load(charger.file))
    charger.file.unlink()
    assert charger.make_safe() == 1, "nothing is known"
    assert charger.make_safe(STATE_DIRECTORY=str(charger.data_dir)) == 0
    assert charger.heard() == [OPEN, OPEN]


@pytest.mark.parametrize("port", ["gone", "csms-ca.pem", "a\0b", ""])
def test_a_port_that_is_none_keeps_no_other_board_closed(charger: Charger, port: str) -> None:
    text = charger.file.read_text()
    charger.file.write_text(text.replace(charger.boards[0].path, port.replace("\0", "\\u0000")))
    assert not make_safe(charger.file)
    assert charger.heard() == [b"", OPEN]


def test_a_line_that_takes_nothing_keeps_no_other_board_closed(charger: Charger) -> None:
    stopped = os.open(charger.boards[0].path, os.O_RDWR | os.O_NOCTTY)
    termios.tcflow(stopped, termios.TCOOFF)
    assert not make_safe(charger.file)
    assert charger.heard() == [b"", OPEN]
    os.close(stopped)


def test_a_line_that_keeps_what_it_takes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pty keeps nothing; here it is a driver that never gets rid of its bytes."""
    monkeypatch.setattr(safe, "_WRITE_TIMEOUT_S", 0.02)
    port = mock.Mock(spec=["out_waiting", "reset_output_buffer"], out_waiting=9)
    with pytest.raises(TimeoutError):
        safe._drain(port)
    port.reset_output_buffer.assert_called_once_with()  # else close() would wait for them
