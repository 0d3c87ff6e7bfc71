"""A transaction of which a newer release, since rolled back, wrote rows that nobody here can read (ADR 29): whoever
reads transactions goes on. Real ledger and archive, both dialects."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.cli import ledger
from agent.core.facts import (
    KIND_OF,
    CheckpointFact,
    CostToldFact,
    Fact,
    LimitFact,
    PriceCause,
    PriceFact,
    ReceiptFact,
    SampleContext,
    SecurityFact,
    SignedFact,
    StopFact,
    StopReason,
    Trigger,
    kind_of,
)
from agent.ipc.codec import encode_fact
from agent.ipc.monitors import CustomerRequest
from agent.ipc.port import CsmsTx, Progress, Record
from agent.ocpp.delivery import Delivery, Translator
from agent.ocpp.dialect import Line, StationView
from agent.ocpp.frames import Payload
from agent.ocpp.retry import RetryPolicy
from agent.ocpp.rpc import CallResult, Priority
from agent.ocpp.v16.transactions import TransactionIds
from agent.ocpp.v16.transactions import TransactionTranslator as Translator16
from agent.ocpp.v201.commands import transaction_status
from agent.ocpp.v201.transactions import TransactionTranslator as Translator201
from agent.sim.virtual_time import run_virtual
from agent.station.archive import Archive
from agent.station.customer import Customers
from agent.station.receipts import Receipts
from tests.support.fake_station import T0_MS, TOKEN, FakeStation, ocmf, sample, signed_facts, welcome
from tests.unit.station.test_archive import written

BEGIN, WHOLE = ocmf("B"), ocmf("B", "E")
KEY = "b2NhOmJhc2UxNjphc24xOjMwNTk="
READING = sample(SampleContext.PERIODIC, 90_000, 1_900_000)
_STARTED, _BEGIN, *_MIDDLE, _WHOLE, _ENDED, _RECEIPT = signed_facts("tx-1", WHOLE, begin=BEGIN)
FACTS: tuple[Fact, ...] = (
    _STARTED,
    _BEGIN,
    LimitFact("tx-1", 1, max_cost="20"),
    *_MIDDLE,
    CheckpointFact("tx-1", 1, READING),
    PriceFact("tx-1", 1, PriceCause.BOUNDARY, (READING,)),
    StopFact("tx-1", 1, Trigger.STOP_AUTHORIZED, StopReason.LOCAL),
    _WHOLE,
    _ENDED,
    _RECEIPT,
    CostToldFact("tx-1", 1, "12.30", final=True),
    SecurityFact("StartupOfTheDevice", ""),
)
KINDS = sorted({kind_of(fact) for fact in FACTS})
ANSWERS: dict[str, Payload] = {
    "StartTransaction": {"transactionId": 7, "idTagInfo": {"status": "Accepted"}},
    "StopTransaction": {"idTagInfo": {"status": "Accepted"}},
    "TransactionEvent": {"totalCost": 1, "idTokenInfo": {"status": "Accepted"}},
}


def bodies(lost: Callable[[Fact], bool]) -> Callable[[Fact], bytes]:
    def body_of(fact: Fact) -> bytes:
        if lost(fact):
            return b'{"words": []}'
        match fact:
            case SignedFact(record=text) | ReceiptFact(document=text):
                return text.encode()
            case _:
                return encode_fact(fact)

    return body_of


def ledger_of(path: Path, lost: Callable[[Fact], bool], facts: tuple[Fact, ...] = FACTS) -> Archive:
    return written(path, *((fact, 0, T0_MS, "S") for fact in facts), body_of=bodies(lost))


class Ledger(FakeStation):
    """The rows come from an archive."""

    archive: Archive

    async def records(self, after_seq: int, limit: int) -> list[Record]:
        return self.archive.records(after_seq, limit)

    async def transaction(self, tx_id: str, after_seq: int = 0, *, newest: bool = False) -> list[Record]:
        return self.archive.transaction(tx_id, after_seq, newest=newest)

    async def progress(self) -> Progress:
        return Progress(self.delivered_seq, tuple(self.csms_txs.values()), 0)

    async def delivered(self, seq: int, csms_tx: CsmsTx | None = None) -> None:
        self.delivered_seq = seq


class Peer:
    def __init__(self) -> None:
        self.calls: list[tuple[str, Payload]] = []

    async def call(
        self,
        action: str,
        payload: Payload,
        *,
        priority: Priority,
        timeout_s: float | None = None,
        message_id: str | None = None,
        on_late: Callable[[Payload], None] | None = None,
    ) -> CallResult:
        self.calls.append((action, payload))
        return CallResult(ANSWERS.get(action, {}))


def view(signing: bool) -> StationView:
    names = ("SampledDataCtrlr.SignReadings", "SampledDataCtrlr.SignStartedReadings")
    return StationView(
        welcome(settings={"FiscalMetering@1.PublicKey": KEY} | dict.fromkeys(names, str(signing).lower()))
    )


def deliver(archive: Archive, version: str, signing: bool) -> list[tuple[str, Payload]]:
    """What the CSMS is told of all rows."""

    async def main() -> list[tuple[str, Payload]]:
        station, peer = Ledger(), Peer()
        station.archive = archive
        translator: Translator = (
            Translator16(station, view(signing), TransactionIds())
            if version == "1.6"
            else Translator201(station, view(signing))
        )
        delivery = Delivery(station, "CP-1", translator, lambda: RetryPolicy(3, 60), new_id_on_retry=version == "1.6")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await delivery.run(Line(peer))
        assert station.delivered_seq >= archive.records(0, 100)[-1].seq, "all that can be read"
        assert (await transaction_status(station, {"transactionId": "tx-1"}))["messagesInQueue"] is False
        return peer.calls

    return run_virtual(main())


def is_of(action: str, payload: Payload, kind: str) -> bool:
    if action == "TransactionEvent":
        return f"tx_{payload['eventType'].lower()}" == kind
    return {"StartTransaction": "tx_started", "StopTransaction": "tx_ended"}.get(action) == kind


@pytest.mark.parametrize("signing", [True, False])
@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
@pytest.mark.parametrize("lost", [(kind,) for kind in KINDS] + [tuple(KINDS), ("tx_started", "tx_updated")])
def test_delivery_goes_on(tmp_path: Path, lost: tuple[str, ...], version: str, signing: bool) -> None:
    archive = ledger_of(tmp_path / "l", lambda fact: kind_of(fact) in lost)
    calls = deliver(archive, version, signing)
    for kind in ("tx_started", "tx_ended"):
        assert sum(is_of(*call, kind) for call in calls) == (kind not in lost)
    told = json.dumps(calls)
    if signing and "signed" not in lost and "tx_ended" not in lost:
        assert told.count(KEY) == 1, "once per transaction: with its start, or else with its end"
    if not signing:
        assert KEY not in told
    archive.close()


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_delivery_goes_on_after_a_transaction_that_ends_as_it_begins(tmp_path: Path, version: str) -> None:
    facts = (_STARTED, _BEGIN, _WHOLE, _ENDED)
    archive = ledger_of(tmp_path / "l", lambda fact: fact is _STARTED, facts)
    [(_, end)] = deliver(archive, version, True)
    assert json.dumps(end).count("signingMethod") == 1, "the record of the start is none of the whole transaction"
    archive.close()


@pytest.mark.parametrize("lost", [(kind,) for kind in KINDS] + [tuple(KINDS)])
@pytest.mark.parametrize("ended", [True, False])
def test_whoever_looks_on_goes_on(
    tmp_path: Path, lost: tuple[str, ...], ended: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """People's lists, the customer's data, recovery, the command line."""
    facts = FACTS if ended else tuple(fact for fact in FACTS if fact not in (_WHOLE, _ENDED, _RECEIPT))
    archive = ledger_of(tmp_path / "l", lambda fact: kind_of(fact) in lost, facts)
    nothing = SimpleNamespace(cached=lambda _: [], price_texts=lambda _: {}, evses={})
    customers = Customers(archive, *(cast(Any, nothing) for _ in range(3)))
    words = asyncio.run(customers.answer(CustomerRequest(report=True, clear=False, token=TOKEN)))
    lines = Receipts(archive).lines(10, None)
    if "tx_started" in lost:
        assert (words, lines) == ("", [])
    else:
        assert "tx-1 on EVSE 1" in words
        assert [line.energy_mwh is not None for line in lines] == [ended and "tx_ended" not in lost]
    assert len(archive.open_transactions("boot-1", 100_000, None)) <= (not ended)
    asyncio.run(Receipts(archive).receipt("tx-1", "text"))
    for tx in (None, "tx-1"):
        assert ledger.show(argparse.Namespace(file=tmp_path / "l", tx=tx, last=100, json=False)) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2 * len(facts)
    archive.close()


def test_waiting_rows_and_security_events_are_found_behind_them(tmp_path: Path) -> None:
    lost, kept = SecurityFact("Lost", ""), SecurityFact("Kept", "")
    archive = ledger_of(tmp_path / "l", lambda fact: fact is lost, (lost, lost, kept))
    assert archive.oldest_untold_wall_ms(0) == T0_MS
    assert [record.fact for record in archive.security_records(0, 1)] == [kept]
    archive.close()


def test_the_facts_are_of_every_kind_that_names_a_transaction() -> None:
    """New ones belong here, too."""
    kinds = {kind for of_kind, kind in KIND_OF.items() if "tx_id" in of_kind.__annotations__}
    assert kinds | {"tx_started", "tx_updated", "tx_ended"} <= set(KINDS)
