"""Configuration files: what loads, and how every kind of mistake is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.config.check import render
from agent.config.load import check_file, load
from agent.config.model import CanInterface, Config, LogFormat, OcppVersion
from agent.config.problem import ConfigError, Problem
from hal.boards import BoardKind, Parity

STATION = """
[station]
identity = "CP-1"
vendor = "Example"
model = "Box"
serial = "S1"
data_dir = "data"
run_dir = "/run/evsed"
"""
CSMS = """
[csms]
url = "ws://127.0.0.1:9000/ocpp"
"""
EVSE = """
[[evse]]
id = 1
board = "mcu_ac"
connector_type = "sType2"
cable = "socket"
max_current_ma = 32_000
[evse.pilot]
port = "/dev/ttyS1"
[evse.meter]
port = "/dev/ttyS2"
"""
DC = """
[[evse]]
id = 1
board = "mcu_dc"
connector_type = "cCCS2"
cable = "fixed"
max_current_ma = 60_000
[evse.pilot]
port = "/dev/ttyS1"
[evse.meter]
port = "/dev/ttyS2"
[evse.power]
interface = "slcan"
channel = "/dev/ttyACM0"
modules = [0, 1]
[evse.fixed_output]
voltage_mv = 400_000
current_ma = 10_000
"""
GOOD = STATION + CSMS + EVSE

Check = Callable[[str], dict[str, Problem]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "evsed.toml"


@pytest.fixture
def check(file: Path) -> Check:
    def run(text: str) -> dict[str, Problem]:
        file.write_text(text)
        problems = check_file(file)
        found = {problem.path: problem for problem in problems}
        assert len(found) == len(problems), problems
        return found

    return run


def loaded(file: Path, text: str) -> Config:
    file.write_text(text)
    return load(file)


# ------------------------------------------------------------------------------------ good files


def test_a_small_file_gets_its_defaults(file: Path) -> None:
    config = loaded(file, GOOD)
    assert config.station.data_dir == file.parent / "data"  # relative to the file, not to the process
    assert config.station.run_dir == Path("/run/evsed")
    assert config.csms is not None
    assert config.csms.versions == (OcppVersion.V201, OcppVersion.V16)
    assert config.limits.offline_current_ma is None
    assert config.session.resume_window_s == 60
    assert config.log.format is LogFormat.AUTO
    (evse,) = config.evse
    assert (evse.meter_map, evse.meter_baud, evse.meter_parity) == ("eastron_sdm630", 9_600, Parity.NONE)
    assert evse.board.kind is BoardKind.AC
    assert evse.max_power_w == 3 * 230 * 32


def test_every_table_can_be_given(file: Path) -> None:
    (file.parent / "secret").write_text("0123456789abcdef")
    text = (
        STATION
        + """
[csms]
url = "wss://csms.example.com/ocpp/"
versions = ["1.6"]
security_profile = 2
password_file = "secret"
authorization_key_encoding = "hex"
[limits]
supply_current_ma = 32_000
offline_current_ma = 0
[session]
resume_window_s = 0
[auth]
free = false
[log]
level = "debug"
format = "json"
[timing]
lock_ms = 1_000
[settings]
"TxCtrlr.EVConnectionTimeOut" = 30
AuthCtrlr.LocalPreAuthorize = true
SampledDataCtrlr.TxEndedMeasurands = ["Voltage", "Energy.Active.Import.Register"]
[[token]]
id = "04AABB"
group = "family"
expires = 2030-01-01T00:00:00Z
"""
        + DC.replace("[evse.power]", 'unit = 7\nbaud = 19_200\nparity = "E"\nmap = "eastron_sdm72"\n[evse.power]')
    )
    config = loaded(file, text)
    (evse,) = config.evse
    assert config.csms is not None and config.csms.password_file == file.parent / "secret"
    assert config.timing.lock_ms == 1_000
    assert config.settings["AuthCtrlr.LocalPreAuthorize"] == "true"
    assert config.settings["SampledDataCtrlr.TxEndedMeasurands"] == "Voltage,Energy.Active.Import.Register"
    assert config.token[0].expires == datetime(2030, 1, 1, tzinfo=UTC)
    assert evse.power is not None and evse.power.interface is CanInterface.SLCAN
    assert (evse.meter.unit, evse.meter_map, evse.meter_baud) == (7, "eastron_sdm72", 19_200)
    assert evse.meter_parity is Parity.EVEN
    assert evse.max_power_w == 30_000  # the modules' limit, below 1000 V x 60 A


# ---------------------------------------------------------------------------------- syntax, files


def test_a_syntax_error_is_told_with_line_and_column(check: Check) -> None:
    (problem,) = check('[station]\nidentity = "x\n').values()
    assert problem.path == "line 2, column 14"
    (problem,) = check("[station]\nidentity = ").values()
    assert problem.path in ("end of file", "line 2, column 12")


def test_a_file_that_is_no_text_is_told_with_its_line(file: Path) -> None:
    file.write_bytes(b"[station]\nidentity = '\xff'\n")
    (problem,) = check_file(file)
    assert (problem.path, problem.found) == ("line 2", "byte 0xff")


def test_a_missing_file_and_a_huge_file(file: Path) -> None:
    (problem,) = check_file(file)
    assert problem.found == "No such file or directory"
    file.write_text("#" * 300_000)
    (problem,) = check_file(file)
    assert problem.expected == "at most 262144 bytes"


# ---------------------------------------------------------------------------------- single values


def test_all_mistakes_are_told_at_once_with_their_paths(check: Check) -> None:
    text = """
nonsense = 1
[station]
identity = "CP:1"
vendr = "Example"
model = 5
[csms]
url = "http://x"
password_file = "nope"
[timing]
release_ms = 60_000
[[evse]]
id = true
pilot = 3
[evse.meter]
unit = "1"
[[evse]]
board = "none"
"""
    found = check(text)
    assert set(found) >= {
        "nonsense",
        "station.identity",
        "station.vendor",
        "station.vendr",
        "station.model",
        "station.run_dir",
        "csms.url",
        "csms.password_file",
        "timing.release_ms",
        "evse[0].id",
        "evse[0].pilot",
        "evse[0].meter.port",
        "evse[0].meter.unit",
        "evse[1].board",
        "evse[1].meter",
    }
    assert found["station.vendr"].example == "vendor"
    assert found["station.run_dir"] == Problem("station.run_dir", "a path", "nothing", 'run_dir = "/run/evsed"')
    assert found["evse[0].id"] == Problem("evse[0].id", "a whole number from 1 to 64", "true", "1")
    assert found["evse[1].meter"].example == "[evse.meter]"


WRONG_VALUES = (
    ("station.identity", STATION.replace("CP-1", "x" * 49)),
    ("station.identity", STATION.replace("CP-1", "a\\nb")),
    ("station.time_zone", STATION + 'time_zone = "Mars/Olympus"'),
    ("session", STATION + "[[session]]"),
    ("session.resume_window_s", STATION + "[session]\nresume_window_s = 1.0"),
    ("session.resume_window_s", STATION + "[session]\nresume_window_s = -1"),
    ("auth.free", STATION + "[auth]\nfree = 1"),
    ("limits.supply_current_ma", STATION + "[limits]\nsupply_current_ma = 5_999"),
    ("csms.url", STATION + '[csms]\nurl = ""'),
    ("csms.url", STATION + '[csms]\nurl = "wss://me:secret@host"'),
    ("csms.url", STATION + '[csms]\nurl = "ws://host:99999"'),
    ("csms.url", STATION + '[csms]\nurl = "ws:///path"'),
    ("csms.versions", STATION + CSMS + 'versions = ["1.6", "1.6"]'),
    ("csms.versions", STATION + CSMS + "versions = []"),
    ("csms.versions", STATION + CSMS + 'versions = ["2.0"]'),
    ("csms.versions", STATION + CSMS + 'versions = "1.6"'),
    ("token[0].expires", STATION + '[[token]]\nid = "1"\nexpires = 2030-01-01T00:00:00'),
    ("token", STATION + '[token]\nid = "1"'),
    ("settings", STATION + "[settings]\na.b = [1]"),
    ("settings", STATION + "[settings]\na.b = nan"),
    ("timing.over_current_factor_percent", STATION + "[timing]\nover_current_factor_percent = 150"),
)


@pytest.mark.parametrize(("path", "text"), WRONG_VALUES)
def test_each_wrong_value_is_told_under_its_key(check: Check, path: str, text: str) -> None:
    assert path in check(text)


def test_the_scheme_of_an_address_is_kept_in_small_letters(file: Path, check: Check) -> None:
    """RFC 3986 3.1: WSS:// is wss://, and must not be taken for a link without TLS anywhere."""
    text = STATION + f'[csms]\nurl = "WSS://Host/Path"\npassword_file = "{file}"\nsecurity_profile = '
    assert set(check(text + "1\n" + EVSE)) == {"csms.security_profile"}
    assert check(text + "2\n" + EVSE) == {}
    csms = load(file).csms
    assert csms is not None and csms.url == "wss://Host/Path"


def test_the_password_of_a_url_is_not_asked_for_in_the_file(check: Check) -> None:
    problem = check(STATION + '[csms]\nurl = "wss://me:secret@host"' + EVSE)["csms.url"]
    assert "holds no password" in problem.expected


# ------------------------------------------------------------------------------------- rendering


def test_problems_are_rendered_in_plain_words() -> None:
    problems = [Problem("a.b", "a path", "nothing", 'b = "/x"'), Problem("c", "one", "two")]
    assert render("f.toml", problems) == (
        "f.toml: 2 problems\n"
        '  a.b\n    expected  a path\n    found     nothing\n    try       b = "/x"\n'
        "  c\n    expected  one\n    found     two\n"
    )
    assert render("f.toml", problems[1:]).startswith("f.toml: 1 problem\n")
    assert render("f.toml", []) == "f.toml: good\n"


def test_the_error_names_file_and_all_problems(file: Path) -> None:
    file.write_text(STATION)
    with pytest.raises(ConfigError, match=r"evsed\.toml: 1 problem\(s\)\nevse: expected a table, found nothing"):
        load(file)
