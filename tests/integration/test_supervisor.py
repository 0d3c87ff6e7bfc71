"""The supervisor on real processes that play station and gateway; the real ones are in ``test_processes``.

Each test ends by itself: the station ends the run (exit code 78) when it has seen enough.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent import supervisor
from agent.supervisor import EXIT_CONFIG, EXIT_NOT_ALONE, run_supervisor

pytestmark = pytest.mark.wire

_READY = """
import asyncio, pathlib, socket, sys, time
from agent.station.notify import Notify
starts = pathlib.Path("starts")
count = len(starts.read_text()) if starts.exists() else 0
starts.write_text("s" * (count + 1))
def give_up(): raise SystemExit(78)
async def ready():
    Notify(asyncio.get_running_loop()).ready()
"""
"""What the stations here have in common. ``count``: starts before this one."""


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, scripts: Mapping[str, str]) -> None:
        self.made_safe = 0
        self.folder = folder
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PYTHONPATH", str(Path(supervisor.__file__).parents[1]))
        self._scripts = scripts
        monkeypatch.setattr(supervisor, "_command", self._command)
        monkeypatch.setattr(supervisor, "_make_safe", self._make_safe)

    def run(self) -> int:
        async def main() -> int:
            async with asyncio.timeout(60):
                return await run_supervisor(Path("evsed.toml"), list(self._scripts), None)

        return asyncio.run(main())

    def _command(self, name: str, _: Path) -> list[str]:
        return [sys.executable, "-c", self._scripts[name]]

    def _make_safe(self, _config_file: Path, _data_dir: Path | None) -> None:
        self.made_safe += 1
        raise RuntimeError("whatever goes wrong here")  # must not end the supervisor


def test_a_station_that_stands_still_is_killed_and_its_hardware_made_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First one whose loop is blocked, then one that is stopped; neither heeds SIGTERM."""
    hangs = f"""{_READY}
if count == 2: give_up()
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
async def main():
    await ready()
    time.sleep(1e6) if count == 0 else os.kill(os.getpid(), signal.SIGSTOP)
asyncio.run(main())
"""
    monkeypatch.setattr(supervisor, "_HANG_S", 0.5)
    rig = Rig(monkeypatch, tmp_path, {"station": hangs})
    assert rig.run() == EXIT_CONFIG
    assert (tmp_path / "starts").read_text() == "sss"
    assert rig.made_safe == 3


def test_a_long_start_is_no_hang_and_a_station_that_is_heard_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = f"""{_READY}
time.sleep(3)
async def main():
    await ready()
    await asyncio.sleep(3)
    give_up()
asyncio.run(main())
"""
    monkeypatch.setattr(supervisor, "_HANG_S", 1.5)
    rig = Rig(monkeypatch, tmp_path, {"station": slow})
    assert rig.run() == EXIT_CONFIG
    assert (tmp_path / "starts").read_text() == "s"


def test_nobody_else_speaks_for_a_station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of it goes on telling that all is well."""
    hangs = f"""{_READY}
if count == 1: give_up()
import os
station = os.getpid()
if os.fork():
    asyncio.run(ready())
    time.sleep(1e6)
async def child():
    await ready()
    while os.getppid() == station:
        await asyncio.sleep(0.05)
asyncio.run(child())
"""
    monkeypatch.setattr(supervisor, "_HANG_S", 1.0)
    rig = Rig(monkeypatch, tmp_path, {"station": hangs})
    assert rig.run() == EXIT_CONFIG
    assert (tmp_path / "starts").read_text() == "ss"


def test_another_process_with_a_wrong_configuration_is_tried_again_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = f"""{_READY}
async def main():
    await ready()
    while not pathlib.Path("gateway").exists() or len(pathlib.Path("gateway").read_text()) < 3:
        await asyncio.sleep(0.02)
    give_up()
asyncio.run(main())
"""
    gateway = 'open("gateway", "a").write("g"); raise SystemExit(78)'
    monkeypatch.setattr(supervisor, "_CONFIG_WAIT_S", 0.05)
    rig = Rig(monkeypatch, tmp_path, {"station": station, "gateway": gateway})
    assert rig.run() == EXIT_CONFIG
    assert (tmp_path / "starts").read_text() == "s", "one station, all the time"


def test_a_process_that_cannot_be_started_is_tried_again_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(monkeypatch, tmp_path, {"station": f"{_READY}\ntime.sleep(1)\ngive_up()", "gateway": ""})
    commands = rig._command
    monkeypatch.setattr(
        supervisor, "_command", lambda name, file: ["/nowhere"] if name == "gateway" else commands(name, file)
    )
    assert rig.run() == EXIT_CONFIG
    assert (tmp_path / "starts").read_text() == "s"


def test_no_thread_is_wanted_for_a_process_or_its_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit of threads. A station that runs unwatched would keep every later one from starting."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    rig = Rig(monkeypatch, tmp_path, {"station": f"{_READY}\nif count == 2: give_up()\nraise SystemExit(1)"})
    assert rig.run() == EXIT_CONFIG
    assert (tmp_path / "starts").read_text() == "sss"
    assert rig.made_safe == 3


def test_another_station_s_hardware_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = "import time; time.sleep(1e6)"
    rig = Rig(monkeypatch, tmp_path, {"station": f"raise SystemExit({EXIT_NOT_ALONE})", "gateway": gateway})
    assert rig.run() == EXIT_NOT_ALONE
    assert rig.made_safe == 0


def test_no_process_outlives_a_supervisor_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told to stop, in order."""
    child = """
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path(sys.argv[1] + "-stopped").touch()
    raise SystemExit(0)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1] + "-runs").touch()
time.sleep(60)
"""
    run = f"""
import asyncio, pathlib, sys
from agent import supervisor
supervisor._command = lambda name, _: [sys.executable, "-c", {child!r}, name]
asyncio.run(supervisor.run_supervisor(pathlib.Path("evsed.toml"), ["station", "gateway"], None))
"""
    Rig(monkeypatch, tmp_path, {})

    async def all_there(what: str) -> None:
        while not all((tmp_path / f"{name}-{what}").exists() for name in ("station", "gateway")):
            await asyncio.sleep(0.02)

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", run)
        async with asyncio.timeout(50):
            await all_there("runs")
            process.kill()
            await all_there("stopped")
        await process.wait()

    asyncio.run(main())
