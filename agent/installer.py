"""The installer process: root, started on demand, no network.

Charter: takes the listening socket from systemd (or makes one, for small installs and the demo), puts the installer
together, finishes what a power cut left, and serves until nobody wants anything. Exit codes as the other processes.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import time
from importlib.metadata import version
from pathlib import Path

import structlog

from agent.config.model import Config
from agent.firmware.errors import SlotFailed
from agent.firmware.server import InstallerServer, Role
from agent.firmware.setup import make_installer
from agent.firmware.storage import FileStorage

EXIT_STOPPED, EXIT_SLOT = 0, 74
STATION_USER, GATEWAY_USER = "evsed", "evsed-gateway"
IDLE_S = 60.0  # then systemd starts it again when somebody calls
_LISTEN_FDS_START = 3

log = structlog.get_logger("installer")


def run_installer(config: Config) -> int:
    """Until idle (when systemd started it) or told to stop; returns the exit code."""
    assert config.update is not None
    config.update.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener, on_demand = _listener(config.station.installer_socket)
    try:
        installer = make_installer(
            config.update, FileStorage(), agent_version=version("evsed"), wall_ms=lambda: time.time_ns() // 1_000_000
        )
        for note in installer.recover():
            log.warning("found at start", note=note)
    except SlotFailed as failed:
        log.critical("this device cannot be updated", why=str(failed))
        listener.close()
        return EXIT_SLOT

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    log.info("installer ready", socket=str(config.station.installer_socket))
    server = InstallerServer(
        listener, installer, _roles(), config.update.reboot_command, idle_s=IDLE_S if on_demand else None
    )
    server.run()
    return EXIT_STOPPED


def _stop(_number: int, _frame: object) -> None:
    """At once: a write that is cut here is what a power cut would do, and is finished by the next start."""
    os._exit(EXIT_STOPPED)


def _listener(path: Path) -> tuple[socket.socket, bool]:
    """(listening socket, whether systemd made it)."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=_LISTEN_FDS_START), True
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o660)
    listener.listen(8)
    return listener, False


def _roles() -> dict[int, Role]:
    """Who may do what, by user; ourselves and root may do everything."""
    roles = {0: Role.STATION, os.getuid(): Role.STATION}
    for user, role in ((GATEWAY_USER, Role.GATEWAY), (STATION_USER, Role.STATION)):
        with contextlib.suppress(KeyError):  # development, or a small install with a single user
            roles.setdefault(pwd.getpwnam(user).pw_uid, role)
    return roles
