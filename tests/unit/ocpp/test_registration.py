"""The registration machine: what each state allows (16-BOOT-01 to 06, B01 to B03)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.ocpp.dialect import Line, LinkGone
from agent.ocpp.registration import Admission, Registration, State
from agent.ocpp.rpc import CallError, CallOutcome, CallResult, LinkLost, Priority, TimedOut
from agent.sim.virtual_time import now_ms, run_virtual
from tests.support.fake_station import T0_MS, FakeStation

REQUEST = {"chargePointVendor": "V", "chargePointModel": "M"}


def answer(status: str, interval: int = 60, current_time: str = "2026-11-24T08:00:00Z") -> CallResult:
    return CallResult({"status": status, "interval": interval, "currentTime": current_time})


@dataclass
class Peer:
    script: list[CallOutcome]
    sent_ms: list[int] = field(default_factory=list)

    async def call(self, action: str, payload: dict[str, Any], **_options: Any) -> CallOutcome:
        self.sent_ms.append(now_ms())
        return self.script.pop(0)


@pytest.mark.parametrize(
    ("state", "read", "start"),
    [
        (State.UNREGISTERED, Admission.SERVE, Admission.REJECT_START),
        (State.PENDING, Admission.SERVE, Admission.REJECT_START),
        (State.REJECTED, Admission.REFUSE, Admission.REFUSE),
        (State.ACCEPTED, Admission.SERVE, Admission.SERVE),
    ],
)
def test_what_the_csms_may_ask(state: State, read: Admission, start: Admission) -> None:
    registration = Registration(random.Random(1))
    registration.state = state
    assert registration.admit("GetConfiguration") is registration.admit("GetVariables") is read
    for action in ("RemoteStartTransaction", "RemoteStopTransaction", "RequestStartTransaction"):
        assert registration.admit(action) is start


@pytest.mark.parametrize("failure", [TimedOut(), CallError("InternalError", "")])
def test_failures_are_tried_again_with_growing_waits(failure: CallOutcome) -> None:
    async def main() -> None:
        registration, peer = Registration(random.Random(1)), Peer([failure] * 8 + [answer("Accepted")])
        await registration.register(Line(peer), REQUEST, FakeStation())
        waits = [later - earlier for earlier, later in zip(peer.sent_ms, peer.sent_ms[1:], strict=False)]
        for number, wait_ms in enumerate(waits):
            base_ms = 10_000 * 2 ** min(number, 5)
            assert base_ms <= wait_ms <= base_ms + 10_001

    run_virtual(main())


def test_accepted_takes_clock_and_interval_and_lasts_over_reconnects() -> None:
    async def main() -> None:
        station, registration = FakeStation(), Registration(random.Random(1))
        await registration.register(Line(Peer([answer("Accepted", 90)])), REQUEST, station)
        assert station.clocks == [T0_MS]
        assert registration.heartbeat_s == 90
        assert (registration.take_interval_s(), registration.take_interval_s()) == (90, None)
        await registration.register(Line(Peer([])), REQUEST, station)  # nothing is sent
        changed = Peer([answer("Pending", 5), answer("Accepted")])
        await registration.register(Line(changed), REQUEST | {"firmwareVersion": "2"}, station)  # 16-BOOT-06
        assert len(changed.sent_ms) == 2

    run_virtual(main())


def test_accepted_with_a_useless_time_is_accepted() -> None:
    async def main() -> None:
        station, registration = FakeStation(), Registration(random.Random(1))
        await registration.register(Line(Peer([answer("Accepted", 0, "noon")])), REQUEST, station)
        assert registration.is_accepted
        assert station.clocks == []
        assert registration.heartbeat_s == 300

    run_virtual(main())


def test_absurd_interval_does_not_lock_the_station_out() -> None:
    async def main() -> None:
        registration, peer = Registration(random.Random(1)), Peer([answer("Rejected", 2**40), answer("Accepted")])
        await registration.register(Line(peer), REQUEST, FakeStation())
        assert peer.sent_ms[1] == 86_400_000

    run_virtual(main())


def test_the_interval_runs_on_over_a_lost_link() -> None:
    async def main() -> None:
        registration, station = Registration(random.Random(1)), FakeStation()
        with pytest.raises(LinkGone):
            await registration.register(Line(Peer([answer("Rejected", 100), LinkLost("cut")])), REQUEST, station)
        registration, peer = Registration(random.Random(1)), Peer([answer("Rejected", 100)])
        try:
            async with asyncio.timeout(40):
                await registration.register(Line(peer), REQUEST, station)
        except TimeoutError:
            pass
        start_ms, again = now_ms(), Peer([answer("Accepted")])
        await registration.register(Line(again), REQUEST, station)
        assert again.sent_ms == [start_ms + 60_000]

    run_virtual(main())


@dataclass
class SlowPeer:
    """Holds every call until the test answers it."""

    calls: list[tuple[str, asyncio.Future[CallOutcome]]] = field(default_factory=list)

    async def call(self, action: str, payload: dict[str, Any], **_options: Any) -> CallOutcome:
        outcome: asyncio.Future[CallOutcome] = asyncio.get_running_loop().create_future()
        self.calls.append((action, outcome))
        return await outcome

    async def answered(self, number: int, outcome: CallOutcome) -> list[str]:
        """Answer a call; the actions that were called by then."""
        self.calls[number][1].set_result(outcome)
        await asyncio.sleep(0.01)
        return [action for action, _ in self.calls]


def test_what_is_queued_goes_before_the_boot_and_nothing_behind_a_rejection() -> None:
    """Seed 700073 of the simulated world: a report in the queue was overtaken by the boot, which was rejected."""

    async def main() -> None:
        registration, peer = Registration(random.Random(1)), SlowPeer()
        line = Line(peer, registration.may_talk)

        def report() -> asyncio.Task[CallResult | CallError | TimedOut]:
            return asyncio.create_task(line.call("NotifyReport", {}, priority=Priority.REPORT))

        queued = [report(), report()]
        await asyncio.sleep(0)
        boot = asyncio.create_task(registration.register(line, REQUEST, FakeStation()))
        await asyncio.sleep(0.01)
        queued.append(report())
        assert await peer.answered(0, TimedOut()) == ["NotifyReport"] * 2
        sent = await peer.answered(1, CallResult({}))
        assert sent == ["NotifyReport"] * 2 + ["BootNotification"]
        assert await peer.answered(2, answer("Rejected", 600)) == sent, "rejected: the third report waits"
        await asyncio.sleep(601)
        assert await peer.answered(3, answer("Accepted")) == [*sent, "BootNotification", "NotifyReport"]
        await peer.answered(4, CallResult({}))
        await asyncio.gather(boot, *queued)

    run_virtual(main())
