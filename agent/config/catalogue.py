"""Every setting of this product: the controller components of the device model, as data.

Charter: one line per variable - name, type, factory default, limits - in the order of the checklist's
table 2.4, so that the two can be compared side by side. Components that depend on how a station is
built (ChargingStation, EVSE, Connector) are in ``agent.config.station_model``. A variable stands here
only if the product honours it: an optional one that would be stored and ignored is left out.

Sources: OCPP 2.0.1 part 2 appendix 3 (referenced components and variables) as gathered in checklist
2.4. OCPP 1.6 needs no variable beyond these: what only 1.6 has is fixed, and its dialect's own.
Units as reported: s, %, Wh; none for counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.config.monitoring_catalogue import MONITORING
from agent.config.variable import DataType, Key, Mutability, VariableSpec

RW = Mutability.READ_WRITE
R = Mutability.READ_ONLY

# What a meter reading of ours can carry (OCPP 2.0.1 MeasurandEnumType).
MEASURANDS = (
    "Energy.Active.Import.Register",
    "Energy.Active.Export.Register",
    "Power.Active.Import",
    "Current.Import",
    "Current.Offered",
    "Voltage",
    "Frequency",
)
ENERGY = MEASURANDS[0]

ITEMS_PER_MESSAGE = 100
BYTES_PER_MESSAGE = 65_536
LOCAL_LIST_ENTRIES = 1_000
CERTIFICATE_ENTRIES = 20
CHARGING_PROFILES = 20
MAX_STACK_LEVEL = 9
PERIODS_PER_SCHEDULE = 24
NETWORK_SLOTS = (1, 2, 3)

_DAY_S = 86_400
_YEAR_S = 365 * _DAY_S


def key(text: str) -> Key:
    return Key.parse(text)


PASSWORD = key("SecurityCtrlr.BasicAuthPassword")


def integer(
    default: int, low: int, high: int, unit: str | None = None, access: Mutability = RW, *, reboot: bool = False
) -> VariableSpec:
    return VariableSpec(
        type=DataType.INTEGER,
        default=str(default),
        mutability=access,
        minimum=low,
        maximum=high,
        unit=unit,
        reboot_required=reboot,
    )


def fixed_integer(value: int, high: int | None = None) -> VariableSpec:
    """A ReadOnly count; ``high`` where it is computed and has a limit worth telling."""
    return VariableSpec(type=DataType.INTEGER, default=str(value), minimum=0, maximum=high)


def boolean(default: bool, access: Mutability = RW) -> VariableSpec:
    return VariableSpec(type=DataType.BOOLEAN, default="true" if default else "false", mutability=access)


def text(default: str, high: int, access: Mutability = RW) -> VariableSpec:
    return VariableSpec(type=DataType.STRING, default=default, mutability=access, maximum=high)


def members(
    default: tuple[str, ...], values: tuple[str, ...], access: Mutability = RW, *, at_least: int = 0
) -> VariableSpec:
    return VariableSpec(
        type=DataType.MEMBER_LIST, default=",".join(default), mutability=access, values=values, minimum=at_least
    )


def sequence(default: tuple[str, ...], values: tuple[str, ...], *, reboot: bool = False) -> VariableSpec:
    return VariableSpec(
        type=DataType.SEQUENCE_LIST,
        default=",".join(default),
        mutability=RW,
        values=values,
        minimum=1,
        reboot_required=reboot,
    )


def option(default: str, values: tuple[str, ...], access: Mutability = R) -> VariableSpec:
    return VariableSpec(type=DataType.OPTION_LIST, default=default, mutability=access, values=values)


def _measurands(*default: str) -> VariableSpec:
    return members(default, MEASURANDS)


def _interval(default_s: int) -> VariableSpec:
    """0 = none. Upper bound one day, so that a slip cannot end the sampling for ever."""
    return integer(default_s, 0, _DAY_S, "s")


_COMMUNICATION: Mapping[str, VariableSpec] = {
    "OCPPCommCtrlr.FileTransferProtocols": members((), ("HTTPS", "HTTP", "FTP", "FTPS", "SFTP"), R),
    "OCPPCommCtrlr.MessageTimeout[Default]": integer(30, 1, 600, "s", R),
    "OCPPCommCtrlr.MessageAttemptInterval[TransactionEvent]": integer(60, 1, _DAY_S, "s"),
    "OCPPCommCtrlr.MessageAttempts[TransactionEvent]": integer(3, 1, 1_000),
    "OCPPCommCtrlr.NetworkConfigurationPriority": sequence(("1",), tuple(map(str, NETWORK_SLOTS)), reboot=True),
    "OCPPCommCtrlr.NetworkProfileConnectionAttempts": integer(3, 1, 100),
    "OCPPCommCtrlr.OfflineThreshold": integer(60, 0, _DAY_S, "s"),
    "OCPPCommCtrlr.ResetRetries": integer(1, 0, 10),
    "OCPPCommCtrlr.RetryBackOffRandomRange": integer(10, 0, 3_600, "s"),
    "OCPPCommCtrlr.RetryBackOffRepeatTimes": integer(5, 0, 10),
    "OCPPCommCtrlr.RetryBackOffWaitMinimum": integer(10, 1, 3_600, "s"),
    "OCPPCommCtrlr.WebSocketPingInterval": integer(60, 0, _DAY_S, "s"),
    "OCPPCommCtrlr.ActiveNetworkProfile": fixed_integer(1, len(NETWORK_SLOTS)),
    "OCPPCommCtrlr.HeartbeatInterval": integer(300, 1, _DAY_S, "s"),  # 16: at least one per day
    "OCPPCommCtrlr.MinimumStatusDuration": integer(0, 0, 3_600, "s"),
}

_TRANSACTION: Mapping[str, VariableSpec] = {
    "TxCtrlr.EVConnectionTimeOut": integer(120, 1, _DAY_S, "s"),
    "TxCtrlr.StopTxOnEVSideDisconnect": boolean(True),
    "TxCtrlr.StopTxOnInvalidId": boolean(True),
    # The session machine has this one pair of start and stop points, and says so.
    "TxCtrlr.TxStartPoint": members(("PowerPathClosed",), ("PowerPathClosed",), R, at_least=1),
    "TxCtrlr.TxStopPoint": members(("PowerPathClosed",), ("PowerPathClosed",), R, at_least=1),
}

_DEVICE_DATA: Mapping[str, VariableSpec] = {
    **{
        f"DeviceDataCtrlr.{name}[{message}]": fixed_integer(count)
        for name, count in (("ItemsPerMessage", ITEMS_PER_MESSAGE), ("BytesPerMessage", BYTES_PER_MESSAGE))
        for message in ("GetReport", "GetVariables", "SetVariables")
    },
    "DeviceDataCtrlr.ConfigurationValueSize": fixed_integer(1_000),
    "DeviceDataCtrlr.ReportingValueSize": fixed_integer(2_500),
}

_CLOCK: Mapping[str, VariableSpec] = {
    "ClockCtrlr.DateTime": VariableSpec(type=DataType.DATE_TIME, default="1970-01-01T00:00:00Z", persistent=False),
    "ClockCtrlr.TimeSource": sequence(("Heartbeat",), ("Heartbeat",)),
    "ClockCtrlr.TimeAdjustmentReportingThreshold": integer(20, 0, _DAY_S, "s"),
}

_SECURITY: Mapping[str, VariableSpec] = {
    "SecurityCtrlr.Identity": text("", 48, R),
    "SecurityCtrlr.OrganizationName": text("", 64),
    "SecurityCtrlr.CertificateEntries": fixed_integer(0, CERTIFICATE_ENTRIES),
    "SecurityCtrlr.SecurityProfile": fixed_integer(0, 3),
    # A01: 16 to 40 characters. Never has a default; empty means "not set here".
    "SecurityCtrlr.BasicAuthPassword": VariableSpec(
        type=DataType.STRING, default="", mutability=Mutability.WRITE_ONLY, minimum=16, maximum=40
    ),
}

_SAMPLED: Mapping[str, VariableSpec] = {
    "SampledDataCtrlr.TxStartedMeasurands": _measurands(ENERGY),
    "SampledDataCtrlr.TxUpdatedMeasurands": _measurands(ENERGY, "Power.Active.Import", "Current.Import", "Voltage"),
    "SampledDataCtrlr.TxUpdatedInterval": _interval(60),
    "SampledDataCtrlr.TxEndedMeasurands": _measurands(ENERGY),
    "SampledDataCtrlr.TxEndedInterval": _interval(0),
    # Signed records (OCMF) go with the last event, and with the first (metering reference 1.10). Off unless asked
    # for: a CSMS that takes every value for a number would refuse the message, and with it the bill.
    "SampledDataCtrlr.SignReadings": boolean(False),
    "SampledDataCtrlr.SignStartedReadings": boolean(False),
    "OCPPCommCtrlr.PublicKeyWithSignedMeterValue": option(
        "OncePerTransaction", ("Never", "OncePerTransaction", "EveryMeterValue"), RW
    ),
}

# Prices are the station's or the CSMS's; texts are what a driver is shown where nobody knows better.
_TARIFF: Mapping[str, VariableSpec] = {
    "TariffCostCtrlr.Available[Tariff]": boolean(True, R),
    "TariffCostCtrlr.Available[Cost]": boolean(True, R),
    "TariffCostCtrlr.Enabled[Tariff]": boolean(True, R),
    "TariffCostCtrlr.Enabled[Cost]": boolean(True, R),
    "TariffCostCtrlr.Currency": text("EUR", 3),
    "TariffCostCtrlr.TariffFallbackMessage": text("", 255),
    "TariffCostCtrlr.TotalCostFallbackMessage": text("", 255),
    "CustomizationCtrlr.CustomImplementationEnabled[org.openchargealliance.costmsg]": boolean(True, R),
}

_ALIGNED: Mapping[str, VariableSpec] = {
    "AlignedDataCtrlr.Interval": _interval(0),
    "AlignedDataCtrlr.Measurands": _measurands(ENERGY),
    "AlignedDataCtrlr.TxEndedInterval": _interval(0),
    "AlignedDataCtrlr.TxEndedMeasurands": _measurands(),
}

_AUTHORIZATION: Mapping[str, VariableSpec] = {
    "AuthCtrlr.AuthorizeRemoteStart": boolean(False),
    "AuthCtrlr.LocalAuthorizeOffline": boolean(True),
    "AuthCtrlr.LocalPreAuthorize": boolean(False),
    "AuthCtrlr.OfflineTxForUnknownIdEnabled": boolean(False),
    "AuthCtrlr.MasterPassGroupId": text("", 36),
    "AuthCacheCtrlr.Available": boolean(True, R),
    "AuthCacheCtrlr.Enabled": boolean(True),
    "AuthCacheCtrlr.LifeTime": integer(0, 0, _YEAR_S, "s"),  # 0 = entries do not age
    "AuthCacheCtrlr.Policy": option("CUSTOM", ("LRU", "LFU", "FIFO", "CUSTOM")),  # not Accepted first, then oldest
    "AuthCacheCtrlr.DisablePostAuthorize": boolean(False),
}

_LOCAL_LIST: Mapping[str, VariableSpec] = {
    "LocalAuthListCtrlr.Entries": fixed_integer(0, LOCAL_LIST_ENTRIES),
    "LocalAuthListCtrlr.ItemsPerMessage": fixed_integer(ITEMS_PER_MESSAGE),
    "LocalAuthListCtrlr.BytesPerMessage": fixed_integer(BYTES_PER_MESSAGE),
    "LocalAuthListCtrlr.Available": boolean(False, R),  # no dialect takes SendLocalList yet
    "LocalAuthListCtrlr.Enabled": boolean(False),
    "LocalAuthListCtrlr.DisablePostAuthorize": boolean(False),
}

_SMART_CHARGING: Mapping[str, VariableSpec] = {
    "SmartChargingCtrlr.ProfileStackLevel": fixed_integer(MAX_STACK_LEVEL),
    "SmartChargingCtrlr.RateUnit": members(("A", "W"), ("A", "W"), R),
    "SmartChargingCtrlr.PeriodsPerSchedule": fixed_integer(PERIODS_PER_SCHEDULE),
    "SmartChargingCtrlr.Entries[ChargingProfiles]": fixed_integer(0, CHARGING_PROFILES),
    "SmartChargingCtrlr.LimitChangeSignificance": VariableSpec(
        type=DataType.DECIMAL, default="1", mutability=RW, minimum=0, maximum=100, unit="Percent"
    ),
    "SmartChargingCtrlr.Available": boolean(True, R),
    "SmartChargingCtrlr.Enabled": boolean(True, R),
    "SmartChargingCtrlr.Phases3to1": boolean(False, R),
}

CONTROLLERS: Mapping[Key, VariableSpec] = {
    key(name): spec
    for group in (
        _COMMUNICATION,
        _TRANSACTION,
        _DEVICE_DATA,
        _CLOCK,
        _SECURITY,
        _SAMPLED,
        _TARIFF,
        _ALIGNED,
        _AUTHORIZATION,
        _LOCAL_LIST,
        _SMART_CHARGING,
        MONITORING,
    )
    for name, spec in group.items()
}
