"""The installer's socket: a real server, real connections, real files. The calls, who may make them, and errors.

What peers can do wrong is in ``test_installer_peers``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Final

import pytest

from agent.config.update import SlotTarget, SourcePolicy
from agent.firmware.client import InstallerAway
from agent.firmware.errors import Refusal, SlotFailed, SourceLost, UpdateRefused
from agent.firmware.installer import Installer
from agent.firmware.ports import Progress
from agent.firmware.server import CONNECTIONS_MAX, Role
from agent.firmware.view import InstallOrder, Origin, StagedPhase
from agent.firmware.wire import receive, send
from tests.support.update_world import NEW, OLD, release
from tests.unit.firmware.bundle.making import CHUNK, BytesSource, image, make_bundle
from tests.unit.firmware.bundle.pki import STRANGER
from tests.unit.firmware.installer_site import (
    BUNDLE,
    ON_SITE,
    SIGNED,
    Site,
    answers,
    nobody,
    wait_for,
)

pytestmark = pytest.mark.wire

# ------------------------------------------------------------------------------------------------- the calls


def test_a_whole_update_over_the_socket(site: Site) -> None:
    told: list[Progress] = []
    with site.start().client() as client:
        assert client.status().booted == "a"
        staged = client.install(BytesSource(BUNDLE), SIGNED, told.append)
        assert (staged.slot, staged.phase, staged.file_signed) == ("b", StagedPhase.READY, True)
        assert site.slot("b").startswith(release(*OLD).content)
        assert client.activate(staged.digest).phase is StagedPhase.ACTIVATED
        assert client.status().primary == "b"
        client.reboot()
    assert (site.folder / "rebooted").exists()
    assert [each.done_bytes for each in told] == sorted(each.done_bytes for each in told)
    assert told[-1].done_bytes == told[-1].total_bytes == len(release(*OLD).content)


def test_confirm_and_revert_over_the_socket(site: Site) -> None:
    with site.start().client() as client:
        client.activate(client.install(BytesSource(BUNDLE), ON_SITE, nobody).digest)
    for path, content in (("cmdline", "evsed.slot=b"), ("boot-id", "boot 2")):
        (site.folder / path).write_text(content)
    site._made = None
    with site.client() as client:
        assert client.status().on_trial
        assert client.revert() == "a"
        client.confirm()
        assert (client.status().on_trial, client.status().security_epoch) == (False, 1)


def test_progress_is_told_in_not_too_many_steps(site: Site) -> None:
    site.config = dataclasses.replace(
        site.config, slot=(SlotTarget(target="rootfs", a=site.folder / "slot-a", b=site.folder / "large"),)
    )
    (site.folder / "large").write_bytes(bytes(1003 * CHUNK))
    content = b"".join(number.to_bytes(4, "big") * (CHUNK // 4) for number in range(1003))
    (site.folder / "slot-a").write_bytes(bytes(1003 * CHUNK))
    told: list[Progress] = []
    with site.start().client() as client:
        client.install(BytesSource(make_bundle(image(content))), ON_SITE, told.append)
    assert 150 <= len(told) <= 220
    assert told[-1].done_bytes == len(content)


def test_several_look_while_one_installs(site: Site) -> None:
    site.start()
    seen: list[object] = []

    def look(progress: Progress) -> None:
        if seen:
            return  # once it has all the bytes it waits for nobody, and may be done before we look
        with site.client() as other:
            staged = other.status().staged
            seen.append(staged and staged.phase)
            with pytest.raises(UpdateRefused) as caught:
                other.activate("x")
            assert caught.value.refusal is Refusal.BUSY

    with site.client() as client:
        client.install(BytesSource(BUNDLE), ON_SITE, look)
    assert set(seen) == {StagedPhase.WRITING}


@pytest.mark.parametrize("name", ["file", "tryboot"])
def test_the_machine_is_restarted_as_the_boot_loader_needs_it(site: Site, tmp_path: Path, name: str) -> None:
    from tests.unit.firmware.installer_device import Device

    said = tmp_path / "said"
    site.config = dataclasses.replace(site.config, reboot_command=("/bin/sh", "-c", f'echo "$@" >{said}', "sh"))
    device = Device(tmp_path, name)
    site.make = lambda: device.installer
    with site.start().client() as client:
        client.reboot()
    assert said.read_text().strip() == ("--reboot-argument=0 tryboot" if name == "tryboot" else "")


@pytest.mark.parametrize("command", [("false",), ("/nowhere/reboot",)])
def test_a_restart_that_cannot_be_is_said(site: Site, command: tuple[str, ...]) -> None:
    site.config = dataclasses.replace(site.config, reboot_command=command)
    with site.start().client() as client, pytest.raises(SlotFailed) as caught:
        client.reboot()
    assert (caught.value.what, caught.value.remedy) == (command[0], "restart by hand")


# ------------------------------------------------------------------------------------------------- who may


def test_the_gateway_may_look_and_bring_bundles_of_ocpp(site: Site) -> None:
    site.roles = {os.getuid(): Role.GATEWAY}
    with site.start().client() as client:
        assert client.status().booted == "a"
        assert client.install(BytesSource(BUNDLE), SIGNED, nobody).phase is StagedPhase.READY


@pytest.mark.parametrize(
    "method", ["activate", "confirm", "revert", "reboot", "mcu", "recover", "_save", "", "install2"]
)
def test_the_gateway_may_do_nothing_else(site: Site, method: str) -> None:
    site.roles = {os.getuid(): Role.GATEWAY}
    with site.start().raw() as sock:
        send(sock, {"call": method, "args": {"digest": "x", "target": "pilot"}})
        error = receive(sock)["error"]
    assert (error["kind"], error["why"]) == ("protocol", f"gateway may not call {method!r}")
    assert not (site.folder / "rebooted").exists()


def test_the_gateway_may_not_speak_for_somebody_on_site(site: Site) -> None:
    site.config = dataclasses.replace(site.config, local=SourcePolicy.BUNDLE, plain=SourcePolicy.REFUSE)
    site.roles = {os.getuid(): Role.GATEWAY}
    source = BytesSource(BUNDLE)
    with site.start().client() as client:
        with pytest.raises(InstallerAway, match="on behalf of OCPP only"):
            client.install(source, ON_SITE, nobody)
        with pytest.raises(UpdateRefused) as caught:
            client.install(source, InstallOrder(Origin.OCPP), nobody)
    assert caught.value.refusal is Refusal.POLICY
    assert source.reads == []


def test_nobody_else_is_heard(site: Site) -> None:
    site.roles = {os.getuid() + 1: Role.STATION}
    with site.start().client() as client, pytest.raises(InstallerAway, match="went away"):
        client.status()


def test_so_many_connections_and_no_more(site: Site) -> None:
    site.start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.client()) for _ in range(CONNECTIONS_MAX)]
        for client in clients:
            client.status()
        with site.client() as late, pytest.raises(InstallerAway):
            late.status()
        clients[0].close()
        wait_for(lambda: answers(site))


# ---------------------------------------------------------------------------------------------- typed errors

REFUSED: Final[dict[str, tuple[Refusal, bytes, InstallOrder]]] = {
    "stranger": (Refusal.CERTIFICATE, make_bundle(signers=[STRANGER]), ON_SITE),
    "unsigned": (Refusal.SIGNATURE, make_bundle(signers=[]), ON_SITE),
    "product": (Refusal.PRODUCT, make_bundle(compatible=("x",)), ON_SITE),
    "malformed": (Refusal.MALFORMED, bytes(9000), ON_SITE),
    "file signature": (Refusal.FILE_SIGNATURE, BUNDLE, dataclasses.replace(SIGNED, signature=release(*NEW).signature)),
    "certificate": (Refusal.CERTIFICATE, BUNDLE, dataclasses.replace(SIGNED, signing_certificate="PEM")),
    "policy": (Refusal.POLICY, BUNDLE, InstallOrder(Origin.OCPP)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_comes_back_as_it_was_raised(site: Site, what: str) -> None:
    refusal, bundle, order = REFUSED[what]
    with pytest.raises(UpdateRefused) as direct:
        site.installer().install(BytesSource(bundle), order, nobody)
    with site.start().client() as client:
        with pytest.raises(UpdateRefused) as caught:
            client.install(BytesSource(bundle), order, nobody)
        assert client.install(BytesSource(BUNDLE), SIGNED, nobody).phase is StagedPhase.READY
    error, first = caught.value, direct.value
    assert (error.refusal, error.where, error.why, error.remedy) == (refusal, first.where, first.why, first.remedy)


def test_what_is_not_staged_and_what_is_not_good(site: Site) -> None:
    with site.start().client() as client:
        for call in (lambda: client.activate("dd"), client.revert):
            with pytest.raises(UpdateRefused) as caught:
                call()
            assert caught.value.refusal is Refusal.UNSUPPORTED


def test_a_device_that_cannot_be_updated_says_why(site: Site) -> None:
    def broken() -> Installer:
        raise SlotFailed("/boot/autoboot.txt", "no such file", "mount it")

    site.make = broken
    with site.start().client() as client:
        for call in (client.status, client.confirm, lambda: client.install(BytesSource(BUNDLE), SIGNED, nobody)):
            with pytest.raises(SlotFailed) as caught:
                call()
            error = caught.value
            assert (error.what, error.why, error.remedy) == ("/boot/autoboot.txt", "no such file", "mount it")


@pytest.mark.parametrize("retryable", [True, False])
def test_a_lost_source_comes_back_and_the_next_try_goes_on(site: Site, retryable: bool) -> None:
    class Lost(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            if len(self.reads) >= 6:
                raise SourceLost("server says 503", retryable=retryable)
            return super().read(offset, length)

    with site.start().client() as client:
        with pytest.raises(SourceLost) as caught:
            client.install(Lost(BUNDLE), ON_SITE, nobody)
        assert (caught.value.why, caught.value.retryable) == ("server says 503", retryable)
        told: list[Progress] = []
        client.install(BytesSource(BUNDLE), ON_SITE, told.append)
    assert told[-1].fetched_bytes < len(release(*OLD).content) - CHUNK
