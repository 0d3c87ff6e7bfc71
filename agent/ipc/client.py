"""The other side of the local socket: the station, as if it were in this process.

Charter: implements ``StationPort`` over the socket. When the station is gone every call under way,
and every later one, raises ``StationLost``; the owner connects again. A call that is too large raises
``TooLarge``, one that the station cannot answer ``CodecError``; neither costs more than itself.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any, Protocol, cast

from agent.core.commands import Command
from agent.core.facts import Token
from agent.health.model import PartHealth
from agent.ipc.certificates import CertificateUse, DeleteAnswer, InstallAnswer, InstalledCertificate
from agent.ipc.codec import CodecError, from_plain, to_plain
from agent.ipc.monitors import ClearMonitorStatus, CustomerRequest, Monitor, MonitorAnswer, MonitorWrite
from agent.ipc.networks import NetworkProfile
from agent.ipc.port import (
    CommandAnswer,
    CsmsTx,
    News,
    Progress,
    Record,
    SettingWrite,
    StationLost,
    StationPort,
    StationStatus,
    TariffAssignment,
    TokenVerdict,
    ToldCost,
    Welcome,
)
from agent.ipc.profiles import CompositeSchedule, ProfileAnswer
from agent.ipc.receipts import ReceiptLine
from agent.ipc.server import METHODS
from agent.ipc.statistics import StationStatistics
from agent.ipc.updates import FetchReport, FirmwareStatus, UpdateAnswer, UpdateRequest
from agent.ipc.wire import MAX_CALL_BYTES, PROTOCOL, WireError, frame, read_message
from agent.security.roots import CertificateHash
from agent.usage.model import UsageHour

_MAX_NEWS = 10_000  # the station outruns us: start over rather than grow


class StationConnection(StationPort, Protocol):
    """A connection to the station, as ``RemoteStation`` is one: requests, and the station's news (None: it is gone)."""

    welcome: Welcome
    news: asyncio.Queue[News | None]

    async def close(self) -> None: ...


class RemoteStation:
    """A connection to the station process. ``welcome`` is what it said first; ``news`` what came since.

    ``news`` yields None once, when the station is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, welcome: Welcome) -> None:
        self.welcome = welcome
        self.news: asyncio.Queue[News | None] = asyncio.Queue()
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._lost = False
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, path: Path) -> RemoteStation:
        """Raises ``StationLost`` if nobody listens there, or speaks otherwise than we do."""
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise StationLost(f"station does not answer at {path}: {error}") from error
        try:
            return cls(reader, writer, _welcome(await read_message(reader), path))
        except WireError as error:
            writer.close()
            raise StationLost(f"station does not answer at {path}: {error}") from error
        except BaseException:
            writer.close()
            raise

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._fail()
        self._writer.close()

    async def _read(self) -> None:
        try:
            while (message := await read_message(self._reader)) is not None:
                self._take(message)
        except (WireError, CodecError):
            pass  # the same as gone: the owner reconnects
        self._fail()

    def _take(self, message: dict[str, Any]) -> None:
        if "news" in message:
            if self.news.qsize() >= _MAX_NEWS:
                raise WireError("news outran us")
            self.news.put_nowait(from_plain(message["news"], News))
            return
        number = message.get("answer")
        future = self._waiting.pop(number, None) if isinstance(number, int) else None
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(CodecError(str(message["error"])))
        else:
            future.set_result(message.get("value"))

    def _fail(self) -> None:
        if not self._lost:
            self._lost = True
            self.news.put_nowait(None)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(StationLost("station went away"))
        self._waiting.clear()

    async def _call(self, method: str, **arguments: Any) -> Any:
        if self._lost or self._writer.is_closing():
            raise StationLost("station is away")
        hints, number = METHODS[method], next(self._numbers)
        args = {name: to_plain(value, hints[name]) for name, value in arguments.items()}
        call = frame({"call": number, "method": method, "args": args}, MAX_CALL_BYTES)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.write(call)
        try:
            value = await future
        finally:
            self._waiting.pop(number, None)
        return from_plain(value, hints["return"]) if hints["return"] is not type(None) else None

    async def command(self, command: Command) -> CommandAnswer:
        return cast(CommandAnswer, await self._call("command", command=command))

    async def records(self, after_seq: int, limit: int) -> list[Record]:
        return cast(list[Record], await self._call("records", after_seq=after_seq, limit=limit))

    async def transaction(self, tx_id: str, after_seq: int = 0, *, newest: bool = False) -> list[Record]:
        return cast(list[Record], await self._call("transaction", tx_id=tx_id, after_seq=after_seq, newest=newest))

    async def security_records(self, after_seq: int, limit: int) -> list[Record]:
        return cast(list[Record], await self._call("security_records", after_seq=after_seq, limit=limit))

    async def progress(self) -> Progress:
        return cast(Progress, await self._call("progress"))

    async def delivered(self, seq: int, csms_tx: CsmsTx | None = None) -> None:
        await self._call("delivered", seq=seq, csms_tx=csms_tx)

    async def token_verdict(
        self, token: Token, verdict: TokenVerdict, *, request_id: int | None = None, tx_id: str | None = None
    ) -> None:
        await self._call("token_verdict", token=token, verdict=verdict, request_id=request_id, tx_id=tx_id)

    async def present_token(self, token: Token, evse: int) -> str:
        return cast(str, await self._call("present_token", token=token, evse=evse))

    async def link_state(self, online: bool, dialect: str | None, csms_url: str = "") -> None:
        await self._call("link_state", online=online, dialect=dialect, csms_url=csms_url)

    async def password_worked(self, shown: str) -> None:
        await self._call("password_worked", shown=shown)

    async def clock(self, wall_ms: int) -> None:
        await self._call("clock", wall_ms=wall_ms)

    async def set_settings(self, writes: list[SettingWrite]) -> list[str]:
        return cast(list[str], await self._call("set_settings", writes=writes))

    async def read_settings(self, reads: list[SettingWrite]) -> list[tuple[str, str | None]]:
        return cast(list[tuple[str, str | None]], await self._call("read_settings", reads=reads))

    async def report(self, base: str) -> list[dict[str, Any]] | None:
        return cast(list[dict[str, Any]] | None, await self._call("report", base=base))

    async def set_network_profile(self, slot: int, profile: NetworkProfile) -> str:
        return cast(str, await self._call("set_network_profile", slot=slot, profile=profile))

    async def network_worked(self, slot: int) -> None:
        await self._call("network_worked", slot=slot)

    async def monitors(self) -> list[Monitor]:
        return cast(list[Monitor], await self._call("monitors"))

    async def set_monitors(self, writes: list[MonitorWrite]) -> list[MonitorAnswer]:
        return cast(list[MonitorAnswer], await self._call("set_monitors", writes=writes))

    async def clear_monitors(self, ids: list[int]) -> list[ClearMonitorStatus]:
        return cast(list[ClearMonitorStatus], await self._call("clear_monitors", ids=ids))

    async def set_monitoring_base(self, base: str) -> str:
        return cast(str, await self._call("set_monitoring_base", base=base))

    async def set_monitoring_level(self, severity: int) -> str:
        return cast(str, await self._call("set_monitoring_level", severity=severity))

    async def customer_information(self, request: CustomerRequest) -> str:
        return cast(str, await self._call("customer_information", request=request))

    async def certificates(self) -> list[InstalledCertificate]:
        return cast(list[InstalledCertificate], await self._call("certificates"))

    async def install_certificate(self, use: CertificateUse, pem: str) -> InstallAnswer:
        return cast(InstallAnswer, await self._call("install_certificate", use=use, pem=pem))

    async def delete_certificate(self, wanted: CertificateHash, in_use: str) -> DeleteAnswer:
        return cast(DeleteAnswer, await self._call("delete_certificate", wanted=wanted, in_use=in_use))

    async def clear_cache(self) -> bool:
        return cast(bool, await self._call("clear_cache"))

    async def install_profile(self, evse: int, profile: dict[str, Any], rules: str) -> ProfileAnswer:
        return cast(ProfileAnswer, await self._call("install_profile", evse=evse, profile=profile, rules=rules))

    async def clear_profiles(self, criteria: dict[str, Any], who: str = "") -> ProfileAnswer:
        return cast(ProfileAnswer, await self._call("clear_profiles", criteria=criteria, who=who))

    async def composite_schedule(self, evse: int, duration_s: int, unit: str | None) -> CompositeSchedule | None:
        call = self._call("composite_schedule", evse=evse, duration_s=duration_s, unit=unit)
        return cast(CompositeSchedule | None, await call)

    async def set_default_tariff(self, evse: int, tariff: str) -> str:
        return cast(str, await self._call("set_default_tariff", evse=evse, tariff=tariff))

    async def tariffs(self, evse: int) -> list[TariffAssignment]:
        return cast(list[TariffAssignment], await self._call("tariffs", evse=evse))

    async def clear_tariffs(self, tariff_ids: list[str], evse: int | None, who: str = "") -> list[tuple[str, str]]:
        answer = await self._call("clear_tariffs", tariff_ids=tariff_ids, evse=evse, who=who)
        return cast(list[tuple[str, str]], answer)

    async def change_tariff(self, tx_id: str, tariff: str) -> str:
        return cast(str, await self._call("change_tariff", tx_id=tx_id, tariff=tariff))

    async def limit_transaction(
        self,
        tx_id: str,
        max_cost: str | None,
        max_energy_wh: int | None,
        max_time_s: int | None,
        *,
        technician: bool = False,
    ) -> str:
        limits = {"max_cost": max_cost, "max_energy_wh": max_energy_wh, "max_time_s": max_time_s}
        return cast(str, await self._call("limit_transaction", tx_id=tx_id, technician=technician, **limits))

    async def told_cost(self, told: ToldCost) -> None:
        await self._call("told_cost", told=told)

    async def told_price(self, token: Token | None, text: str) -> None:
        await self._call("told_price", token=token, text=text)

    async def acknowledge_damage(self) -> bool:
        return cast(bool, await self._call("acknowledge_damage"))

    async def security_event(self, event_type: str, tech_info: str) -> None:
        await self._call("security_event", event_type=event_type, tech_info=tech_info)

    async def receipts(self, limit: int, before_seq: int | None) -> list[ReceiptLine]:
        return cast(list[ReceiptLine], await self._call("receipts", limit=limit, before_seq=before_seq))

    async def receipt(self, tx_id: str, form: str) -> str:
        return cast(str, await self._call("receipt", tx_id=tx_id, form=form))

    async def update_firmware(self, request: UpdateRequest) -> UpdateAnswer:
        return cast(UpdateAnswer, await self._call("update_firmware", request=request))

    async def install_staged(self) -> str:
        return cast(str, await self._call("install_staged"))

    async def fetch_report(self, report: FetchReport) -> None:
        await self._call("fetch_report", report=report)

    async def firmware_status(self) -> FirmwareStatus:
        return cast(FirmwareStatus, await self._call("firmware_status"))

    async def usage(self, first_hour: int, hours: int, evse: int | None) -> list[UsageHour]:
        return cast(list[UsageHour], await self._call("usage", first_hour=first_hour, hours=hours, evse=evse))

    async def status(self) -> StationStatus:
        return cast(StationStatus, await self._call("status"))

    async def statistics(self) -> StationStatistics:
        return cast(StationStatistics, await self._call("statistics"))

    async def health(self) -> list[PartHealth]:
        return cast(list[PartHealth], await self._call("health"))

    async def report_parts(self, process: str, parts: list[PartHealth]) -> None:
        await self._call("report_parts", process=process, parts=parts)


def _welcome(message: dict[str, Any] | None, path: Path) -> Welcome:
    """What a station says first. Raises ``StationLost`` for anything else."""
    if message is None:
        raise StationLost(f"station refused this user at {path}")
    news = message.get("news")
    plain = {name: value for name, value in news.items() if name != "_type"} if isinstance(news, dict) else {}
    if plain.get("protocol") != PROTOCOL:
        raise StationLost(f"station speaks protocol {plain.get('protocol')!r:.20}, this program {PROTOCOL}")
    try:
        return cast(Welcome, from_plain(plain, Welcome))
    except CodecError as error:
        raise StationLost(f"station's greeting cannot be understood: {error}") from error
