"""Which boot of the machine this is.

Charter: one small file, the kernel's unless the configuration names another (a simulated machine has its own boots). A
process that restarted and a machine that restarted must be told apart.
"""

from __future__ import annotations

import uuid
from pathlib import Path


def read_boot_id(file: Path) -> str:
    """Text of at most 64 characters. Where nothing tells it, every start counts as a boot."""
    try:
        with file.open() as opened:
            return opened.read(64).strip() or str(uuid.uuid4())
    except (OSError, UnicodeDecodeError):
        return str(uuid.uuid4())
