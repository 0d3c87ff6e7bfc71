"""What the CSMS of a world rig hears, frame by frame."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.sim.scenario.world_rig import WorldRig
from agent.sim.world.wire import Wire

Frame = list[Any]


def frames_heard(rig: WorldRig, monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """All that come from now on."""
    frames: list[Frame] = []
    listen = rig.world.listener.heard

    def note(wire: Wire, frame: bytes, sent_s: float) -> None:
        frames.append(json.loads(frame))
        listen(wire, frame, sent_s)

    monkeypatch.setattr(rig.world.listener, "heard", note)
    return frames


def payloads(frames: list[Frame], *actions: str) -> list[dict[str, Any]]:
    """Of the calls with these actions."""
    return [frame[3] for frame in frames if frame[0] == 2 and frame[2] in actions]
