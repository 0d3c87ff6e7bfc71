"""The station's questions to the installer's socket.

Charter: each question has a connection and a thread of its own, so that the station's loop waits for nobody; all
of them can be ended at once. What is asked is the caller's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.firmware.client import ANSWER_MAX_S, InstallerClient

T = TypeVar("T")


class SocketTalks:
    """See the module; ``agent.station.platform.InstallerTalks`` over the socket at ``path``."""

    def __init__(self, path: Path, answer_max_s: float = ANSWER_MAX_S) -> None:
        self._path = path
        self._answer_max_s = answer_max_s
        self._talks: set[InstallerClient] = set()
        self._closed = False

    async def ask(self, question: Callable[[InstallerClient], T]) -> T:
        def ask() -> T:
            with InstallerClient(self._path, self._answer_max_s) as installer:
                self._talks.add(installer)
                if self._closed:  # in the meantime
                    installer.close()
                try:
                    return question(installer)
                finally:
                    self._talks.discard(installer)

        return await asyncio.to_thread(ask)

    def close(self) -> None:
        """End what is under way, and whatever is still asked, at once."""
        self._closed = True
        for talk in list(self._talks):
            talk.close()
