"""A peer that speaks as RAUC, on a message bus of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rauc_peer import RaucPeer, rauc_peer
from tests.support.rauc_service import private_bus


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    """The address of a bus with nobody on it."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    with private_bus(tmp_path / "bus") as address:
        yield address


@pytest.fixture
def peer(bus: str) -> Iterator[RaucPeer]:
    with rauc_peer(bus) as peer:
        yield peer
