"""Small installs, development and the demo: all processes under one supervisor (``evsed run``).

Charter: starts station and gateway, restarts what dies with a bounded back-off, kills a station that stands still, and
makes the hardware safe the moment the station is gone. No other process can end the station or the supervisor, and
none outlives the supervisor: the kernel tells them to stop when it was killed. Under systemd each process has its own
unit instead, ``WatchdogSec`` notices a hang, ``ExecStopPost`` calls ``evsed make-safe``, and the installer is started
on demand; here it runs all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

_FIRST_WAIT_S = 0.1
_MAX_WAIT_S = 10.0
_CONFIG_WAIT_S = 30.0  # until a process is tried again whose part of the configuration is wrong
_STABLE_S = 30.0  # a process that lived this long starts over at the first wait
_TERM_S = 8.0
# As in evsed-station.service.
_READY_S = 3_600.0  # a station may make its ledger's table anew, and programs its controllers one after the other
_HANG_S = 30.0  # sixty times what health calls late (loop_late): for a slow card, a machine short of memory
EXIT_RESTART = 75
EXIT_NO_START = 71  # sysexits: the system cannot make a process
EXIT_NOT_ALONE = 73  # another station works on the same data, and has the hardware
EXIT_CONFIG = 78  # a person has to change the file first

log = structlog.get_logger("supervisor")


class Supervisor:
    """Runs the processes of one configuration (``station`` and others, by their commands) until told to stop.

    Reads nothing of the configuration: the processes check it themselves, and start that much sooner. ``data_dir`` is
    what it said of the station's data when it could be read."""

    def __init__(self, config_file: Path, names: Sequence[str], data_dir: Path | None) -> None:
        self._config_file = config_file
        self._names = names
        self._data_dir = data_dir
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._ends: dict[subprocess.Popen[bytes], asyncio.Future[int]] = {}

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGCHLD, self._child_ended)
        await asyncio.gather(*(self._keep(name) for name in self._names))
        return self._exit_code

    def _child_ended(self) -> None:
        for process, end in self._ends.items():
            if process.poll() is not None and not end.done():
                end.set_result(process.returncode)

    async def _keep(self, name: str) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._stopping.is_set():
            started_s = asyncio.get_running_loop().time()
            code = await self._run_once(name)
            if name == "station":
                await self._station_ended(code)
            if self._stopping.is_set():
                return
            lived_s = asyncio.get_running_loop().time() - started_s
            if code == EXIT_CONFIG:
                wait_s = _CONFIG_WAIT_S
            elif lived_s > _STABLE_S or code == EXIT_RESTART:
                wait_s = _FIRST_WAIT_S
            else:
                wait_s = min(2 * wait_s, _MAX_WAIT_S)
            log.warning("process ended, starting it again", process=name, exit_code=code, wait_s=wait_s)
            await self._stop_within(wait_s)

    async def _station_ended(self, code: int) -> None:
        """Open the contactors unless it did so itself, or they are another's; that and a wrong configuration end
        everything."""
        if code not in (0, EXIT_RESTART, EXIT_NOT_ALONE):
            log.error("station died, opening the contactors", exit_code=code)
            try:
                _make_safe(self._config_file, self._data_dir)  # here: a thread cannot always be had
            except Exception as error:
                log.critical("the contactors could not be opened", exc_info=error)
        if code in (EXIT_CONFIG, EXIT_NOT_ALONE):
            self._exit_code = code
            self._stopping.set()

    async def _run_once(self, name: str) -> int:
        """The exit code, negative for the signal that killed it."""
        with contextlib.ExitStack() as at_end:
            try:
                pulse = at_end.enter_context(contextlib.closing(_Pulse())) if name == "station" else None
                process = _start(_command(name, self._config_file), {} if pulse is None else pulse.environment)
            except (OSError, subprocess.SubprocessError) as error:  # no memory for another process, no descriptor
                log.error("process cannot be started", process=name, why=str(error))
                return EXIT_NO_START
            log.info("process started", process=name, pid=process.pid)
            return await self._watch(name, process, pulse)

    async def _watch(self, name: str, process: subprocess.Popen[bytes], pulse: _Pulse | None) -> int:
        """Until it has ended, of its own accord or because we stop or it stands still."""
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ends[process] = ended
        others: list[asyncio.Task[Any]] = [asyncio.create_task(self._stopping.wait())]
        if pulse is not None:
            others.append(asyncio.create_task(pulse.silence(process.pid)))
        await asyncio.wait({ended, *others}, return_when=asyncio.FIRST_COMPLETED)
        for each in others:
            each.cancel()
        if not ended.done():
            await self._end(name, process, ended)
        code = await ended
        del self._ends[process]
        return code

    async def _end(self, name: str, process: subprocess.Popen[bytes], ended: asyncio.Future[int]) -> None:
        if self._stopping.is_set():
            process.terminate()
            try:
                await asyncio.wait_for(asyncio.shield(ended), _TERM_S)
            except TimeoutError:
                process.kill()
                log.error("process does not end, it is killed", process=name)
        else:
            process.kill()  # a process that was stopped hears nothing less
            log.error("process stands still, it is killed", process=name)

    async def _stop_within(self, wait_s: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), wait_s)
        except TimeoutError:
            return


class _Pulse:
    """Hears whether one process still works, as systemd does (``agent.station.notify``).

    Its socket has a name of the kernel's choice, so that no file is left behind (unix(7): autobind); since anybody may
    send there, only the process itself is believed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("")
        self._pid = -1
        self._silent = asyncio.Event()
        self._timer = self._loop.call_later(_READY_S, self._silent.set)

    @property
    def environment(self) -> Mapping[str, str]:
        name = self._socket.getsockname()[1:].decode()
        return {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": str(round(_HANG_S * 1e6))}

    async def silence(self, pid: int) -> None:
        """Returns when the process ``pid`` has not been heard for too long."""
        self._pid = pid
        self._loop.add_reader(self._socket, self._hear)
        await self._silent.wait()

    def close(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _hear(self) -> None:
        _, ancillary, _, _ = self._socket.recvmsg(256, socket.CMSG_SPACE(_CREDENTIALS.size))
        senders = [
            _CREDENTIALS.unpack(data)[0]
            for level, kind, data in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
        ]
        if senders == [self._pid]:
            self._timer.cancel()
            self._timer = self._loop.call_later(_HANG_S, self._silent.set)


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # prctl(2)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Not by asyncio, which wants a thread for each process: where none can be had, one runs that nobody knows.

    In a session of its own: a Ctrl-C at the terminal reaches the supervisor only, which stops them in order."""
    return subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=functools.partial(_die_with, os.getpid()),
        env=os.environ | environment,
    )


def _die_with(supervisor: int) -> None:
    """In the new process, before its program starts: SIGTERM for it when the supervisor ends, whatever ends it."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:  # it has ended already
        os._exit(1)


_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


def _command(name: str, config_file: Path) -> list[str]:
    command = [sys.executable, "-m", "agent.cli", name, "--config", str(config_file)]
    if name != "station":
        command.append("--quiet-config")  # what is wrong with the file is said once, by the station
    return command


def _make_safe(config_file: Path, data_dir: Path | None) -> None:
    """Imported only now: most supervisors never need it."""
    from agent.safe import make_safe

    make_safe(config_file, data_dir)


async def run_supervisor(config_file: Path, names: Sequence[str], data_dir: Path | None) -> int:
    return await Supervisor(config_file, names, data_dir).run()
