"""A whole life over a real WebSocket, with the ``ocpp`` package's ChargePoint as the CSMS.

It is an independent peer: its own parser, and its own schema check of both directions. What it cannot
accept, it answers with a CALLERROR, which shows here as a retry or as a missing call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import ocpp.v201
import pytest
from ocpp.routing import on
from ocpp.v201 import call, call_result
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from agent.core.status import ConnectorState
from agent.ipc.port import AuthorizeWanted
from agent.ocpp.dialect import Dialect
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.link import Link
from agent.ocpp.version import Version
from tests.conformance.v201.rig import Rig
from tests.support.fake_station import TOKEN, session_facts

pytestmark = pytest.mark.wire

DEADLINE_S = 10
NOW = "2026-11-24T08:00:00Z"


class Csms(ocpp.v201.ChargePoint):
    """Accepts everything and remembers it."""

    def __init__(self, identity: str, connection: Any) -> None:
        super().__init__(identity, connection)
        self.received: list[tuple[str, dict[str, Any]]] = []

    def of(self, action: str) -> list[dict[str, Any]]:
        return [payload for name, payload in self.received if name == action]

    @on("BootNotification")
    def on_boot(self, **payload: Any) -> call_result.BootNotification:
        self.received.append(("BootNotification", payload))
        return call_result.BootNotification(current_time=NOW, interval=300, status="Accepted")

    @on("StatusNotification")
    def on_status(self, **payload: Any) -> call_result.StatusNotification:
        self.received.append(("StatusNotification", payload))
        return call_result.StatusNotification()

    @on("Authorize")
    def on_authorize(self, **payload: Any) -> call_result.Authorize:
        self.received.append(("Authorize", payload))
        return call_result.Authorize(id_token_info={"status": "Accepted"})

    @on("TransactionEvent")
    def on_transaction_event(self, **payload: Any) -> call_result.TransactionEvent:
        self.received.append(("TransactionEvent", payload))
        return call_result.TransactionEvent()

    @on("NotifyReport")
    def on_notify_report(self, **payload: Any) -> call_result.NotifyReport:
        self.received.append(("NotifyReport", payload))
        return call_result.NotifyReport()

    @on("Heartbeat")
    def on_heartbeat(self) -> call_result.Heartbeat:
        self.received.append(("Heartbeat", {}))
        return call_result.Heartbeat(current_time=NOW)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def _conversation(rig: Rig, csms: Csms) -> None:
    await until(lambda: len(csms.of("StatusNotification")) == 2)
    await rig.station.show(1, ConnectorState.PREPARING)
    await rig.station.tell(AuthorizeWanted(1, TOKEN, 1))
    await until(lambda: bool(rig.station.verdicts))
    await rig.station.append(*session_facts("4b3f6a52-2f0b-4b7c-8d33-0a4c9e6d7f10"))
    await until(lambda: rig.station.delivered_seq == 4)
    assert [event["seq_no"] for event in csms.of("TransactionEvent")] == [0, 1, 2, 3]
    assert [each["connector_status"] for each in csms.of("StatusNotification")] == [
        "Available",
        "Available",
        "Occupied",
    ]

    item = {"component": {"name": "TxCtrlr"}, "variable": {"name": "EVConnectionTimeOut"}}
    values = await csms.call(call.GetVariables(get_variable_data=[item]))
    assert values.get_variable_result[0]["attribute_value"] == "120"
    start = call.RequestStartTransaction(id_token={"idToken": "AA", "type": "Central"}, remote_start_id=1)
    assert (await csms.call(start)).status == "Accepted"
    assert (await csms.call(call.Reset(type="OnIdle"))).status == "Accepted"
    report = call.GetBaseReport(request_id=5, report_base="FullInventory")
    assert (await csms.call(report)).status == "Accepted"
    await until(lambda: len(csms.of("NotifyReport")) == 2)
    assert (await csms.call(call.TriggerMessage(requested_message="Heartbeat"))).status == "Accepted"
    await until(lambda: len(csms.of("Heartbeat")) == 1)


def test_a_whole_life_with_an_independent_strict_peer() -> None:
    async def main() -> None:
        rig = Rig()
        row = {"component": {"name": "A"}, "variable": {"name": "V"}, "variableAttribute": [{"value": "1"}]}
        rig.station.report_rows["FullInventory"] = [row] * 21
        peers: asyncio.Queue[Csms] = asyncio.Queue()

        async def accept(connection: ServerConnection) -> None:
            csms = Csms("CP-1", connection)
            peers.put_nowait(csms)
            await csms.start()

        def dialect(version: Version) -> Dialect:
            assert version is Version.V201
            return rig.dialect

        async with serve(accept, "127.0.0.1", 0, subprotocols=[Subprotocol("ocpp2.0.1")]) as server:
            port = server.sockets[0].getsockname()[1]
            endpoint = Endpoint(f"ws://127.0.0.1:{port}/ocpp", "CP-1", (Version.V201,))
            link = Link(lambda: endpoint, dialect, validate_outgoing=True, random_source=random.Random(1))
            running = asyncio.create_task(link.run())
            try:
                await _conversation(rig, await asyncio.wait_for(peers.get(), DEADLINE_S))
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        assert rig.dialect.delivery.counters.retried == 0

    asyncio.run(main())
