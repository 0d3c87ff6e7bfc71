"""A meter that signs by itself, through what happens in the field: its records stay records of this station."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from agent.station.disk import Disk
from agent.station.signers import MeterRecords
from hal.ports import CpState
from tests.support.billing_world import IDENTITY, ZONE, BillingWorld, Site
from tests.support.signing_meter import SealingSigner

FLAT = json.dumps({"tariffId": "T", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.5}]}})
HOUR_MS = 3_600_000


class Station(BillingWorld):
    """A station with such a meter, made while a loop runs. ``pass_s`` lets the meter answer while time passes."""

    def __init__(self, *, clock: str = "S", meter_has_time: bool = False, fails: str = "") -> None:
        self.signer = SealingSigner(lambda: (self.register_mwh, self.wall_ms), "M1", has_time=meter_has_time)
        self.signer.fails = fails
        self.learned_keys: list[bytes] = []
        super().__init__(Site.selling(FLAT), clock=clock)

    def _begin(self) -> None:
        meters: dict[int, Any] = {1: self.signer}
        signers = MeterRecords(meters, IDENTITY, ZONE, self.append)
        known = self.archive.meters_in_use()
        self.disk = Disk(self.disk._writer, self.rows, signers, self.logic, self.key.key_id, known, self)
        super()._begin()
        if self.tx_id is not None:
            signers.resume(1, partial(self.archive.signed_before, self.tx_id, 1))

    def learned_key(self, evse: int, public_der: bytes) -> None:
        self.learned_keys.append(public_der)

    async def pass_s(self, seconds: int) -> None:
        for _ in range(seconds):
            await asyncio.sleep(0)
            self.advance(1_000)

    async def a_session(self) -> None:
        """All of it but its end."""
        await self.pass_s(3)
        self.plug()
        self.authorize()
        self.draw()
        await self.pass_s(30)

    async def leave(self) -> None:
        self.unplug()
        await self.pass_s(60)
        self.finish()


Story = Callable[[Station], Awaitable[None]]


def told(story: Story, **how: Any) -> Station:
    """The station when the story is over; the check of its ledger finds nothing, and each receipt has the meter's
    own record."""

    async def main() -> Station:
        made = Station(**how)
        await story(made)
        await made.leave()
        return made

    made = asyncio.run(main())
    assert made.audit() == []
    receipts = made.receipts()
    assert {receipt.facts.record_key for receipt in receipts} == {SealingSigner.key.public_hex.upper()}
    made.close()
    return made


async def ordinary(station: Station) -> None:
    await station.a_session()
    await station.leave()


@pytest.mark.parametrize("by_ms", [300_000, -300_000])
def test_a_clock_that_is_corrected_in_mid_session_is_no_tampering(by_ms: int) -> None:
    async def corrected(station: Station) -> None:
        station.step_clock(-by_ms)  # it goes wrong, as one that nobody has looked after
        await station.a_session()
        station.step_clock(by_ms)

    told(corrected)


def test_power_that_was_away_is_no_tampering() -> None:
    async def power_away(station: Station) -> None:
        await station.a_session()
        station.cp = CpState.A  # the driver leaves meanwhile
        station.signer.loses_supply()
        station.crash(power=True, away_ms=HOUR_MS)

    told(power_away)


@pytest.mark.parametrize("meter_has_time", [False, True])
@pytest.mark.parametrize("clock", ["U", "I", "S"])
def test_who_has_no_clock_has_not_tampered(clock: str, meter_has_time: bool) -> None:
    told(ordinary, clock=clock, meter_has_time=meter_has_time)


def test_a_key_that_was_not_told_when_asked_for_comes_with_the_record() -> None:
    """A moment of noise after a start, and the check would have known nobody who signed these records."""

    async def two(station: Station) -> None:
        await ordinary(station)
        await ordinary(station)

    made = told(two, fails="key")
    assert made.signer.asked.count("key") == 1
    assert set(made.learned_keys) == {SealingSigner.key.public_der}, "OCPP's FiscalMetering.PublicKey"
