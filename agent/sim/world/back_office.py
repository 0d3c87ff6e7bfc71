"""The back office of a simulated world: one CSMS that outlives every connection and every boot of its station.

Charter: takes what comes over wires, books it (``back_office16``, ``back_office201``), answers well or in the bad
manners it was told to have, and sends orders. Plain JSON without any OCPP library, and no code of the station's
session: an answer is right or wrong by what is written here, and the tests hold it against the schemas. It keeps
account of what the station must have seen of its own messages, so that a loss can be told from a row that the
station was driven to drop (``excuses`` says which those are).

What it does not do: judge the station's ledger. It exposes ``book``, ``excuses``, ``violations`` for checkers.

Deterministic: the random source and the wall clock are handed in; time is the running loop's.
Units: seconds of the loop's clock, UTC milliseconds. Limits: 256 violations kept (all are counted), 4,096 message ids
and rows to spot repetitions by.
Sources: OCPP-J 1.6 section 4, OCPP 2.0.1 part 4 section 4; checklist 16-BOOT, 16-TX, RPC; field notes "What real back
offices do".
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from agent.ocpp import schema
from agent.ocpp.errors import RpcError
from agent.ocpp.version import Version
from agent.sim.world import manners as bad
from agent.sim.world.asking import TIMEOUT_S, Answer, Asking
from agent.sim.world.back_office16 import Desk16
from agent.sim.world.back_office201 import Desk201
from agent.sim.world.booking import Book
from agent.sim.world.desk import Desk, Message, Payload, frame_text
from agent.sim.world.excuses import Excuses, Row
from agent.sim.world.manners import Manner, Manners
from agent.sim.world.mind import Mind
from agent.sim.world.wire import Wire

VIOLATIONS_MAX: Final = 256
REMEMBERED_MAX: Final = 4_096
MARGIN_S: Final = 0.05  # nearer to the time-out than this an answer may have been in time or not

_FAILURES: Final = (Manner.ERROR, Manner.SILENCE, Manner.CLOSE, Manner.GARBAGE, Manner.MALFORMED)
_ANSWERS: Final = (Manner.GOOD, Manner.TWICE, Manner.STRAY, Manner.ERROR, Manner.MALFORMED)  # in time
BILLING: Final = frozenset({"Authorize", "StartTransaction", "StopTransaction", "TransactionEvent"})


@dataclass(slots=True)
class _Sending:
    """The CALL that the station waits on."""

    message_id: str
    row: Row | None
    once: bool
    sent_s: float
    timer: asyncio.TimerHandle | None = None
    boot: str = ""  # the status that answers a BootNotification


@dataclass(slots=True, eq=False)
class _Peer:
    """One connection. ``heard_s``: when the last CALL left the station, by which a doubled frame is known."""

    wire: Wire
    number: int
    desk: Desk
    opened_s: float
    beat_s: float  # when it last asked for the time (Heartbeat, BootNotification), or was opened
    sending: _Sending | None = None
    heard_s: float = -1.0
    said: tuple[str, Payload] | None = None  # the last answer, for a doubled frame
    ids: OrderedDict[str, Row | None] = field(default_factory=OrderedDict)  # of its CALLs, and what they told
    taken: OrderedDict[Row, None] = field(default_factory=OrderedDict)  # what the station knows to be booked


class BackOffice:
    """See the module. A ``wire.FarEnd``.

    ``mind`` holds the manners and what is thought of tokens; ``timeout_s`` is the station's message time-out.
    ``registration``: what the station was last told for sure of its boot; "" where that is not sure. ``on_order`` hears
    of each order before it goes out."""

    def __init__(
        self,
        rng: random.Random,
        wall_ms: Callable[[], int],
        *,
        versions: tuple[Version, ...] = (Version.V16,),
        manners: Manners = bad.QUIET,
        attempts: int = 3,
        timeout_s: float = 30.0,
        heartbeat_s: int = 300,
        check_schema: bool = False,
    ) -> None:
        self.book = Book()
        self.excuses = Excuses(attempts)
        self.mind = Mind(rng, wall_ms, self.book, self.excuses, self.violation, manners, heartbeat_s)
        self.versions = versions
        self.timeout_s = timeout_s
        self.registration = ""
        self.on_order: Callable[[str, Payload], None] = lambda _action, _payload: None
        self._restarted = False
        self.violations: deque[str] = deque(maxlen=VIOLATIONS_MAX)
        self.counts: Counter[str] = Counter()
        self._rng = rng
        self._check_schema = check_schema
        desks: tuple[Desk, ...] = (Desk16(self.book, self.mind), Desk201(self.book, self.mind))
        self._desks = {desk.version: desk for desk in desks}
        self._peer: _Peer | None = None
        self._peers = 0
        self._asking = Asking(lambda: None if self._peer is None else self._peer.wire, self.violation)
        self._scripts: dict[str, deque[Manner]] = {}
        self._rows_by_id: OrderedDict[str, Row] = OrderedDict()
        self._aliases: OrderedDict[Row, Row] = OrderedDict()
        self._booked: OrderedDict[Row, None] = OrderedDict()
        self._tasks: dict[asyncio.Task[None], None] = {}

    # ------------------------------------------------------------------------------- for the world

    @property
    def version(self) -> Version | None:
        """What is spoken just now; None while nobody is connected."""
        return None if self._peer is None else self._peer.desk.version

    def restarted(self) -> None:
        """The station, or its gateway, begins anew: on its next connection a boot comes before any billing."""
        self._restarted = True

    @property
    def sound_link(self) -> tuple[int, int] | None:
        """The connection of an accepted station, by its number and how often it was disturbed; None: none is sound."""
        peer = self._peer
        if peer is None or not peer.wire.is_live or self.registration != "Accepted":
            return None
        return peer.number, peer.wire.faults

    def quiet_s(self) -> tuple[float, float]:
        """How long an accepted station has said nothing on a link that was sound all the time, and no Heartbeat."""
        peer = self._peer
        if peer is None or not peer.wire.is_live or self.registration != "Accepted":
            return 0.0, 0.0
        now_s = asyncio.get_running_loop().time()
        return now_s - max(peer.opened_s, peer.heard_s), now_s - peer.beat_s

    def script(self, action: str, *manners: Manner) -> None:
        """The next CALLs of ``action`` are answered so, one by one, whatever the rates say."""
        self._scripts.setdefault(action, deque()).extend(manners)

    def unscript(self) -> None:
        """From now on the rates hold again."""
        self._scripts.clear()

    async def call(self, action: str, payload: Payload, *, timeout_s: float = TIMEOUT_S) -> Answer:
        """Send an order and wait for what becomes of it."""
        self.on_order(action, payload)
        return await self._asking.ask(action, payload, timeout_s)

    async def close(self) -> None:
        """End what still runs for it, at the end of the world."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def violation(self, what: str) -> None:
        """The station did what it must not."""
        self.counts["violations"] += 1
        self.violations.append(what)

    # --------------------------------------------------------------------------------- connections

    def choose(self, offers: tuple[str, ...]) -> str | None:
        """See ``wire.FarEnd``."""
        return next((each.subprotocol for each in self.versions if each.subprotocol in offers), None)

    def opened(self, wire: Wire) -> None:
        """See ``wire.FarEnd``."""
        if self._peer is not None:  # it is the same station: its old connection is dead
            self._peer.wire.hang_up(1001, "connected anew")
        version = next((each for each in self.versions if each.subprotocol == wire.subprotocol), None)
        if version is None:
            return
        if self._restarted:
            self._restarted, self.registration = False, "Unregistered"
        self._peers += 1
        self.counts["connections"] += 1
        now_s = asyncio.get_running_loop().time()
        self._peer = _Peer(wire, self._peers, self._desks[version], now_s, now_s)

    def closed(self, wire: Wire) -> None:
        """See ``wire.FarEnd``."""
        peer = self._peer
        if peer is None or peer.wire is not wire:
            return
        self._peer = None
        _over(peer)
        self._asking.lost(wire)

    def spoiled(self, wire: Wire, frame: bytes, sent_s: float) -> None:
        """See ``wire.FarEnd``: it is noted what the station waits for in vain."""
        peer = self._peer
        if peer is not None and peer.wire is wire:
            array = json.loads(frame)
            if array[0] == 2:
                self._note_sending(peer, array, sent_s)

    def heard(self, wire: Wire, frame: bytes, sent_s: float) -> None:
        """See ``wire.FarEnd``."""
        peer = self._peer
        if peer is None or peer.wire is not wire:
            return
        try:
            array = json.loads(frame.decode())
            kind, message_id = array[0], array[1]
        except (ValueError, LookupError, TypeError):
            self.counts["unreadable"] += 1
            if wire.faults == 0:
                self.violation(f"unreadable frame {frame[:40]!r}")
            return
        if kind == 2:
            self._called(peer, array, sent_s)
        elif kind in (3, 4):
            self._answered(peer, message_id, array)
        else:
            self.violation(f"message type {kind!r}")

    # ---------------------------------------------------------------------- the station's own calls

    def _note_sending(self, peer: _Peer, array: list[Any], sent_s: float) -> bool:
        """The station waits on this CALL from ``sent_s`` on; False: it is the same frame once more."""
        if sent_s <= peer.heard_s:
            return False
        peer.heard_s = sent_s
        before = _over(peer)
        _kind, message_id, action, payload = array
        if action == "BootNotification":
            self.registration = "Unregistered"
        row, once = self._name(peer, message_id, action, payload)
        if action in BILLING and row in peer.taken:
            self.violation(f"{action} comes again after an answer that says enough")
        if before is not None:
            if sent_s - before.sent_s < self.timeout_s - MARGIN_S:
                self.violation(f"{action} while {before.message_id} was under way")
            self._count_time_out(peer, before)
        sending = peer.sending = _Sending(message_id, row, once, sent_s)
        if row is not None:
            due_s = sent_s + self.timeout_s
            sending.timer = asyncio.get_running_loop().call_at(due_s, self._timed_out, peer, sending)
        return True

    def _name(self, peer: _Peer, message_id: str, action: str, payload: Payload) -> tuple[Row | None, bool]:
        """The row that a CALL comes of, by the name it was first heard under: a clock that was set meanwhile changes
        its content. And whether a refusal is the end of it."""
        try:
            named = peer.desk.row(action, payload)
        except (LookupError, TypeError, AttributeError):
            named = None  # answering it will tell
        self._judge_id(peer, message_id, action, None if named is None else named[0])
        if named is None:
            return None, False
        row, once = named
        known = self._rows_by_id.get(message_id)
        if known is not None and known != row:
            _remember(self._aliases, row, known)
        row = self._aliases.get(row, row)
        _remember(self._rows_by_id, message_id, row)
        return row, once

    def _judge_id(self, peer: _Peer, message_id: str, action: str, row: Row | None) -> None:
        """16-TX-05: no id twice on one connection; in 2.x a message that is sent again may keep its own."""
        again = not peer.desk.version.is_16 and row is not None and peer.ids.get(message_id) == row
        if message_id in peer.ids and not again:
            self.violation(f"{action} has the message id of a CALL before it")
        _remember(peer.ids, message_id, row)

    def _called(self, peer: _Peer, array: list[Any], sent_s: float) -> None:
        if len(array) != 4 or not isinstance(array[2], str) or not isinstance(array[3], dict):
            self.violation(f"CALL is {array!r:.80}")
            return
        _kind, message_id, action, payload = array
        self.counts[action] += 1
        if action in ("Heartbeat", "BootNotification"):  # whose answers carry the time
            peer.beat_s = sent_s
        if self._check_schema:
            self._check(peer.desk.version, action, payload, schema.check_request)
        try:
            is_new = self._note_sending(peer, array, sent_s)
            self._admit(action)
            self._answer(peer, message_id, action, payload, is_new)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            self.violation(f"{action} cannot be read: {error!r:.80}")
            peer.wire.reply(frame_text([4, message_id, "ProtocolError", "cannot be read", {}]))

    def _admit(self, action: str) -> None:
        """16-BOOT-01 to 04, B02, B03: what may be said before a boot is accepted."""
        if self.registration in ("Unregistered", "Pending") and action in BILLING:
            self.violation(f"{action} while {self.registration}")
        elif self.registration == "Rejected" and action != "BootNotification":
            self.violation(f"{action} while Rejected")

    def _answer(self, peer: _Peer, message_id: str, action: str, payload: Payload, is_new: bool) -> None:
        manner = self._manner(action)
        if manner is not Manner.GOOD:
            self.counts[f"manner {manner}"] += 1
        row = self._rows_by_id.get(message_id)
        if manner in _ANSWERS:
            for dropped in self.excuses.answered(row, peer.number):
                self._excuse(dropped)
        answer: Payload = {}
        if peer.said is not None and peer.said[0] == message_id and not is_new:
            answer = peer.said[1]
        elif manner not in _FAILURES or self._rng.random() < self.mind.manners.booked_anyway:
            booked = peer.desk.answer(Message(message_id, action, payload, row, row in self._booked))
            if booked is None:
                self.violation(f"unknown action {action}")
                peer.wire.reply(frame_text([4, message_id, "NotImplemented", "", {}]))
                return
            in_full = bad.strikes_by(message_id if row is None else repr(row), self.mind.manners.nulls)
            answer = bad.with_nulls(action, booked) if in_full else booked
            peer.said = (message_id, answer)
            if row is not None:
                _remember(self._booked, row, None)
        elif action == "StatusNotification":  # it will not hear how the connector is, and the station need not insist
            self.book.statuses.pop(payload["evseId" if "evseId" in payload else "connectorId"], None)
        if action == "BootNotification" and peer.sending is not None:
            peer.sending.boot = answer.get("status", "")
        say = partial(self._say, peer, manner, message_id, action, answer)
        asks = self.mind.asks_before_boot(peer.desk.version) if action == "BootNotification" else []
        if asks:
            self.counts["talks_before_boot"] += 1
            self._later(self._talk_then(asks, say))
        else:
            say()

    def _manner(self, action: str) -> Manner:
        script = self._scripts.get(action)
        if script:
            return script.popleft()
        return Manner.GOOD if self.mind.manners.rates is bad.NONE else self.mind.manners.rates.draw(self._rng)

    def _say(self, peer: _Peer, manner: Manner, message_id: str, action: str, answer: Payload) -> None:
        wire, rng = peer.wire, self._rng
        good = partial(self._settle, peer, message_id, False)
        refused = partial(self._settle, peer, message_id, True)
        match manner:
            case Manner.GOOD:
                wire.reply(frame_text([3, message_id, answer]), good)
            case Manner.LATE:
                late_s = self.timeout_s + rng.uniform(0.5, 30)
                asyncio.get_running_loop().call_later(late_s, wire.reply, frame_text([3, message_id, answer]), good)
            case Manner.TWICE:
                for _ in range(2):
                    wire.reply(frame_text([3, message_id, answer]), good)
            case Manner.STRAY:
                stray_id = rng.choice((f"{message_id}-", "", 0, "order-0"))
                wire.reply(frame_text([3, stray_id, answer]))
                wire.reply(frame_text([3, message_id, answer]), good)
            case Manner.ERROR:
                wire.reply(frame_text([4, message_id, self._code(peer.desk.version), "no", {}]), refused)
            case Manner.MALFORMED:
                wire.reply(frame_text([3, message_id, bad.spoil(action, answer, rng)]), refused)
            case Manner.GARBAGE:
                wire.reply(rng.choice(bad.GARBAGE))
            case Manner.CLOSE:
                wire.hang_up(rng.choice((1000, 1001, 1011)), "going away")
            case Manner.SILENCE:
                pass

    def _code(self, version: Version) -> str:
        if self._rng.random() < self.mind.manners.foreign_codes:
            return self._rng.choice(bad.CODES_FOREIGN)
        return self._rng.choice(bad.CODES_16 if version.is_16 else bad.CODES_201)

    def _settle(self, peer: _Peer, message_id: str, is_refusal: bool) -> None:
        """An answer came out at the station. It counts for the CALL of this id that the station waits on now."""
        sending = peer.sending
        if sending is None or sending.message_id != message_id:
            return
        if asyncio.get_running_loop().time() - sending.sent_s >= self.timeout_s - MARGIN_S:
            if sending.boot:
                self.registration = ""
            return  # nearly too late: it counts as a time-out
        _over(peer)
        if sending.boot and not is_refusal:
            self.registration = sending.boot
        if sending.row is None:
            return
        if not is_refusal:
            self.excuses.settled(sending.row)
            _remember(peer.taken, sending.row, None)
        elif self.excuses.refused(sending.row, message_id, once=sending.once):
            self._excuse(sending.row)

    def _timed_out(self, peer: _Peer, sending: _Sending) -> None:
        """The station has waited long enough, unless its end has ended before."""
        if peer.sending is sending and peer.wire.ended_s is None:
            _over(peer)
            self._count_time_out(peer, sending)

    def _count_time_out(self, peer: _Peer, sending: _Sending) -> None:
        if sending.row is not None:
            self.excuses.timed_out(sending.row, sending.message_id, peer.number)

    def _excuse(self, row: Row) -> None:
        booked = self.book.named(row)
        if booked is not None:
            booked.excused += 1

    # ------------------------------------------------------------------------------ answers to orders

    def _answered(self, peer: _Peer, call_id: Any, array: list[Any]) -> None:
        action = self._asking.asked(call_id)
        if action is None:
            self.counts["stray_answers"] += 1  # to a doubled frame, or a refusal of garbage
            return
        if self._check_schema and array[0] == 3 and len(array) == 3:
            self._check(peer.desk.version, action, array[2], schema.check_response)
        self._asking.answered(call_id, array)

    async def _talk_then(self, asks: list[tuple[str, Payload]], say: Callable[[], None]) -> None:
        """Field fault 8. Some wait for what they asked, some do not."""
        answers = [self.call(action, payload) for action, payload in asks]
        if self._rng.random() < 0.5:
            await asyncio.gather(*answers)
            say()
        else:
            asyncio.get_running_loop().call_later(self._rng.uniform(0.1, 5), say)
            await asyncio.gather(*answers)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def _check(self, version: Version, action: str, payload: Payload, by: Callable[..., object]) -> None:
        try:
            unknown = by(version, action, payload)
        except (RpcError, KeyError) as error:
            self.violation(f"{action} breaks its schema: {getattr(error, 'description', 'unknown action')}")
        else:
            if unknown:
                self.violation(f"{action} has unknown fields: {unknown}")


def _over(peer: _Peer) -> _Sending | None:
    """The station waits no more; returns what it waited on."""
    sending, peer.sending = peer.sending, None
    if sending is not None and sending.timer is not None:
        sending.timer.cancel()
    return sending


def _remember(store: OrderedDict[Any, Any], key: Any, value: object) -> None:
    store[key] = value
    if len(store) > REMEMBERED_MAX:
        store.popitem(last=False)
