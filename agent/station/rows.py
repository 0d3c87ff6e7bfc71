"""Facts as ledger rows, with the signed documents that go with them.

Charter: one fact is one row; a start or an end of a transaction also brings the meter record (OCMF) and,
at the end, the receipt, in the same commit. The documents name their place in the chain, so their bytes
are made in the writer's own transaction (and thread: signing may take long); one that cannot be made there is a line
of the log book instead, since an error would end the ledger, again after every restart. Order in the commit: at the
start the fact, then the record; at the end the record, then the fact, then the receipt, so that whoever
reads up to the end has the record.

Sources: metering reference 4.4 (write path), 1.5 (pagination).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from zoneinfo import ZoneInfo

from agent.billing import record as ocmf_record
from agent.billing.books import Books, Mark, Stamp
from agent.billing.facts import Flags, Moment, Operator, Place, ReceiptFacts, Software, TariffUsed
from agent.billing.receipt import payload as receipt_payload
from agent.billing.record import Identity
from agent.billing.seal import seal as seal_receipt
from agent.core.facts import Fact, ReceiptFact, SignedFact, StopReason, TariffFact, TransactionFact, TxKind, kind_of
from agent.ipc.codec import encode_fact
from agent.ledger.rows import NewRow, Sealed, Slot
from agent.ledger.side_records import PutTariff
from agent.ledger.state import Delete, Namespace, Put, StateChange
from agent.ocmf.record import Draft, payload
from agent.ocmf.sign import SigningKey, seal
from agent.station.billing import Billing, record_failed
from agent.station.tariffs import canonical_text
from agent.tariff.cost import Bill
from agent.tariff.currency import minor_text
from agent.tariff.text import price_lines
from hal.ports import SignedRecord

TRANSACTION_COUNTER = "T"
RECEIPT_COUNTER = "receipt"

AnyRow = NewRow | Sealed
Change = StateChange | PutTariff


@dataclass(frozen=True, slots=True)
class Seller:
    """What every receipt of this station says."""

    operator: Operator
    identity: str
    vendor: str
    model: str
    serial: str
    software: Software
    time_zone: str


class RowMaker:
    """Makes rows. ``signs_begin`` says whether a record is wanted at the start of a transaction."""

    def __init__(
        self,
        billing: Billing,
        who: Identity,
        seller: Seller,
        key: SigningKey,
        last_ends: dict[str, str],
        signs_begin: Callable[[], bool],
    ) -> None:
        self._billing = billing
        self._who = who
        self._seller = seller
        self._key = key
        self._last_ends = last_ends  # EVSE -> serial and register at the end of its last transaction
        self._signs_begin = signs_begin

    def rows(
        self,
        facts: Sequence[Fact],
        stamp: Stamp,
        meter_record: SignedRecord | None = None,
        *,
        meter_begins: bool = False,
    ) -> tuple[list[AnyRow], list[Change]]:
        """All rows of one commit, in order, and what is kept beside them.

        ``meter_record``: the meter has signed the transaction that ends here; it takes the place of our record.
        ``meter_begins``: it is about to begin one, so there is none of ours at the start."""
        rows: list[AnyRow] = []
        changes: list[Change] = []
        for fact in facts:
            plain = self.plain(fact, stamp)
            if isinstance(fact, TariffFact):
                changes.append(PutTariff(fact.tariff_id, fact.source, canonical_text(fact.text)))
            books = self._billing.books(fact.tx_id) if isinstance(fact, TransactionFact) else None
            if not isinstance(fact, TransactionFact) or books is None:
                rows.append(plain)
            elif fact.kind is TxKind.STARTED:
                plain = self.plain(books.started, stamp)
                rows += [plain, *(self._begin(fact, books, stamp) if self._signs_begin() and not meter_begins else ())]
            elif fact.kind is TxKind.ENDED:
                goes_on = any(_follows(each, fact) for each in facts)
                rows += self._end(fact, books, stamp, meter_record, final=not goes_on)
                changes.append(self._end_change(fact, goes_on=goes_on))
            else:
                rows.append(plain)
        return rows, changes

    def _end(
        self, fact: TransactionFact, books: Books, stamp: Stamp, meter_record: SignedRecord | None, *, final: bool
    ) -> list[AnyRow]:
        """The end with its documents. Where these cannot be made the end comes without them, and the log book says
        so: a crash would come again after every restart."""
        records: list[AnyRow] = []
        signed: list[bytes | None] = []
        try:
            if meter_record is not None:
                records, signed = [self.passed_through(fact, stamp, meter_record)], [meter_record.text]
            else:
                made, signed = self._records(fact, stamp, ocmf_record.drafts(books, self._who))
                records += made
            bill = self._billing.bill(books, books.usage(), final=final)
            receipt = self._receipt(fact, books, bill, stamp, signed, meter_record)
        except Exception as error:
            failed = self._billing.failed(fact.tx_id, fact.evse, error)
            return [*records, self.plain(fact, stamp), self.plain(failed, stamp)]
        return [*records, self.plain(_with_cost(fact, bill), stamp), receipt]

    def plain(self, fact: Fact, stamp: Stamp) -> NewRow:
        """The row of a fact that nobody signs."""
        return NewRow(
            kind=kind_of(fact),
            body=encode_fact(fact),
            boot_id=stamp.boot_id,
            mono_ms=stamp.mono_ms,
            wall_ms=stamp.wall_ms,
            time_status=stamp.time_status,
            tx_id=getattr(fact, "tx_id", None),
            evse=getattr(fact, "evse", None),
        )

    # ------------------------------------------------------------------------------------- records

    def _begin(self, fact: TransactionFact, books: Books, stamp: Stamp) -> Sequence[AnyRow]:
        try:
            return self._records(fact, stamp, ocmf_record.drafts(books, self._who, books.marks[:1]))[0]
        except Exception as error:
            return [self.plain(self._billing.failed(fact.tx_id, fact.evse, error), stamp)]

    def _records(
        self, fact: TransactionFact, stamp: Stamp, drafts: Sequence[Draft]
    ) -> tuple[list[Sealed], list[bytes | None]]:
        """Rows of signed records, and where their bytes are found once they are made."""
        signed: list[bytes | None] = [None] * len(drafts)

        def maker(index: int, draft: Draft) -> Callable[[Slot], bytes]:
            def make(slot: Slot) -> bytes:
                text = payload(draft, f"{TRANSACTION_COUNTER}{slot.number}", slot.prev_hash)
                signed[index] = sealed = seal(text, self._key)
                return sealed

            return make

        kind = kind_of(SignedFact(fact.tx_id, fact.evse, ""))
        rows = [
            self._sealed(kind, fact, stamp, maker(index, draft), TRANSACTION_COUNTER)
            for index, draft in enumerate(drafts)
        ]
        return rows, signed

    def passed_through(self, fact: TransactionFact | None, stamp: Stamp, record: SignedRecord, evse: int = 0) -> NewRow:
        """A record as the meter signed it; without a transaction where none claims it."""
        return NewRow(
            kind=kind_of(SignedFact("", 0, "")),
            body=record.text,
            boot_id=stamp.boot_id,
            mono_ms=stamp.mono_ms,
            wall_ms=stamp.wall_ms,
            time_status=stamp.time_status,
            tx_id=None if fact is None else fact.tx_id,
            evse=evse if fact is None else fact.evse,
        )

    def _sealed(
        self, kind: str, fact: TransactionFact, stamp: Stamp, make: Callable[[Slot], bytes], counter: str
    ) -> Sealed:
        return Sealed(
            kind=kind,
            make=make,
            boot_id=stamp.boot_id,
            mono_ms=stamp.mono_ms,
            wall_ms=stamp.wall_ms,
            time_status=stamp.time_status,
            tx_id=fact.tx_id,
            evse=fact.evse,
            counter=counter,
            instead=lambda error: self.plain(record_failed(fact.tx_id, fact.evse, error), stamp),
        )

    # ------------------------------------------------------------------------------------- receipt

    def _receipt(
        self,
        fact: TransactionFact,
        books: Books,
        bill: Bill | None,
        stamp: Stamp,
        signed: Sequence[bytes | None],
        meter_record: SignedRecord | None,
    ) -> Sealed:
        usage = books.usage()
        record_key = "" if meter_record is None else meter_record.public_key.hex().upper()
        facts = replace(self._receipt_facts(fact, books), record_key=record_key)
        # Whatever cannot be written shows here, before the row of the end tells a cost. Of the records only a meter's
        # own is there by now, and only that one can be no text.
        receipt_payload(facts, usage, bill, seq=0, prev_hash=b"", number=0, records=_texts(signed))

        def make(slot: Slot) -> bytes:
            assert slot.number is not None
            records = _texts(signed)
            if len(records) != len(signed):
                raise ValueError("a record that it would hold was not made")
            text = receipt_payload(
                replace(facts, local_number=slot.number),
                usage,
                bill,
                seq=slot.seq,
                prev_hash=slot.prev_hash,
                number=slot.number,
                records=records,
            )
            return seal_receipt(text, self._key)

        kind = kind_of(ReceiptFact(fact.tx_id, fact.evse, ""))
        return self._sealed(kind, fact, stamp, make, RECEIPT_COUNTER)

    def _receipt_facts(self, fact: TransactionFact, books: Books) -> ReceiptFacts:
        seller, begin, end = self._seller, books.marks[0], books.marks[-1]
        tariffs = zip(books.tariffs, books.tariff_hashes, strict=True)
        return ReceiptFacts(
            operator=seller.operator,
            place=Place(
                identity=seller.identity,
                vendor=seller.vendor,
                model=seller.model,
                serial=seller.serial,
                evse=fact.evse,
                meter_serial=begin.sample.meter_serial,
            ),
            software=seller.software,
            tx_id=fact.tx_id,
            local_number=0,
            token=ocmf_record.printed_token(books.started.token, self._who.token_form),
            group=books.started.group or "",
            stop_reason="" if fact.stopped_reason is None else fact.stopped_reason.value,
            payment_reference="",
            begin=self._moment(begin),
            end=self._moment(end),
            begin_mwh=begin.sample.energy_import_mwh,
            end_mwh=end.sample.energy_import_mwh,
            unassigned_before_mwh=self._unassigned_mwh(fact.evse, begin),
            time_zone=seller.time_zone,
            tzdata=_tzdata_version(),
            public_key=self._key.public_der.hex().upper(),
            bounds=self._billing.bounds(books),
            flags=Flags(
                offline=books.offline,
                power_failure=fact.stopped_reason is StopReason.POWER_LOSS or books.gaps > 0,
                estimated_split=books.usage().estimated_split,
                time_not_billable=books.time_unbilled,
                substituted_reading=end.sample.substituted,
                not_billable=books.not_billable,
            ),
            tariffs=tuple(
                TariffUsed(
                    content_hash=content,
                    tariff_id=tariff.tariff_id,
                    text=self._billing.tariffs.text(content),
                    words=tuple(price_lines(tariff)),
                )
                for tariff, content in tariffs
            ),
        )

    def _moment(self, mark: Mark) -> Moment:
        return ocmf_record.moment_of(mark, ZoneInfo(self._seller.time_zone), self._who)

    def _unassigned_mwh(self, evse: int, begin: Mark) -> int | None:
        """What ran through the meter since the transaction before (E3); a register that fell meanwhile cannot
        tell."""
        serial, _, register = self._last_ends.get(str(evse), "").rpartition(" ")
        if not register or serial != begin.sample.meter_serial:
            return None
        ran_mwh = begin.sample.energy_import_mwh - int(register)
        return ran_mwh if ran_mwh >= 0 else None

    def _end_change(self, fact: TransactionFact, *, goes_on: bool) -> Put | Delete:
        end = fact.samples[-1]
        if goes_on:
            self._last_ends.pop(str(fact.evse), None)
            return Delete(Namespace.METER, str(fact.evse))
        self._last_ends[str(fact.evse)] = kept = f"{end.meter_serial} {end.energy_import_mwh}"
        return Put(Namespace.METER, str(fact.evse), kept)


def _texts(signed: Sequence[bytes | None]) -> list[str]:
    """The records that are made. ``UnicodeDecodeError`` for one that is no text."""
    return [record.decode() for record in signed if record is not None]


def _follows(fact: Fact, ended: TransactionFact) -> bool:
    """Whether this is the start in which the session of the ended one goes on: its meter began anew."""
    return isinstance(fact, TransactionFact) and fact.follows is not None and fact.follows.tx_id == ended.tx_id


def _with_cost(fact: TransactionFact, bill: Bill | None) -> TransactionFact:
    if bill is None:
        return fact
    return replace(fact, total_cost=minor_text(bill.total_incl, bill.currency), currency=bill.currency)


def _tzdata_version() -> str:
    try:
        return version("tzdata")
    except PackageNotFoundError:  # a system with zone data of its own
        return "system"
