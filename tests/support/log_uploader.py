"""An uploader that brings nothing anywhere, for tests of dialects."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agent.ocpp.log_requests import LogRequest, LogUploads, UploadStatus


@dataclass
class FakeUploader:
    """Implements ``agent.ocpp.log_requests.Uploader``: each upload takes ``takes_s`` and ends as ``ends`` says, in
    turn, then well. Locations that begin with "bad" are refused. ``canceled`` counts those that were ended; that takes
    ``lingers_s`` each."""

    takes_s: float = 10
    lingers_s: float = 0
    ends: list[UploadStatus | Exception] = field(default_factory=list)
    brought: list[tuple[LogRequest, str]] = field(default_factory=list)
    at_once: int = 0
    at_once_max: int = 0
    canceled: int = 0

    def uploads(self) -> LogUploads:
        """A gateway's uploads that use this."""
        return LogUploads(lambda: self)

    def refusal(self, location: str) -> str:
        return "location: bad is not supported" if location.startswith("bad") else ""

    async def bring(self, request: LogRequest, file_name: str) -> UploadStatus:
        self.brought.append((request, file_name))
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.canceled += 1
            await asyncio.sleep(self.lingers_s)
            raise
        finally:
            self.at_once -= 1
        end = self.ends.pop(0) if self.ends else UploadStatus.UPLOADED
        if isinstance(end, Exception):
            raise end
        return end
