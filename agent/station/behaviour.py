"""Device-model settings as the core's behaviour, and facts about the station as model values.

Charter: the one place where names of variables meet names of the core. Pure.
"""

from __future__ import annotations

from agent.config.catalogue import key
from agent.config.device_model import DeviceModel
from agent.config.model import Config
from agent.config.variable import Key
from agent.core.settings import Behaviour
from agent.core.status import ConnectorState, EvseView

_AVAILABILITY_STATE = {
    ConnectorState.AVAILABLE: "Available",
    ConnectorState.RESERVED: "Reserved",
    ConnectorState.UNAVAILABLE: "Unavailable",
    ConnectorState.FAULTED: "Faulted",
}


def behaviour_of(model: DeviceModel, config: Config) -> Behaviour:
    """What the settings in force ask of the core."""

    def seconds(name: str) -> int:
        return model.integer(key(name)) * 1_000

    return Behaviour(
        connect_timeout_ms=seconds("TxCtrlr.EVConnectionTimeOut"),
        stop_on_unplug=model.boolean(key("TxCtrlr.StopTxOnEVSideDisconnect")),
        sample_interval_ms=seconds("SampledDataCtrlr.TxUpdatedInterval"),
        aligned_interval_ms=seconds("AlignedDataCtrlr.Interval"),
        offline_limit_ma=config.limits.offline_current_ma,
        resume_window_ms=config.session.resume_window_s * 1_000,
    )


def availability_state(state: ConnectorState) -> str:
    """OCPP 2.0.1 ConnectorStatusEnumType: everything between plug and departure is Occupied."""
    return _AVAILABILITY_STATE.get(state, "Occupied")


def provide_live_values(model: DeviceModel, views: list[EvseView], *, operative: bool, date_time: str) -> None:
    """Bring the computed variables up to date."""
    model.put(key("ClockCtrlr.DateTime"), date_time)
    station = ConnectorState.AVAILABLE if operative else ConnectorState.UNAVAILABLE
    model.put(key("ChargingStation.AvailabilityState"), availability_state(station))
    model.put(key("ChargingStation.Problem"), _text(any(view.faults for view in views)))
    for view in views:
        state, problem = availability_state(view.state), _text(bool(view.faults))
        for component, connector in (("EVSE", None), ("Connector", 1)):
            model.put(Key(component, "AvailabilityState", evse=view.evse, connector=connector), state)
            model.put(Key(component, "Problem", evse=view.evse, connector=connector), problem)
        watts = max(0, view.power_mw or 0) // 1_000
        ceiling = model.spec(Key("EVSE", "Power", evse=view.evse)).maximum
        model.put(Key("EVSE", "Power", evse=view.evse), str(min(watts, int(ceiling or watts))))


def _text(value: bool) -> str:
    return "true" if value else "false"
