"""What the gateway counts of its link, told its states as the link tells them."""

from __future__ import annotations

from agent.gateway_counters import LinkCounters
from agent.ocpp.link import LinkPhase, LinkState
from agent.ocpp.link_failure import FailureKind, LinkFailure
from agent.ocpp.session import Direction
from agent.ocpp.version import Version

UP = LinkState(LinkPhase.CONNECTED, Version.V201)
CONNECTING = LinkState(LinkPhase.CONNECTING)
STOPPED = LinkState(LinkPhase.STOPPED)


def waiting(kind: FailureKind, detail: str = "why") -> LinkState:
    return LinkState(LinkPhase.WAITING, failure=LinkFailure(kind, detail), wait_s=10)


def counters_after(*states: tuple[int, LinkState], now_ms: int) -> LinkCounters:
    clock = [0]
    made = LinkCounters(lambda: clock[0])
    for at_ms, state in states:
        clock[0] = at_ms
        made.link(state)
    clock[0] = now_ms
    return made


def test_a_link_that_never_was() -> None:
    found = counters_after(
        (0, CONNECTING), (10, waiting(FailureKind.UNREACHABLE)), (20, CONNECTING), now_ms=9_000
    ).read()
    assert (found.up, found.up_ms, found.reconnects) == (False, 0, 0)
    assert dict(found.failures) == dict.fromkeys(FailureKind, 0) | {FailureKind.UNREACHABLE: 1}
    assert found.last_failure == "unreachable: why"


def test_the_first_link_is_no_reconnect_and_its_time_adds_up_to_now() -> None:
    made = counters_after((0, CONNECTING), (100, UP), now_ms=600)
    assert (made.read().up, made.read().up_ms, made.read().reconnects) == (True, 500, 0)


def test_each_later_link_is_a_reconnect() -> None:
    lost = waiting(FailureKind.SILENT, "no pong within 20 s")
    found = counters_after(
        (100, UP), (300, lost), (400, CONNECTING), (500, UP), (800, STOPPED), (1_000, UP), now_ms=1_100
    ).read()
    assert (found.up, found.up_ms, found.reconnects) == (True, 200 + 300 + 100, 2)
    assert dict(found.failures)[FailureKind.SILENT] == 1


def test_a_link_that_was_stopped_is_down_without_a_failure() -> None:
    found = counters_after((100, UP), (300, STOPPED), now_ms=1_100).read()
    assert (found.up, found.up_ms, found.last_failure) == (False, 200, "")


def test_frames_by_direction() -> None:
    made = counters_after(now_ms=0)
    for direction in (Direction.IN, Direction.OUT, Direction.OUT):
        made.frame(direction)
    assert (made.read().frames_in, made.read().frames_out) == (1, 2)
