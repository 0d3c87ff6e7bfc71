"""Make the hardware safe when the station is gone.

Charter: the smallest thing that can open every contactor without the station: one frame to each pilot
board, on a port opened for nothing else. Subordinate boards and DC modules also open by themselves
when our keep-alive stops (5 s, 10 s); autonomous boards would go on at their fallback current, so for
them this is what stops the charge (hardware reference 2.2).
"""

from __future__ import annotations

import structlog

from agent.config.model import Config, EvseConfig
from hal.boards import PilotDriver

_WRITE_TIMEOUT_S = 1.0

log = structlog.get_logger("safe")


def make_safe(config: Config) -> bool:
    """Tell every pilot board to open; True if all could be told."""
    told = [_tell(evse) for evse in config.evse]
    return all(told)


def _tell(evse: EvseConfig) -> bool:
    import serial

    try:
        with serial.Serial(
            evse.pilot.port, evse.board.pilot.baud, write_timeout=_WRITE_TIMEOUT_S, exclusive=True
        ) as port:
            port.write(_open_frame(evse.board.pilot.driver))
            port.flush()
    except (serial.SerialException, OSError) as error:
        log.error("pilot board cannot be told to open", evse=evse.id, reason=str(error))
        return False
    log.info("pilot board told to open", evse=evse.id)
    return True


def _open_frame(driver: PilotDriver) -> bytes:
    if driver is PilotDriver.OPENEVSE:
        from hal.pilots import rapi_codec

        # A CR first ends whatever half a command the dead station may have left in the board's buffer.
        return b"\r" + rapi_codec.command("FD")
    from hal.pilots import mcu_codec

    return b"\0" + mcu_codec.allow_power_on(False)
