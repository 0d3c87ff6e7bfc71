"""What is seen now, turned into the health of every part: since when, how often, and what changed.

Charter: pure; time is given. Whoever looks gives all that is wrong at this moment and the state of every part with
nothing wrong; the fold remembers since when. A trouble that keeps coming and going is damped: one that has come
``FLAPS`` times, each within ``SPELL_MS`` of its last going, stays shown until it has been away for ``QUIET_MS``. Only
what is shown and told is damped, never what the core does about a fault.

Units: ``at_ms`` is monotonic; ``wall_offset_ms`` + monotonic time = UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from agent.health.catalogue import CATALOGUE, Entry
from agent.health.model import Condition, Part, PartHealth

FLAPS: Final = 3
SPELL_MS: Final = 600_000
QUIET_MS: Final = 60_000
DETAIL_MAX_CHARS: Final = 200
_ORDER: Final = {part: number for number, part in enumerate(Part)}

Place = tuple[Part, int]
"""A part and its EVSE (0: of the station)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something is wrong now. ``code`` is in the catalogue; ``detail`` is what device or program said of it."""

    code: str
    evse: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rest:
    """How a part is as long as nothing is found wrong with it; ``reason`` where it is not well."""

    condition: Condition = Condition.OK
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """``raised`` and ``cleared`` are troubles that came and went; ``parts`` is all there is to say now of each part
    where anything changed."""

    raised: tuple[PartHealth, ...] = ()
    cleared: tuple[PartHealth, ...] = ()
    parts: tuple[PartHealth, ...] = ()


@dataclass(slots=True)
class _Trouble:
    """One code at one EVSE, from its first coming until nobody need remember it. Times are monotonic."""

    entry: Entry
    since_ms: int  # of being shown
    detail: str
    times: int = 1
    gone_ms: int | None = None
    shown: bool = True

    def row(self, evse: int) -> PartHealth:
        entry = self.entry
        often = f" (came and went {self.times} times)" if self.times >= FLAPS else ""
        reason = entry.text + (f": {self.detail}" if self.detail else "") + often
        known = (entry.condition, entry.code, reason, entry.remedy, self.since_ms)
        return PartHealth(entry.part, evse, *known, latched=entry.latched)


class HealthFold:
    """The health of a station; see the module. Inside, the time in a row is monotonic: setting the clock changes
    nothing."""

    def __init__(self) -> None:
        self._troubles: dict[tuple[str, int], _Trouble] = {}
        self._rows: dict[Place, tuple[PartHealth, ...]] = {}
        self._seen: tuple[object, object] = (None, None)  # at the last look

    def look(
        self, findings: Iterable[Finding], rests: Mapping[Place, Rest], at_ms: int, wall_offset_ms: int
    ) -> Changes:
        """Take all that is wrong at ``at_ms``, and how each part there is rests. Raises ``KeyError`` for a code that is
        not in the catalogue."""
        found = {(finding.code, finding.evse): finding for finding in findings}
        if self._seen == (found, rests) and all(trouble.gone_ms is None for trouble in self._troubles.values()):
            return Changes()  # as mostly: nothing is new, and nothing fades
        self._seen = found, rests
        self._forget(at_ms)
        raised = [key for key, finding in found.items() if self._comes(finding, at_ms)]
        cleared = [key for key in self._troubles if key not in found and self._goes(self._troubles[key], at_ms)]
        told = [[self._troubles[key].row(key[1]) for key in keys] for keys in (raised, cleared)]
        rows = self._rows_now(rests, at_ms)
        changed = [row for place, now in rows.items() if now != self._rows.get(place) for row in now]
        self._rows = rows
        return Changes(*(tuple(_in_wall_time(each, wall_offset_ms)) for each in (*told, changed)))

    def parts(self, wall_offset_ms: int) -> list[PartHealth]:
        """Every part, in the order of ``Part`` and EVSE, the worst of a part first."""
        return _in_wall_time((row for rows in self._rows.values() for row in rows), wall_offset_ms)

    # ------------------------------------------------------------------------------------- troubles

    def _comes(self, finding: Finding, at_ms: int) -> bool:
        """Whether a trouble that is there now was not shown before."""
        key, detail = (finding.code, finding.evse), finding.detail[:DETAIL_MAX_CHARS]
        trouble = self._troubles.get(key)
        if trouble is None:
            self._troubles[key] = _Trouble(CATALOGUE[finding.code], at_ms, detail)
            return True
        trouble.detail = detail
        if trouble.gone_ms is None:
            return False
        was_shown = trouble.shown
        trouble.times += 1
        trouble.gone_ms, trouble.shown = None, True
        if not was_shown:
            trouble.since_ms = at_ms
        return not was_shown

    def _goes(self, trouble: _Trouble, at_ms: int) -> bool:
        """Whether a trouble that is not there now is shown no longer."""
        if not trouble.shown:
            return False
        if trouble.gone_ms is None:
            trouble.gone_ms = at_ms
        quiet_ms = QUIET_MS if trouble.times >= FLAPS else 0
        trouble.shown = at_ms - trouble.gone_ms < quiet_ms
        return not trouble.shown

    def _forget(self, at_ms: int) -> None:
        for key, trouble in list(self._troubles.items()):
            if not trouble.shown and trouble.gone_ms is not None and at_ms - trouble.gone_ms >= SPELL_MS:
                del self._troubles[key]

    # ----------------------------------------------------------------------------------------- rows

    def _rows_now(self, rests: Mapping[Place, Rest], at_ms: int) -> dict[Place, tuple[PartHealth, ...]]:
        shown: dict[Place, list[PartHealth]] = {place: [] for place in rests}
        for (code, evse), trouble in self._troubles.items():
            if trouble.shown:
                shown.setdefault((CATALOGUE[code].part, evse), []).append(trouble.row(evse))
        return {
            place: tuple(sorted(rows, key=_badness)) or self._rest(place, rests[place], at_ms)
            for place, rows in sorted(shown.items(), key=lambda item: (_ORDER[item[0][0]], item[0][1]))
        }

    def _rest(self, place: Place, rest: Rest, at_ms: int) -> tuple[PartHealth, ...]:
        part, evse = place
        before = self._rows.get(place, ())
        for row in before:
            if not row.code and (row.condition, row.reason) == (rest.condition, rest.reason):
                return before
        return (PartHealth(part, evse, rest.condition, reason=rest.reason, since_wall_ms=at_ms),)


def _badness(row: PartHealth) -> tuple[int, str]:
    return CATALOGUE[row.code].severity, row.code


def _in_wall_time(rows: Iterable[PartHealth], offset_ms: int) -> list[PartHealth]:
    return [replace(row, since_wall_ms=row.since_wall_ms + offset_ms) for row in rows]
