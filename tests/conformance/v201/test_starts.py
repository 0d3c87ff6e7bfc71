"""20-TE-06, 20-TE-07: whose a transaction is, where the CSMS did not take the event that says so, or answers late."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.facts import ChargingState, SampleContext, StopReason, Token, TransactionFact, Trigger, TxKind
from agent.ipc.port import TokenVerdict
from agent.sim.virtual_time import run_virtual
from tests.conformance.v201.rig import Rig
from tests.support.fake_station import TOKEN, sample, session_facts

BEGIN, END = sample(SampleContext.BEGIN, 0, 1_000), sample(SampleContext.END, 60_000, 2_000)


def _event(kind: TxKind, seq_no: int, trigger: Trigger, **more: Any) -> TransactionFact:
    return TransactionFact(kind, "tx-9", seq_no, 1, trigger, ChargingState.CHARGING, False, **more)


async def deliver(rig: Rig, *facts: TransactionFact) -> None:
    """On a connection of its own."""
    await rig.station.append(*facts)
    async with rig.online():
        await rig.drained()


@pytest.mark.parametrize("restarted", [False, True])
def test_20_te_06_where_the_start_was_given_up_the_next_event_says_whose_transaction_it_is(restarted: bool) -> None:
    """Once it is taken; what is said of the token then counts."""

    async def main() -> None:
        start = _event(TxKind.STARTED, 0, Trigger.REMOTE_START, samples=(BEGIN,), token=TOKEN, remote_start_id=77)
        rig = Rig()
        blocked = {"idTokenInfo": {"status": "Blocked"}}
        rig.csms.on["TransactionEvent"] = ["InternalError"] * 4 + [blocked]
        await deliver(rig, start)
        if restarted:
            rig.start_gateway()
        await deliver(
            rig,
            _event(TxKind.UPDATED, 1, Trigger.CHARGING_STATE_CHANGED),
            _event(TxKind.UPDATED, 2, Trigger.CHARGING_STATE_CHANGED),
            _event(TxKind.ENDED, 3, Trigger.EV_DEPARTED, samples=(END,)),
        )
        told = rig.events()[3:]
        assert [event["seqNo"] for event in told] == [1, 1, 2, 3]
        assert [event.get("idToken") for event in told] == [{"idToken": TOKEN.id_token, "type": "ISO14443"}] * 2 + [
            None
        ] * 2
        assert [event["transactionInfo"].get("remoteStartId") for event in told] == [77, 77, None, None]
        assert all(event["evse"] == {"id": 1, "connectorId": 1} for event in told)
        assert rig.station.verdicts == [(TOKEN, TokenVerdict("Blocked"), None, "tx-9")]
        assert rig.station.csms_txs == {}

    run_virtual(main())


def test_20_te_06_whoever_ends_it_the_payer_is_told_where_the_start_was_given_up() -> None:
    """What is said of the token, and the price, is the payer's then."""

    async def main() -> None:
        rig = Rig()
        blocked = {
            "idTokenInfo": {"status": "Blocked"},
            "updatedPersonalMessage": {"format": "UTF8", "content": "1 EUR"},
        }
        rig.csms.on["TransactionEvent"] = ["InternalError"] * 3 + [blocked]
        other = Token("MASTERPASS")
        await deliver(
            rig,
            _event(TxKind.STARTED, 0, Trigger.AUTHORIZED, samples=(BEGIN,), token=TOKEN),
            _event(
                TxKind.ENDED,
                1,
                Trigger.STOP_AUTHORIZED,
                samples=(END,),
                token=other,
                stopped_reason=StopReason.MASTER_PASS,
            ),
        )
        ended = rig.events()[-1]
        assert (ended["eventType"], ended["idToken"]["idToken"]) == ("Ended", TOKEN.id_token)
        assert rig.station.verdicts == [(TOKEN, TokenVerdict("Blocked"), None, None)]
        assert rig.station.prices == [(TOKEN, "1 EUR")]

    run_virtual(main())


def test_20_te_07_a_refusal_counts_whatever_else_is_said_beside_it() -> None:
    async def main() -> None:
        rig = Rig()
        rig.csms.on["TransactionEvent"] = [{"idTokenInfo": {"status": "Blocked", "evseId": ["1"]}}]
        await deliver(rig, session_facts("tx-1")[0])
        assert len(rig.events()) == 1
        assert rig.station.verdicts == [(TOKEN, TokenVerdict("Blocked"), None, "tx-1")]

    run_virtual(main())


def test_20_te_06_a_token_in_a_later_event_is_told_again_too_and_is_no_minor_matter() -> None:
    """The cable came first, and the CSMS wants no updates."""

    async def main() -> None:
        rig = Rig()
        rig.csms.on["TransactionEvent"] = [{}, *["InternalError"] * (3 * 3 + 3)]
        await deliver(
            rig,
            _event(TxKind.STARTED, 0, Trigger.CABLE_PLUGGED_IN, samples=(BEGIN,)),
            *(_event(TxKind.UPDATED, number, Trigger.CHARGING_STATE_CHANGED) for number in (1, 2, 3)),
            _event(TxKind.UPDATED, 4, Trigger.AUTHORIZED, token=TOKEN),
            _event(TxKind.ENDED, 5, Trigger.EV_DEPARTED, samples=(END,)),
        )
        assert [event["seqNo"] for event in rig.events()] == [0, *[1] * 3, *[2] * 3, *[3] * 3, *[4] * 3, 5]
        assert rig.events()[-1]["idToken"]["idToken"] == TOKEN.id_token

    run_virtual(main())


def test_20_te_07_a_verdict_that_comes_late_is_heard() -> None:
    """The CSMS takes 40 s to look the card up, longer than the station waits."""

    async def main() -> None:
        rig = Rig()
        rig.csms.on["TransactionEvent"] = [{"idTokenInfo": {"status": "Blocked"}}]
        async with rig.registered():
            rig.csms.latency_s = 40
            await rig.station.append(session_facts("tx-1")[0])
            await rig.drained()
        assert len(rig.events()) == 1
        assert rig.station.verdicts == [(TOKEN, TokenVerdict("Blocked"), None, "tx-1")]

    run_virtual(main())
