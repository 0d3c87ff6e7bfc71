"""What a connection has to do besides its steady work, while it ends."""

from __future__ import annotations

import asyncio
import contextlib

from agent.ocpp.dialect import Jobs


def test_a_connection_that_is_ending_takes_no_job() -> None:
    """News of the station come between the loss of the link and the end of its tasks."""
    jobs, taken, done = Jobs(), [], []

    async def job() -> None:
        done.append(True)

    async def connection() -> None:
        async with asyncio.TaskGroup() as tasks:
            jobs.open(tasks)
            tasks.create_task(asyncio.sleep(3_600))
            taken.append(jobs.later(job()))

    async def main() -> None:
        running = asyncio.create_task(connection())
        for _ in range(3):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.sleep(0)
        taken.append(jobs.later(job()))
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert (taken, done) == ([True, False], [True])
