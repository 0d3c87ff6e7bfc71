"""Bundles and devices for tests of the native engine.

Charter: ``image``, ``files`` and ``mcu`` say what goes in, ``bundle`` gives manifest and file, with bytes that are not
zero in head and padding so that a hash over the file must see them. Nothing is signed: the engine gets manifests that
were judged. ``World`` is a device with two slots, on a ``PowerDisk`` or on real files.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from zstandard import ZstdCompressor

from agent.firmware.engines.native import HashOverFile, NativeEngine
from agent.firmware.errors import SourceLost
from agent.firmware.manifest import (
    ALIGN_BYTES,
    Chunk,
    Compression,
    FileEntry,
    Manifest,
    Payload,
    PayloadType,
    Requires,
)
from agent.firmware.ports import Progress
from agent.firmware.storage import Storage, opened
from tests.support.power_disk import PowerDisk

CHUNK: Final = 4096
HEAD_BYTES: Final = 3 * ALIGN_BYTES
ZSTD: Final = Compression.ZSTD

Part = Callable[[int], tuple[Payload, bytes]]
"""Given its offset in the file: the payload, and its stored bytes."""


def open_files() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def changed(content: bytes, *indices: int) -> bytes:
    """The same image with other bytes in some chunks."""
    pieces = bytearray(content)
    for index in indices:
        pieces[index * CHUNK] ^= 0xFF
    return bytes(pieces)


def _payload(
    kind: PayloadType,
    target: str,
    content: bytes,
    compression: Compression = Compression.NONE,
    chunk_size: int = CHUNK,
    entries: tuple[FileEntry, ...] = (),
    version: str = "",
) -> Part:
    pieces = [content[at : at + chunk_size] for at in range(0, len(content), chunk_size)]
    stored = pieces if compression is Compression.NONE else [ZstdCompressor().compress(piece) for piece in pieces]
    chunks = tuple(
        Chunk(hashlib.sha256(piece).digest(), len(kept), hashlib.sha256(kept).digest())
        for piece, kept in zip(pieces, stored, strict=True)
    )

    def at(offset: int) -> tuple[Payload, bytes]:
        name = f"{target}-{kind}"
        payload = Payload(name, kind, target, offset, len(content), chunk_size, compression, chunks, entries, version)
        return payload, b"".join(stored)

    return at


def image(
    content: bytes, target: str = "root", compression: Compression = Compression.NONE, chunk_size: int = CHUNK
) -> Part:
    return _payload(PayloadType.SLOT_IMAGE, target, content, compression, chunk_size)


def files(tree: Mapping[str, bytes], compression: Compression = Compression.NONE, mode: int = 0o644) -> Part:
    entries, offset = [], 0
    for path, content in tree.items():
        entries.append(FileEntry(path, offset, len(content), mode))
        offset += len(content)
    return _payload(PayloadType.FILES, "boot", b"".join(tree.values()), compression, entries=tuple(entries))


def mcu(content: bytes, version: str) -> Part:
    return _payload(PayloadType.MCU_FIRMWARE, "pilot", content, version=version)


def bundle(*parts: Part) -> tuple[Manifest, bytes]:
    data, payloads = bytearray(noise(1, HEAD_BYTES)), []
    for part in parts:
        data += noise(2, -len(data) % ALIGN_BYTES)
        payload, stored = part(len(data))
        payloads.append(payload)
        data += stored
    digest = hashlib.sha256(repr(payloads).encode()).digest()
    manifest = Manifest(("x",), 0, 9, "2.0", 1, 0, Requires(), tuple(payloads), digest, len(data))
    return manifest, bytes(data)


class BytesSource:
    """A file in memory; ``lost_after`` that many reads the link is gone."""

    def __init__(self, data: bytes, lost_after: int | None = None) -> None:
        self.data, self.size, self.left = data, len(data), lost_after
        self.fetched_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        assert 0 < length < 8 * 1024 * 1024
        if self.left == 0:
            raise SourceLost("the link is gone", retryable=True)
        if self.left is not None:
            self.left -= 1
        self.fetched_bytes += length
        return self.data[offset : offset + length]


@dataclass(slots=True)
class Outcome:
    """What one ``write`` did."""

    fetched_bytes: int
    told: list[Progress] = field(default_factory=list)
    digest: bytes | None = None

    @property
    def written_bytes(self) -> int:
        return self.told[-1].written_bytes


class World:
    """A device with slots a and b. ``root``: everything of it is below."""

    def __init__(self, storage: Storage, root: Path, slot_bytes: int = 16 * CHUNK) -> None:
        self.storage, self.root = storage, root
        self.slots = {slot: root / "dev" / f"root-{slot}" for slot in "ab"}
        self.index, self.boot, self.pilot = root / "data" / "index", root / "boot" / "slots", root / "data" / "pilot"
        for number, path in enumerate(self.slots.values()):
            self.put(path, noise(100 + number, slot_bytes))
        for path in (self.index, self.boot):
            self.put(path.parent / "there", b"")

    @property
    def engine(self) -> NativeEngine:
        """A fresh one, as after a start."""
        return NativeEngine(self.storage, {"root": self.slots}, {"boot": self.boot}, {"pilot": self.pilot}, self.index)

    def after_cut(self, disk: PowerDisk) -> World:
        """The same device, with that disk."""
        found = object.__new__(World)
        found.storage, found.root, found.slots = disk, self.root, self.slots
        found.index, found.boot, found.pilot = self.index, self.boot, self.pilot
        return found

    def put(self, path: Path, content: bytes) -> None:
        if isinstance(self.storage, PowerDisk):
            self.storage.put(path, content, device=path in self.slots.values())
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def content(self, path: Path) -> bytes:
        with opened(self.storage.open(path)) as file:
            return file.read(0, file.size)

    def install(
        self,
        made: tuple[Manifest, bytes],
        slot: str = "b",
        *,
        whole: bool = False,
        source: BytesSource | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Outcome:
        manifest, data = made
        source = source or BytesSource(data)
        outcome = Outcome(0)
        hashed = HashOverFile() if whole else None

        def listen(progress: Progress) -> None:
            outcome.told.append(progress)
            if on_progress is not None:
                on_progress(progress)

        other = "b" if slot == "a" else "a"
        self.engine.write(manifest, source, slot, other, whole_file=hashed, on_progress=listen)
        outcome.fetched_bytes = source.fetched_bytes
        outcome.digest = hashed.digest() if hashed else None
        return outcome

    def read_back(self, made: tuple[Manifest, bytes], slot: str = "b") -> None:
        self.engine.read_back(made[0], slot, on_progress=lambda progress: None)

    def looks_whole(self, made: tuple[Manifest, bytes], slot: str = "b") -> bool:
        """Every chunk of the image is right, as a boot loader cannot tell."""
        (payload,) = (each for each in made[0].payloads if each.type is PayloadType.SLOT_IMAGE)
        return all(right_chunks(payload, self.content(self.slots[slot])))


def right_chunks(payload: Payload, content: bytes) -> Sequence[bool]:
    """Of each chunk, whether it stands in ``content``."""
    size = payload.chunk_size
    pieces = (content[at * size : at * size + payload.chunk_length(at)] for at in range(len(payload.chunks)))
    return [hashlib.sha256(piece).digest() == chunk.sha256 for piece, chunk in zip(pieces, payload.chunks, strict=True)]
