"""The session of one EVSE in motion: walks the ``SESSION`` table and writes the facts.

Charter: owns session state and transaction; knows neither pilot nor contactor, only what the EVSE
tells it of them (connected, opened, readings). ``session.py`` holds rules and table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.core.absence import Absence
from agent.core.context import Context
from agent.core.effects import ReadMeter, TransactionEnded
from agent.core.events import Recovered
from agent.core.facts import (
    ChargingState,
    Forerunner,
    LogEntry,
    LogFact,
    Sample,
    SampleContext,
    StopFact,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
)
from agent.core.sampling import SCARCE_CHECKPOINT_MS, to_sample
from agent.core.session import (
    IN_TRANSACTION,
    PAUSE_EVERY_MS,
    PAUSES_FREE,
    SESSION,
    SessionEvent,
    SessionState,
    Stop,
    Transaction,
)
from agent.core.settings import Timing
from agent.core.tx_rows import TxRows
from hal.ports import MeterReading

_S, _E = SessionState, SessionEvent
_LOG_OF = {"X": LogEntry.METER_EXCHANGED, "M": LogEntry.METER_BACKWARDS, "O": LogEntry.METER_IMPLAUSIBLE}


class Flow:
    """State and transaction of one EVSE's session."""

    def __init__(
        self,
        evse: int,
        timing: Timing,
        ctx: Context,
        can_have_risen: Callable[[int, int], bool] = lambda *_: True,
        *,
        autonomous: bool = False,
    ) -> None:
        """``can_have_risen``: so many mWh in so many milliseconds. ``autonomous``: the board charges whoever plugs in
        while no station runs."""
        self._evse = evse
        self._timing = timing
        self._ctx = ctx
        self._can_have_risen = can_have_risen
        self._autonomous = autonomous
        self._rows = TxRows(evse, ctx)
        self._absence = Absence()
        self.state = _S.IDLE
        self.tx: Transaction | None = None
        self.held_token: Token | None = None  # keeps the cable after a deauthorized stop (16-TX-09)
        self.deadline_ms: int | None = None
        self._authorization: tuple[Token, str | None, int | None, str, Forerunner | None] | None = None
        self._profile: dict[str, Any] | None = None  # that came with the authorization
        self.shown_at_ms: int | None = None  # when its card was held up here; None: it was not, as with a remote start
        self._begin_trigger = Trigger.AUTHORIZED
        self._reading_after_ms: int | None = None
        self._recovered: Recovered | None = None
        self._recovery_reading: MeterReading | None = None
        self._ticket: int | None = None
        self._rolled_over = False  # the register began anew: the last reading is the end reading
        self._before: str | None = None  # the transaction whose end is being written with the start of this one
        self.meter_state = "T"  # what is wrong with the meter, should the end reading be missing

    # ------------------------------------------------------------------------------- what happens

    def authorize(
        self,
        token: Token,
        group: str | None,
        remote_start_id: int | None,
        source: str = "",
        follows: Forerunner | None = None,
        profile: dict[str, Any] | None = None,
        *,
        shown: bool = False,
    ) -> None:
        if self.held_token is not None:
            self.held_token = None
        self._authorization = (token, group, remote_start_id, source, follows)
        self._profile = profile
        self.shown_at_ms = self._ctx.at_ms if shown else None
        self._begin_trigger = Trigger.AUTHORIZED if remote_start_id is None else Trigger.REMOTE_START
        self._feed(_E.AUTHORIZE)

    def stop(self, stop: Stop) -> None:
        """End the transaction, or drop an authorization that has not become one."""
        if self.tx is not None and (self.tx.stop is None or (stop.at_once and not self.tx.stop.at_once)):
            first = self.tx.stop or stop
            self.tx.stop = replace(first, at_once=stop.at_once)
        if self.tx is not None and self.tx.stop is not None and not stop.follow_up:
            self.tx.stop.follow_up = False  # whoever wants an end wants no other transaction after it
        if self.state is _S.RECOVERING:
            return  # it is decided there, once meter and pilot have spoken
        self._feed(_E.STOP)

    def save_stop(self) -> None:
        """Write down, once, that the transaction is to end. To be called when the outputs have been told: power goes
        first."""
        tx, stop = self.tx, None if self.tx is None else self.tx.stop
        if tx is None or stop is None or tx.stop_ticket is not None or self.state is _S.END_WRITING:
            return
        if self._before is not None:
            return  # a row of the transaction must not overtake its start, which may wait for the meter's record
        if not tx.stop_is_durable:
            tx.stop_ticket = self._ctx.append(StopFact(tx.tx_id, self._evse, stop.trigger, stop.reason, stop.token))

    @property
    def stop_is_pending(self) -> bool:
        """Whether there is a stop that a restart would forget."""
        return self.tx is not None and self.tx.stop is not None and not self.tx.stop_is_durable

    def roll_over(self) -> None:
        """The register began anew at 0: this transaction ends with its last reading, which is as good as any,
        and the session goes on in another transaction."""
        if self.in_transaction and self.state is not _S.RECOVERING:
            self._rolled_over = True
            if self.tx is not None and self.tx.stop is None:
                self.stop(replace(Stop.abnormal(None), follow_up=True))

    def follow(self, connected: bool | None) -> None:
        """The vehicle is (not) there; None: nobody knows, so nothing changes."""
        if connected and self.state in (_S.IDLE, _S.WAITING):
            if self.state is _S.WAITING:
                self._begin_trigger = Trigger.CABLE_PLUGGED_IN
            self._feed(_E.PLUG)
        elif connected is False:
            self._follow_unplugged()
            if self.tx is not None and self.tx.stop is not None:
                self.tx.vehicle_left = True
        if self.state is _S.ACTIVE and not self._ctx.behaviour.stop_on_unplug:
            self._absence.see(connected, self._ctx.at_ms)
            away_ms = self._absence.since_ms
            self.deadline_ms = None if away_ms is None else away_ms + self._ctx.behaviour.connect_timeout_ms

    def _follow_unplugged(self) -> None:
        if self.state in (_S.PLUGGED, _S.BEGIN_READING, _S.FINISHED):
            self.held_token = None
            self._feed(_E.UNPLUG)
        elif self.state in (_S.ACTIVE, _S.BEGIN_WRITING) and self._ctx.behaviour.stop_on_unplug:
            assert self.tx is not None
            if self.tx.stop is None:
                self.tx.stop = Stop(Trigger.EV_COMMUNICATION_LOST, StopReason.EV_DISCONNECTED, at_once=True)
            self._feed(_E.UNPLUG)
        elif self.state is _S.RECOVERING and self._ctx.behaviour.stop_on_unplug:
            assert self.tx is not None and self._recovered is not None
            if self.tx.stop is None:  # it ends with the reading that is waited for, whoever is there by then
                self.tx.stop = Stop.restarted(self._recovered.gap, vehicle_gone=True)

    def opened(self) -> None:
        """The contactor is known to be open."""
        if self.state is _S.RELEASING:
            self._feed(_E.OPENED)

    def durable(self, ticket: int) -> None:
        if self.tx is not None and ticket == self.tx.stop_ticket:
            self.tx.stop_is_durable = True
        if ticket == self._ticket:
            self._ticket = None
            self._feed(_E.DURABLE)

    def reading(self, reading: MeterReading, offered_ma: int) -> None:
        """A plausible reading came."""
        if self.state is _S.ACTIVE and self.tx is not None:
            self._rows.take(self.tx, reading, offered_ma)
        fresh = self._reading_after_ms is not None and reading.at_ms >= self._reading_after_ms
        if not fresh or self._contradicts(reading):
            return
        if self.state is _S.BEGIN_READING:
            self._begin(to_sample(reading, SampleContext.BEGIN, offered_ma))
        elif self.state is _S.END_READING:
            assert self.tx is not None and self.tx.stop is not None
            if self.tx.stop.follow_up and not self.tx.vehicle_left and self.tx.token is not None:
                self._go_on(self.tx, self.tx.token, to_sample(reading, SampleContext.BEGIN, 0))
                return
            if not self._rolled_over:
                self.tx.last = to_sample(reading, SampleContext.END, offered_ma)
            self._feed(_E.READING)
        elif self.state is _S.RECOVERING:
            self._recovery_reading = reading

    def _contradicts(self, reading: MeterReading) -> bool:
        """A register that is not the one this transaction counts on: never its end reading."""
        last = self.tx.last if self.tx is not None else None
        if last is None or self.state is not _S.END_READING or self._rolled_over:
            return False
        return reading.serial != last.meter_serial or reading.energy_import_mwh < last.energy_import_mwh

    def begin_with(self, reading: MeterReading) -> None:
        """This reading is as good as one taken now."""
        if self.state is _S.BEGIN_READING:
            self._begin(to_sample(reading, SampleContext.BEGIN, 0))

    def tick(self, connected: bool | None, is_open: bool) -> None:
        if self.state is _S.RECOVERING:
            self._try_recovery(connected, is_open)
        if self.deadline_ms is None or self._ctx.at_ms < self.deadline_ms:
            return
        self.deadline_ms = None
        if self.state is _S.WAITING:
            self._feed(_E.CONNECT_TIMEOUT)
        elif self.state in (_S.BEGIN_READING, _S.END_READING):
            self._feed(_E.NO_READING)
        elif self.state is _S.RELEASING:
            self._feed(_E.OPENED)  # welded or mute: the register is read all the same
        elif self.state is _S.ACTIVE and self.tx is not None:
            self.tx.vehicle_left = True  # nor may one that comes while it ends go on with it
            self.stop(Stop(Trigger.EV_CONNECT_TIMEOUT, StopReason.TIMEOUT, at_once=True))

    # ---------------------------------------------------------------------------------- the table

    def _feed(self, event: SessionEvent) -> None:
        before, self.state = self.state, SESSION.next(self.state, event)
        if self.state is not before or (self.state is _S.WAITING and event is _E.AUTHORIZE):
            self._enter(before, event)

    def _enter(self, before: SessionState, event: SessionEvent) -> None:
        now_ms, timing = self._ctx.at_ms, self._timing
        self.deadline_ms = self._reading_after_ms = None
        if self.state in (_S.IDLE, _S.PLUGGED):
            self._authorization = None
        elif self.state is _S.WAITING:
            self.deadline_ms = now_ms + self._ctx.behaviour.connect_timeout_ms
        elif self.state is _S.BEGIN_READING:
            self._want_reading(timing.begin_reading_ms)
        elif self.state is _S.ACTIVE:
            self._enter_active()
        elif self.state is _S.RELEASING:
            self.deadline_ms = now_ms + timing.end_release_ms
        elif self.state is _S.END_READING:
            self._want_reading(timing.end_reading_ms)
        elif self.state is _S.END_WRITING:
            self._end(substituted=event is _E.NO_READING)
        elif self.state is _S.FINISHED and before is _S.END_WRITING:
            self._finish()

    def _finish(self) -> None:
        tx = self.tx
        assert tx is not None and tx.stop is not None
        self._ctx.emit(TransactionEnded(self._evse, tx.tx_id))
        self.tx = self._authorization = None
        self.meter_state, self._rolled_over = "T", False
        if tx.vehicle_left:
            self.held_token = None
            self._feed(_E.UNPLUG)

    def _want_reading(self, within_ms: int) -> None:
        self._reading_after_ms = self._ctx.at_ms
        self.deadline_ms = self._ctx.at_ms + within_ms
        self._ctx.emit(ReadMeter(self._evse))

    # -------------------------------------------------------------------------------- begin to end

    def _begin(self, sample: Sample) -> None:
        self._ticket = self._ctx.append(self._start(sample))
        self._feed(_E.READING)

    def _start(self, sample: Sample) -> TransactionFact:
        assert self._authorization is not None
        token, group, remote_start_id, source, follows = self._authorization
        tx = Transaction(self._ctx.new_tx_id(), token, group, remote_start_id, authorized_by=source, follows=follows)
        tx.profile = self._profile
        tx.tariff = self._ctx.tariff_for(self._evse, token, group)
        tx.begin_energy_mwh = sample.energy_import_mwh
        self.tx, self._absence = tx, Absence()
        self._rows.begin(tx)
        return self._rows.fact(tx, TxKind.STARTED, self._begin_trigger, sample, token=token)

    def _go_on(self, tx: Transaction, token: Token, sample: Sample) -> None:
        """The register began anew: what follows is a transaction of its own in the same session. End and start are one
        commit: what is charged once in a session (a fee, the least cost) is then in the bills of both, whatever
        happens next."""
        assert tx.stop is not None and tx.last is not None
        last = replace(tx.last, context=SampleContext.END)
        end = self._rows.fact(tx, TxKind.ENDED, tx.stop.trigger, last, reason=tx.stop.reason)
        self._authorization = (token, tx.group, None, tx.authorized_by, Forerunner(tx.tx_id))
        self._profile, self._begin_trigger = None, Trigger.AUTHORIZED
        self._before, self._rolled_over = tx.tx_id, False
        self._ticket = self._ctx.append(end, self._start(sample))
        self._feed(_E.RESUME)

    def _enter_active(self) -> None:
        assert self.tx is not None
        if self._before is not None:
            self._ctx.emit(TransactionEnded(self._evse, self._before))
            self._before = None
        if self.tx.stop is not None:
            self._feed(_E.STOP)
        else:
            self._tell_refusal()

    def _end(self, *, substituted: bool) -> None:
        tx = self.tx
        assert tx is not None and tx.stop is not None and tx.last is not None
        sample = replace(tx.last, context=SampleContext.END)
        if substituted:
            if tx.last is not tx.durable:
                self._rows.checkpoint(tx)  # when it was read is worth keeping: the end reading only says what was read
            sample = replace(sample, at_ms=self._ctx.at_ms, substituted=True, meter_state=self.meter_state)
        if tx.stop.reason is StopReason.DE_AUTHORIZED and tx.token is not None and tx.token.id_token:
            self.held_token = tx.token  # an empty one nobody could present to get the cable back
        stop = tx.stop
        self._ticket = self._ctx.append(
            self._rows.fact(tx, TxKind.ENDED, stop.trigger, sample, token=stop.token, reason=stop.reason)
        )

    # ------------------------------------------------------------------------------- while it runs

    def triggered_sample(self, reading: MeterReading, offered_ma: int) -> None:
        """The CSMS asked for a reading inside a transaction."""
        assert self.tx is not None
        sample = to_sample(reading, SampleContext.TRIGGER, offered_ma)
        self._ctx.append(self._rows.fact(self.tx, TxKind.UPDATED, Trigger.TRIGGER, sample))

    def tell(self, state: ChargingState) -> None:
        """The charging state is now this; a change is a fact."""
        if self.state is _S.ACTIVE and self.tx is not None and state is not self.tx.told_state:
            if state is ChargingState.SUSPENDED_EV and not self._may_tell_pause(self.tx):
                return
            if self.tx.last is not self.tx.durable:
                self._rows.checkpoint(self.tx)  # charging and idling are priced apart: the register between them
            self.tx.told_state = state
            self._ctx.append(self._rows.fact(self.tx, TxKind.UPDATED, Trigger.CHARGING_STATE_CHANGED, None))

    def _may_tell_pause(self, tx: Transaction) -> bool:
        """A vehicle that toggles must not write a row a second (flash wear, a flood for the CSMS). After some pauses
        it counts as before (charging, or paused by us) until one is due again, so nobody pays for idling on account
        of it."""
        earned, now_ms = (self._ctx.at_ms - tx.pauses_since_ms) // PAUSE_EVERY_MS, self._ctx.at_ms
        if earned > 0:
            tx.pauses_left, tx.pauses_since_ms = min(PAUSES_FREE, tx.pauses_left + earned), now_ms
        if tx.pauses_left == 0:
            return False
        tx.pauses_left -= 1
        return True

    def block_energy(self) -> None:
        """The CSMS refused the token: no energy, but the transaction stays open."""
        if self.tx is not None:
            self.tx.energy_blocked = self.tx.refusal_unsaid = True
            self._tell_refusal()

    def _tell_refusal(self) -> None:
        """As soon as the transaction may have a row: a restart must not forget it."""
        if self.state is _S.ACTIVE and self.tx is not None and self.tx.refusal_unsaid:
            self.tx.refusal_unsaid = False
            self._ctx.append(self._rows.fact(self.tx, TxKind.UPDATED, Trigger.DEAUTHORIZED, None))

    # ------------------------------------------------------------------------------------ recovery

    def recover(self, found: Recovered) -> None:
        """An open transaction was found in the ledger (before any device has spoken)."""
        self._recovered = found
        tx = Transaction(found.tx_id, found.token, found.group, next_seq_no=found.next_seq_no)
        tx.begin_energy_mwh, tx.last = found.begin_energy_mwh, found.last
        tx.authorized_by, tx.energy_blocked, tx.follows = found.authorized_by, found.energy_blocked, found.follows
        if found.stop is not None:
            tx.stop = Stop(found.stop.trigger, found.stop.reason, found.stop.token)
            tx.stop_is_durable = True
        # We took its power away; a vehicle that had begun is not "getting ready" a second time.
        tx.told_state, tx.ever_closed = ChargingState.SUSPENDED_EVSE, True
        self.tx, self.state, self._rows.blind = tx, _S.RECOVERING, True
        self.deadline_ms = self._ctx.at_ms + self._timing.recover_ms

    def _try_recovery(self, connected: bool | None, is_open: bool) -> None:
        """Wait for: contactor open, then a register reading, and the pilot's word on the vehicle."""
        tx, found = self.tx, self._recovered
        assert tx is not None and tx.last is not None and found is not None
        if is_open and self._reading_after_ms is None:
            self._reading_after_ms = self._ctx.at_ms
            self._ctx.emit(ReadMeter(self._evse))
        timed_out = self.deadline_ms is not None and self._ctx.at_ms >= self.deadline_ms
        reading = self._recovery_reading
        if not timed_out and (reading is None or connected is None):
            return
        in_window = found.gap_ms is not None and found.gap_ms <= self._ctx.behaviour.resume_window_ms
        state = self._state_after(found, reading, in_window=in_window)
        good = state == "G"
        if good and connected and in_window and tx.stop is None:
            assert reading is not None
            sample = to_sample(reading, SampleContext.INTERRUPTION_END, 0)
            self._ticket = self._ctx.append(self._rows.fact(tx, TxKind.UPDATED, Trigger.CHARGING_STATE_CHANGED, sample))
            self._rows.count_from_now(tx)
            self._feed(_E.RESUME)
            return
        if tx.stop is None:
            tx.stop = Stop.restarted(found.gap, vehicle_gone=connected is False)
            # Where charging is free nobody can show a card to go on: the vehicle counts as newly plugged in.
            tx.vehicle_left = tx.token is not None and not tx.token.id_token
        if good:
            assert reading is not None
            tx.last = to_sample(reading, SampleContext.END, 0)
        else:
            if reading is not None and state in _LOG_OF:
                before, after = str(found.last.energy_import_mwh), str(reading.energy_import_mwh)
                details = (("serial", reading.serial), ("before_mwh", before), ("after_mwh", after))
                self._ctx.append(LogFact(_LOG_OF[state], self._evse, details))
            tx.last = replace(tx.last, at_ms=self._ctx.at_ms, substituted=True, meter_state=state)
        self._feed(_E.CLOSE)

    def _state_after(self, found: Recovered, reading: MeterReading | None, *, in_window: bool) -> str:
        """The meter's state (OCMF ST) as seen after a restart. Energy may have flowed since the newest row, and
        for as long as nobody looked. Where that is longer than a transaction outlives, what an autonomous board gave
        away is anybody's, and a register that rose meanwhile as good as none."""
        if reading is None:
            return "T"
        if reading.serial != found.last.meter_serial:
            return "X"
        risen_mwh = reading.energy_import_mwh - found.last.energy_import_mwh
        if risen_mwh < 0:
            return "M"
        if self._autonomous and not in_window and risen_mwh:
            return "T"
        checkpoint_ms = self._ctx.behaviour.checkpoint_ms
        if found.gap_ms is None:  # then all that is known is how old the newest row may have been
            unseen_ms = max(checkpoint_ms, SCARCE_CHECKPOINT_MS) + self._timing.recover_ms
        else:
            unseen_ms = found.gap_ms + checkpoint_ms + self._timing.recover_ms
        return "G" if self._can_have_risen(risen_mwh, unseen_ms) else "O"

    @property
    def in_transaction(self) -> bool:
        return self.state in IN_TRANSACTION

    @property
    def engaged(self) -> bool:
        """In a transaction, or about to begin one."""
        return self.in_transaction or self.state is _S.BEGIN_READING

    @property
    def waiting_token(self) -> Token | None:
        """Whose authorization waits for a vehicle."""
        return self._authorization[0] if self.state is _S.WAITING and self._authorization is not None else None

    @property
    def active(self) -> bool:
        return self.state is _S.ACTIVE
