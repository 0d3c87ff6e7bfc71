"""Tells whoever started this process that it is ready, and from then on that its loop still turns (sd_notify).

Charter: datagrams to the socket that NOTIFY_SOCKET names, by systemd or by our own supervisor; nothing where there is
none. They are sent by the loop that handles all events, so a loop that stands still falls silent, and the process is
killed. Before it is ready nothing is promised: reading a long ledger takes its time. Sending never waits and never
fails the station: a word that is not heard is followed by the next.

Source: sd_notify(3), sd_watchdog_enabled(3), systemd 252.
"""

from __future__ import annotations

import asyncio
import os
import socket

import structlog

_WORDS_PER_TIME = 3  # in each WATCHDOG_USEC, so that a lost one does no harm

log = structlog.get_logger("station")


class Notify:
    """``ready`` once the station works; ``close`` when it stops, after which whoever listens gives it that time once
    more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        address, time_us = (os.environ.get(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"))
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._every_s = int(time_us) / 1e6 / _WORDS_PER_TIME if time_us.isdecimal() else 0.0
        self._loop = loop
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._timer: asyncio.TimerHandle | None = None

    def ready(self) -> None:
        if self._address:
            self._tell(b"READY=1")
            if self._every_s > 0:
                self._beat()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()

    def _beat(self) -> None:
        self._tell(b"WATCHDOG=1")
        self._timer = self._loop.call_later(self._every_s, self._beat)

    def _tell(self, word: bytes) -> None:
        try:
            self._socket.sendto(word, self._address)
        except OSError as error:  # whoever listens is gone, or behind
            log.warning("not heard by whoever started this process", word=word.decode(), why=str(error))
