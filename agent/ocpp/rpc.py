"""The OCPP-J call session as a pure state machine: frames and intents in, effects out.

Charter: one outgoing CALL at a time, fed by a priority queue; answers matched to it; incoming CALLs
checked and handed out, duplicates recognised; everything bounded. No I/O, no clock, no tasks: time
and message ids are arguments, and the shell (``session``) carries the effects out in order. The one
exception is that ``schema`` reads a schema file at the first use of a message.

States of an outgoing call: waiting -> in flight -> settled. A call in flight holds the slot until its
answer, its deadline or the end of the link; a caller that gave up does not free it (RPC-04).
States of an incoming call: in work -> answered (kept a minute, to answer a repetition) -> forgotten.

Units: milliseconds of a monotonic clock.
Sources: OCPP 1.6J section 4, OCPP 2.0.1 part 4 section 4 (checklist RPC-04 to RPC-14).
"""

from __future__ import annotations

import enum
import hashlib
import heapq
from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, Final

from agent.ocpp import frames, schema
from agent.ocpp.answers import Answers
from agent.ocpp.errors import DESCRIPTION_MAX_CHARS, ErrorCode, RpcError
from agent.ocpp.frames import MessageId, Payload
from agent.ocpp.version import Version

IN_WORK_MAX: Final = 8
WAITING_MAX: Final = 64
ANSWERED_MAX: Final = 16
ANSWERED_KEPT_MS: Final = 60_000
EXPIRED_MAX: Final = 16
INVALID_REPORT_EVERY_MS: Final = 60_000

CLOSE_POLICY_VIOLATION: Final = 1008


class Priority(enum.IntEnum):
    """Which waiting call gets the slot first (RPC-12); first come first served within a level."""

    BOOT = 0
    DRIVER = 1  # Authorize and whatever else somebody at the station waits for
    STATUS = 2  # security events, StatusNotification
    TRANSACTION = 3
    REPORT = 4


# ---------------------------------------------------------------------------------------- outcomes


@dataclass(frozen=True, slots=True)
class CallResult:
    """The peer answered, and what is left of the answer conforms to its schema (fields we do not know aside)."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class CallError:
    """The peer refused, or its answer was ``unusable``. ``code`` is in 2.x spelling; unknown codes come as sent."""

    code: str
    description: str
    details: dict[str, Any] = field(default_factory=dict)
    unusable: bool = False


@dataclass(frozen=True, slots=True)
class TimedOut:
    """No answer in time. Whether the peer acted on the call is unknown."""


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The link ended before the answer came. Whether the peer received the call is unknown.

    ``sent``: the call was in flight, not waiting for the slot; ``code``: with which WebSocket code the peer closed."""

    reason: str
    code: int | None = None
    sent: bool = False


CallOutcome = CallResult | CallError | TimedOut | LinkLost


@dataclass(frozen=True, slots=True)
class OutgoingCall:
    """A request of ours. ``message_id`` is unique among the calls under way."""

    message_id: str
    action: str
    payload: Payload
    priority: Priority
    timeout_ms: int


class QueueFull(Exception):
    """More calls wait than ``WAITING_MAX``: their owner must await one before it makes the next."""


# ----------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Transmit:
    """Write this text to the peer."""

    text: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Run the handler, then call ``answer`` or ``refuse``. The payload has passed its schema."""

    message_id: MessageId
    action: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Settled:
    """A call of ours is over."""

    message_id: str
    outcome: CallOutcome


@dataclass(frozen=True, slots=True)
class LateAnswer:
    """The answer to a call that was settled as timed out. It has passed its schema."""

    message_id: MessageId
    payload: Payload


@dataclass(frozen=True, slots=True)
class InvalidMessages:
    """The peer sent what cannot be used: ``count`` since the last report, at most one report a minute (RPC-07)."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Noticed:
    """Worth a log line, otherwise without consequence."""

    what: str
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the link with this WebSocket code."""

    code: int
    reason: str


Effect = Transmit | Dispatch | Settled | LateAnswer | InvalidMessages | Noticed | Close


@dataclass(slots=True)
class Counters:
    """What went wrong since the link opened."""

    late_answers: int = 0  # answers to calls that had timed out
    stray_answers: int = 0  # answers to nobody
    duplicate_calls: int = 0
    invalid_messages: int = 0
    timed_out_calls: int = 0
    unanswered_calls: int = 0  # timed out in a row, and no answer, not even a late one, and no call came since


@dataclass(frozen=True, slots=True)
class _InFlight:
    call: OutgoingCall
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class _Answered:
    digest: bytes
    text: str
    at_ms: int


class Rpc:
    """One link's calls in both directions. ``supported`` holds the actions the handler takes."""

    def __init__(self, version: Version, supported: Container[str], *, validate_outgoing: bool = False) -> None:
        self.version = version
        self.counters = Counters()
        self._supported = supported
        self._answers = Answers(version)
        self._validate_outgoing = validate_outgoing
        self._waiting: list[tuple[Priority, int, OutgoingCall]] = []  # heap
        self._sequence = 0
        self._in_flight: _InFlight | None = None
        self._expired: OrderedDict[MessageId, str] = OrderedDict()  # the actions of calls that timed out
        self._in_work: dict[MessageId, bytes] = {}  # digest of the CALL, by id
        self._answered: OrderedDict[MessageId, _Answered] = OrderedDict()
        self._invalid_unreported = 0
        self._next_invalid_report_ms: int | None = None

    @property
    def deadline_ms(self) -> int | None:
        """When ``expire`` wants to be called, None while no call is in flight."""
        return self._in_flight.deadline_ms if self._in_flight else None

    # ----------------------------------------------------------------------------- our own calls

    def call(self, call: OutgoingCall, now_ms: int) -> list[Effect]:
        """Queue a call, and send it if the slot is free.

        Raises ``KeyError`` for an action this version does not have, ``ValueError`` for an id under way,
        ``QueueFull``, and with ``validate_outgoing`` ``SchemaViolation``.
        """
        if call.action not in schema.actions(self.version):
            raise KeyError(call.action)
        if self._validate_outgoing:
            schema.check_request(self.version, call.action, call.payload)
        in_flight = [self._in_flight.call] if self._in_flight else []
        if any(other.message_id == call.message_id for other in in_flight + [entry[2] for entry in self._waiting]):
            raise ValueError(f"message id {call.message_id} is already under way")
        if len(self._waiting) >= WAITING_MAX:
            raise QueueFull(f"{WAITING_MAX} calls wait already")
        self._sequence += 1
        heapq.heappush(self._waiting, (call.priority, self._sequence, call))
        return self._fill_slot(now_ms)

    def abandon(self, message_id: str) -> None:
        """The caller gave up. A waiting call is never sent; one in flight keeps the slot until it is settled."""
        self._waiting = [entry for entry in self._waiting if entry[2].message_id != message_id]
        heapq.heapify(self._waiting)

    def expire(self, now_ms: int) -> list[Effect]:
        """Settle the call in flight if its deadline has passed (RPC-05)."""
        if self._in_flight is None or now_ms < self._in_flight.deadline_ms:
            return []
        self.counters.timed_out_calls += 1
        self.counters.unanswered_calls += 1
        self._expired[self._in_flight.call.message_id] = self._in_flight.call.action
        if len(self._expired) > EXPIRED_MAX:
            self._expired.popitem(last=False)
        return self._settle(TimedOut(), now_ms)

    def disconnect(self, reason: str, code: int | None = None) -> list[Effect]:
        """The link ended: every call, in flight or waiting, is settled as lost. ``code``: see ``LinkLost``."""
        sent = [self._in_flight.call] if self._in_flight else []
        waiting = [call for _, _, call in sorted(self._waiting)]
        self._in_flight, self._waiting = None, []
        lost: list[Effect] = [Settled(call.message_id, LinkLost(reason, code, sent=True)) for call in sent]
        return lost + [Settled(call.message_id, LinkLost(reason, code)) for call in waiting]

    def _fill_slot(self, now_ms: int) -> list[Effect]:
        if self._in_flight is not None or not self._waiting:
            return []
        call = heapq.heappop(self._waiting)[2]
        self._in_flight = _InFlight(call, now_ms + call.timeout_ms)
        return [Transmit(frames.call_text(call.message_id, call.action, call.payload))]

    def _settle(self, outcome: CallOutcome, now_ms: int) -> list[Effect]:
        assert self._in_flight is not None
        message_id = self._in_flight.call.message_id
        self._in_flight = None
        return [Settled(message_id, outcome), *self._fill_slot(now_ms)]

    # --------------------------------------------------------------------- answers to the peer's calls

    def answer(self, request: Dispatch, payload: object, now_ms: int) -> list[Effect]:
        """What the handler returned for a dispatched CALL.

        Raises ``TypeError`` or ``ValueError`` when it is not a JSON object or, with ``validate_outgoing``, not
        a valid answer. The CALL is still in work then: refuse it.
        """
        if not isinstance(payload, dict):
            raise TypeError(f"{request.action} answer is {type(payload).__name__}, not an object")
        if self._validate_outgoing:
            self._check_answer(request.action, payload)
        return self._reply(request.message_id, frames.result_text(request.message_id, payload), now_ms)

    def _check_answer(self, action: str, payload: Payload) -> None:
        try:
            unknown = schema.check_response(self.version, action, payload)
        except schema.SchemaViolation as violation:
            raise ValueError(f"{action} answer: {violation.description}") from violation
        if unknown:
            raise ValueError(f"{action} answer has unknown fields: {', '.join(unknown)}")

    def refuse(self, request: Dispatch, error: RpcError, now_ms: int) -> list[Effect]:
        """The handler's refusal of a dispatched CALL."""
        return self._reply(request.message_id, self._error_text(request.message_id, error), now_ms)

    def _reply(self, message_id: MessageId, text: str, now_ms: int) -> list[Effect]:
        self._answered[message_id] = _Answered(self._in_work.pop(message_id), text, now_ms)
        self._answered.move_to_end(message_id)
        if len(self._answered) > ANSWERED_MAX:
            self._answered.popitem(last=False)
        return [Transmit(text)]

    def _error_text(self, message_id: MessageId, error: RpcError) -> str:
        return frames.error_text(message_id, error.code, error.description, error.details, self.version)

    # --------------------------------------------------------------------------------- receiving

    def receive(self, data: bytes, now_ms: int) -> list[Effect]:
        """Take one message from the peer. Never raises, whatever it holds."""
        frame = frames.parse(data, self.version)
        if not isinstance(frame, frames.Malformed):
            self.counters.unanswered_calls = 0
        match frame:
            case frames.Call() as call:
                return self._incoming(call, hashlib.sha256(data).digest(), now_ms)
            case frames.Result(message_id, payload):
                if not self._is_expected(message_id):
                    return self._unexpected(message_id, payload, now_ms)
                return self._result(payload, now_ms)
            case frames.Error(message_id, code, description, details):
                if not self._is_expected(message_id):
                    return self._unexpected(message_id, None, now_ms)
                return self._settle(CallError(code, description[:DESCRIPTION_MAX_CHARS], details), now_ms)
            case frames.ResultError(_, code, _):
                return [Noticed(f"peer could not use our answer: {code[:DESCRIPTION_MAX_CHARS]}")]
            case frames.Send():
                return [Noticed("SEND ignored: no action of this direction exists")]
            case frames.Malformed() as malformed:
                return self._malformed(malformed, now_ms)

    def _incoming(self, call: frames.Call, digest: bytes, now_ms: int) -> list[Effect]:
        if repeated := self._repetition(call.message_id, digest, now_ms):
            self.counters.duplicate_calls += 1
            return repeated
        if len(self._in_work) >= IN_WORK_MAX:
            return [Close(CLOSE_POLICY_VIOLATION, f"more than {IN_WORK_MAX} unanswered calls")]
        self._in_work[call.message_id] = digest
        request = Dispatch(call.message_id, call.action, call.payload)
        try:
            self._admit(call)
        except schema.SchemaViolation as violation:
            reply = self.refuse(request, violation, now_ms)
            return reply + self._report_invalid(f"{call.action}: {violation.description}", now_ms)
        except RpcError as error:
            return self.refuse(request, error, now_ms)
        return [request]

    def _admit(self, call: frames.Call) -> None:
        """RPC-09: unknown is NotImplemented, known but not offered is NotSupported, then the schema decides."""
        if call.action not in schema.actions(self.version):
            raise RpcError(ErrorCode.NOT_IMPLEMENTED, "unknown action")
        if call.action not in self._supported:
            raise RpcError(ErrorCode.NOT_SUPPORTED, f"{call.action} is not offered")
        schema.check_request(self.version, call.action, call.payload)

    def _repetition(self, message_id: MessageId, digest: bytes, now_ms: int) -> list[Effect]:
        """RPC-06: what to answer when this id was seen before, nothing when it was not."""
        if message_id in self._in_work:
            error = RpcError(ErrorCode.RPC_FRAMEWORK_ERROR, "message id is still in work")
            return [Transmit(self._error_text(message_id, error))]
        earlier = self._answered.get(message_id)
        if earlier is None or earlier.digest != digest or now_ms - earlier.at_ms >= ANSWERED_KEPT_MS:
            return []
        return [Transmit(earlier.text)]

    def _is_expected(self, message_id: MessageId) -> bool:
        return self._in_flight is not None and self._in_flight.call.message_id == message_id

    def _unexpected(self, message_id: MessageId, payload: Payload | None, now_ms: int) -> list[Effect]:
        """``payload`` None: it is an error. RPC-05: late, it may be taken for its own call, never for the next."""
        action = self._expired.get(message_id)
        if action is None:
            self.counters.stray_answers += 1
            return [Noticed("answer to no call dropped")]
        self.counters.late_answers += 1
        if payload is None:
            return [Noticed("late refusal dropped", action)]  # it counts as a failure already
        try:
            noticed = self._answers.take(action, payload)
        except schema.SchemaViolation as violation:
            return self._report_invalid(f"late {action} response: {violation.description}", now_ms)
        return [*(Noticed(what, action) for what in noticed), LateAnswer(message_id, payload)]

    def _result(self, payload: Payload, now_ms: int) -> list[Effect]:
        assert self._in_flight is not None
        call = self._in_flight.call
        try:
            noticed = self._answers.take(call.action, payload)
        except schema.SchemaViolation as violation:
            return self._unusable_answer(violation, now_ms)
        return [*(Noticed(what, call.action) for what in noticed), *self._settle(CallResult(payload), now_ms)]

    def _unusable_answer(self, error: RpcError, now_ms: int) -> list[Effect]:
        """RPC-08: only 2.1 may tell the peer, with a CALLRESULTERROR."""
        assert self._in_flight is not None
        call = self._in_flight.call
        effects: list[Effect] = []
        if self.version is Version.V21:
            text = frames.error_text(
                call.message_id, error.code, error.description, {}, self.version, kind=frames.CALL_RESULT_ERROR
            )
            effects.append(Transmit(text))
        effects += self._report_invalid(f"{call.action} response: {error.description}", now_ms)
        description = f"unusable answer: {error.description}"[:DESCRIPTION_MAX_CHARS]
        outcome = CallError(error.code, description, unusable=True)
        return effects + self._settle(outcome, now_ms)

    def _malformed(self, malformed: frames.Malformed, now_ms: int) -> list[Effect]:
        if malformed.answer_to is not None and self._is_expected(malformed.answer_to):
            return self._unusable_answer(RpcError(ErrorCode.FORMAT_VIOLATION, malformed.reason), now_ms)
        effects: list[Effect] = []
        if malformed.refusal is not None:
            message_id, code = malformed.refusal
            effects.append(Transmit(self._error_text(message_id, RpcError(code, malformed.reason))))
        return effects + self._report_invalid(malformed.reason, now_ms)

    def _report_invalid(self, reason: str, now_ms: int) -> list[Effect]:
        self.counters.invalid_messages += 1
        self._invalid_unreported += 1
        if self._next_invalid_report_ms is not None and now_ms < self._next_invalid_report_ms:
            return []
        self._next_invalid_report_ms = now_ms + INVALID_REPORT_EVERY_MS
        count, self._invalid_unreported = self._invalid_unreported, 0
        return [InvalidMessages(reason, count)]
