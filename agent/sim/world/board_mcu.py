"""The subordinate pilot microcontroller (Yeti family) and its driver, in virtual time.

Charter: behaves as ``hal.sim.mcu_board`` and ``hal.pilots.mcu`` do together, without bytes: start and every return
by a reset of the board, states told at once, what was wanted forgotten by a loss or a spurious reset. The board closes
its contactor with a grant, a PWM and state C or D only; it withdraws both by itself ``SUPERVISION_MS`` after it last
heard of the station.

Source: EVerest ``YetiDriver`` as written down in those two modules.
Units: milliseconds; 0.01 % duty; milliampere.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from agent.sim.world.boards import WIRE_S, Board, Face, Link
from agent.sim.world.plug import Plug
from hal.ports import (
    DUTY_F,
    DUTY_X1,
    BoardFault,
    BoardFaults,
    Cable,
    Contactor,
    CpState,
    Lock,
    LockPosition,
    PilotCapabilities,
    PilotEvent,
    PilotState,
)

SUPERVISION_MS = 5_000
LINK_TIMEOUT_MS = 5_000
SILENCE_MS = 2_500
_KEEP_ALIVE_MS = 1_000
_LOCK_S = 0.3
_CLOSE_WAIT_MS = 500


class McuBoard(Board):
    """The board. The lock's bolt stays where it is without power."""

    boot_s = 0.05

    def __init__(self, loop: asyncio.AbstractEventLoop, plug: Plug, rng: random.Random) -> None:
        super().__init__(loop, plug, rng)
        self.allowed = False
        self.duty = DUTY_X1
        self._position = LockPosition.UNLOCKED
        self._bolted = False
        self._jammed = False
        self._lock_missed = False
        self._diode_missing = False
        self._asked = False  # for the boot under way
        self._supervision: asyncio.TimerHandle | None = None
        self._motor: asyncio.TimerHandle | None = None

    @property
    def lock(self) -> LockPosition:
        return self._position

    @property
    def bolted(self) -> bool:
        return self._bolted

    def jam(self, jammed: bool) -> None:
        self._jammed = jammed

    @property
    def faults(self) -> frozenset[BoardFault]:
        found = set(self.found)
        if self._diode_missing:
            found.add(BoardFault.DIODE)
        if self._lock_missed:
            found.add(BoardFault.LOCK)
        return frozenset(found)

    @property
    def cp(self) -> CpState:
        return CpState.F if self.duty == DUTY_F else self.plug.cp

    # ------------------------------------------------------------------------------------- behaviour

    def update(self) -> None:
        if not self.running:
            return
        pwm = DUTY_F < self.duty < DUTY_X1
        if not self.plug.diode_fault or self.plug.cp is CpState.A:
            self._diode_missing = False
        elif pwm:  # only a PWM's negative half shows a diode
            self._diode_missing = True
        close = self.allowed and pwm and not self.faults and self.cp in (CpState.C, CpState.D)
        self.plug.show(self.duty, close)
        if self.face is not None and self.reachable:
            self._face.hear()

    def forget(self) -> None:
        self.allowed, self.duty = False, DUTY_X1
        self._lock_missed = self._diode_missing = False
        if self._motor is not None:
            self._motor.cancel()
            self._motor = None
            self._position = LockPosition.LOCKED if self._bolted else LockPosition.UNLOCKED
        self.plug.show(DUTY_X1, False)

    def booted(self) -> None:
        asked, self._asked = self._asked, False
        self.update()
        if self.face is not None and self.reachable:
            self._face.hear_boot(asked=asked)

    def contact_changed(self) -> None:
        """The board hears keep-alives only while a driver has the port and the line is sound."""
        heard = self.face is not None and self.reachable
        if heard and self._supervision is not None:
            self._supervision.cancel()
            self._supervision = None
        elif not heard and self.running and self._supervision is None:
            since_ms = self.rng.randrange(_KEEP_ALIVE_MS)
            self._supervision = self.loop.call_later((SUPERVISION_MS - since_ms) / 1_000, self._deserted)
        if self.face is not None:
            self._face.contact_changed()

    def _deserted(self) -> None:
        self._supervision = None
        self.allowed, self.duty = False, DUTY_X1
        self.update()

    # --------------------------------------------------------------------------------- what it is told

    def obey(self, power: bool | None, duty: int | None, locked: bool | None) -> None:
        """Commands that have arrived; None: nothing said of it."""
        if not self.reachable:
            return
        self.allowed = self.allowed if power is None else power
        self.duty = self.duty if duty is None else duty
        if locked is not None:
            self._drive_lock(locked)
        self.update()

    def reset(self) -> None:
        if self.reachable:
            self._asked = True
            self.begin_boot()

    def _drive_lock(self, locked: bool) -> None:
        if self._motor is not None:
            self._motor.cancel()
        self._position, self._lock_missed = LockPosition.UNKNOWN, False
        self._motor = self.loop.call_later(_LOCK_S, self._lock_arrives, locked)

    def _lock_arrives(self, locked: bool) -> None:
        self._motor = None
        if self._jammed:
            self._lock_missed = True
        else:
            self._bolted = locked
            self._position = LockPosition.LOCKED if locked else LockPosition.UNLOCKED
        self.update()

    @property
    def _face(self) -> McuFace:
        assert isinstance(self.face, McuFace)
        return self.face


class McuFace(Face):
    """A ``SubordinatePilot`` for one life of the station."""

    def __init__(self, board: McuBoard, name: str, *, max_current_ma: int, has_lock: bool) -> None:
        super().__init__(board, name)
        self._board = board
        self._max_current_ma = max_current_ma
        self._has_lock = has_lock
        self._running = False  # reset confirmed and the board's keep-alive seen
        self._spurious = False
        self._power: bool | None = None  # to be sent; None: nothing new
        self._duty: int | None = None
        self._locked: bool | None = None
        self._forget_wanted()

    def _forget_wanted(self) -> None:
        self._wanted_power, self._wanted_duty = False, DUTY_X1
        self._wanted_locked: bool | None = None

    # ---------------------------------------------------------------------------- SubordinatePilot

    @property
    def capabilities(self) -> PilotCapabilities:
        return PilotCapabilities(
            autonomous=False,
            has_lock=self._has_lock,
            has_contactor_feedback=True,
            can_signal_digital=True,
            max_current_ma=self._max_current_ma,
            supervision_ms=SUPERVISION_MS,
        )

    def start(self, on_event: Callable[[PilotEvent], None]) -> None:
        self._on_event = on_event
        self._board.attach(self)
        self._begin()

    async def close(self) -> None:
        if self._on_event is None:
            return
        self.allow_power(False)
        self.set_duty(DUTY_X1)
        for _ in range(_CLOSE_WAIT_MS // 10):
            await asyncio.sleep(0.01)
            if not self._board.reachable or not self._board.plug.relay_closed:
                break
        if self._board.face is self:
            self._board.detach()

    def set_duty(self, duty_centipercent: int) -> None:
        if not 0 <= duty_centipercent <= DUTY_X1:
            raise ValueError(f"duty {duty_centipercent} is not 0..{DUTY_X1} (0.01 %)")
        if self.in_use:
            self._wanted_duty = duty_centipercent
        if (self.in_use and self._running) or duty_centipercent in (DUTY_X1, DUTY_F):
            self._duty = duty_centipercent
            self._send()

    def allow_power(self, allowed: bool) -> None:
        if self.in_use:
            self._wanted_power = allowed
        if not allowed or (self.in_use and self._running):
            self._power = allowed
            self._send()

    def set_lock(self, locked: bool) -> None:
        if self.in_use:
            self._wanted_locked = locked
            if self._running:
                self._locked = locked
                self._send()

    def reset(self) -> None:
        if self.in_use:
            self._forget_wanted()
            self._begin()

    def _send(self) -> None:
        if "send" not in self._timers and self._on_event is not None:
            # Bytes that have left arrive, also when the process dies meanwhile: no timer of ours.
            self._timers["send"] = self._loop.call_later(WIRE_S, self._arrive)

    def _arrive(self) -> None:
        self._timers.pop("send", None)
        power, duty, locked = self._power, self._duty, self._locked
        self._power = self._duty = self._locked = None
        self._board.obey(power, duty, locked)

    def detach(self) -> None:
        self._timers.pop("send", None)
        super().detach()

    # ------------------------------------------------------------------------------- start and loss

    def _begin(self) -> None:
        """Safe state and reset, again and again until the board confirms."""
        self._running = False
        self.later("overdue", LINK_TIMEOUT_MS / 1_000, self._overdue)
        self.later("begin", WIRE_S, self._board.reset)

    def contact_changed(self) -> None:
        reachable = self._board.reachable
        if self._running:
            if reachable:
                self.cancel("overdue")
                self.hear()
                self.later("again", self._board_rng.randrange(1, _KEEP_ALIVE_MS) / 1_000, self._say_again)
            else:
                # The first damaged keep-alive is a loss.
                within_ms = _KEEP_ALIVE_MS if self._board.link is Link.GARBAGE else SILENCE_MS
                since_ms = self._board_rng.randrange(_KEEP_ALIVE_MS)
                self.later("overdue", (within_ms - since_ms) / 1_000, self._overdue)
        elif reachable:
            self.later("begin", self._board_rng.randrange(1, _KEEP_ALIVE_MS) / 1_000, self._board.reset)

    def _overdue(self) -> None:
        self.cancel("alive")
        self._running = self._spurious = False
        self._forget_wanted()
        self.lose(self._board.link)

    def _say_again(self) -> None:
        """With the next keep-alive: noise may have swallowed what was said."""
        if self._running:
            self._power, self._duty = self._wanted_power, self._wanted_duty
            self._send()

    def hear_boot(self, *, asked: bool) -> None:
        """The board says that it has just begun."""
        if self._running and not asked:
            self._spurious = True
            self._forget_wanted()
            self.allow_power(False)
            self.set_duty(DUTY_X1)
            self.hear()
        else:
            self.cancel("begin")
        self.later("alive", self._board_rng.randrange(10, _KEEP_ALIVE_MS) / 1_000, self._hear_alive)

    def _hear_alive(self) -> None:
        self._spurious = False
        if not self._board.reachable:
            return
        self.cancel("overdue")
        self.cancel("begin")
        if not self.in_use:
            self._running = True
            self.begin_use("simulated MCU")
        elif not self._running:
            self._running = True
            self._power, self._duty, self._locked = self._wanted_power, self._wanted_duty, self._wanted_locked
            self._send()
        self.hear()

    def hear(self) -> None:
        """The board tells its states; what is new goes on to the station."""
        board = self._board
        faults = board.faults
        self.changed(BoardFaults(faults | {BoardFault.SPURIOUS_RESET} if self._spurious else faults))
        self.changed(PilotState(board.cp))
        self.changed(Contactor(board.plug.relay_closed))
        self.changed(Cable(board.plug.cable_rating_ma))
        self.changed(Lock(board.lock))
