"""A whole session over a real WebSocket with the ``ocpp`` package's ChargePoint as strict, independent CSMS."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call, call_result
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from agent.core.commands import RemoteStop
from agent.core.status import ConnectorState, FaultCode
from agent.ipc.port import AuthorizeWanted
from agent.ocpp.backoff import BackoffSettings
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.link import Link
from agent.ocpp.version import Version
from tests.conformance.v16.rig import Rig
from tests.support.fake_station import TOKEN, session_facts


class StrictCsms(ChargePoint):  # the package has no types
    """Validates every message against the schemas and remembers it."""

    seen: list[tuple[str, dict[str, Any]]]

    def _note(self, action: str, fields: dict[str, Any]) -> None:
        self.seen.append((action, fields))

    @on("BootNotification")
    def boot(self, **fields: Any) -> Any:
        self._note("BootNotification", fields)
        return call_result.BootNotification("2026-11-24T08:00:00.123456+00:00", 300, "Accepted")

    @on("StatusNotification")
    def status(self, **fields: Any) -> Any:
        self._note("StatusNotification", fields)
        return call_result.StatusNotification()

    @on("Authorize")
    def authorize(self, **fields: Any) -> Any:
        self._note("Authorize", fields)
        return call_result.Authorize({"status": "Accepted"})

    @on("StartTransaction")
    def start_transaction(self, **fields: Any) -> Any:
        self._note("StartTransaction", fields)
        return call_result.StartTransaction(0, {"status": "Accepted"})

    @on("MeterValues")
    def meter_values(self, **fields: Any) -> Any:
        self._note("MeterValues", fields)
        return call_result.MeterValues()

    @on("StopTransaction")
    def stop_transaction(self, **fields: Any) -> Any:
        self._note("StopTransaction", fields)
        return call_result.StopTransaction()


@pytest.mark.wire
def test_a_session_with_an_independent_peer() -> None:
    async def main() -> None:
        rig = Rig()
        seen: list[tuple[str, dict[str, Any]]] = []
        peers: asyncio.Queue[StrictCsms] = asyncio.Queue()

        async def accept(connection: ServerConnection) -> None:
            peer = StrictCsms("CP-1", connection)
            peer.seen = seen
            peers.put_nowait(peer)
            await peer.start()

        async with serve(accept, "127.0.0.1", 0, subprotocols=[Subprotocol("ocpp1.6")]) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            endpoint = Endpoint(f"ws://127.0.0.1:{port}/ocpp", "CP-1", versions=(Version.V16,))
            link = Link(
                lambda: endpoint,
                lambda _version: rig.dialect,
                backoff=BackoffSettings(),
                validate_outgoing=True,
                random_source=random.Random(1),
            )
            running = asyncio.create_task(link.run())
            peer = await asyncio.wait_for(peers.get(), 5)
            await _until(lambda: len(seen) == 4)
            await rig.station.tell(AuthorizeWanted(1, TOKEN, 1))
            await rig.station.show(1, ConnectorState.FAULTED, FaultCode.DIODE)
            facts = session_facts("tx-1")
            await rig.station.append(*facts[:-1])
            await _until(lambda: rig.station.delivered_seq == 3)
            answer = await peer.call(call.RemoteStopTransaction(0))
            assert answer.status == "Accepted"
            assert rig.station.commands == [RemoteStop("tx-1")]
            keys = await peer.call(call.GetConfiguration())
            assert len(keys.configuration_key) > 25
            await rig.station.append(facts[-1])
            await _until(lambda: rig.station.delivered_seq == 4)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        actions = [action for action, _ in seen]
        assert actions[:4] == ["BootNotification"] + ["StatusNotification"] * 3
        assert [action for action in actions[4:] if "Transaction" in action or action == "MeterValues"] == [
            "StartTransaction",
            "MeterValues",
            "StopTransaction",
        ]
        assert "Authorize" in actions
        assert rig.station.link_states == [(True, "1.6"), (False, None)]

    asyncio.run(main())


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)
