"""One 2.0.1 dialect, a fake station and a scripted CSMS, in virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from agent.config.catalogue import CONTROLLERS
from agent.config.device_model import DeviceModel
from agent.config.variable import Key
from agent.core.status import ConnectorState, ConnectorStatus, EvseView
from agent.ipc.port import News, SettingWrite, StationStatus
from agent.ocpp.dialect import StationView
from agent.ocpp.log_requests import LogUploads
from agent.ocpp.v201.dialect import Dialect201
from tests.support.fake_csms import FakeCsms, Received, Wire, linked, until
from tests.support.fake_station import T0_MS, FakeStation, welcome

ACCEPTED = {"status": "Accepted", "currentTime": "2026-11-24T08:00:00Z", "interval": 300}


def accepting_csms() -> FakeCsms:
    """Accepts everything."""
    return FakeCsms(
        {
            "BootNotification": ACCEPTED,
            "Heartbeat": {"currentTime": "2026-11-24T08:05:00+00:00"},
            "Authorize": {"idTokenInfo": {"status": "Accepted"}},
        }
    )


@dataclass
class Station201(FakeStation):
    """``running``: transaction id by EVSE."""

    running: dict[int, str] | None = None

    async def status(self) -> StationStatus:
        views = tuple(_evse_view(evse, tx_id) for evse, tx_id in (self.running or {}).items())
        return replace(await super().status(), evses=views)


def _evse_view(evse: int, tx_id: str) -> EvseView:
    return EvseView(
        evse=evse,
        state=ConnectorState.CHARGING,
        faults=(),
        cp="C2",
        charging_state=None,
        tx_id=tx_id,
        token=None,
        contactor_closed=True,
        locked=True,
        limit_ma=16_000,
        offered_ma=16_000,
        duty_centipercent=2_667,
        power_mw=None,
        energy_import_mwh=None,
        session_energy_mwh=None,
        voltage_mv=(None, None, None),
        current_ma=(None, None, None),
        operative=True,
    )


class Rig:
    """``station`` and ``dialect`` live on while connections come and go. ``protocols``: how the station may fetch
    files; with none it takes no firmware updates. ``uploads``: what a gateway keeps of logs; None: it takes no orders
    for them."""

    def __init__(self, csms: FakeCsms | None = None, *, protocols: str = "", uploads: LogUploads | None = None) -> None:
        self._takes_updates = bool(protocols)
        self._uploads = uploads
        self.csms = csms or accepting_csms()
        self.model = DeviceModel(CONTROLLERS)
        self.model.put(Key.parse("OCPPCommCtrlr.FileTransferProtocols"), protocols)
        self.station = Station201(
            settings=self.model.snapshot(),
            write_status=lambda write: self.model.set(_key(write), write.value, write.attribute).status.value,
            key_text=lambda write: str(_key(write)),
        )
        self.start_gateway()

    def start_gateway(self, **changes: Any) -> None:
        """A new gateway process, or a new life of the station: nothing is remembered outside the station."""
        values: dict[str, Any] = {
            "settings": dict(self.station.settings),
            "head_seq": len(self.station.ledger),
            "takes_updates": self._takes_updates,
        }
        self.view = StationView(welcome(**values | changes))
        for evse in (0, *self.view.welcome.evses):
            self.view.connectors[evse] = ConnectorStatus(evse, ConnectorState.AVAILABLE, (), T0_MS)
        self.dialect = Dialect201(self.station, self.view, random.Random(1), self._uploads)
        self.station.listener = self._hear

    async def _hear(self, news: News) -> None:
        self.view.hear(news)
        await self.dialect.hear(news)

    @asynccontextmanager
    async def online(self, *, message_timeout_s: float = 30.0) -> AsyncIterator[Wire]:
        async with linked(self.dialect, self.csms, message_timeout_s=message_timeout_s) as wire:
            yield wire

    @asynccontextmanager
    async def registered(self) -> AsyncIterator[Wire]:
        """Online, with the boot accepted and all connectors told."""
        async with self.online() as wire:
            await until(lambda: len(self.csms.of("StatusNotification")) >= 2)
            yield wire

    async def drained(self, *, within_s: float = 3600) -> None:
        """Everything in the ledger is with the CSMS, or given up."""
        await until(lambda: self.station.delivered_seq == len(self.station.ledger), within_s=within_s)

    async def came(self, action: str, count: int = 1) -> list[Received]:
        """The first ``count`` CALLs of this action, once they have come."""
        await until(lambda: len(self.csms.of(action)) >= count)
        return self.csms.of(action)

    def events(self) -> list[dict[str, Any]]:
        """The payloads of all TransactionEvents, in order."""
        return [call.payload for call in self.csms.of("TransactionEvent")]


def _key(write: SettingWrite) -> Key:
    return Key(write.component, write.variable, write.instance, write.evse, write.connector, write.component_instance)
