"""Tokens at the station: presented, asked about, answered, learned.

Charter: carries ``agent.auth``'s decisions out. Keeps the open questions to the CSMS (bounded, with a
deadline, after which the offline rules decide) and the cache on disk. Knows no device.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from agent.auth.cache import TokenCache
from agent.auth.policy import OF_THE_SITE, Accept, AskCsms, Decision, Knowledge, Refuse, Source
from agent.auth.start import decide_start, start_answered
from agent.auth.stop import Running, decide_stop, stop_answered
from agent.auth.token import NO_AUTHORIZATION, Entry, WallTime, fold, same_token
from agent.config.catalogue import key
from agent.config.device_model import DeviceModel
from agent.config.model import Config, OcppVersion
from agent.config.token_rules import auth_settings, site_list
from agent.core.commands import RemoteStart
from agent.core.events import Authorized, Deauthorized, Event, StopAuthorized
from agent.core.facts import Token
from agent.core.session import SessionState, Transaction
from agent.core.station import Station
from agent.core.status import Outcome
from agent.ipc.port import AuthorizeWanted, CommandAnswer, News, TokenVerdict
from agent.ledger.state import Clear, Delete, Namespace, Put, StateChange, fits

CACHE_ENTRIES = 1_000
_MAX_QUESTIONS = 32
_READ_TWICE_MS = 3_000  # a reader may tell a card again while it is held up
_LONGEST_ID = {True: 20, False: 36}  # in OCPP 1.6 (16-AUTH-11), and not
FREE = Token("", NO_AUTHORIZATION)

log = structlog.get_logger("auth")


class Shell(Protocol):
    def give(self, event: Event) -> None: ...

    def publish(self, news: News) -> None: ...

    def save_lazily(self, changes: Sequence[StateChange]) -> None: ...

    async def save(self, changes: Sequence[StateChange]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Question:
    """What the CSMS was asked for: a start here (``remote_start_id`` and ``profile`` with it), or a stop."""

    token: Token
    evse: int
    departures: int  # of vehicles by then: a start is meant for the one that is there, or comes next
    to_stop: str | None  # the transaction
    remote_start_id: int | None = None
    profile: dict[str, Any] | None = None
    group: str | None = None  # as the request for a start has it
    shown: bool = False


class Tokens:
    """All that happens to tokens at one station."""

    def __init__(self, config: Config, model: DeviceModel, core: Station, shell: Shell, stored: dict[str, str]) -> None:
        self._config = config
        self._model = model
        self._core = core
        self._shell = shell
        self._online = False
        may_be_16 = config.csms is not None and OcppVersion.V16 in config.csms.versions
        self._max_id_length = _LONGEST_ID[may_be_16]  # until a link says which version it is: cut off, it is another's
        self._cache = TokenCache.load(CACHE_ENTRIES, [_row(text) for text in stored.values()])
        self._site = site_list(config)
        self._questions: dict[int, _Question] = {}
        self._ids = itertools.count(1)
        self.configure()

    def configure(self) -> None:
        """The settings may have changed."""
        self._settings = auth_settings(self._model, max_id_length=self._max_id_length)

    def link(self, online: bool, dialect: str | None) -> None:
        """The CSMS came or went. Questions it can no longer answer are decided by the offline rules."""
        self._online = online
        if dialect is not None:
            self._max_id_length = _LONGEST_ID[dialect == "1.6"]
            self.configure()
        if not online:
            for request_id in list(self._questions):
                self._decide_offline(self._questions.pop(request_id))

    async def clear_cache(self) -> bool:
        """False where there is no cache (C11). Durable before it returns."""
        if not self._settings.cache_enabled:
            return False
        self._cache.clear()
        await self._shell.save([Clear(Namespace.TOKEN)])
        return True

    def cached(self, belongs: Callable[[str, str | None], bool]) -> list[dict[str, Any]]:
        """Entries of the cache, as ``TokenCache.dump`` has them, whose folded text and group ``belongs`` takes."""
        return [row for row in self._cache.dump() if belongs(row["id"], row["group"])]

    async def forget(self, ids: Sequence[str]) -> None:
        """Drop entries of the cache by their folded texts; durable before it returns."""
        self._cache.forget(ids)
        await self._shell.save([Delete(Namespace.TOKEN, each) for each in ids])

    # ------------------------------------------------------------------------------------ presented

    def present(self, token: Token, evse_id: int) -> str:
        """A token was presented at this EVSE; says what was decided."""
        evse = self._core.evses.get(evse_id)
        if evse is None:
            return f"no EVSE {evse_id} here"
        held = evse.flow.held_token
        if held is not None and same_token(token, held):
            evse.flow.held_token = None  # 16-TX-09: the same token gives the cable back
            return "cable released"
        tx = evse.flow.tx
        if tx is not None:
            running = self._running(tx)
            question = _Question(token, evse_id, evse.vehicle.departures, tx.tx_id)
            return self._carry_out(question, decide_stop(token, running, self._knowledge()))
        waiting = evse.flow.waiting_token
        if waiting is not None and same_token(token, waiting):
            return self._shown_again(token, evse_id)
        if not self._core.accepts_start(evse_id):
            return "not available now"
        question = _Question(token, evse_id, evse.vehicle.departures, None, shown=True)
        return self._carry_out(question, decide_start(token, self._knowledge()))

    def _shown_again(self, token: Token, evse_id: int) -> str:
        """The card that waits here for its vehicle."""
        shown_at_ms = self._core.evses[evse_id].flow.shown_at_ms
        if shown_at_ms is None or self._core.ctx.at_ms - shown_at_ms < _READ_TWICE_MS:
            return "waiting for the vehicle"
        self._shell.give(StopAuthorized(evse_id, token))
        return "taken back: nothing starts here"  # else whoever plugs in next would charge on this card

    def start_free_vehicles(self) -> None:
        """C02: where charging is free, whoever plugs in may charge."""
        if self._config.auth.free:
            for evse_id, evse in self._core.evses.items():
                waits = evse.flow.state is SessionState.PLUGGED and not evse.force_unlock
                if waits and self._core.accepts_start(evse_id):
                    self._shell.give(Authorized(evse_id, FREE, None, source=Source.NOT_NEEDED.value))

    def remote_needs_check(self) -> bool:
        return self._model.boolean(key("AuthCtrlr.AuthorizeRemoteStart"))

    def remote_start(self, command: RemoteStart) -> CommandAnswer:
        """A remote start whose token is checked like one presented here (16-AUTH-13). The command is answered before
        the CSMS is asked (16-CMD-04)."""
        evse_id = self._core.find_startable(command.evse)
        if evse_id is None:
            known = command.evse is None or command.evse in self._core.evses
            return CommandAnswer(Outcome.REJECTED if known else Outcome.UNKNOWN_EVSE)
        departures = self._core.evses[evse_id].vehicle.departures
        number, profile = command.remote_start_id, command.profile
        question = _Question(command.token, evse_id, departures, None, number, profile, command.group)
        decision = decide_start(command.token, self._knowledge())
        if isinstance(decision, AskCsms):
            asyncio.get_running_loop().call_soon(self._ask, question)
        else:
            self._carry_out(question, decision)
        return CommandAnswer(Outcome.ACCEPTED)

    # -------------------------------------------------------------------------------------- answers

    def verdict(self, token: Token, verdict: TokenVerdict, *, request_id: int | None, tx_id: str | None) -> None:
        """The CSMS's word on a token (or, with status "", that none could be had)."""
        question = self._questions.pop(request_id, None) if request_id is not None else None
        if not verdict.status:
            if question is not None:
                self._decide_offline(question)
            return
        entry = Entry(verdict.status, verdict.group, verdict.expiry_wall_ms)
        if verdict.everywhere:
            self._learn(token, entry)
        else:
            self._unlearn(token)
        if question is not None:
            self._carry_out(question, self._answered(question, entry))
        elif tx_id is not None:
            self._check_running(tx_id, entry)

    def _answered(self, question: _Question, entry: Entry) -> Decision:
        if question.to_stop is None:
            return start_answered(entry, self._settings)
        tx = self._core.evses[question.evse].flow.tx
        running = self._running(tx) if tx is not None else Running(None)
        return stop_answered(entry, running, self._settings)

    def _check_running(self, tx_id: str, entry: Entry) -> None:
        """The answer to a transaction message refused its token (E05, 16-TX-09). A start that the site allows by itself
        is not the CSMS's to refuse."""
        running = (evse.flow.tx for evse in self._core.evses.values())
        if any(tx is not None and tx.tx_id == tx_id and tx.authorized_by in OF_THE_SITE for tx in running):
            return
        if isinstance(start_answered(entry, self._settings), Refuse):
            stop = self._model.boolean(key("TxCtrlr.StopTxOnInvalidId"))
            log.warning("the CSMS refuses a running transaction", tx=tx_id, status=entry.status, stop=stop)
            self._shell.give(Deauthorized(tx_id, stop))

    def _decide_offline(self, question: _Question) -> None:
        known = replace(self._knowledge(), online=False)
        if question.to_stop is None:
            self._carry_out(question, decide_start(question.token, known))
            return
        tx = self._core.evses[question.evse].flow.tx
        if tx is not None:
            self._carry_out(question, decide_stop(question.token, self._running(tx), known))

    # ------------------------------------------------------------------------------------ decisions

    def _carry_out(self, question: _Question, decision: Decision) -> str:
        match decision:
            case AskCsms():
                return self._ask(question)
            case Refuse(status, source):
                log.info("token refused", evse=question.evse, status=status, source=source.value)
                return f"refused: {status}"
            case Accept(source, group):
                log.info("token accepted", evse=question.evse, source=source.value)
                return self._accepted(question, group, source)

    def _accepted(self, question: _Question, group: str | None, source: Source) -> str:
        if question.to_stop is None:
            if question.departures != self._core.evses[question.evse].vehicle.departures:
                log.info("nothing starts, the vehicle has left", evse=question.evse)
                return "the vehicle has left"  # whoever is there now would charge on this card
            number, profile = question.remote_start_id, question.profile
            known_group = group or question.group
            token, evse = question.token, question.evse
            self._shell.give(Authorized(evse, token, known_group, number, source.value, profile, question.shown))
            return "accepted"
        tx = self._core.evses[question.evse].flow.tx
        if tx is not None and tx.tx_id == question.to_stop:
            self._shell.give(StopAuthorized(question.evse, question.token, source is Source.MASTER_PASS))
        return "stopping"

    def _ask(self, question: _Question) -> str:
        if len(self._questions) >= _MAX_QUESTIONS:
            return "refused: too many tokens at once"
        request_id = next(self._ids)
        self._questions[request_id] = question
        self._shell.publish(AuthorizeWanted(request_id, question.token, question.evse))
        return "asking the CSMS"

    def _learn(self, token: Token, entry: Entry) -> None:
        before, learned = [row["id"] for row in self._cache.dump()], fold(token.id_token)
        if not self._settings.cache_enabled or not fits(learned) or not self._cache.learn(token, entry, self._now()):
            return
        rows = {row["id"]: row for row in self._cache.dump()}
        changes: list[StateChange] = [Delete(Namespace.TOKEN, each) for each in before if each not in rows]
        changes.append(Put(Namespace.TOKEN, learned, json.dumps(rows[learned], sort_keys=True)))
        self._shell.save_lazily(changes)

    def _unlearn(self, token: Token) -> None:
        """What the CSMS says of one EVSE only is not kept, nor what it said before (C01)."""
        learned = fold(token.id_token)
        before = len(self._cache)
        self._cache.forget([learned])
        if len(self._cache) < before:
            self._shell.save_lazily([Delete(Namespace.TOKEN, learned)])

    def is_master_pass(self, group: str | None) -> bool:
        return self._settings.is_master_pass(group)

    def _running(self, tx: Transaction) -> Running:
        """The group may have come after the start, with the answer to its message (C09, 16-AUTH-09)."""
        if tx.group or tx.token is None:
            return Running(tx.token, tx.group)
        return Running(tx.token, self.group_of(tx.token))

    def group_of(self, token: Token) -> str | None:
        """As far as the station knows by itself. This is no check: whoever refuses it has refused it already."""
        known = self._knowledge().find(token)
        return None if known is None else known.entry.group

    def _knowledge(self) -> Knowledge:
        return Knowledge(self._settings, self._cache, self._now(), self._online, site=self._site)

    def _now(self) -> WallTime:
        ctx = self._core.ctx
        return WallTime(ctx.wall_ms, ctx.time_status != "U")


def _row(text: str) -> dict[str, object]:
    try:
        row = json.loads(text)
    except ValueError:
        row = {}
    return row if isinstance(row, dict) else {}
