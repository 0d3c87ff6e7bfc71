"""The device of these tests, once on a simulated disk and once on real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.firmware.storage import FileStorage
from tests.support.power_disk import PowerDisk
from tests.unit.firmware.engines.native_making import World


@pytest.fixture(params=["simulated", "real"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(PowerDisk(), Path("/w")) if request.param == "simulated" else World(FileStorage(), tmp_path)


@pytest.fixture
def disk() -> PowerDisk:
    return PowerDisk()


@pytest.fixture
def on_disk(disk: PowerDisk) -> World:
    """On the simulated disk only, for tests that look at its log."""
    return World(disk, Path("/w"))
