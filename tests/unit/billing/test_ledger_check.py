"""The daily look at documents and registers: what another release wrote is no tampering (ADR 29)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.billing import receipt
from agent.billing.consistency import METER_CLOCK_MS, METER_STEP_MWH
from agent.billing.facts import Moment, ReceiptFacts
from agent.billing.ledger_check import DocumentCheck
from agent.billing.receipt import seal
from agent.billing.seal import opened
from agent.core.facts import LogEntry, LogFact
from agent.ipc.codec import encode_fact
from agent.ledger.rows import Row
from agent.security.keys import MeteringKey
from agent.tariff.usage import Usage
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


# ---------------------------------------------------------------------------- a meter that signs by itself

FAR_MS = METER_CLOCK_MS + 1
FAR_MWH = METER_STEP_MWH + 1_000  # a register is signed in whole Wh


def later(at: Moment, ms: int = 0, time_status: str = "") -> Moment:
    return replace(at, wall_ms=at.wall_ms + ms, time_status=time_status or at.time_status)


def both(of: ReceiptFacts, ms: int = 0, time_status: str = "") -> ReceiptFacts:
    return replace(of, begin=later(of.begin, ms, time_status), end=later(of.end, ms, time_status))


def flagged(of: ReceiptFacts, **flags: bool) -> ReceiptFacts:
    return replace(of, flags=replace(of.flags, **flags))


Told = Callable[[ReceiptFacts], ReceiptFacts]
"""What one side, the station or the meter, tells of a transaction, from what was true."""


def as_it_was(of: ReceiptFacts) -> ReceiptFacts:
    return of


STORIES: dict[str, tuple[Told, Told]] = {
    "nothing special": (as_it_was, as_it_was),
    "the meter looks a moment later": (as_it_was, lambda true: both(true, METER_CLOCK_MS)),
    "power was away for an hour, and the meter ended its record when it went": (
        lambda true: flagged(replace(true, end=later(true.end, 3_600_000)), power_failure=True),
        as_it_was,
    ),
    "the CSMS put the station's clock on in mid-session": (
        lambda true: replace(true, end=later(true.end, FAR_MS)),
        as_it_was,
    ),
    "the CSMS put the station's clock back in mid-session": (
        lambda true: replace(true, end=later(true.end, -FAR_MS)),
        as_it_was,
    ),
    "the station has no clock, the meter has": (
        lambda true: both(true, time_status="U"),
        lambda true: both(true, FAR_MS),
    ),
    "the station had no clock at the begin, the meter goes wrong": (
        lambda true: replace(true, begin=later(true.begin, time_status="U")),
        lambda true: both(true, FAR_MS),
    ),
    "the station has a clock, the meter has none": (as_it_was, lambda true: both(true, -true.begin.wall_ms, "U")),
    "the end had to be substituted, the meter counted on": (
        lambda true: flagged(true, substituted_reading=True),
        lambda true: replace(true, end=later(true.end, FAR_MS), end_mwh=(true.end_mwh or 0) + FAR_MWH),
    ),
}


def found_of(ours: Told, meters: Told, *, without_usage: bool = False) -> list[str]:
    """What the check says of a receipt whose record the meter has signed."""
    usage: Usage | None = making.used(
        (making.TARIFF,), [(3_600_000, 9_876_000, making.STEPS[0][2])], begin_mwh=1_000_000
    )
    true = making.facts(usage=usage, record_key=OTHER_KEY.public_hex)
    if without_usage:
        true, usage = replace(true, tariffs=()), None
    sealed = making.sealed(ours(true), usage, records=[making.record(meters(true), OTHER_KEY)])
    check = DocumentCheck([KEY.public_der, OTHER_KEY.public_der])
    assert check.number_of(row("receipt", sealed)) == ("receipt", 17)
    return [each.detail.removeprefix("receipt 17: ") for each in check.findings]


@pytest.mark.parametrize("story", STORIES)
def test_an_ordinary_story_of_a_signing_meter_is_no_tampering(story: str) -> None:
    assert found_of(*STORIES[story]) == []


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("name", ["begin", "end"])
def test_whatever_the_clocks_say_the_registers_must_agree(name: str, story: str) -> None:
    ours, meters = STORIES[story]

    def with_another_register(true: ReceiptFacts) -> ReceiptFacts:
        told = replace(true, **{f"{name}_mwh": getattr(true, f"{name}_mwh") - FAR_MWH})
        return replace(meters(told), end_mwh=told.end_mwh)

    assert found_of(ours, with_another_register) == [
        f"the register at the {name} is not that of the meter's own record"
    ]


@pytest.mark.parametrize("name", ["begin", "end"])
def test_clocks_that_nobody_set_meanwhile_must_agree(name: str) -> None:
    def late(true: ReceiptFacts) -> ReceiptFacts:
        moved: dict[str, Any] = {name: later(getattr(true, name), FAR_MS)}
        return replace(true, **moved)

    assert found_of(as_it_was, late) == [f"the time of the {name} is far from that of the meter's own record"]


def test_without_usage_nobody_knows_whether_a_clock_was_set() -> None:
    def late(true: ReceiptFacts) -> ReceiptFacts:
        return replace(true, end=later(true.end, FAR_MS))

    assert found_of(as_it_was, late, without_usage=True) == []
