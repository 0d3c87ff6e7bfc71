"""Whatever bytes come, every parser ends in a value or in an error that it declares, in bounded memory.

Charter: any bytes, right inputs made a little wrong, and the cases that were findings once. Longer searches, by
coverage, are ``make fuzz``.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.finding import Finding, finding, minimised
from tests.fuzz.mutation import mutated
from tests.fuzz.table import CORPUS, TARGETS, corpus
from tests.fuzz.target import Target, Wordy, feed

_ON_SOCKETS: Final = ("ipc_server", "ipc_client", "installer_server", "installer_client")
_SLOW: Final = ("config_toml", "board_toml")
_NEVER_RIGHT: Final = (
    "installer_server",  # ends when the peer is gone
    "bundle_chunk",  # its hash is not that of the content
    "bundle_description",  # its payloads are not there
)
_CASE_MAX_BYTES: Final = 8 * 1024
_CASES_MAX: Final = 40  # of one target
_MEMORY_MAX_BYTES: Final = 4 * 2**20
_MEMORY_PER_BYTE: Final = 400

every_target = pytest.mark.parametrize(
    "target",
    [
        pytest.param(each, id=each.name, marks=pytest.mark.wire if each.name in _ON_SOCKETS else ())
        for each in TARGETS.values()
    ],
)


@cache
def seeds_of(name: str) -> tuple[bytes, ...]:
    return tuple(TARGETS[name].seeds())


@pytest.fixture(autouse=True)
def _no_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


@every_target
def test_right_inputs_are_right(target: Target) -> None:
    accepted = 0
    for seed in seeds_of(target.name):
        assert len(seed) <= target.max_bytes
        feed(target, seed)
        try:
            target.parse(seed)
            accepted += 1
        except target.errors:
            continue
    assert accepted or target.name in _NEVER_RIGHT


@every_target
def test_any_bytes(target: Target) -> None:
    @settings(max_examples=15)
    @given(st.binary(max_size=min(target.max_bytes, 400)))
    def holds(data: bytes) -> None:
        feed(target, data)

    holds()


@every_target
def test_right_inputs_made_a_little_wrong(target: Target) -> None:
    seeds = seeds_of(target.name)

    @settings(max_examples=20 if target.name in _SLOW else 100, suppress_health_check=list(HealthCheck))
    @given(st.randoms(note_method_calls=False, use_true_random=False))
    def holds(random: Random) -> None:
        feed(target, mutated(random.choice(seeds), seeds, random, target.max_bytes))

    holds()


@every_target
def test_memory_stays_in_proportion(target: Target) -> None:
    seeds, random = seeds_of(target.name), Random(target.name)
    feed(target, seeds[0])  # what is imported and kept at the first use does not count
    for _ in range(1 if target.name in _SLOW else 8):
        data = mutated(random.choice(seeds), seeds, random, target.max_bytes)
        tracemalloc.start()
        try:
            feed(target, data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < _MEMORY_MAX_BYTES + _MEMORY_PER_BYTE * len(data), f"{peak} bytes for {len(data)}"


@pytest.mark.parametrize(
    ("name", "case"), [pytest.param(name, case, id=f"{name}/{case.name}") for name in TARGETS for case in corpus(name)]
)
def test_found_case_is_no_finding_any_more(name: str, case: Path) -> None:
    feed(TARGETS[name], case.read_bytes())


def test_corpus_belongs_to_targets_and_stays_small() -> None:
    folders = [folder for folder in CORPUS.iterdir() if folder.is_dir()]
    assert {folder.name for folder in folders} <= set(TARGETS)
    for folder in folders:
        cases = corpus(folder.name)
        assert len(cases) <= _CASES_MAX
        assert all(case.stat().st_size <= _CASE_MAX_BYTES for case in cases)


# ------------------------------------------------------------------------------------ the tools themselves


def picky(data: bytes) -> None:
    """Fails deep inside, and refuses in too many words."""
    if b"abc" in data:
        raise KeyError("abc")
    if data.startswith(b"!"):
        raise BufferError("x" * 10_000)
    if not data:
        raise EOFError


PICKY: Final = Target("picky", picky, lambda: [b"ab", b"c"], (EOFError, BufferError))


def test_undeclared_and_wordy_errors_are_findings() -> None:
    feed(PICKY, b"")
    with pytest.raises(KeyError):
        feed(PICKY, b"..abc..")
    with pytest.raises(Wordy):
        feed(PICKY, b"!")


def test_finding_is_cut_down_to_what_matters() -> None:
    assert finding(PICKY, b"x") is None
    found = finding(PICKY, b"12345abc67890")
    assert isinstance(found, Finding)
    assert found.error == "KeyError"
    assert minimised(PICKY, b"1" * 100 + b"abc" + b"2" * 57) == b"abc"


def test_mutations_reach_into_json_and_keep_their_limit() -> None:
    seed, random = b'OCMF|{"a": [1, 2], "b": {"c": "d"}}|x', Random(1)
    made = [mutated(seed, (seed,), random, 500) for _ in range(2_000)]
    assert all(len(each) <= 500 for each in made)
    for wanted in (b'"b": {}', b"[[[[[[", b"1e400", b"null"):
        assert any(wanted in each for each in made), wanted


def test_errors_of_targets_are_not_so_wide_that_they_hide_findings() -> None:
    wide: tuple[Any, ...] = (Exception, ValueError, LookupError, TypeError, ArithmeticError, RuntimeError, OSError)
    assert not [target.name for target in TARGETS.values() if set(target.errors) & set(wide)]
