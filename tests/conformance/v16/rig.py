"""One 1.6 dialect, a fake station and a scripted CSMS, in virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agent.config.catalogue import CONTROLLERS
from agent.config.device_model import DeviceModel
from agent.config.variable import Key
from agent.core.status import ConnectorState, ConnectorStatus
from agent.ipc.port import News, SettingWrite
from agent.ocpp.dialect import StationView
from agent.ocpp.log_requests import LogUploads
from agent.ocpp.v16.dialect import Dialect16
from tests.support.fake_csms import FakeCsms, Wire, linked, until
from tests.support.fake_station import T0_MS, FakeStation, welcome

ACCEPTED = {"status": "Accepted", "currentTime": "2026-11-24T08:00:00Z", "interval": 300}

MEASURED = "Energy.Active.Import.Register,Current.Import"


class NumberingCsms(FakeCsms):
    """Accepts everything and numbers transactions from ``first``."""

    def __init__(self, first: int = 100) -> None:
        super().__init__(
            {
                "BootNotification": ACCEPTED,
                "Heartbeat": {"currentTime": "2026-11-24T08:05:00+00:00"},
                "Authorize": {"idTagInfo": {"status": "Accepted"}},
                "StartTransaction": self._start,
            }
        )
        self._next = first

    def _start(self, _request: dict[str, Any]) -> dict[str, Any]:
        number, self._next = self._next, self._next + 1
        return {"transactionId": number, "idTagInfo": {"status": "Accepted"}}


class Rig:
    """``station`` and ``dialect`` live on while connections come and go. ``protocols``: how the station may fetch
    files; with none it takes no firmware updates. ``uploads``: what a gateway keeps of logs; None: it takes no orders
    for them."""

    def __init__(self, csms: FakeCsms | None = None, *, protocols: str = "", uploads: LogUploads | None = None) -> None:
        self._takes_updates = bool(protocols)
        self._uploads = uploads
        self.csms = csms or NumberingCsms()
        self.model = DeviceModel(CONTROLLERS)
        self.model.put(Key.parse("SampledDataCtrlr.TxUpdatedMeasurands"), MEASURED)
        self.model.put(Key.parse("SecurityCtrlr.BasicAuthPassword"), "secret-of-the-station")
        self.model.put(Key.parse("OCPPCommCtrlr.FileTransferProtocols"), protocols)
        self.station = FakeStation(
            settings=self.model.snapshot(secrets=True),
            write_status=lambda write: self.model.set(_key(write), write.value).status.value,
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
        self.dialect = Dialect16(self.station, self.view, random.Random(1), self._uploads)
        self.station.listener = self._hear

    async def _hear(self, news: News) -> None:
        self.view.hear(news)
        await self.dialect.hear(news)

    @asynccontextmanager
    async def online(self, *, message_timeout_s: float = 30.0) -> AsyncIterator[Wire]:
        async with linked(self.dialect, self.csms, message_timeout_s=message_timeout_s) as wire:
            yield wire

    async def drained(self, *, within_s: float = 3600) -> None:
        """Everything in the ledger is with the CSMS, or given up."""
        await until(lambda: self.station.delivered_seq == len(self.station.ledger), within_s=within_s)

    def transaction_calls(self) -> list[tuple[str, dict[str, Any]]]:
        """What the CSMS got of transactions, in order."""
        calls = self.csms.of("StartTransaction", "MeterValues", "StopTransaction")
        return [(call.action, call.payload) for call in calls]


def _key(write: SettingWrite) -> Key:
    return Key(write.component, write.variable, write.instance)
