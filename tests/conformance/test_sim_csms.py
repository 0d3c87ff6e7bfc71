"""The book of the simulated CSMS: signed records, totals, costs and updates, over a real WebSocket in both dialects.

It is an independent peer: the ``ocpp`` package checks every frame of both directions.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.core.facts import FirmwareFact, SecurityFact, TransactionFact, TxKind, UpdateVia
from agent.ipc.updates import UpdateAnswer, UpdateOutcome
from agent.ocpp.backoff import BackoffSettings
from agent.ocpp.endpoint import Endpoint
from agent.ocpp.link import Link
from agent.ocpp.version import Version
from agent.sim.csms import SignedReading, SimCsms
from tests.conformance.v16.rig import Rig as Rig16
from tests.conformance.v201.rig import Rig as Rig201
from tests.support.fake_station import ocmf, signed_facts

pytestmark = pytest.mark.wire

BEGIN, FIRST, SECOND = ocmf("B"), ocmf("B", "T"), ocmf("T", "E")
KEY = "b2NhOmJhc2UxNjphc24xOjMwNTk="
VERSIONS = {"1.6": (Rig16, Version.V16), "2.0.1": (Rig201, Version.V201)}


def played(version: str, csms: SimCsms, scene: Callable[[Any], Awaitable[None]]) -> Any:
    """A station of this version on the simulated CSMS."""
    make_rig, ocpp_version = VERSIONS[version]
    rig: Any = make_rig(protocols="HTTPS")

    async def main() -> None:
        endpoint = Endpoint(await csms.start(), "CP-1", versions=(ocpp_version,))
        link = Link(
            lambda: endpoint,
            lambda _version: rig.dialect,
            backoff=BackoffSettings(),
            validate_outgoing=True,
            random_source=random.Random(1),
        )
        running = asyncio.create_task(link.run())
        try:
            async with asyncio.timeout(20):
                await scene(rig)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await csms.stop()

    asyncio.run(main())
    assert csms.book.violations == []
    return rig


async def told(rig: Any, *facts: Any) -> None:
    await rig.station.append(*facts)
    while rig.station.delivered_seq < len(rig.station.ledger):
        await asyncio.sleep(0.01)


def facts() -> tuple[Any, ...]:
    """3 kWh, in two records, priced by the station."""
    made = signed_facts("tx-1", FIRST, SECOND, begin=BEGIN)
    return tuple(
        replace(each, total_cost="0.91", currency="EUR")
        if isinstance(each, TransactionFact) and each.kind is TxKind.ENDED
        else each
        for each in made
    )


async def set_up(rig: Any) -> None:
    await rig.station.set("SampledDataCtrlr.SignReadings", "true")
    await rig.station.set("SampledDataCtrlr.SignStartedReadings", "true")
    await rig.station.set("FiscalMetering@1.PublicKey", KEY)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_book_keeps_every_signed_record(version: str) -> None:
    csms = SimCsms(version)

    async def scene(rig: Any) -> None:
        await set_up(rig)
        await told(rig, *facts())

    played(version, csms, scene)
    [booked] = csms.book.transactions.values()
    assert booked.signed == [
        SignedReading("Transaction.Begin", BEGIN.encode(), KEY),
        SignedReading("Transaction.End", FIRST.encode(), ""),
        SignedReading("Transaction.End", SECOND.encode(), ""),
    ]
    assert booked.wh == pytest.approx(3_000, abs=1)
    # 1.6 has nothing to tell a total with.
    assert (booked.total, booked.currency) == ((None, None) if version == "1.6" else ("0.91", "EUR"))
    assert booked.charged is None


def test_costs_in_the_answers_of_2_0_1() -> None:
    csms = SimCsms("2.0.1", price_kwh="0.30")

    async def scene(rig: Any) -> None:
        before, last = facts()[:-2], facts()[-2:]
        await told(rig, *before)
        [booked] = csms.book.transactions.values()
        await csms.tell_cost(booked, state="Charging", chargingPrice={"kWhPrice": 0.3})
        await told(rig, *last)

    costs = [(each.cost, each.final, each.kwh_price) for each in played("2.0.1", csms, scene).station.costs]
    # In the answer to each event after the first, and once unasked.
    assert costs == [("0.0", False, None), ("0.45", False, None), ("0.45", False, "0.3"), ("0.9", True, None)]
    assert [booked.charged for booked in csms.book.transactions.values()] == ["0.90"]


def test_costs_by_data_transfer_in_1_6() -> None:
    csms = SimCsms("1.6", price_kwh="0.30")

    async def scene(rig: Any) -> None:
        before, last = facts()[:-2], facts()[-2:]
        await told(rig, *before)
        [booked] = csms.book.transactions.values()
        assert (await csms.tell_cost(booked)).status == "Accepted"
        await told(rig, *last)
        assert (await csms.tell_cost(booked, final=True, priceText="thank you")).status == "Accepted"

    costs = [(each.tx_id, each.cost, each.final, each.text) for each in played("1.6", csms, scene).station.costs]
    assert [(tx_id, final, text) for tx_id, _, final, text in costs] == [
        ("tx-1", False, ""),
        ("tx-1", True, "thank you"),
    ]
    assert costs[-1][1] == "0.9"


def test_a_csms_without_price_tells_no_cost() -> None:
    csms = SimCsms("2.0.1")

    async def scene(rig: Any) -> None:
        await told(rig, *facts())
        [booked] = csms.book.transactions.values()
        with pytest.raises(ValueError, match="no price"):
            await csms.tell_cost(booked)

    assert played("2.0.1", csms, scene).station.costs == []


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_signed_update_and_what_the_book_keeps_of_it(version: str) -> None:
    csms = SimCsms(version)

    async def scene(rig: Any) -> None:
        await csms.connected.wait()
        status = await csms.update_firmware(
            "https://x/y", 7, "PEM", "c2ln", "2026-11-24T08:00:00Z", "2026-11-24T09:00:00Z", 2
        )
        assert status == "Accepted"
        rig.station.update_answer = UpdateAnswer(UpdateOutcome.INVALID_CERTIFICATE)
        assert await csms.update_firmware("https://x/y", 8, "PEM", "c2ln") == "InvalidCertificate"
        statuses = [FirmwareFact(status, UpdateVia.SIGNED, 7) for status in ("Downloading", "InvalidSignature")]
        await told(rig, *statuses, SecurityFact("InvalidFirmwareSignature", ""))

    asked = played(version, csms, scene).station.update_requests
    assert [(each.via, each.request_id, each.location, each.retries) for each in asked] == [
        (UpdateVia.SIGNED, 7, "https://x/y", 2),
        (UpdateVia.SIGNED, 8, "https://x/y", None),
    ]
    assert asked[0].install_wall_ms - asked[0].retrieve_wall_ms == 3_600_000
    assert csms.book.firmware == [("Downloading", 7), ("InvalidSignature", 7)]
    assert csms.book.security_events == ["InvalidFirmwareSignature"]


@pytest.mark.parametrize(("version", "request_id"), [("1.6", None), ("2.0.1", 7)])
def test_an_update_without_signature(version: str, request_id: int | None) -> None:
    csms = SimCsms(version)

    async def scene(rig: Any) -> None:
        await csms.connected.wait()
        assert await csms.update_firmware("https://x/y", 7) == "Accepted"
        await told(rig, FirmwareFact("Downloading", UpdateVia.PLAIN, request_id))
        rig.station.update_answer = UpdateAnswer(UpdateOutcome.NOT_SUPPORTED)
        assert await csms.update_firmware("https://x/y", 8) == "CallError"

    asked = played(version, csms, scene).station.update_requests
    assert [(each.via, each.request_id) for each in asked] == [
        (UpdateVia.PLAIN, request_id),
        (UpdateVia.PLAIN, None if request_id is None else 8),
    ]
    assert csms.book.firmware == [("Downloading", request_id)]
