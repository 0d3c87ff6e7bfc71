"""WS-03 and test 3 of part 8: the CSMS picks another OCPP version in mid-transaction."""

from __future__ import annotations

import random

from agent.ipc.port import News
from agent.ocpp.v16.dialect import Dialect16
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig
from tests.support.fake_csms import FakeCsms, linked
from tests.support.fake_station import session_facts

ACCEPTED = {"status": "Accepted", "currentTime": "2026-11-24T08:00:00Z", "interval": 300}
FACTS = session_facts("tx-1")


class BothVersions(Rig):
    """A gateway that has spoken both versions: both dialects hear the news."""

    def __init__(self) -> None:
        super().__init__()
        self.dialect16 = Dialect16(self.station, self.view, random.Random(1))
        self.csms16 = FakeCsms(
            {
                "BootNotification": ACCEPTED,
                "Heartbeat": {"currentTime": "2026-11-24T08:00:00Z"},
                "StartTransaction": {"transactionId": 42, "idTagInfo": {"status": "Accepted"}},
            }
        )
        self.station.listener = self._hear_both

    async def _hear_both(self, news: News) -> None:
        await self._hear(news)
        await self.dialect16.hear(news)

    async def deliver_16(self) -> None:
        async with linked(self.dialect16, self.csms16):
            await self.drained()

    async def deliver_201(self) -> None:
        async with self.online():
            await self.drained()


def test_from_16_to_201_the_transaction_goes_on_under_its_own_id() -> None:
    async def main() -> None:
        rig = BothVersions()
        await rig.station.append(*FACTS[:2])
        await rig.deliver_16()
        assert rig.station.csms_txs["tx-1"].csms_id == 42
        await rig.station.append(*FACTS[2:])
        await rig.deliver_201()
        assert [call.action for call in rig.csms16.of("StartTransaction", "MeterValues", "StopTransaction")] == [
            "StartTransaction"
        ]
        events = [(e["eventType"], e["seqNo"], e["transactionInfo"]["transactionId"]) for e in rig.events()]
        assert events == [("Updated", 2, "tx-1"), ("Ended", 3, "tx-1")]
        # This CSMS never saw the first event: it has to be told where the transaction is.
        assert [event["evse"] for event in rig.events()] == [{"id": 1, "connectorId": 1}] * 2
        assert rig.station.csms_txs == {}

    run_virtual(main())


def test_from_201_to_16_the_transaction_has_no_number() -> None:
    async def main() -> None:
        rig = BothVersions()
        await rig.station.append(*FACTS[:2])
        await rig.deliver_201()
        await rig.station.append(*FACTS[2:])
        await rig.deliver_16()
        calls = rig.csms16.of("StartTransaction", "MeterValues", "StopTransaction")
        assert [(call.action, call.payload["transactionId"]) for call in calls] == [
            ("MeterValues", -1),
            ("StopTransaction", -1),
        ]
        assert [event["seqNo"] for event in rig.events()] == [0, 1]

    run_virtual(main())
