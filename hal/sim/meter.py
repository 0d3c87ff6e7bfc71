"""Simulated Modbus energy meters: RTU slaves that answer, byte for byte, on a pty.

Charter: what a real meter on a real RS-485 line does, and every way it can fail that a driver must
survive. ``SimSlave`` turns a request frame into reply frames, spoils them as its faults say, and knows
no I/O; ``SimMeter`` is one that answers by a register map. ``SimMeterLine`` is the line: it takes requests
off a ``PtyLink``, lets every meter hear each, and sends replies with the line's pace and the meter's
turnaround. No pymodbus here: the other side is what is being tested.

The world sets ``meter.values``; the registers hold what the meter's types can: a float32 register in
kWh tells ``register_mwh()``, not the exact milliwatt-hours it was given.

Faults: DROP, DELAY (``param`` ms, default 1000), CORRUPT, SHORT (well-formed, one value missing), GARBAGE
(``param`` noise bytes instead of the reply, default 20), DUPLICATE, STUCK, WRONG_UNIT, REFUSE (``param``
exception code, default 4), SILENT, UNPLUG (the whole line's adapter).

Units: milliwatt-hour, milliwatt, millivolt, milliampere, millihertz, millisecond.
Source: Modbus Application Protocol V1.1b3 sections 6.3, 6.4, 7; Modbus over Serial Line V1.02 section 2.5.
"""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

from hal.meters.map_file import load_map
from hal.meters.registers import Quantity, Register
from hal.sim.faults import Fault, FaultSwitch
from hal.sim.pty import PtyLink

SUPPORTED = frozenset(
    {
        Fault.DROP,
        Fault.DELAY,
        Fault.CORRUPT,
        Fault.SHORT,
        Fault.GARBAGE,
        Fault.DUPLICATE,
        Fault.STUCK,
        Fault.WRONG_UNIT,
        Fault.REFUSE,
        Fault.SILENT,
        Fault.UNPLUG,
    }
)

_REQUEST_BYTES = 8  # of functions 3 and 4, and of all others but function 16
_WRITE = 16  # function: its request tells its own length
_NO_FUNCTION, _NO_ADDRESS, _BAD_COUNT, _DEVICE_FAILURE = 1, 2, 3, 4


def with_crc(frame: bytes) -> bytes:
    """The frame followed by its CRC-16 (polynomial A001, low byte first)."""
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xA001 if crc & 1 else 0)
    return frame + crc.to_bytes(2, "little")


@dataclass
class MeterValues:
    """What the meter measures now. None: the meter says "not available"."""

    energy_import_mwh: int | None = 0
    energy_export_mwh: int | None = 0
    power_mw: int | None = 0
    voltage_mv: tuple[int | None, int | None, int | None] = (230_000, 230_000, 230_000)
    current_ma: tuple[int | None, int | None, int | None] = (0, 0, 0)
    frequency_mhz: int | None = 50_000

    def of(self, quantity: Quantity) -> int | None:
        table = {
            Quantity.ENERGY_IMPORT: self.energy_import_mwh,
            Quantity.ENERGY_EXPORT: self.energy_export_mwh,
            Quantity.POWER: self.power_mw,
            Quantity.VOLTAGE_L1: self.voltage_mv[0],
            Quantity.VOLTAGE_L2: self.voltage_mv[1],
            Quantity.VOLTAGE_L3: self.voltage_mv[2],
            Quantity.CURRENT_L1: self.current_ma[0],
            Quantity.CURRENT_L2: self.current_ma[1],
            Quantity.CURRENT_L3: self.current_ma[2],
            Quantity.FREQUENCY: self.frequency_mhz,
        }
        return table[quantity]


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes for the line, and how late on top of the ordinary turnaround."""

    data: bytes
    late_ms: int = 0


class SimSlave(abc.ABC):
    """One device on the line: what is common to all, whatever registers it has."""

    def __init__(self, unit_id: int, supported: frozenset[Fault], seed: int) -> None:
        self.unit_id = unit_id
        self.faults = FaultSwitch(supported, self._fault_changed)
        self.requests = 0  # heard and meant for this device
        self.line: SimMeterLine | None = None
        self._random = random.Random(seed)

    @abc.abstractmethod
    def _answer(self, request: bytes) -> bytes | None:
        """The reply without its CRC; None: there is none."""

    @abc.abstractmethod
    def _freeze(self, on: bool) -> None:
        """From now on the shown values stay as they are, or follow the world again."""

    def hear(self, request: bytes) -> list[Reply]:
        """What goes onto the line after ``request``, a whole frame with a good CRC."""
        if request[0] != self.unit_id or self.faults.take(Fault.SILENT):
            return []
        self.requests += 1
        if self.faults.take(Fault.DROP):
            return []
        late_ms = self.faults.param(Fault.DELAY, 1_000)
        if not self.faults.take(Fault.DELAY):
            late_ms = 0
        answer = self._answer(request)
        if answer is None:
            return []
        reply = Reply(self._spoil(answer), late_ms)
        return [reply, reply] if self.faults.take(Fault.DUPLICATE) else [reply]

    def _spoil(self, reply: bytes) -> bytes:
        """Add the CRC, and what the faults do to the finished frame."""
        if self.faults.take(Fault.WRONG_UNIT):
            reply = bytes((self.unit_id % 247 + 1,)) + reply[1:]
        frame = bytearray(with_crc(reply))
        if self.faults.take(Fault.CORRUPT):
            frame[len(frame) // 2] ^= 0x10
        noise_bytes = self.faults.param(Fault.GARBAGE, 20)
        return self._random.randbytes(noise_bytes) if self.faults.take(Fault.GARBAGE) else bytes(frame)

    def _fault_changed(self, fault: Fault, on: bool) -> None:
        if fault is Fault.STUCK:
            self._freeze(on)
        if fault is Fault.UNPLUG:
            if self.line is None:
                raise ValueError(f"meter {self.unit_id} is on no line that could be unplugged")
            self.line.set_plugged(not on)


class SimMeter(SimSlave):
    """One meter. ``serial_number`` None: it has no serial register (exception 2)."""

    def __init__(
        self,
        unit_id: int = 1,
        *,
        map_name: str = "eastron_sdm630",
        serial_number: int | None = 12_345_678,
        seed: int = 0,
    ) -> None:
        super().__init__(unit_id, SUPPORTED, seed)
        self.values = MeterValues()
        self.serial_number = serial_number
        self._map = load_map(map_name)
        self._frozen: MeterValues | None = None

    def register_mwh(self) -> int:
        """What the import register tells now, in mWh."""
        register = self._map.quantities[Quantity.ENERGY_IMPORT]
        told = register.unpack(register.pack(self._shown().energy_import_mwh))
        if told is None:
            raise ValueError("the import register is set to not available")
        return round(told)

    def _answer(self, request: bytes) -> bytes:
        """The reply without its CRC."""
        function = request[1]
        address = int.from_bytes(request[2:4])
        count = int.from_bytes(request[4:6])
        code = self.faults.param(Fault.REFUSE, _DEVICE_FAILURE)
        if not self.faults.take(Fault.REFUSE):
            code = self._objection(function, address, count)
        if code:
            return bytes((self.unit_id, function | 0x80, code))
        words = self._words(function)
        held = range(address, address + count)
        if self.faults.take(Fault.SHORT):
            held = held[:-2]
        data = b"".join(words.get(each, 0).to_bytes(2) for each in held)
        return bytes((self.unit_id, function, len(data))) + data

    def _objection(self, function: int, address: int, count: int) -> int:
        """The exception code for a request that cannot be answered, else 0.

        Holes between mapped registers read as zero, as in the real meters; a read that begins or ends
        outside the mapped ones does not exist.
        """
        if function not in (3, 4):
            return _NO_FUNCTION
        if not 1 <= count <= self._map.max_registers:
            return _BAD_COUNT
        words = self._words(function)
        return 0 if address in words and address + count - 1 in words else _NO_ADDRESS

    def _words(self, function: int) -> dict[int, int]:
        """Address -> word, of all registers of one table."""
        shown = self._shown()
        held: list[tuple[Register, int | None]] = [(r, shown.of(q)) for q, r in self._map.quantities.items()]
        if self._map.serial is not None and self.serial_number is not None:
            held.append((self._map.serial, self.serial_number))
        return {
            register.address + index: word
            for register, value in held
            if register.function == function
            for index, word in enumerate(register.pack(value))
        }

    def _shown(self) -> MeterValues:
        return self.values if self._frozen is None else self._frozen

    def _freeze(self, on: bool) -> None:
        self._frozen = dataclasses.replace(self.values) if on else None


class SimMeterLine:
    """Meters on one ``PtyLink``. ``start`` it inside a running loop; ``close`` closes the link too.

    ``turnaround_ms`` is what a meter takes to begin its reply.
    """

    def __init__(self, link: PtyLink, meters: Sequence[SimSlave], *, turnaround_ms: int = 2) -> None:
        ids = [meter.unit_id for meter in meters]
        if len(set(ids)) != len(ids):
            raise ValueError(f"unit ids on one line must differ: {ids}")
        self.link = link
        self._meters = tuple(meters)
        self._turnaround_ms = turnaround_ms
        self._heard = bytearray()
        self._due: set[asyncio.TimerHandle] = set()
        for meter in self._meters:
            meter.line = self

    @property
    def path(self) -> str:
        """The port a driver opens."""
        return self.link.path

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.link.start(self._loop, self._bytes_came)

    def close(self) -> None:
        for handle in self._due:
            handle.cancel()
        self._due.clear()
        self.link.close()

    def set_plugged(self, plugged: bool) -> None:
        """Pull the adapter's plug, or put it back."""
        self._heard.clear()
        if plugged:
            self.link.replug()
        else:
            self.link.unplug()

    def _bytes_came(self, data: bytes) -> None:
        """Find request frames by their CRC; anything else is noise that passes by."""
        self._heard += data
        while len(self._heard) >= _REQUEST_BYTES:
            length = 9 + self._heard[6] if self._heard[1] == _WRITE else _REQUEST_BYTES
            frame = bytes(self._heard[:length])
            if len(frame) < length:
                return  # the rest of a write is on its way
            if with_crc(frame[:-2]) != frame:
                del self._heard[0]
                continue
            del self._heard[:length]
            for meter in self._meters:
                for reply in meter.hear(frame):
                    self._send_later(reply, length)

    def _send_later(self, reply: Reply, request_bytes: int) -> None:
        def send() -> None:
            self._due.discard(handle)
            self.link.write(reply.data)

        delay_s = (self._turnaround_ms + reply.late_ms) / 1000 + self.link.seconds_on_wire(request_bytes)
        handle = self._loop.call_later(delay_s, send)
        self._due.add(handle)
