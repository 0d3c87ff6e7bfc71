"""Updates in the station: what is durable before what, what the installer is asked, and what becomes of its answers.

The bench is in ``update_bench``. What is told in which order is the machine's affair
(``tests.unit.firmware.test_machine_sequences``).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from agent.config.catalogue import key
from agent.config.update import SourcePolicy
from agent.core.facts import FirmwareFact, UpdateVia
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.setup import make_installer
from agent.firmware.storage import FileStorage
from agent.firmware.view import InstallOrder, Origin
from agent.ipc.port import FetchWanted, UpdateChanged
from agent.ipc.updates import FetchReport, FetchStep, UpdateAnswer, UpdateOutcome, UpdateRequest
from agent.ocpp.session import HANDLER_TIMEOUT_S
from agent.station import updates as updates_module
from agent.station.updates import ALLOW_NEW
from tests.support.update_world import OLD, SLOT_BYTES
from tests.unit.firmware.bundle.pki import SIGNER, STRANGER
from tests.unit.firmware.installer_site import Site
from tests.unit.station.update_bench import DEADLINE_S, TO_REBOOT, Bench, order, play

pytestmark = pytest.mark.wire


# ------------------------------------------------------------------------------------------------ requests


def test_an_accepted_request_is_durable_before_anybody_hears_of_it(site: Site) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        updates = bench.start()
        bench.around.held_back = True
        asked = asyncio.ensure_future(updates.request(order()))
        await bench.until(lambda: bench.around.owed)
        await asyncio.sleep(0.02)
        assert not asked.done()
        assert not [news for news in bench.around.news if isinstance(news, FetchWanted)]
        bench.around.release()
        assert await asked == UpdateAnswer(UpdateOutcome.ACCEPTED)
        (wanted,) = [news for news in bench.around.news if isinstance(news, FetchWanted)]
        assert wanted.order is not None
        assert wanted.order.location == "https://example.com/x"
        assert bench.around.phase == "downloading"
        assert updates.greetings() == [wanted, UpdateChanged(updates.view())]

    play(bench, scene)


REFUSED: Final[dict[str, tuple[UpdateRequest, dict[str, Any], UpdateOutcome, list[str]]]] = {
    "plain": (order(UpdateVia.PLAIN), {}, UpdateOutcome.NOT_SUPPORTED, []),
    "stranger": (
        order(certificate=STRANGER.certificate_pem),
        {},
        UpdateOutcome.INVALID_CERTIFICATE,
        ["InvalidFirmwareSigningCertificate"],
    ),
    "rubbish": (
        order(certificate="rubbish"),
        {},
        UpdateOutcome.INVALID_CERTIFICATE,
        ["InvalidFirmwareSigningCertificate"],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_before_anything_is_downloaded(site: Site, what: str) -> None:
    request, settings, outcome, events = REFUSED[what]
    bench = Bench(site, **settings)
    site.start()

    async def scene() -> None:
        answer = await bench.start().request(request)
        await bench.until(lambda: not bench.around.owed)
        assert answer.outcome is outcome
        assert answer.reason
        assert (bench.around.security, bench.around.told, bench.around.kept) == (events, [], None)

    play(bench, scene)


def test_a_revoked_certificate_is_an_answer_of_its_own(site: Site) -> None:
    revoked = site.folder / "revoked"
    revoked.write_text(SIGNER.fingerprint)
    bench = Bench(site, revoked=revoked)
    site.start()

    async def scene() -> None:
        assert (await bench.start().request(order())).outcome is UpdateOutcome.REVOKED_CERTIFICATE
        revoked.write_text("rubbish")
        answer = await bench.start().request(order())
        assert (answer.outcome, "trust store" in answer.reason) == (UpdateOutcome.REJECTED, True)

    play(bench, scene)


def test_an_unsigned_order_where_those_are_taken(site: Site) -> None:
    bench = Bench(site, plain=SourcePolicy.BUNDLE)
    site.start()

    async def scene() -> None:
        updates = bench.start()
        assert (await updates.request(order(UpdateVia.PLAIN))).outcome is UpdateOutcome.ACCEPTED
        await bench.staged(updates)
        await bench.until(lambda: bench.around.phase == "rebooting")
        assert bench.around.told == ["Downloading", "Downloaded", "Installing", "InstallRebooting"]

    play(bench, scene)


@pytest.mark.parametrize("what", ["no installer", "unknown slot", "on trial"])
def test_what_cannot_be_done_now_is_rejected(site: Site, what: str) -> None:
    bench = Bench(site)
    if what == "unknown slot":
        (site.folder / "cmdline").write_text("quiet")
    if what != "no installer":
        site.start()
    if what == "on trial":
        bench.install(InstallOrder(Origin.LOCAL))
        site.installer().activate(site.installer().status().staged.digest)  # type: ignore[union-attr]
        bench.boots("b")

    async def scene() -> None:
        updates = bench.start(answering=())
        assert (await updates.request(order())).outcome is UpdateOutcome.REJECTED
        assert bench.around.told == []

    play(bench, scene)


def test_nothing_is_accepted_behind_an_answer_that_came_too_late(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway gives up waiting and tells the CSMS of an error; the update must not begin all the same."""
    assert updates_module.REQUEST_MAX_S + 1.0 < HANDLER_TIMEOUT_S
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        updates = bench.start()
        monkeypatch.setattr(updates_module, "REQUEST_MAX_S", 0.0)
        answer = await updates.request(order())
        assert (answer.outcome, bench.around.kept) == (UpdateOutcome.REJECTED, None)

    play(bench, scene)


def test_an_installer_that_has_to_start_first_keeps_no_order_waiting(site: Site) -> None:
    """It ends after a minute without a question, so every order from the CSMS finds it gone."""
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        updates = bench.start()
        await bench.until(lambda: updates._installer_answered)
        site.stop()
        assert (await updates.request(order())).outcome is UpdateOutcome.ACCEPTED

    play(bench, scene)


def test_a_second_request_cancels_the_first_until_it_is_installed(site: Site) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        updates = bench.start()
        await updates.request(order())
        assert (await updates.request(order())).outcome is UpdateOutcome.ACCEPTED_CANCELED
        assert [news.order and news.order.ticket for news in bench.around.news if isinstance(news, FetchWanted)] == [
            1,
            None,
            2,
        ]
        await bench.staged(updates)
        assert (await updates.request(order())).outcome is UpdateOutcome.REJECTED

    play(bench, scene)


# ------------------------------------------------------------------------------------------------- the whole way


async def until_the_reboot(bench: Bench, **start: Any) -> None:
    updates = bench.start(**start)
    assert (await updates.request(order())).outcome is UpdateOutcome.ACCEPTED
    await bench.staged(updates)
    await bench.until((bench.site.folder / "rebooted").exists)


def test_from_the_request_to_installed(site: Site) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        await until_the_reboot(bench)
        assert bench.around.told == TO_REBOOT
        assert bench.around.holds == [True]
        assert bench.around.restarts == 1, "whoever stops the station does it for the update"
        bench.boots("b")
        updates = bench.start()
        await bench.until(lambda: bench.around.phase == "idle")
        assert bench.around.told == [*TO_REBOOT, "Installed"]
        assert bench.around.security == ["FirmwareUpdated"]
        assert bench.around.holds == [True, False]
        assert site.installer().status().security_epoch == OLD[1]
        await updates.request(order())
        assert list(updates.troubles()) == [], "the trial is over when the next update comes"

    play(bench, scene)


def test_the_boot_loader_is_not_told_before_that_is_durable(site: Site) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        updates = bench.start()
        await updates.request(order())
        bench.around.held_back = True
        await bench.staged(updates)
        assert bench.around.holds == [True], "that comes at once"
        await asyncio.sleep(0.05)
        assert site.installer().status().primary == "a"
        bench.around.held_back = False
        bench.around.release()
        await bench.until(lambda: site.installer().status().primary == "b")

    play(bench, scene)


@pytest.mark.parametrize("waits_for", ["the CSMS", "a session"])
def test_the_machine_restarts_when_the_csms_has_heard_and_nobody_charges(
    site: Site, monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    monkeypatch.setattr(updates_module, "_ANNOUNCE_S", DEADLINE_S)
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        bench.around.all_told = waits_for != "the CSMS"
        updates = bench.start()
        await updates.request(order())
        await bench.staged(updates)
        bench.around.charging = waits_for == "a session"
        await bench.until(lambda: bench.around.phase == "rebooting")
        await asyncio.sleep(0.1)
        assert not (site.folder / "rebooted").exists()
        bench.around.all_told, bench.around.charging = True, False
        await bench.until((site.folder / "rebooted").exists)

    play(bench, scene)


def test_it_waits_until_nobody_charges(site: Site) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        bench.around.charging = True
        updates = bench.start()
        await updates.request(order())
        await bench.staged(updates)
        updates.look()
        await bench.until(lambda: bench.around.told[-1] == "InstallScheduled")
        assert bench.around.holds == [True]
        bench.model.set(key(ALLOW_NEW), "true")
        updates.look()
        assert bench.around.holds == [True, False]
        bench.around.charging = False
        updates.look()
        await bench.until(lambda: bench.around.phase == "rebooting")
        assert bench.around.holds == [True, False, True]

    play(bench, scene)


# -------------------------------------------------------------------------------------------------- self-test

# answered before the update; answer in the new image; microcontrollers' faults; why it fails
TESTS: Final[list[tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...], str]]] = [
    ((1, 2), (1, 2), (), ""),
    ((1, 2), (1,), (), "no answer from pilot 2, meter 2"),
    ((1,), (1,), (), ""),
    ((1,), (2,), (), "no answer from pilot 1, meter 1"),
    ((1, 2), (1, 2), ("microcontroller pilot: no answer",), "microcontroller pilot: no answer"),
]


@pytest.mark.parametrize(("before", "after", "faults", "why"), TESTS)
def test_a_new_image_must_reach_what_the_old_one_did(
    site: Site, before: tuple[int, ...], after: tuple[int, ...], faults: tuple[str, ...], why: str
) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        await until_the_reboot(bench, answering=before)
        bench.boots("b")
        bench.start(after, faults)
        if not why:
            await bench.until(lambda: bench.around.told[-1] == "Installed")
            return
        await bench.until((site.folder / "rebooted").exists)
        assert bench.around.phase == "reverting"
        assert site.installer().status().primary == "a"
        bench.boots("a")
        bench.start()
        await bench.until(lambda: bench.around.phase == "idle")
        assert bench.around.told == [*TO_REBOOT, "InstallationFailed"]
        last = bench.around.rows[-1]
        assert isinstance(last, FirmwareFact)
        assert last.why == why
        assert bench.around.holds == [], "nothing to wait for any more"

    play(bench, scene)


@pytest.mark.parametrize("refusal", [Refusal.UNSUPPORTED, None], ids=["refused", "failed, and marked good"])
def test_where_there_is_no_way_back_it_does_not_restart_for_ever(
    site: Site, monkeypatch: pytest.MonkeyPatch, refusal: Refusal | None
) -> None:
    bench = Bench(site)
    site.start()

    def revert() -> str:
        if refusal is None:
            raise SlotFailed("/boot", "read-only")
        raise UpdateRefused(refusal, "revert", "no good image")

    async def scene() -> None:
        await until_the_reboot(bench)
        bench.boots("b")
        if refusal is None:
            site.installer().confirm()  # by the boot loader's own tools
        monkeypatch.setattr(site.installer(), "revert", revert)
        bench.start(answering=())
        await bench.until(lambda: bench.around.phase == "idle")
        assert bench.around.told == [*TO_REBOOT, "InstallationFailed"]
        assert bench.around.holds == [True, False]
        assert not (site.folder / "rebooted").exists()

    play(bench, scene)


def test_a_trial_whose_boot_loader_does_not_hear_ends_by_its_tries(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(site)
    site.start()

    def fail() -> None:
        raise SlotFailed("/boot", "read-only")

    async def scene() -> None:
        await until_the_reboot(bench)
        bench.boots("b")
        monkeypatch.setattr(site.installer(), "confirm", fail)
        monkeypatch.setattr(site.installer(), "revert", fail)
        bench.start()
        await bench.until((site.folder / "rebooted").exists)
        assert bench.around.phase == "reverting"
        assert "Installed" not in bench.around.told

    play(bench, scene)


# ------------------------------------------------------------------------------------------- download and slot


def test_a_gateway_that_is_gone_is_a_pause_and_the_next_one_hears_the_order(site: Site) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        updates = bench.start()
        await updates.request(order())
        wanted = bench.around.news[-1]
        updates.gateway_gone()
        await bench.until(lambda: bench.around.told == ["Downloading", "DownloadPaused"])
        assert isinstance(wanted, FetchWanted)
        assert wanted in updates.greetings()
        await bench.staged(updates)
        await bench.until(lambda: bench.around.phase == "rebooting")
        assert bench.around.told == ["Downloading", "DownloadPaused", *TO_REBOOT]

    play(bench, scene)


def test_what_the_gateway_says_is_staged_the_installer_must_hold(site: Site) -> None:
    bench = Bench(site)
    site.start()
    bench.install(InstallOrder(Origin.LOCAL))  # without OCPP's signature

    async def scene() -> None:
        updates = bench.start()
        await updates.request(order())
        await updates.report(FetchReport(1, FetchStep.STAGED))
        await bench.until(lambda: bench.around.told == ["Downloading", "DownloadFailed"])

    play(bench, scene)


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("slot", "InstallVerificationFailed"),
        ("boot loader", "InstallationFailed"),
        ("installer", "InstallationFailed"),
        ("bundle", "InstallationFailed"),
    ],
)
def test_an_activation_that_fails(site: Site, monkeypatch: pytest.MonkeyPatch, what: str, status: str) -> None:
    bench = Bench(site)
    site.start()

    async def scene() -> None:
        bench.around.charging = True
        updates = bench.start()
        await updates.request(order())
        await bench.staged(updates)
        match what:
            case "slot":
                (site.folder / "slot-b").write_bytes(bytes(SLOT_BYTES))
            case "boot loader":
                (site.folder / "state" / "boot.json").write_bytes(b"rubbish")
            case "installer":
                monkeypatch.setattr(updates_module, "_AWAY_MAX_S", 0.0)
                site.stop()
                site.path.unlink()
            case _:
                site.make = lambda: make_installer(site.config, FileStorage(), agent_version="1", wall_ms=lambda: 0)
        bench.around.charging = False
        updates.look()
        await bench.until(lambda: bench.around.phase == "idle")
        assert bench.around.told[-1] == status
        assert bench.around.holds == [True, False]

    play(bench, scene)
