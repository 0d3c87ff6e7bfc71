"""Small signed bundles for tests, made by the product's own maker or by hand where they must be wrong.

Charter: ``image``, ``files`` and ``mcu`` say what goes in, ``make_bundle`` gives the whole file's bytes, signed by
``pki.SIGNER`` unless others are named; ``BytesSource`` serves them. ``Forge`` builds bundles of any wrongness: it takes
manifest bytes as they are, and signs them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from agent.firmware.bundle.layout import HEADER_BYTES, Header, align_up
from agent.firmware.bundle.make import Description, PayloadPlan, create
from agent.firmware.bundle.sign import attach, signing_input
from agent.firmware.bundle.signatures import encode_signatures
from agent.firmware.manifest import Compression, PayloadType, Requires
from tests.unit.firmware.bundle.pki import SIGNER, Authority, ms

BUILT_MS: Final = ms("2026-11-20T12:00:00")
CHUNK: Final = 4096
NOTHING: Final = Requires()

Write = Callable[[Path], PayloadPlan]
"""Writes a payload's source under a path, and says how it goes into the bundle."""


class BytesSource:
    """A bundle in memory. ``reads`` holds every (offset, length) that was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= length < 8 * 1024 * 1024
        self.reads.append((offset, length))
        return self.data[offset : offset + length]


# --------------------------------------------------------------------------------------- right ones


def image(
    content: bytes,
    *,
    name: str = "rootfs",
    target: str = "rootfs",
    chunk_size: int = CHUNK,
    compression: Compression = Compression.NONE,
) -> Write:
    """The content of a slot."""

    def write(path: Path) -> PayloadPlan:
        path.write_bytes(content)
        return PayloadPlan(name, PayloadType.SLOT_IMAGE, target, path, chunk_size, compression)

    return write


def files(
    contents: Mapping[str, bytes],
    *,
    name: str = "boot",
    target: str = "boot",
    chunk_size: int = CHUNK,
    compression: Compression = Compression.NONE,
) -> Write:
    """Files by their relative paths; a path that ends with ``*`` is executable."""

    def write(path: Path) -> PayloadPlan:
        path.mkdir()
        for relative, content in contents.items():
            file = path / relative.removesuffix("*")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o755 if relative.endswith("*") else 0o644)
        return PayloadPlan(name, PayloadType.FILES, target, path, chunk_size, compression)

    return write


def mcu(
    content: bytes,
    *,
    version: str = "1.4.0",
    name: str = "pilot",
    target: str = "pilot",
    chunk_size: int = CHUNK,
    compression: Compression = Compression.NONE,
) -> Write:
    """Firmware of a microcontroller."""

    def write(path: Path) -> PayloadPlan:
        path.write_bytes(content)
        return PayloadPlan(name, PayloadType.MCU_FIRMWARE, target, path, chunk_size, compression, version)

    return write


def make_bundle(
    *payloads: Write,
    signers: Sequence[Authority] = (SIGNER,),
    compatible: tuple[str, ...] = ("acme,ac22",),
    hardware: tuple[int, int] = (1, 3),
    version: str = "2.1.0",
    epoch: int = 3,
    built_ms: int = BUILT_MS,
    requires: Requires = NOTHING,
) -> bytes:
    """A whole bundle; without ``payloads`` one slot image of 10,000 bytes."""
    with TemporaryDirectory() as folder:
        plans = tuple(
            write(Path(folder, f"source-{index}"))
            for index, write in enumerate(payloads or (image(bytes(range(250)) * 40),))
        )
        out = Path(folder, "bundle")
        create(Description(compatible, *hardware, version, epoch, built_ms, plans, requires), out)
        for signer in signers:
            attach(out, signer.entry(signing_input(out)))
        return out.read_bytes()


# --------------------------------------------------------------------------------------- wrong ones


@dataclass
class Forge:
    """A one-payload bundle made by hand. Change ``manifest`` (any JSON value) before ``build``."""

    content: bytes
    manifest: Any
    payloads_offset: int

    @staticmethod
    def new(content: bytes = bytes(10_000)) -> Forge:
        offset = HEADER_BYTES + 4096 + 4096
        pieces = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]
        payload = {
            "name": "rootfs",
            "type": "slot-image",
            "target": "rootfs",
            "offset": offset,
            "size": len(content),
            "chunk_size": CHUNK,
            "compression": "none",
            "chunks": [hashlib.sha256(piece).hexdigest() for piece in pieces],
        }
        manifest = {
            "format": 1,
            "product": {"compatible": ["acme,ac22"], "hardware": {"min": 1, "max": 3}},
            "version": "2.1.0",
            "security_epoch": 3,
            "built": "2026-11-20T12:00:00Z",
            "payloads": [payload],
        }
        return Forge(content, manifest, offset)

    def build(
        self, signers: Sequence[Authority] = (SIGNER,), manifest_bytes: bytes | None = None, block: bytes | None = None
    ) -> bytes:
        """The file. ``manifest_bytes`` and ``block`` replace what would be written."""
        manifest = json.dumps(self.manifest).encode() if manifest_bytes is None else manifest_bytes
        if block is None:
            block = encode_signatures(tuple(signer.entry(manifest) for signer in signers))
        header = Header(len(manifest), len(block), self.payloads_offset + len(self.content))
        data = (header.encode() + manifest).ljust(align_up(HEADER_BYTES + len(manifest)), b"\0") + block
        return data.ljust(self.payloads_offset, b"\0") + self.content
