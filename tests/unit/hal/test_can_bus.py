"""The shared bus on a scripted port, in virtual time: order, room, loss and return."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from agent.sim.virtual_time import run_virtual
from hal.ports import DeviceLost
from hal.power import can_bus
from hal.power.can_bus import CanBus, CanLine
from hal.power.can_frame import CanFrame
from hal.power.can_ports import CanBusConfig, CanPort, open_can_port

CONFIG = CanBusConfig("dc bus", "scripted", "none")


def frame(number: int) -> CanFrame:
    return CanFrame(number, b"")


class ScriptedPort:
    """``room`` frames are taken; ``arrive`` makes the descriptor readable."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.room = 1_000_000
        self.broken = False
        self.taken: list[int] = []
        self.arrived: list[CanFrame] = []
        self.reads = 0
        self.closed = False

    def fileno(self) -> int:
        return self.ours.fileno()

    def arrive(self, *frames: CanFrame) -> None:
        self.arrived += frames
        self.theirs.send(b"x")

    def receive(self) -> list[CanFrame]:
        self.reads += 1
        if self.broken:
            raise DeviceLost("dc bus", "hang-up")
        self.ours.recv(100)
        frames, self.arrived = self.arrived, []
        return frames

    def send(self, sent: CanFrame) -> bool:
        if self.broken:
            raise DeviceLost("dc bus", "write failed")
        if self.room == 0:
            return False
        self.room -= 1
        self.taken.append(sent.id)
        return True

    def flush(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        self.ours.close()
        self.theirs.close()


class Rig:
    """A bus whose ports are scripted, with one listener for everything."""

    def __init__(self) -> None:
        self.ports: list[ScriptedPort] = []
        self.refuse_to_open = False
        self.opened_at: list[float] = []
        self.links: list[tuple[bool, str]] = []
        self.heard: list[int] = []
        self.bus = CanBus(CONFIG, self._open)
        self.line = self.attach()

    def attach(self) -> CanLine:
        return self.bus.attach(
            lambda _: True, lambda got: self.heard.append(got.id), lambda up, why: self.links.append((up, why))
        )

    def _open(self, config: CanBusConfig) -> CanPort:
        assert config is CONFIG
        self.opened_at.append(asyncio.get_running_loop().time())
        if self.refuse_to_open:
            raise DeviceLost("dc bus", "no such port")
        self.ports.append(ScriptedPort())
        return self.ports[-1]


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    assert all(port.closed for port in made.ports)


def test_frames_go_both_ways_and_only_to_who_accepts_them(rig: Rig) -> None:
    async def main() -> None:
        only_seven: list[int] = []
        rig.bus.attach(lambda got: got.id == 7, lambda got: only_seven.append(got.id), lambda up, why: None)
        rig.bus.start()
        rig.bus.start()
        rig.line.send(frame(1))
        rig.ports[0].arrive(frame(6), frame(7))
        await asyncio.sleep(0.1)
        assert rig.ports[0].taken == [1]
        assert rig.heard == [6, 7]
        assert only_seven == [7]
        rig.line.close()
        rig.ports[0].arrive(frame(8))
        await asyncio.sleep(0.1)
        assert rig.heard == [6, 7]
        await rig.bus.close()

    run_virtual(main())
    assert len(rig.ports) == 1


def test_first_goes_ahead_of_all_and_nothing_older_of_its_line_follows(rig: Rig) -> None:
    async def main() -> None:
        rig.bus.start()
        other = rig.attach()
        port = rig.ports[0]
        port.room = 0
        rig.line.send(frame(1))
        other.send(frame(2))
        rig.line.send(frame(3))
        rig.line.send_first([frame(10), frame(11)])
        rig.line.send(frame(4))
        port.room = 100
        await asyncio.sleep(0.1)
        assert port.taken == [10, 11, 2, 4]
        await rig.bus.close()

    run_virtual(main())


def test_a_full_port_is_offered_the_frame_again_and_a_full_queue_drops_its_oldest(rig: Rig) -> None:
    async def main() -> None:
        rig.bus.start()
        port = rig.ports[0]
        port.room = 0
        most = can_bus._MAX_QUEUED_FRAMES
        for number in range(most + 5):
            rig.line.send(frame(number))
        await asyncio.sleep(1)
        assert port.taken == []
        port.room = 3
        await asyncio.sleep(0.1)
        assert port.taken == [5, 6, 7]
        port.room = most
        await asyncio.sleep(0.1)
        assert port.taken == list(range(5, most + 5))
        await rig.bus.close()

    run_virtual(main())


@pytest.mark.parametrize("by", ["read", "write"])
def test_a_loss_is_told_once_and_the_bus_reopens(rig: Rig, by: str) -> None:
    async def main() -> None:
        rig.bus.start()
        assert rig.links == [(True, "")]
        port = rig.ports[0]
        port.broken = True
        if by == "read":
            port.arrive()
        else:
            rig.line.send(frame(1))
        await asyncio.sleep(0.1)
        assert rig.links[1:] == [(False, "hang-up" if by == "read" else "write failed")]
        assert port.closed and port.reads <= 1
        assert not rig.line.up
        rig.line.send(frame(2))  # wanted while nobody could hear it: never sent
        await asyncio.sleep(1)
        assert rig.links[2:] == [(True, "")]
        rig.line.send(frame(3))
        assert rig.ports[1].taken == [3]
        await rig.bus.close()

    run_virtual(main())


def test_opening_is_tried_with_bounded_back_off_for_as_long_as_it_takes(rig: Rig) -> None:
    async def main() -> None:
        rig.refuse_to_open = True
        rig.bus.start()
        await asyncio.sleep(600)
        gaps = [later - earlier for earlier, later in zip(rig.opened_at, rig.opened_at[1:], strict=False)]
        assert gaps[:4] == pytest.approx([0.5, 1, 2, 4])
        assert gaps[4:] == pytest.approx([5.0] * len(gaps[4:]))
        assert rig.line.why_down == "no such port"
        rig.refuse_to_open = False
        await asyncio.sleep(6)
        assert rig.line.up
        await rig.bus.close()
        await asyncio.sleep(60)
        assert not rig.line.up

    run_virtual(main())
    assert len(rig.ports) == 1


def test_a_bus_that_opens_but_never_speaks_keeps_its_long_back_off(rig: Rig) -> None:
    """An adapter that breaks at every write must not be reopened twice a second for ever."""

    async def main() -> None:
        rig.bus.start()
        for _ in range(1_000):
            if rig.line.up:
                rig.ports[-1].broken = True
                rig.line.send(frame(1))
            await asyncio.sleep(0.1)
        assert len(rig.ports) <= 25
        await rig.bus.close()

    run_virtual(main())


def test_a_bus_that_fell_silent_is_reopened(rig: Rig) -> None:
    async def main() -> None:
        rig.bus.start()
        for second in range(29):
            rig.line.send(frame(second))
            await asyncio.sleep(1)
        rig.ports[0].arrive(frame(1))
        for second in range(29):
            rig.line.send(frame(second))
            await asyncio.sleep(1)
        assert len(rig.ports) == 1
        for second in range(3):
            rig.line.send(frame(second))
            await asyncio.sleep(1)
        assert len(rig.ports) == 2
        assert rig.links == [(True, ""), (False, "nothing heard for 30 s"), (True, "")]
        await rig.bus.close()

    run_virtual(main())


def test_a_listener_hears_nothing_more_once_the_bus_is_gone(rig: Rig) -> None:
    async def main() -> None:
        def answer(got: CanFrame) -> None:
            heard.append(got.id)
            rig.line.send(frame(99))

        heard: list[int] = []
        rig.bus.attach(lambda _: True, answer, lambda up, why: None)
        rig.bus.start()
        rig.ports[0].arrive(frame(1), frame(2))
        rig.ports[0].room = 0
        original = rig.ports[0].send
        rig.ports[0].send = lambda sent: (_ for _ in ()).throw(DeviceLost("dc bus", "gone"))  # type: ignore[method-assign]
        await asyncio.sleep(0.1)
        rig.ports[0].send = original  # type: ignore[method-assign]
        assert heard == [1]
        await rig.bus.close()

    run_virtual(main())


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (CanBusConfig("dc", "slcan", "/dev/null", bitrate=123), "no bit rate 123"),
        (
            CanBusConfig("dc", "slcan", "/dev/null", options={"sleep_after_open": 0}),
            "unknown slcan options sleep_after",
        ),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(config: CanBusConfig, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        open_can_port(config)


@pytest.mark.parametrize("interface", ["slcan", "socketcan"])
def test_a_missing_device_is_lost_not_a_crash(interface: str) -> None:
    with pytest.raises(DeviceLost):
        open_can_port(CanBusConfig("dc", interface, "no-such-device"))
