"""20-TE-01 to 12, E04 to E15, J01, J02, A04, and tests 2 and 7 of part 8: ledger rows to the CSMS."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from agent.core.facts import (
    BootFact,
    ChargingState,
    CheckpointFact,
    ClockFact,
    MeterFact,
    SampleContext,
    SecurityFact,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.core.status import ConnectorState
from agent.ipc.port import Record, SampleTaken, TokenVerdict
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig
from tests.support.fake_csms import Answer, Received, until
from tests.support.fake_station import T0_MS, TOKEN, sample, session_facts

ID_TOKEN = {"idToken": TOKEN.id_token, "type": "ISO14443"}


def _energy(context: str, minute: int, wh: float) -> dict[str, Any]:
    value = {
        "value": wh,
        "context": context,
        "measurand": "Energy.Active.Import.Register",
        "unitOfMeasure": {"unit": "Wh"},
    }
    return {"timestamp": f"2026-11-24T08:0{minute}:00.000Z", "sampledValue": [value]}


def _event(kind: TxKind, seq_no: int, trigger: Trigger, **more: Any) -> TransactionFact:
    return TransactionFact(kind, "tx-9", seq_no, 1, trigger, ChargingState.CHARGING, False, **more)


async def delivered(*facts: Any, settings: dict[str, str] | None = None, rig: Rig | None = None) -> Rig:
    """A rig whose CSMS has got these facts."""
    rig = rig or Rig()
    for key, value in (settings or {}).items():
        await rig.station.set(key, value)
    if facts:
        await rig.station.append(*facts)
    async with rig.online():
        await rig.drained()
    return rig


def test_20_te_10_the_end_after_a_power_cut_tells_no_charging_state() -> None:
    """Nobody knows whether the vehicle is still there."""

    async def main() -> None:
        rig = Rig()
        *begun, ended = session_facts("tx-1")
        await rig.station.append(*begun, replace(ended, stopped_reason=StopReason.POWER_LOSS))
        rig.start_gateway()
        async with rig.online():
            await rig.drained()
        assert rig.events()[-1]["transactionInfo"] == {"transactionId": "tx-1", "stoppedReason": "PowerLoss"}

    run_virtual(main())


def test_e12_an_offline_session_arrives_whole_and_in_order() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.set("SampledDataCtrlr.TxUpdatedMeasurands", "Energy.Active.Import.Register")
        await rig.station.append(*session_facts("tx-1", offline=True))
        rig.start_gateway()  # killed meanwhile
        async with rig.online():
            await rig.drained()
        info = {"transactionId": "tx-1", "chargingState": "Charging"}
        assert rig.events() == [
            {
                "eventType": "Started",
                "timestamp": "2026-11-24T08:00:00.000Z",
                "triggerReason": "Authorized",
                "seqNo": 0,
                "offline": True,
                "transactionInfo": {"transactionId": "tx-1", "chargingState": "EVConnected"},
                "evse": {"id": 1, "connectorId": 1},
                "idToken": ID_TOKEN,
                "meterValue": [_energy("Transaction.Begin", 0, 1000.9)],
            },
            {
                "eventType": "Updated",
                "timestamp": "2026-11-24T08:00:00.000Z",
                "triggerReason": "ChargingStateChanged",
                "seqNo": 1,
                "offline": True,
                "transactionInfo": info,
            },
            {
                "eventType": "Updated",
                "timestamp": "2026-11-24T08:01:00.000Z",
                "triggerReason": "MeterValuePeriodic",
                "seqNo": 2,
                "offline": True,
                "transactionInfo": info,
                "meterValue": [_energy("Sample.Periodic", 1, 2500.9)],
            },
            {
                "eventType": "Ended",
                "timestamp": "2026-11-24T08:02:00.000Z",
                "triggerReason": "StopAuthorized",
                "seqNo": 3,
                "offline": True,
                "transactionInfo": {
                    "transactionId": "tx-1",
                    "chargingState": "EVConnected",
                    "stoppedReason": "Local",
                },
                "idToken": ID_TOKEN,
                "meterValue": [_energy("Transaction.Begin", 0, 1000.9), _energy("Transaction.End", 2, 4000.9)],
            },
        ]

    run_virtual(main())


def test_20_te_03_events_made_online_do_not_claim_to_be_offline() -> None:
    async def main() -> None:
        rig = await delivered(*session_facts("tx-1"))
        assert len(rig.events()) == 4
        assert all("offline" not in event for event in rig.events())

    run_virtual(main())


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("place", range(4))
def test_part_8_2_link_cut_at_every_event(place: int, moment: str) -> None:
    """The CALL left, the answer never came: the same message goes again on the next link, with its id."""

    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1"))
        cuts = 0

        def cut_on(received: Received) -> str | None:
            nonlocal cuts
            if cuts or received.payload.get("seqNo") != place or received.action != "TransactionEvent":
                return None
            cuts += 1
            return moment

        rig.csms.cut_on = cut_on
        async with rig.online():
            await asyncio.sleep(2)
        assert rig.station.delivered_seq < len(rig.station.ledger)
        rig.start_gateway()
        async with rig.online():
            await rig.drained()
        by_id = {call.message_id: call.payload for call in rig.csms.of("TransactionEvent")}
        assert [event["seqNo"] for event in by_id.values()] == [0, 1, 2, 3]
        assert len(rig.events()) == (5 if moment == "after" else 4)

    run_virtual(main())


@pytest.mark.parametrize("answer", ["InternalError", None])
def test_part_8_7_tc_e_41_50_retry_spacing_and_then_on(answer: str | None) -> None:
    """E13, 20-TE-04: wait interval x number of sends; a time-out of the call adds to it. The id stays (2.x)."""

    async def main() -> None:
        rig = Rig()
        await rig.station.set("OCPPCommCtrlr.MessageAttempts[TransactionEvent]", "4")
        await rig.station.set("OCPPCommCtrlr.MessageAttemptInterval[TransactionEvent]", "10")
        rig.csms.latency_s = 0
        rig.csms.on["TransactionEvent"] = [answer] * 4
        await delivered(*session_facts("tx-1"), rig=rig)
        sends = [call for call in rig.csms.of("TransactionEvent") if call.payload["seqNo"] == 0]
        timeout_ms = 30_000 if answer is None else 0
        waits = [later.at_ms - earlier.at_ms for earlier, later in pairwise(sends)]
        assert waits == [timeout_ms + 10_000, timeout_ms + 20_000, timeout_ms + 30_000]
        assert len({call.message_id for call in sends}) == 1
        assert [event["seqNo"] for event in rig.events()][4:] == [1, 2, 3]
        assert rig.dialect.delivery.counters.dropped == 1

    run_virtual(main())


def test_20_te_04_a_csms_that_answers_nothing_behind_an_open_link_costs_no_event() -> None:
    """A balancer before a dead back end: two hours of it, then all is told, and in its order."""

    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            rig.csms.is_dead = True
            for number in range(10):
                await rig.station.append(*session_facts(f"tx-{number}"))
            await asyncio.sleep(7_200)
            assert rig.station.delivered_seq == 0
            rig.csms.is_dead = False
            await rig.drained(within_s=120)
        assert [event["seqNo"] for event in rig.events()] == [0, *[0, 1, 2, 3] * 10]
        assert rig.dialect.delivery.counters.dropped == 0

    run_virtual(main())


@pytest.mark.parametrize("takes_start", [True, False])
def test_20_te_04_a_csms_that_wants_no_updates_holds_up_no_bill(takes_start: bool) -> None:
    """Three are refused to the end, each further one goes once; begin and end are asked for as often as ever."""

    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1", periodic=119))
        starts: list[Answer] = [{}] if takes_start else ["InternalError"] * 3
        rig.csms.on["TransactionEvent"] = [*starts, *["InternalError"] * (3 * 3 + 117 + 2)]
        async with rig.online():
            await rig.drained(within_s=5 * 180 + 10)
        assert [event["eventType"] for event in rig.events()][-4:] == ["Updated", "Ended", "Ended", "Ended"]
        assert len(rig.events()) == len(starts) + 9 + 117 + 3

    run_virtual(main())


def test_20_te_05_new_events_wait_behind_a_refused_one_and_a_status_does_not() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1"))
        rig.csms.on["TransactionEvent"] = [{}, "InternalError"]
        async with rig.online():
            await until(lambda: len(rig.events()) == 2)
            rig.csms.received.clear()
            await rig.station.append(*session_facts("tx-2", evse=2))
            await rig.station.show(1, ConnectorState.FINISHING)
            await rig.station.show(2, ConnectorState.FAULTED)
            await asyncio.sleep(50)
            assert set(rig.csms.actions()) == {"StatusNotification"}
            await rig.drained()
        order = [(event["transactionInfo"]["transactionId"], event["seqNo"]) for event in rig.events()]
        assert order == [("tx-1", 1), ("tx-1", 2), ("tx-1", 3), *(("tx-2", number) for number in range(4))]

    run_virtual(main())


def test_20_te_06_remote_start_id_once_and_stop_reason_of_an_unlock() -> None:
    async def main() -> None:
        begin, end = sample(SampleContext.BEGIN, 0, 1_000), sample(SampleContext.END, 60_000, 2_000)
        rig = await delivered(
            _event(TxKind.STARTED, 0, Trigger.REMOTE_START, samples=(begin,), token=TOKEN, remote_start_id=77),
            _event(TxKind.UPDATED, 1, Trigger.CHARGING_STATE_CHANGED),
            _event(TxKind.ENDED, 2, Trigger.UNLOCK_COMMAND, samples=(end,), stopped_reason=StopReason.UNLOCK),
        )
        started, updated, ended = rig.events()
        assert started["transactionInfo"]["remoteStartId"] == 77
        assert "remoteStartId" not in updated["transactionInfo"] | ended["transactionInfo"]
        assert "evse" not in updated | ended
        assert "idToken" not in updated | ended
        assert (ended["triggerReason"], ended["transactionInfo"]["stoppedReason"]) == ("UnlockCommand", "Other")

    run_virtual(main())


def test_c02_a_start_without_authorization_has_an_empty_token_of_its_type() -> None:
    """TC_E_38: a start button, or charging that is free."""

    async def main() -> None:
        begin = sample(SampleContext.BEGIN, 0, 1_000)
        button = Token("", "NoAuthorization")
        rig = await delivered(_event(TxKind.STARTED, 0, Trigger.AUTHORIZED, samples=(begin,), token=button))
        [started] = rig.events()
        assert started["idToken"] == {"idToken": "", "type": "NoAuthorization"}
        assert rig.csms.of("Authorize") == []

    run_virtual(main())


@pytest.mark.parametrize("reason", list(StopReason))
def test_20_te_09_every_stop_reason_is_one_of_the_schema(reason: StopReason) -> None:
    """The session validates what is sent: an unknown spelling would raise."""

    async def main() -> None:
        end = sample(SampleContext.END, 60_000, 2_000)
        rig = await delivered(_event(TxKind.ENDED, 2, Trigger.TRIGGER, samples=(end,), stopped_reason=reason))
        assert len(rig.events()) == 1

    run_virtual(main())


@pytest.mark.parametrize("trigger", list(Trigger))
def test_20_te_08_every_trigger_is_one_of_the_schema(trigger: Trigger) -> None:
    async def main() -> None:
        rig = await delivered(_event(TxKind.UPDATED, 1, trigger))
        # 2.1 has a trigger for a spent credit, 2.0.1 has not.
        told = Trigger.DEAUTHORIZED if trigger is Trigger.COST_LIMIT_REACHED else trigger
        assert [event["triggerReason"] for event in rig.events()] == [told.value]

    run_virtual(main())


def test_20_te_07_the_verdict_on_a_token_goes_to_its_transaction() -> None:
    async def main() -> None:
        rig = Rig()
        blocked = {"idTokenInfo": {"status": "Blocked"}}
        rig.csms.on["TransactionEvent"] = [blocked, blocked, {}, {"totalCost": 1.5, **blocked}]
        await delivered(*session_facts("tx-1"), rig=rig)
        # The second was asked by nobody, and the last comes too late to stop anything.
        assert rig.station.verdicts == [
            (TOKEN, TokenVerdict("Blocked"), None, "tx-1"),
            (TOKEN, TokenVerdict("Blocked"), None, None),
        ]

    run_virtual(main())


# ---------------------------------------------------------------------------------------- meter values


def _minutes(event: dict[str, Any]) -> list[tuple[str, str]]:
    """(context, hh:mm) of each meterValue."""
    return [(value["sampledValue"][0]["context"], value["timestamp"][11:16]) for value in event["meterValue"]]


def test_j02_the_last_event_has_readings_at_their_intervals() -> None:
    async def main() -> None:
        *before, end = session_facts("tx-1", periodic=6)
        aligned = sample(SampleContext.CLOCK, 150_000, 2_000_000)
        clock = replace(before[2], seq_no=8, trigger=Trigger.METER_VALUE_CLOCK, samples=(aligned,))
        rig = await delivered(
            *before,
            clock,
            replace(end, seq_no=9),
            settings={
                "SampledDataCtrlr.TxEndedInterval": "120",
                "AlignedDataCtrlr.TxEndedInterval": "60",
                "AlignedDataCtrlr.TxEndedMeasurands": "Voltage",
            },
        )
        assert _minutes(rig.events()[-1]) == [
            ("Transaction.Begin", "08:00"),
            ("Sample.Periodic", "08:02"),
            ("Sample.Periodic", "08:04"),
            ("Sample.Periodic", "08:06"),
            ("Sample.Clock", "08:02"),
            ("Transaction.End", "08:07"),
        ]

    run_virtual(main())


def test_j02_a_long_transaction_ends_in_a_bounded_message() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1", periodic=2_000))
        rig.station.delivered_seq = 2_002  # only the end is left
        await delivered(settings={"SampledDataCtrlr.TxEndedInterval": "60"}, rig=rig)
        values = _minutes(rig.events()[-1])
        assert values[0] == ("Transaction.Begin", "08:00")
        assert values[-1][0] == "Transaction.End"
        assert 200 < len(values) <= 302

    run_virtual(main())


def test_field_fault_5_an_end_that_is_too_big_for_the_csms_is_told_shorter() -> None:
    """It closes with 1009 at each frame above 10 kB."""

    async def main() -> None:
        rig = Rig()
        rig.csms.close_code = 1009
        rig.csms.cut_on = lambda call: "before" if len(json.dumps(call.payload)) > 10_000 else None
        await rig.station.append(*session_facts("tx-1", periodic=600))
        rig.station.delivered_seq = 602  # only the end is left
        await rig.station.set("SampledDataCtrlr.TxEndedInterval", "60")
        async with rig.online() as wire:
            await until(lambda: wire.cut_now)
        assert rig.events() == []
        await delivered(rig=rig)
        assert [context for context, _ in _minutes(rig.events()[-1])] == ["Transaction.Begin", "Transaction.End"]
        assert rig.dialect.delivery.counters.dropped == 0

    run_virtual(main())


def test_j02_measurands_by_kind_of_reading() -> None:
    async def main() -> None:
        reading = sample(SampleContext.CLOCK, 60_000, 2_000_000)
        *before, end = session_facts("tx-1")
        clock = replace(before[2], seq_no=3, trigger=Trigger.METER_VALUE_CLOCK, samples=(reading,))
        rig = await delivered(
            *before,
            clock,
            replace(end, seq_no=4),
            settings={
                "SampledDataCtrlr.TxStartedMeasurands": "Frequency",
                "SampledDataCtrlr.TxUpdatedMeasurands": "Current.Offered",
                "SampledDataCtrlr.TxEndedMeasurands": "Power.Active.Import",
                "AlignedDataCtrlr.Measurands": "Voltage",
            },
        )
        told = [
            {value["measurand"] for each in event.get("meterValue", ()) for value in each["sampledValue"]}
            for event in rig.events()
        ]
        assert told == [{"Frequency"}, set(), {"Current.Offered"}, {"Voltage"}, {"Power.Active.Import"}]

    run_virtual(main())


def test_j01_aligned_readings_outside_transactions() -> None:
    async def main() -> None:
        reading = sample(SampleContext.CLOCK, 60_000, 2_000_001)
        rig = await delivered(MeterFact(2, reading))
        assert [call.payload for call in rig.csms.of("MeterValues")] == [
            {"evseId": 2, "meterValue": [_energy("Sample.Clock", 1, 2000.001)]}
        ]
        rig = await delivered(MeterFact(2, reading), settings={"AlignedDataCtrlr.Measurands": ""})
        assert rig.csms.of("MeterValues") == []

    run_virtual(main())


def test_f06_a_triggered_reading_outside_transactions() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            fact = MeterFact(1, sample(SampleContext.TRIGGER, 60_000, 5_000))
            await rig.station.tell(SampleTaken(Record(0, "meter", fact, T0_MS, T0_MS, True)))
            [call] = await rig.came("MeterValues")
        assert call.payload == {"evseId": 1, "meterValue": [_energy("Trigger", 1, 5)]}

    run_virtual(main())


# ----------------------------------------------------------------------------------------- other rows


def test_a04_security_events_and_rows_that_concern_nobody() -> None:
    async def main() -> None:
        rig = await delivered(
            BootFact("PowerUp", "0.1.0"),
            ClockFact(T0_MS, "CSMS", 0),
            CheckpointFact("tx-1", 1, sample(SampleContext.PERIODIC, 0, 0)),
            SecurityFact("InvalidMessages", "3: x"),
            SecurityFact("StartupOfTheDevice", ""),
        )
        assert "TransactionEvent" not in rig.csms.actions()
        assert [call.payload for call in rig.csms.of("SecurityEventNotification")] == [
            {"type": "InvalidMessages", "timestamp": "2026-11-24T08:00:00.000Z", "techInfo": "3: x"},
            {"type": "StartupOfTheDevice", "timestamp": "2026-11-24T08:00:00.000Z"},
        ]

    run_virtual(main())


def test_a_refused_security_event_does_not_hold_up_billing() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["SecurityEventNotification"] = ["NotSupported"]
        await rig.station.append(SecurityFact("StartupOfTheDevice", ""), *session_facts("tx-1"))
        async with rig.online():
            await until(lambda: rig.station.delivered_seq == 5, within_s=5)
        assert len(rig.csms.of("SecurityEventNotification")) == 1

    run_virtual(main())
