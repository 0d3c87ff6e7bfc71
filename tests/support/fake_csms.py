"""A scripted CSMS and the link to it, both in memory.

Charter: answers CALLs of the station by script, remembers what came, speaks when told to. The wire
between it and ``Session`` is a pair of queues that can be cut. Every frame of the station must be
valid by its schema: ``Link`` opens the session with ``validate_outgoing``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.ocpp.dialect import Dialect
from agent.ocpp.session import Session, TransportClosed
from agent.sim.virtual_time import now_ms

Payload = dict[str, Any]
Answer = Payload | str | None
"""A CALLRESULT's payload, a CALLERROR's code, or silence."""


@dataclass(frozen=True)
class Received:
    """A CALL of the station, with its time of arrival in virtual milliseconds."""

    message_id: str
    action: str
    payload: Payload
    at_ms: int


class Wire:
    """The station's end of the link: a ``Transport``."""

    def __init__(self) -> None:
        self.to_csms: asyncio.Queue[str | None] = asyncio.Queue()
        self.to_station: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.cut_now = False
        self.code: int | None = None  # with which the CSMS closed it

    async def recv(self) -> bytes:
        data = await self.to_station.get()
        if data is None or self.cut_now:
            raise TransportClosed("cut", self.code)
        return data

    async def send(self, text: str) -> None:
        if self.cut_now:
            raise TransportClosed("cut")
        self.to_csms.put_nowait(text)

    async def close(self, code: int, reason: str) -> None:
        self.cut()

    def cut(self, code: int | None = None) -> None:
        """Both ends find the link dead, or closed by the CSMS with a code; what is under way is lost."""
        self.code = code
        self.cut_now = True
        self.to_station.put_nowait(None)
        self.to_csms.put_nowait(None)


@dataclass
class FakeCsms:
    """``on`` holds a script per action: a list of answers used up one by one, then ``default``s."""

    defaults: dict[str, Answer | Callable[[Payload], Answer]]
    on: dict[str, list[Answer]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    cut_on: Callable[[Received], str | None] = field(default=lambda _received: None)
    """Cut the link at this CALL: "before" it is taken, or "after" it was taken and before the answer."""
    close_code: int | None = None  # of such a cut
    latency_s: float = 0.02  # from a CALL to its answer
    is_dead: bool = False  # it takes all and answers nothing; the wire stays
    knows_us: bool = True  # False: all but BootNotification is refused with SecurityError, until there was one

    _wire: Wire | None = None
    _calls: int = 0
    _answers: dict[str, asyncio.Future[list[Any]]] = field(default_factory=dict)

    # --------------------------------------------------------------------------- what tests read

    def actions(self) -> list[str]:
        """What came, in order."""
        return [received.action for received in self.received]

    def of(self, *actions: str) -> list[Received]:
        """The CALLs of these actions, in order."""
        return [received for received in self.received if received.action in actions]

    # ------------------------------------------------------------------------------- as a peer

    async def call(self, action: str, payload: Payload, message_id: str | None = None) -> list[Any]:
        """Send a CALL and return the station's whole answer frame."""
        assert self._wire is not None, "no link"
        self._calls += 1
        message_id = message_id or f"csms-{self._calls}"
        answer = self._answers[message_id] = asyncio.get_running_loop().create_future()
        self._wire.to_station.put_nowait(json.dumps([2, message_id, action, payload]).encode())
        return await asyncio.wait_for(answer, 30)

    async def ask(self, action: str, payload: Payload) -> Payload:
        """As ``call``, for a CALLRESULT's payload."""
        frame = await self.call(action, payload)
        assert frame[0] == 3, frame
        answer: Payload = frame[2]
        return answer

    def inject(self, data: bytes) -> None:
        """Send anything at all."""
        assert self._wire is not None, "no link"
        self._wire.to_station.put_nowait(data)

    async def serve(self, wire: Wire) -> None:
        """Take and answer what comes over ``wire`` until it is cut."""
        self._wire = wire
        while (text := await wire.to_csms.get()) is not None:
            frame = json.loads(text)
            if frame[0] != 2:
                if (waiting := self._answers.pop(frame[1], None)) is not None:  # else: to something injected
                    waiting.set_result(frame)
                continue
            received = Received(frame[1], frame[2], frame[3], now_ms())
            cut = self.cut_on(received)
            if cut != "before":
                self.received.append(received)
            if cut is not None:
                wire.cut(self.close_code)
                return
            answer = self._answer(received)
            await asyncio.sleep(self.latency_s)
            if isinstance(answer, str):
                wire.to_station.put_nowait(json.dumps([4, frame[1], answer, "", {}]).encode())
            elif answer is not None:
                wire.to_station.put_nowait(json.dumps([3, frame[1], answer]).encode())

    def _answer(self, received: Received) -> Answer:
        if self.is_dead:
            return None
        self.knows_us = self.knows_us or received.action == "BootNotification"
        if not self.knows_us:
            return "SecurityError"
        if script := self.on.get(received.action):
            return script.pop(0)
        default = self.defaults.get(received.action, {})
        return default(received.payload) if callable(default) else default


async def converse(dialect: Dialect, csms: FakeCsms, wire: Wire, *, message_timeout_s: float = 30.0) -> None:
    """One connection from its opening to its end, as the gateway does it."""
    session = Session(
        wire,
        dialect.version,
        dialect.handle,
        dialect.supported,
        validate_outgoing=True,
        clock_ms=now_ms,
        message_timeout_s=message_timeout_s,
    )
    serving = asyncio.create_task(csms.serve(wire))
    conversing = asyncio.create_task(dialect.run(session))
    running = asyncio.create_task(session.run())
    try:
        await asyncio.wait({conversing, running}, return_when=asyncio.FIRST_COMPLETED)
        if conversing.done():
            conversing.result()
            await asyncio.wait({running}, timeout=1)
    finally:
        for task in (conversing, running, serving):
            task.cancel()
        failures = await asyncio.gather(conversing, running, serving, return_exceptions=True)
    for failure in failures:
        if isinstance(failure, Exception):
            raise failure


@asynccontextmanager
async def linked(dialect: Dialect, csms: FakeCsms, *, message_timeout_s: float = 30.0) -> AsyncIterator[Wire]:
    """A connection around a ``with`` block; cut at its end."""
    wire = Wire()
    conversation = asyncio.create_task(converse(dialect, csms, wire, message_timeout_s=message_timeout_s))
    await asyncio.sleep(0.001)
    try:
        yield wire
    finally:
        wire.cut()
        await conversation


async def until(condition: Callable[[], bool], *, within_s: float = 600.0) -> None:
    """Wait in virtual time for a condition."""
    async with asyncio.timeout(within_s):
        polls = 0
        while not condition():
            await asyncio.sleep(0.01 if polls < 200 else 0.5)
            polls += 1
