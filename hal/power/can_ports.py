"""Where CAN frames leave the process: our own slcan port, and python-can for everything else.

Charter: open a port, move frames without ever blocking, say when it is gone. Who listens, and what
happens after a loss, is ``can_bus``. python-can is imported here only, and only when it is used.

Why slcan is not python-can's (4.6.1, read and measured): its ``send`` ends in ``tcdrain``, which waits
for the adapter without limit; with a zero write timeout it truncates the line instead; its receive
buffer has no bound, and one undecodable byte makes every later ``recv`` fail. The line protocol is
small enough to own: what does not fit the tty stays here and is offered again.

python-can's socket buses are fit for use: ``send(timeout=0)`` fails at once when the kernel's queue
is full, and ``recv(0)`` takes what is there. The interface must have a file descriptor.
"""

from __future__ import annotations

import errno
import os
import termios
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import serial

from hal.ports import BadReply, DeviceLost
from hal.power.can_frame import CanFrame
from hal.power.slcan_line import BITRATE_CODES, LineCutter, decode_frame, encode_frame, is_frame
from hal.tty import drop_output

if TYPE_CHECKING:
    import can

_READ_BYTES = 4096
_MAX_FRAMES_PER_RECEIVE = 128
_QUEUE_FULL = (errno.ENOBUFS, errno.EAGAIN)


@dataclass(frozen=True, slots=True)
class CanBusConfig:
    """``interface`` is ``slcan`` or a python-can interface name (``socketcan``, ``udp_multicast``).

    ``channel`` is a tty, a network interface or a multicast address. ``options`` are the interface's
    own: ``tty_baudrate`` for slcan, python-can's keyword arguments for the others. ``bitrate`` is in
    bit/s; for socketcan it is set outside (``ip link ... type can bitrate 125000 restart-ms 100``).
    """

    name: str
    interface: str
    channel: str
    bitrate: int = 125_000
    options: Mapping[str, int | str | bool] = field(default_factory=dict)


class CanPort(Protocol):
    """An open port. Every method may raise ``DeviceLost``, and none of them blocks."""

    def fileno(self) -> int: ...

    def receive(self) -> list[CanFrame]:
        """Frames that are there now: at most a bounded number, the rest stays readable."""
        ...

    def send(self, frame: CanFrame) -> bool:
        """False: no room now, nothing was taken, offer it again later."""
        ...

    def flush(self) -> bool:
        """Push out what an earlier ``send`` could not; False while something is left."""
        ...

    def close(self) -> None:
        """Release the port; raises nothing for a device that is already gone."""
        ...


def open_can_port(config: CanBusConfig) -> CanPort:
    """Open the port. Raises ``DeviceLost`` where that cannot be done now, ``ValueError`` for a wrong configuration."""
    if config.interface == "slcan":
        return SlcanPort(config)
    return PythonCanPort(config)


class SlcanPort:
    """A Lawicel adapter on a tty. Its answers to commands are not waited for: many clones give none."""

    def __init__(self, config: CanBusConfig) -> None:
        unknown = sorted(set(config.options) - {"tty_baudrate"})
        if unknown:
            raise ValueError(f"CAN bus {config.name}: unknown slcan options {', '.join(unknown)}")
        if config.bitrate not in BITRATE_CODES:
            raise ValueError(f"CAN bus {config.name}: slcan has no bit rate {config.bitrate}; {sorted(BITRATE_CODES)}")
        self._name = config.name
        self._cutter = LineCutter()
        self._unsent = b""
        try:
            # The descriptor stays non-blocking, as pyserial opens it; its own write() would spin on a full tty.
            self._serial = serial.Serial(
                config.channel, int(config.options.get("tty_baudrate", 115_200)), timeout=0, exclusive=True
            )
        except (OSError, termios.error, serial.SerialException) as error:
            raise DeviceLost(config.name, str(error)) from error
        try:
            self._serial.reset_input_buffer()
            # The empty line ends whatever half a command the adapter may hold from a previous life.
            self._write(f"\rC\r{BITRATE_CODES[config.bitrate]}\rO\r".encode())
        except (DeviceLost, OSError, termios.error) as error:
            self.close()
            raise DeviceLost(config.name, f"adapter went away while it was opened: {error}") from error

    def fileno(self) -> int:
        return int(self._serial.fileno())

    def receive(self) -> list[CanFrame]:
        try:
            data = os.read(self.fileno(), _READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise DeviceLost(self._name, f"read: {error}") from error
        if not data:
            raise DeviceLost(self._name, "hang-up")
        frames = []
        for line in self._cutter.feed(data):
            if is_frame(line):
                try:
                    frames.append(decode_frame(line))
                except BadReply:
                    # Line noise. The frame it may have been is lost, as on a real bus: its sender is asked again.
                    continue
        return frames

    def send(self, frame: CanFrame) -> bool:
        if not self.flush():
            return False
        self._write(encode_frame(frame))
        return True

    def flush(self) -> bool:
        if self._unsent:
            self._write(b"")
        return not self._unsent

    def close(self) -> None:
        drop_output(self._serial)
        self._serial.close()

    def _write(self, data: bytes) -> None:
        """Write as much as the tty takes and keep the rest: at most one line, as ``send`` waits for room."""
        self._unsent += data
        try:
            sent = os.write(self.fileno(), self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            raise DeviceLost(self._name, f"write: {error}") from error
        self._unsent = self._unsent[sent:]


class PythonCanPort:
    """A python-can bus that has a file descriptor."""

    def __init__(self, config: CanBusConfig) -> None:
        import can

        self._name = config.name
        self._errors: tuple[type[Exception], ...] = (can.CanError, OSError)
        options: dict[str, Any] = dict(config.options)
        try:
            self._bus: can.BusABC = can.Bus(
                interface=config.interface,
                channel=config.channel,
                bitrate=config.bitrate,
                ignore_config=True,  # nothing but our own configuration decides
                **options,
            )
        except self._errors as error:
            raise DeviceLost(config.name, str(error)) from error

    def fileno(self) -> int:
        return self._bus.fileno()

    def receive(self) -> list[CanFrame]:
        frames: list[CanFrame] = []
        for _ in range(_MAX_FRAMES_PER_RECEIVE):
            try:
                message = self._bus.recv(0)
            except self._errors as error:
                raise DeviceLost(self._name, f"receive: {error}") from error
            if message is None:
                break
            if not (message.is_error_frame or message.is_remote_frame or message.is_fd):
                frames.append(CanFrame(message.arbitration_id, bytes(message.data), message.is_extended_id))
        return frames

    def send(self, frame: CanFrame) -> bool:
        import can

        message = can.Message(arbitration_id=frame.id, data=frame.data, is_extended_id=frame.extended)
        try:
            self._bus.send(message, timeout=0)
        except self._errors as error:
            if _is_queue_full(error):
                return False
            raise DeviceLost(self._name, f"send: {error}") from error
        return True

    def flush(self) -> bool:
        return True

    def close(self) -> None:
        self._bus.shutdown()


def _is_queue_full(error: Exception) -> bool:
    """Whether a failed send only means "not now".

    A full queue is ``CanTimeoutError``, an error number, the number of the ``OSError`` underneath, or
    (socketcan, socket not writable) an error with neither.
    """
    import can

    if isinstance(error, can.CanTimeoutError):
        return True
    number = getattr(error, "error_code", None)
    if number is None and isinstance(error.__cause__, OSError):
        number = error.__cause__.errno
    return number is None or number in _QUEUE_FULL
