"""What the delivery pump makes of answers that come late, and what it says of messages that went before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agent.ocpp.frames import Payload
from agent.ocpp.retry import RetryPolicy
from agent.ocpp.rpc import CallOutcome, CallResult, LinkLost, TimedOut
from agent.sim.virtual_time import run_virtual
from tests.unit.ocpp.delivery_rig import CUT, DENIED, MUTE, NO, OK, TOLD, Peer, Pump


class Late(Peer):
    """Answers row 1 ``after_s`` after it came, with the number of that sending; the station waits 30 s."""

    after_s = 40.0

    async def call(
        self, action: str, payload: Payload, *, on_late: Callable[[Payload], None] | None = None, **more: Any
    ) -> CallOutcome:
        outcome = await super().call(action, payload, **more)
        if payload.get("row") == 1:
            assert on_late is not None
            asyncio.get_running_loop().call_later(self.after_s, on_late, {"number": len(self.sent)})
            await asyncio.sleep(30)
            return TimedOut()
        return outcome


@pytest.mark.parametrize(
    ("after_s", "beats", "sent"),
    [
        (40, True, [(1, 0), (2, 40_000)]),  # in the wait for the second attempt
        (40, False, [(1, 0), (2, 40_000)]),  # in the wait for any answer at all
        (100, True, [(1, 0), (1, 90_000), (2, 120_000)]),  # while the second is under way
    ],
)
@pytest.mark.parametrize("new_id", [True, False])
def test_rpc_05_a_late_answer_is_as_good_while_it_is_still_the_turn_of_its_row(
    after_s: float, beats: bool, sent: list[tuple[int, int]], new_id: bool
) -> None:
    async def main() -> None:
        pump, peer = Pump(TOLD, TOLD, new_id_on_retry=new_id), Late(answers_beats=beats)
        peer.after_s = after_s
        await pump.run(peer)
        assert [(row, at_ms) for row, _, _, at_ms in peer.sent] == sent
        assert [answer for answer, _ in pump.translator.taken] == [{"number": 1}, {}]
        assert pump.translator.given == []

    run_virtual(main())


def test_rpc_05_an_answer_that_comes_when_its_row_is_given_up_is_nobodys() -> None:
    async def main() -> None:
        pump, peer = Pump(TOLD, TOLD), Late([OK, OK, NO])
        pump.policy, peer.after_s = RetryPolicy(2, 60), 130
        await pump.run(peer)
        assert [(row, at_ms) for row, _, _, at_ms in peer.sent] == [(1, 0), (1, 90_000), (2, 120_000), (2, 180_000)]
        assert pump.translator.given == [1]
        assert [answer for answer, _ in pump.translator.taken] == [{}], "the second row's own"

    run_virtual(main())


class Overtaken(Late):
    """The second sending is answered in time, after the first's answer has come late."""

    after_s = 100.0

    async def call(
        self, action: str, payload: Payload, *, on_late: Callable[[Payload], None] | None = None, **more: Any
    ) -> CallOutcome:
        if payload.get("row") == 1 and self.sent:
            await Peer.call(self, action, payload, **more)
            await asyncio.sleep(20)
            return CallResult({"number": len(self.sent)})
        return await super().call(action, payload, on_late=on_late, **more)


def test_rpc_05_of_two_good_answers_the_first_counts() -> None:
    """That one was booked; the second may say that there is such a transaction already."""

    async def main() -> None:
        pump, peer = Pump(TOLD), Overtaken()
        await pump.run(peer)
        assert [(row, at_ms) for row, _, _, at_ms in peer.sent] == [(1, 0), (1, 90_000)]
        assert pump.translator.taken == [({"number": 1}, True)]
        assert pump.delivery.counters.delivered == 1

    run_virtual(main())


@pytest.mark.parametrize(
    ("outcomes", "again"),
    [
        ([OK], False),
        ([NO, OK], True),
        ([TimedOut(), OK], True),
        ([CUT, OK], True),
        ([LinkLost("cut"), OK], False),  # it waited for the slot
        ([DENIED, OK], False),
        ([CUT, DENIED, OK], True),
    ],
)
def test_what_may_have_been_booked_before_is_told_with_the_answer(outcomes: list[CallOutcome], again: bool) -> None:
    """Over connections."""

    async def main() -> None:
        pump = Pump()
        await pump.run(Peer(), for_s=1)  # so much for what the gateway before this one may have sent
        await pump.station.append(TOLD, TOLD)
        peer = Peer(outcomes)
        while pump.station.delivered_seq < 2:
            await pump.run(peer, for_s=1_000)
        assert pump.translator.taken == [({}, again), ({}, False)]

    run_virtual(main())


def test_the_first_row_may_have_been_sent_by_the_gateway_before() -> None:
    async def main() -> None:
        pump = Pump(MUTE, TOLD, TOLD)
        await pump.run(Peer())
        assert pump.translator.taken == [({}, True), ({}, False)]

    run_virtual(main())


@pytest.mark.parametrize("tried", [False, True])
def test_the_first_row_may_have_been_sent_by_another_dialect_meanwhile(tried: bool) -> None:
    """Whether this one had come to it before or not."""

    async def main() -> None:
        pump = Pump(TOLD)
        await pump.run(Peer(), for_s=1)
        await pump.station.append(TOLD, TOLD)
        if tried:
            await pump.run(Peer([LinkLost("cut")]))
        pump.delivery.others_spoke()
        await pump.run(Peer())
        assert pump.translator.taken[1:] == [({}, True), ({}, False)]

    run_virtual(main())
