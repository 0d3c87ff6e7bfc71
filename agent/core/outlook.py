"""What an EVSE looks like from outside: charging state, connector state, snapshot.

Charter: pure functions of an EVSE's machines; they change nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.contactor import ContactorState
from agent.core.facts import ChargingState
from agent.core.session import SessionState
from agent.core.status import ConnectorState, EvseView
from hal.ports import DUTY_X1, CpState

if TYPE_CHECKING:
    from agent.core.evse import Evse


def charging_state(evse: Evse) -> ChargingState:
    """OCPP 2.0.1 ChargingStateEnumType of a running transaction.

    Until the vehicle has drawn of an offer, or is late to do so, it does not count as suspending: most need a few
    seconds to get ready, and one that slept through our pause needs to be woken.
    """
    tx = evse.flow.tx
    if tx is None or evse.vehicle.connected is False:
        return ChargingState.IDLE
    if evse.limit.offered_ma == 0 and not evse.vehicle.settled:
        return tx.told_state  # it may be leaving
    if evse.limit.offered_ma == 0:
        untried = not tx.ever_closed and not evse.faults.active and not tx.energy_blocked
        waits_for_lock = evse.lock is not None and not evse.lock.locked
        return ChargingState.EV_CONNECTED if untried and waits_for_lock else ChargingState.SUSPENDED_EVSE
    if evse.contactor.state is ContactorState.CLOSED:
        # An autonomous board may hold its relay a moment longer than the vehicle asks.
        return ChargingState.CHARGING
    if evse.contactor_rests():
        # Our pause, whatever the vehicle wants meanwhile: nobody pays for it, and its toggling writes no rows.
        return ChargingState.SUSPENDED_EVSE
    if not evse.invitation.taken and not evse.vehicle_is_late():
        return ChargingState.SUSPENDED_EVSE if tx.ever_closed else ChargingState.EV_CONNECTED
    if evse.vehicle.stable is CpState.B:
        return ChargingState.SUSPENDED_EV
    return tx.told_state  # between two states: closing, or not yet debounced


_OF_CHARGING = {
    ChargingState.CHARGING: ConnectorState.CHARGING,
    ChargingState.EV_CONNECTED: ConnectorState.PREPARING,
    ChargingState.SUSPENDED_EV: ConnectorState.SUSPENDED_EV,
    ChargingState.SUSPENDED_EVSE: ConnectorState.SUSPENDED_EVSE,
    ChargingState.IDLE: ConnectorState.SUSPENDED_EV,
}
_OF_SESSION = {
    SessionState.IDLE: ConnectorState.AVAILABLE,
    SessionState.WAITING: ConnectorState.PREPARING,
    SessionState.PLUGGED: ConnectorState.PREPARING,
    SessionState.BEGIN_READING: ConnectorState.PREPARING,
    SessionState.BEGIN_WRITING: ConnectorState.PREPARING,
    SessionState.RELEASING: ConnectorState.FINISHING,
    SessionState.END_READING: ConnectorState.FINISHING,
    SessionState.END_WRITING: ConnectorState.FINISHING,
    SessionState.FINISHED: ConnectorState.FINISHING,
    SessionState.RECOVERING: ConnectorState.SUSPENDED_EVSE,
}


def connector_state(evse: Evse, *, station_operative: bool) -> ConnectorState:
    """OCPP 1.6 ChargePointStatus: a fault comes before all, then a transaction, then availability.

    A running transaction looks as its rows say, so that a vehicle that toggles floods no CSMS with statuses either.
    """
    if evse.faults.active:
        return ConnectorState.FAULTED
    if evse.flow.active and evse.flow.tx is not None:
        return _OF_CHARGING[evse.flow.tx.told_state]
    if not evse.flow.engaged and not (evse.operative and station_operative):
        return ConnectorState.UNAVAILABLE
    if evse.flow.state is SessionState.BEGIN_WRITING and evse.flow.tx is not None and evse.flow.tx.ever_closed:
        return ConnectorState.SUSPENDED_EVSE  # being resumed
    return _OF_SESSION[evse.flow.state]


def view(evse: Evse, *, station_operative: bool) -> EvseView:
    """A snapshot for people and machines that look on; stale readings are absent, not repeated."""
    tx, reading, fresh = evse.flow.tx, evse.reading, evse.fresh_reading()
    absent, told_duty = (None, None, None), evse.told_duty_centipercent()
    return EvseView(
        evse=evse.hardware.evse,
        state=connector_state(evse, station_operative=station_operative),
        faults=evse.faults.active,
        cp=evse.vehicle.raw.value if evse.vehicle.raw else None,
        charging_state=tx.told_state if tx else None,
        tx_id=tx.tx_id if tx else None,
        token=tx.token if tx else None,
        contactor_closed=evse.contactor.closed,
        locked=evse.lock.locked if evse.lock else None,
        limit_ma=evse.allowed_ma(),
        offered_ma=evse.limit.offered_ma,
        duty_centipercent=DUTY_X1 if told_duty is None else told_duty,
        power_mw=fresh.power_mw if fresh else None,
        energy_import_mwh=reading.energy_import_mwh if reading else None,
        session_energy_mwh=reading.energy_import_mwh - tx.begin_energy_mwh if tx and reading else None,
        voltage_mv=fresh.voltage_mv if fresh else absent,
        current_ma=fresh.current_ma if fresh else absent,
        operative=evse.operative and station_operative,
    )
