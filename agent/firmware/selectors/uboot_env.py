"""A redundant U-Boot environment on disk: bytes to variables and back, and the pair of copies.

Charter: the format and where its two copies lie; what the variables mean is ``uboot``. A copy is

    4 bytes CRC-32 of all that follows the flag, little endian
    1 byte  flag: the newer of two valid copies has the higher one; 0 is newer than 255
    rest    NAME=VALUE, each ended by a NUL, the list by another NUL; padding

Saving writes the whole environment into the older copy, in one write, so that all variables change at once and a power
cut leaves the newer copy valid. Variables are bytes and keep their order; those of others are never touched.
Files and block devices only; raw flash (MTD) must be erased first, which this does not do.

Sources: U-Boot ``env/common.c`` (import of redundant copies), ``include/env_internal.h``, ``env/mmc.c``, ``env/fat.c``;
proved against mkenvimage and fw_printenv/fw_setenv by tests/crosscheck/test_uboot_env.py. Little endian is a fact of
the boards, not of the format: U-Boot writes the CRC in the order of its CPU.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.firmware.errors import SlotFailed
from agent.firmware.faults import slot_faults
from agent.firmware.storage import Storage, opened

MIN_SIZE_BYTES: Final = 256
MAX_SIZE_BYTES: Final = 1024 * 1024
_CRC_BYTES: Final = 4
_HEAD_BYTES: Final = 5


@dataclass(frozen=True, slots=True)
class EnvironmentCopy:
    """Where one copy lies: a file or block device, and the offset in it in bytes."""

    path: Path
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.path} at {self.offset:#x}"


@dataclass(frozen=True, slots=True)
class Environment:
    """Variables as they lie in a copy, each ``NAME=VALUE``."""

    entries: tuple[bytes, ...]

    def get(self, name: str) -> str | None:
        """The value of ``name``; of several, the last, as U-Boot takes it. None where it is not set."""
        head = name.encode() + b"="
        values = [entry[len(head) :] for entry in self.entries if entry.startswith(head)]
        return values[-1].decode("latin-1") if values else None

    def having(self, changes: Mapping[str, str]) -> Environment:
        """With these variables set, and all others as they are."""
        left = {name.encode(): f"{name}={value}".encode() for name, value in changes.items()}
        names = frozenset(left)
        entries = []
        for entry in self.entries:
            name = entry.partition(b"=")[0]
            if name not in names:
                entries.append(entry)
            elif name in left:
                entries.append(left.pop(name))
        return Environment((*entries, *left.values()))


def decode(copy: bytes) -> tuple[Environment, int] | None:
    """The variables and the flag of a copy; None where its CRC does not hold."""
    if len(copy) < _HEAD_BYTES or zlib.crc32(copy[_HEAD_BYTES:]) != int.from_bytes(copy[:_CRC_BYTES], "little"):
        return None
    entries = copy[_HEAD_BYTES:].split(b"\0")
    return Environment(tuple(entries[: entries.index(b"")] if b"" in entries else entries)), copy[_CRC_BYTES]


def encode(environment: Environment, flag: int, size_bytes: int) -> bytes:
    """A copy of ``size_bytes``. Raises ``SlotFailed`` where the variables do not fit."""
    data = b"".join(entry + b"\0" for entry in environment.entries) + b"\0"
    if _HEAD_BYTES + len(data) > size_bytes:
        raise SlotFailed(
            "U-Boot environment",
            f"its variables take {len(data)} bytes and {size_bytes - _HEAD_BYTES} is all there is",
            "remove variables that nobody needs with fw_setenv",
        )
    data = data.ljust(size_bytes - _HEAD_BYTES, b"\0")
    return zlib.crc32(data).to_bytes(_CRC_BYTES, "little") + bytes((flag,)) + data


def is_newer(flag: int, than: int) -> bool:
    """Of two valid copies' flags. It is a byte that wraps around."""
    if {flag, than} == {0, 255}:
        return flag == 0
    return flag > than


@dataclass(frozen=True, slots=True)
class Loaded:
    """The pair as it is: the newer copy's variables and flag, its index, and whether the other copy is damaged."""

    environment: Environment
    flag: int
    index: int
    damaged: bool


class EnvironmentPair:
    """The two copies. Methods raise ``SlotFailed``."""

    def __init__(self, storage: Storage, copies: tuple[EnvironmentCopy, ...], size_bytes: int) -> None:
        if not MIN_SIZE_BYTES <= size_bytes <= MAX_SIZE_BYTES:
            raise SlotFailed(
                "U-Boot environment", f"size {size_bytes} is not from {MIN_SIZE_BYTES} to {MAX_SIZE_BYTES}"
            )
        if len(copies) != 2 or (
            copies[0].path == copies[1].path and abs(copies[0].offset - copies[1].offset) < size_bytes
        ):
            raise SlotFailed(
                "U-Boot environment",
                "it has not two copies in different places, and one alone does not survive a power cut",
                "build U-Boot with a redundant environment and name both copies",
            )
        self._storage = storage
        self._copies = copies
        self._size_bytes = size_bytes

    def load(self) -> Loaded | None:
        """What U-Boot would take; None where neither copy is valid."""
        found = [decode(self._read(copy)) for copy in self._copies]
        first, second = found
        if first is None and second is None:
            return None
        index = 1 if first is None or (second is not None and is_newer(second[1], first[1])) else 0
        newer = found[index]
        assert newer is not None
        return Loaded(*newer, index, None in found)

    def demand(self) -> Loaded:
        """As ``load``, but no valid copy is an error. Nothing is ever made up here: an environment without the
        board's own variables would be worse than none, and with none U-Boot takes the one it was built with."""
        loaded = self.load()
        if loaded is not None:
            return loaded
        names = " and ".join(map(str, self._copies))
        if any(self._is_single(self._read(copy)) for copy in self._copies):
            raise SlotFailed(
                names,
                "this is not a redundant environment, and a single copy does not survive a power cut",
                "build U-Boot with a redundant environment (CONFIG_SYS_REDUNDAND_ENVIRONMENT)",
            )
        raise SlotFailed(
            names,
            "both copies of the U-Boot environment are damaged",
            "check offsets and size against U-Boot's; a boot with packaging/boot/uboot.cmd, or saveenv twice at "
            "U-Boot's prompt, makes them anew",
        )

    def save(self, loaded: Loaded, environment: Environment) -> None:
        """``environment`` into the older copy, durable when it returns. The newer copy is synced first, also where
        nothing changes: somebody who was killed may have left it unsynced, and then a power cut would damage both.
        A damaged copy is always written anew."""
        self._sync(self._copies[loaded.index])
        if environment != loaded.environment or loaded.damaged:
            data = encode(environment, (loaded.flag + 1) % 256, self._size_bytes)
            self._sync(self._copies[1 - loaded.index], data)

    def _sync(self, copy: EnvironmentCopy, data: bytes | None = None) -> None:
        with slot_faults(copy), opened(self._storage.open(copy.path, writable=data is not None)) as file:
            if data is not None:
                file.write(copy.offset, data)
            file.sync()

    def _read(self, copy: EnvironmentCopy) -> bytes:
        with slot_faults(copy), opened(self._storage.open(copy.path)) as file:
            content = file.read(copy.offset, self._size_bytes)
        if len(content) < self._size_bytes:
            raise SlotFailed(
                str(copy),
                f"it ends after {len(content)} of {self._size_bytes} bytes",
                "check offset and size against U-Boot's",
            )
        return content

    @staticmethod
    def _is_single(copy: bytes) -> bool:
        return zlib.crc32(copy[_CRC_BYTES:]) == int.from_bytes(copy[:_CRC_BYTES], "little")
