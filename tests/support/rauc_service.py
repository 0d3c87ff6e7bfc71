"""The real RAUC service on a bus of its own, with two raw slots and a boot loader that is a shell script.

Charter: for tests and the benchmark. Nothing of this machine is touched: the message bus is a private one, slots are
files (or what the caller names), and the service lives in its own mount and process namespaces, so that its end,
however it comes, takes mounts, loop devices and child processes with it. Needs root, as RAUC does; ``why_not`` says
what is missing.

The script is RAUC's "custom" boot loader interface (get-primary, set-primary, get-state, set-state) over an order of
bootnames and a word for each, which is what RAUC's U-Boot backend makes of BOOT_ORDER and BOOT_x_LEFT.
Sources: RAUC's manual (system.conf, custom bootloader backend); dbus-daemon(1); unshare(1).
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.rauc_bundles import COMPATIBLE, Signer, make_bundle, make_signer, run

_DEADLINE_S: Final = 20.0
_TOOLS: Final = ("rauc", "dbus-daemon", "mksquashfs", "unshare")
_ISOLATED: Final = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")

_BUS_CONF: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  {activation}
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""

_BOOT_SCRIPT: Final = """#!/bin/sh
cd '{folder}' || exit 1
case "$1" in
get-primary) for name in $(cat order); do [ "$(cat "state.$name")" = good ] && echo "$name" && exit; done; true ;;
set-primary) rest=; for name in $(cat order); do [ "$name" = "$2" ] || rest="$rest $name"; done
    echo "$2$rest" > order; echo good > "state.$2" ;;
get-state) cat "state.$2" ;;
set-state) echo "$3" > "state.$2" ;;
esac
"""


@cache
def why_not() -> str | None:
    """Why the real service cannot run here; None: it can."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "RAUC needs root"
    if "\tsquashfs" not in Path("/proc/filesystems").read_text() or not Path("/dev/loop-control").exists():
        return "the kernel has no squashfs or no loop devices"
    if subprocess.run([*_ISOLATED, "true"], capture_output=True, check=False).returncode != 0:
        return "no namespaces of mounts and processes"
    return None


@contextlib.contextmanager
def private_bus(folder: Path, services: Path | None = None) -> Iterator[str]:
    """The address of a message bus of our own. ``services``: a folder of .service files it may start."""
    folder.mkdir(exist_ok=True)
    socket, conf = folder / "bus", folder / "bus.conf"
    activation = f"<servicedir>{services}</servicedir>" if services is not None else ""
    conf.write_text(_BUS_CONF.format(socket=socket, activation=activation))
    command = ["dbus-daemon", f"--config-file={conf}", "--nofork", "--nopidfile", "--print-address"]
    with (folder / "bus.log").open("w") as log:
        daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert daemon.stdout is not None
        with daemon.stdout as lines:
            address = lines.readline().strip()
        assert address, (folder / "bus.log").read_text()
        yield address.partition(",guid=")[0]
    finally:
        daemon.kill()
        daemon.wait()


@dataclass(slots=True)
class RaucService:
    """A service that runs. ``environment``: for RAUC's own command line."""

    folder: Path
    address: str
    signer: Signer
    slots: tuple[Path, Path]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    _bundles: int = field(default=0)

    def make_bundle(self, image: Path) -> Path:
        """A bundle that this service accepts."""
        self._bundles += 1
        return make_bundle(self.folder / f"bundle-{self._bundles}.raucb", image, self.signer)

    def install(self, bundle: Path) -> None:
        """With RAUC's own command line; returns when RAUC is done."""
        run(["rauc", "install", str(bundle)], self.environment)

    def boot_state(self, bootname: str) -> str:
        return (self.folder / "boot" / f"state.{bootname}").read_text().strip()

    def set_boot_state(self, bootname: str, state: str) -> None:
        """As the boot loader does when tries run out."""
        (self.folder / "boot" / f"state.{bootname}").write_text(state)

    def boot_order(self) -> list[str]:
        return (self.folder / "boot" / "order").read_text().split()

    def log(self) -> str:
        return (self.folder / "service.log").read_text()

    def kill(self) -> None:
        """As a crash: no farewell."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def rauc_service(
    folder: Path,
    slot_size_bytes: int,
    *,
    booted: str = "A",
    system: Mapping[str, str] | None = None,
    handlers: Mapping[str, str] | None = None,
    keyring: Mapping[str, str] | None = None,
    slot_b: Path | None = None,
    signer: Signer | None = None,
) -> Iterator[RaucService]:
    """The service with slots A (``rootfs.0``) and B (``rootfs.1``), running from ``booted``. ``system``,
    ``handlers`` and ``keyring`` change its configuration; ``slot_b`` takes the place of the second file."""
    folder.mkdir(exist_ok=True)
    signer = signer or make_signer(folder, "signer")
    slots = (folder / "slot-a.img", slot_b or folder / "slot-b.img")
    for slot in slots:
        if not slot.exists():
            with slot.open("wb") as file:
                file.truncate(slot_size_bytes)
    trusted = {"path": str(signer.certificate), **(keyring or {})}
    conf = _configure(folder, slots, system or {}, handlers or {}, trusted)
    with private_bus(folder) as address:
        # Both names, so that no program started here finds the machine's own bus.
        buses = {"DBUS_SESSION_BUS_ADDRESS": address, "DBUS_SYSTEM_BUS_ADDRESS": address}
        environment = {**os.environ, **buses, "DBUS_STARTER_BUS_TYPE": "session"}
        command = [*_ISOLATED, "rauc", f"--conf={conf}", f"--override-boot-slot={booted}", "service"]
        with (folder / "service.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        service = RaucService(folder, address, signer, slots, environment, process)
        try:
            _wait_until_up(service)
            yield service
        finally:
            service.kill()


class Held(contextlib.ExitStack):
    """A service whose installation waits in its pre-install handler until ``let_go``."""

    def __init__(self, folder: Path, slot_size_bytes: int) -> None:
        super().__init__()
        folder.mkdir()
        gate, begun, handler = folder / "gate", folder / "begun", folder / "handler.sh"
        self._gate, self._begun = (self._pipe(path) for path in (gate, begun))
        handler.write_text(f"#!/bin/sh\necho > '{begun}'\nread -r _ < '{gate}'\nexit 0\n")
        handler.chmod(0o755)
        held = rauc_service(folder / "rauc", slot_size_bytes, handlers={"pre-install": str(handler)})
        self.service = self.enter_context(held)

    def _pipe(self, path: Path) -> int:
        """Open for both, so that neither side waits for the other one."""
        os.mkfifo(path)
        pipe = os.open(path, os.O_RDWR)
        self.callback(os.close, pipe)
        return pipe

    def wait_until_begun(self) -> None:
        readable, _, _ = select.select([self._begun], [], [], _DEADLINE_S)
        assert readable, self.service.log()

    def let_go(self) -> None:
        os.write(self._gate, b"\n")


def _configure(
    folder: Path,
    slots: tuple[Path, Path],
    system: Mapping[str, str],
    handlers: Mapping[str, str],
    keyring: Mapping[str, str],
) -> Path:
    boot, mounts = folder / "boot", folder / "mounts"
    if not boot.exists():
        boot.mkdir()
        (boot / "order").write_text("A B\n")
        for bootname in "AB":
            (boot / f"state.{bootname}").write_text("good\n")
    mounts.mkdir(exist_ok=True)
    script = boot / "boot.sh"
    script.write_text(_BOOT_SCRIPT.format(folder=boot))
    script.chmod(0o755)
    settings = {
        "compatible": COMPATIBLE,
        "bootloader": "custom",
        "bundle-formats": "plain verity",
        "mountprefix": str(mounts),
        "statusfile": str(folder / "rauc.status"),
        "activate-installed": "false",
        **system,
    }
    called = {"bootloader-custom-backend": str(script)} if settings["bootloader"] == "custom" else {}
    parts: dict[str, Mapping[str, str]] = {
        "system": settings,
        "keyring": keyring,
        "handlers": {**called, **handlers},
        "slot.rootfs.0": {"device": str(slots[0]), "type": "raw", "bootname": "A"},
        "slot.rootfs.1": {"device": str(slots[1]), "type": "raw", "bootname": "B"},
    }
    conf = folder / "system.conf"
    lines = [f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in keys.items()) for name, keys in parts.items()]
    conf.write_text("\n".join(lines))
    return conf


def _wait_until_up(service: RaucService) -> None:
    from jeepney import message_bus  # type: ignore[import-untyped]
    from jeepney.io.blocking import open_dbus_connection  # type: ignore[import-untyped]

    end_s = time.monotonic() + _DEADLINE_S
    with open_dbus_connection(service.address) as connection:
        question = message_bus.NameHasOwner("de.pengutronix.rauc")
        while not connection.send_and_get_reply(question, timeout=_DEADLINE_S).body[0]:
            assert service.process.poll() is None and time.monotonic() < end_s, service.log()
            time.sleep(0.01)
