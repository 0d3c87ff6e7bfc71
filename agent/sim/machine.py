"""A machine with two slots, in miniature: what a boot loader and an image do around the real processes.

Charter: powers on, lets the model of the boot loader pick a slot, "boots" the image there and starts the station's
processes; restarts when the installer says so. An image is a file whose first line says its version and what is wrong
with it: a sick one looks for its meters on the wrong ports, a dead one starts nothing at all. The rest is ballast.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.firmware.installer import SLOTS
from agent.firmware.storage import FileStorage
from agent.sim.bootloaders import FileLoader
from agent.sim.signer import COMPATIBLE
from agent.sim.stage import Stage

_PANIC_S = 1.0
_HEAD_BYTES = 4_096

_CONFIG = """\
[update]
selector = "file"
state_dir = "{folder}/installer"
compatible = "{compatible}"
roots = "{folder}/roots.pem"
schemes = ["http"]
rate_limit_kib_s = {rate_kib_s}
self_test_s = 10
image_version_file = "{folder}/image-version"
command_line_file = "{folder}/cmdline"
boot_id_file = "{folder}/boot-id"
reboot_command = ["touch", "{folder}/reboot"]

[[update.slot]]
a = "{folder}/slots/a.img"
b = "{folder}/slots/b.img"

"""


@dataclass(frozen=True, slots=True)
class Image:
    """What an image says of itself. ``meters``: the word that its meters' ports begin with."""

    version: str
    meters: str = "meter"
    dead: bool = False

    def write(self, path: Path, size_bytes: int, seed: int, changed: float = 0.0) -> None:
        """The first line, then ballast by ``seed``, the last part of it (``changed``) the image's own."""
        head = json.dumps(asdict(self)).encode().ljust(_HEAD_BYTES - 1) + b"\n"
        ballast = random.Random(seed).randbytes(size_bytes - len(head))
        own = random.Random(self.version).randbytes(int(size_bytes * changed))
        path.write_bytes(head + ballast[: len(ballast) - len(own)] + own)

    @classmethod
    def read(cls, path: Path) -> Image:
        with path.open("rb") as file:
            return cls(**json.loads(file.readline(_HEAD_BYTES)))


class SimMachine:
    """One machine on a stage. ``roots_pem``: whom it trusts with its firmware."""

    def __init__(self, stage: Stage, roots_pem: str, *, rate_kib_s: int, tell: Callable[[str], None]) -> None:
        self._stage = stage
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        self.boots: list[tuple[str, str]] = []  # (slot, version), in order
        folder = stage.folder
        for name in ("slots", "installer"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "roots.pem").write_text(roots_pem)
        stage.extra = _CONFIG.format(folder=folder, compatible=COMPATIBLE, rate_kib_s=rate_kib_s)

    def slot_file(self, slot: str) -> Path:
        return self._stage.folder / "slots" / f"{slot}.img"

    async def run(self) -> None:
        """On, until cancelled: boots, and boots again whenever the installer restarts it."""
        while True:
            await self._boot()
            await self._until_reboot()

    async def _boot(self) -> None:
        folder = self._stage.folder
        loader = FileLoader(FileStorage(), folder / "installer" / "boot.json", SLOTS)
        while True:
            slot = loader.boot()
            image = Image.read(self.slot_file(slot))
            self.boots.append((slot, image.version))
            self._tell(f"boot loader: slot {slot}, image {image.version}")
            if not image.dead:
                break
            self._tell(f"image {image.version} dies at once")
            await asyncio.sleep(_PANIC_S)
        (folder / "cmdline").write_text(f"console=ttyS0 evsed.slot={slot}\n")
        (folder / "boot-id").write_text(f"boot-{len(self.boots)}\n")
        (folder / "image-version").write_text(f"{image.version}\n")
        self._stage.meter_word = image.meters
        self._stage.lay_out()
        self._process = await self._stage.launch("run")

    async def _until_reboot(self) -> None:
        wanted = self._stage.folder / "reboot"
        while not wanted.exists():  # noqa: ASYNC110 - a file is how the installer's command says it
            await asyncio.sleep(0.1)
        wanted.unlink()
        self._tell("the machine restarts")
        assert self._process is not None
        self._process.terminate()
        await self._process.wait()
