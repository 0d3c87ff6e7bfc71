"""One archive of many parts: bounded in size, with a manifest that says what is in it and what is not.

Charter: writes a ``.tar.gz``; knows nothing of what the parts mean. Parts are taken in the order of their worth, as
long as the compressed sum stays below the limit. Of one that does not fit, the newest lines are kept (its end, cut
at a line) where it is made of lines; anything else is left out. The manifest is the last member, and complete.

Units: bytes, UTC milliseconds since 1970.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final

MANIFEST: Final = "manifest.json"
LIMIT_BYTES: Final = 5 * 1024 * 1024

_LEVEL: Final = 6
_HEAD_BYTES: Final = 1_536  # of a member: its head and padding, before compression
_MANIFEST_BYTES: Final = 32 * 1024  # kept free
_LEAST_BYTES: Final = 1_024  # less of a part is not worth its head


@dataclass(frozen=True, slots=True)
class Part:
    """``lines``: it may be cut, the oldest lines first."""

    name: str
    data: bytes
    lines: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """A part that could not be had, and why in plain words."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Member:
    """What the manifest says of a part that is in the archive. ``cut_bytes``: what was left out at its beginning."""

    name: str
    bytes: int
    sha256: str
    cut_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """``about``: whose archive it is, and of when; plain values."""

    about: dict[str, Any]
    members: tuple[Member, ...]
    missing: tuple[Missing, ...]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode() + b"\n"


class ArchiveWriter:
    """Parts go into ``file`` one by one; ``close`` adds the manifest."""

    def __init__(self, file: BinaryIO, about: dict[str, Any], wall_ms: int, limit_bytes: int = LIMIT_BYTES) -> None:
        self._about = about
        self._wall_ms = wall_ms
        self._free_bytes = limit_bytes - _MANIFEST_BYTES
        self._members: list[Member] = []
        self._missing: list[Missing] = []
        self._gzip = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=wall_ms // 1_000)
        self._tar = tarfile.open(fileobj=self._gzip, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - by close

    def add(self, part: Part | Missing) -> None:
        """Raises ``OSError`` of the file."""
        if isinstance(part, Missing):
            self._missing.append(part)
            return
        kept = self._fitting(part)
        if kept is None:
            self._missing.append(Missing(part.name, f"no room for it ({len(part.data)} bytes)"))
            return
        data, packed_bytes = kept
        self._free_bytes -= packed_bytes
        self._members.append(Member(part.name, len(data), hashlib.sha256(data).hexdigest(), len(part.data) - len(data)))
        self._write(part.name, data)

    def close(self) -> Manifest:
        """The archive is whole when this returns. Raises ``OSError`` of the file."""
        manifest = Manifest(self._about, tuple(self._members), tuple(self._missing))
        self._write(MANIFEST, manifest.to_json())
        self._tar.close()
        self._gzip.close()
        return manifest

    def _fitting(self, part: Part) -> tuple[bytes, int] | None:
        """The data to keep, and what they will take."""
        data = part.data
        while (packed_bytes := len(zlib.compress(data, _LEVEL)) + _HEAD_BYTES) > self._free_bytes:
            if not part.lines or len(data) <= _LEAST_BYTES:
                return None
            data = data[len(data) // 2 :].partition(b"\n")[2]
        return data, packed_bytes

    def _write(self, name: str, data: bytes) -> None:
        head = tarfile.TarInfo(name)
        head.size, head.mtime, head.mode = len(data), self._wall_ms // 1_000, 0o644
        self._tar.addfile(head, io.BytesIO(data))
