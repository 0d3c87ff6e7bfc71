"""A simulated subordinate pilot microcontroller (Yeti family) on a pty.

Charter: behaves on the wire and towards the vehicle as the MCU does, including its own supervision:
power off and steady pilot when our keep-alives stop. Faults of wire and device come by name through
``faults``; faults of its parts (error flags, welded contactor, jammed lock) through methods.

``Fault.REFUSE``: resets are obeyed but never confirmed. ``STUCK``: the pilot reading is frozen.
``GARBAGE``: noise instead of a message. ``CORRUPT``: ``param`` may name the one field whose messages are
damaged. ``SILENT``: it neither hears nor speaks, but goes on supervising.

What it says by itself follows published firmware of the family (uMWC, TIDA-010939), not yet a trace of a Yeti: a state
is told once, when it changes, and never repeated; after a reset first the reset itself, then what differs from power-on
(no error, contactor open, no cable, lock undefined; the pilot is always told), then a keep-alive each second. Assumed
beyond that: the lock's position is told (that firmware has the message and never sends it).

Source: EVerest ``YetiDriver`` protocol and its simulator's behaviour, and that firmware.
Units: milliseconds, 0.01 % duty, ampere in the capabilities.
"""

from __future__ import annotations

import asyncio
import enum
import zlib
from collections.abc import Callable
from pathlib import Path

from hal.pilots import cobs, protobuf
from hal.ports import DUTY_X1, CpState, LockPosition
from hal.sim.faults import Fault, FaultSwitch
from hal.sim.pty import PtyLink
from hal.sim.vehicle_port import VehiclePort

_CP_CODE = {CpState.A: 0, CpState.B: 1, CpState.C: 2, CpState.D: 3, CpState.E: 4, CpState.F: 5}
_PP_CODE = {None: 0, 13_000: 1, 20_000: 2, 32_000: 3, 63_000: 4, 70_000: 4}
_LOCK_CODE = {LockPosition.UNKNOWN: 0, LockPosition.UNLOCKED: 1, LockPosition.LOCKED: 2}
_PP_FAULT = 5
_MAX_FRAME_BYTES = 2048
_AT_POWER_ON: dict[int, int | bytes] = {103: 0, 104: b"", 106: 0, 107: 0}  # by field number: not told after a reset


class McuError(enum.IntEnum):
    """The MCU's error flags, by field number."""

    DIODE = 1
    RCD_SELF_TEST = 2
    RCD_TRIGGERED = 3
    VENTILATION_NOT_AVAILABLE = 4
    CONNECTOR_LOCK = 5
    CP_SIGNAL = 6
    OVER_CURRENT = 7


class SimMcu:
    """One MCU. ``path`` is what the driver opens; ``vehicle`` is its outlet."""

    def __init__(
        self,
        link: Path | None = None,
        *,
        supervision_ms: int = 5_000,
        keep_alive_ms: int = 1_000,
        boot_ms: int = 20,
        lock_ms: int = 300,
        max_current_a: int = 32,
        baud: int | None = None,
    ) -> None:
        self.vehicle = VehiclePort()
        self.vehicle.on_vehicle_change = self._update
        self.faults = FaultSwitch(
            frozenset(
                {
                    Fault.DROP, Fault.DELAY, Fault.CORRUPT, Fault.SHORT, Fault.GARBAGE, Fault.DUPLICATE,
                    Fault.STUCK, Fault.REFUSE, Fault.SILENT, Fault.RESET, Fault.UNPLUG,
                }
            ),
            self._fault_changed,
        )  # fmt: skip
        self.power_allowed = False
        self.lock = LockPosition.UNLOCKED
        self.resets = 0
        self.keep_alives_heard = 0
        self.heard: list[tuple[int, int | bytes]] = []  # the last 1000 messages: (field number, value)
        self._link = PtyLink(link, baud=baud)
        self._supervision_s = supervision_ms / 1000
        self._keep_alive_s = keep_alive_ms / 1000
        self._boot_s = boot_ms / 1000
        self._lock_s = lock_ms / 1000
        self._max_current_a = max_current_a
        self._splitter = cobs.Splitter(_MAX_FRAME_BYTES)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._duty = DUTY_X1
        self._cp = CpState.A  # as measured; frozen while STUCK
        self._relay_closed = False
        self._welded = False
        self._jammed = False
        self._errors: set[McuError] = set()
        self._diode_missing = False
        self._booting = False
        self._told: dict[int, int | bytes] = {}

    @property
    def path(self) -> str:
        return self._link.path

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Power on. Call inside the loop's thread."""
        self._loop = loop
        self._link.start(loop, self._received)
        self._beat()

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._link.close()

    def set_error(self, error: McuError, present: bool) -> None:
        (self._errors.add if present else self._errors.discard)(error)
        self._update()

    def weld(self, welded: bool) -> None:
        """A welded contactor stays closed once it has closed."""
        self._welded = welded
        self._update()

    def jam_lock(self, jammed: bool) -> None:
        """A jammed lock reaches no position; the next movement shows it."""
        self._jammed = jammed

    # ---------------------------------------------------------------- behaviour

    def _update(self) -> None:
        """Derive relay, pilot and messages from what is commanded and what the vehicle does."""
        if not self.faults.is_on(Fault.STUCK):
            self._cp = CpState.F if self._duty == 0 else self.vehicle.cp
        pwm = 0 < self._duty < DUTY_X1
        if not self.vehicle.diode_fault or self._cp is CpState.A:
            self._diode_missing = False
        elif pwm:  # only a PWM's negative half shows a diode
            self._diode_missing = True
        may_close = self.power_allowed and pwm and not self._errors and not self._diode_missing
        close = may_close and self._cp in (CpState.C, CpState.D)
        self._relay_closed = close or (self._welded and self._relay_closed)
        self.vehicle.show(self._duty, self._relay_closed)
        self._tell_states()

    def _tell_states(self) -> None:
        rating = self.vehicle.cable_rating_ma
        errors = self._errors | ({McuError.DIODE} if self._diode_missing else set())
        flags = b"".join(protobuf.varint_field(error, 1) for error in sorted(errors))
        self._tell_if_new(104, flags)
        self._tell_if_new(102, _CP_CODE[self._cp])
        self._tell_if_new(103, int(self._relay_closed))
        self._tell_if_new(106, _PP_CODE.get(rating, _PP_FAULT))
        self._tell_if_new(107, _LOCK_CODE[self.lock])

    def _safe_state(self) -> None:
        self.power_allowed = False
        self._duty = DUTY_X1
        self._update()

    def _reboot(self, watchdog: bool) -> None:
        self.resets += 1
        self._booting = True
        for name in ("beat", "supervision", "lock"):
            self._cancel(name)
        self._safe_state()
        self._later("boot", self._boot_s, lambda: self._booted(watchdog))

    def _booted(self, watchdog: bool) -> None:
        self._booting = False
        self._told = dict(_AT_POWER_ON)
        if not self.faults.take(Fault.REFUSE):
            self._tell(101, int(watchdog))
        self._tell_states()
        self._beat()

    def _beat(self) -> None:
        software = b"sim-1.0"
        capabilities = protobuf.varint_field(2, 1) + protobuf.varint_field(3, 2) + protobuf.bytes_field(6, software)
        self._tell(3, capabilities + protobuf.varint_field(7, self._max_current_a))
        self._later("beat", self._keep_alive_s, self._beat)

    def _drive_lock(self, locked: bool) -> None:
        self.lock = LockPosition.UNKNOWN
        self._errors.discard(McuError.CONNECTOR_LOCK)
        self._update()

        def arrived() -> None:
            if self._jammed:
                self._errors.add(McuError.CONNECTOR_LOCK)
            else:
                self.lock = LockPosition.LOCKED if locked else LockPosition.UNLOCKED
            self._update()

        self._later("lock", self._lock_s, arrived)

    # ---------------------------------------------------------------- wire

    def _received(self, data: bytes) -> None:
        if self._booting or self.faults.is_on(Fault.SILENT):
            return
        for encoded in self._splitter.feed(data):
            try:
                message = cobs.decode(encoded)
                if len(message) < 4 or zlib.crc32(message) != 0xFFFFFFFF:
                    continue
                for number, value in protobuf.fields(message[:-4]):
                    self._obey(number, value)
            except (cobs.CobsError, protobuf.ProtobufError):
                continue  # the MCU drops what it cannot read

    def _obey(self, number: int, value: int | bytes) -> None:
        self.heard = [*self.heard[-999:], (number, value)]
        if number == 100:
            self.keep_alives_heard += 1
            self._later("supervision", self._supervision_s, self._safe_state)
        elif number == 102:
            self._drive_lock(bool(value))
        elif number == 103 and isinstance(value, int):
            self._duty = min(value, DUTY_X1)
            self._update()
        elif number == 104:
            self.power_allowed = bool(value)
            self._update()
        elif number == 105:
            self._reboot(watchdog=False)

    def _tell_if_new(self, number: int, value: int | bytes) -> None:
        if self._told.get(number) != value:
            self._told[number] = value
            self._tell(number, value)

    def _tell(self, number: int, value: int | bytes) -> None:
        if self._loop is None or self._booting or self.faults.is_on(Fault.SILENT) or self.faults.take(Fault.DROP):
            return
        field = (
            protobuf.bytes_field(number, value) if isinstance(value, bytes) else protobuf.varint_field(number, value)
        )
        body = cobs.encode(field + (zlib.crc32(field) ^ 0xFFFFFFFF).to_bytes(4, "little"))
        if self.faults.param(Fault.CORRUPT, number) == number and self.faults.take(Fault.CORRUPT):
            body = body[:-1] + bytes([body[-1] ^ 0x55 or 0x01])
        if self.faults.take(Fault.SHORT):
            body = body[: len(body) // 2]
        if self.faults.take(Fault.GARBAGE):
            body = bytes(range(200, 200 + len(body)))[:50]
        wire = body + b"\x00"
        if self.faults.take(Fault.DUPLICATE):
            wire *= 2
        delay_ms = self.faults.param(Fault.DELAY, 100)
        if self.faults.take(Fault.DELAY):
            self._loop.call_later(delay_ms / 1000, self._link.write, wire)
        else:
            self._link.write(wire)

    def _fault_changed(self, fault: Fault, on: bool) -> None:
        if fault is Fault.UNPLUG:
            (self._link.unplug if on else self._link.replug)()
        elif fault is Fault.RESET and on:
            self.faults.clear(Fault.RESET)
            self._reboot(watchdog=True)
        elif fault is Fault.STUCK and not on:
            self._update()

    def _later(self, name: str, delay_s: float, what: Callable[[], None]) -> None:
        self._cancel(name)
        assert self._loop is not None
        self._timers[name] = self._loop.call_later(delay_s, what)

    def _cancel(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
