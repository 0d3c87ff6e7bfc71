"""The call session as a pure machine: the rows RPC-04 to RPC-14, one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.ocpp import rpc
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.rpc import (
    CallError,
    CallResult,
    Close,
    Dispatch,
    Effect,
    InvalidMessages,
    LateAnswer,
    LinkLost,
    Noticed,
    OutgoingCall,
    Priority,
    QueueFull,
    Rpc,
    Settled,
    TimedOut,
    Transmit,
)
from agent.ocpp.version import Version

V16, V201, V21 = Version.V16, Version.V201, Version.V21
HEARTBEAT_ANSWER = {"currentTime": "2026-01-01T00:00:00Z"}
SOFT = {"type": "Soft"}


def machine(version: Version = V16, *, validate_outgoing: bool = True) -> Rpc:
    return Rpc(version, {"Reset", "DataTransfer"}, validate_outgoing=validate_outgoing)


def heartbeat(message_id: str, priority: Priority = Priority.REPORT) -> OutgoingCall:
    return OutgoingCall(message_id, "Heartbeat", {}, priority, 30_000)


def text(*array: Any) -> bytes:
    return json.dumps(array).encode()


def sent(effects: list[Effect]) -> list[Any]:
    return [json.loads(effect.text) for effect in effects if isinstance(effect, Transmit)]


def reset(session: Rpc, message_id: str | int = "c1", now_ms: int = 0) -> list[Effect]:
    return session.receive(text(2, message_id, "Reset", SOFT), now_ms)


# ---------------------------------------------------------------------------------------- our calls


def test_rpc_04_one_call_in_flight_the_next_leaves_with_the_answer() -> None:
    session = machine()
    assert sent(session.call(heartbeat("a"), 0)) == [[2, "a", "Heartbeat", {}]]
    assert session.call(heartbeat("b"), 1) == []
    settled, transmit = session.receive(text(3, "a", HEARTBEAT_ANSWER), 2)
    assert settled == Settled("a", CallResult(HEARTBEAT_ANSWER))
    assert sent([transmit]) == [[2, "b", "Heartbeat", {}]]


def test_rpc_04_a_call_of_the_peer_is_dispatched_while_ours_waits() -> None:
    session = machine()
    session.call(heartbeat("a"), 0)
    assert reset(session) == [Dispatch("c1", "Reset", SOFT)]
    assert sent(session.answer(Dispatch("c1", "Reset", SOFT), {"status": "Accepted"}, 1)) == [
        [3, "c1", {"status": "Accepted"}]
    ]
    assert session.deadline_ms == 30_000


def test_rpc_12_priorities_order_the_queue_first_come_first_served_within_one() -> None:
    session = machine()
    session.call(heartbeat("first"), 0)
    for index, priority in enumerate(
        [Priority.REPORT, Priority.TRANSACTION, Priority.STATUS, Priority.TRANSACTION, Priority.DRIVER, Priority.BOOT]
    ):
        assert session.call(heartbeat(f"{priority.name}{index}", priority), 0) == []
    order, current = [], "first"
    while frames := sent(session.receive(text(3, current, HEARTBEAT_ANSWER), 0)):
        current = frames[0][1]
        order.append(current)
    assert order == ["BOOT5", "DRIVER4", "STATUS2", "TRANSACTION1", "TRANSACTION3", "REPORT0"]


def test_rpc_05_time_out_frees_the_slot_and_the_late_answer_is_that_calls_alone() -> None:
    session = machine()
    session.call(heartbeat("a"), 1_000)
    session.call(heartbeat("b"), 1_000)
    assert session.deadline_ms == 31_000
    assert session.expire(30_999) == []
    settled, transmit = session.expire(31_000)
    assert settled == Settled("a", TimedOut())
    assert sent([transmit]) == [[2, "b", "Heartbeat", {}]]
    assert session.deadline_ms == 61_000
    assert session.receive(text(3, "a", HEARTBEAT_ANSWER), 31_001) == [LateAnswer("a", HEARTBEAT_ANSWER)]
    assert (session.counters.late_answers, session.counters.stray_answers, session.counters.timed_out_calls) == (
        1,
        0,
        1,
    )
    assert session.receive(text(3, "b", HEARTBEAT_ANSWER), 31_002) == [Settled("b", CallResult(HEARTBEAT_ANSWER))]
    assert session.deadline_ms is None


def test_rpc_05_late_refusals_and_unusable_late_answers_are_dropped_and_only_the_last_calls_remembered() -> None:
    session = machine()
    for number in range(rpc.EXPIRED_MAX + 1):
        session.call(heartbeat(f"h{number}"), 0)
        session.expire(30_000)
    last = f"h{rpc.EXPIRED_MAX}"
    assert session.receive(text(4, last, "InternalError", "", {}), 30_001) == [
        Noticed("late refusal dropped", "Heartbeat")
    ]
    (invalid,) = session.receive(text(3, last, {"currentTime": 5}), 30_001)
    assert isinstance(invalid, InvalidMessages)
    assert session.receive(text(3, "h1", HEARTBEAT_ANSWER), 30_001) == [LateAnswer("h1", HEARTBEAT_ANSWER)]
    assert session.receive(text(3, "h0", HEARTBEAT_ANSWER), 30_001) == [Noticed("answer to no call dropped")]


def test_rpc_06_answers_to_nobody_are_counted_and_dropped() -> None:
    session = machine()
    for frame in (text(3, "x", {}), text(4, "x", "GenericError", "", {}), text(3, 7, {})):
        assert session.receive(frame, 0) == [Noticed("answer to no call dropped")]
    session.call(heartbeat("a"), 0)
    session.receive(text(3, "b", HEARTBEAT_ANSWER), 0)
    assert session.counters.stray_answers == 4
    assert session.deadline_ms == 30_000, "our call still waits"


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        ("FormationViolation", "FormatViolation"),
        ("OccurenceConstraintViolation", "OccurrenceConstraintViolation"),
        ("RpcFrameworkError", "RpcFrameworkError"),
        ("MessageTypeNotSupported", "MessageTypeNotSupported"),
        ("BackOfficeAsleep", "BackOfficeAsleep"),
    ],
)
def test_rpc_09_every_error_code_of_the_peer_is_taken(wire: str, code: str) -> None:
    session = machine()
    session.call(heartbeat("a"), 0)
    effects = session.receive(text(4, "a", wire, "d" * 1000, {"x": 1}), 0)
    assert effects == [Settled("a", CallError(code, "d" * 255, {"x": 1}))]


@pytest.mark.parametrize("version", list(Version))
def test_rpc_08_rpc_11_an_unusable_answer_settles_the_call_and_only_21_says_so(version: Version) -> None:
    for answer in (text(3, "a", {"currentTime": 5}), text(3, "a", None)):
        session = machine(version)
        session.call(heartbeat("a"), 0)
        effects = session.receive(answer, 0)
        settled = next(effect for effect in effects if isinstance(effect, Settled))
        assert isinstance(settled.outcome, CallError)
        assert settled.outcome.description.startswith("unusable answer: ") and settled.outcome.unusable
        assert [frame[:2] for frame in sent(effects)] == ([[5, "a"]] if version is V21 else [])
        assert session.counters.invalid_messages == 1
        assert session.deadline_ms is None


def test_rpc_11_unknown_fields_of_an_answer_are_noticed_and_the_answer_taken() -> None:
    session = machine()
    session.call(heartbeat("a"), 0)
    answer = HEARTBEAT_ANSWER | {"vendorMood": "sunny"}
    noticed, settled = session.receive(text(3, "a", answer), 0)
    assert noticed == Noticed("unknown response fields: vendorMood", "Heartbeat")
    assert settled == Settled("a", CallResult(answer))


def test_rpc_03_nulls_are_forgiven_in_answers_and_in_nothing_else() -> None:
    session = machine()
    session.call(OutgoingCall("a", "Authorize", {"idTag": "T"}, Priority.DRIVER, 30_000), 0)
    told = {"idTagInfo": {"status": "Blocked", "expiryDate": None}}
    assert session.receive(text(3, "a", told), 0) == [
        Noticed("null response fields: expiryDate", "Authorize"),
        Settled("a", CallResult({"idTagInfo": {"status": "Blocked"}})),
    ]
    (refusal,) = sent(session.receive(text(2, "c", "DataTransfer", {"vendorId": "v", "data": None}), 0))
    assert refusal[:3] == [4, "c", "TypeConstraintViolation"]
    (request,) = session.receive(text(2, "d", "DataTransfer", {"vendorId": "v"}), 0)
    assert isinstance(request, Dispatch)
    with pytest.raises(ValueError, match="data: wrong type"):
        session.answer(request, {"status": "Accepted", "data": None}, 0)


def test_rpc_03_nulls_are_forgiven_in_a_late_answer_too() -> None:
    session = machine()
    session.call(OutgoingCall("a", "Authorize", {"idTag": "T"}, Priority.DRIVER, 30_000), 0)
    session.expire(30_000)
    noticed, late = session.receive(text(3, "a", {"idTagInfo": {"status": "Blocked", "expiryDate": None}}), 30_001)
    assert noticed == Noticed("null response fields: expiryDate", "Authorize")
    assert late == LateAnswer("a", {"idTagInfo": {"status": "Blocked"}})


@pytest.mark.parametrize(
    ("frame", "heard"),
    [
        ((3, "b", HEARTBEAT_ANSWER), True),
        ((4, "b", "InternalError", "", {}), True),
        ((3, "a", HEARTBEAT_ANSWER), True),  # late
        ((2, "c1", "Unheard", {}), True),
        ((9,), False),
    ],
)
def test_calls_without_an_answer_are_counted_until_something_of_the_peer_comes(
    frame: tuple[Any, ...], heard: bool
) -> None:
    session = machine()
    session.call(heartbeat("a"), 0)
    session.call(heartbeat("b"), 0)
    session.expire(30_000)
    session.receive(text(*frame), 30_001)
    assert session.counters.unanswered_calls == (not heard)


def test_the_end_of_the_link_settles_every_call_as_lost() -> None:
    session = machine()
    for message_id, priority in (("a", Priority.REPORT), ("b", Priority.REPORT), ("c", Priority.BOOT)):
        session.call(heartbeat(message_id, priority), 0)
    told = [("a", True), ("c", False), ("b", False)]  # only the first was in flight
    lost = [Settled(message_id, LinkLost("cut", 1009, sent=sent)) for message_id, sent in told]
    assert session.disconnect("cut", 1009) == lost
    assert session.deadline_ms is None
    assert session.disconnect("cut") == []


def test_an_abandoned_call_that_waits_is_never_sent_one_in_flight_keeps_the_slot() -> None:
    session = machine()
    for message_id in "abc":
        session.call(heartbeat(message_id), 0)
    session.abandon("b")
    session.abandon("a")
    assert session.call(heartbeat("d"), 0) == []
    effects = session.receive(text(3, "a", HEARTBEAT_ANSWER), 0)
    assert sent(effects) == [[2, "c", "Heartbeat", {}]]


def test_our_own_mistakes_are_told_to_the_caller() -> None:
    session = machine()
    with pytest.raises(KeyError):
        session.call(OutgoingCall("a", "TransactionEvent", {}, Priority.BOOT, 1), 0)
    with pytest.raises(RpcError):
        session.call(OutgoingCall("a", "Authorize", {}, Priority.BOOT, 1), 0)
    session.call(heartbeat("a"), 0)
    session.call(heartbeat("b"), 0)
    for message_id in "ab":
        with pytest.raises(ValueError, match="already under way"):
            session.call(heartbeat(message_id), 0)
    for index in range(rpc.WAITING_MAX - 1):
        session.call(heartbeat(f"n{index}"), 0)
    with pytest.raises(QueueFull):
        session.call(heartbeat("z"), 0)


def test_an_unvalidated_call_is_sent_as_it_is_in_production() -> None:
    session = machine(validate_outgoing=False)
    assert sent(session.call(OutgoingCall("a", "Authorize", {}, Priority.BOOT, 1), 0)) == [[2, "a", "Authorize", {}]]


# ----------------------------------------------------------------------------------- the peer's calls


@pytest.mark.parametrize("version", list(Version))
def test_rpc_09_unknown_is_not_implemented_known_but_not_offered_is_not_supported(version: Version) -> None:
    session = machine(version)
    for action, code in (("Nothing", "NotImplemented"), ("Authorize", "NotSupported"), ("../Reset", "NotImplemented")):
        (refusal,) = sent(session.receive(text(2, "c", action, {}), 0))
        assert refusal[:3] == [4, "c", code]


@pytest.mark.parametrize(
    ("version", "payload", "code"),
    [
        (V16, {}, "ProtocolError"),
        (V201, {}, "OccurrenceConstraintViolation"),
        (V16, {"type": 1}, "TypeConstraintViolation"),
        (V201, {"type": "Sideways"}, "PropertyConstraintViolation"),
        (V16, {"type": "Soft", "x": 1}, "FormationViolation"),
        (V201, {"type": "Immediate", "x": 1}, "FormatViolation"),
    ],
)
def test_rpc_09_rpc_11_an_invalid_request_never_reaches_the_handler(
    version: Version, payload: dict[str, Any], code: str
) -> None:
    effects = machine(version).receive(text(2, "c", "Reset", payload), 0)
    assert [frame[:3] for frame in sent(effects)] == [[4, "c", code]]
    assert not any(isinstance(effect, Dispatch) for effect in effects)
    assert any(isinstance(effect, InvalidMessages) for effect in effects)


def test_rpc_02_a_number_as_id_is_answered_with_the_same_value() -> None:
    session = machine()
    (request,) = reset(session, 17)
    assert isinstance(request, Dispatch)
    assert sent(session.answer(request, {"status": "Accepted"}, 0)) == [[3, 17, {"status": "Accepted"}]]


@pytest.mark.parametrize(("version", "code"), [(V16, "GenericError"), (V201, "RpcFrameworkError")])
def test_rpc_06_the_id_of_a_call_in_work_is_refused_and_the_work_goes_on(version: Version, code: str) -> None:
    session = Rpc(version, {"DataTransfer"})
    frame = text(2, "c", "DataTransfer", {"vendorId": "v"})
    (request,) = session.receive(frame, 0)
    assert isinstance(request, Dispatch)
    assert [refusal[:3] for refusal in sent(session.receive(frame, 0))] == [[4, "c", code]]
    assert sent(session.answer(request, {"status": "Accepted"}, 0)) == [[3, "c", {"status": "Accepted"}]]


def test_rpc_06_a_repetition_is_answered_from_memory_for_a_minute() -> None:
    session = machine()
    (request,) = reset(session)
    assert isinstance(request, Dispatch)
    answer = session.answer(request, {"status": "Accepted"}, 1_000)
    assert reset(session, now_ms=60_999) == answer
    assert session.counters.duplicate_calls == 1
    assert reset(session, now_ms=61_000) == [request], "a CSMS that counts its ids from 1 again is not deaf for ever"


def test_rpc_06_a_repeated_refusal_is_repeated() -> None:
    session = machine()
    (request,) = reset(session)
    assert isinstance(request, Dispatch)
    refusal = session.refuse(request, RpcError(ErrorCode.INTERNAL_ERROR, "no"), 0)
    assert sent(refusal) == [[4, "c1", "InternalError", "no", {}]]
    assert reset(session) == refusal


def test_rpc_06_same_id_with_other_content_is_a_new_call() -> None:
    session = machine()
    (request,) = reset(session)
    assert isinstance(request, Dispatch)
    session.answer(request, {"status": "Accepted"}, 0)
    assert session.receive(text(2, "c1", "Reset", {"type": "Hard"}), 0) == [Dispatch("c1", "Reset", {"type": "Hard"})]


def test_rpc_06_the_memory_of_answers_is_bounded() -> None:
    session = machine()
    for index in range(rpc.ANSWERED_MAX + 1):
        (request,) = reset(session, f"c{index}")
        assert isinstance(request, Dispatch)
        session.answer(request, {"status": "Accepted"}, 0)
    assert reset(session, "c1") != [Dispatch("c1", "Reset", SOFT)]
    assert reset(session, "c0") == [Dispatch("c0", "Reset", SOFT)]


def test_rpc_14_the_ninth_unanswered_call_closes_the_link() -> None:
    session = machine()
    for index in range(8):
        assert reset(session, f"c{index}") == [Dispatch(f"c{index}", "Reset", SOFT)]
    (close,) = reset(session, "c8")
    assert isinstance(close, Close)
    assert close.code == 1008


@pytest.mark.parametrize("returned", [None, [], "Accepted", {"status": "Accepted", "x": 1}, {"status": "Maybe"}, {}])
def test_a_bad_answer_of_ours_is_our_error_and_leaves_the_call_in_work(returned: object) -> None:
    session = machine()
    (request,) = reset(session)
    assert isinstance(request, Dispatch)
    with pytest.raises((TypeError, ValueError)):
        session.answer(request, returned, 0)
    assert sent(session.refuse(request, RpcError(ErrorCode.INTERNAL_ERROR), 0)) == [[4, "c1", "InternalError", "", {}]]


@pytest.mark.parametrize("returned", [None, [], "Accepted"])
def test_defect_7_in_production_too_an_answer_is_an_object(returned: object) -> None:
    session = machine(validate_outgoing=False)
    (request,) = reset(session)
    assert isinstance(request, Dispatch)
    with pytest.raises(TypeError):
        session.answer(request, returned, 0)


# ------------------------------------------------------------------------------------------- garbage

HOSTILE = [
    b"hello",
    b"{}",
    b"[]",
    b'[2,"a"]',
    b'[5,"a","x","",{}]',
    b'[6,"a","Reset",{}]',
    b"[" * 100_000,
    b'[2,"a",{"not":"hashable"},{}]',
    b'[2,"a",[],{}]',
    b'[2,"a","Reset",null]',
    b"\xff",
    b'[3,"a"]',
    b'[4,["a"],"x","",{}]',
]


@pytest.mark.parametrize("version", list(Version))
def test_rpc_07_defects_7_and_8_hostile_frames_leave_the_session_alive(version: Version) -> None:
    session = machine(version)
    session.call(heartbeat("h"), 0)
    for data in HOSTILE * 3:
        for effect in session.receive(data, 0):
            assert isinstance(effect, Transmit | InvalidMessages | Noticed)
    assert session.receive(text(3, "h", HEARTBEAT_ANSWER), 0) == [Settled("h", CallResult(HEARTBEAT_ANSWER))]
    payload = SOFT if version is V16 else {"type": "Immediate"}
    assert session.receive(text(2, "c", "Reset", payload), 0) == [Dispatch("c", "Reset", payload)]


def test_rpc_07_invalid_messages_are_reported_once_a_minute_with_their_count() -> None:
    session = machine()
    reports = []
    for now_ms in range(0, 120_000, 1_000):
        reports += session.receive(b"rubbish", now_ms)
    assert reports == [
        InvalidMessages("not JSON within the limits", 1),
        InvalidMessages("not JSON within the limits", 60),
    ]
    assert session.counters.invalid_messages == 120


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a", "c", "Reset", "-1", ""]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
FRAMES = st.binary(max_size=60) | st.builds(lambda *array: text(*array), st.integers(0, 7), JSON, JSON, JSON)


@settings(max_examples=80, deadline=None)
@given(version=st.sampled_from(list(Version)), frames=st.lists(FRAMES, max_size=12))
def test_rpc_07_no_sequence_of_frames_breaks_or_grows_the_session(version: Version, frames: list[bytes]) -> None:
    session = machine(version)
    session.call(heartbeat("a"), 0)
    for data in frames:
        session.receive(data, 0)
    assert len(session._in_work) <= rpc.IN_WORK_MAX
    assert len(session._answered) <= rpc.ANSWERED_MAX
    assert len(session.disconnect("end")) <= 1
