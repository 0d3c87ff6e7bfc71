"""What every OCPP dialect is to the rest of the gateway, and the few things all of them stand on.

Charter: the shape of a dialect (``Dialect``), what the gateway knows of the station (``StationView``)
and one connection as a dialect uses it (``Line``). A dialect lives as long as the gateway knows the
station; connections come and go under it, and what must outlive a connection (registration, what the
CSMS was told of the connectors) is kept inside it.

How the gateway runs one: every news item goes first to ``view.hear``, then to ``await dialect.hear``;
on each connection it makes ``Session(transport, dialect.version, dialect.handle, dialect.supported)``
and runs ``session.run()`` beside ``dialect.run(session)``; whichever ends first, the other is cancelled.

Time is the event loop's (``loop.time()``, ``asyncio.sleep``): a loop with virtual time makes all of
this run in virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from agent.core.facts import Token, TransactionFact
from agent.core.status import ConnectorStatus
from agent.ipc.port import (
    AuthorizeWanted,
    ConnectorChanged,
    News,
    RowsAppended,
    SettingsChanged,
    StationLost,
    StationPort,
    TokenVerdict,
    TrustChanged,
    Welcome,
)
from agent.ocpp.errors import ErrorCode
from agent.ocpp.frames import Payload
from agent.ocpp.rows import rows_of
from agent.ocpp.rpc import CallError, CallOutcome, CallResult, LinkLost, Priority, TimedOut
from agent.ocpp.session import Reply
from agent.ocpp.version import Version

log = structlog.get_logger("ocpp")

ASYNC_JOBS_MAX = 32  # what CSMS and station may have us do later on one connection, at the same time


class Caller(Protocol):
    """The part of ``Session`` that dialects use."""

    async def call(
        self,
        action: str,
        payload: Payload,
        *,
        priority: Priority,
        timeout_s: float | None = None,
        message_id: str | None = None,
        on_late: Callable[[Payload], None] | None = None,
    ) -> CallOutcome: ...


class Dialect(Protocol):
    """One OCPP version, translating between the CSMS and the station."""

    version: Version
    supported: frozenset[str]  # actions of the CSMS that ``handle`` takes

    @property
    def registration(self) -> str:
        """The CSMS's word on this station: Accepted, Pending or Rejected; Unregistered before it said one."""
        ...

    async def handle(self, action: str, payload: Payload) -> Payload | Reply:
        """Answer one CALL of the CSMS. Raises ``RpcError`` to refuse. Never calls the CSMS itself."""
        ...

    async def hear(self, news: News) -> None:
        """Take one news item of the station, with or without a connection. Returns at once.
        Raises ``StationLost``."""
        ...

    def others_spoke(self) -> None:
        """Another dialect was spoken meanwhile: what the CSMS was told of connectors by this one stands no more, and
        what is to be told next may have been sent."""
        ...

    async def run(self, session: Caller) -> None:
        """Converse over this connection until it ends. Raises ``StationLost``."""
        ...


class LinkGone(Exception):
    """The connection ended; whatever was under way is taken up on the next one. ``lost``: the call that says so."""

    def __init__(self, lost: LinkLost) -> None:
        super().__init__(lost.reason)
        self.lost = lost


class NotRegistered(LinkGone):
    """The CSMS knows this station no more, and has taken nothing: all goes on behind a new BootNotification."""


class Line:
    """One connection: calls that raise ``LinkGone`` when it ends, and the time of the last exchange.

    While ``may_talk`` is not set (a boot is not answered, or was rejected) every call but BootNotification waits
    (16-BOOT-04, B03). ``on_denied`` hears of each SecurityError; True: the CSMS has forgotten this
    station. ``is_forgotten``: it has, and the conversation is to begin anew, with a boot."""

    def __init__(
        self,
        session: Caller,
        may_talk: asyncio.Event | None = None,
        on_denied: Callable[[], bool] = lambda: False,
    ) -> None:
        self._session = session
        self._may_talk = may_talk
        self._on_denied = on_denied
        self.is_forgotten = False
        self._under_way = 0
        self._quiet = asyncio.Event()  # no call is under way
        self._quiet.set()
        self.last_answer_s = asyncio.get_running_loop().time()

    async def call(
        self,
        action: str,
        payload: Payload,
        *,
        priority: Priority,
        timeout_s: float | None = None,
        message_id: str | None = None,
        on_late: Callable[[Payload], None] | None = None,
    ) -> CallResult | CallError | TimedOut:
        """As ``Session.call``, but a lost link raises ``LinkGone``, a lost registration ``NotRegistered``."""
        if action == "BootNotification":
            await self._quiet.wait()  # what is queued already would be sent behind a Rejected
        elif self._may_talk is not None:
            while not self._may_talk.is_set():  # again: it may have closed since the wait ended
                await self._may_talk.wait()
        self._under_way += 1
        self._quiet.clear()
        try:
            outcome = await self._session.call(
                action, payload, priority=priority, timeout_s=timeout_s, message_id=message_id, on_late=on_late
            )
        finally:
            self._under_way -= 1
            if self._under_way == 0:
                self._quiet.set()
        if isinstance(outcome, LinkLost):
            raise LinkGone(outcome)
        if not isinstance(outcome, TimedOut):
            self.last_answer_s = asyncio.get_running_loop().time()
        denied = isinstance(outcome, CallError) and outcome.code == ErrorCode.SECURITY_ERROR
        if denied and action != "BootNotification" and (self.is_forgotten or self._on_denied()):
            self.is_forgotten = True
            raise NotRegistered(LinkLost(f"{action} is refused: not registered any more"))
        return outcome


def setting_key(component: str, variable: str, instance: str | None = None) -> str:
    """The text that a variable of the station or its controllers has in ``Welcome.settings``."""
    return f"{component}.{variable}" if instance is None else f"{component}.{variable}[{instance}]"


@dataclass(slots=True)
class StationView:
    """What the gateway knows of the station: its ``Welcome``, folded with all news since.

    ``connectors`` is keyed by EVSE, 0 = the station as a whole. ``root_in_use`` is the gateway's own knowledge: see
    ``link.Connection.root``."""

    welcome: Welcome
    settings: dict[str, str] = field(default_factory=dict)
    connectors: dict[int, ConnectorStatus] = field(default_factory=dict)
    head_seq: int = 0
    roots: tuple[str, ...] = ()
    root_in_use: str = ""

    def __post_init__(self) -> None:
        self.settings = dict(self.welcome.settings)
        self.head_seq = self.welcome.head_seq
        self.roots = self.welcome.roots

    def hear(self, news: News) -> None:
        """Fold one news item in."""
        match news:
            case RowsAppended(head_seq):
                self.head_seq = max(self.head_seq, head_seq)
            case ConnectorChanged(status):
                self.connectors[status.evse] = status
            case SettingsChanged(settings):
                self.settings.update(settings)
            case TrustChanged(roots):
                self.roots = roots
            case _:
                pass

    def text(self, key: str, default: str = "") -> str:
        """A setting's value by its ``DeviceModel`` key text, ``default`` where the station has none."""
        return self.settings.get(key, default)

    def integer(self, key: str, default: int) -> int:
        """A whole-number setting; ``default`` where it is missing or no number."""
        try:
            return int(self.settings[key])
        except (KeyError, ValueError):
            return default

    def flag(self, key: str, default: bool) -> bool:
        """A boolean setting."""
        return self.settings.get(key, str(default)).lower() == "true"

    def names(self, key: str) -> tuple[str, ...]:
        """A comma-separated list setting, blanks and empty entries removed."""
        return tuple(name for part in self.settings.get(key, "").split(",") if (name := part.strip()))


class Jobs:
    """What is to be done on one connection besides the steady work: triggered messages, authorizations.

    A bounded set of tasks; ``later`` says whether the job was taken."""

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None
        self._under_way = 0

    def open(self, group: asyncio.TaskGroup | None) -> None:
        """A connection begins, or (None) ends; the group's end cancels what is under way."""
        self._group = group
        self._under_way = 0

    def later(self, job: Coroutine[object, object, None]) -> bool:
        """Run ``job`` in the background of this connection; False: there is none, it ends, or too many already run."""
        if self._group is None or self._under_way >= ASYNC_JOBS_MAX:
            job.close()
            return False
        group = self._group
        try:
            task = group.create_task(job)
        except RuntimeError:  # it is being cancelled: the connection has just been lost
            job.close()
            return False
        self._under_way += 1
        task.add_done_callback(lambda _task: self._finished(group))
        return True

    def _finished(self, group: asyncio.TaskGroup) -> None:
        if group is self._group:
            self._under_way -= 1


async def refuse_authorize(station: StationPort, wanted: AuthorizeWanted) -> None:
    """No answer can be had from the CSMS: the station decides by its offline rules."""
    await station.token_verdict(wanted.token, TokenVerdict(""), request_id=wanted.request_id)


async def first_token(station: StationPort, tx_id: str) -> Token | None:
    """The first token that was presented in a transaction: its payer's."""
    async for row in rows_of(station, tx_id):
        if isinstance(row.fact, TransactionFact) and row.fact.token is not None:
            return row.fact.token
    return None


async def until_link_gone(work: Coroutine[object, object, None]) -> None:
    """Await a connection's work; the end of the link is its ordinary end. Of several failures that
    happened together the station's loss counts, since the gateway waits for it.

    The work gets a task of its own: a group of which a member fails leaves its task half cancelled, and until
    Python 3.11.3 (Debian 12 has 3.11.2) no time-out works in such a task any more."""
    try:
        await asyncio.get_running_loop().create_task(work)
    except* LinkGone as gone:
        log.info("link_gone", reason=str(_leaf(gone)))
    except* StationLost as lost:
        raise _leaf(lost) from None


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first
