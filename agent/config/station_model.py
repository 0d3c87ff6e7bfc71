"""The device model of one station: the catalogue, plus what follows from how the station is built.

Charter: from ``Config`` to specs and to a ``DeviceModel``. Components ChargingStation, EVSE and
Connector (one per EVSE); defaults of variables that restate the configuration; the factory defaults
of the ``[settings]`` table. Live values (availability, time, power, counts) come from providers; until
one is given their default stands.

Source: checklist 2.4. Units as reported: W.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.config.catalogue import CONTROLLERS, PASSWORD, boolean, fixed_integer, key, option, text
from agent.config.device_model import DeviceModel, Provider, with_defaults
from agent.config.model import CableKind, Config, EvseConfig, KeyEncoding, UploadScheme
from agent.config.monitoring_catalogue import problem_specs
from agent.config.networks import SECURITY_PROFILE, profile_specs
from agent.config.variable import DataType, Key, Mutability, VariableSpec
from hal.boards import BoardKind

_R = Mutability.READ_ONLY
_AVAILABILITY = ("Available", "Occupied", "Reserved", "Unavailable", "Faulted")


def build_device_model(
    config: Config, providers: Mapping[Key, Provider] | None = None, stored: Mapping[str, str] | None = None
) -> DeviceModel:
    """The store of this station; ``stored`` is what ``DeviceModel.persistent`` gave before the restart."""
    return DeviceModel(build_specs(config), stored, providers)


def build_specs(config: Config) -> dict[Key, VariableSpec]:
    """All variables of this station. Raises ``BadValue`` for a bad line of the ``[settings]`` table,
    which a loaded configuration does not have."""
    return with_defaults(bare_specs(config), config.settings)


def bare_specs(config: Config) -> dict[Key, VariableSpec]:
    """All variables with the product's own factory defaults."""
    specs = dict(CONTROLLERS)
    profile = 0 if config.csms is None else config.csms.security_profile
    _restate(specs, "SecurityCtrlr.Identity", config.station.identity)
    _restate(specs, "SecurityCtrlr.OrganizationName", config.station.vendor)
    _restate(specs, str(SECURITY_PROFILE), str(profile))
    _restate(specs, "OCPPCommCtrlr.FileTransferProtocols", _file_transfer_protocols(config))
    if config.csms is not None and config.csms.authorization_key_encoding is KeyEncoding.HEX:
        specs[PASSWORD] = replace(specs[PASSWORD], hexadecimal=True)
    detachable = any(each.cable is CableKind.SOCKET for each in config.evse)
    # A socket gives the cable back when the session has ended, whatever ended it; a fixed cable stays.
    unlock = replace(boolean(detachable, _R), persistent=False)  # what older software let a CSMS write is of no account
    specs[key("OCPPCommCtrlr.UnlockOnEVSideDisconnect")] = unlock
    specs |= profile_specs(config.csms) | _charging_station(config)
    for evse in config.evse:
        specs |= _evse(evse)
    # What the station has already (Connector.Problem) is the same variable.
    return specs | {each: spec for each, spec in problem_specs(modules_of(config)).items() if each not in specs}


def modules_of(config: Config) -> dict[int, bool]:
    """Which EVSEs have power modules."""
    return {evse.id: evse.power is not None for evse in config.evse}


def _file_transfer_protocols(config: Config) -> str:
    """Of uploads and of updates: OCPP has one list for both directions."""
    downloads = () if config.update is None else config.update.schemes
    taken = {scheme.value for scheme in (*config.log.upload_schemes, *downloads)}
    return ",".join(scheme.value.upper() for scheme in UploadScheme if scheme.value in taken)


def _restate(specs: dict[Key, VariableSpec], name: str, default: str) -> None:
    specs[key(name)] = replace(specs[key(name)], default=default)


def _availability() -> VariableSpec:
    return replace(option("Unavailable", _AVAILABILITY), persistent=False)


def _charging_station(config: Config) -> dict[Key, VariableSpec]:
    supply_phases = max(each.phases for each in config.evse)
    return {
        key("ChargingStation.AvailabilityState"): _availability(),
        key("ChargingStation.Available"): boolean(True, _R),
        key("ChargingStation.SupplyPhases"): fixed_integer(supply_phases),
        key("ChargingStation.Model"): text(config.station.model, 20, _R),
        key("ChargingStation.VendorName"): text(config.station.vendor, 20, _R),
        key("ChargingStation.SerialNumber"): text(config.station.serial, 25, _R),
        key("ChargingStation.Problem"): replace(boolean(False, _R), persistent=False),
        key("ChargingStation.AllowNewSessionsPendingFirmwareUpdate"): boolean(False, Mutability.READ_WRITE),
    }


def _evse(evse: EvseConfig) -> dict[Key, VariableSpec]:
    # A DC output has no phases; its rectifiers' supply is the board's business.
    phases = 0 if evse.board.kind is BoardKind.DC else evse.phases
    power = VariableSpec(
        type=DataType.DECIMAL, default="0", minimum=0, maximum=evse.max_power_w, unit="W", persistent=False
    )
    parts: dict[str, VariableSpec] = {
        "AvailabilityState": _availability(),
        "Available": boolean(True, _R),
        "SupplyPhases": fixed_integer(phases),
    }
    connector_type = option(evse.connector_type.value, (evse.connector_type.value,))
    return {
        **{Key("EVSE", name, evse=evse.id): spec for name, spec in parts.items()},
        Key("EVSE", "Power", evse=evse.id): power,
        Key("EVSE", "AllowReset", evse=evse.id): boolean(False, _R),
        Key("EVSE", "Problem", evse=evse.id): replace(boolean(False, _R), persistent=False),
        **{Key("Connector", name, evse=evse.id, connector=1): spec for name, spec in parts.items()},
        Key("Connector", "ConnectorType", evse=evse.id, connector=1): connector_type,
        # Of the key that signs this EVSE's readings: Base64 of the form in OCPP's white paper on signed values.
        Key("FiscalMetering", "PublicKey", evse=evse.id): replace(text("", 2_500, _R), persistent=False),
        Key("Connector", "Problem", evse=evse.id, connector=1): replace(boolean(False, _R), persistent=False),
    }
