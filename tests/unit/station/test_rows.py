"""Rows that hold what a device made: nothing of it may end the ledger."""

from __future__ import annotations

import json
from unittest.mock import patch

import pytest

from agent.core.effects import Append
from agent.core.facts import TransactionFact, TxKind
from hal.ports import SignedRecord
from tests.support.billing_world import BillingWorld, Site

FLAT = json.dumps({"tariffId": "T", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.5}]}})


@pytest.mark.parametrize(("name", "receipts"), [(b"Zaehler", 1), (b"Z\xe4hler", 0)])
def test_a_meters_record_goes_to_disk_as_it_is_and_no_receipt_holds_what_is_no_text(name: bytes, receipts: int) -> None:
    """The receipt is made in the writer's commit, where an error would end the ledger, again after every restart."""
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
