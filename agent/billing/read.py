"""Bytes to a receipt: from a sealed receipt or from a page that holds one.

Charter: takes a receipt apart and refuses whatever we would not have written byte for byte; whether it is true
is ``verdicts``' affair. Bytes come from anybody: every mistake is a ``ReceiptError`` that names the place, sizes
and numbers have limits, so that nothing after this has to doubt a type or a range.

Units: as in ``facts``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, Final

from agent.billing import account, receipt
from agent.billing.errors import ReceiptError
from agent.billing.facts import Moment, ReceiptFacts
from agent.billing.seal import FRAME_MAX_BYTES, opened
from agent.ipc.codec import CodecError, from_plain
from agent.tariff.cost import Bill
from agent.tariff.usage import Usage

SEALED_MAX_BYTES: Final = receipt.PAYLOAD_MAX_BYTES + FRAME_MAX_BYTES
_NUMBER_MAX: Final = 2**63 - 1
_WALL_MAX_MS: Final = 253_370_764_800_000  # year 9999, so that no zone leads out of the calendar
_ZONE_MAX_MINUTES: Final = 14 * 60
_FACTS: Final = frozenset(field.name for field in fields(ReceiptFacts))
_OTHERS: Final = frozenset({"format", "number", "ledger", "usage", "bill", "left_out", "records"})


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt as read. ``sealed`` and ``payload`` are the bytes as they came."""

    sealed: bytes
    payload: bytes
    signature: bytes
    number: int
    seq: int
    prev_hash: str
    facts: ReceiptFacts
    usage: Usage | None
    bill: Bill | None
    left_out: tuple[str, ...]
    records: tuple[str, ...]

    @property
    def energy_mwh(self) -> int | None:
        """By the registers; None where one of them was never read."""
        begin_mwh, end_mwh = self.facts.begin_mwh, self.facts.end_mwh
        return None if begin_mwh is None or end_mwh is None else end_mwh - begin_mwh

    @property
    def lasted_ms(self) -> int:
        """By the monotonic clock where it is known: the wall clock may have been set in between."""
        periods = () if self.usage is None else self.usage.periods
        if not periods:
            return self.facts.end.wall_ms - self.facts.begin.wall_ms
        return max(period.to_ms for period in periods) - min(period.from_ms for period in periods)


def parse(sealed: bytes) -> Receipt:
    """The receipt in these bytes (a line feed behind it does not count), or ``ReceiptError``."""
    if len(sealed) > SEALED_MAX_BYTES + 1:
        raise ReceiptError("file", f"{len(sealed)} bytes, a receipt has at most {SEALED_MAX_BYTES}")
    sealed = sealed.removesuffix(b"\n")
    payload, signature = opened(sealed)
    plain = _json(payload)
    if plain.get("format") != receipt.FORMAT:
        raise ReceiptError("format", f"expected {receipt.FORMAT!r}, found {plain.get('format')!r:.60}")
    if missing := (_FACTS | _OTHERS) - set(plain):
        raise ReceiptError(min(missing), "is not there")
    found = _receipt(sealed, payload, signature, plain)
    _check_same(found, plain)
    return found


def number_in(payload: bytes) -> int:
    """The number of a receipt, whatever else another release has put into it. Raises ``ReceiptError``."""
    number = _json(payload).get("number")
    if isinstance(number, bool) or not isinstance(number, int):
        raise ReceiptError("number", f"expected a number, found {number!r:.60}")
    return number


def _receipt(sealed: bytes, payload: bytes, signature: bytes, plain: dict[str, Any]) -> Receipt:
    try:
        facts: ReceiptFacts = from_plain({name: plain[name] for name in _FACTS}, ReceiptFacts)
        seq, prev_hash = plain["ledger"]["seq"], plain["ledger"]["prev_hash"]
        bytes.fromhex(prev_hash)
    except CodecError as error:
        raise ReceiptError("facts", f"{error}") from error
    except (TypeError, KeyError, ValueError) as error:
        raise ReceiptError("ledger", "expected seq and prev_hash") from error
    _check_moment("begin", facts.begin)
    _check_moment("end", facts.end)
    usage = None if plain["usage"] is None else account.usage_of(plain["usage"])
    _check_usage(usage, len(facts.tariffs))
    return Receipt(
        sealed,
        payload,
        signature,
        plain["number"],
        seq,
        prev_hash,
        facts,
        usage,
        None if plain["bill"] is None else account.bill_of(plain["bill"]),
        _texts("left_out", plain["left_out"]),
        _texts("records", plain["records"]),
    )


def _check_same(found: Receipt, plain: dict[str, Any]) -> None:
    """What was understood, written again, must be what was read: then no key was overlooked, nothing stands there
    twice, and every number, text and flag had the type it must have."""
    head = {
        "format": receipt.FORMAT,
        "number": found.number,
        "ledger": {"seq": found.seq, "prev_hash": found.prev_hash},
    }
    for name, value in (("number", found.number), ("seq", found.seq)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ReceiptError(name, f"expected a number, found {value!r:.60}")
    again = receipt.written(head | receipt.body(found.facts, found.usage, found.bill, found.records, found.left_out))
    if again != found.payload:
        ours = json.loads(again)
        places = (name for name in ours if json.dumps(ours[name]) != json.dumps(plain[name]))
        raise ReceiptError(next(places, "payload"), "not written as a receipt is")


# ---------------------------------------------------------------------------------------------- JSON


def _json(payload: bytes) -> dict[str, Any]:
    try:
        plain = json.loads(payload, parse_float=_no_float, parse_constant=_no_float, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise ReceiptError("payload", f"not the JSON of a receipt: {error}"[:200]) from error
    if not isinstance(plain, dict):
        raise ReceiptError("payload", "not a JSON object")
    return plain


def _no_float(text: str) -> Any:
    raise ValueError(f"{text[:40]} is no whole number")


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > _NUMBER_MAX:
        raise ValueError(f"{text[:40]}... needs more than 64 bits")
    return int(text)


def _texts(place: str, plain: object) -> tuple[str, ...]:
    if not isinstance(plain, list) or not all(isinstance(each, str) for each in plain):
        raise ReceiptError(place, "expected a list of texts")
    if any("\ud800" <= char <= "\udfff" for each in plain if not each.isascii() for char in each):
        raise ReceiptError(place, "half a character, which no bytes can hold")
    return tuple(plain)


# -------------------------------------------------------------------------------------------- ranges


def _check_moment(place: str, at: Moment) -> None:
    _check_wall(place, at.wall_ms)
    if not isinstance(at.offset_minutes, int) or abs(at.offset_minutes) > _ZONE_MAX_MINUTES:
        raise ReceiptError(place, f"a UTC offset of {at.offset_minutes} minutes")


def _check_wall(place: str, wall_ms: object) -> None:
    if not isinstance(wall_ms, int) or not 0 <= wall_ms <= _WALL_MAX_MS:
        raise ReceiptError(place, f"{wall_ms} ms since 1970 is no time of a transaction")


def _check_usage(usage: Usage | None, tariffs: int) -> None:
    """Indices of tariffs that are not there would crash whoever looks them up."""
    if usage is None:
        return
    for period in usage.periods:
        _check_wall("usage", period.from_wall_ms)
        _check_wall("usage", period.to_wall_ms)
        if period.tariff is not None and not 0 <= period.tariff < tariffs:
            raise ReceiptError("usage", f"a period with tariff {period.tariff} of {tariffs}")
    for volume in usage.volumes:
        if not 0 <= volume.tariff < tariffs:
            raise ReceiptError("usage", f"a volume with tariff {volume.tariff} of {tariffs}")
