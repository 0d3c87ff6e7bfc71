"""Whether something vouches for the machine's clock.

Charter: one question, asked at a start, and on while the answer is no. Where no battery keeps it, a clock goes on about
where it stood: it was put there by systemd-timesyncd or fake-hwclock, looks right, and may be hours behind. Proof is a
hardware clock that shows the same time (one without a battery begins in 1970 or cannot be read), or
systemd-timesyncd's note that a server has told the time since the boot. The kernel's own word (adjtimex) is not asked:
the unit's sandbox forbids it.

Source: the kernel's Documentation/ABI/testing/sysfs-class-rtc; systemd-timesyncd.service(8). Units: ms.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

RTCS: Final = Path("/sys/class/rtc")
SYNCHRONIZED: Final = Path("/run/systemd/timesync/synchronized")
_AGREES_MS: Final = 5_000  # a hardware clock tells whole seconds, and runs on its own


def clock_is_proven(wall_ms: int, rtcs: Path = RTCS, synchronized: Path = SYNCHRONIZED) -> bool:
    """Whether something vouches for ``wall_ms`` (UTC), the time that the machine's clock shows now."""
    with contextlib.suppress(OSError):  # what must not be looked at proves nothing
        if synchronized.exists():
            return True
    told = (_read_ms(file) for file in rtcs.glob("rtc*/since_epoch"))
    return any(ms is not None and abs(wall_ms - ms) <= _AGREES_MS for ms in told)


def _read_ms(file: Path) -> int | None:
    """None: this clock does not know the time, or is gone."""
    try:
        return int(file.read_text()) * 1_000
    except (OSError, ValueError):
        return None
