"""Targets of ``agent.ocpp``: whatever a CSMS can put into a WebSocket message.

Charter: frames and calls of every version; the dialects' answers to what the schemas let through, which must be right
by their own schema; and a whole conversation in virtual time in which the CSMS's answers are the hostile part.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

from agent.core.facts import Token
from agent.ipc.port import AuthorizeWanted
from agent.ocmf.errors import OcmfError
from agent.ocmf.ocpp import read_signed_value
from agent.ocpp import frames, schema
from agent.ocpp.errors import RpcError
from agent.ocpp.redact import redact
from agent.ocpp.rpc import Dispatch, OutgoingCall, Priority, Rpc, Transmit
from agent.ocpp.session import Reply, Session, TransportClosed
from agent.ocpp.timestamps import BadTimestamp, from_rfc3339, to_rfc3339
from agent.ocpp.version import Version
from agent.sim.virtual_time import now_ms, run_virtual
from tests.conformance.v16.rig import Rig as Rig16
from tests.conformance.v201.rig import Rig as Rig201
from tests.fuzz.message_seeds import REQUESTS_16, REQUESTS_201, request_frames
from tests.fuzz.target import Target
from tests.support.fake_station import T0_MS, ocmf, session_facts

_PROTOCOLS: Final = "HTTP,HTTPS,FTP"  # with some, the station offers firmware updates
_NOW_MS: Final = 1_000

Rig = Rig16 | Rig201


# --------------------------------------------------------------------------------------------- frames


def _frames(data: bytes) -> None:
    for version in Version:
        frame = frames.parse(data, version)
        if isinstance(frame, frames.Call):
            frames.result_text(frame.message_id, frame.payload).encode()
        redact(data).encode()


def _rpc(data: bytes) -> None:
    """Two messages, of which the second may be the first once more, to a link with a call in flight."""
    for version in Version:
        rpc = Rpc(version, schema.actions(version))
        rpc.call(OutgoingCall("1", "BootNotification", {}, Priority.BOOT, 30_000), 0)
        first, _, second = data.partition(b"\n")
        for effect in [*rpc.receive(first, _NOW_MS), *rpc.receive(second or first, _NOW_MS)]:
            if isinstance(effect, Transmit):
                assert len(effect.text.encode()) < 2 * len(data) + 2_000


def _frame_seeds() -> list[bytes]:
    boot: dict[str, Any] = {"status": "Accepted", "currentTime": "2026-11-24T08:00:00Z", "interval": 300}
    arrays: list[list[Any]] = [
        [3, "1", boot],
        [4, "1", "FormatViolation", "no", {"a": 1}],
        [5, "1", "FormatViolation", "no", {}],
        [6, "1", "NotifyPeriodicEventStream", {}],
        [2, 17, "Reset", {"type": "Hard"}],
    ]
    return [json.dumps(each).encode() for each in arrays] + request_frames(REQUESTS_16) + request_frames(REQUESTS_201)


def _timestamp(data: bytes) -> None:
    """What can be read can be written: it comes back in reports."""
    wall_ms = from_rfc3339(data.decode("utf-8", "replace"))
    assert from_rfc3339(to_rfc3339(wall_ms)) == wall_ms


def _signed_value(data: bytes) -> None:
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError):
        plain = None
    read_signed_value(plain if isinstance(plain, dict) else data.decode("utf-8", "replace"))


def _signed_values() -> list[bytes]:
    value = {"signedMeterData": "T0NNRnx7fXx7fQ==", "publicKey": "", "signingMethod": "", "encodingMethod": "OCMF"}
    return [json.dumps(value).encode(), b"OCMF|{}|{}", ocmf("B", "E").encode()]


# ------------------------------------------------------------------------------------------- requests


async def _prepared(rig: Rig) -> Rig:
    """A transaction is known to the station, and to the CSMS of 1.6 by a number."""
    await rig.station.append(*session_facts("tx-1"))
    return rig


async def _answer(rig: Rig, data: bytes) -> None:
    """As ``Session`` does it; the answer must conform to its schema."""
    dialect = (await _prepared(rig)).dialect
    rpc = Rpc(dialect.version, dialect.supported, validate_outgoing=True)
    for effect in rpc.receive(data, _NOW_MS):
        if not isinstance(effect, Dispatch):
            continue
        try:
            reply = await dialect.handle(effect.action, effect.payload)
        except RpcError as error:
            rpc.refuse(effect, error, _NOW_MS)
            continue
        payload = reply.payload if isinstance(reply, Reply) else reply
        for sent in rpc.answer(effect, payload, _NOW_MS):
            assert not isinstance(sent, Transmit) or sent.text.encode()
        if isinstance(reply, Reply):
            reply.after()


# ------------------------------------------------------------------------------------------- answers


class _ScriptedCsms:
    """A ``Transport`` whose peer answers each CALL with the next line, as its payload, and then hangs up."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = list(lines)
        self._calls: asyncio.Queue[str] = asyncio.Queue()

    async def recv(self) -> bytes:
        message_id = await self._calls.get()
        if not self._lines:
            raise TransportClosed("no more lines")
        line = self._lines.pop(0)
        return line if line.startswith(b"!") else f'[3,"{message_id}",'.encode() + line + b"]"

    async def send(self, text: str) -> None:
        frame = json.loads(text)
        if frame[0] == frames.CALL:
            self._calls.put_nowait(frame[1])

    async def close(self, code: int, reason: str) -> None:
        pass


async def _converse(rig: Rig, data: bytes) -> None:
    await _prepared(rig)
    transport = _ScriptedCsms(data.split(b"\n")[:40])
    session = Session(
        transport,
        rig.dialect.version,
        rig.dialect.handle,
        rig.dialect.supported,
        validate_outgoing=True,
        clock_ms=now_ms,
    )
    conversing = asyncio.create_task(rig.dialect.run(session))
    running = asyncio.create_task(session.run())
    presenting = asyncio.create_task(_present(rig))
    await asyncio.wait({conversing, running}, return_when=asyncio.FIRST_COMPLETED, timeout=86_400)
    for task in (conversing, running, presenting):
        task.cancel()
    failures = await asyncio.gather(conversing, running, presenting, return_exceptions=True)
    for failure in failures:
        if isinstance(failure, Exception):
            raise failure


async def _present(rig: Rig) -> None:
    """A driver comes, now and then."""
    for number in range(3):
        await asyncio.sleep(0.01 + number)
        await rig.dialect.hear(AuthorizeWanted(number, Token("04A2B3C4D5E6F7"), 1))


def _answers(authorize: dict[str, Any], start: dict[str, Any]) -> list[bytes]:
    boot: dict[str, Any] = {"status": "Accepted", "currentTime": "2026-11-24T08:00:00Z", "interval": 300}
    lines = [json.dumps(each).encode() for each in (boot, authorize, {}, {}, {}, start, start, authorize, {}, start)]
    pending = json.dumps(boot | {"status": "Pending", "interval": 1}).encode()
    return [b"\n".join(lines), b"\n".join([pending, *lines]), b"\n".join([lines[0], *[lines[5]] * 8])]


def _answers_16() -> list[bytes]:
    told = {"status": "Accepted", "expiryDate": "2027-01-01T00:00:00Z", "parentIdTag": "FAMILY"}
    return _answers({"idTagInfo": told}, {"transactionId": 7, "idTagInfo": told})


def _answers_201() -> list[bytes]:
    told = {
        "status": "Accepted",
        "cacheExpiryDateTime": "2027-01-01T00:00:00Z",
        "chargingPriority": 3,
        "evseId": [1],
        "groupIdToken": {"idToken": "FAMILY", "type": "Central"},
        "personalMessage": {"format": "UTF8", "content": "0.39 EUR/kWh"},
    }
    event = {"totalCost": 1.25, "idTokenInfo": told, "updatedPersonalMessage": {"format": "UTF8", "content": "hi"}}
    return _answers({"idTokenInfo": told}, event)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def targets() -> list[Target]:
    return [
        Target("ocpp_frames", _frames, _frame_seeds, max_bytes=8192),
        Target("ocpp_rpc", _rpc, _frame_seeds, max_bytes=8192),
        Target(
            "ocpp_timestamp",
            _timestamp,
            lambda: [to_rfc3339(T0_MS).encode(), b"2026-11-24 08:00:60+02:00"],
            (BadTimestamp,),
            80,
        ),
        Target("ocpp_signed_value", _signed_value, _signed_values, (OcmfError,)),
        Target(
            "ocpp_16_requests",
            lambda data: run_virtual(_answer(Rig16(protocols=_PROTOCOLS), data)),
            lambda: request_frames(REQUESTS_16),
        ),
        Target(
            "ocpp_201_requests",
            lambda data: run_virtual(_answer(Rig201(protocols=_PROTOCOLS), data)),
            lambda: request_frames(REQUESTS_201),
        ),
        Target("ocpp_16_answers", lambda data: run_virtual(_converse(Rig16(), data)), _answers_16),
        Target("ocpp_201_answers", lambda data: run_virtual(_converse(Rig201(), data)), _answers_201),
    ]
