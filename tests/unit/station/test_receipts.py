"""Transactions and receipts for people who look on."""

from __future__ import annotations

import asyncio

from agent.ledger.kinds import RECEIPT
from agent.station.receipts import Receipts
from tests.support.billing_world import BillingWorld, Site
from tests.unit.station.test_billing_money import FLAT


def world_with(transactions: int) -> BillingWorld:
    made = BillingWorld(Site.selling(FLAT))
    for _ in range(transactions):
        made.charge(60)
        made.unplug()
        made.advance(10_000)
    return made


def test_ended_and_running_transactions_are_listed_the_newest_first() -> None:
    with world_with(2) as made:
        made.charge(30)
        newest, *others = Receipts(made.archive).lines(10, None)
        assert (newest.end_wall_ms, newest.energy_mwh, newest.cost, newest.receipt) == (None, None, None, False)
        assert [each.tx_id for each in (newest, *others)] == ["tx-3", "tx-2", "tx-1"]
        for each in others:
            assert each.receipt and each.end_wall_ms is not None
            assert each.end_wall_ms > each.begin_wall_ms
            assert each.energy_mwh is not None and each.energy_mwh > 0
            assert each.cost is not None and each.cost.endswith(" EUR")
            assert each.token == "***B2C3"


def test_pages_go_on_where_the_last_one_ended() -> None:
    with world_with(3) as made:
        receipts = Receipts(made.archive)
        first = receipts.lines(2, None)
        second = receipts.lines(2, first[-1].seq)
        assert [each.tx_id for each in (*first, *second)] == ["tx-3", "tx-2", "tx-1"]
        assert receipts.lines(2, second[-1].seq) == []
        assert len(receipts.lines(0, None)) == 1
        assert len(receipts.lines(10_000, None)) == 3


def test_receipt_is_the_one_of_the_ledger_in_every_form() -> None:
    with world_with(1) as made:
        receipts = Receipts(made.archive)
        texts = {form: asyncio.run(receipts.receipt("tx-1", form)) for form in ("text", "html", "json", "xml", "ocmf")}
        assert all(texts.values())
        [row] = made.archive._reader.rows(0, 10, kinds=[RECEIPT])
        assert row.body.decode().partition("|")[0] in texts["html"]


def test_what_is_not_there_is_empty() -> None:
    with world_with(1) as made:
        made.charge(30)
        receipts = Receipts(made.archive)
        for tx_id, form in (("tx-2", "text"), ("tx-9", "text"), ("tx-1", "pdf"), ("tx-1", "sealed")):
            assert asyncio.run(receipts.receipt(tx_id, form)) == ""
