"""The simulated CSMS of the process rig: it can be moody, half-open and out of time, and remembers what it was told.

Charter: ``agent.sim.csms.SimCsms`` with a tap that looks at each frame before and after the ``ocpp`` package does:
messages are withheld from its books and answered badly on demand, every transaction message is noted in the order in
which it came. Transport and dialect are the real ones.

Units: Wh as in the messages; seconds for the clock's offset.
Source: OCPP-J 1.6 section 4.2 (frames), OCPP 2.0.1 part 4.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from agent.ocpp.timestamps import from_rfc3339
from agent.sim.csms import SimCsms, Tap
from agent.sim.scenario.reading import QUEUED, message_of, wall_ms_of
from agent.sim.scenario.rig import Account, Told
from agent.sim.scenario.verbs import Message, Mood

_CALL, _RESULT = 2, 3
_EVENTS_KEPT = 40
_REFUSALS = {Message.BOOT: "Rejected"}  # elsewhere it is a token that is refused


class BackOffice(SimCsms):
    """One CSMS whose behaviour and clock a scenario changes while it runs."""

    def __init__(self, version: str) -> None:
        super().__init__(version, self._heard)
        self.moods: dict[Message, Mood] = {}
        self.clock_offset_s = 0
        self.told: list[Told] = []
        self.events: deque[str] = deque(maxlen=_EVENTS_KEPT)
        self.ended_wall_ms: dict[str, int] = {}
        self._taken: set[str] = set()
        self._connections: list[ServerConnection] = []

    # ----------------------------------------------------------------------------------- the link

    def go_half_open(self) -> None:
        """From now on this side neither reads nor writes on the connections that there are, and says nothing of it."""
        for connection in self._connections:
            connection.transport.pause_reading()

    def drop_dead(self) -> None:
        """Forget connections that went half-open: the peer left them long ago."""
        for connection in self._connections:
            if not connection.transport.is_reading():
                connection.transport.abort()

    async def _serve(self, connection: ServerConnection) -> None:
        if self.version == "1.6":
            from agent.sim.csms16 import make_peer
        else:
            from agent.sim.csms201 import make_peer
        self.drop_dead()  # whoever comes back has given up the old connection
        self._connections.append(connection)
        identity = connection.request.path.rsplit("/", 1)[-1] if connection.request else ""
        peer = make_peer(identity, _MoodyTap(connection, self), self.book)
        self.peer = peer
        self.connected.set()
        self.events.append("the station connects")
        with contextlib.suppress(ConnectionClosed):
            await peer.start()
        self.events.append("the connection ends")
        self._connections.remove(connection)
        if self.peer is peer:
            self.connected.clear()
            self.peer = None

    def _heard(self, way: str, text: str) -> None:
        frame = json.loads(text)
        what = {_CALL: frame[2], _RESULT: "an answer"}.get(frame[0], f"error {frame[2]}")
        self.events.append(f"{'station' if way == '<' else 'CSMS'}: {what}")

    # ---------------------------------------------------------------------------------- the books

    def note(self, message: Message, payload: dict[str, Any], taken: bool) -> None:
        """A queued message has come."""
        ident = json.dumps(payload, sort_keys=True)
        wall_ms = wall_ms_of(payload)
        told = Told(message, self._name(payload), wall_ms, taken, taken and ident in self._taken)
        self.told.append(told)
        if taken:
            self._taken.add(ident)
            if message is Message.STOP:
                self.ended_wall_ms[told.tx] = wall_ms

    def _name(self, payload: dict[str, Any]) -> str:
        """The key of ``Book.transactions``: the station's id in 2.0.1, and what tells a start from others in 1.6."""
        if "transactionInfo" in payload:
            return str(payload["transactionInfo"]["transactionId"])
        if "meterStart" in payload:
            return f"{payload['connectorId']} {payload['timestamp']} {payload['meterStart']}"
        keys, number = list(self.book.transactions), payload.get("transactionId", -1)
        return keys[number - 1] if 0 < number <= len(keys) else ""

    def number_of(self, key: str) -> int:
        """The transactionId of 1.6."""
        return list(self.book.transactions).index(key) + 1

    def accounts(self) -> tuple[Account, ...]:
        return tuple(
            Account(
                each.key,
                each.evse,
                round(each.start_wh * 1_000),
                from_rfc3339(each.started),
                None if each.stop_wh is None else round(each.stop_wh * 1_000),
                self.ended_wall_ms.get(each.key),
                each.reason,
            )
            for each in self.book.transactions.values()
        )


class _MoodyTap(Tap):
    """The connection as the ``ocpp`` package sees it, while the CSMS is in the moods of ``office``."""

    def __init__(self, connection: ServerConnection, office: BackOffice) -> None:
        super().__init__(connection, office._on_frame, office.book)
        self._office = office
        self._refused: dict[str, Message] = {}

    async def recv(self) -> str:
        while True:
            text = await super().recv()
            frame = json.loads(text)
            message = message_of(frame[2], frame[3]) if frame[0] == _CALL else None
            if message is None:
                return text
            mood = self._office.moods.get(message)
            taken = mood in (None, Mood.REFUSE)
            if message in QUEUED:
                self._office.note(message, frame[3], taken)
            if mood is Mood.REFUSE:
                self._refused[frame[1]] = message
            if taken:
                return text
            await self._answer_badly(frame[1], mood)

    async def _answer_badly(self, message_id: str, mood: Mood | None) -> None:
        if mood is Mood.ERROR:
            await self._say([4, message_id, "InternalError", "the scenario wants it so", {}])
        elif mood is Mood.MALFORMED:
            await self._say([_RESULT, message_id, "nonsense"])
        elif mood is Mood.GARBAGE:
            await self._connection.send("<html><body>502 Bad Gateway</body></html>")
        elif mood is Mood.CLOSE:
            await self._connection.close(1011, "the scenario wants it so")

    async def _say(self, frame: list[Any]) -> None:
        text = json.dumps(frame)
        self._on_frame(">", text)
        await self._connection.send(text)

    async def send(self, text: str) -> None:
        frame = json.loads(text)
        if frame[0] == _RESULT:
            message = self._refused.pop(frame[1], None)
            if message is not None:
                _refuse(frame[2], _REFUSALS.get(message, "Invalid"))
                self._book.boots -= message is Message.BOOT
            if "currentTime" in frame[2]:
                frame[2]["currentTime"] = self._now()
            text = json.dumps(frame)
        await super().send(text)

    def _now(self) -> str:
        moment = datetime.now(UTC) + timedelta(seconds=self._office.clock_offset_s)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _refuse(payload: dict[str, Any], status: str) -> None:
    """Say no: in the token's info where there is one, else in the answer itself."""
    for name in ("idTagInfo", "idTokenInfo"):
        if name in payload:
            payload[name]["status"] = status
            return
    if "status" in payload:
        payload["status"] = status
