"""What the simulated pilot boards have in common: power, boot, link, what they find wrong, and their driver.

Charter: a ``Board`` is the device; it lives through restarts of the station. A ``Face`` is its driver for one life of
the station: it implements the ``hal.ports`` protocol of its kind, tells ``Lost`` and ``Back`` once each, and every
state only when it is new. The two boards are ``board_mcu`` and ``board_openevse``.

Nothing that a face is told to do happens inside the call: bytes need a moment on the wire, so the station is never
called back from its own command.

Units: milliseconds.
"""

from __future__ import annotations

import asyncio
import enum
import random
from abc import ABC, abstractmethod
from collections.abc import Callable

from agent.sim.world.plug import Plug
from hal.ports import (
    Back,
    BoardFault,
    BoardFaults,
    Cable,
    Contactor,
    Lock,
    LockPosition,
    LossKind,
    Lost,
    PilotCapabilities,
    PilotEvent,
    PilotState,
)

WIRE_S = 0.002  # a short frame at 115200 baud, and the board's main loop
State = PilotCapabilities | BoardFaults | PilotState | Contactor | Cable | Lock


class Link(enum.Enum):
    """The line between station and board."""

    UP = "up"
    SILENT = "silent"
    GARBAGE = "garbage"


class Board(ABC):
    """One pilot board at its plug."""

    boot_s: float

    def __init__(self, loop: asyncio.AbstractEventLoop, plug: Plug, rng: random.Random) -> None:
        self.loop = loop
        self.plug = plug
        self.rng = rng
        self.link = Link.UP
        self.powered = True
        self.running = True  # past its boot
        self.found: dict[BoardFault, None] = {}  # what its sensors find, in the order it came
        self.face: Face | None = None
        self._boot: asyncio.TimerHandle | None = None

    @property
    def reachable(self) -> bool:
        return self.running and self.link is Link.UP

    @property
    def supervised(self) -> bool:
        """A living driver has this board in hand; otherwise it acts by itself."""
        return self.reachable and self.face is not None and self.face.in_use

    @property
    def minds_contact(self) -> bool:
        """It would find just now that its contact is welded."""
        return True

    # The connector lock; a board without one keeps these.

    @property
    def lock(self) -> LockPosition:
        return LockPosition.UNLOCKED

    @property
    def bolted(self) -> bool:
        return False

    def jam(self, jammed: bool) -> None:
        """The lock's motor is (not) blocked."""
        _ = jammed

    # ------------------------------------------------------------------------------------ the world's

    def power(self, on: bool) -> None:
        if on is self.powered:
            return
        self.powered = on
        self.begin_boot()

    def reboot(self) -> None:
        """A reset that nobody asked for."""
        if self.powered:
            self.begin_boot()

    def begin_boot(self) -> None:
        """Dead from now on, and running again after the boot time where there is power."""
        if self._boot is not None:
            self._boot.cancel()
            self._boot = None
        self.running = False
        self.forget()
        self.contact_changed()
        if self.powered:
            self._boot = self.loop.call_later(self.boot_s, self._run)

    def _run(self) -> None:
        self._boot = None
        self.running = True
        self.booted()
        self.contact_changed()

    def set_link(self, link: Link) -> None:
        if link is not self.link:
            self.link = link
            self.contact_changed()

    def find(self, fault: BoardFault, present: bool) -> None:
        if present:
            self.found[fault] = None
        else:
            self.found.pop(fault, None)
        self.update()

    def attach(self, face: Face) -> None:
        """A driver opens the port."""
        self.face = face
        self.contact_changed()

    def detach(self) -> None:
        """The station process is gone; nobody hears the board, and nobody speaks to it."""
        if self.face is not None:
            self.face.detach()
            self.face = None
            self.contact_changed()

    # ------------------------------------------------------------------------------- each board's own

    @abstractmethod
    def update(self) -> None:
        """Something at the plug or inside has changed: act on it, and tell the driver what is new."""

    @abstractmethod
    def contact_changed(self) -> None:
        """Station and board can, or can no longer, reach each other."""

    @abstractmethod
    def forget(self) -> None:
        """Power or reset took everything volatile: outputs as the hardware leaves them."""

    @abstractmethod
    def booted(self) -> None:
        """The firmware begins."""


class Face(ABC):
    """What every pilot driver does alike."""

    def __init__(self, board: Board, name: str) -> None:
        self._name = name
        self._board_rng = board.rng
        self._loop = board.loop
        self._on_event: Callable[[PilotEvent], None] | None = None
        self._known: dict[type[State], State] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._lost_told = False
        self.in_use = False  # between Back and Lost

    @property
    @abstractmethod
    def capabilities(self) -> PilotCapabilities: ...

    def detach(self) -> None:
        """Silent for ever. Bytes that have left go on their way."""
        self._on_event = None
        self.in_use = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def later(self, name: str, delay_s: float, what: Callable[[], None]) -> None:
        """One timer per name; one that runs already keeps its time."""
        if name not in self._timers and self._on_event is not None:
            self._timers[name] = self._loop.call_later(delay_s, self._fire, name, what)

    def cancel(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _fire(self, name: str, what: Callable[[], None]) -> None:
        del self._timers[name]
        what()

    def begin_use(self, detail: str) -> None:
        self.in_use, self._lost_told = True, False
        self._known.clear()
        self.tell(Back(detail))
        self.changed(self.capabilities)

    def lose(self, link: Link) -> None:
        self.in_use = False
        if not self._lost_told:
            self._lost_told = True
            kind = LossKind.GARBAGE if link is Link.GARBAGE else LossKind.SILENT
            what = "only damaged frames" if kind is LossKind.GARBAGE else "no answer"
            self.tell(Lost(kind, f"{self._name}: {what}"))

    def tell(self, event: PilotEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def changed(self, state: State) -> None:
        if self.in_use and self._known.get(type(state)) != state:
            self._known[type(state)] = state
            self.tell(state)
