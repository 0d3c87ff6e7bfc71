"""What files that leave this device are called: whose they are, what they are, and of when.

Charter: names only, safe on every file system and in every URL.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime


def archive_name(identity: str, wall_ms: int) -> str:
    """Such as ``evsed-CP-1-diagnostics-20261124T080000Z.tar.gz``."""
    return f"{stem(identity, 'diagnostics', wall_ms)}.tar.gz"


def stem(identity: str, what: str, wall_ms: int) -> str:
    """A file's name without its suffix."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", identity)
    at = datetime.fromtimestamp(wall_ms / 1_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"evsed-{safe}-{what}-{at}"
