"""Is a receipt true? Several questions, one answer each.

Charter: judges a parsed receipt from nothing but itself and a public key: no network, no ledger, no clock. A
forged receipt may add up and a genuine one may be wrong, so nothing is mixed into one answer.

| name | asks |
|---|---|
| signature | did the owner of the key sign exactly these bytes |
| records | did the same key sign each meter record |
| billable | may a bill rest on the records |
| consistency | do receipt, records and usage tell the same of meter, registers and times |
| tariff_hash | are the tariffs those that their hashes name |
| cost_recomputed | does usage and tariff give the same bill again |
| sums | do the printed lines add up to the printed total |
| plausibility | can it have been so |

The place in the ledger (row, hash of the row before) can only be compared with the ledger itself.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.billing import consistency, receipt, sums
from agent.billing.prices import bill_again
from agent.billing.read import Receipt
from agent.billing.seal import signed_by
from agent.ocmf.errors import OcmfError
from agent.ocmf.parse import Record
from agent.ocmf.parse import parse as parse_record
from agent.ocmf.public_key import PublicKey, parse_key
from agent.ocmf.verify import verify as verify_record
from agent.tariff.parse import content_hash
from agent.tariff.problem import TariffError


class State(enum.StrEnum):
    GOOD = "good"
    BAD = "bad"
    OPEN = "open"  # cannot be told from what was given


@dataclass(frozen=True, slots=True)
class Verdict:
    name: str
    state: State
    text: str


# As those of ``evsed ocmf verify``, and more.
EXIT_SIGNATURE: Final = 1
EXIT_UNREADABLE: Final = 2
EXIT_NOT_BILLABLE: Final = 3
EXIT_INCONSISTENT: Final = 4
EXIT_COST: Final = 5
EXIT_OPEN: Final = 6

# The gravest first.
_EXITS: Final = {
    EXIT_SIGNATURE: ("signature", "records", "display"),
    EXIT_INCONSISTENT: ("consistency", "tariff_hash", "plausibility"),
    EXIT_COST: ("cost_recomputed", "sums"),
    EXIT_NOT_BILLABLE: ("billable",),
}


def verify(found: Receipt, key: PublicKey | None = None) -> tuple[Verdict, ...]:
    """One verdict per question. Without a key only the key inside the receipt can be tried, which proves that it
    is whole, not whose it is."""
    own = _key_of(found.facts.public_key)
    trusted = key or own
    # A meter that signs by itself has a key of its own; the receipt's signature vouches for it.
    signer = _key_of(found.facts.record_key) if found.facts.record_key else trusted
    records, unreadable = _records(found)
    return (
        _signature(found, key, own),
        _listed("records", unreadable or [*_record_signatures(found, records, signer)], f"{len(records)} signed"),
        _listed("billable", _not_billable(found, records), "a bill may rest on the records"),
        _listed("consistency", consistency.differences(found, records, trusted), "receipt, records and usage agree"),
        _tariff_hash(found),
        _cost(found),
        _listed("sums", sums.mistakes(found.bill) if found.bill else (), _added_up(found)),
        _listed("plausibility", consistency.implausible(found), "nothing speaks against it"),
    )


def exit_code(verdicts: tuple[Verdict, ...]) -> int:
    """0 when all is good, else the code of the gravest."""
    bad = {each.name for each in verdicts if each.state is State.BAD}
    for code, names in _EXITS.items():
        if bad.intersection(names):
            return code
    return EXIT_OPEN if any(each.state is State.OPEN for each in verdicts) else 0


def _listed(name: str, mistakes: Iterable[str], good: str) -> Verdict:
    found = list(mistakes)
    return Verdict(name, State.BAD, "; ".join(found)) if found else Verdict(name, State.GOOD, good)


# ----------------------------------------------------------------------------------------- signature


def _key_of(text: str) -> PublicKey | None:
    try:
        return parse_key(text)
    except OcmfError:
        return None


def _signature(found: Receipt, key: PublicKey | None, own: PublicKey | None) -> Verdict:
    def signed(by: PublicKey | None) -> bool:
        return by is not None and by.der is not None and signed_by(found.payload, found.signature, by.der)

    if key is not None:
        if signed(key):
            return Verdict("signature", State.GOOD, "signed by this key")
        return Verdict("signature", State.BAD, "not signed by this key, or changed since")
    if signed(own):
        text = "whole, but signed by a key that only the receipt itself names: compare it with the charger's label"
        return Verdict("signature", State.OPEN, text)
    return Verdict("signature", State.BAD, "not signed by the key it names, or changed since")


# ------------------------------------------------------------------------------------------- records


def _records(found: Receipt) -> tuple[list[Record], list[str]]:
    records, unreadable = [], []
    for number, text in enumerate(found.records, 1):
        try:
            records.append(parse_record(text.encode("utf-8")))
        except OcmfError as error:
            unreadable.append(f"record {number}: {error}")
    return records, unreadable


def _record_signatures(found: Receipt, records: list[Record], key: PublicKey | None) -> Iterable[str]:
    if not records:
        yield "the receipt holds no meter record"
    for number, record in enumerate(records, 1):
        verdict = verify_record(record, key)
        if not verdict.signature.valid:
            yield f"record {number}: {verdict.signature.text}"
        # The first form of the record is the one that was signed: white space around it would be ours.
        if record.raw != found.records[number - 1].encode("utf-8"):
            yield f"record {number}: something stands around it"


def _not_billable(found: Receipt, records: list[Record]) -> Iterable[str]:
    if found.facts.flags.not_billable:
        yield "the station itself says so"
    yield from consistency.unbillable(records)


# --------------------------------------------------------------------------------------------- money


def _tariff_hash(found: Receipt) -> Verdict:
    wrong = []
    for tariff in found.facts.tariffs:
        try:
            if tariff.text is not None and content_hash(tariff.text) != tariff.content_hash:
                wrong.append(f"the text of tariff {tariff.tariff_id!r:.70} has another hash")
        except TariffError as error:
            wrong.append(f"the text of tariff {tariff.tariff_id!r:.70} is none: {error}"[:300])
    if not wrong and any(tariff.text is None for tariff in found.facts.tariffs):
        return Verdict("tariff_hash", State.OPEN, "not every text is in the receipt; the ledger has them")
    return _listed("tariff_hash", wrong, "each text has its hash" if found.facts.tariffs else "there is no tariff")


def _cost(found: Receipt) -> Verdict:
    if found.bill is None and not found.facts.tariffs:
        if receipt.ACCOUNT in found.left_out:
            return Verdict("cost_recomputed", State.OPEN, "the bill is not in the receipt; the ledger has it")
        return Verdict("cost_recomputed", State.GOOD, "the station knows no price, so there is no cost")
    if receipt.TARIFF_TEXTS in found.left_out:
        return Verdict("cost_recomputed", State.OPEN, "not every tariff is in the receipt; the ledger has them")
    try:
        again = bill_again(found)
    except ValueError as error:
        return Verdict("cost_recomputed", State.BAD, str(error))
    if again != found.bill:
        return Verdict("cost_recomputed", State.BAD, "usage and tariff of the receipt give another bill")
    return Verdict("cost_recomputed", State.GOOD, "usage and tariff of the receipt give the same bill")


def _added_up(found: Receipt) -> str:
    return "there is no bill" if found.bill is None else "lines, taxes and adjustments add up to the total"
