"""What the CSMS is told of an update, as tables: scripts of what happens, and the statuses that follow.

The words are those of ``tests.support.update_desk``, which checks the rules of every step besides.
"""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.facts import FirmwareFact, UpdateVia
from agent.firmware.errors import Refusal
from agent.firmware.machine import Act
from agent.firmware.phases import Phase
from agent.ipc.updates import FetchStep, FirmwareStatus, UpdateView
from tests.support.update_desk import NOW_MS, Desk, order

SIGNED, PLAIN, LOCAL = UpdateVia.SIGNED, UpdateVia.PLAIN, UpdateVia.LOCAL
LATER_MS = NOW_MS + 60_000
TO_STAGED = "Downloading Downloaded SignatureVerified"
TO_REBOOT = f"{TO_STAGED} Installing InstallRebooting"
TRIED = "ask staged activated reboot:new"

# ------------------------------------------------------------------------------------------------- sequences

# script; told to a CSMS that signs its orders; where it ends
SEQUENCES: list[tuple[str, str, str, Phase]] = [
    ("straight", f"{TRIED} passed confirmed", f"{TO_REBOOT} Installed", Phase.IDLE),
    ("with progress", "ask progress progress staged", f"{TO_STAGED} Installing", Phase.ACTIVATING),
    ("pause", "ask paused resumed staged", f"Downloading DownloadPaused {TO_STAGED} Installing", Phase.ACTIVATING),
    ("pauses", "ask paused paused resumed resumed paused", "Downloading DownloadPaused Downloading DownloadPaused",
     Phase.PAUSED),
    ("gateway gone, another comes", "ask away progress", "Downloading DownloadPaused Downloading", Phase.DOWNLOADING),
    ("another gateway is done at once", "ask away staged", f"Downloading DownloadPaused {TO_STAGED} Installing",
     Phase.ACTIVATING),
    ("gateway gone and back", "ask away back", "Downloading DownloadPaused Downloading", Phase.DOWNLOADING),
    ("retry", "ask lost wait:59", "Downloading", Phase.RETRYING),
    ("retried", "ask lost wait:60 staged", f"{TO_STAGED} Installing", Phase.ACTIVATING),
    ("retried after a pause", "ask paused lost wait:60", "Downloading DownloadPaused Downloading", Phase.DOWNLOADING),
    ("lost three times", "ask lost wait:60 lost wait:60 lost", "Downloading DownloadFailed", Phase.IDLE),
    ("lost for good", "ask lost:for_good", "Downloading DownloadFailed", Phase.IDLE),
    ("lost in a pause", "ask paused lost:for_good", "Downloading DownloadPaused DownloadFailed", Phase.IDLE),
    ("slot failed", "ask failed", "Downloading DownloadFailed", Phase.IDLE),
    ("installer holds nothing", "ask staged:nothing", "Downloading DownloadFailed", Phase.IDLE),
    ("installer holds another one", "ask staged:unsigned", "Downloading DownloadFailed", Phase.IDLE),
    ("somebody charges", "ask charge staged", f"{TO_STAGED} InstallScheduled", Phase.WAITING),
    ("nobody does any more", "ask charge staged leave", f"{TO_STAGED} InstallScheduled Installing", Phase.ACTIVATING),
    ("slot not readable", "ask staged unreadable", f"{TO_STAGED} Installing InstallVerificationFailed", Phase.IDLE),
    ("boot loader fails", "ask staged stuck", f"{TO_STAGED} Installing InstallationFailed", Phase.IDLE),
    ("not tried", "ask staged activated reboot:old", f"{TO_REBOOT} InstallationFailed", Phase.IDLE),
    ("reset in its test", f"{TRIED} reboot:new passed confirmed", f"{TO_REBOOT} Installed", Phase.IDLE),
    ("resets until its tries are gone", f"{TRIED} reboot:new reboot:old", f"{TO_REBOOT} InstallationFailed",
     Phase.IDLE),
    ("sick", f"{TRIED} faulty reboot:old", f"{TO_REBOOT} InstallationFailed", Phase.IDLE),
    ("sick and still here", f"{TRIED} faulty reboot:new", TO_REBOOT, Phase.REVERTING),
    ("sick, and no way back", f"{TRIED} faulty stays", f"{TO_REBOOT} InstallationFailed", Phase.IDLE),
    ("cannot be confirmed", f"{TRIED} passed unconfirmed reboot:old", f"{TO_REBOOT} InstallationFailed", Phase.IDLE),
    ("cut when confirmed", f"{TRIED} passed reboot:good passed confirmed", f"{TO_REBOOT} Installed", Phase.IDLE),
    ("cut before confirmed", f"{TRIED} passed reboot:old", f"{TO_REBOOT} InstallationFailed", Phase.IDLE),
    ("cut when activated", "ask staged reboot:new passed confirmed", f"{TO_STAGED} Installing Installed", Phase.IDLE),
    ("cut before activated", "ask staged reboot:old activated", TO_REBOOT, Phase.REBOOTING),
    ("cut in the download", "ask progress reboot:old staged", f"{TO_STAGED} Installing", Phase.ACTIVATING),
    ("cut in a pause", "ask paused reboot:old resumed", "Downloading DownloadPaused Downloading", Phase.DOWNLOADING),
    ("cut before a retry", "ask lost reboot:old wait:0", "Downloading", Phase.DOWNLOADING),
    ("cut while it waits", "ask charge staged reboot:old leave", f"{TO_STAGED} InstallScheduled Installing",
     Phase.ACTIVATING),
]  # fmt: skip


@pytest.mark.parametrize(("script", "told", "phase"), [row[1:] for row in SEQUENCES], ids=[row[0] for row in SEQUENCES])
def test_what_is_told_of_a_signed_update(script: str, told: str, phase: Phase) -> None:
    desk = Desk().play(script)
    assert desk.statuses == told.split()
    assert desk.phase is phase


@pytest.mark.parametrize(("script", "told", "phase"), [row[1:] for row in SEQUENCES], ids=[row[0] for row in SEQUENCES])
def test_of_an_unsigned_one_the_same_but_that_nothing_is_said_of_its_signature(
    script: str, told: str, phase: Phase
) -> None:
    desk = Desk(order(PLAIN, None)).play(script.replace("staged:unsigned", "staged:nothing"))
    assert desk.statuses == [status for status in told.split() if status != "SignatureVerified"]
    assert desk.phase is phase
    assert {(fact.via, fact.request_id) for fact in desk.told} == {(PLAIN, None)}


def test_an_unsigned_order_needs_no_signature_of_the_file() -> None:
    assert Desk(order(PLAIN, 8)).play("ask staged:unsigned").phase is Phase.ACTIVATING


# script; told on site; where it ends
ON_SITE = [
    ("straight", "hand activated reboot:new passed confirmed", "Installing InstallRebooting Installed", Phase.IDLE),
    ("somebody charges", "charge hand leave", "InstallScheduled Installing", Phase.ACTIVATING),
    ("sick", "hand activated reboot:new faulty reboot:old", "Installing InstallRebooting InstallationFailed",
     Phase.IDLE),
    ("another one while it waits", "charge hand hand leave",
     "InstallScheduled InstallationFailed InstallScheduled Installing", Phase.ACTIVATING),
    ("unreadable", "hand unreadable", "Installing InstallVerificationFailed", Phase.IDLE),
    ("activated by hand", "reboot:new passed confirmed", "Installed", Phase.IDLE),
    ("activated by hand, sick", "reboot:new faulty reboot:old", "InstallationFailed", Phase.IDLE),
    ("activated by hand, resets", "reboot:new reboot:old", "InstallationFailed", Phase.IDLE),
    ("nothing", "reboot:old", "", Phase.IDLE),
    ("nothing, in the other slot", "reboot:good", "", Phase.IDLE),
]  # fmt: skip


@pytest.mark.parametrize(("script", "told", "phase"), [row[1:] for row in ON_SITE], ids=[row[0] for row in ON_SITE])
def test_of_an_update_on_site(script: str, told: str, phase: Phase) -> None:
    desk = Desk().play(script)
    assert desk.statuses == told.split()
    assert desk.phase is phase
    assert {(fact.via, fact.request_id) for fact in desk.told} <= {(LOCAL, None)}


# request; script; told
TIMES: list[tuple[dict[str, Any], str, str]] = [
    ({"retrieve_wall_ms": LATER_MS}, "ask wait:59", "DownloadScheduled"),
    ({"retrieve_wall_ms": LATER_MS}, "ask wait:60", "DownloadScheduled Downloading"),
    ({"retrieve_wall_ms": LATER_MS}, "ask reboot:old wait:59 wait:1", "DownloadScheduled Downloading"),
    ({"retrieve_wall_ms": NOW_MS}, "ask", "Downloading"),
    ({"retrieve_wall_ms": 0}, "ask", "Downloading"),
    ({"install_wall_ms": LATER_MS}, "ask staged wait:59", f"{TO_STAGED} InstallScheduled"),
    ({"install_wall_ms": LATER_MS}, "ask staged wait:60", f"{TO_STAGED} InstallScheduled Installing"),
    ({"install_wall_ms": LATER_MS}, "ask staged charge wait:60", f"{TO_STAGED} InstallScheduled"),
    ({"install_wall_ms": LATER_MS}, "ask staged charge wait:60 leave", f"{TO_STAGED} InstallScheduled Installing"),
    ({"install_wall_ms": LATER_MS}, "ask staged reboot:old wait:60", f"{TO_STAGED} InstallScheduled Installing"),
    ({"install_wall_ms": LATER_MS}, "ask wait:60 staged", f"{TO_STAGED} Installing"),
    ({"install_wall_ms": LATER_MS, "retrieve_wall_ms": LATER_MS}, "ask wait:60 staged",
     f"DownloadScheduled {TO_STAGED} Installing"),
    ({"retries": 1}, "ask lost", "Downloading DownloadFailed"),
    ({"retries": 0}, "ask lost", "Downloading DownloadFailed"),
    ({"retries": 2}, "ask lost wait:60 lost", "Downloading DownloadFailed"),
    ({"retries": 2, "retry_interval_s": 5}, "ask lost wait:5 staged", f"{TO_STAGED} Installing"),
    ({"retries": 2, "retry_interval_s": 5}, "ask lost wait:4 wait:1 lost", "Downloading DownloadFailed"),
    ({"retries": 2, "retry_interval_s": 0}, "ask lost lost", "Downloading DownloadFailed"),
    ({"retries": 4, "retry_interval_s": 0}, "ask lost lost lost", "Downloading"),
    ({"retries": 2, "retry_interval_s": 5}, "ask lost:for_good wait:5 staged", f"{TO_STAGED} Installing"),
    ({"retries": 2, "retry_interval_s": 0}, "ask lost:for_good lost:for_good", "Downloading DownloadFailed"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "script", "told"), TIMES)
def test_when_it_is_done(settings: dict[str, Any], script: str, told: str) -> None:
    assert Desk(order(**settings)).play(script).statuses == told.split()


@pytest.mark.parametrize("retries", [None, 1, 2, 5])
def test_so_many_tries_and_no_more(retries: int | None) -> None:
    desk = Desk(order(retries=retries, retry_interval_s=0)).play("ask")
    while desk.phase is not Phase.IDLE:
        desk.do("lost")
    assert len(desk.fetches) == (retries or 3)
    assert len({fetch.ticket for fetch in desk.fetches if fetch}) == len(desk.fetches), "each try has its own name"


def test_a_power_cut_is_no_try() -> None:
    desk = Desk(order(retries=1)).play("ask reboot:old")
    assert desk.fetching is not None
    assert desk.play("staged").phase is Phase.ACTIVATING


# ------------------------------------------------------------------------------------------------- refusals

BAD = "InvalidSignature"
UNFIT = "InstallVerificationFailed"
REFUSED = {
    Refusal.SIGNATURE: BAD,
    Refusal.CERTIFICATE: BAD,
    Refusal.REVOKED: BAD,
    Refusal.CORRUPT: BAD,
    Refusal.FILE_SIGNATURE: f"Downloaded {BAD}",
    Refusal.MALFORMED: UNFIT,
    Refusal.PRODUCT: UNFIT,
    Refusal.DOWNGRADE: UNFIT,
    Refusal.REQUIREMENT: UNFIT,
    Refusal.TOO_LARGE: UNFIT,
    Refusal.UNSUPPORTED: UNFIT,
    Refusal.POLICY: UNFIT,
    Refusal.BUSY: "DownloadFailed",
    Refusal.REPLACED: "DownloadFailed",
}


@pytest.mark.parametrize("refusal", Refusal)
def test_each_refusal_has_its_end(refusal: Refusal) -> None:
    desk = Desk().play(f"ask refused:{refusal.value}")
    assert desk.statuses == ["Downloading", *REFUSED[refusal].split()]
    assert desk.events == (["InvalidFirmwareSignature"] if desk.statuses[-1] == BAD else [])
    assert desk.told[-1].why == "why"
    assert desk.phase is Phase.IDLE


def test_a_refusal_in_a_pause_says_first_that_the_download_went_on() -> None:
    desk = Desk().play("ask away refused:file_signature")
    assert desk.statuses == ["Downloading", "DownloadPaused", "Downloading", "Downloaded", "InvalidSignature"]


def test_a_download_that_made_way_for_somebody_on_site_is_not_tried_again() -> None:
    """However often the CSMS would have it tried: it would be in the way of what was brought."""
    desk = Desk(order(retries=9, retry_interval_s=0)).play("ask refused:replaced")
    assert (desk.statuses[-1], desk.phase) == ("DownloadFailed", Phase.IDLE)
    assert desk.play("wait:999").phase is Phase.IDLE
    assert desk.play("hand").statuses[-1] == "Installing"
    assert len(desk.fetches) == 1


def test_a_refusal_of_a_later_version_is_one() -> None:
    assert Desk().play("ask refused:unheard_of").statuses[-1] == UNFIT


# --------------------------------------------------------------------------------------------- cancelling

CANCELLABLE = {
    "scheduled": "ask",
    "downloading": "ask progress",
    "paused": "ask paused",
    "retrying": "ask lost",
    "staged": "ask staged",
    "waiting": "ask charge staged",
    "idle": "ask failed",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "scheduled": {"retrieve_wall_ms": LATER_MS},
    "staged": {"install_wall_ms": LATER_MS},
}


def under_way(phase: str) -> Desk:
    desk = Desk(order(**SETTINGS.get(phase, {}))).play(CANCELLABLE[phase])
    assert desk.phase.value == phase
    return desk


@pytest.mark.parametrize("phase", CANCELLABLE)
def test_a_newer_request_takes_the_place_and_the_old_one_hears_nothing_more(phase: str) -> None:
    desk = under_way(phase)
    before, old = len(desk.told), desk.fetching
    desk.request, desk.engaged = order(request_id=8), False
    desk.do("ask")
    assert [(fact.request_id, fact.status) for fact in desk.told[before:]] == [(8, "Downloading")]
    assert desk.phase is Phase.DOWNLOADING
    assert not desk.hold
    if phase in ("downloading", "paused"):
        assert desk.fetches[-2] is None, "the gateway is told to stop"
    if old is not None:  # what it still says of that one is nobody's business
        desk.take(desk.report(FetchStep.LOST, ticket=old.ticket))
        assert desk.phase is Phase.DOWNLOADING
    assert desk.play("staged activated reboot:new passed confirmed").statuses[-1] == "Installed"


# phase: what a CSMS hears of its request when somebody on site takes the place
REPLACED = {
    "scheduled": "DownloadFailed",
    "downloading": "DownloadFailed",
    "paused": "DownloadFailed",
    "retrying": "DownloadFailed",
    "staged": "InstallationFailed",
    "waiting": "InstallationFailed",
}


@pytest.mark.parametrize("phase", REPLACED)
@pytest.mark.parametrize(
    ("script", "on_site"),
    [
        ("leave hand activated reboot:new passed confirmed", ["Installing", "InstallRebooting", "Installed"]),
        ("reboot:new passed confirmed", ["Installed"]),
    ],
    ids=["bundle", "image"],
)
def test_who_is_replaced_on_site_hears_of_his_end(phase: str, script: str, on_site: list[str]) -> None:
    desk = under_way(phase)
    if phase == "waiting":
        script = script.removeprefix("leave ")  # else it would be installed
        desk.engaged = False
    before = len(desk.told)
    desk.play(script)
    expected = [(SIGNED, REPLACED[phase]), *((LOCAL, status) for status in on_site)]
    assert [(fact.via, fact.status) for fact in desk.told[before:]] == expected
    assert desk.told[before].why.startswith("replaced by")


# --------------------------------------------------------------------------------------- what is told besides


def test_the_facts_say_who_asked_what_came_and_why_it_failed() -> None:
    desk = Desk(order(request_id=12)).play(f"{TRIED} faulty reboot:old")
    assert desk.told[1] == FirmwareFact("Downloaded", SIGNED, 12, "2.0")
    assert desk.told[-1] == FirmwareFact("InstallationFailed", SIGNED, 12, "2.0", "no answer")


def test_without_a_better_reason_the_boot_loader_went_back() -> None:
    assert Desk().play("ask staged activated reboot:old").told[-1].why == "the boot loader went back to the old image"


def test_a_long_reason_is_cut() -> None:
    desk = Desk().play("ask")
    desk.take(desk.report(FetchStep.FAILED, why="x" * 10_000))
    assert desk.told[-1].why == "x" * 500


def test_success_is_an_event_and_failure_is_none() -> None:
    assert Desk().play(f"{TRIED} passed confirmed").events == ["FirmwareUpdated"]
    assert Desk().play("hand activated reboot:new passed confirmed").events == ["FirmwareUpdated"]
    assert Desk().play(f"{TRIED} faulty reboot:old").events == []


def test_devices_that_were_silent_before_are_remembered() -> None:
    desk = Desk().play(TRIED)
    assert desk.kept is not None
    assert desk.kept.silent_before == ("meter 2",)


# script; answer to a trigger
TRIGGERS = [
    ("", "Idle"),
    ("ask", "Downloading"),
    ("ask paused", "DownloadPaused"),
    ("ask lost", "Downloading"),
    ("ask failed", "DownloadFailed"),
    ("ask refused:signature", "InvalidSignature"),
    ("ask charge staged", "InstallScheduled"),
    ("ask staged", "Installing"),
    ("ask staged activated", "InstallRebooting"),
    (TRIED, "InstallRebooting"),
    (f"{TRIED} passed", "InstallRebooting"),
    (f"{TRIED} faulty", "InstallRebooting"),
    (f"{TRIED} passed confirmed", "Idle"),
    (f"{TRIED} faulty reboot:old", "InstallationFailed"),
    ("hand", "Idle"),
    ("reboot:new", "Idle"),
]


@pytest.mark.parametrize("restart", ["", " restart"])
@pytest.mark.parametrize(("script", "status"), TRIGGERS)
def test_a_trigger_is_answered_with_the_last_status(script: str, status: str, restart: str) -> None:
    desk = Desk(order(request_id=5)).play(script + restart)
    answer = desk.machine.status()
    assert (answer.status, answer.request_id) == (status, None if status == "Idle" else 5)


def test_a_trigger_for_an_order_without_id() -> None:
    assert Desk(order(PLAIN, None)).play("ask").machine.status() == FirmwareStatus("Downloading", None, PLAIN)


def test_the_view_says_how_far_it_is_and_nothing_when_it_is_over() -> None:
    desk = Desk()
    assert desk.machine.view() is None
    assert desk.play("ask progress").machine.view() == UpdateView("downloading", "", 10, 20)
    assert desk.play("lost wait:60").machine.view() == UpdateView("downloading", "", 10, 20, "why")
    assert desk.play("charge staged").machine.view() == UpdateView("waiting", "2.0", 10, 20)
    assert desk.play("leave stuck").machine.view() is None


def test_the_acts_of_an_update_in_their_order() -> None:
    assert Desk().play(f"{TRIED} passed confirmed").acts == [Act.ACTIVATE, Act.REBOOT, Act.TEST, Act.CONFIRM]
    assert Desk().play(f"{TRIED} faulty").acts == [Act.ACTIVATE, Act.REBOOT, Act.TEST, Act.REVERT]
