"""N07, N08, 20-TE-11: rows of monitors as NotifyEvent (TC_N_21, 49: the station's side)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from agent.core.facts import EventFact, EventTrigger, MonitorOrigin, VariableName
from agent.ocpp.dialect import StationView
from agent.ocpp.v16.dialect import Dialect16
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import ACCEPTED, Rig
from tests.support.fake_csms import FakeCsms, linked, until
from tests.support.fake_station import FakeStation, session_facts, welcome

TRIPPED = EventFact(
    VariableName("RCD", "Tripped", evse=2),
    EventTrigger.ALERTING,
    7,
    MonitorOrigin.HARD_WIRED,
    0,
    "true",
    tech_code="residual_current",
    tech_info="residual current was detected",
    in_tx="tx-1",
)
POWER = EventFact(VariableName("EVSE", "Power", evse=1), EventTrigger.DELTA, 100_000, MonitorOrigin.CUSTOM, 6, "7360")


def test_n07_fr_06_fr_07_an_event_is_told_whole() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            await rig.station.append(TRIPPED, POWER, replace(TRIPPED, value="false", cleared=True, in_tx=None))
            await rig.drained()
        payloads = [call.payload for call in rig.csms.of("NotifyEvent")]
        assert payloads[0] == {
            "generatedAt": "2026-11-24T08:00:00.000Z",
            "seqNo": 0,
            "eventData": [
                {
                    "eventId": 1,
                    "timestamp": "2026-11-24T08:00:00.000Z",
                    "trigger": "Alerting",
                    "actualValue": "true",
                    "techCode": "residual_current",
                    "techInfo": "residual current was detected",
                    "transactionId": "tx-1",
                    "eventNotificationType": "HardWiredMonitor",
                    "variableMonitoringId": 7,
                    "component": {"name": "RCD", "evse": {"id": 2}},
                    "variable": {"name": "Tripped"},
                }
            ],
        }
        assert payloads[1]["eventData"] == [
            {
                "eventId": 2,
                "timestamp": "2026-11-24T08:00:00.000Z",
                "trigger": "Delta",
                "actualValue": "7360",
                "eventNotificationType": "CustomMonitor",
                "variableMonitoringId": 100_000,
                "component": {"name": "EVSE", "evse": {"id": 1}},
                "variable": {"name": "Power"},
            }
        ]
        cleared = payloads[2]["eventData"][0]
        assert (cleared["cleared"], cleared["actualValue"], "transactionId" in cleared) == (True, "false", False)

    run_virtual(main())


@pytest.mark.parametrize("trigger", list(EventTrigger))
@pytest.mark.parametrize("origin", list(MonitorOrigin))
@pytest.mark.parametrize(
    "name",
    [
        VariableName("Controller", "Problem"),
        VariableName("Connector", "Problem", evse=1, connector=1),
        VariableName("A", "V", "i", 1, 1, "c"),
        VariableName("A" * 50, "V" * 50, "i" * 50, component_instance="c" * 50),
    ],
)
def test_every_form_of_an_event_conforms_to_the_schema(
    trigger: EventTrigger, origin: MonitorOrigin, name: VariableName
) -> None:
    longest = EventFact(
        name,
        trigger,
        2**31 - 1,
        origin,
        9,
        "v" * 2_500,
        True,
        "t" * 50,
        "i" * 500,
        "00000000-0000-0000-0000-000000000000",
    )

    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            await rig.station.append(longest)  # the session checks what it sends
            await rig.drained()
        (call,) = rig.csms.of("NotifyEvent")
        assert call.payload["eventData"][0]["trigger"] == trigger.value

    run_virtual(main())


def test_20_te_11_events_made_offline_are_told_after_the_link_is_back_in_order_with_all_else() -> None:
    async def main() -> None:
        rig = Rig()
        start, *rest = session_facts("tx-1")
        await rig.station.append(start, TRIPPED, *rest, POWER)
        async with rig.registered():
            await rig.drained()
        told = [call.action for call in rig.csms.of("TransactionEvent", "NotifyEvent")]
        assert told == ["TransactionEvent", "NotifyEvent", *["TransactionEvent"] * len(rest), "NotifyEvent"]

    run_virtual(main())


def test_an_event_is_told_once_though_the_link_breaks_at_it() -> None:
    async def main() -> None:
        csms = FakeCsms({"BootNotification": ACCEPTED})
        rig = Rig(csms)
        csms.cut_on = lambda call: "after" if call.action == "NotifyEvent" and not csms.of("NotifyEvent") else None
        await rig.station.append(TRIPPED, POWER)
        async with rig.online():
            await asyncio.sleep(60)
        async with rig.online():
            await rig.drained()
        ids = [call.message_id for call in csms.of("NotifyEvent")]
        assert ids[0] == ids[1], "a repetition carries the same id"
        assert [call.payload["eventData"][0]["eventId"] for call in csms.of("NotifyEvent")] == [1, 1, 2]

    run_virtual(main())


@pytest.mark.parametrize("refusal", ["NotSupported", "NotImplemented", "InternalError"])
def test_a_refused_event_does_not_stop_what_comes_after_it(refusal: str) -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["NotifyEvent"] = [refusal]
        async with rig.registered():
            await rig.station.append(TRIPPED, *session_facts("tx-1"))
            await rig.drained(within_s=60)
        assert len(rig.csms.of("NotifyEvent")) == 1
        assert rig.events()

    run_virtual(main())


def test_silence_is_no_refusal() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["NotifyEvent"] = [None, {}]
        async with rig.registered():
            await rig.station.append(TRIPPED)
            await rig.drained()
        first, second = rig.csms.of("NotifyEvent")
        assert (first.message_id, first.payload) == (second.message_id, second.payload)

    run_virtual(main())


def test_ocpp_16_passes_over_them() -> None:
    async def main() -> None:
        csms = FakeCsms({"BootNotification": ACCEPTED, "Heartbeat": {"currentTime": "2026-11-24T08:05:00Z"}})
        station = FakeStation()
        view = StationView(welcome(settings={}, head_seq=0))
        dialect = Dialect16(station, view, random.Random(1))
        await station.append(TRIPPED, POWER)
        async with linked(dialect, csms):
            await until(lambda: station.delivered_seq == 2)
        assert "NotifyEvent" not in csms.actions()

    run_virtual(main())
