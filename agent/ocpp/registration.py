"""Registration at the CSMS: who may say what before and after BootNotification is accepted.

Charter: the rules of booting, the same in 1.6 and 2.x; the request's payload is the dialect's. The
registration outlives connections: a reconnect without restart needs no BootNotification as long as
the request would be the same (16-BOOT-06), so it is compared with the one that was accepted. A CSMS that has forgotten
it answers everything else with SecurityError (B02, B03) and cannot always ask for a boot: we are Unregistered again.

States and what they allow (16-BOOT-01 to 05, B01 to B03):

| state        | we send                         | calls of the CSMS                      | next                      |
|--------------|---------------------------------|----------------------------------------|---------------------------|
| Unregistered | BootNotification                | answered, but nothing is started       | by the answer             |
| Pending      | that, and what is triggered     | answered, but nothing is started       | BootNotification again    |
| Rejected     | nothing until the interval ends | refused                                | BootNotification again    |
| Accepted     | everything                      | answered                               | Unregistered if forgotten |

The CSMS may speak before it has answered; it is served as in Pending, since some ask for our
settings first and answer the boot only then.

Units: seconds of the event loop's clock.
Sources: OCPP 1.6 section 4.2, OCPP 2.0.1 part 2 B01 to B03; checklist 16-BOOT-01 to 08.
"""

from __future__ import annotations

import asyncio
import enum
import random
from typing import Final

import structlog

from agent.ipc.port import StationPort
from agent.ocpp.dialect import Line
from agent.ocpp.frames import Payload
from agent.ocpp.rpc import CallError, CallResult, Priority, TimedOut
from agent.ocpp.timestamps import EARLIEST_PLAUSIBLE_MS, BadTimestamp, from_rfc3339
from agent.ocpp.waiting import happens

log = structlog.get_logger("ocpp")

RETRY_FIRST_S: Final = 10.0
RETRY_RANDOM_S: Final = 10.0
RETRY_DOUBLINGS: Final = 5
INTERVAL_MAX_S: Final = 86_400  # a CSMS that says more would lock the station out
HEARTBEAT_DEFAULT_S: Final = 300
FORGETS_EVERY_S: Final = 600.0
"""Sooner than this after a forgotten registration SecurityError speaks of the message: one that is always refused so
must cause no loop of boots."""


class State(enum.StrEnum):
    """How the CSMS regards this station."""

    UNREGISTERED = "Unregistered"
    PENDING = "Pending"
    REJECTED = "Rejected"
    ACCEPTED = "Accepted"


class Admission(enum.Enum):
    """What becomes of a call of the CSMS."""

    SERVE = enum.auto()
    REJECT_START = enum.auto()  # answered with status Rejected: nothing may be started or stopped yet
    REFUSE = enum.auto()  # CALLERROR SecurityError (B03)


STARTS_OR_STOPS: Final = frozenset(
    {"RemoteStartTransaction", "RemoteStopTransaction", "RequestStartTransaction", "RequestStopTransaction"}
)


class Registration:
    """The registration of one boot of the station. ``rng`` spreads the own retry times."""

    def __init__(self, rng: random.Random) -> None:
        self.state = State.UNREGISTERED
        self.heartbeat_s = HEARTBEAT_DEFAULT_S
        self._rng = rng
        self._interval_s: int | None = None
        self._accepted: Payload | None = None
        self._forgotten_at_s = float("-inf")
        self._failures = 0
        self._not_before_s = 0.0
        self._asked = asyncio.Event()
        self.may_talk = asyncio.Event()  # not set while a boot is being asked for, or was rejected
        self.may_talk.set()

    # ----------------------------------------------------------------------------------- filters

    def admit(self, action: str) -> Admission:
        """What to do with this call of the CSMS in the present state."""
        if self.state is State.ACCEPTED:
            return Admission.SERVE
        if self.state is State.REJECTED:
            return Admission.REFUSE
        return Admission.REJECT_START if action in STARTS_OR_STOPS else Admission.SERVE

    @property
    def is_accepted(self) -> bool:
        """Everything may be said."""
        return self.state is State.ACCEPTED

    def is_needed(self, request: Payload) -> bool:
        """Whether BootNotification has to be sent on this connection (16-BOOT-06)."""
        return self.state is not State.ACCEPTED or request != self._accepted

    def was_denied(self) -> bool:
        """The CSMS has answered a message with SecurityError. True: it knows this station no more; we are
        Unregistered from here on."""
        now_s = asyncio.get_running_loop().time()
        if not self.is_accepted or now_s - self._forgotten_at_s < FORGETS_EVERY_S:
            return False
        log.warning("registration_forgotten")
        self.state, self._forgotten_at_s = State.UNREGISTERED, now_s
        return True

    def ask_again(self) -> None:
        """The CSMS triggers BootNotification while Pending: do not wait for the interval."""
        self._asked.set()

    def take_interval_s(self) -> int | None:
        """The heartbeat interval of a fresh acceptance, once: the CSMS may change the setting later."""
        interval_s, self._interval_s = self._interval_s, None
        return interval_s

    # ---------------------------------------------------------------------------------- exchange

    async def register(self, line: Line, request: Payload, station: StationPort) -> None:
        """Return once accepted, at once where no BootNotification is needed. Raises ``LinkGone``."""
        if not self.is_needed(request):
            return
        if self.state is State.ACCEPTED:
            self.state = State.UNREGISTERED  # the same boot, but something about us changed
        while not self.is_accepted:
            await self._pause(self._not_before_s - asyncio.get_running_loop().time())
            self._asked.clear()
            await self._attempt(line, request, station)

    async def _attempt(self, line: Line, request: Payload, station: StationPort) -> None:
        # Whoever wants to talk meanwhile waits for the answer: had he queued, he would be sent behind a Rejected.
        self.may_talk.clear()
        try:
            outcome = await line.call("BootNotification", request, priority=Priority.BOOT)
            if isinstance(outcome, CallResult):
                self.state = State(outcome.payload["status"])
        finally:
            if self.state is not State.REJECTED:
                self.may_talk.set()
        match outcome:
            case CallResult(payload):
                await self._answered(payload, request, station)
            case CallError(code, description):
                log.warning("boot_refused", code=code, description=description)
                self._wait_s(self._own_retry_s())
            case TimedOut():
                self._wait_s(self._own_retry_s())

    async def _answered(self, payload: Payload, request: Payload, station: StationPort) -> None:
        interval_s = min(int(payload["interval"]), INTERVAL_MAX_S)
        log.info("boot_answered", status=self.state.value, interval_s=interval_s)
        if self.state is State.ACCEPTED:
            self._accepted = request
            self._failures = 0
            if interval_s > 0:
                self.heartbeat_s = self._interval_s = interval_s
            await set_clock(station, payload)
        elif interval_s > 0:
            self._wait_s(interval_s)
        else:
            self._wait_s(self._own_retry_s())  # 16-BOOT-05

    def _own_retry_s(self) -> float:
        """Doubling, with a random part each time, as the back-off of connections (WS-04)."""
        base_s = RETRY_FIRST_S * (1 << min(self._failures, RETRY_DOUBLINGS))
        self._failures += 1
        return base_s + self._rng.uniform(0, RETRY_RANDOM_S)

    def _wait_s(self, delay_s: float) -> None:
        self._not_before_s = asyncio.get_running_loop().time() + delay_s

    async def _pause(self, delay_s: float) -> None:
        """Wait, over reconnects too, unless the CSMS asks for the boot (which Rejected cannot hear)."""
        if delay_s > 0 and await happens(self._asked, delay_s):
            self._not_before_s = 0.0


async def set_clock(station: StationPort, answer: Payload) -> None:
    """Hand ``currentTime`` of a BootNotification or Heartbeat answer to the station."""
    try:
        wall_ms = from_rfc3339(answer["currentTime"])
    except BadTimestamp:
        # An answer without usable time still registers us; the station keeps the clock it has.
        log.warning("bad_current_time")
        return
    if wall_ms < EARLIEST_PLAUSIBLE_MS:
        # Its clock was never set, or lost: ours is better, and a session must not end decades before it began.
        log.warning("implausible_current_time", wall_ms=wall_ms)
        return
    await station.clock(wall_ms)
