"""Framing: what is read, what is refused, what is written (RPC-01 to RPC-03, RPC-07, RPC-08, RPC-14)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ocpp import frames
from agent.ocpp.errors import ErrorCode, from_wire, to_wire
from agent.ocpp.frames import Call, Error, Malformed, Result, ResultError, Send, parse
from agent.ocpp.version import Version

V16, V201, V21 = Version.V16, Version.V201, Version.V21
FRAMEWORK, FORMAT = ErrorCode.RPC_FRAMEWORK_ERROR, ErrorCode.FORMAT_VIOLATION
NOT_A_TYPE = ErrorCode.MESSAGE_TYPE_NOT_SUPPORTED


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ('[2,"a","Reset",{"type":"Soft"}]', Call("a", "Reset", {"type": "Soft"})),
        ('[3,"a",{}]', Result("a", {})),
        ('[4,"a","GenericError","no",{"x":1}]', Error("a", "GenericError", "no", {"x": 1})),
        (' [ 3 , "a" , { } ] \n', Result("a", {})),
        ('[2,17,"Reset",{}]', Call(17, "Reset", {})),
        ('[3.0,"a",{}]', Result("a", {})),
        ('[3,"a",[]]', Result("a", {})),  # PHP
        ('[3,"a",null]', Result("a", {})),
        ('[4,"a","FormationViolation"]', Error("a", "FormatViolation", "", {})),
        ('[4,"a","OccurenceConstraintViolation",null,null]', Error("a", "OccurrenceConstraintViolation", "", {})),
        ('[4,"a","VendorMood",""]', Error("a", "VendorMood", "", {})),
    ],
)
@pytest.mark.parametrize("version", list(Version))
def test_rpc_01_readable_frames(text: str, frame: object, version: Version) -> None:
    assert parse(text.encode(), version) == frame


@pytest.mark.parametrize("text", ['[5,"a","FormatViolation","why",{}]', '[6,"a","NotifyPeriodicEventStream",{}]'])
def test_rpc_01_types_5_and_6_exist_in_21_only(text: str) -> None:
    assert isinstance(parse(text.encode(), V21), ResultError | Send)
    assert parse(text.encode(), V201) == Malformed("unknown message type", ("a", NOT_A_TYPE))
    assert parse(text.encode(), V16) == Malformed("unknown message type")


UNREADABLE = [
    b"",
    b"\xff\xfe",
    b"hello",
    b'[2,"a","Reset",{}',
    b"{}",
    b"[]",
    b"null",
    b"2",
    b'"[2]"',
    b'[null,"a","Reset",{}]',
    b'[true,"a","Reset",{}]',
    b'["2","a","Reset",{}]',
    b'[[2],"a","Reset",{}]',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'[2,"a","Reset",' + b"[" * 33 + b"]" * 33 + b"]",
    b'[2,"a","Reset",{"x":NaN}]',
    b'[2,"a","Reset",{"x":-Infinity}]',
    b'[2,"a","Reset",{"x":1e999}]',
    b'[2,"a","Reset",{"x":9223372036854775808}]',
    b'[2,"a","Reset",{"x":' + b"9" * 10_000 + b"}]",
    b'[2,"a","Reset",{"x":"\\ud800"}]',
    b'[2,"\\uDC00","Reset",{}]',
    b'[2,"a","Reset",{"x":"' + b"y" * frames.MESSAGE_MAX_BYTES + b'"}]',
]


@pytest.mark.parametrize("data", UNREADABLE, ids=lambda data: repr(data[:24]))
def test_rpc_07_unreadable_is_refused_with_minus_one_in_2x_and_dropped_in_16(data: bytes) -> None:
    refused = parse(data, V201)
    assert isinstance(refused, Malformed)
    assert refused.refusal == ("-1", FRAMEWORK)
    assert refused.answer_to is None
    dropped = parse(data, V16)
    assert isinstance(dropped, Malformed)
    assert dropped.refusal is None


@pytest.mark.parametrize(
    ("text", "in_16", "in_2x"),
    [
        ('[2,"a"]', ("a", FORMAT), ("a", FRAMEWORK)),
        ("[2]", None, ("-1", FRAMEWORK)),
        ('[2,"a","Reset"]', ("a", FORMAT), ("a", FRAMEWORK)),
        ('[2,"a","Reset",{},1]', ("a", FORMAT), ("a", FRAMEWORK)),
        ('[2,"a","Reset",null]', ("a", FORMAT), ("a", FRAMEWORK)),
        ('[2,"a","Reset",[]]', ("a", FORMAT), ("a", FRAMEWORK)),
        ('[2,"a",{"x":1},{}]', ("a", FORMAT), ("a", FRAMEWORK)),
        ('[2,"a",[],{}]', ("a", FORMAT), ("a", FRAMEWORK)),
        ('[2,null,"Reset",{}]', None, ("-1", FRAMEWORK)),
        ('[2,["a"],"Reset",{}]', None, ("-1", FRAMEWORK)),
        ('[2,true,"Reset",{}]', None, ("-1", FRAMEWORK)),
        (f'[2,"{"i" * 256}","Reset",{{}}]', None, ("-1", FRAMEWORK)),
        ('[7,"a",{}]', None, ("a", NOT_A_TYPE)),
        ("[-1]", None, ("-1", NOT_A_TYPE)),
        ("[2.5,[]]", None, ("-1", NOT_A_TYPE)),
        ('[1e300,"a"]', None, ("a", NOT_A_TYPE)),
    ],
)
def test_rpc_07_rpc_08_what_may_be_answered(text: str, in_16: object, in_2x: object) -> None:
    for version, expected in ((V16, in_16), (V201, in_2x), (V21, in_2x)):
        malformed = parse(text.encode(), version)
        assert isinstance(malformed, Malformed)
        assert malformed.refusal == expected, version


@pytest.mark.parametrize(
    "text", ['[3,"a"]', '[3,"a",0]', '[3,"a",""]', '[3,"a",[{}]]', '[3,"a",{},1]', '[4,"a"]', '[4,"a",7,"",{}]']
)
@pytest.mark.parametrize("version", list(Version))
def test_rpc_08_a_bad_answer_is_never_refused_but_ends_its_call(text: str, version: Version) -> None:
    malformed = parse(text.encode(), version)
    assert isinstance(malformed, Malformed)
    assert malformed.refusal is None
    assert malformed.answer_to == "a"


def test_rpc_14_depth_counts_brackets_outside_strings_only() -> None:
    brackets = json.dumps("[{" * 1000 + '"\\' + "[" * 50)
    assert isinstance(parse(f'[2,"a","Reset",{{"x":{brackets}}}]'.encode(), V16), Call)
    nested = "[" * 30 + "]" * 30
    assert isinstance(parse(f'[2,"a","Reset",{{"x":{nested}}}]'.encode(), V16), Call)
    assert isinstance(parse(f'[2,"a","Reset",{{"x":[{nested}]}}]'.encode(), V16), Malformed)


def test_rpc_14_many_brackets_side_by_side_are_not_deep() -> None:
    entries = ",".join(['{"a":[]}'] * 500)
    assert isinstance(parse(f'[2,"a","SendLocalList",{{"x":[{entries}]}}]'.encode(), V16), Call)


def test_rpc_14_the_depth_check_is_linear_on_hostile_strings() -> None:
    """A pattern that backtracks would need hours for these and hang here."""
    assert isinstance(parse(b"[" * 40 + b'"\\' * 300_000, V16), Malformed)
    unfinished = parse(b'["' + b'\\"' * 400_000 + b"[" * 33, V16)
    assert unfinished == Malformed("not JSON within the limits")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_rpc_07_no_bytes_make_the_parser_raise(data: bytes) -> None:
    for version in Version:
        parse(data, version)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=15,
)


@given(st.integers(-1, 8), st.lists(JSON, max_size=5))
def test_rpc_07_no_json_array_makes_the_parser_raise(kind: int, rest: list[object]) -> None:
    for version in Version:
        result = parse(json.dumps([kind, *rest]).encode(), version)
        if isinstance(result, Malformed) and result.refusal is not None:
            frames.error_text(result.refusal[0], result.refusal[1], result.reason, {}, version)


def test_rpc_03_written_frames() -> None:
    assert frames.call_text("1", "Heartbeat", {}) == '[2,"1","Heartbeat",{}]'
    assert frames.result_text(17, {"a": ["é"]}) == '[3,17,{"a":["\\u00e9"]}]'
    assert frames.error_text("1", FORMAT, "d", {}, V201) == '[4,"1","FormatViolation","d",{}]'
    assert frames.error_text("1", FORMAT, "d", {}, V21, kind=5) == '[5,"1","FormatViolation","d",{}]'
    with pytest.raises(ValueError, match="JSON"):
        frames.result_text("1", {"a": float("nan")})


@pytest.mark.parametrize("code", list(ErrorCode))
@pytest.mark.parametrize("version", list(Version))
def test_rpc_09_spelling_per_version(code: ErrorCode, version: Version) -> None:
    text = to_wire(code, version)
    if version is not V16:
        assert text == code.value
    elif code in (FRAMEWORK, NOT_A_TYPE):
        assert text == "GenericError"
    assert text not in ("FormatViolation", "OccurrenceConstraintViolation") or version is not V16
    if text != "GenericError":
        assert from_wire(text) == code
