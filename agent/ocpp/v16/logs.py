"""Logs in 1.6: GetDiagnostics of the core standard, GetLog of the security white paper.

Charter: from request to answer, and from a step of an upload to its notification. An upload is told in the words it
was asked for: DiagnosticsStatusNotification, or LogStatusNotification with its id. The core standard knows one
failure; neither has a word for an upload that gave place to a newer one: the answer to the newer one says so, where
it can.

GetDiagnostics cannot be refused: its answer has a file name or nothing. A location that nothing can be brought to is
answered with a CALLERROR, as UpdateFirmware is, and for the same reason: nobody shall wait for a status of it.

Sources: OCPP 1.6 sections 4.4, 5.9, 6.17, 6.25; security white paper for 1.6, N01; checklist 16-CMD-10, 16-SEC-11.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from agent.ipc.port import StationPort
from agent.ocpp.dialect import Line
from agent.ocpp.errors import ErrorCode, RpcError
from agent.ocpp.frames import Payload
from agent.ocpp.log_requests import LogReport, LogUploads, UploadStatus, diagnostics_request, log_request, name_file
from agent.ocpp.rpc import Priority
from agent.ocpp.session import Reply

_IN_CORE: Final = {UploadStatus.UPLOADING: "Uploading", UploadStatus.UPLOADED: "Uploaded"}


async def get_diagnostics(station: StationPort, uploads: LogUploads, request: Payload) -> Reply:
    """GetDiagnostics.conf. Raises ``RpcError``."""
    wanted = diagnostics_request(request)
    if why := uploads.refusal(wanted.location):
        raise RpcError(ErrorCode.PROPERTY_CONSTRAINT_VIOLATION, why)
    name = await name_file(station, wanted.kind)
    return Reply({"fileName": name}, after=partial(uploads.start, wanted, name))


async def get_log(station: StationPort, uploads: LogUploads, request: Payload) -> Payload | Reply:
    """GetLog.conf. Raises ``RpcError``."""
    wanted = log_request(request)
    if uploads.refusal(wanted.location):
        return {"status": "Rejected"}
    name = await name_file(station, wanted.kind)
    answer = "Accepted" if uploads.under_way is None else "AcceptedCanceled"
    return Reply({"status": answer, "filename": name}, after=partial(uploads.start, wanted, name))


def notification(report: LogReport) -> tuple[str, Payload] | None:
    """The message of a step of an upload."""
    if report.status is UploadStatus.CANCELED:
        return None
    if report.request.request_id is None:
        return "DiagnosticsStatusNotification", {"status": _IN_CORE.get(report.status, "UploadFailed")}
    return "LogStatusNotification", {"status": report.status.value, "requestId": report.request.request_id}


async def tell_diagnostics_status(line: Line, uploads: LogUploads) -> None:
    """DiagnosticsStatusNotification, as TriggerMessage asks for it (16-CMD-08)."""
    payload = {"status": "Idle" if uploads.under_way is None else "Uploading"}
    await line.call("DiagnosticsStatusNotification", payload, priority=Priority.STATUS)
