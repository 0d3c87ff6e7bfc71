"""Rows that hold what a device made, or what is made in the commit: nothing of it may end the ledger."""

from __future__ import annotations

import json
from unittest.mock import patch

import pytest

from agent.core.effects import Append
from agent.core.facts import TransactionFact, TxKind
from agent.ledger import tables
from agent.ocmf.sign import SigningFailed
from agent.station import rows
from hal.ports import SignedRecord
from tests.support.billing_world import BillingWorld, Site

FLAT = json.dumps({"tariffId": "T", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.5}]}})


@pytest.mark.parametrize(("name", "receipts"), [(b"Zaehler", 1), (b"Z\xe4hler", 0)])
def test_a_meters_record_goes_to_disk_as_it_is_and_no_receipt_holds_what_is_no_text(name: bytes, receipts: int) -> None:
    """The receipt is made in the writer's commit, when the row of the end has told a cost already."""
    with BillingWorld(Site.selling(FLAT)) as made:
        record = SignedRecord(b'OCMF|{"FV":"1.2","MS":"%s"}|{"SD":"00"}' % name, made.key.public_der)
        plain = made.disk.carry_out

        def signed_by_the_meter(effect: Append) -> None:
            ended = [fact for fact in effect.facts if isinstance(fact, TransactionFact) and fact.kind is TxKind.ENDED]
            if ended:
                made.disk._write(effect, lambda rows: made.disk._durable(effect.ticket, rows), record)
            else:
                plain(effect)

        made.charge(30)
        with patch.object(made.disk, "carry_out", signed_by_the_meter):
            made.unplug()
            made.finish()
        assert made.transactions()[-1].kind is TxKind.ENDED
        assert record.text in [row.body for row in made.all_rows() if row.kind == "signed"]
        assert len(made.receipts()) == receipts
        assert ("record_failed" in made.log()) is (receipts == 0)


@pytest.mark.parametrize(
    ("fails", "kept"),
    [
        ("seal", ["tx_started", "log", "log", "tx_ended", "log"]),
        ("seal_receipt", ["tx_started", "signed", "signed", "tx_ended", "log"]),
    ],
)
def test_a_document_that_cannot_be_made_in_the_commit_is_a_line_of_the_log_book(fails: str, kept: list[str]) -> None:
    """An error there would end the ledger, again after every restart. The next transaction has its documents."""
    with BillingWorld(Site.selling(FLAT)) as made:
        with patch.object(rows, fails, side_effect=SigningFailed("the key answers nonsense")):
            made.charge(30)
            made.unplug()
            made.finish()
        found = [row.kind for row in made.all_rows() if row.kind in kept]
        assert found[-len(kept) :] == kept
        assert made.audit() == []
        made.charge(30)
        made.unplug()
        made.finish()
        assert [receipt.number for receipt in made.receipts()] == [1]
        assert made.audit() == []


def test_numbers_that_have_no_room_in_a_record_end_nothing() -> None:
    """A damaged counter, say."""
    with BillingWorld(Site.selling(FLAT)) as made:
        tables.set_counters(made._connection, {rows.TRANSACTION_COUNTER: 10**12 - 1})
        made.charge(30)
        made.unplug()
        made.finish()
        assert made.transactions()[-1].kind is TxKind.ENDED
        assert made.log().count("record_failed") == 3  # of the begin, of the whole, and the receipt that holds it
