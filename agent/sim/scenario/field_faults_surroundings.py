"""Field faults 6, 7, 9 to 12 as scenarios for any rig: clocks, link, limits and meters that do as they like.

Charter: values only. ``FIELD_FAULT_nn`` is row nn of the list of field faults; the comment above says what had gone
wrong there.
"""

from __future__ import annotations

from agent.sim.scenario.expectations import (
    all_told,
    at_most,
    available,
    charging,
    finished,
    kept,
    no_negative_duration,
    no_power,
    nothing_impossible_billed,
    offers,
    offline,
    online,
    preparing,
    registers_never_fall,
    state,
)
from agent.sim.scenario.phrases import FIFTY_YEARS_S, HOUR_S, all_is_well, arrive, leave
from agent.sim.scenario.play import Scenario, always, draw, expect, hold, scenario, wait
from agent.sim.scenario.verbs import (
    BOTH,
    CARD,
    OTHER_CARD,
    STATION,
    car_pauses,
    car_wakes,
    cut_power,
    drop_link,
    fault,
    fault_gone,
    half_open_link,
    kill,
    limit,
    plug,
    restore_link,
    restore_power,
    step_clock,
    step_machine_clock,
    swipe,
    unplug,
)


def clock_steps(name: str, *steps_s: int) -> Scenario:
    """Field fault 6: the clock steps in mid-session; nothing lasts less than no time, and the energy is right."""
    moves = [step for by_s in steps_s for step in (step_clock(by_s), draw(wh=1, for_ms=1_100))]
    return scenario(
        f"field fault 6: the clock steps {name} in mid-session",
        expect(online()),
        *arrive(),
        draw(wh=1, for_ms=1_100),
        *moves,
        *leave(),
        *all_is_well(1),
    )


FIELD_FAULT_06 = {
    "hour-on": clock_steps("an hour on", HOUR_S),
    "hour-back": clock_steps("an hour back", -HOUR_S),
    "years-on-and-back": clock_steps("fifty years on and back again", FIFTY_YEARS_S, -FIFTY_YEARS_S),
    "years-back": clock_steps("fifty years back", -FIFTY_YEARS_S),
}

# Sessions of 1970 reached the CSMS.
FIELD_FAULT_06_DEAD_CLOCK = scenario(
    "field fault 6: a session begins after a boot with a dead clock and without link",
    expect(online()),
    drop_link(),
    cut_power(),
    restore_power(clock_lost=True),
    *arrive(),
    draw(wh=1),
    restore_link(),
    expect(online()),
    *leave(),
    *all_is_well(1),
)

# Rows of this morning were fifty years old, and gone.
FIELD_FAULT_06_RETENTION = scenario(
    "field fault 6: a clock fifty years ahead makes nothing old: told transactions are kept",
    expect(online()),
    *arrive(),
    draw(wh=1, for_ms=1_100),
    *leave(),
    expect(all_told()),
    step_clock(FIFTY_YEARS_S),
    wait(120_000),
    hold(kept(1), 0),
    kill(BOTH),
    expect(online()),
    wait(120_000),
    hold(kept(1), 0),
    cut_power(),
    restore_power(),
    expect(online()),
    wait(120_000),
    hold(kept(1), 0),
    cut_power(),
    restore_power(clock_lost=True),
    expect(online()),
    wait(120_000),
    hold(kept(1), 0),
    step_clock(-FIFTY_YEARS_S),
    step_machine_clock(FIFTY_YEARS_S),
    kill(BOTH),
    expect(online()),
    wait(120_000),
    hold(kept(1), 0),
    step_machine_clock(0),
    *arrive(),
    draw(wh=1, for_ms=1_100),
    *leave(),
    *all_is_well(2),
)

FIELD_FAULT_06_MACHINE = {
    name: scenario(
        f"field fault 6: the machine's own clock steps {name} in mid-session, with a CSMS and without",
        expect(online()),
        *arrive(),
        draw(wh=1, for_ms=1_100),
        step_machine_clock(by_s),
        draw(wh=1, for_ms=1_100),
        drop_link(),
        kill(STATION),
        expect(charging()),
        draw(wh=1, for_ms=1_100),
        *leave(),
        restore_link(),
        *all_is_well(1),
    )
    for name, by_s in (
        ("an hour on", HOUR_S),
        ("an hour back", -HOUR_S),
        ("fifty years on", FIFTY_YEARS_S),
        ("fifty years back", -FIFTY_YEARS_S),
    )
}

# "Connected" for a day on a dead link, sessions ended where OCPP was toggled.
FIELD_FAULT_07 = scenario(
    "field fault 7: the link goes half-open in mid-session; it is found out, the charge goes on, all is told",
    expect(online()),
    *arrive(),
    half_open_link(),
    expect(offline(), within_ms=15_000),
    expect(charging()),
    draw(wh=1),
    expect(online(), within_ms=15_000),
    *leave(),
    *all_is_well(1),
)

# The limit was lost with the link: full current, a breaker of the house tripped.
FIELD_FAULT_09 = scenario(
    "field fault 9: the limit holds over a lost link, a killed station and the resumed session",
    expect(online()),
    limit(8),
    *arrive(),
    expect(offers(8)),
    always(at_most(8)),
    draw(wh=1),
    drop_link(),
    expect(offline()),
    draw(wh=1),
    kill(STATION),
    expect(no_power()),
    expect(charging()),
    draw(wh=1),
    expect(offers(8)),
    restore_link(),
    expect(online()),
    draw(wh=1),
    *leave(),
    *all_is_well(1),
)

FIELD_FAULT_09_POWER = scenario(
    "field fault 9: the limit holds over a power cut without link, and in the resumed session",
    expect(online()),
    limit(8),
    *arrive(),
    expect(offers(8)),
    always(at_most(8)),
    draw(wh=1),
    drop_link(),
    cut_power(),
    restore_power(),
    expect(charging()),
    expect(offers(8)),
    draw(wh=5),
    restore_link(),
    *leave(),
    *all_is_well(1),
)

# The limit was ignored when charging went on from 0 A; a profile was accepted and thrown away.
FIELD_FAULT_10 = scenario(
    "field fault 10: 16, 0, 8 A before, in and after the charge; the pilot is as the schedule says",
    expect(online()),
    limit(0),
    plug(),
    expect(preparing()),
    swipe(CARD),
    expect(state("SuspendedEVSE")),
    hold(no_power(), 500),
    limit(16),
    expect(charging()),
    expect(offers(16)),
    limit(0),
    expect(state("SuspendedEVSE")),
    expect(no_power()),
    limit(8),
    always(at_most(8)),
    expect(charging()),
    expect(offers(8)),
    car_pauses(),
    expect(state("SuspendedEV")),
    limit(0),
    expect(state("SuspendedEVSE", "SuspendedEV")),
    limit(6),
    car_wakes(),
    expect(charging()),
    expect(offers(6)),
    draw(wh=1),
    *leave(),
    *all_is_well(1),
)


def strange_reading(name: str, *, lasts_ms: int = 20_000, goes_on: bool = True) -> Scenario:
    """Field fault 11: a reply of the meter that is late, of another register, zero, far off.

    ``goes_on``: registers go on from where they were. Nothing impossible is billed, and the next car can charge."""
    return scenario(
        f"field fault 11: meter_{name} in mid-session",
        expect(online()),
        always(nothing_impossible_billed()),
        *arrive(),
        draw(wh=2),
        fault("meter", name),
        wait(lasts_ms),
        fault_gone("meter"),
        wait(20_000),
        unplug(),
        expect(state("Available", "Faulted", "Unavailable")),
        *(() if goes_on else (kill(STATION),)),  # a meter that begins anew is for a person to judge
        expect(available()),
        *arrive(OTHER_CARD),
        draw(wh=1),
        *leave(OTHER_CARD),
        expect(all_told()),
        expect(kept(2)),
        *((hold(registers_never_fall(), 0),) if goes_on else ()),
        hold(no_negative_duration(), 0),
    )


# Zero, or another register's value on a glitch; a late reply taken for another; totals wrong after a restart.
FIELD_FAULT_11 = {
    "zero": strange_reading("zero"),
    "far-off": strange_reading("jump"),
    "late": strange_reading("late", lasts_ms=150_000),
    "the-same-again": strange_reading("stuck"),
    "garbage": strange_reading("garbage"),
    "silence": strange_reading("silent"),
    "meter-exchanged": strange_reading("exchanged", goes_on=False),
}

FIELD_FAULT_11_WRAPPED = scenario(
    "field fault 11: the register runs over its last digit in mid-session; all energy is billed, none twice",
    expect(online()),
    fault("meter", "rollover", 5_000),
    kill(STATION),
    expect(available()),
    always(nothing_impossible_billed()),
    *arrive(),
    draw(wh=3),
    wait(20_000),
    swipe(CARD),
    expect(state("Finishing", "Preparing", "Available")),
    unplug(),
    expect(available()),
    expect(all_told()),
    hold(no_negative_duration(), 0),
)

# The stop reading was taken while current flowed: the next session began below it.
FIELD_FAULT_12 = scenario(
    "field fault 12: a car that goes on drawing at the end; the last reading is taken when nothing flows",
    expect(online()),
    *arrive(),
    fault("car", "ignore_stop"),
    draw(wh=2),
    swipe(CARD),
    expect(no_power()),
    expect(finished()),
    fault_gone("car"),
    unplug(),
    expect(available()),
    *arrive(OTHER_CARD),
    draw(wh=1),
    *leave(OTHER_CARD),
    *all_is_well(2),
)
