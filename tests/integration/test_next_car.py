"""The next car does not charge on the driver before, whatever keeps the station from looking.

The station is a process of its own, its board a simulator on a pty. A gateway that says one word for ever (hacked, or
in a loop) is a thread that floods its socket; a process that stands still is one that is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agent.core.facts import Token
from agent.core.status import ConnectorState
from agent.sim.stage import Stage
from tests.integration.test_processes import is_state, until

pytestmark = pytest.mark.wire
CARD = "AA"
WORD = json.dumps({"call": 1, "method": "link_state", "args": {"online": True, "dialect": "2.0.1"}}).encode()


@contextlib.contextmanager
def flood(path: Path) -> Iterator[None]:
    """While this lasts the station's socket always holds more calls than it has served."""
    over = threading.Event()
    with socket.socket(socket.AF_UNIX) as gateway:
        gateway.connect(str(path))
        gateway.settimeout(0.05)

        def talk() -> None:
            words = (len(WORD).to_bytes(4, "big") + WORD) * 200
            left = words
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    left = left[gateway.send(left) :] or words

        def listen() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    gateway.recv(65_536)

        threads = [threading.Thread(target=each) for each in (talk, listen)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


async def is_charging(stage: Stage) -> bool:
    current_ma: int = (await stage.order(1, "status"))["current_ma"]
    return current_ma > 0


async def stays_without_power(stage: Stage) -> None:
    for _ in range(20):
        await asyncio.sleep(0.1)
        assert not await is_charging(stage)


def while_it_charges(folder: Path, scene: Callable[[Stage, asyncio.subprocess.Process], Awaitable[None]]) -> None:
    """A car charges; after the scene its transaction must be over."""

    async def main() -> None:
        stage = Stage(folder, None, boards=("mcu_ac",), extra=f'[[token]]\nid = "{CARD}"\n')
        stage.lay_out()
        try:
            await stage.start_bench()
            process = await stage.launch("station")
            station = await stage.station()
            await stage.order(1, "plug")
            await until(lambda: is_state(stage, 1, ConnectorState.PREPARING))
            await station.present_token(Token(CARD), 1)
            await until(lambda: is_charging(stage))
            await scene(stage, process)
            assert (await station.status()).evses[0].tx_id is None
            await station.close()
        finally:
            await stage.stop()

    asyncio.run(asyncio.wait_for(main(), 90))


def test_while_a_gateway_says_one_word_for_ever(tmp_path: Path) -> None:
    async def scene(stage: Stage, _: asyncio.subprocess.Process) -> None:
        with flood(stage.run_dir / "station.sock"):
            await asyncio.sleep(0.5)
            await stage.order(1, "unplug")
            await asyncio.sleep(1.5)
            await stage.order(1, "plug")
            await stays_without_power(stage)

    while_it_charges(tmp_path, scene)


def test_when_the_process_stood_still_meanwhile(tmp_path: Path) -> None:
    """All that the board told is then read at once."""

    async def scene(stage: Stage, process: asyncio.subprocess.Process) -> None:
        process.send_signal(signal.SIGSTOP)
        try:
            for order in ("unplug", "plug"):
                await asyncio.sleep(2)
                await stage.order(1, order)
            await asyncio.sleep(0.5)
        finally:
            process.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.5)  # till then the board closes by itself, as it was allowed to before
        await stays_without_power(stage)

    while_it_charges(tmp_path, scene)
