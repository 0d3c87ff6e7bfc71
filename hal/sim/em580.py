"""A simulated Carlo Gavazzi EM580: a Modbus slave that measures, and signs a record by itself.

Charter: the device's registers and the life of its one record, on a ``SimMeterLine``. The record's text is
made in ``em580_record``. Written from the register document, and sharing no code with the driver.

Where the document is silent, a choice was made that a trace must confirm: an aborted record leaves nothing
behind (``abort_keeps`` True: an ordinary record), a corrupted one is cleared by the write that confirms a
good one, a power cut ends the record ("P"), and the clock takes no time while the device boots.

Faults: those of ``SimMeter``, and CLOCK_LOST, RECORD_CORRUPTED, RECORD_NEVER_READY, RECORD_SIZE (``param``
registers, default 7), RECORD_SILENT (``param`` registers into the file, default 125), RESET (a power cut).

Units: as in ``hal.sim.meter``; registers are Wh, 0.1 W, 0.1 V, mA, 0.1 Hz.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec

from hal.sim.em580_record import FLAGS, LEVELS, TYPES, Described, SimReading, SimSigner
from hal.sim.faults import Fault
from hal.sim.meter import SUPPORTED, MeterValues, SimSlave

EM580_SUPPORTED = SUPPORTED | {
    Fault.CLOCK_LOST,
    Fault.RECORD_CORRUPTED,
    Fault.RECORD_NEVER_READY,
    Fault.RECORD_SIZE,
    Fault.RECORD_SILENT,
    Fault.RESET,
}

NOT_READY, RUNNING, READY, CORRUPTED = range(4)

_WRITABLE = {  # first register -> how many
    0x6900: 126,  # tariff text
    0x7000: 1,
    0x7001: 1,
    0x7002: 4,
    0x7006: 1,
    0x7007: 20,
    0x701B: 1,
    0x701C: 20,
    0x7031: 1,
    0x7032: 4,
    0x7036: 1,
    0x7040: 1,
    0x7100: 1,
}
_TARIFF, _CONTROL, _CONTROL_COUNT, _STATE, _FILE, _FILE_COUNT = 0x6900, 0x7000, 0x61, 0x7100, 0x7110, 2_031
_COMMAND, _ZONE, _UTC, _SYNC = 0x7040, 0x7031, 0x7032, 0x7060
_KEY_DER = 0x2600
_NO_FUNCTION, _NO_ADDRESS, _BAD_VALUE, _DEVICE_FAILURE = 1, 2, 3, 4


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class SimEm580(SimSlave):
    """One device. ``key``: P-256 or brainpoolP384r1; made anew where none is given."""

    def __init__(
        self,
        unit_id: int = 1,
        *,
        serial_number: str = "BY0520010020L",
        key: ec.EllipticCurvePrivateKey | None = None,
        now_ms: Callable[[], int] = _monotonic_ms,
        follow_ms: int = 5,
        sign_ms: int = 50,
        boot_ms: int = 100,
        abort_keeps: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(unit_id, EM580_SUPPORTED, seed)
        self.values = MeterValues()
        self.serial_number = serial_number
        self.signer = SimSigner(serial_number, key or ec.generate_private_key(ec.BrainpoolP384R1()))
        self.state = NOT_READY
        self.file = b""
        self.has_key = True
        self._frozen: MeterValues | None = None
        self._now_ms = now_ms
        self._follow_ms, self._sign_ms, self._boot_ms, self._abort_keeps = follow_ms, sign_ms, boot_ms, abort_keeps
        self._memory: dict[int, int] = {}
        self._begun: SimReading | None = None
        self._next: tuple[int, int] | None = None  # the state to come, and when
        self._utc_offset_ms: int | None = None  # UTC minus ``now_ms``; None: clock not set
        self._booted_at_ms = 0

    def register_mwh(self) -> int:
        """What the import register tells now, in mWh."""
        return self._wh(self._shown().energy_import_mwh) * 1_000

    def power_cut(self) -> None:
        """Off and on again: a running record is ended, the clock is lost and takes no time for a while."""
        if self.state == RUNNING:
            self._make_file("P")
            self.state = READY
        self._next = None
        self._utc_offset_ms = None
        self._booted_at_ms = self._now_ms() + self._boot_ms

    # ------------------------------------------------------------------------------------ the wire

    def _answer(self, request: bytes) -> bytes | None:
        self._advance()
        function, address, count = request[1], int.from_bytes(request[2:4]), int.from_bytes(request[4:6])
        code = self.faults.param(Fault.REFUSE, _DEVICE_FAILURE)
        if self.faults.take(Fault.REFUSE):
            return bytes((self.unit_id, function | 0x80, code))
        if function == 4:
            return self._read(address, count)
        if function == 16:
            words = [int.from_bytes(request[at : at + 2]) for at in range(7, len(request) - 2, 2)]
            code = self._write(address, words) if len(words) == count <= 123 else _BAD_VALUE
            return bytes((self.unit_id, 0x90, code)) if code else request[:6]
        return bytes((self.unit_id, function | 0x80, _NO_FUNCTION))

    def _read(self, address: int, count: int) -> bytes | None:
        silent_from = self.faults.param(Fault.RECORD_SILENT, 125)
        if _FILE + silent_from < address + count <= _FILE + _FILE_COUNT and self.faults.take(Fault.RECORD_SILENT):
            return None
        if not 1 <= count <= 125:
            return bytes((self.unit_id, 0x84, _BAD_VALUE))
        block = next((b for b in self._blocks() if b[0] <= address and address + count <= b[0] + len(b[1])), None)
        if block is None or (block[0] == _KEY_DER and count != len(block[1])):  # the key: whole or not at all
            return bytes((self.unit_id, 0x84, _NO_ADDRESS))
        words = block[1][address - block[0] :][:count]
        if self.faults.take(Fault.SHORT):
            words = words[:-2]
        return bytes((self.unit_id, 4, 2 * len(words))) + b"".join(word.to_bytes(2) for word in words)

    def _blocks(self) -> list[tuple[int, list[int]]]:
        """All that can be read: first register and words."""
        size = self.faults.param(Fault.RECORD_SIZE, 7)
        if not self.faults.is_on(Fault.RECORD_SIZE):
            size = (len(self.file) + 1) // 2
        control = [self._memory.get(_CONTROL + at, 0) for at in range(_CONTROL_COUNT)]
        control[_SYNC - _CONTROL] = int(self._utc_offset_ms is not None)
        return [
            (0x0000, self._live()),
            (0x0500, self._energy()),
            (0x24FF, [self.signer.type if self.has_key else 2]),
            (0x2500, _words(self.signer.key_raw + b"\0")),
            (_KEY_DER, _words(self.signer.key_der)),
            (0x5000, [*_words(self.serial_number.encode("ascii"), 7), 2_026]),
            (_TARIFF, [self._memory.get(_TARIFF + at, 0) for at in range(126)]),
            (_CONTROL, control),
            (_STATE, [self.state, size if self.state in (READY, CORRUPTED) else 0]),
            (_FILE, _words(self.file, _FILE_COUNT)),
        ]

    # ------------------------------------------------------------------------------ what it measures

    def _shown(self) -> MeterValues:
        return self.values if self._frozen is None else self._frozen

    def _freeze(self, on: bool) -> None:
        self._frozen = dataclasses.replace(self.values) if on else None

    @staticmethod
    def _wh(energy_mwh: int | None) -> int:
        return (energy_mwh or 0) // 1_000

    def _live(self) -> list[int]:
        shown, words = self._shown(), [0] * 80
        for phase in range(3):
            words[2 * phase : 2 * phase + 2] = _low_first((shown.voltage_mv[phase] or 0) // 100, 2)
            words[12 + 2 * phase : 14 + 2 * phase] = _low_first(shown.current_ma[phase] or 0, 2)
        words[0x28:0x2A] = _low_first((shown.power_mw or 0) // 100, 2)
        words[0x32], words[0x33] = 1, (shown.frequency_mhz or 0) // 100
        return words

    def _energy(self) -> list[int]:
        words = [0] * 32
        words[0:4] = _low_first(self._wh(self._shown().energy_import_mwh), 4)
        words[28:32] = _low_first(self._wh(self._shown().energy_export_mwh), 4)
        return words

    # -------------------------------------------------------------------------------- what it signs

    def _write(self, address: int, words: list[int]) -> int:
        """Take the words; the exception code, 0 for none."""
        first = next((f for f, n in _WRITABLE.items() if f <= address and address + len(words) <= f + n), None)
        if first is None:
            return _NO_ADDRESS
        if first in (_ZONE, _UTC) and self._now_ms() < self._booted_at_ms:
            return _DEVICE_FAILURE
        if first == _COMMAND:
            return self._command(words[0])
        if first == _STATE:
            return self._confirm(words[0])
        self._memory |= {address + at: word for at, word in enumerate(words)}
        if first == _UTC and not self.faults.is_on(Fault.CLOCK_LOST):
            seconds = sum(word << 16 * at for at, word in enumerate(words))
            self._utc_offset_ms = seconds * 1_000 - self._now_ms()
        return 0

    def _command(self, command: int) -> int:
        wanted = {ord("B"): NOT_READY, ord("E"): RUNNING, ord("A"): RUNNING}.get(command)
        if wanted is None or self.state != wanted or self._next is not None:
            return _BAD_VALUE
        if command == ord("B"):
            self._begun = self._reading("B")
            self._after(self._follow_ms, RUNNING)
        elif command == ord("A") and not self._abort_keeps:
            self._after(self._follow_ms, NOT_READY)
        elif not self.faults.take(Fault.RECORD_NEVER_READY):
            self._make_file("A" if command == ord("A") else "E")
            self._after(self._sign_ms, CORRUPTED if self.faults.take(Fault.RECORD_CORRUPTED) else READY)
        return 0

    def _confirm(self, value: int) -> int:
        if value != NOT_READY or self.state not in (READY, CORRUPTED):
            return _BAD_VALUE
        self.file = b""
        self._after(self._follow_ms, NOT_READY)
        return 0

    def _after(self, passed_ms: int, state: int) -> None:
        self._next = self._now_ms() + passed_ms, state

    def _advance(self) -> None:
        if self._next is not None and self._now_ms() >= self._next[0]:
            self.state, self._next = self._next[1], None

    def _make_file(self, kind: str) -> None:
        assert self._begun is not None, "a record runs"
        self.file = self.signer.record(self._described(), (self._begun, self._reading(kind)))

    def _reading(self, kind: str) -> SimReading:
        utc_ms = None if self._utc_offset_ms is None else self._utc_offset_ms + self._now_ms()
        zone = self._memory.get(_ZONE, 0)
        return SimReading(
            kind, self._wh(self._shown().energy_import_mwh), utc_ms, zone - (0x1_0000 if zone & 0x8000 else 0)
        )

    def _described(self) -> Described:
        flags = tuple(self._memory.get(0x7002 + at, 0) for at in range(len(FLAGS)))
        level, kind = self._memory.get(0x7001, 0), self._memory.get(0x7006, 0)
        assert level < len(LEVELS), "the driver wrote an unknown level"
        assert kind in TYPES, "the driver wrote an unknown type"
        return Described(
            assigned=self._memory.get(0x7000, 0),
            level=level,
            flags=flags,
            type=kind,
            data=self._text(0x7007, 20),
            tariff=self._text(_TARIFF, 126),
            point_type=self._memory.get(0x701B, 0),
            point=self._text(0x701C, 20),
        )

    def _text(self, first: int, count: int) -> str:
        """A text register, up to its zero; a whole field without one is a text, too."""
        data = b"".join(self._memory.get(first + at, 0).to_bytes(2) for at in range(count))
        return data.partition(b"\0")[0].decode("ascii")

    def _fault_changed(self, fault: Fault, on: bool) -> None:
        super()._fault_changed(fault, on)
        if fault is Fault.RESET and on:
            self.power_cut()


def _low_first(value: int, words: int) -> list[int]:
    return [value >> 16 * at & 0xFFFF for at in range(words)]


def _words(data: bytes, count: int = 0) -> list[int]:
    """Two bytes per register, high byte first; filled with zeros up to ``count``."""
    data += b"\0" * max(len(data) % 2, 2 * count - len(data))
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]
