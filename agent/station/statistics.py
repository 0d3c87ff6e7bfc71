"""What the station counts of itself, and the whole of it for whoever asks.

Charter: listens to the effects that are carried out, adds up, and reads devices, ledger and disk when asked. It
decides nothing, and nothing depends on it. Reading takes no longer however long the ledger is: it runs in the loop
that serves the pilots.

Units: ms (monotonic).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from agent.core.effects import Append, Effect, StatusChanged
from agent.core.facts import TransactionFact, TxKind
from agent.core.status import ConnectorState, ConnectorStatus, FaultCode
from agent.ipc.statistics import EvseStatistics, LedgerStatistics, ProcessStatistics, StationStatistics
from agent.ledger.stats import file_bytes
from agent.station.archive import Archive
from agent.station.hardware import Hardware

log = structlog.get_logger("station")


class EvseCounters:
    """What one EVSE did since ``at_ms``."""

    def __init__(self, evse: int, at_ms: int) -> None:
        self._evse = evse
        self._state: ConnectorState | None = None  # None: not told yet
        self._state_since_ms = at_ms
        self._state_ms = dict.fromkeys(ConnectorState, 0)
        self._active: frozenset[FaultCode] = frozenset()
        self._faults = dict.fromkeys(FaultCode, 0)
        self._running_since_ms: int | None = None
        self._started = self._ended = self._transaction_ms = 0

    def status(self, status: ConnectorStatus, at_ms: int) -> None:
        self._add_up(at_ms)
        self._state = status.state
        for code in set(status.faults) - self._active:
            self._faults[code] += 1
        self._active = frozenset(status.faults)

    def transaction(self, kind: TxKind, at_ms: int) -> None:
        self._add_up(at_ms)
        if kind is TxKind.STARTED:
            self._started += 1
            self._running_since_ms = at_ms
        elif kind is TxKind.ENDED:
            self._ended += 1
            self._running_since_ms = None

    def resume(self, at_ms: int) -> None:
        """A transaction runs that began before this process; what it has lasted until now counts for the run before."""
        self._running_since_ms = at_ms

    def read(self, at_ms: int) -> EvseStatistics:
        self._add_up(at_ms)
        return EvseStatistics(
            self._evse,
            self._started,
            self._ended,
            self._transaction_ms,
            tuple(self._state_ms.items()),
            tuple(self._faults.items()),
        )

    def _add_up(self, at_ms: int) -> None:
        if self._state is not None:
            self._state_ms[self._state] += at_ms - self._state_since_ms
        self._state_since_ms = at_ms
        if self._running_since_ms is not None:
            self._transaction_ms += at_ms - self._running_since_ms
            self._running_since_ms = at_ms


class Statistics:
    """See the module. ``has_csms``: somebody is to be told what the ledger holds."""

    def __init__(
        self,
        evses: Iterable[int],
        devices: Hardware,
        archive: Archive,
        ledger: Path,
        process: Callable[[], ProcessStatistics],
        now_ms: Callable[[], int],
        *,
        has_csms: bool,
    ) -> None:
        self._evses = {evse: EvseCounters(evse, now_ms()) for evse in evses}
        self._devices = devices
        self._archive = archive
        self._ledger = ledger
        self._process = process
        self._now_ms = now_ms
        self._has_csms = has_csms

    def hear(self, effect: Effect) -> None:
        """An effect that is being carried out."""
        if isinstance(effect, StatusChanged) and (counters := self._evses.get(effect.status.evse)) is not None:
            counters.status(effect.status, self._now_ms())
        elif isinstance(effect, Append):
            for fact in effect.facts:
                if isinstance(fact, TransactionFact):
                    self._evses[fact.evse].transaction(fact.kind, effect.at_ms)

    def resume(self, evse: int) -> None:
        """A transaction that began before this process goes on."""
        self._evses[evse].resume(self._now_ms())

    def read(self, delivered_seq: int) -> StationStatistics:
        """``delivered_seq``: the last row that the CSMS has been told of."""
        disk_size, disk_free, ledger_size = self._look_at_disk()
        return StationStatistics(
            process=self._process(),
            evses=tuple(counters.read(self._now_ms()) for counters in self._evses.values()),
            buses=self._devices.bus_statistics(),
            temperatures=self._devices.temperatures(),
            ledger=self._read_ledger(delivered_seq, ledger_size),
            disk_free_bytes=disk_free,
            disk_size_bytes=disk_size,
        )

    def _look_at_disk(self) -> tuple[int | None, int | None, int | None]:
        """Size and free room of the file system, size of the ledger; bytes. A disk that fails must not end us here."""
        try:
            disk = shutil.disk_usage(self._ledger.parent)
            return disk.total, disk.free, sum(file_bytes(self._ledger).values())
        except OSError as error:
            log.error("disk cannot be looked at", why=str(error))
            return None, None, None

    def _read_ledger(self, delivered_seq: int, size_bytes: int | None) -> LedgerStatistics:
        head_seq = self._archive.head_seq()
        waiting = max(0, head_seq - delivered_seq) if self._has_csms else 0
        return LedgerStatistics(
            head_seq=head_seq,
            rows=head_seq - self._archive.oldest_seq() + 1,
            size_bytes=size_bytes,
            waiting=waiting,
            oldest_waiting_wall_ms=self._archive.oldest_untold_wall_ms(delivered_seq) if waiting else None,
        )
