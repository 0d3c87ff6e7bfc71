"""What the page says of the CSMS: the one that worked last, and who chose it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agent.config.device_model import DeviceModel, ReportBase
from agent.config.load import load
from agent.config.model import CsmsConfig
from agent.config.networks import ACTIVE, settings_of
from agent.config.report import report_data
from agent.config.station_model import build_device_model
from agent.ipc.networks import NetworkProfile
from agent.web.machine_pages import _csms

CSMS = CsmsConfig(url="ws://file.example.com/ocpp")
CONFIG = replace(load(Path(__file__).parents[3] / "packaging" / "evsed.example.toml"), csms=CSMS)


def shown(model: DeviceModel) -> str:
    return _csms([report_data(entry) for entry in model.report(ReportBase.FULL)])


def test_the_csms_of_the_file_and_the_one_that_a_csms_has_set() -> None:
    model = build_device_model(CONFIG)
    assert shown(model) == "ws://file.example.com/ocpp"
    profile = NetworkProfile("ws://new.example.com/ocpp", "OCPP20", 0, 30, "Wired0")
    for name, value in settings_of(CSMS, 2, profile).items():
        model.put(name, value)
    assert shown(model) == "ws://file.example.com/ocpp", "it has not worked yet"
    model.put(ACTIVE, "2")
    assert shown(model) == "ws://new.example.com/ocpp (network profile 2, set by a CSMS)"
