"""Profiles as plain dicts: the neutral form on disk and between processes.

Charter: values <-> dicts of numbers, strings, lists. Keys are the field names of ``profiles`` and ``store``;
what is None is left out. A wrong type or a missing field is a MalformedRecord that names its place. Profiles may have
been stored by a newer release (ADR 29): what has a key unknown here is read without it, and one that cannot be read
does not hold, but is stored again as it was. OCPP payloads are the dialects' business.

The set of profiles on disk is ``{"format": 1, "installed": [{"evse_id", "source", "installed_ms", "profile"}, ...]}``;
older software wrote no ``installed_ms``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, TypeVar

from agent.charging.profiles import ChargingProfile, Kind, LimitSource, Period, Purpose, RateUnit, Recurrency, Schedule
from agent.charging.rules import Rules, check_structure
from agent.charging.store import Criteria, Installed, ProfileSet

FORMAT = 1

_E = TypeVar("_E", bound=enum.StrEnum)
_T = TypeVar("_T")


class MalformedRecord(ValueError):
    """The dict is not what this module writes. ``path`` is the place, ``detail`` what is wrong there."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


def set_to_plain(profiles: ProfileSet) -> dict[str, Any]:
    installed = [
        {
            "evse_id": entry.evse_id,
            "source": entry.source.value,
            "installed_ms": entry.installed_ms,
            "profile": profile_to_plain(entry.profile),
        }
        for entry in profiles.entries
    ]
    return {"format": FORMAT, "installed": [*installed, *profiles.unread]}


def set_from_plain(plain: object) -> tuple[ProfileSet, list[MalformedRecord]]:
    """The set that ``set_to_plain`` wrote, and what is wrong with what is ``unread`` in it. Raises MalformedRecord for
    what is no set."""
    record = _Record(plain, "profiles")
    version = record.integer("format")
    if version != FORMAT:
        raise MalformedRecord("profiles.format", f"is {version}, not {FORMAT}")
    read: dict[tuple[int, Purpose, int, LimitSource], Installed] = {}
    unread: list[object] = []
    wrong: list[MalformedRecord] = []

    def one(item: object, path: str) -> None:
        try:
            entry = _installed(item, path)
            key = entry.profile.id, entry.profile.purpose, entry.evse_id, entry.source
            if key in read:
                raise MalformedRecord(path, f"another profile in its place has the id {entry.profile.id}, too")
        except MalformedRecord as error:
            unread.append(item)
            wrong.append(error)
        else:
            read[key] = entry

    record.items("installed", one)
    return ProfileSet(tuple(read.values()), tuple(unread)), wrong


def profile_to_plain(profile: ChargingProfile) -> dict[str, Any]:
    return _without_none(
        id=profile.id,
        stack_level=profile.stack_level,
        purpose=profile.purpose.value,
        kind=profile.kind.value,
        recurrency=None if profile.recurrency is None else profile.recurrency.value,
        valid_from_ms=profile.valid_from_ms,
        valid_to_ms=profile.valid_to_ms,
        transaction_id=profile.transaction_id,
        schedules=[_schedule_to_plain(schedule) for schedule in profile.schedules],
    )


def profile_from_plain(plain: object, path: str = "profile") -> ChargingProfile:
    """A profile of right types; whether it obeys the rules is for ``rules`` to say."""
    record = _Record(plain, path)
    return ChargingProfile(
        id=record.integer("id"),
        stack_level=record.integer("stack_level"),
        purpose=record.member("purpose", Purpose),
        kind=record.member("kind", Kind),
        schedules=record.items("schedules", _schedule),
        recurrency=record.optional("recurrency", lambda key: record.member(key, Recurrency)),
        valid_from_ms=record.optional("valid_from_ms", record.integer),
        valid_to_ms=record.optional("valid_to_ms", record.integer),
        transaction_id=record.optional("transaction_id", record.text),
    )


def criteria_to_plain(criteria: Criteria) -> dict[str, Any]:
    return _without_none(
        ids=None if criteria.ids is None else sorted(criteria.ids),
        evse_id=criteria.evse_id,
        purpose=None if criteria.purpose is None else criteria.purpose.value,
        stack_level=criteria.stack_level,
        sources=None if criteria.sources is None else sorted(source.value for source in criteria.sources),
    )


def criteria_from_plain(plain: object) -> Criteria:
    record = _Record(plain, "criteria")
    ids = record.optional("ids", lambda key: record.items(key, _integer))
    sources = record.optional("sources", lambda key: record.items(key, lambda it, at: _member(it, at, LimitSource)))
    criteria = Criteria(
        ids=None if ids is None else frozenset(ids),
        evse_id=record.optional("evse_id", record.integer),
        purpose=record.optional("purpose", lambda key: record.member(key, Purpose)),
        stack_level=record.optional("stack_level", record.integer),
        sources=None if sources is None else frozenset(sources),
    )
    record.finish()
    return criteria


def _schedule_to_plain(schedule: Schedule) -> dict[str, Any]:
    return _without_none(
        id=schedule.id,
        unit=schedule.unit.value,
        start_ms=schedule.start_ms,
        duration_s=schedule.duration_s,
        min_charging_rate_milli=schedule.min_charging_rate_milli,
        periods=[
            _without_none(
                start_s=period.start_s,
                limit_milli=period.limit_milli,
                number_phases=period.number_phases,
                phase_to_use=period.phase_to_use,
            )
            for period in schedule.periods
        ],
    )


def _without_none(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _installed(plain: object, path: str) -> Installed:
    record = _Record(plain, path)
    profile = profile_from_plain(record.take("profile"), f"{path}.profile")
    # What was installed was well-formed; the evaluation relies on it. 1.6 is the wider of the two.
    if (refusal := check_structure(profile, Rules.OCPP16)) is not None:
        raise MalformedRecord(f"{path}.profile", str(refusal))
    installed_ms = record.optional("installed_ms", record.integer) or 0
    return Installed(record.integer("evse_id"), profile, record.member("source", LimitSource), installed_ms)


def _schedule(plain: object, path: str) -> Schedule:
    record = _Record(plain, path)
    return Schedule(
        unit=record.member("unit", RateUnit),
        periods=record.items("periods", _period),
        duration_s=record.optional("duration_s", record.integer),
        start_ms=record.optional("start_ms", record.integer),
        id=record.optional("id", record.integer),
        min_charging_rate_milli=record.optional("min_charging_rate_milli", record.integer),
    )


def _period(plain: object, path: str) -> Period:
    record = _Record(plain, path)
    return Period(
        start_s=record.integer("start_s"),
        limit_milli=record.integer("limit_milli"),
        number_phases=record.optional("number_phases", record.integer),
        phase_to_use=record.optional("phase_to_use", record.integer),
    )


class _Record:
    """A dict being read: each field is taken once."""

    def __init__(self, plain: object, path: str) -> None:
        if not isinstance(plain, dict):
            raise MalformedRecord(path, f"is {type(plain).__name__}, not an object")
        self._left: dict[object, object] = dict(plain)
        self._path = path

    def take(self, key: str) -> object:
        if key not in self._left:
            raise MalformedRecord(f"{self._path}.{key}", "is missing")
        return self._left.pop(key)

    def optional(self, key: str, read: Callable[[str], _T]) -> _T | None:
        return read(key) if key in self._left else None

    def integer(self, key: str) -> int:
        return _integer(self.take(key), f"{self._path}.{key}")

    def text(self, key: str) -> str:
        value = self.take(key)
        if not isinstance(value, str):
            raise MalformedRecord(f"{self._path}.{key}", f"is {value!r}, not a string")
        return value

    def member(self, key: str, of: type[_E]) -> _E:
        return _member(self.take(key), f"{self._path}.{key}", of)

    def items(self, key: str, read: Callable[[object, str], _T]) -> tuple[_T, ...]:
        value, path = self.take(key), f"{self._path}.{key}"
        if not isinstance(value, list):
            raise MalformedRecord(path, f"is {type(value).__name__}, not a list")
        return tuple(read(item, f"{path}[{index}]") for index, item in enumerate(value))

    def finish(self) -> None:
        """Raises MalformedRecord for a field that nobody asked for."""
        if self._left:
            raise MalformedRecord(self._path, f"unknown field {next(iter(self._left))!r}")


def _integer(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedRecord(path, f"is {value!r}, not an integer")
    return value


def _member(value: object, path: str, of: type[_E]) -> _E:
    if not isinstance(value, str) or value not in of.__members__.values():
        raise MalformedRecord(path, f"is {value!r}, not one of {', '.join(of)}")
    return of(value)
