"""Driver of the subordinate pilot microcontroller (protobuf over COBS): Yeti family.

Charter: bytes on the line <-> ``hal.ports.SubordinatePilot``. The station runs IEC 61851 and grants
power; the MCU closes the contactor only with that grant, state C or D and a PWM, and opens it by
itself when our keep-alives stop.

Rules:

* From bytes at the descriptor to ``on_event``, and from a command to the write, there is no task and
  no timer: the station's ``allow_power(False)`` leaves in the same callback that brought the event.
* Start, and start again after every loss: power denied and steady pilot (X1), ``reset``, wait for its
  confirmation, three keep-alives (they also resynchronise COBS), then the MCU's own keep-alive: ``Back``.
* A loss forgets what the station wanted. Until ``Back`` only commands that take away are sent; the
  station says after ``Back`` what it wants. A ``reset()`` asked for by the station is not a loss:
  commands given meanwhile are held and sent when the MCU runs again.
* A reset nobody asked for raises ``SPURIOUS_RESET``. The MCU is then put into X1 without power, and
  the fault is withdrawn with its next keep-alive: from there the station must command again. Only the lock is driven
  again at once: the MCU may not know any more where it is, and a plug in use must not come loose.
* The MCU tells a state when it changes, once, and cannot be asked. So one damaged frame is a loss (GARBAGE): it may
  have said that the vehicle left. Power goes, the reset makes the MCU tell its states anew, and a station that finds
  them as they were goes on where it was. A silence so long that keep-alives must have been missed is a loss for the
  same reason (SILENT). What is damaged between a reset and ``Back`` makes the start begin again after
  ``reset_wait_ms``.
* A sound frame with a value that we do not know is no damage: another reset would bring it again, for ever. It is taken
  for the worst that it can mean (``mcu_codec.UnknownValue``): a pilot in error, an invalid cable, a lock somewhere.
* After a reset the MCU tells what differs from its state at power-on: no fault, contactor open, no cable, a lock that
  may be anywhere.
* Other losses: no start within ``link_timeout_ms`` (SILENT, GARBAGE where what came last was damaged, REFUSED where
  the MCU talks but does not confirm its reset), the port gone (GONE).

Sources: EVerest ``YetiDriver`` (order of start-up, the 1 s and 5 s limits); published firmware of the family (uMWC,
TIDA-010939: states on change only, order of what is told after a reset).
Units: milliseconds, milliampere, 0.01 % duty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from hal.bus_counters import BusCounters
from hal.pilots import cobs, mcu_codec
from hal.pilots.mcu_codec import (
    BadMessage,
    McuCpState,
    McuErrors,
    McuKeepAlive,
    McuLock,
    McuMessage,
    McuProximity,
    McuRelais,
    McuReset,
    UnknownValue,
)
from hal.pilots.serial_line import SerialLine
from hal.ports import (
    DUTY_F,
    DUTY_X1,
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

_CLOSE_WAIT_MS = 500
_RESYNC_KEEP_ALIVES = 3
_STALL_S = 0.5
_FRAME_END_S = 0.1  # after the last byte; an adapter holds bytes back for some 16 ms
_log = structlog.get_logger(__name__)
_State = PilotCapabilities | BoardFaults | PilotState | Contactor | Cable | Lock


@dataclass(frozen=True, slots=True)
class McuConfig:
    """Where the MCU is and how long things may take. ``supervision_ms`` is the MCU firmware's own.

    ``silence_ms`` without a keep-alive of the MCU, which sends one a second, are a loss."""

    path: str
    baud: int = 115_200
    max_current_ma: int = 32_000
    has_lock: bool = True
    keep_alive_ms: int = 1_000
    silence_ms: int = 2_500
    link_timeout_ms: int = 5_000
    reset_wait_ms: int = 1_000
    supervision_ms: int = 5_000


class McuPilot:
    """One MCU on one serial port; implements ``SubordinatePilot``."""

    def __init__(self, config: McuConfig) -> None:
        self._config = config
        self._line = SerialLine(
            config.path, baud=config.baud, on_open=self._begin, on_bytes=self._received, on_lost=self._port_lost
        )
        self._on_event: Callable[[PilotEvent], None] | None = None
        self._splitter = cobs.Splitter(mcu_codec.MAX_PACKET_BYTES)
        self._max_current_ma = config.max_current_ma
        self.counters = BusCounters()  # messages of the MCU, which speaks by itself; a loss counts as a failed one
        self._unknown: set[int] = set()  # fields of which a value that we do not know has been logged
        self._noise = False  # what came last was no good frame
        self._talks = False  # a good frame came since the deadline was set
        self._in_use = False  # between Back and Lost
        self._lost_told = False
        self._reset_confirmed = False
        self._running = False  # reset confirmed and the MCU's keep-alive seen
        self._known: dict[type[_State], _State] = {}  # what the station has been told, or is to be told after Back
        self._error_flags: frozenset[BoardFault] = frozenset()
        self._proximity_fault = False
        self._spurious_reset = False
        self._duty_centipercent = DUTY_X1
        self._power_allowed = False
        self._locked: bool | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._begin_again: asyncio.TimerHandle | None = None
        self._next_keep_alive: asyncio.TimerHandle | None = None
        self._frame_end: asyncio.TimerHandle | None = None

    # ---------------------------------------------------------------- SubordinatePilot

    @property
    def capabilities(self) -> PilotCapabilities:
        return PilotCapabilities(
            autonomous=False,
            has_lock=self._config.has_lock,
            has_contactor_feedback=True,
            can_signal_digital=True,
            max_current_ma=self._max_current_ma,
            supervision_ms=self._config.supervision_ms,
        )

    def start(self, on_event: Callable[[PilotEvent], None]) -> None:
        self._on_event = on_event
        self._line.start()

    async def close(self) -> None:
        self._stop_timers()
        self._line.write_urgent(mcu_codec.allow_power_on(False))
        self._line.write(mcu_codec.pwm_duty_cycle(DUTY_X1))
        for _ in range(_CLOSE_WAIT_MS // 10):
            if not self._line.is_open or self._known.get(Contactor) != Contactor(True):
                break
            await asyncio.sleep(0.01)
        await self._line.close()
        self._stop_timers()

    def set_duty(self, duty_centipercent: int) -> None:
        if not 0 <= duty_centipercent <= DUTY_X1:
            raise ValueError(f"duty {duty_centipercent} is not 0..{DUTY_X1} (0.01 %)")
        takes_away = duty_centipercent in (DUTY_X1, DUTY_F)
        if self._in_use:
            self._duty_centipercent = duty_centipercent
        if (self._in_use and self._running) or takes_away:
            self._line.write(mcu_codec.pwm_duty_cycle(duty_centipercent))

    def allow_power(self, allowed: bool) -> None:
        if not allowed:
            self._deny_power()
        elif self._in_use:
            self._power_allowed = True
            if self._running:
                self._line.write(mcu_codec.allow_power_on(True))

    def set_lock(self, locked: bool) -> None:
        if not self._in_use:
            return
        self._locked = locked
        if self._running:
            self._line.write(mcu_codec.connector_lock(locked))

    def reset(self) -> None:
        """The lock is driven again afterwards: the MCU may no longer know where it is, and the station goes on."""
        if self._in_use:
            self._stop_timers()
            self._forget_wanted()
            self._begin()

    # ---------------------------------------------------------------- start and loss

    def _begin(self) -> None:
        """Safe state, reset; repeated every ``reset_wait_ms`` until the MCU confirms."""
        loop = asyncio.get_running_loop()
        self._running = self._reset_confirmed = False
        # The zero byte ends what the MCU may hold of an older frame, so that the next one is heard.
        self._line.write_urgent(b"\x00" + mcu_codec.allow_power_on(False))
        self._line.write(mcu_codec.pwm_duty_cycle(DUTY_X1))
        self._line.write(mcu_codec.reset())
        self._begin_again = loop.call_later(self._config.reset_wait_ms / 1000, self._begin)
        if self._deadline is None:
            self._talks = self._noise = False
            self._deadline = loop.call_later(self._config.link_timeout_ms / 1000, self._overdue)

    def _forget_wanted(self) -> None:
        self._duty_centipercent = DUTY_X1
        self._power_allowed = False

    def _forget_told(self) -> None:
        """A reset makes everything that the MCU said void; it tells anew what is not as at power-on."""
        self._error_flags = frozenset()
        self._proximity_fault = False
        if not self._in_use:
            self._known.clear()
            self._changed(self.capabilities)
        self._faults_changed()
        self._changed(Contactor(False))
        self._changed(Cable(None))
        if self._config.has_lock:
            self._changed(Lock(LockPosition.UNKNOWN))

    def _overdue(self) -> None:
        deadline, loop = self._deadline, asyncio.get_running_loop()
        if deadline is not None and loop.time() - deadline.when() > _STALL_S:
            # We stood still, not the MCU. What it has said meanwhile comes first: the vehicle may have left.
            self._deadline = loop.call_later(_FRAME_END_S, self._overdue)
            return
        self._deadline = None
        if self._talks and not self._reset_confirmed:
            self._lose(LossKind.REFUSED, "talks, but its reset is not confirmed, or what follows is damaged")
        elif self._noise:
            self._lose(LossKind.GARBAGE, "only damaged frames")
        else:
            self._lose(LossKind.SILENT, "no keep-alive in time")

    def _lose(self, kind: LossKind, detail: str) -> None:
        if kind is not LossKind.GARBAGE:  # damaged frames were counted as they came
            self.counters.failed(kind)
        self._stop_timers()
        self._splitter = cobs.Splitter(mcu_codec.MAX_PACKET_BYTES)  # half a frame must not spoil the next one
        self._in_use = False
        self._forget_wanted()
        self._locked = None
        self._forget_told()
        if self._line.is_open:
            self._begin()
        if not self._lost_told:
            self._lost_told = True
            self._tell(Lost(kind, f"{self._config.path}: {detail}"))

    def _port_lost(self, detail: str) -> None:
        self._lose(LossKind.GONE, detail)

    def _stop_timers(self) -> None:
        for timer in (self._deadline, self._begin_again, self._next_keep_alive, self._frame_end):
            if timer is not None:
                timer.cancel()
        self._deadline = self._begin_again = self._next_keep_alive = self._frame_end = None

    # ---------------------------------------------------------------- commands

    def _deny_power(self) -> None:
        self._power_allowed = False
        if self._line.write_urgent(mcu_codec.allow_power_on(False)):
            self._repeat_wanted()

    def _repeat_wanted(self) -> None:
        """Send again what the station wants, after it was discarded or held."""
        if not self._running:
            self._line.write(mcu_codec.reset())
            return
        self._line.write(mcu_codec.pwm_duty_cycle(self._duty_centipercent))
        if self._locked is not None:
            self._line.write(mcu_codec.connector_lock(self._locked))
        if self._power_allowed:
            self._line.write(mcu_codec.allow_power_on(True))

    def _keep_alive(self) -> None:
        """With each: duty and power as they are wanted. Noise may have swallowed the frame that took power away, and
        the MCU, which hears us, would never open by itself."""
        self._line.write(mcu_codec.keep_alive())
        if self._running:
            self._line.write(mcu_codec.pwm_duty_cycle(self._duty_centipercent))
            self._line.write(mcu_codec.allow_power_on(self._power_allowed))
        self._next_keep_alive = asyncio.get_running_loop().call_later(
            self._config.keep_alive_ms / 1000, self._keep_alive
        )

    # ---------------------------------------------------------------- what the MCU says

    def _received(self, data: bytes) -> None:
        self._noise = True
        if self._frame_end is not None:
            self._frame_end.cancel()
            self._frame_end = None
        overruns = self._splitter.overruns
        frames = self._splitter.feed(data)
        if self._splitter.overruns > overruns:
            self._damaged("frame without end")
        for encoded in frames:
            try:
                message = mcu_codec.decode(mcu_codec.unframe(encoded))
            except UnknownValue as unknown:
                self._log_unknown(unknown)
                message = unknown.means
            except BadMessage as error:
                self._damaged(str(error))
                continue
            self.counters.answered()
            self._noise = False
            self._talks = True
            if message is not None:
                self._heard(message)
        if self._in_use and self._splitter.unfinished:
            self._frame_end = asyncio.get_running_loop().call_later(_FRAME_END_S, self._damaged, "frame without end")

    def _damaged(self, detail: str) -> None:
        """A frame that cannot be read may have told a state: everything is found out anew, by a reset."""
        self.counters.failed(LossKind.GARBAGE)
        self._noise = True
        if not self._reset_confirmed:
            return  # that is under way
        if self._in_use:
            self._lose(LossKind.GARBAGE, f"damaged frame: {detail}")
        else:  # not at once: it may be damaged each time
            self._reset_confirmed = False
            self._begin_again = asyncio.get_running_loop().call_later(self._config.reset_wait_ms / 1000, self._begin)

    def _log_unknown(self, unknown: UnknownValue) -> None:
        if unknown.field not in self._unknown:
            self._unknown.add(unknown.field)
            _log.warning(
                "the pilot's MCU tells what this release does not know, perhaps its firmware is newer",
                path=self._config.path,
                told=str(unknown),
                taken_for=str(unknown.means),
            )

    def _heard(self, message: McuMessage) -> None:
        match message:
            case McuReset():
                self._was_reset()
            case McuKeepAlive():
                self._heard_keep_alive(message)
            case McuErrors(faults):
                self._error_flags = faults
                self._faults_changed()
            case McuCpState(cp):
                self._changed(PilotState(cp))
            case McuRelais(closed):
                self._changed(Contactor(closed))
            case McuProximity(rating_ma, fault):
                self._proximity_fault = fault
                self._changed(Cable(rating_ma))
                self._faults_changed()
            case McuLock(position):
                self._changed(Lock(position))

    def _was_reset(self) -> None:
        if self._running:
            self._spurious_reset = True
            self._duty_centipercent, self._power_allowed = DUTY_X1, False
            self._line.write_urgent(mcu_codec.allow_power_on(False))
            self._line.write(mcu_codec.pwm_duty_cycle(DUTY_X1))
        self._forget_told()
        self._reset_confirmed = True
        for timer in (self._begin_again, self._next_keep_alive):
            if timer is not None:
                timer.cancel()
        for _ in range(_RESYNC_KEEP_ALIVES - 1):
            self._line.write(mcu_codec.keep_alive())
        self._keep_alive()
        if self._running and self._locked is not None:
            self._line.write(mcu_codec.connector_lock(self._locked))

    def _heard_keep_alive(self, message: McuKeepAlive) -> None:
        if not self._reset_confirmed:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(self._config.silence_ms / 1000, self._overdue)
        if message.max_current_a is not None:
            self._max_current_ma = min(self._config.max_current_ma, message.max_current_a * 1000)
        self._changed(self.capabilities)
        self._spurious_reset = False
        self._faults_changed()
        if self._running:
            return
        self._running = True
        if self._in_use:
            self._repeat_wanted()
            return
        self._in_use, self._lost_told = True, False
        self._tell(Back(f"MCU type {message.hardware_type}.{message.hardware_revision} {message.software}"))
        for state in list(self._known.values()):
            self._tell(state)

    def _faults_changed(self) -> None:
        faults = set(self._error_flags)
        if self._proximity_fault:
            faults.add(BoardFault.PROXIMITY)
        if self._spurious_reset:
            faults.add(BoardFault.SPURIOUS_RESET)
        self._changed(BoardFaults(frozenset(faults)))

    def _changed(self, state: _State) -> None:
        if self._known.get(type(state)) == state:
            return
        self._known[type(state)] = state
        if self._in_use:
            self._tell(state)

    def _tell(self, event: PilotEvent) -> None:
        assert self._on_event is not None
        self._on_event(event)
