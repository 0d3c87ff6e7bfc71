"""Field faults 1, 2, 4 and 5 as scenarios for any rig: what must not be lost on its way to the CSMS.

Charter: values only. ``FIELD_FAULT_nn`` is row nn of the list of field faults; the comment above says what had gone
wrong there.
"""

from __future__ import annotations

from agent.sim.scenario.expectations import (
    all_told,
    available,
    booked,
    charging,
    finished,
    heard,
    kept,
    no_power,
    offline,
    online,
    registers_never_fall,
    stopped_for,
)
from agent.sim.scenario.phrases import SILENCE_MS, all_is_well, arrive, leave
from agent.sim.scenario.play import DEADLINE_MS, Scenario, draw, expect, hold, scenario, wait
from agent.sim.scenario.verbs import (
    BOTH,
    OTHER_CARD,
    SECURITY,
    START,
    STATION,
    STOP,
    VALUES,
    Message,
    Mood,
    csms_answers,
    csms_well,
    cut_power,
    drop_link,
    kill,
    restore_link,
    restore_power,
    unplug,
)

# ------------------------------------------------------------------------------------- field faults

# Start was lost and only Stop sent: the session could not be billed.
FIELD_FAULT_01 = scenario(
    "field fault 1: offline session and reset, then exactly Start, Values, Stop in order",
    expect(online()),
    drop_link(),
    expect(offline()),
    *arrive(),
    draw(wh=3),
    *leave(),
    kill(STATION),
    restore_link(),
    expect(booked(START, VALUES, STOP, once=True)),
    *all_is_well(1),
)

# Id and last reading were gone after a power loss; the CSMS showed the session open for ever.
FIELD_FAULT_02_KILL = scenario(
    "field fault 2: everything is killed in mid-session; the session goes on and is billed once",
    expect(online()),
    *arrive(),
    draw(wh=2),
    kill(BOTH),
    expect(no_power()),
    expect(charging()),
    draw(wh=1),
    *leave(),
    *all_is_well(1),
)

FIELD_FAULT_02_GONE = scenario(
    "field fault 2: the station is killed and the car leaves meanwhile; the session ends with its last reading",
    expect(online()),
    *arrive(),
    draw(wh=2),
    kill(STATION),
    unplug(),
    expect(available()),
    *all_is_well(1),
)

FIELD_FAULT_02_POWER = scenario(
    "field fault 2: power loss in mid-session, the car leaves in the dark; Stop for power loss with the last reading",
    expect(online()),
    *arrive(),
    draw(wh=20),
    cut_power(),
    unplug(),
    restore_power(),
    expect(available()),
    *all_is_well(1),
    expect(stopped_for("PowerLoss")),
)

FIELD_FAULT_02_RESUMED = scenario(
    "field fault 2: power loss of a moment in mid-session; the car waits, the session goes on and is billed once",
    expect(online()),
    *arrive(),
    draw(wh=20),
    cut_power(),
    restore_power(),
    expect(charging()),
    draw(wh=20),
    *leave(),
    *all_is_well(1),
)

FIELD_FAULT_02_LONG = scenario(
    "field fault 2: power loss of a quarter of an hour; the car waits, the session ends with its last reading",
    expect(online()),
    *arrive(),
    draw(wh=20),
    cut_power(),
    wait(900_000),
    restore_power(),
    expect(finished()),
    expect(booked(START, VALUES, STOP)),
    expect(stopped_for("PowerLoss")),
    unplug(),
    expect(available()),
    *all_is_well(1),
)

FIELD_FAULT_02_OFTEN = scenario(
    "field fault 2: the power fails again and again in mid-session, also as the station starts",
    expect(online()),
    *arrive(),
    *(step for ms in (1_000, 6_000, 15_000, 30_000, 45_000) for step in (cut_power(), restore_power(), wait(ms))),
    expect(charging()),
    draw(wh=5),
    *leave(),
    *all_is_well(1),
)

# After an offline session and a reboot the next car could not charge: "transaction still running".
FIELD_FAULT_04 = scenario(
    "field fault 4: a second session begins before the CSMS has heard of the first",
    expect(online()),
    drop_link(),
    expect(offline()),
    *arrive(),
    draw(wh=2),
    *leave(),
    kill(STATION),
    expect(available()),
    *arrive(OTHER_CARD),
    draw(wh=2),
    restore_link(),
    expect(online()),
    *leave(OTHER_CARD),
    *all_is_well(2),
)


def poisoned(mood: Mood, *messages: Message) -> Scenario:
    """Field fault 5: the CSMS answered a queued message with an error, and the queue stood still for ever.

    These messages of one transaction are answered like that until each is given up; the next transaction is told
    as ever, and the ledger has both."""
    spoilt = " and ".join(messages)
    patience_ms = SILENCE_MS if mood in (Mood.SILENCE, Mood.GARBAGE) else DEADLINE_MS
    return scenario(
        f"field fault 5: {spoilt} answered {mood}; later messages go, the record is kept",
        expect(online()),
        *(csms_answers(message, mood) for message in messages),
        *arrive(),
        draw(wh=1, for_ms=1_200),
        *leave(),
        *(expect(heard(message, taken=False, times=2), within_ms=patience_ms) for message in messages),
        expect(all_told(), within_ms=patience_ms),
        csms_well(),
        *arrive(OTHER_CARD),
        draw(wh=1),
        *leave(OTHER_CARD),
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


def closed_on(message: Message) -> Scenario:
    """Field fault 5: the CSMS closes the connection at this message, so that nobody can say whether it was heard.

    That is no attempt: when it listens again it is told everything, in order."""
    return scenario(
        f"field fault 5: the CSMS closes the connection at each {message}; nothing is lost",
        expect(online()),
        csms_answers(message, Mood.CLOSE),
        *arrive(),
        draw(wh=1, for_ms=1_200),
        *leave(),
        expect(heard(message, taken=False, times=3)),
        csms_well(),
        *arrive(OTHER_CARD),
        draw(wh=1, for_ms=1_200),
        *leave(OTHER_CARD),
        *all_is_well(2),
    )


FIELD_FAULT_05_CLOSE = {message.lower(): closed_on(message) for message in (START, VALUES, STOP)}


def refused_security(mood: Mood) -> Scenario:
    """Field fault 5: the event of a start, which is told before anything else of that run."""
    patience_ms = SILENCE_MS if mood in (Mood.SILENCE, Mood.GARBAGE) else DEADLINE_MS
    return scenario(
        f"field fault 5: security events answered {mood}; later messages go",
        expect(online()),
        csms_answers(SECURITY, mood),
        kill(STATION),
        expect(heard(SECURITY, taken=False), within_ms=patience_ms),
        *arrive(),
        draw(wh=1, for_ms=1_200),
        *leave(),
        expect(heard(STOP, taken=True), within_ms=patience_ms),
        csms_well(),  # garbage is an event itself, so that there is always one more
        *all_is_well(1),
    )


FIELD_FAULT_05_SECURITY = {mood.name.lower(): refused_security(mood) for mood in _POISON}
