"""Message validation: JSON schemas compiled to closures, once per message and on first use.

Charter: says whether a payload conforms to its OCPP schema and, if not, where and with which error
code. It does not convert, default or copy anything, and it does not check ``date-time`` strings:
they are checked where they are parsed (``timestamps``). Only an answer of the CSMS may be made to conform
(``mend_response``).

The schema *files* come from the ``ocpp`` distribution, found without importing it (its import costs
10 MiB). All of them are read as draft 4, as that package does: 1.0 is not an integer, true is not a
number. A keyword this compiler does not know makes it fail loudly rather than pass silently.

Why not a library: jsonschema needs about 1 ms for one TransactionEvent on a server core, ten times
that on the station's board; closures need 12 us and no memory to speak of.

Sources: OCPP JSON schemas 1.6, 2.0.1, 2.1; checklist 6.2, RPC-09, RPC-10, RPC-11.
"""

from __future__ import annotations

import decimal
import enum
import functools
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.version import Version


class Fault(enum.Enum):
    """What is wrong with a value, in the peer-facing words of the description."""

    MISSING = "required but missing"
    UNKNOWN_FIELD = "unknown field"
    WRONG_TYPE = "wrong type"
    TOO_FEW = "too few items"
    TOO_MANY = "too many items"
    TOO_LONG = "too long"
    NOT_ALLOWED = "not one of the allowed values"
    TOO_SMALL = "below the minimum"
    TOO_LARGE = "above the maximum"
    NOT_A_MULTIPLE = "not a multiple of the step"


_CODES = {
    Fault.MISSING: ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
    Fault.UNKNOWN_FIELD: ErrorCode.FORMAT_VIOLATION,
    Fault.WRONG_TYPE: ErrorCode.TYPE_CONSTRAINT_VIOLATION,
    Fault.TOO_FEW: ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
    Fault.TOO_MANY: ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION,
}

_NAME_MAX_CHARS = 50
_REFUSAL = "Invalid"
"""What an unknown status of a token is read as. No other enumeration in an answer of the CSMS has this value."""
_NARROWING = frozenset({"evseId"})
"""Optional members that take something back, as idTokenInfo.evseId does: without them more would be allowed."""


class SchemaViolation(RpcError):
    """A payload does not conform. ``path`` is like ``meterValue[0].sampledValue[2].unit``; empty = the payload."""

    def __init__(self, fault: Fault, path: str, version: Version) -> None:
        self.fault = fault
        self.path = path
        code = _CODES.get(fault, ErrorCode.PROPERTY_CONSTRAINT_VIOLATION)
        if fault is Fault.MISSING and version.is_16:
            code = ErrorCode.PROTOCOL_ERROR  # 1.6J table 7: "Payload for Action is incomplete"
        super().__init__(code, f"{path or 'payload'}: {fault.value}")


@dataclass(slots=True)
class Leniency:
    """What was passed over in an answer: names of fields we do not know and, where it ``mends``, of optional ones that
    were null, and what was wrong with others."""

    mends: bool
    unknown: list[str] = field(default_factory=list)
    nulls: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def actions(version: Version) -> frozenset[str]:
    """Every action of ``version``, whichever side sends it."""
    return frozenset(_request_files(version))


def check_request(version: Version, action: str, payload: object) -> None:
    """Raise ``SchemaViolation`` unless ``payload`` is a valid request. ``action`` must be known (``KeyError``)."""
    _check(version, _request_files(version)[action], payload, None)


def check_response(version: Version, action: str, payload: object) -> tuple[str, ...]:
    """Raise ``SchemaViolation`` unless ``payload`` is a valid response, unknown fields aside.

    Returns the names of unknown fields, which some CSMS add and which the caller logs (RPC-11).
    """
    return tuple(_check_leniently(version, action, payload, Leniency(mends=False)).unknown)


def mend_response(version: Version, action: str, payload: object) -> Leniency:
    """As ``check_response``, but what need not be there does not void the rest: it is taken out of ``payload`` where it
    breaks the schema, and a status of a token that we do not know becomes Invalid."""
    return _check_leniently(version, action, payload, Leniency(mends=True))


def _check_leniently(version: Version, action: str, payload: object, leniency: Leniency) -> Leniency:
    if f"{action}Response" not in _files(version):
        raise KeyError(action)
    _check(version, f"{action}Response", payload, leniency)
    return leniency


# ------------------------------------------------------------------------------------------- files


@functools.cache
def _files(version: Version) -> Mapping[str, Path]:
    spec = importlib.util.find_spec("ocpp")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the OCPP schema files are missing: distribution 'ocpp' is not installed")
    folder = Path(spec.submodule_search_locations[0]) / f"v{version.value.replace('.', '')}" / "schemas"
    return {path.stem: path for path in folder.glob("*.json")}


@functools.cache
def _request_files(version: Version) -> Mapping[str, str]:
    """Action -> name of its request schema: ``Reset`` in 1.6, ``ResetRequest`` in 2.x."""
    requests = (stem for stem in _files(version) if not stem.endswith("Response"))
    return {stem.removesuffix("Request"): stem for stem in requests}


def _check(version: Version, stem: str, payload: object, leniency: Leniency | None) -> None:
    try:
        _compiled(version, stem)(payload, leniency)
    except _Mismatch as mismatch:
        raise SchemaViolation(mismatch.fault, mismatch.json_path(), version) from None


@functools.cache  # bounded: one entry per schema file
def _compiled(version: Version, stem: str) -> Check:
    schema = json.loads(_files(version)[stem].read_text(encoding="utf-8"))
    return _Compiler(schema.get("definitions", {})).compile(schema)


# ---------------------------------------------------------------------------------------- compiler

# A check returns nothing or raises _Mismatch. None for the second argument: nothing is passed over.
Check = Callable[[object, Leniency | None], None]


class _Mismatch(Exception):
    """Unwinds to the root, collecting the path on its way: the good case pays nothing for it."""

    def __init__(self, fault: Fault, *path: str | int, instead: str | None = None) -> None:
        self.fault = fault
        self.path = list(path)
        self.instead = instead  # what the value may be read as

    def json_path(self) -> str:
        text = ""
        for step in reversed(self.path):
            text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
        return text


_ANNOTATIONS = frozenset(
    {"$schema", "$id", "title", "description", "comment", "javaType", "default", "definitions", "format", "type"}
)
# additionalProperties on a string and additionalItems beside a single item schema constrain nothing.
_STRING = _ANNOTATIONS | {"maxLength", "enum", "additionalProperties"}
_NUMBER = _ANNOTATIONS | {"minimum", "maximum", "multipleOf"}
_ARRAY = _ANNOTATIONS | {"items", "minItems", "maxItems", "additionalItems"}
_OBJECT = _ANNOTATIONS | {"properties", "required", "additionalProperties"}

# The exact remainder of the largest number that the JSON parser lets through.
_EXACT = decimal.Context(prec=5000)


class _Compiler:
    """Turns the nodes of one schema file into closures; shared definitions are compiled once."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._done: dict[str, Check] = {}

    def compile(self, node: Mapping[str, Any]) -> Check:
        if "$ref" in node:
            return self._reference(node["$ref"])
        match node.get("type"):
            case "object":
                return self._object(_known(node, _OBJECT))
            case "array":
                return self._array(_known(node, _ARRAY))
            case "string":
                return _string(_known(node, _STRING))
            case "integer":
                return _number(_known(node, _NUMBER), (int,))
            case "number":
                return _number(_known(node, _NUMBER), (int, float))
            case "boolean":
                _known(node, _ANNOTATIONS)
                return _boolean
            case None:  # free-form data
                _known(node, _ANNOTATIONS)
                return _anything
            case other:
                raise ValueError(f"unsupported schema type {other!r}")

    def _reference(self, ref: str) -> Check:
        name = ref.removeprefix("#/definitions/")
        if name not in self._done:
            self._done[name] = self.compile(self._definitions[name])
        return self._done[name]

    def _object(self, node: Mapping[str, Any]) -> Check:
        properties = {name: self.compile(child) for name, child in node.get("properties", {}).items()}
        required = tuple(node.get("required", ()))
        closed = node.get("additionalProperties", True) is False

        def check(value: object, leniency: Leniency | None) -> None:
            if not isinstance(value, dict):
                raise _Mismatch(Fault.WRONG_TYPE)
            for name in required:
                if name not in value:
                    raise _Mismatch(Fault.MISSING, name)
            broken: dict[str, _Mismatch] = {}
            for name, member in value.items():
                member_check = properties.get(name)
                if member_check is not None:
                    try:
                        member_check(member, leniency)
                    except _Mismatch as mismatch:
                        mismatch.path.append(name)
                        if leniency is None or not leniency.mends:
                            raise
                        broken[name] = mismatch
                elif closed:
                    if leniency is None:
                        raise _Mismatch(Fault.UNKNOWN_FIELD, name[:_NAME_MAX_CHARS])
                    leniency.unknown.append(name[:_NAME_MAX_CHARS])
            if leniency is not None:
                for name, found in broken.items():
                    _mend(value, name, found, leniency, is_required=name in required)

        return check

    def _array(self, node: Mapping[str, Any]) -> Check:
        item_check = self.compile(node["items"]) if "items" in node else _anything
        low, high = node.get("minItems", 0), node.get("maxItems")

        def check(value: object, leniency: Leniency | None) -> None:
            if not isinstance(value, list):
                raise _Mismatch(Fault.WRONG_TYPE)
            if len(value) < low:
                raise _Mismatch(Fault.TOO_FEW)
            if high is not None and len(value) > high:
                raise _Mismatch(Fault.TOO_MANY)
            for index, item in enumerate(value):
                try:
                    item_check(item, leniency)
                except _Mismatch as mismatch:
                    mismatch.path.append(index)
                    raise

        return check


def _mend(value: dict[str, Any], name: str, mismatch: _Mismatch, leniency: Leniency, *, is_required: bool) -> None:
    """Make ``value`` do without a member that breaks its schema, or raise where it cannot."""
    member = value[name]
    if mismatch.instead is not None and mismatch.path == [name]:
        value[name] = mismatch.instead
    elif is_required or (name in _NARROWING and member):
        raise mismatch
    else:
        del value[name]
    if member is None:
        leniency.nulls.append(name)
    else:
        leniency.faults.append(f"{mismatch.json_path()}: {mismatch.fault.value}")


def _known(node: Mapping[str, Any], keywords: frozenset[str]) -> Mapping[str, Any]:
    if strange := node.keys() - keywords:
        raise ValueError(f"unsupported schema keywords {sorted(strange)}")
    return node


def _string(node: Mapping[str, Any]) -> Check:
    longest = node.get("maxLength")
    allowed = frozenset(node["enum"]) if "enum" in node else None
    instead = _REFUSAL if allowed is not None and _REFUSAL in allowed else None

    def check(value: object, _leniency: Leniency | None) -> None:
        if not isinstance(value, str):
            raise _Mismatch(Fault.WRONG_TYPE)
        if longest is not None and len(value) > longest:
            raise _Mismatch(Fault.TOO_LONG)
        if allowed is not None and value not in allowed:
            raise _Mismatch(Fault.NOT_ALLOWED, instead=instead)

    return check


def _number(node: Mapping[str, Any], types: tuple[type, ...]) -> Check:
    low, high = node.get("minimum"), node.get("maximum")
    step = decimal.Decimal(str(node["multipleOf"])) if "multipleOf" in node else None

    def check(value: object, _leniency: Leniency | None) -> None:
        if not isinstance(value, types) or isinstance(value, bool):
            raise _Mismatch(Fault.WRONG_TYPE)
        if low is not None and value < low:
            raise _Mismatch(Fault.TOO_SMALL)
        if high is not None and value > high:
            raise _Mismatch(Fault.TOO_LARGE)
        # In decimal: 8.1 is a multiple of 0.1, which binary floats deny.
        if step is not None and _EXACT.remainder(decimal.Decimal(str(value)), step) != 0:
            raise _Mismatch(Fault.NOT_A_MULTIPLE)

    return check


def _boolean(value: object, _leniency: Leniency | None) -> None:
    if not isinstance(value, bool):
        raise _Mismatch(Fault.WRONG_TYPE)


def _anything(_value: object, _leniency: Leniency | None) -> None:
    """Free-form data: every JSON value is allowed."""
