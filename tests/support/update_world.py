"""A charger that updates itself, on a disk that loses power: boot loader, installer, station and CSMS in one thread.

Charter: joins a ``PowerDisk`` (slots, what the boot loader reads, the installer's and the station's records), the model
of a boot loader, the real installer, writer and boot selector, and the real update machine behind a small shell in the
order of ``agent.station.updates``: a step and its statuses are one commit, what follows comes after it. The ledger is a
file that is replaced whole, so that its writes can be cut as well. ``World.check`` is what must hold of any disk that a
cut may leave, ``World.judge`` what must be true when nothing happens any more.

What an image does is known by its content: a healthy one passes its self-test, a sick one does not, a dead one never
comes up to anything. The network is perfect; what a lost one does is tested elsewhere.
"""

from __future__ import annotations

import enum
import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from agent.config.update import SlotTarget, UpdateConfig
from agent.core.facts import FirmwareFact, SecurityFact, UpdateVia
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.installer import Installer
from agent.firmware.installer_state import StateFile
from agent.firmware.machine import (
    Act,
    Booted,
    Effect,
    Hold,
    Now,
    Save,
    Staged,
    Tell,
    Update,
    UpdateMachine,
)
from agent.firmware.native_writer import NativeWriter
from agent.firmware.phases import WAITS, Phase
from agent.firmware.policy import DevicePolicy
from agent.firmware.ports import BootSelector
from agent.firmware.setup import STATE_FILE
from agent.firmware.storage import replace
from agent.firmware.view import InstallOrder, Origin, StagedPhase
from agent.ipc.codec import from_plain, to_plain
from agent.ipc.updates import FetchOrder, FetchReport, FetchStep, UpdateRequest
from tests.support.power_disk import Fate, PowerDisk
from tests.support.update_desk import FAILURES, illegal_step
from tests.unit.firmware.bundle.making import CHUNK, BytesSource, image, make_bundle
from tests.unit.firmware.bundle.pki import ROOT, SIGNER, ms
from tests.unit.firmware.selectors.rigs import Rig, slot_path

IMAGE_BYTES: Final = 7 * CHUNK + 700
SLOT_BYTES: Final = 9 * CHUNK
STATE_DIR: Final = Path("/data/installer")
LEDGER: Final = Path("/data/station/ledger")
NOW_MS: Final = ms("2026-12-01")
TRIES: Final = 3
MOST_BOOTS: Final = 16
MOST_STEPS: Final = 50
FIRST_BLOCK: Final = 512


class Health(enum.Enum):
    HEALTHY = "healthy"
    SICK = "sick"  # its self-test fails
    DEAD = "dead"  # resets before anything of ours runs


@dataclass(frozen=True)
class Release:
    """An image and the bundle that brings it. ``signature``: OCPP's, over the whole file."""

    version: str
    epoch: int
    health: Health
    content: bytes
    bundle: bytes
    signature: str

    def request(self, request_id: int, signature: str = "") -> UpdateRequest:
        """``signature``: another one than the right one."""
        return UpdateRequest(
            UpdateVia.SIGNED,
            request_id,
            f"https://example.com/{self.version}",
            0,
            signing_certificate=SIGNER.certificate_pem,
            signature=signature or self.signature,
        )


@cache
def release(version: str, epoch: int, health: Health = Health.HEALTHY) -> Release:
    """All releases share a few chunks in their middle, so that some need not be fetched."""
    own = random.Random(f"{version} {health}").randbytes(IMAGE_BYTES)
    content = own[: 3 * CHUNK] + random.Random(0).randbytes(2 * CHUNK) + own[5 * CHUNK :]
    bundle = make_bundle(image(content), version=version, epoch=epoch)
    return Release(version, epoch, health, content, bundle, SIGNER.sign_file(bundle))


FACTORY: Final = ("1.0", 0)
OLD: Final = ("1.1", 1)
NEW: Final = ("2.0", 2)
NEXT: Final = ("3.0", 3)


def config(folder: Path) -> UpdateConfig:
    """Of a device with one image for each slot; ``folder`` holds the roots, on a real disk."""
    roots = folder / "roots.pem"
    roots.write_text(ROOT.certificate_pem)
    slot = SlotTarget(target="rootfs", a=slot_path("a"), b=slot_path("b"))
    return UpdateConfig(state_dir=STATE_DIR, compatible="acme,ac22", hardware_revision=1, roots=roots, slot=(slot,))


@dataclass(frozen=True)
class Account:
    """What the station's ledger holds: the record of the update, and every row that the CSMS is told."""

    update: Update | None = None
    told: tuple[tuple[int | None, str], ...] = ()
    events: tuple[str, ...] = ()

    def statuses(self, request_id: int) -> list[str]:
        return [status for its_id, status in self.told if its_id == request_id]


def read_account(disk: PowerDisk) -> Account:
    if LEDGER not in disk.paths():
        return Account()
    plain = json.loads(disk.content(LEDGER))
    update = None if plain["update"] is None else from_plain(plain["update"], Update)
    return Account(update, tuple((each[0], each[1]) for each in plain["told"]), tuple(plain["events"]))


class Restart(Exception):
    """The station has ordered it."""


class Station:
    """One life of the station, from the installer's start on. ``hold``: new sessions are kept out."""

    installer_type: type[Installer] = Installer

    def __init__(self, world: World, disk: PowerDisk, slot: str, boot_id: str, *, asked: bool) -> None:
        self.world, self.disk, self.boot_id = world, disk, boot_id
        policy = DevicePolicy(world.config, lambda: NOW_MS)
        self.installer = self.installer_type(
            NativeWriter(disk, world.config, policy, "1.0"),
            self.make_selector(slot, asked=asked),
            "any",
            StateFile(disk, STATE_DIR / STATE_FILE),
            policy,
            tries=TRIES,
            boot_id=boot_id,
            wall_ms=lambda: NOW_MS,
        )
        self.health = world.runs(disk, slot).health
        self.hold = False
        self.engaged = True  # somebody charges until time passes for the first time
        self._acts: deque[Act] = deque()

    def make_selector(self, slot: str, *, asked: bool) -> BootSelector:
        return self.world.rig.selector(self.disk, slot, asked=asked)

    def run(self, request: UpdateRequest | None) -> None:
        """Until nothing more happens; raises ``Restart``."""
        self.installer.recover()
        self.account = read_account(self.disk)
        self.machine = UpdateMachine(self.account.update)
        self.carry_out(self.machine.booted(self.find_slot(), self._now()))
        if request is not None:
            self.carry_out(self.machine.ask(request, self._now()))
        for _ in range(MOST_STEPS):
            if self._acts:
                self.act(self._acts.popleft())
            elif (order := self.machine.order()) is not None:
                self.fetch(order)
            elif self.machine.phase in WAITS:
                self.engaged = False
                self.carry_out(self.machine.tick(self._now()))
            else:
                return
        raise AssertionError(f"busy for ever in {self.machine.phase}")

    def find_slot(self) -> Booted:
        found = self.installer.status()
        assert found.booted is not None
        self.on_trial = found.on_trial
        return Booted(found.booted, found.on_trial, self.boot_id)

    def carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Hold):
                self.hold = effect.on
        facts = [effect.fact for effect in effects if isinstance(effect, Tell)]
        saved = [effect.update for effect in effects if isinstance(effect, Save)]
        if facts or saved:
            self.commit(saved[-1] if saved else self.account.update, facts)
        self._acts.extend(effect for effect in effects if isinstance(effect, Act))

    def commit(self, update: Update | None, facts: Sequence[FirmwareFact | SecurityFact]) -> None:
        """All of it or nothing."""
        told = tuple((fact.request_id, fact.status) for fact in facts if isinstance(fact, FirmwareFact))
        events = tuple(fact.event_type for fact in facts if isinstance(fact, SecurityFact))
        self.account = Account(update, self.account.told + told, self.account.events + events)
        plain = {"update": to_plain(update), "told": self.account.told, "events": self.account.events}
        replace(self.disk, LEDGER, json.dumps(plain).encode())

    def _now(self) -> Now:
        return Now(NOW_MS, 0, self.engaged, False)

    def fetch(self, order: FetchOrder) -> None:
        """The gateway, which hands the bundle to the installer and tells how that went."""
        bundle = self.world.bundles[order.location]
        how: dict[str, Any]
        try:
            given = InstallOrder(Origin.OCPP, order.signing_certificate, order.signature)
            self.installer.install(BytesSource(bundle), given, lambda progress: None)
        except UpdateRefused as refused:
            how = {"step": FetchStep.REFUSED, "why": str(refused), "refusal": refused.refusal.value}
        except SlotFailed as failed:
            how = {"step": FetchStep.FAILED, "why": str(failed)}
        else:
            how = {"step": FetchStep.STAGED}
        held = self.installer.status().staged
        staged = None
        if held is not None and held.phase is StagedPhase.READY:
            staged = Staged(held.slot, held.version, held.digest, held.file_signed)
        self.carry_out(self.machine.report(FetchReport(order.ticket, **how), staged, self._now()))

    def act(self, act: Act) -> None:
        assert self.hold, f"a session may begin before {act}"
        match act:
            case Act.ACTIVATE:
                self._activate()
            case Act.REBOOT:
                raise Restart
            case Act.TEST:
                faults = "" if self.health is Health.HEALTHY else "no answer from meter 1"
                self.carry_out(self.machine.tested(faults, self._now()))
            case Act.CONFIRM:
                self._confirm()
            case Act.REVERT:
                self._revert()

    def _activate(self) -> None:
        assert self.machine.update is not None
        try:
            self.installer.activate(self.machine.update.digest)
        except UpdateRefused as refused:
            content = refused.refusal is Refusal.CORRUPT
            self.carry_out(self.machine.activation_failed(str(refused), self._now(), content=content))
        except SlotFailed as failed:
            self.carry_out(self.machine.activation_failed(str(failed), self._now(), content=False))
        else:
            self.carry_out(self.machine.activated(self.boot_id, (), self._now()))

    def _confirm(self) -> None:
        why_not = ""
        try:
            self.installer.confirm()
        except SlotFailed as failed:
            why_not = str(failed)
        self.carry_out(self.machine.confirmed(why_not, self._now()))

    def _revert(self) -> None:
        try:
            self.installer.revert()
        except (UpdateRefused, SlotFailed) as error:
            if isinstance(error, UpdateRefused) or not self.on_trial:
                self.carry_out(self.machine.stays(str(error), self._now()))
                return
        raise Restart


class World:
    """See the module. ``station``: the kind of station that lives here. ``releases``: all that may stand in a slot."""

    def __init__(
        self, rig: Rig, update_config: UpdateConfig, releases: Sequence[Release], station: type[Station] = Station
    ) -> None:
        self.rig, self.config, self.station = rig, update_config, station
        self.releases = releases
        self.bundles = {each.request(0).location: each.bundle for each in releases}
        self.loading = False  # the boot loader is at work

    def factory(self, installed: Release) -> PowerDisk:
        """As delivered: ``installed`` in slot a, nothing whole in slot b, no record of anything."""
        disk = self.rig.factory()
        for slot, content in (("a", installed.content), ("b", b"\xff")):
            disk.put(slot_path(slot), content.ljust(SLOT_BYTES, b"\xff"), device=True)
        for folder in (STATE_DIR, LEDGER.parent):
            disk.put(folder / "lost+found", b"")
        return disk

    def live(self, disk: PowerDisk, boots: str, request: UpdateRequest | None = None) -> Station:
        """Power on, until nothing happens any more; the last life. ``boots`` begins the names of its boots, and
        ``request`` comes in the first one."""
        asked = False
        for number in range(MOST_BOOTS):
            self.check(disk)
            self.loading = True
            slot = self.rig.boot(disk, asked=asked)
            self.loading = asked = False
            assert slot is not None, "nothing boots"
            if self.runs(disk, slot).health is Health.DEAD:
                continue
            station = self.station(self, disk, slot, f"{boots}{number}", asked=asked)
            try:
                station.run(request)
            except Restart:
                asked = station.installer.reboot_argument is not None
                request = None
                continue
            return station
        raise AssertionError("it never comes to rest")

    def stands(self, disk: PowerDisk, slot: str) -> Release | None:
        """The release that stands whole in a slot."""
        content = disk.content(slot_path(slot))
        return next((each for each in self.releases if content.startswith(each.content)), None)

    def runs(self, disk: PowerDisk, slot: str) -> Release:
        """The release that boots from a slot."""
        found = self.stands(disk, slot)
        assert found is not None, f"boots {slot}, which is torn"
        return found

    def check(self, disk: PowerDisk) -> None:
        """What holds of every disk, whenever power was cut."""
        boot = self.rig.selector(disk, None).state()
        for state in boot.slots:
            content = disk.content(slot_path(state.slot))
            stands = self.stands(disk, state.slot)
            assert stands is not None or not state.bootable, f"slot {state.slot} may boot and is torn"
            for each in self.releases:  # the first chunk goes first and comes last
                torn = not content.startswith(each.content[CHUNK:], CHUNK)
                looks_whole = content.startswith(each.content[:FIRST_BLOCK])
                assert not (torn and looks_whole), f"slot {state.slot} is torn and looks whole"
        good = [stands.epoch for slot in boot.slots if slot.good and (stands := self.stands(disk, slot.slot))]
        assert good, "no slot is good"
        assert self.epoch(disk) <= max(good), "epoch raised before the image was marked good"

    def epoch(self, disk: PowerDisk) -> int:
        """The installer's, on disk."""
        return StateFile(disk, STATE_DIR / STATE_FILE).load().security_epoch

    def judge(self, disk: PowerDisk, last: Station, wanted: Release, before: Release, request_id: int) -> str:
        """Whether everybody was told the truth, when all is over; the last status. ``before`` ran before."""
        booted = last.installer.status().booted
        assert booted is not None
        account, runs = read_account(disk), self.runs(disk, booted)
        told = account.statuses(request_id)
        assert not illegal_step(told), f"{illegal_step(told)} in {told}"
        assert last.machine.phase is Phase.IDLE, f"{last.machine.phase} for ever"
        assert not last.hold, "nobody may charge any more"
        boot = self.rig.selector(disk, booted).state()
        assert boot.of(booted).good and boot.primary == booted, f"nothing to rely on: {boot}"
        assert self.epoch(disk) == runs.epoch, f"epoch {self.epoch(disk)} of {runs.version}"
        installed = [status for _, status in account.told].count("Installed")
        assert account.events.count("FirmwareUpdated") == installed, f"{account.events}"
        if runs == before:
            assert not told or told[-1] in FAILURES, f"{told}, and the old image runs"
        else:
            assert runs == wanted and wanted.health is Health.HEALTHY, f"{runs.version} runs"
            assert told and told[-1] == "Installed", f"{told}, and the new image runs"
        return told[-1] if told else ""


def content_of(disk: PowerDisk) -> tuple[tuple[Path, bytes], ...]:
    """By which two disks are the same."""
    return tuple((path, disk.content(path)) for path in disk.paths())


def clone(disk: PowerDisk) -> PowerDisk:
    """The same content, everything durable, steps counted from 0."""
    return disk.after_cut(Fate.KEPT, random.Random(0))
