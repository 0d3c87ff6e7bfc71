"""The gateway's part of an update, with a real installer behind its socket: bundles that have to wait for their turn.

Downloads themselves are in ``tests.unit.transfer``, whole updates over a gateway in ``tests.integration``.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import fetcher
from agent.config.load import load
from agent.config.model import Config
from agent.config.update import Scheme
from agent.fetcher import Fetcher
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.installer import Installer
from agent.firmware.ports import OnProgress, Source
from agent.firmware.view import InstallOrder, StagedPhase, StagedView
from agent.ipc.updates import FetchOrder, FetchReport, FetchStep
from tests.support.update_world import OLD, release
from tests.unit.firmware.bundle.pki import SIGNER
from tests.unit.firmware.installer_site import BUNDLE, DEADLINE_S, Site

pytestmark = pytest.mark.wire
EXAMPLE = Path(__file__).parents[3] / "packaging" / "evsed.example.toml"


class Listener:
    """Of the station, what the fetcher needs."""

    def __init__(self) -> None:
        self.reports: list[FetchReport] = []
        self.ended = asyncio.Event()

    async def fetch_report(self, report: FetchReport) -> None:
        self.reports.append(report)
        if report.step is not FetchStep.PROGRESS:
            self.ended.set()


def fetch(site: Site) -> FetchReport:
    """How a download of ``BUNDLE`` ends."""
    bundle = site.folder / "new.bundle"
    bundle.write_bytes(BUNDLE)
    site.config = dataclasses.replace(site.config, schemes=(Scheme.FILE,))
    example = load(EXAMPLE)
    station = dataclasses.replace(example.station, run_dir=site.folder / "r")
    config: Config = dataclasses.replace(example, station=station, update=site.config)

    async def run() -> FetchReport:
        listener = Listener()
        downloads = Fetcher(config, listener)  # type: ignore[arg-type]
        downloads.take(FetchOrder(1, str(bundle), SIGNER.certificate_pem, release(*OLD).signature))
        await asyncio.wait_for(listener.ended.wait(), DEADLINE_S)
        downloads.stop()
        return listener.reports[-1]

    return asyncio.run(run())


def busy_for(site: Site, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The installer is at work on another bundle when so many calls come."""
    monkeypatch.setattr(fetcher, "BUSY_WAIT_S", 0.001)
    right, left = Installer.install, [times]

    def install(self: Installer, *args: object) -> object:
        if left[0] > 0:
            left[0] -= 1
            raise UpdateRefused(Refusal.BUSY, "installer", "another update is under way")
        return right(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Installer, "install", install)
    site.start()


def test_a_bundle_waits_while_the_one_before_is_written_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    busy_for(site, monkeypatch, 3)
    assert fetch(site).step is FetchStep.STAGED
    staged = site.installer().status().staged
    assert staged is not None
    assert staged.phase is StagedPhase.READY


def test_but_not_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    busy_for(site, monkeypatch, fetcher.BUSY_TURNS + 1)
    ended = fetch(site)
    assert (ended.step, ended.refusal) == (FetchStep.REFUSED, Refusal.BUSY.value)


def test_whoever_made_way_for_somebody_on_site_does_not_come_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the slot as soon as he is done."""
    monkeypatch.setattr(fetcher, "BUSY_WAIT_S", 0.001)
    right, calls = Installer.install, []

    def install(
        self: Installer, source: Source, order: InstallOrder, on_progress: OnProgress, end: Callable[[], None]
    ) -> StagedView:
        calls.append(order)
        end()
        return right(self, source, order, on_progress, end)

    monkeypatch.setattr(Installer, "install", install)
    site.start()
    ended = fetch(site)
    assert (ended.step, ended.refusal) == (FetchStep.REFUSED, Refusal.REPLACED.value)
    assert len(calls) == 1
