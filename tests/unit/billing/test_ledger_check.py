"""The daily look at documents and registers: what another release wrote is no tampering (ADR 29)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agent.billing import receipt
from agent.billing.ledger_check import DocumentCheck
from agent.billing.receipt import seal
from agent.billing.seal import opened
from agent.core.facts import LogEntry, LogFact
from agent.ipc.codec import encode_fact
from agent.ledger.rows import Row
from agent.security.keys import MeteringKey
from tests.unit.billing import making
from tests.unit.billing.making import KEY, OTHER_KEY

Plain = dict[str, Any]


def row(kind: str, body: bytes) -> Row:
    return Row(314, kind, "t1", 1, body, "boot", 0, 0, "S", bytes(range(32)), bytes(32))


def of_newer_release(change: Callable[[Plain], object], key: MeteringKey = KEY) -> bytes:
    plain = json.loads(opened(making.sealed())[0])
    change(plain)
    return seal(receipt.written(plain), key)


def test_a_log_row_with_a_word_that_is_not_known_is_counted() -> None:
    check = DocumentCheck([KEY.public_der])
    body = encode_fact(LogFact(LogEntry.METER_SEEN, 1)).replace(b"meter_seen", b"magic")
    assert check.number_of(row("log", body)) is None
    assert (check.findings, check.unread) == ([], 1)


@pytest.mark.parametrize(
    "change", [lambda plain: plain.update(colour="red"), lambda plain: plain["begin"].update(colour="red")]
)
def test_a_receipt_with_more_in_it_than_is_known_keeps_its_number(change: Callable[[Plain], object]) -> None:
    check = DocumentCheck([KEY.public_der])
    assert check.number_of(row("receipt", of_newer_release(change))) == ("receipt", 17)
    assert (check.findings, check.unread) == ([], 1)


def test_a_receipt_that_nobody_here_signed_is_found_in_any_form() -> None:
    check = DocumentCheck([KEY.public_der])
    forged = of_newer_release(lambda plain: plain.update(colour="red"), OTHER_KEY)
    assert check.number_of(row("receipt", forged)) is None
    assert [each.what for each in check.findings] == ["document"]


def test_a_receipt_without_a_number_is_found() -> None:
    check = DocumentCheck([KEY.public_der])
    assert check.number_of(row("receipt", of_newer_release(lambda plain: plain.update(number="17")))) is None
    assert [each.what for each in check.findings] == ["document"]
