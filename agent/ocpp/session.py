"""The asyncio shell around ``rpc``: one reader, one writer, a bounded set of handler tasks.

Charter: carries the pure session's effects out over a ``Transport``. It decides nothing about the
protocol; it owns deadlines, tasks and the order "answer first, then act" (RPC-13).

Bounds: 8 handlers at a time (by ``rpc``), each 5 s; 32 frames waiting to be written, each written within
10 s, else the link is closed.
"""

from __future__ import annotations

import asyncio
import enum
import time
import uuid
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from agent.ocpp import rpc
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.frames import MessageId, Payload
from agent.ocpp.redact import redact
from agent.ocpp.rpc import CallOutcome, LinkLost, Priority
from agent.ocpp.version import Version

HANDLER_TIMEOUT_S: Final = 5.0
SEND_TIMEOUT_S: Final = 10.0
MESSAGE_TIMEOUT_S: Final = 30.0
OUTBOX_MAX: Final = 32

log = structlog.get_logger("ocpp")


class Direction(enum.StrEnum):
    """Which way a traced frame went."""

    IN = "in"
    OUT = "out"


class TransportClosed(Exception):
    """The transport ended; the text says why, for logs and ``LinkLost``. ``code``: the peer closed it with this one."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class Transport(Protocol):
    """Ordered messages both ways. All three raise nothing but ``TransportClosed`` for what the peer did."""

    async def recv(self) -> bytes:
        """The next message. Raises ``TransportClosed`` when there will be none."""

    async def send(self, text: str) -> None:
        """Write a message, waiting while the peer does not read. Raises ``TransportClosed``."""

    async def close(self, code: int, reason: str) -> None:
        """Close with a WebSocket code; harmless when already closed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A handler's answer with something to do once it is written (RPC-13).

    ``after`` runs once, in the event loop, only if the answer was written. It must not block or raise: it
    posts an event or starts a task.
    """

    payload: Payload
    after: Callable[[], None]


Handler = Callable[[str, Payload], Awaitable[Payload | Reply]]


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who else wants to know. All are plain calls in the event loop and must not block."""

    on_traffic: Callable[[Direction], None] | None = None  # a frame came or goes
    on_frame: Callable[[Direction, str], None] | None = None  # message trace; the text is redacted, which takes time
    on_invalid_messages: Callable[[str, int], None] | None = None  # reason, count; at most once a minute


NO_HOOKS: Final = Hooks()


def monotonic_ms() -> int:
    """The process's monotonic clock in milliseconds."""
    return time.monotonic_ns() // 1_000_000


def new_uuid() -> str:
    """A message id that is unique for ever (RPC-02)."""
    return str(uuid.uuid4())


class Session:
    """Calls over one link, from its opening to its end.

    ``handle(action, payload)`` answers the CSMS's calls for the actions in ``supported``; the payload has
    passed its schema. It raises ``RpcError`` to refuse. It must not await ``call`` of this session: the
    CSMS waits for the answer meanwhile (use ``Reply.after``).

    ``on_result`` is called for each good answer, ``on_timed_out`` for each call without one.
    """

    def __init__(
        self,
        transport: Transport,
        version: Version,
        handle: Handler,
        supported: Container[str],
        *,
        message_timeout_s: float = MESSAGE_TIMEOUT_S,
        handler_timeout_s: float = HANDLER_TIMEOUT_S,
        send_timeout_s: float = SEND_TIMEOUT_S,
        validate_outgoing: bool = False,
        hooks: Hooks = NO_HOOKS,
        on_result: Callable[[], None] = lambda: None,
        on_timed_out: Callable[[], None] = lambda: None,
        clock_ms: Callable[[], int] = monotonic_ms,
        new_id: Callable[[], str] = new_uuid,
    ) -> None:
        self.version = version
        self.message_timeout_s = message_timeout_s  # changeable at run time: OCPPCommCtrlr.MessageTimeout
        self._transport = transport
        self._handle = handle
        self._handler_timeout_s = handler_timeout_s
        self._send_timeout_s = send_timeout_s
        self._hooks = hooks
        self._on_result = on_result
        self._on_timed_out = on_timed_out
        self._clock_ms = clock_ms
        self._new_id = new_id
        self._rpc = rpc.Rpc(version, supported, validate_outgoing=validate_outgoing)
        self._calls: dict[str, asyncio.Future[CallOutcome]] = {}
        self._on_late: dict[MessageId, Callable[[Payload], None]] = {}
        self._outbox: asyncio.Queue[tuple[str, Callable[[], None] | None]] = asyncio.Queue()
        self._handlers: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._end_reason: str | None = None
        self._end_code: int | None = None

    @property
    def counters(self) -> rpc.Counters:
        """What went wrong on this link so far."""
        return self._rpc.counters

    # ------------------------------------------------------------------------------------- calls

    async def call(
        self,
        action: str,
        payload: Payload,
        *,
        priority: Priority,
        timeout_s: float | None = None,
        message_id: str | None = None,
        on_late: Callable[[Payload], None] | None = None,
    ) -> CallOutcome:
        """Send a CALL and wait for what becomes of it.

        ``timeout_s`` counts from the moment the slot is free (default ``message_timeout_s``); waiting for
        the slot has no limit. Cancelling is safe: a call that still waits is never sent, a late answer is
        dropped. Give ``message_id`` to repeat an earlier call under its id. ``on_late`` is called with the answer
        that comes after the call has timed out, should one come; the last few such calls are remembered.

        Raises ``KeyError`` (no such action), ``ValueError`` (id under way), ``QueueFull``.
        """
        if self._end_reason is not None:
            return LinkLost(self._end_reason)
        message_id = message_id or self._new_id()
        timeout_ms = round(1000 * (self.message_timeout_s if timeout_s is None else timeout_s))
        effects = self._rpc.call(rpc.OutgoingCall(message_id, action, payload, priority, timeout_ms), self._clock_ms())
        outcome: asyncio.Future[CallOutcome] = asyncio.get_running_loop().create_future()
        self._calls[message_id] = outcome
        if on_late is not None:
            self._on_late[message_id] = on_late
            if len(self._on_late) > rpc.EXPIRED_MAX:
                del self._on_late[next(iter(self._on_late))]
        self._apply(effects)
        try:
            return await outcome
        finally:
            self._calls.pop(message_id, None)
            self._rpc.abandon(message_id)

    async def settled(self) -> None:
        """Wait until what is under way now is over: the CSMS's calls are answered and written, then ours are answered.

        The second shows that the first was read: a CSMS that finds the link closed while it answers reads no more."""
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._outbox.join()
        if self._calls:
            await asyncio.wait(self._calls.values())

    def lose(self, reason: str) -> None:
        """The link carries nothing any more: every call is settled as lost, and so is each that comes."""
        self._end_reason = reason
        self._apply(self._rpc.disconnect(reason, self._end_code))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the link; ``run`` ends and every call is settled as lost."""
        await self._transport.close(code, reason)

    # --------------------------------------------------------------------------------- life cycle

    async def run(self) -> str:
        """Read, write and dispatch until the link ends; returns why it did. To be called once."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._write())
        except* TransportClosed as closed:
            first = closed.exceptions[0]
            self._end_reason = str(first)
            self._end_code = first.code if isinstance(first, TransportClosed) else None
        finally:
            await self._end(self._end_reason or "session stopped")
        assert self._end_reason is not None
        return self._end_reason

    async def _end(self, reason: str) -> None:
        self.lose(reason)
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            data = await self._transport.recv()
            self._trace(Direction.IN, data)
            effects = self._rpc.receive(data, self._clock_ms())
            self._apply(effects)
            close = next((effect for effect in effects if isinstance(effect, rpc.Close)), None)
            if close is None and self._outbox.qsize() > OUTBOX_MAX:
                close = rpc.Close(rpc.CLOSE_POLICY_VIOLATION, "peer sends but does not read")
            if close is not None:
                await self._transport.close(close.code, close.reason)
                raise TransportClosed(close.reason)

    async def _write(self) -> None:
        while True:
            text, after = await self._outbox.get()
            self._trace(Direction.OUT, text.encode())
            try:
                async with asyncio.timeout(self._send_timeout_s):
                    await self._transport.send(text)
            except TimeoutError:
                raise TransportClosed("peer does not read") from None
            self._outbox.task_done()
            if after is not None:
                after()

    # ------------------------------------------------------------------------------------- effects

    def _apply(self, effects: list[rpc.Effect], after: Callable[[], None] | None = None) -> None:
        """Carry effects out in order; ``after`` belongs to the first frame written."""
        for effect in effects:
            match effect:
                case rpc.Transmit(text):
                    self._outbox.put_nowait((text, after))
                    after = None
                case rpc.Dispatch():
                    handler = asyncio.create_task(self._serve(effect))
                    self._handlers.add(handler)
                    handler.add_done_callback(self._handlers.discard)
                case rpc.Settled(message_id, outcome):
                    self._settle(message_id, outcome)
                case rpc.LateAnswer(late_id, payload):
                    log.info("late_answer", message_id=late_id)
                    if (on_late := self._on_late.pop(late_id, None)) is not None:
                        on_late(payload)
                case rpc.InvalidMessages(reason, count):
                    log.warning("invalid_messages", reason=reason, count=count)
                    if self._hooks.on_invalid_messages is not None:
                        self._hooks.on_invalid_messages(reason, count)
                case rpc.Noticed(what, action):
                    log.info("noticed", what=what, action=action)
                case rpc.Close(code, reason):
                    log.warning("closing", code=code, reason=reason)
        self._arm_timer()

    def _settle(self, message_id: str, outcome: CallOutcome) -> None:
        future = self._calls.get(message_id)
        if future is not None and not future.done():  # else the caller gave up
            future.set_result(outcome)
        match outcome:
            case rpc.CallResult():
                self._on_result()
            case rpc.TimedOut():
                log.warning("call_timed_out", message_id=message_id)
                self._on_timed_out()
            case rpc.CallError(code, description):
                log.warning("call_refused", message_id=message_id, code=code, description=description)
            case LinkLost():
                pass  # told once for the link, not for each call

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._rpc.deadline_ms is not None:
            delay_s = max(0, self._rpc.deadline_ms - self._clock_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)

    def _expire(self) -> None:
        self._apply(self._rpc.expire(self._clock_ms()))

    async def _serve(self, request: rpc.Dispatch) -> None:
        """Run the handler within its deadline and queue its answer, whatever becomes of it."""
        try:
            async with asyncio.timeout(self._handler_timeout_s):
                reply = await self._handle(request.action, request.payload)
            payload, after = (reply.payload, reply.after) if isinstance(reply, Reply) else (reply, None)
            effects = self._rpc.answer(request, payload, self._clock_ms())
        except RpcError as error:
            self._refuse(request, error)
        except TimeoutError:
            log.error("handler_too_slow", action=request.action)
            self._refuse(request, RpcError(ErrorCode.INTERNAL_ERROR, "not done in time"))
        except Exception:
            # Our own fault, but a peer can trigger it at will: it must not end the charger's link.
            log.exception("handler_failed", action=request.action)
            self._refuse(request, RpcError(ErrorCode.INTERNAL_ERROR, "internal error"))
        else:
            self._apply(effects, after)

    def _refuse(self, request: rpc.Dispatch, error: RpcError) -> None:
        self._apply(self._rpc.refuse(request, error, self._clock_ms()))

    def _trace(self, direction: Direction, frame: bytes) -> None:
        if self._hooks.on_traffic is not None:
            self._hooks.on_traffic(direction)
        if self._hooks.on_frame is not None:
            self._hooks.on_frame(direction, redact(frame))
