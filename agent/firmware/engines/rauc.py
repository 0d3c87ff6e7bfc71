"""The RAUC engine: an installed RAUC service writes its own bundle into the inactive slot.

Charter: hands a local file to RAUC, follows it to the end, and says in our words how it ended. RAUC alone verifies the
bundle (CMS, compatible, payload) and picks the slot; nothing of a bundle is parsed here. What boots is decided in
``rauc_selector``, so RAUC must be told ``activate-installed=false``; a RAUC that activates all the same is reported.
RAUC cannot be cancelled: a listener that raises is obeyed when RAUC is done, and until then it is still writing. The
slot it writes does not boot, whatever happens. Sizes are bytes, times seconds.
Sources: RAUC's manual (D-Bus API, system.conf); docs/adr/0018-rauc.md for what was seen of RAUC 1.8.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.firmware.engines.rauc_bus import Completed, Gone, Percent, RaucBus, RaucSaid, RaucSession
from agent.firmware.engines.rauc_words import LOOK, failure, says_busy, says_no_primary
from agent.firmware.errors import SlotFailed
from agent.firmware.ports import OnProgress, Progress

_SELF_ACTIVATED: Final = (
    "RAUC made {slot} the next slot to boot by itself; set activate-installed=false in [system] of its system.conf"
)


@dataclass(frozen=True, slots=True)
class RaucBundle:
    """What RAUC says of a bundle whose signature it accepts. ``version`` may be empty."""

    compatible: str
    version: str


@dataclass(frozen=True, slots=True)
class RaucInstalled:
    """A bundle is in a slot. ``slot`` is RAUC's name (``rootfs.1``). ``warning``: empty, or for a person: RAUC
    activated the slot although that is not for it to do, so the next boot takes it already."""

    slot: str
    warning: str


class RaucEngine:
    """``silence_s``: after so long without a sign RAUC is asked whether it still works. ``limit_s``: after so long an
    installation is given up."""

    def __init__(
        self,
        bus: RaucBus,
        *,
        silence_s: float = 30.0,
        limit_s: float = 7200.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._silence_s = silence_s
        self._limit_s = limit_s
        self._monotonic = monotonic

    def inspect(self, bundle: Path) -> RaucBundle | None:
        """Nothing is written. None: RAUC does not accept the bundle and does not say why (1.8); ``install`` will tell.
        Raises ``UpdateRefused``, ``SlotFailed``."""
        with self._bus.session() as rauc:
            try:
                return RaucBundle(*rauc.info(str(bundle.absolute()), self._limit_s))
            except RaucSaid as error:
                if error.words == "rauc info error":
                    return None
                raise failure(error.words) from error

    def install(self, bundle: Path, on_progress: OnProgress) -> RaucInstalled:
        """Let RAUC install the file ``bundle``, to which nobody else may write (``rauc_spool`` makes such a file).

        ``on_progress`` gets RAUC's percentage as a part of the file's size: rising, and whole only when all is well.
        Raises ``UpdateRefused``, ``SlotFailed``, and what ``on_progress`` raised.
        """
        try:
            total_bytes = bundle.stat().st_size
        except OSError as error:
            raise SlotFailed(str(bundle), error.strerror or str(error)) from error
        report = _Report(on_progress, total_bytes)
        with self._bus.session() as rauc:
            rauc.listen()
            try:
                before = rauc.slot_status()
                rauc.install_bundle(str(bundle.absolute()))
            except RaucSaid as error:
                raise failure(error.words) from error
            rauc.forget_events()
            code = self._follow(rauc, report)
            words = rauc.last_error() if code else ""
            if code == 0:
                report.whole()
            if report.raised is not None:
                raise report.raised
            if code:
                raise failure(words)
            return _outcome(rauc, before)

    def _follow(self, rauc: RaucSession, report: _Report) -> int:
        """RAUC's code of the end."""
        end_s = self._monotonic() + self._limit_s
        idle = False
        while (left_s := end_s - self._monotonic()) > 0:
            match rauc.next_event(0 if idle else min(left_s, self._silence_s)):
                case Completed(code):
                    return code
                case Percent(value):
                    report.percent(value)
                case Gone():
                    raise SlotFailed("RAUC", "the service ended while it installed", f"{LOOK}; try again")
                case None if idle:
                    raise SlotFailed("RAUC", "it stopped installing and did not say how it ended", LOOK)
                case None:
                    idle = not _works(rauc)
        why = f"still installing after {self._limit_s:g} s, and it cannot be told to stop"
        raise SlotFailed("RAUC", why, f"{LOOK}; systemctl restart rauc")


class _Report:
    """RAUC's percentage as ``Progress``: rising; ``whole`` is for the good end, since RAUC says 100 at a bad one too.
    Keeps what the listener ``raised``, and then says no more to it."""

    def __init__(self, on_progress: OnProgress, total_bytes: int) -> None:
        self._on_progress = on_progress
        self._total_bytes = total_bytes
        self._percent = -1
        self.raised: Exception | None = None

    def percent(self, value: int) -> None:
        self._tell(min(value, 99))

    def whole(self) -> None:
        self._tell(100)

    def _tell(self, percent: int) -> None:
        if percent <= self._percent or self.raised is not None:
            return
        self._percent = percent
        done_bytes = self._total_bytes * percent // 100
        try:
            self._on_progress(Progress(done_bytes, self._total_bytes, fetched_bytes=0, written_bytes=done_bytes))
        except Exception as error:
            self.raised = error


def _works(rauc: RaucSession) -> bool:
    """RAUC refuses this question while it installs. (Its property Operation turns idle in the middle of an
    installation as soon as a second one is refused.)"""
    try:
        rauc.primary()
    except RaucSaid as error:
        return says_busy(error.words)
    return False


def _outcome(rauc: RaucSession, before: dict[str, dict[str, object]]) -> RaucInstalled:
    """Which slot it was, by RAUC's own count of installations."""
    try:
        after = rauc.slot_status()
    except RaucSaid as error:
        raise failure(error.words) from error
    changed = [
        name
        for name, status in after.items()
        if "bootname" in status and _installation(status) != _installation(before.get(name, {}))
    ]
    if len(changed) != 1:
        why = f"the bundle went into {len(changed)} bootable slots by RAUC's record, not into one"
        raise SlotFailed("RAUC", why, "it needs statusfile= in [system] of its system.conf, and no install-same=false")
    (slot,) = changed
    try:
        primary = rauc.primary()
    except RaucSaid as error:
        if not says_no_primary(error.words):
            raise failure(error.words) from error
        primary = ""
    return RaucInstalled(slot, _SELF_ACTIVATED.format(slot=slot) if primary == slot else "")


def _installation(status: dict[str, object]) -> tuple[object, object]:
    return status.get("installed.count"), status.get("installed.timestamp")
