"""Firmware updates in the station: the update machine, its disk, and its calls to the installer.

Charter: asks the installer what is true, lets the machine decide, and carries out what it answers. A step and its
status rows are one commit; what follows from it happens when that is durable. Only a hold on new sessions comes at
once, since it can only make things safer. Decides nothing about bundles: the installer does. The installer may be away,
for a while or for ever: charging goes on.

Sources: OCPP 2.0.1 L01, L02; firmware reference 1.4, 1.5.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog

from agent.config.catalogue import key
from agent.config.device_model import DeviceModel
from agent.config.model import Config
from agent.config.update import SourcePolicy
from agent.core.events import UpdateHold
from agent.core.facts import Fact, SecurityFact, UpdateVia
from agent.firmware.boot_id import read_boot_id
from agent.firmware.client import InstallerAway
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.machine import (
    Act,
    Booted,
    Effect,
    Fetch,
    Hold,
    Now,
    Save,
    Staged,
    Tell,
    Update,
    UpdateMachine,
)
from agent.firmware.phases import CANCELLABLE, WAITS, Phase
from agent.firmware.view import InstallerView, StagedPhase
from agent.firmware.wire import WORK_MAX_S
from agent.health.fold import Finding
from agent.ipc.codec import CodecError, from_stored, to_plain
from agent.ipc.port import FetchWanted, News, UpdateChanged
from agent.ipc.updates import (
    FetchReport,
    FetchStep,
    FirmwareStatus,
    UpdateAnswer,
    UpdateOutcome,
    UpdateRequest,
    UpdateView,
)
from agent.ledger.state import Namespace, Put, StateChange
from agent.station.disk import raise_what_crashed
from agent.station.platform import Installer, InstallerTalks
from agent.station.self_test import DeviceWatch

if TYPE_CHECKING:
    from agent.firmware.policy import DevicePolicy

KEY = "update"
_FAILED = ("Failed", "InvalidSignature")  # ends of FirmwareStatusEnumType
ALLOW_NEW = "ChargingStation.AllowNewSessionsPendingFirmwareUpdate"
_REQUEST_MAX_CHARS = 10_000  # OCPP allows 512 + 5,500 + 800; however they are escaped, a row of state holds these
_ASK_AGAIN_S = 10.0
REQUEST_MAX_S: float = 3.0
"""The CSMS is answered an error after ``agent.ocpp.session.HANDLER_TIMEOUT_S``: nothing may be accepted behind it. So
the installer, which may take longer to start, is not asked then; what it says once holds while this slot runs."""

_LOOK_S = 0.5
_ANNOUNCE_S = 10.0  # InstallRebooting is given this long to reach the CSMS
_CONFIRM_TRIES = 3
_AWAY_MAX_S = 60.0  # an installer that died is started again within seconds, at most within half a minute

T = TypeVar("T")
log = structlog.get_logger("updates")


class Shell(Protocol):
    """What updates need of the process around them."""

    def give(self, event: UpdateHold) -> None: ...

    def now_ms(self) -> int: ...

    def wall_ms(self) -> int: ...

    def engaged(self) -> bool: ...

    def told_all(self) -> bool:
        """Whether the CSMS has heard of every row, or cannot be reached."""
        ...

    def publish(self, news: News) -> None: ...

    def commit(self, facts: Sequence[Fact], changes: Sequence[StateChange], on_durable: Callable[[], None]) -> None: ...

    def rebooting(self) -> None:
        """The machine restarts any moment, for an update."""
        ...


class Updates:
    """See the module. All methods run in the station's loop; calls to the installer run beside it."""

    def __init__(
        self,
        config: Config,
        model: DeviceModel,
        watch: DeviceWatch,
        kept: str | None,
        shell: Shell,
        talks: InstallerTalks,
    ) -> None:
        assert config.update is not None
        self._config, self._update_config = config, config.update
        self._boot_id = read_boot_id(config.update.boot_id_file)
        self._model = model
        self._watch = watch
        self._shell = shell
        self._machine = UpdateMachine(_read(kept))
        self._tasks: set[asyncio.Task[None]] = set()
        self._talks = talks
        self._controller_faults: Sequence[str] = ()
        self._installer_answered = False  # then nothing waits for it any more
        self._asked = asyncio.Event()  # it has answered, or is away
        self._slot = ""  # that runs; empty where nobody can tell
        self._on_trial = False
        self._away = ""  # why the installer does not tell which slot runs
        self._no_way_back = False  # the other slot does not boot

    def start(self, controller_faults: Sequence[str] = ()) -> None:
        """Find out which slot this is, and go on where the last boot stopped. ``controller_faults``: what went wrong
        with the microcontrollers' firmware, which a slot on trial does not pass with."""
        self._controller_faults = controller_faults
        self._later(self._find_slot())

    def close(self) -> None:
        """End all work; a call to the installer that is under way ends at once, whatever the installer does."""
        for task in list(self._tasks):
            task.cancel()
        self._talks.close()

    # -------------------------------------------------------------------------------------- asked

    async def request(self, request: UpdateRequest) -> UpdateAnswer:
        """UpdateFirmware, in any dialect; accepted ones are durable before this returns."""
        if len(request.location + request.signing_certificate + request.signature) > _REQUEST_MAX_CHARS:
            return UpdateAnswer(UpdateOutcome.REJECTED, "location, certificate and signature are too long to be kept")
        if request.via is UpdateVia.PLAIN and self._update_config.plain is SourcePolicy.REFUSE:
            return UpdateAnswer(UpdateOutcome.NOT_SUPPORTED, "only signed updates are taken")
        try:
            async with asyncio.timeout(REQUEST_MAX_S):
                if request.via is UpdateVia.SIGNED and (refusal := await self._judge_certificate(request)) is not None:
                    return refusal
                await self._asked.wait()
                if self._on_trial and self._machine.phase is Phase.IDLE:
                    await self._look_at_trial()
        except TimeoutError:
            return UpdateAnswer(UpdateOutcome.REJECTED, "not known yet which slot runs: ask again")
        if self._away or not self._slot:
            return UpdateAnswer(UpdateOutcome.REJECTED, self._away or "nobody can tell which slot runs")
        if self._machine.phase not in CANCELLABLE:
            return UpdateAnswer(UpdateOutcome.REJECTED, "an update is being installed")
        if self._on_trial:
            return UpdateAnswer(UpdateOutcome.REJECTED, "the running image is not marked good")
        cancels = self._machine.phase is not Phase.IDLE
        await self._durably(self._machine.ask(request, self._now()))
        return UpdateAnswer(UpdateOutcome.ACCEPTED_CANCELED if cancels else UpdateOutcome.ACCEPTED)

    async def _look_at_trial(self) -> None:
        """The trial is over, and the image was not marked good: a technician may have done that since."""
        try:
            self._on_trial = (await self._talks.ask(lambda installer: installer.status())).on_trial
        except (InstallerAway, SlotFailed) as error:
            log.warning("installer does not tell whether the image is on trial", why=str(error))

    async def _judge_certificate(self, request: UpdateRequest) -> UpdateAnswer | None:
        """Before anything is accepted (L01.FR.02, 03); the installer judges it again."""
        try:
            await asyncio.to_thread(self._judge, request.signing_certificate)
        except UpdateRefused as refused:
            log.warning("signing certificate refused", why=str(refused))
            self._shell.commit(
                [SecurityFact("InvalidFirmwareSigningCertificate", str(refused)[:255])], [], lambda: None
            )
            revoked = refused.refusal is Refusal.REVOKED
            outcome = UpdateOutcome.REVOKED_CERTIFICATE if revoked else UpdateOutcome.INVALID_CERTIFICATE
            return UpdateAnswer(outcome, str(refused))
        except SlotFailed as failed:
            log.error("signing certificate cannot be judged", why=str(failed))
            return UpdateAnswer(UpdateOutcome.REJECTED, str(failed))
        return None

    def _judge(self, certificate: str) -> None:
        self._policy().signer(certificate, 0)

    def _policy(self) -> DevicePolicy:
        from agent.firmware.policy import DevicePolicy  # brings the cryptography

        return DevicePolicy(self._update_config, self._shell.wall_ms)

    async def install_staged(self) -> str:
        """A technician's bundle is in the slot already."""
        staged = await self._staged()
        if self._machine.phase not in CANCELLABLE:
            return "not now: an update is being installed"
        if staged is None:
            return "nothing to install: the installer holds no bundle"
        await self._durably(self._machine.hand(staged, self._now()))
        if self._shell.engaged():
            return f"{staged.version} is installed when nobody charges"
        return f"{staged.version} is installed now, then the charger restarts"

    async def report(self, report: FetchReport) -> None:
        """The gateway tells how its download goes."""
        staged = await self._staged() if report.step is FetchStep.STAGED else None
        effects = self._machine.report(report, staged, self._now())
        self._carry_out(effects)
        if not effects:  # no step, but progress
            self._shell.publish(UpdateChanged(self.view()))

    def gateway_gone(self) -> None:
        self._carry_out(self._machine.gateway_gone(self._now()))

    def look(self) -> None:
        """Time passed, or a session began or ended."""
        if self._installer_answered and self._machine.phase in WAITS:
            self._carry_out(self._machine.tick(self._now()))

    def status(self) -> FirmwareStatus:
        return self._machine.status()

    def view(self) -> UpdateView | None:
        return self._machine.view()

    def troubles(self) -> Iterator[Finding]:
        """What is wrong with slots, updates and the installer."""
        if self._away:
            yield Finding("installer_away", detail=self._away)
        phase, update = self._machine.phase, self._machine.update
        if self._on_trial and phase is not Phase.IDLE:
            yield Finding("slot_on_trial")
        if phase is Phase.IDLE and update is not None and update.told.endswith(_FAILED):
            yield Finding("update_failed", detail=update.why)
        if phase is Phase.IDLE and self._no_way_back:
            yield Finding("slot_bad")

    def greetings(self) -> list[News]:
        """What whoever connects must know: the gateway may be a new one, in the middle of a download."""
        order, view = self._machine.order(), self.view()
        return [*([FetchWanted(order)] if order else []), *([UpdateChanged(view)] if view else [])]

    # --------------------------------------------------------------------------------- carrying out

    def _now(self) -> Now:
        shell = self._shell
        return Now(shell.wall_ms(), shell.now_ms(), shell.engaged(), self._model.boolean(key(ALLOW_NEW)))

    def _carry_out(self, effects: Sequence[Effect], on_durable: Callable[[], None] = lambda: None) -> None:
        facts = [effect.fact for effect in effects if isinstance(effect, Tell)]
        changes = [
            Put(Namespace.FIRMWARE, KEY, json.dumps(to_plain(effect.update), sort_keys=True))
            for effect in effects
            if isinstance(effect, Save)
        ]
        for effect in effects:
            if isinstance(effect, Hold):
                self._shell.give(UpdateHold(effect.on))

        def durable() -> None:
            for effect in effects:
                self._act(effect)
            on_durable()

        if facts or changes:
            self._shell.commit(facts, changes, durable)
            for fact in facts:
                log.info("update", phase=self._machine.phase.value, told=getattr(fact, "status", str(fact)))
            self._shell.publish(UpdateChanged(self.view()))
        else:
            durable()

    async def _durably(self, effects: Sequence[Effect]) -> None:
        done = asyncio.Event()
        self._carry_out(effects, done.set)
        await done.wait()

    def _act(self, effect: Effect) -> None:
        match effect:
            case Fetch(order):
                self._shell.publish(FetchWanted(order))
            case Act.ACTIVATE:
                self._later(self._activate())
            case Act.REBOOT:
                self._later(self._reboot())
            case Act.TEST:
                self._later(self._test())
            case Act.CONFIRM:
                self._later(self._confirm())
            case Act.REVERT:
                self._later(self._revert())

    async def _find_slot(self) -> None:
        """Until the installer tells. It may be slow to start; nothing waits for it but the update."""
        while True:
            try:
                found = await self._talks.ask(lambda installer: installer.status())
                break
            except (InstallerAway, SlotFailed) as error:
                self._away = str(error)
                self._asked.set()
                log.warning("installer does not tell which slot runs", why=self._away)
                await asyncio.sleep(_ASK_AGAIN_S)
        self._installer_answered, self._on_trial, self._away = True, found.on_trial, ""
        self._slot = found.booted or ""
        self._asked.set()
        self._no_way_back = any(slot.version and not slot.running and not slot.bootable for slot in found.slots)
        if found.booted is None:
            log.error("nobody can tell which slot runs: updates are off")
            return
        version = next((slot.version for slot in found.slots if slot.running), "")
        log.info("slot", slot=found.booted, version=version, on_trial=found.on_trial)
        booted = Booted(found.booted, found.on_trial, self._boot_id, version)
        self._carry_out(self._machine.booted(booted, self._now()))
        self.look()

    async def _activate(self) -> None:
        assert self._machine.update is not None
        digest = self._machine.update.digest
        try:
            await self._ask_patiently(lambda installer: installer.activate(digest))
        except (InstallerAway, SlotFailed) as error:
            self._carry_out(self._machine.activation_failed(str(error), self._now(), content=False))
        except UpdateRefused as refused:
            content = refused.refusal is Refusal.CORRUPT
            self._carry_out(self._machine.activation_failed(str(refused), self._now(), content=content))
        else:
            bad_before = (*self._watch.silent(), *await asyncio.to_thread(self._unfit))
            self._carry_out(self._machine.activated(self._boot_id, bad_before, self._now()))

    async def _ask_patiently(self, question: Callable[[Installer], T]) -> T:
        """What may be repeated. The installer may be at work yet on what it was asked before this station was started,
        or may be starting again; it may have died with everything done and nothing answered."""
        loop = asyncio.get_running_loop()
        began_s, away_since_s = loop.time(), None
        while True:
            try:
                return await self._talks.ask(question)
            except UpdateRefused as refused:
                if refused.refusal is not Refusal.BUSY or loop.time() - began_s >= WORK_MAX_S:
                    raise
                log.debug("waits for the installer", why=str(refused))
                away_since_s = None
            except InstallerAway as away:
                away_since_s = loop.time() if away_since_s is None else away_since_s
                if loop.time() - away_since_s >= _AWAY_MAX_S:
                    raise
                log.warning("waits for the installer", why=str(away))
            await asyncio.sleep(_LOOK_S)

    async def _reboot(self) -> None:
        """Tell the CSMS, if it listens; then restart, and ask again while nothing happens."""
        await _until(self._shell.told_all, _ANNOUNCE_S)
        await _until(lambda: not self._shell.engaged())
        while True:
            self._shell.rebooting()
            try:
                await self._talks.ask(lambda installer: installer.reboot())
            except (InstallerAway, SlotFailed, UpdateRefused) as error:
                log.error("the machine does not restart", why=str(error))
            await asyncio.sleep(60)

    async def _test(self) -> None:
        """Whoever can be expected to answer must have answered, and this image must be able to judge the next one,
        unless the old one was no better: a spoilt file on the data partition is not this image's fault."""
        assert self._machine.update is not None
        forgiven = self._machine.update.silent_before
        await _until(lambda: not self._watch.missing(forgiven), self._update_config.self_test_s)
        missing = self._watch.missing(forgiven)
        silent = [f"no answer from {', '.join(missing)}"] if missing else []
        found = await asyncio.to_thread(self._unfit)
        unfit = [f"{name}: {fault}" for name, fault in found.items() if name not in forgiven]
        faults = "; ".join([*self._controller_faults, *silent, *unfit])
        log.info("self-test", passed=not faults, faults=faults)
        self._carry_out(self._machine.tested(faults, self._now()))

    def _unfit(self) -> dict[str, str]:
        """The settings for whose sake no update could be judged here, by names that no device has."""
        return {f"update.{name}": str(fault) for name, fault in self._policy().faults()}

    async def _confirm(self) -> None:
        self._carry_out(self._machine.confirmed(await self._mark_good(), self._now()))

    async def _mark_good(self) -> str:
        """The running image stays. Returns why the boot loader cannot be told; empty: it was."""
        why_not = ""
        for _ in range(_CONFIRM_TRIES):
            try:
                await self._ask_patiently(lambda installer: installer.confirm())
            except (InstallerAway, SlotFailed, UpdateRefused) as error:
                why_not = str(error)
                log.error("slot cannot be marked good", why=why_not)
                if not isinstance(error, SlotFailed):
                    break  # that was waited for already
                await asyncio.sleep(_LOOK_S)
            else:
                self._on_trial = False
                return ""
        return why_not

    async def _revert(self) -> None:
        """The boot loader is told; if it cannot be, a trial ends by itself when its tries have run out. Where there is
        no other image that is good, this one, with its faults, is all there is: it is marked good, since an image on
        trial takes no update, not even the one that mends it."""
        try:
            slot = await self._ask_patiently(lambda installer: installer.revert())
            log.warning("going back to the old image", slot=slot)
        except (InstallerAway, SlotFailed, UpdateRefused) as error:
            log.critical("the boot loader cannot be told to go back", why=str(error))
            if isinstance(error, UpdateRefused) or not self._on_trial:
                if isinstance(error, UpdateRefused) and error.refusal is Refusal.UNSUPPORTED:
                    await self._mark_good()
                self._carry_out(self._machine.stays(str(error), self._now()))
                return
        await self._reboot()

    # ------------------------------------------------------------------------------------ installer

    async def _staged(self) -> Staged | None:
        """What the installer itself says it holds, ready to be activated."""
        try:
            found: InstallerView = await self._talks.ask(lambda installer: installer.status())
        except (InstallerAway, SlotFailed) as error:
            log.error("installer does not tell what it holds", why=str(error))
            return None
        staged = found.staged
        if staged is None or staged.phase is not StagedPhase.READY:
            return None
        return Staged(staged.slot, staged.version, staged.digest, staged.file_signed)

    def _later(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(raise_what_crashed)


async def _until(reached: Callable[[], bool], within_s: float | None = None) -> None:
    """Wait for a condition that nobody announces, so long at most."""
    loop = asyncio.get_running_loop()
    until_s = None if within_s is None else loop.time() + within_s
    while not reached() and (until_s is None or loop.time() < until_s):  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)


def _read(kept: str | None) -> Update | None:
    """The record of the last boot. One that cannot be read is worth nothing here: the slot that runs tells."""
    if kept is None:
        return None
    try:
        update: Update = from_stored(json.loads(kept), Update)
    except (CodecError, ValueError) as error:
        log.error("record of an update cannot be read", why=str(error))
        return None
    return update
