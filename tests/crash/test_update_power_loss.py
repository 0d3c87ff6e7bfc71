"""Power is cut at every step of a whole update, in installer, station and boot loader: what boots, and what is told.

An update is told once with an eye on the disk: before each of its steps, and at the end, are seen all the disks that a
cut there may leave. From each that was not seen before, the charger goes on by itself until nothing happens any more.
Then an image that is whole runs, the CSMS was told in a legal order how it ended, once and as it is, and the next
update succeeds. Power is also cut again while it goes on. The same checks must find the fault of careless variants.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from agent.core.facts import FirmwareFact, SecurityFact
from agent.firmware.engines.native_image import ImageWriter
from agent.firmware.engines.slot_file import SlotFile
from agent.firmware.installer import Installer
from agent.firmware.machine import Act, Booted, Update
from agent.firmware.phases import Phase
from agent.firmware.ports import BootSelector
from agent.firmware.storage import StoredFile
from agent.firmware.view import StagedView
from tests.support.power_disk import Fate, PowerDisk
from tests.support.update_world import (
    FACTORY,
    NEW,
    NEXT,
    OLD,
    Health,
    Station,
    World,
    clone,
    config,
    content_of,
    read_account,
    release,
)
from tests.unit.firmware.selectors.rigs import RIGS

FULL: Final = os.environ.get("EVSED_CRASH") == "full"
SEED: Final = 20261128
MIXES: Final = 20 if FULL else 3
AGAIN: Final = 1 if FULL else 3  # after one in so many of the first cuts, power is cut again
STEPS_AGAIN: Final = 1 if FULL else 5  # before one in so many of the steps
BEFORE_ID, ID, NEXT_ID = 1, 2, 3

_ONE_TRY: Final = frozenset({Phase.REBOOTING, Phase.TESTING, Phase.CONFIRMING})


@dataclass(frozen=True)
class Story:
    """What is ordered, and how it must end. ``forged``: OCPP's signature is that of another file. ``from_trial``: what
    comes before the trial is the same as in another story."""

    health: Health
    ends: str
    forged: bool = False
    from_trial: bool = False


STORIES: Final = {
    "healthy": Story(Health.HEALTHY, "Installed"),
    "sick": Story(Health.SICK, "InstallationFailed", from_trial=not FULL),
    "dead": Story(Health.DEAD, "InstallationFailed", from_trial=not FULL),
    "forged": Story(Health.HEALTHY, "InvalidSignature", forged=True),
}


@dataclass(frozen=True)
class Found:
    """A disk as a cut left it. ``excused``: a healthy image may have lost its only try by that."""

    disk: PowerDisk
    where: str
    excused: bool


class Campaign:
    """One update of one charger, again and again, from what a delivered or a once updated one is like. In the latter
    both slots were good, and the old image runs in slot b."""

    def __init__(
        self, folder: Path, name: str, story: Story, station: type[Station] = Station, *, updated: bool = True
    ) -> None:
        self.name, self.story = name, story
        factory, self.new, self.next = release(*FACTORY), release(*NEW, story.health), release(*NEXT)
        self.old = release(*OLD) if updated else factory
        self.world = World(RIGS[name], config(folder), (factory, self.old, self.new, self.next))
        disk = self.world.factory(factory)
        if updated:
            self.world.live(disk, "before ", self.old.request(BEFORE_ID))
        self.start = Found(clone(disk), "", excused=False)
        self.world.station = station
        self.order = self.new.request(ID, self.next.signature if story.forged else "")
        self.chance = random.Random(SEED)
        self.seen = {content_of(disk)}
        self.updated_again: set[object] = set()
        self.ends: Counter[str] = Counter()

    def begin(self, mixes: int) -> list[Found]:
        """Tell all of it without a cut; the disks that one on the way may leave."""
        return self.tell(self.start, "first ", mixes=mixes, every=1, ask=True)

    def go_on(self, found: Found, boots: str, *, mixes: int = 0, every: int = 0) -> list[Found]:
        """To the end, from what a cut has left; the disks that another one on the way may leave. ``every``: looks
        before one in so many steps."""
        return self.tell(found, boots, mixes=mixes, every=every, ask=False)

    def tell(self, found: Found, boots: str, *, mixes: int, every: int, ask: bool) -> list[Found]:
        """The disks are those that nobody has seen before."""
        disk, fresh = clone(found.disk), []

        def look(what: str) -> None:
            if not every or disk.steps % every or (ask and self.story.from_trial and not self._tried(disk)):
                return
            where = f"{found.where}; cut before step {disk.steps}, {what}"
            for fate in (Fate.DROPPED, Fate.KEPT, *[Fate.MIXED] * mixes):
                left = disk.after_cut(fate, self.chance)
                if (key := content_of(left)) not in self.seen:
                    self.seen.add(key)
                    fresh.append(Found(left, f"{where}, {fate.value}", found.excused or self._excused(left)))

        before_each_step(disk, look)
        try:
            last = self.world.live(disk, boots, self.order if ask else None)
            look("the end")
            self._judge(disk, last, excused=found.excused, asked=ask)
        except AssertionError as error:
            raise AssertionError(f"{error}{found.where}") from error
        return fresh

    def _tried(self, disk: PowerDisk) -> bool:
        account = read_account(disk)
        return "Installing" in account.statuses(ID)

    def _excused(self, left: PowerDisk) -> bool:
        """The Raspberry Pi's firmware tries once, also where the power is cut then or just before; systemd-boot's
        counter may get lost on FAT."""
        update = read_account(left).update
        one_try = self.name == "tryboot" and update is not None and update.phase in _ONE_TRY
        return one_try or (self.name == "sdboot" and self.world.loading)

    def _judge(self, disk: PowerDisk, last: Station, *, excused: bool, asked: bool) -> None:
        status = self.world.judge(disk, last, self.new, self.old, ID)
        assert status or not asked, "accepted, and nothing was told"
        assert status in ("", self.story.ends, "InstallationFailed" if excused else ""), f"ended as {status}"
        self.ends[status] += 1
        if (key := content_of(disk)) not in self.updated_again:
            self.updated_again.add(key)
            self._update_again(clone(disk), last)

    def _update_again(self, disk: PowerDisk, last: Station) -> None:
        runs = self.world.runs(disk, last.installer.status().booted or "")
        last = self.world.live(disk, "next ", self.next.request(NEXT_ID))
        status = self.world.judge(disk, last, self.next, runs, NEXT_ID)
        assert status == "Installed", f"the next update ended as {status}"


def before_each_step(disk: PowerDisk, call: Callable[[str], None]) -> None:
    """``call`` with what the next step is."""
    step = disk._step

    def watched(what: str) -> None:
        call(what)
        step(what)

    disk._step = watched  # type: ignore[method-assign]


BEGINNINGS: Final = [
    (beginning, story)
    for beginning in ("delivered", "updated")
    for story in STORIES
    if FULL or beginning == "updated" or story in ("healthy", "dead")
]


@pytest.mark.parametrize(("beginning", "story"), BEGINNINGS)
@pytest.mark.parametrize("name", RIGS)
def test_whenever_power_is_cut_an_image_boots_and_the_truth_is_told(
    tmp_path: Path, name: str, beginning: str, story: str
) -> None:
    campaign = Campaign(tmp_path, name, STORIES[story], updated=beginning == "updated")
    first = campaign.begin(MIXES)
    assert len(first) > 12
    second = []
    for number, found in enumerate(first):
        again = number % AGAIN == 0 and (FULL or beginning == "updated")
        second += campaign.go_on(found, "second ", mixes=1, every=STEPS_AGAIN if again else 0)
    for found in second:
        campaign.go_on(found, "third ")
    assert campaign.ends[STORIES[story].ends] > 12, campaign.ends
    if STORIES[story].from_trial:
        assert not campaign.ends[""]


# ------------------------------------------------------------------------------------------- careless variants


class SkipsBlock(Station):
    """Writes a slot that the boot loader may still boot."""

    def make_selector(self, slot: str, *, asked: bool) -> BootSelector:
        selector = super().make_selector(slot, asked=asked)
        selector.block = lambda slot: None  # type: ignore[method-assign]
        return selector


class Unsynced:
    """A disk to which nobody waits that anything gets."""

    def __init__(self, disk: PowerDisk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def open(self, path: Path, **how: bool) -> StoredFile:
        return unsynced(self._disk.open(path, **how))

    def create(self, path: Path, mode: int = 0o600) -> StoredFile:
        return unsynced(self._disk.create(path, mode))

    def sync_folder(self, folder: Path) -> None:
        pass


def unsynced(file: StoredFile) -> StoredFile:
    file.sync = lambda: None  # type: ignore[method-assign]
    return file


class SyncsNoSelector(Station):
    """What the boot loader reads gets to the disk some time."""

    def make_selector(self, slot: str, *, asked: bool) -> BootSelector:
        return self.world.rig.selector(Unsynced(self.disk), slot, asked=asked)


class ActsFirst(Station):
    """Does not wait for a step to be durable before it acts: a commit gets to the disk with the next one, or when
    there is nothing to do."""

    owed: tuple[Update | None, Sequence[FirmwareFact | SecurityFact]] | None = None

    def commit(self, update: Update | None, facts: Sequence[FirmwareFact | SecurityFact]) -> None:
        self.pay()
        self.owed = (update, facts)

    def pay(self) -> None:
        if self.owed is not None:
            super().commit(*self.owed)
            self.owed = None

    def act(self, act: Act) -> None:
        if act is Act.REBOOT:
            self.pay()
        super().act(act)

    def run(self, request: Any) -> None:
        super().run(request)
        self.pay()


class TellsApart(Station):
    """Statuses are committed after the step that they tell of."""

    def commit(self, update: Update | None, facts: Sequence[FirmwareFact | SecurityFact]) -> None:
        super().commit(update, ())
        super().commit(update, facts)


class TellsTwice(Station):
    """Statuses are committed before the step that they tell of."""

    def commit(self, update: Update | None, facts: Sequence[FirmwareFact | SecurityFact]) -> None:
        super().commit(self.account.update, facts)
        super().commit(update, ())


class RaisesEpochEarly(Station):
    """With the installation, not when the image was marked good."""

    class installer_type(Installer):  # noqa: N801
        def install(self, *given: Any, **named: Any) -> StagedView:
            view = super().install(*given, **named)
            self._save(dataclasses.replace(self._state, security_epoch=view.security_epoch))
            return view


class BelievesTheRecord(Station):
    """Which slot runs after a restart."""

    def find_slot(self) -> Booted:
        found, update = super().find_slot(), self.account.update
        return found if update is None else dataclasses.replace(found, slot=update.slot or found.slot)


def first_chunk_first(monkeypatch: pytest.MonkeyPatch) -> None:
    obtain = ImageWriter._obtain

    def at_once(writer: ImageWriter, slot: SlotFile, index: int) -> tuple[bytes, bool]:
        content, was_right = obtain(writer, slot, index)
        if index == 0:
            slot.write(0, content)
        return content, index == 0 or was_right

    monkeypatch.setattr(ImageWriter, "_obtain", at_once)
    monkeypatch.setattr(ImageWriter, "_spoil", lambda writer, slot: None)


def faults(campaign: Campaign) -> list[str]:
    """What the checks find where one life was careless until power was cut, and all later ones are not."""
    try:
        disks = campaign.begin(MIXES)
    except AssertionError as error:
        return [f"without any cut: {error}"]
    campaign.world.station = Station
    found = []
    for disk in disks:
        try:
            campaign.go_on(disk, "second ")
        except AssertionError as error:
            found.append(str(error))
    return found


CARELESS: Final[list[tuple[type[Station], str, str, str]]] = [
    (SkipsBlock, "file", "healthy", "may boot and is torn"),
    (SkipsBlock, "uboot", "healthy", "may boot and is torn"),
    (SkipsBlock, "sdboot", "healthy", "may boot and is torn"),
    *[(SyncsNoSelector, name, "healthy", "") for name in RIGS],
    (ActsFirst, "file", "healthy", ""),
    (TellsApart, "file", "healthy", " after "),
    (TellsTwice, "file", "healthy", " after "),
    (RaisesEpochEarly, "uboot", "sick", "epoch raised before"),
    (BelievesTheRecord, "tryboot", "dead", ""),
]


@pytest.mark.parametrize(("station", "name", "story", "finds"), CARELESS)
def test_control_the_checks_find_a_careless_station(
    tmp_path: Path, station: type[Station], name: str, story: str, finds: str
) -> None:
    found = faults(Campaign(tmp_path, name, STORIES[story], station))
    assert any(finds in fault for fault in found), found


def test_control_the_checks_find_a_first_chunk_that_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_chunk_first(monkeypatch)
    assert any("torn and looks whole" in fault for fault in faults(Campaign(tmp_path, "file", STORIES["healthy"])))
