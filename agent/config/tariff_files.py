"""Whether the tariff files that a configuration names are tariffs.

Charter: reads each file once and turns every mistake in it into a problem of the configuration. The live tariff's is
left out: another program writes it later. Oddities that are no mistakes are for ``evsed tariff check``. What would
price nothing, and still is no problem, is told by ``evsed check-config``: a tariff of the future (at a start nobody may
know the time), and a live tariff with hours of nobody's day (its writer may say another any time, and a station that
does not start sells nothing).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.config.money import PriceConfig
from agent.config.problem import Problem
from agent.passing import is_passing
from agent.tariff.canonical import MAX_BYTES, content_hash
from agent.tariff.check import goes_by_local_time, not_yet
from agent.tariff.parse import parse_tariff
from agent.tariff.problem import TariffError


def tariff_problems(price: PriceConfig, *, has_time_zone: bool) -> Iterator[Problem]:
    """Every mistake in the named files, ids that stand for two contents, and hours of nobody's day."""
    known: dict[str, tuple[str, str]] = {}
    for path, file in _named(price):
        try:
            text = _read(file)
        except OSError as error:
            yield Problem(path, "a readable file", f"{file} ({error.strerror})", passing=is_passing(error))
            continue
        if len(text) > MAX_BYTES:
            yield Problem(path, f"a file of at most {MAX_BYTES} bytes", str(file))
            continue
        try:
            tariff = parse_tariff(text, allow_negative=price.allow_negative)
            content = content_hash(text)
        except TariffError as error:
            for each in error.problems:
                yield Problem(f"{path}: {file.name}: {each.path}", each.expected, each.found)
            continue
        if goes_by_local_time(tariff) and not has_time_zone:
            wanted = f'the time zone, "UTC" too, since {path} has prices by local time'
            yield Problem("station.time_zone", wanted, "nothing", 'time_zone = "Europe/Berlin"')
            has_time_zone = True  # told once
        first, other = known.setdefault(tariff.tariff_id, (path, content))
        if other != content:
            yield Problem(path, f"another tariffId than {first} has, whose content differs", tariff.tariff_id)


def tariff_warnings(price: PriceConfig, wall_ms: int, *, has_time_zone: bool) -> Iterator[str]:
    """Of a configuration without problems: the files that price nothing, or nothing yet."""
    for path, file in _named(price):
        for finding in not_yet(parse_tariff(_read(file), allow_negative=price.allow_negative), wall_ms):
            yield f"{path}: {file.name}: {finding}"
    if not has_time_zone and _live_goes_by_local_time(price):
        yield "price.live_tariff: has prices by local time, and is refused while station.time_zone is not there"


def _live_goes_by_local_time(price: PriceConfig) -> bool:
    """As its file is now, where it is a tariff and this process may read it."""
    if price.live_tariff is None:
        return False
    try:
        return goes_by_local_time(parse_tariff(_read(price.live_tariff), allow_negative=price.allow_negative))
    except (OSError, TariffError):
        return False


def _named(price: PriceConfig) -> Iterator[tuple[str, Path]]:
    files = [("price.tariff", price.tariff)]
    files += [(f"price.assign[{number}].tariff", each.tariff) for number, each in enumerate(price.assign)]
    yield from ((path, file) for path, file in files if file is not None)


def _read(file: Path) -> bytes:
    """One byte more than may be, at most."""
    with file.open("rb") as source:
        return source.read(MAX_BYTES + 1)
