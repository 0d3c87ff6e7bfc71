"""The log of a simulated world: what happened, in plain words, and one hash over all of it.

Charter: keeps the last entries for people, and a running hash that two runs of the same seed must share. Only what
is the same in every run may be told here: no object addresses, no real time.

Units: ms of virtual time.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

KEPT: Final = 4_000
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Entry:
    """``evse`` 0: the station or its surroundings as a whole."""

    at_ms: int
    evse: int
    text: str

    def __str__(self) -> str:
        where = f"EVSE {self.evse}" if self.evse else "station"
        return f"{moment(self.at_ms)}  {where:8} {self.text}"


class Journal:
    """See the module. ``counts`` are by kind of happening."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.counts: Counter[str] = Counter()
        self._hash = hashlib.sha256()

    def note(self, at_ms: int, evse: int, text: str, unsaid: bytes = b"") -> None:
        """``unsaid``: what is nothing for people, and must be the same in every run too."""
        self.entries.append(Entry(at_ms, evse, text))
        self._hash.update(f"{at_ms} {evse} {text}\n".encode() + unsaid)

    @property
    def digest(self) -> str:
        """Of everything noted so far, 16 hex digits."""
        return self._hash.hexdigest()[:16]

    def last(self, count: int) -> list[Entry]:
        """The last entries, oldest first."""
        return list(self.entries)[-count:]


def concerning(evse: int, entries: Iterable[Entry]) -> list[Entry]:
    """What an EVSE has to do with: its own entries and the station's. 0, the station, has to do with everything."""
    return [entry for entry in entries if not evse or entry.evse in (0, evse)]


def moment(at_ms: int) -> str:
    """``day 12 03:04:05.678`` of virtual time."""
    days, rest = divmod(at_ms, _DAY_MS)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    seconds, millis = divmod(rest, 1_000)
    return f"day {days} {hours:02}:{minutes:02}:{seconds:02}.{millis:03}"
