"""What all drivers on a serial port must know of a tty.

Charter: one function. ``pyserial`` does the rest.
"""

from __future__ import annotations

import contextlib
import termios

import serial


def drop_output(port: serial.Serial) -> None:
    """Forget what the adapter has not taken: it would hold up ``close``, and the loop with it, for the tty's closing
    wait (30 s). A tty that is already gone refuses, which is what ``close`` is for."""
    with contextlib.suppress(OSError, termios.error):
        port.reset_output_buffer()
