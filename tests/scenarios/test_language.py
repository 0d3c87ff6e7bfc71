"""The language itself, on a tiny rig in memory: what is refused, what fails and how it is told, what time does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.sim.scenario import field_faults_books, field_faults_surroundings, library, verbs
from agent.sim.scenario.expectations import (
    Condition,
    at_most,
    booked,
    charging,
    in_order,
    no_negative_duration,
    no_power,
    offers,
    registers_never_fall,
    told_status,
    totals_equal,
)
from agent.sim.scenario.play import (
    POLL_MS,
    Scenario,
    ScenarioFailed,
    Step,
    Unplayable,
    always,
    draw,
    expect,
    hold,
    play,
    scenario,
    wait,
)
from agent.sim.scenario.rig import Account, Observation, RigTrouble, SeenEvse, Told
from agent.sim.scenario.verbs import (
    START,
    STOP,
    VALUES,
    car_pauses,
    change_availability,
    cut_power,
    drop_link,
    limit,
    plug,
    unplug,
)

CHARGES_AFTER_MS = 700
MW = 11_000_000


class TinyRig:
    """A charger that is free for all: it charges some time after the plug. Time is a number."""

    name = "tiny"
    evses = 1
    patience = 1
    can: frozenset[type[verbs.Verb]] = frozenset({verbs.Plug, verbs.Unplug, verbs.Limit, verbs.DropLink})

    def __init__(self) -> None:
        self.now_ms = 5_000
        self.plugged_ms: int | None = None
        self.charged_ms = 0
        self.answer = "Accepted"
        self.done: list[verbs.Verb] = []
        self.waits: list[int] = []
        self.events: list[str] = []

    async def do(self, verb: verbs.Verb) -> str:
        self.done.append(verb)
        self.events.append(f"did: {verb.words()}")
        if isinstance(verb, verbs.DropLink):
            raise RigTrouble("the cable to the CSMS is out of reach")
        self.plugged_ms = self.now_ms if isinstance(verb, verbs.Plug) else self.plugged_ms
        if isinstance(verb, verbs.Unplug):
            self.plugged_ms = None
        return self.answer if isinstance(verb, verbs.Command) else ""

    async def look(self) -> Observation:
        closed = self._charges()
        evse = SeenEvse(
            1,
            state="Charging" if closed else "Available" if self.plugged_ms is None else "Preparing",
            contactor_closed=closed,
            current_ma=16_000 if closed else 0,
            metered_mwh=MW * self.charged_ms // 3_600_000,
        )
        return Observation(self.now_ms, (evse,), events=tuple(self.events))

    async def wait(self, ms: int) -> None:
        self.waits.append(ms)
        self.now_ms += ms
        self.charged_ms += ms if self._charges() else 0

    def _charges(self) -> bool:
        return self.plugged_ms is not None and self.now_ms - self.plugged_ms >= CHARGES_AFTER_MS


def run(*steps: Step, rig: TinyRig | None = None) -> TinyRig:
    rig = rig or TinyRig()
    asyncio.run(play(scenario("a test", *steps), rig))
    return rig


def report(*steps: Step, rig: TinyRig | None = None) -> str:
    with pytest.raises(ScenarioFailed) as failed:
        run(*steps, rig=rig)
    return str(failed.value)


# ------------------------------------------------------------------------------------------ playing


def test_what_a_rig_cannot_do_is_refused_before_anything_is_done() -> None:
    rig = TinyRig()
    with pytest.raises(Unplayable, match=r"^rig tiny cannot: cut the power, EVSE 1: the car wants no more power"):
        run(plug(), cut_power(), car_pauses(), cut_power(), rig=rig)
    assert rig.done == []


@pytest.mark.parametrize("step", [plug(2), draw(wh=1, evse=2), expect(charging(2)), always(no_power(2))])
def test_an_evse_that_is_not_there_is_refused(step: Step) -> None:
    with pytest.raises(Unplayable, match=r"rig tiny cannot: EVSE 2 \(it has 1\)"):
        run(step)


def test_steps_are_taken_in_order_and_told() -> None:
    told: list[str] = []
    steps = (plug(), expect(charging()), draw(wh=2), unplug(), expect(no_power()))
    asyncio.run(play(scenario("a day", *steps), TinyRig(), told.append))
    assert [line.split("s  ", 1)[1] for line in told] == [
        "EVSE 1: plug in",
        "expect EVSE 1 charges",
        "EVSE 1: the car draws 2 Wh",
        "EVSE 1: unplug",
        "expect EVSE 1 gives no power",
    ]


def test_an_expectation_waits_no_longer_than_it_must_and_not_beyond_its_deadline() -> None:
    assert sum(run(plug(), expect(charging())).waits) == CHARGES_AFTER_MS
    rig = TinyRig()
    text = report(plug(), expect(charging(), within_ms=500), rig=rig)
    assert sum(rig.waits) == 500 and "not within 500 ms" in text


def test_the_report_says_all_that_a_person_needs() -> None:
    text = report(plug(), expect(charging(), within_ms=500), unplug())
    assert text.splitlines() == [
        "a test, on rig tiny",
        "  step 2 of 3: expect EVSE 1 charges",
        "  not within 500 ms: EVSE 1 Preparing, cp A, contactor open, 0.0 A signalled, 0.0 A flowing, 0.000 Wh",
        "  seen last: station offline, None rows to tell; EVSE 1 Preparing, cp A, contactor open, 0.0 A signalled, "
        "0.0 A flowing, 0.000 Wh; the CSMS heard: nothing",
        "  done so far:",
        "         0.0 s  EVSE 1: plug in",
        "         0.0 s  expect EVSE 1 charges",
        "  last events:",
        "    did: EVSE 1: plug in",
    ]


def test_the_report_shows_the_last_events_only() -> None:
    rig = TinyRig()
    rig.events = [f"event {number}" for number in range(50)]
    text = report(expect(charging(), within_ms=0), rig=rig)
    assert "event 49" in text and "event 38" in text and "event 37" not in text


def test_trouble_of_the_rig_fails_the_scenario() -> None:
    assert "out of reach" in report(drop_link())


def test_a_command_that_is_answered_otherwise_fails_the_scenario() -> None:
    rig = TinyRig()
    rig.answer = "Rejected"
    assert "the station answered 'Rejected', not 'Accepted'" in report(limit(8), rig=rig)
    run(limit(8, answer="Rejected"), rig=rig)


def test_drawing_needs_energy_and_time() -> None:
    rig = run(plug(), expect(charging()), draw(for_ms=1_500))
    assert rig.charged_ms >= 1_500
    assert "0.000 Wh" in report(draw(wh=1))
    assert "0.000 Wh" in report(draw(for_ms=100)), "time without energy is no draw"


def test_holding_fails_as_soon_as_it_is_no_longer_true() -> None:
    run(hold(no_power(), 2_000))
    rig = TinyRig()
    report(plug(), hold(no_power(), 2_000), rig=rig)
    assert sum(rig.waits) == CHARGES_AFTER_MS


def test_a_promise_is_kept_until_the_end_even_between_steps() -> None:
    run(always(no_power()), wait(2_000), plug(), unplug())
    text = report(always(no_power()), plug(), wait(2_000))
    assert "no longer true: EVSE 1 gives no power" in text


def test_long_waits_are_looked_at_less_often() -> None:
    rig = run(wait(3_600_000))
    assert sum(rig.waits) == 3_600_000 and len(rig.waits) <= 401
    assert max(run(wait(1_000)).waits) == POLL_MS


# ------------------------------------------------------------------------------------- the conditions


EVSE = SeenEvse(1, state="Charging", contactor_closed=True, current_ma=8_000, signalled_ma=7_980, limit_ma=8_000)
LEDGER = Account("a", 1, 1_000_400, 0, 1_005_400, 60_000, "Local")
BOOKED = replace(LEDGER, tx="1 x", begin_mwh=1_000_000, end_mwh=1_005_000)
WHOLE = Observation(
    0,
    (replace(EVSE, taken_mwh=5_000, metered_mwh=5_000),),
    undelivered=0,
    ledger=(LEDGER,),
    csms=(BOOKED,),
    told=tuple(Told(message, "1 x", 0, True) for message in (START, VALUES, VALUES, STOP)),
    statuses=((1, "Preparing"), (2, "Faulted"), (1, "Charging")),
    csms_step_mwh=1_000,
)


def change(**changes: object) -> Observation:
    return replace(WHOLE, **changes)  # type: ignore[arg-type]


def evse(**changes: object) -> Observation:
    return change(evses=(replace(WHOLE.evses[0], **changes),))  # type: ignore[arg-type]


def told(*messages: Told) -> Observation:
    return change(told=messages)


_START, _VALUES, _STOP = (Told(message, "1 x", 0, True) for message in (START, VALUES, STOP))
_AGAIN = replace(_STOP, repeated=True)
_LOST = replace(_STOP, taken=False)


@pytest.mark.parametrize(
    ("condition", "wrong"),
    [
        (charging(), evse(state="SuspendedEV")),
        (charging(), evse(contactor_closed=False)),
        (charging(), evse(current_ma=0)),
        (offers(8), evse(signalled_ma=16_000)),
        (offers(8), evse(limit_ma=16_000)),
        (at_most(8), evse(signalled_ma=8_100)),
        (at_most(8), evse(current_ma=9_000)),
        (told_status("Preparing", "Charging"), change(statuses=((1, "Charging"), (1, "Preparing")))),
        (told_status("Preparing", "Charging"), change(statuses=((1, "Preparing"), (2, "Charging")))),
        (booked(START, VALUES, STOP, once=True), told(_VALUES, _STOP)),
        (booked(START, VALUES, STOP, once=True), told(_START, _STOP)),
        (booked(START, VALUES, STOP, once=True), told(_VALUES, _START, _STOP)),
        (booked(START, VALUES, STOP, once=True), told(_START, _VALUES, _STOP, _VALUES)),
        (booked(START, VALUES, STOP, once=True), told(_START, _VALUES, _STOP, _AGAIN)),
        (booked(START, VALUES, STOP), told(_START, _VALUES, _LOST)),
        (booked(START, VALUES, STOP), told(_START, _VALUES, _STOP, _STOP)),
        (booked(START, VALUES, STOP), change(undelivered=1)),
        (booked(START, VALUES, STOP), change(undelivered=None)),
        (booked(START, VALUES, STOP), change(csms=())),
        (in_order(), change(csms=(replace(BOOKED, end_mwh=1_007_000),))),
        (in_order(), change(csms=(replace(BOOKED, end_mwh=None),))),
        (in_order(), change(csms=())),
        (totals_equal(), evse(taken_mwh=6_000)),
        (totals_equal(), change(ledger=(replace(LEDGER, end_mwh=1_006_000),))),
        (totals_equal(), change(csms=(replace(BOOKED, end_mwh=1_007_000),))),
        (registers_never_fall(), change(ledger=(replace(LEDGER, end_mwh=1_000_399),))),
        (registers_never_fall(), change(csms=(BOOKED, replace(BOOKED, begin_mwh=1_004_999, end_mwh=None)))),
        (no_negative_duration(), change(ledger=(replace(LEDGER, ended_wall_ms=-1),))),
        (no_negative_duration(), change(csms=(replace(BOOKED, ended_wall_ms=-1),))),
    ],
)
def test_a_condition_holds_and_says_what_is_wrong(condition: Condition, wrong: Observation) -> None:
    assert condition.judge(WHOLE) == ""
    assert condition.judge(wrong) != ""


def test_a_repeat_is_no_fault_where_it_is_not_forbidden() -> None:
    assert booked(START, VALUES, STOP).judge(told(_START, _VALUES, _STOP, _AGAIN)) == ""
    assert booked(START, STOP).judge(told(_START, _STOP)) == ""


# -------------------------------------------------------------------------------------- the library


def _everything(folder: object) -> list[Scenario]:
    if isinstance(folder, Scenario):
        return [folder]
    return list(folder.values()) if isinstance(folder, dict) else []


LIBRARY = [
    each
    for module in (library, field_faults_books, field_faults_surroundings)
    for name, value in vars(module).items()
    if name.isupper()
    for each in _everything(value)
]


@pytest.mark.parametrize("told_of", LIBRARY, ids=lambda each: each.name)
def test_every_step_of_the_library_can_be_read(told_of: Scenario) -> None:
    assert len(told_of.steps) > 5
    for step in told_of.steps:
        words: Callable[[], str] = step.words
        assert words() and "<" not in words()


def test_verbs_are_values() -> None:
    assert plug() == plug(1) and plug() != plug(2)
    assert change_availability(operative=False, evse=1).words() == "the CSMS makes EVSE 1 inoperative"
