"""The station's questions to the installer's socket.

Charter: each question has a connection and a thread of its own, so that the station's loop waits for nobody; all
of them can be ended at once. What is asked is the caller's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.firmware.client import InstallerClient
from agent.station.platform import Installer

T = TypeVar("T")


class SocketTalks:
    """See the module; ``agent.station.platform.InstallerTalks`` over the socket at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._talks: set[InstallerClient] = set()

    async def ask(self, question: Callable[[Installer], T]) -> T:
        def ask() -> T:
            with InstallerClient(self._path) as installer:
                self._talks.add(installer)
                try:
                    return question(installer)
                finally:
                    self._talks.discard(installer)

        return await asyncio.to_thread(ask)

    def close(self) -> None:
        for talk in list(self._talks):
            talk.close()
