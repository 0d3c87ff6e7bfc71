"""Whether the tariff files that a configuration names are tariffs.

Charter: reads each file once and turns every mistake in it into a problem of the configuration. The live tariff
is left out: another program writes it later. Oddities that are no mistakes are for ``evsed tariff check``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.config.money import PriceConfig
from agent.config.problem import Problem
from agent.passing import is_passing
from agent.tariff.canonical import MAX_BYTES, content_hash
from agent.tariff.parse import parse_tariff
from agent.tariff.problem import TariffError


def tariff_problems(price: PriceConfig) -> Iterator[Problem]:
    """Every mistake in the named files, and ids that stand for two contents."""
    named = [("price.tariff", price.tariff)]
    named += [(f"price.assign[{number}].tariff", each.tariff) for number, each in enumerate(price.assign)]
    known: dict[str, tuple[str, str]] = {}
    for path, file in named:
        if file is None:
            continue
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
        first, other = known.setdefault(tariff.tariff_id, (path, content))
        if other != content:
            yield Problem(path, f"another tariffId than {first} has, whose content differs", tariff.tariff_id)


def _read(file: Path) -> bytes:
    """One byte more than may be, at most."""
    with file.open("rb") as source:
        return source.read(MAX_BYTES + 1)
