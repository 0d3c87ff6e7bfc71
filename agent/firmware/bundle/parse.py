"""The manifest's exact bytes to its values, or a refusal that names the place.

Charter: shape, limits, and that the payloads tile the file: each begins at the first multiple of 4096 after the one
before, and the last ends where the file ends. So no byte of the file is without an owner but padding, which is never
read. Whose bytes these are is judged before (``head``); what they mean for this device after (``device``). Pure.
Source: ``docs/bundle-format.md``.
"""

from __future__ import annotations

import hashlib
from typing import Final

from agent.firmware.bundle import fields
from agent.firmware.bundle.layout import FORMAT_VERSION, Header, align_up
from agent.firmware.bundle.strict import Node, parse_json
from agent.firmware.manifest import Chunk, Compression, FileEntry, Manifest, Payload, PayloadType

ZSTD_GROWTH_MAX: Final = 64 * 1024
"""A chunk that does not compress may be stored a little larger than it is."""
_VALUES_MAX: Final = 6 * fields.CHUNKS_MAX
_TOP: Final = ("format", "product", "version", "security_epoch", "built", "payloads")
_PAYLOAD: Final = ("name", "type", "target", "offset", "size", "chunk_size", "compression", "chunks")


def parse_manifest(data: bytes, header: Header) -> Manifest:
    """Raises ``UpdateRefused`` (malformed)."""
    root = parse_json(data, "manifest", _VALUES_MAX)
    members = root.members(_TOP, ("requires",))
    members["format"].integer(FORMAT_VERSION, FORMAT_VERSION)
    product = members["product"].members(("compatible", "hardware"))
    hardware_min, hardware_max = fields.hardware(product["hardware"])
    payloads = _payloads(members["payloads"], header)
    return Manifest(
        compatible=fields.compatible(product["compatible"]),
        hardware_min=hardware_min,
        hardware_max=hardware_max,
        version=fields.plain_version(members["version"]),
        security_epoch=fields.epoch(members["security_epoch"]),
        built_ms=fields.built_ms(members["built"]),
        requires=fields.requires(members.get("requires", Node({}, "manifest", "requires"))),
        payloads=payloads,
        digest=hashlib.sha256(data).digest(),
        total_size=header.total_size,
    )


def _payloads(node: Node, header: Header) -> tuple[Payload, ...]:
    payloads: list[Payload] = []
    names: set[str] = set()
    places: set[tuple[PayloadType, str]] = set()
    chunks_left, files_left = fields.CHUNKS_MAX, fields.FILES_MAX
    least, most = header.payloads_min, header.payloads_max
    for each in node.array(1, fields.PAYLOADS_MAX):
        payload = _payload(each, header, (least, most), chunks_left, files_left)
        if payload.name in names:
            each.refuse(f"a second payload is named {payload.name}")
        if (payload.type, payload.target) in places:
            each.refuse(f"a second {payload.type} for {payload.target}")
        names.add(payload.name)
        places.add((payload.type, payload.target))
        payloads.append(payload)
        chunks_left -= len(payload.chunks)
        files_left -= len(payload.files)
        least = most = align_up(payload.offset + payload.stored_size)
    end = payloads[-1].offset + payloads[-1].stored_size
    if end != header.total_size:
        node.refuse(f"they end at {end}, the file at {header.total_size}")
    return tuple(payloads)


def _payload(node: Node, header: Header, offsets: tuple[int, int], chunks_left: int, files_left: int) -> Payload:
    members = node.members(_PAYLOAD, ("files", "version"))
    kind = fields.payload_type(members["type"])
    offset = members["offset"].integer(*offsets)
    if offset != align_up(offset):
        members["offset"].refuse(f"{offset} is no multiple of 4096")
    chunk_size = fields.chunk_size(members["chunk_size"])
    size = members["size"].integer(1, chunks_left * chunk_size)
    packing = fields.compression(members["compression"])
    chunks = _chunks(members["chunks"], size, chunk_size, packing)
    payload = Payload(
        name=fields.word(members["name"]),
        type=kind,
        target=fields.word(members["target"]),
        offset=offset,
        size=size,
        chunk_size=chunk_size,
        compression=packing,
        chunks=chunks,
        files=_files(_owned(node, members, "files", kind is PayloadType.FILES), size, files_left),
        version=_version(_owned(node, members, "version", kind is PayloadType.MCU_FIRMWARE)),
    )
    end = offset + payload.stored_size
    if end > header.total_size:
        node.refuse(f"it ends at {end}, after the file's end at {header.total_size}")
    return payload


def _owned(node: Node, members: dict[str, Node], name: str, wanted: bool) -> Node | None:
    """A member that one type of payload has and the others have not."""
    if wanted != (name in members):
        node.refuse(f"{name} is missing" if wanted else f"{name} does not belong to this type")
    return members.get(name)


def _version(node: Node | None) -> str:
    return fields.plain_version(node) if node is not None else ""


def _chunks(node: Node, size: int, chunk_size: int, packing: Compression) -> tuple[Chunk, ...]:
    count = -(-size // chunk_size)
    entries = node.array(0, fields.CHUNKS_MAX)
    if len(entries) != count:
        node.refuse(f"{len(entries)} entries, {size} bytes make {count}")
    return tuple(
        _chunk(each, min(chunk_size, size - index * chunk_size), packing) for index, each in enumerate(entries)
    )


def _chunk(node: Node, length: int, packing: Compression) -> Chunk:
    if packing is Compression.NONE:
        digest = fields.sha256(node)
        return Chunk(digest, length, digest)
    content, stored_size, stored = node.array(3, 3)
    return Chunk(fields.sha256(content), stored_size.integer(1, length + ZSTD_GROWTH_MAX), fields.sha256(stored))


def _files(node: Node | None, size: int, files_left: int) -> tuple[FileEntry, ...]:
    if node is None:
        return ()
    files: list[FileEntry] = []
    taken: set[str] = set()  # paths, and all folders on the way to them
    paths: set[str] = set()
    end = 0
    for each in node.array(1, files_left):
        members = each.members(("path", "offset", "size", "mode"))
        path = fields.file_path(members["path"])
        folded = path.lower()  # FAT does not tell them apart
        parts = folded.split("/")
        folders = {"/".join(parts[:count]) for count in range(1, len(parts))}
        if folded in taken or folders & paths:
            members["path"].refuse(f"{path!r} is there already, as a file or as a folder")
        paths.add(folded)
        taken |= folders | {folded}
        offset = members["offset"].integer(end, end)
        length = members["size"].integer(0, size - end)
        files.append(FileEntry(path, offset, length, fields.file_mode(members["mode"])))
        end = offset + length
    if end != size:
        node.refuse(f"they end at {end}, the content at {size}")
    return tuple(files)
