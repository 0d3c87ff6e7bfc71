"""16-TX-01 to 09, 11, 13 to 16, field faults 1, 4, 5, 12, and tests 1, 2 and 7 of part 8: ledger rows to the CSMS."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.facts import ChargingState, SampleContext, StopReason, TransactionFact, Trigger, TxKind
from agent.ipc.port import AuthorizeWanted
from agent.sim.virtual_time import now_ms, run_virtual
from tests.conformance.v16.rig import NumberingCsms, Rig
from tests.support.fake_csms import Answer, Received, until
from tests.support.fake_station import TOKEN, sample, session_facts

CALLS_OF_ONE_SESSION = ("StartTransaction", "MeterValues", "StopTransaction")
NAMES = {
    StopReason.DE_AUTHORIZED: "DeAuthorized",
    StopReason.EMERGENCY_STOP: "EmergencyStop",
    StopReason.EV_DISCONNECTED: "EVDisconnected",
    StopReason.TIMEOUT: "EVDisconnected",
    StopReason.IMMEDIATE_RESET: "HardReset",
    StopReason.REBOOT: "SoftReset",
    StopReason.LOCAL: "Local",
    StopReason.MASTER_PASS: "Local",
    StopReason.POWER_LOSS: "PowerLoss",
    StopReason.REMOTE: "Remote",
    StopReason.UNLOCK: "UnlockCommand",
}
OK_START = {"transactionId": 55, "idTagInfo": {"status": "Accepted"}}


def ids_of(rig: Rig) -> list[tuple[str, Any]]:
    """(action, transactionId) of all transaction calls; None for StartTransaction."""
    return [(action, payload.get("transactionId")) for action, payload in rig.transaction_calls()]


def test_field_fault_1_offline_session_arrives_whole_and_in_order() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1", periodic=2, offline=True))
        rig.start_gateway()  # killed meanwhile
        async with rig.online():
            await rig.drained()
        assert rig.transaction_calls() == [
            (
                "StartTransaction",
                {
                    "connectorId": 1,
                    "idTag": TOKEN.id_token,
                    "meterStart": 1000,
                    "timestamp": "2026-11-24T08:00:00.000Z",
                },
            ),
            *[("MeterValues", reading) for reading in (_reading(1, 2500), _reading(2, 4000))],
            (
                "StopTransaction",
                {
                    "transactionId": 100,
                    "idTag": TOKEN.id_token,
                    "meterStop": 5500,
                    "timestamp": "2026-11-24T08:03:00.000Z",
                    "reason": "Local",
                    "transactionData": [
                        _energy("Transaction.Begin", 0, 1000),
                        _energy("Sample.Periodic", 1, 2500),
                        _energy("Sample.Periodic", 2, 4000),
                        _energy("Transaction.End", 3, 5500),
                    ],
                },
            ),
        ]
        assert rig.station.csms_txs == {}

    run_virtual(main())


def _energy(context: str, minute: int, wh: int) -> dict[str, Any]:
    value = {"value": str(wh), "context": context, "measurand": "Energy.Active.Import.Register", "unit": "Wh"}
    return {"timestamp": f"2026-11-24T08:0{minute}:00.000Z", "sampledValue": [value]}


def _reading(minute: int, wh: int) -> dict[str, Any]:
    meter_value = _energy("Sample.Periodic", minute, wh)
    for phase, ampere in (("L1", "16"), ("L2", "15.99"), ("L3", "16.01")):
        meter_value["sampledValue"].append(
            {"value": ampere, "context": "Sample.Periodic", "measurand": "Current.Import", "phase": phase, "unit": "A"}
        )
    return {"connectorId": 1, "transactionId": 100, "meterValue": [meter_value]}


@pytest.mark.parametrize("failure", ["InternalError", "FormatViolation", "Whatever", None, {"transactionId": "x"}])
def test_part_8_1_start_answered_at_the_third_attempt_only(failure: Answer) -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1", offline=True))
        rig.csms.on["StartTransaction"] = [failure, failure, OK_START]
        async with rig.online():
            await rig.drained()
        assert ids_of(rig) == [("StartTransaction", None)] * 3 + [("MeterValues", 55), ("StopTransaction", 55)]
        starts = rig.csms.of("StartTransaction")
        assert len({call.message_id for call in starts}) == 3  # 16-TX-05: a new id on the same connection
        assert starts[0].payload == starts[2].payload

    run_virtual(main())


@pytest.mark.parametrize("answered", [True, False])
def test_16_tx_03_retry_spacing(answered: bool) -> None:
    """Wait interval x number of sends; a time-out of the call adds to it."""

    async def main() -> None:
        rig = Rig()
        await rig.station.set("OCPPCommCtrlr.MessageAttempts[TransactionEvent]", "4")
        await rig.station.append(*session_facts("tx-1"))
        rig.csms.latency_s = 0
        rig.csms.on["StopTransaction"] = ["GenericError" if answered else None] * 4
        async with rig.online():
            await rig.drained()
        times = [call.at_ms for call in rig.csms.of("StopTransaction")]
        timeout_ms = 0 if answered else 30_000
        waits = [later - earlier for earlier, later in pairwise(times)]
        assert waits == [timeout_ms + 60_000, timeout_ms + 120_000, timeout_ms + 180_000]
        assert rig.dialect.delivery.counters.dropped == 1

    run_virtual(main())


@pytest.mark.parametrize("action", CALLS_OF_ONE_SESSION)
@pytest.mark.parametrize("failure", ["InternalError", None, {"unheard": 1, "idTagInfo": 3}])
def test_field_fault_5_poison_message_does_not_stop_the_queue(action: str, failure: Answer) -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1"), *session_facts("tx-2", start_ms=600_000))
        rig.csms.on[action] = [failure] * 3
        async with rig.online():
            await rig.drained(within_s=36_000)
        expected = [name for name in CALLS_OF_ONE_SESSION for _ in range(3 if name == action else 1)]
        if action != "StartTransaction" and isinstance(failure, dict):
            expected = list(CALLS_OF_ONE_SESSION)  # nothing must be in the answer, so nothing in it does harm
        else:
            assert rig.dialect.delivery.counters.dropped == 1
        assert [call for call, _ in rig.transaction_calls()] == expected + list(CALLS_OF_ONE_SESSION)
        assert len(rig.station.ledger) == 8  # the facts stay

    run_virtual(main())


def test_16_tx_03_a_csms_that_wants_no_readings_holds_up_no_bill() -> None:
    """Three are refused to the end, each further one goes once; a start is asked for as often as ever, and a reading
    that is taken ends it."""

    async def main() -> None:
        rig = Rig()
        first, *rest = session_facts("tx-1", periodic=119)
        await rig.station.append(first, *rest, *session_facts("tx-2", periodic=4))
        rig.csms.on["StartTransaction"] = [OK_START, "InternalError", "InternalError"]
        rig.csms.on["MeterValues"] = [*["InternalError"] * (3 * 3 + 116 + 1), {}, "InternalError"]
        async with rig.online():
            await until(lambda: len(rig.csms.of("StopTransaction")) == 1, within_s=3 * 180 + 10)
            await rig.drained()
        second = [action for action, _ in rig.transaction_calls()][1 + 9 + 116 + 1 :]
        assert second == ["StartTransaction"] * 3 + ["MeterValues"] * (1 + 1 + 2 + 1) + ["StopTransaction"]

    run_virtual(main())


def test_16_tx_07_start_given_up_the_rest_goes_with_minus_one() -> None:
    async def main() -> None:
        rig = Rig()
        start, *rest = session_facts("tx-1")
        await rig.station.append(start)
        rig.csms.on["StartTransaction"] = ["InternalError"] * 3
        async with rig.online():
            await rig.drained()
        assert rig.station.csms_txs["tx-1"].given_up
        rig.start_gateway()  # the -1 survives a restart
        await rig.station.append(*rest[:-1])
        async with rig.online():
            await rig.drained()
            # -1 is nobody's id: it stops nothing
            assert await rig.csms.ask("RemoteStopTransaction", {"transactionId": -1}) == {"status": "Rejected"}
            await rig.station.append(rest[-1])
            await rig.drained()
        assert ids_of(rig)[3:] == [("MeterValues", -1), ("StopTransaction", -1)]
        assert rig.station.verdicts == []

    run_virtual(main())


@pytest.mark.parametrize("csms_id", [0, -1, -7, 2**31])
def test_16_tx_08_any_number_is_an_id(csms_id: int) -> None:
    async def main() -> None:
        rig = Rig(NumberingCsms(first=csms_id))
        facts = session_facts("tx-1")
        await rig.station.append(*facts[:-1])
        async with rig.online():
            await rig.drained()
            assert await rig.csms.ask("RemoteStopTransaction", {"transactionId": csms_id}) == {"status": "Accepted"}
            await rig.station.append(facts[-1])
            await rig.drained()
        assert ids_of(rig)[1:] == [("MeterValues", csms_id), ("StopTransaction", csms_id)]

    run_virtual(main())


def test_16_tx_06_id_given_before_a_restart_is_used_after_it() -> None:
    async def main() -> None:
        rig = Rig()
        first, second = session_facts("tx-1"), session_facts("tx-2", evse=2)
        await rig.station.append(first[0], second[0])
        async with rig.online():
            await rig.drained()
        rig.start_gateway()
        await rig.station.append(second[-1], first[-1])
        async with rig.online():
            await rig.drained()
        assert ids_of(rig)[2:] == [("StopTransaction", 101), ("StopTransaction", 100)]

    run_virtual(main())


def test_field_fault_4_second_session_before_the_first_is_acknowledged() -> None:
    """16-TX-02: what is new waits behind the queue."""

    async def main() -> None:
        rig = Rig()
        rig.csms.on["StartTransaction"] = [None]
        await rig.station.append(*session_facts("tx-1", offline=True))
        async with rig.online():
            await rig.station.append(*session_facts("tx-2", start_ms=600_000))
            await rig.drained()
        starts = rig.csms.of("StartTransaction")
        assert [call for call, _ in rig.transaction_calls()] == ["StartTransaction", *CALLS_OF_ONE_SESSION * 2]
        assert [
            payload["transactionId"] for call, payload in rig.transaction_calls() if call != "StartTransaction"
        ] == [
            100,
            100,
            101,
            101,
        ]
        assert starts[-1].payload["meterStart"] <= rig.csms.of("StopTransaction")[-1].payload["meterStop"]

    run_virtual(main())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("which", range(4))
def test_part_8_2_link_cut_around_every_message_of_a_session(which: int, when: str) -> None:
    """16-TX-04: nothing lost, the repetition recognisable by its id, no attempt counted."""

    async def main() -> None:
        rig = Rig()
        await rig.station.set("OCPPCommCtrlr.MessageAttempts[TransactionEvent]", "1")
        await rig.station.append(*session_facts("tx-1", periodic=2))
        seen: list[Received] = []
        cuts = 3

        def cut_on(received: Received) -> str | None:
            if received.action not in CALLS_OF_ONE_SESSION:
                return None
            seen.append(received)
            nonlocal cuts
            if len({call.message_id for call in seen}) == which + 1 and cuts > 0:
                cuts -= 1
                return when
            return None

        rig.csms.cut_on = cut_on
        for _ in range(4):
            async with rig.online() as wire:
                await until(lambda: wire.cut_now or rig.station.delivered_seq == len(rig.station.ledger))
        assert rig.station.delivered_seq == len(rig.station.ledger)
        assert rig.dialect.delivery.counters.dropped == 0
        by_id = {call.message_id: call for call in rig.csms.of(*CALLS_OF_ONE_SESSION)}
        assert [call.action for call in by_id.values()] == [
            "StartTransaction",
            "MeterValues",
            "MeterValues",
            "StopTransaction",
        ]
        assert len(seen) == 4 + 3  # each cut repeats one message, under its id
        assert len({call.message_id for call in seen}) == 4

    run_virtual(main())


def test_time_out_of_a_dead_link_is_no_attempt_but_refusals_count_over_reconnects() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.set("OCPPCommCtrlr.MessageAttempts[TransactionEvent]", "2")
        await rig.station.append(*session_facts("tx-1"))
        rig.csms.on["StartTransaction"] = [None, None, "InternalError", "InternalError"]
        rig.csms.on["Heartbeat"] = [None, None]
        for sends in (1, 2, 3):
            async with rig.online():
                await until(lambda sends=sends: len(rig.csms.of("StartTransaction")) == sends)  # type: ignore[misc]
                await asyncio.sleep(40)
        assert rig.station.delivered_seq == 0
        async with rig.online():
            await rig.drained()
        assert rig.dialect.delivery.counters.dropped == 1
        assert len(rig.csms.of("StartTransaction")) == 4

    run_virtual(main())


def test_16_tx_09_verdict_in_the_start_answer_reaches_the_station() -> None:
    async def main() -> None:
        rig = Rig()
        info = {"status": "Blocked", "parentIdTag": "G1", "expiryDate": "2026-12-01T00:00:00.123456+00:00"}
        rig.csms.on["StartTransaction"] = [{"transactionId": 5, "idTagInfo": info}]
        rig.csms.on["StopTransaction"] = [{"idTagInfo": {"status": "Expired"}}]
        await rig.station.append(*session_facts("tx-1"))
        async with rig.online():
            await rig.drained()
        (token, verdict, request_id, tx_id), (_, stop_verdict, _, stop_tx_id) = rig.station.verdicts
        assert (token, verdict.status, verdict.group, request_id, tx_id) == (TOKEN, "Blocked", "G1", None, "tx-1")
        assert verdict.expiry_wall_ms == 1_796_083_200_123
        assert (stop_verdict.status, stop_tx_id) == ("Expired", None)  # 16-TX-14

    run_virtual(main())


@given(
    begin=st.integers(min_value=0, max_value=10**12),
    steps=st.lists(st.integers(min_value=0, max_value=5_000_000), min_size=1, max_size=8),
)
@settings(max_examples=15, deadline=None)
def test_16_tx_11_whole_wh_never_negative_and_consistent(begin: int, steps: list[int]) -> None:
    async def main() -> None:
        rig = Rig()
        facts, energy = [], begin
        for number, step in enumerate([0, *steps]):
            energy += step
            kind = TxKind.STARTED if number == 0 else TxKind.ENDED if number == len(steps) else TxKind.UPDATED
            context = {TxKind.STARTED: SampleContext.BEGIN, TxKind.ENDED: SampleContext.END}.get(
                kind, SampleContext.PERIODIC
            )
            reading = sample(context, number * 1000, energy)
            trigger = Trigger.METER_VALUE_PERIODIC
            facts.append(
                TransactionFact(kind, "tx", number, 1, trigger, ChargingState.CHARGING, False, (reading,), TOKEN)
            )
        await rig.station.append(*facts)
        async with rig.online():
            await rig.drained()
        registers = [rig.csms.of("StartTransaction")[0].payload["meterStart"]]
        for call in rig.csms.of("MeterValues"):
            registers.append(int(call.payload["meterValue"][0]["sampledValue"][0]["value"]))
        registers.append(rig.csms.of("StopTransaction")[0].payload["meterStop"])
        assert registers == sorted(registers)
        assert abs(1000 * (registers[-1] - registers[0]) - sum(steps)) < 1000

    run_virtual(main())


@pytest.mark.parametrize("reason", StopReason)
def test_16_tx_13_every_reason_has_a_legal_name(reason: StopReason) -> None:
    async def main() -> None:
        rig = Rig()
        start, *_, end = session_facts("tx-1")
        ended = TransactionFact(
            TxKind.ENDED, "tx-1", 1, 1, end.trigger, end.charging_state, False, end.samples, stopped_reason=reason
        )
        await rig.station.append(start, ended)
        async with rig.online():  # the session validates what it sends
            await rig.drained()
        payload = rig.csms.of("StopTransaction")[0].payload
        assert "idTag" not in payload and payload["reason"] == NAMES.get(reason, "Other")

    run_virtual(main())


def test_16_tx_15_long_session_is_thinned_but_keeps_begin_and_end() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.set("SampledDataCtrlr.TxEndedMeasurands", "Energy.Active.Import.Register,Voltage")
        await rig.station.append(*session_facts("tx-1", periodic=310))
        async with rig.online():
            await rig.drained()
        data = rig.csms.of("StopTransaction")[0].payload["transactionData"]
        contexts = [value["sampledValue"][0]["context"] for value in data]
        assert contexts[0] == "Transaction.Begin"
        assert contexts[-1] == "Transaction.End"
        assert contexts.count("Sample.Periodic") == len(data) - 2 > 20
        assert sum(len(value["sampledValue"]) for value in data) <= 310

    run_virtual(main())


def test_16_tx_15_nothing_configured_no_transaction_data() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.set("SampledDataCtrlr.TxEndedMeasurands", "")
        await rig.station.append(*session_facts("tx-1"))
        async with rig.online():
            await rig.drained()
        assert "transactionData" not in rig.csms.of("StopTransaction")[0].payload

    run_virtual(main())


def test_part_8_12_rows_made_before_the_clock_was_set_are_told_with_their_true_time() -> None:
    """Field fault 6: the device booted in 1970, charged offline, and learns the time from the boot's answer."""

    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1", offline=True), clock_offset_ms=0, trusted=False)
        rig.station.uptime_ms = 3_600_000
        async with rig.online():
            await rig.drained()
        assert rig.csms.of("StartTransaction")[0].payload["timestamp"] == "2026-11-24T07:00:00.000Z"
        stop = rig.csms.of("StopTransaction")[0].payload
        assert stop["timestamp"] == "2026-11-24T07:02:00.000Z"
        assert [value["timestamp"] for value in stop["transactionData"]] == [
            "2026-11-24T07:00:00.000Z",
            "2026-11-24T07:01:00.000Z",
            "2026-11-24T07:02:00.000Z",
        ]

    run_virtual(main())


def test_rpc_12_a_driver_goes_before_waiting_statuses() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.latency_s = 1
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            for _ in range(10):
                await rig.csms.ask("TriggerMessage", {"requestedMessage": "Heartbeat"})
            await rig.station.append(*session_facts("tx-1"))
            before = len(rig.csms.received)
            await rig.station.tell(AuthorizeWanted(9, TOKEN, 1))
            await until(lambda: any(request_id == 9 for _, _, request_id, _ in rig.station.verdicts))
            assert rig.csms.actions()[before:].index("Authorize") <= 1  # behind at most what was in flight
            await rig.drained()

    run_virtual(main())


def test_part_8_4_driver_is_answered_while_a_long_queue_drains() -> None:
    """16-TX-02: Authorize overtakes the queue."""

    async def main() -> None:
        rig = Rig()
        for number in range(100):
            await rig.station.append(*session_facts(f"tx-{number}", start_ms=number * 600_000))
        async with rig.online():
            await until(lambda: rig.station.delivered_seq > 100)
            asked_ms = now_ms()
            await rig.station.tell(AuthorizeWanted(9, TOKEN, 1))
            await until(lambda: any(request_id == 9 for _, _, request_id, _ in rig.station.verdicts))
            assert now_ms() - asked_ms < 1000
            assert rig.station.delivered_seq < len(rig.station.ledger)
        assert rig.station.records_asked_max <= 16  # flat memory

    run_virtual(main())


def test_field_fault_5_a_night_that_is_too_big_for_the_csms_is_told_shorter() -> None:
    """It closes with 1009 at each frame above 10 kB: the bill comes, with the first and the last reading."""

    async def main() -> None:
        rig = Rig()
        rig.csms.close_code = 1009
        rig.csms.cut_on = lambda call: "before" if len(json.dumps(call.payload)) > 10_000 else None
        await rig.station.set("SampledDataCtrlr.TxEndedMeasurands", "Energy.Active.Import.Register")
        await rig.station.set("SampledDataCtrlr.TxEndedInterval", "60")
        await rig.station.append(*session_facts("tx-1", periodic=600), *session_facts("tx-2"))
        for _ in range(2):
            async with rig.online() as wire:
                await until(lambda: wire.cut_now or rig.station.delivered_seq == len(rig.station.ledger))
        long, short = (call.payload for call in rig.csms.of("StopTransaction"))
        assert (long["meterStop"], long["reason"]) == (902_500, "Local")
        contexts = [value["sampledValue"][0]["context"] for value in long["transactionData"]]
        assert contexts == ["Transaction.Begin", "Transaction.End"]
        assert len(short["transactionData"]) == 3
        assert rig.dialect.delivery.counters.dropped == 0

    run_virtual(main())
