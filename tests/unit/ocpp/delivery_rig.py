"""A delivery pump without any dialect, and CSMS that answer it by script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.core.facts import BootFact, ClockFact, Fact, SecurityFact
from agent.ipc.port import CsmsTx, Progress, Record
from agent.ocpp.delivery import Delivery, Message
from agent.ocpp.dialect import Line, LinkGone
from agent.ocpp.frames import Payload
from agent.ocpp.retry import RetryPolicy
from agent.ocpp.rpc import CallError, CallOutcome, CallResult, LinkLost, Priority, TimedOut
from agent.sim.virtual_time import now_ms
from tests.support.fake_station import FakeStation

OK = CallResult({})
NO = CallError("InternalError", "")
DENIED = CallError("SecurityError", "")
CUT = LinkLost("cut", sent=True)
TOO_BIG = LinkLost("closed by the CSMS: 1009", 1009, sent=True)


@dataclass
class Peer:
    """Outcomes by script; when it is used up everything is taken. Heartbeats are answered all the same, or not."""

    script: list[CallOutcome] = field(default_factory=list)
    sent: list[tuple[int, str, Priority, int]] = field(default_factory=list)  # (row, id, priority, at)
    forms: list[str] = field(default_factory=list)
    beats: int = 0
    answers_beats: bool = True
    silent_until_ms: int = 0  # nothing at all is answered before

    async def call(
        self,
        action: str,
        payload: dict[str, Any],
        *,
        priority: Priority,
        timeout_s: float | None = None,
        message_id: str | None = None,
        on_late: Callable[[Payload], None] | None = None,
    ) -> CallOutcome:
        if action == "Heartbeat":
            self.beats += 1
            return OK if self.answers_beats and now_ms() >= self.silent_until_ms else TimedOut()
        assert message_id is not None
        self.forms.append(payload.get("form", "full"))
        self.sent.append((payload["row"], message_id, priority, now_ms()))
        await asyncio.sleep(0)
        if now_ms() < self.silent_until_ms:
            return TimedOut()
        return self.script.pop(0) if self.script else OK


@dataclass
class Plain:
    """Boot facts are messages, security facts go once, everything else concerns nobody."""

    given: list[int] = field(default_factory=list)
    taken: list[tuple[Payload, bool]] = field(default_factory=list)  # answers, and whether the message went before
    action: str = "Any"
    full: Payload = field(default_factory=dict)
    shorter: tuple[Payload, ...] = ()

    async def begin(self, progress: Progress) -> None:
        pass

    async def render(self, record: Record) -> Message | None:
        if isinstance(record.fact, BootFact | SecurityFact):
            shorter = tuple({"row": record.seq} | each for each in self.shorter)
            once = isinstance(record.fact, SecurityFact)
            return Message(self.action, {"row": record.seq} | self.full, once=once, shorter=shorter)
        return None

    async def answered(self, record: Record, message: Message, answer: dict[str, Any]) -> CsmsTx | None:
        self.taken.append((answer, message.again))
        return None

    async def given_up(self, record: Record) -> CsmsTx | None:
        self.given.append(record.seq)
        return CsmsTx(f"tx-{record.seq}", -1, given_up=True)


TOLD, MUTE, ONCE = BootFact("PowerUp", "1"), ClockFact(0, "x", 0), SecurityFact("E", "")


class Pump:
    def __init__(self, *facts: Fact, new_id_on_retry: bool = True) -> None:
        self.station = FakeStation()
        self.translator = Plain()
        self.policy = RetryPolicy(3, 60)
        self.delivery = Delivery(
            self.station, "CP-1", self.translator, lambda: self.policy, new_id_on_retry=new_id_on_retry
        )
        self.facts = facts

    async def run(self, peer: Peer, for_s: float = 10_000) -> None:
        """One connection that lasts ``for_s``, or until the script loses the link."""
        if self.facts and not self.station.ledger:
            await self.station.append(*self.facts)
        try:
            async with asyncio.timeout(for_s):
                await self.delivery.run(Line(peer, on_denied=lambda: True))
        except (TimeoutError, LinkGone):
            pass
