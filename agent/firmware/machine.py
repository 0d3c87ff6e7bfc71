"""When an update happens, and what the CSMS is told of it: one state machine for all OCPP versions. Pure.

Charter: takes events with their time, returns effects; its whole memory is one ``Update``, which the shell keeps on
disk with every step. The order is the safe one: what was decided is durable (``Save``) before anything is done about
it, so a power cut at any point repeats a step but never skips one. It knows no slot, no engine and no dialect.

* A download waits for its time, is tried as often as the request says, pauses while nobody can download, and is
  given up for a newer request (AcceptedCanceled) until the boot loader is being told.
* An install waits for its time and until no session runs; meanwhile new sessions are kept out (``Hold``) unless
  AllowNewSessionsPendingFirmwareUpdate says otherwise.
* After the reboot the slot that runs tells the truth, not the record: the new one is tested and marked good, the old
  one means that the update failed. A slot on trial that nobody asked for (a technician's) is tested as well.
* Every status becomes a ledger row, in one commit with the step; rows are told after BootNotification was accepted.

Units: ``wall_ms`` UTC since 1970, ``mono_ms`` since boot. Sources: OCPP 2.0.1 part 2 L01, L02; security white paper
for 1.6, 5.5; firmware reference 1.4, 1.5.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from agent.core.facts import FirmwareFact, SecurityFact, UpdateVia
from agent.firmware.errors import Refusal
from agent.firmware.phases import CANCELLABLE, FETCHING, KEEPS_SESSIONS_OUT, UPDATE, WAITS, Happening, Phase
from agent.ipc.updates import FetchOrder, FetchReport, FetchStep, FirmwareStatus, UpdateRequest, UpdateView

TRIES_DEFAULT: Final = 3
RETRY_INTERVAL_DEFAULT_S: Final = 60
WHY_MAX_CHARS: Final = 500
_P, _H = Phase, Happening

_BAD_SIGNATURE: Final = frozenset(
    {Refusal.SIGNATURE, Refusal.FILE_SIGNATURE, Refusal.CERTIFICATE, Refusal.REVOKED, Refusal.CORRUPT}
)


@dataclass(frozen=True, slots=True)
class Update:
    """All that is remembered of an update. ``told``: the last status that became a row. ``slot``, ``version`` and
    ``digest`` (hex) are known once it is staged. ``boot_id``: the boot in which the reboot was ordered.
    ``silent_before``: devices that did not answer before the reboot, and settings at fault, which the self-test does
    not hold against the image."""

    phase: Phase
    request: UpdateRequest
    tries_left: int
    told: str = ""
    slot: str = ""
    version: str = ""
    digest: str = ""
    boot_id: str = ""
    silent_before: tuple[str, ...] = ()
    why: str = ""


LOCAL: Final = UpdateRequest(UpdateVia.LOCAL, None, "", 0)

# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Now:
    """``engaged``: a session runs that must not be cut. ``allow_new``: AllowNewSessionsPendingFirmwareUpdate."""

    wall_ms: int
    mono_ms: int
    engaged: bool
    allow_new: bool


@dataclass(frozen=True, slots=True)
class Staged:
    """The installer holds a verified bundle in ``slot``. ``file_signed``: OCPP's signature over the file is right."""

    slot: str
    version: str
    digest: str
    file_signed: bool


@dataclass(frozen=True, slots=True)
class Booted:
    """Which slot this system runs from, as the boot loader tells."""

    slot: str
    on_trial: bool
    boot_id: str
    version: str = ""


# ----------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Save:
    """Make this durable, with the facts of the same step, before any other effect of it."""

    update: Update


@dataclass(frozen=True, slots=True)
class Tell:
    fact: FirmwareFact | SecurityFact


@dataclass(frozen=True, slots=True)
class Fetch:
    """The gateway shall download; None: stop."""

    order: FetchOrder | None


@dataclass(frozen=True, slots=True)
class Hold:
    on: bool


class Act(enum.Enum):
    """What the shell does with the installer."""

    ACTIVATE = "activate"
    REBOOT = "reboot"
    TEST = "test"
    CONFIRM = "confirm"
    REVERT = "revert"


Effect = Save | Tell | Fetch | Hold | Act

_ACT_ON_ENTRY: Final = {
    _P.ACTIVATING: Act.ACTIVATE,
    _P.REBOOTING: Act.REBOOT,
    _P.TESTING: Act.TEST,
    _P.CONFIRMING: Act.CONFIRM,
    _P.REVERTING: Act.REVERT,
}


class UpdateMachine:
    """See the module. Every method returns the effects of one step, in order."""

    def __init__(self, update: Update | None) -> None:
        self.update = update
        self._effects: list[Effect] = []
        self._held = False
        self._acting = False  # the installer was told to do something since this station started
        self._ticket = 0
        self._retry_at_ms = 0  # after a restart the next try comes at once
        self._progress = (0, 0)

    @property
    def phase(self) -> Phase:
        return Phase.IDLE if self.update is None else self.update.phase

    def view(self) -> UpdateView | None:
        """For people; None where nothing is under way."""
        if self.update is None or self.phase is Phase.IDLE:
            return None
        return UpdateView(self.phase.value, self.update.version, *self._progress, self.update.why)

    def status(self) -> FirmwareStatus:
        """The answer to a trigger (L01.FR.25, 26): the last status, Idle after Installed and where there is none."""
        last = self.update
        if last is None or last.told in ("", "Installed") or last.request.via is UpdateVia.LOCAL:
            return FirmwareStatus("Idle", None, UpdateVia.PLAIN if last is None else last.request.via)
        return FirmwareStatus(last.told, last.request.request_id, last.request.via)

    def order(self) -> FetchOrder | None:
        """What the gateway is to download now; also for one that has just come."""
        if self.update is None or self.phase not in FETCHING:
            return None
        request = self.update.request
        return FetchOrder(self._ticket, request.location, request.signing_certificate, request.signature)

    # -------------------------------------------------------------------------------------- events

    def ask(self, request: UpdateRequest, now: Now) -> list[Effect]:
        """A request that may be accepted: ``phase`` is in ``CANCELLABLE``, its certificate was judged."""

        def step() -> None:
            tries = TRIES_DEFAULT if request.retries is None else max(1, request.retries)
            self._give_up()
            self._go(_H.ASKED, Update(self.phase, request, tries))
            if request.retrieve_wall_ms > now.wall_ms:
                self._tell("DownloadScheduled")
            self._look(now)

        return self._step(step, now)

    def hand(self, staged: Staged, now: Now) -> list[Effect]:
        """A technician has given the installer a bundle; ``phase`` is in ``CANCELLABLE``."""

        def step() -> None:
            self._replaced("replaced by a bundle on site")
            update = Update(self.phase, LOCAL, 1, "", staged.slot, staged.version, staged.digest)
            self._go(_H.HANDED, update)
            self._look(now)

        return self._step(step, now)

    def tick(self, now: Now) -> list[Effect]:
        """Time passed, or a session began or ended."""
        if self.phase in WAITS:
            return self._step(lambda: self._look(now), now)
        return []

    def gateway_gone(self, now: Now) -> list[Effect]:
        """Without it nobody downloads. That it is back is told by its reports."""
        if self.phase not in FETCHING:
            return []
        return self._step(lambda: self._interrupt(True), now)

    def report(self, report: FetchReport, staged: Staged | None, now: Now) -> list[Effect]:
        """How the download goes; with STAGED the installer's own word on what it holds."""
        if self.phase not in FETCHING or report.ticket != self._ticket:
            return []  # of a download that was given up
        self._progress = (report.done_bytes, report.total_bytes)
        match report.step:
            case FetchStep.PROGRESS if self.phase is Phase.DOWNLOADING:
                return []
            case FetchStep.PAUSED | FetchStep.RESUMED | FetchStep.PROGRESS:  # a new gateway knows of no pause
                return self._step(lambda: self._interrupt(report.step is FetchStep.PAUSED), now)
            case FetchStep.STAGED:
                return self._step(lambda: self._staged(staged, now), now)
            case FetchStep.LOST:
                return self._step(lambda: self._lost(report, now), now)
            case FetchStep.REFUSED:
                return self._step(lambda: self._refused(report), now)
            case FetchStep.FAILED:
                return self._step(lambda: self._fail("DownloadFailed", report.why), now)

    def activated(self, boot_id: str, silent: tuple[str, ...], now: Now) -> list[Effect]:
        """The boot loader will try the new slot."""

        def step() -> None:
            self._go(_H.ACTIVATED, replace(self._update, boot_id=boot_id, silent_before=silent))
            self._tell("InstallRebooting")

        return self._step(step, now)

    def activation_failed(self, why: str, now: Now, *, content: bool) -> list[Effect]:
        """``content``: the slot does not hold what the manifest promises."""
        status = "InstallVerificationFailed" if content else "InstallationFailed"
        return self._step(lambda: self._fail(status, why), now)

    def booted(self, booted: Booted, now: Now) -> list[Effect]:
        """Told once at every start of the station; the installer may have taken its time to say so."""
        if self._acting or (self.update is None and not booted.on_trial):
            return []
        return self._step(lambda: self._boot(booted), now)

    def tested(self, faults: str, now: Now) -> list[Effect]:
        """The self-test is over; ``faults`` in plain words, empty: passed."""

        def step() -> None:
            self._go(_H.FAULTY if faults else _H.PASSED, replace(self._update, why=faults[:WHY_MAX_CHARS]))

        return self._step(step, now) if self.phase is Phase.TESTING else []

    def confirmed(self, why_not: str, now: Now) -> list[Effect]:
        """The boot loader was told that the slot is good; ``why_not``: it could not be told."""

        def step() -> None:
            if why_not:
                self._go(_H.FAULTY, replace(self._update, why=why_not[:WHY_MAX_CHARS]))
                return
            self._go(_H.CONFIRMED, self._update)
            self._tell("Installed")
            self._effects.append(Tell(SecurityFact("FirmwareUpdated", self._update.version)))

        return self._step(step, now) if self.phase is Phase.CONFIRMING else []

    def stays(self, why: str, now: Now) -> list[Effect]:
        """There is no going back: this image runs on, whatever its faults, since restarts would never end."""
        return self._step(lambda: self._fail("InstallationFailed", f"{self._update.why}; {why}"), now)

    # --------------------------------------------------------------------------------------- steps

    @property
    def _update(self) -> Update:
        assert self.update is not None
        return self.update

    def _step(self, work: Callable[[], None], now: Now) -> list[Effect]:
        before, self._effects = self.update, []
        work()
        done, self._effects = self._effects, []
        hold = self.phase in KEEPS_SESSIONS_OUT or (self.phase is Phase.WAITING and not now.allow_new)
        if hold is not self._held:
            self._held = hold
            done.append(Hold(hold))
        if self.update is not None and self.update != before:
            done.insert(0, Save(self.update))
        return done

    def _go(self, happening: Happening, update: Update) -> None:
        phase = UPDATE.next(self.phase, happening)
        self.update = replace(update, phase=phase)
        if phase in _ACT_ON_ENTRY:
            self._effects.append(_ACT_ON_ENTRY[phase])
            self._acting = True

    def _tell(self, status: str, why: str = "") -> None:
        """A status that was told already is not told again."""
        update, why = self._update, why[:WHY_MAX_CHARS]
        if status != update.told:
            self.update = replace(update, told=status, why=why)
            fact = FirmwareFact(status, update.request.via, update.request.request_id, update.version, why)
            self._effects.append(Tell(fact))

    def _give_up(self) -> None:
        """Whatever is under way makes room; a request that was replaced is told nothing more (L01.FR.24)."""
        if self.phase in FETCHING:
            self._effects.append(Fetch(None))
        self._progress = (0, 0)

    def _replaced(self, why: str) -> None:
        """Somebody on site takes the place of a request: that is its end."""
        if self.phase is not Phase.IDLE:
            in_slot = self.phase in (Phase.STAGED, Phase.WAITING)
            self._tell("InstallationFailed" if in_slot else "DownloadFailed", why)
        self._give_up()

    def _look(self, now: Now) -> None:
        """Go on where a time has come or the station is free."""
        request = self._update.request
        match self.phase:
            case Phase.SCHEDULED if now.wall_ms >= request.retrieve_wall_ms:
                self._download()
            case Phase.RETRYING if now.mono_ms >= self._retry_at_ms:
                self._download()
            case Phase.STAGED if now.wall_ms >= (request.install_wall_ms or 0):
                self._go(_H.DUE, self._update)
        if self.phase is Phase.WAITING:
            if now.engaged:
                self._tell("InstallScheduled")
            else:
                self._go(_H.FREE, self._update)
                self._tell("Installing")

    def _download(self) -> None:
        self._ticket += 1
        self._go(_H.DUE, replace(self._update, tries_left=self._update.tries_left - 1))
        self._tell("Downloading")
        self._effects.append(Fetch(self.order()))

    def _interrupt(self, away: bool) -> None:
        self._go(_H.AWAY if away else _H.BACK, self._update)
        self._tell("DownloadPaused" if away else "Downloading")

    def _staged(self, staged: Staged | None, now: Now) -> None:
        self._interrupt(False)
        update = self._update
        if staged is None or (update.request.via is UpdateVia.SIGNED and not staged.file_signed):
            self._fail("DownloadFailed", "the installer does not hold what was ordered")
            return
        known = replace(update, slot=staged.slot, version=staged.version, digest=staged.digest, why="")
        self._go(_H.STAGED, known)
        self._tell("Downloaded")
        if update.request.via is UpdateVia.SIGNED:
            self._tell("SignatureVerified")
        if (update.request.install_wall_ms or 0) > now.wall_ms:
            self._tell("InstallScheduled")
        self._look(now)

    def _lost(self, report: FetchReport, now: Now) -> None:
        """Whether another try can help is a guess (no such file: perhaps it is put there yet), so it counts only where
        the request leaves the number of tries to us (``retries``)."""
        update = self._update
        in_vain = not report.retryable and update.request.retries is None
        if in_vain or update.tries_left <= 0:
            self._fail("DownloadFailed", report.why)
            return
        interval_s = update.request.retry_interval_s
        self._retry_at_ms = now.mono_ms + 1_000 * (RETRY_INTERVAL_DEFAULT_S if interval_s is None else interval_s)
        self._go(_H.LOST, replace(update, why=report.why[:WHY_MAX_CHARS]))
        self._look(now)

    def _refused(self, report: FetchReport) -> None:
        self._interrupt(False)
        if report.refusal in _BAD_SIGNATURE:
            if report.refusal == Refusal.FILE_SIGNATURE:  # known only when all of it is there
                self._tell("Downloaded")
            self._effects.append(Tell(SecurityFact("InvalidFirmwareSignature", report.why[:255])))
            self._fail("InvalidSignature", report.why)
        elif report.refusal in (Refusal.BUSY, Refusal.REPLACED):
            self._fail("DownloadFailed", report.why)
        else:
            self._fail("InstallVerificationFailed", report.why)

    def _fail(self, status: str, why: str) -> None:
        self._go(_H.FAILED, self._update)
        self._tell(status, why)

    def _boot(self, booted: Booted) -> None:
        """The slot that runs tells the truth: the one of this update, the old one, or one put there by hand."""
        update, under_way = self.update, self.phase not in CANCELLABLE
        if update is not None:
            if under_way and booted.slot == update.slot:
                self._go(_H.BOOTED_NEW, update)
                return
            if self.phase is Phase.REBOOTING and update.boot_id == booted.boot_id:
                self._effects.append(Act.REBOOT)  # only the station restarted, the machine did not
                return
            self._go(_H.BOOTED_OLD, update)
            if under_way and self.phase is Phase.IDLE:
                self._tell("InstallationFailed", update.why or "the boot loader went back to the old image")
        if booted.on_trial and self.phase in CANCELLABLE:
            self._replaced("replaced by an image on site")
            self._go(_H.BOOTED_NEW, Update(self.phase, LOCAL, 1, slot=booted.slot, version=booted.version))
