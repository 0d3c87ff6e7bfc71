"""One target under the coverage-guided fuzzer: ``python -m tests.fuzz.engine TARGET FINDINGS [OPTIONS] INPUTS``.

Charter: a process of ``.venv-fuzz``, started by ``campaign`` for each target. A finding does not end it: the first
input of each goes into the folder FINDINGS. What libFuzzer itself ends (a hang, too much memory) it puts there too.
OPTIONS are libFuzzer's; INPUTS is the folder of right inputs that it begins with. Half of the mutations are
libFuzzer's, half are ``mutation``'s.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from random import Random

import atheris  # type: ignore[import-untyped]
import structlog

_INSTRUMENTED = ["agent", "hal", "pymodbus"]  # the last reads bytes for us

with atheris.instrument_imports(include=_INSTRUMENTED):
    from tests.fuzz.finding import Finding, finding
    from tests.fuzz.mutation import mutated
    from tests.fuzz.table import TARGETS


def main(name: str, folder: Path, options: list[str]) -> None:
    """Does not return: libFuzzer ends the process when its time is over."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    target = TARGETS[name]
    seeds = [file.read_bytes() for file in sorted(Path(options[-1]).iterdir())]
    known: set[Finding] = set()

    def one(data: bytes) -> None:
        found = finding(target, data)
        if found is not None and found not in known:
            known.add(found)
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.5:
            changed: bytes = atheris.Mutate(data, max_bytes)
            return changed
        return mutated(data, seeds, random, max_bytes)

    # What is imported later, inside functions, is instrumented too.
    with atheris.instrument_imports(include=_INSTRUMENTED):
        atheris.Setup([sys.argv[0], *options], one, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
