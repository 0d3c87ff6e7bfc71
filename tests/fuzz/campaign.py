"""``make fuzz``: every target in turn under the coverage-guided fuzzer, and what came of it.

Charter: starts an ``engine`` process for each target, one at a time, with limits on time and memory; cuts its findings
down, keeps them in the corpus, and says the line that replays each. Nothing here is part of the tests.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.finding import finding, minimised
from tests.fuzz.table import CORPUS, TARGETS, corpus
from tests.fuzz.target import Target

_HANG_S: Final = 10
_MEMORY_MAX_MB: Final = 1024
_START_S: Final = 120
"""Importing and instrumenting everything takes some seconds before the time of fuzzing begins; ends have limits too."""
_TABLE: Final = "{:20} {:>10} {:>8} {:>8} {:>8} {:>8}"
_ABORTED: Final = re.compile(r"(timeout|oom|slow-unit|crash|leak)-")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one target. ``features`` is libFuzzer's count of edges with how often they are passed; ``failed``: the engine
    ended in another way than it should, in its last words."""

    name: str
    runs: int
    per_s: int
    features: int
    peak_mb: int
    cases: tuple[Path, ...]
    failed: str = ""


def campaign(names: Sequence[str], seconds: int, python: Path) -> bool:
    """Fuzz the targets for ``seconds`` each; True: nothing was found. ``python`` has the fuzzer."""
    print(_TABLE.format("target", "runs", "runs/s", "features", "peak MB", "findings"), flush=True)
    outcomes = []
    for name in names:
        outcome = _fuzz(TARGETS[name], seconds, python)
        outcomes.append(outcome)
        counts = (outcome.runs, outcome.per_s, outcome.features, outcome.peak_mb, len(outcome.cases))
        print(_TABLE.format(name, *counts), flush=True)
    for outcome in outcomes:
        for case in outcome.cases:
            print(f"{finding(TARGETS[outcome.name], case.read_bytes()) or 'slow or large'}; replay it:")
            print(f"  .venv/bin/python -m tests.fuzz replay {outcome.name} {case.relative_to(Path.cwd())}")
        if outcome.failed:
            print(f"{outcome.name}: the fuzzer failed:\n{outcome.failed}")
    return not any(outcome.cases or outcome.failed for outcome in outcomes)


def _fuzz(target: Target, seconds: int, python: Path) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="evsed-fuzz-") as work:
        inputs, findings = Path(work, "inputs"), Path(work, "findings")
        inputs.mkdir()
        findings.mkdir()
        for number, seed in enumerate([*target.seeds(), *(file.read_bytes() for file in corpus(target.name))]):
            (inputs / f"{number:03}").write_bytes(seed)
        options = (
            f"-max_total_time={seconds}",
            f"-max_len={target.max_bytes}",
            f"-timeout={_HANG_S}",
            f"-rss_limit_mb={_MEMORY_MAX_MB}",
            f"-artifact_prefix={findings}/",
            "-print_final_stats=1",
            "-report_slow_units=5",
            str(inputs),
        )
        engine = [str(python), "-m", "tests.fuzz.engine", target.name, str(findings), *options]
        try:
            ended = subprocess.run(
                engine, capture_output=True, check=False, timeout=seconds + _START_S + _HANG_S, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as late:
            return Outcome(target.name, 0, 0, 0, 0, (), f"it did not end within {late.timeout:.0f} s")
        return _read(target, ended.returncode, ended.stderr.decode(errors="replace"), findings)


def _read(target: Target, code: int, told: str, findings: Path) -> Outcome:
    def number(pattern: str) -> int:
        found = re.findall(pattern, told)
        return int(found[-1]) if found else 0

    cases = tuple(_kept(target, file) for file in sorted(findings.iterdir()))
    return Outcome(
        target.name,
        number(r"number_of_executed_units: +(\d+)"),
        number(r"average_exec_per_sec: +(\d+)"),
        number(r"ft: (\d+)"),
        number(r"peak_rss_mb: +(\d+)"),
        cases,
        "" if code == 0 or cases else told[-2_000:],
    )


def _kept(target: Target, file: Path) -> Path:
    """The case in the corpus. What hung or took too much memory is not tried again, and so not cut down."""
    data = file.read_bytes()
    aborted = _ABORTED.match(file.name)
    if aborted:
        kind = aborted[1]
    else:
        data = minimised(target, data)
        found = finding(target, data)
        kind = found.error.lower().strip("_") if found else "fleeting"
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    case = folder / f"{kind}-{hashlib.sha256(data).hexdigest()[:8]}"
    case.write_bytes(data)
    return case
