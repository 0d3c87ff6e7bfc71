"""Scenarios for any rig: ordinary days, single troubles, and faults that are next in line.

Charter: values only, in the words of ``verbs`` and ``expectations``. The comment above a fault says what had gone
wrong elsewhere (the list of field faults, "next in line").
"""

from __future__ import annotations

from agent.sim.scenario.expectations import (
    all_told,
    available,
    booked,
    booted,
    charging,
    faulted,
    has_faults,
    kept,
    no_power,
    online,
    preparing,
    state,
    stopped_for,
    told_status,
)
from agent.sim.scenario.phrases import NEVER, all_is_well, arrive, leave
from agent.sim.scenario.play import draw, expect, hold, scenario, wait
from agent.sim.scenario.verbs import (
    BOTH,
    CARD,
    OTHER_CARD,
    START,
    STOP,
    VALUES,
    car_pauses,
    car_wakes,
    change_availability,
    cut_power,
    fault,
    fault_gone,
    fill_disk,
    free_disk,
    kill,
    plug,
    remote_start,
    remote_stop,
    reset,
    restore_power,
    swipe,
    unplug,
)

# ---------------------------------------------------------------------------------- an ordinary day

REMOTE_SESSION = scenario(
    "a session that the CSMS starts and stops, with a pause of the car and an EVSE taken out of use",
    expect(online()),
    plug(),
    expect(preparing()),
    remote_start(OTHER_CARD),
    expect(charging()),
    car_pauses(),
    expect(state("SuspendedEV")),
    car_wakes(),
    expect(charging()),
    draw(wh=2),
    remote_stop(),
    expect(no_power()),
    unplug(),
    expect(available()),
    change_availability(operative=False, evse=1),
    expect(state("Unavailable")),
    change_availability(operative=True, evse=1),
    expect(told_status("Available", "Unavailable", "Available")),
    *all_is_well(1),
)

RESET_IN_MID_SESSION = scenario(
    "a reset in mid-session ends the transaction, and the station comes back",
    expect(online()),
    *arrive(),
    draw(wh=1),
    reset(),
    expect(booted(1)),
    expect(online()),
    unplug(),
    expect(available()),
    *all_is_well(1),
    expect(stopped_for("SoftReset", "ImmediateReset")),
)

LOST_METER = scenario(
    "a meter that falls silent ends the charge, and a new one is possible when it speaks again",
    expect(online()),
    *arrive(),
    draw(wh=1),
    fault("meter", "silent"),
    expect(faulted()),
    expect(no_power()),
    fault_gone("meter"),
    unplug(),
    expect(available()),
    *arrive(),
    draw(wh=1),
    *leave(),
    expect(booked(START, STOP, transactions=2)),
    expect(kept(2)),
    *NEVER,
)

FULL_DISK = scenario(
    "no session begins on a full disk, and one does when there is room again",
    expect(online()),
    fill_disk(),
    wait(20_000),  # until it is noticed: room is looked at every 15 s
    plug(),
    swipe(CARD),
    hold(no_power(), 5_000),
    free_disk(),
    wait(20_000),
    unplug(),
    expect(available()),
    *arrive(),
    draw(wh=1),
    *leave(),
    *all_is_well(1),
)

# ------------------------------------------------------------------------------------- next in line

# Each boot told the last Stop again.
NEXT_DUPLICATE_STOP = scenario(
    "next in line: a Stop that was told is not told again at the next boots",
    expect(online()),
    *arrive(),
    draw(wh=1, for_ms=1_100),
    *leave(),
    expect(all_told()),
    cut_power(),
    restore_power(),
    expect(booted(1)),
    expect(online()),
    kill(BOTH),
    expect(booted(2)),
    expect(booked(START, VALUES, STOP, once=True)),
    *all_is_well(1),
)

# A remote start that was accepted made a transaction of some seconds, with no car.
NEXT_PHANTOM = scenario(
    "next in line: a remote start without a car makes no transaction, however long it waits",
    expect(online()),
    remote_start(OTHER_CARD),
    hold(kept(0), 600_000),
    expect(available()),
    plug(),
    expect(preparing()),
    hold(kept(0), 60_000),
    hold(no_power(), 0),
    unplug(),
    expect(available()),
    *NEVER,
)

# A charger that came back in Preparing was taken to be still charging.
NEXT_PREPARING = scenario(
    "next in line: a charger that boots with a car before it says Preparing, and charges once that is wanted",
    expect(online()),
    plug(),
    expect(preparing()),
    cut_power(),
    restore_power(),
    expect(booted(1)),
    expect(preparing()),
    hold(kept(0), 60_000),
    swipe(CARD),
    expect(charging()),
    draw(wh=1, for_ms=1_100),
    *leave(),
    *all_is_well(1),
)

# Two errors in one millisecond, one swallowed: the charger said it was well when the other was gone.
NEXT_TWO_FAULTS = scenario(
    "next in line: two faults in one millisecond are two faults",
    expect(online()),
    *arrive(),
    draw(wh=1, for_ms=1_100),
    fault("residual", "current"),
    fault("pilot", "short"),
    expect(has_faults("residual_current", "pilot_short")),
    expect(no_power()),
    fault_gone("pilot"),
    hold(faulted(), 60_000),
)
