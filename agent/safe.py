"""Make the hardware safe when the station is gone.

Charter: the smallest thing that can open every contactor without the station: one frame to each pilot
board, on a port opened for nothing else. It works whatever is wrong with the configuration
(``agent.config.pilot_lines``), and ends within seconds whatever a port does. Subordinate boards and DC modules also
open by themselves when our keep-alive stops (5 s, 10 s); autonomous boards would go on at their fallback current, so
for them this is what stops the charge (hardware reference 2.2).
"""

from __future__ import annotations

import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agent.config.pilot_lines import PilotLine, pilot_lines
from hal.boards import PilotDriver

if TYPE_CHECKING:
    from serial import Serial

_WRITE_TIMEOUT_S = 1.0

log = structlog.get_logger("safe")


def make_safe(config_file: Path, data_dir: Path | None = None) -> bool:
    """Tell every pilot board to open; True if all could be told. ``data_dir`` is the station's, if the file does not
    tell it."""
    lines = pilot_lines(config_file, data_dir)
    if not lines:
        log.error("no pilot board is known, none is told to open", file=str(config_file))
        return False
    told = [_tell(line) for line in lines]
    return all(told)


def _tell(line: PilotLine) -> bool:
    import serial

    try:
        with serial.Serial(line.port, line.baud, write_timeout=_WRITE_TIMEOUT_S, exclusive=True) as port:
            port.write(_open_frame(line.driver))
            _drain(port)
    except (OSError, ValueError, termios.error) as error:  # of the line, of a port's name that cannot be one
        log.error("pilot board cannot be told to open", evse=line.evse, port=line.port, reason=str(error))
        return False
    log.info("pilot board told to open", evse=line.evse, port=line.port)
    return True


def _drain(port: Serial) -> None:
    """Until all is sent. ``flush`` would wait for ever for a line that takes nothing, and so would ``close``."""
    give_up_s = time.monotonic() + _WRITE_TIMEOUT_S
    while port.out_waiting:
        if time.monotonic() > give_up_s:
            port.reset_output_buffer()
            raise TimeoutError("the line takes nothing")
        time.sleep(0.005)


def _open_frame(driver: PilotDriver) -> bytes:
    if driver is PilotDriver.OPENEVSE:
        from hal.pilots import rapi_codec

        # A CR first ends whatever half a command the dead station may have left in the board's buffer.
        return b"\r" + rapi_codec.command("FD")
    from hal.pilots import mcu_codec

    return b"\0" + mcu_codec.allow_power_on(False)
