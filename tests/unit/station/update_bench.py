"""The station's part of updates on a bench: a real installer behind its socket on real files, and a station around that
can hold commits back.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from agent.config.device_model import DeviceModel
from agent.config.load import load
from agent.config.station_model import build_specs
from agent.core.events import FromMeter, FromPilot, UpdateHold
from agent.core.facts import Fact, FirmwareFact, SecurityFact, UpdateVia
from agent.firmware.view import InstallOrder, Origin
from agent.ipc.port import FetchWanted, News
from agent.ipc.updates import FetchReport, FetchStep, UpdateRequest
from agent.ledger.state import Put, StateChange
from agent.station.installer_talks import SocketTalks
from agent.station.self_test import DeviceWatch
from agent.station.updates import Updates
from hal.ports import Back
from tests.support.update_world import NOW_MS, OLD, release
from tests.unit.firmware.bundle.making import BytesSource
from tests.unit.firmware.bundle.pki import SIGNER
from tests.unit.firmware.installer_site import Site

EXAMPLE: Final = Path(__file__).parents[3] / "packaging" / "evsed.example.toml"
DEADLINE_S: Final = 10.0

TO_REBOOT: Final = ["Downloading", "Downloaded", "SignatureVerified", "Installing", "InstallRebooting"]
"""What is told of a signed update until the machine restarts."""


class Around:
    """The station around: see ``agent.station.updates.Shell``. ``held_back``: commits are not durable yet."""

    def __init__(self) -> None:
        self.holds: list[bool] = []
        self.rows: list[Fact] = []
        self.kept: str | None = None
        self.news: list[News] = []
        self.held_back = False
        self.owed: list[Callable[[], None]] = []
        self.charging, self.all_told, self.restarts = False, True, 0

    def give(self, event: UpdateHold) -> None:
        self.holds.append(event.on)

    def now_ms(self) -> int:
        return round(asyncio.get_running_loop().time() * 1000)

    def wall_ms(self) -> int:
        return NOW_MS

    def engaged(self) -> bool:
        return self.charging

    def told_all(self) -> bool:
        return self.all_told

    def publish(self, news: News) -> None:
        self.news.append(news)

    def rebooting(self) -> None:
        self.restarts += 1

    def commit(self, facts: Sequence[Fact], changes: Sequence[StateChange], on_durable: Callable[[], None]) -> None:
        def durable() -> None:
            self.rows += facts
            for change in changes:
                assert isinstance(change, Put)
                self.kept = change.value
            on_durable()

        self.owed.append(durable)
        if not self.held_back:
            asyncio.get_running_loop().call_soon(self.release)

    def release(self) -> None:
        owed, self.owed = self.owed, []
        for durable in owed:
            durable()

    @property
    def told(self) -> list[str]:
        return [row.status for row in self.rows if isinstance(row, FirmwareFact)]

    @property
    def security(self) -> list[str]:
        return [row.event_type for row in self.rows if isinstance(row, SecurityFact)]

    @property
    def phase(self) -> str:
        return "idle" if self.kept is None else str(json.loads(self.kept)["phase"])


class Bench:
    """One charger: the installer's machine, and the station's part of it, which can be restarted."""

    def __init__(self, site: Site, **settings: Any) -> None:
        self.site = site
        site.config = dataclasses.replace(site.config, self_test_s=0, **settings)
        example = load(EXAMPLE)
        station = dataclasses.replace(example.station, run_dir=site.folder / "r")
        assert station.installer_socket == site.path
        self.config = dataclasses.replace(example, station=station, update=site.config)
        self.model = DeviceModel(build_specs(self.config))
        self.around = Around()
        self.updates: Updates | None = None

    def start(self, answering: Sequence[int] = (1, 2), faults: Sequence[str] = (), *, gateway: bool = True) -> Updates:
        """The station; all devices of these EVSEs answer. ``gateway``: it is connected."""
        watch = DeviceWatch(self.config, lambda: gateway)
        for evse in answering:
            watch.hear(FromPilot(evse, Back("x")))
            watch.hear(FromMeter(evse, Back("x")))
        self.around.holds.clear()
        talks = SocketTalks(self.config.station.installer_socket)
        self.updates = Updates(self.config, self.model, watch, self.around.kept, self.around, talks)
        self.updates.start(faults)
        return self.updates

    def boots(self, slot: str) -> None:
        """The machine has restarted; its installer finds itself in ``slot``."""
        if self.updates is not None:
            self.updates.close()
        (self.site.folder / "cmdline").write_text(f"evsed.slot={slot}")
        (self.site.folder / "boot-id").write_text(f"boot of {slot}")
        (self.site.folder / "rebooted").unlink(missing_ok=True)
        self.site._made = None

    async def staged(self, updates: Updates, what: str = "") -> None:
        """The gateway has brought what was ordered; the station knows by then where it runs."""
        await self.until(lambda: updates._installer_answered)
        (order,) = [news.order for news in self.around.news if isinstance(news, FetchWanted) and news.order][-1:]
        given = InstallOrder(Origin.OCPP, order.signing_certificate, order.signature)
        await asyncio.to_thread(self.install, given)
        await updates.report(FetchReport(order.ticket, FetchStep.STAGED))

    def install(self, given: InstallOrder) -> None:
        with self.site.client() as client:
            client.install(BytesSource(release(*OLD).bundle), given, lambda progress: None)

    async def until(self, reached: Callable[[], object]) -> None:
        for _ in range(int(DEADLINE_S * 200)):
            if reached():
                return
            await asyncio.sleep(0.005)
        pytest.fail(f"never: told {self.around.told}, {self.around.phase}")


def play(bench: Bench, scene: Callable[[], Awaitable[None]]) -> None:
    """Run ``scene``; an error in a task of the station's own fails it."""

    async def main() -> None:
        crashed: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: crashed.append(context))
        await scene()
        await asyncio.sleep(0)
        if bench.updates is not None:
            bench.updates.close()
        assert crashed == []

    asyncio.run(asyncio.wait_for(main(), 30))


def order(via: UpdateVia = UpdateVia.SIGNED, certificate: str = SIGNER.certificate_pem) -> UpdateRequest:
    if via is UpdateVia.PLAIN:
        return UpdateRequest(via, None, "https://example.com/x", 0)
    signature = release(*OLD).signature
    return UpdateRequest(via, 7, "https://example.com/x", 0, signing_certificate=certificate, signature=signature)
