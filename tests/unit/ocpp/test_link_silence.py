"""WS-05, WS-07, field fault 7: a link that pongs, and whose CSMS answers nothing. In virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from agent.ocpp.endpoint import Endpoint
from agent.ocpp.frames import Payload
from agent.ocpp.link import Link, LinkState
from agent.ocpp.link_failure import FailureKind, LinkFailure
from agent.ocpp.rpc import Priority
from agent.ocpp.session import Session
from agent.ocpp.version import Version
from agent.sim.virtual_time import now_ms, run_virtual

DAY_S = 86_400
DEAF = LinkFailure(FailureKind.SILENT, "answers nothing, though it pongs")
Frame = list[Any]


class Balancer:
    """It takes all and pongs. ``says``: what the CSMS behind it says to the CALL of this number and id, and after how
    many seconds."""

    subprotocol, root = "ocpp1.6", ""

    def __init__(self, says: Callable[[int, str], tuple[Frame, float] | None]) -> None:
        self.says = says
        self.calls = 0
        self.inbound: asyncio.Queue[bytes] = asyncio.Queue()

    async def recv(self) -> bytes:
        return await self.inbound.get()

    async def send(self, text: str) -> None:
        kind, message_id, *_ = json.loads(text)
        if kind != 2:
            return
        self.calls += 1
        if (said := self.says(self.calls, message_id)) is not None:
            frame, after_s = said
            asyncio.get_running_loop().call_later(after_s, self.inbound.put_nowait, json.dumps(frame).encode())

    async def ping(self) -> None:
        await asyncio.sleep(0.05)

    async def close(self, code: int, reason: str) -> None:
        pass


class Talk:
    """A Heartbeat so long after the end of the last; the first one after an hour, where they are counted."""

    supported: frozenset[str] = frozenset()

    def __init__(self, every_s: float, count: int | None = None) -> None:
        self.every_s, self.count = every_s, count

    async def handle(self, action: str, payload: Payload) -> Payload:
        raise NotImplementedError

    async def run(self, session: Session) -> None:
        if self.count is not None:
            await asyncio.sleep(3_600)
        for _ in range(DAY_S if self.count is None else self.count):
            await session.call("Heartbeat", {}, priority=Priority.STATUS)
            await asyncio.sleep(self.every_s)


async def live(talk: Talk, says: Callable[[int, str], tuple[Frame, float] | None], for_s: float) -> list[LinkState]:
    """What became of the link's failures within that time."""
    states: list[LinkState] = []

    async def connect(_endpoint: Endpoint) -> Balancer:
        return Balancer(says)

    link = Link(
        lambda: Endpoint("ws://csms", "CP-1", (Version.V16,)),
        lambda _version: talk,
        on_state=states.append,
        open=connect,
        random_source=random.Random(1),
        clock_ms=now_ms,
    )
    running = asyncio.create_task(link.run())
    await asyncio.sleep(for_s)
    running.cancel()
    await asyncio.wait([running])
    return [state for state in states if state.failure is not None]


def answer(message_id: str) -> Frame:
    return [3, message_id, {"currentTime": "2026-01-01T00:00:00Z"}]


def refusal(message_id: str) -> Frame:
    return [4, message_id, "InternalError", "", {}]


def test_a_csms_that_answers_nothing_is_left_after_ten_minutes_and_not_hammered() -> None:
    async def main() -> None:
        failures = await live(Talk(60), lambda _number, _id: None, DAY_S)
        assert {state.failure for state in failures} == {DEAF}
        waits = [state.wait_s for state in failures]
        assert 10 <= waits[0] <= 20
        for earlier, later in pairwise(waits[:6]):
            assert 2 * earlier <= later, "WS-05: no life of a minute, as nothing was answered"
        assert DAY_S / (700 + waits[-1]) <= len(failures) <= DAY_S / 600

    run_virtual(main())


def test_once_a_first_answer_has_come_the_next_dead_node_is_left_for_the_first_time() -> None:
    async def main() -> None:
        calls = 0

        def says(number: int, message_id: str) -> tuple[Frame, float] | None:
            nonlocal calls
            calls += number == 1  # one more connection
            return (answer(message_id), 1) if calls == 4 and number == 1 else None

        waits = [state.wait_s for state in await live(Talk(60), says, 4_000)]
        assert waits[2] > 40
        assert 10 <= waits[3] <= 20

    run_virtual(main())


@pytest.mark.parametrize(
    ("talk", "says"),
    [
        pytest.param(Talk(60), lambda number, id_: (answer(id_), 1) if number % 4 == 0 else None, id="one in four"),
        pytest.param(Talk(60), lambda _number, id_: (answer(id_), 40), id="late"),
        pytest.param(Talk(60), lambda number, id_: (refusal(id_), 1) if number % 4 == 0 else None, id="refusals"),
        pytest.param(Talk(60), lambda number, _id: ([2, f"c{number}", "Reset", {"type": "Soft"}], 1), id="its calls"),
        pytest.param(Talk(1_000, count=4), lambda _number, _id: None, id="four calls"),
        pytest.param(Talk(1, count=10), lambda _number, _id: None, id="soon over"),
    ],
)
def test_a_csms_that_says_something_or_was_asked_little_is_not_left(
    talk: Talk, says: Callable[[int, str], tuple[Frame, float] | None]
) -> None:
    async def main() -> None:
        assert await live(talk, says, DAY_S) == []

    run_virtual(main())
