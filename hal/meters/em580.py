"""Carlo Gavazzi EM580: a meter that signs by itself, behind the ``SigningMeter`` port.

Charter: live values are a ``ModbusMeter``'s, with its polling, plausibility, loss and return; here is the
order of things around the one record that the meter holds. Registers and codes are ``em580_codes``,
what may be asked when is ``record_life``, how bytes travel is ``modbus_line``. A record's text is never
interpreted: it leaves as it came. **Not yet run on a device.**

* Begin: state 0, clock, description, 'B', state 1. End: 'E', state 2, size and file, key. The meter forgets
  the record when 0 is written to its state, which is ``confirm_record``'s alone.
* Whether a command was obeyed says the state, not the reply to the command: a reply can be lost. A
  command whose reply did not come is sent once more if the state has not moved.
* Reads and writes of registers are repeated a few times after silence and damage; commands as above.
* Calls are carried out one after another, each until its deadline, which is looked at between exchanges;
  an exchange ends by the line's own timeouts. So nothing is ever cancelled with a reply on its way.
* After a loss the meter may be another one: what was fetched from it no longer counts as fetched.

Units: as in ``hal.ports``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hal.meters import em580_codes as codes
from hal.meters.modbus_line import ModbusLine
from hal.meters.modbus_meter import ModbusMeter, ModbusMeterConfig
from hal.meters.record_life import RecordEvent, RecordLife, RecordState
from hal.ports import (
    BadReply,
    DeviceLost,
    DeviceRefused,
    DeviceTimeout,
    HeldRecord,
    Lost,
    MeterEvent,
    RecordFailed,
    RecordFault,
    RecordRequest,
    SignedRecord,
)

MAP_NAME = "carlo_gavazzi_em580"
_TRIES = 3  # of one read or write of registers
_COMMAND_SENDS = 2
_SAYS = (RecordEvent.SAYS_IDLE, RecordEvent.SAYS_RUNNING, RecordEvent.SAYS_READY, RecordEvent.SAYS_CORRUPTED)
_COMES_TO_REST = frozenset({RecordState.IDLE, RecordState.RUNNING, RecordState.READY, RecordState.CORRUPTED})
_FINISHED = (RecordState.READY, RecordState.UNCONFIRMED)


@dataclass(frozen=True, slots=True)
class RecordLimits:
    """How long each part of a call may take in all, and how often the meter's state is asked meanwhile.

    A file of 2031 registers takes some 6 s at 9600 baud while nobody else uses the line.
    """

    begin_ms: int = 15_000
    clock_ms: int = 5_000  # part of begin: a meter that has just started takes no time for some seconds
    command_ms: int = 5_000  # until the state has followed a command
    sign_ms: int = 10_000  # until an ended record is ready
    fetch_ms: int = 30_000
    poll_ms: int = 100


class Em580:
    """A ``SigningMeter``. Raises ``ValueError`` for a configuration with another meter's map."""

    def __init__(
        self,
        config: ModbusMeterConfig,
        line: ModbusLine,
        now_ms: Callable[[], int],
        limits: RecordLimits | None = None,
    ) -> None:
        if config.map_name != MAP_NAME:
            raise ValueError(f"meter {config.unit_id} on {config.port}: map must be {MAP_NAME}, not {config.map_name}")
        self._meter = ModbusMeter(config, line, now_ms)
        self._line = line
        self._unit_id = config.unit_id
        self._limits = limits or RecordLimits()
        self._device = f"meter {config.unit_id} on {config.port}"
        self._life = RecordLife(self._device)
        self._turn = asyncio.Lock()
        self._deadline_s = 0.0  # of the call whose turn it is, in the loop's time
        self._size_registers = 0  # of the file, at the last look
        self._open = False
        self._was_lost = False  # since the last call

    # ------------------------------------------------------------------------------- EnergyMeter

    def start(self, on_event: Callable[[MeterEvent], None]) -> None:
        def told(event: MeterEvent) -> None:
            self._was_lost = self._was_lost or isinstance(event, Lost)
            on_event(event)

        self._life.forget()
        self._open = True
        self._meter.start(told)

    def read_soon(self) -> None:
        self._meter.read_soon()

    async def close(self) -> None:
        """Stop polling and release the line. A call under way ends with ``DeviceLost`` before its next exchange."""
        self._open = False
        async with self._turn:
            await self._meter.close()

    # ------------------------------------------------------------------------------ SigningMeter

    async def held_record(self) -> HeldRecord:
        async with self._call(self._limits.command_ms):
            await self._look()
            return self._life.held

    async def begin_record(self, request: RecordRequest) -> None:
        asked_s = asyncio.get_running_loop().time()
        writes = codes.request_writes(self._device, request)
        async with self._call(self._limits.begin_ms):
            if await self._look() is not RecordState.IDLE:
                raise self._life.in_the_way(RecordEvent.BEGIN)
            await self._set_clock(request, asked_s)
            for address, words in writes:
                await self._write(address, words)
            after = await self._command(RecordEvent.BEGIN, codes.COMMAND, codes.COMMAND_BEGIN)
            if after is not RecordState.RUNNING:
                raise self._life.in_the_way(RecordEvent.BEGIN)

    async def end_record(self) -> SignedRecord:
        async with self._call(self._limits.command_ms):
            if await self._look() is RecordState.IDLE:
                raise self._life.in_the_way(RecordEvent.END)
            return await self._finish()

    async def pending_record(self) -> SignedRecord | None:
        async with self._call(self._limits.command_ms):
            return None if await self._look() is RecordState.IDLE else await self._finish()

    async def abort_record(self) -> None:
        async with self._call(self._limits.command_ms):
            if await self._look() is not RecordState.IDLE:
                await self._command(RecordEvent.ABORT, codes.COMMAND, codes.COMMAND_ABORT)

    async def confirm_record(self) -> None:
        async with self._call(self._limits.command_ms):
            if await self._look() is RecordState.IDLE:
                return
            after = await self._command(RecordEvent.CONFIRM, codes.STATE, codes.STATE_NOT_READY)
            if after is not RecordState.IDLE:
                raise self._life.in_the_way(RecordEvent.CONFIRM)

    async def public_key(self) -> bytes:
        async with self._call(self._limits.command_ms):
            return await self._key()

    # ----------------------------------------------------------------------------------- its parts

    async def _finish(self) -> SignedRecord:
        """End the record if it runs, and fetch it."""
        if self._life.state is RecordState.RUNNING:
            self._allow(self._limits.sign_ms)
            await self._command(RecordEvent.END, codes.COMMAND, codes.COMMAND_END)
        if self._life.state not in _FINISHED:
            raise self._life.in_the_way(RecordEvent.FETCHED)
        self._allow(self._limits.fetch_ms)
        size = self._size_registers
        if size > codes.FILE_MAX_REGISTERS:
            raise RecordFailed(self._device, RecordFault.TOO_LARGE, f"the file is said to have {size} registers")
        words: list[int] = []
        for address, count in codes.file_reads(size):
            words += await self._read(address, count)
        text = codes.file_text(self._device, words)
        key = await self._key()
        # A meter that restarted meanwhile, or was exchanged, may have told parts of two files.
        if await self._look() not in _FINISHED or self._size_registers != size:
            raise BadReply(self._device, "the record changed while it was fetched")
        self._life.happened(RecordEvent.FETCHED)
        return SignedRecord(text, key)

    async def _key(self) -> bytes:
        [kind] = await self._read(codes.SIGNATURE_TYPE, 1)
        if kind == codes.SIGNATURE_NONE:
            raise RecordFailed(self._device, RecordFault.NO_KEY, "the meter has no signing key")
        if kind not in codes.KEY_REGISTERS:
            raise BadReply(self._device, f"signature type {kind} is unknown")
        return codes.key_der(self._device, await self._read(codes.KEY_DER, codes.KEY_REGISTERS[kind]))

    async def _set_clock(self, request: RecordRequest, asked_s: float) -> None:
        """Give the meter the time, where the station knows it, and see that it has one."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._limits.clock_ms / 1000
        while True:
            problem = "it says that its clock is not set"
            try:
                if request.utc_ms is not None:
                    utc_s = (request.utc_ms + round((loop.time() - asked_s) * 1000)) // 1000
                    for address, words in codes.clock_writes(utc_s, request.zone_minutes):
                        await self._write(address, words)
                if (await self._read(codes.CLOCK_SYNC, 1))[0] != 0:
                    return
            except DeviceRefused as error:
                problem = error.detail
            if loop.time() > until_s:
                raise RecordFailed(self._device, RecordFault.CLOCK_NOT_SET, problem)
            await self._pause()

    async def _command(self, event: RecordEvent, address: int, value: int) -> RecordState:
        """Give a command, wait until the meter's state has come to rest, and return that.

        Raises ``RecordFailed`` where the record's state forbids it, ``DeviceTimeout`` where nothing follows.
        """
        self._life.happened(event)
        sends_left, heard = _COMMAND_SENDS, False
        while True:
            if not heard and sends_left:
                sends_left -= 1
                heard = await self._send(address, value, first=sends_left == _COMMAND_SENDS - 1)
            state = await self._look()
            if state in _COMES_TO_REST:
                return state
            await self._pause()

    async def _send(self, address: int, value: int, *, first: bool) -> bool:
        """Whether the meter is known to have heard the command."""
        self._check()
        try:
            await self._line.write(self._device, self._unit_id, address, (value,))
        except (DeviceTimeout, BadReply):
            return False
        except DeviceRefused:
            # The second time this may only mean that the first one was heard after all.
            if first:
                raise
        return True

    async def _look(self) -> RecordState:
        """Learn the meter's own state, and the size of its file.

        Two registers, so that the late reply to a read of one (clock, signature type) cannot be a state.
        """
        state, self._size_registers = await self._read(codes.STATE, 2)
        if state >= len(_SAYS):
            raise BadReply(self._device, f"record state {state} is unknown")
        self._life.happened(_SAYS[state])
        return self._life.state

    # ------------------------------------------------------------------------- turns and deadlines

    @asynccontextmanager
    async def _call(self, limit_ms: int) -> AsyncIterator[None]:
        """One call's turn."""
        async with self._turn:
            if self._was_lost:
                self._was_lost = False
                self._life.forget()
            self._allow(limit_ms)
            try:
                yield
            finally:
                self._life.give_up()

    def _allow(self, limit_ms: int) -> None:
        self._deadline_s = asyncio.get_running_loop().time() + limit_ms / 1000

    def _check(self) -> None:
        """Before every exchange: may the call go on?"""
        if not self._open:
            raise DeviceLost(self._device, "is closed")
        if asyncio.get_running_loop().time() > self._deadline_s:
            raise DeviceTimeout(self._device, f"took too long while its record was {self._life.state.value}")

    async def _pause(self) -> None:
        await asyncio.sleep(self._limits.poll_ms / 1000)

    async def _read(self, address: int, count: int) -> list[int]:
        for tries_left in reversed(range(_TRIES)):
            self._check()
            try:
                return await self._line.read(self._device, self._unit_id, 4, address, count)
            except (DeviceTimeout, BadReply):
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    async def _write(self, address: int, words: tuple[int, ...]) -> None:
        for tries_left in reversed(range(_TRIES)):
            self._check()
            try:
                return await self._line.write(self._device, self._unit_id, address, words)
            except (DeviceTimeout, BadReply):
                if not tries_left:
                    raise
        raise AssertionError("unreachable")
