"""The station as the outside sees it: requests, answers and news, and the port that carries them.

Charter: the contract between station and everything that is not the station (dialects in the
gateway, command line). Plain data plus one Protocol. The gateway implements ``StationPort`` over the
local socket; the simulated world implements it in memory.

Units as in the core; ``wall_ms`` is UTC in milliseconds since 1970, already restamped where the
clock was set later in the same boot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from agent.core.commands import Command
from agent.core.facts import Fact, Token
from agent.core.status import ConnectorStatus, EvseView, Outcome
from agent.health.model import PartHealth
from agent.ipc.certificates import CertificateUse, DeleteAnswer, InstallAnswer, InstalledCertificate
from agent.ipc.monitors import ClearMonitorStatus, CustomerRequest, Monitor, MonitorAnswer, MonitorWrite
from agent.ipc.networks import NetworkProfile
from agent.ipc.profiles import CompositeSchedule, ProfileAnswer
from agent.ipc.receipts import ReceiptLine
from agent.ipc.statistics import StationStatistics
from agent.ipc.updates import FetchOrder, FetchReport, FirmwareStatus, UpdateAnswer, UpdateRequest, UpdateView
from agent.security.roots import CertificateHash
from agent.usage.model import UsageHour

# ------------------------------------------------------------------------------- ledger, upwards


@dataclass(frozen=True, slots=True)
class Record:
    """One ledger row as a dialect needs it.

    ``clock_offset_ms`` + a sample's ``at_ms`` = the sample's wall time. ``trusted_time`` is False
    where no clock fix of that boot is known (yet)."""

    seq: int
    kind: str
    fact: Fact
    wall_ms: int
    clock_offset_ms: int
    trusted_time: bool


NO_CSMS_ID: Final = -1


@dataclass(frozen=True, slots=True)
class CsmsTx:
    """What the CSMS calls a transaction of ours (1.6). ``NO_CSMS_ID`` with ``given_up`` (both versions): this CSMS
    never took its start (16-TX-07)."""

    tx_id: str
    csms_id: int
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the CSMS has been told, and the ids it gave."""

    delivered_seq: int
    csms_txs: tuple[CsmsTx, ...]  # of transactions that are not yet wholly delivered
    undelivered: int  # rows behind the cursor that concern the CSMS; of very many only the first are counted


# ------------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """``reason``: in plain words, where the core was not even asked."""

    outcome: Outcome
    tx_id: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TokenVerdict:
    """What the CSMS said of a token. ``status`` is OCPP 2.0.1 AuthorizationStatusEnumType
    (Accepted, Blocked, ConcurrentTx, Expired, Invalid, NoCredit, Unknown, ...). ``everywhere``: it holds at each EVSE
    of this station, so it may be remembered."""

    status: str
    group: str | None = None
    expiry_wall_ms: int | None = None
    everywhere: bool = True


@dataclass(frozen=True, slots=True)
class SettingWrite:
    """One SetVariables item: names as received, ``value`` as text."""

    component: str
    variable: str
    value: str
    instance: str | None = None
    component_instance: str | None = None
    evse: int | None = None
    connector: int | None = None
    attribute: str = "Actual"


@dataclass(frozen=True, slots=True)
class TariffAssignment:
    """A default tariff of the CSMS. ``evse`` 0: all; ``from_wall_ms`` None: it holds already."""

    tariff_id: str
    evse: int
    from_wall_ms: int | None


@dataclass(frozen=True, slots=True)
class ToldCost:
    """What the CSMS says a transaction costs. ``cost`` and prices are decimal numbers as text.

    From ``meter_wh`` and ``wall_ms`` on the station may extrapolate by the prices, for display only."""

    tx_id: str
    cost: str
    final: bool = False
    text: str = ""
    meter_wh: int | None = None
    wall_ms: int | None = None
    kwh_price: str | None = None
    hour_price: str | None = None


@dataclass(frozen=True, slots=True)
class PriceView:
    """What the driver at an EVSE is to see of money. ``cost`` is None where nobody has priced it yet."""

    evse: int
    tariff_id: str | None
    price: str  # in plain words
    cost: str | None  # decimal text with currency, tax included
    by_csms: bool = False  # the CSMS told it, or it extrapolates what the CSMS told
    limit: str = ""  # prepaid, in plain words


# ---------------------------------------------------------------------------------------- news


@dataclass(frozen=True, slots=True)
class Welcome:
    """The first thing the station says to whoever connects."""

    protocol: int
    boot_id: str
    boot_cause: str
    software_version: str
    identity: str
    vendor: str
    model: str
    serial: str
    evses: tuple[int, ...]
    settings: dict[str, str]  # DeviceModel snapshot
    head_seq: int
    firmware_version: str = ""  # of the image that runs; empty: the software's own version is all there is
    takes_updates: bool = False
    roots: tuple[str, ...] = ()  # PEM of root certificates that the CSMS has installed
    password_that_worked: str = ""  # hex of the bytes that the CSMS took last; empty: none but the delivered one


@dataclass(frozen=True, slots=True)
class RowsAppended:
    head_seq: int


@dataclass(frozen=True, slots=True)
class ConnectorChanged:
    status: ConnectorStatus


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    settings: dict[str, str]  # the changed ones only


@dataclass(frozen=True, slots=True)
class AuthorizeWanted:
    """The station wants the CSMS's word on a token; answered with ``StationPort.token_verdict``."""

    request_id: int
    token: Token
    evse: int


@dataclass(frozen=True, slots=True)
class SampleTaken:
    """The reading asked for by ``TakeSample`` where no transaction runs or room is scarce (it goes out as a plain
    MeterValues message; else it is a ledger row of the transaction)."""

    record: Record


@dataclass(frozen=True, slots=True)
class RestartComing:
    """The station restarts now (after Reset); ``cause`` is a BootReasonEnumType."""

    cause: str


@dataclass(frozen=True, slots=True)
class FetchWanted:
    """The gateway shall download this; None: stop what is under way."""

    order: FetchOrder | None


@dataclass(frozen=True, slots=True)
class UpdateChanged:
    """An update made a step; None: none is under way any more."""

    update: UpdateView | None


@dataclass(frozen=True, slots=True)
class TrustChanged:
    """The CSMS has installed or deleted a root certificate; ``roots``: all there are now, as PEM."""

    roots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """The health of some parts changed. ``parts`` is all that is to be said of these now: it takes the place of what
    was known of each (part, EVSE) in it; others did not change."""

    parts: tuple[PartHealth, ...]


News = (
    RowsAppended
    | ConnectorChanged
    | SettingsChanged
    | AuthorizeWanted
    | SampleTaken
    | RestartComing
    | FetchWanted
    | UpdateChanged
    | HealthChanged
    | TrustChanged
)


@dataclass(frozen=True, slots=True)
class StationStatus:
    """For ``evsed status``: everything a technician asks first."""

    identity: str
    boot_id: str
    software_version: str
    uptime_ms: int
    online: bool
    dialect: str | None
    wall_ms: int
    time_status: str
    head_seq: int
    delivered_seq: int
    evses: tuple[EvseView, ...] = field(default=())
    prices: tuple[PriceView, ...] = field(default=())
    alarm: str = ""  # what is wrong with the ledger or its disk, in plain words
    firmware_version: str = ""
    update: UpdateView | None = None


class StationLost(Exception):
    """The station process is gone; the gateway waits for it and says nothing to the CSMS."""


class StationPort(Protocol):
    """All that a dialect may ask of the station. Every method raises ``StationLost``."""

    async def command(self, command: Command) -> CommandAnswer: ...

    async def records(self, after_seq: int, limit: int) -> list[Record]:
        """Rows with seq > ``after_seq`` in order, all kinds: at most ``limit``, and no more than a page. Empty only
        where none is left."""
        ...

    async def transaction(self, tx_id: str, after_seq: int = 0, *, newest: bool = False) -> list[Record]:
        """A page of a transaction's rows with seq > ``after_seq``, in order: the next ones, or the ``newest``. Empty
        only where none is left."""
        ...

    async def security_records(self, after_seq: int, limit: int) -> list[Record]:
        """As ``records``, security events only."""
        ...

    async def progress(self) -> Progress: ...

    async def delivered(self, seq: int, csms_tx: CsmsTx | None = None) -> None:
        """Everything up to ``seq`` is with the CSMS, or given up by policy. Kept durably before
        the call returns when ``csms_tx`` is given, lazily otherwise (a repeat is harmless)."""
        ...

    async def token_verdict(
        self, token: Token, verdict: TokenVerdict, *, request_id: int | None = None, tx_id: str | None = None
    ) -> None:
        """The CSMS's word on a token: for an ``AuthorizeWanted`` (``request_id``), or in the answer
        to a transaction message (``tx_id``); either way the cache learns it. ``request_id`` with
        status "" means: no answer could be had, decide by the offline rules."""
        ...

    async def present_token(self, token: Token, evse: int) -> str:
        """A token was presented at this EVSE (card reader, button, app). Says in plain words what was
        decided; where the CSMS is asked, the decision follows later."""
        ...

    async def link_state(self, online: bool, dialect: str | None, csms_url: str = "") -> None:
        """``online``: the CSMS at ``csms_url`` has accepted the station's boot, now or before, and is told of
        transactions from here on. Which one that is, is durable before it returns."""
        ...

    async def password_worked(self, shown: str) -> None:
        """The CSMS has taken this password (hex of its bytes): the way back, should a newer one be a mistake. Durable
        before it returns."""
        ...

    async def clock(self, wall_ms: int) -> None:
        """The CSMS says it is ``wall_ms``."""
        ...

    async def set_settings(self, writes: list[SettingWrite]) -> list[str]:
        """One SetVariableStatusEnumType per write, in order; accepted ones are durable."""
        ...

    async def read_settings(self, reads: list[SettingWrite]) -> list[tuple[str, str | None]]:
        """(GetVariableStatusEnumType, value) per read, in order (``value`` of a read is ignored)."""
        ...

    async def report(self, base: str) -> list[dict[str, Any]] | None:
        """ReportDataType dicts (camelCase, OCPP 2.0.1) of a base report; None: not supported."""
        ...

    async def set_network_profile(self, slot: int, profile: NetworkProfile) -> str:
        """OCPP 2.0.1 B09: empty where the slot holds it now, durably; else why not, in plain words."""
        ...

    async def network_worked(self, slot: int) -> None:
        """The CSMS of this slot has accepted the station's boot. Durable before it returns."""
        ...

    async def clear_cache(self) -> bool: ...

    async def monitors(self) -> list[Monitor]:
        """All there are, hard-wired ones first."""
        ...

    async def set_monitors(self, writes: list[MonitorWrite]) -> list[MonitorAnswer]:
        """One answer per write, in order; accepted ones are durable."""
        ...

    async def clear_monitors(self, ids: list[int]) -> list[ClearMonitorStatus]:
        """One status per id, in order; what was cleared is so durably."""
        ...

    async def set_monitoring_base(self, base: str) -> str:
        """OCPP 2.0.1 GenericDeviceModelStatusEnumType; durable before it returns."""
        ...

    async def set_monitoring_level(self, severity: int) -> str:
        """OCPP 2.0.1 GenericStatusEnumType; durable before it returns."""
        ...

    async def customer_information(self, request: CustomerRequest) -> str:
        """What is kept of a customer, and what was cleared of it, in plain words; empty where nothing is. Cleared
        is what may be, durably before this returns; billing records stay."""
        ...

    async def certificates(self) -> list[InstalledCertificate]:
        """Every root certificate there is, configured or installed, with hashes by SHA-256."""
        ...

    async def install_certificate(self, use: CertificateUse, pem: str) -> InstallAnswer:
        """What was accepted is durable before this returns, and holds from the next connection on."""
        ...

    async def delete_certificate(self, wanted: CertificateHash, in_use: str) -> DeleteAnswer:
        """``in_use``: SHA-256 (hex, of the DER form) of the root that the present connection rests on, which stays;
        empty: none. Durable before it returns."""
        ...

    async def install_profile(self, evse: int, profile: dict[str, Any], rules: str) -> ProfileAnswer:
        """``profile`` in the neutral form of ``agent.charging``; ``rules`` "1.6" or "2.0.1"."""
        ...

    async def clear_profiles(self, criteria: dict[str, Any], who: str = "") -> ProfileAnswer:
        """``who`` does it, where it is not the CSMS, goes into the log book. Durable before it returns."""
        ...

    async def composite_schedule(self, evse: int, duration_s: int, unit: str | None) -> CompositeSchedule | None: ...

    async def set_default_tariff(self, evse: int, tariff: str) -> str:
        """OCPP 2.1 SetDefaultTariff; ``tariff`` is the JSON of a TariffType. Its status; what is wrong
        with a tariff that is not Accepted stands behind a colon. Durable before it returns."""
        ...

    async def tariffs(self, evse: int) -> list[TariffAssignment]: ...

    async def clear_tariffs(self, tariff_ids: list[str], evse: int | None, who: str = "") -> list[tuple[str, str]]:
        """OCPP 2.1 ClearTariffs: (tariff id, status). ``who`` does it, where it is not the CSMS, goes into the log
        book. Durable before it returns."""
        ...

    async def change_tariff(self, tx_id: str, tariff: str) -> str:
        """OCPP 2.1 ChangeTransactionTariff: the status, as ``set_default_tariff`` gives it. Durable before it returns:
        the change waits for the next reading, some seconds at most."""
        ...

    async def limit_transaction(
        self,
        tx_id: str,
        max_cost: str | None,
        max_energy_wh: int | None,
        max_time_s: int | None,
        *,
        technician: bool = False,
    ) -> str:
        """What the transaction may use up at most (prepaid). Its status: Accepted, TxNotFound (it does not run), or
        "Rejected: why", as where no tariff prices it. Durable before it returns.

        It takes the place of all limits but the site's; a ``technician``'s only of those of a technician before."""
        ...

    async def told_cost(self, told: ToldCost) -> None:
        """The CSMS said what a transaction costs."""
        ...

    async def told_price(self, token: Token | None, text: str) -> None:
        """The CSMS said, in words, what charging costs (for this token)."""
        ...

    async def acknowledge_damage(self) -> bool:
        """A person has seen that a ledger was damaged and set aside; False: there is nothing to see."""
        ...

    async def security_event(self, event_type: str, tech_info: str) -> None: ...

    async def receipts(self, limit: int, before_seq: int | None) -> list[ReceiptLine]:
        """Transactions, the newest first, of those that began before row ``before_seq`` (None: all); at most 50."""
        ...

    async def receipt(self, tx_id: str, form: str) -> str:
        """The receipt of a transaction as text, html, json, xml or ocmf; empty where there is none."""
        ...

    async def update_firmware(self, request: UpdateRequest) -> UpdateAnswer:
        """The CSMS wants other firmware; what was accepted is durable before this returns."""
        ...

    async def install_staged(self) -> str:
        """A technician has handed a bundle to the installer himself: install it when nobody charges. Says in
        plain words what happens now."""
        ...

    async def fetch_report(self, report: FetchReport) -> None: ...

    async def firmware_status(self) -> FirmwareStatus: ...

    async def usage(self, first_hour: int, hours: int, evse: int | None) -> list[UsageHour]:
        """What is kept of the ``hours`` from ``first_hour`` on (UTC hours since 1970), up to this moment, by hour and
        EVSE; ``evse`` None: of all, and of the station (0). At most ``PAGE_HOURS`` of them: ask again for the rest."""
        ...

    async def status(self) -> StationStatus: ...

    async def statistics(self) -> StationStatistics: ...

    async def health(self) -> list[PartHealth]:
        """Every part, also those that are well or absent, by ``Part`` and EVSE; the worst of a part first."""
        ...

    async def report_parts(self, process: str, parts: list[PartHealth]) -> None:
        """A process tells of its own parts: all of them, each time. Times are the station's own; what its catalogue
        of codes does not know is not taken."""
        ...
