"""Scenarios for any rig: an ordinary day, and faults that happened to others.

Charter: values only, in the words of ``verbs`` and ``expectations``. Those named ``FIELD_FAULT_nn`` are rows of the
list of field faults; the comment above says what had gone wrong there. Draws are tiny, so that a rig in real time
takes seconds.
"""

from __future__ import annotations

from agent.sim.scenario.expectations import (
    all_told,
    at_most,
    available,
    booked,
    booted,
    charging,
    faulted,
    finished,
    heard,
    in_order,
    kept,
    no_negative_duration,
    no_power,
    nothing_wrong,
    offers,
    offline,
    online,
    preparing,
    registers_never_fall,
    state,
    stopped_for,
    told_status,
    totals_equal,
)
from agent.sim.scenario.play import DEADLINE_MS, Scenario, Step, always, draw, expect, hold, scenario
from agent.sim.scenario.verbs import (
    BOTH,
    CARD,
    OTHER_CARD,
    START,
    STATION,
    STOP,
    VALUES,
    Message,
    Mood,
    car_pauses,
    car_wakes,
    change_availability,
    csms_answers,
    csms_well,
    cut_power,
    drop_link,
    fault,
    fault_gone,
    fill_disk,
    free_disk,
    half_open_link,
    kill,
    limit,
    plug,
    remote_start,
    remote_stop,
    reset,
    restore_link,
    restore_power,
    step_clock,
    swipe,
    unplug,
)

HOUR_S, FIFTY_YEARS_S = 3_600, 50 * 365 * 86_400
_SILENCE_MS = 600_000  # a silent CSMS is waited for 30 s, each time a message is sent


def _arrive(token: str = CARD) -> tuple[Step, ...]:
    """A driver plugs in and shows a card; the car charges."""
    return plug(), expect(preparing()), swipe(token), expect(charging())


def _leave(token: str = CARD) -> tuple[Step, ...]:
    """The driver shows the card again and unplugs."""
    return swipe(token), expect(finished()), unplug(), expect(available())


# What no waiting makes true.
_NEVER = (hold(registers_never_fall(), 0), hold(no_negative_duration(), 0), hold(nothing_wrong(), 0))


def _all_is_well(transactions: int) -> tuple[Step, ...]:
    """Every transaction is booked as it should be, and all witnesses agree."""
    return (
        expect(booked(START, VALUES, STOP, transactions=transactions)),
        expect(kept(transactions)),
        expect(in_order()),
        expect(totals_equal()),
        *_NEVER,
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
    *_all_is_well(1),
)

RESET_IN_MID_SESSION = scenario(
    "a reset in mid-session ends the transaction, and the station comes back",
    expect(online()),
    *_arrive(),
    draw(wh=1),
    reset(),
    expect(booted(1)),
    expect(online()),
    unplug(),
    expect(available()),
    *_all_is_well(1),
    expect(stopped_for("SoftReset", "ImmediateReset")),
)

LOST_METER = scenario(
    "a meter that falls silent ends the charge, and a new one is possible when it speaks again",
    expect(online()),
    *_arrive(),
    draw(wh=1),
    fault("meter", "silent"),
    expect(faulted()),
    expect(no_power()),
    fault_gone("meter"),
    unplug(),
    expect(available()),
    *_arrive(),
    draw(wh=1),
    *_leave(),
    expect(booked(START, STOP, transactions=2)),
    expect(kept(2)),
    *_NEVER,
)

FULL_DISK = scenario(
    "no session begins on a full disk, and one does when there is room again",
    expect(online()),
    fill_disk(),
    plug(),
    swipe(CARD),
    hold(no_power(), 5_000),
    free_disk(),
    unplug(),
    expect(available()),
    *_arrive(),
    draw(wh=1),
    *_leave(),
    *_all_is_well(1),
)

# ------------------------------------------------------------------------------------- field faults

# Start was lost and only Stop sent: the session could not be billed.
FIELD_FAULT_01 = scenario(
    "field fault 1: offline session and reset, then exactly Start, Values, Stop in order",
    expect(online()),
    drop_link(),
    expect(offline()),
    *_arrive(),
    draw(wh=3),
    *_leave(),
    kill(STATION),
    restore_link(),
    expect(booked(START, VALUES, STOP, once=True)),
    *_all_is_well(1),
)

# Id and last reading were gone after a power loss; the CSMS showed the session open for ever.
FIELD_FAULT_02_KILL = scenario(
    "field fault 2: everything is killed in mid-session; the session goes on and is billed once",
    expect(online()),
    *_arrive(),
    draw(wh=2),
    kill(BOTH),
    expect(no_power()),
    expect(charging()),
    draw(wh=1),
    *_leave(),
    *_all_is_well(1),
)

FIELD_FAULT_02_GONE = scenario(
    "field fault 2: the station is killed and the car leaves meanwhile; the session ends with its last reading",
    expect(online()),
    *_arrive(),
    draw(wh=2),
    kill(STATION),
    unplug(),
    expect(available()),
    *_all_is_well(1),
)

FIELD_FAULT_02_POWER = scenario(
    "field fault 2: power loss in mid-session, the car leaves in the dark; Stop for power loss with the last reading",
    expect(online()),
    *_arrive(),
    draw(wh=20),
    cut_power(),
    unplug(),
    restore_power(),
    expect(available()),
    *_all_is_well(1),
    expect(stopped_for("PowerLoss")),
)

# After an offline session and a reboot the next car could not charge: "transaction still running".
FIELD_FAULT_04 = scenario(
    "field fault 4: a second session begins before the CSMS has heard of the first",
    expect(online()),
    drop_link(),
    expect(offline()),
    *_arrive(),
    draw(wh=2),
    *_leave(),
    kill(STATION),
    expect(available()),
    *_arrive(OTHER_CARD),
    draw(wh=2),
    restore_link(),
    expect(online()),
    *_leave(OTHER_CARD),
    *_all_is_well(2),
)


def poisoned(mood: Mood, *messages: Message) -> Scenario:
    """Field fault 5: the CSMS answered a queued message with an error, and the queue stood still for ever.

    These messages of one transaction are answered like that until each is given up; the next transaction is told
    as ever, and the ledger has both."""
    spoilt = " and ".join(messages)
    patience_ms = _SILENCE_MS if mood in (Mood.SILENCE, Mood.GARBAGE) else DEADLINE_MS
    return scenario(
        f"field fault 5: {spoilt} answered {mood}; later messages go, the record is kept",
        expect(online()),
        *(csms_answers(message, mood) for message in messages),
        *_arrive(),
        draw(wh=1, for_ms=1_200),
        *_leave(),
        *(expect(heard(message, taken=False, times=2), within_ms=patience_ms) for message in messages),
        expect(all_told(), within_ms=patience_ms),
        csms_well(),
        *_arrive(OTHER_CARD),
        draw(wh=1),
        *_leave(OTHER_CARD),
        expect(booked(START, VALUES, STOP)),
        expect(kept(2)),
        hold(registers_never_fall(), 0),
    )


_POISON = (Mood.ERROR, Mood.MALFORMED, Mood.SILENCE, Mood.GARBAGE)
FIELD_FAULT_05_ALL = {mood.name.lower(): poisoned(mood, START, VALUES, STOP) for mood in _POISON}
FIELD_FAULT_05_EACH = {
    f"{message.lower()}-{mood.name.lower()}": poisoned(mood, message)
    for message in (START, VALUES, STOP)
    for mood in _POISON
}


def clock_steps(name: str, *steps_s: int) -> Scenario:
    """Field fault 6: the clock steps in mid-session; nothing lasts less than no time, and the energy is right."""
    moves = [step for by_s in steps_s for step in (step_clock(by_s), draw(wh=1, for_ms=1_100))]
    return scenario(
        f"field fault 6: the clock steps {name} in mid-session",
        expect(online()),
        *_arrive(),
        draw(wh=1, for_ms=1_100),
        *moves,
        *_leave(),
        *_all_is_well(1),
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
    *_arrive(),
    draw(wh=1),
    restore_link(),
    expect(online()),
    *_leave(),
    *_all_is_well(1),
)

# "Connected" for a day on a dead link, sessions ended where OCPP was toggled.
FIELD_FAULT_07 = scenario(
    "field fault 7: the link goes half-open in mid-session; it is found out, the charge goes on, all is told",
    expect(online()),
    *_arrive(),
    half_open_link(),
    expect(offline(), within_ms=15_000),
    expect(charging()),
    draw(wh=1),
    expect(online(), within_ms=15_000),
    *_leave(),
    *_all_is_well(1),
)

# The limit was lost with the link: full current, a breaker of the house tripped.
FIELD_FAULT_09 = scenario(
    "field fault 9: the limit holds over a lost link, a killed station and the resumed session",
    expect(online()),
    limit(8),
    *_arrive(),
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
    *_leave(),
    *_all_is_well(1),
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
    *_leave(),
    *_all_is_well(1),
)

# The stop reading was taken while current flowed: the next session began below it.
FIELD_FAULT_12 = scenario(
    "field fault 12: a car that goes on drawing at the end; the last reading is taken when nothing flows",
    expect(online()),
    *_arrive(),
    fault("car", "ignore_stop"),
    draw(wh=2),
    swipe(CARD),
    expect(no_power()),
    expect(finished()),
    fault_gone("car"),
    unplug(),
    expect(available()),
    *_arrive(OTHER_CARD),
    draw(wh=1),
    *_leave(OTHER_CARD),
    *_all_is_well(2),
)
