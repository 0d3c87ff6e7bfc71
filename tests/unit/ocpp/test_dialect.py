"""What a conversation leaves behind it when its link is gone."""

from __future__ import annotations

import asyncio

from agent.ocpp.dialect import LinkGone, until_link_gone
from agent.ocpp.rpc import LinkLost
from agent.sim.virtual_time import run_virtual


def test_whoever_waits_for_the_end_of_a_link_is_not_half_cancelled_behind_it() -> None:
    """What is done on the next one has time-outs; until Python 3.11.3 they work in no task that is."""

    async def fail() -> None:
        raise LinkGone(LinkLost("cut"))

    async def work() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            tasks.create_task(asyncio.sleep(3600))

    async def main() -> None:
        await until_link_gone(work())
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0

    run_virtual(main())
