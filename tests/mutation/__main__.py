"""``python -m tests.mutation [PATTERN ...] [--sample N [--seed S]] [--keep DIR]``: would the tests notice?

Charter: copies the project, changes one thing at a time in the files named in ``pyproject.toml`` (``[tool.mutmut]``),
runs the unit tests that reach it (``forks``), and looks at each mutant that no test noticed. One that
``survivors.toml`` explains may stay. Any other gets a second chance: a process of its own, in which code that runs at
import is changed too, and the property tests of its package. ``PATTERN`` limits the run to some mutants by their
names (``agent.core.limit*``), ``--sample`` to so many of them, chosen by ``--seed``.

Exit code 0 when every survivor is explained; 1 when one is not, or the tests fail without any mutant; 2 for a bad
command. Needs mutmut in the environment it runs in (``make mutants`` makes one).
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.mutation.excuses import BadList, Excuses, load
from tests.mutation.forks import Verdict
from tests.mutation.mutants import Mutant, make

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
COPIED = ("agent", "hal", "packaging", "tests", "pyproject.toml")
PACKAGES = ("core", "ledger", "tariff")
PROPERTIES = {
    "core": ("test_core_world.py",),
    "ledger": ("test_ledger_chain.py", "test_ledger_history.py"),
    "tariff": ("test_tariff_oracle.py", "test_tariff_cost.py", "test_tariff_time.py"),
}
SECOND_CHANCE_S = 600
ALIVE = (Verdict.SURVIVED, Verdict.NOT_REACHED)


class TestsFail(Exception):
    """The tests fail although nothing was changed; what they said is on standard error."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Would the tests notice?")
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="mutants by their names; all without")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many, chosen by the seed")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (1)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy to there, and leave the copy behind")
    options = parser.parse_args(arguments)
    console = Console()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="evsed-mutants-") as scratch:
        folder = options.keep or Path(scratch)
        try:
            explained = load(SURVIVORS)
            _copy(folder)
            mutants = [mutant for mutant in make(folder) if _wanted(mutant.name, options.patterns)]
            there_are = len(mutants)
            mutants = _sample(mutants, options.sample, options.seed)
            verdicts = _first(folder, mutants)
        except (BadList, TestsFail) as error:
            console.print(str(error), style="red", markup=False)
            return 1
        _second(folder, mutants, verdicts, explained)
    console.print(f"{len(mutants)} of {there_are} mutants in {(time.monotonic() - began_s) / 60:.0f} minutes")
    return _report(console, mutants, verdicts, explained, whole=not (options.patterns or options.sample))


def _copy(folder: Path) -> None:
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored, dirs_exist_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _sample(mutants: list[Mutant], size: int | None, seed: int) -> list[Mutant]:
    """So many of them, in their order: mutants of one function are killed quickest one after the other."""
    if size is None or size >= len(mutants):
        return mutants
    return [mutants[index] for index in sorted(random.Random(seed).sample(range(len(mutants)), size))]


def _first(folder: Path, mutants: Sequence[Mutant]) -> dict[str, Verdict]:
    """A verdict for each mutant by the unit tests of all packages. Raises ``TestsFail``."""
    tests = [f"tests/unit/{package}" for package in PACKAGES]
    command = [sys.executable, "-m", "tests.mutation.forks", *tests]
    verdicts: dict[str, Verdict] = {}
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
    ) as forks:
        assert forks.stdin is not None and forks.stdout is not None
        forks.stdin.write("\n".join(mutant.name for mutant in mutants))
        forks.stdin.close()
        for line in track(forks.stdout, "mutants", total=len(mutants)):
            verdict, name = line.split()
            verdicts[name] = Verdict(verdict)
    if forks.returncode != 0 or len(verdicts) != len(mutants):
        raise TestsFail("the tests fail although nothing was changed")
    return verdicts


def _second(folder: Path, mutants: Sequence[Mutant], verdicts: dict[str, Verdict], explained: Excuses) -> None:
    """A new verdict for those that are alive and not explained."""
    alive = [each for each in mutants if verdicts[each.name] in ALIVE and explained.reason(each.change) is None]
    for mutant in track(alive, "second chance"):
        verdicts[mutant.name] = _run_alone(folder, mutant)


def _run_alone(folder: Path, mutant: Mutant) -> Verdict:
    package = mutant.change.file.split("/")[1]
    tests = [f"tests/unit/{package}", *(f"tests/properties/{name}" for name in PROPERTIES[package])]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = _environment() | {"MUTANT_UNDER_TEST": mutant.name}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, check=False, timeout=SECOND_CHANCE_S
        )
    except subprocess.TimeoutExpired:
        return Verdict.TIMEOUT
    return Verdict.SURVIVED if done.returncode == 0 else Verdict.KILLED


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def _report(
    console: Console, mutants: Sequence[Mutant], verdicts: dict[str, Verdict], explained: Excuses, *, whole: bool
) -> int:
    counts: dict[str, collections.Counter[str]] = {}
    unexplained, alive = [], set()
    for mutant in mutants:
        kind = str(verdicts[mutant.name])
        if verdicts[mutant.name] in ALIVE:
            alive.add(mutant.change)
            kind = "unexplained" if explained.reason(mutant.change) is None else "explained"
            if kind == "unexplained":
                unexplained.append(mutant)
        counts.setdefault(mutant.change.file, collections.Counter())[kind] += 1
    console.print(_table(counts))
    for change in explained.reasons.keys() - alive if whole else ():
        console.print(f"not needed in {SURVIVORS.name}: {change}", markup=False, highlight=False)
    for mutant in unexplained:
        change = mutant.change
        console.print(f"\n{change.file} {change.function} ({mutant.name})", markup=False, highlight=False)
        console.print(f"- {change.old}\n+ {change.new}", markup=False, highlight=False)
    if unexplained:
        console.print(f"\n{len(unexplained)} mutants survive, and nobody has said why", style="red")
    return 1 if unexplained else 0


def _table(counts: dict[str, collections.Counter[str]]) -> Table:
    kinds = ("killed", "timeout", "explained", "unexplained")
    table = Table("file", "mutants", *kinds)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, count in [*sorted(counts.items()), ("all", sum(counts.values(), collections.Counter()))]:
        table.add_row(name, str(count.total()), *(str(count[kind]) for kind in kinds))
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
