"""What this device says of itself: versions, kernel, systemd, disks. Parts of the diagnostics archive.

Charter: one function per part; each raises where it has nothing (no systemd, no such file, not allowed), and that is
told in the manifest. Programs are started without a shell, with a time limit and nothing to read. Blocks: used from a
thread. In the gateway's sandbox much of this cannot be had; the command line, as root, has it all.

Units: bytes.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from agent.telemetry.masking import mask_text

FILE_MAX_BYTES: Final = 256 * 1024
OUTPUT_MAX_BYTES: Final = 1024 * 1024
PROGRAM_MAX_S: Final = 10

_UNITS: Final = ("evsed-station.service", "evsed-gateway.service", "evsed-installer.service", "evsed.target")
_JOURNAL_LINES: Final = 2_000
_C_LOCALE: Final = {"LC_ALL": "C", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}


class NotToBeHad(Exception):
    """This device does not tell it; the text says why."""


def versions() -> bytes:
    """Of everything that runs here, as JSON."""
    packages = {each.metadata["Name"]: each.version for each in distributions()}
    system = os.uname()
    return _json(
        {
            "python": platform.python_version(),
            "packages": dict(sorted(packages.items())),
            "kernel": {"name": system.sysname, "release": system.release, "version": system.version},
            "machine": system.machine,
            "os_release": _os_release(),
        }
    )


def _os_release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def disks(folders: Iterable[Path]) -> bytes:
    """Room on the file systems of these folders, as JSON; None for one that is not there or not ours to see."""
    found: dict[str, dict[str, int] | None] = {}
    for folder in folders:
        try:
            total, used, free = shutil.disk_usage(folder)
            found[str(folder)] = {"total_bytes": total, "used_bytes": used, "free_bytes": free}
        except OSError:
            found[str(folder)] = None
    return _json(found)


def file(path: str) -> Callable[[], bytes]:
    """The beginning of a small file, such as those of /proc. The function raises ``OSError``."""

    def read() -> bytes:
        with Path(path).open("rb") as opened:
            return opened.read(FILE_MAX_BYTES)

    return read


def units() -> bytes:
    """What systemd says of ours. Raises ``NotToBeHad``."""
    return _said("systemctl", "show", "--no-pager", *_UNITS)


def journal() -> bytes:
    """Our newest lines there. Raises ``NotToBeHad``."""
    return _said("journalctl", "--no-pager", "-q", "-o", "short-iso", "-n", str(_JOURNAL_LINES), "-u", "evsed*")


def kernel_log() -> bytes:
    """The kernel's messages. Raises ``NotToBeHad``."""
    return _said("dmesg")


def _said(*command: str) -> bytes:
    """The end of a program's output."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROGRAM_MAX_S,
            check=False,
            env=_C_LOCALE,
        )
    except FileNotFoundError:
        raise NotToBeHad(f"there is no {command[0]} here") from None
    except subprocess.TimeoutExpired:
        raise NotToBeHad(f"{command[0]} did not end within {PROGRAM_MAX_S} s") from None
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise NotToBeHad(f"{command[0]} says: {said[0][:200]}")
    return mask_text(done.stdout[-OUTPUT_MAX_BYTES:].decode(errors="replace")).encode()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
