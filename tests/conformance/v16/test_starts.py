"""StartTransaction at a CSMS that books it and does not say so in time, and of a token that is too long for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.facts import Token
from agent.sim.virtual_time import run_virtual
from tests.conformance.v16.rig import NumberingCsms, Rig
from tests.support.fake_csms import Received, until
from tests.support.fake_station import TOKEN, session_facts


def ids_of(rig: Rig) -> list[tuple[str, Any]]:
    """(action, transactionId) of all transaction calls; None for StartTransaction."""
    return [(action, payload.get("transactionId")) for action, payload in rig.transaction_calls()]


@pytest.mark.parametrize("restarted", [False, True])
def test_16_tx_04_a_start_that_was_booked_before_is_not_concurrent_with_itself(restarted: bool) -> None:
    """MicroOcpp issue 237: one transaction per card, and the link fell before the first answer."""

    async def main() -> None:
        rig = Rig()
        start, *rest = session_facts("tx-1")
        rig.csms.cut_on = lambda call: "after" if call.action == "StartTransaction" else None
        async with rig.online() as wire:
            await rig.station.append(start)
            await until(lambda: wire.cut_now)
        if restarted:
            rig.start_gateway()
        rig.csms.cut_on = lambda _call: None
        concurrent = {"transactionId": 100, "idTagInfo": {"status": "ConcurrentTx"}}
        rig.csms.on["StartTransaction"] = [concurrent] * 2
        async with rig.online():
            await rig.station.append(*rest)
            await rig.drained()
            assert rig.station.verdicts == []
            await rig.station.append(*session_facts("tx-2", start_ms=600_000))
            await rig.drained()
        assert ids_of(rig)[2:4] == [("MeterValues", 100), ("StopTransaction", 100)]
        ((token, verdict, _, tx_id),) = rig.station.verdicts
        assert (token, verdict.status, tx_id) == (TOKEN, "ConcurrentTx", "tx-2"), (
            "of what was never sent before it counts"
        )

    run_virtual(main())


def test_16_tx_04_a_start_that_is_refused_without_a_number_is_not_booked_whatever_was_sent_before() -> None:
    """CitrineOS answers 0 to what it refuses: the card charges somewhere else."""

    async def main() -> None:
        rig = Rig()
        await rig.station.append(session_facts("tx-1")[0])
        rig.start_gateway()  # the one before may have sent it
        rig.csms.on["StartTransaction"] = [{"transactionId": 0, "idTagInfo": {"status": "ConcurrentTx"}}]
        async with rig.online():
            await rig.drained()
        ((token, verdict, _, tx_id),) = rig.station.verdicts
        assert (token, verdict.status, tx_id) == (TOKEN, "ConcurrentTx", "tx-1")
        assert rig.station.csms_txs["tx-1"].csms_id == 0

    run_virtual(main())


@pytest.mark.parametrize("info", [{}, {"idTagInfo": None}, {"idTagInfo": {}}, {"idTagInfo": {"status": None}}])
def test_16_tx_09_where_nothing_is_said_of_a_card_it_charges_on(info: dict[str, Any]) -> None:
    """It was let in before; the number is kept."""

    async def main() -> None:
        rig = Rig()
        rig.csms.on["StartTransaction"] = [{"transactionId": 7} | info]
        async with rig.online():
            await rig.station.append(*session_facts("tx-1"))
            await rig.drained()
        assert rig.station.verdicts == []
        assert ids_of(rig) == [("StartTransaction", None), ("MeterValues", 7), ("StopTransaction", 7)]

    run_virtual(main())


class SlowCsms(NumberingCsms):
    """Takes 40 s for a start, longer than the station waits."""

    def _answer(self, received: Received) -> Any:
        self.latency_s = 40 if received.action == "StartTransaction" else 0.02
        return super()._answer(received)


def test_rpc_05_the_number_in_a_late_answer_is_the_transactions() -> None:
    async def main() -> None:
        rig = Rig(SlowCsms())
        async with rig.online():
            await rig.station.append(*session_facts("tx-1"), *session_facts("tx-2", start_ms=600_000))
            await rig.drained()
        of_one = [("StartTransaction", None), ("MeterValues", 100), ("StopTransaction", 100)]
        assert ids_of(rig) == of_one + [(action, number and 101) for action, number in of_one]
        assert [(verdict.status, tx_id) for _, verdict, _, tx_id in rig.station.verdicts] == [
            ("Accepted", "tx-1"),
            ("Accepted", "tx-2"),
        ]
        assert rig.dialect.delivery.counters.dropped == 0

    run_virtual(main())


def test_16_auth_11_a_token_that_does_not_fit_is_not_cut_to_another_customers() -> None:
    """Of a session that OCPP 2.0.1 allowed. What is said of the empty idTag is no word on that token."""

    async def main() -> None:
        rig = Rig()
        long = Token("9f0c6f2e-4a0b-4e0e-9d0e-1234567890ab", "Central")
        facts = [replace(fact, token=fact.token and long) for fact in session_facts("tx-1")]
        rig.csms.on["StartTransaction"] = [{"transactionId": 5, "idTagInfo": {"status": "Invalid"}}]
        await rig.station.append(*facts)
        async with rig.online():
            await rig.drained()
        (_, start), _, (_, stop) = rig.transaction_calls()
        assert start["idTag"] == "" and "idTag" not in stop
        ((token, verdict, _, tx_id),) = rig.station.verdicts
        assert (token.id_token, verdict.status, tx_id) == ("", "Invalid", "tx-1")

    run_virtual(main())
