"""WS-03 and test 3 of part 8: the CSMS picks another OCPP version, in mid-transaction, too."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.model import OcppVersion
from agent.ipc.port import News
from agent.ocpp.v16.dialect import Dialect16
from agent.ocpp.version import Version
from agent.sim.scenario.expectations import available, offline, online, preparing
from agent.sim.scenario.play import expect, play, scenario
from agent.sim.scenario.quiet_world import QuietWorld
from agent.sim.scenario.verbs import drop_link, plug, restore_link, unplug
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig
from tests.support.fake_csms import FakeCsms, linked
from tests.support.fake_station import TOKEN, session_facts

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
        assert [event["idToken"]["idToken"] for event in rig.events()] == [TOKEN.id_token] * 2, (
            "of now, and of the stop"
        )
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


def test_what_201_gave_up_has_no_number_in_16_and_a_number_of_16_outlives_what_201_gives_up() -> None:
    async def main() -> None:
        for first_16 in (False, True):
            rig = BothVersions()
            await rig.station.append(FACTS[0])
            if first_16:
                await rig.deliver_16()
                await rig.station.append(replace(FACTS[1], token=TOKEN))
            rig.csms.on["TransactionEvent"] = ["InternalError"] * 3
            await rig.deliver_201()
            await rig.station.append(*FACTS[2:])
            await rig.deliver_16()
            (stop,) = rig.csms16.of("StopTransaction")
            assert stop.payload["transactionId"] == (42 if first_16 else -1)

    run_virtual(main())


class OfBothVersions(QuietWorld):
    """The station offers both; the CSMS picks one at each connection."""

    def __init__(self, version: str, folder: Path) -> None:
        super().__init__(version, folder)
        assert self.config.csms is not None
        self.config = replace(self.config, csms=replace(self.config.csms, versions=(OcppVersion.V201, OcppVersion.V16)))
        self._grounds = replace(self._grounds, config=self.config)


@pytest.mark.parametrize(("version", "other"), [(Version.V16, Version.V201), (Version.V201, Version.V16)])
def test_back_at_a_version_the_csms_hears_what_changed_since_the_other(version: Version, other: Version) -> None:
    """The other one told that a car came; that it left again is no news for the one that knew of none."""

    async def story(rig: WorldRig) -> None:
        async def switch(to: Version) -> None:
            await play(scenario("the link ends", drop_link(), expect(offline())), rig)
            rig.world.office.versions = (to,)
            await play(scenario(f"and comes back with {to}", restore_link(), expect(online())), rig)
            await rig.wait(2_000)

        told = rig.world.office.book.statuses
        await switch(version)
        assert told[1] == "Available"
        await switch(other)
        await play(scenario("a car comes", plug(), expect(preparing())), rig)
        await rig.wait(2_000)
        assert told[1] == {Version.V16: "Preparing", Version.V201: "Occupied"}[other]
        await play(scenario("and leaves", drop_link(), expect(offline()), unplug(), expect(available())), rig)
        await switch(version)
        assert told[1] == "Available"

    on_a_world_rig(version.value, story, OfBothVersions)
