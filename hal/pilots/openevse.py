"""Driver of the OpenEVSE board over RAPI: an autonomous pilot.

Charter: bytes on the line <-> ``hal.ports.AutonomousPilot``. The board runs IEC 61851 and its contactor;
we give it amps and let it charge or not.

Rules:

* Nothing that nobody asked for: until the first command the wanted state is *stopped*.
* The wanted state is repeated until ``$GS`` (and for amps ``$GC`` or ``$AT``) confirms it, and again
  after every loss. A state-changing command is tried once per round and then decided anew, so that a
  retry can never undo a newer stop.
* ``stop`` and ``disable`` leave in the call itself, also while a command is in flight, and also while
  the board counts as lost but its port is open. ``$AT`` and ``$AB`` are acted on in the same callback, also
  while the board counts as lost: one that boots then closes its contactor half a second later.
* Heartbeat: ``$SY 5 6`` is stored in the board's EEPROM, so it is written only where ``$GY`` says
  otherwise. Then one pulse per round. Its reply names what is set: where that differs (our command got lost),
  ``$GY`` is asked again. NK means that a beat was missed and the board limits itself: it is acknowledged and
  the current is set again. A board without heartbeat, or that does not keep what is set, is refused.
* ``$AB`` nobody asked for: the board forgot what it was told and would charge on its own.
  ``SPURIOUS_RESET`` is raised, the wanted state brought about again at once, and the fault is
  withdrawn when the board confirms that state. ``$AB`` while the board counts as lost is its return.
* After a boot the board may be locked (``openevse_rules``); it is unlocked on the way to the wanted state.
* A delay timer stored in the board lets it charge, and sleep, by its own clock: it is switched off, and a board
  that keeps it on, or has it switched on again and again within a day, is refused.
* A board whose stuck-relay check is switched off vouches for nothing; what it tells of its contactor is then what it
  commands, and a weld is found by the meter alone. ``Back`` names the checks that are off.
* A read is tried three times, each with a new sequence id, before the board counts as lost:
  SILENT, GARBAGE (damage came meanwhile, or replies that make no sense), REFUSED ($NK), GONE (port).
  What it found before, and what it says meanwhile, keeps its meaning: ``stop`` may put it to sleep, where it only
  tells that there was a fault.

Sources: OpenEVSE firmware 8.2.3 ``rapi_proc.h``, ESP32 companion firmware (poll and heartbeat figures).
Units: milliseconds, milliampere; ampere where the board has them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from hal.bus_counters import BusCounters
from hal.pilots import openevse_rules as rules
from hal.pilots.openevse_rules import Mode, Status, Wanted
from hal.pilots.rapi_codec import Boot, Notice, StateChange
from hal.pilots.rapi_exchange import RapiExchange
from hal.pilots.serial_line import SerialLine
from hal.ports import (
    Back,
    BadReply,
    BoardFault,
    BoardFaults,
    Contactor,
    DeviceError,
    DeviceRefused,
    DeviceTimeout,
    LossKind,
    Lost,
    PilotCapabilities,
    PilotEvent,
    PilotState,
)

HEARTBEAT_S, FALLBACK_A = 5, 6
_HEARTBEAT = (str(HEARTBEAT_S), str(FALLBACK_A))
_HEARTBEAT_WRITES = 10  # in a row, none of which a beat has confirmed; an EEPROM wears
_TRIES = 3
_ROUNDS_PER_GC = 5
_OWN_RESET_EVERY_S = 60.0
_DAY_S = 86_400.0
_BOARD_MINIMUM_A = 6
_LIMIT_ACTIVE = 2  # third field of $SY and $GY
_State = PilotCapabilities | BoardFaults | PilotState | Contactor


@dataclass(frozen=True, slots=True)
class OpenEvseConfig:
    """Where the board is and how long things may take."""

    path: str
    baud: int = 115_200
    max_current_ma: int = 32_000
    poll_ms: int = 1_000
    reply_timeout_ms: int = 500
    boot_ms: int = 10_000
    close_ms: int = 4_500  # the board lets go after 3 s at the latest, and a poll must see it


class OpenEvsePilot:
    """One board on one serial port; implements ``AutonomousPilot``."""

    def __init__(self, config: OpenEvseConfig) -> None:
        self._config = config
        self._line = SerialLine(
            config.path, baud=config.baud, on_open=self._port_open, on_bytes=self._received, on_lost=self._port_lost
        )
        self._exchange = RapiExchange(self._line, self._notified, config.reply_timeout_ms)
        self._on_event: Callable[[PilotEvent], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._booted = asyncio.Event()
        self._wanted_ma: int | None = None  # None: stop or disable
        self._wanted_off = Mode.STOP
        self._status = Status()
        self._faults: frozenset[BoardFault] = frozenset()
        self._spurious_reset = False
        self._reset_asked = False
        self._rebooting = False  # between our $FR and its $AB
        self._in_use = False  # between Back and Lost
        self._lost_told = False
        self._known: dict[type[_State], _State] = {}
        self._max_a = config.max_current_ma // 1000
        self._checks_relay = True
        self._temperatures: dict[str, int] = {}
        self._round = 0
        self._next_reset_s = 0.0
        self._heartbeat_writes = 0
        self._timer_writes = 0
        self._timer_day_ends_s = 0.0  # a day after the first of these

    # ---------------------------------------------------------------- AutonomousPilot

    @property
    def capabilities(self) -> PilotCapabilities:
        return PilotCapabilities(
            autonomous=True,
            has_lock=False,  # that of the Mennekes build runs by itself
            has_contactor_feedback=self._checks_relay,
            can_signal_digital=False,
            max_current_ma=self._max_a * 1000,
            supervision_ms=HEARTBEAT_S * 1000,
        )

    @property
    def counters(self) -> BusCounters:
        return self._exchange.counters

    def temperatures(self) -> dict[str, int]:
        return self._temperatures

    def start(self, on_event: Callable[[PilotEvent], None]) -> None:
        self._on_event = on_event
        self._line.start()

    async def close(self) -> None:
        """Stop, give the vehicle ``close_ms`` to let go, then disable if the board is not known to have stopped, or has
        a fault: that one may clear when nobody is there to keep the board off."""
        self.stop()
        for _ in range(self._config.close_ms // 10):
            if not self._in_use or self._has_stopped():
                break
            await asyncio.sleep(0.01)
        if rules.is_fault(self._status.state) or not self._has_stopped():
            self._exchange.send_urgent("FD")
        self._end_task()
        await self._line.close()

    def _has_stopped(self) -> bool:
        confirmed = rules.next_command(self._wanted, self._status) is None
        return confirmed and not rules.contactor_closed(self._status)

    def offer(self, current_ma: int) -> None:
        """Below the board's minimum of 6 A there is nothing to offer: the same as ``stop``."""
        if current_ma < _BOARD_MINIMUM_A * 1000:
            self.stop()
            return
        self._wanted_ma = current_ma
        self._wake.set()

    def stop(self) -> None:
        self._turn_off(Mode.STOP)

    def disable(self) -> None:
        self._turn_off(Mode.DISABLE)

    def reset(self) -> None:
        if self._in_use:
            self._reset_asked = True
            self._wake.set()

    def _turn_off(self, mode: Mode) -> None:
        self._wanted_ma = None
        self._wanted_off = mode
        # Also where the board sleeps by what we last heard: an enable may be under way.
        if mode is Mode.STOP and not rules.is_fault(self._status.state):
            self._exchange.send_urgent("FS")
        elif mode is Mode.DISABLE and not rules.held_open(self._status):
            self._exchange.send_urgent("FD")
        self._wake.set()

    @property
    def _wanted(self) -> Wanted:
        if self._wanted_ma is None:
            return Wanted(self._wanted_off)
        return Wanted(Mode.OFFER, min(self._wanted_ma // 1000, self._max_a))

    # ---------------------------------------------------------------- rounds

    async def _serve(self) -> None:
        while True:
            self._wake.clear()
            damage = self._exchange.damage
            try:
                if self._reset_asked:
                    await self._reboot()
                elif not self._in_use:
                    await self._probe()
                await self._do_round()
            except DeviceTimeout as error:
                self._lose(LossKind.GARBAGE if self._exchange.damage > damage else LossKind.SILENT, str(error))
            except DeviceRefused as error:
                self._lose(LossKind.REFUSED, str(error))
            except BadReply as error:
                self._lose(LossKind.GARBAGE, str(error))
            await self._pause()

    async def _pause(self) -> None:
        """Until the next round is due, or something wants it now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.poll_ms / 1000):
                await self._wake.wait()

    async def _probe(self) -> None:
        """Learn the board, set its heartbeat, tell ``Back`` and then every state."""
        await self._read_state()
        if (urgent := rules.urgent_command(self._wanted, self._status)) is not None:
            self._exchange.send_urgent(urgent)  # a board left alone charges: stop it before all else
        await self._end_timer()
        firmware, *_ = await self._read("GV", 1)
        _, flags, *_ = await self._read("GE", 2)
        settings = self._number("GE", flags, 16)
        await self._read_limits()
        await self._set_up_heartbeat()
        await self._read_state()
        self._checks_relay = not settings & rules.FLAG_NO_STUCK_RELAY_CHECK
        off = rules.checks_off(settings)
        detail = f"OpenEVSE {firmware}" + (f"; checks switched off: {', '.join(off)}" if off else "")
        self._in_use, self._lost_told = True, False
        self._known.clear()
        self._tell(Back(detail))
        self._changed(self.capabilities)
        self._status_changed()

    async def _do_round(self) -> None:
        await self._beat()
        await self._read_state()
        await self._end_timer()
        self._round += 1
        if self._round % _ROUNDS_PER_GC == 0:
            await self._read_limits()
            await self._read_temperatures()
        if rules.needs_reset(self._status) and self._may_reset():
            await self._reboot()
            await self._read_state()
        tried: set[str] = set()
        while (command := rules.next_command(self._wanted, self._status, frozenset(tried))) is not None:
            tried.add(command)
            await self._try_once(command)
            await self._read_state()
        if self._spurious_reset and rules.next_command(self._wanted, self._status) is None:
            self._spurious_reset = False
            self._status_changed()

    def _may_reset(self) -> bool:
        """At once after each vehicle; a board that has its fault again without one is not reset all the time."""
        now_s = asyncio.get_running_loop().time()
        may = now_s >= self._next_reset_s
        if may:
            self._next_reset_s = now_s + _OWN_RESET_EVERY_S
        return may

    async def _reboot(self) -> None:
        """Reset the board, wait for its boot message, learn it again; no loss is told."""
        self._booted.clear()
        self._reset_asked, self._rebooting = False, True
        try:
            await self._try_once("FR")
            async with asyncio.timeout(self._config.boot_ms / 1000):
                await self._booted.wait()
        except TimeoutError:
            raise DeviceTimeout(self._config.path, f"no boot message in {self._config.boot_ms} ms") from None
        finally:
            self._rebooting = False
        self._faults = frozenset()
        self._status = replace(self._status, current_a=None)
        await self._set_up_heartbeat()
        await self._read_limits()

    async def _beat(self) -> None:
        """One heartbeat, set up again where it is not as we want it; where one was missed, acknowledge and have the
        current set again."""
        interval, fallback, trigger, *_ = await self._read("SY", 3, no_is_an_answer=True)
        if (interval, fallback) == _HEARTBEAT:
            self._heartbeat_writes = 0
        else:
            await self._set_up_heartbeat()
        if self._number("SY", trigger, 10) == _LIMIT_ACTIVE:
            await self._try_once("SY 165")
            self._status = replace(self._status, current_a=None)

    async def _set_up_heartbeat(self) -> None:
        interval, fallback, *_ = await self._read("GY", 3)
        if (interval, fallback) == _HEARTBEAT:
            return
        if self._heartbeat_writes == _HEARTBEAT_WRITES:
            detail = f"GY: heartbeat {interval} s, {fallback} A, {_HEARTBEAT_WRITES} times set otherwise"
            raise DeviceRefused(self._config.path, detail)
        self._heartbeat_writes += 1
        await self._try_once(f"SY {HEARTBEAT_S} {FALLBACK_A}")

    async def _end_timer(self) -> None:
        while rules.has_timer(self._status):
            now_s = asyncio.get_running_loop().time()
            if now_s >= self._timer_day_ends_s:  # somebody at its menu, some time, is no board that keeps it on
                self._timer_writes, self._timer_day_ends_s = 0, now_s + _DAY_S
            if self._timer_writes == _TRIES:  # its EEPROM wears
                detail = "its delay timer, which starts and stops charging, stays on: switch it off in the board's menu"
                raise DeviceRefused(self._config.path, detail)
            await self._read("ST 0 0 0 0", 0, no_is_an_answer=True)  # what was lost on the line is not held against it
            self._timer_writes += 1
            await self._read_state()

    # ---------------------------------------------------------------- single commands

    async def _try_once(self, command: str) -> None:
        """A command that changes the board. Whether it worked shows in the state, which is read next."""
        try:
            reply = await self._exchange.ask(command)
        except DeviceTimeout:
            return  # if the board is silent, the read that follows says so
        if command.startswith("SC ") and reply.fields:
            # OK or NK, the field is the value now in force.
            self._status = replace(self._status, current_a=self._number(command, reply.fields[0], 10))

    async def _read(self, command: str, fields: int, *, no_is_an_answer: bool = False) -> tuple[str, ...]:
        """At least ``fields`` fields of the reply; three tries. Raises ``DeviceError``: silent, refused, too short."""
        error: DeviceError | None = None
        for _ in range(_TRIES):
            try:
                reply = await self._exchange.ask(command)
            except DeviceTimeout as timeout:
                error = timeout
                continue
            enough = len(reply.fields) >= fields
            if enough and (reply.ok or no_is_an_answer):
                return reply.fields
            if not reply.ok:
                error = DeviceRefused(self._config.path, f"{command}: NK {' '.join(reply.fields)}")
            else:
                error = BadReply(self._config.path, f"{command}: {len(reply.fields)} fields, not {fields}")
        assert error is not None
        raise error

    async def _read_state(self) -> None:
        state, _, pilot, vflags, *_ = await self._read("GS", 4)
        self._status = replace(
            self._status,
            state=self._number("GS", state, 16),
            pilot=self._number("GS", pilot, 16),
            vflags=self._number("GS", vflags, 16),
        )
        self._status_changed()

    async def _read_limits(self) -> None:
        _, hardware, now, configured, *_ = await self._read("GC", 4)
        maximum = min(self._number("GC", hardware, 10), self._number("GC", configured, 10))
        self._max_a = min(maximum, self._config.max_current_ma // 1000)
        self._status = replace(self._status, current_a=self._number("GC", now, 10))
        if self._in_use:
            self._changed(self.capabilities)

    async def _read_temperatures(self) -> None:
        """Nothing depends on them: a board that does not tell them is as good as another."""
        self._temperatures = {}
        with contextlib.suppress(DeviceTimeout):
            reply = await self._exchange.ask("GP")
            self._temperatures = rules.temperatures(reply.fields if reply.ok else ())

    def _number(self, command: str, text: str, base: int) -> int:
        try:
            return int(text, base)
        except ValueError:
            raise BadReply(self._config.path, f"{command}: {text!r} is not a number") from None

    # ---------------------------------------------------------------- news from the board

    def _received(self, data: bytes) -> None:
        self._exchange.received(data)

    def _notified(self, notice: StateChange | Boot | Notice) -> None:
        match notice:
            case StateChange(state, pilot, current_a, vflags):
                self._status = Status(state, pilot, vflags, current_a)
                self._status_changed()
            case Boot(state):
                self._has_booted(state)
            case Notice():
                return  # buttons and Wi-Fi requests are not ours
        if self._rebooting:
            return
        if (urgent := rules.urgent_command(self._wanted, self._status)) is not None:
            self._exchange.send_urgent(urgent)
        if not self._in_use or rules.next_command(self._wanted, self._status) is not None:
            self._wake.set()

    def _has_booted(self, state: int) -> None:
        """``state`` is UNKNOWN, or what the board's tests found."""
        self._booted.set()
        if not self._rebooting:
            self._spurious_reset = self._in_use
            self._status = replace(self._status, state=state, current_a=None)
            self._status_changed()

    def _status_changed(self) -> None:
        self._faults = rules.faults(self._status, self._faults)
        if not self._in_use:
            return
        if rules.vehicle_connected(self._status) and not rules.boot_locked(self._status):
            self._next_reset_s = 0.0
        spurious = frozenset({BoardFault.SPURIOUS_RESET}) if self._spurious_reset else frozenset()
        self._changed(BoardFaults(self._faults | spurious))
        self._changed(Contactor(rules.contactor_closed(self._status)))
        if (cp := rules.cp_state(self._status)) is not None:
            self._changed(PilotState(cp))

    def _changed(self, state: _State) -> None:
        if self._known.get(type(state)) != state:
            self._known[type(state)] = state
            self._tell(state)

    # ---------------------------------------------------------------- port and loss

    def _port_open(self) -> None:
        self._heartbeat_writes = self._timer_writes = 0  # it may be another board
        self._timer_day_ends_s = 0.0
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._task.add_done_callback(_surface)

    def _port_lost(self, detail: str) -> None:
        self._end_task()
        self.counters.failed(LossKind.GONE)
        self._lose(LossKind.GONE, detail)

    def _end_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _lose(self, kind: LossKind, detail: str) -> None:
        self._in_use = False
        self._status = Status()
        self._temperatures = {}
        self._spurious_reset = self._reset_asked = self._rebooting = False
        if not self._lost_told:
            self._lost_told = True
            self._tell(Lost(kind, f"{self._config.path}: {detail}"))

    def _tell(self, event: PilotEvent) -> None:
        assert self._on_event is not None
        self._on_event(event)


def _surface(task: asyncio.Task[None]) -> None:
    """An error in the driver itself must reach the loop's exception handler, not vanish with the task."""
    if not task.cancelled():
        task.result()
