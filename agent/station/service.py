"""The station as others see it: ``StationPort`` on logic, ledger and settings.

Charter: every request from the gateway or the command line ends here. A change is durable before it
is confirmed. Nothing here touches a device; that is the shell's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from agent.charging.profiles import RateUnit
from agent.charging.records import (
    MalformedRecord,
    criteria_from_plain,
    profile_from_plain,
    set_to_plain,
)
from agent.charging.rules import Rules
from agent.charging.store import ProfileSet
from agent.config.catalogue import key
from agent.config.device_model import DeviceModel
from agent.core.commands import WHO_MAX_CHARS, ChangeAvailability, Command, RemoteStart
from agent.core.events import ClockSet, Commanded, Event, LinkChanged
from agent.core.facts import Fact, LogEntry, LogFact, SecurityFact, Token, UpdateVia
from agent.core.status import Outcome
from agent.health.model import PartHealth
from agent.ipc.certificates import CertificateUse, DeleteAnswer, InstallAnswer, InstalledCertificate
from agent.ipc.monitors import ClearMonitorStatus, CustomerRequest, Monitor, MonitorAnswer, MonitorWrite
from agent.ipc.networks import NetworkProfile
from agent.ipc.port import (
    CommandAnswer,
    CsmsTx,
    News,
    Progress,
    Record,
    SettingWrite,
    StationStatus,
    TariffAssignment,
    TokenVerdict,
    ToldCost,
)
from agent.ipc.profiles import CompositeSchedule, ProfileAnswer, ProfileOutcome, SchedulePeriod
from agent.ipc.receipts import ReceiptLine
from agent.ipc.statistics import StationStatistics
from agent.ipc.updates import FetchReport, FirmwareStatus, UpdateAnswer, UpdateOutcome, UpdateRequest
from agent.ledger.rows import ID_MAX_CHARS
from agent.ledger.side_records import PutWitness
from agent.ledger.state import Delete, Namespace, Put, StateChange, fits
from agent.security.roots import CertificateHash
from agent.station.allowed_rows import AllowedRows
from agent.station.archive import CURSOR, Archive, csms_tx_text
from agent.station.build import Build
from agent.station.customer import Customers
from agent.station.first_csms import ACCEPTED_BY, accepted_by, same_csms
from agent.station.health import StationHealth
from agent.station.logic import Logic, PricesChanged, ProfilesChanged
from agent.station.money import Money
from agent.station.monitoring import Monitoring
from agent.station.networks import Networks
from agent.station.prepaid import TECHNICIAN
from agent.station.receipts import Receipts
from agent.station.settings import Settings
from agent.station.tokens import Tokens
from agent.station.trust import Trust
from agent.station.usage import Usage
from agent.usage.model import UsageHour

if TYPE_CHECKING:
    from agent.station.updates import Updates

_THAT_WORKED = "that worked"
_PASSWORD_MAX_CHARS = 512  # hex of 64 characters in UTF-8
_DIALECT_MAX_CHARS = 20
_CLOCK_MAX_MS = 253_370_764_800_000  # year 9999, so that no zone leads out of the calendar
_CLOCK_REPORTED = key("ClockCtrlr.TimeAdjustmentReportingThreshold")
_CLOCK_TOLERANCE_MS = 1_000  # the CSMS's answer travelled; less than this is no news
log = structlog.get_logger("station")


class Shell(Protocol):
    """What the service needs of the process around it."""

    def give(self, event: Event | ProfilesChanged | PricesChanged) -> None: ...

    def now_ms(self) -> int: ...

    def publish(self, news: News) -> None: ...

    async def save(self, changes: Sequence[StateChange | PutWitness]) -> None:
        """Returns when the changes are durable."""
        ...

    def save_lazily(self, changes: Sequence[StateChange | PutWitness]) -> None: ...

    async def availability_saved(self) -> None:
        """Returns when the availability that the core has set is durable: nobody may count on it before."""
        ...

    async def acknowledge_damage(self) -> bool: ...

    def alarm(self) -> str:
        """What is wrong with the ledger or its disk, in plain words."""
        ...

    def statistics(self) -> StationStatistics: ...

    def append(self, *facts: Fact, on_durable: Callable[[], None] | None = None) -> None:
        """Facts that do not come from the logic."""
        ...

    def commit(
        self, facts: Sequence[Fact], changes: Sequence[StateChange], on_durable: Callable[[], None] | None = None
    ) -> None:
        """Facts and changes in one commit."""
        ...


class StationService:
    """Answers requests. All methods run in the station's event loop."""

    def __init__(
        self,
        build: Build,
        logic: Logic,
        tokens: Tokens,
        archive: Archive,
        model: DeviceModel,
        updates: Updates | None,
        usage: Usage,
        health: StationHealth,
        shell: Shell,
    ) -> None:
        self._build = build
        self._logic = logic
        self._tokens = tokens
        self._archive = archive
        self._model = model
        self._updates = updates
        self._usage = usage
        self._health = health
        self._shell = shell
        self._command_ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[CommandAnswer]] = {}
        self._receipts = Receipts(archive)
        self._rows = AllowedRows(logic.core, shell.append)
        self._money = Money(logic.core, logic.billing, model, shell, archive.costs_told, self._rows.append)
        self.monitoring = Monitoring(build.config, model, logic.core, archive, shell, lambda: self._settings.refresh())
        kept_roots = archive.state(Namespace.CERTIFICATE)
        self.trust = Trust(build.config, model, kept_roots, shell, self._known_wall_ms, self._rows.append)
        turn = asyncio.Lock()
        self._networks = Networks(build.config, model, lambda: self.trust.pems != (), shell, turn)
        self._settings = Settings(
            build.config, model, logic.core, tokens, self.monitoring, self._networks, shell, self._wall_ms, turn
        )
        self._customers = Customers(archive, tokens, self._money, logic.core)
        self._dialect: str | None = None
        self.delivered_seq = archive.delivered_seq()
        self._accepting = asyncio.Lock()
        self._accepted_by = archive.state(Namespace.CURSOR).get(ACCEPTED_BY, "")
        self.password_that_worked = archive.state(Namespace.PASSWORD).get(_THAT_WORKED, "")

    # ------------------------------------------------------------------------------------ commands

    async def command(self, command: Command) -> CommandAnswer:
        if isinstance(command, RemoteStart):
            if reason := self._wrong_profile(command):
                return CommandAnswer(Outcome.REJECTED, reason=reason)
            if self._tokens.is_master_pass(command.group):
                return CommandAnswer(Outcome.REJECTED, reason="a master pass only stops")  # C16
            if self._tokens.remote_needs_check():
                return self._tokens.remote_start(command)
            if command.group is None:  # its price and its limits are those of the card
                command = replace(command, group=self._tokens.group_of(command.token))
        command_id = next(self._command_ids)
        future: asyncio.Future[CommandAnswer] = asyncio.get_running_loop().create_future()
        self._answers[command_id] = future
        self._shell.give(Commanded(command_id, command))
        try:
            answer = await future
        finally:
            self._answers.pop(command_id, None)
        if isinstance(command, ChangeAvailability):
            await self._shell.availability_saved()
        return answer

    def _wrong_profile(self, command: RemoteStart) -> str:
        """Why the profile that comes with a start cannot hold (F01); empty: it can, or there is none."""
        if command.profile is None:
            return ""
        if command.evse is None:
            return "without an EVSE there is nothing to bind a profile to"
        try:
            rules, limits = Rules(command.rules), self._logic.limits
            refusal = limits.judge_start(command.profile, command.evse, rules, self._wall_ms())
        except ValueError as error:
            return str(error)
        return "" if refusal is None else str(refusal)

    def answered(self, command_id: int, outcome: Outcome, tx_id: str | None) -> None:
        """The core has answered a command."""
        future = self._answers.get(command_id)
        if future is not None and not future.done():
            future.set_result(CommandAnswer(outcome, tx_id))

    # ---------------------------------------------------------------------------------- monitoring

    async def monitors(self) -> list[Monitor]:
        return self.monitoring.monitors()

    async def set_monitors(self, writes: list[MonitorWrite]) -> list[MonitorAnswer]:
        return await self.monitoring.set(writes)

    async def clear_monitors(self, ids: list[int]) -> list[ClearMonitorStatus]:
        return await self.monitoring.clear(ids)

    async def set_monitoring_base(self, base: str) -> str:
        return await self.monitoring.set_base(base)

    async def set_monitoring_level(self, severity: int) -> str:
        return await self.monitoring.set_level(severity)

    async def customer_information(self, request: CustomerRequest) -> str:
        return await self._customers.answer(request)

    # -------------------------------------------------------------------------------- certificates

    async def certificates(self) -> list[InstalledCertificate]:
        return self.trust.certificates()

    async def install_certificate(self, use: CertificateUse, pem: str) -> InstallAnswer:
        return await self.trust.install(use, pem)

    async def delete_certificate(self, wanted: CertificateHash, in_use: str) -> DeleteAnswer:
        return await self.trust.delete(wanted, in_use)

    # -------------------------------------------------------------------------------------- ledger

    async def records(self, after_seq: int, limit: int) -> list[Record]:
        return self._archive.records(after_seq, limit)

    async def transaction(self, tx_id: str, after_seq: int = 0, *, newest: bool = False) -> list[Record]:
        return self._archive.transaction(tx_id, after_seq, newest=newest)

    async def security_records(self, after_seq: int, limit: int) -> list[Record]:
        return self._archive.security_records(after_seq, limit)

    async def progress(self) -> Progress:
        return self._archive.progress()

    async def delivered(self, seq: int, csms_tx: CsmsTx | None = None) -> None:
        self.delivered_seq = max(self.delivered_seq, seq)
        changes: list[StateChange | PutWitness] = [Put(Namespace.CURSOR, CURSOR, str(self.delivered_seq))]
        if (end := self._archive.end_at(seq)) is not None and end.tx_id is not None:
            # The CSMS knows this row's transaction: a ledger that lost it later is found out.
            changes.append(PutWitness(seq, end.hash, "csms", self._wall_ms()))
            changes.append(Delete(Namespace.CSMS_TX, end.tx_id))
        if csms_tx is None or len(csms_tx.tx_id) > ID_MAX_CHARS or not fits(csms_tx.tx_id):  # no transaction of ours
            self._shell.save_lazily(changes)
            return
        await self._shell.save([*changes, Put(Namespace.CSMS_TX, csms_tx.tx_id, csms_tx_text(csms_tx))])

    # -------------------------------------------------------------------------------- CSMS's words

    async def token_verdict(
        self, token: Token, verdict: TokenVerdict, *, request_id: int | None = None, tx_id: str | None = None
    ) -> None:
        self._tokens.verdict(token, verdict, request_id=request_id, tx_id=tx_id)

    async def present_token(self, token: Token, evse: int) -> str:
        return self._tokens.present(token, evse)

    async def link_state(self, online: bool, dialect: str | None, csms_url: str = "") -> None:
        self._dialect = dialect[:_DIALECT_MAX_CHARS] if online and dialect is not None else None
        self._tokens.link(online, dialect)
        self.monitoring.link(self._dialect)
        self._shell.give(LinkChanged(online))
        if not online or not csms_url or not fits(ACCEPTED_BY, csms_url):
            return
        async with self._accepting:  # one that comes while another is being kept goes by what that leaves
            if not same_csms(csms_url, self._accepted_by):
                await self._shell.save(accepted_by(csms_url, self._accepted_by, self._archive, self.delivered_seq))
                self._accepted_by = csms_url

    async def password_worked(self, shown: str) -> None:
        if shown != self.password_that_worked and len(shown) <= _PASSWORD_MAX_CHARS and fits(_THAT_WORKED, shown):
            await self._shell.save([Put(Namespace.PASSWORD, _THAT_WORKED, shown)])
            self.password_that_worked = shown

    async def clock(self, wall_ms: int) -> None:
        if not 0 <= wall_ms <= _CLOCK_MAX_MS:
            log.warning("clock not taken", source="CSMS", wall_ms=wall_ms)
            return
        ctx, clock = self._logic.core.ctx, self._logic.core.clock
        now_ms = self._shell.now_ms()
        off_ms = abs(wall_ms - (now_ms + ctx.wall_offset_ms))
        if ctx.time_status != "S" or off_ms > _CLOCK_TOLERANCE_MS or clock.row_is_due():
            known = ctx.time_status != "U"
            self._shell.give(ClockSet(wall_ms, "CSMS", trusted=True))
            if known and off_ms > self._model.integer(_CLOCK_REPORTED) * 1_000:
                self._rows.append(SecurityFact("SettingSystemTime", f"by {off_ms // 1_000} s, as the CSMS tells"))
            await self._shell.save([])  # what came before this is told with the right time once the clock is on disk

    # ------------------------------------------------------------------------------------ settings

    async def set_settings(self, writes: list[SettingWrite]) -> list[str]:
        return await self._settings.set(writes, self._dialect)

    async def read_settings(self, reads: list[SettingWrite]) -> list[tuple[str, str | None]]:
        return self._settings.read(reads)

    async def report(self, base: str) -> list[dict[str, Any]] | None:
        return self._settings.report(base)

    async def set_network_profile(self, slot: int, profile: NetworkProfile) -> str:
        return await self._networks.store(slot, profile, self._dialect)

    async def network_worked(self, slot: int) -> None:
        await self._networks.worked(slot)

    async def clear_cache(self) -> bool:
        return await self._tokens.clear_cache()

    # ------------------------------------------------------------------------------------ profiles

    async def install_profile(self, evse: int, profile: dict[str, Any], rules: str) -> ProfileAnswer:
        try:
            parsed = profile_from_plain(profile)
            refusal = self._logic.limits.install(parsed, evse, Rules(rules), self._logic.running(), self._wall_ms())
        except (MalformedRecord, ValueError) as error:
            return ProfileAnswer(ProfileOutcome.REJECTED, str(error))
        if refusal is not None:
            return ProfileAnswer(ProfileOutcome.REJECTED, str(refusal))
        await self._profiles_changed()
        return ProfileAnswer(ProfileOutcome.ACCEPTED)

    async def clear_profiles(self, criteria: dict[str, Any], who: str = "") -> ProfileAnswer:
        try:
            wanted = criteria_from_plain(criteria)
        except MalformedRecord as error:
            return ProfileAnswer(ProfileOutcome.REJECTED, str(error))
        if not self._logic.limits.clear(wanted):
            return ProfileAnswer(ProfileOutcome.UNKNOWN)
        if who:
            self._shell.append(LogFact(LogEntry.PROFILES_CLEARED, details=(("by", who[:WHO_MAX_CHARS]),)))
        await self._profiles_changed()
        return ProfileAnswer(ProfileOutcome.ACCEPTED)

    async def _profiles_changed(self) -> None:
        """The limits hold at once; the change is confirmed when it is durable."""
        self._shell.give(ProfilesChanged())
        await self._shell.save([profiles_change(self._logic.limits.profiles)])

    async def composite_schedule(self, evse: int, duration_s: int, unit: str | None) -> CompositeSchedule | None:
        if unit not in (None, *RateUnit):
            return None
        schedule = self._logic.limits.composite(
            evse,
            duration_s,
            RateUnit(unit or "A"),
            self._logic.running(),
            self._wall_ms(),
            clock_known=self._logic.clock_known,
        )
        if schedule is None:
            return None
        periods = tuple(SchedulePeriod(p.start_s, p.limit_tenths, p.number_phases) for p in schedule.periods)
        return CompositeSchedule(schedule.start_ms, schedule.duration_s, schedule.unit.value, periods)

    # --------------------------------------------------------------------------------------- money

    def look(self) -> None:
        """After every event."""
        self._money.look()

    async def set_default_tariff(self, evse: int, tariff: str) -> str:
        return await self._money.set_default(evse, tariff)

    async def tariffs(self, evse: int) -> list[TariffAssignment]:
        return self._money.assignments(evse)

    async def clear_tariffs(self, tariff_ids: list[str], evse: int | None, who: str = "") -> list[tuple[str, str]]:
        return await self._money.clear(tariff_ids, evse, who)

    async def change_tariff(self, tx_id: str, tariff: str) -> str:
        return await self._money.change(tx_id, tariff)

    async def limit_transaction(
        self,
        tx_id: str,
        max_cost: str | None,
        max_energy_wh: int | None,
        max_time_s: int | None,
        *,
        technician: bool = False,
    ) -> str:
        source = TECHNICIAN if technician else "told"
        return await self._money.limit(tx_id, max_cost, max_energy_wh, max_time_s, source)

    async def told_cost(self, told: ToldCost) -> None:
        self._money.told_cost(told)

    async def told_price(self, token: Token | None, text: str) -> None:
        self._money.told_price(token, text)

    # ------------------------------------------------------------------------------------- updates

    async def update_firmware(self, request: UpdateRequest) -> UpdateAnswer:
        if self._updates is None:
            return UpdateAnswer(UpdateOutcome.NOT_SUPPORTED, "this station is configured without updates")
        return await self._updates.request(request)

    async def install_staged(self) -> str:
        if self._updates is None:
            return "this station is configured without updates"
        return await self._updates.install_staged()

    async def fetch_report(self, report: FetchReport) -> None:
        if self._updates is not None:
            await self._updates.report(report)

    async def firmware_status(self) -> FirmwareStatus:
        return FirmwareStatus("Idle", None, UpdateVia.PLAIN) if self._updates is None else self._updates.status()

    # --------------------------------------------------------------------------------------- other

    async def acknowledge_damage(self) -> bool:
        return await self._shell.acknowledge_damage()

    async def security_event(self, event_type: str, tech_info: str) -> None:
        self._rows.append(SecurityFact(event_type[:50], tech_info[:255]))

    async def receipts(self, limit: int, before_seq: int | None) -> list[ReceiptLine]:
        return self._receipts.lines(limit, before_seq)

    async def receipt(self, tx_id: str, form: str) -> str:
        return await self._receipts.receipt(tx_id, form)

    async def usage(self, first_hour: int, hours: int, evse: int | None) -> list[UsageHour]:
        return await self._usage.hours(first_hour, hours, evse)

    async def health(self) -> list[PartHealth]:
        return self._health.parts()

    async def report_parts(self, process: str, parts: list[PartHealth]) -> None:
        self._health.take_report(process, parts)

    async def status(self) -> StationStatus:
        ctx = self._logic.core.ctx
        return StationStatus(
            identity=self._build.config.station.identity,
            boot_id=self._build.boot_id,
            software_version=self._build.software_version,
            uptime_ms=self._shell.now_ms() - self._build.started_at_ms,
            online=ctx.online,
            dialect=self._dialect,
            wall_ms=self._wall_ms(),
            time_status=ctx.time_status,
            head_seq=self._archive.head_seq(),
            delivered_seq=self.delivered_seq,
            evses=(views := self._logic.core.views()),
            prices=self._money.views(views),
            alarm=self._shell.alarm(),
            firmware_version=self._build.firmware_version,
            update=None if self._updates is None else self._updates.view(),
        )

    async def statistics(self) -> StationStatistics:
        return self._shell.statistics()

    def _known_wall_ms(self) -> int | None:
        return None if self._logic.core.ctx.time_status == "U" else self._wall_ms()

    def _wall_ms(self) -> int:
        return self._shell.now_ms() + self._logic.core.ctx.wall_offset_ms


def profiles_change(profiles: ProfileSet) -> Put:
    """All installed profiles as one value: they are small, and change together."""
    return Put(Namespace.PROFILE, "installed", json.dumps(set_to_plain(profiles), sort_keys=True))
