"""Real processes and sockets: a CSMS moves the station to another one, at the second try (B09, B10)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.sim.csms import SimCsms
from agent.sim.stage import Stage, free_port
from agent.sim.story import Story
from tests.integration.test_processes import kill, on_stage, until

pytestmark = pytest.mark.wire

PRIORITY = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "NetworkConfigurationPriority"}}


async def move(csms: SimCsms, url: str, order: str) -> Any:
    data = {
        "ocpp_version": "OCPP20",
        "ocpp_transport": "JSON",
        "ocpp_csms_url": url,
        "message_timeout": 10,
        "security_profile": 0,
        "ocpp_interface": "Wired0",
    }
    assert (await csms.call("SetNetworkProfile", configuration_slot=2, connection_data=data)).status == "Accepted"
    answer = await csms.call("SetVariables", set_variable_data=[PRIORITY | {"attribute_value": order}])
    assert answer.set_variable_result[0]["attribute_status"] == "RebootRequired"
    assert (await csms.call("Reset", type="Immediate")).status in ("Accepted", "Scheduled")


def test_b10_a_station_is_moved_while_the_new_csms_is_down_comes_back_and_moves_once_it_is_up(tmp_path: Path) -> None:
    async def scene(stage: Stage, old: SimCsms, story: Story) -> None:
        await until(story._online)
        new, port = SimCsms("2.0.1"), free_port()
        await move(old, f"ws://127.0.0.1:{port}/ocpp", "2")
        await until(lambda: _booted(old, 2), 90)
        assert await new.start(port) == f"ws://127.0.0.1:{port}/ocpp"
        try:
            assert (await old.call("Reset", type="Immediate")).status in ("Accepted", "Scheduled")
            await until(lambda: _booted(new, 1), 60)
            await until(story._online)
            await kill(stage, "gateway")
            await until(lambda: _booted(new, 2), 60)
            assert old.book.boots == 2
            assert new.book.violations == old.book.violations == []
        finally:
            await new.stop()

    on_stage(tmp_path, "2.0.1", ("mcu_ac",), scene)


async def _booted(csms: SimCsms, times: int) -> bool:
    return csms.book.boots >= times
