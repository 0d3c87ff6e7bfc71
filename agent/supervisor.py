"""Small installs, development and the demo: all processes under one supervisor (``evsed run``).

Charter: starts station and gateway, restarts what dies with a bounded back-off, and makes the
hardware safe the moment the station is gone. Under systemd each process has its own unit instead,
``ExecStopPost`` calls ``evsed make-safe``, and the installer is started on demand; here it runs all the time.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

_FIRST_WAIT_S = 0.1
_MAX_WAIT_S = 10.0
_STABLE_S = 30.0  # a process that lived this long starts over at the first wait
_TERM_S = 8.0
EXIT_RESTART = 75
EXIT_CONFIG = 78  # a person has to change the file first: nothing is started again

log = structlog.get_logger("supervisor")


class Supervisor:
    """Runs the processes of one configuration (``station`` and others, by their commands) until told to stop.

    Reads nothing of the configuration: the processes check it themselves, and start that much sooner."""

    def __init__(self, config_file: Path, names: Sequence[str]) -> None:
        self._config_file = config_file
        self._names = names
        self._stopping = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        await asyncio.gather(*(self._keep(name) for name in self._names))
        return self._exit_code

    async def _keep(self, name: str) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._stopping.is_set():
            started_s = asyncio.get_running_loop().time()
            code = await self._run_once(name)
            if code == EXIT_CONFIG:
                self._exit_code = code
                self._stopping.set()
            elif name == "station" and code not in (0, EXIT_RESTART):
                log.error("station died, opening the contactors", exit_code=code)
                await asyncio.to_thread(_make_safe, self._config_file)
            if self._stopping.is_set():
                return
            lived_s = asyncio.get_running_loop().time() - started_s
            wait_s = _FIRST_WAIT_S if lived_s > _STABLE_S or code == EXIT_RESTART else min(2 * wait_s, _MAX_WAIT_S)
            log.warning("process ended, starting it again", process=name, exit_code=code, wait_s=wait_s)
            await self._stop_within(wait_s)

    async def _run_once(self, name: str) -> int:
        command = [sys.executable, "-m", "agent.cli", name, "--config", str(self._config_file)]
        if name != "station":
            command.append("--quiet-config")  # what is wrong with the file is said once, by the station
        # A session of its own: a Ctrl-C at the terminal reaches the supervisor only, which stops them in order.
        process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
        log.info("process started", process=name, pid=process.pid)
        ended = asyncio.create_task(process.wait())
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not ended.done():
            process.terminate()
            try:
                await asyncio.wait_for(asyncio.shield(ended), _TERM_S)
            except TimeoutError:
                log.error("process does not end, killing it", process=name)
                process.kill()
        return await ended

    async def _stop_within(self, wait_s: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), wait_s)
        except TimeoutError:
            return


def _make_safe(config_file: Path) -> None:
    """Imported only now: most supervisors never need it."""
    from agent.config.load import load
    from agent.safe import make_safe

    make_safe(load(config_file))


async def run_supervisor(config_file: Path, names: Sequence[str]) -> int:
    return await Supervisor(config_file, names).run()
