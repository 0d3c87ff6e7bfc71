"""The station port in memory, for tests of dialects.

Charter: a ledger that is a list, a cursor, and a notebook of everything that was asked. It answers
commands as told (``outcomes``) and tells its news to ``listener``. It does not charge anything.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agent.core.commands import Command
from agent.core.facts import (
    ChargingState,
    Fact,
    ReceiptFact,
    Sample,
    SampleContext,
    SignedFact,
    StopReason,
    Token,
    TransactionFact,
    Trigger,
    TxKind,
    UpdateVia,
    kind_of,
)
from agent.core.status import ConnectorState, ConnectorStatus, FaultCode, Outcome
from agent.health.model import PartHealth
from agent.ipc.certificates import (
    CertificateUse,
    DeleteAnswer,
    DeleteStatus,
    InstallAnswer,
    InstalledCertificate,
    InstallStatus,
)
from agent.ipc.monitors import (
    ClearMonitorStatus,
    CustomerRequest,
    Monitor,
    MonitorAnswer,
    MonitorWrite,
    SetMonitorStatus,
)
from agent.ipc.networks import NetworkProfile
from agent.ipc.port import (
    CommandAnswer,
    ConnectorChanged,
    CsmsTx,
    News,
    Progress,
    Record,
    RowsAppended,
    SettingsChanged,
    SettingWrite,
    StationStatus,
    TariffAssignment,
    TokenVerdict,
    ToldCost,
    Welcome,
)
from agent.ipc.profiles import CompositeSchedule, ProfileAnswer, ProfileOutcome
from agent.ipc.receipts import ReceiptLine
from agent.ipc.statistics import LedgerStatistics, ProcessStatistics, StationStatistics
from agent.ipc.updates import FetchReport, FirmwareStatus, UpdateAnswer, UpdateOutcome, UpdateRequest
from agent.security.roots import CertificateHash
from agent.usage.model import UsageHour

T0_MS = 1_795_507_200_000
"""2026-11-24T08:00:00Z: the wall time of monotonic 0 in this ledger."""

TOKEN = Token("04A2B3C4D5E6F7")
TX_PAGE_ROWS = 8  # few, so that most transactions take several pages


def welcome(**changes: Any) -> Welcome:
    """A plausible first message of the station."""
    values: dict[str, Any] = {
        "protocol": 1,
        "boot_id": "boot-1",
        "boot_cause": "PowerUp",
        "software_version": "0.1.0",
        "identity": "CP-1",
        "vendor": "Example",
        "model": "Bench",
        "serial": "S-0001",
        "evses": (1, 2),
        "settings": {},
        "head_seq": 0,
    }
    return Welcome(**values | changes)


def sample(context: SampleContext, at_ms: int, energy_mwh: int, **changes: Any) -> Sample:
    """A reading of a three-phase meter at ``at_ms``."""
    values: dict[str, Any] = {
        "power_mw": 11_040_500,
        "voltage_mv": (230_100, 229_900, 230_000),
        "current_ma": (16_000, 15_990, 16_010),
        "offered_current_ma": 16_000,
        "frequency_mhz": 50_010,
    }
    return Sample(context, at_ms, "M-1", energy_mwh, **values | changes)


@dataclass
class FakeStation:
    """Implements ``agent.ipc.port.StationPort``. Public fields are for tests to set and to read."""

    ledger: list[Record] = field(default_factory=list)
    delivered_seq: int = 0
    csms_txs: dict[str, CsmsTx] = field(default_factory=dict)
    listener: Callable[[News], Awaitable[None]] | None = None
    outcomes: dict[type, CommandAnswer] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    verdicts: list[tuple[Token, TokenVerdict, int | None, str | None]] = field(default_factory=list)
    presented: list[tuple[Token, int]] = field(default_factory=list)
    link_states: list[tuple[bool, str | None]] = field(default_factory=list)
    uptime_ms: int = 0  # monotonic time at which the next clock comes
    clocks: list[int] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    writes: list[SettingWrite] = field(default_factory=list)
    write_status: Callable[[SettingWrite], str] = field(default=lambda _write: "Accepted")
    key_text: Callable[[SettingWrite], str] = field(default=lambda write: f"{write.component}.{write.variable}")
    profiles: list[tuple[int, dict[str, Any], str]] = field(default_factory=list)
    profile_answer: ProfileAnswer = field(default_factory=lambda: ProfileAnswer(ProfileOutcome.ACCEPTED))
    cleared: list[dict[str, Any]] = field(default_factory=list)
    cleared_by: list[str] = field(default_factory=list)
    schedule: CompositeSchedule | None = None
    installed_certificates: list[InstalledCertificate] = field(default_factory=list)
    certificates_asked: list[tuple[CertificateUse | CertificateHash, str]] = field(default_factory=list)
    install_answer: InstallAnswer = field(default_factory=lambda: InstallAnswer(InstallStatus.ACCEPTED))
    delete_answer: DeleteAnswer = field(default_factory=lambda: DeleteAnswer(DeleteStatus.ACCEPTED))
    cache_enabled: bool = True
    report_rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    security_events: list[tuple[str, str]] = field(default_factory=list)
    passwords_that_worked: list[str] = field(default_factory=list)
    tariff_status: str = "Accepted"
    tariff_assignments: list[TariffAssignment] = field(default_factory=list)
    tariffs_told: list[tuple[int | str, str]] = field(default_factory=list)  # (EVSE or transaction, JSON)
    limit_status: str = "Accepted"
    limits: list[tuple[str, str | None, int | None, int | None]] = field(default_factory=list)
    limits_of_technicians: int = 0
    costs: list[ToldCost] = field(default_factory=list)
    prices: list[tuple[Token | None, str]] = field(default_factory=list)
    update_requests: list[UpdateRequest] = field(default_factory=list)
    update_answer: UpdateAnswer = field(default_factory=lambda: UpdateAnswer(UpdateOutcome.ACCEPTED))
    firmware: FirmwareStatus = field(default_factory=lambda: FirmwareStatus("Idle", None, UpdateVia.PLAIN))
    fetch_reports: list[FetchReport] = field(default_factory=list)
    receipt_lines: list[ReceiptLine] = field(default_factory=list)
    receipt_texts: dict[tuple[str, str], str] = field(default_factory=dict)  # by transaction and form
    usage_hours: list[UsageHour] = field(default_factory=list)
    parts: list[PartHealth] = field(default_factory=list)
    reported: dict[str, list[PartHealth]] = field(default_factory=dict)  # by process
    network_profiles: list[tuple[int, NetworkProfile]] = field(default_factory=list)
    network_refusal: str = ""
    networks_that_worked: list[int] = field(default_factory=list)
    monitors_set: list[Monitor] = field(default_factory=list)
    monitor_writes: list[MonitorWrite] = field(default_factory=list)
    monitor_answer: Callable[[MonitorWrite], MonitorAnswer] = field(
        default=lambda write: MonitorAnswer(SetMonitorStatus.ACCEPTED, write.id or 1)
    )
    monitors_cleared: list[int] = field(default_factory=list)
    clear_answers: dict[int, ClearMonitorStatus] = field(default_factory=dict)
    monitoring_told: list[str | int] = field(default_factory=list)  # bases and levels
    customer_requests: list[CustomerRequest] = field(default_factory=list)
    customer_words: str = ""
    records_asked_max: int = 0  # the largest page anyone wanted
    _rows_of: dict[str, list[int]] = field(default_factory=dict)

    # -------------------------------------------------------------------------- what tests do to it

    async def tell(self, news: News) -> None:
        """Tell one news item to whoever listens."""
        if self.listener is not None:
            await self.listener(news)

    async def append(self, *facts: Fact, clock_offset_ms: int = T0_MS, trusted: bool = True) -> None:
        """Append rows, at the time of their last sample. ``trusted`` False: with a clock that was never set."""
        for fact in facts:
            seq = self.ledger[-1].seq + 1 if self.ledger else 1
            samples = getattr(fact, "samples", ()) or tuple(filter(None, (getattr(fact, "sample", None),)))
            at_ms = samples[-1].at_ms if samples else 0
            record = Record(seq, kind_of(fact), fact, clock_offset_ms + at_ms, clock_offset_ms, trusted)
            self.ledger.append(record)
            if (tx_id := getattr(fact, "tx_id", None)) is not None:
                self._rows_of.setdefault(tx_id, []).append(seq)
        await self.tell(RowsAppended(self.ledger[-1].seq))

    async def show(self, evse: int, state: ConnectorState, *faults: FaultCode, wall_ms: int = T0_MS) -> None:
        """A connector changes its state."""
        await self.tell(ConnectorChanged(ConnectorStatus(evse, state, faults, wall_ms)))

    async def set(self, key: str, value: str) -> None:
        """A setting changes, by its key text."""
        self.settings[key] = value
        await self.tell(SettingsChanged({key: value}))

    # --------------------------------------------------------------------------------- StationPort

    async def command(self, command: Command) -> CommandAnswer:
        self.commands.append(command)
        return self.outcomes.get(type(command), CommandAnswer(Outcome.ACCEPTED))

    async def records(self, after_seq: int, limit: int) -> list[Record]:
        await asyncio.sleep(0)  # as over a socket: others get their turn
        self.records_asked_max = max(self.records_asked_max, limit)
        # Rows count from 1 without gaps.
        return self.ledger[after_seq : after_seq + limit]

    async def transaction(self, tx_id: str, after_seq: int = 0, *, newest: bool = False) -> list[Record]:
        rows = [self.ledger[seq - 1] for seq in self._rows_of.get(tx_id, ()) if seq > after_seq]
        return rows[-TX_PAGE_ROWS:] if newest else rows[:TX_PAGE_ROWS]

    async def security_records(self, after_seq: int, limit: int) -> list[Record]:
        return [row for row in self.ledger[after_seq:] if row.kind == "security"][:limit]

    async def progress(self) -> Progress:
        return Progress(self.delivered_seq, tuple(self.csms_txs.values()), len(self.ledger) - self.delivered_seq)

    async def delivered(self, seq: int, csms_tx: CsmsTx | None = None) -> None:
        assert seq >= self.delivered_seq, "the cursor never moves back"
        newly_delivered = self.ledger[self.delivered_seq : seq]
        self.delivered_seq = seq
        if csms_tx is not None:
            self.csms_txs[csms_tx.tx_id] = csms_tx
        for record in newly_delivered:
            if isinstance(record.fact, TransactionFact) and record.fact.kind is TxKind.ENDED:
                self.csms_txs.pop(record.fact.tx_id, None)

    async def token_verdict(
        self, token: Token, verdict: TokenVerdict, *, request_id: int | None = None, tx_id: str | None = None
    ) -> None:
        self.verdicts.append((token, verdict, request_id, tx_id))

    async def present_token(self, token: Token, evse: int) -> str:
        self.presented.append((token, evse))
        return "noted"

    async def link_state(self, online: bool, dialect: str | None, csms_url: str = "") -> None:
        self.link_states.append((online, dialect))

    async def password_worked(self, shown: str) -> None:
        self.passwords_that_worked.append(shown)

    async def clock(self, wall_ms: int) -> None:
        """Rows of this boot made without a clock get their time now, counted back from this instant."""
        self.clocks.append(wall_ms)
        offset_ms = wall_ms - self.uptime_ms
        for index, record in enumerate(self.ledger):
            if not record.trusted_time:
                at_ms = record.wall_ms - record.clock_offset_ms
                self.ledger[index] = replace(
                    record, wall_ms=offset_ms + at_ms, clock_offset_ms=offset_ms, trusted_time=True
                )

    async def set_settings(self, writes: list[SettingWrite]) -> list[str]:
        self.writes.extend(writes)
        statuses = [self.write_status(write) for write in writes]
        for write, status in zip(writes, statuses, strict=True):
            if status in ("Accepted", "RebootRequired"):
                await self.set(self.key_text(write), write.value)
        return statuses

    async def read_settings(self, reads: list[SettingWrite]) -> list[tuple[str, str | None]]:
        found = [self.settings.get(self.key_text(read)) for read in reads]
        return [("UnknownVariable", None) if value is None else ("Accepted", value) for value in found]

    async def report(self, base: str) -> list[dict[str, Any]] | None:
        return self.report_rows.get(base)

    async def set_network_profile(self, slot: int, profile: NetworkProfile) -> str:
        self.network_profiles.append((slot, profile))
        return self.network_refusal

    async def network_worked(self, slot: int) -> None:
        self.networks_that_worked.append(slot)

    async def monitors(self) -> list[Monitor]:
        return self.monitors_set

    async def set_monitors(self, writes: list[MonitorWrite]) -> list[MonitorAnswer]:
        self.monitor_writes += writes
        return [self.monitor_answer(write) for write in writes]

    async def clear_monitors(self, ids: list[int]) -> list[ClearMonitorStatus]:
        self.monitors_cleared += ids
        return [self.clear_answers.get(monitor_id, ClearMonitorStatus.ACCEPTED) for monitor_id in ids]

    async def set_monitoring_base(self, base: str) -> str:
        self.monitoring_told.append(base)
        return "Accepted"

    async def set_monitoring_level(self, severity: int) -> str:
        self.monitoring_told.append(severity)
        return "Accepted" if severity in range(10) else "Rejected"

    async def customer_information(self, request: CustomerRequest) -> str:
        self.customer_requests.append(request)
        return self.customer_words

    async def certificates(self) -> list[InstalledCertificate]:
        return self.installed_certificates

    async def install_certificate(self, use: CertificateUse, pem: str) -> InstallAnswer:
        self.certificates_asked.append((use, pem))
        return self.install_answer

    async def delete_certificate(self, wanted: CertificateHash, in_use: str) -> DeleteAnswer:
        self.certificates_asked.append((wanted, in_use))
        return self.delete_answer

    async def clear_cache(self) -> bool:
        return self.cache_enabled

    async def install_profile(self, evse: int, profile: dict[str, Any], rules: str) -> ProfileAnswer:
        self.profiles.append((evse, profile, rules))
        return self.profile_answer

    async def clear_profiles(self, criteria: dict[str, Any], who: str = "") -> ProfileAnswer:
        self.cleared.append(criteria)
        self.cleared_by.append(who)
        return self.profile_answer

    async def composite_schedule(self, evse: int, duration_s: int, unit: str | None) -> CompositeSchedule | None:
        return self.schedule

    async def set_default_tariff(self, evse: int, tariff: str) -> str:
        self.tariffs_told.append((evse, tariff))
        return self.tariff_status

    async def tariffs(self, evse: int) -> list[TariffAssignment]:
        return [each for each in self.tariff_assignments if evse in (0, each.evse)]

    async def clear_tariffs(self, tariff_ids: list[str], evse: int | None, who: str = "") -> list[tuple[str, str]]:
        self.cleared_by += [who] if who else []
        wanted = tariff_ids or [each.tariff_id for each in self.tariff_assignments]
        return [(tariff_id, "Accepted") for tariff_id in wanted]

    async def change_tariff(self, tx_id: str, tariff: str) -> str:
        self.tariffs_told.append((tx_id, tariff))
        return self.tariff_status

    async def limit_transaction(
        self,
        tx_id: str,
        max_cost: str | None,
        max_energy_wh: int | None,
        max_time_s: int | None,
        *,
        technician: bool = False,
    ) -> str:
        self.limits.append((tx_id, max_cost, max_energy_wh, max_time_s))
        self.limits_of_technicians += technician
        return self.limit_status

    async def told_cost(self, told: ToldCost) -> None:
        self.costs.append(told)

    async def told_price(self, token: Token | None, text: str) -> None:
        self.prices.append((token, text))

    async def acknowledge_damage(self) -> bool:
        return False

    async def security_event(self, event_type: str, tech_info: str) -> None:
        self.security_events.append((event_type, tech_info))

    async def receipts(self, limit: int, before_seq: int | None) -> list[ReceiptLine]:
        return [line for line in self.receipt_lines if before_seq is None or line.seq < before_seq][:limit]

    async def receipt(self, tx_id: str, form: str) -> str:
        return self.receipt_texts.get((tx_id, form), "")

    async def update_firmware(self, request: UpdateRequest) -> UpdateAnswer:
        self.update_requests.append(request)
        return self.update_answer

    async def install_staged(self) -> str:
        return "noted"

    async def fetch_report(self, report: FetchReport) -> None:
        self.fetch_reports.append(report)

    async def firmware_status(self) -> FirmwareStatus:
        return self.firmware

    async def usage(self, first_hour: int, hours: int, evse: int | None) -> list[UsageHour]:
        found = [row for row in self.usage_hours if first_hour <= row.hour < first_hour + hours]
        return [row for row in found if evse in (None, row.evse)]

    async def status(self) -> StationStatus:
        return StationStatus("CP-1", "boot-1", "0.1.0", 0, True, None, T0_MS, "S", len(self.ledger), self.delivered_seq)

    async def health(self) -> list[PartHealth]:
        return self.parts

    async def report_parts(self, process: str, parts: list[PartHealth]) -> None:
        self.reported[process] = parts

    async def statistics(self) -> StationStatistics:
        waiting = len(self.ledger) - self.delivered_seq
        oldest_ms = self.ledger[self.delivered_seq].wall_ms if waiting else None
        ledger = LedgerStatistics(len(self.ledger), len(self.ledger), 4_096, waiting, oldest_ms)
        return StationStatistics(ProcessStatistics(), (), (), (), ledger, 1_000_000_000, 4_000_000_000)


def ocmf(*letters: str, pad: int = 0) -> str:
    """A signed record with one reading per TX letter, in form only; ``pad`` characters longer."""
    readings = [
        {"TM": f"2026-11-24T08:0{minute}:00,000+0000 S", "TX": letter, "RV": minute, "RU": "kWh", "ST": "G"}
        for minute, letter in enumerate(letters)
    ]
    payload = {"FV": "1.3", "PG": "T1", "MS": "M-1", "IS": True, "TT": "x" * pad, "RD": readings}
    return f"OCMF|{json.dumps(payload)}|{json.dumps({'SA': 'ECDSA-secp256r1-SHA256', 'SD': '3044'})}"


def signed_facts(tx_id: str, *whole: str, begin: str = "", **more: Any) -> tuple[Fact, ...]:
    """``session_facts`` with signed records and receipt where the station puts them."""
    first, *middle, last = session_facts(tx_id, **more)
    begins = [SignedFact(tx_id, first.evse, begin)] if begin else []
    ends = [SignedFact(tx_id, first.evse, record) for record in whole]
    return first, *begins, *middle, *ends, last, ReceiptFact(tx_id, first.evse, "{}")


def session_facts(
    tx_id: str,
    *,
    evse: int = 1,
    start_ms: int = 0,
    begin_mwh: int = 1_000_900,
    periodic: int = 1,
    offline: bool = False,
) -> tuple[TransactionFact, ...]:
    """One whole transaction: Started, a state change, ``periodic`` readings of a minute each, Ended.

    1.5 kWh more per reading; the end reading comes a minute after the last."""

    def fact(kind: TxKind, seq_no: int, trigger: Trigger, state: ChargingState, **more: Any) -> TransactionFact:
        return TransactionFact(kind, tx_id, seq_no, evse, trigger, state, offline, **more)

    begin = sample(SampleContext.BEGIN, start_ms, begin_mwh)
    facts = [
        fact(TxKind.STARTED, 0, Trigger.AUTHORIZED, ChargingState.EV_CONNECTED, samples=(begin,), token=TOKEN),
        fact(TxKind.UPDATED, 1, Trigger.CHARGING_STATE_CHANGED, ChargingState.CHARGING),
    ]
    for number in range(1, periodic + 1):
        reading = sample(SampleContext.PERIODIC, start_ms + number * 60_000, begin_mwh + number * 1_500_000)
        facts.append(
            fact(TxKind.UPDATED, number + 1, Trigger.METER_VALUE_PERIODIC, ChargingState.CHARGING, samples=(reading,))
        )
    end = sample(SampleContext.END, start_ms + (periodic + 1) * 60_000, begin_mwh + (periodic + 1) * 1_500_000)
    facts.append(
        fact(
            TxKind.ENDED,
            periodic + 2,
            Trigger.STOP_AUTHORIZED,
            ChargingState.EV_CONNECTED,
            samples=(end,),
            token=TOKEN,
            stopped_reason=StopReason.LOCAL,
        )
    )
    return tuple(facts)
