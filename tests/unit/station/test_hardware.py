"""Which lock the core is told of. The end of all devices: power first and everywhere at once, then the ports."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.config.load import load
from agent.config.model import CableKind
from agent.sim.stage import Stage
from agent.sim.virtual_time import now_ms, run_virtual
from agent.station.hardware import Hardware, describe
from hal.boards import PilotDriver

Log = list[tuple[int, str]]


class Device:
    """Pilot, module, bus or meter, as far as it is closed. It is at rest ``takes_ms`` after it was told to stop."""

    def __init__(self, name: str, takes_ms: int, log: Log, *, autonomous: bool = False) -> None:
        self.capabilities = SimpleNamespace(autonomous=autonomous)
        self._name = name
        self._takes_ms = takes_ms
        self._rests_at_ms = now_ms()
        self._log = log

    def stop(self) -> None:
        self._let_go("stop")

    def allow_power(self, allowed: bool) -> None:
        self._let_go(f"power {allowed}")

    def switch(self, on: bool) -> None:
        self._let_go(f"switched {on}")

    def _let_go(self, how: str) -> None:
        self._rests_at_ms = now_ms() + self._takes_ms
        self._log.append((now_ms(), f"{self._name} {how}"))

    async def close(self) -> None:
        await asyncio.sleep(max(0, self._rests_at_ms - now_ms()) / 1_000)
        self._log.append((now_ms(), self._name))


def test_only_a_lock_that_can_be_told_what_to_do_is_one(tmp_path: Path) -> None:
    stage = Stage(tmp_path, None, boards=("mcu_ac",), extra="[auth]\nfree = true\n")
    stage.lay_out()
    evse = load(stage.config_file).evse[0]
    in_socket = replace(evse, cable=CableKind.SOCKET)
    of_its_own = replace(evse.board, pilot=replace(evse.board.pilot, driver=PilotDriver.OPENEVSE))
    assert describe(in_socket).has_lock
    assert not describe(replace(evse, cable=CableKind.FIXED)).has_lock
    assert not describe(replace(in_socket, board=of_its_own)).has_lock


def test_what_feeds_is_off_first_and_boards_let_go_at_the_same_time() -> None:
    async def main() -> Log:
        log: Log = []
        begin_ms = now_ms()
        pilots: Any = {
            1: Device("board 1", 3_000, log, autonomous=True),
            2: Device("board 2", 3_000, log, autonomous=True),
            3: Device("board 3", 20, log),
        }
        modules: Any = {number: Device(f"module {number}", 3_500, log) for number in (3, 4)}
        meters: Any = {3: Device("meter 3", 0, log)}
        bus: Any = Device("bus", 0, log)
        await Hardware(pilots, meters, modules, buses=(bus,)).close()
        return [(at_ms - begin_ms, what) for at_ms, what in log]

    assert run_virtual(main()) == [
        (0, "module 3 switched False"),
        (0, "module 4 switched False"),
        (0, "board 1 stop"),
        (0, "board 2 stop"),
        (0, "board 3 power False"),
        (3_000, "board 1"),
        (3_000, "board 2"),
        (3_000, "board 3"),
        (3_500, "module 3"),
        (3_500, "module 4"),
        (3_500, "bus"),
        (3_500, "meter 3"),
    ]
