"""RPC-03: a CSMS in PHP writes an empty object as an empty array."""

from __future__ import annotations

import asyncio

from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import NumberingCsms, Rig
from tests.support.fake_csms import Answer, Received
from tests.support.fake_station import session_facts


class PhpCsms(NumberingCsms):
    def _answer(self, received: Received) -> Answer:
        answer = super()._answer(received)
        return [] if answer == {} else answer  # type: ignore[return-value]


def test_an_empty_array_answers_what_an_empty_object_does() -> None:
    """Nothing is sent again, but what must have fields in its answer: there the schema misses them."""

    async def main() -> None:
        rig = Rig(PhpCsms())
        rig.csms.on["StartTransaction"] = [{}]
        await rig.station.append(*session_facts("tx-1"))
        async with rig.online():
            await rig.drained()
            await asyncio.sleep(3_600)
        told = [action for action, _ in rig.transaction_calls()]
        assert told == ["StartTransaction", "StartTransaction", "MeterValues", "StopTransaction"]
        assert len(rig.csms.of("StatusNotification")) == 3

    run_virtual(main())
