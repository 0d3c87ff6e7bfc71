"""The virtual wire: order, latency, and every fault as both ends see it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from agent.ocpp.endpoint import Endpoint
from agent.ocpp.link import Link, LinkPhase, LinkState
from agent.ocpp.link_failure import FailureKind, NotConnected
from agent.ocpp.session import TransportClosed
from agent.ocpp.version import Version
from agent.sim.virtual_time import now_ms, run_virtual
from agent.sim.world.wire import FRAMES_MAX, Network, NetworkFaults, Refusal, Wire

ENDPOINT = Endpoint("ws://csms.example/ocpp", "CP-1", (Version.V201, Version.V16))


class Ear:
    """A far end that writes down what it learns; echoes frames when told to."""

    def __init__(self, *, echo: bool = False) -> None:
        self.frames: list[bytes] = []
        self.spoilt: list[bytes] = []
        self.closings = 0
        self._echo = echo

    def choose(self, offers: tuple[str, ...]) -> str | None:
        return offers[0]

    def opened(self, wire: Wire) -> None: ...

    def heard(self, wire: Wire, frame: bytes, sent_s: float) -> None:
        assert sent_s < asyncio.get_running_loop().time()
        self.frames.append(frame)
        if self._echo:
            wire.reply(frame)

    def spoiled(self, wire: Wire, frame: bytes, sent_s: float) -> None:
        self.spoilt.append(frame)

    def closed(self, wire: Wire) -> None:
        self.closings += 1


def on_wire(story: Callable[[Network, Wire, Ear], Awaitable[None]], *, echo: bool = False, seed: int = 1) -> Ear:
    """Run a story on a fresh connection in virtual time."""
    ear = Ear(echo=echo)

    async def main() -> None:
        network = Network(ear, random.Random(seed))
        await story(network, await network.connect(ENDPOINT), ear)

    run_virtual(main())
    return ear


def test_frames_arrive_in_order_each_way_though_latencies_differ() -> None:
    async def story(_network: Network, wire: Wire, _ear: Ear) -> None:
        for number in range(50):
            await wire.send(str(number))
        assert [await wire.recv() for _ in range(50)] == [str(number).encode() for number in range(50)]
        assert now_ms() >= 20

    ear = on_wire(story, echo=True)
    assert ear.frames == [str(number).encode() for number in range(50)]


def test_same_seed_same_times() -> None:
    def times(seed: int) -> list[int]:
        found: list[int] = []

        async def story(_network: Network, wire: Wire, _ear: Ear) -> None:
            for _ in range(20):
                await wire.send("x")
                await wire.recv()
                found.append(now_ms())

        on_wire(story, echo=True, seed=seed)
        return found

    assert times(3) == times(3) != times(4)


def test_what_was_sent_before_a_close_still_arrives() -> None:
    async def story(_network: Network, wire: Wire, ear: Ear) -> None:
        wire.reply(b"last words")
        wire.hang_up(1001, "bye")
        assert await wire.recv() == b"last words"
        with pytest.raises(TransportClosed, match="closed by the CSMS: 1001 bye"):
            await wire.recv()
        assert ear.closings == 1

    on_wire(story)


def test_close_by_the_station_reaches_the_far_end_after_its_frames() -> None:
    async def story(_network: Network, wire: Wire, ear: Ear) -> None:
        await wire.send("a")
        await wire.close(1000, "")
        closings = [ear.closings]
        await asyncio.sleep(1)
        assert ear.frames == [b"a"] and [*closings, ear.closings] == [0, 1]
        with pytest.raises(TransportClosed):
            await wire.send("b")
        await wire.close(1000, "")

    on_wire(story)


def test_cut_ends_both_ends_and_loses_what_is_under_way() -> None:
    async def story(network: Network, wire: Wire, ear: Ear) -> None:
        reading = asyncio.create_task(wire.recv())
        pinging = asyncio.create_task(wire.ping())
        await wire.send("lost")
        network.cut()
        for ending in (reading, pinging):
            with pytest.raises(TransportClosed, match="connection lost"):
                await ending
        await asyncio.sleep(1)
        assert ear.frames == [] and ear.closings == 1

    on_wire(story)


def test_half_open_swallows_everything_and_leaves_pings_unanswered() -> None:
    async def story(network: Network, wire: Wire, ear: Ear) -> None:
        await wire.ping()
        await wire.send("under way")
        wire.reply(b"under way too")
        network.half_open()
        await wire.send("swallowed")
        wire.reply(b"swallowed too")
        for never in (wire.ping(), wire.recv()):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(never, 3600)
        assert ear.frames == [] and ear.closings == 0
        assert ear.spoilt == [b"under way", b"swallowed"]
        await wire.close(1000, "")
        await asyncio.sleep(10)
        assert ear.closings == 0  # nobody tells it

    on_wire(story)


def test_stall_holds_everything_then_delivers_in_order() -> None:
    async def story(network: Network, wire: Wire, ear: Ear) -> None:
        await wire.send("1")
        network.stall(40)
        await wire.send("2")
        pinging = asyncio.create_task(wire.ping())
        await asyncio.sleep(39)
        assert ear.frames == [] and not pinging.done()
        await asyncio.sleep(2)
        assert ear.frames == [b"1", b"2"] and pinging.done()

    on_wire(story)


@pytest.mark.parametrize("what", ["truncated", "garbled"])
def test_a_spoiled_frame_arrives_as_something_else_and_is_told(what: str) -> None:
    async def story(network: Network, wire: Wire, ear: Ear) -> None:
        network.faults = NetworkFaults(**{what: 1.0})
        await wire.send('[2,"id","Heartbeat",{}]')
        arrived: list[bool] = []
        wire.reply(b'[3,"id",{}]', lambda: arrived.append(True))
        assert await wire.recv() != b'[3,"id",{}]'
        await asyncio.sleep(1)
        assert ear.spoilt == [b'[2,"id","Heartbeat",{}]'] and ear.frames[0] != ear.spoilt[0]
        assert not arrived and network.inflicted[what] == 2

    on_wire(story)


def test_a_doubled_frame_comes_twice() -> None:
    async def story(network: Network, wire: Wire, ear: Ear) -> None:
        network.faults = NetworkFaults(doubled=1.0)
        await wire.send("x")
        await asyncio.sleep(1)
        assert ear.frames == [b"x", b"x"] and ear.spoilt == []

    on_wire(story)


@pytest.mark.parametrize("refusal", list(Refusal))
def test_refused_attempts_say_why(refusal: Refusal) -> None:
    async def main() -> None:
        network = Network(Ear(), random.Random(1))
        network.refuse = refusal
        with pytest.raises(NotConnected) as refused:
            await network.connect(ENDPOINT)
        assert refused.value.failure == refusal.value
        assert (now_ms() > 29_000) == (refusal is Refusal.TIMED_OUT)

    run_virtual(main())


def test_a_network_that_is_down_refuses_until_it_is_up_again() -> None:
    async def story(network: Network, wire: Wire, _ear: Ear) -> None:
        network.go_down(silently=False)
        with pytest.raises(TransportClosed):
            await wire.recv()
        with pytest.raises(NotConnected):
            await network.connect(ENDPOINT)
        network.go_up()
        assert (await network.connect(ENDPOINT)).is_live

    on_wire(story)


def test_lost_power_is_told_to_nobody_and_a_killed_process_to_the_far_end() -> None:
    async def story(network: Network, wire: Wire, ear: Ear) -> None:
        network.lose_station(power=True)
        await asyncio.sleep(100)
        assert ear.closings == 0 and not wire.is_live
        await network.connect(ENDPOINT)
        network.lose_station(power=False)
        assert ear.closings == 1

    on_wire(story)


def test_frames_under_way_are_bounded() -> None:
    async def story(network: Network, wire: Wire, ear: Ear) -> None:
        network.stall(1000)
        for _ in range(FRAMES_MAX):
            await asyncio.wait_for(wire.send("x"), 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.send("too many"), 10)
        for _ in range(FRAMES_MAX + 1):
            wire.reply(b"x")
        assert ear.closings == 1 and not wire.is_live

    on_wire(story)


def test_a_station_that_does_not_read_is_cut_off() -> None:
    async def story(_network: Network, wire: Wire, ear: Ear) -> None:
        for _ in range(3 * FRAMES_MAX):
            wire.reply(b"x")
            await asyncio.sleep(1)
        assert ear.closings == 1

    on_wire(story)


class _Mute:
    """A conversation that says nothing."""

    supported = frozenset[str]()

    async def handle(self, action: str, payload: object) -> dict[str, object]:
        raise AssertionError(action)

    async def run(self, session: object) -> None: ...


def test_the_link_lives_on_such_wires() -> None:
    """Connect, half-open found out by pings, wrong subprotocol, refusal: each is a state of the real link."""

    async def main() -> None:
        network = Network(Ear(), random.Random(1))
        states: list[LinkState] = []
        link = Link(
            lambda: ENDPOINT,
            lambda _version: _Mute(),
            open=network.connect,
            on_state=states.append,
            random_source=random.Random(2),
            clock_ms=now_ms,
        )
        running = asyncio.create_task(link.run())

        async def next_failure() -> FailureKind:
            states.clear()
            while not (states and states[-1].phase is LinkPhase.WAITING):
                await asyncio.sleep(0.1)
            assert states[-1].failure is not None
            return states[-1].failure.kind

        await asyncio.sleep(100)
        assert link.state.phase is LinkPhase.CONNECTED and link.state.version is Version.V201
        network.half_open()
        assert await next_failure() is FailureKind.SILENT
        network.faults = NetworkFaults(wrong_subprotocol=1.0)
        assert await next_failure() is FailureKind.NO_SUBPROTOCOL
        network.refuse = Refusal.UNAUTHORIZED
        assert await next_failure() is FailureKind.UNAUTHORIZED
        network.refuse, network.faults = None, NetworkFaults()
        await asyncio.sleep(200)
        assert link.state.phase is LinkPhase.CONNECTED
        network.cut()
        assert await next_failure() is FailureKind.CLOSED
        running.cancel()

    run_virtual(main())
