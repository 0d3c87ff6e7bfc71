"""What upkeep and updates know to be wrong, as the station's health asks them: when it comes and when it goes."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.config.device_model import DeviceModel
from agent.config.load import load
from agent.config.station_model import build_specs
from agent.config.update import UpdateConfig
from agent.core.facts import UpdateVia
from agent.firmware.client import InstallerAway
from agent.firmware.machine import Update
from agent.firmware.phases import Phase
from agent.firmware.view import InstallerView, SlotView
from agent.health.catalogue import CATALOGUE
from agent.health.fold import Finding
from agent.ipc.codec import to_plain
from agent.ipc.updates import UpdateRequest
from agent.sim.virtual_time import run_virtual
from agent.station.self_test import DeviceWatch
from agent.station.updates import Updates
from tests.unit.station.test_upkeep import TARIFF, World, upkeep
from tests.unit.station.update_bench import EXAMPLE, Around


def codes(troubles: Callable[[], Any]) -> dict[str, str]:
    """What is wrong now, with its detail; all of it is in the catalogue."""
    found: list[Finding] = list(troubles())
    assert {finding.code for finding in found} <= set(CATALOGUE)
    return {finding.code: finding.detail for finding in found}


# ------------------------------------------------------------------------------------------ upkeep


def test_upkeep_that_finds_all_well(tmp_path: Path) -> None:
    care = upkeep(tmp_path, World())
    care.look_at_room()
    assert codes(care.troubles) == {}


def test_too_little_room(tmp_path: Path) -> None:
    care = upkeep(tmp_path, World(), floor_bytes=2**60)
    care.look_at_room()
    assert codes(care.troubles) == {"disk_full": ""}


def test_a_disk_that_goes_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    care = upkeep(folder, World())
    care.look_at_room()
    shutil.rmtree(folder)
    care.look_at_room()
    ((code, detail),) = codes(care.troubles).items()
    assert code == "disk_unreadable" and "No such file" in detail
    folder.mkdir()
    care.look_at_room()
    assert codes(care.troubles) == {}


def test_what_the_whole_check_of_the_ledger_found(tmp_path: Path) -> None:
    care = upkeep(tmp_path, World())
    care.found = "row 7: hash does not fit"
    assert codes(care.troubles) == {"ledger_not_whole": "row 7: hash does not fit"}


def test_a_live_tariff_that_was_refused_until_a_good_one_comes(tmp_path: Path) -> None:
    file = tmp_path / "price.json"
    care = upkeep(tmp_path, World(), live=file)
    file.write_text("{")
    care.look_at_tariff()
    care.look_at_tariff()
    assert list(codes(care.troubles)) == ["tariff_refused"]
    file.write_text(json.dumps(TARIFF))
    care.look_at_tariff()
    assert codes(care.troubles) == {}


# ----------------------------------------------------------------------------------------- updates

A = SlotView("A", True, True, True, None, "1.0", "aa", 0, None)
B = SlotView("B", False, True, True, None, "0.9", "bb", 0, None)
VIEW = InstallerView("native", "file", "A", "A", False, 0, (A, B), None)


class Talks:
    """An installer that is away until it has something to say."""

    def __init__(self, view: InstallerView | None) -> None:
        self.view = view

    async def ask(self, question: Callable[[Any], Any]) -> Any:
        if self.view is None:
            raise InstallerAway("nobody listens")
        return question(self)

    def status(self) -> InstallerView | None:
        return self.view

    def close(self) -> None: ...


def found_of(view: InstallerView | None, kept: Update | None = None, later: InstallerView | None = None) -> list[Any]:
    """The troubles of updates when the station has started, and once the installer says something else."""

    async def play() -> list[Any]:
        config = replace(load(EXAMPLE), update=UpdateConfig(state_dir=Path(), compatible="x", roots=EXAMPLE))
        around, talks = Around(), Talks(view)
        text = None if kept is None else json.dumps(to_plain(kept))
        model = DeviceModel(build_specs(config))
        updates = Updates(config, model, DeviceWatch(config, lambda: True), text, around, talks)
        updates.start()
        await asyncio.sleep(0.1)
        found = [codes(updates.troubles)]
        if later is not None:
            talks.view = later
            await asyncio.sleep(120)
            found.append(codes(updates.troubles))
        updates.close()
        return found

    return run_virtual(play())


def ended(told: str) -> Update:
    return Update(Phase.IDLE, UpdateRequest(UpdateVia.PLAIN, 1, "x", 0), 0, told, why="in its own words")


def test_slots_that_are_well() -> None:
    assert found_of(VIEW) == [{}]


def test_an_installer_that_is_away_until_it_answers() -> None:
    assert found_of(None, later=VIEW) == [{"installer_away": "nobody listens"}, {}]


@pytest.mark.parametrize(
    ("slot", "wrong"),
    [
        (B, {}),
        (replace(B, bootable=False), {"slot_bad": ""}),
        (replace(B, bootable=False, version=""), {}),  # as it left the factory: nobody counts on it
    ],
)
def test_another_image_that_does_not_boot(slot: SlotView, wrong: dict[str, str]) -> None:
    assert found_of(replace(VIEW, slots=(A, slot))) == [wrong]


def test_an_image_on_trial() -> None:
    (found,) = found_of(replace(VIEW, on_trial=True))
    assert found == {"slot_on_trial": ""}


@pytest.mark.parametrize(
    "told", ["DownloadFailed", "InstallationFailed", "InstallVerificationFailed", "InvalidSignature"]
)
def test_an_update_that_failed_is_told_until_there_is_another(told: str) -> None:
    assert found_of(VIEW, ended(told)) == [{"update_failed": "in its own words"}]


@pytest.mark.parametrize("told", ["", "Installed"])
def test_an_update_that_did_not_fail(told: str) -> None:
    assert found_of(VIEW, ended(told)) == [{}]
