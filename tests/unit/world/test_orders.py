"""The operator's orders: valid in both versions, answered by the real dialects, remembered rightly."""

from __future__ import annotations

import asyncio
import random

import pytest

from agent.ocpp.version import Version
from agent.sim.virtual_time import run_virtual
from agent.sim.world.asking import Fate
from agent.sim.world.order_words import STRANGER, Image, Wish
from agent.sim.world.orders import BUSY, Operator
from tests.support.fake_station import T0_MS, session_facts
from tests.unit.world.office_rig import OfficeRig

V16, V201 = Version.V16, Version.V201
BOTH = pytest.mark.parametrize("version", [V16, V201])


@BOTH
def test_every_wish_is_worded_validly_and_answered(version: Version) -> None:
    """Schema by the rig; the station answers all of them, and CALLERRORs are those of what it does not offer."""

    async def main() -> None:
        rig = OfficeRig(version)
        await rig.registered()
        await rig.station.append(*session_facts("tx-1")[:2])
        await rig.drained()
        images = (Image("https://updates.example/a.bundle"), Image("https://updates.example/b.bundle", "PEM", "c2ln"))
        operator = Operator(
            rig.office, random.Random(5), lambda: T0_MS, evses=(1, 2), tokens=("04A2B3C4D5E6F7",), images=images
        )
        for wish in Wish:
            for _ in range(40):
                order = await operator.order(wish)
                assert order is not None and order.answer.fate in (Fate.RESULT, Fate.ERROR)
        await operator.burst()
        rig.assert_clean()
        unsupported = {"ReserveNow", "CancelReservation", "UpdateFirmware", "SignedUpdateFirmware"}
        assert {error.split()[0] for error in operator.errors} <= unsupported  # the rig takes no updates
        assert {error.split()[1] for error in operator.errors} == {"NotSupported"}
        assert STRANGER in rig.office.mind.tokens and len(operator.orders) == 256
        assert set(operator.availability) == {0, 1, 2}

    run_virtual(main())


@BOTH
def test_an_unanswered_order_is_a_violation_only_on_a_sound_wire(version: Version) -> None:
    async def main() -> None:
        rig = OfficeRig(version)
        operator = Operator(rig.office, random.Random(1), lambda: T0_MS, evses=(1,), tokens=())
        assert await operator.order(Wish.RESET) is None
        wire = await rig.network.connect(rig.endpoint)  # nobody reads it
        order = await operator.order(Wish.CLEAR_CACHE)
        assert order is not None and order.answer.fate is Fate.SILENT
        assert list(rig.office.violations) == ["ClearCache was not answered"]
        rig.network.stall(100)
        assert (await rig.office.call("ClearCache", {})).fate is Fate.LOST
        await asyncio.sleep(100)
        rig.network.half_open()
        assert (await rig.office.call("ClearCache", {})).fate is Fate.LOST
        call = asyncio.create_task(rig.office.call("ClearCache", {}))
        await asyncio.sleep(1)
        wire.cut()
        assert (await call).fate is Fate.LOST
        assert (await rig.office.call("ClearCache", {})).fate is Fate.OFFLINE
        assert rig.office.counts["violations"] == 1

    run_virtual(main())


def test_availability_is_what_was_confirmed_last() -> None:
    async def main() -> None:
        rig = OfficeRig(V16)
        await rig.registered()
        operator = Operator(rig.office, random.Random(1), lambda: T0_MS, evses=(1, 2), tokens=())

        async def change(connector: int, kind: str) -> None:
            await operator.send(Wish.AVAILABILITY, "ChangeAvailability", {"connectorId": connector, "type": kind})

        await change(1, "Inoperative")
        assert operator.availability == {1: False}
        await change(9, "Operative")  # rejected: there is none
        assert operator.availability[9] is None
        await change(0, "Operative")  # all of them are
        assert operator.availability == {0: True, 1: True, 2: True, 9: None}
        rig.network.half_open()
        await change(1, "Operative")
        assert operator.availability[1] is None  # it may have taken it

    run_virtual(main())


def test_rates_of_orders_hold_on_average() -> None:
    async def main() -> None:
        rig = OfficeRig(V16)
        operator = Operator(rig.office, random.Random(1), lambda: T0_MS, evses=(1,), tokens=(), rates=BUSY)
        running = asyncio.create_task(operator.run())
        await asyncio.sleep(100 * 86_400)
        running.cancel()
        expected = 100 * (BUSY.total + 4 * BUSY.bursts)
        assert expected * 0.9 < operator.counts["offline"] < expected * 1.1

    run_virtual(main())
