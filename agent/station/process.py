"""The station process: signals, the socket, the exit code, and a safe state at the end.

Charter: runs one ``LiveStation`` on this machine. Ends in a safe state on a signal, on a command, and on any error
of its own: hardware is told to open before anything else is cleaned up. From when it is ready on, whoever started it
hears that the loop still turns (``agent.station.notify``), and kills it where it does not.

Exit codes: 0 stopped on request, 75 restart wanted (reset, configuration), 70 an error of our own,
74 the ledger failed, 73 another station works on the same data (``agent.station.alone``): nothing was touched.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal

import structlog

from agent.config import pilot_lines
from agent.ipc.peer import GATEWAY_USER, uid_of
from agent.ipc.port import News
from agent.ipc.server import IpcServer
from agent.station.build import Build, note_boot_cause
from agent.station.disk import raise_what_crashed
from agent.station.live import LiveStation
from agent.station.notify import Notify
from agent.station.platform import this_machine

EXIT_STOPPED, EXIT_ERROR, EXIT_NOT_ALONE = 0, 70, 73

log = structlog.get_logger("station")


class StationProcess:
    """The process around the running station. ``run`` returns the exit code."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._stopping = asyncio.Event()
        self._exit_code = EXIT_STOPPED
        self._loop = asyncio.get_running_loop()
        self._live = LiveStation(build, this_machine(self._loop), self._publish, self._stop)
        self._server = IpcServer(
            build.socket_path,
            self._live.service,
            self._live.welcome,
            self._live.greetings,
            _allowed_uids(),
            self._live.gateway_gone,
        )
        self._live.begin()

    async def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop, EXIT_STOPPED)
        self._loop.set_exception_handler(self._crashed)
        await self._server.start()
        self._live.upkeep.look_at_room()
        self._live.upkeep.look_at_tariff()
        controller_faults = await self._bring_controllers_in_line()
        pilot_lines.keep(self._build.config)  # for make-safe, before anything is told to close
        self._live.start(controller_faults)
        upkeep = self._loop.create_task(self._live.upkeep.run())
        upkeep.add_done_callback(raise_what_crashed)
        # What start-up made stays for ever: looking through it again would stop the loop for tens of milliseconds.
        gc.collect()
        gc.freeze()
        log.info("station ready", identity=self._build.config.station.identity, socket=str(self._build.socket_path))
        notify = Notify(self._loop)
        notify.ready()
        await self._stopping.wait()
        notify.close()
        upkeep.cancel()
        await self._close()
        return self._exit_code

    def _publish(self, news: News) -> None:
        self._server.publish(news)

    async def _bring_controllers_in_line(self) -> list[str]:
        update = self._build.config.update
        if update is None or not update.mcu:
            return []
        from agent.station.controllers import bring_controllers_in_line

        socket_path = self._build.config.station.installer_socket
        return await bring_controllers_in_line(socket_path, update.mcu, self._stopping)

    # ---------------------------------------------------------------------------------------- ends

    def _crashed(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        self._stop(EXIT_ERROR)
        log.critical("error of our own, going safe", what=context.get("message"), exc_info=error)

    def _stop(self, code: int) -> None:
        if not self._stopping.is_set():
            self._exit_code = code
            self._stopping.set()

    async def _close(self) -> None:
        if self._exit_code == EXIT_STOPPED:
            note_boot_cause(self._build.config, self._live.stop_cause)
        await self._live.close()
        log.info("station stops", exit_code=self._exit_code)
        await self._server.close()


def _allowed_uids() -> frozenset[int]:
    """Ourselves, root, and the gateway's user where it exists."""
    gateway = uid_of(GATEWAY_USER)
    return frozenset({os.getuid(), 0} if gateway is None else {os.getuid(), 0, gateway})


async def run_station(build: Build) -> int:
    return await StationProcess(build).run()
