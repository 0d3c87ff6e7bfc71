"""A simulated OpenEVSE board on a pty: RAPI 5.2.1 on the wire.

Charter: the wire of the board, as strict and as forgiving as the real one (32-byte buffer, three kinds
of checksum, notifications held while a command runs), and its faults by name. What the board does by
itself is ``firmware`` (``hal.sim.openevse_firmware``): tests set there what the sensors find.

``Fault.SHORT``: replies lose their last field. ``WRONG_UNIT``: replies carry another sequence id.
``REFUSE``: every command is answered ``$NK``. ``STUCK``: ``$GS`` is frozen and ``$AT`` stops. ``GARBAGE``:
noise instead of the reply. ``SILENT``: neither hears nor speaks, but goes on charging.

Sources: OpenEVSE/open_evse ``rapi_proc.cpp`` (RAPI 5.2.1).
Units: ampere and hex as on the wire; milliseconds elsewhere.
"""

from __future__ import annotations

import asyncio
from functools import reduce
from operator import xor
from pathlib import Path

from hal.sim.faults import Fault, FaultSwitch
from hal.sim.openevse_firmware import CONNECTED, HARD_FAULT, MIN_A, OpenEvseFirmware, OpenEvseTiming, Pilot, State
from hal.sim.pty import PtyLink
from hal.sim.vehicle_port import VehiclePort

FIRMWARE, RAPI = "8.2.3", "5.2.1"
_BUFFER_BYTES, _MAX_TOKENS = 32, 10
_TICK_S = 0.005
_TOLD_VFLAGS = 0x0008 | CONNECTED | 0x0010 | 0x2000 | HARD_FAULT  # changes of these make an $AT


class SimOpenEvse:
    """One board. ``path`` is what the driver opens; ``vehicle`` is its outlet.

    ``heartbeat`` is what its EEPROM holds: interval in seconds (0: off) and fallback amps. ``boot_lock`` and
    ``delay_timer`` are those of the firmware.
    """

    def __init__(
        self,
        link: Path | None = None,
        *,
        timing: OpenEvseTiming | None = None,
        max_a: int = 32,
        heartbeat: tuple[int, int] = (0, 0),
        settings_flags: int = 0x0021,
        boot_lock: bool = False,
        delay_timer: bool | None = None,
        baud: int | None = None,
    ) -> None:
        self.vehicle = VehiclePort()
        self.faults = FaultSwitch(
            frozenset(
                {
                    Fault.DROP, Fault.DELAY, Fault.CORRUPT, Fault.SHORT, Fault.GARBAGE, Fault.DUPLICATE,
                    Fault.STUCK, Fault.WRONG_UNIT, Fault.REFUSE, Fault.SILENT, Fault.RESET, Fault.UNPLUG,
                }
            ),
            self._fault_changed,
        )  # fmt: skip
        self.heard: list[str] = []  # the last 1000 commands understood, without sequence id
        self._timing = timing or OpenEvseTiming()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.firmware = OpenEvseFirmware(
            self.vehicle,
            self._timing,
            self._now_ms,
            max_a=max_a,
            heartbeat=heartbeat,
            settings_flags=settings_flags,
            boot_lock=boot_lock,
            delay_timer=delay_timer,
        )
        self._link = PtyLink(link, baud=baud)
        self._tick_handle: asyncio.TimerHandle | None = None
        self._boot_handle: asyncio.TimerHandle | None = None
        self._booting = False
        self._frame: bytearray | None = None
        self._told: tuple[int, ...] = ()
        self._frozen_gs: str | None = None

    @property
    def path(self) -> str:
        return self._link.path

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Power on, past its boot. Call inside the loop's thread."""
        self._loop = loop
        self.firmware.power_up()
        self._link.start(loop, self._received)
        self._tick()

    def close(self) -> None:
        for handle in (self._tick_handle, self._boot_handle):
            if handle is not None:
                handle.cancel()
        self._link.close()

    def _tick(self) -> None:
        assert self._loop is not None
        if not self._booting:
            self.firmware.update()
            self.firmware.check_time()
            self._tell_state()
        self._tick_handle = self._loop.call_later(_TICK_S, self._tick)

    # ---------------------------------------------------------------- commands

    def _received(self, data: bytes) -> None:
        if self._booting or self.faults.is_on(Fault.SILENT):
            return
        for byte in data:
            if byte == ord("$"):
                self._frame = bytearray(b"$")
            elif self._frame is None:
                continue
            elif len(self._frame) >= _BUFFER_BYTES:
                self._frame = None  # too long: dropped without a word
            elif byte == ord("\r"):
                frame, self._frame = bytes(self._frame), None
                self._process(frame)
            else:
                self._frame.append(byte)

    def _process(self, frame: bytes) -> None:
        tokens = _tokens(frame)
        if tokens is None:
            self._send("NK")
            return
        sequence = ""
        if len(tokens) > 1 and tokens[-1].startswith(":"):
            sequence = f" {tokens.pop()}"
        self.heard = [*self.heard[-999:], " ".join(tokens)]
        ok, values = (False, "") if self.faults.take(Fault.REFUSE) else self._obey(tokens[0], tokens[1:])
        self._reply(ok, values, sequence)
        if tokens[0] == "FR":
            self._reboot()
        else:
            self._tell_state()

    def _obey(self, command: str, arguments: list[str]) -> tuple[bool, str]:
        """Whether the answer is OK, and its fields."""
        board = self.firmware
        if command.startswith("G"):
            answer = self._get(command)
            return answer is not None, answer or ""
        numbers = [int(each) for each in arguments if each.isascii() and each.isdigit()]
        if command == "SC" and numbers:
            ok, amps = board.set_current(numbers[0], "".join(arguments[1:]))
            return ok, str(amps)
        if command == "SY":
            return board.supervise(numbers), self._heartbeat()
        if command == "SB" and board.boot_lock:
            return True, "0" if board.unlock() else "1"
        if command == "ST" and arguments == ["0"] * 4:
            board.end_timer()
            return True, ""
        functions = {"FE": board.enable, "FS": board.sleep, "FD": board.disable}
        if command in functions:
            functions[command]()
        return command in functions or command == "FR", ""

    def _get(self, command: str) -> str | None:
        board = self.firmware
        gs = f"{board.state:02x} 0 {board.pilot_state:02x} {board.vflags:04x}"
        if self.faults.is_on(Fault.STUCK):
            gs = self._frozen_gs = self._frozen_gs or gs
        connected = bool(board.vflags & CONNECTED)
        return {
            "GV": f"{FIRMWARE} {RAPI}",
            "GE": f"{board.amps} {board.settings_flags:04x}",
            "GC": f"{MIN_A} {board.hardware_max_a} {board.amps} {board.max_a}",
            "GS": gs,
            "GY": self._heartbeat(),
            "G0": str(2 if board.pilot is Pilot.N12 else int(connected)),
            "G5": f"{int(connected)} A",
            "GF": "0 0 0",
            "GG": "-1 -1",
            "GP": "230 -2560 -2560",
            "GU": "0 0",
        }.get(command)

    def _heartbeat(self) -> str:
        interval_s, fallback_a = self.firmware.heartbeat
        return f"{interval_s} {fallback_a} {self.firmware.heartbeat_trigger}"

    def _reboot(self) -> None:
        assert self._loop is not None
        self.firmware.power_up()
        self._booting = True
        self._told = ()
        self.firmware.show()
        if self._boot_handle is not None:
            self._boot_handle.cancel()

        def booted() -> None:
            self._booting = False
            self.firmware.update()
            self._send(f"AB {self.firmware.state:02x} {FIRMWARE}")

        self._boot_handle = self._loop.call_later(self._timing.boot_ms / 1000, booted)

    # ---------------------------------------------------------------- what it says

    def _reply(self, ok: bool, values: str, sequence: str) -> None:
        if self.faults.take(Fault.DROP):
            return
        if self.faults.take(Fault.SHORT):
            values = values.rpartition(" ")[0]
        if sequence and self.faults.take(Fault.WRONG_UNIT):
            sequence = f" :{int(sequence[2:], 16) % 255 + 1:02X}"
        self._send(("OK" if ok else "NK") + (f" {values}" if values else "") + sequence, is_reply=True)

    def _tell_state(self) -> None:
        board = self.firmware
        now = (board.state, board.pilot_state, board.amps, board.vflags & _TOLD_VFLAGS)
        contradiction = board.state is State.A and bool(board.vflags & CONNECTED)
        if now == self._told or board.state is State.UNKNOWN or contradiction or self.faults.is_on(Fault.STUCK):
            return
        self._told = now
        self._send(f"AT {board.state:02x} {board.pilot_state:02x} {board.amps} {board.vflags:04x}")

    def _send(self, text: str, *, is_reply: bool = False) -> None:
        if self._loop is None or self.faults.is_on(Fault.SILENT):
            return
        wire = f"${text}^{_xor(f'${text}'.encode()):02X}\r".encode()
        if self.faults.take(Fault.CORRUPT):
            wire = wire[:1] + bytes([wire[1] ^ 0x01]) + wire[2:]
        if is_reply and self.faults.take(Fault.GARBAGE):
            wire = bytes(range(0x80, 0xA0)) + b"$"
        if is_reply and self.faults.take(Fault.DUPLICATE):
            wire *= 2
        delay_ms = self.faults.param(Fault.DELAY, 100)
        if is_reply and self.faults.take(Fault.DELAY):
            self._loop.call_later(delay_ms / 1000, self._link.write, wire)
        else:
            self._link.write(wire)

    def _fault_changed(self, fault: Fault, on: bool) -> None:
        if fault is Fault.UNPLUG:
            (self._link.unplug if on else self._link.replug)()
        elif fault is Fault.RESET and on:
            self.faults.clear(Fault.RESET)
            self._reboot()
        elif fault is Fault.STUCK:
            self._frozen_gs = None

    def _now_ms(self) -> int:
        return 0 if self._loop is None else int(self._loop.time() * 1000)


def _xor(data: bytes) -> int:
    return reduce(xor, data, 0)


def _tokens(frame: bytes) -> list[str] | None:
    """The tokens of ``$...``; None where checksum or token count is wrong. Checksums are optional."""
    for mark, compute in (("^", _xor), ("*", _sum)):
        body, found, check = frame.partition(mark.encode())
        if found:
            if not check.isalnum() or check.upper() != b"%02X" % compute(body):
                return None
            frame = body
            break
    tokens = frame[1:].decode("latin-1").split(" ")
    return tokens if len(tokens) <= _MAX_TOKENS and tokens[0] else None


def _sum(data: bytes) -> int:
    return sum(data) & 0xFF
