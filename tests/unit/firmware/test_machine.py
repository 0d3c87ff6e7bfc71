"""The update machine's table, every pair of it, and what it wants done: acts, orders to the gateway, sessions kept out.

What is told of an update is in ``test_machine_sequences``.
"""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.facts import FirmwareFact, UpdateVia
from agent.core.table import NoTransition
from agent.firmware.machine import LOCAL, Act, Booted, Effect, Staged, Tell, Update, UpdateMachine
from agent.firmware.phases import CANCELLABLE, FETCHING, UPDATE, WAITS, Happening, Phase
from agent.ipc.updates import FetchOrder, FetchStep
from tests.support.update_desk import HELD, NOW_MS, Desk, order

LATER_MS = NOW_MS + 60_000
DOWNLOADED = Staged("b", "2.0", "dd", file_signed=True)

# -------------------------------------------------------------------------------------------------- the table

# Columns: happenings. A dot: no such thing can happen there.
TABLE = """
              ASKED     HANDED  DUE         AWAY   BACK        LOST     FAILED STAGED FREE       ACTIVATED
IDLE          SCHEDULED STAGED  .           .      .           .        .      .      .          .
SCHEDULED     SCHEDULED STAGED  DOWNLOADING .      .           .        .      .      .          .
DOWNLOADING   SCHEDULED STAGED  .           PAUSED DOWNLOADING RETRYING IDLE   STAGED .          .
PAUSED        SCHEDULED STAGED  .           PAUSED DOWNLOADING RETRYING IDLE   STAGED .          .
RETRYING      SCHEDULED STAGED  DOWNLOADING .      .           .        .      .      .          .
STAGED        SCHEDULED STAGED  WAITING     .      .           .        .      .      .          .
WAITING       SCHEDULED STAGED  .           .      .           .        .      .      ACTIVATING .
ACTIVATING    .         .       .           .      .           .        IDLE   .      .          REBOOTING
REBOOTING     .         .       .           .      .           .        .      .      .          .
TESTING       .         .       .           .      .           .        .      .      .          .
CONFIRMING    .         .       .           .      .           .        .      .      .          .
REVERTING     .         .       .           .      .           .        IDLE   .      .          .
"""
AFTER_THE_BOOT = """
              BOOTED_NEW BOOTED_OLD  PASSED     FAULTY    CONFIRMED
IDLE          TESTING    IDLE        .          .         .
SCHEDULED     TESTING    SCHEDULED   .          .         .
DOWNLOADING   TESTING    DOWNLOADING .          .         .
PAUSED        TESTING    PAUSED      .          .         .
RETRYING      TESTING    RETRYING    .          .         .
STAGED        TESTING    STAGED      .          .         .
WAITING       TESTING    WAITING     .          .         .
ACTIVATING    TESTING    ACTIVATING  .          .         .
REBOOTING     TESTING    IDLE        .          .         .
TESTING       TESTING    IDLE        CONFIRMING REVERTING .
CONFIRMING    TESTING    IDLE        .          REVERTING IDLE
REVERTING     REVERTING  IDLE        .          .         .
"""


def cells(table: str) -> dict[tuple[str, str], str]:
    head, *rows = [line.split() for line in table.strip().splitlines()]
    return {(row[0], column): cell for row in rows for column, cell in zip(head, row[1:], strict=True)}


CELLS = cells(TABLE) | cells(AFTER_THE_BOOT)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("happening", Happening)
def test_every_pair_of_the_table(phase: Phase, happening: Happening) -> None:
    target = CELLS[phase.name, happening.name]
    if target == ".":
        with pytest.raises(NoTransition, match=f"firmware update: no entry for {happening.name} in {phase.name}"):
            UPDATE.next(phase, happening)
    else:
        assert UPDATE.next(phase, happening) is Phase[target]


def test_the_table_is_written_down_whole() -> None:
    assert set(CELLS) == {(phase.name, happening.name) for phase in Phase for happening in Happening}


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_is_reached_and_leads_back_to_rest(phase: Phase) -> None:
    def reachable(start: Phase) -> set[Phase]:
        found, new = {start}, [start]
        while new:
            new = [target for each in new for target in UPDATE.rows[each].values() if target not in found]
            found.update(new)
        return found

    assert phase in reachable(Phase.IDLE)
    assert Phase.IDLE in reachable(phase)


def test_whoever_asks_finds_an_entry_wherever_requests_are_taken() -> None:
    for phase in Phase:
        assert (Happening.ASKED in UPDATE.rows[phase]) == (phase in CANCELLABLE)
        assert (Happening.HANDED in UPDATE.rows[phase]) == (phase in CANCELLABLE)
    assert CANCELLABLE.isdisjoint(HELD)
    assert set(Phase) == CANCELLABLE | HELD
    assert {*WAITS, *FETCHING, Phase.IDLE} == CANCELLABLE


# ------------------------------------------------------------------------------------------- one step at a time


def kinds(effects: list[Effect]) -> list[str]:
    """What a step says, in short."""
    return [kind(effect) for effect in effects]


def kind(effect: Effect) -> str:
    match effect:
        case Act():
            return effect.value
        case Tell(FirmwareFact(status)):
            return status
        case Tell():
            return "event"
        case _:
            return type(effect).__name__


# script before; last word; what that step wants, in order
STEPS = [
    ("", "ask", "Save Downloading Fetch"),
    ("ask", "progress", ""),
    ("ask", "paused", "Save DownloadPaused"),
    ("ask", "lost", "Save"),
    ("ask lost", "wait:60", "Save Fetch"),
    ("ask", "failed", "Save DownloadFailed"),
    ("ask", "refused:signature", "Save event InvalidSignature"),
    ("ask", "staged", "Save Downloaded SignatureVerified activate Installing Hold"),
    ("ask charge", "staged", "Save Downloaded SignatureVerified InstallScheduled Hold"),
    ("ask charge staged", "wait:1", ""),
    ("ask charge staged", "leave", "Save activate Installing"),
    ("ask staged", "activated", "Save reboot InstallRebooting"),
    ("ask staged", "stuck", "Save InstallationFailed Hold"),
    ("ask staged activated", "reboot:new", "Save test Hold"),
    ("ask staged activated", "reboot:old", "Save InstallationFailed"),
    ("ask staged activated", "restart", "reboot Hold"),
    ("ask staged activated reboot:new", "passed", "Save confirm"),
    ("ask staged activated reboot:new", "faulty", "Save revert"),
    ("ask staged activated reboot:new", "restart", "test Hold"),
    ("ask staged activated reboot:new passed", "confirmed", "Save Installed event Hold"),
    ("ask staged activated reboot:new passed", "unconfirmed", "Save revert"),
    ("ask staged activated reboot:new faulty", "restart", "revert Hold"),
    ("ask staged activated reboot:new faulty", "stays", "Save InstallationFailed Hold"),
    ("ask staged", "restart", "activate Hold"),
    ("", "reboot:old", ""),
    ("ask failed", "reboot:old", ""),
]


@pytest.mark.parametrize(("script", "word", "wants"), STEPS)
def test_what_a_step_wants_and_in_which_order(script: str, word: str, wants: str) -> None:
    assert kinds(Desk().play(script).do(word)) == wants.split()


def test_a_request_when_another_is_fetched_ends_that_first() -> None:
    desk = Desk().play("ask")
    desk.request = order(request_id=8)
    assert kinds(desk.do("ask")) == ["Save", "Fetch", "Downloading", "Fetch"]
    assert desk.fetches[1] is None


def test_the_gateway_is_told_what_to_fetch_and_a_new_one_is_told_the_same() -> None:
    desk = Desk(order(location="ftp://example.com/f")).play("ask")
    assert desk.machine.order() == desk.fetches[-1] == FetchOrder(1, "ftp://example.com/f", "PEM", "Base64")
    assert desk.play("paused").machine.order() == desk.fetches[-1]
    assert desk.play("resumed lost").machine.order() is None
    assert desk.play("wait:60").machine.order() == FetchOrder(2, "ftp://example.com/f", "PEM", "Base64")


@pytest.mark.parametrize("step", FetchStep)
def test_reports_of_a_download_that_was_given_up_are_not_heard(step: FetchStep) -> None:
    desk = Desk().play("ask ask")
    desk.take(desk.report(step, DOWNLOADED, ticket=1))
    assert desk.statuses == ["Downloading", "Downloading"]
    assert desk.phase is Phase.DOWNLOADING


@pytest.mark.parametrize("script", ["", "ask lost", "ask charge staged", "ask staged", "ask staged activated"])
def test_nor_any_when_nothing_is_downloaded(script: str) -> None:
    desk = Desk().play(script)
    phase = desk.phase
    for step in FetchStep:
        assert desk.report(step, DOWNLOADED, ticket=1) == []
    assert desk.play("away back").phase is phase


# -------------------------------------------------------------------------------------------- sessions kept out

# request; script, where after a word marked + new sessions are kept out, and after all others not
HOLDS: list[tuple[dict[str, Any], str]] = [
    ({}, "ask progress paused resumed staged+ activated+ reboot:new+ passed+ confirmed"),
    ({}, "ask charge staged+ wait:1+ leave+ activated+ reboot:new+ faulty+ reboot:old"),
    ({}, "ask charge staged+ reboot:old+ wait:1+ leave+ stuck"),
    ({}, "ask staged+ unreadable"),
    ({}, "ask staged+ reboot:new+ faulty+ stays"),
    ({}, "ask staged+ activated+ reboot:old"),
    ({}, "ask staged+ activated+ restart+ reboot:new+ restart+ passed+ restart+ faulty+ restart+ reboot:old"),
    ({}, "ask staged+ activated+ reboot:new+ passed+ reboot:old"),
    ({}, "ask staged+ activated+ reboot:new+ passed+ unconfirmed+ reboot:new+ reboot:old"),
    ({}, "ask charge staged+ ask"),
    ({}, "ask charge staged+ hand+ leave+ stuck"),
    ({}, "ask lost reboot:new+ passed+ confirmed"),
    ({}, "ask charge failed"),
    ({"install_wall_ms": LATER_MS}, "ask staged wait:59 charge wait:1+ leave+ stuck"),
    ({"retrieve_wall_ms": LATER_MS}, "ask wait:60 staged+ stuck"),
]


@pytest.mark.parametrize(("settings", "script"), HOLDS)
def test_new_sessions_are_kept_out_from_the_wait_on_and_let_in_at_every_end(
    settings: dict[str, Any], script: str
) -> None:
    desk = Desk(order(**settings))
    for word in script.split():
        desk.do(word.removesuffix("+"))
        assert desk.hold == word.endswith("+"), word
    assert desk.phase in (Phase.IDLE, Phase.DOWNLOADING)


def test_new_sessions_are_let_in_while_it_waits_if_the_csms_wants_it_so() -> None:
    desk = Desk()
    desk.allow_new = True
    assert not desk.play("ask charge staged").hold
    desk.allow_new = False
    assert desk.play("wait:1").hold
    desk.allow_new = True
    assert not desk.play("wait:1").hold
    assert desk.play("leave").hold, "not while it is installed"
    assert desk.statuses == ["Downloading", "Downloaded", "SignatureVerified", "InstallScheduled", "Installing"]


# ------------------------------------------------------------------------------------------- which slot runs

INSTALLING = {
    Phase.ACTIVATING: "ask staged",
    Phase.REBOOTING: "ask staged activated",
    Phase.TESTING: "ask staged activated reboot:new",
    Phase.CONFIRMING: "ask staged activated reboot:new passed",
    Phase.REVERTING: "ask staged activated reboot:new faulty",
}
installing = pytest.mark.parametrize("phase", INSTALLING)


def at(phase: Phase) -> Desk:
    desk = Desk().play(INSTALLING[phase])
    assert desk.phase is phase
    return desk


@installing
def test_no_request_is_taken_once_the_boot_loader_is_being_told(phase: Phase) -> None:
    assert phase not in CANCELLABLE
    for word in ("ask", "hand"):
        with pytest.raises(NoTransition):
            at(phase).do(word)


@installing
@pytest.mark.parametrize("boot", ["new", "good"])
def test_the_new_slot_is_tested_whatever_the_record_says(phase: Phase, boot: str) -> None:
    desk = at(phase).play(f"reboot:{boot}")
    assert desk.phase is (Phase.REVERTING if phase is Phase.REVERTING else Phase.TESTING)


@installing
def test_the_old_slot_is_the_end_of_it_or_the_beginning(phase: Phase) -> None:
    desk = at(phase).play("reboot:old")
    if phase is Phase.ACTIVATING:
        assert (desk.phase, desk.acts) == (Phase.ACTIVATING, [Act.ACTIVATE] * 2)
    else:
        assert (desk.phase, desk.statuses[-1]) == (Phase.IDLE, "InstallationFailed")


@installing
def test_an_old_slot_on_trial_is_never_taken_for_the_new_one(phase: Phase) -> None:
    """A boot loader that lost its data knows no good slot."""
    desk = at(phase).play("reboot:old_new")
    assert desk.slot == "a"
    if phase is Phase.ACTIVATING:  # the installer will refuse
        assert desk.phase is Phase.ACTIVATING
        return
    assert [(fact.via, fact.status) for fact in desk.told[-1:]] == [(UpdateVia.SIGNED, "InstallationFailed")]
    assert desk.phase is Phase.TESTING, "but it is tested"
    assert desk.play("passed confirmed").told[-1].via is UpdateVia.LOCAL


# phase: what goes on when only the station was restarted
RESTARTED = {
    Phase.ACTIVATING: Act.ACTIVATE,
    Phase.REBOOTING: Act.REBOOT,
    Phase.TESTING: Act.TEST,
    Phase.CONFIRMING: Act.TEST,
    Phase.REVERTING: Act.REVERT,
}


@installing
def test_a_restart_of_the_station_alone_goes_on_and_tells_nothing(phase: Phase) -> None:
    desk = at(phase)
    told = len(desk.told)
    desk.play("restart")
    assert desk.acts[-1] is RESTARTED[phase]
    assert len(desk.told) == told
    assert desk.hold


@pytest.mark.parametrize(
    ("phase", "settings", "script"),
    [
        (Phase.SCHEDULED, {"retrieve_wall_ms": LATER_MS}, "ask"),
        (Phase.DOWNLOADING, {}, "ask"),
        (Phase.PAUSED, {}, "ask paused"),
        (Phase.RETRYING, {}, "ask lost"),
        (Phase.STAGED, {"install_wall_ms": LATER_MS}, "ask staged"),
        (Phase.WAITING, {}, "ask charge staged"),
    ],
)
@pytest.mark.parametrize("again", ["restart", "reboot:old", "reboot:good"])
def test_before_that_a_restart_changes_nothing(phase: Phase, settings: dict[str, Any], script: str, again: str) -> None:
    desk = Desk(order(**settings)).play(script)
    kept, told = desk.kept, len(desk.told)
    desk.play(again)
    assert (desk.phase, desk.kept, len(desk.told)) == (phase, kept, told)


def test_a_slot_on_trial_that_nobody_asked_for_is_tested() -> None:
    desk = Desk().play("reboot:new")
    assert desk.kept == Update(Phase.TESTING, LOCAL, 1, slot="b", version="9.9")
    assert desk.acts == [Act.TEST]


def test_the_slot_is_told_too_late_to_begin_an_act_again() -> None:
    """The installer answered when the station had begun to install already."""
    desk = Desk().play("ask charge staged")
    waiting = UpdateMachine(desk.kept)
    desk.engaged = False
    assert Act.ACTIVATE in waiting.tick(desk.now())
    assert waiting.booted(Booted("a", on_trial=False, boot_id="boot 1"), desk.now()) == []
    assert kinds(waiting.activated("boot 1", (), desk.now())) == ["Save", "reboot", "InstallRebooting"]


def test_answers_that_come_too_late_are_not_heard() -> None:
    desk = Desk().play("ask staged activated reboot:new passed confirmed")
    assert desk.machine.tested("no answer", desk.now()) == []
    assert desk.machine.confirmed("why not", desk.now()) == []


def test_the_reboot_is_ordered_again_only_within_the_same_boot() -> None:
    desk = Desk().play("ask staged activated restart restart")
    assert desk.acts == [Act.ACTIVATE, Act.REBOOT, Act.REBOOT, Act.REBOOT]
    assert desk.play("reboot:old").phase is Phase.IDLE


def test_a_machine_that_starts_wants_nothing_before_it_knows_where_it_is() -> None:
    for phase, script in INSTALLING.items():
        machine = UpdateMachine(at(phase).kept)
        assert machine.tick(Desk().now()) == [], script
