"""Waiting for something that may not happen: an event of asyncio, or a time, whichever comes first."""

from __future__ import annotations

import asyncio


async def happens(event: asyncio.Event, within_s: float | None) -> bool:
    """Whether ``event`` is set before the time is over; None: wait as long as it takes."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
