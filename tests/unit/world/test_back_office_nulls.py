"""The model back office writes nulls for optional fields, and complains of a station that does not see past them."""

from __future__ import annotations

import pytest

from agent.ocpp import schema
from agent.ocpp.answers import Answers
from agent.ocpp.frames import Payload
from agent.ocpp.version import Version
from agent.sim.virtual_time import run_virtual
from agent.sim.world.manners import Manners
from tests.support.fake_station import session_facts
from tests.unit.world.office_rig import OfficeRig

BOTH = pytest.mark.parametrize("version", [Version.V16, Version.V201])


async def told_once(version: Version) -> OfficeRig:
    rig = OfficeRig(version)
    await rig.registered()
    rig.office.mind.manners = Manners(nulls=1.0)
    await rig.station.append(*session_facts("tx-1"))
    await rig.drained()
    return rig


@BOTH
def test_nulls_break_the_schema_and_cost_nothing(version: Version) -> None:
    async def main() -> None:
        rig = await told_once(version)
        [booked] = rig.office.book.transactions.values()
        assert (booked.starts, booked.ends, booked.repeats, booked.disorder) == (1, 1, 0, [])
        assert not rig.office.violations and any("null" in each for each in rig.invalid)

    run_virtual(main())


@BOTH
def test_control_a_station_that_takes_no_nulls_sends_again_what_it_was_answered(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(_: Answers, action: str, payload: Payload) -> list[str]:
        return list(schema.check_response(version, action, payload))

    monkeypatch.setattr(Answers, "take", strict)

    async def main() -> None:
        rig = await told_once(version)
        first = "StartTransaction" if version.is_16 else "TransactionEvent"
        assert f"{first} comes again after an answer that says enough" in rig.office.violations

    run_virtual(main())
