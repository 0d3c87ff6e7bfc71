"""A device with two slots in a folder, and its installer as a real process: for tests of commands and units.

Charter: the boot loader is ``FileLoader``, a restart of the machine is a file that the installer's command touches.
No station, no gateway: what they do in an update is tested elsewhere.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.firmware.client import InstallerClient
from agent.firmware.storage import FileStorage
from agent.sim.bootloaders import FileLoader
from agent.sim.signer import COMPATIBLE, Signer

SLOTS = ("a", "b")
IMAGE_BYTES = 3 * 1024 * 1024 + 4096
START_S = 20.0

_CONFIG = """\
[station]
identity = "CP-0001"
vendor = "Example"
model = "Wallbox"
serial = "1"
data_dir = "{folder}/data"
run_dir = "{folder}/run"

[auth]
free = true

[update]
selector = "file"
state_dir = "{folder}/state"
compatible = "{compatible}"
roots = "{folder}/roots.pem"
command_line_file = "{folder}/cmdline"
reboot_command = ["touch", "{folder}/rebooted"]

[[update.slot]]
a = "{folder}/a.img"
b = "{folder}/b.img"

[[evse]]
id = 1
board = "mcu_ac"
connector_type = "cType2"
cable = "fixed"
max_current_ma = 16_000
pilot = {{ port = "{folder}/pilot" }}
meter = {{ port = "{folder}/meter" }}
"""


class UpdateKit:
    """See the module. ``maker`` signs what the device trusts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.maker = Signer.make("Maker")
        self.config = folder / "evsed.toml"
        self.socket = folder / "run-installer" / "installer.sock"
        self.state_file = folder / "state" / "installer.json"
        self._wanted = folder / "rebooted"
        (folder / "state").mkdir()
        (folder / "roots.pem").write_text(self.maker.root_pem)
        self.config.write_text(_CONFIG.format(folder=folder, compatible=COMPATIBLE))
        for slot in SLOTS:
            self.slot_file(slot).write_bytes(bytes(IMAGE_BYTES))
        self.boot()

    def slot_file(self, slot: str) -> Path:
        return self.folder / f"{slot}.img"

    def boot(self) -> str:
        """What the boot loader does at power-on; the installer must not run."""
        slot = FileLoader(FileStorage(), self.folder / "state" / "boot.json", SLOTS).boot()
        (self.folder / "cmdline").write_text(f"console=ttyS0 evsed.slot={slot}\n")
        self._wanted.unlink(missing_ok=True)
        return slot

    @property
    def restarts(self) -> bool:
        """Whether the installer was told to restart the machine since it booted."""
        return self._wanted.exists()

    def bundle(self, version: str, *, epoch: int, signer: Signer | None = None) -> Path:
        image = self.folder / "image"
        image.write_bytes(version.encode().ljust(IMAGE_BYTES, b"."))
        return (signer or self.maker).bundle(image, self.folder / f"{version}.bundle", version=version, epoch=epoch)

    @contextmanager
    def installer(self, around: Sequence[str] = ()) -> Iterator[InstallerClient]:
        """The installer runs, started by the program ``around`` if there is one; yields a connection to it."""
        command = [*around, sys.executable, "-m", "agent.cli", "installer", "--config", str(self.config)]
        with (self.folder / "installer.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            installer_pid = self._await(process)
            with InstallerClient(self.socket) as client:
                yield client
            _end(installer_pid, process)
        finally:
            process.kill()
            process.wait()

    def _await(self, process: subprocess.Popen[bytes]) -> int:
        """The process that listens, once one does."""
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and process.poll() is None:
            with suppress(OSError), socket.socket(socket.AF_UNIX) as looking:
                looking.connect(str(self.socket))
                return int(struct.unpack("3i", looking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
            time.sleep(0.02)
        raise AssertionError((self.folder / "installer.log").read_text())


def _end(pid: int, process: subprocess.Popen[bytes]) -> None:
    """As systemd would; again and again, since a signal may meet a thread that is about to end."""
    deadline_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.02)
    assert process.poll() is not None, "the installer does not end"
