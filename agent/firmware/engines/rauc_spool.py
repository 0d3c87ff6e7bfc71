"""A foreign bundle from its source into a file: RAUC reads files, not our sources.

Charter: copies in constant memory, hashing the whole file on the way (OCPP's signature is over the file), and leaves
either the whole file or none. Knows nothing of the file's format. It begins anew each time. The file is its owner's
alone (0600), as RAUC demands of a bundle. Nobody has judged what comes: it never takes the room of the ledger. Sizes
are bytes.
Source: firmware reference 1.4 (signature over the whole file), 1.5 (over-long downloads are cut); RAUC's bundle.c
(check_bundle_access).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, Protocol

from agent.firmware.engines.slot_file import create
from agent.firmware.errors import Refusal, SourceLost, UpdateRefused
from agent.firmware.faults import slot_faults
from agent.firmware.ports import OnProgress, Progress, Source
from agent.firmware.storage import Storage

PIECE_BYTES: Final = 1 << 20
LEDGER_BYTES: Final = 36 << 20
"""Stays free, since the ledger may lie beside the bundle: below ``agent.ledger.space``'s marks and reserve, which the
installer may not import, readings are left out, and then nobody may begin to charge."""


class WholeFileHash(Protocol):
    """As those of hashlib."""

    def update(self, data: bytes, /) -> object: ...


def spool(
    source: Source,
    path: Path,
    storage: Storage,
    whole_file: WholeFileHash | None,
    max_bytes: int,
    on_progress: OnProgress,
) -> None:
    """Put all of ``source`` under ``path``, durable, in place of what was there. ``whole_file`` gets every byte.

    Raises ``UpdateRefused`` (TOO_LARGE, MALFORMED), ``SourceLost``, ``SlotFailed``, and what ``on_progress`` raises.
    """
    if source.size > max_bytes:
        why = f"{source.size} bytes, at most {max_bytes} are allowed"
        raise UpdateRefused(Refusal.TOO_LARGE, "bundle file", why, "raise update.max_bundle_mib, if there is room")
    if source.size <= 0:
        raise UpdateRefused(Refusal.MALFORMED, "bundle file", "it is empty")
    discard(storage, path)
    try:
        _copy(source, path, storage, whole_file, on_progress)
    except BaseException:
        discard(storage, path)
        raise


def _copy(
    source: Source, path: Path, storage: Storage, whole_file: WholeFileHash | None, on_progress: OnProgress
) -> None:
    with create(storage, path, 0o600) as file:
        done_bytes = 0
        while done_bytes < source.size:
            _demand_room(storage, path.parent, source.size - done_bytes)  # each time: others write, too
            wanted = min(PIECE_BYTES, source.size - done_bytes)
            piece = source.read(done_bytes, wanted)
            if len(piece) != wanted:
                raise SourceLost(f"{len(piece)} of {wanted} bytes came at {done_bytes}", retryable=True)
            if whole_file is not None:
                whole_file.update(piece)
            file.write(done_bytes, piece)
            done_bytes += wanted
            on_progress(Progress(done_bytes, source.size, fetched_bytes=done_bytes, written_bytes=0))
        file.sync()
    with slot_faults(path.parent):
        storage.sync_folder(path.parent)


def _demand_room(storage: Storage, folder: Path, more_bytes: int) -> None:
    with slot_faults(folder):
        free_bytes = storage.free_bytes(folder)
    if more_bytes + LEDGER_BYTES > free_bytes:
        why = f"{more_bytes} bytes are to come, {free_bytes} are free in {folder}, {LEDGER_BYTES} stay for the ledger"
        remedy = "make room there, or put update.state_dir on a larger partition"
        raise UpdateRefused(Refusal.TOO_LARGE, "bundle file", why, remedy)


def discard(storage: Storage, path: Path) -> None:
    """Take away what was spooled, if anything was. Raises ``SlotFailed``."""
    with slot_faults(path), contextlib.suppress(FileNotFoundError):
        storage.remove(path)
