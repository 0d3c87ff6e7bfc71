"""Logs in 2.0.1: GetLog and LogStatusNotification (N01).

Charter: from request to answer, and from a step of an upload to its notification. One that was asked for in 1.6
without an id is not told here: the id is mandatory.

Sources: OCPP 2.0.1 part 2 N01, F06, appendix 5 (reason codes).
"""

from __future__ import annotations

from functools import partial

from agent.ipc.port import StationPort
from agent.ocpp.frames import Payload
from agent.ocpp.log_requests import LogReport, LogUploads, log_request, name_file
from agent.ocpp.session import Reply
from agent.ocpp.v201.messages import status


async def get_log(station: StationPort, uploads: LogUploads, request: Payload) -> Payload | Reply:
    """GetLogResponse. Raises ``RpcError``."""
    wanted = log_request(request)
    if why := uploads.refusal(wanted.location):
        return status("Rejected", "InvalidURL", why)
    name = await name_file(station, wanted.kind)
    answer = "Accepted" if uploads.under_way is None else "AcceptedCanceled"
    return Reply({"status": answer, "filename": name}, after=partial(uploads.start, wanted, name))


def notification(report: LogReport) -> tuple[str, Payload] | None:
    """The message of a step of an upload."""
    if report.request.request_id is None:
        return None
    return "LogStatusNotification", {"status": report.status.value, "requestId": report.request.request_id}
