"""A disk that loses power: what a ledger's files may look like afterwards, at any instant.

Charter: records every write, truncation and sync that SQLite makes for the product's own statements,
then builds the files as a power cut may leave them. What was synced is there. Of the rest, any subset of
512-byte sectors is, in any order: a disk may reorder and tear what nobody told it to flush. A file's
name is durable at once: SQLite syncs the directory itself, and what is under test makes no new names.

Locks are exclusive, since a file system written in Python offers no shared memory for the WAL.

Sources: metering reference 4.1, 4.7; apsw documentation (vfs.html).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw

from agent.ledger import database

SECTOR_BYTES: Final = 512
_CHANCES: Final = (0.0, 0.1, 0.5, 0.5, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Write:
    suffix: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    suffix: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    suffix: str


@dataclass(frozen=True, slots=True)
class Delete:
    suffix: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Not the disk's: the workload has begun (``acknowledged`` False) or ended its step ``number``."""

    number: int
    acknowledged: bool


Event = Write | Truncate | Sync | Delete | Mark


class Recorder(apsw.VFS):
    """Passes all on to the real file system and remembers it. Files are named by their suffixes."""

    def __init__(self, path: Path) -> None:
        self.events: list[Event] = []
        self._path = str(path)
        self.name = f"recorder-{id(self)}"
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        file = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _File(self, file.removeprefix(self._path), name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.events.append(Delete(filename.removeprefix(self._path)))
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, recorder: Recorder, suffix: str, name: Any, flags: list[int]) -> None:
        self._events = recorder.events
        self._suffix = suffix
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._events.append(Write(self._suffix, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._events.append(Truncate(self._suffix, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._events.append(Sync(self._suffix))  # the real disk need not: this process goes on living


class Recording:
    """The ledger at ``path``, opened for the product's statements on a recorded disk."""

    def __init__(self, path: Path, synchronous: str | None = None) -> None:
        self._recorder = Recorder(path)
        self.start = {suffix: path.with_name(path.name + suffix).read_bytes() for suffix in ("",)}
        self.connection = apsw.Connection(str(path), vfs=self._recorder.name)
        self.connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.apply_settings(self.connection, writing=True)
        if synchronous is not None:
            self.connection.execute(f"PRAGMA synchronous = {synchronous}")

    def mark(self, number: int, acknowledged: bool) -> None:
        self._recorder.events.append(Mark(number, acknowledged))

    def close(self) -> list[Event]:
        """All that was recorded until here; closing itself is not a part of it."""
        events = list(self._recorder.events)
        self.connection.close()
        self._recorder.unregister()
        return events


@dataclass(slots=True)
class _Disk:
    """One file: what is surely on the disk, and what may be."""

    durable: bytearray
    pending: list[Write | Truncate] = field(default_factory=list)

    def flush(self) -> None:
        for event in self.pending:
            _apply(self.durable, event)
        self.pending.clear()

    def image(self, chance: random.Random) -> bytes:
        content = bytearray(self.durable)
        kept = chance.choice(_CHANCES)
        for event in self.pending:
            for piece in _sectors(event):
                if chance.random() < kept:
                    _apply(content, piece)
        return bytes(content)


@dataclass(frozen=True, slots=True)
class Image:
    """Files after a power cut. ``acknowledged`` and ``begun`` are numbers of the workload's steps."""

    at_event: int
    files: dict[str, bytes]
    acknowledged: int
    begun: int

    def write(self, path: Path) -> None:
        for file in path.parent.iterdir():
            file.unlink()
        for suffix, content in self.files.items():
            path.with_name(path.name + suffix).write_bytes(content)


def images(
    start: dict[str, bytes], events: Sequence[Event], chance: random.Random, every: int, subsets: int
) -> Iterator[Image]:
    """``subsets`` images for each ``every``-th thing that happened to the disk."""
    disks = {suffix: _Disk(bytearray(content)) for suffix, content in start.items()}
    acknowledged = begun = 0
    phase = chance.randrange(every)
    for index, event in enumerate(events):
        match event:
            case Mark(number, True):
                acknowledged = number
            case Mark(number, False):
                begun = number
            case Sync(suffix):
                disks.setdefault(suffix, _Disk(bytearray())).flush()
            case Delete(suffix):
                disks.pop(suffix, None)
            case Write(suffix) | Truncate(suffix):
                disks.setdefault(suffix, _Disk(bytearray())).pending.append(event)
        if index % every == phase:
            for _ in range(subsets):
                files = {suffix: disk.image(chance) for suffix, disk in disks.items()}
                yield Image(index, files, acknowledged, begun)


def _sectors(event: Write | Truncate) -> Iterator[Write | Truncate]:
    if isinstance(event, Truncate):
        yield event
        return
    at = 0
    while at < len(event.data):
        offset = event.offset + at
        size = SECTOR_BYTES - offset % SECTOR_BYTES
        yield Write(event.suffix, offset, event.data[at : at + size])
        at += size


def _apply(content: bytearray, event: Write | Truncate) -> None:
    if isinstance(event, Truncate):
        del content[event.size :]
        return
    if len(content) < event.offset:
        content.extend(bytes(event.offset - len(content)))
    content[event.offset : event.offset + len(event.data)] = event.data
