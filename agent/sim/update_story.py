"""The story of ``evsed demo update``: an update in mid-charge, a sick image that goes back, three attacks.

Charter: plays on a ``Stage`` with a ``SimMachine``, a file server and a ``SimCsms``; compares what the CSMS was told,
which image runs, and which security events came, with what must be. What happens, in words, goes to ``tell``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.config.load import load
from agent.core.facts import Token
from agent.core.status import ConnectorState
from agent.firmware.client import InstallerAway, InstallerClient
from agent.firmware.view import InstallerView
from agent.ipc.port import StationLost, UpdateChanged
from agent.sim.csms import SimCsms
from agent.sim.file_server import FileServer
from agent.sim.machine import Image, SimMachine
from agent.sim.signer import Signer
from agent.sim.stage import Stage
from agent.sim.story import Onlooker, StoryFailed

Tell = Callable[[str], None]
END_STATUSES = frozenset(
    {"Installed", "InstallationFailed", "InstallVerificationFailed", "InvalidSignature", "DownloadFailed"}
)
_TO_INSTALLED = ("Downloading", "Downloaded", "SignatureVerified", "InstallScheduled", "Installing", "InstallRebooting")
_AT_ONCE = tuple(status for status in _TO_INSTALLED if status != "InstallScheduled")


@dataclass(frozen=True, slots=True)
class Chapter:
    """One order of the CSMS: what it was, what was told, what had to be told, and what runs afterwards."""

    name: str
    told: tuple[str, ...]
    expected: tuple[str, ...]
    runs: str
    runs_expected: str
    fetched_bytes: int
    bundle_bytes: int

    @property
    def good(self) -> bool:
        return self.told == self.expected and self.runs == self.runs_expected


class UpdateStory(Onlooker):
    """See the module. ``size_bytes``: of an image."""

    def __init__(self, stage: Stage, csms: SimCsms, tell: Tell, *, size_bytes: int, rate_kib_s: int) -> None:
        super().__init__(stage)
        self._csms = csms
        self._tell = tell
        self._size_bytes = size_bytes
        self.maker, self._stranger = Signer.make("Maker"), Signer.make("Stranger")
        stage.folder.mkdir(parents=True, exist_ok=True)
        self.machine = SimMachine(stage, self.maker.root_pem, rate_kib_s=rate_kib_s, tell=tell)
        self._orders = 0
        self.chapters: list[Chapter] = []

    async def play(self, scene: Callable[[FileServer], Awaitable[None]] | None = None) -> None:
        """Power on, play the whole story (or ``scene``), power off."""
        stage = self._stage
        Image("1.0.0").write(self.machine.slot_file("a"), self._size_bytes, seed=1)
        self.machine.slot_file("b").write_bytes(bytes(self._size_bytes))
        stage.lay_out()
        await stage.start_bench()
        running = asyncio.create_task(self.machine.run())
        try:
            with FileServer(stage.folder) as server:
                await self._until("the CSMS link", self._online)
                await (scene or self._chapters)(server)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _chapters(self, server: FileServer) -> None:
        good, sick = Image("2.0.0"), Image("3.0.0", meters="nowhere")
        await self._update_in_mid_charge(server, self.bundle(good, self.maker, epoch=2))
        await self.order(
            server, "a sick image", self.bundle(sick, self.maker, epoch=3), (*_AT_ONCE, "InstallationFailed"), "2.0.0"
        )
        await self._attacks(server)

    async def _update_in_mid_charge(self, server: FileServer, bundle: Path) -> None:
        self._tell("EVSE 1: a car plugs in, the driver swipes a card")
        await self._stage.order(1, "plug")
        await self._until("EVSE 1 to see the car", lambda: self._is(1, ConnectorState.PREPARING))
        station = await self._stage.station()
        await station.present_token(Token("04A1B2C3D4E5F6"), 1)
        await station.close()
        await self._until("EVSE 1 to charge", lambda: self._is(1, ConnectorState.CHARGING))
        self._tell("EVSE 1: charging")

        async def unplug() -> None:
            await self._until("the install to wait", lambda: self._told("InstallScheduled"))
            await self._until("EVSE 2 to be kept free", lambda: self._is(2, ConnectorState.UNAVAILABLE))
            self._tell("the image waits for the session; EVSE 2 is unavailable meanwhile")
            await asyncio.sleep(2)
            self._tell("EVSE 1: the driver unplugs")
            await self._stage.order(1, "unplug")

        leaving = asyncio.create_task(unplug())
        try:
            await self.order(server, "an update in mid-charge", bundle, (*_TO_INSTALLED, "Installed"), "2.0.0")
        finally:
            leaving.cancel()
        await self._until("EVSE 2 to be available again", lambda: self._is(2, ConnectorState.AVAILABLE))
        self._tell("EVSE 2 is available again")

    async def _attacks(self, server: FileServer) -> None:
        stranger = self.bundle(Image("6.6.6"), self._stranger, epoch=6)
        await self.order(server, "attack: signed by a stranger", stranger, ("Downloading", "InvalidSignature"), "2.0.0")
        old = self.bundle(Image("1.0.1"), self.maker, epoch=1)
        await self.order(server, "attack: an old release", old, ("Downloading", "InstallVerificationFailed"), "2.0.0")
        swapped = self.bundle(Image("2.0.1"), self.maker, epoch=2)
        signature = self.maker.sign_file(swapped)
        content = bytearray(swapped.read_bytes())
        # In a part that the device must fetch: what it finds in its own slots it does not take from anybody.
        content[-50_000:-49_000] = bytes(1_000)
        swapped.write_bytes(content)
        await self.order(
            server, "attack: a swapped payload", swapped, ("Downloading", "InvalidSignature"), "2.0.0", signature
        )

    # ---------------------------------------------------------------------------------------- orders

    def bundle(self, image: Image, signer: Signer, *, epoch: int) -> Path:
        """A bundle of an image that is mostly that of the first release."""
        folder = self._stage.folder
        image.write(folder / "image", self._size_bytes, seed=1, changed=0.4 if image.version == "2.0.0" else 0.02)
        return signer.bundle(
            folder / "image", folder / f"evsed-{image.version}.bundle", version=image.version, epoch=epoch
        )

    async def order(
        self,
        server: FileServer,
        name: str,
        bundle: Path,
        expected: tuple[str, ...],
        runs: str,
        signature: str | None = None,
    ) -> None:
        """One order of the CSMS, to its end; a chapter says how it went."""
        self._orders += 1
        self._tell(f"the CSMS orders an update: {name} ({bundle.name}, {bundle.stat().st_size / 2**20:.1f} MiB)")
        sent_before, watching = server.sent_bytes, asyncio.create_task(self._watch_progress())
        try:
            answer = await self._csms.update_firmware(
                server.url(bundle.name),
                self._orders,
                self.maker.certificate_pem,
                signature or self.maker.sign_file(bundle),
            )
            if answer != "Accepted":
                raise StoryFailed(f"the order was answered with {answer}")
            await self._until("the update to end", self._ended, within_s=120)
            await self._until("the CSMS link", self._online)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        slots = await self._slots()
        running = next(slot.version or "1.0.0" for slot in slots.slots if slot.running)
        fetched = server.sent_bytes - sent_before
        told = self._told_of(self._orders)
        self._tell(f"{told[-1]}; {running} runs; {fetched / 2**20:.1f} MiB came over the network")
        self.chapters.append(Chapter(name, told, expected, running, runs, fetched, bundle.stat().st_size))

    def _told_of(self, order: int) -> tuple[str, ...]:
        """Statuses of one order, as the CSMS heard them."""
        return tuple(status for status, request_id in self._csms.book.firmware if request_id == order)

    async def _ended(self) -> bool:
        return bool(END_STATUSES & set(self._told_of(self._orders)))

    async def _told(self, status: str) -> bool:
        return status in self._told_of(self._orders)

    async def _watch_progress(self) -> None:
        """Say how far the download is, every quarter."""
        said = -1
        while True:
            with contextlib.suppress(StationLost, TimeoutError):
                station = await self._stage.station()
                try:
                    while (news := await station.news.get()) is not None:
                        if isinstance(news, UpdateChanged) and news.update and news.update.total_bytes:
                            quarter = 4 * news.update.done_bytes // news.update.total_bytes
                            if quarter > said and news.update.phase == "downloading":
                                said = quarter
                                self._tell(f"download {25 * quarter} %")
                finally:
                    await station.close()
            await asyncio.sleep(0.2)

    # --------------------------------------------------------------------------------------- looking

    async def _slots(self) -> InstallerView:
        path = load(self._stage.config_file).station.installer_socket

        def ask() -> InstallerView:
            with InstallerClient(path) as installer:
                return installer.status()

        for _ in range(50):
            with contextlib.suppress(InstallerAway):
                return await asyncio.to_thread(ask)
            await asyncio.sleep(0.2)
        raise StoryFailed("the installer does not answer")


def all_good(chapters: Iterable[Chapter], csms: SimCsms) -> bool:
    """Everything was told and done as it must be, and the attacks were reported."""
    events = csms.book.security_events
    return (
        all(chapter.good for chapter in chapters)
        and events.count("InvalidFirmwareSignature") >= 2
        and events.count("FirmwareUpdated") == 1
        and not csms.book.violations
    )
