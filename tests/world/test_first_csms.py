"""A station that works alone and then gets a CSMS, or loses it for a while: whose is what it has written?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent.core.facts import Fact
from agent.ledger.reader import LedgerReader
from agent.ledger.state import Namespace
from agent.sim.scenario.play import play
from agent.sim.scenario.verbs import Message, cut_power, drop_link, restore_link, restore_power
from agent.sim.scenario.world_rig import WorldRig, on_a_world_rig
from tests.support.fake_station import session_facts
from tests.world.test_what_a_start_finds import GONE_EVSE, ONE_SESSION, OldWorld, write

SESSION = session_facts("tx-alone")
OPEN = session_facts("tx-open", evse=GONE_EVSE)[:-1]


class SomeSite(OldWorld):
    """Its owner writes ``[csms]`` into the configuration, or takes it away. The gateway without one is a link down."""

    def configure(self, *, csms: bool) -> None:
        self._grounds = replace(self._grounds, config=replace(self.config, csms=self.config.csms if csms else None))


async def start(rig: WorldRig, *, csms: bool, with_rows: Sequence[Fact] = ()) -> None:
    """After a power cut, with rows that another run has written meanwhile."""
    assert isinstance(rig.world, SomeSite)
    await rig.wait(2_000)  # lazy changes
    await rig.do(cut_power())
    await rig.do(restore_link() if csms else drop_link())
    rig.world.configure(csms=csms)
    if with_rows:
        write(rig.world.disk.path, with_rows)
    await rig.do(restore_power())
    await rig.wait(120_000)


def told(rig: WorldRig) -> list[Message]:
    """What has come of transactions, without readings and what was sent twice."""
    heard = [each for each in rig.world.listener.told if not each.repeated]
    return [each.message for each in heard if each.message in (Message.START, Message.STOP)]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_new_csms_is_not_told_what_the_station_did_alone(version: str) -> None:
    """Over several starts; and of a transaction that is open then, it hears no more than the end."""

    async def story(rig: WorldRig) -> None:
        await start(rig, csms=False)
        await start(rig, csms=False, with_rows=SESSION)
        assert told(rig) == []
        await start(rig, csms=True, with_rows=OPEN)
        assert told(rig) == [Message.STOP]
        await play(ONE_SESSION, rig)
        assert told(rig) == [Message.STOP, Message.START, Message.STOP]
        await rig.wait(2_000)
        with LedgerReader(rig.world.disk.path) as reader:
            assert not reader.state(Namespace.CSMS_TX) and set(reader.state(Namespace.CURSOR)) == {
                "csms",
                "accepted by",
            }
        await start(rig, csms=True, with_rows=SESSION)
        assert told(rig)[3:] == [Message.START, Message.STOP], "once only: from now on all is told"

    on_a_world_rig(version, story, SomeSite)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_what_a_csms_had_not_heard_when_it_was_taken_away_waits_for_it(version: str) -> None:
    async def story(rig: WorldRig) -> None:
        await start(rig, csms=False, with_rows=SESSION)
        await start(rig, csms=False)
        assert told(rig) == []
        await start(rig, csms=True)
        assert told(rig) == [Message.START, Message.STOP]

    on_a_world_rig(version, story, SomeSite)
