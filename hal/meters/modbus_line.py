"""One RS-485 line: a single Modbus RTU client that all devices on the same port share.

Charter: one request at a time, whole answers or a typed error per request, each counted, and a port that is reopened
with bounded back-off for as long as somebody asks. It knows no register maps and keeps no values.

A port that stays open and silent for half a minute while it is asked is opened anew: the reading of an adapter may have
stopped, and nothing else would tell.

Modbus RTU has no transaction number. Four remedies keep one request's reply from another's:

* Only bytes that begin with the awaited unit and function ever reach pymodbus's decoder; the answer to a
  write must also begin with its address and count.
* The reply's length must be what was asked for; pymodbus accepts shorter ones.
* After anything but a complete answer the line must be heard silent for ``drain_ms`` before the next
  request goes out; between ordinary requests for ``gap_ms``. Bytes that arrive meanwhile are dropped.
* The devices on a line read blocks of different lengths (see ``registers.plan_blocks``).

Sources: Modbus over Serial Line V1.02 section 2.5.1 (RTU framing, silent intervals); pymodbus 3.16.1.
Units: milliseconds in the configuration; seconds of the event loop's clock inside.
"""

from __future__ import annotations

import asyncio
import logging
import termios
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hal.bus_counters import BusCounters
from hal.ports import BadReply, DeviceLost, DeviceRefused, DeviceTimeout
from hal.tty import drop_output

if TYPE_CHECKING:
    from pymodbus.client import AsyncModbusSerialClient
    from pymodbus.pdu import ModbusPDU

_WRITE = 16  # function: write multiple registers
_WRITE_MAX_REGISTERS = 123  # Modbus Application Protocol V1.1b3 section 6.12
_REOPEN_FIRST_S = 0.25
_REOPEN_LAST_S = 5.0
_SILENCE_REOPEN_S = 30.0
_ONE_TURN_S = 0.001
_CHATTER_S = 1.0  # a line that is not silent for this long beyond what was waited for is chattering
_BAUDRATES = (1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200)
_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target failed to respond",
}


@dataclass(frozen=True, slots=True)
class LineConfig:
    """The port and how it is spoken to. Raises ``ValueError`` for what no serial port can do.

    ``parity``: N, E or O (N has 1 stop bit here, as the meters' own default; ptys can do N only).
    ``timeout_ms`` must exceed the slowest device's turnaround; ``drain_ms`` its latest reply after that.
    ``write_timeout_ms``: the same for writes, which a device may have to store before it answers.
    """

    port: str
    baudrate: int = 9_600
    parity: str = "N"
    timeout_ms: int = 500
    gap_ms: int = 20
    drain_ms: int = 500
    write_timeout_ms: int = 1_500

    def __post_init__(self) -> None:
        if not self.port:
            raise ValueError("port: missing")
        if self.baudrate not in _BAUDRATES:
            raise ValueError(f"{self.port}: baudrate {self.baudrate} is not one of {_BAUDRATES}")
        if self.parity not in ("N", "E", "O"):
            raise ValueError(f"{self.port}: parity must be N, E or O, not {self.parity!r}")
        for name in ("timeout_ms", "gap_ms", "drain_ms", "write_timeout_ms"):
            if not 1 <= getattr(self, name) <= 60_000:
                raise ValueError(f"{self.port}: {name} must be 1 to 60000, not {getattr(self, name)}")


class ModbusLine:
    """The shared client. Devices ``attach`` when they start and ``detach`` when they close."""

    def __init__(self, config: LineConfig) -> None:
        import pymodbus.client  # noqa: F401 - loaded only where a line exists, and before the loop must not wait

        self.config = config
        self.counters = BusCounters()
        self._lock = asyncio.Lock()
        self._users = 0
        self._client: AsyncModbusSerialClient | None = None
        self._reopen_at = 0.0
        self._reopen_delay_s = _REOPEN_FIRST_S
        self._awaited: tuple[bytes, ...] = ()  # how the open request's answer begins; empty: none is open
        self._heard_bytes = 0  # since the request went out
        self._heard_at = self._opened_at = 0.0
        self._asked_at = 0.0
        self._idle_since = 0.0  # the last request was answered or given up
        self._silence_s = config.gap_ms / 1000  # to be heard before the next request

    def attach(self) -> None:
        """One more device uses the line."""
        self._users += 1

    async def detach(self) -> None:
        """One device less; the last one releases the port."""
        self._users -= 1
        if self._users == 0:
            async with self._lock:
                self._drop_client()

    async def read(self, device: str, unit_id: int, function: int, address: int, count: int) -> list[int]:
        """Read ``count`` registers with function 3 or 4.

        ``device`` names the asker in errors. Raises ``DeviceLost`` (port), ``DeviceTimeout`` (nothing
        came), ``BadReply`` (something else came) or ``DeviceRefused`` (an exception reply).
        """
        awaited = bytes((unit_id, function))

        def ask(client: AsyncModbusSerialClient) -> Awaitable[ModbusPDU]:
            request = client.read_holding_registers if function == 3 else client.read_input_registers
            return request(address, count=count, device_id=unit_id)

        async with self._lock:
            with self.counters.failures_counted():
                reply = await self._exchange(device, f"reading {address:04X}", awaited, self.config.timeout_ms, ask)
                if len(reply.registers) != count:
                    raise BadReply(device, f"{len(reply.registers)} registers came instead of {count} at {address:04X}")
            self._answered()
            return list(reply.registers)

    async def write(self, device: str, unit_id: int, address: int, words: Sequence[int]) -> None:
        """Write registers with function 16; at most 123. Errors as in ``read``.

        After ``DeviceTimeout`` and ``BadReply`` the device may have heard, or not.
        """
        if not 1 <= len(words) <= _WRITE_MAX_REGISTERS:
            raise ValueError(f"{device}: {len(words)} registers in one write")
        awaited = bytes((unit_id, _WRITE)) + address.to_bytes(2) + len(words).to_bytes(2)

        def ask(client: AsyncModbusSerialClient) -> Awaitable[ModbusPDU]:
            return client.write_registers(address, list(words), device_id=unit_id)

        async with self._lock:
            with self.counters.failures_counted():
                await self._exchange(device, f"writing {address:04X}", awaited, self.config.write_timeout_ms, ask)
            self._answered()

    def _answered(self) -> None:
        """The answer was whole: nothing of it can follow."""
        self._silence_s = self.config.gap_ms / 1000
        self.counters.answered(round((self._idle_since - self._asked_at) * 1_000_000))

    async def _exchange(
        self,
        device: str,
        doing: str,
        awaited: bytes,
        timeout_ms: int,
        ask: Callable[[AsyncModbusSerialClient], Awaitable[ModbusPDU]],
    ) -> ModbusPDU:
        """One request and its answer, which begins with ``awaited`` or is an exception reply.

        The caller holds the lock, and shortens the silence that must follow once the answer is whole.
        """
        from pymodbus.exceptions import ConnectionException, ModbusIOException

        loop = asyncio.get_running_loop()
        client = await self._opened(device)
        await self._silence(device)
        self._silence_s = self.config.drain_ms / 1000  # whatever ends this early, a late reply may follow
        self._heard_bytes = 0
        self._awaited = (awaited, bytes((awaited[0], awaited[1] | 0x80)))
        client.ctx.comm_params.timeout_connect = timeout_ms / 1000  # pymodbus has one for all requests
        self._asked_at = loop.time()
        try:
            reply = await ask(client)
        except (ConnectionException, ModbusIOException):
            if not client.connected:
                raise DeviceLost(device, f"{self.config.port} hung up") from None
            if self._heard_bytes:
                raise BadReply(device, f"{self._heard_bytes} bytes came, but no valid reply among them") from None
            if loop.time() - max(self._heard_at, self._opened_at) > _SILENCE_REOPEN_S:
                self._drop_client()
            raise DeviceTimeout(device, f"no reply within {timeout_ms} ms") from None
        finally:
            self._awaited = ()
            self._idle_since = loop.time()
        if reply.isError():
            self._silence_s = self.config.gap_ms / 1000
            meaning = _EXCEPTIONS.get(reply.exception_code, "unknown")
            raise DeviceRefused(device, f"exception {reply.exception_code} ({meaning}) {doing}")
        return reply

    async def _silence(self, device: str) -> None:
        """Wait until the line has been heard silent long enough; what comes meanwhile is dropped.

        A timer runs after the readers of its turn of the loop, so even the shortest wait here empties
        the port of bytes that came while the loop was busy.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._silence_s + _CHATTER_S
        wait_s = _ONE_TURN_S
        while wait_s > 0:
            if loop.time() > give_up_at:
                raise BadReply(device, f"{self.config.port} is never silent")
            await asyncio.sleep(wait_s)
            wait_s = max(self._idle_since, self._heard_at) + self._silence_s - loop.time()

    def _traced(self, sending: bool, data: bytes) -> bytes:
        """pymodbus shows every byte here. What is not the awaited answer is withheld from its decoder."""
        if sending:
            return data
        self._heard_at = asyncio.get_running_loop().time()
        self._heard_bytes = max(self._heard_bytes, len(data))
        starts = [start for prefix in self._awaited if (start := data.find(prefix)) >= 0]
        return data[min(starts) :] if starts else b""

    async def _opened(self, device: str) -> AsyncModbusSerialClient:
        """The open client. A hang-up found here is told once before the port is opened again."""
        loop = asyncio.get_running_loop()
        if self._client is not None:
            if self._client.connected:
                return self._client
            self._drop_client()
            raise DeviceLost(device, f"{self.config.port} hung up")
        if loop.time() < self._reopen_at:
            raise DeviceLost(device, f"{self.config.port} is not open yet")
        client = self._new_client()
        problem = ""
        try:
            if not await client.connect():
                problem = "in use or not permitted" if Path(self.config.port).exists() else "no such port"
        except termios.error as error:  # not an OSError; a pty refuses parity this way
            problem = f"the port refuses {self.config.baudrate} baud, parity {self.config.parity} ({error})"
        if problem:
            client.close()
            self._reopen_at = loop.time() + self._reopen_delay_s
            self._reopen_delay_s = min(2 * self._reopen_delay_s, _REOPEN_LAST_S)
            raise DeviceLost(device, f"cannot open {self.config.port}: {problem}")
        self._client = client
        self._opened_at = loop.time()
        self._reopen_delay_s = _REOPEN_FIRST_S
        return client

    def _new_client(self) -> AsyncModbusSerialClient:
        from pymodbus.client import AsyncModbusSerialClient

        # It logs every timeout as an error with a dump of frames; here faults are told as typed errors.
        # Whoever sets the level on purpose still gets the dumps.
        logger = logging.getLogger("pymodbus")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)
        # reconnect_delay 0: its own reconnection does not survive a failed first open or a port that
        # refuses its settings, so this class is the only one that reopens.
        return AsyncModbusSerialClient(
            self.config.port,
            baudrate=self.config.baudrate,
            parity=self.config.parity,
            timeout=self.config.timeout_ms / 1000,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._traced,
        )

    def _drop_client(self) -> None:
        if self._client is None:
            return
        if (port := getattr(self._client.ctx.transport, "sync_serial", None)) is not None:
            drop_output(port)
        self._client.close()
        self._client = None
