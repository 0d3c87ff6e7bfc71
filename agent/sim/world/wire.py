"""The network between station and back office, in memory and in the running loop's virtual time.

Charter: one ``Wire`` is one WebSocket as both ends see it: frames in order in each direction, each with a latency
of its own, a close, pings. ``Network`` opens wires for the station's link, and does to them what real networks do:
cuts, silence (half-open), stalls, spoiled and doubled frames, refused attempts. It knows frames, not OCPP. Nothing
here reads a clock or a random source that was not handed in.

What is lost or spoiled on its way to the back office is told to it all the same (``FarEnd.spoiled``), and an answer
says when it arrived whole (``reply``'s ``arrived``): that is how the model's bookkeeping knows what the station may
have given up for good reason. A back office must not act on it otherwise.

Units: seconds of the loop's clock. Limits: 64 frames under way per direction; the station then waits, the back
office is cut off. Sources: OCPP 1.6J section 3, OCPP 2.0.1 part 4 section 3; field fault 7.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from agent.ocpp.endpoint import Endpoint
from agent.ocpp.link_failure import FailureKind, LinkFailure, NotConnected
from agent.ocpp.session import TransportClosed

FRAMES_MAX: Final = 64
LATENCY_S: Final = (0.02, 0.12)
_RESOLUTION_S: Final = 1e-6  # a timer may come this much too early

Arrived = Callable[[], None]


class FarEnd(Protocol):
    """The back office as the wire sees it. ``sent_s``: when the station let go of the frame."""

    def choose(self, offers: tuple[str, ...]) -> str | None:
        """The subprotocol of a new connection, of those offered; None: none of them."""

    def opened(self, wire: Wire) -> None: ...

    def heard(self, wire: Wire, frame: bytes, sent_s: float) -> None: ...

    def spoiled(self, wire: Wire, frame: bytes, sent_s: float) -> None:
        """This frame of the station will not arrive, or not like this."""

    def closed(self, wire: Wire) -> None: ...


@dataclass(frozen=True, slots=True)
class NetworkFaults:
    """Rates from 0 to 1: the first three of frames in both directions, the others of attempts to connect."""

    truncated: float = 0.0
    garbled: float = 0.0
    doubled: float = 0.0
    refused: float = 0.0
    wrong_subprotocol: float = 0.0


QUIET: Final = NetworkFaults()


@dataclass(slots=True)
class _Frame:
    due_s: float
    sent_s: float
    data: bytes | None  # None: the sender has closed
    arrived: Arrived | None = None


class _Way:
    """One direction: frames come out in order, none before it is due, none while it is held."""

    def __init__(self, deliver: Callable[[_Frame], None]) -> None:
        self.frames: deque[_Frame] = deque()
        self.room = asyncio.Event()
        self.room.set()
        self._deliver = deliver
        self.held_until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def push(self, frame: _Frame) -> None:
        if self.frames:
            frame.due_s = max(frame.due_s, self.frames[-1].due_s)
        self.frames.append(frame)
        if len(self.frames) >= FRAMES_MAX:
            self.room.clear()
        if self._timer is None:
            self._arm()

    def hold(self, until_s: float) -> None:
        self.held_until_s = max(self.held_until_s, until_s)

    def drop(self) -> list[_Frame]:
        """Everything under way is lost."""
        lost = list(self.frames)
        self.frames.clear()
        self.room.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return lost

    def _arm(self) -> None:
        due_s = max(self.frames[0].due_s, self.held_until_s)
        self._timer = asyncio.get_running_loop().call_at(due_s, self._pump)

    def _pump(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time() + _RESOLUTION_S
        while self.frames and max(self.frames[0].due_s, self.held_until_s) <= now_s:
            frame = self.frames.popleft()
            self.room.set()
            self._deliver(frame)
        if self.frames and self._timer is None:
            self._arm()


class Wire:
    """One connection. ``recv``, ``send``, ``close``, ``ping`` are the station's (``link.Connection``); ``reply`` and
    ``hang_up`` the back office's; the rest is what a network does.

    ``faults`` counts what was done to it; ``ended_s`` is when the station's end ended, None while it has not."""

    def __init__(
        self, far: FarEnd, subprotocol: str | None, rng: random.Random, latency_s: tuple[float, float], network: Network
    ) -> None:
        self.subprotocol = subprotocol
        self.root = ""  # no TLS here
        self.faults = 0
        self.ended_s: float | None = None
        self.far_open = True
        self._far = far
        self._rng = rng
        self._latency_s = latency_s
        self._network = network
        self._silent = False
        self._why = ""
        self._inbox: deque[bytes] = deque()
        self._news = asyncio.Event()  # something for the station: a frame, or the end
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._up = _Way(self._to_far)
        self._down = _Way(self._to_station)

    @property
    def is_live(self) -> bool:
        """Both ends are there, and what either says will come out at the other soon."""
        held = max(self._up.held_until_s, self._down.held_until_s) > asyncio.get_running_loop().time()
        return self.far_open and self.ended_s is None and not self._silent and not held

    # ------------------------------------------------------------------------------- the station's

    async def recv(self) -> bytes:
        while not self._inbox:
            if self.ended_s is not None:
                raise TransportClosed(self._why)
            self._news.clear()
            await self._news.wait()
        return self._inbox.popleft()

    async def send(self, text: str) -> None:
        await self._up.room.wait()
        if self.ended_s is not None:
            raise TransportClosed(self._why)
        now_s = asyncio.get_running_loop().time()
        data = text.encode()
        if self._silent or not self.far_open:
            self._far.spoiled(self, data, now_s)
            return
        for number, copy in enumerate(self._through(data)):
            if number == 0 and copy is not data:
                self._far.spoiled(self, data, now_s)
            self._up.push(_Frame(now_s + self._delay_s(), now_s, copy))

    async def close(self, code: int, reason: str) -> None:
        if self.ended_s is not None:
            return
        self._end_station(f"closed by the station: {code} {reason}".rstrip())
        if self.far_open and not self._silent:
            now_s = asyncio.get_running_loop().time()
            self._up.push(_Frame(now_s + self._delay_s(), now_s, None))

    async def ping(self) -> None:
        """Return when the pong is there. Raises ``TransportClosed``."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + 2 * self._delay_s()
        while True:
            waits_s = max(due_s, self._down.held_until_s) - loop.time()
            await asyncio.wait({self._gone}, timeout=None if self._silent else max(0.0, waits_s))
            if self.ended_s is not None:
                raise TransportClosed(self._why)
            if not self._silent and loop.time() + _RESOLUTION_S >= max(due_s, self._down.held_until_s):
                return

    # --------------------------------------------------------------------------- the back office's

    def reply(self, data: bytes, arrived: Arrived | None = None) -> None:
        """Send a frame; ``arrived`` is called when it comes out whole at the station's end, if ever."""
        if not self.far_open or self._silent or self.ended_s is not None:
            return
        if len(self._down.frames) >= FRAMES_MAX:
            self.cut("station does not read")
            return
        now_s = asyncio.get_running_loop().time()
        for copy in self._through(data):
            self._down.push(_Frame(now_s + self._delay_s(), now_s, copy, arrived if copy is data else None))

    def hang_up(self, code: int, reason: str) -> None:
        """Close from the far end; what was sent before still arrives."""
        if not self.far_open:
            return
        self.far_open = False
        self._up.drop()
        self._why = f"closed by the CSMS: {code} {reason}".rstrip()
        if self.ended_s is None and not self._silent:
            now_s = asyncio.get_running_loop().time()
            self._down.push(_Frame(now_s + self._delay_s(), now_s, None))
        self._far.closed(self)

    # ------------------------------------------------------------------------------- the network's

    def cut(self, why: str = "connection lost") -> None:
        """Both ends see it closed; what is under way is lost."""
        self.faults += 1
        self._up.drop()
        self._inbox.clear()
        self._end_station(why)
        if self.far_open:
            self.far_open = False
            self._far.closed(self)

    def go_silent(self) -> None:
        """Half-open from now on: neither end learns anything more."""
        self.faults += 1
        self._silent = True
        for frame in self._up.drop():
            if frame.data is not None:
                self._far.spoiled(self, frame.data, frame.sent_s)
        self._down.drop()

    def stall(self, for_s: float) -> None:
        """Nothing comes out for so long, then everything in order."""
        self.faults += 1
        until_s = asyncio.get_running_loop().time() + for_s
        self._up.hold(until_s)
        self._down.hold(until_s)

    def vanish(self) -> None:
        """The station loses its power: it has no end any more, and the far end does not learn it."""
        self.faults += 1
        self._up.drop()
        self._end_station("power lost")

    # -------------------------------------------------------------------------------------- inside

    def _delay_s(self) -> float:
        return self._rng.uniform(*self._latency_s)

    def _through(self, data: bytes) -> tuple[bytes, ...]:
        """What becomes of a frame: itself, something else, or twice itself."""
        faults = self._network.faults
        if faults is QUIET:
            return (data,)
        luck = self._rng.random()
        if luck < faults.truncated:
            self._spoil("truncated")
            return (data[: self._rng.randrange(len(data))],)
        if luck < faults.truncated + faults.garbled:
            self._spoil("garbled")
            return (self._rng.randbytes(self._rng.randint(1, 64)),)
        if luck < faults.truncated + faults.garbled + faults.doubled:
            self._spoil("doubled")
            return (data, data)
        return (data,)

    def _spoil(self, what: str) -> None:
        self.faults += 1
        self._network.inflicted[what] += 1

    def _to_far(self, frame: _Frame) -> None:
        if not self.far_open:
            return
        if frame.data is None:
            self.far_open = False
            self._far.closed(self)
        else:
            self._far.heard(self, frame.data, frame.sent_s)

    def _to_station(self, frame: _Frame) -> None:
        if frame.data is None:
            self._end_station(self._why)
            return
        if len(self._inbox) >= FRAMES_MAX:
            self.cut("station does not read")
            return
        self._inbox.append(frame.data)
        self._news.set()
        if frame.arrived is not None:
            frame.arrived()

    def _end_station(self, why: str) -> None:
        if self.ended_s is not None:
            return
        self.ended_s = asyncio.get_running_loop().time()
        self._why = why
        self._down.drop()
        self._news.set()
        self._up.room.set()
        if not self._gone.done():
            self._gone.set_result(None)


# ------------------------------------------------------------------------------------------- network


class Refusal(enum.Enum):
    """How an attempt to connect fails, as the link is told of it."""

    CONNECTION = LinkFailure(FailureKind.UNREACHABLE, "connection refused")
    ROUTE = LinkFailure(FailureKind.UNREACHABLE, "no route to host")
    NAME = LinkFailure(FailureKind.UNREACHABLE, "name or service not known")
    TIMED_OUT = LinkFailure(FailureKind.TIMED_OUT, "no WebSocket handshake in time")
    UNAUTHORIZED = LinkFailure(FailureKind.UNAUTHORIZED, "HTTP status 401")
    IDENTITY = LinkFailure(FailureKind.UNKNOWN_IDENTITY, "HTTP status 404")
    REDIRECT = LinkFailure(FailureKind.REDIRECTED, "HTTP status 302")
    BUSY = LinkFailure(FailureKind.HTTP_STATUS, "HTTP status 503", 120)
    NO_WEBSOCKET = LinkFailure(FailureKind.NOT_WEBSOCKET, "not a WebSocket answer")
    CERTIFICATE = LinkFailure(FailureKind.TLS_CERTIFICATE, "certificate has expired")
    TLS = LinkFailure(FailureKind.TLS_VERSION, "UNSUPPORTED_PROTOCOL")


_REFUSALS: Final = tuple(Refusal)
_DOWN: Final = (Refusal.ROUTE, Refusal.NAME, Refusal.TIMED_OUT)


class Network:
    """The network of one station. ``connect`` is what its ``Link`` takes as ``open``.

    ``faults`` and ``refuse`` (every attempt fails so) are for the world to set; ``inflicted`` counts what was done."""

    def __init__(self, far: FarEnd, rng: random.Random, latency_s: tuple[float, float] = LATENCY_S) -> None:
        if not 0.001 <= latency_s[0] <= latency_s[1]:
            raise ValueError("latency_s: at least a millisecond, the smaller first")
        self.up = True
        self.faults = QUIET
        self.refuse: Refusal | None = None
        self.wire: Wire | None = None  # the last one
        self.inflicted: Counter[str] = Counter()
        self._far = far
        self._rng = rng
        self._latency_s = latency_s

    async def connect(self, endpoint: Endpoint) -> Wire:
        """One attempt. Raises ``NotConnected``."""
        await asyncio.sleep(2 * self._rng.uniform(*self._latency_s))
        refusal = self._refusal()
        if refusal is not None:
            self.inflicted["refused"] += 1
            if refusal is Refusal.TIMED_OUT:
                await asyncio.sleep(endpoint.open_timeout_s)
            raise NotConnected(refusal.value)
        chosen = self._far.choose(tuple(version.subprotocol for version in endpoint.versions))
        if self.faults.wrong_subprotocol and self._rng.random() < self.faults.wrong_subprotocol:
            self.inflicted["wrong_subprotocol"] += 1
            chosen = self._rng.choice((None, "ocpp1.5", "soap"))
            wire = Wire(_Nobody(), chosen, self._rng, self._latency_s, self)
        else:
            wire = Wire(self._far, chosen, self._rng, self._latency_s, self)
            self._far.opened(wire)
        self.wire = wire
        return wire

    def _refusal(self) -> Refusal | None:
        if not self.up:
            return self._rng.choice(_DOWN)
        if self.refuse is not None:
            return self.refuse
        if self.faults.refused and self._rng.random() < self.faults.refused:
            return self._rng.choice(_REFUSALS)
        return None

    # --------------------------------------------------------------------------- what happens to it

    def go_down(self, *, silently: bool) -> None:
        """No attempt succeeds until ``go_up``; the open wire is cut, or goes silent."""
        self.up = False
        if silently:
            self.half_open()
        else:
            self.cut()

    def go_up(self) -> None:
        self.up = True

    def cut(self) -> None:
        """The open wire is cut; a new attempt may succeed."""
        self._inflict("cut", Wire.cut)

    def half_open(self) -> None:
        """The open wire falls silent, as after a change of address; a new attempt may succeed."""
        self._inflict("half_open", Wire.go_silent)

    def stall(self, for_s: float) -> None:
        """The open wire holds everything back for so long."""
        self._inflict("stalled", lambda wire: wire.stall(for_s))

    def lose_station(self, *, power: bool) -> None:
        """The station's end is gone: with its ``power`` nobody tells the back office, of a killed process the kernel
        does."""
        self._inflict("vanished" if power else "killed", Wire.vanish if power else Wire.cut)

    def _inflict(self, what: str, how: Callable[[Wire], None]) -> None:
        if self.wire is not None and self.wire.ended_s is None:
            self.inflicted[what] += 1
            how(self.wire)


class _Nobody:
    """The far end of a wire that no back office is at."""

    def choose(self, _offers: tuple[str, ...]) -> str | None:
        return None

    def opened(self, wire: Wire) -> None: ...

    def heard(self, wire: Wire, frame: bytes, sent_s: float) -> None: ...

    def spoiled(self, wire: Wire, frame: bytes, sent_s: float) -> None: ...

    def closed(self, wire: Wire) -> None: ...
