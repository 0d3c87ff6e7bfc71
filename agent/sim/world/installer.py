"""The installer of a simulated machine, its two slots, and downloads, as far as station and gateway can tell.

Charter: what the real installer answers, without bytes: a bundle is a version and a fate. Slots and boot loader
follow the documented rules (a trial, so many tries, back to the old image). That the real installer keeps these
promises over every write is proved in ``tests/crash``; here the update machine meets it at any moment.

Units: ms of virtual time.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from agent.firmware.client import InstallerAway
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.view import InstallerView, SlotView, StagedPhase, StagedView
from agent.ipc.port import StationLost, StationPort
from agent.ipc.updates import FetchOrder, FetchReport, FetchStep
from agent.station.platform import Installer

T = TypeVar("T")
TRIES: Final = 3
SLOTS: Final = ("a", "b")
DIES: Final = 0.02  # of its answers get lost


class Fate(enum.StrEnum):
    """What becomes of a bundle."""

    HEALTHY = "healthy"
    REFUSED = "refused"  # a wrong signature
    LOST = "lost"  # its server does not answer
    DIES = "dies"  # it never reaches userland: the boot loader gives up after its tries
    STUCK = "stuck"  # the download stands still for ever


@dataclass(frozen=True, slots=True)
class Bundle:
    version: str
    fate: Fate


class InstallerModel:
    """See the module. ``reboot`` is told when the machine is to restart; ``boot`` says what a start of it runs."""

    def __init__(self, chance: random.Random, reboot: Callable[[], None]) -> None:
        self._chance = chance
        self._reboot = reboot
        self.images: dict[str, Bundle | None] = {"a": Bundle("1.0.0", Fate.HEALTHY), "b": None}
        self.running = "a"
        self.primary = "a"  # what starts unless a trial is on
        self.tries_left = 0  # of the other slot; more than 0: it is tried next
        self.on_trial = False
        self.staged: StagedView | None = None
        self.away = False
        self.boots = 0
        self.unbootable = 0  # starts at which no slot could be run: must stay 0

    # ---------------------------------------------------------------------------------- the machine

    def boot(self) -> bool:
        """The boot loader chooses; False: this start reaches nobody, and the watchdog starts again."""
        self.boots += 1
        other = self._other(self.primary)
        self.on_trial = self.tries_left > 0
        self.running = other if self.on_trial else self.primary
        if self.on_trial:
            self.tries_left -= 1
        image = self.images[self.running]
        if image is None:
            self.unbootable += 1
            return False
        if not self.on_trial and self.staged is not None and self.staged.phase is StagedPhase.ACTIVATED:
            self.staged = replace(self.staged, phase=StagedPhase.ROLLED_BACK)
        return image.fate is not Fate.DIES

    def talks(self) -> Talks:
        return Talks(self, self._chance)

    # --------------------------------------------------------------------------- as InstallerClient

    def status(self) -> InstallerView:
        slots = tuple(self._slot(name) for name in SLOTS)
        return InstallerView("native", "file", self.running, self.primary, self.on_trial, 0, slots, self.staged)

    def _slot(self, name: str) -> SlotView:
        image = self.images[name]
        version = "" if image is None else image.version
        return SlotView(name, name == self.running, image is not None, name == self.primary, None, version, "", 0, None)

    def install(self, image: Bundle) -> StagedView:
        """A whole bundle is there. Raises ``UpdateRefused``, ``SlotFailed``."""
        if self.on_trial:
            raise UpdateRefused(Refusal.BUSY, "slot", "the running image is on trial")
        if image.fate is Fate.REFUSED:
            raise UpdateRefused(Refusal.SIGNATURE, "bundle", "no known signer")
        slot = self._other(self.running)
        self.images[slot] = image
        self.tries_left = 0
        digest = hashlib.sha256(image.version.encode()).hexdigest()
        self.staged = StagedView(slot, StagedPhase.READY, digest, image.version, 0, False)
        return self.staged

    def begin_writing(self) -> None:
        """The other slot loses what it held."""
        if not self.on_trial:
            slot = self._other(self.running)
            self.images[slot] = None
            self.tries_left = 0
            self.staged = StagedView(slot, StagedPhase.WRITING, "", "", 0, False)

    def activate(self, digest: str) -> StagedView:
        """May be repeated: its answer may have been lost."""
        if self.staged is None or self.staged.digest != digest or self.staged.phase is StagedPhase.WRITING:
            raise UpdateRefused(Refusal.UNSUPPORTED, "slot", "nothing of that name is staged")
        if self._chance.random() < 0.05:
            raise SlotFailed("slot", "reading back failed")
        self.staged = replace(self.staged, phase=StagedPhase.ACTIVATED)
        self.primary, self.tries_left = self.running, TRIES
        return self.staged

    def confirm(self) -> None:
        self.primary, self.tries_left, self.on_trial = self.running, 0, False
        self.staged = None

    def revert(self) -> str:
        if not self.on_trial:
            raise UpdateRefused(Refusal.UNSUPPORTED, "slot", "this slot is not on trial")
        self.tries_left = 0
        return self.primary

    def reboot(self) -> None:
        self._reboot()

    @staticmethod
    def _other(slot: str) -> str:
        return SLOTS[1 - SLOTS.index(slot)]


class Talks:
    """``agent.station.platform.InstallerTalks`` of one run of the station."""

    def __init__(self, model: InstallerModel, chance: random.Random) -> None:
        self._model = model
        self._chance = chance

    async def ask(self, question: Callable[[Installer], T]) -> T:
        await asyncio.sleep(self._chance.randint(2, 3_000) / 1_000)
        if self._model.away:
            raise InstallerAway("the installer does not answer")
        answer = question(self._model)
        if self._chance.random() < DIES:
            raise InstallerAway("it died with everything done and nothing answered")
        return answer

    def close(self) -> None:
        """Nothing of it is left to end: whoever waits is cancelled by the station."""


class DownloadModel:
    """``agent.gateway.Downloads``: reports as a download of ``image`` would go."""

    def __init__(self, model: InstallerModel, chance: random.Random, station: StationPort, image: Bundle) -> None:
        self._model = model
        self._chance = chance
        self._station = station
        self._image = image
        self._order: FetchOrder | None = None
        self._task: asyncio.Task[None] | None = None

    def take(self, order: FetchOrder | None) -> None:
        if order is not None and order == self._order and self._task is not None and not self._task.done():
            return
        self.stop()
        if order is not None:
            self._order = order
            self._task = asyncio.get_running_loop().create_task(self._run(order))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._order = None

    async def _run(self, order: FetchOrder) -> None:
        try:
            self._model.begin_writing()
            for done in range(5):
                await asyncio.sleep(self._chance.uniform(1, 60))
                await self._station.fetch_report(FetchReport(order.ticket, FetchStep.PROGRESS, done * 100, 500))
                if self._chance.random() < 0.1:
                    await self._station.fetch_report(FetchReport(order.ticket, FetchStep.PAUSED, done * 100, 500))
                    await asyncio.sleep(self._chance.uniform(1, 600))
                    await self._station.fetch_report(FetchReport(order.ticket, FetchStep.RESUMED, done * 100, 500))
            await self._end(order)
        except StationLost:
            return  # it orders again when it is back

    async def _end(self, order: FetchOrder) -> None:
        step, why, retryable, refusal = FetchStep.STAGED, "", False, ""
        if self._image.fate is Fate.STUCK:
            await asyncio.get_running_loop().create_future()
        if self._image.fate is Fate.LOST or self._model.away:
            step, why, retryable = FetchStep.LOST, "its server does not answer", True
        else:
            try:
                self._model.install(self._image)
            except UpdateRefused as refused:
                step, why, refusal = FetchStep.REFUSED, str(refused), refused.refusal.value
        await self._station.fetch_report(FetchReport(order.ticket, step, 500, 500, why, retryable, refusal))
