"""The sums of the usage statistics are those of what happened, whatever the clock, the restarts and the order.

Charter: random lives of a station of two EVSEs; beside the fold stands an account that only adds up. What is kept is
a dictionary that joins as the store does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from agent.usage.fold import Fold, Levels, Taken
from agent.usage.model import HOUR_MS, STATION, RegisterAt, UsageHour, joined

EVSES = (1, 2)
START_MS = 1_000
MONDAY_MS = 1_893_456_000_000

evses = st.sampled_from(EVSES)
waits = st.tuples(st.just("wait"), st.integers(0, 2 * HOUR_MS))
things = st.one_of(
    st.tuples(st.just("levels"), evses, st.builds(Levels, st.booleans(), st.booleans(), st.booleans())),
    st.tuples(st.just("rise"), evses, st.integers(0, 50_000_000), st.integers(0, 22_000)),
    st.tuples(st.just("session"), evses),
    st.tuples(st.just("faults"), evses, st.integers(1, 3)),
    st.tuples(st.just("link"), st.booleans()),
)
ends = st.sampled_from((("save",), ("restart",)))
crashes = st.just(("crash",))
steps_of_clock = st.tuples(st.just("clock"), st.integers(-3 * HOUR_MS, 3 * HOUR_MS))
unknown = st.just(("no clock",))


@dataclass
class Life:
    """A station's life: the fold under test, what is kept, and what the account says must come out."""

    fold: Fold = field(default_factory=lambda: Fold(EVSES, START_MS, {}))
    at_ms: int = START_MS
    registers: dict[int, int] = field(default_factory=lambda: dict.fromkeys(EVSES, 5_000_000))
    kept: dict[tuple[int, int], UsageHour] = field(default_factory=dict)
    kept_registers: dict[int, RegisterAt] = field(default_factory=dict)
    dropped_ms: int = 0
    offset_ms: int | None = MONDAY_MS
    levels: dict[int, Levels] = field(default_factory=lambda: dict.fromkeys(EVSES, Levels()))
    link_up: bool = False
    expected: dict[int, dict[str, int]] = field(default_factory=lambda: {evse: {} for evse in (STATION, *EVSES)})

    def __post_init__(self) -> None:
        self.fold.set_clock(START_MS, MONDAY_MS)
        for evse in EVSES:
            self.read(evse, 0)
        self.save()

    def expect(self, evse: int, **more: int) -> None:
        for name, value in more.items():
            self.expected[evse][name] = self.expected[evse].get(name, 0) + value

    def do(self, step: tuple[object, ...]) -> None:
        match step:
            case ("wait", int(length_ms)):
                self.wait(length_ms)
            case ("levels", int(evse), Levels() as levels):
                self.levels[evse] = levels
                self.fold.set_levels(self.at_ms, evse, levels)
            case ("rise", int(evse), int(rise_mwh), int(power_w)):
                self.registers[evse] += rise_mwh
                self.expect(evse, energy_import_mwh=rise_mwh)
                self.read(evse, power_w)
            case ("session", int(evse)):
                self.expect(evse, sessions=1)
                self.fold.session_started(self.at_ms, evse)
            case ("faults", int(evse), int(count)):
                self.expect(evse, faults=count)
                self.fold.faults_came(self.at_ms, evse, count)
            case ("link", bool(up)):
                self.link_up = up
                self.fold.set_link(self.at_ms, up=up)
            case ("clock", int(step_ms)):
                self.offset_ms = (MONDAY_MS if self.offset_ms is None else self.offset_ms) + step_ms
                self.fold.set_clock(self.at_ms, self.offset_ms)
            case ("no clock",):
                self.offset_ms = None
                self.fold.set_clock(self.at_ms, None)
            case ("save",):
                self.save()
            case ("restart",):
                self.fold.set_clock(self.at_ms, self.offset_ms or MONDAY_MS)
                self.save()
                self.begin_anew()
            case ("crash",):
                self.begin_anew()
            case _:
                raise AssertionError(step)

    def wait(self, length_ms: int) -> None:
        self.at_ms += length_ms
        self.expect(STATION, running_ms=length_ms, link_up_ms=length_ms * self.link_up)
        for evse, levels in self.levels.items():
            self.expect(
                evse,
                running_ms=length_ms,
                occupied_ms=length_ms * levels.occupied,
                charging_ms=length_ms * levels.charging,
                fault_ms=length_ms * levels.faulted,
            )

    def read(self, evse: int, power_w: int) -> None:
        self.fold.read(self.at_ms, evse, RegisterAt("M", self.registers[evse]), power_w)

    def save(self) -> None:
        taken = self.fold.take(self.at_ms)
        if taken is not None:
            self.keep(taken)

    def keep(self, taken: Taken) -> None:
        for row in taken.rows:
            before = self.kept.get((row.hour, row.evse), UsageHour(row.hour, row.evse))
            self.kept[row.hour, row.evse] = after = joined(before, row)
            if row.evse == STATION:
                self.dropped_ms += before.running_ms + row.running_ms - after.running_ms
        self.kept_registers = taken.registers

    def begin_anew(self) -> None:
        """Another run: the old one is gone, and so is what it knew."""
        self.dropped_ms += self.fold.dropped_ms
        self.fold = Fold(EVSES, self.at_ms, self.kept_registers)
        self.fold.set_clock(self.at_ms, self.offset_ms)
        self.levels, self.link_up = dict.fromkeys(EVSES, Levels()), False

    def finish(self) -> None:
        self.do(("restart",))

    def total(self, name: str, evse: int) -> int:
        return sum(getattr(row, name) for row in self.kept.values() if row.evse == evse)


def live(steps: list[tuple[object, ...]]) -> Life:
    life = Life()
    for step in steps:
        life.do(step)
    life.finish()
    for (hour, evse), row in life.kept.items():
        assert (row.hour, row.evse) == (hour, evse)
        assert 0 <= max(row.occupied_ms, row.charging_ms, row.fault_ms, row.link_up_ms) <= row.running_ms <= HOUR_MS
    return life


@given(st.lists(st.one_of(waits, things, ends), max_size=40))
def test_with_a_steady_clock_all_sums_are_exact_over_restarts(steps: list[tuple[object, ...]]) -> None:
    life = live(steps)
    for evse, expected in life.expected.items():
        assert {name: life.total(name, evse) for name in expected} == expected
    assert life.dropped_ms == 0


@given(st.lists(st.one_of(waits, things, ends, steps_of_clock, unknown), max_size=40))
def test_no_time_is_counted_twice_and_what_is_dropped_is_counted(steps: list[tuple[object, ...]]) -> None:
    life = live(steps)
    elapsed_ms = life.at_ms - START_MS
    assert life.total("running_ms", STATION) + life.dropped_ms == elapsed_ms
    for evse, expected in life.expected.items():
        for name, most in expected.items():
            assert life.total(name, evse) <= most
            if not name.endswith("_ms"):
                assert life.total(name, evse) == most


@given(st.lists(st.one_of(waits, things, ends, steps_of_clock, unknown, crashes), max_size=40))
def test_energy_is_what_the_register_rose_whatever_happens(steps: list[tuple[object, ...]]) -> None:
    life = live(steps)
    for evse in EVSES:
        life.read(evse, 0)
    life.finish()
    for evse in EVSES:
        assert life.total("energy_import_mwh", evse) == life.registers[evse] - 5_000_000


@given(st.lists(st.one_of(waits, things), max_size=20), st.lists(st.one_of(waits, things, ends), max_size=20))
def test_what_could_not_be_kept_is_kept_the_next_time(
    before: list[tuple[object, ...]], after: list[tuple[object, ...]]
) -> None:
    tried, plain = Life(), Life()
    for step in before:
        tried.do(step)
        plain.do(step)
    taken = tried.fold.take(tried.at_ms)
    for step in after:
        if step[0] != "save" and step[0] != "restart":
            tried.do(step)
            plain.do(step)
    assert taken is not None
    tried.fold.put_back(taken)
    tried.finish()
    plain.finish()
    assert tried.kept == plain.kept


parts = st.integers(0, HOUR_MS).flatmap(
    lambda running_ms: st.builds(
        UsageHour,
        st.just(7),
        st.just(1),
        st.just(running_ms),
        st.integers(0, 100_000_000),
        st.integers(0, 9),
        *[st.integers(0, running_ms)] * 2,
        st.integers(0, 22_000),
        st.integers(0, 9),
        *[st.integers(0, running_ms)] * 2,
    )
)


@given(parts, parts)
def test_two_runs_in_one_hour_make_one_hour(first: UsageHour, second: UsageHour) -> None:
    both = joined(first, second)
    assert both.running_ms == min(HOUR_MS, first.running_ms + second.running_ms)
    assert max(both.occupied_ms, both.charging_ms, both.fault_ms, both.link_up_ms) <= both.running_ms
    assert first.occupied_ms <= both.occupied_ms <= first.occupied_ms + second.occupied_ms
    assert both.energy_import_mwh == first.energy_import_mwh + second.energy_import_mwh
    assert both.peak_power_w == max(first.peak_power_w, second.peak_power_w)
    if first.running_ms + second.running_ms <= HOUR_MS:
        assert both == joined(second, first)
