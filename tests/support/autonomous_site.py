"""The quiet world's site with autonomous boards."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.sim.scenario import quiet_world


def make_autonomous(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenEVSE boards, and a resume window of a minute."""
    plain = quiet_world._plain_site

    def of_openevse(file: Path) -> Path:
        text = plain(file).read_text().replace('board = "mcu_ac"', 'board = "openevse"')
        file.write_text(text.replace("resume_window_s = 600", "resume_window_s = 60"))
        return file

    monkeypatch.setattr(quiet_world, "_plain_site", of_openevse)
