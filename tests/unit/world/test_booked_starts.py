"""A start that the back office books and answers late, or not at all: it is booked once, and goes on."""

from __future__ import annotations

import asyncio

import pytest

from agent.ocpp.version import Version
from agent.sim.virtual_time import run_virtual
from agent.sim.world.manners import Manner, Manners
from tests.support.fake_csms import until
from tests.support.fake_station import session_facts
from tests.unit.world.office_rig import FIRST, OfficeRig, assert_whole, one

V16, V201 = Version.V16, Version.V201


@pytest.mark.parametrize("version", [V16, V201])
def test_a_start_that_is_answered_late_every_time_is_booked_once(version: Version) -> None:
    async def main() -> None:
        rig = OfficeRig(version)
        rig.office.script(FIRST[version], *[Manner.LATE] * 3)
        await rig.registered()
        await rig.station.append(*session_facts("tx-1"))
        await rig.drained()
        assert_whole(one(rig), version)
        assert one(rig).repeats == 0 and not rig.office.excuses.excused
        assert rig.invalid == [] and not rig.office.violations

    run_virtual(main())


def test_16_tx_09_a_start_that_comes_again_is_concurrent_with_itself() -> None:
    """One transaction per card, as some count it; the station knows better."""

    async def main() -> None:
        rig = OfficeRig(V16, manners=Manners(booked_anyway=1.0))
        rig.office.book.next_number = 1
        rig.office.script("StartTransaction", Manner.CLOSE)
        connections = asyncio.create_task(rig.keep_connected())
        await until(lambda: rig.office.registration == "Accepted")
        await rig.station.append(*session_facts("tx-1"))
        await rig.drained()
        assert_whole(one(rig), V16)
        assert one(rig).repeats == 1
        assert [tx_id for *_, tx_id in rig.station.verdicts] == [None], "that of the stop"
        connections.cancel()

    run_virtual(main())
