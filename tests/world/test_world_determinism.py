"""One seed, one world: whatever Python hashes strings with, and whichever Python it is.

Charter: compares the hash over everything that happened. ``EVSED_OTHER_PYTHON`` names an interpreter of another version
(3.11 or newer) that has the product's packages, as in ``packaging/locks/run.txt``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.sim.virtual_time import run_virtual

pytestmark = pytest.mark.wire
ROOT = Path(__file__).parents[2]
OTHER = os.environ.get("EVSED_OTHER_PYTHON", "")


def lived(seed: int, days: int, hash_seed: str, python: str = sys.executable) -> str:
    """The hash of the world's log, from a process of its own."""
    command = [python, "-m", "agent.cli", "world", "run", f"--seed={seed}", f"--days={days}", "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run([*command, "--shrink-s=0"], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr.decode()
    digest = json.loads(ran.stdout)["digest"]
    assert isinstance(digest, str)
    return digest


def test_the_hash_of_strings_decides_nothing() -> None:
    assert lived(5, 9, "1") == lived(5, 9, "2")


def test_another_seed_is_another_world() -> None:
    assert lived(5, 1, "1") != lived(7, 1, "1")


@pytest.mark.skipif(not OTHER, reason="EVSED_OTHER_PYTHON names no interpreter of another version")
@pytest.mark.parametrize("seed", [2, 3, 5])
def test_the_version_of_python_decides_nothing(seed: int) -> None:
    assert lived(seed, 17, "1") == lived(seed, 17, "1", OTHER)


def test_timers_of_one_instant_fire_in_the_order_in_which_they_were_set() -> None:
    fired: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(40):
            timer = loop.call_at(1.0, fired.append, number)
            loop.call_at(0.5, fired.append, number).cancel()
            if number % 3 == 1:
                timer.cancel()
        await asyncio.sleep(2)

    run_virtual(main())
    assert fired == [number for number in range(40) if number % 3 != 1]


def test_virtual_time_goes_on_after_years() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        for _ in range(4_000):
            await asyncio.sleep(86_400.123_456_7)
        return loop.time()

    assert run_virtual(main()) == pytest.approx(4_000 * 86_400.123_456_7)
