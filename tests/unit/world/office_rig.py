"""A real dialect and session over a model wire to the model back office, in virtual time.

Charter: the gateway's part is played here (one connection after another, as ``agent.ocpp.link`` runs them), the
station is ``FakeStation``. The session validates what the station says, the back office checks it by its schema, and
``answers`` holds what the back office said that no schema allows.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from typing import Any

from agent.ocpp import schema
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.session import Direction, Hooks, Session, TransportClosed
from agent.ocpp.version import Version
from agent.sim.virtual_time import now_ms
from agent.sim.world.back_office import BackOffice
from agent.sim.world.booking import Booked
from agent.sim.world.wire import Network, Wire
from tests.conformance.v16 import rig as rig16
from tests.conformance.v201 import rig as rig201
from tests.support.fake_csms import until
from tests.support.fake_station import T0_MS

MESSAGE_TIMEOUT_S = 30.0
FIRST = {Version.V16: "StartTransaction", Version.V201: "TransactionEvent"}


class OfficeRig:
    """``station`` and ``dialect`` are those of the conformance rig of the version."""

    def __init__(self, version: Version, seed: int = 1, **office: Any) -> None:
        self.version = version
        self.inner: Any = rig16.Rig() if version.is_16 else rig201.Rig()
        self.station = self.inner.station
        self.office = BackOffice(
            random.Random(seed), lambda: T0_MS + now_ms(), versions=(version,), check_schema=True, **office
        )
        self.network = Network(self.office, random.Random(seed + 1))
        self.endpoint = Endpoint("ws://csms.example/ocpp", "CP-1", (Version.V201, Version.V16))
        self.invalid: list[str] = []  # what the back office said that its schema does not allow
        self.ids = itertools.count()
        self._asked: dict[str, str] = {}

    async def connect(self) -> asyncio.Task[None]:
        """One connection; the task ends with it."""
        wire = await self.network.connect(self.endpoint)
        return asyncio.create_task(self._converse(wire))

    async def registered(self) -> None:
        """Connect, and wait for the boot to be accepted and the connectors to be told."""
        self._connection = await self.connect()
        book = self.office.book
        await until(lambda: self.office.registration == "Accepted" and len(book.statuses) >= 2)

    def assert_clean(self) -> None:
        """Neither side said what it must not."""
        assert not self.office.violations
        assert not self.invalid

    async def keep_connected(self, pause_s: float = 10.0) -> None:
        """Connection after connection, until cancelled."""
        while True:
            await (await self.connect())
            await asyncio.sleep(pause_s)

    async def _converse(self, wire: Wire) -> None:
        if wire.subprotocol != self.version.subprotocol:
            await wire.close(1002, "no common version")
            return
        dialect = self.inner.dialect
        session = Session(
            wire,
            dialect.version,
            dialect.handle,
            dialect.supported,
            validate_outgoing=True,
            hooks=Hooks(on_frame=self._watch),
            clock_ms=now_ms,
            message_timeout_s=MESSAGE_TIMEOUT_S,
            new_id=lambda: f"id-{next(self.ids)}",
        )
        tasks = [
            asyncio.create_task(session.run()),
            asyncio.create_task(dialect.run(session)),
            asyncio.create_task(self._keep_alive(wire)),
        ]
        await asyncio.wait(tasks[:1])
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        await wire.close(1000, "")

    async def _keep_alive(self, wire: Wire) -> None:
        """As the link does it: a wire without pong is closed."""
        while True:
            await asyncio.sleep(60)
            try:
                async with asyncio.timeout(20):
                    await wire.ping()
            except TimeoutError:
                await wire.close(1000, "no pong")
            except TransportClosed:
                return  # the session tells why

    def _watch(self, direction: Direction, text: str) -> None:
        try:
            frame = json.loads(text)
            kind, message_id, *rest = frame
        except (ValueError, TypeError):
            return  # garbage, on purpose
        try:
            if direction is Direction.OUT and kind == 2:
                self._asked[message_id] = rest[0]
            elif kind == 3 and direction is Direction.IN and message_id in self._asked:
                schema.check_response(self.version, self._asked[message_id], rest[0])
            elif kind == 2:
                schema.check_request(self.version, *rest)
        except schema.SchemaViolation as violation:
            self.invalid.append(f"{violation}: {text}")

    async def drained(self, within_s: float = 36_000) -> None:
        """Everything in the ledger is delivered, or given up."""
        await until(lambda: self.station.delivered_seq == len(self.station.ledger), within_s=within_s)


def one(rig: OfficeRig) -> Booked:
    """The only transaction that was booked."""
    [booked] = rig.office.book.transactions.values()
    return booked


def assert_whole(booked: Booked, version: Version, *, periodic: int = 1) -> None:
    """Booked once and rightly: ``session_facts`` from begin to end."""
    assert (booked.starts, booked.ends, booked.disorder) == (1, 1, [])
    begin_mwh = 1_000_000 if version.is_16 else 1_000_900
    assert booked.begin_mwh == begin_mwh and booked.end_mwh == booked.last_mwh
    assert booked.energy_mwh == (periodic + 1) * 1_500_000
    assert (booked.evse, booked.reason, booked.id_token) == (1, "Local", "04A2B3C4D5E6F7")
    if not version.is_16:
        assert booked.seq_nos.ranges == [(0, periodic + 2)]
