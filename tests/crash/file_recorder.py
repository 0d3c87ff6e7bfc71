"""A directory of plain files that loses power: what it may look like afterwards, at any instant.

Charter: records what a program does to the files of one directory through the functions of ``os``, then
builds the directories that a power cut may leave. Sure is only what was synced: a file's content, size,
space and mode by the sync of the file, the names by the sync of the directory. Of the rest any subset is
there: writes torn at 512 bytes, space allocated in part, a size without its data, a mode not yet set; and
of every name, whatever it stood for since the last sync, independently of all others (a file system with
a journal loses less). A rename puts the new file in the old one's place or does not; nothing between.

Writes that go round the patched functions (``io.open``) would be missed: every run ends with a comparison
of the recording with the real directory.

Sources: metering reference 4.7; POSIX.1-2017 fsync, rename; power_loss.py does the same for SQLite.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import stat
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar

import pytest

SECTOR_BYTES: Final = 512
BLOCK_BYTES: Final = 4_096
_CHANCES: Final = (0.0, 0.1, 0.5, 0.5, 0.9, 1.0)

T = TypeVar("T", bound=Hashable)
StrPath = str | os.PathLike[str]
FileId = int
Careless = Literal["file", "directory", "mode"]
"""Syncs of files or of the directory do nothing, or files are made with rights for all."""


class Killed(BaseException):
    """The process ends here, with no power cut: what it did stays."""


# ------------------------------------------------------------------------------------------- what happened


@dataclass(frozen=True, slots=True)
class Data:
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Space:
    block: int


@dataclass(frozen=True, slots=True)
class Size:
    size: int


@dataclass(frozen=True, slots=True)
class Cut:
    size: int


@dataclass(frozen=True, slots=True)
class Mode:
    mode: int


Piece = Data | Space | Size | Cut | Mode


@dataclass(frozen=True, slots=True)
class Change:
    """The pieces may reach the disk one without the other."""

    file: FileId
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Names:
    changes: tuple[tuple[str, FileId | None], ...]


@dataclass(frozen=True, slots=True)
class Sync:
    """``file`` None: the directory."""

    file: FileId | None


@dataclass(frozen=True, slots=True)
class Returned(Generic[T]):
    """The program told its caller; from here on the world may know."""

    value: T


Event = Change | Names | Sync | Returned[T]


# ---------------------------------------------------------------------------------------------- the disk


@dataclass(slots=True)
class _State:
    mode: int
    size: int = 0
    content: bytearray = field(default_factory=bytearray)
    blocks: set[int] = field(default_factory=set)

    def copy(self) -> _State:
        return _State(self.mode, self.size, bytearray(self.content), set(self.blocks))

    def apply(self, piece: Piece) -> None:
        match piece:
            case Data(offset, data):
                self.content.extend(bytes(max(0, offset - len(self.content))))
                self.content[offset : offset + len(data)] = data
                self.blocks.add(offset // BLOCK_BYTES)
            case Space(block):
                self.blocks.add(block)
            case Size(size):
                self.size = size
            case Cut(size):
                self.size = size
                del self.content[size:]
                self.blocks = {block for block in self.blocks if block * BLOCK_BYTES < size}
            case Mode(mode):
                self.mode = mode


@dataclass(slots=True)
class _File:
    """``durable`` is surely on the disk, ``pending`` may be."""

    durable: _State
    pending: list[Piece] = field(default_factory=list)

    def flush(self) -> _State:
        for piece in self.pending:
            self.durable.apply(piece)
        self.pending.clear()
        return self.durable

    def image(self, chance: random.Random) -> _State:
        state = self.durable.copy()
        kept = chance.choice(_CHANCES)
        for piece in self.pending:
            if chance.random() < kept:
                state.apply(piece)
        return state


@dataclass(frozen=True, slots=True)
class Stored:
    """A file after the power cut, under all of its names. ``blocks`` of it have space, the rest are holes."""

    names: tuple[str, ...]
    content: bytes
    blocks: frozenset[int]
    mode: int

    def write(self, directory: Path) -> None:
        first, *others = (directory / name for name in self.names)
        file = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(file, len(self.content))
            for at in (block * BLOCK_BYTES for block in self.blocks):
                piece = self.content[at : at + BLOCK_BYTES]
                os.posix_fallocate(file, at, len(piece))
                os.pwrite(file, piece, at)
            os.fchmod(file, self.mode)
        finally:
            os.close(file)
        for other in others:
            other.hardlink_to(first)


@dataclass(frozen=True, slots=True)
class Image(Generic[T]):
    """A directory after a power cut. ``returned`` is what the program had told its caller, if anything."""

    files: tuple[Stored, ...]
    returned: T | None

    def write(self, directory: Path) -> None:
        for file in directory.iterdir():
            file.unlink()
        for stored in self.files:
            stored.write(directory)


# ---------------------------------------------------------------------------------------------- recording


class Recorder(Generic[T]):
    """Runs programs on ``directory`` and remembers what they did to it. What is there already is durable.

    ``write_bytes``: the most that one ``os.write`` takes. ``returned``: by a program that ran before."""

    def __init__(
        self,
        directory: Path,
        careless: Careless | None = None,
        write_bytes: int = 1 << 30,
        returned: T | None = None,
    ) -> None:
        self._directory = directory
        self._careless = careless
        self._write_bytes = write_bytes
        self._events: list[Event[T]] = [] if returned is None else [Returned(returned)]
        self._start: list[_State] = []  # of every file, also of those made later: as they were made
        self._names: dict[str, FileId] = {}
        self._descriptors: dict[int, FileId | None] = {}  # None: the directory itself
        self._steps_left = -1
        for path in sorted(directory.iterdir()):
            content, mode = _look(path)
            blocks = set(range(-(-len(content) // BLOCK_BYTES)))
            self._names[path.name] = len(self._start)
            self._start.append(_State(mode, len(content), bytearray(content), blocks))
        self._start_names = dict(self._names)

    def run(self, program: Callable[[], T], killed_after: int = -1) -> T | None:
        """What it returned; None if it was killed after so many steps on the directory."""
        self._steps_left = killed_after
        value = None
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            for name in _FUNCTIONS:
                patch.setattr(os, name, functools.partial(getattr(self, f"_{name}"), getattr(os, name)))
            value = program()
            self._events.append(Returned(value))
        assert not self._descriptors, "a file was left open"
        self._compare()
        return value

    def images(self, chance: random.Random, subsets: int) -> Iterator[Image[T]]:
        """What a power cut at any instant may leave, each image once: ``subsets`` of what was not synced in
        the files, for every set of names."""
        files = [_File(state.copy()) for state in self._start]
        names: dict[str, list[FileId | None]] = {name: [file] for name, file in self._start_names.items()}
        returned: T | None = None
        seen: set[Image[T]] = set()
        for event in (None, *self._events):
            match event:
                case Change(file, pieces):
                    files[file].pending.extend(pieces)
                case Names(changes):
                    for name, now in changes:
                        names.setdefault(name, [None]).append(now)
                case Sync(None):
                    names = {name: [stood_for[-1]] for name, stood_for in names.items()}
                case Sync(int(file)):
                    files[file].flush()
                case Returned(value):
                    returned = value
            for chosen in itertools.product(*map(dict.fromkeys, names.values())):
                there = {name: file for name, file in zip(names, chosen, strict=True) if file is not None}
                for _ in range(subsets):
                    image = Image(_stored(there, files, lambda file: file.image(chance)), returned)
                    if image not in seen:
                        seen.add(image)
                        yield image

    def _compare(self) -> None:
        """The recording must account for all that is in the directory."""
        files = [_File(state.copy()) for state in self._start]
        for event in self._events:
            if isinstance(event, Change):
                files[event.file].pending.extend(event.pieces)
        recorded = _stored(self._names, files, _File.flush)
        found = {path.name: _look(path) for path in self._directory.iterdir()}
        assert found == {name: (file.content, file.mode) for file in recorded for name in file.names}

    def _step(self) -> None:
        if self._steps_left == 0:
            raise Killed
        self._steps_left -= 1

    def _name(self, path: StrPath) -> str:
        assert Path(path).parent == self._directory, path
        return Path(path).name

    def _change(self, descriptor: int, *pieces: Piece) -> None:
        file = self._descriptors[descriptor]
        assert file is not None
        self._events.append(Change(file, pieces))

    def _point(self, *changes: tuple[str, FileId | None]) -> None:
        self._events.append(Names(changes))
        for name, file in changes:
            self._names.pop(name, None)
            if file is not None:
                self._names[name] = file

    # Each in place of the function of this name.

    def _open(self, real: Callable[..., int], path: StrPath, flags: int, mode: int = 0o777) -> int:
        if Path(path) == self._directory:
            descriptor = real(path, flags)
            self._descriptors[descriptor] = None
            return descriptor
        if Path(path).parent != self._directory:
            return real(path, flags, mode)
        if flags & (os.O_CREAT | os.O_TRUNC):
            self._step()
        descriptor = real(path, flags, 0o666 if self._careless == "mode" else mode)
        name = self._name(path)
        if name not in self._names:
            self._start.append(_State(stat.S_IMODE(os.fstat(descriptor).st_mode)))
            self._point((name, len(self._start) - 1))
        self._descriptors[descriptor] = self._names[name]
        if flags & os.O_TRUNC:
            self._change(descriptor, Cut(0))
        return descriptor

    def _close(self, real: Callable[..., None], descriptor: int) -> None:
        self._descriptors.pop(descriptor, None)
        real(descriptor)

    def _write(self, real: Callable[..., int], descriptor: int, data: bytes) -> int:
        self._step()
        offset = os.lseek(descriptor, 0, os.SEEK_CUR)
        written = real(descriptor, data[: self._write_bytes])
        self._change(descriptor, *_sectors(offset, data[:written]), Size(os.fstat(descriptor).st_size))
        return written

    def _ftruncate(self, real: Callable[..., None], descriptor: int, size: int) -> None:
        self._step()
        real(descriptor, size)
        self._change(descriptor, Cut(size))

    def _posix_fallocate(self, real: Callable[..., None], descriptor: int, offset: int, size: int) -> None:
        self._step()
        real(descriptor, offset, size)
        blocks = range(offset // BLOCK_BYTES, -(-(offset + size) // BLOCK_BYTES))
        self._change(descriptor, *map(Space, blocks), Size(os.fstat(descriptor).st_size))

    def _fchmod(self, real: Callable[..., None], descriptor: int, mode: int) -> None:
        self._step()
        real(descriptor, mode)
        self._change(descriptor, Mode(mode))

    def _chmod(self, real: Callable[..., None], path: StrPath, mode: int, *, follow_symlinks: bool = True) -> None:
        self._step()
        real(path, mode)
        self._events.append(Change(self._names[self._name(path)], (Mode(mode),)))

    def _fsync(self, real: Callable[..., None], descriptor: int) -> None:
        self._step()
        file = self._descriptors[descriptor]
        if self._careless != ("directory" if file is None else "file"):
            self._events.append(Sync(file))  # the real disk need not: this process goes on living

    def _rename(self, real: Callable[..., None], source: StrPath, target: StrPath) -> None:
        self._step()
        real(source, target)
        old, new = self._name(source), self._name(target)
        self._point((new, self._names[old]), (old, None))

    _replace = _rename

    def _link(self, real: Callable[..., None], source: StrPath, target: StrPath) -> None:
        self._step()
        real(source, target)
        self._point((self._name(target), self._names[self._name(source)]))

    def _unlink(self, real: Callable[..., None], path: StrPath) -> None:
        self._step()
        real(path)
        self._point((self._name(path), None))


_FUNCTIONS: Final = (
    *("open", "close", "write", "ftruncate", "posix_fallocate", "fchmod", "chmod", "fsync"),
    *("rename", "replace", "link", "unlink"),
)


def _look(path: Path) -> tuple[bytes, int]:
    """Content and mode, also if the mode forbids to read."""
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o600)
    content = path.read_bytes()
    path.chmod(mode)
    return content, mode


def _sectors(offset: int, data: bytes) -> Iterator[Data]:
    at = 0
    while at < len(data):
        size = SECTOR_BYTES - (offset + at) % SECTOR_BYTES
        yield Data(offset + at, data[at : at + size])
        at += size


def _stored(
    names: dict[str, FileId], files: Sequence[_File], state_of: Callable[[_File], _State]
) -> tuple[Stored, ...]:
    """The files that have a name, each once."""
    found = []
    for file in dict.fromkeys(names.values()):
        state = state_of(files[file])
        content = bytes(state.content[: state.size]).ljust(state.size, b"\0")
        blocks = frozenset(block for block in state.blocks if block * BLOCK_BYTES < state.size)
        found.append(Stored(tuple(name for name in names if names[name] == file), content, blocks, state.mode))
    return tuple(found)
