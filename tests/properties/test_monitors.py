"""Rules of monitors that hold for any values, at any times, whatever can be told and what cannot."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.allowance import Allowance
from agent.config.load import load
from agent.config.monitoring_catalogue import problem_specs
from agent.config.station_model import build_device_model, modules_of
from agent.core.facts import EventTrigger, MonitorOrigin, VariableName
from agent.health.catalogue import CATALOGUE
from agent.ipc.monitors import ClearMonitorStatus, Monitor, MonitorType, MonitorWrite, SetMonitorStatus
from agent.monitoring.book import CUSTOM_MAX, SEVERITIES, MonitorBook, key_of
from agent.monitoring.hard_wired import monitors_of
from agent.monitoring.rules import CLEAR_AFTER_MS, DAY_MS, Memory, Now, evaluate

CONFIG = load(Path(__file__).parents[2] / "packaging" / "evsed.example.toml")
MODEL = build_device_model(CONFIG)
HARD_WIRED = monitors_of(modules_of(CONFIG))
POWER = VariableName("EVSE", "Power", evse=1)
THRESHOLDS = (MonitorType.UPPER_THRESHOLD, MonitorType.LOWER_THRESHOLD)

values = st.one_of(
    st.integers(-5, 5).map(str),
    st.decimals(-5, 5, places=2).map(str),
    st.sampled_from(("true", "false", "", "Occupied", "NaN")),
)
looks = st.lists(st.tuples(st.integers(0, 7_000), values, st.booleans()), max_size=60)
"""Milliseconds since the last look, the value, and whether it can be told."""


def monitor(kind: MonitorType, value: str = "1") -> Monitor:
    return Monitor(1, POWER, kind, value, 5)


def beyond(kind: MonitorType, value: str) -> bool:
    try:
        number = {"true": 1.0, "false": 0.0}.get(value) if value in ("true", "false") else float(value)
    except ValueError:
        return False
    assert number is not None
    return number > 1 if kind is MonitorType.UPPER_THRESHOLD else number < 1


@given(st.sampled_from(THRESHOLDS), looks)
def test_a_threshold_alternates_and_what_was_told_comes_right(
    kind: MonitorType, story: list[tuple[int, str, bool]]
) -> None:
    memory, at_ms, told = Memory(), 0, []
    last = story[-1][1] if story else ""
    # However it went on, in the end nothing changes and everything can be told.
    for step_ms, value, can_tell in [*story, *([(1_000, last, True)] * 20)]:
        at_ms += step_ms
        after, spoken = evaluate(monitor(kind), memory, value, Now(at_ms, at_ms))
        if spoken is not None:
            assert spoken.trigger is EventTrigger.ALERTING
            assert spoken.cleared is memory.alerting
            assert spoken.cleared is not beyond(kind, value)
            if not can_tell:
                continue
            told.append(spoken.cleared)
        memory = after
    assert told == [number % 2 == 1 for number in range(len(told))]
    assert memory.alerting is beyond(kind, last)


@given(st.lists(st.tuples(st.integers(1, 3_000), st.booleans()), min_size=1, max_size=60))
def test_back_to_normal_is_told_after_that_long_and_not_before(story: list[tuple[int, bool]]) -> None:
    memory, at_ms, last_beyond_ms = Memory(alerting=True), 0, 0
    for step_ms, high in story:
        at_ms += step_ms
        was_alerting = memory.alerting
        memory, spoken = evaluate(monitor(MonitorType.UPPER_THRESHOLD), memory, "2" if high else "0", Now(at_ms, 0))
        if high:
            last_beyond_ms = at_ms
        if spoken is not None and spoken.cleared:
            assert was_alerting
            assert at_ms - last_beyond_ms > CLEAR_AFTER_MS


@given(st.integers(0, 3), looks)
def test_what_was_told_of_a_number_is_never_further_off_than_its_delta(
    delta: int, story: list[tuple[int, str, bool]]
) -> None:
    memory, told = Memory(), None
    for _, text, can_tell in story:
        value = text if text.lstrip("-").replace(".", "").isdigit() else "0"
        after, spoken = evaluate(monitor(MonitorType.DELTA, str(delta)), memory, value, Now(0, 0))
        if spoken is not None and not can_tell:
            continue
        told = value if told is None or spoken is not None else told
        memory = after
        assert abs(float(value) - float(told)) <= delta + 1e-9


@given(looks)
def test_of_words_every_change_is_told(story: list[tuple[int, str, bool]]) -> None:
    memory, told = Memory(), None
    for _, value, _ in story:
        before = told
        memory, spoken = evaluate(monitor(MonitorType.DELTA, "100"), memory, value, Now(0, 0), numeric=False)
        assert (spoken is not None) is (before is not None and value != before)
        told = value


@given(st.integers(1, 50), st.lists(st.integers(0, 30_000), max_size=80))
def test_a_periodic_monitor_speaks_once_in_each_interval_at_most(every_s: int, steps: list[int]) -> None:
    set_at_ms = at_ms = 5_000
    memory, _ = evaluate(monitor(MonitorType.PERIODIC, str(every_s)), Memory(), "x", Now(at_ms, 0))
    last = 0
    for step_ms in steps:
        at_ms += step_ms
        memory, spoken = evaluate(monitor(MonitorType.PERIODIC, str(every_s)), memory, "x", Now(at_ms, 0))
        interval = (at_ms - set_at_ms) // (every_s * 1_000)
        assert (spoken is not None) is (interval > last)
        last = interval


@given(st.sampled_from((1, 7, 60, 900, 3_600, 86_400)), st.lists(st.integers(-100_000, 4_000_000), max_size=40))
def test_a_clock_aligned_monitor_speaks_when_the_clock_enters_another_interval(every_s: int, steps: list[int]) -> None:
    memory, wall_ms, slot = Memory(), 1_795_507_200_000, None
    for step_ms in steps:
        wall_ms += step_ms
        now = wall_ms // DAY_MS, wall_ms % DAY_MS // (every_s * 1_000)
        memory, spoken = evaluate(
            monitor(MonitorType.PERIODIC_CLOCK_ALIGNED, str(every_s)), memory, "x", Now(0, wall_ms)
        )
        assert (spoken is not None) is (slot is not None and now != slot)
        slot = now


@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.sampled_from((0, 0, 0, 1, 3, 50)), max_size=100))
def test_an_allowance_is_never_more_than_its_burst_and_its_rate(burst: int, refill_ms: int, steps: list[int]) -> None:
    allowance, at_ms, taken = Allowance(burst, refill_ms), 0, []
    for step_ms in steps:
        at_ms += step_ms
        if allowance.has_one(at_ms):
            allowance.take()
            taken.append(at_ms)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - taken[first]) // refill_ms + 1


# ------------------------------------------------------------------------------------------- the book

names = st.sampled_from(
    (
        POWER,
        VariableName("evse", "POWER", evse=1),
        VariableName("EVSE", "AvailabilityState", evse=1),
        VariableName("EVSE", "Problem", evse=2),
        VariableName("FiscalMetering", "Problem", evse=1),
        VariableName("SecurityCtrlr", "BasicAuthPassword"),
        VariableName("EVSE", "Colour", evse=1),
        VariableName("EVSE", "Power", evse=9),
        VariableName("A.b[", "c@1"),
    )
)
ids = st.one_of(st.none(), st.integers(1, 40), st.integers(100_000, 100_070), st.integers())
writes = st.builds(
    MonitorWrite,
    names,
    st.sampled_from(MonitorType),
    st.one_of(st.integers(-2, 2), st.sampled_from((1_000, 22_000, 86_401, 1e300, 0.5))).map(str),
    st.integers(-1, 10),
    st.booleans(),
    ids,
)


@given(st.lists(st.one_of(writes, st.integers(1, 40), st.integers(100_000, 100_070), st.none()), max_size=80))
def test_whatever_is_set_and_cleared_the_book_stays_in_order(story: list[MonitorWrite | int | None]) -> None:
    book = MonitorBook(MODEL, HARD_WIRED.values())
    wired = [each for each in book.all() if each.origin is MonitorOrigin.HARD_WIRED]
    given_ids: set[int] = set()
    for step in story:
        before = {each.id: each for each in book.all()}
        if step is None:
            book.clear_custom()
        elif isinstance(step, int):
            status = book.clear(step)
            wanted = ClearMonitorStatus.ACCEPTED if step in before else ClearMonitorStatus.NOT_FOUND
            assert status is (ClearMonitorStatus.REJECTED if step in {each.id for each in wired} else wanted)
        else:
            answer = book.set(step)
            after = {each.id: each for each in book.all()}
            if answer.status is not SetMonitorStatus.ACCEPTED:
                assert after == before
                assert answer.reason
                continue
            assert answer.id is not None
            assert step.id in (None, answer.id)
            assert (answer.id in before) is (step.id is not None)
            assert step.id is not None or answer.id not in given_ids, "an id is never given twice"
            given_ids.add(answer.id)
            made = after[answer.id]
            assert MODEL.find(key_of(made.name)) == MODEL.find(key_of(step.name)) == key_of(made.name)
            assert (made.type, made.value, made.severity) == (step.type, step.value, step.severity)
            assert made.severity in SEVERITIES
        kinds = [(each.name, each.type, each.severity) for each in book.all()]
        assert len(set(kinds)) == len(kinds)
        assert [each for each in book.all() if each.origin is MonitorOrigin.HARD_WIRED] == wired
        assert len(book.custom) <= CUSTOM_MAX


def test_every_trouble_has_one_monitor_and_a_variable() -> None:
    evses = {1: False, 2: True}  # one of them with power modules
    made, specs = monitors_of(evses), problem_specs(evses)
    assert {code for code, _ in made} == set(CATALOGUE)
    for (code, evse), each in made.items():
        entry = CATALOGUE[code]
        assert (each.name.component, each.name.variable) == (entry.component, entry.variable)
        assert each.severity == entry.severity
        assert (each.name.evse or 0) == evse
        assert key_of(each.name) in specs
    distinct = set(made.values())
    assert sorted(each.id for each in distinct) == list(range(1, len(distinct) + 1))
    assert len({(each.name, each.severity) for each in distinct}) == len(distinct)
