"""The configuration of a station, as typed values: one dataclass per table of the TOML file.

Charter: what is fixed by building and installing the charger - identity, devices, limits, files. What
the CSMS may change at run time is a setting of the device model (``agent.config.device_model``); the
``[settings]`` table only replaces factory defaults of those. Defaults and rules stand at the fields.
Reading and checking a file is ``agent.config.load``.

Units stand last in the names: milliampere, volt (nominal), seconds.
Sources: field lengths from OCPP 2.0.1 (ChargingStationType, IdTokenType); station identity from
OCPP-J section 3 (at most 48 characters, no colon, since it is the user name of HTTP Basic auth).
"""

# ruff: noqa: RUF009 - ``ruled`` makes a dataclass field; it is not a default value.
from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from agent.config.board_file import BOARD_RULE
from agent.config.fields import (
    Rule,
    choice_rule,
    choices_rule,
    file_rule,
    flag_rule,
    integer_rule,
    integers_rule,
    moment_rule,
    path_rule,
    phases_rule,
    ruled,
    settings_rule,
    text_rule,
    time_zone_rule,
    url_rule,
)
from agent.config.money import MeteringConfig, OperatorConfig, PriceConfig
from agent.config.update import UpdateConfig
from agent.config.web import WebConfig
from agent.core.settings import Timing
from hal.boards import Board, BoardKind, Parity


class OcppVersion(enum.StrEnum):
    V16 = "1.6"
    V201 = "2.0.1"


class KeyEncoding(enum.StrEnum):
    """How the Basic auth password goes into the header (16-SEC-04)."""

    AUTO = "auto"
    HEX = "hex"
    TEXT = "text"


class LogFormat(enum.StrEnum):
    AUTO = "auto"  # JSON lines unless standard error is a terminal
    JSON = "json"
    CONSOLE = "console"


class LogLevel(enum.StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class UploadScheme(enum.StrEnum):
    """How a log may be brought to where the CSMS wants it."""

    HTTPS = "https"
    HTTP = "http"
    FTPS = "ftps"
    FTP = "ftp"


class UploadMethod(enum.StrEnum):
    """How HTTP servers are given a file."""

    PUT = "put"  # and POST where the server says that it has no PUT
    POST = "post"


class CanInterface(enum.StrEnum):
    """The CAN adapters of python-can that we run against."""

    SOCKETCAN = "socketcan"
    SLCAN = "slcan"
    UDP_MULTICAST = "udp_multicast"


class CableKind(enum.StrEnum):
    FIXED = "fixed"
    SOCKET = "socket"


class ConnectorType(enum.StrEnum):
    """OCPP 2.0.1 ConnectorEnumType, those a station of ours can have. c = fixed cable, s = socket."""

    C_TYPE1 = "cType1"
    C_TYPE2 = "cType2"
    S_TYPE2 = "sType2"
    S_TYPE3 = "sType3"
    C_CCS1 = "cCCS1"
    C_CCS2 = "cCCS2"
    C_GBT = "cGBT"
    C_TESLA = "cTesla"


class TokenType(enum.StrEnum):
    """OCPP 2.0.1 IdTokenEnumType, those that can stand in a local list."""

    ISO14443 = "ISO14443"
    ISO15693 = "ISO15693"
    CENTRAL = "Central"
    E_MAID = "eMAID"
    KEY_CODE = "KeyCode"
    LOCAL = "Local"
    MAC_ADDRESS = "MacAddress"


class Assumed(str):
    """A text that the file leaves out, where it matters that nobody has said it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationConfig:
    """``[station]``. ``run_dir`` holds the local socket, ``data_dir`` ledger and keys."""

    identity: str = ruled(text_rule(48, "CP-0001", forbidden=":"))
    vendor: str = ruled(text_rule(20, "Example"))
    model: str = ruled(text_rule(20, "Wallbox 11"))
    serial: str = ruled(text_rule(25, "EX-000123"))
    data_dir: Path = ruled(path_rule("/var/lib/evsed"))
    run_dir: Path = ruled(path_rule("/run/evsed"))
    time_zone: str = ruled(time_zone_rule("Europe/Berlin"), Assumed("UTC"))

    @property
    def has_time_zone(self) -> bool:
        """Whether a person has said it: hours and days of a tariff are somebody's."""
        return not isinstance(self.time_zone, Assumed)

    @property
    def installer_socket(self) -> Path:
        """Where the installer listens: a folder of its own, since root makes it."""
        return self.run_dir.with_name(f"{self.run_dir.name}-installer") / "installer.sock"

    def log_folder(self, process: str) -> Path:
        """Where a process (station, gateway, installer) keeps its newest log lines: each may write in its own folder
        only."""
        run_dir = self.run_dir if process == "station" else self.run_dir.with_name(f"{self.run_dir.name}-{process}")
        return run_dir / "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class CsmsConfig:
    """``[csms]``. Without the table the station works alone."""

    url: str = ruled(url_rule(("ws", "wss"), "wss://csms.example.com/ocpp"))
    versions: tuple[OcppVersion, ...] = ruled(
        choices_rule(OcppVersion, (OcppVersion.V201, OcppVersion.V16)), (OcppVersion.V201, OcppVersion.V16)
    )
    security_profile: int = ruled(integer_rule(0, 3, 2), 0)
    password_file: Path | None = ruled(file_rule("/etc/evsed/csms.password"), None)
    ca_file: Path | None = ruled(file_rule("/etc/evsed/csms-ca.pem"), None)
    client_certificate_file: Path | None = ruled(file_rule("/etc/evsed/client.pem"), None)
    client_key_file: Path | None = ruled(file_rule("/etc/evsed/client.key"), None)
    authorization_key_encoding: KeyEncoding = ruled(choice_rule(KeyEncoding, KeyEncoding.AUTO), KeyEncoding.AUTO)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """``[limits]``. ``supply_current_ma`` bounds the sum of all EVSEs per phase, a DC EVSE by what its modules take
    from three phases; None: the sum of what they can take.

    ``offline_current_ma`` bounds each EVSE while the CSMS is away and no limit of it is in force, and
    in place of one that has ended; None: its own limit. 0 pauses charging."""

    supply_current_ma: int | None = ruled(integer_rule(6_000, 2_000_000, 32_000), None)
    offline_current_ma: int | None = ruled(integer_rule(0, 1_000_000, 10_000), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """``[session]``. A transaction cut by a restart goes on within ``resume_window_s``, else it ends; so does one whose
    pilot board was lost, for which the window is 30 s at least."""

    resume_window_s: int = ruled(integer_rule(0, 86_400, 60), 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """``[auth]``. ``free``: whoever plugs in may charge, without any token."""

    free: bool = ruled(flag_rule(True), False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotAddress:
    """``[evse.pilot]``: where the pilot board answers."""

    port: str = ruled(text_rule(255, "/dev/ttyS1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterAddress:
    """``[evse.meter]``: where the meter answers; baud, parity and register map where they differ from
    the board's, ``serial`` where the meter cannot tell its own, ``rollover_kwh`` where its import register
    begins anew at 0 (a display of six digits: 1_000_000)."""

    port: str = ruled(text_rule(255, "/dev/ttyUSB0"))
    unit: int = ruled(integer_rule(1, 247, 1), 1)
    baud: int | None = ruled(integer_rule(1_200, 115_200, 9_600), None)
    parity: Parity | None = ruled(choice_rule(Parity, Parity.EVEN), None)
    map: str | None = ruled(text_rule(64, "eastron_sdm630"), None)
    serial: str | None = ruled(text_rule(50, "12345678"), None)
    rollover_kwh: int | None = ruled(integer_rule(1_000, 1_000_000_000, 1_000_000), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerAddress:
    """``[evse.power]``: the DC modules that feed this EVSE."""

    interface: CanInterface = ruled(choice_rule(CanInterface, CanInterface.SOCKETCAN))
    channel: str = ruled(text_rule(255, "can0"))
    modules: tuple[int, ...] = ruled(integers_rule(0, 59, 60, (0, 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedOutput:
    """``[evse.fixed_output]``: DC without ISO 15118, for a bench load or a battery of known voltage."""

    voltage_mv: int = ruled(integer_rule(1_000, 1_500_000, 400_000))
    current_ma: int = ruled(integer_rule(0, 1_000_000, 10_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class EvseConfig:
    """``[[evse]]``. The file names the board (bundled, or a path); here it stands read and checked."""

    id: int = ruled(integer_rule(1, 64, 1))
    board: Board = ruled(BOARD_RULE)
    pilot: PilotAddress
    meter: MeterAddress
    power: PowerAddress | None = None
    fixed_output: FixedOutput | None = None
    connector_type: ConnectorType = ruled(choice_rule(ConnectorType, ConnectorType.C_TYPE2))
    cable: CableKind = ruled(choice_rule(CableKind, CableKind.FIXED))
    max_current_ma: int = ruled(integer_rule(1, 1_000_000, 16_000))
    phases: int = ruled(phases_rule(3), 0)  # left out: as many as the board has
    voltage_v: int = ruled(integer_rule(100, 480, 230), 230)

    def __post_init__(self) -> None:
        if self.phases == 0:
            object.__setattr__(self, "phases", self.board.limits.phases)

    @property
    def meter_map(self) -> str:
        return self.meter.map or self.board.meter.map

    @property
    def meter_baud(self) -> int:
        return self.meter.baud or self.board.meter.baud

    @property
    def meter_parity(self) -> Parity:
        return self.meter.parity or self.board.meter.parity

    @property
    def meter_rollover_mwh(self) -> int | None:
        return None if self.meter.rollover_kwh is None else self.meter.rollover_kwh * 1_000_000

    @property
    def max_power_w(self) -> int:
        """The most this EVSE can deliver, at nominal voltage (AC) or by its modules (DC)."""
        if self.board.kind is BoardKind.AC:
            return self.phases * self.voltage_v * self.max_current_ma // 1_000
        limits = self.board.limits
        by_current = (limits.max_voltage_mv or 0) * self.max_current_ma // 1_000_000
        return by_current if limits.max_power_w is None else min(by_current, limits.max_power_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenConfig:
    """``[[token]]``: an entry of the site's own allow list."""

    id: str = ruled(text_rule(36, "04A2B3C4D5E6F7"))
    type: TokenType = ruled(choice_rule(TokenType, TokenType.ISO14443), TokenType.ISO14443)
    group: str | None = ruled(text_rule(36, "household"), None)
    expires: datetime | None = ruled(moment_rule("2030-01-01T00:00:00Z"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """``[log]``. ``upload_schemes``: where the CSMS may have logs brought (GetLog, GetDiagnostics); none: nowhere.
    ``upload_ca_file`` is trusted beside the system's roots; left out: that of ``[csms]`` is."""

    level: LogLevel = ruled(choice_rule(LogLevel, LogLevel.INFO), LogLevel.INFO)
    format: LogFormat = ruled(choice_rule(LogFormat, LogFormat.AUTO), LogFormat.AUTO)
    upload_schemes: tuple[UploadScheme, ...] = ruled(
        choices_rule(UploadScheme, (UploadScheme.HTTPS, UploadScheme.FTPS), empty=True), tuple(UploadScheme)
    )
    upload_method: UploadMethod = ruled(choice_rule(UploadMethod, UploadMethod.POST), UploadMethod.PUT)
    upload_ca_file: Path | None = ruled(file_rule("/etc/evsed/upload-ca.pem"), None)
    upload_rate_kib_s: int = ruled(integer_rule(0, 1_000_000, 256), 0)  # 0: none


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file. Field names are the tables' names; ``evse`` and ``token`` are lists of tables."""

    station: StationConfig
    csms: CsmsConfig | None = None
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    session: SessionConfig = field(default_factory=SessionConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    metering: MeteringConfig = field(default_factory=MeteringConfig)
    price: PriceConfig = field(default_factory=PriceConfig)
    operator: OperatorConfig = field(default_factory=OperatorConfig)
    update: UpdateConfig | None = None
    web: WebConfig | None = None
    log: LogConfig = field(default_factory=LogConfig)
    timing: Timing = field(default_factory=Timing)
    settings: Mapping[str, str] = ruled(settings_rule(), default_factory=dict)
    evse: tuple[EvseConfig, ...]
    token: tuple[TokenConfig, ...] = ()


def _timing_rules() -> dict[str, Rule]:
    """``[timing]``: a tenth to ten times the default, but never looser than the norms where they speak."""
    bounds = {
        "release_ms": (0, 6_000),  # IEC 61851-1: 6 s
        "contactor_open_ms": (50, 2_000),
        "weld_current_ma": (100, 2_000),
        "weld_current_ms": (500, 10_000),
        "over_current_ms": (6_000, 7_000),
        "over_current_margin_ma": (0, 500),
        "over_current_factor_percent": (100, 110),
        "over_output_margin_ma": (0, 2_500),
        "over_voltage_margin_mv": (5_000, 50_000),
        "over_voltage_ms": (0, 400),
        "lock_tries": (1, 10),
        "wake_up_f_ms": (0, 10_000),  # 0: nobody is woken, for hybrids that latch a fault in state F
    }
    rules: dict[str, Rule] = {}
    for name in Timing.__dataclass_fields__:
        default = getattr(Timing(), name)
        low, high = bounds.get(name, (default // 10, default * 10))
        rules[name] = integer_rule(low, high, default)
    return rules


TIMING_RULES: Mapping[str, Rule] = _timing_rules()
