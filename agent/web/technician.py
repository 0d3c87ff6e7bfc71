"""The technician's pages of the station: live view, health, transactions with receipts, usage.

Charter: asks the station's port or the feed and hands the answers to ``agent.web.pages``. The one thing that changes
anything is the clearing of latched faults.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.billing.style import STYLE
from agent.core.commands import ClearFaults
from agent.core.status import Outcome
from agent.usage.export import csv_text, plain
from agent.usage.model import PAGE_HOURS, UsageHour
from agent.usage.sums import By, PeriodUsage, hours_of_days, summed
from agent.web.answers import Html, form_of, number_of, see
from agent.web.pages.health import health_page
from agent.web.pages.live import live_page
from agent.web.pages.transactions import PAGE_LINES, transactions_page
from agent.web.pages.usage import usage_page
from agent.web.private import Private
from agent.web.sessions import Session
from agent.web.streams import field_events

# A receipt is one file with its own style, and links to what is inside it; it runs no script.
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_RECEIPT_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_RECEIPT_TYPES: Final = {"html": "text/html", "text": "text/plain", "json": "application/json"}
_TX_MAX_CHARS: Final = 64
_SEQ_MAX: Final = 10**15 - 1
_CLEARED: Final = {
    Outcome.ACCEPTED: "Cleared.",
    Outcome.REJECTED: "Not cleared: the cause of a fault is still there.",
}
_DAYS: Final = {By.HOUR: 2, By.DAY: 31, By.MONTH: 365}
_USAGE_KEPT_S: Final = 60.0


class Technician:
    """Handlers of these pages."""

    def __init__(self, private: Private) -> None:
        self._private = private
        self._zone = ZoneInfo(private.config.station.time_zone)
        self._usage: dict[By, tuple[float, int, int, list[UsageHour]]] = {}

    def routes(self) -> list[Route]:
        page, change = self._private.page, self._private.change
        return [
            page("/tech", self._live),
            page("/tech/events", self._events),
            page("/tech/health", self._health),
            change("/tech/health/clear", self._clear),
            page("/tech/transactions", self._transactions),
            page("/tech/receipts/{tx_id}/{form}", self._receipt),
            page("/tech/usage", self._usage_page),
            page("/tech/usage.{form}", self._usage_file),
            change("/logout", self._logout),
        ]

    # -------------------------------------------------------------------------------- live, log out

    async def _live(self, _: Request, session: Session) -> Response:
        fields = self._private.fields(await self._private.feed.fresh())
        return Html(live_page(self._private.frame("/tech", session), fields, self._private.evses))

    async def _events(self, _: Request, session: Session) -> Response:
        lives = self._private.login.lives
        events = field_events(self._private.feed, self._private.fields, lambda: lives(session), chart=True)
        return self._private.streams.answer(events)

    async def _logout(self, _: Request, session: Session) -> Response:
        login = self._private.login
        login.leave(session)
        answer = see("/")
        answer.delete_cookie(login.cookie, path="/", secure=login.secure, httponly=True, samesite="strict")
        return answer

    # --------------------------------------------------------------------------------------- health

    async def _health(self, request: Request, session: Session) -> Response:
        snapshot = await self._private.feed.fresh()
        said = {"yes": _CLEARED[Outcome.ACCEPTED], "no": _CLEARED[Outcome.REJECTED]}
        outcome = said.get(request.query_params.get("cleared", ""), "")
        frame, clock = self._private.frame("/tech/health", session), self._private.clock
        fields = self._private.fields(snapshot)
        return Html(health_page(frame, fields, snapshot.health, clock, session.form_token, outcome))

    async def _clear(self, request: Request, _: Session) -> Response:
        form = await form_of(request)
        evse = form.get("evse", "")
        if form.get("sure") != "yes" or evse not in map(str, self._private.evses):
            raise HTTPException(400, "which EVSE, and are you sure?")
        answer = await self._private.port.command(ClearFaults(int(evse), who="technician at the local page"))
        return see(f"/tech/health?cleared={'yes' if answer.outcome is Outcome.ACCEPTED else 'no'}")

    # --------------------------------------------------------------------------------- transactions

    async def _transactions(self, request: Request, session: Session) -> Response:
        lines = await self._private.port.receipts(PAGE_LINES, number_of(request, "before", 1, _SEQ_MAX))
        frame = self._private.frame("/tech/transactions", session)
        return Html(transactions_page(frame, lines, self._private.clock))

    async def _receipt(self, request: Request, _: Session) -> Response:
        tx_id, form = request.path_params["tx_id"], request.path_params["form"]
        if form not in _RECEIPT_TYPES or len(tx_id) > _TX_MAX_CHARS:
            raise HTTPException(404)
        text = await self._private.port.receipt(tx_id, form)
        if not text:
            raise HTTPException(404)
        headers = {"content-security-policy": _RECEIPT_POLICY} if form == "html" else {}
        if form == "json":
            headers["content-disposition"] = f'attachment; filename="receipt-{tx_id[:8]}.json"'
        return Response(text, headers=headers, media_type=_RECEIPT_TYPES[form])

    # ---------------------------------------------------------------------------------------- usage

    async def _usage_page(self, request: Request, session: Session) -> Response:
        by, evse, periods = await self._periods(request)
        frame = self._private.frame("/tech/usage", session)
        return Html(usage_page(frame, by, evse, self._private.evses, periods))

    async def _usage_file(self, request: Request, _: Session) -> Response:
        by, evse, periods = await self._periods(request)
        headers = {"content-disposition": f'attachment; filename="usage-{by.value}.{request.path_params["form"]}"'}
        if request.path_params["form"] == "csv":
            return Response(csv_text(periods, by), headers=headers, media_type="text/csv")
        if request.path_params["form"] == "json":
            whole = {"by": by.value, "evse": evse, "rows": [plain(each, by) for each in periods]}
            return Response(json.dumps(whole), headers=headers, media_type="application/json")
        raise HTTPException(404)

    async def _periods(self, request: Request) -> tuple[By, int | None, list[PeriodUsage]]:
        asked = request.query_params.get("by", By.DAY.value)
        by = By(asked) if asked in [each.value for each in _DAYS] else By.DAY
        evse = number_of(request, "evse", 1, max(self._private.evses))
        first_hour, hours, rows = await self._hours(by)
        return by, evse, summed(rows, by, self._zone, first_hour, hours, evse)

    async def _hours(self, by: By) -> tuple[int, int, list[UsageHour]]:
        """The rows of a span up to now, kept for a minute: a year of them is many."""
        now_s = time.monotonic()
        kept = self._usage.get(by)
        if kept is not None and now_s - kept[0] < _USAGE_KEPT_S:
            return kept[1:]
        status = await self._private.port.status()
        first_hour, hours = hours_of_days(*_span(by, status.wall_ms, self._zone), self._zone)
        rows: list[UsageHour] = []
        for begin in range(first_hour, first_hour + hours, PAGE_HOURS):
            rows += await self._private.port.usage(begin, min(PAGE_HOURS, first_hour + hours - begin), None)
        self._usage[by] = now_s, first_hour, hours, rows
        return first_hour, hours, rows


def _span(by: By, wall_ms: int, zone: ZoneInfo) -> tuple[date, date]:
    """The local days that a page of usage covers; months are whole ones."""
    last = datetime.fromtimestamp(wall_ms / 1_000, UTC).astimezone(zone).date()
    first = last - timedelta(days=_DAYS[by] - 1)
    return (first.replace(day=1) if by is By.MONTH else first), last
