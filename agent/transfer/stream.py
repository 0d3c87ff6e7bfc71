"""What a file from elsewhere is made of: streams that begin at an offset, and who opens them.

Charter: the contract between ``remote`` and the three ways to a file. Offsets and sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from agent.firmware.errors import SourceLost

CHANGED: Final = "the file changed while it was downloaded"


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one version of a file from another, as far as the server says it; ``""`` where it does not.

    ``tag`` changes with every byte (a strong ETag); ``modified`` is a time as the server writes it.
    """

    size: int
    tag: str = ""
    modified: str = ""

    def may_be(self, other: Identity) -> bool:
        """Whether nothing that both say differs. A tag is worth more than a time: times differ between mirrors."""
        if self.size != other.size:
            return False
        if self.tag and other.tag:
            return self.tag == other.tag
        return not (self.modified and other.modified) or self.modified == other.modified


class Stream(Protocol):
    """Bytes of a file from ``start`` on, until it ends or breaks."""

    start: int
    identity: Identity

    def read(self, max_bytes: int) -> bytes:
        """1 to ``max_bytes`` bytes; none when the stream ended, wherever. Raises ``SourceLost``."""
        ...

    def close(self) -> None: ...


class Opener(Protocol):
    """One way to one file."""

    def open(self, offset: int, known: Identity | None) -> Stream:
        """A stream that starts at ``offset``, or at 0 where the server cannot do better. ``known``: what an earlier
        stream told; the stream may still be one of another version. Raises ``SourceLost``."""
        ...


class TryLater(SourceLost):
    """The server asks to be left alone for ``wait_s`` seconds."""

    def __init__(self, why: str, wait_s: int) -> None:
        super().__init__(why, retryable=True)
        self.wait_s = wait_s
