"""``python -m tests.mutation.forks TEST ...``: one pytest session that tries many mutants, each in a fork of its own.

Charter: reads mutants' names from standard input, a line each. Runs all tests once, to learn which of them reach
which function and how long they take. Then forks for each mutant, switches it on, and runs the tests that reach it
until one fails: first those that killed others of the same function, then the quick ones. Nothing is started or
collected anew, so that most mutants cost some milliseconds. Writes a line ``verdict name`` for each to standard
output.

Exit code 0 when all have a verdict; 1 when a test fails without any mutant, or there is no test.
"""

from __future__ import annotations

import contextlib
import enum
import gc
import os
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NoReturn

import pytest

# A mutant that takes this much longer than its tests did hangs. By the processor's time, since others may be busy;
# and by the clock, for one that waits for what never comes.
_CPU_FACTOR, _CPU_SLACK_S = 8, 4
_WAIT_FACTOR, _WAIT_SLACK_S = 8, 10


_SOMEWHERE, _SURVIVED = 254, 255  # exit codes: killed behind the places that fit, or before any test ended


class Verdict(enum.StrEnum):
    KILLED = "killed"
    TIMEOUT = "timeout"  # killed too: the tests hung, which a person would have seen
    SURVIVED = "survived"
    NOT_REACHED = "unreached"  # no test calls the function


Tell = Callable[[str, Verdict], None]


def function_of(mutant: str) -> str:
    """The name without its number: what a test must call to reach it."""
    return mutant.rpartition("__mutmut_")[0]


def try_all(mutants: Sequence[str], tests: Sequence[str], tell: Tell) -> bool:
    """Run pytest on ``tests`` in the current directory; False when they fail with no mutant at all."""
    forks = _Forks(mutants, tell)
    options = ("-s", "-p", "no:cacheprovider", "-o", "tmp_path_retention_policy=none")
    pytest.main([*options, *tests], plugins=[forks])
    return forks.sound


class _Forks:
    """The plugin: takes the place of pytest's own loop over the tests."""

    def __init__(self, mutants: Sequence[str], tell: Tell) -> None:
        self._mutants = mutants
        self._tell = tell
        self._failed = False
        self._tests_s: dict[pytest.Item, float] = {}
        self._reaching: defaultdict[str, list[pytest.Item]] = defaultdict(list)
        self._kills: Counter[tuple[str, pytest.Item]] = Counter()
        self.sound = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed = self._failed or report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            if not self._learn(item):
                print(f"fails without any mutant: {item.nodeid}", file=sys.stderr)
                return True
        gc.collect()
        gc.freeze()  # the forks share what is here, as long as nobody looks through it
        for mutant in self._mutants:
            self._tell(mutant, self._try(mutant))
        self.sound = bool(session.items)
        return True

    def _learn(self, item: pytest.Item) -> bool:
        from mutmut.mutation import trampoline

        reached: set[str] = set()
        trampoline.record_trampoline_hit = lambda name, caller=None: reached.add(name)
        trampoline.set_mutant_under_test("stats")
        before_s = time.monotonic()
        passed = self._first_to_fail([item]) is None
        self._tests_s[item] = time.monotonic() - before_s
        for name in reached:
            self._reaching[name].append(item)
        return passed

    def _first_to_fail(self, items: Sequence[pytest.Item]) -> int | None:
        """The place of the first test that fails; none is run after it."""
        for place, (item, following) in enumerate(zip(items, [*items[1:], None], strict=True)):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                return place
        return None

    def _try(self, mutant: str) -> Verdict:
        function = function_of(mutant)
        order = sorted(self._reaching[function], key=lambda item: (-self._kills[function, item], self._tests_s[item]))
        if not order:
            return Verdict.NOT_REACHED
        child = os.fork()
        if child == 0:
            self._be(mutant, order)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM):
            return Verdict.TIMEOUT
        code = os.waitstatus_to_exitcode(status)
        if code == _SURVIVED:
            return Verdict.SURVIVED
        if 0 <= code < _SOMEWHERE:
            self._kills[function, order[code]] += 1
        return Verdict.KILLED

    def _be(self, mutant: str, order: Sequence[pytest.Item]) -> NoReturn:
        """In the fork. Its exit code is the place of the test that killed it."""
        from mutmut.mutation import trampoline

        code = _SOMEWHERE
        with contextlib.suppress(BaseException):
            _limit_time(sum(self._tests_s[item] for item in order))
            trampoline.set_mutant_under_test(mutant)
            place = self._first_to_fail(order)
            code = _SURVIVED if place is None else min(place, _SOMEWHERE)
        os._exit(code)


def _limit_time(tests_s: float) -> None:
    """The process ends by a signal when its time is over."""
    cpu_s = int(_CPU_FACTOR * tests_s + _CPU_SLACK_S)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, _WAIT_FACTOR * tests_s + _WAIT_SLACK_S)


def main(tests: Sequence[str]) -> int:
    mutants = [line.strip() for line in sys.stdin]
    verdicts = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what tests print is nobody's verdict

    def tell(mutant: str, verdict: Verdict) -> None:
        verdicts.write(f"{verdict} {mutant}\n")
        verdicts.flush()

    return 0 if try_all(mutants, tests, tell) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
