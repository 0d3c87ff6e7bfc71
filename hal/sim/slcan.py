"""A simulated Lawicel CAN adapter on a pty, with simulated nodes on its far side.

Charter: what a CANable or CAN232 does on its serial port: bit rate, open, close, version, serial number,
frames both ways. Frames flow only while the channel is open and at the bus's own bit rate; at a wrong
one nothing arrives, as on a real bus. It knows no protocol above CAN.

Answers: CR for "done", ``z``/``Z`` + CR for a frame taken, BEL for "no".
Faults: UNPLUG (the port disappears), RESET (bit rate and channel are forgotten), GARBAGE (noise before
a frame to the host), DROP (a frame to the host is lost).
Source: Lawicel CAN232 manual, command set V1.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from hal.ports import BadReply
from hal.power.can_frame import CanFrame
from hal.power.slcan_line import BELL, BITRATE_CODES, CR, LineCutter, decode_frame, encode_frame, is_frame
from hal.sim.faults import Fault, FaultSwitch
from hal.sim.pty import PtyLink

_NOISE = b"\xff\x00T12\rT9\xfe"  # nonsense, half a frame, and the start that spoils the next one
_BITRATES = {code.encode(): bitrate for bitrate, code in BITRATE_CODES.items()}


class CanNode(Protocol):
    """Anything on the bus behind the adapter."""

    def attach(self, transmit: Callable[[CanFrame], None]) -> None: ...

    def receive(self, frame: CanFrame) -> None: ...


class SimSlcanAdapter:
    """``bitrate`` is the bus's. ``link`` belongs to the caller until ``close`` of the adapter closes it."""

    def __init__(self, link: PtyLink, nodes: Sequence[CanNode], *, bitrate: int = 125_000) -> None:
        self._link = link
        self._nodes = list(nodes)
        self._bus_bitrate = bitrate
        self._cutter = LineCutter()
        self._bitrate: int | None = None
        self.is_open = False
        self.faults = FaultSwitch(
            frozenset({Fault.UNPLUG, Fault.RESET, Fault.GARBAGE, Fault.DROP}), self._fault_changed
        )
        for node in self._nodes:
            node.attach(self._to_host)

    def start(self) -> None:
        """Begin to serve the port; call inside the running loop."""
        self._link.start(asyncio.get_running_loop(), self._from_host)

    def close(self) -> None:
        self._link.close()

    def _from_host(self, data: bytes) -> None:
        for line in self._cutter.feed(data):
            answer = self._obey(line)
            if answer:
                self._link.write(answer)

    def _obey(self, line: bytes) -> bytes:
        if is_frame(line):
            return self._frame_from_host(line)
        match line:
            case b"":
                return CR
            case b"O" if not self.is_open and self._bitrate is not None:
                self.is_open = True
                return CR
            case b"C" if self.is_open:
                self.is_open = False
                return CR
            case b"V":
                return b"V1013\r"
            case b"N":
                return b"N0001\r"
            case b"F" if self.is_open:
                return b"F00\r"
            case _ if line in _BITRATES and not self.is_open:
                self._bitrate = _BITRATES[line]
                return CR
            case _:
                return BELL

    def _frame_from_host(self, line: bytes) -> bytes:
        try:
            frame = decode_frame(line)
        except BadReply:
            return BELL
        if not self.is_open:
            return BELL
        if self._bitrate == self._bus_bitrate:
            for node in self._nodes:
                node.receive(frame)
        return b"Z\r" if frame.extended else b"z\r"

    def _to_host(self, frame: CanFrame) -> None:
        if not self.is_open or self._bitrate != self._bus_bitrate or self.faults.take(Fault.DROP):
            return
        noise = _NOISE if self.faults.take(Fault.GARBAGE) else b""
        self._link.write(noise + encode_frame(frame))

    def _forget(self) -> None:
        self.is_open = False
        self._bitrate = None
        self._cutter = LineCutter()

    def _fault_changed(self, fault: Fault, on: bool) -> None:
        if fault is Fault.RESET and on:
            self._forget()
        elif fault is Fault.UNPLUG and on:
            self._forget()
            self._link.unplug()
        elif fault is Fault.UNPLUG:
            self._link.replug()
