"""Logs that the CSMS asks for, the same in every version: one upload at a time, and what is still to be told of it.

Charter: from a (schema-valid) request to ``LogRequest``; which request takes the place of which; the statuses, kept
until the CSMS was told. Making the file and bringing it there is the ``Uploader``'s, the words are each version's
(``v16.logs``, ``v201.logs``). Lives as long as the gateway, over connections, boots of the station and versions. A
killed gateway forgets: the upload is gone, nothing is told of it any more, and a trigger says Idle.

States of an upload: ordered -> Uploading -> Uploaded or a failure; a newer request takes its place at any time before
the end, and that is AcceptedCanceled. ``Uploading`` is told once, not again for each try.

Units: UTC in milliseconds, seconds between tries.
Sources: OCPP 1.6 sections 4.4, 5.9, 6.25; security white paper for 1.6, N01; OCPP 2.0.1 part 2 N01; checklist
16-CMD-10, 16-SEC-11, 16-SEC-13, RPC-13.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from agent.ipc.port import StationPort
from agent.ocpp.dialect import Line
from agent.ocpp.firmware_messages import instant, refusal, retry_wish
from agent.ocpp.frames import Payload
from agent.ocpp.rpc import Priority, TimedOut
from agent.telemetry.names import archive_name, stem

TRIES_DEFAULT: Final = 3
TRIES_MAX: Final = 100
RETRY_INTERVAL_DEFAULT_S: Final = 60
RETRY_INTERVAL_MAX_S: Final = 86_400
UNTOLD_MAX: Final = 16
TELL_ATTEMPTS: Final = 3  # where the CSMS does not answer; its refusal is the end of it at once

_YEAR_9999_MS: Final = 253_370_764_800_000

log = structlog.get_logger("ocpp")


class LogKind(enum.StrEnum):
    """LogEnumType of 1.6 (white paper) and 2.0.1."""

    DIAGNOSTICS = "DiagnosticsLog"
    SECURITY = "SecurityLog"


class UploadStatus(enum.StrEnum):
    """UploadLogStatusEnumType of 2.0.1."""

    UPLOADING = "Uploading"
    UPLOADED = "Uploaded"
    FAILED = "UploadFailure"
    BAD_MESSAGE = "BadMessage"
    PERMISSION_DENIED = "PermissionDenied"
    NOT_SUPPORTED = "NotSupportedOperation"
    CANCELED = "AcceptedCanceled"


@dataclass(frozen=True, slots=True)
class LogRequest:
    """``request_id`` None: GetDiagnostics of 1.6, which has none. ``tries`` counts the first one."""

    kind: LogKind
    request_id: int | None
    location: str = field(repr=False)  # may hold a password
    oldest_wall_ms: int = 0
    latest_wall_ms: int = _YEAR_9999_MS
    tries: int = TRIES_DEFAULT
    retry_interval_s: int = RETRY_INTERVAL_DEFAULT_S


@dataclass(frozen=True, slots=True)
class LogReport:
    """A step of an upload that the CSMS is to hear of."""

    request: LogRequest
    status: UploadStatus


class Uploader(Protocol):
    """Makes files and brings them away, as ``agent.uploader.LogUploader`` does."""

    def refusal(self, location: str) -> str:
        """Why nothing can be brought there, in plain words without secrets; empty: it may be tried."""
        ...

    async def bring(self, request: LogRequest, file_name: str) -> UploadStatus:
        """The whole upload with all of its tries; how it ended. Cancelling ends it."""
        ...


class LogUploads:
    """The one upload, and what the CSMS has not heard of it yet."""

    def __init__(self, make_uploader: Callable[[], Uploader]) -> None:
        self._make_uploader = make_uploader
        self._made: Uploader | None = None
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._untold: deque[LogReport] = deque(maxlen=UNTOLD_MAX)
        self._reported = asyncio.Event()
        self.under_way: LogRequest | None = None

    @property
    def _uploader(self) -> Uploader:
        """Made when it is first wanted: most gateways are never asked for a log."""
        self._made = self._made or self._make_uploader()
        return self._made

    def refusal(self, location: str) -> str:
        """See ``Uploader``."""
        return self._uploader.refusal(location)

    def start(self, request: LogRequest, file_name: str) -> None:
        """Begin; one that is under way gives place."""
        if self._task is not None and self.under_way is not None:
            self._task.cancel()
            self._report(self.under_way, UploadStatus.CANCELED)
        self.under_way = request
        self._task = asyncio.get_running_loop().create_task(self._run(request, file_name))

    async def _run(self, request: LogRequest, file_name: str) -> None:
        async with self._one_at_a_time:  # one that gave place may need a moment to end
            self._report(request, UploadStatus.UPLOADING)
            try:
                status = await self._uploader.bring(request, file_name)
            except Exception:
                log.exception("log_upload_failed")  # our own fault; the CSMS shall not wait for ever
                status = UploadStatus.FAILED
        if self.under_way is request:
            self.under_way = None
            self._report(request, status)

    def _report(self, request: LogRequest, status: UploadStatus) -> None:
        self._untold.append(LogReport(request, status))
        self._reported.set()

    async def tell(self, line: Line, render: Callable[[LogReport], tuple[str, Payload] | None]) -> None:
        """Tell what is still to be told, and what comes, until the link ends. ``render``: action and payload of a
        report; None where this version has no words for it. Raises ``LinkGone``."""
        while True:
            while self._untold:
                report = self._untold[0]
                if (message := render(report)) is not None:
                    await _call(line, *message)
                if self._untold and self._untold[0] is report:  # else the oldest had to go meanwhile
                    self._untold.popleft()
            self._reported.clear()
            await self._reported.wait()

    def status_now(self) -> Payload:
        """LogStatusNotification as a trigger asks for it."""
        now = self.under_way
        if now is None:
            return {"status": "Idle"}
        return {"status": "Uploading"} | ({} if now.request_id is None else {"requestId": now.request_id})


async def _call(line: Line, action: str, payload: Payload) -> None:
    for _ in range(TELL_ATTEMPTS):
        if not isinstance(await line.call(action, payload, priority=Priority.STATUS), TimedOut):
            return


async def tell_log_status(line: Line, uploads: LogUploads) -> None:
    """LogStatusNotification, triggered; spelled the same in 1.6 and 2.0.1."""
    await line.call("LogStatusNotification", uploads.status_now(), priority=Priority.STATUS)


# ------------------------------------------------------------------------------------------ requests


def log_request(request: Payload) -> LogRequest:
    """Of GetLog.req in 1.6 and GetLogRequest in 2.0.1. Raises ``RpcError``."""
    wanted = request["log"]
    return LogRequest(
        LogKind(request["logType"]),
        request["requestId"],
        wanted["remoteLocation"],
        *_span(wanted, "log.", "oldestTimestamp", "latestTimestamp"),
        *_tries(request),
    )


def diagnostics_request(request: Payload) -> LogRequest:
    """Of GetDiagnostics.req in 1.6. Raises ``RpcError``."""
    span = _span(request, "", "startTime", "stopTime")
    return LogRequest(LogKind.DIAGNOSTICS, None, request["location"], *span, *_tries(request))


def _span(fields: Payload, path: str, oldest: str, latest: str) -> tuple[int, int]:
    begin = instant(fields, path, oldest) if oldest in fields else 0
    end = instant(fields, path, latest) if latest in fields else _YEAR_9999_MS
    if begin > end:
        raise refusal(f"{path}{latest}", f"before {oldest}")
    return begin, end


def _tries(request: Payload) -> tuple[int, int]:
    tries, interval_s = retry_wish(request)
    return (
        TRIES_DEFAULT if tries is None else min(max(1, tries), TRIES_MAX),
        RETRY_INTERVAL_DEFAULT_S if interval_s is None else min(interval_s, RETRY_INTERVAL_MAX_S),
    )


async def name_file(station: StationPort, kind: LogKind) -> str:
    """What the file will be called: ``evsed-CP-1-diagnostics-20261124T080000Z.tar.gz``."""
    status = await station.status()
    if kind is LogKind.DIAGNOSTICS:
        return archive_name(status.identity, status.wall_ms)
    return f"{stem(status.identity, 'security', status.wall_ms)}.log"
