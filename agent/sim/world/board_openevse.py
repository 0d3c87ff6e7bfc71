"""The OpenEVSE board and its driver, in virtual time.

Charter: the board is the real one's model (``hal.sim.openevse_firmware``), turned only when something can come of it:
at a change, and at the times after one at which the firmware may conclude something. The driver decides by the real
rules (``hal.pilots.openevse_rules``), without bytes. So what is true of the board is true here: it comes up enabled,
charges on its own until somebody stops it, and after missed heartbeats goes on with its fallback current.

Source: OpenEVSE firmware 8.2.3 as written down in those two modules.
Units: milliseconds; ampere as the board has them; milliampere at the port.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from agent.sim.world.boards import WIRE_S, Board, Face
from agent.sim.world.plug import Plug
from hal.pilots import openevse_rules as rules
from hal.pilots.openevse import FALLBACK_A, HEARTBEAT_S
from hal.pilots.openevse_rules import Mode, Status, Wanted
from hal.ports import (
    DUTY_X1,
    BoardFault,
    BoardFaults,
    Contactor,
    PilotCapabilities,
    PilotEvent,
    PilotState,
)
from hal.sim.openevse_firmware import CHARGING, CONNECTED, HARD_FAULT, OpenEvseFirmware, OpenEvseTiming, State

SETTINGS_FLAGS = 0x0021  # nothing of what it checks is switched off
_MINIMUM_A = 6
_ACKNOWLEDGE = 165
_LIMIT_ACTIVE = 2
_ROUND_S = 0.03  # a handful of commands and replies
_POLL_MS = 1_000
_LOST_MS = 1_500  # three tries of half a second
_CLOSE_WAIT_MS = 4_500
_MIRROR_MS = 1_000
_TURNS_MS = (26, 251, 1_001, 3_001, 300_001)  # after a change: unplugged, debounced, checked, asleep, tries again
_FOUND: dict[BoardFault, State] = {
    BoardFault.RESIDUAL_CURRENT: State.GFCI,
    BoardFault.RESIDUAL_SELF_TEST: State.GFI_TEST_FAILED,
    BoardFault.NO_GROUND: State.NO_GROUND,
    BoardFault.OVER_TEMPERATURE: State.OVER_TEMPERATURE,
    BoardFault.OVER_CURRENT: State.OVER_CURRENT,
    BoardFault.CONTACTOR_OPEN: State.RELAY_CLOSURE,
}


class OpenEvseBoard(Board):
    """The board. Its stored settings are those of a commissioned one."""

    boot_s = 0.2

    def __init__(self, loop: asyncio.AbstractEventLoop, plug: Plug, rng: random.Random, *, max_a: int) -> None:
        super().__init__(loop, plug, rng)
        self.firmware = OpenEvseFirmware(
            plug,
            OpenEvseTiming(),
            lambda: round(loop.time() * 1_000),
            max_a=max_a,
            heartbeat=(HEARTBEAT_S, FALLBACK_A),
            settings_flags=SETTINGS_FLAGS,
        )
        self._turn: asyncio.TimerHandle | None = None
        self._missed: asyncio.TimerHandle | None = None
        self._mirror_wrong_since_ms: int | None = None

    @property
    def status(self) -> Status:
        """What the board says of itself when asked."""
        firmware = self.firmware
        return Status(int(firmware.state), firmware.pilot_state, firmware.vflags, firmware.amps)

    @property
    def minds_contact(self) -> bool:
        return self.firmware.state not in (State.SLEEPING, State.DISABLED)

    # ------------------------------------------------------------------------------------- behaviour

    def update(self) -> None:
        """Turn the main loop until nothing more comes of it now, and see to it that it turns again in time."""
        if not self.running:
            return
        self._turn_once()
        self._turn_later(0)
        if self.face is not None and self.reachable:
            self._face.hear_notice()

    def _turn_once(self) -> bool:
        """Whether anything came of it."""
        firmware, before = self.firmware, self.status
        if self.face is not None and self.reachable:
            firmware.supervise([])  # the driver's heartbeat of this second
        self._check_mirror()
        firmware.found = next((_FOUND[fault] for fault in self.found if fault in _FOUND), None)
        for _ in range(4):
            seen = self.status
            firmware.update()
            if self.status == seen:
                break
        return self.status != before

    def _turn_later(self, step: int) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if step < len(_TURNS_MS):
            passed_ms = _TURNS_MS[step - 1] if step else 0
            self._turn = self.loop.call_later((_TURNS_MS[step] - passed_ms) / 1_000, self._turn_again, step)

    def _turn_again(self, step: int) -> None:
        self._turn = None
        if not self.running:
            return
        moved = self._turn_once()
        self._turn_later(0 if moved else step + 1)
        if moved and self.face is not None and self.reachable:
            self._face.hear_notice()

    def _check_mirror(self) -> None:
        """A contactor that does not close is found by its mirror; the fault stands while the vehicle does."""
        now_ms = round(self.loop.time() * 1_000)
        missing = bool(self.firmware.vflags & CHARGING) and not self.plug.relay_closed
        if not missing:
            self._mirror_wrong_since_ms = None
            if not self.firmware.vflags & CONNECTED:
                self.found.pop(BoardFault.CONTACTOR_OPEN, None)
        elif self._mirror_wrong_since_ms is None:
            self._mirror_wrong_since_ms = now_ms
        elif now_ms - self._mirror_wrong_since_ms >= _MIRROR_MS:
            self.found[BoardFault.CONTACTOR_OPEN] = None

    def forget(self) -> None:
        self.firmware.power_up()
        self._mirror_wrong_since_ms = None
        if self._missed is not None:
            self._missed.cancel()
            self._missed = None
        self.found.pop(BoardFault.CONTACTOR_OPEN, None)
        self.plug.show(DUTY_X1, False)

    def booted(self) -> None:
        self.firmware.power_up()
        self.update()
        if self.face is not None and self.reachable:
            self._face.hear_boot()

    def contact_changed(self) -> None:
        heard = self.face is not None and self.reachable
        if heard and self._missed is not None:
            self._missed.cancel()
            self._missed = None
        elif not heard and self.running and self._missed is None:
            self.firmware.supervise([])
            self._missed = self.loop.call_later(HEARTBEAT_S + 0.001, self._deserted)
        if self.face is not None:
            self._face.contact_changed()

    def _deserted(self) -> None:
        self._missed = None
        self.update()

    # --------------------------------------------------------------------------------- what it is told

    def obey(self, command: str) -> None:
        """One state-changing command of RAPI that has arrived."""
        if not self.reachable:
            return
        name, *arguments = command.split(" ")
        if name == "SC":
            self.firmware.set_current(int(arguments[0]), "".join(arguments[1:]))
        elif name == "SY":
            self.firmware.supervise([int(each) for each in arguments])
        else:
            {"FE": self.firmware.enable, "FS": self.firmware.sleep, "FD": self.firmware.disable}[name]()
        self.update()

    def reset(self) -> None:
        if self.reachable:
            self.begin_boot()

    @property
    def _face(self) -> OpenEvseFace:
        assert isinstance(self.face, OpenEvseFace)
        return self.face


class OpenEvseFace(Face):
    """An ``AutonomousPilot`` for one life of the station."""

    def __init__(self, board: OpenEvseBoard, name: str, *, max_current_ma: int) -> None:
        super().__init__(board, name)
        self._board = board
        self._max_a = min(max_current_ma // 1_000, board.firmware.max_a)
        self._status = Status()
        self._noticed: tuple[int, ...] = ()
        self._faults: frozenset[BoardFault] = frozenset()
        self._wanted_ma: int | None = None
        self._wanted_off = Mode.STOP
        self._urgent: list[str] = []  # on the wire
        self._spurious = self._rebooting = False

    # ------------------------------------------------------------------------------ AutonomousPilot

    @property
    def capabilities(self) -> PilotCapabilities:
        return PilotCapabilities(
            autonomous=True,
            has_lock=False,
            has_contactor_feedback=True,
            can_signal_digital=False,
            max_current_ma=self._max_a * 1_000,
            supervision_ms=HEARTBEAT_S * 1_000,
        )

    def start(self, on_event: Callable[[PilotEvent], None]) -> None:
        self._on_event = on_event
        self._board.attach(self)

    async def close(self) -> None:
        if self._on_event is None:
            return
        self.stop()
        for _ in range(_CLOSE_WAIT_MS // 10):
            if not self.in_use or self._has_stopped():
                break
            await asyncio.sleep(0.01)
        if rules.is_fault(self._status.state) or not self._has_stopped():
            self._send_urgent("FD")
        await asyncio.sleep(2 * WIRE_S)
        if self._board.face is self:
            self._board.detach()

    def _has_stopped(self) -> bool:
        confirmed = rules.next_command(self._wanted, self._status) is None
        return confirmed and not rules.contactor_closed(self._status)

    def offer(self, current_ma: int) -> None:
        if current_ma < _MINIMUM_A * 1_000:
            self.stop()
            return
        self._wanted_ma = current_ma
        self._round_soon()

    def stop(self) -> None:
        self._turn_off(Mode.STOP)

    def disable(self) -> None:
        self._turn_off(Mode.DISABLE)

    def reset(self) -> None:
        if self.in_use and not self._rebooting:
            self._rebooting = True
            self.later("reset", _ROUND_S, self._board.reset)

    def _turn_off(self, mode: Mode) -> None:
        self._wanted_ma = None
        self._wanted_off = mode
        if mode is Mode.STOP and not rules.is_fault(self._status.state):
            self._send_urgent("FS")
        elif mode is Mode.DISABLE and not rules.held_open(self._status):
            self._send_urgent("FD")
        self._round_soon()

    def _send_urgent(self, command: str) -> None:
        """Leaves in the call itself; a process that dies afterwards cannot take it back."""
        if self._on_event is None:
            return
        if not self._urgent:
            self._loop.call_later(WIRE_S, self._arrive)
        self._urgent.append(command)

    def _arrive(self) -> None:
        """What has left arrives, in its order."""
        while self._urgent:
            self._board.obey(self._urgent.pop(0))

    @property
    def _wanted(self) -> Wanted:
        if self._wanted_ma is None:
            return Wanted(self._wanted_off)
        return Wanted(Mode.OFFER, min(self._wanted_ma // 1_000, self._max_a))

    # ---------------------------------------------------------------------------------------- rounds

    def contact_changed(self) -> None:
        if self._board.reachable:
            self.cancel("lose")
            if self.in_use:
                self._round_soon()
            else:
                self.later("probe", self._board_rng.randrange(20, _POLL_MS) / 1_000, self._probe)
        elif not self._lost_told:
            delay_ms = _LOST_MS + self._board_rng.randrange(_POLL_MS)
            self.later("lose", delay_ms / 1_000, self._overdue)

    def _overdue(self) -> None:
        self._status = Status()
        self._faults = frozenset()
        self._spurious = self._rebooting = False
        self.lose(self._board.link)

    def _probe(self) -> None:
        """Learn the board; one that charges on its own is stopped before all else."""
        if not self._board.reachable:
            return
        urgent = rules.urgent_command(self._wanted, self._board.status)
        if urgent is not None:
            self._board.obey(urgent)
        self.begin_use("simulated OpenEVSE 8.2.3")
        self._look()
        self._round()

    def _round_soon(self) -> None:
        self.cancel("round")
        self.later("round", _ROUND_S, self._round)

    def _round(self) -> None:
        """One round of the driver: acknowledge a missed beat, then bring the board to what is wanted."""
        if not self.in_use or not self._board.reachable or self._rebooting:
            return
        if self._board.firmware.heartbeat_trigger == _LIMIT_ACTIVE:
            self._board.obey(f"SY {_ACKNOWLEDGE}")
        tried: set[str] = set()
        self._arrive()
        while (command := rules.next_command(self._wanted, self._board.status, frozenset(tried))) is not None:
            tried.add(command)
            self._board.obey(command)
            self._arrive()
        self._look()
        if rules.next_command(self._wanted, self._status) is not None:
            self.later("round", _POLL_MS / 1_000, self._round)
        elif self._spurious:
            self._spurious = False
            self._tell_status()

    def _look(self) -> None:
        """The board is asked for its state."""
        self.cancel("poll")
        self._status = self._board.status
        self._noticed = _noticed(self._status)
        self._tell_status()

    # ---------------------------------------------------------------------------- news from the board

    def hear_notice(self) -> None:
        """The board has moved on: some of it it says by itself ($AT), the rest shows at the next poll."""
        status = self._board.status
        if not self.in_use or self._rebooting or status == self._status:
            return
        silent = status.state == rules.UNKNOWN or (status.state == State.A and status.vflags & CONNECTED)
        if silent or _noticed(status) == self._noticed:
            self.later("poll", self._board_rng.randrange(1, _POLL_MS) / 1_000, self._poll)
            return
        self._look()
        self._react()

    def _poll(self) -> None:
        if self.in_use and self._board.reachable:
            self._look()
            self._react()

    def _react(self) -> None:
        if rules.needs_reset(self._status):
            self.reset()
        if (urgent := rules.urgent_command(self._wanted, self._status)) is not None:
            self._send_urgent(urgent)
        if rules.next_command(self._wanted, self._status) is not None:
            self._round_soon()

    def hear_boot(self) -> None:
        """$AB. Nobody asked for it: the board has forgotten what it was told."""
        self.cancel("lose")
        if not self.in_use:
            return
        self._spurious = self._spurious or not self._rebooting
        self._rebooting = False
        self._faults = frozenset()
        self._status = Status()
        self._tell_status()
        if (urgent := rules.urgent_command(self._wanted, self._status)) is not None:
            self._send_urgent(urgent)
        self._round_soon()

    def _tell_status(self) -> None:
        if not self.in_use:
            return
        self._faults = rules.faults(self._status, self._faults)
        spurious = frozenset({BoardFault.SPURIOUS_RESET}) if self._spurious else frozenset()
        self.changed(BoardFaults(self._faults | spurious))
        self.changed(Contactor(rules.contactor_closed(self._status)))
        if (cp := rules.cp_state(self._status)) is not None:
            self.changed(PilotState(cp))


def _noticed(status: Status) -> tuple[int, ...]:
    """What makes the board speak by itself when it changes."""
    return status.state, status.pilot, status.current_a or 0, status.vflags & (CONNECTED | HARD_FAULT)
