"""A small CSMS for demo and tests, made of the ``ocpp`` package: an independent peer.

Charter: accepts one station over a real WebSocket in OCPP 1.6 or 2.0.1, validates every frame by the
package's schemas, keeps a book of transactions (energy, signed records, cost), and can be away. Every
frame it had to refuse is counted as a violation. It shares no code with the station's own OCPP layer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

OnFrame = Callable[[str, str], None]  # "<" from the station, ">" to it; the frame's text

COST_VENDOR = "org.openchargealliance.costmsg"
_CENT = Decimal("0.01")


@dataclass(frozen=True)
class SignedReading:
    """A signed record as it came: its bytes, and the key beside it as the station wrote it. Nobody has judged it."""

    context: str
    record: bytes
    public_key: str


@dataclass
class Booked:
    """A transaction as the CSMS knows it. Energies are registers, in Wh; money is a decimal text.

    ``total`` and ``currency`` are what the station says it costs (2.0.1 only), ``charged`` what this CSMS said last."""

    key: str
    evse: int
    started: str
    start_wh: float
    stop_wh: float | None = None
    reason: str | None = None
    seq_nos: list[int] = field(default_factory=list)
    last_wh: float | None = None
    repeats: int = 0
    signed: list[SignedReading] = field(default_factory=list)
    total: str | None = None
    currency: str | None = None
    charged: str | None = None

    def sign(self, reading: SignedReading) -> None:
        """Take a record; a repeated message brings it again."""
        if reading not in self.signed:
            self.signed.append(reading)

    @property
    def wh(self) -> float:
        end = self.stop_wh if self.stop_wh is not None else self.last_wh
        return 0.0 if end is None else end - self.start_wh


class Book:
    """All transactions, and what was wrong with them. ``price_kwh``: what a kWh costs here, None: nothing is priced."""

    def __init__(self, price_kwh: str | None = None) -> None:
        self._price_kwh = None if price_kwh is None else Decimal(price_kwh)
        self.transactions: dict[str, Booked] = {}
        self.violations: list[str] = []
        self.statuses: list[tuple[int, str]] = []
        self.tokens_refused: set[str] = set()
        self.firmware: list[tuple[str, int | None]] = []  # every status of an update as it came, with its request's id
        self.security_events: list[str] = []  # their types
        self.uploads: list[tuple[str, int | None]] = []  # every status of a log's upload, with its request's id
        self.events: list[dict[str, Any]] = []  # of monitors, keys as the package spells them
        self.boots = 0

    @property
    def wh(self) -> float:
        return sum(booked.wh for booked in self.transactions.values())

    def charge(self, booked: Booked) -> float | None:
        """What this transaction costs so far, as it goes into a message; None where nothing is priced."""
        if self._price_kwh is None:
            return None
        cost = (self._price_kwh * Decimal(str(booked.wh)) / 1_000).quantize(_CENT, ROUND_HALF_UP)
        booked.charged = str(cost)
        return float(cost)

    @property
    def open(self) -> list[Booked]:
        return [booked for booked in self.transactions.values() if booked.stop_wh is None]


class SimCsms:
    """One CSMS on a loopback port."""

    def __init__(
        self, version: str, on_frame: OnFrame = lambda _way, _text: None, *, price_kwh: str | None = None
    ) -> None:
        logging.getLogger("ocpp").setLevel(logging.CRITICAL)  # it logs every frame
        self.version = version
        self.book = Book(price_kwh)
        self.peer: Any = None
        self.connected = asyncio.Event()
        self._on_frame = on_frame
        self._server: Server | None = None
        self._port = 0
        self._away = False

    async def start(self, port: int = 0) -> str:
        """Listen; returns the URL for the station's configuration."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            port,
            select_subprotocol=self._select,
            process_request=self._admit,
            compression=None,
            ping_interval=None,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{self._port}/ocpp"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def set_away(self, away: bool) -> None:
        """Gone: the link is cut and every attempt refused, until it is back."""
        self._away = away
        if away and self.peer is not None:
            await self.peer.link.close(code=1001)

    async def call(self, name: str, **payload: Any) -> Any:
        """Send a command by the package's dataclass of that name; its answer, or None if refused."""
        peer = self.peer
        if peer is None:
            raise ConnectionError("the station is not connected")
        return await peer.call(getattr(peer.calls, name)(**payload))

    async def limit(self, amperes: float) -> Any:
        """A limit for the whole station, the way each version spells it."""
        period = {"start_period": 0, "limit": amperes}
        schedule = {"charging_rate_unit": "A", "charging_schedule_period": [period]}
        if self.version == "1.6":
            profile = {
                "charging_profile_id": 1,
                "stack_level": 0,
                "charging_profile_purpose": "ChargePointMaxProfile",
                "charging_profile_kind": "Absolute",
                "charging_schedule": {**schedule, "start_schedule": _now()},
            }
            return await self.call("SetChargingProfile", connector_id=0, cs_charging_profiles=profile)
        profile = {
            "id": 1,
            "stack_level": 0,
            "charging_profile_purpose": "ChargingStationMaxProfile",
            "charging_profile_kind": "Absolute",
            "charging_schedule": [{"id": 1, **schedule, "start_schedule": _now()}],
        }
        return await self.call("SetChargingProfile", evse_id=0, charging_profile=profile)

    async def update_firmware(
        self,
        location: str,
        request_id: int,
        signing_certificate: str | None = None,
        signature: str | None = None,
        retrieve: str | None = None,
        install: str | None = None,
        retries: int | None = None,
    ) -> str:
        """Order other firmware; times are RFC 3339, ``retrieve`` None is now. Returns the status of the answer:
        Accepted for the empty one of 1.6 without signature, which knows no id and no ``install`` either; CallError
        where the station refuses the message."""
        optional = {"retries": retries} if retries is not None else {}
        if self.version == "1.6" and signing_certificate is None and signature is None:
            answer = await self.call("UpdateFirmware", location=location, retrieve_date=retrieve or _now(), **optional)
            return "CallError" if answer is None else "Accepted"
        firmware = {
            "location": location,
            "retrieve_date_time": retrieve or _now(),
            "install_date_time": install,
            "signing_certificate": signing_certificate,
            "signature": signature,
        }
        given = {name: value for name, value in firmware.items() if value is not None}
        name = "SignedUpdateFirmware" if self.version == "1.6" else "UpdateFirmware"
        answer = await self.call(name, request_id=request_id, firmware=given, **optional)
        return "CallError" if answer is None else str(answer.status)

    async def tell_cost(self, booked: Booked, *, final: bool = False, **details: Any) -> Any:
        """What a transaction costs by our price, with more of the California extension beside it, if you like.
        2.0.1 has no message for a final cost: there it is the answer to the last event."""
        cost = self.book.charge(booked)
        if cost is None:
            raise ValueError("this CSMS has no price")
        if self.version != "1.6":
            if final:
                raise ValueError("OCPP 2.0.1 tells a final cost in the answer to Ended only")
            custom = {"custom_data": {"vendorId": COST_VENDOR, **details}} if details else {}
            return await self.call("CostUpdated", total_cost=cost, transaction_id=booked.key, **custom)
        number = list(self.book.transactions).index(booked.key) + 1
        return await self.call(
            "DataTransfer",
            vendor_id=COST_VENDOR,
            message_id="FinalCost" if final else "RunningCost",
            data=json.dumps({"transactionId": number, "cost": cost, **details}),
        )

    def _select(self, _connection: ServerConnection, offered: Any) -> Any:
        wanted = f"ocpp{self.version}"
        return wanted if wanted in offered else None

    def _admit(self, connection: ServerConnection, _request: Any) -> Any:
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "away\n") if self._away else None

    async def _serve(self, connection: ServerConnection) -> None:
        tap = Tap(connection, self._on_frame, self.book)
        if self.version == "1.6":
            from agent.sim.csms16 import make_peer
        else:
            from agent.sim.csms201 import make_peer
        self.peer = make_peer(connection.request.path.rsplit("/", 1)[-1] if connection.request else "", tap, self.book)
        self.connected.set()
        with contextlib.suppress(ConnectionClosed):
            await self.peer.start()
        self.connected.clear()
        self.peer = None


class Tap:
    """The connection as the package uses it, with an ear on it."""

    def __init__(self, connection: ServerConnection, on_frame: OnFrame, book: Book) -> None:
        self._connection = connection
        self._on_frame = on_frame
        self._book = book

    async def recv(self) -> str:
        text = str(await self._connection.recv())
        self._on_frame("<", text)
        return text

    async def send(self, text: str) -> None:
        if json.loads(text)[0] == 4:
            self._book.violations.append(text)
        self._on_frame(">", text)
        await self._connection.send(text)

    async def close(self, code: int) -> None:
        await self._connection.close(code)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
