"""OCPP-J framing: text to frames and back.

Charter: reads one WebSocket message from a peer that may be broken or hostile, and writes ours. It
knows arrays, ids and types, not actions or schemas. Reading never raises: what cannot be read comes
back as ``Malformed``, which says what may be answered.

Limits: 1 MiB per message, 32 levels of nesting, 255 characters of message id, integers of 64 bits.
Sources: OCPP 1.6J section 4, OCPP 2.0.1 part 4 section 4 (checklist RPC-01 to RPC-03, RPC-07, RPC-08, RPC-14).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.ocpp.errors import ErrorCode, from_wire, to_wire
from agent.ocpp.version import Version

MESSAGE_MAX_BYTES: Final = 1024 * 1024
DEPTH_MAX: Final = 32
MESSAGE_ID_MAX_CHARS: Final = 255  # the standard says 36; longer ones exist in the field and are harmless

CALL, CALL_RESULT, CALL_ERROR, CALL_RESULT_ERROR, SEND = 2, 3, 4, 5, 6

Payload = dict[str, Any]
MessageId = str | int | float  # a string by the standard; numbers are answered with the same value (RPC-02)

UNREADABLE_ID: Final = "-1"  # 2.x: the id of a CALLERROR for a message whose id could not be read


@dataclass(frozen=True, slots=True)
class Call:
    """A request: [2, id, action, payload]."""

    message_id: MessageId
    action: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a CALL: [3, id, payload]."""

    message_id: MessageId
    payload: Payload


@dataclass(frozen=True, slots=True)
class Error:
    """The refusal of a CALL: [4, id, code, description, details]. ``code`` is in 2.x spelling, unknown ones as sent."""

    message_id: MessageId
    code: str
    description: str
    details: Payload


@dataclass(frozen=True, slots=True)
class ResultError:
    """2.1: the peer could not use our CALLRESULT: [5, id, code, description, details]."""

    message_id: MessageId
    code: str
    description: str


@dataclass(frozen=True, slots=True)
class Send:
    """2.1: a message that is never answered: [6, id, action, payload]."""

    message_id: MessageId
    action: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not a readable frame.

    ``refusal`` is the id and code of the CALLERROR the standard allows, None where it wants silence.
    ``answer_to`` is the id of our own CALL when the frame was meant as its answer.
    """

    reason: str
    refusal: tuple[MessageId, ErrorCode] | None = None
    answer_to: MessageId | None = None


Frame = Call | Result | Error | ResultError | Send


def parse(data: bytes, version: Version) -> Frame | Malformed:
    """Read one WebSocket message. Never raises, whatever ``data`` holds."""
    unreadable = None if version.is_16 else (UNREADABLE_ID, ErrorCode.RPC_FRAMEWORK_ERROR)
    try:
        array = _load(data)
    except ValueError as error:
        return Malformed(str(error), unreadable)
    if not isinstance(array, list) or not array:
        return Malformed("not a JSON array with a message type", unreadable)
    kind = array[0]
    if not _is_number(kind):
        return Malformed("message type is not a number", unreadable)
    message_id = array[1] if len(array) > 1 and _is_message_id(array[1]) else None
    if kind == CALL or (kind == SEND and version is Version.V21):
        return _read_request(array, message_id, version)
    if kind == CALL_RESULT:
        return _read_result(array, message_id)
    if kind == CALL_ERROR or (kind == CALL_RESULT_ERROR and version is Version.V21):
        return _read_error(array, message_id)
    if version.is_16:
        return Malformed("unknown message type")
    answer_id = UNREADABLE_ID if message_id is None else message_id
    return Malformed("unknown message type", (answer_id, ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED))


def _read_request(array: list[Any], message_id: MessageId | None, version: Version) -> Call | Send | Malformed:
    kind = array[0]
    if message_id is not None and len(array) == 4 and isinstance(array[2], str) and isinstance(array[3], dict):
        return Call(message_id, array[2], array[3]) if kind == CALL else Send(message_id, array[2], array[3])
    reason = "request is not [type, id, action, payload object]"
    if kind == SEND:
        return Malformed(reason)
    if version.is_16:
        return Malformed(reason, None if message_id is None else (message_id, ErrorCode.FORMAT_VIOLATION))
    answer_id = UNREADABLE_ID if message_id is None else message_id
    return Malformed(reason, (answer_id, ErrorCode.RPC_FRAMEWORK_ERROR))


def _read_result(array: list[Any], message_id: MessageId | None) -> Result | Malformed:
    """Lenient: what has nothing to say says so in many ways, and PHP writes an empty object as an empty array. Where
    fields are required, the schema misses them."""
    if message_id is not None and len(array) == 3 and (isinstance(array[2], dict) or array[2] in ([], None)):
        return Result(message_id, array[2] or {})
    return Malformed("result is not [3, id, payload object]", answer_to=message_id)


def _read_error(array: list[Any], message_id: MessageId | None) -> Error | ResultError | Malformed:
    """Lenient: peers leave out description and details, and a refusal without reason is still a refusal."""
    if message_id is None or not 3 <= len(array) <= 5 or not isinstance(array[2], str):
        return Malformed("error is not [type, id, code, description, details]", answer_to=message_id)
    code = from_wire(array[2])
    description = array[3] if len(array) > 3 and isinstance(array[3], str) else ""
    details = array[4] if len(array) > 4 and isinstance(array[4], dict) else {}
    if array[0] == CALL_ERROR:
        return Error(message_id, code, description, details)
    return ResultError(message_id, code, description)


# ----------------------------------------------------------------------------------------- writing


def call_text(message_id: str, action: str, payload: Payload) -> str:
    """The text of a CALL."""
    return _dump([CALL, message_id, action, payload])


def result_text(message_id: MessageId, payload: Payload) -> str:
    """The text of a CALLRESULT."""
    return _dump([CALL_RESULT, message_id, payload])


def error_text(
    message_id: MessageId,
    code: ErrorCode,
    description: str,
    details: Mapping[str, Any],
    version: Version,
    *,
    kind: int = CALL_ERROR,
) -> str:
    """The text of a CALLERROR, or of a CALLRESULTERROR with ``kind`` 5."""
    return _dump([kind, message_id, to_wire(code, version), description, dict(details)])


def _dump(array: list[Any]) -> str:
    # ASCII output: a lone surrogate in an id that we echo must not break the UTF-8 of the socket.
    return json.dumps(array, separators=(",", ":"), allow_nan=False)


# ----------------------------------------------------------------------------------------- reading

# Whole strings (possessive, so that no input makes it backtrack; an unfinished one runs to the end) or one bracket.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.?)*+"?|[\[\]{}]', re.DOTALL)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _load(data: bytes) -> object:
    """Parse JSON within our limits; every fault is a ``ValueError`` without payload in its text."""
    if len(data) > MESSAGE_MAX_BYTES:
        raise ValueError("message is too large")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    if _too_deep(text):
        raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
    try:
        value: object = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite_float, parse_int=_bounded_int
        )
    except ValueError as error:
        raise ValueError("not JSON within the limits") from error
    if "\\u" in text and _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("not Unicode")  # it could be neither stored nor sent on
    return value


def _too_deep(text: str) -> bool:
    """Tell before parsing: the parser recurses once per level."""
    if text.count("[") + text.count("{") <= DEPTH_MAX:
        return False
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        match token[0]:
            case "[" | "{":
                depth += 1
                if depth > DEPTH_MAX:
                    return True
            case "]" | "}":
                depth -= 1
    return False


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _bounded_int(text: str) -> int:
    """Refuse what no 64-bit store can hold."""
    if len(text) > 20 or abs(value := int(text)) >= 2**63:
        raise ValueError("number out of range")
    return value


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("number out of range")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_message_id(value: object) -> bool:
    return len(value) <= MESSAGE_ID_MAX_CHARS if isinstance(value, str) else _is_number(value)
