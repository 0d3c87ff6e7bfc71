"""``evsed world run`` and ``evsed world soak``: what came of simulated worlds, for people and for machines.

Charter: reads what is wanted, shows how far it is (one line that is kept up to date on a terminal, a line now and then
elsewhere, both on standard error), and lays out the outcome. Exit codes: 0 all rules held, 1 one was broken, 2 wrong
use.

Units: virtual time in days and years, rates in simulated seconds per second.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agent.sim.world.campaign import Failure, Tally
    from agent.sim.world.run import Progress, Recipe, Result

YEAR_DAYS: Final = 365.25
_LONGEST_DAYS: Final = 1_000 * YEAR_DAYS
_SHOWN_ENTRIES: Final = 40
_SHOWN_FAILURES: Final = 5  # of one rule
_REDRAW_S: Final = 0.2
_LINE_EVERY_S: Final = 10.0
_TROUBLE: Final = "trouble "
_WORDS: Final = {
    "transactions": "sessions",
    "billed_wh": "energy billed (Wh)",
    "compared": "bills compared with the CSMS",
    "excused": "differences with an excuse",
    "looks at power": "looks at the power rules",
    "messages": "messages of OCPP",
    "orders": "orders of the operator",
}


class _WrongUse(Exception):
    """An argument makes no sense."""


def run(parsed: argparse.Namespace) -> int:
    """Live one world."""
    try:
        recipe = _recipe(parsed, parsed.seed, parsed.days if parsed.years is None else parsed.years * YEAR_DAYS)
        shrink_s = _number("--shrink-s", parsed.shrink_s, 0)
    except _WrongUse as wrong:
        return _refuse("run", wrong)
    from agent.sim.world.run import live

    with _Line() as line:
        result = live(recipe, _shows_progress(recipe, line))
    if not parsed.json:
        print(_summary(result))
        if not result.ok:
            print(f"\nA rule was broken on day {_day(result.lived_ms)}: {result.failure.strip()}")
            print(f"To see it again:\n  {result.shortest().line}", flush=True)
    smaller = result if result.ok or not shrink_s else _shrunken(result, shrink_s)
    if parsed.json:
        print(json.dumps(_as_json(result, smaller)))
    elif not result.ok:
        print(_story(smaller, "The same rule breaks" if smaller is not result else ""))
    return 0 if result.ok else 1


def soak(parsed: argparse.Namespace) -> int:
    """Live many worlds, until the time is up or somebody has seen enough."""
    try:
        first = _recipe(parsed, parsed.first_seed, parsed.days)
        for_s = _number("--minutes", parsed.minutes, 0) * 60
        jobs = int(_number("--jobs", parsed.jobs, 1)) if parsed.jobs is not None else len(os.sched_getaffinity(0))
    except _WrongUse as wrong:
        return _refuse("soak", wrong)
    from agent.sim.world.campaign import Campaign

    campaign = Campaign((replace(first, seed=seed) for seed in count(first.seed)), jobs, for_s)
    started_s = time.monotonic()
    with _Line() as line, suppress(KeyboardInterrupt):  # the table says what was broken off
        campaign.run(_shows_campaign(line, started_s))
    print(_outcome(campaign.tally, jobs, time.monotonic() - started_s))
    if parsed.json is not None:
        try:
            _write(parsed.json, first, campaign.tally)
        except OSError as error:
            print(f"evsed world soak: {parsed.json}: {error.strerror}", file=sys.stderr)
            return 1
    return 1 if campaign.tally.failures else 0


# ------------------------------------------------------------------------------------- what is wanted


def _recipe(parsed: argparse.Namespace, seed: int, days: float) -> Recipe:
    from agent.sim.world.run import DAY_MS, Recipe

    days = _number("the length", days, 0, _LONGEST_DAYS)
    without = frozenset(name for name in getattr(parsed, "without", "").split(",") if name)
    if not days:
        raise _WrongUse("the length must be more than nothing")
    try:
        return Recipe(seed, max(1, round(days * DAY_MS)), parsed.faults, parsed.pace, without)
    except ValueError as error:
        raise _WrongUse(str(error)) from None


def _number(what: str, value: float, least: float, most: float = math.inf) -> float:
    if not least <= value <= most or math.isinf(value):
        raise _WrongUse(f"{what} must be a number from {least:g}" + ("" if math.isinf(most) else f" to {most:g} days"))
    return value


def _refuse(command: str, wrong: _WrongUse) -> int:
    print(f"evsed world {command}: {wrong}", file=sys.stderr)
    return 2


# -------------------------------------------------------------------------------------- how far it is


class _Line:
    """One line on standard error that is written over, or a line now and then where that cannot be."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._next_s = 0.0

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def show(self, text: Callable[[], str]) -> None:
        """Made only where there is something to be shown by now."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + (_REDRAW_S if self._on_terminal else _LINE_EVERY_S)
        if self._on_terminal:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            print(f"\r\x1b[K{text()[: columns - 1]}", end="", file=sys.stderr, flush=True)
        else:
            print(text(), file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """What stays on the screen."""
        print(("\r\x1b[K" if self._on_terminal else "") + text, file=sys.stderr, flush=True)


def _shows_progress(recipe: Recipe, line: _Line) -> Callable[[Progress], None]:
    started_s = time.monotonic()

    def show(progress: Progress) -> None:
        line.show(
            lambda: (
                f"day {_day(progress.at_ms)} of {_day(recipe.until_ms)}, {progress.transactions} sessions, "
                f"{progress.troubles} faults, {_rate(progress.at_ms, time.monotonic() - started_s)}"
            )
        )

    return show


def _shows_campaign(line: _Line, started_s: float) -> Callable[[Tally], None]:
    """How far it is; a failure at once, since whoever waits for hours has something to look at by then."""
    told = 0

    def show(tally: Tally) -> None:
        nonlocal told
        for failure in tally.failures[told:]:
            line.say(f"seed {failure.recipe.seed}, day {_day(failure.at_ms)}: {_short(failure.text)}")
            line.say(f"  {failure.recipe.line}")
        told = len(tally.failures)
        line.show(lambda: _so_far(tally, started_s))

    return show


def _so_far(tally: Tally, started_s: float) -> str:
    passed_s = time.monotonic() - started_s
    return (
        f"{passed_s / 60:.1f} min, {tally.worlds} worlds, {_years(tally.lived_ms + tally.running_ms)} station-years, "
        f"{len(tally.failures)} failures, {_rate(tally.lived_ms + tally.running_ms, passed_s)}"
    )


def _shrunken(result: Result, for_s: float) -> Result:
    from agent.sim.world.shrink import shrink

    with _Line() as line:
        return shrink(
            result,
            for_s,
            lambda left, tried: line.show(lambda: f"shrinking: {left} kinds of trouble left, {tried} worlds lived"),
        )


# -------------------------------------------------------------------------------------- what came of it


def _summary(result: Result) -> str:
    recipe = result.recipe
    rows = {
        "lived": f"{_day(result.lived_ms)} of {_day(recipe.until_ms)} days",
        "rate": _rate(result.lived_ms, result.took_s),
        "hash of the log": result.digest,
    }
    verdict = "all rules held" if result.ok else "a rule was broken"
    title = f"World {recipe.seed}, faults {recipe.faults}, pace {recipe.pace}: {verdict}"
    return f"{title}\n\n{_table(rows | _happened(result.counts))}{_troubles(result.counts)}"


def _story(result: Result, claim: str) -> str:
    lines = [f"\n{claim} with less trouble:\n  {result.shortest().line}"] if claim else []
    whom = f"EVSE {result.evse} and the station" if result.evse else "the station and its EVSEs"
    lines.append(f"\nThe last that happened to {whom}:")
    return "\n".join([*lines, *(f"  {entry}".rstrip() for entry in result.story(_SHOWN_ENTRIES))])


def _outcome(tally: Tally, jobs: int, took_s: float) -> str:
    rows = {
        "worlds": f"{tally.worlds:,}",
        "station-years": _years(tally.lived_ms),
        "time": f"{took_s / 60:.1f} min with {jobs} at a time",
        "rate of one core": f"{tally.rate:,.0f} s/s",
    }
    if tally.broken_off:
        rows["broken off"] = f"seeds {', '.join(map(str, sorted(tally.broken_off)))}"
    rows["failures"] = f"{len(tally.failures):,}"
    return f"{_table(rows | _happened(tally.counts))}{_troubles(tally.counts)}{_failures(tally)}"


def _failures(tally: Tally) -> str:
    lines = []
    for rule, failures in tally.by_rule().items():
        lines.append(f"\n\n{len(failures)} x {_short(rule)}")
        for failure in failures[:_SHOWN_FAILURES]:
            lines.append(f"  seed {failure.recipe.seed}, day {_day(failure.at_ms)}: {_short(failure.text)}")
            lines.append(f"    {failure.recipe.line}")
        if len(failures) > _SHOWN_FAILURES:
            rest = ", ".join(str(failure.recipe.seed) for failure in failures[_SHOWN_FAILURES:])
            lines.append(f"  also seeds {rest}")
    return "\n".join(lines)


def _short(text: str) -> str:
    """Of a stack of calls what it was for, and how it ended."""
    first, *rest = text.strip().splitlines()
    return f"{first} ... {rest[-1].strip()}" if rest else first


def _happened(counts: Mapping[str, int]) -> dict[str, str]:
    return {_WORDS.get(name, name): f"{n:,}" for name, n in counts.items() if not name.startswith(_TROUBLE)}


def _troubles(counts: Mapping[str, int]) -> str:
    rows = {
        name.removeprefix(_TROUBLE).replace("_", " "): f"{n:,}"
        for name, n in sorted(counts.items())
        if name.startswith(_TROUBLE)
    }
    return f"\n\nWhat went wrong:\n{_table(rows)}" if rows else "\n\nNothing went wrong."


def _table(rows: Mapping[str, str]) -> str:
    """Numbers to the right in their column, words to the left."""
    left = max(map(len, rows))
    right = max((len(value) for value in rows.values() if value[-1:].isdigit()), default=0)
    return "\n".join(
        f"  {name:{left}}  {value:>{right}}"
        if value[:1].isdigit() and value[-1:].isdigit()
        else f"  {name:{left}}  {value}"
        for name, value in rows.items()
    )


def _day(at_ms: int) -> str:
    from agent.sim.world.run import DAY_MS

    return f"{at_ms / DAY_MS:,.2f}"


def _years(lived_ms: int) -> str:
    from agent.sim.world.run import DAY_MS

    return f"{lived_ms / DAY_MS / YEAR_DAYS:,.2f}"


def _rate(lived_ms: int, took_s: float) -> str:
    return f"{lived_ms / 1_000 / max(took_s, 0.001):,.0f} s/s"


# ---------------------------------------------------------------------------------------- for machines


def _as_json(result: Result, smaller: Result) -> dict[str, Any]:
    view = {
        "ok": result.ok,
        "replay": result.recipe.line if result.ok else result.shortest().line,
        "lived_ms": result.lived_ms,
        "took_s": round(result.took_s, 3),
        "cpu_s": round(result.cpu_s, 3),
        "digest": result.digest,
        "counts": result.counts,
    }
    if not result.ok:
        view["failure"] = {
            "rule": result.rule,
            "text": result.failure,
            "evse": result.evse,
            "shrunken": smaller.shortest().line,
            "story": [str(entry) for entry in smaller.story(_SHOWN_ENTRIES)],
        }
    return view


def _write(file: Path, first: Recipe, tally: Tally) -> None:
    """The outcome of a campaign as a file."""
    view = {
        "faults": first.faults,
        "pace": first.pace,
        "world_ms": first.until_ms,
        "first_seed": first.seed,
        "worlds": tally.worlds,
        "lived_ms": tally.lived_ms,
        "cpu_s": round(tally.cpu_s, 1),
        "broken_off": sorted(tally.broken_off),
        "counts": dict(tally.counts),
        "failures": [_failure(failure) for failure in tally.failures],
    }
    file.write_text(json.dumps(view, indent=2) + "\n")


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "seed": failure.recipe.seed,
        "at_ms": failure.at_ms,
        "rule": failure.rule,
        "text": failure.text,
        "replay": failure.recipe.line,
    }
