"""The single fields of a manifest: what each may be. Shared by the device's parser and the maker's description.

Charter: a ``Node`` in, a checked value out, or ``UpdateRefused`` (malformed) naming the place. Pure.
Source: ``docs/bundle-format.md``, "Manifest" and "Limits".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from agent.firmware.bundle.strict import Node
from agent.firmware.bundle.versions import PLAIN_VERSION, version_key
from agent.firmware.manifest import (
    ALIGN_BYTES,
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    Compression,
    PayloadType,
    Requires,
)

COMPATIBLE_MAX: Final = 16
PAYLOADS_MAX: Final = 16
CHUNKS_MAX: Final = 65_536
FILES_MAX: Final = 4_096
EPOCH_MAX: Final = 2**31 - 1
HARDWARE_MAX: Final = 65_535
PATH_CHARS_MAX: Final = 255
PATH_PARTS_MAX: Final = 16
MODES: Final = {"0444": 0o444, "0644": 0o644, "0555": 0o555, "0755": 0o755}

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", re.ASCII)
_COMPATIBLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,+-]{0,63}", re.ASCII)
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
# No backslash and nothing else that FAT forbids: a name must mean the same file everywhere.
_PATH: Final = re.compile(r"[ !#-)+-9;=@-\[\]-{}~]+", re.ASCII)
_YEARS: Final = (2020, 2100)
_WORD_TEXT: Final = "a word of at most 32 letters, digits, - and _"


def word(node: Node) -> str:
    return node.text(_WORD, _WORD_TEXT)


def plain_version(node: Node) -> str:
    return node.text(PLAIN_VERSION, "a version of at most 64 letters, digits and . _ + ~ -")


def compatible(node: Node) -> tuple[str, ...]:
    names = [
        each.text(_COMPATIBLE, "a product name of at most 64 letters, digits and . _ , + -")
        for each in node.array(1, COMPATIBLE_MAX)
    ]
    if len(set(names)) != len(names):
        node.refuse("a product is named twice")
    return tuple(names)


def hardware(node: Node) -> tuple[int, int]:
    """Lowest and highest hardware revision."""
    members = node.members(("min", "max"))
    least, most = members["min"].integer(0, HARDWARE_MAX), members["max"].integer(0, HARDWARE_MAX)
    if least > most:
        node.refuse(f"min {least} is above max {most}")
    return least, most


def epoch(node: Node) -> int:
    return node.integer(0, EPOCH_MAX)


def built_ms(node: Node) -> int:
    """UTC, to the second."""
    text = node.text(_TIME, "a UTC time like 2026-11-20T12:00:00Z")
    try:
        at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        node.expected("a time that exists")
    if not _YEARS[0] <= at.year <= _YEARS[1]:
        node.refuse(f"{text}, the years {_YEARS[0]} to {_YEARS[1]} are allowed")
    return int(at.timestamp()) * 1000


def requires(node: Node) -> Requires:
    return Requires(
        **{name: _minimum(member) for name, member in node.members((), ("agent", "bootloader", "mcu")).items()}
    )


def _minimum(node: Node) -> str:
    if node.value == "":
        return ""
    text = plain_version(node)
    if version_key(text) is None:
        node.expected("dotted numbers with an optional suffix, like 2025.01-rc3,")
    return text


def payload_type(node: Node) -> PayloadType:
    names = tuple(map(str, PayloadType))
    return PayloadType(node.text(_one_of(names), f"one of {', '.join(names)}"))


def compression(node: Node) -> Compression:
    names = tuple(map(str, Compression))
    return Compression(node.text(_one_of(names), f"one of {', '.join(names)}"))


def _one_of(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, names)))


def chunk_size(node: Node) -> int:
    size = node.integer(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
    if size % ALIGN_BYTES:
        node.refuse(f"{size} is no multiple of {ALIGN_BYTES}")
    return size


def sha256(node: Node) -> bytes:
    return bytes.fromhex(node.text(_HASH, "64 lower-case hex digits"))


def file_path(node: Node) -> str:
    """Relative, of plain names, parts joined by one slash each."""
    path = node.text(_PATH, 'a path of printable ASCII without \\ : * ? " < > |')
    if len(path) > PATH_CHARS_MAX:
        node.refuse(f"{len(path)} characters, at most {PATH_CHARS_MAX} are allowed")
    parts = path.split("/")
    if len(parts) > PATH_PARTS_MAX:
        node.refuse(f"{len(parts)} parts, at most {PATH_PARTS_MAX} are allowed")
    for part in parts:
        if part in ("", ".", ".."):
            node.refuse(f"{part!r} is no part of a path that stays where it is put")
        if part != part.strip(" ") or part.endswith("."):
            node.refuse(f"{part!r} begins or ends with a blank, or ends with a dot")
    return path


def file_mode(node: Node) -> int:
    return MODES[node.text(_one_of(tuple(MODES)), f"one of {', '.join(MODES)}")]
