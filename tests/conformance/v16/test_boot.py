"""16-BOOT-01 to 07: who may say what before and after BootNotification is accepted."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from agent.core.status import ConnectorState
from agent.ipc.port import AuthorizeWanted
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import ACCEPTED, Rig
from tests.support.fake_csms import Answer, until
from tests.support.fake_station import T0_MS, TOKEN, session_facts


def boot_answer(status: str, interval: int) -> Answer:
    return ACCEPTED | {"status": status, "interval": interval}


def test_16_boot_01_07_boot_first_then_statuses_then_the_queue() -> None:
    """16-BOOT-07, its first half: connector 0 and each other is told. The queue begins to drain beside that."""

    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1"))
        rig.csms.on["BootNotification"] = [None, ACCEPTED]  # silence, then accepted
        async with rig.online():
            await rig.drained()
        actions = rig.csms.actions()
        assert actions[:2] == ["BootNotification", "BootNotification"]
        assert sorted(actions[2:]) == sorted(
            ["StatusNotification"] * 3 + ["StartTransaction", "MeterValues", "StopTransaction"]
        )
        connectors = [call.payload["connectorId"] for call in rig.csms.of("StatusNotification")]
        assert connectors == [0, 1, 2]
        assert rig.csms.received[0].payload == {
            "chargePointVendor": "Example",
            "chargePointModel": "Bench",
            "chargePointSerialNumber": "S-0001",
            "firmwareVersion": "0.1.0",
        }

    run_virtual(main())


def test_16_boot_02_clock_and_heartbeat_interval_are_taken_over() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["BootNotification"] = [boot_answer("Accepted", 120)]
        async with rig.online():
            await until(lambda: len(rig.csms.of("Heartbeat")) == 2)
        assert rig.station.clocks[0] == T0_MS
        assert rig.station.settings["OCPPCommCtrlr.HeartbeatInterval"] == "120"
        first, second = (call.at_ms for call in rig.csms.of("Heartbeat"))
        assert 119_000 <= first <= 122_000
        assert 119_000 <= second - first <= 122_000

    run_virtual(main())


def test_16_boot_03_pending_answers_sends_only_what_is_triggered_and_starts_nothing() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1"))
        rig.csms.on["BootNotification"] = [boot_answer("Pending", 90), ACCEPTED]
        async with rig.online():
            await until(lambda: rig.csms.actions() == ["BootNotification"])
            await asyncio.sleep(1)
            assert await rig.csms.ask("RemoteStartTransaction", {"idTag": "A"}) == {"status": "Rejected"}
            assert await rig.csms.ask("RemoteStopTransaction", {"transactionId": 1}) == {"status": "Rejected"}
            assert rig.station.commands == []
            assert (await rig.csms.ask("GetConfiguration", {"key": ["NumberOfConnectors"]}))["configurationKey"]
            trigger = {"requestedMessage": "StatusNotification", "connectorId": 1}
            assert await rig.csms.ask("TriggerMessage", trigger) == {"status": "Accepted"}
            await rig.station.show(1, ConnectorState.PREPARING)
            await rig.station.tell(AuthorizeWanted(7, TOKEN, 1))
            await asyncio.sleep(80)
            assert rig.csms.actions() == ["BootNotification", "StatusNotification"]
            assert rig.station.verdicts[0][1].status == ""  # the station decides alone
            await rig.drained()
        boots = rig.csms.of("BootNotification")
        assert 90_000 <= boots[1].at_ms - boots[0].at_ms < 91_000

    run_virtual(main())


def test_16_boot_03_triggered_boot_does_not_wait_for_the_interval() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["BootNotification"] = [boot_answer("Pending", 3600), ACCEPTED]
        async with rig.online():
            await until(lambda: rig.csms.actions() == ["BootNotification"])
            await asyncio.sleep(1)
            assert await rig.csms.ask("TriggerMessage", {"requestedMessage": "BootNotification"}) == {
                "status": "Accepted"
            }
            await until(lambda: len(rig.csms.of("BootNotification")) == 2, within_s=5)

    run_virtual(main())


def test_16_boot_04_rejected_is_silent_for_the_interval_even_over_reconnects() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.append(*session_facts("tx-1"))
        rig.csms.on["BootNotification"] = [boot_answer("Rejected", 200), ACCEPTED]
        async with rig.online():
            await until(lambda: rig.csms.actions() == ["BootNotification"])
            await asyncio.sleep(50)
            frame = await rig.csms.call("GetConfiguration", {})
            assert frame[0] == 4
        async with rig.online():
            await asyncio.sleep(100)
            assert rig.csms.actions() == ["BootNotification"]
            await rig.drained()
        boots = rig.csms.of("BootNotification")
        assert 200_000 <= boots[1].at_ms - boots[0].at_ms < 201_000

    run_virtual(main())


@pytest.mark.parametrize("status", ["Pending", "Rejected"])
def test_16_boot_05_interval_zero_backs_off_on_its_own(status: str) -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["BootNotification"] = [boot_answer(status, 0)] * 4 + [ACCEPTED]
        async with rig.online():
            await until(lambda: len(rig.csms.of("BootNotification")) == 5)
        times = [call.at_ms for call in rig.csms.of("BootNotification")]
        waits = [later - earlier for earlier, later in itertools.pairwise(times)]
        for number, wait_ms in enumerate(waits):
            assert 10_000 * 2**number <= wait_ms <= 10_000 * 2**number + 10_100
        assert len({wait_ms % 1000 for wait_ms in waits}) > 1  # jitter

    run_virtual(main())


def test_16_boot_06_reconnect_without_restart_needs_no_boot() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            await asyncio.sleep(1)
        async with rig.online():
            await rig.station.append(*session_facts("tx-1"))
            await rig.drained()
        assert len(rig.csms.of("BootNotification")) == 1
        # 16-ST-05: and no status that the CSMS knows already
        assert len(rig.csms.of("StatusNotification")) == 3
        assert rig.station.link_states == [(True, "1.6"), (False, None)] * 2

    run_virtual(main())


@pytest.mark.parametrize("after_s", [0, 3600])
@pytest.mark.parametrize("answer", [ACCEPTED, boot_answer("Pending", 60), boot_answer("Rejected", 60)])
def test_16_boot_06_a_csms_that_has_forgotten_the_registration_is_told_of_a_boot(answer: Answer, after_s: int) -> None:
    """On the same connection, and what it refused so is no attempt: it goes again under another id, the same link."""

    async def main() -> None:
        rig = Rig()
        await rig.station.set("OCPPCommCtrlr.MessageAttempts[TransactionEvent]", "1")
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            await asyncio.sleep(after_s)
            rig.csms.on["BootNotification"] = [answer]
            rig.csms.knows_us = False
            heard = len(rig.csms.received)
            await rig.station.append(*session_facts("tx-1"))
            await until(lambda: len(rig.csms.of("BootNotification")) == 2)
            if answer is not ACCEPTED:
                await asyncio.sleep(55)
                assert rig.csms.actions()[heard:] == ["StartTransaction", "BootNotification"], "and no more until then"
            await rig.drained()
        assert len(rig.csms.of("StatusNotification")) == 6
        refused, taken = rig.csms.of("StartTransaction")
        assert refused.message_id != taken.message_id
        told = [action for action, _ in rig.transaction_calls()]
        assert told == ["StartTransaction", "StartTransaction", "MeterValues", "StopTransaction"]
        assert rig.dialect.delivery.counters.dropped == 0
        assert rig.station.link_states == [(True, "1.6"), (False, None)] * 2

    run_virtual(main())


def test_16_boot_06_a_driver_finds_out_that_the_registration_is_forgotten() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            rig.csms.on["BootNotification"] = [boot_answer("Pending", 60)]
            rig.csms.knows_us = False
            await rig.station.tell(AuthorizeWanted(7, TOKEN, 1))
            await until(lambda: len(rig.csms.of("BootNotification")) == 2)
            await asyncio.sleep(1)
            trigger = {"requestedMessage": "BootNotification"}
            assert await rig.csms.ask("TriggerMessage", trigger) == {"status": "Accepted"}
            await until(lambda: len(rig.csms.of("BootNotification")) == 3, within_s=5)
            await asyncio.sleep(1)
            await rig.station.tell(AuthorizeWanted(8, TOKEN, 1))
            await asyncio.sleep(1)
        assert [verdict.status for _, verdict, _, _ in rig.station.verdicts] == ["", "Accepted"]

    run_virtual(main())


@pytest.mark.parametrize("answer", ["taken", "SecurityError", "InternalError", None])
def test_16_boot_06_what_is_on_its_way_when_the_csms_is_found_to_have_forgotten_us_is_heard_of(answer: Answer) -> None:
    """StartTransaction follows an Authorize that is refused so: booked once, or again under another id."""

    async def main() -> None:
        rig = Rig()
        rig.csms.latency_s = 0.5
        rig.csms.on["Authorize"] = ["SecurityError"]
        if answer != "taken":
            rig.csms.on["StartTransaction"] = [answer]
        if answer == "SecurityError":  # which is no attempt
            await rig.station.set("OCPPCommCtrlr.MessageAttempts[TransactionEvent]", "1")
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            await asyncio.sleep(5)
            await rig.station.tell(AuthorizeWanted(7, TOKEN, 1))
            await asyncio.sleep(0.1)
            await rig.station.append(*session_facts("tx-1"))
            await rig.drained()
        assert len(rig.csms.of("BootNotification")) == 2
        starts = rig.csms.of("StartTransaction")
        assert len({call.message_id for call in starts}) == len(starts) == (1 if answer == "taken" else 2)
        told = [payload["transactionId"] for _, payload in rig.transaction_calls()[len(starts) :]]
        assert told == [100, 100]
        assert rig.dialect.delivery.counters.dropped == 0

    run_virtual(main())


def test_16_boot_06_a_message_that_is_always_refused_so_causes_no_loop_of_boots() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.defaults["StopTransaction"] = "SecurityError"
        async with rig.online():
            for number in range(60):
                await rig.station.append(*session_facts(f"tx-{number}"))
                await asyncio.sleep(60)
            await rig.drained(within_s=60 * 200)
        assert rig.dialect.delivery.counters.dropped == 60
        boots = [call.at_ms for call in rig.csms.of("BootNotification")]
        assert all(later - earlier >= 600_000 for earlier, later in itertools.pairwise(boots[1:]))

    run_virtual(main())


def test_16_boot_01_a_restarted_station_boots_again() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
        rig.start_gateway(boot_id="boot-2", software_version="0.2.0")
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 6)
        assert [call.payload["firmwareVersion"] for call in rig.csms.of("BootNotification")] == ["0.1.0", "0.2.0"]

    run_virtual(main())


def test_csms_that_asks_before_it_answers_the_boot_is_served() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["BootNotification"] = [None]
        async with rig.online():
            await until(lambda: rig.csms.actions() == ["BootNotification"])
            for _ in range(5):
                assert (await rig.csms.ask("GetConfiguration", {}))["configurationKey"]
            change = {"key": "MeterValueSampleInterval", "value": "30"}
            assert await rig.csms.ask("ChangeConfiguration", change) == {"status": "Accepted"}
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)

    run_virtual(main())


def test_heartbeat_is_skipped_while_other_traffic_flows_but_not_for_a_day() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.online():
            await until(lambda: len(rig.csms.of("StatusNotification")) == 3)
            for number in range(26 * 3600 // 250):
                state = ConnectorState.PREPARING if number % 2 == 0 else ConnectorState.AVAILABLE
                await rig.station.show(1, state)
                await asyncio.sleep(250)
        beats = rig.csms.of("Heartbeat")
        assert len(beats) == 1
        assert 86_390_000 <= beats[0].at_ms <= 86_470_000

    run_virtual(main())
