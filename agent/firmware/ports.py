"""The two plug layers of an update: who writes the slot (``Engine``), and who picks it (``BootSelector``).

Charter: small protocols and the plain data they exchange. OCPP and the update machine know neither; the installer
joins them. A slot is named by one word ("a", "b"). Everything here blocks; the installer calls it in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Source(Protocol):
    """The bytes of one bundle file, wherever they are. Ranges come mostly in rising order."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; less than 8 MiB at once. Raises ``SourceLost``."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a bundle is. ``done_bytes`` of ``total_bytes`` of the payloads are in place (never more than all);
    ``fetched_bytes`` came from the source, ``written_bytes`` went to the slot in this try."""

    done_bytes: int
    total_bytes: int
    fetched_bytes: int
    written_bytes: int


OnProgress = Callable[[Progress], None]
"""Called now and then; may raise to end the work (cancelled)."""


@dataclass(frozen=True, slots=True)
class SlotState:
    """What the boot loader thinks of a slot. ``tries_left`` None: it does not count tries of this slot."""

    slot: str
    bootable: bool
    good: bool
    tries_left: int | None


@dataclass(frozen=True, slots=True)
class BootState:
    """``booted``: the slot this system runs from; None where nobody can tell. ``primary``: the slot that the next
    ordinary boot takes; None where the boot loader's settings cannot be read. ``on_trial``: the booted slot is not
    marked good yet."""

    booted: str | None
    primary: str | None
    on_trial: bool
    slots: tuple[SlotState, ...]

    def of(self, slot: str) -> SlotState:
        return next(each for each in self.slots if each.slot == slot)


class BootSelector(Protocol):
    """One boot loader's way to pick a slot. Every change is durable when a method returns, and a power cut within
    one leaves a good slot bootable. Methods raise ``SlotFailed``."""

    reboot_argument: str | None
    """What reboot(2) must be given for the trial to happen (Raspberry Pi: "0 tryboot"); None: nothing."""

    def state(self) -> BootState: ...

    def block(self, slot: str) -> None:
        """Never boot ``slot`` again until it is activated; its content is about to change. It is not the booted
        slot. The slot that stays must be good, or the call is refused."""
        ...

    def activate(self, slot: str, tries: int) -> None:
        """The next boot takes ``slot``, on trial: at most ``tries`` boots without ``confirm`` (as many as the boot
        loader can count), then the good slot again by itself."""
        ...

    def confirm(self, slot: str) -> None:
        """The booted ``slot`` is good: it boots from now on, and its tries are not counted down."""
        ...

    def revert(self, slot: str) -> None:
        """The good ``slot`` boots from now on; what was on trial is not tried again."""
        ...

    def repair(self) -> list[str]:
        """At every start: finish what a power cut left half done, and give the good slot its tries back, so that
        no number of ordinary power cuts uses it up. Says in plain words what it did; usually nothing. Raises
        ``SlotFailed`` where nothing shows what would be right."""
        ...
