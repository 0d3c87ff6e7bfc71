"""Heartbeat: show that we live, and learn the time.

Charter: sends Heartbeat when nothing was exchanged for an interval; other traffic replaces it, but
at least one a day goes out, because only its answer carries the time. Same in 1.6 and 2.x.

Source: OCPP 1.6 section 4.6, OCPP 2.0.1 part 2 G02; checklist 1.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agent.ipc.port import StationPort
from agent.ocpp.dialect import Line
from agent.ocpp.registration import set_clock
from agent.ocpp.rpc import CallResult, Priority
from agent.ocpp.waiting import happens

CLOCK_EVERY_S: Final = 86_400.0
TIMER_RESOLUTION_S: Final = 0.001  # less than this is not worth a wait


async def beat(line: Line, station: StationPort) -> None:
    """One Heartbeat."""
    outcome = await line.call("Heartbeat", {}, priority=Priority.STATUS)
    if isinstance(outcome, CallResult):
        await set_clock(station, outcome.payload)


async def keep_beating(
    line: Line, station: StationPort, interval_s: Callable[[], float], changed: asyncio.Event
) -> None:
    """Beat until the link ends (``LinkGone``). ``interval_s`` is asked again every time, and when
    ``changed`` says that it may be another."""
    loop = asyncio.get_running_loop()
    last_try_s = last_beat_s = loop.time()
    while True:
        quiet_until_s = max(line.last_answer_s, last_try_s) + max(1.0, interval_s())
        due_s = min(quiet_until_s, max(last_beat_s + CLOCK_EVERY_S, last_try_s + 1.0))
        wait_s = due_s - loop.time()
        if wait_s > TIMER_RESOLUTION_S:
            changed.clear()
            await happens(changed, wait_s)
            continue
        last_try_s = last_beat_s = loop.time()
        await beat(line, station)
