"""One EVSE: all its machines together. Only all of them may close; any one may open.

Charter: routes device events to the machines, lets them settle, and computes the outputs from their
states. Power needs every one of: an active transaction with durable start row, no fault, a vehicle
that is connected and ready, a lock in place, a known and sound contactor, a limit of at least the
minimum current, a working ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.core.contactor import Contactor, ContactorEvent, ContactorState
from agent.core.context import Context
from agent.core.dc_output import DcOutput
from agent.core.effects import ResetBoard, SaveFaults, SetLock
from agent.core.facts import MeterFact, SampleContext, Token
from agent.core.faults import FROM_BOARD, Faults
from agent.core.flow import Flow
from agent.core.iec61851 import duty_for
from agent.core.invitation import Invitation
from agent.core.limit import Limit
from agent.core.lock import ConnectorLock, LockState
from agent.core.of_late import Lasting
from agent.core.outlook import charging_state
from agent.core.outputs import Wanted, autonomous_effects, subordinate_effects
from agent.core.register import ENDS, Register
from agent.core.sampling import AlignedClock, to_sample
from agent.core.session import HOLDS_CABLE, STARTABLE, SessionState, Stop
from agent.core.settings import DcBench, EvseHardware, Timing
from agent.core.status import FaultCode
from agent.core.vehicle import DRAWING, Vehicle
from hal.ports import (
    DUTY_DIGITAL,
    Back,
    BoardFaults,
    Cable,
    CpState,
    Lock,
    LossKind,
    Lost,
    MeterEvent,
    MeterReading,
    ModuleFaults,
    PilotCapabilities,
    PilotEvent,
    PilotState,
    PowerEvent,
    PowerOutput,
)
from hal.ports import Contactor as ContactorSeen

_C = ContactorEvent


class Evse:
    """One EVSE with one connector."""

    def __init__(
        self,
        hardware: EvseHardware,
        timing: Timing,
        ctx: Context,
        *,
        operative: bool,
        lasting_faults: Sequence[FaultCode] = (),
    ) -> None:
        self.hardware = hardware
        self.operative = operative
        self.pending_operative: bool | None = None
        self._timing = timing
        self._ctx = ctx
        self.vehicle = Vehicle(timing.pilot_debounce_ms)
        self.contactor = Contactor(
            timing,
            has_feedback=hardware.has_contactor_feedback,
            autonomous=hardware.autonomous,
            welded=FaultCode.CONTACTOR_WELDED in lasting_faults,
        )
        self.lock = ConnectorLock(timing) if hardware.has_lock else None
        self.faults = Faults(timing.fault_clear_ms, lasting_faults)
        self._saved_faults = self.faults.lasting
        self.limit = Limit(hardware, timing)
        self.invitation = Invitation(timing)
        self.register = Register(hardware, ctx, timing.register_behind_ms)
        self.flow = Flow(hardware.evse, timing, ctx, self.register.can_have_risen, autonomous=hardware.autonomous)
        self.reading: MeterReading | None = None
        self.sample_wanted = False
        self.force_unlock = False
        self._aligned = AlignedClock()
        self._dc = DcOutput(timing, hardware.dc_bench)
        self._over, self._leak = Lasting(), Lasting()
        self._told: Wanted | None = None

    # ------------------------------------------------------------------------------ device events

    def on_pilot(self, event: PilotEvent) -> None:
        now_ms = self._ctx.at_ms
        if isinstance(event, PilotState):
            self.vehicle.observe(event.cp, now_ms)
        elif isinstance(event, ContactorSeen):
            self.contactor.feed(_C.SEEN_CLOSED if event.closed else _C.SEEN_OPEN, now_ms)
        elif isinstance(event, Cable):
            self.limit.cable_ma = event.rating_ma
        elif isinstance(event, Lock):
            if self.lock is not None:
                self.lock.observe(event.position, now_ms)
        elif isinstance(event, BoardFaults):
            present = {FROM_BOARD[fault] for fault in event.faults}
            for code in FROM_BOARD.values():
                self.faults.set(code, "board", code in present, now_ms)
        elif isinstance(event, PilotCapabilities):
            if not self.hardware.dc:
                self.limit.board_ma = event.max_current_ma
        elif isinstance(event, Back):
            self._told = None
            self.contactor.board_back(now_ms)
            self.faults.set(FaultCode.PILOT_LOST, "pilot", False, now_ms)
        else:
            self.vehicle.lose()
            self.contactor.feed(_C.LOST, now_ms)
            if self.lock is not None:
                self.lock.lose()
            for code in FROM_BOARD.values():
                self.faults.set(code, "board", False, now_ms)
            self.faults.set(FaultCode.PILOT_LOST, "pilot", True, now_ms)

    def on_meter(self, event: MeterEvent) -> None:
        now_ms = self._ctx.at_ms
        if isinstance(event, MeterReading):
            self._on_reading(event)
        elif isinstance(event, Back):
            self.faults.set(FaultCode.METER_LOST, "meter", False, now_ms)
        else:
            implausible = event.kind is LossKind.GARBAGE
            code = FaultCode.METER_IMPLAUSIBLE if implausible else FaultCode.METER_LOST
            if not self.faults.has(code):
                self.register.lost(implausible=implausible, detail=event.detail)
            self.flow.meter_state = "O" if implausible else "T"
            self.faults.set(code, "meter", True, now_ms)

    def on_power(self, event: PowerEvent) -> None:
        now_ms = self._ctx.at_ms
        if isinstance(event, PowerOutput):
            self._dc.hear(event)
            self._check_current(event.current_ma, self._dc.may_give_ma(now_ms), self._timing.over_output_margin_ma)
            if self._dc.is_too_high(now_ms):  # stays until the vehicle is gone: without power it is not seen
                self.faults.set(FaultCode.POWER_MODULE, "output", True, now_ms)
        elif isinstance(event, ModuleFaults):
            self.faults.set(FaultCode.POWER_MODULE, "module", bool(event.faults), now_ms)
        elif isinstance(event, Lost):
            self._dc.hear(None)
            self.faults.set(FaultCode.POWER_MODULE_LOST, "module", True, now_ms)
        elif isinstance(event, Back):
            self.faults.set(FaultCode.POWER_MODULE_LOST, "module", False, now_ms)

    def _on_reading(self, reading: MeterReading) -> None:
        now_ms = self._ctx.at_ms
        self._check_currents(reading)  # whatever its register says
        if not self.register.is_known(reading, self.reading):
            return
        tx, state = self.flow.tx, self.flow.state
        free = state in (SessionState.RECOVERING, SessionState.BEGIN_READING)
        rolled_over = self.register.judge(
            reading,
            self.reading,
            tx.last if tx is not None and not free else None,
            bounded=state is not SessionState.BEGIN_WRITING,
            told=self.faults.has(FaultCode.METER_IMPLAUSIBLE),
        )
        if rolled_over:
            self.flow.roll_over()
        self.faults.set(FaultCode.METER_IMPLAUSIBLE, "meter", self.register.wrong is not None, now_ms)
        if self.register.wrong is not None:
            # Nothing impossible is billed: the session ends, or waits, at the last good value.
            self.flow.meter_state = self.register.wrong
            return
        self.flow.meter_state = "T"
        self.faults.set(FaultCode.METER_LOST, "meter", False, now_ms)
        self.reading = reading
        offered_ma = self.limit.offered_ma
        if state is not SessionState.BEGIN_READING or not self.register.behind:
            self.flow.reading(reading, offered_ma)
        if self.sample_wanted and self.flow.active and not self._ctx.ledger_scarce:  # else told without a row
            self.sample_wanted = False
            self.flow.triggered_sample(reading, offered_ma)
        behaviour, trusted = self._ctx.behaviour, self._ctx.time_status != "U"
        due = self._aligned.due(self._ctx.wall_ms, behaviour.aligned_interval_ms, trusted)
        if due and not self.flow.in_transaction and not self._ctx.ledger_scarce:
            sample = to_sample(reading, SampleContext.CLOCK, offered_ma)
            self._ctx.append(MeterFact(self.hardware.evse, sample))

    def _check_currents(self, reading: MeterReading) -> None:
        """DC: a meter may be on the modules' own supply, so the current of the output is what the modules say it is."""
        if not self.hardware.dc:
            current_ma = max((abs(c) for c in reading.current_ma if c is not None), default=0)
            may_draw_ma = self.limit.may_draw_ma(self._ctx.at_ms)
            self._check_current(current_ma, may_draw_ma, self._timing.over_current_margin_ma)

    def _check_current(self, current_ma: int, may_be_ma: int, margin_ma: int) -> None:
        """Soft over-current of what may flow by now, and current that no closed contactor explains, either way."""
        now_ms, timing = self._ctx.at_ms, self._timing
        bound_ma = (may_be_ma + margin_ma) * timing.over_current_factor_percent // 100
        over = self.limit.offered_ma > 0 and current_ma > bound_ma
        too_long = self._over.lasts_ms(over, now_ms) >= timing.over_current_ms
        self.faults.set(FaultCode.OVER_CURRENT, "meter", too_long, now_ms)
        leaking = self.contactor.state is ContactorState.OPEN and current_ma > timing.weld_current_ma
        if self._leak.lasts_ms(leaking, now_ms) >= timing.weld_current_ms:
            self.contactor.feed(_C.WELD_SEEN, now_ms)

    # -------------------------------------------------------------------------------- other events

    def demand(self, voltage_mv: int, current_ma: int) -> None:
        """What the vehicle asks of a DC output."""
        self._dc.demand = DcBench(voltage_mv, current_ma)

    def clear_faults(self) -> bool:
        """An authorized person clears latched faults. True when none is left."""
        if self.contactor.state in (ContactorState.WELDED, ContactorState.STUCK):
            self.contactor.feed(_C.CLEAR, self._ctx.at_ms)
            for code in (FaultCode.CONTACTOR_WELDED, FaultCode.CONTACTOR_OPEN):
                self.faults.set(code, "contactor", False, self._ctx.at_ms)
        if self.faults.active:  # else power may be on, and a board that is reset drops it
            self._ctx.emit(ResetBoard(self.hardware.evse))
        return self.faults.acknowledge()

    # ------------------------------------------------------------------------------------ settling

    def settle(self, *, devices_heard: bool) -> None:
        """Let time and all machines have their say, then tell the outputs what follows.

        ``devices_heard``: nothing that a device has said waits behind this event, so its deadlines may pass."""
        now_ms = self._ctx.at_ms
        self.vehicle.settle(now_ms, devices_heard=devices_heard, sends_f=self.invitation.shows_f(now_ms))
        if devices_heard:
            self.contactor.tick(now_ms)
            if self.lock is not None:
                self.lock.tick(now_ms)
        self._derive_faults()
        self.faults.tick(now_ms, vehicle_gone=self.vehicle.connected is False)
        before = None
        while before is not self.flow.state:  # each turn walks the session at least one state on
            before = self.flow.state
            self._drive_session()
            self._drive_contactor()
        self._drive_wake_up()
        self._drive_lock()
        self._tell()
        self.flow.save_stop()
        self._save_faults()
        self._note_progress()
        self.flow.tell(charging_state(self))

    def _save_faults(self) -> None:
        if self._saved_faults != self.faults.lasting:
            self._saved_faults = self.faults.lasting
            self._ctx.emit(SaveFaults(self.hardware.evse, self._saved_faults))

    def _note_progress(self) -> None:
        tx, state = self.flow.tx, self.contactor.state
        if self.limit.offered_ma > 0:
            self.invitation.stand(self._ctx.at_ms, drawing=state is ContactorState.CLOSED)
            if tx is not None:
                tx.ever_closed = tx.ever_closed or state is ContactorState.CLOSED
        elif not self.flow.active or (self.vehicle.settled and state is not ContactorState.OPENING):
            # Else the vehicle went by itself, and is offered current again when the contactor has opened.
            self.invitation.withdraw()

    def _derive_faults(self) -> None:
        now_ms, state, raw = self._ctx.at_ms, self.contactor.state, self.vehicle.raw
        self.faults.set(FaultCode.CONTACTOR_WELDED, "contactor", state is ContactorState.WELDED, now_ms)
        self.faults.set(FaultCode.CONTACTOR_OPEN, "contactor", state is ContactorState.STUCK, now_ms)
        if state is ContactorState.STUCK and self.vehicle.connected is False:
            self.contactor.feed(_C.CLEAR, now_ms)
        jammed = self.lock is not None and self.lock.state is LockState.JAMMED
        self.faults.set(FaultCode.LOCK, "lock", jammed, now_ms)
        self.faults.set(FaultCode.PILOT_SHORT, "pilot", raw is CpState.E, now_ms)
        no_air = raw is CpState.D and not self.hardware.ventilation
        self.faults.set(FaultCode.NO_VENTILATION, "pilot", no_air, now_ms)
        self.faults.set(FaultCode.LEDGER, "ledger", not self._ctx.ledger_ok, now_ms)
        if self.vehicle.connected is False:
            self.faults.set(FaultCode.OVER_CURRENT, "meter", False, now_ms)
            self.faults.set(FaultCode.POWER_MODULE, "output", False, now_ms)
            self.contactor.rested()

    def _drive_session(self) -> None:
        reason = self.faults.ends
        if reason is not None and self.flow.active:
            self.flow.stop(Stop.abnormal(reason))
        if self.register.wrong in ENDS and self.flow.active:
            self.flow.stop(Stop.abnormal(None))
        self.flow.follow(self.vehicle.connected)
        self._doubt_vehicle()
        self._begin_without_waiting()
        is_open = self.contactor.known_open
        if is_open:
            self.flow.opened()
        self.flow.tick(self.vehicle.connected, is_open or self.contactor.state is ContactorState.WELDED)

    def _doubt_vehicle(self) -> None:
        """Out of sight for too long: whoever is there now is another one, and must not charge on this transaction."""
        tx, doubt_at_ms = self.flow.tx, self._doubt_at_ms()
        if tx is None or doubt_at_ms is None or self._ctx.at_ms < doubt_at_ms:
            return
        if tx.stop is None and self.flow.state is not SessionState.RECOVERING:  # which minds the vehicle by itself
            self.flow.stop(Stop.abnormal(None))
            tx.vehicle_left = True

    def _begin_without_waiting(self) -> None:
        """A register cannot have moved while the contactor was open: a fresh reading taken since then
        is the begin reading, and the driver need not wait for the meter's slow line."""
        reading = self.fresh_reading()
        is_open = self.contactor.state is ContactorState.OPEN
        if reading is not None and is_open and reading.at_ms >= self.contactor.since_ms and not self.register.behind:
            self.flow.begin_with(reading)

    def _drive_contactor(self) -> None:
        now_ms = self._ctx.at_ms
        offered_ma = self.limit.offer(self.allowed_ma() if self._may_offer() else 0, now_ms)
        drawing = self.vehicle.raw in DRAWING
        if offered_ma > 0 and (self.hardware.autonomous or self.vehicle.wants_power(self.hardware.ventilation)):
            if not self.contactor.rests(now_ms):
                self.contactor.feed(_C.GRANT, now_ms)
        elif self._must_open_now() or not drawing:
            self.contactor.feed(_C.WITHDRAW, now_ms)
        else:
            self.contactor.feed(_C.RELEASE, now_ms)
            if self.hardware.dc and self._dc.quiet:
                self.contactor.feed(_C.VEHICLE_IDLE, now_ms)

    def _may_offer(self) -> bool:
        tx = self.flow.tx
        return (
            self.flow.active
            and tx is not None
            and not tx.energy_blocked
            and self._ctx.ledger_ok
            and not self.faults.active
            and self.vehicle.connected is True
            and self.vehicle.raw not in (None, CpState.A, CpState.E)
            and (self.vehicle.raw is not CpState.F or self.invitation.shows_f(self._ctx.at_ms))
            and (self.lock is None or self.lock.locked)
            and self.contactor.state
            not in (ContactorState.UNKNOWN, ContactorState.WELDED, ContactorState.STUCK, ContactorState.OPENING)
        )

    def _must_open_now(self) -> bool:
        tx = self.flow.tx
        at_once = tx is not None and tx.stop is not None and tx.stop.at_once
        # Without a running transaction nothing justifies the seconds of a gentle release.
        orderly = self.flow.active or self.flow.state is SessionState.RELEASING
        loose = self.lock is not None and not self.lock.locked  # the plug may be pulled under load
        return bool(self.faults.active) or at_once or not orderly or loose or not self._ctx.ledger_ok

    def _drive_wake_up(self) -> None:
        now_ms, offered_ma, vehicle = self._ctx.at_ms, self.limit.offered_ma, self.vehicle
        self.invitation.disturb(offered_ma, now_ms, asks=vehicle.raw in DRAWING)
        sleeps = vehicle.raw is CpState.B and vehicle.stable is CpState.B
        is_open = self.contactor.state is ContactorState.OPEN and not self.contactor_rests()
        if offered_ma > 0 and sleeps and is_open and not self.hardware.autonomous and not self.hardware.dc:
            self.invitation.wake(offered_ma, now_ms)

    def _drive_lock(self) -> None:
        if self.lock is None:
            return
        holds = self.flow.state in HOLDS_CABLE or self.flow.held_token is not None
        shorted = self.vehicle.raw is CpState.E
        live = self.contactor.closed or self.contactor.powered
        self.lock.want(live or (holds and not self.force_unlock and not shorted), self._ctx.at_ms)
        command = self.lock.take_command()
        if command is not None:
            self._ctx.emit(SetLock(self.hardware.evse, command))
        if self.flow.state in (SessionState.IDLE, SessionState.WAITING):  # whoever plugs in next wants to charge
            self.force_unlock = False

    def _tell(self) -> None:
        if self.vehicle.raw is None and self._told is None:
            return  # not yet there: it is told everything once it has spoken
        wanted = self._wanted()
        if wanted == self._told:
            return
        if self.hardware.autonomous:
            effects = autonomous_effects(self.hardware.evse, self._told, wanted)
        else:
            effects = subordinate_effects(self.hardware.evse, self._told, wanted, dc=self.hardware.dc)
        for effect in effects:
            self._ctx.emit(effect)
        self._told = wanted
        self._dc.ordered(wanted.output_mv, wanted.output_ma, self._ctx.at_ms)

    def _wanted(self) -> Wanted:
        offered_ma, powered = self.limit.offered_ma, self.contactor.powered
        duty = duty_for(offered_ma)
        wake_up_duty = self.invitation.duty(self._ctx.at_ms)
        if wake_up_duty is not None:
            duty = wake_up_duty
        elif self.hardware.dc and offered_ma > 0:
            duty = DUTY_DIGITAL
        closed = self.contactor.state is ContactorState.CLOSED
        order = self._dc.order(offered_ma if self.hardware.dc and closed else 0)
        output_mv, output_ma = order or (0, 0)
        return Wanted(
            duty_centipercent=duty,
            power=powered,
            offer_ma=offered_ma if powered else 0,
            disable=self.contactor.state in (ContactorState.OPENING, ContactorState.WELDED, ContactorState.STUCK),
            output_on=order is not None,
            output_mv=output_mv,
            output_ma=output_ma,
        )

    # ------------------------------------------------------------------------------------- outlook

    def allowed_ma(self) -> int:
        return self.limit.allowed_ma(self._ctx.behaviour, self._ctx.online)

    def told_duty_centipercent(self) -> int | None:
        return self._told.duty_centipercent if self._told else None

    def fresh_reading(self) -> MeterReading | None:
        """The last reading, if it is recent enough to be called current."""
        if self.reading is None or self._ctx.at_ms - self.reading.at_ms > self._timing.reading_fresh_ms:
            return None
        return self.reading

    def contactor_rests(self) -> bool:
        return self.contactor.rests(self._ctx.at_ms)

    def vehicle_is_late(self) -> bool:
        return self.invitation.is_late(self._ctx.at_ms)

    def startable(self) -> bool:
        """Whether a token or a remote start could begin a transaction now (availability apart)."""
        return self.flow.state in STARTABLE and not self.faults.active and self._ctx.ledger_ok

    def authorize(
        self,
        token: Token,
        group: str | None,
        remote_start_id: int | None,
        source: str,
        profile: dict[str, Any] | None = None,
        *,
        shown: bool = False,
    ) -> None:
        self.force_unlock = False
        self.flow.authorize(token, group, remote_start_id, source, profile=profile, shown=shown)

    def deadlines(self) -> list[int]:
        """Every instant at which time alone will change something."""
        now_ms = self._ctx.at_ms
        of_devices = (
            self.vehicle.deadline_ms,
            self.contactor.look_ms,
            self.lock.deadline_ms if self.lock is not None else None,
        )
        due_ms = [max(at_ms, now_ms + 1) for at_ms in of_devices if at_ms is not None]
        candidates = (
            self.contactor.rests_until_ms,
            self.faults.deadline_ms,
            self.flow.deadline_ms,
            self.limit.deadline_ms,
            *self.invitation.deadlines,
            self._doubt_at_ms(),
        )
        return due_ms + [at_ms for at_ms in candidates if at_ms is not None and at_ms > now_ms]

    def _doubt_at_ms(self) -> int | None:
        """From when on. Where no transaction outlives a restart, a damaged frame is still no reason to end one."""
        since_ms = self.vehicle.unseen_since_ms
        if since_ms is None:
            return None
        return since_ms + max(self._ctx.behaviour.resume_window_ms, self._timing.recover_ms)
