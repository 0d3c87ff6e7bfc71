"""The whole station: one step per event.

Charter: routes events to EVSEs, carries out commands, and gathers the effects. ``step`` is the only
way in. After every event all EVSEs settle, so that no event can leave a wanted output untold.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.core.clock import Clock
from agent.core.commands import (
    WHO_MAX_CHARS,
    ChangeAvailability,
    ClearFaults,
    RemoteStart,
    RemoteStop,
    Reset,
    TakeSample,
    Unlock,
)
from agent.core.context import Context, TariffFor
from agent.core.effects import Answer, Effect, ReadMeter, Restart, SampleTaken, SaveAvailability, StatusChanged
from agent.core.events import (
    Authorized,
    ClockSet,
    Commanded,
    Configured,
    DcDemand,
    Deauthorized,
    Durable,
    Event,
    Exhausted,
    FromMeter,
    FromPilot,
    FromPower,
    LedgerLost,
    LedgerRoom,
    LimitSet,
    LinkChanged,
    Recovered,
    Stalled,
    StopAuthorized,
    Tick,
    UpdateHold,
)
from agent.core.evse import Evse
from agent.core.facts import LogEntry, LogFact, SampleContext, StopReason, Trigger
from agent.core.outlook import connector_state, view
from agent.core.sampling import to_sample
from agent.core.session import SessionState, Stop
from agent.core.settings import StationSettings
from agent.core.status import ConnectorState, ConnectorStatus, EvseView, FaultCode, Outcome

UNLOCK_ANSWER_MS = 4_000  # the CSMS waits for the answer; the motor goes on regardless


class Station:
    """The pure station. Not thread-safe; every call carries its monotonic time in ms."""

    def __init__(
        self, settings: StationSettings, new_tx_id: Callable[[], str], tariff_for: TariffFor = lambda *_: None
    ) -> None:
        self.ctx = Context(settings.behaviour, new_tx_id, tariff_for)
        self.clock = Clock(self.ctx)
        self.evses = {
            hardware.evse: Evse(
                hardware,
                settings.timing,
                self.ctx,
                operative=hardware.evse not in settings.inoperative_evses,
                lasting_faults=settings.lasting_faults.get(hardware.evse, ()),
            )
            for hardware in settings.evses
        }
        self.operative = settings.operative
        self._held = False
        self.pending_operative: bool | None = None
        self._reset: Reset | None = None
        self._unlocks: list[tuple[int, int, int]] = []  # EVSE, command id, answer by
        self._promises: list[tuple[_Answerer, list[Evse]]] = []  # accepted once the stops of these are durable
        self._told: dict[int, tuple[ConnectorState, tuple[FaultCode, ...]]] = {}

    def step(self, event: Event, at_ms: int) -> list[Effect]:
        """Handle one event that happened at ``at_ms``; returns what is to be done, in order."""
        self.ctx.at_ms = at_ms
        self._handle(event)
        for evse in self.evses.values():
            evse.settle(devices_heard=isinstance(event, Tick))
        self._after()
        return self.ctx.take_effects()

    def deadline_ms(self) -> int | None:
        """When a ``Tick`` is due at the latest; None: only events matter."""
        times = [at_ms for evse in self.evses.values() for at_ms in evse.deadlines()]
        times += [by_ms for _, _, by_ms in self._unlocks]
        return min(times, default=None)

    def views(self) -> tuple[EvseView, ...]:
        return tuple(view(evse, station_operative=self.available) for evse in self.evses.values())

    @property
    def available(self) -> bool:
        """Whether new sessions may begin on the station as a whole: not where the ledger has no room for them, nor
        while it waits for one that runs to restart or to go out of service."""
        waits = self._held or self._reset is not None or self.pending_operative is False
        return self.operative and not waits and self.ctx.ledger_room

    @property
    def busy(self) -> bool:
        """Whether any transaction runs or is being opened or closed."""
        return any(evse.flow.in_transaction for evse in self.evses.values())

    @property
    def engaged(self) -> bool:
        """Whether there is a session that an update must not cut: a transaction, or one about to begin."""
        return any(evse.flow.engaged for evse in self.evses.values())

    def statuses(self) -> list[ConnectorStatus]:
        """What was last told of the station (0) and of every connector."""
        wall_ms = self.ctx.wall_ms
        return [ConnectorStatus(evse, state, faults, wall_ms) for evse, (state, faults) in sorted(self._told.items())]

    def accepts_start(self, evse_id: int) -> bool:
        """Whether a token presented at this EVSE could start a transaction now."""
        evse = self.evses[evse_id]
        return self.available and evse.operative and evse.pending_operative is not False and evse.startable()

    def find_startable(self, evse_id: int | None) -> int | None:
        """The EVSE on which a transaction could start: the one asked for, or else the only one that can be meant.

        That is where a vehicle has come and waits, else where none is. Never one whose vehicle is done; and where one
        stands that nobody saw come (since a restart, or since it was out of sight), it may be meant, or anybody's."""
        if evse_id is None and len(self.evses) == 1:
            evse_id = next(iter(self.evses))
        if evse_id is not None:
            return evse_id if evse_id in self.evses and self.accepts_start(evse_id) else None
        free = {each: evse for each, evse in self.evses.items() if self.accepts_start(each)}
        waits = [each for each, evse in free.items() if evse.flow.state is SessionState.PLUGGED]
        if waits:
            return waits[0] if len(waits) == 1 and free[waits[0]].vehicle.has_come else None
        empty = [each for each, evse in free.items() if evse.vehicle.connected is False]
        return empty[0] if len(empty) == 1 else None

    # ------------------------------------------------------------------------------------- routing

    def _handle(self, event: Event) -> None:
        if isinstance(event, FromPilot):
            self.evses[event.evse].on_pilot(event.event)
        elif isinstance(event, FromMeter):
            self._on_meter(event)
        elif isinstance(event, FromPower):
            self.evses[event.evse].on_power(event.event)
        elif isinstance(event, Durable):
            for evse in self.evses.values():
                evse.flow.durable(event.ticket)
        elif isinstance(event, Commanded):
            self._command(event)
        else:
            self._handle_rest(event)

    def _handle_rest(self, event: Event) -> None:
        if isinstance(event, Authorized):
            if self.accepts_start(event.evse):
                evse, number = self.evses[event.evse], event.remote_start_id
                evse.authorize(event.token, event.group, number, event.source, event.profile, shown=event.shown)
        elif isinstance(event, StopAuthorized):
            reason = StopReason.MASTER_PASS if event.master_pass else StopReason.LOCAL
            stop = Stop(Trigger.STOP_AUTHORIZED, reason, event.token)
            self.evses[event.evse].flow.stop(stop)
        elif isinstance(event, Deauthorized):
            self._deauthorize(event)
        elif isinstance(event, LimitSet):
            self.evses[event.evse].limit.set_outside(event.limit_ma, event.share_ma)
        elif isinstance(event, DcDemand):
            self.evses[event.evse].demand(event.voltage_mv, event.current_ma)
        elif isinstance(event, LinkChanged):
            self.ctx.online = event.online
        elif isinstance(event, ClockSet):
            self.clock.set(event)
        elif isinstance(event, Configured):
            self.ctx.behaviour = event.behaviour
        elif isinstance(event, Recovered):
            self.evses[event.evse].flow.recover(event)
        elif isinstance(event, Exhausted):
            self._exhausted(event)
        elif isinstance(event, LedgerLost):
            self.ctx.ledger_ok = False
        elif isinstance(event, LedgerRoom):
            self._room(event)
        elif isinstance(event, Stalled):
            for evse in self.evses.values():
                evse.vehicle.stalled(self.ctx.at_ms)
        elif isinstance(event, UpdateHold):
            self._held = event.on

    def _on_meter(self, event: FromMeter) -> None:
        evse = self.evses[event.evse]
        evse.on_meter(event.event)
        if evse.sample_wanted and evse.reading is event.event:
            evse.sample_wanted = False
            sample = to_sample(evse.reading, SampleContext.TRIGGER, evse.limit.offered_ma)
            self.ctx.emit(SampleTaken(event.evse, sample))

    def _deauthorize(self, event: Deauthorized) -> None:
        for evse in self.evses.values():
            if evse.flow.tx is None or evse.flow.tx.tx_id != event.tx_id:
                continue
            if event.stop:
                evse.flow.stop(Stop(Trigger.DEAUTHORIZED, StopReason.DE_AUTHORIZED))
            else:
                evse.flow.block_energy()

    def _exhausted(self, event: Exhausted) -> None:
        for evse in self.evses.values():
            if evse.flow.tx is not None and evse.flow.tx.tx_id == event.tx_id:
                evse.flow.stop(Stop(event.trigger, event.reason))

    def _room(self, told: LedgerRoom) -> None:
        self.ctx.ledger_scarce = told.scarce
        if told.enough is not self.ctx.ledger_room:
            self.ctx.ledger_room = told.enough
            self.ctx.append(LogFact(LogEntry.SPACE_ENOUGH if told.enough else LogEntry.SPACE_LOW))

    # ------------------------------------------------------------------------------------ commands

    def _command(self, event: Commanded) -> None:
        command, answer = event.command, _Answerer(self.ctx, event.command_id)
        if isinstance(command, RemoteStart):
            self._remote_start(command, answer)
        elif isinstance(command, RemoteStop):
            self._remote_stop(command, answer)
        elif isinstance(command, ChangeAvailability):
            self._change_availability(command, answer)
        elif isinstance(command, Reset):
            self._begin_reset(command, answer)
        elif isinstance(command, Unlock):
            self._unlock(command, answer)
        elif isinstance(command, TakeSample):
            self._take_sample(command, answer)
        elif isinstance(command, ClearFaults):
            self._clear_faults(command, answer)

    def _remote_start(self, command: RemoteStart, answer: _Answerer) -> None:
        """F01/F02, 16-CMD-04. The token has been checked before, where that was wanted."""
        if command.evse is not None and command.evse not in self.evses:
            return answer(Outcome.UNKNOWN_EVSE)
        evse_id = self.find_startable(command.evse)
        if evse_id is None:
            running = self.evses[command.evse].flow.tx if command.evse is not None else None
            return answer(Outcome.REJECTED, running.tx_id if running else None)
        answer(Outcome.ACCEPTED)
        token, group, number, profile = command.token, command.group, command.remote_start_id, command.profile
        return self.evses[evse_id].authorize(token, group, number, "remote", profile)

    def _remote_stop(self, command: RemoteStop, answer: _Answerer) -> None:
        for evse in self.evses.values():
            if evse.flow.tx is not None and evse.flow.tx.tx_id == command.tx_id:
                evse.flow.stop(Stop(Trigger.REMOTE_STOP, StopReason.REMOTE))
                return self._promises.append((answer, [evse]))
        return answer(Outcome.UNKNOWN_TRANSACTION)

    def _change_availability(self, command: ChangeAvailability, answer: _Answerer) -> None:
        """G03/G04, 16-CMD-01: a running transaction is never cut; the latest request wins."""
        if command.evse is not None and command.evse not in self.evses:
            return answer(Outcome.UNKNOWN_EVSE)
        concerned = [self.evses[command.evse]] if command.evse is not None else list(self.evses.values())
        busy = any(evse.flow.engaged for evse in concerned)
        if command.evse is None:
            self.pending_operative = command.operative
        else:
            self.evses[command.evse].pending_operative = command.operative
        if command.who:
            details = (("operative", "yes" if command.operative else "no"), ("by", command.who[:WHO_MAX_CHARS]))
            self.ctx.append(LogFact(LogEntry.AVAILABILITY_CHANGED, command.evse, details))
        if not busy or command.operative:
            return answer(Outcome.ACCEPTED)
        self.ctx.emit(SaveAvailability(command.evse, operative=False))  # kept at once: a restart forgets what waits
        return answer(Outcome.SCHEDULED)

    def _begin_reset(self, command: Reset, answer: _Answerer) -> None:
        """B11/B12, 16-CMD-07. A single EVSE has nothing to restart."""
        if command.evse is not None:
            return answer(Outcome.REJECTED)
        self._reset = command
        if not command.immediate:
            return answer(Outcome.SCHEDULED if self.busy else Outcome.ACCEPTED)
        reason = StopReason.IMMEDIATE_RESET if command.hard else StopReason.REBOOT
        running = [evse for evse in self.evses.values() if evse.flow.in_transaction]
        for evse in running:
            evse.flow.stop(Stop(Trigger.RESET_COMMAND, reason, at_once=True))
        return self._promises.append((answer, running))

    def _unlock(self, command: Unlock, answer: _Answerer) -> None:
        """F05, 16-TX-18."""
        evse = self.evses.get(command.evse)
        if evse is None:
            return answer(Outcome.UNKNOWN_EVSE)
        if evse.lock is None:
            return answer(Outcome.NOT_SUPPORTED)
        if evse.flow.engaged and not command.end_transaction:
            return answer(Outcome.ONGOING_TRANSACTION)
        evse.force_unlock, evse.flow.held_token = True, None
        if evse.flow.engaged:
            evse.flow.stop(Stop(Trigger.UNLOCK_COMMAND, StopReason.UNLOCK, at_once=True))
        return self._unlocks.append((command.evse, answer.command_id, self.ctx.at_ms + UNLOCK_ANSWER_MS))

    def _take_sample(self, command: TakeSample, answer: _Answerer) -> None:
        if command.evse is not None and command.evse not in self.evses:
            return answer(Outcome.UNKNOWN_EVSE)
        for evse_id in self.evses if command.evse is None else [command.evse]:
            self.evses[evse_id].sample_wanted = True
            self.ctx.emit(ReadMeter(evse_id))
        return answer(Outcome.ACCEPTED)

    def _clear_faults(self, command: ClearFaults, answer: _Answerer) -> None:
        evse = self.evses.get(command.evse)
        if evse is None:
            return answer(Outcome.UNKNOWN_EVSE)
        before = evse.faults.active
        none_left = evse.clear_faults()
        if cleared := [code.value for code in before if not evse.faults.has(code)]:
            details = (("faults", ",".join(cleared)), ("by", command.who[:WHO_MAX_CHARS]))
            self.ctx.append(LogFact(LogEntry.FAULTS_CLEARED, command.evse, details))
        return answer(Outcome.ACCEPTED if none_left else Outcome.REJECTED)

    # ---------------------------------------------------------------------------- after every event

    def _after(self) -> None:
        self._apply_availability()
        self._answer_unlocks()
        self._keep_promises()
        if self._reset is not None and not self.busy:
            self.ctx.emit(Restart("RemoteReset"))
            self._reset = None
        for evse_id, evse in self.evses.items():
            self._tell(evse_id, connector_state(evse, station_operative=self.available), evse.faults.active)
        station = ConnectorState.AVAILABLE if self.available else ConnectorState.UNAVAILABLE
        if not self.ctx.ledger_ok:
            station = ConnectorState.FAULTED
        self._tell(0, station, () if self.ctx.ledger_ok else (FaultCode.LEDGER,))

    def _tell(self, evse_id: int, state: ConnectorState, faults: tuple[FaultCode, ...]) -> None:
        if self._told.get(evse_id) != (state, faults):
            self._told[evse_id] = (state, faults)
            self.ctx.emit(StatusChanged(ConnectorStatus(evse_id, state, faults, self.ctx.wall_ms)))

    def _apply_availability(self) -> None:
        if self.pending_operative is not None and (self.pending_operative or not self.engaged):
            self.operative, self.pending_operative = self.pending_operative, None
            self.ctx.emit(SaveAvailability(None, self.operative))
        for evse_id, evse in self.evses.items():
            wish = evse.pending_operative
            if wish is not None and (wish or not evse.flow.engaged):
                evse.operative, evse.pending_operative = wish, None
                self.ctx.emit(SaveAvailability(evse_id, wish))
        for evse in self.evses.values():
            if not (self.available and evse.operative) and evse.flow.state is SessionState.WAITING:
                evse.flow.stop(Stop(Trigger.REMOTE_STOP, StopReason.REMOTE))

    def _answer_unlocks(self) -> None:
        for unlock in self._unlocks[:]:
            evse_id, command_id, by_ms = unlock
            evse = self.evses[evse_id]
            unlocked = evse.lock is not None and evse.lock.unlocked and not evse.flow.stop_is_pending
            if unlocked or self.ctx.at_ms >= by_ms:
                self._unlocks.remove(unlock)
                _Answerer(self.ctx, command_id)(Outcome.UNLOCKED if unlocked else Outcome.UNLOCK_FAILED)

    def _keep_promises(self) -> None:
        """A process that is killed must not have said what the next one does not know."""
        for answer, stopped in self._promises[:]:
            if not any(evse.flow.stop_is_pending for evse in stopped):
                self._promises.remove((answer, stopped))
                answer(Outcome.ACCEPTED)


class _Answerer:
    """Answers one command."""

    def __init__(self, ctx: Context, command_id: int) -> None:
        self._ctx = ctx
        self.command_id = command_id

    def __call__(self, outcome: Outcome, tx_id: str | None = None) -> None:
        self._ctx.emit(Answer(self.command_id, outcome, tx_id))
