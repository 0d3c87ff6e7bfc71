"""A CSMS process that floods the gateway: ``python -m tests.bench.flood PER_SECOND``.

Charter: prints its URL when it listens, floods from the first line of its standard input until that is
closed, prints its counts and ends.
A process of its own, so that its work does not delay the stamps of the bench. Half of the messages are
answered by the gateway alone, half need the station.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.bench.raw_csms import RawCsms

_MESSAGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("GetConfiguration", {"key": ["HeartbeatInterval"]}),
    ("GetCompositeSchedule", {"connectorId": 1, "duration": 60}),
)
_LONGEST_S = 1_800
_CATCH_UP_S = 0.1
_WINDOW = 6  # the gateway closes the link on a CSMS with more than 8 unanswered calls


class _Flood:
    def __init__(self, csms: RawCsms, per_second: int) -> None:
        self._csms = csms
        self._step_s = 1 / per_second
        self.sent = 0

    async def run(self) -> None:
        loop, messages = asyncio.get_running_loop(), itertools.cycle(_MESSAGES)
        due_s = loop.time()
        while True:
            await self._csms.connected.wait()
            due_s = max(due_s + self._step_s, loop.time() - _CATCH_UP_S)
            await asyncio.sleep(due_s - loop.time())
            if self._csms.unanswered >= _WINDOW:
                continue  # this turn is lost: the rate that is reported falls
            try:
                await self._csms.call(*next(messages))
            except (ConnectionError, ConnectionClosed):
                continue  # it will connect again
            self.sent += 1


async def _main(per_second: int) -> None:
    csms = RawCsms("1.6")
    print(await csms.start(), flush=True)
    await asyncio.wait_for(asyncio.to_thread(sys.stdin.readline), _LONGEST_S)
    flood = _Flood(csms, per_second)
    task = asyncio.create_task(flood.run())
    stdin = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    began_s = time.monotonic()
    await asyncio.wait({task, stdin}, timeout=_LONGEST_S, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    counts = {"sent": flood.sent, "answered": csms.results, "refused": csms.errors}
    print(json.dumps(counts | {"passed_s": time.monotonic() - began_s}), flush=True)
    await csms.stop()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
