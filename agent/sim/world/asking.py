"""Orders under way from the back office to its station.

Charter: sends a CALL, waits for what becomes of it, and tells a lost answer from a station that does not answer.
At most 6 are under way at once (a station takes 8); more wait.

Units: seconds of the loop's clock.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from agent.sim.world.desk import Payload, frame_text
from agent.sim.world.wire import Wire

CALLS_MAX: Final = 6
TIMEOUT_S: Final = 30.0


class Fate(enum.StrEnum):
    """What became of an order."""

    RESULT = "result"
    ERROR = "error"
    LOST = "lost"  # the connection ended, or was disturbed
    SILENT = "silent"  # the connection was sound and the station said nothing: that is a violation
    OFFLINE = "offline"  # never sent


@dataclass(frozen=True, slots=True)
class Answer:
    """The station's answer: ``payload`` of a result, ``code`` of an error."""

    fate: Fate
    payload: Payload = field(default_factory=dict)
    code: str = ""

    @property
    def status(self) -> str:
        """``status`` of a result; "" where there is none."""
        return str(self.payload.get("status", ""))


@dataclass(frozen=True, slots=True)
class _Call:
    wire: Wire
    action: str
    answer: asyncio.Future[Answer]


class Asking:
    """See the module. ``wire()`` is the connection of the moment."""

    def __init__(self, wire: Callable[[], Wire | None], violation: Callable[[str], None]) -> None:
        self._wire = wire
        self._violation = violation
        self._slots = asyncio.Semaphore(CALLS_MAX)
        self._calls: dict[str, _Call] = {}
        self._last_number = 0

    async def ask(self, action: str, payload: Payload, timeout_s: float) -> Answer:
        """Send an order and wait for what becomes of it."""
        async with self._slots:
            wire = self._wire()
            if wire is None:
                return Answer(Fate.OFFLINE)
            self._last_number += 1
            call_id = f"order-{self._last_number}"
            call = self._calls[call_id] = _Call(wire, action, asyncio.get_running_loop().create_future())
            faults_before, was_live = wire.faults, wire.is_live
            wire.reply(frame_text([2, call_id, action, payload]))
            try:
                async with asyncio.timeout(timeout_s):
                    return await call.answer
            except TimeoutError:
                if not (was_live and wire.is_live and wire.faults == faults_before):
                    return Answer(Fate.LOST)
                self._violation(f"{action} was not answered")
                return Answer(Fate.SILENT)
            finally:
                del self._calls[call_id]

    def asked(self, call_id: object) -> str | None:
        """The action of an order that still waits for its answer; None: there is no such order."""
        call = self._calls.get(call_id) if isinstance(call_id, str) else None
        return None if call is None or call.answer.done() else call.action

    def answered(self, call_id: str, array: list[Any]) -> None:
        """The whole answer frame of an order that is ``asked``."""
        call = self._calls[call_id]
        if array[0] == 3 and len(array) == 3 and isinstance(array[2], dict):
            call.answer.set_result(Answer(Fate.RESULT, array[2]))
        elif array[0] == 4 and len(array) == 5:
            call.answer.set_result(Answer(Fate.ERROR, code=str(array[2])))
        else:
            self._violation(f"answer to {call.action} is {array!r:.80}")

    def lost(self, wire: Wire) -> None:
        """This connection has ended."""
        for call in self._calls.values():
            if call.wire is wire and not call.answer.done():
                call.answer.set_result(Answer(Fate.LOST))
