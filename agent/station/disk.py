"""Facts on their way to disk, and what waits for them there.

Charter: hands the rows of each effect to the writer and tells the logic when they are durable. Where a meter
signs by itself, its record begins before the logic hears that a start is durable (so no energy flows outside it),
and its end is fetched before the end of the transaction is written, so that both are one commit. What the meter
still holds when a transaction begins is kept first.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol

import structlog

from agent.billing.books import Stamp
from agent.billing.record import tariff_text
from agent.core.effects import Append, SaveFaults
from agent.core.events import Durable
from agent.core.facts import Fact, LogEntry, LogFact, SampleContext, TransactionFact, TxKind
from agent.ipc.port import RowsAppended
from agent.ledger.rows import Row
from agent.ledger.side_records import PutKey, PutMeter
from agent.ledger.state import Delete, Namespace, Put
from agent.ledger.writer import OnDurable
from agent.security.keys import key_id_of
from agent.station.logic import Logic
from agent.station.platform import Writer
from agent.station.rows import Change, RowMaker
from agent.station.signers import MeterRecords
from hal.ports import MeterReading, SignedRecord

log = structlog.get_logger("station")


class Shell(Protocol):
    def give(self, event: Durable) -> None: ...

    def publish(self, news: RowsAppended) -> None: ...

    def now_stamp(self) -> Stamp: ...

    def learned_key(self, evse: int, public_der: bytes) -> None:
        """A signing meter has told the key of its records."""
        ...


class Disk:
    """See the module. ``key_id`` is of the station's own key, ``known_meters`` the serial that each EVSE had last."""

    def __init__(
        self,
        writer: Writer,
        rows: RowMaker,
        signers: MeterRecords,
        logic: Logic,
        key_id: str,
        known_meters: dict[int, str],
        shell: Shell,
    ) -> None:
        self._writer = writer
        self._rows = rows
        self._signers = signers
        self._logic = logic
        self._key_id = key_id
        self._shell = shell
        self._met: set[int] = set()  # signing meters that have answered
        self._tasks: set[asyncio.Task[None]] = set()
        self._known_meters = known_meters

    def carry_out(self, effect: Append) -> None:
        """Write the facts of an effect, and tell the logic once they are durable."""
        signed = [fact for fact in effect.facts if isinstance(fact, TransactionFact) and self._signers.signs(fact.evse)]
        started = next((fact for fact in signed if fact.kind is TxKind.STARTED), None)
        ended = next((fact for fact in signed if fact.kind is TxKind.ENDED), None)
        for fact in signed:
            if any(sample.context is SampleContext.INTERRUPTION_END for sample in fact.samples):
                self._run(self._go_on(fact.evse))
        if ended is not None:
            self._run(self._append_signed(effect, ended, started))
        elif started is not None:
            self._write(effect, lambda rows: self._run(self._begin_signed(effect, started, rows)), meter_begins=True)
        else:
            self._write(effect, functools.partial(self._durable, effect.ticket))

    def _write(
        self,
        effect: Append,
        on_durable: OnDurable,
        record: SignedRecord | None = None,
        keys: Sequence[PutKey] = (),
        *,
        meter_begins: bool = False,
    ) -> None:
        stamp = Stamp(self._shell.now_stamp().boot_id, effect.at_ms, effect.wall_ms, effect.time_status)
        rows, changes = self._rows.rows(effect.facts, stamp, record, meter_begins=meter_begins)
        self._writer.append(rows, [*changes, *keys], on_durable)
        for row in rows:
            log.info("fact", kind=row.kind, tx=row.tx_id, evse=row.evse)

    async def _begin_signed(self, effect: Append, started: TransactionFact, rows: list[Row]) -> None:
        """The meter's own record begins before the logic hears that power may flow."""
        books = self._logic.billing.books(started.tx_id)
        words = "" if books is None else tariff_text(books)
        wall_ms = None if effect.time_status == "U" else effect.wall_ms
        await self._keep_left_over(started.evse)
        await self._signers.begin(started.evse, started.token, started.authorized_by, words, wall_ms)
        self._durable(effect.ticket, rows)

    async def _go_on(self, evse: int) -> None:
        """A record that ended with the supply holds a part of a transaction that goes on: it is kept for itself."""
        if await self._signers.go_on(evse):
            await self._keep_left_over(evse)

    async def _append_signed(self, effect: Append, ended: TransactionFact, started: TransactionFact | None) -> None:
        """The meter's record goes to disk with the end; then the meter may forget it. ``started``: what follows in the
        same session, since the register began anew."""
        record = await self._signers.end(ended.evse)

        async def go_on(rows: list[Row]) -> None:
            if record is not None:
                await self._signers.confirm(ended.evse)
            if started is not None:
                await self._begin_signed(effect, started, rows)

        def durable(rows: list[Row]) -> None:
            if started is None:
                self._durable(effect.ticket, rows)
            self._run(go_on(rows))

        keys = [] if record is None else self._learn(ended.evse, record.public_key)
        self._write(effect, durable, record, keys, meter_begins=started is not None)

    def _run(self, work: Coroutine[object, object, None]) -> None:
        """Do something that waits for a device; an error of ours in it ends the process as any other."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(raise_what_crashed)

    def _durable(self, ticket: int, rows: list[Row]) -> None:
        self._shell.give(Durable(ticket))
        self._shell.publish(RowsAppended(rows[-1].seq))

    async def _meet_signer(self, evse: int) -> None:
        """A signing meter answers for the first time: its key, and what it still holds from before."""
        public_der = await self._signers.public_key(evse)
        if public_der is not None:
            self._writer.append((), self._learn(evse, public_der))
        if self._logic.core.evses[evse].flow.tx is None:
            await self._keep_left_over(evse)

    def _learn(self, evse: int, public_der: bytes) -> list[PutKey]:
        """The key of a signing meter: it is asked for once, and comes with each record, so that a question without an
        answer leaves no record whose key nobody knows."""
        self._shell.learned_key(evse, public_der)
        return [PutKey(key_id_of(public_der), public_der)]

    async def _keep_left_over(self, evse: int) -> None:
        """A record that no transaction claims goes to disk without one; then the meter may forget it."""
        if (record := await self._signers.left_over(evse)) is None:
            return
        row = self._rows.passed_through(None, self._shell.now_stamp(), record, evse)
        kept = asyncio.get_running_loop().create_future()
        self._writer.append([row], self._learn(evse, record.public_key), kept.set_result)
        await kept
        await self._signers.confirm(evse)

    # ---------------------------------------------------------------------- not from the logic

    def append(
        self,
        *facts: Fact,
        stamp: Stamp,
        changes: Sequence[Change | PutKey | PutMeter] = (),
        on_durable: Callable[[], None] | None = None,
    ) -> None:
        """Facts that no effect brings: security, updates, log book, tariffs, what the CSMS told."""
        rows, own_changes = self._rows.rows(facts, stamp)

        def durable(rows: list[Row]) -> None:
            if rows:
                self._shell.publish(RowsAppended(rows[-1].seq))
            if on_durable is not None:
                on_durable()

        self._writer.append(rows, [*own_changes, *changes], durable)

    def keep_faults(self, effect: SaveFaults) -> None:
        """These outlive a restart; ``agent.station.making`` reads them."""
        words = " ".join(effect.faults)
        key = str(effect.evse)
        self._writer.append((), [Put(Namespace.FAULT, key, words) if words else Delete(Namespace.FAULT, key)])

    def note_meter(self, evse: int, reading: MeterReading) -> None:
        """Which meter an EVSE has, over time; a signing one is asked for its key when it first answers."""
        if self._signers.signs(evse) and evse not in self._met:
            self._met.add(evse)
            self._run(self._meet_signer(evse))
        if self._known_meters.get(evse) == reading.serial:
            return
        self._known_meters[evse] = reading.serial
        details = (("serial", reading.serial), ("energy_mwh", str(reading.energy_import_mwh)))
        changes = [PutMeter(evse, reading.serial, self._key_id)]
        self.append(LogFact(LogEntry.METER_SEEN, evse, details), stamp=self._shell.now_stamp(), changes=changes)


def raise_what_crashed(task: asyncio.Task[None]) -> None:
    """Let an error of ours reach the loop's exception handler now, not when the task is collected."""
    if not task.cancelled():
        task.result()
