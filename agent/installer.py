"""The installer process: root, started on demand, no network.

Charter: takes the listening socket from systemd (or makes one, for small installs and the demo), puts the installer
together, finishes what a power cut left, and serves until nobody wants anything.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from importlib.metadata import version
from pathlib import Path

import structlog

from agent.config.model import Config
from agent.config.update import UpdateConfig
from agent.firmware.errors import SlotFailed
from agent.firmware.installer import Installer
from agent.firmware.server import InstallerServer, Role
from agent.firmware.setup import make_installer
from agent.firmware.storage import FileStorage
from agent.ipc.peer import GATEWAY_USER, STATION_USER, uid_of

IDLE_S = 60.0  # then systemd starts it again when somebody calls
_LISTEN_FDS_START = 3

log = structlog.get_logger("installer")


def run_installer(config: Config) -> int:
    """Until idle (when systemd started it) or told to stop; returns the exit code."""
    assert config.update is not None
    config.update.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener, on_demand = _listener(config.station.installer_socket)
    # No handler for SIGTERM: a write that is cut by it is what a power cut would do, and is finished by the next start.
    ready = _Ready(config.update)
    with contextlib.suppress(SlotFailed):  # it was said; whoever asks is told again
        ready()
    log.info("installer listens", socket=str(config.station.installer_socket))
    idle_s = IDLE_S if on_demand else None
    InstallerServer(listener, ready, _roles(), config.update.reboot_command, idle_s=idle_s).run()
    return 0


class _Ready:
    """The installer, put together when it is first wanted, and again after a failure: a boot partition may be mounted
    late, and whoever asks before that shall be told what is wrong, not be kept waiting."""

    def __init__(self, config: UpdateConfig) -> None:
        self._config = config
        self._installer: Installer | None = None
        self._making = threading.Lock()

    def __call__(self) -> Installer:
        """Raises ``SlotFailed``: this device cannot be updated (now)."""
        with self._making:
            if self._installer is None:
                self._installer = self._make()
            return self._installer

    def _make(self) -> Installer:
        try:
            installer = make_installer(
                self._config, FileStorage(), agent_version=version("evsed"), wall_ms=lambda: time.time_ns() // 1_000_000
            )
            notes = installer.recover()
        except SlotFailed as failed:
            log.critical("this device cannot be updated", why=str(failed))
            raise
        for note in notes:
            log.warning("found at start", note=note)
        return installer


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
        if (uid := uid_of(user)) is not None:
            roles.setdefault(uid, role)
    return roles
