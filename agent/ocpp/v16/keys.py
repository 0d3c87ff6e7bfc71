"""1.6 configuration keys: a view on the station's settings.

Charter: one table from key to device-model variable, and GetConfiguration / ChangeConfiguration on
top of it. A key exists if its variable exists in the station (a missing optional key means: not
supported). Values are checked here only where 1.6 says more than the store knows; everything else is
the store's decision.

Of the California extension there is what the settings can hold: ``CustomDisplayCostAndPrice`` and the words of
``DefaultPrice``. ``DefaultPriceText,<lang>``, ``NumberOfDecimalsForCostValues`` and ``TimeOffset`` are not there: the
station has no languages, tells costs in their currency's digits, and has its time zone from its configuration.

Sources: OCPP 1.6 section 9, 5.3, 5.8; checklist 1.12, 2.4 (last paragraph), 16-CMD-02, 16-CMD-03, 16-MV-04;
metering reference 1.10, 3.2.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any, Final

from agent.config.catalogue import CERTIFICATE_ENTRIES, CHARGING_PROFILES
from agent.ipc.port import SettingWrite, StationPort
from agent.ocpp.dialect import StationView, setting_key
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.frames import Payload
from agent.ocpp.v16.metering import MEASURANDS
from agent.tariff.canonical import load
from agent.tariff.number import Written
from agent.tariff.problem import TariffError

KEYS_PER_REQUEST_MAX: Final = 64
VALUE_MAX_CHARS: Final = 500
FILE_TRANSFER_PROTOCOLS: Final = "OCPPCommCtrlr.FileTransferProtocols"


class Kind(enum.Enum):
    """How a value is written."""

    FLAG = enum.auto()
    WHOLE = enum.auto()  # not negative
    MEASURANDS = enum.auto()
    TEXT = enum.auto()
    RATE_UNITS = enum.auto()  # A,W here, Current,Power there
    PRICE_TEXT = enum.auto()  # plain here, {"priceText": ...} there


class Access(enum.Enum):
    READ = enum.auto()
    READ_WRITE = enum.auto()
    WRITE = enum.auto()  # a secret: never told


@dataclass(frozen=True, slots=True)
class Key:
    """One 1.6 key and the variable it stands for."""

    name: str
    kind: Kind
    access: Access
    component: str
    variable: str
    instance: str | None = None

    @property
    def setting(self) -> str:
        return setting_key(self.component, self.variable, self.instance)


_R, _RW = Access.READ, Access.READ_WRITE
_TX = "TransactionEvent"

KEYS: Final = (
    Key("AllowOfflineTxForUnknownId", Kind.FLAG, _RW, "AuthCtrlr", "OfflineTxForUnknownIdEnabled"),
    Key("AuthorizationCacheEnabled", Kind.FLAG, _RW, "AuthCacheCtrlr", "Enabled"),
    Key("AuthorizeRemoteTxRequests", Kind.FLAG, _RW, "AuthCtrlr", "AuthorizeRemoteStart"),
    Key("ClockAlignedDataInterval", Kind.WHOLE, _RW, "AlignedDataCtrlr", "Interval"),
    Key("ConnectionTimeOut", Kind.WHOLE, _RW, "TxCtrlr", "EVConnectionTimeOut"),
    Key("HeartbeatInterval", Kind.WHOLE, _RW, "OCPPCommCtrlr", "HeartbeatInterval"),
    Key("LocalAuthorizeOffline", Kind.FLAG, _RW, "AuthCtrlr", "LocalAuthorizeOffline"),
    Key("LocalPreAuthorize", Kind.FLAG, _RW, "AuthCtrlr", "LocalPreAuthorize"),
    Key("MaxEnergyOnInvalidId", Kind.WHOLE, _RW, "TxCtrlr", "MaxEnergyOnInvalidId"),
    Key("MeterValuesAlignedData", Kind.MEASURANDS, _RW, "AlignedDataCtrlr", "Measurands"),
    Key("MeterValuesSampledData", Kind.MEASURANDS, _RW, "SampledDataCtrlr", "TxUpdatedMeasurands"),
    Key("MeterValueSampleInterval", Kind.WHOLE, _RW, "SampledDataCtrlr", "TxUpdatedInterval"),
    Key("MinimumStatusDuration", Kind.WHOLE, _RW, "OCPPCommCtrlr", "MinimumStatusDuration"),
    Key("PublicKeyWithSignedMeterValue", Kind.TEXT, _RW, "OCPPCommCtrlr", "PublicKeyWithSignedMeterValue"),
    Key("SampledDataSignReadings", Kind.FLAG, _RW, "SampledDataCtrlr", "SignReadings"),
    Key("SampledDataSignStartedReadings", Kind.FLAG, _RW, "SampledDataCtrlr", "SignStartedReadings"),
    Key("DefaultPrice", Kind.PRICE_TEXT, _RW, "TariffCostCtrlr", "TariffFallbackMessage"),
    Key("CustomDisplayCostAndPrice", Kind.FLAG, _R, "TariffCostCtrlr", "Available", "Cost"),
    Key("ResetRetries", Kind.WHOLE, _RW, "OCPPCommCtrlr", "ResetRetries"),
    Key("StopTransactionOnEVSideDisconnect", Kind.FLAG, _RW, "TxCtrlr", "StopTxOnEVSideDisconnect"),
    Key("StopTransactionOnInvalidId", Kind.FLAG, _RW, "TxCtrlr", "StopTxOnInvalidId"),
    Key("StopTxnAlignedData", Kind.MEASURANDS, _RW, "AlignedDataCtrlr", "TxEndedMeasurands"),
    Key("StopTxnSampledData", Kind.MEASURANDS, _RW, "SampledDataCtrlr", "TxEndedMeasurands"),
    Key("TransactionMessageAttempts", Kind.WHOLE, _RW, "OCPPCommCtrlr", "MessageAttempts", _TX),
    Key("TransactionMessageRetryInterval", Kind.WHOLE, _RW, "OCPPCommCtrlr", "MessageAttemptInterval", _TX),
    Key("UnlockConnectorOnEVSideDisconnect", Kind.FLAG, _R, "OCPPCommCtrlr", "UnlockOnEVSideDisconnect"),
    Key("WebSocketPingInterval", Kind.WHOLE, _RW, "OCPPCommCtrlr", "WebSocketPingInterval"),
    Key("ChargeProfileMaxStackLevel", Kind.WHOLE, _R, "SmartChargingCtrlr", "ProfileStackLevel"),
    Key("ChargingScheduleAllowedChargingRateUnit", Kind.RATE_UNITS, _R, "SmartChargingCtrlr", "RateUnit"),
    Key("ChargingScheduleMaxPeriods", Kind.WHOLE, _R, "SmartChargingCtrlr", "PeriodsPerSchedule"),
    Key("ConnectorSwitch3to1PhaseSupported", Kind.FLAG, _R, "SmartChargingCtrlr", "Phases3to1"),
    Key("AuthorizationKey", Kind.TEXT, Access.WRITE, "SecurityCtrlr", "BasicAuthPassword"),
    Key("CpoName", Kind.TEXT, _RW, "SecurityCtrlr", "OrganizationName"),
    Key("SecurityProfile", Kind.WHOLE, _R, "SecurityCtrlr", "SecurityProfile"),
)

_BY_NAME: Final = {key.name.lower(): key for key in KEYS}

MINIMUM_STATUS_DURATION: Final = _BY_NAME["minimumstatusduration"].setting
METER_VALUES_ALIGNED_DATA: Final = _BY_NAME["metervaluesaligneddata"].setting
METER_VALUES_SAMPLED_DATA: Final = _BY_NAME["metervaluessampleddata"].setting
STOP_TXN_ALIGNED_DATA: Final = _BY_NAME["stoptxnaligneddata"].setting
STOP_TXN_SAMPLED_DATA: Final = _BY_NAME["stoptxnsampleddata"].setting


def _fixed(view: StationView) -> dict[str, str]:
    """Keys that 1.6 has and the device model has not: what this station is, not what it is set to."""
    evses = view.welcome.evses
    list_max = str(len(MEASURANDS))
    profiles = "Core,SmartCharging,RemoteTrigger"
    if view.welcome.takes_updates:  # the profile is more than logs
        profiles += ",FirmwareManagement"
    protocols = view.text(FILE_TRANSFER_PROTOCOLS)
    return {
        **_meter_public_keys(view),
        **({"SupportedFileTransferProtocols": protocols} if protocols else {}),
        "CertificateStoreMaxLength": str(CERTIFICATE_ENTRIES),
        # Required; which phase of the grid is where is not known to this station.
        "ConnectorPhaseRotation": ",".join(f"{connector}.Unknown" for connector in (0, *evses)),
        "MaxChargingProfilesInstalled": str(CHARGING_PROFILES),
        "GetConfigurationMaxKeys": str(KEYS_PER_REQUEST_MAX),
        "MeterValuesAlignedDataMaxLength": list_max,
        "MeterValuesSampledDataMaxLength": list_max,
        "NumberOfConnectors": str(len(evses)),
        "StopTxnAlignedDataMaxLength": list_max,
        "StopTxnSampledDataMaxLength": list_max,
        "SupportedFeatureProfiles": profiles,
    }


def _meter_public_keys(view: StationView) -> dict[str, str]:
    """A connector's is missing where it has none, or one that has no room: half a key is worth nothing."""
    found = {
        f"MeterPublicKey{connector}": view.text(f"FiscalMetering@{connector}.PublicKey")
        for connector in view.welcome.evses
    }
    return {name: value for name, value in found.items() if 0 < len(value) <= VALUE_MAX_CHARS}


# --------------------------------------------------------------------------------------- messages


def get_configuration(view: StationView, names: list[str]) -> Payload:
    """GetConfiguration.conf: all keys, or those of ``names`` with the unknown ones apart."""
    if len(names) > KEYS_PER_REQUEST_MAX:
        raise RpcError(ErrorCode.OCCURRENCE_CONSTRAINT_VIOLATION, f"more than {KEYS_PER_REQUEST_MAX} keys")
    known = {entry["key"].lower(): entry for entry in _entries(view)}
    if not names:
        return {"configurationKey": list(known.values())}
    wanted = list(dict.fromkeys(name.lower() for name in names))
    answer: dict[str, Any] = {}
    if found := [known[name] for name in wanted if name in known]:
        answer["configurationKey"] = found
    if unknown := list(dict.fromkeys(name for name in names if name.lower() not in known)):
        answer["unknownKey"] = unknown
    return answer


def _entries(view: StationView) -> list[dict[str, Any]]:
    entries = [{"key": name, "readonly": True, "value": value} for name, value in _fixed(view).items()]
    for key in KEYS:
        if key.access is Access.WRITE or key.setting not in view.settings:
            continue
        value = _shown(key, view.settings[key.setting])[:VALUE_MAX_CHARS]
        entries.append({"key": key.name, "readonly": key.access is Access.READ, "value": value})
    return sorted(entries, key=lambda entry: str(entry["key"]))


async def change_configuration(view: StationView, station: StationPort, name: str, value: str) -> Payload:
    """ChangeConfiguration.conf; an accepted value is durable."""
    key = _BY_NAME.get(name.lower())
    if key is None:
        fixed = {fixed_name.lower() for fixed_name in _fixed(view)}
        return {"status": "Rejected" if name.lower() in fixed else "NotSupported"}
    if key.access is not Access.WRITE and key.setting not in view.settings:
        return {"status": "NotSupported"}
    written = _written(key, value)
    if key.access is Access.READ or written is None:
        return {"status": "Rejected"}
    [status] = await station.set_settings([SettingWrite(key.component, key.variable, written, key.instance)])
    return {"status": _CHANGE_STATUS.get(status, "Rejected")}


_CHANGE_STATUS: Final = {
    "Accepted": "Accepted",
    "RebootRequired": "RebootRequired",
    "UnknownComponent": "NotSupported",
    "UnknownVariable": "NotSupported",
    "NotSupportedAttributeType": "NotSupported",
}

_RATE_UNITS: Final = {"A": "Current", "W": "Power"}


def _shown(key: Key, value: str) -> str:
    if key.kind is Kind.RATE_UNITS:
        return ",".join(_RATE_UNITS.get(unit, unit) for unit in value.split(","))
    if key.kind is Kind.PRICE_TEXT:
        return json.dumps({"priceText": value}, ensure_ascii=False)
    return value


def _written(key: Key, value: str) -> str | None:
    """The value as the store writes it, None where it is none of this kind."""
    match key.kind:
        case Kind.FLAG:
            flag = value.strip().lower()
            return flag if flag in ("true", "false") else None
        case Kind.WHOLE:
            number = value.strip()
            return str(int(number)) if number.isascii() and number.isdigit() and len(number) <= 9 else None
        case Kind.MEASURANDS:
            names = [name for part in value.split(",") if (name := part.strip())]
            return ",".join(names) if set(names) <= MEASURANDS and len(set(names)) == len(names) else None
        case Kind.PRICE_TEXT:
            return _price_text(value)
        case _:
            return value


def _price_text(value: str) -> str | None:
    """The words of a California ``DefaultPrice``. One that says more (prices, words for offline) is refused: the
    station would not go by it."""
    try:
        price = load(value)
    except TariffError:
        return None
    if not isinstance(price, dict) or price.keys() != {"priceText"}:
        return None
    text = price["priceText"]
    return text if isinstance(text, str) and not isinstance(text, Written) else None
