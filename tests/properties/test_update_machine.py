"""Whatever happens to an update, in whatever order: the machine has an answer, and its promises hold.

A station is driven by random calls that it may make, power cuts and restarts among them. ``Desk.take`` checks the rules
of every step: saved before acted, one act at a time, sessions kept out exactly while they must be, statuses legal and
never twice. In the end every update comes to its end.
"""

from __future__ import annotations

from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core.facts import UpdateVia
from agent.firmware.errors import Refusal
from agent.firmware.machine import Act, UpdateMachine
from agent.firmware.phases import CANCELLABLE, Phase
from agent.ipc.updates import FetchStep
from tests.support.update_desk import NOW_MS, OLD_SLOT, Desk, order

LIKELY: Final = {
    Phase.IDLE: "ask ask ask hand reboot:new",
    Phase.SCHEDULED: "wait:100 wait:100 ask hand",
    Phase.DOWNLOADING: "progress paused lost staged staged staged:unsigned staged:nothing failed refused away ask hand",
    Phase.PAUSED: "resumed progress staged lost lost:for_good refused failed away back ask hand",
    Phase.RETRYING: "wait:5 wait:100 ask hand",
    Phase.STAGED: "wait:5 wait:100 charge ask hand",
    Phase.WAITING: "leave leave charge ask hand",
    Phase.REBOOTING: "reboot:new reboot:new reboot:old",
    Phase.REVERTING: "stays reboot:old reboot:new",
}
"""What comes next, as a rule; in the other phases that is the end of an act."""

ENDS: Final = {
    Act.ACTIVATE: "activated activated unreadable stuck",
    Act.TEST: "passed passed faulty",
    Act.CONFIRM: "confirmed unconfirmed",
}
ANY_TIME: Final = "charge leave away back wait:0 wait:100 restart reboot:new reboot:good reboot:old reboot:old_new"

moments_ms = st.sampled_from([0, 0, NOW_MS, NOW_MS + 50_000])
requests = st.fixed_dictionaries(
    {
        "via": st.sampled_from([UpdateVia.SIGNED, UpdateVia.PLAIN]),
        "retrieve_wall_ms": moments_ms,
        "install_wall_ms": st.none() | moments_ms,
        "retries": st.sampled_from([None, 0, 1, 2]),
        "retry_interval_s": st.sampled_from([None, 0, 10]),
    }
)


class UpdateOfAStation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.asked = 0

    def happens(self, word: str, data: st.DataObject) -> None:
        if word == "ask":
            self.asked += 1
            wanted: dict[str, Any] = data.draw(requests)
            self.desk.request = order(request_id=self.asked, **wanted)
        elif word == "refused":
            word = f"refused:{data.draw(st.sampled_from(Refusal)).value}"
        self.desk.do(word)

    @precondition(lambda self: self.desk.phase in LIKELY)
    @rule(data=st.data())
    def goes_on(self, data: st.DataObject) -> None:
        self.happens(data.draw(st.sampled_from(LIKELY[self.desk.phase].split())), data)

    @precondition(lambda self: self.desk.pending in ENDS)
    @rule(data=st.data())
    def act_ends(self, data: st.DataObject) -> None:
        assert self.desk.pending is not None
        self.happens(data.draw(st.sampled_from(ENDS[self.desk.pending].split())), data)

    @rule(data=st.data(), often=st.integers(0, 2))
    def anything_happens(self, data: st.DataObject, often: int) -> None:
        if not often:
            self.happens(data.draw(st.sampled_from(ANY_TIME.split())), data)

    @precondition(lambda self: self.desk.phase is Phase.WAITING)
    @rule()
    def new_sessions_are_allowed_or_not(self) -> None:
        self.desk.allow_new = not self.desk.allow_new
        self.desk.do("wait:0")

    @rule(step=st.sampled_from(FetchStep), ticket=st.integers(-1, 9))
    def an_old_gateway_tells(self, step: FetchStep, ticket: int) -> None:
        if self.desk.fetching is None or self.desk.fetching.ticket != ticket:
            assert self.desk.report(step, ticket=ticket) == []

    # ------------------------------------------------------------------------------------ what always holds

    @invariant()
    def a_trigger_has_an_answer(self) -> None:
        answer = self.desk.machine.status()
        assert (answer.request_id is None) == (answer.status == "Idle")
        assert answer.status == "Idle" or answer.status in self.desk.statuses

    @invariant()
    def a_restart_finds_the_same(self) -> None:
        again = UpdateMachine(self.desk.kept)
        assert (again.phase, again.status()) == (self.desk.phase, self.desk.machine.status())

    @invariant()
    def requests_are_taken_until_an_act_begins(self) -> None:
        assert self.desk.pending is None or self.desk.phase not in CANCELLABLE

    def teardown(self) -> None:
        """From wherever it is, an update comes to its end, and cars may charge again."""
        desk = self.desk
        desk.do("leave")
        in_a = desk.kept is not None and desk.kept.slot == OLD_SLOT  # by a boot loader that lost its data
        goes_well = {
            Phase.SCHEDULED: "wait:600",
            Phase.DOWNLOADING: "staged",
            Phase.PAUSED: "staged",
            Phase.RETRYING: "wait:600",
            Phase.STAGED: "wait:600",
            Phase.ACTIVATING: "activated",
            Phase.REBOOTING: "reboot:new",
            Phase.TESTING: "passed",
            Phase.CONFIRMING: "confirmed",
            Phase.REVERTING: "reboot:good" if in_a else "reboot:old",
        }
        was_idle = desk.phase is Phase.IDLE
        for _ in range(12):
            if desk.phase is Phase.IDLE:
                break
            desk.do(goes_well[desk.phase])
        assert desk.phase is Phase.IDLE
        assert not desk.hold
        assert was_idle or desk.statuses[-1] in ("Installed", "InstallationFailed")


TestUpdateOfAStation = UpdateOfAStation.TestCase
TestUpdateOfAStation.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
