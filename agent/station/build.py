"""What a running station is made of: configuration, versions, this boot.

Charter: plain data, read once at start. Boot id and monotonic time are those of the kernel
(``/proc/sys/kernel/random/boot_id``, CLOCK_BOOTTIME), so that a restarted process can tell a crash of
its own from a power cut, and how long it was away.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog

from agent.config.model import Config
from agent.firmware.boot_id import read_boot_id

VERSION_MAX_CHARS = 50  # OCPP: firmwareVersion
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
CAUSES: Final = frozenset({"ApplicationReset", "FirmwareUpdate", "RemoteReset"})
"""What a process that ends in order leaves a note of (OCPP 2.0.1 BootReasonEnumType)."""

_SMALL_BYTES: Final = 100

log = structlog.get_logger("station")


@dataclass(frozen=True, slots=True)
class Build:
    config: Config
    boot_id: str
    boot_cause: str  # OCPP 2.0.1 BootReasonEnumType
    software_version: str
    started_at_ms: int
    config_file: Path | None = None
    firmware_version: str = ""  # of the image that runs, where it says one

    @property
    def ledger_path(self) -> Path:
        return self.config.station.data_dir / "ledger.sqlite"

    @property
    def floor_bytes(self) -> int:
        """The room on the ledger's disk below which nothing new begins."""
        return self.config.metering.free_space_floor_mib * 1024 * 1024

    @property
    def socket_path(self) -> Path:
        return self.config.station.run_dir / "station.sock"


def monotonic_ms() -> int:
    """Milliseconds since the machine booted, sleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def make_build(config: Config, config_file: Path | None = None) -> Build:
    """What this process runs. Takes the note of why it starts, so it is to be made once."""
    boot_id = read_boot_id(BOOT_ID_FILE)  # where nothing tells it, nothing is resumed by mistake
    boot_cause = take_boot_cause(config, boot_id)
    image = "" if config.update is None else _image_version(config.update.image_version_file)
    return Build(config, boot_id, boot_cause, version("evsed"), monotonic_ms(), config_file, image)


def _image_version(file: Path | None) -> str:
    """What the running image says of itself; a file that is not there, or says nothing, is no reason not to charge."""
    if file is None:
        return ""
    try:
        with file.open("rb") as opened:
            text = opened.read(VERSION_MAX_CHARS).decode("ascii", errors="replace")
    except OSError:
        return ""
    return "".join(c for c in text.partition("\n")[0].strip() if c.isprintable())


def make_durable_directory(folder: Path) -> None:
    """Make a directory and sync the entry of each one made: a power cut must not take key and ledger with it."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in reversed(made):
        parent = os.open(each.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def note_boot_cause(config: Config, cause: str) -> None:
    """Leave a note for the next start; a full disk takes none, and that keeps nobody from ending."""
    _keep(config.station.data_dir / "boot-cause", cause)


def take_boot_cause(config: Config, boot_id: str) -> str:
    """Why this start happens: what the last process left a note of, else a power-up of its own accord.

    A crash leaves no note, but it leaves the same kernel boot (``boot_id``): that is a Watchdog start. Neither file is
    synced, so a power cut may leave anything in them: what is no note is none."""
    folder = config.station.data_dir
    make_durable_directory(folder)
    note, seen = folder / "boot-cause", folder / "kernel-boot"
    cause = _kept(note)
    note.unlink(missing_ok=True)
    again = _kept(seen) == boot_id
    _keep(seen, boot_id)
    if cause in CAUSES:
        return cause
    return "Watchdog" if again else "PowerUp"


def _keep(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        log.warning("note not kept", file=str(file), why=error.strerror)


def _kept(file: Path) -> str:
    """Empty where the file is gone or says nothing that can be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(_SMALL_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
