"""Make a bundle from images and folders. Maker's desk only, never on a charger.

Charter: streams sources once into a spool beside the output, then knows every hash and offset, writes header, manifest
and an empty signature area, and appends the spool. Memory: one chunk and the chunk tables. Deterministic: the same
description and sources give the same bytes (with the same zstd library, where compressed). What was made is parsed by
the device's own parser before it gets its name. Signing is ``sign``.
Sizes are bytes. Source: ``docs/bundle-format.md``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from agent.firmware.bundle.layout import FORMAT_VERSION, HEADER_BYTES, Header, align_up, parse_header
from agent.firmware.bundle.parse import parse_manifest
from agent.firmware.bundle.signatures import encode_signatures
from agent.firmware.manifest import CHUNK_BYTES_DEFAULT, Compression, Manifest, PayloadType, Requires

SIGNATURE_AREA_BYTES: Final = 64 * 1024
"""Room that every new bundle has for signatures: eight with ordinary chains."""
ZSTD_LEVEL: Final = 12
_EXECUTABLE: Final = 0o755
_PLAIN: Final = 0o644

OnMade = Callable[[int, int], None]
"""Content bytes done, and of how many."""


class NotMade(Exception):
    """A bundle cannot be made or signed: ``what`` names the file or part, ``remedy`` what to do."""

    def __init__(self, what: str, why: str, remedy: str = "") -> None:
        super().__init__(f"{what}: {why}" + (f"; {remedy}" if remedy else ""))
        self.what, self.why, self.remedy = what, why, remedy


@dataclass(frozen=True, slots=True)
class PayloadPlan:
    """``source``: a file; for ``files`` a folder, whose files keep their relative paths. ``version``: of a
    microcontroller's firmware."""

    name: str
    type: PayloadType
    target: str
    source: Path
    chunk_size: int = CHUNK_BYTES_DEFAULT
    compression: Compression = Compression.ZSTD
    version: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """What a bundle shall say of itself; the fields are those of ``Manifest``."""

    compatible: tuple[str, ...]
    hardware_min: int
    hardware_max: int
    version: str
    security_epoch: int
    built_ms: int
    payloads: tuple[PayloadPlan, ...]
    requires: Requires


def create(description: Description, out: Path, progress: OnMade | None = None) -> Manifest:
    """Write the unsigned bundle ``out`` and return its manifest. Raises ``NotMade``, ``UpdateRefused`` (a value is not
    what the format allows; ``where`` names it), ``OSError``."""
    listed = [list_source(plan) for plan in description.payloads]
    counter = _Counter(sum(each.size for files in listed for each in files), progress)
    with tempfile.TemporaryFile(dir=out.parent) as spool:
        tables = [
            _spooled(plan, files, spool, counter) for plan, files in zip(description.payloads, listed, strict=True)
        ]
        return _assembled(description, tables, spool, out)


# ------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True, slots=True)
class Listed:
    """A file to read; ``path`` as the bundle names it, empty for an image."""

    file: Path
    path: str
    size: int
    mode: int


def list_source(plan: PayloadPlan) -> list[Listed]:
    """What goes into a payload, in its order. Raises ``NotMade``, ``OSError``."""
    if plan.type is not PayloadType.FILES:
        return [_regular(plan.source.resolve(), "")]
    if not plan.source.is_dir():
        raise NotMade(str(plan.source), "it is no folder", "name the folder that holds the files")
    found = [
        _regular(Path(folder, name), Path(folder, name).relative_to(plan.source).as_posix())
        for folder, folders, names in os.walk(plan.source, onerror=_raise)
        for name in [*names, *(each for each in folders if Path(folder, each).is_symlink())]
    ]
    if not any(each.size for each in found):
        raise NotMade(str(plan.source), "there is nothing in it", "leave the payload out")
    return sorted(found, key=lambda each: each.path)


def _raise(error: OSError) -> None:
    raise error


def _regular(file: Path, path: str) -> Listed:
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise NotMade(str(file), "it is no regular file", "a bundle holds files only; put the file itself there")
    if not path and not found.st_size:
        raise NotMade(str(file), "it is empty", "name the image")
    # Only what git, too, keeps of a mode: the builder's umask must not change the bundle.
    return Listed(file, path, found.st_size, _EXECUTABLE if found.st_mode & stat.S_IXUSR else _PLAIN)


class _Counter:
    def __init__(self, total: int, progress: OnMade | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


# ---------------------------------------------------------------------------------------------- spool


@dataclass(slots=True)
class _Table:
    """What a payload's pass over its sources found."""

    plan: PayloadPlan
    size: int = 0
    stored_size: int = 0
    chunks: list[Any] = field(default_factory=list)  # as the manifest writes them
    files: list[dict[str, Any]] = field(default_factory=list)


def _spooled(plan: PayloadPlan, listed: list[Listed], spool: IO[bytes], counter: _Counter) -> _Table:
    spool.seek(align_up(spool.tell()))
    table, packed = _Table(plan), _packer(plan.compression)
    for content in _contents(table, listed):
        digest, stored = hashlib.sha256(content).hexdigest(), packed(content)
        plain = plan.compression is Compression.NONE
        table.chunks.append(digest if plain else [digest, len(stored), hashlib.sha256(stored).hexdigest()])
        table.stored_size += len(stored)
        spool.write(stored)
        counter.add(len(content))
    return table


def _contents(table: _Table, listed: list[Listed]) -> Iterator[bytes]:
    """Chunks over all files, as one content; sizes are what was read, whatever a directory said."""
    waiting = bytearray()
    for each in listed:
        begin = table.size
        with each.file.open("rb", buffering=0) as file:
            while piece := file.read(table.plan.chunk_size - len(waiting)):
                waiting += piece
                table.size += len(piece)
                if len(waiting) == table.plan.chunk_size:
                    yield bytes(waiting)
                    waiting.clear()
        if each.path:
            size = table.size - begin
            table.files.append({"path": each.path, "offset": begin, "size": size, "mode": f"{each.mode:04o}"})
    if waiting:
        yield bytes(waiting)


def _packer(compression: Compression) -> Callable[[bytes], bytes]:
    if compression is Compression.NONE:
        return lambda content: content
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True, write_checksum=False).compress


# ------------------------------------------------------------------------------------------- assembly


def _assembled(description: Description, tables: list[_Table], spool: IO[bytes], out: Path) -> Manifest:
    manifest_bytes, payloads_offset = _fitted(description, tables)
    spool.seek(0, os.SEEK_END)
    block = encode_signatures(())
    header = Header(len(manifest_bytes), len(block), payloads_offset + spool.tell())
    parse_header(header.encode(), header.total_size)
    manifest = parse_manifest(manifest_bytes, header)
    aside = out.with_name(f".{out.name}.new")
    try:
        with aside.open("wb") as file:
            file.write(header.encode() + manifest_bytes)
            file.seek(header.signatures_offset)
            file.write(block)
            file.seek(payloads_offset)
            spool.seek(0)
            shutil.copyfileobj(spool, file, CHUNK_BYTES_DEFAULT)
        aside.replace(out)
    finally:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
    return manifest


def _fitted(description: Description, tables: list[_Table]) -> tuple[bytes, int]:
    """The manifest and the first payload's offset. Each depends on the other: a greater offset may need another digit.
    Neither ever shrinks, so this ends."""
    offset = 0
    while True:
        data = _manifest_bytes(description, tables, offset)
        needed = align_up(HEADER_BYTES + len(data)) + SIGNATURE_AREA_BYTES
        if needed == offset:
            return data, offset
        offset = needed


def _manifest_bytes(description: Description, tables: list[_Table], offset: int) -> bytes:
    payloads = []
    for table in tables:
        payloads.append(_payload(table, offset))
        offset = align_up(offset + table.stored_size)
    built = datetime.fromtimestamp(description.built_ms // 1000, UTC)
    needed = description.requires
    plain = {
        "format": FORMAT_VERSION,
        "product": {
            "compatible": description.compatible,
            "hardware": {"min": description.hardware_min, "max": description.hardware_max},
        },
        "version": description.version,
        "security_epoch": description.security_epoch,
        "built": built.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "requires": {"agent": needed.agent, "bootloader": needed.bootloader, "mcu": needed.mcu},
        "payloads": payloads,
    }
    return json.dumps(plain, separators=(",", ":")).encode("ascii")


def _payload(table: _Table, offset: int) -> dict[str, Any]:
    plan = table.plan
    plain = {
        "name": plan.name,
        "type": plan.type,
        "target": plan.target,
        "offset": offset,
        "size": table.size,
        "chunk_size": plan.chunk_size,
        "compression": plan.compression,
        "chunks": table.chunks,
    }
    if plan.type is PayloadType.FILES:
        plain["files"] = table.files
    if plan.type is PayloadType.MCU_FIRMWARE:
        plain["version"] = plan.version
    return plain
