"""A machine of real files, and its installer behind a real socket: what the tests of that socket have in common."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import structlog

from agent.config.update import SelectorKind, SlotTarget, UpdateConfig
from agent.firmware import server
from agent.firmware.client import InstallerAway, InstallerClient
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.installer import Installer
from agent.firmware.ports import Progress
from agent.firmware.server import InstallerServer, Role
from agent.firmware.setup import make_installer
from agent.firmware.storage import FileStorage
from agent.firmware.view import InstallOrder, Origin, StagedPhase
from tests.support.update_world import FACTORY, NOW_MS, OLD, SLOT_BYTES, config, release
from tests.unit.firmware.bundle.making import BytesSource
from tests.unit.firmware.bundle.pki import SIGNER

DEADLINE_S: Final = 10.0
ON_SITE: Final = InstallOrder(Origin.LOCAL)
BUNDLE: Final = release(*OLD).bundle
SIGNED: Final = InstallOrder(Origin.OCPP, SIGNER.certificate_pem, release(*OLD).signature)


def nobody(progress: Progress) -> None:
    pass


class Site:
    """A machine of files below ``folder``, and its installer behind a socket."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "r-installer" / "installer.sock"
        self.path.parent.mkdir()
        slot = SlotTarget(target="rootfs", a=folder / "slot-a", b=folder / "slot-b")
        slot.a.write_bytes(release(*FACTORY).content.ljust(SLOT_BYTES, b"\xff"))
        slot.b.write_bytes(bytes(SLOT_BYTES))
        (folder / "state").mkdir()
        (folder / "cmdline").write_text("quiet evsed.slot=a\n")
        (folder / "boot-id").write_text("boot 1\n")
        self.config: UpdateConfig = dataclasses.replace(
            config(folder),
            selector=SelectorKind.FILE,
            state_dir=folder / "state",
            command_line_file=folder / "cmdline",
            boot_id_file=folder / "boot-id",
            slot=(slot,),
            reboot_command=("touch", str(folder / "rebooted")),
        )
        self.roles = {os.getuid(): Role.STATION}
        self.idle_s: float | None = None
        self.make: Callable[[], Installer] = self.installer
        self._made: Installer | None = None
        self._making = threading.Lock()
        self._listener: socket.socket | None = None
        self.thread: threading.Thread | None = None

    def installer(self) -> Installer:
        with self._making:  # the threads of several peers may want it first
            if self._made is None:
                made = make_installer(self.config, FileStorage(), agent_version="1.0", wall_ms=lambda: NOW_MS)
                made.recover()
                self._made = made
            return self._made

    def start(self) -> Site:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen(16)
        self._listener = listener
        self._server = InstallerServer(
            listener, lambda: self.make(), self.roles, self.config.reboot_command, idle_s=self.idle_s
        )
        self.thread = threading.Thread(target=self._server.run, daemon=True)
        self.thread.start()
        return self

    def stop(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        if self.thread is not None:
            self.thread.join(DEADLINE_S)
            assert not self.thread.is_alive()
            wait_for(lambda: not any(self._server._connections.values()))

    def client(self) -> InstallerClient:
        return InstallerClient(self.path)

    def raw(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(DEADLINE_S)
        sock.connect(str(self.path))
        return sock

    def slot(self, slot: str) -> bytes:
        return (self.folder / f"slot-{slot}").read_bytes()


def answers(site: Site) -> bool:
    with contextlib.suppress(InstallerAway), site.client() as client:
        return client.status().booted == "a"
    return False


def installs(site: Site) -> bool:
    with site.client() as client:
        try:
            return client.install(BytesSource(BUNDLE), ON_SITE, nobody).phase is StagedPhase.READY
        except UpdateRefused as refused:  # the one before is being given up
            assert refused.refusal is Refusal.BUSY
            return False


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def wait_for(reached: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(int(DEADLINE_S * 100)):
        if reached():
            return
        done.wait(0.01)
    pytest.fail("not reached")


@contextlib.contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site that fails where the server met an error of its own, which ends the process in the field. Its threads log
    when pytest does not listen, so they log into a list."""
    died: list[int] = []
    logged: list[object] = []

    def keep(_: object, __: str, event: structlog.typing.EventDict) -> str:
        logged.append(event)
        return ""

    monkeypatch.setattr(os, "_exit", died.append)
    monkeypatch.setattr(server, "log", structlog.wrap_logger(structlog.ReturnLogger(), processors=[keep]))
    made = Site(folder)
    yield made
    made.stop()
    assert died == [], logged
