"""Who plays a scenario: every rig that tests have, by name.

A further rig is one more entry of ``VIRTUAL``: a function that plays one scenario on it. Tests ask for ``perform`` (in
every dialect), ``perform_in_one`` (where the dialect decides nothing) or ``perform_at_leisure`` (what is slow on a rig
in real time). Rigs of processes take seconds to start, so one of each is kept between tests, in a loop of its own; one
on which a scenario failed, or that does not come to rest, is never used again.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from agent.sim.scenario.play import Scenario, Unplayable, check_playable, play
from agent.sim.scenario.process_rig import ProcessRig
from agent.sim.scenario.rig import Observation
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig

FULL = os.environ.get("EVSED_SCENARIOS") == "full"
DIALECTS = ("1.6", "2.0.1")
Perform = Callable[[Scenario], None]
Player = Callable[[Scenario, pytest.FixtureRequest], None]
_PLAY_S = 900 if FULL else 120  # a rig that hangs must not hang the tests
_SLOW = pytest.mark.skipif(not FULL, reason="EVSED_SCENARIOS=full plays what takes minutes in real time")


class Garage:
    """Keeps one rig of processes for each dialect, in a thread whose loop never stops serving them."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._kept: dict[str, ProcessRig] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rigs")
        self._thread.start()

    def perform(self, scenario: Scenario, versions: Sequence[str]) -> None:
        """Play it in these dialects side by side: most of it is waiting."""

        async def main() -> None:
            async with asyncio.timeout(_PLAY_S), asyncio.TaskGroup() as tasks:
                for version in versions:
                    tasks.create_task(self._perform(version, scenario))

        try:
            asyncio.run_coroutine_threadsafe(main(), self._loop).result()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _perform(self, version: str, scenario: Scenario) -> None:
        check_playable(scenario, ProcessRig(Path(), version))  # before processes are started in vain
        rig = self._kept.pop(version, None) or await ProcessRig(self._folders.mktemp("rig"), version).__aenter__()
        try:
            await play(scenario, rig, print)  # shown with a failure
            await rig.settle()
        except BaseException:
            await rig.__aexit__(None, None, None)
            raise
        self._kept[version] = rig

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        await asyncio.gather(*(rig.__aexit__(None, None, None) for rig in self._kept.values()))


@pytest.fixture(scope="session")
def garage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Garage]:
    made = Garage(tmp_path_factory)
    yield made
    made.close()


def _on_processes(*versions: str) -> Player:
    return lambda scenario, request: request.getfixturevalue("garage").perform(scenario, versions)


REAL_TIME: dict[str, Player] = {
    "processes": _on_processes(*DIALECTS),
    "processes-2.0.1": _on_processes("2.0.1"),
}


def in_the_world(scenario: Scenario, version: str) -> Observation:
    """Play it in a world of its own, and let all accounts agree afterwards."""

    async def story(rig: WorldRig) -> Observation:
        seen = await play(scenario, rig, print)
        await rig.settle()
        return seen

    return on_a_world_rig(version, story)


def _in_the_world(version: str) -> Player:
    def perform(scenario: Scenario, _: pytest.FixtureRequest) -> None:
        in_the_world(scenario, version)

    return perform


VIRTUAL: dict[str, Player] = {f"world-{version}": _in_the_world(version) for version in DIALECTS}
RIGS = REAL_TIME | VIRTUAL


def _rigs(of_real_time: str, *marks: pytest.MarkDecorator, virtual: Sequence[str] = (*VIRTUAL,)) -> Sequence[object]:
    """This one in real time, and these in virtual time."""
    return [pytest.param(of_real_time, marks=[pytest.mark.wire, *marks]), *virtual]


def _performer(request: pytest.FixtureRequest) -> Perform:
    def perform(scenario: Scenario) -> None:
        try:
            RIGS[request.param](scenario, request)
        except Unplayable as reason:
            pytest.skip(str(reason))

    return perform


@pytest.fixture(params=_rigs("processes"))
def perform(request: pytest.FixtureRequest) -> Perform:
    return _performer(request)


@pytest.fixture(params=_rigs("processes") if FULL else _rigs("processes-2.0.1", virtual=[f"world-{DIALECTS[-1]}"]))
def perform_in_one(request: pytest.FixtureRequest) -> Perform:
    return _performer(request)


@pytest.fixture(params=_rigs("processes", _SLOW))
def perform_at_leisure(request: pytest.FixtureRequest) -> Perform:
    return _performer(request)


@pytest.fixture(params=VIRTUAL)
def perform_in_virtual_time(request: pytest.FixtureRequest) -> Perform:
    """For what takes long, or needs faults of devices that the boards on ptys do not have."""
    return _performer(request)
