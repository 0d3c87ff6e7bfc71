"""Which pilot boards there are, whatever is wrong with the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.load import load
from agent.config.pilot_lines import PilotLine, data_dir_of, keep, pilot_lines
from hal.boards import PilotDriver

ONE = PilotLine("/dev/ttyS1", PilotDriver.OPENEVSE, 115_200, 1)
TWO = PilotLine("/dev/ttyS2", PilotDriver.MCU, 9_600, 2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration without a mistake: a bundled board, and one of the integrator's."""
    (tmp_path / "site.toml").write_text("""\
kind = "ac"
source = "none"
interlocks = []
pilot = { driver = "mcu", baud = 9_600 }
meter = { map = "eastron_sdm630" }
limits = { max_current_ma = 16_000 }
""")
    (tmp_path / "ca.pem").touch()
    whole = tmp_path / "evsed.toml"
    whole.write_text(
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
ca_file = "ca.pem"
[auth]
free = true
"""
        + "".join(
            f"""\
[[evse]]
id = {number}
board = "{board}"
connector_type = "cType2"
cable = "fixed"
max_current_ma = 16_000
pilot.port = "/dev/ttyS{number}"
meter.port = "/dev/ttyUSB{number}"
"""
            for number, board in enumerate(("openevse", "site.toml"), 1)
        )
    )
    (tmp_path / "data").mkdir()
    return whole


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_lines_are_those_of_the_loaded_configuration(file: Path) -> None:
    config = load(file)
    assert pilot_lines(file) == [ONE, TWO]
    assert data_dir_of(file) == config.station.data_dir


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('serial = "1"', "serial = 1"),
        ("[auth]", "[autsh]"),
        ('meter.port = "/dev/ttyUSB1"', ""),
        ('"cType2"', '"cType3"'),
        ("id = 2", "id = 1"),
        ('data_dir = "data"', ""),
        ('"wss:', '"https:'),
    ],
)
def test_mistakes_elsewhere_hide_no_board(file: Path, old: str, new: str) -> None:
    change(file, old, new)
    assert pilot_lines(file) == [ONE, TWO]


def test_missing_files_hide_no_board(file: Path) -> None:
    (file.parent / "ca.pem").unlink()
    change(file.parent / "site.toml", 'meter = { map = "eastron_sdm630" }', "")
    assert pilot_lines(file) == [ONE, TWO]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('board = "site.toml"', ""),
        ('board = "site.toml"', "board = 5"),
        ('board = "site.toml"', "board = []"),
        ('board = "site.toml"', 'board = "gone.toml"'),
        ('board = "site.toml"', 'board = "evsed.toml"'),
        ('pilot.port = "/dev/ttyS2"', "pilot.port = 2"),
        ('pilot.port = "/dev/ttyS2"', "pilot = []"),
    ],
)
def test_a_board_that_cannot_be_known_hides_no_other(file: Path, old: str, new: str) -> None:
    change(file, old, new)
    assert pilot_lines(file) == [ONE]


BROKEN = {
    "a typo": b"\nnonsense =\n",
    "no text": b"\xff\xfe\n",
    "too deep": b"x = " + b"[" * 5_000,
    "a long number": b"x = " + b"9" * 5_000,
}


@pytest.mark.parametrize("added", BROKEN.values(), ids=BROKEN)
def test_the_note_of_the_last_start_tells_what_a_broken_file_does_not(file: Path, added: bytes) -> None:
    keep(load(file))
    file.write_bytes(file.read_bytes() + added)
    assert pilot_lines(file) == [ONE, TWO]


@pytest.mark.parametrize("text", ["", "evse = 5\n", 'evse = ["x"]\n', "[evse]\n"])
def test_the_note_is_where_the_caller_says_if_the_file_does_not(file: Path, text: str) -> None:
    keep(load(file))
    file.write_text(text)
    assert pilot_lines(file) == []
    assert pilot_lines(file, file.parent / "data") == [ONE, TWO]
    file.unlink()
    assert pilot_lines(file, file.parent / "data") == [ONE, TWO]


def test_boards_of_the_note_are_told_beside_those_of_a_new_file(file: Path) -> None:
    """Somebody has named another port; the station that charges still has the old one."""
    keep(load(file))
    change(file, "/dev/ttyS1", "/dev/ttyS3")
    assert [line.port for line in pilot_lines(file)] == ["/dev/ttyS3", "/dev/ttyS2", "/dev/ttyS1"]
    keep(load(file))
    assert [line.port for line in pilot_lines(file)] == ["/dev/ttyS3", "/dev/ttyS2"]


@pytest.mark.parametrize("note", ["", "{}", "[5]", '[{"port": 5}]', '[{"evse": 1, "port": "p", "driver": "x"}]'])
def test_a_note_that_says_nothing_hides_nothing(file: Path, note: str) -> None:
    keep(load(file))
    (kept,) = (file.parent / "data").iterdir()
    kept.write_text(note)
    assert pilot_lines(file) == [ONE, TWO]


def test_a_disk_that_takes_no_note_does_not_stop_the_station(file: Path) -> None:
    (file.parent / "data").rmdir()
    keep(load(file))
    assert pilot_lines(file) == [ONE, TWO]
