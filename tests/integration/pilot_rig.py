"""What the wire tests of both pilot drivers share: waiting for a condition, and what a driver told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hal.ports import (
    Back,
    LossKind,
    Lost,
    PilotEvent,
)

DEADLINE_S = 5.0


async def until(condition: Callable[[], bool], what: str) -> None:
    """Poll for a condition; the deadline only bounds a failing test."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not condition():
        assert loop.time() < deadline, f"did not happen: {what}"
        await asyncio.sleep(0.002)


class Told:
    """What a driver told, in order."""

    def __init__(self) -> None:
        self.events: list[PilotEvent] = []
        self.react: Callable[[PilotEvent], None] = lambda event: None

    def __call__(self, event: PilotEvent) -> None:
        self.events.append(event)
        self.react(event)

    def latest(self, kind: type[PilotEvent]) -> PilotEvent | None:
        return next((event for event in reversed(self.events) if isinstance(event, kind)), None)

    def count(self, kind: type[PilotEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    async def until(self, event: PilotEvent, since: int = 0) -> None:
        await until(lambda: event in self.events[since:], f"{event} in {self.events[since:]}")

    async def until_latest(self, event: PilotEvent) -> None:
        await until(lambda: self.latest(type(event)) == event, f"{event} as the latest in {self.events}")

    async def until_lost(self, kind: LossKind) -> None:
        await until(lambda: self.count(Lost) > 0, f"loss in {self.events}")
        lost = self.latest(Lost)
        assert isinstance(lost, Lost)
        assert lost.kind is kind

    async def until_back(self, count: int = 1) -> None:
        await until(lambda: self.count(Back) >= count, f"Back number {count} in {self.events}")
