"""The gateway's part in logs for the CSMS: makes the file and brings it where the CSMS says.

Charter: carries out one ``LogRequest``. The file is made in the process's own temporary folder, of bounded size, and is
gone when the upload ends, however it ends. Files are read from a thread; the event loop, and with it the CSMS link,
goes on. A try that may succeed later is repeated as the CSMS asked.

SecurityLog: the security events of the ledger as lines of text, the oldest first: time, event, what is known of it. Of
more than fit, the newest.

Units: bytes, UTC milliseconds since 1970.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import BinaryIO, Final

import structlog

from agent.config.model import Config, UploadMethod
from agent.core.facts import SecurityFact
from agent.ipc.port import Record, StationLost, StationPort
from agent.ocpp.log_requests import LogKind, LogRequest, UploadStatus
from agent.telemetry.diagnostics import Wanted, collect
from agent.transfer.location import Location
from agent.transfer.upload import FailureKind, Parcel, Upload, UploadFailed, UploadSettings, destination

SECURITY_LINES_MAX: Final = 20_000

_PAGE_ROWS: Final = 100
_STATUSES: Final = {
    FailureKind.BROKEN: UploadStatus.FAILED,
    FailureKind.MALFORMED: UploadStatus.BAD_MESSAGE,
    FailureKind.DENIED: UploadStatus.PERMISSION_DENIED,
    FailureKind.UNSUPPORTED: UploadStatus.NOT_SUPPORTED,
}

log = structlog.get_logger("uploader")


class LogUploader:
    """See ``agent.ocpp.log_requests.Uploader``."""

    def __init__(self, config: Config, station: StationPort) -> None:
        self._config = config
        self._station = station

    def refusal(self, location: str) -> str:
        try:
            self._destination(location, "x")
        except UploadFailed as failed:
            return failed.why
        return ""

    async def bring(self, request: LogRequest, file_name: str) -> UploadStatus:
        where = self._destination(request.location, file_name)
        with tempfile.TemporaryFile(prefix="evsed-") as file:
            if request.kind is LogKind.SECURITY:
                kind = "text/plain; charset=utf-8"
                await self._write_security_log(file, request)
            else:
                kind = "application/gzip"
                await self._write_archive(file, request)
            return await self._send(request, where, Parcel(file, file.tell(), file_name, kind))

    def _destination(self, location: str, file_name: str) -> Location:
        return destination(location, file_name, [scheme.value for scheme in self._config.log.upload_schemes])

    # -------------------------------------------------------------------------------------- the file

    async def _write_archive(self, file: BinaryIO, request: LogRequest) -> None:
        try:
            wall_ms = (await self._station.status()).wall_ms
        except StationLost:  # then the archive is wanted all the more
            wall_ms = time.time_ns() // 1_000_000
        wanted = Wanted(request.oldest_wall_ms, request.latest_wall_ms)
        manifest = await collect(file, self._config, self._station, wall_ms, wanted)
        log.info("diagnostics collected", parts=len(manifest.members), missing=len(manifest.missing))

    async def _write_security_log(self, file: BinaryIO, request: LogRequest) -> None:
        lines: deque[bytes] = deque(maxlen=SECURITY_LINES_MAX)
        async for record in self._security_records():
            if request.oldest_wall_ms <= record.wall_ms <= request.latest_wall_ms:
                lines.append(security_line(record))
        file.writelines(lines)

    async def _security_records(self) -> AsyncIterator[Record]:
        seq = 0
        while page := await self._station.security_records(seq, _PAGE_ROWS):
            for record in page:
                yield record
            seq = page[-1].seq

    # ------------------------------------------------------------------------------------ on its way

    async def _send(self, request: LogRequest, where: Location, parcel: Parcel) -> UploadStatus:
        settings = self._settings()
        for number in range(1, request.tries + 1):
            log.info("log upload begins", file=parcel.name, to=str(where), bytes=parcel.size, number=number)
            try:
                await self._try(where, settings, parcel)
            except UploadFailed as failed:
                log.warning("log upload failed", reason=failed.why, number=number, of=request.tries)
                if not failed.retryable or number == request.tries:
                    return _STATUSES[failed.kind]
                await asyncio.sleep(request.retry_interval_s)
            else:
                log.info("log uploaded", file=parcel.name)
                return UploadStatus.UPLOADED
        raise AssertionError("at least one try")

    async def _try(self, where: Location, settings: UploadSettings, parcel: Parcel) -> None:
        upload = Upload(where, settings)
        work = asyncio.ensure_future(asyncio.to_thread(upload.send, parcel))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            upload.end()
            await asyncio.wait({work})  # it reads the file, which goes away after this
            if work.exception() is None:
                log.info("log upload was done when it was given up", file=parcel.name)
            raise

    def _settings(self) -> UploadSettings:
        logs, csms = self._config.log, self._config.csms
        return UploadSettings(
            post=logs.upload_method is UploadMethod.POST,
            ca_file=logs.upload_ca_file or (None if csms is None else csms.ca_file),
            max_bytes_per_s=logs.upload_rate_kib_s * 1024,
        )


def security_line(record: Record) -> bytes:
    """A security event as a line of text."""
    at = datetime.fromtimestamp(record.wall_ms / 1_000, UTC).isoformat(timespec="milliseconds")
    mark = "" if record.trusted_time else " (clock not set)"
    assert isinstance(record.fact, SecurityFact)
    text = f"{at.replace('+00:00', 'Z')}{mark} {record.fact.event_type} {record.fact.tech_info}".rstrip()
    return "".join(each if each.isprintable() else " " for each in text).encode() + b"\n"
