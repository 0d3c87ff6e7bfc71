"""Downloading as the gateway does it, but nobody really sleeps; and what there is to download."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pytest

from agent.firmware.errors import SourceLost
from agent.sim.file_server import FileServer
from agent.transfer.remote import RemoteFile, open_remote
from agent.transfer.settings import TransferLimits, TransferTls
from agent.transfer.wire import monotonic_ms

MIB: Final = 1024 * 1024
SIZE: Final = 3_000_000
DATA: Final = random.Random(7).randbytes(SIZE)
SMALL: Final = DATA[:10_000]


@dataclass
class Client:
    """``slept`` and ``paused`` tell what it would have done."""

    resumes_max: int = 3
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 5.0
    max_size_bytes: int = 10 * MIB
    redirects_max: int = 3
    max_bytes_per_s: int = 0
    tls: TransferTls | None = None
    schemes: frozenset[str] = frozenset({"http", "https"})
    cancelled: Callable[[], bool] = lambda: False
    clock_ms: Callable[[], int] = monotonic_ms
    slept: list[float] = field(default_factory=list)
    paused: list[bool] = field(default_factory=list)

    def open(self, url: str) -> RemoteFile:
        limits = TransferLimits(
            max_size_bytes=self.max_size_bytes,
            max_bytes_per_s=self.max_bytes_per_s,
            connect_timeout_s=self.connect_timeout_s,
            read_timeout_s=self.read_timeout_s,
            redirects_max=self.redirects_max,
            resumes_max=self.resumes_max,
        )
        return open_remote(
            url,
            limits,
            self.tls,
            schemes=self.schemes,
            on_pause=self.paused.append,
            cancelled=self.cancelled,
            clock_ms=self.clock_ms,
            sleep=self.slept.append,
        )

    def refusal(self, url: str) -> SourceLost:
        """Why the file cannot be read to its end."""
        with pytest.raises(SourceLost) as lost, self.open(url) as file:
            file.read(0, file.size)
        return lost.value


class Time:
    """Moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.sleeps: list[float] = []

    def clock_ms(self) -> int:
        return int(self.now_ms)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps.append(seconds)
        self.now_ms += seconds * 1000


def ranges(server: FileServer) -> list[str | None]:
    """What each request asked for."""
    return [each.headers.get("range") for each in server.requests]
