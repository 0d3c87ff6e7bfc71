"""The installer behind its socket, for tests of the station's part of updates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.station import updates as updates_module
from tests.unit.firmware.installer_site import Site, serving


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("_LOOK_S", "_ASK_AGAIN_S", "_ANNOUNCE_S"):
        monkeypatch.setattr(updates_module, name, 0.01)
    with serving(tmp_path, monkeypatch) as made:
        yield made
