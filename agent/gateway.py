"""The gateway process: the CSMS link, and nothing that a charge depends on.

Charter: joins the station's socket with the CSMS's WebSocket through the dialect that the CSMS
picked. Keeps no facts of its own: it may be killed at any instant, and resumes from the cursor in the
station's ledger. A dialect is loaded when it is first spoken, and lives as long as the station's boot
does, so that a reconnect is not a new registration.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

import structlog

from agent.allowance import Allowance
from agent.config.catalogue import NETWORK_SLOTS, PASSWORD
from agent.config.model import Config, CsmsConfig
from agent.config.networks import FILE_SLOT, VERSIONS, order_in, profile_in, security_profiles_in, worked_last_in
from agent.gateway_counters import LinkCounters
from agent.gateway_health import PROCESS, GatewayHealth
from agent.ipc.client import RemoteStation, StationConnection
from agent.ipc.port import (
    AuthorizeWanted,
    FetchWanted,
    News,
    RestartComing,
    SampleTaken,
    SettingsChanged,
    StationLost,
    StationPort,
)
from agent.ipc.statistics import GatewayStatistics, ProcessStatistics
from agent.ipc.updates import FetchOrder
from agent.ocpp.backoff import BackoffSettings
from agent.ocpp.dialect import Dialect, StationView, refuse_authorize
from agent.ocpp.endpoint import Endpoint, TlsSettings
from agent.ocpp.link import PROVEN_AFTER_MS, Connection, Link, LinkPhase, LinkState
from agent.ocpp.link_failure import SECURITY_EVENTS, FailureKind
from agent.ocpp.link_passwords import Passwords, forms_of
from agent.ocpp.log_requests import LogUploads, Uploader
from agent.ocpp.network_slots import NetworkSlots
from agent.ocpp.registration import State
from agent.ocpp.session import Direction, Hooks, monotonic_ms, new_uuid
from agent.ocpp.version import Version
from agent.ocpp.websocket import open_websocket
from agent.telemetry.logs import log_file
from agent.telemetry.own_process import OwnProcess
from agent.telemetry.ring_file import RingFile
from agent.telemetry.trace import FrameTrace

_STATION_RETRY_S = 0.05
_PASSWORD = str(PASSWORD)
_MESSAGE_TIMEOUT = "OCPPCommCtrlr.MessageTimeout[Default]"
_ACCEPTED_WITHIN_S = 300.0
_OPEN_TIMEOUT_MIN_S = 30  # a handshake over a slow mobile link takes longer than an answer that may be asked for
_INVALID_TOLD_EVERY_MS = 3_600_000  # each is a row of the ledger
_ATTEMPTS = "OCPPCommCtrlr.NetworkProfileConnectionAttempts"
_PING = "OCPPCommCtrlr.WebSocketPingInterval"
_BACKOFF = "OCPPCommCtrlr.RetryBackOff"

log = structlog.get_logger("gateway")


class Downloads(Protocol):
    """Takes what is to be fetched, as ``agent.fetcher.Fetcher`` does."""

    def take(self, order: FetchOrder | None) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Outside:
    """What the gateway stands on. ``find_station`` raises ``StationLost``, ``open`` ``NotConnected``."""

    find_station: Callable[[], Awaitable[StationConnection]]
    open: Callable[[Endpoint], Awaitable[Connection]]
    fetcher: Callable[[StationPort], Downloads]
    rng: random.Random
    now_ms: Callable[[], int]
    new_id: Callable[[], str]
    process: Callable[[], ProcessStatistics] = ProcessStatistics  # of no interest where no process runs
    uploader: Callable[[StationPort], Uploader] | None = None  # None: logs are brought nowhere
    trace: Callable[[str, str], None] | None = None  # of frames without secrets; None: nobody reads it


def this_machine(config: Config) -> Outside:
    """The real one: the station's socket, WebSockets, downloads. For the running event loop."""

    def fetcher(station: StationPort) -> Downloads:
        from agent.fetcher import Fetcher  # most gateways never download

        return Fetcher(config, station)

    def uploader(station: StationPort) -> Uploader:
        from agent.uploader import LogUploader  # nor does it upload

        return LogUploader(config, station)

    trace = RingFile(
        log_file(config.station.log_folder("gateway"), "trace"),
        lambda why: log.warning("message trace is not kept", reason=why),
    )
    return Outside(
        find_station=lambda: RemoteStation.connect(config.station.run_dir / "station.sock"),
        open=open_websocket,
        fetcher=fetcher,
        rng=random.SystemRandom(),
        now_ms=monotonic_ms,
        new_id=new_uuid,
        process=OwnProcess(asyncio.get_running_loop()).read,
        uploader=uploader if config.log.upload_schemes else None,
        trace=FrameTrace(trace).note,
    )


class Gateway:
    """One station's link to its CSMS, one at a time."""

    def __init__(self, config: Config, outside: Outside) -> None:
        assert config.csms is not None
        self._outside = outside
        self._config = config
        self._csms: CsmsConfig = config.csms
        self._boot_id = ""
        self._dialects: dict[tuple[int, Version], Dialect] = {}  # by slot: each CSMS knows what it was told itself
        self._spoken: tuple[int, Version] | None = None
        self._port = _SwitchedPort()
        uploader = outside.uploader
        self._uploads = None if uploader is None else LogUploads(lambda: uploader(cast(StationPort, self._port)))
        self._view: StationView | None = None
        self._link: Link | None = None
        self._fetcher: Downloads | None = None
        self._passwords = {slot: Passwords() for slot in NETWORK_SLOTS}
        self._slots = NetworkSlots((FILE_SLOT,), FILE_SLOT, {})
        self._patience: asyncio.TimerHandle | None = None
        self._slot = FILE_SLOT  # of the present connection or attempt, else of the last one
        self._connected_ms = 0
        self._roots_turn = dict.fromkeys(NETWORK_SLOTS, 0)  # of roots that share a name: what worked last stays
        self._invalid_untold = 0
        self._invalid_allowance = Allowance(1, _INVALID_TOLD_EVERY_MS)  # whatever becomes of the link
        self._alarms: set[str] = set()  # security events since what they tell of was last well
        self.counters = LinkCounters(outside.now_ms)
        page = None if config.web is None else config.web.certificate_file
        self._health = GatewayHealth(config.csms, outside.process, outside.now_ms, page_certificate=page)

    async def run(self) -> None:
        """For ever: find the station, speak for it until it is lost."""
        while True:
            try:
                station = await self._outside.find_station()
            except StationLost as error:
                log.debug("station not there", reason=str(error))
                await asyncio.sleep(_STATION_RETRY_S)
                continue
            log.info("station found", boot_id=station.welcome.boot_id)
            try:
                await self._speak_for(station)
            except* StationLost:
                log.warning("station lost, the CSMS hears nothing until it is back")
            finally:
                if self._fetcher is not None:
                    self._fetcher.stop()
                await station.close()

    async def _speak_for(self, station: StationConnection) -> None:
        if station.welcome.boot_id != self._boot_id:
            self._boot_id = station.welcome.boot_id
            self._dialects.clear()
            self._spoken = None
            self._view = StationView(station.welcome)
            settings = station.welcome.settings
            self._slots = NetworkSlots(order_in(settings), worked_last_in(settings), security_profiles_in(settings))
        self._port.station = station
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(station))
            tasks.create_task(self._keep_link())
            tasks.create_task(self._health.run(station, self._registration))

    async def _hear(self, station: StationConnection) -> None:
        assert self._view is not None
        while (news := await station.news.get()) is not None:
            self._view.hear(news)
            await self._tell_dialects(news)
            self._take(news)
        raise StationLost("station went away")

    async def _tell_dialects(self, news: News) -> None:
        """Facts are for all; what is to be asked or sent now is for the one that is spoken."""
        spoken = self._dialects.get(self._spoken) if self._spoken is not None else None
        if not isinstance(news, AuthorizeWanted | SampleTaken):
            for dialect in self._dialects.values():
                await dialect.hear(news)
        elif spoken is not None:
            await spoken.hear(news)
        elif isinstance(news, AuthorizeWanted):
            await refuse_authorize(self._port.station, news)

    def _take(self, news: News) -> None:
        if isinstance(news, RestartComing):
            log.info("station restarts", cause=news.cause)
        if isinstance(news, FetchWanted):
            self._fetch(news)
        if not isinstance(news, SettingsChanged) or self._link is None:
            return
        if _PING in news.settings:
            self._link.set_ping_interval(float(news.settings[_PING]))
        if any(name.startswith(_BACKOFF) for name in news.settings):
            self._link.set_backoff(self._backoff())
        if _PASSWORD in news.settings:
            self._link.drop("new password")  # A01: reconnect with it

    def _fetch(self, wanted: FetchWanted) -> None:
        if self._fetcher is None:
            self._fetcher = self._outside.fetcher(cast(StationPort, self._port))
        self._fetcher.take(wanted.order)

    async def _keep_link(self) -> None:
        assert self._view is not None
        trace = None if self._outside.trace is None else partial(_note_frame, self._outside.trace)
        self._link = Link(
            self._endpoint,
            self._dialect,
            on_state=self._link_changed,
            on_heard=self._csms_speaks,
            backoff=self._backoff(),
            ping_interval_s=float(self._view.integer(_PING, 60)),
            hooks=Hooks(self.counters.frame, trace, self._invalid),
            open=self._open,
            random_source=self._outside.rng,
            clock_ms=self._outside.now_ms,
            new_id=self._outside.new_id,
        )
        try:
            await self._link.run()
        finally:
            self._link = None

    async def _open(self, endpoint: Endpoint) -> Connection:
        connection = await self._outside.open(endpoint)
        assert self._view is not None
        self._view.root_in_use = connection.root
        return connection

    def _link_changed(self, state: LinkState) -> None:
        self.counters.link(state)
        self._health.link(state)
        if self._patience is not None:
            self._patience.cancel()
        if state.phase is LinkPhase.CONNECTED:
            self._patience = asyncio.get_running_loop().call_later(_ACCEPTED_WITHIN_S, self._is_it_the_right_one)
            self._connected_ms = self._outside.now_ms()
            self._alarms &= {SECURITY_EVENTS[FailureKind.UNAUTHORIZED]}  # the handshake proves the rest
        if state.failure is None:
            return
        if state.failure.kind is not FailureKind.DROPPED:
            self._slots.ended()
        if state.failure.kind is FailureKind.TLS_CERTIFICATE:
            self._roots_turn[self._slot] += 1
        if state.failure.kind is FailureKind.UNAUTHORIZED:
            self._passwords[self._slot].refused()
        elif state.failure.kind is FailureKind.CLOSED and self._outside.now_ms() - self._connected_ms < PROVEN_AFTER_MS:
            self._passwords[self._slot].closed()
        alarm = SECURITY_EVENTS.get(state.failure.kind)
        if alarm is not None and alarm not in self._alarms:  # once, not at every attempt of a week (WS-08)
            self._alarms.add(alarm)
            self._security(alarm, state.failure.detail)

    def _csms_speaks(self) -> None:
        if (news := self._passwords[self._slot].worked()) is not None:
            _begin(self._port.station.password_worked(news.hex()))
        self._alarms.clear()
        if self._registration() == State.ACCEPTED and self._slots.works():
            _begin(self._port.station.network_worked(self._slot))

    def _is_it_the_right_one(self) -> None:
        """A CSMS that lets the station in and rejects its boot, puts it off or does not understand it may be wrong."""
        if self._registration() != State.ACCEPTED and not self._slots.alone and self._link is not None:
            self._slots.go_on()
            self._link.drop("boot not accepted, another network profile is tried")

    def _backoff(self) -> BackoffSettings:
        assert self._view is not None
        return BackoffSettings(
            wait_minimum_s=self._view.integer(f"{_BACKOFF}WaitMinimum", 10),
            random_range_s=self._view.integer(f"{_BACKOFF}RandomRange", 10),
            repeat_times=self._view.integer(f"{_BACKOFF}RepeatTimes", 5),
        )

    def _dialect(self, version: Version) -> Dialect:
        before, self._spoken = self._spoken, (self._slot, version)
        if self._spoken not in self._dialects:
            assert self._view is not None
            station = cast(StationPort, self._port)
            self._dialects[self._spoken] = _load(version, station, self._view, self._outside.rng, self._uploads)
        elif self._spoken != before:
            self._dialects[self._spoken].others_spoke()
        return self._dialects[self._spoken]

    def _registration(self) -> str:
        spoken = None if self._spoken is None else self._dialects.get(self._spoken)
        return "" if spoken is None else spoken.registration

    def _endpoint(self) -> Endpoint:
        assert self._view is not None
        csms, tls = self._csms, None
        at_start = self._view.welcome.settings  # what is ordered meanwhile waits for the next start
        timeout_s = self._view.integer(_MESSAGE_TIMEOUT, 30)
        url, versions = csms.url, tuple(Version(version.value) for version in csms.versions)
        self._take_slot(self._slots.choose(self._view.integer(_ATTEMPTS, 3)))
        if self._slot != FILE_SLOT and (profile := profile_in(at_start, self._slot)) is not None:
            url, timeout_s = profile.url, profile.message_timeout_s
            versions = (Version(VERSIONS[profile.version].value),)
        self._port.csms_url = url
        if url.startswith("wss"):
            by_choice = csms.url.startswith("wss")  # to trust whoever the machine's store trusts
            tls = TlsSettings(
                csms.ca_file,
                csms.client_certificate_file,
                csms.client_key_file,
                self._view.roots,
                system_store=by_choice,
                turn=self._roots_turn[self._slot],
            )
        return Endpoint(
            url=url,
            identity=self._config.station.identity,
            versions=versions,
            password=self._password(),
            tls=tls,
            open_timeout_s=max(timeout_s, _OPEN_TIMEOUT_MIN_S),
            message_timeout_s=timeout_s,
        )

    def _take_slot(self, slot: int) -> None:
        """Another CSMS knows nothing of this boot, nor need it know the password that the one before knew."""
        if slot != self._slot:
            log.info("another network profile is tried", slot=slot)
            self._slot, self._spoken = slot, None

    def _password(self) -> bytes | None:
        """16-SEC-04: what the CSMS set last, else the configured file. Where the CSMS does not know its own new
        password, what worked before and the file are tried too."""
        assert self._view is not None
        text, kept = self._view.text(_PASSWORD), bytes.fromhex(self._view.welcome.password_that_worked)
        delivered = self._delivered_password()
        wanted = self._forms(text, "set by the CSMS") if text else delivered
        return self._passwords[self._slot].choose(wanted, kept or None, delivered)

    def _delivered_password(self) -> tuple[bytes, ...]:
        if self._csms.password_file is None:
            return ()
        try:
            text = self._csms.password_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            log.error("password file cannot be read", reason=str(error))  # read again at the next attempt
            return ()
        return self._forms(text, f"in {self._csms.password_file}") if text else ()

    def _forms(self, text: str, where: str) -> tuple[bytes, ...]:
        likely = Version(self._csms.versions[0].value) if self._spoken is None else self._spoken[1]
        encoding = self._csms.authorization_key_encoding
        forms = forms_of(text, encoding, text_first=likely is not Version.V16)
        if not forms:
            log.error("password is no hex, another is tried", password=where, wanted="csms.authorization_key_encoding")
        return forms

    def _invalid(self, reason: str, count: int) -> None:
        log.warning("invalid messages from the CSMS", reason=reason, count=count)
        self._invalid_untold += count
        if self._invalid_allowance.has_one(self._outside.now_ms()):
            self._invalid_allowance.take()
            self._security("InvalidMessages", f"{self._invalid_untold}: {reason}")
            self._invalid_untold = 0

    def _security(self, event_type: str, tech_info: str) -> None:
        _begin(self._port.station.security_event(event_type, tech_info))


def _note_frame(trace: Callable[[str, str], None], direction: Direction, text: str) -> None:
    log.debug("frame", direction=direction.value, frame=text)
    trace(direction.value, text)


def _begin(telling: Coroutine[object, object, None]) -> None:
    """Tell the station in the background; where it is lost, its reader says so."""
    task = asyncio.ensure_future(telling)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


class _SwitchedPort:
    """The station as dialects see it: always the present connection. ``csms_url``: of whom they speak."""

    def __init__(self) -> None:
        self.station: StationPort
        self.csms_url = ""

    async def link_state(self, online: bool, dialect: str | None) -> None:
        await self.station.link_state(online, dialect, self.csms_url)

    def __getattr__(self, name: str) -> object:
        return getattr(self.station, name)


def _load(
    version: Version, station: StationPort, view: StationView, rng: random.Random, uploads: LogUploads | None
) -> Dialect:
    """Import the dialect now: most stations only ever speak one."""
    if version is Version.V16:
        from agent.ocpp.v16.dialect import Dialect16

        return Dialect16(station, view, rng, uploads)
    from agent.ocpp.v201.dialect import Dialect201

    return Dialect201(station, view, rng, uploads)


async def _work(config: Config) -> None:
    """All that this process is there for: the CSMS link, the local page, or both."""
    outside = this_machine(config)
    gateway = None if config.csms is None else Gateway(config, outside)

    def statistics() -> GatewayStatistics:
        return GatewayStatistics(outside.process(), None if gateway is None else gateway.counters.read())

    async with asyncio.TaskGroup() as tasks:
        if gateway is not None:
            tasks.create_task(gateway.run())
        if config.web is not None:
            from agent.web.process import run_web  # a gateway without a page does not pay for one

            find_station = outside.find_station if gateway is not None else partial(_find_and_report, outside)
            tasks.create_task(run_web(config, config.web, find_station, statistics))


async def _find_and_report(outside: Outside) -> StationConnection:
    """For a page without a CSMS: nobody else would tell the station that its gateway is there. Raises
    ``StationLost``."""
    station = await outside.find_station()
    await station.report_parts(PROCESS, [])
    return station


async def run_gateway(config: Config) -> int:
    """Until a signal; returns the exit code."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    task = asyncio.create_task(_work(config))
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task  # an error of our own: let it be seen
    # Losing the station at the same moment can swallow one cancellation: ask until it has ended.
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1)
    return 0
