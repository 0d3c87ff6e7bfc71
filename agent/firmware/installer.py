"""The installer's decisions: which bundle may go into which slot, and what the boot loader is told, in safe order.

Charter: joins a writer (engine) and a boot selector. Trusts nobody: whoever sends a bundle, it is judged here, and a
promise made before a power cut is looked up, not believed. Every step is durable before the next one begins, so that a
cut at any point leaves an image that boots. One change at a time; a download makes way for whoever is on site.

    install:   record "writing" -> slot blocked -> chunks, first one last -> file signature -> record "ready"
    activate:  slot read back -> boot selector: pending, with tries -> record "activated" -> (reboot)
    confirm:   boot selector: good -> record: epoch raised

Source: firmware reference 1.5 (order of writes, rules from the complaints).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.installer_state import InstallerState, SlotRecord, StateFile
from agent.firmware.mcu import Staged
from agent.firmware.ports import BootSelector, BootState, OnProgress, Source
from agent.firmware.selectors.rules import other_of
from agent.firmware.turn import Turn
from agent.firmware.view import (
    InstallerView,
    InstallOrder,
    Origin,
    SlotView,
    StagedPhase,
    StagedView,
)

SLOTS: Final = ("a", "b")

CheckFile = Callable[[bytes], None]
"""Given the SHA-256 of the whole bundle file; raises ``UpdateRefused``."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A bundle whose own signatures hold and that fits this device."""

    version: str
    digest: str
    security_epoch: int
    built_wall_ms: int


class Writer(Protocol):
    """An engine as the installer uses it. Methods raise ``UpdateRefused``, ``SourceLost``, ``SlotFailed``."""

    name: str

    def judge(self, source: Source, state: InstallerState, active: str, on_progress: OnProgress) -> Candidate:
        """May this bundle be installed beside slot ``active``? Before the first byte of a slot is written."""
        ...

    def write(
        self, source: Source, target: str, active: str, check_file: CheckFile | None, on_progress: OnProgress
    ) -> None:
        """Put the bundle that was judged last into slot ``target``; durable when it returns."""
        ...

    def staged_mcu(self, target: str, slot: str) -> Staged | None:
        """Firmware of a microcontroller that belongs to the slot; None: none does."""
        ...

    def read_back(self, slot: str, digest: str) -> None:
        """Is the bundle with this digest in the slot, whole? Raises ``UpdateRefused`` (CORRUPT) where not."""
        ...


class FileSigner(Protocol):
    """The signer of an OCPP order, judged."""

    def verify(self, sha256_digest: bytes, signature_base64: str) -> None: ...


class Policy(Protocol):
    """What an order must bring. Raises ``UpdateRefused``."""

    def signer(self, certificate: str, trusted_wall_ms: int) -> FileSigner:
        """The owner of an OCPP signing certificate, if it is acceptable. ``trusted_wall_ms``: has surely passed."""
        ...

    def check_unsigned(self, origin: Origin) -> None:
        """May this origin bring a bundle that nobody signed besides?"""
        ...


class Installer:
    """See the module. ``recover`` first, once at every start."""

    def __init__(
        self,
        writer: Writer,
        selector: BootSelector,
        selector_name: str,
        state: StateFile,
        policy: Policy,
        *,
        tries: int,
        boot_id: str,
        wall_ms: Callable[[], int],
    ) -> None:
        self._writer = writer
        self._selector = selector
        self._selector_name = selector_name
        self._file = state
        self._policy = policy
        self._tries = tries
        self._boot_id = boot_id
        self._wall_ms = wall_ms
        self._state = InstallerState()
        self._turn = Turn()
        self._notes: tuple[str, ...] = ()

    @property
    def reboot_argument(self) -> str | None:
        """For reboot(2), where the slot to be tried depends on it."""
        return self._selector.reboot_argument

    # ------------------------------------------------------------------------------------- looking

    def recover(self) -> list[str]:
        """Finish what a power cut left half done; says in plain words what was found."""
        self._state = self._file.load()
        notes = self._selector.repair()
        boot, staged = self._selector.state(), self._state.staged
        if boot.booted is not None and not boot.on_trial and boot.of(boot.booted).good:
            # A cut between the boot selector's "good" and our record of it.
            self._save(self._state.with_good(boot.booted))
        if staged is not None and staged.slot != boot.booted:
            notes += self._end_trial(staged, boot)
        if self._passed_over(boot):
            notes.append(f"the boot loader started slot {boot.booted}, although {boot.primary} is good and comes first")
        self._notes = tuple(notes)
        return notes

    def _end_trial(self, staged: StagedView, boot: BootState) -> list[str]:
        """Another slot runs than the staged one. Unless that still waits for the first boot after its activation, it
        is tried no more: a boot loader may pass over a slot that it cannot start and still have it first in line."""
        activated, notes = staged.phase is StagedPhase.ACTIVATED, []
        if activated and self._state.activated_boot_id == self._boot_id:
            return []
        if activated and boot.of(staged.slot).good:  # the same cut, and the boot loader has passed it over since
            self._save(self._state.with_good(staged.slot))
            return []
        if boot.primary == staged.slot:
            if boot.booted is None or not boot.of(boot.booted).good or boot.of(staged.slot).good:
                return []  # nothing to fall back on, or nothing that is on trial
            self._selector.block(staged.slot)
            notes.append(f"slot {staged.slot} with {staged.version} was still first in line and is not any more")
        if activated:
            self._save(replace(self._state, staged=replace(staged, phase=StagedPhase.ROLLED_BACK)))
            notes.append(f"slot {staged.slot} with {staged.version} was tried and did not become good")
        return notes

    def _passed_over(self, boot: BootState) -> bool:
        """A good slot runs, and another one comes first of which the boot loader was told before this boot: it could
        not load that. May it do so at a later boot; until then that slot is free for an update like any other."""
        if boot.booted is None or boot.primary is None or boot.primary == boot.booted or boot.on_trial:
            return False
        return boot.of(boot.primary).good and self._state.activated_boot_id != self._boot_id

    def status(self) -> InstallerView:
        boot, state = self._selector.state(), self._state
        return InstallerView(
            engine=self._writer.name,
            selector=self._selector_name,
            booted=boot.booted,
            primary=boot.primary,
            on_trial=boot.on_trial,
            security_epoch=state.security_epoch,
            slots=tuple(self._slot_view(slot, boot) for slot in SLOTS),
            staged=state.staged,
            notes=self._notes,
        )

    def _slot_view(self, slot: str, boot: BootState) -> SlotView:
        told, record = boot.of(slot), self._state.slots.get(slot)
        return SlotView(
            slot=slot,
            running=boot.booted == slot,
            bootable=told.bootable,
            good=told.good,
            tries_left=told.tries_left,
            version=record.version if record else "",
            digest=record.digest if record else "",
            security_epoch=record.security_epoch if record else None,
            installed_wall_ms=record.installed_wall_ms if record else None,
        )

    def mcu(self, target: str) -> Staged | None:
        """What the running slot brings for a microcontroller."""
        return self._writer.staged_mcu(target, self._booted())

    # ------------------------------------------------------------------------------------ changing

    def install(
        self, source: Source, order: InstallOrder, on_progress: OnProgress, end: Callable[[], None] = lambda: None
    ) -> StagedView:
        """Judge a bundle and put it into the inactive slot. ``end``, called by another thread: somebody on site comes
        first, ``source`` is to be lost now. Nobody ends what is brought on site."""
        download_end = None if order.origin is Origin.LOCAL else end
        with self._turn.taken(download_end, first=lambda: self._gate_a(order)):
            check_file = self._gate_a(order)
            active, target = self._free_slot()
            found = self._writer.judge(source, self._state, active, on_progress)
            view = StagedView(target, StagedPhase.WRITING, found.digest, found.version, found.security_epoch, False)
            slots = {slot: record for slot, record in self._state.slots.items() if slot != target}
            self._save(replace(self._state, staged=view, slots=slots))
            self._selector.block(target)
            self._writer.write(source, target, active, check_file, on_progress)
            view = replace(view, phase=StagedPhase.READY, file_signed=check_file is not None)
            record = SlotRecord(found.version, found.digest, found.security_epoch, found.built_wall_ms, self._wall_ms())
            self._save(replace(self._state, staged=view, slots={**slots, target: record}))
            return view

    def _gate_a(self, order: InstallOrder) -> CheckFile | None:
        """The order's own signature, to be checked when all of the file has passed by."""
        if not order.signing_certificate and not order.signature:
            self._policy.check_unsigned(order.origin)
            return None
        signer = self._policy.signer(order.signing_certificate, self._state.trusted_wall_ms)
        return lambda digest: signer.verify(digest, order.signature)

    def _free_slot(self) -> tuple[str, str]:
        """(active, target): the slot that runs, and the one that may be overwritten."""
        boot = self._selector.state()
        if boot.booted is None:
            raise SlotFailed("boot loader", "nobody can tell which slot runs", "check the kernel's command line")
        if boot.primary is None:
            raise SlotFailed("boot loader", "what it boots next cannot be read", "see packaging/boot/README.md")
        if boot.on_trial:
            raise _busy("the running image is not marked good yet")
        activated = self._state.staged is not None and self._state.staged.phase is StagedPhase.ACTIVATED
        if activated or (boot.primary != boot.booted and not self._passed_over(boot)):
            raise _busy("an installed image waits for its reboot")
        return boot.booted, other_of(SLOTS, boot.booted)

    def activate(self, digest: str, still_wanted: Callable[[], None] = lambda: None) -> StagedView:
        """Let the next boot try what is staged. May be repeated. ``still_wanted``: raises where nobody waits for it
        any more; what nobody will hear of is not tried. Nor is what fails."""
        with self._turn.taken(first=lambda: self._to_try(digest)):
            staged = self._to_try(digest)
            self._writer.read_back(staged.slot, staged.digest)
            still_wanted()
            staged = replace(staged, phase=StagedPhase.ACTIVATED)
            try:
                self._selector.activate(staged.slot, self._tries)
                self._save(replace(self._state, staged=staged, activated_boot_id=self._boot_id))
            except SlotFailed:
                self._selector.block(staged.slot)
                raise
            return staged

    def _to_try(self, digest: str) -> StagedView:
        """What is staged, if it is this bundle, whole, and in a slot that does not run."""
        staged = self._state.staged
        if staged is None or staged.digest != digest or staged.phase is StagedPhase.WRITING:
            raise UpdateRefused(Refusal.UNSUPPORTED, "activate", "no such bundle is staged", "install it first")
        if self._selector.state().booted == staged.slot:
            raise UpdateRefused(Refusal.UNSUPPORTED, "activate", "the staged slot is the one that runs")
        return staged

    def confirm(self) -> None:
        """The running slot is good: it stays. May be repeated."""
        with self._turn.taken():
            slot = self._booted()
            self._selector.confirm(slot)
            self._save(self._state.with_good(slot))

    def revert(self) -> str:
        """Back to the other slot, if it is good; it runs after the next boot. Returns its name."""
        with self._turn.taken(first=self._way_back):
            running, other = self._way_back()
            self._selector.revert(other)
            staged = self._state.staged
            if staged is not None and staged.slot == running:
                staged = replace(staged, phase=StagedPhase.ROLLED_BACK)
            self._save(replace(self._state, staged=staged, activated_boot_id=self._boot_id))
            return other

    def _way_back(self) -> tuple[str, str]:
        """(running, other): the slot that runs, and the one that may be gone back to."""
        running = self._booted()
        other = other_of(SLOTS, running)
        boot, record = self._selector.state(), self._state.slots.get(other)
        if not boot.of(other).good:
            raise UpdateRefused(Refusal.UNSUPPORTED, "revert", f"slot {other} holds no good image")
        epoch = 0 if record is None else record.security_epoch  # the factory's has none, nor has a torn one
        if not boot.on_trial and epoch < self._state.security_epoch:
            why = f"slot {other} has security epoch {epoch}, below {self._state.security_epoch}"
            raise UpdateRefused(Refusal.DOWNGRADE, "revert", why, "install a newer image instead")
        return running, other

    def _booted(self) -> str:
        booted = self._selector.state().booted
        if booted is None:
            raise SlotFailed("boot loader", "nobody can tell which slot runs", "check the kernel's command line")
        return booted

    def _save(self, state: InstallerState) -> None:
        if state != self._state:
            self._file.save(state)
            self._state = state


def _busy(why: str) -> UpdateRefused:
    return UpdateRefused(Refusal.BUSY, "installer", why, "try again later")
