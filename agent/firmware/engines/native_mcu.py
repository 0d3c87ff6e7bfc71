"""Firmware of the control pilot's microcontroller, staged per slot: the engine puts it there, the station flashes it.

Charter: ``<path>-<slot>.bin`` and beside it ``<path>-<slot>.json`` with its version and hash. The station that boots
from a slot brings the controller in line with it (``agent.firmware.mcu``), so a slot that is rolled back to brings its
own firmware back too. The two files are replaced one after the other, each atomically; what lies between them does
not fit together, and that is seen by the hash. A bundle without such a payload leaves its slot what the running one
has: once a charger has firmware staged, it always has, and every release finds the way back.
Source: firmware reference 1.5.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from agent.firmware.engines.native_stream import BundleStream, Tally, is_right
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.faults import slot_faults
from agent.firmware.manifest import Payload
from agent.firmware.mcu import Staged
from agent.firmware.storage import Storage, read_small, replace

MCU_BYTES_MAX: Final = 4 * 1024 * 1024
"""It is held in memory as a whole."""
_NOTE_BYTES_MAX: Final = 1024
_MODE: Final = 0o644  # no secret, and the station may be another user
_REMEDY: Final = "install again; if it happens again, the storage is failing"

log = structlog.get_logger(__name__)


def staged_mcu(storage: Storage, path: Path, slot: str) -> Staged | None:
    """The firmware that belongs to ``slot``; None: none does. Whoever flashes it compares its hash. A note that cannot
    be understood is none: it must not keep out bundles that bring no such firmware. Raises ``SlotFailed``."""
    note = _note(path, slot)
    with slot_faults(note):
        noted = read_small(storage, note, _NOTE_BYTES_MAX)
    if noted is None:
        return None
    try:
        members = json.loads(noted)
        version, digest = members["version"], bytes.fromhex(members["sha256"])
    except (ValueError, TypeError, KeyError) as error:
        log.warning("note of a microcontroller's firmware cannot be understood", note=str(note), error=repr(error))
        return None
    return Staged(str(version), _held(storage, _firmware(path, slot)), digest)


def write_mcu(
    storage: Storage, payload: Payload, bundle: BundleStream, tally: Tally, path: Path, slot: str, other: str
) -> None:
    """It is staged and durable when it returns. Raises ``UpdateRefused``, ``SourceLost``, ``SlotFailed`` and what the
    listener raises; then what was staged before is still there."""
    if payload.size > MCU_BYTES_MAX:
        why = f"it has {payload.size} bytes, at most {MCU_BYTES_MAX} can be staged"
        raise UpdateRefused(Refusal.TOO_LARGE, f"payload {payload.name}", why)
    held = [_held(storage, _firmware(path, each)) for each in (slot, other)]
    pieces = []
    for index, offset in enumerate(payload.chunk_offsets()):
        pieces.append(bundle.chunk(payload, index, offset, partial(_find, payload, index, held)))
        tally.add(len(pieces[-1]))
    content = b"".join(pieces)
    _stage(storage, path, slot, Staged(payload.version, content, hashlib.sha256(content).digest()))
    tally.written_bytes += len(content)
    tally.tell()


def carry_mcu(storage: Storage, path: Path, slot: str, other: str) -> None:
    """For ``slot`` is staged what ``other`` has, durably; if that has none, none. Raises ``SlotFailed``."""
    staged = staged_mcu(storage, path, other)
    if staged is not None:
        _stage(storage, path, slot, staged)
        return
    for file in (_note(path, slot), _firmware(path, slot)):
        with slot_faults(file):
            if storage.kind(file) is not None:
                storage.remove(file)
                storage.sync_folder(file.parent)


def read_back_mcu(storage: Storage, payload: Payload, path: Path, slot: str, tally: Tally) -> None:
    """Raises ``SlotFailed`` unless it is staged, whole and of this version."""
    staged = staged_mcu(storage, path, slot)
    if staged is None or staged.version != payload.version or not _is_whole(payload, staged):
        raise SlotFailed(str(_firmware(path, slot)), "it does not hold what was written", _REMEDY)
    tally.add(payload.size)


def _stage(storage: Storage, path: Path, slot: str, staged: Staged) -> None:
    noted = {"version": staged.version, "sha256": staged.sha256.hex()}
    for file, data in ((_firmware(path, slot), staged.image), (_note(path, slot), json.dumps(noted).encode())):
        with slot_faults(file):
            replace(storage, file, data, _MODE)


def _is_whole(payload: Payload, staged: Staged) -> bool:
    if len(staged.image) != payload.size or hashlib.sha256(staged.image).digest() != staged.sha256:
        return False
    return all(_find(payload, index, [staged.image]) is not None for index in range(len(payload.chunks)))


def _held(storage: Storage, firmware: Path) -> bytes:
    with slot_faults(firmware):
        return read_small(storage, firmware, MCU_BYTES_MAX) or b""


def _find(payload: Payload, index: int, held: list[bytes]) -> bytes | None:
    start = index * payload.chunk_size
    found = (content[start : start + payload.chunk_length(index)] for content in held)
    return next((piece for piece in found if is_right(payload.chunks[index], piece)), None)


def _firmware(path: Path, slot: str) -> Path:
    return path.with_name(f"{path.name}-{slot}.bin")


def _note(path: Path, slot: str) -> Path:
    return path.with_name(f"{path.name}-{slot}.json")
