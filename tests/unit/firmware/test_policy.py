"""Whether updates can be judged at all: what a new image is asked, and what ``evsed check-config`` tells of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import pytest

from agent.cli.main import main as evsed
from agent.config.load import check_file
from agent.config.update import EngineKind
from agent.firmware.policy import DevicePolicy
from tests.support.update_kit import UpdateKit
from tests.support.update_world import config
from tests.unit.firmware.bundle.pki import ROOT

RAUC: Final = {"engine": EngineKind.RAUC}


def faults(folder: Path, **settings: Any) -> list[str]:
    """Of which settings, where each file is ``good`` or ``bad``."""
    (folder / "good").write_text(ROOT.certificate_pem)
    (folder / "bad").write_text("rubbish")
    found = {name: folder / value if value in ("good", "bad") else value for name, value in settings.items()}
    device = dataclasses.replace(config(folder), **found)
    return [name for name, _ in DevicePolicy(device, lambda: 0).faults()]


@pytest.mark.parametrize(
    ("settings", "at_fault"),
    [
        ({}, []),
        ({"manufacturer_roots": "good"}, []),
        ({"roots": "bad", "manufacturer_roots": "bad", "revoked": "bad"}, ["roots", "manufacturer_roots", "revoked"]),
        ({"roots": "bad", "manufacturer_roots": "good"}, ["roots"]),
        (RAUC | {"roots": "bad"}, ["roots"]),
        (RAUC | {"roots": "bad", "manufacturer_roots": "good"}, []),  # its bundles are judged by a keyring of its own
    ],
)
def test_what_nothing_could_be_judged_by(tmp_path: Path, settings: dict[str, Any], at_fault: list[str]) -> None:
    assert faults(tmp_path, **settings) == at_fault


def test_check_config_reads_what_updates_are_judged_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The processes start all the same: charging does not need it."""
    kit = UpdateKit(tmp_path)
    assert evsed(["check-config", str(kit.config)]) == 0
    (tmp_path / "roots.pem").write_text(kit.maker.root_pem[:200])
    assert check_file(kit.config) == []
    capsys.readouterr()
    assert evsed(["check-config", str(kit.config), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["path"], problem["found"]) == ("update.roots", "roots: 0 whole certificates, 1 to 64 belong there")
