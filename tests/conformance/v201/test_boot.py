"""B01 to B04, C01, G02: registration, what may be said before it, authorization of drivers, heartbeat."""

from __future__ import annotations

import asyncio

import pytest

from agent.core.facts import Token
from agent.core.status import ConnectorState
from agent.ipc.port import AuthorizeWanted, TokenVerdict
from agent.sim.virtual_time import now_ms, run_virtual
from tests.conformance.v201.rig import ACCEPTED, Rig
from tests.support.fake_csms import Answer, until
from tests.support.fake_station import TOKEN, session_facts

PENDING = ACCEPTED | {"status": "Pending", "interval": 60}
REJECTED = ACCEPTED | {"status": "Rejected", "interval": 60}
START = {"idToken": {"idToken": "AA", "type": "Central"}, "remoteStartId": 7}


REASONS = (
    *("ApplicationReset", "FirmwareUpdate", "LocalReset", "PowerUp", "RemoteReset", "ScheduledReset", "Triggered"),
    *("Unknown", "Watchdog"),
)


@pytest.mark.parametrize(("cause", "reason"), [*((each, each) for each in REASONS), ("Lightning", "Unknown")])
def test_b01_boot_says_who_and_why_and_then_tells_every_connector(cause: str, reason: str) -> None:
    async def main() -> None:
        rig = Rig()
        rig.start_gateway(boot_cause=cause)
        async with rig.registered():
            pass
        assert rig.csms.actions() == ["BootNotification", "StatusNotification", "StatusNotification"]
        assert rig.csms.received[0].payload == {
            "chargingStation": {
                "model": "Bench",
                "vendorName": "Example",
                "serialNumber": "S-0001",
                "firmwareVersion": "0.1.0",
            },
            "reason": reason,
        }
        assert [call.payload["evseId"] for call in rig.csms.of("StatusNotification")] == [1, 2]
        assert rig.station.clocks[0] == 1_795_507_200_000
        assert rig.station.link_states == [(True, "2.0.1"), (False, None)]

    run_virtual(main())


def test_b02_pending_serves_settings_and_reports_but_starts_nothing() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["BootNotification"] = [PENDING]
        entry = {"component": {"name": "A"}, "variable": {"name": "B"}, "variableAttribute": [{"value": "1"}]}
        rig.station.report_rows["FullInventory"] = [entry]
        await rig.station.append(*session_facts("tx-1"))
        async with rig.online():
            await rig.came("BootNotification")
            await asyncio.sleep(1)
            assert await rig.csms.ask("RequestStartTransaction", START) == {"status": "Rejected"}
            assert await rig.csms.ask("RequestStopTransaction", {"transactionId": "x"}) == {"status": "Rejected"}
            answer = await rig.csms.ask("GetBaseReport", {"requestId": 3, "reportBase": "FullInventory"})
            assert answer == {"status": "Accepted"}
            await rig.came("NotifyReport")
            await asyncio.sleep(50)
            assert rig.csms.actions() == ["BootNotification", "NotifyReport"]  # and nothing of the transaction
            await rig.drained()
        first, second = rig.csms.of("BootNotification")
        assert second.at_ms - first.at_ms == pytest.approx(60_000, abs=50)
        assert rig.station.commands == []

    run_virtual(main())


def test_b02_triggered_boot_does_not_wait_for_the_interval() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["BootNotification"] = [PENDING]
        async with rig.online():
            await rig.came("BootNotification")
            await asyncio.sleep(1)
            trigger = {"requestedMessage": "BootNotification"}
            assert await rig.csms.ask("TriggerMessage", trigger) == {"status": "Accepted"}
            first, second = await rig.came("BootNotification", 2)
            assert second.at_ms - first.at_ms < 2_000
            await rig.came("StatusNotification")
            assert await rig.csms.ask("TriggerMessage", trigger) == {"status": "Rejected"}

    run_virtual(main())


def test_b03_rejected_is_silent_and_refuses_calls() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["BootNotification"] = [REJECTED]
        async with rig.online():
            await rig.came("BootNotification")
            await asyncio.sleep(1)
            frame = await rig.csms.call("GetVariables", {"getVariableData": []})
            assert frame[0] == 4 and frame[2] == "OccurrenceConstraintViolation"  # the schema comes first
            frame = await rig.csms.call("ClearCache", {})
            assert frame[0] == 4 and frame[2] == "SecurityError"
            await asyncio.sleep(50)
            assert rig.csms.actions() == ["BootNotification"]
            await rig.came("StatusNotification")

    run_virtual(main())


@pytest.mark.parametrize("answer", [ACCEPTED, PENDING, REJECTED])
def test_b03_a_csms_that_has_forgotten_the_registration_is_told_of_a_boot(answer: Answer) -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.set("OCPPCommCtrlr.MessageAttempts[TransactionEvent]", "1")
        async with rig.registered():
            await asyncio.sleep(3600)
        rig.csms.on["BootNotification"] = [answer]
        rig.csms.knows_us = False
        async with rig.online():
            await rig.station.append(*session_facts("tx-1"))
            await rig.drained()
        assert [event["seqNo"] for event in rig.events()] == [0, 0, 1, 2, 3]
        assert rig.dialect.delivery.counters.dropped == 0
        boots = rig.csms.of("BootNotification")
        assert len(boots) == (2 if answer is ACCEPTED else 3)
        after = [call.action for call in rig.csms.received if call.at_ms > boots[-1].at_ms]
        assert after.count("StatusNotification") == 2, "all connectors are told anew"

    run_virtual(main())


def test_reconnect_without_restart_needs_no_boot() -> None:
    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            pass
        async with rig.online():
            await asyncio.sleep(5)
        assert rig.csms.actions().count("BootNotification") == 1

    run_virtual(main())


@pytest.mark.parametrize(("offline_s", "told"), [(30, [2]), (61, [1, 2])])
def test_b04_after_a_time_offline(offline_s: float, told: list[int]) -> None:
    """Longer than OfflineThreshold (60 s): all connectors; shorter: only the changed ones."""

    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            pass
        rig.csms.received.clear()
        await rig.station.show(2, ConnectorState.PREPARING)
        await asyncio.sleep(offline_s)
        async with rig.online():
            await asyncio.sleep(5)
        assert [call.payload["evseId"] for call in rig.csms.of("StatusNotification")] == told

    run_virtual(main())


AUTHORIZE_ANSWERS: list[tuple[Answer, TokenVerdict]] = [
    (
        {
            "idTokenInfo": {
                "status": "Accepted",
                "cacheExpiryDateTime": "2026-11-24T08:00:01.5+00:00",
                "groupIdToken": {"idToken": "FLEET", "type": "Central"},
            }
        },
        TokenVerdict("Accepted", "FLEET", 1_795_507_201_500),
    ),
    ({"idTokenInfo": {"status": "Blocked", "cacheExpiryDateTime": "soon"}}, TokenVerdict("Blocked")),
    ({"idTokenInfo": {"status": "Accepted", "evseId": [1, 2]}}, TokenVerdict("Accepted", everywhere=False)),
    ({"idTokenInfo": {"status": "Accepted", "evseId": [1]}}, TokenVerdict("NotAtThisLocation", everywhere=False)),
    ({"idTokenInfo": {"status": "Maybe"}}, TokenVerdict("Invalid")),
    ({"idTokenInfo": {"status": None}}, TokenVerdict("Invalid", everywhere=False)),
    ({"idTokenInfo": {"status": "Accepted", "evseId": ["2"]}}, TokenVerdict("Invalid", everywhere=False)),
    ({"idTokenInfo": {"status": "Accepted", "evseId": []}}, TokenVerdict("Accepted")),
    ("InternalError", TokenVerdict("")),
    (None, TokenVerdict("")),
]


@pytest.mark.parametrize(("answer", "verdict"), AUTHORIZE_ANSWERS)
def test_c01_authorize(answer: Answer, verdict: TokenVerdict) -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["Authorize"] = [answer]
        async with rig.registered():
            await rig.station.tell(AuthorizeWanted(5, Token("04AABB", "ISO15693"), 2))
            await until(lambda: bool(rig.station.verdicts))
        assert rig.csms.of("Authorize")[0].payload == {"idToken": {"idToken": "04AABB", "type": "ISO15693"}}
        assert rig.station.verdicts == [(Token("04AABB", "ISO15693"), verdict, 5, None)]

    run_virtual(main())


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(Token("4711", "KeyCode"), id="C04 PIN"),
        pytest.param(Token("door-3", "Local"), id="C06 local id"),
        pytest.param(Token("00B0D063C226", "MacAddress"), id="C06 MAC address"),
        pytest.param(Token("DE8EON123456789", "eMAID"), id="C03 eMAID"),
        pytest.param(Token("0be0fd4a", "Central"), id="C03 central"),
    ],
)
def test_the_csms_is_asked_about_a_token_of_any_type(token: Token) -> None:
    """C03, C04, C06: a keypad, a terminal or a vehicle's address is a token with its type, from whoever reads it."""

    async def main() -> None:
        rig = Rig()
        async with rig.registered():
            await rig.station.tell(AuthorizeWanted(5, token, 1))
            await until(lambda: bool(rig.station.verdicts))
        assert [call.payload for call in rig.csms.of("Authorize")] == [
            {"idToken": {"idToken": token.id_token, "type": token.token_type}}
        ]
        assert rig.station.verdicts == [(token, TokenVerdict("Accepted"), 5, None)]

    run_virtual(main())


def test_c01_offline_the_station_decides() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.station.tell(AuthorizeWanted(5, TOKEN, 1))
        assert rig.station.verdicts == [(TOKEN, TokenVerdict(""), 5, None)]

    run_virtual(main())


def test_g02_heartbeat_at_the_interval_of_the_boot() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["BootNotification"] = [ACCEPTED | {"interval": 120}]
        async with rig.registered():
            await rig.came("Heartbeat", 2)
        beats = [call.at_ms for call in rig.csms.of("Heartbeat")]
        assert beats[1] - beats[0] == pytest.approx(120_000, abs=1_000)
        assert rig.station.settings["OCPPCommCtrlr.HeartbeatInterval"] == "120"

    run_virtual(main())


def test_g02_an_interval_that_the_csms_sets_holds_at_once_and_over_a_reconnect() -> None:
    interval = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}

    async def main() -> None:
        rig = Rig()  # the boot said 300 s
        async with rig.registered():
            await asyncio.sleep(100)
            changed_ms = now_ms()
            await rig.csms.ask("SetVariables", {"setVariableData": [interval | {"attributeValue": "20"}]})
            first, second = (call.at_ms for call in await rig.came("Heartbeat", 2))
        assert first - changed_ms < 1_000, "20 s of silence were over long before"
        assert second - first == pytest.approx(20_000, abs=1_000)
        rig.csms.received.clear()
        async with rig.online():
            await asyncio.sleep(50)
        assert rig.csms.actions() == ["Heartbeat", "Heartbeat"]

    run_virtual(main())


def test_g02_other_messages_take_the_place_of_a_heartbeat() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["BootNotification"] = [ACCEPTED | {"interval": 60}]
        async with rig.registered():
            for state in (ConnectorState.PREPARING, ConnectorState.AVAILABLE) * 5:
                await asyncio.sleep(40)
                await rig.station.show(1, state)
            assert rig.csms.of("Heartbeat") == []
            await asyncio.sleep(65)
            assert len(rig.csms.of("Heartbeat")) == 1

    run_virtual(main())
