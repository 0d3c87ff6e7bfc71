"""16-TX-01, 16-TX-03: the queue keeps its order, readings outside transactions too, and outlives a dead CSMS."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from agent.core.facts import MeterFact, SampleContext
from agent.core.status import ConnectorState
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import NumberingCsms, Rig
from tests.support.fake_csms import Received, until
from tests.support.fake_station import sample, session_facts


def test_16_tx_01_aligned_readings_of_the_time_offline_come_in_their_place_between_the_sessions() -> None:
    """In the order in which they were taken, over a killed gateway, one at a time; a refused one is tried again."""

    async def main() -> None:
        rig = Rig()
        await rig.station.set("AlignedDataCtrlr.Measurands", "Energy.Active.Import.Register")
        readings = [MeterFact(evse, sample(SampleContext.CLOCK, 300_000, 5_500_000)) for evse in (1, 2)]
        await rig.station.append(*session_facts("tx-1", offline=True))
        await rig.station.append(*readings)
        await rig.station.append(*session_facts("tx-2", start_ms=600_000, offline=True))
        rig.start_gateway()
        rig.csms.on["MeterValues"] = [{}, "InternalError", {}]
        rig.csms.latency_s = 5
        async with rig.online():
            await rig.drained()
        assert [(action, payload.get("connectorId")) for action, payload in rig.transaction_calls()] == [
            ("StartTransaction", 1),
            ("MeterValues", 1),
            ("StopTransaction", None),
            ("MeterValues", 1),
            ("MeterValues", 1),
            ("MeterValues", 2),
            ("StartTransaction", 1),
            ("MeterValues", 1),
            ("StopTransaction", None),
        ]
        aligned = [payload for _, payload in rig.transaction_calls()[3:6]]
        assert aligned[0] == aligned[1] and not any("transactionId" in payload for payload in aligned)
        times = [call.at_ms for call in rig.csms.of("StartTransaction", "MeterValues", "StopTransaction")]
        assert all(later - earlier >= 5_000 for earlier, later in pairwise(times))

    run_virtual(main())


def test_16_tx_03_a_csms_that_answers_nothing_behind_an_open_link_costs_no_session() -> None:
    """A balancer before a dead back end: two hours of it, then all is told, each once, and in its order."""

    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            rig.csms.is_dead = True
            for number in range(10):
                await rig.station.append(*session_facts(f"tx-{number}"))
            await asyncio.sleep(7_200)
            assert [action for action, _ in rig.transaction_calls()] == ["StartTransaction"]
            assert rig.station.delivered_seq == 0
            rig.csms.is_dead = False
            await rig.drained(within_s=120)
        told = [action for action, _ in rig.transaction_calls()][1:]
        assert told == ["StartTransaction", "MeterValues", "StopTransaction"] * 10
        assert rig.dialect.delivery.counters.dropped == 0
        times = [call.at_ms for call in rig.csms.received if call.at_ms < 7_200_000]
        assert all(later - earlier >= 30_000 for earlier, later in pairwise(times[4:])), "one at a time"

    run_virtual(main())


class SerialCsms(NumberingCsms):
    """Works on one CALL at a time, and for 70 s on the first session's reading, which it answers then, or never."""

    answers_late = True

    def _answer(self, received: Received) -> Any:
        is_slow = received.action == "MeterValues" and received.payload.get("transactionId") == 100
        self.latency_s = 70 if is_slow else 0.02
        answer = super()._answer(received)
        return None if is_slow and not self.answers_late else answer


@pytest.mark.parametrize("answers_late", [True, False])
def test_16_tx_03_a_message_that_keeps_the_csms_busy_for_longer_than_a_heartbeat_waits_is_given_up(
    answers_late: bool,
) -> None:
    """Each sending under a new id may be booked: attempts and one more, then the rest is told, each once."""

    async def main() -> None:
        csms = SerialCsms()
        csms.answers_late = answers_late
        rig = Rig(csms)
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            for number in range(3):
                await rig.station.append(*session_facts(f"tx-{number}"))
            await rig.drained()
        told = [action for action, _ in rig.transaction_calls()]
        session = ["StartTransaction", "MeterValues", "StopTransaction"]
        sendings = 1 if answers_late else 3 + 1
        assert told == ["StartTransaction", *["MeterValues"] * sendings, "StopTransaction"] + session * 2
        assert rig.dialect.delivery.counters.dropped == (not answers_late)

    run_virtual(main())


def test_16_tx_03_a_csms_that_answers_all_but_heartbeats_holds_nothing_up() -> None:
    """One StartTransaction got lost: the answer to whatever else the station tells is as good."""

    async def main() -> None:
        rig = Rig()
        rig.csms.defaults["Heartbeat"] = None
        rig.csms.on["StartTransaction"] = [None]
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            await rig.station.append(*session_facts("tx-0"))
            await asyncio.sleep(600)
            assert [action for action, _ in rig.transaction_calls()] == ["StartTransaction"]
            await rig.station.show(1, ConnectorState.PREPARING)
            await rig.drained(within_s=150)
        told = [action for action, _ in rig.transaction_calls()]
        assert told == ["StartTransaction"] * 2 + ["MeterValues", "StopTransaction"]
        assert rig.dialect.delivery.counters.dropped == 0

    run_virtual(main())
