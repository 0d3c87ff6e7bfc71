"""A disk in memory that loses power: ``agent.firmware.storage.Storage`` with counted steps.

Charter: every step that changes something (write, sync, name) is counted; at step ``cut_before`` the power fails
(``PowerCut``), and every later step fails as well. ``after_cut`` gives the disk as the next boot may find it. What was
synced is there. Of the rest nothing is there (DROPPED), everything (KEPT), or any 512-byte sectors in any of their
versions (MIXED): a disk may reorder and tear what nobody told it to flush.

Names: in a journalling folder (ext4) unsynced changes of names survive as a prefix of what was done, and a rename is
one change. In a FAT folder each is two directory entries that survive or not on their own: both names, or neither.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.firmware.storage import Kind

SECTOR_BYTES: Final = 512


class PowerCut(BaseException):
    """Not an ``Exception``: no handler of the product may catch it, as none catches a real one."""


class Fate(enum.Enum):
    """What becomes of unsynced changes."""

    DROPPED = "dropped"
    KEPT = "kept"
    MIXED = "mixed"


@dataclass(slots=True)
class _Node:
    """One file's content: ``durable`` on the medium, ``live`` as programs see it, ``writes`` between the two."""

    durable: bytes
    live: bytearray
    fixed: bool = False  # a block device: cannot grow
    writes: list[tuple[int, bytes]] = field(default_factory=list)

    def survive(self, fate: Fate, chance: random.Random) -> bytes:
        if fate is Fate.DROPPED:
            return self.durable
        if fate is Fate.KEPT or not self.writes:
            return bytes(self.live)
        # The size is one of those that were; each sector holds what any moment left in it.
        content = bytearray(self.durable)
        versions: dict[int, list[bytes]] = {}
        sizes = [len(content)]
        for offset, data in self.writes:
            if len(content) < offset + len(data):
                content.extend(bytes(offset + len(data) - len(content)))
            content[offset : offset + len(data)] = data
            sizes.append(len(content))
            for sector in range(offset // SECTOR_BYTES, -(-(offset + len(data)) // SECTOR_BYTES)):
                start = sector * SECTOR_BYTES
                old = self.durable[start : start + SECTOR_BYTES].ljust(SECTOR_BYTES, b"\0")
                versions.setdefault(sector, [old]).append(
                    bytes(content[start : start + SECTOR_BYTES]).ljust(SECTOR_BYTES, b"\0")
                )
        for sector, contents in versions.items():
            start = sector * SECTOR_BYTES
            content[start : start + SECTOR_BYTES] = chance.choice(contents)[: len(content) - start]
        return bytes(content[: chance.choice(sizes)])


@dataclass(slots=True)
class _Names:
    """Who is called what. A change is a list of (path, node or None) that happens at once."""

    durable: dict[Path, _Node]
    live: dict[Path, _Node]
    pending: list[tuple[tuple[Path, _Node | None], ...]] = field(default_factory=list)


class PowerDisk:
    """See the module. ``fat``: folders that are FAT file systems; all others keep a journal."""

    def __init__(self, fat: Iterable[Path] = ()) -> None:
        self.steps = 0
        self.cut_before: int | None = None
        self.log: list[str] = []
        self._fat = frozenset(fat)
        self._names = _Names({}, {})
        self._folders: set[Path] = set(self._fat)
        self._dead = False

    # ------------------------------------------------------------------------------------ for tests

    def put(self, path: Path, content: bytes, *, device: bool = False) -> None:
        """A file or block device that has always been there."""
        node = _Node(bytes(content), bytearray(content), fixed=device)
        self._names.durable[path] = self._names.live[path] = node
        self._folders.update(path.parents)

    def content(self, path: Path) -> bytes:
        """What programs see."""
        return bytes(self._names.live[path].live)

    def paths(self) -> list[Path]:
        return sorted(self._names.live)

    def after_cut(self, fate: Fate, chance: random.Random) -> PowerDisk:
        """The disk as the next boot finds it: running, nothing pending, steps counted from 0."""
        found = PowerDisk(self._fat)
        found._folders = set(self._folders)
        contents: dict[int, bytes] = {}
        for path, node in self._surviving_names(fate, chance).items():
            content = contents.setdefault(id(node), node.survive(fate, chance))
            found.put(path, content, device=node.fixed)
        return found

    def _surviving_names(self, fate: Fate, chance: random.Random) -> dict[Path, _Node]:
        names = dict(self._names.durable)
        if fate is Fate.DROPPED:
            return names
        journalled = [change for change in self._names.pending if not self._on_fat(change)]
        kept = len(journalled) if fate is Fate.KEPT else chance.randint(0, len(journalled))
        for change in self._names.pending:
            if self._on_fat(change):
                pieces = [piece for piece in change if fate is Fate.KEPT or chance.random() < 0.5]
            else:
                pieces = list(change) if kept > 0 else []
                kept -= 1
            for path, node in pieces:
                names.pop(path, None)
                if node is not None:
                    names[path] = node
        return names

    def _on_fat(self, change: tuple[tuple[Path, _Node | None], ...]) -> bool:
        return any(folder in self._fat for path, _ in change for folder in path.parents)

    # ------------------------------------------------------------------------------------- Storage

    def open(
        self, path: Path, *, writable: bool = False, uncached: bool = False, exclusive: bool = False
    ) -> _PowerFile:
        self._alive()
        if path not in self._names.live:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return _PowerFile(self, self._names.live[path], path, writable=writable)

    def create(self, path: Path, mode: int = 0o600) -> _PowerFile:
        if path in self._names.live:
            raise FileExistsError(17, "File exists", str(path))
        if path.parent not in self._folders:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        self._step(f"create {path}")
        node = _Node(b"", bytearray())
        self._names.live[path] = node
        self._names.pending.append(((path, node),))
        return _PowerFile(self, node, path, writable=True)

    def names(self, folder: Path) -> list[str]:
        self._alive()
        if folder not in self._folders:
            raise FileNotFoundError(2, "No such file or directory", str(folder))
        below = [path for path in {*self._names.live, *self._folders} if folder in path.parents]
        return sorted({path.relative_to(folder).parts[0] for path in below})

    def kind(self, path: Path) -> Kind | None:
        self._alive()
        if path in self._folders:
            return Kind.FOLDER
        return Kind.FILE if path in self._names.live else None

    def rename(self, old: Path, new: Path) -> None:
        if old not in self._names.live:
            raise FileNotFoundError(2, "No such file or directory", str(old))
        self._step(f"rename {old} {new}")
        node = self._names.live.pop(old)
        self._names.live[new] = node
        self._names.pending.append(((new, node), (old, None)))

    def remove(self, path: Path) -> None:
        if path not in self._names.live:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        self._step(f"remove {path}")
        del self._names.live[path]
        self._names.pending.append(((path, None),))

    def make_folder(self, path: Path) -> None:
        self._alive()
        self._folders.add(path)  # folders are kept simple: there at once

    def remove_folder(self, path: Path) -> None:
        if path not in self._folders:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        if self.names(path):
            raise OSError(39, "Directory not empty", str(path))
        self._step(f"remove_folder {path}")
        self._folders.discard(path)  # gone at once, with all names that were removed from it
        self._make_durable(path)

    def sync_folder(self, folder: Path) -> None:
        self._step(f"sync_folder {folder}")
        self._make_durable(folder)

    def free_bytes(self, folder: Path) -> int:
        return 1 << 40

    def _make_durable(self, folder: Path) -> None:
        left = []
        for change in self._names.pending:
            if all(path.parent != folder for path, _ in change):
                left.append(change)
                continue
            for path, node in change:
                self._names.durable.pop(path, None)
                if node is not None:
                    self._names.durable[path] = node
        self._names.pending = left

    # ------------------------------------------------------------------------------------ in common

    def _alive(self) -> None:
        if self._dead:
            raise PowerCut("no power")

    def _step(self, what: str) -> None:
        self._alive()
        if self.cut_before is not None and self.steps >= self.cut_before:
            self._dead = True
            raise PowerCut(f"before step {self.steps}: {what}")
        self.steps += 1
        self.log.append(what)


class _PowerFile:
    """See ``agent.firmware.storage.StoredFile``."""

    def __init__(self, disk: PowerDisk, node: _Node, path: Path, *, writable: bool) -> None:
        self._disk = disk
        self._node = node
        self._path = path
        self._writable = writable

    @property
    def size(self) -> int:
        return len(self._node.live)

    @size.setter
    def size(self, value: int) -> None:
        raise AssertionError("nobody sets a size")

    def read(self, offset: int, length: int) -> bytes:
        self._disk._alive()
        return bytes(self._node.live[offset : offset + length])

    def write(self, offset: int, data: bytes | memoryview) -> None:
        if not self._writable:
            raise OSError(9, "Bad file descriptor", str(self._path))
        if self._node.fixed and offset + len(data) > self.size:
            raise OSError(28, "No space left on device", str(self._path))
        self._disk._step(f"write {self._path} {offset}+{len(data)}")
        if self.size < offset + len(data):
            self._node.live.extend(bytes(offset + len(data) - self.size))
        self._node.live[offset : offset + len(data)] = data
        self._node.writes.append((offset, bytes(data)))

    def sync(self) -> None:
        self._disk._step(f"sync {self._path}")
        self._node.durable = bytes(self._node.live)
        self._node.writes.clear()

    def close(self) -> None:
        pass
