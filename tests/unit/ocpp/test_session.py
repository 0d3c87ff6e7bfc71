"""The asyncio shell in virtual time: order, deadlines, cancellation, the end of the link."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.frames import Payload
from agent.ocpp.rpc import CallError, CallOutcome, CallResult, LinkLost, Priority, TimedOut
from agent.ocpp.session import Direction, Handler, Hooks, Reply, Session, TransportClosed
from agent.ocpp.version import Version
from agent.sim.virtual_time import now_ms, run_virtual

HEARTBEAT_ANSWER = {"currentTime": "2026-01-01T00:00:00Z"}
ACCEPTED = {"status": "Accepted"}
SUPPORTED = frozenset({"Reset", "ClearCache"})


class Peer:
    """The CSMS end of an in-memory transport. ``reads`` False: it lets our writes wait for ever."""

    def __init__(self) -> None:
        self.inbound: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.frames: asyncio.Queue[list[Any]] = asyncio.Queue()
        self.reads = True
        self.closed_with: tuple[int, str] | None = None

    async def recv(self) -> bytes:
        data = await self.inbound.get()
        if data is None:
            raise TransportClosed("cut")
        return data

    async def send(self, text: str) -> None:
        if not self.reads:
            await asyncio.Event().wait()
        self.frames.put_nowait(json.loads(text))

    async def close(self, code: int, reason: str) -> None:
        self.closed_with = self.closed_with or (code, reason)
        self.inbound.put_nowait(None)

    def say(self, *array: Any) -> None:
        self.inbound.put_nowait(json.dumps(array).encode())

    async def hear(self) -> list[Any]:
        async with asyncio.timeout(100):
            return await self.frames.get()


async def accept(_action: str, _payload: Payload) -> Payload:
    return ACCEPTED


@asynccontextmanager
async def opened(handle: Handler = accept, **options: Any) -> AsyncIterator[tuple[Session, Peer]]:
    peer = Peer()
    numbers = iter(range(1, 10_000))
    session = Session(
        peer,
        Version.V16,
        handle,
        SUPPORTED,
        validate_outgoing=True,
        clock_ms=now_ms,
        new_id=lambda: f"s{next(numbers)}",
        **options,
    )
    running = asyncio.create_task(session.run())
    try:
        yield session, peer
    finally:
        peer.inbound.put_nowait(None)
        await running


def heartbeat(session: Session, priority: Priority = Priority.REPORT, **options: Any) -> asyncio.Task[CallOutcome]:
    return asyncio.create_task(session.call("Heartbeat", {}, priority=priority, **options))


def test_a_call_and_its_answer() -> None:
    async def main() -> None:
        async with opened() as (session, peer):
            call = heartbeat(session)
            assert await peer.hear() == [2, "s1", "Heartbeat", {}]
            peer.say(3, "s1", HEARTBEAT_ANSWER)
            assert await call == CallResult(HEARTBEAT_ANSWER)

    run_virtual(main())


def test_defect_1_a_slow_handler_does_not_delay_answers_to_our_calls() -> None:
    async def slow(_action: str, _payload: Payload) -> Payload:
        await asyncio.sleep(4)
        return ACCEPTED

    async def main() -> None:
        async with opened(slow) as (session, peer):
            peer.say(2, "c1", "Reset", {"type": "Soft"})
            call = heartbeat(session)
            assert (await peer.hear())[2] == "Heartbeat"
            peer.say(3, "s1", HEARTBEAT_ANSWER)
            assert await call == CallResult(HEARTBEAT_ANSWER)
            assert now_ms() == 0
            assert await peer.hear() == [3, "c1", ACCEPTED]
            assert now_ms() == 4_000

    run_virtual(main())


def test_rpc_12_a_drivers_authorize_overtakes_a_queue_of_waiting_calls() -> None:
    async def main() -> None:
        async with opened() as (session, peer):
            queue = [heartbeat(session, Priority.TRANSACTION) for _ in range(50)]
            assert (await peer.hear())[1] == "s1"
            driver = asyncio.create_task(session.call("Authorize", {"idTag": "A"}, priority=Priority.DRIVER))
            await asyncio.sleep(0)
            peer.say(3, "s1", HEARTBEAT_ANSWER)
            _, message_id, action, _ = await peer.hear()
            assert action == "Authorize"
            peer.say(3, message_id, {"idTagInfo": {"status": "Accepted"}})
            assert isinstance(await driver, CallResult)
            assert sum(call.done() for call in queue) == 1
        assert {type(await call) for call in queue[1:]} == {LinkLost}

    run_virtual(main())


def test_rpc_05_time_out_then_the_late_answer_is_not_taken_for_the_next_call() -> None:
    silent = []
    late: list[Payload] = []

    async def main() -> None:
        async with opened(on_timed_out=lambda: silent.append(now_ms()), message_timeout_s=30) as (session, peer):
            first, second = heartbeat(session), heartbeat(session, timeout_s=5, on_late=late.append)
            assert await first == TimedOut()
            assert now_ms() == 30_000
            peer.say(3, "s1", HEARTBEAT_ANSWER)
            assert await second == TimedOut()
            assert now_ms() == 35_000
            assert session.counters.late_answers == 1
            peer.say(3, "s2", HEARTBEAT_ANSWER)
            await asyncio.sleep(1)
            assert late == [HEARTBEAT_ANSWER], "of the call that asked for it"

    run_virtual(main())
    assert silent == [30_000, 35_000]


def test_defect_3_the_end_of_the_link_fails_pending_calls_at_once() -> None:
    async def main() -> None:
        async with opened() as (session, peer):
            calls = [heartbeat(session) for _ in range(3)]
            await peer.hear()
            peer.inbound.put_nowait(None)
            lost = [await call for call in calls]
            assert lost == [LinkLost("cut", sent=sent) for sent in (True, False, False)]
            assert now_ms() == 0
            assert await session.call("Heartbeat", {}, priority=Priority.BOOT) == LinkLost("cut")

    run_virtual(main())


def test_defect_19_cancelled_calls_leave_no_answer_behind() -> None:
    async def main() -> None:
        async with opened() as (session, peer):
            in_flight, waiting, last = heartbeat(session), heartbeat(session), heartbeat(session)
            assert (await peer.hear())[1] == "s1"
            in_flight.cancel()
            waiting.cancel()
            await asyncio.sleep(0)
            peer.say(3, "s1", HEARTBEAT_ANSWER)
            assert (await peer.hear())[1] == "s3", "the cancelled waiting call is never sent"
            peer.say(3, "s3", {"currentTime": "2027-01-01T00:00:00Z"})
            assert await last == CallResult({"currentTime": "2027-01-01T00:00:00Z"})
            assert session._calls == {}

    run_virtual(main())


def test_defect_10_a_refusal_is_an_explicit_outcome() -> None:
    async def main() -> None:
        async with opened() as (session, peer):
            call = heartbeat(session)
            await peer.hear()
            peer.say(4, "s1", "FormationViolation", "why", {"a": 1})
            assert await call == CallError("FormatViolation", "why", {"a": 1})

    run_virtual(main())


def test_a_repeated_call_keeps_its_given_id() -> None:
    async def main() -> None:
        async with opened() as (session, peer):
            call = heartbeat(session, message_id="kept")
            assert (await peer.hear())[1] == "kept"
            with pytest.raises(ValueError, match="under way"):
                await session.call("Heartbeat", {}, priority=Priority.BOOT, message_id="kept")
            peer.say(3, "kept", HEARTBEAT_ANSWER)
            assert await call == CallResult(HEARTBEAT_ANSWER)

    run_virtual(main())


def test_ws_05_good_answers_are_told() -> None:
    good = []

    async def main() -> None:
        async with opened(on_result=lambda: good.append(1)) as (session, peer):
            for answer in ([3, "s1", HEARTBEAT_ANSWER], [4, "s2", "GenericError", "", {}], [3, "s3", {}]):
                call = heartbeat(session)
                await peer.hear()
                peer.say(*answer)
                await call

    run_virtual(main())
    assert good == [1]


# -------------------------------------------------------------------------------------- handlers


def test_rpc_13_the_action_follows_the_written_answer() -> None:
    acted: list[int] = []

    async def main() -> None:
        async def handle(_action: str, _payload: Payload) -> Reply:
            return Reply(ACCEPTED, after=lambda: acted.append(peer.frames.qsize()))

        async with opened(handle) as (_, peer):
            peer.say(2, "c1", "Reset", {"type": "Soft"})
            assert await peer.hear() == [3, "c1", ACCEPTED]
            peer.frames.put_nowait([])
        assert acted == [1], "one frame, the answer, was out when the action ran"

    run_virtual(main())


def test_rpc_13_an_answer_that_was_not_written_has_no_action() -> None:
    acted: list[int] = []

    async def handle(_action: str, _payload: Payload) -> Reply:
        return Reply(ACCEPTED, after=lambda: acted.append(1))

    async def main() -> None:
        async with opened(handle) as (_, peer):
            peer.reads = False
            peer.say(2, "c1", "Reset", {"type": "Soft"})
            await asyncio.sleep(1)
            peer.inbound.put_nowait(None)
            await asyncio.sleep(1)

    run_virtual(main())
    assert acted == []


async def never(_action: str, _payload: Payload) -> Payload:
    await asyncio.sleep(1000)
    raise AssertionError


async def nothing(_action: str, _payload: Payload) -> Any:
    return None


async def broken(_action: str, _payload: Payload) -> Payload:
    raise LookupError("secret detail")


async def invalid(_action: str, _payload: Payload) -> Payload:
    return {"status": "Perhaps"}


async def unwritable(_action: str, _payload: Payload) -> Payload:
    return {"status": {1, 2}}


async def refusing(_action: str, _payload: Payload) -> Payload:
    raise RpcError(ErrorCode.SECURITY_ERROR, "d" * 300, {"a": 1})


@pytest.mark.parametrize(
    ("handle", "code", "after_ms"),
    [
        (never, "InternalError", 5_000),
        (nothing, "InternalError", 0),
        (broken, "InternalError", 0),
        (invalid, "InternalError", 0),
        (unwritable, "InternalError", 0),
        (refusing, "SecurityError", 0),
    ],
)
def test_rpc_13_defect_7_every_call_gets_an_answer_whatever_its_handler_does(
    handle: Handler, code: str, after_ms: int
) -> None:
    async def main() -> None:
        async with opened(handle) as (_, peer):
            for message_id in ("c1", "c2"):
                peer.say(2, message_id, "ClearCache", {})
                answer = await peer.hear()
                assert answer[:3] == [4, message_id, code]
                assert len(answer[3]) <= 255 and "secret" not in answer[3]
            assert now_ms() == 2 * after_ms

    run_virtual(main())


def test_rpc_09_actions_that_are_not_offered_never_reach_the_handler() -> None:
    async def main() -> None:
        async with opened(broken) as (_, peer):
            peer.say(2, "c1", "Nothing", {})
            peer.say(2, "c2", "GetLocalListVersion", {})
            assert [(await peer.hear())[1:3] for _ in range(2)] == [["c1", "NotImplemented"], ["c2", "NotSupported"]]

    run_virtual(main())


# --------------------------------------------------------------------------------------- limits


def test_rpc_14_a_flood_of_calls_closes_the_link_with_1008() -> None:
    async def main() -> None:
        async with opened(never) as (session, peer):
            for index in range(9):
                peer.say(2, f"c{index}", "ClearCache", {})
            call = heartbeat(session)
            assert isinstance(await call, LinkLost)
            assert peer.closed_with is not None and peer.closed_with[0] == 1008

    run_virtual(main())


def test_rpc_14_a_peer_that_talks_and_does_not_listen_is_cut_off() -> None:
    async def main() -> None:
        async with opened() as (session, peer):
            peer.reads = False
            for index in range(40):
                peer.say(2, f"c{index}", "Nothing", {})
            assert isinstance(await heartbeat(session), LinkLost)
            assert peer.closed_with is not None and peer.closed_with[0] == 1008

    run_virtual(main())


def test_a_write_that_never_ends_ends_the_link() -> None:
    async def main() -> None:
        async with opened() as (session, peer):
            peer.reads = False
            assert await heartbeat(session) == LinkLost("peer does not read", sent=True)
            assert now_ms() == 10_000

    run_virtual(main())


def test_stopping_the_session_settles_calls_and_ends_handlers() -> None:
    async def main() -> None:
        peer = Peer()
        session = Session(peer, Version.V16, never, SUPPORTED, clock_ms=now_ms)
        running = asyncio.create_task(session.run())
        call = heartbeat(session)
        peer.say(2, "c1", "ClearCache", {})
        await peer.hear()
        await asyncio.sleep(1)
        running.cancel()
        assert await call == LinkLost("session stopped", sent=True)
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert now_ms() == 1_000, "nobody waits for the handler that was cut short"

    run_virtual(main())


# ---------------------------------------------------------------------------------------- hooks


def test_the_trace_shows_both_directions_without_secrets() -> None:
    trace: list[tuple[Direction, str]] = []

    async def main() -> None:
        async with opened(hooks=Hooks(on_frame=lambda *entry: trace.append(entry))) as (_, peer):
            peer.say(2, "c1", "ChangeConfiguration", {"key": "AuthorizationKey", "value": "topsecret"})
            await peer.hear()

    run_virtual(main())
    assert [direction for direction, _ in trace] == [Direction.IN, Direction.OUT]
    assert "AuthorizationKey" in trace[0][1] and "topsecret" not in trace[0][1]


def test_rpc_07_unusable_messages_reach_the_security_hook() -> None:
    told: list[tuple[str, int]] = []

    async def main() -> None:
        hooks = Hooks(on_invalid_messages=lambda reason, count: told.append((reason, count)))
        async with opened(hooks=hooks) as (session, peer):
            peer.inbound.put_nowait(b"rubbish")
            call = heartbeat(session)
            await peer.hear()
            peer.say(3, "s1", HEARTBEAT_ANSWER)
            await call

    run_virtual(main())
    assert told == [("not JSON within the limits", 1)]
