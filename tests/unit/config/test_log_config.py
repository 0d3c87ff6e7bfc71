"""What the configuration says of logs, and what the CSMS hears of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.load import load
from agent.config.model import UploadMethod, UploadScheme
from agent.config.problem import ConfigError
from agent.config.station_model import build_device_model
from agent.config.variable import Key

PROTOCOLS = Key.parse("OCPPCommCtrlr.FileTransferProtocols")

CONFIG = """
[station]
identity = "CP-1"
vendor = "Example"
model = "Box"
serial = "S1"
data_dir = "/d"
run_dir = "/run/evsed"
[auth]
free = true
[[evse]]
id = 1
board = "mcu_ac"
connector_type = "sType2"
cable = "socket"
max_current_ma = 32_000
pilot = { port = "/dev/p1" }
meter = { port = "/dev/m1" }
"""

UPDATE = """
[update]
compatible = "x"
roots = "roots.pem"
state_dir = "/s"
schemes = ["file", "ftp"]
slot = [{ a = "/dev/a", b = "/dev/b" }]
"""


def configured(folder: Path, more: str) -> Path:
    (folder / "roots.pem").touch()
    (folder / "evsed.toml").write_text(CONFIG + more)
    return folder / "evsed.toml"


@pytest.mark.parametrize(
    ("more", "protocols"),
    [
        ("", "HTTPS,HTTP,FTPS,FTP"),
        ('[log]\nupload_schemes = ["ftps", "https"]\n', "HTTPS,FTPS"),
        ("[log]\nupload_schemes = []\n", ""),
        (UPDATE + "[log]\nupload_schemes = []\n", "FTP"),
        (UPDATE + '[log]\nupload_schemes = ["https"]\n', "HTTPS,FTP"),
    ],
)
def test_protocols_are_those_of_uploads_and_updates(tmp_path: Path, more: str, protocols: str) -> None:
    assert build_device_model(load(configured(tmp_path, more))).text(PROTOCOLS) == protocols


def test_defaults(tmp_path: Path) -> None:
    log = load(configured(tmp_path, "")).log
    assert (log.upload_schemes, log.upload_method) == (tuple(UploadScheme), UploadMethod.PUT)
    assert (log.upload_ca_file, log.upload_rate_kib_s) == (None, 0)


@pytest.mark.parametrize(
    "more", ['upload_schemes = ["file"]', 'upload_method = "patch"', 'upload_ca_file = "none.pem"']
)
def test_mistakes_are_named(tmp_path: Path, more: str) -> None:
    with pytest.raises(ConfigError, match=rf"log\.{more.partition(' ')[0]}"):
        load(configured(tmp_path, f"[log]\n{more}\n"))


def test_each_process_has_a_folder_of_its_own(tmp_path: Path) -> None:
    station = load(configured(tmp_path, "")).station
    folders = {process: str(station.log_folder(process)) for process in ("station", "gateway", "installer")}
    assert folders == {
        "station": "/run/evsed/log",
        "gateway": "/run/evsed-gateway/log",
        "installer": "/run/evsed-installer/log",
    }
