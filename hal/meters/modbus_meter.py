"""Energy meters that speak Modbus RTU: the driver behind the ``EnergyMeter`` port.

Charter: poll one meter on a ``ModbusLine`` by its register map, and tell readings, loss and return. What
a register holds is data (``map_file``), what a word means is ``registers``, what can be believed is
``plausibility``, how bytes travel is ``modbus_line``; here is only the order of things.

* A poll reads the serial number when it is not known yet, then every block of the map. Any failure
  spoils the whole poll: a reading is one consistent set of values or none.
* The port being gone is told at once; anything else after ``lost_after_polls`` bad polls in a row, with
  the kind of the last one. One good reading brings the meter back.
* After a loss the serial number is read again: another number is another meter, whose register must
  not be taken for the first one's. That is GARBAGE until the driver is restarted.
* After a failed block the next poll begins with the one behind it, so that a reply later than the
  line's drain time still meets a request of another length.

Units: as in ``hal.ports``; the injected clock counts monotonic milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hal.meters.map_file import load_map
from hal.meters.modbus_line import LineConfig, ModbusLine
from hal.meters.plausibility import ImportRegister
from hal.meters.registers import Quantity, ReadBlock, decode_reading, decode_serial, plan_blocks
from hal.ports import (
    Back,
    BadReply,
    DeviceError,
    DeviceLost,
    DeviceRefused,
    DeviceTimeout,
    LossKind,
    Lost,
    MeterEvent,
    MeterReading,
)

_LOSS_KINDS: dict[type[DeviceError], LossKind] = {
    DeviceLost: LossKind.GONE,
    DeviceTimeout: LossKind.SILENT,
    BadReply: LossKind.GARBAGE,
    DeviceRefused: LossKind.REFUSED,
}


@dataclass(frozen=True, slots=True)
class ModbusMeterConfig:
    """One meter. Raises ``ValueError`` for what cannot be.

    ``max_power_w``: more than the installation can ever draw; bounds how fast the register may rise.
    ``serial``: the number used where the meter does not tell its own. ``rollover_mwh``: where its import
    register begins anew at 0, if that is known.
    """

    port: str
    map_name: str
    max_power_w: int
    unit_id: int = 1
    baudrate: int = 9_600
    parity: str = "N"
    poll_ms: int = 1_000
    timeout_ms: int = 500
    gap_ms: int = 20
    drain_ms: int = 500
    serial: str | None = None
    lost_after_polls: int = 3
    rollover_mwh: int | None = None

    def __post_init__(self) -> None:
        limits = {
            "unit_id": (1, 247),
            "max_power_w": (1, 10_000_000),
            "poll_ms": (10, 3_600_000),
            "lost_after_polls": (1, 1_000),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"meter {self.unit_id} on {self.port}: {name} must be {low} to {high}, not {value}")
        if self.serial == "":
            raise ValueError(f"meter {self.unit_id} on {self.port}: serial must not be empty")
        _ = self.line  # checks the rest

    @property
    def line(self) -> LineConfig:
        """What all meters on one port must agree on."""
        return LineConfig(self.port, self.baudrate, self.parity, self.timeout_ms, self.gap_ms, self.drain_ms)


def meters_on_lines(configs: Sequence[ModbusMeterConfig], now_ms: Callable[[], int]) -> list[ModbusMeter]:
    """One meter per configuration; those on the same port share its line.

    Raises ``ValueError`` where two disagree about a port or claim the same unit id on it.
    """
    lines: dict[str, ModbusLine] = {}
    taken: set[tuple[str, int]] = set()
    meters = []
    for config in configs:
        line = lines.setdefault(config.port, ModbusLine(config.line))
        if line.config != config.line:
            raise ValueError(f"{config.port}: meters on one line disagree: {line.config} and {config.line}")
        if (config.port, config.unit_id) in taken:
            raise ValueError(f"{config.port}: unit id {config.unit_id} is used twice")
        taken.add((config.port, config.unit_id))
        meters.append(ModbusMeter(config, line, now_ms))
    return meters


class ModbusMeter:
    """An ``EnergyMeter``. Raises ``RegisterMapError`` at once for a map it cannot use."""

    def __init__(self, config: ModbusMeterConfig, line: ModbusLine, now_ms: Callable[[], int]) -> None:
        self._config = config
        self._line = line
        self._now_ms = now_ms
        self._map = load_map(config.map_name)
        self._blocks = plan_blocks(self._map)
        self._device = f"meter {config.unit_id} on {config.port}"
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, on_event: Callable[[MeterEvent], None]) -> None:
        """Begin polling; call inside a running event loop. Starting anew forgets what the meter was."""
        if self._task is not None:
            raise RuntimeError(f"{self._device}: started twice")
        self._on_event = on_event
        self._register = ImportRegister(
            self._device,
            max_power_w=self._config.max_power_w,
            step_mwh=self._map.energy_step_mwh,
            # A jump that turns out to be a fact is first told as a loss: whoever bills must see the seam.
            jump_readings=self._config.lost_after_polls + 1,
            rollover_mwh=self._config.rollover_mwh,
        )
        self._serial = ""  # what this run's readings carry, once known
        self._number_read: str | None = None  # by the meter itself, the first time it told one
        self._identified = False  # since the last loss
        self._usable: bool | None = None  # True: Back was told last; False: Lost; None: neither yet
        self._bad_polls = 0  # in a row
        self._line.attach()
        self._task = asyncio.create_task(self._run(), name=self._device)
        self._task.add_done_callback(_raise_what_crashed)

    def read_soon(self) -> None:
        """Read at once, also when a poll is under way that may have been answered before this call."""
        self._wanted.set()

    async def close(self) -> None:
        """Stop polling and release the line; harmless when not started."""
        if self._task is None:
            return
        while not self._task.done():
            # More than once: pymodbus waits with asyncio.wait_for, which before Python 3.12 loses a
            # cancellation that comes in the same turn of the loop as the reply.
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.1)
        self._task = None
        await self._line.detach()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._config.poll_ms / 1000
            self._wanted.clear()
            try:
                reading = await self._poll()
            except DeviceError as error:
                self._failed(error)
            else:
                if reading is not None:
                    self._succeeded(reading)
            try:
                async with asyncio.timeout_at(due):
                    await self._wanted.wait()
            except TimeoutError:
                continue  # the ordinary case: the next poll is due

    async def _poll(self) -> MeterReading | None:
        """One reading; None at the start, while the first one waits to be confirmed."""
        if not self._identified:
            await self._identify()
        words: dict[ReadBlock, list[int]] = {}
        at_ms = 0
        for index, block in enumerate(self._blocks):
            try:
                words[block] = await self._read(block)
            except DeviceError:
                self._blocks = self._blocks[index + 1 :] + self._blocks[: index + 1]
                raise
            if block.holds(self._map.quantities[Quantity.ENERGY_IMPORT]):
                at_ms = self._now_ms()
        reading = decode_reading(self._device, self._map, words, serial=self._serial, at_ms=at_ms)
        if self._register.believes(reading.energy_import_mwh, at_ms):
            return reading
        self._wanted.set()
        return None

    async def _identify(self) -> None:
        """Learn the serial number, or after a loss make sure that it is still the same.

        A meter without the register refuses, or is silent (heeded once more before believing it).
        """
        number: str | None = None
        if (register := self._map.serial) is not None:
            try:
                number = decode_serial(
                    register, await self._read(ReadBlock(register.function, register.address, register.width))
                )
            except DeviceRefused:
                pass  # no such register in this meter: the configured number stands in
            except DeviceTimeout:
                if self._config.serial is None or self._bad_polls == 0:
                    raise
        if number is not None and self._number_read not in (None, number):
            raise BadReply(
                self._device,
                f"serial number changed from {self._number_read} to {number}: meter exchanged; restart to go on",
            )
        serial = self._serial or number or self._config.serial
        if serial is None:
            raise DeviceRefused(self._device, "tells no serial number, and none is configured")
        self._number_read = self._number_read or number
        self._serial = serial
        self._identified = True

    async def _read(self, block: ReadBlock) -> list[int]:
        return await self._line.read(self._device, self._config.unit_id, block.function, block.address, block.count)

    def _succeeded(self, reading: MeterReading) -> None:
        self._bad_polls = 0
        if not self._usable:
            self._usable = True
            self._on_event(Back(f"{self._map.model}, serial {self._serial}"))
        self._on_event(reading)

    def _failed(self, error: DeviceError) -> None:
        self._bad_polls += 1
        if self._usable is False:
            self._identified = False  # whatever it said meanwhile: another meter may stand there by the next poll
        kind = _LOSS_KINDS[type(error)]
        if self._usable is False or (kind is not LossKind.GONE and self._bad_polls < self._config.lost_after_polls):
            return
        self._usable = False
        self._identified = False
        self._on_event(Lost(kind, error.detail))


def _raise_what_crashed(task: asyncio.Task[None]) -> None:
    """Let a programmer's error reach the loop's exception handler now, not when the task is collected."""
    if not task.cancelled():
        task.result()
